//! The language a person is written to and spoken with.

use crate::refusal::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most characters of a language tag that is taken.
pub const LOCALE_LIMIT: usize = 35;

/// A language tag (BCP 47) such as `de` or `pt-BR`, in the case RFC 5646 §2.1.1 recommends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Locale(String);

impl Locale {
    /// Takes a tag; the underscore of POSIX locales is understood too.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new(field, "expected a language tag such as en, de or pt-BR");
        if text.len() > LOCALE_LIMIT {
            return Err(invalid());
        }
        let mut parts = text.trim().split(['-', '_']);
        let language = parts.next().unwrap_or_default();
        if !(2..=3).contains(&language.len()) || !language.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(invalid());
        }
        let mut tag = language.to_ascii_lowercase();
        for part in parts {
            if !(1..=8).contains(&part.len()) || !part.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(invalid());
            }
            tag.push('-');
            match part.len() {
                2 => tag.push_str(&part.to_ascii_uppercase()),
                4 if part.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                    tag.push_str(&part[..1].to_ascii_uppercase());
                    tag.push_str(&part[1..].to_ascii_lowercase());
                }
                _ => tag.push_str(&part.to_ascii_lowercase()),
            }
        }
        Ok(Self(tag))
    }

    /// Returns the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the language without region and script.
    pub fn language(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }
}

impl Default for Locale {
    /// English.
    fn default() -> Self {
        Self("en".into())
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_brought_into_its_recommended_case() {
        for (given, taken) in
            [("de", "de"), ("PT_br", "pt-BR"), ("zh-hant-tw", "zh-Hant-TW"), ("es-419", "es-419")]
        {
            let locale = Locale::parse("locale", given).expect(given);

            assert_eq!(locale.as_str(), taken);
            assert_eq!(locale.language(), &taken[..2]);
        }
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for text in ["", "e", "english", "12", "de-", "de--AT", "../de", "de/AT", "dé", &"de-".repeat(20)] {
            assert!(Locale::parse("locale", text).is_err(), "{text}");
        }
    }
}
