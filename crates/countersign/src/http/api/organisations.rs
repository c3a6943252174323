//! `/v1/organisations`: organisations and their policies.

use super::{List, Paging, page_size};
use crate::{
    app::Asker,
    http::{
        SharedApp,
        caller::{May, Permit, permit},
        extract::{Body, Json, Parameters, Segments, parse_json},
        problem::Problem,
    },
    service::{
        enforcement::{self, Enforcement},
        organisations,
    },
};
use axum::extract::State;
use countersign_core::{
    Locale, Organisation, OrganisationId, Policy, Refusal,
    profile::{DisplayName, Username},
    refusal::Invalid,
    role::{Rank, Role},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;

/// An organisation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrganisationView {
    /// The id.
    #[schema(value_type = uuid::Uuid)]
    id: OrganisationId,
    /// The short name for requests.
    slug: String,
    /// The name people read; authenticator apps show it.
    name: String,
    /// The language of messages to people who prefer none.
    locale: String,
    /// When it was created.
    created_at: String,
    /// When it last changed.
    updated_at: String,
}

impl From<&Organisation> for OrganisationView {
    fn from(organisation: &Organisation) -> Self {
        Self {
            id: organisation.id,
            slug: organisation.slug.to_string(),
            name: organisation.name.to_string(),
            locale: organisation.locale.to_string(),
            created_at: organisation.created_at.to_string(),
            updated_at: organisation.updated_at.to_string(),
        }
    }
}

/// An organisation to create.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewOrganisationBody {
    /// The short name for requests; unique.
    slug: String,
    /// The name people read; authenticator apps show it.
    name: String,
}

/// What to change of an organisation.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrganisationPatchBody {
    /// Another name.
    name: Option<String>,
    /// Another language of messages to people who prefer none, such as `de` or `pt-BR`.
    locale: Option<String>,
}

/// Lists all organisations.
#[utoipa::path(
    get, path = "/v1/organisations", tag = "organisations", security(("token" = ["owner"])),
    params(Paging), responses((status = 200, body = List<OrganisationView>)),
)]
pub async fn list(
    _: May<permit::Own>,
    State(app): State<SharedApp>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<List<OrganisationView>>, Problem> {
    let page = organisations::list(&app, paging.after.as_deref(), page_size(paging.limit)?).await?;
    let items = page.items.iter().map(|organisation| organisation.as_ref().into()).collect();
    Ok(Json::ok(List { items, next: page.next }))
}

/// Creates an organisation with the default policy.
#[utoipa::path(
    post, path = "/v1/organisations", tag = "organisations", security(("token" = ["owner"])),
    request_body = NewOrganisationBody, responses((status = 201, body = OrganisationView)),
)]
pub async fn create(
    who: May<permit::Own>,
    State(app): State<SharedApp>,
    Body(body): Body<NewOrganisationBody>,
) -> Result<Json<OrganisationView>, Problem> {
    let slug = Username::parse("slug", &body.slug)?;
    if slug.key() == OWN {
        return Err(Invalid::new("slug", "self names the caller's own organisation").into());
    }
    let name = DisplayName::parse("name", &body.name)?;
    let organisation = organisations::create(&app, &who.asker.call, slug, name).await?;
    Ok(Json::created(organisation.as_ref().into()))
}

/// Returns an organisation.
#[utoipa::path(
    get, path = "/v1/organisations/{organisation}", tag = "organisations", security(("token" = ["admin"])),
    params(("organisation" = String, Path, description = "id, slug or self")),
    responses((status = 200, body = OrganisationView)),
)]
pub async fn get(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(name): Segments<String>,
) -> Result<Json<OrganisationView>, Problem> {
    Ok(Json::ok(named(&app, who, &name).await?.organisation.as_ref().into()))
}

/// Changes an organisation's name, or the language of messages to its people.
#[utoipa::path(
    patch, path = "/v1/organisations/{organisation}", tag = "organisations", security(("token" = ["admin"])),
    params(("organisation" = String, Path, description = "id, slug or self")),
    request_body = OrganisationPatchBody, responses((status = 200, body = OrganisationView)),
)]
pub async fn update(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(name): Segments<String>,
    Body(body): Body<OrganisationPatchBody>,
) -> Result<Json<OrganisationView>, Problem> {
    let asker = named(&app, who, &name).await?;
    let name = body.name.map(|name| DisplayName::parse("name", &name)).transpose()?;
    let locale = body.locale.map(|locale| Locale::parse("locale", &locale)).transpose()?;
    let organisation = organisations::update(&app, &asker, name, locale).await?;
    Ok(Json::ok((&organisation).into()))
}

