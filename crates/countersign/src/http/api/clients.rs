//! `/v1/clients`: programs that act for the organisation.

use super::{List, Paging};
use crate::{
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Body, Json, OptionalBody, Parameters, Segments, id},
        problem::Problem,
    },
    service::clients,
};
use axum::extract::State;
use countersign_core::{
    Client, ClientId, PublicKey, Scope, organisation::ClientPatch, profile::DisplayName,
    public_key::StoredKey, refusal::Invalid, user::Status,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, time::Duration};
use utoipa::ToSchema;

/// A service client. Its secrets never show again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientView {
    /// The id.
    #[schema(value_type = uuid::Uuid)]
    id: ClientId,
    /// The name people read.
    name: String,
    /// What it may do.
    scopes: Vec<&'static str>,
    /// `active` or `disabled`.
    status: &'static str,
    /// How many secrets it has: two while one replaces the other.
    secrets: usize,
    /// Its public keys, oldest first.
    public_keys: Vec<KeyView>,
    /// When it was created.
    created_at: String,
}

impl From<&Client> for ClientView {
    fn from(client: &Client) -> Self {
        Self {
            id: client.id,
            name: client.name.to_string(),
            scopes: client.scopes.iter().map(|scope| scope.name()).collect(),
            status: client.status.name(),
            secrets: client.secrets.len(),
            public_keys: client.keys.iter().map(KeyView::from).collect(),
            created_at: client.created_at.to_string(),
        }
    }
}

/// A client's public key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyView {
    /// Its fingerprint (RFC 7638), by which it is removed.
    id: String,
    /// The key (RFC 7517).
    #[schema(value_type = Object)]
    jwk: Value,
    /// When it was added.
    created_at: String,
    /// When it stops being good, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl From<&StoredKey> for KeyView {
    fn from(stored: &StoredKey) -> Self {
        Self {
            id: stored.key.thumbprint(),
            jwk: stored.key.to_jwk(),
            created_at: stored.created_at.to_string(),
            expires_at: stored.expires_at.map(|at| at.to_string()),
        }
    }
}

/// A client just created, with its secret, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewClientView {
    /// The client.
    #[serde(flatten)]
    client: ClientView,
    /// Its secret; left out if it has public keys instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A client to create.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewClientBody {
    /// The name people read.
    name: String,
    /// What it may do: `verify`, `users:read`, `users:write`, `factors:write`, `locks:write`, `audit:read`, `admin`.
    scopes: Vec<String>,
    /// Up to 4 public keys as JWKs: RSA of 2048 to 4096 bits (RS256) or EC on P-256 (ES256). A client that has some gets no
    /// secret: it signs for itself.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    public_keys: Vec<Map<String, Value>>,
}

/// Another public key for a client.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewKeyBody {
    /// The key as a JWK, as in `publicKeys` of a new client.
    #[schema(value_type = Object)]
    public_key: Map<String, Value>,
    /// 0 to 2592000: how long the keys before stay good. Until they are removed, if left out.
    overlap_seconds: Option<u64>,
}

/// What to change of a client.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientPatchBody {
    /// Another name.
    name: Option<String>,
    /// Other scopes. Taking one away ends the tokens it holds.
    scopes: Option<Vec<String>>,
    /// `active` or `disabled`.
    status: Option<String>,
}

/// How long the secret before stays good.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotationBody {
    /// 0 to 2592000, default 86400: a day to change it everywhere.
    overlap_seconds: Option<u64>,
}

/// A client's next secret, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationView {
    /// The secret.
    secret: String,
    /// When the one before stops being good.
    expires_previous: String,
}

/// Lists the organisation's clients.
#[utoipa::path(
    get, path = "/v1/clients", tag = "clients", security(("token" = ["admin"])),
    params(Paging), responses((status = 200, body = List<ClientView>)),
)]
pub async fn list(
    who: May<permit::Administer>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<List<ClientView>>, Problem> {
    paging.check_whole()?;
    Ok(Json::ok(List::whole(who.asker.organisation.clients.iter().map(ClientView::from).collect())))
}

/// Creates a client. The answer shows its secret once, unless it signs for itself.
#[utoipa::path(
    post, path = "/v1/clients", tag = "clients", security(("token" = ["admin"])),
    request_body = NewClientBody, responses((status = 201, body = NewClientView)),
)]
pub async fn create(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Body(body): Body<NewClientBody>,
) -> Result<Json<NewClientView>, Problem> {
    let name = DisplayName::parse("name", &body.name)?;
    let (scopes, keys) = (scopes(&body.scopes)?, public_keys(&body.public_keys)?);
    if !keys.is_empty() {
        let client = clients::create_signing(&app, &who.asker, name, scopes, keys).await?;
        return Ok(Json::created(NewClientView { client: (&client).into(), secret: None }));
    }
    let (client, secret) = clients::create(&app, &who.asker, name, scopes).await?;
    let secret = Some(secret.expose().to_owned());
    Ok(Json::created(NewClientView { client: (&client).into(), secret }))
}

