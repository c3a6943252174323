//! Enrolment codes: nine digits for somebody the help desk has on the phone, which open the page of a link.
//!
//! Thirty bits with five tries leave a guess one chance in two hundred million. A keyed hash is enough to store them: it
//! cannot be searched without the key, which is not in the database, and a slow hash would only let whoever types nonsense
//! take the machine from others.

use crate::{
    attempt::Code,
    enrolment_link::{OpenEnrolment, Way},
    event::{Action, Call, Note},
    factor::{Factor, Proof},
    id::FactorId,
    keyring::{Binding, KeyError, Keyring, Purpose, Tag},
    lock::Method,
    policy::Policy,
    profile::Label,
    refusal::{Invalid, Refusal},
    secret::Secret,
    time::Timestamp,
    user::{Status, User},
};
use rand_core::CryptoRng;
use std::time::Duration;

/// The digits of a code.
pub const CODE_DIGITS: usize = 9;
/// Wrong codes after which it opens nothing.
pub const CODE_TRIES: u8 = 5;
/// How long a code is good if nobody says.
pub const CODE_LIFE: Duration = Duration::from_secs(3600);
/// The shortest life of a code.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest life of a code.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A code drawn for a person, before the change: rules have no randomness of their own.
#[derive(Debug, Clone)]
pub struct NewEnrolmentCode {
    /// The factor it sets up.
    pub factor: FactorId,
    /// What the person will find it called.
    pub label: Label,
    /// The key.
    pub proof: Proof,
    /// The digits.
    pub code: Secret<String>,
    /// How long it is good.
    pub life: Duration,
}

/// Draws the digits; each number is as likely as any other.
pub fn draw(rng: &mut impl CryptoRng) -> Secret<String> {
    const CODES: u32 = 10_u32.pow(CODE_DIGITS as u32);
    // Numbers beyond the last full round of codes would favour the low ones.
    let number = loop {
        let mut bytes = [0; 4];
        rng.fill_bytes(&mut bytes);
        let number = u32::from_le_bytes(bytes);
        if number < u32::MAX - u32::MAX % CODES {
            break number % CODES;
        }
    };
    format!("{number:0CODE_DIGITS$}").into()
}

impl User {
    /// Gives the person an enrolment code in place of any link or code before; returns when it lapses. Nobody issues one to
    /// themselves.
    pub fn issue_enrolment_code(
        &mut self,
        new: &NewEnrolmentCode,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Timestamp, Refusal> {
        self.check_managed_by_another(call)?;
        if self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        if !(SHORTEST..=LONGEST).contains(&new.life) {
            let message = format!("expected {} to {}", SHORTEST.as_secs(), LONGEST.as_secs());
            return Err(Invalid::new("expiresInSeconds", message).into());
        }
        if self.active_factors().any(|held| held.proof.kind().method() == Method::Token) {
            return Err(Refusal::AlreadyEnrolled);
        }
        let tag = keys.tag(&self.enrolment_binding(new.factor), None, new.code.expose().as_bytes())?;
        self.drop_open_enrolment(call);
        let (label, proof) = (new.label.clone(), new.proof.clone());
        let expires_at = self.await_first_code(new.factor, label, proof, new.life, policy, call)?;
        self.enrolment = Some(OpenEnrolment { factor: new.factor, way: Way::Code { tag, failures: 0 } });
        let note = Note::new(Action::EnrolmentCodeIssued).factor(new.factor);
        self.record(call, note.detail("expiresAt", expires_at.to_string()));
        Ok(expires_at)
    }

    /// Takes an enrolment code: a right one is used up and opens the page of the factor it returns. Only what was tried at
    /// an open code is recorded; `None` without that leaves nothing to commit.
    pub fn redeem_enrolment_code(
        &mut self,
        code: &Code,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Option<FactorId>, KeyError> {
        let Some((factor, tag, failures)) = self.open_code(policy, call.now) else { return Ok(None) };
        let note = |action| Note::new(action).factor(factor);
        if keys.matches(&self.enrolment_binding(factor), &tag, code.as_str().as_bytes())? {
            self.enrolment = Some(OpenEnrolment { factor, way: Way::Page });
            self.extend(factor, call.now.after(policy.enrolment_life()));
            self.record(call, note(Action::EnrolmentCodeAccepted));
            return Ok(Some(factor));
        }
        let failures = failures.saturating_add(1);
        self.enrolment = Some(OpenEnrolment { factor, way: Way::Code { tag, failures } });
        let left = CODE_TRIES.saturating_sub(failures);
        self.record(call, note(Action::EnrolmentCodeRejected).reason("wrong_code").detail("attemptsLeft", left));
        Ok(None)
    }

    /// Returns the code that still opens something, with its failures.
    fn open_code(&self, policy: &Policy, now: Timestamp) -> Option<(FactorId, Tag, u8)> {
        let (open, held) = self.awaited(now)?;
        let is_usable = self.status == Status::Active && policy.allows(held.proof.kind());
        match open.way {
            Way::Code { tag, failures } if is_usable && failures < CODE_TRIES => Some((open.factor, tag, failures)),
            _ => None,
        }
    }

    /// Lets a factor wait at least this long: its person has only begun.
    fn extend(&mut self, factor: FactorId, until: Timestamp) {
        for waiting in &mut self.factors {
            if let Factor::Pending(held) = waiting
                && held.id == factor
            {
                held.state.expires_at = held.state.expires_at.max(until);
            }
        }
    }

    fn enrolment_binding(&self, factor: FactorId) -> Binding {
        Binding::of_user(Purpose::EnrolmentCode, self.organisation, self.id, factor.uuid())
    }
}
