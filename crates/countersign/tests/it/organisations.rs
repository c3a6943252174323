//! Organisations, their policies, and people in lists.

use crate::test_app::{Client, PASSWORD, TestApp};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn an_owner_creates_finds_and_renames_organisations() {
    let app = TestApp::start().await;
    let owner = app.owner().await;

    let body = json!({ "slug": "Acme", "name": "Acme Ltd" });
    let made = app.post("/v1/organisations").by(&owner).json(body).await.expect_created();
    let by_slug = app.get("/v1/organisations/ACME").by(&owner).await.expect_ok();
    let by_id = app.get(&format!("/v1/organisations/{}", made.text("id"))).by(&owner).await.expect_ok();
    assert_eq!((&by_slug.json, &by_id.json), (&made.json, &made.json));

    app.advance(60);
    let path = "/v1/organisations/acme";
    let renamed = app.patch(path).by(&owner).json(json!({ "name": "Acme Inc" })).await.expect_ok();
    assert_eq!((&renamed["name"], &renamed["slug"]), (&json!("Acme Inc"), &json!("Acme")));
    assert_ne!(renamed["updatedAt"], renamed["createdAt"]);
    let list = app.get("/v1/organisations").by(&owner).await.expect_ok();
    let slugs: Vec<&Value> =
        list["items"].as_array().expect("items").iter().map(|item| &item["slug"]).collect();
    assert_eq!(slugs, ["main", "Acme"]);
}

#[tokio::test]
async fn organisations_are_listed_in_pages_without_gaps_or_repeats() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    for number in 0..6 {
        let body = json!({ "slug": format!("org-{number}"), "name": "One of many" });
        app.post("/v1/organisations").by(&owner).json(body).await.expect_created();
    }

    let slugs = pages(&app, "/v1/organisations?limit=3", "slug").await;

    assert_eq!(slugs, ["main", "org-0", "org-1", "org-2", "org-3", "org-4", "org-5"]);
}

/// Reads a list to its end as the owner; returns a member of each item.
async fn pages(app: &TestApp, path: &str, member: &str) -> Vec<String> {
    let owner = app.owner().await;
    let mut seen = Vec::new();
    let mut next = Value::Null;
    for _ in 0..100 {
        let after = next.as_str().map(|after| format!("&after={after}")).unwrap_or_default();
        let page = app.get(&format!("{path}{after}")).by(&owner).await.expect_ok();
        let items = page["items"].as_array().expect("items").iter();
        seen.extend(items.map(|item| item[member].as_str().map_or(item[member].to_string(), str::to_owned)));
        next = page["next"].clone();
        if next.is_null() {
            return seen;
        }
    }
    panic!("{path} does not end");
}

#[tokio::test]
async fn people_are_listed_in_pages_by_number_and_by_name() {
    let app = TestApp::start().await;
    for name in ["delta", "Bravo", "alpha", "charlie", "echo"] {
        app.user(name).await;
    }

    let by_number = pages(&app, "/v1/users?limit=2", "username").await;
    let by_name = pages(&app, "/v1/users?limit=2&username=", "username").await;
    let by_prefix = pages(&app, "/v1/users?username=B", "username").await;

    assert_eq!(by_number, ["admin", "delta", "Bravo", "alpha", "charlie", "echo"]);
    assert_eq!(by_name, ["admin", "alpha", "Bravo", "charlie", "delta", "echo"]);
    assert_eq!(by_prefix, ["Bravo"]);
    assert_eq!(pages(&app, "/v1/users?username=%25", "username").await, Vec::<String>::new(), "no wildcard");
}

