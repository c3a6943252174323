//! What providers say of a message, made fit to be kept: the one place all of it passes.

use countersign_core::{Letter, message::Words};

/// What stands in the place of something that is nobody's business.
const HIDDEN: &str = "…";
/// Digits in a row, from which on they are hidden whatever they are: a code, a number, a part of one.
const DIGITS: usize = 5;
/// The most characters that are kept.
const LONGEST: usize = 300;

/// Returns why a message was not sent, without its code, its destination or any long number.
pub fn reason(text: &str, letter: &Letter) -> String {
    hide_digits(&reference(text, letter))
}

/// Returns a provider's name for a message, without its code or its destination. Other numbers stay: they are the name.
pub fn reference(text: &str, letter: &Letter) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut text = one_line.split_whitespace().collect::<Vec<_>>().join(" ");
    for secret in secrets(letter) {
        text = hide(&text, &secret);
    }
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}{HIDDEN}", &text[..end]),
        None => text,
    }
}

/// Returns what must not be shown, in the forms in which servers repeat it.
fn secrets(letter: &Letter) -> Vec<String> {
    let to = letter.to.full();
    let mut secrets =
        vec![to.to_owned(), to.replace('@', "%40"), to.replace('+', "%2B"), to.replace('+', "")];
    if let Words::Code { code, .. } = &letter.words {
        secrets.push(code.expose().clone());
    }
    secrets
}

/// Replaces all occurrences, in whatever case.
fn hide(text: &str, secret: &str) -> String {
    if secret.is_empty() {
        return text.to_owned();
    }
    // Lower-casing may change how many bytes a character takes, so places are looked for in ASCII's sense only.
    let (lower, secret) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in lower.match_indices(&secret) {
        shown.push_str(&text[from..at]);
        shown.push_str(HIDDEN);
        from = at + found.len();
    }
    shown.push_str(&text[from..]);
    shown
}

/// Replaces runs of digits, also those that single spaces or dashes break up.
fn hide_digits(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (run, digits) = digit_run(&rest[start..]);
        shown.push_str(&rest[..start]);
        shown.push_str(if digits >= DIGITS { HIDDEN } else { &rest[start..start + run] });
        rest = &rest[start + run..];
    }
    shown.push_str(rest);
    shown
}

/// Returns the length of the run of digits a text begins with, and how many digits there are in it.
fn digit_run(text: &str) -> (usize, usize) {
    let (mut end, mut digits) = (0, 0);
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '0'..='9' => {
                digits += 1;
                end = at + 1;
            }
            ' ' | '-' if previous.is_ascii_digit() => {}
            _ => break,
        }
        previous = c;
    }
    (end, digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::{
        Channel, Destination, Locale, Secret, Timestamp,
        message::{CodePurpose, Notice},
    };

    fn letter(channel: Channel, to: &str, words: Words) -> Letter {
        Letter {
            to: Destination::parse(channel, "to", to).expect(to),
            locale: Locale::default(),
            product: "Acme".into(),
            name: "Ada".into(),
            at: Timestamp::from_seconds(0),
            expires_at: Timestamp::from_seconds(600),
            words,
        }
    }

    fn code() -> Words {
        Words::Code { code: Secret::new("4711".to_owned()), purpose: CodePurpose::SignIn }
    }

    #[test]
    fn a_reason_tells_neither_the_code_nor_the_destination() {
        let mail = letter(Channel::Mail, "Ada.L@Example.com", code());
        for (said, kept) in [
            ("550 5.1.1 <ada.l@example.com>: no such user", "550 5.1.1 <…>: no such user"),
            ("ADA.L@EXAMPLE.COM is full", "… is full"),
            ("GET /?to=Ada.L%40Example.com&text=4711", "GET /?to=…&text=…"),
            ("line one\r\nline\ttwo \u{7}", "line one line two"),
            ("your ticket is 48151", "your ticket is …"),
            ("try 123 456 or 123-456 or 1 2 3 4 5 6", "try … or … or …"),
            (
                "connect 127.0.0.1:2525: refused (os error 111)",
                "connect 127.0.0.1:2525: refused (os error 111)",
            ),
            ("ünïcode 4711 ünïcode", "ünïcode … ünïcode"),
            ("", ""),
        ] {
            assert_eq!(reason(said, &mail), kept);
        }

        let sms = letter(Channel::Sms, "+4915112345678", code());
        for said in ["to +4915112345678", "to 4915112345678", "to +49 151 12345678", "to %2B4915112345678"] {
            let kept = reason(said, &sms);
            assert!(kept.starts_with("to ") && kept.ends_with('…') && !kept.contains("678"), "{kept}");
        }
    }

    #[test]
    fn a_reference_keeps_the_numbers_that_are_not_ours() {
        let words = Words::Notice { what: Notice::FactorAdded, concerns: None, ip: None };
        let sms = letter(Channel::Sms, "+4915112345678", words);

        assert_eq!(reference("1234567890", &sms), "1234567890");
        assert_eq!(reference("SM-4915112345678-1", &sms), "SM-…-1");
    }

    #[test]
    fn a_long_text_is_cut() {
        let mail = letter(Channel::Mail, "ada@example.com", code());

        assert_eq!(reason(&"ä".repeat(5000), &mail).chars().count(), LONGEST + 1);
    }
}
