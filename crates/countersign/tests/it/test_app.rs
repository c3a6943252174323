//! A whole application for one test: real store, real keys, real router, and a clock the test moves.

use crate::postgres::Database;
use axum::{Router, body::Body};
use countersign::{
    app::App,
    clock::Clock,
    config::{
        Config,
        delivery::{Environment, Provider, development::Log},
        secret::Given,
    },
    http::{SharedApp, Web, router},
    service::setup,
    store::ClaimedHead,
};
use countersign_core::{
    OrganisationId, Timestamp, UserId,
    factor::otp::{Algorithm, Generator, OtpSecret},
};
use data_encoding::BASE64;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{
    future::{Future, IntoFuture},
    ops::Index,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tower::ServiceExt;
use uuid::Uuid;

/// Where every test's clock stands at first.
pub(crate) const START: &str = "2026-11-22T10:00:00Z";
/// A password that no rule minds.
pub(crate) const PASSWORD: &str = "quill-marten-orchard-42";
/// The grant type of the second step.
pub(crate) const MFA_GRANT: &str = "urn:countersign:grant-type:mfa";

type Fut<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The application, its first accounts and its clock.
pub(crate) struct TestApp {
    pub(crate) app: SharedApp,
    pub(crate) router: Router,
    pub(crate) clock: Clock,
    pub(crate) organisation: OrganisationId,
    pub(crate) admin: UserId,
    pub(crate) admin_password: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    drawn: AtomicU64,
    directory: Option<TempDir>,
    /// Dropped, and dropped there, last.
    _database: Option<Database>,
}

/// With the value `postgres`, every application of a test has a database there instead of a file.
const STORE_VARIABLE: &str = "COUNTERSIGN_TEST_STORE";

/// A configuration for a test: its own directory, no limits, a provider for every channel.
pub(crate) fn config(directory: &Path) -> Config {
    let mut config = Config::default();
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.store.directory = directory.to_owned();
    config.limits.per_address = 0;
    config.limits.per_client = 0;
    config.limits.sign_ins = 0;
    config.tokens.issuer = "https://countersign.test".into();
    config.server.environment = Environment::Development;
    let log = || vec![Provider::Log(Log { name: "log".into(), countries: Vec::new() })];
    (config.delivery.mail, config.delivery.sms, config.delivery.voice) = (log(), log(), log());
    config
}

/// The clock at the start of a test.
pub(crate) fn clock() -> Clock {
    Clock::standing_at(Timestamp::parse(START).expect("a time"))
}

impl TestApp {
    /// Starts an application on an empty directory, with its first organisation, owner and client.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts one with some of the configuration changed.
    pub(crate) async fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let mut config = config(directory.path());
        let database = std::env::var_os(STORE_VARIABLE).map(|_| Database::new());
        if let Some(database) = &database {
            config.store.url = Some(Given::new(&database.url()));
        }
        adjust(&mut config);
        let clock = clock();
        let app = Arc::new(App::open(config, clock.clone()).await.expect("open"));
        let first = setup::initialise(&app).await.expect("initialise").expect("an empty directory");
        Self {
            router: router(Web::new(Arc::clone(&app)).expect("the layer")),
            clock,
            organisation: first.organisation.id,
            admin: first.admin.id,
            admin_password: first.admin_password.expose().clone(),
            client_id: first.client.id.to_string(),
            client_secret: first.client_secret.expose().to_owned(),
            drawn: AtomicU64::new(0),
            app,
            directory: Some(directory),
            _database: database,
        }
    }

    /// Takes over an application that was opened elsewhere and whose accounts are known there.
    pub(crate) fn around(app: SharedApp, router: Router, clock: Clock) -> Self {
        Self {
            app,
            router,
            clock,
            organisation: OrganisationId::from_uuid(Uuid::nil()),
            admin: UserId::from_uuid(Uuid::nil()),
            admin_password: String::new(),
            client_id: String::new(),
            client_secret: String::new(),
            drawn: AtomicU64::new(0),
            directory: None,
            _database: None,
        }
    }

    /// Closes the application; returns the directory, for looking into its files.
    pub(crate) async fn close(self) -> TempDir {
        self.app.store.close().await;
        self.directory.expect("a directory of its own")
    }

    /// The data directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_ref().expect("a directory of its own").path()
    }

    /// Moves the clock.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Time by the test's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A telephone number nobody has had yet.
    pub(crate) fn fresh_number(&self) -> String {
        format!("+49151{:08}", 10_000_000 + self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// A name nobody has had yet.
    pub(crate) fn fresh_name(&self) -> String {
        format!("person-{}", self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// The first client, with all scopes, by HTTP Basic.
    pub(crate) fn root(&self) -> Credentials {
        Credentials::basic(&self.client_id, &self.client_secret)
    }

    /// The owner, signed in.
    pub(crate) async fn owner(&self) -> Credentials {
        Credentials::bearer(&self.sign_in("admin", &self.admin_password).await)
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call<'_> {
        self.call(Method::POST, path)
    }

    pub(crate) fn put(&self, path: &str) -> Call<'_> {
        self.call(Method::PUT, path)
    }

    pub(crate) fn patch(&self, path: &str) -> Call<'_> {
        self.call(Method::PATCH, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    /// Begins a request.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("request");
        Call { app: self, request }
    }

    /// Asks the token endpoint.
    pub(crate) fn token(&self, form: &[(&str, &str)]) -> Call<'_> {
        self.post("/oauth/token").form(form)
    }

    /// Signs a person in by password alone; returns the access token.
    pub(crate) async fn sign_in(&self, username: &str, password: &str) -> String {
        let answer = self
            .token(&[("grant_type", "password"), ("username", username), ("password", password)])
            .await
            .expect_ok();
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// Begins a person of the first organisation.
    pub(crate) fn user(&self, username: &str) -> NewPerson<'_> {
        NewPerson {
            app: self,
            username: username.to_owned(),
            role: "member",
            organisation: None,
            by: None,
            has_totp: false,
            has_password: false,
        }
    }

    /// Creates a client with scopes; returns what it proves itself by.
    pub(crate) async fn client(&self, scopes: &[&str]) -> Client {
        let body = json!({ "name": format!("client {}", scopes.join(" ")), "scopes": scopes });
        Client::of(&self.post("/v1/clients").by(&self.root()).json(body).await.expect_created())
    }

    /// Creates another organisation; returns its id and slug.
    pub(crate) async fn another_organisation(&self, slug: &str) -> String {
        let owner = self.owner().await;
        let body = json!({ "slug": slug, "name": slug });
        let made = self.post("/v1/organisations").by(&owner).json(body).await.expect_created();
        made.text("id")
    }

    /// The heads of all chains: unchanged heads mean that nothing was changed.
    pub(crate) async fn heads(&self) -> Vec<ClaimedHead> {
        let mut heads = Vec::new();
        let mut after = None;
        loop {
            let page = self.app.store.claimed_heads(after.as_deref(), 1000).await.expect("heads");
            heads.extend(page.items);
            after = page.next;
            if after.is_none() {
                return heads;
            }
        }
    }

    /// Durable commits so far.
    pub(crate) fn commits(&self) -> u64 {
        self.app.store.gauges().commits
    }

    /// What happened to a person, oldest first, one event a line, without what differs from run to run.
    pub(crate) async fn audit_trail(&self, user: &str) -> String {
        let path = format!("/v1/audit?user={user}&limit=200");
        let answer = self.get(&path).by(&self.root()).await.expect_ok();
        let events = answer["items"].as_array().expect("items").clone();
        let line = |event: &Value| {
            let words = ["action", "kind", "method", "reason"];
            let words: Vec<&str> = words.iter().filter_map(|name| event[*name].as_str()).collect();
            format!("{} by {}", words.join(" "), event["actor"]["type"].as_str().unwrap_or_default())
        };
        events.iter().rev().map(line).collect::<Vec<_>>().join("\n")
    }

    /// How often something happened to a person.
    pub(crate) async fn count(&self, user: &str, action: &str) -> usize {
        let path = format!("/v1/audit?user={user}&action={action}&limit=200");
        let answer = self.get(&path).by(&self.root()).await.expect_ok();
        answer["items"].as_array().expect("items").len()
    }

    /// Changes the first organisation's policy.
    pub(crate) async fn policy(&self, patch: Value) {
        self.patch("/v1/organisations/main/policy").by(&self.root()).json(patch).await.expect_ok();
    }
}

/// What a caller proves themselves by.
#[derive(Debug, Clone)]
pub(crate) struct Credentials(Option<String>);

impl Credentials {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn bearer(token: &str) -> Self {
        Self(Some(format!("Bearer {token}")))
    }

    pub(crate) fn basic(id: &str, secret: &str) -> Self {
        Self(Some(format!("Basic {}", BASE64.encode(format!("{id}:{secret}").as_bytes()))))
    }

    /// Whatever stands in the header.
    pub(crate) fn raw(header: &str) -> Self {
        Self(Some(header.to_owned()))
    }
}

/// A client just created.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Client {
    pub(crate) fn of(answer: &Answer) -> Self {
        Self { id: answer.text("id"), secret: answer.text("secret") }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::basic(&self.id, &self.secret)
    }

    /// Asks for an access token.
    pub(crate) async fn token(&self, app: &TestApp) -> String {
        let form = [("grant_type", "client_credentials")];
        app.token(&form).by(&self.credentials()).await.expect_ok().text("access_token")
    }
}

