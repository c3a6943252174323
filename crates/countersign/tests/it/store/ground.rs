//! What checks are run on when somebody else's database is tried: never anything that matters.

use crate::postgres::Database;
use countersign::{
    app::App,
    clock::Clock,
    config::{Config, Data, secret::Given},
    store::{
        Store,
        conformance::{Engine, Ground, scene::organisation},
    },
};

fn settings(database: &Database) -> Data {
    Data { url: Some(Given::new(&database.url())), connections: 4, ..Data::default() }
}

#[tokio::test]
async fn a_database_that_holds_anything_is_refused_and_left_as_it_is() {
    for (made, said) in [
        ("CREATE TABLE theirs (x int)", "it has a table theirs"),
        ("INSERT INTO meta (name, value) VALUES ('keys', 'x')", "it is an installation's, and has its keys"),
        (
            "INSERT INTO destinations (key, last_at, sent) VALUES ('k', 1, '')",
            "its table destinations is not empty",
        ),
    ] {
        let database = Database::new();
        database.execute(made);

        let refused = Ground::take(&settings(&database)).await.err().map(|error| error.to_string());

        assert!(refused.as_ref().is_some_and(|refused| refused.contains(said)), "{made}: {refused:?}");
        let store = Store::open(&settings(&database)).await.unwrap();
        assert_eq!(store.meta("conformance").await.unwrap(), None, "{made}");
        store.close().await;
    }
}

#[tokio::test]
async fn what_checks_left_is_cleared_before_the_next_and_at_the_end() {
    let database = Database::empty();
    let left = Ground::take(&settings(&database)).await.unwrap();
    organisation(&left.engine().await.unwrap().store(), "acme").await;

    let ground = Ground::take(&settings(&database)).await.expect("what an earlier run left");
    let engine = ground.engine().await.unwrap();
    assert!(engine.store().organisations(None, 9).await.unwrap().items.is_empty());
    organisation(&engine.store(), "acme").await;
    ground.leave().await.unwrap();

    let store = Store::open(&settings(&database)).await.unwrap();
    assert!(store.organisations(None, 9).await.unwrap().items.is_empty());
    assert_eq!(store.meta("conformance").await.unwrap(), None);
    store.close().await;
}

// Whoever had signed up there would have been cleared away by the next run.
#[tokio::test]
async fn no_server_starts_where_checks_run() {
    let home = tempfile::tempdir().unwrap();
    let database = Database::new();
    let ground = Ground::take(&settings(&database)).await.unwrap();
    let config = || {
        let store = Data { directory: home.path().to_owned(), ..settings(&database) };
        Config { store, ..Config::default() }
    };

    let refused = App::open(config(), Clock::System).await.err().map(|error| error.to_string());
    ground.leave().await.unwrap();
    let started = App::open(config(), Clock::System).await.map(|app| app.store);

    assert!(refused.is_some_and(|refused| refused.contains("store conformance runs on it")));
    started.unwrap().close().await;
}
