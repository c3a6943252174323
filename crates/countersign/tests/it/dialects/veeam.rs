//! The dialect of Veeam Backup for Microsoft Azure, row by row of its contract.

use crate::test_app::{Answer, Call, Credentials, Otp, TestApp, at_once};
use countersign::config::Config;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A password that no rule minds, of the people the dialect creates.
const PASSWORD: &str = "lantern-osprey-gravel-7";
/// A version of each profile.
const PROFILES: [&str; 2] = ["v1", "v8.1"];
/// An id nothing has.
const NOBODYS: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// A client of one version.
#[derive(Clone, Copy)]
struct Vbaz<'a> {
    app: &'a TestApp,
    version: &'static str,
}

/// What `enableMfa` handed out.
struct Enabled {
    otp: Otp,
    codes: Vec<String>,
    token: String,
}

impl Enabled {
    fn of(answer: &Answer) -> Self {
        let codes = answer["scratchCodes"].as_array().expect("codes").iter();
        Self {
            otp: Otp::from_base32(&answer.text("secretKey")),
            codes: codes.map(|code| code.as_str().expect("a code").to_owned()).collect(),
            token: answer.text("token"),
        }
    }
}

impl<'a> Vbaz<'a> {
    fn of(app: &'a TestApp, version: &'static str) -> Self {
        Self { app, version }
    }

    fn path(&self, rest: &str) -> String {
        format!("/veeam/api/{}/users{rest}", self.version)
    }

    fn call(&self, method: Method, rest: &str) -> Call<'a> {
        self.app.call(method, &self.path(rest))
    }

    fn get(&self, rest: &str) -> Call<'a> {
        self.call(Method::GET, rest)
    }

    fn post(&self, rest: &str) -> Call<'a> {
        self.call(Method::POST, rest)
    }

    fn token(&self, form: &[(&str, &str)]) -> Call<'a> {
        self.app.post("/veeam/api/oauth2/token").form(form)
    }

    fn password(&self, username: &str, password: &str) -> Call<'a> {
        self.token(&[("grant_type", "Password"), ("Username", username), ("Password", password)])
    }

    fn second_step(&self, token: &str, code: &str) -> Call<'a> {
        self.token(&[("grant_type", "Mfa"), ("mfa_token", token), ("mfa_code", code)])
    }

    /// Signs in with a password alone.
    async fn session(&self, username: &str, password: &str) -> Credentials {
        let answer = self.password(username, password).await.expect_ok();
        Credentials::bearer(&answer.text("access_token"))
    }

    async fn admin(&self) -> Credentials {
        self.session("admin", &self.app.admin_password).await
    }

    /// Signs in as far as the second step; returns its token.
    async fn first_step(&self, username: &str) -> String {
        self.password(username, PASSWORD).await.expect_ok().text("mfa_token")
    }

    /// Creates somebody by the dialect; returns the id as this version writes it.
    async fn create(&self, name: &str, role: &str) -> String {
        let body = json!({ "name": name, "description": "ops", "password": PASSWORD, "role": role });
        let created = self.post("").by(&self.admin().await).json(body).await;
        assert!(created.status.is_success(), "{}", created.shown());
        created.text("id")
    }

    async fn enable(&self, id: &str, by: &Credentials) -> Enabled {
        let body = json!({ "recreate": true });
        Enabled::of(&self.post(&format!("/{id}/enableMfa")).by(by).json(body).await.expect_ok())
    }

    fn accept(&self, id: &str, by: &Credentials, code: &str, token: &str) -> Call<'a> {
        self.post(&format!("/{id}/acceptMfa")).by(by).json(json!({ "code": code, "token": token }))
    }

    /// Enables and accepts, so that the next sign-in asks for a second step.
    async fn enrolled(&self, id: &str, by: &Credentials) -> Enabled {
        let enabled = self.enable(id, by).await;
        let code = enabled.otp.code(self.app.now());
        self.accept(id, by, &code, &enabled.token).await.expect(self.done());
        self.app.advance(60);
        enabled
    }

    async fn is_on(&self, id: &str, by: &Credentials) -> bool {
        self.get(&format!("/{id}")).by(by).await.expect_ok()["mfaEnabled"].as_bool().expect("a boolean")
    }

    /// The status of what has nothing to say.
    fn done(&self) -> u16 {
        if self.version == "v1" { 200 } else { 204 }
    }
}

