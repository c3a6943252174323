//! Recovery codes: a set drawn at once, each good once, replaced only as a whole.

use super::{
    Kind,
    scratch::{self, ScratchCode, Stretched},
};
use crate::{
    attempt::Code,
    event::{Action, Call, Note},
    id::{OrganisationId, UserId},
    keyring::{Binding, KeyError, Keyring, Purpose, Tag},
    policy::Policy,
    refusal::Refusal,
    time::Timestamp,
    user::User,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A person's set of recovery codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryCodes {
    /// The set's own random id: the salt of its hashes.
    pub salt: Uuid,
    /// When it was drawn.
    pub created_at: Timestamp,
    /// Whether the codes are short ones, which go through a slow hash before the keyed one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stretched: bool,
    /// The codes.
    pub codes: Vec<StoredCode>,
}

/// One code of a set: its keyed hash, and when it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCode {
    /// The keyed hash.
    pub tag: Tag,
    /// When it was used. Kept, so that a second use is told from a wrong code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
}

/// What comparing a code with a stored one found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The code at this place, not used before.
    Fresh(usize),
    /// A code used before.
    Used,
    /// A code that is right but too late.
    Expired,
    /// No such code.
    Wrong,
}

impl RecoveryCodes {
    /// Hashes freshly drawn codes of a person.
    pub fn new(
        codes: &[ScratchCode],
        salt: Uuid,
        organisation: OrganisationId,
        user: UserId,
        keys: &impl Keyring,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        let binding = Binding::of_user(Purpose::RecoveryCode, organisation, user, salt);
        let codes = codes.iter().map(|code| code.canonical().as_bytes());
        Ok(Self { salt, created_at: now, stretched: false, codes: hashed(codes, &binding, keys)? })
    }

    /// Hashes freshly drawn short codes of a person, each stretched with the salt `salt`.
    pub fn of_short(
        codes: &[Stretched],
        salt: Uuid,
        organisation: OrganisationId,
        user: UserId,
        keys: &impl Keyring,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        let binding = Binding::of_user(Purpose::RecoveryCode, organisation, user, salt);
        let codes = codes.iter().map(|code| code.value.expose().as_slice());
        Ok(Self { salt, created_at: now, stretched: true, codes: hashed(codes, &binding, keys)? })
    }

    /// Returns the salt a typed code has to be stretched with before it can be compared with these.
    pub fn salt_for(&self, code: &Code) -> Option<Uuid> {
        (self.stretched && scratch::is_short(code)).then_some(self.salt)
    }

    /// Tells whether a typed code looks like one of these.
    pub fn resemble(&self, code: &Code) -> bool {
        if self.stretched { scratch::is_short(code) } else { scratch::is_long(code) }
    }

    /// Returns how many codes are unused.
    pub fn remaining(&self) -> usize {
        self.codes.iter().filter(|code| code.used_at.is_none()).count()
    }

    /// Looks a typed code up in the set. Compares all of them, so the time tells nothing.
    ///
    /// [`Refusal::Stale`] if the set is of short codes and `stretched` was computed for another one.
    pub fn find(
        &self,
        code: &Code,
        stretched: Option<&Stretched>,
        organisation: OrganisationId,
        user: UserId,
        keys: &impl Keyring,
    ) -> Result<Found, Refusal> {
        let Some(first) = self.codes.first() else { return Ok(Found::Wrong) };
        let typed = scratch::canonical(code);
        let typed = match stretched {
            _ if !self.stretched => typed.expose().as_bytes(),
            _ if !scratch::is_short(code) => return Ok(Found::Wrong),
            Some(stretched) if stretched.salt == self.salt => stretched.value.expose(),
            _ => return Err(Refusal::Stale),
        };
        let binding = Binding::of_user(Purpose::RecoveryCode, organisation, user, self.salt);
        let tag = keys.tag(&binding, Some(first.tag.key), typed)?;
        let places = self.codes.iter().enumerate().filter(|(_, stored)| stored.tag.equals(&tag));
        // Not `next_back`, which would stop at the first match.
        Ok(match places.fold(None, |_, found| Some(found)) {
            Some((_, StoredCode { used_at: Some(_), .. })) => Found::Used,
            Some((place, _)) => Found::Fresh(place),
            None => Found::Wrong,
        })
    }

