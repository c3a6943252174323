//! Reltio, held against its contract: the names of the tests and rows are the contract's sections.

use crate::test_app::{Answer, Call, Client, Credentials, Otp, PASSWORD, Person, TestApp};
use countersign_core::{Channel, Letter, message::Words};
use data_encoding::BASE64;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const FORM: &str = "application/x-www-form-urlencoded";

/// A client of the vendor's.
struct Reltio {
    app: TestApp,
    client: Client,
}

impl Reltio {
    /// Starts with a client and, for every user to enrol what they like, MFA that is optional.
    async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    async fn start_with(policy: Value) -> Self {
        let app = TestApp::start().await;
        // An hour, as the vendor has it.
        app.policy(json!({ "sessions": { "accessSeconds": 3600 } })).await;
        app.policy(policy).await;
        let client = app.client(&["verify"]).await;
        Self { app, client }
    }

    fn call(&self, method: Method, path: &str) -> Call<'_> {
        self.app.call(method, &format!("/reltio/oauth{path}"))
    }

    fn put(&self, path: &str) -> Call<'_> {
        self.call(Method::PUT, path)
    }

    fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    fn basic(&self) -> Credentials {
        self.client.credentials()
    }

    fn token(&self, form: &[(&str, &str)]) -> Call<'_> {
        self.call(Method::POST, "/token").by(&self.basic()).form(form)
    }

    /// Step one, with the right password.
    fn password(&self, username: &str) -> Call<'_> {
        self.token(&[("grant_type", "password"), ("username", username), ("password", PASSWORD)])
    }

    /// Step one, where it asks for a second.
    async fn state_token(&self, username: &str) -> String {
        let answer = self.password(username).await.expect_ok();
        answer["state_token"]["token"].as_str().expect("a state token").to_owned()
    }

    /// Step two.
    fn second_step(&self, state_token: &str, totp: &str) -> Call<'_> {
        self.token(&[("grant_type", "state_token"), ("state_token", state_token), ("totp", totp)])
    }

    /// Signs in without a second step; returns the access token.
    async fn session(&self, username: &str) -> Credentials {
        Credentials::bearer(&self.password(username).await.expect_ok().text("access_token"))
    }

    /// A person who can sign in.
    async fn person(&self, username: &str) -> (Person<'_>, Credentials) {
        let person = self.app.user(username).with_password().await;
        let session = self.session(username).await;
        (person, session)
    }

    /// A person whose username is an address, with a password and a session.
    async fn addressed(&self, username: &str) -> Credentials {
        let new = json!([{ "username": username, "email": username, "password": PASSWORD }]);
        let admin = self.admin().await;
        self.call(Method::POST, "/users").by(&admin).json(new).await.expect_ok();
        self.session(username).await
    }

    /// An administrator with a session.
    async fn admin(&self) -> Credentials {
        self.app.user("the-admin").with_role("admin").with_password().await;
        self.session("the-admin").await
    }

    /// Enrols an app with `PUT associateQRCode`; returns it.
    async fn associate(&self, by: &Credentials) -> Otp {
        let path = "/users/mfa/associateQRCode?mfatype=AUTHENTICATOR";
        let answer = self.put(path).by(by).header("accept", "application/json").await.expect_ok();
        Otp::from_base32(&answer.text("secret"))
    }

    async fn enrol(&self, by: &Credentials) -> Otp {
        let otp = self.associate(by).await;
        self.verify(by, &otp.code(self.app.now())).await.expect_ok();
        otp
    }

    fn verify(&self, by: &Credentials, totp: &str) -> Call<'_> {
        let body = json!({ "mfatype": "AUTHENTICATOR", "totp": totp });
        self.put("/users/mfa/verifyQRCodeEnroll").by(by).json(body)
    }

    async fn details(&self, by: &Credentials) -> Value {
        self.get("/users/mfaDetails").by(by).await.expect_ok().json
    }

    /// Reads the newest code out of the outbox, as the worker would.
    async fn mailed(&self) -> Option<String> {
        let (store, keys, life) =
            (&self.app.app.store, self.app.app.keys.as_ref(), Duration::from_secs(86_400));
        let claimed = store.claim(Channel::Mail, self.app.now(), life, 100).await.expect("a claim");
        claimed.iter().rev().find_map(|message| {
            let letter = Letter::open(message.organisation, message.user, message.id, &message.body, keys);
            match letter.expect("a letter").words {
                Words::Code { code, .. } => Some(code.expose().clone()),
                _ => None,
            }
        })
    }

    async fn enforce(&self) {
        self.app.policy(json!({ "requirement": "enforced" })).await;
    }
}

/// What the vendor's answers have in common.
trait Expected: Sized {
    /// Expects an error in the vendor's shape: both vocabularies, saying the same.
    fn expect_error(self, status: u16, error: &str) -> Self;

    /// Expects the answer where there is nothing to tell.
    fn expect_success(self) -> Self;
}

impl Expected for Answer {
    #[track_caller]
    fn expect_error(self, status: u16, error: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.error(), error, "{}", answer.shown());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer["error_description"], answer["errorMessage"]);
        assert!(answer["errorCode"].is_u64() && answer["errorMessage"].is_string(), "{}", answer.shown());
        assert_eq!(answer.json.as_object().map(serde_json::Map::len), Some(4), "{}", answer.shown());
        answer
    }

    #[track_caller]
    fn expect_success(self) -> Self {
        let answer = self.expect_ok();
        assert_eq!(answer.json, json!({ "status": "success" }));
        answer
    }
}

fn as_pairs(members: &[(&str, &str)]) -> String {
    let encode = |text: &str| text.replace('@', "%40");
    let pairs: Vec<String> =
        members.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

/// §1 and §9.1: one resource, however the client writes its address.
#[tokio::test]
async fn section_1_every_prefix_form_gives_the_same() {
    let reltio = Reltio::start().await;
    let session = reltio.addressed("jo@acme.test").await;
    let expected = reltio.details(&session).await;

    for prefix in ["", "/oauth", "/oauth/oauth", "/services", "/services/oauth", "/services/oauth/oauth"] {
        for end in ["", "/"] {
            let path = |rest: &str| format!("/reltio{prefix}{rest}{end}");
            let details = reltio.app.get(&path("/users/mfaDetails")).by(&session).await.expect_ok();
            assert_eq!(details.json, expected, "{prefix}{end}");
            let grant = [("grant_type", "client_credentials")];
            let token = reltio.app.post(&path("/token")).by(&reltio.basic()).form(&grant).await.expect_ok();
            assert_eq!(token["token_type"], "bearer");
            let associate = format!("{}?mfatype=AUTHENTICATOR", path("/users/mfa/associateQRCode"));
            let picture = reltio.app.put(&associate).by(&session).await.expect_ok();
            assert_eq!(picture.header("content-type"), Some("image/png"));
            for (rest, body) in [
                ("/users/mfa/verifyQRCodeEnroll", json!({ "mfatype": "AUTHENTICATOR", "totp": "12" })),
                ("/users/mfa/verifyEmail", json!({ "mfatype": "AUTHENTICATOR", "totp": "12" })),
                ("/users/mfa/enrollEmail", json!({})),
                ("/users/mfa/resetMyQRCodeEnroll", json!({ "totp": "" , "mfatype": "PIGEON" })),
            ] {
                reltio.app.put(&path(rest)).by(&session).json(body).await.expect(400);
            }
            let reset = path("/users/jo@acme.test/mfa/resetQRCodeEnroll");
            reltio.app.put(&reset).by(&session).await.expect_error(403, "access_denied");
        }
    }
    reltio.app.get("/reltio/oauth/users/mfadetails").by(&session).await.expect(403);
    reltio.get("/nothing").by(&session).await.expect_error(404, "not_found");
}

#[tokio::test]
async fn section_1_on_its_own_host_the_dialect_owns_the_root() {
    let app =
        TestApp::start_with(|config| config.dialects.reltio.hosts = vec!["auth.acme.test".into()]).await;
    let client = app.client(&["verify"]).await.credentials();

    for path in ["/oauth/token", "/token", "/services/oauth/token"] {
        let call = app.post(path).header("host", "auth.acme.test").by(&client);
        call.form(&[("grant_type", "client_credentials")]).await.expect_ok();
    }
}

#[tokio::test]
async fn section_1_addresses_in_paths_are_read_raw_and_encoded() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let new = json!({ "username": "jo+x@acme.test", "email": "jo@work.test" });
    reltio.app.post("/v1/users").by(&reltio.app.root()).json(new).await.expect_created();

    for path in ["jo+x@acme.test", "jo%2Bx%40acme.test", "JO+X@ACME.test", "jo@work.test", "jo%40work.test"] {
        let found = reltio.get(&format!("/users/{path}")).by(&admin).await.expect_ok();
        assert_eq!(found["username"], "jo+x@acme.test", "{path}");
        reltio.put(&format!("/users/{path}/mfa/resetQRCodeEnroll")).by(&admin).await.expect_success();
    }
}

