//! What pruning takes, and what it does to those who verify meanwhile.

use super::{AtLoad, grouped, in_short};
use crate::{machine::Machine, sample::Percentiles};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Everything a run of pruning found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PruningReport {
    pub(crate) machine: Machine,
    pub(crate) users: u64,
    /// Events in the trail before anything was pruned.
    pub(crate) events: u64,
    pub(crate) slice_seconds: u64,
    pub(crate) rounds: u64,
    pub(crate) client_threads: usize,
    /// The most events of one step.
    pub(crate) step_events: u64,
    /// From the beginning to the first step: as long as it takes to read what a checkpoint covers.
    pub(crate) check_seconds: f64,
    pub(crate) pruned_per_second: f64,
    /// How long a step took, without the rest after it.
    pub(crate) step_ms: Percentiles,
    pub(crate) alone: AtLoad,
    pub(crate) beside: AtLoad,
    /// What `countersign audit verify` said at the end.
    pub(crate) audit: String,
    pub(crate) unexpected_answers: usize,
}

impl fmt::Display for PruningReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, slice_seconds, rounds, client_threads, check_seconds, alone, beside, .. } = self;
        self.machine.fmt_lines(f)?;
        let (users, events) = (grouped(*users as f64), grouped(self.events as f64));
        writeln!(f, "load      {users} people, {events} events; {rounds} rounds of {slice_seconds} s each")?;
        writeln!(f, "client    {client_threads} thread(s) on the same cores\n")?;

        writeln!(f, "to the first step                 {check_seconds:.2} s")?;
        let step = format!("a step of up to {} events", self.step_events);
        writeln!(f, "{step:<33} {}", in_short(&self.step_ms))?;
        writeln!(f, "events pruned                     {}/s\n", grouped(self.pruned_per_second))?;
        writeln!(f, "without: {alone}")?;
        writeln!(f, "beside:  {beside}")?;
        writeln!(f, "\n{} answers not as expected; audit trail holds", self.unexpected_answers)
    }
}