    /// Uses a code up.
    pub fn burn(&mut self, place: usize, now: Timestamp) {
        if let Some(code) = self.codes.get_mut(place) {
            code.used_at = Some(now);
        }
    }
}

fn hashed<'a>(
    codes: impl Iterator<Item = &'a [u8]>,
    binding: &Binding,
    keys: &impl Keyring,
) -> Result<Vec<StoredCode>, KeyError> {
    codes.map(|code| Ok(StoredCode { tag: keys.tag(binding, None, code)?, used_at: None })).collect()
}

impl User {
    /// Replaces the person's recovery codes by a new set.
    pub fn replace_recovery_codes(
        &mut self,
        codes: RecoveryCodes,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        if !policy.allows(Kind::Recovery) {
            return Err(Refusal::KindForbidden(Kind::Recovery));
        }
        let count = codes.codes.len();
        self.recovery = Some(codes);
        self.record(
            call,
            Note::new(Action::RecoveryCodesReplaced).kind(Kind::Recovery).detail("count", count),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attempt::{Attempt, Target},
        lock::Method,
        testing::{OpenKeyring, Person, attempt, newcomer, rng, short_codes, stretched},
        verify::Verdict,
    };

    const RECOVERY: Target = Target::Kind(Kind::Recovery);

    #[test]
    fn each_recovery_code_works_once_in_any_order() {
        let mut person = Person::new();
        let codes: Vec<String> = person.recovery.iter().map(|code| code.shown().expose().clone()).collect();

        for (used, code) in codes.iter().rev().enumerate() {
            assert_eq!(person.user.recovery.as_ref().map(RecoveryCodes::remaining), Some(codes.len() - used));
            let accepted = Verdict::Accepted { factor: None, kind: Kind::Recovery };
            assert_eq!(person.verify(code, RECOVERY), accepted);
            assert_eq!(person.verify(code, RECOVERY), Verdict::Replayed);
        }

        assert!(codes.iter().all(|code| person.verify(code, RECOVERY) == Verdict::Replayed));
        assert_eq!(person.user.locks.failures(), 0);
    }

    #[test]
    fn a_recovery_code_may_be_typed_with_the_letters_it_does_not_have() {
        let mut person = newcomer();
        let drawn = (0..).map(|seed| ScratchCode::generate(&mut rng(seed)));
        let code =
            drawn.into_iter().find(|code| code.canonical().matches(['0', '1']).count() > 2).expect("a code");
        let (organisation, user) = (person.user.organisation, person.user.id);
        let salt = Uuid::from_u128(3);
        let set = RecoveryCodes::new(
            std::slice::from_ref(&code),
            salt,
            organisation,
            user,
            &OpenKeyring,
            person.now,
        );
        let call = person.client();
        person.user.replace_recovery_codes(set.expect("hash"), &person.policy, &call).expect("replace");

        let typed = code.canonical().replace('0', "O").replacen('1', "l", 1).replace('1', "i");

        assert!(person.verify(&typed, RECOVERY).is_accepted());
    }

    #[test]
    fn a_new_set_replaces_the_old_one_as_a_whole() {
        let mut person = Person::new();
        let call = person.client();
        let code = ScratchCode::generate(&mut rng(9));
        let (organisation, user) = (person.user.organisation, person.user.id);
        let salt = Uuid::from_u128(3);
        let set = RecoveryCodes::new(
            std::slice::from_ref(&code),
            salt,
            organisation,
            user,
            &OpenKeyring,
            person.now,
        );
        person.user.replace_recovery_codes(set.expect("hash"), &person.policy, &call).expect("replace");

        let old = person.recovery[0].canonical().to_owned();

        assert!(matches!(person.verify(&old, RECOVERY), Verdict::Rejected { .. }));
        assert!(person.verify(code.canonical(), RECOVERY).is_accepted());
        assert!(!String::from_utf8_lossy(&person.user.to_json()).contains(code.canonical()));
    }

    #[test]
    fn a_set_is_bound_to_its_person() {
        let person = Person::new();
        let set = person.user.recovery.clone().expect("codes");
        let code = Code::parse("code", person.recovery[0].canonical()).expect("code");
        let stranger = UserId::from_uuid(Uuid::from_u128(1));

        let own = set.find(&code, None, person.user.organisation, person.user.id, &OpenKeyring);
        let other = set.find(&code, None, person.user.organisation, stranger, &OpenKeyring);

        assert_eq!((own, other), (Ok(Found::Fresh(0)), Ok(Found::Wrong)));
    }

    #[test]
    fn recovery_codes_follow_policy_and_possession() {
        let mut person = Person::new();
        let set = person.user.recovery.clone().expect("codes");
        let (weak, client) = (person.themselves(false), person.client());

        let refused = person.user.replace_recovery_codes(set.clone(), &person.policy, &weak);
        assert_eq!(refused, Err(Refusal::SecondFactorNeeded));
        person.policy.kinds.remove(&Kind::Recovery);
        let forbidden = person.user.replace_recovery_codes(set, &person.policy, &client);
        assert_eq!(forbidden, Err(Refusal::KindForbidden(Kind::Recovery)));
    }

    const SALT: Uuid = Uuid::from_u128(40);

    fn with_short_codes() -> (Person, Vec<ScratchCode>) {
        let mut person = Person::new();
        let (codes, set) = short_codes(&person.user, SALT, person.now);
        let call = person.client();
        person.user.replace_recovery_codes(set, &person.policy, &call).expect("replace");
        person.happened();
        (person, codes)
    }

    fn verify(person: &mut Person, attempt: &Attempt) -> Result<Verdict, Refusal> {
        let call = person.client();
        person.user.verify(attempt, &person.policy, &OpenKeyring, &call)
    }

    #[test]
    fn a_short_code_is_compared_after_the_slow_hash() {
        let (mut person, codes) = with_short_codes();
        let code = codes[0].canonical();
        let right = stretched(code, RECOVERY, SALT);

        assert_eq!(person.user.salt_for(&right, person.now), Some(SALT));
        let accepted = Verdict::Accepted { factor: None, kind: Kind::Recovery };
        assert_eq!(verify(&mut person, &right), Ok(accepted));
        assert_eq!(verify(&mut person, &right), Ok(Verdict::Replayed));
        assert_eq!(person.user.recovery.as_ref().map(RecoveryCodes::remaining), Some(4));
        assert!(!String::from_utf8_lossy(&person.user.to_json()).contains(code));
    }

    #[test]
    fn a_slow_hash_for_another_set_decides_and_counts_nothing() {
        let (mut person, codes) = with_short_codes();
        let code = codes[0].canonical();

        for stale in [attempt(code, RECOVERY), stretched(code, RECOVERY, Uuid::from_u128(41))] {
            assert_eq!(verify(&mut person, &stale), Err(Refusal::Stale));
        }

        assert_eq!(person.user.locks.failures(), 0);
        assert!(person.user.is_unchanged());
    }

    #[test]
    fn what_cannot_be_a_short_code_is_wrong_without_a_slow_hash() {
        let (mut person, _) = with_short_codes();

        for typed in ["1234567", "123456789", "12345678A"] {
            let wrong = attempt(typed, RECOVERY);
            assert_eq!(person.user.salt_for(&wrong, person.now), None);
            assert!(matches!(verify(&mut person, &wrong), Ok(Verdict::Rejected { .. })), "{typed}");
        }

        assert_eq!(person.user.locks.of(Method::Recovery).failures, 3);
    }

    #[test]
    fn no_slow_hash_is_asked_for_where_it_decides_nothing() {
        let (mut person, codes) = with_short_codes();
        let salt_for = |person: &Person, target| {
            person.user.salt_for(&attempt(codes[0].canonical(), target), person.now)
        };
        for target in [Target::AnyOtp, Target::Factor(person.totp), Target::Kind(Kind::Totp)] {
            assert_eq!(salt_for(&person, target), None, "{target:?}");
        }
        assert_eq!(salt_for(&person, Target::Any), Some(SALT));

        person.lock(RECOVERY);

        assert_eq!(salt_for(&person, RECOVERY), None);
        let refused = verify(&mut person, &attempt(codes[0].canonical(), RECOVERY));
        assert!(matches!(refused, Ok(Verdict::Locked { method: Method::Recovery, .. })));
        assert_eq!(salt_for(&Person::new(), RECOVERY), None, "long codes are not stretched");
    }
}
