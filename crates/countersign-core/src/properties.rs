//! What holds for any sequence of operations, tried on random ones.

use crate::{
    attempt::{Attempt, Code, RequestId, Target},
    challenge::{Challenge, NewCode, Recipient},
    destination::{Channel, Destination},
    enrolment::Resync,
    enrolment_code::{CODE_LIFE, NewEnrolmentCode},
    enrolment_link::NewLink,
    enrolment_ticket::{EnrolmentTicket, StoredTicket},
    event::{Call, ChainHead, Event},
    factor::{
        FACTOR_LIMIT, Factor, Kind, PENDING_LIMIT, Proof, emergency::EmergencyCode, recovery::RecoveryCodes,
        scratch::ScratchCode,
    },
    id::{DeliveryId, FactorId, InvitationId},
    lock::{ACCOUNT_FAILURE_LIMIT, Lock, Method, Until},
    message::CodePurpose,
    policy::LockMode,
    profile::{Email, NAME_LIMIT},
    refusal::Refusal,
    role::{Role, Roles},
    session::{LOGIN_LIMIT, SESSION_LIMIT},
    testing::{
        HASH, OpenKeyring, Person, START, attempt, checked, label, new_session, newcomer, rng, sender,
        short_codes, stretch, typed, with_request,
    },
    time::Timestamp,
    user::{Status, User, UserPatch},
    verify::{REMEMBERED_REQUESTS, Verdict},
};
use proptest::{collection::vec, prelude::*};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// What a document with short names stays below, whatever happens to it.
const DOCUMENT_LIMIT: usize = 16 * 1024;

/// What somebody types.
#[derive(Debug, Clone)]
enum Typed {
    /// The TOTP code some steps from now.
    Totp(i64),
    /// The HOTP code some counters from the next one.
    Hotp(i64),
    Recovery(usize),
    Emergency,
    /// Most likely a wrong code, but nobody promises.
    Guess(u32),
}

/// What it is tried against.
#[derive(Debug, Clone)]
enum Aim {
    AnyOtp,
    Kind(Kind),
    Totp,
    Hotp,
}

#[derive(Debug, Clone)]
struct Try {
    typed: Typed,
    aim: Aim,
    /// One of a few request ids, so that some are given twice.
    request: Option<u8>,
}

/// Who does it.
#[derive(Debug, Clone, Copy)]
enum By {
    Client,
    Staff(Role),
    Themselves { second_factor: bool },
}

/// Something that happens to a person. Places count modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    /// The clock moves, also backwards.
    Wait(i64),
    Try(Try),
    /// An earlier attempt once more, to the letter.
    Again(usize),
    Resynchronise {
        ahead: u64,
        right: bool,
    },
    Switch {
        place: usize,
        on: bool,
    },
    Rename(usize),
    Unlock(Method),
    Enrol(By),
    Activate {
        place: usize,
        right: bool,
        by: By,
    },
    Import(By),
    EnrolSent(By),
    /// A code is sent to a factor, or once more for its challenge.
    Send {
        place: usize,
        again: bool,
    },
    /// A code that was sent some codes ago is typed.
    Answer {
        back: usize,
        way: u8,
    },
    Delete(usize, By),
    SendLink {
        replace: bool,
        by: By,
    },
    FollowLink {
        right: bool,
    },
    IssueEnrolmentCode(By),
    RedeemEnrolmentCode {
        right: bool,
    },
    EnrolByTicket {
        replace: bool,
        by: By,
    },
    /// The newest ticket comes back, or a forged one, with a code of the app or a short recovery code.
    RedeemTicket {
        ours: bool,
        short: bool,
        by: By,
    },
    /// An administrator says where codes go.
    Assign(By),
    SwitchOff(By),
    ResetKind(Kind, By),
    /// One's own factor goes, by a code; in the middle of a sign-in if it names one.
    ResetOwn {
        login: Option<usize>,
        kind: Kind,
        tried: Try,
    },
    UnlockEverything(By),
    SignOutEverywhere(By),
    /// A sign-in asks for the one factor it prefers, and has its code sent.
    Ask(usize),
    AnswerAsked(usize, Try),
    /// A factor enrolled within a sign-in proves it, and it stays open.
    Prove {
        login: usize,
        place: usize,
    },
    FinishProved(usize),
    SignIn {
        matched: bool,
    },
    FinishLogin(usize, Try),
    EnrolInLogin(usize),
    ActivateInLogin {
        login: usize,
        place: usize,
    },
    Refresh {
        place: usize,
        late: bool,
    },
    EndSession(usize),
    ReplaceCodes(By),
    IssueEmergencyCode(By),
    RevokeEmergencyCode,
    Invite(By),
    AcceptInvitation,
    ChangePassword {
        matched: bool,
    },
    SetStatus(Status),
    SetRole(Role, By),
    Reset(By),
}

/// What a step led to, where it matters.
enum Done {
    Judged(Attempt, Verdict),
    Resynchronised(Resync),
    Other,
}

/// A person and what happens to them. What is refused is not committed, as in the store.
struct World {
    person: Person,
    attempts: Vec<Attempt>,
    /// The codes that were sent, newest last.
    sent: Vec<(Challenge, Code)>,
    /// The newest ticket and a recovery code that came with it, with its salt.
    ticket: Option<(EnrolmentTicket, Code, Uuid)>,
    drawn: u64,
}

impl World {
    fn new(person: Person) -> Self {
        Self { person, attempts: Vec::new(), sent: Vec::new(), ticket: None, drawn: 100 }
    }

