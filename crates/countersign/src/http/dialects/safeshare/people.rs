//! Accounts as SafeShare shows them, and finding the one of a path.

use super::{listing::Envelope, roles};
use crate::{
    app::Asker,
    error::Error,
    http::{SharedApp, caller::Known, problem::Problem},
    service::users,
};
use countersign_core::{
    Organisation, OrganisationId, Permission, User, UserId, profile::DisplayName, refusal::Invalid,
};
use serde::Serialize;

/// An account.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Account {
    id: UserId,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    mfa_enabled: bool,
    account_type: &'static str,
    role: &'static str,
    is_org_admin: bool,
    organisations: [Membership; 1],
}

/// What an account is in its organisation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Membership {
    id: OrganisationId,
    name: String,
    roles: Vec<&'static str>,
    is_org_admin: bool,
}

impl Account {
    pub(super) fn new(user: &User, organisation: &Organisation) -> Self {
        let text = |name: &Option<DisplayName>| name.as_ref().map(|name| name.as_str().to_owned());
        let is_org_admin = roles::is_organisation_administrator(user);
        let names = roles::names(user);
        Self {
            id: user.id,
            email: user.email.as_ref().map(|email| email.as_str().to_owned()),
            first_name: text(&user.given_name),
            last_name: text(&user.family_name),
            mfa_enabled: user.asks_for_second_step(&organisation.policy),
            account_type: "LOCAL",
            role: names[0],
            is_org_admin,
            organisations: [Membership {
                id: organisation.id,
                name: organisation.name.to_string(),
                roles: names,
                is_org_admin,
            }],
        }
    }

    /// Shows a person with their organisation.
    pub(super) async fn of(app: &SharedApp, user: &User) -> Result<Self, Problem> {
        let organisation = app.store.organisation(user.organisation).await?;
        Ok(Self::new(user, organisation.as_deref().ok_or(Error::NotFound("organisation"))?))
    }
}

/// Reads a first or last name, if there is one.
pub(super) fn name(field: &str, name: Option<&str>) -> Result<Option<DisplayName>, Invalid> {
    name.map(|name| DisplayName::parse(field, name)).transpose()
}

/// Shows a page of people.
pub(super) async fn page(
    app: &SharedApp,
    people: (Vec<User>, u64),
    offset: u64,
) -> Result<Envelope<Account>, Problem> {
    let (people, count) = people;
    let mut items = Vec::with_capacity(people.len());
    for user in &people {
        items.push(Account::of(app, user).await?);
    }
    Ok(Envelope { items, count, offset })
}

/// Finds the account of a path and makes the caller somebody who acts in its organisation.
///
/// Whether there is such an account in an organisation that is not theirs is not for the caller to learn.
pub(super) async fn find(
    app: &SharedApp,
    who: &Known,
    permission: Permission,
    id: &str,
) -> Result<(Asker, User), Problem> {
    who.asker(permission)?;
    let unknown = || Problem::from(Error::NotFound("user"));
    let id: UserId = id.parse().map_err(|_| unknown())?;
    let organisation = users::organisation_of(app, id).await?;
    let asker = who.asker_in(permission, &organisation).map_err(|_| unknown())?;
    let user = users::get(app, &asker, &id.into()).await?;
    Ok((asker, user))
}