/// Looks at a problem: status, members, what it names.
#[track_caller]
fn expect_problem(answer: &Answer, status: u16, field: Option<&str>) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.shown());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.shown());
    assert_eq!(answer["status"], status, "{}", answer.shown());
    for member in ["type", "title", "detail", "traceId"] {
        assert!(answer[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {}", answer.shown());
    }
    if let Some(field) = field {
        assert!(answer["errors"][field][0].is_string(), "{field}: {}", answer.shown());
    }
}

/// A body for a snapshot, without what differs from run to run.
fn without(answer: &Answer, secrets: &[&str]) -> String {
    let mut body = answer.json.clone();
    for secret in secrets {
        if let Some(member) = body.get_mut(secret) {
            *member = json!(format!("[{secret}]"));
        }
    }
    serde_json::to_string_pretty(&body).expect("JSON")
}

#[tokio::test]
async fn row_10_the_acceptance_walk_through() {
    for version in PROFILES {
        let app = TestApp::start().await;
        let vbaz = Vbaz::of(&app, version);
        let id = vbaz.create("maria", "PortalOperator").await;

        // 1, 2: sign in, find the person.
        let login = vbaz.password("admin", &app.admin_password).await.expect_ok();
        let admin = Credentials::bearer(&login.text("access_token"));
        let listed = vbaz.get("").by(&admin).await.expect_ok();
        let maria =
            listed["results"].as_array().expect("results").iter().find(|user| user["name"] == "maria");
        assert_eq!(maria.expect("listed")["id"], id.as_str());

        // 3, 4: what is handed out changes nothing yet.
        let body = json!({ "recreate": true });
        let answer = vbaz.post(&format!("/{id}/enableMfa")).by(&admin).json(body).await.expect_ok();
        let members: Vec<&String> = answer.json.as_object().expect("an object").keys().collect();
        assert_eq!(BTreeSet::from_iter(members).len(), 5);
        let secret = format!("secret={}&", answer.text("secretKey"));
        assert!(answer.text("qrString").contains(&secret));
        let enabled = Enabled::of(&answer);
        assert!(!vbaz.is_on(&id, &admin).await);

        // 5 to 7: a wrong code, the right one, the same again.
        let wrong = vbaz.accept(&id, &admin, &enabled.otp.wrong_code(app.now()), &enabled.token).await;
        expect_problem(&wrong, 400, Some("code"));
        assert!(!vbaz.is_on(&id, &admin).await);
        let code = enabled.otp.code(app.now());
        let accepted = vbaz.accept(&id, &admin, &code, &enabled.token).await.expect(vbaz.done());
        assert!(accepted.body.is_empty());
        assert!(vbaz.is_on(&id, &admin).await);
        let again = vbaz.accept(&id, &admin, &code, &enabled.token).await;
        expect_problem(&again, 400, Some("token"));

        // 8, 9: the second step; neither its code nor its token is good twice.
        let first = vbaz.password("maria", PASSWORD).await.expect_ok();
        assert!(first.json.get("access_token").is_none() && first.json.get("refresh_token").is_none());
        let token = first.text("mfa_token");
        expect_problem(&vbaz.second_step(&token, &code).await, 401, None);
        app.advance(60);
        let code = enabled.otp.code(app.now());
        let login = vbaz.second_step(&token, &code).await.expect_ok();
        assert!(login.json.get("mfa_token").is_none());
        expect_problem(&vbaz.second_step(&token, &code).await, 401, None);
        expect_problem(&vbaz.second_step(&vbaz.first_step("maria").await, &code).await, 401, None);

        // 10: a scratch code, once.
        let saved = &enabled.codes[0];
        vbaz.second_step(&vbaz.first_step("maria").await, saved).await.expect_ok();
        expect_problem(&vbaz.second_step(&vbaz.first_step("maria").await, saved).await, 401, None);

        // 11: acceptMfa with a scratch code, which is spent.
        let other = vbaz.create("otto", "PortalOperator").await;
        let fresh = vbaz.enable(&other, &admin).await;
        vbaz.accept(&other, &admin, &fresh.codes[4], &fresh.token).await.expect(vbaz.done());
        expect_problem(&vbaz.second_step(&vbaz.first_step("otto").await, &fresh.codes[4]).await, 401, None);
        vbaz.second_step(&vbaz.first_step("otto").await, &fresh.codes[3]).await.expect_ok();

        // 12: a new secret; the old one signs in until it is accepted, and not longer.
        let body = json!({ "recreate": "true" });
        let answer = vbaz.post(&format!("/{id}/enableMfa")).by(&admin).json(body).await.expect_ok();
        let renewed = Enabled::of(&answer);
        assert_ne!(renewed.otp.base32, enabled.otp.base32);
        app.advance(60);
        vbaz.second_step(&vbaz.first_step("maria").await, &enabled.otp.code(app.now())).await.expect_ok();
        let code = renewed.otp.code(app.now());
        vbaz.accept(&id, &admin, &code, &renewed.token).await.expect(vbaz.done());
        app.advance(60);
        let (old, new) = (enabled.otp.code(app.now()), renewed.otp.code(app.now()));
        expect_problem(&vbaz.second_step(&vbaz.first_step("maria").await, &old).await, 401, None);
        expect_problem(
            &vbaz.second_step(&vbaz.first_step("maria").await, &enabled.codes[1]).await,
            401,
            None,
        );
        vbaz.second_step(&vbaz.first_step("maria").await, &new).await.expect_ok();

        // 13: off again.
        vbaz.post(&format!("/{id}/disableMfa")).by(&admin).await.expect(vbaz.done());
        let operator = vbaz.session("maria", PASSWORD).await;

        // 14: who is nobody, who may not, whom there is not, what is no JSON.
        let path = format!("/{other}/enableMfa");
        expect_problem(&vbaz.post(&path).json(json!({})).await, 401, None);
        expect_problem(&vbaz.post(&path).by(&operator).json(json!({})).await, 403, None);
        let nobody = vbaz.post("/9999/enableMfa").by(&admin).json(json!({})).await;
        expect_problem(&nobody, 404, None);
        let text = vbaz.post(&path).by(&admin).body("text/plain", b"recreate".to_vec()).await;
        expect_problem(&text, 415, None);
    }
}

#[tokio::test]
async fn row_2_the_seeds_request_is_answered_as_the_seed_shows() {
    let app = TestApp::start_with(|config| config.dialects.veeam.hosts = vec!["vbaz.example".into()]).await;
    let vbaz = Vbaz::of(&app, "v1");
    assert_eq!(vbaz.create("Authentication", "PortalOperator").await, "1001");

    // Byte for byte as it is printed, on a host of the dialect's own.
    let answer = app
        .post("/api/v1/users/1001/enableMfa")
        .header("host", "vbaz.example")
        .by(&vbaz.admin().await)
        .body("application/json", br#"{ "recreate": true }"#.to_vec())
        .await
        .expect_ok();

    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let secret = answer.text("secretKey");
    let shown = without(&answer, &["scratchCodes", "token"]).replace(&secret, "[secretKey]");
    insta::assert_snapshot!(shown, @r#"
    {
      "qrString": "otpauth://totp/Authentication%40vbaz.example?secret=[secretKey]&issuer=vbaz.example",
      "scratchCodes": "[scratchCodes]",
      "secretKey": "[secretKey]",
      "token": "[token]",
      "userId": 1001
    }
    "#);
    assert!(secret.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b)), "{secret}");
    let codes = answer["scratchCodes"].as_array().expect("codes");
    let is_short =
        |code: &Value| code.as_str().is_some_and(|c| c.len() == 8 && c.bytes().all(|b| b.is_ascii_digit()));
    assert!(codes.len() == 5 && codes.iter().all(is_short), "{codes:?}");
    let token = data_encoding::BASE64.decode(answer.text("token").as_bytes()).expect("Base64");
    assert!(token.len() == 64 && token.iter().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b)));
    assert_eq!(answer.text("token").len(), 88);
}

