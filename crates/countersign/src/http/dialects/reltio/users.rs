//! People: listing, creating, overwriting and deleting them, and what an administrator does about their enrolments.

use super::{
    mfa::{Details, success},
    person::{Written, keeping, kept, shown},
};
use crate::{
    app::Asker,
    error::Error,
    http::{
        SharedApp,
        caller::{Known, May, permit},
        extract::{Json, Raw, Segments},
        problem::Problem,
    },
    service::users::{self, Along, Newcomer},
};
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use countersign_core::{Handle, Kind, Permission, Secret, Timestamp, User, UserId, user::UserPatch};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// The most people that are listed; the vendor's lists have no pages.
const LONGEST_LIST: usize = 10_000;

/// Lists the people the caller may read.
pub(super) async fn list(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
) -> Result<Json<Vec<Value>>, Problem> {
    let people = everybody(&app, &who.asker).await?;
    Ok(Json::ok(people.iter().map(|user| shown(user, &who.asker)).collect()))
}

/// Creates people: as many as the list has, one after the other, until one is refused.
pub(super) async fn create(
    who: May<permit::WriteUsers>,
    State(app): State<SharedApp>,
    body: Raw,
) -> Result<Json<Value>, Problem> {
    let asker = &who.asker;
    let read = |one| Written::read(one, &asker.organisation)?.newcomer();
    // All are read before the first is created.
    let newcomers = objects(&body)?.into_iter().map(read).collect::<Result<Vec<Newcomer>, Problem>>()?;
    let mut made = Vec::with_capacity(newcomers.len());
    for newcomer in newcomers {
        made.push(shown(&users::take_in(&app, asker, newcomer).await?, asker));
    }
    Ok(Json::ok(made.into()))
}

/// Returns a person.
pub(super) async fn get(
    known: Known,
    State(app): State<SharedApp>,
    Segments(username): Segments<String>,
) -> Result<Json<Value>, Problem> {
    let (asker, id) = about(&known, &app, &username).await?;
    Ok(Json::ok(shown(&users::get(&app, &asker, &id.into()).await?, &asker)))
}

/// Returns what somebody has enrolled.
pub(super) async fn details(
    known: Known,
    State(app): State<SharedApp>,
    Segments(username): Segments<String>,
) -> Result<Json<Details>, Problem> {
    let (asker, id) = about(&known, &app, &username).await?;
    let user = users::get(&app, &asker, &id.into()).await?;
    Ok(Json::ok(Details::of(&user, &asker.organisation.policy)))
}

/// Overwrites a person; their tokens are revoked unless the caller says otherwise.
pub(super) async fn overwrite(
    who: May<permit::WriteUsers>,
    State(app): State<SharedApp>,
    Segments(username): Segments<String>,
    RawQuery(query): RawQuery,
    body: Raw,
) -> Result<Json<Value>, Problem> {
    let asker = &who.asker;
    let handle = named(&app, asker, &username).await?;
    let written = match <[Map<String, Value>; 1]>::try_from(objects(&body)?) {
        Ok([one]) => Written::read(one, &asker.organisation)?,
        Err(_) => return Err(Problem::invalid("invalid_type", None, "expected one user")),
    };
    let keeps_tokens = query.unwrap_or_default().split('&').any(|pair| pair == "skipTokenRevocation=true");
    let along = Along {
        password: written.password.clone().map(Secret::new),
        unlock: written.non_locked == Some(true),
        sign_out: !keeps_tokens,
    };
    let edit = move |user: &User, now| written.patch(user, now);
    Ok(Json::ok(shown(&users::overwrite(&app, asker, &handle, edit, along).await?, asker)))
}

/// Deletes a person.
pub(super) async fn delete(
    who: May<permit::WriteUsers>,
    State(app): State<SharedApp>,
    Segments(username): Segments<String>,
) -> Result<Response, Problem> {
    users::delete(&app, &who.asker, &named(&app, &who.asker, &username).await?).await?;
    Ok(success())
}

/// Resets somebody's app, so that they enrol anew.
pub(super) async fn reset(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(username): Segments<String>,
) -> Result<Response, Problem> {
    let handle = named(&app, &who.asker, &username).await?;
    users::reset(&app, &who.asker, &handle, Some(Kind::Totp)).await?;
    Ok(success())
}

