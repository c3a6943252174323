//! RSA: the Cloud Administration REST API of ID Plus, below `/AdminInterface/restapi`, and its token endpoint.

mod authenticators;
mod body;
mod caller;
mod emergency;
mod events;
mod health;
mod logs;
mod lookup;
mod numbers;
mod registration;
mod search;
mod status;
mod token;
mod unlock;
mod view;

use super::{Calls, Mounted, Needs};
use crate::http::problem::Problem;
use axum::response::{IntoResponse, Response};
use countersign_core::{Permission as P, Timestamp};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

/// Where the API begins.
const API: &str = "/AdminInterface/restapi";

/// Returns every call and what it is natively.
pub fn calls() -> Calls {
    use Needs::{May, Nothing};
    let calls = Calls::default();
    let calls = calls.on(
        Method::PATCH,
        "/AdminInterface/restapi/v1/users/{user}/methods",
        May(P::WriteLocks),
        "`POST /v1/users/{user}/unlock`",
        "method.unlocked",
        unlock::unlock,
    );
    let calls = calls.on(
        Method::POST,
        "/AdminInterface/restapi/v1/users/lookup",
        May(P::ReadUsers),
        "`GET /v1/users/{user}`",
        "",
        lookup::lookup,
    );
    let calls = calls
        .on(
            Method::POST,
            "/AdminInterface/restapi/v1/users/search",
            May(P::ReadUsers),
            "`GET /v1/users`",
            "",
            search::search_v1,
        )
        .on(
            Method::POST,
            "/AdminInterface/restapi/v2/users/search",
            May(P::ReadUsers),
            "`GET /v1/users`",
            "",
            search::search_v2,
        );
    let calls = calls.on(
        Method::POST,
        "/AdminInterface/restapi/v1/users/{user}/sync",
        May(P::ReadUsers),
        "`GET /v1/users/{user}`: there is no directory to synchronise with",
        "",
        lookup::synchronise,
    );
    let calls = calls.on(
        Method::PUT,
        "/AdminInterface/restapi/v1/users/{user}/userStatus",
        May(P::WriteUsers),
        "`PATCH /v1/users/{user}` with `status`",
        "user.updated session.revoked",
        status::set,
    );
    let calls = calls.on(
        Method::DELETE,
        "/AdminInterface/restapi/v1/users/{user}",
        May(P::WriteUsers),
        "`DELETE /v1/users/{user}`, of a disabled person only",
        "user.deleted",
        status::delete,
    );
    let calls = calls.on(
        Method::PATCH,
        "/AdminInterface/restapi/v1/users/{user}",
        May(P::WriteFactors),
        "`DELETE` and `POST /v1/users/{user}/factors` for `sms` and `voice`, in one change",
        "factor.imported factor.deleted",
        numbers::set,
    );
    let calls = calls.on(
        Method::POST,
        "/AdminInterface/restapi/v1/users/deviceRegistrationCode",
        May(P::WriteFactors),
        "`POST /v1/users/{user}/enrolment-code`",
        "factor.enrolled enrolment.code_issued",
        registration::issue,
    );
    logs(emergency_codes(authenticators(calls)))
        .on(Method::POST, "/oauth/token", Nothing, "`POST /oauth/token`", "", token::token)
        .on(Method::GET, "/AdminInterface/healthcheck", Nothing, "`GET /readyz`", "", health::health)
        .on(Method::GET, "/healthcheck", Nothing, "`GET /readyz`", "", health::health)
}

fn authenticators(calls: Calls) -> Calls {
    let native = "`GET /v1/users/{user}/factors`";
    calls
        .on(
            Method::GET,
            "/AdminInterface/restapi/v1/users/{user}/devices",
            Needs::May(P::ReadUsers),
            native,
            "",
            authenticators::list_v1,
        )
        .on(
            Method::GET,
            "/AdminInterface/restapi/v2/users/{user}/devices",
            Needs::May(P::ReadUsers),
            native,
            "",
            authenticators::list_v2,
        )
        .on(
            Method::DELETE,
            "/AdminInterface/restapi/v1/users/{user}/devices/{device}",
            Needs::May(P::WriteFactors),
            "`DELETE /v1/users/{user}/factors/{factor}`",
            "factor.deleted",
            authenticators::delete,
        )
}

