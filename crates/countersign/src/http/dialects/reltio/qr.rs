//! The key to scan, as a picture, JSON or a URI: what the caller asks for by `Accept`.

use crate::{
    error::Error,
    http::problem::Problem,
    qr::QrCode,
    service::factors::{Enrolled, Shown},
};
use axum::response::{IntoResponse, Response};
use countersign_core::{Factor, Refusal, Timestamp, factor::Proof};
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

/// A form the key comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Png,
    Svg,
    Json,
    Text,
    UriList,
}

/// All there is to know of a key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Key<'a> {
    mfatype: &'static str,
    secret: &'a str,
    otpauth_uri: &'a str,
    qr_code: String,
    qr_code_image: String,
    algorithm: &'static str,
    digits: u8,
    period: u8,
    expires_in: u64,
}

impl Form {
    const ALL: [Self; 5] = [Self::Png, Self::Svg, Self::Json, Self::Text, Self::UriList];

    const fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Svg => "image/svg+xml",
            Self::Json => "application/json",
            Self::Text => "text/plain",
            Self::UriList => "text/uri-list",
        }
    }

    /// Picks what a caller prefers: by weight, then what is named over what a wildcard covers.
    ///
    /// Among equals JSON is meant where it is named, for libraries that parse answers name it beside `*/*`; else a picture.
    pub(super) fn preferred(headers: &HeaderMap) -> Result<Self, Problem> {
        let given: Vec<&str> =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let ranges: Vec<Range> = given.join(",").split(',').filter_map(Range::parse).collect();
        if ranges.is_empty() {
            return Ok(Self::Png);
        }
        // Text is for those who want nothing else: everybody's libraries accept it, too.
        let text_only = ranges.iter().all(|range| range.kind == "text" || range.weight == 0);
        let is_offered = |form: &Self| text_only || !matches!(form, Self::Text | Self::UriList);
        let ranked = |form: Self| {
            let range =
                ranges.iter().filter(|range| range.covers(form)).max_by_key(|range| range.precision())?;
            let place = match form {
                Self::Json if range.is_exact() => 5,
                Self::Png => 4,
                Self::Svg => 3,
                Self::Text => 2,
                Self::Json => 1,
                Self::UriList => 0,
            };
            (range.weight > 0).then_some(((range.weight, range.is_exact(), place), form))
        };
        let best = Self::ALL.into_iter().filter(is_offered).filter_map(ranked).max_by_key(|(rank, _)| *rank);
        best.map(|(_, form)| form).ok_or_else(|| {
            let detail =
                "the key comes as image/png, image/svg+xml, application/json, text/plain or text/uri-list";
            Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail)
        })
    }

    /// Writes the answer to an enrolment.
    pub(super) fn write(self, enrolled: &Enrolled, now: Timestamp) -> Result<Response, Problem> {
        let Shown::Key { secret, uri } = &enrolled.shown else { return Err(Refusal::NoQrCode.into()) };
        let code = QrCode::new(uri.expose())?;
        let body = match self {
            Self::Png => code.png()?,
            Self::Svg => code.svg().into_bytes(),
            Self::Text => uri.expose().clone().into_bytes(),
            Self::UriList => format!("{}\r\n", uri.expose()).into_bytes(),
            Self::Json => json(&enrolled.factor, secret.expose(), uri.expose(), &code, now)?,
        };
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.media_type())),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store, private")),
            (header::VARY, HeaderValue::from_static("Accept")),
        ];
        Ok((headers, body).into_response())
    }
}

fn json(factor: &Factor, secret: &str, uri: &str, code: &QrCode, now: Timestamp) -> Result<Vec<u8>, Problem> {
    let Proof::Totp(totp) = factor.proof() else { return Err(Refusal::NoQrCode.into()) };
    let expires_in = match factor {
        Factor::Pending(held) => now.until(held.state.expires_at).as_secs(),
        Factor::Active(_) | Factor::Disabled(_) => 0,
    };
    let key = Key {
        mfatype: "AUTHENTICATOR",
        secret,
        otpauth_uri: uri,
        qr_code: code.data_uri()?,
        qr_code_image: BASE64.encode(&code.png()?),
        algorithm: totp.algorithm.name(),
        digits: totp.digits,
        period: totp.period,
        expires_in,
    };
    let body = serde_json::to_vec(&key);
    Ok(body.map_err(|error| Error::Internal(format!("write key: {error}")))?)
}

/// A media range with its weight in thousandths (RFC 9110 §12.5.1).
#[derive(Debug)]
struct Range {
    kind: String,
    subtype: String,
    weight: u16,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.map_or(Some(1.0), |text| text.parse::<f32>().ok())?;
        Some(Self {
            kind: kind.to_ascii_lowercase(),
            subtype: subtype.to_ascii_lowercase(),
            // At most a thousand, so nothing is lost.
            weight: (weight.clamp(0.0, 1.0) * 1000.0) as u16,
        })
    }

    fn covers(&self, form: Form) -> bool {
        let (kind, subtype) = form.media_type().split_once('/').unwrap_or_default();
        (self.kind == "*" && self.subtype == "*")
            || (self.kind == kind && (self.subtype == "*" || self.subtype == subtype))
    }

    fn is_exact(&self) -> bool {
        self.subtype != "*"
    }

    fn precision(&self) -> u8 {
        u8::from(self.kind != "*") + u8::from(self.subtype != "*")
    }
}

#[cfg(test)]
mod tests {
    use super::Form;
    use http::{HeaderMap, HeaderValue, header};

    fn preferred(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).expect("a header"));
        }
        Form::preferred(&headers).ok()
    }

    #[test]
    fn the_form_is_the_one_the_caller_prefers() {
        for (accept, form) in [
            ("", Some(Form::Png)),
            ("*/*", Some(Form::Png)),
            ("image/*", Some(Form::Png)),
            ("image/png", Some(Form::Png)),
            ("IMAGE/PNG", Some(Form::Png)),
            ("application/json", Some(Form::Json)),
            ("application/*", Some(Form::Json)),
            ("application/json, text/plain, */*", Some(Form::Json)),
            ("application/json;q=0.5, */*;q=0.5", Some(Form::Json)),
            ("application/json;q=0.5, */*", Some(Form::Png)),
            ("application/json, image/png", Some(Form::Json)),
            ("application/json;q=0.9, image/png", Some(Form::Png)),
            ("image/svg+xml", Some(Form::Svg)),
            ("image/svg+xml, */*;q=0.8", Some(Form::Svg)),
            ("image/svg+xml, */*", Some(Form::Svg)),
            ("image/png;q=0, */*", Some(Form::Svg)),
            ("text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8", Some(Form::Png)),
            ("text/plain", Some(Form::Text)),
            ("text/uri-list", Some(Form::UriList)),
            ("text/plain, */*", Some(Form::Png)),
            ("text/*", Some(Form::Text)),
            ("application/xml", None),
            ("text/html", None),
            ("image/png;q=0", None),
        ] {
            assert_eq!(preferred(accept), form, "{accept:?}");
        }
    }
}
