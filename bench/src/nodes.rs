//! Verifications by one node and by two on the same PostgreSQL, beside `pgbench` on the same server.

use crate::{
    drive::Pace,
    measured::{Bench, FIRST_GUESS, Measured, Target, latencies, spread},
    pgbench::{Form, Peer, Pgbench, Transactions},
    postgres::Postgres,
    report::{Beside, BesideChore, ByNodes, NodesAtConnections, Verification},
    sample::Spread,
    server::Server,
};
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What PostgreSQL does of its own accord now and then, and here all the time.
const CHORES: [&str; 2] = ["VACUUM users, audit", "CHECKPOINT"];

/// One after the other, so that what disturbs one disturbs the others.
struct Round {
    transactions: Transactions,
    statements: Transactions,
    by_one: Measured,
    by_two: Measured,
}

impl Bench<'_> {
    /// Measures verifications at each number of connections, and at half of what one node reached over the most of them.
    pub(crate) async fn beside_pgbench(
        &mut self,
        nodes: &[Server; 2],
        postgres: &Postgres,
        pgbench: &mut Pgbench<'_>,
        connections: &[usize],
    ) -> Result<Verification> {
        let target = |servers| Target { servers, postgres: Some(postgres) };
        let (one, two) = (target(&nodes[..1]), target(nodes));
        let mut measured = Vec::new();
        for &connections in connections {
            eprintln!("verifying over {connections} connections");
            nodes.iter().try_for_each(Server::reset_peak)?;
            measured.push(self.in_turn(one, two, (postgres, pgbench), connections).await?);
        }
        let most = measured.iter().max_by_key(|at| at.connections).context("no load was measured")?;
        let (most, reached) = (most.connections, most.one_node.per_second.clone());
        let at_half_load = self.at_load(one, most, &reached, 0.5).await?;
        let at_nine_tenths = Some(self.at_load(one, most, &reached, 0.9).await?);
        let mut beside_chores = Vec::new();
        for chore in CHORES {
            beside_chores.push(self.beside_chore(one, chore, most, &reached).await?);
        }
        Ok(Verification {
            at_half_load,
            at_nine_tenths,
            beside_chores,
            working_set: None,
            at_connections: Beside::Pgbench(measured),
        })
    }

    /// Verifies at half load while PostgreSQL does a chore again and again.
    async fn beside_chore(
        &mut self,
        one: Target<'_>,
        chore: &str,
        connections: usize,
        reached: &Spread,
    ) -> Result<BesideChore> {
        let postgres = one.postgres.context("there is no PostgreSQL")?;
        eprintln!("beside {chore}:");
        let times = AtomicU64::new(0);
        // It never rests meanwhile, so nobody may wait for that.
        let alone = Target { postgres: None, ..one };
        let at = tokio::select! {
            at = self.at_load(alone, connections, reached, 0.5) => at?,
            error = postgres.repeat(chore, &times) => return Err(error),
        };
        Ok(BesideChore { chore: chore.to_owned(), times: times.load(Relaxed), at })
    }

    /// Interleaves slices of both scripts of `pgbench`, of one node and of two.
    async fn in_turn(
        &mut self,
        one: Target<'_>,
        two: Target<'_>,
        (postgres, pgbench): (&Postgres, &mut Pgbench<'_>),
        connections: usize,
    ) -> Result<NodesAtConnections> {
        let mut rounds = Vec::new();
        let (mut of_one, mut of_two) = (FIRST_GUESS, FIRST_GUESS);
        let mut works = self.verifications(connections, self.estate.len());
        for _ in 0..self.rounds {
            // Before each: the first write to a page after a checkpoint is dearer, for all alike.
            postgres.checkpoint().await?;
            let transactions =
                pgbench.slice(Form::Transaction, connections, self.threads, self.length).await?;
            postgres.checkpoint().await?;
            let statements = pgbench.slice(Form::Statement, connections, self.threads, self.length).await?;
            postgres.checkpoint().await?;
            let (by_one, back) = self.slice(one, works, Pace::Closed, of_one).await?;
            postgres.checkpoint().await?;
            let (by_two, back) = self.slice(two, back, Pace::Closed, of_two).await?;
            (of_one, of_two) = (of_one.max(by_one.slice.rate()), of_two.max(by_two.slice.rate()));
            works = back;
            rounds.push(Round { transactions, statements, by_one, by_two });
        }
        Ok(summary(connections, rounds, [one.peak_memory()?, two.peak_memory()?]))
    }
}

fn summary(connections: usize, rounds: Vec<Round>, peaks: [f64; 2]) -> NodesAtConnections {
    let disturbance = rounds.iter().flat_map(|round| [&round.by_one, &round.by_two]).map(|by| by.disturbance);
    let disturbance = Spread::of(disturbance);
    let (mut transactions, mut statements) = (Vec::new(), Vec::new());
    let (mut by_one, mut by_two) = (Vec::new(), Vec::new());
    for round in rounds {
        transactions.push(round.transactions);
        statements.push(round.statements);
        by_one.push(round.by_one);
        by_two.push(round.by_two);
    }
    NodesAtConnections {
        connections,
        one_node: by_nodes(by_one, &transactions, &statements, peaks[0]),
        two_nodes: by_nodes(by_two, &transactions, &statements, peaks[1]),
        transactions: Peer::of(&transactions),
        statements: Peer::of(&statements),
        disturbance,
    }
}

fn by_nodes(
    slices: Vec<Measured>,
    transactions: &[Transactions],
    statements: &[Transactions],
    peak_memory: f64,
) -> ByNodes {
    let beside = |peers: &[Transactions], ratio: fn(&Measured, &Transactions) -> f64| {
        Spread::of(slices.iter().zip(peers).map(|(slice, peer)| ratio(slice, peer)))
    };
    let by_rate = |slice: &Measured, peer: &Transactions| slice.slice.rate() / peer.per_second;
    ByNodes {
        per_second: spread(&slices, |measured| measured.slice.rate()),
        ratio: beside(transactions, by_rate),
        statement_ratio: beside(statements, by_rate),
        cpu_ratio: beside(transactions, |slice, peer| peer.micros() / slice.micros()),
        server_cpu_micros: spread(&slices, Measured::server_micros),
        postgres_cpu_micros: spread(&slices, Measured::postgres_micros),
        client_cpu_micros: spread(&slices, Measured::client_micros),
        changes_per_commit: spread(&slices, |measured| measured.changes_per_commit),
        peak_memory,
        prepared_late: slices.iter().map(|measured| measured.slice.prepared_late).sum(),
        latency_ms: latencies(slices).percentiles(),
    }
}