#[tokio::test]
async fn row_2_recreate_is_taken_in_every_form_clients_send() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v2");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let path = format!("/{id}/enableMfa");

    vbaz.post(&path).by(&admin).await.expect_ok();
    for body in [
        "",
        "{}",
        "null",
        r#"{"recreate":null}"#,
        r#"{"recreate":true}"#,
        r#"{"recreate":false}"#,
        r#"{"recreate":"false"}"#,
        r#"{"recreate":"True"}"#,
        r#"{"recreate":"FALSE","more":1}"#,
    ] {
        let answer = vbaz.post(&path).by(&admin).body("application/json", body.into()).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.shown());
        assert!(answer["userId"].is_string(), "{body}");
    }
    for body in [r#"{"recreate":1}"#, r#"{"recreate":"yes"}"#, r#"{"recreate":{}}"#, "[]", "{", "1"] {
        let answer = vbaz.post(&path).by(&admin).body("application/json", body.into()).await;
        expect_problem(&answer, 400, None);
    }
    assert!(!vbaz.is_on(&id, &admin).await, "and nothing was switched on");
}

#[tokio::test]
async fn row_2_without_recreate_a_second_factor_that_is_on_is_left_alone() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let path = format!("/{id}/enableMfa");
    vbaz.post(&path).by(&admin).json(json!({ "recreate": false })).await.expect_ok();
    vbaz.enrolled(&id, &admin).await;

    let answer = vbaz.post(&path).by(&admin).json(json!({ "recreate": false })).await;

    expect_problem(&answer, 400, Some("recreate"));
    assert!(!answer.shown().contains("otpauth"));
}

#[tokio::test]
async fn row_2_a_second_call_replaces_what_was_handed_out() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let first = vbaz.enable(&id, &admin).await;
    let second = vbaz.enable(&id, &admin).await;

    let late = vbaz.accept(&id, &admin, &first.otp.code(app.now()), &first.token).await;

    expect_problem(&late, 400, Some("token"));
    vbaz.accept(&id, &admin, &second.otp.code(app.now()), &second.token).await.expect_ok();
}

#[tokio::test]
async fn row_2_people_enrol_themselves_and_nobody_else() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v1");
    let id = vbaz.create("maria", "RestoreOperator").await;
    let maria = vbaz.session("maria", PASSWORD).await;

    let enabled = vbaz.enrolled(&id, &maria).await;

    expect_problem(&vbaz.post("/1000/enableMfa").by(&maria).json(json!({})).await, 403, None);
    // The session was opened without the second factor there is now.
    expect_problem(&vbaz.post(&format!("/{id}/disableMfa")).by(&maria).await, 403, None);
    let token = vbaz.first_step("maria").await;
    let login = vbaz.second_step(&token, &enabled.otp.code(app.now())).await.expect_ok();
    let maria = Credentials::bearer(&login.text("access_token"));
    vbaz.post(&format!("/{id}/disableMfa")).by(&maria).await.expect_ok();
    assert!(!vbaz.is_on(&id, &maria).await);
}

#[tokio::test]
async fn row_2_1_the_key_uri_of_the_vendors_samples_can_be_had() {
    let literal = |config: &mut Config| config.dialects.veeam.literal_at = true;
    let app = TestApp::start_with(literal).await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let id = vbaz.create("maria", "PortalOperator").await;

    let call = vbaz.post(&format!("/{id}/enableMfa")).header("host", "vbaz.example:8443");
    let answer = call.by(&vbaz.admin().await).await.expect_ok();

    let start = "otpauth://totp/maria&40vbaz.example?secret=";
    assert!(answer.text("qrString").starts_with(start), "{}", answer.text("qrString"));
    assert!(answer.text("qrString").ends_with("&issuer=vbaz.example"));
}

#[tokio::test]
async fn row_3_what_accept_mfa_refuses() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let other = vbaz.create("otto", "PortalOperator").await;
    let path = format!("/{id}/acceptMfa");
    let nothing_waits = vbaz.accept(&id, &admin, "123456", "QUJD").await;
    expect_problem(&nothing_waits, 400, Some("token"));
    let enabled = vbaz.enable(&id, &admin).await;
    let others = vbaz.enable(&other, &admin).await;
    let code = enabled.otp.code(app.now());
    let token = enabled.token.as_str();
    struct Case<'a> {
        row: &'a str,
        body: Value,
        field: &'a str,
    }
    let cases = [
        Case { row: "code is required", body: json!({ "token": token }), field: "code" },
        Case { row: "code minLength 1", body: json!({ "code": "", "token": token }), field: "code" },
        Case { row: "code is a string", body: json!({ "code": 1, "token": token }), field: "code" },
        Case { row: "token is required", body: json!({ "code": code }), field: "token" },
        Case { row: "token minLength 1", body: json!({ "code": code, "token": "" }), field: "token" },
        Case { row: "unknown token", body: json!({ "code": code, "token": "QUJD" }), field: "token" },
        Case {
            row: "another person's token",
            body: json!({ "code": code, "token": others.token }),
            field: "token",
        },
        Case {
            row: "another person's code",
            body: json!({ "code": others.codes[0], "token": token }),
            field: "code",
        },
    ];

    for case in cases {
        let answer = vbaz.post(&path).by(&admin).json(case.body).await;
        assert_eq!(answer.status, 400, "{}", case.row);
        expect_problem(&answer, 400, Some(case.field));
    }

    let text = vbaz.post(&path).by(&admin).body("text/plain", b"{}".to_vec()).await;
    expect_problem(&text, 415, None);
    vbaz.accept(&id, &admin, &code, token).await.expect(204);
}

#[tokio::test]
async fn row_3_five_tries_a_token() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let enabled = vbaz.enable(&id, &admin).await;
    let wrong = enabled.otp.wrong_code(app.now());

    for _ in 0..5 {
        expect_problem(&vbaz.accept(&id, &admin, &wrong, &enabled.token).await, 400, Some("code"));
    }

    let late = vbaz.accept(&id, &admin, &enabled.otp.code(app.now()), &enabled.token).await;
    expect_problem(&late, 400, Some("token"));
    assert!(!vbaz.is_on(&id, &admin).await);
}

