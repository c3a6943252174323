//! What describes a person: names and addresses, right by construction.
//!
//! Names are stored as given and matched by their *key*: NFKC, case-folded, trimmed.

use crate::refusal::Invalid;
use caseless::Caseless;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, PhoneNumberType};
use serde::{Deserialize, Serialize};
use std::fmt;
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

/// The most characters a username may have.
pub const USERNAME_LIMIT: usize = 128;
/// The most characters a display name, a label or a client's name may have.
pub const NAME_LIMIT: usize = 128;
/// The most characters a description may have.
pub const DESCRIPTION_LIMIT: usize = 256;
/// Names that stand where a username may stand in the paths of a dialect, in the form they are matched by: whoever had
/// one could not be named there.
pub const RESERVED: [&str; 4] = ["mfa", "mfadetails", "groups", "tenants"];
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
    /// A line about a person, for those who look after them.
    Description
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
        if RESERVED.contains(&matching_key(&text).as_str()) {
            return Err(Invalid::new(field, "this name is reserved: it is a word of other servers' paths"));
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

    /// Returns the form it is matched by.
    pub fn key(&self) -> String {
        matching_key(&self.0)
    }
}

impl Description {
    /// Takes a line of 1 to [`DESCRIPTION_LIMIT`] characters, trimmed.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        readable(field, text, DESCRIPTION_LIMIT).map(Self)
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
        // No comments, quotes or address literals: nobody's mailbox needs them, and filters trip over them.
        let options = email_address::Options::default()
            .with_required_tld()
            .without_domain_literal()
            .without_display_text();
        match email_address::EmailAddress::parse_with_options(&text, options) {
            Ok(address) if text.len() <= EMAIL_LIMIT && !address.local_part().starts_with('"') => {
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

/// What kind of line a number is, as far as the numbering plans tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// An ordinary fixed or mobile line.
    Ordinary,
    /// One that costs its caller more: premium-rate and shared-cost ranges.
    Premium,
    /// In no range that is assigned to anybody.
    Unassigned,
}

impl Phone {
    /// Takes a number with its country, in any of the usual spellings; it is kept in E.164 form.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new(field, "expected a number with its country, such as +4930123456");
        let text: String = text.nfkc().collect();
        if !text.trim_start().starts_with('+') || text.len() > 64 {
            return Err(invalid());
        }
        let number = PHONE_NUMBER_UTIL.parse(&text, None).map_err(|_| invalid())?;
        if number.extension.is_some() {
            return Err(Invalid::new(field, "a number with an extension cannot be reached by a message"));
        }
        let number = number.format_as(PhoneNumberFormat::E164).into_owned();
        // E.164 §6.1: at most 15 digits; no plan has subscribers with fewer than 7.
        if !(8..=16).contains(&number.len()) {
            return Err(invalid());
        }
        Ok(Self(number))
    }

    /// Returns the country as an ISO 3166 code such as `DE`; `None` where the number belongs to none.
    pub fn country(&self) -> Option<String> {
        // 001 stands for what is no country's: satellites, international freephone.
        let region = self.number()?.get_region_code()?.to_string();
        (region != "001").then_some(region)
    }

    /// Tells whether an ISO 3166 code such as `DE` is one that [`Phone::country`] returns.
    pub fn is_country(code: &str) -> bool {
        code != "001" && PHONE_NUMBER_UTIL.get_supported_regions().any(|region| region.to_string() == code)
    }

    /// Returns how many digits of the number are the country's code.
    pub fn country_digits(&self) -> usize {
        self.number().map_or(1, |number| number.country_code.to_string().len())
    }

    /// Returns what kind of line it is.
    pub fn line(&self) -> Line {
        match self.number() {
            Some(number) if number.is_valid() => match number.get_type() {
                PhoneNumberType::PremiumRate | PhoneNumberType::SharedCost => Line::Premium,
                _ => Line::Ordinary,
            },
            _ => Line::Unassigned,
        }
    }

    fn number(&self) -> Option<PhoneNumber> {
        PHONE_NUMBER_UTIL.parse(&self.0, None).ok()
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
    fn a_username_is_no_word_of_a_dialects_paths() {
        for text in ["mfa", "mfaDetails", "MFA", "groups", " tenants "] {
            assert!(Username::parse("username", text).is_err(), "{text:?}");
        }
        assert!(Username::parse("username", "mfa@example.com").is_ok());
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
        assert_eq!(
            Phone::parse("phone", "+49 (0) 30 / 123456").map(|phone| phone.to_string()),
            Ok("+4930123456".into())
        );
        for text in
            ["030 123456", "+0301234567", "+999123456789", "+49", "+1", "+4930123456 ext. 7", "+49a", ""]
        {
            assert!(Phone::parse("phone", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_tells_its_country_and_its_line() {
        for (text, country, line) in [
            ("+4915112345678", Some("DE"), Line::Ordinary),
            ("+4930123456", Some("DE"), Line::Ordinary),
            ("+12025550143", Some("US"), Line::Ordinary),
            ("+16045550143", Some("CA"), Line::Ordinary),
            ("+499001234567", Some("DE"), Line::Premium),
            ("+19005550143", Some("US"), Line::Premium),
            ("+12005550143", None, Line::Unassigned),
        ] {
            let phone = Phone::parse("phone", text).expect(text);

            assert_eq!((phone.country().as_deref(), phone.line()), (country, line), "{text}");
        }
    }
}
