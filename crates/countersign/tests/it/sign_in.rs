//! Signing in and everything tokens do.

use crate::test_app::{
    Answer, Call, Client, Credentials, MFA_GRANT, Otp, PASSWORD, Person, TestApp, at_once,
};
use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ANOTHER_PASSWORD: &str = "heron-lantern-7-gravel";

fn second_step<'a>(app: &'a TestApp, mfa_token: &str, code: &str) -> Call<'a> {
    app.token(&[("grant_type", MFA_GRANT), ("mfa_token", mfa_token), ("code", code)])
}

fn refresh<'a>(app: &'a TestApp, token: &str) -> Call<'a> {
    app.token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
}

fn bearer(answer: &Answer) -> Credentials {
    Credentials::bearer(&answer.text("access_token"))
}

async fn introspect(app: &TestApp, token: &str) -> Answer {
    app.post("/oauth/introspect").by(&app.root()).form(&[("token", token)]).await.expect_ok()
}

#[track_caller]
fn expect_oauth(answer: Answer, status: u16, error: &str) -> Answer {
    let answer = answer.expect(status);
    assert_eq!(answer.error(), error, "{}", answer.shown());
    assert!(answer["error_description"].is_string());
    answer
}

#[tokio::test]
async fn a_password_signs_in_whoever_needs_no_second_step() {
    let app = TestApp::start().await;
    let alice = app.user("Alice").with_password().await;

    for name in ["Alice", "ALICE", "alice@example.com", "ALICE@EXAMPLE.COM"] {
        let form = [("grant_type", "password"), ("username", name), ("password", PASSWORD)];
        let tokens = app.token(&form).await.expect_ok();
        assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(600)));
        let me = app.get("/v1/me").by(&bearer(&tokens)).await.expect_ok();
        assert_eq!(me["id"], alice.id, "{name}");
    }
    let token = alice.tokens().await.text("access_token");
    let known = introspect(&app, &token).await;
    assert_eq!((&known["active"], &known["amr"]), (&json!(true), &json!(["pwd"])));
    app.advance(600);
    app.get("/v1/me").by(&Credentials::bearer(&token)).await.expect_problem(401, "invalid_token");
}

#[tokio::test]
async fn the_second_step_uses_up_its_code_and_its_token() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let first = expect_oauth(alice.sign_in(PASSWORD).await, 400, "mfa_required");
    assert_eq!((&first["enrolment_required"], &first["expires_in"]), (&json!(false), &json!(600)));
    let (mfa_token, code) = (first.text("mfa_token"), alice.code());

    expect_oauth(second_step(&app, &mfa_token, &alice.wrong_code()).await, 400, "invalid_grant");
    assert_eq!(alice.failures().await, 1, "a wrong code counts here as anywhere");
    let tokens = second_step(&app, &mfa_token, &code).await.expect_ok();

    let known = introspect(&app, &tokens.text("access_token")).await;
    assert_eq!(known["amr"], json!(["pwd", "otp", "mfa"]));
    assert_eq!(alice.failures().await, 0);
    assert_eq!(alice.verify(&code).await.refusal(), Some("replayed"));
    app.advance(30);
    expect_oauth(second_step(&app, &mfa_token, &alice.code()).await, 400, "invalid_grant");
    insta::assert_snapshot!(app.audit_trail("alice").await);
}

#[tokio::test]
async fn a_recovery_code_finishes_a_sign_in_where_it_is_asked_for() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let drawn = app.post(&alice.path("/recovery-codes")).by(&app.root()).await.expect_created();
    let code = drawn["codes"][0].as_str().expect("a code");
    let mfa_token = alice.sign_in(PASSWORD).await.text("mfa_token");

    expect_oauth(second_step(&app, &mfa_token, code).await, 400, "invalid_grant");
    let form = [("grant_type", MFA_GRANT), ("mfa_token", &mfa_token), ("code", code), ("type", "recovery")];
    let tokens = app.token(&form).await.expect_ok();

    assert_eq!(introspect(&app, &tokens.text("access_token")).await["amr"], json!(["pwd", "mfa"]));
}

