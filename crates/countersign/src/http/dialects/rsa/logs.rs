//! The event logs, oldest first in pages that are counted, and one user's, newest first.

use super::{body, caller::Admin, events, token};
use crate::{
    app::{App, Asker},
    error::Result,
    http::{
        SharedApp,
        caller::permit,
        dialects::{Mounted, renamed},
        extract::Segments,
        problem::Problem,
    },
    service::{audit, users},
    store::{AuditFilter, AuditSpan, Numbered},
};
use axum::{Json, extract::State};
use countersign_core::{
    Action, Actor, OrganisationId, Timestamp, UserId,
    event::{Event, Subject},
    refusal::Invalid,
};
use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

/// The most entries of a page, and how many there are if nothing is said.
const PAGE: u64 = 100;
/// How many pages of a person's trail are looked through for what was asked.
const PATIENCE: usize = 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExportQuery {
    start_time_after: Option<String>,
    end_time_on_or_before: Option<String>,
    page_number: Option<u64>,
    page_size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserQuery {
    event_code: Option<u32>,
    start_time_after: Option<String>,
    end_time_on_or_before: Option<String>,
}

/// A page of a log.
struct Exported {
    entries: Vec<Numbered>,
    names: Names,
    total: u64,
    page: u64,
    size: u64,
}

pub(super) async fn administration(
    who: Admin<permit::ReadAudit>,
    State(app): State<SharedApp>,
    mounted: Mounted,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let exported = export(&app, &who.asker, events::administration(), body::query(&uri)?).await?;
    let entry = |numbered: &Numbered| administration_entry(numbered, &exported.names, &who.asker, &mounted);
    Ok(Json(exported.envelope("elements", exported.entries.iter().map(entry).collect())))
}

pub(super) async fn authentication(
    who: Admin<permit::ReadAudit>,
    State(app): State<SharedApp>,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let exported = export(&app, &who.asker, events::AUTHENTICATION.into(), body::query(&uri)?).await?;
    let entry =
        |numbered: &Numbered| user_entry(numbered.row.into(), &numbered.event, &exported.names, &who.asker);
    Ok(Json(exported.envelope("userEventLogExportEntries", exported.entries.iter().map(entry).collect())))
}

async fn export(
    app: &App,
    asker: &Asker,
    actions: Vec<Action>,
    query: ExportQuery,
) -> Result<Exported, Problem> {
    let size = query.page_size.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&size) {
        return Err(Invalid::new("pageSize", format!("expected 1 to {PAGE}")).into());
    }
    let span = AuditSpan {
        actions,
        after: time("startTimeAfter", query.start_time_after.as_deref())?,
        until: time("endTimeOnOrBefore", query.end_time_on_or_before.as_deref())?,
    };
    let page = query.page_number.unwrap_or(0);
    let limit = usize::try_from(size).expect("a hundred at most");
    let exported = audit::export(app, asker, &span, page.saturating_mul(size), limit).await;
    let (entries, total) = exported.map_err(|error| renamed(error, &[("offset", "pageNumber")]))?;
    let names = Names::of(app, asker, entries.iter().map(|numbered| &numbered.event)).await?;
    Ok(Exported { entries, names, total, page, size })
}

impl Exported {
    /// A page beyond the last one is empty, and no error: a poller in use asks for it to learn that there is no more.
    fn envelope(&self, name: &str, entries: Vec<Value>) -> Value {
        let mut envelope = json!({
            "totalPages": self.total.div_ceil(self.size),
            "totalElements": self.total,
            "pageSize": self.size,
            "currentPage": self.page,
        });
        envelope[name] = entries.into();
        envelope
    }
}

/// Returns a user's last hundred events, newest first.
pub(super) async fn of_user(
    who: Admin<permit::ReadAudit>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let id = body::user_id(&user)?;
    let query: UserQuery = body::query(&uri)?;
    // Both bounds lie between two milliseconds, which is as fine as our times are.
    let next = |at: Timestamp| at.after(Duration::from_millis(1));
    let filter = AuditFilter {
        user: Some(id),
        action: None,
        from: time("startTimeAfter", query.start_time_after.as_deref())?.map(next),
        until: time("endTimeOnOrBefore", query.end_time_on_or_before.as_deref())?.map(next),
    };
    users::get(&app, &who.asker, &id.into()).await?;
    let is_wanted = |event: &Event| {
        events::AUTHENTICATION.contains(&event.action)
            && query.event_code.is_none_or(|code| code == events::user_code(event))
    };
    let newest = newest(&app, &who.asker, &filter, is_wanted).await?;
    let names = Names::of(&app, &who.asker, newest.iter()).await?;
    let entry = |event: &Event| user_entry(event.seq.into(), event, &names, &who.asker);
    Ok(Json(newest.iter().map(entry).collect()))
}

