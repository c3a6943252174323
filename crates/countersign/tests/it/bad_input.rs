//! Bad input gets an error that names the field, in the API's own shape, and changes nothing (promise 8).

use crate::test_app::{Answer, Call, TestApp};
use countersign_core::Action;
use http::Method;
use serde_json::{Value, json};

/// A request that must be refused, and how.
struct Bad {
    what: &'static str,
    method: Method,
    path: String,
    content_type: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    field: Option<&'static str>,
}

impl Bad {
    fn new(what: &'static str, method: Method, path: &str, status: u16, code: &'static str) -> Self {
        let path = path.to_owned();
        Self { what, method, path, content_type: "", body: Vec::new(), status, code, field: None }
    }

    fn post(what: &'static str, path: &str, body: impl AsRef<[u8]>, code: &'static str) -> Self {
        let body = body.as_ref().to_vec();
        Self { body, content_type: "application/json", ..Self::new(what, Method::POST, path, 400, code) }
    }

    fn patch(what: &'static str, path: &str, body: Value, code: &'static str) -> Self {
        Self { method: Method::PATCH, ..Self::post(what, path, body.to_string(), code) }
    }

    fn get(what: &'static str, path: &str, code: &'static str) -> Self {
        Self::new(what, Method::GET, path, 400, code)
    }

    fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    fn field(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    fn content_type(self, content_type: &'static str) -> Self {
        Self { content_type, status: 415, ..self }
    }

    fn call<'a>(&self, app: &'a TestApp) -> Call<'a> {
        app.call(self.method.clone(), &self.path).by(&app.root()).body(self.content_type, self.body.clone())
    }
}

async fn check(app: &TestApp, all: Vec<Bad>) {
    let before = app.heads().await;

    for bad in all {
        let answer = bad.call(app).await;
        let context = format!("{}: {}", bad.what, answer.shown());
        let seen = (answer.status.as_u16(), answer.code(), answer["field"].as_str());
        assert_eq!(seen, (bad.status, bad.code, bad.field), "{context}");
        answer.expect_problem(bad.status, bad.code);
        assert_eq!(app.heads().await, before, "{context} changed something");
    }
}

/// An id nothing has.
const NOBODYS: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

fn long(characters: usize) -> String {
    "x".repeat(characters)
}