/// Revokes somebody's tokens.
pub(super) async fn sign_out(
    who: May<permit::WriteFactors>,
    State(app): State<SharedApp>,
    Segments(username): Segments<String>,
) -> Result<Response, Problem> {
    users::sign_out(&app, &who.asker, &named(&app, &who.asker, &username).await?).await?;
    Ok(success())
}

/// Returns the groups of a person.
pub(super) async fn groups(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(username): Segments<String>,
) -> Result<Json<Value>, Problem> {
    let user = users::get(&app, &who.asker, &named(&app, &who.asker, &username).await?).await?;
    Ok(Json::ok(kept(&user).get("groups").cloned().unwrap_or_else(|| json!([]))))
}

/// Gives a person other groups.
pub(super) async fn set_groups(
    who: May<permit::WriteUsers>,
    State(app): State<SharedApp>,
    Segments(username): Segments<String>,
    body: Raw,
) -> Result<Json<Value>, Problem> {
    let handle = named(&app, &who.asker, &username).await?;
    let groups = body_value(&body)?;
    let is_text = groups.as_array().is_some_and(|groups| groups.iter().all(Value::is_string));
    if !is_text {
        return Err(Problem::invalid("invalid_type", None, "expected a list of groups"));
    }
    let answer = groups.clone();
    let edit = move |user: &User, _: Timestamp| {
        let mut members = kept(user).clone();
        members.insert("groups".into(), groups.clone());
        Ok(UserPatch { attributes: Some(keeping(Some(user), members)?), ..UserPatch::default() })
    };
    users::overwrite(&app, &who.asker, &handle, edit, Along::default()).await?;
    Ok(Json::ok(answer))
}

/// Lists the people of a group.
pub(super) async fn of_group(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(group): Segments<String>,
) -> Result<Json<Vec<Value>>, Problem> {
    let people = everybody(&app, &who.asker).await?;
    let members = people.iter().filter(|user| has(user, "groups", &group));
    Ok(Json::ok(members.map(|user| shown(user, &who.asker)).collect()))
}

/// Names the people of a tenant.
pub(super) async fn of_tenant(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(tenant): Segments<String>,
) -> Result<Json<Vec<Value>>, Problem> {
    let people = everybody(&app, &who.asker).await?;
    let members = people.iter().filter(|user| has(user, "tenants", &tenant));
    Ok(Json::ok(members.map(|user| json!({ "username": user.username, "email": user.email })).collect()))
}

fn has(user: &User, list: &str, wanted: &str) -> bool {
    let items = kept(user).get(list).and_then(Value::as_array);
    items.is_some_and(|items| items.iter().any(|item| item == wanted))
}

async fn everybody(app: &SharedApp, asker: &Asker) -> Result<Vec<User>, Problem> {
    users::all(app, asker, LONGEST_LIST).await?.ok_or_else(|| {
        let detail = format!("there are more than {LONGEST_LIST} users; read them one by one");
        Problem::new(StatusCode::BAD_REQUEST, "too_many", detail)
    })
}

/// Returns the person a path names: by username, or else by address.
async fn named(app: &SharedApp, asker: &Asker, username: &str) -> Result<Handle, Problem> {
    let found = users::named(app, asker.organisation.id, username).await?;
    Ok(found.ok_or(Error::NotFound("user"))?.into())
}

/// Returns who a path names and as whom the caller acts on them. Who may know of nobody is told of nobody.
async fn about(known: &Known, app: &SharedApp, username: &str) -> Result<(Asker, UserId), Problem> {
    match users::named(app, known.organisation().id, username).await? {
        Some(id) => Ok((known.towards(Permission::ReadUsers, id)?, id)),
        None => {
            known.asker(Permission::ReadUsers)?;
            Err(Error::NotFound("user").into())
        }
    }
}

fn body_value(body: &Raw) -> Result<Value, Problem> {
    serde_json::from_slice(&body.bytes)
        .map_err(|_| Problem::invalid("malformed_json", None, "the body is not JSON"))
}

/// Reads a list of users; one that stands alone is a list of one.
fn objects(body: &Raw) -> Result<Vec<Map<String, Value>>, Problem> {
    let expected = || Problem::invalid("invalid_type", None, "expected a list of users");
    let items = match body_value(body)? {
        Value::Array(items) => items,
        one => vec![one],
    };
    let object = |item| if let Value::Object(members) = item { Ok(members) } else { Err(expected()) };
    items.into_iter().map(object).collect()
}
