//! What providers say of a message, made fit to be kept: the one place all of it passes.

use countersign_core::{Letter, message::Words};

/// What stands in the place of something that is nobody's business.
const HIDDEN: &str = "…";
/// Digits in a row, from which on they are hidden whatever they are: any code has as many. Providers' own codes have
/// fewer.
const DIGITS: usize = 6;
/// Digits in a row, from which on they are hidden if the code or the number has the same.
const PIECE: usize = 4;
/// The most characters that are kept.
const LONGEST: usize = 300;

/// Returns why a message was not sent, without its code, its destination, a piece of either or any long number. What is
/// left are statuses and providers' codes for what went wrong, which somebody will look up.
pub fn reason(text: &str, letter: &Letter) -> String {
    hide_digits(&hide_local_part(&reference(text, letter), letter), &digits_of(letter))
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
    match &letter.words {
        Words::Code { code, .. } => secrets.push(code.expose().clone()),
        Words::EnrolmentLink { url } => secrets.extend(pieces_of_link(url.expose())),
        Words::Notice { .. } | Words::Test => {}
    }
    secrets
}

/// Returns a link, and the token in it by itself: a mail server may quote either.
fn pieces_of_link(url: &str) -> impl Iterator<Item = String> {
    [Some(url), url.split_once("token=").map(|(_, token)| token)].into_iter().flatten().map(str::to_owned)
}

/// Returns the digits of the code and those of the number, of which no piece is to be shown.
fn digits_of(letter: &Letter) -> Vec<String> {
    let mut all = vec![digits(letter.to.full())];
    if let Words::Code { code, .. } = &letter.words {
        all.push(digits(code.expose()));
    }
    all
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Replaces what stands before the @ of the destination, where it is a word of its own.
fn hide_local_part(text: &str, letter: &Letter) -> String {
    let Some((local, _)) = letter.to.full().split_once('@') else { return text.to_owned() };
    let is_bound = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in text.to_ascii_lowercase().match_indices(&local.to_ascii_lowercase()) {
        let end = at + found.len();
        if is_bound(text[..at].chars().next_back()) && is_bound(text[end..].chars().next()) {
            shown.push_str(&text[from..at]);
            shown.push_str(HIDDEN);
            from = end;
        }
    }
    shown.push_str(&text[from..]);
    shown
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

/// Replaces runs of digits that are long or a piece of something secret, also those that single spaces or dashes break up.
fn hide_digits(text: &str, secrets: &[String]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let run = digit_run(&rest[start..]);
        let is_hidden = is_telling(&digits(&rest[start..start + run]), secrets);
        shown.push_str(&rest[..start]);
        shown.push_str(if is_hidden { HIDDEN } else { &rest[start..start + run] });
        rest = &rest[start + run..];
    }
    shown.push_str(rest);
    shown
}

fn is_telling(run: &str, secrets: &[String]) -> bool {
    let has_piece = |secret: &String| (PIECE..=run.len()).any(|end| secret.contains(&run[end - PIECE..end]));
    run.len() >= DIGITS || secrets.iter().any(has_piece)
}

/// Returns the length of the run of digits a text begins with.
fn digit_run(text: &str) -> usize {
    let mut end = 0;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '0'..='9' => end = at + 1,
            ' ' | '-' if previous.is_ascii_digit() => {}
            _ => break,
        }
        previous = c;
    }
    end
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
            ("your ticket is 481516", "your ticket is …"),
            ("unknown user ada.l, not adabel.lee", "unknown user …, not adabel.lee"),
            ("is it 14711?", "is it 1…?"),
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

    // A trial found all of these made into "…".
    #[test]
    fn what_an_operator_looks_up_stays() {
        for (channel, to) in [(Channel::Sms, "+4915112345678"), (Channel::Mail, "ada@example.com")] {
            let letter = letter(channel, to, code());
            for said in [
                "main: status 400, code 21211",
                "main: status 401, code 20003",
                "main: status 400, code 21608, asks for a pause of 30 s",
                "main: status 422, code E-30006",
                "centre: the message centre answered ESME_RINVDSTADR (0x0b)",
                "centre: the message centre answered 0x0400",
                "relay: hand over the mail: 550 5.7.1 blocked (S3140), AS(7555)",
                "connect 127.0.0.1:2525: refused (os error 111)",
            ] {
                assert_eq!(reason(said, &letter), said);
            }
        }
    }

    #[test]
    fn a_piece_of_the_code_or_the_number_is_hidden_wherever_a_provider_puts_it() {
        let sms = letter(Channel::Sms, "+4915112345678", code());
        for (said, kept) in [
            ("status 400, code 4711", "status 400, code …"),
            ("status 400, code 49151", "status 400, code …"),
            ("status 400, code E-5678", "status 400, code E-…"),
            ("status 400, code x15112y", "status 400, code x…y"),
            ("status 400, code 0151-1", "status 400, code …"),
        ] {
            assert_eq!(reason(said, &sms), kept);
        }
    }

    #[test]
    fn a_reason_tells_no_link_and_no_token() {
        let words =
            Words::EnrolmentLink { url: Secret::new("https://x.example/enrol?token=csl_aZ9".to_owned()) };
        let mail = letter(Channel::Mail, "ada@example.com", words);

        let said = "554 https://x.example/enrol?token=csl_aZ9 is listed; csl_aZ9 too";

        assert_eq!(reason(said, &mail), "554 … is listed; … too");
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
