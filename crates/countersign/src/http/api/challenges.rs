//! `/v1/users/{user}/challenges`: codes we send.

use crate::{
    http::{
        SharedApp,
        caller::{May, Myself, permit},
        extract::{Body, Json, Segments, handle, id},
        problem::Problem,
    },
    service::challenges::{self, Sent},
    store::DeliveryState,
};
use axum::extract::State;
use countersign_core::{ChallengeId, FactorId, Kind, Recipient, Timestamp, refusal::Invalid};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A code that was sent.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeView {
    /// The id. Give it with the code when that is checked.
    #[schema(value_type = uuid::Uuid)]
    id: ChallengeId,
    /// `email`, `sms` or `voice`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The factor whose destination it went to.
    #[schema(value_type = uuid::Uuid)]
    factor: FactorId,
    /// What the code is for: `activation`, `verification` or `sign_in`.
    purpose: &'static str,
    /// Where it went, as much as may be shown.
    #[schema(example = "+49•••••••••78")]
    destination: String,
    /// `open`, `used`, or `expired`: too late or after too many wrong codes.
    state: &'static str,
    /// When the newest code was sent.
    sent_at: String,
    /// When it lapses.
    expires_at: String,
    /// The message that carries the newest code, for `/v1/deliveries/{delivery}`.
    #[schema(value_type = uuid::Uuid)]
    delivery: countersign_core::DeliveryId,
    /// How far it got: `queued`, `sent`, `failed`, `expired` or `superseded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_state: Option<&'static str>,
}

impl ChallengeView {
    /// Shows a challenge at a point in time.
    pub fn new(sent: &Sent, now: Timestamp) -> Self {
        let Sent { challenge, to, delivery } = sent;
        Self {
            id: challenge.id,
            kind: to.kind().name(),
            factor: challenge.factor,
            purpose: challenge.purpose.name(),
            destination: to.masked(),
            state: match (challenge.is_used(), challenge.is_open(now)) {
                (true, _) => "used",
                (_, true) => "open",
                _ => "expired",
            },
            sent_at: challenge.sent_at.to_string(),
            expires_at: challenge.expires_at.to_string(),
            delivery: challenge.delivery,
            delivery_state: delivery.map(DeliveryState::name),
        }
    }
}

/// To which factor a code is sent: the first of a type, or one.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewChallengeBody {
    /// `email`, `sms` or `voice`.
    #[serde(rename = "type")]
    #[schema(example = "sms")]
    kind: Option<String>,
    /// The factor's id. One that waits for its first code gets another one.
    factor: Option<String>,
}

impl NewChallengeBody {
    fn recipient(&self) -> Result<Recipient, Invalid> {
        recipient(self.kind.as_deref(), self.factor.as_deref())
    }
}

/// Reads to which factor a code is sent.
pub fn recipient(kind: Option<&str>, factor: Option<&str>) -> Result<Recipient, Invalid> {
    match (kind, factor) {
        (Some(kind), None) => Ok(Recipient::Kind(Kind::parse("type", kind)?)),
        (None, Some(factor)) => {
            let factor = factor.parse().map_err(|_| Invalid::new("factor", "expected a factor's id"))?;
            Ok(Recipient::Factor(factor))
        }
        (Some(_), Some(_)) => Err(Invalid::new("factor", "name a type or a factor, not both")),
        (None, None) => Err(Invalid::new("type", "expected email, sms or voice, or else a factor")),
    }
}

/// Sends a code to one of a person's factors.
#[utoipa::path(
    post, path = "/v1/users/{user}/challenges", tag = "challenges", security(("token" = ["verify"])),
    params(("user" = String, Path, description = "id, number or username")),
    request_body = NewChallengeBody, responses((status = 201, body = ChallengeView)),
)]
pub async fn send(
    who: May<permit::Verify>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    Body(body): Body<NewChallengeBody>,
) -> Result<Json<ChallengeView>, Problem> {
    let sent = challenges::send(&app, &who.asker, &handle(&user)?, body.recipient()?).await?;
    Ok(Json::created(ChallengeView::new(&sent, who.asker.call.now)))
}

