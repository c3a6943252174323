//! User Status and Delete User Now.

use super::{body, caller::Admin, view};
use crate::{
    http::{
        SharedApp,
        caller::permit,
        extract::{Json, Raw, Segments},
        problem::Problem,
    },
    service::users,
};
use axum::extract::State;
use countersign_core::{
    UserId,
    user::{Status, UserPatch},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusBody {
    user_status: UserStatus,
}

#[derive(Deserialize)]
enum UserStatus {
    Enabled,
    Disabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusView {
    id: UserId,
    user_status: &'static str,
}

pub(super) async fn set(
    who: Admin<permit::WriteUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    raw: Raw,
) -> Result<Json<StatusView>, Problem> {
    let id = body::user_id(&user)?;
    let body: StatusBody = body::read(&raw)?;
    let wanted = match body.user_status {
        UserStatus::Enabled => Status::Active,
        UserStatus::Disabled => Status::Disabled,
    };
    if users::get(&app, &who.asker, &id.into()).await?.status == wanted {
        let detail = format!("the user is {} already", view::status(wanted));
        return Err(Problem::new(StatusCode::CONFLICT, "wrong_state", detail));
    }
    let patch = UserPatch { status: Some(wanted), ..UserPatch::default() };
    let user = users::update(&app, &who.asker, &id.into(), patch).await?;
    Ok(Json::ok(StatusView { id, user_status: view::status(user.status) }))
}

/// Deletes a user for good. The vendor asks for two steps: disable first.
pub(super) async fn delete(
    who: Admin<permit::WriteUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<StatusCode, Problem> {
    users::delete_disabled(&app, &who.asker, body::user_id(&user)?).await?;
    Ok(StatusCode::OK)
}
