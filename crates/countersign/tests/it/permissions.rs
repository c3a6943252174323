//! Who may do what: every operation against every kind of caller.
//!
//! What an operation asks for stands in the API's description; what a caller may do stands in the table of
//! `role.rs`. Here the two are held against what the router answers.

use crate::{
    description::{Operation, operations},
    signing::EcKey,
    test_app::{Answer, Client, Credentials, PASSWORD, Person, TestApp},
};
use countersign::{
    app::Asker,
    delivery::{dispatch::Dispatch, worker::Worker},
    http::{
        Web,
        dialects::{Dialect, rows},
        routes,
    },
    store::Settlement,
};
use countersign_core::{Channel, DeliveryId, Destination, Organisation, Permission, Role, Scope, event};
use data_encoding::BASE64URL_NOPAD;
use http::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

/// A caller, and what they are.
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) credentials: Credentials,
    pub(crate) is: Is,
}

pub(crate) enum Is {
    /// Nobody we know: the code of the 401.
    Unknown(&'static str),
    Person(Role),
    Client(BTreeSet<Scope>),
}

impl Caller {
    fn new(name: impl Into<String>, credentials: Credentials, is: Is) -> Self {
        Self { name: name.into(), credentials, is }
    }

    /// What the permission table says: `None` is yes.
    pub(crate) fn refusal(&self, permission: Permission) -> Option<(u16, &'static str)> {
        match &self.is {
            Is::Unknown(code) => Some((401, code)),
            Is::Person(role) if role.allows(permission) => None,
            Is::Person(_) => Some((403, "role_too_low")),
            Is::Client(scopes) => match permission.scope() {
                None => Some((403, "people_only")),
                Some(scope) if scopes.contains(&scope) => None,
                Some(_) => Some((403, "insufficient_scope")),
            },
        }
    }
}

fn permission(operation: &Operation) -> Option<Permission> {
    let name = operation.permission.as_deref()?;
    let known = Permission::ALL.into_iter().find(|permission| permission.name() == name);
    Some(known.unwrap_or_else(|| panic!("{} asks for {name}, which is no permission", operation.name())))
}

/// An id nothing has.
const NOBODYS: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// Somebody and something for an operation to act on.
#[derive(Default)]
struct Target {
    user: String,
    pending: String,
    hotp: String,
    challenge: String,
    client: String,
    key: String,
    delivery: String,
    fresh: String,
    /// Sends the message whose outcome the operation waits for.
    worker: Option<Worker>,
}

impl Target {
    /// Makes what one operation needs, so that it can succeed.
    async fn prepare(app: &TestApp, operation: &Operation) -> Self {
        let root = app.root();
        let mut target = Self { fresh: app.fresh_name(), ..Self::default() };
        let path = &operation.path;
        if path.contains("{user}") || path == "/v1/verify" {
            target.user = app.user(&app.fresh_name()).await.id;
        }
        let below = |rest: &str| format!("/v1/users/{}{rest}", target.user);
        if path.contains("{user}") && path.contains("/resync") || path == "/v1/verify" {
            let body = json!({ "type": "hotp", "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" });
            target.hotp = app.post(&below("/factors")).by(&root).json(body).await.expect_created().text("id");
        }
        if path.contains("{user}") && path.contains("{factor}") {
            let body = json!({ "type": "totp" });
            target.pending =
                app.post(&below("/factors")).by(&root).json(body).await.expect_created().text("id");
        }
        if path.contains("{user}") && path.contains("/challenges") {
            target.challenge = challenge(app, &below(""), &root, &root).await;
        }
        if path.contains("emergency-code") {
            app.post(&below("/emergency-code")).by(&root).await.expect_created();
        }
        if path.contains("{delivery}") {
            target.delivery = dead_letter(app).await;
        }
        if path == "/v1/deliveries/test" {
            let dispatch = Dispatch::new(&app.app.config.delivery, &app.clock).expect("providers");
            target.worker = Some(Worker::start(&app.app, dispatch).await.expect("a worker"));
        }
        if path.contains("{client}") {
            target.client = app.client(&["verify"]).await.id;
        }
        if path.contains("{key}") {
            let body = json!({ "publicKey": EcKey::generate().public_jwk() });
            let keys = format!("/v1/clients/{}/keys", target.client);
            let client = app.post(&keys).by(&root).json(body).await.expect_created();
            target.key = client["publicKeys"][0]["id"].as_str().expect("an id").to_owned();
        }
        target
    }