    fn apply(&mut self, step: &Step) -> Result<Done, Refusal> {
        let before = self.person.user.clone();
        let done = self.act(step);
        if done.is_err() {
            self.person.user = before;
        }
        done
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            let _ = self.apply(step);
        }
        self.person.happened();
        self.person.letters();
        self.person.user.take_withdrawals();
    }

    fn act(&mut self, step: &Step) -> Result<Done, Refusal> {
        match step {
            Step::Wait(seconds) => {
                let millis = self.person.now.millis() + seconds * 1000;
                self.person.now = Timestamp::from_millis(millis);
            }
            Step::Try(tried) => return self.judge(self.attempt(tried)),
            Step::Again(back) => {
                let Some(attempt) = self.attempts.iter().rev().nth(*back).cloned() else {
                    return Ok(Done::Other);
                };
                return self.judge(attempt);
            }
            Step::EnrolSent(by) => self.enrol_sent(*by)?,
            Step::Send { place, again } => self.send(*place, *again)?,
            Step::Answer { back, way } => {
                let Some(attempt) = self.answer(*back, *way) else { return Ok(Done::Other) };
                return self.judge(attempt);
            }
            Step::Resynchronise { ahead, right } => return self.resynchronise(*ahead, *right),
            Step::FinishLogin(login, tried) => {
                let Some(open) = self.person.user.logins.get(*login) else { return Ok(Done::Other) };
                let (login, attempt, call) = (open.id, self.attempt(tried), self.person.nobody());
                let (session, person) = (new_session(self.draw().into()).session, &mut self.person);
                person.user.second_step(login, &attempt, session, &person.policy, &OpenKeyring, &call)?;
            }
            Step::SignIn { .. }
            | Step::EnrolInLogin(_)
            | Step::ActivateInLogin { .. }
            | Step::Refresh { .. }
            | Step::EndSession(_)
            | Step::Invite(_)
            | Step::AcceptInvitation
            | Step::ChangePassword { .. } => self.act_on_sessions(step)?,
            Step::SendLink { .. }
            | Step::FollowLink { .. }
            | Step::IssueEnrolmentCode(_)
            | Step::RedeemEnrolmentCode { .. } => self.act_on_link(step)?,
            Step::EnrolByTicket { .. } | Step::RedeemTicket { .. } => self.act_on_ticket(step)?,
            Step::ResetOwn { .. }
            | Step::Ask(_)
            | Step::AnswerAsked(..)
            | Step::Prove { .. }
            | Step::FinishProved(_) => self.act_on_one_factor(step)?,
            _ => self.act_on_factors(step)?,
        }
        Ok(Done::Other)
    }

    fn act_on_factors(&mut self, step: &Step) -> Result<(), Refusal> {
        let number = self.draw();
        let (client, policy) = (self.person.client(), self.person.policy.clone());
        let user = &mut self.person.user;
        match *step {
            Step::Switch { place, on } => match (self.factor_at(place), on) {
                (Some(id), true) => self.person.user.enable_factor(id, &policy, &client),
                (Some(id), false) => self.person.user.disable_factor(id, &policy, &client),
                (None, _) => Ok(()),
            },
            Step::Rename(place) => match self.factor_at(place) {
                Some(id) => self.person.user.rename_factor(id, label(&format!("phone {number}")), &client),
                None => Ok(()),
            },
            Step::Unlock(method) => user.unlock(&[method], &client).map(drop),
            Step::Enrol(by) => {
                let ((id, label, proof), call) = (self.person.new_totp(number.into()), self.call(by));
                self.person.user.enrol(id, label, proof, &policy, &call)
            }
            Step::Activate { place, right, by } => match self.factor_at(place) {
                Some(id) => {
                    let code = if right { self.first_code(id) } else { typed("nothing") };
                    let call = self.call(by);
                    self.person.user.activate(id, &code, &policy, &OpenKeyring, &call).map(drop)
                }
                None => Ok(()),
            },
            Step::Import(by) => {
                let ((id, label, proof), call) = (self.person.new_totp(number.into()), self.call(by));
                self.person.user.import(id, label, proof, &policy, &call)
            }
            Step::Delete(place, by) => match self.factor_at(place) {
                Some(id) => {
                    let call = self.call(by);
                    self.person.user.delete_factor(id, &policy, &call)
                }
                None => Ok(()),
            },
            Step::ReplaceCodes(by) => {
                let (codes, call) = (self.draw_recovery_codes(), self.call(by));
                self.person.user.replace_recovery_codes(codes, &policy, &call)
            }
            Step::IssueEmergencyCode(by) => {
                let (code, call) = (self.draw_emergency_code(), self.call(by));
                self.person.user.issue_emergency_code(code, &policy, &call)
            }
            Step::RevokeEmergencyCode => user.revoke_emergency_code(None, &client).map(drop),
            Step::SetStatus(status) => {
                let patch = UserPatch { status: Some(status), ..UserPatch::default() };
                user.update(patch, &client)
            }
            Step::SetRole(role, by) => {
                let patch = UserPatch { roles: Some(Roles::new([role])), ..UserPatch::default() };
                let call = self.call(by);
                self.person.user.update(patch, &call)
            }
            Step::Reset(by) => {
                let call = self.call(by);
                self.person.user.reset(&policy, &call)
            }
            Step::SwitchOff(by) => {
                let call = self.call(by);
                self.person.user.switch_off_mfa(&policy, &call)
            }
            Step::ResetKind(kind, by) => {
                let call = self.call(by);
                self.person.user.reset_kind(kind, &policy, &call)
            }
            Step::UnlockEverything(by) => {
                let call = self.call(by);
                self.person.user.unlock_everything(&call)
            }
            Step::SignOutEverywhere(by) => {
                let call = self.call(by);
                self.person.user.sign_out_everywhere(&call)
            }
            Step::Assign(by) => {
                let (call, text) = (self.call(by), format!("+4915112{:06}", number % 1_000_000));
                let to = Destination::parse(Channel::Sms, "destination", &text)?;
                let id = FactorId::from_uuid(Uuid::from_u128(number.into()));
                self.person.user.assign_destination(to, id, label("assigned"), &policy, &call)
            }
            _ => unreachable!("{step:?} is done elsewhere"),
        }
    }

    fn act_on_sessions(&mut self, step: &Step) -> Result<(), Refusal> {
        let number = u128::from(self.draw());
        let (nobody, policy) = (self.person.nobody(), self.person.policy.clone());
        let themselves = self.person.themselves(false);
        let factor = self.person.new_totp(number);
        let code = typed(&self.person.totp_code(0));
        let new = new_session(number);
        let user = &mut self.person.user;
        let mut check = checked(true);
        check.against = user.password.as_ref().map(|password| password.hash.clone());
        match *step {
            Step::SignIn { matched } => {
                check.matched = matched;
                user.sign_in(&check, new, &policy, &nobody).map(drop)
            }
            Step::EnrolInLogin(login) => match user.logins.get(login).map(|open| open.id) {
                Some(login) => user.enrol_in_login(login, factor, &policy, &themselves),
                None => Ok(()),
            },
            Step::ActivateInLogin { login, place } => {
                let login = user.logins.get(login).map(|open| open.id);
                let (Some(login), Some(id)) = (login, user.factors.get(place).map(Factor::id)) else {
                    return Ok(());
                };
                let session = new.session;
                user.activate_in_login(login, id, &code, session, &policy, &OpenKeyring, &themselves)
                    .map(drop)
            }
            Step::Refresh { place, late } => match user.sessions.get(place).cloned() {
                Some(session) => {
                    let generation = session.generation.saturating_sub(u32::from(late));
                    user.refresh(session.id, generation, session.client, &nobody).map(drop)
                }
                None => Ok(()),
            },
            Step::EndSession(place) => {
                if let Some(id) = user.sessions.get(place).map(|session| session.id) {
                    user.end_session(id, &nobody);
                }
                Ok(())
            }
            Step::Invite(by) => {
                let call = self.call(by);
                let id = InvitationId::from_uuid(Uuid::from_u128(number));
                self.person.user.invite(id, &policy, &call).map(drop)
            }
            Step::AcceptInvitation => match user.invitation.as_ref().map(|invitation| invitation.id) {
                Some(id) => user.accept_invitation(id, HASH.into(), &nobody),
                None => Ok(()),
            },
            Step::ChangePassword { matched } => {
                check.matched = matched;
                let keep = user.sessions.first().map(|session| session.id);
                user.change_password(&check, HASH.into(), keep, &policy, &themselves).map(drop)
            }
            _ => unreachable!("{step:?} is done elsewhere"),
        }
    }

    fn act_on_link(&mut self, step: &Step) -> Result<(), Refusal> {
        let number = self.draw();
        let (factor, label, proof) = self.person.new_totp(number.into());
        let by = match step {
            Step::SendLink { by, .. } | Step::IssueEnrolmentCode(by) => *by,
            _ => By::Client,
        };
        let (call, nobody, code) = (self.call(by), self.person.nobody(), self.person.totp_code(0));
        let Person { user, policy, .. } = &mut self.person;
        match *step {
            Step::SendLink { replace, .. } => {
                user.email = user.email.take().or_else(|| Email::parse("email", "ada@example.com").ok());
                let (delivery, url) = (DeliveryId::from_uuid(factor.uuid()), "https://x.example".to_owned());
                let new = NewLink { factor, label, proof, delivery, url: url.into() };
                user.send_enrolment_link(&new, replace, policy, &call)
            }
            Step::IssueEnrolmentCode(_) => {
                let code = "123456789".to_owned().into();
                let new = NewEnrolmentCode { factor, label, proof, code, life: CODE_LIFE };
                user.issue_enrolment_code(&new, policy, &OpenKeyring, &call).map(drop)
            }
            Step::RedeemEnrolmentCode { right } => {
                let code = typed(if right { "123456789" } else { "987654321" });
                Ok(user.redeem_enrolment_code(&code, policy, &OpenKeyring, &nobody).map(drop)?)
            }
            Step::FollowLink { right } => {
                let Some(open) = user.enrolment.clone() else { return Ok(()) };
                let code = if right { typed(&code) } else { typed("nothing") };
                user.activate_by_link(open.factor, &code, policy, &OpenKeyring, &nobody).map(drop)
            }
            _ => unreachable!("{step:?} is done elsewhere"),
        }
    }

    fn act_on_ticket(&mut self, step: &Step) -> Result<(), Refusal> {
        let number = self.draw();
        let salt = Uuid::from_u128(number.into());
        match *step {
            Step::EnrolByTicket { replace, by } => {
                let (factor, call) = (self.person.new_totp(number.into()), self.call(by));
                let Person { user, policy, now, .. } = &mut self.person;
                let (codes, set) = short_codes(user, salt, *now);
                let ticket = EnrolmentTicket::generate(&mut rng(number));
                let whose = (user.organisation, user.id);
                let stored = StoredTicket::new(&ticket, Some(set), factor.0, whose, &OpenKeyring)?;
                user.enrol_by_ticket(factor, stored, replace, policy, &call)?;
                self.ticket = Some((ticket, typed(codes[0].canonical()), salt));
            }
            Step::RedeemTicket { ours, short, by } => {
                let Some((ticket, code, salt)) = self.ticket.clone() else { return Ok(()) };
                let ticket = if ours { ticket } else { EnrolmentTicket::generate(&mut rng(number)) };
                let code = if short { code } else { typed(&self.person.totp_code(0)) };
                let (stretched, call) = (stretch(code.as_str(), salt), self.call(by));
                let Person { user, policy, .. } = &mut self.person;
                user.activate_by_ticket(&ticket, &code, Some(&stretched), policy, &OpenKeyring, &call)?;
            }
            _ => unreachable!("{step:?} is done elsewhere"),
        }
        Ok(())
    }

    fn act_on_one_factor(&mut self, step: &Step) -> Result<(), Refusal> {
        let (number, new) = (self.draw(), self.draw_code());
        let (nobody, themselves) = (self.person.nobody(), self.person.themselves(false));
        let id = FactorId::from_uuid(Uuid::from_u128(number.into()));
        let session = new_session(number.into()).session;
        let login_at = |place: usize| self.person.user.logins.get(place).map(|open| open.id);
        match step {
            Step::ResetOwn { login, kind, tried } => {
                let (login, attempt) = (login.and_then(login_at), self.attempt(tried));
                let Person { user, policy, .. } = &mut self.person;
                user.reset_own_kind(login, *kind, Some(&attempt), policy, &OpenKeyring, &themselves)?;
            }
            Step::Ask(login) => {
                let Some(login) = login_at(*login) else { return Ok(()) };
                let address = Some((id, label("asked")));
                let Person { user, policy, .. } = &mut self.person;
                user.ask_second_step(login, address, &new, policy, &OpenKeyring, &themselves)?;
                let sent = user.challenges.iter().find(|one| one.id == new.challenge).cloned();
                self.sent.extend(sent.map(|challenge| (challenge, typed(new.digits().expose()))));
            }
            Step::AnswerAsked(login, tried) => {
                let (Some(login), attempt) = (login_at(*login), self.attempt(tried)) else { return Ok(()) };
                let Person { user, policy, .. } = &mut self.person;
                user.answer_second_step(login, &attempt, session, policy, &OpenKeyring, &nobody)?;
            }
            Step::Prove { login, place } => {
                let (Some(login), Some(factor)) = (login_at(*login), self.factor_at(*place)) else {
                    return Ok(());
                };
                let code = self.first_code(factor);
                let Person { user, policy, .. } = &mut self.person;
                user.activate_keeping_login(login, factor, &code, policy, &OpenKeyring, &themselves)?;
            }
            Step::FinishProved(login) => {
                let Some(login) = login_at(*login) else { return Ok(()) };
                let Person { user, policy, .. } = &mut self.person;
                user.finish_proved_login(login, session, policy, &nobody)?;
            }
            _ => unreachable!("{step:?} is done elsewhere"),
        }
        Ok(())
    }

    fn judge(&mut self, attempt: Attempt) -> Result<Done, Refusal> {
        self.attempts.push(attempt.clone());
        let (call, person) = (self.person.client(), &mut self.person);
        let verdict = person.user.verify(&attempt, &person.policy, &OpenKeyring, &call)?;
        Ok(Done::Judged(attempt, verdict))
    }

    /// The newest code that was sent to a factor, or what its app shows.
    fn first_code(&self, id: FactorId) -> Code {
        let sent = self.sent.iter().rev().find(|(challenge, _)| challenge.factor == id);
        sent.map_or_else(|| typed(&self.person.totp_code(0)), |(_, code)| code.clone())
    }

    fn draw_code(&mut self) -> NewCode {
        NewCode::draw(self.person.now, &mut rng(self.draw()))
    }

    fn enrol_sent(&mut self, by: By) -> Result<(), Refusal> {
        let (number, new, call) = (self.draw(), self.draw_code(), self.call(by));
        let place = [Channel::Mail, Channel::Sms, Channel::Voice][number as usize % 3];
        let text = match place {
            Channel::Mail => format!("ada{number}@example.com"),
            Channel::Sms | Channel::Voice => format!("+4915112{:06}", number % 1_000_000),
        };
        let to = Destination::parse(place, "destination", &text)?;
        let id = FactorId::from_uuid(Uuid::from_u128(number.into()));
        let Person { user, policy, .. } = &mut self.person;
        let challenge = user.enrol_sent(id, label("new"), to, &new, policy, &OpenKeyring, &call)?;
        self.sent.push((challenge, typed(new.digits().expose())));
        Ok(())
    }

    fn send(&mut self, place: usize, again: bool) -> Result<(), Refusal> {
        let Some(factor) = self.factor_at(place) else { return Ok(()) };
        let (new, call) = (self.draw_code(), self.person.client());
        let standing = self.person.user.challenges.iter().find(|challenge| challenge.factor == factor);
        let recipient = match standing {
            Some(challenge) if again => Recipient::Challenge(challenge.id),
            _ => Recipient::Factor(factor),
        };
        let Person { user, policy, .. } = &mut self.person;
        let challenge = user.challenge(recipient, &new, policy, &OpenKeyring, &call)?;
        self.sent.push((challenge, typed(new.digits().expose())));
        Ok(())
    }

    fn answer(&self, back: usize, way: u8) -> Option<Attempt> {
        let (challenge, code) = self.sent.iter().rev().nth(back)?;
        let target = match way {
            0 => Target::Challenge(challenge.id),
            1 => Target::Factor(challenge.factor),
            _ => Target::Kind([Kind::Email, Kind::Sms, Kind::Voice][usize::from(way) % 3]),
        };
        Some(Attempt::new(code.clone(), target))
    }

    fn resynchronise(&mut self, ahead: u64, right: bool) -> Result<Done, Refusal> {
        let codes = self.pair(ahead, right);
        let (call, person) = (self.person.client(), &mut self.person);
        let pair = [&codes[0], &codes[1]];
        let outcome = person.user.resynchronise(person.hotp, pair, &person.policy, &OpenKeyring, &call)?;
        Ok(Done::Resynchronised(outcome))
    }

    fn pair(&self, ahead: u64, right: bool) -> [Code; 2] {
        let first = self.counter() + ahead;
        let second = if right { first + 1 } else { first + 2 };
        [first, second].map(|counter| typed(&self.person.hotp_code(counter)))
    }

    fn attempt(&self, tried: &Try) -> Attempt {
        let person = &self.person;
        let code = match tried.typed {
            Typed::Totp(steps) => person.totp_code(steps),
            Typed::Hotp(ahead) => person.hotp_code(self.counter().saturating_add_signed(ahead)),
            Typed::Recovery(place) => person.recovery[place].canonical().to_owned(),
            Typed::Emergency => person.emergency.canonical().to_owned(),
            Typed::Guess(number) => format!("{number:06}"),
        };
        let target = match tried.aim {
            Aim::AnyOtp => Target::AnyOtp,
            Aim::Kind(kind) => Target::Kind(kind),
            Aim::Totp => Target::Factor(person.totp),
            Aim::Hotp => Target::Factor(person.hotp),
        };
        let plain = attempt(&code, target);
        tried.request.map_or(plain.clone(), |number| with_request(plain, &format!("r-{number}")))
    }

    fn call(&self, by: By) -> Call {
        match by {
            By::Client => self.person.client(),
            By::Staff(role) => self.person.staff(role),
            By::Themselves { second_factor } => self.person.themselves(second_factor),
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn draw_recovery_codes(&mut self) -> RecoveryCodes {
        let mut rng = rng(self.draw());
        let person = &mut self.person;
        person.recovery =
            (0..person.policy.recovery_codes).map(|_| ScratchCode::generate(&mut rng)).collect();
        let (organisation, user, salt) =
            (person.user.organisation, person.user.id, Uuid::from_u128(self.drawn.into()));
        RecoveryCodes::new(&person.recovery, salt, organisation, user, &OpenKeyring, person.now)
            .expect("hash")
    }

    fn draw_emergency_code(&mut self) -> EmergencyCode {
        self.person.emergency = ScratchCode::generate(&mut rng(self.draw()));
        self.person.hash_emergency_code(&self.person.emergency, None).expect("hash")
    }

    fn factor_at(&self, place: usize) -> Option<FactorId> {
        let factors = &self.person.user.factors;
        factors.get(place % factors.len().max(1)).map(Factor::id)
    }

    /// The newest step of the TOTP factor that was accepted.
    fn last_step(&self) -> Option<u64> {
        match self.person.user.factor(self.person.totp).map(Factor::proof) {
            Ok(Proof::Totp(totp)) => totp.last_step,
            _ => None,
        }
    }

    /// The next counter of the HOTP factor.
    fn counter(&self) -> u64 {
        match self.person.user.factor(self.person.hotp).map(Factor::proof) {
            Ok(Proof::Hotp(hotp)) => hotp.counter,
            _ => 0,
        }
    }

    /// The code of a time step.
    fn code_of(&self, step: u64) -> String {
        self.person.hotp_code(step)
    }

    fn failures(&self) -> BTreeMap<Method, u32> {
        Method::ALL.into_iter().map(|method| (method, self.person.user.locks.of(method).failures)).collect()
    }
}

/// What a document decides by: all but its chain and its journal.
fn without_trail(user: &User) -> User {
    let mut user = user.clone();
    user.take_records();
    let _ = user.seal_messages(sender(), &OpenKeyring, |_| false);
    user.audit_head = ChainHead::default();
    user.updated_at = START;
    user
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn any_method() -> impl Strategy<Value = Method> {
    prop::sample::select(Method::ALL.to_vec())
}

fn any_by() -> impl Strategy<Value = By> {
    prop_oneof![
        4 => Just(By::Client),
        2 => prop::sample::select(Role::ALL.to_vec()).prop_map(By::Staff),
        2 => any::<bool>().prop_map(|second_factor| By::Themselves { second_factor }),
    ]
}

/// A code and its target; mostly ones that go together, so that enough of them are right.
fn any_try(requests: bool) -> impl Strategy<Value = Try> {
    let pair = prop_oneof![
        4 => (-3..=3_i64).prop_map(|steps| (Typed::Totp(steps), Aim::AnyOtp)),
        2 => (-3..=3_i64).prop_map(|steps| (Typed::Totp(steps), Aim::Totp)),
        4 => (-2..=12_i64).prop_map(|ahead| (Typed::Hotp(ahead), Aim::AnyOtp)),
        2 => (-2..=12_i64).prop_map(|ahead| (Typed::Hotp(ahead), Aim::Hotp)),
        3 => (0..10_usize).prop_map(|place| (Typed::Recovery(place), Aim::Kind(Kind::Recovery))),
        2 => Just((Typed::Emergency, Aim::Kind(Kind::Emergency))),
        2 => (0..1_000_000_u32, any_kind()).prop_map(|(number, kind)| (Typed::Guess(number), Aim::Kind(kind))),
        3 => (0..1_000_000_u32).prop_map(|number| (Typed::Guess(number), Aim::AnyOtp)),
        1 => (0..10_usize, any_kind()).prop_map(|(place, kind)| (Typed::Recovery(place), Aim::Kind(kind))),
        1 => any_kind().prop_map(|kind| (Typed::Totp(0), Aim::Kind(kind))),
    ];
    let request = if requests { prop::option::of(0..24_u8).boxed() } else { Just(None).boxed() };
    (pair, request).prop_map(|((typed, aim), request)| Try { typed, aim, request })
}

fn any_wait() -> impl Strategy<Value = Step> {
    prop_oneof![18 => 0..60_i64, 6 => 0..4000_i64, 3 => -4000..0_i64, 1 => Just(90_000_i64)]
        .prop_map(Step::Wait)
}

/// Attempts, and what staff does between them.
fn attempts(requests: bool) -> impl Strategy<Value = Step> {
    prop_oneof![
        14 => any_try(requests).prop_map(Step::Try),
        3 => (0..6_usize).prop_map(Step::Again),
        5 => any_wait(),
        1 => (0..120_u64, any::<bool>()).prop_map(|(ahead, right)| Step::Resynchronise { ahead, right }),
        1 => (0..2_usize).prop_map(|place| Step::Switch { place, on: false }),
        2 => (0..2_usize).prop_map(|place| Step::Switch { place, on: true }),
        1 => (0..2_usize).prop_map(Step::Rename),
        1 => any_method().prop_map(Step::Unlock),
    ]
}

/// Everything that may happen to a person.
fn life() -> impl Strategy<Value = Step> {
    let place = || 0..FACTOR_LIMIT;
    let factors = prop_oneof![
        4 => any_by().prop_map(Step::Enrol),
        4 => (place(), any::<bool>(), any_by()).prop_map(|(place, right, by)| Step::Activate { place, right, by }),
        4 => any_by().prop_map(Step::Import),
        4 => any_by().prop_map(Step::EnrolSent),
        4 => (place(), any::<bool>()).prop_map(|(place, again)| Step::Send { place, again }),
        6 => (0..4_usize, 0..5_u8).prop_map(|(back, way)| Step::Answer { back, way }),
        2 => (place(), any_by()).prop_map(|(place, by)| Step::Delete(place, by)),
        1 => (place(), any::<bool>()).prop_map(|(place, on)| Step::Switch { place, on }),
        2 => any_by().prop_map(Step::ReplaceCodes),
        2 => any_by().prop_map(Step::IssueEmergencyCode),
        1 => Just(Step::RevokeEmergencyCode),
        1 => any_by().prop_map(Step::Assign),
        3 => links(),
        3 => tickets(),
    ];
    let sessions = prop_oneof![
        8 => (0..8_u8).prop_map(|chance| Step::SignIn { matched: chance > 0 }),
        4 => (0..LOGIN_LIMIT, any_try(true)).prop_map(|(login, tried)| Step::FinishLogin(login, tried)),
        1 => (0..LOGIN_LIMIT).prop_map(Step::EnrolInLogin),
        1 => (0..LOGIN_LIMIT, place()).prop_map(|(login, place)| Step::ActivateInLogin { login, place }),
        4 => (0..SESSION_LIMIT, 0..8_u8).prop_map(|(place, chance)| Step::Refresh { place, late: chance == 0 }),
        1 => (0..SESSION_LIMIT).prop_map(Step::EndSession),
        1 => any_by().prop_map(Step::Invite),
        1 => Just(Step::AcceptInvitation),
        1 => any::<bool>().prop_map(|matched| Step::ChangePassword { matched }),
        3 => one_factor(),
    ];
    let rare = prop_oneof![
        4 => Just(Step::SetStatus(Status::Active)),
        1 => Just(Step::SetStatus(Status::Disabled)),
        // Else nobody but an owner could act on the person for the rest of their life.
        6 => Just(Step::SetRole(Role::Member, By::Staff(Role::Owner))),
        1 => (prop::sample::select(Role::ALL.to_vec()), any_by()).prop_map(|(role, by)| Step::SetRole(role, by)),
        1 => any_by().prop_map(Step::Reset),
        1 => any_by().prop_map(Step::SwitchOff),
        1 => (any_kind(), any_by()).prop_map(|(kind, by)| Step::ResetKind(kind, by)),
        1 => any_by().prop_map(Step::UnlockEverything),
        1 => any_by().prop_map(Step::SignOutEverywhere),
    ];
    prop_oneof![10 => attempts(true), 8 => factors, 10 => sessions, 1 => rare]
}

/// Setting up an app by link or code.
fn links() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<bool>(), any_by()).prop_map(|(replace, by)| Step::SendLink { replace, by }),
        3 => any::<bool>().prop_map(|right| Step::FollowLink { right }),
        2 => any_by().prop_map(Step::IssueEnrolmentCode),
        2 => any::<bool>().prop_map(|right| Step::RedeemEnrolmentCode { right }),
    ]
}

