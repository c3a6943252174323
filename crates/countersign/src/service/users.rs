//! People: creating, finding, changing and deleting them.

use super::sign_in;
use crate::{
    app::{App, Asker},
    error::{Error, Result},
    store::{Page, Sorting, UserFilter},
};
use countersign_core::{
    Handle, Kind, Organisation, OrganisationId, Refusal, Secret, Timestamp, User, UserId,
    password::NewPassword,
    profile::{Email, matching_key},
    refusal::Invalid,
    user::{NewUser, UserPatch},
};
use std::sync::Arc;

/// Creates a person.
pub async fn create(app: &App, asker: &Asker, new: NewUser) -> Result<User> {
    let id = UserId::generate(asker.call.now, &mut rand::rng());
    app.create(asker, move |organisation, call| organisation.admit(id, new.clone(), call)).await
}

/// Somebody to be created with a password somebody else chose for them, if any, that is fit to be one.
pub struct Newcomer {
    new: NewUser,
    password: Option<NewPassword>,
}

impl Newcomer {
    /// Takes what describes them.
    pub fn new(new: NewUser, password: Option<&str>) -> Result<Self, Invalid> {
        let fit = |password| NewPassword::parse("password", password, &[new.username.as_str()]);
        let password = password.map(fit).transpose()?;
        Ok(Self { new, password })
    }
}

/// Creates a person with a password somebody else chose for them.
pub async fn create_with_password(app: &App, asker: &Asker, new: NewUser, password: &str) -> Result<User> {
    take_in(app, asker, Newcomer::new(new, Some(password))?).await
}

/// Creates a person, with a password or without.
pub async fn take_in(app: &App, asker: &Asker, Newcomer { new, password }: Newcomer) -> Result<User> {
    let Some(password) = password else { return create(app, asker, new).await };
    let id = UserId::generate(asker.call.now, &mut rand::rng());
    let hash = app.passwords.hash(Secret::new(password.expose().to_owned())).await?;
    app.create(asker, move |organisation, call| {
        let mut user = organisation.admit(id, new.clone(), call)?;
        user.set_initial_password(hash.clone(), call)?;
        Ok(user)
    })
    .await
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

/// Returns owners of the installation after the first `offset` of a list, and how many the whole list has.
pub async fn owners(
    app: &App,
    filter: &UserFilter,
    sorting: Option<Sorting>,
    offset: u64,
    limit: usize,
) -> Result<(Vec<User>, u64)> {
    app.store.owners(filter, sorting, offset, limit).await
}

/// Returns the organisation of a person anywhere in the installation.
pub async fn organisation_of(app: &App, user: UserId) -> Result<Arc<Organisation>> {
    let not_found = || Error::NotFound("user");
    let organisation = app.store.organisation_of_user(user).await?.ok_or_else(not_found)?;
    app.store.organisation(organisation).await?.ok_or_else(not_found)
}

/// Returns the person with an address: in an organisation that comes first, else the only one in all others.
///
/// Addresses are an organisation's own. Were one of several picked, whoever administers an organisation could have what is
/// meant for somebody of another come to an account of theirs.
pub async fn find_anywhere(app: &App, prefer: OrganisationId, email: &Email) -> Result<Option<User>> {
    let found = app.store.find_anywhere(&email.key()).await?;
    let preferred = found.iter().find(|(organisation, _)| *organisation == prefer);
    let (organisation, id) = match (preferred, found.as_slice()) {
        (Some(preferred), _) => preferred,
        (None, []) => return Ok(None),
        (None, [only]) => only,
        (None, _) => return Err(Invalid::new("email", "accounts of several organisations have it").into()),
    };
    app.store.user(*organisation, *id).await
}

/// Changes a person's profile.
pub async fn update(app: &App, asker: &Asker, handle: &Handle, patch: UserPatch) -> Result<User> {
    app.change(asker, handle, move |user, with| {
        user.update(patch.clone(), with.call)?;
        Ok(user.clone())
    })
    .await
}

/// What goes with overwriting a person.
#[derive(Debug, Clone, Default)]
pub struct Along {
    /// Another password.
    pub password: Option<Secret<String>>,
    /// Whether to unlock what is locked.
    pub unlock: bool,
    /// Whether to end their sessions.
    pub sign_out: bool,
}

/// Overwrites a person by what `edit` makes of them, with what goes along, in one change.
pub async fn overwrite(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    edit: impl Fn(&User, Timestamp) -> Result<UserPatch, Refusal> + Send + 'static,
    along: Along,
) -> Result<User> {
    let user = app.user(asker.organisation.id, handle).await?;
    let hash = match &along.password {
        Some(password) => {
            let password = NewPassword::parse("password", password.expose(), &sign_in::own_names(&user))?;
            Some(app.passwords.hash(Secret::new(password.expose().to_owned())).await?)
        }
        None => None,
    };
    app.change(asker, user.id, move |user, with| {
        let patch = edit(user, with.call.now)?;
        user.update(patch, with.call)?;
        if let Some(hash) = &hash {
            user.replace_password(hash.clone(), with.call)?;
        }
        if along.unlock {
            user.unlock_everything(with.call)?;
        }
        if along.sign_out {
            user.sign_out_everywhere(with.call)?;
        }
        Ok(user.clone())
    })
    .await
}

/// Returns the person a username, or else an e-mail address, names.
pub async fn named(app: &App, organisation: OrganisationId, name: &str) -> Result<Option<UserId>> {
    match app.store.find(organisation, &Handle::Username(matching_key(name))).await? {
        None if name.contains('@') => app.store.find(organisation, &Handle::email(name)).await,
        found => Ok(found),
    }
}

/// Returns everybody, by number; `None` if that is more than so many.
pub async fn all(app: &App, asker: &Asker, most: usize) -> Result<Option<Vec<User>>> {
    const PAGE: usize = 200;
    let (_, total) = self::people(app, asker, &UserFilter::All, None, 0, 0).await?;
    if total > most as u64 {
        return Ok(None);
    }
    let mut people = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = list(app, asker, &UserFilter::All, after.as_deref(), PAGE).await?;
        people.extend(page.items);
        match page.next {
            _ if people.len() > most => return Ok(None),
            None => return Ok(Some(people)),
            next => after = next,
        }
    }
}

