//! The strings of each language: one TOML file a language, and which of them a person is written to with.

use super::layout;
use crate::error::{Error, Result};
use countersign_core::Locale;
use minijinja::Environment;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use toml::de::{DeTable, DeValue};

/// The languages that are built in. English is the one that must be there.
const BUILT_IN: [(&str, &str); 7] = [
    ("en", include_str!("en.toml")),
    ("de", include_str!("de.toml")),
    ("fr", include_str!("fr.toml")),
    ("es", include_str!("es.toml")),
    ("pt", include_str!("pt.toml")),
    ("ja", include_str!("ja.toml")),
    ("ar", include_str!("ar.toml")),
];
const FALLBACK: &str = "en";

/// The files of an operator's folder by their names.
#[derive(Debug, Default)]
pub(super) struct Folder {
    path: Option<PathBuf>,
    pub(super) files: BTreeMap<String, String>,
}

impl Folder {
    /// Returns how a file is named in a complaint.
    pub(super) fn shown(&self, name: &str) -> String {
        match &self.path {
            Some(path) if self.files.contains_key(name) => path.join(name).display().to_string(),
            _ => format!("built-in {name}"),
        }
    }
}

/// Reads an operator's folder. A file whose name means nothing is refused: it was meant to change something.
pub(super) fn files(path: &Path) -> Result<Folder> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Error::Store(format!("read words {}: {error}", path.display()))
    };
    let mut folder = Folder { path: Some(path.to_owned()), files: BTreeMap::new() };
    for entry in fs::read_dir(path).map_err(|error| failed(path, &error))? {
        let file = entry.map_err(|error| failed(path, &error))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let is_language = name.strip_suffix(".toml").is_some_and(is_tag);
        if !is_language && !layout::is_layout(&name) {
            return Err(failed(
                &file,
                &"expected mail.subject, mail.txt, mail.html, sms.txt, voice.txt or a language such as de.toml",
            ));
        }
        folder.files.insert(name, fs::read_to_string(&file).map_err(|error| failed(&file, &error))?);
    }
    Ok(folder)
}

fn is_tag(text: &str) -> bool {
    Locale::parse("language", text).is_ok_and(|locale| locale.as_str() == text)
}

/// The words of one language.
#[derive(Debug, Clone)]
pub(super) struct Language {
    /// Its tag, such as `de` or `de-AT`.
    pub(super) tag: String,
    /// The template of each string, by `section.key`.
    pub(super) strings: BTreeMap<String, String>,
    /// What is said between two digits.
    pub(super) pause: String,
    direction: String,
    voice: String,
}

impl Language {
    /// Tells whether it is written from right to left.
    pub(super) fn is_right_to_left(&self) -> bool {
        self.direction == "rtl"
    }

    /// Returns the tag of the voice that speaks it: of the person's region if they named one.
    pub(super) fn voice_for(&self, locale: &Locale) -> String {
        let language = self.tag.split('-').next().unwrap_or_default();
        let region = locale.as_str().split('-').skip(1).find(|part| part.len() == 2);
        match region {
            Some(region) if locale.language() == language => format!("{language}-{region}"),
            _ => self.voice.clone(),
        }
    }

    /// Returns the strings of some sections.
    pub(super) fn strings_of(&self, sections: [&str; 3]) -> impl Iterator<Item = (&str, &str)> {
        self.strings.iter().filter_map(move |(key, template)| {
            let (section, key) = key.split_once('.')?;
            sections.contains(&section).then_some((key, template.as_str()))
        })
    }
}

/// All languages.
#[derive(Debug)]
pub(super) struct Vocabulary(BTreeMap<String, Language>);

impl Vocabulary {
    /// Reads the built-in files and the folder's, and compiles each string.
    pub(super) fn load(environment: &mut Environment<'static>, folder: &Folder) -> Result<Self> {
        let mut languages = BTreeMap::new();
        let built_in =
            BUILT_IN.map(|(tag, text)| (tag, Source { shown: format!("built-in {tag}.toml"), text }));
        // In the order of their names, so that `de` is read before `de-AT`, which builds on it.
        let from_folder = folder.files.iter().filter_map(|(name, text)| {
            Some((name.strip_suffix(".toml")?, Source { shown: folder.shown(name), text }))
        });
        for (tag, source) in built_in.into_iter().chain(from_folder) {
            let base = nearest(&languages, tag).cloned();
            let language = source.language(environment, tag, base)?;
            let english = languages.get(FALLBACK).unwrap_or(&language);
            source.check_keys(&language, english)?;
            languages.insert(tag.to_owned(), language);
        }
        Ok(Self(languages))
    }