#[tokio::test]
async fn row_3_a_token_lives_for_a_quarter_of_an_hour() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (app.root(), vbaz.create("maria", "PortalOperator").await);
    let enabled = vbaz.enable(&id, &admin).await;
    app.advance(15 * 60);

    let late = vbaz.accept(&id, &admin, &enabled.otp.code(app.now()), &enabled.token).await;

    expect_problem(&late, 400, Some("token"));
}

#[tokio::test]
async fn row_3_a_drift_of_one_step_is_allowed() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let enabled = vbaz.enable(&id, &admin).await;
    let code = enabled.otp.code(app.now());
    app.advance(30);

    vbaz.accept(&id, &admin, &code, &enabled.token).await.expect(204);
}

#[tokio::test]
async fn sixteen_callers_redeem_a_ticket_once_and_spend_a_scratch_code_once() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let enabled = vbaz.enable(&id, &admin).await;
    let count = |answers: Vec<Answer>, status: u16| answers.iter().filter(|a| a.status == status).count();

    let accepts = (0..16).map(|n| vbaz.accept(&id, &admin, &enabled.codes[n % 5], &enabled.token));
    assert_eq!(count(at_once(accepts).await, 204), 1);

    let mut tokens = Vec::new();
    for _ in 0..8 {
        tokens.push(vbaz.first_step("maria").await);
    }
    let unspent: Vec<&String> = {
        let codes = app.get(&format!("/v1/users/{id}/recovery-codes")).by(&app.root()).await.expect_ok();
        assert_eq!((&codes["total"], &codes["remaining"]), (&json!(5), &json!(4)));
        enabled.codes.iter().collect()
    };
    let mut used = 0;
    for code in unspent {
        used += count(at_once(tokens.iter().map(|token| vbaz.second_step(token, code))).await, 200);
        tokens.clear();
        for _ in 0..8 {
            tokens.push(vbaz.first_step("maria").await);
        }
        app.post(&format!("/v1/users/{id}/unlock")).by(&app.root()).await.expect_ok();
    }
    assert_eq!(used, 4, "each unspent code signs in once");
}

#[tokio::test]
async fn a_scratch_code_works_natively_too() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let enabled = vbaz.enrolled(&id, &admin).await;
    let verify = |code: &str, kind: Option<&str>| {
        let body = json!({ "user": id, "code": code, "type": kind });
        app.post("/v1/verify").by(&app.root()).json(body)
    };

    assert!(!verify(&enabled.codes[0], None).await.accepted(), "no recovery code where none is asked for");
    assert!(verify(&enabled.codes[0], Some("recovery")).await.accepted());
    assert_eq!(verify(&enabled.codes[0], Some("recovery")).await.refusal(), Some("replayed"));
    assert_eq!(verify("00000000", Some("recovery")).await.refusal(), Some("rejected"));
    assert_eq!(verify("123456", Some("recovery")).await.refusal(), Some("rejected"));
}

#[tokio::test]
async fn row_4_disable_mfa_takes_any_body_and_says_the_same_twice() {
    for (version, done) in [("v1", 200), ("v2", 204), ("v8.1", 204)] {
        let app = TestApp::start().await;
        let vbaz = Vbaz::of(&app, version);
        let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
        vbaz.enrolled(&id, &admin).await;
        let token = vbaz.first_step("maria").await;
        let waiting = vbaz.enable(&id, &admin).await;
        let path = format!("/{id}/disableMfa");

        let answer = vbaz.post(&path).by(&admin).body("text/plain", b"off".to_vec()).await.expect(done);

        assert!(answer.body.is_empty());
        assert!(!vbaz.is_on(&id, &admin).await);
        vbaz.post(&path).by(&admin).await.expect(done);
        expect_problem(&vbaz.second_step(&token, &waiting.codes[0]).await, 401, None);
        let late = vbaz.accept(&id, &admin, &waiting.otp.code(app.now()), &waiting.token).await;
        expect_problem(&late, 400, Some("token"));
        assert!(app.count(&id_of(&app, "maria").await, "mfa.switched_off").await == 1);
    }
}

/// The id of a person, as the native API has it.
async fn id_of(app: &TestApp, username: &str) -> String {
    app.get(&format!("/v1/users/{username}")).by(&app.root()).await.expect_ok().text("id")
}

#[tokio::test]
async fn an_enforcing_policy_lets_nobody_switch_off() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    app.policy(json!({ "requirement": "enforced" })).await;

    expect_problem(&vbaz.password("maria", PASSWORD).await, 401, None);
    vbaz.enrolled(&id, &admin).await;
    let refused = vbaz.post(&format!("/{id}/disableMfa")).by(&admin).await;

    expect_problem(&refused, 400, None);
    assert!(vbaz.is_on(&id, &admin).await);
}

#[tokio::test]
async fn row_5_1_the_list_and_its_records() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v1");
    let admin = vbaz.admin().await;
    for name in ["maria", "otto", "pia"] {
        vbaz.create(name, "ReadOnlyUser").await;
    }

    let page = vbaz.get("?Offset=1&Limit=1").by(&admin).await.expect_ok();

    insta::assert_snapshot!(without(&page, &[]), @r#"
    {
      "_links": {
        "self": {
          "href": "https://countersign.test/veeam/api/v1/users?offset=1&limit=1"
        }
      },
      "limit": 1,
      "offset": 1,
      "results": [
        {
          "_links": {
            "self": {
              "href": "https://countersign.test/veeam/api/v1/users/1001"
            }
          },
          "description": "ops",
          "id": "1001",
          "identityProviderEntityId": null,
          "isDefault": false,
          "mfaEnabled": false,
          "name": "maria",
          "role": "ReadOnlyUser",
          "type": "Internal"
        }
      ],
      "totalCount": 4
    }
    "#);
    let followed = vbaz.get("?offset=1&limit=1").by(&admin).await.expect_ok();
    assert_eq!(followed["results"], page["results"], "the link leads to where it comes from");
}

