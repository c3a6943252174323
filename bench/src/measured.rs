//! One slice of load, and what it cost everybody on the machine.

use crate::{
    attempts::Accepted,
    cpu,
    drive::{self, Mood, Pace, Slice, Unexpected, connect, slice},
    estate::{Estate, Share},
    postgres::Postgres,
    report::AtLoad,
    sample::{Latencies, Spread},
    server::{Commits, Installation, Server},
    work::AnyWork,
};
use anyhow::Result;
use std::{sync::Arc, time::Duration};

/// Codes signed ahead for the first slice, for each second and all connections together.
pub(crate) const FIRST_GUESS: f64 = 20_000.0;

/// The load, and those it is sent in the name of.
pub(crate) struct Bench<'a> {
    pub(crate) installation: &'a Installation,
    pub(crate) cores: usize,
    /// Threads that send.
    pub(crate) threads: usize,
    /// How long a slice takes.
    pub(crate) length: Duration,
    pub(crate) rounds: u64,
    pub(crate) estate: Arc<Estate>,
    pub(crate) unexpected: Unexpected,
}

/// Who answers the load.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Lanes are dealt to them in turn.
    pub(crate) servers: &'a [Server],
    /// The store, unless it is within the server.
    pub(crate) postgres: Option<&'a Postgres>,
}

impl<'a> Target<'a> {
    /// A server with its store in it.
    pub(crate) const fn embedded(server: &'a Server) -> Self {
        Self { servers: std::slice::from_ref(server), postgres: None }
    }

    fn server_cpu(&self) -> Result<Duration> {
        self.servers.iter().map(Server::cpu).sum()
    }

    fn postgres_cpu(&self) -> Result<Duration> {
        self.postgres.map_or(Ok(Duration::ZERO), Postgres::cpu)
    }

    /// Returns the resident memory that the servers had at most, in MiB.
    pub(crate) fn peak_memory(&self) -> Result<f64> {
        self.servers.iter().map(|server| Ok(server.memory()?.peak)).sum()
    }

    /// Returns what the servers committed since they were started.
    async fn commits(&self) -> Result<Commits> {
        let mut sum = Commits::default();
        for server in self.servers {
            let of_one = server.commits().await?;
            sum.commits += of_one.commits;
            sum.changes += of_one.changes;
        }
        Ok(sum)
    }

    /// Waits until they rest.
    pub(crate) async fn settle(&self) -> Result<()> {
        cpu::settled(|| Ok(self.server_cpu()? + self.postgres_cpu()?)).await
    }
}

/// A slice, and what it cost the servers, their store and us.
pub(crate) struct Measured {
    pub(crate) slice: Slice,
    server_cpu: Duration,
    postgres_cpu: Duration,
    client_cpu: Duration,
    /// How many changes shared a commit.
    pub(crate) changes_per_commit: f64,
    /// The share of all cores that went to none of us: what disturbed the measurement.
    pub(crate) disturbance: f64,
}

impl Measured {
    /// Returns the servers' processor time for each answer, in microseconds.
    pub(crate) fn server_micros(&self) -> f64 {
        self.for_each_answer(self.server_cpu)
    }

    /// Returns the processor time of PostgreSQL for each answer, in microseconds.
    pub(crate) fn postgres_micros(&self) -> f64 {
        self.for_each_answer(self.postgres_cpu)
    }

    /// Returns our processor time for each answer, in microseconds.
    pub(crate) fn client_micros(&self) -> f64 {
        self.for_each_answer(self.client_cpu)
    }

    /// Returns everybody's processor time for each answer, in microseconds.
    pub(crate) fn micros(&self) -> f64 {
        self.server_micros() + self.postgres_micros() + self.client_micros()
    }

    fn for_each_answer(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.slice.latencies.len().max(1) as f64
    }
}

