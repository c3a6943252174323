//! Clients that sign for themselves: their keys, and what they get for a signature.

use crate::{
    signing::{EcKey, RsaKey, Signer, unsigned},
    test_app::{Answer, Credentials, TestApp},
};
use serde_json::{Value, json};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ENDPOINT: &str = "https://countersign.test/oauth/token";

/// Creates a client with keys; returns its id.
async fn client(app: &TestApp, keys: &[Value]) -> String {
    let body = json!({ "name": "signer", "scopes": ["users:read"], "publicKeys": keys });
    app.post("/v1/clients").by(&app.root()).json(body).await.expect_created().text("id")
}

/// The claims of an assertion that is as it should be.
fn claims(app: &TestApp, id: &str) -> Value {
    let now = app.now().seconds();
    json!({ "iss": id, "sub": id, "aud": ENDPOINT, "iat": now, "exp": now + 300, "jti": "1" })
}

async fn ask(app: &TestApp, assertion: &str) -> Answer {
    app.token(&[
        ("grant_type", "client_credentials"),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
    ])
    .await
}

/// Tells whether an assertion is worth a token that works.
async fn is_good(app: &TestApp, assertion: &str) -> bool {
    let answer = ask(app, assertion).await;
    if answer.status != 200 {
        assert_eq!((answer.status.as_u16(), answer.error()), (401, "invalid_client"));
        return false;
    }
    let token = Credentials::bearer(&answer.text("access_token"));
    app.get("/v1/users").by(&token).await.expect_ok();
    true
}

#[tokio::test]
async fn a_client_gets_a_token_for_its_signature() {
    let app = TestApp::start().await;
    let (rsa, ec) = (RsaKey::shared(), EcKey::generate());

    let by_rsa = client(&app, &[Signer::public_jwk(rsa)]).await;
    let by_ec = client(&app, &[ec.public_jwk()]).await;

    assert!(is_good(&app, &rsa.sign(&claims(&app, &by_rsa))).await);
    assert!(is_good(&app, &ec.sign(&claims(&app, &by_ec))).await);
}

#[tokio::test]
async fn a_client_that_signs_for_itself_has_no_secret_until_it_asks_for_one() {
    let app = TestApp::start().await;
    let body =
        json!({ "name": "signer", "scopes": ["users:read"], "publicKeys": [EcKey::generate().public_jwk()] });

    let made = app.post("/v1/clients").by(&app.root()).json(body).await.expect_created();

    assert!(made["secret"].is_null() && made["secrets"] == 0);
    let path = format!("/v1/clients/{}/secret", made.text("id"));
    let secret = app.post(&path).by(&app.root()).await.expect_created().text("secret");
    app.get("/v1/users").by(&Credentials::basic(&made.text("id"), &secret)).await.expect_ok();
}

#[tokio::test]
async fn an_assertion_is_refused_for_each_thing_that_is_wrong_with_it() {
    let app = TestApp::start().await;
    let key = EcKey::generate();
    let id = client(&app, &[key.public_jwk()]).await;
    let other = client(&app, &[EcKey::generate().public_jwk()]).await;
    let now = app.now().seconds();
    let with = |name: &str, value: Value| {
        let mut claims = claims(&app, &id);
        claims[name] = value;
        key.sign(&claims)
    };
    assert!(is_good(&app, &key.sign(&claims(&app, &id))).await);

    let strange = |header: Value| key.sign_with(&header, &claims(&app, &id));
    let none = unsigned(&json!({ "alg": "none" }), &claims(&app, &id));
    let mut forged = key.sign(&claims(&app, &id));
    forged.replace_range(forged.len() - 3.., "AAA");
    for (what, assertion) in [
        ("another client", key.sign(&claims(&app, &other))),
        ("nobody", with("sub", json!("0190163d-8694-739b-aea5-966c26f8ad91"))),
        ("not about itself", with("iss", json!(other))),
        ("no issuer", with("iss", Value::Null)),
        ("another server", with("aud", json!("https://elsewhere.test/oauth/token"))),
        ("no audience", with("aud", json!([]))),
        ("expired", with("exp", json!(now - 60))),
        ("never expires", with("exp", Value::Null)),
        ("expires too late", with("exp", json!(now + 3661))),
        ("issued too long ago", with("iat", json!(now - 3661))),
        ("another algorithm", strange(json!({ "alg": "RS256" }))),
        ("a shared secret", strange(json!({ "alg": "HS256" }))),
        ("an extension", strange(json!({ "alg": "ES256", "crit": ["b64"], "b64": false }))),
        ("unsigned", format!("{none}.")),
        ("forged", forged),
        ("cut short", none),
        ("garbage", "x.y.z".into()),
    ] {
        assert!(!is_good(&app, &assertion).await, "{what}");
    }
}

