//! Pruning the audit trail from its oldest end, and where the pruned parts of chains end.

use super::{Sqlite, writer::Batch};
use crate::{
    error::Result,
    store::{Anchor, EDGE, Pruning},
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

impl Sqlite {
    /// See [`crate::store::Store::prune_audit`].
    pub async fn prune_audit(&self, pruning: Pruning) -> Result<bool> {
        self.writer.commit_job(move |batch| prune(batch, &pruning)).await
    }

    /// See [`crate::store::Store::anchors_of`].
    pub async fn anchors_of(&self, subjects: Vec<Uuid>) -> Result<Vec<Anchor>> {
        self.readers
            .read(move |reader| {
                let mut statement = reader.prepare_cached(OF)?;
                let found = subjects
                    .iter()
                    .map(|subject| statement.query_row([subject.into_bytes()], read).optional())
                    .filter_map(rusqlite::Result::transpose);
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// See [`crate::store::Store::anchors`].
    pub async fn anchors(&self, after: Uuid, limit: usize) -> Result<Vec<Anchor>> {
        self.readers
            .read(move |reader| {
                let mut statement = reader.prepare_cached(LIST)?;
                let rows = statement
                    .query_map(params![after.into_bytes(), i64::try_from(limit).unwrap_or(i64::MAX)], read)?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }
}

fn prune(batch: &Batch<'_>, pruning: &Pruning) -> Result<bool> {
    if !move_edge(batch, pruning)? {
        return Ok(false);
    }
    batch.prepare_cached(PRUNE)?.execute([pruning.after, pruning.until])?;
    for anchor in &pruning.anchors {
        add(batch, anchor)?;
    }
    for subject in &pruning.finished {
        for sql in [FORGET, FORGET_DEPARTED] {
            batch.prepare_cached(sql)?.execute([subject.into_bytes()])?;
        }
    }
    Ok(true)
}

/// Replaces the edge; false if it is another one by now.
fn move_edge(batch: &Batch<'_>, pruning: &Pruning) -> Result<bool> {
    let moved = match &pruning.before {
        None => batch
            .prepare_cached(
                "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING RETURNING name",
            )?
            .query_row(params![EDGE, pruning.edge], |_| Ok(()))
            .optional()?,
        Some(before) => batch
            .prepare_cached("UPDATE meta SET value = ?3 WHERE name = ?1 AND value = ?2 RETURNING name")?
            .query_row(params![EDGE, before, pruning.edge], |_| Ok(()))
            .optional()?,
    };
    Ok(moved.is_some())
}

/// Notes where the pruned part of a chain ends, in place of where it ended before.
pub(super) fn add(connection: &Connection, anchor: &Anchor) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO anchors (subject, seq, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (subject) DO UPDATE SET seq = excluded.seq, body = excluded.body",
        )?
        .execute(params![anchor.subject.into_bytes(), i64::try_from(anchor.seq).ok(), anchor.body])?;
    Ok(())
}

/// Reads an anchor's row.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Anchor> {
    Ok(Anchor {
        subject: Uuid::from_bytes(row.get(0)?),
        seq: row.get::<_, i64>(1)?.unsigned_abs(),
        body: row.get(2)?,
    })
}

// From the left edge of the table, and of each organisation's part of its indexes.
const PRUNE: &str = "DELETE FROM audit WHERE row > ?1 AND row <= ?2";
const FORGET: &str = "DELETE FROM anchors WHERE subject = ?1";
const FORGET_DEPARTED: &str = "DELETE FROM departed WHERE id = ?1";
const OF: &str = "SELECT subject, seq, body FROM anchors WHERE subject = ?1";
/// Selects a page of anchors.
pub(super) const LIST: &str =
    "SELECT subject, seq, body FROM anchors WHERE subject > ?1 ORDER BY subject LIMIT ?2";

/// The statements that find what is pruned and what is known of it, for the test of their plans.
#[cfg(test)]
pub(super) const READINGS: [&str; 5] = [PRUNE, FORGET, FORGET_DEPARTED, OF, LIST];
