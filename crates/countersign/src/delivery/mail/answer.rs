//! What servers answer, and what of that may be shown.

use crate::delivery::Failure;
use countersign_core::profile::Email;
use lettre::transport::smtp::Error as SmtpError;
use std::error::Error;

/// The most characters of a server's words that are shown.
const SHOWN: usize = 160;

/// How far a mail got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting and TLS.
    Connect,
    /// `AUTH`.
    SignIn,
    /// `MAIL FROM`: we are known by now, the recipient is not.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA` and what follows.
    Content,
}

impl Stage {
    const fn attempted(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::SignIn => "sign in",
            Self::Sender => "name the sender",
            Self::Recipient => "name the recipient",
            Self::Content => "hand over the mail",
        }
    }
}

/// Why a mail was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// The server said no, or nothing that makes sense.
    By(Stage, SmtpError),
    /// The server took too long.
    Timeout(Stage),
    /// The server lacks what we will not do without.
    Lacks(Stage, &'static str),
    /// The server does not want our account, now or when it was last asked; says why.
    Account(String),
}

impl Refused {
    /// Returns the failure, told without the recipient's address.
    pub(super) fn failure(&self, to: &Email) -> Failure {
        let reason = self.reason(|words| scrubbed(&without_numbers(words), to));
        if self.is_final() { Failure::Permanent(reason) } else { Failure::Temporary(reason) }
    }

    /// Returns the failure of an attempt that had no recipient yet.
    pub(super) fn before_any_mail(&self) -> Failure {
        Failure::Temporary(self.reason(|words| {
            let words = without_numbers(words);
            shortened(words.split_whitespace().map(|word| if word.contains('@') { "…" } else { word }))
        }))
    }

    /// Tells whether this is the server's last word on our name and password.
    pub(super) fn is_about_the_account(&self) -> bool {
        matches!(self, Self::By(Stage::SignIn, error) if error.is_permanent())
    }

    /// Tells whether asking again is pointless. What a server says before it knows the recipient is about us: another
    /// server may think otherwise, or this one once it is set right.
    fn is_final(&self) -> bool {
        match self {
            Self::By(stage, error) => {
                matches!(stage, Stage::Recipient | Stage::Content)
                    && error.is_permanent()
                    && !asks_to_sign_in(error)
            }
            Self::Lacks(stage, _) => *stage == Stage::Sender,
            Self::Timeout(_) | Self::Account(_) => false,
        }
    }

    fn reason(&self, shown: impl Fn(&str) -> String) -> String {
        match self {
            Self::Timeout(stage) => format!("{}: no answer in time", stage.attempted()),
            Self::Account(reason) => reason.clone(),
            Self::Lacks(stage, what) => format!("{}: {what}", stage.attempted()),
            Self::By(stage, error) => {
                let words = error.source().map(|source| shown(&source.to_string())).unwrap_or_default();
                match error.status() {
                    Some(status) => format!("{}: {status} {words}", stage.attempted()),
                    None => format!("{}: {words}", stage.attempted()),
                }
            }
        }
    }
}

/// RFC 4954 §6: these speak of us, not of the recipient.
fn asks_to_sign_in(error: &SmtpError) -> bool {
    error.status().is_some_and(|status| ["530", "534", "535", "538"].contains(&status.to_string().as_str()))
}

/// Returns a server's words without what names the recipient.
pub(super) fn scrubbed(words: &str, to: &Email) -> String {
    let local = to.as_str().split('@').next().unwrap_or_default().to_lowercase();
    shortened(words.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        if word.contains('@') || bare == local || (local.len() >= 4 && bare.contains(&local)) {
            "…"
        } else {
            word
        }
    }))
}

/// Leaves out what might be a code: six digits or more. Statuses and servers' own codes such as `S3140` stay.
fn without_numbers(words: &str) -> String {
    let is_number = |word: &str| word.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= 6);
    words
        .split_whitespace()
        .map(|word| if is_number(word) { "…" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

fn shortened<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_named_in_what_a_server_said() {
        let to = Email::parse("to", "ada.lovelace@example.com").expect("an address");
        for (said, shown) in [
            ("5.1.1 <ada.lovelace@example.com>: unknown", "5.1.1 … unknown"),
            ("5.1.1 mailbox Ada.Lovelace does not exist", "5.1.1 mailbox … does not exist"),
            ("5.1.1 forwarded to <al@x.example>, unknown", "5.1.1 forwarded to … unknown"),
            ("2.0.0 Ok: queued as 4F3B2\r\n", "2.0.0 Ok: queued as 4F3B2"),
        ] {
            assert_eq!(scrubbed(said, &to), shown);
        }
        assert_eq!(
            without_numbers("5.7.1 rejected: 123456 looks like spam"),
            "5.7.1 rejected: … looks like spam"
        );
        assert_eq!(without_numbers("5.7.1 blocked (S3140)"), "5.7.1 blocked (S3140)");
        assert_eq!(scrubbed(&"x ".repeat(500), &to).chars().count(), SHOWN);
    }
}
