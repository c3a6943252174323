//! Emergency codes: issued by an administrator to somebody who cannot reach their factors. One at a time, good once.

use super::{
    Kind,
    recovery::Found,
    scratch::{self, ScratchCode},
};
use crate::{
    attempt::Code,
    event::{Action, Call, Note},
    id::{OrganisationId, UserId},
    keyring::{Binding, KeyError, Keyring, Purpose, Tag},
    policy::Policy,
    refusal::{Invalid, Refusal},
    time::Timestamp,
    user::User,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// A person's emergency code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyCode {
    /// The code's own random id: the salt of its hash.
    pub salt: Uuid,
    /// The keyed hash.
    pub tag: Tag,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it stops being good.
    pub expires_at: Timestamp,
    /// When it was used. Kept until the next one, so that a second use is told from a wrong code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
}

/// The shortest life of an emergency code.
const SHORTEST: Duration = Duration::from_secs(60);

impl EmergencyCode {
    /// Hashes a freshly drawn code. `life` is 60 seconds to the policy's longest, which it defaults to.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different thing the hash or the expiry depends on"
    )]
    pub fn new(
        code: &ScratchCode,
        salt: Uuid,
        life: Option<Duration>,
        organisation: OrganisationId,
        user: UserId,
        policy: &Policy,
        keys: &impl Keyring,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let longest = Duration::from_secs(policy.emergency_code_seconds);
        let life = life.unwrap_or(longest);
        if !(SHORTEST..=longest).contains(&life) {
            let message = format!("expected {} to {}", SHORTEST.as_secs(), longest.as_secs());
            return Err(Invalid::new("expiresInSeconds", message).into());
        }
        let binding = Binding::of_user(Purpose::EmergencyCode, organisation, user, salt);
        let tag = keys.tag(&binding, None, code.canonical().as_bytes())?;
        Ok(Self { salt, tag, issued_at: now, expires_at: now.after(life), used_at: None })
    }

    /// Returns the life that policy grants to who asks for one: what they ask, within its bounds.
    pub fn granted_life(asked: Duration, policy: &Policy) -> Duration {
        asked.clamp(SHORTEST, Duration::from_secs(policy.emergency_code_seconds).max(SHORTEST))
    }

    /// Tells whether it can still be used.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.used_at.is_none() && now < self.expires_at
    }

    /// Compares a typed code with it.
    pub fn find(
        &self,
        code: &Code,
        organisation: OrganisationId,
        user: UserId,
        keys: &impl Keyring,
        now: Timestamp,
    ) -> Result<Found, KeyError> {
        let binding = Binding::of_user(Purpose::EmergencyCode, organisation, user, self.salt);
        if !keys.matches(&binding, &self.tag, scratch::canonical(code).expose().as_bytes())? {
            return Ok(Found::Wrong);
        }
        Ok(match self.used_at {
            Some(_) => Found::Used,
            None if now >= self.expires_at => Found::Expired,
            None => Found::Fresh(0),
        })
    }
}

impl User {
    /// Gives the person an emergency code in place of any earlier one. Nobody issues one to themselves.
    pub fn issue_emergency_code(
        &mut self,
        code: EmergencyCode,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.check_managed_by_another(call)?;
        if !policy.allows(Kind::Emergency) {
            return Err(Refusal::KindForbidden(Kind::Emergency));
        }
        let expires_at = code.expires_at;
        self.emergency = Some(code);
        let note = Note::new(Action::EmergencyCodeIssued).kind(Kind::Emergency);
        self.record(call, note.detail("expiresAt", expires_at.to_string()));
        Ok(())
    }

