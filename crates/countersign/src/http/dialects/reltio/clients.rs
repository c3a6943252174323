//! Which client calls: by HTTP Basic, in the form, or by the pair of id and secret where a token is expected.

use super::members::Members;
use crate::http::{
    Web,
    caller::{AuthenticatedClient, Myself, basic},
    dialects::Dialect,
    problem::Problem,
    request::RequestInfo,
};
use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};

/// Recognises the client of a request to the token endpoint, or of one that names a person by a state token.
pub(super) async fn authenticate(
    web: &Web,
    info: &RequestInfo,
    headers: &HeaderMap,
    members: &Members,
) -> Result<AuthenticatedClient, Problem> {
    let (id, secret) = named(headers, members).ok_or_else(invalid_client)?;
    let client = AuthenticatedClient::check(&web.app, &id, &secret, info.now).await?;
    let bound = web.mounts.organisation(&web.app, Dialect::Reltio).await?;
    match client.filter(|client| bound.is_none_or(|bound| bound.id == client.organisation.id)) {
        Some(client) => Ok(client),
        None => {
            // Guessing is slowed by address; a right secret never pays for it.
            web.limits.check_sign_in(info.ip).map_err(|retry| Problem::too_many(&retry))?;
            Err(invalid_client())
        }
    }
}

/// A pair after `Bearer` is what the vendor's page on signing in prints; a token has no colon in it.
fn named(headers: &HeaderMap, members: &Members) -> Option<(String, String)> {
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        let pair = (members.find(&["client_id"])?, members.find(&["client_secret"])?);
        return Some((pair.0.to_owned(), pair.1.to_owned()));
    };
    let (scheme, pair) = header.to_str().ok()?.split_once(' ')?;
    let is_known = scheme.eq_ignore_ascii_case("basic") || scheme.eq_ignore_ascii_case("bearer");
    if is_known { basic(pair.trim()) } else { None }
}

fn invalid_client() -> Problem {
    Problem::unauthorised("invalid_client", "Bad client credentials")
}

/// Who asks to reset their own enrolment: a signed-in person, or else a client that brings a state token.
pub(super) enum OwnReset {
    /// A person.
    Person(Myself),
    /// A client, yet to be recognised.
    Client,
}

impl FromRequestParts<Web> for OwnReset {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let scheme = header.and_then(|header| header.split(' ').next()).unwrap_or_default();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Myself::from_request_parts(parts, web).await.map(Self::Person);
        }
        Ok(Self::Client)
    }
}
