//! The ladder: nobody weakens the factors of somebody above them.

use crate::test_app::{Answer, Client, Credentials, TestApp};
use countersign_core::Role;
use http::Method;
use serde_json::{Value, json};

const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// What somebody with a hand on factors, locks and people can do to a person.
fn actions() -> Vec<(Method, &'static str, Option<Value>)> {
    vec![
        (Method::POST, "/unlock", None),
        (Method::POST, "/reset", None),
        (Method::DELETE, "/mfa", None),
        (Method::POST, "/factors", Some(json!({ "type": "totp" }))),
        (Method::POST, "/factors", Some(json!({ "type": "totp", "secret": SEED }))),
        (Method::PATCH, "/factors/{active}", Some(json!({ "label": "other" }))),
        (Method::PATCH, "/factors/{active}", Some(json!({ "state": "disabled" }))),
        (Method::DELETE, "/factors/{active}", None),
        (Method::POST, "/factors/{active}/resync", Some(json!({ "codes": ["755224", "287082"] }))),
        (Method::POST, "/factors/{pending}/activate", Some(json!({ "code": "000000" }))),
        (Method::GET, "/factors/{pending}/qr", None),
        (Method::POST, "/recovery-codes", None),
        (Method::POST, "/emergency-code", None),
        (Method::DELETE, "/emergency-code", None),
        (Method::PATCH, "", Some(json!({ "status": "disabled" }))),
        (Method::PATCH, "", Some(json!({ "email": null }))),
        (Method::PATCH, "", Some(json!({ "mfaEnabled": false }))),
        (Method::POST, "/invitation", None),
        (Method::DELETE, "", None),
    ]
}

/// The members of `/v1/users/{user}` itself and the invitation ask for `users:write`, which the help desk lacks.
fn is_about_the_person(path: &str) -> bool {
    path.is_empty() || path == "/invitation"
}

struct Actor {
    name: &'static str,
    credentials: Credentials,
    /// The highest role they reach.
    reaches: Role,
    writes_users: bool,
}

async fn actors(app: &TestApp) -> Vec<Actor> {
    let helpdesk = app.user("desk").with_role("helpdesk").with_password().await.session().await;
    let admin = app.user("the-admin").with_role("admin").with_password().await.session().await;
    let scopes = ["verify", "users:read", "users:write", "factors:write", "locks:write", "audit:read"];
    let client = app.client(&scopes).await.credentials();
    let actor = |name, credentials, reaches, writes_users| Actor { name, credentials, reaches, writes_users };
    vec![
        actor("helpdesk", helpdesk, Role::Member, false),
        actor("client without admin", client, Role::Member, true),
        actor("admin", admin, Role::Admin, true),
        actor("client with admin", app.root(), Role::Admin, true),
        actor("owner", app.owner().await, Role::Owner, true),
    ]
}

struct Target {
    id: String,
    active: String,
    pending: String,
}

impl Target {
    async fn with_role(app: &TestApp, role: Role, owner: &Credentials) -> Self {
        let id = app.user(&app.fresh_name()).with_role(role.name()).created_by(owner).await.id;
        let factors = format!("/v1/users/{id}/factors");
        let enrol =
            async |body: Value| app.post(&factors).by(owner).json(body).await.expect_created().text("id");
        let active = enrol(json!({ "type": "hotp", "secret": SEED })).await;
        let pending = enrol(json!({ "type": "totp" })).await;
        app.post(&format!("/v1/users/{id}/emergency-code")).by(owner).await.expect_created();
        Self { id, active, pending }
    }

    async fn suffer(&self, app: &TestApp, action: &(Method, &str, Option<Value>), by: &Actor) -> Answer {
        let (method, path, body) = action;
        let path = path.replace("{active}", &self.active).replace("{pending}", &self.pending);
        let call = app.call(method.clone(), &format!("/v1/users/{}{path}", self.id)).by(&by.credentials);
        match body {
            Some(body) => call.json(body.clone()).await,
            None => call.await,
        }
    }
}