    fn fill(&self, text: &str) -> String {
        let factor = if text.contains("/resync") { &self.hotp } else { &self.pending };
        let factor = if factor.is_empty() { NOBODYS } else { factor };
        let challenge = if self.challenge.is_empty() { NOBODYS } else { &self.challenge };
        text.replace("{user}", &self.user)
            .replace("{challenge}", challenge)
            .replace("{factor}", factor)
            .replace("{client}", &self.client)
            .replace("{key}", &self.key)
            .replace("{delivery}", if self.delivery.is_empty() { NOBODYS } else { &self.delivery })
            .replace("{organisation}", "main")
            .replace("{fresh}", &self.fresh)
    }

    async fn ask(&self, app: &TestApp, operation: &Operation, by: &Credentials, query: &str) -> Answer {
        let path = self.fill(&operation.path) + query;
        let call = app.call(operation.method.clone(), &path).by(by);
        match sample(operation) {
            Some(body) => call.json(serde_json::from_str(&self.fill(&body.to_string())).expect("JSON")).await,
            None => call.await,
        }
    }
}

/// Makes a message that could not be delivered.
async fn dead_letter(app: &TestApp) -> String {
    let (store, now) = (&app.app.store, app.now());
    let organisation = store.organisation(app.organisation).await.expect("read").expect("there");
    let asker = Asker { organisation, call: event::Call::system(now) };
    let id = DeliveryId::generate(now, &mut rand::rng());
    let address = format!("{}@example.com", app.fresh_name());
    let to = Destination::parse(Channel::Mail, "to", &address).expect("an address");
    let post = move |organisation: &mut Organisation, call: &event::Call| {
        organisation.test_delivery(id, to.clone(), None, call);
        Ok(())
    };
    app.app.change_organisation(&asker, post).await.expect("posted");
    let lease = Duration::from_secs(9);
    for claimed in store.claim(Channel::Mail, now, lease, 100).await.expect("claim") {
        let failed = Settlement::Failed { reason: "no such mailbox".into() };
        store.settle(&claimed, failed, now).await.expect("settle");
    }
    id.to_string()
}

/// Gives somebody a number that codes are sent to, and sends the first one.
async fn challenge(app: &TestApp, below: &str, by: &Credentials, root: &Credentials) -> String {
    app.policy(json!({ "resend": { "pauseSeconds": 0, "perHour": 20 } })).await;
    let body = json!({ "type": "sms", "destination": app.fresh_number(), "confirmed": true });
    app.post(&format!("{below}/factors")).by(root).json(body).await.expect_created();
    let body = json!({ "type": "sms" });
    app.post(&format!("{below}/challenges")).by(by).json(body).await.expect_created().text("id")
}

/// A body with which the operation succeeds or at least is tried; `None` where it takes none.
fn sample(operation: &Operation) -> Option<Value> {
    Some(match operation.name().as_str() {
        "POST /v1/verify" => json!({ "user": "{user}", "code": "000000" }),
        "POST /v1/users" => json!({ "username": "{fresh}" }),
        "PATCH /v1/users/{user}" => json!({ "displayName": "Renamed" }),
        "POST /v1/users/{user}/factors" | "POST /v1/me/factors" => json!({ "type": "hotp" }),
        "PATCH /v1/users/{user}/factors/{factor}" | "PATCH /v1/me/factors/{factor}" => {
            json!({ "label": "other" })
        }
        "POST /v1/users/{user}/factors/{factor}/activate" | "POST /v1/me/factors/{factor}/activate" => {
            json!({ "code": "00000000" })
        }
        "POST /v1/users/{user}/factors/{factor}/resync" | "POST /v1/me/factors/{factor}/resync" => {
            json!({ "codes": ["00000000", "00000001"] })
        }
        "POST /v1/users/{user}/challenges" | "POST /v1/me/challenges" => json!({ "type": "sms" }),
        "POST /v1/deliveries/test" => json!({ "channel": "mail", "to": "{fresh}@example.com" }),
        "POST /v1/me/password" => json!({ "current": "not the right one", "new": "heron-lantern-7-gravel" }),
        "POST /v1/organisations" => json!({ "slug": "{fresh}", "name": "Another" }),
        "PATCH /v1/organisations/{organisation}" => json!({ "name": "Renamed" }),
        "POST /v1/organisations/{organisation}/enforcement" => json!({ "enforced": false }),
        "PATCH /v1/organisations/{organisation}/policy" => json!({ "recoveryCodes": 12 }),
        "POST /v1/clients" => json!({ "name": "another", "scopes": ["verify"] }),
        "PATCH /v1/clients/{client}" => json!({ "name": "other" }),
        "POST /v1/clients/{client}/keys" => json!({ "publicKey": EcKey::generate().public_jwk() }),
        _ => return None,
    })
}

/// Everybody who could call. The tokens that must not work come first, because the clock moves for one of them.
pub(crate) async fn callers(app: &TestApp) -> Vec<Caller> {
    let mut callers = unknown_callers(app).await;
    for role in Role::ALL {
        let credentials = match role {
            Role::Owner => app.owner().await,
            _ => {
                app.user(&format!("the-{role}")).with_role(role.name()).with_password().await.session().await
            }
        };
        callers.push(Caller::new(role.name(), credentials, Is::Person(role)));
    }
    for scope in Scope::ALL {
        let client = app.client(&[scope.name()]).await;
        let is = || Is::Client(BTreeSet::from([scope]));
        callers.push(Caller::new(format!("client {scope} by secret"), client.credentials(), is()));
        let token = client.token(app).await;
        callers.push(Caller::new(format!("client {scope}"), Credentials::bearer(&token), is()));
    }
    callers
}

async fn unknown_callers(app: &TestApp) -> Vec<Caller> {
    let invalid =
        |name: &str, token: &str| Caller::new(name, Credentials::bearer(token), Is::Unknown("invalid_token"));
    let expired = app.sign_in("admin", &app.admin_password).await;
    app.advance(601);
    let root = app.root();

    let person = app.user("unknown").with_role("admin").with_password().await;
    let tokens = person.tokens().await;
    let invitation = app.user("invited").await;
    let invitation = app.post(&invitation.path("/invitation")).by(&root).await.expect_created();

    let revoked = app.sign_in("admin", &app.admin_password).await;
    app.post("/oauth/revoke").form(&[("token", &revoked)]).await.expect_ok();
    let signed_out = app.sign_in("admin", &app.admin_password).await;
    app.delete("/v1/me/session").by(&Credentials::bearer(&signed_out)).await.expect(204);

    let disabled = app.user("disabled").with_role("admin").with_password().await;
    let disabled_token = disabled.tokens().await.text("access_token");
    let body = json!({ "status": "disabled" });
    app.patch(&disabled.path("")).by(&root).json(body.clone()).await.expect_ok();
    let deleted = app.user("deleted").with_role("admin").with_password().await;
    let deleted_token = deleted.tokens().await.text("access_token");
    app.delete(&deleted.path("")).by(&root).await.expect(204);

    let every_scope = Scope::ALL.map(Scope::name);
    let client = app.client(&every_scope).await;
    let disabled_client_token = client.token(app).await;
    app.patch(&format!("/v1/clients/{}", client.id)).by(&root).json(body).await.expect_ok();
    let gone = app.client(&every_scope).await;
    let deleted_client_token = gone.token(app).await;
    app.delete(&format!("/v1/clients/{}", gone.id)).by(&root).await.expect(204);

    let live = app.sign_in("admin", &app.admin_password).await;
    let second_step = second_step_token(app).await;
    let refused = |name: &str, credentials| Caller::new(name, credentials, Is::Unknown("invalid_client"));
    vec![
        Caller::new("nobody", Credentials::NONE, Is::Unknown("credentials_missing")),
        Caller::new("another scheme", Credentials::raw("Digest x"), Is::Unknown("invalid_token")),
        Caller::new("an empty header", Credentials::raw(""), Is::Unknown("invalid_token")),
        Caller::new("second step", Credentials::bearer(&second_step), Is::Unknown("second_step_required")),
        invalid("malformed", "x.y.z"),
        invalid("very long", &"x".repeat(5000)),
        invalid("another signature", &with_another_signature(&live)),
        invalid("no algorithm", &with_no_algorithm(&live)),
        invalid("expired", &expired),
        invalid("refresh token", &tokens.text("refresh_token")),
        invalid("invitation", &invitation.text("token")),
        invalid("revoked", &revoked),
        invalid("signed out", &signed_out),
        invalid("disabled person", &disabled_token),
        invalid("deleted person", &deleted_token),
        invalid("disabled client's token", &disabled_client_token),
        invalid("deleted client's token", &deleted_client_token),
        refused("disabled client", client.credentials()),
        refused("deleted client", gone.credentials()),
        refused("wrong secret", Credentials::basic(&app.client_id, "cs_wrong")),
        refused("person by password", Credentials::basic("unknown", PASSWORD)),
    ]
}

async fn second_step_token(app: &TestApp) -> String {
    let person = app.user("half-way").with_role("admin").with_totp().with_password().await;
    let answer = person.sign_in(PASSWORD).await.expect(400);
    assert_eq!(answer.error(), "mfa_required");
    answer.text("mfa_token")
}

fn with_another_signature(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a JWS");
    let mut bytes = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64");
    bytes[10] ^= 1;
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&bytes))
}