/// A request in the making.
pub(crate) struct Call<'a> {
    app: &'a TestApp,
    request: Request<Body>,
}

impl<'a> Call<'a> {
    /// Adds what the caller proves themselves by.
    pub(crate) fn by(self, credentials: &Credentials) -> Self {
        match &credentials.0 {
            Some(text) => self.header(header::AUTHORIZATION.as_str(), text),
            None => self,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name: http::HeaderName = name.parse().expect("a header's name");
        self.request.headers_mut().insert(name, value.parse().expect("a header's value"));
        self
    }

    pub(crate) fn json(self, body: Value) -> Self {
        self.body("application/json", body.to_string().into_bytes())
    }

    pub(crate) fn form(self, members: &[(&str, &str)]) -> Self {
        let encode = |text: &str| {
            text.bytes().fold(String::new(), |mut encoded, byte| {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                        encoded.push(char::from(byte))
                    }
                    _ => encoded.push_str(&format!("%{byte:02X}")),
                }
                encoded
            })
        };
        let text: Vec<String> =
            members.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        self.body("application/x-www-form-urlencoded", text.join("&").into_bytes())
    }

    pub(crate) fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        *self.request.body_mut() = Body::from(body);
        if content_type.is_empty() { self } else { self.header("content-type", content_type) }
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Answer;
    type IntoFuture = Fut<'a, Answer>;

    fn into_future(self) -> Fut<'a, Answer> {
        self.detached()
    }
}

