//! The server under test: the real binary, as a child of ours.

use crate::{
    client::{Connection, Credentials, json_request, request},
    cpu,
};
use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection as Database, OpenFlags};
use rustix::{
    fs::{Advice, fadvise},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;
use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

/// How long a server may take to answer first.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How often we look whether it answers, finer than what we report.
const POLL: Duration = Duration::from_micros(500);
/// What switches off the limits a single address would meet, and on the handler to compare with.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("COUNTERSIGN__LIMITS__PER_ADDRESS", "0"),
    ("COUNTERSIGN__LIMITS__PER_CLIENT", "0"),
    ("COUNTERSIGN__LIMITS__SIGN_INS", "0"),
    ("COUNTERSIGN__LIMITS__CONNECTIONS_PER_ADDRESS", "100000"),
    ("COUNTERSIGN__SERVER__BASELINE", "true"),
];

/// The data directory, in its room.
pub(crate) const DATA: &str = "data";
/// The embedded store, in it.
const DATABASE: &str = "countersign.db";
/// What `init` printed, beside it.
const INIT: &str = "init.json";

/// A binary and a data directory of its own.
#[derive(Clone)]
pub(crate) struct Installation {
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    pub(crate) credentials: Credentials,
}

impl Installation {
    /// Makes a data directory below `room`.
    pub(crate) async fn init(binary: &Path, room: &Path) -> Result<Self> {
        Self::init_in(binary, room, Vec::new()).await
    }

    /// Takes the installation that was made below `room` before.
    pub(crate) fn made_in(binary: &Path, room: &Path) -> Result<Self> {
        let credentials = Credentials::from_file(&room.join(INIT))?;
        Ok(Self::of(binary, room, Vec::new(), credentials))
    }

    /// Makes an installation whose people are in the PostgreSQL with a URL, and a data directory below `room` for the rest.
    pub(crate) async fn init_on(
        binary: &Path,
        room: &Path,
        store_url: &str,
        is_prepared: bool,
    ) -> Result<Self> {
        let environment = [
            ("STORE__URL", store_url),
            ("STORE__PREPARED_STATEMENTS", if is_prepared { "true" } else { "false" }),
            // Nodes take each other's tokens: they are one issuer.
            ("TOKENS__ISSUER", "http://countersign.bench"),
        ];
        let environment = environment.map(|(name, value)| (format!("COUNTERSIGN__{name}"), value.to_owned()));
        Self::init_in(binary, room, environment.into()).await
    }

