//! What a person can prove possession of. Each state of a factor is its own type, so a pending one cannot verify.

pub mod emergency;
pub mod otp;
pub mod recovery;
pub mod scratch;

use crate::{
    destination::{Channel, Destination},
    enrolment_ticket::StoredTicket,
    id::FactorId,
    keyring::Sealed,
    lock::Method,
    profile::Label,
    refusal::{Invalid, Refusal},
    time::Timestamp,
};
use otp::{Hotp, Totp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most factors a person may have, in any state.
pub const FACTOR_LIMIT: usize = 16;
/// The most factors that may wait for their first code; a further one replaces the oldest.
pub const PENDING_LIMIT: usize = 3;
/// Wrong first codes after which a pending factor is dropped.
pub const ACTIVATION_TRIES: u8 = 5;

/// A kind of proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A time-based one-time password (RFC 6238).
    Totp,
    /// A counter-based one-time password (RFC 4226).
    Hotp,
    /// A code sent by e-mail.
    Email,
    /// A code sent by text message.
    Sms,
    /// A code spoken in a telephone call.
    Voice,
    /// One of a set of recovery codes.
    Recovery,
    /// A code issued by an administrator.
    Emergency,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Totp, Self::Hotp, Self::Email, Self::Sms, Self::Voice, Self::Recovery, Self::Emergency];

    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Hotp => "hotp",
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Voice => "voice",
            Self::Recovery => "recovery",
            Self::Emergency => "emergency",
        }
    }

    /// Returns the method its failures are counted under.
    pub const fn method(self) -> Method {
        match self {
            Self::Totp | Self::Hotp => Method::Token,
            Self::Email => Method::Email,
            Self::Sms => Method::Sms,
            Self::Voice => Method::Voice,
            Self::Recovery | Self::Emergency => Method::Recovery,
        }
    }

    /// Returns the channel its codes are sent by; `None` if nothing is sent.
    pub const fn channel(self) -> Option<Channel> {
        match self {
            Self::Email => Some(Channel::Mail),
            Self::Sms => Some(Channel::Sms),
            Self::Voice => Some(Channel::Voice),
            Self::Totp | Self::Hotp | Self::Recovery | Self::Emergency => None,
        }
    }

    /// Returns the authentication method references (RFC 8176 §2) a proof of this kind adds to a token.
    pub const fn amr(self) -> &'static [&'static str] {
        match self {
            Self::Totp | Self::Hotp => &["otp", "mfa"],
            // RFC 8176 has no value for e-mail: another channel than the password's is what there is to say.
            Self::Email => &["otp", "mca", "mfa"],
            Self::Sms => &["otp", "sms", "mca", "mfa"],
            Self::Voice => &["otp", "tel", "mca", "mfa"],
            // Nor for look-up secrets.
            Self::Recovery | Self::Emergency => &["mfa"],
        }
    }

    /// Reads a kind's name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Invalid::new(field, format!("unknown kind of factor; expected {names}"))
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The part of a factor that differs by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// Time-based.
    Totp(Totp),
    /// Counter-based.
    Hotp(Hotp),
    /// A code that is sent, to here.
    Sent(Destination),
}

impl Proof {
    /// Returns the kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Totp(_) => Kind::Totp,
            Self::Hotp(_) => Kind::Hotp,
            Self::Sent(destination) => destination.kind(),
        }
    }

    /// Returns where codes are sent, if they are.
    pub const fn destination(&self) -> Option<&Destination> {
        match self {
            Self::Sent(destination) => Some(destination),
            Self::Totp(_) | Self::Hotp(_) => None,
        }
    }

    /// Returns how many digits its codes have; a code that is sent has as many as all of those.
    pub const fn digits(&self) -> Option<u8> {
        match self {
            Self::Totp(totp) => Some(totp.digits),
            Self::Hotp(hotp) => Some(hotp.digits),
            Self::Sent(_) => None,
        }
    }

    /// Returns the sealed secret that codes are computed from; a code that is sent has none.
    pub const fn secret(&self) -> Option<&Sealed> {
        match self {
            Self::Totp(totp) => Some(&totp.secret),
            Self::Hotp(hotp) => Some(&hotp.secret),
            Self::Sent(_) => None,
        }
    }
}

