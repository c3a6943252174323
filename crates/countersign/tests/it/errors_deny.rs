//! What cannot be read or decided means no, with a clear answer (promise 6).

use crate::test_app::{Answer, PASSWORD, Person, TestApp, clock, config};
use countersign::{
    app::App,
    clock::Clock,
    error::Error,
    http::{Web, router},
    keys::{MASTER_KEY_FILE, MasterKey},
};
use countersign_core::User;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use uuid::Uuid;

/// A data directory whose server has stopped.
async fn stopped() -> TempDir {
    TestApp::start().await.close().await
}

/// Opens an application on a directory that one before it may be about to give back.
async fn open(directory: &Path, clock: Clock) -> Result<App, Error> {
    for _ in 0..100 {
        match App::open(config(directory), clock.clone()).await {
            Err(error) if error.to_string().contains("another countersign server") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => return outcome,
        }
    }
    App::open(config(directory), clock).await
}

async fn refused(directory: &Path) -> String {
    let opened = open(directory, clock()).await;
    let error = opened.err().unwrap_or_else(|| panic!("it opened"));
    assert!(matches!(error, Error::Store(_)), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn another_master_key_is_refused() {
    let directory = stopped().await;
    let path = directory.path().join(MASTER_KEY_FILE);
    let right = fs::read(&path).expect("the key");
    fs::remove_file(&path).expect("remove");
    MasterKey::generate().write(&path).expect("another key");

    let message = refused(directory.path()).await;

    assert!(message.contains("not the master key the database was made with"), "{message}");
    fs::write(&path, right).expect("the right key");
    open(directory.path(), clock()).await.expect("the right key opens it");
}

#[tokio::test]
async fn a_missing_master_key_is_not_replaced_by_a_new_one() {
    let directory = stopped().await;
    let path = directory.path().join(MASTER_KEY_FILE);
    fs::remove_file(&path).expect("remove");

    let message = refused(directory.path()).await;

    assert!(message.contains(MASTER_KEY_FILE) && message.contains("backup"), "{message}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_master_key_that_others_may_read_is_refused() {
    let directory = stopped().await;
    let path = directory.path().join(MASTER_KEY_FILE);
    for mode in [0o644, 0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");

        let message = refused(directory.path()).await;

        assert!(message.contains("chmod 600") && message.contains(MASTER_KEY_FILE), "{mode:o}: {message}");
    }
}

#[tokio::test]
async fn a_master_key_that_is_none_is_refused_without_being_shown() {
    let directory = stopped().await;
    let path = directory.path().join(MASTER_KEY_FILE);
    fs::write(&path, "countersign-master-key-1:c2hvcnQ=").expect("write");

    let message = refused(directory.path()).await;

    assert!(message.contains("not a Countersign master key") && !message.contains("c2hvcnQ"), "{message}");
}

/// Looking elsewhere would open the wrong installation, or make a new one.
#[tokio::test]
async fn a_configured_master_key_that_is_missing_is_not_looked_for_elsewhere() {
    let directory = stopped().await;
    let mut config = config(directory.path());
    config.keys.master_key_file = Some(directory.path().join("elsewhere.key"));

    let error = App::open(config, clock()).await.err().expect("refused").to_string();

    assert!(error.contains("elsewhere.key"), "{error}");
}

#[tokio::test]
async fn a_clock_that_runs_behind_the_newest_record_is_refused() {
    let app = TestApp::start().await;
    app.advance(3600);
    app.user("alice").await;
    let directory = app.close().await;

    let message = refused(directory.path()).await;

    assert!(message.contains("the clock shows 2026-11-22T10:00:00"), "{message}");
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused() {
    let app = TestApp::start().await;

    let message = refused(app.directory()).await;

    assert!(message.contains("another countersign server"), "{message}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = stopped().await;
    let path = directory.path().join("countersign.db");
    let mut bytes = fs::read(&path).expect("the database");
    bytes[..100].fill(b'x');
    fs::write(&path, bytes).expect("write");

    let message = refused(directory.path()).await;

    assert!(message.contains("damaged"), "{message}");
}

/// Writes to the database behind the server's back.
fn change(directory: &Path, query: &str, id: &str, body: &[u8]) {
    let connection = Connection::open(directory.join("countersign.db")).expect("the database");
    let id = Uuid::try_parse(id).expect("an id").into_bytes();
    assert_eq!(connection.execute(query, params![id, body]).expect("change"), 1);
}

fn document(directory: &Path, table: &str, id: &str) -> Value {
    let connection = Connection::open(directory.join("countersign.db")).expect("the database");
    let id = Uuid::try_parse(id).expect("an id").into_bytes();
    let query = format!("SELECT body FROM {table} WHERE id = ?1");
    let body: Vec<u8> = connection.query_row(&query, params![id], |row| row.get(0)).expect("a row");
    serde_json::from_slice(&body).expect("a document")
}

const SET_USER: &str = "UPDATE users SET body = ?2 WHERE id = ?1";
const SET_ORGANISATION: &str = "UPDATE organisations SET body = ?2 WHERE id = ?1";

/// Everything that could let somebody in, or weaken them.
async fn try_everything(app: &TestApp, alice: &Person<'_>) -> Vec<(&'static str, Answer)> {
    let root = app.root();
    vec![
        ("verify", alice.verify(alice.code()).await),
        ("sign in", alice.sign_in(PASSWORD).await),
        ("get", app.get(&alice.path("")).by(&root).await),
        ("list", app.get("/v1/users").by(&root).await),
        ("locks", app.get(&alice.path("/locks")).by(&root).await),
        ("unlock", app.post(&alice.path("/unlock")).by(&root).await),
        ("reset", app.post(&alice.path("/reset")).by(&root).await),
        ("recovery", app.post(&alice.path("/recovery-codes")).by(&root).await),
        ("enable", app.patch(&alice.path("")).by(&root).json(json!({ "status": "active" })).await),
    ]
}

#[tokio::test]
async fn a_document_that_cannot_be_read_lets_nobody_in() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let good = document(app.directory(), "users", &alice.id);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        document.to_string().into_bytes()
    };
    for (what, body) in [
        ("nothing", Vec::new()),
        ("garbage", b"\x00\xff\x00".to_vec()),
        ("cut off", good.to_string().as_bytes()[..200].to_vec()),
        ("null", b"null".to_vec()),
        ("no factors' type", with(&|document| document["factors"] = json!("none"))),
        ("a status from elsewhere", with(&|document| document["status"] = json!("suspended"))),
        ("no locks", with(&|document| document["locks"] = json!({ "TOKEN": { "failures": -1 } }))),
        ("a newer schema", with(&|document| document["schema"] = json!(99))),
    ] {
        change(app.directory(), SET_USER, &alice.id, &body);
        for (attempt, answer) in try_everything(&app, &alice).await {
            assert_eq!(answer.status, 503, "{what}: {attempt}: {}", answer.shown());
            assert_eq!(answer.header("retry-after"), Some("5"));
            let shown = answer.expect_problem(503, "store_unavailable").shown();
            assert!(
                !shown.contains("column") && !shown.contains("schema"),
                "causes are for the log: {shown}"
            );
        }
    }

    change(app.directory(), SET_USER, &alice.id, good.to_string().as_bytes());
    assert!(alice.verify(alice.code()).await.accepted());
}

#[tokio::test]
async fn one_unreadable_document_harms_nobody_else() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    let bob = app.user("bob").with_totp().await;
    change(app.directory(), SET_USER, &alice.id, b"{}");

    alice.verify(alice.code()).await.expect_problem(503, "store_unavailable");

    assert!(bob.verify(bob.code()).await.accepted());
    app.user("carol").await;
    app.get("/readyz").await.expect_ok();
}

/// A sealed secret opens only in its own place, so nobody's factor can be copied into somebody else's document.
#[tokio::test]
async fn a_secret_moved_to_somebody_else_opens_nothing() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().await;
    let mallory = app.user("mallory").with_totp().await;
    let mut forged = document(app.directory(), "users", &alice.id);
    forged["factors"] = document(app.directory(), "users", &mallory.id)["factors"].clone();
    change(app.directory(), SET_USER, &alice.id, forged.to_string().as_bytes());
    let before = app.heads().await;

    let answer = alice.verify(mallory.code()).await;

    answer.expect_problem(500, "internal");
    assert_eq!(app.heads().await, before);
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_denies() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    let (organisation, code) = (app.organisation.to_string(), alice.code());
    let good = document(app.directory(), "organisations", &organisation);
    let form = [("grant_type", "client_credentials")];
    let token = app.token(&form).by(&app.root()).await.expect_ok().text("access_token");
    let (root, user, clock) = (app.root(), alice.id.clone(), app.clock.clone());
    let directory = app.close().await;

    for (what, member, value) in [
        ("an unknown requirement", "/policy/requirement", json!("whatever")),
        ("a threshold that is none", "/policy/locks/threshold", json!(-1)),
        ("a section gone wrong", "/policy/totp", json!("x")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(member).expect("a member") = value;
        change(directory.path(), SET_ORGANISATION, &organisation, bad.to_string().as_bytes());
        let opened = Arc::new(open(directory.path(), clock.clone()).await.expect("open"));
        let app =
            TestApp::around(Arc::clone(&opened), router(Web::new(opened).expect("the layer")), clock.clone());
        let body = json!({ "user": user, "code": code });
        let sign_in = [("grant_type", "password"), ("username", "alice"), ("password", PASSWORD)];

        for answer in [
            app.post("/v1/verify").by(&root).json(body.clone()).await,
            app.post("/v1/verify").by(&crate::test_app::Credentials::bearer(&token)).json(body).await,
            app.token(&sign_in).await,
            app.token(&form).by(&root).await,
        ] {
            assert_eq!(answer.status, 503, "{what}: {}", answer.shown());
            answer.expect_problem(503, "store_unavailable");
        }
        app.app.store.close().await;
    }

    change(directory.path(), SET_ORGANISATION, &organisation, good.to_string().as_bytes());
    let opened = Arc::new(open(directory.path(), clock.clone()).await.expect("open"));
    let app = TestApp::around(Arc::clone(&opened), router(Web::new(opened).expect("the layer")), clock);
    let body = json!({ "user": user, "code": code });
    assert!(app.post("/v1/verify").by(&root).json(body).await.accepted());
}

#[tokio::test]
async fn a_closed_store_says_so_and_lets_nobody_in() {
    let app = TestApp::start().await;
    let alice = app.user("alice").with_totp().with_password().await;
    app.app.store.close().await;

    for (attempt, answer) in try_everything(&app, &alice).await {
        assert_eq!(answer.status, 503, "{attempt}: {}", answer.shown());
        assert_eq!(answer.header("retry-after"), Some("1"), "{attempt}");
        answer.expect_problem(503, "busy");
    }
    app.get("/readyz").await.expect_problem(503, "busy");
    app.get("/healthz").await.expect_ok();
}

#[tokio::test]
async fn where_as_many_wait_as_may_a_change_is_refused_before_it_is_looked_at() {
    let app = TestApp::start().await;
    let root = app.root();
    let store = &app.app.store;
    // Holds the thread that writes until the other side of the gate is gone.
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let (organisation, id) = (app.organisation, app.admin);
    let (entered, inside) = tokio::sync::oneshot::channel();
    let mut entered = Some(entered);
    let held = Arc::clone(&app.app);
    let holder = tokio::spawn(async move {
        let hold = move |_: &mut User| {
            entered.take().map(|entered| entered.send(()));
            let _ = gate.recv();
            Ok(())
        };
        held.store.change(organisation, id, hold).await
    });
    inside.await.expect("the writer is held");
    let mut waiting = Vec::new();
    while !store.is_full() {
        let held = Arc::clone(&app.app);
        waiting.push(tokio::spawn(async move { held.store.commit_decoy().await }));
        tokio::task::yield_now().await;
    }

    // Nobody looked at who calls, or there would be a 401.
    let refused = app.post("/v1/verify").json(json!({})).await;
    let read = app.get("/v1/users").by(&root).await;
    drop(release);
    for call in waiting {
        call.await.expect("no panic").expect("it had a place");
    }
    holder.await.expect("no panic").expect("held and let go");
    let after = app.post("/v1/verify").json(json!({})).await;

    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.expect_problem(503, "busy");
    read.expect_ok();
    assert_eq!(after.status, 401);
}
