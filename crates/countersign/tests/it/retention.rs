//! Keeping the audit trail for so long: what is archived and pruned, that the proof goes on, and what it still finds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::test_app::{TestApp, config};
use countersign::{
    app::App,
    error::Result,
    service::{audit, retention},
    store::EDGE,
};
use countersign_core::Timestamp;
use rusqlite::{Connection, params};
use serde_json::Value;
use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use uuid::Uuid;

const DAY: u64 = 86_400;

/// An installation with people whose events are old, and some that are not.
struct Estate {
    app: TestApp,
    alice: String,
    bob: String,
    archive: TempDir,
    /// Between old events and new ones.
    cut: Timestamp,
}

impl Estate {
    /// Alice has old events and new ones, bob was deleted when the old ones were made, carol has old ones only.
    async fn new() -> Self {
        let app = TestApp::start().await;
        let alice = app.user("alice").with_totp().await;
        alice.verify(alice.code()).await.expect_ok();
        let bob = app.user("bob").with_totp().await;
        assert!(audit::checkpoint(&app.app).await.unwrap());
        app.advance(DAY);
        bob.verify(bob.code()).await.expect_ok();
        app.user("carol").with_totp().await;
        app.delete(&bob.path("")).by(&app.root()).await.expect(204);
        assert!(audit::checkpoint(&app.app).await.unwrap());
        app.advance(99 * DAY);
        let cut = app.now();
        alice.verify(alice.code()).await.expect_ok();
        alice.verify(alice.wrong_code()).await.expect_ok();
        app.user("dave").await;
        assert!(audit::checkpoint(&app.app).await.unwrap());
        let (alice, bob) = (alice.id.clone(), bob.id.clone());
        Self { app, alice, bob, archive: tempfile::tempdir().unwrap(), cut }
    }

    async fn prune(&self) -> Result<u64> {
        prune(&self.app.app, self.archive.path(), self.cut).await
    }

    async fn rows(&self) -> Vec<i64> {
        rows(&self.app.app).await
    }

    fn archives(&self) -> Vec<PathBuf> {
        vec![self.archive.path().to_owned()]
    }

    /// A copy of the database as it is.
    async fn copy(&self) -> (TempDir, App) {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("countersign.db");
        let from = Connection::open(self.app.directory().join("countersign.db")).unwrap();
        from.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
        fs::copy(self.app.directory().join("master.key"), directory.path().join("master.key")).unwrap();
        let app = App::open(config(directory.path()), self.app.clock.clone()).await.unwrap();
        (directory, app)
    }

    /// Lets somebody at a copy of the database; returns what a verification then finds, without the archive and with it.
    async fn tampered(&self, tamper: impl FnOnce(&Connection)) -> [Vec<String>; 2] {
        let (directory, app) = self.copy().await;
        app.store.close().await;
        drop(app);
        tamper(&Connection::open(directory.path().join("countersign.db")).unwrap());
        let app = App::open(config(directory.path()), self.app.clock.clone()).await.unwrap();
        let found = [findings(&app, &[]).await, findings(&app, &self.archives()).await];
        app.store.close().await;
        found
    }
}

async fn prune(app: &App, archive: &Path, before: Timestamp) -> Result<u64> {
    retention::prune(&app.store, &app.keys, &app.clock, archive, before, |_| {}).await
}

async fn rows(app: &App) -> Vec<i64> {
    app.store.audit_rows(0, 10_000).await.unwrap().iter().map(|row| row.row).collect()
}

async fn findings(app: &App, archives: &[PathBuf]) -> Vec<String> {
    audit::verify(&app.store, &app.keys, archives).await.unwrap().findings
}

async fn holds(app: &App, archives: &[PathBuf]) -> audit::Report {
    let report = audit::verify(&app.store, &app.keys, archives).await.unwrap();
    assert!(report.holds(), "{report:?}");
    report
}

fn files(archive: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        all.filter(|path| path.extension().is_some_and(|it| it == "ndjson")).collect();
    files.sort();
    files
}