#[tokio::test]
async fn row_5_1_offset_limit_and_name_filter() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let admin = vbaz.admin().await;
    for name in ["maria", "Mariana"] {
        vbaz.create(name, "PortalOperator").await;
    }
    let names = |page: &Answer| -> Vec<String> {
        let results = page["results"].as_array().expect("results").iter();
        results.map(|user| user["name"].as_str().expect("a name").to_owned()).collect()
    };

    for (query, expected, total) in [
        ("", vec!["admin", "maria", "Mariana"], 3),
        ("?Limit=-1", vec!["admin", "maria", "Mariana"], 3),
        ("?Limit=0", vec![], 3),
        ("?Offset=2&Limit=5", vec!["Mariana"], 3),
        ("?Offset=9", vec![], 3),
        ("?NameFilter=maria", vec!["maria"], 1),
        ("?NameFilter=mari", vec![], 0),
        ("?Sort=anything", vec!["admin", "maria", "Mariana"], 3),
    ] {
        let page = vbaz.get(query).by(&admin).await.expect_ok();
        assert_eq!(names(&page), expected, "{query}");
        assert_eq!(page["totalCount"], total, "{query}");
    }
    let page = vbaz.get("").by(&admin).await.expect_ok();
    assert_eq!((&page["offset"], &page["limit"]), (&json!(0), &json!(200)));
    assert_eq!(page["results"][0]["isDefault"], true);
    assert_eq!(page["results"][0]["role"], "PortalAdmin");
    for query in ["?Offset=-1", "?Limit=-2", "?Limit=many", "?Offset=99999999999"] {
        expect_problem(&vbaz.get(query).by(&admin).await, 400, None);
    }
}

#[tokio::test]
async fn row_5_2_a_person_by_number_or_id() {
    let app = TestApp::start().await;
    let v1 = Vbaz::of(&app, "v1");
    let v8 = Vbaz::of(&app, "v8.1");
    let admin = v1.admin().await;
    let number = v1.create("maria", "PortalOperator").await;
    let uuid = id_of(&app, "maria").await;

    for id in [&number, &uuid] {
        assert_eq!(v1.get(&format!("/{id}")).by(&admin).await.expect_ok()["id"], number.as_str());
        assert_eq!(v8.get(&format!("/{id}")).by(&admin).await.expect_ok()["id"], uuid.as_str());
    }
    for id in ["maria", "9999", NOBODYS, "0", "-1", "%20", "99999999999999999999"] {
        expect_problem(&v1.get(&format!("/{id}")).by(&admin).await, 404, None);
    }
    let maria = v1.session("maria", PASSWORD).await;
    v1.get(&format!("/{number}")).by(&maria).await.expect_ok();
    expect_problem(&v1.get("/1000").by(&maria).await, 403, None);
    expect_problem(&v1.get("/9999").by(&maria).await, 403, None);
    expect_problem(&v1.get("").by(&maria).await, 403, None);
}

#[tokio::test]
async fn row_5_3_accounts_are_created() {
    let app = TestApp::start().await;
    let body = |name: &str| json!({ "name": name, "description": "Backup, nightly.", "password": PASSWORD });
    for (version, status, role) in [
        ("v1", 200, "PortalAdmin"),
        ("v2", 200, "PortalAdmin"),
        ("v3", 201, "ReadOnlyUser"),
        ("v8.1", 201, "ReadOnlyUser"),
    ] {
        let vbaz = Vbaz::of(&app, version);
        let name = format!("backup-{}", version.replace('.', "_"));
        let created = vbaz.post("").by(&vbaz.admin().await).json(body(&name)).await.expect(status);
        assert_eq!((created.text("name"), created.text("role")), (name.clone(), role.to_owned()));
        vbaz.password(&name, PASSWORD).await.expect_ok();
    }
    let vbaz = Vbaz::of(&app, "v8.1");
    let admin = vbaz.admin().await;
    let with = |name: &str, member: &str, value: Value| {
        let mut body = body(name);
        body[member] = value;
        body
    };
    for (row, body, field) in [
        ("name is unique", body("BACKUP-v1"), "name"),
        ("name has at most 32 characters", body(&"a".repeat(33)), "name"),
        ("name is plain", body("maria rossi"), "name"),
        ("name is no number", body("1007"), "name"),
        ("name is required", json!({ "description": "", "password": PASSWORD }), "name"),
        ("description is required", json!({ "name": "maria", "password": PASSWORD }), "description"),
        ("password is required", json!({ "name": "maria", "description": "" }), "password"),
        ("a weak password", with("maria", "password", json!("password1234")), "password"),
        ("an unknown role", with("maria", "role", json!("Unknown")), "role"),
        ("another type", with("maria", "type", json!("IdentityProvider")), "type"),
    ] {
        let answer = vbaz.post("").by(&admin).json(body).await;
        assert_eq!(answer.status, 400, "{row}: {}", answer.shown());
        expect_problem(&answer, 400, Some(field));
    }
    vbaz.post("")
        .by(&admin)
        .json(with("x".repeat(32).as_str(), "role", json!("VeeamUpdater")))
        .await
        .expect(201);
}

