//! `countersign store conformance`: run by somebody who has a database and wants to know.

use crate::{
    installation::{Installation, finish, program},
    postgres::Database,
    tools::text,
};
use serde_json::Value;
use std::{fs, process::Output};

fn conformance(arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(["store", "conformance"]).args(arguments);
    finish(command)
}

/// Runs checks that must all pass; returns what was found.
#[track_caller]
fn passes(arguments: &[&str]) -> Vec<Value> {
    let output = conformance(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = found["items"].as_array().expect("items").clone();
    assert!(items.iter().all(|item| item["passed"] == true && item["detail"].is_null()), "{found:#}");
    items
}

#[test]
fn the_embedded_engine_passes_in_a_folder_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("directory");
    let folder = home.path().join("trial");
    // What a run left that was killed.
    fs::create_dir_all(folder.join("conformance-1/x")).expect("directory");

    let found = passes(&["--url", &format!("sqlite:{}", folder.display())]);

    assert!(found.len() > 80, "{found:#?}");
    assert_eq!(fs::read_dir(folder).expect("folder").count(), 0);
}

#[test]
fn an_installation_is_never_touched() {
    let installation = Installation::new();
    let before = fs::read(installation.database()).expect("database");

    let refused = conformance(&["--url", &format!("sqlite:{}", installation.data.display())]);

    assert_eq!(refused.status.code(), Some(1));
    let message = text(&refused.stderr);
    assert!(message.contains("it is not empty") && message.contains("hint: "), "{message}");
    assert_eq!(text(&refused.stdout), "");
    assert_eq!(fs::read(installation.database()).expect("database"), before);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (arguments, said) in [
        (&["--url", "postgres://ada:hunter2@localhost/trial"][..], "PGPASSWORD"),
        (&["--url", "mysql://localhost/trial"], "postgres://"),
        (&[], "--url"),
        (&["--url", "sqlite:x", "--only", "nonsense"], "nonsense"),
    ] {
        let refused = conformance(arguments);

        let message = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(said) && !message.contains("hunter2"), "{arguments:?}: {message}");
    }
}

#[test]
fn a_server_passes_behind_a_pool_too_and_is_left_empty() {
    let database = Database::empty();

    let direct = passes(&["--url", &database.url(), "--only", "race", "--only", "a_value_is_set_once"]);
    let pooled = passes(&["--url", &database.pooled_url(), "--only", "outbox"]);

    assert!(direct.len() > 10 && direct.iter().any(|item| item["check"] == "a_value_is_set_once"));
    assert!(pooled.iter().all(|item| item["suite"] == "outbox"));
    database.execute(
        "DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM meta) AND NOT EXISTS (SELECT FROM audit); END $$",
    );
}

#[test]
fn a_database_that_forgets_is_found_out_and_the_other_checks_go_on() {
    let database = Database::new();
    database.execute(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := OLD.body; RETURN NEW; END $$;
         CREATE TRIGGER forget BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION forget()",
    );

    let names = ["--only", "one_totp_code_gets_one_success", "--only", "who_waits_is_rung"];
    let output = conformance(&[&["--url", &database.url()][..], &names].concat());

    assert_eq!(output.status.code(), Some(6));
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    let failed = printed.lines().position(|line| line.starts_with('✗')).expect("a failure");
    let said: Vec<&str> = printed.lines().skip(failed).collect();
    assert!(said[0].ends_with("one_totp_code_gets_one_success"), "{printed}");
    assert!(said[1].contains("panicked at") && said[1].contains("store/conformance"), "{printed}");
    let last = printed.lines().last().unwrap_or_default();
    assert!(last.starts_with('✓') && last.ends_with("who_waits_is_rung"), "{printed}");
    assert!(errors.starts_with("error: 1 of 2 checks failed\nhint: "), "{errors}");
}
