//! A secret leaves once, when it is made (promise 5).

use crate::{
    enrolment_page::newest_link,
    test_app::{Answer, Call, Client, Credentials, MFA_GRANT, Otp, PASSWORD, TestApp},
};
use countersign::http::dialects::{Dialect, rows};
use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use serde_json::json;
use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// The least length of an identifier in hexadecimal digits: a UUID without hyphens.
const IDENTIFIER: usize = 32;
/// The length of a scratch code.
const SCRATCH_CODE: usize = 8;

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes all that is logged from now on, on any thread, down to the least.
    fn take() -> Self {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("trace"))
            .with_ansi(false)
            // The fractions of a second have six digits, as codes have.
            .without_time()
            .with_writer(log.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("one test takes the log");
        log
    }

    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What must not be seen again, and what was answered meanwhile.
#[derive(Default)]
struct Watch {
    secrets: Vec<(String, Vec<u8>)>,
    answers: Vec<Answer>,
}

impl Watch {
    fn secret(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 6, "{name} would be found by chance");
        self.secrets.push((name.to_owned(), text.as_bytes().to_vec()));
    }

    /// A seed, in each form in which it could lie about.
    fn seed(&mut self, name: &str, base32: &str) {
        let bytes = BASE32_NOPAD.decode(base32.as_bytes()).expect("Base32");
        self.secret(name, base32);
        self.secret(name, &base32.to_lowercase());
        self.secret(&format!("{name} in hex"), &HEXLOWER.encode(&bytes));
        self.secret(&format!("{name} in HEX"), &HEXUPPER.encode(&bytes));
        self.secret(&format!("{name} in Base64"), BASE64.encode(&bytes).trim_end_matches('='));
        self.secret(&format!("{name} in Base64 for URLs"), &BASE64URL_NOPAD.encode(&bytes));
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        self.secret(&format!("{name} as numbers"), &numbers.join(","));
        self.secrets.push((format!("{name}'s bytes"), bytes));
    }

    /// A code that is typed with or without its hyphens.
    fn code(&mut self, name: &str, code: &str) {
        self.secret(name, code);
        self.secret(name, &code.replace('-', ""));
    }

    async fn see(&mut self, call: Call<'_>) -> Answer {
        let answer = call.await;
        self.answers.push(answer.clone());
        answer
    }

    fn assert_absent(&self, place: &str, bytes: &[u8]) {
        for (name, secret) in &self.secrets {
            let is_there = bytes
                .windows(secret.len())
                .enumerate()
                .any(|(at, window)| window == secret.as_slice() && !is_by_chance(bytes, at, secret.len()));
            assert!(!is_there, "{place} holds the {name}: {}", String::from_utf8_lossy(bytes));
        }
    }
}

/// Returns whether something found is a part of an identifier or a hash in hexadecimal digits, or of a scratch code, which is
/// eight digits between quotes: a code of six digits is in one of them now and then, and nobody would look for a code there.
fn is_by_chance(bytes: &[u8], at: usize, length: usize) -> bool {
    let is_hexadecimal = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    let before = bytes[..at].iter().rev().take_while(is_hexadecimal).count();
    let after = bytes[at + length..].iter().take_while(is_hexadecimal).count();
    let is_digits = bytes[at..at + length].iter().all(u8::is_ascii_digit);
    let run = at - before..at + length + after;
    let quoted = |place: Option<usize>| place.and_then(|place| bytes.get(place)) == Some(&b'"');
    let is_scratch_code = run.len() == SCRATCH_CODE
        && bytes[run.clone()].iter().all(u8::is_ascii_digit)
        && quoted(run.start.checked_sub(1))
        && quoted(Some(run.end));
    is_digits && (run.len() >= IDENTIFIER || length < SCRATCH_CODE && is_scratch_code)
}

#[test]
fn a_code_is_found_anywhere_but_in_an_identifier_or_a_scratch_code() {
    let watch = Watch { secrets: vec![("code".to_owned(), b"438179".to_vec())], ..Watch::default() };
    let holds = |text: &str| std::panic::catch_unwind(|| watch.assert_absent("it", text.as_bytes())).is_err();

    for text in ["code=438179", "{\"code\":\"438179\"}", "438179", "a code 12438179", "438179-c500-7af2"] {
        assert!(holds(text), "{text}");
    }
    assert!(!holds("request.id=\"45c285b12f4f44f1b438179d52e75c38\""));
    assert!(!holds("/v1/users/01a202b2-c500-7af2-a020-d59438179bcb"));
    assert!(!holds("\"scratchCodes\":[\"74381795\"]"));
}

