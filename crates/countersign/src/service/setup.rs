//! The beginning of an installation: its first organisation, its owner and a client.

use crate::{
    app::{App, Asker},
    error::Result,
};
use countersign_core::{
    Call, Client, Role, Scope, Secret, User,
    client::ClientSecret,
    factor::scratch::ScratchCode,
    profile::{DisplayName, Username},
    role::Roles,
    user::NewUser,
};
use std::sync::Arc;

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

/// Makes the first organisation, owner and client; `None` if there is an organisation already.
pub async fn initialise(app: &App) -> Result<Option<FirstCredentials>> {
    if !app.store.organisations(None, 1).await?.items.is_empty() {
        return Ok(None);
    }
    let call = Call::system(app.clock.now());
    let slug = Username::parse("slug", "main")?;
    let name = DisplayName::parse("name", "Countersign")?;
    let organisation = super::organisations::create(app, &call, slug, name).await?;
    let asker = Asker { organisation, call };

    let (client, client_secret) = first_client(app, &asker).await?;
    let (admin, admin_password) = first_owner(app, &asker).await?;
    let organisation = Arc::clone(&asker.organisation);
    Ok(Some(FirstCredentials { organisation, admin, admin_password, client, client_secret }))
}

async fn first_owner(app: &App, asker: &Asker) -> Result<(User, Secret<String>)> {
    let new = NewUser {
        username: Username::parse("username", "admin")?,
        display_name: Some(DisplayName::parse("displayName", "Administrator")?),
        email: None,
        phone: None,
        roles: Roles::new([Role::Owner]),
    };
    let admin = super::users::create(app, asker, new).await?;
    // A drawn code makes a good password: 80 bits, easy to read out.
    let password = ScratchCode::generate(&mut rand::rng()).shown();
    let hash = app.passwords.hash(password.clone()).await?;
    app.change(asker, admin.id, move |user, with| user.set_initial_password(hash.clone(), with.call)).await?;
    Ok((admin, password))
}

async fn first_client(app: &App, asker: &Asker) -> Result<(Client, ClientSecret)> {
    let name = DisplayName::parse("name", "First client")?;
    super::clients::create(app, asker, name, Scope::ALL.into_iter().collect()).await
}