impl Call<'_> {
    /// Returns the answer to come, which needs nothing of the test any more.
    fn detached(self) -> Fut<'static, Answer> {
        let shown = format!("{} {}", self.request.method(), self.request.uri());
        let answering = self.app.router.clone().oneshot(self.request);
        Box::pin(async move {
            let (parts, body) = answering.await.expect("the router is infallible").into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes().to_vec();
            let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
            Answer { request: shown, status: parts.status, headers: parts.headers, body, json }
        })
    }
}

/// Sends requests at the same time, each in a task of its own; returns the answers in their order.
pub(crate) async fn at_once<'a>(calls: impl IntoIterator<Item = Call<'a>>) -> Vec<Answer> {
    let tasks: Vec<_> = calls.into_iter().map(|call| tokio::spawn(call.detached())).collect();
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await.expect("an answer"));
    }
    answers
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    request: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) json: Value,
}

impl Answer {
    /// The body as text.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A member that is text.
    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> String {
        match self.json[name].as_str() {
            Some(text) => text.to_owned(),
            None => panic!("{}: no text {name} in {}", self.request, self.shown()),
        }
    }

    /// The problem's code.
    pub(crate) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// OAuth's error.
    pub(crate) fn error(&self) -> &str {
        self.json["error"].as_str().unwrap_or_default()
    }

