//! One factor of a kind, for callers who name the kind and know of no second one.

use crate::{
    challenge::{Challenge, NewCode},
    destination::Destination,
    event::{Action, Call, Note},
    factor::{Factor, Kind, Proof},
    id::{FactorId, LoginId},
    keyring::Keyring,
    policy::Policy,
    profile::Label,
    refusal::Refusal,
    user::User,
};

impl User {
    /// Enrols the only factor of its kind. One in use must be reset first; one that waits makes room.
    ///
    /// With a login, in the middle of signing in: see [`User::enrol_in_login`].
    pub fn enrol_sole(
        &mut self,
        login: Option<LoginId>,
        (id, label, proof): (FactorId, Label, Proof),
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.make_way_for(proof.kind(), call)?;
        match login {
            None => self.enrol(id, label, proof, policy, call),
            Some(login) => self.enrol_in_login(login, (id, label, proof), policy, call),
        }
    }

    /// Like [`User::enrol_sole`], for a factor whose codes are sent; the first one is.
    pub fn enrol_sole_sent(
        &mut self,
        login: Option<LoginId>,
        (id, label, to): (FactorId, Label, Destination),
        new: &NewCode,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Challenge, Refusal> {
        self.make_way_for(to.kind(), call)?;
        match login {
            None => self.enrol_sent(id, label, to, new, policy, keys, call),
            Some(login) => self.enrol_sent_in_login(login, (id, label, to), new, policy, keys, call),
        }
    }

    /// Returns the factor of a kind that waits for its first code.
    pub fn waiting(&self, kind: Kind) -> Result<FactorId, Refusal> {
        let is_meant = |factor: &&Factor| matches!(factor, Factor::Pending(_)) && factor.kind() == kind;
        self.factors.iter().rev().find(is_meant).map(Factor::id).ok_or(Refusal::NoSuchFactor)
    }

    fn make_way_for(&mut self, kind: Kind, call: &Call) -> Result<(), Refusal> {
        if self.active_factors().any(|held| held.proof.kind() == kind) {
            return Err(Refusal::WrongState("active"));
        }
        while let Ok(waiting) = self.waiting(kind) {
            self.factors.retain(|factor| factor.id() != waiting);
            self.end_challenge_of(waiting, call);
            self.record(call, Note::new(Action::FactorDeleted).factor(waiting).kind(kind).reason("replaced"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Person, newcomer};

    fn enrol(person: &mut Person, number: u128) -> Result<FactorId, Refusal> {
        let (new, call) = (person.new_totp(number), person.themselves(false));
        person.user.enrol_sole(None, new.clone(), &person.policy, &call).map(|()| new.0)
    }

    #[test]
    fn a_second_enrolment_replaces_the_first_while_it_waits() {
        let mut person = newcomer();
        person.happened();
        let first = enrol(&mut person, 1).expect("first");

        let second = enrol(&mut person, 2).expect("second");

        assert_eq!(person.user.waiting(Kind::Totp), Ok(second));
        assert_eq!(person.user.factor(first), Err(Refusal::NoSuchFactor));
        assert_eq!(person.happened(), ["factor.enrolled", "factor.deleted: replaced", "factor.enrolled"]);
    }

    #[test]
    fn a_factor_in_use_is_not_replaced() {
        let mut person = newcomer();
        let id = enrol(&mut person, 1).expect("enrol");
        let code = person.totp_code(0);
        person.activate(id, &code);

        assert_eq!(enrol(&mut person, 2), Err(Refusal::WrongState("active")));
        assert_eq!(person.user.waiting(Kind::Totp), Err(Refusal::NoSuchFactor));
    }
}
