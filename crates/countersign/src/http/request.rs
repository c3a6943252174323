//! The outermost layer, before the router: names each request, reads the clock once, limits, times, logs, writes problems.

use super::{
    Web,
    dialects::{self, Mounted},
    problem::Problem,
    server::Peer,
};
use crate::error::Error;
use axum::{Extension, Router, body::Body, extract::Request, response::Response};
use countersign_core::{Call, Rank, Timestamp, event::Actor};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    panic::AssertUnwindSafe,
    time::Instant,
};
use tower::ServiceExt;

/// The header that carries the request's id both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id taken over from a caller.
const LONGEST_ID: usize = 64;

/// What is known of a request before anybody looks at it.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    /// Its id: the caller's if they gave a usable one, else ours.
    pub id: String,
    /// Where it comes from.
    pub ip: IpAddr,
    /// The only reading of the clock.
    pub now: Timestamp,
}

impl RequestInfo {
    /// Returns what the outermost layer put there.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().expect("the outermost layer names every request")
    }

    /// Makes the call for somebody.
    pub fn call(&self, actor: Actor, rank: Rank) -> Call {
        Call { now: self.now, actor, rank, ip: Some(self.ip), request_id: self.id.clone() }
    }
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for RequestInfo {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts))
    }
}

/// Answers a request: by a refusal, or by what the router answers.
pub async fn answer(web: Web, router: Router, mut request: Request) -> Response {
    let began = Instant::now();
    let info = RequestInfo {
        id: request_id(request.headers()),
        ip: web.proxies.client_address(peer(&request), request.headers()),
        now: web.app.clock.now(),
    };
    // What goes into a line of the log is written only if there is one.
    let line = tracing::enabled!(tracing::Level::DEBUG)
        .then(|| (request.method().clone(), logged(request.uri().path())));
    let mounted = request.extensions_mut().get_mut::<Mounted>().map(|mounted| {
        mounted.request.clone_from(&info.id);
        mounted.clone()
    });
    let is_head = request.method() == Method::HEAD;
    let written = |problem: Problem| {
        problem.log(&info.id);
        let answer = match &mounted {
            Some(mounted) => dialects::render(&problem, mounted, info.now),
            None => problem.into_answer(&info.id),
        };
        if is_head { without_body(answer) } else { answer }
    };
    let mut answer = match web.limits.check_address(info.ip) {
        Ok(()) if !web.app.is_on_time() && !is_for_operators(request.uri().path()) => written(off_time()),
        // Whoever cannot be served is refused before anything is spent on them: their path, their token, what they sent.
        Ok(()) if !request.method().is_safe() && web.app.store.is_full() => {
            pass_over(request, web.app.config.server.body_bytes).await;
            written(Error::Busy.into())
        }
        Ok(()) => {
            request.extensions_mut().insert(info.clone());
            match routed(router, request).await {
                Ok(answer) => answer,
                Err(Turned { problem, allow }) => {
                    let mut answer = written(problem);
                    answer.headers_mut().extend(allow.map(|methods| (header::ALLOW, methods)));
                    answer
                }
            }
        }
        Err(retry) => written(Problem::too_many(&retry)),
    };
    finish(&mut answer, &info.id);
    let (status, took) = (answer.status(), began.elapsed());
    web.app.metrics.answer(status, took);
    // Paths name people, never by a secret; queries may hold more and stay out.
    if let Some((method, path)) = line {
        tracing::debug!(
            request.id = info.id,
            http.method = %method,
            http.path = path,
            http.status = status.as_u16(),
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "{method} {path} answered {}",
            status.as_u16()
        );
    }
    answer
}

/// Takes what a request sends, and has no look at it. What is left unread costs the connection, and the caller another one.
async fn pass_over(request: Request, most: usize) {
    // Whoever sends more than is taken, or too slowly, loses the connection all the same.
    let _ = Limited::new(request.into_body(), most).collect().await;
}

/// Tells whether a path says how the process is, and nothing else.
fn is_for_operators(path: &str) -> bool {
    matches!(path, "/healthz" | "/metrics")
}

/// Refuses to judge codes by a clock that the rest of the cluster does not share.
fn off_time() -> Problem {
    let detail = "this server's clock differs from the database's, and was asked nothing; go to another one";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "clock_differs", detail).retry_after(5)
}

/// Returns a path as it may stand in a log: not with the addresses by which some clients name people.
fn logged(path: &str) -> String {
    let is_address = |segment: &str| segment.contains('@') || segment.contains("%40");
    let shown = |segment| if is_address(segment) { "…" } else { segment };
    path.split('/').map(shown).collect::<Vec<_>>().join("/")
}

/// Why the router has no answer, and which methods the path has if it is that.
struct Turned {
    problem: Problem,
    allow: Option<HeaderValue>,
}

/// Has the router answer, also for a handler that panics: the caller learns that nothing is known to have happened.
async fn routed(router: Router, request: Request) -> Result<Response, Turned> {
    let Ok(answer) = AssertUnwindSafe(router.oneshot(request)).catch_unwind().await else {
        let problem = Error::Internal("a handler panicked; its message stands above".into()).into();
        return Err(Turned { problem, allow: None });
    };
    let mut answer = answer.unwrap_or_else(|never: Infallible| match never {});
    match answer.extensions_mut().remove::<Problem>() {
        Some(problem) => Err(Turned { problem, allow: answer.headers_mut().remove(header::ALLOW) }),
        None => Ok(answer),
    }
}

/// Returns what HEAD is answered: everything but the body (RFC 9110 §9.3.2). Over HTTP/2 nobody else leaves it away.
fn without_body(answer: Response) -> Response {
    let (mut parts, body) = answer.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

/// No answer of ours is for a cache, a frame or a guess at its type.
fn finish(answer: &mut Response, id: &str) {
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|b| b.is_ascii_graphic()) => {
            id.to_owned()
        }
        _ => uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple().to_string(),
    }
}

fn peer(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<Peer>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(address)| address.ip().to_canonical())
}

/// Answers a path nothing is mounted at.
pub async fn not_found(mounted: Option<Extension<Mounted>>) -> Problem {
    let detail = match mounted {
        None => "no such path; /docs lists them",
        Some(_) => "no such call; the manual of this dialect lists those that are served",
    };
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// Answers a method a path does not have; axum adds `Allow`.
pub async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not have this method")
}
