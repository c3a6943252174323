//! Revoked tokens: kept until they would have expired, and asked for in memory.

use super::Sqlite;
use crate::error::Result;
use crate::store::memory::Effect;
use countersign_core::Timestamp;
use rusqlite::{Connection, params};
use std::collections::HashMap;
use uuid::Uuid;

impl Sqlite {
    /// See [`crate::store::Store::revoke_token`].
    pub async fn revoke_token(&self, token: Uuid, expires_at: Timestamp) -> Result<()> {
        self.writer
            .commit(move |batch| {
                batch
                    .prepare_cached(
                        "INSERT INTO revoked (token, expires_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                    )?
                    .execute(params![token.into_bytes(), expires_at.millis()])?;
                batch.after_commit(Effect::Revoked(token, expires_at));
                Ok(())
            })
            .await
    }

    /// See [`crate::store::Store::is_revoked`].
    pub fn is_revoked(&self, token: Uuid) -> bool {
        self.memory.is_revoked(token)
    }

    /// See [`crate::store::Store::check_news`]. All that revokes does so here.
    pub const fn check_news(&self) -> Result<()> {
        Ok(())
    }

    /// See [`crate::store::Store::forget_revocations`].
    pub async fn forget_revocations(&self, now: Timestamp) -> Result<()> {
        self.writer
            .commit_job(move |batch| {
                batch
                    .prepare_cached("DELETE FROM revoked WHERE expires_at <= ?1")?
                    .execute([now.millis()])?;
                batch.after_commit(Effect::Forgotten(now));
                Ok(())
            })
            .await
    }
}

/// Returns all revocations.
pub(super) fn load(connection: &Connection) -> Result<HashMap<Uuid, Timestamp>> {
    let mut statement = connection.prepare("SELECT token, expires_at FROM revoked")?;
    let rows = statement
        .query_map([], |row| Ok((Uuid::from_bytes(row.get(0)?), Timestamp::from_millis(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