impl Bench<'_> {
    /// Returns verifications for so many connections, of the first `reach` people, everybody as likely as the others.
    pub(crate) fn verifications(&self, connections: usize, reach: usize) -> Vec<AnyWork> {
        Share::deal(&self.estate, reach, connections).into_iter().map(Accepted::work).collect()
    }

    /// Measures one slice, on new connections and with a new token; `rate_guess` operations a second are prepared ahead.
    pub(crate) async fn slice(
        &mut self,
        target: Target<'_>,
        mut works: Vec<AnyWork>,
        pace: Pace,
        rate_guess: f64,
    ) -> Result<(Measured, Vec<AnyWork>)> {
        let count = rate_guess * 1.5 * self.length.as_secs_f64() / works.len() as f64;
        let addresses: Vec<_> = target.servers.iter().map(|server| server.address).collect();
        let authorization = self.installation.credentials.bearer(addresses[0]).await?;
        works.iter_mut().for_each(|work| work.authorise(&authorization));
        let mut lanes = drive::prepare(connect(&addresses, works).await?, count as usize).await?;
        target.settle().await?;
        // Preparing may have taken longer than a token is good.
        let authorization = self.installation.credentials.bearer(addresses[0]).await?;
        lanes.iter_mut().for_each(|lane| lane.authorise(&authorization));

        let commits_before = target.commits().await?;
        let (server_before, postgres_before) = (target.server_cpu()?, target.postgres_cpu()?);
        let (client_before, busy_before) = (cpu::own()?, cpu::busy()?);
        let (mut slice, lanes) = slice(lanes, pace, Mood::Strict, self.length).await?;
        let client_cpu = cpu::own()? - client_before;
        let others = (cpu::busy()? - busy_before)
            .saturating_sub(client_cpu)
            .saturating_sub(target.server_cpu()? - server_before)
            .saturating_sub(target.postgres_cpu()?.saturating_sub(postgres_before));
        // What they put off belongs to this slice.
        target.settle().await?;
        let server_cpu = target.server_cpu()? - server_before;
        let postgres_cpu = target.postgres_cpu()?.saturating_sub(postgres_before);

        let commits = target.commits().await?;
        let changes = (commits.changes - commits_before.changes) as f64;
        let changes_per_commit = changes / (commits.commits - commits_before.commits) as f64;

        self.unexpected.append(std::mem::take(&mut slice.unexpected));
        let disturbance = others.as_secs_f64() / slice.elapsed.as_secs_f64() / self.cores as f64;
        let measured =
            Measured { slice, server_cpu, postgres_cpu, client_cpu, changes_per_commit, disturbance };
        Ok((measured, lanes.into_iter().map(drive::Lane::into_work).collect()))
    }

    /// Has work put back in order what it changed.
    pub(crate) async fn retire(&self, target: Target<'_>, mut works: Vec<AnyWork>) -> Result<()> {
        let address = target.servers[0].address;
        let authorization = self.installation.credentials.bearer(address).await?;
        works.iter_mut().for_each(|work| work.authorise(&authorization));
        drive::finish(connect(&[address], works).await?).await
    }

    /// Verifies for a slice that nobody looks at.
    pub(crate) async fn warm_up(&mut self, target: Target<'_>) -> Result<()> {
        let works = self.verifications(self.estate.len().min(16), self.estate.len());
        self.slice(target, works, Pace::Closed, FIRST_GUESS).await.map(drop)
    }

    /// Sends verifications at a share of the rate that was reached, and looks at how long each one takes from when it was due.
    pub(crate) async fn at_load(
        &mut self,
        target: Target<'_>,
        connections: usize,
        reached: &Spread,
        share: f64,
    ) -> Result<AtLoad> {
        let rate = reached.median * share;
        eprintln!("verifying {rate:.0} times a second over {connections} connections");

        let mut works = self.verifications(connections, self.estate.len());
        let mut rounds = Rounds::default();
        for _ in 0..self.rounds {
            let (verify, back) = self.slice(target, works, Pace::PerSecond(rate), rate).await?;
            rounds.add(verify.slice);
            works = back;
        }
        Ok(rounds.at_load(share, connections, rate))
    }
}

/// Slices by the same timetable.
#[derive(Default)]
pub(crate) struct Rounds {
    latencies: Latencies,
    rates: Vec<f64>,
    never_begun: usize,
}

impl Rounds {
    /// Takes one more.
    pub(crate) fn add(&mut self, slice: Slice) {
        self.rates.push(slice.rate());
        self.never_begun += slice.never_begun.len();
        self.latencies.append(slice.latencies_of_all());
    }

    /// Sums them up: so many verifications a second were due, which is a share of what was reached.
    pub(crate) fn at_load(self, share: f64, connections: usize, due_per_second: f64) -> AtLoad {
        AtLoad {
            share,
            connections,
            due_per_second,
            per_second: Spread::of(self.rates),
            never_begun: self.never_begun,
            latency_ms: self.latencies.percentiles(),
        }
    }
}

/// Returns the spread of a figure over slices.
pub(crate) fn spread(of: &[Measured], figure: fn(&Measured) -> f64) -> Spread {
    Spread::of(of.iter().map(figure))
}

/// Returns the latencies of all answers of slices.
pub(crate) fn latencies(of: Vec<Measured>) -> Latencies {
    of.into_iter().fold(Latencies::default(), |mut all, measured| {
        all.append(measured.slice.latencies);
        all
    })
}