/// The oldest trick with JWTs.
fn with_no_algorithm(token: &str) -> String {
    let claims = token.split('.').nth(1).expect("claims");
    format!("{}.{claims}.", BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"at+jwt"}"#))
}

#[test]
fn the_permission_table_is_as_others_know_it() {
    let line = |permission: Permission| {
        let role = Role::ALL.into_iter().find(|role| role.allows(permission));
        let role = role.map_or("nobody", Role::name);
        let scope = permission.scope().map_or("no client", Scope::name);
        format!("{:<14} {role:<9} {scope}", permission.name())
    };

    let lines: Vec<String> = Permission::ALL.into_iter().map(line).collect();

    insta::assert_snapshot!(lines.join("\n"));
}

/// Promise 4.
#[tokio::test]
async fn whoever_lacks_the_permission_is_refused_everywhere_and_changes_nothing() {
    let app = TestApp::start().await;
    let callers = callers(&app).await;
    let mut prepared = Vec::new();
    for operation in operations() {
        if let Some(permission) = permission(&operation) {
            let target = Target::prepare(&app, &operation).await;
            prepared.push((operation, permission, target));
        }
    }
    let before = app.heads().await;

    for (operation, permission, target) in &prepared {
        for caller in &callers {
            let Some((status, code)) = caller.refusal(*permission) else { continue };
            let answer = target.ask(&app, operation, &caller.credentials, "").await;
            let context = format!("{} by {}: {}", operation.name(), caller.name, answer.shown());
            assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{context}");
            answer.expect_problem(status, code);
        }
    }

    assert_eq!(app.heads().await, before);
}

