//! Setting up an authenticator app without being signed in: by a link that was mailed, or by a code that was told.
//!
//! Either belongs to one factor that waits for its first code, and lives and dies with it: when the factor is activated,
//! deleted, replaced or reset, or has waited too long, the link opens nothing. A person has one of them at most.
//!
//! While it is open, a password alone enrols nothing else: whoever stole that must not come before the one who reads the
//! mail or has the help desk on the phone. A first code from the key behind the link does finish a sign-in, because it
//! proves both (see [`User::second_step`]).

use crate::{
    attempt::Code,
    destination::Destination,
    enrolment::Activation,
    event::{Action, Call, Note},
    factor::{Factor, Held, Kind, Pending, Proof},
    id::{DeliveryId, FactorId},
    keyring::{Keyring, Tag},
    lock::Method,
    message::{Message, Words},
    policy::Policy,
    profile::Label,
    refusal::{Invalid, Refusal},
    resend::ResendRule,
    secret::Secret,
    time::Timestamp,
    user::{Status, User, UserPatch},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a link is good. The products whose calls we answer mail theirs for 24 hours (SafeShare's help, "reseed"): long
/// enough for a mail that is read the next morning.
pub const LINK_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The way open to a person to set up an authenticator app without being signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenEnrolment {
    /// The factor it sets up, which waits for its first code.
    pub factor: FactorId,
    /// What opens it.
    pub way: Way,
}

/// What opens an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The link in this message.
    Link(DeliveryId),
    /// A code that was told, here as its keyed hash.
    Code {
        /// The keyed hash.
        tag: Tag,
        /// Wrong codes so far.
        #[serde(default)]
        failures: u8,
    },
    /// The page that a right code opened.
    Page,
}

/// A link drawn for a person, before the change: rules have no randomness of their own.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// The factor it sets up.
    pub factor: FactorId,
    /// What the person will find it called.
    pub label: Label,
    /// The key.
    pub proof: Proof,
    /// The id of the message that carries the link.
    pub delivery: DeliveryId,
    /// Where the link leads.
    pub url: Secret<String>,
}

impl User {
    /// Mails a link to the profile's address by which the person sets up an authenticator app; an earlier one is dead.
    ///
    /// With `replace` what proved their identity so far is gone at once: OTP factors, recovery and emergency codes, open
    /// sign-ins, sessions. The second step stays asked for, so no sign-in is finished before the link was followed.
    pub fn send_enrolment_link(
        &mut self,
        new: &NewLink,
        replace: bool,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        if self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        let Some(address) = self.email.clone() else {
            return Err(
                Invalid::new("email", "the profile has no address that the link could be sent to").into()
            );
        };
        let to = Destination::Email(address);
        policy.destinations.check(&to)?;
        // What is taken away must not wait for the pause after a link before: the telephone may be in other hands.
        let pause_seconds = if replace { 0 } else { policy.resend.pause_seconds };
        let limit = ResendRule { pause_seconds, ..policy.resend };
        let log = self.sent.entry(Method::Email).or_default();
        log.admit(&limit, call.now).map_err(Refusal::TooSoon)?;

        self.drop_open_enrolment("replaced", call);
        if replace {
            self.forget_keys(call);
        }
        let expires_at =
            self.await_first_code(new.factor, new.label.clone(), new.proof.clone(), LINK_LIFE, policy, call)?;
        self.enrolment = Some(OpenEnrolment { factor: new.factor, way: Way::Link(new.delivery) });
        let note = Note::new(Action::EnrolmentLinkSent).factor(new.factor).method(Method::Email);
        let note = note.detail("destination", to.masked()).detail("expiresAt", expires_at.to_string());
        self.record(call, note);
        self.post(Message {
            id: new.delivery,
            organisation: self.organisation,
            user: Some(self.id),
            challenge: None,
            limit: Some(limit),
            to,
            or_else: Vec::new(),
            locale: self.locale.clone(),
            name: self.greeting().to_owned(),
            at: call.now,
            expires_at,
            words: Words::EnrolmentLink { url: new.url.clone() },
        });
        Ok(())
    }