#[tokio::test]
async fn the_second_step_does_not_wait_for_ever() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let mfa_token = alice.sign_in(PASSWORD).await.text("mfa_token");

    app.advance(600);
    let code = alice.code();

    expect_oauth(second_step(&app, &mfa_token, &code).await, 400, "invalid_grant");
    assert!(alice.verify(&code).await.accepted(), "the code was not touched");
}

#[tokio::test]
async fn who_must_have_a_factor_and_has_none_enrols_one_while_signing_in() {
    let app = TestApp::start().await;
    app.policy(json!({ "requirement": "enforced" })).await;
    let alice = app.user("alice").with_password().await;
    let first = expect_oauth(alice.sign_in(PASSWORD).await, 400, "mfa_required");
    assert_eq!(first["enrolment_required"], true);
    let mfa_token = first.text("mfa_token");

    let body = json!({ "mfaToken": mfa_token, "type": "totp", "label": "phone" });
    let enrolled = app.post("/oauth/enrol").json(body.clone()).await.expect_created();
    let otp = Otp::from_base32(&enrolled.text("secret"));
    let factor = enrolled.text("id");
    let finish = |code: String| {
        let members = [("mfa_token", &*mfa_token), ("factor", &*factor), ("code", &*code)];
        app.token(&[("grant_type", MFA_GRANT), members[0], members[1], members[2]])
    };
    expect_oauth(finish(otp.wrong_code(app.now())).await, 400, "invalid_grant");
    let tokens = finish(otp.code(app.now())).await.expect_ok();

    let me = app.get("/v1/me").by(&bearer(&tokens)).await.expect_ok();
    assert_eq!((&me["factors"], &me["mfaEnabled"]), (&json!(1), &json!(true)));
    expect_oauth(finish(otp.code(app.now())).await, 400, "invalid_grant");

    let next = expect_oauth(alice.sign_in(PASSWORD).await, 400, "mfa_required");
    assert_eq!(next["enrolment_required"], false);
    let body = json!({ "mfaToken": next.text("mfa_token") });
    let refused = app.post("/oauth/enrol").json(body).await;
    assert!(refused.status.is_client_error(), "a stolen password adds no factor: {}", refused.shown());
    assert_eq!(
        app.get(&alice.path("/factors")).by(&app.root()).await["items"].as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn the_policy_decides_who_is_asked_for_a_second_step() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let bob = app.user("bob").with_password().await;
    let asks = async |person: &Person<'_>| person.sign_in(PASSWORD).await.error() == "mfa_required";

    assert_eq!((asks(&alice).await, asks(&bob).await), (true, false), "optional");
    app.patch(&alice.path("")).by(&app.root()).json(json!({ "mfaEnabled": false })).await.expect_ok();
    assert!(!asks(&alice).await, "switched off");
    app.policy(json!({ "requirement": "enforced" })).await;
    assert_eq!((asks(&alice).await, asks(&bob).await), (true, true), "enforced");
    app.policy(json!({ "requirement": "off" })).await;
    assert_eq!((asks(&alice).await, asks(&bob).await), (false, false), "off");
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_second_use_ends_the_session() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_password().await;
    let first = alice.tokens().await;
    let other = alice.session().await;

    let second = refresh(&app, &first.text("refresh_token")).await.expect_ok();
    assert_ne!(first.text("refresh_token"), second.text("refresh_token"));
    app.get("/v1/me").by(&bearer(&second)).await.expect_ok();
    expect_oauth(refresh(&app, &first.text("refresh_token")).await, 400, "invalid_grant");

    expect_oauth(refresh(&app, &second.text("refresh_token")).await, 400, "invalid_grant");
    for tokens in [&first, &second] {
        app.get("/v1/me").by(&bearer(tokens)).await.expect_problem(401, "invalid_token");
    }
    assert_eq!(app.count("alice", "session.refresh_reused").await, 1);
    app.get("/v1/me").by(&other).await.expect_ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_refresh_with_one_token_at_most_one_gets_tokens_that_work() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_password().await;
    let token = alice.tokens().await.text("refresh_token");

    let answers = at_once((0..16).map(|_| refresh(&app, &token))).await;

    let granted: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(granted.len(), 1);
    app.get("/v1/me").by(&bearer(granted[0])).await.expect_problem(401, "invalid_token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_second_steps_with_one_code_one_signs_in() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let mfa_tokens =
        [alice.sign_in(PASSWORD).await.text("mfa_token"), alice.sign_in(PASSWORD).await.text("mfa_token")];
    let code = alice.code();

    let answers = at_once((0..32).map(|number| second_step(&app, &mfa_tokens[number % 2], &code))).await;

    let granted = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(granted, 1);
    assert_eq!(app.count("alice", "login.succeeded").await, 1);
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over_however_often_it_is_refreshed() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_password().await;
    let mut token = alice.tokens().await.text("refresh_token");
    for _ in 0..3 {
        app.advance(4 * 3600 - 1);
        token = refresh(&app, &token).await.expect_ok().text("refresh_token");
    }

    app.advance(3);

    expect_oauth(refresh(&app, &token).await, 400, "invalid_grant");
}

#[tokio::test]
async fn a_session_opened_through_a_client_is_refreshed_through_it_only() {
    let app = TestApp::start().await;
    app.user("alice").with_password().await;
    let (mine, other) = (app.client(&["verify"]).await, app.client(&["verify"]).await);
    let form = [("grant_type", "password"), ("username", "alice"), ("password", PASSWORD)];
    let token = app.token(&form).by(&mine.credentials()).await.expect_ok().text("refresh_token");

    expect_oauth(refresh(&app, &token).await, 400, "invalid_grant");
    expect_oauth(refresh(&app, &token).by(&other.credentials()).await, 400, "invalid_grant");

    refresh(&app, &token).by(&mine.credentials()).await.expect_ok();
}

#[tokio::test]
async fn a_revoked_token_is_dead_at_once() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_password().await;
    let (tokens, session) = (alice.tokens().await, alice.tokens().await);
    let client = app.client(&["users:read"]).await.token(&app).await;
    let revoke = |token: &str| app.post("/oauth/revoke").form(&[("token", token)]);

    revoke(&tokens.text("access_token")).await.expect_ok();
    revoke(&session.text("refresh_token")).await.expect_ok();
    revoke(&client).await.expect_ok();
    revoke("what is this").await.expect_ok();

    for dead in [bearer(&tokens), bearer(&session), Credentials::bearer(&client)] {
        app.get("/v1/me").by(&dead).await.expect_problem(401, "invalid_token");
    }
    refresh(&app, &tokens.text("refresh_token")).await.expect_ok();
    expect_oauth(refresh(&app, &session.text("refresh_token")).await, 400, "invalid_grant");
}

#[tokio::test]
async fn introspection_tells_a_client_about_tokens_of_its_organisation_and_no_others() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let mfa_token = alice.sign_in(PASSWORD).await.text("mfa_token");
    let tokens = second_step(&app, &mfa_token, &alice.code()).await.expect_ok();
    let token = tokens.text("access_token");
    let client = app.client(&["verify"]).await;
    let client_token = client.token(&app).await;

    let person = introspect(&app, &token).await;
    assert_eq!((&person["username"], &person["sub"]), (&json!("alice"), &json!(alice.id)));
    let about = introspect(&app, &client_token).await;
    assert_eq!((&about["client_id"], &about["scope"]), (&json!(client.id), &json!("verify")));

    let nothing = json!({ "active": false });
    for dead in ["nonsense", &mfa_token, &tokens.text("refresh_token")] {
        assert_eq!(introspect(&app, dead).await.json, nothing);
    }
    app.another_organisation("acme").await;
    let body = json!({ "name": "theirs", "scopes": ["verify"] });
    let owner = app.owner().await;
    let theirs = app.post("/v1/clients?organisation=acme").by(&owner).json(body).await.expect_created();
    let theirs = Client::of(&theirs).credentials();
    for about in [&token, &client_token] {
        let answer = app.post("/oauth/introspect").by(&theirs).form(&[("token", about)]).await.expect_ok();
        assert_eq!(answer.json, nothing);
    }
    app.patch(&alice.path("")).by(&app.root()).json(json!({ "status": "disabled" })).await.expect_ok();
    assert_eq!(introspect(&app, &token).await.json, nothing);
    expect_oauth(app.post("/oauth/introspect").form(&[("token", &token)]).await, 401, "invalid_client");
}

