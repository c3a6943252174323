//! SafeShare (Cocoon Data, Covata): the access service's calls about accounts and their second factor.
//!
//! Written down in the vendor's pages for `/api/v1/users/{userId}` and its neighbours. Members and paths say `mfa` and
//! `organisations` in all of its versions, whatever their texts say.

mod listing;
mod me;
mod organisations;
mod people;
mod roles;
mod token;
mod users;

use super::{Calls, Mounted, Needs};
use crate::http::problem::Problem;
use axum::response::{IntoResponse, Response};
use countersign_core::Permission;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

/// Where tokens are issued, below the dialect's own path.
const TOKEN: &str = "/api/oauth/token";

/// Returns every call and what it is natively.
pub fn calls() -> Calls {
    let calls = Calls::default().on(
        Method::POST,
        TOKEN,
        Needs::Nothing,
        "`POST /oauth/token`",
        "login.first_factor login.succeeded login.rejected password.locked verify.accepted verify.rejected session.refreshed",
        token::issue,
    );
    about_oneself(of_organisations(of_users(calls)))
}

fn of_users(calls: Calls) -> Calls {
    let owner = Needs::May(Permission::Own);
    calls
        .on(
            Method::PUT,
            "/api/v1/users/{userId}",
            Needs::May(Permission::WriteFactors),
            "`POST /v1/users/{user}/enrolment-links`, `PATCH /v1/users/{user}`",
            "enrolment.link_sent factor.deleted mfa.switched_off session.revoked user.updated",
            users::change_mfa,
        )
        .on(Method::GET, "/api/v1/users", owner, "`GET /v1/users?role=owner`", "", users::list)
        .on(
            Method::PUT,
            "/api/v1/users",
            owner,
            "`POST /v1/users`, `PATCH /v1/users/{user}`",
            "user.created user.updated",
            users::appoint,
        )
        .on(
            Method::PUT,
            "/api/v1/users/{userId}/unlock",
            Needs::May(Permission::WriteLocks),
            "`POST /v1/users/{user}/unlock`",
            "method.unlocked password.unlocked",
            users::unlock,
        )
}

fn of_organisations(calls: Calls) -> Calls {
    let (owner, write) = (Needs::May(Permission::Own), Needs::May(Permission::WriteUsers));
    let one = "/api/v1/organisations/{orgGroupId}";
    let members = "/api/v1/organisations/{orgGroupId}/users";
    let member = "/api/v1/organisations/{orgGroupId}/users/{userId}";
    calls
        .on(Method::GET, "/api/v1/organisations", owner, "`GET /v1/organisations`", "", organisations::list)
        .on(
            Method::POST,
            "/api/v1/organisations",
            owner,
            "`POST /v1/organisations`",
            "organisation.created",
            organisations::create,
        )
        .on(Method::GET, one, Needs::Myself, "`GET /v1/organisations/{organisation}`", "", organisations::get)
        .on(
            Method::PUT,
            one,
            Needs::May(Permission::Administer),
            "`PATCH /v1/organisations/{organisation}`, `POST /v1/organisations/{organisation}/enforcement`",
            "organisation.updated policy.changed enrolment.link_sent",
            organisations::update,
        )
        .on(
            Method::GET,
            members,
            Needs::May(Permission::ReadUsers),
            "`GET /v1/users`",
            "",
            organisations::members,
        )
        .on(Method::POST, members, write, "`POST /v1/users`", "user.created", organisations::add_member)
        .on(
            Method::PUT,
            member,
            write,
            "`PATCH /v1/users/{user}`",
            "user.updated",
            organisations::change_member,
        )
        .on(
            Method::DELETE,
            member,
            write,
            "`DELETE /v1/users/{user}`",
            "user.deleted",
            organisations::remove_member,
        )
}

fn about_oneself(calls: Calls) -> Calls {
    let (one, mfa) = ("/api/v1/users/me", "/api/v1/users/me/mfa");
    calls
        .on(Method::GET, one, Needs::Myself, "`GET /v1/me`", "", me::get)
        .on(Method::PUT, one, Needs::Myself, "`PATCH /v1/users/{user}`", "user.updated", me::update)
        .on(Method::GET, mfa, Needs::Myself, "`GET /v1/me/factors`", "", me::mfa)
        // These two also take the restricted token of a sign-in that asks for a first factor.
        .on(Method::POST, mfa, Needs::Nothing, "`POST /v1/me/factors`", "factor.enrolled", me::enrol)
        .on(
            Method::POST,
            "/api/v1/users/me/mfa/confirm",
            Needs::Nothing,
            "`POST /v1/me/factors/{factor}/activate`",
            "factor.activated login.succeeded",
            me::confirm,
        )
        .on(
            Method::DELETE,
            mfa,
            Needs::Myself,
            "`DELETE /v1/me/factors/{factor}`",
            "mfa.switched_off",
            me::switch_off,
        )
}

/// Writes a problem as the vendor's software does: what concerns tokens and roles in OAuth's shape, all else with a status
/// in the body. `error` is a text in both, so that clients have one thing to look at.
pub fn render(problem: &Problem, mounted: &Mounted) -> Response {
    let is_of_token = mounted.path.ends_with(TOKEN);
    let (status, error) = match access(problem) {
        Some(refused) => refused,
        None if is_of_token => (problem.status(), of_token(problem)),
        None => {
            let message = message(problem);
            let status = problem.status();
            let body = json!({ "error": problem.code(), "message": message, "status": status.as_u16() });
            return (status, axum::Json(body)).into_response();
        }
    };
    let body = json!({ "error": error, "error_description": message(problem) });
    let mut answer = (status, axum::Json(body)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge(error));
    }
    answer
}

fn message(problem: &Problem) -> String {
    match problem.field() {
        Some(field) => format!("{field}: {}", problem.detail()),
        None => problem.detail().to_owned(),
    }
}

/// Returns what OAuth calls a refusal of a caller (RFC 6750 §3.1).
fn access(problem: &Problem) -> Option<(StatusCode, &'static str)> {
    let status = problem.status();
    match (status, problem.code()) {
        // To a client with a restricted token 401 would mean to begin anew, without end.
        (StatusCode::UNAUTHORIZED, "second_step_required") => {
            Some((StatusCode::FORBIDDEN, "insufficient_scope"))
        }
        (StatusCode::UNAUTHORIZED, "credentials_missing") => Some((status, "unauthorized")),
        (StatusCode::UNAUTHORIZED, "invalid_client") => Some((status, "invalid_client")),
        (StatusCode::UNAUTHORIZED, _) => Some((status, "invalid_token")),
        (StatusCode::FORBIDDEN, "insufficient_scope") => Some((status, "insufficient_scope")),
        (StatusCode::FORBIDDEN, _) => Some((status, "access_denied")),
        _ => None,
    }
}

/// Returns what OAuth calls a failure of its endpoint (RFC 6749 §5.2).
fn of_token(problem: &Problem) -> &'static str {
    match problem.code() {
        code @ ("invalid_grant" | "unsupported_grant_type") => code,
        _ if problem.status() == StatusCode::INTERNAL_SERVER_ERROR => "server_error",
        _ if problem.seconds_to_wait().is_some() => "temporarily_unavailable",
        _ => "invalid_request",
    }
}

fn challenge(error: &str) -> HeaderValue {
    HeaderValue::from_static(match error {
        "invalid_client" => r#"Basic realm="countersign""#,
        "unauthorized" => r#"Bearer realm="countersign""#,
        _ => r#"Bearer realm="countersign", error="invalid_token""#,
    })
}
