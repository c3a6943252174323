//! The rules of second factors: what proves an identity, and when.
//!
//! Everything here is a function of its arguments. A person is one [`User`] document; a rule takes the document, an
//! input, the organisation's [`Policy`] and the [`Call`] (who asks, from where, at what time), changes the document in
//! place and returns an outcome. What happened is recorded in the document's journal as [`event::Record`]s, chained to
//! the person's earlier events. No I/O, no clock, no global randomness: time and entropy come in as arguments.

pub mod asked;
mod assignment;
pub mod attempt;
pub mod attributes;
pub mod challenge;
pub mod client;
pub mod delivery;
pub mod destination;
pub mod enrolment;
pub mod enrolment_code;
pub mod enrolment_link;
pub mod enrolment_ticket;
pub mod event;
pub mod factor;
mod failover;
pub mod handle;
pub mod id;
pub mod keyring;
pub mod locale;
pub mod lock;
pub mod message;
mod notice;
pub mod organisation;
pub mod otpauth;
pub mod password;
pub mod policy;
pub mod profile;
pub mod public_key;
pub mod refusal;
pub mod resend;
pub mod reset;
pub mod role;
pub mod secret;
pub mod session;
pub mod sole;
pub mod time;
pub mod user;
pub mod verify;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;

pub use asked::Asked;
pub use attempt::{Attempt, Code, RequestId, Target};
pub use attributes::Attributes;
pub use challenge::{Challenge, NewCode, Recipient};
pub use client::Client;
pub use destination::{Channel, Destination};
pub use event::{Action, Actor, Call};
pub use factor::{Factor, Kind};
pub use handle::Handle;
pub use id::{
    ChallengeId, ClientId, DeliveryId, FactorId, InvitationId, LoginId, OrganisationId, SessionId, UserId,
};
pub use keyring::Keyring;
pub use locale::Locale;
pub use lock::Method;
pub use message::{Letter, Message, Parcel};
pub use organisation::Organisation;
pub use policy::Policy;
pub use public_key::PublicKey;
pub use refusal::{Invalid, Refusal};
pub use role::{Permission, Rank, Role, Scope};
pub use secret::Secret;
pub use time::Timestamp;
pub use user::User;
pub use verify::Verdict;
