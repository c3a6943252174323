//! People, as the vendor writes them. What means nothing here is kept and shown as it was given.

use super::{
    mfa::{Details, success},
    roles,
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
    service::users::{self, Along},
};
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use countersign_core::{
    Attributes, Handle, Kind, Locale, Organisation, Permission, Secret, Timestamp, User, UserId,
    profile::{DisplayName, Email, Username, matching_key},
    refusal::{Invalid, Refusal},
    role::Roles,
    user::{NewUser, Status, UserPatch},
};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// The attribute in which the members of the vendor's are kept.
const KEPT: &str = "reltio";
/// The most people that are listed; the vendor's lists have no pages.
const LONGEST_LIST: usize = 10_000;
/// The members that are ours to keep.
const OURS: [&str; 11] = [
    "customer",
    "username",
    "email",
    "firstName",
    "lastName",
    "locale",
    "enabled",
    "password",
    "accountNonLocked",
    "accountNonExpired",
    "credentialsNonExpired",
];

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
    let written = objects(&body)?.into_iter().map(|one| Written::read(one, &asker.organisation));
    let mut made = Vec::new();
    // All are read before the first is created.
    for written in written.collect::<Result<Vec<Written>, Problem>>()? {
        let new = written.new_user()?;
        let user = match &written.password {
            Some(password) => users::create_with_password(&app, asker, new, password).await?,
            None => users::create(&app, asker, new).await?,
        };
        made.push(shown(&user, asker));
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

/// Returns the members that mean something to the vendor only.
fn kept(user: &User) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    user.attributes.get(KEPT).and_then(Value::as_object).unwrap_or(&NONE)
}

/// Returns a person's attributes with other members of the vendor's.
fn keeping(user: Option<&User>, members: Map<String, Value>) -> Result<Attributes, Invalid> {
    let mut attributes = user.map(|user| user.attributes.members().clone()).unwrap_or_default();
    attributes.remove(KEPT);
    if !members.is_empty() {
        attributes.insert(KEPT.into(), members.into());
    }
    // Where the limit is met, it is met by what the caller sent.
    Attributes::parse("user", attributes)
}

/// Shows a person.
fn shown(user: &User, asker: &Asker) -> Value {
    let defaults = json!({
        "entity": null, "externalTokens": [], "tenants": [], "groups": [], "externalUser": false, "timezone": "UTC",
        "userPermissions": { "roles": {}, "permissions": {}, "permissionsByService": {} },
    });
    let Value::Object(mut members) = defaults else { return defaults };
    members.extend(kept(user).clone());
    let others = kept(user).get("roles").and_then(Value::as_array).cloned().unwrap_or_default();
    let roles: Vec<Value> = roles::names(&user.roles).map(Value::from).chain(others).collect();
    let locale = user.locale.as_ref().unwrap_or(&asker.organisation.locale);
    let ours = json!({
        "customer": asker.organisation.slug,
        "username": user.username,
        "email": user.email,
        "firstName": user.given_name,
        "lastName": user.family_name,
        "locale": locale.as_str(),
        "enabled": user.status == Status::Active,
        "accountNonExpired": true,
        "credentialsNonExpired": true,
        "accountNonLocked": !user.is_anything_locked(asker.call.now),
        "roles": roles,
    });
    members.extend(ours.as_object().cloned().unwrap_or_default());
    members.into()
}

/// A user as a client wrote them.
struct Written {
    username: Option<Username>,
    email: Option<Option<Email>>,
    given_name: Option<DisplayName>,
    family_name: Option<DisplayName>,
    locale: Option<Locale>,
    status: Option<Status>,
    password: Option<String>,
    non_locked: Option<bool>,
    roles: Vec<String>,
    kept: Map<String, Value>,
}

