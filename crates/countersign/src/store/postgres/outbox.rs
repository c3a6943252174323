//! The outbox: messages are rows, committed with the document that caused them, and claimed by whoever sends them.
//!
//! A claim is a lease: a random name in the row, the node that holds it, and a time when it runs out. Only who holds it can
//! settle the message, so two never send one at once, and one that died keeps nobody waiting for longer than the lease.

use super::{
    Postgres,
    cluster::NODE_IS_GONE,
    database::{Done, Lent},
    destinations::{self, Counted},
    failure::Fault,
    sql::args,
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
use std::{sync::Arc, time::Duration};
use tokio_postgres::Row;
use uuid::Uuid;

impl Postgres {
    /// See [`crate::store::Store::claim`].
    pub async fn claim(
        &self,
        channel: Channel,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Claimed>> {
        let (limit, node) = (i64::try_from(limit).unwrap_or(i64::MAX), self.database.cluster.process());
        self.database.commit(move |lent| claim(lent, channel, now, now.after(lease), limit, node)).await
    }

    /// See [`crate::store::Store::settle`].
    pub async fn settle(&self, claimed: &Claimed, settlement: Settlement, now: Timestamp) -> Result<bool> {
        let owner = owner(claimed.organisation, claimed.user);
        let (id, claim) = (claimed.id, claimed.claim);
        self.database
            .commit(move |lent| {
                let settlement = settlement.clone();
                async move { settle(&lent, owner, id, claim, &settlement, now).await }
            })
            .await
    }

    /// See [`crate::store::Store::release_claims`].
    pub async fn release_claims(&self) -> Result<usize> {
        self.database
            .commit(move |lent| async move {
                let rows = lent.rows(&release(), args![]).await?;
                let effects: Result<Vec<_>, Fault> = rows
                    .iter()
                    .map(|row| Ok(Effect::Outbox(channel_named(row.try_get(0)?)?, Happened::Interrupted)))
                    .collect();
                Ok(Done { effects: effects?, ..Done::of(rows.len()) })
            })
            .await
    }

    /// See [`crate::store::Store::next_due`].
    pub async fn next_due(&self, channel: Channel) -> Result<Option<Timestamp>> {
        self.earliest(NEXT_DUE, channel).await
    }

    /// See [`crate::store::Store::oldest_queued`].
    pub async fn oldest_queued(&self, channel: Channel) -> Result<Option<Timestamp>> {
        self.earliest(OLDEST, channel).await
    }

    async fn earliest(&self, sql: &'static str, channel: Channel) -> Result<Option<Timestamp>> {
        self.database
            .read(move |lent| async move {
                let row = lent.row(sql, args![channel.name()]).await?;
                Ok(row.map(|row| row.try_get(0)).transpose()?.map(Timestamp::from_millis))
            })
            .await
    }

    /// See [`crate::store::Store::posted`].
    pub async fn posted(&self, channel: Channel) {
        self.database.memory.outbox(channel).bell().notified().await;
    }
}

/// Returns by whom a message's row is found: the person it goes to, else the organisation.
pub(super) fn owner(organisation: OrganisationId, user: Option<UserId>) -> Uuid {
    user.map_or(organisation.uuid(), UserId::uuid)
}

/// Messages, a list for each column.
#[derive(Default)]
pub(super) struct Parcels<'a> {
    pub(super) owners: Vec<Uuid>,
    pub(super) ids: Vec<Uuid>,
    pub(super) organisations: Vec<Uuid>,
    pub(super) users: Vec<Option<Uuid>>,
    pub(super) challenges: Vec<Option<Uuid>>,
    pub(super) channels: Vec<&'static str>,
    pub(super) subjects: Vec<&'static str>,
    pub(super) masked: Vec<&'a str>,
    pub(super) created: Vec<i64>,
    pub(super) expire: Vec<i64>,
    pub(super) bodies: Vec<String>,
}

impl<'a> Parcels<'a> {
    /// Lists messages.
    pub(super) fn of(parcels: impl Iterator<Item = &'a Parcel>) -> Self {
        let mut columns = Self::default();
        for parcel in parcels {
            columns.owners.push(owner(parcel.organisation, parcel.user));
            columns.ids.push(parcel.id.uuid());
            columns.organisations.push(parcel.organisation.uuid());
            columns.users.push(parcel.user.map(UserId::uuid));
            columns.challenges.push(parcel.challenge.map(|challenge| challenge.uuid()));
            columns.channels.push(parcel.channel.name());
            columns.subjects.push(parcel.subject);
            columns.masked.push(&parcel.masked);
            columns.created.push(parcel.created_at.millis());
            columns.expire.push(parcel.expires_at.millis());
            columns.bodies.push(sealed_text(&parcel.body));
        }
        columns
    }

    /// Tells whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Makes rows of the lists, whose first one is this parameter.
    pub(super) fn unnested(first: usize) -> String {
        let types = ["uuid", "uuid", "uuid", "uuid", "uuid", "text", "text", "text", "int8", "int8", "text"];
        let lists: Vec<_> =
            (first..).zip(types).map(|(number, kind)| format!("${number}::{kind}[]")).collect();
        format!(
            "unnest({}) AS parcels (owner, id, organisation, \"user\", challenge, channel, subject, masked, created_at,
                 expires_at, body)",
            lists.join(", ")
        )
    }

    /// Says that a rule left its messages as they are.
    pub(super) fn not_sealed() -> Error {
        Error::Internal("post messages: a rule's messages were not sealed".into())
    }
}