/// Promise 4.
#[tokio::test]
async fn nobody_acts_on_somebody_above_them() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let actors = actors(&app).await;
    let mut targets = Vec::new();
    for role in Role::ALL {
        targets.push((role, Target::with_role(&app, role, &owner).await));
    }
    let before = app.heads().await;
    let mut refused = 0;

    for actor in &actors {
        for (role, target) in targets.iter().filter(|(role, _)| *role > actor.reaches) {
            for action in actions() {
                let answer = target.suffer(&app, &action, actor).await;
                let context = format!("{} on a {role}: {} {}", actor.name, action.0, action.1);
                let lacks_permission = is_about_the_person(action.1) && !actor.writes_users;
                let code = if lacks_permission { "role_too_low" } else { "above_your_rank" };
                assert_eq!((answer.status.as_u16(), answer.code()), (403, code), "{context}");
                refused += 1;
            }
        }
    }

    assert!(refused > 100);
    assert_eq!(app.heads().await, before);
}

#[tokio::test]
async fn everybody_acts_on_those_below_them() {
    let app = TestApp::start().await;
    let owner = app.owner().await;

    for actor in actors(&app).await {
        for role in Role::ALL.into_iter().filter(|role| *role <= actor.reaches) {
            for action in actions() {
                if is_about_the_person(action.1) && !actor.writes_users {
                    continue;
                }
                let target = Target::with_role(&app, role, &owner).await;
                let answer = target.suffer(&app, &action, &actor).await;
                let got_through = answer.status.is_success() || answer.code() == "code_rejected";
                let context = format!("{} on a {role}: {} {}", actor.name, action.0, action.1);
                assert!(got_through, "{context}: {}", answer.shown());
            }
        }
    }
}

#[tokio::test]
async fn nobody_grants_a_role_above_their_own() {
    let app = TestApp::start().await;
    let admin = app.user("the-admin").with_role("admin").with_password().await.session().await;
    let writer = app.client(&["users:write"]).await.credentials();
    let bob = app.user("bob").await;
    let before = app.heads().await;

    for (by, roles) in
        [(&admin, json!(["owner"])), (&app.root(), json!(["member", "owner"])), (&writer, json!(["admin"]))]
    {
        let body = json!({ "username": "climber", "roles": roles });
        app.post("/v1/users").by(by).json(body).await.expect_problem(403, "role_above_yours");
        let body = json!({ "roles": roles });
        app.patch(&bob.path("")).by(by).json(body).await.expect_problem(403, "role_above_yours");
    }

    assert_eq!(app.heads().await, before);
    app.patch(&bob.path("")).by(&admin).json(json!({ "roles": ["admin"] })).await.expect_ok();
}

#[tokio::test]
async fn a_client_without_the_admin_scope_makes_no_clients() {
    let app = TestApp::start().await;
    let writer = app.client(&["users:write", "factors:write"]).await.credentials();
    let body = json!({ "name": "next", "scopes": ["admin"] });

    let answer = app.post("/v1/clients").by(&writer).json(body).await;

    answer.expect_problem(403, "insufficient_scope");
}

/// The password alone was proved in such a session. By their staff role an administrator could otherwise do to
/// themselves what `/v1/me` refuses them, and so could whoever stole their password.
#[tokio::test]
async fn nobody_touches_their_own_factors_by_their_staff_role() {
    let app = TestApp::start().await;
    app.policy(json!({ "requirement": "off" })).await;
    let owner = app.owner().await;
    for role in ["admin", "owner"] {
        let name = format!("my-own-{role}");
        let person = app.user(&name).with_role(role).created_by(&owner).with_totp().with_password().await;
        let session = person.session().await;
        let (factors, mine) = (person.path("/factors"), person.path(&format!("/factors/{}", person.factor)));
        let before = app.heads().await;

        for (method, path, body) in [
            (Method::POST, person.path("/unlock"), None),
            (Method::POST, person.path("/reset"), None),
            (Method::DELETE, person.path("/mfa"), None),
            (Method::POST, factors.clone(), Some(json!({ "type": "totp" }))),
            (Method::POST, factors.clone(), Some(json!({ "type": "totp", "secret": SEED }))),
            (Method::PATCH, mine.clone(), Some(json!({ "state": "disabled" }))),
            (Method::DELETE, mine.clone(), None),
            (Method::POST, person.path("/recovery-codes"), None),
            (Method::POST, person.path("/emergency-code"), None),
            (Method::POST, person.path("/invitation"), None),
        ] {
            let call = app.call(method.clone(), &path).by(&session);
            let answer = match body {
                Some(body) => call.json(body).await,
                None => call.await,
            };
            assert_eq!(answer.status, 403, "{role}: {method} {path}: {}", answer.shown());
        }
        assert_eq!(app.heads().await, before);
    }
}