    async fn init_in(binary: &Path, room: &Path, environment: Vec<(String, String)>) -> Result<Self> {
        let data = room.join(DATA);
        let output = command(binary, &["init", "--json"], &data, &environment)
            .output()
            .await
            .with_context(|| format!("run {} init", binary.display()))?;
        ensure!(output.status.success(), "init: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        fs::write(room.join(INIT), &output.stdout)?;
        Ok(Self::of(binary, room, environment, Credentials::from_init(&output.stdout)?))
    }

    fn of(binary: &Path, room: &Path, environment: Vec<(String, String)>, credentials: Credentials) -> Self {
        Self {
            binary: binary.to_owned(),
            data: room.join(DATA),
            log: room.join("server.log"),
            environment,
            credentials,
        }
    }

    /// Returns the same installation as a second machine has it: a data directory of its own, and the same master key.
    pub(crate) fn second_node(&self) -> Self {
        let master_key = self.data.join("master.key").to_string_lossy().into_owned();
        let mut environment = self.environment.clone();
        environment.push(("COUNTERSIGN__KEYS__MASTER_KEY_FILE".to_owned(), master_key));
        Self {
            binary: self.binary.clone(),
            data: self.data.with_file_name("data-of-second"),
            log: self.log.clone(),
            environment,
            credentials: self.credentials.clone(),
        }
    }

    /// Returns the same installation with the limits a server has unless told otherwise, but for that on sign-ins: we get many
    /// tokens from one address.
    pub(crate) fn with_usual_limits(&self) -> Self {
        let limits = [("PER_ADDRESS", "2000"), ("PER_CLIENT", "5000"), ("CONNECTIONS_PER_ADDRESS", "1000")];
        let limits = limits.map(|(name, value)| (format!("COUNTERSIGN__LIMITS__{name}"), value.to_owned()));
        self.clone().with_environment(limits.into())
    }

    /// Says more to each server that is started.
    pub(crate) fn with_environment(mut self, environment: Vec<(String, String)>) -> Self {
        self.environment.extend(environment);
        self
    }

    /// Starts the server; returns it with the time from spawning it to its first answer.
    pub(crate) async fn start(&self) -> Result<(Server, Duration)> {
        self.launch(&self.binary, &[]).await
    }

    /// Starts the server by another program, whose name and arguments come before the server's.
    pub(crate) async fn start_under(&self, starter: &[String]) -> Result<Server> {
        let (program, arguments) = starter.split_first().context("nothing to start the server by")?;
        let binary = self.binary.to_string_lossy();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain([&*binary]).collect();
        Ok(self.launch(Path::new(program), &arguments).await?.0)
    }

    async fn launch(&self, program: &Path, before: &[&str]) -> Result<(Server, Duration)> {
        let address = free_address()?;
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let listen = address.to_string();
        let arguments = [before, &["serve", "--listen", &listen]].concat();
        let mut command = command(program, &arguments, &self.data, &self.environment);
        command.stdout(log.try_clone()?).stderr(log);

        let spawned = Instant::now();
        let child = command.spawn().with_context(|| format!("run {}", program.display()))?;
        let pid = child.id().context("the server has no process id")?;
        let mut server = Server { child, pid, address };
        match timeout(START_LIMIT, server.first_answer()).await {
            Ok(Ok(())) => Ok((server, spawned.elapsed())),
            Ok(Err(error)) => Err(error.context(self.log_tail())),
            Err(_) => bail!("the server did not answer within {START_LIMIT:?}; {}", self.log_tail()),
        }
    }

    /// Checks the audit trail; the server must not run.
    pub(crate) async fn audit_verify(&self) -> Result<String> {
        let output =
            command(&self.binary, &["audit", "verify"], &self.data, &self.environment).output().await?;
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        ensure!(
            output.status.success(),
            "audit verify does not hold: {said} {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(said)
    }

    /// Returns the data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Reads the embedded database once, and last what verifications read of it: as much of that as fits is in memory then, as
    /// with a server that has run for a while.
    ///
    /// Page by page, as a server reads it: what the kernel reads ahead it keeps in pieces of megabytes, and a write to a page
    /// of such a piece costs it a look at each page of the piece.
    pub(crate) fn warm(&self) -> Result<()> {
        let path = self.data.join(DATABASE);
        let pages = pages_of_people(&path).context("find the pages of people")?;
        let mut file = fs::File::open(&path).context("read the database")?;
        let mut piece = vec![0; 4 << 20];
        let mut read = || {
            fadvise(&file, 0, None, Advice::DontNeed)?;
            fadvise(&file, 0, None, Advice::Random)?;
            while file.read(&mut piece)? > 0 {}
            pages.iter().try_for_each(|page| file.read_exact_at(&mut piece[..page.bytes], page.offset))
        };
        read().context("read the database")
    }

    /// Returns how many events the embedded store's audit trail has. No server runs.
    pub(crate) fn trail_length(&self) -> Result<u64> {
        // Rows go at the beginning only, so there are no gaps.
        let query = "SELECT coalesce(max(row) - min(row) + 1, 0) FROM audit";
        let length = at_rest(&self.data.join(DATABASE))?.query_row(query, [], |row| row.get::<_, i64>(0));
        Ok(u64::try_from(length.context("count events")?)?)
    }

    /// Returns the bytes the data directory takes.
    pub(crate) fn data_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.data)? {
            bytes += entry?.metadata()?.len();
        }
        Ok(bytes)
    }

    /// Returns the end of what the server logged.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(2000)..];
        format!("the end of its log:\n{}", String::from_utf8_lossy(tail))
    }
}

/// Opens a database that nobody changes: there is no log.
fn at_rest(database: &Path) -> Result<Database> {
    let unchanged = format!("file:{}?immutable=1", database.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Database::open_with_flags(unchanged, flags).context("open the database")
}

/// A page of a database, where it is in the file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PageAt {
    offset: u64,
    bytes: usize,
}

/// Returns the pages that hold people and the index of their ids, in the order of the file. No server runs.
fn pages_of_people(database: &Path) -> Result<Vec<PageAt>> {
    let database = at_rest(database)?;
    let mut statement = database.prepare("SELECT pgoffset, pgsize FROM dbstat WHERE name = ?1")?;
    let mut pages = Vec::new();
    for tree in ["users", "users_id"] {
        for page in statement.query_map([tree], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))? {
            let (offset, bytes) = page?;
            pages.push(PageAt { offset: u64::try_from(offset)?, bytes: usize::try_from(bytes)? });
        }
    }
    pages.sort_unstable();
    Ok(pages)
}

