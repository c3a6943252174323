//! Signed checkpoints of the audit trail.

use super::Sqlite;
use crate::{error::Result, store::Checkpoint};
use countersign_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

impl Sqlite {
    /// See [`crate::store::Store::append_checkpoint`].
    pub async fn append_checkpoint(&self, checkpoint: Checkpoint) -> Result<()> {
        self.writer.commit_job(move |batch| append(batch, &checkpoint)).await
    }

    /// See [`crate::store::Store::checkpoints`].
    pub async fn checkpoints(&self, after: u64, limit: usize) -> Result<Vec<Checkpoint>> {
        self.readers
            .read(move |reader| {
                let mut statement = reader.prepare_cached(LIST)?;
                let rows =
                    statement.query_map([place(after), i64::try_from(limit).unwrap_or(i64::MAX)], read)?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// See [`crate::store::Store::last_checkpoint`].
    pub async fn last_checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.readers.read(|reader| Ok(reader.prepare_cached(LAST)?.query_row([], read).optional()?)).await
    }
}

/// Adds a checkpoint in its place.
pub(super) fn append(connection: &Connection, checkpoint: &Checkpoint) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO checkpoints (seq, at, jws) VALUES (?1, ?2, ?3)")?
        .execute(params![place(checkpoint.seq), checkpoint.at.millis(), checkpoint.jws])?;
    Ok(())
}

/// Selects a page of checkpoints.
pub(super) const LIST: &str = "SELECT seq, at, jws FROM checkpoints WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const LAST: &str = "SELECT seq, at, jws FROM checkpoints WHERE seq = (SELECT max(seq) FROM checkpoints)";

/// No trail reaches a place so high that it would not fit.
fn place(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Reads a checkpoint's row.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Checkpoint> {
    let at = Timestamp::from_millis(row.get(1)?);
    Ok(Checkpoint { seq: row.get::<_, i64>(0)?.unsigned_abs(), at, jws: row.get(2)? })
}

/// The statements that list checkpoints, for the test of their plans.
#[cfg(test)]
pub(super) const READINGS: [&str; 2] = [LIST, LAST];
