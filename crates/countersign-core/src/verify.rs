//! Checking a code: the rule everything else exists for.
//!
//! A wrong code is an outcome, not an error, so that its count and its event are always committed. What cannot be
//! decided (a key is missing, a request id was misused) is an error and counts nothing, because nothing was tried.

use crate::{
    attempt::{Attempt, Code, Target},
    challenge::Answer,
    enrolment::check,
    event::{Action, Actor, Call, Note},
    factor::{Active, Held, Kind, Pending, otp::Check, recovery::Found},
    id::{ChallengeId, FactorId, LoginId},
    keyring::{Binding, KeyError, Keyring, Purpose, Tag},
    lock::{Method, Until},
    message::Notice,
    policy::Policy,
    refusal::Refusal,
    time::Timestamp,
    user::{Status, User},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// How many attempts with a request id are remembered.
pub const REMEMBERED_REQUESTS: usize = 8;
/// How long an attempt with a request id is remembered.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(300);

/// What an attempt led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It proved possession.
    Accepted {
        /// The factor that was proved; a recovery or emergency code is none.
        factor: Option<FactorId>,
        /// Its kind, which also says the authentication method references.
        kind: Kind,
    },
    /// It did not.
    Rejected {
        /// Why.
        reason: Reason,
        /// Failures that remain before the method locks.
        attempts_left: u32,
    },
    /// The method is locked, or this failure locked it.
    Locked {
        /// The method.
        method: Method,
        /// Until when.
        until: Until,
    },
    /// The code was right but used before.
    Replayed,
    /// The code was right but too late.
    Expired,
    /// There is nothing to try the code against.
    NoFactor,
}

/// Why an attempt was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The code is not the right one.
    WrongCode,
    /// The person is disabled.
    UserDisabled,
}

impl Reason {
    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongCode => "wrong_code",
            Self::UserDisabled => "user_disabled",
        }
    }
}

impl Verdict {
    /// Returns the name used outside.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Rejected { .. } => "rejected",
            Self::Locked { .. } => "locked",
            Self::Replayed => "replayed",
            Self::Expired => "expired",
            Self::NoFactor => "no_factor",
        }
    }

    /// Tells whether possession was proved.
    pub const fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }
}

/// An attempt that had a request id: its retry gets the same answer, neither a second use nor a second failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedRequest {
    request: String,
    /// The keyed hash of caller, target and code: the id with another attempt gets no answer.
    fingerprint: Tag,
    verdict: Verdict,
    at: Timestamp,
}

/// What comparing a code with everything it may be found.
enum Match {
    Otp { factor: FactorId, kind: Kind, moving_factor: u64 },
    Sent { challenge: ChallengeId, factor: FactorId, kind: Kind },
    Recovery { place: usize },
    Emergency,
    Used(Kind),
    Expired(Kind),
    Wrong,
}

