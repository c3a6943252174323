//! Problems in the shape of ASP.NET Core, as the vendor's clients read them.

use super::{Mounted, typed};
use crate::http::problem::Problem;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

/// Writes a problem as the vendor does.
pub fn render(problem: &Problem, mounted: &Mounted) -> Response {
    let status = status(problem);
    let body = members(status, problem, mounted);
    let bytes = serde_json::to_vec(&body).expect("a problem has string keys only, so it is always JSON");
    let mut answer = typed(status, "application/problem+json", bytes);
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// The vendor's calls know no conflict and nothing gone: what the document does not allow is a bad request there.
fn status(problem: &Problem) -> StatusCode {
    match problem.status() {
        StatusCode::CONFLICT | StatusCode::GONE => StatusCode::BAD_REQUEST,
        status => status,
    }
}

/// Every problem has a title and a detail, which clients show; the rest differs by status.
fn members(status: StatusCode, problem: &Problem, mounted: &Mounted) -> Map<String, Value> {
    let detail = sentence(problem.detail());
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    set("type", kind(status).into());
    set("title", title(status).into());
    set("status", status.as_u16().into());
    match status {
        StatusCode::BAD_REQUEST => {
            if let Some(field) = problem.field() {
                set("errors", json!({ field: [detail] }));
            }
        }
        StatusCode::UNAUTHORIZED if !is_token_endpoint(mounted) => {
            set("extensions", json!({}));
        }
        StatusCode::FORBIDDEN => {
            set("extensions", json!({}));
            set("licenseAgreementAcceptanceRequired", false.into());
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::TOO_MANY_REQUESTS => {}
        _ => {
            set("instance", mounted.path.as_str().into());
        }
    }
    set("detail", detail.into());
    set("traceId", mounted.request.as_str().into());
    body
}

fn is_token_endpoint(mounted: &Mounted) -> bool {
    mounted.path.ends_with("/api/oauth2/token")
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "One or more validation errors occurred.",
        status => status.canonical_reason().unwrap_or("Error"),
    }
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "https://tools.ietf.org/html/rfc7231#section-6.5.1",
        StatusCode::UNAUTHORIZED => "https://tools.ietf.org/html/rfc7235#section-3.1",
        StatusCode::FORBIDDEN => "https://tools.ietf.org/html/rfc7231#section-6.5.3",
        StatusCode::NOT_FOUND => "https://tools.ietf.org/html/rfc7231#section-6.5.4",
        StatusCode::METHOD_NOT_ALLOWED => "https://tools.ietf.org/html/rfc7231#section-6.5.5",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "https://tools.ietf.org/html/rfc7231#section-6.5.13",
        StatusCode::TOO_MANY_REQUESTS => "https://tools.ietf.org/html/rfc6585#section-4",
        StatusCode::INTERNAL_SERVER_ERROR => "https://tools.ietf.org/html/rfc7231#section-6.6.1",
        StatusCode::SERVICE_UNAVAILABLE => "https://tools.ietf.org/html/rfc7231#section-6.6.4",
        _ => "about:blank",
    }
}

/// The vendor's details are sentences; ours are not.
fn sentence(detail: &str) -> String {
    let mut characters = detail.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str().trim_end_matches('.'))
}
