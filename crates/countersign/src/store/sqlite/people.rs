//! People by offset, counted, sorted, and over the whole installation. What a page is made of is decided in the indexes;
//! only the documents on it are read.

use super::{
    Sqlite, organisations,
    users::{read, wanted},
};
use crate::{
    error::{Error, Result},
    store::{SortKey, Sorting, UserFilter},
};
use countersign_core::{Invalid, OrganisationId, User, UserId, role::Role};
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
        if sorting.is_some() && !is_search(filter) {
            return Err(has_own_order());
        }
        self.counted(Among::Organisation(organisation), filter, sorting, offset, limit).await
    }

    /// See [`crate::store::Store::owners`].
    pub async fn owners(
        &self,
        filter: &UserFilter,
        sorting: Option<Sorting>,
        offset: u64,
        limit: usize,
    ) -> Result<(Vec<User>, u64)> {
        let sorting = sorting.unwrap_or(Sorting { by: SortKey::Number, descending: false });
        self.counted(Among::Owners, filter, Some(sorting), offset, limit).await
    }

    async fn counted(
        &self,
        among: Among,
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
                let page = page(&view, among, &filter, sorting, offset, limit)?;
                Ok((page, total(&view, among, &filter)?))
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

/// Whose list it is.
#[derive(Debug, Clone, Copy)]
enum Among {
    Organisation(OrganisationId),
    Owners,
}

impl Among {
    /// Returns what stands in the statements for the organisation.
    fn organisation(self) -> Option<[u8; 16]> {
        match self {
            Self::Organisation(id) => Some(id.uuid().into_bytes()),
            Self::Owners => None,
        }
    }

    /// Selects the people, of an organisation by the index where the names stand for filters that read those.
    const fn source(self, filter: &UserFilter) -> &'static str {
        match self {
            Self::Organisation(_) if is_search(filter) => {
                "users INDEXED BY users_names WHERE organisation = ?1"
            }
            Self::Organisation(_) => "users WHERE organisation = ?1",
            // The rank is spelled out, because an index on a part of the rows is only used for a constant.
            Self::Owners => "users INDEXED BY users_owners WHERE role = 4 AND ?1 IS NULL",
        }
    }
}

const _: () = assert!(Role::Owner as u8 == 4);

const ORGANISATION_OF: &str = "SELECT organisation FROM users WHERE id = ?1";
const FIND_ANYWHERE: &str =
    "SELECT organisation, id FROM users WHERE email_key = ?1 ORDER BY email_key, organisation";

fn organisation(row: &Row<'_>, column: usize) -> rusqlite::Result<OrganisationId> {
    Ok(OrganisationId::from_uuid(Uuid::from_bytes(row.get(column)?)))
}

fn page(
    connection: &Connection,
    among: Among,
    filter: &UserFilter,
    sorting: Option<Sorting>,
    offset: u64,
    limit: usize,
) -> Result<Vec<User>> {
    let mut places = connection.prepare_cached(&places(among, filter, sorting))?;
    let mut rows = places.query(params![
        among.organisation(),
        wanted(filter),
        i64::try_from(limit).unwrap_or(i64::MAX),
        // Nobody has so many people that this leaves one out.
        i64::try_from(offset).unwrap_or(i64::MAX),
    ])?;
    let mut body = connection.prepare_cached(BODY)?;
    let mut people = Vec::new();
    while let Some(row) = rows.next()? {
        let pk: i64 = row.get(0)?;
        people.push(body.query_row([pk], |row| Ok(read(row, 0)))??);
    }
    Ok(people)
}

fn total(connection: &Connection, among: Among, filter: &UserFilter) -> Result<u64> {
    if let (Among::Organisation(organisation), UserFilter::All) = (among, filter) {
        return organisations::people(connection, organisation);
    }
    let mut statement = connection.prepare_cached(&count(among, filter))?;
    let total: i64 = statement.query_row(params![among.organisation(), wanted(filter)], |row| row.get(0))?;
    Ok(u64::try_from(total).unwrap_or_default())
}

const BODY: &str = "SELECT body FROM users WHERE pk = ?1";

/// Selects the rows of a page.
fn places(among: Among, filter: &UserFilter, sorting: Option<Sorting>) -> String {
    let (source, condition) = (among.source(filter), condition(filter));
    let order = sorting.map_or_else(|| own_order(filter).to_owned(), |sorting| order(among, sorting));
    format!("SELECT pk FROM {source} AND {condition} ORDER BY {order} LIMIT ?3 OFFSET ?4")
}