    /// Tells whether a verification let somebody in.
    pub(crate) fn accepted(&self) -> bool {
        self.status == StatusCode::OK && self.json["result"] == "accepted"
    }

    /// What a verification found instead of letting somebody in.
    pub(crate) fn refusal(&self) -> Option<&str> {
        if self.accepted() { None } else { self.json["result"].as_str() }
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.request, self.shown());
        self
    }

    #[track_caller]
    pub(crate) fn expect_ok(self) -> Self {
        self.expect(200)
    }

    #[track_caller]
    pub(crate) fn expect_created(self) -> Self {
        self.expect(201)
    }

    /// Expects a problem: its status and code, in the API's own shape.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.code(), code, "{}: {}", answer.request, answer.shown());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.request);
        assert_eq!(answer.json["status"], status, "{}", answer.request);
        assert_eq!(answer.json["type"], format!("urn:countersign:problem:{code}"), "{}", answer.request);
        assert_eq!(answer.json["requestId"].as_str(), answer.header("x-request-id"), "{}", answer.request);
        assert!(
            answer.json["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
            "{}",
            answer.request
        );
        answer
    }
}

impl Index<&str> for Answer {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        &self.json[name]
    }
}

/// A person about to be created.
pub(crate) struct NewPerson<'a> {
    app: &'a TestApp,
    username: String,
    role: &'static str,
    organisation: Option<String>,
    by: Option<Credentials>,
    has_totp: bool,
    has_password: bool,
}

impl<'a> NewPerson<'a> {
    pub(crate) fn with_role(self, role: &'static str) -> Self {
        Self { role, ..self }
    }

    /// Gives them a TOTP factor whose codes are all unused.
    pub(crate) fn with_totp(self) -> Self {
        Self { has_totp: true, ..self }
    }

    /// Has them accept an invitation and choose [`PASSWORD`].
    pub(crate) fn with_password(self) -> Self {
        Self { has_password: true, ..self }
    }

    /// Has them created by an owner in another organisation.
    pub(crate) fn in_organisation(self, slug: &str, owner: &Credentials) -> Self {
        Self { organisation: Some(slug.to_owned()), by: Some(owner.clone()), ..self }
    }

    /// Has them created by somebody else than the first client.
    pub(crate) fn created_by(self, by: &Credentials) -> Self {
        Self { by: Some(by.clone()), ..self }
    }
}

impl<'a> IntoFuture for NewPerson<'a> {
    type Output = Person<'a>;
    type IntoFuture = Fut<'a, Person<'a>>;

    fn into_future(self) -> Fut<'a, Person<'a>> {
        Box::pin(async move {
            let app = self.app;
            let by = self.by.unwrap_or_else(|| app.root());
            let query = self.organisation.map(|slug| format!("?organisation={slug}")).unwrap_or_default();
            let body = json!({
                "username": self.username,
                "email": format!("{}@example.com", self.username),
                "roles": [self.role],
            });
            let made = app.post(&format!("/v1/users{query}")).by(&by).json(body).await.expect_created();
            let mut person = Person {
                app,
                id: made.text("id"),
                username: self.username,
                query,
                keeper: by,
                otp: None,
                factor: String::new(),
            };
            if self.has_totp {
                person.import_totp().await;
            }
            if self.has_password {
                person.choose_password(PASSWORD).await;
            }
            person
        })
    }
}

/// A person of a test.
pub(crate) struct Person<'a> {
    app: &'a TestApp,
    pub(crate) id: String,
    pub(crate) username: String,
    query: String,
    keeper: Credentials,
    otp: Option<Otp>,
    /// The id of the factor [`NewPerson::with_totp`] gave them.
    pub(crate) factor: String,
}

