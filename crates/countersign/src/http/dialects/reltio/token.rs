//! The token endpoint: a password, the second step of a sign-in, a session that goes on, a client's own token.

use super::{
    clients,
    errors::{BAD_CREDENTIALS, STATE_TOKEN, UNKNOWN_GRANT, WRONG_CODE, invalid_grant},
    members::{Members, MfaType},
};
use crate::{
    error::Error,
    http::{
        Web,
        caller::{AuthenticatedClient, WithinSignInLimit, anonymous},
        extract::Json,
        problem::Problem,
        request::RequestInfo,
    },
    service::{
        asked,
        clients::issue_token,
        login_ticket::{self, LoginTicket},
        sign_in::{self, Credentials, Grant, TokenPair, Where},
        tokens::SecondStepToken,
    },
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use countersign_core::{Asked, Attempt, Policy, Refusal, Scope, Secret, Target, User, policy::Requirement};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use std::time::Duration;

/// What a person may do with a token, in the vendor's words.
const PERSONS_SCOPE: &str = "users_api";

/// Tokens.
#[derive(Serialize)]
struct TokenReply {
    access_token: String,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    expires_in: u64,
    scope: String,
}

/// What asks for a second step. A success, as the vendor has it.
#[derive(Serialize)]
struct SecondStepReply {
    expires_in: u64,
    state_token: StateToken,
}

#[derive(Serialize)]
#[expect(non_snake_case, reason = "the vendor's name")]
struct StateToken {
    mfaType: &'static str,
    /// A number here and a text there: so the vendor's clients expect it.
    expires_in: String,
    /// The customer's mode.
    status: &'static str,
    token: String,
    /// Whether the person has enrolled; the vendor does not say.
    enrolled: bool,
}

/// Answers a request to the token endpoint.
pub(super) async fn token(
    _: WithinSignInLimit,
    State(web): State<Web>,
    info: RequestInfo,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    let client = clients::authenticate(&web, &info, &headers, &members).await?;
    match members.need(&["grant_type"])? {
        "password" => by_password(&web, &info, &client, &members).await,
        "state_token" => second_step(&web, &info, &client, &members).await,
        "refresh_token" => refresh(&web, &info, &client, &members).await,
        "client_credentials" => client_credentials(&web, &info, &client, &members),
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            UNKNOWN_GRANT,
            "expected password, state_token, refresh_token or client_credentials",
        )),
    }
}

async fn by_password(
    web: &Web,
    info: &RequestInfo,
    client: &AuthenticatedClient,
    members: &Members,
) -> Result<Response, Problem> {
    let credentials = Credentials {
        organisation: Where::Named(client.organisation.id.to_string()),
        username: members.need(&["username"])?.to_owned(),
        password: Secret::new(members.need(&["password"])?.to_owned()),
        client: Some(client.id),
        session_life: None,
    };
    match sign_in::by_password(&web.app, anonymous(info), credentials).await? {
        Grant::Tokens { pair, .. } => Ok(tokens(pair)),
        Grant::SecondStep { step, life, .. } => {
            ask(web, info, &client.organisation.policy, &step, life).await
        }
        Grant::Refused => Err(invalid_grant(BAD_CREDENTIALS)),
    }
}

/// Asks for the second step; the code by mail is on its way with the answer.
async fn ask(
    web: &Web,
    info: &RequestInfo,
    policy: &Policy,
    step: &SecondStepToken,
    life: Duration,
) -> Result<Response, Problem> {
    let (asked, user): (Asked, User) = asked::ask(&web.app, anonymous(info), step).await?;
    let token = login_ticket::write(&web.app, LoginTicket::Uuid, &user, step)?;
    let mfa_type = if asked.is_mail() { MfaType::Email } else { MfaType::Authenticator };
    let state_token = StateToken {
        mfaType: mfa_type.name(),
        expires_in: life.as_secs().to_string(),
        status: mode(policy.requirement),
        token: token.expose().clone(),
        enrolled: matches!(asked, Asked::Otp | Asked::Mail(_)),
    };
    Ok(Json::ok(SecondStepReply { expires_in: life.as_secs(), state_token }).into_response())
}

