//! How a person is named in a path or a request.

use crate::{
    id::UserId,
    profile::{USERNAME_LIMIT, matching_key},
    refusal::Invalid,
};
use std::fmt;
use uuid::Uuid;

/// A name for a person: what looks like a UUID is an id, all digits a number, anything else a username.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handle {
    /// The person's id.
    Id(UserId),
    /// The person's number in their organisation.
    Number(u64),
    /// The person's username, in the form it is matched by.
    Username(String),
    /// The person's e-mail address, in the form it is matched by. Never guessed from a path; asked for by name.
    Email(String),
}

impl Handle {
    /// Reads a handle from a path segment or member called `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        if let Ok(uuid) = Uuid::try_parse(text) {
            return Ok(Self::Id(UserId::from_uuid(uuid)));
        }
        let key = matching_key(text);
        if key.is_empty() || key.chars().count() > USERNAME_LIMIT {
            return Err(Invalid::new(field, "expected an id, a number or a username"));
        }
        if key.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = key.parse().map_err(|_| Invalid::new(field, "the number is out of range"))?;
            return Ok(Self::Number(number));
        }
        Ok(Self::Username(key))
    }

    /// Names a person by an e-mail address.
    pub fn email(text: &str) -> Self {
        Self::Email(matching_key(text))
    }
}

impl From<UserId> for Handle {
    fn from(id: UserId) -> Self {
        Self::Id(id)
    }
}

impl From<&Self> for Handle {
    fn from(handle: &Self) -> Self {
        handle.clone()
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Username(key) | Self::Email(key) => f.write_str(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_a_handle_says_what_it_names() {
        assert!(matches!(Handle::parse("user", "0190163d-8694-739b-aea5-966c26f8ad91"), Ok(Handle::Id(_))));
        assert_eq!(Handle::parse("user", "1000"), Ok(Handle::Number(1000)));
        assert_eq!(Handle::parse("user", "Ada"), Ok(Handle::Username("ada".into())));
        assert!(Handle::parse("user", "").is_err());
        assert!(Handle::parse("user", &"9".repeat(30)).is_err());
    }
}
