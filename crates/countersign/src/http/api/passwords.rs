//! Invitations to set a password.

use crate::{
    http::{
        SharedApp,
        caller::{May, WithinSignInLimit, anonymous, permit},
        extract::{Body, Json, Segments, handle},
        problem::Problem,
        request::RequestInfo,
    },
    service::sign_in,
};
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An invitation, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvitationView {
    /// The token for `/v1/invitations/accept`.
    token: String,
    /// When it lapses.
    expires_at: String,
}

/// An invitation being accepted.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptBody {
    /// The invitation's token.
    token: String,
    /// The password: 12 to 128 characters, of any kind; common ones are refused.
    password: String,
}

/// Invites a person to set their password. An earlier invitation lapses.
#[utoipa::path(
    post, path = "/v1/users/{user}/invitation", tag = "passwords", security(("token" = ["users:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 201, body = InvitationView)),
)]
pub async fn invite(
    who: May<permit::WriteUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<Json<InvitationView>, Problem> {
    let (token, expires_at) = sign_in::invite(&app, &who.asker, &handle(&user)?).await?;
    Ok(Json::created(InvitationView { token: token.expose().clone(), expires_at: expires_at.to_string() }))
}

/// Sets the password of the person who holds the invitation.
#[utoipa::path(
    post, path = "/v1/invitations/accept", tag = "passwords", security(()),
    request_body = AcceptBody, responses((status = 204)),
)]
pub async fn accept(
    _: WithinSignInLimit,
    State(app): State<SharedApp>,
    info: RequestInfo,
    Body(body): Body<AcceptBody>,
) -> Result<StatusCode, Problem> {
    sign_in::accept_invitation(&app, anonymous(&info), &body.token, &body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}
