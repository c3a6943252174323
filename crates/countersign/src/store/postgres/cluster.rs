//! What a node knows of the cluster: the database's clock, the timeline it is on, and that the node itself is known there.
//!
//! Learnt once a second. A node that has heard nothing for a while does not act on what it knew.

use super::{
    database::{Database, Lent, Proof, committed},
    failure::Fault,
    order::{self, NODES},
    outbox,
    sql::args,
};
use crate::{
    error::{Error, Result},
    store::{CLOCK_TOLERANCE, scratch},
};
use countersign_core::{Timestamp, User};
use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::time::timeout;
use tokio_postgres::Row;
use tracing::{error, info, warn};
use uuid::Uuid;

/// How often a node asks how things are.
pub(super) const PULSE: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PULSE_LIMIT: Duration = Duration::from_secs(2);
/// What is known of revoked tokens is good for so long without news.
const NEWS_LAST: Duration = Duration::from_secs(5);
/// A node that was not seen for so long may find that its number was given to another.
const REGISTRATION_LASTS: Duration = Duration::from_secs(60);
/// After so long without a sign of life a node's number is free, and what it was doing is others' to do. Several times
/// [`REGISTRATION_LASTS`], in SQL's words.
pub(super) const NODE_IS_GONE: &str = "now() - interval '5 minutes'";
/// A commit is refused so long after its rows were numbered: a node that was stopped in its tracks must not bring numbers of
/// a time that others take for finished.
const NUMBERS_LAST: Duration = Duration::from_secs(20);
/// Before this long ago nothing changes any more in the order of rows. More than a commit may take.
pub(super) const SETTLED: Duration = Duration::from_secs(60);
/// How long after a fail-over codes from before it could still be within anybody's window.
const BURN_LASTS: Duration = Duration::from_secs(600);

/// What is known of the cluster.
#[derive(Default)]
pub(super) struct Cluster {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// The database's time, and when it was that here.
    time: Option<(i64, Instant)>,
    /// When the pulse last went through.
    heard: Option<Instant>,
    /// When this node was last seen to be registered, and as what.
    registered: Option<(Instant, i16)>,
    process: Uuid,
    timeline: Arc<Timeline>,
    /// The last sign of life and the last event of this node that are known to be durable, to look for after a fail-over.
    last_beat: Option<i64>,
    last_event: Option<Proof>,
}

/// A timeline of the database: a new one begins with each fail-over, and with a restored backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    /// Its name; empty where the database has none.
    pub(super) name: String,
    /// Since when it was seen, in the database's time, if commits from before may be missing on it.
    begun: Option<i64>,
}

/// The name of the timeline. On a standby this fails, and there nobody should be.
pub(super) const TIMELINE: &str = "left(pg_walfile_name(pg_current_wal_lsn()), 8)";
/// The name of the only timeline of a database that knows none.
pub(super) const NO_TIMELINE: &str = "'none'::text";
/// The database's time in milliseconds.
pub(super) const NOW_MILLIS: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

impl Cluster {
    /// Returns the database's time in milliseconds, as far as we know.
    pub(super) fn now_millis(&self) -> i64 {
        match read(&self.known).time {
            Some((millis, at)) => {
                millis.saturating_add(i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX))
            }
            None => system_millis(),
        }
    }

    /// Returns how far this machine's clock is from the database's, in milliseconds, positive if it is ahead.
    pub(super) fn skew_millis(&self) -> i64 {
        system_millis() - self.now_millis()
    }

    /// Returns the timeline we believe the database to be on.
    pub(super) fn timeline(&self) -> Arc<Timeline> {
        Arc::clone(&read(&self.known).timeline)
    }

    /// Tells whether the news are fresh enough to say that a token was not revoked.
    pub(super) fn has_news(&self) -> bool {
        read(&self.known).heard.is_some_and(|at| at.elapsed() < NEWS_LAST)
    }

    /// Notes that there was news.
    pub(super) fn hear(&self) {
        write(&self.known).heard = Some(Instant::now());
    }

    fn is_registered(&self) -> bool {
        read(&self.known).registered.is_some_and(|(at, _)| at.elapsed() < REGISTRATION_LASTS)
    }

    /// Notes that this node is known among the others, as which number, and since when by the database's clock.
    fn note_registration(&self, row: &Row) -> Result<(), Fault> {
        let (number, beat) = (row.try_get(0)?, row.try_get(1)?);
        let mut known = write(&self.known);
        known.registered = Some((Instant::now(), number));
        known.last_beat = Some(beat);
        Ok(())
    }

    /// Notes an event that was committed.
    pub(super) fn note_event(&self, proof: Option<Proof>) {
        if proof.is_some() {
            write(&self.known).last_event = proof;
        }
    }

    /// Returns what a process is known by among the nodes.
    pub(super) fn process(&self) -> Uuid {
        read(&self.known).process
    }
}

