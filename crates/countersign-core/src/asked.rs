//! The one thing a sign-in asks for next, for callers who show one instead of a choice; and a sign-in that is proved by
//! enrolling.

use crate::{
    attempt::{Attempt, Code, Target},
    challenge::{CODE_DIGITS, NewCode, Recipient},
    destination::Destination,
    enrolment::Activation,
    event::{Action, Call, Note},
    factor::{Factor, Kind},
    id::{FactorId, LoginId, SessionId},
    keyring::Keyring,
    lock::Method,
    policy::Policy,
    profile::Label,
    refusal::Refusal,
    session::{EnrolmentStep, OpenLogin, SecondStep, Session},
    user::User,
    verify::Verdict,
};

/// What a sign-in asks for first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// What an app or a token shows.
    Otp,
    /// A code that is sent to this factor's address.
    Mail(FactorId),
    /// A code that is sent to the profile's address, and enrols it: there is no factor yet.
    NewAddress(Destination),
    /// Something else: a code by telephone, a recovery code, or enrolling a factor.
    Other,
}

impl Asked {
    /// Tells whether a code is sent by mail.
    pub const fn is_mail(&self) -> bool {
        matches!(self, Self::Mail(_) | Self::NewAddress(_))
    }
}

impl User {
    /// Returns what a sign-in asks for first: an app's code if there is one, else one by mail.
    pub fn preferred_second_factor(&self, policy: &Policy, call: &Call) -> Asked {
        let usable = |kinds: &[Kind]| {
            let is_meant = |kind: Kind| kinds.contains(&kind) && policy.allows(kind);
            self.active_factors().find(|held| is_meant(held.proof.kind()))
        };
        if usable(&[Kind::Totp, Kind::Hotp]).is_some() {
            return Asked::Otp;
        }
        if let Some(mail) = usable(&[Kind::Email]) {
            return Asked::Mail(mail.id);
        }
        match self.profile_destination(Kind::Email) {
            Some(to) if policy.allows(Kind::Email) && !self.has_second_factor(policy, call.now) => {
                Asked::NewAddress(to)
            }
            _ => Asked::Other,
        }
    }

