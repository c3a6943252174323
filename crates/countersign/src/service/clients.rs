//! Service clients and their secrets.

use super::tokens::Issued;
use crate::{
    app::{App, Asker},
    error::{Error, Result},
};
use countersign_core::{
    Call, Client, ClientId, Organisation, Refusal, Scope, Timestamp, client::ClientSecret,
    organisation::ClientPatch, profile::DisplayName, refusal::Invalid,
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

    let client = change(app, asker, id, move |organisation, call| {
        organisation.add_client(id, name.clone(), scopes.clone(), stored.clone(), call)
    })
    .await?;
    Ok((client, secret))
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
    if overlap > LONGEST_OVERLAP {
        let message = format!("expected 0 to {}", LONGEST_OVERLAP.as_secs());
        return Err(Invalid::new("overlapSeconds", message).into());
    }
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
