//! One-time passwords: HOTP (RFC 4226) and TOTP (RFC 6238).

use crate::{
    attempt::Code,
    keyring::Sealed,
    policy::{HotpRule, TotpRule},
    refusal::Invalid,
    secret::Secret,
    time::Timestamp,
};
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use std::ops::Range;
use subtle::ConstantTimeEq;

/// The bytes of a new secret: 160 bits (RFC 4226 §4, R6).
pub const SECRET_BYTES: usize = 20;
/// The fewest bytes of a secret brought in from elsewhere. Below RFC 4226's 128 bits, because tokens in use have 80.
pub const IMPORT_MIN_BYTES: usize = 10;
/// The most bytes of a secret brought in from elsewhere: SHA-512's output; longer keys gain nothing.
pub const IMPORT_MAX_BYTES: usize = 64;

/// The hash of an OTP factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// HMAC-SHA-1: what every app understands.
    #[default]
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

impl Algorithm {
    /// Returns the name as otpauth URIs write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    /// Reads a name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        [Self::Sha1, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or_else(|| Invalid::new(field, "expected SHA1, SHA256 or SHA512"))
    }
}

/// The shared secret of an OTP factor.
#[derive(Debug, Clone)]
pub struct OtpSecret(Secret<Vec<u8>>);

impl OtpSecret {
    /// Draws a new secret.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = vec![0; SECRET_BYTES];
        rng.fill_bytes(&mut bytes);
        Self(bytes.into())
    }

    /// Takes the bytes of a known secret.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// Reads a secret as people type it: Base32, blanks, hyphens, case and padding ignored.
    pub fn from_base32(field: &str, text: &str) -> Result<Self, Invalid> {
        let plain = Secret::new(
            text.chars()
                .filter(|c| !c.is_whitespace() && !"-=".contains(*c))
                .collect::<String>()
                .to_ascii_uppercase(),
        );
        let bytes = BASE32_NOPAD
            .decode(plain.expose().as_bytes())
            .map_err(|_| Invalid::new(field, "expected a Base32 secret"))?;
        if !(IMPORT_MIN_BYTES..=IMPORT_MAX_BYTES).contains(&bytes.len()) {
            return Err(Invalid::new(
                field,
                format!("expected {IMPORT_MIN_BYTES} to {IMPORT_MAX_BYTES} bytes"),
            ));
        }
        Ok(Self(bytes.into()))
    }

    /// Returns the secret as apps expect it: Base32 in upper case without padding.
    pub fn to_base32(&self) -> Secret<String> {
        BASE32_NOPAD.encode(self.0.expose()).into()
    }

    /// Shows the bytes, to be sealed.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

