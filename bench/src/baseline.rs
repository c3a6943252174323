//! Operations beside a handler that reads the body of a verification and does nothing.

use crate::{
    drive::Pace,
    measured::{Bench, FIRST_GUESS, Measured, Target, latencies, spread},
    report::{AtConnections, Beside, Verification, WorkingSet},
    sample::Spread,
    server::Server,
    work::{AnyWork, Baseline},
};
use anyhow::{Context, Result};

/// The part of everybody that people are taken from when only some are about.
const WORKING_SET: f64 = 0.1;

impl Bench<'_> {
    /// Measures verifications at each number of connections, of everybody and of some; and at parts of what the most of them
    /// reached.
    pub(crate) async fn beside_baseline(
        &mut self,
        server: &Server,
        connections: &[usize],
    ) -> Result<Verification> {
        let target = Target::embedded(server);
        let mut measured = Vec::new();
        for &connections in connections {
            eprintln!("verifying over {connections} connections");
            server.reset_peak()?;
            let works = self.verifications(connections, self.estate.len());
            let (at, _) = self.interleaved(target, connections, works, FIRST_GUESS).await?;
            measured.push(at);
        }
        let most = measured.iter().max_by_key(|at| at.connections).context("no load was measured")?;
        let (connections, reached) = (most.connections, most.per_second.clone());

        let people = ((self.estate.len() as f64 * WORKING_SET) as usize).max(connections);
        eprintln!("verifying over {connections} connections, {people} people only");
        let works = self.verifications(connections, people);
        let (at, _) = self.interleaved(target, connections, works, FIRST_GUESS).await?;
        Ok(Verification {
            at_half_load: self.at_load(target, connections, &reached, 0.5).await?,
            at_nine_tenths: Some(self.at_load(target, connections, &reached, 0.9).await?),
            beside_chores: Vec::new(),
            working_set: Some(WorkingSet { people: people as u64, at_connections: at }),
            at_connections: Beside::Baseline(measured),
        })
    }

    /// Interleaves slices of an operation and of the handler that does nothing, so that what disturbs one disturbs the other.
    pub(crate) async fn interleaved(
        &mut self,
        target: Target<'_>,
        connections: usize,
        mut works: Vec<AnyWork>,
        mut guess: f64,
    ) -> Result<(AtConnections, Vec<AnyWork>)> {
        let mut rounds = Vec::new();
        let mut nothing = Baseline::works(connections);
        for _ in 0..self.rounds {
            let (baseline, back) = self.slice(target, nothing, Pace::Closed, 0.0).await?;
            nothing = back;
            let (operation, back) = self.slice(target, works, Pace::Closed, guess).await?;
            works = back;
            guess = guess.max(operation.slice.rate());
            rounds.push((baseline, operation));
        }
        Ok((summary(connections, rounds, target.peak_memory()?), works))
    }
}

fn summary(connections: usize, rounds: Vec<(Measured, Measured)>, peak_memory: f64) -> AtConnections {
    let ratio = |(baseline, operation): &(Measured, Measured)| operation.slice.rate() / baseline.slice.rate();
    let ratio = Spread::of(rounds.iter().map(ratio));
    let cpu_ratio = |(baseline, operation): &(Measured, Measured)| baseline.micros() / operation.micros();
    let cpu_ratio = Spread::of(rounds.iter().map(cpu_ratio));
    let (baseline, operation): (Vec<Measured>, Vec<Measured>) = rounds.into_iter().unzip();
    AtConnections {
        connections,
        per_second: spread(&operation, |measured| measured.slice.rate()),
        baseline_per_second: spread(&baseline, |measured| measured.slice.rate()),
        ratio,
        cpu_ratio,
        server_cpu_micros: spread(&operation, Measured::server_micros),
        baseline_server_cpu_micros: spread(&baseline, Measured::server_micros),
        client_cpu_micros: spread(&operation, Measured::client_micros),
        baseline_client_cpu_micros: spread(&baseline, Measured::client_micros),
        disturbance: Spread::of(baseline.iter().chain(&operation).map(|measured| measured.disturbance)),
        peak_memory,
        prepared_late: operation.iter().map(|measured| measured.slice.prepared_late).sum(),
        latency_ms: latencies(operation).percentiles(),
        baseline_latency_ms: latencies(baseline).percentiles(),
    }
}