#[tokio::test]
async fn section_1_names_of_paths_are_nobodys_usernames() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;

    for name in ["mfa", "mfaDetails", "groups", "tenants"] {
        let new = json!([{ "username": name }]);
        let by_reltio = reltio.call(Method::POST, "/users").by(&admin).json(new.clone()).await;
        by_reltio.expect_error(400, "invalid_request");
        let natively = reltio.app.post("/v1/users").by(&reltio.app.root()).json(new[0].clone()).await;
        natively.expect_problem(400, "invalid_value");
    }
}

#[tokio::test]
async fn section_3_1_details_show_what_there_is_and_what_is_verified() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let seen = async |session: &Credentials| {
        let answer = reltio.get("/users/mfaDetails").by(session).await.expect_ok();
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.shown()
    };

    let nothing = seen(&session).await;
    reltio.associate(&session).await;
    let pending = seen(&session).await;
    reltio.enrol(&session).await;
    let verified = seen(&session).await;
    reltio.app.policy(json!({ "kinds": ["email"] })).await;
    let switched_off = seen(&session).await;
    reltio.app.policy(json!({ "requirement": "off" })).await;
    let disabled = seen(&session).await;

    let details = |verified| {
        format!(
            r#"{{"availables":["AUTHENTICATOR","EMAIL"],"details":{{"AUTHENTICATOR":{{"verified":{verified}}},"EMAIL":{{"verified":false}}}}}}"#
        )
    };
    assert_eq!((nothing, pending, verified), (details(false), details(false), details(true)));
    insta::assert_snapshot!(switched_off, @r#"{"availables":["EMAIL"],"details":{"AUTHENTICATOR":{"verified":true},"EMAIL":{"verified":false}}}"#);
    insta::assert_snapshot!(disabled, @r#"{"availables":[],"details":{"AUTHENTICATOR":{"verified":true}}}"#);
}

/// §3.2: the answer is what `Accept` prefers.
#[tokio::test]
async fn section_3_2_the_key_comes_as_the_caller_prefers() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let path = "/users/mfa/associateQRCode?mfatype=AUTHENTICATOR";
    let before = reltio.app.heads().await;
    reltio.put(path).by(&session).header("accept", "text/html").await.expect_error(406, "invalid_request");
    assert_eq!(reltio.app.heads().await, before, "what cannot be shown is not begun");

    for (accept, kind) in [
        (None, "image/png"),
        (Some("*/*"), "image/png"),
        (Some("image/*"), "image/png"),
        (Some("application/json, text/plain, */*"), "application/json"),
        (Some("image/svg+xml"), "image/svg+xml"),
        (Some("text/uri-list"), "text/uri-list"),
        (Some("text/plain"), "text/plain"),
    ] {
        let call = reltio.put(path).by(&session);
        let answer = match accept {
            Some(accept) => call.header("accept", accept).await,
            None => call.await,
        };
        let answer = answer.expect_ok();
        assert_eq!(answer.header("content-type"), Some(kind), "{accept:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store, private"));
        assert_eq!(answer.header("vary"), Some("Accept"));
    }
    let png = reltio.put(path).by(&session).await.expect_ok();
    let json = reltio.put(path).by(&session).header("accept", "application/json").await.expect_ok();
    assert!(png.body.starts_with(b"\x89PNG"));
    let uri = json.text("otpauthUri");
    assert!(uri.starts_with("otpauth://totp/"), "{uri}");
    assert!(uri.contains(&format!("secret={}", json.text("secret"))), "{uri}");
    let (bare, data) = (json.text("qrCodeImage"), json.text("qrCode"));
    assert_eq!(data, format!("data:image/png;base64,{bare}"));
    assert!(BASE64.decode(bare.as_bytes()).expect("Base64").starts_with(b"\x89PNG"));
    let mut shown = json.json.clone();
    for member in ["secret", "otpauthUri", "qrCode", "qrCodeImage"] {
        shown[member] = json!("…");
    }
    insta::assert_snapshot!(shown, @r#"{"algorithm":"SHA1","digits":6,"expiresIn":600,"mfatype":"AUTHENTICATOR","otpauthUri":"…","period":30,"qrCode":"…","qrCodeImage":"…","secret":"…"}"#);
}

#[tokio::test]
async fn section_3_2_the_body_means_nothing_and_the_query_everything() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let path = "/users/mfa/associateQRCode";
    let known = format!("{path}?mfatype=AUTHENTICATOR");

    reltio.put(&known).by(&session).json(json!({})).await.expect_ok();
    let configuration = json!({ "status": "ENFORCE", "availables": ["EMAIL"] });
    reltio.put(&known).by(&session).json(configuration).await.expect_ok();
    reltio.put(&format!("{path}?mfatype=authenticator")).by(&session).await.expect_ok();
    reltio.put(&known).by(&session).body("text/plain", b"[anything".to_vec()).await.expect_ok();
    let in_body = json!({ "mfatype": "AUTHENTICATOR" });
    reltio.put(path).by(&session).json(in_body).await.expect_error(400, "invalid_request");
    for query in ["", "?mfatype=", "?mfatype=EMAIL", "?mfatype=SMS"] {
        let answer = reltio.put(&format!("{path}{query}")).by(&session).await;
        answer.expect_error(400, "invalid_request");
    }
    reltio.app.policy(json!({ "kinds": ["email"] })).await;
    reltio.put(&known).by(&session).await.expect_error(400, "invalid_request");
}

#[tokio::test]
async fn section_3_2_a_second_key_replaces_the_first_until_one_is_verified() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let first = reltio.associate(&session).await;
    let second = reltio.associate(&session).await;
    let now = reltio.app.now();

    reltio.verify(&session, &first.code(now)).await.expect_error(400, "invalid_grant");
    reltio.verify(&session, &second.code(now)).await.expect_success();
    let code = second.at(now.seconds().unsigned_abs() / 30 + 1);
    let state = reltio.state_token("jo").await;
    let strong =
        Credentials::bearer(&reltio.second_step(&state, &code).await.expect_ok().text("access_token"));
    let again = reltio.put("/users/mfa/associateQRCode?mfatype=AUTHENTICATOR").by(&strong).await;

    let again = again.expect_error(400, "invalid_request");
    assert_eq!(again["error_description"], "already enrolled; reset the enrolment first");
}

#[tokio::test]
async fn section_3_2_a_pending_key_lapses_after_ten_minutes() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let otp = reltio.associate(&session).await;
    reltio.app.advance(600);

    let late = reltio.verify(&session, &otp.code(reltio.app.now())).await;

    let late = late.expect_error(400, "invalid_grant");
    assert_eq!(late["errorCode"], 4002);
}

