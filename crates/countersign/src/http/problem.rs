//! Errors as `application/problem+json` (RFC 9457): the one place that picks a status and a stable `code`.
//!
//! A caller sees what they can act on; the log sees the cause; the request id joins the two.

use super::limit::Retry;
use crate::error::Error;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use countersign_core::{Refusal, refusal::Invalid};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::{borrow::Cow, time::Duration};
use utoipa::ToSchema;

/// What went wrong. Boxed, because every handler returns one or its answer.
#[derive(Debug, Clone)]
pub struct Problem(Box<Content>);

/// What went wrong, as the caller sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// A name for the kind of problem: `urn:countersign:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The HTTP status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What to do about it, for people.
    detail: Cow<'static, str>,
    /// What it is, for programs. Stable.
    code: &'static str,
    /// The member or parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Tries that remain.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_left: Option<u32>,
    /// Seconds after which to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// The request, as the log and the audit trail name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// What `WWW-Authenticate` says.
    #[serde(skip)]
    challenge: Option<&'static str>,
    /// What the log says and the caller does not see.
    #[serde(skip)]
    cause: Option<String>,
}

impl Problem {
    /// Makes a problem.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Content {
            kind: format!("urn:countersign:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            field: None,
            attempts_left: None,
            retry_after: None,
            request_id: None,
            challenge: None,
            cause: None,
        }))
    }

    /// A malformed input, with its member's name where there is one.
    pub fn invalid(code: &'static str, field: Option<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, code, detail);
        problem.0.field = field;
        problem
    }

    /// Nobody we know: asks for credentials (RFC 6750 §3).
    pub fn unauthorised(code: &'static str, detail: &'static str) -> Self {
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, code, detail);
        problem.0.challenge = Some(match code {
            "credentials_missing" => r#"Bearer realm="countersign", Basic realm="countersign""#,
            "invalid_client" => r#"Basic realm="countersign""#,
            _ => r#"Bearer realm="countersign", error="invalid_token""#,
        });
        problem
    }

    /// Somebody we know who may not do this.
    pub fn forbidden(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// Too many requests.
    pub fn too_many(retry: &Retry) -> Self {
        let detail = "too many requests; try again after the time in Retry-After";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(retry.seconds())
    }

    /// Says how many tries remain.
    pub fn attempts_left(mut self, left: u32) -> Self {
        self.0.attempts_left = Some(left);
        self
    }

    fn concerning(mut self, field: &str) -> Self {
        self.0.field = Some(field.to_owned());
        self
    }

    /// Says after how many seconds to try again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    fn caused_by(mut self, cause: String) -> Self {
        self.0.cause = Some(cause);
        self
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Returns what it is, for programs.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// Returns what to do about it, for people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Returns the member or parameter that is wrong.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// Returns after how many seconds to try again.
    pub fn seconds_to_wait(&self) -> Option<u64> {
        self.0.retry_after
    }

    /// Logs what the caller does not see.
    pub fn log(&self, request_id: &str) {
        if let Some(cause) = &self.0.cause {
            tracing::error!(request.id = request_id, code = self.0.code, "{cause}");
        }
    }

    /// Names the request and writes the body. Called by the outermost layer, which knows the id.
    pub fn into_answer(self, request_id: &str) -> Response {
        let mut content = self.0;
        content.request_id = Some(request_id.to_owned());
        let body =
            serde_json::to_vec(&content).expect("a problem has string keys only, so it is always JSON");
        let mut answer = Response::new(Body::from(body));
        *answer.status_mut() = content.status();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = content.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = content.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

impl Content {
    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    /// Hands the problem to the outermost layer, which writes it with the request's id.
    fn into_response(self) -> Response {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = self.0.status();
        answer.extensions_mut().insert(self);
        answer
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::invalid("invalid_value", Some(invalid.field), invalid.message)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        use StatusCode as S;
        let detail = refusal.to_string();
        match refusal {
            Refusal::Invalid(invalid) => invalid.into(),
            Refusal::AboveYourRank(_) => Self::forbidden("above_your_rank", detail),
            Refusal::RoleAboveYours(_) => Self::forbidden("role_above_yours", detail),
            Refusal::NotBySelf => Self::forbidden("not_by_self", detail),
            Refusal::SecondFactorNeeded => Self::forbidden("second_factor_needed", detail),
            Refusal::NoSuchFactor => Self::new(S::NOT_FOUND, "factor_not_found", detail),
            Refusal::NoSuchClient => Self::new(S::NOT_FOUND, "client_not_found", detail),
            Refusal::NoSuchKey => Self::new(S::NOT_FOUND, "key_not_found", detail),
            Refusal::WrongState(_) => Self::new(S::CONFLICT, "wrong_state", detail),
            Refusal::KindForbidden(_) => Self::new(S::CONFLICT, "kind_forbidden", detail),
            Refusal::NotRetriable(_) => Self::new(S::CONFLICT, "wrong_state", detail),
            Refusal::TooMany(..) => Self::new(S::CONFLICT, "too_many", detail),
            Refusal::RequestIdReused => Self::new(S::CONFLICT, "request_id_reused", detail),
            Refusal::TooSoon(wait) => {
                Self::new(S::TOO_MANY_REQUESTS, "sent_too_often", detail).retry_after(whole_seconds(wait))
            }
            Refusal::NothingIsSent(_) => Self::invalid("invalid_value", Some("type".into()), detail),
            Refusal::DestinationForbidden(_) => {
                Self::new(S::CONFLICT, "destination_forbidden", detail).concerning("destination")
            }
            Refusal::NoSuchChallenge => Self::new(S::NOT_FOUND, "challenge_not_found", detail),
            Refusal::NoQrCode => Self::new(S::CONFLICT, "wrong_state", detail),
            Refusal::ChallengeUsed => Self::new(S::CONFLICT, "challenge_used", detail),
            Refusal::Locked(..) => Self::new(S::CONFLICT, "method_locked", detail),
            Refusal::NoProvider(_) => Self::new(S::CONFLICT, "channel_not_configured", detail),
            Refusal::AlreadyEnrolled => Self::new(S::CONFLICT, "already_enrolled", detail),
            Refusal::UserDisabled => Self::new(S::CONFLICT, "user_disabled", detail),
            Refusal::StillActive => Self::new(S::CONFLICT, "user_active", detail),
            Refusal::LastOwner => Self::new(S::CONFLICT, "last_owner", detail),
            Refusal::Taken(member) => Error::Conflict(member).into(),
            Refusal::TokenGone => Self::new(S::GONE, "token_gone", detail),
            Refusal::Stale => Self::new(S::CONFLICT, "stale", format!("{detail}; try again")),
            Refusal::MfaEnforced => Self::new(S::CONFLICT, "mfa_enforced", detail),
            Refusal::Key(_) => Error::Internal(detail).into(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        use StatusCode as S;
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::NotFound(what) => Self::new(S::NOT_FOUND, not_found_code(what), format!("no such {what}")),
            Error::Conflict(member) => {
                Self::new(S::CONFLICT, "taken", format!("this {member} is taken")).concerning(member)
            }
            Error::Busy => {
                Self::new(S::SERVICE_UNAVAILABLE, "busy", "the server is busy; try again").retry_after(1)
            }
            Error::Unreachable(cause) => {
                let detail =
                    "the database does not answer; try again, with the same requestId if there was one";
                Self::new(S::SERVICE_UNAVAILABLE, "store_unreachable", detail).retry_after(2).caused_by(cause)
            }
            Error::Store(cause) => {
                let detail = "nothing was changed; the log says why";
                Self::new(S::SERVICE_UNAVAILABLE, "store_unavailable", detail).retry_after(5).caused_by(cause)
            }
            Error::Internal(cause) => {
                let detail = "nothing was changed; the log says why";
                Self::new(S::INTERNAL_SERVER_ERROR, "internal", detail).caused_by(cause)
            }
        }
    }
}

/// Rounds up: who waits as long as `Retry-After` says must not be too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

fn not_found_code(what: &str) -> &'static str {
    match what {
        "user" => "user_not_found",
        "factor" => "factor_not_found",
        "challenge" => "challenge_not_found",
        "client" => "client_not_found",
        "organisation" => "organisation_not_found",
        "delivery" => "delivery_not_found",
        _ => "not_found",
    }
}
