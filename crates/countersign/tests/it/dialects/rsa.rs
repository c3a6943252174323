//! RSA's Cloud Administration API, row by row of its contract.

mod administration;
mod credentials;
mod event_logs;
mod unlocking;

use crate::{
    signing::{RsaKey, Signer},
    test_app::{Answer, Call, Credentials, Person, TestApp},
};
use countersign::config::Config;
use http::Method;
use serde_json::{Value, json};

const API: &str = "/rsa/AdminInterface/restapi";
const AUDIENCE: &str = "https://countersign.test/rsa/AdminInterface/restapi/v1";
/// What `countersign client create --role` gives.
const HELP_DESK: &[&str] = &["users:read", "users:write", "factors:write", "locks:write", "audit:read"];
const SUPER: &[&str] = &["users:read", "users:write", "factors:write", "locks:write", "audit:read", "admin"];

/// An application with an administration key.
struct Tenant {
    app: TestApp,
    key: &'static RsaKey,
    /// The key's `accessID`.
    access_id: String,
}

impl Tenant {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let app = TestApp::start_with(adjust).await;
        let (key, access_id) = (RsaKey::shared(), key(&app, SUPER).await);
        Self { app, key, access_id }
    }

    /// The claims of a token that is as it should be.
    fn claims(&self) -> Value {
        let now = self.app.now().seconds();
        json!({ "sub": self.access_id, "iat": now, "exp": now + 3600, "aud": AUDIENCE })
    }

    fn credentials(&self) -> Credentials {
        Credentials::bearer(&self.key.sign(&self.claims()))
    }

    /// Begins a request below `restapi`, signed.
    fn call(&self, method: Method, path: &str) -> Call<'_> {
        self.app.call(method, &format!("{API}{path}")).by(&self.credentials())
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        self.call(method, path).json(body).await
    }

    async fn unlock(&self, user: &str, methods: Value) -> Answer {
        self.send(Method::PATCH, &format!("/v1/users/{user}/methods"), json!({ "unlockMethods": methods }))
            .await
    }

    async fn lookup(&self, email: &str) -> Answer {
        self.send(Method::POST, "/v1/users/lookup", json!({ "email": email })).await
    }

    /// A person with an app and numbers, all of whose methods are locked.
    async fn locked(&self, name: &str) -> Person<'_> {
        let person = self.reachable(name).await;
        person.lock().await;
        for kind in ["sms", "voice"] {
            self.lock_sent(&person, kind).await;
        }
        person
    }

    /// A person with an app and numbers.
    async fn reachable(&self, name: &str) -> Person<'_> {
        let person = self.app.user(name).with_totp().await;
        for kind in ["sms", "voice"] {
            let body = json!({ "type": kind, "destination": self.app.fresh_number(), "confirmed": true });
            self.app.post(&person.path("/factors")).by(&self.app.root()).json(body).await.expect_created();
        }
        person
    }

    async fn lock_sent(&self, person: &Person<'_>, kind: &str) {
        let asked = self.app.post(&person.path("/challenges")).by(&self.app.root());
        asked.json(json!({ "type": kind })).await.expect_created();
        for _ in 0..5 {
            person.verify_with(json!({ "code": "wrong1", "type": kind })).await.expect_ok();
        }
    }
}

/// Registers the shared key with scopes; returns its id.
async fn key(app: &TestApp, scopes: &[&str]) -> String {
    let jwk = Signer::public_jwk(RsaKey::shared());
    let body = json!({ "name": "help desk bot", "scopes": scopes, "publicKeys": [jwk] });
    app.post("/v1/clients").by(&app.root()).json(body).await.expect_created().text("id")
}

/// The lock states of an answer: token, SMS, voice.
fn states(answer: &Answer) -> [bool; 3] {
    ["isTokenLocked", "isSmsLocked", "isVoiceLocked"].map(|name| match answer[name].as_bool() {
        Some(is_locked) => is_locked,
        None => panic!("{name}: {}", answer.shown()),
    })
}

/// Expects the vendor's envelope.
#[track_caller]
fn expect_envelope(answer: &Answer, status: u16) {
    let context = answer.shown();
    assert_eq!(answer.status.as_u16(), status, "{context}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{context}");
    assert_eq!(answer["status"], status, "{context}");
    let hours = answer["timestamp"].as_i64().map(|millis| (millis - 1_795_341_600_000) / 3_600_000);
    assert!(hours.is_some_and(|hours| (0..48).contains(&hours)), "{context}");
    assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{context}");
    assert!(answer["path"].as_str().is_some_and(|path| path.starts_with("/rsa/")), "{context}");
    let mut members: Vec<&String> = answer.json.as_object().expect("an object").keys().collect();
    members.sort_unstable();
    assert_eq!(members, ["error", "message", "path", "status", "timestamp"], "{context}");
}
