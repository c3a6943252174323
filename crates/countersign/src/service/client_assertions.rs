//! Clients that prove themselves by what they sign: with a token for each hour, or with an assertion for an access token.
//!
//! The token says who signed it; that is looked up, and the signature checked with the keys the client has at this moment.
//! So a client that is disabled, or loses a key, is refused with its next request.

use super::signatures::{self, Claims, Signed};
use crate::{app::App, error::Result};
use countersign_core::{ClientId, Organisation, Timestamp, user::Status};
use std::{sync::Arc, time::Duration};

/// The longest time a client may sign for.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// How far a client's clock may be off.
const SKEW: Duration = Duration::from_secs(60);

/// A client whose signature was right, and its organisation.
pub type Proven = (Arc<Organisation>, ClientId);

/// Checks a token that a client signed to send with its requests; `None` if it is not good.
///
/// One token serves for many requests. `is_for_us` tells whether a named audience is this server. A time of issue in the
/// future is let pass, because clients that send one are in use; what bounds a token is when it expires.
pub async fn by_request_token(
    app: &App,
    token: &str,
    is_for_us: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Result<Option<Proven>> {
    let Some(signed) = signatures::read(token) else { return Ok(None) };
    let is_jwt = signed.header.typ.as_deref() == Some("JWT") && signed.header.alg == "RS256";
    let claims = &signed.claims;
    let is_timely = claims.iat.is_some_and(|issued_at| is_within_life(claims, issued_at, now));
    let is_good = is_jwt && is_timely && claims.aud.iter().any(|audience| is_for_us(audience));
    if is_good { signer(app, &signed, now).await } else { Ok(None) }
}

/// Checks an assertion by which a client asks for an access token (RFC 7523 §3); `None` if it is not good.
///
/// It may come again until it expires: whoever could repeat it could as well have kept the access token.
pub async fn by_assertion(
    app: &App,
    assertion: &str,
    is_for_us: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Result<Option<Proven>> {
    let Some(signed) = signatures::read(assertion) else { return Ok(None) };
    let claims = &signed.claims;
    let is_about_signer = claims.iss.is_some() && claims.iss == claims.sub;
    let is_timely = is_within_life(claims, claims.iat.unwrap_or(now), now);
    let is_good = is_about_signer && is_timely && claims.aud.iter().any(|audience| is_for_us(audience));
    if is_good { signer(app, &signed, now).await } else { Ok(None) }
}

/// Tells whether a token is neither too old nor made for too long.
fn is_within_life(claims: &Claims, issued_at: Timestamp, now: Timestamp) -> bool {
    let Some(expires_at) = claims.exp else { return false };
    let longest = LONGEST_LIFE + SKEW;
    now < expires_at.after(SKEW)
        && expires_at <= now.after(longest)
        && expires_at <= issued_at.after(longest)
        && now <= issued_at.after(longest)
}

/// Returns the client that the token is about, if it signed it and may act.
async fn signer(app: &App, signed: &Signed<'_>, now: Timestamp) -> Result<Option<Proven>> {
    let Some(id) = signed.claims.sub.as_deref().and_then(|text| text.parse().ok()) else { return Ok(None) };
    let Some(organisation) = app.store.organisation_of_client(id).await? else { return Ok(None) };
    let Some(client) = organisation.client(id) else { return Ok(None) };
    let kid = signed.header.kid.as_deref();
    let is_theirs = client.keys_for(kid, now).any(|key| signed.is_signed_by(key));
    let may_act = client.status == Status::Active;
    Ok((is_theirs && may_act).then_some((organisation, id)))
}
