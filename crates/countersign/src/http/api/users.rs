//! `/v1/users`: people.

use super::{List, given, page_size};
use crate::{
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Body, Json, OptionalBody, Parameters, Segments, handle},
        problem::Problem,
    },
    service::users,
    store::UserFilter,
};
use axum::extract::State;
use countersign_core::{
    Attributes, Kind, Locale, Method, Role, Timestamp, User, UserId,
    profile::{Description, DisplayName, Email, Phone, Username, matching_key},
    refusal::Invalid,
    role::Roles,
    user::{NewUser, Status, UserPatch},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

/// A person.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    /// The id.
    #[schema(value_type = uuid::Uuid)]
    id: UserId,
    /// The organisation's id.
    #[schema(value_type = uuid::Uuid)]
    organisation: countersign_core::OrganisationId,
    /// The number in the organisation, from 1000.
    number: u64,
    /// The name they sign in with.
    username: String,
    /// The name people read.
    display_name: Option<String>,
    /// The name they were given.
    given_name: Option<String>,
    /// The name of their family.
    family_name: Option<String>,
    /// A line about them.
    description: Option<String>,
    /// What others keep about them; decides nothing here.
    attributes: Map<String, Value>,
    /// Their address.
    email: Option<String>,
    /// Their number to call.
    phone: Option<String>,
    /// The language they are written to and spoken with; the organisation's if none.
    locale: Option<String>,
    /// What they are: `member`, `auditor`, `helpdesk`, `admin`, `owner`.
    roles: Vec<&'static str>,
    /// `active` or `disabled`.
    status: &'static str,
    /// Whether their sign-in asks for a second step.
    mfa_enabled: bool,
    /// Whether they have a password here.
    has_password: bool,
    /// How many factors are in use.
    factors: usize,
    /// The methods that are locked now.
    locked_methods: Vec<&'static str>,
    /// When they were created.
    created_at: String,
    /// When they last changed.
    updated_at: String,
}

impl UserView {
    /// Shows a person at a point in time.
    pub fn new(user: &User, now: Timestamp) -> Self {
        let is_locked = |method: &Method| user.locks.is_locked(*method, now).is_some();
        Self {
            id: user.id,
            organisation: user.organisation,
            number: user.number,
            username: user.username.to_string(),
            display_name: user.display_name.as_ref().map(ToString::to_string),
            given_name: user.given_name.as_ref().map(ToString::to_string),
            family_name: user.family_name.as_ref().map(ToString::to_string),
            description: user.description.as_ref().map(ToString::to_string),
            attributes: user.attributes.members().clone(),
            email: user.email.as_ref().map(ToString::to_string),
            phone: user.phone.as_ref().map(ToString::to_string),
            locale: user.locale.as_ref().map(ToString::to_string),
            roles: user.roles.iter().map(Role::name).collect(),
            status: user.status.name(),
            mfa_enabled: user.mfa_enabled,
            has_password: user.password.is_some(),
            factors: user.active_factors().count(),
            locked_methods: Method::ALL.into_iter().filter(is_locked).map(Method::name).collect(),
            created_at: user.created_at.to_string(),
            updated_at: user.updated_at.to_string(),
        }
    }
}

/// A person to create.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewUserBody {
    /// The name they sign in with: unique, neither all digits nor shaped like an id.
    #[schema(example = "ada")]
    username: String,
    /// The name people read.
    display_name: Option<String>,
    /// The name they were given.
    given_name: Option<String>,
    /// The name of their family.
    family_name: Option<String>,
    /// A line about them, at most 256 characters.
    description: Option<String>,
    /// Members of your own, at most 4096 octets as JSON.
    attributes: Option<Map<String, Value>>,
    /// Their address; unique.
    email: Option<String>,
    /// Their number with its country, such as +4930123456.
    phone: Option<String>,
    /// The language they are written to and spoken with, such as `de` or `pt-BR`; the organisation's if left out.
    locale: Option<String>,
    /// Default: `["member"]`.
    roles: Option<Vec<String>>,
}

/// What to change of a person; `null` clears.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserPatchBody {
    /// Another username.
    username: Option<String>,
    /// Another display name.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    display_name: Option<Option<String>>,
    /// Another given name.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    given_name: Option<Option<String>>,
    /// Another family name.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    family_name: Option<Option<String>>,
    /// Another description.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// Other attributes, which replace all there are.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Map<String, Value>>)]
    attributes: Option<Option<Map<String, Value>>>,
    /// Another address.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    email: Option<Option<String>>,
    /// Another number.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    phone: Option<Option<String>>,
    /// Another language.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    locale: Option<Option<String>>,
    /// Other roles.
    roles: Option<Vec<String>>,
    /// `active` or `disabled`.
    status: Option<String>,
    /// Whether sign-in asks for a second step.
    mfa_enabled: Option<bool>,
}

