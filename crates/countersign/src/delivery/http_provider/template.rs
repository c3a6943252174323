//! Templates of requests. What a value may do to the text around it depends on the media type, so it is escaped for
//! that wherever it is printed: no text of a message can end a string, add a field or open an element.

use countersign_core::{Secret, refusal::Invalid};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

/// The most steps a template may take.
const FUEL: u64 = 20_000;

/// How values are escaped where they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// As a whole JSON value, quotes included.
    Json,
    /// For `application/x-www-form-urlencoded` and for a part of a URL.
    Form,
    /// For the content and the attributes of XML elements.
    Xml,
    /// Not at all: plain text, and what is escaped afterwards.
    Nothing,
}

impl Escape {
    /// Returns what a media type needs.
    pub(super) fn of_media_type(media_type: &str) -> Self {
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/x-www-form-urlencoded" => Self::Form,
            json if json == "application/json" || json.ends_with("+json") => Self::Json,
            "text/xml" | "application/xml" => Self::Xml,
            xml if xml.ends_with("+xml") => Self::Xml,
            _ => Self::Nothing,
        }
    }

    const ALL: [Self; 4] = [Self::Json, Self::Form, Self::Xml, Self::Nothing];

    const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Form => "form",
            Self::Xml => "xml",
            Self::Nothing => "nothing",
        }
    }

    fn apply(self, value: &Value) -> Result<String, Error> {
        Ok(match self {
            Self::Json => serde_json::to_string(value).map_err(|_| {
                Error::new(ErrorKind::BadSerialization, "a value that cannot be written as JSON")
            })?,
            Self::Form => percent_encoded(&value.to_string()),
            Self::Xml => xml_escaped(&value.to_string()),
            Self::Nothing => value.to_string(),
        })
    }
}

/// The values templates may name.
pub(super) type Values = BTreeMap<&'static str, Value>;

/// The templates of one provider, each under the key it has in the configuration.
pub(super) struct Templates(Environment<'static>);

impl Templates {
    /// Prepares an empty set.
    pub(super) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        // The escape is the first part of the template's own name.
        environment.set_auto_escape_callback(|name| {
            AutoEscape::Custom(Cow::Owned(name.split(':').next().unwrap_or_default().to_owned()))
        });
        environment.set_formatter(|out, state, value| {
            let AutoEscape::Custom(name) = state.auto_escape() else {
                return Err(Error::new(ErrorKind::InvalidOperation, "escaping cannot be switched off"));
            };
            let escape = Escape::ALL.into_iter().find(|escape| escape.name() == name);
            out.write_str(&escape.unwrap_or(Escape::Json).apply(value)?).map_err(Error::from)
        });
        environment.add_filter("digits", digits);
        environment.add_filter("json", |value: Value| Escape::Json.apply(&value));
        environment.add_filter("form", |value: Value| Escape::Form.apply(&value));
        environment.add_filter("xml", |value: Value| Escape::Xml.apply(&value));
        Self(environment)
    }

    /// Adds the template that `key` has in the configuration.
    pub(super) fn add(&mut self, key: &str, escape: Escape, source: &str) -> Result<(), Invalid> {
        self.0
            .add_template_owned(full_name(escape, key), source.to_owned())
            .map_err(|error| Invalid::new(key, error.kind().to_string()))
    }

    /// Renders a template. The error names no value.
    pub(super) fn render(
        &self,
        key: &str,
        escape: Escape,
        values: &Values,
    ) -> Result<Secret<String>, Invalid> {
        let context = Value::from_pairs(values.iter().map(|(name, value)| (*name, value.clone())));
        let unknown = |error: &Error| match error.kind() {
            ErrorKind::UndefinedError => {
                let known: Vec<&str> = values.keys().copied().collect();
                Invalid::new(key, format!("names a value that is not set; set are {}", known.join(", ")))
            }
            kind => Invalid::new(key, kind.to_string()),
        };
        let template = self.0.get_template(&full_name(escape, key)).map_err(|error| unknown(&error))?;
        template.render(context).map(Secret::new).map_err(|error| unknown(&error))
    }
}

fn full_name(escape: Escape, key: &str) -> String {
    format!("{}:{key}", escape.name())
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Encodes all but the unreserved characters of RFC 3986 §2.3: right in a form, a query and a path.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => write!(encoded, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    encoded
}

/// Escapes for content and quoted attributes; leaves out what XML 1.0 §2.2 does not know.
fn xml_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            c if c < ' ' || matches!(c, '\u{FFFE}' | '\u{FFFF}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "1\", \"x\": \"&a=b</Say>\n\\";

    fn rendered(escape: Escape, source: &str) -> Result<String, Invalid> {
        let mut templates = Templates::new();
        templates.add("body", escape, source)?;
        let values = Values::from([("text", Value::from(NASTY)), ("to", Value::from("+49 30"))]);
        templates.render("body", escape, &values).map(|text| text.expose().clone())
    }

    #[test]
    fn no_text_breaks_out_of_its_place() {
        let json = rendered(Escape::Json, r#"{"body": {{ text }}}"#).expect("rendered");
        let form = rendered(Escape::Form, "Body={{ text }}&To={{ to | digits }}").expect("rendered");
        let xml = rendered(Escape::Xml, "<sms to='{{ to }}'>{{ text }}</sms>").expect("rendered");

        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["body"], NASTY);
        assert_eq!(form, "Body=1%22%2C%20%22x%22%3A%20%22%26a%3Db%3C%2FSay%3E%0A%5C&To=4930");
        assert_eq!(xml, "<sms to='+49 30'>1&quot;, &quot;x&quot;: &quot;&amp;a=b&lt;/Say&gt;\n\\</sms>");
    }

    #[test]
    fn a_template_cannot_switch_escaping_off() {
        for source in ["{{ text | safe }}", "{% autoescape false %}{{ text }}{% endautoescape %}"] {
            let shown = rendered(Escape::Form, source).unwrap_or_default();
            assert!(!shown.contains('"'), "{source}: {shown}");
        }
    }

    #[test]
    fn what_is_escaped_within_an_expression_is_escaped_once_more_outside() {
        let form = rendered(Escape::Form, "Twiml={{ '<Say>' ~ (text | xml) ~ '</Say>' }}").expect("rendered");

        assert!(form.contains("%26lt%3B%2FSay%26gt%3B"), "{form}");
    }

    #[test]
    fn a_misspelt_name_is_an_error_that_says_what_there_is() {
        let error = rendered(Escape::Form, "{{ txt }}").expect_err("no such value").to_string();

        assert!(error.contains("text, to") && !error.contains("Say"), "{error}");
        assert!(rendered(Escape::Form, "{{ text ").is_err());
        assert!(rendered(Escape::Form, "{% for i in range(100000) %}{{ text }}{% endfor %}").is_err());
    }
}
