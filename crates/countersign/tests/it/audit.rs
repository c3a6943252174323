//! The audit trail: reading it, and finding out that somebody tampered with it.

use crate::test_app::{TestApp, clock, config};
use countersign::{app::App, service::audit};
use http::StatusCode;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::path::Path;
use uuid::Uuid;

/// A trail with something of everything: two people, one of them gone, two checkpoints.
async fn story(app: &TestApp) -> (String, String) {
    let alice = app.user("alice").with_totp().await;
    alice.verify(alice.code()).await.expect_ok();
    let bob = app.user("bob").await;
    assert!(audit::checkpoint(&app.app).await.expect("checkpoint"));
    alice.verify(alice.wrong_code()).await.expect_ok();
    app.delete(&bob.path("")).by(&app.root()).await.expect(204);
    assert!(audit::checkpoint(&app.app).await.expect("checkpoint"));
    (alice.id.clone(), bob.id.clone())
}

async fn verify(app: &App) -> audit::Report {
    audit::verify(&app.store, &app.keys, &[]).await.expect("verify")
}

#[tokio::test]
async fn an_honest_trail_holds() {
    let app = TestApp::start().await;
    story(&app).await;

    let report = verify(&app.app).await;

    assert!(report.holds(), "{:?}", report.findings);
    // The administrator, alice and, though gone, bob.
    assert_eq!((report.people, report.organisations, report.checkpoints), (3, 1, 2));
    assert!(!audit::checkpoint(&app.app).await.expect("checkpoint"), "nothing happened since");
}

/// Lets somebody at the file while the server is down; returns what a verification then finds.
async fn tampered(tamper: impl FnOnce(&Connection, &str, &str)) -> Vec<String> {
    let app = TestApp::start().await;
    let (alice, bob) = story(&app).await;
    let directory = app.close().await;
    let connection = open(directory.path());
    tamper(&connection, &alice, &bob);
    drop(connection);

    let app = App::open(config(directory.path()), clock()).await.expect("open again");
    let report = verify(&app).await;
    app.store.close().await;

    assert_eq!(report.finding_count, report.findings.len() as u64);
    report.findings
}

fn open(directory: &Path) -> Connection {
    Connection::open(directory.join("countersign.db")).expect("the database")
}

fn blob(id: &str) -> Vec<u8> {
    Uuid::try_parse(id).expect("an id").into_bytes().to_vec()
}

#[tokio::test]
async fn an_edited_event_is_found_by_name() {
    let mut edited = String::new();
    let findings = tampered(|connection, alice, _| {
        edited = alice.to_owned();
        let changed = connection.execute(
            "UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'verify.rejected', 'verify.accepted') AS BLOB)
             WHERE subject = ?1 AND action = 'verify.rejected'",
            params![blob(alice)],
        );
        assert_eq!(changed.expect("edit"), 1);
    })
    .await;

    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(&edited) && findings[0].contains("event 4"), "{findings:?}");
}

#[tokio::test]
async fn a_deleted_event_is_found_by_name() {
    let mut cut = String::new();
    let findings = tampered(|connection, alice, _| {
        cut = alice.to_owned();
        let changed = connection.execute(
            "DELETE FROM audit WHERE subject = ?1 AND action = 'verify.accepted'",
            params![blob(alice)],
        );
        assert_eq!(changed.expect("delete"), 1);
    })
    .await;

    assert!(findings.iter().any(|finding| finding.contains(&cut)), "{findings:?}");
    assert!(findings.iter().any(|finding| finding.starts_with("checkpoint 1")), "{findings:?}");
}

/// The newest event has none after it that would show the gap; the document does.
#[tokio::test]
async fn a_trail_cut_off_at_its_end_is_found_by_name() {
    let mut cut = String::new();
    let findings = tampered(|connection, alice, _| {
        cut = alice.to_owned();
        connection.execute("DELETE FROM checkpoints", []).expect("delete");
        let changed = connection.execute(
            "DELETE FROM audit WHERE subject = ?1 AND action = 'verify.rejected'",
            params![blob(alice)],
        );
        assert_eq!(changed.expect("delete"), 1);
    })
    .await;

    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(&format!("user {cut}")), "{findings:?}");
}