/// Which people, one filter at a time: each is answered from an index.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserListing {
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 200, default 50.
    limit: Option<usize>,
    /// For owners: the organisation's id or slug.
    #[expect(
        dead_code,
        reason = "read where the caller is recognised; named here so that it is a known parameter"
    )]
    organisation: Option<String>,
    /// The beginning of the username.
    username: Option<String>,
    /// A part of the e-mail address. A page may be short or empty, and still have a `next`.
    email: Option<String>,
    /// A part of the e-mail address, given name or family name. A page may be short or empty, and still have a `next`.
    search: Option<String>,
    /// `active` or `disabled`.
    status: Option<String>,
    /// Whether sign-in asks for a second step.
    mfa_enabled: Option<bool>,
    /// The highest role.
    role: Option<String>,
    /// A method with a lock, such as `TOKEN`.
    locked: Option<String>,
}

impl UserListing {
    fn filter(&self) -> Result<UserFilter, Invalid> {
        let filters = [
            self.username.as_deref().map(|text| Ok(UserFilter::UsernamePrefix(matching_key(text)))),
            self.email.as_deref().map(|text| Ok(UserFilter::EmailContains(matching_key(text)))),
            self.search.as_deref().map(|text| Ok(UserFilter::NameContains(matching_key(text)))),
            self.status.as_deref().map(|text| Status::parse("status", text).map(UserFilter::Status)),
            self.mfa_enabled.map(|on| Ok(UserFilter::MfaEnabled(on))),
            self.role.as_deref().map(|text| Role::parse("role", text).map(UserFilter::Role)),
            self.locked.as_deref().map(|text| Method::parse("locked", text).map(UserFilter::Locked)),
        ];
        let mut filters = filters.into_iter().flatten();
        let first = filters.next().unwrap_or(Ok(UserFilter::All))?;
        if filters.next().is_some() {
            let names = "username, email, search, status, mfaEnabled, role, locked";
            return Err(Invalid::new("filter", format!("one filter at a time: {names}")));
        }
        Ok(first)
    }
}

/// Lists people, by number.
#[utoipa::path(
    get, path = "/v1/users", tag = "users", security(("token" = ["users:read"])),
    params(UserListing), responses((status = 200, body = List<UserView>)),
)]
pub async fn list(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Parameters(listing): Parameters<UserListing>,
) -> Result<Json<List<UserView>>, Problem> {
    let limit = page_size(listing.limit)?;
    let page = users::list(&app, &who.asker, &listing.filter()?, listing.after.as_deref(), limit).await?;
    let now = who.asker.call.now;
    let items = page.items.iter().map(|user| UserView::new(user, now)).collect();
    Ok(Json::ok(List { items, next: page.next }))
}

/// Creates a person.
#[utoipa::path(
    post, path = "/v1/users", tag = "users", security(("token" = ["users:write"])),
    request_body = NewUserBody, responses((status = 201, body = UserView)),
)]
pub async fn create(
    who: May<permit::WriteUsers>,
    State(app): State<SharedApp>,
    Body(body): Body<NewUserBody>,
) -> Result<Json<UserView>, Problem> {
    let new = NewUser {
        username: Username::parse("username", &body.username)?,
        display_name: optional(body.display_name, "displayName", DisplayName::parse)?,
        given_name: optional(body.given_name, "givenName", DisplayName::parse)?,
        family_name: optional(body.family_name, "familyName", DisplayName::parse)?,
        description: optional(body.description, "description", Description::parse)?,
        attributes: Attributes::parse("attributes", body.attributes.unwrap_or_default())?,
        email: optional(body.email, "email", Email::parse)?,
        phone: optional(body.phone, "phone", Phone::parse)?,
        locale: optional(body.locale, "locale", Locale::parse)?,
        roles: roles(body.roles.as_deref().unwrap_or_default())?,
    };
    let user = users::create(&app, &who.asker, new).await?;
    Ok(Json::created(UserView::new(&user, who.asker.call.now)))
}

