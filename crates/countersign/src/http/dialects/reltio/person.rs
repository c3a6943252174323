//! A person as the vendor writes them. What means nothing here is kept, and shown as it was given.

use super::roles;
use crate::{app::Asker, http::problem::Problem, service::users::Newcomer};
use countersign_core::{
    Attributes, Locale, Organisation, Timestamp, User,
    profile::{DisplayName, Email, Username, matching_key},
    refusal::{Invalid, Refusal},
    role::Roles,
    user::{NewUser, Status, UserPatch},
};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The attribute in which the members of the vendor's are kept.
const KEPT: &str = "reltio";
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

/// Returns the members that mean something to the vendor only.
pub(super) fn kept(user: &User) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    user.attributes.get(KEPT).and_then(Value::as_object).unwrap_or(&NONE)
}

/// Returns a person's attributes with other members of the vendor's.
pub(super) fn keeping(user: Option<&User>, members: Map<String, Value>) -> Result<Attributes, Invalid> {
    let mut attributes = user.map(|user| user.attributes.members().clone()).unwrap_or_default();
    attributes.remove(KEPT);
    if !members.is_empty() {
        attributes.insert(KEPT.into(), members.into());
    }
    // Where the limit is met, it is met by what the caller sent.
    Attributes::parse("user", attributes)
}

/// Shows a person.
pub(super) fn shown(user: &User, asker: &Asker) -> Value {
    let mut members = kept(user).clone();
    for (name, value) in unsaid() {
        members.entry(name).or_insert(value);
    }
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

/// Returns what the vendor shows of somebody of whom nobody said it.
fn unsaid() -> Map<String, Value> {
    let members = json!({
        "entity": null, "externalTokens": [], "tenants": [], "groups": [], "externalUser": false, "timezone": "UTC",
        "userPermissions": { "roles": {}, "permissions": {}, "permissionsByService": {} },
    });
    members.as_object().cloned().unwrap_or_default()
}

/// A user as a client wrote them.
pub(super) struct Written {
    username: Option<Username>,
    email: Option<Option<Email>>,
    given_name: Option<DisplayName>,
    family_name: Option<DisplayName>,
    locale: Option<Locale>,
    status: Option<Status>,
    /// The password somebody chose for them.
    pub(super) password: Option<String>,
    /// Whether they are to be unlocked.
    pub(super) non_locked: Option<bool>,
    roles: Option<Vec<String>>,
    kept: Map<String, Value>,
}

impl Written {
    pub(super) fn read(members: Map<String, Value>, organisation: &Organisation) -> Result<Self, Problem> {
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
            roles: given_roles(&members)?,
            kept: members.into_iter().filter(is_kept).map(without_ours).collect(),
        })
    }

    /// Returns them as somebody to be created.
    pub(super) fn newcomer(&self) -> Result<Newcomer, Problem> {
        Ok(Newcomer::new(self.new_user()?, self.password.as_deref())?)
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
            roles: roles::given(&Roles::new([]), self.roles.as_deref().unwrap_or_default()),
            attributes: keeping(None, self.kept.clone())?,
            ..NewUser::named(username)
        })
    }

    /// Returns what changes of a person. What the vendor's clients always send and this one left out stays.
    pub(super) fn patch(&self, user: &User, now: Timestamp) -> Result<UserPatch, Refusal> {
        if self.non_locked == Some(false) && !user.is_anything_locked(now) {
            return Err(Invalid::new("accountNonLocked", "an account is locked by wrong codes only").into());
        }
        Ok(UserPatch {
            username: self.username.clone(),
            email: self.email.clone(),
            given_name: Some(self.given_name.clone()),
            family_name: Some(self.family_name.clone()),
            locale: self.locale.clone().map(Some),
            roles: self.roles.as_ref().map(|names| roles::given(&user.roles, names)),
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

/// Leaves out the roles that are kept as ours: what was taken from somebody here would come back with the next writing of
/// what was read.
fn without_ours((member, mut value): (String, Value)) -> (String, Value) {
    if member == "userPermissions"
        && let Some(Value::Object(of_tenants)) = value.get_mut("roles")
    {
        of_tenants.retain(|role, _| !roles::is_ours(role));
    }
    match value {
        Value::Array(items) if member == "roles" => {
            let is_theirs = |role: &Value| role.as_str().is_none_or(|role| !roles::is_ours(role));
            (member, items.into_iter().filter(is_theirs).collect())
        }
        value => (member, value),
    }
}

/// Returns the roles that are named, those of single tenants too; `None` if nothing is said of roles.
fn given_roles(members: &Map<String, Value>) -> Result<Option<Vec<String>>, Problem> {
    let of_tenants = members.get("userPermissions").and_then(|permissions| permissions.get("roles"));
    let mut roles = names(members, "roles")?;
    roles.extend(of_tenants.and_then(Value::as_object).into_iter().flatten().map(|(role, _)| role.clone()));
    Ok((members.contains_key("roles") || of_tenants.is_some()).then_some(roles))
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
