//! A customer's rules: an organisation's policy, as far as the vendor has words for it.

use super::{members::MfaType, mfa::availables, person::is_named, token::mode};
use crate::{
    app::Asker,
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Json, Raw, Segments, id},
        problem::Problem,
    },
    service::{self, organisations},
};
use axum::extract::State;
use countersign_core::{
    Client, Organisation, Policy, Refusal,
    password::{LONGEST, SHORTEST},
    policy::Requirement,
    refusal::Invalid,
    user::Status,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// How many failures may lock, by the vendor's limits and by ours: one more than two, for a slip of the finger.
const FAILURES: std::ops::RangeInclusive<u64> = 3..=20;

/// A customer's second-factor rules.
#[derive(Deserialize)]
struct MfaBody {
    status: String,
    availables: Vec<String>,
}

/// Returns a customer.
pub(super) async fn get(
    who: May<permit::Administer>,
    Segments(customer): Segments<String>,
) -> Result<Json<Value>, Problem> {
    check_own(&who.asker, &customer)?;
    let organisation = &who.asker.organisation;
    Ok(Json::ok(json!({
        "customerId": organisation.slug,
        "customerName": organisation.name,
        "caseSensitiveLoginEnabled": false,
        "mfa": shown_mfa(&organisation.policy),
        "passwordPolicy": shown_passwords(&organisation.policy),
    })))
}

/// Returns the second-factor rules.
pub(super) async fn mfa(
    who: May<permit::Administer>,
    Segments(customer): Segments<String>,
) -> Result<Json<Value>, Problem> {
    check_own(&who.asker, &customer)?;
    Ok(Json::ok(shown_mfa(&who.asker.organisation.policy)))
}

/// Changes the second-factor rules.
pub(super) async fn set_mfa(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(customer): Segments<String>,
    body: Raw,
) -> Result<Json<Value>, Problem> {
    check_own(&who.asker, &customer)?;
    let body: MfaBody = body.json()?;
    let requirement = requirement(&body.status)?;
    let wanted =
        body.availables.iter().map(|name| MfaType::parse(name)).collect::<Result<Vec<MfaType>, Invalid>>();
    let wanted = wanted.map_err(|_| Invalid::new("availables", "expected AUTHENTICATOR and EMAIL"))?;
    let edit = move |policy: &Policy| Ok(with_mfa(policy, requirement, &wanted)?);
    let policy = organisations::change_policy(&app, &who.asker, edit).await?;
    Ok(Json::ok(shown_mfa(&policy)))
}

/// Returns the rules for passwords and locks.
pub(super) async fn password_policy(
    who: May<permit::Administer>,
    Segments(customer): Segments<String>,
) -> Result<Json<Value>, Problem> {
    check_own(&who.asker, &customer)?;
    Ok(Json::ok(shown_passwords(&who.asker.organisation.policy)))
}

/// Changes how many failures lock; what cannot be kept is refused by name.
pub(super) async fn set_password_policy(
    who: May<permit::Administer>,
    State(app): State<SharedApp>,
    Segments(customer): Segments<String>,
    body: Raw,
) -> Result<Json<Value>, Problem> {
    check_own(&who.asker, &customer)?;
    let members: Map<String, Value> = body.json()?;
    let edit = move |policy: &Policy| with_locks(policy, &members);
    let policy = organisations::change_policy(&app, &who.asker, edit).await?;
    Ok(Json::ok(shown_passwords(&policy)))
}

/// Lists the customer's clients.
pub(super) async fn clients(
    who: May<permit::Administer>,
    Segments(customer): Segments<String>,
) -> Result<Json<Vec<Value>>, Problem> {
    check_own(&who.asker, &customer)?;
    let organisation = &who.asker.organisation;
    Ok(Json::ok(organisation.clients.iter().map(|client| shown_client(client, organisation)).collect()))
}

/// Returns one of the customer's clients.
pub(super) async fn client(
    who: May<permit::Administer>,
    Segments((customer, client)): Segments<(String, String)>,
) -> Result<Json<Value>, Problem> {
    check_own(&who.asker, &customer)?;
    let found = service::clients::get(&who.asker, id(&client, "client_not_found")?)?;
    Ok(Json::ok(shown_client(found, &who.asker.organisation)))
}

/// Shows a client. Every client may use every grant, and its scopes say what it may do with its own token.
fn shown_client(client: &Client, organisation: &Organisation) -> Value {
    let sessions = &organisation.policy.sessions;
    json!({
        "clientId": client.id,
        "clientName": client.name,
        "scope": client.scopes,
        "authorities": [],
        "resourceIds": [],
        "redirectUri": [],
        "authorizedGrantTypes": ["password", "state_token", "refresh_token", "client_credentials"],
        "clientAuthenticationMethods": ["client_secret_post", "client_secret_basic"],
        "accessTokenValidity": sessions.access_seconds,
        "refreshTokenValidity": sessions.refresh_seconds,
        "enabled": client.status == Status::Active,
    })
}

fn check_own(asker: &Asker, customer: &str) -> Result<(), Problem> {
    if is_named(&asker.organisation, customer) {
        return Ok(());
    }
    Err(Problem::forbidden("other_organisation", "this is another customer"))
}

fn shown_mfa(policy: &Policy) -> Value {
    let names: Vec<&str> = availables(policy).into_iter().map(MfaType::name).collect();
    json!({ "status": mode(policy.requirement), "availables": names })
}

fn requirement(status: &str) -> Result<Requirement, Invalid> {
    let all = [Requirement::Off, Requirement::Optional, Requirement::Enforced];
    let found = all.into_iter().find(|one| mode(*one) == status);
    found.ok_or_else(|| Invalid::new("status", "expected DISABLED, ENROLL or ENFORCE"))
}

/// Returns a policy with other second-factor rules. Kinds the vendor does not know stay as they are.
fn with_mfa(policy: &Policy, requirement: Requirement, wanted: &[MfaType]) -> Result<Policy, Invalid> {
    if requirement == Requirement::Off && policy.requirement == Requirement::Enforced {
        return Err(Invalid::new("status", "MFA that is enforced cannot be disabled"));
    }
    if requirement == Requirement::Enforced && !wanted.contains(&MfaType::Email) {
        return Err(Invalid::new("availables", "EMAIL cannot be removed while MFA is enforced"));
    }
    let mut policy = Policy { requirement, ..policy.clone() };
    // Nothing is available where nothing is asked for, so there is nothing to learn from what is left out.
    for one in MfaType::ALL.into_iter().filter(|_| requirement != Requirement::Off) {
        if wanted.contains(&one) {
            policy.kinds.insert(one.kind());
        } else {
            policy.kinds.remove(&one.kind());
        }
    }
    Ok(policy)
}

fn shown_passwords(policy: &Policy) -> Value {
    json!({
        "numberOfFailedLoginAttempts": policy.password_locks.threshold,
        "numberOfFailedMFALoginAttempts": policy.locks.threshold,
        "passwordRules": password_rules(),
    })
}

/// What every password is held to, whatever an organisation says.
fn password_rules() -> Value {
    json!([{ "type": ".LengthPRule", "min": SHORTEST, "max": LONGEST }, { "type": ".UsernamePRule" }])
}

/// Returns a policy with other numbers of failures; one that is left out is the default again.
fn with_locks(policy: &Policy, members: &Map<String, Value>) -> Result<Policy, Refusal> {
    let (logins, codes) = ("numberOfFailedLoginAttempts", "numberOfFailedMFALoginAttempts");
    let default = Policy::default();
    let mut policy = policy.clone();
    policy.password_locks.threshold = failures(members, logins)?.unwrap_or(default.password_locks.threshold);
    policy.locks.threshold = failures(members, codes)?.unwrap_or(default.locks.threshold);
    for (member, value) in members {
        let is_kept = match member.as_str() {
            name if name == logins || name == codes => true,
            "passwordRules" => *value == password_rules(),
            _ => false,
        };
        if !is_kept && !value.is_null() {
            return Err(Invalid::new(member.as_str(), "this cannot be kept here, so it cannot be set").into());
        }
    }
    Ok(policy)
}

fn failures(members: &Map<String, Value>, member: &str) -> Result<Option<u32>, Invalid> {
    let Some(value) = members.get(member).filter(|value| !value.is_null()) else { return Ok(None) };
    let number = value.as_u64().filter(|number| FAILURES.contains(number));
    let number = number.and_then(|number| u32::try_from(number).ok());
    let expected = || Invalid::new(member, format!("expected {} to {}", FAILURES.start(), FAILURES.end()));
    number.map(Some).ok_or_else(expected)
}
