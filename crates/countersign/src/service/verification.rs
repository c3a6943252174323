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
    let user = app.resolve(asker.organisation.id, handle).await?;

    let verdict = app
        .change(asker, user, move |user, with| user.verify(&attempt, with.policy, with.keys, with.call))
        .await?;
    app.metrics.verdict(&verdict);
    Ok((user, verdict))
}
