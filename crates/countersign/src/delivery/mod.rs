//! Delivery: the only code that sends anything.
//!
//! Messages are rows of the outbox, committed with the document that caused them. A worker claims them, [`words`] writes
//! them in the person's language, and a provider of their channel sends them. A provider says of each message that it took
//! it ([`Receipt`]), or why not ([`Failure`]); everything else (when to try again, when to give up, whom to ask instead)
//! is the worker's to decide.

pub mod development;
pub mod dispatch;
pub mod http_provider;
pub mod mail;
pub mod outbound;
pub mod provider;
pub mod retry;
pub mod routing;
pub mod scrub;
pub mod smpp;
pub mod words;
pub mod worker;

use countersign_core::{DeliveryId, Destination, Secret, Timestamp};

/// A message ready to be handed to a provider.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The message's id: what makes it recognisable to providers that drop duplicates.
    pub id: DeliveryId,
    /// Where it goes.
    pub to: Destination,
    /// When it must not be sent any more.
    pub expires_at: Timestamp,
    /// What it says, as its channel needs it.
    pub written: Written,
}

/// The words of a message, as its channel needs them. They may hold a code, so they do not print.
#[derive(Debug, Clone)]
pub enum Written {
    /// A mail.
    Mail {
        /// The subject line.
        subject: Secret<String>,
        /// The text part.
        text: Secret<String>,
        /// The HTML part.
        html: Secret<String>,
        /// The language, for `Content-Language`.
        language: String,
    },
    /// A text message.
    Sms {
        /// The text.
        text: Secret<String>,
    },
    /// A call.
    Voice {
        /// What is said, in sentences; the code in digits apart, already repeated.
        text: Secret<String>,
        /// The language it is said in, as a tag with a region such as `de-DE`.
        language: String,
    },
}

/// A provider took the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The provider's own name for the message, to ask it about.
    pub reference: Option<String>,
}

/// A provider did not take the message. The texts are shown to operators: never a code, never a whole destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may later, or another provider may now: unreachable, overloaded, wrong credentials.
    Temporary(String),
    /// It never will: there is no such mailbox or number, the message is not allowed.
    Permanent(String),
}

impl Failure {
    /// Returns the reason.
    pub fn reason(&self) -> &str {
        match self {
            Self::Temporary(reason) | Self::Permanent(reason) => reason,
        }
    }
}
