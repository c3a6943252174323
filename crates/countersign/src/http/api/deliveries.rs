//! `/v1/deliveries`: messages on their way, and what became of them.

use super::{List, page_size};
use crate::{
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Body, Json, Parameters, Segments, id},
        problem::Problem,
    },
    service::deliveries,
    store::{Delivery, DeliveryFilter, DeliveryState},
};
use axum::extract::State;
use countersign_core::{
    ChallengeId, Channel, DeliveryId, Destination, Handle, Locale, UserId, refusal::Invalid,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A message and what became of it. Never its words, never its whole destination.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryView {
    /// The id.
    #[schema(value_type = uuid::Uuid)]
    id: DeliveryId,
    /// `mail`, `sms` or `voice`.
    channel: &'static str,
    /// `code`, `test` or the name of a notice.
    subject: String,
    /// Where it goes, as much as may be shown.
    #[schema(example = "a•••@e•••.com")]
    destination: String,
    /// `queued`, `sent`, `failed`, `expired` or `superseded`.
    state: &'static str,
    /// The person it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    user: Option<UserId>,
    /// The challenge whose code it carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    challenge: Option<ChallengeId>,
    /// How often somebody began to send it.
    attempts: u32,
    /// How many of these attempts were cut off: each may have reached the person.
    interrupted: u32,
    /// The provider that took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// The provider's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// What the provider said later: `delivered`, `undeliverable` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<String>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// When it was posted.
    created_at: String,
    /// When it must not be sent any more.
    expires_at: String,
    /// When it is tried next, if it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
    /// When it came to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_at: Option<String>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            channel: delivery.channel.name(),
            subject: delivery.subject,
            destination: delivery.masked,
            state: delivery.state.name(),
            user: delivery.user,
            challenge: delivery.challenge,
            attempts: delivery.attempts,
            interrupted: delivery.interrupted,
            provider: delivery.provider,
            reference: delivery.reference,
            report: delivery.report,
            reason: delivery.reason,
            created_at: delivery.created_at.to_string(),
            expires_at: delivery.expires_at.to_string(),
            due_at: delivery.due_at.map(|at| at.to_string()),
            settled_at: delivery.settled_at.map(|at| at.to_string()),
        }
    }
}

/// Which deliveries. One filter at a time.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeliveryListing {
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 200, default 50.
    limit: Option<usize>,
    /// For owners: the organisation's id or slug.
    #[expect(
        dead_code,
        reason = "read where the caller is recognised; named here so that it is a known parameter"
    )]
    organisation: Option<String>,
    /// Only those in this state.
    state: Option<String>,
    /// Only those to this person: id, number or username.
    user: Option<String>,
    /// Only those by this channel.
    channel: Option<String>,
    /// Only those with the codes of this challenge.
    challenge: Option<String>,
}

impl DeliveryListing {
    async fn filter(&self, app: &SharedApp, who: &May<permit::ReadUsers>) -> Result<DeliveryFilter, Problem> {
        match (&self.state, &self.user, &self.channel, &self.challenge) {
            (None, None, None, None) => Ok(DeliveryFilter::All),
            (Some(name), None, None, None) => Ok(DeliveryFilter::State(state(name)?)),
            (None, Some(user), None, None) => {
                let handle = Handle::parse("user", user)?;
                Ok(DeliveryFilter::User(app.resolve(who.asker.organisation.id, &handle).await?))
            }
            (None, None, Some(name), None) => Ok(DeliveryFilter::Channel(Channel::parse("channel", name)?)),
            (None, None, None, Some(id)) => {
                let expected = || Invalid::new("challenge", "expected a challenge's id");
                Ok(DeliveryFilter::Challenge(id.parse().map_err(|_| expected())?))
            }
            _ => {
                Err(Invalid::new("state", "give one of state, user, channel and challenge at a time").into())
            }
        }
    }
}

fn state(name: &str) -> Result<DeliveryState, Invalid> {
    DeliveryState::parse(name)
        .ok_or_else(|| Invalid::new("state", "expected queued, sent, failed, expired or superseded"))
}

/// A message that shows whether a channel works.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveryTestBody {
    /// `mail`, `sms` or `voice`.
    #[schema(example = "mail")]
    channel: String,
    /// The address, or the number with its country.
    #[schema(example = "ada@example.com")]
    to: String,
    /// The language, such as `de`; the organisation's if left out.
    locale: Option<String>,
}

/// Lists messages, newest first.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "deliveries", security(("token" = ["users:read"])),
    params(DeliveryListing), responses((status = 200, body = List<DeliveryView>)),
)]
pub async fn list(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Parameters(listing): Parameters<DeliveryListing>,
) -> Result<Json<List<DeliveryView>>, Problem> {
    let filter = listing.filter(&app, &who).await?;
    let limit = page_size(listing.limit)?;
    let page = deliveries::list(&app, &who.asker, &filter, listing.after.as_deref(), limit).await?;
    let items = page.items.into_iter().map(DeliveryView::from).collect();
    Ok(Json::ok(List { items, next: page.next }))
}

/// Returns a message.
#[utoipa::path(
    get, path = "/v1/deliveries/{delivery}", tag = "deliveries", security(("token" = ["users:read"])),
    params(("delivery" = String, Path, description = "the delivery's id")),
    responses((status = 200, body = DeliveryView)),
)]
pub async fn get(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(delivery): Segments<String>,
) -> Result<Json<DeliveryView>, Problem> {
    let delivery = deliveries::get(&app, &who.asker, delivery_id(&delivery)?).await?;
    Ok(Json::ok(delivery.into()))
}

/// Has a message that failed sent again, if its time has not run out.
#[utoipa::path(
    post, path = "/v1/deliveries/{delivery}/retry", tag = "deliveries", security(("token" = ["factors:write"])),
    params(("delivery" = String, Path, description = "the delivery's id")),
    responses((status = 200, body = DeliveryView)),
)]
pub async fn retry(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(delivery): Segments<String>,
) -> Result<Json<DeliveryView>, Problem> {
    let delivery = deliveries::retry(&app, &who.asker, delivery_id(&delivery)?).await?;
    Ok(Json::ok(delivery.into()))
}

/// Sends a message that shows whether a channel works; answers when its outcome is known, after 25 seconds at most.
#[utoipa::path(
    post, path = "/v1/deliveries/test", tag = "deliveries", security(("token" = ["admin"])),
    request_body = DeliveryTestBody, responses((status = 200, body = DeliveryView)),
)]
pub async fn test(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Body(body): Body<DeliveryTestBody>,
) -> Result<Json<DeliveryView>, Problem> {
    let to = Destination::parse(Channel::parse("channel", &body.channel)?, "to", &body.to)?;
    let locale = body.locale.map(|locale| Locale::parse("locale", &locale)).transpose()?;
    let delivery = deliveries::test(&app, &who.asker, to, locale).await?;
    Ok(Json::ok(delivery.into()))
}

fn delivery_id(segment: &str) -> Result<DeliveryId, Problem> {
    id(segment, "delivery_not_found")
}
