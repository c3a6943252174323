//! What the rules need of cryptographic keys: sealing, opening and keyed hashes. The server brings the keys.

use crate::{
    id::{OrganisationId, UserId},
    secret::Secret,
};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use subtle::ConstantTimeEq;
use thiserror::Error;
use uuid::Uuid;

/// Seals, opens and hashes under keys that have ids.
pub trait Keyring {
    /// Encrypts `plain` under the current key; it opens only with an equal `binding`.
    fn seal(&self, binding: &Binding, plain: &[u8]) -> Result<Sealed, KeyError>;

    /// Decrypts what [`Keyring::seal`] made for the same `binding`.
    fn open(&self, binding: &Binding, sealed: &Sealed) -> Result<Secret<Vec<u8>>, KeyError>;

    /// Returns the keyed hash of `message` under the key `key`, or under the current one.
    fn tag(&self, binding: &Binding, key: Option<KeyId>, message: &[u8]) -> Result<Tag, KeyError>;

    /// Tells, in constant time, whether `tag` is the keyed hash of `message`.
    fn matches(&self, binding: &Binding, tag: &Tag, message: &[u8]) -> Result<bool, KeyError> {
        Ok(self.tag(binding, Some(tag.key), message)?.equals(tag))
    }
}

/// Why a key operation failed. Never carries key material or plain text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The value names a key that is not in the ring.
    #[error("open sealed value: no key with id {0}")]
    UnknownKey(KeyId),
    /// The value was changed, moved to another place, or sealed under another key.
    #[error("open sealed value: it was altered, moved, or sealed under another key")]
    DoesNotOpen,
    /// The library refused to seal.
    #[error("seal value: the cryptographic library refused")]
    CannotSeal,
}

/// Names a data key. Stands in every sealed value, so that keys can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a value is for. Part of the associated data, so a value sealed for one purpose serves no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The shared secret of an OTP factor.
    OtpSecret,
    /// The keyed hash of a recovery code.
    RecoveryCode,
    /// The keyed hash of an emergency code.
    EmergencyCode,
    /// The keyed hash that recognises a repeated request.
    RequestFingerprint,
    /// The keyed hash of a code that was sent.
    ChallengeCode,
    /// A message on its way, with the code in it.
    Letter,
    /// The keyed hash by which messages to one destination are counted.
    Destination,
    /// The keyed hash in a refresh token.
    RefreshToken,
    /// The keyed hash in an invitation.
    Invitation,
    /// The keyed hash in a link to set up an authenticator app.
    EnrolmentLink,
    /// The keyed hash of an enrolment code.
    EnrolmentCode,
    /// The keyed hash of a ticket that a factor is activated with.
    EnrolmentTicket,
    /// The keyed hash in a short token for the second step of a sign-in.
    LoginTicket,
    /// The keyed hash of a client's secret.
    ClientSecret,
    /// The keyed hash of where the pruned part of an audit chain ends.
    AuditAnchor,
    /// The private key that signs tokens and checkpoints.
    SigningKey,
    /// The known value that shows the keys are the right ones.
    Canary,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::OtpSecret => "otp-secret",
            Self::RecoveryCode => "recovery-code",
            Self::EmergencyCode => "emergency-code",
            Self::RequestFingerprint => "request-fingerprint",
            Self::ChallengeCode => "challenge-code",
            Self::Letter => "letter",
            Self::Destination => "destination",
            Self::RefreshToken => "refresh-token",
            Self::Invitation => "invitation",
            Self::EnrolmentLink => "enrolment-link",
            Self::EnrolmentCode => "enrolment-code",
            Self::EnrolmentTicket => "enrolment-ticket",
            Self::LoginTicket => "login-ticket",
            Self::ClientSecret => "client-secret",
            Self::AuditAnchor => "audit-anchor",
            Self::SigningKey => "signing-key",
            Self::Canary => "canary",
        }
    }
}

/// The place a sealed value belongs to; it does not open anywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// What the value is for.
    pub purpose: Purpose,
    /// The organisation it belongs to, nil for the installation itself.
    pub organisation: Uuid,
    /// The person it belongs to, nil if to nobody.
    pub user: Uuid,
    /// The factor, session, client or invitation it belongs to, nil if to none.
    pub item: Uuid,
}