/// Returns a client.
#[utoipa::path(
    get, path = "/v1/clients/{client}", tag = "clients", security(("token" = ["admin"])),
    params(("client" = String, Path, description = "the client's id")),
    responses((status = 200, body = ClientView)),
)]
pub async fn get(
    who: May<permit::Administer>,
    Segments(client): Segments<String>,
) -> Result<Json<ClientView>, Problem> {
    Ok(Json::ok(clients::get(&who.asker, client_id(&client)?)?.into()))
}

/// Renames, enables or disables a client, or gives it other scopes.
#[utoipa::path(
    patch, path = "/v1/clients/{client}", tag = "clients", security(("token" = ["admin"])),
    params(("client" = String, Path, description = "the client's id")),
    request_body = ClientPatchBody, responses((status = 200, body = ClientView)),
)]
pub async fn update(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(client): Segments<String>,
    Body(body): Body<ClientPatchBody>,
) -> Result<Json<ClientView>, Problem> {
    let patch = ClientPatch {
        name: body.name.map(|name| DisplayName::parse("name", &name)).transpose()?,
        scopes: body.scopes.map(|names| scopes(&names)).transpose()?,
        status: body.status.map(|status| Status::parse("status", &status)).transpose()?,
    };
    let client = clients::update(&app, &who.asker, client_id(&client)?, patch).await?;
    Ok(Json::ok((&client).into()))
}

/// Deletes a client.
#[utoipa::path(
    delete, path = "/v1/clients/{client}", tag = "clients", security(("token" = ["admin"])),
    params(("client" = String, Path, description = "the client's id")),
    responses((status = 204)),
)]
pub async fn delete(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(client): Segments<String>,
) -> Result<StatusCode, Problem> {
    clients::delete(&app, &who.asker, client_id(&client)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a client another secret, shown once; the one before stays good for a while.
#[utoipa::path(
    post, path = "/v1/clients/{client}/secret", tag = "clients", security(("token" = ["admin"])),
    params(("client" = String, Path, description = "the client's id")),
    request_body = Option<RotationBody>, responses((status = 201, body = RotationView)),
)]
pub async fn rotate_secret(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(client): Segments<String>,
    OptionalBody(body): OptionalBody<RotationBody>,
) -> Result<Json<RotationView>, Problem> {
    let overlap = Duration::from_secs(body.overlap_seconds.unwrap_or(86_400));
    let (secret, ends) = clients::rotate_secret(&app, &who.asker, client_id(&client)?, overlap).await?;
    Ok(Json::created(RotationView { secret: secret.expose().to_owned(), expires_previous: ends.to_string() }))
}

/// Gives a client another public key.
#[utoipa::path(
    post, path = "/v1/clients/{client}/keys", tag = "clients", security(("token" = ["admin"])),
    params(("client" = String, Path, description = "the client's id")),
    request_body = NewKeyBody, responses((status = 201, body = ClientView)),
)]
pub async fn add_key(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(client): Segments<String>,
    Body(body): Body<NewKeyBody>,
) -> Result<Json<ClientView>, Problem> {
    let key = PublicKey::from_jwk("publicKey", &body.public_key)?;
    let overlap = body.overlap_seconds.map(Duration::from_secs);
    let client = clients::add_key(&app, &who.asker, client_id(&client)?, key, overlap).await?;
    Ok(Json::created((&client).into()))
}

/// Takes a public key from a client; what it signed with it, and the tokens it holds, are refused from now on.
#[utoipa::path(
    delete, path = "/v1/clients/{client}/keys/{key}", tag = "clients", security(("token" = ["admin"])),
    params(
        ("client" = String, Path, description = "the client's id"),
        ("key" = String, Path, description = "the key's id: its fingerprint"),
    ),
    responses((status = 204)),
)]
pub async fn delete_key(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments((client, key)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    clients::remove_key(&app, &who.asker, client_id(&client)?, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn public_keys(jwks: &[Map<String, Value>]) -> Result<Vec<PublicKey>, Invalid> {
    let read = |(place, jwk)| PublicKey::from_jwk(&format!("publicKeys[{place}]"), jwk);
    jwks.iter().enumerate().map(read).collect()
}

fn scopes(names: &[String]) -> Result<BTreeSet<Scope>, Invalid> {
    if names.is_empty() {
        return Err(Invalid::new("scopes", "expected at least one"));
    }
    let parse = |(place, name): (usize, &String)| Scope::parse(&format!("scopes[{place}]"), name);
    names.iter().enumerate().map(parse).collect()
}

fn client_id(segment: &str) -> Result<ClientId, Problem> {
    id(segment, "client_not_found")
}
