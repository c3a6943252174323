//! `/api/v1/users/me`: one's own account, and one's own second factor, which SafeShare has in its pages only: the calls
//! below `me/mfa` are ours.

use super::{people::Account, roles, token, users::json};
use crate::{
    error::Error,
    http::{
        SharedApp, Web,
        api::verify::{Named, attempt},
        caller::{Myself, WithinSignInLimit, anonymous},
        extract::{Json, Raw},
        problem::Problem,
        request::RequestInfo,
    },
    service::{
        factors::{self, Activated, Enrolled, Enrolment, Shown},
        sign_in,
        tokens::SecondStepToken,
        users::{self, Along},
    },
};
use axum::{
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
};
use countersign_core::{
    Code, FactorId, Kind, Refusal, Timestamp, User,
    attributes::Attributes,
    policy::Requirement,
    profile::{DisplayName, Phone},
    refusal::Invalid,
    user::UserPatch,
};
use http::{StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The member of a person's attributes that keeps what SafeShare calls their other name.
const OTHER_NAME: &str = "otherName";

/// One's own account.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnAccount {
    #[serde(flatten)]
    account: Account,
    external_user_id: Option<String>,
    other_name: Option<Value>,
    mobile_number: Option<String>,
    roles: Vec<&'static str>,
}

/// Returns one's own account.
pub(super) async fn get(me: Myself, State(app): State<SharedApp>) -> Result<Json<OwnAccount>, Problem> {
    let user = users::get(&app, &me.asker, &me.handle()).await?;
    Ok(Json::ok(OwnAccount {
        account: Account::new(&user, &me.asker.organisation),
        external_user_id: None,
        other_name: user.attributes.get(OTHER_NAME).cloned(),
        mobile_number: user.phone.as_ref().map(|phone| phone.as_str().to_owned()),
        roles: roles::names(&user),
    }))
}

/// One's own profile as it is to be: what is left out is cleared.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileBody {
    first_name: Option<String>,
    last_name: Option<String>,
    other_name: Option<String>,
    mobile_number: Option<String>,
}

impl ProfileBody {
    fn patch(&self, user: &User) -> Result<UserPatch, Invalid> {
        let name = |field: &str, name: &Option<String>| {
            name.as_deref().map(|name| DisplayName::parse(field, name)).transpose()
        };
        let mut attributes = user.attributes.members().clone();
        attributes.remove(OTHER_NAME);
        if let Some(other) = name(OTHER_NAME, &self.other_name)? {
            attributes.insert(OTHER_NAME.to_owned(), other.as_str().into());
        }
        let phone = self.mobile_number.as_deref().map(|number| Phone::parse("mobileNumber", number));
        Ok(UserPatch {
            given_name: Some(name("firstName", &self.first_name)?),
            family_name: Some(name("lastName", &self.last_name)?),
            phone: Some(phone.transpose()?),
            attributes: Some(Attributes::parse(OTHER_NAME, attributes)?),
            ..UserPatch::default()
        })
    }
}

/// Replaces one's own profile.
pub(super) async fn update(
    me: Myself,
    State(app): State<SharedApp>,
    body: Raw,
) -> Result<StatusCode, Problem> {
    let body: ProfileBody = json(&body)?;
    let edit = move |user: &User, _: Timestamp| Ok(body.patch(user)?);
    users::overwrite(&app, &me.asker, &me.handle(), edit, Along::default()).await?;
    Ok(StatusCode::OK)
}

/// Returns the state of one's own second factor.
pub(super) async fn mfa(me: Myself, State(app): State<SharedApp>) -> Result<Json<Value>, Problem> {
    let user = users::get(&app, &me.asker, &me.handle()).await?;
    let policy = &me.asker.organisation.policy;
    let state = match () {
        () if user.has_active_factor() => "active",
        () if user.open_enrolment_link(me.asker.call.now) => "pending",
        () => "none",
    };
    Ok(Json::ok(json!({
        "mfaEnabled": user.asks_for_second_step(policy),
        "enforced": policy.requirement == Requirement::Enforced,
        "state": state,
    })))
}