async fn newest(
    app: &App,
    asker: &Asker,
    filter: &AuditFilter,
    is_wanted: impl Fn(&Event) -> bool,
) -> Result<Vec<Event>> {
    let limit = usize::try_from(PAGE).expect("a hundred");
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..PATIENCE {
        let page = audit::list(app, asker, filter, after.as_deref(), limit).await?;
        found.extend(page.items.into_iter().filter(|event| is_wanted(event)));
        after = page.next;
        if found.len() >= limit || after.is_none() {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Reads a time: ISO 8601 with `Z` or an offset. A `+` that was not encoded arrives as a space, and is refused.
fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Invalid> {
    let Some(text) = text else { return Ok(None) };
    let invalid = || Invalid::new(name, "expected a time such as 2026-01-31T00:00:00.000Z, with + as %2B");
    Timestamp::parse(text).map(Some).ok_or_else(invalid)
}

/// The names of the people that events tell of.
struct Names(HashMap<UserId, String>);

impl Names {
    async fn of(app: &App, asker: &Asker, events: impl Iterator<Item = &Event>) -> Result<Self> {
        let mut names = HashMap::new();
        for event in events {
            let subject = if let Subject::User(id) = event.subject { Some(id) } else { None };
            let actor = if let Actor::User(id) = event.actor { Some(id) } else { None };
            for id in subject.into_iter().chain(actor) {
                if let Entry::Vacant(unknown) = names.entry(id) {
                    // Who is gone is still known by the id.
                    let user = app.store.user(asker.organisation.id, id).await?;
                    unknown.insert(user.map_or(id.to_string(), |user| user.username.to_string()));
                }
            }
        }
        Ok(Self(names))
    }

    fn of_actor(&self, actor: Actor, asker: &Asker) -> String {
        match actor {
            Actor::User(id) => self.of_user(id),
            Actor::Client(id) => {
                asker.organisation.client(id).map_or(id.to_string(), |client| client.name.to_string())
            }
            Actor::System => "system".into(),
            Actor::Anonymous => "anonymous".into(),
        }
    }

    fn of_user(&self, id: UserId) -> String {
        self.0.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

fn administration_entry(numbered: &Numbered, names: &Names, asker: &Asker, mounted: &Mounted) -> Value {
    let event = &numbered.event;
    let (id, name, kind) = match event.subject {
        Subject::User(id) => (id.uuid(), names.of_user(id), "User"),
        Subject::Organisation(id) => (id.uuid(), asker.organisation.name.to_string(), "Company"),
    };
    json!({
        "eventId": numbered.row,
        "eventLogDate": event.at.to_string(),
        "eventType": "Administration",
        "serverURL": mounted.base,
        "serverIPAddress": null,
        "application": "Cloud Administration API",
        "customerId": CUSTOMER,
        "customerName": asker.organisation.name.as_str(),
        "sourceIPAddress": event.ip,
        "adminUserName": names.of_actor(event.actor, asker),
        "adminUserRole": role(event.actor, asker),
        "activityKey": events::key(event.action),
        "activityCode": events::ADMINISTRATION_CODE,
        "result": events::result(event.action),
        "reasonKey": event.reason,
        "message": events::words(event),
        "requiresPublish": false,
        "targetObject1Id": id,
        "targetObject1Name": name,
        "targetObject1Type": kind,
        "targetObject2Id": event.factor,
        "targetObject2Name": events::method(event),
        "targetObject2Type": events::method(event).map(|_| "Authenticator"),
    })
}

/// There is one customer, whatever the number.
const CUSTOMER: u32 = 1;

fn role(actor: Actor, asker: &Asker) -> Option<&'static str> {
    match actor {
        Actor::Client(id) => asker.organisation.client(id).map(token::role),
        _ => None,
    }
}

fn user_entry(id: Value, event: &Event, names: &Names, asker: &Asker) -> Value {
    let user = if let Subject::User(id) = event.subject { names.of_user(id) } else { String::new() };
    let organisation: OrganisationId = asker.organisation.id;
    json!({
        "eventId": id,
        "eventLogDate": event.at.to_string(),
        "eventType": "Authentication",
        "eventLevel": if events::result(event.action) == "FAIL" { "ERROR" } else { "INFO" },
        "eventCategory": "Authentication",
        "serverIPAddress": null,
        "tenantId": organisation,
        "customerName": asker.organisation.name.as_str(),
        "userId": user,
        "sourceIPAddress": event.ip,
        "eventCode": events::user_code(event),
        "eventDescription": events::words(event),
        "application": null,
        "method": events::method(event),
        "deviceName": null,
        "deviceId": event.factor,
        "policyId": null,
        "policyName": null,
        "authenticationDetails": event.reason,
        "assuranceLevel": null,
        "verboseFlag": false,
        "userActivityId": event.request_id,
        "transactionId": event.request_id,
    })
}
