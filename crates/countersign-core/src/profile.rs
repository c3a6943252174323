//! What describes a person: names and addresses, right by construction.
//!
//! Names are stored as given and matched by their *key*: NFKC, case-folded, trimmed.

use crate::refusal::Invalid;
use caseless::Caseless;
use serde::{Deserialize, Serialize};
use std::fmt;
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

/// The most characters a username may have.
pub const USERNAME_LIMIT: usize = 128;
/// The most characters a display name, a label or a client's name may have.
pub const NAME_LIMIT: usize = 128;
/// The most octets of an address (RFC 5321 §4.5.3.1.3: a path of 256 less its brackets).
pub const EMAIL_LIMIT: usize = 254;

/// Returns the form in which names are compared: NFKC, case-folded, trimmed.
pub fn matching_key(text: &str) -> String {
    if text.is_ascii() {
        // The same for plain letters, and this runs with every verification.
        return text.trim().to_ascii_lowercase();
    }
    // Folding may undo the normal form (UTS #36 §2.11), so it is normalised once more.
    text.trim().nfkc().default_case_fold().nfkc().collect()
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Returns the text as given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type! {
    /// A name to sign in and to be found by; unique in its organisation, neither UUID-shaped nor all digits.
    Username
}
text_type! {
    /// A name for people to read: a person's, a client's or an organisation's.
    DisplayName
}
text_type! {
    /// What a person calls a factor, such as `work phone`.
    Label
}
text_type! {
    /// An e-mail address; unique in its organisation.
    Email
}
text_type! {
    /// A telephone number in E.164 form, such as `+4930123456`.
    Phone
}

impl Username {
    /// Takes a username, trimmed.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let text = readable(field, text, USERNAME_LIMIT)?;
        if text.contains('/') || text == "." || text == ".." {
            return Err(Invalid::new(field, "a username cannot contain / or be a relative path"));
        }
        if Uuid::try_parse(&text).is_ok() || matching_key(&text).bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Invalid::new(field, "a username cannot be all digits or have the shape of an id"));
        }
        Ok(Self(text))
    }

    /// Returns the form it is matched by.
    pub fn key(&self) -> String {
        matching_key(&self.0)
    }
}

impl DisplayName {
    /// Takes a name of 1 to [`NAME_LIMIT`] characters, trimmed.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        readable(field, text, NAME_LIMIT).map(Self)
    }
}

impl Label {
    /// Takes a label of 1 to [`NAME_LIMIT`] characters, trimmed.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        readable(field, text, NAME_LIMIT).map(Self)
    }
}

impl Email {
    /// Takes an address `local@domain`. Whether mail arrives there only a sent code can show.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let text = readable(field, text, EMAIL_LIMIT)?;
        let domain_is_fine = |domain: &str| {
            domain.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            })
        };
        match text.rsplit_once('@') {
            Some((local, domain))
                if !local.is_empty()
                    && text.len() <= EMAIL_LIMIT
                    && !text.contains(char::is_whitespace)
                    && !local.contains('@')
                    && domain_is_fine(domain) =>
            {
                Ok(Self(text))
            }
            _ => Err(Invalid::new(field, "expected an e-mail address such as ada@example.com")),
        }
    }

    /// Returns the form it is matched by.
    pub fn key(&self) -> String {
        matching_key(&self.0)
    }
}

impl Phone {
    /// Takes a number in E.164 form; blanks, dots, hyphens and brackets are dropped.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let text: String = text.nfkc().filter(|c| !c.is_whitespace() && !"-.()".contains(*c)).collect();
        match text.strip_prefix('+') {
            Some(digits)
                if (8..=15).contains(&digits.len())
                    && !digits.starts_with('0')
                    && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                Ok(Self(text))
            }
            _ => Err(Invalid::new(field, "expected a number with its country, such as +4930123456")),
        }
    }
}

/// Trims, and refuses what is empty, too long or cannot be shown on one line.
fn readable(field: &str, text: &str, limit: usize) -> Result<String, Invalid> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Invalid::new(field, "cannot be empty"));
    }
    if text.chars().count() > limit {
        return Err(Invalid::new(field, format!("at most {limit} characters")));
    }
    if text.chars().any(is_unreadable) {
        return Err(Invalid::new(field, "cannot contain control or invisible formatting characters"));
    }
    Ok(text.to_owned())
}

/// Control characters break logs; zero-width and bidirectional marks make two names look alike.
fn is_unreadable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_match() {
        assert_eq!(matching_key("  Straße "), matching_key("STRASSE"));
        assert_eq!(matching_key("ＡＤＡ"), "ada");
        assert_eq!(Username::parse("username", " Ada ").map(|name| name.to_string()), Ok("Ada".into()));
    }

    #[test]
    fn plain_letters_take_a_shorter_way_to_the_same_key() {
        let long_way = |text: &str| -> String { text.trim().nfkc().default_case_fold().nfkc().collect() };
        let ascii: String = (0..128_u8).map(char::from).collect();

        assert_eq!(matching_key(&ascii), long_way(&ascii));
    }

    #[test]
    fn a_username_is_neither_a_number_nor_an_id_nor_a_path() {
        for text in [
            "1000",
            "１０００",
            "0190163d-8694-739b-aea5-966c26f8ad91",
            "a/b",
            "..",
            "",
            " ",
            "a\nb",
            "a\u{202E}b",
        ] {
            assert!(Username::parse("username", text).is_err(), "{text:?}");
        }
        assert!(Username::parse("username", &"x".repeat(129)).is_err());
    }

    #[test]
    fn addresses_are_checked_for_shape() {
        for text in ["ada@example.com", "a.b+c@sub.example.org", "ünï@exämple.de"] {
            assert!(Email::parse("email", text).is_ok(), "{text}");
        }
        for text in
            ["ada", "@example.com", "ada@", "a b@example.com", "a@b@example.com", "a@-x.com", "a@x..com"]
        {
            assert!(Email::parse("email", text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_kept_in_e164_form() {
        assert_eq!(
            Phone::parse("phone", "+49 (30) 123-456").map(|phone| phone.to_string()),
            Ok("+4930123456".into())
        );
        assert!(Phone::parse("phone", "030 123456").is_err());
        assert!(Phone::parse("phone", "+0301234567").is_err());
    }
}
