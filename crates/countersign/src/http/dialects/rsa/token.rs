//! The token endpoint for OAuth clients, and **the table** of what the vendor's permissions are here.

use super::caller::is_issuer;
use crate::{
    http::{
        Web,
        api::oauth::{self, Failure, OauthError, Proof},
        caller::WithinSignInLimit,
        extract::Form,
        request::RequestInfo,
    },
    service::clients,
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use countersign_core::{Client, Scope};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;

/// What each permission allows. Where ours are coarser, a client is granted the coarser one, which it must have.
const PERMISSIONS: &[(&str, &[Scope])] = &[
    ("rsa.user.read", &[Scope::ReadUsers]),
    ("rsa.user.sync", &[Scope::ReadUsers]),
    ("rsa.user.manage", &[Scope::WriteUsers]),
    ("rsa.user.delete", &[Scope::WriteUsers]),
    ("rsa.user.factor.manage", &[Scope::WriteFactors, Scope::WriteLocks]),
    ("rsa.authenticator.emergency.manage", &[Scope::WriteFactors]),
    ("rsa.authenticator.mobile.read", &[Scope::ReadUsers]),
    ("rsa.authenticator.mobile.delete", &[Scope::WriteFactors]),
    ("rsa.authenticator.mobile.manage", &[Scope::WriteFactors]),
    ("rsa.audit.admin", &[Scope::ReadAudit]),
    ("rsa.audit.user", &[Scope::ReadAudit]),
];

#[derive(Deserialize)]
pub(super) struct TokenForm {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    client_assertion_type: Option<String>,
    client_assertion: Option<String>,
    scope: Option<String>,
}

/// Issues an access token to a client that signs for itself, or that has a secret.
pub(super) async fn token(
    _: WithinSignInLimit,
    State(web): State<Web>,
    info: RequestInfo,
    headers: HeaderMap,
    Form(form): Form<TokenForm>,
) -> Result<Response, Failure> {
    if form.grant_type.as_deref() != Some("client_credentials") {
        return Err(OauthError::bad("unsupported_grant_type", "expected client_credentials").into());
    }
    let proof = Proof {
        id: form.client_id.as_deref(),
        secret: form.client_secret.as_deref(),
        assertion_type: form.client_assertion_type.as_deref(),
        assertion: form.client_assertion.as_deref(),
    };
    let is_for_us = |audience: &str| is_issuer(audience, &web);
    let proven = oauth::authenticate(&web.app, &info, &headers, proof, is_for_us).await?;
    let proven = proven.ok_or_else(OauthError::invalid_client)?;
    let client = proven.client().ok_or_else(OauthError::invalid_client)?;

    let wanted = form.scope.as_deref().map(scopes).transpose()?;
    let wanted = wanted.map(|scopes| Scope::list(&scopes));
    let (issued, granted) =
        clients::issue_token(&web.app, &proven.organisation, client, wanted.as_deref(), info.now)?;
    let body = json!({
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": issued.life.as_secs(),
        "scope": permissions(form.scope.as_deref(), &granted),
    });
    Ok(axum::Json(body).into_response())
}

/// Reads permissions. Those that nothing here asks for are passed over, because clients ask for whole sets, one of them
/// with a slip in it; the answer names what was granted.
fn scopes(text: &str) -> Result<BTreeSet<Scope>, OauthError> {
    let served = |wanted| PERMISSIONS.iter().find(|(name, _)| *name == wanted);
    let scopes: BTreeSet<Scope> =
        text.split_ascii_whitespace().filter_map(served).flat_map(|(_, needed)| *needed).copied().collect();
    if scopes.is_empty() {
        let advice = "expected permissions that are served here, such as rsa.user.read";
        return Err(OauthError::bad("invalid_scope", advice));
    }
    Ok(scopes)
}

/// Names the permissions that scopes amount to, of those that were asked for.
fn permissions(wanted: Option<&str>, scopes: &BTreeSet<Scope>) -> String {
    let is_wanted =
        |name: &str| wanted.is_none_or(|text| text.split_ascii_whitespace().any(|wanted| wanted == name));
    let granted = PERMISSIONS
        .iter()
        .filter(|(name, needed)| is_wanted(name) && needed.iter().all(|scope| scopes.contains(scope)));
    granted.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// Returns the role a client would have in the vendor's console.
pub(super) fn role(client: &Client) -> &'static str {
    if client.scopes.contains(&Scope::Admin) { "Super Administrator" } else { "Help Desk Administrator" }
}
