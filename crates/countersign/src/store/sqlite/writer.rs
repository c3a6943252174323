//! The one thread that writes: it takes what waits, commits it together, and answers after the commit.
//!
//! Waiting changes share one durable write, so the cost of `fsync` falls as the load rises, and no change waits for
//! a timer. While one batch becomes durable the next one gathers.

use super::{
    checkpointer::Checkpointer, directory::Directory, failure::explain, recent::Recent, users::Held,
};
use crate::{
    error::{Error, Result},
    store::{
        Gauges,
        memory::{Effect, Memory},
    },
};
use countersign_core::UserId;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::timeout,
};
use tracing::{error, warn};

/// Changes that may wait. Beyond that the server is overloaded, and saying so at once helps more than a longer queue.
const QUEUE: usize = 4096;
/// How long a job of the server's own waits for a place in the queue.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most changes that share a commit.
const BATCH: usize = 512;
/// How long nothing must happen before the log is emptied.
const IDLE: Duration = Duration::from_secs(5);
/// A page in the log, with its header.
const PAGE_BYTES: u64 = 4096 + 24;

/// The way to the thread that writes.
pub(super) struct Writer {
    /// Unbounded, so that sending never blocks a thread of the runtime; `room` bounds it.
    sender: Sender<Message>,
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
}

enum Message {
    Command(Box<dyn Command>),
    Close(oneshot::Sender<()>),
}

/// What the metrics show of the writer.
#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    changes: AtomicU64,
    last_commit_nanos: AtomicU64,
    log_pages: AtomicU64,
}

impl Writer {
    /// Starts the thread. It keeps the directory's lock until it has closed the connection.
    pub(super) fn start(
        mut connection: Connection,
        directory: Directory,
        memory: Arc<Memory>,
    ) -> Result<Self> {
        let checkpointer = Checkpointer::start(&directory)?;
        let (sender, waiting) = crossbeam_channel::unbounded();
        let room = Arc::new(Semaphore::new(QUEUE));
        let counters = Arc::new(Counters::default());

        let seen = Arc::clone(&counters);
        connection.wal_hook(Some(move |_: &mut _, pages| {
            seen.log_pages.store(u64::try_from(pages).unwrap_or(0), Relaxed);
            Ok(())
        }))?;
        let thread = Thread {
            checkpointer,
            connection,
            _directory: directory,
            waiting,
            room: Arc::clone(&room),
            counters: Arc::clone(&counters),
            memory,
            recent: RefCell::default(),
            closing: None,
        };
        thread::Builder::new()
            .name("countersign-store".into())
            .spawn(move || thread.run())
            .map_err(|error| Error::Store(format!("start the thread that writes: {error}")))?;
        Ok(Self { sender, room, counters })
    }

    /// Runs `work` in the next batch and answers once that is durable; `Error::Busy` at once where too many wait.
    ///
    /// `work` may run more than once. Once it is in the queue it runs, also when nobody waits for the answer any more:
    /// hanging up does not undo a counted failure.
    pub(super) async fn commit<T: Send + 'static>(
        &self,
        work: impl FnMut(&Batch<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = self.room.try_acquire().map_err(|_| Error::Busy)?;
        self.queue(place, work).await
    }

    /// The same for what the server does of its own accord: it waits for a place, because nobody would come back with it.
    pub(super) async fn commit_job<T: Send + 'static>(
        &self,
        work: impl FnMut(&Batch<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match timeout(PATIENCE, self.room.acquire()).await {
            Ok(Ok(place)) => self.queue(place, work).await,
            Ok(Err(_)) | Err(_) => Err(Error::Busy),
        }
    }

    async fn queue<T: Send + 'static>(
        &self,
        place: SemaphorePermit<'_>,
        work: impl FnMut(&Batch<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // The writer gives it back when it takes the command.
        place.forget();
        let (reply, answer) = oneshot::channel();
        let command = Box::new(Task { work, outcome: None, reply });
        self.sender.send(Message::Command(command)).map_err(|_| Error::Busy)?;
        answer.await.unwrap_or(Err(Error::Busy))
    }

    /// Finishes what waits, empties the log, closes the connection and gives the directory back.
    pub(super) async fn close(&self) {
        self.room.close();
        let (done, closed) = oneshot::channel();
        if self.sender.send(Message::Close(done)).is_ok() {
            // An error says that the thread is gone already.
            let _ = closed.await;
        }
    }

    /// Tells whether nobody else may wait.
    pub(super) fn is_full(&self) -> bool {
        self.room.available_permits() == 0
    }