fn lines(archive: &Path) -> Vec<Value> {
    let texts = files(archive).into_iter().map(|path| fs::read_to_string(path).unwrap());
    let text = texts.collect::<String>();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn blob(id: &str) -> Vec<u8> {
    Uuid::try_parse(id).unwrap().into_bytes().to_vec()
}

async fn export(app: &TestApp) -> Vec<Value> {
    let answer =
        app.get("/v1/audit").by(&app.root()).header("accept", "application/x-ndjson").await.expect_ok();
    let mut events: Vec<Value> =
        answer.shown().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    events.reverse();
    events
}

#[tokio::test]
async fn old_events_go_to_the_archive_and_the_trail_holds() {
    let estate = Estate::new().await;
    let (before, exported) = (estate.rows().await, export(&estate.app).await);
    let heads = estate.app.heads().await;

    let pruned = usize::try_from(estate.prune().await.unwrap()).unwrap();

    assert!(pruned > 10);
    assert_eq!(estate.rows().await, before[pruned..]);
    assert_eq!(estate.app.heads().await, heads, "documents stay as they are");
    let mut archived = lines(estate.archive.path());
    assert_eq!(
        archived.iter().map(|event| event["row"].as_i64().unwrap()).collect::<Vec<_>>(),
        before[..pruned]
    );
    for event in &mut archived {
        let members = event.as_object_mut().unwrap();
        assert!(members.remove("row").is_some() && members.remove("hash").is_some());
    }
    assert_eq!(archived, exported[..pruned], "as the export has them");
    let names: Vec<String> = files(estate.archive.path())
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["audit-2026-11-22.ndjson", "audit-2026-11-23.ndjson"]);
    for path in files(estate.archive.path()) {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (alone, whole) =
        (holds(&estate.app.app, &[]).await, holds(&estate.app.app, &estate.archives()).await);
    assert_eq!(
        (alone.pruned, alone.archived, alone.rows),
        (pruned as u64, 0, (before.len() - pruned) as u64)
    );
    assert_eq!((whole.pruned, whole.archived), (pruned as u64, pruned as u64));
    // The administrator, alice, carol, dave; and bob, whom the database has forgotten.
    assert_eq!((alone.people, whole.people), (4, 5));
    assert_eq!(estate.prune().await.unwrap(), 0, "there is nothing more");
}

#[tokio::test]
async fn a_person_is_followed_back_to_what_was_pruned_and_on_from_there() {
    let estate = Estate::new().await;
    estate.prune().await.unwrap();
    let actions = async |user: &str| {
        let path = format!("/v1/audit?limit=2&user={user}");
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = estate.app.get(&format!("{path}{after}")).by(&estate.app.root()).await.expect_ok();
            let items = page["items"].as_array().unwrap().clone();
            seen.extend(items.iter().map(|event| event["action"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return seen,
            }
        }
    };

    assert_eq!(actions("alice").await, ["verify.rejected", "verify.accepted"]);
    assert_eq!(actions("carol").await, [] as [&str; 0]);
    assert_eq!(actions(&estate.bob).await, [] as [&str; 0]);

    estate.app.delete(&format!("/v1/users/{}", estate.alice)).by(&estate.app.root()).await.expect(204);
    assert_eq!(actions(&estate.alice).await, ["verify.rejected", "verify.accepted"]);
    audit::checkpoint(&estate.app.app).await.unwrap();
    holds(&estate.app.app, &[]).await;
    holds(&estate.app.app, &estate.archives()).await;
}

#[tokio::test]
async fn only_what_is_strictly_older_goes() {
    let estate = Estate::new().await;
    let oldest = export(&estate.app).await[0]["at"].as_str().unwrap().to_owned();
    let oldest = Timestamp::parse(&oldest).unwrap();

    assert_eq!(prune(&estate.app.app, estate.archive.path(), oldest).await.unwrap(), 0);
    let later = Timestamp::from_millis(oldest.millis() + 1);
    assert!(prune(&estate.app.app, estate.archive.path(), later).await.unwrap() > 0);

    let left = export(&estate.app).await;
    assert!(left.iter().all(|event| event["at"].as_str().unwrap() > oldest.to_string().as_str()));
    holds(&estate.app.app, &[]).await;
}

#[tokio::test]
async fn what_no_checkpoint_covers_stays_and_so_does_the_newest_event() {
    let estate = Estate::new().await;
    estate.app.user("erin").await;
    let before = estate.rows().await;
    estate.app.advance(DAY);

    prune(&estate.app.app, estate.archive.path(), estate.app.now()).await.unwrap();

    // The one the last checkpoint ends with, and two of erin's creation.
    assert_eq!(estate.rows().await, before[before.len() - 3..]);
    assert!(audit::checkpoint(&estate.app.app).await.unwrap());
    prune(&estate.app.app, estate.archive.path(), estate.app.now()).await.unwrap();
    assert_eq!(estate.rows().await, before[before.len() - 1..]);
    holds(&estate.app.app, &[]).await;
    estate.app.user("frank").await;
    assert_eq!(estate.rows().await[0], before[before.len() - 1]);
    audit::checkpoint(&estate.app.app).await.unwrap();
    holds(&estate.app.app, &estate.archives()).await;
}

#[tokio::test]
async fn many_events_go_in_several_steps() {
    let estate = Estate::new().await;
    for _ in 0..600 {
        estate.app.user(&estate.app.fresh_name()).await;
    }
    audit::checkpoint(&estate.app.app).await.unwrap();
    estate.app.advance(DAY);
    let (before, mut steps) = (estate.rows().await.len() as u64, Vec::new());

    let app = &estate.app.app;
    let pruned = retention::prune(
        &app.store,
        &app.keys,
        &app.clock,
        estate.archive.path(),
        estate.app.now(),
        |step| {
            steps.push(step.events);
        },
    )
    .await
    .unwrap();

    assert_eq!((pruned, steps.iter().sum()), (before - 1, before - 1));
    assert!(steps.iter().all(|step| *step <= 500) && steps.len() >= 3, "{steps:?}");
    holds(app, &[]).await;
    assert_eq!(holds(app, &estate.archives()).await.people, 605);
}

/// The rows are in the archive and still in the database.
#[tokio::test]
async fn a_crash_between_archiving_and_pruning_loses_and_repeats_nothing() {
    let estate = Estate::new().await;
    let (_directory, before) = estate.copy().await;
    let pruned = estate.prune().await.unwrap();
    let archived = lines(estate.archive.path());
    holds(&before, &estate.archives()).await;

    let again = prune(&before, estate.archive.path(), estate.cut).await.unwrap();

    assert_eq!(again, pruned);
    assert_eq!(lines(estate.archive.path()), archived);
    holds(&before, &estate.archives()).await;
}

#[tokio::test]
async fn a_line_that_was_cut_short_is_written_anew() {
    let estate = Estate::new().await;
    estate.prune().await.unwrap();
    let whole: Vec<String> =
        files(estate.archive.path()).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let newest = files(estate.archive.path()).pop().unwrap();
    let length = whole.last().unwrap().len();
    for cut in [1, 30, length / 2, length - 1, length] {
        let (_directory, before) = unpruned(&estate).await;
        fs::OpenOptions::new().write(true).open(&newest).unwrap().set_len((length - cut) as u64).unwrap();

        prune(&before, estate.archive.path(), estate.cut).await.unwrap();

        let now: Vec<String> =
            files(estate.archive.path()).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(now, whole, "{cut} bytes were missing");
        holds(&before, &estate.archives()).await;
    }
}

/// The estate as it was before it was pruned: the archive is put back into the database.
async fn unpruned(estate: &Estate) -> (TempDir, App) {
    let (directory, app) = estate.copy().await;
    app.store.close().await;
    drop(app);
    let connection = Connection::open(directory.path().join("countersign.db")).unwrap();
    for event in files(estate.archive.path())
        .iter()
        .flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let (body, tail) = event.rsplit_once(",\"row\":").unwrap();
        let (event, tail): (Value, Value) = (
            serde_json::from_str(&event).unwrap(),
            serde_json::from_str(&format!("{{\"row\":{tail}")).unwrap(),
        );
        let hash = data_encoding::HEXLOWER.decode(tail["hash"].as_str().unwrap().as_bytes()).unwrap();
        let id = |pointer: &str| blob(event.pointer(pointer).unwrap().as_str().unwrap());
        let shown = event["at"].as_str().unwrap();
        let at = Timestamp::parse(shown).unwrap().millis();
        let body = body.replacen(&format!("\"at\":\"{shown}\""), &format!("\"at\":{at}"), 1);
        connection
            .execute(
                "INSERT INTO audit (row, organisation, subject, seq, at, action, hash, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    tail["row"].as_i64(),
                    id("/organisation"),
                    id("/subject/id"),
                    event["seq"].as_i64(),
                    at,
                    event["action"].as_str(),
                    hash,
                    format!("{body}}}").into_bytes(),
                ],
            )
            .unwrap();
    }
    connection.execute("DELETE FROM meta WHERE name = ?1", [EDGE]).unwrap();
    connection.execute("DELETE FROM anchors", []).unwrap();
    drop(connection);
    let app = App::open(config(directory.path()), estate.app.clock.clone()).await.unwrap();
    holds(&app, &[]).await;
    (directory, app)
}

