//! Checking codes.

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
    let (user, verdict) = app
        .change(asker, handle, move |user, with| {
            Ok((user.id, user.verify(&attempt, with.policy, with.keys, with.call)?))
        })
        .await?;
    app.metrics.verdict(&verdict);
    Ok((user, verdict))
}