/// Returns the vendor's word for what an organisation asks of its people.
pub(super) const fn mode(requirement: Requirement) -> &'static str {
    match requirement {
        Requirement::Off => "DISABLED",
        Requirement::Optional => "ENROLL",
        Requirement::Enforced => "ENFORCE",
    }
}

async fn second_step(
    web: &Web,
    info: &RequestInfo,
    client: &AuthenticatedClient,
    members: &Members,
) -> Result<Response, Problem> {
    let step = state_token(web, info, client, members).await?;
    let grant = match members.code()? {
        Some(code) => {
            let attempt = Attempt::new(code, Target::Any);
            asked::answer(&web.app, anonymous(info), step, attempt).await
        }
        None => asked::finish_proved(&web.app, anonymous(info), step).await,
    };
    match grant {
        Ok(Grant::Tokens { pair, .. }) => Ok(tokens(pair)),
        Ok(_) => Err(invalid_grant(WRONG_CODE)),
        Err(Error::Refused(Refusal::SecondFactorNeeded)) => {
            Err(members.needed_code().err().unwrap_or_else(gone))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the open sign-in that a state token of this client stands for.
pub(super) async fn state_token(
    web: &Web,
    info: &RequestInfo,
    client: &AuthenticatedClient,
    members: &Members,
) -> Result<SecondStepToken, Problem> {
    let text = members.need(&["state_token", "stateToken"])?;
    let organisation = client.organisation.id;
    let step = login_ticket::read(&web.app, LoginTicket::Uuid, organisation, text, info.now).await?;
    let step = step.ok_or_else(gone)?;
    match asked::check_client(&web.app, &anonymous(info), &step, client.id).await {
        Ok(()) => Ok(step),
        Err(Error::Refused(Refusal::TokenGone)) => Err(gone()),
        Err(error) => Err(error.into()),
    }
}

fn gone() -> Problem {
    invalid_grant(STATE_TOKEN)
}

async fn refresh(
    web: &Web,
    info: &RequestInfo,
    client: &AuthenticatedClient,
    members: &Members,
) -> Result<Response, Problem> {
    let token = members.need(&["refresh_token"])?;
    match sign_in::renew(&web.app, anonymous(info), token, client.id).await? {
        Grant::Tokens { pair, .. } => Ok(tokens(pair)),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, STATE_TOKEN, "Invalid refresh token")),
    }
}

fn client_credentials(
    web: &Web,
    info: &RequestInfo,
    client: &AuthenticatedClient,
    members: &Members,
) -> Result<Response, Problem> {
    let invalid_client = || Problem::unauthorised("invalid_client", "Bad client credentials");
    let found = client.client().ok_or_else(invalid_client)?;
    let issued = issue_token(&web.app, &client.organisation, found, members.find(&["scope"]), info.now);
    let (issued, scopes) = issued.map_err(|error| match error {
        Error::Refused(Refusal::Invalid(invalid)) => {
            Problem::invalid("invalid_scope", Some(invalid.field), invalid.message)
        }
        other => other.into(),
    })?;
    let reply = TokenReply {
        access_token: issued.token,
        token_type: "bearer",
        refresh_token: None,
        expires_in: issued.life.as_secs(),
        scope: Scope::list(&scopes),
    };
    Ok(Json::ok(reply).into_response())
}

fn tokens(pair: TokenPair) -> Response {
    let reply = TokenReply {
        access_token: pair.access.token,
        token_type: "bearer",
        refresh_token: Some(pair.refresh.expose().clone()),
        expires_in: pair.access.life.as_secs(),
        scope: PERSONS_SCOPE.to_owned(),
    };
    Json::ok(reply).into_response()
}
