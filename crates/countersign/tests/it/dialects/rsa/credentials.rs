//! §1: addresses, administration keys and their tokens, OAuth clients, the envelope.

use super::{API, AUDIENCE, HELP_DESK, SUPER, Tenant, expect_envelope, key};
use crate::{
    signing::{EcKey, RsaKey, Signer, unsigned},
    test_app::{Answer, Credentials, TestApp},
};
use data_encoding::BASE64URL_NOPAD;
use http::Method;
use serde_json::{Value, json};

/// Looks somebody up with a token.
async fn ask(tenant: &Tenant, token: &str) -> Answer {
    let body = json!({ "email": "mira@example.com" });
    let path = format!("{API}/v1/users/lookup");
    tenant.app.post(&path).by(&Credentials::bearer(token)).json(body).await
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().expect("an object").remove(name);
    claims
}

#[tokio::test]
async fn section_1_4_what_clients_really_send_is_taken() {
    let tenant = Tenant::start().await;
    tenant.app.user("mira").await;
    let now = tenant.app.now().seconds();
    let claims = || tenant.claims();
    let audience = |aud: Value| with(claims(), "aud", aud);
    let base = AUDIENCE.strip_suffix("/v1").expect("a version");
    let fraction = |seconds: i64| json!(seconds as f64 + 0.734_501);

    for (row, claims) in [
        ("§1.4 exp = now + exactly 3600", claims()),
        ("§1.4 60 s of skew on the lifetime", with(claims(), "exp", json!(now + 3660))),
        ("§1.4 fractional iat and exp", {
            with(with(claims(), "iat", fraction(now - 1)), "exp", fraction(now + 3599))
        }),
        ("§1.4 quoted iat and exp", {
            with(with(claims(), "iat", json!(now.to_string())), "exp", json!((now + 60).to_string()))
        }),
        ("§1.4 iat 58 minutes in the future", {
            with(with(claims(), "iat", json!(now + 3480)), "exp", json!(now + 3480))
        }),
        ("§1.4 iat one hour in the past", {
            with(with(claims(), "iat", json!(now - 3600)), "exp", json!(now + 30))
        }),
        ("acceptance 11: expired by 30 s", with(claims(), "exp", json!(now - 30))),
        ("§1.4 aud without /v1", audience(json!(base))),
        ("§1.4 aud with a slash at the end", audience(json!(format!("{base}/")))),
        ("§1.4 aud with /v1/", audience(json!(format!("{AUDIENCE}/")))),
        ("§1.4 aud as an array", audience(json!(["https://elsewhere.test/", AUDIENCE]))),
        ("§1.4 other claims are ignored", with(with(claims(), "nbf", json!("never")), "jti", json!(7))),
    ] {
        let answer = ask(&tenant, &tenant.key.sign(&claims)).await;
        assert_eq!(answer.status, 200, "{row}: {}", answer.shown());
    }
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "unknown to us" });
    ask(&tenant, &tenant.key.sign_with(&header, &claims())).await.expect_ok();
    let token = tenant.key.sign(&claims());
    for _ in 0..3 {
        ask(&tenant, &token).await.expect_ok();
    }
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let header = Credentials::raw(&format!("{scheme} {token}"));
        let call = tenant.app.post(&format!("{API}/v1/users/lookup")).by(&header);
        call.json(json!({ "email": "mira@example.com" })).await.expect_ok();
    }
}

