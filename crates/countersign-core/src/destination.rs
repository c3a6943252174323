//! Where codes and notices go, and how little of that is shown.

use crate::{
    factor::Kind,
    profile::{Email, Phone},
    refusal::Invalid,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A way messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// E-mail.
    Mail,
    /// Text messages.
    Sms,
    /// Telephone calls.
    Voice,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 3] = [Self::Mail, Self::Sms, Self::Voice];

    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Sms => "sms",
            Self::Voice => "voice",
        }
    }

    /// Reads a channel's name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.name() == text)
            .ok_or_else(|| Invalid::new(field, "expected mail, sms or voice"))
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a message goes, and by which channel. Prints masked.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// An address, by mail.
    Email(Email),
    /// A number, by text message.
    Sms(Phone),
    /// A number, by a call.
    Voice(Phone),
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.channel(), self.masked())
    }
}

impl Destination {
    /// Reads where a channel is to reach somebody.
    pub fn parse(channel: Channel, field: &str, text: &str) -> Result<Self, Invalid> {
        Ok(match channel {
            Channel::Mail => Self::Email(Email::parse(field, text)?),
            Channel::Sms => Self::Sms(Phone::parse(field, text)?),
            Channel::Voice => Self::Voice(Phone::parse(field, text)?),
        })
    }

    /// Returns the channel.
    pub const fn channel(&self) -> Channel {
        match self {
            Self::Email(_) => Channel::Mail,
            Self::Sms(_) => Channel::Sms,
            Self::Voice(_) => Channel::Voice,
        }
    }

    /// Returns the kind of factor that sends there.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Email(_) => Kind::Email,
            Self::Sms(_) => Kind::Sms,
            Self::Voice(_) => Kind::Voice,
        }
    }

    /// Returns the whole address or number. For the one who sends; everybody else shows [`Destination::masked`].
    pub fn full(&self) -> &str {
        match self {
            Self::Email(email) => email.as_str(),
            Self::Sms(phone) | Self::Voice(phone) => phone.as_str(),
        }
    }

    /// Returns what may be shown: enough for its owner to recognise, too little for anybody else to use.
    ///
    /// `a•••@e•••.com`, `+49•••••56`.
    pub fn masked(&self) -> String {
        match self {
            Self::Email(email) => mask_email(email.as_str()),
            Self::Sms(phone) | Self::Voice(phone) => mask_phone(phone),
        }
    }

    /// Returns the form by which messages to the same place are counted.
    pub fn key(&self) -> String {
        match self {
            Self::Email(email) => format!("mail:{}", email.key()),
            Self::Sms(phone) => format!("sms:{phone}"),
            Self::Voice(phone) => format!("voice:{phone}"),
        }
    }
}

fn mask_email(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let first = |text: &str| text.chars().next().map(String::from).unwrap_or_default();
    match domain.rsplit_once('.') {
        Some((name, top)) => format!("{}•••@{}•••.{top}", first(local), first(name)),
        None => format!("{}•••@{}•••", first(local), first(domain)),
    }
}

fn mask_phone(phone: &Phone) -> String {
    let (number, digits) = (phone.as_str(), phone.country_digits());
    // At least four digits stay hidden, whatever the country.
    let shown = number.len().saturating_sub(1 + digits + 4).min(2);
    let hidden = number.len() - 1 - digits - shown;
    format!("{}{}{}", &number[..=digits], "•".repeat(hidden), &number[number.len() - shown..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(channel: Channel, text: &str) -> String {
        Destination::parse(channel, "destination", text).expect(text).masked()
    }

    #[test]
    fn a_masked_destination_shows_little() {
        assert_eq!(masked(Channel::Mail, "ada.lovelace@mail.example.com"), "a•••@m•••.com");
        assert_eq!(masked(Channel::Sms, "+4930123456"), "+49••••••56");
        assert_eq!(masked(Channel::Voice, "+12025550143"), "+1••••••••43");
    }
}
