//! `/api/v1/users`: administrators of the installation, and the second factor of any account.

use super::{
    listing::{Envelope, Listing},
    people::{self, Account},
    roles,
};
use crate::{
    app::Asker,
    error::Error,
    http::{
        SharedApp,
        caller::Known,
        extract::{Json, Parameters, Raw, Segments},
        problem::Problem,
    },
    service::{enrolment_links, locks, users},
    store::UserFilter,
};
use axum::extract::State;
use countersign_core::{
    Method, Permission, Refusal, User, UserId,
    profile::{Email, Username},
    refusal::Invalid,
    role::{Role, Roles},
    user::{NewUser, UserPatch},
};
use http::StatusCode;
use serde::{Deserialize, Deserializer};

/// What is asked for of an account's second factor: at least one member.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MfaBody {
    #[serde(default, deserialize_with = "boolean")]
    mfa_enabled: Option<bool>,
    #[serde(default, deserialize_with = "boolean")]
    generate_new_authenticator_key: Option<bool>,
}

/// What the members amount to.
enum MfaChange {
    SwitchOn,
    SwitchOnWithNewKey,
    SwitchOff,
    NewKey,
    Nothing,
}

impl MfaBody {
    fn change(&self) -> Result<MfaChange, Invalid> {
        match (self.mfa_enabled, self.generate_new_authenticator_key) {
            (Some(true), Some(true)) => Ok(MfaChange::SwitchOnWithNewKey),
            (Some(true), _) => Ok(MfaChange::SwitchOn),
            (Some(false), Some(true)) => {
                Err(Invalid::new("generateNewAuthenticatorKey", "an account without 2FA has no key"))
            }
            (Some(false), _) => Ok(MfaChange::SwitchOff),
            (None, Some(true)) => Ok(MfaChange::NewKey),
            (None, Some(false)) => Ok(MfaChange::Nothing),
            (None, None) => {
                Err(Invalid::new("mfaEnabled", "send this member, generateNewAuthenticatorKey or both"))
            }
        }
    }
}

/// Reads a member that is a boolean if it is there; `null` is none.
pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    bool::deserialize(deserializer).map(Some)
}

/// Switches the second factor of an administrator on or off; has any account set up a new key.
pub(super) async fn change_mfa(
    who: Known,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    body: Raw,
) -> Result<StatusCode, Problem> {
    let (asker, user) = people::find(&app, &who, Permission::WriteFactors, &user).await?;
    let body: MfaBody = json(&body)?;
    let change = body.change()?;
    match change {
        MfaChange::NewKey | MfaChange::Nothing => check_rekeyed_by(&who, &asker, &user)?,
        MfaChange::SwitchOn | MfaChange::SwitchOnWithNewKey | MfaChange::SwitchOff => {
            check_switched_by(&asker, &user)?;
        }
    }
    apply(&app, &asker, user.id, change).await?;
    Ok(StatusCode::OK)
}

async fn apply(app: &SharedApp, asker: &Asker, user: UserId, change: MfaChange) -> Result<(), Problem> {
    let handle = user.into();
    match change {
        MfaChange::SwitchOn => drop(enrolment_links::switch_on(app, asker, &handle).await?),
        MfaChange::SwitchOff => users::switch_off_mfa(app, asker, &handle).await?,
        MfaChange::NewKey => enrolment_links::renew(app, asker, &handle).await?,
        MfaChange::SwitchOnWithNewKey => drop(enrolment_links::send(app, asker, &handle, true).await?),
        MfaChange::Nothing => {}
    }
    Ok(())
}

/// `mfaEnabled` is for SafeShare administrators only: they alone may send it, and for their like.
fn check_switched_by(asker: &Asker, user: &User) -> Result<(), Problem> {
    if !roles::is_by_safeshare_administrator(asker) {
        return Err(denied("mfaEnabled is for SafeShare administrators"));
    }
    if !roles::is_safeshare_administrator(user) {
        return Err(Invalid::new("mfaEnabled", "this account is not a SafeShare administrator's").into());
    }
    Ok(())
}

