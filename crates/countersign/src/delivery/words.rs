//! The words of messages, in the language of whom they go to.
//!
//! What a message looks like is one template a channel (`words/mail.html`, `words/sms.txt`, …), what it says is one file
//! of strings a language (`words/en.toml`, …). Operators put files of the same names into a folder; everything is tried
//! once at the start, so that a slip there stops the start and no message.

mod facts;
mod layout;
mod links;
mod rehearsal;
mod vocabulary;

use super::Written;
use crate::error::{Error, Result};
use countersign_core::{
    Channel, Kind, Letter, Secret, Timestamp,
    message::{CodePurpose, Notice, Words},
    refusal::Invalid,
};
use facts::{Facts, Given};
use minijinja::{Environment, UndefinedBehavior, Value};
use std::{collections::BTreeMap, path::Path};
use vocabulary::{Folder, Language, Vocabulary};

/// How much work a template may cause: a hundred times what ours do.
const FUEL: u64 = 100_000;

/// All templates and strings, compiled and tried.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    vocabulary: Vocabulary,
    folder: Folder,
    sms_origin: Option<String>,
}

impl Templates {
    /// Returns the built-in words and those of `folder`, which take precedence, after trying them.
    ///
    /// `sms_origin` is the domain to which the codes of text messages are bound.
    pub fn load(folder: Option<&Path>, sms_origin: Option<&str>) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_syntax(layout::syntax());
        let is_own = folder.is_some();
        let folder = folder.map(vocabulary::files).transpose()?.unwrap_or_default();
        layout::add(&mut environment, &folder)?;
        let vocabulary = Vocabulary::load(&mut environment, &folder)?;
        let sms_origin = sms_origin.map(domain).transpose()?;
        let templates = Self { environment, vocabulary, folder, sms_origin };
        if is_own {
            // Tests try what is built in; a start need not wait for that.
            rehearsal::hold(&templates)?;
        }
        Ok(templates)
    }

    /// Returns the tags of the languages there are words in.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.vocabulary.tags()
    }

    /// Writes a letter as its channel needs it, for somebody who gets it `now`.
    pub fn write(&self, letter: &Letter, now: Timestamp) -> Result<Written> {
        let language = self.vocabulary.language(&letter.locale);
        let page = self.page(letter, language, now)?;
        match letter.to.channel() {
            Channel::Mail => self.mail(&page, language),
            Channel::Sms => self.sms(&page, letter),
            Channel::Voice => self.voice(&page, letter, language),
        }
    }

    fn mail(&self, page: &Given, language: &Language) -> Result<Written> {
        Ok(Written::Mail {
            subject: facts::one_line(&self.render(layout::MAIL_SUBJECT, page)?).into(),
            text: self.render(layout::MAIL_TEXT, page)?.into(),
            html: self.render(layout::MAIL_HTML, page)?.into(),
            language: language.tag.clone(),
        })
    }

    fn sms(&self, page: &Given, letter: &Letter) -> Result<Written> {
        let mut text = self.render(layout::SMS, page)?.trim().to_owned();
        if let (Some(origin), Words::Code { code, .. }) = (&self.sms_origin, &letter.words) {
            // The last line of an origin-bound one-time code: phones fill the code in on pages of this domain only.
            text.push_str(&format!("\n\n@{origin} #{}", code.expose()));
        }
        Ok(Written::Sms { text: Secret::new(text) })
    }

    fn voice(&self, page: &Given, letter: &Letter, language: &Language) -> Result<Written> {
        if matches!(letter.words, Words::Notice { .. } | Words::EnrolmentLink { .. }) {
            return Err(Error::Internal("write a call: notices and links are not spoken".into()));
        }
        let text = facts::one_line(&self.render(layout::VOICE, page)?);
        Ok(Written::Voice { text: text.into(), language: language.voice_for(&letter.locale) })
    }

    /// Returns what a layout sees: the facts, and as `words` the strings of its message in the language.
    fn page(&self, letter: &Letter, language: &Language, now: Timestamp) -> Result<Given> {
        let facts = Facts::of(letter, language, now, |string, given| self.render(string, given))?;
        let mut words = BTreeMap::new();
        for (key, string) in language.strings_of(["any", kind(&letter.words), name(&letter.words)]) {
            words.insert(key, self.render(string, &facts.for_string(key))?);
        }
        let mut page = facts.for_layout();
        page.insert("kind", kind(&letter.words).into());
        page.insert("message", name(&letter.words).into());
        page.insert("words", Value::from(words));
        Ok(page)
    }

    fn render(&self, template: &str, given: &Given) -> Result<String> {
        let failed = |error| {
            Error::Internal(layout::complaint(&self.environment, &self.folder, template, given, &error))
        };
        let template = self.environment.get_template(template).map_err(failed)?;
        template.render(given.clone()).map_err(failed)
    }
}

/// Returns the kind of message, which decides what a layout shows.
const fn kind(words: &Words) -> &'static str {
    match words {
        Words::Code { .. } => "code",
        Words::EnrolmentLink { .. } => "link",
        Words::Notice { .. } => "notice",
        Words::Test => "test",
    }
}

/// Returns the section with the strings of one message.
fn name(words: &Words) -> &'static str {
    match words {
        Words::Code { purpose: CodePurpose::Activation, .. } => "activation",
        Words::Code { purpose: CodePurpose::Verification, .. } => "verification",
        Words::Code { purpose: CodePurpose::SignIn, .. } => "sign_in",
        Words::Notice { what, concerns, .. } => match what {
            Notice::RecoveryCodeUsed if is_emergency(concerns.as_deref()) => "emergency_code_used",
            Notice::RecoverySignIn if is_emergency(concerns.as_deref()) => "emergency_sign_in",
            _ => what.name(),
        },
        Words::EnrolmentLink { .. } | Words::Test => words.name(),
    }
}

/// Tells whether a notice is about the code an administrator gives out, and not about one of a person's own.
fn is_emergency(concerns: Option<&str>) -> bool {
    concerns == Some(Kind::Emergency.name())
}

/// Checks a domain such as `login.example.com`.
fn domain(text: &str) -> Result<String> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if text.len() > 253 || !text.split('.').all(is_label) {
        return Err(Invalid::new("sms_origin", "expected a domain in lower case such as example.com").into());
    }
    Ok(text.to_owned())
}