#[tokio::test]
async fn acceptance_10_what_is_wrong_with_a_token_is_a_403_and_changes_nothing() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    let stranger = RsaKey::generate();
    let now = tenant.app.now().seconds();
    let claims = || tenant.claims();
    let sign = |claims: Value| tenant.key.sign(&claims);
    let header = |header: Value| tenant.key.sign_with(&header, &claims());
    let ec = EcKey::generate();
    let by_ec = {
        let body = json!({ "name": "ec", "scopes": SUPER, "publicKeys": [ec.public_jwk()] });
        let root = tenant.app.root();
        tenant.app.post("/v1/clients").by(&root).json(body).await.expect_created().text("id")
    };
    let none = format!("{}.", unsigned(&json!({ "typ": "JWT", "alg": "none" }), &claims()));
    // HS256 with the public key as the secret: an old trick (RFC 8725 §2.1).
    let jwk = Signer::public_jwk(tenant.key).to_string();
    let message = unsigned(&json!({ "typ": "JWT", "alg": "HS256" }), &claims());
    let mac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, jwk.as_bytes());
    let mac = BASE64URL_NOPAD.encode(aws_lc_rs::hmac::sign(&mac, message.as_bytes()).as_ref());
    let before = tenant.app.heads().await;

    let bearer = |token: String| Credentials::bearer(&token);
    for (row, credentials) in [
        ("no header", Credentials::NONE),
        ("Basic", tenant.app.root()),
        ("another scheme", Credentials::raw("Digest x")),
        ("no token", Credentials::raw("Bearer ")),
        ("garbage", bearer("garbage".into())),
        ("garbage in three parts", bearer("x.y.z".into())),
        ("none", bearer(none)),
        ("HS256", bearer(format!("{message}.{mac}"))),
        ("wrong key", bearer(stranger.sign(&claims()))),
        ("ES256", bearer(ec.sign(&with(claims(), "sub", json!(by_ec))))),
        ("an alg the key is not for", bearer(header(json!({ "typ": "JWT", "alg": "RS512" })))),
        ("typ is not JWT", bearer(header(json!({ "typ": "at+jwt", "alg": "RS256" })))),
        ("no typ", bearer(header(json!({ "alg": "RS256" })))),
        ("an extension", bearer(header(json!({ "typ": "JWT", "alg": "RS256", "crit": ["x"], "x": 1 })))),
        ("unknown sub", bearer(sign(with(claims(), "sub", json!("0190163d-8694-739b-aea5-966c26f8ad91"))))),
        ("sub is no id", bearer(sign(with(claims(), "sub", json!("help desk bot"))))),
        ("sub of a client with a secret", bearer(sign(with(claims(), "sub", json!(tenant.app.client_id))))),
        ("no sub", bearer(sign(without(claims(), "sub")))),
        ("no iat", bearer(sign(without(claims(), "iat")))),
        ("no exp", bearer(sign(without(claims(), "exp")))),
        ("no aud", bearer(sign(without(claims(), "aud")))),
        ("expired > 60 s", bearer(sign(with(claims(), "exp", json!(now - 60))))),
        ("issued over an hour ago", bearer(sign(with(claims(), "iat", json!(now - 3661))))),
        ("lifetime > 1 h + 60 s", bearer(sign(with(claims(), "exp", json!(now + 3661))))),
        (
            "lifetime > 1 h + 60 s, issued in the future",
            bearer(sign(with(with(claims(), "iat", json!(now + 3600)), "exp", json!(now + 7200)))),
        ),
        ("exp is not a time", bearer(sign(with(claims(), "exp", json!("tomorrow"))))),
        ("exp beyond all times", bearer(sign(with(claims(), "exp", json!(1e300))))),
        (
            "wrong aud: host",
            bearer(sign(with(claims(), "aud", json!(AUDIENCE.replace(".test", ".test.evil"))))),
        ),
        ("wrong aud: path", bearer(sign(with(claims(), "aud", json!(format!("{AUDIENCE}/users")))))),
        ("wrong aud: below another prefix", {
            bearer(sign(with(claims(), "aud", json!(AUDIENCE.replace("/rsa/", "/")))))
        }),
        ("origin-only aud, which is switched off", {
            bearer(sign(with(claims(), "aud", json!("https://countersign.test"))))
        }),
        ("aud is no address", bearer(sign(with(claims(), "aud", json!("countersign"))))),
        ("aud is empty", bearer(sign(with(claims(), "aud", json!([]))))),
    ] {
        let path = format!("{API}/v1/users/{}/methods", user.id);
        let call = tenant.app.patch(&path).by(&credentials);
        let answer = call.json(json!({ "unlockMethods": ["SMS"] })).await;
        assert_eq!(answer.status, 403, "{row}: {}", answer.shown());
        expect_envelope(&answer, 403);
    }
    assert_eq!(tenant.app.heads().await, before);
}

