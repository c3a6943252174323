//! `/v1/audit`: what happened.

use super::{List, page_size};
use crate::{
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Json, Parameters},
        problem::Problem,
    },
    service::audit,
    store::AuditFilter,
};
use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use countersign_core::{
    Action, Handle, Timestamp,
    event::{Actor, Event, Subject},
    refusal::Invalid,
};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

const NDJSON: &str = "application/x-ndjson";

/// An event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// The place in its subject's chain, from 1.
    seq: u64,
    /// When.
    at: String,
    /// What, such as `verify.accepted`.
    action: &'static str,
    /// The organisation's id.
    #[schema(value_type = uuid::Uuid)]
    organisation: countersign_core::OrganisationId,
    /// Whose chain it stands in: `{"type":"user","id":…}` or an organisation's.
    #[schema(value_type = Object)]
    subject: Subject,
    /// Who did it: a `user`, a `client`, the `system`, or somebody `anonymous`.
    #[schema(value_type = Object)]
    actor: Actor,
    /// The address they asked from.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    /// The request.
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
    /// The factor concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    factor: Option<countersign_core::FactorId>,
    /// The kind of factor concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// The method concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    /// Why something was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    details: Map<String, Value>,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self {
            seq: event.seq,
            at: event.at.to_string(),
            action: event.action.name(),
            organisation: event.organisation,
            subject: event.subject,
            actor: event.actor,
            ip: event.ip.map(|ip| ip.to_string()),
            request_id: event.request_id,
            factor: event.factor,
            kind: event.kind.map(countersign_core::Kind::name),
            method: event.method.map(countersign_core::Method::name),
            reason: event.reason,
            details: event.details,
        }
    }
}

/// Which events.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditListing {
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
    /// Only what concerns this person: id, number or username.
    user: Option<String>,
    /// Only this action.
    action: Option<String>,
    /// Only at or after this time (RFC 3339).
    from: Option<String>,
    /// Only before this time (RFC 3339).
    until: Option<String>,
}

impl AuditListing {
    async fn filter(&self, app: &SharedApp, who: &May<permit::ReadAudit>) -> Result<AuditFilter, Problem> {
        let user = match &self.user {
            Some(user) => Some(app.resolve(who.asker.organisation.id, &Handle::parse("user", user)?).await?),
            None => None,
        };
        let action = match &self.action {
            Some(name) => Some(Action::parse(name).ok_or_else(|| {
                let names: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
                Invalid::new("action", format!("unknown action; expected {}", names.join(", ")))
            })?),
            None => None,
        };
        let (from, until) = (time("from", self.from.as_deref())?, time("until", self.until.as_deref())?);
        Ok(AuditFilter { user, action, from, until })
    }
}

fn time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Invalid> {
    text.map(|text| {
        Timestamp::parse(text)
            .ok_or_else(|| Invalid::new(field, "expected a time such as 2026-11-22T10:00:00Z"))
    })
    .transpose()
}

/// Lists events, newest first; with `Accept: application/x-ndjson` the whole selection, one event a line.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", security(("token" = ["audit:read"])),
    params(AuditListing), responses((status = 200, body = List<EventView>)),
)]
pub async fn list(
    who: May<permit::ReadAudit>,
    State(app): State<SharedApp>,
    Parameters(listing): Parameters<AuditListing>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = listing.filter(&app, &who).await?;
    let wanted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if wanted.split(',').any(|range| range.split(';').next().is_some_and(|kind| kind.trim() == NDJSON)) {
        return export(app, who, filter, listing.after).await;
    }
    let limit = page_size(listing.limit)?;
    let page = audit::list(&app, &who.asker, &filter, listing.after.as_deref(), limit).await?;
    let items: Vec<EventView> = page.items.into_iter().map(EventView::from).collect();
    Ok(Json::ok(List { items, next: page.next }).into_response())
}

/// Streams the selection page by page, so that its length costs no memory.
async fn export(
    app: SharedApp,
    who: May<permit::ReadAudit>,
    filter: AuditFilter,
    after: Option<String>,
) -> Result<Response, Problem> {
    let organisation = who.asker.organisation.id;
    // The first page is read before the answer begins, so that what is wrong with it still gets a status.
    let first = audit::export_page(&app, organisation, &filter, after.as_deref()).await?;
    let pages = stream::unfold(Some((first, app, filter)), move |state| async move {
        let (page, app, filter) = state?;
        let text = lines(page.items);
        let Some(after) = page.next else { return Some((text, None)) };
        match audit::export_page(&app, organisation, &filter, Some(&after)).await {
            Ok(page) => Some((text, Some((page, app, filter)))),
            Err(error) => Some((Err(std::io::Error::other(error.to_string())), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))], Body::from_stream(pages)).into_response())
}

fn lines(events: Vec<Event>) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for event in events {
        serde_json::to_writer(&mut text, &EventView::from(event))?;
        text.push(b'\n');
    }
    Ok(text)
}