/// Returns an organisation's policy.
#[utoipa::path(
    get, path = "/v1/organisations/{organisation}/policy", tag = "organisations", security(("token" = ["admin"])),
    params(("organisation" = String, Path, description = "id, slug or self")),
    responses((status = 200, body = Object, description = "the policy, with all its members")),
)]
pub async fn policy(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(name): Segments<String>,
) -> Result<Json<Policy>, Problem> {
    Ok(Json::ok(named(&app, who, &name).await?.organisation.policy.clone()))
}

/// Changes members of an organisation's policy (JSON merge patch, RFC 7396).
#[utoipa::path(
    patch, path = "/v1/organisations/{organisation}/policy", tag = "organisations", security(("token" = ["admin"])),
    params(("organisation" = String, Path, description = "id, slug or self")),
    request_body(content = Object, description = "the members to change; null restores the default"),
    responses((status = 200, body = Object, description = "the policy, with all its members")),
)]
pub async fn change_policy(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(name): Segments<String>,
    Body(patch): Body<Map<String, Value>>,
) -> Result<Json<Policy>, Problem> {
    let asker = named(&app, who, &name).await?;
    // Tried here for the sake of a good answer; the change does it again on the policy that stands then.
    merged(&asker.organisation.policy, &patch)?.validate()?;
    let policy = organisations::change_policy(&app, &asker, move |policy| {
        merged(policy, &patch).map_err(|_| Refusal::Invalid(Invalid::new("policy", "malformed")))
    })
    .await?;
    Ok(Json::ok(policy))
}

/// Whether everybody must have a second factor.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnforcementBody {
    /// Whether everybody must; `false` leaves it to them again, and takes nothing from anybody.
    enforced: bool,
}

/// What became of the organisation's people.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnforcementView {
    /// People who were mailed a link by which they set up an app.
    invited: u64,
    /// People who have a key, or for whom a link or code is open already.
    ready: u64,
    /// People who cannot be mailed: they have no address, or none that policy or the server reaches.
    unreachable: u64,
    /// People whom the caller may not act on, or who are switched off.
    left_out: u64,
    /// People who were mailed too often of late; ask again later.
    postponed: u64,
}

impl From<Enforcement> for EnforcementView {
    fn from(done: Enforcement) -> Self {
        Self {
            invited: done.invited,
            ready: done.ready,
            unreachable: done.unreachable,
            left_out: done.left_out,
            postponed: done.postponed,
        }
    }
}

/// Has everybody use a second factor, and mails a link to those who have no key; or leaves it to them again.
///
/// The answer comes when all are mailed. Asking again mails only those who could not be mailed before.
#[utoipa::path(
    post, path = "/v1/organisations/{organisation}/enforcement", tag = "organisations",
    security(("token" = ["admin"])), params(("organisation" = String, Path, description = "id, slug or self")),
    request_body = EnforcementBody, responses((status = 200, body = EnforcementView)),
)]
pub async fn enforce(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(name): Segments<String>,
    Body(body): Body<EnforcementBody>,
) -> Result<Json<EnforcementView>, Problem> {
    let asker = named(&app, who, &name).await?;
    Ok(Json::ok(enforcement::enforce(&app, &asker, body.enforced).await?.into()))
}

fn merged(policy: &Policy, patch: &Map<String, Value>) -> Result<Policy, Problem> {
    let mut document = serde_json::to_value(policy).unwrap_or_default();
    let shape = document.clone();
    merge(&mut document, patch);
    check_shape(&shape, &document)?;
    parse_json(document.to_string().as_bytes())
}

/// Serde would take a list for the members of a section, and an empty one for its defaults.
fn check_shape(policy: &Value, patched: &Value) -> Result<(), Problem> {
    let mut members = patched.as_object().into_iter().flatten();
    match members.find(|(name, value)| value.is_array() && policy[name.as_str()].is_object()) {
        None => Ok(()),
        Some((name, _)) => Err(Problem::invalid("invalid_type", Some(name.clone()), "expected an object")),
    }
}

/// RFC 7396 §2.
fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(inner) => merge(target.entry(name).or_insert(Value::Null), inner),
            other => {
                target.insert(name.clone(), other.clone());
            }
        }
    }
}

/// The name by which everybody reaches their own organisation.
const OWN: &str = "self";

/// Turns to the organisation the path names: an owner to any, everybody else to their own only.
async fn named<P: Permit>(app: &SharedApp, who: May<P>, name: &str) -> Result<Asker, Problem> {
    if name == OWN {
        return Ok(who.asker);
    }
    let organisation = organisations::named(app, name).await?;
    let is_owner = matches!(who.asker.call.rank, Rank::Person { role: Role::Owner, .. });
    if is_owner || organisation.id == who.asker.organisation.id {
        return Ok(Asker { organisation: Arc::clone(&organisation), call: who.asker.call });
    }
    // Whether there is such an organisation is not theirs to know.
    Err(crate::error::Error::NotFound("organisation").into())
}