/// Somebody who may not ask learns nothing, neither of ids nor of bodies nor of people.
#[tokio::test]
async fn section_1_4_who_is_nobody_learns_nothing() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;

    for path in ["not-a-uuid", "00000000-0000-4000-8000-000000000000", user.id.as_str()] {
        for body in ["", "{", r#"{"unlockMethods":["SMS"]}"#] {
            let call = tenant.app.patch(&format!("{API}/v1/users/{path}/methods"));
            expect_envelope(&call.body("application/json", body.into()).await, 403);
        }
    }
}

#[tokio::test]
async fn section_1_4_the_host_of_the_request_makes_no_audience() {
    let tenant = Tenant::start().await;
    tenant.app.user("mira").await;
    let aud = json!(AUDIENCE.replace("countersign.test", "evil.test"));
    let token = tenant.key.sign(&with(tenant.claims(), "aud", aud));

    let call = tenant.app.post(&format!("{API}/v1/users/lookup")).header("host", "evil.test");
    let answer = call.by(&Credentials::bearer(&token)).json(json!({ "email": "mira@example.com" })).await;

    expect_envelope(&answer, 403);
}

#[tokio::test]
async fn section_1_4_an_audience_of_scheme_and_host_is_taken_where_that_is_switched_on() {
    let tenant = Tenant::start_with(|config| config.dialects.rsa.origin_audience = true).await;
    tenant.app.user("mira").await;
    let by = |aud: &str| tenant.key.sign(&with(tenant.claims(), "aud", json!(aud)));

    for aud in ["https://countersign.test", "https://countersign.test/", AUDIENCE] {
        ask(&tenant, &by(aud)).await.expect_ok();
    }
    for aud in ["https://elsewhere.test", "https://countersign.test/rsa", "/"] {
        ask(&tenant, &by(aud)).await.expect(403);
    }
}

#[tokio::test]
async fn section_1_1_on_a_host_of_its_own_the_api_begins_at_the_root() {
    let tenant =
        Tenant::start_with(|config| config.dialects.rsa.hosts = vec!["acme.access.test".into()]).await;
    tenant.app.user("mira").await;
    let aud = json!("https://acme.access.test/AdminInterface/restapi/v1");
    let token = Credentials::bearer(&tenant.key.sign(&with(tenant.claims(), "aud", aud)));
    let call = |path: &str| tenant.app.post(path).header("host", "acme.access.test").by(&token);
    let body = || json!({ "email": "mira@example.com" });

    call("/AdminInterface/restapi/v1/users/lookup").json(body()).await.expect_ok();
    let missing =
        call("/AdminInterface/restapi/v1/users/lookup").json(json!({ "email": "x@example.com" })).await;

    assert_eq!(missing.expect(404)["path"], "/AdminInterface/restapi/v1/users/lookup");
    // The prefix goes on working, for key files that were written before.
    ask(&tenant, &tenant.key.sign(&tenant.claims())).await.expect_ok();
}

#[tokio::test]
async fn section_1_1_paths_may_be_joined_carelessly() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;

    for path in ["//v1/users/lookup", "/v1/users/lookup/", "//v1//users/lookup//"] {
        let answer = tenant.send(Method::POST, path, json!({ "username": "mira" })).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.shown());
    }
    tenant.call(Method::GET, &format!("/v1/users/{}/authlogs/", user.id)).await.expect_ok();
    tenant.call(Method::GET, "/v1/adminlog/exportLogs").await.expect_ok();
    for path in ["/v1/Users/lookup", "/v1/users/x/Methods", "/v3/users/lookup", "/v1/nothing", ""] {
        let answer = tenant.send(Method::POST, path, json!({ "username": "mira" })).await;
        expect_envelope(&answer, 404);
    }
}

