//! Checking codes.

use super::short_codes;
use crate::{
    app::{App, Asker},
    error::Result,
};
use countersign_core::{Attempt, Handle, UserId, Verdict};

/// Checks a code somebody typed, and says whose it was meant to be.
pub async fn verify(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    attempt: Attempt,
) -> Result<(UserId, Verdict)> {
    let (user, verdict) = short_codes::attempt(app, asker, handle, attempt, |attempt| {
        app.change(asker, handle, move |user, with| {
            Ok((user.id, user.verify(&attempt, with.policy, with.keys, with.call)?))
        })
    })
    .await?;
    app.metrics.verdict(&verdict);
    Ok((user, verdict))
}
