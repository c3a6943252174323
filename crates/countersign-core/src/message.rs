//! What is sent to people: codes they asked for, and notices that something about their factors changed.
//!
//! A rule posts a [`Message`] into the document's journal; it is sealed into a [`Parcel`] and committed with the document
//! that caused it. Nothing is sent before that commit.

use crate::{
    destination::{Channel, Destination},
    id::{ChallengeId, DeliveryId, OrganisationId, UserId},
    keyring::{Binding, KeyError, Keyring, Purpose, Sealed, Tag},
    locale::Locale,
    refusal::Refusal,
    resend::ResendRule,
    secret::Secret,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A message a rule wants sent. Its words are not yet sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The message's id.
    pub id: DeliveryId,
    /// The organisation it is sent for.
    pub organisation: OrganisationId,
    /// The person it goes to; `None` for a test.
    pub user: Option<UserId>,
    /// The challenge whose code it carries.
    pub challenge: Option<ChallengeId>,
    /// How often its destination may be written to; `None` if that is not counted.
    pub limit: Option<ResendRule>,
    /// Where it goes.
    pub to: Destination,
    /// Where it may go instead if nothing is configured to send there, best first.
    pub or_else: Vec<Destination>,
    /// The language the person prefers.
    pub locale: Option<Locale>,
    /// The name the person is greeted by.
    pub name: String,
    /// When what it speaks of happened.
    pub at: Timestamp,
    /// When it must not be sent any more.
    pub expires_at: Timestamp,
    /// What it says.
    pub words: Words,
}

/// For whom messages are written.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The name of the organisation, as authenticator apps show it too.
    pub product: &'a str,
    /// The language for people who prefer none.
    pub locale: &'a Locale,
    /// Whether people are told of what happens to their factors.
    pub sends_notices: bool,
}

/// What a message says and to whom: all that is needed to write and send it. Sealed wherever it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Where it goes.
    pub to: Destination,
    /// The language it is written in.
    pub locale: Locale,
    /// The name of the product or organisation it speaks for.
    pub product: String,
    /// The name the person is greeted by.
    pub name: String,
    /// When what it speaks of happened.
    pub at: Timestamp,
    /// When it must not be sent any more.
    pub expires_at: Timestamp,
    /// What it says.
    pub words: Words,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Words {
    /// A code to type.
    Code {
        /// The code.
        #[serde(with = "exposed")]
        code: Secret<String>,
        /// What it is for.
        purpose: CodePurpose,
    },
    /// Something about the person's factors changed.
    Notice {
        /// What.
        what: Notice,
        /// Of which kind or method, where that matters: `totp`, `SMS`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        concerns: Option<String>,
        /// The address it was asked from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ip: Option<String>,
    },
    /// A link to set up an authenticator app.
    EnrolmentLink {
        /// Where it leads. Whoever has it may set up the app.
        #[serde(with = "exposed")]
        url: Secret<String>,
    },
    /// An operator tries the channel.
    Test,
}

/// What a code is for. A code for one purpose serves no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodePurpose {
    /// To confirm that an address or number is the person's.
    Activation,
    /// To confirm who they are, to whoever asked.
    Verification,
    /// To finish signing in.
    SignIn,
}

impl CodePurpose {
    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Verification => "verification",
            Self::SignIn => "sign_in",
        }
    }
}

/// What a person is told of, so that they notice what they did not do (NIST SP 800-63B-4 §4.6; ASVS 5.0 6.3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// A factor can be used from now on.
    FactorAdded,
    /// A factor was deleted or switched off.
    FactorRemoved,
    /// All factors and codes were deleted.
    FactorsReset,
    /// A recovery or emergency code was used.
    RecoveryCodeUsed,
    /// Somebody signed in with a recovery or emergency code.
    RecoverySignIn,
    /// A method was locked after too many wrong codes.
    MethodLocked,
    /// The address or number in the profile changed; goes to the one before.
    AddressChanged,
}

impl Notice {
    /// All notices.
    pub const ALL: [Self; 7] = [
        Self::FactorAdded,
        Self::FactorRemoved,
        Self::FactorsReset,
        Self::RecoveryCodeUsed,
        Self::RecoverySignIn,
        Self::MethodLocked,
        Self::AddressChanged,
    ];