/// §3.3 and the leniency of §3: what clients send for the same thing.
#[tokio::test]
async fn section_3_3_a_code_is_taken_in_every_way_it_is_written() {
    for (row, write) in [
        (
            "as printed",
            (|code| format!("{{\n    \"mfatype\": \"AUTHENTICATOR\",\n    \"totp\": \"{code}\"\n}}"))
                as fn(&str) -> String,
        ),
        ("number", |code| {
            format!(r#"{{"mfatype":"AUTHENTICATOR","totp":{}}}"#, code.trim_start_matches('0'))
        }),
        ("spaces", |code| {
            format!(r#"{{"mfatype":"AUTHENTICATOR","totp":" {} {} "}}"#, &code[..3], &code[3..])
        }),
        ("otp", |code| format!(r#"{{"mfatype":"AUTHENTICATOR","otp":"{code}"}}"#)),
        ("mfaType", |code| format!(r#"{{"mfaType":"authenticator","totp":"{code}"}}"#)),
        ("unknown members", |code| {
            format!(r#"{{"mfatype":"AUTHENTICATOR","totp":"{code}","qrCodeId":"7","x":[1]}}"#)
        }),
    ] {
        let reltio = Reltio::start().await;
        let (_, session) = reltio.person("jo").await;
        let otp = reltio.associate(&session).await;
        let body = write(&otp.code(reltio.app.now()));
        assert!(row != "number" || !body.contains(":}"), "a code of zeros");

        for kind in ["application/json", ""] {
            let call = reltio.put("/users/mfa/verifyQRCodeEnroll").by(&session);
            let answer = call.body(kind, body.clone().into_bytes()).await;
            if kind.is_empty() {
                answer.expect_error(400, "invalid_request");
            } else {
                let answer = answer.expect(200);
                assert_eq!(answer.json, json!({ "status": "success" }), "{row}");
            }
        }
    }
}

#[tokio::test]
async fn section_3_3_what_fails_says_why() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let none = reltio.verify(&session, "123456").await.expect_error(400, "invalid_request");
    assert_eq!(none["error_description"], "no enrollment is waiting for its code");
    let otp = reltio.associate(&session).await;
    let wrong = otp.wrong_code(reltio.app.now());

    for body in [
        json!({ "totp": wrong }),
        json!({ "mfatype": "AUTHENTICATOR" }),
        json!({ "mfatype": "SMS", "totp": wrong }),
    ] {
        let call = reltio.put("/users/mfa/verifyQRCodeEnroll").by(&session);
        call.json(body).await.expect_error(400, "invalid_request");
    }
    let malformed = reltio.put("/users/mfa/verifyQRCodeEnroll").by(&session);
    malformed.body("application/json", b"{".to_vec()).await.expect_error(400, "invalid_request");
    for _ in 0..4 {
        let answer = reltio.verify(&session, &wrong).await.expect_error(400, "invalid_grant");
        assert_eq!(answer["errorCode"], 4001);
    }
    let last = reltio.verify(&session, &wrong).await.expect_error(429, "too_many_requests");
    assert!(last.header("retry-after").is_some());
    let after = reltio.verify(&session, &otp.code(reltio.app.now())).await;
    after.expect_error(400, "invalid_request");
}

#[tokio::test]
async fn section_3_3_the_code_of_the_enrolment_does_not_sign_in() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let otp = reltio.enrol(&session).await;
    let state = reltio.state_token("jo").await;

    let code = otp.code(reltio.app.now());
    reltio.second_step(&state, &code).await.expect_error(400, "invalid_grant");
    reltio.app.advance(30);

    reltio.second_step(&state, &otp.code(reltio.app.now())).await.expect_ok();
}

/// §3.4: POST as the vendor's page has it, PUT as its portal has it; JSON and form.
#[tokio::test]
async fn section_3_4_a_state_token_and_a_code_reset() {
    for (method, is_form) in [(Method::POST, false), (Method::PUT, false), (Method::POST, true)] {
        let reltio = Reltio::start().await;
        let (_, session) = reltio.person("jo").await;
        let otp = reltio.enrol(&session).await;
        reltio.app.advance(30);
        let (state, code) = (reltio.state_token("jo").await, otp.code(reltio.app.now()));
        let call = reltio.call(method, "/users/mfa/resetMyQRCodeEnroll").by(&reltio.basic());

        let answer = match is_form {
            true => call.form(&[("stateToken", &state), ("otp", &code)]).await,
            false => {
                call.json(json!({ "state_token": state, "mfatype": "AUTHENTICATOR", "totp": code })).await
            }
        };

        answer.expect_success();
        reltio.get("/users/mfaDetails").by(&session).await.expect_error(401, "invalid_token");
        assert_eq!(reltio.app.count("jo", "factor.reset").await, 1);
        let again = reltio.password("jo").await.expect_ok();
        assert_eq!(again["state_token"]["enrolled"], false, "they must enrol again");
    }
}

#[tokio::test]
async fn section_3_4_what_proves_too_little_resets_nothing() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let otp = reltio.enrol(&session).await;
    let used = otp.code(reltio.app.now());
    reltio.app.advance(30);
    let (state, now) = (reltio.state_token("jo").await, reltio.app.now());
    let (right, wrong) = (otp.code(now), otp.wrong_code(now));
    let other = reltio.app.client(&["verify"]).await.credentials();
    let reset = |by: &Credentials, body: Value| {
        reltio.call(Method::POST, "/users/mfa/resetMyQRCodeEnroll").by(by).json(body)
    };
    let basic = reltio.basic();

    reset(&Credentials::NONE, json!({ "state_token": state, "totp": right }))
        .await
        .expect_error(401, "invalid_client");
    let bad = Credentials::basic(&reltio.client.id, "wrong");
    reset(&bad, json!({ "state_token": state, "totp": right })).await.expect_error(401, "invalid_client");
    reset(&basic, json!({ "totp": right })).await.expect_error(400, "invalid_request");
    reset(&basic, json!({ "state_token": state })).await.expect_error(400, "invalid_request");
    let nobodys = json!({ "state_token": "2f6d0f0a-8a1b-4c39-a4a3-0d9f3c1e7b52", "totp": right });
    reset(&basic, nobodys).await.expect_error(400, "invalid_grant");
    reset(&other, json!({ "state_token": state, "totp": right })).await.expect_error(400, "invalid_grant");
    reset(&basic, json!({ "state_token": state, "totp": wrong })).await.expect_error(400, "invalid_grant");
    reset(&session, json!({ "totp": wrong })).await.expect_error(400, "invalid_grant");
    reset(&session, json!({})).await.expect_error(400, "invalid_request");
    let replayed = reset(&session, json!({ "totp": used })).await.expect_error(400, "invalid_grant");
    assert_eq!(replayed["errorCode"], 4003);

    assert_eq!(reltio.details(&session).await["details"]["AUTHENTICATOR"]["verified"], true);
    let locks = reltio.app.get("/v1/users/jo/locks").by(&reltio.app.root()).await.expect_ok();
    assert_eq!(locks["failures"], 2, "wrong codes are counted");
    assert_eq!(reltio.app.count("jo", "factor.reset").await, 0);
}

#[tokio::test]
async fn section_3_4_a_bearer_resets_with_a_code_and_policy_may_ask_for_none() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let otp = reltio.enrol(&session).await;
    reltio.app.advance(30);
    let body = json!({ "mfatype": "AUTHENTICATOR", "totp": otp.code(reltio.app.now()) });
    let reset = |by: &Credentials, body: Value| {
        reltio.call(Method::POST, "/users/mfa/resetMyQRCodeEnroll").by(by).json(body)
    };

    reset(&session, body).await.expect_success();

    let (_, session) = reltio.person("kim").await;
    reltio.enrol(&session).await;
    reltio.app.policy(json!({ "selfResetRequiresPossession": false })).await;
    let state = reltio.state_token("kim").await;
    reset(&reltio.basic(), json!({ "state_token": state })).await.expect_success();
    assert_eq!(reltio.app.count("kim", "factor.reset").await, 1);
}

#[tokio::test]
async fn section_3_5_an_administrator_resets_the_app_and_leaves_mail() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let (jo, session) = reltio.person("jo").await;
    let mail = json!({ "type": "email", "confirmed": true });
    reltio.app.post(&jo.path("/factors")).by(&reltio.app.root()).json(mail).await.expect_created();
    let seed = json!({ "type": "totp", "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" });
    reltio.app.post(&jo.path("/factors")).by(&reltio.app.root()).json(seed).await.expect_created();
    let reset = || reltio.put("/users/jo/mfa/resetQRCodeEnroll").by(&admin);

    reset().await.expect_success();
    reset().json(json!({})).await.expect_success();
    reset().json(json!({ "mfatype": "AUTHENTICATOR" })).await.expect_success();

    let details = reltio.get("/users/jo/mfaDetails").by(&admin).await.expect_ok();
    assert_eq!(
        details["details"],
        json!({ "AUTHENTICATOR": { "verified": false }, "EMAIL": { "verified": true } })
    );
    reltio.get("/users/mfaDetails").by(&session).await.expect_error(401, "invalid_token");
    assert_eq!(reltio.app.count("jo", "factor.reset").await, 1, "the second time there was nothing to reset");
}

#[tokio::test]
async fn section_3_5_nobody_else_resets_and_no_other_customer_is_reached() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let (_, session) = reltio.person("jo").await;
    reltio.app.user("kim").await;
    let owner = reltio.app.owner().await;
    reltio.app.another_organisation("globex").await;
    reltio.app.user("lee").in_organisation("globex", &owner).await;
    let foreign =
        reltio.app.user("boss").with_role("admin").in_organisation("globex", &owner).with_password().await;
    let foreign = foreign.session().await;
    let reset =
        |name: &str, by: &Credentials| reltio.put(&format!("/users/{name}/mfa/resetQRCodeEnroll")).by(by);

    reset("kim", &session).await.expect_error(403, "access_denied");
    reset("jo", &session).await.expect_error(403, "access_denied");
    reset("nobody", &session).await.expect_error(403, "access_denied");
    reset("nobody", &admin).await.expect_error(404, "not_found");
    reset("lee", &admin).await.expect_error(404, "not_found");
    reset("kim", &foreign).await.expect_error(403, "access_denied");
    reset("kim", &Credentials::NONE).await.expect_error(401, "unauthorized");
    reset("the-admin", &admin).await.expect_success();
}

#[tokio::test]
async fn section_3_6_and_3_7_an_address_is_enrolled_by_the_code_sent_to_it() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let enrol = || reltio.put("/users/mfa/enrollEmail?mfatype=EMAIL").by(&session);
    let verify = |totp: &str| {
        let body = format!("{{\n    \"mfatype\": \"EMAIL\",\n    \"totp\": \"{totp}\"\n}}");
        reltio.put("/users/mfa/verifyEmail").by(&session).body("application/json", body.into_bytes())
    };

    enrol().json(json!({ "email": "somebody@else.test" })).await.expect_error(400, "invalid_request");
    for query in ["", "?mfatype=AUTHENTICATOR"] {
        reltio
            .put(&format!("/users/mfa/enrollEmail{query}"))
            .by(&session)
            .await
            .expect_error(400, "invalid_request");
    }
    assert_eq!(reltio.mailed().await, None);
    enrol().await.expect_success();
    let first = reltio.mailed().await.expect("a mail");
    enrol().await.expect_error(429, "too_many_requests").header("retry-after").expect("when to try again");
    reltio.app.advance(31);
    enrol().json(json!({ "email": "jo@example.com" })).await.expect_success();
    let second = reltio.mailed().await.expect("a mail");
    if first != second {
        verify(&first).await.expect_error(400, "invalid_grant");
    }
    let mismatched = json!({ "mfatype": "AUTHENTICATOR", "totp": second });
    reltio
        .put("/users/mfa/verifyEmail")
        .by(&session)
        .json(mismatched)
        .await
        .expect_error(400, "invalid_request");
    verify(&second).await.expect_success();

    assert_eq!(reltio.details(&session).await["details"]["EMAIL"]["verified"], true);
    reltio.app.advance(31);
    let weak = enrol().await;
    assert!([400, 403].contains(&weak.status.as_u16()), "{}", weak.shown());
}