/// Somebody takes back a failure by bringing an older document back.
#[tokio::test]
async fn a_document_rolled_back_is_found_by_name() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    let id = alice.id.clone();
    let body = |connection: &Connection| -> Vec<u8> {
        let query = "SELECT body FROM users WHERE id = ?1";
        connection.query_row(query, params![blob(&id)], |row| row.get(0)).expect("a row")
    };
    let before = body(&open(app.directory()));
    alice.verify(alice.wrong_code()).await.expect_ok();
    let directory = app.close().await;
    let connection = open(directory.path());
    assert_ne!(body(&connection), before);
    let query = "UPDATE users SET body = ?2 WHERE id = ?1";
    connection.execute(query, params![blob(&id), before]).expect("roll back");
    drop(connection);

    let app = App::open(config(directory.path()), clock()).await.expect("open again");
    let report = verify(&app).await;

    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert!(report.findings[0].contains(&format!("user {id}")), "{:?}", report.findings);
}

#[tokio::test]
async fn a_person_who_vanished_is_found_by_name() {
    let mut gone = String::new();
    let findings = tampered(|connection, alice, _| {
        gone = alice.to_owned();
        let changed = connection.execute("DELETE FROM users WHERE id = ?1", params![blob(alice)]);
        assert_eq!(changed.expect("delete"), 1);
    })
    .await;

    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(&format!("user {gone}")), "{findings:?}");
}

/// With the document and every event of theirs gone, the organisation's chain still knows of them.
#[tokio::test]
async fn a_person_who_vanished_with_all_their_events_is_found_by_name() {
    let mut gone = Vec::new();
    let findings = tampered(|connection, alice, bob| {
        gone = vec![alice.to_owned(), bob.to_owned()];
        connection.execute("DELETE FROM checkpoints", []).expect("delete");
        connection.execute("DELETE FROM users WHERE id = ?1", params![blob(alice)]).expect("delete");
        for person in [alice, bob] {
            let changed = connection.execute("DELETE FROM audit WHERE subject = ?1", params![blob(person)]);
            assert!(changed.expect("delete") > 0);
        }
    })
    .await;

    for person in gone {
        assert!(findings.iter().any(|finding| finding.contains(&person)), "{person}: {findings:?}");
    }
}

/// Somebody who can compute hashes rewrites a chain and its document; the signature they cannot make.
#[tokio::test]
async fn a_checkpoint_that_was_altered_or_taken_out_is_found() {
    let altered = tampered(|connection, _, _| {
        let query = "UPDATE checkpoints SET jws = replace(jws, 'a', 'b') WHERE seq = 1";
        connection.execute(query, []).expect("alter");
    })
    .await;
    assert!(altered.iter().any(|finding| finding.starts_with("checkpoint 1")), "{altered:?}");

    let taken_out = tampered(|connection, _, _| {
        connection.execute("DELETE FROM checkpoints WHERE seq = 1", []).expect("delete");
    })
    .await;
    assert!(taken_out.iter().any(|finding| finding.starts_with("checkpoint 2")), "{taken_out:?}");
}

