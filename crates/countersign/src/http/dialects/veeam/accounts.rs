//! `users`: people.

use super::{Mounted, about, body, json, refused, roles, version::Version};
use crate::{
    error::Error,
    http::{
        SharedApp,
        caller::Known,
        extract::{Raw, Segments},
        problem::Problem,
    },
    service::users,
    store::UserFilter,
};
use axum::{
    extract::{Query, State},
    response::Response,
};
use countersign_core::{
    Handle, Permission, User,
    profile::{Description, Username, matching_key},
    refusal::Invalid,
    role::Roles,
    user::{FIRST_NUMBER, NewUser, UserPatch},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The items of a page when the caller does not say.
const PAGE: i64 = 200;
/// The most items of a page, also of one without a limit: who has more people goes on by offset.
pub(super) const LONGEST_PAGE: usize = 10_000;
/// The most characters of a name.
const NAME_LIMIT: usize = 32;
/// The kind of account that is kept here.
const INTERNAL: &str = "Internal";

/// A person.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Account {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) mfa_enabled: bool,
    is_default: bool,
    pub(super) role: &'static str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    identity_provider_entity_id: Option<String>,
    #[serde(rename = "_links")]
    links: Value,
}

impl Account {
    pub(super) fn new(user: &User, version: Version, mounted: &Mounted) -> Self {
        let id = version.id(user);
        let address = format!("{}/api/{}/users/{id}", mounted.base, version.segment());
        Self {
            name: user.username.to_string(),
            description: user.description.as_ref().map(ToString::to_string).unwrap_or_default(),
            mfa_enabled: user.mfa_enabled,
            is_default: user.number == FIRST_NUMBER,
            role: roles::name(user.roles.highest()),
            kind: INTERNAL,
            identity_provider_entity_id: None,
            links: json!({ "self": { "href": address } }),
            id,
        }
    }
}

/// What describes somebody new.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewBody {
    name: String,
    description: String,
    password: Option<String>,
    role: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// What is to change.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PatchBody {
    name: Option<String>,
    description: Option<String>,
    password: Option<String>,
    role: Option<String>,
}

/// Which people.
struct Listing {
    offset: i64,
    limit: i64,
    name: Option<String>,
}

impl Listing {
    /// Reads the parameters. Their names are written with capitals, and without in the links we hand out.
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut listing = Self { offset: 0, limit: PAGE, name: None };
        for (name, value) in pairs(query)? {
            match name.to_ascii_lowercase().as_str() {
                "offset" => listing.offset = whole("Offset", &value, 0)?,
                "limit" => listing.limit = whole("Limit", &value, -1)?,
                "namefilter" => listing.name = Some(value),
                _ => {}
            }
        }
        Ok(listing)
    }

    fn filter(&self) -> UserFilter {
        match &self.name {
            Some(name) => UserFilter::Username(matching_key(name)),
            None => UserFilter::All,
        }
    }

    fn size(&self) -> usize {
        usize::try_from(self.limit).map_or(LONGEST_PAGE, |limit| limit.min(LONGEST_PAGE))
    }
}

fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, Problem> {
    let uri = format!("/?{}", query.unwrap_or_default());
    let malformed = || Problem::invalid("invalid_parameter", None, "the query is malformed");
    let uri = uri.parse().map_err(|_| malformed())?;
    let Query(pairs) = Query::try_from_uri(&uri).map_err(|_| malformed())?;
    Ok(pairs)
}

fn whole(name: &str, text: &str, least: i64) -> Result<i64, Problem> {
    let number = text.parse().ok().filter(|number| (least..=i64::from(i32::MAX)).contains(number));
    number.ok_or_else(|| refused(name, format!("expected a whole number from {least}")))
}

/// Lists people, by number.
pub(super) async fn list(
    known: Known,
    State(app): State<SharedApp>,
    mounted: Mounted,
    Segments(version): Segments<String>,
    uri: http::Uri,
) -> Result<Response, Problem> {
    let version = Version::parse(&version)?;
    let asker = known.asker(Permission::ReadUsers)?;
    let listing = Listing::parse(uri.query())?;
    let offset = u64::try_from(listing.offset).unwrap_or_default();
    let (people, total) =
        users::people(&app, &asker, &listing.filter(), None, offset, listing.size()).await?;
    let results: Vec<Account> = people.iter().map(|user| Account::new(user, version, &mounted)).collect();
    let address = format!(
        "{}/api/{}/users?offset={}&limit={}",
        mounted.base,
        version.segment(),
        listing.offset,
        listing.limit
    );
    let page = json!({
        "offset": listing.offset,
        "limit": listing.limit,
        "totalCount": total,
        "results": results,
        "_links": { "self": { "href": address } },
    });
    Ok(json(StatusCode::OK, &page))
}