impl Written {
    fn read(members: Map<String, Value>, organisation: &Organisation) -> Result<Self, Problem> {
        if text(&members, "customer")?.is_some_and(|customer| !is_named(organisation, customer)) {
            return Err(Problem::forbidden("other_organisation", "this is another customer"));
        }
        for promised in ["accountNonExpired", "credentialsNonExpired"] {
            if flag(&members, promised)? == Some(false) {
                return Err(Problem::invalid(
                    "invalid_value",
                    Some(promised.into()),
                    "accounts and passwords do not expire here",
                ));
            }
        }
        let name = |member| parsed(&members, member, DisplayName::parse);
        let mut roles = names(&members, "roles")?;
        roles.extend(tenant_roles(&members));
        let is_kept = |(member, _): &(String, Value)| !OURS.contains(&member.as_str());
        Ok(Self {
            username: parsed(&members, "username", Username::parse)?,
            email: members.get("email").map(|_| parsed(&members, "email", Email::parse)).transpose()?,
            given_name: name("firstName")?,
            family_name: name("lastName")?,
            locale: parsed(&members, "locale", Locale::parse)?,
            status: flag(&members, "enabled")?.map(|on| if on { Status::Active } else { Status::Disabled }),
            password: text(&members, "password")?.map(str::to_owned),
            non_locked: flag(&members, "accountNonLocked")?,
            roles,
            kept: members.into_iter().filter(is_kept).map(without_ours).collect(),
        })
    }

    fn new_user(&self) -> Result<NewUser, Problem> {
        let username = self.username.clone();
        let username = username.ok_or_else(|| {
            Problem::invalid("missing_member", Some("username".into()), "username is required")
        })?;
        if self.status == Some(Status::Disabled) || self.non_locked == Some(false) {
            let detail = "a user is created enabled and unlocked; disable them afterwards";
            return Err(Problem::invalid("invalid_value", Some("enabled".into()), detail));
        }
        Ok(NewUser {
            email: self.email.clone().flatten(),
            given_name: self.given_name.clone(),
            family_name: self.family_name.clone(),
            locale: self.locale.clone(),
            roles: roles::given(&Roles::new([]), &self.roles),
            attributes: keeping(None, self.kept.clone())?,
            ..NewUser::named(username)
        })
    }

    /// Returns what changes of a person. What the vendor's clients always send and this one left out stays.
    fn patch(&self, user: &User, now: Timestamp) -> Result<UserPatch, Refusal> {
        if self.non_locked == Some(false) && !user.is_anything_locked(now) {
            return Err(Invalid::new("accountNonLocked", "an account is locked by wrong codes only").into());
        }
        Ok(UserPatch {
            username: self.username.clone(),
            email: self.email.clone(),
            given_name: Some(self.given_name.clone()),
            family_name: Some(self.family_name.clone()),
            locale: self.locale.clone().map(Some),
            roles: Some(roles::given(&user.roles, &self.roles)),
            status: self.status,
            attributes: Some(keeping(Some(user), self.kept.clone())?),
            ..UserPatch::default()
        })
    }
}

/// Tells whether somebody means this organisation.
pub(super) fn is_named(organisation: &Organisation, customer: &str) -> bool {
    let key = matching_key(customer);
    key == organisation.slug.key()
        || key == organisation.id.to_string()
        || key == matching_key(organisation.name.as_str())
}

/// Leaves out the roles that are kept as ours.
fn without_ours((member, value): (String, Value)) -> (String, Value) {
    match value {
        Value::Array(items) if member == "roles" => {
            let is_theirs = |role: &Value| role.as_str().is_none_or(|role| !roles::is_ours(role));
            (member, items.into_iter().filter(is_theirs).collect())
        }
        value => (member, value),
    }
}

/// Returns the roles that stand in `userPermissions`, each with its tenants.
fn tenant_roles(members: &Map<String, Value>) -> Vec<String> {
    let roles = members.get("userPermissions").and_then(|permissions| permissions.get("roles"));
    roles.and_then(Value::as_object).map(|roles| roles.keys().cloned().collect()).unwrap_or_default()
}

fn names(members: &Map<String, Value>, member: &str) -> Result<Vec<String>, Problem> {
    let expected = || Problem::invalid("invalid_type", Some(member.into()), "expected a list of names");
    let Some(value) = members.get(member).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let items = value.as_array().ok_or_else(expected)?;
    items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(expected)).collect()
}

fn text<'a>(members: &'a Map<String, Value>, member: &str) -> Result<Option<&'a str>, Problem> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::invalid("invalid_type", Some(member.into()), "expected a string")),
    }
}

fn flag(members: &Map<String, Value>, member: &str) -> Result<Option<bool>, Problem> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(on)) => Ok(Some(*on)),
        Some(_) => Err(Problem::invalid("invalid_type", Some(member.into()), "expected true or false")),
    }
}

fn parsed<T>(
    members: &Map<String, Value>,
    member: &str,
    parse: impl Fn(&str, &str) -> Result<T, Invalid>,
) -> Result<Option<T>, Problem> {
    Ok(text(members, member)?.map(|text| parse(member, text)).transpose()?)
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
