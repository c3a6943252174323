//! The outbox: messages are rows, committed with the document that caused them, and claimed by whoever sends them.
//!
//! A claim is a lease: a random name in the row and a time when it runs out. Only who holds it can settle the message, so
//! two never send one at once, and one that died keeps nobody waiting for longer than the lease.

use super::{
    Sqlite,
    destinations::{self, Counted},
    writer::Batch,
};
use crate::{
    error::{Error, Result},
    store::{
        Claimed, DeliveryState, Settlement,
        memory::{Effect, Happened},
        outbox::{Settled, channel_named, sealed, sealed_text},
    },
};
use countersign_core::{
    Channel, DeliveryId, OrganisationId, Parcel, Timestamp, UserId,
    keyring::{KeyError, Sealed},
    message::Withdrawal,
};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use std::time::Duration;
use uuid::Uuid;

impl Sqlite {
    /// See [`crate::store::Store::claim`].
    pub async fn claim(
        &self,
        channel: Channel,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Claimed>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.writer.commit_job(move |batch| claim(batch, channel, now, now.after(lease), limit)).await
    }

    /// See [`crate::store::Store::settle`].
    pub async fn settle(&self, claimed: &Claimed, settlement: Settlement, now: Timestamp) -> Result<bool> {
        let (organisation, id, claim) = (claimed.organisation, claimed.id, claimed.claim);
        self.writer.commit_job(move |batch| settle(batch, organisation, id, claim, &settlement, now)).await
    }

    /// See [`crate::store::Store::release_claims`].
    pub async fn release_claims(&self) -> Result<usize> {
        self.writer.commit_job(release_claims).await
    }

    /// See [`crate::store::Store::next_due`].
    pub async fn next_due(&self, channel: Channel) -> Result<Option<Timestamp>> {
        if self.memory.outbox(channel).queued() == 0 {
            return Ok(None);
        }
        self.readers.read(move |reader| earliest(reader, NEXT_DUE, channel)).await
    }

    /// See [`crate::store::Store::oldest_queued`].
    pub async fn oldest_queued(&self, channel: Channel) -> Result<Option<Timestamp>> {
        if self.memory.outbox(channel).queued() == 0 {
            return Ok(None);
        }
        self.readers.read(move |reader| earliest(reader, OLDEST, channel)).await
    }

    /// See [`crate::store::Store::posted`].
    pub async fn posted(&self, channel: Channel) {
        self.memory.outbox(channel).bell().notified().await;
    }
}

/// Messages that may be posted, with what they count for, and those that are taken back; nothing is written yet.
pub(super) struct Postable {
    parcels: Vec<Parcel>,
    counted: Counted,
    withdrawals: Vec<Withdrawal>,
}

/// Checks the messages of a change. To be called before its first write: it may refuse.
pub(super) fn check(
    batch: &Batch<'_>,
    parcels: Result<Vec<Parcel>, KeyError>,
    withdrawals: Vec<Withdrawal>,
) -> Result<Postable> {
    let parcels =
        parcels.map_err(|_| Error::Internal("post messages: a rule's messages were not sealed".into()))?;
    let counted = destinations::count(batch, &parcels)?;
    Ok(Postable { parcels, counted, withdrawals })
}

impl Postable {
    /// Takes messages out of the outbox and puts others in.
    pub(super) fn post(&self, batch: &Batch<'_>) -> Result<()> {
        self.withdrawals.iter().try_for_each(|withdrawal| withdraw(batch, withdrawal))?;
        self.counted.write(batch)?;
        self.parcels.iter().try_for_each(|parcel| post(batch, parcel))
    }
}

fn post(batch: &Batch<'_>, parcel: &Parcel) -> Result<()> {
    let mut statement = batch.prepare_cached(
        "INSERT INTO deliveries (organisation, id, user, challenge, channel, subject, masked, state, created_at,
             expires_at, due_at, body)
         VALUES (:organisation, :id, :user, :challenge, :channel, :subject, :masked, 'queued', :created_at,
             :expires_at, :created_at, :body)",
    )?;
    statement.execute(named_params! {
        ":organisation": parcel.organisation.uuid().into_bytes(),
        ":id": parcel.id.uuid().into_bytes(),
        ":user": parcel.user.map(|user| user.uuid().into_bytes()),
        ":challenge": parcel.challenge.map(|challenge| challenge.uuid().into_bytes()),
        ":channel": parcel.channel.name(),
        ":subject": parcel.subject,
        ":masked": parcel.masked,
        ":created_at": parcel.created_at.millis(),
        ":expires_at": parcel.expires_at.millis(),
        ":body": sealed_text(&parcel.body),
    })?;
    batch.after_commit(Effect::Outbox(parcel.channel, Happened::Posted));
    Ok(())
}

