//! Commands that need no server, or bring their own.

use crate::{
    installation::{Installation, Running, finish, program},
    tools::{curl, run, text},
};
use serde_json::{Value, json};
use std::{fs, process::Output};

/// Each step of the demo, in order.
const STEPS: [&str; 17] = [
    "Ada Lovelace joins",
    "Her factor waits for a first code",
    "The first code activates it",
    "A fresh code proves it is her",
    "The same code again is refused",
    "Five wrong codes in a row",
    "Even the right code is refused now",
    "The help desk unlocks",
    "A fresh code works again",
    "A code goes to her address",
    "The code in the mail confirms it",
    "The same code again is refused",
    "Recovery codes for a lost phone",
    "One of them works",
    "It works once",
    "All of it is on record",
    "The record is proved",
];

#[test]
fn the_demo_plays_every_step_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let mut command = program();
    command.args(["demo", "--auto"]).env("TMPDIR", folder.path()).current_dir(folder.path());

    let output = finish(command);

    let story = text(&output.stdout);
    assert!(output.status.success(), "{story}{}", text(&output.stderr));
    let told: Vec<&str> = story.lines().filter_map(|line| line.trim_start().strip_prefix("✓ ")).collect();
    assert_eq!(told.len(), STEPS.len(), "{story}");
    for (line, step) in told.iter().zip(STEPS) {
        assert!(line.starts_with(step), "{step}: {line}");
    }
    assert!(story.contains("█"), "the QR code is drawn");
    assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 0, "the folder is empty again");
}

#[test]
fn the_demo_does_not_wait_for_a_person_who_is_not_there() {
    let mut command = program();
    command.arg("demo");

    let output = finish(command);

    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("demo --auto"));
}

fn print(arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(arguments);
    let output = finish(command);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    output
}

#[test]
fn the_description_of_the_api_is_the_one_that_is_served() {
    let printed: Value = serde_json::from_slice(&print(&["openapi"]).stdout).expect("JSON");

    assert!(printed["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{printed}");
    assert!(printed["paths"]["/v1/verify"]["post"].is_object());
    let server = Installation::new();
    let served = curl([server.serve().at("/openapi.json")]).json(200);
    assert_eq!(printed, served);
}

#[test]
fn completions_are_scripts_that_shells_read() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&print(&["completions", shell]).stdout);
        assert!(script.contains("countersign") && script.contains("serve"), "{shell}");
    }
    let folder = tempfile::tempdir().expect("temporary directory");
    let script = folder.path().join("countersign.bash");
    fs::write(&script, print(&["completions", "bash"]).stdout).expect("write");

    let finished = r#"source "$0"; COMP_WORDS=(countersign ser); COMP_CWORD=1; _countersign countersign ser countersign; echo "${COMPREPLY[@]}""#;
    let output = run("bash", ["-c", finished, script.to_str().expect("a path")]);

    assert_eq!(text(&output.stdout).trim(), "serve", "{}", text(&output.stderr));
}

#[test]
fn the_default_configuration_serves() {
    let installation = Installation::new();
    let file = installation.beside("countersign.toml");
    fs::write(&file, print(&["config", "default"]).stdout).expect("write");

    let mut command = installation.command(["serve", "--listen", "127.0.0.1:0", "--config"]);
    command.arg(&file);
    let server = Running::start(command);

    assert_eq!(curl([server.at("/readyz")]).status, 200);
}

#[test]
fn serve_alone_makes_the_installation_and_shows_its_credentials_once() {
    let home = tempfile::tempdir().expect("temporary directory");
    let serve = || {
        let mut command = program();
        command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(home.path());
        Running::start(command)
    };

    let first = serve();
    // The log says that it listens; what is printed comes on another pipe, and perhaps later.
    ["Password", "Client id", "Client secret"].into_iter().for_each(|name| first.wait_for_log(name));
    let shown = first.log();
    let field = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().to_owned()
    };
    let client = format!("{}:{}", field("Client id"), field("Client secret"));
    assert_eq!(first.get(&client, "/v1/users/admin").status, 200);
    let password = format!("password={}", field("Password"));
    let tokens = ["--data", "grant_type=password", "--data", "username=admin", "--data", &password];
    let token = curl(tokens.into_iter().chain([first.at("/oauth/token").as_str()]));
    assert_eq!(token.status, 200, "{token:?}");
    let (status, log) = first.terminate();
    assert!(status.success(), "{log}");

    let second = serve();
    assert_eq!(second.get(&client, "/v1/users/admin").status, 200);
    let (_, log) = second.terminate();
    assert!(!log.contains("Client secret"), "{log}");
    assert!(home.path().join("countersign-data").is_dir());
}

#[test]
fn a_healthy_installation_passes_the_doctor() {
    let installation = Installation::new();

    let said = installation.run(["doctor", "--json"]);

    assert!(said.status.success(), "{}", text(&said.stdout));
    let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let checks = said["items"].as_array().expect("items");
    let is_well = |check: &Value| check["health"] == "good" || check["check"] == "durable write";
    assert!(checks.len() >= 6 && checks.iter().all(is_well), "{said}");
}

#[test]
fn migrating_says_what_was_applied() {
    let installation = Installation::new();
    let migrate = || {
        let output = installation.run(["store", "migrate", "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    assert_eq!(migrate(), json!({"applied": []}), "made at the newest schema");

    fs::remove_file(installation.database()).expect("remove");
    let empty = rusqlite::Connection::open(installation.database()).expect("open");
    empty.execute_batch("CREATE TABLE rest (part); DROP TABLE rest").expect("a database without tables");
    drop(empty);

    assert_eq!(migrate()["applied"][0], "0001_documents");
    assert_eq!(migrate(), json!({"applied": []}));
}