/// Setting up an app by ticket, with recovery codes.
fn tickets() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<bool>(), any_by()).prop_map(|(replace, by)| Step::EnrolByTicket { replace, by }),
        3 => (0..4_u8, any::<bool>(), any_by())
            .prop_map(|(chance, short, by)| Step::RedeemTicket { ours: chance > 0, short, by }),
    ]
}

/// Signing in with one factor of a kind, as callers do that know no other way.
fn one_factor() -> impl Strategy<Value = Step> {
    let login = || 0..LOGIN_LIMIT;
    prop_oneof![
        2 => login().prop_map(Step::Ask),
        3 => (login(), any_try(true)).prop_map(|(login, tried)| Step::AnswerAsked(login, tried)),
        2 => (login(), 0..FACTOR_LIMIT).prop_map(|(login, place)| Step::Prove { login, place }),
        2 => login().prop_map(Step::FinishProved),
        1 => (prop::option::of(login()), any_kind(), any_try(false))
            .prop_map(|(login, kind, tried)| Step::ResetOwn { login, kind, tried }),
    ]
}

/// Codes that are sent and typed, and little else.
fn codes_only() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any_by().prop_map(Step::EnrolSent),
        3 => (0..FACTOR_LIMIT).prop_map(|place| Step::Activate { place, right: true, by: By::Client }),
        5 => (0..FACTOR_LIMIT, any::<bool>()).prop_map(|(place, again)| Step::Send { place, again }),
        8 => (0..3_usize, 0..5_u8).prop_map(|(back, way)| Step::Answer { back, way }),
        4 => (0..90_i64).prop_map(Step::Wait),
        1 => (0..4000_i64).prop_map(Step::Wait),
        1 => any_method().prop_map(Step::Unlock),
    ]
}