#[tokio::test]
async fn what_is_in_the_archive_can_be_put_back() {
    let estate = Estate::new().await;
    let before = estate.app.app.store.audit_rows(0, 10_000).await.unwrap();
    estate.prune().await.unwrap();

    let (_directory, again) = unpruned(&estate).await;

    assert_eq!(again.store.audit_rows(0, 10_000).await.unwrap(), before);
}

#[tokio::test]
async fn a_repeated_line_is_passed_over_unless_it_is_another_one() {
    let estate = Estate::new().await;
    estate.prune().await.unwrap();
    let newest = files(estate.archive.path()).pop().unwrap();
    let text = fs::read_to_string(&newest).unwrap();
    let again: Vec<&str> = text.lines().skip(text.lines().count() - 3).collect();
    fs::write(&newest, format!("{text}{}\n", again.join("\n"))).unwrap();

    holds(&estate.app.app, &estate.archives()).await;

    let other = again[1].replace("\"ip\":\"0.0.0.0\"", "\"ip\":\"10.0.0.1\"");
    let hash = serde_json::from_str::<Value>(&other).unwrap()["hash"].as_str().unwrap().to_owned();
    fs::write(&newest, format!("{text}{}\n", other.replace(&hash, &"0".repeat(64)))).unwrap();
    let found = findings(&estate.app.app, &estate.archives()).await;
    assert!(found.iter().any(|finding| finding.contains("comes again")), "{found:?}");
}

