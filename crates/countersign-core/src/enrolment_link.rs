//! Setting up an authenticator app without being signed in: by a link that was mailed, or by a code that was told.
//!
//! Either belongs to one factor that waits for its first code, and lives and dies with it: when the factor is activated,
//! deleted, replaced or reset, or has waited too long, the link opens nothing. A person has one of them at most.
//!
//! While it is open, a password alone enrols nothing else: whoever stole that must not come before the one who reads the
//! mail or has the help desk on the phone. A first code from the key behind the link does finish a sign-in, because it
//! proves both (see [`User::second_step`]).

use crate::{
    attempt::Code,
    destination::Destination,
    enrolment::Activation,
    event::{Action, Call, Note},
    factor::{Factor, Held, Kind, Pending, Proof},
    id::{DeliveryId, FactorId},
    keyring::{Keyring, Tag},
    lock::Method,
    message::{Message, Words},
    policy::Policy,
    profile::Label,
    refusal::{Invalid, Refusal},
    secret::Secret,
    time::Timestamp,
    user::{Status, User},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a link is good. The products whose calls we answer mail theirs for 24 hours (SafeShare's help, "reseed"): long
/// enough for a mail that is read the next morning.
pub const LINK_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The way open to a person to set up an authenticator app without being signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenEnrolment {
    /// The factor it sets up, which waits for its first code.
    pub factor: FactorId,
    /// What opens it.
    pub way: Way,
}

/// What opens an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The link in this message.
    Link(DeliveryId),
    /// A code that was told, here as its keyed hash.
    Code {
        /// The keyed hash.
        tag: Tag,
        /// Wrong codes so far.
        #[serde(default)]
        failures: u8,
    },
    /// The page that a right code opened.
    Page,
}

/// A link drawn for a person, before the change: rules have no randomness of their own.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// The factor it sets up.
    pub factor: FactorId,
    /// What the person will find it called.
    pub label: Label,
    /// The key.
    pub proof: Proof,
    /// The id of the message that carries the link.
    pub delivery: DeliveryId,
    /// Where the link leads.
    pub url: Secret<String>,
}

impl User {
    /// Mails a link to the profile's address by which the person sets up an authenticator app; an earlier one is dead.
    ///
    /// With `replace` what proved their identity so far is gone at once: OTP factors, recovery and emergency codes, open
    /// sign-ins, sessions. The second step stays asked for, so no sign-in is finished before the link was followed.
    pub fn send_enrolment_link(
        &mut self,
        new: &NewLink,
        replace: bool,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        if self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        let Some(address) = self.email.clone() else {
            return Err(Invalid::new("email", "the profile has no address that the link could be sent to").into());
        };
        let to = Destination::Email(address);
        policy.destinations.check(&to)?;
        let log = self.sent.entry(Method::Email).or_default();
        log.admit(&policy.resend, call.now).map_err(Refusal::TooSoon)?;

        self.drop_open_enrolment(call);
        if replace {
            self.forget_keys(call);
        }
        let expires_at = self.await_first_code(new.factor, new.label.clone(), new.proof.clone(), LINK_LIFE, policy, call)?;
        self.enrolment = Some(OpenEnrolment { factor: new.factor, way: Way::Link(new.delivery) });
        let note = Note::new(Action::EnrolmentLinkSent).factor(new.factor).method(Method::Email);
        let note = note.detail("destination", to.masked()).detail("expiresAt", expires_at.to_string());
        self.record(call, note);
        self.post(Message {
            id: new.delivery,
            organisation: self.organisation,
            user: Some(self.id),
            challenge: None,
            limit: Some(policy.resend),
            to,
            or_else: Vec::new(),
            locale: self.locale.clone(),
            name: self.greeting().to_owned(),
            at: call.now,
            expires_at,
            words: Words::EnrolmentLink { url: new.url.clone() },
        });
        Ok(())
    }

    /// Takes away what proved the person's identity so far, so that only the new key will. Factors whose codes are sent
    /// have no key and stay.
    fn forget_keys(&mut self, call: &Call) {
        let is_key = |factor: &&Factor| factor.kind().method() == Method::Token;
        let keys: Vec<(FactorId, Kind)> =
            self.factors.iter().filter(is_key).map(|factor| (factor.id(), factor.kind())).collect();
        for (id, kind) in keys {
            self.factors.retain(|factor| factor.id() != id);
            self.record(call, Note::new(Action::FactorDeleted).factor(id).kind(kind).reason("replaced"));
        }
        if self.emergency.take().is_some() {
            self.record(call, Note::new(Action::EmergencyCodeRevoked).kind(Kind::Emergency).reason("replaced"));
        }
        self.recovery = None;
        self.logins.clear();
        // Nor may the retry of an earlier attempt be told that it was accepted.
        self.requests.clear();
        self.end_sessions(None, call);
        self.mfa_enabled = true;
    }

    /// Activates the factor behind a link by its first code, for whoever has the link.
    pub fn activate_by_link(
        &mut self,
        factor: FactorId,
        code: &Code,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Activation, Refusal> {
        if self.factor_behind_link(factor, policy, call.now).is_none() {
            return Err(Refusal::TokenGone);
        }
        self.activate_pending(factor, code, policy, keys, call)
    }

    /// Returns the factor that an open link, or the page that a code opened, sets up.
    pub fn factor_behind_link(
        &self,
        factor: FactorId,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<&Held<Pending>> {
        let (open, held) = self.awaited(now)?;
        let is_open = !matches!(open.way, Way::Code { .. }) && self.status == Status::Active;
        (is_open && held.id == factor && policy.allows(held.proof.kind())).then_some(held)
    }

    /// Tells whether a link that was mailed, or a code that was told, is waited for. A code that died of wrong ones is:
    /// else whoever stole a password would only have to guess until nothing is in their way.
    pub fn open_enrolment_link(&self, now: Timestamp) -> bool {
        self.awaited(now).is_some()
    }

    /// Returns the open enrolment and the factor that waits.
    pub(crate) fn awaited(&self, now: Timestamp) -> Option<(&OpenEnrolment, &Held<Pending>)> {
        let open = self.enrolment.as_ref()?;
        self.factors.iter().find_map(|factor| match factor {
            Factor::Pending(held) if held.id == open.factor && held.state.expires_at > now => Some((open, held)),
            _ => None,
        })
    }

    /// Ends the open enrolment with its factor: there is a newer one.
    pub(crate) fn drop_open_enrolment(&mut self, call: &Call) {
        self.drop_expired_factors(call);
        let Some(factor) = self.enrolment.as_ref().map(|open| open.factor) else { return };
        self.end_enrolment(call);
        let before = self.factors.len();
        self.factors.retain(|held| held.id() != factor);
        if self.factors.len() < before {
            self.record(call, Note::new(Action::FactorDeleted).factor(factor).reason("replaced"));
        }
    }

    /// Ends the enrolment of a factor that is in use or gone.
    pub(crate) fn end_enrolment_of(&mut self, factor: FactorId, call: &Call) {
        if self.enrolment.as_ref().is_some_and(|open| open.factor == factor) {
            self.end_enrolment(call);
        }
    }

    /// Ends the open enrolment. A link that is still on its way need not arrive.
    pub(crate) fn end_enrolment(&mut self, call: &Call) {
        if let Some(OpenEnrolment { way: Way::Link(delivery), .. }) = self.enrolment.take() {
            self.withdraw(delivery, call);
        }
    }
}
