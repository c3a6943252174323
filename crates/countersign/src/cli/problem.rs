//! Makes the server's refusals into words: what is wrong, what to do next, and the exit code.

use super::{
    failure::{Exit, Failure},
    screen::{plain, text},
};
use reqwest::StatusCode;
use serde_json::Value;

/// Makes a problem of the API into words: what is wrong, then code, field and request id for those who ask further.
pub(super) fn of_api(status: StatusCode, problem: &Value) -> Failure {
    let said = |member: &str| Some(plain(text(problem, member))).filter(|text| !text.is_empty());
    let what = said("/detail").or_else(|| said("/title")).unwrap_or_else(|| status.to_string());
    let names = [("code", "/code"), ("field", "/field"), ("request", "/requestId")];
    let references: Vec<String> =
        names.iter().filter_map(|(name, member)| Some(format!("{name} {}", said(member)?))).collect();
    let message = if references.is_empty() { what } else { format!("{what} ({})", references.join(", ")) };

    let failure = Failure::new(message).exit(exit_of(status, text(problem, "/code")));
    match hint_of(status, problem) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn exit_of(status: StatusCode, code: &str) -> Exit {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Refused,
        StatusCode::NOT_FOUND => Exit::NotFound,
        _ if code == "code_rejected" => Exit::NotAccepted,
        _ => Exit::Failed,
    }
}

fn hint_of(status: StatusCode, problem: &Value) -> Option<String> {
    if let Some(left) = problem["attemptsLeft"].as_u64() {
        return Some(format!("{left} more attempts before it locks; wait for the next code"));
    }
    if let Some(seconds) = problem["retryAfter"].as_u64() {
        return Some(format!("try again in {seconds} s"));
    }
    Some(match status {
        StatusCode::UNAUTHORIZED => {
            "check COUNTERSIGN_CLIENT_ID and its secret, or COUNTERSIGN_USERNAME and its password".into()
        }
        StatusCode::FORBIDDEN => {
            "ask somebody whose role is higher, or give the client the scope it lacks (client update)".into()
        }
        StatusCode::NOT_FOUND if text(problem, "/code") == "challenge_not_found" => {
            "it was ended by a newer one, or is somebody else's; send another code".into()
        }
        StatusCode::NOT_FOUND if text(problem, "/code") == "delivery_not_found" => {
            "check the id: countersign delivery list".into()
        }
        StatusCode::NOT_FOUND => "check the name: countersign user list, factor list, client list".into(),
        StatusCode::GONE => "enrol again".into(),
        StatusCode::CONFLICT => match text(problem, "/code") {
            "already_enrolled" => {
                "mail a link (factor enrol --link), or reset them first: countersign reset".into()
            }
            "challenge_used" => "send another code: countersign challenge send".into(),
            "method_locked" => "make sure who asks, then: countersign unlock".into(),
            "channel_not_configured" => "configure a provider in [delivery], or choose another type".into(),
            "destination_forbidden" => {
                "the organisation's policy decides: countersign org policy show".into()
            }
            _ => "look at what is there first, then choose another value".into(),
        },
        status if status.is_server_error() => "the server's log says more under the request id".into(),
        _ => match text(problem, "/field") {
            "" => return None,
            field => format!("correct {} and try again", plain(field)),
        },
    })
}

/// Makes a refused sign-in (RFC 6749 §5.2) into words.
pub(super) fn of_sign_in(status: StatusCode, answer: &Value) -> Failure {
    if !answer["error"].is_string() {
        return of_api(status, answer);
    }
    let code = plain(text(answer, "/error"));
    let what = match text(answer, "/error_description") {
        "" => "the server refused the sign-in".to_owned(),
        description => plain(description),
    };
    let exit = if status.is_server_error() { Exit::Failed } else { Exit::Refused };
    Failure::new(format!("{what} (code {code})"))
        .exit(exit)
        .hint("check COUNTERSIGN_USERNAME, its password, and that the code is a fresh one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_status_decides_the_exit_code() {
        for (status, code, exit) in [
            (401, "unauthenticated", Exit::Refused),
            (403, "forbidden", Exit::Refused),
            (404, "not_found", Exit::NotFound),
            (400, "code_rejected", Exit::NotAccepted),
            (400, "invalid", Exit::Failed),
            (429, "too_many_requests", Exit::Failed),
            (503, "busy", Exit::Failed),
        ] {
            let status = StatusCode::from_u16(status).expect("status");
            assert_eq!(of_api(status, &json!({"code": code})).exit, exit, "{status} {code}");
        }
    }
}
