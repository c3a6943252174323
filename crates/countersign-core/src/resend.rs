//! How often codes may be sent: to one person by one method, and to one destination whoever asks.
//!
//! Sending costs money, and a flood of codes is a nuisance an attacker can cause (OWASP ASVS 5.0 6.6.2, 6.6.3; NIST
//! SP 800-63B-4 §3.2.2 bounds what can be guessed per code).

use crate::{refusal::Invalid, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The span in which the larger limit counts.
pub const HOUR: Duration = Duration::from_secs(3600);
/// How much later than a request that is decided now another may have come in that was decided before it.
const DISORDER: Duration = Duration::from_secs(300);
/// The most codes an hour that a policy may allow; bounds the log.
pub const PER_HOUR_LIMIT: u8 = 20;

/// How often codes may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ResendRule {
    /// Seconds between two codes.
    pub pause_seconds: u32,
    /// Codes in an hour.
    pub per_hour: u8,
}

impl Default for ResendRule {
    fn default() -> Self {
        Self { pause_seconds: 30, per_hour: 5 }
    }
}

impl ResendRule {
    /// Checks the members against their ranges.
    pub fn validate(&self, at: &str) -> Result<(), Invalid> {
        if self.pause_seconds > 600 {
            return Err(Invalid::new(format!("{at}.pauseSeconds"), "expected 0 to 600"));
        }
        if !(1..=PER_HOUR_LIMIT).contains(&self.per_hour) {
            return Err(Invalid::new(format!("{at}.perHour"), format!("expected 1 to {PER_HOUR_LIMIT}")));
        }
        Ok(())
    }
}

/// When codes were sent in the last hour, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SendLog(Vec<Timestamp>);

impl SendLog {
    /// Notes that a code is sent now, or tells how long to wait until one may be.
    pub fn admit(&mut self, rule: &ResendRule, now: Timestamp) -> Result<(), Duration> {
        // What is a little later than now was sent all the same: requests are decided in another order than they come in,
        // and who sends them slowly chooses it. More than that is a clock that was set back, which must lock nobody out.
        self.0.retain(|sent| sent.until(now) < HOUR && *sent <= now.after(DISORDER));
        let pause = Duration::from_secs(rule.pause_seconds.into());
        let after_last = self.0.last().filter(|_| !pause.is_zero()).map(|last| last.after(pause));
        // The last `per_hour` of them must not lie within one hour.
        let beyond = self.0.len().checked_sub(usize::from(rule.per_hour));
        let after_first = beyond.map(|place| self.0[place].after(HOUR));
        match after_last.max(after_first) {
            Some(free) if free > now => Err(now.until(free)),
            _ => {
                let place = self.0.partition_point(|sent| *sent <= now);
                self.0.insert(place, now);
                Ok(())
            }
        }
    }

    /// Tells whether nothing of it matters any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.0.last().is_none_or(|last| last.until(now) >= HOUR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: ResendRule = ResendRule { pause_seconds: 30, per_hour: 3 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    #[test]
    fn two_codes_are_a_pause_apart() {
        let mut log = SendLog::default();

        assert_eq!(log.admit(&RULE, at(0)), Ok(()));
        assert_eq!(log.admit(&RULE, at(0)), Err(Duration::from_secs(30)));
        assert_eq!(log.admit(&RULE, at(29)), Err(Duration::from_secs(1)));
        assert_eq!(log.admit(&RULE, at(30)), Ok(()));
    }

    #[test]
    fn an_hour_takes_as_many_as_the_rule_says() {
        let mut log = SendLog::default();
        for seconds in [0, 100, 200] {
            assert_eq!(log.admit(&RULE, at(seconds)), Ok(()));
        }

        assert_eq!(log.admit(&RULE, at(300)), Err(Duration::from_secs(3300)));
        assert_eq!(log.admit(&RULE, at(3600)), Ok(()));
        assert_eq!(log.admit(&RULE, at(3650)), Err(Duration::from_secs(50)));
    }

    #[test]
    fn a_refusal_is_not_noted_and_the_log_stays_short() {
        let mut log = SendLog::default();
        for seconds in 0..20_000 {
            let _ = log.admit(&RULE, at(seconds));
            assert!(log.0.len() <= 3);
        }
        assert!(log.is_over(at(30_000)));
    }

    // Each request that came in earlier forgot those that came in later: held back and let go in the opposite order, any
    // number of them had a code sent.
    #[test]
    fn requests_decided_in_another_order_than_they_came_in_are_counted() {
        let mut log = SendLog::default();
        let rule = ResendRule { pause_seconds: 0, ..RULE };

        let admitted = (0..25).rev().filter(|seconds| log.admit(&RULE, at(*seconds)).is_ok()).count();
        assert_eq!(admitted, 1);
        assert_eq!(log.admit(&RULE, at(20)), Err(Duration::from_secs(34)));

        let mut log = SendLog::default();
        let admitted = (0..25).rev().filter(|seconds| log.admit(&rule, at(*seconds)).is_ok()).count();
        assert_eq!(admitted, 3);
        assert_eq!(log.admit(&rule, at(3600 + 21)), Err(Duration::from_secs(1)));
        assert_eq!(log.admit(&rule, at(3600 + 22)), Ok(()));
    }

    #[test]
    fn a_clock_set_back_does_not_lock_out() {
        let mut log = SendLog::default();
        assert_eq!(log.admit(&RULE, at(100_000)), Ok(()));

        assert_eq!(log.admit(&RULE, at(0)), Ok(()));
    }
}