/// Lives a life full of secrets. What is *answered* with a secret is not watched; all else is.
async fn live(app: &TestApp, watch: &mut Watch) {
    let root = app.root();
    watch.secret("owner's password", &app.admin_password);
    watch.secret("first client's secret", &app.client_secret);
    let alice = app.user("alice").with_totp().with_password().await;
    watch.secret("password", PASSWORD);
    watch.seed("imported seed", alice.seed());

    let enrolled =
        app.post(&alice.path("/factors")).by(&root).json(json!({ "type": "totp" })).await.expect_created();
    watch.seed("enrolled seed", &enrolled.text("secret"));
    let otp = Otp::from_base32(&enrolled.text("secret"));
    let code = otp.code(app.now());
    watch.secret("first code", &code);
    let path = alice.path(&format!("/factors/{}/activate", enrolled.text("id")));
    let wrong = otp.wrong_code(app.now());
    watch.see(app.post(&path).by(&root).json(json!({ "code": wrong }))).await;
    watch.see(app.post(&path).by(&root).json(json!({ "code": code }))).await.expect_ok();

    let drawn = app.post(&alice.path("/recovery-codes")).by(&root).await.expect_created();
    for code in drawn["codes"].as_array().expect("codes") {
        watch.code("recovery code", code.as_str().expect("text"));
    }
    let emergency = app.post(&alice.path("/emergency-code")).by(&root).await.expect_created();
    watch.code("emergency code", &emergency.text("code"));
    let client = Client::of(
        &app.post("/v1/clients")
            .by(&root)
            .json(json!({ "name": "gateway", "scopes": ["verify"] }))
            .await
            .expect_created(),
    );
    watch.secret("client's secret", &client.secret);
    let rotated = app.post(&format!("/v1/clients/{}/secret", client.id)).by(&root).await.expect_created();
    watch.secret("client's next secret", &rotated.text("secret"));
    let token = client.token(app).await;
    watch.secret("client's token", &token);
    let bob = app.user("bob").await;
    let invited = app.post(&bob.path("/invitation")).by(&root).await.expect_created();
    watch.secret("invitation", &invited.text("token"));

    use_secrets(app, watch, &alice, drawn["codes"][0].as_str().expect("text"), &emergency.text("code")).await;
    speak_dialects(app, watch).await;
    make_mistakes(app, watch, &alice).await;
    make_mistakes_in_dialects(app, watch).await;
    read_everything(app, watch, &alice).await;
}

/// What other systems' clients are handed out, and hand in.
async fn speak_dialects(app: &TestApp, watch: &mut Watch) {
    let owner = app.owner().await;
    let carol = app.user("carol").with_password().await;
    let path = |call: &str| format!("/veeam/api/v8/users/{}/{call}", carol.id);
    let enabled = app.post(&path("enableMfa")).by(&owner).await.expect_ok();
    watch.seed("seed by ticket", &enabled.text("secretKey"));
    watch.secret("enrolment ticket", &enabled.text("token"));
    for code in enabled["scratchCodes"].as_array().expect("codes") {
        watch.code("scratch code", code.as_str().expect("text"));
    }
    let code = enabled["scratchCodes"][0].as_str().expect("text");
    let accept = json!({ "code": code, "token": enabled.text("token") });
    watch.see(app.post(&path("acceptMfa")).by(&owner).json(accept.clone())).await.expect(204);
    watch.see(app.post(&path("acceptMfa")).by(&owner).json(accept)).await.expect(400);
    let form = [("grant_type", "password"), ("username", "carol"), ("password", PASSWORD)];
    for (path, members) in [
        ("/veeam/api/oauth2/token", ["mfa_token", "Mfa", "mfa_code"]),
        ("/safeshare/api/oauth/token", ["access_token", "mfa", "code"]),
        ("/reltio/oauth/token", ["state_token", "state_token", "totp"]),
    ] {
        let first = app.post(path).by(&app.root()).form(&form).await.expect_ok();
        let token = first[members[0]].as_str().or(first["state_token"]["token"].as_str()).expect("a token");
        watch.secret(members[0], token);
        let wrong = [("grant_type", members[1]), (members[0], token), (members[2], "98765432")];
        assert!(watch.see(app.post(path).by(&app.root()).form(&wrong)).await.status.is_client_error());
    }

    let dan = app.user("dan").await;
    let session = Client { id: app.client_id.clone(), secret: app.client_secret.clone() };
    let token = Credentials::bearer(&session.token(app).await);
    let registration = "/rsa/AdminInterface/restapi/v1/users/deviceRegistrationCode";
    let issued = app.post(registration).by(&token).json(json!({ "username": "dan" })).await.expect_ok();
    watch.secret("registration code", &issued.text("deviceRegistrationCode"));
    let emergency = format!("/rsa/AdminInterface/restapi/v2/users/{}/emergencyTokencode", dan.id);
    let issued = app.put(&emergency).by(&token).await.expect_ok();
    watch.code("emergency tokencode", &issued.text("emergencyTokencode"));
    app.post(&dan.path("/enrolment-links")).by(&owner).await.expect_created();
    let link = newest_link(app).await;
    watch.secret("token of a link", link.split_once('=').expect("a token").1);
    app.get(&link).await.expect_ok();
    watch.see(app.get(&format!("{link}x"))).await.expect(410);
}