#[tokio::test]
async fn a_token_is_checked_with_the_published_keys() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_password().await;
    let token = alice.tokens().await.text("access_token");

    let published = app.get("/.well-known/jwks.json").await.expect_ok();
    let keys: JwkSet = serde_json::from_value(published.json.clone()).expect("a JWK set");
    let header = jsonwebtoken::decode_header(&token).expect("a header");
    let key = keys.find(header.kid.as_deref().expect("a key id")).expect("the key");
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&["countersign"]);
    validation.set_issuer(&["https://countersign.test"]);
    validation.validate_exp = false;
    let decoding = DecodingKey::from_jwk(key).expect("a key");
    let claims = jsonwebtoken::decode::<Value>(&token, &decoding, &validation).expect("our token").claims;

    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    assert_eq!((&claims["sub"], &claims["org"]), (&json!(alice.id), &json!(app.organisation)));
    assert_eq!(claims["exp"].as_i64(), Some(app.now().seconds() + 600));
    assert!(published.json["keys"][0].get("d").is_none(), "the private part stays here");
}

#[tokio::test]
async fn the_metadata_names_endpoints_that_exist() {
    let app = TestApp::start().await;

    let metadata = app.get("/.well-known/oauth-authorization-server").await.expect_ok();

    assert_eq!(metadata["issuer"], "https://countersign.test");
    for name in ["token_endpoint", "revocation_endpoint", "introspection_endpoint", "jwks_uri"] {
        let path = metadata.text(name).replace("https://countersign.test", "");
        assert_ne!(app.get(&path).await.status, 404, "{name}");
    }
    for grant in metadata["grant_types_supported"].as_array().expect("grants") {
        let answer = app.token(&[("grant_type", grant.as_str().expect("text"))]).await;
        assert_ne!(answer.error(), "unsupported_grant_type", "{grant}");
    }
    expect_oauth(app.token(&[("grant_type", "implicit")]).await, 400, "unsupported_grant_type");
    expect_oauth(app.token(&[]).await, 400, "invalid_request");
}