#[tokio::test]
async fn row_5_4_and_5_5_accounts_are_changed_and_deleted() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "ReadOnlyUser").await);
    let path = format!("/{id}");
    let put = |body: Value| vbaz.call(Method::PUT, &path).by(&admin).json(body);

    let changed = put(json!({ "description": "night shift", "role": "PortalAdmin", "name": "maria2" })).await;
    let changed = changed.expect_ok();
    assert_eq!(changed.text("description"), "night shift");
    assert_eq!((changed.text("role"), changed.text("name")), ("PortalAdmin".into(), "maria2".into()));
    let old = vbaz.session("maria2", PASSWORD).await;
    put(json!({ "password": "another-osprey-gravel-8" })).await.expect_ok();
    expect_problem(&vbaz.get(&path).by(&old).await, 401, None);
    expect_problem(&vbaz.password("maria2", PASSWORD).await, 401, None);
    vbaz.password("maria2", "another-osprey-gravel-8").await.expect_ok();
    expect_problem(&put(json!({ "password": "short" })).await, 400, Some("password"));

    // Written back as it was read, the owner stays one.
    let root =
        vbaz.call(Method::PUT, "/1000").by(&admin).json(json!({ "role": "PortalAdmin" })).await.expect_ok();
    assert_eq!(root.text("role"), "PortalAdmin");
    let owner = app.get("/v1/users/1000").by(&app.root()).await.expect_ok();
    assert_eq!(owner["roles"], json!(["owner"]));

    expect_problem(&vbaz.call(Method::DELETE, "/1000").by(&admin).await, 400, None);
    vbaz.call(Method::DELETE, &path).by(&admin).await.expect(204);
    expect_problem(&vbaz.get(&path).by(&admin).await, 404, None);
    expect_problem(&vbaz.call(Method::DELETE, &path).by(&admin).await, 404, None);
}

#[tokio::test]
async fn row_5_5_nobody_deletes_themselves_or_the_default_administrator() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let id = vbaz.create("maria", "PortalAdmin").await;
    let maria = vbaz.session("maria", PASSWORD).await;

    expect_problem(&vbaz.call(Method::DELETE, &format!("/{id}")).by(&maria).await, 400, None);
    expect_problem(&vbaz.call(Method::DELETE, "/1000").by(&maria).await, 400, None);

    vbaz.get(&format!("/{id}")).by(&maria).await.expect_ok();
}

#[tokio::test]
async fn row_5_6_passwords_are_changed() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let maria = vbaz.session("maria", PASSWORD).await;
    let own = |current: &str, new: &str| {
        let body = json!({ "currentPassword": current, "newPassword": new });
        vbaz.post("/changePassword").by(&maria).json(body)
    };
    let path = format!("/{id}/changePassword");
    let others = |new: &str, admins: &str| {
        vbaz.post(&path).by(&admin).json(json!({ "newPassword": new, "adminsPassword": admins }))
    };

    expect_problem(&own("not-the-one-it-was", "osprey-second-11").await, 400, Some("currentPassword"));
    expect_problem(&own(PASSWORD, "short").await, 400, Some("newPassword"));
    own(PASSWORD, "osprey-second-11").await.expect(204);
    vbaz.password("maria", "osprey-second-11").await.expect_ok();

    expect_problem(&others("osprey-third-12", "not-the-one").await, 400, Some("adminsPassword"));
    vbaz.password("maria", "osprey-second-11").await.expect_ok();
    expect_problem(&others("short", &app.admin_password).await, 400, Some("newPassword"));
    others("osprey-third-12", &app.admin_password).await.expect(204);
    vbaz.password("maria", "osprey-third-12").await.expect_ok();
    let admins = json!({ "newPassword": "osprey-fourth-13", "adminsPassword": "osprey-third-12" });
    expect_problem(&vbaz.post("/1000/changePassword").by(&maria).json(admins).await, 401, None);
}

#[tokio::test]
async fn row_1_people_are_exported_and_the_caller_is_shown() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v3");
    let admin = vbaz.admin().await;
    vbaz.create("maria", "PortalOperator").await;
    let maria = id_of(&app, "maria").await;
    let quoted = json!({ "description": "=1+1, \"night\"" });
    vbaz.call(Method::PUT, &format!("/{maria}")).by(&admin).json(quoted).await.expect_ok();

    let csv = vbaz.post("/export").by(&admin).json(json!({ "nameFilter": "maria" })).await.expect_ok();
    let body = json!({ "userIds": [maria] });
    let xml =
        vbaz.post("/export").header("accept", "application/xml").by(&admin).json(body).await.expect_ok();

    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let expected = format!(
        "Id,Name,Description,Role,Type,MfaEnabled\r\n\"{maria}\",\"maria\",\"'=1+1, \"\"night\"\"\",\"PortalOperator\",\"Internal\",\"false\"\r\n"
    );
    assert_eq!(csv.shown(), expected);
    assert!(xml.shown().contains(&format!("<User><Id>{maria}</Id><Name>maria</Name>")), "{}", xml.shown());
    assert_eq!(vbaz.post("/export").by(&admin).await.expect_ok().shown().lines().count(), 3);

    let me = app.get("/veeam/api/v3/userProfile/currentUser").by(&vbaz.session("maria", PASSWORD).await);
    assert_eq!(me.await.expect_ok()["id"], maria.as_str());
}

#[tokio::test]
async fn row_6_the_answer_of_a_sign_in_in_one_step_and_in_two() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let secrets = ["access_token", "refresh_token", "mfa_token", "userId"];

    let one = vbaz.password("maria", PASSWORD).await.expect_ok();
    let enabled = vbaz.enrolled(&id, &admin).await;
    let two = vbaz.password("maria", PASSWORD).await.expect_ok();
    let token = two.text("mfa_token");
    let done = vbaz.second_step(&token, &enabled.otp.code(app.now())).await.expect_ok();

    insta::assert_snapshot!("veeam_case_a", without(&one, &secrets));
    insta::assert_snapshot!("veeam_case_b", without(&two, &secrets));
    assert_eq!(token.len(), 88);
    let mut expected = one.json.clone();
    for member in ["access_token", "refresh_token", ".issued", ".expires"] {
        assert!(done[member].is_string(), "{member}");
        expected[member] = done[member].clone();
    }
    assert_eq!(done.json, expected, "the second step is answered like one without");
    uuid::Uuid::parse_str(&one.text("userId")).expect("clients read a UUID");
    let access = Credentials::bearer(&done.text("access_token"));
    vbaz.get(&format!("/{id}")).by(&access).await.expect_ok();
}

