//! Locks: after too many consecutive failures a method refuses everything for a while.
//!
//! The state is a count and the times of the last lock; how long a lock holds follows from the count and the policy. NIST SP 800-63B-4 §3.2.2 asks for at most 100 consecutive failures an account; ASVS 5.0 6.1.1 asks
//! that malicious lock-out be hampered, which the growing pause (instead of a hard lock) does.

use crate::{
    policy::{LockMode, LockRule},
    refusal::Invalid,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, time::Duration};

/// Consecutive failures after which every method of a person is locked until somebody unlocks it.
pub const ACCOUNT_FAILURE_LIMIT: u32 = 100;

/// A family of factors that is counted and locked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// One-time passwords of apps and hardware tokens.
    Token,
    /// Codes by SMS.
    Sms,
    /// Codes by voice call.
    Voice,
    /// Codes by e-mail.
    Email,
    /// Passkeys and security keys.
    Webauthn,
    /// Recovery and emergency codes.
    Recovery,
}

impl Method {
    /// All methods, in the order they are shown.
    pub const ALL: [Self; 6] =
        [Self::Token, Self::Sms, Self::Voice, Self::Email, Self::Webauthn, Self::Recovery];

    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "TOKEN",
            Self::Sms => "SMS",
            Self::Voice => "VOICE",
            Self::Email => "EMAIL",
            Self::Webauthn => "WEBAUTHN",
            Self::Recovery => "RECOVERY",
        }
    }

    /// Returns the method's bit in the store's index column.
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Reads a method's name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|method| method.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Invalid::new(field, format!("unknown method; expected {names}"))
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Until when something is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Until a point in time.
    Time(Timestamp),
    /// Until somebody unlocks it.
    Unlocked,
}

/// The failure budget of one method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Consecutive failures.
    pub failures: u32,
    /// When the failure that locked it happened; set while failures are at or above the threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_at: Option<Timestamp>,
    /// Until when; with `locked_at` and without this: until somebody unlocks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
}

impl Lock {
    /// Tells until when it is locked, if it is at `now`.
    pub fn is_locked(&self, now: Timestamp) -> Option<Until> {
        self.locked_at?;
        match self.locked_until {
            None => Some(Until::Unlocked),
            Some(until) if now < until => Some(Until::Time(until)),
            Some(_) => None,
        }
    }

    /// Counts a failure, and locks when the threshold is reached.
    ///
    /// After a lock has run out the count stands, so each further failure locks at once and for twice as long.
    pub fn fail(&mut self, rule: &LockRule, now: Timestamp) -> Option<Until> {
        self.failures = self.failures.saturating_add(1);
        let over = self.failures.checked_sub(rule.threshold)?;
        self.locked_at = Some(now);
        self.locked_until = match rule.mode {
            LockMode::UntilUnlocked => None,
            LockMode::Backoff => Some(now.after(pause(rule, over))),
        };
        self.is_locked(now)
    }

    /// Returns how many more failures are allowed before it locks.
    pub fn attempts_left(&self, rule: &LockRule) -> u32 {
        rule.threshold.saturating_sub(self.failures)
    }
}

/// The pause doubles with each failure beyond the threshold, up to the rule's longest.
fn pause(rule: &LockRule, over: u32) -> Duration {
    let doubled = rule.first_pause_seconds.saturating_mul(1_u64.checked_shl(over).unwrap_or(u64::MAX));
    Duration::from_secs(doubled.min(rule.longest_pause_seconds))
}

/// The failure budgets of all a person's methods. A method that never failed has no entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Locks(BTreeMap<Method, Lock>);

impl Locks {
    /// Returns one method's state.
    pub fn of(&self, method: Method) -> Lock {
        self.0.get(&method).copied().unwrap_or_default()
    }

    /// Tells until when a method is locked, also when it is the whole account that failed too often.
    pub fn is_locked(&self, method: Method, now: Timestamp) -> Option<Until> {
        if self.failures() >= ACCOUNT_FAILURE_LIMIT {
            return Some(Until::Unlocked);
        }
        self.of(method).is_locked(now)
    }

    /// Counts a failure of one method.
    pub fn fail(&mut self, method: Method, rule: &LockRule, now: Timestamp) -> Option<Until> {
        let until = self.0.entry(method).or_default().fail(rule, now);
        if self.failures() >= ACCOUNT_FAILURE_LIMIT { Some(Until::Unlocked) } else { until }
    }

    /// Clears a method's count and lock; tells whether there was any.
    pub fn clear(&mut self, method: Method) -> bool {
        self.0.remove(&method).is_some()
    }

    /// Returns the account's consecutive failures over all methods.
    pub fn failures(&self) -> u32 {
        self.0.values().fold(0, |sum, lock| sum.saturating_add(lock.failures))
    }

    /// Returns the methods that carry a lock, one bit each: what lists filter by.
    ///
    /// A lock that has run out still shows here until the next success or unlock: its count stands, so the next failure
    /// locks again at once, and that is what the help desk looks for.
    pub fn locked_bits(&self) -> u8 {
        if self.failures() >= ACCOUNT_FAILURE_LIMIT {
            return Method::ALL.iter().fold(0, |bits, method| bits | method.bit());
        }
        self.0
            .iter()
            .filter(|(_, lock)| lock.locked_at.is_some())
            .fold(0, |bits, (method, _)| bits | method.bit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: LockRule = LockRule {
        threshold: 5,
        mode: LockMode::Backoff,
        first_pause_seconds: 30,
        longest_pause_seconds: 3600,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn the_fifth_failure_locks_and_each_later_one_doubles_the_pause() {
        let mut lock = Lock::default();
        for _ in 0..4 {
            assert_eq!(lock.fail(&RULE, at(0)), None);
        }

        let pauses: Vec<_> = (0..9)
            .map(|_| match lock.fail(&RULE, at(0)) {
                Some(Until::Time(until)) => until.seconds(),
                other => panic!("{other:?}"),
            })
            .collect();

        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn a_lock_runs_out_but_its_count_stands() {
        let mut lock = Lock::default();
        for _ in 0..5 {
            lock.fail(&RULE, at(0));
        }

        assert!(lock.is_locked(at(29)).is_some());
        assert!(lock.is_locked(at(30)).is_none());
        assert_eq!(lock.fail(&RULE, at(30)), Some(Until::Time(at(90))));
    }

    #[test]
    fn a_lock_until_unlocked_does_not_run_out() {
        let rule = LockRule { mode: LockMode::UntilUnlocked, ..RULE };
        let mut locks = Locks::default();
        for _ in 0..5 {
            locks.fail(Method::Token, &rule, at(0));
        }

        assert_eq!(locks.is_locked(Method::Token, at(1 << 40)), Some(Until::Unlocked));
        assert!(locks.clear(Method::Token));
        assert_eq!(locks.is_locked(Method::Token, at(1)), None);
    }

    #[test]
    fn a_hundred_failures_over_all_methods_lock_the_account() {
        let lenient = LockRule { threshold: 60, ..RULE };
        let mut locks = Locks::default();
        for _ in 0..50 {
            locks.fail(Method::Token, &lenient, at(0));
        }
        for _ in 0..49 {
            locks.fail(Method::Recovery, &lenient, at(0));
        }
        assert_eq!(locks.is_locked(Method::Email, at(0)), None);

        let until = locks.fail(Method::Recovery, &lenient, at(0));

        assert_eq!(until, Some(Until::Unlocked));
        assert!(Method::ALL.into_iter().all(|method| locks.is_locked(method, at(1 << 40)).is_some()));
        assert_eq!(locks.locked_bits(), 0b11_1111);
    }
}
