//! SafeShare, held against its contract. Tests are named after its sections.

use crate::{
    enrolment_page::newest_link,
    test_app::{Answer, Call, Credentials, Otp, PASSWORD, Person, TestApp},
};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// An id nothing has.
const NOBODYS: &str = "0190163d-8694-739b-aea5-966c26f8ad91";
/// The bodies of the seeds. The latest page prints its samples without braces, which is not JSON.
const SEED_34_ENABLE: &str = "{\n    \"mfaEnabled\": true\n    }";
const SEED_34_REKEY: &str = "{\n    \"generateNewAuthenticatorKey\": true\n    }";
const SEED_LATEST_ENABLE: &str = "\"mfaEnabled\": true";
const SEED_LATEST_REKEY: &str = "\"generateNewAuthenticatorKey\": true";

/// A client of SafeShare.
struct SafeShare<'a>(&'a TestApp);

impl<'a> SafeShare<'a> {
    fn call(&self, method: Method, path: &str) -> Call<'a> {
        self.0.call(method, &format!("/safeshare/api{path}"))
    }

    fn get(&self, path: &str, by: &Credentials) -> Call<'a> {
        self.call(Method::GET, path).by(by)
    }

    fn put(&self, path: &str, by: &Credentials, body: Value) -> Call<'a> {
        self.call(Method::PUT, path).by(by).json(body)
    }

    fn change(&self, user: &str, by: &Credentials, body: Value) -> Call<'a> {
        self.put(&format!("/v1/users/{user}"), by, body)
    }

    fn token(&self, form: &[(&str, &str)]) -> Call<'a> {
        self.call(Method::POST, "/oauth/token").by(&self.0.root()).form(form)
    }

    fn password(&self, username: &str, password: &str) -> Call<'a> {
        self.token(&[("grant_type", "password"), ("username", username), ("password", password)])
    }

    fn second_step(&self, token: &str, code: &str) -> Call<'a> {
        self.token(&[("grant_type", "mfa"), ("access_token", token), ("code", code)])
    }

    /// Signs somebody in whom nobody asks for a code.
    async fn session(&self, username: &str) -> Credentials {
        let answer = self.password(username, PASSWORD).await.expect_ok();
        assert_eq!(answer["scope"], "full", "{}", answer.shown());
        Credentials::bearer(&answer.text("access_token"))
    }

    async fn owner(&self) -> Credentials {
        let answer = self.password("admin", &self.0.admin_password).await.expect_ok();
        Credentials::bearer(&answer.text("access_token"))
    }

    /// The restricted token of somebody who is asked for a code.
    async fn restricted(&self, username: &str) -> String {
        let answer = self.password(username, PASSWORD).await.expect_ok();
        assert_eq!(answer["scope"], "mfa", "{}", answer.shown());
        answer.text("access_token")
    }

    /// What the list of administrators says of one.
    async fn is_on(&self, user: &str) -> bool {
        let owner = self.owner().await;
        let listed = self.get("/v1/users", &owner).await.expect_ok();
        let items = listed["items"].as_array().expect("items");
        let item = items.iter().find(|item| item["id"] == user).expect("an administrator");
        item["mfaEnabled"].as_bool().expect("a boolean")
    }
}

/// Follows a link and sets up an app.
async fn set_up(app: &TestApp, page: &str) -> Otp {
    let shown = app.get(page).await.expect_ok().shown();
    let (_, rest) = shown.split_once("<code dir=\"ltr\">").expect("a key");
    let otp = Otp::from_base32(&rest.split('<').next().expect("its end").replace(' ', ""));
    app.post(page).form(&[("code", &otp.code(app.now()))]).await.expect_ok();
    app.advance(30);
    otp
}

/// Mails that wait, by subject.
async fn mails(app: &TestApp, subject: &str) -> usize {
    let listed = app.get("/v1/deliveries?limit=200").by(&app.root()).await.expect_ok();
    let items = listed["items"].as_array().expect("items");
    items.iter().filter(|item| item["subject"] == subject).count()
}

/// An administrator of the installation.
async fn administrator<'a>(app: &'a TestApp, name: &str) -> Person<'a> {
    app.user(name).with_role("owner").with_password().created_by(&app.owner().await).await
}

#[track_caller]
fn expect_error(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status.as_u16(), answer.error()), (status, error), "{}", answer.shown());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let is_of_oauth = answer.json.get("error_description").is_some();
    match status {
        401 | 403 => assert!(is_of_oauth, "{}", answer.shown()),
        _ if is_of_oauth => {}
        _ => {
            assert_eq!(answer["status"], status, "{}", answer.shown());
            assert!(answer["message"].is_string(), "{}", answer.shown());
        }
    }
}

#[track_caller]
fn expect_empty(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0), "{}", answer.shown());
}