    /// Returns what the metrics show.
    pub(super) fn gauges(&self) -> Gauges {
        Gauges {
            commits: self.counters.commits.load(Relaxed),
            changes: self.counters.changes.load(Relaxed),
            waiting: self.sender.len() as u64,
            last_commit_seconds: Duration::from_nanos(self.counters.last_commit_nanos.load(Relaxed))
                .as_secs_f64(),
            wal_bytes: self.counters.log_pages.load(Relaxed) * PAGE_BYTES,
            ..Gauges::default()
        }
    }
}

/// A change, and the caller who waits for it.
trait Command: Send {
    /// Runs it; false if it failed. Runs again if the batch was rolled back.
    fn run(&mut self, batch: &Batch<'_>) -> bool;

    /// Answers the caller: with the outcome of the last run, or with why it was not committed.
    fn answer(self: Box<Self>, committed: Result<(), String>);
}

struct Task<T, W> {
    work: W,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, W: FnMut(&Batch<'_>) -> Result<T> + Send> Command for Task<T, W> {
    fn run(&mut self, batch: &Batch<'_>) -> bool {
        // The work may be left in any state by a panic, but it is never asked for its state: it runs again or not.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.work)(batch)));
        self.outcome.insert(outcome.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), String>) {
        let outcome = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(Error::Internal("a change was answered before it ran".into())),
            (Err(reason), _) => Err(Error::Store(reason)),
        };
        // The caller may have gone away; what is committed stays.
        let _ = self.reply.send(outcome);
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    error!("a change panicked and was not committed: {text}");
    Error::Internal(format!("a change panicked: {text}"))
}

/// The open transaction that commands run in.
///
/// Whatever is kept in memory changes only after the commit, so a batch gathers it.
pub(super) struct Batch<'c> {
    transaction: Transaction<'c>,
    newest_row: Cell<i64>,
    changed: RefCell<Changed>,
    recent: &'c RefCell<Recent<Held>>,
}

/// What a batch changes in memory once it is durable.
#[derive(Default)]
struct Changed {
    effects: Vec<Effect>,
    people: HashMap<UserId, Held>,
}

impl Deref for Batch<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl<'c> Batch<'c> {
    fn begin(connection: &'c Connection, recent: &'c RefCell<Recent<Held>>) -> rusqlite::Result<Self> {
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let newest_row = transaction
            .prepare_cached("SELECT coalesce(max(row), 0) FROM audit")?
            .query_row([], |row| row.get(0))?;
        Ok(Self { transaction, newest_row: Cell::new(newest_row), changed: RefCell::default(), recent })
    }

    /// Returns the number of the newest audit row. With one writer the next ones are known before they are written, so
    /// a document can name its audit rows in the statement that may still find a name taken.
    pub(super) fn newest_row(&self) -> i64 {
        self.newest_row.get()
    }

    /// Notes that another audit row was written.
    pub(super) fn set_newest_row(&self, row: i64) {
        self.newest_row.set(row);
    }

    /// Has something happen in memory once the batch is durable.
    pub(super) fn after_commit(&self, effect: Effect) {
        self.changed.borrow_mut().effects.push(effect);
    }

    /// Takes somebody out of those changed last, in this batch or before.
    pub(super) fn take(&self, id: UserId) -> Option<Held> {
        let of_batch = self.changed.borrow_mut().people.remove(&id);
        of_batch.or_else(|| self.recent.borrow_mut().take(id))
    }

    /// Has somebody be among those once the batch is durable, and for the rest of the batch.
    pub(super) fn keep(&self, held: Held) {
        self.changed.borrow_mut().people.insert(held.id(), held);
    }

    /// Runs `work` as any command would, then takes back all it did.
    pub(super) fn rehearse<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (newest_row, effects) = (self.newest_row.get(), self.changed.borrow().effects.len());
        self.execute_batch("SAVEPOINT rehearsal")?;
        let outcome = work();
        self.execute_batch("ROLLBACK TO rehearsal; RELEASE rehearsal")?;
        self.newest_row.set(newest_row);
        let mut changed = self.changed.borrow_mut();
        changed.effects.truncate(effects);
        // Whoever was changed before is read from their row, which has what it had.
        changed.people.clear();
        outcome
    }

    /// Runs a command; false if the batch can no longer be committed.
    ///
    /// A command that fails before its first write (refused, not found, a name taken, a panicking rule) leaves nothing
    /// behind, and its error is its answer. One that fails later may have left half a change, and on some errors SQLite
    /// rolls back by itself.
    fn run(&self, command: &mut dyn Command) -> bool {
        let before = self.total_changes();
        command.run(self) || (self.total_changes() == before && !self.is_autocommit())
    }

