//! What happened: named events, chained per subject so that cutting or editing them is found.
//!
//! Each event's hash covers the hash before it and the event's bytes as stored. The last hash is in the document the
//! events belong to (a person's, or the organisation's), so no global lock orders them.

use crate::{
    destination::Destination,
    factor::Kind,
    id::{ClientId, FactorId, OrganisationId, UserId},
    keyring::{KeyError, Keyring},
    lock::Method,
    message::{Message, Parcel, Sender, Withdrawal},
    refusal::Refusal,
    role::Rank,
    time::Timestamp,
};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{fmt, net::IpAddr};
use uuid::Uuid;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// What happened. The names are part of the API and never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Action {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl Action {
            /// All actions.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the name used outside.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Reads a name.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

actions! {
    /// An organisation was created.
    OrganisationCreated = "organisation.created",
    /// An organisation was renamed.
    OrganisationUpdated = "organisation.updated",
    /// An organisation's policy was changed.
    PolicyChanged = "policy.changed",
    /// A service client was created.
    ClientCreated = "client.created",
    /// A service client was renamed, enabled, disabled or given other scopes.
    ClientUpdated = "client.updated",
    /// A service client got another secret.
    ClientSecretRotated = "client.secret_rotated",
    /// A service client got another public key.
    ClientKeyAdded = "client.key_added",
    /// A service client lost a public key.
    ClientKeyRemoved = "client.key_removed",
    /// A service client was deleted.
    ClientDeleted = "client.deleted",
    /// A person was created. Stands in the organisation's chain and in the person's.
    UserCreated = "user.created",
    /// A person's profile, roles, status or second-step switch changed.
    UserUpdated = "user.updated",
    /// A person was deleted. Stands in the organisation's chain, with the head of the person's.
    UserDeleted = "user.deleted",
    /// A factor was enrolled and waits for its first code.
    FactorEnrolled = "factor.enrolled",
    /// A factor with a known seed was brought in, ready for use.
    FactorImported = "factor.imported",
    /// A factor's first code was right.
    FactorActivated = "factor.activated",
    /// A factor's first code was wrong.
    FactorActivationRejected = "factor.activation_rejected",
    /// A factor got another label.
    FactorRenamed = "factor.renamed",
    /// A factor was disabled.
    FactorDisabled = "factor.disabled",
    /// A disabled factor was enabled.
    FactorEnabled = "factor.enabled",
    /// A factor was deleted.
    FactorDeleted = "factor.deleted",
    /// A HOTP factor's counter was found again.
    FactorResynchronised = "factor.resynchronised",
    /// A link to set up an authenticator app was mailed.
    EnrolmentLinkSent = "enrolment.link_sent",
    /// A code to set up an authenticator app was issued.
    EnrolmentCodeIssued = "enrolment.code_issued",
    /// The code was right; the page to set up the app is open.
    EnrolmentCodeAccepted = "enrolment.code_accepted",
    /// The code was wrong.
    EnrolmentCodeRejected = "enrolment.code_rejected",
    /// A code was sent.
    ChallengeSent = "challenge.sent",
    /// A message that could not be delivered is sent again.
    DeliveryRetried = "delivery.retried",
    /// A message was sent to see whether a channel works.
    DeliveryTested = "delivery.tested",
    /// All of a person's factors and codes were deleted, or those of one `kind`.
    FactorReset = "factor.reset",
    /// A person's second factor was switched off, and all of its secrets deleted.
    MfaSwitchedOff = "mfa.switched_off",
    /// A set of recovery codes replaced the one before.
    RecoveryCodesReplaced = "recovery_codes.replaced",
    /// An emergency code was issued.
    EmergencyCodeIssued = "emergency_code.issued",
    /// An emergency code was withdrawn.
    EmergencyCodeRevoked = "emergency_code.revoked",
    /// An attempt proved a second factor.
    VerifyAccepted = "verify.accepted",
    /// An attempt did not; `reason` says why.
    VerifyRejected = "verify.rejected",
    /// A method was locked.
    MethodLocked = "method.locked",
    /// A method was unlocked.
    MethodUnlocked = "method.unlocked",
    /// A password was right; the second step is open.
    LoginFirstFactor = "login.first_factor",
    /// A person signed in.
    LoginSucceeded = "login.succeeded",
    /// A sign-in failed; `reason` says why.
    LoginRejected = "login.rejected",
    /// A password was locked.
    PasswordLocked = "password.locked",
    /// A password was unlocked.
    PasswordUnlocked = "password.unlocked",
    /// A password was set or changed.
    PasswordSet = "password.set",
    /// An invitation to set a password was issued.
    InvitationIssued = "invitation.issued",
    /// A session was refreshed.
    SessionRefreshed = "session.refreshed",
    /// A session ended by sign-out, administration or a change that ends sessions.
    SessionRevoked = "session.revoked",
    /// A refresh token came a second time; its session was ended.
    SessionReused = "session.refresh_reused",
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "id", rename_all = "lowercase")]
pub enum Actor {
    /// A signed-in person.
    User(UserId),
    /// A service client.
    Client(ClientId),
    /// The server itself or its command line.
    System,
    /// Somebody not signed in.
    Anonymous,
}

/// One request: who asks, with what reach, from where, and its only reading of the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The time of the request.
    pub now: Timestamp,
    /// Who asks.
    pub actor: Actor,
    /// How far up the ladder they reach.
    pub rank: Rank,
    /// The address they ask from.
    pub ip: Option<IpAddr>,
    /// The id that joins the answer, the log and the audit trail.
    pub request_id: String,
}

impl Call {
    /// Makes the call of the server itself.
    pub fn system(now: Timestamp) -> Self {
        Self { now, actor: Actor::System, rank: Rank::System, ip: None, request_id: String::new() }
    }
}

