//! The embedded database: SQLite, one thread that writes, a few connections that read.
//!
//! The server is the only program that uses the file, and holds a lock on its directory to be sure. So one thread can
//! decide on documents without anybody overtaking it, and share one durable commit among all changes that wait.

mod anchors;
mod audit;
mod checkpointer;
mod checkpoints;
mod connection;
pub(super) mod copy;
mod deliveries;
mod destinations;
mod directory;
mod failure;
mod meta;
mod organisations;
mod outbox;
mod people;
mod readers;
mod recent;
mod revocations;
mod schema;
mod search;
mod self_test;
mod users;
mod writer;

use crate::{
    error::Result,
    store::{self, Gauges, memory::Memory},
};
use countersign_core::Channel;
use directory::Directory;
use readers::Readers;
use std::{path::Path, sync::Arc, time::Duration};
use writer::Writer;

/// The embedded store. Its operations are described at [`crate::store::Store`].
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
    memory: Arc<Memory>,
    fsync: Duration,
}

impl Sqlite {
    /// Opens the store in a directory, which is made if it is missing, and brings it to the present schema.
    ///
    /// Blocks for some milliseconds. Fails if another server uses the directory, or if it cannot keep what the store
    /// promises.
    pub fn open(directory: &Path) -> Result<Arc<Self>> {
        let directory = Directory::open(directory)?;
        let fsync = directory.measure_fsync()?;
        let connection = connection::writer(&directory.database())?;
        schema::migrate(&connection)?;
        if copy::mark(&connection)?.is_some() {
            return Err(store::copy::unfinished());
        }

        let memory =
            Arc::new(Memory::new(revocations::load(&connection)?, outbox::count_queued(&connection)?));
        let readers = Readers::open(&directory.database())?;
        let writer = Writer::start(connection, directory, Arc::clone(&memory))?;
        Ok(Arc::new(Self { writer, readers, memory, fsync }))
    }

    /// Tells whether a directory has a store. Opening would make one, also out of an empty file.
    pub fn exists(directory: &Path) -> bool {
        directory.join(directory::DATABASE).metadata().is_ok_and(|file| file.len() > 0)
    }

    /// Brings the store in a directory to the present schema without serving from it; returns the names of the
    /// migrations that took.
    pub fn migrate_only(directory: &Path) -> Result<Vec<&'static str>> {
        let directory = Directory::open(directory)?;
        schema::migrate(&connection::writer(&directory.database())?)
    }

    /// See [`crate::store::Store::clock_skew_millis`]. The database has no clock of its own.
    pub const fn clock_skew_millis(&self) -> i64 {
        0
    }

    /// See [`crate::store::Store::is_full`].
    pub fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    /// See [`crate::store::Store::gauges`].
    pub fn gauges(&self) -> Gauges {
        Gauges {
            fsync_seconds: self.fsync.as_secs_f64(),
            channels: Channel::ALL.map(|channel| self.memory.outbox(channel).gauges()),
            ..self.writer.gauges()
        }
    }

    /// See [`crate::store::Store::close`].
    pub async fn close(&self) {
        // The readers first: the last connection to close folds the log into the database, and a reader cannot.
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    #[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
    fn every_reading_is_answered_from_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        schema::migrate(&connection).unwrap();
        let readings = [
            &organisations::READINGS[..],
            &anchors::READINGS,
            &audit::READINGS,
            &checkpoints::READINGS,
            &outbox::READINGS,
            &deliveries::READINGS,
        ];
        let readings = readings.concat().into_iter().map(str::to_owned);
        let of_people = users::readings().into_iter().chain(people::readings()).chain(search::readings());

        for sql in readings.chain(of_people).chain(audit::spans()) {
            let steps = plan(&connection, &sql);

            // The index of parts of names says what it is asked for, and from which row on.
            let is_search =
                |step: &String| step.starts_with("SEARCH") || step.contains("VIRTUAL TABLE INDEX 64:M1><");
            assert!(steps.iter().all(is_search) || is_merged(&steps), "{sql}: {steps:?}");
        }
    }

    /// Tells whether some searches are made into one list, or owners are sorted, who are few.
    fn is_merged(steps: &[String]) -> bool {
        // What is scanned may be what searches found.
        let is_scan = |step: &String| step.contains("SCAN") && !step.starts_with("SCAN (subquery");
        let is_costly = |step: &String| is_scan(step) || step.contains("TEMP B-TREE");
        let is_of_owners = steps.iter().any(|step| step.contains("users_owners"));
        steps.iter().any(|step| step.starts_with("SEARCH")) && (is_of_owners || !steps.iter().any(is_costly))
    }

    #[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
    fn plan(connection: &Connection, sql: &str) -> Vec<String> {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get(3)).unwrap();
        steps.collect::<rusqlite::Result<Vec<_>>>().unwrap()
    }
}
