//! Tries every template and string once, with letters of every kind, so that what is wrong shows at the start.

use super::{Templates, Written, kind, layout, links, name};
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
    layout::check_variables(&templates.environment, &templates.folder)?;
    check_page(templates)?;
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

/// Refuses a page that loads something, even if only where no letter of the rehearsal gets to.
fn check_page(templates: &Templates) -> Result<()> {
    let Some(page) = templates.folder.files.get(layout::MAIL_HTML) else { return Ok(()) };
    // What assigns a variable may look like an attribute.
    let text_of =
        |line: &str| line.split("{%").filter_map(|piece| piece.rsplit("%}").next()).collect::<String>();
    match page.lines().position(|line| links::loads(&text_of(line))) {
        Some(at) => {
            let (shown, line) = (templates.folder.shown(layout::MAIL_HTML), at + 1);
            Err(Error::Store(format!("read words {shown}, line {line}: {}", Fault::Loads.of("HTML"))))
        }
        None => Ok(()),
    }
}

/// A link that a message may have, because it is what the message brings.
const LINK: &str = "https://mfa.example.com/enrol?token=csl_kJ7-zQ_x";

/// Returns everything that is said on a channel.
fn scripts(channel: Channel) -> Vec<Words> {
    let mut scripts = vec![Words::Test];
    for purpose in PURPOSES {
        scripts.extend(CODES.map(|code| Words::Code { code: Secret::new(code.to_owned()), purpose }));
    }
    if channel != Channel::Voice {
        for what in Notice::ALL {
            for concerns in ["totp", "emergency"] {
                let (method, ip) = (Some(concerns.to_owned()), Some("2001:db8::7".to_owned()));
                scripts.push(Words::Notice { what, concerns: method, ip });
            }
            scripts.push(Words::Notice { what, concerns: None, ip: None });
        }
    }
    if channel == Channel::Mail {
        scripts.push(Words::EnrolmentLink { url: Secret::new(LINK.to_owned()) });
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
    let language = &templates.vocabulary.language(&letter.locale).tag;
    let (message, channel) = (name(&letter.words), letter.to.channel());
    let refused =
        |reason: String| Error::Store(format!("try words {reason} ({message} by {channel} in {language})"));
    let written = templates.write(letter, letter.at).map_err(|error| refused(error.to_string()))?;
    let code = match &letter.words {
        Words::Code { code, .. } => Some(code.expose().as_str()),
        _ => None,
    };
    for part in parts(&written, code.is_some()) {
        if let Some(fault) = part.faults(kind(&letter.words)).find(|fault| fault.is_in(part.text, code)) {
            let place = to_blame(templates, letter, &part, |text| fault.is_in(text, code), fault)?;
            return Err(refused(format!("{place}: {}", fault.of(part.name))));
        }
    }
    Ok(())
}

/// Returns where a fault is: in the string that has it by itself, else in the layout.
fn to_blame(
    templates: &Templates,
    letter: &Letter,
    part: &Part<'_>,
    has_fault: impl Fn(&str) -> bool,
    fault: Fault,
) -> Result<String> {
    let language = templates.vocabulary.language(&letter.locale);
    let page = templates.page(letter, language, letter.at)?;
    let is_asked = |key: &str| matches!(fault, Fault::Link | Fault::Loads) || part.carrier == Some(key);
    for (key, place) in language.strings_of(["any", kind(&letter.words), name(&letter.words)]) {
        let said = page["words"].get_attr(key).unwrap_or_default();
        if is_asked(key) && has_fault(said.as_str().unwrap_or_default()) {
            return Ok(place.to_owned());
        }
    }
    let source = templates.folder.files.get(part.layout).map_or("", String::as_str);
    let line = source.lines().position(|line| matches!(fault, Fault::Link | Fault::Loads) && has_fault(line));
    Ok(format!("{}{}", templates.folder.shown(part.layout), layout::at(line.map(|at| at + 1))))
}

/// A part of a message.
struct Part<'a> {
    /// What people call it.
    name: &'static str,
    layout: &'static str,
    /// The string that says what matters.
    carrier: Option<&'static str>,
    text: &'a str,
}

