//! The way to the database: connections to the primary, lent for one piece of work at a time, and persistence when it fails.
//!
//! Whoever asks gets an answer within [`DEADLINE`]. Until then work that came to nothing is done again: a lost race at once,
//! a database that cannot be used after a pause. Work runs to its end also when nobody waits for it any more.

use super::{
    address::Address,
    cluster::Cluster,
    failure::{Fault, with_advice},
    hosts::{CONNECT, Hosts},
    order::Order,
    shared::Statements,
    sql::{Argument, args},
};
use crate::{
    config::Data,
    error::{Error, Result},
    store::memory::Memory,
};
use countersign_core::event::Record;
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use std::{
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_postgres::{Client, Config, Row};
use tracing::debug;
use uuid::Uuid;

/// How long a caller waits at most. A fail-over takes longer; then trying again is the caller's affair.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How long a lock of somebody else is waited for.
pub(super) const LOCK_MILLIS: &str = "2000";
/// Between two attempts.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];
/// How long a connection is used.
const CONNECTION_LASTS: Duration = Duration::from_secs(600);
/// Pieces of work that may be under way or wait for a connection. Beyond that the server is overloaded.
const WAITING: usize = 4096;

/// The way to the database, and what is known of it.
pub(super) struct Database {
    pool: Pool,
    /// Room for those who wait; closed when the store is.
    room: Arc<Semaphore>,
    /// What is kept in memory.
    pub(super) memory: Memory,
    /// The numbers of audit rows.
    pub(super) order: Order,
    /// What is known of the database: its time, its timeline, the nodes.
    pub(super) cluster: Cluster,
    /// What the metrics show.
    pub(super) counters: Counters,
    /// The statements that depend on the server.
    pub(super) statements: OnceLock<Statements>,
    /// Whether commits are declared to wait for a standby.
    pub(super) is_synchronous: bool,
    /// Whether people are spread over several machines.
    pub(super) is_sharded: bool,
    /// Whether the hot statements are prepared, once a connection.
    is_prepared: bool,
}

/// What the metrics show of commits.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) changes: AtomicU64,
    pub(super) last_commit_nanos: AtomicU64,
}

impl Counters {
    /// Notes a commit of some changes that took since `begun`.
    pub(super) fn note(&self, changes: usize, begun: std::time::Instant) {
        self.commits.fetch_add(1, Relaxed);
        self.changes.fetch_add(changes as u64, Relaxed);
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last_commit_nanos.store(nanos, Relaxed);
    }
}

