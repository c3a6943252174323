//! Emergency access codes ("emergency tokencodes"). They are always good once and never longer than policy says, and the
//! answer tells where that is less than was asked.

use super::{body, caller::Admin};
use crate::{
    app::{App, Asker},
    error::Error,
    http::{
        SharedApp,
        caller::permit,
        extract::{Json, Raw, Segments},
        problem::Problem,
    },
    service::recovery,
};
use axum::extract::State;
use countersign_core::{Secret, UserId, factor::emergency::EmergencyCode, refusal::Invalid};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const DAY: u64 = 86_400;
const LONGEST: u64 = 7 * DAY;
const SHORTEST: u64 = 60;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnableV1 {
    #[serde(default, deserialize_with = "body::number")]
    expiration_days: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnableV2 {
    #[serde(default, deserialize_with = "body::truth")]
    one_time_use: Option<bool>,
    expiry_unit: Option<Unit>,
    #[serde(default, deserialize_with = "body::number")]
    expiry_value: Option<u64>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Days,
    Hours,
    Minutes,
}

impl Unit {
    const fn seconds(self) -> u64 {
        match self {
            Self::Days => DAY,
            Self::Hours => 3600,
            Self::Minutes => 60,
        }
    }

    /// Returns the largest unit in which a life is a whole number.
    fn of(life: Duration) -> Self {
        let units = [Self::Days, Self::Hours];
        units.into_iter().find(|unit| life.as_secs().is_multiple_of(unit.seconds())).unwrap_or(Self::Minutes)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnabledV1 {
    emergency_tokencode_id: String,
    emergency_tokencode: String,
    expiration_date: String,
    /// Nothing here works offline.
    offline_expiration_date: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnabledV2 {
    #[serde(flatten)]
    code: EnabledV1,
    configurations_used: Configuration,
    one_time_use: bool,
    configurations_locked: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    expiry_value: String,
    expiry_unit: Unit,
    one_time_use: bool,
}

impl EnabledV1 {
    fn new(issued: &EmergencyCode, text: &Secret<String>) -> Self {
        Self {
            emergency_tokencode_id: issued.salt.to_string(),
            emergency_tokencode: text.expose().clone(),
            expiration_date: issued.expires_at.to_string(),
            offline_expiration_date: None,
        }
    }
}

pub(super) async fn enable_v1(
    who: Admin<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    raw: Raw,
) -> Result<Json<EnabledV1>, Problem> {
    let id = body::user_id(&user)?;
    let body: EnableV1 = body::read(&raw)?;
    let days = body.days()?;

    let (issued, text) = issue(&app, &who.asker, id, Some(Duration::from_secs(days * DAY))).await?;
    Ok(Json::ok(EnabledV1::new(&issued, &text)))
}

pub(super) async fn enable_v2(
    who: Admin<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    raw: Raw,
) -> Result<Json<EnabledV2>, Problem> {
    let id = body::user_id(&user)?;
    let body: EnableV2 = body::read_optional(&raw)?;
    let asked = body.life()?;

    let (issued, text) = issue(&app, &who.asker, id, asked).await?;
    let life = issued.issued_at.until(issued.expires_at);
    let unit = Unit::of(life);
    let expiry_value = (life.as_secs() / unit.seconds()).to_string();
    Ok(Json::ok(EnabledV2 {
        code: EnabledV1::new(&issued, &text),
        configurations_used: Configuration { expiry_value, expiry_unit: unit, one_time_use: true },
        one_time_use: true,
        configurations_locked: asked.is_some_and(|asked| asked != life) || body.one_time_use == Some(false),
    }))
}

impl EnableV1 {
    fn days(&self) -> Result<u64, Invalid> {
        let days = self.expiration_days.ok_or_else(|| missing("expirationDays"))?;
        let expected = || Invalid::new("expirationDays", "expected 1 to 7");
        (1..=7).contains(&days).then_some(days).ok_or_else(expected)
    }
}

impl EnableV2 {
    fn life(&self) -> Result<Option<Duration>, Invalid> {
        let seconds = match (self.expiry_value, self.expiry_unit) {
            (None, None) => return Ok(None),
            (Some(value), Some(unit)) => value.saturating_mul(unit.seconds()),
            (Some(_), None) => return Err(missing("expiryUnit")),
            (None, Some(_)) => return Err(missing("expiryValue")),
        };
        if !(SHORTEST..=LONGEST).contains(&seconds) {
            return Err(Invalid::new("expiryValue", "expected 1 minute to 7 days"));
        }
        Ok(Some(Duration::from_secs(seconds)))
    }
}

fn missing(member: &str) -> Invalid {
    Invalid::new(member, "this member is required")
}

async fn issue(
    app: &App,
    asker: &Asker,
    id: UserId,
    asked: Option<Duration>,
) -> Result<(EmergencyCode, Secret<String>), Problem> {
    let life = asked.map(|asked| EmergencyCode::granted_life(asked, &asker.organisation.policy));
    recovery::issue_emergency_code(app, asker, &id.into(), life).await.map_err(body::within_policy)
}

pub(super) async fn disable_one(
    who: Admin<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments((user, code)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    let id = body::user_id(&user)?;
    let code = body::uuid(&code).ok_or(Error::NotFound("emergency code"))?;
    recovery::revoke_this_emergency_code(&app, &who.asker, &id.into(), code).await?;
    Ok(StatusCode::OK)
}

/// The older form, which takes all codes away; there is one at most.
pub(super) async fn disable_all(
    who: Admin<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<StatusCode, Problem> {
    recovery::revoke_emergency_code(&app, &who.asker, &body::user_id(&user)?.into()).await?;
    Ok(StatusCode::OK)
}