#[tokio::test]
async fn archives_of_several_nodes_are_one_archive() {
    let estate = Estate::new().await;
    let other = tempfile::tempdir().unwrap();
    let first = Timestamp::from_millis(estate.cut.millis() - 99 * 86_400_000);
    prune(&estate.app.app, other.path(), first).await.unwrap();
    estate.prune().await.unwrap();
    let both = [estate.archive.path().to_owned(), other.path().to_owned()];

    holds(&estate.app.app, &both).await;

    let found = findings(&estate.app.app, &both[..1]).await;
    assert!(found.iter().any(|finding| finding.starts_with("archive: its ")), "{found:?}");
}

#[tokio::test]
async fn without_a_place_for_the_archive_nothing_is_pruned() {
    let estate = Estate::new().await;
    let before = estate.rows().await;
    let missing = estate.archive.path().join("missing");

    let refused = prune(&estate.app.app, &missing, estate.cut).await.unwrap_err().to_string();

    assert!(refused.starts_with("open audit archive") && refused.contains("missing"), "{refused}");
    assert_eq!(estate.rows().await, before);
    // Somebody else's archive, or nothing that is one.
    fs::write(estate.archive.path().join("audit-2026-01-01.ndjson"), "{\"what\":\"else\"}\n").unwrap();
    let refused = estate.prune().await.unwrap_err().to_string();
    assert!(refused.contains("its last line is no event"), "{refused}");
    assert_eq!(estate.rows().await, before);
}

#[tokio::test]
async fn a_full_disk_prunes_nothing_and_the_next_run_goes_on() {
    let estate = Estate::new().await;
    let before = estate.rows().await;
    let name = estate.archive.path().join("audit-2026-11-22.ndjson");
    // Every write to it fails with "no space left on device".
    std::os::unix::fs::symlink("/dev/full", &name).unwrap();

    let refused = estate.prune().await.unwrap_err().to_string();

    assert!(refused.contains("audit archive"), "{refused}");
    assert_eq!(estate.rows().await, before);
    fs::remove_file(&name).unwrap();
    assert!(estate.prune().await.unwrap() > 0);
    holds(&estate.app.app, &estate.archives()).await;
}

#[tokio::test]
async fn the_archive_of_another_installation_is_not_gone_on_with() {
    let (estate, other) = (Estate::new().await, Estate::new().await);
    estate.prune().await.unwrap();
    let (before, archived) = (other.rows().await, lines(estate.archive.path()));

    let refused = prune(&other.app.app, estate.archive.path(), other.cut).await.unwrap_err().to_string();

    assert!(refused.contains("Name an empty directory"), "{refused}");
    assert_eq!((other.rows().await, lines(estate.archive.path())), (before, archived));
}

