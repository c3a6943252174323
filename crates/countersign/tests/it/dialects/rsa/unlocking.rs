//! §2, Unlock User Tokencodes, and §3, User Details.

use super::{API, AUDIENCE, HELP_DESK, Tenant, expect_envelope, key, states};
use crate::{signing::Signer, test_app::Credentials};
use http::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::time::Duration;

/// The seed's sample, byte for byte but for user, host and token.
#[tokio::test]
async fn section_2_the_sample_request_of_the_documentation() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    let sample = b"{\n\n\"unlockMethods\" : [\"TOKEN\", \"VOICE\", \"SMS\"]\n\n}";

    let path = format!("/v1/users/{}/methods", user.id);
    let answer =
        tenant.call(Method::PATCH, &path).body("application/json", sample.to_vec()).await.expect_ok();

    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = format!(
        r#"{{"userId":"{}","isTokenLocked":false,"isSmsLocked":false,"isVoiceLocked":false}}"#,
        user.id
    );
    assert_eq!(answer.shown(), body, "acceptance 17: exactly these members");
}

#[tokio::test]
async fn acceptance_1_2_3_4_methods_unlock_as_they_are_named_and_again() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;

    let sms = tenant.unlock(&user.id, json!(["SMS"])).await.expect_ok();
    assert_eq!(states(&sms), [true, false, true]);
    assert_eq!(states(&tenant.lookup("mira@example.com").await.expect_ok()), [true, false, true]);
    for _ in 0..2 {
        let all = tenant.unlock(&user.id, json!(["TOKEN", "VOICE", "SMS"])).await.expect_ok();
        assert_eq!(states(&all), [false, false, false]);
    }
    let fresh = tenant.app.user("fresh").await;
    for methods in [json!(["SMS"]), json!(["VOICE", "TOKEN"])] {
        let answer = tenant.unlock(&fresh.id, methods).await.expect_ok();
        assert_eq!(states(&answer), [false, false, false], "§2.4: not locked, not enrolled");
    }
}

