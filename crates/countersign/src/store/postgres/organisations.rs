//! Organisations: few, read with every request, and therefore kept in memory for a moment.

use super::{
    Postgres, audit,
    database::{Database, Done, Lent, Proof},
    failure::Fault,
    outbox,
    shared::Guard,
    sql::{Argument, args, argument, text_of_nobody_else},
    users::{NameKind, run, take_name},
};
use crate::{
    error::{Error, Result},
    store::{
        Page,
        cursor::{Cursor, page, rows_for},
        memory::Effect,
    },
};
use countersign_core::{Client, ClientId, Organisation, OrganisationId, Refusal};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};
use uuid::Uuid;

impl Postgres {
    /// See [`crate::store::Store::organisation`].
    pub async fn organisation(&self, id: OrganisationId) -> Result<Option<Arc<Organisation>>> {
        match self.database.memory.organisation(id) {
            Some(organisation) => Ok(Some(organisation)),
            None => self.fetch(Key::Id(id)).await,
        }
    }

    /// See [`crate::store::Store::organisation_by_slug`].
    pub async fn organisation_by_slug(&self, slug: &str) -> Result<Option<Arc<Organisation>>> {
        match self.database.memory.organisation_by_slug(slug) {
            Some(organisation) => Ok(Some(organisation)),
            None => self.fetch(Key::Slug(text_of_nobody_else(slug))).await,
        }
    }

    /// See [`crate::store::Store::organisation_of_client`].
    pub async fn organisation_of_client(&self, client: ClientId) -> Result<Option<Arc<Organisation>>> {
        match self.database.memory.organisation_of_client(client) {
            Some(organisation) => Ok(Some(organisation)),
            None => self.fetch(Key::Client(client)).await,
        }
    }

    /// Reads an organisation and keeps it in memory.
    async fn fetch(&self, key: Key) -> Result<Option<Arc<Organisation>>> {
        let found = self
            .database
            .read(move |lent| {
                let key = key.clone();
                async move { select(&lent, &key).await }
            })
            .await?;
        let Some(held) = found else { return Ok(None) };
        let organisation = Arc::new(held.organisation);
        self.database.memory.keep(Arc::clone(&organisation), held.guard.version);
        Ok(Some(organisation))
    }

    /// See [`crate::store::Store::organisations`].
    pub async fn organisations(&self, after: Option<&str>, limit: usize) -> Result<Page<Arc<Organisation>>> {
        let after = match Cursor::parse(after)? {
            None => 0,
            Some(Cursor::Organisation(place)) => place,
            Some(_) => return Err(Cursor::unknown()),
        };
        let organisations = self
            .database
            .read(move |lent| async move { after_place(&lent, after, rows_for(limit)).await })
            .await?;
        let rows = organisations
            .into_iter()
            .map(|(place, document)| (Cursor::Organisation(place), Arc::new(document)));
        Ok(page(rows.collect(), limit))
    }

    /// See [`crate::store::Store::create_organisation`].
    pub async fn create_organisation(&self, organisation: Organisation) -> Result<Arc<Organisation>> {
        let database = Arc::clone(&self.database);
        self.database
            .commit(move |lent| {
                // The work may run again, and taking the events empties them.
                let (database, organisation) = (Arc::clone(&database), organisation.clone());
                async move { insert(&database, &lent, organisation).await }
            })
            .await
    }

    /// See [`crate::store::Store::change_organisation`].
    pub async fn change_organisation<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        decide: impl FnMut(&mut Organisation) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        let (database, decide) = (Arc::clone(&self.database), Arc::new(Mutex::new(decide)));
        self.database
            .commit(move |lent| {
                let (database, decide) = (Arc::clone(&database), Arc::clone(&decide));
                async move { change(&database, &lent, organisation, &decide).await }
            })
            .await
    }
}

/// What an organisation is found by.
#[derive(Debug, Clone)]
enum Key {
    Id(OrganisationId),
    Slug(String),
    Client(ClientId),
}

