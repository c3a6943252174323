//! What came of more load than can be carried, and of floods.

use super::{fmt_table, grouped, in_short, range, with_range};
use crate::{
    machine::Machine,
    sample::{Percentiles, Spread},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Everything a run of overload found. Memory is in MiB.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OverloadReport {
    pub(crate) machine: Machine,
    pub(crate) users: u64,
    pub(crate) slice_seconds: u64,
    pub(crate) rounds: u64,
    pub(crate) client_threads: usize,
    pub(crate) peak: Peak,
    pub(crate) beyond: Beyond,
    pub(crate) floods: Vec<Flood>,
    /// What `countersign audit verify` said at the end.
    pub(crate) audit: String,
    pub(crate) unexpected_answers: usize,
}

/// The most that was answered while each connection sent as soon as it had its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peak {
    pub(crate) connections: usize,
    pub(crate) per_second: Spread,
    pub(crate) latency_ms: Percentiles,
    pub(crate) peak_memory: f64,
}

/// What was answered when more was sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Beyond {
    /// How many times the peak of the same round was due.
    pub(crate) times: f64,
    pub(crate) connections: usize,
    pub(crate) due_per_second: Spread,
    /// Right answers a second.
    pub(crate) goodput: Spread,
    /// Of the peak of the same round.
    pub(crate) ratio: Spread,
    pub(crate) side: Side,
    pub(crate) peak_memory: f64,
}

/// A flood, and the others beside it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Flood {
    pub(crate) what: String,
    /// What the others send.
    pub(crate) due_per_second: f64,
    /// The others' goodput beside the flood, of that without.
    pub(crate) ratio: Spread,
    pub(crate) alone: Side,
    pub(crate) beside: Side,
    pub(crate) flood: Side,
}

/// What somebody was answered. Latencies count from when a request was due, those of refusals from when it was sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Side {
    pub(crate) per_second: Spread,
    pub(crate) latency_ms: Percentiles,
    pub(crate) refused: Vec<Refusal>,
    /// Connections that were closed on us, or not taken.
    pub(crate) broken: usize,
    pub(crate) never_begun: usize,
}

/// Requests the server said it was too busy for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) per_second: f64,
    pub(crate) latency_ms: Percentiles,
}

impl Side {
    /// Says how much was refused, and how quickly.
    pub(crate) fn refusals(&self) -> String {
        let refusal = |refusal: &Refusal| {
            let Refusal { status, per_second, latency_ms } = refusal;
            let (p50, p99) = (latency_ms.p50, latency_ms.p99);
            format!("{status}: {}/s, p50 {p50:.1} ms, p99 {p99:.1} ms", grouped(*per_second))
        };
        match self.refused.as_slice() {
            [] => "none".to_owned(),
            refused => refused.iter().map(refusal).collect::<Vec<_>>().join("; "),
        }
    }
}

/// The columns of the floods, each with the two lines above it.
const COLUMNS: [[&str; 2]; 7] = [
    ["", "flood"],
    ["others", "/s"],
    ["beside", "/s"],
    ["", "ratio"],
    ["p99", "ms"],
    ["beside", "ms"],
    ["flood", "answers/s"],
];

impl fmt::Display for OverloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, slice_seconds, rounds, client_threads, peak, beyond, .. } = self;
        self.machine.fmt_lines(f)?;
        let users = grouped(*users as f64);
        writeln!(f, "load      {users} people; {rounds} rounds of {slice_seconds} s each")?;
        writeln!(f, "client    {client_threads} thread(s) on the same cores\n")?;

        let (rate, spread) = (grouped(peak.per_second.median), range(&peak.per_second, 0));
        writeln!(f, "peak over {} connections: {rate}/s ({spread})", peak.connections)?;
        writeln!(f, "          {}, {:.1} MiB", in_short(&peak.latency_ms), peak.peak_memory)?;
        let due = grouped(beyond.due_per_second.median);
        writeln!(f, "{:.1} times that, {due}/s due, over {} connections:", beyond.times, beyond.connections)?;
        let (rate, spread) = (grouped(beyond.goodput.median), range(&beyond.goodput, 0));
        writeln!(f, "          goodput {rate}/s ({spread}), {} of the peak", with_range(&beyond.ratio, 2))?;
        writeln!(f, "          accepted {}", in_short(&beyond.side.latency_ms))?;
        writeln!(f, "          refused {}", beyond.side.refusals())?;
        writeln!(
            f,
            "          {} connections closed, {} never begun, {:.1} MiB\n",
            beyond.side.broken, beyond.side.never_begun, beyond.peak_memory
        )?;
        fmt_table(f, COLUMNS, self.floods.iter().map(Flood::row))?;
        for flood in &self.floods {
            writeln!(f, "{}: refused {}", flood.what, flood.flood.refusals())?;
            writeln!(f, "    of the others: {}", flood.beside.refusals())?;
        }
        writeln!(f, "\n{} answers not as expected; audit trail holds", self.unexpected_answers)
    }
}

impl Flood {
    fn row(&self) -> [String; COLUMNS.len()] {
        [
            self.what.clone(),
            grouped(self.alone.per_second.median),
            grouped(self.beside.per_second.median),
            with_range(&self.ratio, 2),
            format!("{:.1}", self.alone.latency_ms.p99),
            format!("{:.1}", self.beside.latency_ms.p99),
            grouped(self.flood.per_second.median),
        ]
    }
}
