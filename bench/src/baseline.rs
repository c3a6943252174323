//! Verifications beside a handler that reads the same body and does nothing.

use crate::{
    drive::{Lane, Load, Pace},
    measured::{Bench, FIRST_GUESS, Measured, Target, latencies, spread},
    report::{AtConnections, Beside, Verification},
    sample::Spread,
    server::Server,
};
use anyhow::{Context, Result};

impl Bench<'_> {
    /// Measures verifications at each number of connections, and at half of what the most of them reached.
    pub(crate) async fn beside_baseline(
        &mut self,
        server: &Server,
        connections: &[usize],
    ) -> Result<Verification> {
        let target = Target { servers: std::slice::from_ref(server), postgres: None };
        let mut measured = Vec::new();
        for &connections in connections {
            eprintln!("verifying over {connections} connections");
            server.reset_peak()?;
            measured.push(self.interleaved(target, connections).await?);
        }
        let most = measured.iter().max_by_key(|at| at.connections).context("no load was measured")?;
        let at_half_load = self.at_half_load(target, most.connections, &most.per_second).await?;
        Ok(Verification { at_connections: Beside::Baseline(measured), at_half_load })
    }

    /// Interleaves slices of both loads, so that what disturbs one disturbs the other.
    async fn interleaved(&mut self, target: Target<'_>, connections: usize) -> Result<AtConnections> {
        let mut rounds = Vec::new();
        let mut guess = FIRST_GUESS;
        let mut lanes = Lane::deal(std::mem::take(&mut self.people), connections);
        for _ in 0..self.rounds {
            let (baseline, back) = self.slice(target, lanes, Load::Baseline, Pace::Closed, guess).await?;
            let (verify, back) = self.slice(target, back, Load::Verify, Pace::Closed, guess).await?;
            guess = guess.max(verify.slice.rate());
            lanes = back;
            rounds.push((baseline, verify));
        }
        self.people = Lane::gather(lanes);
        Ok(summary(connections, rounds, target.peak_memory()?))
    }
}

fn summary(connections: usize, rounds: Vec<(Measured, Measured)>, peak_memory: f64) -> AtConnections {
    let ratio = |(baseline, verify): &(Measured, Measured)| verify.slice.rate() / baseline.slice.rate();
    let ratio = Spread::of(rounds.iter().map(ratio));
    let cpu_ratio = |(baseline, verify): &(Measured, Measured)| baseline.micros() / verify.micros();
    let cpu_ratio = Spread::of(rounds.iter().map(cpu_ratio));
    let (baseline, verify): (Vec<Measured>, Vec<Measured>) = rounds.into_iter().unzip();
    AtConnections {
        connections,
        per_second: spread(&verify, |measured| measured.slice.rate()),
        baseline_per_second: spread(&baseline, |measured| measured.slice.rate()),
        ratio,
        cpu_ratio,
        server_cpu_micros: spread(&verify, Measured::server_micros),
        baseline_server_cpu_micros: spread(&baseline, Measured::server_micros),
        client_cpu_micros: spread(&verify, Measured::client_micros),
        baseline_client_cpu_micros: spread(&baseline, Measured::client_micros),
        disturbance: Spread::of(baseline.iter().chain(&verify).map(|measured| measured.disturbance)),
        peak_memory,
        signed_late: verify.iter().map(|measured| measured.slice.signed_late).sum(),
        latency_ms: latencies(verify).percentiles(),
        baseline_latency_ms: latencies(baseline).percentiles(),
    }
}
