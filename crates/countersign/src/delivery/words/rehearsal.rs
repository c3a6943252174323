//! Tries every template and string once, with letters of every kind, so that what is wrong shows at the start.

use super::{Templates, Written, layout};
use crate::error::{Error, Result};
use countersign_core::{
    Channel, Destination, Letter, Locale, Secret, Timestamp,
    message::{CodePurpose, Notice, Words},
};
use std::time::Duration;

/// Two codes, so that a message cannot just happen to have one of them.
const CODES: [&str; 2] = ["824619", "305738"];
const PURPOSES: [CodePurpose; 3] = [CodePurpose::Activation, CodePurpose::Verification, CodePurpose::SignIn];

/// Tries everything in every language.
pub(super) fn hold(templates: &Templates) -> Result<()> {
    layout::check_variables(&templates.environment)?;
    let tags: Vec<String> = templates.languages().map(str::to_owned).collect();
    for tag in tags {
        let locale = Locale::parse("language", &tag)?;
        for channel in Channel::ALL {
            for words in scripts(channel) {
                try_letter(templates, &letter(channel, &locale, words)?)?;
            }
        }
    }
    Ok(())
}

/// Returns everything that is said on a channel.
fn scripts(channel: Channel) -> Vec<Words> {
    let mut scripts = vec![Words::Test];
    for purpose in PURPOSES {
        scripts.extend(CODES.map(|code| Words::Code { code: Secret::new(code.to_owned()), purpose }));
    }
    if channel != Channel::Voice {
        for what in Notice::ALL {
            let (method, ip) = (Some("totp".to_owned()), Some("2001:db8::7".to_owned()));
            scripts.push(Words::Notice { what, concerns: method, ip });
            scripts.push(Words::Notice { what, concerns: None, ip: None });
        }
    }
    scripts
}

fn letter(channel: Channel, locale: &Locale, words: Words) -> Result<Letter> {
    let to = if channel == Channel::Mail { "ada@example.com" } else { "+12025550143" };
    let at = Timestamp::from_seconds(1_795_341_600);
    Ok(Letter {
        to: Destination::parse(channel, "to", to)?,
        locale: locale.clone(),
        product: "Example".into(),
        name: "Ada".into(),
        at,
        expires_at: at.after(Duration::from_secs(600)),
        words,
    })
}

fn try_letter(templates: &Templates, letter: &Letter) -> Result<()> {
    let refused = |reason: String| Error::Store(format!("try words: {reason}"));
    let language = templates.vocabulary.language(&letter.locale);
    let written = templates.write(letter, letter.at).map_err(|error| refused(error.to_string()))?;
    let Words::Code { code, purpose } = &letter.words else { return Ok(()) };
    for (part, text) in parts(&written) {
        check_code(part, text, code.expose()).map_err(|reason| {
            let (message, channel) = (purpose.name(), letter.to.channel());
            refused(format!("{message} by {channel} in {}: {reason}", language.tag))
        })?;
    }
    Ok(())
}

/// Checks that a part of a code's message has the code where it belongs, and nothing that leads elsewhere.
fn check_code(part: &str, text: &str, code: &str) -> Result<(), String> {
    let said = text.chars().filter(char::is_ascii_digit).collect::<String>().matches(code).count();
    match part {
        "subject" if text.contains(code) => Err("the subject shows the code".into()),
        "call" if said < 2 => Err("the call does not say the code twice".into()),
        "text" | "HTML" | "text message" if !text.contains(code) => Err(format!("the {part} lacks the code")),
        // Who is used to links in such messages follows those of others, too.
        _ if text.contains("://") => Err(format!("the {part} has a link")),
        _ => Ok(()),
    }
}

fn parts(written: &Written) -> Vec<(&'static str, &str)> {
    match written {
        Written::Mail { subject, text, html, .. } => {
            vec![("subject", subject.expose()), ("text", text.expose()), ("HTML", html.expose())]
        }
        Written::Sms { text } => vec![("text message", text.expose())],
        Written::Voice { text, .. } => vec![("call", text.expose())],
    }
}