#[tokio::test]
async fn section_3_7_a_code_by_mail_lapses_after_ten_minutes_and_is_of_the_default_type() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    let enrol = async || {
        reltio.put("/users/mfa/enrollEmail?mfatype=EMAIL").by(&session).await.expect_success();
        reltio.mailed().await.expect("a mail")
    };
    let verify = |body: Value| reltio.put("/users/mfa/verifyEmail").by(&session).json(body);
    let late = enrol().await;
    reltio.app.advance(600);

    verify(json!({ "totp": late })).await.expect_error(400, "invalid_grant");
    let code = enrol().await;
    verify(json!({ "totp": code })).await.expect_success();
}

/// §3.3: the generic call takes codes by mail, too.
#[tokio::test]
async fn section_3_3_the_generic_call_verifies_mail() {
    let reltio = Reltio::start().await;
    let (_, session) = reltio.person("jo").await;
    reltio.put("/users/mfa/enrollEmail?mfatype=EMAIL").by(&session).await.expect_success();
    let code = reltio.mailed().await.expect("a mail");

    let body = json!({ "mfatype": "EMAIL", "totp": code });

    reltio.put("/users/mfa/verifyQRCodeEnroll").by(&session).json(body).await.expect_success();
}

/// §4.1 and §9.7: parameters come by query, form or multipart; POST and PUT; three ways to name the client.
#[tokio::test]
async fn section_4_1_step_one_is_understood_however_it_is_sent() {
    let reltio = Reltio::start().await;
    let session = reltio.addressed("jo@acme.test").await;
    reltio.enrol(&session).await;
    let members = [("grant_type", "password"), ("username", "jo@acme.test"), ("password", PASSWORD)];
    let pairs = as_pairs(&members);
    let parts: String = members
        .iter()
        .map(|(name, value)| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        })
        .collect();
    let Client { id, secret } = &reltio.client;
    let basic = reltio.basic();
    let bearer = Credentials::bearer(&BASE64.encode(format!("{id}:{secret}").as_bytes()));
    let post = |path: &str| reltio.call(Method::POST, path);
    let with_client = format!("{pairs}&client_id={id}&client_secret={secret}");
    let multipart = format!("{parts}--x--\r\n").into_bytes();

    for (row, call) in [
        ("form by POST", post("/token").by(&basic).body(FORM, pairs.clone().into())),
        ("form by PUT", reltio.put("/token").by(&basic).body(FORM, pairs.clone().into())),
        ("query", post(&format!("/token?{pairs}")).by(&basic)),
        ("query by PUT", reltio.put(&format!("/token?{pairs}")).by(&basic)),
        ("multipart", post("/token").by(&basic).body("multipart/form-data; boundary=x", multipart)),
        ("pair after Bearer", reltio.put("/token").by(&bearer).body(FORM, pairs.clone().into())),
        ("client in the form", post("/token").body(FORM, with_client.into())),
    ] {
        let answer = call.await.expect(200);
        let state = &answer["state_token"];
        assert_eq!((&state["mfaType"], &state["enrolled"]), (&json!("AUTHENTICATOR"), &json!(true)), "{row}");
    }
}

