//! `/api/oauth/token`: signing in. With a second factor the first answer is a token that is good for the second step only.

use crate::{
    error::Error,
    http::{
        SharedApp,
        api::verify::{Named, attempt},
        caller::{AuthenticatedClient, WithinSignInLimit, anonymous, basic},
        extract::{Form, Json},
        problem::Problem,
        request::RequestInfo,
    },
    service::sign_in::{self, Credentials, Grant, Where},
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use countersign_core::{Refusal, Secret};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A request for a token: the members depend on `grant_type`. The vendor's pages do not show what the second step's are
/// called, so each of the likely names is taken.
#[derive(Deserialize)]
pub(super) struct TokenForm {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    username: Option<String>,
    password: Option<String>,
    refresh_token: Option<String>,
    #[serde(alias = "mfa_code", alias = "mfaCode", alias = "otp")]
    code: Option<String>,
    #[serde(alias = "mfa_token", alias = "token")]
    access_token: Option<String>,
}

/// A token.
#[derive(Serialize)]
struct TokenReply {
    access_token: String,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    expires_in: u64,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa_required: Option<bool>,
    jti: Uuid,
}

/// Issues tokens.
pub(super) async fn issue(
    _: WithinSignInLimit,
    State(app): State<SharedApp>,
    info: RequestInfo,
    headers: HeaderMap,
    Form(form): Form<TokenForm>,
) -> Result<Response, Problem> {
    let client = authenticate(&app, &info, &headers, &form).await?;
    match form.grant_type.as_deref() {
        Some("password") => by_password(&app, &info, &client, form).await,
        Some("mfa" | "mfa_code" | "two_factor") => second_step(&app, &info, &headers, &form).await,
        Some("refresh_token") => refresh(&app, &info, &client, &form).await,
        Some(_) => {
            Err(Problem::invalid("unsupported_grant_type", None, "expected password, mfa or refresh_token"))
        }
        None => Err(missing("grant_type")),
    }
}

async fn by_password(
    app: &SharedApp,
    info: &RequestInfo,
    client: &AuthenticatedClient,
    form: TokenForm,
) -> Result<Response, Problem> {
    let credentials = Credentials {
        organisation: Where::Anywhere { prefer: Some(client.organisation.id) },
        username: form.username.ok_or_else(|| missing("username"))?,
        password: Secret::new(form.password.ok_or_else(|| missing("password"))?),
        client: Some(client.id),
        session_life: None,
    };
    granted(app, info, sign_in::by_password(app, anonymous(info), credentials).await?)
}

async fn second_step(
    app: &SharedApp,
    info: &RequestInfo,
    headers: &HeaderMap,
    form: &TokenForm,
) -> Result<Response, Problem> {
    let in_header = headers.get(header::AUTHORIZATION).and_then(bearer);
    let token = form.access_token.as_deref().or(in_header).ok_or_else(|| missing("access_token"))?;
    let code = form.code.as_deref().ok_or_else(|| missing("code"))?;
    let attempt = attempt(code, Named::default(), None)?;
    let step = app.tokens.second_step(token, info.now).ok_or_else(refused)?;
    let grant = sign_in::second_step(app, anonymous(info), step, attempt, None).await;
    granted(app, info, grant.map_err(within_login)?)
}

async fn refresh(
    app: &SharedApp,
    info: &RequestInfo,
    client: &AuthenticatedClient,
    form: &TokenForm,
) -> Result<Response, Problem> {
    let token = form.refresh_token.as_deref().ok_or_else(|| missing("refresh_token"))?;
    granted(app, info, sign_in::refresh(app, anonymous(info), token, Some(client.id)).await?)
}

/// Writes what a sign-in led to.
pub(super) fn granted(app: &SharedApp, info: &RequestInfo, grant: Grant) -> Result<Response, Problem> {
    let reply = match grant {
        Grant::Tokens { pair, .. } => TokenReply {
            access_token: pair.access.token,
            token_type: "bearer",
            refresh_token: Some(pair.refresh.expose().clone()),
            expires_in: pair.access.life.as_secs(),
            scope: "full",
            mfa_required: None,
            jti: pair.access.id,
        },
        Grant::SecondStep { step, life, .. } => {
            let restricted = app.tokens.issue_second_step(&step, info.now, life)?;
            TokenReply {
                access_token: restricted.token,
                token_type: "bearer",
                refresh_token: None,
                expires_in: life.as_secs(),
                scope: "mfa",
                mfa_required: Some(true),
                jti: restricted.id,
            }
        }
        Grant::Refused => return Err(refused()),
    };
    Ok(Json::ok(reply).into_response())
}

/// Recognises the client, without which nobody signs in.
async fn authenticate(
    app: &SharedApp,
    info: &RequestInfo,
    headers: &HeaderMap,
    form: &TokenForm,
) -> Result<AuthenticatedClient, Problem> {
    // The vendor's pages call the header `Authentication`; there are clients that do.
    let named = [header::AUTHORIZATION.as_str(), "authentication"];
    let in_header = named.iter().filter_map(|name| headers.get(*name)).find_map(basic_pair);
    let in_form = || Some((form.client_id.clone()?, form.client_secret.clone()?));
    let (id, secret) = in_header.or_else(in_form).ok_or_else(invalid_client)?;
    AuthenticatedClient::check(app, &id, &secret, info.now).await?.ok_or_else(invalid_client)
}

fn basic_pair(value: &HeaderValue) -> Option<(String, String)> {
    basic(of_scheme(value, "basic")?)
}

/// Reads a bearer token from a header.
pub(super) fn bearer(value: &HeaderValue) -> Option<&str> {
    of_scheme(value, "bearer")
}

fn of_scheme<'a>(value: &'a HeaderValue, wanted: &str) -> Option<&'a str> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| rest.trim())
}

/// Says what goes wrong within a sign-in: one that is over looks like one that never was.
pub(super) fn within_login(error: Error) -> Problem {
    match error {
        Error::Refused(
            Refusal::TokenGone | Refusal::NoSuchFactor | Refusal::SecondFactorNeeded | Refusal::WrongState(_),
        )
        | Error::NotFound(_) => refused(),
        other => other.into(),
    }
}

/// What a refused sign-in looks like, whatever the reason: unknown people, wrong passwords and codes, and locks.
fn refused() -> Problem {
    Problem::invalid("invalid_grant", None, "Bad credentials")
}

fn invalid_client() -> Problem {
    Problem::unauthorised("invalid_client", "Bad client credentials")
}

fn missing(name: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_request", format!("{name} is required"))
}
