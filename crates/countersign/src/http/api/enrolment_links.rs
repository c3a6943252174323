//! Links and codes by which people set up an authenticator app without being signed in.

use crate::{
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Json, OptionalBody, Segments, handle},
        problem::Problem,
    },
    service::enrolment_links::{self, LinkSent},
};
use axum::extract::State;
use countersign_core::{DeliveryId, FactorId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// What becomes of what the person has.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkBody {
    /// Whether the person's OTP factors, recovery and emergency codes and sessions are gone at once (default `false`).
    #[serde(default)]
    replace: bool,
}

/// A link on its way. The link itself shows nowhere but in the mail.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkView {
    /// The factor it sets up, which waits for its first code.
    #[schema(value_type = uuid::Uuid)]
    factor: FactorId,
    /// The message that carries it, for `/v1/deliveries/{delivery}`.
    #[schema(value_type = uuid::Uuid)]
    delivery: DeliveryId,
    /// Where it goes, as much as may be shown.
    destination: String,
    /// When it lapses.
    expires_at: String,
}

impl From<LinkSent> for LinkView {
    fn from(sent: LinkSent) -> Self {
        Self {
            factor: sent.factor,
            delivery: sent.delivery,
            destination: sent.to.masked(),
            expires_at: sent.expires_at.to_string(),
        }
    }
}

/// How long a code is to live.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodeBody {
    /// 60 to 86400, default 3600.
    expires_in_seconds: Option<u64>,
}

/// A fresh enrolment code, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewCode {
    /// The nine digits; good once.
    code: String,
    /// Where the person types it.
    page: String,
    /// When it lapses.
    expires_at: String,
}

/// Mails a person a link by which they set up an authenticator app, in place of any earlier link or code.
#[utoipa::path(
    post, path = "/v1/users/{user}/enrolment-links", tag = "factors", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    request_body = Option<LinkBody>, responses((status = 201, body = LinkView)),
)]
pub async fn send(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    OptionalBody(body): OptionalBody<LinkBody>,
) -> Result<Json<LinkView>, Problem> {
    let sent = enrolment_links::send(&app, &who.asker, &handle(&user)?, body.replace).await?;
    Ok(Json::created(sent.into()))
}

/// Issues a code for somebody on the phone, in place of any earlier link or code. The answer shows it once.
#[utoipa::path(
    post, path = "/v1/users/{user}/enrolment-code", tag = "factors", security(("token" = ["factors:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    request_body = Option<CodeBody>, responses((status = 201, body = NewCode)),
)]
pub async fn issue_code(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    OptionalBody(body): OptionalBody<CodeBody>,
) -> Result<Json<NewCode>, Problem> {
    let life = body.expires_in_seconds.map(Duration::from_secs);
    let page = enrolment_links::code_page(&app, &who.asker).await?;
    let (code, expires_at) = enrolment_links::issue_code(&app, &who.asker, &handle(&user)?, life).await?;
    Ok(Json::created(NewCode { code: code.expose().clone(), page, expires_at: expires_at.to_string() }))
}
