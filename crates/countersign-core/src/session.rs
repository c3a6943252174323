//! Signing in: the password first, the second step where it is asked for, then a session that can be refreshed.
//!
//! Sessions and open logins live in the document. So ending a person's sessions is part of the change that calls for it
//! (a reset, a new password), and using up a login is part of the very commit that accepts the code.

use crate::{
    attempt::{Attempt, Code},
    challenge::{Challenge, NewCode, Recipient},
    destination::Destination,
    enrolment::Activation,
    event::{Action, Call, Note},
    factor::{Factor, Kind, Proof},
    id::{ClientId, FactorId, LoginId, SessionId},
    keyring::Keyring,
    lock::Method,
    message::Notice,
    password::PasswordCheck,
    policy::{Policy, Requirement},
    profile::Label,
    refusal::Refusal,
    time::Timestamp,
    user::{Status, User},
    verify::Verdict,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The most sessions a person may have; a further one ends the oldest.
pub const SESSION_LIMIT: usize = 16;
/// The most sign-ins whose second step may be open; a further one drops the oldest.
pub const LOGIN_LIMIT: usize = 8;

/// A signed-in session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The session's id; access tokens carry it.
    pub id: SessionId,
    /// The client it was opened through, if it named itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// How the person proved who they are (RFC 8176).
    pub amr: Vec<String>,
    /// When they did.
    pub created_at: Timestamp,
    /// When it can no longer be refreshed.
    pub expires_at: Timestamp,
    /// How often it was refreshed; a refresh token of an earlier generation was used before.
    #[serde(default)]
    pub generation: u32,
}

impl Session {
    /// Tells whether a second factor was proved.
    pub fn has_second_factor(&self) -> bool {
        self.amr.iter().any(|method| method == "mfa")
    }
}

/// A sign-in whose first factor was right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenLogin {
    /// The login's id; the token for the second step carries it.
    pub id: LoginId,
    /// The client it was begun through, if it named itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// How many seconds the session it leads to may last at most; as long as policy says if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_seconds: Option<u64>,
    /// The factor enrolled during it, if that proves it: no further code is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved: Option<FactorId>,
}

/// Fresh ids for a sign-in, drawn before the change so that the rule stays a function of its arguments.
#[derive(Debug, Clone, Copy)]
pub struct NewSession {
    /// The id of the session, if one is opened.
    pub session: SessionId,
    /// The id of the login, if a second step is asked for.
    pub login: LoginId,
    /// The client that asks.
    pub client: Option<ClientId>,
    /// How long the session may last at most; as long as policy says if left out.
    pub life: Option<Duration>,
}

/// What a password led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignIn {
    /// The person is signed in.
    Session(Session),
    /// A second step is asked for.
    SecondStep {
        /// The open login.
        login: OpenLogin,
        /// Whether there is a factor; without one the second step is to enrol one.
        has_factor: bool,
    },
    /// No. The caller learns nothing else.
    Refused,
}

/// What a second step led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecondStep {
    /// The person is signed in.
    Session(Session),
    /// The code did not prove anything.
    Refused(Verdict),
}

/// What the first code of a factor enrolled during sign-in led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolmentStep {
    /// The factor is in use and the person signed in.
    Session(Session),
    /// The code was wrong or late.
    Refused(Activation),
}

/// What a refresh token led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refresh {
    /// The session goes on, one generation further.
    Session(Session),
    /// The token was used before; the session is ended (RFC 9700 §4.14.2).
    Reused,
}

impl User {
    /// Decides a sign-in by the outcome of a password check made beforehand.
    pub fn sign_in(
        &mut self,
        check: &PasswordCheck,
        new: NewSession,
        policy: &Policy,
        call: &Call,
    ) -> Result<SignIn, Refusal> {
        if !self.accept_password(check, policy, call)? {
            return Ok(SignIn::Refused);
        }
        if self.status == Status::Disabled {
            self.record(call, Note::new(Action::LoginRejected).reason("user_disabled"));
            return Ok(SignIn::Refused);
        }
        if !self.asks_for_second_step(policy) {
            let session = self.open_session(new.session, new.client, &["pwd"], new.life, policy, call);
            return Ok(SignIn::Session(session));
        }
        let life = Duration::from_secs(policy.sessions.second_step_seconds);
        let login = OpenLogin {
            id: new.login,
            client: new.client,
            expires_at: call.now.after(life),
            session_seconds: new.life.map(|life| life.as_secs()),
            proved: None,
        };
        self.logins.retain(|open| open.expires_at > call.now);
        push_bounded(&mut self.logins, login.clone(), LOGIN_LIMIT);
        self.record(call, Note::new(Action::LoginFirstFactor));
        Ok(SignIn::SecondStep { login, has_factor: self.has_second_factor(policy, call.now) })
    }

