//! What an organisation allows and asks for. Validated when set; the defaults are safe.

use crate::{
    destination::Destination,
    factor::{Kind, otp::Algorithm},
    profile::{Email, Line, Phone, matching_key},
    refusal::{Invalid, Refusal},
    resend::ResendRule,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

/// An organisation's policy. Members left out take their default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Policy {
    /// The kinds of factor people may have and use.
    pub kinds: BTreeSet<Kind>,
    /// Whether a second factor is asked for when people sign in.
    pub requirement: Requirement,
    /// Parameters of new TOTP factors and the window for all of them.
    pub totp: TotpRule,
    /// Parameters of HOTP factors.
    pub hotp: HotpRule,
    /// When a second-factor method locks.
    pub locks: LockRule,
    /// When the password locks: a budget of its own.
    pub password_locks: LockRule,
    /// How long a code that was sent is good.
    pub code_seconds: u64,
    /// How often codes are sent, to one person by one method and to one destination.
    pub resend: ResendRule,
    /// Where codes may be sent.
    pub destinations: DestinationRule,
    /// Whether people are told when their factors change, a method locks or a recovery code is used.
    pub notices: bool,
    /// How long a new factor waits for its first code.
    pub enrolment_seconds: u64,
    /// How many recovery codes a set has.
    pub recovery_codes: u8,
    /// How long an emergency code lives unless its issuer says less.
    pub emergency_code_seconds: u64,
    /// Whether people must have signed in with a second factor to remove their own.
    pub self_reset_requires_possession: bool,
    /// Lifetimes of tokens.
    pub sessions: SessionRule,
}

/// Where codes may be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DestinationRule {
    /// The countries of numbers, as ISO 3166 codes; every country if empty.
    pub countries: BTreeSet<String>,
    /// Whether numbers in premium-rate and shared-cost ranges are taken: whoever can enrol one earns by it.
    pub premium: bool,
    /// Whether numbers in ranges that are assigned to nobody are taken.
    pub unassigned: bool,
    /// The domains of addresses, with those below them; every domain if empty.
    pub domains: BTreeSet<String>,
}

/// Whether a second factor is asked for when people sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// Never asked for.
    Off,
    /// Asked of people whose second step is on.
    Optional,
    /// Asked of everybody; who has none enrols one before anything else.
    Enforced,
}

/// The most steps of drift that a policy may allow to either side.
pub const WIDEST_WINDOW: u8 = 2;

/// Parameters of TOTP (RFC 6238).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TotpRule {
    /// The hash of new factors.
    pub algorithm: Algorithm,
    /// The digits of new factors' codes.
    pub digits: u8,
    /// The time step of new factors, in seconds.
    pub period: u8,
    /// Steps of drift allowed to either side (RFC 6238 §5.2 recommends at most one).
    pub window: u8,
}

/// Parameters of HOTP (RFC 4226).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HotpRule {
    /// The digits of new factors' codes.
    pub digits: u8,
    /// How far ahead of the counter a code may be (RFC 4226 §7.4).
    pub look_ahead: u8,
    /// How far ahead two consecutive codes are searched for when resynchronising.
    pub resync_window: u16,
}

/// When something locks, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LockRule {
    /// Consecutive failures that lock.
    pub threshold: u32,
    /// Whether a lock runs out.
    pub mode: LockMode,
    /// The first pause; it doubles with each further failure.
    pub first_pause_seconds: u64,
    /// The longest pause.
    pub longest_pause_seconds: u64,
}

/// Whether a lock runs out by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// After a pause that doubles.
    Backoff,
    /// Only when somebody unlocks it.
    UntilUnlocked,
}

