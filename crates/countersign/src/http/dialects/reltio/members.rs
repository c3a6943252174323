//! What a caller sent, wherever they put it: query, form, multipart or JSON, under one of several names.

use super::multipart;
use crate::http::{
    extract::{Raw, as_query},
    problem::Problem,
};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use countersign_core::{Code, Kind, refusal::Invalid};
use http::request::Parts;
use serde_json::{Map, Value};

/// Named values; those of the body come before those of the query.
pub(super) struct Members(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Members {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = Raw::from_request(request, state).await?;
        let mut members = in_body(&body)?;
        members.extend(in_form(query.as_bytes())?);
        Ok(Self(members))
    }
}

/// The same of the query alone: the call takes a body and reads nothing in it.
pub(super) struct QueryMembers(pub(super) Members);

impl<S: Send + Sync> FromRequestParts<S> for QueryMembers {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(Members(in_form(parts.uri.query().unwrap_or_default().as_bytes())?)))
    }
}

impl Members {
    /// Returns the value that stands under one of these names; one that is empty is none.
    pub(super) fn find(&self, names: &[&str]) -> Option<&str> {
        let mut found = self.0.iter().filter(|(name, _)| names.contains(&name.as_str()));
        found.find(|(_, value)| !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Like [`Members::find`], for what must be there; the first name is the one that is missed.
    pub(super) fn need(&self, names: &[&str]) -> Result<&str, Problem> {
        let name = names.first().copied().unwrap_or_default();
        self.find(names).ok_or_else(|| {
            let detail = format!("{name} is required");
            Problem::invalid("missing_member", Some(name.to_owned()), detail)
        })
    }

    /// Returns the code that was typed.
    pub(super) fn code(&self) -> Result<Option<Code>, Problem> {
        let typed = self.find(&["totp", "otp"]);
        Ok(typed.map(|typed| Code::parse("totp", typed)).transpose()?)
    }

    /// Like [`Members::code`], for where one must be there.
    pub(super) fn needed_code(&self) -> Result<Code, Problem> {
        self.need(&["totp", "otp"])?;
        Ok(Code::parse("totp", self.need(&["totp", "otp"])?)?)
    }

    /// Returns the type of enrolment that was named.
    pub(super) fn mfa_type(&self) -> Result<Option<MfaType>, Problem> {
        Ok(self.find(&["mfatype", "mfaType"]).map(MfaType::parse).transpose()?)
    }

    /// Like [`Members::mfa_type`], for where one must be named.
    pub(super) fn needed_mfa_type(&self) -> Result<MfaType, Problem> {
        Ok(MfaType::parse(self.need(&["mfatype", "mfaType"])?)?)
    }

    /// Like [`Members::needed_mfa_type`], for calls that take only one of them.
    pub(super) fn expect_mfa_type(&self, expected: MfaType) -> Result<(), Problem> {
        if self.needed_mfa_type()? == expected { Ok(()) } else { Err(expected.mismatch().into()) }
    }
}

/// A type of enrolment the vendor knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MfaType {
    /// An authenticator app.
    Authenticator,
    /// Codes by mail.
    Email,
}

impl MfaType {
    /// Both, in the order they are listed.
    pub(super) const ALL: [Self; 2] = [Self::Authenticator, Self::Email];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Authenticator => "AUTHENTICATOR",
            Self::Email => "EMAIL",
        }
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Authenticator => Kind::Totp,
            Self::Email => Kind::Email,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(text.trim()));
        found.ok_or_else(|| Invalid::new("mfatype", "expected AUTHENTICATOR or EMAIL"))
    }

    pub(super) fn mismatch(self) -> Invalid {
        Invalid::new("mfatype", format!("expected {} here", self.name()))
    }
}

fn in_body(body: &Raw) -> Result<Vec<(String, String)>, Problem> {
    if body.bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    match body.media_type.as_str() {
        "application/x-www-form-urlencoded" => in_form(&body.bytes),
        "multipart/form-data" => multipart::parts(&body.content_type, &body.bytes)
            .ok_or_else(|| Problem::invalid("malformed_form", None, "the body is not multipart/form-data")),
        _ => Ok(in_object(&body.json()?)),
    }
}

fn in_form(text: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let malformed = || Problem::invalid("malformed_form", None, "not a form");
    let text = std::str::from_utf8(text).map_err(|_| malformed())?;
    let uri = as_query(text).ok_or_else(malformed)?;
    let Query(pairs) = Query::try_from_uri(&uri).map_err(|_| malformed())?;
    Ok(pairs)
}

/// Takes what is text or a number; whatever else stands there means nothing to these calls.
fn in_object(members: &Map<String, Value>) -> Vec<(String, String)> {
    let text = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Some((name.clone(), text.clone())),
        // A code that came as a number has lost its zeros.
        Value::Number(number) => Some((name.clone(), format!("{:0>6}", number.to_string()))),
        _ => None,
    };
    members.iter().filter_map(text).collect()
}
