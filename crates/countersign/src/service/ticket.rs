//! Tickets: tokens that are a keyed hash of what they stand for, so that nothing secret has to be stored.
//!
//! Refresh tokens, invitations and enrolment links are tickets. What a ticket names must also stand in the person's
//! document: a ticket whose session, invitation or waiting factor is gone opens nothing.

use countersign_core::{
    Keyring, OrganisationId, Secret, UserId,
    keyring::{Binding, KeyError, KeyId, Purpose, TAG_BYTES, Tag},
};
use data_encoding::BASE64URL_NOPAD;
use uuid::Uuid;

/// Organisation, person, item, generation, key, tag.
const BYTES: usize = 16 + 16 + 16 + 4 + 4 + TAG_BYTES;

/// What a ticket stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// What it is for.
    pub purpose: Purpose,
    /// The organisation.
    pub organisation: OrganisationId,
    /// The person.
    pub user: UserId,
    /// The session, the invitation, or the factor an enrolment link sets up.
    pub item: Uuid,
    /// The session's generation; 0 for the others.
    pub generation: u32,
}

impl Ticket {
    /// Writes the ticket with its keyed hash.
    pub fn write(&self, keys: &impl Keyring) -> Result<Secret<String>, KeyError> {
        let tag = keys.tag(&self.binding(), None, &self.generation.to_be_bytes())?;
        let mut bytes = Vec::with_capacity(BYTES);
        for id in [self.organisation.uuid(), self.user.uuid(), self.item] {
            bytes.extend_from_slice(id.as_bytes());
        }
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&tag.key.0.to_be_bytes());
        bytes.extend_from_slice(&tag.bytes);
        Ok(format!("{}{}", prefix(self.purpose), BASE64URL_NOPAD.encode(&bytes)).into())
    }

    /// Reads a ticket; `None` if it is malformed or its hash is not ours.
    pub fn read(text: &str, purpose: Purpose, keys: &impl Keyring) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.strip_prefix(prefix(purpose))?.as_bytes()).ok()?;
        let bytes: [u8; BYTES] = bytes.try_into().ok()?;
        let uuid = |at: usize| Uuid::from_slice(&bytes[at..at + 16]).ok();
        let number = |at: usize| Some(u32::from_be_bytes(bytes[at..at + 4].try_into().ok()?));
        let ticket = Self {
            purpose,
            organisation: OrganisationId::from_uuid(uuid(0)?),
            user: UserId::from_uuid(uuid(16)?),
            item: uuid(32)?,
            generation: number(48)?,
        };
        let tag = Tag { key: KeyId(number(52)?), bytes: bytes[56..].try_into().ok()? };
        let is_ours = keys.matches(&ticket.binding(), &tag, &ticket.generation.to_be_bytes());
        is_ours.unwrap_or(false).then_some(ticket)
    }

    fn binding(&self) -> Binding {
        Binding::of_user(self.purpose, self.organisation, self.user, self.item)
    }
}

/// The prefix tells people and secret scanners what they found.
const fn prefix(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::RefreshToken => "csr_",
        Purpose::Invitation => "csi_",
        Purpose::EnrolmentLink => "csl_",
        _ => "cst_",
    }
}