/// Somebody at the beginning of their life: the first event is not yet taken.
fn beginning() -> World {
    let mut person = newcomer();
    person.set_password();
    World::new(person)
}

/// What comparing a code with everything it may be should find; told by the plainest means.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Nothing,
    Right(Method),
    Used(Method),
    Late(Method),
    Wrong(Method),
}

impl World {
    fn expected(&self, attempt: &Attempt) -> Expected {
        let code = attempt.code.as_str();
        match attempt.target {
            Target::Kind(Kind::Recovery) => self.expected_recovery(code),
            Target::Kind(Kind::Emergency) => self.expected_emergency(code),
            target => self.expected_otp(code, target),
        }
    }

    fn expected_otp(&self, code: &str, target: Target) -> Expected {
        let person = &self.person;
        let is_meant = |id, kind| match target {
            Target::AnyOtp | Target::Any => true,
            Target::Kind(meant) => meant == kind,
            Target::Factor(meant) => meant == id,
            Target::Challenge(_) => false,
        };
        let is_on = |id, kind| person.user.active_factor(id).is_some() && is_meant(id, kind);
        let (totp, hotp) = (is_on(person.totp, Kind::Totp), is_on(person.hotp, Kind::Hotp));
        if !totp && !hotp {
            return Expected::Nothing;
        }
        let now = person.now.seconds().unsigned_abs() / 30;
        let steps: Vec<u64> =
            (now - 1..=now + 1).filter(|step| totp && self.code_of(*step) == code).collect();
        let counter = self.counter();
        let counters = counter..=counter + 10;
        let is_ahead = hotp && counters.into_iter().any(|counter| person.hotp_code(counter) == code);
        let is_last = hotp && counter > 0 && person.hotp_code(counter - 1) == code;

        if steps.iter().any(|step| self.last_step().is_none_or(|last| *step > last)) || is_ahead {
            Expected::Right(Method::Token)
        } else if !steps.is_empty() || is_last {
            Expected::Used(Method::Token)
        } else {
            Expected::Wrong(Method::Token)
        }
    }