/// Returns a person.
#[utoipa::path(
    get, path = "/v1/users/{user}", tag = "users", security(("token" = ["users:read"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 200, body = UserView)),
)]
pub async fn get(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<Json<UserView>, Problem> {
    let user = users::get(&app, &who.asker, &handle(&user)?).await?;
    Ok(Json::ok(UserView::new(&user, who.asker.call.now)))
}

/// Changes a person.
#[utoipa::path(
    patch, path = "/v1/users/{user}", tag = "users", security(("token" = ["users:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    request_body = UserPatchBody, responses((status = 200, body = UserView)),
)]
pub async fn update(
    who: May<permit::WriteUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    Body(body): Body<UserPatchBody>,
) -> Result<Json<UserView>, Problem> {
    let patch = UserPatch {
        username: optional(body.username, "username", Username::parse)?,
        display_name: clearable(body.display_name, "displayName", DisplayName::parse)?,
        given_name: clearable(body.given_name, "givenName", DisplayName::parse)?,
        family_name: clearable(body.family_name, "familyName", DisplayName::parse)?,
        description: clearable(body.description, "description", Description::parse)?,
        attributes: body.attributes.map(attributes).transpose()?,
        email: clearable(body.email, "email", Email::parse)?,
        phone: clearable(body.phone, "phone", Phone::parse)?,
        locale: clearable(body.locale, "locale", Locale::parse)?,
        roles: body.roles.as_deref().map(roles).transpose()?,
        status: optional(body.status, "status", Status::parse)?,
        mfa_enabled: body.mfa_enabled,
    };
    let user = users::update(&app, &who.asker, &handle(&user)?, patch).await?;
    Ok(Json::ok(UserView::new(&user, who.asker.call.now)))
}

/// Deletes a person. Their audit trail stays.
#[utoipa::path(
    delete, path = "/v1/users/{user}", tag = "users", security(("token" = ["users:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 204)),
)]
pub async fn delete(
    who: May<permit::WriteUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<StatusCode, Problem> {
    users::delete(&app, &who.asker, &handle(&user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What to reset.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetBody {
    /// Only the factors of this kind: `totp`, `hotp`, `email`, `sms` or `voice`.
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl ResetBody {
    /// Returns the kind of factor; `None` for everything.
    pub fn kind(&self) -> Result<Option<Kind>, Invalid> {
        let kind = self.kind.as_deref().map(|kind| Kind::parse("type", kind)).transpose()?;
        match kind {
            Some(Kind::Recovery | Kind::Emergency) => {
                Err(Invalid::new("type", "codes are replaced or revoked; expected a kind of factor"))
            }
            kind => Ok(kind),
        }
    }
}

/// Deletes all of a person's factors, codes, locks and sessions, or the factors of one kind, so they can enrol anew.
#[utoipa::path(
    post, path = "/v1/users/{user}/reset", tag = "users", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    request_body = Option<ResetBody>, responses((status = 200, body = UserView)),
)]
pub async fn reset(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    OptionalBody(body): OptionalBody<ResetBody>,
) -> Result<Json<UserView>, Problem> {
    let user = users::reset(&app, &who.asker, &handle(&user)?, body.kind()?).await?;
    Ok(Json::ok(UserView::new(&user, who.asker.call.now)))
}

/// Ends all of a person's sessions and open sign-ins.
#[utoipa::path(
    delete, path = "/v1/users/{user}/sessions", tag = "users", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 204)),
)]
pub async fn sign_out(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<StatusCode, Problem> {
    users::sign_out(&app, &who.asker, &handle(&user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Switches a person's second factor off: deletes factors and codes, waiting ones too, and asks for none at sign-in.
#[utoipa::path(
    delete, path = "/v1/users/{user}/mfa", tag = "users", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 204)),
)]
pub async fn switch_off_mfa(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<StatusCode, Problem> {
    users::switch_off_mfa(&app, &who.asker, &handle(&user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn roles(names: &[String]) -> Result<Roles, Invalid> {
    let parse = |(place, name): (usize, &String)| Role::parse(&format!("roles[{place}]"), name);
    Ok(Roles::new(names.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?))
}

fn attributes(members: Option<Map<String, Value>>) -> Result<Attributes, Invalid> {
    Attributes::parse("attributes", members.unwrap_or_default())
}

fn optional<T>(
    text: Option<String>,
    field: &str,
    parse: impl Fn(&str, &str) -> Result<T, Invalid>,
) -> Result<Option<T>, Invalid> {
    text.map(|text| parse(field, &text)).transpose()
}

fn clearable<T>(
    text: Option<Option<String>>,
    field: &str,
    parse: impl Fn(&str, &str) -> Result<T, Invalid>,
) -> Result<Option<Option<T>>, Invalid> {
    text.map(|text| optional(text, field, &parse)).transpose()
}