impl Database {
    /// Prepares connections; makes none yet.
    pub(super) fn new(settings: &Data, memory: Memory) -> Result<Self> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_connect(
            Config::new(),
            Hosts::new(Address::of(settings)?),
            recycling,
        ))
        .max_size(settings.connections)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::Store(format!("prepare connections: {error}")))?;
        Ok(Self {
            pool,
            room: Arc::new(Semaphore::new(WAITING)),
            memory,
            order: Order::default(),
            cluster: Cluster::default(),
            counters: Counters::default(),
            statements: OnceLock::new(),
            is_synchronous: settings.synchronous,
            is_sharded: settings.sharded,
            is_prepared: settings.prepared_statements,
        })
    }

    /// Reads, again and again until it goes through or time is up.
    pub(super) async fn read<T, F, W>(self: &Arc<Self>, reading: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Arc<Lent>) -> W + Send + 'static,
        W: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let database = Arc::clone(self);
        self.to_its_end(async move { database.insist(reading).await }).await
    }

    /// Commits a transaction, again and again until it goes through or time is up.
    ///
    /// Where nobody knows whether a commit went through, the next attempt looks for the event it would have written; what
    /// writes none has to bear being done twice.
    pub(super) async fn commit<T, F, W>(self: &Arc<Self>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Arc<Lent>) -> W + Send + 'static,
        W: Future<Output = Result<Done<T>, Fault>> + Send + 'static,
    {
        let database = Arc::clone(self);
        self.to_its_end(async move { database.commit_now(work).await }).await
    }

    /// Has work go on when whoever asked for it is gone.
    pub(super) async fn to_its_end<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return Err(Error::Busy) };
        // Boxed for the same reason as rules are: the runtime's part of a task is large.
        let work: Pin<Box<dyn Future<Output = Result<T>> + Send>> = Box::pin(work);
        let task = tokio::spawn(async move {
            let outcome = work.await;
            drop(room);
            outcome
        });
        task.await.unwrap_or_else(|error| Err(Error::Internal(format!("use database: {error}"))))
    }

    async fn insist<T, W>(&self, mut reading: impl FnMut(Arc<Lent>) -> W) -> Result<T>
    where
        W: Future<Output = Result<T, Fault>>,
    {
        let mut patience = Patience::new();
        loop {
            let until = patience.until;
            let attempt = async { reading(Arc::new(self.lend(until).await?)).await };
            match timeout_at(until, attempt).await.unwrap_or_else(|_| Err(overdue())) {
                Ok(outcome) => return Ok(outcome),
                Err(fault) => patience.endure(fault).await?,
            }
        }
    }

    /// Like [`Database::commit`], for work that goes on anyhow.
    pub(super) async fn commit_now<T, W>(&self, mut work: impl FnMut(Arc<Lent>) -> W) -> Result<T>
    where
        W: Future<Output = Result<Done<T>, Fault>>,
    {
        let mut patience = Patience::new();
        let mut uncertain: Vec<Done<T>> = Vec::new();
        loop {
            let until = patience.until;
            let attempt = async {
                let lent = Arc::new(self.lend(until).await?);
                let proofs: Vec<Proof> = uncertain.iter().filter_map(|done| done.proof).collect();
                if let Some(proof) = committed(&lent, &proofs).await?.first() {
                    settle(&lent).await?;
                    let place = uncertain.iter().position(|done| done.proof == Some(*proof));
                    let place = place.expect("it is one of those that were looked for");
                    return Ok(Attempt::Committed(uncertain.swap_remove(place)));
                }
                lent.begin().await?;
                let done = match work(Arc::clone(&lent)).await {
                    Ok(done) => done,
                    Err(fault) => {
                        lent.roll_back().await;
                        return Err(fault);
                    }
                };
                let begun = std::time::Instant::now();
                // From here on nobody knows, until the answer is here.
                match timeout_at(until, lent.end("COMMIT")).await.unwrap_or_else(|_| Err(overdue())) {
                    Ok(()) => {
                        self.counters.note(1, begun);
                        Ok(Attempt::Committed(done))
                    }
                    Err(fault) => Ok(Attempt::Uncertain(done, fault)),
                }
            };
            let fault = match timeout_at(until + CONNECT, attempt).await.unwrap_or_else(|_| Err(overdue())) {
                Ok(Attempt::Committed(done)) => {
                    self.cluster.note_event(done.proof);
                    self.memory.apply(done.effects);
                    return Ok(done.outcome);
                }
                Ok(Attempt::Uncertain(done, fault)) => {
                    uncertain.extend(Some(done).filter(|done| done.proof.is_some()));
                    fault
                }
                Err(fault) => fault,
            };
            patience.endure(fault).await?;
        }
    }

    /// Lends a connection to the primary.
    pub(super) async fn lend(&self, until: Instant) -> Result<Lent, Fault> {
        let waits = Timeouts {
            wait: Some(until.saturating_duration_since(Instant::now())),
            create: Some(CONNECT),
            recycle: None,
        };
        match self.pool.timeout_get(&waits).await {
            Ok(client) => Ok(Lent {
                client: Some(client),
                until,
                is_inside: AtomicBool::new(false),
                is_prepared: self.is_prepared,
            }),
            Err(PoolError::Closed) => Err(Fault::Final(Error::Busy)),
            Err(PoolError::Timeout(TimeoutType::Wait)) => Err(Fault::Final(Error::Busy)),
            Err(PoolError::Backend(error)) => Err(Fault::from(error)),
            Err(error) => Err(Fault::Passing(error.to_string())),
        }
    }

    /// Gives up connections that are old: what was planned on them, and where they lead to, may not be right any more.
    pub(super) fn renew_connections(&self) {
        self.pool.retain(|_, metrics| metrics.created.elapsed() < CONNECTION_LASTS);
    }

    /// Gives up the connections that nobody uses now: something is wrong with the server they lead to.
    pub(super) fn forget_connections(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Tells whether the store is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.room.is_closed()
    }

    /// Takes no more work, and waits for what is under way.
    pub(super) async fn finish(&self) {
        let all = timeout(DEADLINE, self.room.acquire_many(u32::try_from(WAITING).unwrap_or(u32::MAX))).await;
        self.room.close();
        drop(all);
    }

    /// Closes the connections.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// What a transaction led to.