#[tokio::test]
async fn row_6_names_and_grants_are_matched_whatever_their_case() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let both = |user: &'static str, pass: &'static str| [(user, "maria"), (pass, PASSWORD)];
    for (names, grant) in [
        (both("Username", "Password"), Some("Password")),
        (both("username", "password"), Some("password")),
        (both("USERNAME", "PASSWORD"), Some("PASSWORD")),
        (both("username", "password"), None),
        (both("username", "password"), Some("")),
    ] {
        let mut form = names.to_vec();
        form.extend(grant.map(|grant| ("Grant_Type", grant)));
        form.push(("api-version", "8.1"));
        let answer = vbaz.token(&form).by(&Credentials::raw("Bearer shown-by-mistake")).await;
        assert_eq!(answer.status, 200, "{form:?}: {}", answer.shown());
    }
    let enabled = vbaz.enrolled(&id, &admin).await;
    for (grant, code) in [("MFA", &enabled.codes[0]), ("mfa", &enabled.codes[1]), ("Mfa", &enabled.codes[2])]
    {
        let token = vbaz.first_step("maria").await;
        vbaz.token(&[("grant_type", grant), ("MFA_Token", &token), ("Mfa_Code", code)]).await.expect_ok();
    }
}

#[tokio::test]
async fn row_6_what_the_token_endpoint_refuses() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    vbaz.create("maria", "PortalOperator").await;
    let name = ("username", "maria");
    let token = "QTFCMkMzRDRFNUY2MDcxODI5M0E0QjVDNkQ3RThGOTBBMUIyQzNENEU1RjYwNzE4MjkzQTRCNUM2RDdFOEY5MA==";

    for (row, form, status) in [
        ("no password", vec![name], 400),
        ("an empty password", vec![name, ("password", "")], 400),
        ("no name", vec![("password", PASSWORD)], 400),
        ("another grant", vec![("grant_type", "Saml"), name, ("password", PASSWORD)], 400),
        ("a field twice", vec![name, name, ("password", PASSWORD)], 400),
        ("no refresh token", vec![("grant_type", "Refresh_token")], 400),
        ("no code", vec![("grant_type", "Mfa"), ("mfa_token", token)], 400),
        ("no token", vec![("grant_type", "Mfa"), ("mfa_code", "123456")], 400),
        ("a wrong password", vec![name, ("password", "wrong-wrong-wrong")], 401),
        ("nobody", vec![("username", "nobody"), ("password", PASSWORD)], 401),
        ("an unknown token", vec![("grant_type", "Mfa"), ("mfa_token", token), ("mfa_code", "123456")], 401),
        ("no token at all", vec![("grant_type", "Mfa"), ("mfa_token", "x"), ("mfa_code", "123456")], 401),
        ("a wrong refresh token", vec![("grant_type", "Refresh_token"), ("refresh_token", "csr_x")], 401),
    ] {
        let answer = vbaz.token(&form).await;
        assert_eq!(answer.status.as_u16(), status, "{row}: {}", answer.shown());
        expect_problem(&answer, status, None);
        if status == 401 {
            assert_eq!(answer["instance"], "/veeam/api/oauth2/token", "{row}");
        }
    }
    let json = app.post("/veeam/api/oauth2/token").json(json!({ "username": "maria", "password": PASSWORD }));
    expect_problem(&json.await, 415, None);
}

#[tokio::test]
async fn row_6_a_wrong_code_is_401_and_the_fifth_locks() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let enabled = vbaz.enrolled(&id, &admin).await;
    let (token, wrong) = (vbaz.first_step("maria").await, enabled.otp.wrong_code(app.now()));
    for _ in 0..5 {
        expect_problem(&vbaz.second_step(&token, &wrong).await, 401, None);
    }

    expect_problem(&vbaz.second_step(&token, &enabled.otp.code(app.now())).await, 401, None);

    vbaz.second_step(&token, &enabled.codes[0]).await.expect_ok();
    app.advance(30);
    vbaz.second_step(&vbaz.first_step("maria").await, &enabled.otp.code(app.now())).await.expect_ok();
}

#[tokio::test]
async fn row_6_a_second_step_token_lapses_and_is_nobody_elses() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let admin = vbaz.admin().await;
    let mut codes = Vec::new();
    for name in ["maria", "otto"] {
        let id = vbaz.create(name, "PortalOperator").await;
        codes.push(vbaz.enrolled(&id, &admin).await.codes);
    }
    let token = vbaz.first_step("maria").await;

    expect_problem(&vbaz.second_step(&token, &codes[1][0]).await, 401, None);
    let bearer = Credentials::bearer(&token);
    expect_problem(&vbaz.get("").by(&bearer).await, 401, None);
    app.advance(600);
    expect_problem(&vbaz.second_step(&token, &codes[0][0]).await, 401, None);
    vbaz.second_step(&vbaz.first_step("maria").await, &codes[0][0]).await.expect_ok();
}

#[tokio::test]
async fn row_6_a_second_step_token_that_was_tampered_with_opens_nothing() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let codes = vbaz.enrolled(&id, &admin).await.codes;
    let token = vbaz.first_step("maria").await;
    let digits = data_encoding::BASE64.decode(token.as_bytes()).expect("Base64");

    // Each digit of the hash, behind those of the person.
    for place in 32..64 {
        let mut forged = digits.clone();
        forged[place] = if forged[place] == b'0' { b'1' } else { b'0' };
        let forged = data_encoding::BASE64.encode(&forged);
        expect_problem(&vbaz.second_step(&forged, &codes[0]).await, 401, None);
    }

    assert_eq!(app.count(&id, "verify.rejected").await, 0, "nothing was tried");
    vbaz.second_step(&token, &codes[0]).await.expect_ok();
}

#[tokio::test]
async fn row_6_refresh_returns_a_new_pair_and_asks_for_no_second_step() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let enabled = vbaz.enrolled(&id, &admin).await;
    let first = vbaz.second_step(&vbaz.first_step("maria").await, &enabled.codes[0]).await.expect_ok();
    let refresh = first.text("refresh_token");

    let second =
        vbaz.token(&[("grant_type", "Refresh_token"), ("refresh_token", &refresh)]).await.expect_ok();
    // As a sample of the vendor's has it: without a grant, and with the password once more.
    let next = second.text("refresh_token");
    let form = [("refresh_token", next.as_str()), ("username", "maria"), ("password", PASSWORD)];
    let third = vbaz.token(&form).await.expect_ok();

    assert_ne!(refresh, next);
    assert!(third.json.get("mfa_token").is_none());
    assert_eq!(third["expires_in"], 600, "as policy has it");
    let again = vbaz.token(&[("grant_type", "Refresh_token"), ("refresh_token", &refresh)]).await;
    expect_problem(&again, 401, None);
}

