//! Organisations: few, read with every request, and therefore kept in memory.

use super::{Sqlite, audit, outbox, users::overtaken, writer::Batch};
use crate::{
    error::{Error, Result},
    store::{
        Page,
        cursor::{Cursor, page, rows_for},
        memory::Effect,
    },
};
use countersign_core::{Client, ClientId, Organisation, OrganisationId, Refusal};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use std::{collections::BTreeSet, sync::Arc};

impl Sqlite {
    /// See [`crate::store::Store::organisation`].
    pub async fn organisation(&self, id: OrganisationId) -> Result<Option<Arc<Organisation>>> {
        match self.memory.organisation(id) {
            Some(organisation) => Ok(Some(organisation)),
            None => self.fetch(SELECT_BY_ID, id.uuid().into_bytes()).await,
        }
    }

    /// See [`crate::store::Store::organisation_by_slug`].
    pub async fn organisation_by_slug(&self, slug: &str) -> Result<Option<Arc<Organisation>>> {
        match self.memory.organisation_by_slug(slug) {
            Some(organisation) => Ok(Some(organisation)),
            None => self.fetch(SELECT_BY_SLUG, slug.to_owned()).await,
        }
    }

    /// See [`crate::store::Store::organisation_of_client`].
    pub async fn organisation_of_client(&self, client: ClientId) -> Result<Option<Arc<Organisation>>> {
        match self.memory.organisation_of_client(client) {
            Some(organisation) => Ok(Some(organisation)),
            None => self.fetch(SELECT_BY_CLIENT, client.uuid().into_bytes()).await,
        }
    }

    /// Reads an organisation and keeps it in memory.
    async fn fetch(
        &self,
        sql: &'static str,
        key: impl ToSql + Send + 'static,
    ) -> Result<Option<Arc<Organisation>>> {
        let Some(held) = self.readers.read(move |reader| select(reader, sql, &key)).await? else {
            return Ok(None);
        };
        let organisation = Arc::new(held.organisation);
        self.memory.keep(Arc::clone(&organisation), held.version);
        Ok(Some(organisation))
    }

    /// See [`crate::store::Store::organisations`].
    pub async fn organisations(&self, after: Option<&str>, limit: usize) -> Result<Page<Arc<Organisation>>> {
        let after = match Cursor::parse(after)? {
            None => 0,
            Some(Cursor::Organisation(pk)) => pk,
            Some(_) => return Err(Cursor::unknown()),
        };
        let organisations = self.readers.read(move |reader| after_pk(reader, after, rows_for(limit))).await?;
        let rows =
            organisations.into_iter().map(|(pk, document)| (Cursor::Organisation(pk), Arc::new(document)));
        Ok(page(rows.collect(), limit))
    }

    /// See [`crate::store::Store::create_organisation`].
    pub async fn create_organisation(&self, organisation: Organisation) -> Result<Arc<Organisation>> {
        // The work may run again, and taking the events empties them.
        self.writer.commit(move |batch| insert(batch, organisation.clone())).await
    }

    /// See [`crate::store::Store::change_organisation`].
    pub async fn change_organisation<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        mut decide: impl FnMut(&mut Organisation) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        self.writer.commit(move |batch| change(batch, organisation, &mut decide)).await
    }
}

/// Decides on the document and commits what it became.
pub(super) fn change<T>(
    batch: &Batch<'_>,
    organisation: OrganisationId,
    decide: &mut impl FnMut(&mut Organisation) -> Result<T, Refusal>,
) -> Result<T> {
    let mut held = load(batch, organisation)?.ok_or(Error::NotFound("organisation"))?;
    let outcome = decide(&mut held.organisation)?;
    replace(batch, held)?;
    Ok(outcome)
}

/// An organisation as its row holds it, with what guards the row.
pub(super) struct Held {
    pk: i64,
    version: i64,
    audit_row: Option<i64>,
    clients: BTreeSet<ClientId>,
    /// The document.
    pub(super) organisation: Organisation,
}

/// Loads an organisation from the database: memory lags behind an open batch.
pub(super) fn load(connection: &Connection, id: OrganisationId) -> Result<Option<Held>> {
    select(connection, SELECT_BY_ID, &id.uuid().into_bytes())
}

fn select(connection: &Connection, sql: &str, key: &dyn ToSql) -> Result<Option<Held>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([key])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let organisation = read(row, 3)?;
    Ok(Some(Held {
        pk: row.get(0)?,
        version: row.get(1)?,
        audit_row: row.get(2)?,
        clients: clients_of(&organisation),
        organisation,
    }))
}

const SELECT_BY_ID: &str = "SELECT pk, version, audit_row, body FROM organisations WHERE id = ?1";
const SELECT_BY_SLUG: &str = "SELECT pk, version, audit_row, body FROM organisations WHERE slug_key = ?1";
const SELECT_BY_CLIENT: &str = "SELECT pk, version, audit_row, body FROM organisations
    WHERE id = (SELECT organisation FROM clients WHERE id = ?1)";