#[tokio::test]
async fn deliveries() {
    let app = TestApp::start().await;
    let list = |query: &str| format!("/v1/deliveries?{query}");
    let test = |body: Value| Bad::post("a test", "/v1/deliveries/test", body.to_string(), "invalid_value");

    check(
        &app,
        vec![
            Bad::get("no such state", &list("state=lost"), "invalid_value").field("state"),
            Bad::get("no such channel", &list("channel=pigeon"), "invalid_value").field("channel"),
            Bad::get("no id", &list("challenge=x"), "invalid_value").field("challenge"),
            Bad::get("two filters", &list("state=sent&channel=sms"), "invalid_value").field("state"),
            Bad::get("another list's cursor", &list("after=x"), "invalid_value").field("after"),
            Bad::get("too many", &list("limit=201"), "invalid_value").field("limit"),
            Bad::get("no such delivery", &format!("/v1/deliveries/{NOBODYS}"), "delivery_not_found")
                .status(404),
            Bad::new("no id", Method::GET, "/v1/deliveries/x", 404, "delivery_not_found"),
            Bad::new(
                "no such delivery",
                Method::POST,
                &format!("/v1/deliveries/{NOBODYS}/retry"),
                404,
                "delivery_not_found",
            ),
            test(json!({ "channel": "pigeon", "to": "ada@example.com" })).field("channel"),
            test(json!({ "channel": "mail", "to": "+4915112345678" })).field("to"),
            test(json!({ "channel": "sms", "to": "030 123456" })).field("to"),
            test(json!({ "channel": "mail", "to": "ada@example.com", "locale": "../de" })).field("locale"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused() {
    let app = TestApp::start().await;
    let verify = "/v1/verify";
    let good = r#"{"user":"bob","code":"123456"}"#;

    check(
        &app,
        vec![
            Bad::post("cut off", verify, r#"{"user":"bob""#, "malformed_json"),
            Bad::post("not JSON", verify, "user=bob", "malformed_json"),
            Bad::post("empty", verify, "", "malformed_json"),
            Bad::post("two values", verify, format!("{good}{good}"), "malformed_json"),
            Bad::post("not UTF-8", verify, b"{\"user\":\"b\xffb\",\"code\":\"1\"}", "malformed_json"),
            Bad::post("a lone surrogate", verify, r#"{"user":"\ud800","code":"1"}"#, "malformed_json"),
            Bad::post("a list", verify, "[]", "invalid_type"),
            // Serde takes a list for the members in their order, which nobody means.
            Bad::post("a list of members", verify, r#" ["bob", "123456"]"#, "invalid_type"),
            Bad::post("deep nesting", verify, "[".repeat(10_000), "invalid_type"),
            Bad::post("text", verify, "\"bob\"", "invalid_type"),
            Bad::post("null", verify, "null", "invalid_type"),
            Bad::post("no type", verify, good, "unsupported_media_type").content_type(""),
            Bad::post("a form", verify, good, "unsupported_media_type")
                .content_type("application/x-www-form-urlencoded"),
            Bad::post("text/json", verify, good, "unsupported_media_type").content_type("text/json"),
            Bad::post("too large", verify, format!("{{\"user\":\"{}\"}}", long(70_000)), "body_too_large")
                .status(413),
            Bad::post("an optional body", "/v1/users/admin/unlock", "{}", "unsupported_media_type")
                .content_type("text/plain"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_member_that_is_wrong_is_named() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    let (users, verify) = ("/v1/users", "/v1/verify");
    let (person, factors) = (alice.path(""), alice.path("/factors"));
    let challenges = alice.path("/challenges");
    let of = |members: Value| members.to_string();

    check(
        &app,
        vec![
            Bad::post("missing", verify, of(json!({ "code": "1" })), "missing_member").field("user"),
            Bad::post("unknown", verify, of(json!({ "user": "a", "code": "1", "cod": 1 })), "unknown_member")
                .field("cod"),
            Bad::post("twice", verify, r#"{"user":"a","user":"b","code":"1"}"#, "duplicate_member")
                .field("user"),
            Bad::post("a number", verify, of(json!({ "user": 1000, "code": "1" })), "invalid_type")
                .field("user"),
            Bad::post("null", verify, of(json!({ "user": null, "code": "1" })), "invalid_type").field("user"),
            Bad::post("a list", verify, of(json!({ "user": "a", "code": ["1"] })), "invalid_type")
                .field("code"),
            Bad::post("no user", verify, of(json!({ "user": "", "code": "1" })), "invalid_value")
                .field("user"),
            Bad::post("no code", verify, of(json!({ "user": "alice", "code": " - " })), "invalid_value")
                .field("code"),
            Bad::post("long code", verify, of(json!({ "user": "alice", "code": long(65) })), "invalid_value")
                .field("code"),
            Bad::post(
                "unknown kind",
                verify,
                of(json!({ "user": "alice", "code": "1", "type": "fax" })),
                "invalid_value",
            )
            .field("type"),
            Bad::post(
                "not a factor",
                verify,
                of(json!({ "user": "alice", "code": "1", "factor": "x" })),
                "invalid_value",
            )
            .field("factor"),
            Bad::post(
                "kind and factor",
                verify,
                of(json!({ "user": "alice", "code": "1", "factor": alice.factor, "type": "totp" })),
                "invalid_value",
            )
            .field("factor"),
            Bad::post(
                "long request id",
                verify,
                of(json!({ "user": "alice", "code": "1", "requestId": long(65) })),
                "invalid_value",
            )
            .field("requestId"),
            Bad::post("empty username", users, of(json!({ "username": " " })), "invalid_value")
                .field("username"),
            Bad::post("long username", users, of(json!({ "username": long(129) })), "invalid_value")
                .field("username"),
            Bad::post("digits", users, of(json!({ "username": "12345" })), "invalid_value").field("username"),
            Bad::post("an id", users, of(json!({ "username": alice.id })), "invalid_value").field("username"),
            Bad::post("control", users, of(json!({ "username": "a\u{0}b" })), "invalid_value")
                .field("username"),
            Bad::post("e-mail", users, of(json!({ "username": "b", "email": "b@" })), "invalid_value")
                .field("email"),
            Bad::post("phone", users, of(json!({ "username": "b", "phone": "030 1" })), "invalid_value")
                .field("phone"),
            Bad::post(
                "role",
                users,
                of(json!({ "username": "b", "roles": ["member", "king"] })),
                "invalid_value",
            )
            .field("roles[1]"),
            Bad::post(
                "role's type",
                users,
                of(json!({ "username": "b", "roles": ["member", 2] })),
                "invalid_type",
            )
            .field("roles[1]"),
            Bad::post(
                "name",
                users,
                of(json!({ "username": "b", "displayName": long(129) })),
                "invalid_value",
            )
            .field("displayName"),
            Bad::post(
                "description",
                users,
                of(json!({ "username": "b", "description": long(257) })),
                "invalid_value",
            )
            .field("description"),
            Bad::post(
                "attributes",
                users,
                of(json!({ "username": "b", "attributes": { "a": long(4096) } })),
                "invalid_value",
            )
            .field("attributes"),
            Bad::patch("attributes that are a list", &person, json!({ "attributes": [1] }), "invalid_type")
                .field("attributes"),
            Bad::post(
                "snake case",
                users,
                of(json!({ "username": "b", "display_name": "x" })),
                "unknown_member",
            )
            .field("display_name"),
            Bad::patch("status", &person, json!({ "status": "asleep" }), "invalid_value").field("status"),
            Bad::patch("switch", &person, json!({ "mfaEnabled": "yes" }), "invalid_type").field("mfaEnabled"),
            Bad::patch("read-only", &person, json!({ "number": 7 }), "unknown_member").field("number"),
            Bad::post("kind of factor", &factors, of(json!({ "type": "carrier pigeon" })), "invalid_value")
                .field("type"),
            Bad::post("nowhere", &factors, of(json!({ "type": "voice" })), "invalid_value")
                .field("destination"),
            Bad::post(
                "number",
                &factors,
                of(json!({ "type": "sms", "destination": "0151 12345678" })),
                "invalid_value",
            )
            .field("destination"),
            Bad::post(
                "destination of an app",
                &factors,
                of(json!({ "type": "totp", "destination": "+4915112345678" })),
                "invalid_value",
            )
            .field("destination"),
            Bad::post(
                "premium number",
                &factors,
                of(json!({ "type": "voice", "destination": "+499001234567" })),
                "destination_forbidden",
            )
            .status(409)
            .field("destination"),
            Bad::post("no recipient", &challenges, of(json!({})), "invalid_value").field("type"),
            Bad::post("nothing is sent", &challenges, of(json!({ "type": "totp" })), "invalid_value")
                .field("type"),
            Bad::post(
                "two recipients",
                &challenges,
                of(json!({ "type": "sms", "factor": NOBODYS })),
                "invalid_value",
            )
            .field("factor"),
            Bad::post("no such factor", &challenges, of(json!({ "factor": NOBODYS })), "factor_not_found")
                .status(404),
            Bad::post("locale", users, of(json!({ "username": "b", "locale": "english" })), "invalid_value")
                .field("locale"),
            Bad::post("codes are no factor", &factors, of(json!({ "type": "recovery" })), "invalid_value")
                .field("type"),
            Bad::post("label", &factors, of(json!({ "type": "totp", "label": long(129) })), "invalid_value")
                .field("label"),
            Bad::post("seed", &factors, of(json!({ "type": "totp", "secret": "018!" })), "invalid_value")
                .field("secret"),
            Bad::post(
                "short seed",
                &factors,
                of(json!({ "type": "totp", "secret": "MFRGG" })),
                "invalid_value",
            )
            .field("secret"),
            Bad::post("digits alone", &factors, of(json!({ "type": "totp", "digits": 8 })), "invalid_value")
                .field("digits"),
            Bad::post(
                "many digits",
                &factors,
                of(json!({ "type": "totp", "digits": 9, "secret": alice.seed() })),
                "invalid_value",
            )
            .field("digits"),
            Bad::post(
                "negative counter",
                &factors,
                of(json!({ "type": "hotp", "counter": -1, "secret": alice.seed() })),
                "invalid_type",
            )
            .field("counter"),
            Bad::post(
                "method",
                &alice.path("/unlock"),
                of(json!({ "methods": ["TOKEN", "FAX"] })),
                "invalid_value",
            )
            .field("methods[1]"),
            Bad::post(
                "one code",
                &alice.path(&format!("/factors/{}/resync", alice.factor)),
                of(json!({ "codes": ["1"] })),
                "invalid_type",
            )
            .field("codes"),
            Bad::post(
                "emergency life",
                &alice.path("/emergency-code"),
                of(json!({ "expiresInSeconds": 1 })),
                "invalid_value",
            )
            .field("expiresInSeconds"),
            Bad::post("no scopes", "/v1/clients", of(json!({ "name": "c", "scopes": [] })), "invalid_value")
                .field("scopes"),
            Bad::post(
                "scope",
                "/v1/clients",
                of(json!({ "name": "c", "scopes": ["root"] })),
                "invalid_value",
            )
            .field("scopes[0]"),
            Bad::post(
                "overlap",
                &format!("/v1/clients/{}/secret", app.client_id),
                of(json!({ "overlapSeconds": 2_592_001 })),
                "invalid_value",
            )
            .field("overlapSeconds"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_policy_out_of_range_is_refused_with_the_members_path() {
    let app = TestApp::start().await;
    let path = "/v1/organisations/main/policy";
    let patch = |what, body, code| Bad::patch(what, path, body, code);

    check(
        &app,
        vec![
            patch("digits", json!({ "totp": { "digits": 9 } }), "invalid_value").field("totp.digits"),
            patch("period", json!({ "totp": { "period": 14 } }), "invalid_value").field("totp.period"),
            patch("window", json!({ "totp": { "window": 3 } }), "invalid_value").field("totp.window"),
            patch("look-ahead", json!({ "hotp": { "lookAhead": 0 } }), "invalid_value")
                .field("hotp.lookAhead"),
            patch("threshold", json!({ "locks": { "threshold": 101 } }), "invalid_value")
                .field("locks.threshold"),
            patch("pause", json!({ "passwordLocks": { "firstPauseSeconds": 0 } }), "invalid_value")
                .field("passwordLocks.firstPauseSeconds"),
            patch("codes", json!({ "recoveryCodes": 4 }), "invalid_value").field("recoveryCodes"),
            patch("access", json!({ "sessions": { "accessSeconds": 3601 } }), "invalid_value")
                .field("sessions.accessSeconds"),
            patch("unknown", json!({ "totp": { "digit": 6 } }), "unknown_member").field("totp.digit"),
            patch("unknown section", json!({ "tot": {} }), "unknown_member").field("tot"),
            patch("type", json!({ "totp": { "digits": "six" } }), "invalid_type").field("totp.digits"),
            patch("overflow", json!({ "totp": { "digits": 300 } }), "invalid_type").field("totp.digits"),
            patch("algorithm", json!({ "totp": { "algorithm": "MD5" } }), "invalid_type")
                .field("totp.algorithm"),
            patch("requirement", json!({ "requirement": "sometimes" }), "invalid_type").field("requirement"),
            patch("section's type", json!({ "totp": 6 }), "invalid_type").field("totp"),
            patch("section as a list", json!({ "totp": [] }), "invalid_type").field("totp"),
            patch("members as a list", json!({ "locks": [3] }), "invalid_type").field("locks"),
            patch("kinds as an object", json!({ "kinds": {} }), "invalid_type").field("kinds"),
            patch("a list", json!([]), "invalid_type"),
            Bad {
                method: Method::PATCH,
                ..Bad::post(
                    "deep nesting",
                    path,
                    format!("{{\"totp\":{}", "[".repeat(10_000)),
                    "malformed_json",
                )
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn a_parameter_that_is_wrong_is_named() {
    let app = TestApp::start().await;
    app.user("alice").await;
    let lists = ["/v1/users", "/v1/audit", "/v1/clients", "/v1/users/alice/factors"];
    let mut all = Vec::new();
    for list in lists {
        for limit in ["0", "201", "99999999999999999999999"] {
            let code = if limit.len() > 3 { "invalid_parameter" } else { "invalid_value" };
            all.push(Bad::get("limit", &format!("{list}?limit={limit}"), code).field("limit"));
        }
        for limit in ["ten", "-1", "1.5", ""] {
            all.push(Bad::get("limit", &format!("{list}?limit={limit}"), "invalid_parameter").field("limit"));
        }
        for after in ["nonsense", "eyJOdW1iZXIiOiJ4In0", "%00"] {
            all.push(Bad::get("after", &format!("{list}?after={after}"), "invalid_value").field("after"));
        }
        all.push(Bad::get("unknown", &format!("{list}?afer=x"), "unknown_member").field("afer"));
        all.push(Bad::get("twice", &format!("{list}?limit=1&limit=2"), "duplicate_member").field("limit"));
    }
    all.extend([
        Bad::get("two filters", "/v1/users?status=active&role=member", "invalid_value").field("filter"),
        Bad::get("status", "/v1/users?status=asleep", "invalid_value").field("status"),
        Bad::get("switch", "/v1/users?mfaEnabled=maybe", "invalid_parameter").field("mfaEnabled"),
        Bad::get("role", "/v1/users?role=king", "invalid_value").field("role"),
        Bad::get("method", "/v1/users?locked=FAX", "invalid_value").field("locked"),
        Bad::get("time", "/v1/audit?from=yesterday", "invalid_value").field("from"),
        Bad::get("time", "/v1/audit?until=2026-13-01T00:00:00Z", "invalid_value").field("until"),
        Bad::get("action", "/v1/audit?action=verify.maybe", "invalid_value").field("action"),
    ]);

    check(&app, all).await;
}

#[tokio::test]
async fn an_unknown_action_gets_the_list_of_those_there_are() {
    let app = TestApp::start().await;

    let answer = app.get("/v1/audit?action=verify.maybe").by(&app.root()).await;

    let detail = answer.text("detail");
    assert!(Action::ALL.iter().all(|action| detail.contains(action.name())), "{detail}");
}

/// A cursor of one list is no place in another.
#[tokio::test]
async fn a_cursor_belongs_to_its_list() {
    let app = TestApp::start().await;
    for name in ["alice", "bob"] {
        app.user(name).await;
    }
    let cursor = async |path: &str| app.get(path).by(&app.root()).await.expect_ok().text("next");
    let by_number = cursor("/v1/users?limit=1").await;
    let by_name = cursor("/v1/users?limit=1&username=").await;
    let event = cursor("/v1/audit?limit=1").await;

    check(
        &app,
        vec![
            Bad::get("number", &format!("/v1/users?username=&after={by_number}"), "invalid_value")
                .field("after"),
            Bad::get("name", &format!("/v1/users?after={by_name}"), "invalid_value").field("after"),
            Bad::get("event", &format!("/v1/users?after={event}"), "invalid_value").field("after"),
            Bad::get("person", &format!("/v1/audit?after={by_number}"), "invalid_value").field("after"),
            Bad::get("chain", &format!("/v1/audit?user=alice&after={event}"), "invalid_value").field("after"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let app = TestApp::start().await;
    let alice = app.user("alice").await;
    let nobody = NOBODYS;
    let missing = |path: &str, code| Bad::get("missing", path, code).status(404);
    let mut all = Vec::new();
    for handle in [nobody, "9999999", "nobody", "18446744073709551615", "alice%2Ffactors", "%E2%82%AC"] {
        for rest in ["", "/factors", "/locks", "/recovery-codes", "/emergency-code"] {
            all.push(missing(&format!("/v1/users/{handle}{rest}"), "user_not_found"));
        }
    }
    for factor in [nobody, "x", "1", "..", &alice.id] {
        all.push(missing(&alice.path(&format!("/factors/{factor}")), "factor_not_found"));
    }
    for client in [nobody, "x", &alice.id] {
        all.push(missing(&format!("/v1/clients/{client}"), "client_not_found"));
    }
    for organisation in [nobody, "nowhere", &alice.id] {
        all.push(missing(&format!("/v1/organisations/{organisation}"), "organisation_not_found"));
        all.push(missing(&format!("/v1/organisations/{organisation}/policy"), "organisation_not_found"));
    }
    for path in ["/v1", "/v1/", "/v2/users", "/v1/users/", "/v1/users/alice/", "//v1/users", "/V1/users"] {
        all.push(missing(path, "not_found"));
    }

    check(&app, all).await;
}

#[tokio::test]
async fn a_number_beyond_all_numbers_is_a_bad_handle() {
    let app = TestApp::start().await;
    let huge = "9".repeat(40);

    check(
        &app,
        vec![
            Bad::get("number", &format!("/v1/users/{huge}"), "invalid_value").field("user"),
            Bad::get("long", &format!("/v1/users/{}", long(200)), "invalid_value").field("user"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict_that_names_the_member() {
    let app = TestApp::start().await;
    let root = app.root();
    app.user("Straße").await;
    let bob = app.user("bob").await;
    let taken = |answer: Answer, field: &str| {
        assert_eq!(answer.expect_problem(409, "taken")["field"], field);
    };
    let before = app.heads().await;

    for name in ["Straße", "STRASSE", " straße "] {
        taken(app.post("/v1/users").by(&root).json(json!({ "username": name })).await, "username");
        taken(app.patch(&bob.path("")).by(&root).json(json!({ "username": name })).await, "username");
    }
    let body = json!({ "username": "carol", "email": "BOB@example.com" });
    taken(app.post("/v1/users").by(&root).json(body).await, "email");
    let body = json!({ "slug": "MAIN", "name": "x" });
    taken(app.post("/v1/organisations").by(&app.owner().await).json(body).await, "slug");

    let of_others = |heads: Vec<countersign::store::ClaimedHead>| {
        heads.into_iter().filter(|head| head.subject.uuid() != app.admin.uuid()).collect::<Vec<_>>()
    };
    assert_eq!(of_others(app.heads().await), of_others(before));
}

#[tokio::test]
async fn a_method_that_a_path_lacks_is_answered_with_those_it_has() {
    let app = TestApp::start().await;

    let answer = app.delete("/v1/verify").by(&app.root()).await;

    assert_eq!(answer.header("allow"), Some("POST"));
    answer.expect_problem(405, "method_not_allowed");
    let answer = app.post("/v1/users/x/locks").by(&app.root()).await;
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
}

#[tokio::test]
async fn a_problem_has_no_body_for_head_and_says_how_long_it_is() {
    let app = TestApp::start().await;
    for path in ["/v1/nowhere", "/v1/users", "/veeam/nowhere", "/healthz"] {
        let whole = app.get(path).await;

        let head = app.call(Method::HEAD, path).await;

        assert_eq!((head.status, head.body.len()), (whole.status, 0), "{path}");
        let length = head.header("content-length").and_then(|length| length.parse().ok());
        assert_eq!(length, Some(whole.body.len()), "{path}");
    }
}

#[tokio::test]
async fn a_callers_request_id_is_taken_over_only_if_it_is_harmless() {
    let app = TestApp::start().await;
    let ask = async |id: &str| app.get("/v1/users").header("x-request-id", id).await;

    let taken = ask("build-77/retry.1").await;
    assert_eq!(taken.header("x-request-id"), Some("build-77/retry.1"));
    assert_eq!(taken["requestId"], "build-77/retry.1");
    for unusable in ["", "a b", &"x".repeat(65), "tab\there"] {
        let answer = ask(unusable).await;
        let given = answer.header("x-request-id").expect("an id");
        assert!(given != unusable && given.len() == 32, "{unusable:?}");
        assert_eq!(answer["requestId"], given);
    }
}

/// OAuth's errors have OAuth's shape, except for what is wrong before OAuth begins.
#[tokio::test]
async fn the_token_endpoint_says_what_is_missing() {
    let app = TestApp::start().await;
    let before = app.heads().await;
    let mfa = "urn:countersign:grant-type:mfa";

    for (form, name) in [
        (vec![], "grant_type"),
        (vec![("grant_type", "password")], "username"),
        (vec![("grant_type", "password"), ("username", "a")], "password"),
        (vec![("grant_type", "refresh_token")], "refresh_token"),
        (vec![("grant_type", mfa)], "mfa_token"),
    ] {
        let answer = app.token(&form).await.expect(400);
        assert_eq!(answer.error(), "invalid_request");
        assert!(answer.text("error_description").contains(name), "{}", answer.shown());
    }
    let twice = app.token(&[("grant_type", "password"), ("grant_type", "password")]).await;
    twice.expect_problem(400, "duplicate_member");
    let json = app.post("/oauth/token").json(json!({ "grant_type": "password" })).await;
    json.expect_problem(415, "unsupported_media_type");
    let not_utf8 = app.post("/oauth/token").body("application/x-www-form-urlencoded", vec![0xff]).await;
    assert_eq!(not_utf8.status, 400);
    let large = format!("grant_type=password&username={}", long(70_000)).into_bytes();
    let large = app.post("/oauth/token").body("application/x-www-form-urlencoded", large).await;
    large.expect_problem(413, "body_too_large");

    assert_eq!(app.heads().await, before);
}
