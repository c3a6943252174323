//! What a run found, for people and for programs.

mod nodes;
mod overload;
mod pruning;

pub(crate) use nodes::{ByNodes, NodesAtConnections, PostgresStore};
pub(crate) use overload::{Beyond, Flood, OverloadReport, Peak, Refusal, Side};
pub(crate) use pruning::PruningReport;

use crate::{
    machine::Machine,
    sample::{Percentiles, Spread},
};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, fs, path::Path, time::Duration};

/// Everything a run found. Times say their unit, memory is in MiB.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Absent where the store is within the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) postgres: Option<PostgresStore>,
    pub(crate) settings: Settings,
    pub(crate) start: Starts,
    pub(crate) memory: Memory,
    pub(crate) loading: Loading,
    pub(crate) lists: Lists,
    pub(crate) verification: Verification,
    /// Everything else that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) operations: Vec<OperationReport>,
    pub(crate) audit: Audit,
    pub(crate) unexpected_answers: usize,
}

/// How it was measured.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    pub(crate) users: u64,
    pub(crate) slice_seconds: u64,
    pub(crate) rounds: u64,
    pub(crate) client_threads: usize,
    /// What signing a code costs the client; done ahead, outside what is timed.
    pub(crate) signing_micros: f64,
}

/// From spawning the server to its first answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Starts {
    pub(crate) empty_ms: Spread,
    pub(crate) loaded_ms: Spread,
    /// With nothing of the data in memory; absent where we may not have it dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cold_ms: Option<Spread>,
}

/// The server's resident memory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    pub(crate) idle_empty: f64,
    pub(crate) idle_loaded: f64,
    /// While people were made through the API.
    pub(crate) peak_loading: f64,
    pub(crate) after_load: f64,
}

/// Creating people and importing a factor for each, through the API.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Loading {
    pub(crate) seconds: f64,
    pub(crate) people_per_second: f64,
    /// The rest, by the same use cases without HTTP; absent if the API made all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) inside: Option<Made>,
    pub(crate) data_bytes: u64,
    pub(crate) bytes_per_person: u64,
}

/// People who were made, and how fast.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    pub(crate) people: u64,
    pub(crate) seconds: f64,
    pub(crate) people_per_second: f64,
}

impl Made {
    /// Says how fast people were made.
    pub(crate) fn of(people: u64, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        Self { people, seconds, people_per_second: people as f64 / seconds }
    }
}

/// Pages of 50 people.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lists {
    pub(crate) first: Percentiles,
    /// Absent if the list is too short to be deep.
    pub(crate) deep: Option<Percentiles>,
    pub(crate) deep_after: u64,
}

/// What verifications cost.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verification {
    pub(crate) at_connections: Beside,
    pub(crate) at_half_load: AtLoad,
    /// Absent in what older runs found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_nine_tenths: Option<AtLoad>,
    /// At half load while the store is looked after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) beside_chores: Vec<BesideChore>,
    /// The same as at most connections, of some people only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) working_set: Option<WorkingSet>,
}

/// Verifications of some people only, scattered over all.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkingSet {
    pub(crate) people: u64,
    pub(crate) at_connections: AtConnections,
}

/// Verifications, with what they are compared with, for each number of connections.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Beside {
    Baseline(Vec<AtConnections>),
    Pgbench(Vec<NodesAtConnections>),
}

impl Beside {
    /// Returns how many verifications were timed.
    fn samples(&self) -> usize {
        match self {
            Self::Baseline(measured) => measured.iter().map(|at| at.latency_ms.samples).sum(),
            Self::Pgbench(measured) => {
                let by_all = measured.iter().flat_map(|at| [&at.one_node, &at.two_nodes]);
                by_all.map(|by| by.latency_ms.samples).sum()
            }
        }
    }
}

/// Verifications and the baseline beside them, each connection sending as soon as it has its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AtConnections {
    pub(crate) connections: usize,
    pub(crate) per_second: Spread,
    pub(crate) baseline_per_second: Spread,
    /// Verifications for each request to the baseline.
    pub(crate) ratio: Spread,
    /// The same ratio by the processor time of server and client: what disturbs us hardly changes it.
    pub(crate) cpu_ratio: Spread,
    pub(crate) latency_ms: Percentiles,
    pub(crate) baseline_latency_ms: Percentiles,
    pub(crate) server_cpu_micros: Spread,
    pub(crate) baseline_server_cpu_micros: Spread,
    pub(crate) client_cpu_micros: Spread,
    pub(crate) baseline_client_cpu_micros: Spread,
    /// The share of all cores that others took meanwhile.
    pub(crate) disturbance: Spread,
    pub(crate) peak_memory: f64,
    /// Codes, and other things, that had to be prepared inside a timed slice.
    pub(crate) prepared_late: usize,
}