#[tokio::test]
async fn section_4_1_the_state_token_is_nested_and_half_of_its_numbers_are_text() {
    let reltio = Reltio::start_with(json!({ "sessions": { "secondStepSeconds": 600 } })).await;
    reltio.app.user("jo").with_totp().with_password().await;

    let answer = reltio.password("jo").await.expect_ok();

    let token = answer["state_token"]["token"].as_str().expect("a token");
    assert_eq!(uuid::Uuid::try_parse(token).map(|uuid| uuid.to_string()).as_deref(), Ok(token));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    insta::assert_snapshot!(answer.shown().replace(token, "…"), @r#"{"expires_in":600,"state_token":{"mfaType":"AUTHENTICATOR","expires_in":"600","status":"ENROLL","token":"…","enrolled":true}}"#);
}

#[tokio::test]
async fn section_4_2_step_two_gives_tokens_once() {
    let reltio = Reltio::start().await;
    let jo = reltio.app.user("jo").with_totp().with_password().await;
    let state = reltio.state_token("jo").await;

    reltio.second_step(&state, &jo.wrong_code()).await.expect_error(400, "invalid_grant");
    let tokens = reltio.second_step(&state, &jo.code()).await.expect_ok();
    reltio.app.advance(30);
    reltio.second_step(&state, &jo.code()).await.expect_error(400, "invalid_grant");

    let mut shown = tokens.json.clone();
    (shown["access_token"], shown["refresh_token"]) = (json!("…"), json!("…"));
    insta::assert_snapshot!(shown, @r#"{"access_token":"…","expires_in":3600,"refresh_token":"…","scope":"users_api","token_type":"bearer"}"#);
    let session = Credentials::bearer(&tokens.text("access_token"));
    assert_eq!(reltio.details(&session).await["details"]["AUTHENTICATOR"]["verified"], true);
    reltio.get("/users/mfaDetails").by(&Credentials::bearer(&state)).await.expect_error(401, "invalid_token");
}

#[tokio::test]
async fn section_4_2_a_state_token_is_its_clients_its_newest_and_over_in_time() {
    let reltio = Reltio::start().await;
    let jo = reltio.app.user("jo").with_totp().with_password().await;
    let other = reltio.app.client(&["verify"]).await;
    let first = reltio.state_token("jo").await;
    let second = reltio.state_token("jo").await;
    let code = jo.code();

    reltio.second_step(&first, &code).await.expect_error(400, "invalid_grant");
    let form = [("grant_type", "state_token"), ("state_token", second.as_str()), ("totp", &code)];
    let foreign = reltio.call(Method::POST, "/token").by(&other.credentials()).form(&form).await;
    foreign.expect_error(400, "invalid_grant");
    let without = [("grant_type", "state_token"), ("state_token", second.as_str())];
    reltio.token(&without).await.expect_error(400, "invalid_request");
    reltio.app.advance(600);
    reltio.second_step(&second, &jo.code()).await.expect_error(400, "invalid_grant");

    let third = reltio.state_token("jo").await;
    reltio.second_step(&third, &jo.code()).await.expect_ok();
}

/// §9.8.
#[tokio::test]
async fn section_4_2_wrong_codes_lock_the_account_and_an_administrator_unlocks_it() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let jo = reltio.app.user("jo").with_totp().with_password().await;
    let state = reltio.state_token("jo").await;
    let user = async || reltio.get("/users/jo").by(&admin).await.expect_ok();
    for _ in 0..5 {
        reltio.second_step(&state, &jo.wrong_code()).await.expect_error(400, "invalid_grant");
    }

    assert_eq!(user().await["accountNonLocked"], false);
    reltio.second_step(&state, &jo.code()).await.expect_error(400, "invalid_grant");
    let mut whole = user().await.json;
    whole["accountNonLocked"] = json!(true);
    let written = reltio.put("/users/jo").by(&admin).json(whole).await.expect_ok();

    assert_eq!(written["accountNonLocked"], true);
    let state = reltio.state_token("jo").await;
    reltio.second_step(&state, &jo.code()).await.expect_ok();
    assert_eq!(reltio.app.count("jo", "method.unlocked").await, 1);
}

#[tokio::test]
async fn section_4_1_mail_is_asked_for_where_no_app_is_verified() {
    let reltio = Reltio::start().await;
    let (jo, _) = reltio.person("jo").await;
    let mail = json!({ "type": "email", "confirmed": true });
    reltio.app.post(&jo.path("/factors")).by(&reltio.app.root()).json(mail).await.expect_created();

    let asked = reltio.password("jo").await.expect_ok();
    let code = reltio.mailed().await.expect("the code is on its way with the answer");

    let state = &asked["state_token"];
    assert_eq!(
        (&state["mfaType"], &state["status"], &state["enrolled"]),
        (&json!("EMAIL"), &json!("ENROLL"), &json!(true))
    );
    reltio.second_step(state["token"].as_str().expect("a token"), &code).await.expect_ok();
    reltio.password("jo").await.expect_error(429, "too_many_requests");
}

/// §4.1, §9.9: who is asked for a code and has enrolled nothing gets one by mail.
#[tokio::test]
async fn section_4_1_enforced_users_without_an_enrolment_get_codes_by_mail() {
    let reltio = Reltio::start().await;
    let (_, _) = reltio.person("jo").await;
    reltio.enforce().await;

    let asked = reltio.password("jo").await.expect_ok();
    let code = reltio.mailed().await.expect("a mail");
    let state = asked["state_token"]["token"].as_str().expect("a token").to_owned();

    let expected = json!(["EMAIL", "ENFORCE", false]);
    let found = ["mfaType", "status", "enrolled"].map(|member| asked["state_token"][member].clone());
    assert_eq!(json!(found), expected);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    reltio.second_step(&state, wrong).await.expect_error(400, "invalid_grant");
    let tokens = reltio.second_step(&state, &code).await.expect_ok();
    let session = Credentials::bearer(&tokens.text("access_token"));
    assert_eq!(reltio.details(&session).await["details"]["EMAIL"]["verified"], true);
}

#[tokio::test]
async fn section_4_3_nobody_is_challenged_without_need() {
    let reltio = Reltio::start().await;
    let jo = reltio.app.user("jo").with_totp().with_password().await;
    reltio.app.user("kim").with_password().await;

    reltio.password("kim").await.expect_ok().text("access_token");
    let by_client = reltio.token(&[("grant_type", "client_credentials")]).await.expect_ok();
    assert_eq!(by_client["refresh_token"], Value::Null);
    let state = reltio.state_token("jo").await;
    let tokens = reltio.second_step(&state, &jo.code()).await.expect_ok();
    reltio.enforce().await;
    let refresh = tokens.text("refresh_token");
    for _ in 0..3 {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
        let again = reltio.token(&form).await.expect_ok();
        assert_eq!(again.text("refresh_token"), refresh, "the vendor's clients keep the first one");
        let session = Credentials::bearer(&again.text("access_token"));
        reltio.get("/users/mfaDetails").by(&session).await.expect_ok();
    }
    reltio.app.policy(json!({ "requirement": "off" })).await;
    reltio.password("jo").await.expect_ok().text("access_token");
}

#[tokio::test]
async fn section_4_4_a_refresh_token_is_its_clients() {
    let reltio = Reltio::start().await;
    reltio.app.user("jo").with_password().await;
    let tokens = reltio.password("jo").await.expect_ok();
    let other = reltio.app.client(&["verify"]).await.credentials();
    let refresh = tokens.text("refresh_token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];

    reltio.call(Method::POST, "/token").by(&other).form(&form).await.expect_error(400, "invalid_grant");
    reltio
        .token(&[("grant_type", "refresh_token"), ("refresh_token", "x")])
        .await
        .expect_error(400, "invalid_grant");
    reltio.token(&form).await.expect_ok();
}

/// What the vendor's own client sends: everything in the query, no body.
#[tokio::test]
async fn section_4_1_the_vendors_own_client_is_answered() {
    let reltio = Reltio::start().await;

    let call = reltio.call(Method::POST, "/token?grant_type=client_credentials").by(&reltio.basic());
    let answer = call.body(FORM, Vec::new()).await.expect_ok();

    assert_eq!(answer["token_type"], "bearer");
    assert!(answer["expires_in"].is_u64() && answer["scope"] == "verify", "{}", answer.shown());
}

#[tokio::test]
async fn section_5_1_a_customers_rules_are_its_policy() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let path = "/customers/main/mfa";
    let set = |body: Value| reltio.put(path).by(&admin).json(body);
    let both = json!(["AUTHENTICATOR", "EMAIL"]);

    let before = reltio.get(path).by(&admin).await.expect_ok();
    assert_eq!(before.json, json!({ "status": "ENROLL", "availables": both }));
    let app_only = json!({ "status": "ENROLL", "availables": ["AUTHENTICATOR"] });
    assert_eq!(set(app_only.clone()).await.expect_ok().json, app_only);
    let without_mail = json!({ "status": "ENFORCE", "availables": ["AUTHENTICATOR"] });
    set(without_mail).await.expect_error(400, "invalid_request");
    let mail_only = json!({ "status": "ENFORCE", "availables": ["EMAIL"] });
    assert_eq!(set(mail_only.clone()).await.expect_ok().json, mail_only, "the app may go at any time");
    let off = json!({ "status": "DISABLED", "availables": both });
    set(off.clone()).await.expect_error(400, "invalid_request");
    for body in [
        json!({ "status": "ENROLL" }),
        json!({ "availables": both }),
        json!({ "status": "OPTIONAL", "availables": both }),
        json!({ "status": "ENROLL", "availables": ["SMS"] }),
    ] {
        set(body).await.expect_error(400, "invalid_request");
    }
    let policy = reltio.app.get("/v1/organisations/main/policy").by(&reltio.app.root()).await.expect_ok();
    assert_eq!(policy["requirement"], "enforced");
    set(json!({ "status": "ENROLL", "availables": both })).await.expect_ok();
    assert_eq!(set(off).await.expect_ok().json, json!({ "status": "DISABLED", "availables": [] }));
}

#[tokio::test]
async fn section_5_1_another_customer_is_refused_and_so_is_everybody_but_the_administrator() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let (_, session) = reltio.person("jo").await;
    reltio.app.another_organisation("globex").await;
    let organisation = reltio.app.organisation.to_string();

    for path in ["", "/mfa", "/passwordPolicy"] {
        reltio.get(&format!("/customers/globex{path}")).by(&admin).await.expect_error(403, "access_denied");
        reltio.get(&format!("/customers/main{path}")).by(&session).await.expect_error(403, "access_denied");
        reltio.get(&format!("/customers/{organisation}{path}")).by(&admin).await.expect_ok();
    }
    let customer = reltio.get("/customers/main").by(&admin).await.expect_ok();
    insta::assert_snapshot!(customer.shown(), @r#"{"caseSensitiveLoginEnabled":false,"customerId":"main","customerName":"Countersign","mfa":{"availables":["AUTHENTICATOR","EMAIL"],"status":"ENROLL"},"passwordPolicy":{"numberOfFailedLoginAttempts":10,"numberOfFailedMFALoginAttempts":5,"passwordRules":[{"max":128,"min":12,"type":".LengthPRule"},{"type":".UsernamePRule"}]}}"#);
}

/// §5.2, §9.9.
#[tokio::test]
async fn section_5_2_enrolling_within_the_sign_in_finishes_it_without_another_code() {
    let reltio = Reltio::start().await;
    reltio.app.user("jo").with_password().await;
    reltio.enforce().await;
    let state = reltio.state_token("jo").await;
    let exchange = [("grant_type", "state_token"), ("state_token", state.as_str())];
    let call = |path: &str| reltio.put(&format!("/users/mfa/{path}")).by(&reltio.basic());

    let key = call("associateQRCodeStateToken").header("accept", "application/json");
    let key = key.json(json!({ "stateToken": state })).await.expect_ok();
    let otp = Otp::from_base32(&key.text("secret"));
    let code = otp.code(reltio.app.now());
    reltio.token(&exchange).await.expect_error(400, "invalid_request");
    let wrong =
        json!({ "state_token": state, "mfatype": "AUTHENTICATOR", "totp": otp.wrong_code(reltio.app.now()) });
    call("verifyEnrollWithStateToken").json(wrong).await.expect_error(400, "invalid_grant");
    let right = json!({ "state_token": state, "mfatype": "AUTHENTICATOR", "otp": code });
    call("verifyEnrollWithStateToken").json(right).await.expect_success();
    let tokens = reltio.token(&exchange).await.expect_ok();
    reltio.token(&exchange).await.expect_error(400, "invalid_grant");

    let session = Credentials::bearer(&tokens.text("access_token"));
    assert_eq!(reltio.details(&session).await["details"]["AUTHENTICATOR"]["verified"], true);
}

#[tokio::test]
async fn section_5_2_mail_is_enrolled_within_the_sign_in_by_query_parameters() {
    let reltio = Reltio::start_with(json!({ "resend": { "pauseSeconds": 0 } })).await;
    reltio.app.user("jo").with_password().await;
    reltio.enforce().await;
    let state = reltio.state_token("jo").await;
    let call = |path: &str| reltio.put(&format!("/users/mfa/{path}")).by(&reltio.basic());

    call(&format!("enrollEmailWithStateToken?stateToken={state}&mfatype=EMAIL")).await.expect_success();
    let code = reltio.mailed().await.expect("a mail");
    let verify = format!("verifyEnrollWithStateToken?state_token={state}&mfatype=EMAIL&totp={code}");
    call(&verify).await.expect_success();

    reltio.token(&[("grant_type", "state_token"), ("state_token", &state)]).await.expect_ok();
}

#[tokio::test]
async fn section_5_2_a_password_adds_no_second_app_and_a_state_token_serves_its_client_only() {
    let reltio = Reltio::start().await;
    reltio.app.user("jo").with_totp().with_password().await;
    let state = reltio.state_token("jo").await;
    let other = reltio.app.client(&["verify"]).await.credentials();
    let body = json!({ "state_token": state, "mfatype": "AUTHENTICATOR", "totp": "123456" });

    let beside =
        reltio.put("/users/mfa/associateQRCodeStateToken").by(&reltio.basic()).json(body.clone()).await;
    beside.expect_error(400, "invalid_request");
    for path in ["associateQRCodeStateToken", "verifyEnrollWithStateToken"] {
        let path = format!("/users/mfa/{path}");
        reltio.put(&path).by(&other).json(body.clone()).await.expect_error(400, "invalid_grant");
        reltio.put(&path).json(body.clone()).await.expect_error(401, "invalid_client");
    }
    let mail = reltio.put("/users/mfa/enrollEmailWithStateToken").by(&reltio.basic());
    mail.json(json!({ "state_token": state })).await.expect_error(403, "access_denied");
}

#[tokio::test]
async fn section_5_3_an_administrator_and_oneself_read_details() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let (_, session) = reltio.person("jo").await;
    reltio.app.user("kim").await;

    let by_admin = reltio.get("/users/jo/mfaDetails").by(&admin).await.expect_ok();
    let own = reltio.get("/users/jo/mfaDetails").by(&session).await.expect_ok();

    assert_eq!(by_admin.shown(), own.shown());
    assert_eq!(own.json, reltio.details(&session).await);
    reltio.get("/users/kim/mfaDetails").by(&session).await.expect_error(403, "access_denied");
    reltio.get("/users/nobody/mfaDetails").by(&session).await.expect_error(403, "access_denied");
    reltio.get("/users/nobody/mfaDetails").by(&admin).await.expect_error(404, "not_found");
}