    /// Switches the person's second step on, and mails them the link if they have no key to prove it with. One that is on
    /// stays as it is. Tells whether a link was mailed.
    pub fn switch_on_mfa(&mut self, new: &NewLink, policy: &Policy, call: &Call) -> Result<bool, Refusal> {
        let was_on = self.mfa_enabled;
        self.update(UserPatch { mfa_enabled: Some(true), ..UserPatch::default() }, call)?;
        if was_on { Ok(false) } else { self.send_first_link(new, policy, call) }
    }

    /// Mails a link that takes the place of what proved their identity so far (see [`User::send_enrolment_link`]), if their
    /// sign-in asks for a second step at all.
    pub fn renew_key(&mut self, new: &NewLink, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        if !self.asks_for_second_step(policy) {
            return Err(Invalid::new("mfaEnabled", "the second factor is off, so there is no key").into());
        }
        self.send_enrolment_link(new, true, policy, call)
    }

    /// Mails the link unless the person has a key, or a way to set one up is open already; tells whether.
    pub fn send_first_link(&mut self, new: &NewLink, policy: &Policy, call: &Call) -> Result<bool, Refusal> {
        let has_key = self.active_factors().any(|held| held.proof.kind().method() == Method::Token);
        if has_key || self.open_enrolment_link(call.now) {
            return Ok(false);
        }
        self.send_enrolment_link(new, false, policy, call)?;
        Ok(true)
    }

    /// Takes away what proved the person's identity so far, so that only the new key will. Factors whose codes are sent
    /// have no key and stay.
    fn forget_keys(&mut self, call: &Call) {
        let is_key = |factor: &&Factor| factor.kind().method() == Method::Token;
        let keys: Vec<(FactorId, Kind)> =
            self.factors.iter().filter(is_key).map(|factor| (factor.id(), factor.kind())).collect();
        for (id, kind) in keys {
            self.factors.retain(|factor| factor.id() != id);
            self.record(call, Note::new(Action::FactorDeleted).factor(id).kind(kind).reason("replaced"));
        }
        if self.emergency.take().is_some() {
            self.record(
                call,
                Note::new(Action::EmergencyCodeRevoked).kind(Kind::Emergency).reason("replaced"),
            );
        }
        self.recovery = None;
        self.logins.clear();
        // Nor may the retry of an earlier attempt be told that it was accepted.
        self.requests.clear();
        self.end_sessions(None, call);
        self.mfa_enabled = true;
    }