/// Verifications at a share of the rate the server can do, each timed from when it was due.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AtLoad {
    pub(crate) share: f64,
    pub(crate) connections: usize,
    pub(crate) due_per_second: f64,
    pub(crate) per_second: Spread,
    /// Those that were due and not begun when the slice ended. They count as latencies until then.
    pub(crate) never_begun: usize,
    pub(crate) latency_ms: Percentiles,
}

/// The same while PostgreSQL does something it has to do now and then.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BesideChore {
    /// The statement that does it.
    pub(crate) chore: String,
    /// How often it was done.
    pub(crate) times: u64,
    pub(crate) at: AtLoad,
}

/// One kind of operation at each number of connections.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OperationReport {
    pub(crate) name: String,
    /// What an operation is, and of whom.
    pub(crate) what: String,
    pub(crate) at_connections: Vec<AtConnections>,
}

/// What `countersign audit verify` said at the end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Audit {
    pub(crate) seconds: f64,
    pub(crate) said: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_conditions(f)?;
        self.fmt_estate(f)?;
        self.fmt_verification(f)?;
        self.fmt_outcome(f)
    }
}

impl Report {
    fn fmt_conditions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { users, slice_seconds, rounds, client_threads, signing_micros } = &self.settings;
        self.machine.fmt_lines(f)?;
        writeln!(
            f,
            "load      {} people; {rounds} rounds of {slice_seconds} s each",
            grouped(*users as f64)
        )?;
        writeln!(
            f,
            "client    {client_threads} thread(s) on the same cores; a code takes {signing_micros:.2} µs, signed ahead"
        )?;
        if let Some(postgres) = &self.postgres {
            postgres.fmt(f)?;
        }
        writeln!(f)
    }

    fn fmt_estate(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Starts { empty_ms, loaded_ms, cold_ms } = &self.start;
        let Memory { idle_empty, idle_loaded, peak_loading, after_load } = &self.memory;
        let Loading { seconds, people_per_second, inside, data_bytes, bytes_per_person } = &self.loading;
        let Lists { first, deep, deep_after } = &self.lists;
        let mebibytes = *data_bytes as f64 / f64::from(1 << 20);

        writeln!(f, "start to first answer, empty      {} ms", with_range(empty_ms, 1))?;
        writeln!(f, "start to first answer, with all   {} ms", with_range(loaded_ms, 1))?;
        match cold_ms {
            Some(cold) => writeln!(f, "start to first answer, cold       {} ms", with_range(cold, 1))?,
            None => {
                writeln!(f, "start to first answer, cold       not measured: dropping caches takes root")?
            }
        }
        writeln!(f, "resident, idle and empty          {idle_empty:.1} MiB")?;
        writeln!(f, "resident, idle with all           {idle_loaded:.1} MiB")?;
        writeln!(f, "resident, at most while loading   {peak_loading:.1} MiB")?;
        writeln!(f, "resident, after all load          {after_load:.1} MiB")?;
        writeln!(
            f,
            "loading, with a factor each       {} people/s, {seconds:.1} s",
            grouped(*people_per_second)
        )?;
        if let Some(Made { people, seconds, people_per_second }) = inside {
            writeln!(
                f,
                "loading without HTTP              {} people/s, {seconds:.1} s for {}",
                grouped(*people_per_second),
                grouped(*people as f64)
            )?;
        }
        writeln!(
            f,
            "data on disk                      {mebibytes:.1} MiB, {bytes_per_person} bytes a person"
        )?;
        writeln!(f, "list page of 50, first            {}", in_short(first))?;
        if let Some(deep) = deep {
            writeln!(f, "list page of 50, after {:<10} {}", grouped(*deep_after as f64), in_short(deep))?;
        }
        writeln!(f)
    }

    fn fmt_verification(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verification.at_connections {
            Beside::Baseline(measured) => fmt_table(f, COLUMNS, measured.iter().map(AtConnections::row))?,
            Beside::Pgbench(measured) => nodes::fmt_nodes(f, measured)?,
        }
        let Verification { at_half_load, at_nine_tenths, beside_chores, working_set, .. } =
            &self.verification;
        if let Some(WorkingSet { people, at_connections }) = working_set {
            let people = grouped(*people as f64);
            writeln!(f, "\nof {people} people only, who are scattered over all:")?;
            fmt_table(f, COLUMNS, std::iter::once(at_connections.row()))?;
        }
        writeln!(f)?;
        for at in std::iter::once(at_half_load).chain(at_nine_tenths) {
            writeln!(f, "{at}")?;
        }
        for BesideChore { chore, times, at } in beside_chores {
            writeln!(f, "beside {times} times {chore}: {at}")?;
        }
        for operation in &self.operations {
            writeln!(f, "\n{}: {}", operation.name, operation.what)?;
            fmt_table(f, COLUMNS, operation.at_connections.iter().map(AtConnections::row))?;
        }
        Ok(())
    }

    fn fmt_outcome(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verification { at_connections, at_half_load, .. } = &self.verification;
        let verifications = at_connections.samples() + at_half_load.latency_ms.samples;
        writeln!(
            f,
            "{} verifications, {} answers not as expected",
            grouped(verifications as f64),
            self.unexpected_answers
        )?;
        writeln!(f, "audit trail holds ({:.1} s)", self.audit.seconds)
    }
}