/// A user as the vendor's page prints one.
fn user(username: &str) -> Value {
    json!({
        "customer": "main", "username": username, "email": format!("{username}@acme.test"),
        "entity": null, "externalTokens": [], "tenants": ["t1"],
        "enabled": true, "accountNonExpired": true, "credentialsNonExpired": true, "accountNonLocked": true,
        "roles": [], "externalUser": false, "locale": "en", "timezone": "UTC",
        "userPermissions": {
            "roles": { "ROLE_API": ["t1"], "ROLE_ADMIN_TENANT": ["t1"] },
            "permissions": {}, "permissionsByService": {},
        },
        "groups": ["g1"],
    })
}

#[tokio::test]
async fn section_5_4_users_are_created_read_overwritten_and_deleted() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let mut new = user("jo");
    new["password"] = json!(PASSWORD);
    new["mfaEnabled"] = json!(true);
    new["firstName"] = json!("Jo");

    let made =
        reltio.call(Method::POST, "/users").by(&admin).json(json!([new, user("kim")])).await.expect_ok();
    let made = made.json.as_array().expect("a list").clone();

    insta::assert_snapshot!(made[0], @r#"{"accountNonExpired":true,"accountNonLocked":true,"credentialsNonExpired":true,"customer":"main","email":"jo@acme.test","enabled":true,"entity":null,"externalTokens":[],"externalUser":false,"firstName":"Jo","groups":["g1"],"lastName":null,"locale":"en","mfaEnabled":true,"roles":[],"tenants":["t1"],"timezone":"UTC","userPermissions":{"permissions":{},"permissionsByService":{},"roles":{"ROLE_ADMIN_TENANT":["t1"],"ROLE_API":["t1"]}},"username":"jo"}"#);
    assert!(!made[0].to_string().contains("assword\":"), "never echoed");
    reltio.password("jo").await.expect_ok().text("access_token");
    let one = reltio.get("/users/jo?resolveGroups=true").by(&admin).await.expect_ok();
    assert_eq!(one.json["mfaEnabled"], true, "unknown members survive");
    let listed = reltio.get("/users").by(&admin).await.expect_ok();
    assert_eq!(listed.json.as_array().map(Vec::len), Some(4));
    let mut changed = user("jo");
    changed["lastName"] = json!("Doe");
    changed["timezone"] = json!("Europe/Berlin");
    let changed = reltio.put("/users/jo").by(&admin).json(changed).await.expect_ok();
    let shown = ["firstName", "lastName", "timezone", "mfaEnabled"].map(|member| changed[member].clone());
    assert_eq!(json!(shown), json!([null, "Doe", "Europe/Berlin", null]), "an overwrite, not a patch");
    reltio.call(Method::DELETE, "/users/kim").by(&admin).await.expect_success();
    reltio.get("/users/kim").by(&admin).await.expect_error(404, "not_found");
}

