//! A PostgreSQL of our own, on the disk that is measured. It goes away with us, however we end.

use crate::cpu;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

/// The database the server under test works on.
const DATABASE: &str = "countersign";
/// Memory for a database of some size; no checkpoint but those we ask for, because each makes the writes after it dearer, and
/// would hit one side of a comparison; and files for what is written ahead that are there already and are written again.
pub(crate) const SETTINGS: [&str; 4] =
    ["shared_buffers=512MB", "min_wal_size=2GB", "max_wal_size=8GB", "checkpoint_timeout=30min"];
/// What is written ahead once before anything is measured, in MiB: as much as is kept for writing again.
const SEASONING: u32 = 2048;
/// How long it may take to start, and to stop and to remove what it wrote.
const LIMIT: Duration = Duration::from_secs(120);

/// A PostgreSQL that runs.
pub(crate) struct Postgres {
    script: Child,
    /// The script stops everything when this end is closed.
    lifeline: ChildStdin,
    /// The script's process: the pool's parent.
    script_pid: u32,
    /// The parent of all processes of the server.
    postmaster: u32,
    direct: String,
    pooled: Option<String>,
}

impl Postgres {
    /// Starts one below `directory`, with a pool of transactions before it if asked for.
    pub(crate) async fn start(script: &Path, directory: &Path, is_pooled: bool) -> Result<Self> {
        let mut command = Command::new(script);
        if is_pooled {
            command.arg("--pgbouncer");
        }
        command.args(SETTINGS).env("TMPDIR", directory.canonicalize()?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().with_context(|| format!("run {}", script.display()))?;
        let lifeline = script.stdin.take().context("the script has no input")?;
        let script_pid = script.id().context("the script has no process id")?;
        let said = BufReader::new(script.stdout.take().context("the script has no output")?);

        let said = timeout(LIMIT, until_ready(said)).await.context("PostgreSQL did not start in time")??;
        let value = |name: &str| {
            said.iter().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
        };
        let folder = value("folder").context("the script did not say where the data is")?;
        Ok(Self {
            script,
            lifeline,
            script_pid,
            postmaster: postmaster_of(Path::new(&folder))?,
            direct: value("direct").context("the script did not say where PostgreSQL is")?,
            pooled: value("pooled"),
        })
    }

    /// Returns the URL the server under test is given.
    pub(crate) fn url(&self) -> &str {
        self.pooled.as_deref().unwrap_or(&self.direct)
    }

    /// Tells whether a pool of transactions is before it.
    pub(crate) const fn is_pooled(&self) -> bool {
        self.pooled.is_some()
    }

    /// Tells whether the servers under test may prepare statements: not where each may reach another connection.
    pub(crate) const fn is_prepared(&self) -> bool {
        !self.is_pooled()
    }

    /// Returns the URL of a database, not through the pool.
    pub(crate) fn url_of(&self, database: &str) -> String {
        let server = self.direct.strip_suffix(DATABASE).unwrap_or(&self.direct);
        format!("{server}{database}")
    }

    /// Returns the processor time that all its processes used so far, and those of the pool.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(cpu::of_family(self.postmaster)? + cpu::of_family(self.script_pid)?)
    }

    /// Returns the bytes the database takes.
    pub(crate) async fn data_bytes(&self) -> Result<u64> {
        let bytes = self.sql(DATABASE, &format!("SELECT pg_database_size('{DATABASE}')")).await?;
        bytes.parse().with_context(|| format!("read a size: {bytes}"))
    }

    /// Returns the version it says it is.
    pub(crate) async fn version(&self) -> Result<String> {
        self.sql(DATABASE, "SHOW server_version").await
    }

    /// Makes a copy of the database, on which nobody may be at work.
    pub(crate) async fn copy_to(&self, database: &str) -> Result<()> {
        // A pool keeps its connections when the server has gone.
        let alone =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}'");
        self.sql("postgres", &alone).await?;
        self.sql("postgres", &format!("CREATE DATABASE {database} TEMPLATE {DATABASE}")).await?;
        Ok(())
    }

    /// Does a chore in the database the servers work on, again and again, until something breaks; counts how often.
    pub(crate) async fn repeat(&self, chore: &str, times: &AtomicU64) -> anyhow::Error {
        loop {
            if let Err(error) = self.sql(DATABASE, chore).await {
                return error;
            }
            times.fetch_add(1, Relaxed);
        }
    }

    /// Brings what was written ahead into the tables, and makes the files that held it ready to be written again.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        self.sql(DATABASE, "CHECKPOINT").await.map(drop)
    }

    /// Writes ahead until there are files enough. Making one costs more than writing one again, and a database that has been at
    /// work for a while writes them again.
    pub(crate) async fn season(&self) -> Result<()> {
        let write = "pg_logical_emit_message(false, 'bench', repeat('x', 1048576))";
        let write = format!("SELECT count({write}) FROM generate_series(1, {SEASONING})");
        self.sql(DATABASE, &write).await?;
        self.checkpoint().await
    }

    /// Runs a statement; returns what it gives, columns separated by `|`.
    pub(crate) async fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let output = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"])
            .args(["--command", statement, &self.url_of(database)])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("run psql; on Debian: sudo apt-get install postgresql-client")?;
        ensure!(
            output.status.success(),
            "{statement}: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Stops it and waits until nothing is left.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.lifeline);
        timeout(LIMIT, self.script.wait()).await.context("PostgreSQL did not stop in time")??;
        Ok(())
    }
}

/// Reads what the script says until it says that all is ready.
async fn until_ready(said: BufReader<tokio::process::ChildStdout>) -> Result<Vec<String>> {
    let mut lines = said.lines();
    let mut told = Vec::new();
    while let Some(line) = lines.next_line().await? {
        if line == "ready" {
            return Ok(told);
        }
        told.push(line);
    }
    anyhow::bail!("PostgreSQL did not start; what the script said is above")
}

/// Returns the process all others of the server are children of.
fn postmaster_of(folder: &Path) -> Result<u32> {
    let path = folder.join("data/postmaster.pid");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let pid = text.lines().next().and_then(|line| line.parse().ok());
    pid.with_context(|| format!("read {}", path.display()))
}
