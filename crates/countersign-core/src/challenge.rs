//! Codes we send: drawn, kept as a keyed hash, good once, for one purpose, for a while and for a few tries.
//!
//! A challenge belongs to one factor, and each factor has at most one: a newer code ends the one before (NIST SP
//! 800-63B-4 §3.1.3.2; OWASP ASVS 5.0 6.5.4, 6.5.5, 6.6.2).

use crate::{
    attempt::{Code, Target},
    destination::Destination,
    event::{Action, Call, Note},
    factor::{Factor, Held, Kind, Pending, Proof},
    id::{ChallengeId, DeliveryId, FactorId, LoginId},
    keyring::{Binding, KeyError, Keyring, Purpose, Tag},
    message::{CodePurpose, Message, Words},
    policy::Policy,
    profile::Label,
    refusal::Refusal,
    secret::Secret,
    time::Timestamp,
    user::{Status, User},
};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

/// The digits of a code: 20 bits of entropy with the tries bounded (NIST SP 800-63B-4 §3.1.3.2).
pub const CODE_DIGITS: usize = 6;
/// Wrong codes after which a challenge accepts none.
pub const CHALLENGE_TRIES: u8 = 5;

/// A code that was sent and is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The challenge's id. Sending again keeps it.
    pub id: ChallengeId,
    /// The factor whose destination the code went to.
    pub factor: FactorId,
    /// What the code is for.
    pub purpose: CodePurpose,
    /// The sign-in it finishes, if it is for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginId>,
    /// The message that carries the newest code.
    pub delivery: DeliveryId,
    /// The keyed hash of the newest code.
    code: Tag,
    /// When the newest code was drawn.
    pub sent_at: Timestamp,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// Wrong codes since.
    #[serde(default)]
    failures: u8,
    /// When it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used_at: Option<Timestamp>,
}

/// A code drawn for a challenge, before the change: rules have no randomness of their own.
#[derive(Debug, Clone)]
pub struct NewCode {
    /// The id the challenge gets, unless the code is for one that stands.
    pub challenge: ChallengeId,
    /// The id of the message that carries the code.
    pub delivery: DeliveryId,
    code: Secret<String>,
}

impl NewCode {
    /// Draws a code; each is as likely as any other.
    pub fn draw(now: Timestamp, rng: &mut impl CryptoRng) -> Self {
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
        Self {
            challenge: ChallengeId::generate(now, rng),
            delivery: DeliveryId::generate(now, rng),
            code: format!("{number:0CODE_DIGITS$}").into(),
        }
    }

    /// Returns the digits, for the message.
    pub const fn digits(&self) -> &Secret<String> {
        &self.code
    }
}

/// Which of a person's factors a code is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient {
    /// The first one in use of this kind.
    Kind(Kind),
    /// This one; one that waits for its first code gets another.
    Factor(FactorId),
    /// The one of this challenge, which goes on with another code.
    Challenge(ChallengeId),
}

/// What comparing a code with a challenge found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is the code, and good.
    Fresh,
    /// It is the code, and was used.
    Used,
    /// It is the code, and comes too late or after too many wrong ones.
    Expired,
    /// It is not the code, or not one for this.
    Wrong,
}

impl Challenge {
    /// Tells whether it still accepts its code.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.used_at.is_none() && self.failures < CHALLENGE_TRIES && now < self.expires_at
    }

    /// Tells whether its code was used.
    pub const fn is_used(&self) -> bool {
        self.used_at.is_some()
    }
}

fn binding(user: &User, id: ChallengeId) -> Binding {
    Binding::of_user(Purpose::ChallengeCode, user.organisation, user.id, id.uuid())
}

/// What the keyed hash covers beside the challenge's id: a code serves one factor, one purpose and one sign-in.
fn message(factor: FactorId, purpose: CodePurpose, login: Option<LoginId>, code: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    message.extend_from_slice(factor.uuid().as_bytes());
    message.extend_from_slice(login.map_or_else(uuid::Uuid::nil, LoginId::uuid).as_bytes());
    message.extend_from_slice(purpose.name().as_bytes());
    message.push(0);
    message.extend_from_slice(code.as_bytes());
    message
}

