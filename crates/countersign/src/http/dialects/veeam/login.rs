//! `oauth2/token`: sign-in in one or two steps, refresh, sign-out.
//!
//! A second step that is due is no error here but an answer without tokens, which clients tell by its `mfa_token`.

use super::{json, refused, roles};
use crate::{
    error::Error,
    http::{
        SharedApp, Web,
        caller::{Known, WithinSignInLimit, anonymous},
        dialects::Dialect,
        extract::Form,
        problem::Problem,
        request::RequestInfo,
    },
    service::{
        login_ticket::{self, LoginTicket},
        sign_in::{self, Credentials, Grant},
    },
};
use axum::{extract::State, response::Response};
use countersign_core::{Attempt, Code, Refusal, Secret, Target, Timestamp, User, UserId};
use http::StatusCode;
use serde::Serialize;
use std::time::Duration;

/// How long a session lasts at most that is asked to be short.
const SHORT_SESSION: Duration = Duration::from_secs(3600);
/// What stands where there is no time to tell.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// What a sign-in is answered with. What there is none of is left out: clients look whether it is there.
#[derive(Serialize)]
struct Login {
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    expires_in: u64,
    #[serde(rename = ".issued")]
    issued: String,
    #[serde(rename = ".expires")]
    expires: String,
    #[serde(rename = "userId")]
    user_id: UserId,
    username: String,
    #[serde(rename = "roleName")]
    role_name: &'static str,
    #[serde(rename = "userType")]
    user_type: &'static str,
    #[serde(rename = "latestNewsShown")]
    latest_news_shown: bool,
    mfa_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa_token: Option<String>,
    #[serde(rename = "shortLived")]
    short_lived: bool,
}

impl Login {
    /// An answer that brings nothing yet.
    fn of(user: &User, is_short: bool) -> Self {
        Self {
            access_token: None,
            token_type: "bearer",
            refresh_token: None,
            expires_in: 0,
            issued: NO_TIME.to_owned(),
            expires: NO_TIME.to_owned(),
            user_id: user.id,
            username: user.username.to_string(),
            role_name: roles::name(user.roles.highest()),
            user_type: "Internal",
            latest_news_shown: true,
            mfa_enabled: false,
            mfa_token: None,
            short_lived: is_short,
        }
    }
}

/// A form whose names are matched whatever their case: the vendor's samples and its clients differ.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn get(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let first = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            None => Ok(first),
            Some(_) => Err(refused(name, "this field stands there twice")),
        }
    }

    fn need(&self, name: &str) -> Result<&str, Problem> {
        let given = self.get(name)?.filter(|value| !value.is_empty());
        given.ok_or_else(|| refused(name, format!("the field {name} is required")))
    }

    fn is_short(&self) -> Result<bool, Problem> {
        match self.get("short_lived_refresh_token")? {
            None => Ok(false),
            Some(text) if text.is_empty() || text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(_) => Err(refused("short_lived_refresh_token", "expected true or false")),
        }
    }

    /// Returns what is asked for. A sample of the vendor's refreshes without saying so.
    fn grant(&self) -> Result<Asked, Problem> {
        match self.get("grant_type")?.filter(|text| !text.is_empty()) {
            None if self.get("refresh_token")?.is_some() => Ok(Asked::Refresh),
            None => Ok(Asked::Password),
            Some(text) if text.eq_ignore_ascii_case("password") => Ok(Asked::Password),
            Some(text) if text.eq_ignore_ascii_case("mfa") => Ok(Asked::SecondStep),
            Some(text) if text.eq_ignore_ascii_case("refresh_token") => Ok(Asked::Refresh),
            Some(_) => Err(refused("grant_type", "expected Password, Mfa or Refresh_token")),
        }
    }
}

enum Asked {
    Password,
    SecondStep,
    Refresh,
}