async fn make_mistakes_in_dialects(app: &TestApp, watch: &mut Watch) {
    let misplaced = "misplaced-s3cret-value";
    let members = [
        "code",
        "token",
        "recreate",
        "password",
        "newPassword",
        "mfaEnabled",
        "generateNewAuthenticatorKey",
        "expirationDays",
        "expiryUnit",
        "userStatus",
        "unlockMethods",
        "emailLike",
        "smsNumber",
        "status",
        "availables",
        "mfatype",
        "totp",
        "enforceMfa",
        "systemAdmin",
        "role",
        "roles",
        "userIds",
    ];
    for dialect in Dialect::ALL {
        for row in rows(dialect).into_iter().filter(|row| !row.path.ends_with("token")) {
            let owner = app.owner().await;
            let path = row.path.replace("{version}", "v8");
            let path = path.split('/').map(|part| if part.starts_with('{') { "1000" } else { part });
            let path = format!("{}{}", dialect.prefix(), path.collect::<Vec<_>>().join("/"));
            let has_body = !matches!(row.method.as_str(), "GET" | "DELETE");
            for member in members.into_iter().filter(|_| has_body) {
                for value in [json!(misplaced), json!([misplaced])] {
                    let call = app.call(row.method.clone(), &path).by(&owner);
                    watch.see(call.json(json!({ member: value }))).await;
                }
            }
            let path = format!("{path}?limit={misplaced}&Limit={misplaced}&pageSize={misplaced}");
            watch.see(app.call(row.method, &path).by(&owner)).await;
        }
    }
}

async fn use_secrets(
    app: &TestApp,
    watch: &mut Watch,
    alice: &crate::test_app::Person<'_>,
    recovery: &str,
    emergency: &str,
) {
    let mfa_token = alice.sign_in(PASSWORD).await.text("mfa_token");
    watch.secret("second-step token", &mfa_token);
    let code = alice.code();
    watch.secret("code", &code);
    let form = [("grant_type", MFA_GRANT), ("mfa_token", &*mfa_token), ("code", &*code)];
    let tokens = app.token(&form).await.expect_ok();
    watch.secret("access token", &tokens.text("access_token"));
    watch.secret("refresh token", &tokens.text("refresh_token"));
    for (kind, code) in [("recovery", recovery), ("emergency", emergency)] {
        let body = json!({ "code": code, "type": kind, "requestId": kind });
        for _ in 0..2 {
            assert!(watch.see(alice.verify_with(body.clone())).await.accepted());
        }
    }
    app.advance(30);
    let code = alice.code();
    watch.secret("next code", &code);
    assert!(watch.see(alice.verify(&code)).await.accepted());
    assert_eq!(watch.see(alice.verify(&code)).await.refusal(), Some("replayed"));
}