    /// Asks for the second step of a sign-in: earlier ones through the same client lapse, and a code by mail is sent.
    ///
    /// A profile's address is enrolled only with a `new_address` to be; without, an app is asked for.
    pub fn ask_second_step(
        &mut self,
        login: LoginId,
        new_address: Option<(FactorId, Label)>,
        new: &NewCode,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Asked, Refusal> {
        let open = self.open_login(login, call)?;
        self.supersede_logins(&open, call);
        let asked = self.preferred_second_factor(policy, call);
        match (&asked, new_address) {
            (Asked::Mail(factor), _) => {
                self.challenge_in_login(login, Recipient::Factor(*factor), new, policy, keys, call)?;
            }
            (Asked::NewAddress(to), Some((factor, label))) => {
                let sole = (factor, label, to.clone());
                self.enrol_sole_sent(Some(login), sole, new, policy, keys, call)?;
            }
            (Asked::NewAddress(_), None) => return Ok(Asked::Other),
            (Asked::Otp | Asked::Other, _) => {}
        }
        Ok(asked)
    }

    fn supersede_logins(&mut self, newest: &OpenLogin, call: &Call) {
        let before = self.logins.len();
        self.logins.retain(|open| open.id == newest.id || open.client != newest.client);
        if self.logins.len() < before {
            self.record(call, Note::new(Action::LoginRejected).reason("superseded"));
        }
    }

    /// Decides the second step of a sign-in by what it asked for, whatever the attempt's target. A recovery code always
    /// stands in.
    pub fn answer_second_step(
        &mut self,
        login: LoginId,
        attempt: &Attempt,
        session: SessionId,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<SecondStep, Refusal> {
        if let Asked::NewAddress(_) = self.preferred_second_factor(policy, call) {
            return self.answer_with_first_code(login, &attempt.code, session, policy, keys, call);
        }
        let attempt = self.as_asked(attempt, policy, call);
        self.second_step(login, &attempt, session, policy, keys, call)
    }

    /// Aims an attempt at what is asked for.
    pub(crate) fn as_asked(&self, attempt: &Attempt, policy: &Policy, call: &Call) -> Attempt {
        let is_sent = attempt.code.as_str().len() == CODE_DIGITS;
        let target = match self.preferred_second_factor(policy, call) {
            Asked::Mail(factor) if is_sent => Target::Factor(factor),
            _ => Target::Any,
        };
        Attempt { target, ..attempt.clone() }
    }

    /// The first code of an address proves what a code sent to it later would, so a wrong one counts like one.
    fn answer_with_first_code(
        &mut self,
        login: LoginId,
        code: &Code,
        session: SessionId,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<SecondStep, Refusal> {
        if let Some(until) = self.locks.is_locked(Method::Email, call.now) {
            self.record(call, Note::new(Action::VerifyRejected).method(Method::Email).reason("locked"));
            return Ok(SecondStep::Refused(Verdict::Locked { method: Method::Email, until }));
        }
        let Ok(waiting) = self.waiting(Kind::Email) else {
            return Ok(SecondStep::Refused(Verdict::Expired));
        };
        let refused = match self.activate_in_login(login, waiting, code, session, policy, keys, call)? {
            EnrolmentStep::Session(session) => {
                self.locks.clear(Method::Email);
                return Ok(SecondStep::Session(session));
            }
            EnrolmentStep::Refused(refused) => refused,
        };
        Ok(SecondStep::Refused(match refused {
            Activation::Expired | Activation::Activated => Verdict::Expired,
            Activation::Rejected { .. } => self.reject_wrong(Method::Email, Some(Kind::Email), policy, call),
        }))
    }

    /// Activates a factor enrolled during sign-in and keeps the login, which is proved by it.
    ///
    /// Only while the person has no other: else a stolen password would be enough to add one.
    pub fn activate_keeping_login(
        &mut self,
        login: LoginId,
        factor: FactorId,
        code: &Code,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Activation, Refusal> {
        self.check_first_in_login(login, policy, call)?;
        let kind = self.factor(factor).map(Factor::kind)?;
        // An address proves a sign-in from its first code on, so that is guessed at no more often than a later one.
        let counted = kind.channel().map(|_| kind.method());
        if let Some(until) = counted.and_then(|method| self.locks.is_locked(method, call.now)) {
            return Err(Refusal::Locked(kind.method(), until));
        }
        let activation = self.activate_pending(factor, code, policy, keys, call)?;
        match (&activation, counted) {
            (Activation::Rejected { .. }, Some(method)) => {
                self.count_failure(method, Some(kind), policy, call);
            }
            (Activation::Activated, _) => {
                if let Some(method) = counted {
                    self.locks.clear(method);
                }
                for open in self.logins.iter_mut().filter(|open| open.id == login) {
                    open.proved = Some(factor);
                }
            }
            _ => {}
        }
        Ok(activation)
    }

    /// Finishes a sign-in that was proved by enrolling, once, without another code.
    pub fn finish_proved_login(
        &mut self,
        login: LoginId,
        session: SessionId,
        policy: &Policy,
        call: &Call,
    ) -> Result<Session, Refusal> {
        let open = self.open_login(login, call)?;
        let proved = open.proved.and_then(|factor| self.active_factor(factor));
        let kind = proved.map(|held| held.proof.kind()).filter(|kind| policy.allows(*kind));
        let kind = kind.ok_or(Refusal::SecondFactorNeeded)?;
        Ok(self.finish_login(&open, kind, session, policy, call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        destination::Channel,
        id::ClientId,
        policy::Requirement,
        profile::Email,
        session::NewSession,
        testing::{
            HASH, OpenKeyring, Person, WRONG, attempt, checked, label, new_session, newcomer, rng, typed,
        },
    };
    use uuid::Uuid;

    const FACTOR: FactorId = FactorId::from_uuid(Uuid::from_u128(77));
    const SESSION: SessionId = SessionId::from_uuid(Uuid::from_u128(78));

    /// Somebody without factors, in an organisation that asks everybody for one.
    fn enforced() -> Person {
        let mut person = newcomer();
        person.set_password();
        person.policy.requirement = Requirement::Enforced;
        person.user.email = Some(Email::parse("email", "ada@example.com").expect("address"));
        person
    }

    fn ask(person: &mut Person, login: LoginId) -> Result<(Asked, String), Refusal> {
        let new = NewCode::draw(person.now, &mut rng(person.user.audit_head.seq));
        let call = person.themselves(false);
        let (policy, factor) = (&person.policy, Some((FACTOR, label("mail"))));
        let asked = person.user.ask_second_step(login, factor, &new, policy, &OpenKeyring, &call)?;
        Ok((asked, new.digits().expose().clone()))
    }

    fn answer(person: &mut Person, login: LoginId, code: &str) -> Result<SecondStep, Refusal> {
        let call = person.themselves(false);
        let attempt = attempt(code, Target::AnyOtp);
        person.user.answer_second_step(login, &attempt, SESSION, &person.policy, &OpenKeyring, &call)
    }

    fn activate(
        person: &mut Person,
        login: LoginId,
        id: FactorId,
        code: &str,
    ) -> Result<Activation, Refusal> {
        let call = person.themselves(false);
        person.user.activate_keeping_login(login, id, &typed(code), &person.policy, &OpenKeyring, &call)
    }

    fn finish(person: &mut Person, login: LoginId) -> Result<Session, Refusal> {
        let call = person.themselves(false);
        person.user.finish_proved_login(login, SESSION, &person.policy, &call)
    }

    fn enrol(person: &mut Person, login: LoginId, number: u128) -> Result<FactorId, Refusal> {
        let call = person.themselves(false);
        let new = person.new_totp(number);
        person.user.enrol_sole(Some(login), new.clone(), &person.policy, &call).map(|()| new.0)
    }

    #[test]
    fn an_app_comes_before_mail_and_mail_before_an_address() {
        let mut person = enforced();
        let preferred =
            |person: &Person| person.user.preferred_second_factor(&person.policy, &person.themselves(false));

        assert!(matches!(preferred(&person), Asked::NewAddress(_)));
        let mail = person.sent_factor(5, Channel::Mail, "ada@example.com");
        assert_eq!(preferred(&person), Asked::Mail(mail));
        let app = person.enrol(6);
        assert_eq!(preferred(&person), Asked::Mail(mail), "one that waits is none yet");
        let code = person.totp_code(0);
        person.activate(app, &code);
        assert_eq!(preferred(&person), Asked::Otp);
        person.policy.kinds.remove(&Kind::Totp);
        person.policy.kinds.remove(&Kind::Email);
        assert_eq!(preferred(&person), Asked::Other, "policy allows neither");
    }

    #[test]
    fn a_code_to_the_profiles_address_enrols_it_and_signs_in() {
        let mut person = enforced();
        let login = person.open_login(1);
        let (asked, code) = ask(&mut person, login).expect("ask");
        assert!(matches!(asked, Asked::NewAddress(_)));

        let wrong = answer(&mut person, login, WRONG);
        let right = answer(&mut person, login, &code);

        let verdict = Verdict::Rejected { reason: crate::verify::Reason::WrongCode, attempts_left: 4 };
        assert_eq!(wrong, Ok(SecondStep::Refused(verdict)));
        let Ok(SecondStep::Session(session)) = right else { panic!("{right:?}") };
        assert!(session.has_second_factor());
        assert_eq!(person.user.active_factors().map(|held| held.id).collect::<Vec<_>>(), [FACTOR]);
        assert_eq!(answer(&mut person, login, &code), Err(Refusal::TokenGone));
    }

    // Each new login brought five more guesses at a code that is as good as a second factor.
    #[test]
    fn wrong_codes_to_a_new_address_lock_mail_however_many_logins_are_opened() {
        let mut person = enforced();
        person.policy.resend.pause_seconds = 0;
        let mut locked = false;
        for number in 1..=2 {
            let login = person.open_login(number);
            ask(&mut person, login).expect("ask");
            for _ in 0..3 {
                let answer = answer(&mut person, login, WRONG);
                locked |= matches!(answer, Ok(SecondStep::Refused(Verdict::Locked { .. })));
            }
        }
        let login = person.open_login(3);

        assert!(locked);
        assert!(matches!(ask(&mut person, login), Err(Refusal::Locked(Method::Email, _))));
    }

    // So did confirming the address before the login is finished.
    #[test]
    fn wrong_codes_that_confirm_a_new_address_lock_mail_too() {
        let mut person = enforced();
        person.policy.resend.pause_seconds = 0;
        let wrong = |person: &mut Person, number: u128| {
            let login = person.open_login(number);
            let asked = ask(person, login);
            asked.and_then(|_| (0..3).try_for_each(|_| activate(person, login, FACTOR, WRONG).map(drop)))
        };

        assert_eq!(wrong(&mut person, 1), Ok(()));
        assert!(matches!(wrong(&mut person, 2), Err(Refusal::Locked(Method::Email, _))));

        person.wait(3600);
        let login = person.open_login(3);
        let (_, code) = ask(&mut person, login).expect("ask");
        assert_eq!(activate(&mut person, login, FACTOR, &code), Ok(Activation::Activated));
        assert_eq!(person.user.locks.of(Method::Email).failures, 0);
    }

    #[test]
    fn a_code_by_mail_and_a_recovery_code_both_answer() {
        let mut person = Person::new();
        person.user.factors.clear();
        person.sent_factor(5, Channel::Mail, "ada@example.com");
        person.set_password();
        let first = person.open_login(1);
        let (_, code) = ask(&mut person, first).expect("ask");
        let recovery = person.recovery[0].canonical().to_owned();

        assert!(matches!(answer(&mut person, first, &code), Ok(SecondStep::Session(_))));
        let second = person.open_login(2);
        assert!(matches!(answer(&mut person, second, &recovery), Ok(SecondStep::Session(_))));
    }

    #[test]
    fn a_new_login_ends_those_before_it_through_the_same_client() {
        let mut person = Person::new();
        person.user.set_initial_password(HASH.into(), &Call::system(person.now)).expect("password");
        let client = Some(ClientId::from_uuid(Uuid::from_u128(9)));
        let (mine, call) = (person.open_login(1), person.nobody());
        for number in [2, 3] {
            let new = NewSession { client, ..new_session(number) };
            person.user.sign_in(&checked(true), new, &person.policy, &call).expect("sign in");
        }
        let newest = person.user.logins[2].id;

        ask(&mut person, newest).expect("ask");

        let open: Vec<LoginId> = person.user.logins.iter().map(|open| open.id).collect();
        assert_eq!(open, [mine, newest]);
    }

    #[test]
    fn enrolling_proves_a_login_once() {
        let mut person = enforced();
        let login = person.open_login(1);
        let id = enrol(&mut person, login, 3).expect("enrol");
        assert_eq!(finish(&mut person, login), Err(Refusal::SecondFactorNeeded), "not proved yet");
        let code = person.totp_code(0);

        assert_eq!(activate(&mut person, login, id, &code), Ok(Activation::Activated));
        let session = finish(&mut person, login).expect("finish");

        assert_eq!(session.amr, ["pwd", "otp", "mfa"]);
        assert_eq!(finish(&mut person, login), Err(Refusal::TokenGone));
    }

    #[test]
    fn a_login_proves_nothing_beside_a_factor_in_use() {
        let mut person = Person::new();
        person.set_password();
        let login = person.open_login(1);
        let (id, code) = (person.enrol(3), person.totp_code(0));

        assert_eq!(activate(&mut person, login, id, &code), Err(Refusal::SecondFactorNeeded));
        assert_eq!(finish(&mut person, login), Err(Refusal::SecondFactorNeeded));
    }

    #[test]
    fn a_proof_goes_with_its_factor() {
        let mut person = enforced();
        let login = person.open_login(1);
        let id = enrol(&mut person, login, 3).expect("enrol");
        let code = person.totp_code(0);
        activate(&mut person, login, id, &code).expect("activate");
        let staff = person.staff(crate::role::Role::Helpdesk);

        person.user.delete_factor(id, &person.policy, &staff).expect("delete");

        assert_eq!(finish(&mut person, login), Err(Refusal::SecondFactorNeeded));
    }
}
