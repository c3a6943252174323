//! How often each destination was written to, whoever asked for it.

use super::{
    Postgres,
    database::{Done, Lent},
    failure::Fault,
    sql::args,
};
use crate::{
    error::{Error, Result},
    store::destination_key,
};
use countersign_core::{
    Parcel, Refusal, Timestamp,
    resend::{HOUR, SendLog},
};
use std::collections::BTreeMap;

impl Postgres {
    /// See [`crate::store::Store::forget_destinations`].
    pub async fn forget_destinations(&self, now: Timestamp, limit: usize) -> Result<usize> {
        let over = now.millis().saturating_sub(i64::try_from(HOUR.as_millis()).unwrap_or(i64::MAX));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database
            .commit(move |lent| async move {
                let forgotten = lent.run(FORGET, args![over, limit]).await?;
                Ok(Done::of(usize::try_from(forgotten).unwrap_or(usize::MAX)))
            })
            .await
    }
}

const FORGET: &str = "DELETE FROM destinations
    WHERE key IN (SELECT key FROM destinations WHERE last_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// What is known of destinations once messages are posted, not yet written.
pub(super) struct Counted(BTreeMap<String, (Timestamp, SendLog)>);

/// Counts messages to their destinations, or refuses one that comes too soon. Until the transaction ends nobody else counts
/// the same destinations.
pub(super) async fn count(lent: &Lent, parcels: &[Parcel]) -> Result<Counted, Fault> {
    let mut keys: Vec<String> = parcels
        .iter()
        .filter_map(|parcel| parcel.limit.as_ref())
        .map(|(tag, _)| destination_key(tag))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let mut counted = BTreeMap::new();
    if keys.is_empty() {
        return Ok(Counted(counted));
    }
    // A row that is not there cannot be locked, so it is made first; it goes again with the transaction if that is refused.
    lent.run(MAKE, args![keys]).await?;
    for row in lent.rows(LOCK, args![keys]).await? {
        let log: SendLog = serde_json::from_str(row.try_get(1)?)
            // An unreadable count is not an empty one.
            .map_err(|_| Error::Store("read how often a destination was written to".into()))?;
        counted.insert(row.try_get(0)?, (Timestamp::from_millis(0), log));
    }
    for parcel in parcels {
        let Some((tag, rule)) = &parcel.limit else { continue };
        let (last, log) = counted.get_mut(&destination_key(tag)).ok_or(Fault::Overtaken)?;
        log.admit(rule, parcel.created_at).map_err(|wait| Error::Refused(Refusal::TooSoon(wait)))?;
        *last = parcel.created_at;
    }
    Ok(Counted(counted))
}

const MAKE: &str = "INSERT INTO destinations (key, last_at, sent)
    SELECT key, 0, '[]' FROM unnest($1::text[]) AS wanted (key) ORDER BY key ON CONFLICT DO NOTHING";
const LOCK: &str = "SELECT key, sent FROM destinations WHERE key = ANY($1) ORDER BY key FOR UPDATE";

impl Counted {
    /// Writes what was counted.
    pub(super) async fn write(&self, lent: &Lent) -> Result<(), Fault> {
        for (key, (last, log)) in &self.0 {
            let sent = serde_json::to_string(log).expect("a list of numbers is always JSON");
            lent.run(WRITE, args![key.as_str(), last.millis(), sent]).await?;
        }
        Ok(())
    }
}

const WRITE: &str = "UPDATE destinations SET last_at = $2, sent = $3 WHERE key = $1";
