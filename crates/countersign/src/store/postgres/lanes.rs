//! Lanes: changes that wait share a commit.
//!
//! A person's changes all go by one lane, in the order they came; changes of different people gather while the commit before
//! them is under way, and are then read, decided and written together: two statements for all of them. Each is guarded for
//! itself, so one that was overtaken by another node is decided again, and the others stand.
//!
//! Everybody is answered after a commit that came later than what they were decided on, also who changed nothing.

use super::{
    database::{DEADLINE, Database, Lent, Patience, Proof, committed, settle},
    failure::Fault,
    shared::{self, Loaded},
};
use crate::error::{Error, Result};
use countersign_core::{Handle, OrganisationId, Refusal, User, UserId};
use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tracing::error;

/// How many lanes there are. A statement costs PostgreSQL much, and each document in it little: what waits is not to be split
/// into many small batches (4 lanes under 64 connections made batches of 8, at twice the cost a change).
const LANES: usize = 1;
/// The most changes that share a commit.
const BATCH: usize = 128;
/// Changes that may wait on a lane. Beyond that the server is overloaded, and saying so helps more than a longer queue.
const QUEUE: usize = 1024;
/// How long one round of a lane may take.
const ROUND: Duration = Duration::from_secs(2);

/// The lanes.
pub(super) struct Lanes {
    /// Empty once the store is closed.
    queues: RwLock<Vec<mpsc::Sender<Box<dyn Job>>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    waiting: Arc<AtomicU64>,
}

/// How a change ended in its lane.
pub(super) enum Reply<T, F> {
    /// It is decided, and what it was decided on and what it led to are durable.
    Decided(Result<T>),
    /// It touches more than a document and its events, and needs a transaction of its own.
    Alone(F),
}

impl Lanes {
    /// Opens the lanes.
    pub(super) fn open(database: &Arc<Database>) -> Self {
        let waiting = Arc::new(AtomicU64::new(0));
        let (queues, tasks) = (0..LANES)
            .map(|_| {
                let (queue, jobs) = mpsc::channel(QUEUE);
                let lane = Lane { database: Arc::clone(database), jobs, waiting: Arc::clone(&waiting) };
                (queue, tokio::spawn(lane.run()))
            })
            .unzip();
        Self { queues: RwLock::new(queues), tasks: Mutex::new(tasks), waiting }
    }

    /// Has a change decided and committed with those that wait.
    pub(super) async fn change<T, F>(
        &self,
        organisation: OrganisationId,
        user: UserId,
        handle: Handle,
        decide: F,
    ) -> Reply<T, F>
    where
        T: Send + 'static,
        F: FnMut(&mut User) -> Result<T, Refusal> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let until = Instant::now() + DEADLINE;
        let job = Box::new(Task {
            name: Name { organisation, user, handle },
            decide,
            outcome: None,
            uncertain: Vec::new(),
            until,
            reply,
        });
        let Some(queue) = self.queue_of(user) else { return Reply::Decided(Err(Error::Busy)) };
        match timeout_at(until, queue.send(job)).await {
            Ok(Ok(())) => self.waiting.fetch_add(1, Relaxed),
            Ok(Err(_)) | Err(_) => return Reply::Decided(Err(Error::Busy)),
        };
        match timeout_at(until, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Reply::Decided(Err(Error::Busy)),
            // It may yet happen; who asks again with the same request id will hear of it.
            Err(_) => Reply::Decided(Err(Error::Unreachable("a commit took too long".into()))),
        }
    }

    fn queue_of(&self, user: UserId) -> Option<mpsc::Sender<Box<dyn Job>>> {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        // Of a UUIDv7 the last bytes are drawn.
        let place = usize::from(user.uuid().as_bytes()[15]).checked_rem(queues.len())?;
        queues.get(place).cloned()
    }

    /// Returns how many changes wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Takes no more changes, and waits until those that wait are done.
    pub(super) async fn close(&self) {
        self.queues.write().unwrap_or_else(PoisonError::into_inner).clear();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        drop(timeout(DEADLINE * 2, futures_util::future::join_all(tasks)).await);
    }
}

