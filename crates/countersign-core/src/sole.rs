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
        self.make_way_for(login, proof.kind(), policy, call)?;
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
        self.make_way_for(login, to.kind(), policy, call)?;
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

    fn make_way_for(
        &mut self,
        login: Option<LoginId>,
        kind: Kind,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        if self.active_factors().any(|held| held.proof.kind() == kind) {
            return Err(Refusal::WrongState("active"));
        }
        // First, for what waits may be the key behind a link, and to keep others out until it was followed.
        match login {
            None => self.check_managed_by(call)?,
            Some(login) => self.check_first_in_login(login, policy, call)?,
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
    use crate::{
        enrolment_link::NewLink,
        id::DeliveryId,
        profile::Email,
        role::Role,
        secret::Secret,
        testing::{Person, newcomer},
    };
    use uuid::Uuid;

    fn enrol(person: &mut Person, number: u128) -> Result<FactorId, Refusal> {
        let (new, call) = (person.new_totp(number), person.themselves(false));
        person.user.enrol_sole(None, new.clone(), &person.policy, &call).map(|()| new.0)
    }

    fn mail_link(person: &mut Person, number: u128) -> FactorId {
        let (factor, label, proof) = person.new_totp(number);
        let delivery = DeliveryId::from_uuid(Uuid::from_u128(number));
        let url = Secret::new("https://mfa.example.com/enrol?token=csl_x".into());
        let (new, call) = (NewLink { factor, label, proof, delivery, url }, person.staff(Role::Admin));
        person.user.send_enrolment_link(&new, false, &person.policy, &call).expect("link");
        factor
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
    fn a_link_that_is_waited_for_is_not_replaced_by_whoever_knows_the_password() {
        // What waited was dropped before the link was asked about, so there was none any more.
        let mut person = newcomer();
        person.user.email = Email::parse("email", "ada@example.com").ok();
        person.set_password();
        person.user.mfa_enabled = true;
        let link = mail_link(&mut person, 1);
        let login = person.open_login(1);
        let (new, call) = (person.new_totp(2), person.themselves(false));

        let within_login = person.user.clone().enrol_sole(Some(login), new.clone(), &person.policy, &call);
        let signed_in = person.user.clone().enrol_sole(None, new, &person.policy, &call);

        assert_eq!(within_login, Err(Refusal::SecondFactorNeeded));
        assert_eq!(signed_in, Err(Refusal::SecondFactorNeeded));
        assert_eq!(person.user.waiting(Kind::Totp), Ok(link));
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
