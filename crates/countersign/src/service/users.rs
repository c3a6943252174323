//! People: creating, finding, changing and deleting them.

use crate::{
    app::{App, Asker},
    error::Result,
    store::{Page, Sorting, UserFilter},
};
use countersign_core::{
    Handle, User, UserId,
    user::{NewUser, UserPatch},
};

/// Creates a person.
pub async fn create(app: &App, asker: &Asker, new: NewUser) -> Result<User> {
    let id = UserId::generate(asker.call.now, &mut rand::rng());
    app.create(asker, move |organisation, call| organisation.admit(id, new.clone(), call)).await
}

/// Returns a person.
pub async fn get(app: &App, asker: &Asker, handle: &Handle) -> Result<User> {
    app.user(asker.organisation.id, handle).await
}

/// Returns a page of people.
pub async fn list(
    app: &App,
    asker: &Asker,
    filter: &UserFilter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<User>> {
    app.store.users(asker.organisation.id, filter, after, limit).await
}

/// Returns people after the first `offset` of a list, and how many the whole list has.
pub async fn people(
    app: &App,
    asker: &Asker,
    filter: &UserFilter,
    sorting: Option<Sorting>,
    offset: u64,
    limit: usize,
) -> Result<(Vec<User>, u64)> {
    let organisation = asker.organisation.id;
    match sorting {
        None => app.store.people(organisation, filter, offset, limit).await,
        Some(sorting) => app.store.people_sorted(organisation, filter, sorting, offset, limit).await,
    }
}

/// Changes a person's profile.
pub async fn update(app: &App, asker: &Asker, handle: &Handle, patch: UserPatch) -> Result<User> {
    app.change(asker, handle, move |user, with| {
        user.update(patch.clone(), with.call)?;
        Ok(user.clone())
    })
    .await
}

/// Deletes a person. Their audit trail stays.
pub async fn delete(app: &App, asker: &Asker, handle: &Handle) -> Result<()> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    app.remove(asker, id, |organisation, user, call| organisation.dismiss(user, call)).await
}

/// Deletes all of a person's factors, codes, locks and sessions.
pub async fn reset(app: &App, asker: &Asker, handle: &Handle) -> Result<User> {
    app.change(asker, handle, |user, with| {
        user.reset(with.policy, with.call)?;
        Ok(user.clone())
    })
    .await
}