#[tokio::test]
async fn section_5_4_what_cannot_be_is_refused_by_name() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    reltio.app.user("jo").await;
    let before = reltio.app.heads().await;

    for (member, value, status) in [
        ("customer", json!("globex"), 403),
        ("accountNonLocked", json!(false), 400),
        ("accountNonExpired", json!(false), 400),
        ("credentialsNonExpired", json!(false), 400),
        ("email", json!("jo@"), 400),
        ("enabled", json!("yes"), 400),
        ("roles", json!("ROLE_USER"), 400),
        ("userPermissions", json!("x".repeat(5000)), 400),
    ] {
        let mut body = user("jo");
        body[member] = value;
        let answer = reltio.put("/users/jo").by(&admin).json(body).await.expect(status);
        assert!(
            status == 403 || answer.shown().contains(member) || member == "userPermissions",
            "{}",
            answer.shown()
        );
    }
    for body in ["[]", "7", "{", "[1]"] {
        let call = reltio.put("/users/jo").by(&admin);
        call.body("application/json", body.into()).await.expect_error(400, "invalid_request");
    }
    assert_eq!(reltio.app.heads().await, before);
}

#[tokio::test]
async fn section_5_4_a_list_with_one_that_cannot_be_creates_nobody() {
    // Members were looked at one user after the other, when those before were created already.
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let (mut nameless, mut weak, mut off) = (user("kim"), user("kim"), user("kim"));
    nameless.as_object_mut().expect("a user").remove("username");
    weak["password"] = json!("short");
    off["enabled"] = json!(false);
    let before = reltio.app.heads().await;

    for (wrong, member) in [(nameless, "username"), (weak, "password"), (off, "enabled")] {
        let list = json!([user("jo"), wrong]);
        let answer = reltio.call(Method::POST, "/users").by(&admin).json(list).await;
        assert!(answer.expect(400).shown().contains(member));
    }

    assert_eq!(reltio.app.heads().await, before);
}

#[tokio::test]
async fn section_6_a_role_that_was_taken_does_not_come_back_with_what_was_read() {
    // It stayed among the permissions of single tenants, which are read as roles, too.
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let mut new = user("jo");
    new["userPermissions"]["roles"]["ROLE_ADMIN_CUSTOMER"] = json!(["t1"]);
    let made = reltio.call(Method::POST, "/users").by(&admin).json(json!([new])).await.expect_ok();
    assert_eq!(made.json[0]["roles"], json!(["ROLE_ADMIN_CUSTOMER"]));
    let members = json!({ "roles": ["member"] });
    reltio.app.patch("/v1/users/jo").by(&reltio.app.root()).json(members).await.expect_ok();

    let read = reltio.get("/users/jo").by(&admin).await.expect_ok().json;
    let written = reltio.put("/users/jo").by(&admin).json(read).await.expect_ok();

    assert_eq!(written.json["roles"], json!([]));
    let native = reltio.app.get("/v1/users/jo").by(&reltio.app.root()).await.expect_ok();
    assert_eq!(native.json["roles"], json!(["member"]));
}

#[tokio::test]
async fn section_5_4_an_overwrite_revokes_tokens_unless_told_otherwise() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let (_, session) = reltio.person("jo").await;
    let own = || reltio.get("/users/mfaDetails").by(&session);

    reltio.put("/users/jo?skipTokenRevocation=true").by(&admin).json(user("jo")).await.expect_ok();
    own().await.expect_ok();
    reltio.put("/users/jo").by(&admin).json(user("jo")).await.expect_ok();
    own().await.expect_error(401, "invalid_token");

    let session = reltio.session("jo").await;
    reltio.put("/users/jo/revoketokens").by(&admin).await.expect_success();
    reltio.get("/users/mfaDetails").by(&session).await.expect_error(401, "invalid_token");
}

#[tokio::test]
async fn section_5_4_disabling_and_the_passwords_lock() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    reltio.app.user("jo").with_password().await;
    let wrong = [("grant_type", "password"), ("username", "jo"), ("password", "not-the-one-she-chose")];
    for _ in 0..10 {
        reltio.token(&wrong).await.expect_error(400, "invalid_grant");
    }
    assert_eq!(reltio.get("/users/jo").by(&admin).await.expect_ok()["accountNonLocked"], false);
    reltio.password("jo").await.expect_error(400, "invalid_grant");

    reltio.put("/users/jo").by(&admin).json(user("jo")).await.expect_ok();
    reltio.password("jo").await.expect_ok();
    let mut disabled = user("jo");
    disabled["enabled"] = json!(false);
    assert_eq!(reltio.put("/users/jo").by(&admin).json(disabled).await.expect_ok()["enabled"], false);

    let refused = reltio.password("jo").await.expect_error(400, "invalid_grant");
    let unknown = reltio.password("nobody").await.expect_error(400, "invalid_grant");
    assert_eq!(refused.shown(), unknown.shown());
}