/// Errors must not repeat what was wrong, because it may be a secret in the wrong place.
async fn make_mistakes(app: &TestApp, watch: &mut Watch, alice: &crate::test_app::Person<'_>) {
    let root = app.root();
    let misplaced = "misplaced-s3cret-value";
    watch.secret("misplaced secret", misplaced);
    for body in [
        json!({ "user": "alice", "code": [misplaced] }),
        json!({ "user": "alice", "code": "1", "type": misplaced }),
        json!({ "user": "alice", "code": "1", "factor": misplaced }),
        json!({ "user": "alice", "code": format!("{misplaced}{}", "x".repeat(100)) }),
        json!({ "user": { "password": misplaced }, "code": "1" }),
    ] {
        assert_eq!(watch.see(app.post("/v1/verify").by(&root).json(body)).await.status, 400);
    }
    // What serde says of a value of the wrong type quotes it.
    for (path, body) in [
        (alice.path(""), json!({ "mfaEnabled": misplaced })),
        ("/v1/organisations/main/policy".into(), json!({ "requirement": misplaced })),
        ("/v1/organisations/main/policy".into(), json!({ "totp": { "digits": misplaced } })),
    ] {
        watch.see(app.patch(&path).by(&root).json(body)).await.expect_problem(400, "invalid_type");
    }
    let body = json!({ "expiresInSeconds": misplaced });
    watch.see(app.post(&alice.path("/emergency-code")).by(&root).json(body)).await.expect(400);
    let body = json!({ "type": "totp", "secret": format!("{misplaced}0189") });
    watch.see(app.post(&alice.path("/factors")).by(&root).json(body)).await.expect(400);
    for path in [format!("/v1/users?limit={misplaced}"), format!("/v1/audit?action={misplaced}")] {
        watch.see(app.get(&path).by(&root)).await.expect(400);
    }
    for form in [
        vec![("grant_type", misplaced)],
        vec![("grant_type", "password"), ("username", "alice"), ("password", misplaced)],
        vec![("grant_type", "refresh_token"), ("refresh_token", misplaced)],
        vec![("grant_type", MFA_GRANT), ("mfa_token", misplaced), ("code", misplaced)],
        vec![("client_id", &*app.client_id), ("client_secret", misplaced)],
    ] {
        assert!(watch.see(app.token(&form)).await.status.is_client_error());
    }
    let body = json!({ "token": misplaced, "password": misplaced });
    watch.see(app.post("/v1/invitations/accept").json(body)).await.expect(410);
    let bearer = crate::test_app::Credentials::bearer(misplaced);
    watch.see(app.get("/v1/users").by(&bearer)).await.expect(401);
    watch.see(app.post("/v1/verify").by(&root).body("application/json", misplaced.into())).await.expect(400);
}

async fn read_everything(app: &TestApp, watch: &mut Watch, alice: &crate::test_app::Person<'_>) {
    let root = app.root();
    for path in [
        "/v1/users",
        "/v1/users?username=a",
        "/v1/users/alice",
        "/v1/users/alice/factors",
        &format!("/v1/users/alice/factors/{}", alice.factor),
        "/v1/users/alice/recovery-codes",
        "/v1/users/alice/emergency-code",
        "/v1/users/alice/locks",
        "/v1/clients",
        &format!("/v1/clients/{}", app.client_id),
        "/v1/organisations/main",
        "/v1/organisations/main/policy",
        "/v1/audit?limit=200",
        "/v1/audit?user=alice&limit=200",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
    ] {
        watch.see(app.get(path).by(&root)).await.expect_ok();
    }
    watch.see(app.get("/v1/audit").by(&root).header("accept", "application/x-ndjson")).await.expect_ok();
    let qr = alice.path(&format!("/factors/{}/qr", alice.factor));
    watch.see(app.get(&qr).by(&root)).await.expect_problem(409, "wrong_state");
}

#[tokio::test]
async fn no_answer_no_event_and_no_log_line_holds_a_secret_again() {
    let log = Log::take();
    let app = TestApp::start().await;
    let mut watch = Watch::default();

    live(&app, &mut watch).await;

    assert!(watch.answers.len() > 40 && watch.secrets.len() > 40);
    for answer in &watch.answers {
        watch.assert_absent("an answer", &answer.body);
        let headers = format!("{:?}", answer.headers);
        watch.assert_absent("a header", headers.as_bytes());
    }
    let logged = log.text();
    assert!(logged.contains("POST /v1/verify answered 200"), "the log was taken");
    watch.assert_absent("the log", logged.as_bytes());
}