#[tokio::test]
async fn a_client_asks_for_fewer_scopes_and_never_for_more() {
    let app = TestApp::start().await;
    let client = app.client(&["verify", "users:read"]).await;
    let ask = |scope: &str| {
        app.token(&[("grant_type", "client_credentials"), ("scope", scope)]).by(&client.credentials())
    };

    let narrow = ask("verify").await.expect_ok();
    assert_eq!(narrow["scope"], "verify");
    app.get("/v1/users").by(&bearer(&narrow)).await.expect_problem(403, "insufficient_scope");
    let wide = ask("users:read verify").await.expect_ok();
    app.get("/v1/users").by(&bearer(&wide)).await.expect_ok();
    expect_oauth(ask("verify admin").await, 400, "invalid_scope");
    expect_oauth(ask("verify everything").await, 400, "invalid_scope");

    let path = format!("/v1/clients/{}", client.id);
    app.patch(&path).by(&app.root()).json(json!({ "scopes": ["verify"] })).await.expect_ok();
    let answer = app.get("/v1/users").by(&bearer(&wide)).await;
    assert!(answer.status == 401 || answer.status == 403, "a scope taken away is gone from tokens too");
}

#[tokio::test]
async fn a_client_proves_itself_in_one_way() {
    let app = TestApp::start().await;
    let client = app.client(&["verify"]).await;
    let form = [("grant_type", "client_credentials")];
    let named = |secret: &str| {
        let members = [("client_id", &*client.id), ("client_secret", secret)];
        app.token(&[form[0], members[0], members[1]])
    };

    named(&client.secret).await.expect_ok();
    app.token(&form).by(&client.credentials()).await.expect_ok();
    let refused = expect_oauth(named("cs_wrong").await, 401, "invalid_client");
    assert!(refused.header("www-authenticate").is_some_and(|text| text.starts_with("Basic ")));
    expect_oauth(app.token(&form).await, 401, "invalid_client");
    let nobody = Credentials::basic("0190163d-8694-739b-aea5-966c26f8ad91", &client.secret);
    expect_oauth(app.token(&form).by(&nobody).await, 401, "invalid_client");
    expect_oauth(named(&client.secret).by(&client.credentials()).await, 400, "invalid_request");
}

