//! What strings and layouts may say: the values of one letter, made safe to be put into a message.

use super::vocabulary::Language;
use crate::error::Result;
use countersign_core::{Channel, Letter, Timestamp, message::Words};
use minijinja::Value;
use std::{collections::BTreeMap, time::Duration};

/// Values by the names strings and layouts call them.
pub(super) type Given = BTreeMap<&'static str, Value>;

/// The values of one letter.
#[derive(Debug)]
pub(super) struct Facts {
    shared: Given,
    code: Option<String>,
    url: Option<String>,
    digits: String,
    direction: &'static str,
    tag: String,
}

impl Facts {
    /// Takes the values out of a letter; `render` puts those into words that differ by language.
    pub(super) fn of(
        letter: &Letter,
        language: &Language,
        now: Timestamp,
        render: impl Fn(&str, &Given) -> Result<String>,
    ) -> Result<Self> {
        let isolates = language.is_right_to_left() && letter.to.channel() == Channel::Mail;
        let value = |text: &str| isolated(&one_line(text), isolates);
        let mut facts = Self {
            shared: BTreeMap::from([
                ("product", value(&letter.product).into()),
                ("name", value(greeted(letter)).into()),
                ("time", time(letter.at).into()),
            ]),
            code: None,
            url: None,
            digits: String::new(),
            direction: if language.is_right_to_left() { "rtl" } else { "ltr" },
            tag: language.tag.clone(),
        };
        match &letter.words {
            Words::Code { code, .. } => {
                let digits: Vec<String> = code.expose().chars().map(String::from).collect();
                facts.digits = digits.join(&language.pause);
                facts.code = Some(code.expose().clone());
                facts.shared.insert("minutes", minutes(letter, now).into());
                facts.shared.insert("clock", clock(letter.at).into());
                let life = render(&language.strings["code.life"], &facts.shared)?;
                facts.shared.insert("life", life.into());
            }
            Words::Notice { concerns, ip, .. } => {
                let concerns = concerns.as_deref().unwrap_or_default();
                let method = match language.strings.get(&format!("methods.{}", concerns.to_lowercase())) {
                    Some(string) => render(string, &Given::new())?,
                    None => value(concerns),
                };
                facts.shared.insert("method", method.into());
                facts.shared.insert("ip", one_line(ip.as_deref().unwrap_or_default()).into());
            }
            Words::EnrolmentLink { url } => {
                facts.url = Some(url.expose().clone());
                facts.shared.insert("hours", hours(letter, now).into());
                let life = render(&language.strings["link.life"], &facts.shared)?;
                facts.shared.insert("life", life.into());
            }
            Words::Test => {}
        }
        Ok(facts)
    }

    /// Returns what the string `key` may say. The code only where it belongs: never in a subject.
    pub(super) fn for_string(&self, key: &str) -> Given {
        let mut given = self.shared.clone();
        match &self.code {
            Some(code) if key == "sms" => drop(given.insert("code", code.as_str().into())),
            Some(_) if key == "spoken" => drop(given.insert("digits", self.digits.as_str().into())),
            _ => {}
        }
        given
    }

    /// Returns what a layout may show.
    pub(super) fn for_layout(&self) -> Given {
        let mut given = self.shared.clone();
        if let Some(code) = &self.code {
            given.insert("code", code.as_str().into());
        }
        if let Some(url) = &self.url {
            given.insert("url", url.as_str().into());
        }
        given.insert("direction", self.direction.into());
        given.insert("language", self.tag.as_str().into());
        given
    }
}

/// Returns text on one line, without control characters and invisible marks: they could forge lines and turn text around.
pub(super) fn one_line(text: &str) -> String {
    let plain: String = text
        .chars()
        .filter(|c| !matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}'))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Keeps a value in its own direction within text that runs the other way (Unicode Standard Annex 9, §2.4).
fn isolated(text: &str, isolates: bool) -> String {
    if isolates && !text.is_empty() { format!("\u{2068}{text}\u{2069}") } else { text.to_owned() }
}

/// Returns the name to greet by. A test goes to no person in particular, and bears the organisation's name.
fn greeted(letter: &Letter) -> &str {
    let is_test = matches!(letter.words, Words::Test);
    if is_test || is_address(&letter.name) { "" } else { &letter.name }
}

/// Tells whether a name reads like an address, which mail programs would turn into a link.
fn is_address(name: &str) -> bool {
    let mut last_words = name.split('.').skip(1);
    name.contains(['/', '@', '\\'])
        || last_words.any(|rest| rest.chars().take_while(|c| c.is_alphanumeric()).count() >= 2)
}

/// Returns a time as everybody reads it alike.
fn time(at: Timestamp) -> String {
    // RFC 3339 begins with date, `T`, hours and minutes.
    at.to_string().get(..16).map(|text| format!("{} UTC", text.replace('T', " "))).unwrap_or_default()
}

/// Returns the time of day, by which messages of one day are told apart.
fn clock(at: Timestamp) -> String {
    time(at).split_off(11)
}

/// What a minute may lack and still be said: a code that leaves at once is good for ten minutes, not for nine.
const GRACE: Duration = Duration::from_secs(10);

/// Returns how many whole minutes a code is still good for; the last one is counted as a whole one, too.
fn minutes(letter: &Letter, now: Timestamp) -> u64 {
    ((now.until(letter.expires_at) + GRACE).as_secs() / 60).max(1)
}

/// What an hour may lack and still be said: a link that leaves within minutes is good for a day.
const GRACE_OF_LINKS: Duration = Duration::from_secs(300);

/// Returns how many whole hours a link is still good for; the last one is counted as a whole one, too.
fn hours(letter: &Letter, now: Timestamp) -> u64 {
    ((now.until(letter.expires_at) + GRACE_OF_LINKS).as_secs() / 3600).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_visible_line() {
        assert_eq!(one_line(" Ada\r\n\u{202E}Lovelace\u{0}\t "), "Ada Lovelace");
        assert_eq!(one_line("@evil.example\u{2028}#1"), "@evil.example #1");
    }

    #[test]
    fn nobody_is_greeted_by_an_address() {
        for name in ["Visit evil.example now", "https://evil", "ada@example.com", "evil.example/x"] {
            assert!(is_address(name), "{name}");
        }
        for name in ["Ada Lovelace", "J.R.R. Tolkien", "Dr. Ada", "أدا"] {
            assert!(!is_address(name), "{name}");
        }
    }

    #[test]
    fn a_time_is_read_alike_everywhere() {
        let at = Timestamp::from_millis(1_795_341_600_123);

        assert_eq!((time(at), clock(at)), ("2026-11-22 10:00 UTC".into(), "10:00 UTC".into()));
    }
}