impl User {
    /// Checks an attempt, uses up what it proves, counts what it fails.
    pub fn verify(
        &mut self,
        attempt: &Attempt,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Verdict, Refusal> {
        self.verify_for(None, attempt, policy, keys, call)
    }

    /// Like [`User::verify`], for a login: an answer remembered elsewhere finishes none, its code is used up.
    pub(crate) fn verify_for(
        &mut self,
        login: Option<LoginId>,
        attempt: &Attempt,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Verdict, Refusal> {
        let Some(request) = &attempt.request else { return self.judge(login, attempt, policy, keys, call) };

        let message = fingerprint(login, attempt, call);
        let binding = Binding::of_user(Purpose::RequestFingerprint, self.organisation, self.id, Uuid::nil());
        if let Some(first) = self.remembered(request.as_str(), call.now) {
            return if keys.matches(&binding, &first.fingerprint, &message)? {
                Ok(first.verdict.clone())
            } else {
                Err(Refusal::RequestIdReused)
            };
        }
        let fingerprint = keys.tag(&binding, None, &message)?;
        let verdict = self.judge(login, attempt, policy, keys, call)?;
        let request = request.as_str().to_owned();
        self.remember(RememberedRequest { request, fingerprint, verdict: verdict.clone(), at: call.now });
        Ok(verdict)
    }

    fn judge(
        &mut self,
        login: Option<LoginId>,
        attempt: &Attempt,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Verdict, Refusal> {
        if self.status == Status::Disabled {
            return Ok(self.reject_disabled(call));
        }
        let target = self.narrowed(login, attempt, policy, call);
        let Some((method, kind)) = self.method_of(login, target, policy, call.now) else {
            if let Target::Challenge(_) = target {
                // A newer code ended it, or its factor is gone.
                self.record(call, Note::new(Action::VerifyRejected).reason("expired"));
                return Ok(Verdict::Expired);
            }
            self.record(call, Note::new(Action::VerifyRejected).reason("no_factor"));
            return Ok(Verdict::NoFactor);
        };
        if let Some(until) = self.locks.is_locked(method, call.now) {
            self.record(call, Note::new(Action::VerifyRejected).method(method).reason("locked"));
            return Ok(Verdict::Locked { method, until });
        }
        Ok(match self.find(login, attempt, target, policy, keys, call)? {
            Match::Otp { factor, kind, moving_factor } => {
                self.put_proved_in_use(factor, call);
                self.burn_factor(factor, moving_factor, call);
                self.accept(Some(factor), kind, call)
            }
            Match::Sent { challenge, factor, kind } => {
                self.burn_challenge(challenge, call);
                self.note_use(factor, call);
                self.accept(Some(factor), kind, call)
            }
            Match::Recovery { place } => {
                if let Some(codes) = &mut self.recovery {
                    codes.burn(place, call.now);
                }
                self.accept_scratch(login, Kind::Recovery, call)
            }
            Match::Emergency => {
                if let Some(code) = &mut self.emergency {
                    code.used_at = Some(call.now);
                }
                self.accept_scratch(login, Kind::Emergency, call)
            }
            Match::Used(kind) => {
                self.record(call, Note::new(Action::VerifyRejected).kind(kind).reason("replayed"));
                Verdict::Replayed
            }
            Match::Expired(kind) => {
                self.record(call, Note::new(Action::VerifyRejected).kind(kind).reason("expired"));
                Verdict::Expired
            }
            Match::Wrong => {
                self.count_tries(attempt.target);
                self.reject_wrong(method, kind, policy, call)
            }
        })
    }

    /// Narrows "any" down to what is there, looks like the code and is not locked.
    ///
    /// So a lock on one method leaves the other open, and a mistyped one-time password costs no try at the recovery
    /// codes. Where both are left, a failure counts under the one-time passwords: they are fewer, so who guesses
    /// guesses at those.
    fn narrowed(&self, login: Option<LoginId>, attempt: &Attempt, policy: &Policy, call: &Call) -> Target {
        if attempt.target != Target::Any {
            return attempt.target;
        }
        let recovery = self.recovery.as_ref().filter(|_| policy.allows(Kind::Recovery));
        let has_otp = self.method_of(login, Target::AnyOtp, policy, call.now).is_some();
        let is_locked = |method| self.locks.is_locked(method, call.now).is_some();
        match recovery {
            Some(_) if !has_otp => Target::Kind(Kind::Recovery),
            Some(codes) if !codes.resemble(&attempt.code) => Target::AnyOtp,
            Some(_) if is_locked(Method::Token) => Target::Kind(Kind::Recovery),
            Some(_) if !is_locked(Method::Recovery) => Target::Any,
            _ => Target::AnyOtp,
        }
    }

    /// Returns the salt a typed code is to be stretched with before this attempt, if its slow hash decides anything.
    pub fn salt_for(&self, attempt: &Attempt, now: Timestamp) -> Option<Uuid> {
        let codes = self.recovery.as_ref().filter(|_| attempt.target.covers_recovery())?;
        let is_locked = self.locks.is_locked(Method::Recovery, now).is_some();
        codes.salt_for(&attempt.code).filter(|_| !is_locked)
    }

    /// Returns the method an attempt counts under and its kind if that is known, or `None` if there is nothing to try.
    fn method_of(
        &self,
        login: Option<LoginId>,
        target: Target,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<(Method, Option<Kind>)> {
        let behind_link = || self.key_behind_link(login, target, policy, now).map(|_| counted(Kind::Totp));
        self.method_in_use(target, policy).or_else(behind_link)
    }

    fn method_in_use(&self, target: Target, policy: &Policy) -> Option<(Method, Option<Kind>)> {
        let usable = |held: &&Held<Active>| policy.allows(held.proof.kind());
        match target {
            Target::AnyOtp | Target::Any => {
                let is_otp = |held: &&Held<Active>| held.proof.kind().method() == Method::Token;
                self.active_factors().filter(is_otp).find(usable).map(|_| (Method::Token, None))
            }
            Target::Challenge(id) => {
                let factor = self.find_challenge(id).ok()?.factor;
                self.active_factor(factor).filter(usable).map(|held| held.proof.kind()).map(counted)
            }
            Target::Factor(id) => {
                self.active_factor(id).filter(usable).map(|held| held.proof.kind()).map(counted)
            }
            Target::Kind(kind) if !policy.allows(kind) => None,
            Target::Kind(Kind::Recovery) => self.recovery.as_ref().map(|_| counted(Kind::Recovery)),
            Target::Kind(Kind::Emergency) => self.emergency.as_ref().map(|_| counted(Kind::Emergency)),
            Target::Kind(kind) => {
                self.active_factors().find(|held| held.proof.kind() == kind).map(|_| counted(kind))
            }
        }
    }

    fn find(
        &self,
        login: Option<LoginId>,
        attempt: &Attempt,
        target: Target,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Match, Refusal> {
        match target {
            Target::Kind(Kind::Recovery) => self.find_recovery(attempt, keys),
            Target::Kind(Kind::Emergency) => Ok(self.find_emergency(&attempt.code, keys, call)?),
            target => match self.find_otp(&attempt.code, target, policy, keys, call)? {
                Match::Wrong => {
                    match self.find_behind_link(login, &attempt.code, target, policy, keys, call)? {
                        Match::Wrong if target == Target::Any => self.find_recovery(attempt, keys),
                        Match::Wrong => Ok(self.find_challenged(login, attempt, keys, call)?),
                        found => Ok(found),
                    }
                }
                found => Ok(found),
            },
        }
    }

    /// Tries a code against every OTP factor the target covers. A fresh match wins over a replay at another factor.
    fn find_otp(
        &self,
        code: &Code,
        target: Target,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Match, KeyError> {
        let mut best = Match::Wrong;
        for held in self.active_factors() {
            let kind = held.proof.kind();
            let is_meant = match target {
                Target::AnyOtp | Target::Any => true,
                Target::Kind(meant) => meant == kind,
                Target::Factor(id) => id == held.id,
                Target::Challenge(_) => false,
            };
            let Some(sealed) = held.proof.secret() else { continue };
            if !is_meant || !policy.allows(kind) {
                continue;
            }
            let secret = self.open_secret(held.id, sealed, keys)?;
            match check(&held.proof, &secret, code, policy, call) {
                Check::Fresh(moving_factor) => {
                    return Ok(Match::Otp { factor: held.id, kind, moving_factor });
                }
                Check::Used => best = Match::Used(kind),
                Check::Wrong => {}
            }
        }
        Ok(best)
    }

    /// Tries a code against the key behind an open link.
    fn find_behind_link(
        &self,
        login: Option<LoginId>,
        code: &Code,
        target: Target,
        policy: &Policy,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Match, KeyError> {
        let held = self.key_behind_link(login, target, policy, call.now);
        let Some((held, sealed)) = held.and_then(|held| Some((held, held.proof.secret()?))) else {
            return Ok(Match::Wrong);
        };
        let secret = self.open_secret(held.id, sealed, keys)?;
        Ok(match check(&held.proof, &secret, code, policy, call) {
            Check::Fresh(moving_factor) => {
                Match::Otp { factor: held.id, kind: held.proof.kind(), moving_factor }
            }
            Check::Used | Check::Wrong => Match::Wrong,
        })
    }

    /// Returns the factor behind an open link if a target covers it. It finishes a sign-in and proves nothing else.
    fn key_behind_link(
        &self,
        login: Option<LoginId>,
        target: Target,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<&Held<Pending>> {
        login?;
        let held = self.factor_behind_link(self.enrolment.as_ref()?.factor, policy, now)?;
        let is_meant = match target {
            Target::AnyOtp | Target::Any => true,
            Target::Kind(kind) => kind == held.proof.kind(),
            Target::Factor(id) => id == held.id,
            Target::Challenge(_) => false,
        };
        is_meant.then_some(held)
    }

    fn find_challenged(
        &self,
        login: Option<LoginId>,
        attempt: &Attempt,
        keys: &impl Keyring,
        call: &Call,
    ) -> Result<Match, KeyError> {
        let (answer, challenge) = self.find_sent(&attempt.code, attempt.target, login, keys, call)?;
        let Some(challenge) = challenge else { return Ok(Match::Wrong) };
        // A challenge of a factor that waits for its first code is answered by activating that.
        let Some(kind) = self.active_factor(challenge.factor).map(|held| held.proof.kind()) else {
            return Ok(Match::Wrong);
        };
        Ok(match answer {
            Answer::Fresh => Match::Sent { challenge: challenge.id, factor: challenge.factor, kind },
            Answer::Used => Match::Used(kind),
            Answer::Expired => Match::Expired(kind),
            Answer::Wrong => Match::Wrong,
        })
    }

    fn find_recovery(&self, attempt: &Attempt, keys: &impl Keyring) -> Result<Match, Refusal> {
        let Some(codes) = &self.recovery else { return Ok(Match::Wrong) };
        let stretched = attempt.stretched.as_ref();
        let found = codes.find(&attempt.code, stretched, self.organisation, self.id, keys)?;
        Ok(matched(found, Kind::Recovery, |place| Match::Recovery { place }))
    }

    fn find_emergency(&self, code: &Code, keys: &impl Keyring, call: &Call) -> Result<Match, KeyError> {
        let Some(emergency) = &self.emergency else { return Ok(Match::Wrong) };
        let found = emergency.find(code, self.organisation, self.id, keys, call.now)?;
        Ok(matched(found, Kind::Emergency, |_| Match::Emergency))
    }

    fn accept(&mut self, factor: Option<FactorId>, kind: Kind, call: &Call) -> Verdict {
        self.locks.clear(kind.method());
        let note = Note::new(Action::VerifyAccepted).kind(kind);
        self.record(call, factor.into_iter().fold(note, Note::factor));
        Verdict::Accepted { factor, kind }
    }

    /// Accepts a code that stands in for a factor. Finishing a sign-in with it is told by the sign-in.
    fn accept_scratch(&mut self, login: Option<LoginId>, kind: Kind, call: &Call) -> Verdict {
        let verdict = self.accept(None, kind, call);
        if login.is_none() {
            self.notify(Notice::RecoveryCodeUsed, Some(kind.name()), &[], call);
        }
        verdict
    }

    /// Counts a wrong code; says what its caller is told.
    pub(crate) fn reject_wrong(
        &mut self,
        method: Method,
        kind: Option<Kind>,
        policy: &Policy,
        call: &Call,
    ) -> Verdict {
        match self.count_failure(method, kind, policy, call) {
            Some(until) => Verdict::Locked { method, until },
            None => Verdict::Rejected {
                reason: Reason::WrongCode,
                attempts_left: self.locks.of(method).attempts_left(&policy.locks),
            },
        }
    }

    fn reject_disabled(&mut self, call: &Call) -> Verdict {
        let reason = Reason::UserDisabled;
        self.record(call, Note::new(Action::VerifyRejected).reason(reason.name()));
        Verdict::Rejected { reason, attempts_left: 0 }
    }

    /// Counts a wrong code; returns until when the method is locked if that locked it.
    pub(crate) fn count_failure(
        &mut self,
        method: Method,
        kind: Option<Kind>,
        policy: &Policy,
        call: &Call,
    ) -> Option<Until> {
        let until = self.locks.fail(method, &policy.locks, call.now);
        let note = Note::new(Action::VerifyRejected).method(method).reason(Reason::WrongCode.name());
        self.record(call, kind.into_iter().fold(note, Note::kind));
        if let Some(until) = until {
            let shown = match until {
                Until::Time(at) => at.to_string(),
                Until::Unlocked => "unlocked".into(),
            };
            self.record(call, Note::new(Action::MethodLocked).method(method).detail("until", shown));
            self.notify(Notice::MethodLocked, Some(method.name()), &[], call);
        }
        until
    }

    fn remembered(&self, request: &str, now: Timestamp) -> Option<&RememberedRequest> {
        self.requests.iter().find(|remembered| remembered.request == request && remembered.is_fresh(now))
    }

    fn remember(&mut self, request: RememberedRequest) {
        let now = request.at;
        self.requests.retain(|remembered| remembered.is_fresh(now));
        if self.requests.len() >= REMEMBERED_REQUESTS {
            self.requests.remove(0);
        }
        self.requests.push(request);
    }
}

impl RememberedRequest {
    fn is_fresh(&self, now: Timestamp) -> bool {
        now < self.at.after(REMEMBERED_FOR)
    }
}

fn counted(kind: Kind) -> (Method, Option<Kind>) {
    (kind.method(), Some(kind))
}

fn matched(found: Found, kind: Kind, fresh: impl FnOnce(usize) -> Match) -> Match {
    match found {
        Found::Fresh(place) => fresh(place),
        Found::Used => Match::Used(kind),
        Found::Expired => Match::Expired(kind),
        Found::Wrong => Match::Wrong,
    }
}

/// Everything that makes an attempt the same attempt: for which login, who asks, what it is tried against, what was
/// typed.
fn fingerprint(login: Option<LoginId>, attempt: &Attempt, call: &Call) -> Vec<u8> {
    let actor = match call.actor {
        Actor::User(id) => id.uuid(),
        Actor::Client(id) => id.uuid(),
        Actor::System | Actor::Anonymous => Uuid::nil(),
    };
    let (shape, target) = match attempt.target {
        Target::AnyOtp => (0, Uuid::nil()),
        Target::Kind(kind) => (1 + kind as u8, Uuid::nil()),
        Target::Factor(id) => (u8::MAX, id.uuid()),
        Target::Challenge(id) => (u8::MAX - 1, id.uuid()),
        Target::Any => (u8::MAX - 2, Uuid::nil()),
    };
    let mut message = Vec::with_capacity(113);
    message.extend_from_slice(login.map_or_else(Uuid::nil, LoginId::uuid).as_bytes());
    message.extend_from_slice(actor.as_bytes());
    message.push(shape);
    message.extend_from_slice(target.as_bytes());
    message.extend_from_slice(attempt.code.as_str().as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attempt::RequestId,
        factor::FACTOR_LIMIT,
        testing::{OpenKeyring, Person, WRONG, attempt, newcomer, with_request},
    };

    fn totp(person: &Person) -> Target {
        Target::Factor(person.totp)
    }

    fn wrong(attempts_left: u32) -> Verdict {
        Verdict::Rejected { reason: Reason::WrongCode, attempts_left }
    }

    #[test]
    fn a_code_works_once() {
        let mut person = Person::new();
        let code = person.totp_code(0);

        let first = person.verify(&code, Target::AnyOtp);
        let again = person.verify(&code, Target::AnyOtp);

        assert_eq!(first, Verdict::Accepted { factor: Some(person.totp), kind: Kind::Totp });
        assert_eq!(again, Verdict::Replayed);
        assert_eq!(person.happened(), ["verify.accepted", "verify.rejected: replayed"]);
    }

    #[test]
    fn a_replayed_code_is_no_guess_and_is_not_counted() {
        let mut person = Person::new();
        let code = person.totp_code(0);
        person.verify(&code, Target::AnyOtp);

        for _ in 0..10 {
            assert_eq!(person.verify(&code, Target::AnyOtp), Verdict::Replayed);
        }

        assert_eq!(person.user.locks.failures(), 0);
    }

    #[test]
    fn the_fifth_wrong_code_locks_and_then_a_right_one_is_refused() {
        let mut person = Person::new();
        let verdicts: Vec<Verdict> = (0..5).map(|_| person.fail(Target::AnyOtp)).collect();
        let until = Until::Time(person.now.after(Duration::from_secs(30)));
        let locked = Verdict::Locked { method: Method::Token, until };

        assert_eq!(verdicts, [wrong(4), wrong(3), wrong(2), wrong(1), locked.clone()]);
        assert_eq!(person.verify(&person.totp_code(0), Target::AnyOtp), locked);
        assert_eq!(person.user.locks.failures(), 5);
        person.wait(30);
        assert!(person.verify(&person.totp_code(0), Target::AnyOtp).is_accepted());
        assert_eq!(person.user.locks.failures(), 0);
    }

    #[test]
    fn methods_lock_apart() {
        let mut person = Person::new();
        let recovery = person.recovery[0].canonical().to_owned();

        person.lock(Target::AnyOtp);

        assert!(person.verify(&recovery, Target::Kind(Kind::Recovery)).is_accepted());
        assert!(matches!(person.fail(totp(&person)), Verdict::Locked { method: Method::Token, .. }));
    }

    #[test]
    fn a_success_clears_its_own_method_only() {
        let mut person = Person::new();
        person.fail(Target::AnyOtp);
        person.fail(Target::Kind(Kind::Recovery));

        assert!(person.verify(&person.totp_code(0), Target::AnyOtp).is_accepted());

        assert_eq!(person.user.locks.of(Method::Token).failures, 0);
        assert_eq!(person.user.locks.of(Method::Recovery).failures, 1);
    }

    #[test]
    fn a_code_tried_against_every_factor_counts_as_one_attempt() {
        let mut person = Person::new();
        let call = Call::system(person.now);
        while person.user.factors.len() < FACTOR_LIMIT {
            let (id, label, proof) = person.new_totp(person.user.factors.len() as u128);
            person.user.import(id, label, proof, &person.policy, &call).expect("import");
        }
        person.happened();

        assert_eq!(person.fail(Target::AnyOtp), wrong(4));

        assert_eq!(person.user.locks.failures(), 1);
        assert_eq!(person.happened(), ["verify.rejected: wrong_code"]);
    }

    #[test]
    fn a_fresh_match_at_one_factor_wins_over_a_replay_at_another() {
        let mut person = Person::new();
        let (id, label, proof) = person.new_totp(1);
        person.user.import(id, label, proof, &person.policy, &Call::system(person.now)).expect("import");
        let code = person.totp_code(0);
        assert!(person.verify(&code, totp(&person)).is_accepted());

        let any = person.verify(&code, Target::AnyOtp);

        assert_eq!(any, Verdict::Accepted { factor: Some(id), kind: Kind::Totp });
        assert_eq!(person.verify(&code, Target::AnyOtp), Verdict::Replayed);
    }

    #[test]
    fn without_a_factor_there_is_nothing_to_try() {
        let mut person = newcomer();
        let kinds = Kind::ALL.map(Target::Kind);

        for target in kinds.into_iter().chain([Target::AnyOtp, totp(&person)]) {
            assert_eq!(person.fail(target), Verdict::NoFactor, "{target:?}");
        }

        assert_eq!(person.user.locks.failures(), 0);
        assert_eq!(person.happened()[1..], ["verify.rejected: no_factor"; 9]);
    }

    #[test]
    fn recovery_and_emergency_codes_pass_only_where_they_are_asked_for() {
        let mut person = Person::new();
        let recovery = person.recovery[0].canonical().to_owned();
        let emergency = person.emergency.canonical().to_owned();

        for target in [Target::AnyOtp, totp(&person)] {
            assert!(matches!(person.verify(&recovery, target), Verdict::Rejected { .. }));
            assert!(matches!(person.verify(&emergency, target), Verdict::Rejected { .. }));
        }
        assert_eq!(person.verify(&emergency, Target::Kind(Kind::Recovery)), wrong(4));
        assert_eq!(person.verify(&recovery, Target::Kind(Kind::Emergency)), wrong(3));
    }

    #[test]
    fn any_takes_one_time_passwords_and_recovery_codes() {
        let mut person = Person::new();
        let recovery = person.recovery[0].canonical().to_owned();

        let otp = person.verify(&person.totp_code(0), Target::Any);
        let saved = person.verify(&recovery, Target::Any);

        assert_eq!(otp, Verdict::Accepted { factor: Some(person.totp), kind: Kind::Totp });
        assert_eq!(saved, Verdict::Accepted { factor: None, kind: Kind::Recovery });
        assert_eq!(person.verify(&recovery, Target::Any), Verdict::Replayed);
        assert!(matches!(
            person.verify(person.emergency.canonical().to_owned().as_str(), Target::Any),
            Verdict::Rejected { .. }
        ));
    }

    #[test]
    fn a_wrong_code_for_any_counts_once_under_the_one_time_passwords() {
        let mut person = Person::new();

        assert_eq!(person.fail(Target::Any), wrong(4));
        assert_eq!(person.verify("0000-0000-0000-0000", Target::Any), wrong(3));

        assert_eq!(person.user.locks.of(Method::Token).failures, 2);
        assert_eq!(person.user.locks.failures(), 2);
        let mut without_app = Person::new();
        without_app.user.factors.clear();
        assert_eq!(without_app.fail(Target::Any), wrong(4));
        assert_eq!(without_app.user.locks.of(Method::Recovery).failures, 1);
    }

    #[test]
    fn a_lock_on_one_method_leaves_any_the_other() {
        let mut person = Person::new();
        let [first, second] = [0, 1].map(|place| person.recovery[place].canonical().to_owned());
        person.lock(Target::AnyOtp);

        assert!(person.verify(&first, Target::Any).is_accepted());
        // Looks like no recovery code, so it costs no try at them.
        assert!(matches!(person.fail(Target::Any), Verdict::Locked { method: Method::Token, .. }));
        assert_eq!(person.user.locks.of(Method::Recovery).failures, 0);
        assert_eq!(person.verify("0000-0000-0000-0000", Target::Any), wrong(4));
        assert_eq!(person.user.locks.of(Method::Recovery).failures, 1);

        let mut person = Person::new();
        person.lock(Target::Kind(Kind::Recovery));
        assert!(person.verify(&person.totp_code(0), Target::Any).is_accepted());
        assert!(matches!(person.verify(&second, Target::Any), Verdict::Rejected { .. }));
    }

    #[test]
    fn any_follows_policy() {
        let mut person = Person::new();
        let recovery = person.recovery[0].canonical().to_owned();
        person.policy.kinds.remove(&Kind::Recovery);

        assert!(matches!(person.verify(&recovery, Target::Any), Verdict::Rejected { .. }));
        person.policy.kinds.clear();
        assert_eq!(person.verify(&recovery, Target::Any), Verdict::NoFactor);
    }

    #[test]
    fn a_factor_of_a_forbidden_kind_no_longer_verifies() {
        let mut person = Person::new();
        person.policy.kinds.clear();
        let (code, recovery) = (person.totp_code(0), person.recovery[0].canonical().to_owned());
        let emergency = person.emergency.canonical().to_owned();

        assert_eq!(person.verify(&code, Target::AnyOtp), Verdict::NoFactor);
        assert_eq!(person.verify(&code, Target::Kind(Kind::Totp)), Verdict::NoFactor);
        assert_eq!(person.verify(&code, totp(&person)), Verdict::NoFactor);
        assert_eq!(person.verify(&recovery, Target::Kind(Kind::Recovery)), Verdict::NoFactor);
        assert_eq!(person.verify(&emergency, Target::Kind(Kind::Emergency)), Verdict::NoFactor);

        person.policy.kinds.insert(Kind::Hotp);
        assert_eq!(person.verify(&code, Target::AnyOtp), wrong(4));
        assert!(person.verify(&person.hotp_code(0), Target::AnyOtp).is_accepted());
    }

    #[test]
    fn the_window_of_the_policy_bounds_the_drift() {
        let mut person = Person::new();
        assert!(matches!(person.verify(&person.totp_code(2), Target::AnyOtp), Verdict::Rejected { .. }));
        person.policy.totp.window = 2;
        assert!(person.verify(&person.totp_code(2), Target::AnyOtp).is_accepted());
        person.policy.totp.window = 0;
        assert!(matches!(person.verify(&person.totp_code(1), Target::AnyOtp), Verdict::Rejected { .. }));
    }

    #[test]
    fn a_retry_with_its_request_id_gets_the_first_answer() {
        let mut person = Person::new();
        let right = with_request(attempt(&person.totp_code(0), Target::AnyOtp), "r-1");
        let wrong_code = with_request(attempt(WRONG, Target::AnyOtp), "r-2");
        let call = person.client();
        let mut verify = |attempt| person.user.verify(attempt, &person.policy, &OpenKeyring, &call);

        let accepted = verify(&right);
        let rejected = verify(&wrong_code);

        assert!(accepted.as_ref().is_ok_and(Verdict::is_accepted));
        assert_eq!(verify(&right), accepted);
        assert_eq!(verify(&wrong_code), rejected);
        assert_eq!(person.user.locks.failures(), 1);
        assert_eq!(person.happened(), ["verify.accepted", "verify.rejected: wrong_code"]);
    }

    #[test]
    fn a_key_that_is_missing_decides_nothing_and_counts_nothing() {
        let mut person = Person::new();
        let mut elsewhere = Person::new();
        elsewhere.user.id = crate::id::UserId::from_uuid(Uuid::from_u128(1));
        let before = elsewhere.user.clone();
        let (code, call) = (attempt(&person.totp_code(0), Target::AnyOtp), person.client());

        let moved = elsewhere.user.verify(&code, &person.policy, &OpenKeyring, &call);

        assert_eq!(moved, Err(Refusal::Key(KeyError::DoesNotOpen)));
        assert_eq!(elsewhere.user, before);
        assert!(person.verify(&person.totp_code(0), Target::AnyOtp).is_accepted());
    }

    #[test]
    fn a_lock_until_unlocked_says_so() {
        let mut person = Person::new();
        person.policy.locks.mode = crate::policy::LockMode::UntilUnlocked;
        person.lock(Target::AnyOtp);
        person.wait(10 * 365 * 86_400);

        let locked = Verdict::Locked { method: Method::Token, until: Until::Unlocked };

        assert_eq!(person.verify(&person.totp_code(0), Target::AnyOtp), locked);
    }

    #[test]
    fn request_ids_are_short_and_printable() {
        for text in ["", " ", "a b", "é", &"x".repeat(65)] {
            assert!(RequestId::parse("requestId", text).is_err(), "{text:?}");
        }
        assert!(RequestId::parse("requestId", &"x".repeat(64)).is_ok());
    }
}
