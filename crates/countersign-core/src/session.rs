//! Signing in: the password first, the second step where it is asked for, then a session that can be refreshed.
//!
//! Sessions and open logins live in the document. So ending a person's sessions is part of the change that calls for it
//! (a reset, a new password), and using up a login is part of the very commit that accepts the code.

use crate::{
    attempt::{Attempt, Code},
    enrolment::Activation,
    event::{Action, Call, Note},
    factor::{Factor, Kind, Proof},
    id::{ClientId, FactorId, LoginId, SessionId},
    keyring::Keyring,
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
        if !self.needs_second_step(policy) {
            return Ok(SignIn::Session(self.open_session(new.session, new.client, &["pwd"], policy, call)));
        }
        let life = Duration::from_secs(policy.sessions.second_step_seconds);
        let login = OpenLogin { id: new.login, client: new.client, expires_at: call.now.after(life) };
        self.logins.retain(|open| open.expires_at > call.now);
        push_bounded(&mut self.logins, login.clone(), LOGIN_LIMIT);
        self.record(call, Note::new(Action::LoginFirstFactor));
        Ok(SignIn::SecondStep { login, has_factor: self.has_second_factor(policy) })
    }

    fn needs_second_step(&self, policy: &Policy) -> bool {
        match policy.requirement {
            Requirement::Off => false,
            Requirement::Optional => self.mfa_enabled,
            Requirement::Enforced => true,
        }
    }

    /// Tells whether there is anything a second step could be proved with.
    fn has_second_factor(&self, policy: &Policy) -> bool {
        self.active_factors().any(|held| policy.allows(held.proof.kind()))
            || (policy.allows(Kind::Recovery) && self.recovery.is_some())
            || (policy.allows(Kind::Emergency) && self.emergency.is_some())
    }

    /// Decides the second step of a sign-in. Accepting uses up code and login in one change.
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
        let verdict = self.verify(attempt, policy, keys, call)?;
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
        self.open_login(login, call)?;
        // Else a stolen password would be enough to add a factor beside the ones there are.
        if self.has_second_factor(policy) {
            return Err(Refusal::SecondFactorNeeded);
        }
        self.enrol(factor.0, factor.1, factor.2, policy, call)
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
        if self.has_second_factor(policy) {
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

    fn open_login(&self, login: LoginId, call: &Call) -> Result<OpenLogin, Refusal> {
        let open = self.logins.iter().find(|open| open.id == login && open.expires_at > call.now);
        open.cloned().ok_or(Refusal::TokenGone)
    }

    fn finish_login(
        &mut self,
        login: &OpenLogin,
        kind: Kind,
        session: SessionId,
        policy: &Policy,
        call: &Call,
    ) -> Session {
        self.logins.retain(|open| open.id != login.id);
        let amr: Vec<&str> = ["pwd"].iter().chain(kind.amr()).copied().collect();
        self.open_session(session, login.client, &amr, policy, call)
    }

    fn open_session(
        &mut self,
        id: SessionId,
        client: Option<ClientId>,
        amr: &[&str],
        policy: &Policy,
        call: &Call,
    ) -> Session {
        let life = Duration::from_secs(policy.sessions.refresh_seconds);
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
