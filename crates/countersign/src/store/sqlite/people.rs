//! People by offset, counted, sorted, and over the whole installation. What a page is made of is decided in the indexes;
//! only the documents on it are read.

use super::{
    Sqlite, organisations, search,
    users::{self, condition, read, wanted},
};
use crate::{
    error::Result,
    store::{
        SortKey, Sorting, UserFilter,
        search::{FOUND_MOST, Field, Part, has_own_order, is_not_counted, too_deep},
    },
};
use countersign_core::{OrganisationId, User, UserId, role::Role};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

impl Sqlite {
    /// See [`crate::store::Store::people`] and [`crate::store::Store::people_sorted`].
    pub async fn people(
        &self,
        organisation: OrganisationId,
        filter: &UserFilter,
        sorting: Option<Sorting>,
        offset: u64,
        limit: usize,
    ) -> Result<(Vec<User>, u64)> {
        let filter = filter.clone();
        self.readers
            .read(move |reader| {
                // One view for page and total, whatever is committed meanwhile.
                let view = reader.unchecked_transaction()?;
                people(&view, organisation, &filter, sorting, offset, limit)
            })
            .await
    }

    /// See [`crate::store::Store::owners`].
    pub async fn owners(
        &self,
        filter: &UserFilter,
        sorting: Option<Sorting>,
        offset: u64,
        limit: usize,
    ) -> Result<(Vec<User>, u64)> {
        let (filter, sorting) = (filter.clone(), sorting.unwrap_or(Sorting::BY_NUMBER));
        self.readers
            .read(move |reader| {
                let view = reader.unchecked_transaction()?;
                owners(&view, &filter, sorting, offset, limit)
            })
            .await
    }

    /// See [`crate::store::Store::organisation_of_user`].
    pub async fn organisation_of_user(&self, user: UserId) -> Result<Option<OrganisationId>> {
        self.readers
            .read(move |reader| {
                let mut statement = reader.prepare_cached(ORGANISATION_OF)?;
                let organisation =
                    statement.query_row([user.uuid().into_bytes()], |row| organisation(row, 0));
                Ok(organisation.optional()?)
            })
            .await
    }