/// Whom a change is about.
pub(super) struct Name {
    pub(super) organisation: OrganisationId,
    pub(super) user: UserId,
    /// By what they were found; somebody else may have it by now.
    pub(super) handle: Handle,
}

/// A change that waits, and the caller who waits for it.
trait Job: Send {
    fn name(&self) -> &Name;

    fn until(&self) -> Instant;

    /// Decides on the document; false if it refused or failed.
    fn decide(&mut self, user: &mut User) -> bool;

    /// Sets the outcome without deciding.
    fn fail(&mut self, error: Error);

    /// Puts the outcome aside: nobody knows whether the commit with this event went through.
    fn put_aside(&mut self, proof: Proof);

    /// Returns the events of commits nobody knows the end of.
    fn proofs(&self) -> Vec<Proof>;

    /// Takes up the outcome that was committed with this event after all.
    fn take_up(&mut self, proof: Proof);

    /// Answers the caller.
    fn answer(self: Box<Self>);

    /// Gives the change back: it needs a transaction of its own.
    fn hand_back(self: Box<Self>);
}

struct Task<T, F> {
    name: Name,
    decide: F,
    outcome: Option<Result<T>>,
    uncertain: Vec<(Proof, Result<T>)>,
    until: Instant,
    reply: oneshot::Sender<Reply<T, F>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&mut User) -> Result<T, Refusal> + Send,
{
    fn name(&self) -> &Name {
        &self.name
    }

    fn until(&self) -> Instant {
        self.until
    }

    fn decide(&mut self, user: &mut User) -> bool {
        // A panic may leave anything behind in the document, which is then dropped.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.decide)(user).map_err(Error::from)));
        self.outcome.insert(outcome.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))).is_ok()
    }

    fn fail(&mut self, error: Error) {
        self.outcome = Some(Err(error));
    }

    fn put_aside(&mut self, proof: Proof) {
        self.uncertain.extend(self.outcome.take().map(|outcome| (proof, outcome)));
    }

    fn proofs(&self) -> Vec<Proof> {
        self.uncertain.iter().map(|(proof, _)| *proof).collect()
    }

    fn take_up(&mut self, proof: Proof) {
        if let Some(place) = self.uncertain.iter().position(|(found, _)| *found == proof) {
            self.outcome = Some(self.uncertain.swap_remove(place).1);
        }
    }

    fn answer(self: Box<Self>) {
        let outcome = self
            .outcome
            .unwrap_or_else(|| Err(Error::Internal("a change was answered before it ran".into())));
        // The caller may have gone away; what is committed stays.
        let _ = self.reply.send(Reply::Decided(outcome));
    }

    fn hand_back(self: Box<Self>) {
        let _ = self.reply.send(Reply::Alone(self.decide));
    }
}

/// Says that a rule panicked.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    error!("a change panicked and was not committed: {text}");
    Error::Internal(format!("a change panicked: {text}"))
}

struct Lane {
    database: Arc<Database>,
    jobs: mpsc::Receiver<Box<dyn Job>>,
    waiting: Arc<AtomicU64>,
}

impl Lane {
    async fn run(mut self) {
        let mut jobs = Vec::with_capacity(BATCH);
        loop {
            let taken = self.jobs.recv_many(&mut jobs, BATCH).await;
            if taken == 0 {
                return;
            }
            self.waiting.fetch_sub(taken as u64, Relaxed);
            self.settle(std::mem::take(&mut jobs)).await;
        }
    }

    /// Works on some changes until each is answered. Whose time is up is answered by their caller.
    async fn settle(&self, mut jobs: Vec<Box<dyn Job>>) {
        let mut patience = Patience::new();
        while !jobs.is_empty() {
            let now = Instant::now();
            jobs.retain(|job| job.until() > now);
            if let Err(fault) = self.round(&mut jobs).await
                && let Err(failure) = patience.endure(fault).await
            {
                for mut job in jobs.drain(..) {
                    job.fail(again(&failure));
                    job.answer();
                }
            }
        }
    }

