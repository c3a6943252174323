//! Codes we draw for people to keep: recovery and emergency codes.
//!
//! Sixteen characters of Crockford's Base32 carry 80 bits, above the 64 that NIST SP 800-63B-4 §4.2.1.1 asks of a saved
//! recovery code, so a keyed hash is enough to store them. The alphabet has no I, L, O or U; who types one of the first
//! three means 1, 1 or 0.

use crate::{attempt::Code, secret::Secret};
use rand_core::CryptoRng;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHARACTERS: usize = 16;
const GROUP: usize = 4;

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

    /// Returns the form that is hashed.
    pub fn canonical(&self) -> &str {
        self.0.expose()
    }

    /// Returns the code in groups of four, as it is shown.
    pub fn shown(&self) -> Secret<String> {
        let groups: Vec<&str> =
            (0..CHARACTERS).step_by(GROUP).map(|start| &self.0.expose()[start..start + GROUP]).collect();
        groups.join("-").into()
    }
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
}
