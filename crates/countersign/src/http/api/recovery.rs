//! Recovery codes and emergency codes.

use crate::{
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Json, OptionalBody, Segments, handle},
        problem::Problem,
    },
    service::recovery,
};
use axum::extract::State;
use countersign_core::{Secret, Timestamp, factor::recovery::RecoveryCodes};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// What a person has of recovery codes. The codes themselves never show again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryStatus {
    /// Codes in the set.
    total: usize,
    /// Codes not used yet.
    remaining: usize,
    /// When the set was drawn; null if there is none.
    created_at: Option<String>,
}

impl RecoveryStatus {
    /// Shows a set, or that there is none.
    pub fn new(codes: Option<&RecoveryCodes>) -> Self {
        Self {
            total: codes.map_or(0, |set| set.codes.len()),
            remaining: codes.map_or(0, RecoveryCodes::remaining),
            created_at: codes.map(|set| set.created_at.to_string()),
        }
    }
}

/// A fresh set of recovery codes, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewRecoveryCodes {
    /// The codes; each is good once.
    codes: Vec<String>,
    /// When they were drawn.
    created_at: String,
}

impl NewRecoveryCodes {
    /// Shows a fresh set.
    pub fn new(codes: &[Secret<String>], now: Timestamp) -> Self {
        let codes = codes.iter().map(|code| code.expose().clone()).collect();
        Self { codes, created_at: now.to_string() }
    }
}

/// An emergency code, without the code.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmergencyStatus {
    /// When it was issued.
    issued_at: String,
    /// When it lapses.
    expires_at: String,
    /// When it was used.
    used_at: Option<String>,
}

/// How long an emergency code is to live.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmergencyBody {
    /// 60 to the policy's longest, which is the default.
    expires_in_seconds: Option<u64>,
}

/// A fresh emergency code, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewEmergencyCode {
    /// The code; good once.
    code: String,
    /// When it lapses.
    expires_at: String,
}

/// Shows what a person has of recovery codes.
#[utoipa::path(
    get, path = "/v1/users/{user}/recovery-codes", tag = "recovery codes", security(("token" = ["users:read"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 200, body = RecoveryStatus)),
)]
pub async fn status(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<Json<RecoveryStatus>, Problem> {
    let codes = recovery::codes(&app, &who.asker, &handle(&user)?).await?;
    Ok(Json::ok(RecoveryStatus::new(codes.as_ref())))
}

/// Draws a new set of recovery codes in place of the one before. The answer shows them once.
#[utoipa::path(
    post, path = "/v1/users/{user}/recovery-codes", tag = "recovery codes", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 201, body = NewRecoveryCodes)),
)]
pub async fn replace(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<Json<NewRecoveryCodes>, Problem> {
    let codes = recovery::replace_codes(&app, &who.asker, &handle(&user)?).await?;
    Ok(Json::created(NewRecoveryCodes::new(&codes, who.asker.call.now)))
}

/// Shows whether a person has an emergency code.
#[utoipa::path(
    get, path = "/v1/users/{user}/emergency-code", tag = "recovery codes", security(("token" = ["users:read"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 200, body = EmergencyStatus)),
)]
pub async fn emergency_status(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<Json<EmergencyStatus>, Problem> {
    let code = recovery::emergency_code(&app, &who.asker, &handle(&user)?).await?;
    Ok(Json::ok(EmergencyStatus {
        issued_at: code.issued_at.to_string(),
        expires_at: code.expires_at.to_string(),
        used_at: code.used_at.map(|at| at.to_string()),
    }))
}

/// Issues an emergency code in place of any earlier one. The answer shows it once.
#[utoipa::path(
    post, path = "/v1/users/{user}/emergency-code", tag = "recovery codes", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    request_body = Option<EmergencyBody>, responses((status = 201, body = NewEmergencyCode)),
)]
pub async fn issue_emergency(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    OptionalBody(body): OptionalBody<EmergencyBody>,
) -> Result<Json<NewEmergencyCode>, Problem> {
    let life = body.expires_in_seconds.map(Duration::from_secs);
    let (issued, code) = recovery::issue_emergency_code(&app, &who.asker, &handle(&user)?, life).await?;
    let (code, expires_at) = (code.expose().clone(), issued.expires_at.to_string());
    Ok(Json::created(NewEmergencyCode { code, expires_at }))
}

/// Withdraws a person's emergency code.
#[utoipa::path(
    delete, path = "/v1/users/{user}/emergency-code", tag = "recovery codes", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 204)),
)]
pub async fn revoke_emergency(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<StatusCode, Problem> {
    recovery::revoke_emergency_code(&app, &who.asker, &handle(&user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