#[tokio::test]
async fn whoever_has_the_permission_gets_through_everywhere() {
    let app = TestApp::start().await;
    let callers = callers(&app).await;

    for operation in operations() {
        let Some(permission) = permission(&operation) else { continue };
        if permission == Permission::Myself {
            continue;
        }
        let mut passed = 0;
        for caller in callers.iter().filter(|caller| caller.refusal(permission).is_none()) {
            let target = Target::prepare(&app, &operation).await;
            let answer = target.ask(&app, &operation, &caller.credentials, "").await;
            let got_through = answer.status.is_success() || answer.code() == "code_rejected";
            assert!(got_through, "{} by {}: {}", operation.name(), caller.name, answer.shown());
            passed += 1;
        }
        assert!(passed > 0, "nobody may do {}", operation.name());
    }
}

#[tokio::test]
async fn everybody_signed_in_reaches_their_own_whatever_their_role() {
    let app = TestApp::start().await;
    for role in Role::ALL {
        let name = format!("me-{role}");
        let owner = app.owner().await;
        let person = app.user(&name).with_role(role.name()).created_by(&owner).with_password().await;
        let mut session = person.session().await;
        for operation in operations() {
            if permission(&operation) != Some(Permission::Myself) {
                continue;
            }
            let made = app.post("/v1/me/factors").by(&session).json(json!({ "type": "totp" })).await;
            let pending = made.expect_created().text("id");
            let challenge = match operation.path.contains("/challenges") {
                true => challenge_of_oneself(&app, &session).await,
                false => String::new(),
            };
            let target = Target { pending, challenge, ..Target::default() };
            let answer = target.ask(&app, &operation, &session, "").await;
            let expected = ["", "code_rejected", "password_rejected", "factor_not_found"];
            let got_through = expected.contains(&answer.code()) && answer.status != 401;
            assert!(got_through, "{} by {role}: {}", operation.name(), answer.shown());
            if app.get("/v1/me").by(&session).await.status == 401 {
                session = person.session().await;
            }
        }
    }
}

