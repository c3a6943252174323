//! `countersign store conformance`: run by somebody who has a database and wants to know.

use crate::{
    installation::{Installation, finish, program},
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