/// Lifetimes of tokens, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SessionRule {
    /// An access token's life.
    pub access_seconds: u64,
    /// How long a session can be refreshed, counted from its beginning.
    pub refresh_seconds: u64,
    /// How long the second step of a sign-in may take.
    pub second_step_seconds: u64,
    /// How long an invitation can be accepted.
    pub invitation_seconds: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            kinds: Kind::ALL.into_iter().collect(),
            requirement: Requirement::Optional,
            totp: TotpRule::default(),
            hotp: HotpRule::default(),
            locks: LockRule::default(),
            password_locks: LockRule { threshold: 10, ..LockRule::default() },
            code_seconds: 600,
            resend: ResendRule::default(),
            destinations: DestinationRule::default(),
            notices: true,
            enrolment_seconds: 600,
            recovery_codes: 10,
            emergency_code_seconds: 24 * 3600,
            self_reset_requires_possession: true,
            sessions: SessionRule::default(),
        }
    }
}

impl Default for TotpRule {
    fn default() -> Self {
        Self { algorithm: Algorithm::Sha1, digits: 6, period: 30, window: 1 }
    }
}

impl Default for HotpRule {
    fn default() -> Self {
        Self { digits: 6, look_ahead: 10, resync_window: 100 }
    }
}

impl Default for LockRule {
    fn default() -> Self {
        Self { threshold: 5, mode: LockMode::Backoff, first_pause_seconds: 30, longest_pause_seconds: 3600 }
    }
}

impl Default for SessionRule {
    fn default() -> Self {
        Self {
            access_seconds: 600,
            refresh_seconds: 12 * 3600,
            second_step_seconds: 600,
            invitation_seconds: 72 * 3600,
        }
    }
}

impl Policy {
    /// Tells whether a kind of factor may be enrolled and used.
    pub fn allows(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Returns how long a new factor waits for its first code.
    pub const fn enrolment_life(&self) -> Duration {
        Duration::from_secs(self.enrolment_seconds)
    }

    /// Returns how long a code that was sent is good.
    pub const fn code_life(&self) -> Duration {
        Duration::from_secs(self.code_seconds)
    }

    /// Checks every member against its range.
    pub fn validate(&self) -> Result<(), Invalid> {
        // NIST SP 800-63B-4 §3.1.3.2: at most 10 minutes.
        within("codeSeconds", self.code_seconds, 60..=600)?;
        self.resend.validate("resend")?;
        self.destinations.validate("destinations")?;
        within("totp.digits", self.totp.digits, 6..=8)?;
        within("totp.period", self.totp.period, 15..=60)?;
        within("totp.window", self.totp.window, 0..=WIDEST_WINDOW)?;
        within("hotp.digits", self.hotp.digits, 6..=8)?;
        within("hotp.lookAhead", self.hotp.look_ahead, 1..=50)?;
        within("hotp.resyncWindow", self.hotp.resync_window, 10..=1000)?;
        self.locks.validate("locks")?;
        self.password_locks.validate("passwordLocks")?;
        within("enrolmentSeconds", self.enrolment_seconds, 60..=86_400)?;
        within("recoveryCodes", self.recovery_codes, 5..=20)?;
        within("emergencyCodeSeconds", self.emergency_code_seconds, 300..=7 * 86_400)?;
        self.sessions.validate()
    }
}

impl DestinationRule {
    /// Refuses a destination that codes may not be sent to.
    pub fn check(&self, destination: &Destination) -> Result<(), Refusal> {
        match destination {
            Destination::Email(email) if !self.allows_domain_of(email) => {
                Err(Refusal::DestinationForbidden("addresses of this domain"))
            }
            Destination::Email(_) => Ok(()),
            Destination::Sms(phone) | Destination::Voice(phone) => match phone.line() {
                Line::Premium if !self.premium => Err(Refusal::DestinationForbidden("premium-rate numbers")),
                Line::Unassigned if !self.unassigned => {
                    Err(Refusal::DestinationForbidden("numbers in unassigned ranges"))
                }
                _ if !self.allows_country_of(phone) => {
                    Err(Refusal::DestinationForbidden("numbers of this country"))
                }
                _ => Ok(()),
            },
        }
    }