    fn expected_recovery(&self, code: &str) -> Expected {
        let Some(set) = &self.person.user.recovery else { return Expected::Nothing };
        let place = self.person.recovery.iter().position(|drawn| drawn.canonical() == code);
        match place.map(|place| set.codes[place].used_at) {
            Some(None) => Expected::Right(Method::Recovery),
            Some(Some(_)) => Expected::Used(Method::Recovery),
            None => Expected::Wrong(Method::Recovery),
        }
    }

    fn expected_emergency(&self, code: &str) -> Expected {
        let Some(issued) = &self.person.user.emergency else { return Expected::Nothing };
        if self.person.emergency.canonical() != code {
            return Expected::Wrong(Method::Recovery);
        }
        match issued.used_at {
            Some(_) => Expected::Used(Method::Recovery),
            None if self.person.now >= issued.expires_at => Expected::Late(Method::Recovery),
            None => Expected::Right(Method::Recovery),
        }
    }
}

/// What the failure counts should be: a plain account kept beside the document.
#[derive(Default)]
struct Account {
    failures: BTreeMap<Method, u32>,
    locked_until: BTreeMap<Method, Timestamp>,
    remembered: Vec<(RequestId, Timestamp, String)>,
}

impl Account {
    fn failures_of(&self, method: Method) -> u32 {
        self.failures.get(&method).copied().unwrap_or(0)
    }