/// Returns a challenge.
#[utoipa::path(
    get, path = "/v1/users/{user}/challenges/{challenge}", tag = "challenges", security(("token" = ["verify"])),
    params(("user" = String, Path, description = "id, number or username"), ("challenge" = String, Path, description = "the challenge's id")),
    responses((status = 200, body = ChallengeView)),
)]
pub async fn get(
    who: May<permit::Verify>,
    State(app): State<SharedApp>,
    Segments((user, challenge)): Segments<(String, String)>,
) -> Result<Json<ChallengeView>, Problem> {
    let sent = challenges::get(&app, &who.asker, &handle(&user)?, challenge_id(&challenge)?).await?;
    Ok(Json::ok(ChallengeView::new(&sent, who.asker.call.now)))
}

/// Sends another code for a challenge; the one before is worth nothing any more.
#[utoipa::path(
    post, path = "/v1/users/{user}/challenges/{challenge}/resend", tag = "challenges", security(("token" = ["verify"])),
    params(("user" = String, Path, description = "id, number or username"), ("challenge" = String, Path, description = "the challenge's id")),
    responses((status = 200, body = ChallengeView)),
)]
pub async fn resend(
    who: May<permit::Verify>,
    State(app): State<SharedApp>,
    Segments((user, challenge)): Segments<(String, String)>,
) -> Result<Json<ChallengeView>, Problem> {
    let recipient = Recipient::Challenge(challenge_id(&challenge)?);
    let sent = challenges::send(&app, &who.asker, &handle(&user)?, recipient).await?;
    Ok(Json::ok(ChallengeView::new(&sent, who.asker.call.now)))
}

/// Sends a code to a factor of one's own.
#[utoipa::path(
    post, path = "/v1/me/challenges", tag = "me", security(("token" = ["self"])),
    request_body = NewChallengeBody, responses((status = 201, body = ChallengeView)),
)]
pub async fn send_mine(
    me: Myself,
    State(app): State<SharedApp>,
    Body(body): Body<NewChallengeBody>,
) -> Result<Json<ChallengeView>, Problem> {
    let sent = challenges::send(&app, &me.asker, &me.handle(), body.recipient()?).await?;
    Ok(Json::created(ChallengeView::new(&sent, me.asker.call.now)))
}

/// Returns a challenge of one's own.
#[utoipa::path(
    get, path = "/v1/me/challenges/{challenge}", tag = "me", security(("token" = ["self"])),
    params(("challenge" = String, Path, description = "the challenge's id")),
    responses((status = 200, body = ChallengeView)),
)]
pub async fn get_mine(
    me: Myself,
    State(app): State<SharedApp>,
    Segments(challenge): Segments<String>,
) -> Result<Json<ChallengeView>, Problem> {
    let sent = challenges::get(&app, &me.asker, &me.handle(), challenge_id(&challenge)?).await?;
    Ok(Json::ok(ChallengeView::new(&sent, me.asker.call.now)))
}

/// Sends another code for a challenge of one's own; the one before is worth nothing any more.
#[utoipa::path(
    post, path = "/v1/me/challenges/{challenge}/resend", tag = "me", security(("token" = ["self"])),
    params(("challenge" = String, Path, description = "the challenge's id")),
    responses((status = 200, body = ChallengeView)),
)]
pub async fn resend_mine(
    me: Myself,
    State(app): State<SharedApp>,
    Segments(challenge): Segments<String>,
) -> Result<Json<ChallengeView>, Problem> {
    let recipient = Recipient::Challenge(challenge_id(&challenge)?);
    let sent = challenges::send(&app, &me.asker, &me.handle(), recipient).await?;
    Ok(Json::ok(ChallengeView::new(&sent, me.asker.call.now)))
}

fn challenge_id(segment: &str) -> Result<ChallengeId, Problem> {
    id(segment, "challenge_not_found")
}