impl<'a> Person<'a> {
    /// A path below the person.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v1/users/{}{rest}{}", self.id, self.query)
    }

    async fn import_totp(&mut self) {
        let secret: [u8; 20] = rand::random();
        let otp = Otp::from_bytes(&secret);
        let body = json!({ "type": "totp", "secret": otp.base32 });
        let made = self.app.post(&self.path("/factors")).by(&self.keeper).json(body).await.expect_created();
        self.factor = made.text("id");
        self.otp = Some(otp);
    }

    async fn choose_password(&self, password: &str) {
        let invited = self.app.post(&self.path("/invitation")).by(&self.keeper).await.expect_created();
        let body = json!({ "token": invited.text("token"), "password": password });
        self.app.post("/v1/invitations/accept").json(body).await.expect(204);
    }

    /// Signs in by [`PASSWORD`] alone.
    pub(crate) async fn session(&self) -> Credentials {
        Credentials::bearer(&self.tokens().await.text("access_token"))
    }

    /// Signs in by [`PASSWORD`] alone; returns the whole answer.
    pub(crate) async fn tokens(&self) -> Answer {
        self.sign_in(PASSWORD).await.expect_ok()
    }

    /// Tries to sign in.
    pub(crate) fn sign_in(&self, password: &str) -> Call<'a> {
        let organisation = self.query.strip_prefix("?organisation=").unwrap_or("main");
        self.app.token(&[
            ("grant_type", "password"),
            ("username", &self.username),
            ("password", password),
            ("organisation", organisation),
        ])
    }

    fn otp(&self) -> &Otp {
        self.otp.as_ref().expect("a person with a factor")
    }

    /// What their app shows now.
    pub(crate) fn code(&self) -> String {
        self.otp().code(self.app.now())
    }

    /// A code their app shows neither now nor for a while to either side.
    pub(crate) fn wrong_code(&self) -> String {
        self.otp().wrong_code(self.app.now())
    }

    /// The seed as it was brought in.
    pub(crate) fn seed(&self) -> &str {
        &self.otp().base32
    }

    /// Has the first client check a code.
    pub(crate) fn verify(&self, code: impl AsRef<str>) -> Call<'a> {
        self.verify_with(json!({ "code": code.as_ref() }))
    }

    /// Has the first client check a code, with further members.
    pub(crate) fn verify_with(&self, mut body: Value) -> Call<'a> {
        body["user"] = json!(self.id);
        self.app.post("/v1/verify").by(&self.app.root()).json(body)
    }

    /// Fails until the method locks.
    pub(crate) async fn lock(&self) {
        self.lock_by(&self.wrong_code()).await;
    }

    /// Fails with this code until the method locks.
    pub(crate) async fn lock_by(&self, wrong: &str) {
        for _ in 0..5 {
            self.verify(wrong).await.expect_ok();
        }
    }

    /// Consecutive failures over all methods.
    pub(crate) async fn failures(&self) -> u64 {
        let locks = self.app.get(&self.path("/locks")).by(&self.keeper).await.expect_ok();
        locks["failures"].as_u64().expect("a count")
    }
}

/// An authenticator app.
pub(crate) struct Otp {
    pub(crate) base32: String,
    generator: Generator,
}

impl Otp {
    pub(crate) fn from_bytes(secret: &[u8]) -> Self {
        let secret = OtpSecret::from_bytes(secret.to_vec());
        let base32 = secret.to_base32().expose().clone();
        Self { base32, generator: Generator::new(Algorithm::Sha1, 6, &secret) }
    }

    pub(crate) fn from_base32(text: &str) -> Self {
        Self::from_bytes(OtpSecret::from_base32("secret", text).expect("a seed").expose())
    }

    /// The code of a time, in steps of 30 seconds.
    pub(crate) fn code(&self, at: Timestamp) -> String {
        self.at(at.seconds().unsigned_abs() / 30)
    }

    /// The code of a step or counter.
    pub(crate) fn at(&self, moving_factor: u64) -> String {
        self.generator.code_at(moving_factor).expose().clone()
    }

    /// A code of no step around a time.
    pub(crate) fn wrong_code(&self, at: Timestamp) -> String {
        let step = at.seconds().unsigned_abs() / 30;
        let shown: Vec<String> = (step - 200..step + 200).map(|step| self.at(step)).collect();
        let free = (0..1_000_000).map(|code| format!("{code:06}")).find(|code| !shown.contains(code));
        free.expect("most codes are wrong")
    }
}
