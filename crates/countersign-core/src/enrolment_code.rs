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
        self.drop_open_enrolment("replaced", call);
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
        self.record(
            call,
            note(Action::EnrolmentCodeRejected).reason("wrong_code").detail("attemptsLeft", left),
        );
        Ok(None)
    }

    /// Tells whether there is a code that still opens something.
    pub fn has_enrolment_code(&self, policy: &Policy, now: Timestamp) -> bool {
        self.open_code(policy, now).is_some()
    }

    /// Returns the code that still opens something, with its failures.
    fn open_code(&self, policy: &Policy, now: Timestamp) -> Option<(FactorId, Tag, u8)> {
        let (open, held) = self.awaited(now)?;
        let is_usable = self.status == Status::Active && policy.allows(held.proof.kind());
        match open.way {
            Way::Code { tag, failures } if is_usable && failures < CODE_TRIES => {
                Some((open.factor, tag, failures))
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        enrolment::Activation,
        enrolment_link::NewLink,
        factor::Kind,
        id::DeliveryId,
        profile::Email,
        role::Role,
        testing::{OpenKeyring, Person, label, newcomer, rng, typed},
    };
    use uuid::Uuid;

    fn issue_for(person: &mut Person, life: Duration) -> Result<String, Refusal> {
        let (factor, _, proof) = person.new_totp(1);
        let code = draw(&mut rng(7));
        let new =
            NewEnrolmentCode { factor, label: label("Authenticator app"), proof, code: code.clone(), life };
        let call = person.staff(Role::Helpdesk);
        person.user.issue_enrolment_code(&new, &person.policy, &OpenKeyring, &call)?;
        Ok(code.expose().clone())
    }

    fn issue(person: &mut Person) -> String {
        issue_for(person, CODE_LIFE).expect("issue")
    }

    fn redeem(person: &mut Person, code: &str) -> Option<FactorId> {
        let call = person.nobody();
        let opened = person.user.redeem_enrolment_code(&typed(code), &person.policy, &OpenKeyring, &call);
        opened.expect("redeem")
    }

    #[test]
    fn codes_are_nine_digits_and_each_comes_up() {
        let mut source = rng(3);
        let codes: Vec<Secret<String>> = (0..2000).map(|_| draw(&mut source)).collect();

        assert!(
            codes
                .iter()
                .all(|code| code.expose().len() == 9 && code.expose().bytes().all(|b| b.is_ascii_digit()))
        );
        for digit in '0'..='9' {
            assert!(codes.iter().any(|code| code.expose().starts_with(digit)), "{digit}");
        }
    }

    #[test]
    fn a_code_opens_the_page_once() {
        let mut person = newcomer();
        person.happened();
        let code = issue(&mut person);
        assert!(person.user.open_enrolment_link(person.now));
        let held = |person: &Person, factor| {
            person.user.factor_behind_link(factor, &person.policy, person.now).is_some()
        };
        assert!(
            !held(&person, FactorId::from_uuid(Uuid::from_u128(1))),
            "the page is open before the code came"
        );

        let factor = redeem(&mut person, &format!("{} {}", &code[..3], &code[3..])).expect("opened");

        assert!(held(&person, factor));
        assert_eq!(redeem(&mut person, &code), None);
        let expected = ["factor.enrolled", "enrolment.code_issued", "enrolment.code_accepted"];
        assert_eq!(person.happened(), expected);
        let (code, call) = (typed(&person.totp_code(0)), person.nobody());
        let done = person.user.activate_by_link(factor, &code, &person.policy, &OpenKeyring, &call);
        assert_eq!(done, Ok(Activation::Activated));
    }

    #[test]
    fn a_code_late_in_its_life_leaves_time_to_set_up_the_app() {
        let mut person = newcomer();
        let code = issue(&mut person);
        person.wait(CODE_LIFE.as_secs() - 1);

        let factor = redeem(&mut person, &code).expect("opened");

        person.wait(person.policy.enrolment_seconds - 1);
        assert!(person.user.factor_behind_link(factor, &person.policy, person.now).is_some());
    }

    // A dead code stays in the way of a stolen password until it lapses.
    #[test]
    fn five_wrong_codes_and_it_opens_nothing() {
        let mut person = newcomer();
        let code = issue(&mut person);
        person.happened();

        for _ in 0..CODE_TRIES {
            assert_eq!(redeem(&mut person, "000000001"), None);
        }
        assert_eq!(person.happened(), ["enrolment.code_rejected: wrong_code"; 5]);

        assert_eq!(redeem(&mut person, &code), None);
        assert!(person.user.is_unchanged() && person.user.open_enrolment_link(person.now));
    }

    #[test]
    fn a_code_lapses() {
        let mut person = newcomer();
        let code = issue_for(&mut person, Duration::from_secs(600)).expect("issue");
        person.wait(600);

        assert_eq!(redeem(&mut person, &code), None);
        assert!(!person.user.open_enrolment_link(person.now));
    }

    #[test]
    fn the_life_of_a_code_is_bounded() {
        let mut person = newcomer();

        for seconds in [0, 59, 24 * 3600 + 1] {
            let Err(Refusal::Invalid(invalid)) = issue_for(&mut person, Duration::from_secs(seconds)) else {
                panic!("{seconds}")
            };
            assert_eq!(invalid.field, "expiresInSeconds");
        }
        assert!(issue_for(&mut person, Duration::from_secs(24 * 3600)).is_ok());
    }

    #[test]
    fn whoever_has_an_app_gets_no_code() {
        let mut person = Person::new();

        assert_eq!(issue_for(&mut person, CODE_LIFE), Err(Refusal::AlreadyEnrolled));
    }

    #[test]
    fn nobody_issues_a_code_to_themselves_or_above_their_rank() {
        let mut person = newcomer();
        let (factor, _, proof) = person.new_totp(1);
        let code = draw(&mut rng(7));
        let new = NewEnrolmentCode { factor, label: label("app"), proof, code, life: CODE_LIFE };
        let by = |person: &mut Person, call: Call| {
            person.user.issue_enrolment_code(&new, &person.policy, &OpenKeyring, &call).expect_err("refused")
        };

        let (themselves, helpdesk) = (person.themselves(true), person.staff(Role::Helpdesk));
        assert_eq!(by(&mut person, themselves), Refusal::NotBySelf);
        person.user.roles = crate::role::Roles::new([Role::Admin]);
        assert_eq!(by(&mut person, helpdesk), Refusal::AboveYourRank(Role::Admin));
    }

    #[test]
    fn a_code_and_a_link_replace_each_other() {
        let mut person = newcomer();
        person.user.email = Some(Email::parse("email", "ada@example.com").expect("address"));
        let code = issue(&mut person);
        let ((factor, _, proof), call) = (person.new_totp(2), person.staff(Role::Helpdesk));
        let (delivery, url) =
            (DeliveryId::from_uuid(Uuid::from_u128(2)), Secret::new("https://x".to_owned()));
        let link = NewLink { factor, label: label("app"), proof, delivery, url };

        person.user.send_enrolment_link(&link, false, &person.policy, &call).expect("sent");

        assert_eq!(redeem(&mut person, &code), None);
        assert_eq!(person.user.factors.len(), 1);
        let code = issue(&mut person);
        assert!(person.user.factor_behind_link(factor, &person.policy, person.now).is_none());
        assert_eq!(person.user.take_withdrawals().len(), 1);
        assert!(redeem(&mut person, &code).is_some());
    }

    #[test]
    fn policy_forbids_apps() {
        let mut person = newcomer();
        let code = issue(&mut person);
        person.policy.kinds.remove(&Kind::Totp);

        assert_eq!(redeem(&mut person, &code), None);
        assert_eq!(issue_for(&mut person, CODE_LIFE), Err(Refusal::KindForbidden(Kind::Totp)));
    }
}
