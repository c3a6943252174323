//! Organisations and their policies.

use crate::{
    app::{App, Asker},
    error::{Error, Result},
    store::Page,
};
use countersign_core::{
    Call, Locale, Organisation, OrganisationId, Policy,
    profile::{DisplayName, Username, matching_key},
};
use std::sync::Arc;
use uuid::Uuid;

/// Returns the organisation that an id or slug names.
pub async fn find(app: &App, name: &str) -> Result<Option<Arc<Organisation>>> {
    match Uuid::try_parse(name) {
        Ok(uuid) => app.store.organisation(OrganisationId::from_uuid(uuid)).await,
        Err(_) => app.store.organisation_by_slug(&matching_key(name)).await,
    }
}

/// Returns the first organisation; `None` before the installation was set up.
pub async fn first(app: &App) -> Result<Option<Arc<Organisation>>> {
    Ok(app.store.organisations(None, 1).await?.items.into_iter().next())
}

/// Creates an organisation with the default policy.
pub async fn create(app: &App, call: &Call, slug: Username, name: DisplayName) -> Result<Arc<Organisation>> {
    let id = OrganisationId::generate(call.now, &mut rand::rng());
    app.store.create_organisation(Organisation::new(id, slug, name, call)).await
}

/// Returns a page of all organisations.
pub async fn list(app: &App, after: Option<&str>, limit: usize) -> Result<Page<Arc<Organisation>>> {
    app.store.organisations(after, limit).await
}

/// Changes an organisation's name, or the language of messages to its people.
pub async fn update(
    app: &App,
    asker: &Asker,
    name: Option<DisplayName>,
    locale: Option<Locale>,
) -> Result<Organisation> {
    let call = asker.call.clone();
    app.store
        .change_organisation(asker.organisation.id, move |organisation| {
            organisation.update(name.clone(), locale.clone(), &call);
            Ok(organisation.clone())
        })
        .await
}

/// Replaces an organisation's policy by what `edit` makes of it.
pub async fn change_policy(
    app: &App,
    asker: &Asker,
    edit: impl Fn(&Policy) -> Result<Policy, countersign_core::Refusal> + Send + 'static,
) -> Result<Policy> {
    let call = asker.call.clone();
    app.store
        .change_organisation(asker.organisation.id, move |organisation| {
            let policy = edit(&organisation.policy)?;
            organisation.set_policy(policy, &call)?;
            Ok(organisation.policy.clone())
        })
        .await
}

/// Returns the organisation a caller named, or says that there is none.
pub async fn named(app: &App, name: &str) -> Result<Arc<Organisation>> {
    find(app, name).await?.ok_or(Error::NotFound("organisation"))
}