/// Signs people in, step by step.
pub(super) async fn token(
    _: WithinSignInLimit,
    State(web): State<Web>,
    info: RequestInfo,
    Form(form): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let fields = Fields(form);
    // All is read before anything is done: a code would be used up, or a session go on, with a refusal for an answer.
    let is_short = fields.is_short()?;
    let grant = match fields.grant()? {
        Asked::Password => by_password(&web, &info, &fields, is_short).await?,
        Asked::SecondStep => second_step(&web, &info, &fields).await?,
        Asked::Refresh => {
            let token = fields.need("refresh_token")?;
            sign_in::refresh(&web.app, anonymous(&info), token, None).await.map_err(refusal)?
        }
    };
    granted(&web.app, info.now, grant, is_short)
}

async fn by_password(
    web: &Web,
    info: &RequestInfo,
    fields: &Fields,
    is_short: bool,
) -> Result<Grant, Problem> {
    let organisation = web.mounts.organisation(&web.app, Dialect::Veeam).await?;
    let credentials = Credentials {
        organisation: organisation.map(|organisation| organisation.id.to_string()).into(),
        username: fields.need("username")?.to_owned(),
        password: Secret::new(fields.need("password")?.to_owned()),
        client: None,
        session_life: is_short.then_some(SHORT_SESSION),
    };
    sign_in::by_password(&web.app, anonymous(info), credentials).await.map_err(refusal)
}

async fn second_step(web: &Web, info: &RequestInfo, fields: &Fields) -> Result<Grant, Problem> {
    let (token, code) = (fields.need("mfa_token")?, fields.need("mfa_code")?);
    let attempt = Attempt::new(Code::parse("mfa_code", code)?, Target::Any);
    let organisation = web.mounts.organisation(&web.app, Dialect::Veeam).await?;
    let Some(organisation) = organisation else { return Ok(Grant::Refused) };
    let open = login_ticket::read(&web.app, LoginTicket::Hex88, organisation.id, token, info.now).await?;
    let Some(step) = open else { return Ok(Grant::Refused) };
    sign_in::second_step(&web.app, anonymous(info), step, attempt, None).await.map_err(refusal)
}

fn granted(app: &SharedApp, now: Timestamp, grant: Grant, is_short: bool) -> Result<Response, Problem> {
    let login = match grant {
        Grant::Tokens { pair, user } => Login {
            expires_in: pair.access.life.as_secs(),
            issued: in_ticks(now),
            expires: in_ticks(now.after(pair.access.life)),
            access_token: Some(pair.access.token),
            refresh_token: Some(pair.refresh.expose().clone()),
            ..Login::of(&user, is_short)
        },
        Grant::SecondStep { enrolment_required: true, .. } => {
            return Err(Problem::unauthorised(
                "enrolment_required",
                "a second factor is required and none is enrolled; have an administrator call enableMfa",
            ));
        }
        Grant::SecondStep { step, user, .. } => Login {
            mfa_enabled: true,
            mfa_token: Some(login_ticket::write(app, LoginTicket::Hex88, &user, &step)?.expose().clone()),
            ..Login::of(&user, is_short)
        },
        Grant::Refused => return Err(not_right()),
    };
    Ok(json(StatusCode::OK, &login))
}

/// Signs out: the session ends, and both of its tokens with it.
pub(super) async fn sign_out(known: Known, State(app): State<SharedApp>) -> Result<StatusCode, Problem> {
    let asker = known.themselves()?;
    if let Some((user, session)) = known.person() {
        sign_in::sign_out(&app, &asker, user.id, session).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Whether there is such a person, login or session is not for the caller to learn here.
fn refusal(error: Error) -> Problem {
    match error {
        Error::Refused(
            Refusal::TokenGone | Refusal::NoSuchFactor | Refusal::SecondFactorNeeded | Refusal::WrongState(_),
        )
        | Error::NotFound(_) => not_right(),
        other => other.into(),
    }
}

/// What a refused sign-in looks like, whatever the reason.
fn not_right() -> Problem {
    Problem::unauthorised("invalid_grant", "the credentials are not right, used up, expired or locked")
}

/// Writes a time with the seven decimal places of the vendor's.
fn in_ticks(at: Timestamp) -> String {
    let text = at.to_string();
    text.strip_suffix('Z').map_or(text.clone(), |text| format!("{text}0000Z"))
}
