//! Promise 7 in every dialect that signs people in: who exists shows in no refusal.

use crate::test_app::{Answer, Credentials, PASSWORD, TestApp};
use serde_json::json;
use std::collections::BTreeMap;

const ANOTHER_PASSWORD: &str = "another-lantern-osprey-9";

/// Everything of an answer that somebody could tell others by.
fn looks(answer: &Answer) -> (u16, String, BTreeMap<String, String>) {
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let headers = answer.headers.iter().filter(|(name, _)| *name != "x-request-id");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()));
    (answer.status.as_u16(), answer.shown().replace(&id, ""), headers.collect())
}

async fn people(app: &TestApp) {
    let root = app.root();
    app.user("known").with_password().await;
    app.user("no-password").await;
    let locked = app.user("locked").with_password().await;
    for _ in 0..10 {
        locked.sign_in(ANOTHER_PASSWORD).await;
    }
    let disabled = app.user("disabled").with_password().await;
    app.patch(&disabled.path("")).by(&root).json(json!({ "status": "disabled" })).await.expect_ok();
    app.another_organisation("acme").await;
    let owner = app.owner().await;
    app.user("elsewhere").in_organisation("acme", &owner).await;
}

#[tokio::test]
async fn refused_sign_ins_look_and_cost_the_same_in_every_dialect() {
    let app = TestApp::start().await;
    people(&app).await;
    for (path, credentials) in [
        ("/veeam/api/oauth2/token", Credentials::NONE),
        ("/reltio/oauth/token", app.root()),
        ("/safeshare/api/oauth/token", app.root()),
    ] {
        let mut seen = Vec::new();
        for (username, password) in [
            ("known", ANOTHER_PASSWORD),
            ("known@example.com", ANOTHER_PASSWORD),
            ("unknown", ANOTHER_PASSWORD),
            ("unknown@example.com", PASSWORD),
            ("elsewhere@example.com", PASSWORD),
            ("no-password", PASSWORD),
            ("locked", PASSWORD),
            ("disabled", PASSWORD),
            ("disabled", ANOTHER_PASSWORD),
        ] {
            let form = [("grant_type", "password"), ("username", username), ("password", password)];
            let before = app.commits();
            let answer = app.post(path).by(&credentials).form(&form).await;
            seen.push((username, looks(&answer), app.commits() - before));
        }

        let (_, first, _) = &seen[0];
        assert!([400, 401].contains(&first.0), "{path}: {first:?}");
        for (who, looks, commits) in &seen {
            assert_eq!(looks, first, "{path} {who}");
            assert_eq!(*commits, 1, "{path} {who}: a durable commit");
        }
    }
}