    /// See [`crate::store::Store::find_anywhere`].
    pub async fn find_anywhere(&self, email: &str) -> Result<Vec<(OrganisationId, UserId)>> {
        let email = email.to_owned();
        self.readers
            .read(move |reader| {
                let mut statement = reader.prepare_cached(FIND_ANYWHERE)?;
                let found = statement.query_map([email], |row| {
                    Ok((organisation(row, 0)?, UserId::from_uuid(Uuid::from_bytes(row.get(1)?))))
                })?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }
}

const _: () = assert!(Role::Owner as u8 == 4);

const ORGANISATION_OF: &str = "SELECT organisation FROM users WHERE id = ?1";
const FIND_ANYWHERE: &str =
    "SELECT organisation, id FROM users WHERE email_key = ?1 ORDER BY email_key, organisation";

fn organisation(row: &Row<'_>, column: usize) -> rusqlite::Result<OrganisationId> {
    Ok(OrganisationId::from_uuid(Uuid::from_bytes(row.get(column)?)))
}

fn people(
    connection: &Connection,
    organisation: OrganisationId,
    filter: &UserFilter,
    sorting: Option<Sorting>,
    offset: u64,
    limit: usize,
) -> Result<(Vec<User>, u64)> {
    let (numbers, total) = match (Part::of(filter), filter) {
        (Some(part), _) => found(connection, organisation, &part, sorting, offset, limit)?,
        (None, UserFilter::All) => {
            let total = organisations::people(connection, organisation)?;
            let sorting = sorting.unwrap_or(Sorting::BY_NUMBER);
            (search::everybody(connection, organisation, sorting, total, offset, limit)?, total)
        }
        (None, _) if sorting.is_some() => return Err(has_own_order()),
        (None, UserFilter::Id(_) | UserFilter::Username(_)) => {
            let one = one(connection, organisation, filter)?;
            let page = one.filter(|_| offset == 0 && limit > 0);
            (page.into_iter().collect(), u64::from(one.is_some()))
        }
        (None, _) => return Err(is_not_counted()),
    };
    Ok((users::by_number(connection, organisation, numbers)?, total))
}

fn one(connection: &Connection, organisation: OrganisationId, filter: &UserFilter) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached(&only(filter))?;
    let key = params![organisation.uuid().into_bytes(), wanted(filter)];
    Ok(statement.query_row(key, |row| row.get(0)).optional()?)
}

fn only(filter: &UserFilter) -> String {
    format!("SELECT number FROM users WHERE organisation = ?1 AND {}", condition(filter))
}

/// Returns the numbers of a page of what a search finds, and how many it finds.
fn found(
    connection: &Connection,
    organisation: OrganisationId,
    part: &Part,
    sorting: Option<Sorting>,
    offset: u64,
    limit: usize,
) -> Result<(Vec<i64>, u64)> {
    let found = search::search(connection, organisation, part, -1, FOUND_MOST)?;
    let total = found.people.len() as u64;
    // There are more, and nobody knows who.
    if found.next.is_some() && offset >= total {
        return Err(too_deep(total));
    }
    let Some(sorting) = sorting else { return Ok((found.page(offset, limit), total)) };
    let numbers = match found.sorted(sorting, offset, limit) {
        Some(numbers) => numbers,
        None => search::wide(connection, organisation, part, sorting, offset, limit)?,
    };
    Ok((numbers, total))
}

/// Reads a page of the owners, and counts them. They are few.
fn owners(
    connection: &Connection,
    filter: &UserFilter,
    sorting: Sorting,
    offset: u64,
    limit: usize,
) -> Result<(Vec<User>, u64)> {
    let mut places = connection.prepare_cached(&owners_by(filter, sorting))?;
    let mut rows = places.query([wanted(filter)])?;
    let mut pks = Vec::<i64>::new();
    while let Some(row) = rows.next()? {
        pks.push(row.get(0)?);
    }
    let mut body = connection.prepare_cached(BODY)?;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let page = pks.iter().skip(offset).take(limit);
    let people = page.map(|pk| body.query_row([pk], |row| Ok(read(row, 0)))?).collect::<Result<_>>()?;
    Ok((people, pks.len() as u64))
}

const BODY: &str = "SELECT body FROM users WHERE pk = ?1";

// The rank is spelled out, because an index on a part of the rows is only used for a constant.
fn owners_by(filter: &UserFilter, sorting: Sorting) -> String {
    let condition = match Part::of(filter) {
        None => condition(filter).replace("?2", "?1"),
        Some(part) => {
            let contains = |field: &Field| format!("instr({}, ?1) > 0", field.column());
            format!("({})", part.fields.iter().map(contains).collect::<Vec<_>>().join(" OR "))
        }
    };
    let direction = if sorting.descending { "DESC" } else { "ASC" };
    // Numbers are an organisation's own.
    let key = match sorting.by {
        SortKey::Number => "pk",
        SortKey::Email => "email_key",
        SortKey::GivenName => "given_key",
        SortKey::FamilyName => "family_key",
    };
    format!(
        "SELECT pk FROM users INDEXED BY users_owners WHERE role = 4 AND {condition}
         ORDER BY {key} {direction}, pk {direction}"
    )
}

/// The statements that list people, for the test of their plans.
#[cfg(test)]
pub(super) fn readings() -> Vec<String> {
    let one = [UserFilter::Id(UserId::from_uuid(Uuid::nil())), UserFilter::Username(String::new())];
    let fixed = [ORGANISATION_OF, FIND_ANYWHERE, BODY].map(str::to_owned);
    let owners = [UserFilter::All, UserFilter::NameContains(String::new())];
    let owners = owners.map(|filter| owners_by(&filter, Sorting::BY_NUMBER));
    one.iter().map(only).chain(owners).chain(fixed).collect()
}