/// Deletes a person. Their audit trail stays.
pub async fn delete(app: &App, asker: &Asker, handle: &Handle) -> Result<()> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    app.remove(asker, id, |organisation, user, call| organisation.dismiss(user, call)).await
}

/// Changes somebody's profile and gives them another password, which ends their sessions. `field` is what it came in.
pub async fn update_with_password(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    patch: UserPatch,
    (field, password): (&str, &str),
) -> Result<User> {
    let user = app.user(asker.organisation.id, handle).await?;
    let password = NewPassword::parse(field, password, &sign_in::own_names(&user))?;
    let hash = app.passwords.hash(Secret::new(password.expose().to_owned())).await?;
    app.change(asker, user.id, move |user, with| {
        user.update(patch.clone(), with.call)?;
        user.replace_password(hash.clone(), with.call)?;
        Ok(user.clone())
    })
    .await
}

/// Switches a person's second factor off: deletes its secrets and codes, waiting ones too.
pub async fn switch_off_mfa(app: &App, asker: &Asker, handle: &Handle) -> Result<()> {
    app.change(asker, handle, |user, with| user.switch_off_mfa(with.policy, with.call)).await
}

/// Deletes a person who is disabled, and nobody else.
pub async fn delete_disabled(app: &App, asker: &Asker, id: UserId) -> Result<()> {
    app.remove(asker, id, |organisation, user, call| organisation.dismiss_disabled(user, call)).await
}

/// Deletes all of a person's factors, codes, locks and sessions; or the factors of one kind.
pub async fn reset(app: &App, asker: &Asker, handle: &Handle, kind: Option<Kind>) -> Result<User> {
    app.change(asker, handle, move |user, with| {
        match kind {
            None => user.reset(with.policy, with.call)?,
            Some(kind) => user.reset_kind(kind, with.policy, with.call)?,
        }
        Ok(user.clone())
    })
    .await
}

/// Ends all of a person's sessions and open sign-ins.
pub async fn sign_out(app: &App, asker: &Asker, handle: &Handle) -> Result<()> {
    app.change(asker, handle, |user, with| user.sign_out_everywhere(with.call)).await
}
