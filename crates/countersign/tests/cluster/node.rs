//! The nodes: the real program, three times on one database.

use crate::{
    network::{Flow, Wire},
    room::{Process, Room},
};
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    time::{Duration, Instant},
};

/// How many nodes serve.
pub(crate) const NODES: usize = 3;

const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");
/// Limits that a single address with a load like ours would meet, switched off.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("COUNTERSIGN__LIMITS__PER_ADDRESS", "0"),
    ("COUNTERSIGN__LIMITS__PER_CLIENT", "0"),
    ("COUNTERSIGN__LIMITS__SIGN_INS", "0"),
    ("COUNTERSIGN__LIMITS__CONNECTIONS_PER_ADDRESS", "100000"),
    ("COUNTERSIGN__LOG__FORMAT", "json"),
    ("NO_COLOR", "1"),
];
/// How long a node may take to be ready, and to end. Far more than it needs, for machines under load.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a node finds its database, and the wires on the way there.
pub(crate) struct Upstream {
    /// As `store.url` says it.
    pub(crate) url: String,
    /// Whether replication is declared synchronous and strict.
    pub(crate) is_synchronous: bool,
    /// To each machine; none where nothing is cut.
    pub(crate) wires: Vec<Wire>,
}

/// One node.
pub(crate) struct Node {
    /// Its number, from 0.
    pub(crate) number: usize,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    clock: Clock,
    upstream: Upstream,
    settings: Vec<(String, String)>,
    http: Client,
    process: Option<Process>,
    /// Whether it was ready since it was last started.
    was_ready: bool,
}

/// The first client, as `countersign init --json` prints it.
#[derive(Clone, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Node {
    /// Prepares a node, which does not run yet. All nodes of a room have the same master key.
    pub(crate) fn new(room: &Room, number: usize, upstream: Upstream) -> Self {
        let folder = room.folder(&format!("node{}", number + 1));
        let key = room.folder("node1").join("data/master.key");
        let mut settings: Vec<(String, String)> =
            ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings.extend([
            ("COUNTERSIGN__STORE__URL".into(), upstream.url.clone()),
            ("COUNTERSIGN__STORE__SYNCHRONOUS".into(), upstream.is_synchronous.to_string()),
        ]);
        // The first one makes the key, where a node keeps it unless it is told otherwise.
        if number > 0 {
            settings.push(("COUNTERSIGN__KEYS__MASTER_KEY_FILE".into(), key.display().to_string()));
        }
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().expect("a client");
        let clock = Clock::right(&folder);
        Self {
            number,
            address: room.address(),
            folder,
            clock,
            upstream,
            settings,
            http,
            process: None,
            was_ready: false,
        }
    }

    /// Adds a setting.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Makes the installation: the first organisation, its first client, and the master key.
    pub(crate) fn init(&self) -> Credentials {
        #[derive(Deserialize)]
        struct Init {
            client: Credentials,
        }
        let output = self.run(&["init", "--json"]);
        assert!(output.status.success(), "init: {}", String::from_utf8_lossy(&output.stderr));
        let init: Init = serde_json::from_slice(&output.stdout).expect("the output of init --json");
        init.client
    }

    /// Proves the audit trail, also while nodes serve; returns what was said.
    pub(crate) fn verify_audit(&self) -> Result<String, String> {
        let output = self.run(&["audit", "verify", "--json"]);
        let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        match said.filter(|said| output.status.success() && said["holds"] == true) {
            Some(said) => Ok(said["report"].to_string()),
            None => Err(format!("{output:?}")),
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.current_dir(&self.folder).output().unwrap_or_else(|error| panic!("start {PROGRAM}: {error}"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COUNTERSIGN") {
                command.env_remove(name);
            }
        }
        command.args(arguments).arg("--data").arg(self.folder.join("data"));
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it.
    pub(crate) fn start(&mut self) {
        let mut command = self.command(&["serve", "--listen", &self.address.to_string()]);
        self.clock.lend_to(&mut command);
        self.process = Some(Process::start(command, &self.folder));
        self.was_ready = false;
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("a node that runs").kill();
    }

    /// Stops it as a service manager does.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.process.take().expect("a node that runs").terminate(PATIENCE).await
    }

    /// Sets its clock so many hours before or behind the others'.
    pub(crate) fn set_clock(&self, hours: i32) {
        self.clock.set(hours);
    }

    /// Sets what becomes of bytes between it and every database.
    pub(crate) fn set_wires(&self, flow: Flow) {
        self.upstream.wires.iter().for_each(|wire| wire.set(flow));
    }

    /// Tells whether it says that it is ready.
    pub(crate) async fn is_ready(&self) -> bool {
        let asked = self.http.get(format!("http://{}/readyz", self.address)).send().await;
        asked.is_ok_and(|answer| answer.status().as_u16() == 200)
    }

    /// Waits until it says that it is ready. One that gives up before, because it finds no database to start with, is started
    /// again, as a service manager does.
    pub(crate) async fn wait_until_ready(&mut self) {
        let begun = Instant::now();
        while !self.is_ready().await {
            if self.check().is_some() {
                self.start();
            }
            assert!(begun.elapsed() < PATIENCE, "node {} is not ready; {}", self.number, self.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.was_ready = true;
    }

    /// Tells how it ended, if it did. Fails if it had been ready: nobody told it to.
    fn check(&mut self) -> Option<ExitStatus> {
        let end = self.process.as_mut().and_then(Process::end)?;
        assert!(!self.was_ready, "node {} ended: {end:?}; {}", self.number, self.log_tail());
        Some(end)
    }

    fn log_tail(&self) -> String {
        self.process.as_ref().map_or_else(|| "it does not run".to_owned(), Process::log_tail)
    }
}

/// A clock that can be put wrong under a running node, by libfaketime.
struct Clock {
    /// Says how far it is off; read again for every look at the clock.
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    fn right(folder: &Path) -> Self {
        let clock = Self { file: folder.join("clock"), library: faketime() };
        clock.set(0);
        clock
    }

    fn set(&self, hours: i32) {
        // Put in place as a whole, because the node may be reading it.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{hours:+}h\n")).expect("write the clock's file");
        fs::rename(&new, &self.file).expect("set the clock");
    }

    fn lend_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            // Timeouts go on as they are: it is the wall clock that jumps.
            .env("DONT_FAKE_MONOTONIC", "1");
    }
}

/// Returns where the library is: in a folder named after the machine's architecture.
fn faketime() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| {
        let library = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    });
    libraries.last().expect("libfaketime is missing: run scripts/test, or apt-get install faketime")
}
