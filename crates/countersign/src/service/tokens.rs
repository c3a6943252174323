//! Access tokens: JWTs signed with Ed25519 (RFC 9068), checked once and remembered by their hash until they expire.
//!
//! A token for the second step of a sign-in has a type and an audience of its own, so no route can take it for access.

use crate::{
    error::{Error, Result},
    keys::Keys,
};
use countersign_core::{
    ClientId, LoginId, OrganisationId, Scope, SessionId, Timestamp, User, UserId, session::Session,
};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use uuid::Uuid;

/// How many verified tokens are remembered.
const REMEMBERED: usize = 16_384;
/// The longest token that is looked at.
const LONGEST: usize = 4096;

const ACCESS_TYPE: &str = "at+jwt";
const ACCESS_AUDIENCE: &str = "countersign";
const SECOND_STEP_TYPE: &str = "second-step+jwt";
const SECOND_STEP_AUDIENCE: &str = "countersign:second-step";

/// Issues and checks tokens.
pub struct Tokens {
    issuer: String,
    key_id: String,
    public: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    verified: Cache<[u8; 32], Arc<Bearer>>,
}

/// A verified access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The token's id, by which it is revoked.
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation: OrganisationId,
    /// Whose it is.
    pub holder: Holder,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Whose an access token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A service client's, within scopes.
    Client(ClientId, BTreeSet<Scope>),
    /// A signed-in person's.
    Person(UserId, SessionId),
}

/// A verified token for the second step of a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondStepToken {
    /// The organisation.
    pub organisation: OrganisationId,
    /// The person.
    pub user: UserId,
    /// The open login.
    pub login: LoginId,
}

/// A token as it is handed out.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The compact JWS.
    pub token: String,
    /// Its id.
    pub id: Uuid,
    /// How long it is good.
    pub life: Duration,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    org: OrganisationId,
    iat: i64,
    exp: i64,
    jti: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login: Option<LoginId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    amr: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
}

impl Tokens {
    /// Makes the issuer from the signing key.
    pub fn new(keys: &Keys, issuer: String) -> Self {
        let signing = keys.signing();
        Self {
            issuer,
            key_id: signing.id.clone(),
            public: BASE64URL_NOPAD.encode(signing.public()),
            encoding: EncodingKey::from_ed_der(signing.pkcs8()),
            decoding: DecodingKey::from_ed_der(signing.public()),
            verified: Cache::new(REMEMBERED),
        }
    }

    /// Returns the issuer, the base of the metadata's addresses.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the public keys as a JWK set (RFC 7517, RFC 8037).
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.key_id, "x": self.public,
        }]})
    }

    /// Issues an access token to a client.
    pub fn issue_to_client(
        &self,
        organisation: OrganisationId,
        client: ClientId,
        scopes: &BTreeSet<Scope>,
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued> {
        let mut claims = self.claims(ACCESS_AUDIENCE, client.uuid(), organisation, now, life);
        claims.client_id = Some(client);
        claims.scope = Some(Scope::list(scopes));
        self.sign(ACCESS_TYPE, &claims, life)
    }

    /// Issues an access token to a signed-in person.
    pub fn issue_to_person(
        &self,
        user: &User,
        session: &Session,
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued> {
        let mut claims = self.claims(ACCESS_AUDIENCE, user.id.uuid(), user.organisation, now, life);
        claims.sid = Some(session.id);
        claims.client_id = session.client;
        claims.amr.clone_from(&session.amr);
        claims.auth_time = Some(session.created_at.seconds());
        self.sign(ACCESS_TYPE, &claims, life)
    }

    /// Issues the token for the second step of a sign-in.
    pub fn issue_second_step(
        &self,
        step: &SecondStepToken,
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued> {
        let mut claims = self.claims(SECOND_STEP_AUDIENCE, step.user.uuid(), step.organisation, now, life);
        claims.login = Some(step.login);
        self.sign(SECOND_STEP_TYPE, &claims, life)
    }

    /// Checks an access token; `None` if it is malformed, not ours, expired or not for access.
    ///
    /// Whether it is revoked, and whether its holder may still act, is for the caller to ask.
    pub fn access(&self, token: &str, now: Timestamp) -> Option<Arc<Bearer>> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(bearer) = self.verified.get(&hash) {
            return (now < bearer.expires_at).then_some(bearer);
        }
        let claims = self.decode(token, ACCESS_TYPE, ACCESS_AUDIENCE, now)?;
        let holder = match (claims.sid, claims.client_id) {
            (Some(session), _) => Holder::Person(UserId::from_uuid(claims.sub), session),
            (None, Some(client)) => {
                let scopes = Scope::parse_list("scope", claims.scope.as_deref().unwrap_or_default()).ok()?;
                Holder::Client(client, scopes)
            }
            (None, None) => return None,
        };
        let bearer = Arc::new(Bearer {
            id: claims.jti,
            organisation: claims.org,
            holder,
            issued_at: Timestamp::from_seconds(claims.iat),
            expires_at: Timestamp::from_seconds(claims.exp),
        });
        self.verified.insert(hash, Arc::clone(&bearer));
        Some(bearer)
    }

    /// Checks a token for the second step.
    pub fn second_step(&self, token: &str, now: Timestamp) -> Option<SecondStepToken> {
        let claims = self.decode(token, SECOND_STEP_TYPE, SECOND_STEP_AUDIENCE, now)?;
        let user = UserId::from_uuid(claims.sub);
        Some(SecondStepToken { organisation: claims.org, user, login: claims.login? })
    }

    fn claims(
        &self,
        audience: &str,
        subject: Uuid,
        organisation: OrganisationId,
        now: Timestamp,
        life: Duration,
    ) -> Claims {
        Claims {
            iss: self.issuer.clone(),
            aud: audience.to_owned(),
            sub: subject,
            org: organisation,
            iat: now.seconds(),
            exp: now.after(life).seconds(),
            jti: uuid::Builder::from_random_bytes(rand::random()).into_uuid(),
            client_id: None,
            scope: None,
            sid: None,
            login: None,
            amr: Vec::new(),
            auth_time: None,
        }
    }

    fn sign(&self, kind: &str, claims: &Claims, life: Duration) -> Result<Issued> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(kind.to_owned());
        header.kid = Some(self.key_id.clone());
        let token = jsonwebtoken::encode(&header, claims, &self.encoding)
            .map_err(|error| Error::Internal(format!("sign token: {error}")))?;
        Ok(Issued { token, id: claims.jti, life })
    }

    fn decode(&self, token: &str, kind: &str, audience: &str, now: Timestamp) -> Option<Claims> {
        if token.len() > LONGEST {
            return None;
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[&self.issuer]);
        // The library reads the machine's clock; ours is an argument.
        validation.validate_exp = false;
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).ok()?;
        let is_of_kind = data.header.typ.as_deref() == Some(kind);
        let is_good = now < Timestamp::from_seconds(data.claims.exp);
        (is_of_kind && is_good).then_some(data.claims)
    }
}
