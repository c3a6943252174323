//! Authenticators: apps and tokens that show codes. What codes are sent to is no authenticator to the vendor.

use super::{body, caller::Admin};
use crate::{
    error::Error,
    http::{SharedApp, caller::permit, extract::Segments, problem::Problem},
    service::{factors, users},
};
use axum::{Json, extract::State};
use countersign_core::{Factor, FactorId, Kind, User, UserId};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    id: FactorId,
    name: String,
    user_id: UserId,
    device_type: &'static str,
    registered_date: String,
    capabilities: [&'static str; 1],
    browser: bool,
    status: &'static str,
    updated_at: String,
}

/// Lists the devices. There are no browsers among them, so `includeBrowsers` makes no difference.
pub(super) async fn list_v1(
    who: Admin<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<Json<Value>, Problem> {
    let user = users::get(&app, &who.asker, &body::user_id(&user)?.into()).await?;
    Ok(Json(json!({ "devices": devices(&user) })))
}

pub(super) async fn list_v2(
    who: Admin<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<Json<Value>, Problem> {
    let user = users::get(&app, &who.asker, &body::user_id(&user)?.into()).await?;
    Ok(Json(json!({ "devices": devices(&user), "fidoTokens": [], "sidTokens": [] })))
}

pub(super) async fn delete(
    who: Admin<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments((user, device)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    let id = body::user_id(&user)?;
    let device = body::uuid(&device).map(FactorId::from_uuid).ok_or(Error::NotFound("factor"))?;
    let user = users::get(&app, &who.asker, &id.into()).await?;
    if !user.factors.iter().any(|factor| factor.id() == device && is_device(factor)) {
        return Err(Error::NotFound("factor").into());
    }
    factors::delete(&app, &who.asker, &id.into(), device).await?;
    Ok(StatusCode::OK)
}

/// Tells whether a factor is listed: one that waits for its first code is not registered yet.
pub(super) fn is_device(factor: &Factor) -> bool {
    matches!(factor.kind(), Kind::Totp | Kind::Hotp) && !matches!(factor, Factor::Pending(_))
}

fn devices(user: &User) -> Vec<Device> {
    user.factors.iter().filter(|factor| is_device(factor)).map(|factor| device(user, factor)).collect()
}

fn device(user: &User, factor: &Factor) -> Device {
    let (registered, updated) = match factor {
        Factor::Active(held) => (held.created_at, held.state.activated_at),
        Factor::Disabled(held) => (held.created_at, held.state.disabled_at),
        Factor::Pending(held) => (held.created_at, held.created_at),
    };
    Device {
        id: factor.id(),
        name: factor.label().to_string(),
        user_id: user.id,
        device_type: if factor.kind() == Kind::Totp { "Authenticator App" } else { "OTP Token" },
        registered_date: registered.to_string(),
        capabilities: ["OTP"],
        browser: false,
        status: if matches!(factor, Factor::Active(_)) { "Enabled" } else { "Disabled" },
        updated_at: updated.to_string(),
    }
}