/// Somebody who sets up their own app: signed in, or in the middle of a sign-in that asks for it.
pub(super) enum Enrolling {
    Signed(Box<Myself>),
    SigningIn(SecondStepToken),
}

impl FromRequestParts<Web> for Enrolling {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let now = RequestInfo::of(parts).now;
        let restricted = parts.headers.get(header::AUTHORIZATION).and_then(token::bearer);
        match restricted.and_then(|token| web.app.tokens.second_step(token, now)) {
            Some(step) => {
                WithinSignInLimit::from_request_parts(parts, web).await?;
                Ok(Self::SigningIn(step))
            }
            None => Ok(Self::Signed(Box::new(Myself::from_request_parts(parts, web).await?))),
        }
    }
}

/// Begins to set up an authenticator app; the answer shows its key once.
pub(super) async fn enrol(
    who: Enrolling,
    State(app): State<SharedApp>,
    info: RequestInfo,
) -> Result<Json<Value>, Problem> {
    let totp = Enrolment { kind: Kind::Totp, destination: None, label: None };
    let enrolled = match who {
        Enrolling::Signed(me) => factors::enrol(&app, &me.asker, &me.handle(), totp).await?,
        Enrolling::SigningIn(step) => {
            sign_in::enrol(&app, anonymous(&info), step, totp).await.map_err(within_enrolment)?
        }
    };
    Ok(Json::created(shown(&enrolled)))
}

/// Whose password was right may know why it is not enough.
fn within_enrolment(error: Error) -> Problem {
    match error {
        Error::Refused(Refusal::SecondFactorNeeded) => {
            let detail = "a link to set up 2FA was mailed, or 2FA is set up: use that";
            Problem::forbidden("second_factor_needed", detail)
        }
        other => token::within_login(other),
    }
}

fn shown(enrolled: &Enrolled) -> Value {
    let (key, uri) = match &enrolled.shown {
        Shown::Key { secret, uri } => (Some(secret.expose()), Some(uri.expose())),
        Shown::Challenge(_) => (None, None),
    };
    json!({
        "factor": enrolled.factor.id(),
        "authenticatorKey": key,
        "otpauthUri": uri,
        "expiresAt": enrolled.factor.expires_at().map(|time| time.to_string()),
    })
}

/// The first code of an app.
#[derive(Deserialize)]
struct ConfirmBody {
    factor: String,
    code: String,
}

/// Finishes setting up an authenticator app by its first code; within a sign-in that finishes it, too.
pub(super) async fn confirm(
    who: Enrolling,
    State(app): State<SharedApp>,
    info: RequestInfo,
    body: Raw,
) -> Result<Response, Problem> {
    let body: ConfirmBody = json(&body)?;
    let factor: FactorId =
        body.factor.parse().map_err(|_| Invalid::new("factor", "expected the id of a factor"))?;
    match who {
        Enrolling::Signed(me) => {
            let code = Code::parse("code", &body.code)?;
            activated(factors::activate(&app, &me.asker, &me.handle(), factor, code).await?)
        }
        Enrolling::SigningIn(step) => {
            let attempt = attempt(&body.code, Named::default(), None)?;
            let grant = sign_in::second_step(&app, anonymous(&info), step, attempt, Some(factor)).await;
            token::granted(&app, &info, grant.map_err(token::within_login)?)
        }
    }
}

fn activated(outcome: Activated) -> Result<Response, Problem> {
    match outcome {
        Activated::Factor(_) => Ok(Json::ok(json!({ "mfaEnabled": true })).into_response()),
        Activated::Rejected { .. } => Err(Problem::invalid("wrong_code", None, "this code is not right")),
        Activated::Expired => Err(Error::NotFound("factor").into()),
    }
}

/// Switches one's own second factor off, where nobody insists on it.
pub(super) async fn switch_off(me: Myself, State(app): State<SharedApp>) -> Result<StatusCode, Problem> {
    users::switch_off_mfa(&app, &me.asker, &me.handle()).await?;
    Ok(StatusCode::OK)
}
