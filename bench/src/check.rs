//! Counts the instructions of a verification: a figure that stays the same whatever else the machine does, and so can
//! guard the path against growing.
//!
//! The server runs under callgrind, which counts what the program executes and not what the kernel does for it.

use crate::{
    client::{Connection, json_request},
    estate::{self, Share},
    ground::Ground,
    server::{Installation, Server},
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::process::Command;

/// People: enough that each connection has some of its own.
const PEOPLE: u64 = 1024;
/// How many connections are crowded: the number the goals are given for.
const CROWD: usize = 64;
/// Verifications counted on each connection of a crowd.
const CROWDED: usize = 50;
/// Verifications counted on a connection alone.
const ALONE: usize = 500;
/// Verifications before those that count: caches fill, and what is prepared once is prepared.
const WARM_UP: usize = 3;
/// How much more than recorded is too much, in percent.
const TOLERANCE: u64 = 10;

/// Where the record is, and whether it is to be written anew.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    ground: Ground,
    /// The record.
    #[arg(long, value_name = "FILE", default_value = "bench/instructions.json")]
    file: PathBuf,
    /// Writes the record instead of comparing with it.
    #[arg(long)]
    record: bool,
    /// Keeps callgrind's own output in this directory, for callgrind_annotate.
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
}

/// Instructions for each verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Instructions {
    /// One after the other: each has a commit of its own.
    alone: u64,
    /// Over many connections: they share commits.
    crowded: u64,
}

impl Instructions {
    /// Returns what has grown too much since `before`, and by which share.
    fn excess(&self, before: &Self) -> Option<String> {
        let figures = [("alone", self.alone, before.alone), ("crowded", self.crowded, before.crowded)];
        let grown = figures.into_iter().filter_map(|(name, now, before)| {
            let growth = (now as f64 / before as f64 - 1.0) * 100.0;
            let is_too_much = now * 100 > before * (100 + TOLERANCE);
            is_too_much.then(|| format!("{name}: {now}, {growth:.1} % more than {before}"))
        });
        grown.reduce(|all, one| format!("{all}; {one}"))
    }
}

/// Counts, prints, and compares with the record or writes it.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let found = Command::new("valgrind").arg("--version").output().await;
    ensure!(found.is_ok(), "callgrind is missing: install Debian's package valgrind");
    let room = options.ground.room()?;
    let profiles = options.profile.as_deref().unwrap_or(room.path());
    let installation = Installation::init(&options.ground.server, room.path()).await?;
    let counted = count(&installation, profiles).await.with_context(|| installation.log_tail())?;

    println!("instructions of a verification: {} alone, {} crowded", counted.alone, counted.crowded);
    if options.record {
        return write(&options.file, counted);
    }
    let recorded = read(&options.file)?;
    match counted.excess(&recorded) {
        None => {
            println!("recorded: {} alone, {} crowded; not grown", recorded.alone, recorded.crowded);
            Ok(())
        }
        Some(excess) => bail!(
            "the path of a verification has grown: {excess}. Find out why, or record it on purpose: scripts/bench --check --record"
        ),
    }
}

fn read(file: &Path) -> Result<Instructions> {
    let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}

fn write(file: &Path, counted: Instructions) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(&counted)?;
    text.push(b'\n');
    fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    println!("recorded in {}", file.display());
    Ok(())
}

async fn count(installation: &Installation, profiles: &Path) -> Result<Instructions> {
    let (server, _) = installation.start().await?;
    let (people, _) = estate::load(server.address, &installation.credentials, 0..PEOPLE, CROWD).await?;
    let people = Arc::new(people);
    server.stop().await?;

    let output = profiles.join("callgrind.out");
    let server = installation.start_under(&callgrind(&output)).await?;
    let authorization = installation.credentials.bearer(server.address).await?;
    monitor(&server, "instrumentation on").await?;
    let mut counted = Vec::new();
    for (connections, each) in [(1, ALONE), (CROWD, CROWDED)] {
        let shares = Share::deal(&people, people.len(), connections);
        let lanes = verify(connect(&server, shares).await?, &authorization, WARM_UP).await?;
        monitor(&server, "zero").await?;
        verify(lanes, &authorization, each).await?;
        monitor(&server, "dump").await?;
        let dump = PathBuf::from(format!("{}.{}", output.display(), counted.len() + 1));
        counted.push(total(&dump)? / (connections * each) as u64);
    }
    server.stop().await?;
    Ok(Instructions { alone: counted[0], crowded: counted[1] })
}

/// What the server is started by.
fn callgrind(output: &Path) -> Vec<String> {
    let output = format!("--callgrind-out-file={}", output.display());
    // Nothing is counted before we say so: a start is another matter.
    ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet", &output].map(str::to_owned).into()
}

/// Tells callgrind something.
async fn monitor(server: &Server, command: &str) -> Result<()> {
    let pid = format!("--pid={}", server.pid);
    let output = Command::new("vgdb").arg(pid).args(command.split(' ')).output().await.context("run vgdb")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "vgdb {command}: {}", said.trim_end());
    Ok(())
}

/// Reads the sum of what a dump counted.
fn total(dump: &Path) -> Result<u64> {
    let text = fs::read_to_string(dump).with_context(|| format!("read {}", dump.display()))?;
    total_of(&text).with_context(|| format!("read {}: it has no total", dump.display()))
}

fn total_of(dump: &str) -> Option<u64> {
    dump.lines().rev().find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok())
}

async fn connect(server: &Server, shares: Vec<Share>) -> Result<Vec<(Connection, Share)>> {
    let mut connected = Vec::new();
    for share in shares {
        connected.push((Connection::open(server.address).await?, share));
    }
    Ok(connected)
}

/// Verifies `each` times on each connection, the people of a connection in turn.
async fn verify(
    lanes: Vec<(Connection, Share)>,
    authorization: &str,
    each: usize,
) -> Result<Vec<(Connection, Share)>> {
    let tasks: Vec<_> = lanes
        .into_iter()
        .map(|(mut connection, mut share)| {
            let authorization = authorization.to_owned();
            tokio::spawn(async move {
                for _ in 0..each {
                    let person = share.next();
                    let code = share.estate.next_code(person);
                    let code = std::str::from_utf8(&code)?;
                    let body = json!({ "user": share.estate.id(person).to_string(), "code": code });
                    let request = json_request("POST", "/v1/verify", &authorization, &body);
                    let answer = connection.json(&request, 200).await?;
                    ensure!(answer["result"] == "accepted", "verify: {answer}");
                }
                Ok((connection, share))
            })
        })
        .collect();
    let mut back = Vec::new();
    for task in tasks {
        back.push(task.await??);
    }
    Ok(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_by_more_than_a_tenth_is_named() {
        let before = Instructions { alone: 100_000, crowded: 50_000 };

        assert_eq!(Instructions { alone: 109_000, crowded: 55_000 }.excess(&before), None);
        assert_eq!(Instructions { alone: 20_000, crowded: 30_000 }.excess(&before), None);
        let excess = Instructions { alone: 111_000, crowded: 50_000 }.excess(&before);
        assert_eq!(excess.as_deref(), Some("alone: 111000, 11.0 % more than 100000"));
    }

    #[test]
    fn the_total_of_a_dump_is_read() {
        assert_eq!(total_of("events: Ir\nfn=(1) main\n1 20\ntotals: 1234\n"), Some(1234));
        assert_eq!(total_of("events: Ir\n"), None);
    }
}
