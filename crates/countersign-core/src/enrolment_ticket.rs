//! Enrolment by ticket: an app's key and a set of recovery codes, handed out together and taken into use together.
//!
//! Whoever enrols gets a ticket with them. Ticket and first code put the new factor in the place of what the person had:
//! their one-time passwords and recovery codes before it keep working until then, and not longer. So somebody who lost
//! their telephone is never without a second factor, nor with two.

use crate::{
    attempt::Code,
    enrolment::{Activation, burn, check},
    event::{Action, Call, Note},
    factor::{
        Factor, Held, Kind, Pending, Proof,
        otp::Check,
        recovery::{Found, RecoveryCodes},
        scratch::Stretched,
    },
    id::{FactorId, OrganisationId, UserId},
    keyring::{Binding, KeyError, Keyring, Purpose, Tag},
    lock::Method,
    message::Notice,
    policy::Policy,
    profile::Label,
    refusal::Refusal,
    secret::Secret,
    user::User,
};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// How long a factor enrolled by ticket waits for its first code.
pub const TICKET_LIFE: Duration = Duration::from_secs(15 * 60);

/// The bytes of a ticket.
pub const TICKET_BYTES: usize = 32;

/// A ticket as it is handed out, in whatever form: random, good once, stored as a keyed hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentTicket(Secret<[u8; TICKET_BYTES]>);

impl EnrolmentTicket {
    /// Draws a ticket.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; TICKET_BYTES];
        rng.fill_bytes(&mut bytes);
        Self(bytes.into())
    }

    /// Takes the bytes of a ticket that came back.
    pub fn from_bytes(bytes: [u8; TICKET_BYTES]) -> Self {
        Self(bytes.into())
    }

    /// Shows the bytes, to be handed out.
    pub fn expose(&self) -> &[u8; TICKET_BYTES] {
        self.0.expose()
    }
}

/// What a factor enrolled by ticket waits with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTicket {
    /// The keyed hash of the ticket.
    pub tag: Tag,
    /// The recovery codes that come into use with the factor; none where policy forbids them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryCodes>,
}

impl StoredTicket {
    /// Hashes a ticket for one factor of one person.
    pub fn new(
        ticket: &EnrolmentTicket,
        recovery: Option<RecoveryCodes>,
        factor: FactorId,
        (organisation, user): (OrganisationId, UserId),
        keys: &impl Keyring,
    ) -> Result<Self, KeyError> {
        let binding = Binding::of_user(Purpose::EnrolmentTicket, organisation, user, factor.uuid());
        Ok(Self { tag: keys.tag(&binding, None, ticket.expose())?, recovery })
    }
}

/// What a ticket and a code led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redemption {
    /// The factor is in use, and the only one of its kind.
    Activated(FactorId),
    /// The ticket was right and the code wrong; after as many more tries the enrolment is dropped.
    WrongCode {
        /// Tries that remain.
        attempts_left: u8,
    },
    /// There is no such ticket: it was never issued, replaced, used, expired or tried too often.
    NoSuchTicket,
}

impl User {
    /// Enrols an OTP factor that waits for ticket and first code. It replaces an earlier one that still waits for its, and
    /// only with `replace` will it one day replace a second factor that is on.
    pub fn enrol_by_ticket(
        &mut self,
        (id, label, proof): (FactorId, Label, Proof),
        ticket: StoredTicket,
        replace: bool,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        if !replace && self.mfa_enabled && self.has_active_factor() {
            return Err(Refusal::AlreadyEnrolled);
        }
        self.drop_expired_factors(call);
        self.drop_ticketed(call);
        self.make_room_for_pending(call);
        self.check_room_for(proof.kind(), policy)?;

        let note = Note::new(Action::FactorEnrolled).factor(id).kind(proof.kind());
        let note = note.detail("recoveryCodes", ticket.recovery.as_ref().map_or(0, |set| set.codes.len()));
        let expires_at = call.now.after(TICKET_LIFE);
        let state = Pending { expires_at, failures: 0, ticket: Some(Box::new(ticket)) };
        self.factors.push(Factor::Pending(Held { id, label, created_at: call.now, proof, state }));
        self.record(call, note);
        Ok(())
    }

