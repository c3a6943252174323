//! An installation in a temporary directory, and the processes that work on it.

use crate::tools::{self, Answer, curl, text};
use serde_json::Value;
use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a server may take to say that it serves. Far more than it needs, for machines under load.
const START: Duration = Duration::from_secs(20);
/// How long a process may take to end.
const END: Duration = Duration::from_secs(30);

/// An installation with its first credentials.
pub(crate) struct Installation {
    /// Holds the data directory and what else a test writes.
    pub(crate) home: TempDir,
    /// Where the data is.
    pub(crate) data: PathBuf,
    /// What `init` printed.
    pub(crate) first: Value,
    /// What runs the program: nothing, or another program that ends by becoming ours.
    pub(crate) through: Vec<OsString>,
}

impl Installation {
    /// Makes one with `countersign init --json`.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("temporary directory");
        let data = home.path().join("data");
        Self::init(home, data, Vec::new())
    }

    /// Makes one where `data` says, with every process run through another program.
    pub(crate) fn init(home: TempDir, data: PathBuf, through: Vec<OsString>) -> Self {
        let mut installation = Self { home, data, first: Value::Null, through };
        let output = installation.run(["init", "--json"]);
        assert!(output.status.success(), "init: {}", text(&output.stderr));
        installation.first = serde_json::from_slice(&output.stdout).expect("JSON");
        installation
    }

    /// Returns a path beside the data directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Returns where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        self.data.join("countersign.db")
    }

    /// Prepares a command on this installation.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = match self.through.split_first() {
            None => program(),
            Some((first, rest)) => {
                let mut command = cleaned(Command::new(first));
                command.args(rest).arg(PROGRAM);
                command
            }
        };
        command.args(arguments).env("COUNTERSIGN_DATA", &self.data).current_dir(self.home.path());
        command
    }

    /// Runs a command on this installation to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        finish(self.command(arguments))
    }

    /// Serves on a port the system chooses.
    pub(crate) fn serve(&self) -> Running {
        Running::start(self.command(["serve", "--listen", "127.0.0.1:0"]))
    }

    /// Returns the first client's id and secret, as curl's `--user` takes them.
    pub(crate) fn client(&self) -> String {
        format!("{}:{}", self.client_id(), self.client_secret())
    }

    pub(crate) fn client_id(&self) -> &str {
        self.first["client"]["id"].as_str().expect("the client's id")
    }

    pub(crate) fn client_secret(&self) -> &str {
        self.first["client"]["secret"].as_str().expect("the client's secret")
    }

    /// Runs `audit verify`.
    pub(crate) fn verify_audit(&self) -> Output {
        self.run(["audit", "verify"])
    }

    /// Tries to serve, which must fail soon, with a message that says each of `expected`.
    #[track_caller]
    pub(crate) fn refuses_to_serve(&self, expected: &[&str]) -> String {
        refuses(self.command(["serve", "--listen", "127.0.0.1:0"]), expected)
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");

/// Prepares the program without what the environment of the tests might tell it.
pub(crate) fn program() -> Command {
    cleaned(Command::new(PROGRAM))
}

fn cleaned(mut command: Command) -> Command {
    let ours = |name: &OsString| name.to_string_lossy().starts_with("COUNTERSIGN");
    for name in std::env::vars_os().map(|(name, _)| name).filter(ours) {
        command.env_remove(name);
    }
    command.env_remove("COLUMNS").env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command) -> Output {
    command.output().unwrap_or_else(|error| tools::unusable("countersign", &error))
}

/// Runs a command to its end with something on its standard input.
pub(crate) fn finish_with_input(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start countersign");
    child.stdin.take().expect("standard input").write_all(input.as_bytes()).expect("write");
    child.wait_with_output().expect("wait")
}

/// Runs a command that must fail soon and clearly: an exit code other than zero, a message that says each of
/// `expected`, and no panic. Returns the message.
#[track_caller]
pub(crate) fn refuses(mut command: Command, expected: &[&str]) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start countersign");
    let Some(status) = wait(&mut child, END) else {
        let _ = child.kill();
        panic!("it goes on, and should have refused with {expected:?}")
    };
    let mut errors = String::new();
    child.stderr.take().expect("standard error").read_to_string(&mut errors).expect("text");

    assert!(matches!(status.code(), Some(1 | 2 | 4)), "{status}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    for part in expected {
        assert!(errors.contains(part), "{part:?} is missing: {errors}");
    }
    assert!(errors.lines().any(|line| line.starts_with("error: ")), "{errors}");
    errors
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(status) = child.try_wait().expect("wait") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// A running server. Dropping it kills it.
pub(crate) struct Running {
    /// Its address: `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts a command and waits until it says where it serves.
    #[track_caller]
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            gather(child.stdout.take().expect("standard output"), &log),
            gather(child.stderr.take().expect("standard error"), &log),
        ];
        let mut running = Self { url: String::new(), child, log, readers };
        running.url = running.wait_for_address();
        running
    }

    #[track_caller]
    fn wait_for_address(&mut self) -> String {
        let start = Instant::now();
        loop {
            if let Some(address) = address_in(&self.log()) {
                return address;
            }
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none() && start.elapsed() < START, "no server: {ended:?} {}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns the address of a path.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Returns all it has printed so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("the log's reader does not panic").clone()
    }

    /// Returns its process id.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Posts JSON as the caller `user`, which is `name:secret`.
    pub(crate) fn post(&self, user: &str, path: &str, body: &Value) -> Answer {
        curl(["--user", user, "--json", &body.to_string(), &self.at(path)])
    }

    /// Gets as the caller `user`, which is `name:secret`.
    pub(crate) fn get(&self, user: &str, path: &str) -> Answer {
        curl(["--user", user, &self.at(path)])
    }

    /// Waits until something stands in the log.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, part: &str) {
        let start = Instant::now();
        while !self.log().contains(part) {
            assert!(start.elapsed() < START, "{part:?} is not in the log: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it as a service manager does, and returns how it ended and all it printed.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        tools::signal(self.process(), "TERM");
        let status = wait(&mut self.child, END).expect("an end after SIGTERM");
        self.readers.drain(..).for_each(|reader| reader.join().expect("read the log"));
        (status, self.log())
    }

    /// Kills it as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("wait");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(stream: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut log = into.lock().expect("nobody panics with the log");
            log.push_str(&line);
            log.push('\n');
        }
    })
}

fn address_in(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
    Some(format!("http://{}", &rest[..end]))
}

/// Copies a directory of plain files.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copy");
    }
}