/// A keyed HMAC, prepared once a check and cloned for each moving factor.
enum Prf {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

impl Prf {
    fn new(algorithm: Algorithm, secret: &[u8]) -> Self {
        const ANY_LENGTH: &str = "HMAC takes a key of any length";
        match algorithm {
            Algorithm::Sha1 => Self::Sha1(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
            Algorithm::Sha256 => Self::Sha256(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
            Algorithm::Sha512 => Self::Sha512(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
        }
    }

    /// Returns the 31-bit number of RFC 4226 §5.3, before it is cut to digits.
    fn truncated(&self, moving_factor: u64) -> u32 {
        fn of(mac: &impl MacOnce, moving_factor: u64) -> u32 {
            mac.once(&moving_factor.to_be_bytes())
        }
        match self {
            Self::Sha1(mac) => of(mac, moving_factor),
            Self::Sha256(mac) => of(mac, moving_factor),
            Self::Sha512(mac) => of(mac, moving_factor),
        }
    }
}

/// Computes a MAC from a prepared key and truncates it dynamically.
trait MacOnce {
    fn once(&self, message: &[u8; 8]) -> u32;
}

impl<M: Mac + Clone> MacOnce for M {
    fn once(&self, message: &[u8; 8]) -> u32 {
        let mut mac = self.clone();
        mac.update(message);
        let hash = mac.finalize().into_bytes();
        let offset = usize::from(hash[hash.len() - 1] & 0xf);
        u32::from_be_bytes([hash[offset], hash[offset + 1], hash[offset + 2], hash[offset + 3]]) & 0x7fff_ffff
    }
}

/// Makes and compares the codes of one secret.
pub struct Generator {
    prf: Prf,
    digits: u8,
}

impl Generator {
    /// Prepares the keyed state.
    pub fn new(algorithm: Algorithm, digits: u8, secret: &OtpSecret) -> Self {
        Self { prf: Prf::new(algorithm, secret.expose()), digits }
    }

    /// Returns the code for a counter or time step.
    pub fn code_at(&self, moving_factor: u64) -> Secret<String> {
        let width = usize::from(self.digits);
        let number = self.number_at(moving_factor);
        format!("{number:0width$}").into()
    }

    fn number_at(&self, moving_factor: u64) -> u32 {
        self.prf.truncated(moving_factor) % 10_u32.pow(u32::from(self.digits))
    }

    /// Reads a typed code as the number it is compared as, which spares writing all those it is compared with. `None` if it
    /// has another number of digits, and so is nobody's.
    fn typed(&self, code: &Code) -> Option<u32> {
        let text = code.as_str();
        let is_whole =
            text.len() == usize::from(self.digits) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_whole)
    }

    fn matches(&self, moving_factor: u64, typed: Option<u32>) -> bool {
        let number = self.number_at(moving_factor);
        typed.is_some_and(|typed| number.ct_eq(&typed).into())
    }

    /// Returns those of `candidates` whose code this is. Tries all of them, so the time tells nothing.
    fn matching(&self, candidates: impl Iterator<Item = u64>, typed: Option<u32>) -> Vec<u64> {
        candidates.filter(|&moving_factor| self.matches(moving_factor, typed)).collect()
    }
}

/// What comparing a code with a factor found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The code of a moving factor not used before.
    Fresh(u64),
    /// A code that was accepted before, or one older than that.
    Used,
    /// Not a code of this factor.
    Wrong,
}

/// A time-based factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totp {
    /// The hash.
    pub algorithm: Algorithm,
    /// Digits of a code, 6 to 8.
    pub digits: u8,
    /// The time step in seconds, 15 to 60.
    pub period: u8,
    /// The newest time step whose code was accepted; no code of it or an older one passes again (RFC 6238 §5.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_step: Option<u64>,
    /// The sealed secret.
    pub secret: Sealed,
}

impl Totp {
    /// Makes a factor that follows the policy.
    pub const fn new(rule: &TotpRule, secret: Sealed) -> Self {
        Self { algorithm: rule.algorithm, digits: rule.digits, period: rule.period, last_step: None, secret }
    }

    /// Compares a code with the steps around `now`, `window` to either side.
    ///
    /// Of several matching steps the newest counts, if it is above the last accepted one.
    pub fn check(&self, secret: &OtpSecret, code: &Code, now: Timestamp, window: u8) -> Check {
        let current = self.step(now);
        let window = u64::from(window);
        let steps = current.saturating_sub(window)..=current.saturating_add(window);
        let generator = Generator::new(self.algorithm, self.digits, secret);

        match generator.matching(steps, generator.typed(code)).last() {
            Some(&step) if self.last_step.is_none_or(|last| step > last) => Check::Fresh(step),
            Some(_) => Check::Used,
            None => Check::Wrong,
        }
    }

    /// Burns a step and all before it.
    pub fn burn(&mut self, step: u64) {
        self.last_step = Some(self.last_step.map_or(step, |last| last.max(step)));
    }

    /// Returns the time step of `now` (RFC 6238 §4.2, T0 = 0).
    pub fn step(&self, now: Timestamp) -> u64 {
        u64::try_from(now.seconds()).unwrap_or(0) / u64::from(self.period.max(1))
    }
}

/// A counter-based factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hotp {
    /// The hash; RFC 4226 knows SHA-1 only, tokens with others exist.
    pub algorithm: Algorithm,
    /// Digits of a code, 6 to 8.
    pub digits: u8,
    /// The next counter that may be accepted.
    pub counter: u64,
    /// The sealed secret.
    pub secret: Sealed,
}