/// Decides on a document in a transaction.
pub(super) async fn change<T>(
    database: &Database,
    lent: &Lent,
    organisation: OrganisationId,
    decide: &Mutex<impl FnMut(&mut Organisation) -> Result<T, Refusal>>,
) -> Result<Done<T>, Fault> {
    let mut held = lock(lent, organisation).await?.ok_or(Error::NotFound("organisation"))?;
    let outcome = run(decide, |decide| decide(&mut held.organisation))?;
    let written = replace(database, lent, held).await?;
    Ok(written.with(outcome))
}

/// An organisation as its row holds it, with what guards the row.
pub(super) struct Held {
    guard: Guard,
    clients: BTreeSet<ClientId>,
    slug: String,
    /// The document.
    pub(super) organisation: Organisation,
}

impl Held {
    fn read(row: &tokio_postgres::Row) -> Result<Self, Fault> {
        let organisation = Organisation::from_json(row.try_get(1)?)?;
        let guard = Guard { version: row.try_get(0)?, audit_row: row.try_get(2)? };
        Ok(Self { guard, clients: clients_of(&organisation), slug: organisation.slug.key(), organisation })
    }
}

/// Loads an organisation that nobody else changes until the transaction ends.
pub(super) async fn lock(lent: &Lent, id: OrganisationId) -> Result<Option<Held>, Fault> {
    lent.row(LOCK, args![id.uuid()]).await?.as_ref().map(Held::read).transpose()
}

const LOCK: &str = "SELECT version, body, audit_row FROM organisations WHERE id = $1 FOR UPDATE";

async fn select(lent: &Lent, key: &Key) -> Result<Option<Held>, Fault> {
    let uuid;
    let (sql, wanted): (_, Argument<'_>) = match key {
        Key::Id(id) => {
            uuid = id.uuid();
            (SELECT_BY_ID, argument(&uuid))
        }
        Key::Client(id) => {
            uuid = id.uuid();
            (SELECT_BY_CLIENT, argument(&uuid))
        }
        Key::Slug(slug) => (SELECT_BY_SLUG, argument(slug)),
    };
    lent.row(sql, &[wanted]).await?.as_ref().map(Held::read).transpose()
}

const SELECT_BY_ID: &str = "SELECT version, body, audit_row FROM organisations WHERE id = $1";
// Slugs stand under no organisation.
const SELECT_BY_SLUG: &str = "SELECT version, body, audit_row FROM organisations WHERE id =
    (SELECT holder FROM names
     WHERE organisation = '00000000-0000-0000-0000-000000000000' AND kind = 4 AND key = $1)";
const SELECT_BY_CLIENT: &str = "SELECT version, body, audit_row FROM organisations
    WHERE id = (SELECT organisation FROM clients WHERE id = $1)";

fn clients_of(organisation: &Organisation) -> BTreeSet<ClientId> {
    organisation.clients.iter().map(|Client { id, .. }| *id).collect()
}

/// Returns organisations after a place in the order they were created in, with that place.
pub(super) async fn after_place(
    lent: &Lent,
    place: i64,
    rows: i64,
) -> Result<Vec<(i64, Organisation)>, Fault> {
    let found = lent.rows(LIST, args![place, rows]).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, Organisation::from_json(row.try_get(1)?)?))).collect()
}

const LIST: &str = "SELECT place, body FROM organisations WHERE place > $1 ORDER BY place LIMIT $2";