#[tokio::test]
async fn no_log_line_holds_the_address_somebody_is_named_by() {
    // Clients of some vendors name people by address in the path, and paths are logged.
    let log = Log::take();
    let app = TestApp::start().await;
    let root = app.root();
    let new = json!({ "username": "grace@example.com" });
    app.post("/v1/users").by(&root).json(new).await.expect_created();

    for address in ["grace@example.com", "grace%40example.com"] {
        app.get(&format!("/v1/users/{address}")).by(&root).await.expect_ok();
        app.get(&format!("/reltio/oauth/users/{address}/mfaDetails")).by(&root).await.expect_ok();
    }

    let logged = log.text();
    assert!(logged.contains("GET /reltio/oauth/users/…/mfaDetails answered 200"), "{logged}");
    assert!(!logged.contains("grace"), "{logged}");
}

#[tokio::test]
async fn the_files_hold_no_secret_in_clear() {
    let app = TestApp::start().await;
    let mut watch = Watch::default();
    live(&app, &mut watch).await;

    // With the log full, and once more with everything copied into the database.
    let read = |directory: &Path, watch: &Watch| {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).expect("the directory").map(|entry| entry.expect("entry")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let bytes = fs::read(entry.path()).expect("a file");
            let found = watch
                .secrets
                .iter()
                .find(|(_, secret)| bytes.windows(secret.len()).any(|window| window == secret.as_slice()));
            assert!(found.is_none(), "{name} holds the {}", found.map_or("", |(name, _)| name));
            names.push(name);
        }
        names
    };
    let names = read(app.directory(), &watch);
    assert!(names.contains(&"countersign.db-wal".to_owned()), "{names:?}");
    // What may be read there shows that the files are read at all.
    let directory = app.close().await;
    let names = read(directory.path(), &watch);
    assert!(names.contains(&"countersign.db".to_owned()), "{names:?}");
    let database = fs::read(directory.path().join("countersign.db")).expect("the database");
    assert!(database.windows(5).any(|window| window == b"alice"));
}

#[tokio::test]
async fn nothing_the_api_says_is_for_a_cache() {
    let app = TestApp::start().await;
    let mut watch = Watch::default();

    live(&app, &mut watch).await;
    for operation in crate::description::operations() {
        let call = app.call(operation.method.clone(), &operation.path);
        let answer = call.by(&app.root()).await;
        let is_public_fact = operation.path.starts_with("/.well-known/");
        let expected = if is_public_fact { "public, max-age=300" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(expected), "{}", operation.name());
    }
    let tokens = app.token(&[("grant_type", "client_credentials")]).by(&app.root()).await.expect_ok();

    for answer in watch.answers.iter().chain([&tokens]).filter(|answer| answer.code() != "") {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(tokens.header("cache-control"), Some("no-store"));
}

/// While a factor waits for its first code its person may look at the QR code again; after that nobody may.
#[tokio::test]
async fn a_qr_code_shows_until_the_factor_is_in_use() {
    let app = TestApp::start().await;
    let root = app.root();
    let alice = app.user("alice").await;
    let body = json!({ "type": "totp" });
    let enrolled = app.post(&alice.path("/factors")).by(&root).json(body).await.expect_created();
    let path = |rest: &str| alice.path(&format!("/factors/{}{rest}", enrolled.text("id")));

    let svg = app.get(&path("/qr")).by(&root).await.expect_ok();
    assert_eq!(svg.header("content-type"), Some("image/svg+xml"));
    let png = app.get(&path("/qr")).by(&root).header("accept", "image/png").await.expect_ok();
    assert!(png.body.starts_with(b"\x89PNG"));
    app.get(&path("/qr")).by(&root).header("accept", "text/html").await.expect_problem(406, "not_acceptable");
    let code = Otp::from_base32(&enrolled.text("secret")).code(app.now());
    app.post(&path("/activate")).by(&root).json(json!({ "code": code })).await.expect_ok();

    app.get(&path("/qr")).by(&root).await.expect_problem(409, "wrong_state");
    let shown = app.get(&path("")).by(&root).await.expect_ok();
    assert!(shown["secret"].is_null() && shown["otpauthUri"].is_null() && shown["qr"].is_null());
}