    /// Reads, decides and writes once; answers whoever is done, and leaves the others.
    async fn round(&self, jobs: &mut Vec<Box<dyn Job>>) -> Result<(), Fault> {
        if jobs.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + ROUND;
        let mut batch = Batch::default();
        let outcome = timeout_at(until, self.attempt(jobs, &mut batch, until)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Fault::Passing("a commit took too long".into())));
        // What was sent and not answered is uncertain; what was not sent is simply done again.
        jobs.append(&mut batch.put_aside());
        outcome
    }

    async fn attempt(
        &self,
        jobs: &mut Vec<Box<dyn Job>>,
        batch: &mut Batch,
        until: Instant,
    ) -> Result<(), Fault> {
        let begun = std::time::Instant::now();
        let lent = self.database.lend(until).await?;
        self.answer_committed(&lent, jobs).await?;
        let people = jobs.iter().map(|job| job.name().user.uuid()).collect();
        let mut loaded = shared::load(&self.database, &lent, people).await?;

        let mut by_user: BTreeMap<UserId, Vec<Box<dyn Job>>> = BTreeMap::new();
        for job in jobs.drain(..) {
            by_user.entry(job.name().user).or_default().push(job);
        }
        for (user, jobs) in by_user {
            match loaded.remove(&user) {
                Some(document) => batch.decide(&self.database, document, jobs),
                None => jobs.into_iter().for_each(|job| batch.miss(job)),
            }
        }
        if batch.is_written() {
            let numbers = self.database.numbers(batch.rows(), batch.after())?;
            batch.number(&numbers.rows);
            batch.is_sent = true;
            let changed = shared::write(&self.database, &lent, &batch.groups(), numbers.until_millis).await?;
            self.database.counters.note(changed.len(), begun);
            self.database.cluster.note_event(batch.proof(&changed));
            self.database.memory.apply(batch.posted(&changed));
            if changed.is_empty() && batch.has_answers() {
                settle(&lent).await?;
            }
            batch.answer(&changed, jobs);
        } else if batch.has_answers() {
            settle(&lent).await?;
            self.database.counters.note(0, begun);
        }
        batch.is_sent = false;
        batch.answer_unchanged();
        Ok(())
    }

    /// Answers the changes that were committed after all by an attempt nobody knew the end of.
    async fn answer_committed(&self, lent: &Lent, jobs: &mut Vec<Box<dyn Job>>) -> Result<(), Fault> {
        let proofs: Vec<Proof> = jobs.iter().flat_map(|job| job.proofs()).collect();
        if proofs.is_empty() {
            return Ok(());
        }
        let there = committed(lent, &proofs).await?;
        if there.is_empty() {
            return Ok(());
        }
        settle(lent).await?;
        for mut job in std::mem::take(jobs) {
            match job.proofs().into_iter().find(|proof| there.contains(proof)) {
                Some(proof) => {
                    job.take_up(proof);
                    job.answer();
                }
                None => jobs.push(job),
            }
        }
        Ok(())
    }
}

/// What several callers are told of one failure.
fn again(failure: &Error) -> Error {
    match failure {
        Error::Unreachable(cause) => Error::Unreachable(cause.clone()),
        Error::Store(cause) => Error::Store(cause.clone()),
        Error::Internal(cause) => Error::Internal(cause.clone()),
        _ => Error::Busy,
    }
}

/// A round of a lane: who is written, and who is only answered.
#[derive(Default)]
struct Batch {
    written: Vec<Written>,
    unchanged: Vec<Box<dyn Job>>,
    alone: Vec<Box<dyn Job>>,
    is_sent: bool,
}

/// A document, what happened in it, and the changes that did it.
struct Written {
    group: shared::Group,
    /// Each change with the events it recorded.
    jobs: Vec<(Box<dyn Job>, usize)>,
}