/// Has a person enrol a number of their own, to which the first code is sent.
async fn challenge_of_oneself(app: &TestApp, session: &Credentials) -> String {
    app.policy(json!({ "resend": { "pauseSeconds": 0, "perHour": 20 } })).await;
    let body = json!({ "type": "sms", "destination": app.fresh_number() });
    let enrolled = app.post("/v1/me/factors").by(session).json(body).await.expect_created();
    enrolled["challenge"]["id"].as_str().expect("a challenge").to_owned()
}

#[tokio::test]
async fn an_operation_without_a_permission_asks_for_no_token() {
    let app = TestApp::start().await;

    for operation in operations().iter().filter(|operation| operation.permission.is_none()) {
        let answer = app.call(operation.method.clone(), &operation.path).await;
        assert!(!["credentials_missing", "invalid_token"].contains(&answer.code()), "{}", operation.name());
    }
}

/// Promise 4: no route crosses organisations.
#[tokio::test]
async fn another_organisations_administrator_neither_sees_nor_touches_anybody() {
    let app = TestApp::start().await;
    let strangers = strangers(&app).await;
    let victim = app.user("victim").with_totp().await;
    let mut prepared = Vec::new();
    for operation in operations() {
        let permission = permission(&operation);
        if permission.is_some_and(|permission| ![Permission::Myself, Permission::Own].contains(&permission)) {
            let target = Target::prepare(&app, &operation).await;
            prepared.push((operation, target));
        }
    }
    let before = heads_of(&app, &app.organisation.to_string()).await;

    for (name, stranger) in &strangers {
        for (operation, target) in &prepared {
            check_stranger(&app, &victim, name, stranger, operation, target).await;
        }
        read_as_stranger(&app, &victim, stranger).await;
    }

    assert_eq!(heads_of(&app, &app.organisation.to_string()).await, before);
}

/// An administrator and a client of another organisation.
pub(crate) async fn strangers(app: &TestApp) -> Vec<(&'static str, Credentials)> {
    app.another_organisation("acme").await;
    let owner = app.owner().await;
    let admin = app.user("mallory").with_role("admin").in_organisation("acme", &owner).with_password().await;
    let body = json!({ "name": "mallory's", "scopes": Scope::ALL.map(Scope::name) });
    let client = app.post("/v1/clients?organisation=acme").by(&owner).json(body).await.expect_created();
    let client = Client::of(&client);
    vec![
        ("admin", admin.session().await),
        ("client", client.credentials()),
        ("client's token", Credentials::bearer(&client.token(app).await)),
    ]
}

async fn check_stranger(
    app: &TestApp,
    victim: &Person<'_>,
    name: &str,
    stranger: &Credentials,
    operation: &Operation,
    target: &Target,
) {
    let answer = target.ask(app, operation, stranger, "").await;
    let context = format!("{} by the stranger {name}: {}", operation.name(), answer.shown());
    let names_somebody = operation.path.contains('{') || operation.path == "/v1/verify";
    assert!(!names_somebody || answer.status == 404, "{context}");
    assert!(!answer.shown().contains(&victim.id) && !answer.shown().contains("victim"), "{context}");

    for name in ["main", "MAIN", &app.organisation.to_string()] {
        let answer = target.ask(app, operation, stranger, &format!("?organisation={name}")).await;
        answer.expect_problem(403, "other_organisation");
    }
}

async fn read_as_stranger(app: &TestApp, victim: &Person<'_>, stranger: &Credentials) {
    let by_id = app.get(&format!("/v1/audit?user={}", victim.id)).by(stranger).await.expect_ok();
    assert_eq!(by_id["items"], json!([]));
    app.get("/v1/audit?user=victim").by(stranger).await.expect_problem(404, "user_not_found");
    let list = app.get("/v1/users?username=victim").by(stranger).await.expect_ok();
    assert_eq!(list["items"], json!([]));
    let export = app.get("/v1/audit").by(stranger).header("accept", "application/x-ndjson").await.expect_ok();
    assert!(!export.shown().contains(&victim.id));
    let body = json!({ "user": victim.id, "code": victim.code() });
    app.post("/v1/verify").by(stranger).json(body).await.expect_problem(404, "user_not_found");
    let token = [("token", &*app.sign_in("admin", &app.admin_password).await)];
    let introspected = app.post("/oauth/introspect").by(stranger).form(&token).await;
    assert!(introspected.status == 401 || introspected.json == json!({ "active": false }));
}

