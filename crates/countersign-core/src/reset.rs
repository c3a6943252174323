//! Deleting the factors of one kind, so that their person can enrol anew: by staff, or by themselves with a proof.

use crate::{
    attempt::Attempt,
    destination::Destination,
    event::{Action, Call, Note},
    factor::{Factor, Kind},
    id::LoginId,
    keyring::Keyring,
    message::Notice,
    policy::Policy,
    refusal::Refusal,
    user::{Status, User},
    verify::Verdict,
};

/// What somebody's own reset led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnReset {
    /// The factors are gone.
    Done,
    /// The code did not prove anything.
    Refused(Verdict),
}

impl User {
    /// Deletes the factors of one kind and ends the person's sessions. Where there are none, nothing happens.
    pub fn reset_kind(&mut self, kind: Kind, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        self.check_removal_by(policy, call)?;
        self.drop_factors_of(kind, None, call);
        Ok(())
    }

    /// Like [`User::reset_kind`], by the person themselves: signed in, or with a login whose second step is open.
    ///
    /// Unless policy asks for no possession, a code of the factor or of another one is needed: else a stolen password
    /// would be enough to do away with the second factor. A wrong one is counted. What it is tried against is what a
    /// sign-in would ask for, whatever the attempt's target.
    pub fn reset_own_kind(
        &mut self,
        login: Option<LoginId>,
        kind: Kind,
        attempt: Option<&Attempt>,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<OwnReset, Refusal> {
        if self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        if let Some(login) = login {
            self.open_login(login, call)?;
        }
        // A factor whose kind policy no longer takes proves nothing, and is nobody's to take away without proof.
        if self.has_second_factor(policy, call.now) || self.has_active_factor() {
            match attempt {
                None if policy.self_reset_requires_possession => return Err(Refusal::SecondFactorNeeded),
                None => {}
                Some(attempt) => {
                    let attempt = &self.as_asked(attempt, policy, call);
                    let verdict = self.verify_for(login, attempt, policy, keys, call)?;
                    if !verdict.is_accepted() {
                        return Ok(OwnReset::Refused(verdict));
                    }
                }
            }
        }
        self.drop_factors_of(kind, login, call);
        Ok(OwnReset::Done)
    }

    /// Deletes the factors of a kind. The login it was asked in stays open, to enrol anew in.
    fn drop_factors_of(&mut self, kind: Kind, login: Option<LoginId>, call: &Call) {
        let of_kind = |factor: &Factor| factor.kind() == kind;
        let (dropped, kept): (Vec<Factor>, Vec<Factor>) =
            std::mem::take(&mut self.factors).into_iter().partition(of_kind);
        self.factors = kept;
        if dropped.is_empty() {
            return;
        }
        for factor in &dropped {
            self.end_challenge_of(factor.id(), call);
        }
        if self.active_factors().all(|held| held.proof.kind().method() != kind.method()) {
            self.locks.clear(kind.method());
        }
        self.logins.retain(|open| Some(open.id) == login);
        // Nor may the retry of an earlier attempt be told that it was accepted.
        self.requests.clear();
        self.end_sessions(None, call);
        self.record(call, Note::new(Action::FactorReset).kind(kind).detail("factors", dropped.len()));
        self.tell_of_removed(kind, &dropped, call);
    }

    fn tell_of_removed(&mut self, kind: Kind, dropped: &[Factor], call: &Call) {
        let in_use: Vec<&Factor> =
            dropped.iter().filter(|factor| !matches!(factor, Factor::Pending(_))).collect();
        let places: Vec<Destination> =
            in_use.iter().filter_map(|factor| factor.proof().destination().cloned()).collect();
        if !in_use.is_empty() {
            self.notify(Notice::FactorRemoved, Some(kind.name()), &places, call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attempt::Target,
        destination::Channel,
        role::Role,
        testing::{OpenKeyring, Person, WRONG, attempt, person_with_role},
    };

    fn own_reset(
        person: &mut Person,
        login: Option<LoginId>,
        code: Option<&str>,
    ) -> Result<OwnReset, Refusal> {
        let attempt = code.map(|code| attempt(code, Target::AnyOtp));
        let call = person.themselves(false);
        let attempt = attempt.as_ref();
        person.user.reset_own_kind(login, Kind::Totp, attempt, &person.policy, &OpenKeyring, &call)
    }

    fn kinds(person: &Person) -> Vec<Kind> {
        person.user.factors.iter().map(Factor::kind).collect()
    }

    #[test]
    fn staff_reset_one_kind_and_leave_the_others() {
        let mut person = Person::new();
        person.sent_factor(9, Channel::Mail, "ada@example.com");
        person.enrol(1);
        person.set_password();
        person.open_session(1);
        person.happened();
        let call = person.staff(Role::Helpdesk);

        person.user.reset_kind(Kind::Totp, &person.policy, &call).expect("reset");
        let once = person.happened();
        person.user.reset_kind(Kind::Totp, &person.policy, &call).expect("again");

        assert_eq!(kinds(&person), [Kind::Hotp, Kind::Email]);
        assert_eq!(once, ["session.revoked", "factor.reset"]);
        assert!(person.user.sessions.is_empty() && person.user.recovery.is_some());
        assert!(person.happened().is_empty(), "there was nothing left to reset");
    }

    #[test]
    fn the_ladder_holds_for_one_kind_too() {
        let mut person = person_with_role(Role::Admin);
        let (helpdesk, weak) = (person.staff(Role::Helpdesk), person.themselves(false));

        let by_helpdesk = person.user.reset_kind(Kind::Totp, &person.policy, &helpdesk);

        assert_eq!(by_helpdesk, Err(Refusal::AboveYourRank(Role::Admin)));
        assert_eq!(
            person.user.reset_kind(Kind::Totp, &person.policy, &weak),
            Err(Refusal::SecondFactorNeeded)
        );
    }

    #[test]
    fn a_login_resets_with_a_right_code_only_and_wrong_ones_are_counted() {
        let mut person = Person::new();
        person.set_password();
        let (other, login) = (person.open_login(1), person.open_login(2));

        let without = own_reset(&mut person, Some(login), None);
        let wrong = own_reset(&mut person, Some(login), Some(WRONG));
        let code = person.totp_code(0);
        let right = own_reset(&mut person, Some(login), Some(&code));

        assert_eq!(without, Err(Refusal::SecondFactorNeeded));
        assert!(matches!(wrong, Ok(OwnReset::Refused(Verdict::Rejected { attempts_left: 4, .. }))));
        assert_eq!(right, Ok(OwnReset::Done));
        assert_eq!(kinds(&person), [Kind::Hotp]);
        let open: Vec<LoginId> = person.user.logins.iter().map(|open| open.id).collect();
        assert_eq!(open, [login], "the login stays to enrol anew in, {other} does not");
    }

    #[test]
    fn a_factor_that_policy_no_longer_takes_is_not_reset_without_proof() {
        // A session opened by a password alone got rid of it, to enrol another once policy took the kind again.
        let mut person = Person::new();
        person.user.recovery = None;
        person.user.emergency = None;
        person.policy.kinds = [Kind::Email].into();

        let without = own_reset(&mut person, None, None);
        let code = person.totp_code(0);
        let with = own_reset(&mut person, None, Some(&code));

        assert_eq!(without, Err(Refusal::SecondFactorNeeded));
        assert_eq!(with, Ok(OwnReset::Refused(Verdict::NoFactor)));
        assert_eq!(kinds(&person), [Kind::Totp, Kind::Hotp]);
    }

    #[test]
    fn a_code_that_was_used_resets_nothing() {
        let mut person = Person::new();
        let code = person.totp_code(0);
        assert!(person.verify(&code, Target::AnyOtp).is_accepted());

        assert_eq!(own_reset(&mut person, None, Some(&code)), Ok(OwnReset::Refused(Verdict::Replayed)));
        assert_eq!(kinds(&person), [Kind::Totp, Kind::Hotp]);
    }

    #[test]
    fn policy_may_let_a_login_reset_without_possession() {
        let mut person = Person::new();
        person.set_password();
        person.policy.self_reset_requires_possession = false;
        let login = person.open_login(1);

        assert_eq!(own_reset(&mut person, Some(login), None), Ok(OwnReset::Done));
        let wrong = own_reset(&mut person, Some(login), Some(WRONG));

        assert!(matches!(wrong, Ok(OwnReset::Refused(_))), "what is given must be right all the same");
    }

    #[test]
    fn a_login_that_is_over_resets_nothing() {
        let mut person = Person::new();
        person.set_password();
        let login = person.open_login(1);
        person.wait(person.policy.sessions.second_step_seconds);
        let code = person.totp_code(0);

        assert_eq!(own_reset(&mut person, Some(login), Some(&code)), Err(Refusal::TokenGone));
    }

    #[test]
    fn a_reset_forgets_the_failures_of_factors_that_are_gone() {
        let mut person = Person::new();
        person.user.factors.retain(|factor| factor.kind() == Kind::Totp);
        person.lock(Target::AnyOtp);
        let call = person.staff(Role::Helpdesk);

        person.user.reset_kind(Kind::Totp, &person.policy, &call).expect("reset");

        assert_eq!(person.user.locks.failures(), 0);
    }
}
