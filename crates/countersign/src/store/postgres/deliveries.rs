//! Deliveries as operators see them: lists, dead letters, and what is old enough to be forgotten.

use super::{
    Postgres,
    database::{Done, Lent},
    failure::Fault,
    organisations,
    outbox::without_nul,
    sql::{Argument, args, argument},
    users,
};
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
use std::sync::{Arc, Mutex};
use tokio_postgres::Row;
use uuid::Uuid;

impl Postgres {
    /// See [`crate::store::Store::deliveries`].
    pub async fn deliveries(
        &self,
        organisation: OrganisationId,
        filter: &DeliveryFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Delivery>> {
        let (filter, after) = (filter.clone(), Cursor::parse(after)?);
        self.database
            .read(move |lent| {
                let (filter, after) = (filter.clone(), after.clone());
                async move { list(&lent, organisation, &filter, after, limit).await }
            })
            .await
    }

    /// See [`crate::store::Store::delivery`].
    pub async fn delivery(&self, organisation: OrganisationId, id: DeliveryId) -> Result<Option<Delivery>> {
        self.database.read(move |lent| async move { find(&lent, organisation, id).await }).await
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
        record: impl FnMut(&mut User) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Delivery> {
        let (record, database) = (Arc::new(Mutex::new(record)), Arc::clone(&self.database));
        self.database
            .commit(move |lent| {
                let (record, database) = (Arc::clone(&record), Arc::clone(&database));
                async move {
                    check_dead(&lent, organisation, Some(user), id, now).await?;
                    let changed =
                        users::change(&database, &lent, organisation, &Handle::Id(user), &record).await?;
                    requeue(&lent, organisation, id, now, changed).await
                }
            })
            .await
    }

    /// See [`crate::store::Store::requeue_of_organisation`].
    pub async fn requeue_of_organisation(
        &self,
        organisation: OrganisationId,
        id: DeliveryId,
        now: Timestamp,
        record: impl FnMut(&mut Organisation) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Delivery> {
        let (record, database) = (Arc::new(Mutex::new(record)), Arc::clone(&self.database));
        self.database
            .commit(move |lent| {
                let (record, database) = (Arc::clone(&record), Arc::clone(&database));
                async move {
                    check_dead(&lent, organisation, None, id, now).await?;
                    let changed = organisations::change(&database, &lent, organisation, &record).await?;
                    requeue(&lent, organisation, id, now, changed).await
                }
            })
            .await
    }

    /// See [`crate::store::Store::report`].
    pub async fn report(&self, provider: String, reference: String, report: String) -> Result<bool> {
        self.database
            .commit(move |lent| {
                let arguments = (without_nul(&provider), without_nul(&reference), without_nul(&report));
                async move {
                    let (provider, reference, report) = arguments;
                    Ok(Done::of(lent.row(REPORT, args![provider, reference, report]).await?.is_some()))
                }
            })
            .await
    }

    /// See [`crate::store::Store::prune_deliveries`].
    pub async fn prune_deliveries(&self, before: Timestamp, limit: usize) -> Result<usize> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database
            .commit(move |lent| async move {
                let pruned = lent.run(PRUNE, args![before.millis(), limit]).await?;
                Ok(Done::of(usize::try_from(pruned).unwrap_or(usize::MAX)))
            })
            .await
    }
}

// The newest: providers begin their names anew some day.
const REPORT: &str = "UPDATE deliveries SET report = $3 WHERE (owner, id) =
        (SELECT owner, id FROM deliveries WHERE reference = $2 AND provider = $1 ORDER BY id DESC LIMIT 1)
    RETURNING id";
const PRUNE: &str = "DELETE FROM deliveries WHERE (owner, id) IN
        (SELECT owner, id FROM deliveries WHERE settled_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";

macro_rules! select {
    ($where:literal) => {
        concat!(
            "SELECT id, organisation, \"user\", challenge, channel, subject, masked, state, created_at, expires_at, due_at,
                 attempts, interrupted, settled_at, provider, reference, reason, report
             FROM deliveries WHERE organisation = $1 AND ",
            $where
        )
    };
}

const FIND: &str = select!("id = $2");
const LIST: &str = select!("id < $2 ORDER BY id DESC LIMIT $3");
const LIST_BY_STATE: &str = select!("id < $2 AND state = $4 ORDER BY id DESC LIMIT $3");
const LIST_BY_USER: &str = select!("id < $2 AND \"user\" = $4 ORDER BY id DESC LIMIT $3");
const LIST_BY_CHANNEL: &str = select!("id < $2 AND channel = $4 ORDER BY id DESC LIMIT $3");
const LIST_BY_CHALLENGE: &str = select!("id < $2 AND challenge = $4 ORDER BY id DESC LIMIT $3");

async fn list(
    lent: &Lent,
    organisation: OrganisationId,
    filter: &DeliveryFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<Delivery>, Fault> {
    let below = match after {
        None => Uuid::max(),
        Some(Cursor::Delivery(id)) => id,
        Some(_) => return Err(Cursor::unknown().into()),
    };
    let (organisation, rows) = (organisation.uuid(), rows_for(limit));
    let (state, channel, id);
    let (sql, wanted): (_, Option<Argument<'_>>) = match filter {
        DeliveryFilter::All => (LIST, None),
        DeliveryFilter::State(of) => {
            state = of.name();
            (LIST_BY_STATE, Some(argument(&state)))
        }
        DeliveryFilter::Channel(of) => {
            channel = of.name();
            (LIST_BY_CHANNEL, Some(argument(&channel)))
        }
        DeliveryFilter::User(of) => {
            id = of.uuid();
            (LIST_BY_USER, Some(argument(&id)))
        }
        DeliveryFilter::Challenge(of) => {
            id = of.uuid();
            (LIST_BY_CHALLENGE, Some(argument(&id)))
        }
    };
    let mut arguments = args![organisation, below, rows].to_vec();
    arguments.extend(wanted);
    let found = lent.rows(sql, &arguments).await?;
    let deliveries: Result<Vec<_>, Fault> = found
        .iter()
        .map(|row| read(row).map(|delivery| (Cursor::Delivery(delivery.id.uuid()), delivery)))
        .collect();
    Ok(page(deliveries?, limit))
}

async fn find(lent: &Lent, organisation: OrganisationId, id: DeliveryId) -> Result<Option<Delivery>, Fault> {
    lent.row(FIND, args![organisation.uuid(), id.uuid()]).await?.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<Delivery, Fault> {
    let time = |column: usize| {
        row.try_get::<_, Option<i64>>(column).map(|millis| millis.map(Timestamp::from_millis))
    };
    let count =
        |column: usize| row.try_get::<_, i64>(column).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let state = DeliveryState::parse(row.try_get(7)?)
        .ok_or_else(|| Error::Store("read delivery: unknown state".into()))?;
    Ok(Delivery {
        id: DeliveryId::from_uuid(row.try_get(0)?),
        organisation: OrganisationId::from_uuid(row.try_get(1)?),
        user: row.try_get::<_, Option<_>>(2)?.map(UserId::from_uuid),
        challenge: row.try_get::<_, Option<_>>(3)?.map(ChallengeId::from_uuid),
        channel: channel_named(row.try_get(4)?)?,
        subject: row.try_get(5)?,
        masked: row.try_get(6)?,
        state,
        created_at: Timestamp::from_millis(row.try_get(8)?),
        expires_at: Timestamp::from_millis(row.try_get(9)?),
        due_at: time(10)?.filter(|_| state == DeliveryState::Queued),
        attempts: count(11)?,
        interrupted: count(12)?,
        settled_at: time(13)?,
        provider: row.try_get(14)?,
        reference: row.try_get(15)?,
        reason: row.try_get(16)?,
        report: row.try_get(17)?,
    })
}

/// Refuses to send again what is not a dead letter, or has no time left.
async fn check_dead(
    lent: &Lent,
    organisation: OrganisationId,
    user: Option<UserId>,
    id: DeliveryId,
    now: Timestamp,
) -> Result<(), Fault> {
    let delivery = find(lent, organisation, id).await?.ok_or(Error::NotFound("delivery"))?;
    if user.is_some() && delivery.user != user {
        return Err(Error::NotFound("delivery").into());
    }
    match delivery.state {
        DeliveryState::Failed if delivery.expires_at > now => Ok(()),
        DeliveryState::Failed => Err(Refusal::NotRetriable("expired").into()),
        state => Err(Refusal::NotRetriable(state.name()).into()),
    }
}

/// Puts a dead letter back into the queue, unless somebody else did so first.
async fn requeue(
    lent: &Lent,
    organisation: OrganisationId,
    id: DeliveryId,
    now: Timestamp,
    changed: Done<()>,
) -> Result<Done<Delivery>, Fault> {
    let back = lent.row(REQUEUE, args![organisation.uuid(), id.uuid(), now.millis()]).await?;
    back.ok_or(Fault::Overtaken)?;
    let delivery = find(lent, organisation, id).await?.ok_or(Error::NotFound("delivery"))?;
    let mut done = changed.with(delivery);
    done.effects.push(Effect::Outbox(done.outcome.channel, Happened::Requeued));
    Ok(done)
}

const REQUEUE: &str = "UPDATE deliveries SET state = 'queued', due_at = $3, settled_at = NULL
    WHERE organisation = $1 AND id = $2 AND state = 'failed' RETURNING id";