/// A factor in the state `S`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held<S> {
    /// The factor's id.
    pub id: FactorId,
    /// What its person calls it.
    pub label: Label,
    /// When it was enrolled.
    pub created_at: Timestamp,
    /// What proves possession.
    pub proof: Proof,
    /// What belongs to the state.
    pub state: S,
}

/// Enrolled, waiting for its first code. Cannot verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// When it is dropped.
    pub expires_at: Timestamp,
    /// Wrong first codes so far.
    #[serde(default)]
    pub failures: u8,
    /// The ticket it is activated with, and what it brings; none if it was enrolled without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Box<StoredTicket>>,
}

/// In use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Since when.
    pub activated_at: Timestamp,
    /// When it last proved possession.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// Switched off; keeps its secret and its counters, so it can be switched on again without reviving a used code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// What it was before.
    pub active: Active,
    /// Since when.
    pub disabled_at: Timestamp,
}

impl Held<Pending> {
    /// Turns the factor into an active one.
    pub fn activate(self, now: Timestamp) -> Held<Active> {
        self.with_state(Active { activated_at: now, last_used_at: None })
    }
}

impl Held<Active> {
    /// Turns the factor into a disabled one.
    pub fn disable(self, now: Timestamp) -> Held<Disabled> {
        let active = self.state.clone();
        self.with_state(Disabled { active, disabled_at: now })
    }
}

impl Held<Disabled> {
    /// Turns the factor into an active one again.
    pub fn enable(self) -> Held<Active> {
        let active = self.state.active.clone();
        self.with_state(active)
    }
}

impl<S> Held<S> {
    fn with_state<T>(self, state: T) -> Held<T> {
        Held { id: self.id, label: self.label, created_at: self.created_at, proof: self.proof, state }
    }
}

/// A factor in whatever state it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Factor {
    /// Waiting for its first code.
    Pending(Held<Pending>),
    /// In use.
    Active(Held<Active>),
    /// Switched off.
    Disabled(Held<Disabled>),
}

/// Runs an expression on the [`Held`] inside a factor, whatever its state.
macro_rules! held {
    ($factor:expr, $held:ident => $value:expr) => {
        match $factor {
            Factor::Pending($held) => $value,
            Factor::Active($held) => $value,
            Factor::Disabled($held) => $value,
        }
    };
}

impl Factor {
    /// Returns the id.
    pub fn id(&self) -> FactorId {
        held!(self, held => held.id)
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        held!(self, held => held.proof.kind())
    }

    /// Returns the label.
    pub fn label(&self) -> &Label {
        held!(self, held => &held.label)
    }

    /// Gives the factor another label.
    pub fn rename(&mut self, label: Label) {
        held!(self, held => held.label = label);
    }

    /// Returns what proves possession.
    pub fn proof(&self) -> &Proof {
        held!(self, held => &held.proof)
    }

    /// Returns when it was enrolled.
    pub fn created_at(&self) -> Timestamp {
        held!(self, held => held.created_at)
    }

    /// Returns the state's name.
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Pending(_) => "pending",
            Self::Active(_) => "active",
            Self::Disabled(_) => "disabled",
        }
    }

    /// Returns what an active or disabled factor knows of its use.
    pub const fn usage(&self) -> Option<&Active> {
        match self {
            Self::Pending(_) => None,
            Self::Active(held) => Some(&held.state),
            Self::Disabled(held) => Some(&held.state.active),
        }
    }

    /// Returns until when it waits for its first code, if it does.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Pending(held) => Some(held.state.expires_at),
            Self::Active(_) | Self::Disabled(_) => None,
        }
    }

    /// Tells whether it waited too long for its first code.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        matches!(self, Self::Pending(held) if held.state.expires_at <= now)
    }

    /// Says that the factor's state does not allow what was asked.
    pub const fn wrong_state(&self) -> Refusal {
        Refusal::WrongState(self.state())
    }
}
