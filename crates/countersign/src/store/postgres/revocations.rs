//! Revoked tokens: kept until they would have expired, and asked for in memory.
//!
//! What another node revokes is heard of with the next pulse, within a second or two; a node that hears nothing does not say
//! that a token is good.

use super::{
    Postgres,
    cluster::NOW_MILLIS,
    database::{Database, Done, Lent},
    failure::Fault,
    sql::args,
};
use crate::{
    error::{Error, Result},
    store::memory::Effect,
};
use countersign_core::Timestamp;
use uuid::Uuid;

/// By how much what is asked for overlaps: commits show later than their time, and not in its order.
const OVERLAP_MILLIS: i64 = 10_000;

impl Postgres {
    /// See [`crate::store::Store::revoke_token`].
    pub async fn revoke_token(&self, token: Uuid, expires_at: Timestamp) -> Result<()> {
        let sql = format!(
            "INSERT INTO revoked (token, expires_at, revoked_at) VALUES ($1, $2, {NOW_MILLIS}) ON CONFLICT DO NOTHING"
        );
        self.database
            .commit(move |lent| {
                let sql = sql.clone();
                async move {
                    lent.run(&sql, args![token, expires_at.millis()]).await?;
                    Ok(Done { effects: vec![Effect::Revoked(token, expires_at)], ..Done::of(()) })
                }
            })
            .await
    }

    /// See [`crate::store::Store::is_revoked`].
    pub fn is_revoked(&self, token: Uuid) -> bool {
        self.database.memory.is_revoked(token)
    }

    /// See [`crate::store::Store::check_news`].
    pub fn check_news(&self) -> Result<()> {
        match self.database.cluster.has_news() {
            true => Ok(()),
            false => Err(Error::Unreachable("nothing was heard of revoked tokens for too long".into())),
        }
    }

    /// See [`crate::store::Store::forget_revocations`].
    pub async fn forget_revocations(&self, now: Timestamp) -> Result<()> {
        self.database
            .commit(move |lent| async move {
                lent.run("DELETE FROM revoked WHERE expires_at <= $1", args![now.millis()]).await?;
                Ok(Done { effects: vec![Effect::Forgotten(now)], ..Done::of(()) })
            })
            .await
    }
}

impl Database {
    /// Hears of tokens that were revoked lately, or of all of them.
    pub(super) async fn hear_of_revocations(&self, lent: &Lent, all: bool) -> Result<(), Fault> {
        let since = if all { i64::MIN } else { self.cluster.now_millis().saturating_sub(OVERLAP_MILLIS) };
        let rows =
            lent.rows("SELECT token, expires_at FROM revoked WHERE revoked_at >= $1", args![since]).await?;
        let effects: Result<Vec<_>, Fault> = rows
            .iter()
            .map(|row| Ok(Effect::Revoked(row.try_get(0)?, Timestamp::from_millis(row.try_get(1)?))))
            .collect();
        self.memory.apply(effects?);
        Ok(())
    }
}
