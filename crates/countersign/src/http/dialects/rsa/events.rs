//! What happened, in the vendor's words: **the table** of which event stands in which log under which code.
//!
//! Where the vendor publishes no code for what we tell apart, the codes from 90000 on are ours.

use super::view;
use countersign_core::{Action, Kind, Method, event::Event};

/// What stands in the log of user events: how people proved who they are. All else is administration.
pub(super) const AUTHENTICATION: [Action; 15] = [
    Action::VerifyAccepted,
    Action::VerifyRejected,
    Action::MethodLocked,
    Action::ChallengeSent,
    Action::FactorActivated,
    Action::FactorActivationRejected,
    Action::EnrolmentCodeAccepted,
    Action::EnrolmentCodeRejected,
    Action::LoginFirstFactor,
    Action::LoginSucceeded,
    Action::LoginRejected,
    Action::PasswordLocked,
    Action::SessionRefreshed,
    Action::SessionRevoked,
    Action::SessionReused,
];

/// Returns what stands in the log of administration.
pub(super) fn administration() -> Vec<Action> {
    Action::ALL.iter().copied().filter(|action| !AUTHENTICATION.contains(action)).collect()
}

/// Returns the code of a user event.
pub(super) fn user_code(event: &Event) -> u32 {
    let is_otp = event.method == Some(Method::Token) || matches!(event.kind, Some(Kind::Totp | Kind::Hotp));
    match (event.action, event.reason.as_deref()) {
        (Action::MethodLocked, _) => 2,
        (Action::VerifyRejected | Action::LoginRejected, Some("user_disabled")) => 32,
        (Action::VerifyRejected, Some("locked")) => 35,
        (Action::VerifyAccepted, _) if is_otp => 103,
        (Action::VerifyRejected, _) if is_otp => 104,
        (Action::VerifyAccepted, _) => 90_001,
        (Action::VerifyRejected, _) => 90_002,
        (Action::ChallengeSent, _) => 90_003,
        (Action::FactorActivated, _) => 90_004,
        (Action::FactorActivationRejected, _) => 90_005,
        (Action::EnrolmentCodeAccepted, _) => 90_006,
        (Action::EnrolmentCodeRejected, _) => 90_007,
        (Action::LoginFirstFactor, _) => 90_010,
        (Action::LoginSucceeded, _) => 90_011,
        (Action::LoginRejected, _) => 90_012,
        (Action::PasswordLocked, _) => 90_013,
        (Action::SessionRefreshed, _) => 90_020,
        (Action::SessionRevoked, _) => 90_021,
        (Action::SessionReused, _) => 90_022,
        _ => 90_000,
    }
}

/// Returns the code of an administration event. The vendor's own for these are not public, so there is one for all; what
/// happened is the key.
pub(super) const ADMINISTRATION_CODE: u32 = 90_000;

/// Returns what happened as a key: `METHOD_UNLOCKED`.
pub(super) fn key(action: Action) -> String {
    action.name().to_ascii_uppercase().replace('.', "_")
}

/// Returns whether it went well.
pub(super) const fn result(action: Action) -> &'static str {
    match action {
        Action::VerifyRejected
        | Action::LoginRejected
        | Action::FactorActivationRejected
        | Action::EnrolmentCodeRejected
        | Action::MethodLocked
        | Action::PasswordLocked
        | Action::SessionReused => "FAIL",
        _ => "SUCCESS",
    }
}

/// Returns the method it is about.
pub(super) fn method(event: &Event) -> Option<&'static str> {
    let by_kind = event.kind.map(view::method);
    by_kind.or_else(|| {
        Some(match event.method? {
            Method::Token => "Authenticate OTP",
            Method::Sms => "SMS OTP",
            Method::Voice => "Voice OTP",
            Method::Email => "Email OTP",
            Method::Webauthn => "FIDO",
            Method::Recovery => "Emergency Access Code",
        })
    })
}

/// Says in words what happened.
pub(super) fn words(event: &Event) -> String {
    let what = event.action.name().replace(['.', '_'], " ");
    match &event.reason {
        Some(reason) => format!("{what}: {}", reason.replace('_', " ")),
        None => what,
    }
}
