//! The languages of the pages: one file of strings each, and which of them somebody reads.

use countersign_core::Locale;
use http::{HeaderMap, header};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::LazyLock};

/// The languages there are pages in. English is the one that must be there.
const FILES: [(&str, &str); 7] = [
    ("en", include_str!("words/en.toml")),
    ("de", include_str!("words/de.toml")),
    ("fr", include_str!("words/fr.toml")),
    ("es", include_str!("words/es.toml")),
    ("pt", include_str!("words/pt.toml")),
    ("ja", include_str!("words/ja.toml")),
    ("ar", include_str!("words/ar.toml")),
];

/// The most languages of a request that are looked at.
const LANGUAGES_READ: usize = 32;

static LANGUAGES: LazyLock<BTreeMap<&'static str, Language>> = LazyLock::new(|| {
    let read = |(tag, text)| (tag, Language::read(tag, text));
    FILES.map(read).into_iter().collect()
});

/// The strings of one language.
#[derive(Debug)]
pub(super) struct Language {
    /// Its tag, such as `de`.
    pub(super) tag: &'static str,
    /// Whether it is written from left to right (`ltr`) or from right to left (`rtl`).
    pub(super) direction: String,
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

/// A file of strings.
#[derive(Deserialize)]
struct File {
    direction: String,
    #[serde(flatten)]
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

impl Language {
    fn read(tag: &'static str, text: &str) -> Self {
        let File { direction, sections } =
            toml::from_str(text).expect("the built-in strings are TOML: a test reads them all");
        Self { tag, direction, sections }
    }

    /// Returns all languages.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        LANGUAGES.values()
    }

    /// Returns the language of a person.
    pub(super) fn of(locale: &Locale) -> &'static Self {
        LANGUAGES.get(locale.language()).unwrap_or_else(Self::fallback)
    }

    /// Returns the language a browser asks for (RFC 9110 §12.5.4), if there are pages in it.
    pub(super) fn asked_for(headers: &HeaderMap) -> Option<&'static Self> {
        let wanted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        best(wanted.unwrap_or_default())
    }

    pub(super) fn fallback() -> &'static Self {
        &LANGUAGES["en"]
    }

    /// Returns the strings of a section.
    pub(super) fn strings(&self, section: &str) -> impl Iterator<Item = (&str, &str)> {
        let strings = self.sections.get(section).into_iter().flatten();
        strings.map(|(key, text)| (key.as_str(), text.as_str()))
    }

    /// Returns the names of all sections.
    pub(super) fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }
}

/// Returns the wanted language of the highest weight; of equal ones, the first.
fn best(wanted: &str) -> Option<&'static Language> {
    let mut best: Option<(f32, &'static Language)> = None;
    for item in wanted.split(',').take(LANGUAGES_READ) {
        let (tag, weight) = item.split_once(';').unwrap_or((item, "q=1"));
        let weight =
            weight.trim().strip_prefix("q=").and_then(|text| text.parse::<f32>().ok()).unwrap_or(0.0);
        let primary = tag.trim().split('-').next().unwrap_or_default().to_ascii_lowercase();
        let Some(found) = LANGUAGES.get(primary.as_str()) else { continue };
        if weight > best.map_or(0.0, |(weight, _)| weight) {
            best = Some((weight, found));
        }
    }
    best.map(|(_, language)| language)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_language_says_the_same_things() {
        let keys = |language: &Language| -> BTreeSet<String> {
            let of = |section: &str| -> Vec<String> {
                language.strings(section).map(|(key, _)| format!("{section}.{key}")).collect()
            };
            language.sections().flat_map(of).collect()
        };
        let english = keys(Language::fallback());

        assert!(english.len() > 20);
        for language in Language::all() {
            assert_eq!(keys(language), english, "{}", language.tag);
            assert_eq!(language.direction, if language.tag == "ar" { "rtl" } else { "ltr" });
        }
    }

    #[test]
    fn the_language_a_browser_asks_for_is_taken_if_there_is_one() {
        let tag = |wanted| best(wanted).map(|language| language.tag);

        assert_eq!(tag("de-AT,en;q=0.8"), Some("de"));
        assert_eq!(tag("tlh, fr;q=0.5, ja;q=0.9"), Some("ja"));
        assert_eq!(tag("EN-gb"), Some("en"));
        for none in ["", "tlh", "*", "de;q=0", "de;q=x", ";;,,"] {
            assert_eq!(tag(none), None, "{none}");
        }
    }
}