impl User {
    /// Enrols a factor whose codes are sent, and sends the first one, which confirms the destination.
    #[expect(clippy::too_many_arguments, reason = "the factor and the code each bring theirs")]
    pub fn enrol_sent(
        &mut self,
        id: FactorId,
        label: Label,
        destination: Destination,
        new: &NewCode,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Challenge, Refusal> {
        // First, for what follows tells where the person's codes go.
        self.check_managed_by(call)?;
        if self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        self.check_takes(&destination, policy)?;
        self.enrol(id, label, Proof::Sent(destination), policy, call)?;
        self.send_code(id, new.challenge, CodePurpose::Activation, None, new, policy, keys, call)
    }

    /// Sends a code to one of the person's factors.
    pub fn challenge(
        &mut self,
        recipient: Recipient,
        new: &NewCode,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Challenge, Refusal> {
        self.challenge_for(None, recipient, new, policy, keys, call)
    }

    /// Like [`User::challenge`]; with a login, for finishing it, and never to a factor that waits for its first code
    /// unless that was enrolled to finish it.
    pub(crate) fn challenge_for(
        &mut self,
        login: Option<LoginId>,
        recipient: Recipient,
        new: &NewCode,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Challenge, Refusal> {
        if self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        let (factor, id) = match recipient {
            Recipient::Kind(kind) => (self.first_of(kind, policy)?, new.challenge),
            Recipient::Factor(factor) => (factor, new.challenge),
            Recipient::Challenge(id) => (self.open_challenge(id, login)?.factor, id),
        };
        let held = self.factor(factor)?;
        if !policy.allows(held.kind()) {
            return Err(Refusal::KindForbidden(held.kind()));
        }
        let purpose = match held {
            Factor::Pending(held) if held.state.expires_at <= call.now => return Err(Refusal::NoSuchFactor),
            Factor::Pending(_) => {
                self.check_managed_by(call)?;
                CodePurpose::Activation
            }
            Factor::Active(_) if login.is_some() => CodePurpose::SignIn,
            Factor::Active(_) => CodePurpose::Verification,
            disabled @ Factor::Disabled(_) => return Err(disabled.wrong_state()),
        };
        let login = login.filter(|_| purpose == CodePurpose::SignIn);
        self.send_code(factor, id, purpose, login, new, policy, keys, call)
    }

    fn first_of(&self, kind: Kind, policy: &Policy) -> Result<FactorId, Refusal> {
        if kind.channel().is_none() {
            return Err(Refusal::NothingIsSent(kind));
        }
        if !policy.allows(kind) {
            return Err(Refusal::KindForbidden(kind));
        }
        let found = self.active_factors().find(|held| held.proof.kind() == kind);
        found.map(|held| held.id).ok_or(Refusal::NoSuchFactor)
    }

    /// Returns a challenge that may get another code: one whose purpose is not fulfilled yet.
    fn open_challenge(&self, id: ChallengeId, login: Option<LoginId>) -> Result<&Challenge, Refusal> {
        let found = self.find_challenge(id)?;
        let is_for_this = found.purpose == CodePurpose::Activation || found.login == login;
        if !is_for_this {
            return Err(Refusal::NoSuchChallenge);
        }
        if found.is_used() {
            return Err(Refusal::ChallengeUsed);
        }
        Ok(found)
    }

    /// Returns a challenge, whether or not it still accepts its code.
    pub fn find_challenge(&self, id: ChallengeId) -> Result<&Challenge, Refusal> {
        self.challenges.iter().find(|challenge| challenge.id == id).ok_or(Refusal::NoSuchChallenge)
    }

    #[expect(clippy::too_many_arguments, reason = "all of it goes into the challenge")]
    fn send_code(
        &mut self,
        factor: FactorId,
        id: ChallengeId,
        purpose: CodePurpose,
        login: Option<LoginId>,
        new: &NewCode,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Challenge, Refusal> {
        let held = self.factor(factor)?;
        let kind = held.kind();
        let Proof::Sent(to) = held.proof().clone() else { return Err(Refusal::NothingIsSent(kind)) };
        let method = kind.method();
        if let Some(until) = self.locks.is_locked(method, call.now) {
            return Err(Refusal::Locked(method, until));
        }
        policy.destinations.check(&to)?;
        let log = self.sent.entry(method).or_default();
        log.admit(&policy.resend, call.now).map_err(Refusal::TooSoon)?;

        let digits = message(factor, purpose, login, new.code.expose());
        let challenge = Challenge {
            id,
            factor,
            purpose,
            login,
            delivery: new.delivery,
            code: keys.tag(&binding(self, id), None, &digits)?,
            sent_at: call.now,
            expires_at: call.now.after(policy.code_life()),
            failures: 0,
            used_at: None,
        };
        self.end_challenge_of(factor, call);
        self.challenges.push(challenge.clone());

        let note = Note::new(Action::ChallengeSent).factor(factor).kind(kind).method(method);
        let note = note.detail("challenge", id.to_string()).detail("purpose", purpose.name());
        self.record(call, note.detail("destination", to.masked()));
        self.post(Message {
            id: new.delivery,
            organisation: self.organisation,
            user: Some(self.id),
            challenge: Some(id),
            limit: Some(policy.resend),
            to,
            or_else: Vec::new(),
            locale: self.locale.clone(),
            name: self.greeting().to_owned(),
            at: call.now,
            expires_at: challenge.expires_at,
            words: Words::Code { code: new.code.clone(), purpose },
        });
        Ok(challenge)
    }

    /// Ends the challenge of a factor, and the link to set it up: there is a newer one, or the factor is gone.
    pub(crate) fn end_challenge_of(&mut self, factor: FactorId, call: &Call) {
        if let Some(place) = self.challenges.iter().position(|challenge| challenge.factor == factor) {
            let ended = self.challenges.remove(place);
            self.withdraw(ended.delivery, call);
        }
        self.end_enrolment_of(factor, call);
    }

    /// Ends all challenges and the open enrolment: the factors are gone, or the person is switched off.
    pub(crate) fn end_challenges(&mut self, call: &Call) {
        for ended in std::mem::take(&mut self.challenges) {
            self.withdraw(ended.delivery, call);
        }
        self.end_enrolment(call);
    }

    /// Compares the first code of a factor that waits for it.
    pub(crate) fn check_first_sent(
        &self,
        held: &Held<Pending>,
        code: &Code,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Answer, KeyError> {
        match self.challenges.iter().find(|challenge| challenge.factor == held.id) {
            Some(challenge) => self.compare(challenge, CodePurpose::Activation, None, code, keys, call),
            None => Ok(Answer::Wrong),
        }
    }

    /// Returns the challenge, of those a target covers, that a code answers best, with how it does.
    pub(crate) fn find_sent(
        &self,
        code: &Code,
        target: Target,
        login: Option<LoginId>,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<(Answer, Option<&Challenge>), KeyError> {
        let purpose = if login.is_some() { CodePurpose::SignIn } else { CodePurpose::Verification };
        let mut best = (Answer::Wrong, None);
        for challenge in self.challenges.iter().filter(|challenge| self.is_meant(challenge, target)) {
            match self.compare(challenge, purpose, login, code, keys, call)? {
                Answer::Fresh => return Ok((Answer::Fresh, Some(challenge))),
                Answer::Wrong => {}
                other => best = (other, Some(challenge)),
            }
        }
        Ok(best)
    }

    /// Counts a wrong code against the open challenges it was tried at.
    pub(crate) fn count_tries(&mut self, target: Target) {
        let meant: Vec<ChallengeId> = self
            .challenges
            .iter()
            .filter(|challenge| self.is_meant(challenge, target))
            .map(|challenge| challenge.id)
            .collect();
        for challenge in self.challenges.iter_mut().filter(|challenge| meant.contains(&challenge.id)) {
            challenge.failures = challenge.failures.saturating_add(1);
        }
    }

    /// Uses up a challenge. What is still tried, because nobody knows that it arrived, need not arrive twice.
    pub(crate) fn burn_challenge(&mut self, id: ChallengeId, call: &Call) {
        if let Some(challenge) = self.challenges.iter_mut().find(|challenge| challenge.id == id) {
            challenge.used_at = Some(call.now);
            let delivery = challenge.delivery;
            self.withdraw(delivery, call);
        }
    }

    fn is_meant(&self, challenge: &Challenge, target: Target) -> bool {
        match target {
            Target::AnyOtp | Target::Any => false,
            Target::Challenge(id) => challenge.id == id,
            Target::Factor(factor) => challenge.factor == factor,
            Target::Kind(kind) => self.factor(challenge.factor).is_ok_and(|factor| factor.kind() == kind),
        }
    }

    fn compare(
        &self,
        challenge: &Challenge,
        purpose: CodePurpose,
        login: Option<LoginId>,
        code: &Code,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Answer, KeyError> {
        let typed = message(challenge.factor, challenge.purpose, challenge.login, code.as_str());
        if !keys.matches(&binding(self, challenge.id), &challenge.code, &typed)? {
            return Ok(Answer::Wrong);
        }
        Ok(if challenge.is_used() {
            Answer::Used
        } else if (challenge.purpose, challenge.login) != (purpose, login) {
            Answer::Wrong
        } else if challenge.is_open(call.now) {
            Answer::Fresh
        } else {
            Answer::Expired
        })
    }

    /// Refuses a destination that policy does not take, or that a factor has: a second one would only double what can be
    /// sent there and guessed.
    pub(crate) fn check_takes(&self, destination: &Destination, policy: &Policy) -> Result<(), Refusal> {
        policy.destinations.check(destination)?;
        let is_held = self.factors.iter().any(|factor| match (factor, factor.proof()) {
            (Factor::Active(_) | Factor::Disabled(_), Proof::Sent(held)) => held.key() == destination.key(),
            _ => false,
        });
        if is_held { Err(Refusal::Taken("destination")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Channel;
    use crate::{
        enrolment::Activation,
        id::LoginId,
        lock::Until,
        message::{Letter, Notice},
        session::SecondStep,
        testing::{OpenKeyring, Person, WRONG, attempt, label, new_session, newcomer, rng, typed},
        verify::{Reason, Verdict},
    };
    use std::{collections::BTreeMap, time::Duration};
    use uuid::Uuid;

    const NUMBER: &str = "+4915112345678";

    fn with_sms() -> (Person, FactorId) {
        let mut person = Person::new();
        let factor = person.sent_factor(50, Channel::Sms, NUMBER);
        person.letters();
        person.happened();
        (person, factor)
    }

    fn enrol(person: &mut Person, number: u128) -> Result<(Challenge, String), Refusal> {
        let id = FactorId::from_uuid(Uuid::from_u128(number));
        let to = Destination::parse(Channel::Sms, "destination", NUMBER)?;
        let new = NewCode::draw(person.now, &mut rng(number as u64));
        let call = person.client();
        let user = &mut person.user;
        let challenge = user.enrol_sent(id, label("phone"), to, &new, &person.policy, &OpenKeyring, &call)?;
        Ok((challenge, new.digits().expose().clone()))
    }

    fn accepted(factor: FactorId) -> Verdict {
        Verdict::Accepted { factor: Some(factor), kind: Kind::Sms }
    }

    fn wrong(attempts_left: u32) -> Verdict {
        Verdict::Rejected { reason: Reason::WrongCode, attempts_left }
    }

    fn code_in(letters: &[Letter]) -> (String, CodePurpose) {
        match &letters.last().expect("a letter").words {
            Words::Code { code, purpose } => (code.expose().clone(), *purpose),
            other => panic!("{other:?}"),
        }
    }

    fn withdrawn(person: &mut Person) -> Vec<DeliveryId> {
        person.user.take_withdrawals().into_iter().map(|withdrawal| withdrawal.id).collect()
    }

    #[test]
    fn the_code_that_was_sent_activates_the_factor_once() {
        let mut person = newcomer();

        let (challenge, code) = enrol(&mut person, 1).expect("enrol");
        let letters = person.letters();
        let activation = person.activate(challenge.factor, &code);

        assert_eq!(code_in(&letters), (code.clone(), CodePurpose::Activation));
        assert_eq!(letters[0].to.full(), NUMBER);
        assert_eq!(activation, Activation::Activated);
        assert_eq!(withdrawn(&mut person), [challenge.delivery]);
        assert!(person.user.mfa_enabled);
        assert_eq!(person.verify(&code, Target::Kind(Kind::Sms)), Verdict::Replayed);
        assert_eq!(person.user.locks.failures(), 0);
    }

    #[test]
    fn a_first_code_lapses_but_another_one_can_be_sent() {
        let mut person = newcomer();
        person.policy.enrolment_seconds = 3600;
        let (challenge, code) = enrol(&mut person, 1).expect("enrol");
        person.wait(600);

        assert_eq!(person.activate(challenge.factor, &code), Activation::Expired);
        let (again, code) = person.challenge(Recipient::Factor(challenge.factor)).expect("again");
        assert_eq!(again.purpose, CodePurpose::Activation);
        assert_eq!(person.activate(challenge.factor, &code), Activation::Activated);
    }

    #[test]
    fn five_wrong_first_codes_drop_the_factor_and_its_challenge() {
        let mut person = newcomer();
        let (challenge, _) = enrol(&mut person, 1).expect("enrol");

        for left in (0..5).rev() {
            let wrong = Activation::Rejected { attempts_left: left };
            assert_eq!(person.activate(challenge.factor, WRONG), wrong);
        }

        assert!(person.user.factors.is_empty() && person.user.challenges.is_empty());
    }

    #[test]
    fn a_code_is_accepted_once_by_kind_factor_or_challenge() {
        for way in 0..3 {
            let (mut person, factor) = with_sms();
            let (challenge, code) = person.challenge(Recipient::Kind(Kind::Sms)).expect("challenge");
            let target =
                [Target::Kind(Kind::Sms), Target::Factor(factor), Target::Challenge(challenge.id)][way];

            assert_eq!(person.verify(&code, target), accepted(factor));
            assert_eq!(person.verify(&code, target), Verdict::Replayed);
            assert_eq!(
                person.user.active_factor(factor).expect("factor").state.last_used_at,
                Some(person.now)
            );
            let happened = ["challenge.sent", "verify.accepted", "verify.rejected: replayed"];
            assert_eq!(person.happened(), happened);
        }
    }

    #[test]
    fn a_newer_code_ends_the_one_before() {
        let (mut person, factor) = with_sms();
        let (first, old) = person.challenge(Recipient::Factor(factor)).expect("first");
        person.wait(30);
        let (second, new) = person.challenge(Recipient::Factor(factor)).expect("second");

        assert_eq!(person.verify(&old, Target::Challenge(first.id)), Verdict::Expired);
        assert_eq!(person.verify(&old, Target::Challenge(second.id)), wrong(4));
        assert_eq!(person.verify(&new, Target::Challenge(second.id)), accepted(factor));
    }

    #[test]
    fn sending_again_keeps_the_challenge_and_replaces_its_message() {
        let (mut person, factor) = with_sms();
        let (first, old) = person.challenge(Recipient::Factor(factor)).expect("first");
        person.letters();
        person.wait(30);

        let (again, new) = person.challenge(Recipient::Challenge(first.id)).expect("again");

        assert_eq!((again.id, again.factor), (first.id, factor));
        assert_eq!(withdrawn(&mut person), [first.delivery]);
        assert_eq!(person.verify(&old, Target::Challenge(first.id)), wrong(4));
        assert_eq!(person.verify(&new, Target::Challenge(first.id)), accepted(factor));
        assert_eq!(person.challenge(Recipient::Challenge(first.id)), Err(Refusal::ChallengeUsed));
    }

    #[test]
    fn a_code_lapses_after_ten_minutes() {
        let (mut person, factor) = with_sms();
        let (_, code) = person.challenge(Recipient::Factor(factor)).expect("challenge");
        person.wait(599);
        let mut in_time = Person { user: person.user.clone(), ..Person::new() };
        in_time.now = person.now;
        person.wait(1);

        assert_eq!(in_time.verify(&code, Target::Factor(factor)), accepted(factor));
        assert_eq!(person.verify(&code, Target::Factor(factor)), Verdict::Expired);
        assert_eq!(person.user.locks.failures(), 0);
    }

    #[test]
    fn five_wrong_codes_lock_their_method_only() {
        let (mut person, factor) = with_sms();
        let (_, code) = person.challenge(Recipient::Factor(factor)).expect("challenge");

        for left in (1..5).rev() {
            assert_eq!(person.verify(WRONG, Target::Kind(Kind::Sms)), wrong(left));
        }
        let fifth = person.verify(WRONG, Target::Kind(Kind::Sms));
        let right = person.verify(&code, Target::Kind(Kind::Sms));

        let until = Until::Time(person.now.after(Duration::from_secs(30)));
        assert_eq!(fifth, Verdict::Locked { method: crate::Method::Sms, until });
        assert_eq!(right, fifth);
        let refused = person.challenge(Recipient::Kind(Kind::Sms));
        assert_eq!(refused, Err(Refusal::Locked(crate::Method::Sms, until)));
        let totp = person.totp_code(0);
        assert!(person.verify(&totp, Target::AnyOtp).is_accepted());
    }

    #[test]
    fn a_challenge_takes_five_wrong_codes_whatever_the_lock_allows() {
        let (mut person, factor) = with_sms();
        person.policy.locks.threshold = 50;
        let (challenge, code) = person.challenge(Recipient::Factor(factor)).expect("challenge");

        for _ in 0..CHALLENGE_TRIES {
            assert!(matches!(person.fail(Target::Challenge(challenge.id)), Verdict::Rejected { .. }));
        }

        assert_eq!(person.verify(&code, Target::Challenge(challenge.id)), Verdict::Expired);
    }

    #[test]
    fn a_code_typed_where_none_was_sent_is_wrong_and_counted() {
        let (mut person, factor) = with_sms();

        assert_eq!(person.verify(WRONG, Target::Factor(factor)), wrong(4));
        let nobodys = Target::Challenge(ChallengeId::from_uuid(Uuid::from_u128(9)));
        assert_eq!(person.verify(WRONG, nobodys), Verdict::Expired);
        assert_eq!(person.user.locks.failures(), 1);
    }

    #[test]
    fn a_sent_code_is_no_otp_and_an_otp_is_no_sent_code() {
        let (mut person, factor) = with_sms();
        let (_, code) = person.challenge(Recipient::Factor(factor)).expect("challenge");
        let totp = person.totp_code(0);

        assert_eq!(person.verify(&code, Target::AnyOtp), wrong(4));
        assert_eq!(person.verify(&totp, Target::Kind(Kind::Sms)), wrong(4));
        assert!(person.verify(&totp, Target::AnyOtp).is_accepted());
        assert_eq!(person.verify(&code, Target::Factor(factor)), accepted(factor));
    }

    #[test]
    fn who_has_only_a_phone_has_nothing_to_try_an_app_code_against() {
        let mut person = newcomer();
        person.sent_factor(50, Channel::Sms, NUMBER);

        assert_eq!(person.fail(Target::AnyOtp), Verdict::NoFactor);
        assert_eq!(person.user.locks.failures(), 0);
    }

    #[test]
    fn a_code_serves_its_purpose_only() {
        let (mut person, factor) = with_sms();
        person.set_password();
        let logins: Vec<LoginId> = (1..=2).map(|number| person.open_login(number)).collect();
        let new = NewCode::draw(person.now, &mut rng(5));
        let (code, call) = (new.digits().expose().clone(), person.themselves(false));
        let recipient = Recipient::Kind(Kind::Sms);
        let user = &mut person.user;
        let challenge = user
            .challenge_in_login(logins[0], recipient, &new, &person.policy, &OpenKeyring, &call)
            .expect("challenge");

        let target = Target::Challenge(challenge.id);
        let second_step = |person: &mut Person, login| {
            let call = person.nobody();
            let typed = attempt(&code, target);
            let session = new_session(9).session;
            person.user.second_step(login, &typed, session, &person.policy, &OpenKeyring, &call)
        };

        assert_eq!(person.verify(&code, target), wrong(4));
        assert_eq!(second_step(&mut person, logins[1]), Ok(SecondStep::Refused(wrong(3))));
        let outcome = second_step(&mut person, logins[0]);
        let Ok(SecondStep::Session(session)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(session.amr, ["pwd", "otp", "sms", "mca", "mfa"]);
        // Whoever verifies cannot have the code of a sign-in sent to them once more.
        assert_eq!(challenge.purpose, CodePurpose::SignIn);
        assert_eq!(person.challenge(Recipient::Challenge(challenge.id)), Err(Refusal::NoSuchChallenge));
        assert_eq!(challenge.factor, factor);
    }

    #[test]
    fn codes_are_sent_a_pause_apart_and_five_an_hour_by_each_method() {
        let (mut person, factor) = with_sms();
        let mail = person.sent_factor(51, Channel::Mail, "ada@example.com");
        let mut sent = 0;
        for _ in 0..100 {
            sent += usize::from(person.challenge(Recipient::Factor(factor)).is_ok());
            person.wait(20);
        }

        assert_eq!(sent, 5);
        assert!(person.challenge(Recipient::Factor(mail)).is_ok());
        let refused = person.challenge(Recipient::Factor(mail));
        assert_eq!(refused, Err(Refusal::TooSoon(Duration::from_secs(30))));
    }

    #[test]
    fn nothing_is_sent_to_whom_it_must_not_be() {
        let (mut person, factor) = with_sms();
        let staff = person.staff(crate::Role::Admin);

        assert_eq!(person.challenge(Recipient::Kind(Kind::Totp)), Err(Refusal::NothingIsSent(Kind::Totp)));
        assert_eq!(person.challenge(Recipient::Factor(person.totp)), Err(Refusal::NothingIsSent(Kind::Totp)));
        assert_eq!(person.challenge(Recipient::Kind(Kind::Voice)), Err(Refusal::NoSuchFactor));
        person.policy.kinds.remove(&Kind::Sms);
        assert_eq!(person.challenge(Recipient::Factor(factor)), Err(Refusal::KindForbidden(Kind::Sms)));
        person.policy.kinds.insert(Kind::Sms);
        person.policy.destinations.countries = ["FR".to_owned()].into();
        let refused = Refusal::DestinationForbidden("numbers of this country");
        assert_eq!(person.challenge(Recipient::Factor(factor)), Err(refused));
        person.policy.destinations.countries.clear();
        person.user.disable_factor(factor, &person.policy, &staff).expect("disable");
        assert_eq!(person.challenge(Recipient::Factor(factor)), Err(Refusal::WrongState("disabled")));
        person.user.status = Status::Disabled;
        assert_eq!(person.challenge(Recipient::Factor(factor)), Err(Refusal::UserDisabled));
        assert!(person.user.challenges.is_empty());
    }

    #[test]
    fn one_destination_is_one_factor() {
        let (mut person, _) = with_sms();

        assert_eq!(enrol(&mut person, 60).map(drop), Err(Refusal::Taken("destination")));
    }

    // Who may not enrol anything learnt by it whether a number was the person's.
    #[test]
    fn who_may_not_enrol_does_not_learn_where_codes_go() {
        let (mut person, _) = with_sms();
        person.user.roles = crate::role::Roles::new([crate::Role::Admin]);
        let id = FactorId::from_uuid(Uuid::from_u128(60));
        let to = Destination::parse(Channel::Sms, "destination", NUMBER).expect("destination");
        let (weak, helpdesk) = (person.themselves(false), person.staff(crate::Role::Helpdesk));

        for (call, refused) in
            [(weak, Refusal::SecondFactorNeeded), (helpdesk, Refusal::AboveYourRank(crate::Role::Admin))]
        {
            let (new, to) = (NewCode::draw(person.now, &mut rng(60)), to.clone());
            let (user, policy) = (&mut person.user, &person.policy);
            let enrolled = user.enrol_sent(id, label("phone"), to, &new, policy, &OpenKeyring, &call);
            assert_eq!(enrolled, Err(refused));
        }
    }

    // Two that waited for their first code were both activated.
    #[test]
    fn one_destination_is_one_factor_also_for_those_that_wait() {
        let mut person = newcomer();
        let (first, code) = enrol(&mut person, 1).expect("enrol");
        person.wait(30);
        let (second, newer) = enrol(&mut person, 2).expect("enrol");
        assert_eq!(person.activate(first.factor, &code), Activation::Activated);

        let (call, policy) = (person.client(), person.policy.clone());
        let user = &mut person.user;
        let again = user.activate(second.factor, &typed(&newer), &policy, &OpenKeyring, &call);

        assert_eq!(again, Err(Refusal::Taken("destination")));
        assert_eq!(person.user.active_factors().count(), 1);
    }

    // A number that policy no longer takes became a factor nothing is sent to.
    #[test]
    fn policy_forbids_a_destination_before_its_first_code_comes() {
        let mut person = newcomer();
        let (challenge, code) = enrol(&mut person, 1).expect("enrol");
        person.policy.destinations.countries = ["FR".to_owned()].into();

        let (call, policy) = (person.client(), person.policy.clone());
        let code = typed(&code);
        let activated = person.user.activate(challenge.factor, &code, &policy, &OpenKeyring, &call);

        assert_eq!(activated, Err(Refusal::DestinationForbidden("numbers of this country")));
    }

    // A session without a second factor could have the first codes of whoever enrols end, one after the other.
    #[test]
    fn who_may_not_enrol_has_no_first_code_sent() {
        let (mut person, _) = with_sms();
        let id = FactorId::from_uuid(Uuid::from_u128(60));
        let to = Destination::parse(Channel::Voice, "destination", NUMBER).expect("destination");
        let (new, call) = (NewCode::draw(person.now, &mut rng(60)), person.client());
        let (user, policy) = (&mut person.user, &person.policy);
        let first =
            user.enrol_sent(id, label("phone"), to, &new, policy, &OpenKeyring, &call).expect("enrol");
        person.wait(30);

        let weak = person.themselves(false);
        for recipient in [Recipient::Factor(id), Recipient::Challenge(first.id)] {
            let new = NewCode::draw(person.now, &mut rng(61));
            let sent = person.user.challenge(recipient, &new, &person.policy, &OpenKeyring, &weak);
            assert_eq!(sent, Err(Refusal::SecondFactorNeeded), "{recipient:?}");
        }
        assert!(person.challenge(Recipient::Factor(id)).is_ok());
    }

    // Enrolling a number for somebody who is switched off sent a code to it.
    #[test]
    fn nothing_is_sent_for_whom_is_switched_off_not_even_a_first_code() {
        let mut person = newcomer();
        person.user.status = Status::Disabled;

        assert_eq!(enrol(&mut person, 1).map(drop), Err(Refusal::UserDisabled));
    }

    // Naming the challenge instead of the factor went around the check.
    #[test]
    fn a_password_alone_has_no_first_code_sent_beside_the_factors_there_are() {
        let (mut person, _) = with_sms();
        person.set_password();
        let id = FactorId::from_uuid(Uuid::from_u128(60));
        let to = Destination::parse(Channel::Voice, "destination", NUMBER).expect("destination");
        let (new, call) = (NewCode::draw(person.now, &mut rng(60)), person.client());
        let (user, policy) = (&mut person.user, &person.policy);
        let first =
            user.enrol_sent(id, label("phone"), to, &new, policy, &OpenKeyring, &call).expect("enrol");
        let login = person.open_login(1);
        person.wait(30);

        for recipient in [Recipient::Factor(id), Recipient::Challenge(first.id)] {
            let (new, call) = (NewCode::draw(person.now, &mut rng(61)), person.themselves(false));
            let user = &mut person.user;
            let sent = user.challenge_in_login(login, recipient, &new, &person.policy, &OpenKeyring, &call);
            assert_eq!(sent.map(drop), Err(Refusal::SecondFactorNeeded), "{recipient:?}");
        }
    }

    // The code went out all the same, to whom it was of no use any more.
    #[test]
    fn a_factor_that_goes_takes_its_challenge_along() {
        for way in 0..4 {
            let (mut person, factor) = with_sms();
            let (challenge, code) = person.challenge(Recipient::Factor(factor)).expect("challenge");
            let (call, policy) = (person.staff(crate::Role::Admin), person.policy.clone());
            match way {
                0 => person.user.delete_factor(factor, &policy, &call),
                1 => person.user.disable_factor(factor, &policy, &call),
                2 => person.user.reset(&policy, &call),
                _ => {
                    let status = Some(Status::Disabled);
                    person.user.update(crate::user::UserPatch { status, ..Default::default() }, &call)
                }
            }
            .expect("gone");

            assert!(person.user.challenges.is_empty());
            assert_eq!(withdrawn(&mut person), [challenge.delivery]);
            person.user.status = Status::Active;
            assert_eq!(person.verify(&code, Target::Challenge(challenge.id)), Verdict::Expired);
        }
    }

    #[test]
    fn neither_code_nor_number_shows_in_document_or_events() {
        let (mut person, factor) = with_sms();
        let (_, code) = person.challenge(Recipient::Factor(factor)).expect("challenge");
        person.verify(&code, Target::Factor(factor));

        let events: Vec<u8> = person.user.take_records().into_iter().flat_map(|record| record.body).collect();
        let events = String::from_utf8(events).expect("json");
        let document = String::from_utf8(person.user.to_json()).expect("json");
        assert!(!events.contains(&code) && !document.contains(&code));
        assert!(!events.contains("15112345678") && events.contains("+49•••••••••78"), "{events}");
        assert!(!format!("{:?}", person.letters()).contains(&code));
    }

    #[test]
    fn a_code_without_a_provider_is_refused_and_a_notice_is_dropped() {
        let (mut person, factor) = with_sms();
        person.challenge(Recipient::Factor(factor)).expect("challenge");

        let sealed = person.user.seal_messages(crate::testing::sender(), &OpenKeyring, |_| false);

        assert_eq!(sealed, Err(Refusal::NoProvider(Channel::Sms)));
    }

    #[test]
    fn every_code_is_as_likely_as_any_other() {
        let mut rng = rng(3);
        let mut firsts: BTreeMap<char, usize> = BTreeMap::new();
        for _ in 0..20_000 {
            let new = NewCode::draw(crate::testing::START, &mut rng);
            let digits = new.digits().expose();
            assert!(digits.len() == CODE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()));
            *firsts.entry(digits.chars().next().expect("a digit")).or_default() += 1;
        }
        // Each about 2000; six standard deviations are 255.
        assert!(
            firsts.len() == 10 && firsts.values().all(|count| (1745..=2255).contains(count)),
            "{firsts:?}"
        );
    }

    #[test]
    fn notices_say_what_happened_and_go_where_nothing_changed() {
        let (mut person, factor) = with_sms();
        let (call, policy) = (person.staff(crate::Role::Admin), person.policy.clone());
        let told = |person: &mut Person| -> Vec<(String, String)> {
            let told = |letter: Letter| (letter.words.name().to_owned(), letter.to.full().to_owned());
            person.letters().into_iter().map(told).collect()
        };
        let pair = |what: Notice, to: &str| (what.name().to_owned(), to.to_owned());

        let mail = person.sent_factor(51, Channel::Mail, "ada@example.com");
        assert_eq!(told(&mut person), [pair(Notice::FactorAdded, NUMBER)]);
        person.user.delete_factor(person.totp, &policy, &call).expect("delete");
        assert_eq!(told(&mut person), [pair(Notice::FactorRemoved, "ada@example.com")]);
        person.user.delete_factor(mail, &policy, &call).expect("delete");
        assert_eq!(told(&mut person), [pair(Notice::FactorRemoved, NUMBER)]);
        let recovery = person.recovery[0].canonical().to_owned();
        person.verify(&recovery, Target::Kind(Kind::Recovery));
        assert_eq!(told(&mut person), [pair(Notice::RecoveryCodeUsed, NUMBER)]);
        person.lock(Target::AnyOtp);
        assert_eq!(told(&mut person), [pair(Notice::MethodLocked, NUMBER)]);
        person.set_password();
        let login = person.open_login(1);
        let typed = attempt(person.recovery[1].canonical(), Target::Kind(Kind::Recovery));
        let (nobody, session) = (person.nobody(), new_session(9).session);
        person.user.second_step(login, &typed, session, &policy, &OpenKeyring, &nobody).expect("step");
        assert_eq!(told(&mut person), [pair(Notice::RecoverySignIn, NUMBER)]);
        // The only place there was is told that it no longer is one.
        person.user.delete_factor(factor, &policy, &call).expect("delete");
        assert_eq!(told(&mut person), [pair(Notice::FactorRemoved, NUMBER)]);
        person.sent_factor(52, Channel::Sms, NUMBER);
        assert_eq!(told(&mut person), []);
        person.user.reset(&policy, &call).expect("reset");
        assert_eq!(told(&mut person), [pair(Notice::FactorsReset, NUMBER)]);
    }

    #[test]
    fn a_changed_address_is_told_to_the_one_before() {
        let mut person = newcomer();
        let staff = person.staff(crate::Role::Admin);
        let to = |text: &str| crate::user::UserPatch {
            email: Some(Some(crate::profile::Email::parse("email", text).expect("email"))),
            ..Default::default()
        };
        person.user.update(to("old@example.com"), &staff).expect("set");
        assert!(person.letters().is_empty());

        person.user.update(to("new@example.com"), &staff).expect("change");

        let letters = person.letters();
        assert_eq!(letters[0].words.name(), "address_changed");
        assert_eq!(letters[0].to.full(), "old@example.com");
    }

    #[test]
    fn a_changed_number_is_told_where_mail_goes_or_to_the_one_before() {
        let staff = newcomer().staff(crate::Role::Admin);
        let phone = |text: &str| Some(Some(crate::profile::Phone::parse("phone", text).expect("phone")));
        let email = |text: &str| Some(Some(crate::profile::Email::parse("email", text).expect("email")));
        let patch =
            |email, text: &str| crate::user::UserPatch { email, phone: phone(text), ..Default::default() };
        let places = |person: &mut Person| -> Vec<String> {
            person.letters().into_iter().map(|letter| letter.to.full().to_owned()).collect()
        };

        let mut person = newcomer();
        person.user.update(patch(None, NUMBER), &staff).expect("set");
        person.user.update(patch(None, "+12025550143"), &staff).expect("change");
        assert_eq!(places(&mut person), [NUMBER]);

        person.user.update(patch(email("old@example.com"), "+12025550143"), &staff).expect("set");
        person.user.update(patch(email("new@example.com"), NUMBER), &staff).expect("change both");
        // Two notices of one event are two messages.
        assert_eq!(places(&mut person), ["old@example.com", "new@example.com"]);
        person.user.update(patch(email("a@example.com"), "+12025550143"), &staff).expect("change both");
        person.user.seal_messages(crate::testing::sender(), &OpenKeyring, |_| true).expect("seal");
        let parcels = person.user.take_parcels().expect("sealed");
        assert_ne!(parcels[0].id, parcels[1].id);
    }
}