#[tokio::test]
async fn the_trail_is_read_by_person_action_and_time() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    app.advance(3600);
    alice.verify(alice.code()).await.expect_ok();
    app.advance(3600);
    alice.verify(alice.wrong_code()).await.expect_ok();
    app.user("bob").await;
    let read = async |query: &str| {
        let answer = app.get(&format!("/v1/audit?{query}")).by(&app.root()).await.expect_ok();
        let items = answer["items"].as_array().expect("items").clone();
        items.iter().map(|event| event["action"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };

    assert_eq!(read("action=verify.accepted").await, ["verify.accepted"]);
    assert_eq!(read("user=alice&action=factor.imported").await, ["factor.imported"]);
    let of_alice = ["verify.rejected", "verify.accepted", "factor.imported", "user.created"];
    assert_eq!(read("user=alice").await, of_alice);
    assert_eq!(read(&format!("user={}", alice.id)).await, of_alice);
    assert_eq!(read("user=1001").await, of_alice);
    let (from, until) = ("2026-11-22T11:00:00Z", "2026-11-22T12:00:00Z");
    assert_eq!(read(&format!("from={from}&until={until}")).await, ["verify.accepted"], "half open");
    assert_eq!(read(&format!("user=alice&until={from}")).await, ["factor.imported", "user.created"]);
    assert_eq!(read(&format!("user=alice&from={until}")).await, ["verify.rejected"]);
    assert_eq!(read("from=2026-11-22T14:00:00%2B02:00&user=alice").await, ["verify.rejected"], "any zone");
    app.delete(&alice.path("")).by(&app.root()).await.expect(204);
    assert_eq!(read(&format!("user={}", alice.id)).await, of_alice, "who is gone leaves a trail");
}

#[tokio::test]
async fn the_trail_is_paged_without_gaps_while_it_grows() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    for _ in 0..4 {
        alice.verify(alice.wrong_code()).await.expect_ok();
    }
    let all = app.get("/v1/audit?limit=200").by(&app.root()).await.expect_ok();
    let all = all["items"].as_array().expect("items").clone();

    for (path, expected) in [
        ("/v1/audit?limit=3", all.clone()),
        (
            "/v1/audit?limit=2&user=alice",
            all.iter().filter(|event| event["subject"]["id"] == alice.id).cloned().collect(),
        ),
    ] {
        let mut seen = Vec::new();
        let mut next = Value::Null;
        loop {
            let after = next.as_str().map(|after| format!("&after={after}")).unwrap_or_default();
            let page = app.get(&format!("{path}{after}")).by(&app.root()).await.expect_ok();
            seen.extend(page["items"].as_array().expect("items").clone());
            // What happens meanwhile is newer than everything still to come.
            app.user(&app.fresh_name()).await;
            next = page["next"].clone();
            if next.is_null() {
                break;
            }
        }
        assert_eq!(seen, expected, "{path}");
    }
}

#[tokio::test]
async fn the_whole_selection_is_exported_one_event_a_line() {
    let app = TestApp::start().await;
    let root = app.root();
    let mut people = Vec::new();
    // More than one page of the export.
    for number in 0..130 {
        people.push(app.user(&format!("person-{number}")).await.id);
    }

    let export = app.get("/v1/audit").by(&root).header("accept", "application/x-ndjson").await.expect_ok();
    assert_eq!(export.header("content-type"), Some("application/x-ndjson"));
    let text = export.shown();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();

    assert!(text.ends_with('\n'));
    let created = lines.iter().filter(|event| event["action"] == "user.created");
    assert_eq!(created.count(), 2 * 131, "one in the organisation's chain, one in the person's");
    let path = format!("/v1/audit?user={}", people[3]);
    let one = app.get(&path).by(&root).header("accept", "application/x-ndjson").await.expect_ok();
    assert_eq!(one.shown().lines().count(), 1);
    let bad = app.get("/v1/audit?after=x").by(&root).header("accept", "application/x-ndjson").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST, "a status, not a broken stream");
}

#[tokio::test]
async fn an_event_says_who_did_what_to_whom_from_where_in_which_request() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let alice = app.user("alice").with_totp().await;
    alice.lock().await;

    let path = alice.path("/unlock");
    app.post(&path).by(&owner).header("x-request-id", "ticket-4711").await.expect_ok();
    let events = app.get("/v1/audit?action=method.unlocked").by(&app.root()).await.expect_ok();

    let expected = json!({
        "seq": events["items"][0]["seq"],
        "at": "2026-11-22T10:00:00.000Z",
        "action": "method.unlocked",
        "organisation": app.organisation,
        "subject": { "type": "user", "id": alice.id },
        "actor": { "type": "user", "id": app.admin },
        "ip": "0.0.0.0",
        "requestId": "ticket-4711",
        "method": "TOKEN",
    });
    assert_eq!(events["items"], json!([expected]));
}