#[tokio::test]
async fn section_1_2_content_types_matter_only_where_there_is_a_body() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;
    let bogus =
        tenant.call(Method::GET, "/v1/adminlog/exportlogs").body("application/application-json", vec![]);
    bogus.await.expect_ok();
    let path = format!("/v1/users/{}/sync", user.id);
    tenant.call(Method::POST, &path).body("application/json", vec![]).await.expect_ok();
    let path = format!("/v1/users/{}/emergencyTokencodes", user.id);
    tenant.call(Method::DELETE, &path).body("application/json", vec![]).await.expect_ok();

    let any = tenant.call(Method::GET, "/v1/adminlog/exportlogs").header("accept", "*/*");
    any.await.expect_ok();
}

#[tokio::test]
async fn section_1_7_the_envelope() {
    let tenant = Tenant::start().await;

    let answer = tenant.unlock("00000000-0000-4000-8000-000000000000", json!(["SMS"])).await;

    expect_envelope(&answer, 404);
    insta::assert_snapshot!(answer.shown());
}

#[tokio::test]
async fn section_1_3_a_key_that_is_removed_disabled_or_deleted_is_refused_at_once() {
    let tenant = Tenant::start().await;
    tenant.app.user("mira").await;
    let (root, token) = (tenant.app.root(), tenant.key.sign(&tenant.claims()));
    let client = format!("/v1/clients/{}", tenant.access_id);
    ask(&tenant, &token).await.expect_ok();

    let status = |status: &str| tenant.app.patch(&client).by(&root).json(json!({ "status": status }));
    status("disabled").await.expect_ok();
    ask(&tenant, &token).await.expect(403);
    status("active").await.expect_ok();
    ask(&tenant, &token).await.expect_ok();
    tenant.app.patch(&client).by(&root).json(json!({ "scopes": ["audit:read"] })).await.expect_ok();
    ask(&tenant, &token).await.expect(403);
    tenant.app.patch(&client).by(&root).json(json!({ "scopes": HELP_DESK })).await.expect_ok();
    ask(&tenant, &token).await.expect_ok();
    tenant.app.delete(&client).by(&root).await.expect(204);
    ask(&tenant, &token).await.expect(403);
}

/// §1.5: asks for a token with an assertion.
async fn oauth(app: &TestApp, assertion: &str, more: &[(&str, &str)]) -> Answer {
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let mut form = vec![("grant_type", "client_credentials"), ("client_assertion_type", kind)];
    form.push(("client_assertion", assertion));
    form.extend_from_slice(more);
    app.post("/rsa/oauth/token").form(&form).await
}

fn assertion(tenant: &Tenant, id: &str) -> Value {
    let now = tenant.app.now().seconds();
    json!({
        "iss": id, "sub": id, "aud": "https://countersign.test/rsa/oauth/token",
        "iat": now, "exp": now + 300, "jti": "once",
    })
}