    /// Returns the name used outside, and by the templates.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FactorAdded => "factor_added",
            Self::FactorRemoved => "factor_removed",
            Self::FactorsReset => "factors_reset",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::RecoverySignIn => "recovery_sign_in",
            Self::MethodLocked => "method_locked",
            Self::AddressChanged => "address_changed",
        }
    }
}

impl Words {
    /// Returns what kind of message this is: `code`, `enrolment_link`, `test` or the notice's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Code { .. } => "code",
            Self::Notice { what, .. } => what.name(),
            Self::EnrolmentLink { .. } => "enrolment_link",
            Self::Test => "test",
        }
    }
}

/// A message that serves nobody any more: its code was replaced or used, or its factor or person is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawal {
    /// The message's id.
    pub id: DeliveryId,
    /// The organisation it was to be sent for.
    pub organisation: OrganisationId,
    /// Since when.
    pub at: Timestamp,
}

/// A sealed message, ready to be committed with the document that caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
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
    /// What kind of message it is, see [`Words::name`].
    pub subject: &'static str,
    /// The destination as it may be shown.
    pub masked: String,
    /// By what its destination is counted, and how often that may be written to.
    pub limit: Option<(Tag, ResendRule)>,
    /// When it was posted.
    pub created_at: Timestamp,
    /// When it must not be sent any more.
    pub expires_at: Timestamp,
    /// The sealed [`Letter`].
    pub body: Sealed,
}

impl Message {
    /// Chooses the first destination that can be reached. `None` if a notice is not wanted or reaches nobody; an error if
    /// a code does, because whoever asked for it waits.
    pub(crate) fn routed(
        mut self,
        sender: Sender<'_>,
        can_send: impl Fn(&Destination) -> bool,
    ) -> Result<Option<Self>, Refusal> {
        if matches!(self.words, Words::Notice { .. }) && !sender.sends_notices {
            return Ok(None);
        }
        let mut destinations = std::iter::once(self.to.clone()).chain(std::mem::take(&mut self.or_else));
        match destinations.find(&can_send) {
            Some(to) => Ok(Some(Self { to, ..self })),
            None if matches!(self.words, Words::Notice { .. }) => Ok(None),
            None => Err(Refusal::NoProvider(self.to.channel())),
        }
    }

    /// Writes the letter and seals it. It opens only as this message of this person.
    pub fn seal(self, sender: Sender<'_>, keys: &impl Keyring) -> Result<Parcel, KeyError> {
        let (channel, subject, masked) = (self.to.channel(), self.words.name(), self.to.masked());
        let counted = || {
            let binding = Binding::of_installation(Purpose::Destination, Uuid::nil());
            keys.tag(&binding, None, self.to.key().as_bytes())
        };
        let limit = self.limit.map(|rule| Ok((counted()?, rule))).transpose()?;
        let letter = Letter {
            to: self.to,
            locale: self.locale.unwrap_or_else(|| sender.locale.clone()),
            product: sender.product.to_owned(),
            name: self.name,
            at: self.at,
            expires_at: self.expires_at,
            words: self.words,
        };
        let plain = Secret::new(
            serde_json::to_vec(&letter).expect("a letter has string keys only, so it is always JSON"),
        );
        Ok(Parcel {
            body: keys.seal(&binding(self.organisation, self.user, self.id), plain.expose())?,
            id: self.id,
            organisation: self.organisation,
            user: self.user,
            challenge: self.challenge,
            channel,
            subject,
            masked,
            limit,
            created_at: self.at,
            expires_at: self.expires_at,
        })
    }
}

impl Letter {
    /// Opens the letter of a message.
    pub fn open(
        organisation: OrganisationId,
        user: Option<UserId>,
        id: DeliveryId,
        body: &Sealed,
        keys: &impl Keyring,
    ) -> Result<Self, KeyError> {
        let plain = keys.open(&binding(organisation, user, id), body)?;
        serde_json::from_slice(plain.expose()).map_err(|_| KeyError::DoesNotOpen)
    }
}

fn binding(organisation: OrganisationId, user: Option<UserId>, id: DeliveryId) -> Binding {
    match user {
        Some(user) => Binding::of_user(Purpose::Letter, organisation, user, id.uuid()),
        None => Binding::of_organisation(Purpose::Letter, organisation, id.uuid()),
    }
}

/// Writes a secret into a letter, which is sealed as a whole.
mod exposed {
    use crate::secret::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Secret<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}