/// Numbers for rows, and until when they may be used.
pub(super) struct Numbers {
    pub(super) rows: Vec<i64>,
    pub(super) until_millis: i64,
}

impl Database {
    /// Gives numbers to rows that are about to be written, higher than `after`: another node may have written to the same
    /// chain, and its time may be some milliseconds ahead of ours.
    pub(super) fn numbers(&self, count: usize, after: i64) -> Result<Numbers, Fault> {
        if !self.cluster.is_registered() {
            return Err(Fault::Passing("this node has not reached the database for too long".into()));
        }
        let now = self.cluster.now_millis();
        let until_millis = now.saturating_add(i64::try_from(NUMBERS_LAST.as_millis()).unwrap_or(i64::MAX));
        Ok(Numbers { rows: self.order.next(count, now.max(order::time_after(after))), until_millis })
    }

    /// Makes a document that was read after a fail-over refuse the codes that may have been accepted before it, by a commit
    /// that was lost.
    pub(super) fn burn(&self, user: &mut User) {
        let timeline = self.cluster.timeline();
        // What the self-test tries on its scratch person is never committed, and so never lost.
        let Some(begun) = timeline.begun.filter(|_| user.id != scratch::PERSON) else { return };
        let age = self.cluster.now_millis().saturating_sub(begun);
        if age > i64::try_from(BURN_LASTS.as_millis()).unwrap_or(i64::MAX) {
            return;
        }
        // Without the policy at hand, the widest window there is.
        let window = self
            .memory
            .organisation(user.organisation)
            .map_or(countersign_core::policy::WIDEST_WINDOW, |organisation| organisation.policy.totp.window);
        user.refuse_codes_before(Timestamp::from_millis(begun), window);
    }

    /// Learns the database's time and timeline, and makes this node known there.
    pub(super) async fn join(&self, lent: &Lent) -> Result<(), Fault> {
        write(&self.cluster.known).process = Uuid::from_bytes(rand::random());
        self.learn(lent).await?;
        self.register(lent).await
    }

    /// Beats until the store is closed.
    pub(super) async fn beat(self: Arc<Self>) {
        let mut failures = 0_u32;
        let mut beats = 0_u64;
        let mut was_on_time = true;
        while !self.is_closed() {
            tokio::time::sleep(PULSE).await;
            beats += 1;
            let beat = async {
                let lent = self.lend(tokio::time::Instant::now() + PULSE_LIMIT).await?;
                self.learn(&lent).await?;
                self.hear_of_revocations(&lent, beats.is_multiple_of(300)).await?;
                if beats.is_multiple_of(60) {
                    self.renew_connections();
                }
                if beats.is_multiple_of(15) {
                    self.memory.set_queued(outbox::count_queued(&lent).await?);
                }
                if beats.is_multiple_of(5) || !self.cluster.is_registered() {
                    self.stay_registered(&lent).await?;
                }
                Ok(())
            };
            let outcome = timeout(PULSE_LIMIT, beat).await;
            self.warn_of_clock(&mut was_on_time);
            let fault = match outcome.unwrap_or_else(|_| Err(Fault::Passing("it does not answer".into()))) {
                Ok(()) => {
                    if failures > 1 {
                        info!("the database is back after {failures} failed attempts");
                    }
                    failures = 0;
                    self.cluster.hear();
                    continue;
                }
                Err(Fault::Final(Error::Busy)) if self.is_closed() => return,
                Err(fault) => fault,
            };
            failures += 1;
            if failures == 2 {
                warn!("the database cannot be used: {}", reason(&fault));
            }
            // Whatever is wrong, connections that are idle now may lead to the old place.
            self.forget_connections();
        }
    }

