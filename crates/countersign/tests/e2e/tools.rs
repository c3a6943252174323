//! Programs that the tests run beside ours: `curl`, `oathtool`, `zbarimg`, `sh` and their like.

use serde_json::Value;
use std::{
    ffi::OsStr,
    io::ErrorKind,
    process::{Command, Output, Stdio},
};

/// The Debian package of a program that may be missing.
const PACKAGES: [(&str, &str); 7] = [
    ("chromedriver", "chromium-driver"),
    ("curl", "curl"),
    ("oathtool", "oathtool"),
    ("zbarimg", "zbar-tools"),
    ("nsenter", "util-linux"),
    ("prlimit", "util-linux"),
    ("unshare", "util-linux"),
];

/// Runs a program to its end. A missing program fails the test with the name of the package that brings it.
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Output {
    let outcome = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    outcome.unwrap_or_else(|error| unusable(program, &error))
}

/// Fails the test because a program cannot be started.
pub(crate) fn unusable(program: &str, error: &std::io::Error) -> ! {
    let package = PACKAGES.iter().find(|(name, _)| *name == program);
    match (error.kind(), package) {
        (ErrorKind::NotFound, Some((_, package))) => {
            panic!(
                "this test needs {program}: run scripts/test, which installs it, or apt-get install {package}"
            )
        }
        _ => panic!("start {program}: {error}"),
    }
}

/// Returns what a program printed, without the last line's end. It must have succeeded.
pub(crate) fn printed<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> String {
    let output = run(program, arguments);
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{program}: {}: {errors}", output.status);
    text(&output.stdout).trim_end().to_owned()
}

/// Sends a signal by its name, such as `TERM`.
pub(crate) fn signal(process: u32, name: &str) {
    // The shell's own `kill` is on every machine.
    printed("sh", ["-c", &format!("kill -{name} {process}")]);
}

/// Returns what a program printed as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What curl got.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The protocol: `1.1` or `2`.
    pub(crate) protocol: String,
    /// The body's type.
    pub(crate) kind: String,
    /// The body, as text.
    pub(crate) body: String,
}

impl Answer {
    /// Returns the body as JSON, after making sure of the status.
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the result of a verification.
    pub(crate) fn result(&self) -> String {
        self.json(200)["result"].as_str().unwrap_or_default().to_owned()
    }
}

/// Runs curl. Fails the test unless there was an answer, whatever its status.
pub(crate) fn curl<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Answer {
    let output = run_curl(arguments);
    assert!(output.status.success(), "curl: {}: {}", output.status, text(&output.stderr));
    let printed = text(&output.stdout);
    let (body, facts) = printed.rsplit_once('\n').expect("the line that was asked for");
    let mut facts = facts.split('|');
    let mut fact = || facts.next().unwrap_or_default().to_owned();
    let (status, protocol, kind) = (fact(), fact(), fact());
    Answer { status: status.parse().expect("status"), protocol, kind, body: body.to_owned() }
}

/// Runs curl, which may fail.
pub(crate) fn run_curl<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    const FIRST: [&str; 6] = [
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        "--write-out",
        "\n%{http_code}|%{http_version}|%{content_type}",
    ];
    let given: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    run("curl", FIRST.into_iter().map(Into::into).chain(given))
}