/// Returns a person.
pub(super) async fn get(
    known: Known,
    State(app): State<SharedApp>,
    mounted: Mounted,
    Segments((version, id)): Segments<(String, String)>,
) -> Result<Response, Problem> {
    let version = Version::parse(&version)?;
    let (_, user) = about(&app, &known, Permission::ReadUsers, &id).await?;
    Ok(json(StatusCode::OK, &Account::new(&user, version, &mounted)))
}

/// Returns the signed-in person.
pub(super) async fn current(
    known: Known,
    mounted: Mounted,
    Segments(version): Segments<String>,
) -> Result<Response, Problem> {
    let version = Version::parse(&version)?;
    known.themselves()?;
    let (user, _) = known.person().ok_or_else(|| Problem::forbidden("people_only", "this is for people"))?;
    Ok(json(StatusCode::OK, &Account::new(user, version, &mounted)))
}

/// Creates a person with a password.
pub(super) async fn create(
    known: Known,
    State(app): State<SharedApp>,
    mounted: Mounted,
    Segments(version): Segments<String>,
    raw: Raw,
) -> Result<Response, Problem> {
    let version = Version::parse(&version)?;
    let asker = known.asker(Permission::WriteUsers)?;
    let body: NewBody = body(&raw)?;
    if body.kind.as_deref().is_some_and(|kind| kind != INTERNAL) {
        return Err(refused("type", "only accounts of the type Internal are kept here"));
    }
    let password = body.password.ok_or_else(|| refused("password", "the member password is required"))?;
    let role = body.role.map_or(Ok(version.default_role()), |role| roles::parse("role", &role))?;
    let new = NewUser {
        description: description(&body.description)?,
        roles: Roles::new([role]),
        ..NewUser::named(name(&body.name)?)
    };
    let user = users::create_with_password(&app, &asker, new, &password).await.map_err(in_field)?;
    Ok(json(version.created(), &Account::new(&user, version, &mounted)))
}

/// Changes a person.
pub(super) async fn update(
    known: Known,
    State(app): State<SharedApp>,
    mounted: Mounted,
    Segments((version, id)): Segments<(String, String)>,
    raw: Raw,
) -> Result<Response, Problem> {
    let version = Version::parse(&version)?;
    let asker = known.asker(Permission::WriteUsers)?;
    let (_, user) = about(&app, &known, Permission::WriteUsers, &id).await?;
    let body: PatchBody = body(&raw)?;
    let patch = UserPatch {
        username: body.name.as_deref().map(name).transpose()?,
        description: body.description.as_deref().map(description).transpose()?,
        roles: body.role.as_deref().map(|role| other_roles(&user, role)).transpose()?.flatten(),
        ..UserPatch::default()
    };
    let handle = Handle::Id(user.id);
    let user = match body.password {
        Some(new) => users::update_with_password(&app, &asker, &handle, patch, ("password", &new)).await,
        None => users::update(&app, &asker, &handle, patch).await,
    };
    let user = user.map_err(in_field)?;
    Ok(json(StatusCode::OK, &Account::new(&user, version, &mounted)))
}

/// Returns the roles a name means, or `None` if it is what the person's are called: reading and writing back what was
/// read makes nobody less than they are.
fn other_roles(user: &User, role: &str) -> Result<Option<Roles>, Invalid> {
    let is_same = roles::name(user.roles.highest()) == role;
    let role = roles::parse("role", role)?;
    Ok((!is_same).then(|| Roles::new([role])))
}

/// Deletes a person.
pub(super) async fn delete(
    known: Known,
    State(app): State<SharedApp>,
    Segments((version, id)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    Version::parse(&version)?;
    let asker = known.asker(Permission::WriteUsers)?;
    let (_, user) = about(&app, &known, Permission::WriteUsers, &id).await?;
    if user.number == FIRST_NUMBER {
        return Err(refused("id", "the default administrator stays"));
    }
    users::delete(&app, &asker, &Handle::Id(user.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A name that is taken is told by the member it came in.
fn in_field(error: Error) -> Problem {
    match error {
        Error::Conflict("username") => refused("name", "this name is taken"),
        other => other.into(),
    }
}

/// Reads a name: the vendor's are short and plain.
fn name(text: &str) -> Result<Username, Invalid> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if text.is_empty() || text.chars().count() > NAME_LIMIT || !text.chars().all(is_plain) {
        let expected = format!("expected 1 to {NAME_LIMIT} Latin letters, digits, _ and -");
        return Err(Invalid::new("name", expected));
    }
    Username::parse("name", text)
}

/// Reads a description; an empty one is none.
fn description(text: &str) -> Result<Option<Description>, Invalid> {
    if text.trim().is_empty() { Ok(None) } else { Description::parse("description", text).map(Some) }
}
