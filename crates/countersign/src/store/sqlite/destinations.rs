//! How often each destination was written to, whoever asked for it.

use super::{Sqlite, writer::Batch};
use crate::{
    error::{Error, Result},
    store::destination_key,
};
use countersign_core::{
    Parcel, Refusal, Timestamp,
    resend::{HOUR, SendLog},
};
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeMap;

impl Sqlite {
    /// See [`crate::store::Store::forget_destinations`].
    pub async fn forget_destinations(&self, now: Timestamp, limit: usize) -> Result<usize> {
        let over = now.millis().saturating_sub(i64::try_from(HOUR.as_millis()).unwrap_or(i64::MAX));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.writer
            .commit_job(move |batch| {
                let mut statement = batch.prepare_cached(
                    "DELETE FROM destinations
                     WHERE key IN (SELECT key FROM destinations WHERE last_at <= ?1 LIMIT ?2)",
                )?;
                Ok(statement.execute([over, limit])?)
            })
            .await
    }
}

/// What is known of destinations once messages are posted, not yet written.
#[derive(Default)]
pub(super) struct Counted(BTreeMap<String, (Timestamp, SendLog)>);

/// Counts messages to their destinations, or refuses one that comes too soon. Writes nothing.
pub(super) fn count(batch: &Batch<'_>, parcels: &[Parcel]) -> Result<Counted> {
    let mut counted = Counted::default();
    for parcel in parcels {
        let Some((tag, rule)) = &parcel.limit else { continue };
        let key = destination_key(tag);
        let mut log = match counted.0.remove(&key) {
            Some((_, log)) => log,
            None => load(batch, &key)?,
        };
        log.admit(rule, parcel.created_at).map_err(|wait| Error::Refused(Refusal::TooSoon(wait)))?;
        counted.0.insert(key, (parcel.created_at, log));
    }
    Ok(counted)
}

impl Counted {
    /// Writes what was counted.
    pub(super) fn write(&self, batch: &Batch<'_>) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut statement = batch.prepare_cached(
            "INSERT INTO destinations (key, last_at, sent) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET last_at = excluded.last_at, sent = excluded.sent",
        )?;
        for (key, (last, log)) in &self.0 {
            let sent = serde_json::to_string(log).expect("a list of numbers is always JSON");
            statement.execute(params![key, last.millis(), sent])?;
        }
        Ok(())
    }
}

fn load(batch: &Batch<'_>, key: &str) -> Result<SendLog> {
    let mut statement = batch.prepare_cached("SELECT sent FROM destinations WHERE key = ?1")?;
    let sent: Option<String> = statement.query_row([key], |row| row.get(0)).optional()?;
    // An unreadable count is not an empty one.
    sent.map_or(Ok(SendLog::default()), |sent| {
        serde_json::from_str(&sent)
            .map_err(|_| Error::Store("read how often a destination was written to".into()))
    })
}