#[tokio::test]
async fn what_was_tampered_with_is_not_pruned() {
    let edit = "UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'factor.imported', 'factor.enrolled') AS BLOB)
        WHERE row = (SELECT min(row) FROM audit WHERE action = 'factor.imported')";
    let rewrite = "UPDATE audit SET hash = zeroblob(32) WHERE row = (SELECT min(row) FROM audit)";
    let cut = "DELETE FROM audit WHERE row = (SELECT min(row) + 2 FROM audit)";
    // No later event of hers shows the gap; the checkpoint does.
    let cut_end = "DELETE FROM audit WHERE row = (SELECT max(audit.row) FROM audit
        JOIN users ON users.id = audit.subject WHERE username_key = 'carol')";
    for spoil in [edit, rewrite, cut, cut_end] {
        let estate = Estate::new().await;
        let connection = Connection::open(estate.app.directory().join("countersign.db")).unwrap();
        assert_eq!(connection.execute(spoil, []).unwrap(), 1);
        let before = estate.rows().await;
        let of_carol = "SELECT min(audit.row) FROM audit JOIN users ON users.id = audit.subject WHERE username_key = 'carol'";
        let carol: i64 = connection.query_row(of_carol, [], |row| row.get(0)).unwrap();

        let refused = estate.prune().await.unwrap_err().to_string();

        assert!(refused.contains("countersign audit verify says more"), "{refused}");
        // What an earlier checkpoint covers, and still holds, may be gone.
        let left = estate.rows().await;
        assert!(before.ends_with(&left) && left.contains(&carol), "{spoil}");
        assert!(!findings(&estate.app.app, &[]).await.is_empty());
    }
}

/// Whoever can write to the database hides something behind the pruning.
#[tokio::test]
async fn tampering_is_found_after_pruning_as_well() {
    let estate = Estate::new().await;
    let edge_before = estate.app.app.store.meta(EDGE).await.unwrap();
    assert_eq!(edge_before, None);
    let half = Timestamp::from_millis(estate.cut.millis() - 99 * 86_400_000);
    prune(&estate.app.app, estate.archive.path(), half).await.unwrap();
    let edge_before = estate.app.app.store.meta(EDGE).await.unwrap().unwrap();
    estate.prune().await.unwrap();
    let (alice, first) = (blob(&estate.alice), estate.rows().await[0]);
    let said = |found: &[Vec<String>; 2], what: &str| {
        for found in found {
            assert!(found.iter().any(|finding| finding.contains(what)), "{what}: {found:?}");
        }
    };
    let run = |connection: &Connection, sql: &str, parameters: &[&dyn rusqlite::ToSql]| {
        assert!(connection.execute(sql, parameters).unwrap() > 0, "{sql}");
    };

    let found = estate.tampered(|_| {}).await;
    assert_eq!(found, [Vec::<String>::new(), Vec::new()]);
    // More rows are cut, with nothing else changed.
    let found = estate.tampered(|it| run(it, "DELETE FROM audit WHERE row <= ?1", &[&first])).await;
    said(&found, "checkpoint 3: rows up to");
    // The chain of one person is cut further, and their anchor moved along.
    let found = estate
        .tampered(|it| {
            let cut = "SELECT seq, hash FROM audit WHERE subject = ?1 ORDER BY seq LIMIT 1";
            let (seq, hash): (i64, Vec<u8>) =
                it.query_row(cut, [&alice], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            let hash = data_encoding::HEXLOWER.encode(&hash);
            let body = format!("{{\"head\":{{\"seq\":{seq},\"hash\":\"{hash}\"}},\"roster\":\"created\"}}");
            run(
                it,
                "UPDATE anchors SET seq = ?2, body = ?3 WHERE subject = ?1",
                &[&alice, &seq, &body.as_bytes()],
            );
            run(it, "DELETE FROM audit WHERE subject = ?1 AND seq = ?2", &[&alice, &seq]);
        })
        .await;
    said(&found, "where some of them end was changed");
    said(&found, "checkpoint 3: rows up to");
    // Carol has no event left, so nothing but her anchor knows of her.
    let carol = "(SELECT id FROM users WHERE username_key = 'carol')";
    let found = estate
        .tampered(|it| {
            run(it, &format!("DELETE FROM anchors WHERE subject = {carol}"), &[]);
            run(it, "DELETE FROM users WHERE username_key = 'carol'", &[]);
        })
        .await;
    said(&found, "where some of them end was changed");
    let found = estate.tampered(|it| run(it, "DELETE FROM users WHERE username_key = 'carol'", &[])).await;
    said(&found, "the document is gone, but no event says it was deleted");
    // The edge is taken away, put back to an earlier one, or written by somebody without the key.
    let found = estate.tampered(|it| run(it, "DELETE FROM meta WHERE name = ?1", &[&EDGE])).await;
    said(&found, "checkpoint 3: rows up to");
    let back = "UPDATE meta SET value = ?2 WHERE name = ?1";
    let found = estate.tampered(|it| run(it, back, &[&EDGE, &edge_before])).await;
    said(&found, "checkpoint 3: rows up to");
    let mut forged = estate.app.app.store.meta(EDGE).await.unwrap().unwrap();
    let of_signature = forged.len() - 10;
    forged[of_signature] = if forged[of_signature] == b'A' { b'B' } else { b'A' };
    let found = estate.tampered(|it| run(it, back, &[&EDGE, &forged])).await;
    said(&found, "how far the trail was pruned cannot be believed: its signature does not hold");
    // A checkpoint is no edge, though the same key signed it.
    let checkpoint =
        "UPDATE meta SET value = (SELECT CAST(jws AS BLOB) FROM checkpoints WHERE seq = 3) WHERE name = ?1";
    let found = estate.tampered(|it| run(it, checkpoint, &[&EDGE])).await;
    said(&found, "something else was signed");
}

#[tokio::test]
async fn tampering_with_the_archive_is_found() {
    let estate = Estate::new().await;
    estate.prune().await.unwrap();
    let oldest = files(estate.archive.path())[0].clone();
    let text = fs::read_to_string(&oldest).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let edited = text.replacen("verify.accepted", "verify.rejected", 1);
    let without = |place: usize| {
        let kept: Vec<&str> =
            lines.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, line)| *line).collect();
        format!("{}\n", kept.join("\n"))
    };
    let swapped = [&lines[1..2], &lines[..1], &lines[2..]].concat().join("\n") + "\n";
    for (spoilt, what) in [
        (edited, "its content or an event before it was changed"),
        (without(0), "archive: its "),
        (without(4), "archive: its "),
        (without(lines.len() - 1), "archive: its "),
        (swapped, "out of order"),
        (text.replacen("{\"seq\"", "{seq", 1), "line 1 is no event"),
        (String::new(), "archive: its "),
    ] {
        fs::write(&oldest, &spoilt).unwrap();

        let found = findings(&estate.app.app, &estate.archives()).await;

        assert!(found.iter().any(|finding| finding.contains(what)), "{what}: {found:?}");
        holds(&estate.app.app, &[]).await;
    }
    fs::write(&oldest, &text).unwrap();
    holds(&estate.app.app, &estate.archives()).await;
}

