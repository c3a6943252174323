//! What the installation itself keeps, and commits for their own sake.

use super::Sqlite;
use crate::error::Result;
use rusqlite::{Connection, OptionalExtension, params};
use std::time::Duration;

impl Sqlite {
    /// See [`crate::store::Store::meta`].
    pub async fn meta(&self, name: &'static str) -> Result<Option<Vec<u8>>> {
        self.readers.read(move |reader| load(reader, name)).await
    }

    /// See [`crate::store::Store::meta_once`].
    pub async fn meta_once(&self, name: &'static str, value: Vec<u8>) -> Result<Vec<u8>> {
        self.writer
            .commit_job(move |batch| {
                batch
                    .prepare_cached("INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                    .execute(params![name, value])?;
                Ok(load(batch, name)?.unwrap_or_else(|| value.clone()))
            })
            .await
    }

    /// See [`crate::store::Store::take_turn`]. There is nobody to share with.
    pub async fn take_turn(&self, _: &'static str, _: Duration) -> Result<bool> {
        Ok(true)
    }

    /// See [`crate::store::Store::commit_decoy`].
    pub async fn commit_decoy(&self) -> Result<()> {
        self.writer
            .commit_job(|batch| {
                batch.prepare_cached("UPDATE decoy SET count = count + 1 WHERE id = 1")?.execute([])?;
                Ok(())
            })
            .await
    }

    /// See [`crate::store::Store::ping`].
    pub async fn ping(&self) -> Result<()> {
        self.commit_decoy().await
    }
}

fn load(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}