/// Messages that may be posted, with what they count for, and those that are taken back.
pub(super) struct Postable {
    parcels: Vec<Parcel>,
    counted: Counted,
    withdrawals: Vec<Withdrawal>,
}

/// Checks the messages of a change: it may refuse them. Whom it counts nobody else counts until the transaction ends.
pub(super) async fn check(
    lent: &Lent,
    parcels: Result<Vec<Parcel>, KeyError>,
    withdrawals: Vec<Withdrawal>,
) -> Result<Postable, Fault> {
    let parcels = parcels.map_err(|_| Parcels::not_sealed())?;
    let counted = destinations::count(lent, &parcels).await?;
    Ok(Postable { parcels, counted, withdrawals })
}

impl Postable {
    /// Takes messages out of the outbox and puts others in; returns what that changes in memory.
    pub(super) async fn post(&self, lent: &Lent) -> Result<Vec<Effect>, Fault> {
        let mut effects = Vec::new();
        for withdrawal in &self.withdrawals {
            effects.extend(withdraw(lent, withdrawal).await?);
        }
        self.counted.write(lent).await?;
        if !self.parcels.is_empty() {
            post(lent, &self.parcels).await?;
        }
        effects.extend(self.parcels.iter().map(|parcel| Effect::Outbox(parcel.channel, Happened::Posted)));
        Ok(effects)
    }
}

async fn post(lent: &Lent, parcels: &[Parcel]) -> Result<(), Fault> {
    let sql = format!(
        "INSERT INTO deliveries (owner, id, organisation, \"user\", challenge, channel, subject, masked, state, created_at,
             expires_at, due_at, body)
         SELECT owner, id, organisation, \"user\", challenge, channel, subject, masked, 'queued', created_at, expires_at,
             created_at, body
         FROM {}",
        Parcels::unnested(1)
    );
    let columns = Parcels::of(parcels.iter());
    lent.run(
        &sql,
        args![
            columns.owners,
            columns.ids,
            columns.organisations,
            columns.users,
            columns.challenges,
            columns.channels,
            columns.subjects,
            columns.masked,
            columns.created,
            columns.expire,
            columns.bodies,
        ],
    )
    .await?;
    Ok(())
}

/// Takes back a message: at once if nobody has begun to send it, else it has no further attempt, nor is a dead letter sent
/// again.
async fn withdraw(lent: &Lent, withdrawal: &Withdrawal) -> Result<Option<Effect>, Fault> {
    let (organisation, id) = (withdrawal.organisation.uuid(), withdrawal.id.uuid());
    let at = withdrawal.at.millis();
    let key = args![organisation, id, at];
    if let Some(row) = lent.row(WITHDRAW, key).await? {
        let settled = Happened::Settled(DeliveryState::Superseded);
        return Ok(Some(Effect::Outbox(channel_named(row.try_get(0)?)?, settled)));
    }
    lent.run(CURTAIL, key).await?;
    Ok(None)
}

