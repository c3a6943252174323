//! What handlers take from a request: bodies, path segments, parameters. Each refusal is a problem that names the field.

use super::{problem::Problem, pulse::SlowBody};
use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use countersign_core::Handle;
use http::{HeaderMap, StatusCode, Uri, header, request::Parts};
use serde::{Serialize, de::DeserializeOwned};

/// A JSON body. Members it does not know are refused by name.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        expect_content_type(request.headers(), "application/json")?;
        let bytes = read(request, state).await?;
        parse_json(&bytes).map(Self)
    }
}

/// A JSON body that may be left out, which then is the empty object.
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let has_type = request.headers().contains_key(header::CONTENT_TYPE);
        if has_type {
            expect_content_type(request.headers(), "application/json")?;
        }
        let bytes = read(request, state).await?;
        if bytes.is_empty() {
            return parse_json(b"{}").map(Self);
        }
        if !has_type {
            return Err(unsupported("application/json"));
        }
        parse_json(&bytes).map(Self)
    }
}

/// A body that was not looked at yet: a dialect has its own order of checks, and finds people before it reads bodies.
#[derive(Debug)]
pub struct Raw {
    /// What the body is said to be, without parameters, in lower case; empty if nothing is said.
    pub media_type: String,
    /// The same as it was sent, with its parameters.
    pub content_type: String,
    /// The body.
    pub bytes: Bytes,
}

impl Raw {
    /// Reads it as a JSON object, whatever it is said to be.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        parse_json(&self.bytes)
    }

    /// Refuses a body that is not said to be JSON.
    pub fn expect_json(&self) -> Result<(), Problem> {
        if self.media_type == "application/json" { Ok(()) } else { Err(unsupported("application/json")) }
    }
}

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = given.unwrap_or_default().to_owned();
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Ok(Self { media_type, content_type, bytes: read(request, state).await? })
    }
}

/// A form (`application/x-www-form-urlencoded`), as OAuth sends it.
pub struct Form<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        expect_content_type(request.headers(), "application/x-www-form-urlencoded")?;
        let bytes = read(request, state).await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| not_utf8())?;
        let uri = as_query(text).ok_or_else(|| malformed_form("not a form".into()))?;
        let Query(form) =
            Query::try_from_uri(&uri).map_err(|rejection| malformed_form(rejection.body_text()))?;
        Ok(Self(form))
    }
}

/// Returns a form as the query of an address. An address holds less: not every sign that clients leave as it is, and a `#`
/// would end it, so that a password was cut.
pub fn as_query(form: &str) -> Option<Uri> {
    let mut text = String::with_capacity(form.len() + 2);
    text.push_str("/?");
    for byte in form.bytes() {
        match byte {
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                text.push(char::from(byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text.parse().ok()
}

/// Query parameters. Those it does not know are refused by name.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(parameters) = Query::try_from_uri(&parts.uri)
            .map_err(|rejection| explain_serde(&rejection.body_text(), "invalid_parameter"))?;
        Ok(Self(parameters))
    }
}

/// Path segments.
pub struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(_) => {
                Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "no such thing: the path is malformed"))
            }
        }
    }
}

/// Reads the `{user}` segment.
pub fn handle(segment: &str) -> Result<Handle, Problem> {
    Ok(Handle::parse("user", segment)?)
}

/// Reads a segment that is an id; what is none names nothing.
pub fn id<T: std::str::FromStr>(segment: &str, code: &'static str) -> Result<T, Problem> {
    segment.parse().map_err(|_| Problem::new(StatusCode::NOT_FOUND, code, "no such id"))
}

/// An answer in JSON.
pub struct Json<T>(pub StatusCode, pub T);

impl<T> Json<T> {
    /// 200 with a body.
    pub const fn ok(body: T) -> Self {
        Self(StatusCode::OK, body)
    }

    /// 201 with a body.
    pub const fn created(body: T) -> Self {
        Self(StatusCode::CREATED, body)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        (self.0, axum::Json(self.1)).into_response()
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        if SlowBody::is_behind(&rejection) {
            let detail = "the body did not arrive in time";
            return Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail);
        }
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "the body is larger than allowed",
            ),
            _ => Problem::invalid("body_unreadable", None, "the body ended before it was complete"),
        }
    })
}

fn expect_content_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) { Ok(()) } else { Err(unsupported(expected)) }
}

fn unsupported(expected: &str) -> Problem {
    let detail = format!("send Content-Type: {expected}");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}

/// Reads a JSON object; only what fails is read again with the path of the fault, which costs time.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Serde would take a list for the members in the order of their declaration.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(Problem::invalid("invalid_type", None, "expected an object"));
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    if std::str::from_utf8(bytes).is_err() {
        return Err(not_utf8());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let outcome: Result<T, _> = serde_path_to_error::deserialize(&mut deserializer);
    let Err(error) = outcome else {
        return Err(Problem::invalid("malformed_json", None, "the body has text after its JSON value"));
    };
    let path = error.path().to_string();
    let error = error.into_inner();
    match error.classify() {
        serde_json::error::Category::Data => Err(explain(&path, &error.to_string())),
        _ => {
            let place = format!("the body is not JSON: line {}, column {}", error.line(), error.column());
            Err(Problem::invalid("malformed_json", None, place))
        }
    }
}

fn not_utf8() -> Problem {
    Problem::invalid("malformed_json", None, "the body is not UTF-8")
}

fn malformed_form(text: String) -> Problem {
    explain_serde(&text, "malformed_form")
}

/// Names the member a deserialiser complained about, without repeating what it held: that may be a secret.
fn explain(path: &str, message: &str) -> Problem {
    let inside = |prefix: &str| message.strip_prefix(prefix)?.split('`').next();
    let join = |name: &str| match path {
        "." | "" => name.to_owned(),
        _ if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        _ => format!("{path}.{name}"),
    };
    if let Some(name) = inside("unknown field `") {
        return Problem::invalid("unknown_member", Some(join(name)), format!("there is no member {name}"));
    }
    if let Some(name) = inside("missing field `") {
        return Problem::invalid(
            "missing_member",
            Some(join(name)),
            format!("the member {name} is required"),
        );
    }
    if let Some(name) = inside("duplicate field `") {
        return Problem::invalid(
            "duplicate_member",
            Some(join(name)),
            format!("the member {name} stands there twice"),
        );
    }
    let expected = message.split("expected ").nth(1).unwrap_or("another type");
    let expected = expected.split(" at line ").next().unwrap_or(expected);
    let field = (path != "." && !path.is_empty()).then(|| path.to_owned());
    Problem::invalid("invalid_type", field, format!("expected {expected}"))
}

/// The same for parameters and forms, whose errors come as text only.
fn explain_serde(text: &str, code: &'static str) -> Problem {
    let message = text.split_once(": ").map_or(text, |(_, rest)| rest);
    for prefix in ["unknown field `", "missing field `", "duplicate field `"] {
        if let Some(at) = message.find(prefix) {
            return explain("", &message[at..]);
        }
    }
    let (field, detail) = match message.split_once(": ") {
        Some((field, detail)) if !field.contains(' ') => (Some(field.to_owned()), detail),
        _ => (None, message),
    };
    // The value itself may be quoted before the expectation.
    let detail = detail
        .split("expected ")
        .nth(1)
        .map_or("malformed value".to_owned(), |rest| format!("expected {rest}"));
    Problem::invalid(code, field, detail)
}