#[tokio::test]
async fn two_secrets_of_a_client_overlap_for_as_long_as_was_said() {
    let app = TestApp::start().await;
    let client = app.client(&["verify", "users:read"]).await;
    let path = format!("/v1/clients/{}/secret", client.id);
    let rotate = async |body: Value| app.post(&path).by(&app.root()).json(body).await.expect_created();
    let status = async |secret: &str| {
        app.get("/v1/users").by(&Credentials::basic(&client.id, secret)).await.status.as_u16()
    };

    let rotated = rotate(json!({ "overlapSeconds": 3600 })).await;
    let next = rotated.text("secret");
    assert_eq!(rotated["expiresPrevious"], "2026-11-22T11:00:00.000Z");
    assert_eq!((status(&client.secret).await, status(&next).await), (200, 200));
    app.advance(3599);
    assert_eq!(status(&client.secret).await, 200);
    app.advance(1);
    assert_eq!((status(&client.secret).await, status(&next).await), (401, 200));

    let last = rotate(json!({ "overlapSeconds": 0 })).await.text("secret");
    assert_eq!((status(&next).await, status(&last).await), (401, 200));
}

#[tokio::test]
async fn an_invitation_sets_a_password_once_and_in_time() {
    let app = TestApp::start().await;
    let alice = app.user("alice").await;
    let invite = async || {
        let invited = app.post(&alice.path("/invitation")).by(&app.root()).await.expect_created();
        invited.text("token")
    };
    let accept = |token: &str, password: &str| {
        app.post("/v1/invitations/accept").json(json!({ "token": token, "password": password }))
    };
    let (lapsed, token) = (invite().await, invite().await);

    accept(&lapsed, PASSWORD).await.expect_problem(410, "token_gone");
    accept("csi_nonsense", PASSWORD).await.expect_problem(410, "token_gone");
    for weak in ["short", "password1234", "alice-2026-1", &"x".repeat(129)] {
        let refused = accept(&token, weak).await.expect_problem(400, "invalid_value");
        assert_eq!(refused["field"], "password");
    }
    accept(&token, PASSWORD).await.expect(204);
    accept(&token, ANOTHER_PASSWORD).await.expect_problem(410, "token_gone");
    let session = alice.session().await;

    let late = invite().await;
    app.advance(72 * 3600);
    accept(&late, ANOTHER_PASSWORD).await.expect_problem(410, "token_gone");
    let again = invite().await;
    accept(&again, ANOTHER_PASSWORD).await.expect(204);
    app.get("/v1/me").by(&session).await.expect(401);
    expect_oauth(alice.sign_in(PASSWORD).await, 400, "invalid_grant");
    alice.sign_in(ANOTHER_PASSWORD).await.expect_ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_accept_one_invitation_one_sets_the_password() {
    let app = TestApp::start().await;
    let alice = app.user("alice").await;
    let invited = app.post(&alice.path("/invitation")).by(&app.root()).await.expect_created();

    let accept = |number: usize| {
        let body = json!({ "token": invited["token"], "password": format!("{PASSWORD}-{number}") });
        app.post("/v1/invitations/accept").json(body)
    };
    let answers = at_once((0..8).map(accept)).await;

    let winners: Vec<usize> = (0..8).filter(|number| answers[*number].status == 204).collect();
    assert_eq!(winners.len(), 1);
    alice.sign_in(&format!("{PASSWORD}-{}", winners[0])).await.expect_ok();
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_password().await;
    let (here, there) = (alice.tokens().await, alice.tokens().await);
    let change = |current: &str, new: &str| {
        app.post("/v1/me/password").by(&bearer(&here)).json(json!({ "current": current, "new": new }))
    };

    let wrong = change(ANOTHER_PASSWORD, "meadow-trumpet-19-iron").await;
    assert_eq!(wrong.expect_problem(400, "password_rejected")["field"], "current");
    assert_eq!(change(PASSWORD, "short").await.expect_problem(400, "invalid_value")["field"], "new");
    change(PASSWORD, ANOTHER_PASSWORD).await.expect(204);

    app.get("/v1/me").by(&bearer(&here)).await.expect_ok();
    app.get("/v1/me").by(&bearer(&there)).await.expect_problem(401, "invalid_token");
    expect_oauth(refresh(&app, &there.text("refresh_token")).await, 400, "invalid_grant");
    refresh(&app, &here.text("refresh_token")).await.expect_ok();
    expect_oauth(alice.sign_in(PASSWORD).await, 400, "invalid_grant");
}

#[tokio::test]
async fn signing_out_ends_this_session_only() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_password().await;
    let (here, there) = (alice.tokens().await, alice.tokens().await);

    app.delete("/v1/me/session").by(&bearer(&here)).await.expect(204);

    app.get("/v1/me").by(&bearer(&here)).await.expect_problem(401, "invalid_token");
    expect_oauth(refresh(&app, &here.text("refresh_token")).await, 400, "invalid_grant");
    app.get("/v1/me").by(&bearer(&there)).await.expect_ok();
}