#[tokio::test]
async fn row_9_the_acceptance_walk_through() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let bea = administrator(&app, "bea").await;

    // 1. and 2.
    let a = safe.owner().await;
    let listed = safe.get("/v1/users", &a).await.expect_ok();
    assert_eq!(listed["count"], 2);
    assert!(!safe.is_on(&bea.id).await);

    // 3.
    expect_empty(&safe.change(&bea.id, &a, json!({ "mfaEnabled": true })).await);
    assert!(safe.is_on(&bea.id).await);
    let link = newest_link(&app).await;

    // 4.
    let restricted = safe.restricted("bea@example.com").await;
    let refused = safe.get("/v1/users", &Credentials::bearer(&restricted)).await;
    expect_error(&refused, 403, "insufficient_scope");

    // 5.
    let otp = set_up(&app, &link).await;
    let full = safe.second_step(&restricted, &otp.code(app.now())).await.expect_ok();
    assert_eq!(full["scope"], "full");
    safe.get("/v1/users", &Credentials::bearer(&full.text("access_token"))).await.expect_ok();

    // 6.
    app.advance(31);
    let old = &otp;
    expect_empty(&safe.change(&bea.id, &a, json!({ "generateNewAuthenticatorKey": true })).await);
    let link = newest_link(&app).await;
    let restricted = safe.restricted("bea@example.com").await;
    let refused = safe.second_step(&restricted, &old.code(app.now())).await;
    expect_error(&refused, 400, "invalid_grant");
    let otp = set_up(&app, &link).await;
    app.get(&link).await.expect(410);
    safe.second_step(&restricted, &otp.code(app.now())).await.expect_ok();
    app.advance(31);
    let a = safe.owner().await;
    expect_empty(&safe.change(&bea.id, &a, json!({ "generateNewAuthenticatorKey": true })).await);
    let link = newest_link(&app).await;
    app.advance(24 * 3600 - 1);
    app.get(&link).await.expect_ok();
    app.advance(1);
    app.get(&link).await.expect(410);

    // 7.
    let a = safe.owner().await;
    expect_empty(&safe.change(&bea.id, &a, json!({ "mfaEnabled": false })).await);
    safe.session("bea@example.com").await;

    // 8.
    app.another_organisation("acme").await;
    app.user("cyd").with_role("admin").with_password().await;
    let member = app.user("mia").with_totp().await;
    let foreign = app.user("finn").with_totp().in_organisation("acme", &app.owner().await).await;
    let c = safe.session("cyd@example.com").await;
    expect_empty(&safe.change(&member.id, &c, json!({ "generateNewAuthenticatorKey": true })).await);
    let rekey = json!({ "generateNewAuthenticatorKey": true });
    expect_error(&safe.change(&foreign.id, &c, rekey).await, 404, "user_not_found");
    let refused = safe.change(&member.id, &c, json!({ "mfaEnabled": true })).await;
    expect_error(&refused, 403, "access_denied");

    // 9.
    let other = app.user("otto").await;
    let organisation = format!("/v1/organisations/{}", app.organisation);
    let before = mails(&app, "enrolment_link").await;
    expect_empty(&safe.put(&organisation, &c, json!({ "enforceMfa": true })).await);
    assert_eq!(mails(&app, "enrolment_link").await, before + 2, "cyd and otto; mia's is open");
    let members = safe.get(&format!("{organisation}/users"), &c).await.expect_ok();
    let items = members["items"].as_array().expect("items");
    assert!(items.iter().all(|item| item["mfaEnabled"] == true), "{}", members.shown());
    assert_eq!(safe.get(&organisation, &c).await.expect_ok()["enforceMfa"], true);
    assert_eq!(app.count(&other.id, "enrolment.link_sent").await, 1);

    // 10.
    let a = safe.password("admin", &app.admin_password).await.expect_ok();
    assert_eq!(a["scope"], "mfa", "enforced means everybody");
    expect_error(&safe.change(&member.id, &c, json!({})).await, 400, "invalid_value");
    expect_error(&safe.change(&member.id, &c, json!({ "mfaEnabled": "yes" })).await, 400, "invalid_type");
    expect_error(&safe.change(NOBODYS, &c, json!({})).await, 404, "user_not_found");
    expect_error(&safe.change(&member.id, &Credentials::NONE, json!({})).await, 401, "unauthorized");
    let path = format!("/v1/users/{}", member.id);
    let text = safe.call(Method::PUT, &path).by(&c).body("text/plain", b"{}".to_vec()).await;
    expect_error(&text, 415, "unsupported_media_type");
    let wrong_method = safe.get(&path, &c).await;
    expect_error(&wrong_method, 405, "method_not_allowed");
    assert_eq!(wrong_method.header("allow"), Some("PUT"));
}

#[tokio::test]
async fn row_2_the_seeds_requests_byte_for_byte() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let bea = administrator(&app, "bea").await;
    let a = safe.owner().await;
    let path = format!("/v1/users/{}", bea.id);
    let send = async |body: &str| {
        app.advance(31);
        safe.call(Method::PUT, &path).by(&a).body("application/json", body.as_bytes().to_vec()).await
    };

    // The latest page's samples are no JSON documents: a JSON object is required.
    expect_error(&send(SEED_LATEST_ENABLE).await, 400, "malformed_json");
    expect_error(&send(SEED_LATEST_REKEY).await, 400, "malformed_json");
    assert!(!safe.is_on(&bea.id).await);
    for sample in [SEED_LATEST_ENABLE, SEED_LATEST_REKEY] {
        expect_empty(&send(&format!("{{{sample}}}")).await);
    }
    expect_empty(&send(SEED_34_ENABLE).await);
    expect_empty(&send(SEED_34_REKEY).await);

    assert!(safe.is_on(&bea.id).await);
    assert_eq!(app.count(&bea.id, "enrolment.link_sent").await, 3, "one when switched on, one a new key");
}

/// A row of the table of semantics: what the account has, what is sent, what is answered, and how many links are mailed.
struct Case {
    row: &'static str,
    is_on: bool,
    body: &'static str,
    status: u16,
    is_on_then: bool,
    links: usize,
}

