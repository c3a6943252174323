//! Recovery codes, which people keep, and emergency codes, which administrators issue.

use crate::{
    app::{App, Asker, With},
    error::{Error, Result},
};
use countersign_core::{
    Handle, Secret, User,
    factor::{emergency::EmergencyCode, recovery::RecoveryCodes, scratch::ScratchCode},
};
use std::time::Duration;
use uuid::Uuid;

/// Draws a new set of recovery codes in place of the one before; returns the codes, which are shown once.
pub async fn replace_codes(app: &App, asker: &Asker, handle: &Handle) -> Result<Vec<Secret<String>>> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    let count = asker.organisation.policy.recovery_codes;
    let codes: Vec<ScratchCode> = (0..count).map(|_| ScratchCode::generate(&mut rand::rng())).collect();
    let salt = draw_salt();
    let set = RecoveryCodes::new(&codes, salt, asker.organisation.id, id, app.keys.as_ref(), asker.call.now)?;

    app.change(asker, id, move |user, with| user.replace_recovery_codes(set.clone(), with.policy, with.call))
        .await?;
    Ok(codes.iter().map(ScratchCode::shown).collect())
}

/// Returns a person's set of recovery codes, without the codes.
pub async fn codes(app: &App, asker: &Asker, handle: &Handle) -> Result<Option<RecoveryCodes>> {
    Ok(app.user(asker.organisation.id, handle).await?.recovery)
}

/// Issues an emergency code; returns it, and its text, which is shown once.
pub async fn issue_emergency_code(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    life: Option<Duration>,
) -> Result<(EmergencyCode, Secret<String>)> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    let drawn = ScratchCode::generate(&mut rand::rng());
    let salt = draw_salt();
    let organisation = &asker.organisation;
    let code = EmergencyCode::new(
        &drawn,
        salt,
        life,
        organisation.id,
        id,
        &organisation.policy,
        app.keys.as_ref(),
        asker.call.now,
    )?;
    let issued = code.clone();

    app.change(asker, id, move |user, with| user.issue_emergency_code(code.clone(), with.policy, with.call))
        .await?;
    Ok((issued, drawn.shown()))
}

/// Returns a person's emergency code, without the code.
pub async fn emergency_code(app: &App, asker: &Asker, handle: &Handle) -> Result<EmergencyCode> {
    let user = app.user(asker.organisation.id, handle).await?;
    user.emergency.ok_or(Error::NotFound("emergency code"))
}

/// Withdraws a person's emergency code, if there is one.
pub async fn revoke_emergency_code(app: &App, asker: &Asker, handle: &Handle) -> Result<()> {
    app.change(asker, handle, |user, with| user.revoke_emergency_code(None, with.call)).await.map(drop)
}

/// Withdraws the emergency code with this id, and none that came after it.
pub async fn revoke_this_emergency_code(app: &App, asker: &Asker, handle: &Handle, id: Uuid) -> Result<()> {
    let revoke = move |user: &mut User, with: With<'_>| user.revoke_emergency_code(Some(id), with.call);
    if app.change(asker, handle, revoke).await? { Ok(()) } else { Err(Error::NotFound("emergency code")) }
}

/// Draws the random id that salts a hash.
pub(super) fn draw_salt() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}
