//! Service clients.

use crate::test_app::{Client, Credentials, TestApp};
use serde_json::json;

#[tokio::test]
async fn a_client_is_created_changed_and_deleted() {
    let app = TestApp::start().await;
    let root = app.root();

    let body = json!({ "name": "gateway", "scopes": ["users:read", "verify"] });
    let made = app.post("/v1/clients").by(&root).json(body).await.expect_created();
    let client = Client::of(&made);
    let path = format!("/v1/clients/{}", client.id);
    assert_eq!((&made["scopes"], &made["secrets"]), (&json!(["verify", "users:read"]), &json!(1)));
    let shown = app.get(&path).by(&root).await.expect_ok();
    assert!(shown["secret"].is_null());

    let body = json!({ "name": "door", "scopes": ["verify"] });
    let changed = app.patch(&path).by(&root).json(body).await.expect_ok();
    assert_eq!((&changed["name"], &changed["scopes"]), (&json!("door"), &json!(["verify"])));
    app.get("/v1/users").by(&client.credentials()).await.expect_problem(403, "insufficient_scope");
    let list = app.get("/v1/clients").by(&root).await.expect_ok();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));

    app.delete(&path).by(&root).await.expect(204);
    app.get(&path).by(&root).await.expect_problem(404, "client_not_found");
    app.delete(&path).by(&root).await.expect_problem(404, "client_not_found");
    app.get("/v1/users").by(&client.credentials()).await.expect_problem(401, "invalid_client");
}

#[tokio::test]
async fn a_disabled_client_comes_back_with_its_secret_and_without_its_tokens() {
    let app = TestApp::start().await;
    let client = app.client(&["users:read"]).await;
    let token = Credentials::bearer(&client.token(&app).await);
    let path = format!("/v1/clients/{}", client.id);
    let set = async |status: &str| {
        app.patch(&path).by(&app.root()).json(json!({ "status": status })).await.expect_ok();
    };
    app.get("/v1/users").by(&token).await.expect_ok();

    set("disabled").await;
    app.get("/v1/users").by(&token).await.expect_problem(401, "invalid_token");
    app.get("/v1/users").by(&client.credentials()).await.expect_problem(401, "invalid_client");
    let form = [("grant_type", "client_credentials")];
    assert_eq!(app.token(&form).by(&client.credentials()).await.expect(401).error(), "invalid_client");
    set("active").await;

    app.get("/v1/users").by(&token).await.expect_problem(401, "invalid_token");
    app.get("/v1/users").by(&client.credentials()).await.expect_ok();
    app.advance(1);
    let token = Credentials::bearer(&client.token(&app).await);
    app.get("/v1/users").by(&token).await.expect_ok();
}

#[tokio::test]
async fn a_client_has_two_secrets_at_most() {
    let app = TestApp::start().await;
    let client = app.client(&["users:read"]).await;
    let path = format!("/v1/clients/{}", client.id);
    let mut secrets = vec![client.secret.clone()];
    for _ in 0..3 {
        let rotated = app.post(&format!("{path}/secret")).by(&app.root()).await.expect_created();
        secrets.push(rotated.text("secret"));
    }

    let shown = app.get(&path).by(&app.root()).await.expect_ok();

    assert_eq!(shown["secrets"], 2);
    let mut good = Vec::new();
    for secret in &secrets {
        let answer = app.get("/v1/users").by(&Credentials::basic(&client.id, secret)).await;
        good.push(answer.status == 200);
    }
    assert_eq!(good, [false, false, true, true]);
}

#[tokio::test]
async fn what_happens_to_clients_is_in_the_trail() {
    let app = TestApp::start().await;
    let root = app.root();
    let client = app.client(&["verify"]).await;
    let path = format!("/v1/clients/{}", client.id);
    app.patch(&path).by(&root).json(json!({ "status": "disabled" })).await.expect_ok();
    app.post(&format!("{path}/secret")).by(&root).await.expect_created();
    app.delete(&path).by(&root).await.expect(204);

    let events = app.get("/v1/audit?limit=4").by(&root).await.expect_ok();

    let seen: Vec<_> = events["items"].as_array().expect("items").iter().rev().collect();
    let actions: Vec<_> = seen.iter().filter_map(|event| event["action"].as_str()).collect();
    assert_eq!(actions, ["client.created", "client.updated", "client.secret_rotated", "client.deleted"]);
    for event in seen {
        assert_eq!(event["details"]["client"], client.id);
        assert_eq!(event["actor"], json!({ "type": "client", "id": app.client_id }));
    }
}
