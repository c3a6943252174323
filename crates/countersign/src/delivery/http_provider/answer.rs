//! What a provider's answer means: taken, not now, or never.

use crate::{
    config::delivery::http::{HttpProvider, Meaning, Status},
    delivery::{Failure, Outgoing, Receipt, Written, outbound::Reply},
};
use countersign_core::refusal::Invalid;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use serde_json::Value;
use std::ops::RangeInclusive;

/// The most characters of a provider's code that are shown.
const CODE_LIMIT: usize = 40;
/// The most characters of a provider's name for a message that are kept.
const REFERENCE_LIMIT: usize = 128;

/// What a provider's answers mean.
#[derive(Debug)]
pub(super) struct Answers {
    success: Test,
    permanent: Option<Test>,
    reference: Option<Place>,
    error: Option<Place>,
}

/// What must hold of an answer: all that is given.
#[derive(Debug)]
struct Test {
    statuses: Vec<RangeInclusive<u16>>,
    field: Option<Place>,
    values: Vec<String>,
}

/// A place in an answer.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A JSON pointer (RFC 6901).
    Json(String),
    /// The first XML element of a name.
    Xml(String),
}

impl Answers {
    /// Reads what the configuration says of answers.
    pub(super) fn new(given: &HttpProvider) -> Result<Self, Invalid> {
        let place =
            |key, text: &Option<String>| text.as_deref().map(|text| Place::parse(key, text)).transpose();
        let mut success = given.success.clone().unwrap_or_default();
        if success.status.is_empty() {
            success.status.push(Status::Range("200-299".into()));
        }
        Ok(Self {
            success: Test::new("success", &success)?,
            permanent: given.permanent.as_ref().map(|given| Test::new("permanent", given)).transpose()?,
            reference: place("reference", &given.reference)?,
            error: place("error", &given.error)?,
        })
    }

    /// Says what an answer means for the message that was asked for.
    pub(super) fn judge(&self, name: &str, asked: &Outgoing, reply: &Reply) -> Result<Receipt, Failure> {
        let body = String::from_utf8_lossy(reply.body.expose());
        if self.success.holds(reply.status, &body) {
            let found = self.reference.as_ref().and_then(|place| place.find(&body));
            let reference = found.filter(|found| may_be_kept(found, asked));
            return Ok(Receipt { provider: name.to_owned(), reference });
        }
        let code = self.error.as_ref().and_then(|place| place.find(&body)).filter(|code| may_be_shown(code));
        let reason = reason(reply.status, &reply.headers, code.as_deref());
        match &self.permanent {
            Some(never) if !may_mend(reply.status) && never.holds(reply.status, &body) => {
                Err(Failure::Permanent(reason))
            }
            _ => Err(Failure::Temporary(reason)),
        }
    }
}

impl Test {
    fn new(key: &str, given: &Meaning) -> Result<Self, Invalid> {
        if given.field.is_none() && !given.values.is_empty() {
            return Err(Invalid::new(format!("{key}.values"), "goes with field"));
        }
        if given.field.is_none() && given.status.is_empty() {
            return Err(Invalid::new(key, "expected status or field"));
        }
        let status_key = format!("{key}.status");
        let field_key = format!("{key}.field");
        Ok(Self {
            statuses: given
                .status
                .iter()
                .map(|one| parse_status(&status_key, one))
                .collect::<Result<_, _>>()?,
            field: given.field.as_deref().map(|text| Place::parse(&field_key, text)).transpose()?,
            values: given.values.clone(),
        })
    }

    fn holds(&self, status: StatusCode, body: &str) -> bool {
        let status_holds = self.statuses.is_empty()
            || self.statuses.iter().any(|statuses| statuses.contains(&status.as_u16()));
        let field_holds = self.field.as_ref().is_none_or(|place| {
            let found = place.find(body).filter(|found| !found.is_empty());
            found.is_some_and(|found| self.values.is_empty() || self.values.contains(&found))
        });
        status_holds && field_holds
    }
}

impl Place {
    fn parse(key: &str, text: &str) -> Result<Self, Invalid> {
        let element = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
        match element {
            Some(element) if is_element_name(element) => Ok(Self::Xml(element.to_owned())),
            None if text.starts_with('/') => Ok(Self::Json(text.to_owned())),
            _ => Err(Invalid::new(
                key,
                "expected a JSON pointer such as /sid or an XML element such as <Code>",
            )),
        }
    }

    /// Returns what stands there, if it is one value.
    fn find(&self, body: &str) -> Option<String> {
        match self {
            Self::Json(pointer) => match serde_json::from_str::<Value>(body).ok()?.pointer(pointer)? {
                Value::String(text) => Some(text.clone()),
                value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
                _ => None,
            },
            Self::Xml(element) => find_element(element, body),
        }
    }
}