#[tokio::test]
async fn a_session_without_a_second_factor_enrols_the_first_one_and_touches_none_that_is_there() {
    let app = TestApp::start().await;
    app.policy(json!({ "requirement": "off" })).await;
    let alice = app.user("alice").with_password().await;
    let session = alice.session().await;
    let body = json!({ "type": "totp" });
    app.post("/v1/me/factors").by(&session).json(body.clone()).await.expect_created();
    let imported = json!({ "type": "totp", "secret": SEED });
    let made = app.post(&alice.path("/factors")).by(&app.root()).json(imported).await.expect_created();
    let mine = format!("/v1/me/factors/{}", made.text("id"));

    let refused = [
        app.post("/v1/me/factors").by(&session).json(body).await,
        app.delete(&mine).by(&session).await,
        app.patch(&mine).by(&session).json(json!({ "state": "disabled" })).await,
        app.post("/v1/me/recovery-codes").by(&session).await,
        app.post("/v1/me/reset").by(&session).await,
        app.delete("/v1/me/mfa").by(&session).await,
    ];

    for answer in refused {
        answer.expect_problem(403, "second_factor_needed");
    }
}

#[tokio::test]
async fn an_owner_turns_to_another_organisation_and_nobody_else_does() {
    let app = TestApp::start().await;
    let acme = app.another_organisation("acme").await;
    let owner = app.owner().await;
    let eve = app.user("eve").in_organisation("acme", &owner).with_totp().await;
    let admin = app.user("the-admin").with_role("admin").with_password().await.session().await;

    let by_slug = app.get("/v1/users/eve?organisation=acme").by(&owner).await.expect_ok();
    let by_id = app.get(&format!("/v1/users/eve?organisation={acme}")).by(&owner).await.expect_ok();
    assert_eq!((by_slug["id"].as_str(), &by_id.json), (Some(&*eve.id), &by_slug.json));
    assert_eq!(by_slug["organisation"], acme);
    app.get("/v1/users/eve").by(&owner).await.expect_problem(404, "user_not_found");
    app.get("/v1/users/eve?organisation=nowhere")
        .by(&owner)
        .await
        .expect_problem(404, "organisation_not_found");

    for by in [&admin, &app.root()] {
        let path = "/v1/users/eve?organisation=acme";
        app.get(path).by(by).await.expect_problem(403, "other_organisation");
        let path = "/v1/users/eve?organisation=nowhere";
        app.get(path).by(by).await.expect_problem(403, "other_organisation");
        app.get("/v1/users/the-admin?organisation=main").by(by).await.expect_ok();
    }
    let body = json!({ "name": "theirs", "scopes": ["verify"] });
    let made = app.post("/v1/clients?organisation=acme").by(&owner).json(body).await.expect_created();
    let body = json!({ "user": "eve", "code": eve.code() });
    let answer = app.post("/v1/verify").by(&Client::of(&made).credentials()).json(body).await;
    assert!(answer.accepted(), "{}", answer.shown());
}

/// An owner who means another organisation must never act on their own because of a slip in the query.
#[tokio::test]
async fn a_garbled_organisation_is_refused_and_never_taken_for_ones_own() {
    let app = TestApp::start().await;
    app.another_organisation("acme").await;
    let owner = app.owner().await;
    let bob = app.user("bob").await;

    for query in ["organisation=acme&organisation=acme", "organisation=", "%6Frganisation=acme"] {
        let answer = app.delete(&format!("{}?{query}", bob.path(""))).by(&owner).await;
        assert!(answer.status.is_client_error(), "{query}: {}", answer.status);
    }

    app.get(&bob.path("")).by(&owner).await.expect_ok();
}

#[tokio::test]
async fn an_installation_keeps_an_owner() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let path = format!("/v1/users/{}", app.admin);

    app.delete(&path).by(&owner).await.expect(400);
    app.patch(&path).by(&owner).json(json!({ "status": "disabled" })).await.expect(400);
    app.patch(&path).by(&owner).json(json!({ "roles": ["member"] })).await.expect_problem(409, "last_owner");

    app.get("/v1/organisations").by(&owner).await.expect_ok();
}
