//! §9.1 and §9.2: the event logs, and one user's.

use super::{Tenant, expect_envelope};
use crate::test_app::Answer;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ADMIN: &str = "/v1/adminlog/exportlogs";
const USER: &str = "/v1/usereventlog/exportlogs";

async fn get(tenant: &Tenant, path: &str) -> Answer {
    tenant.call(Method::GET, path).await
}

/// Reads a log as a poller in use does: until the page that says it is beyond the last one.
async fn poll(tenant: &Tenant, path: &str, member: &str) -> Vec<Value> {
    let (mut entries, mut page) = (Vec::new(), 0);
    loop {
        let answer = get(tenant, &format!("{path}?pageSize=3&pageNumber={page}")).await.expect_ok();
        assert_eq!((&answer["pageSize"], &answer["currentPage"]), (&json!(3), &json!(page)));
        let items = answer[member].as_array().expect("entries").clone();
        let pages = answer["totalPages"].as_u64().expect("a number");
        assert_eq!(pages, answer["totalElements"].as_u64().expect("a number").div_ceil(3));
        assert_eq!(items.is_empty(), page >= pages, "§9.1: the page beyond the last is empty, and no error");
        entries.extend(items);
        if page >= pages {
            return entries;
        }
        page += 1;
    }
}

/// Somebody with a history of both kinds.
async fn history(tenant: &Tenant) -> String {
    let user = tenant.locked("mira").await;
    tenant.app.advance(60);
    tenant.unlock(&user.id, json!(["TOKEN"])).await.expect_ok();
    tenant.app.advance(60);
    assert!(user.verify(user.code()).await.accepted());
    user.id
}

#[tokio::test]
async fn section_9_1_each_event_stands_in_one_log_once_and_in_order() {
    let tenant = Tenant::start().await;
    history(&tenant).await;

    let admin = poll(&tenant, ADMIN, "elements").await;
    let user = poll(&tenant, USER, "userEventLogExportEntries").await;

    let rows = tenant.app.app.store.audit_rows(0, 1000).await.expect("rows").len();
    let created = 2; // The first owner and mira: each stands in two chains.
    assert_eq!(admin.len() + user.len(), rows - created);
    let ids: BTreeSet<i64> =
        admin.iter().chain(&user).map(|entry| entry["eventId"].as_i64().expect("an id")).collect();
    assert_eq!(ids.len(), admin.len() + user.len());
    for log in [&admin, &user] {
        let order: Vec<_> =
            log.iter().map(|entry| (entry["eventLogDate"].to_string(), entry["eventId"].as_i64())).collect();
        assert!(order.is_sorted(), "{order:?}");
    }
}

#[tokio::test]
async fn section_9_1_what_the_entries_say() {
    let tenant = Tenant::start().await;
    let id = history(&tenant).await;
    let last = async |path: &str, member: &str| {
        let entries = poll(&tenant, path, member).await;
        entries.last().expect("an entry").clone()
    };
    let hide = |mut entry: Value| {
        for name in ["eventId", "targetObject1Id", "tenantId", "deviceId", "userActivityId", "transactionId"]
        {
            if entry.get(name).is_some_and(|value| !value.is_null()) {
                entry[name] = format!("[{name}]").into();
            }
        }
        entry
    };

    let unlocked = last(ADMIN, "elements").await;
    let verified = last(USER, "userEventLogExportEntries").await;

    assert_eq!(
        (&unlocked["targetObject1Id"], &unlocked["activityKey"]),
        (&json!(id), &json!("METHOD_UNLOCKED"))
    );
    assert!(unlocked["eventId"].is_i64());
    assert_eq!(verified["eventCode"], 103);
    insta::assert_json_snapshot!("administration_entry", hide(unlocked));
    insta::assert_json_snapshot!("user_entry", hide(verified));
}

#[tokio::test]
async fn section_2_6_codes_of_user_events() {
    let tenant = Tenant::start().await;
    let user = tenant.app.user("mira").with_totp().await;
    let disabled = json!({ "userStatus": "Disabled" });
    user.lock().await;
    user.verify(user.code()).await.expect_ok();
    tenant.send(Method::PUT, &format!("/v1/users/{}/userStatus", user.id), disabled).await.expect_ok();
    user.verify(user.code()).await.expect_ok();

    let entries = get(&tenant, &format!("/v1/users/{}/authlogs/", user.id)).await.expect_ok();

    let codes: Vec<_> = entries
        .json
        .as_array()
        .expect("a bare array")
        .iter()
        .filter_map(|entry| entry["eventCode"].as_u64())
        .collect();
    assert_eq!(codes.iter().filter(|code| **code == 104).count(), 5, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 2).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 35).count(), 1, "{codes:?}");
}