const WITHDRAW: &str = "UPDATE deliveries SET state = 'superseded', settled_at = $3, body = NULL
    WHERE organisation = $1 AND id = $2 AND state = 'queued' AND claim IS NULL RETURNING channel";
const CURTAIL: &str = "UPDATE deliveries SET expires_at = least(expires_at, $3)
    WHERE organisation = $1 AND id = $2 AND state IN ('queued', 'failed')";

/// Claims what is due. What must not be sent any more is settled instead.
async fn claim(
    lent: Arc<Lent>,
    channel: Channel,
    now: Timestamp,
    until: Timestamp,
    limit: i64,
    node: Uuid,
) -> Result<Done<Vec<Claimed>>, Fault> {
    let due = lent.rows(DUE, args![channel.name(), now.millis(), limit]).await?;
    let (mut claimed, mut effects) = (Vec::with_capacity(due.len()), Vec::new());
    for row in &due {
        let message = Due::read(row)?;
        if message.was_claimed {
            effects.push(Effect::Outbox(channel, Happened::Interrupted));
        }
        let ended = if message.expires_at <= now {
            Some((DeliveryState::Expired, "its time ran out before it was sent"))
        } else if message.body.is_none() {
            // Refusing to claim it would hold up all that come after it.
            Some((DeliveryState::Failed, "open letter: it is not as expected"))
        } else {
            None
        };
        match (ended, &message.body) {
            (None, Some(body)) => claimed.push(message.lease(&lent, body, channel, until, node).await?),
            (ended, _) => {
                let (state, reason) =
                    ended.unwrap_or((DeliveryState::Failed, "open letter: it is not as expected"));
                message.end(&lent, state, reason, now).await?;
                effects.push(Effect::Outbox(channel, Happened::Settled(state)));
            }
        }
    }
    Ok(Done { effects, ..Done::of(claimed) })
}

const DUE: &str =
    "SELECT owner, id, organisation, \"user\", attempts, expires_at, claim IS NOT NULL, body FROM deliveries
    WHERE channel = $1 AND state = 'queued' AND due_at <= $2 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED";

/// A message whose time has come.
struct Due {
    owner: Uuid,
    id: DeliveryId,
    organisation: OrganisationId,
    user: Option<UserId>,
    attempts: i64,
    expires_at: Timestamp,
    /// Somebody began to send it and was not heard of again.
    was_claimed: bool,
    body: Option<Sealed>,
}

impl Due {
    fn read(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            owner: row.try_get(0)?,
            id: DeliveryId::from_uuid(row.try_get(1)?),
            organisation: OrganisationId::from_uuid(row.try_get(2)?),
            user: row.try_get::<_, Option<_>>(3)?.map(UserId::from_uuid),
            attempts: row.try_get(4)?,
            expires_at: Timestamp::from_millis(row.try_get(5)?),
            was_claimed: row.try_get(6)?,
            body: sealed(row.try_get(7)?),
        })
    }

    async fn lease(
        &self,
        lent: &Lent,
        body: &Sealed,
        channel: Channel,
        until: Timestamp,
        node: Uuid,
    ) -> Result<Claimed, Fault> {
        let claim = Uuid::from_bytes(rand::random());
        let interrupted = i64::from(self.was_claimed);
        lent.run(LEASE, args![self.owner, self.id.uuid(), claim, node, until.millis(), interrupted]).await?;
        Ok(Claimed {
            id: self.id,
            organisation: self.organisation,
            user: self.user,
            channel,
            attempts: u32::try_from(self.attempts + 1).unwrap_or(u32::MAX),
            expires_at: self.expires_at,
            body: body.clone(),
            claim,
        })
    }

    /// Settles a message that is not sent.
    async fn end(
        &self,
        lent: &Lent,
        state: DeliveryState,
        reason: &'static str,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let interrupted = i64::from(self.was_claimed);
        lent.run(END, args![self.owner, self.id.uuid(), state.name(), now.millis(), interrupted, reason])
            .await?;
        Ok(())
    }
}