fn emergency_codes(calls: Calls) -> Calls {
    let (issue, revoke) =
        ("`POST /v1/users/{user}/emergency-code`", "`DELETE /v1/users/{user}/emergency-code`");
    calls
        .on(
            Method::PUT,
            "/AdminInterface/restapi/v1/users/{user}/emergencyTokencode",
            Needs::May(P::WriteFactors),
            issue,
            "emergency_code.issued",
            emergency::enable_v1,
        )
        .on(
            Method::PUT,
            "/AdminInterface/restapi/v2/users/{user}/emergencyTokencode",
            Needs::May(P::WriteFactors),
            issue,
            "emergency_code.issued",
            emergency::enable_v2,
        )
        .on(
            Method::DELETE,
            "/AdminInterface/restapi/v1/users/{user}/emergencyTokencode/{code}",
            Needs::May(P::WriteFactors),
            revoke,
            "emergency_code.revoked",
            emergency::disable_one,
        )
        .on(
            Method::DELETE,
            "/AdminInterface/restapi/v1/users/{user}/emergencyTokencodes",
            Needs::May(P::WriteFactors),
            revoke,
            "emergency_code.revoked",
            emergency::disable_all,
        )
}

fn logs(calls: Calls) -> Calls {
    let native = "`GET /v1/audit`";
    calls
        .on(
            Method::GET,
            "/AdminInterface/restapi/v1/adminlog/exportlogs",
            Needs::May(P::ReadAudit),
            native,
            "",
            logs::administration,
        )
        .on(
            Method::GET,
            "/AdminInterface/restapi/v1/usereventlog/exportlogs",
            Needs::May(P::ReadAudit),
            native,
            "",
            logs::authentication,
        )
        .on(
            Method::GET,
            "/AdminInterface/restapi/v1/users/{user}/authlogs",
            Needs::May(P::ReadAudit),
            "`GET /v1/audit?user=`",
            "",
            logs::of_user,
        )
}

/// Writes a problem as the vendor does: the same envelope for all.
pub fn render(problem: &Problem, mounted: &Mounted, now: Timestamp) -> Response {
    let status = match problem.status() {
        // The vendor's clients know of no 503. `Retry-After` still says when to come again.
        StatusCode::SERVICE_UNAVAILABLE => StatusCode::INTERNAL_SERVER_ERROR,
        status => status,
    };
    let message = match problem.field() {
        Some(field) => format!("{field}: {}", problem.detail()),
        None => problem.detail().to_owned(),
    };
    let body = json!({
        "timestamp": now.millis(),
        "status": status.as_u16(),
        "error": status.canonical_reason().unwrap_or("Error"),
        "message": message,
        "path": mounted.path,
    });
    let mut answer = (status, axum::Json(body)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Returns the path that is routed by, if it is not the one that was written: clients join addresses with a slash too
/// many, or end them in one, and one vendor's page spells a path like no other.
pub fn canonical(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let written = segments.iter().map(|segment| match *segment {
        "exportLogs" => "exportlogs",
        other => other,
    });
    let canonical: String = written.map(|segment| format!("/{segment}")).collect();
    (canonical != path && canonical.starts_with('/')).then_some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_path_is_routed_as_one() {
        for (written, routed) in [
            ("/AdminInterface/restapi//v1/users/lookup", Some("/AdminInterface/restapi/v1/users/lookup")),
            (
                "/AdminInterface/restapi/v1/users/7/authlogs/",
                Some("/AdminInterface/restapi/v1/users/7/authlogs"),
            ),
            (
                "/AdminInterface/restapi/v1/adminlog/exportLogs",
                Some("/AdminInterface/restapi/v1/adminlog/exportlogs"),
            ),
            ("/AdminInterface/restapi/v1/users/lookup", None),
            ("/AdminInterface/restapi/v1/USERS/lookup", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(canonical(written).as_deref(), routed, "{written}");
        }
    }
}
