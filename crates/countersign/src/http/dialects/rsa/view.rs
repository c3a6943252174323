//! A person as User Details shows them.

use countersign_core::{
    Kind, Method, Organisation, Timestamp, User, UserId,
    factor::{Active, Held},
    user::Status,
};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserView {
    id: UserId,
    email_address: Option<String>,
    first_name: String,
    last_name: String,
    creation_date: String,
    identity_source: String,
    user_status: &'static str,
    mark_deleted: bool,
    high_risk_user: bool,
    mark_deleted_at: Option<String>,
    mark_deleted_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sms_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voice_number: Option<String>,
    is_token_locked: bool,
    is_sms_locked: bool,
    is_voice_locked: bool,
    is_fingerprint_locked: bool,
    is_approve_locked: bool,
    emergency_access_status: &'static str,
    emergency_tokencode_id: Option<String>,
    emergency_tokencode_expiration: Option<String>,
    emergency_tokencode_last_use: Option<String>,
    emergency_tokencode_one_time_use: bool,
    offline_emergency_access_status: &'static str,
    offline_emergency_tokencode_expiration: Option<String>,
    principal_username: String,
    alternate_username: &'static str,
    primary_unique_identifier: UserId,
    secondary_unique_identifier: String,
    last_sync_time: String,
    month_last_authenticated: Option<String>,
    last_successful_authentication_method: Option<&'static str>,
    last_successful_authentication_date: Option<String>,
    identity_source_specific_groups: [(); 0],
    global_groups: [(); 0],
}

impl UserView {
    pub(super) fn of(user: &User, organisation: &Organisation, now: Timestamp) -> Self {
        let is_locked = |method| user.locks.is_locked(method, now).is_some();
        // Left out unless the tenant has the method at all; empty for who has no number.
        let number =
            |kind| organisation.policy.allows(kind).then(|| number_of(user, kind).unwrap_or_default());
        let emergency = user.emergency.as_ref().filter(|code| now < code.expires_at);
        let has_emergency = emergency.is_some_and(|code| code.is_good(now));
        let last = last_use(user);
        let name = |name: &Option<_>| name.as_ref().map(ToString::to_string).unwrap_or_default();
        let has_names = user.given_name.is_some() || user.family_name.is_some();
        Self {
            id: user.id,
            email_address: user.email.as_ref().map(ToString::to_string),
            first_name: name(&user.given_name),
            last_name: name(if has_names { &user.family_name } else { &user.display_name }),
            creation_date: user.created_at.to_string(),
            identity_source: organisation.name.to_string(),
            user_status: status(user.status),
            mark_deleted: false,
            high_risk_user: false,
            mark_deleted_at: None,
            mark_deleted_by: None,
            sms_number: number(Kind::Sms),
            voice_number: number(Kind::Voice),
            is_token_locked: is_locked(Method::Token),
            is_sms_locked: is_locked(Method::Sms),
            is_voice_locked: is_locked(Method::Voice),
            is_fingerprint_locked: false,
            is_approve_locked: false,
            emergency_access_status: if has_emergency { "Enabled" } else { "Disabled" },
            emergency_tokencode_id: emergency.map(|code| code.salt.to_string()),
            emergency_tokencode_expiration: emergency.map(|code| code.expires_at.to_string()),
            emergency_tokencode_last_use: emergency.and_then(|code| code.used_at).map(|at| at.to_string()),
            emergency_tokencode_one_time_use: true,
            offline_emergency_access_status: "Disabled",
            offline_emergency_tokencode_expiration: None,
            principal_username: user.username.to_string(),
            alternate_username: "",
            primary_unique_identifier: user.id,
            secondary_unique_identifier: user.number.to_string(),
            last_sync_time: user.updated_at.to_string(),
            month_last_authenticated: last.map(|(at, _)| at.to_string()[..7].to_owned()),
            last_successful_authentication_method: last.map(|(_, kind)| method(kind)),
            last_successful_authentication_date: last.map(|(at, _)| at.to_string()),
            identity_source_specific_groups: [],
            global_groups: [],
        }
    }
}

/// Returns the status as the vendor names it.
pub(super) const fn status(status: Status) -> &'static str {
    match status {
        Status::Active => "Enabled",
        Status::Disabled => "Disabled",
    }
}

/// Returns where codes of a kind are sent.
pub(super) fn number_of(user: &User, kind: Kind) -> Option<String> {
    let mut destinations = user.active_factors().filter_map(|held| held.proof.destination());
    destinations.find(|to| to.kind() == kind).map(|to| to.full().to_owned())
}

/// Returns a kind as the vendor names the method.
pub(super) const fn method(kind: Kind) -> &'static str {
    match kind {
        Kind::Totp | Kind::Hotp => "Authenticate OTP",
        Kind::Email => "Email OTP",
        Kind::Sms => "SMS OTP",
        Kind::Voice => "Voice OTP",
        Kind::Recovery => "Recovery Code",
        Kind::Emergency => "Emergency Access Code",
    }
}

fn last_use(user: &User) -> Option<(Timestamp, Kind)> {
    let used = |held: &Held<Active>| Some((held.state.last_used_at?, held.proof.kind()));
    user.active_factors().filter_map(used).max_by_key(|(at, _)| *at)
}