/// Heads of one organisation and its people, apart from sessions of its owner, whom the test itself signs in.
async fn heads_of(app: &TestApp, organisation: &str) -> Vec<String> {
    let owner = app.admin.to_string();
    let users = app.get("/v1/users?limit=200").by(&app.root()).await.expect_ok();
    let members: BTreeSet<String> = users["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|user| user["id"].as_str().map(str::to_owned))
        .filter(|id| *id != owner)
        .chain([organisation.to_owned()])
        .collect();
    assert!(members.len() > 10);
    app.heads()
        .await
        .iter()
        .filter(|claimed| members.contains(&claimed.subject.uuid().to_string()))
        .map(|claimed| format!("{claimed:?}"))
        .collect()
}

/// A route that is mounted beside the description would be in none of the tests above.
#[tokio::test]
async fn every_mounted_route_is_in_the_description() {
    let app = TestApp::start().await;
    let below =
        |dialect: Dialect| rows(dialect).into_iter().map(move |row| dialect.prefix().to_owned() + row.path);
    let native = operations().into_iter().map(|operation| operation.path);
    let known: BTreeSet<String> = native.chain(Dialect::ALL.into_iter().flat_map(below)).collect();

    // axum shows what it routes, and has no other way to ask. The fallback is at `/` and below.
    let shown = format!("{:?}", routes(Web::new(Arc::clone(&app.app)).expect("the layer")));
    let mounted: BTreeSet<&str> = shown.split('"').filter(|text| text.starts_with('/')).collect();

    assert!(known.iter().all(|path| mounted.contains(path.as_str())), "{shown}");
    for path in mounted {
        let is_fallback = path == "/" || path.contains("__private__axum");
        assert!(known.contains(path) || BESIDE.contains(&path) || is_fallback, "{path} is not described");
    }
    app.get("/").await.expect_problem(404, "not_found");
}

/// What describes the API is not part of it, nor are pages for people.
const BESIDE: [&str; 3] = ["/openapi.json", "/docs", "/enrol"];

#[tokio::test]
async fn a_path_has_no_methods_beside_those_described() {
    let app = TestApp::start().await;
    let described: BTreeSet<String> = operations().iter().map(Operation::name).collect();

    for path in operations().into_iter().map(|operation| operation.path).collect::<BTreeSet<_>>() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let method: Method = method.parse().expect("a method");
            if described.contains(&format!("{method} {path}")) {
                continue;
            }
            let answer = app.call(method.clone(), &path).by(&app.root()).await;
            let allow = answer.header("allow").unwrap_or_default().to_owned();
            answer.expect_problem(405, "method_not_allowed");
            assert!(described.iter().any(|name| name.ends_with(&format!(" {path}"))));
            let allowed: Vec<&str> = allow.split(',').filter(|method| *method != "HEAD").collect();
            assert!(!allowed.is_empty(), "{method} {path}: no Allow");
            assert!(
                allowed.iter().all(|method| described.contains(&format!("{method} {path}"))),
                "{path}: {allow}"
            );
        }
    }
}

/// A handler whose path is described but not mounted, or the other way round, shows here.
#[test]
fn every_handler_of_the_native_api_is_mounted() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/api");
    let router = fs::read_to_string(directory.join("mod.rs")).expect("mod.rs");
    let mut handlers = 0;
    for entry in fs::read_dir(directory).expect("the API").map(|entry| entry.expect("entry").path()) {
        let module = entry.file_stem().expect("name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&entry).expect("source");
        for described in text.split("#[utoipa::path(").skip(1) {
            let name = described.split("pub async fn ").nth(1).expect("a handler");
            let name = name.split(['(', '<']).next().expect("its name");
            let is_mounted = [",", ")"].iter().any(|end| router.contains(&format!("{module}::{name}{end}")));
            assert!(is_mounted, "{module}::{name} is not mounted");
            handlers += 1;
        }
    }
    assert_eq!(handlers, operations().len());
}