    /// Withdraws the person's emergency code, or none but the one with this id; tells whether there was one.
    pub fn revoke_emergency_code(&mut self, only: Option<Uuid>, call: &Call) -> Result<bool, Refusal> {
        self.check_managed_by(call)?;
        let is_meant = |code: &mut EmergencyCode| only.is_none_or(|id| code.salt == id);
        if self.emergency.take_if(is_meant).is_none() {
            return Ok(false);
        }
        self.record(call, Note::new(Action::EmergencyCodeRevoked).kind(Kind::Emergency));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{attempt::Target, testing::Person, verify::Verdict};

    const EMERGENCY: Target = Target::Kind(Kind::Emergency);

    #[test]
    fn an_emergency_code_works_once() {
        let mut person = Person::new();
        let code = person.emergency.shown().expose().clone();

        assert_eq!(
            person.verify(&code, EMERGENCY),
            Verdict::Accepted { factor: None, kind: Kind::Emergency }
        );
        assert_eq!(person.verify(&code, EMERGENCY), Verdict::Replayed);
        assert_eq!(person.user.locks.failures(), 0);
    }

    #[test]
    fn an_emergency_code_expires() {
        let mut person = Person::new();
        let code = person.issue_emergency_code(5, Some(Duration::from_secs(600))).canonical().to_owned();

        person.wait(600);

        assert_eq!(person.verify(&code, EMERGENCY), Verdict::Expired);
        assert_eq!(person.user.locks.failures(), 0);
        assert!(matches!(person.fail(EMERGENCY), Verdict::Rejected { .. }));
    }

    #[test]
    fn a_new_emergency_code_replaces_the_old_one() {
        let mut person = Person::new();
        let old = person.emergency.canonical().to_owned();

        let new = person.issue_emergency_code(5, None).canonical().to_owned();

        assert!(matches!(person.verify(&old, EMERGENCY), Verdict::Rejected { .. }));
        assert!(person.verify(&new, EMERGENCY).is_accepted());
    }

    #[test]
    fn a_withdrawn_emergency_code_is_gone() {
        let mut person = Person::new();
        let (code, call) = (person.emergency.canonical().to_owned(), person.client());

        assert_eq!(person.user.revoke_emergency_code(None, &call), Ok(true));

        assert_eq!(person.verify(&code, EMERGENCY), Verdict::NoFactor);
        assert_eq!(person.user.revoke_emergency_code(None, &call), Ok(false));
    }

    #[test]
    fn a_code_that_was_replaced_is_not_the_one_that_is_withdrawn() {
        let mut person = Person::new();
        let (present, call) = (person.user.emergency.clone().expect("code").salt, person.client());

        assert_eq!(person.user.revoke_emergency_code(Some(Uuid::nil()), &call), Ok(false));
        assert!(person.user.emergency.is_some());
        assert_eq!(person.user.revoke_emergency_code(Some(present), &call), Ok(true));
        assert!(person.user.emergency.is_none());
    }

    #[test]
    fn policy_grants_a_life_within_its_bounds() {
        let policy = Policy { emergency_code_seconds: 3600, ..Policy::default() };
        let granted = |seconds| EmergencyCode::granted_life(Duration::from_secs(seconds), &policy).as_secs();

        assert_eq!([0, 60, 600, 3600, 86_400].map(granted), [60, 60, 600, 3600, 3600]);
    }

    #[test]
    fn the_life_of_an_emergency_code_is_bounded_by_policy() {
        let person = Person::new();
        let longest = person.policy.emergency_code_seconds;
        let hashed =
            |seconds| person.hash_emergency_code(&person.emergency, Some(Duration::from_secs(seconds)));

        for seconds in [0, 59, longest + 1] {
            let Err(Refusal::Invalid(invalid)) = hashed(seconds) else { panic!("{seconds} seconds") };
            assert_eq!(invalid.field, "expiresInSeconds");
        }
        assert!(hashed(60).is_ok() && hashed(longest).is_ok());
    }

    #[test]
    fn policy_forbids_emergency_codes() {
        let mut person = Person::new();
        person.policy.kinds.remove(&Kind::Emergency);
        let code = person.hash_emergency_code(&person.emergency, None).expect("hash");
        let call = person.client();

        let issued = person.user.issue_emergency_code(code, &person.policy, &call);

        assert_eq!(issued, Err(Refusal::KindForbidden(Kind::Emergency)));
    }
}