impl Hotp {
    /// Makes a factor that follows the policy and starts at `counter`.
    pub const fn new(rule: &HotpRule, counter: u64, secret: Sealed) -> Self {
        Self { algorithm: Algorithm::Sha1, digits: rule.digits, counter, secret }
    }

    /// Compares a code with the counters from the next one on, and with the last used one to tell a replay.
    pub fn check(&self, secret: &OtpSecret, code: &Code, look_ahead: u8) -> Check {
        let generator = self.generator(secret);
        let typed = generator.typed(code);
        let fresh = generator.matching(self.ahead(look_ahead.into()), typed).first().copied();
        let used = self.counter.checked_sub(1).is_some_and(|last| generator.matches(last, typed));

        match (fresh, used) {
            (Some(counter), _) => Check::Fresh(counter),
            (None, true) => Check::Used,
            (None, false) => Check::Wrong,
        }
    }

    /// Finds two consecutive codes ahead of the counter (RFC 4226 §7.4, E.4); returns the second one's counter.
    pub fn find_pair(&self, secret: &OtpSecret, codes: [&Code; 2], window: u16) -> Option<u64> {
        let generator = self.generator(secret);
        let [first, second] = codes.map(|code| generator.typed(code));
        generator.matching(self.ahead(window), first).into_iter().find_map(|counter| {
            let next = counter + 1;
            generator.matches(next, second).then_some(next)
        })
    }

    /// Burns a counter and all before it.
    pub fn burn(&mut self, counter: u64) {
        self.counter = self.counter.max(counter.saturating_add(1));
    }

    /// Returns the next counter and `distance` more. Never the last of all: burning it could not move beyond it.
    fn ahead(&self, distance: u16) -> Range<u64> {
        self.counter..self.counter.saturating_add(u64::from(distance) + 1)
    }