    fn is_locked(&self, method: Method, now: Timestamp) -> bool {
        self.failures.values().sum::<u32>() >= 100
            || self.locked_until.get(&method).is_some_and(|until| now < *until)
    }

    fn clear(&mut self, method: Method) {
        self.failures.remove(&method);
        self.locked_until.remove(&method);
    }

    fn fail(&mut self, method: Method, now: Timestamp) -> &'static str {
        let failures = self.failures.entry(method).or_default();
        *failures += 1;
        if *failures < 5 {
            return "rejected";
        }
        let pause = (30 << (*failures - 5).min(10)).min(3600);
        self.locked_until.insert(method, now.after(Duration::from_secs(pause)));
        "locked"
    }

    /// Keeps account of an attempt; says what its verdict should be called.
    fn judge(&mut self, attempt: &Attempt, expected: &Expected, now: Timestamp) -> &'static str {
        let what = format!("{} {:?}", attempt.code.as_str(), attempt.target);
        if let Some(request) = &attempt.request {
            let is_fresh = |at: &Timestamp| now < at.after(Duration::from_secs(300));
            match self.remembered.iter().find(|(id, at, _)| id == request && is_fresh(at)) {
                Some((.., first)) if *first == what => return "the first answer",
                Some(_) => return "refused",
                None => {}
            }
            self.remembered.retain(|(_, at, _)| is_fresh(at));
            if self.remembered.len() == 8 {
                self.remembered.remove(0);
            }
            self.remembered.push((request.clone(), now, what));
        }
        match *expected {
            Expected::Nothing => "no_factor",
            Expected::Right(method)
            | Expected::Used(method)
            | Expected::Late(method)
            | Expected::Wrong(method)
                if self.is_locked(method, now) =>
            {
                "locked"
            }
            Expected::Right(method) => {
                self.clear(method);
                "accepted"
            }
            Expected::Used(_) => "replayed",
            Expected::Late(_) => "expired",
            Expected::Wrong(method) => self.fail(method, now),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_is_accepted_twice(steps in vec(attempts(false), 1..80)) {
        let mut world = World::new(Person::new());
        let mut accepted = BTreeSet::new();
        for step in steps {
            let (last_step, counter) = (world.last_step(), world.counter());
            let remaining = world.person.user.recovery.as_ref().map(RecoveryCodes::remaining);
            let mut moved = (false, false);
            match world.apply(&step) {
                Ok(Done::Judged(attempt, Verdict::Accepted { kind, .. })) => {
                    let code = attempt.code.as_str();
                    let proof = match kind {
                        Kind::Totp => {
                            let step = world.last_step().expect("burned");
                            prop_assert!(last_step.is_none_or(|last| step > last), "steps increase");
                            prop_assert_eq!(world.code_of(step), code);
                            moved.0 = true;
                            format!("step {step}")
                        }
                        Kind::Hotp => {
                            prop_assert!(world.counter() > counter, "counters increase");
                            prop_assert_eq!(world.person.hotp_code(world.counter() - 1), code);
                            moved.1 = true;
                            format!("counter {}", world.counter() - 1)
                        }
                        Kind::Recovery => {
                            let left = world.person.user.recovery.as_ref().map(|codes| codes.remaining() + 1);
                            prop_assert_eq!(left, remaining);
                            code.to_owned()
                        }
                        // A code that was sent is one of its challenge only.
                        Kind::Email | Kind::Sms | Kind::Voice | Kind::Emergency => code.to_owned(),
                    };
                    prop_assert!(accepted.insert(proof.clone()), "{proof} was accepted before");
                }
                Ok(Done::Resynchronised(Resync::Found)) => {
                    prop_assert!(world.counter() > counter + 1, "two counters are burned");
                    for burned in [world.counter() - 2, world.counter() - 1] {
                        prop_assert!(accepted.insert(format!("counter {burned}")), "counter {burned}");
                    }
                    moved.1 = true;
                }
                _ => {}
            }
            prop_assert!(moved.0 || world.last_step() == last_step);
            prop_assert!(moved.1 || world.counter() == counter);
        }
    }

    #[test]
    fn no_sequence_of_attempts_avoids_the_count(steps in vec(attempts(true), 1..120)) {
        let mut world = World::new(Person::new());
        let mut account = Account::default();
        for step in steps {
            let tried = match &step {
                Step::Try(tried) => Some(world.attempt(tried)),
                Step::Again(back) => world.attempts.iter().rev().nth(*back).cloned(),
                _ => None,
            };
            let now = world.person.now;
            let expected = tried.as_ref().map(|attempt| world.expected(attempt));
            let is_hotp_on = world.person.user.active_factor(world.person.hotp).is_some();
            let known: Vec<_> = world.person.user.requests.clone();
            let done = world.apply(&step);

            if let (Some(attempt), Some(expected)) = (tried, expected) {
                match (account.judge(&attempt, &expected, now), done) {
                    ("refused", done) => prop_assert_eq!(done.err(), Some(Refusal::RequestIdReused)),
                    ("the first answer", Ok(Done::Judged(..))) => prop_assert_eq!(&world.person.user.requests, &known),
                    (name, Ok(Done::Judged(_, verdict))) => prop_assert_eq!(verdict.name(), name),
                    (name, _) => prop_assert!(false, "not judged, but should be {name}"),
                }
            } else if let Step::Resynchronise { ahead, right } = step {
                if is_hotp_on && !account.is_locked(Method::Token, now) {
                    if right && ahead <= 100 {
                        account.clear(Method::Token);
                    } else if matches!(done, Ok(Done::Resynchronised(Resync::Rejected { .. }))) {
                        account.fail(Method::Token, now);
                    } else {
                        prop_assert!(false, "a pair that does not fit was found");
                    }
                }
            } else if let Step::Unlock(method) = step {
                account.clear(method);
            }
            for (method, failures) in world.failures() {
                prop_assert_eq!(failures, account.failures_of(method), "{}", method);
            }
        }
    }

    #[test]
    fn a_sent_code_is_good_once_while_it_is_the_newest_in_time_and_for_its_purpose(
        steps in vec(prop_oneof![2 => life(), 1 => codes_only()], 1..160),
    ) {
        let mut world = World::new(Person::new());
        let mut used = BTreeSet::new();
        for step in steps {
            let now = world.person.now;
            let done = world.apply(&step);
            let Ok(Done::Judged(attempt, Verdict::Accepted { factor: Some(factor), kind })) = done else { continue };
            if kind.channel().is_none() {
                continue;
            }
            let newest = world.sent.iter().rev().find(|(challenge, _)| challenge.factor == factor);
            let (challenge, code) = newest.expect("an accepted code was sent");
            prop_assert_eq!(code.as_str(), attempt.code.as_str());
            prop_assert_eq!(challenge.purpose, CodePurpose::Verification);
            prop_assert!(now < challenge.expires_at);
            prop_assert!(used.insert(challenge.delivery), "{} was accepted before", challenge.delivery);
        }
    }

    #[test]
    fn no_method_sends_more_than_the_rule_allows(steps in vec(prop_oneof![1 => life(), 3 => codes_only()], 1..160)) {
        let mut world = beginning();
        let mut sent: BTreeMap<Method, Vec<Timestamp>> = BTreeMap::new();
        for step in steps {
            // A clock that goes back begins a new account: what lies in the future is forgotten.
            if matches!(step, Step::Wait(seconds) if seconds < 0) {
                continue;
            }
            let before = world.sent.len();
            let _ = world.apply(&step);
            let Some((challenge, _)) = world.sent.get(before) else { continue };
            let kind = world.person.user.factor(challenge.factor).expect("factor").kind();
            let times = sent.entry(kind.method()).or_default();
            let recent = times.iter().filter(|at| at.until(challenge.sent_at) < Duration::from_secs(3600)).count();
            prop_assert!(recent < 5);
            let last = times.last().map(|at| at.until(challenge.sent_at));
            prop_assert!(last.is_none_or(|pause| pause >= Duration::from_secs(30)));
            times.push(challenge.sent_at);
        }
    }

    // Whoever stole it must not come before the one who reads the mail.
    #[test]
    fn a_password_alone_adds_no_factor_while_a_link_or_code_is_open(
        steps in vec(prop_oneof![3 => life(), 1 => links()], 1..160),
    ) {
        let mut world = beginning();
        for step in steps {
            let (user, now) = (&world.person.user, world.person.now);
            let known: BTreeSet<FactorId> = user.factors.iter().map(Factor::id).collect();
            let active: BTreeSet<FactorId> = user.active_factors().map(|held| held.id).collect();
            let is_open = user.open_enrolment_link(now);
            let by_password = matches!(
                step,
                Step::EnrolInLogin(_)
                    | Step::ActivateInLogin { .. }
                    | Step::Enrol(By::Themselves { second_factor: false })
                    | Step::EnrolSent(By::Themselves { second_factor: false })
                    | Step::Activate { by: By::Themselves { second_factor: false }, .. }
            );
            let _ = world.apply(&step);
            let user = &world.person.user;
            if is_open && by_password {
                prop_assert!(user.factors.iter().all(|factor| known.contains(&factor.id())), "{step:?}");
                prop_assert!(user.active_factors().all(|held| active.contains(&held.id)), "{step:?}");
            }
            let waits = user.enrolment.as_ref().is_none_or(|open| {
                user.factors.iter().any(|factor| factor.id() == open.factor && matches!(factor, Factor::Pending(_)))
            });
            prop_assert!(waits, "an enrolment without its factor after {step:?}");
        }
    }

    #[test]
    fn a_locked_method_accepts_nothing_and_counts_nothing(
        steps in vec(attempts(true), 0..30),
        recovery in any::<bool>(),
        until_unlocked in any::<bool>(),
        elapsed in 0..100_u64,
        earlier in 0..1000_i64,
    ) {
        let mut world = World::new(Person::new());
        world.run(&steps);
        world.run(&[0, 1].map(|place| Step::Switch { place, on: true }));
        // Codes nobody used.
        let (codes, emergency) = (world.draw_recovery_codes(), world.draw_emergency_code());
        let person = &mut world.person;
        person.user.recovery = Some(codes);
        person.user.emergency = Some(emergency);
        if until_unlocked {
            person.policy.locks.mode = LockMode::UntilUnlocked;
        }
        let method = if recovery { Method::Recovery } else { Method::Token };
        // A lock of the random steps may run out; this one is set now.
        person.user.locks.clear(method);
        person.lock(if recovery { Target::Kind(Kind::Recovery) } else { Target::AnyOtp });
        let pause = match person.user.locks.is_locked(method, person.now) {
            Some(Until::Time(until)) => person.now.until(until).as_secs(),
            other => {
                prop_assert_eq!(other, Some(Until::Unlocked));
                1_000_000
            }
        };
        let moment = if earlier % 4 == 0 { -earlier } else { (pause * elapsed / 100).cast_signed() };
        world.run(&[Step::Wait(moment)]);

        let right: Vec<Try> = if recovery {
            let codes = (0..10).map(|place| (Typed::Recovery(place), Aim::Kind(Kind::Recovery)));
            codes.chain([(Typed::Emergency, Aim::Kind(Kind::Emergency))]).map(unasked).collect()
        } else {
            let counters = (0..=10).map(|ahead| (Typed::Hotp(ahead), Aim::Hotp));
            let steps = (-1..=1).map(|step| (Typed::Totp(step), Aim::AnyOtp));
            counters.chain(steps).map(unasked).collect()
        };
        let mut right_ones = 0;
        for tried in right {
            let attempt = world.attempt(&tried);
            let mut open = world.person.user.clone();
            open.unlock(&Method::ALL, &world.person.client()).expect("unlock");
            let (policy, call) = (&world.person.policy, world.person.client());
            right_ones += usize::from(open.verify(&attempt, policy, &OpenKeyring, &call).expect("twin").is_accepted());
            let before = without_trail(&world.person.user);

            let Ok(Done::Judged(_, verdict)) = world.judge(attempt) else { panic!("not judged") };

            let is_refused = matches!(verdict, Verdict::Locked { method: locked, .. } if locked == method);
            prop_assert!(is_refused, "{verdict:?}");
            prop_assert_eq!(without_trail(&world.person.user), before);
        }
        prop_assert!(right_ones > 9, "only {} of the codes were right", right_ones);
    }

    #[test]
    fn unlocking_some_methods_leaves_the_others_as_they_were(
        steps in vec(attempts(true), 0..60),
        methods in vec(any_method(), 0..4),
    ) {
        let mut world = World::new(Person::new());
        world.run(&steps);
        let before = without_trail(&world.person.user);
        let call = world.person.client();

        let unlocked = world.person.user.unlock(&methods, &call).expect("unlock");

        for method in Method::ALL {
            let left = world.person.user.locks.of(method);
            let expected = if methods.contains(&method) { Lock::default() } else { before.locks.of(method) };
            prop_assert_eq!(left, expected, "{}", method);
            prop_assert_eq!(unlocked.contains(&method), left != before.locks.of(method));
        }
        let mut after = without_trail(&world.person.user);
        after.locks.clone_from(&before.locks);
        prop_assert_eq!(after, before);
    }

    #[test]
    fn a_request_id_gets_its_first_answer_again_for_five_minutes_and_seven_others(
        steps in vec(attempts(false), 0..30),
        tried in any_try(false),
        seconds in 0..300_i64,
        others in 0..8_usize,
    ) {
        let mut world = World::new(Person::new());
        world.run(&steps);
        let attempt = with_request(world.attempt(&tried), "mine");
        let Ok(Done::Judged(_, first)) = world.judge(attempt.clone()) else { panic!("not judged") };
        for other in 0..others {
            let number = u8::try_from(other).expect("few");
            world.run(&[Step::Try(Try { request: Some(number), ..unasked((Typed::Guess(7), Aim::AnyOtp)) })]);
        }
        world.run(&[Step::Wait(seconds)]);
        let before = world.person.user.clone();

        let Ok(Done::Judged(_, again)) = world.judge(attempt.clone()) else { panic!("not judged") };
        let call = world.person.client();
        let person = &mut world.person;
        let mut refused = |attempt: &Attempt, call: &Call| {
            person.user.verify(attempt, &person.policy, &OpenKeyring, call)
        };
        let another_code = Attempt { code: typed("another"), ..attempt.clone() };
        let another_target = Attempt { target: Target::Factor(FactorId::from_uuid(Uuid::nil())), ..attempt.clone() };
        let another_caller = Call { now: call.now, ..Person::new().staff(Role::Admin) };

        prop_assert_eq!(again, first);
        prop_assert_eq!(refused(&another_code, &call), Err(Refusal::RequestIdReused));
        prop_assert_eq!(refused(&another_target, &call), Err(Refusal::RequestIdReused));
        prop_assert_eq!(refused(&attempt, &another_caller), Err(Refusal::RequestIdReused));
        prop_assert_eq!(&world.person.user, &before);
    }

    #[test]
    fn a_request_id_is_forgotten_after_five_minutes_or_eight_others(
        steps in vec(attempts(false), 0..30),
        tried in any_try(false),
        by_time in any::<bool>(),
    ) {
        let mut world = World::new(Person::new());
        world.run(&steps);
        let attempt = with_request(world.attempt(&tried), "mine");
        world.judge(attempt.clone()).map(drop).expect("judged");
        if by_time {
            world.run(&[Step::Wait(300)]);
        } else {
            for number in 0..8 {
                world.run(&[Step::Try(Try { request: Some(number), ..unasked((Typed::Guess(7), Aim::AnyOtp)) })]);
            }
        }
        world.person.user.take_records();

        world.judge(attempt).map(drop).expect("judged anew");

        prop_assert!(!world.person.user.is_unchanged());
    }

    #[test]
    fn an_account_fails_a_hundred_times_and_no_more(
        threshold in 3..=100_u32,
        longest in 30..86_400_u64,
        turns in vec(any::<bool>(), 1..40),
        unlocked in any::<bool>(),
    ) {
        let mut world = World::new(Person::new());
        world.person.policy.locks.threshold = threshold;
        world.person.policy.locks.longest_pause_seconds = longest;
        let methods = [(Method::Token, Target::Factor(world.person.hotp)), (Method::Recovery, Target::Kind(Kind::Recovery))];
        for turn in turns.iter().cycle().take(300) {
            let (method, target) = methods[usize::from(*turn)];
            let person = &mut world.person;
            let before = person.user.locks.failures();
            if let Some(Until::Time(until)) = person.user.locks.is_locked(method, person.now) {
                person.now = until;
            }
            let verdict = person.verify("nothing", target);
            if before >= ACCOUNT_FAILURE_LIMIT {
                prop_assert_eq!(verdict, Verdict::Locked { method, until: Until::Unlocked });
            }
            prop_assert_eq!(person.user.locks.failures(), (before + 1).min(ACCOUNT_FAILURE_LIMIT));
        }
        world.run(&[Step::Wait(1_000_000_000)]);
        let codes = [world.person.hotp_code(world.counter()), world.person.recovery[0].canonical().to_owned()];
        for ((method, target), code) in methods.into_iter().zip(&codes) {
            prop_assert_eq!(world.person.verify(code, target), Verdict::Locked { method, until: Until::Unlocked });
        }

        let used = usize::from(world.person.user.locks.of(methods[usize::from(unlocked)].0).failures == 0);
        let (method, target) = methods[usize::from(unlocked) ^ used];
        world.run(&[Step::Unlock(method)]);
        prop_assert!(world.person.verify(&codes[usize::from(unlocked) ^ used], target).is_accepted());
    }
}