#[tokio::test]
async fn somebody_who_was_disabled_comes_back_without_their_old_sessions() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    app.policy(json!({ "requirement": "off" })).await;
    let tokens = alice.tokens().await;
    app.policy(json!({ "requirement": "optional" })).await;
    let mfa_token = alice.sign_in(PASSWORD).await.text("mfa_token");
    let set = async |status: &str| {
        app.patch(&alice.path("")).by(&app.root()).json(json!({ "status": status })).await.expect_ok()
    };

    set("disabled").await;
    expect_oauth(alice.sign_in(PASSWORD).await, 400, "invalid_grant");
    expect_oauth(second_step(&app, &mfa_token, &alice.code()).await, 400, "invalid_grant");
    set("active").await;

    app.get("/v1/me").by(&bearer(&tokens)).await.expect_problem(401, "invalid_token");
    expect_oauth(refresh(&app, &tokens.text("refresh_token")).await, 400, "invalid_grant");
    expect_oauth(second_step(&app, &mfa_token, &alice.code()).await, 400, "invalid_grant");
}

#[tokio::test]
async fn a_password_locks_apart_from_second_factors_and_comes_back() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    for _ in 0..10 {
        expect_oauth(alice.sign_in(ANOTHER_PASSWORD).await, 400, "invalid_grant");
    }

    expect_oauth(alice.sign_in(PASSWORD).await, 400, "invalid_grant");
    assert!(alice.verify(alice.code()).await.accepted(), "the second factor has its own budget");
    assert_eq!(app.count("alice", "password.locked").await, 1);
    app.advance(30);
    assert_eq!(alice.sign_in(PASSWORD).await.error(), "mfa_required");
}