    fn commit(self) -> rusqlite::Result<Vec<Effect>> {
        // An error drops the transaction, which rolls it back. What it may have written lies behind the end of the log, and
        // the next commit overwrites it.
        self.transaction.commit()?;
        let Changed { effects, people } = self.changed.into_inner();
        let mut recent = self.recent.borrow_mut();
        people.into_iter().for_each(|(id, held)| recent.keep(id, held));
        Ok(effects)
    }
}

/// Why a batch was rolled back.
enum Undone {
    /// One of its commands failed midway.
    Spoilt,
    /// It could not begin or not become durable.
    Failed(String),
}

struct Thread {
    /// Dropped before the connection, which is the last and so folds the log into the database.
    checkpointer: Checkpointer,
    connection: Connection,
    /// Dropped after the connection: the lock outlives the last write.
    _directory: Directory,
    waiting: Receiver<Message>,
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
    memory: Arc<Memory>,
    recent: RefCell<Recent<Held>>,
    closing: Option<oneshot::Sender<()>>,
}

impl Thread {
    fn run(mut self) {
        while let Some(message) = self.next() {
            let commands = self.gather(message);
            let changes = commands.len();
            self.settle(commands);
            if self.checkpointer.tend(self.counters.log_pages.load(Relaxed), changes) {
                self.checkpoint("PASSIVE");
            }
        }
        self.empty_log();
        let closing = self.closing.take();
        drop(self);
        if let Some(closed) = closing {
            let _ = closed.send(());
        }
    }

