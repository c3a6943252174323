//! A page: a template in the layout, with the strings of its section, as an answer that only its own style sheet decorates.

use super::language::Language;
use crate::{
    error::{Error, Result},
    http::problem::Problem,
};
use axum::response::{Html, IntoResponse, Response};
use data_encoding::BASE64;
use http::{HeaderValue, StatusCode, header};
use minijinja::{Environment, UndefinedBehavior, Value};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::LazyLock};

const LAYOUT: &str = "layout.html";
const STYLE: &str = include_str!("style.css");

/// The templates. Names end in `.html`, so everything that is put into them is escaped.
const TEMPLATES: [(&str, &str); 4] = [
    (LAYOUT, include_str!("layout.html")),
    ("app.html", include_str!("app.html")),
    ("told.html", include_str!("told.html")),
    ("message.html", include_str!("message.html")),
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let templates = TEMPLATES.map(|(name, text)| (name.to_owned(), text.to_owned()));
    for (name, text) in templates.into_iter().chain(Language::all().flat_map(strings)) {
        environment.add_template_owned(name, text).expect("what is built in compiles: a test renders it all");
    }
    environment
});

/// No script, no picture, no font, no frame: only the style sheet that comes with the page, and forms to ourselves.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = BASE64.encode(&Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("the policy is ASCII")
});

/// Returns the strings of a language as templates.
fn strings(language: &'static Language) -> impl Iterator<Item = (String, String)> {
    let of = move |section: &'static str| {
        language.strings(section).map(move |(key, text)| (name(language, section, key), text.to_owned()))
    };
    language.sections().flat_map(of)
}

fn name(language: &Language, section: &str, key: &str) -> String {
    format!("{}/{section}/{key}.html", language.tag)
}

/// Values by the names that templates and strings call them.
pub(super) type Facts = BTreeMap<&'static str, Value>;

/// A page in the making.
#[derive(Debug)]
pub(super) struct Page {
    language: &'static Language,
    status: StatusCode,
    template: &'static str,
    section: &'static str,
    facts: Facts,
}

impl Page {
    /// Begins a page with the strings of a section, in the template of the same name.
    pub(super) fn new(language: &'static Language, section: &'static str) -> Self {
        let template = TEMPLATES
            .iter()
            .map(|(name, _)| *name)
            .find(|name| name.strip_suffix(".html").is_some_and(|name| name == section));
        let template = template.unwrap_or("message.html");
        Self { language, status: StatusCode::OK, template, section, facts: Facts::new() }
    }

    /// Says what came of the request.
    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a value.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.insert(name, value.into());
        self
    }

    fn render(mut self) -> Result<String> {
        let mut words = BTreeMap::new();
        for section in ["any", self.section] {
            for (key, _) in self.language.strings(section) {
                let text = fill(&name(self.language, section, key), &self.facts)?;
                // Its values were escaped when they were put in.
                words.insert(key, Value::from_safe_string(text));
            }
        }
        self.facts.insert("words", Value::from(words));
        self.facts.insert("language", self.language.tag.into());
        self.facts.insert("direction", self.language.direction.as_str().into());
        self.facts.insert("style", Value::from_safe_string(STYLE.to_owned()));
        let content = fill(self.template, &self.facts)?;
        self.facts.insert("content", Value::from_safe_string(content));
        fill(LAYOUT, &self.facts)
    }
}

fn fill(template: &str, facts: &Facts) -> Result<String> {
    let failed = |error| Error::Internal(format!("render page {template}: {error}"));
    ENVIRONMENT.get_template(template).map_err(failed)?.render(facts).map_err(failed)
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let status = self.status;
        match self.render() {
            Ok(text) => {
                (status, [(header::CONTENT_SECURITY_POLICY, POLICY.clone())], Html(text)).into_response()
            }
            Err(error) => Problem::from(error).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the colours of light and dark pages by their names.
    fn schemes() -> [BTreeMap<&'static str, [u8; 3]>; 2] {
        let (light, dark) = STYLE.split_once("@media (prefers-color-scheme: dark)").expect("two schemes");
        [light, dark].map(|text| {
            let pairs = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("--")?.strip_suffix(';')?.split_once(": "));
            pairs.map(|(name, colour)| (name, channels(colour))).collect()
        })
    }

    fn channels(colour: &str) -> [u8; 3] {
        let digits = colour.strip_prefix('#').expect("a colour");
        let wide: String = match digits.len() {
            3 => digits.chars().flat_map(|digit| [digit, digit]).collect(),
            _ => digits.to_owned(),
        };
        [0, 2, 4].map(|at| u8::from_str_radix(&wide[at..at + 2], 16).expect("hexadecimal"))
    }

    /// The relative luminance of WCAG 2.2.
    fn luminance(colour: [u8; 3]) -> f64 {
        let linear = |channel: u8| match f64::from(channel) / 255.0 {
            low if low <= 0.04045 => low / 12.92,
            high => ((high + 0.055) / 1.055).powf(2.4),
        };
        let [red, green, blue] = colour.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn colours_are_far_enough_apart_in_light_and_dark() {
        assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 0.01);
        for scheme in schemes() {
            for (front, back, least) in [
                ("text", "page", 7.0),
                ("quiet", "page", 4.5),
                ("wrong", "page", 4.5),
                ("accent", "page", 4.5),
                ("on-accent", "accent", 4.5),
                // What a field or a picture ends at (WCAG 2.2, 1.4.11).
                ("edge", "page", 3.0),
            ] {
                let found = contrast(scheme[front], scheme[back]);
                assert!(found >= least, "{front} on {back}: {found:.1}");
            }
        }
    }

    #[test]
    fn a_page_lacks_nothing_in_any_language() {
        for language in Language::all() {
            for section in language.sections().filter(|section| *section != "any") {
                let template = TEMPLATES.iter().find(|(name, _)| name.strip_suffix(".html") == Some(section));
                let mut page = Page::new(language, section);
                for name in ["product", "account", "key", "uri", "qr", "username"] {
                    page = page.with(name, "<b>x</b>");
                }
                for (error, left) in [("", 5), ("wrong", 1), ("wrong", 2), ("malformed", 3), ("refused", 0)] {
                    let text = Page { facts: page.facts.clone(), ..Page::new(language, section) }
                        .with("error", error)
                        .with("left", left)
                        .with("digits", 6)
                        .render()
                        .expect("rendered");
                    assert!(text.contains("<h1>") && !text.contains("<b>") && !text.contains("{{"), "{text}");
                    assert_eq!(
                        text.contains("<form"),
                        template.is_some_and(|(_, source)| source.contains("<form"))
                    );
                }
            }
        }
    }
}
