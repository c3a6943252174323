//! Short recovery codes: their slow hash runs before the change that tries them, and again if the set changed between.

use crate::{
    app::{App, Asker},
    error::{Error, Result},
};
use countersign_core::{
    Attempt, Code, Handle, Refusal, Secret,
    factor::scratch::{self, Stretched},
};
use uuid::Uuid;

/// How often a slow hash is computed anew when what it is for changes under it.
const STALE_TRIES: usize = 3;

/// Tries an attempt, with its code stretched if the person's recovery codes are short and the attempt covers them.
///
/// One that covers none is tried right away: it pays neither for the hash nor for the read.
pub(super) async fn attempt<T, F>(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    attempt: Attempt,
    mut try_it: impl FnMut(Attempt) -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    if !attempt.target.covers_recovery() {
        return try_it(attempt).await;
    }
    for _ in 0..STALE_TRIES {
        let user = app.user(asker.organisation.id, handle).await?;
        let salt = user.salt_for(&attempt, asker.call.now);
        let stretched = stretch(app, &attempt.code, salt).await?;
        match try_it(Attempt { stretched, ..attempt.clone() }).await {
            Err(Error::Refused(Refusal::Stale)) => {}
            outcome => return outcome,
        }
    }
    Err(Error::Busy)
}

/// Stretches a typed code, if there is a salt to do it with.
pub(super) async fn stretch(app: &App, code: &Code, salt: Option<Uuid>) -> Result<Option<Stretched>> {
    let Some(salt) = salt else { return Ok(None) };
    let typed: Secret<String> = scratch::canonical(code);
    Ok(app.passwords.stretch(vec![typed], salt).await?.pop())
}