    /// Activates the factor behind a link by its first code, for whoever has the link.
    pub fn activate_by_link(
        &mut self,
        factor: FactorId,
        code: &Code,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Activation, Refusal> {
        if self.factor_behind_link(factor, policy, call.now).is_none() {
            return Err(Refusal::TokenGone);
        }
        self.activate_pending(factor, code, policy, keys, call)
    }

    /// Returns the factor that an open link, or the page that a code opened, sets up.
    pub fn factor_behind_link(
        &self,
        factor: FactorId,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<&Held<Pending>> {
        let (open, held) = self.awaited(now)?;
        let is_open = !matches!(open.way, Way::Code { .. }) && self.status == Status::Active;
        (is_open && held.id == factor && policy.allows(held.proof.kind())).then_some(held)
    }

    /// Tells whether a link that was mailed, or a code that was told, is waited for. A code that died of wrong ones is:
    /// else whoever stole a password would only have to guess until nothing is in their way.
    pub fn open_enrolment_link(&self, now: Timestamp) -> bool {
        self.awaited(now).is_some()
    }

    /// Returns the open enrolment and the factor that waits.
    pub(crate) fn awaited(&self, now: Timestamp) -> Option<(&OpenEnrolment, &Held<Pending>)> {
        let open = self.enrolment.as_ref()?;
        self.factors.iter().find_map(|factor| match factor {
            Factor::Pending(held) if held.id == open.factor && held.state.expires_at > now => {
                Some((open, held))
            }
            _ => None,
        })
    }

    /// Ends a link that was mailed: its address is not the person's any more, perhaps never was.
    pub(crate) fn drop_mailed_link(&mut self, call: &Call) {
        if matches!(self.enrolment, Some(OpenEnrolment { way: Way::Link(_), .. })) {
            self.drop_open_enrolment("address_changed", call);
        }
    }

    /// Ends the open enrolment with its factor.
    pub(crate) fn drop_open_enrolment(&mut self, reason: &'static str, call: &Call) {
        self.drop_expired_factors(call);
        let Some(factor) = self.enrolment.as_ref().map(|open| open.factor) else { return };
        self.end_enrolment(call);
        let before = self.factors.len();
        self.factors.retain(|held| held.id() != factor);
        if self.factors.len() < before {
            self.record(call, Note::new(Action::FactorDeleted).factor(factor).reason(reason));
        }
    }

    /// Ends the enrolment of a factor that is in use or gone.
    pub(crate) fn end_enrolment_of(&mut self, factor: FactorId, call: &Call) {
        if self.enrolment.as_ref().is_some_and(|open| open.factor == factor) {
            self.end_enrolment(call);
        }
    }

    /// Ends the open enrolment. A link that is still on its way need not arrive.
    pub(crate) fn end_enrolment(&mut self, call: &Call) {
        if let Some(OpenEnrolment { way: Way::Link(delivery), .. }) = self.enrolment.take() {
            self.withdraw(delivery, call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attempt::Target,
        id::LoginId,
        keyring::{Binding, Purpose},
        message::Letter,
        policy::Requirement,
        profile::Email,
        role::Role,
        session::{SecondStep, SignIn},
        testing::{OpenKeyring, Person, WRONG, attempt, label, new_session, newcomer, typed},
        verify::Verdict,
    };
    use uuid::Uuid;

    const URL: &str = "https://mfa.example.com/enrol?token=csl_x";

    /// Somebody without factors, with an address and a password.
    fn reachable() -> Person {
        let mut person = newcomer();
        person.user.email = Some(Email::parse("email", "ada@example.com").expect("address"));
        person.set_password();
        person.happened();
        person
    }

    fn link(person: &Person, number: u128) -> NewLink {
        let (factor, _, proof) = person.new_totp(number);
        let delivery = DeliveryId::from_uuid(Uuid::from_u128(number));
        NewLink { factor, label: label("Authenticator app"), proof, delivery, url: Secret::new(URL.into()) }
    }

    fn send(person: &mut Person, number: u128, replace: bool) -> Result<FactorId, Refusal> {
        let (new, call) = (link(person, number), person.staff(Role::Admin));
        person.user.send_enrolment_link(&new, replace, &person.policy, &call)?;
        Ok(new.factor)
    }

    /// Sends a link once the pause between two messages is over.
    fn sent(person: &mut Person, number: u128, replace: bool) -> FactorId {
        person.wait(60);
        send(person, number, replace).expect("sent")
    }

    fn switch_on(person: &mut Person, number: u128) -> Result<bool, Refusal> {
        let (new, call) = (link(person, number), person.staff(Role::Admin));
        person.user.switch_on_mfa(&new, &person.policy, &call)
    }

    fn send_first(person: &mut Person, number: u128) -> Result<bool, Refusal> {
        let (new, call) = (link(person, number), person.staff(Role::Admin));
        person.user.send_first_link(&new, &person.policy, &call)
    }

    #[test]
    fn a_key_is_renewed_where_a_second_step_is_asked_for_and_nowhere_else() {
        let mut person = reachable();
        person.policy.requirement = Requirement::Optional;
        let renew = |person: &mut Person, number, call: &Call| {
            person.user.renew_key(&link(person, number), &person.policy, call)
        };
        let (helpdesk, nobody) = (person.staff(Role::Helpdesk), person.staff(Role::Member));

        let off = renew(&mut person, 1, &helpdesk);

        assert!(matches!(off, Err(Refusal::Invalid(invalid)) if invalid.field == "mfaEnabled"));
        assert_eq!(renew(&mut person, 1, &nobody), Err(Refusal::AboveYourRank(Role::Member)));
        person.user.mfa_enabled = true;
        assert_eq!(renew(&mut person, 1, &helpdesk), Ok(()));
        assert!(person.user.open_enrolment_link(person.now));
    }

    #[test]
    fn switching_on_mails_a_link_to_whoever_has_no_key() {
        let mut person = reachable();

        assert_eq!(switch_on(&mut person, 1), Ok(true));
        person.wait(3600);

        assert!(person.user.mfa_enabled && person.user.open_enrolment_link(person.now));
        assert_eq!(switch_on(&mut person, 2), Ok(false), "what is on stays as it is");
    }

    #[test]
    fn switching_on_without_an_address_switches_nothing_on() {
        let mut person = newcomer();

        let refused = switch_on(&mut person, 1);

        assert!(matches!(refused, Err(Refusal::Invalid(invalid)) if invalid.field == "email"));
    }

    #[test]
    fn a_first_link_goes_to_whoever_has_neither_key_nor_link() {
        let mut person = reachable();

        assert_eq!(send_first(&mut person, 1), Ok(true));
        person.wait(3600);
        assert_eq!(send_first(&mut person, 2), Ok(false), "a link is open");
        let (factor, code) = (link(&person, 1).factor, person.totp_code(0));
        assert_eq!(follow(&mut person, factor, &code), Ok(Activation::Activated));
        person.wait(24 * 3600);
        assert_eq!(send_first(&mut person, 3), Ok(false), "there is a key");
        person.user.factors.clear();
        assert_eq!(send_first(&mut person, 4), Ok(true));
    }

    fn follow(person: &mut Person, factor: FactorId, code: &str) -> Result<Activation, Refusal> {
        let call = person.nobody();
        person.user.activate_by_link(factor, &typed(code), &person.policy, &OpenKeyring, &call)
    }

    fn second_step(person: &mut Person, login: LoginId, code: &str, target: Target) -> SecondStep {
        let (call, session) = (person.nobody(), new_session(99).session);
        let attempt = attempt(code, target);
        let step = person.user.second_step(login, &attempt, session, &person.policy, &OpenKeyring, &call);
        step.expect("second step")
    }

    fn enrol_in_login(person: &mut Person, login: LoginId) -> Result<(), Refusal> {
        let (factor, call) = (person.new_totp(77), person.themselves(false));
        person.user.enrol_in_login(login, factor, &person.policy, &call)
    }

    #[test]
    fn a_link_is_mailed_and_sets_up_the_app_once() {
        let mut person = reachable();

        let factor = sent(&mut person, 1, false);

        assert_eq!(person.happened(), ["factor.enrolled", "enrolment.link_sent"]);
        let letters: Vec<Letter> = person.letters();
        let Words::EnrolmentLink { url } = &letters[0].words else { panic!("{letters:?}") };
        assert_eq!((url.expose().as_str(), letters[0].to.full()), (URL, "ada@example.com"));
        assert_eq!(letters[0].expires_at, person.now.after(LINK_LIFE));
        let code = person.totp_code(0);
        assert_eq!(follow(&mut person, factor, &code), Ok(Activation::Activated));
        assert_eq!(person.happened(), ["factor.activated"]);
        assert!(person.user.has_active_factor() && person.user.mfa_enabled);
        let code = person.totp_code(1);
        assert_eq!(follow(&mut person, factor, &code), Err(Refusal::TokenGone));
        assert!(!person.user.open_enrolment_link(person.now));
    }

    #[test]
    fn the_url_prints_nowhere() {
        let mut person = reachable();
        sent(&mut person, 1, false);

        let shown = format!("{:?}", person.user);
        let records = person.user.take_records();
        let told = records.iter().any(|record| String::from_utf8_lossy(&record.body).contains("csl_"));

        assert!(!shown.contains("csl_") && !told);
        assert!(!String::from_utf8_lossy(&person.user.to_json()).contains("csl_"));
    }

    #[test]
    fn a_link_lives_for_a_day() {
        let mut person = reachable();
        let factor = sent(&mut person, 1, false);
        let code = |person: &Person| person.totp_code(0);

        person.wait(24 * 3600 - 1);
        assert!(person.user.factor_behind_link(factor, &person.policy, person.now).is_some());
        person.wait(1);

        let typed = code(&person);
        assert_eq!(follow(&mut person, factor, &typed), Err(Refusal::TokenGone));
        assert!(!person.user.open_enrolment_link(person.now));
    }

    #[test]
    fn a_newer_link_withdraws_the_one_before() {
        let mut person = reachable();
        let first = sent(&mut person, 1, false);
        person.letters();
        person.happened();

        let second = sent(&mut person, 2, false);

        assert_eq!(person.happened(), ["factor.deleted: replaced", "factor.enrolled", "enrolment.link_sent"]);
        let withdrawn: Vec<DeliveryId> = person.user.take_withdrawals().iter().map(|one| one.id).collect();
        assert_eq!(withdrawn, [DeliveryId::from_uuid(Uuid::from_u128(1))]);
        let code = person.totp_code(0);
        assert_eq!(follow(&mut person, first, &code), Err(Refusal::TokenGone));
        assert_eq!(follow(&mut person, second, &code), Ok(Activation::Activated));
    }

    #[test]
    fn links_are_sent_as_often_as_codes() {
        let mut person = reachable();
        sent(&mut person, 1, false);

        assert_eq!(send(&mut person, 2, false), Err(Refusal::TooSoon(Duration::from_secs(30))));

        assert!(send(&mut person, 2, true).is_ok(), "what is taken away does not wait");
        for number in 3..=5 {
            sent(&mut person, number, false);
        }
        person.wait(60);
        assert!(matches!(send(&mut person, 6, false), Err(Refusal::TooSoon(_))));
    }

    #[test]
    fn five_wrong_codes_end_a_link() {
        let mut person = reachable();
        let factor = sent(&mut person, 1, false);

        for left in (0..5).rev() {
            assert_eq!(follow(&mut person, factor, WRONG), Ok(Activation::Rejected { attempts_left: left }));
        }

        let code = person.totp_code(0);
        assert_eq!(follow(&mut person, factor, &code), Err(Refusal::TokenGone));
        assert_eq!(person.user.enrolment, None);
    }

    #[test]
    fn whatever_takes_the_factor_away_ends_the_link() {
        let ends: [fn(&mut Person, FactorId); 4] = [
            |person, factor| {
                let call = person.staff(Role::Admin);
                person.user.delete_factor(factor, &person.policy, &call).expect("delete");
            },
            |person, _| {
                let call = person.staff(Role::Admin);
                person.user.reset(&person.policy, &call).expect("reset");
            },
            |person, _| {
                let call = person.staff(Role::Admin);
                let disabled = UserPatch { status: Some(Status::Disabled), ..UserPatch::default() };
                person.user.update(disabled, &call).expect("disable");
                let active = UserPatch { status: Some(Status::Active), ..UserPatch::default() };
                person.user.update(active, &call).expect("enable");
            },
            |person, _| person.policy.kinds.retain(|kind| *kind != Kind::Totp),
        ];
        for (place, end) in ends.into_iter().enumerate() {
            let mut person = reachable();
            let factor = sent(&mut person, 1, false);

            end(&mut person, factor);

            let code = person.totp_code(0);
            assert_eq!(follow(&mut person, factor, &code), Err(Refusal::TokenGone), "{place}");
        }
    }

    // An administrator corrects an address because the first mail went to somebody else.
    #[test]
    fn another_address_ends_the_link_that_went_to_the_one_before() {
        let mut person = reachable();
        let factor = sent(&mut person, 1, false);
        person.happened();
        let call = person.staff(Role::Admin);

        let named = UserPatch { display_name: Some(None), phone: Some(None), ..UserPatch::default() };
        person.user.update(named, &call).expect("update");
        assert!(person.user.open_enrolment_link(person.now));
        let email = Email::parse("email", "ada.l@example.com").expect("address");
        let moved = UserPatch { email: Some(Some(email)), ..UserPatch::default() };
        person.user.update(moved, &call).expect("update");

        assert_eq!(person.happened(), ["user.updated", "factor.deleted: address_changed"]);
        let code = person.totp_code(0);
        assert_eq!(follow(&mut person, factor, &code), Err(Refusal::TokenGone));
        assert_eq!(person.user.take_withdrawals().len(), 1);
    }

    #[test]
    fn re_keying_takes_away_what_proved_their_identity() {
        let mut person = Person::new();
        person.user.email = Some(Email::parse("email", "ada@example.com").expect("address"));
        person.set_password();
        person.open_session(1);
        person.user.mfa_enabled = true;
        let login = person.open_login(2);
        let (old, recovery) = (person.totp_code(0), person.recovery[0].canonical().to_owned());
        person.happened();

        sent(&mut person, 1, true);

        assert!(person.user.sessions.is_empty() && person.user.logins.is_empty() && person.user.mfa_enabled);
        assert!(!person.user.has_active_factor());
        for (code, target) in [
            (old.as_str(), Target::AnyOtp),
            (recovery.as_str(), Target::Kind(Kind::Recovery)),
            (person.emergency.canonical().to_owned().as_str(), Target::Kind(Kind::Emergency)),
        ] {
            assert_eq!(person.verify(code, target), Verdict::NoFactor);
        }
        assert_eq!(enrol_in_login(&mut person, login), Err(Refusal::TokenGone));
        let expected = [
            "factor.deleted: replaced",
            "factor.deleted: replaced",
            "emergency_code.revoked: replaced",
            "session.revoked",
            "factor.enrolled",
            "enrolment.link_sent",
        ];
        assert_eq!(person.happened()[..6], expected);
    }

    #[test]
    fn without_an_address_there_is_no_link() {
        let mut person = newcomer();

        let Err(Refusal::Invalid(invalid)) = send(&mut person, 1, true) else { panic!("sent") };

        assert_eq!(invalid.field, "email");
    }

    #[test]
    fn a_link_needs_somebody_who_may() {
        let mut person = Person::new();
        person.user.email = Some(Email::parse("email", "ada@example.com").expect("address"));
        person.user.roles = crate::role::Roles::new([Role::Admin]);
        let new = link(&person, 1);
        let refused = |person: &mut Person, call: &Call| {
            person.user.send_enrolment_link(&new, true, &person.policy, call).expect_err("refused")
        };

        let (helpdesk, themselves) = (person.staff(Role::Helpdesk), person.themselves(false));

        assert_eq!(refused(&mut person, &helpdesk), Refusal::AboveYourRank(Role::Admin));
        assert_eq!(refused(&mut person, &themselves), Refusal::SecondFactorNeeded);
    }

    // A stolen password must not come before the one who reads the mail.
    #[test]
    fn a_password_alone_enrols_nothing_while_a_link_is_open() {
        let mut person = reachable();
        person.user.mfa_enabled = true;
        sent(&mut person, 1, false);
        let login = person.open_login(1);

        assert_eq!(enrol_in_login(&mut person, login), Err(Refusal::SecondFactorNeeded));
        let (call, (id, label, proof)) = (person.themselves(false), person.new_totp(78));
        let enrolled = person.user.enrol(id, label, proof, &person.policy, &call);
        assert_eq!(enrolled, Err(Refusal::SecondFactorNeeded));

        person.wait(LINK_LIFE.as_secs());
        let login = person.open_login(2);
        assert_eq!(enrol_in_login(&mut person, login), Ok(()));
    }

    // One that was begun before the link was sent only lacks its first code.
    #[test]
    fn a_factor_begun_in_a_sign_in_is_not_finished_while_a_link_is_open() {
        let mut person = reachable();
        person.user.mfa_enabled = true;
        let login = person.open_login(1);
        enrol_in_login(&mut person, login).expect("nothing is in the way yet");
        let begun = person.user.factors[0].id();
        sent(&mut person, 1, false);

        let (code, call) = (typed(&person.totp_code(0)), person.themselves(false));
        let session = new_session(99).session;
        let Person { user, policy, .. } = &mut person;
        let done = user.activate_in_login(login, begun, &code, session, policy, &OpenKeyring, &call);

        assert_eq!(done, Err(Refusal::SecondFactorNeeded));
        let asked = person.sign_in(2, true);
        assert!(matches!(asked, SignIn::SecondStep { has_factor: true, .. }), "{asked:?}");
    }

    #[test]
    fn whoever_is_disabled_sets_up_nothing_whatever_their_document_says() {
        let mut person = reachable();
        let factor = sent(&mut person, 1, false);
        person.user.status = Status::Disabled;

        let code = person.totp_code(0);

        assert_eq!(follow(&mut person, factor, &code), Err(Refusal::TokenGone));
        assert_eq!(send(&mut person, 2, false), Err(Refusal::UserDisabled));
    }

    #[test]
    fn the_key_behind_a_link_finishes_a_sign_in_and_is_active_then() {
        for target in [Target::AnyOtp, Target::Kind(Kind::Totp)] {
            let mut person = reachable();
            person.user.mfa_enabled = true;
            let factor = sent(&mut person, 1, false);
            let login = person.open_login(1);
            person.happened();

            let code = person.totp_code(0);
            let step = second_step(&mut person, login, &code, target);

            assert!(matches!(step, SecondStep::Session(session) if session.has_second_factor()));
            assert_eq!(person.happened(), ["factor.activated", "verify.accepted", "login.succeeded"]);
            assert!(person.user.active_factor(factor).is_some());
            assert_eq!(person.verify(&code, Target::AnyOtp), Verdict::Replayed);
            assert_eq!(person.user.enrolment, None);
        }
    }

    #[test]
    fn the_key_behind_a_link_proves_nothing_else() {
        let mut person = reachable();
        let factor = sent(&mut person, 1, false);

        let code = person.totp_code(0);

        for target in [Target::AnyOtp, Target::Kind(Kind::Totp), Target::Factor(factor)] {
            assert_eq!(person.verify(&code, target), Verdict::NoFactor);
        }
    }

    // Guessing there must neither be free nor get rid of the link.
    #[test]
    fn wrong_codes_of_a_sign_in_lock_the_method_and_leave_the_link() {
        let mut person = reachable();
        person.user.mfa_enabled = true;
        let factor = sent(&mut person, 1, false);
        let login = person.open_login(1);

        for _ in 0..person.policy.locks.threshold {
            second_step(&mut person, login, WRONG, Target::AnyOtp);
        }

        let code = person.totp_code(0);
        let step = second_step(&mut person, login, &code, Target::AnyOtp);
        assert!(matches!(step, SecondStep::Refused(Verdict::Locked { method: Method::Token, .. })));
        assert_eq!(enrol_in_login(&mut person, login), Err(Refusal::SecondFactorNeeded));
        assert_eq!(follow(&mut person, factor, &code), Ok(Activation::Activated));
    }

    #[test]
    fn a_link_beside_a_factor_in_use_finishes_a_sign_in_by_either() {
        let mut person = Person::new();
        person.user.email = Some(Email::parse("email", "ada@example.com").expect("address"));
        person.set_password();
        let new = NewLink { proof: another_key(&person), ..link(&person, 1) };
        let call = person.staff(Role::Admin);
        person.user.send_enrolment_link(&new, false, &person.policy, &call).expect("sent");
        let login = person.open_login(1);

        let code = person.totp_code(0);
        let step = second_step(&mut person, login, &code, Target::AnyOtp);

        assert!(matches!(step, SecondStep::Session(_)));
        assert!(person.user.open_enrolment_link(person.now));
    }

    /// Seals another secret for the first new factor.
    fn another_key(person: &Person) -> Proof {
        let secret = crate::factor::otp::OtpSecret::generate(&mut crate::testing::rng(42));
        let (organisation, user) = (person.user.organisation, person.user.id);
        let binding = Binding::of_user(Purpose::OtpSecret, organisation, user, Uuid::from_u128(1));
        let sealed = OpenKeyring.seal(&binding, secret.expose()).expect("seal");
        Proof::Totp(crate::factor::otp::Totp::new(&person.policy.totp, sealed))
    }

    #[test]
    fn a_document_keeps_its_link() {
        let mut person = reachable();
        sent(&mut person, 1, false);
        let open = person.user.enrolment.clone();

        let read = User::from_json(&person.user.to_json()).expect("read");

        assert!(open.is_some() && read.enrolment == open);
    }
}