const LEASE: &str = "UPDATE deliveries SET claim = $3, claimed_by = $4, due_at = $5, attempts = attempts + 1,
        interrupted = interrupted + $6
    WHERE owner = $1 AND id = $2";
const END: &str =
    "UPDATE deliveries SET state = $3, claim = NULL, claimed_by = NULL, settled_at = $4, body = NULL,
        interrupted = interrupted + $5, reason = coalesce(reason, $6)
    WHERE owner = $1 AND id = $2";

/// Says what became of a message; false if the claim is not good any more.
async fn settle(
    lent: &Lent,
    owner: Uuid,
    id: DeliveryId,
    claim: Uuid,
    settlement: &Settlement,
    now: Timestamp,
) -> Result<Done<bool>, Fault> {
    let row = Settled::by(settlement, now);
    let settled_at = (row.state != DeliveryState::Queued).then(|| now.millis());
    // A dead letter may be sent again; everything else is over.
    let keeps_body = matches!(row.state, DeliveryState::Queued | DeliveryState::Failed);
    let interrupted = i64::from(matches!(settlement, Settlement::Interrupted));
    let settled = lent
        .row(
            SETTLE,
            args![
                owner,
                id.uuid(),
                claim,
                row.state.name(),
                row.due_at.map(Timestamp::millis),
                settled_at,
                row.provider.map(without_nul),
                row.reference.map(without_nul),
                row.reason.map(without_nul),
                interrupted,
                keeps_body,
            ],
        )
        .await?;
    let Some(settled) = settled else { return Ok(Done::of(false)) };
    let effect = Effect::Outbox(channel_named(settled.try_get(0)?)?, row.happened);
    Ok(Done { effects: vec![effect], ..Done::of(true) })
}

/// Makes what a provider said a text that PostgreSQL can hold: not noting it would have the message sent again.
pub(super) fn without_nul(said: &str) -> String {
    said.replace('\0', "")
}

const SETTLE: &str =
    "UPDATE deliveries SET claim = NULL, claimed_by = NULL, state = $4, due_at = coalesce($5, due_at),
        settled_at = $6, provider = $7, reference = $8, reason = coalesce($9, reason),
        interrupted = interrupted + $10, body = CASE WHEN $11 THEN body END
    WHERE owner = $1 AND id = $2 AND claim = $3 AND state = 'queued' RETURNING channel";

/// Frees the claims of nodes that are gone: those that left, and those that have shown no sign of life for long.
fn release() -> String {
    format!(
        "UPDATE deliveries SET claim = NULL, claimed_by = NULL, due_at = created_at, interrupted = interrupted + 1
         WHERE state = 'queued' AND claim IS NOT NULL
             AND claimed_by NOT IN (SELECT process FROM nodes WHERE seen_at > {NODE_IS_GONE})
         RETURNING channel"
    )
}

const NEXT_DUE: &str = "SELECT due_at FROM deliveries
    WHERE channel = $1 AND state = 'queued' ORDER BY due_at LIMIT 1";
const OLDEST: &str = "SELECT created_at FROM deliveries
    WHERE channel = $1 AND state = 'queued' ORDER BY created_at LIMIT 1";

/// Returns how many messages wait on each channel. Looks at all that wait; for the start.
pub(super) async fn count_queued(lent: &Lent) -> Result<[u64; Channel::ALL.len()], Fault> {
    let mut queued = [0; Channel::ALL.len()];
    let rows = lent
        .rows("SELECT channel, count(*) FROM deliveries WHERE state = 'queued' GROUP BY channel", args![])
        .await?;
    for row in rows {
        queued[channel_named(row.try_get(0)?)? as usize] = row.try_get::<_, i64>(1)?.unsigned_abs();
    }
    Ok(queued)
}