fn unasked((typed, aim): (Typed, Aim)) -> Try {
    Try { typed, aim, request: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_document_stays_bounded(steps in vec(life(), 300..600)) {
        let mut world = beginning();
        for step in steps {
            let _ = world.apply(&step);
            let user = &world.person.user;
            let pending = user.factors.iter().filter(|factor| matches!(factor, Factor::Pending(_))).count();
            prop_assert!(user.factors.len() <= FACTOR_LIMIT && pending <= PENDING_LIMIT);
            prop_assert!(user.logins.len() <= LOGIN_LIMIT && user.sessions.len() <= SESSION_LIMIT);
            prop_assert!(user.requests.len() <= REMEMBERED_REQUESTS && user.challenges.len() <= FACTOR_LIMIT);
            let length = user.to_json().len();
            prop_assert!(length < DOCUMENT_LIMIT, "{length} bytes");
            world.person.user.take_records();
        }
    }

    #[test]
    fn a_document_reads_back_as_it_was_written(steps in vec(life(), 1..200)) {
        let mut world = beginning();
        for chunk in steps.chunks(10) {
            world.run(chunk);
            prop_assert_eq!(&User::from_json(&world.person.user.to_json()).expect("readable"), &world.person.user);
        }
    }

    #[test]
    fn the_events_are_one_chain_that_ends_in_the_document(steps in vec(life(), 1..200)) {
        let mut world = beginning();
        let mut head = ChainHead::default();
        for step in steps {
            let before = without_trail(&world.person.user);
            let _ = world.apply(&step);
            let records = world.person.user.take_records();
            // Whatever changes a document is an event, else it would not be committed.
            prop_assert!(!records.is_empty() || without_trail(&world.person.user) == before);
            for record in records {
                let event: Event = serde_json::from_slice(&record.body).expect("event");
                prop_assert_eq!(event.seq, head.seq + 1);
                prop_assert_eq!((event.action, event.at), (record.action, record.at));
                head = head.next(&record.body);
                prop_assert_eq!(record.head, head);
            }
            prop_assert_eq!(world.person.user.audit_head, head);
        }
    }
}

/// Fills every collection of a document to its limit.
fn fullest(name: &str) -> World {
    let mut world = beginning();
    world.person.policy.recovery_codes = 20;
    world.person.user.mfa_enabled = false;
    for number in 0..SESSION_LIMIT as u128 {
        world.person.open_session(number);
    }
    world.person.user.mfa_enabled = true;
    for number in 0..LOGIN_LIMIT as u128 {
        world.person.open_login(number);
    }
    let steps =
        [Step::ReplaceCodes(By::Client), Step::IssueEmergencyCode(By::Client), Step::Invite(By::Client)];
    world.run(&steps);
    world.run(&vec![Step::Enrol(By::Client); PENDING_LIMIT]);
    world.run(&vec![Step::Import(By::Client); FACTOR_LIMIT]);
    for number in 0..REMEMBERED_REQUESTS {
        let id = format!("{number:0>64}");
        let tried =
            with_request(attempt("nothing", [Target::AnyOtp, Target::Kind(Kind::Recovery)][number % 2]), &id);
        world.judge(tried).map(drop).expect("judged");
    }
    for factor in &mut world.person.user.factors {
        factor.rename(label(name));
    }
    world
}

#[test]
fn the_fullest_document_is_small_and_so_is_one_with_the_longest_labels() {
    for (name, limit) in
        [("work phone", DOCUMENT_LIMIT), ("🔑".repeat(NAME_LIMIT).as_str(), 2 * DOCUMENT_LIMIT)]
    {
        let mut world = fullest(name);
        world.person.user.take_records();
        let user = &world.person.user;

        let counts = (user.factors.len(), user.sessions.len(), user.logins.len(), user.requests.len());
        assert_eq!(counts, (FACTOR_LIMIT, SESSION_LIMIT, LOGIN_LIMIT, REMEMBERED_REQUESTS));
        let length = user.to_json().len();
        assert!((limit / 2..limit).contains(&length), "{length} bytes");
        assert_eq!(User::from_json(&user.to_json()).as_ref(), Ok(user));
    }
}
