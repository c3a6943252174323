//! Deliveries as operators see them: lists, dead letters, and what is old enough to be forgotten.

use super::{Sqlite, organisations, users, writer::Batch};
use crate::{
    error::{Error, Result},
    store::{
        Delivery, DeliveryFilter, DeliveryState, Page,
        cursor::{Cursor, page, rows_for},
        memory::{Effect, Happened},
        outbox::channel_named,
    },
};
use countersign_core::{
    ChallengeId, DeliveryId, Handle, Organisation, OrganisationId, Refusal, Timestamp, User, UserId,
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use uuid::Uuid;

impl Sqlite {
    /// See [`crate::store::Store::deliveries`].
    pub async fn deliveries(
        &self,
        organisation: OrganisationId,
        filter: &DeliveryFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Delivery>> {
        let (filter, after) = (filter.clone(), Cursor::parse(after)?);
        self.readers.read(move |reader| list(reader, organisation, &filter, after, limit)).await
    }

    /// See [`crate::store::Store::delivery`].
    pub async fn delivery(&self, organisation: OrganisationId, id: DeliveryId) -> Result<Option<Delivery>> {
        self.readers.read(move |reader| find(reader, organisation, id)).await
    }

    /// See [`crate::store::Store::delivery_of_challenge`].
    pub async fn delivery_of_challenge(
        &self,
        organisation: OrganisationId,
        user: UserId,
        challenge: ChallengeId,
    ) -> Result<Option<Delivery>> {
        let page = self.deliveries(organisation, &DeliveryFilter::Challenge(challenge), None, 1).await?;
        Ok(page.items.into_iter().find(|delivery| delivery.user == Some(user)))
    }

    /// See [`crate::store::Store::requeue`].
    pub async fn requeue(
        &self,
        organisation: OrganisationId,
        user: UserId,
        id: DeliveryId,
        now: Timestamp,
        mut record: impl FnMut(&mut User) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Delivery> {
        self.writer
            .commit(move |batch| {
                check_dead(batch, organisation, Some(user), id, now)?;
                users::change(batch, organisation, &Handle::Id(user), &mut record)?;
                requeue(batch, organisation, id, now)
            })
            .await
    }

    /// See [`crate::store::Store::requeue_of_organisation`].
    pub async fn requeue_of_organisation(
        &self,
        organisation: OrganisationId,
        id: DeliveryId,
        now: Timestamp,
        mut record: impl FnMut(&mut Organisation) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Delivery> {
        self.writer
            .commit(move |batch| {
                check_dead(batch, organisation, None, id, now)?;
                organisations::change(batch, organisation, &mut record)?;
                requeue(batch, organisation, id, now)
            })
            .await
    }

    /// See [`crate::store::Store::report`].
    pub async fn report(&self, provider: String, reference: String, report: String) -> Result<bool> {
        self.writer
            .commit(move |batch| {
                // The newest: providers begin their names anew some day.
                let mut statement = batch.prepare_cached(
                    "UPDATE deliveries SET report = ?3 WHERE pk =
                         (SELECT pk FROM deliveries WHERE reference = ?2 AND provider = ?1 ORDER BY pk DESC LIMIT 1)
                     RETURNING pk",
                )?;
                let noted = statement.query_row(params![provider, reference, report], |_| Ok(()));
                Ok(noted.optional()?.is_some())
            })
            .await
    }

    /// See [`crate::store::Store::prune_deliveries`].
    pub async fn prune_deliveries(&self, before: Timestamp, limit: usize) -> Result<usize> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.writer
            .commit_job(move |batch| {
                let mut statement = batch.prepare_cached(
                    "DELETE FROM deliveries
                     WHERE pk IN (SELECT pk FROM deliveries WHERE settled_at < ?1 LIMIT ?2)",
                )?;
                Ok(statement.execute([before.millis(), limit])?)
            })
            .await
    }
}

macro_rules! select {
    ($where:literal) => {
        concat!(
            "SELECT id, organisation, user, challenge, channel, subject, masked, state, created_at, expires_at, due_at,
                 attempts, interrupted, settled_at, provider, reference, reason, report
             FROM deliveries WHERE organisation = ?1 AND ",
            $where
        )
    };
}

const FIND: &str = select!("id = ?2");
const LIST: &str = select!("?2 IS NULL AND id < ?3 ORDER BY id DESC LIMIT ?4");
const LIST_BY_STATE: &str = select!("state = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4");
const LIST_BY_USER: &str = select!("user = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4");
const LIST_BY_CHANNEL: &str = select!("channel = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4");
const LIST_BY_CHALLENGE: &str = select!("challenge = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4");

fn list(
    connection: &Connection,
    organisation: OrganisationId,
    filter: &DeliveryFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<Delivery>> {
    let below = match after {
        None => Uuid::max(),
        Some(Cursor::Delivery(id)) => id,
        Some(_) => return Err(Cursor::unknown()),
    };
    let bytes = |id: Uuid| Box::new(id.into_bytes()) as Box<dyn ToSql>;
    let (sql, wanted): (_, Box<dyn ToSql>) = match filter {
        DeliveryFilter::All => (LIST, Box::new(rusqlite::types::Null)),
        DeliveryFilter::State(state) => (LIST_BY_STATE, Box::new(state.name())),
        DeliveryFilter::User(user) => (LIST_BY_USER, bytes(user.uuid())),
        DeliveryFilter::Channel(channel) => (LIST_BY_CHANNEL, Box::new(channel.name())),
        DeliveryFilter::Challenge(challenge) => (LIST_BY_CHALLENGE, bytes(challenge.uuid())),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![
        organisation.uuid().into_bytes(),
        wanted,
        below.into_bytes(),
        rows_for(limit)
    ])?;
    let mut deliveries = Vec::new();
    while let Some(row) = rows.next()? {
        let delivery = read(row)?;
        deliveries.push((Cursor::Delivery(delivery.id.uuid()), delivery));
    }
    Ok(page(deliveries, limit))
}

fn find(connection: &Connection, organisation: OrganisationId, id: DeliveryId) -> Result<Option<Delivery>> {
    let mut statement = connection.prepare_cached(FIND)?;
    let mut rows = statement.query(params![organisation.uuid().into_bytes(), id.uuid().into_bytes()])?;
    rows.next()?.map(read).transpose()
}

fn read(row: &Row<'_>) -> Result<Delivery> {
    let id = |column| row.get::<_, Option<[u8; 16]>>(column).map(|bytes| bytes.map(Uuid::from_bytes));
    let time = |column| row.get::<_, Option<i64>>(column).map(|millis| millis.map(Timestamp::from_millis));
    let state = DeliveryState::parse(row.get_ref(7)?.as_str()?)
        .ok_or_else(|| Error::Store("read delivery: unknown state".into()))?;
    Ok(Delivery {
        id: DeliveryId::from_uuid(Uuid::from_bytes(row.get(0)?)),
        organisation: OrganisationId::from_uuid(Uuid::from_bytes(row.get(1)?)),
        user: id(2)?.map(UserId::from_uuid),
        challenge: id(3)?.map(ChallengeId::from_uuid),
        channel: channel_named(row.get_ref(4)?.as_str()?)?,
        subject: row.get(5)?,
        masked: row.get(6)?,
        state,
        created_at: Timestamp::from_millis(row.get(8)?),
        expires_at: Timestamp::from_millis(row.get(9)?),
        due_at: time(10)?.filter(|_| state == DeliveryState::Queued),
        attempts: row.get(11)?,
        interrupted: row.get(12)?,
        settled_at: time(13)?,
        provider: row.get(14)?,
        reference: row.get(15)?,
        reason: row.get(16)?,
        report: row.get(17)?,
    })
}

/// Refuses to send again what is not a dead letter, or has no time left.
fn check_dead(
    batch: &Batch<'_>,
    organisation: OrganisationId,
    user: Option<UserId>,
    id: DeliveryId,
    now: Timestamp,
) -> Result<()> {
    let delivery = find(batch, organisation, id)?.ok_or(Error::NotFound("delivery"))?;
    if user.is_some() && delivery.user != user {
        return Err(Error::NotFound("delivery"));
    }
    match delivery.state {
        DeliveryState::Failed if delivery.expires_at > now => Ok(()),
        DeliveryState::Failed => Err(Refusal::NotRetriable("expired").into()),
        state => Err(Refusal::NotRetriable(state.name()).into()),
    }
}

/// Puts a dead letter back into the queue.
fn requeue(
    batch: &Batch<'_>,
    organisation: OrganisationId,
    id: DeliveryId,
    now: Timestamp,
) -> Result<Delivery> {
    batch
        .prepare_cached(
            "UPDATE deliveries SET state = 'queued', due_at = ?3, settled_at = NULL
             WHERE organisation = ?1 AND id = ?2 AND state = 'failed' RETURNING id",
        )?
        .query_row(
            params![organisation.uuid().into_bytes(), id.uuid().into_bytes(), now.millis()],
            |_| Ok(()),
        )
        .optional()?
        .ok_or_else(|| users::overtaken("retry delivery"))?;
    let delivery = find(batch, organisation, id)?.ok_or(Error::NotFound("delivery"))?;
    batch.after_commit(Effect::Outbox(delivery.channel, Happened::Requeued));
    Ok(delivery)
}

/// The statements that list deliveries, for the test of their plans.
#[cfg(test)]
pub(super) const READINGS: [&str; 6] =
    [FIND, LIST, LIST_BY_STATE, LIST_BY_USER, LIST_BY_CHANNEL, LIST_BY_CHALLENGE];
