//! Errors: OAuth's members and those of the vendor's data services in one object, so that both kinds of reader work.
//!
//! A client of the vendor's retries with another token only if the status is 401 and the body contains `invalid_token`;
//! so a wrong code is never a 401.

use crate::http::problem::Problem;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

/// A wrong code.
pub(super) const WRONG_CODE: &str = "wrong_code";
/// A code that came too late.
pub(super) const EXPIRED_CODE: &str = "expired_code";
/// A code that was used.
pub(super) const REPLAYED_CODE: &str = "replayed_code";
/// A method, or the account by its password, that is locked.
pub(super) const LOCKED: &str = "locked";
/// A user name and password that do not go together, of somebody or nobody.
pub(super) const BAD_CREDENTIALS: &str = "bad_credentials";
/// A state token that is nobody's, another client's, used or over.
pub(super) const STATE_TOKEN: &str = "state_token";
/// A grant nobody has heard of.
pub(super) const UNKNOWN_GRANT: &str = "unsupported_grant_type";

/// Makes a problem of a code that proves nothing, or of a token that is none.
pub(super) fn invalid_grant(code: &'static str) -> Problem {
    let detail = match code {
        WRONG_CODE => "Invalid MFA code",
        EXPIRED_CODE => "The MFA code has expired; ask for another one",
        REPLAYED_CODE => "The MFA code was used already; wait for the next one",
        LOCKED => "Too many wrong MFA codes; try again later or ask your administrator",
        BAD_CREDENTIALS => "Bad credentials",
        _ => "Invalid state token",
    };
    Problem::new(StatusCode::BAD_REQUEST, code, detail)
}

/// Writes a problem in the vendor's shape.
pub(super) fn render(problem: &Problem) -> Response {
    let (status, error, number) = shape(problem);
    let text = match problem.field() {
        Some(field) if !problem.detail().starts_with(field) => format!("{field}: {}", problem.detail()),
        _ => problem.detail().to_owned(),
    };
    let body = json!({
        "error": error, "error_description": text, "errorCode": number, "errorMessage": text,
    });
    let mut answer = (status, axum::Json(body)).into_response();
    let challenge = match error {
        "invalid_client" => Some(r#"Basic realm="oauth/client""#),
        "unauthorized" => Some(r#"Bearer realm="oauth""#),
        "invalid_token" => Some(r#"Bearer realm="oauth", error="invalid_token""#),
        _ => None,
    };
    if let Some(challenge) = challenge {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    answer
}

/// Returns status, `error` and `errorCode`.
fn shape(problem: &Problem) -> (StatusCode, &'static str, u32) {
    let bad = StatusCode::BAD_REQUEST;
    match (problem.code(), problem.status()) {
        (WRONG_CODE, _) => (bad, "invalid_grant", 4001),
        (EXPIRED_CODE, _) => (bad, "invalid_grant", 4002),
        (REPLAYED_CODE, _) => (bad, "invalid_grant", 4003),
        (LOCKED | "method_locked", _) => (bad, "invalid_grant", 4004),
        (BAD_CREDENTIALS, _) => (bad, "invalid_grant", 4005),
        (STATE_TOKEN | "token_gone", _) => (bad, "invalid_grant", 4006),
        (UNKNOWN_GRANT, _) => (bad, "unsupported_grant_type", 4007),
        ("invalid_scope", _) => (bad, "invalid_scope", 4008),
        ("credentials_missing", status) => (status, "unauthorized", 4010),
        ("invalid_client", status) => (status, "invalid_client", 4012),
        (_, status @ StatusCode::UNAUTHORIZED) => (status, "invalid_token", 4011),
        (_, status @ StatusCode::FORBIDDEN) => (status, "access_denied", 4030),
        // Nobody but the caller has enrolments, so this is about their state.
        ("factor_not_found", _) => (bad, "invalid_request", 4000),
        (_, status @ StatusCode::NOT_FOUND) => (status, "not_found", 4040),
        (_, status @ StatusCode::METHOD_NOT_ALLOWED) => (status, "method_not_allowed", 4050),
        (_, status @ StatusCode::TOO_MANY_REQUESTS) => (status, "too_many_requests", 4290),
        (_, StatusCode::CONFLICT | StatusCode::GONE) => (bad, "invalid_request", 4000),
        (_, status @ StatusCode::SERVICE_UNAVAILABLE) => (status, "temporarily_unavailable", 5030),
        (_, status) if status.is_server_error() => (status, "server_error", 5000),
        (_, status) => (status, "invalid_request", 4000),
    }
}