/// Prepares a call of the binary. The child dies with us, whatever happens to us short of SIGKILL.
fn command(binary: &Path, arguments: &[&str], data: &Path, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments).arg("--data").arg(data).envs(ENVIRONMENT).stdin(Stdio::null()).kill_on_drop(true);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Asks the system for a port nobody uses.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Waits until the server answers.
    async fn first_answer(&mut self) -> Result<()> {
        let request = request("GET", "/healthz", "", None);
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}");
            }
            if let Ok(mut connection) = Connection::open(self.address).await
                && connection.exchange(&request).await.is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }

    /// Stops the server as an operator would.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid =
            i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("the server has no process id")?;
        // Not reaped yet, so the id is still its own.
        kill_process(pid, Signal::TERM).context("ask the server to stop")?;
        let status = timeout(STOP_LIMIT, self.child.wait())
            .await
            .with_context(|| format!("the server did not stop within {STOP_LIMIT:?}"))??;
        ensure!(status.success(), "the server stopped with {status}");
        Ok(())
    }

    /// Kills the server, without a chance to put anything in order.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill the server")
    }

    /// Changes some of the policy of the first organisation.
    pub(crate) async fn change_policy(&self, authorization: &str, patch: &Value) -> Result<()> {
        let mut connection = Connection::open(self.address).await?;
        let patch = json_request("PATCH", "/v1/organisations/self/policy", authorization, patch);
        connection.json(&patch, 200).await.map(drop)
    }

    /// Returns the processor time the server used so far, in steps of 10 ms.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu::of_process(&self.pid.to_string())
    }

    /// Returns what the server committed since it was started.
    pub(crate) async fn commits(&self) -> Result<Commits> {
        let mut connection = Connection::open(self.address).await?;
        let answer = connection.exchange(&request("GET", "/metrics", "", None)).await?;
        Commits::of(&String::from_utf8_lossy(answer.body)).context("read the server's metrics")
    }

    /// Returns what is resident now and what was at most, in MiB.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid)).context("read the server's status")?;
        let of = |name| mebibytes_of(&status, name).with_context(|| format!("read {name}"));
        Ok(Memory { now: of("VmRSS:")?, peak: of("VmHWM:")? })
    }

    /// Forgets the peak, so that the next one is of what comes now.
    pub(crate) fn reset_peak(&self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5").context("reset the server's peak memory")
    }

    /// Waits until the server rests.
    pub(crate) async fn settle(&self) -> Result<()> {
        cpu::settled(|| self.cpu()).await
    }
}

/// Durable commits, and the changes that shared them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Commits {
    pub(crate) commits: u64,
    pub(crate) changes: u64,
}

impl Commits {
    /// Reads them from what `/metrics` answers.
    fn of(metrics: &str) -> Option<Self> {
        let value = |name: &str| {
            metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        };
        Some(Self {
            commits: value("countersign_store_commits")?,
            changes: value("countersign_store_changes")?,
        })
    }
}

/// Resident memory in MiB.
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) peak: f64,
}

/// Returns a value of `/proc/PID/status`, which are in KiB.
fn mebibytes_of(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_read_from_the_metrics() {
        let metrics = "# TYPE countersign_store_commits gauge\ncountersign_store_commits 3\ncountersign_store_changes 40\n";

        assert_eq!(Commits::of(metrics), Some(Commits { commits: 3, changes: 40 }));
    }

    #[test]
    fn the_pages_of_people_are_those_of_their_table_and_of_the_index_of_their_ids() {
        let room = tempfile::tempdir().expect("a folder");
        let path = room.path().join("of one.db");
        let tables =
            "CREATE TABLE audit (body); CREATE TABLE users (id); CREATE UNIQUE INDEX users_id ON users (id);
            INSERT INTO audit VALUES (zeroblob(20000)); INSERT INTO users VALUES (zeroblob(5000))";
        Database::open(&path).expect("open").execute_batch(tables).expect("make");

        let pages = pages_of_people(&path).expect("read");

        // The first page lists the tables; a row, and so its entry in the index, takes a page and the rest of it another.
        assert_eq!(pages, [2, 3, 8, 9].map(|before| PageAt { offset: before * 4096, bytes: 4096 }));
    }

    #[test]
    fn memory_is_read_in_mebibytes() {
        assert_eq!(mebibytes_of("VmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n", "VmRSS:"), Some(10.0));
    }
}