    /// Tells whether the person's sign-in asks for a second step.
    pub fn asks_for_second_step(&self, policy: &Policy) -> bool {
        match policy.requirement {
            Requirement::Off => false,
            Requirement::Optional => self.mfa_enabled,
            Requirement::Enforced => true,
        }
    }

    /// Tells whether there is anything a second step could be proved with.
    pub(crate) fn has_second_factor(&self, policy: &Policy, now: Timestamp) -> bool {
        self.active_factors().any(|held| policy.allows(held.proof.kind()))
            || (policy.allows(Kind::Totp) && self.open_enrolment_link(now))
            || (policy.allows(Kind::Recovery)
                && self.recovery.as_ref().is_some_and(|codes| codes.remaining() > 0))
            || (policy.allows(Kind::Emergency)
                && self.emergency.as_ref().is_some_and(|code| code.is_good(now)))
    }

    /// Decides the second step of a sign-in. Accepting uses up code and login in one change.
    ///
    /// The first code from the key behind an open link is accepted, too, and activates it: who has it read the mail and
    /// knows the password.
    pub fn second_step(
        &mut self,
        login: LoginId,
        attempt: &Attempt,
        session: SessionId,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<SecondStep, Refusal> {
        let open = self.open_login(login, call)?;
        let verdict = self.verify_for(Some(login), attempt, policy, keys, call)?;
        let Verdict::Accepted { kind, .. } = verdict else { return Ok(SecondStep::Refused(verdict)) };

        Ok(SecondStep::Session(self.finish_login(&open, kind, session, policy, call)))
    }

    /// Enrols the first factor of a person who was asked for a second step and has nothing to prove it with.
    pub fn enrol_in_login(
        &mut self,
        login: LoginId,
        factor: (FactorId, Label, Proof),
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.check_first_in_login(login, policy, call)?;
        self.enrol(factor.0, factor.1, factor.2, policy, call)
    }

    /// Like [`User::enrol_in_login`], for a factor whose codes are sent.
    pub fn enrol_sent_in_login(
        &mut self,
        login: LoginId,
        factor: (FactorId, Label, Destination),
        new: &NewCode,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Challenge, Refusal> {
        self.check_first_in_login(login, policy, call)?;
        self.enrol_sent(factor.0, factor.1, factor.2, new, policy, keys, call)
    }

    /// Refuses to enrol in a login where there is something to finish it with: else a stolen password would be enough to
    /// add a factor beside the ones there are.
    pub(crate) fn check_first_in_login(
        &self,
        login: LoginId,
        policy: &Policy,
        call: &Call,
    ) -> Result<(), Refusal> {
        self.open_login(login, call)?;
        if self.has_second_factor(policy, call.now) { Err(Refusal::SecondFactorNeeded) } else { Ok(()) }
    }

    /// Sends a code to finish a sign-in with, or once more the first code of a factor enrolled during it.
    pub fn challenge_in_login(
        &mut self,
        login: LoginId,
        recipient: Recipient,
        new: &NewCode,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Challenge, Refusal> {
        self.open_login(login, call)?;
        let named = match recipient {
            Recipient::Kind(_) => None,
            Recipient::Factor(id) => Some(id),
            Recipient::Challenge(id) => Some(self.find_challenge(id)?.factor),
        };
        if let Some(id) = named
            && matches!(self.factor(id)?, Factor::Pending(_))
            && self.has_second_factor(policy, call.now)
        {
            return Err(Refusal::SecondFactorNeeded);
        }
        self.challenge_for(Some(login), recipient, new, policy, keys, call)
    }

    /// Activates the factor enrolled during sign-in and finishes the sign-in with it.
    #[expect(clippy::too_many_arguments, reason = "the second step and the activation each bring theirs")]
    pub fn activate_in_login(
        &mut self,
        login: LoginId,
        factor: FactorId,
        code: &Code,
        session: SessionId,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<EnrolmentStep, Refusal> {
        let open = self.open_login(login, call)?;
        if self.has_second_factor(policy, call.now) {
            return Err(Refusal::SecondFactorNeeded);
        }
        let kind = self.factor(factor).map(Factor::kind)?;
        match self.activate_pending(factor, code, policy, keys, call)? {
            Activation::Activated => {
                Ok(EnrolmentStep::Session(self.finish_login(&open, kind, session, policy, call)))
            }
            refused => Ok(EnrolmentStep::Refused(refused)),
        }
    }

    /// Returns a login whose second step is open.
    pub fn open_login(&self, login: LoginId, call: &Call) -> Result<OpenLogin, Refusal> {
        let open = self.logins.iter().find(|open| open.id == login && open.expires_at > call.now);
        open.cloned().ok_or(Refusal::TokenGone)
    }

    pub(crate) fn finish_login(
        &mut self,
        login: &OpenLogin,
        kind: Kind,
        session: SessionId,
        policy: &Policy,
        call: &Call,
    ) -> Session {
        self.logins.retain(|open| open.id != login.id);
        let amr: Vec<&str> = ["pwd"].iter().chain(kind.amr()).copied().collect();
        let life = login.session_seconds.map(Duration::from_secs);
        let session = self.open_session(session, login.client, &amr, life, policy, call);
        if kind.method() == Method::Recovery {
            self.notify(Notice::RecoverySignIn, Some(kind.name()), &[], call);
        }
        session
    }

    fn open_session(
        &mut self,
        id: SessionId,
        client: Option<ClientId>,
        amr: &[&str],
        life: Option<Duration>,
        policy: &Policy,
        call: &Call,
    ) -> Session {
        let longest = Duration::from_secs(policy.sessions.refresh_seconds);
        let life = life.map_or(longest, |asked| asked.min(longest));
        let session = Session {
            id,
            client,
            amr: amr.iter().map(|method| (*method).to_owned()).collect(),
            created_at: call.now,
            expires_at: call.now.after(life),
            generation: 0,
        };
        self.sessions.retain(|session| session.expires_at > call.now);
        push_bounded(&mut self.sessions, session.clone(), SESSION_LIMIT);
        self.record(call, Note::new(Action::LoginSucceeded).detail("amr", amr.to_vec()));
        session
    }

    /// Returns a session that is not over.
    pub fn session(&self, id: SessionId, now: Timestamp) -> Option<&Session> {
        self.sessions.iter().find(|session| session.id == id && session.expires_at > now)
    }

    /// Lets a session go on under the same refresh token, for the client that it is bound to and that proved itself: the
    /// token is of no use to anybody else (RFC 9700 §2.2.2).
    pub fn renew(
        &mut self,
        id: SessionId,
        generation: u32,
        client: ClientId,
        call: &Call,
    ) -> Result<Session, Refusal> {
        let is_usable =
            |session: &&Session| session.client == Some(client) && session.generation == generation;
        let session = self.session(id, call.now).filter(is_usable).cloned().ok_or(Refusal::TokenGone)?;
        if self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        self.record(call, Note::new(Action::SessionRefreshed));
        Ok(session)
    }

    /// Takes a session one generation further; an old generation's token ends the session instead.
    pub fn refresh(
        &mut self,
        id: SessionId,
        generation: u32,
        client: Option<ClientId>,
        call: &Call,
    ) -> Result<Refresh, Refusal> {
        let is_usable = |session: &Session| session.client.is_none() || session.client == client;
        let session =
            self.session(id, call.now).filter(|session| is_usable(session)).ok_or(Refusal::TokenGone)?;
        if self.status == Status::Disabled {
            return Err(Refusal::TokenGone);
        }
        if session.generation != generation {
            self.sessions.retain(|session| session.id != id);
            self.record(call, Note::new(Action::SessionReused));
            return Ok(Refresh::Reused);
        }
        let next = Session { generation: generation + 1, ..session.clone() };
        for session in self.sessions.iter_mut().filter(|session| session.id == id) {
            session.clone_from(&next);
        }
        self.record(call, Note::new(Action::SessionRefreshed));
        Ok(Refresh::Session(next))
    }

    /// Ends one session; one that is over stays over.
    pub fn end_session(&mut self, id: SessionId, call: &Call) {
        let before = self.sessions.len();
        self.sessions.retain(|session| session.id != id);
        if self.sessions.len() < before {
            self.record(call, Note::new(Action::SessionRevoked).detail("count", 1));
        }
    }

    /// Ends all sessions and open logins of the person; staff by the ladder, people their own by any session of theirs.
    pub fn sign_out_everywhere(&mut self, call: &Call) -> Result<(), Refusal> {
        call.rank.check_act_on(self.roles.highest())?;
        let logins = std::mem::take(&mut self.logins).len();
        if logins > 0 {
            self.record(call, Note::new(Action::SessionRevoked).detail("logins", logins));
        }
        self.end_sessions(None, call);
        Ok(())
    }

    /// Ends all sessions but one.
    pub(crate) fn end_sessions(&mut self, but: Option<SessionId>, call: &Call) {
        let before = self.sessions.len();
        self.sessions.retain(|session| Some(session.id) == but);
        let ended = before - self.sessions.len();
        if ended > 0 {
            self.record(call, Note::new(Action::SessionRevoked).detail("count", ended));
        }
    }
}

fn push_bounded<T>(items: &mut Vec<T>, item: T, limit: usize) {
    if items.len() >= limit {
        items.remove(0);
    }
    items.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attempt::Target,
        role::Role,
        testing::{OpenKeyring, Person, WRONG, attempt, checked, new_session, newcomer, typed, with_request},
        user::UserPatch,
        verify::Reason,
    };

    /// Somebody with a password; with all kinds of factors or with none.
    fn with_password(mut person: Person) -> Person {
        person.set_password();
        person.user.take_records();
        person
    }

    fn second_step(person: &mut Person, login: LoginId, attempt: &Attempt) -> Result<SecondStep, Refusal> {
        let call = person.nobody();
        let session = new_session(99).session;
        person.user.second_step(login, attempt, session, &person.policy, &OpenKeyring, &call)
    }

    fn enrol_in_login(person: &mut Person, login: LoginId, number: u128) -> Result<FactorId, Refusal> {
        let factor = person.new_totp(number);
        let (id, call) = (factor.0, person.themselves(false));
        person.user.enrol_in_login(login, factor, &person.policy, &call).map(|()| id)
    }

    fn activate_in_login(
        person: &mut Person,
        login: LoginId,
        factor: FactorId,
        code: &str,
    ) -> Result<EnrolmentStep, Refusal> {
        let call = person.themselves(false);
        let (code, session) = (typed(code), new_session(98).session);
        person.user.activate_in_login(login, factor, &code, session, &person.policy, &OpenKeyring, &call)
    }

    fn refresh(person: &mut Person, session: &Session, generation: u32) -> Result<Refresh, Refusal> {
        let call = person.nobody();
        person.user.refresh(session.id, generation, session.client, &call)
    }

    #[test]
    fn without_a_second_step_the_password_signs_in() {
        let mut person = with_password(newcomer());

        let outcome = person.sign_in(1, true);

        let SignIn::Session(session) = outcome else { panic!("{outcome:?}") };
        assert_eq!(session.amr, ["pwd"]);
        assert!(!session.has_second_factor());
        assert_eq!(person.happened(), ["login.succeeded"]);
    }

    #[test]
    fn a_second_step_finishes_the_sign_in() {
        let mut person = with_password(Person::new());
        let outcome = person.sign_in(1, true);
        let SignIn::SecondStep { login, has_factor } = outcome else { panic!("{outcome:?}") };
        assert!(has_factor && person.user.sessions.is_empty());

        let code = attempt(&person.totp_code(0), Target::AnyOtp);
        let outcome = second_step(&mut person, login.id, &code);

        let Ok(SecondStep::Session(session)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(session.amr, ["pwd", "otp", "mfa"]);
        assert!(session.has_second_factor());
        assert_eq!(person.user.sessions, [session]);
        assert_eq!(person.happened(), ["login.first_factor", "verify.accepted", "login.succeeded"]);
    }

    #[test]
    fn a_policy_without_second_steps_never_asks_for_one_and_an_enforcing_one_always_does() {
        let mut person = with_password(Person::new());
        person.policy.requirement = Requirement::Off;
        assert!(matches!(person.sign_in(1, true), SignIn::Session(_)));

        let mut person = with_password(newcomer());
        person.policy.requirement = Requirement::Enforced;
        assert!(matches!(person.sign_in(1, true), SignIn::SecondStep { has_factor: false, .. }));
    }

    #[test]
    fn a_refused_second_step_leaves_the_login_open() {
        let mut person = with_password(Person::new());
        let login = person.open_login(1);

        let refused = second_step(&mut person, login, &attempt(WRONG, Target::AnyOtp));
        let right = attempt(&person.totp_code(0), Target::AnyOtp);
        let accepted = second_step(&mut person, login, &right);

        let verdict = Verdict::Rejected { reason: Reason::WrongCode, attempts_left: 4 };
        assert_eq!(refused, Ok(SecondStep::Refused(verdict)));
        assert!(matches!(accepted, Ok(SecondStep::Session(_))));
    }

    #[test]
    fn a_login_is_used_once() {
        let mut person = with_password(Person::new());
        let login = person.open_login(1);
        let first = attempt(&person.totp_code(0), Target::AnyOtp);
        second_step(&mut person, login, &first).expect("first");

        let next = attempt(&person.totp_code(1), Target::AnyOtp);

        assert_eq!(second_step(&mut person, login, &next), Err(Refusal::TokenGone));
    }

    #[test]
    fn a_login_expires() {
        let mut person = with_password(Person::new());
        let login = person.open_login(1);

        person.wait(person.policy.sessions.second_step_seconds);
        let code = attempt(&person.totp_code(0), Target::AnyOtp);

        assert_eq!(second_step(&mut person, login, &code), Err(Refusal::TokenGone));
    }

    #[test]
    fn only_the_newest_logins_stay_open() {
        let mut person = with_password(Person::new());
        let logins: Vec<LoginId> =
            (0..=LOGIN_LIMIT as u128).map(|number| person.open_login(number)).collect();
        let code = attempt(&person.totp_code(0), Target::AnyOtp);

        assert_eq!(person.user.logins.len(), LOGIN_LIMIT);
        assert_eq!(second_step(&mut person, logins[0], &code), Err(Refusal::TokenGone));
        assert!(matches!(second_step(&mut person, logins[1], &code), Ok(SecondStep::Session(_))));
    }

    #[test]
    fn enforced_people_without_a_factor_enrol_one_while_they_sign_in() {
        let mut person = with_password(newcomer());
        person.policy.requirement = Requirement::Enforced;
        let login = person.open_login(1);

        let id = enrol_in_login(&mut person, login, 1).expect("enrol");
        let wrong = activate_in_login(&mut person, login, id, WRONG);
        let code = person.totp_code(0);
        let right = activate_in_login(&mut person, login, id, &code);

        assert_eq!(wrong, Ok(EnrolmentStep::Refused(Activation::Rejected { attempts_left: 4 })));
        let Ok(EnrolmentStep::Session(session)) = right else { panic!("{right:?}") };
        assert!(session.has_second_factor());
        assert_eq!(activate_in_login(&mut person, login, id, &code), Err(Refusal::TokenGone));
        assert_eq!(person.verify(&code, Target::AnyOtp), Verdict::Replayed);
    }

    #[test]
    fn a_password_alone_adds_no_factor_beside_the_ones_there_are() {
        let mut person = with_password(Person::new());
        let login = person.open_login(1);
        let pending = person.enrol(1);
        let code = person.totp_code(0);

        assert_eq!(enrol_in_login(&mut person, login, 2), Err(Refusal::SecondFactorNeeded));
        assert_eq!(activate_in_login(&mut person, login, pending, &code), Err(Refusal::SecondFactorNeeded));
    }

    #[test]
    fn a_password_alone_adds_no_factor_beside_recovery_codes() {
        let mut person = with_password(Person::new());
        person.user.factors.clear();
        let login = person.open_login(1);

        assert_eq!(enrol_in_login(&mut person, login, 2), Err(Refusal::SecondFactorNeeded));
    }

    // The answer remembered for one login's request id finished any other login with the same, used code.
    #[test]
    fn a_remembered_answer_finishes_no_other_login() {
        let mut person = with_password(Person::new());
        let (first, second) = (person.open_login(1), person.open_login(2));
        let code = with_request(attempt(&person.totp_code(0), Target::AnyOtp), "r-1");
        assert!(matches!(second_step(&mut person, first, &code), Ok(SecondStep::Session(_))));

        assert_eq!(second_step(&mut person, second, &code), Err(Refusal::RequestIdReused));
        let outside = person.user.verify(&code, &person.policy, &OpenKeyring, &person.nobody());
        assert_eq!(outside, Err(Refusal::RequestIdReused));
        assert_eq!(person.user.sessions.len(), 1);
    }

    #[test]
    fn a_retried_second_step_counts_once() {
        let mut person = with_password(Person::new());
        let login = person.open_login(1);
        let code = with_request(attempt(WRONG, Target::AnyOtp), "r-1");

        let first = second_step(&mut person, login, &code);

        assert_eq!(second_step(&mut person, login, &code), first);
        assert_eq!(person.user.locks.failures(), 1);
    }

    // Spent codes counted as a second factor, so their owner could neither prove one nor enrol one.
    #[test]
    fn spent_codes_are_no_second_factor() {
        let mut person = with_password(Person::new());
        person.user.factors.clear();
        let (now, later) = (person.now, person.now.after(Duration::from_secs(24 * 3600)));
        let codes = person.user.recovery.as_mut().expect("codes");
        for place in 0..codes.codes.len() {
            codes.burn(place, now);
        }
        assert!(matches!(person.sign_in(1, true), SignIn::SecondStep { has_factor: true, .. }));

        person.now = later;

        assert!(matches!(person.sign_in(2, true), SignIn::SecondStep { has_factor: false, .. }));
        let login = person.user.logins[0].id;
        assert!(enrol_in_login(&mut person, login, 1).is_ok());
    }

    // A login opened before the person was disabled could enrol a factor and end in a session.
    #[test]
    fn disabling_a_person_closes_their_open_logins() {
        let mut person = with_password(newcomer());
        person.policy.requirement = Requirement::Enforced;
        let login = person.open_login(1);
        let staff = person.staff(Role::Admin);

        let patch = UserPatch { status: Some(Status::Disabled), ..UserPatch::default() };
        person.user.update(patch, &staff).expect("disable");

        assert_eq!(enrol_in_login(&mut person, login, 1), Err(Refusal::TokenGone));
    }

    #[test]
    fn a_wrong_password_says_nothing_and_has_its_own_budget() {
        let mut person = with_password(Person::new());
        person.lock(Target::AnyOtp);
        let threshold = person.policy.password_locks.threshold;
        person.happened();

        for _ in 0..threshold {
            assert_eq!(person.sign_in(1, false), SignIn::Refused);
        }

        assert_eq!(person.sign_in(1, true), SignIn::Refused);
        assert_eq!(person.user.locks.failures(), 5);
        assert_eq!(person.user.password.as_ref().map(|password| password.lock.failures), Some(threshold));
        let happened = person.happened();
        assert_eq!(
            happened[9..],
            ["login.rejected: wrong_password", "password.locked", "login.rejected: locked"]
        );
        person.wait(30);
        assert!(matches!(person.sign_in(1, true), SignIn::SecondStep { .. }));
        assert_eq!(person.user.password.as_ref().map(|password| password.lock.failures), Some(0));
    }

    #[test]
    fn failed_passwords_lock_no_method() {
        let mut person = with_password(Person::new());

        for _ in 0..200 {
            person.sign_in(1, false);
        }

        assert!(person.verify(&person.totp_code(0), Target::AnyOtp).is_accepted());
    }

    #[test]
    fn a_password_check_against_a_hash_that_was_replaced_decides_nothing() {
        let mut person = with_password(newcomer());
        let call = person.nobody();
        person.user.set_initial_password("$another".into(), &Call::system(person.now)).expect("password");
        let before = person.user.clone();

        let stale = person.user.sign_in(&checked(true), new_session(1), &person.policy, &call);

        assert_eq!(stale, Err(Refusal::Stale));
        assert_eq!(person.user, before);
    }

    #[test]
    fn without_a_password_nobody_signs_in() {
        let mut person = newcomer();
        let decoy = PasswordCheck { against: None, matched: true };
        let call = person.nobody();

        let outcome = person.user.sign_in(&decoy, new_session(1), &person.policy, &call);

        assert_eq!(outcome, Ok(SignIn::Refused));
        let stale = person.user.sign_in(&checked(true), new_session(1), &person.policy, &call);
        assert_eq!(stale, Err(Refusal::Stale));
    }

    #[test]
    fn a_disabled_person_does_not_sign_in() {
        let mut person = with_password(newcomer());
        person.user.status = Status::Disabled;

        assert_eq!(person.sign_in(1, true), SignIn::Refused);
        assert_eq!(person.happened(), ["login.rejected: user_disabled"]);
    }

    #[test]
    fn each_refresh_takes_the_session_one_generation_further() {
        let mut person = with_password(newcomer());
        let session = person.open_session(1);

        for generation in 0..3 {
            let outcome = refresh(&mut person, &session, generation);
            let Ok(Refresh::Session(next)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(next, Session { generation: generation + 1, ..session.clone() });
        }
    }

    #[test]
    fn a_refresh_token_that_comes_again_ends_its_session() {
        let mut person = with_password(newcomer());
        let (session, other) = (person.open_session(1), person.open_session(2));
        assert!(matches!(refresh(&mut person, &session, 0), Ok(Refresh::Session(_))));
        person.happened();

        assert_eq!(refresh(&mut person, &session, 0), Ok(Refresh::Reused));

        assert_eq!(refresh(&mut person, &session, 1), Err(Refusal::TokenGone));
        assert_eq!(person.user.sessions, [other]);
        assert_eq!(person.happened(), ["session.refresh_reused"]);
    }

    #[test]
    fn refreshing_does_not_prolong_a_session() {
        let mut person = with_password(newcomer());
        let session = person.open_session(1);
        person.wait(person.policy.sessions.refresh_seconds - 1);
        assert!(matches!(refresh(&mut person, &session, 0), Ok(Refresh::Session(_))));

        person.wait(1);

        assert_eq!(refresh(&mut person, &session, 1), Err(Refusal::TokenGone));
        assert_eq!(person.user.session(session.id, person.now), None);
    }

    #[test]
    fn a_session_may_be_asked_to_end_sooner_but_not_later_than_policy_says() {
        for has_factor in [false, true] {
            for (asked, lasts) in [(60, 60), (u64::MAX / 2, newcomer().policy.sessions.refresh_seconds)] {
                let mut person = with_password(if has_factor { Person::new() } else { newcomer() });
                let new = NewSession { life: Some(Duration::from_secs(asked)), ..new_session(1) };
                let call = person.nobody();

                let session = match person.user.sign_in(&checked(true), new, &person.policy, &call) {
                    Ok(SignIn::Session(session)) => session,
                    Ok(SignIn::SecondStep { login, .. }) => {
                        let code = attempt(&person.totp_code(0), Target::AnyOtp);
                        match second_step(&mut person, login.id, &code) {
                            Ok(SecondStep::Session(session)) => session,
                            other => panic!("{other:?}"),
                        }
                    }
                    other => panic!("{other:?}"),
                };

                assert_eq!(session.expires_at, person.now.after(Duration::from_secs(lasts)));
            }
        }
    }

    #[test]
    fn a_session_is_refreshed_through_its_own_client_only() {
        let mut person = with_password(newcomer());
        person.user.mfa_enabled = false;
        let client = |number| Some(ClientId::from_uuid(uuid::Uuid::from_u128(number)));
        let new = NewSession { client: client(1), ..new_session(1) };
        let call = person.nobody();
        person.user.sign_in(&checked(true), new, &person.policy, &call).expect("sign in");
        let id = new.session;

        assert_eq!(person.user.refresh(id, 0, client(2), &call), Err(Refusal::TokenGone));
        assert_eq!(person.user.refresh(id, 0, None, &call), Err(Refusal::TokenGone));
        assert!(matches!(person.user.refresh(id, 0, client(1), &call), Ok(Refresh::Session(_))));
    }

    #[test]
    fn a_session_is_renewed_under_the_same_token_by_the_client_it_is_bound_to() {
        let mut person = with_password(newcomer());
        let client = |number| ClientId::from_uuid(uuid::Uuid::from_u128(number));
        let call = person.nobody();
        let bound = NewSession { client: Some(client(1)), ..new_session(1) };
        person.user.mfa_enabled = false;
        person.user.sign_in(&checked(true), bound, &person.policy, &call).expect("sign in");
        let anybodys = person.open_session(2);
        person.happened();

        for _ in 0..2 {
            let renewed = person.user.renew(bound.session, 0, client(1), &call).expect("renew");
            assert_eq!(renewed.generation, 0);
        }

        let gone = Err(Refusal::TokenGone);
        assert_eq!(person.user.renew(bound.session, 0, client(2), &call), gone);
        assert_eq!(person.user.renew(bound.session, 1, client(1), &call), gone);
        assert_eq!(person.user.renew(anybodys.id, 0, client(1), &call), gone, "bound to no client");
        assert_eq!(person.happened(), ["session.refreshed", "session.refreshed"]);
        person.wait(person.policy.sessions.refresh_seconds);
        let late = person.nobody();
        assert_eq!(person.user.renew(bound.session, 0, client(1), &late), gone);
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_ends() {
        let mut person = with_password(newcomer());
        let first = person.open_session(0);
        for number in 1..=SESSION_LIMIT as u128 {
            person.open_session(number);
        }

        assert_eq!(person.user.sessions.len(), SESSION_LIMIT);
        assert_eq!(person.user.session(first.id, person.now), None);
    }

    #[test]
    fn a_session_ends_on_reset() {
        let mut person = with_password(newcomer());
        let session = person.open_session(1);
        let call = person.staff(Role::Helpdesk);

        person.user.reset(&person.policy, &call).expect("reset");

        assert_eq!(refresh(&mut person, &session, 0), Err(Refusal::TokenGone));
    }

    #[test]
    fn a_session_ends_when_its_person_is_disabled() {
        let mut person = with_password(newcomer());
        let session = person.open_session(1);
        let staff = person.staff(Role::Admin);
        for status in [Status::Disabled, Status::Active] {
            let patch = UserPatch { status: Some(status), ..UserPatch::default() };
            person.user.update(patch, &staff).expect("update");
        }

        assert_eq!(refresh(&mut person, &session, 0), Err(Refusal::TokenGone));
    }

    #[test]
    fn signing_out_everywhere_ends_sessions_and_open_logins() {
        let mut person = with_password(newcomer());
        let session = person.open_session(1);
        person.user.mfa_enabled = true;
        let login = person.open_login(2);
        person.happened();
        let (staff, own) = (person.staff(Role::Helpdesk), person.themselves(false));

        person.user.sign_out_everywhere(&staff).expect("sign out");

        assert_eq!(person.happened(), ["session.revoked", "session.revoked"]);
        assert_eq!(refresh(&mut person, &session, 0), Err(Refusal::TokenGone));
        assert_eq!(enrol_in_login(&mut person, login, 1), Err(Refusal::TokenGone));
        assert_eq!(person.user.sign_out_everywhere(&own), Ok(()), "people sign themselves out, too");
        assert!(person.happened().is_empty());
    }

    #[test]
    fn nobody_signs_out_those_above_them() {
        let mut person = crate::testing::person_with_role(Role::Admin);
        let staff = person.staff(Role::Helpdesk);

        assert_eq!(person.user.sign_out_everywhere(&staff), Err(Refusal::AboveYourRank(Role::Admin)));
    }

    #[test]
    fn ending_a_session_twice_says_so_once() {
        let mut person = with_password(newcomer());
        let (session, other) = (person.open_session(1), person.open_session(2));
        let call = person.nobody();
        person.happened();

        person.user.end_session(session.id, &call);
        person.user.end_session(session.id, &call);

        assert_eq!(person.user.sessions, [other]);
        assert_eq!(person.happened(), ["session.revoked"]);
    }
}