#[tokio::test]
async fn a_locked_password_is_shown_and_unlocked_where_that_is_asked_for() {
    let app = TestApp::start().await;
    let (alice, root) = (app.user("alice").with_password().await, app.root());
    for _ in 0..10 {
        alice.sign_in(ANOTHER_PASSWORD).await;
    }
    let unlock = async |body: Value| {
        app.post(&alice.path("/unlock")).by(&root).json(body).await.expect_ok()["passwordLocked"].clone()
    };

    let methods_only = unlock(json!({})).await;
    expect_oauth(alice.sign_in(PASSWORD).await, 400, "invalid_grant");
    let with_password = unlock(json!({ "methods": [], "password": true })).await;

    assert_eq!((methods_only, with_password), (json!(true), json!(false)));
    assert_eq!(app.count("alice", "password.unlocked").await, 1);
    alice.sign_in(PASSWORD).await.expect_ok();
}

#[tokio::test]
async fn staff_end_all_sessions_and_open_sign_ins() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_password().await;
    let tokens = alice.sign_in(PASSWORD).await.expect_ok();

    app.delete(&alice.path("/sessions")).by(&app.root()).await.expect(204);
    app.delete(&alice.path("/sessions")).by(&app.root()).await.expect(204);

    app.get("/v1/me").by(&bearer(&tokens)).await.expect_problem(401, "invalid_token");
    expect_oauth(refresh(&app, &tokens.text("refresh_token")).await, 400, "invalid_grant");
    assert_eq!(app.count("alice", "session.revoked").await, 1);
}

#[tokio::test]
async fn one_kind_of_factor_is_reset_and_the_others_stay() {
    let app = TestApp::start().await;
    let (alice, root) = (app.user("alice").with_totp().await, app.root());
    let seed = json!({ "type": "hotp", "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" });
    app.post(&alice.path("/factors")).by(&root).json(seed).await.expect_created();

    let reset = json!({ "type": "totp" });
    app.post(&alice.path("/reset")).by(&root).json(reset).await.expect_ok();

    let left = app.get(&alice.path("/factors")).by(&root).await.expect_ok();
    let kinds: Vec<&Value> =
        left["items"].as_array().expect("items").iter().map(|one| &one["type"]).collect();
    assert_eq!(kinds, ["hotp"]);
    assert_eq!(app.count("alice", "factor.reset").await, 1);
    let recovery = app.post(&alice.path("/reset")).by(&root).json(json!({ "type": "recovery" })).await;
    recovery.expect_problem(400, "invalid_value");
}

#[tokio::test]
async fn a_password_in_a_form_is_not_cut_where_an_address_would_end() {
    // Clients leave signs as they are that mean something in an address; what followed a `#` was passed over.
    let app = TestApp::start().await;
    let root = app.root();
    app.user("alice").with_password().await;
    let session = |path: &str, password: &str| {
        let body = format!("grant_type=password&username=alice&password={password}").into_bytes();
        app.post(path).by(&root).body("application/x-www-form-urlencoded", body)
    };

    for path in
        ["/oauth/token", "/veeam/api/oauth2/token", "/reltio/oauth/token", "/safeshare/api/oauth/token"]
    {
        for more in ["#", "#more", "\"", "<", "{", "\u{e9}"] {
            let answer = session(path, &format!("{PASSWORD}{more}")).await;
            assert!([400, 401].contains(&answer.status.as_u16()), "{path} {more}: {}", answer.shown());
        }
        assert_eq!(
            app.count("alice", "login.rejected").await,
            6,
            "{path}: tried, and not only refused as a form"
        );
        session(path, PASSWORD).await.expect_ok();
        app.delete("/v1/users/alice").by(&root).await.expect(204);
        app.user("alice").with_password().await;
    }
}

/// Everything of an answer that somebody could tell others by.
fn looks(answer: &Answer) -> (u16, String, BTreeMap<String, String>) {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "x-request-id");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()));
    (answer.status.as_u16(), answer.shown(), headers.collect())
}

