//! Reads rows ahead of the writer where the disk is slow to give them.
//!
//! One thread writes, and what it has to read from the disk it reads one row after the other, with everybody waiting. Where the
//! estate fits in memory that costs next to nothing. Where it does not, several connections fetch the rows of those who are
//! about to be changed, all at once, and the writer finds them in the system's memory.

use super::{readers::Readers, users};
use countersign_core::{Handle, OrganisationId};
use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tracing::warn;

/// How many rows are fetched at once. Disks do as many things at the same time without being slower at each.
const CONNECTIONS: usize = 8;
/// How long a row may take without being fetched ahead: longer than from memory, shorter than from most disks.
const SLOW: Duration = Duration::from_micros(40);
/// What the newest of the readings counts for, as a part of all.
const WEIGHT: u64 = 64;
/// What a single reading counts at most, in nanoseconds: one that waited for something else says little about the others.
const LONGEST: u64 = 1_000_000;

/// How long it took lately to read somebody's row for whoever came to it first.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    /// Tells whether rows take long.
    pub(super) fn is_slow(&self) -> bool {
        u128::from(self.0.load(Relaxed)) > SLOW.as_nanos()
    }

    /// Notes a reading. One of two at the same moment may be lost: there are many.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(LONGEST);
        let before = self.0.load(Relaxed);
        self.0.store(before - before / WEIGHT + took / WEIGHT, Relaxed);
    }
}

/// The connections that read ahead. They are opened when the disk is slow first.
pub(super) struct Ahead {
    database: PathBuf,
    pace: Arc<Pace>,
    readers: OnceLock<Option<Readers>>,
}

impl Ahead {
    /// Reads ahead where a pace is slow.
    pub(super) fn new(database: PathBuf, pace: Arc<Pace>) -> Self {
        Self { database, pace, readers: OnceLock::new() }
    }

    /// Fetches the row of somebody who is about to be changed, if that takes long. If it cannot be done, the writer reads it.
    pub(super) async fn fetch(&self, organisation: OrganisationId, handle: &Handle) {
        if !self.pace.is_slow() {
            return;
        }
        let Some(readers) = self.readers.get_or_init(|| self.open()) else { return };
        let handle = handle.clone();
        if let Ok(took) = readers.read(move |reader| users::touch(reader, organisation, &handle)).await {
            self.pace.note(took);
        }
    }

    fn open(&self) -> Option<Readers> {
        let opened = Readers::open(&self.database, CONNECTIONS);
        opened.map_err(|error| warn!("rows are not read ahead: {error}")).ok()
    }

    /// Closes the connections. Nothing is read ahead from then on.
    pub(super) async fn close(&self) {
        if let Some(readers) = self.readers.get_or_init(|| None) {
            readers.close().await;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::store::{
        scratch::{self, ORGANISATION, PERSON},
        sqlite::{Sqlite, organisations, writer::Batch},
    };
    use countersign_core::Timestamp;

    /// Opens a store with somebody in it, where rows seem to take long.
    async fn slow_store(place: &tempfile::TempDir) -> Arc<Sqlite> {
        let now = Timestamp::from_millis(1_000_000);
        let store = Sqlite::open(place.path()).unwrap();
        let insert = move |batch: &Batch<'_>| {
            organisations::insert(batch, scratch::organisation(now)?)?;
            users::create(batch, ORGANISATION, &mut |organisation| scratch::admit(organisation, now))
        };
        store.writer.commit(insert).await.unwrap();
        for _ in 0..1000 {
            store.ahead.pace.note(Duration::from_millis(1));
        }
        store
    }

    async fn change(store: &Sqlite) {
        store.change(ORGANISATION, PERSON, |_| Ok(())).await.unwrap();
    }

    #[test]
    fn rows_are_slow_once_many_of_them_are() {
        let (memory, disk) = (Duration::from_micros(10), Duration::from_micros(200));
        let pace = Pace::default();
        for _ in 0..1000 {
            pace.note(memory);
        }
        pace.note(Duration::from_millis(1));
        assert!(!pace.is_slow(), "one is not many");

        for _ in 0..1000 {
            pace.note(disk);
        }
        assert!(pace.is_slow());

        for _ in 0..1000 {
            pace.note(memory);
        }
        assert!(!pace.is_slow());
    }

    #[tokio::test]
    async fn what_is_slow_is_read_ahead_until_it_is_fast() {
        let place = tempfile::tempdir().unwrap();
        let store = slow_store(&place).await;
        let slow = store.ahead.pace.0.load(Relaxed);

        change(&store).await;

        assert!(store.ahead.readers.get().is_some());
        assert!(store.ahead.pace.0.load(Relaxed) < slow, "the reading was noted");
    }

    #[tokio::test]
    async fn what_is_fast_is_read_by_the_writer() {
        let place = tempfile::tempdir().unwrap();
        let store = slow_store(&place).await;
        store.ahead.pace.0.store(0, Relaxed);

        change(&store).await;

        assert!(store.ahead.readers.get().is_none());
    }

    #[tokio::test]
    async fn a_change_needs_nothing_to_be_read_ahead() {
        let place = tempfile::tempdir().unwrap();
        let store = slow_store(&place).await;
        change(&store).await;

        store.ahead.close().await;

        change(&store).await;
    }
}