fn count(among: Among, filter: &UserFilter) -> String {
    let (source, condition) = (among.source(filter), condition(filter));
    format!("SELECT count(*) FROM {source} AND {condition}")
}

/// Says that a list cannot be sorted otherwise: its index has one order, and reading all it names to make another would
/// read their documents.
fn has_own_order() -> Error {
    Invalid::new("sort", "only everybody, or what a search finds, can be sorted").into()
}

const fn is_search(filter: &UserFilter) -> bool {
    matches!(
        filter,
        UserFilter::All
            | UserFilter::EmailContains(_)
            | UserFilter::GivenNameContains(_)
            | UserFilter::FamilyNameContains(_)
            | UserFilter::NameContains(_)
    )
}

const fn condition(filter: &UserFilter) -> &'static str {
    match filter {
        UserFilter::All => "?2 IS NULL",
        UserFilter::Username(_) => "username_key = ?2",
        // No name goes on with the last code point, which is no character.
        UserFilter::UsernamePrefix(_) => "username_key BETWEEN ?2 AND ?2 || char(1114111)",
        UserFilter::Status(_) => "is_active = ?2",
        UserFilter::MfaEnabled(_) => "mfa_enabled = ?2",
        UserFilter::Role(_) => "role = ?2",
        UserFilter::Locked(_) => "locked_methods <> 0 AND locked_methods & ?2 <> 0",
        UserFilter::Id(_) => "id = ?2",
        UserFilter::EmailContains(_) => "instr(email_key, ?2) > 0",
        UserFilter::GivenNameContains(_) => "instr(given_key, ?2) > 0",
        UserFilter::FamilyNameContains(_) => "instr(family_key, ?2) > 0",
        UserFilter::NameContains(_) => {
            "(instr(email_key, ?2) > 0 OR instr(given_key, ?2) > 0 OR instr(family_key, ?2) > 0)"
        }
    }
}

const fn own_order(filter: &UserFilter) -> &'static str {
    match filter {
        UserFilter::UsernamePrefix(_) | UserFilter::Username(_) => "username_key",
        UserFilter::Id(_) => "id",
        _ => "number",
    }
}

fn order(among: Among, sorting: Sorting) -> String {
    let direction = if sorting.descending { "DESC" } else { "ASC" };
    // Numbers are an organisation's own.
    let age = match among {
        Among::Organisation(_) => "number",
        Among::Owners => "pk",
    };
    let key = match sorting.by {
        SortKey::Number => age,
        SortKey::Email => "email_key",
        SortKey::GivenName => "given_key",
        SortKey::FamilyName => "family_key",
    };
    format!("{key} {direction}, {age} {direction}")
}

#[cfg(test)]
pub(super) use readings::{pages, sorted_pages};

/// The statements that list people, for the test of their plans.
#[cfg(test)]
mod readings {
    use super::*;
    use countersign_core::{lock::Method, user::Status};

    const ACME: Among = Among::Organisation(OrganisationId::from_uuid(Uuid::nil()));

    /// Those that follow an index in its own order.
    pub(in super::super) fn pages() -> Vec<String> {
        let text = String::new;
        let filters = [
            UserFilter::All,
            UserFilter::Id(UserId::from_uuid(Uuid::nil())),
            UserFilter::Username(text()),
            UserFilter::UsernamePrefix(text()),
            UserFilter::Status(Status::Active),
            UserFilter::MfaEnabled(true),
            UserFilter::Role(Role::Member),
            UserFilter::Locked(Method::Token),
            UserFilter::EmailContains(text()),
            UserFilter::GivenNameContains(text()),
            UserFilter::FamilyNameContains(text()),
            UserFilter::NameContains(text()),
        ];
        let of_acme = filters.iter().flat_map(|filter| [places(ACME, filter, None), count(ACME, filter)]);
        let of_owners = filters.iter().map(|filter| count(Among::Owners, filter));
        let fixed = [ORGANISATION_OF, FIND_ANYWHERE, BODY].map(str::to_owned);
        of_acme.chain(of_owners).chain(fixed).collect()
    }

    /// Those that sort what they read of the names.
    pub(in super::super) fn sorted_pages() -> Vec<String> {
        let keys = [SortKey::Number, SortKey::Email, SortKey::GivenName, SortKey::FamilyName];
        let filters = [UserFilter::All, UserFilter::NameContains(String::new())];
        let sortings =
            keys.into_iter().flat_map(|by| [true, false].map(|descending| Sorting { by, descending }));
        sortings
            .flat_map(|sorting| filters.clone().map(|filter| places(ACME, &filter, Some(sorting))))
            .collect()
    }
}