pub(super) struct Done<T> {
    pub(super) outcome: T,
    /// An event that is there if it was committed.
    pub(super) proof: Option<Proof>,
    /// What happens in memory then.
    pub(super) effects: Vec<crate::store::memory::Effect>,
}

impl<T> Done<T> {
    /// A transaction that wrote no event.
    pub(super) const fn of(outcome: T) -> Self {
        Self { outcome, proof: None, effects: Vec::new() }
    }

    /// The same, with another outcome.
    pub(super) fn with<U>(self, outcome: U) -> Done<U> {
        Done { outcome, proof: self.proof, effects: self.effects }
    }
}

/// An event by its place and its number, which no other event in that place has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    subject: Uuid,
    seq: i64,
    row: i64,
}

impl Proof {
    /// Returns the proof that some events, the first of them with this number, were written; `None` if there are none.
    pub(super) fn of(records: &[Record], row: i64) -> Option<Self> {
        let first = records.first()?;
        Some(Self { subject: first.subject.uuid(), seq: seq_of(first), row })
    }
}

/// Returns an event's place in its chain as the column holds it.
pub(super) fn seq_of(record: &Record) -> i64 {
    i64::try_from(record.head.seq).unwrap_or(i64::MAX)
}

enum Attempt<T> {
    Committed(Done<T>),
    Uncertain(Done<T>, Fault),
}

/// Returns those of some events that are there.
pub(super) async fn committed(lent: &Lent, proofs: &[Proof]) -> Result<Vec<Proof>, Fault> {
    if proofs.is_empty() {
        return Ok(Vec::new());
    }
    let subjects: Vec<Uuid> = proofs.iter().map(|proof| proof.subject).collect();
    let places: Vec<i64> = proofs.iter().map(|proof| proof.seq).collect();
    let rows = lent.rows(COMMITTED, args![subjects, places]).await?;
    let found = rows
        .iter()
        .map(|row| Ok(Proof { subject: row.try_get(0)?, seq: row.try_get(1)?, row: row.try_get(2)? }));
    let found: Vec<Proof> = found.collect::<Result<_, Fault>>()?;
    Ok(proofs.iter().copied().filter(|proof| found.contains(proof)).collect())
}

/// Makes sure that what was read here is as durable as what is committed here: what a crashed or cut off commit left may
/// be there to read before any standby has it, and a commit waits for all that was written before.
pub(super) async fn settle(lent: &Lent) -> Result<(), Fault> {
    let row: i16 = rand::random_range(0..DECOYS);
    lent.run("UPDATE decoy SET count = count + 1 WHERE id = $1", args![row]).await?;
    Ok(())
}

/// The rows of the table `decoy`.
const DECOYS: i16 = 64;

const COMMITTED: &str = "SELECT subject, seq, \"row\" FROM audit
    JOIN unnest($1::uuid[], $2::int8[]) AS wanted (subject, seq) USING (subject, seq)";

fn overdue() -> Fault {
    Fault::Passing(OVERDUE.into())
}

const OVERDUE: &str = "the database did not answer in time";

