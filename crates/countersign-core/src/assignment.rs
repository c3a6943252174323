//! Where codes of a kind are sent, said by an administrator: one place, or none.

use crate::{
    destination::Destination,
    event::Call,
    factor::{Factor, Kind, Proof},
    id::FactorId,
    policy::Policy,
    profile::Label,
    refusal::Refusal,
    user::User,
};

impl User {
    /// Has codes sent to a place, instead of wherever codes of that kind went before. Saying the same again changes nothing.
    pub fn assign_destination(
        &mut self,
        to: Destination,
        id: FactorId,
        label: Label,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.check_managed_by_another(call)?;
        let of_kind: Vec<&Factor> = self.factors_of(to.kind()).collect();
        if matches!(of_kind.as_slice(), [Factor::Active(held)] if held.proof == Proof::Sent(to.clone())) {
            return Ok(());
        }
        self.delete_factors_of(to.kind(), policy, call)?;
        self.import(id, label, Proof::Sent(to), policy, call)
    }

    /// Has codes of a kind sent nowhere.
    pub fn unassign_destination(&mut self, kind: Kind, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        self.check_managed_by_another(call)?;
        self.delete_factors_of(kind, policy, call)
    }

    fn factors_of(&self, kind: Kind) -> impl Iterator<Item = &Factor> {
        self.factors.iter().filter(move |factor| factor.kind() == kind)
    }

    fn delete_factors_of(&mut self, kind: Kind, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        let ids: Vec<FactorId> = self.factors_of(kind).map(Factor::id).collect();
        ids.into_iter().try_for_each(|id| self.delete_factor(id, policy, call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        destination::Channel,
        testing::{Person, label, newcomer},
    };
    use uuid::Uuid;

    fn number(text: &str) -> Destination {
        Destination::parse(Channel::Sms, "number", text).expect(text)
    }

    fn assign(person: &mut Person, factor: u128, to: &str) -> Result<(), Refusal> {
        let (id, call) = (FactorId::from_uuid(Uuid::from_u128(factor)), person.client());
        person.user.assign_destination(number(to), id, label("phone"), &person.policy, &call)
    }

    fn numbers(person: &Person) -> Vec<Destination> {
        person.user.factors_of(Kind::Sms).filter_map(|factor| factor.proof().destination().cloned()).collect()
    }

    #[test]
    fn a_number_replaces_all_before_it_and_leaves_other_kinds_alone() {
        let mut person = Person::new();
        person.sent_factor(10, Channel::Sms, "+4915112345678");
        person.sent_factor(11, Channel::Sms, "+4915112345679");
        person.sent_factor(12, Channel::Voice, "+4930123456");
        person.happened();

        assign(&mut person, 13, "+4915112345670").expect("assign");

        assert_eq!(numbers(&person), [number("+4915112345670")]);
        assert_eq!(person.user.active_factors().count(), 4);
        assert_eq!(person.happened(), ["factor.deleted", "factor.deleted", "factor.imported"]);
    }

    #[test]
    fn the_same_number_again_changes_nothing() {
        let mut person = newcomer();
        assign(&mut person, 10, "+4915112345678").expect("assign");
        person.happened();

        assign(&mut person, 11, "+49 151 1234 5678").expect("again");

        assert!(person.happened().is_empty());
        assert!(person.user.active_factor(FactorId::from_uuid(Uuid::from_u128(10))).is_some());
    }

    #[test]
    fn no_number_takes_it_away() {
        let mut person = newcomer();
        assign(&mut person, 10, "+4915112345678").expect("assign");
        let call = person.client();

        person.user.unassign_destination(Kind::Sms, &person.policy, &call).expect("unassign");

        assert!(numbers(&person).is_empty());
    }

    #[test]
    fn nobody_assigns_themselves_a_number() {
        let mut person = newcomer();
        let (id, call) = (FactorId::from_uuid(Uuid::from_u128(10)), person.themselves(true));
        let (user, policy) = (&mut person.user, &person.policy);

        let assigned = user.assign_destination(number("+4915112345678"), id, label("phone"), policy, &call);
        let unassigned = user.unassign_destination(Kind::Sms, policy, &call);

        assert_eq!((assigned, unassigned), (Err(Refusal::NotBySelf), Err(Refusal::NotBySelf)));
    }

    #[test]
    fn policy_forbids_a_number() {
        let mut person = newcomer();
        person.policy.kinds.remove(&Kind::Sms);

        assert_eq!(assign(&mut person, 10, "+4915112345678"), Err(Refusal::KindForbidden(Kind::Sms)));
    }
}
