//! `enableMfa`, `acceptMfa`, `disableMfa`: enrolment by ticket, and switching off.

use super::{Mounted, about, body, json, refused, version::Version};
use crate::{
    error::Error,
    http::{
        SharedApp,
        caller::Known,
        extract::{Raw, Segments},
        problem::Problem,
    },
    service::{
        enrolment_tickets::{self, HandedOut},
        login_ticket, users,
    },
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use countersign_core::{
    Code, Handle, Permission, Refusal,
    enrolment_ticket::{EnrolmentTicket, Redemption, TICKET_BYTES},
    otpauth::percent_encode,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What `enableMfa` hands out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Enabled {
    user_id: Value,
    qr_string: String,
    secret_key: String,
    scratch_codes: Vec<String>,
    token: String,
}

/// What `enableMfa` may be asked.
#[derive(Default, Deserialize)]
struct EnableBody {
    #[serde(default)]
    recreate: Value,
}

/// What `acceptMfa` takes.
#[derive(Deserialize)]
struct AcceptBody {
    code: String,
    token: String,
}

/// Enrols an app and recovery codes, which come into use with `acceptMfa`; until then nothing changes.
pub(super) async fn enable(
    known: Known,
    State(app): State<SharedApp>,
    mounted: Mounted,
    Segments((version, id)): Segments<(String, String)>,
    raw: Raw,
) -> Result<Response, Problem> {
    let version = Version::parse(&version)?;
    let (asker, user) = about(&app, &known, Permission::WriteFactors, &id).await?;
    let recreate = recreate(&raw)?;
    let handed = enrolment_tickets::enrol(&app, &asker, &Handle::Id(user.id), recreate).await;
    let handed = handed.map_err(in_field)?;
    let enabled = Enabled {
        user_id: version.user_id(&handed.user),
        qr_string: qr_string(&handed, &mounted, app.config.dialects.veeam.literal_at),
        secret_key: handed.secret.to_base32().expose().clone(),
        scratch_codes: handed.codes.iter().map(|code| code.expose().clone()).collect(),
        token: login_ticket::write_hex88(handed.ticket.expose()).expose().clone(),
    };
    Ok(json(StatusCode::OK, &enabled))
}

/// Tells by which member a second factor that is on would have been replaced.
fn in_field(error: Error) -> Problem {
    match error {
        Error::Refused(Refusal::AlreadyEnrolled) => {
            refused("recreate", "the second factor is on already; recreate replaces it")
        }
        other => other.into(),
    }
}

/// Reads whether there may be a second factor already. The vendor's own samples send it as text.
fn recreate(raw: &Raw) -> Result<bool, Problem> {
    let text = raw.bytes.trim_ascii();
    if text.is_empty() {
        return Ok(false);
    }
    raw.expect_json()?;
    if text == b"null" {
        return Ok(false);
    }
    match raw.json::<EnableBody>()?.recreate {
        Value::Null => Ok(false),
        Value::Bool(recreate) => Ok(recreate),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(refused("recreate", "expected true or false")),
    }
}

/// Writes the key URI as the vendor does: `name@host`, secret and issuer, and nothing of what authenticators assume.
fn qr_string(handed: &HandedOut, mounted: &Mounted, literal_at: bool) -> String {
    let host = percent_encode(host(&mounted.base));
    let name = percent_encode(handed.user.username.as_str());
    let at = if literal_at { "&40" } else { "%40" };
    let secret = handed.secret.to_base32();
    format!("otpauth://totp/{name}{at}{host}?secret={}&issuer={host}", secret.expose())
}

/// Returns the host of an address, without its port.
fn host(base: &str) -> &str {
    let authority = base.split_once("://").map_or(base, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Takes what was handed out into use, in the place of what was there.
pub(super) async fn accept(
    known: Known,
    State(app): State<SharedApp>,
    Segments((version, id)): Segments<(String, String)>,
    raw: Raw,
) -> Result<Response, Problem> {
    let version = Version::parse(&version)?;
    let (asker, user) = about(&app, &known, Permission::WriteFactors, &id).await?;
    let body: AcceptBody = body(&raw)?;
    let code = Code::parse("code", &body.code)?;
    if body.token.is_empty() {
        return Err(refused("token", "cannot be empty"));
    }
    // What has not the form of a ticket is tried and counted like any other wrong one.
    let bytes = login_ticket::read_hex88(&body.token).unwrap_or([0; TICKET_BYTES]);
    let ticket = EnrolmentTicket::from_bytes(bytes);
    match enrolment_tickets::activate(&app, &asker, &Handle::Id(user.id), ticket, code).await? {
        Redemption::Activated(_) => Ok(version.done().into_response()),
        Redemption::WrongCode { .. } => Err(refused("code", "the verification code is not valid")),
        Redemption::NoSuchTicket => {
            Err(refused("token", "the token is unknown, used, replaced or expired; call enableMfa again"))
        }
    }
}

/// Switches the second factor off. One that is off stays off.
pub(super) async fn disable(
    known: Known,
    State(app): State<SharedApp>,
    Segments((version, id)): Segments<(String, String)>,
) -> Result<Response, Problem> {
    let version = Version::parse(&version)?;
    let (asker, user) = about(&app, &known, Permission::WriteFactors, &id).await?;
    users::switch_off_mfa(&app, &asker, &Handle::Id(user.id)).await?;
    Ok(version.done().into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_has_no_port_and_no_path() {
        for (base, expected) in [
            ("https://vbaz.example/veeam", "vbaz.example"),
            ("https://vbaz.example:8443", "vbaz.example"),
            ("http://[::1]:8080/veeam", "[::1]"),
            ("http://[::1]", "[::1]"),
        ] {
            assert_eq!(host(base), expected);
        }
    }
}