#[tokio::test]
async fn section_1_9_times_in_queries_are_read_as_clients_write_them() {
    let tenant = Tenant::start().await;
    history(&tenant).await;
    let count = async |query: &str| {
        let answer = get(&tenant, &format!("{ADMIN}?{query}")).await.expect_ok();
        answer["totalElements"].as_u64().expect("a number")
    };
    let all = count("").await;

    for (row, query, expected) in [
        ("before everything", "startTimeAfter=2026-11-22T09:59:59.999Z", all),
        ("§9.1 startTimeAfter is exclusive", "startTimeAfter=2026-11-22T10:00:00.000Z", 1),
        ("§9.1 endTimeOnOrBefore is inclusive", "endTimeOnOrBefore=2026-11-22T10:00:00.000Z", all - 1),
        ("§1.9 lower-case z", "startTimeAfter=2026-11-22T10:00:59z", 1),
        ("§1.9 one fraction digit, -00:00", "startTimeAfter=2026-11-22T10:00:00.7-00:00", 1),
        ("§1.9 an encoded offset", "startTimeAfter=2026-11-22T12:00:00.000%2B02:00", 1),
        ("after everything", "startTimeAfter=2026-11-22T10:01:00Z", 0),
        ("an empty span", "startTimeAfter=2026-11-22T11:00:00Z&endTimeOnOrBefore=2026-11-22T10:00:00Z", 0),
        ("unknown parameters", "colour=red", all),
    ] {
        assert_eq!(count(query).await, expected, "{row}");
    }
    for (row, query) in [
        ("§1.9 an offset that is not encoded", "startTimeAfter=2026-11-22T12:00:00.000+02:00"),
        ("no offset", "startTimeAfter=2026-11-22T12:00:00.000"),
        ("not a time", "endTimeOnOrBefore=yesterday"),
        ("a page of nothing", "pageSize=0"),
        ("a page too large", "pageSize=101"),
        ("not a number", "pageNumber=first"),
        ("below the first page", "pageNumber=-1"),
    ] {
        let answer = get(&tenant, &format!("{ADMIN}?{query}")).await;
        assert_eq!(answer.status, 400, "{row}: {}", answer.shown());
        expect_envelope(&answer, 400);
    }
    assert_eq!(count("pageNumber=18446744073709551615&pageSize=100").await, all);
}

#[tokio::test]
async fn section_9_2_one_users_log_is_newest_first_and_theirs_alone() {
    let tenant = Tenant::start().await;
    let id = history(&tenant).await;
    let other = tenant.app.user("other").with_totp().await;
    other.verify(other.code()).await.expect_ok();
    let log = async |query: &str| {
        let answer = get(&tenant, &format!("/v1/users/{id}/authlogs/{query}")).await.expect_ok();
        answer.json.as_array().expect("a bare array").clone()
    };

    let all = log("").await;

    assert!(all.iter().all(|entry| entry["userId"] == "mira"));
    assert!(all.iter().map(|entry| entry["eventLogDate"].to_string()).rev().is_sorted());
    assert_eq!(all[0]["eventCode"], 103);
    assert_eq!(log("?eventCode=103").await.len(), 1);
    assert_eq!(log("?eventCode=2").await.len(), 3);
    assert_eq!(log("?startTimeAfter=2026-11-22T10:00:00.000Z").await.len(), 1);
    assert_eq!(log("?endTimeOnOrBefore=2026-11-22T10:00:00.000Z").await.len(), all.len() - 1);
    expect_envelope(&get(&tenant, &format!("/v1/users/{id}/authlogs?eventCode=x")).await, 400);
    expect_envelope(&get(&tenant, "/v1/users/x/authlogs").await, 400);
    let nobody = "/v1/users/00000000-0000-4000-8000-000000000000/authlogs";
    expect_envelope(&get(&tenant, nobody).await, 404);
}

#[tokio::test]
async fn section_9_2_at_most_a_hundred_entries() {
    let tenant = Tenant::start().await;
    tenant.app.policy(json!({ "locks": { "threshold": 100 } })).await;
    let user = tenant.app.user("mira").with_totp().await;
    for _ in 0..60 {
        user.verify(user.wrong_code()).await.expect_ok();
        tenant.unlock(&user.id, json!(["TOKEN"])).await.expect_ok();
    }
    for _ in 0..60 {
        user.verify(user.wrong_code()).await.expect_ok();
    }

    let log = get(&tenant, &format!("/v1/users/{}/authlogs", user.id)).await.expect_ok();

    assert_eq!(log.json.as_array().map(Vec::len), Some(100));
}
