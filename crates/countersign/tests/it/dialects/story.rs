//! One person, four wires, one audit trail.

use crate::{
    signing::{RsaKey, Signer},
    test_app::{Credentials, Otp, Person, TestApp},
};
use serde_json::json;

#[tokio::test]
async fn a_person_is_the_same_in_every_dialect() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let vera = app.user("vera").await;

    let otp = enrolled_by_veeam(&app, &vera, &owner).await;
    let listed = listed_by_safeshare(&app, &owner, "vera").await;
    assert_eq!((&listed["id"], &listed["mfaEnabled"]), (&json!(vera.id), &json!(true)));

    lock_sms(&app, &vera).await;
    assert!(is_sms_locked(&app, &vera).await);
    unlocked_by_rsa(&app, &vera).await;
    assert!(!is_sms_locked(&app, &vera).await);

    assert!(vera.verify(otp.code(app.now())).await.accepted());
    let reset = "/reltio/oauth/users/vera/mfa/resetQRCodeEnroll";
    app.put(reset).by(&owner).await.expect_ok();
    app.advance(30);
    assert!(!vera.verify(otp.code(app.now())).await.accepted());

    insta::assert_snapshot!(app.audit_trail(&vera.id).await);
}

async fn enrolled_by_veeam(app: &TestApp, person: &Person<'_>, by: &Credentials) -> Otp {
    let path = format!("/veeam/api/v8.1/users/{}", person.id);
    let enable = app.post(&format!("{path}/enableMfa")).by(by).json(json!({ "recreate": true }));
    let enabled = enable.await.expect_ok();
    let otp = Otp::from_base32(&enabled.text("secretKey"));
    let ticket = json!({ "code": otp.code(app.now()), "token": enabled.text("token") });
    app.post(&format!("{path}/acceptMfa")).by(by).json(ticket).await.expect(204);
    app.advance(60);
    otp
}

async fn listed_by_safeshare(app: &TestApp, by: &Credentials, name: &str) -> serde_json::Value {
    let path = format!("/safeshare/api/v1/organisations/{}/users?searchText={name}", app.organisation);
    app.get(&path).by(by).await.expect_ok()["items"][0].clone()
}

async fn lock_sms(app: &TestApp, person: &Person<'_>) {
    let factor = json!({ "type": "sms", "destination": app.fresh_number(), "confirmed": true });
    app.post(&person.path("/factors")).by(&app.root()).json(factor).await.expect_created();
    let challenge = app.post(&person.path("/challenges")).by(&app.root());
    challenge.json(json!({ "type": "sms" })).await.expect_created();
    for _ in 0..5 {
        person.verify_with(json!({ "code": "wrong1", "type": "sms" })).await.expect_ok();
    }
}

async fn is_sms_locked(app: &TestApp, person: &Person<'_>) -> bool {
    let shown = app.get(&person.path("")).by(&app.root()).await.expect_ok();
    shown["lockedMethods"].as_array().expect("methods").contains(&json!("SMS"))
}

async fn unlocked_by_rsa(app: &TestApp, person: &Person<'_>) {
    let key = RsaKey::shared();
    let client = json!({
        "name": "help desk bot",
        "scopes": ["users:read", "locks:write"],
        "publicKeys": [Signer::public_jwk(key)],
    });
    let client = app.post("/v1/clients").by(&app.root()).json(client).await.expect_created();
    let (api, now) = ("/rsa/AdminInterface/restapi/v1", app.now().seconds());
    let audience = format!("https://countersign.test{api}");
    let claims = json!({ "sub": client.text("id"), "iat": now, "exp": now + 3600, "aud": audience });
    let by = Credentials::bearer(&key.sign(&claims));
    let unlock = app.patch(&format!("{api}/users/{}/methods", person.id)).by(&by);
    unlock.json(json!({ "unlockMethods": ["SMS"] })).await.expect_ok();
}
