//! `countersign store copy`: run by somebody who moves house.

use crate::{
    installation::{Installation, finish, program},
    tools::text,
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

fn copy(from: &str, to: &str, more: &[&str]) -> Output {
    let mut command = program();
    command.args(["store", "copy", "--from", from, "--to", to]).args(more);
    finish(command)
}

fn verify(data: &Path) -> Output {
    let mut command = program();
    command.args(["audit", "verify", "--data"]).arg(data);
    finish(command)
}

#[test]
fn a_copy_is_proved_and_opens_with_the_key_of_the_source_only() {
    let installation = Installation::new();
    let target = installation.beside("copy");
    let (from, to) = (installation.data.display().to_string(), target.display().to_string());

    let told = copy(&from, &format!("sqlite:{to}"), &[]);
    let again = copy(&from, &to, &["--json"]);

    assert!(told.status.success(), "{}", text(&told.stderr));
    let told = text(&told.stdout);
    assert!(
        told.contains("✓ copied: ") && told.contains("✓ compared: ") && told.contains("master key"),
        "{told}"
    );
    let again: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!((&again["equal"], &again["written"]), (&Value::Bool(true), &0.into()), "{again:#}");
    assert_eq!(again["rows"]["people"], 1);
    let refused = verify(&target);
    assert!(text(&refused.stderr).contains("find master key"), "{}", text(&refused.stderr));
    fs::copy(installation.data.join("master.key"), target.join("master.key")).expect("the key");
    let proved = verify(&target);
    assert!(proved.status.success(), "{}", text(&proved.stderr));
}

#[test]
fn a_copy_that_is_killed_goes_on() {
    let installation = Installation::new();
    let (from, target) = (installation.data.display().to_string(), installation.beside("copy"));
    let to = target.display().to_string();

    // Longer each time, until one is through.
    for millis in (0_u64..).step_by(2) {
        let mut command = program();
        command
            .args(["store", "copy", "--from", &from, "--to", &to])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("a process");
        std::thread::sleep(Duration::from_millis(millis));
        // SIGKILL, unless it has ended.
        process.kill().expect("a signal");
        let ended = process.wait_with_output().expect("an end");
        if ended.status.success() {
            break;
        }
        assert_eq!(ended.status.code(), None, "{}", text(&ended.stderr));
    }

    let again = copy(&from, &to, &["--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!((&again["equal"], &again["finding"]), (&Value::Bool(true), &Value::Null), "{again:#}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let home = tempfile::tempdir().expect("directory");
    let nothing = home.path().join("nothing").display().to_string();
    let installation = Installation::new();
    let data = installation.data.display().to_string();
    for (from, to, code, said) in [
        (data.as_str(), "postgres://ada:hunter2@localhost/mfa", 2, "PGPASSWORD"),
        (&data, "mysql://localhost/mfa", 2, "--to: expected a directory"),
        (&nothing, "postgres://localhost/mfa", 4, "there is no installation where --from says"),
        (&data, &data, 1, "both ends are the same database"),
        (&data, "postgres://127.0.0.1:1/mfa", 1, "check host and port"),
    ] {
        let refused = copy(from, to, &[]);

        let message = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(code), "{to}: {message}");
        assert!(message.contains(said) && message.contains("hint: "), "{to}: {message}");
        assert!(!message.contains("hunter2") && text(&refused.stdout).is_empty(), "{message}");
    }
    assert!(!Path::new(&nothing).exists());
}