    fn allows_domain_of(&self, email: &Email) -> bool {
        // As it is written, not as it is matched by: `ß` matches `ss`, but mail goes to another domain.
        let address = email.as_str().to_lowercase();
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let is_within = |allowed: &String| {
            domain.strip_suffix(allowed.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.domains.is_empty() || self.domains.iter().any(is_within)
    }

    fn allows_country_of(&self, phone: &Phone) -> bool {
        self.countries.is_empty() || phone.country().is_some_and(|country| self.countries.contains(&country))
    }

    fn validate(&self, at: &str) -> Result<(), Invalid> {
        let is_country =
            |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        if !self.countries.iter().all(is_country) {
            return Err(Invalid::new(format!("{at}.countries"), "expected ISO 3166 codes such as DE"));
        }
        let is_domain = |domain: &String| {
            !domain.is_empty() && *domain == matching_key(domain) && !domain.contains(['@', ' ', '/'])
        };
        if !self.domains.iter().all(is_domain) {
            return Err(Invalid::new(
                format!("{at}.domains"),
                "expected domains such as example.com, in lower case",
            ));
        }
        Ok(())
    }
}

impl LockRule {
    fn validate(&self, at: &str) -> Result<(), Invalid> {
        // Above 100 NIST SP 800-63B-4 §3.2.2 would be broken by one method alone; below 3 a slip of the finger locks.
        within(&format!("{at}.threshold"), self.threshold, 3..=100)?;
        within(&format!("{at}.firstPauseSeconds"), self.first_pause_seconds, 1..=3600)?;
        within(
            &format!("{at}.longestPauseSeconds"),
            self.longest_pause_seconds,
            self.first_pause_seconds..=86_400,
        )
    }
}

impl SessionRule {
    fn validate(&self) -> Result<(), Invalid> {
        within("sessions.accessSeconds", self.access_seconds, 60..=3600)?;
        within("sessions.refreshSeconds", self.refresh_seconds, 300..=90 * 86_400)?;
        within("sessions.secondStepSeconds", self.second_step_seconds, 60..=3600)?;
        within("sessions.invitationSeconds", self.invitation_seconds, 300..=30 * 86_400)
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    field: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Invalid> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Invalid::new(field, format!("expected {} to {}", range.start(), range.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Policy::default().validate(), Ok(()));
    }

    #[test]
    fn a_member_out_of_range_is_named() {
        let mut policy = Policy::default();
        policy.totp.digits = 9;
        assert_eq!(policy.validate().map_err(|invalid| invalid.field), Err("totp.digits".into()));

        let mut policy = Policy::default();
        policy.password_locks.threshold = 1;
        assert_eq!(policy.validate().map_err(|invalid| invalid.field), Err("passwordLocks.threshold".into()));
    }

    // Letters that only match alike belong to other domains: of these two, anybody can register the second.
    #[test]
    fn a_domain_that_looks_alike_is_another_one() {
        let rule = DestinationRule { domains: ["messe.example".to_owned()].into(), ..Default::default() };
        let check = |text| rule.check(&Destination::Email(Email::parse("to", text).expect(text)));

        for taken in ["ada@messe.example", "Ada@Messe.Example", "ada@mail.messe.example"] {
            assert_eq!(check(taken), Ok(()), "{taken}");
        }
        for refused in ["ada@me\u{df}e.example", "ada@amesse.example", "ada@messe.example.org"] {
            assert_eq!(
                check(refused),
                Err(Refusal::DestinationForbidden("addresses of this domain")),
                "{refused}"
            );
        }
    }

    #[test]
    fn an_unknown_member_is_refused_by_name() {
        let error = serde_json::from_str::<Policy>(r#"{"totp":{"digit":6}}"#).expect_err("unknown member");

        assert!(error.to_string().contains("`digit`"), "{error}");
    }
}
