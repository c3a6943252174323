//! Why a rule said no. A wrong code is not here: it is an outcome, so that its count is committed.

use crate::{
    destination::Channel,
    factor::Kind,
    keyring::KeyError,
    lock::{Method, Until},
    role::Role,
};
use std::time::Duration;
use thiserror::Error;

/// An input that breaks a rule of its own type, with the name of the member it came in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// The member's path as the caller wrote it, such as `totp.digits`.
    pub field: String,
    /// What is expected, in lower case and without a full stop.
    pub message: String,
}

impl Invalid {
    /// Makes the report for one member.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A rule's refusal. The document it was asked of is not committed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// An input is malformed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The caller's rank does not reach the target's role.
    #[error("your role may not act on a person with the role {0}")]
    AboveYourRank(Role),
    /// The caller may not give or take this role.
    #[error("your role may not grant or revoke the role {0}")]
    RoleAboveYours(Role),
    /// There is no such factor.
    #[error("no such factor")]
    NoSuchFactor,
    /// The factor is in a state that does not allow this.
    #[error("the factor is {0}, which does not allow this")]
    WrongState(&'static str),
    /// The organisation's policy does not allow this kind.
    #[error("the organisation's policy does not allow {0} factors")]
    KindForbidden(Kind),
    /// The organisation's policy does not allow codes to be sent there.
    #[error("the organisation's policy does not allow {0}")]
    DestinationForbidden(&'static str),
    /// The document has as many of these as it may have.
    #[error("a person has at most {1} {0}")]
    TooMany(&'static str, usize),
    /// Codes of this kind are not sent to anybody.
    #[error("{0} codes are not sent; choose email, sms or voice")]
    NothingIsSent(Kind),
    /// Codes of this factor are sent, so there is no key to scan.
    #[error("the factor's codes are sent; there is no QR code to scan")]
    NoQrCode,
    /// There is no such challenge, or it is not for this.
    #[error("no such challenge")]
    NoSuchChallenge,
    /// The challenge's code was used.
    #[error("the challenge's code was used")]
    ChallengeUsed,
    /// The method is locked.
    #[error("the method {0} is locked")]
    Locked(Method, Until),
    /// As many codes were sent as may be; the next one may be sent after this long.
    #[error("too many codes were sent; try again later")]
    TooSoon(Duration),
    /// Nothing is configured that could send there.
    #[error("no provider is configured that reaches this by {0}")]
    NoProvider(Channel),
    /// Nobody does this for themselves.
    #[error("nobody does this for themselves; ask somebody whose role reaches you")]
    NotBySelf,
    /// The session was opened without a second factor, though the person has one.
    #[error("sign in with your second factor to do this")]
    SecondFactorNeeded,
    /// The same request id was given with a different attempt.
    #[error("this request id was used with another attempt")]
    RequestIdReused,
    /// Only a dead letter whose time has not run out is sent again.
    #[error("the delivery is {0}; only failed ones whose time has not run out are sent again")]
    NotRetriable(&'static str),
    /// The person has an authenticator app already.
    #[error("the person has an active authenticator app or token already")]
    AlreadyEnrolled,
    /// The person is disabled.
    #[error("the person is disabled")]
    UserDisabled,
    /// The person is active, and only disabled ones may be deleted this way.
    #[error("the person is active; disable them first")]
    StillActive,
    /// The invitation, login or session is unknown, used or expired.
    #[error("the token is unknown, used or expired")]
    TokenGone,
    /// What a slow hash was computed against has changed meanwhile; compute it again.
    #[error("the password or the recovery codes changed meanwhile")]
    Stale,
    /// The organisation's policy asks everybody for a second factor.
    #[error("the organisation's policy asks everybody for a second factor; nobody is without")]
    MfaEnforced,
    /// There is no such client.
    #[error("no such client")]
    NoSuchClient,
    /// The client has no such key.
    #[error("no such key")]
    NoSuchKey,
    /// A name that must be unique is taken.
    #[error("{0} is taken")]
    Taken(&'static str),
    /// The last owner cannot be removed, disabled or demoted.
    #[error("the installation needs an owner")]
    LastOwner,
    /// A sealed value did not open, so nothing can be decided.
    #[error(transparent)]
    Key(#[from] KeyError),
}