#[tokio::test]
async fn section_2_4_a_body_that_is_not_right_unlocks_nothing() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    let path = format!("/v1/users/{}/methods", user.id);
    let before = tenant.app.heads().await;

    for (row, body) in [
        ("§2.4 body absent", ""),
        ("§2.4 not JSON", "unlock"),
        ("§2.4 not an object", r#"["SMS"]"#),
        ("§2.4 null", "null"),
        ("§2.4 unlockMethods missing", "{}"),
        ("§2.4 unlockMethods null", r#"{"unlockMethods":null}"#),
        ("§2.4 unlockMethods []", r#"{"unlockMethods":[]}"#),
        ("§2.4 a string instead of an array", r#"{"unlockMethods":"SMS"}"#),
        ("§2.4 unknown element", r#"{"unlockMethods":["FAX"]}"#),
        ("§2.4 lower case", r#"{"unlockMethods":["sms"]}"#),
        ("§2.4 null element", r#"{"unlockMethods":[null]}"#),
        ("§2.4 a number", r#"{"unlockMethods":[1]}"#),
        ("acceptance 6: one good, one unknown", r#"{"unlockMethods":["SMS","FAX"]}"#),
        ("§2.4 lists of other factors", r#"{"unlockMethods":["FINGERPRINT"]}"#),
        ("§2.4 lists of other factors", r#"{"unlockMethods":["APPROVE"]}"#),
        ("§2.4 duplicate JSON key", r#"{"unlockMethods":["SMS"],"unlockMethods":["SMS"]}"#),
        ("§2.4 trailing bytes", r#"{"unlockMethods":["SMS"]}x"#),
    ] {
        let answer = tenant.call(Method::PATCH, &path).body("application/json", body.into()).await;
        assert_eq!(answer.status, 400, "{row}: {}", answer.shown());
        expect_envelope(&answer, 400);
    }
    for (row, media_type) in [("§2.4 wrong Content-Type", "text/plain"), ("§2.4 missing Content-Type", "")]
    {
        let body = br#"{"unlockMethods":["SMS"]}"#;
        let answer = tenant.call(Method::PATCH, &path).body(media_type, body.to_vec()).await;
        assert_eq!(answer.status, 400, "{row}: {}", answer.shown());
    }
    let large = format!(r#"{{"unlockMethods":["SMS"],"x":"{}"}}"#, "x".repeat(9_000));
    let answer = tenant.call(Method::PATCH, &path).body("application/json", large.into()).await;
    expect_envelope(&answer, 413);
    assert_eq!(tenant.app.heads().await, before);
    assert_eq!(states(&tenant.lookup("mira@example.com").await), [true; 3]);
}

#[tokio::test]
async fn section_2_4_a_body_that_is_lenient_enough_unlocks() {
    let tenant = Tenant::start().await;
    for (row, media_type, body) in [
        ("§2.4 duplicates are a set", "application/json", r#"{"unlockMethods":["SMS","SMS"]}"#),
        ("§2.4 order is irrelevant", "application/json", r#"{"unlockMethods":["SMS","TOKEN"]}"#),
        ("§2.4 extra members are ignored", "application/json", r#"{"a":1,"unlockMethods":["SMS"],"b":null}"#),
        ("§1.2 a charset parameter", "application/json; charset=utf-8", r#"{"unlockMethods":["SMS"]}"#),
    ] {
        let user = tenant.reachable(&tenant.app.fresh_name()).await;
        tenant.lock_sent(&user, "sms").await;
        let path = format!("/v1/users/{}/methods", user.id);

        let answer = tenant.call(Method::PATCH, &path).body(media_type, body.into()).await;

        assert_eq!(answer.status, 200, "{row}: {}", answer.shown());
        assert_eq!(states(&answer), [false; 3], "{row}");
    }
}

#[tokio::test]
async fn acceptance_7_8_9_an_id_is_a_uuid_of_somebody_here() {
    let tenant = Tenant::start().await;
    tenant.app.another_organisation("acme").await;
    let owner = tenant.app.owner().await;
    let stranger = tenant.app.user("stranger").in_organisation("acme", &owner).await;
    let user = tenant.locked("mira").await;
    let before = tenant.app.heads().await;

    for id in ["not-a-uuid", "1000", "mira", &user.id.replace('-', ""), &format!("{{{}}}", user.id)] {
        let id = id.replace('{', "%7B").replace('}', "%7D");
        expect_envelope(&tenant.unlock(&id, json!(["SMS"])).await, 400);
    }
    for id in ["00000000-0000-4000-8000-000000000000", stranger.id.as_str()] {
        expect_envelope(&tenant.unlock(id, json!(["SMS"])).await, 404);
    }
    let body = json!({ "unlockMethods": [] });
    let path = "/v1/users/00000000-0000-4000-8000-000000000000/methods";
    expect_envelope(&tenant.send(Method::PATCH, path, body).await, 400);
    assert_eq!(tenant.app.heads().await, before);

    let answer = tenant.unlock(&user.id.to_uppercase(), json!(["SMS"])).await.expect_ok();
    assert_eq!(answer["userId"], user.id, "§1.9: upper case is taken, lower case echoed");
}

#[tokio::test]
async fn section_2_4_a_disabled_user_is_unlocked_and_stays_disabled() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    let disabled = json!({ "status": "disabled" });
    tenant.app.patch(&user.path("")).by(&tenant.app.root()).json(disabled).await.expect_ok();

    let answer = tenant.unlock(&user.id, json!(["TOKEN"])).await.expect_ok();

    assert_eq!(states(&answer), [false, true, true]);
    assert_eq!(tenant.lookup("mira@example.com").await["userStatus"], "Disabled");
}

#[tokio::test]
async fn acceptance_15_over_the_limit_nothing_is_done() {
    let tenant = Tenant::start_with(|config| config.limits.per_client = 5).await;
    let user = tenant.app.user("mira").await;
    let path = format!("{API}/v1/users/{}/methods", user.id);
    // Who is nobody does not use up the key's share.
    for _ in 0..40 {
        tenant.app.patch(&path).by(&Credentials::raw("Bearer x.y.z")).await.expect(403);
    }
    tenant.unlock(&user.id, json!(["SMS"])).await.expect_ok();
    let before = tenant.app.heads().await;
    let calls = (0..40).map(|_| tenant.call(Method::PATCH, &format!("/v1/users/{}/methods", user.id)));
    let calls = calls.map(|call| call.json(json!({ "unlockMethods": ["SMS"] })));

    let answers = crate::test_app::at_once(calls.collect::<Vec<_>>()).await;

    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(refused.len() >= 20, "{}", refused.len());
    for answer in refused {
        expect_envelope(answer, 429);
        let seconds = answer.header("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
        assert!(seconds.is_some_and(|seconds| (1..=3).contains(&seconds)), "{seconds:?}");
    }
    assert_eq!(tenant.app.heads().await, before);
}

/// The store really refuses to write what concerns one method.
fn break_unlocking(tenant: &Tenant, method: &str) {
    let database = Connection::open(tenant.app.directory().join("countersign.db")).expect("open");
    database.busy_timeout(Duration::from_secs(5)).expect("timeout");
    let trigger = format!(
        "CREATE TRIGGER broken BEFORE INSERT ON audit
         WHEN NEW.action = 'method.unlocked' AND instr(CAST(NEW.body AS TEXT), '\"{method}\"') > 0
         BEGIN SELECT RAISE(ABORT, 'no room for this'); END"
    );
    database.execute_batch(&trigger).expect("trigger");
}

#[tokio::test]
async fn acceptance_16_a_failure_for_one_method_is_a_500_with_the_true_states() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    break_unlocking(&tenant, "SMS");

    let answer = tenant.unlock(&user.id, json!(["TOKEN", "VOICE", "SMS"])).await.expect(500);

    assert_eq!(states(&answer), [false, true, false]);
    assert_eq!(answer["userId"], user.id);
    assert_eq!(answer.json.as_object().map(serde_json::Map::len), Some(4), "{}", answer.shown());
    assert_eq!(states(&tenant.lookup("mira@example.com").await), [false, true, false]);
    assert_eq!(tenant.app.count(&user.id, "method.unlocked").await, 2);
}

#[tokio::test]
async fn section_2_5_an_early_failure_is_a_500_in_the_envelope() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    tenant.app.app.store.close().await;

    let answer = tenant.unlock(&user.id, json!(["SMS"])).await;

    expect_envelope(&answer, 500);
}

#[tokio::test]
async fn acceptance_18_nothing_else_changes() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    let without = |mut answer: Value, names: &[&str]| {
        names.iter().for_each(|name| drop(answer.as_object_mut().expect("an object").remove(*name)));
        answer
    };
    let flags = ["isTokenLocked", "isSmsLocked", "isVoiceLocked", "lastSyncTime"];

    let before = tenant.lookup("mira@example.com").await.expect_ok();
    let id = before.text("id");
    tenant.unlock(&id, json!(["TOKEN", "SMS", "VOICE"])).await.expect_ok();
    let after = tenant.lookup("mira@example.com").await.expect_ok();

    assert_eq!(id, user.id);
    assert_eq!((states(&before), states(&after)), ([true; 3], [false; 3]));
    assert_eq!(without(before.json, &flags), without(after.json, &flags));
}

#[tokio::test]
async fn acceptance_19_the_counter_is_cleared_too() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    tenant.unlock(&user.id, json!(["TOKEN"])).await.expect_ok();

    for _ in 0..4 {
        user.verify(user.wrong_code()).await.expect_ok();
    }

    assert!(!states(&tenant.lookup("mira@example.com").await)[0]);
    assert!(user.verify(user.code()).await.accepted());
}

#[tokio::test]
async fn acceptance_20_other_methods_on_the_path_are_405() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").await;
    let path = format!("/v1/users/{}/methods", user.id);

    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        let answer = tenant.send(method, &path, json!({ "unlockMethods": ["SMS"] })).await;
        expect_envelope(&answer, 405);
        assert_eq!(answer.header("allow"), Some("PATCH"));
    }
    let answer = tenant.call(Method::GET, &format!("/v1/users/{}", user.id)).await.expect(405);
    let mut allowed: Vec<_> = answer.header("allow").expect("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "PATCH"], "§3: there is no GET of a user");
}

/// §2.5: concurrent unlocks are safe, and each answer shows one committed state.
#[tokio::test]
async fn section_2_5_sixteen_unlocks_at_once_all_succeed_and_one_event_tells_of_it() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    let path = format!("/v1/users/{}/methods", user.id);
    let calls = (0..16).map(|_| tenant.call(Method::PATCH, &path).json(json!({ "unlockMethods": ["SMS"] })));

    let answers = crate::test_app::at_once(calls.collect::<Vec<_>>()).await;

    assert!(answers.iter().all(|answer| states(answer) == [true, false, true]));
    assert_eq!(tenant.app.count(&user.id, "method.unlocked").await, 1);
}

#[tokio::test]
async fn section_2_5_the_trail_names_key_user_and_methods() {
    let tenant = Tenant::start().await;
    let user = tenant.locked("mira").await;
    tenant.unlock(&user.id, json!(["SMS", "TOKEN"])).await.expect_ok();

    let path = format!("/v1/audit?user={}&action=method.unlocked", user.id);
    let events = tenant.app.get(&path).by(&tenant.app.root()).await.expect_ok();

    let events = events["items"].as_array().expect("items").clone();
    let mut methods: Vec<_> = events.iter().map(|event| event["method"].as_str().expect("method")).collect();
    methods.sort_unstable();
    assert_eq!(methods, ["SMS", "TOKEN"]);
    for event in events {
        assert_eq!(event["actor"], json!({ "type": "client", "id": tenant.access_id }));
    }
}

/// Nobody reaches up: the help desk's key does not unlock an administrator.
#[tokio::test]
async fn acceptance_13_a_help_desk_key_and_a_super_key_unlock_whom_they_reach() {
    let tenant = Tenant::start().await;
    let help_desk = key(&tenant.app, HELP_DESK).await;
    let member = tenant.locked("mira").await;
    let admin = tenant.app.user("root").with_role("admin").await;
    let now = tenant.app.now().seconds();
    let claims = json!({ "sub": help_desk, "iat": now, "exp": now + 3600, "aud": AUDIENCE });
    let by_help_desk = Credentials::bearer(&tenant.key.sign(&claims));
    let path = |id: &str| format!("/rsa/AdminInterface/restapi/v1/users/{id}/methods");
    let body = || json!({ "unlockMethods": ["SMS"] });

    tenant.app.patch(&path(&member.id)).by(&by_help_desk).json(body()).await.expect_ok();
    let refused = tenant.app.patch(&path(&admin.id)).by(&by_help_desk).json(body()).await;
    expect_envelope(&refused, 403);
    tenant.unlock(&admin.id, json!(["SMS"])).await.expect_ok();
}

#[tokio::test]
async fn section_3_user_details_by_email_and_by_name() {
    let tenant = Tenant::start().await;
    let user = tenant.reachable("mira").await;
    let lookup = async |body: Value| tenant.send(Method::POST, "/v1/users/lookup", body).await;

    for (row, body) in [
        ("§3 email", json!({ "email": "mira@example.com" })),
        ("§3 case-insensitive, trimmed", json!({ "email": "  MIRA@Example.com " })),
        ("§3 username", json!({ "username": "Mira" })),
        ("§3 both match one user", json!({ "username": "mira", "email": "mira@example.com" })),
        ("§3 searchUnsynched", json!({ "email": "mira@example.com", "searchUnsynched": true })),
        ("§1.2 a quoted boolean", json!({ "email": "mira@example.com", "searchUnsynched": "false" })),
        ("§1.2 unknown members", json!({ "email": "mira@example.com", "x": {} })),
    ] {
        let answer = lookup(body).await;
        assert_eq!((answer.status.as_u16(), answer["id"].as_str()), (200, Some(user.id.as_str())), "{row}");
    }
    tenant.app.user("other").await;
    for (row, body) in [
        ("§3 neither", json!({})),
        ("§3 nulls", json!({ "email": null, "username": null })),
        ("§3 empty", json!({ "email": "" })),
        ("§3 both, of two users", json!({ "username": "other", "email": "mira@example.com" })),
        ("§1.2 not a boolean", json!({ "email": "mira@example.com", "searchUnsynched": "perhaps" })),
        ("not a string", json!({ "email": 1 })),
    ] {
        let answer = lookup(body).await;
        assert_eq!(answer.status, 400, "{row}: {}", answer.shown());
        expect_envelope(&answer, 400);
    }
    for (row, body) in [
        ("§3 exact", json!({ "email": "mira@example.co" })),
        ("§3 no wildcards", json!({ "email": "mira*" })),
        ("§3 a username is no id", json!({ "username": user.id })),
    ] {
        let answer = lookup(body).await;
        assert_eq!(answer.status, 404, "{row}: {}", answer.shown());
    }
    let text = tenant.call(Method::POST, "/v1/users/lookup").body("text/plain", b"{}".to_vec()).await;
    expect_envelope(&text, 415);
}

#[tokio::test]
async fn section_3_what_user_details_shows() {
    let tenant = Tenant::start().await;
    let body = json!({
        "username": "mira", "email": "mira@example.com", "givenName": "Mira", "familyName": "Okafor",
    });
    let made = tenant.app.post("/v1/users").by(&tenant.app.root()).json(body).await.expect_created();
    let numbers = json!({ "smsNumber": "+49 30 123456" });
    tenant.send(Method::PATCH, &format!("/v1/users/{}", made.text("id")), numbers).await.expect_ok();

    let mut shown = tenant.lookup("mira@example.com").await.expect_ok().json;

    assert_eq!(shown["id"], shown["primaryUniqueIdentifier"]);
    shown["id"] = "[id]".into();
    shown["primaryUniqueIdentifier"] = "[id]".into();
    insta::assert_json_snapshot!(shown);
}

#[tokio::test]
async fn section_3_numbers_are_left_out_where_the_tenant_has_no_such_method() {
    let tenant = Tenant::start().await;
    tenant.reachable("mira").await;
    tenant.app.policy(json!({ "kinds": ["totp", "sms"] })).await;

    let shown = tenant.lookup("mira@example.com").await.expect_ok();

    assert!(shown["smsNumber"].is_string());
    assert!(shown.json.get("voiceNumber").is_none(), "{}", shown.shown());
}
