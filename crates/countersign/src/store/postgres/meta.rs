//! What the installation itself keeps, and commits for their own sake.

use super::{
    Postgres,
    cluster::NOW_MILLIS,
    database::{Done, Lent, settle},
    failure::Fault,
    sql::args,
};
use crate::error::Result;
use std::time::{Duration, Instant};

impl Postgres {
    /// See [`crate::store::Store::meta`].
    pub async fn meta(&self, name: &'static str) -> Result<Option<Vec<u8>>> {
        self.database.read(move |lent| async move { load(&lent, name).await }).await
    }

    /// See [`crate::store::Store::meta_once`].
    pub async fn meta_once(&self, name: &'static str, value: Vec<u8>) -> Result<Vec<u8>> {
        self.database
            .commit(move |lent| {
                let value = value.clone();
                async move {
                    // Waits for whoever is about to set it.
                    lent.run(SET_ONCE, args![name, value]).await?;
                    Ok(Done::of(load(&lent, name).await?.unwrap_or(value)))
                }
            })
            .await
    }

    /// See [`crate::store::Store::take_turn`].
    pub async fn take_turn(&self, job: &'static str, period: Duration) -> Result<bool> {
        let sql = format!(
            "INSERT INTO turns (job, until) VALUES ($1, {NOW_MILLIS} + $2)
             ON CONFLICT (job) DO UPDATE SET until = excluded.until WHERE turns.until <= {NOW_MILLIS}
             RETURNING job"
        );
        // A little early: the next turn is to be there when whoever had the last one comes again.
        let millis = i64::try_from(period.as_millis() * 9 / 10).unwrap_or(i64::MAX);
        self.database
            .commit(move |lent| {
                let sql = sql.clone();
                async move { Ok(Done::of(lent.row(&sql, args![job, millis]).await?.is_some())) }
            })
            .await
    }

    /// See [`crate::store::Store::commit_decoy`].
    pub async fn commit_decoy(&self) -> Result<()> {
        // One statement, as the write of a change is one.
        let begun = Instant::now();
        self.database.read(|lent| async move { settle(&lent).await }).await?;
        self.database.counters.note(0, begun);
        Ok(())
    }

    /// See [`crate::store::Store::ping`].
    pub async fn ping(&self) -> Result<()> {
        self.commit_decoy().await
    }
}

const SET_ONCE: &str = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";

async fn load(lent: &Lent, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let row = lent.row("SELECT value FROM meta WHERE name = $1", args![name]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