impl<'a> Part<'a> {
    fn new(name: &'static str, layout: &'static str, carrier: Option<&'static str>, text: &'a str) -> Self {
        Self { name, layout, carrier, text }
    }

    /// Returns what may be wrong with it.
    fn faults(&self, kind: &str) -> impl Iterator<Item = Fault> {
        let (has_code, has_link) = (kind == "code", kind == "link");
        let is_page = self.layout == layout::MAIL_HTML;
        let of_code = match self.layout {
            layout::MAIL_SUBJECT => Fault::ShowsCode,
            layout::VOICE => Fault::SaysCodeOnce,
            _ => Fault::LacksCode,
        };
        let of_all = [Some(Fault::Empty), is_page.then_some(Fault::Loads)];
        let of_codes = [Some(of_code), Some(Fault::Link)].into_iter().filter(move |_| has_code);
        let of_link = if self.layout == layout::MAIL_SUBJECT { Fault::Link } else { Fault::LacksLink };
        let of_links = has_link.then_some(Some(of_link));
        of_all.into_iter().chain(of_codes).chain(of_links).flatten()
    }
}

fn parts(written: &Written, has_code: bool) -> Vec<Part<'_>> {
    use layout::{MAIL_HTML, MAIL_SUBJECT, MAIL_TEXT, SMS, VOICE};
    match written {
        Written::Mail { subject, text, html, .. } => vec![
            Part::new("subject", MAIL_SUBJECT, Some("subject"), subject.expose()),
            Part::new("text", MAIL_TEXT, None, text.expose()),
            Part::new("HTML", MAIL_HTML, None, html.expose()),
        ],
        Written::Sms { text } => {
            // The line that binds a code to its origin comes by itself.
            let text = text.expose().split("\n\n@").next().unwrap_or_default();
            vec![Part::new("text message", SMS, Some("sms"), text)]
        }
        Written::Voice { text, .. } => {
            let carrier = if has_code { "spoken" } else { "voice" };
            vec![Part::new("call", VOICE, Some(carrier), text.expose())]
        }
    }
}

/// What may be wrong with a part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Empty,
    Loads,
    LacksCode,
    ShowsCode,
    SaysCodeOnce,
    Link,
    LacksLink,
}

impl Fault {
    fn is_in(self, text: &str, code: Option<&str>) -> bool {
        let code = code.unwrap_or_default();
        match self {
            Self::Empty => is_empty(text),
            Self::Loads => links::loads(text),
            Self::LacksCode => !text.contains(code),
            Self::ShowsCode => text.contains(code),
            Self::SaysCodeOnce => {
                text.chars().filter(char::is_ascii_digit).collect::<String>().matches(code).count() < 2
            }
            Self::Link => links::has_link(text),
            Self::LacksLink => !text.replace("&#x2f;", "/").contains(LINK),
        }
    }

    fn of(self, part: &str) -> String {
        match self {
            Self::Empty => format!("the {part} is empty"),
            Self::Loads => format!("the {part} loads something from elsewhere"),
            Self::LacksCode => format!("the {part} lacks the code"),
            Self::ShowsCode => format!("the {part} shows the code"),
            Self::SaysCodeOnce => format!("the {part} does not say the code twice"),
            Self::Link => format!("the {part} has a link"),
            Self::LacksLink => format!("the {part} lacks the link"),
        }
    }
}

/// Tells whether there is nothing to read, tags and head of a page aside.
fn is_empty(text: &str) -> bool {
    let body = text.rsplit("</head>").next().unwrap_or_default();
    body.split('<').all(|piece| piece.rsplit('>').next().unwrap_or_default().trim().is_empty())
}