#[tokio::test]
async fn section_5_4_groups_and_tenants() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    reltio.call(Method::POST, "/users").by(&admin).json(json!([user("jo"), user("kim")])).await.expect_ok();

    reltio.put("/users/jo/groups").by(&admin).json(json!(["g1", "g2"])).await.expect_ok();

    assert_eq!(reltio.get("/users/jo/groups").by(&admin).await.expect_ok().json, json!(["g1", "g2"]));
    let names = async |path: &str| {
        let people = reltio.get(path).by(&admin).await.expect_ok();
        people.json.as_array().expect("a list").iter().map(|one| one["username"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("/users/groups/g2").await, ["jo"]);
    assert_eq!(names("/users/groups/g1").await, ["jo", "kim"]);
    let tenants = reltio.get("/users/tenants/t1").by(&admin).await.expect_ok();
    assert_eq!(tenants.json[0], json!({ "username": "jo", "email": "jo@acme.test" }));
    reltio.put("/users/jo/groups").by(&admin).json(json!("g1")).await.expect_error(400, "invalid_request");
}

#[tokio::test]
async fn section_5_5_the_password_policy_is_the_locks_and_the_rest_is_refused_by_name() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let path = "/customers/main/passwordPolicy";
    let set = |body: Value| reltio.put(path).by(&admin).json(body);

    let before = reltio.get(path).by(&admin).await.expect_ok();
    let numbers = json!({ "numberOfFailedLoginAttempts": 7, "numberOfFailedMFALoginAttempts": 3 });
    let changed = set(numbers).await.expect_ok();
    assert_eq!(
        (&changed["numberOfFailedLoginAttempts"], &changed["numberOfFailedMFALoginAttempts"]),
        (&json!(7), &json!(3))
    );
    let policy = reltio.app.get("/v1/organisations/main/policy").by(&reltio.app.root()).await.expect_ok();
    assert_eq!(
        (&policy["passwordLocks"]["threshold"], &policy["locks"]["threshold"]),
        (&json!(7), &json!(3))
    );
    for (member, value) in [
        ("numberOfFailedMFALoginAttempts", json!(21)),
        ("numberOfFailedLoginAttempts", json!(2)),
        ("numberOfFailedLoginAttempts", json!("7")),
        ("inactivePeriodInDays", json!(30)),
        ("expirePeriodInDays", json!(30)),
        ("userSessionTimeoutSeconds", json!(600)),
        ("passwordRules", json!([{ "type": ".HistoryPRule", "lastPasswordVerifyCount": 3 }])),
    ] {
        let answer = set(json!({ member: value })).await.expect_error(400, "invalid_request");
        assert!(answer.text("errorMessage").contains(member), "{}", answer.shown());
    }
    assert_eq!(set(before.json.clone()).await.expect_ok().json, before.json, "what was read can be written");
    assert_eq!(set(json!({})).await.expect_ok().json, before.json, "what is left out is the default");
}

#[tokio::test]
async fn section_5_6_an_administrator_reads_clients_and_nobody_their_secrets() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    let path = "/customers/main/clients";

    let listed = reltio.get(path).by(&admin).await.expect_ok();
    let one = reltio.get(&format!("{path}/{}", reltio.client.id)).by(&admin).await.expect_ok();

    assert_eq!(listed.json.as_array().map(Vec::len), Some(2));
    assert!(listed.json.as_array().expect("a list").contains(&one.json));
    insta::assert_snapshot!(one.shown().replace(&reltio.client.id, "…"), @r#"{"accessTokenValidity":3600,"authorities":[],"authorizedGrantTypes":["password","state_token","refresh_token","client_credentials"],"clientAuthenticationMethods":["client_secret_post","client_secret_basic"],"clientId":"…","clientName":"client verify","enabled":true,"redirectUri":[],"refreshTokenValidity":43200,"resourceIds":[],"scope":["verify"]}"#);
    reltio.get(&format!("{path}/nobodys")).by(&admin).await.expect_error(404, "not_found");
}

/// §6: one role has power; the others are kept and have none.
#[tokio::test]
async fn section_6_only_the_customers_administrator_resets() {
    let reltio = Reltio::start().await;
    let admin = reltio.admin().await;
    reltio.app.user("target").await;
    for (role, status) in [
        ("ROLE_ADMIN_CUSTOMER", 200),
        ("ROLE_ADMIN_CUSTOMER_globex", 403),
        ("ROLE_ADMIN_USER", 403),
        ("ROLE_ADMIN_TENANT", 403),
        ("ROLE_API", 403),
        ("ROLE_USER", 403),
    ] {
        let name = role.to_ascii_lowercase();
        let mut new = user(&name);
        (new["roles"], new["password"]) = (json!([role]), json!(PASSWORD));
        let made = reltio.call(Method::POST, "/users").by(&admin).json(json!([new])).await.expect_ok();
        assert_eq!(made.json[0]["roles"], json!([role]));

        let unsaid = reltio.put(&format!("/users/{name}")).by(&admin).json(json!({ "enabled": true })).await;
        assert_eq!(unsaid.expect_ok()["roles"].as_array().map(Vec::len), Some(usize::from(status == 200)));
        let session = reltio.session(&name).await;

        reltio.put("/users/target/mfa/resetQRCodeEnroll").by(&session).await.expect(status);
    }
}

/// §7: each situation has its status and its word.
#[tokio::test]
async fn section_7_errors_speak_to_both_kinds_of_reader() {
    let reltio = Reltio::start().await;
    let none = reltio.get("/users/mfaDetails").await.expect_error(401, "unauthorized");
    assert_eq!(none.header("www-authenticate"), Some(r#"Bearer realm="oauth""#));
    let bad = reltio
        .get("/users/mfaDetails")
        .by(&Credentials::bearer("x"))
        .await
        .expect_error(401, "invalid_token");
    assert!(bad.shown().contains("invalid_token"), "the vendor's client looks for it");
    assert_eq!(bad.header("www-authenticate"), Some(r#"Bearer realm="oauth", error="invalid_token""#));
    let client = Credentials::basic(&reltio.client.id, "wrong");
    let wrong = reltio.call(Method::POST, "/token").by(&client).form(&[("grant_type", "password")]).await;
    let wrong = wrong.expect_error(401, "invalid_client");
    assert_eq!(wrong.header("www-authenticate"), Some(r#"Basic realm="oauth/client""#));
    reltio.token(&[("grant_type", "magic")]).await.expect_error(400, "unsupported_grant_type");
    reltio.token(&[]).await.expect_error(400, "invalid_request");
    reltio
        .token(&[("grant_type", "password"), ("username", "jo")])
        .await
        .expect_error(400, "invalid_request");
    let scope = [("grant_type", "client_credentials"), ("scope", "admin")];
    reltio.token(&scope).await.expect_error(400, "invalid_scope");
    let method = reltio.call(Method::DELETE, "/token").by(&reltio.basic()).await;
    let method = method.expect_error(405, "method_not_allowed");
    assert!(method.header("allow").is_some_and(|allow| allow.contains("POST") && allow.contains("PUT")));
    let client_only = reltio.get("/users/mfaDetails").by(&reltio.basic()).await;
    client_only.expect_error(403, "access_denied");
    let snapshot = reltio.password("nobody").await.expect_error(400, "invalid_grant");
    insta::assert_snapshot!(snapshot.shown(), @r#"{"error":"invalid_grant","errorCode":4005,"errorMessage":"Bad credentials","error_description":"Bad credentials"}"#);
}

#[tokio::test]
async fn section_7_a_client_of_another_customer_is_no_client_here() {
    let reltio = Reltio::start().await;
    let owner = reltio.app.owner().await;
    reltio.app.another_organisation("globex").await;
    let body = json!({ "name": "theirs", "scopes": ["verify"] });
    let theirs =
        reltio.app.post("/v1/clients?organisation=globex").by(&owner).json(body).await.expect_created();
    let theirs = Client::of(&theirs).credentials();

    let answer =
        reltio.call(Method::POST, "/token").by(&theirs).form(&[("grant_type", "client_credentials")]).await;

    answer.expect_error(401, "invalid_client");
}

#[tokio::test]
async fn section_7_too_many_requests_for_tokens_are_told_when_to_come_back() {
    let app = TestApp::start_with(|config| config.limits.sign_ins = 10).await;
    let client = app.client(&["verify"]).await.credentials();
    let grant = [("grant_type", "client_credentials")];
    let mut last = None;
    for _ in 0..30 {
        last = Some(app.post("/reltio/oauth/token").by(&client).form(&grant).await);
    }

    let last = last.expect("an answer").expect_error(429, "too_many_requests");
    assert!(last.header("retry-after").is_some());
}