/// How long an operation goes on trying.
pub(super) struct Patience {
    pub(super) until: Instant,
    pauses: std::slice::Iter<'static, Duration>,
    /// Why the attempt before failed: that time ran out says less.
    cause: Option<String>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + DEADLINE, pauses: PAUSES.iter(), cause: None }
    }

    /// Waits before the next attempt, or says that there will be none.
    pub(super) async fn endure(&mut self, fault: Fault) -> Result<()> {
        let pause = match &fault {
            Fault::Final(_) => Duration::ZERO,
            // Whoever was first is done; the more there are, the further apart they should come.
            Fault::Overtaken => Duration::from_micros(rand::random_range(0..2_000)),
            Fault::Passing(cause) => {
                debug!("the database cannot be used: {cause}");
                *self.pauses.next().unwrap_or(&PAUSES[PAUSES.len() - 1])
            }
        };
        let is_over = Instant::now() + pause >= self.until;
        let fault = match (fault, self.cause.take()) {
            (Fault::Passing(cause), Some(before)) if cause == OVERDUE => Fault::Passing(before),
            (fault, _) => fault,
        };
        if let Fault::Passing(cause) = &fault {
            self.cause = Some(cause.clone());
        }
        match fault {
            Fault::Final(error) => Err(error),
            Fault::Overtaken if is_over => Err(Error::Busy),
            Fault::Passing(cause) if is_over => Err(Error::Unreachable(with_advice(cause))),
            Fault::Overtaken | Fault::Passing(_) => {
                sleep(pause).await;
                Ok(())
            }
        }
    }
}

/// A connection on loan. Goes back when dropped, unless something was left undone on it.
pub(super) struct Lent {
    client: Option<Object>,
    until: Instant,
    is_inside: AtomicBool,
    is_prepared: bool,
}

impl Deref for Lent {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Past its time the server may still be at work on it, and within a transaction it is nobody else's.
        if (self.is_inside.load(Relaxed) || Instant::now() >= self.until)
            && let Some(client) = self.client.take()
        {
            drop(Object::take(client));
        }
    }
}

impl Lent {
    /// Runs a statement; returns its rows.
    pub(super) async fn rows(&self, sql: &str, arguments: &[Argument<'_>]) -> Result<Vec<Row>, Fault> {
        Ok(self.query_typed(sql, arguments).await?)
    }

    /// Runs a statement of the hot path; returns its rows. Planning it costs more than running it, so it is planned once a
    /// connection where the connection is ours alone.
    pub(super) async fn hot_rows(&self, sql: &str, arguments: &[Argument<'_>]) -> Result<Vec<Row>, Fault> {
        let Some(client) = self.client.as_ref().filter(|_| self.is_prepared) else {
            return self.rows(sql, arguments).await;
        };
        let types: Vec<_> = arguments.iter().map(|(_, kind)| kind.clone()).collect();
        let statement = client.prepare_typed_cached(sql, &types).await?;
        let values: Vec<_> = arguments.iter().map(|(value, _)| *value).collect();
        Ok(client.query(&statement, &values).await?)
    }

    /// Runs a statement that has a row at most.
    pub(super) async fn row(&self, sql: &str, arguments: &[Argument<'_>]) -> Result<Option<Row>, Fault> {
        Ok(self.query_typed_opt(sql, arguments).await?)
    }

    /// Runs a statement; returns how many rows it changed.
    pub(super) async fn run(&self, sql: &str, arguments: &[Argument<'_>]) -> Result<u64, Fault> {
        Ok(self.execute_typed(sql, arguments).await?)
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<(), Fault> {
        self.is_inside.store(true, Relaxed);
        // What is decided is guarded by what it replaces; a stricter level would only refuse more. There is no limit for
        // statements: one that runs out while a commit waits for its standby makes the server report a success (01000,
        // "canceling wait for synchronous replication").
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {LOCK_MILLIS}");
        Ok(self.batch_execute(&begin).await?)
    }

    /// Begins a transaction that reads and sees nothing of what is committed meanwhile.
    pub(super) async fn begin_view(&self) -> Result<(), Fault> {
        self.is_inside.store(true, Relaxed);
        Ok(self.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
    }

    /// Ends a transaction.
    pub(super) async fn end(&self, how: &str) -> Result<(), Fault> {
        self.batch_execute(how).await?;
        self.is_inside.store(false, Relaxed);
        Ok(())
    }

    /// Takes a transaction back. If even that fails the connection is not used again.
    pub(super) async fn roll_back(&self) {
        if let Err(fault) = self.end("ROLLBACK").await {
            debug!("a transaction was not rolled back: {fault:?}");
        }
    }
}