impl Binding {
    /// Binds a value to one thing of one person.
    pub fn of_user(purpose: Purpose, organisation: OrganisationId, user: UserId, item: Uuid) -> Self {
        Self { purpose, organisation: organisation.uuid(), user: user.uuid(), item }
    }

    /// Binds a value to a thing of an organisation that is no person's.
    pub fn of_organisation(purpose: Purpose, organisation: OrganisationId, item: Uuid) -> Self {
        Self { purpose, organisation: organisation.uuid(), user: Uuid::nil(), item }
    }

    /// Binds a value to the installation.
    pub fn of_installation(purpose: Purpose, item: Uuid) -> Self {
        Self { purpose, organisation: Uuid::nil(), user: Uuid::nil(), item }
    }

    /// Returns the associated data: the version of this format, then fixed-length ids, then the purpose's name.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(72);
        bytes.push(1);
        bytes.extend_from_slice(self.organisation.as_bytes());
        bytes.extend_from_slice(self.user.as_bytes());
        bytes.extend_from_slice(self.item.as_bytes());
        bytes.extend_from_slice(self.purpose.name().as_bytes());
        bytes
    }
}

/// An encrypted value with the id of its key; as text `<key>.<base64url>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The key it is sealed under.
    pub key: KeyId,
    /// Nonce, cipher text and authentication tag, as the keyring lays them out.
    pub bytes: Vec<u8>,
}

/// How many bytes of a keyed hash are kept: 128 bits, beyond any guessing and half the room in the document.
pub const TAG_BYTES: usize = 16;

/// A keyed hash with the id of its key; as text `<key>.<base64url>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The key it was computed under.
    pub key: KeyId,
    /// The first bytes of the HMAC.
    pub bytes: [u8; TAG_BYTES],
}

impl Tag {
    /// Tells in constant time whether two hashes are equal.
    pub fn equals(&self, other: &Self) -> bool {
        self.key == other.key && bool::from(self.bytes.ct_eq(&other.bytes))
    }
}

fn keyed_text(key: KeyId, bytes: &[u8]) -> String {
    let mut text = key.to_string();
    text.push('.');
    BASE64URL_NOPAD.encode_append(bytes, &mut text);
    text
}

fn parse_keyed_text(text: &str) -> Option<(KeyId, Vec<u8>)> {
    let (key, bytes) = text.split_once('.')?;
    Some((KeyId(key.parse().ok()?), BASE64URL_NOPAD.decode(bytes.as_bytes()).ok()?))
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&keyed_text(self.key, &self.bytes))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let (key, bytes) = parse_keyed_text(&text).ok_or_else(|| de::Error::custom("not a sealed value"))?;
        Ok(Self { key, bytes })
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&keyed_text(self.key, &self.bytes))
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let (key, bytes) = parse_keyed_text(&text).ok_or_else(|| de::Error::custom("not a keyed hash"))?;
        let bytes = bytes.try_into().map_err(|_| de::Error::custom("keyed hash of the wrong length"))?;
        Ok(Self { key, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_values_and_tags_survive_json() {
        let sealed = Sealed { key: KeyId(7), bytes: vec![0, 1, 254, 255] };
        let tag = Tag { key: KeyId(1), bytes: [9; TAG_BYTES] };

        assert_eq!(
            serde_json::from_str::<Sealed>(&serde_json::to_string(&sealed).expect("json")).ok(),
            Some(sealed)
        );
        assert_eq!(serde_json::from_str::<Tag>(&serde_json::to_string(&tag).expect("json")).ok(), Some(tag));
        assert!(serde_json::from_str::<Tag>("\"1.AAAA\"").is_err());
        assert!(serde_json::from_str::<Sealed>("\"AAAA\"").is_err());
    }

    #[test]
    fn bindings_of_different_places_differ() {
        let here = Binding::of_installation(Purpose::Canary, Uuid::nil());
        let there = Binding::of_installation(Purpose::SigningKey, Uuid::nil());

        assert_ne!(here.to_bytes(), there.to_bytes());
    }
}
