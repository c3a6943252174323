//! Requests to the real program, many at a time.

use crate::installation::Installation;
use reqwest::Client;
use serde_json::Value;
use std::time::Duration;

/// A connection of its own to the server.
pub(crate) struct Api {
    http: Client,
    url: String,
    client: (String, String),
}

impl Api {
    pub(crate) fn new(installation: &Installation, url: &str) -> Self {
        let client = (installation.client_id().to_owned(), installation.client_secret().to_owned());
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
        Self { http, url: url.to_owned(), client }
    }

    /// Posts; `None` if there was no answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        let answer = request.basic_auth(&self.client.0, Some(&self.client.1)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// Posts to a server that nobody kills.
    pub(crate) async fn must_post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body).await.expect("an answer");
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Gets, and returns the status; `None` if there was no answer.
    pub(crate) async fn status(&self, path: &str) -> Option<u16> {
        let request = self.http.get(format!("{}{path}", self.url));
        let answer = request.basic_auth(&self.client.0, Some(&self.client.1)).send().await.ok()?;
        Some(answer.status().as_u16())
    }

    /// Patches on a server that nobody kills.
    pub(crate) async fn must_patch(&self, path: &str, body: &Value) -> Value {
        let request = self.http.patch(format!("{}{path}", self.url)).json(body);
        let answer =
            request.basic_auth(&self.client.0, Some(&self.client.1)).send().await.expect("an answer");
        answer.error_for_status().expect("a good answer").json().await.expect("JSON")
    }

    /// Gets JSON from a server that nobody kills.
    pub(crate) async fn must_get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url));
        let answer =
            request.basic_auth(&self.client.0, Some(&self.client.1)).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    }

    pub(crate) async fn is_ready(&self) {
        assert_eq!(self.status("/readyz").await, Some(200));
    }
}