/// Adds an organisation with its first events.
pub(super) async fn insert(
    database: &Database,
    lent: &Lent,
    mut organisation: Organisation,
) -> Result<Done<Arc<Organisation>>, Fault> {
    let records = organisation.take_records();
    let messages = outbox::check(lent, organisation.take_parcels(), organisation.take_withdrawals()).await?;
    let numbers = database.numbers(records.len() + 1, 0)?;
    let (place, rows) = numbers.rows.split_first().ok_or(Fault::Overtaken)?;
    let newest = rows.last().copied().unwrap_or(*place);
    let id = organisation.id.uuid();

    take_name(lent, Uuid::nil(), NameKind::Slug, &organisation.slug.key(), id).await?;
    let inserted = lent.row(INSERT, args![id, *place, organisation.to_json(), newest]).await?;
    inserted.ok_or(Fault::Final(Error::Conflict("id")))?;
    list_clients(lent, &organisation, &BTreeSet::new()).await?;
    audit::append(lent, &records, rows).await?;
    let mut effects = messages.post(lent).await?;
    let proof = rows.first().and_then(|row| Proof::of(&records, *row));
    let organisation = Arc::new(organisation);
    effects.push(Effect::Organisation(Arc::clone(&organisation), 1));
    Ok(Done { outcome: organisation, proof, effects })
}

const INSERT: &str =
    "INSERT INTO organisations (id, place, version, audit_row, body) VALUES ($1, $2, 1, $4, $3)
    ON CONFLICT DO NOTHING RETURNING id";

/// Commits a changed organisation with its events; one in which nothing happened stays as it is.
pub(super) async fn replace(database: &Database, lent: &Lent, held: Held) -> Result<Done<()>, Fault> {
    let Held { guard, clients, slug, mut organisation } = held;
    if organisation.is_unchanged() {
        return Ok(Done::of(()));
    }
    let records = organisation.take_records();
    let messages = outbox::check(lent, organisation.take_parcels(), organisation.take_withdrawals()).await?;
    let numbers = database.numbers(records.len(), guard.audit_row)?;
    let newest = numbers.rows.last().copied().unwrap_or(guard.audit_row);
    let id = organisation.id.uuid();

    let replaced = lent
        .row(
            &database.statements().replace_organisation,
            args![id, guard.version, organisation.to_json(), numbers.until_millis, newest],
        )
        .await?;
    let version: i64 = replaced.ok_or(Fault::Overtaken)?.try_get(0)?;
    if organisation.slug.key() != slug {
        lent.run(
            "DELETE FROM names WHERE organisation = $1 AND kind = 4 AND key = $2",
            args![Uuid::nil(), slug],
        )
        .await?;
        take_name(lent, Uuid::nil(), NameKind::Slug, &organisation.slug.key(), id).await?;
    }
    list_clients(lent, &organisation, &clients).await?;
    audit::append(lent, &records, &numbers.rows).await?;
    let mut effects = messages.post(lent).await?;
    let proof = numbers.rows.first().and_then(|row| Proof::of(&records, *row));
    effects.push(Effect::Organisation(Arc::new(organisation), version));
    Ok(Done { outcome: (), proof, effects })
}

/// Counts a person in or out of an organisation.
pub(super) async fn count(lent: &Lent, organisation: OrganisationId, change: i64) -> Result<(), Fault> {
    lent.run(
        "UPDATE organisations SET people = people + $2 WHERE id = $1",
        args![organisation.uuid(), change],
    )
    .await?;
    Ok(())
}

/// Returns how many people an organisation has.
pub(super) async fn people(lent: &Lent, organisation: OrganisationId) -> Result<u64, Fault> {
    let row = lent.row("SELECT people FROM organisations WHERE id = $1", args![organisation.uuid()]).await?;
    let people: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(people.and_then(|people| u64::try_from(people).ok()).unwrap_or_default())
}

/// Makes the index of clients say what the document says.
async fn list_clients(
    lent: &Lent,
    organisation: &Organisation,
    before: &BTreeSet<ClientId>,
) -> Result<(), Fault> {
    let now = clients_of(organisation);
    for gone in before.difference(&now) {
        lent.run("DELETE FROM clients WHERE id = $1", args![gone.uuid()]).await?;
    }
    for new in now.difference(before) {
        let listed = lent.row(LIST_CLIENT, args![new.uuid(), organisation.id.uuid()]).await?;
        listed.ok_or(Fault::Final(Error::Conflict("client")))?;
    }
    Ok(())
}

const LIST_CLIENT: &str =
    "INSERT INTO clients (id, organisation) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id";
