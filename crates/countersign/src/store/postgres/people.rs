//! People by offset, counted, sorted, and over the whole installation.

use super::{
    Postgres,
    database::Lent,
    failure::Fault,
    organisations, search,
    sql::{args, argument, text_of_nobody_else},
    users::{Wanted, by_number, condition, part_of, read},
};
use crate::{
    error::Result,
    store::{
        SortKey, Sorting, UserFilter,
        search::{FOUND_MOST, Part, has_own_order, is_not_counted, too_deep},
    },
};
use countersign_core::{OrganisationId, User, UserId, role::Role};
use uuid::Uuid;

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
        let filter = filter.clone();
        self.database
            .read(move |lent| {
                let filter = filter.clone();
                async move {
                    // One view for page and total, whatever is committed meanwhile.
                    lent.begin_view().await?;
                    let page = people(&lent, organisation, &filter, sorting, offset, limit).await?;
                    lent.end("COMMIT").await?;
                    Ok(page)
                }
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
        self.database
            .read(move |lent| {
                let filter = filter.clone();
                async move {
                    lent.begin_view().await?;
                    let page = owners(&lent, &filter, sorting, offset, limit).await?;
                    lent.end("COMMIT").await?;
                    Ok(page)
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

const _: () = assert!(Role::Owner as u8 == 4);

async fn people(
    lent: &Lent,
    organisation: OrganisationId,
    filter: &UserFilter,
    sorting: Option<Sorting>,
    offset: u64,
    limit: usize,
) -> Result<(Vec<User>, u64), Fault> {
    let (numbers, total) = match (part_of(filter), filter) {
        (Some(part), _) => found(lent, organisation, &part, sorting, offset, limit).await?,
        (None, UserFilter::All) => {
            let total = organisations::people(lent, organisation).await?;
            let sorting = sorting.unwrap_or(Sorting::BY_NUMBER);
            (search::everybody(lent, organisation, sorting, total, offset, limit).await?, total)
        }
        (None, _) if sorting.is_some() => return Err(has_own_order().into()),
        (None, UserFilter::Id(_) | UserFilter::Username(_)) => {
            let one = one(lent, organisation, filter).await?;
            let page = one.filter(|_| offset == 0 && limit > 0);
            (page.into_iter().collect(), u64::from(one.is_some()))
        }
        (None, _) => return Err(is_not_counted().into()),
    };
    Ok((by_number(lent, organisation, &numbers).await?, total))
}

async fn one(lent: &Lent, organisation: OrganisationId, filter: &UserFilter) -> Result<Option<i64>, Fault> {
    let sql = format!("SELECT number FROM users WHERE organisation = $1 AND {}", condition(filter, 2));
    let (organisation, wanted) = (organisation.uuid(), Wanted::of(filter));
    let mut arguments = vec![argument(&organisation)];
    arguments.extend(wanted.argument());
    let row = lent.row(&sql, &arguments).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Returns the numbers of a page of what a search finds, and how many it finds.
async fn found(
    lent: &Lent,
    organisation: OrganisationId,
    part: &Part,
    sorting: Option<Sorting>,
    offset: u64,
    limit: usize,
) -> Result<(Vec<i64>, u64), Fault> {
    let found = search::search(lent, organisation, part, -1, FOUND_MOST).await?;
    let total = found.people.len() as u64;
    // There are more, and nobody knows who.
    if found.next.is_some() && offset >= total {
        return Err(too_deep(total).into());
    }
    let Some(sorting) = sorting else { return Ok((found.page(offset, limit), total)) };
    let numbers = match found.sorted(sorting, offset, limit) {
        Some(numbers) => numbers,
        None => search::wide(lent, organisation, part, sorting, offset, limit).await?,
    };
    Ok((numbers, total))
}

/// Reads a page of the owners, and counts them. They are few.
async fn owners(
    lent: &Lent,
    filter: &UserFilter,
    sorting: Sorting,
    offset: u64,
    limit: usize,
) -> Result<(Vec<User>, u64), Fault> {
    // Who has no name comes first, or last the other way around. Numbers are an organisation's own.
    let direction = if sorting.descending { "DESC NULLS LAST" } else { "ASC NULLS FIRST" };
    let key = match sorting.by {
        SortKey::Number => "place",
        SortKey::Email => "email_key",
        SortKey::GivenName => "given_key",
        SortKey::FamilyName => "family_key",
    };
    // The rank is spelled out, because an index on a part of the rows is only used for a constant.
    let sql = format!(
        "SELECT id FROM users WHERE role = 4 AND {} ORDER BY {key} {direction}, place {direction}",
        condition(filter, 1)
    );
    let wanted = Wanted::of(filter);
    let owners = lent.rows(&sql, wanted.argument().as_slice()).await?;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut people = Vec::new();
    for row in owners.iter().skip(offset).take(limit) {
        let body =
            lent.row("SELECT body FROM users WHERE id = $1", args![row.try_get::<_, Uuid>(0)?]).await?;
        people.push(read(&body.ok_or(Fault::Overtaken)?, 0)?);
    }
    Ok((people, owners.len() as u64))
}
