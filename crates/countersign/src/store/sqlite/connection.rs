//! Connections: one that writes, some that read.

use super::failure::explain;
use crate::error::{Error, Result};
use rusqlite::{Connection, OpenFlags};
use std::{path::Path, time::Duration};

/// Earlier releases can lose commits when the log is reset (fixed in 3.51.3).
const OLDEST_SQLITE: i32 = 3_051_003;

/// KiB of pages the writer keeps.
const WRITER_CACHE: i64 = 16 * 1024;
/// KiB of pages each reader keeps.
const READER_CACHE: i64 = 2 * 1024;
/// KiB of pages kept by the connection that copies the log: it reads none through its cache.
const CHECKPOINTER_CACHE: i64 = 64;
/// Above the size the log has under load, so that its blocks are used again instead of allocated anew.
const LOG_KEEPS: i64 = 128 * 1024 * 1024;
/// Prepared statements a connection keeps: more than there are.
const STATEMENTS: usize = 96;

/// Each connection is used by one thread at a time, so it needs no mutex of its own.
const UNSHARED: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX;

/// Opens the connection that writes.
pub(super) fn writer(path: &Path) -> Result<Connection> {
    check_version()?;
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | UNSHARED)?;
    let pragmas = || {
        connection.pragma_update(None, "cache_size", -WRITER_CACHE)?;
        // An answer is given after COMMIT, so COMMIT has to mean that the log is on the disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // The writer decides when to checkpoint: between batches, never inside a commit somebody waits for.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", LOG_KEEPS)?;
        // The constraints a document needs are unique indexes; its parts are not spread over tables.
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
    };
    // The first use of the file: a damaged header, a foreign file or a missing permission shows here.
    match pragmas().map_err(|error| explain("open database", &error))?.as_str() {
        "wal" => Ok(connection),
        mode => Err(Error::Store(format!("open database: cannot keep a write-ahead log here, only {mode}"))),
    }
}

/// Opens a connection that copies the log into the database.
pub(super) fn checkpointer(path: &Path) -> Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | UNSHARED)?;
    let pragmas = || {
        connection.pragma_update(None, "cache_size", -CHECKPOINTER_CACHE)?;
        // What was copied has to be on the disk before the log is written over.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    };
    pragmas().map_err(|error| explain("open database", &error))?;
    Ok(connection)
}

/// Opens a connection that reads.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | UNSHARED)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE)?;
    Ok(connection)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let configured = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.busy_timeout(Duration::from_secs(1))?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    };
    configured().map_err(|error| explain("open database", &error))
}

fn check_version() -> Result<()> {
    if rusqlite::version_number() >= OLDEST_SQLITE {
        return Ok(());
    }
    let version = rusqlite::version();
    Err(Error::Store(format!("open database: SQLite {version} can lose commits; build with 3.51.3 or newer")))
}
