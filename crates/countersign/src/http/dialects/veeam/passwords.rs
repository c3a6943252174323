//! `changePassword`: one's own, and other people's.

use super::{about, body, refused, version::Version};
use crate::{
    http::{
        SharedApp,
        caller::Known,
        extract::{Raw, Segments},
        problem::Problem,
    },
    service::{sign_in, users},
};
use axum::extract::State;
use countersign_core::{Handle, Permission, Secret, user::UserPatch};
use http::StatusCode;
use serde::Deserialize;

/// One's own password, and another.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnBody {
    current_password: String,
    new_password: String,
}

/// Somebody else's new password, and that of who gives it to them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OthersBody {
    new_password: String,
    admins_password: String,
}

/// Changes the caller's own password; their other sessions end.
pub(super) async fn change_own(
    known: Known,
    State(app): State<SharedApp>,
    Segments(version): Segments<String>,
    raw: Raw,
) -> Result<StatusCode, Problem> {
    Version::parse(&version)?;
    let asker = known.themselves()?;
    let (user, session) = known.person().ok_or_else(nobody)?;
    let body: OwnBody = body(&raw)?;
    let current = Secret::new(body.current_password);
    let is_right = sign_in::change_password(&app, &asker, user.id, session, current, body.new_password);
    if is_right.await.map_err(in_field)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(refused("currentPassword", "the password is not right"))
    }
}

/// Gives somebody else another password; their sessions end.
pub(super) async fn change(
    known: Known,
    State(app): State<SharedApp>,
    Segments((version, id)): Segments<(String, String)>,
    raw: Raw,
) -> Result<StatusCode, Problem> {
    Version::parse(&version)?;
    let asker = known.asker(Permission::WriteUsers)?;
    let (_, user) = about(&app, &known, Permission::WriteUsers, &id).await?;
    let body: OthersBody = body(&raw)?;
    let not_right = || refused("adminsPassword", "the password is not right");
    // A client has no password, so there is none it could give.
    let (caller, _) = known.person().ok_or_else(not_right)?;
    let themselves = known.themselves()?;
    let confirmed =
        sign_in::confirm_password(&app, &themselves, caller.id, Secret::new(body.admins_password));
    if !confirmed.await? {
        return Err(not_right());
    }
    let new = ("newPassword", body.new_password.as_str());
    users::update_with_password(&app, &asker, &Handle::Id(user.id), UserPatch::default(), new).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn nobody() -> Problem {
    Problem::forbidden("people_only", "this is for signed-in people, not for service clients")
}

/// The use case names the member as the native API does.
fn in_field(error: crate::error::Error) -> Problem {
    let problem = Problem::from(error);
    match problem.field() {
        Some("new") => refused("newPassword", problem.detail().to_owned()),
        _ => problem,
    }
}
