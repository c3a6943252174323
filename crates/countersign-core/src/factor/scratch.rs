//! Codes we draw for people to keep: recovery and emergency codes.
//!
//! Sixteen characters of Crockford's Base32 carry 80 bits, above the 64 that NIST SP 800-63B-4 §4.2.1.1 asks of a saved
//! recovery code, so a keyed hash is enough to store them. The alphabet has no I, L, O or U; who types one of the first
//! three means 1, 1 or 0.
//!
//! Some clients take codes of eight decimal digits only. Those carry 26 bits, so they go through a slow hash before the
//! keyed one: whoever has the database *and* the key still pays for each guess.

use crate::{attempt::Code, secret::Secret};
use rand_core::CryptoRng;
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHARACTERS: usize = 16;
const GROUP: usize = 4;

/// The digits of a short code.
pub const SHORT_DIGITS: usize = 8;

/// A code drawn for a person: shown once, stored as a keyed hash.
#[derive(Debug, Clone)]
pub struct ScratchCode(Secret<String>);

impl ScratchCode {
    /// Draws a code.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; CHARACTERS];
        rng.fill_bytes(&mut bytes);
        // 32 divides 256, so the low five bits are even.
        Self(Secret::new(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()))
    }

    /// Draws a code of so many decimal digits. Below 20 it has to be stretched before it is stored.
    pub fn digits(count: usize, rng: &mut impl CryptoRng) -> Self {
        let mut digits = String::with_capacity(count);
        while digits.len() < count {
            let mut byte = [0];
            rng.fill_bytes(&mut byte);
            // 250 is the largest multiple of ten: above it low digits would come more often.
            if byte[0] < 250 {
                digits.push(char::from(b'0' + byte[0] % 10));
            }
        }
        Self(digits.into())
    }

    /// Returns the form that is hashed.
    pub fn canonical(&self) -> &str {
        self.0.expose()
    }

    /// Returns the code as it is shown: a long one in groups of four.
    pub fn shown(&self) -> Secret<String> {
        if self.0.expose().len() != CHARACTERS {
            return self.0.clone();
        }
        let groups: Vec<&str> =
            (0..CHARACTERS).step_by(GROUP).map(|start| &self.0.expose()[start..start + GROUP]).collect();
        groups.join("-").into()
    }
}

/// A short code after the slow hash, with the salt it went through. Computed before the change, never in it.
#[derive(Debug, Clone)]
pub struct Stretched {
    /// The salt: that of the set the code is compared with.
    pub salt: Uuid,
    /// The outcome of the slow hash.
    pub value: Secret<Vec<u8>>,
}

/// Tells whether a typed code could be a short one: if not, nobody has to wait for the slow hash.
pub fn is_short(code: &Code) -> bool {
    let typed = canonical(code);
    typed.expose().len() == SHORT_DIGITS && typed.expose().bytes().all(|byte| byte.is_ascii_digit())
}

/// Tells whether a typed code could be a long one.
pub fn is_long(code: &Code) -> bool {
    canonical(code).expose().len() == CHARACTERS
}

/// Returns what a typed code is as a scratch code, in the form that is hashed.
pub fn canonical(code: &Code) -> Secret<String> {
    let read = |c| match c {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    Secret::new(code.as_str().chars().map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_shown_code_reads_back_however_it_is_typed() {
        let drawn = ScratchCode::generate(&mut testing::rng(7));
        let shown = drawn.shown();

        for typed in [shown.expose().clone(), shown.expose().to_lowercase(), shown.expose().replace('-', " ")]
        {
            let code = Code::parse("code", &typed).expect("code");
            assert_eq!(canonical(&code).expose(), drawn.canonical());
        }
        assert_eq!(canonical(&Code::parse("code", "oil").expect("code")).expose(), "011");
    }

    #[test]
    fn short_codes_are_digits_and_keep_leading_zeros() {
        let drawn: Vec<ScratchCode> =
            (0..200).map(|seed| ScratchCode::digits(SHORT_DIGITS, &mut testing::rng(seed))).collect();

        assert!(drawn.iter().all(|code| is_short(&Code::parse("code", code.canonical()).expect("code"))));
        assert!(drawn.iter().any(|code| code.canonical().starts_with('0')));
        assert_eq!(drawn[0].shown().expose(), drawn[0].canonical());
        for other in ["1234567", "123456789", "1234567A", "１２３４５６７"] {
            assert!(!is_short(&Code::parse("code", other).expect("code")), "{other}");
        }
    }
}