#[tokio::test]
async fn section_1_5_an_oauth_client_signs_for_its_tokens() {
    let tenant = Tenant::start().await;
    tenant.app.user("mira").await;
    let ec = EcKey::generate();
    let mut jwk = ec.public_jwk();
    jwk["kid"] = json!("key one");
    let body = json!({ "name": "console", "scopes": HELP_DESK, "publicKeys": [jwk] });
    let id =
        tenant.app.post("/v1/clients").by(&tenant.app.root()).json(body).await.expect_created().text("id");
    let header = json!({ "alg": "ES256", "kid": "key one" });
    let by_ec = |claims: &Value| ec.sign_with(&header, claims);
    let claims = assertion(&tenant, &id);
    let issuer = with(claims.clone(), "aud", json!("https://countersign.test/rsa/oauth"));

    for (row, assertion, more) in [
        ("§1.5 ES256 with kid, client_id and scope", by_ec(&claims), {
            vec![("client_id", id.as_str()), ("scope", "rsa.user.read rsa.user.factor.manage")]
        }),
        ("§1.5 without client_id and scope", by_ec(&claims), vec![]),
        ("§1.5 without iat", by_ec(&without(claims.clone(), "iat")), vec![]),
        ("§1.5 aud is the issuer", by_ec(&issuer), vec![]),
        ("§1.5 RS256", tenant.key.sign(&assertion(&tenant, &tenant.access_id)), vec![]),
    ] {
        let answer = oauth(&tenant.app, &assertion, &more).await;
        assert_eq!(answer.status, 200, "{row}: {}", answer.shown());
        assert_eq!(answer["token_type"], "Bearer", "{row}");
        assert!(answer["expires_in"].as_u64().is_some_and(|seconds| seconds > 0), "{row}");
        ask(&tenant, &answer.text("access_token")).await.expect_ok();
    }
    for (row, assertion) in [
        ("another kid", ec.sign_with(&json!({ "alg": "ES256", "kid": "key two" }), &claims)),
        ("wrong issuer", by_ec(&with(claims.clone(), "iss", json!("someone")))),
        ("wrong audience", by_ec(&with(claims.clone(), "aud", json!("https://elsewhere.test/oauth/token")))),
        ("expired", by_ec(&with(claims.clone(), "exp", json!(tenant.app.now().seconds() - 61)))),
    ] {
        let answer = oauth(&tenant.app, &assertion, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (401, "invalid_client"), "{row}");
    }
    for (row, scope) in [
        ("§1.5 invalid_scope: nothing of it is served", "rsa.agent.cert"),
        ("§1.5 invalid_scope: no such thing", "everything"),
    ] {
        let answer = oauth(&tenant.app, &by_ec(&claims), &[("scope", scope)]).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, "invalid_scope"), "{row}");
    }
    // §1.6: C-py's sets and C-java's list name what is not served; the list begins with an invisible character.
    for set in ["rsa.user.read rsa.user.risky.read", "\u{fffc}rsa.audit.admin rsa.user.read rsa.user.verify"]
    {
        let granted = oauth(&tenant.app, &by_ec(&claims), &[("scope", set)]).await.expect_ok();
        assert_eq!(granted["scope"], "rsa.user.read", "what is not served is not granted: {set}");
    }
    let form = [("grant_type", "password")];
    assert_eq!(
        tenant.app.post("/rsa/oauth/token").form(&form).await.expect(400).error(),
        "unsupported_grant_type"
    );
}

#[tokio::test]
async fn acceptance_14_an_oauth_token_does_what_its_permissions_say() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    let id = tenant.access_id.clone();
    let token = async |scope: &str| {
        let assertion = tenant.key.sign(&assertion(&tenant, &id));
        let answer = oauth(&tenant.app, &assertion, &[("scope", scope)]).await.expect_ok();
        Credentials::bearer(&answer.text("access_token"))
    };
    let unlock = async |by: &Credentials| {
        let call = tenant.app.patch(&format!("{API}/v1/users/{}/methods", user.id)).by(by);
        call.json(json!({ "unlockMethods": ["SMS"] })).await
    };

    let reader = token("rsa.user.read").await;
    expect_envelope(&unlock(&reader).await, 403);
    expect_envelope(&unlock(&token("rsa.user.manage").await).await, 403);
    unlock(&token("rsa.user.factor.manage").await).await.expect_ok();

    tenant.app.advance(24 * 3600);
    let expired = unlock(&reader).await.expect(401);
    assert_eq!((expired.header("www-authenticate"), &expired["status"]), (Some("Bearer"), &json!(401)));
}

#[tokio::test]
async fn section_1_6_a_client_is_granted_no_more_than_it_has() {
    let tenant = Tenant::start().await;
    let id = key(&tenant.app, &["users:read"]).await;
    let token = tenant.key.sign(&assertion(&tenant, &id));

    let all = oauth(&tenant.app, &token, &[]).await.expect_ok();
    let more = oauth(&tenant.app, &token, &[("scope", "rsa.user.manage")]).await;

    assert_eq!(all["scope"], "rsa.user.read rsa.user.sync rsa.authenticator.mobile.read");
    assert_eq!((more.status.as_u16(), more.error()), (400, "invalid_scope"));
}