impl Batch {
    /// Decides one person's changes, one after the other on the same document.
    fn decide(&mut self, database: &Database, loaded: Loaded, jobs: Vec<Box<dyn Job>>) {
        let Loaded { guard, columns, user } = loaded;
        let mut user = match user {
            Ok(user) => user,
            Err(unreadable) => return self.refuse(jobs, || Error::Store(unreadable.to_string())),
        };
        database.burn(&mut user);
        let mut group = shared::Group::new(guard, columns);
        let mut done = Vec::new();
        let mut jobs = jobs.into_iter().peekable();
        while let Some(mut job) = jobs.next() {
            let name = job.name();
            if user.organisation != name.organisation || !shared::answers_to(&user, &name.handle) {
                self.miss(job);
                continue;
            }
            // The last one needs nothing to go back to, unless it comes after others.
            let before = (jobs.peek().is_some() || !done.is_empty()).then(|| user.clone());
            let is_decided = job.decide(&mut user) && !user.is_unchanged();
            match is_decided.then(|| group.take(&mut user)) {
                Some(Ok(records)) => {
                    done.push((job, records));
                    continue;
                }
                Some(Err(shared::NotShared::Alone)) => self.alone.push(job),
                Some(Err(shared::NotShared::Failed(error))) => self.refuse(vec![job], || again(&error)),
                None => self.unchanged.push(job),
            }
            user = before.unwrap_or(user);
        }
        if !done.is_empty() {
            group.finish(user);
            self.written.push(Written { group, jobs: done });
        }
    }

    /// Says that a person is not there; or has somebody look who has the name now by which they were found.
    fn miss(&mut self, job: Box<dyn Job>) {
        match job.name().handle {
            Handle::Id(_) => self.refuse(vec![job], || Error::NotFound("user")),
            _ => self.alone.push(job),
        }
    }

    fn refuse(&mut self, jobs: Vec<Box<dyn Job>>, error: impl Fn() -> Error) {
        for mut job in jobs {
            job.fail(error());
            self.unchanged.push(job);
        }
    }

    fn is_written(&self) -> bool {
        !self.written.is_empty()
    }

    fn has_answers(&self) -> bool {
        !self.unchanged.is_empty()
    }

    fn rows(&self) -> usize {
        self.written.iter().map(|written| written.group.records.len()).sum()
    }

    fn after(&self) -> i64 {
        self.written.iter().map(|written| written.group.after()).max().unwrap_or_default()
    }

    fn number(&mut self, rows: &[i64]) {
        let mut rows = rows.iter().copied();
        for written in &mut self.written {
            written.group.rows = rows.by_ref().take(written.group.records.len()).collect();
        }
    }

    fn groups(&self) -> Vec<&shared::Group> {
        self.written.iter().map(|written| &written.group).collect()
    }

    fn posted(&self, changed: &[UserId]) -> Vec<crate::store::memory::Effect> {
        let written = self.written.iter().filter(|written| changed.contains(&written.group.id()));
        written.flat_map(|written| written.group.posted()).collect()
    }

    /// Returns an event that was written.
    fn proof(&self, changed: &[UserId]) -> Option<Proof> {
        let written = self.written.iter().find(|written| changed.contains(&written.group.id()))?;
        written.group.proof(0)
    }

    /// Answers those whose documents were written; the others are to be decided again.
    fn answer(&mut self, changed: &[UserId], again: &mut Vec<Box<dyn Job>>) {
        for written in std::mem::take(&mut self.written) {
            let is_changed = changed.contains(&written.group.id());
            for (job, _) in written.jobs {
                if is_changed { job.answer() } else { again.push(job) }
            }
        }
    }

    fn answer_unchanged(&mut self) {
        self.unchanged.drain(..).for_each(Job::answer);
        self.alone.drain(..).for_each(Job::hand_back);
    }

    /// Takes back all that was not answered. Of what was sent nobody knows whether it was committed.
    fn put_aside(&mut self) -> Vec<Box<dyn Job>> {
        let mut jobs: Vec<_> = self.unchanged.drain(..).chain(self.alone.drain(..)).collect();
        for written in std::mem::take(&mut self.written) {
            let mut first = 0;
            for (mut job, records) in written.jobs {
                if self.is_sent
                    && let Some(proof) = written.group.proof(first)
                {
                    job.put_aside(proof);
                }
                first += records;
                jobs.push(job);
            }
        }
        jobs
    }
}
