//! The beginning of an installation: its first organisation, its owner and a client.

use crate::{
    app::{App, Asker},
    error::{Error, Result},
    store::UserFilter,
};
use countersign_core::{
    Call, Client, Role, Scope, Secret, User, UserId,
    client::ClientSecret,
    factor::scratch::ScratchCode,
    profile::{DisplayName, Username},
    role::Roles,
    user::NewUser,
};
use std::sync::Arc;

/// The slug of the first organisation.
pub const FIRST_SLUG: &str = "main";

/// What the first administrator is told, once.
pub struct FirstCredentials {
    /// The first organisation.
    pub organisation: Arc<countersign_core::Organisation>,
    /// The owner.
    pub admin: User,
    /// The owner's password.
    pub admin_password: Secret<String>,
    /// A client with all scopes.
    pub client: Client,
    /// The client's secret.
    pub client_secret: ClientSecret,
}

/// Makes the first organisation, client and owner; `None` if there are people already.
///
/// The owner comes last, with the password, in one commit: a set-up that was cut short before is taken up again.
pub async fn initialise(app: &App) -> Result<Option<FirstCredentials>> {
    let call = Call::system(app.clock.now());
    let organisation = match super::organisations::first(app).await? {
        None => {
            let slug = Username::parse("slug", FIRST_SLUG)?;
            let name = DisplayName::parse("name", "Countersign")?;
            match super::organisations::create(app, &call, slug, name).await {
                // Another node starts at the same time; it makes the accounts, and tells them.
                Err(Error::Conflict(_)) => return Ok(None),
                created => created?,
            }
        }
        Some(first) if app.store.users(first.id, &UserFilter::All, None, 1).await?.items.is_empty() => first,
        Some(_) => return Ok(None),
    };
    let asker = Asker { organisation, call };

    let (client, client_secret) = first_client(app, &asker).await?;
    let (admin, admin_password) = match first_owner(app, &asker).await {
        // Another node was a moment ahead. Nobody was told of our client.
        Err(Error::Conflict(_)) => {
            super::clients::delete(app, &asker, client.id).await?;
            return Ok(None);
        }
        made => made?,
    };
    let organisation = Arc::clone(&asker.organisation);
    Ok(Some(FirstCredentials { organisation, admin, admin_password, client, client_secret }))
}

async fn first_owner(app: &App, asker: &Asker) -> Result<(User, Secret<String>)> {
    let new = NewUser {
        display_name: Some(DisplayName::parse("displayName", "Administrator")?),
        roles: Roles::new([Role::Owner]),
        ..NewUser::named(Username::parse("username", "admin")?)
    };
    // A drawn code makes a good password: 80 bits, easy to read out.
    let password = ScratchCode::generate(&mut rand::rng()).shown();
    let hash = app.passwords.hash(password.clone()).await?;
    let id = UserId::generate(asker.call.now, &mut rand::rng());
    let admin = app
        .create(asker, move |organisation, call| {
            let mut owner = organisation.admit(id, new.clone(), call)?;
            owner.set_initial_password(hash.clone(), call)?;
            Ok(owner)
        })
        .await?;
    Ok((admin, password))
}

async fn first_client(app: &App, asker: &Asker) -> Result<(Client, ClientSecret)> {
    let name = DisplayName::parse("name", "First client")?;
    super::clients::create(app, asker, name, Scope::ALL.into_iter().collect()).await
}