#[tokio::test]
async fn row_6_a_short_session_is_short() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8");
    vbaz.create("maria", "PortalOperator").await;
    let form = |short: &'static str| {
        [("username", "maria"), ("password", PASSWORD), ("short_lived_refresh_token", short)]
    };
    let short = vbaz.token(&form("true")).await.expect_ok();
    assert_eq!(short["shortLived"], true);
    assert_eq!(vbaz.token(&form("False")).await.expect_ok()["shortLived"], false);
    expect_problem(&vbaz.token(&form("soon")).await, 400, Some("short_lived_refresh_token"));
    app.advance(3600);

    let late = vbaz.token(&[("refresh_token", &short.text("refresh_token"))]).await;

    expect_problem(&late, 401, None);
}

#[tokio::test]
async fn row_6_signing_out_ends_both_tokens() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v8.1");
    let id = vbaz.create("maria", "PortalOperator").await;
    let login = vbaz.password("maria", PASSWORD).await.expect_ok();
    let access = Credentials::bearer(&login.text("access_token"));

    app.delete("/veeam/api/oauth2/token?api-version=8.1").by(&access).await.expect(204);

    expect_problem(&vbaz.get(&format!("/{id}")).by(&access).await, 401, None);
    let refreshed = vbaz.token(&[("refresh_token", &login.text("refresh_token"))]).await;
    expect_problem(&refreshed, 401, None);
    expect_problem(&app.delete("/veeam/api/oauth2/token").await, 401, None);
}

#[tokio::test]
async fn row_7_problems_have_the_members_of_their_status() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let maria = vbaz.session("maria", PASSWORD).await;
    let accept = format!("/{id}/acceptMfa");
    let shown = |answer: Answer| {
        assert_eq!(answer["traceId"].as_str(), answer.header("x-request-id"));
        without(&answer, &["traceId"]).replace(&id, "[id]")
    };
    let bad = shown(vbaz.accept(&id, &admin, "000000", "QUJD").await.expect(400));
    let nobody = vbaz.get("").await.expect(401);
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
    let forbidden = shown(vbaz.get("").by(&maria).await.expect(403));
    let missing = shown(vbaz.get("/9999").by(&admin).await.expect(404));
    let method = shown(vbaz.call(Method::PATCH, "").by(&admin).await.expect(405));
    let media = shown(vbaz.post(&accept).by(&admin).body("text/plain", b"x".to_vec()).await.expect(415));
    let login = shown(vbaz.password("maria", "wrong-wrong-wrong").await.expect(401));

    insta::assert_snapshot!(
        "veeam_problems",
        [bad, shown(nobody), forbidden, missing, method, media, login].join("\n")
    );
}

#[tokio::test]
async fn row_7_the_order_of_checks_is_401_403_404_415_400() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let maria = vbaz.session("maria", PASSWORD).await;
    for (method, rest) in [
        (Method::POST, "/9999/enableMfa"),
        (Method::POST, "/9999/acceptMfa"),
        (Method::PUT, "/9999"),
        (Method::POST, "/9999/changePassword"),
    ] {
        // Everything is wrong at once; then one thing less each time.
        let call = |rest: &str| vbaz.call(method.clone(), rest).body("text/plain", b"{".to_vec());
        let there = rest.replace("9999", &id);
        let default = rest.replace("9999", "1000");
        expect_problem(&call(rest).await, 401, None);
        expect_problem(&call(rest).by(&maria).await, 403, None);
        expect_problem(&call(&default).by(&maria).await, 403, None);
        expect_problem(&call(rest).by(&admin).await, 404, None);
        expect_problem(&call(&there).by(&admin).await, 415, None);
        let malformed = vbaz.call(method.clone(), &there).by(&admin).body("application/json", b"{".to_vec());
        expect_problem(&malformed.await, 400, None);
    }
}

#[tokio::test]
async fn row_9_every_version_is_served_and_no_other() {
    let app = TestApp::start().await;
    let admin = Vbaz::of(&app, "v1").admin().await;
    for version in ["v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v8.1"] {
        let page = Vbaz::of(&app, version).get("").by(&admin).await.expect_ok();
        let id = page["results"][0]["id"].as_str().expect("an id").to_owned();
        assert_eq!(id == "1000", version == "v1", "{version}: {id}");
        let href = page["results"][0]["_links"]["self"]["href"].as_str().expect("a link");
        assert_eq!(href, format!("https://countersign.test/veeam/api/{version}/users/{id}"));
        let path = &href["https://countersign.test".len()..];
        app.get(path).by(&admin).await.expect_ok();
    }
    for version in ["v0", "v9", "v8.2", "V1", "1"] {
        let answer = app.get(&format!("/veeam/api/{version}/users")).by(&admin).await;
        expect_problem(&answer, 404, None);
    }
}

/// Promise 5.
#[tokio::test]
async fn nothing_that_was_handed_out_stands_in_the_trail_or_in_a_list() {
    let app = TestApp::start().await;
    let vbaz = Vbaz::of(&app, "v1");
    let (admin, id) = (vbaz.admin().await, vbaz.create("maria", "PortalOperator").await);
    let enabled = vbaz.enrolled(&id, &admin).await;

    let trail = app.get(&format!("/v1/audit?user={id}&limit=200")).by(&app.root()).await.expect_ok().shown();
    let list = vbaz.get("").by(&admin).await.expect_ok().shown();

    for secret in enabled.codes.iter().chain([&enabled.token, &enabled.otp.base32]) {
        assert!(!trail.contains(secret) && !list.contains(secret), "{secret}");
    }
    insta::assert_snapshot!(app.audit_trail(&id).await, @r"
    user.created by user
    password.set by user
    factor.enrolled totp by user
    factor.activated totp by user
    recovery_codes.replaced recovery by user
    ");
}