#[tokio::test]
async fn row_2_2_semantics() {
    let case =
        |row, is_on, body, status, is_on_then, links| Case { row, is_on, body, status, is_on_then, links };
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    for (number, case) in [
        case("mfaEnabled:true, was off", false, r#"{"mfaEnabled":true}"#, 200, true, 1),
        case("mfaEnabled:true, already on", true, r#"{"mfaEnabled":true}"#, 200, true, 0),
        case("mfaEnabled:false", true, r#"{"mfaEnabled":false}"#, 200, false, 0),
        case("mfaEnabled:false, already off", false, r#"{"mfaEnabled":false}"#, 200, false, 0),
        case("generate:true, on", true, r#"{"generateNewAuthenticatorKey":true}"#, 200, true, 1),
        case("generate:true, off", false, r#"{"generateNewAuthenticatorKey":true}"#, 400, false, 0),
        case("generate:false, on", true, r#"{"generateNewAuthenticatorKey":false}"#, 200, true, 0),
        case("generate:false, off", false, r#"{"generateNewAuthenticatorKey":false}"#, 200, false, 0),
        case("both, off", false, r#"{"mfaEnabled":true,"generateNewAuthenticatorKey":true}"#, 200, true, 1),
        case("both, on", true, r#"{"mfaEnabled":true,"generateNewAuthenticatorKey":true}"#, 200, true, 1),
        case(
            "true, false",
            false,
            r#"{"mfaEnabled":true,"generateNewAuthenticatorKey":false}"#,
            200,
            true,
            1,
        ),
        case("false, true", true, r#"{"mfaEnabled":false,"generateNewAuthenticatorKey":true}"#, 400, true, 0),
        case(
            "false, false",
            true,
            r#"{"mfaEnabled":false,"generateNewAuthenticatorKey":false}"#,
            200,
            false,
            0,
        ),
        case("neither", true, "{}", 400, true, 0),
        case("unknown members only", true, r#"{"mfa":true}"#, 400, true, 0),
        case("unknown members beside", true, r#"{"mfaEnabled":false,"mfa":1}"#, 200, false, 0),
        case("non-boolean text", true, r#"{"mfaEnabled":"false"}"#, 400, true, 0),
        case("non-boolean number", true, r#"{"mfaEnabled":0}"#, 400, true, 0),
        case("null", true, r#"{"mfaEnabled":null}"#, 400, true, 0),
        case("null key", true, r#"{"generateNewAuthenticatorKey":null}"#, 400, true, 0),
        case("twice", true, r#"{"mfaEnabled":true,"mfaEnabled":false}"#, 400, true, 0),
        case("not JSON", true, "mfaEnabled=false", 400, true, 0),
        case("array", true, "[false]", 400, true, 0),
        case("text", true, "\"mfaEnabled\"", 400, true, 0),
        case("malformed", true, r#"{"mfaEnabled":false"#, 400, true, 0),
        case("no body", true, "", 400, true, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("admin-{number}");
        let bea = administrator(&app, &name).await;
        if case.is_on {
            let body = json!({ "type": "totp", "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" });
            app.post(&bea.path("/factors")).by(&app.owner().await).json(body).await.expect_created();
        }
        let a = safe.owner().await;
        let path = format!("/v1/users/{}", bea.id);
        let body = case.body.as_bytes().to_vec();

        let answer = safe.call(Method::PUT, &path).by(&a).body("application/json", body).await;

        assert_eq!(answer.status.as_u16(), case.status, "{}: {}", case.row, answer.shown());
        assert_eq!(answer.body.is_empty(), case.status == 200, "{}", case.row);
        assert_eq!(safe.is_on(&bea.id).await, case.is_on_then, "{}", case.row);
        assert_eq!(app.count(&bea.id, "enrolment.link_sent").await, case.links, "{}", case.row);
        let first = safe.password(&format!("{name}@example.com"), PASSWORD).await.expect_ok();
        assert_eq!(first["scope"] == "mfa", case.is_on_then, "{}", case.row);
    }
}

#[tokio::test]
async fn row_2_2_nobody_switches_off_what_is_enforced() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let bea = administrator(&app, "bea").await;
    let a = safe.owner().await;
    expect_empty(&safe.change(&bea.id, &a, json!({ "mfaEnabled": true })).await);
    app.policy(json!({ "requirement": "enforced" })).await;
    let before = app.heads().await;

    let refused = safe.change(&bea.id, &a, json!({ "mfaEnabled": false })).await;

    expect_error(&refused, 409, "mfa_enforced");
    assert_eq!(app.heads().await, before);
}

#[tokio::test]
async fn row_2_2_a_new_key_ends_the_old_one_and_refresh_tokens() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let mia = app.user("mia").with_totp().with_password().await;
    app.user("cyd").with_role("admin").with_password().await;
    let restricted = safe.restricted("mia@example.com").await;
    let full = safe.second_step(&restricted, &mia.code()).await.expect_ok();
    let c = safe.session("cyd@example.com").await;

    expect_empty(&safe.change(&mia.id, &c, json!({ "generateNewAuthenticatorKey": true })).await);

    let refresh = [("grant_type", "refresh_token"), ("refresh_token", &*full.text("refresh_token"))];
    expect_error(&safe.token(&refresh).await, 400, "invalid_grant");
    app.advance(30);
    assert!(!mia.verify(mia.code()).await.accepted());
}

#[tokio::test]
async fn row_2_2_without_an_address_there_is_no_link() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let bea = administrator(&app, "bea").await;
    let owner = app.owner().await;
    app.patch(&bea.path("")).by(&owner).json(json!({ "email": null })).await.expect_ok();
    let before = app.heads().await;

    let refused = safe.change(&bea.id, &safe.owner().await, json!({ "mfaEnabled": true })).await;

    expect_error(&refused, 400, "invalid_value");
    assert!(!safe.is_on(&bea.id).await, "all of it or nothing");
    assert_ne!(app.heads().await, before, "the sign-ins");
}

#[tokio::test]
async fn row_2_1_who_may_call() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    app.another_organisation("acme").await;
    let owner = app.owner().await;
    let bea = administrator(&app, "bea").await;
    let member = app.user("mia").with_totp().await;
    let foreign = app.user("finn").with_totp().in_organisation("acme", &owner).await;
    app.user("cyd").with_role("admin").with_password().await;
    app.user("otto").with_password().await;
    let (a, c, otto) =
        (safe.owner().await, safe.session("cyd@example.com").await, safe.session("otto@example.com").await);
    let (switch, rekey) = (json!({ "mfaEnabled": true }), json!({ "generateNewAuthenticatorKey": true }));
    expect_empty(&safe.change(&bea.id, &a, switch.clone()).await);
    app.advance(31);

    for (row, by, target, body, status) in [
        ("administrator, administrator", &a, &bea, &switch, 200),
        ("administrator, administrator's key", &a, &bea, &rekey, 200),
        ("administrator, ordinary user", &a, &member, &switch, 400),
        ("administrator, ordinary user of their organisation, key", &a, &member, &rekey, 200),
        ("administrator, ordinary user elsewhere, key", &a, &foreign, &rekey, 403),
        ("organisation administrator, member", &c, &member, &switch, 403),
        ("organisation administrator, administrator", &c, &bea, &switch, 403),
        ("organisation administrator, administrator's key", &c, &bea, &rekey, 403),
        ("organisation administrator, foreign member", &c, &foreign, &rekey, 404),
        ("organisation administrator, foreign member", &c, &foreign, &switch, 404),
        ("anybody else", &otto, &member, &rekey, 403),
        ("anybody else, of foreign people", &otto, &foreign, &rekey, 403),
    ] {
        let answer = safe.change(&target.id, by, body.clone()).await;

        assert_eq!(answer.status.as_u16(), status, "{row}: {}", answer.shown());
    }
    // A key is taken away at once, however soon after the last mail; what bounds it is the hour.
    for _ in 2..=5 {
        expect_empty(&safe.change(&member.id, &c, rekey.clone()).await);
    }
    expect_error(&safe.change(&member.id, &c, rekey).await, 429, "sent_too_often");
}

#[tokio::test]
async fn row_2_1_an_administrator_switches_their_own_on_and_off() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let bea = administrator(&app, "bea").await;
    let own = safe.session("bea@example.com").await;

    expect_empty(&safe.change(&bea.id, &own, json!({ "mfaEnabled": true })).await);
    let otp = set_up(&app, &newest_link(&app).await).await;
    let by_password_alone = safe.change(&bea.id, &own, json!({ "mfaEnabled": false })).await;
    expect_error(&by_password_alone, 403, "access_denied");
    let restricted = safe.restricted("bea@example.com").await;
    let full = safe.second_step(&restricted, &otp.code(app.now())).await.expect_ok();
    let own = Credentials::bearer(&full.text("access_token"));
    expect_empty(&safe.change(&bea.id, &own, json!({ "mfaEnabled": false })).await);

    safe.session("bea@example.com").await;
}

#[tokio::test]
async fn row_7_checks_are_made_in_order() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    app.user("otto").with_password().await;
    let (a, otto) = (safe.owner().await, safe.session("otto@example.com").await);
    let bea = administrator(&app, "bea").await;
    let send = async |user: &str, by: &Credentials, kind: &str, body: &str| {
        let call = safe.call(Method::PUT, &format!("/v1/users/{user}")).by(by);
        call.body(kind, body.as_bytes().to_vec()).await.status.as_u16()
    };
    let before = app.heads().await;

    assert_eq!(send(NOBODYS, &Credentials::NONE, "text/plain", "x").await, 401);
    assert_eq!(send(NOBODYS, &Credentials::bearer("x.y.z"), "text/plain", "x").await, 401);
    assert_eq!(send(NOBODYS, &otto, "text/plain", "x").await, 403);
    assert_eq!(send(NOBODYS, &a, "text/plain", "x").await, 404);
    assert_eq!(send("bea", &a, "text/plain", "x").await, 404, "names are no ids");
    assert_eq!(send(&bea.id, &a, "text/plain", "x").await, 415);
    assert_eq!(send(&bea.id, &a, "", "{}").await, 415);
    assert_eq!(send(&bea.id, &a, "application/json; charset=utf-8", "x").await, 400);
    assert_eq!(app.heads().await, before);
}

#[tokio::test]
async fn row_7_errors_have_two_layers() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let (a, restricted) = (safe.owner().await, {
        let _ = app.user("mia").with_totp().with_password().await;
        safe.restricted("mia@example.com").await
    });
    let nobody = safe.get("/v1/users", &Credentials::NONE).await;
    assert_eq!(nobody.header("www-authenticate"), Some(r#"Bearer realm="countersign""#));
    let invalid = safe.get("/v1/users", &Credentials::bearer("x.y.z")).await;
    let challenge = r#"Bearer realm="countersign", error="invalid_token""#;
    assert_eq!(invalid.header("www-authenticate"), Some(challenge));
    let restricted = Credentials::bearer(&restricted);
    for path in ["/v1/users", "/v1/users/me", "/v1/users/me/mfa", "/v1/organisations"] {
        expect_error(&safe.get(path, &restricted).await, 403, "insufficient_scope");
    }

    let shown = [
        nobody,
        invalid,
        safe.get("/v1/users", &restricted).await,
        safe.change(NOBODYS, &a, json!({})).await,
        safe.get("/v1/nothing", &a).await,
        safe.get(&format!("/v1/users/{NOBODYS}"), &a).await,
        safe.put("/v1/users", &a, json!({ "email": "x", "systemAdmin": true })).await,
        safe.token(&[("grant_type", "password"), ("username", "nobody"), ("password", "wrong")]).await,
        safe.token(&[("grant_type", "telepathy")]).await,
        safe.token(&[]).await,
        safe.call(Method::POST, "/oauth/token").form(&[("grant_type", "password")]).await,
    ];
    let lines: Vec<String> =
        shown.iter().map(|answer| format!("{} {}", answer.status.as_u16(), answer.shown())).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn row_3_1_the_user_object() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let bea = administrator(&app, "bea").await;
    let body = json!({ "givenName": "Bea", "familyName": "Admin" });
    app.patch(&bea.path("")).by(&app.owner().await).json(body).await.expect_ok();
    let a = safe.owner().await;

    let listed = safe.get("/v1/users?searchText=BEA@", &a).await.expect_ok();

    let shown = listed.shown().replace(&bea.id, "(id)").replace(&app.organisation.to_string(), "(org)");
    insta::assert_snapshot!(shown);
}

/// The addresses on a list, without their domain.
fn names(answer: &Answer) -> Vec<String> {
    let items = answer["items"].as_array().expect("items");
    let name = |item: &Value| item["email"].as_str().unwrap_or("-").replace("@example.com", "");
    items.iter().map(name).collect()
}

#[tokio::test]
async fn row_3_2_the_list_has_administrators_of_the_installation_only() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    app.another_organisation("acme").await;
    let owner = app.owner().await;
    app.user("mia").await;
    app.user("cyd").with_role("admin").await;
    administrator(&app, "bea").await;
    app.user("zoe").with_role("owner").in_organisation("acme", &owner).await;
    let a = safe.owner().await;
    let list = async |query: &str| safe.get(&format!("/v1/users{query}"), &a).await.expect_ok();

    assert_eq!(names(&list("").await), ["-", "bea", "zoe"]);
    assert_eq!(names(&list("?searchText=O").await), ["bea", "zoe"], "of example.com");
    assert_eq!(names(&list("?searchText=Zo").await), ["zoe"]);
    assert_eq!(names(&list("?sortBy=email&orderBy=desc").await), ["zoe", "bea", "-"]);
    let second = list("?sortBy=email&limit=1&offset=1").await;
    assert_eq!(
        (names(&second), &second["count"], &second["offset"]),
        (vec!["bea".into()], &json!(3), &json!(1))
    );
}

#[tokio::test]
async fn row_3_3_and_3_4_members_are_searched_sorted_and_paged() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let acme = app.another_organisation("acme").await;
    let owner = app.owner().await;
    app.user("finn").in_organisation("acme", &owner).await;
    for (name, given, family) in [("mia", "Ada", "Zorn"), ("leo", "Zoe", "Adams"), ("kim", "Kim", "Kessler")]
    {
        let person = app.user(name).await;
        let body = json!({ "givenName": given, "familyName": family });
        app.patch(&person.path("")).by(&app.root()).json(body).await.expect_ok();
    }
    app.user("cyd").with_role("admin").with_password().await;
    let c = safe.session("cyd@example.com").await;
    let path = format!("/v1/organisations/{}/users", app.organisation);
    let list = async |query: &str| safe.get(&format!("{path}{query}"), &c).await;
    let found = async |query: &str| names(&list(query).await.expect_ok());

    assert_eq!(found("").await, ["-", "mia", "leo", "kim", "cyd"]);
    assert_eq!(found("?limit=0").await.len(), 5, "0 is no limit");
    assert_eq!(found("?searchText=ada").await, ["mia", "leo"], "first name or last name");
    assert_eq!(found("?searchText=KIM@").await, ["kim"]);
    assert_eq!(found("?searchText=ada&searchColumn=firstName").await, ["mia"]);
    assert_eq!(found("?searchText=ada&searchColumn=lastName").await, ["leo"]);
    assert_eq!(found("?searchText=ada&searchColumn=email").await, Vec::<String>::new());
    assert_eq!(found("?sortBy=firstName").await, ["-", "cyd", "mia", "kim", "leo"]);
    assert_eq!(found("?sortBy=lastName&orderBy=desc&limit=2").await, ["mia", "kim"]);
    assert_eq!(found("?sortBy=id&orderBy=desc&limit=1").await, ["cyd"]);
    assert_eq!(found("?orderBy=desc&limit=1").await, ["cyd"]);
    let page = list("?limit=2&offset=3").await.expect_ok();
    assert_eq!(
        (names(&page), &page["count"], &page["offset"]),
        (vec!["kim".into(), "cyd".into()], &json!(5), &json!(3))
    );
    let mia = list("?searchText=mia").await["items"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(found(&format!("?searchText={mia}&searchColumn=id&sortBy=email")).await, ["mia"]);
    assert_eq!(found("?searchText=0190&searchColumn=id").await, Vec::<String>::new());
    for wrong in [
        "?limit=101",
        "?limit=-1",
        "?limit=x",
        "?offset=-1",
        "?searchText=a&searchColumn=phone",
        "?sortBy=phone",
        "?orderBy=up",
    ] {
        expect_error(&list(wrong).await, 400, "invalid_value");
    }
    let foreign = safe.get(&format!("/v1/organisations/{acme}/users"), &c).await;
    expect_error(&foreign, 404, "organisation_not_found");
    let a = safe.owner().await;
    assert_eq!(names(&safe.get(&format!("/v1/organisations/{acme}/users"), &a).await.expect_ok()), ["finn"]);
}

#[tokio::test]
async fn row_3_5_administrators_are_made_and_unmade_by_others() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let mia = app.user("mia").with_role("admin").with_password().await;
    let a = safe.owner().await;
    let appoint = async |email: &str, is: bool| {
        safe.put("/v1/users", &a, json!({ "email": email, "systemAdmin": is })).await
    };
    let listed = async || names(&safe.get("/v1/users", &a).await.expect_ok());

    expect_empty(&appoint("MIA@example.com", true).await);
    expect_empty(&appoint("new@example.com", true).await);
    assert_eq!(listed().await, ["-", "mia", "new"]);
    expect_empty(&appoint("mia@example.com", false).await);
    assert_eq!(listed().await, ["-", "new"]);
    let left = app.get(&mia.path("")).by(&app.root()).await.expect_ok();
    assert_eq!(left["roles"], json!(["admin"]), "what they were before");
    expect_error(&appoint("nobody@example.com", false).await, 404, "user_not_found");
    let named =
        json!({ "email": "joe@example.com", "systemAdmin": true, "firstName": "Joe", "lastName": "Ng" });
    expect_empty(&safe.put("/v1/users", &a, named).await);
    let found = safe.get("/v1/users?searchText=joe", &a).await.expect_ok();
    assert_eq!(
        (&found["items"][0]["firstName"], &found["items"][0]["lastName"]),
        (&json!("Joe"), &json!("Ng"))
    );
    let bea = administrator(&app, "bea").await;
    let own = safe.session("bea@example.com").await;
    let body = json!({ "email": "bea@example.com", "systemAdmin": false });
    expect_error(&safe.put("/v1/users", &own, body).await, 403, "access_denied");
    assert_eq!(app.count(&bea.id, "user.updated").await, 0);
}

#[tokio::test]
async fn row_3_5_an_address_that_several_have_makes_nobody_an_administrator() {
    // The account of the oldest organisation was taken: whoever administers that could have had the role given to an
    // account of their own.
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    app.another_organisation("acme").await;
    app.another_organisation("globex").await;
    let a = safe.owner().await;
    let new = json!({ "username": "ceo", "email": "ceo@example.com" });
    for organisation in ["acme", "globex"] {
        let path = format!("/v1/users?organisation={organisation}");
        app.post(&path).by(&a).json(new.clone()).await.expect_created();
    }
    let appoint = || safe.put("/v1/users", &a, json!({ "email": "ceo@example.com", "systemAdmin": true }));
    let before = app.heads().await;

    expect_error(&appoint().await, 400, "invalid_value");

    assert_eq!(app.heads().await, before);
    app.post("/v1/users").by(&a).json(new).await.expect_created();
    expect_empty(&appoint().await);
    assert_eq!(names(&safe.get("/v1/users", &a).await.expect_ok()), ["-", "ceo"], "one's own comes first");
}

#[tokio::test]
async fn row_4_organisations_and_their_members() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let a = safe.owner().await;
    let new = json!({ "name": "Acme & Söhne", "quota": 1024, "adminEmail": "help@example.com", "contactEmail": "c@example.com" });
    let post = |body: &Value| safe.call(Method::POST, "/v1/organisations").by(&a).json(body.clone());

    let made = post(&new).await.expect_created();
    expect_error(&post(&new).await, 409, "taken");
    for member in ["name", "quota", "adminEmail", "contactEmail"] {
        let mut without = new.clone();
        without.as_object_mut().expect("an object").remove(member);
        expect_error(&post(&without).await, 400, "missing_member");
    }
    let acme = format!("/v1/organisations/{}", made.text("id"));
    let listed = safe.get("/v1/organisations", &a).await.expect_ok();
    assert_eq!(listed["count"], 2);
    assert_eq!(listed["items"][1]["organisationRemovalRequest"], Value::Null);
    assert_eq!(safe.get("/v1/organisations?searchText=acme", &a).await["count"], 1);

    let members = format!("{acme}/users");
    let body = json!({ "email": "dan@example.com", "firstName": "Dan", "role": "ROLE_USER_ADMIN" });
    let dan = safe.call(Method::POST, &members).by(&a).json(body.clone()).await.expect_created();
    assert_eq!((&dan["isOrgAdmin"], &dan["role"]), (&json!(true), &json!("ROLE_USER_ADMIN")));
    expect_error(&safe.call(Method::POST, &members).by(&a).json(body).await, 409, "taken");
    let adhoc = json!({ "email": "eve@example.com", "role": "ROLE_ADHOC_COLLABORATOR" });
    expect_error(&safe.call(Method::POST, &members).by(&a).json(adhoc).await, 400, "invalid_value");
    let dans = format!("{members}/{}", dan.text("id"));
    expect_empty(&safe.put(&dans, &a, json!({ "isOrgAdmin": false })).await);
    expect_error(&safe.put(&dans, &a, json!({})).await, 400, "invalid_value");
    let listed = safe.get(&members, &a).await.expect_ok();
    assert_eq!(listed["items"][0]["isOrgAdmin"], false);
    let elsewhere = format!("/v1/organisations/{}/users/{}", app.organisation, dan.text("id"));
    expect_error(&safe.call(Method::DELETE, &elsewhere).by(&a).await, 404, "user_not_found");
    expect_empty(&safe.call(Method::DELETE, &dans).by(&a).await);
    assert_eq!(safe.get(&members, &a).await["count"], 0);
}

#[tokio::test]
async fn row_4_who_sets_what_of_an_organisation() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let acme = format!("/v1/organisations/{}", app.another_organisation("acme").await);
    app.user("cyd").with_role("admin").with_password().await;
    app.user("otto").with_password().await;
    let (a, c, otto) =
        (safe.owner().await, safe.session("cyd@example.com").await, safe.session("otto@example.com").await);
    let own = format!("/v1/organisations/{}", app.organisation);

    for (row, by, path, body, status) in [
        ("name, by an organisation administrator", &c, &own, json!({ "name": "Other" }), 403),
        ("quota, by an organisation administrator", &c, &own, json!({ "quota": 1 }), 403),
        ("name, by a SafeShare administrator", &a, &own, json!({ "name": "Main" }), 200),
        ("what is not kept", &c, &own, json!({ "supportUrl": "https://example.com" }), 200),
        ("nothing", &c, &own, json!({}), 400),
        ("unknown members only", &c, &own, json!({ "mfa": true }), 400),
        ("enforceMfa, not a boolean", &c, &own, json!({ "enforceMfa": "yes" }), 400),
        ("by a member", &otto, &own, json!({ "enforceMfa": true }), 403),
        ("of another organisation", &c, &acme, json!({ "enforceMfa": true }), 404),
        (
            "of another organisation, by a SafeShare administrator",
            &a,
            &acme,
            json!({ "enforceMfa": true }),
            200,
        ),
    ] {
        let answer = safe.put(path, by, body).await;

        assert_eq!(answer.status.as_u16(), status, "{row}: {}", answer.shown());
    }
    assert_eq!(safe.get(&own, &otto).await.expect_ok()["name"], "Main", "its people may read it");
    expect_error(&safe.get(&acme, &otto).await, 404, "organisation_not_found");
    assert_eq!(safe.get(&acme, &a).await.expect_ok()["enforceMfa"], true);
}

#[tokio::test]
async fn row_4_enforcement_reaches_everybody_once_and_leaves_factors_alone() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    for number in 0..40 {
        app.user(&format!("person-{number}")).await;
    }
    let has_key = app.user("key").with_totp().with_password().await;
    let (root, enforce) = (app.root(), "/v1/organisations/self/enforcement");

    let first = app.post(enforce).by(&root).json(json!({ "enforced": true })).await.expect_ok();
    let again = app.post(enforce).by(&root).json(json!({ "enforced": true })).await.expect_ok();

    let all = json!({ "invited": 40, "ready": 1, "unreachable": 0, "leftOut": 1, "postponed": 0 });
    assert_eq!(first.json, all, "the owner is out of a client's reach");
    assert_eq!((&again["invited"], &again["ready"]), (&json!(0), &json!(41)));
    assert_eq!(mails(&app, "enrolment_link").await, 40);
    let off = app.post(enforce).by(&root).json(json!({ "enforced": false })).await.expect_ok();
    assert_eq!(off["invited"], 0);
    let policy = app.get("/v1/organisations/self/policy").by(&root).await.expect_ok();
    assert_eq!(policy["requirement"], "optional");
    safe.restricted("key@example.com").await;
    assert!(has_key.verify(has_key.code()).await.accepted());
}

#[tokio::test]
async fn row_4_enforcement_counts_whom_it_cannot_mail() {
    let app = TestApp::start().await;
    let root = app.root();
    app.post("/v1/users").by(&root).json(json!({ "username": "no-address" })).await.expect_created();
    let off = app.user("off").await;
    app.patch(&off.path("")).by(&root).json(json!({ "status": "disabled" })).await.expect_ok();
    app.policy(json!({ "requirement": "off" })).await;
    let enforce = "/v1/organisations/self/enforcement";

    // What was never asked for stays so.
    app.post(enforce).by(&root).json(json!({ "enforced": false })).await.expect_ok();
    let policy = app.get("/v1/organisations/self/policy").by(&root).await.expect_ok();
    assert_eq!(policy["requirement"], "off");
    let done = app.post(enforce).by(&root).json(json!({ "enforced": true })).await.expect_ok();

    let expected = json!({ "invited": 0, "ready": 0, "unreachable": 1, "leftOut": 2, "postponed": 0 });
    assert_eq!(done.json, expected);
}

#[tokio::test]
async fn row_5_ones_own_account() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let mia = app.user("mia").with_password().await;
    let own = safe.session("mia@example.com").await;
    let body = json!({ "firstName": "Mia", "lastName": "Mond", "otherName": "M.", "mobileNumber": "+4915112345678" });

    expect_empty(&safe.put("/v1/users/me", &own, body).await);
    let shown = safe.get("/v1/users/me", &own).await.expect_ok().shown();
    insta::assert_snapshot!(shown.replace(&mia.id, "(id)").replace(&app.organisation.to_string(), "(org)"));
    expect_empty(&safe.put("/v1/users/me", &own, json!({ "lastName": "Sonne" })).await);
    let then = safe.get("/v1/users/me", &own).await.expect_ok();
    for cleared in ["firstName", "otherName", "mobileNumber"] {
        assert_eq!(then[cleared], Value::Null, "what is left out is cleared: {cleared}");
    }
    assert_eq!(then["lastName"], "Sonne");
    expect_empty(&safe.put("/v1/users/me", &own, json!({})).await);
    assert_eq!(safe.get("/v1/users/me", &own).await["lastName"], Value::Null);
    for body in [json!({ "mobileNumber": "0151" }), json!({ "firstName": 1 }), json!([])] {
        assert_eq!(safe.put("/v1/users/me", &own, body).await.status.as_u16(), 400);
    }
    let nothing = safe.call(Method::PUT, "/v1/users/me").by(&own).await;
    expect_error(&nothing, 400, "malformed_json");
    expect_error(&safe.get("/v1/users/me", &app.root()).await, 403, "access_denied");
}

#[tokio::test]
async fn row_5_ones_own_second_factor() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    app.user("mia").with_password().await;
    let own = safe.session("mia@example.com").await;
    let state = async |by: &Credentials| safe.get("/v1/users/me/mfa", by).await.expect_ok().json;
    assert_eq!(state(&own).await, json!({ "mfaEnabled": false, "enforced": false, "state": "none" }));

    let begun = safe.call(Method::POST, "/v1/users/me/mfa").by(&own).await.expect_created();
    let otp = Otp::from_base32(&begun.text("authenticatorKey"));
    let confirm = async |code: String| {
        let body = json!({ "factor": begun.text("factor"), "code": code });
        safe.call(Method::POST, "/v1/users/me/mfa/confirm").by(&own).json(body).await
    };
    expect_error(&confirm(otp.wrong_code(app.now())).await, 400, "wrong_code");
    assert_eq!(confirm(otp.code(app.now())).await.expect_ok()["mfaEnabled"], true);
    assert_eq!(state(&own).await["state"], "active");
    app.advance(30);
    let restricted = safe.restricted("mia@example.com").await;
    let full = safe.second_step(&restricted, &otp.code(app.now())).await.expect_ok();
    let own = Credentials::bearer(&full.text("access_token"));
    let switch_off = || safe.call(Method::DELETE, "/v1/users/me/mfa").by(&own);
    app.policy(json!({ "requirement": "enforced" })).await;
    expect_error(&switch_off().await, 409, "mfa_enforced");
    app.policy(json!({ "requirement": "optional" })).await;
    expect_empty(&switch_off().await);

    safe.session("mia@example.com").await;
}

#[tokio::test]
async fn row_6_1_a_restricted_token_sets_up_the_first_factor() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    app.user("mia").with_password().await;
    app.policy(json!({ "requirement": "enforced" })).await;
    let restricted = Credentials::bearer(&safe.restricted("mia@example.com").await);

    let begun = safe.call(Method::POST, "/v1/users/me/mfa").by(&restricted).await.expect_created();
    let otp = Otp::from_base32(&begun.text("authenticatorKey"));
    let confirm = |code: String| {
        let body = json!({ "factor": begun.text("factor"), "code": code });
        safe.call(Method::POST, "/v1/users/me/mfa/confirm").by(&restricted).json(body)
    };
    expect_error(&confirm(otp.wrong_code(app.now())).await, 400, "invalid_grant");
    let full = confirm(otp.code(app.now())).await.expect_ok();

    assert_eq!(full["scope"], "full");
    safe.get("/v1/users/me", &Credentials::bearer(&full.text("access_token"))).await.expect_ok();
}

#[tokio::test]
async fn row_6_1_a_restricted_token_does_not_go_past_a_link_that_was_mailed() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let mia = app.user("mia").with_password().await;
    app.policy(json!({ "requirement": "enforced" })).await;
    app.post(&mia.path("/enrolment-links")).by(&app.root()).json(json!({})).await.expect_created();
    let restricted = Credentials::bearer(&safe.restricted("mia@example.com").await);

    let refused = safe.call(Method::POST, "/v1/users/me/mfa").by(&restricted).await;

    expect_error(&refused, 403, "access_denied");
    assert!(refused.shown().contains("a link to set up 2FA was mailed"), "{}", refused.shown());
}

#[tokio::test]
async fn row_5_unlock_clears_password_and_methods() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    app.another_organisation("acme").await;
    let mia = app.user("mia").with_totp().with_password().await;
    let foreign = app.user("finn").in_organisation("acme", &app.owner().await).await;
    let cyd = app.user("cyd").with_role("admin").with_password().await;
    let c = safe.session("cyd@example.com").await;
    mia.lock().await;
    for _ in 0..10 {
        safe.password("mia@example.com", "not the right one").await.expect(400);
    }
    expect_error(&safe.password("mia@example.com", PASSWORD).await, 400, "invalid_grant");
    let unlock = |id: &str| safe.call(Method::PUT, &format!("/v1/users/{id}/unlock")).by(&c);

    expect_empty(&unlock(&mia.id).await);

    let restricted = safe.restricted("mia@example.com").await;
    safe.second_step(&restricted, &mia.code()).await.expect_ok();
    expect_error(&unlock(&foreign.id).await, 404, "user_not_found");
    expect_error(&unlock(NOBODYS).await, 404, "user_not_found");
    expect_error(&unlock(&cyd.id).await, 403, "access_denied");
    expect_empty(
        &safe.call(Method::PUT, &format!("/v1/users/{}/unlock", foreign.id)).by(&safe.owner().await).await,
    );
}

#[tokio::test]
async fn row_6_1_clients_prove_themselves_in_every_way_there_is() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    app.user("mia").with_password().await;
    let form = [("grant_type", "password"), ("username", "mia@example.com"), ("password", PASSWORD)];
    let post = || app.post("/safeshare/api/oauth/token");
    let basic = data_encoding::BASE64.encode(format!("{}:{}", app.client_id, app.client_secret).as_bytes());

    post().by(&app.root()).form(&form).await.expect_ok();
    // As the vendor's pages misname it.
    post().header("authentication", &format!("Basic {basic}")).form(&form).await.expect_ok();
    let in_body = [("client_id", &*app.client_id), ("client_secret", &app.client_secret)];
    post().form(&[&form[..], &in_body].concat()).await.expect_ok();

    let refused = post().form(&form).await;
    expect_error(&refused, 401, "invalid_client");
    assert_eq!(refused.header("www-authenticate"), Some(r#"Basic realm="countersign""#));
    let wrong = Credentials::basic(&app.client_id, "wrong");
    expect_error(&post().by(&wrong).form(&form).await, 401, "invalid_client");
    expect_error(&post().by(&app.root()).json(json!({})).await, 415, "invalid_request");
    let got = safe.call(Method::GET, "/oauth/token").by(&app.root()).await;
    expect_error(&got, 405, "invalid_request");
}

#[tokio::test]
async fn row_6_1_the_members_of_both_replies() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let mia = app.user("mia").with_totp().with_password().await;
    let first = safe.password("mia@example.com", PASSWORD).await.expect_ok();
    let full = safe.second_step(&first.text("access_token"), &mia.code()).await.expect_ok();

    let members = |answer: &Answer| -> BTreeSet<String> {
        answer.json.as_object().expect("an object").keys().cloned().collect()
    };
    let restricted = ["access_token", "expires_in", "jti", "mfa_required", "scope", "token_type"];
    assert_eq!(members(&first), restricted.map(str::to_owned).into());
    assert_eq!((&first["token_type"], &first["mfa_required"]), (&json!("bearer"), &json!(true)));
    assert_eq!(first["expires_in"], 600);
    let of_full = ["access_token", "expires_in", "jti", "refresh_token", "scope", "token_type"];
    assert_eq!(members(&full), of_full.map(str::to_owned).into());
    assert!(uuid::Uuid::try_parse(&full.text("jti")).is_ok());

    // Refreshing does not ask for the code again.
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", &*full.text("refresh_token"))];
    assert_eq!(safe.token(&refresh).await.expect_ok()["scope"], "full");
}

#[tokio::test]
async fn row_6_1_every_name_of_the_second_step() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    for (number, (grant, token, code)) in [
        ("mfa", "access_token", "code"),
        ("mfa_code", "mfa_token", "mfa_code"),
        ("two_factor", "token", "mfaCode"),
        ("mfa", "access_token", "otp"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("person-{number}");
        let person = app.user(&name).with_totp().with_password().await;
        let restricted = safe.restricted(&format!("{name}@example.com")).await;

        let form = [("grant_type", grant), (token, &*restricted), (code, &*person.code())];
        safe.token(&form).await.expect_ok();
    }
    let person = app.user("bearer").with_totp().with_password().await;
    let restricted = Credentials::bearer(&safe.restricted("bearer@example.com").await);
    let form = [
        ("grant_type", "mfa"),
        ("code", &*person.code()),
        ("client_id", &app.client_id),
        ("client_secret", &app.client_secret),
    ];
    app.post("/safeshare/api/oauth/token").by(&restricted).form(&form).await.expect_ok();
}

#[tokio::test]
async fn row_6_1_a_second_step_is_refused_in_one_way() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let mia = app.user("mia").with_totp().with_password().await;
    let restricted = safe.restricted("mia@example.com").await;
    let right = mia.code();
    let wrong = safe.second_step(&restricted, &mia.wrong_code()).await;
    safe.second_step(&restricted, &right).await.expect_ok();
    let replayed = safe.second_step(&safe.restricted("mia@example.com").await, &right).await;
    let used_token = safe.second_step(&restricted, &mia.code()).await;
    let forged = safe.second_step("x.y.z", &mia.code()).await;
    let expired = safe.restricted("mia@example.com").await;
    app.advance(601);
    let expired = safe.second_step(&expired, &mia.code()).await;
    mia.lock().await;
    let locked = safe.second_step(&safe.restricted("mia@example.com").await, &mia.code()).await;
    let unknown = safe.password("nobody@example.com", PASSWORD).await;
    let wrong_password = safe.password("mia@example.com", "not the right one").await;

    for answer in [wrong, replayed, used_token, forged, expired, locked, unknown, wrong_password] {
        expect_error(&answer, 400, "invalid_grant");
        assert_eq!(answer["error_description"], "Bad credentials");
    }
    for missing in [vec![("grant_type", "mfa")], vec![("grant_type", "password"), ("username", "mia")]] {
        expect_error(&safe.token(&missing).await, 400, "invalid_request");
    }
}

#[tokio::test]
async fn row_6_1_people_sign_in_wherever_they_are() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    app.another_organisation("acme").await;
    let owner = app.owner().await;
    let finn = app.user("finn").with_password().in_organisation("acme", &owner).await;
    // The same address twice: the client's own organisation comes first.
    let here = app.user("twin").with_password().await;
    app.user("twin").in_organisation("acme", &owner).await;

    for (username, expected) in [("FINN@example.com", &finn.id), ("twin@example.com", &here.id)] {
        let own = safe.session(username).await;
        assert_eq!(safe.get("/v1/users/me", &own).await.expect_ok()["id"], **expected);
    }
    expect_error(&safe.password("finn", PASSWORD).await, 400, "invalid_grant");
}

#[tokio::test]
async fn row_7_what_is_not_served() {
    let app = TestApp::start().await;
    let safe = SafeShare(&app);
    let a = safe.owner().await;

    for path in ["/v1/config", "/v1", "/v1/clientapps", "/oauth/authorize", "/v2/users"] {
        expect_error(&safe.get(path, &a).await, 404, "not_found");
    }
    expect_error(&safe.call(Method::POST, "/v1/users").by(&a).await, 405, "method_not_allowed");
}
