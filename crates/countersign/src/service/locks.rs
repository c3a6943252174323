//! Unlocking what too many failures locked.

use crate::{
    app::{App, Asker},
    error::{Error, Result},
};
use countersign_core::{Handle, Method, User, UserId};

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

/// Like [`unlock`], for a caller who is told the true state of each method even if the store fails: what cannot be done
/// together is tried method by method. Returns the person as they are then, and the last failure.
pub async fn unlock_what_can_be(
    app: &App,
    asker: &Asker,
    id: UserId,
    methods: Vec<Method>,
) -> Result<(User, Option<Error>)> {
    let handle = Handle::Id(id);
    match unlock(app, asker, &handle, methods.clone(), false).await {
        Ok(user) => return Ok((user, None)),
        Err(Error::Store(_) | Error::Unreachable(_) | Error::Internal(_) | Error::Busy) => {}
        Err(refused) => return Err(refused),
    }
    let mut failure = None;
    for method in methods {
        failure = unlock(app, asker, &handle, vec![method], false).await.err().or(failure);
    }
    Ok((app.user(asker.organisation.id, &handle).await?, failure))
}
