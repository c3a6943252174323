//! A factor's life: enrolled, activated, renamed, disabled, enabled, resynchronised, deleted.

use crate::{
    attempt::Code,
    challenge::Answer,
    event::{Action, Call, Note},
    factor::{
        ACTIVATION_TRIES, Active, FACTOR_LIMIT, Factor, Held, Kind, PENDING_LIMIT, Pending, Proof,
        otp::{Check, OtpSecret},
    },
    id::{FactorId, OrganisationId, UserId},
    keyring::{Binding, KeyError, Keyring, Purpose, Sealed},
    lock::{Method, Until},
    message::Notice,
    policy::Policy,
    profile::Label,
    refusal::Refusal,
    time::Timestamp,
    user::{Status, User},
};
use std::time::Duration;

/// Seals the secret of one factor of one person.
pub fn seal_secret(
    keys: &impl Keyring,
    organisation: OrganisationId,
    user: UserId,
    factor: FactorId,
    secret: &OtpSecret,
) -> Result<Sealed, KeyError> {
    keys.seal(&Binding::of_user(Purpose::OtpSecret, organisation, user, factor.uuid()), secret.expose())
}

/// What a first code led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activation {
    /// The factor is in use.
    Activated,
    /// The code was wrong; after as many more tries the factor is dropped.
    Rejected {
        /// Tries that remain.
        attempts_left: u8,
    },
    /// The factor waited too long and is gone.
    Expired,
}

/// What two consecutive codes led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resync {
    /// The counter was found and both codes are used up.
    Found,
    /// The codes do not follow each other within the window.
    Rejected {
        /// Failures that remain before the method locks.
        attempts_left: u32,
    },
    /// The method is locked; nothing was tried.
    Locked(Until),
}

impl User {
    /// Enrols a factor that waits for its first code. Beyond [`PENDING_LIMIT`] the oldest waiting one makes room.
    pub fn enrol(
        &mut self,
        id: FactorId,
        label: Label,
        proof: Proof,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        self.await_first_code(id, label, proof, policy.enrolment_life(), policy, call).map(drop)
    }

    /// Adds a factor that waits for its first code, for a caller whose right to do so was checked; returns how long it
    /// waits.
    pub(crate) fn await_first_code(
        &mut self,
        id: FactorId,
        label: Label,
        proof: Proof,
        life: Duration,
        policy: &Policy,
        call: &Call,
    ) -> Result<Timestamp, Refusal> {
        self.drop_expired_factors(call);
        self.make_room_for_pending(call);
        self.check_room_for(proof.kind(), policy)?;

        let (expires_at, created_at) = (call.now.after(life), call.now);
        let note = Note::new(Action::FactorEnrolled).factor(id).kind(proof.kind());
        let state = Pending { expires_at, failures: 0, ticket: None };
        self.factors.push(Factor::Pending(Held { id, label, created_at, proof, state }));
        self.record(call, note);
        Ok(expires_at)
    }

    /// Brings in a factor whose seed is known already, ready for use. Nobody chooses their own seed (ASVS 5.0 6.4.6).
    pub fn import(
        &mut self,
        id: FactorId,
        label: Label,
        proof: Proof,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.check_managed_by_another(call)?;
        self.drop_expired_factors(call);
        self.check_room_for(proof.kind(), policy)?;

        let (kind, changed) = (proof.kind(), proof.destination().cloned());
        if let Some(destination) = &changed {
            self.check_takes(destination, policy)?;
        }
        let note = Note::new(Action::FactorImported).factor(id).kind(kind);
        let state = Active { activated_at: call.now, last_used_at: None };
        self.factors.push(Factor::Active(Held { id, label, created_at: call.now, proof, state }));
        self.mfa_enabled = true;
        self.record(call, note);
        self.notify(Notice::FactorAdded, Some(kind.name()), changed.as_slice(), call);
        Ok(())
    }

