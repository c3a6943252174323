//! A client of the nodes: one connection pool for each, and every answer sorted into what the checker can judge.

use crate::{history::Answer, node::Credentials};
use reqwest::{Client, RequestBuilder, Response, header::RETRY_AFTER};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};

/// How long a client waits. A node that cannot reach its database should say so long before.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much is kept of an answer that nobody should get.
const ODD_BYTES: usize = 300;

/// A client that knows several addresses: of nodes, or of a balancer in front of them.
pub(crate) struct Caller {
    http: Client,
    addresses: Vec<SocketAddr>,
    credentials: Credentials,
}

impl Caller {
    /// Makes a client.
    pub(crate) fn new(credentials: &Credentials, addresses: Vec<SocketAddr>) -> Self {
        let http = Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        Self { http, addresses, credentials: credentials.clone() }
    }

    /// Returns how many addresses there are to call.
    pub(crate) fn addresses(&self) -> usize {
        self.addresses.len()
    }

    /// Has a code checked.
    pub(crate) async fn verify(
        &self,
        address: usize,
        name: &str,
        user: &str,
        code: &str,
        request: Option<&str>,
    ) -> Answer {
        let mut body = json!({ "user": user, "code": code });
        if let Some(request) = request {
            body["requestId"] = request.into();
        }
        let request =
            self.http.post(self.url(address, "/v1/verify")).header("X-Request-Id", name).json(&body);
        match self.signed(request).send().await {
            Ok(answer) => sorted(answer).await,
            Err(error) => Answer::Nothing { error: cause(&error) },
        }
    }

    /// Posts where an answer is certain.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        self.must(path, self.http.post(self.url(0, path)).json(body)).await
    }

    /// Patches where an answer is certain.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Value {
        self.must(path, self.http.patch(self.url(0, path)).json(body)).await
    }

    /// Gets newline-delimited JSON where an answer is certain, however long it is.
    pub(crate) async fn get_lines(&self, path: &str) -> String {
        let request = self.http.get(self.url(0, path)).header("Accept", "application/x-ndjson");
        let request = request.timeout(Duration::from_secs(300));
        let answer = self.signed(request).send().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn must(&self, path: &str, request: RequestBuilder) -> Value {
        let answer = self.signed(request).send().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let status = answer.status();
        let body = answer.text().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        request.basic_auth(&self.credentials.id, Some(&self.credentials.secret))
    }

    fn url(&self, address: usize, path: &str) -> String {
        format!("http://{}{path}", self.addresses[address])
    }
}

async fn sorted(answer: Response) -> Answer {
    let status = answer.status().as_u16();
    let retry_after = answer.headers().contains_key(RETRY_AFTER);
    let body = match answer.text().await {
        Ok(body) => body,
        Err(error) => return Answer::Nothing { error: cause(&error) },
    };
    let verdict = serde_json::from_str::<Value>(&body).ok().filter(|_| status == 200);
    match (status, verdict.as_ref().and_then(|verdict| verdict["result"].as_str())) {
        (200, Some(result)) => Answer::Verdict {
            result: result.to_owned(),
            attempts_left: verdict
                .as_ref()
                .and_then(|verdict| verdict["attemptsLeft"].as_u64())
                .and_then(|left| u32::try_from(left).ok()),
        },
        (503, _) => Answer::Unavailable { retry_after },
        _ => Answer::Odd { status, body: body.chars().take(ODD_BYTES).collect() },
    }
}

fn cause(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "connection lost"
    }
}