    /// Says once that the clocks do not agree, and once that they do again.
    fn warn_of_clock(&self, was_on_time: &mut bool) {
        let skew = self.cluster.skew_millis();
        let is_on_time = u128::from(skew.unsigned_abs()) <= CLOCK_TOLERANCE.as_millis();
        match (*was_on_time, is_on_time) {
            (true, false) => error!(
                "this machine's clock is {skew} ms from the database's; nobody is served until it is within {} s",
                CLOCK_TOLERANCE.as_secs()
            ),
            (false, true) => info!("this machine's clock agrees with the database's again"),
            _ => {}
        }
        *was_on_time = is_on_time;
    }

    async fn learn(&self, lent: &Lent) -> Result<(), Fault> {
        let asked = Instant::now();
        let sql = format!("SELECT {NOW_MILLIS}, {}", self.statements().timeline);
        let row = lent.row(&sql, args![]).await?.ok_or(Fault::Overtaken)?;
        let (millis, name): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        // The answer was written about half way.
        let middle = asked + asked.elapsed() / 2;
        write(&self.cluster.known).time = Some((millis, middle));
        if name != self.cluster.timeline().name {
            self.enter_timeline(lent, name).await?;
        }
        Ok(())
    }

    /// Looks whether the database is on the timeline we believe.
    pub(super) async fn check_timeline(&self, lent: &Lent) -> Result<(), Fault> {
        let sql = format!("SELECT {}", self.statements().timeline);
        let name: String = lent.row(&sql, args![]).await?.ok_or(Fault::Overtaken)?.try_get(0)?;
        match name == self.cluster.timeline().name {
            true => Ok(()),
            false => self.enter_timeline(lent, name).await,
        }
    }

    /// Notes that the database is on another timeline, and whether commits from before may be missing there.
    pub(super) async fn enter_timeline(&self, lent: &Lent, name: String) -> Result<(), Fault> {
        let verdict = self.is_lossless(lent).await?;
        let row = lent.row(ENTER, args![name, verdict]).await?.ok_or(Fault::Overtaken)?;
        let (begun, is_lossless): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
        let timeline = Timeline { name, begun: (begun != 0 && !is_lossless).then_some(begun) };
        let before = self.cluster.timeline();
        if !before.name.is_empty() && *before != timeline {
            let what = if is_lossless { "no commit was lost" } else { "codes from before it are refused" };
            warn!("the database is on timeline {} after {}: {what}", timeline.name, before.name);
        }
        write(&self.cluster.known).timeline = Arc::new(timeline);
        Ok(())
    }

    /// Tells whether no commit was lost: commits wait for a standby, and what this node committed last is there. Who has not
    /// been at work on the timeline before, or after a backup was restored, cannot say so.
    async fn is_lossless(&self, lent: &Lent) -> Result<bool, Fault> {
        let (last_beat, last_event) = {
            let known = read(&self.cluster.known);
            (known.last_beat, known.last_event)
        };
        let Some(last_beat) = last_beat.filter(|_| self.is_synchronous) else { return Ok(false) };
        let sql = format!("SELECT {BEAT} FROM nodes WHERE process = $1");
        let beat = lent.row(&sql, args![self.cluster.process()]).await?;
        let beat: Option<i64> = beat.map(|row| row.try_get(0)).transpose()?;
        let events: Vec<Proof> = last_event.into_iter().collect();
        let has_events = committed(lent, &events).await?.len() == events.len();
        Ok(beat.is_some_and(|beat| beat >= last_beat) && has_events && self.is_replicated(lent).await?)
    }