/// New keys are asked for by administrators of the account's organisation, and for SafeShare administrators by their like.
fn check_rekeyed_by(who: &Known, asker: &Asker, user: &User) -> Result<(), Problem> {
    let is_their_own_organisation = asker.organisation.id == who.organisation().id;
    if is_their_own_organisation || roles::is_safeshare_administrator(user) {
        return Ok(());
    }
    Err(denied("this account's organisation has administrators of its own"))
}

pub(super) fn denied(detail: &'static str) -> Problem {
    Problem::forbidden("role_too_low", detail)
}

/// Reads a body, which has to be a JSON object. The samples of the vendor's latest page are none: they lack the braces.
pub(super) fn json<T: for<'de> Deserialize<'de>>(body: &Raw) -> Result<T, Problem> {
    if !body.bytes.is_empty() {
        body.expect_json()?;
    }
    if body.bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::invalid("malformed_json", None, "send a JSON object"));
    }
    body.json()
}

/// Lists SafeShare administrators.
pub(super) async fn list(
    who: Known,
    State(app): State<SharedApp>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Json<Envelope<Account>>, Problem> {
    who.asker(Permission::Own)?;
    let (filter, sorting) = (listing.filter(UserFilter::EmailContains)?, listing.sorting()?);
    let (offset, limit) = (listing.offset()?, listing.limit()?);
    let owners = users::owners(&app, &filter, sorting, offset, limit).await?;
    Ok(Json::ok(people::page(&app, owners, offset).await?))
}

/// Who is to be a SafeShare administrator, or not to be one any more. The names are those of a new account.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppointBody {
    email: String,
    system_admin: bool,
    first_name: Option<String>,
    last_name: Option<String>,
}

impl AppointBody {
    fn new_owner(&self, email: Email) -> Result<NewUser, Invalid> {
        let username = Username::parse("email", email.as_str())?;
        Ok(NewUser {
            given_name: people::name("firstName", self.first_name.as_deref())?,
            family_name: people::name("lastName", self.last_name.as_deref())?,
            roles: Roles::new([Role::Owner]),
            email: Some(email),
            ..NewUser::named(username)
        })
    }
}

/// Gives somebody else the role of a SafeShare administrator, or takes it; makes an account for a new address.
pub(super) async fn appoint(
    who: Known,
    State(app): State<SharedApp>,
    body: Raw,
) -> Result<StatusCode, Problem> {
    let asker = who.asker(Permission::Own)?;
    let body: AppointBody = json(&body)?;
    let email = Email::parse("email", &body.email)?;
    match users::find_anywhere(&app, asker.organisation.id, &email).await? {
        Some(user) => appoint_known(&app, &who, &user, body.system_admin).await?,
        None if body.system_admin => drop(users::create(&app, &asker, body.new_owner(email)?).await?),
        None => return Err(Error::NotFound("user").into()),
    }
    Ok(StatusCode::OK)
}

async fn appoint_known(app: &SharedApp, who: &Known, user: &User, is_owner: bool) -> Result<(), Problem> {
    let organisation = users::organisation_of(app, user.id).await?;
    let asker = who.asker_in(Permission::Own, &organisation)?;
    if user.is_actor(&asker.call) {
        return Err(Refusal::NotBySelf.into());
    }
    let roles = Some(roles::changed(user, Role::Owner, is_owner));
    users::update(app, &asker, &user.id.into(), UserPatch { roles, ..UserPatch::default() }).await?;
    Ok(())
}

/// Unlocks an account after too many wrong passwords, and its second factors.
pub(super) async fn unlock(
    who: Known,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<StatusCode, Problem> {
    let (asker, user) = people::find(&app, &who, Permission::WriteLocks, &user).await?;
    locks::unlock(&app, &asker, &user.id.into(), Method::ALL.to_vec(), true).await?;
    Ok(StatusCode::OK)
}
