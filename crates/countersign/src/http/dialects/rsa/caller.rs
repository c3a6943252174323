//! Who calls: an administration key by a token it signed, or an OAuth client by an access token of ours.
//!
//! The vendor answers 403 to whatever is wrong with a signed token. Its OAuth clients get a new token at 401, and only then.

use super::API;
use crate::{
    app::Asker,
    config::dialects::{Dialect, host_name},
    http::{
        Web,
        caller::{Known, Permit},
        problem::Problem,
        request::RequestInfo,
    },
    service::{client_assertions, signatures},
};
use axum::extract::FromRequestParts;
use http::{Uri, header, request::Parts};
use std::marker::PhantomData;

/// A caller who may do what `P` names.
pub(super) struct Admin<P: Permit> {
    /// Who asks, and where.
    pub(super) asker: Asker,
    permit: PhantomData<P>,
}

impl<P: Permit> FromRequestParts<Web> for Admin<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let known = match bearer(parts) {
            Some(token) if is_access_token(token) => Known::from_request_parts(parts, web).await?,
            Some(token) => by_key(token, parts, web).await?,
            None => return Err(refused()),
        };
        Ok(Self { asker: known.asker(P::PERMISSION)?, permit: PhantomData })
    }
}

async fn by_key(token: &str, parts: &Parts, web: &Web) -> Result<Known, Problem> {
    let now = RequestInfo::of(parts).now;
    let is_for_us = |audience: &str| is_api(audience, web);
    let proven = client_assertions::by_request_token(&web.app, token, is_for_us, now).await?;
    Known::by_signature(proven.ok_or_else(refused)?, parts, web).await
}

fn bearer(parts: &Parts) -> Option<&str> {
    let text = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Tells a token that we signed, good or not, from one that a client signed: no client's key is of that kind.
fn is_access_token(token: &str) -> bool {
    signatures::read(token).is_some_and(|signed| signed.header.alg == "EdDSA")
}

fn refused() -> Problem {
    Problem::forbidden("not_authorised", "not authorised to perform the request")
}

/// Tells whether an audience is the API's address: with or without its version and a slash at the end, because key files
/// differ in that; or, where that is switched on, no more than scheme and host.
fn is_api(audience: &str, web: &Web) -> bool {
    let Some((path, owns_root)) = place(audience, web) else { return false };
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return web.app.config.dialects.rsa.origin_audience;
    }
    let path = path.strip_suffix("/v1").unwrap_or(path);
    path == format!("{}{API}", Dialect::Rsa.prefix()) || owns_root && path == API
}

/// Tells whether an audience is the token endpoint, or what issues its tokens.
pub(super) fn is_issuer(audience: &str, web: &Web) -> bool {
    let Some((path, owns_root)) = place(audience, web) else { return false };
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/token").unwrap_or(path);
    path == format!("{}/oauth", Dialect::Rsa.prefix()) || owns_root && path == "/oauth"
}

/// Returns the path of an address on a host that is ours, and whether the dialect owns `/` there. The host of the request
/// does not count: whoever sends it chooses it.
fn place(audience: &str, web: &Web) -> Option<(String, bool)> {
    let uri: Uri = audience.parse().ok()?;
    let host = host_name(uri.authority()?.as_str())?;
    let config = &web.app.config;
    let is_among = |hosts: &[String]| hosts.iter().any(|known| host_name(known).as_ref() == Some(&host));
    let issuer: Uri = config.issuer().parse().ok()?;
    let is_issuer =
        issuer.authority().and_then(|authority| host_name(authority.as_str())).as_ref() == Some(&host);
    let is_own = is_among(&config.dialects.rsa.hosts);
    let is_native = is_among(&config.server.hosts);
    let owns_root = is_own || is_issuer && !is_native && config.dialects.root == Some(Dialect::Rsa);
    (is_own || is_issuer || is_native).then(|| (uri.path().to_owned(), owns_root))
}
