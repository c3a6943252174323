//! Pruning the audit trail from its oldest end, and where the pruned parts of chains end.

use super::{
    Postgres,
    database::{Done, Lent},
    failure::Fault,
    sql::args,
};
use crate::{
    error::Result,
    store::{Anchor, EDGE, Pruning},
};
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

impl Postgres {
    /// See [`crate::store::Store::prune_audit`].
    pub async fn prune_audit(&self, pruning: Pruning) -> Result<bool> {
        let pruning = Arc::new(pruning);
        self.database
            .commit(move |lent| {
                let pruning = Arc::clone(&pruning);
                async move { Ok(Done::of(prune(&lent, &pruning).await?)) }
            })
            .await
    }

    /// See [`crate::store::Store::anchors_of`].
    pub async fn anchors_of(&self, subjects: Vec<Uuid>) -> Result<Vec<Anchor>> {
        self.database
            .read(move |lent| {
                let subjects = subjects.clone();
                async move { lent.rows(OF, args![subjects]).await?.iter().map(read).collect() }
            })
            .await
    }

    /// See [`crate::store::Store::anchors`].
    pub async fn anchors(&self, after: Uuid, limit: usize) -> Result<Vec<Anchor>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database
            .read(move |lent| async move {
                lent.rows(LIST, args![after, limit]).await?.iter().map(read).collect()
            })
            .await
    }
}

async fn prune(lent: &Lent, pruning: &Pruning) -> Result<bool, Fault> {
    let moved = match &pruning.before {
        None => lent.row(SET_EDGE, args![EDGE, pruning.edge]).await?,
        Some(before) => lent.row(MOVE_EDGE, args![EDGE, *before, pruning.edge]).await?,
    };
    if moved.is_none() {
        // Perhaps by an attempt of ours nobody knew the end of.
        return Ok(lent.row(IS_EDGE, args![EDGE, pruning.edge]).await?.is_some());
    }
    lent.run(PRUNE, args![pruning.after, pruning.until]).await?;
    let anchors = &pruning.anchors;
    let subjects: Vec<Uuid> = anchors.iter().map(|anchor| anchor.subject).collect();
    let seqs: Vec<i64> = anchors.iter().map(seq).collect();
    let bodies: Vec<&[u8]> = anchors.iter().map(|anchor| anchor.body.as_slice()).collect();
    lent.run(ADD, args![subjects, seqs, bodies]).await?;
    lent.run(FORGET, args![pruning.finished]).await?;
    Ok(true)
}

/// No chain reaches a place so high that it would not fit.
pub(super) fn seq(anchor: &Anchor) -> i64 {
    i64::try_from(anchor.seq).unwrap_or(i64::MAX)
}

/// Reads an anchor's row.
pub(super) fn read(row: &Row) -> Result<Anchor, Fault> {
    Ok(Anchor {
        subject: row.try_get(0)?,
        seq: row.try_get::<_, i64>(1)?.unsigned_abs(),
        body: row.try_get(2)?,
    })
}

const SET_EDGE: &str = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING name";
const MOVE_EDGE: &str = "UPDATE meta SET value = $3 WHERE name = $1 AND value = $2 RETURNING name";
const IS_EDGE: &str = "SELECT name FROM meta WHERE name = $1 AND value = $2";
/// Removes rows from the left edge of their numbers. Those before them are known to be gone, so what vacuum has not cleared
/// away yet is not looked at.
pub const PRUNE: &str = "DELETE FROM audit WHERE \"row\" > $1 AND \"row\" <= $2";
const ADD: &str =
    "INSERT INTO anchors (subject, seq, body) SELECT * FROM unnest($1::uuid[], $2::int8[], $3::bytea[])
    ON CONFLICT (subject) DO UPDATE SET seq = excluded.seq, body = excluded.body";
const FORGET: &str = "DELETE FROM anchors WHERE subject = ANY($1)";
const OF: &str = "SELECT subject, seq, body FROM anchors WHERE subject = ANY($1)";
/// Selects a page of anchors.
pub(super) const LIST: &str =
    "SELECT subject, seq, body FROM anchors WHERE subject > $1 ORDER BY subject LIMIT $2";
