//! Typed identifiers: a [`FactorId`] is not a [`UserId`].
//!
//! All are bare UUIDv7 (RFC 9562 §5.7). The version's time prefix keeps inserts together in the database's index; it
//! also tells when the thing was made, which is no secret here.

use crate::{event::Hash, time::Timestamp};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta] $name:ident)+) => {$(
        #[$doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new identifier from the time and 74 bits of `rng`.
            pub fn generate(now: Timestamp, rng: &mut impl CryptoRng) -> Self {
                Self(version_7(now, rng))
            }

            /// Wraps a UUID that is known to name such a thing.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

id! {
    /// Names a person.
    UserId
    /// Names an organisation.
    OrganisationId
    /// Names one factor of a person.
    FactorId
    /// Names a service client.
    ClientId
    /// Names a signed-in session of a person.
    SessionId
    /// Names a sign-in whose first factor was right and whose second step is open.
    LoginId
    /// Names an invitation to set a password.
    InvitationId
    /// Names a challenge: a code that was sent and is waited for.
    ChallengeId
    /// Names one message on its way to a person.
    DeliveryId
}

impl DeliveryId {
    /// Makes the identifier of one of the messages that an event caused: the same for the same event, so that deciding again
    /// after a lost race does not make another message.
    pub(crate) fn of_event(at: Timestamp, event: &Hash, place: u8) -> Self {
        let mut random: [u8; 10] = event.0[..10].try_into().expect("a hash is longer");
        random[9] ^= place;
        Self(of_parts(at, &random))
    }
}

fn of_parts(at: Timestamp, random: &[u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(at.millis().unsigned_abs(), random).into_uuid()
}

fn version_7(now: Timestamp, rng: &mut impl CryptoRng) -> Uuid {
    let mut random = [0; 10];
    rng.fill_bytes(&mut random);
    of_parts(now, &random)
}
