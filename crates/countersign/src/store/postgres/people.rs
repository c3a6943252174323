//! People by offset, counted, sorted, and over the whole installation.

use super::{
    Postgres,
    database::Lent,
    failure::Fault,
    organisations,
    sql::{args, argument, text_of_nobody_else},
    users::{Wanted, condition, read},
};
use crate::{
    error::{Error, Result},
    store::{SortKey, Sorting, UserFilter},
};
use countersign_core::{Invalid, OrganisationId, User, UserId, role::Role};

impl Postgres {
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
        self.database
            .read(move |lent| {
                let filter = filter.clone();
                async move {
                    // One view for page and total, whatever is committed meanwhile.
                    lent.begin_view().await?;
                    let page = page(&lent, among, &filter, sorting, offset, limit).await?;
                    let total = total(&lent, among, &filter).await?;
                    lent.end("COMMIT").await?;
                    Ok((page, total))
                }
            })
            .await
    }

    /// See [`crate::store::Store::organisation_of_user`].
    pub async fn organisation_of_user(&self, user: UserId) -> Result<Option<OrganisationId>> {
        self.database
            .read(move |lent| async move {
                let row =
                    lent.row("SELECT organisation FROM users WHERE id = $1", args![user.uuid()]).await?;
                Ok(row.map(|row| row.try_get(0)).transpose()?.map(OrganisationId::from_uuid))
            })
            .await
    }

    /// See [`crate::store::Store::find_anywhere`].
    pub async fn find_anywhere(&self, email: &str) -> Result<Vec<(OrganisationId, UserId)>> {
        let email = text_of_nobody_else(email);
        self.database
            .read(move |lent| {
                let email = email.clone();
                async move {
                    let found = lent.rows(FIND_ANYWHERE, args![email]).await?;
                    found
                        .iter()
                        .map(|row| {
                            let organisation = OrganisationId::from_uuid(row.try_get(0)?);
                            Ok((organisation, UserId::from_uuid(row.try_get(1)?)))
                        })
                        .collect()
                }
            })
            .await
    }
}

const FIND_ANYWHERE: &str =
    "SELECT organisation, id FROM users WHERE email_key = $1 ORDER BY email_key, organisation";

/// Whose list it is.
#[derive(Debug, Clone, Copy)]
enum Among {
    Organisation(OrganisationId),
    Owners,
}

const _: () = assert!(Role::Owner as u8 == 4);

impl Among {
    /// Selects the people. The rank is spelled out, because an index on a part of the rows is only used for a constant.
    const fn source(self) -> &'static str {
        match self {
            Self::Organisation(_) => "users WHERE organisation = $1",
            Self::Owners => "users WHERE role = 4 AND $1::uuid IS NULL",
        }
    }

    /// Returns what stands in the statements for the organisation.
    fn organisation(self) -> Option<uuid::Uuid> {
        match self {
            Self::Organisation(id) => Some(id.uuid()),
            Self::Owners => None,
        }
    }
}

async fn page(
    lent: &Lent,
    among: Among,
    filter: &UserFilter,
    sorting: Option<Sorting>,
    offset: u64,
    limit: usize,
) -> Result<Vec<User>, Fault> {
    let order = sorting.map_or_else(|| own_order(filter).to_owned(), |sorting| order(among, sorting));
    // What is passed over is not read: the documents are fetched when the page is known.
    let sql = format!(
        "WITH page AS MATERIALIZED (
             SELECT id, row_number() OVER (ORDER BY {order}) AS place FROM {} AND {} ORDER BY {order} LIMIT $2 OFFSET $3
         )
         SELECT users.body FROM page JOIN users ON users.id = page.id ORDER BY page.place",
        among.source(),
        condition(filter, 4)
    );
    let (organisation, wanted) = (among.organisation(), Wanted::of(filter));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Nobody has so many people that this leaves one out.
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let mut arguments = args![organisation, limit, offset].to_vec();
    arguments.extend(wanted.argument());
    lent.rows(&sql, &arguments).await?.iter().map(|row| read(row, 0)).collect()
}

async fn total(lent: &Lent, among: Among, filter: &UserFilter) -> Result<u64, Fault> {
    if let (Among::Organisation(organisation), UserFilter::All) = (among, filter) {
        return organisations::people(lent, organisation).await;
    }
    let sql = format!("SELECT count(*) FROM {} AND {}", among.source(), condition(filter, 2));
    let (organisation, wanted) = (among.organisation(), Wanted::of(filter));
    let mut arguments = vec![argument(&organisation)];
    arguments.extend(wanted.argument());
    let total: i64 = lent.row(&sql, &arguments).await?.ok_or(Fault::Overtaken)?.try_get(0)?;
    Ok(total.unsigned_abs())
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

const fn own_order(filter: &UserFilter) -> &'static str {
    match filter {
        UserFilter::UsernamePrefix(_) | UserFilter::Username(_) => "username_key",
        UserFilter::Id(_) => "id",
        _ => "number",
    }
}

fn order(among: Among, sorting: Sorting) -> String {
    // Who has no name comes first, or last the other way around.
    let direction = if sorting.descending { "DESC NULLS LAST" } else { "ASC NULLS FIRST" };
    // Numbers are an organisation's own.
    let age = match among {
        Among::Organisation(_) => "number",
        Among::Owners => "place",
    };
    let key = match sorting.by {
        SortKey::Number => age,
        SortKey::Email => "email_key",
        SortKey::GivenName => "given_key",
        SortKey::FamilyName => "family_key",
    };
    format!("{key} {direction}, {age} {direction}")
}
