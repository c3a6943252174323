//! Signed checkpoints of the audit trail.

use super::{Postgres, database::Done, failure::Fault, sql::args};
use crate::{
    error::{Error, Result},
    store::Checkpoint,
};
use countersign_core::Timestamp;
use tokio_postgres::Row;

impl Postgres {
    /// See [`crate::store::Store::append_checkpoint`].
    pub async fn append_checkpoint(&self, checkpoint: Checkpoint) -> Result<()> {
        self.database
            .commit(move |lent| {
                let checkpoint = checkpoint.clone();
                async move {
                    let Checkpoint { seq, at, jws } = checkpoint;
                    let appended = lent.row(APPEND, args![place(seq), at.millis(), jws]).await?;
                    appended.map(|_| Done::of(())).ok_or(Fault::Final(Error::Conflict("checkpoint")))
                }
            })
            .await
    }

    /// See [`crate::store::Store::checkpoints`].
    pub async fn checkpoints(&self, after: u64, limit: usize) -> Result<Vec<Checkpoint>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database
            .read(move |lent| async move {
                lent.rows(LIST, args![place(after), limit]).await?.iter().map(read).collect()
            })
            .await
    }

    /// See [`crate::store::Store::last_checkpoint`].
    pub async fn last_checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.database
            .read(move |lent| async move { lent.row(LAST, args![]).await?.as_ref().map(read).transpose() })
            .await
    }
}

const APPEND: &str =
    "INSERT INTO checkpoints (seq, at, jws) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING seq";
/// Selects a page of checkpoints.
pub(super) const LIST: &str = "SELECT seq, at, jws FROM checkpoints WHERE seq > $1 ORDER BY seq LIMIT $2";
const LAST: &str = "SELECT seq, at, jws FROM checkpoints ORDER BY seq DESC LIMIT 1";

/// No trail reaches a place so high that it would not fit.
pub(super) fn place(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Reads a checkpoint's row.
pub(super) fn read(row: &Row) -> Result<Checkpoint, Fault> {
    let at = Timestamp::from_millis(row.try_get(1)?);
    Ok(Checkpoint { seq: row.try_get::<_, i64>(0)?.unsigned_abs(), at, jws: row.try_get(2)? })
}
