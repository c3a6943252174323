//! `/api/v1/organisations`: organisations, their members, and whether all of those must have a second factor.

use super::{
    listing::{Envelope, LONGEST, Listing},
    people::{self, Account},
    roles,
    users::{boolean, denied, json},
};
use crate::{
    app::Asker,
    error::Error,
    http::{
        SharedApp,
        caller::Known,
        dialects::renamed,
        extract::{Json, Parameters, Raw, Segments},
        problem::Problem,
    },
    service::{enforcement, organisations, users},
    store::UserFilter,
};
use axum::extract::State;
use countersign_core::{
    Organisation, OrganisationId, Permission, User,
    policy::Requirement,
    profile::{DisplayName, Email, Username, matching_key},
    refusal::Invalid,
    role::{Role, Roles},
    user::{NewUser, UserPatch},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// An organisation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    id: OrganisationId,
    name: String,
    enforce_mfa: bool,
    organisation_removal_request: Option<Value>,
}

impl From<&Organisation> for View {
    fn from(organisation: &Organisation) -> Self {
        Self {
            id: organisation.id,
            name: organisation.name.to_string(),
            enforce_mfa: organisation.policy.requirement == Requirement::Enforced,
            organisation_removal_request: None,
        }
    }
}

/// Lists all organisations, oldest first.
pub(super) async fn list(
    who: Known,
    State(app): State<SharedApp>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Json<Envelope<View>>, Problem> {
    who.asker(Permission::Own)?;
    let (offset, limit) = (listing.offset()?, listing.limit()?);
    let searched = listing.searched().unwrap_or_default();
    let mut found = organisations::list(&app, None, LONGEST).await?.items;
    found.retain(|organisation| organisation.name.key().contains(&searched));

    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    let items = found.iter().skip(skipped).take(limit).map(|organisation| organisation.as_ref().into());
    let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
    Ok(Json::ok(Envelope { items: items.collect(), count, offset }))
}

/// An organisation to add. What SafeShare asks for beyond the name is checked and not kept: nothing here uses it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewBody {
    name: String,
    #[serde(rename = "quota")]
    _quota: u64,
    admin_email: String,
    contact_email: String,
}

/// Adds an organisation.
pub(super) async fn create(
    who: Known,
    State(app): State<SharedApp>,
    body: Raw,
) -> Result<Json<View>, Problem> {
    let asker = who.asker(Permission::Own)?;
    let body: NewBody = json(&body)?;
    Email::parse("adminEmail", &body.admin_email)?;
    Email::parse("contactEmail", &body.contact_email)?;
    let name = DisplayName::parse("name", &body.name)?;
    let made = organisations::create(&app, &asker.call, slug(&name)?, name).await?;
    Ok(Json::created(made.as_ref().into()))
}

/// Makes the short name of an organisation from its name.
fn slug(name: &DisplayName) -> Result<Username, Invalid> {
    let words: Vec<String> = matching_key(name.as_str())
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let slug = words.join("-");
    // In paths `self` is the caller's own organisation.
    match Username::parse("name", &slug) {
        Ok(slug) if slug.as_str() != "self" => Ok(slug),
        _ => Username::parse("name", &format!("org-{slug}")),
    }
}

/// Returns an organisation to its people.
pub(super) async fn get(
    who: Known,
    State(app): State<SharedApp>,
    Segments(id): Segments<String>,
) -> Result<Json<View>, Problem> {
    who.themselves()?;
    let organisation = named(&app, &id).await?;
    let is_theirs = organisation.id == who.organisation().id;
    if !is_theirs && who.asker(Permission::Own).is_err() {
        return Err(unknown());
    }
    Ok(Json::ok(organisation.as_ref().into()))
}

/// What to change of an organisation: one or more members.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PatchBody {
    #[serde(default, deserialize_with = "boolean")]
    enforce_mfa: Option<bool>,
    name: Option<String>,
    quota: Option<u64>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Members that SafeShare keeps and nothing here uses: taken, and forgotten.
const NOT_KEPT: [&str; 13] = [
    "adminEmail",
    "addressbookEnabled",
    "description",
    "contactEmail",
    "watermarkingEnabled",
    "i18nDefaultAsString",
    "supportUrl",
    "companyName",
    "legalUrl",
    "webappHelpUrl",
    "orgAdminHelpUrl",
    "privacyUrl",
    "userMessage",
];

impl PatchBody {
    fn check(&self) -> Result<(), Invalid> {
        let is_known = |name: &String| NOT_KEPT.contains(&name.as_str());
        let has_known = self.enforce_mfa.is_some() || self.name.is_some() || self.quota.is_some();
        if has_known || self.others.keys().any(is_known) {
            return Ok(());
        }
        Err(Invalid::new("enforceMfa", "send this or another member of an organisation"))
    }
}