    /// Waits for a message; `None` once there will be no more.
    fn next(&mut self) -> Option<Message> {
        if self.closing.is_some() {
            return self.waiting.try_recv().ok();
        }
        match self.waiting.recv_timeout(IDLE) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.empty_log();
                self.waiting.recv().ok()
            }
        }
    }

    /// Takes what else waits. Waiting for more would only delay those who are here.
    fn gather(&mut self, first: Message) -> Vec<Box<dyn Command>> {
        let mut commands = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Command(command) => commands.push(command),
                Message::Close(done) => self.closing = Some(done),
            }
            next = if commands.len() < BATCH { self.waiting.try_recv().ok() } else { None };
        }
        self.room.add_permits(commands.len());
        commands
    }

    /// Commits commands together and answers them. If one fails midway each runs again in a transaction of its own, so
    /// that only that one gets the error.
    fn settle(&mut self, mut commands: Vec<Box<dyn Command>>) {
        if commands.is_empty() {
            return;
        }
        match self.attempt(&mut commands) {
            Ok(effects) => {
                self.counters.commits.fetch_add(1, Relaxed);
                self.counters.changes.fetch_add(commands.len() as u64, Relaxed);
                self.memory.apply(effects);
                commands.into_iter().for_each(|command| command.answer(Ok(())));
            }
            // Alone it was; its outcome is the error it failed with.
            Err(Undone::Spoilt) if commands.len() == 1 => {
                commands.into_iter().for_each(|command| command.answer(Ok(())));
            }
            Err(Undone::Spoilt) => commands.into_iter().for_each(|command| self.settle(vec![command])),
            Err(Undone::Failed(reason)) => {
                commands.into_iter().for_each(|command| command.answer(Err(reason.clone())));
                // Where the log cannot grow, beginning it anew makes room.
                self.checkpointer.wait();
                self.checkpoint("PASSIVE");
            }
        }
    }

    fn attempt(&self, commands: &mut [Box<dyn Command>]) -> Result<Vec<Effect>, Undone> {
        let failed = |doing| move |error| Undone::Failed(explain(doing, &error).to_string());
        let batch = Batch::begin(&self.connection, &self.recent).map_err(failed("begin"))?;
        for command in commands {
            if !batch.run(command.as_mut()) {
                return Err(Undone::Spoilt);
            }
        }
        let start = Instant::now();
        let effects = batch.commit().map_err(failed("commit"))?;
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.last_commit_nanos.store(nanos, Relaxed);
        Ok(effects)
    }

    fn empty_log(&mut self) {
        if self.counters.log_pages.load(Relaxed) == 0 {
            return;
        }
        // A reader in the way is no reason to keep changes waiting; the next time will do.
        let hurry = self.connection.busy_timeout(Duration::ZERO);
        self.checkpoint("TRUNCATE");
        let patience = self.connection.busy_timeout(Duration::from_secs(1));
        if let Err(error) = hurry.and(patience) {
            warn!("set the store's patience: {error}");
        }
    }

    /// Copies the log into the database. Nobody waits for it: what is in the log is durable already.
    fn checkpoint(&mut self, mode: &str) {
        let pages = self
            .connection
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(1));
        match pages {
            Ok(pages) => self.counters.log_pages.store(u64::try_from(pages).unwrap_or(0), Relaxed),
            Err(error) => warn!("{}", explain("copy the log into the database", &error)),
        }
        self.checkpointer.note_end(self.counters.log_pages.load(Relaxed));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::store::{
        scratch::{self, ORGANISATION, PERSON},
        sqlite::{connection, organisations, schema, users},
    };
    use countersign_core::{Handle, Timestamp, User, Verdict};
    use std::sync::{
        atomic::AtomicBool,
        mpsc::{self, Sender},
    };
    use tempfile::TempDir;
    use uuid::Uuid;

    struct Bench {
        writer: Arc<Writer>,
        memory: Arc<Memory>,
        commits_fail: Arc<AtomicBool>,
        _directory: TempDir,
    }

    impl Bench {
        fn start() -> Self {
            let place = tempfile::tempdir().unwrap();
            let directory = Directory::open(place.path()).unwrap();
            let mut connection = connection::writer(&directory.database()).unwrap();
            schema::migrate(&connection).unwrap();
            let commits_fail = Arc::new(AtomicBool::new(false));
            let fail = Arc::clone(&commits_fail);
            connection.commit_hook(Some(move || fail.load(Relaxed))).unwrap();
            let memory = Arc::new(Memory::default());
            let writer = Arc::new(Writer::start(connection, directory, Arc::clone(&memory)).unwrap());
            Self { writer, memory, commits_fail, _directory: place }
        }

        /// Has a change hold the writer until the sender is dropped.
        async fn hold(&self) -> Sender<()> {
            let (release, gate) = mpsc::channel();
            let (entered, inside) = mpsc::channel();
            self.queue(move |_| {
                entered.send(()).unwrap();
                let _ = gate.recv();
                Ok(())
            });
            tokio::task::spawn_blocking(move || inside.recv().unwrap()).await.unwrap();
            release
        }

        fn queue<T: Send + 'static>(
            &self,
            work: impl FnMut(&Batch<'_>) -> Result<T> + Send + 'static,
        ) -> tokio::task::JoinHandle<Result<T>> {
            let writer = Arc::clone(&self.writer);
            tokio::spawn(async move { writer.commit(work).await })
        }

        async fn waiting(&self, count: u64) {
            while self.writer.gauges().waiting < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }

        async fn decoys(&self) -> i64 {
            let count =
                |batch: &Batch<'_>| Ok(batch.query_row("SELECT count FROM decoy", [], |row| row.get(0))?);
            self.writer.commit(count).await.unwrap()
        }
    }

    fn decoy(batch: &Batch<'_>) -> Result<()> {
        batch.execute("UPDATE decoy SET count = count + 1", [])?;
        Ok(())
    }

    fn take_room(batch: &Batch<'_>) -> Result<()> {
        batch.execute("UPDATE decoy SET count = count + 100", [])?;
        batch.execute("INSERT INTO meta (name, value) VALUES ('large', zeroblob(1000000))", [])?;
        Ok(())
    }

    fn limit_pages(batch: &Batch<'_>, beyond: i64) -> Result<()> {
        let pages: i64 = batch.pragma_query_value(None, "page_count", |row| row.get(0))?;
        batch.pragma_update_and_check(None, "max_page_count", pages + beyond, |_| Ok(()))?;
        Ok(())
    }

    #[tokio::test]
    async fn a_full_disk_fails_what_needs_room_and_nothing_else() {
        let bench = Bench::start();
        bench.writer.commit(|batch| limit_pages(batch, 0)).await.unwrap();
        let hold = bench.hold().await;
        let before = bench.queue(decoy);
        bench.waiting(1).await;
        let large = bench.queue(take_room);
        bench.waiting(2).await;
        let after = bench.queue(decoy);
        bench.waiting(3).await;
        drop(hold);

        let refused = large.await.unwrap().unwrap_err().to_string();

        assert!(refused.contains("the disk is full; free space"), "{refused}");
        before.await.unwrap().unwrap();
        after.await.unwrap().unwrap();
        assert_eq!(bench.decoys().await, 2);
        bench.writer.commit(|batch| limit_pages(batch, 1000)).await.unwrap();
        bench.writer.commit(take_room).await.unwrap();
        assert_eq!(bench.decoys().await, 102);
    }

    #[tokio::test]
    async fn a_failed_commit_is_nobodys_success() {
        let bench = Bench::start();
        let token = Uuid::from_u128(1);
        let revoke = move |batch: &Batch<'_>| {
            decoy(batch)?;
            batch.after_commit(Effect::Revoked(token, Timestamp::from_millis(0)));
            Ok(())
        };
        let hold = bench.hold().await;
        let calls = [bench.queue(revoke), bench.queue(revoke)];
        bench.waiting(2).await;
        bench.commits_fail.store(true, Relaxed);
        drop(hold);

        for call in calls {
            let failed = call.await.unwrap().unwrap_err().to_string();
            assert!(failed.starts_with("commit: "), "{failed}");
        }
        assert!(!bench.memory.is_revoked(token));
        bench.commits_fail.store(false, Relaxed);
        assert_eq!(bench.decoys().await, 0);
        bench.writer.commit(revoke).await.unwrap();
        assert_eq!(bench.decoys().await, 1);
        assert!(bench.memory.is_revoked(token));
    }

    /// Admits the scratch person; returns a change that tries their code.
    async fn admit(
        bench: &Bench,
    ) -> impl FnMut(&Batch<'_>) -> Result<Verdict> + Clone + Send + 'static + use<> {
        let now = Timestamp::from_seconds(1_800_000_000);
        let create = move |batch: &Batch<'_>| {
            organisations::insert(batch, scratch::organisation(now)?)?;
            users::create(batch, ORGANISATION, &mut |organisation| scratch::admit(organisation, now))
                .map(drop)
        };
        bench.writer.commit(create).await.unwrap();
        let attempt = scratch::attempt(now).unwrap();
        move |batch| {
            let mut verify = |user: &mut User| scratch::verify(user, &attempt, now);
            users::change(batch, ORGANISATION, &Handle::Id(PERSON), &mut verify)
        }
    }

    #[tokio::test]
    async fn what_a_failed_commit_decided_is_forgotten() {
        let bench = Bench::start();
        let verify = admit(&bench).await;

        bench.commits_fail.store(true, Relaxed);
        bench.writer.commit(verify.clone()).await.unwrap_err();
        bench.commits_fail.store(false, Relaxed);

        // Were it remembered, the code would be used up.
        assert!(bench.writer.commit(verify.clone()).await.unwrap().is_accepted());
        assert_eq!(bench.writer.commit(verify).await.unwrap(), Verdict::Replayed);
    }

    #[tokio::test]
    async fn what_a_spoilt_batch_decided_is_forgotten_and_decided_again() {
        let bench = Bench::start();
        let verify = admit(&bench).await;
        let spoil = |batch: &Batch<'_>| {
            decoy(batch)?;
            Err::<(), _>(Error::Internal("after a write".into()))
        };
        let hold = bench.hold().await;
        let first = bench.queue(verify.clone());
        bench.waiting(1).await;
        let spoilt = bench.queue(spoil);
        bench.waiting(2).await;
        let second = bench.queue(verify);
        bench.waiting(3).await;
        drop(hold);

        assert!(first.await.unwrap().unwrap().is_accepted());
        spoilt.await.unwrap().unwrap_err();
        assert_eq!(second.await.unwrap().unwrap(), Verdict::Replayed);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_jobs_wait_for_a_place() {
        let bench = Bench::start();
        let hold = bench.hold().await;
        let waiting: Vec<_> = (0..QUEUE).map(|_| bench.queue(decoy)).collect();
        bench.waiting(QUEUE as u64).await;

        let begun = Instant::now();
        let refused = bench.writer.commit(decoy).await;
        assert!(matches!(refused, Err(Error::Busy)), "{refused:?}");
        assert!(begun.elapsed() < PATIENCE / 2);

        let writer = Arc::clone(&bench.writer);
        let job = tokio::spawn(async move { writer.commit_job(decoy).await });
        tokio::task::yield_now().await;
        drop(hold);
        job.await.unwrap().unwrap();
        for one in waiting {
            one.await.unwrap().unwrap();
        }
        assert_eq!(bench.decoys().await, i64::try_from(QUEUE).unwrap() + 1);
    }

    #[tokio::test]
    async fn a_rehearsal_leaves_nothing() {
        let bench = Bench::start();
        let token = Uuid::from_u128(1);

        let rehearsed = bench
            .writer
            .commit(move |batch| {
                batch.rehearse(|| {
                    decoy(batch)?;
                    batch.set_newest_row(7);
                    batch.after_commit(Effect::Revoked(token, Timestamp::from_millis(0)));
                    Ok(())
                })?;
                Ok(batch.newest_row())
            })
            .await;

        assert_eq!(rehearsed.unwrap(), 0);
        assert_eq!(bench.decoys().await, 0);
        assert!(!bench.memory.is_revoked(token));
    }
}