#[tokio::test]
async fn people_are_found_by_one_thing_about_them() {
    let app = TestApp::start().await;
    let root = app.root();
    let locked = app.user("locked").with_totp().await;
    locked.lock().await;
    let disabled = app.user("disabled").await;
    app.patch(&disabled.path("")).by(&root).json(json!({ "status": "disabled" })).await.expect_ok();
    app.user("auditor").with_role("auditor").await;
    app.user("with-factor").with_totp().await;
    let found = async |filter: &str| pages(&app, &format!("/v1/users?{filter}&limit=1"), "username").await;

    assert_eq!(found("status=disabled").await, ["disabled"]);
    assert_eq!(found("role=auditor").await, ["auditor"]);
    assert_eq!(found("role=owner").await, ["admin"]);
    assert_eq!(found("mfaEnabled=true").await, ["locked", "with-factor"]);
    assert_eq!(found("locked=TOKEN").await, ["locked"]);
    assert_eq!(found("locked=SMS").await, Vec::<String>::new());

    app.post(&locked.path("/unlock")).by(&root).await.expect_ok();
    assert_eq!(found("locked=TOKEN").await, Vec::<String>::new(), "lists follow the documents");
    app.patch(&disabled.path("")).by(&root).json(json!({ "status": "active" })).await.expect_ok();
    assert_eq!(found("status=disabled").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_page_stays_in_place_while_people_come_and_go() {
    let app = TestApp::start().await;
    let root = app.root();
    let mut people = Vec::new();
    for number in 0..6 {
        people.push(app.user(&format!("person-{number}")).await);
    }
    let first = app.get("/v1/users?limit=3").by(&root).await.expect_ok();

    app.delete(&people[0].path("")).by(&root).await.expect(204);
    app.delete(&people[1].path("")).by(&root).await.expect(204);
    app.user("late").await;
    let path = format!("/v1/users?limit=50&after={}", first.text("next"));
    let rest = app.get(&path).by(&root).await.expect_ok();

    let names: Vec<&str> = rest["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|item| item["username"].as_str())
        .collect();
    assert_eq!(names, ["person-2", "person-3", "person-4", "person-5", "late"]);
}

#[tokio::test]
async fn the_same_names_and_numbers_live_apart_in_each_organisation() {
    let app = TestApp::start().await;
    app.another_organisation("acme").await;
    let owner = app.owner().await;
    let ours = app.user("alice").with_totp().with_password().await;
    let theirs = app.user("alice").in_organisation("acme", &owner).with_totp().with_password().await;
    let body = json!({ "name": "theirs", "scopes": ["verify", "users:read"] });
    let client = app.post("/v1/clients?organisation=acme").by(&owner).json(body).await.expect_created();
    let client = Client::of(&client).credentials();

    let shown = app.get("/v1/users/alice").by(&client).await.expect_ok();
    assert_eq!((&shown["id"], &shown["number"]), (&json!(theirs.id), &json!(1000)));
    let body = json!({ "user": "alice", "code": theirs.code() });
    assert!(app.post("/v1/verify").by(&client).json(body.clone()).await.accepted());
    assert_eq!(app.post("/v1/verify").by(&app.root()).json(body).await.refusal(), Some("rejected"));
    assert!(ours.verify(ours.code()).await.accepted());

    for person in [&ours, &theirs] {
        assert_eq!(person.sign_in(PASSWORD).await.error(), "mfa_required");
    }
}

#[tokio::test]
async fn numbers_are_never_given_twice() {
    let app = TestApp::start().await;
    let number = async |name: &str| {
        let person = app.user(name).await;
        let number = app.get(&person.path("")).by(&app.root()).await["number"].as_u64().expect("a number");
        app.delete(&person.path("")).by(&app.root()).await.expect(204);
        number
    };

    let mut numbers = BTreeSet::new();
    for _ in 0..4 {
        numbers.insert(number("again").await);
    }

    assert_eq!(numbers, BTreeSet::from([1001, 1002, 1003, 1004]));
}

#[tokio::test]
async fn a_policy_is_patched_member_by_member_and_null_restores_the_default() {
    let app = TestApp::start().await;
    let root = app.root();
    let path = "/v1/organisations/main/policy";
    let default = app.get(path).by(&root).await.expect_ok();
    let patch = async |body: Value| app.patch(path).by(&root).json(body).await.expect_ok();

    let patched = patch(json!({ "totp": { "digits": 8 }, "locks": { "threshold": 3 } })).await;
    let mut expected = default.json.clone();
    expected["totp"]["digits"] = json!(8);
    expected["locks"]["threshold"] = json!(3);
    assert_eq!(patched.json, expected);
    assert_eq!(app.get(path).by(&root).await.json, expected);

    let restored = patch(json!({ "totp": { "digits": null }, "locks": null })).await;
    assert_eq!(restored.json, default.json);
    let events = app.get("/v1/audit?action=policy.changed").by(&root).await.expect_ok();
    assert_eq!(events["items"].as_array().map(Vec::len), Some(2));
    patch(json!({})).await;
    let events = app.get("/v1/audit?action=policy.changed").by(&root).await.expect_ok();
    assert_eq!(events["items"].as_array().map(Vec::len), Some(2), "what changes nothing is no event");
    insta::assert_json_snapshot!(default.json);
}

#[tokio::test]
async fn a_policy_takes_effect_with_the_next_request() {
    let app = TestApp::start().await;
    let root = app.root();
    let alice = app.user("alice").with_totp().await;

    app.policy(json!({ "locks": { "threshold": 3, "mode": "until_unlocked" } })).await;
    for _ in 0..3 {
        alice.verify(alice.wrong_code()).await.expect_ok();
    }
    app.advance(10 * 86_400);
    let locked = alice.verify(alice.code()).await;
    assert_eq!((locked.refusal(), &locked["lockedUntil"]), (Some("locked"), &Value::Null));
    app.post(&alice.path("/unlock")).by(&root).await.expect_ok();
    app.policy(json!({ "kinds": ["hotp"] })).await;
    assert_eq!(alice.verify(alice.code()).await.refusal(), Some("no_factor"));
    let enrol = app.post(&alice.path("/factors")).by(&root).json(json!({ "type": "totp" })).await;
    enrol.expect_problem(409, "kind_forbidden");
    app.policy(json!({ "kinds": null, "totp": { "digits": 8, "algorithm": "SHA256" } })).await;
    let enrolled = app.post(&alice.path("/factors")).by(&root).json(json!({ "type": "totp" })).await;
    let enrolled = enrolled.expect_created();
    assert_eq!((&enrolled["digits"], &enrolled["algorithm"]), (&json!(8), &json!("SHA256")));
    assert!(enrolled.text("otpauthUri").contains("digits=8"));
    assert!(alice.verify(alice.code()).await.accepted(), "factors keep what they were made with");
}

#[tokio::test]
async fn a_patch_clears_with_null_and_leaves_what_it_does_not_name() {
    let app = TestApp::start().await;
    let alice = app.user("alice").await;
    let patch = async |body: Value| app.patch(&alice.path("")).by(&app.root()).json(body).await.expect_ok();

    let full = patch(json!({ "displayName": "Alice A.", "phone": "+49 30 123-456" })).await;
    assert_eq!((&full["displayName"], &full["phone"]), (&json!("Alice A."), &json!("+4930123456")));
    let cleared = patch(json!({ "phone": null })).await;

    assert_eq!((&cleared["phone"], &cleared["displayName"]), (&Value::Null, &json!("Alice A.")));
    assert_eq!(cleared["email"], "alice@example.com");
}

#[tokio::test]
async fn names_a_description_and_attributes_are_kept_and_the_trail_names_but_does_not_tell_them() {
    let app = TestApp::start().await;
    let new = json!({
        "username": "ada", "givenName": "Ada", "familyName": "King", "description": "first of her kind",
        "attributes": { "costCentre": 4711, "tenants": ["t1"] },
    });
    let ada = app.post("/v1/users").by(&app.root()).json(new.clone()).await.expect_created();
    let path = format!("/v1/users/{}", ada.text("id"));

    let patch = json!({ "familyName": "Lovelace", "description": null, "attributes": { "room": "3.14" } });
    let changed = app.patch(&path).by(&app.root()).json(patch).await.expect_ok();
    let cleared = app.patch(&path).by(&app.root()).json(json!({ "attributes": null })).await.expect_ok();

    for member in ["givenName", "familyName", "description", "attributes"] {
        assert_eq!(ada[member], new[member], "{member}");
    }
    assert_eq!((&changed["givenName"], &changed["familyName"]), (&json!("Ada"), &json!("Lovelace")));
    assert_eq!((&changed["description"], &changed["attributes"]), (&Value::Null, &json!({ "room": "3.14" })));
    assert_eq!(cleared["attributes"], json!({}));
    let trail = app.get("/v1/audit?user=ada").by(&app.root()).await.expect_ok()["items"].to_string();
    assert!(
        trail.contains("familyName") && !trail.contains("Lovelace") && !trail.contains("3.14"),
        "{trail}"
    );
}