/// Promise 7.
#[tokio::test]
async fn refused_sign_ins_look_and_cost_the_same_whatever_the_reason() {
    let app = TestApp::start().await;
    let root = app.root();
    app.user("known").with_password().await;
    app.user("no-password").await;
    let locked = app.user("locked").with_password().await;
    for _ in 0..10 {
        locked.sign_in(ANOTHER_PASSWORD).await;
    }
    let disabled = app.user("disabled").with_password().await;
    app.patch(&disabled.path("")).by(&root).json(json!({ "status": "disabled" })).await.expect_ok();
    let deleted = app.user("deleted").with_password().await;
    app.delete(&deleted.path("")).by(&root).await.expect(204);

    let mut seen = Vec::new();
    for (username, password, organisation) in [
        ("known", ANOTHER_PASSWORD, "main"),
        ("unknown", ANOTHER_PASSWORD, "main"),
        ("unknown@example.com", PASSWORD, "main"),
        ("no-password", PASSWORD, "main"),
        ("locked", PASSWORD, "main"),
        ("locked", ANOTHER_PASSWORD, "main"),
        ("disabled", PASSWORD, "main"),
        ("disabled", ANOTHER_PASSWORD, "main"),
        ("deleted", PASSWORD, "main"),
        ("known", PASSWORD, "nowhere"),
        ("known", PASSWORD, "0190163d-8694-739b-aea5-966c26f8ad91"),
        ("", PASSWORD, "main"),
        (&"x".repeat(5000), PASSWORD, "main"),
    ] {
        let form = [("username", username), ("password", password), ("organisation", organisation)];
        let before = app.commits();
        let answer = app.token(&[("grant_type", "password"), form[0], form[1], form[2]]).await;
        let commits = app.commits() - before;
        seen.push((format!("{username:.20} in {organisation}"), looks(&answer), commits));
    }

    let (_, first, _) = &seen[0];
    assert_eq!((first.0, first.1.contains("invalid_grant")), (400, true));
    for (who, looks, commits) in &seen {
        assert_eq!(looks, first, "{who}");
        assert_eq!(*commits, 1, "{who}: a durable commit");
    }
}

/// Promise 7, for whoever has the password and guesses the code.
#[tokio::test]
async fn refused_second_steps_look_the_same_whatever_the_reason() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let used = alice.code();
    alice.verify(&used).await;
    let mfa_token = alice.sign_in(PASSWORD).await.text("mfa_token");

    let replayed = second_step(&app, &mfa_token, &used).await;
    let wrong = second_step(&app, &mfa_token, &alice.wrong_code()).await;
    alice.lock().await;
    app.advance(30 - 1);
    let locked = second_step(&app, &mfa_token, &alice.code()).await;

    assert_eq!(looks(&wrong), looks(&replayed));
    assert_eq!(looks(&wrong), looks(&locked));
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let app = TestApp::start_with(|config| config.limits.sign_ins = 2).await;
    let form = [("grant_type", "password"), ("username", "nobody"), ("password", PASSWORD)];
    let mut last = app.token(&form).await;
    for _ in 0..20 {
        last = app.token(&form).await;
        if last.status == 429 {
            break;
        }
    }

    let limited = last.expect_problem(429, "rate_limited");
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(limited["retryAfter"], 1);
}

#[tokio::test]
async fn a_second_factor_that_is_switched_off_is_asked_for_no_more() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    alice.sign_in(PASSWORD).await.expect(400);
    let path = alice.path("/mfa");

    app.policy(json!({ "requirement": "enforced" })).await;
    app.delete(&path).by(&app.root()).await.expect_problem(409, "mfa_enforced");
    app.policy(json!({ "requirement": "optional" })).await;
    app.delete(&path).by(&app.root()).await.expect(204);

    let session = alice.session().await;
    app.delete("/v1/me/mfa").by(&session).await.expect(204);
    assert_eq!(app.count(&alice.id, "mfa.switched_off").await, 1, "one that is off stays off");
    assert_eq!(alice.verify(alice.code()).await.refusal(), Some("no_factor"));
}

#[tokio::test]
async fn an_access_token_does_not_outlive_its_session() {
    let app = TestApp::start().await;
    app.policy(json!({ "sessions": { "accessSeconds": 3600, "refreshSeconds": 300 } })).await;
    let alice = app.user("alice").with_password().await;

    let tokens = alice.tokens().await;

    assert_eq!(tokens["expires_in"], 300);
}
