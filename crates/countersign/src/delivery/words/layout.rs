//! The templates that give a message of each channel its shape.

use super::{facts::Given, vocabulary::Folder};
use crate::error::{Error, Result};
use minijinja::{Environment, Error as Fault, ErrorKind, Template, syntax::SyntaxConfig};

pub(super) const MAIL_SUBJECT: &str = "mail.subject";
pub(super) const MAIL_TEXT: &str = "mail.txt";
pub(super) const MAIL_HTML: &str = "mail.html";
pub(super) const SMS: &str = "sms.txt";
pub(super) const VOICE: &str = "voice.txt";

/// What is built in. Names that end in `.html` have everything escaped that is put into them.
const BUILT_IN: [(&str, &str); 5] = [
    (MAIL_SUBJECT, include_str!("mail.subject")),
    (MAIL_TEXT, include_str!("mail.txt")),
    (MAIL_HTML, include_str!("mail.html")),
    (SMS, include_str!("sms.txt")),
    (VOICE, include_str!("voice.txt")),
];

/// Everything that strings and layouts can be given.
const FACTS: [&str; 17] = [
    "clock",
    "code",
    "digits",
    "direction",
    "hours",
    "ip",
    "kind",
    "language",
    "life",
    "message",
    "method",
    "minutes",
    "name",
    "product",
    "time",
    "url",
    "words",
];

/// Returns how templates are read: lines that hold nothing but a tag leave no empty line.
pub(super) fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("the usual delimiters differ")
}

/// Tells whether a file of this name is a layout.
pub(super) fn is_layout(name: &str) -> bool {
    BUILT_IN.iter().any(|(known, _)| *known == name)
}

/// Adds all layouts, those of the folder instead of the built-in ones.
pub(super) fn add(environment: &mut Environment<'static>, folder: &Folder) -> Result<()> {
    for (name, built_in) in BUILT_IN {
        let text = folder.files.get(name).map_or(built_in, String::as_str);
        environment.add_template_owned(name, text.to_owned()).map_err(|fault| {
            Error::Store(format!("read words {}{}", folder.shown(name), reason(&fault, fault.line())))
        })?;
    }
    Ok(())
}

/// Returns what is wrong with a template, and where.
pub(super) fn complaint(
    environment: &Environment<'_>,
    folder: &Folder,
    name: &str,
    given: &Given,
    fault: &Fault,
) -> String {
    // A string's name tells its line in the file; a layout's line is known to the fault.
    let line = fault.line().filter(|_| is_layout(name));
    let unknown = match environment.get_template(name) {
        Ok(template) if fault.kind() == ErrorKind::UndefinedError => unknown(&template, given),
        _ => Vec::new(),
    };
    match unknown.as_slice() {
        [] => format!("{}{}", shown(folder, name), reason(fault, line)),
        // What no message has was found before.
        names => {
            format!("{}{}: variable {} is not given here", shown(folder, name), at(line), names.join(", "))
        }
    }
}

/// Returns the variables a template asks for that are not among those given.
fn unknown(template: &Template<'_, '_>, given: &Given) -> Vec<String> {
    let is_given = |path: &str| {
        let mut steps = path.split('.');
        let first = steps.next().and_then(|name| given.get(name)).cloned();
        let found = steps.fold(first, |value, step| value?.get_attr(step).ok());
        found.is_some_and(|value| !value.is_undefined())
    };
    sorted(template.undeclared_variables(true).into_iter().filter(|path| !is_given(path)))
}

/// Refuses templates that ask for what no message has, even if only where no letter of the rehearsal gets to.
pub(super) fn check_variables(environment: &Environment<'_>, folder: &Folder) -> Result<()> {
    for (name, template) in environment.templates() {
        let is_known = |variable: &str| {
            FACTS.contains(&variable) || environment.globals().any(|(name, _)| name == variable)
        };
        let unknown = sorted(template.undeclared_variables(false).into_iter().filter(|name| !is_known(name)));
        if let Some(first) = unknown.first() {
            let line =
                template.source().lines().position(|line| line.contains(first.as_str())).map(|at| at + 1);
            let line = line.filter(|_| is_layout(name));
            let (place, names) = (format!("{}{}", shown(folder, name), at(line)), unknown.join(", "));
            return Err(Error::Store(format!("read words {place}: unknown variable {names}")));
        }
    }
    Ok(())
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Returns where a template stands; the names of strings say so by themselves.
fn shown(folder: &Folder, name: &str) -> String {
    if is_layout(name) { folder.shown(name) } else { name.to_owned() }
}

pub(super) fn at(line: Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

pub(super) fn reason(fault: &Fault, line: Option<usize>) -> String {
    let detail = fault.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}: {}{detail}", at(line), fault.kind())
}