#[tokio::test]
async fn a_client_is_named_once_and_the_same() {
    let app = TestApp::start().await;
    let key = EcKey::generate();
    let id = client(&app, &[key.public_jwk()]).await;
    let assertion = key.sign(&claims(&app, &id));
    let form = |more: &[(&'static str, &str)]| {
        let mut form = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
        form.push(("client_assertion".to_owned(), assertion.clone()));
        form.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        form
    };
    let ask = async |more: &[(&'static str, &str)]| {
        let form = form(more);
        let form: Vec<_> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        app.token(&form).await
    };
    let kind = ("client_assertion_type", JWT_BEARER);

    assert_eq!(ask(&[kind, ("client_id", &id)]).await.status, 200);
    assert_eq!(ask(&[kind, ("client_id", &app.client_id)]).await.expect(401).error(), "invalid_client");
    assert_eq!(ask(&[]).await.expect(401).error(), "invalid_client");
    let saml = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer");
    assert_eq!(ask(&[saml]).await.expect(400).error(), "invalid_request");
    let secret = ("client_secret", app.client_secret.as_str());
    assert_eq!(ask(&[kind, ("client_id", &id), secret]).await.expect(400).error(), "invalid_request");
}

#[tokio::test]
async fn a_key_that_is_removed_takes_the_tokens_along() {
    let app = TestApp::start().await;
    let root = app.root();
    let (old, new) = (EcKey::generate(), EcKey::generate());
    let id = client(&app, &[old.public_jwk()]).await;
    let keys = format!("/v1/clients/{id}/keys");
    let token = Credentials::bearer(&ask(&app, &old.sign(&claims(&app, &id))).await.text("access_token"));
    let added =
        app.post(&keys).by(&root).json(json!({ "publicKey": new.public_jwk() })).await.expect_created();
    assert!(is_good(&app, &old.sign(&claims(&app, &id))).await);
    let thumbprint = added["publicKeys"][0]["id"].as_str().expect("id").to_owned();

    app.delete(&format!("{keys}/{thumbprint}")).by(&root).await.expect(204);

    assert!(!is_good(&app, &old.sign(&claims(&app, &id))).await);
    app.get("/v1/users").by(&token).await.expect_problem(401, "invalid_token");
    app.advance(1);
    assert!(is_good(&app, &new.sign(&claims(&app, &id))).await);
    app.delete(&format!("{keys}/{thumbprint}")).by(&root).await.expect_problem(404, "key_not_found");
}

#[tokio::test]
async fn a_key_added_with_an_overlap_retires_the_one_before() {
    let app = TestApp::start().await;
    let (old, new) = (EcKey::generate(), EcKey::generate());
    let id = client(&app, &[old.public_jwk()]).await;
    let body = json!({ "publicKey": new.public_jwk(), "overlapSeconds": 60 });
    app.post(&format!("/v1/clients/{id}/keys")).by(&app.root()).json(body).await.expect_created();

    app.advance(59);
    assert!(is_good(&app, &old.sign(&claims(&app, &id))).await);
    app.advance(1);

    assert!(!is_good(&app, &old.sign(&claims(&app, &id))).await);
    assert!(is_good(&app, &new.sign(&claims(&app, &id))).await);
}

#[tokio::test]
async fn a_disabled_client_signs_in_vain() {
    let app = TestApp::start().await;
    let key = EcKey::generate();
    let id = client(&app, &[key.public_jwk()]).await;
    let set = async |status: &str| {
        let path = format!("/v1/clients/{id}");
        app.patch(&path).by(&app.root()).json(json!({ "status": status })).await.expect_ok();
    };

    set("disabled").await;
    assert!(!is_good(&app, &key.sign(&claims(&app, &id))).await);
    set("active").await;
    app.advance(1);

    assert!(is_good(&app, &key.sign(&claims(&app, &id))).await);
}

#[tokio::test]
async fn keys_that_are_none_are_refused_by_their_place() {
    let app = TestApp::start().await;
    let good = EcKey::generate().public_jwk();
    let mut off_the_curve = good.clone();
    off_the_curve["y"] = good["x"].clone();
    let mut private = good.clone();
    private["d"] = good["x"].clone();
    let before = app.heads().await;

    for (keys, field) in [
        (json!([good, private]), "publicKeys[1].d"),
        (json!([off_the_curve]), "publicKeys[0]"),
        (json!([{ "kty": "oct" }]), "publicKeys[0].kty"),
    ] {
        let body = json!({ "name": "signer", "scopes": ["verify"], "publicKeys": keys });
        let answer = app.post("/v1/clients").by(&app.root()).json(body).await;
        let answer = answer.expect_problem(400, "invalid_value");
        assert_eq!(answer["field"], field);
    }
    let body = json!({ "name": "signer", "scopes": ["verify"], "publicKeys": [good.clone(), good] });
    app.post("/v1/clients").by(&app.root()).json(body).await.expect_problem(409, "taken");
    assert_eq!(app.heads().await, before);
}

#[tokio::test]
async fn a_private_key_never_shows_in_an_answer_about_it() {
    let app = TestApp::start().await;
    let mut private = EcKey::generate().public_jwk();
    private["d"] = json!("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw");

    let body = json!({ "name": "signer", "scopes": ["verify"], "publicKeys": [private] });
    let answer = app.post("/v1/clients").by(&app.root()).json(body).await;

    assert!(!answer.shown().contains("c2VjcmV0"));
}