impl fmt::Display for AtLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, latency) = (grouped(self.due_per_second), in_short(&self.latency_ms));
        write!(
            f,
            "at {:.1} of that load, {rate} verifications/s due over {} connections: {latency}, {} never begun",
            self.share, self.connections, self.never_begun
        )
    }
}

impl Machine {
    fn fmt_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, memory_mib, kernel, filesystem, sync_ms } = self;
        writeln!(f, "machine   {cores} cores of {processor}, {memory_mib} MiB, Linux {kernel}")?;
        writeln!(f, "disk      {filesystem}, {sync_ms:.2} ms to make 4 KiB durable")?;
        if self.is_in_memory() {
            writeln!(f, "          in memory: being durable costs nothing here, so the rates mean little")?;
        }
        Ok(())
    }
}

/// Writes a report as JSON.
pub(crate) fn write_json(path: &Path, report: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    fs::write(path, json).with_context(|| format!("write {}", path.display()))
}

/// The table's columns, each with the two lines above it.
const COLUMNS: [[&str; 2]; 12] = [
    ["connec-", "tions"],
    ["operations", "/s"],
    ["", "spread"],
    ["do-nothing", "/s"],
    ["", "ratio"],
    ["ratio", "by CPU"],
    ["p50", "ms"],
    ["p99", "ms"],
    ["server CPU", "µs each"],
    ["do-nothing", "µs each"],
    ["peak", "MiB"],
    ["CPU of", "others"],
];

impl AtConnections {
    fn row(&self) -> [String; COLUMNS.len()] {
        [
            self.connections.to_string(),
            grouped(self.per_second.median),
            range(&self.per_second, 0),
            grouped(self.baseline_per_second.median),
            with_range(&self.ratio, 2),
            format!("{:.2}", self.cpu_ratio.median),
            format!("{:.2}", self.latency_ms.p50),
            format!("{:.2}", self.latency_ms.p99),
            format!("{:.1}", self.server_cpu_micros.median),
            format!("{:.1}", self.baseline_server_cpu_micros.median),
            format!("{:.1}", self.peak_memory),
            format!("{:.0} %", 100.0 * self.disturbance.median),
        ]
    }
}

/// Writes rows below their columns' two lines, as wide as the widest of each.
fn fmt_table<const WIDTH: usize>(
    f: &mut fmt::Formatter<'_>,
    columns: [[&str; 2]; WIDTH],
    rows: impl Iterator<Item = [String; WIDTH]>,
) -> fmt::Result {
    let head = [0, 1].map(|line| columns.map(|column| column[line].to_owned()));
    let table: Vec<_> = head.into_iter().chain(rows).collect();
    for row in &table {
        for (column, cell) in row.iter().enumerate() {
            let width = table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            write!(f, "{}{cell:>width$}", if column == 0 { "" } else { "  " })?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn in_short(latency: &Percentiles) -> String {
    format!("p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms", latency.p50, latency.p99, latency.max)
}

/// Writes a median with its lowest and highest.
pub(crate) fn with_range(spread: &Spread, decimals: usize) -> String {
    format!("{:.decimals$} ({})", spread.median, range(spread, decimals))
}

/// Writes the lowest and the highest.
pub(crate) fn range(spread: &Spread, decimals: usize) -> String {
    if decimals == 0 {
        return format!("{}–{}", grouped(spread.min), grouped(spread.max));
    }
    format!("{:.decimals$}–{:.decimals$}", spread.min, spread.max)
}

/// Writes a whole number with a comma between thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(999.4), "999");
        assert_eq!(grouped(1_000.0), "1,000");
        assert_eq!(grouped(31_700_123.0), "31,700,123");
    }
}
