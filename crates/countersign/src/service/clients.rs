//! Service clients, their secrets and their public keys.

use super::{signatures, tokens::Issued};
use crate::{
    app::{App, Asker},
    error::{Error, Result},
};
use countersign_core::{
    Call, Client, ClientId, Organisation, PublicKey, Refusal, Scope, Timestamp,
    client::{ClientSecret, NewClient},
    organisation::ClientPatch,
    profile::DisplayName,
    refusal::Invalid,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// The longest time two secrets of a client may be good together.
pub const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 86_400);

/// Returns the organisation of the client that knows the secret; `None` if there is no such client or it does not.
pub async fn authenticate(
    app: &App,
    id: ClientId,
    secret: &str,
    now: Timestamp,
) -> Result<Option<Arc<Organisation>>> {
    let Some(organisation) = app.store.organisation_of_client(id).await? else { return Ok(None) };
    let Some(client) = organisation.client(id) else { return Ok(None) };
    let known = client.knows(secret, organisation.id, app.keys.as_ref(), now)?;
    Ok(known.then_some(organisation))
}

/// Issues a client an access token for some of its scopes, all if it names none.
pub fn issue_token(
    app: &App,
    organisation: &Organisation,
    client: &Client,
    wanted: Option<&str>,
    now: Timestamp,
) -> Result<(Issued, BTreeSet<Scope>)> {
    let scopes = match wanted {
        None => client.scopes.clone(),
        Some(text) => Scope::parse_list("scope", text)?,
    };
    if let Some(beyond) = scopes.difference(&client.scopes).next() {
        return Err(Invalid::new("scope", format!("the client does not have the scope {beyond}")).into());
    }
    let life = Duration::from_secs(organisation.policy.sessions.access_seconds);
    let issued = app.tokens.issue_to_client(organisation.id, client.id, &scopes, now, life)?;
    Ok((issued, scopes))
}

/// Creates a client; returns it with its secret, which is shown once.
pub async fn create(
    app: &App,
    asker: &Asker,
    name: DisplayName,
    scopes: BTreeSet<Scope>,
) -> Result<(Client, ClientSecret)> {
    let id = ClientId::generate(asker.call.now, &mut rand::rng());
    let secret = ClientSecret::generate(&mut rand::rng());
    let stored = secret.store(asker.organisation.id, id, app.keys.as_ref(), asker.call.now)?;
    let new = NewClient { name, scopes, secret: Some(stored), keys: Vec::new() };
    Ok((add(app, asker, id, new).await?, secret))
}

/// Creates a client that signs for itself, so that it needs no secret.
pub async fn create_signing(
    app: &App,
    asker: &Asker,
    name: DisplayName,
    scopes: BTreeSet<Scope>,
    keys: Vec<PublicKey>,
) -> Result<Client> {
    for (place, key) in keys.iter().enumerate() {
        signatures::check_key(&format!("publicKeys[{place}]"), key)?;
    }
    let id = ClientId::generate(asker.call.now, &mut rand::rng());
    add(app, asker, id, NewClient { name, scopes, secret: None, keys }).await
}

async fn add(app: &App, asker: &Asker, id: ClientId, new: NewClient) -> Result<Client> {
    change(app, asker, id, move |organisation, call| organisation.add_client(id, new.clone(), call)).await
}

/// Gives a client another public key. With an `overlap` those before stay good for so long; without one, until they are
/// removed.
pub async fn add_key(
    app: &App,
    asker: &Asker,
    id: ClientId,
    key: PublicKey,
    overlap: Option<Duration>,
) -> Result<Client> {
    overlap.map_or(Ok(()), check_overlap)?;
    signatures::check_key("publicKey", &key)?;
    change(app, asker, id, move |organisation, call| {
        organisation.add_client_key(id, key.clone(), overlap, call)
    })
    .await
}

/// Takes a public key, named by its thumbprint, from a client.
pub async fn remove_key(app: &App, asker: &Asker, id: ClientId, thumbprint: String) -> Result<()> {
    app.change_organisation(asker, move |organisation, call| {
        organisation.remove_client_key(id, &thumbprint, call)
    })
    .await
}

/// Renames, enables or disables a client, or gives it other scopes.
pub async fn update(app: &App, asker: &Asker, id: ClientId, patch: ClientPatch) -> Result<Client> {
    change(app, asker, id, move |organisation, call| organisation.update_client(id, patch.clone(), call))
        .await
}

/// Gives a client another secret; the one before stays good for `overlap`.
pub async fn rotate_secret(
    app: &App,
    asker: &Asker,
    id: ClientId,
    overlap: Duration,
) -> Result<(ClientSecret, Timestamp)> {
    check_overlap(overlap)?;
    let secret = ClientSecret::generate(&mut rand::rng());
    let stored = secret.store(asker.organisation.id, id, app.keys.as_ref(), asker.call.now)?;
    change(app, asker, id, move |organisation, call| {
        organisation.rotate_client_secret(id, stored.clone(), overlap, call)
    })
    .await?;
    Ok((secret, asker.call.now.after(overlap)))
}

/// Deletes a client.
pub async fn delete(app: &App, asker: &Asker, id: ClientId) -> Result<()> {
    app.change_organisation(asker, move |organisation, call| organisation.delete_client(id, call)).await
}

fn check_overlap(overlap: Duration) -> Result<(), Invalid> {
    if overlap <= LONGEST_OVERLAP {
        return Ok(());
    }
    Err(Invalid::new("overlapSeconds", format!("expected 0 to {}", LONGEST_OVERLAP.as_secs())))
}

async fn change(
    app: &App,
    asker: &Asker,
    id: ClientId,
    decide: impl Fn(&mut Organisation, &Call) -> Result<(), Refusal> + Send + 'static,
) -> Result<Client> {
    app.change_organisation(asker, move |organisation, call| {
        decide(organisation, call)?;
        organisation.client(id).cloned().ok_or(Refusal::NoSuchClient)
    })
    .await
}

/// Returns a client of the asker's organisation.
pub fn get(asker: &Asker, id: ClientId) -> Result<&Client> {
    asker.organisation.client(id).ok_or(Error::NotFound("client"))
}
