//! What somebody typed, and what it is meant to prove.

use crate::{
    factor::{Kind, scratch::Stretched},
    id::{ChallengeId, FactorId},
    refusal::Invalid,
    secret::Secret,
};
use unicode_normalization::UnicodeNormalization;

/// The most characters a code may have once blanks and hyphens are gone.
pub const CODE_LIMIT: usize = 64;
/// The most characters of a request id.
pub const REQUEST_ID_LIMIT: usize = 64;

/// A code as somebody typed it, normalised once: full-width digits made plain, blanks and hyphens dropped, upper case.
#[derive(Debug, Clone)]
pub struct Code(Secret<String>);

impl Code {
    /// Reads what came in as `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        // Bounded before it is normalised: NFKC can make one character into eighteen.
        if text.chars().count() > 2 * CODE_LIMIT {
            return Err(Invalid::new(field, format!("at most {CODE_LIMIT} characters")));
        }
        // NFKC leaves ASCII as it is, and nearly all codes are.
        let code = if text.is_ascii() { plain(text.chars()) } else { plain(text.nfkc()) };
        match code.chars().count() {
            0 => Err(Invalid::new(field, "cannot be empty")),
            1..=CODE_LIMIT => Ok(Self(code.into())),
            _ => Err(Invalid::new(field, format!("at most {CODE_LIMIT} characters"))),
        }
    }

    /// Returns the normalised characters.
    pub fn as_str(&self) -> &str {
        self.0.expose()
    }
}

/// Leaves out what people type to structure a code, and writes the rest in one way.
fn plain(typed: impl Iterator<Item = char>) -> String {
    let meant = typed.filter(|c| !c.is_whitespace() && !is_hyphen(*c));
    meant.map(plain_digit).flat_map(char::to_uppercase).collect()
}

/// Makes a digit of an Arabic keyboard the one it stands for: NFKC leaves digits of other scripts as they are.
fn plain_digit(c: char) -> char {
    let zero = match c {
        '\u{660}'..='\u{669}' => 0x660,
        '\u{6F0}'..='\u{6F9}' => 0x6F0,
        _ => return c,
    };
    char::from_digit(u32::from(c) - zero, 10).unwrap_or(c)
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// What an attempt is tried against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Every active OTP factor; counts as one attempt.
    AnyOtp,
    /// Every active OTP factor, then the recovery codes; counts as one attempt.
    Any,
    /// Every active factor of one kind; counts as one attempt.
    Kind(Kind),
    /// One factor.
    Factor(FactorId),
    /// One code that was sent.
    Challenge(ChallengeId),
}

impl Target {
    /// Tells whether a recovery code may pass.
    pub const fn covers_recovery(self) -> bool {
        matches!(self, Self::Any | Self::Kind(Kind::Recovery))
    }
}

/// A caller's own name for an attempt: given again, it gets the first answer again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// Takes 1 to [`REQUEST_ID_LIMIT`] printable ASCII characters without blanks.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        if text.is_empty()
            || text.len() > REQUEST_ID_LIMIT
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Invalid::new(
                field,
                format!("expected 1 to {REQUEST_ID_LIMIT} printable ASCII characters without blanks"),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One try to prove possession of a second factor.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What was typed.
    pub code: Code,
    /// What it is tried against.
    pub target: Target,
    /// The caller's own name for this attempt.
    pub request: Option<RequestId>,
    /// The code after the slow hash that short recovery codes go through, where it was computed.
    pub stretched: Option<Stretched>,
}

impl Attempt {
    /// Makes an attempt without a name.
    pub const fn new(code: Code, target: Target) -> Self {
        Self { code, target, request: None, stretched: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_normalised_once_at_the_edge() {
        for typed in [
            "123456",
            "123 456",
            " 123-456 ",
            "１２３４５６",
            "123\u{2011}456",
            "123\u{00A0}456",
            "١٢٣٤٥٦",
            "۱۲۳۴۵۶",
        ] {
            assert_eq!(Code::parse("code", typed).expect(typed).as_str(), "123456");
        }
        assert_eq!(Code::parse("code", "abcd-efgh").expect("letters").as_str(), "ABCDEFGH");
    }

    #[test]
    fn a_code_is_neither_empty_nor_endless() {
        assert!(Code::parse("code", " - ").is_err());
        assert!(Code::parse("code", &"1".repeat(65)).is_err());
        assert!(Code::parse("code", &"1".repeat(1_000_000)).is_err());
    }

    #[test]
    fn a_code_does_not_print() {
        assert!(!format!("{:?}", Code::parse("code", "123456")).contains("123456"));
    }
}