fn is_element_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

/// Returns the text of the first element of that name. Answers are short and flat, so this is no XML parser: what it
/// does not understand it does not find, and then the answer is none we expected.
fn find_element(element: &str, body: &str) -> Option<String> {
    let opening = format!("<{element}");
    body.match_indices(&opening).find_map(|(at, _)| {
        let (attributes, rest) = body[at + opening.len()..].split_once('>')?;
        let is_it = attributes.is_empty() || attributes.starts_with(char::is_whitespace);
        let (content, _) = rest.split_once(&format!("</{element}>"))?;
        (is_it && !content.contains('<')).then(|| content.trim().to_owned())
    })
}

fn parse_status(key: &str, given: &Status) -> Result<RangeInclusive<u16>, Invalid> {
    let bounds = match given {
        Status::One(status) => Some((*status, *status)),
        Status::Range(text) => {
            text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
        }
    };
    match bounds {
        Some((first, last)) if first <= last && first >= 200 && last <= 599 => Ok(first..=last),
        _ => Err(Invalid::new(key, "expected statuses such as 200 or \"200-299\"")),
    }
}

/// Tells whether a status speaks of our credentials, of the pace or of the provider's own trouble. Whatever else the
/// answer says, another time or another provider may do better.
fn may_mend(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 407 | 408 | 429)
}

fn reason(status: StatusCode, headers: &HeaderMap, code: Option<&str>) -> String {
    let mut reason = format!("status {}", status.as_u16());
    if let Some(code) = code {
        reason.push_str(&format!(", code {code}"));
    }
    if status.is_redirection() {
        reason.push_str(", redirects are not followed");
    } else if status.is_success() && code.is_none() {
        reason.push_str(", but not the answer of success");
    }
    let pause = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    if let Some(seconds) = pause {
        reason.push_str(&format!(", asks for a pause of {seconds} s"));
    }
    reason
}

/// Tells whether a provider's code may be shown to operators. A place that was named wrongly may hold anything: six
/// digits in a row could be the code that was sent, or a piece of the number.
fn may_be_shown(code: &str) -> bool {
    let is_plain = code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let longest = code.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or_default();
    is_plain && (1..=CODE_LIMIT).contains(&code.len()) && longest < 6
}

/// Tells whether a provider's name for a message may be kept: it is one, and no piece of the message.
fn may_be_kept(reference: &str, asked: &Outgoing) -> bool {
    let (Written::Sms { text } | Written::Voice { text, .. } | Written::Mail { text, .. }) = &asked.written;
    let number = asked.to.full().trim_start_matches('+');
    let is_plain = reference.bytes().all(|byte| byte.is_ascii_graphic());
    let digits: String = reference.chars().filter(char::is_ascii_digit).collect();
    is_plain
        && (1..=REFERENCE_LIMIT).contains(&reference.len())
        && !digits.contains(number)
        && !text.expose().contains(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_in_json_and_in_xml() {
        let json = r#"{"messages": [{"status": 0, "message-id": "0C01"}], "sid": {}}"#;
        let xml =
            "<PublishResponse xmlns=\"x\"><MessageIds/><MessageId>567910cd</MessageId></PublishResponse>";
        let find = |text, body: &str| Place::parse("reference", text).expect(text).find(body);

        assert_eq!(find("/messages/0/message-id", json).as_deref(), Some("0C01"));
        assert_eq!(find("/messages/0/status", json).as_deref(), Some("0"));
        assert_eq!(find("/sid", json), None);
        assert_eq!(find("/sid", "no JSON"), None);
        assert_eq!(find("<MessageId>", xml).as_deref(), Some("567910cd"));
        assert_eq!(find("<PublishResponse>", xml), None);
        assert_eq!(find("<Code>", xml), None);
        assert!(Place::parse("reference", "sid").is_err());
        assert!(Place::parse("reference", "<a b>").is_err());
    }

    #[test]
    fn statuses_are_numbers_or_ranges() {
        let parse = |text: &str| parse_status("status", &Status::Range(text.into()));

        assert_eq!(parse("200-299"), Ok(200..=299));
        assert_eq!(parse_status("status", &Status::One(201)), Ok(201..=201));
        for text in ["299-200", "2xx", "100-600", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_could_be_a_code_or_a_number_is_not_shown() {
        for code in ["21211", "InvalidParameter", "E-12.7", "9"] {
            assert!(may_be_shown(code), "{code}");
        }
        for code in ["", "123456", "to 4930", "x123456", &"x".repeat(41), "+49"] {
            assert!(!may_be_shown(code), "{code}");
        }
    }
}