fn read(row: &Row<'_>, column: usize) -> Result<Organisation> {
    Ok(Organisation::from_json(row.get_ref(column)?.as_bytes()?)?)
}

fn clients_of(organisation: &Organisation) -> BTreeSet<ClientId> {
    organisation.clients.iter().map(|Client { id, .. }| *id).collect()
}

/// Returns organisations after a place in the order they were created in, with that place.
pub(super) fn after_pk(connection: &Connection, pk: i64, rows: i64) -> Result<Vec<(i64, Organisation)>> {
    let mut statement = connection.prepare_cached(LIST)?;
    let mut rows = statement.query([pk, rows])?;
    let mut organisations = Vec::new();
    while let Some(row) = rows.next()? {
        organisations.push((row.get(0)?, read(row, 1)?));
    }
    Ok(organisations)
}

const LIST: &str = "SELECT pk, body FROM organisations WHERE pk > ?1 ORDER BY pk LIMIT ?2";

/// Adds an organisation with its first events.
pub(super) fn insert(batch: &Batch<'_>, mut organisation: Organisation) -> Result<Arc<Organisation>> {
    let records = organisation.take_records();
    let messages = outbox::check(batch, organisation.take_parcels(), organisation.take_withdrawals())?;
    batch
        .prepare_cached(
            "INSERT INTO organisations (id, slug_key, version, audit_row, body) VALUES (?1, ?2, 1, ?3, ?4)",
        )?
        .execute(params![
            organisation.id.uuid().into_bytes(),
            organisation.slug.key(),
            audit::newest_after(batch, &records, None),
            organisation.to_json(),
        ])?;
    add_clients(batch, &organisation)?;
    audit::append(batch, &records, None)?;
    messages.post(batch)?;
    let organisation = Arc::new(organisation);
    batch.after_commit(Effect::Organisation(Arc::clone(&organisation), 1));
    Ok(organisation)
}

/// Commits a changed organisation with its events; one in which nothing happened stays as it is.
pub(super) fn replace(batch: &Batch<'_>, held: Held) -> Result<()> {
    let Held { pk, version, audit_row: previous, clients, mut organisation } = held;
    if organisation.is_unchanged() {
        return Ok(());
    }
    let records = organisation.take_records();
    let messages = outbox::check(batch, organisation.take_parcels(), organisation.take_withdrawals())?;
    let replaced = batch
        .prepare_cached(
            "UPDATE organisations SET version = version + 1, slug_key = ?3, audit_row = ?4, body = ?5
             WHERE pk = ?1 AND version = ?2",
        )?
        .execute(params![
            pk,
            version,
            organisation.slug.key(),
            audit::newest_after(batch, &records, previous),
            organisation.to_json(),
        ])?;
    if replaced != 1 {
        return Err(overtaken("change organisation"));
    }
    list_clients(batch, &organisation, &clients)?;
    audit::append(batch, &records, previous)?;
    messages.post(batch)?;
    batch.after_commit(Effect::Organisation(Arc::new(organisation), version + 1));
    Ok(())
}

/// Counts a person in or out of an organisation.
pub(super) fn count(batch: &Batch<'_>, organisation: OrganisationId, change: i64) -> Result<()> {
    let mut statement =
        batch.prepare_cached("UPDATE organisations SET people = people + ?2 WHERE id = ?1")?;
    statement.execute(params![organisation.uuid().into_bytes(), change])?;
    Ok(())
}

/// Returns how many people an organisation has.
pub(super) fn people(connection: &Connection, organisation: OrganisationId) -> Result<u64> {
    let mut statement = connection.prepare_cached(PEOPLE)?;
    let people: Option<i64> =
        statement.query_row([organisation.uuid().into_bytes()], |row| row.get(0)).optional()?;
    Ok(people.and_then(|people| u64::try_from(people).ok()).unwrap_or_default())
}

const PEOPLE: &str = "SELECT people FROM organisations WHERE id = ?1";

/// Lists the clients of an organisation that was not here before.
pub(super) fn add_clients(connection: &Connection, organisation: &Organisation) -> Result<()> {
    list_clients(connection, organisation, &BTreeSet::new())
}

/// Makes the index of clients say what the document says.
fn list_clients(
    connection: &Connection,
    organisation: &Organisation,
    before: &BTreeSet<ClientId>,
) -> Result<()> {
    let now = clients_of(organisation);
    for gone in before.difference(&now) {
        connection
            .prepare_cached("DELETE FROM clients WHERE id = ?1")?
            .execute([gone.uuid().into_bytes()])?;
    }
    for new in now.difference(before) {
        connection
            .prepare_cached("INSERT INTO clients (id, organisation) VALUES (?1, ?2)")?
            .execute([new.uuid().into_bytes(), organisation.id.uuid().into_bytes()])?;
    }
    Ok(())
}

/// The statements that find and list organisations, for the test of their plans.
#[cfg(test)]
pub(super) const READINGS: [&str; 5] = [SELECT_BY_ID, SELECT_BY_SLUG, SELECT_BY_CLIENT, LIST, PEOPLE];