/// Takes back a message: at once if nobody has begun to send it, else it has no further attempt, nor is a dead letter sent
/// again.
fn withdraw(batch: &Batch<'_>, withdrawal: &Withdrawal) -> Result<()> {
    let key = params![
        withdrawal.organisation.uuid().into_bytes(),
        withdrawal.id.uuid().into_bytes(),
        withdrawal.at.millis()
    ];
    let mut statement = batch.prepare_cached(
        "UPDATE deliveries SET state = 'superseded', settled_at = ?3, body = NULL
         WHERE organisation = ?1 AND id = ?2 AND state = 'queued' AND claim IS NULL RETURNING channel",
    )?;
    let channel: Option<String> = statement.query_row(key, |row| row.get(0)).optional()?;
    if let Some(channel) = channel {
        let settled = Happened::Settled(DeliveryState::Superseded);
        batch.after_commit(Effect::Outbox(channel_named(&channel)?, settled));
        return Ok(());
    }
    batch
        .prepare_cached(
            "UPDATE deliveries SET expires_at = min(expires_at, ?3)
             WHERE organisation = ?1 AND id = ?2 AND state IN ('queued', 'failed')",
        )?
        .execute(key)?;
    Ok(())
}

/// Claims what is due. What must not be sent any more is settled instead.
fn claim(
    batch: &Batch<'_>,
    channel: Channel,
    now: Timestamp,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<Claimed>> {
    let due = due(batch, channel, now, limit)?;
    let mut claimed = Vec::with_capacity(due.len());
    for message in due {
        if message.was_claimed {
            batch.after_commit(Effect::Outbox(channel, Happened::Interrupted));
        }
        if message.expires_at <= now {
            let reason = "its time ran out before it was sent";
            end(batch, channel, &message, DeliveryState::Expired, reason, now)?;
        } else if let Some(body) = sealed(message.body.as_deref()) {
            claimed.push(lease(batch, message, body, channel, until)?);
        } else {
            // Refusing to claim it would hold up all that come after it.
            let reason = "open letter: it is not as expected";
            end(batch, channel, &message, DeliveryState::Failed, reason, now)?;
        }
    }
    Ok(claimed)
}

/// A message whose time has come.
struct Due {
    pk: i64,
    id: DeliveryId,
    organisation: OrganisationId,
    user: Option<UserId>,
    attempts: u32,
    expires_at: Timestamp,
    /// Somebody began to send it and was not heard of again.
    was_claimed: bool,
    body: Option<String>,
}

fn due(batch: &Batch<'_>, channel: Channel, now: Timestamp, limit: i64) -> Result<Vec<Due>> {
    let mut statement = batch.prepare_cached(DUE)?;
    let rows = statement.query_map(params![channel.name(), now.millis(), limit], |row| {
        Ok(Due {
            pk: row.get(0)?,
            id: DeliveryId::from_uuid(uuid(row, 1)?),
            organisation: OrganisationId::from_uuid(uuid(row, 2)?),
            user: row.get::<_, Option<_>>(3)?.map(|bytes| UserId::from_uuid(Uuid::from_bytes(bytes))),
            attempts: row.get(4)?,
            expires_at: Timestamp::from_millis(row.get(5)?),
            was_claimed: row.get(6)?,
            body: row.get(7)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

const DUE: &str =
    "SELECT pk, id, organisation, user, attempts, expires_at, claim IS NOT NULL, body FROM deliveries
    WHERE channel = ?1 AND state = 'queued' AND due_at <= ?2 ORDER BY due_at LIMIT ?3";

fn lease(
    batch: &Batch<'_>,
    message: Due,
    body: Sealed,
    channel: Channel,
    until: Timestamp,
) -> Result<Claimed> {
    let claim = Uuid::from_bytes(rand::random());
    batch
        .prepare_cached(
            "UPDATE deliveries SET claim = ?2, due_at = ?3, attempts = attempts + 1, interrupted = interrupted + ?4
             WHERE pk = ?1",
        )?
        .execute(params![message.pk, claim.into_bytes(), until.millis(), message.was_claimed])?;
    Ok(Claimed {
        id: message.id,
        organisation: message.organisation,
        user: message.user,
        channel,
        attempts: message.attempts + 1,
        expires_at: message.expires_at,
        body,
        claim,
    })
}

/// Settles a message that is not sent.
fn end(
    batch: &Batch<'_>,
    channel: Channel,
    message: &Due,
    state: DeliveryState,
    reason: &str,
    now: Timestamp,
) -> Result<()> {
    batch
        .prepare_cached(
            "UPDATE deliveries SET state = ?2, claim = NULL, settled_at = ?3, body = NULL,
                 interrupted = interrupted + ?4, reason = coalesce(reason, ?5)
             WHERE pk = ?1",
        )?
        .execute(params![message.pk, state.name(), now.millis(), message.was_claimed, reason])?;
    batch.after_commit(Effect::Outbox(channel, Happened::Settled(state)));
    Ok(())
}

/// Says what became of a message; false if the claim is not good any more.
fn settle(
    batch: &Batch<'_>,
    organisation: OrganisationId,
    id: DeliveryId,
    claim: Uuid,
    settlement: &Settlement,
    now: Timestamp,
) -> Result<bool> {
    let row = Settled::by(settlement, now);
    let mut statement = batch.prepare_cached(
        "UPDATE deliveries SET claim = NULL, state = :state, due_at = coalesce(:due_at, due_at),
             settled_at = :settled_at, provider = :provider, reference = :reference,
             reason = coalesce(:reason, reason), interrupted = interrupted + :interrupted,
             body = CASE WHEN :keeps_body THEN body END
         WHERE organisation = :organisation AND id = :id AND claim = :claim AND state = 'queued'
         RETURNING channel",
    )?;
    let parameters = named_params! {
        ":state": row.state.name(),
        ":due_at": row.due_at.map(Timestamp::millis),
        ":settled_at": (row.state != DeliveryState::Queued).then(|| now.millis()),
        ":provider": row.provider,
        ":reference": row.reference,
        ":reason": row.reason,
        ":interrupted": matches!(settlement, Settlement::Interrupted),
        // A dead letter may be sent again; everything else is over.
        ":keeps_body": matches!(row.state, DeliveryState::Queued | DeliveryState::Failed),
        ":organisation": organisation.uuid().into_bytes(),
        ":id": id.uuid().into_bytes(),
        ":claim": claim.into_bytes(),
    };
    let Some(channel) = statement.query_row(parameters, |row| row.get::<_, String>(0)).optional()? else {
        return Ok(false);
    };
    batch.after_commit(Effect::Outbox(channel_named(&channel)?, row.happened));
    Ok(true)
}

/// Frees all claims: with one process on the database they are those of a process that is gone.
fn release_claims(batch: &Batch<'_>) -> Result<usize> {
    let mut statement = batch.prepare_cached(
        "UPDATE deliveries SET claim = NULL, due_at = created_at, interrupted = interrupted + 1
         WHERE state = 'queued' AND claim IS NOT NULL RETURNING channel",
    )?;
    let channels: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for channel in &channels {
        batch.after_commit(Effect::Outbox(channel_named(channel)?, Happened::Interrupted));
    }
    Ok(channels.len())
}

fn earliest(connection: &Connection, sql: &str, channel: Channel) -> Result<Option<Timestamp>> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([channel.name()], |row| row.get(0)).optional()?.map(Timestamp::from_millis))
}

const NEXT_DUE: &str = "SELECT due_at FROM deliveries
    WHERE channel = ?1 AND state = 'queued' ORDER BY due_at LIMIT 1";
const OLDEST: &str = "SELECT created_at FROM deliveries
    WHERE channel = ?1 AND state = 'queued' ORDER BY created_at LIMIT 1";

/// Returns how many messages wait on each channel. Looks at all that wait; for the start.
pub(super) fn count_queued(connection: &Connection) -> Result<[u64; Channel::ALL.len()]> {
    let mut queued = [0; Channel::ALL.len()];
    let mut statement = connection
        .prepare("SELECT channel, count(*) FROM deliveries WHERE state = 'queued' GROUP BY channel")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let channel = channel_named(row.get_ref(0)?.as_str()?)?;
        queued[channel as usize] = row.get::<_, i64>(1)?.unsigned_abs();
    }
    Ok(queued)
}

fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

/// The statements that find messages, for the test of their plans.
#[cfg(test)]
pub(super) const READINGS: [&str; 3] = [DUE, NEXT_DUE, OLDEST];
