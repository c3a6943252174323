//! What the store says of messages on their way.

use super::memory::Happened;
use crate::error::{Error, Result};
use countersign_core::{
    ChallengeId, Channel, DeliveryId, OrganisationId, Timestamp, UserId, keyring::Sealed,
};
use uuid::Uuid;

/// Where a message has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits for its first or next attempt, or is being sent.
    Queued,
    /// A provider took it.
    Sent,
    /// It was refused for good; an operator may have it sent again.
    Failed,
    /// Its time ran out before anybody took it.
    Expired,
    /// A later message took its place before it was sent.
    Superseded,
}

impl DeliveryState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Sent, Self::Failed, Self::Expired, Self::Superseded];

    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A message and what became of it. Never its words, never its whole destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message's id.
    pub id: DeliveryId,
    /// The organisation it is sent for.
    pub organisation: OrganisationId,
    /// The person it goes to; `None` for a test.
    pub user: Option<UserId>,
    /// The challenge whose code it carries.
    pub challenge: Option<ChallengeId>,
    /// The channel it goes by.
    pub channel: Channel,
    /// What kind of message it is: `code`, `test` or a notice's name.
    pub subject: String,
    /// The destination as it may be shown.
    pub masked: String,
    /// Where it has got to.
    pub state: DeliveryState,
    /// When it was posted.
    pub created_at: Timestamp,
    /// When it must not be sent any more.
    pub expires_at: Timestamp,
    /// When it is tried next, or when the claim of the one who sends it runs out; `None` once it is settled.
    pub due_at: Option<Timestamp>,
    /// How often somebody began to send it.
    pub attempts: u32,
    /// How many of these attempts nobody knows the end of: each may have reached the person.
    pub interrupted: u32,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// The provider that took it.
    pub provider: Option<String>,
    /// The provider's own name for it.
    pub reference: Option<String>,
    /// What the provider said later: `delivered`, `undeliverable` and the like.
    pub report: Option<String>,
    /// Why the last attempt failed.
    pub reason: Option<String>,
}

/// A message that whoever claimed it is to send before its claim runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The message's id.
    pub id: DeliveryId,
    /// The organisation it is sent for.
    pub organisation: OrganisationId,
    /// The person it goes to; `None` for a test.
    pub user: Option<UserId>,
    /// The channel it goes by.
    pub channel: Channel,
    /// How often somebody began to send it, this time included.
    pub attempts: u32,
    /// When it must not be sent any more.
    pub expires_at: Timestamp,
    /// The sealed letter.
    pub body: Sealed,
    /// What this claim is known by.
    pub claim: Uuid,
}

/// What an attempt led to. The texts are shown to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// A provider took it.
    Sent {
        /// The provider.
        provider: String,
        /// Its own name for the message.
        reference: Option<String>,
    },
    /// It is to be tried again.
    Retry {
        /// When.
        at: Timestamp,
        /// Why this attempt failed.
        reason: String,
    },
    /// It was refused for good.
    Failed {
        /// Why.
        reason: String,
    },
    /// Its time ran out.
    Expired {
        /// Why it was not sent before; the reason of the attempt before if there is none.
        reason: Option<String>,
    },
    /// The attempt was cut off, and it may have been sent; it is to be tried again.
    Interrupted,
}

/// Which deliveries a list shows, newest first. Each filter is answered from an index, so there is one at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeliveryFilter {
    /// All of them.
    #[default]
    All,
    /// Those in this state.
    State(DeliveryState),
    /// Those to this person.
    User(UserId),
    /// Those by this channel.
    Channel(Channel),
    /// Those with this challenge's code.
    Challenge(ChallengeId),
}

/// What happened on one channel since the store was opened, and what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelGauges {
    /// Messages that wait or are being sent.
    pub queued: u64,
    /// Messages a provider took.
    pub sent: u64,
    /// Messages that were refused for good.
    pub failed: u64,
    /// Messages whose time ran out.
    pub expired: u64,
    /// Messages a later one took the place of.
    pub superseded: u64,
    /// Attempts that failed and are made again.
    pub retried: u64,
    /// Attempts nobody knows the end of.
    pub interrupted: u64,
}

/// What a settlement writes into the row.
pub(super) struct Settled<'a> {
    pub(super) state: DeliveryState,
    pub(super) due_at: Option<Timestamp>,
    pub(super) provider: Option<&'a str>,
    pub(super) reference: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    pub(super) happened: Happened,
}

impl<'a> Settled<'a> {
    /// Says what is to be written.
    pub(super) fn by(settlement: &'a Settlement, now: Timestamp) -> Self {
        let to = |state| Self {
            state,
            due_at: None,
            provider: None,
            reference: None,
            reason: None,
            happened: Happened::Settled(state),
        };
        match settlement {
            Settlement::Sent { provider, reference } => {
                Self { provider: Some(provider), reference: reference.as_deref(), ..to(DeliveryState::Sent) }
            }
            Settlement::Failed { reason } => Self { reason: Some(reason), ..to(DeliveryState::Failed) },
            Settlement::Expired { reason } => {
                Self { reason: reason.as_deref(), ..to(DeliveryState::Expired) }
            }
            Settlement::Retry { at, reason } => Self {
                due_at: Some(*at),
                reason: Some(reason),
                happened: Happened::Retried,
                ..to(DeliveryState::Queued)
            },
            Settlement::Interrupted => {
                Self { due_at: Some(now), happened: Happened::Interrupted, ..to(DeliveryState::Queued) }
            }
        }
    }
}

/// Reads the channel a row names.
pub(super) fn channel_named(name: &str) -> Result<Channel> {
    Channel::parse("channel", name).map_err(|_| Error::Store("read delivery: unknown channel".into()))
}

/// Writes a sealed letter as text.
pub(super) fn sealed_text(body: &Sealed) -> String {
    match serde_json::to_value(body) {
        Ok(serde_json::Value::String(text)) => text,
        _ => unreachable!("a sealed value is written as text"),
    }
}

/// Reads a sealed letter; `None` if it is not one any more.
pub(super) fn sealed(text: Option<&str>) -> Option<Sealed> {
    serde_json::from_value(serde_json::Value::String(text?.to_owned())).ok()
}