    /// Returns the tags of all languages.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the language for a person: the nearest to their tag (RFC 4647 §3.4), else English.
    pub(super) fn language(&self, locale: &Locale) -> &Language {
        nearest(&self.0, locale.as_str()).unwrap_or_else(|| &self.0[FALLBACK])
    }
}

/// Returns the language of a tag or of what is left of it when parts are cut off from its end.
fn nearest<'a>(languages: &'a BTreeMap<String, Language>, tag: &str) -> Option<&'a Language> {
    let mut tag = tag;
    loop {
        if let Some(language) = languages.get(tag) {
            return Some(language);
        }
        tag = tag.rsplit_once('-')?.0;
    }
}

/// A file of strings.
struct Source<'a> {
    shown: String,
    text: &'a str,
}

impl Source<'_> {
    /// Reads the file's strings over those of the language it builds on.
    fn language(
        &self,
        environment: &mut Environment<'static>,
        tag: &str,
        base: Option<Language>,
    ) -> Result<Language> {
        let (pause, direction, voice) = Default::default();
        let mut language = base.unwrap_or(Language {
            tag: String::new(),
            strings: BTreeMap::new(),
            pause,
            direction,
            voice,
        });
        language.tag = tag.to_owned();
        for (key, line, text) in self.strings()? {
            match key.as_str() {
                "direction" if !["ltr", "rtl"].contains(&text.as_str()) => {
                    return Err(self.failed(line, "direction: expected ltr or rtl"));
                }
                "direction" => language.direction = text,
                "voice" => language.voice = text,
                "pause" => language.pause = text,
                _ => {
                    let name = format!("{}, line {line}, {key}", self.shown);
                    environment.add_template_owned(name.clone(), text).map_err(|fault| {
                        self.failed(line, &format!("{key}{}", layout::reason(&fault, None)))
                    })?;
                    language.strings.insert(key, name);
                }
            }
        }
        Ok(language)
    }

    /// Returns each string with its key and its line.
    fn strings(&self) -> Result<Vec<(String, usize, String)>> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let line = error.span().map_or(1, |span| self.line(span.start));
            self.failed(line, error.message())
        })?;
        let mut found = Vec::new();
        for (key, value) in table.get_ref() {
            match value.get_ref() {
                DeValue::Table(section) => {
                    for (inner, value) in section {
                        let key = format!("{}.{}", key.get_ref(), inner.get_ref());
                        found.push(self.string(key, value.get_ref(), self.line(inner.span().start))?);
                    }
                }
                other => {
                    found.push(self.string(key.get_ref().to_string(), other, self.line(key.span().start))?);
                }
            }
        }
        Ok(found)
    }

    fn string(&self, key: String, value: &DeValue<'_>, line: usize) -> Result<(String, usize, String)> {
        match value {
            DeValue::String(text) => Ok((key, line, text.to_string())),
            _ => Err(self.failed(line, &format!("{key}: expected a string"))),
        }
    }

    /// Refuses what no message says, and a new language that leaves something unsaid.
    fn check_keys(&self, language: &Language, english: &Language) -> Result<()> {
        let is_unknown = |key: &&String| !english.strings.contains_key(*key);
        if let Some(unknown) = language.strings.keys().find(is_unknown) {
            let shown = &language.strings[unknown];
            return Err(Error::Store(format!("read words {shown}: no message has this string")));
        }
        if let Some(missing) = english.strings.keys().find(|key| !language.strings.contains_key(*key)) {
            return Err(self.failed(1, &format!("{missing} is missing")));
        }
        for (key, value) in
            [("direction", &language.direction), ("voice", &language.voice), ("pause", &language.pause)]
        {
            if value.is_empty() {
                return Err(self.failed(1, &format!("{key} is missing")));
            }
        }
        Ok(())
    }

    fn line(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }

    fn failed(&self, line: usize, reason: &str) -> Error {
        Error::Store(format!("read words {}, line {line}: {reason}", self.shown))
    }
}
