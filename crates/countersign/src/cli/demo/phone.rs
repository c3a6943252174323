//! The demo's own authenticator app. It knows which codes are used, so that nobody waits longer than they must.

use crate::cli::{failure::Failure, screen::text};
use countersign_core::{
    Code, Secret, Timestamp,
    factor::otp::{Algorithm, Generator, OtpSecret},
};
use serde_json::Value;
use std::time::Duration;

/// Steps of drift the server allows to either side, by the default policy.
const WINDOW: u64 = 1;
/// The code of the oldest step is not used in the last moments of the window: it could be too late when it arrives.
const MARGIN: Duration = Duration::from_secs(3);

/// An app that has scanned one factor.
pub(super) struct Phone {
    generator: Generator,
    digits: u8,
    period: u64,
    last_step: Option<u64>,
}

impl Phone {
    /// Scans what an enrolment answered.
    pub(super) fn scan(enrolment: &Value) -> Result<Self, Failure> {
        let unreadable = |what: &str| Failure::new(format!("the enrolment has no {what}"));
        let secret = OtpSecret::from_base32("secret", text(enrolment, "/secret"));
        let algorithm = Algorithm::parse("algorithm", text(enrolment, "/algorithm"));
        let digits = enrolment["digits"].as_u64().and_then(|digits| u8::try_from(digits).ok());
        let period = enrolment["period"].as_u64().filter(|period| *period > 0);

        let digits = digits.filter(|digits| (6..=8).contains(digits)).ok_or_else(|| unreadable("digits"))?;
        let secret = secret.map_err(|_| unreadable("secret"))?;
        let algorithm = algorithm.map_err(|_| unreadable("algorithm"))?;
        let period = period.ok_or_else(|| unreadable("period"))?;
        Ok(Self { generator: Generator::new(algorithm, digits, &secret), digits, period, last_step: None })
    }

    /// Returns the next code to use, and how long to wait until the server accepts it.
    pub(super) fn next_code(&self, now: Timestamp) -> (Secret<String>, Duration) {
        let (step, wait) = self.next_step(now);
        (self.generator.code_at(step), wait)
    }

    /// Returns the oldest step in the window that was not used. Beginning there leaves the newer ones for later.
    fn next_step(&self, now: Timestamp) -> (u64, Duration) {
        let current = self.step_at(now);
        let is_safe = now.until(self.start_of(current + 1)) > MARGIN;
        let oldest = if is_safe { current.saturating_sub(WINDOW) } else { current };
        let step = self.last_step.map_or(oldest, |last| oldest.max(last + 1));
        (step, now.until(self.start_of(step.saturating_sub(WINDOW))))
    }

    /// Checks what a person typed, so that a slip of the finger does not change the story.
    pub(super) fn judge(&self, typed: &str, now: Timestamp) -> Result<Secret<String>, &'static str> {
        let Some(step) = self.step_of(typed, now) else {
            return Err("That is not its code now. Look again, or set the phone's clock to automatic.");
        };
        if self.last_step.is_some_and(|last| step <= last) {
            return Err("That code is used, and each works once. Wait for the next, or press Enter.");
        }
        Ok(self.generator.code_at(step))
    }

    /// Remembers that a code is used.
    pub(super) fn burn(&mut self, code: &str, now: Timestamp) {
        self.last_step = self.step_of(code, now).or(self.last_step);
    }

    /// Returns codes that no step around `now` has.
    pub(super) fn wrong_codes(&self, now: Timestamp) -> Vec<Secret<String>> {
        let width = usize::from(self.digits);
        let near: Vec<Secret<String>> =
            self.steps_around(now, 5).map(|step| self.generator.code_at(step)).collect();
        let is_wrong = |code: &String| near.iter().all(|right| right.expose() != code);
        (0..).map(|number| format!("{number:0width$}")).filter(is_wrong).take(5).map(Secret::new).collect()
    }

    fn step_of(&self, code: &str, now: Timestamp) -> Option<u64> {
        let code = Code::parse("code", code).ok()?;
        self.steps_around(now, WINDOW).find(|step| self.generator.code_at(*step).expose() == code.as_str())
    }

    fn steps_around(&self, now: Timestamp, drift: u64) -> std::ops::RangeInclusive<u64> {
        let current = self.step_at(now);
        current.saturating_sub(drift)..=current + drift
    }

    fn step_at(&self, now: Timestamp) -> u64 {
        u64::try_from(now.seconds()).unwrap_or(0) / self.period
    }

    fn start_of(&self, step: u64) -> Timestamp {
        Timestamp::from_seconds(i64::try_from(step * self.period).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn phone() -> Phone {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let enrolment = json!({"secret": secret, "algorithm": "SHA1", "digits": 6, "period": 30});
        Phone::scan(&enrolment).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn three_codes_in_a_row_need_no_waiting() {
        let mut phone = phone();
        let now = at(3010);

        for step in 99..=101 {
            let (code, wait) = phone.next_code(now);
            assert_eq!(code.expose(), phone.generator.code_at(step).expose());
            assert!(wait.is_zero());
            phone.burn(code.expose(), now);
        }
        assert_eq!(phone.next_code(now).1, Duration::from_secs(20));
    }

    #[test]
    fn a_code_about_to_leave_the_window_is_not_used() {
        assert_eq!(phone().next_step(at(3026)), (99, Duration::ZERO));
        assert_eq!(phone().next_step(at(3028)), (100, Duration::ZERO));
    }

    #[test]
    fn near_the_end_of_a_step_the_wait_is_a_moment() {
        let mut phone = phone();
        phone.last_step = Some(101);

        assert_eq!(phone.next_step(at(3028)), (102, Duration::from_secs(2)));
    }

    #[test]
    fn what_a_person_types_is_judged_before_it_is_sent() {
        let mut phone = phone();
        let now = at(3010);
        let code = phone.generator.code_at(100);
        let spaced = format!("{} {}", &code.expose()[..3], &code.expose()[3..]);

        assert!(phone.judge("000000", now).is_err());
        assert!(phone.judge(&spaced, now).is_ok());
        phone.burn(code.expose(), now);
        assert!(phone.judge(&spaced, now).is_err_and(|advice| advice.contains("used")));
    }

    #[test]
    fn wrong_codes_are_wrong() {
        let phone = phone();
        let now = at(3010);

        let codes = phone.wrong_codes(now);

        assert_eq!(codes.len(), 5);
        assert!(codes.iter().all(|code| phone.step_of(code.expose(), now).is_none()));
    }
}