/// Changes an organisation. With `enforceMfa` all its members get their links before the answer.
pub(super) async fn update(
    who: Known,
    State(app): State<SharedApp>,
    Segments(id): Segments<String>,
    body: Raw,
) -> Result<StatusCode, Problem> {
    let asker = find(&app, &who, Permission::Administer, &id).await?;
    let body: PatchBody = json(&body)?;
    body.check()?;
    let name = body.name.map(|name| DisplayName::parse("name", &name)).transpose()?;
    if (name.is_some() || body.quota.is_some()) && !roles::is_by_safeshare_administrator(&asker) {
        return Err(denied("name and quota are set by SafeShare administrators"));
    }
    if name.is_some() {
        organisations::update(&app, &asker, name, None).await?;
    }
    if let Some(on) = body.enforce_mfa {
        enforcement::enforce(&app, &asker, on).await?;
    }
    Ok(StatusCode::OK)
}

/// Lists an organisation's members.
pub(super) async fn members(
    who: Known,
    State(app): State<SharedApp>,
    Segments(id): Segments<String>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Json<Envelope<Account>>, Problem> {
    let asker = find(&app, &who, Permission::ReadUsers, &id).await?;
    let filter = listing.filter(UserFilter::NameContains)?;
    // One person is sorted as they are.
    let sorting = listing.sorting()?.filter(|_| !matches!(filter, UserFilter::Id(_)));
    let (offset, limit) = (listing.offset()?, listing.limit()?);
    let found = users::people(&app, &asker, &filter, sorting, offset, limit).await;
    let found = found.map_err(|error| renamed(error, &[("search", "searchText")]))?;
    Ok(Json::ok(people::page(&app, found, offset).await?))
}

/// A member to add, or what to change of one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemberBody {
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    role: Option<String>,
    roles: Option<Vec<String>>,
    is_org_admin: Option<bool>,
}

impl MemberBody {
    /// Tells whether the member is to administer the organisation; `None` if that is not said.
    fn administers(&self) -> Result<Option<bool>, Invalid> {
        let named = self.role.iter().chain(self.roles.iter().flatten());
        let named = named.map(|name| roles::parse("roles", name)).collect::<Result<Vec<_>, _>>()?;
        let by_name = (!named.is_empty()).then(|| named.contains(&Role::Admin));
        Ok(self.is_org_admin.or(by_name))
    }

    fn new_user(&self) -> Result<NewUser, Invalid> {
        let missing = || Invalid::new("email", "this member is required");
        let email = Email::parse("email", self.email.as_deref().ok_or_else(missing)?)?;
        Ok(NewUser {
            given_name: people::name("firstName", self.first_name.as_deref())?,
            family_name: people::name("lastName", self.last_name.as_deref())?,
            roles: Roles::new(self.administers()?.unwrap_or(false).then_some(Role::Admin)),
            email: Some(email.clone()),
            ..NewUser::named(Username::parse("email", email.as_str())?)
        })
    }
}

/// Adds a member with an account of their own.
pub(super) async fn add_member(
    who: Known,
    State(app): State<SharedApp>,
    Segments(id): Segments<String>,
    body: Raw,
) -> Result<Json<Account>, Problem> {
    let asker = find(&app, &who, Permission::WriteUsers, &id).await?;
    let new = json::<MemberBody>(&body)?.new_user()?;
    let user = users::create(&app, &asker, new).await?;
    Ok(Json::created(Account::new(&user, &asker.organisation)))
}

/// Makes a member an administrator of the organisation, or an ordinary one.
pub(super) async fn change_member(
    who: Known,
    State(app): State<SharedApp>,
    Segments((id, user)): Segments<(String, String)>,
    body: Raw,
) -> Result<StatusCode, Problem> {
    let (asker, user) = member(&app, &who, &id, &user).await?;
    let missing = || Invalid::new("role", "send role, roles or isOrgAdmin");
    let administers = json::<MemberBody>(&body)?.administers()?.ok_or_else(missing)?;
    let roles = Some(roles::changed(&user, Role::Admin, administers));
    users::update(&app, &asker, &user.id.into(), UserPatch { roles, ..UserPatch::default() }).await?;
    Ok(StatusCode::OK)
}

/// Deletes a member.
pub(super) async fn remove_member(
    who: Known,
    State(app): State<SharedApp>,
    Segments((id, user)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (asker, user) = member(&app, &who, &id, &user).await?;
    users::delete(&app, &asker, &user.id.into()).await?;
    Ok(StatusCode::OK)
}

/// Finds a member of the organisation of a path.
async fn member(app: &SharedApp, who: &Known, id: &str, user: &str) -> Result<(Asker, User), Problem> {
    let asker = find(app, who, Permission::WriteUsers, id).await?;
    let (found, user) = people::find(app, who, Permission::WriteUsers, user).await?;
    if found.organisation.id != asker.organisation.id {
        return Err(Error::NotFound("user").into());
    }
    Ok((asker, user))
}

/// Finds the organisation of a path and makes the caller somebody who acts in it.
async fn find(app: &SharedApp, who: &Known, permission: Permission, id: &str) -> Result<Asker, Problem> {
    who.asker(permission)?;
    let organisation = named(app, id).await?;
    who.asker_in(permission, &organisation).map_err(|_| unknown())
}

/// Finds the organisation of a path, by its id only: names are no ids in SafeShare.
async fn named(app: &SharedApp, id: &str) -> Result<Arc<Organisation>, Problem> {
    let id: OrganisationId = id.parse().map_err(|_| unknown())?;
    app.store.organisation(id).await?.ok_or_else(unknown)
}

fn unknown() -> Problem {
    Error::NotFound("organisation").into()
}