/// What a rule says of an event; the rest comes from the [`Call`] and the chain.
#[derive(Debug, Clone)]
pub struct Note {
    action: Action,
    factor: Option<FactorId>,
    kind: Option<Kind>,
    method: Option<Method>,
    reason: Option<&'static str>,
    details: Map<String, Value>,
}

impl Note {
    /// Begins a note.
    pub fn new(action: Action) -> Self {
        Self { action, factor: None, kind: None, method: None, reason: None, details: Map::new() }
    }

    /// Names the factor.
    pub fn factor(mut self, id: FactorId) -> Self {
        self.factor = Some(id);
        self
    }

    /// Names the kind of factor.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Names the method.
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Gives the reason of a refusal.
    pub fn reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Adds a detail. Never a code, a secret or a full destination.
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// Whose chain an event stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", content = "id", rename_all = "lowercase")]
pub enum Subject {
    /// A person.
    User(UserId),
    /// An organisation.
    Organisation(OrganisationId),
}

impl Subject {
    /// Returns the subject's UUID; people's and organisations' never meet.
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::User(id) => id.uuid(),
            Self::Organisation(id) => id.uuid(),
        }
    }
}

/// An event as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The place in the subject's chain, from 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: Action,
    /// The organisation.
    pub organisation: OrganisationId,
    /// Whose chain this is.
    pub subject: Subject,
    /// Who did it.
    pub actor: Actor,
    /// The address they asked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The factor concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<FactorId>,
    /// The kind of factor concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The method concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Why something was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

/// A SHA-256 hash in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(de::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| de::Error::custom("a hash has 32 bytes"))
    }
}

/// The last link of a subject's chain; kept in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChainHead {
    /// How many events there are.
    pub seq: u64,
    /// The last one's hash.
    pub hash: Hash,
}

impl ChainHead {
    /// Returns the head after an event with these bytes.
    pub fn next(&self, body: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.hash.0);
        hasher.update(body);
        Self { seq: self.seq + 1, hash: Hash(hasher.finalize().into()) }
    }
}

/// An event ready to be committed: its index columns, its exact bytes and the hash over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose chain it stands in.
    pub subject: Subject,
    /// The organisation.
    pub organisation: OrganisationId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: Action,
    /// The chain's head once this event stands in it.
    pub head: ChainHead,
    /// The event as JSON. These bytes are what the hash covers.
    pub body: Vec<u8>,
}

/// The events and messages of one change, not yet committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    records: Vec<Record>,
    messages: Vec<Message>,
    parcels: Vec<Parcel>,
    withdrawals: Vec<Withdrawal>,
}

impl Journal {
    /// Appends an event to the chain and to the journal.
    pub fn record(
        &mut self,
        head: &mut ChainHead,
        subject: Subject,
        organisation: OrganisationId,
        call: &Call,
        note: Note,
    ) {
        let event = Event {
            seq: head.seq + 1,
            at: call.now,
            action: note.action,
            organisation,
            subject,
            actor: call.actor,
            ip: call.ip,
            request_id: call.request_id.clone(),
            factor: note.factor,
            kind: note.kind,
            method: note.method,
            reason: note.reason.map(str::to_owned),
            details: note.details,
        };
        let body = serde_json::to_vec(&event).expect("an event has string keys only, so it is always JSON");
        *head = head.next(&body);
        self.records.push(Record {
            subject,
            organisation,
            at: call.now,
            action: event.action,
            head: *head,
            body,
        });
    }

    /// Adds a message to be sent once the change is committed.
    pub fn post(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Takes back a message that was committed earlier, as far as it is not sent yet. Goes along with an event.
    pub fn withdraw(&mut self, withdrawal: Withdrawal) {
        self.withdrawals.push(withdrawal);
    }

    /// Returns how many messages were added; no change adds more than a few.
    pub fn posted(&self) -> u8 {
        u8::try_from(self.messages.len()).unwrap_or(u8::MAX)
    }

    /// Seals the messages that can be sent. Notices that cannot be are dropped; a code that cannot be is refused.
    pub fn seal(
        &mut self,
        sender: Sender<'_>,
        keys: &impl Keyring,
        can_send: impl Fn(&Destination) -> bool,
    ) -> Result<(), Refusal> {
        for message in std::mem::take(&mut self.messages) {
            if let Some(message) = message.routed(sender, &can_send)? {
                self.parcels.push(message.seal(sender, keys)?);
            }
        }
        Ok(())
    }

    /// Hands over the events for the commit.
    pub fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// Hands over the sealed messages for the commit; those that were never sealed would be lost, so that is an error.
    pub fn take_parcels(&mut self) -> Result<Vec<Parcel>, KeyError> {
        if !self.messages.is_empty() {
            return Err(KeyError::CannotSeal);
        }
        Ok(std::mem::take(&mut self.parcels))
    }

    /// Hands over what is taken back, for the commit.
    pub fn take_withdrawals(&mut self) -> Vec<Withdrawal> {
        std::mem::take(&mut self.withdrawals)
    }

    /// Tells whether nothing happened, and nobody is to be told of anything.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.messages.is_empty() && self.parcels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_one_name_and_is_found_by_it() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.name()), Some(*action));
            assert_eq!(serde_json::to_value(action).expect("json"), Value::from(action.name()));
        }
    }

    #[test]
    fn changing_any_byte_of_an_event_breaks_the_chain() {
        let head = ChainHead::default().next(b"{\"seq\":1}");

        assert_ne!(ChainHead::default().next(b"{\"seq\":2}"), head);
        assert_ne!(head.next(b"x").hash, ChainHead::default().next(b"x").hash);
    }
}
