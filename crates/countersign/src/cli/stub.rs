//! A server for tests: gives the answers of a script, in order, and remembers what it was asked.

use super::api::Server;
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// One request expected, and its answer.
pub(super) struct Reply {
    method: &'static str,
    target: String,
    status: u16,
    body: Value,
}

/// Expects a request; answers it. A body of `null` is answered as plain text, as other programs do.
pub(super) fn reply(method: &'static str, target: &str, status: u16, body: Value) -> Reply {
    Reply { method, target: target.to_owned(), status, body }
}

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub authorization: String,
    pub body: String,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    seen: Vec<Seen>,
}

/// A running server; stops when dropped.
pub(super) struct Stub {
    url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Stub {
    pub(super) async fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let state = Arc::new(Mutex::new(State { script: script.into(), ..State::default() }));
        let shared = state.clone();
        let app = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let answer = shared.lock().expect("state").answer(&method, &uri, &headers, &body);
            async move { answer }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("serve") });
        Self { url, state, task }
    }

    pub(super) fn server(&self) -> Server {
        Server { url: self.url.parse().expect("url"), organisation: None, ca_file: None, json: false }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.lock().expect("state").seen.clone()
    }

    /// Tells how many answers nobody asked for.
    pub(super) fn left(&self) -> usize {
        self.state.lock().expect("state").script.len()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn answer(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Response {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.seen.push(Seen {
            authorization: authorization.unwrap_or_default().to_owned(),
            body: String::from_utf8_lossy(body).into_owned(),
        });
        let asked = format!("{method} {uri}");
        let Some(reply) = self.script.pop_front() else {
            return (StatusCode::IM_A_TEAPOT, format!("nothing was expected after the script: {asked}"))
                .into_response();
        };
        if format!("{} {}", reply.method, reply.target) != asked {
            let text = format!("expected {} {}, got {asked}", reply.method, reply.target);
            return (StatusCode::IM_A_TEAPOT, format!("\"{text}\"")).into_response();
        }
        let status = StatusCode::from_u16(reply.status).expect("status");
        if reply.body.is_null() {
            return (status, "not JSON").into_response();
        }
        (status, [(header::CONTENT_TYPE, "application/json")], reply.body.to_string()).into_response()
    }
}