    /// Activates a waiting factor by its first code, and burns that code.
    pub fn activate(
        &mut self,
        id: FactorId,
        code: &Code,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Activation, Refusal> {
        self.check_managed_by(call)?;
        self.activate_pending(id, code, policy, keys, call)
    }

    /// Like [`User::activate`], for a caller whose right to do so was checked otherwise: by an open login.
    pub(crate) fn activate_pending(
        &mut self,
        id: FactorId,
        code: &Code,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Activation, Refusal> {
        let place = self.place_of(id)?;
        let Factor::Pending(held) = &self.factors[place] else {
            return Err(self.factors[place].wrong_state());
        };
        let kind = held.proof.kind();
        if !policy.allows(kind) {
            return Err(Refusal::KindForbidden(kind));
        }
        if held.state.expires_at <= call.now {
            self.drop_expired_factors(call);
            return Ok(Activation::Expired);
        }
        if let Some(destination) = held.proof.destination() {
            // Another factor, or policy, may have come first.
            self.check_takes(destination, policy)?;
        }
        let mut held = held.clone();
        let burnt = match held.proof.secret() {
            Some(sealed) => {
                let secret = self.open_secret(id, sealed, keys)?;
                match check(&held.proof, &secret, code, policy, call) {
                    Check::Fresh(moving_factor) => {
                        burn(&mut held.proof, moving_factor);
                        true
                    }
                    Check::Used | Check::Wrong => false,
                }
            }
            None => match self.check_first_sent(&held, code, keys, call)? {
                Answer::Fresh => true,
                Answer::Expired => return Ok(self.miss_activation(id, kind, call)),
                Answer::Used | Answer::Wrong => false,
            },
        };
        if !burnt {
            return Ok(self.fail_activation(place, held, call));
        }
        let challenge = self.challenges.iter().find(|challenge| challenge.factor == id).map(|one| one.id);
        challenge.into_iter().for_each(|challenge| self.burn_challenge(challenge, call));
        self.put_in_use(place, held, call);
        Ok(Activation::Activated)
    }

    /// Activates a waiting factor whose first code was right.
    pub(crate) fn put_in_use(&mut self, place: usize, mut held: Held<Pending>, call: &Call) {
        let (id, kind, changed) = (held.id, held.proof.kind(), held.proof.destination().cloned());
        let ticket = held.state.ticket.take();
        self.factors[place] = Factor::Active(held.activate(call.now));
        self.mfa_enabled = true;
        self.record(call, Note::new(Action::FactorActivated).factor(id).kind(kind));
        self.end_enrolment_of(id, call);
        if let Some(ticket) = ticket {
            self.replace_all_but(id, ticket.recovery, call);
        }
        self.notify(Notice::FactorAdded, Some(kind.name()), changed.as_slice(), call);
    }

    /// Activates a factor whose first code was just found right; one that is in use stays.
    pub(crate) fn put_proved_in_use(&mut self, id: FactorId, call: &Call) {
        let waiting = self.factors.iter().enumerate().find_map(|(place, factor)| match factor {
            Factor::Pending(held) if held.id == id => Some((place, held.clone())),
            _ => None,
        });
        if let Some((place, held)) = waiting {
            self.put_in_use(place, held, call);
        }
    }

    /// The right code, but too late: another one can be sent.
    fn miss_activation(&mut self, id: FactorId, kind: Kind, call: &Call) -> Activation {
        let note = Note::new(Action::FactorActivationRejected).factor(id).kind(kind);
        self.record(call, note.reason("expired"));
        Activation::Expired
    }

    pub(crate) fn fail_activation(
        &mut self,
        place: usize,
        mut held: Held<Pending>,
        call: &Call,
    ) -> Activation {
        held.state.failures = held.state.failures.saturating_add(1);
        let attempts_left = ACTIVATION_TRIES.saturating_sub(held.state.failures);
        let note = Note::new(Action::FactorActivationRejected).factor(held.id).kind(held.proof.kind());
        if attempts_left == 0 {
            self.end_challenge_of(held.id, call);
            self.factors.remove(place);
        } else {
            self.factors[place] = Factor::Pending(held);
        }
        self.record(call, note.detail("attemptsLeft", attempts_left));
        Activation::Rejected { attempts_left }
    }

    /// Gives a factor another label.
    pub fn rename_factor(&mut self, id: FactorId, label: Label, call: &Call) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        let place = self.place_of(id)?;
        self.factors[place].rename(label);
        self.record(call, Note::new(Action::FactorRenamed).factor(id));
        Ok(())
    }

    /// Switches a factor off; one that is off stays off.
    pub fn disable_factor(&mut self, id: FactorId, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        self.check_removal_by(policy, call)?;
        let place = self.place_of(id)?;
        match &self.factors[place] {
            Factor::Active(held) => {
                let (kind, changed) = (held.proof.kind(), held.proof.destination().cloned());
                self.factors[place] = Factor::Disabled(held.clone().disable(call.now));
                self.end_challenge_of(id, call);
                self.record(call, Note::new(Action::FactorDisabled).factor(id));
                self.notify(Notice::FactorRemoved, Some(kind.name()), changed.as_slice(), call);
                Ok(())
            }
            Factor::Disabled(_) => Ok(()),
            pending @ Factor::Pending(_) => Err(pending.wrong_state()),
        }
    }

    /// Switches a factor on again; one that is on stays on.
    pub fn enable_factor(&mut self, id: FactorId, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        let place = self.place_of(id)?;
        match &self.factors[place] {
            Factor::Disabled(held) if !policy.allows(held.proof.kind()) => {
                Err(Refusal::KindForbidden(held.proof.kind()))
            }
            Factor::Disabled(held) => {
                let (kind, changed) = (held.proof.kind(), held.proof.destination().cloned());
                self.factors[place] = Factor::Active(held.clone().enable());
                self.record(call, Note::new(Action::FactorEnabled).factor(id));
                self.notify(Notice::FactorAdded, Some(kind.name()), changed.as_slice(), call);
                Ok(())
            }
            Factor::Active(_) => Ok(()),
            pending @ Factor::Pending(_) => Err(pending.wrong_state()),
        }
    }

    /// Deletes a factor.
    pub fn delete_factor(&mut self, id: FactorId, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        self.check_removal_by(policy, call)?;
        let place = self.place_of(id)?;
        let factor = self.factors.remove(place);
        self.end_challenge_of(id, call);
        self.record(call, Note::new(Action::FactorDeleted).factor(id).kind(factor.kind()));
        if !matches!(factor, Factor::Pending(_)) {
            let changed = factor.proof().destination().cloned();
            self.notify(Notice::FactorRemoved, Some(factor.kind().name()), changed.as_slice(), call);
        }
        Ok(())
    }

    /// Finds a HOTP factor's counter again from two consecutive codes; a miss counts like a wrong code.
    pub fn resynchronise(
        &mut self,
        id: FactorId,
        codes: [&Code; 2],
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Resync, Refusal> {
        self.check_managed_by(call)?;
        let place = self.place_of(id)?;
        let Factor::Active(held) = &self.factors[place] else {
            return Err(self.factors[place].wrong_state());
        };
        let Proof::Hotp(hotp) = &held.proof else {
            return Err(Refusal::WrongState("not counter-based"));
        };
        if self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        if !policy.allows(Kind::Hotp) {
            return Err(Refusal::KindForbidden(Kind::Hotp));
        }
        if let Some(until) = self.locks.is_locked(Method::Token, call.now) {
            self.record(call, Note::new(Action::VerifyRejected).method(Method::Token).reason("locked"));
            return Ok(Resync::Locked(until));
        }
        let secret = self.open_secret(id, &hotp.secret, keys)?;
        match hotp.find_pair(&secret, codes, policy.hotp.resync_window) {
            Some(counter) => {
                self.burn_factor(id, counter, call);
                self.locks.clear(Method::Token);
                self.record(call, Note::new(Action::FactorResynchronised).factor(id));
                Ok(Resync::Found)
            }
            None => {
                self.count_failure(Method::Token, Some(Kind::Hotp), policy, call);
                Ok(Resync::Rejected {
                    attempts_left: self.locks.of(Method::Token).attempts_left(&policy.locks),
                })
            }
        }
    }

    /// Opens the sealed secret of one of the person's factors.
    pub fn open_secret(
        &self,
        id: FactorId,
        sealed: &Sealed,
        keys: &impl Keyring,
    ) -> Result<OtpSecret, KeyError> {
        let binding = Binding::of_user(Purpose::OtpSecret, self.organisation, self.id, id.uuid());
        Ok(OtpSecret::from_bytes(keys.open(&binding, sealed)?.expose().clone()))
    }

    /// Notes that an active factor proved possession.
    pub(crate) fn note_use(&mut self, id: FactorId, call: &Call) {
        for factor in &mut self.factors {
            if let Factor::Active(held) = factor
                && held.id == id
            {
                held.state.last_used_at = Some(call.now);
            }
        }
    }

    /// Uses up a moving factor of an active factor.
    pub(crate) fn burn_factor(&mut self, id: FactorId, moving_factor: u64, call: &Call) {
        for factor in &mut self.factors {
            if let Factor::Active(held) = factor
                && held.id == id
            {
                burn(&mut held.proof, moving_factor);
                held.state.last_used_at = Some(call.now);
            }
        }
    }

    fn place_of(&self, id: FactorId) -> Result<usize, Refusal> {
        self.factors.iter().position(|factor| factor.id() == id).ok_or(Refusal::NoSuchFactor)
    }

    pub(crate) fn check_room_for(&self, kind: Kind, policy: &Policy) -> Result<(), Refusal> {
        if !policy.allows(kind) {
            return Err(Refusal::KindForbidden(kind));
        }
        if self.factors.len() >= FACTOR_LIMIT {
            return Err(Refusal::TooMany("factors", FACTOR_LIMIT));
        }
        Ok(())
    }

    pub(crate) fn make_room_for_pending(&mut self, call: &Call) {
        let waiting = self.factors.iter().filter(|factor| matches!(factor, Factor::Pending(_))).count();
        if waiting >= PENDING_LIMIT
            && let Some(oldest) = self.factors.iter().position(|factor| matches!(factor, Factor::Pending(_)))
        {
            let replaced = self.factors.remove(oldest);
            self.end_challenge_of(replaced.id(), call);
            self.record(call, Note::new(Action::FactorDeleted).factor(replaced.id()).reason("replaced"));
        }
    }

    pub(crate) fn drop_expired_factors(&mut self, call: &Call) {
        let expired: Vec<FactorId> =
            self.factors.iter().filter(|factor| factor.is_expired(call.now)).map(Factor::id).collect();
        for id in expired {
            self.factors.retain(|factor| factor.id() != id);
            self.end_challenge_of(id, call);
            self.record(call, Note::new(Action::FactorDeleted).factor(id).reason("expired"));
        }
    }
}

/// Compares a code with a factor, whatever its state.
pub(crate) fn check(proof: &Proof, secret: &OtpSecret, code: &Code, policy: &Policy, call: &Call) -> Check {
    match proof {
        Proof::Totp(totp) => totp.check(secret, code, call.now, policy.totp.window),
        Proof::Hotp(hotp) => hotp.check(secret, code, policy.hotp.look_ahead),
        Proof::Sent(_) => Check::Wrong,
    }
}

pub(crate) fn burn(proof: &mut Proof, moving_factor: u64) {
    match proof {
        Proof::Totp(totp) => totp.burn(moving_factor),
        Proof::Hotp(hotp) => hotp.burn(moving_factor),
        Proof::Sent(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attempt::Target,
        event::Call,
        role::Role,
        testing::{OpenKeyring, Person, WRONG, label, newcomer, person_with_role, typed},
        verify::Verdict,
    };

    fn states(person: &Person) -> Vec<&'static str> {
        person.user.factors.iter().map(Factor::state).collect()
    }

    fn resynchronise(person: &mut Person, first: u64, second: u64) -> Result<Resync, Refusal> {
        let codes = [typed(&person.hotp_code(first)), typed(&person.hotp_code(second))];
        let call = person.client();
        person.user.resynchronise(person.hotp, [&codes[0], &codes[1]], &person.policy, &OpenKeyring, &call)
    }

    #[test]
    fn a_pending_factor_cannot_verify() {
        let mut person = newcomer();
        let id = person.enrol(1);
        let code = person.totp_code(0);

        for target in [Target::AnyOtp, Target::Kind(Kind::Totp), Target::Factor(id)] {
            assert_eq!(person.verify(&code, target), Verdict::NoFactor);
        }
        assert!(!person.user.has_active_factor());
    }

    #[test]
    fn activation_burns_its_code() {
        let mut person = newcomer();
        let id = person.enrol(1);
        let code = person.totp_code(0);

        assert_eq!(person.activate(id, &code), Activation::Activated);

        assert_eq!(person.verify(&code, Target::AnyOtp), Verdict::Replayed);
        assert_eq!(person.verify(&person.totp_code(-1), Target::AnyOtp), Verdict::Replayed);
        assert!(person.verify(&person.totp_code(1), Target::AnyOtp).is_accepted());
        assert!(person.user.mfa_enabled);
    }

    #[test]
    fn five_wrong_first_codes_drop_a_pending_factor() {
        let mut person = newcomer();
        let id = person.enrol(1);
        person.happened();

        let left: Vec<Activation> = (0..5).map(|_| person.activate(id, WRONG)).collect();

        assert_eq!(left[0], Activation::Rejected { attempts_left: 4 });
        assert_eq!(left[4], Activation::Rejected { attempts_left: 0 });
        assert!(person.user.factors.is_empty());
        assert_eq!(person.happened(), ["factor.activation_rejected"; 5]);
        assert_eq!(person.user.locks.failures(), 0);
    }

    #[test]
    fn a_pending_factor_expires() {
        let mut person = newcomer();
        let id = person.enrol(1);
        let call = Call::system(person.now);
        person.wait(person.policy.enrolment_seconds);

        let code = person.totp_code(0);

        assert_eq!(person.activate(id, &code), Activation::Expired);
        assert!(person.user.factors.is_empty());
        assert_eq!(person.user.rename_factor(id, label("late"), &call), Err(Refusal::NoSuchFactor));
    }

    // The one that made room left without an event.
    #[test]
    fn a_fourth_pending_factor_replaces_the_oldest() {
        let mut person = Person::new();
        let ids: Vec<FactorId> = (1..=3).map(|number| person.enrol(number)).collect();
        person.happened();

        let fourth = person.enrol(4);

        let pending: Vec<FactorId> = person.user.factors[2..].iter().map(Factor::id).collect();
        assert_eq!(pending, [ids[1], ids[2], fourth]);
        assert_eq!(states(&person), ["active", "active", "pending", "pending", "pending"]);
        assert_eq!(person.happened(), ["factor.deleted: replaced", "factor.enrolled"]);
    }

    #[test]
    fn a_person_has_a_bounded_number_of_factors() {
        let mut person = newcomer();
        let call = Call::system(person.now);
        for number in 1..=FACTOR_LIMIT as u128 {
            let (id, label, proof) = person.new_totp(number);
            person.user.import(id, label, proof, &person.policy, &call).expect("import");
        }
        let (id, label, proof) = person.new_totp(99);
        let full = Err(Refusal::TooMany("factors", FACTOR_LIMIT));

        assert_eq!(person.user.import(id, label.clone(), proof.clone(), &person.policy, &call), full);
        assert_eq!(person.user.enrol(id, label, proof, &person.policy, &call), full);
    }

    #[test]
    fn policy_forbids_a_kind() {
        let mut person = newcomer();
        let pending = person.enrol(1);
        person.policy.kinds.remove(&Kind::Totp);
        let call = Call::system(person.now);
        let (id, label, proof) = person.new_totp(2);
        let forbidden = Refusal::KindForbidden(Kind::Totp);

        let enrolled = person.user.enrol(id, label.clone(), proof.clone(), &person.policy, &call);
        let imported = person.user.import(id, label, proof, &person.policy, &call);
        let code = typed(&person.totp_code(0));
        let activated = person.user.activate(pending, &code, &person.policy, &OpenKeyring, &call);

        assert_eq!(enrolled, Err(forbidden.clone()));
        assert_eq!(imported, Err(forbidden.clone()));
        assert_eq!(activated, Err(forbidden));
    }

    #[test]
    fn a_factor_of_a_forbidden_kind_stays_off() {
        let mut person = Person::new();
        let call = Call::system(person.now);
        person.user.disable_factor(person.totp, &person.policy, &call).expect("disable");
        person.policy.kinds.remove(&Kind::Totp);

        let enabled = person.user.enable_factor(person.totp, &person.policy, &call);

        assert_eq!(enabled, Err(Refusal::KindForbidden(Kind::Totp)));
    }

    #[test]
    fn a_session_without_second_factor_enrols_the_first_factor() {
        let mut person = newcomer();
        let call = person.themselves(false);
        let (id, label, proof) = person.new_totp(1);

        person.user.enrol(id, label, proof, &person.policy, &call).expect("enrol");
        let code = typed(&person.totp_code(0));
        let activated = person.user.activate(id, &code, &person.policy, &OpenKeyring, &call);

        assert_eq!(activated, Ok(Activation::Activated));
    }

    #[test]
    fn a_session_without_second_factor_does_not_touch_what_is_there() {
        let mut person = Person::new();
        let pending = person.enrol(1);
        let (call, policy) = (person.themselves(false), person.policy.clone());
        let (id, another, proof) = person.new_totp(2);
        let codes = [typed(&person.hotp_code(5)), typed(&person.hotp_code(6))];
        let pair = [&codes[0], &codes[1]];
        let first = typed(&person.totp_code(0));
        let (totp, hotp, before) = (person.totp, person.hotp, person.user.clone());
        let user = &mut person.user;
        let needed = Err(Refusal::SecondFactorNeeded);

        assert_eq!(user.enrol(id, another, proof, &policy, &call), needed);
        assert_eq!(user.activate(pending, &first, &policy, &OpenKeyring, &call).map(drop), needed);
        assert_eq!(user.rename_factor(totp, label("mine"), &call), needed);
        assert_eq!(user.disable_factor(totp, &policy, &call), needed);
        assert_eq!(user.enable_factor(totp, &policy, &call), needed);
        assert_eq!(user.delete_factor(totp, &policy, &call), needed);
        assert_eq!(user.resynchronise(hotp, pair, &policy, &OpenKeyring, &call).map(drop), needed);
        assert_eq!(user.reset(&policy, &call), needed);
        assert_eq!(*user, before);
    }

    #[test]
    fn a_policy_may_let_people_remove_their_factors_without_possession() {
        let mut person = Person::new();
        person.policy.self_reset_requires_possession = false;
        let (call, policy) = (person.themselves(false), person.policy.clone());
        let (id, another, proof) = person.new_totp(2);
        let user = &mut person.user;

        assert_eq!(user.disable_factor(person.totp, &policy, &call), Ok(()));
        assert_eq!(user.delete_factor(person.totp, &policy, &call), Ok(()));
        assert_eq!(user.enrol(id, another, proof, &policy, &call), Err(Refusal::SecondFactorNeeded));
        assert_eq!(user.reset(&policy, &call), Ok(()));
        assert!(user.factors.is_empty());
    }

    #[test]
    fn the_help_desk_leaves_the_factors_of_administrators_alone() {
        let mut person = person_with_role(Role::Admin);
        let pending = person.enrol(1);
        let (call, policy) = (person.staff(Role::Helpdesk), person.policy.clone());
        let (id, another, proof) = person.new_totp(2);
        let codes = [typed(&person.hotp_code(5)), typed(&person.hotp_code(6))];
        let pair = [&codes[0], &codes[1]];
        let first = typed(&person.totp_code(0));
        let (totp, hotp, before) = (person.totp, person.hotp, person.user.clone());
        let user = &mut person.user;
        let above = Err(Refusal::AboveYourRank(Role::Admin));

        assert_eq!(user.enrol(id, another.clone(), proof.clone(), &policy, &call), above);
        assert_eq!(user.import(id, another, proof, &policy, &call), above);
        assert_eq!(user.activate(pending, &first, &policy, &OpenKeyring, &call).map(drop), above);
        assert_eq!(user.rename_factor(totp, label("mine"), &call), above);
        assert_eq!(user.disable_factor(totp, &policy, &call), above);
        assert_eq!(user.enable_factor(totp, &policy, &call), above);
        assert_eq!(user.delete_factor(totp, &policy, &call), above);
        assert_eq!(user.resynchronise(hotp, pair, &policy, &OpenKeyring, &call).map(drop), above);
        assert_eq!(*user, before);
    }

    #[test]
    fn a_disabled_factor_proves_nothing_and_does_not_revive_used_codes() {
        let mut person = Person::new();
        let call = Call::system(person.now);
        let (code, totp) = (person.totp_code(0), Target::Factor(person.totp));
        assert!(person.verify(&code, totp).is_accepted());

        person.user.disable_factor(person.totp, &person.policy, &call).expect("disable");
        assert_eq!(person.verify(&person.totp_code(1), totp), Verdict::NoFactor);
        person.user.enable_factor(person.totp, &person.policy, &call).expect("enable");

        assert_eq!(person.verify(&code, totp), Verdict::Replayed);
        assert!(person.verify(&person.totp_code(1), totp).is_accepted());
    }

    #[test]
    fn switching_a_factor_to_the_state_it_has_changes_nothing() {
        let mut person = Person::new();
        let call = Call::system(person.now);
        let (totp, policy) = (person.totp, person.policy.clone());

        person.user.enable_factor(totp, &policy, &call).expect("on already");
        assert!(person.user.is_unchanged());
        person.user.disable_factor(totp, &policy, &call).expect("disable");
        person.happened();
        person.user.disable_factor(totp, &policy, &call).expect("off already");
        assert!(person.user.is_unchanged());
    }

    #[test]
    fn a_state_that_does_not_allow_it_is_named() {
        let mut person = Person::new();
        let pending = person.enrol(1);
        let (call, policy) = (Call::system(person.now), person.policy.clone());
        let code = typed(WRONG);
        let codes = [&code, &code];
        let (totp, user) = (person.totp, &mut person.user);

        let waits = Err(Refusal::WrongState("pending"));
        assert_eq!(user.disable_factor(pending, &policy, &call), waits);
        assert_eq!(user.enable_factor(pending, &policy, &call), waits);
        assert_eq!(user.resynchronise(pending, codes, &policy, &OpenKeyring, &call).map(drop), waits);
        let activated = user.activate(totp, &code, &policy, &OpenKeyring, &call);
        assert_eq!(activated, Err(Refusal::WrongState("active")));
        let resynchronised = user.resynchronise(totp, codes, &policy, &OpenKeyring, &call);
        assert_eq!(resynchronised, Err(Refusal::WrongState("not counter-based")));
    }

    #[test]
    fn two_codes_bring_a_token_back_and_are_used_up() {
        let mut person = Person::new();
        let hotp = Target::Factor(person.hotp);
        assert!(matches!(person.verify(&person.hotp_code(70), hotp), Verdict::Rejected { .. }));

        assert_eq!(resynchronise(&mut person, 70, 71), Ok(Resync::Found));

        assert_eq!(person.user.locks.failures(), 0);
        assert_eq!(person.verify(&person.hotp_code(71), hotp), Verdict::Replayed);
        assert!(person.verify(&person.hotp_code(72), hotp).is_accepted());
    }

    #[test]
    fn a_missed_resynchronisation_counts_like_a_wrong_code_and_a_lock_stops_it() {
        let mut person = Person::new();

        for attempts_left in [4, 3, 2, 1, 0] {
            assert_eq!(resynchronise(&mut person, 70, 72), Ok(Resync::Rejected { attempts_left }));
        }

        assert!(matches!(resynchronise(&mut person, 70, 71), Ok(Resync::Locked(_))));
        assert!(matches!(person.fail(Target::AnyOtp), Verdict::Locked { .. }));
        assert_eq!(person.user.locks.failures(), 5);
    }
}