#[tokio::test]
async fn the_configuration_says_how_long_events_stay() {
    let archive = tempfile::tempdir().unwrap();
    let app = TestApp::start_with(|config| {
        config.audit.keep_days = 30;
        config.audit.archive_directory = Some(archive.path().to_owned());
    })
    .await;
    app.user("alice").with_totp().await;
    audit::checkpoint(&app.app).await.unwrap();
    app.advance(29 * DAY);
    assert_eq!(retention::keep(&app.app).await.unwrap(), 0);
    app.advance(2 * DAY);

    let pruned = retention::keep(&app.app).await.unwrap();

    assert_eq!(lines(archive.path()).len() as u64, pruned);
    let shown = app.get("/metrics").await.expect_ok().shown();
    assert!(shown.contains(&format!("countersign_audit_pruned_total {pruned}")), "{shown}");
    let ended = format!("countersign_audit_pruning_seconds {}", app.now().seconds());
    assert!(shown.contains(&ended), "{shown}");
    let stays = TestApp::start().await;
    stays.advance(10_000 * DAY);
    assert_eq!(retention::keep(&stays.app).await.unwrap(), 0);
}

#[tokio::test]
async fn whoever_prunes_at_the_same_time_archives_and_prunes_once() {
    let estate = Estate::new().await;
    let before = estate.rows().await;

    let (one, other) = tokio::join!(estate.prune(), estate.prune());

    let pruned = one.unwrap_or(0) + other.unwrap_or(0);
    let archived: HashSet<i64> =
        lines(estate.archive.path()).iter().map(|event| event["row"].as_i64().unwrap()).collect();
    assert_eq!(archived.len() as u64, pruned);
    assert_eq!(estate.rows().await.len() as u64, before.len() as u64 - pruned);
    holds(&estate.app.app, &estate.archives()).await;
}
