//! What clients send: JSON, with scalars that may stand in quotes, as the vendor's own samples have them.

use crate::{
    error::Error,
    http::{extract::Raw, problem::Problem},
};
use axum::extract::Query;
use countersign_core::{Refusal, UserId, refusal::Invalid};
use http::{StatusCode, Uri};
use serde::{Deserialize, Deserializer, de, de::DeserializeOwned};
use uuid::Uuid;

/// The longest body.
const LONGEST: usize = 8 * 1024;

/// Reads a body. Another type than JSON is a bad request like any other: few calls know a 415.
pub(super) fn read<T: DeserializeOwned>(raw: &Raw) -> Result<T, Problem> {
    if raw.media_type != "application/json" {
        return Err(Problem::invalid("unsupported_media_type", None, "send Content-Type: application/json"));
    }
    if raw.bytes.len() > LONGEST {
        let detail = "the body is larger than allowed";
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail));
    }
    raw.json()
}

/// Reads a body that may be left out.
pub(super) fn read_optional<T: DeserializeOwned + Default>(raw: &Raw) -> Result<T, Problem> {
    if raw.bytes.is_empty() { Ok(T::default()) } else { read(raw) }
}

/// Answers what policy does not allow by 403: the calls that give people codes know of no 409.
pub(super) fn within_policy(error: Error) -> Problem {
    match error {
        Error::Refused(
            refusal @ (Refusal::KindForbidden(_)
            | Refusal::DestinationForbidden(_)
            | Refusal::NoProvider(_)
            | Refusal::TooMany(..)),
        ) => Problem::forbidden("not_allowed", refusal.to_string()),
        other => other.into(),
    }
}

/// Reads the parameters; those it does not know are passed over.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let read = Query::<T>::try_from_uri(uri).map(|Query(query)| query);
    read.map_err(|_| Problem::invalid("invalid_parameter", None, "a parameter is not what it should be"))
}

/// Reads the id of a user. What is none is a bad request; whether anybody has it is asked later.
pub(super) fn user_id(segment: &str) -> Result<UserId, Problem> {
    let id = uuid(segment).ok_or_else(|| Invalid::new("userId", "expected a UUID"))?;
    Ok(UserId::from_uuid(id))
}

/// Reads a UUID with its hyphens, in either case.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok())?
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Quoted<T> {
    Plain(T),
    Text(String),
}

/// Reads a truth value, also in quotes.
pub(super) fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    quoted(deserializer, "expected true or false")
}

/// Reads a number, also in quotes.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    quoted(deserializer, "expected a number")
}

fn quoted<'de, T, D>(deserializer: D, expected: &str) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de> + std::str::FromStr,
    D: Deserializer<'de>,
{
    let read = Option::<Quoted<T>>::deserialize(deserializer).map_err(|_| de::Error::custom(expected))?;
    match read {
        None => Ok(None),
        Some(Quoted::Plain(value)) => Ok(Some(value)),
        Some(Quoted::Text(text)) => text.parse().map(Some).map_err(|_| de::Error::custom(expected)),
    }
}