    fn generator(&self, secret: &OtpSecret) -> Generator {
        Generator::new(self.algorithm, self.digits, secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::KeyId;

    const KEY: &[u8] = b"1234567890";

    /// The key of the RFCs: the ten digits, repeated to the length of the hash (RFC 6238 errata 2866).
    fn rfc_secret(length: usize) -> OtpSecret {
        OtpSecret::from_bytes(KEY.iter().copied().cycle().take(length).collect())
    }

    fn sealed() -> Sealed {
        Sealed { key: KeyId(0), bytes: Vec::new() }
    }

    fn code(text: &str) -> Code {
        Code::parse("code", text).expect("code")
    }

    #[test]
    fn hotp_gives_the_values_of_rfc_4226_appendix_d() {
        let expected = include_str!("../testdata/rfc4226.txt");
        let generator = Generator::new(Algorithm::Sha1, 6, &rfc_secret(20));

        for (counter, code) in expected.lines().enumerate() {
            assert_eq!(generator.code_at(counter as u64).expose(), code);
        }
        assert_eq!(expected.lines().count(), 10);
    }

    #[test]
    fn totp_gives_the_values_of_rfc_6238_appendix_b() {
        let table = include_str!("../testdata/rfc6238.txt");
        let algorithms = [(Algorithm::Sha1, 20), (Algorithm::Sha256, 32), (Algorithm::Sha512, 64)];

        for line in table.lines() {
            let mut columns = line.split_whitespace();
            let time: u64 = columns.next().expect("time").parse().expect("number");
            for ((algorithm, length), expected) in algorithms.into_iter().zip(columns) {
                for digits in 6..=8 {
                    let code = Generator::new(algorithm, digits, &rfc_secret(length)).code_at(time / 30);
                    assert_eq!(
                        code.expose(),
                        &expected[8 - usize::from(digits)..],
                        "{algorithm:?} at {time}"
                    );
                }
            }
        }
        assert_eq!(table.lines().count(), 6);
    }

    #[test]
    fn codes_agree_with_an_independent_implementation() {
        for (algorithm, other) in [
            (Algorithm::Sha1, totp_rs::Algorithm::SHA1),
            (Algorithm::Sha256, totp_rs::Algorithm::SHA256),
            (Algorithm::Sha512, totp_rs::Algorithm::SHA512),
        ] {
            let secret = rfc_secret(20);
            let oracle = totp_rs::Builder::new()
                .with_algorithm(other)
                .with_digits(7)
                .with_step_duration(45)
                .with_secret(secret.expose().to_vec())
                .build()
                .expect("oracle");
            for time in (0..4_000_000_000_u64).step_by(123_456_789) {
                let ours = Generator::new(algorithm, 7, &secret).code_at(time / 45);
                assert_eq!(ours.expose(), &oracle.generate(time).to_string());
            }
        }
    }

    #[test]
    fn the_newest_matching_step_above_the_last_accepted_one_counts() {
        let secret = rfc_secret(20);
        let mut totp = Totp::new(&TotpRule::default(), sealed());
        let generator = Generator::new(totp.algorithm, totp.digits, &secret);
        let now = Timestamp::from_seconds(300);
        let at = |step| code(generator.code_at(step).expose());

        assert_eq!(totp.check(&secret, &at(8), now, 1), Check::Wrong);
        assert_eq!(totp.check(&secret, &at(9), now, 1), Check::Fresh(9));
        assert_eq!(totp.check(&secret, &at(11), now, 1), Check::Fresh(11));
        totp.burn(10);
        assert_eq!(totp.check(&secret, &at(9), now, 1), Check::Used);
        assert_eq!(totp.check(&secret, &at(10), now, 1), Check::Used);
        assert_eq!(totp.check(&secret, &at(11), now, 1), Check::Fresh(11));
        assert_eq!(totp.check(&secret, &at(11), now, 0), Check::Wrong);
    }

    #[test]
    fn a_hotp_code_ahead_of_the_counter_passes_and_burns_all_before_it() {
        let secret = rfc_secret(20);
        let mut hotp = Hotp::new(&HotpRule::default(), 0, sealed());

        assert_eq!(hotp.check(&secret, &code("254676"), 10), Check::Fresh(5));
        hotp.burn(5);
        assert_eq!(hotp.check(&secret, &code("254676"), 10), Check::Used);
        assert_eq!(hotp.check(&secret, &code("755224"), 10), Check::Wrong);
        assert_eq!(hotp.check(&secret, &code("287922"), 10), Check::Fresh(6));
    }

    // The last counter of all burned to itself, so its code passed for ever.
    #[test]
    fn a_hotp_counter_does_not_stop_at_its_end() {
        let secret = rfc_secret(20);
        let mut hotp = Hotp::new(&HotpRule::default(), u64::MAX - 1, sealed());
        let generator = Generator::new(Algorithm::Sha1, 6, &secret);
        let at = |counter| code(generator.code_at(counter).expose());

        assert_eq!(hotp.check(&secret, &at(u64::MAX - 1), 10), Check::Fresh(u64::MAX - 1));
        hotp.burn(u64::MAX - 1);
        assert_eq!(hotp.check(&secret, &at(u64::MAX - 1), 10), Check::Used);
        assert_eq!(hotp.check(&secret, &at(u64::MAX), 10), Check::Wrong);
        assert_eq!(hotp.find_pair(&secret, [&at(u64::MAX - 1), &at(u64::MAX)], 10), None);
    }

    #[test]
    fn two_consecutive_codes_find_a_token_that_ran_ahead() {
        let secret = rfc_secret(20);
        let hotp = Hotp::new(&HotpRule::default(), 0, sealed());
        let generator = Generator::new(Algorithm::Sha1, 6, &secret);
        let at = |counter| code(generator.code_at(counter).expose());

        assert_eq!(hotp.find_pair(&secret, [&at(70), &at(71)], 100), Some(71));
        assert_eq!(hotp.find_pair(&secret, [&at(70), &at(72)], 100), None);
        assert_eq!(hotp.find_pair(&secret, [&at(200), &at(201)], 100), None);
    }

    #[test]
    fn a_typed_secret_may_have_blanks_lower_case_and_padding() {
        let secret =
            OtpSecret::from_base32("secret", "gezd gnbv-gy3t qojq gezd gnbv gy3t qojq====").expect("secret");

        assert_eq!(secret.expose(), rfc_secret(20).expose());
        assert_eq!(secret.to_base32().expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert!(OtpSecret::from_base32("secret", "GEZD").is_err());
        assert!(OtpSecret::from_base32("secret", "not base32!").is_err());
    }
}
