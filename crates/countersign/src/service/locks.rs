//! Unlocking what too many failures locked.

use crate::{
    app::{App, Asker},
    error::Result,
};
use countersign_core::{Handle, Method, User};

/// Clears flag and count of methods, and of the password where that is asked for; returns the person as they are then.
pub async fn unlock(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    methods: Vec<Method>,
    password: bool,
) -> Result<User> {
    app.change(asker, handle, move |user, with| {
        user.unlock(&methods, with.call)?;
        if password {
            user.unlock_password(with.call)?;
        }
        Ok(user.clone())
    })
    .await
}