    /// Activates the factor a ticket was issued for, by its first code or by one of its recovery codes, which is spent.
    pub fn activate_by_ticket(
        &mut self,
        ticket: &EnrolmentTicket,
        code: &Code,
        stretched: Option<&Stretched>,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Redemption, Refusal> {
        self.check_managed_by(call)?;
        self.drop_expired_factors(call);
        let Some((place, mut held)) = self.ticketed() else {
            self.record(call, Note::new(Action::FactorActivationRejected).reason("no_such_ticket"));
            return Ok(Redemption::NoSuchTicket);
        };
        if !policy.allows(held.proof.kind()) {
            return Err(Refusal::KindForbidden(held.proof.kind()));
        }
        if !self.is_ticket_of(&held, ticket, keys)? {
            // Counted like a wrong code, else tickets could be guessed at for as long as one lives.
            self.fail_activation(place, held, call);
            return Ok(Redemption::NoSuchTicket);
        }
        if !self.proves(&mut held, code, stretched, policy, keys, call)? {
            return Ok(match self.fail_activation(place, held, call) {
                Activation::Rejected { attempts_left } => Redemption::WrongCode { attempts_left },
                Activation::Activated | Activation::Expired => Redemption::NoSuchTicket,
            });
        }
        let id = held.id;
        self.put_in_use(place, held, call);
        Ok(Redemption::Activated(id))
    }

    /// Returns the salt a typed code is to be stretched with before [`User::activate_by_ticket`].
    pub fn salt_for_ticket(&self, code: &Code) -> Option<Uuid> {
        let (_, held) = self.ticketed()?;
        held.state.ticket.as_ref()?.recovery.as_ref()?.salt_for(code)
    }

    /// Compares a code with what a waiting factor brings, and uses it up there.
    fn proves(
        &self,
        held: &mut Held<Pending>,
        code: &Code,
        stretched: Option<&Stretched>,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<bool, Refusal> {
        if let Some(sealed) = held.proof.secret() {
            let secret = self.open_secret(held.id, sealed, keys)?;
            if let Check::Fresh(moving_factor) = check(&held.proof, &secret, code, policy, call) {
                burn(&mut held.proof, moving_factor);
                return Ok(true);
            }
        }
        let codes = held.state.ticket.as_mut().and_then(|ticket| ticket.recovery.as_mut());
        let Some(codes) = codes.filter(|_| policy.allows(Kind::Recovery)) else { return Ok(false) };
        let Found::Fresh(place) = codes.find(code, stretched, self.organisation, self.id, keys)? else {
            return Ok(false);
        };
        codes.burn(place, call.now);
        Ok(true)
    }

    /// Takes away what a factor enrolled by ticket replaces, and puts its recovery codes in the place of those before.
    pub(crate) fn replace_all_but(&mut self, id: FactorId, codes: Option<RecoveryCodes>, call: &Call) {
        let is_replaced = |factor: &Factor| factor.id() != id && factor.kind().method() == Method::Token;
        let gone: Vec<Factor> = self.factors.extract_if(.., |factor| is_replaced(factor)).collect();
        for factor in &gone {
            self.end_challenge_of(factor.id(), call);
            let note = Note::new(Action::FactorDeleted).factor(factor.id()).kind(factor.kind());
            self.record(call, note.reason("replaced"));
            self.end_enrolment_of(factor.id(), call);
            if !matches!(factor, Factor::Pending(_)) {
                self.notify(Notice::FactorRemoved, Some(factor.kind().name()), &[], call);
            }
        }
        if self.recovery.is_none() && codes.is_none() {
            return;
        }
        let count = codes.as_ref().map_or(0, |set| set.codes.len());
        self.recovery = codes;
        let note = Note::new(Action::RecoveryCodesReplaced).kind(Kind::Recovery);
        self.record(call, note.detail("count", count));
    }

    fn is_ticket_of(
        &self,
        held: &Held<Pending>,
        ticket: &EnrolmentTicket,
        keys: &impl Keyring,
    ) -> Result<bool, KeyError> {
        let Some(stored) = &held.state.ticket else { return Ok(false) };
        let binding = Binding::of_user(Purpose::EnrolmentTicket, self.organisation, self.id, held.id.uuid());
        keys.matches(&binding, &stored.tag, ticket.expose())
    }

    /// Returns the factor that waits for its ticket; there is one at most.
    fn ticketed(&self) -> Option<(usize, Held<Pending>)> {
        self.factors.iter().enumerate().find_map(|(place, factor)| match factor {
            Factor::Pending(held) if held.state.ticket.is_some() => Some((place, held.clone())),
            _ => None,
        })
    }

    fn drop_ticketed(&mut self, call: &Call) {
        if let Some((place, held)) = self.ticketed() {
            self.factors.remove(place);
            self.end_challenge_of(held.id, call);
            self.record(call, Note::new(Action::FactorDeleted).factor(held.id).reason("replaced"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attempt::Target,
        factor::scratch::ScratchCode,
        message::Words,
        role::Role,
        testing::{OpenKeyring, Person, WRONG, newcomer, person_with_role, rng, short_codes, stretch, typed},
        user::Status,
    };

    /// A factor enrolled by ticket, with what was handed out.
    struct Handed {
        factor: FactorId,
        ticket: EnrolmentTicket,
        codes: Vec<ScratchCode>,
        salt: Uuid,
    }

    fn enrol(person: &mut Person, number: u128, call: &Call) -> Result<Handed, Refusal> {
        enrol_anew(person, number, true, call)
    }

    fn enrol_anew(person: &mut Person, number: u128, replace: bool, call: &Call) -> Result<Handed, Refusal> {
        let (id, label, proof) = person.new_totp(number);
        let salt = Uuid::from_u128(number);
        let (codes, set) = short_codes(&person.user, salt, person.now);
        let ticket = EnrolmentTicket::generate(&mut rng(number as u64));
        let whose = (person.user.organisation, person.user.id);
        let stored = StoredTicket::new(&ticket, Some(set), id, whose, &OpenKeyring)?;
        person.user.enrol_by_ticket((id, label, proof), stored, replace, &person.policy, call)?;
        Ok(Handed { factor: id, ticket, codes, salt })
    }

    fn enrolled(person: &mut Person, number: u128) -> Handed {
        let call = person.client();
        enrol(person, number, &call).expect("enrol")
    }

    fn redeem(person: &mut Person, handed: &Handed, code: &str) -> Redemption {
        let (call, stretched) = (person.client(), stretch(code, handed.salt));
        person
            .user
            .activate_by_ticket(
                &handed.ticket,
                &typed(code),
                Some(&stretched),
                &person.policy,
                &OpenKeyring,
                &call,
            )
            .expect("redeem")
    }

    fn live_codes(person: &Person) -> usize {
        person.user.recovery.as_ref().map_or(0, RecoveryCodes::remaining)
    }

    #[test]
    fn nothing_changes_until_ticket_and_code_come_back() {
        let mut person = newcomer();

        let handed = enrolled(&mut person, 1);

        assert!(!person.user.mfa_enabled && person.user.recovery.is_none());
        assert!(!person.verify(&person.totp_code(0), Target::AnyOtp).is_accepted());
        let code = person.totp_code(0);
        assert_eq!(redeem(&mut person, &handed, &code), Redemption::Activated(handed.factor));
        assert!(person.user.mfa_enabled);
        assert_eq!(live_codes(&person), 5);
        assert_eq!(
            person.happened(),
            [
                "user.created",
                "factor.enrolled",
                "verify.rejected: no_factor",
                "factor.activated",
                "recovery_codes.replaced"
            ]
        );
    }

    #[test]
    fn a_second_factor_that_is_on_is_replaced_only_by_who_says_so() {
        let (mut person, mut switched_off) = (Person::new(), Person::new());
        switched_off.user.mfa_enabled = false;
        let call = person.client();

        let refused = enrol_anew(&mut person, 1, false, &call).err();

        assert_eq!(refused, Some(Refusal::AlreadyEnrolled));
        assert_eq!(person.user.waiting(Kind::Totp), Err(Refusal::NoSuchFactor));
        assert!(enrol_anew(&mut switched_off, 1, false, &call).is_ok());
        assert!(enrol_anew(&mut newcomer(), 1, false, &call).is_ok());
    }

    #[test]
    fn a_ticket_and_its_code_are_good_once() {
        let mut person = newcomer();
        let handed = enrolled(&mut person, 1);
        let code = person.totp_code(0);
        redeem(&mut person, &handed, &code);

        let next = person.totp_code(1);
        assert_eq!(redeem(&mut person, &handed, &next), Redemption::NoSuchTicket);
        assert_eq!(person.verify(&code, Target::AnyOtp), crate::Verdict::Replayed);
    }

    #[test]
    fn a_recovery_code_of_the_enrolment_activates_it_and_is_spent() {
        let mut person = newcomer();
        let handed = enrolled(&mut person, 1);
        let code = handed.codes[2].canonical().to_owned();
        assert_eq!(person.user.salt_for_ticket(&typed(&code)), Some(handed.salt));
        assert_eq!(person.user.salt_for_ticket(&typed("123456")), None);

        assert_eq!(redeem(&mut person, &handed, &code), Redemption::Activated(handed.factor));

        assert_eq!(live_codes(&person), 4);
        assert!(person.verify(&person.totp_code(0), Target::AnyOtp).is_accepted());
    }

    #[test]
    fn what_was_there_works_until_the_new_factor_is_activated_and_not_longer() {
        let mut person = Person::new();
        let email = person.sent_factor(50, crate::Channel::Mail, "ada@example.com");
        let old_recovery = person.recovery[0].canonical().to_owned();
        let handed = enrolled(&mut person, 1);
        assert!(person.verify(&person.hotp_code(0), Target::AnyOtp).is_accepted());
        person.letters();

        let code = person.totp_code(0);
        assert_eq!(redeem(&mut person, &handed, &code), Redemption::Activated(handed.factor));

        let left: Vec<FactorId> = person.user.factors.iter().map(Factor::id).collect();
        assert_eq!(left, [email, handed.factor], "codes that are sent are no one-time passwords of an app");
        assert!(!person.verify(&person.hotp_code(1), Target::AnyOtp).is_accepted());
        assert!(!person.verify(&old_recovery, Target::Kind(Kind::Recovery)).is_accepted());
        let told: Vec<&str> = person
            .letters()
            .iter()
            .map(|letter| match &letter.words {
                Words::Notice { what, .. } => what.name(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, ["factor_removed", "factor_removed", "factor_added"]);
    }

    #[test]
    fn a_new_ticket_replaces_the_one_before() {
        let mut person = newcomer();
        let first = enrolled(&mut person, 1);
        let second = enrolled(&mut person, 2);
        let code = person.totp_code(0);

        assert_eq!(redeem(&mut person, &first, &code), Redemption::NoSuchTicket);

        assert_eq!(redeem(&mut person, &second, &code), Redemption::Activated(second.factor));
        assert_eq!(person.user.factors.len(), 1);
    }

    #[test]
    fn five_wrong_codes_or_tickets_end_an_enrolment() {
        let mut person = newcomer();
        let handed = enrolled(&mut person, 1);
        let forged =
            Handed { ticket: EnrolmentTicket::from_bytes([7; TICKET_BYTES]), ..enrolled(&mut newcomer(), 1) };
        let right = person.totp_code(0);

        for left in [4, 3] {
            assert_eq!(redeem(&mut person, &handed, WRONG), Redemption::WrongCode { attempts_left: left });
        }
        for _ in 0..3 {
            assert_eq!(redeem(&mut person, &forged, &right), Redemption::NoSuchTicket);
        }

        assert_eq!(redeem(&mut person, &handed, &right), Redemption::NoSuchTicket);
        assert!(person.user.factors.is_empty() && !person.user.mfa_enabled);
        assert_eq!(
            person.happened().last().map(String::as_str),
            Some("factor.activation_rejected: no_such_ticket")
        );
    }

    #[test]
    fn a_ticket_expires() {
        let mut person = newcomer();
        let handed = enrolled(&mut person, 1);
        person.wait(TICKET_LIFE.as_secs());
        let code = person.totp_code(0);

        assert_eq!(redeem(&mut person, &handed, &code), Redemption::NoSuchTicket);
        assert!(person.user.factors.is_empty());
    }

    #[test]
    fn a_slow_hash_for_another_ticket_decides_nothing() {
        let mut person = newcomer();
        let handed = enrolled(&mut person, 1);
        let (call, code) = (person.client(), handed.codes[0].canonical().to_owned());
        person.happened();

        let stale = person.user.activate_by_ticket(
            &handed.ticket,
            &typed(&code),
            None,
            &person.policy,
            &OpenKeyring,
            &call,
        );

        assert_eq!(stale, Err(Refusal::Stale));
        assert!(person.user.is_unchanged());
    }

    #[test]
    fn a_ticketed_factor_activated_otherwise_brings_and_replaces_the_same() {
        let mut person = Person::new();
        let handed = enrolled(&mut person, 1);
        let code = person.totp_code(0);

        assert_eq!(person.activate(handed.factor, &code), Activation::Activated);

        assert_eq!(person.user.factors.len(), 1);
        assert_eq!(live_codes(&person), 5);
    }

    #[test]
    fn possession_and_the_ladder_hold_for_tickets() {
        let mut person = person_with_role(Role::Admin);
        let (weak, helpdesk) = (person.themselves(false), person.staff(Role::Helpdesk));
        let strong = person.themselves(true);

        assert_eq!(enrol(&mut person, 1, &weak).map(drop), Err(Refusal::SecondFactorNeeded));
        assert_eq!(enrol(&mut person, 1, &helpdesk).map(drop), Err(Refusal::AboveYourRank(Role::Admin)));
        let handed = enrol(&mut person, 1, &strong).expect("enrol");
        for (call, refusal) in
            [(weak, Refusal::SecondFactorNeeded), (helpdesk, Refusal::AboveYourRank(Role::Admin))]
        {
            let code = typed(&person.totp_code(0));
            let Person { user, policy, .. } = &mut person;
            let refused = user.activate_by_ticket(&handed.ticket, &code, None, policy, &OpenKeyring, &call);
            assert_eq!(refused, Err(refusal));
        }
    }

    fn switch_off(person: &mut Person, call: &Call) -> Result<(), Refusal> {
        person.user.switch_off_mfa(&person.policy, call)
    }

    #[test]
    fn switching_off_leaves_nothing_to_prove_and_nothing_to_ask_for() {
        let mut person = Person::new();
        person.set_password();
        person.open_login(1);
        enrolled(&mut person, 1);
        person.fail(Target::AnyOtp);
        person.happened();
        let call = person.client();

        assert_eq!(switch_off(&mut person, &call), Ok(()));

        let user = &person.user;
        assert!(user.factors.is_empty() && user.logins.is_empty() && !user.mfa_enabled);
        assert!(user.recovery.is_none() && user.emergency.is_none());
        assert_eq!(user.locks.failures(), 1, "or switching off and on would buy tries");
        assert_eq!(person.happened(), ["mfa.switched_off"]);
        assert_eq!(switch_off(&mut person, &call), Ok(()));
        assert!(person.user.is_unchanged());
    }

    #[test]
    fn switching_off_follows_policy_possession_and_the_ladder() {
        let mut person = person_with_role(Role::Admin);
        let (weak, helpdesk) = (person.themselves(false), person.staff(Role::Helpdesk));
        let strong = person.themselves(true);
        let before = person.user.clone();

        assert_eq!(switch_off(&mut person, &weak), Err(Refusal::SecondFactorNeeded));
        assert_eq!(switch_off(&mut person, &helpdesk), Err(Refusal::AboveYourRank(Role::Admin)));
        person.policy.requirement = crate::policy::Requirement::Enforced;
        assert_eq!(switch_off(&mut person, &strong), Err(Refusal::MfaEnforced));
        assert_eq!(person.user, before);
        person.policy.requirement = crate::policy::Requirement::Optional;
        person.user.status = Status::Disabled;
        assert_eq!(switch_off(&mut person, &strong), Err(Refusal::UserDisabled));
    }
}