    /// Tells whether commits wait for a standby.
    async fn is_replicated(&self, lent: &Lent) -> Result<bool, Fault> {
        let row = lent.row(REPLICATION, args![]).await?.ok_or(Fault::Overtaken)?;
        let is_replicated: bool = row.try_get(0)?;
        if !is_replicated {
            error!(
                "store.synchronous is set, but PostgreSQL's commits wait for no standby; set synchronous_standby_names and \
                 synchronous_commit there (with Patroni: synchronous_mode and synchronous_mode_strict)"
            );
        }
        Ok(is_replicated)
    }

    async fn register(&self, lent: &Lent) -> Result<(), Fault> {
        let process = self.cluster.process();
        let last = NODES - 1;
        let register = format!(
            "WITH free AS (
                 SELECT number::smallint FROM generate_series(0, {last}) AS numbers (number)
                 WHERE NOT EXISTS (
                     SELECT 1 FROM nodes WHERE nodes.number = numbers.number AND seen_at > {NODE_IS_GONE}
                 )
                 ORDER BY number LIMIT 1
             )
             INSERT INTO nodes (number, process, version, started_at, seen_at)
             SELECT number, $1, $2, now(), now() FROM free
             ON CONFLICT (number) DO UPDATE SET process = excluded.process, version = excluded.version,
                 started_at = excluded.started_at, seen_at = excluded.seen_at
             WHERE nodes.seen_at <= {NODE_IS_GONE}
             RETURNING number, {BEAT}"
        );
        for _ in 0..NODES {
            if let Some(row) = lent.row(&register, args![process, env!("CARGO_PKG_VERSION")]).await? {
                self.order.set_node(row.try_get(0)?);
                return self.cluster.note_registration(&row);
            }
        }
        Err(Fault::Final(Error::Store(format!("join the cluster: {NODES} nodes are at work already"))))
    }

    async fn stay_registered(&self, lent: &Lent) -> Result<(), Fault> {
        let process = self.cluster.process();
        let stay = format!("UPDATE nodes SET seen_at = now() WHERE process = $1 RETURNING number, {BEAT}");
        if let Some(row) = lent.row(&stay, args![process]).await? {
            return self.cluster.note_registration(&row);
        }
        warn!("this node was away for so long that another one has its number; it takes a new one");
        self.register(lent).await
    }

    /// Says that this node is gone.
    pub(super) async fn leave(&self) {
        let leaving = async {
            let lent = self.lend(tokio::time::Instant::now() + PULSE_LIMIT).await?;
            lent.run("DELETE FROM nodes WHERE process = $1", args![self.cluster.process()]).await
        };
        // What cannot be said now shows by the silence that follows.
        drop(timeout(PULSE_LIMIT, leaving).await);
    }
}

const ENTER: &str = "WITH entered AS (
         INSERT INTO timelines (name, seen_at, is_lossless)
         SELECT $1, CASE WHEN EXISTS (SELECT 1 FROM timelines)
             THEN (extract(epoch FROM clock_timestamp()) * 1000)::bigint ELSE 0 END, $2
         ON CONFLICT (name) DO NOTHING RETURNING seen_at, is_lossless
     )
     SELECT seen_at, is_lossless FROM entered
     UNION ALL SELECT seen_at, is_lossless FROM timelines WHERE name = $1 LIMIT 1";
/// A node's last sign of life, in microseconds of the database's clock.
const BEAT: &str = "(extract(epoch FROM seen_at) * 1000000)::bigint";
const REPLICATION: &str = "SELECT current_setting('synchronous_standby_names') <> ''
     AND current_setting('synchronous_commit') IN ('on', 'remote_apply')";

/// Returns what a fault says.
fn reason(fault: &Fault) -> String {
    match fault {
        Fault::Final(error) => error.to_string(),
        Fault::Overtaken => "another node was first".into(),
        Fault::Passing(cause) => cause.clone(),
    }
}

fn system_millis() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

// A thread that panicked with the lock held wrote one value, or none.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
