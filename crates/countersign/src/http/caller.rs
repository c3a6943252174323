//! Who is calling: a type in each handler's signature, built only here.
//!
//! [`May`] is a caller who has a permission; [`Myself`] a signed-in person about themselves. A token for the second step
//! of a sign-in is neither, and no extractor makes anything of it.

use super::{SharedApp, Web, dialects::Mounted, problem::Problem, request::RequestInfo};
use crate::{
    app::Asker,
    error::Error,
    service::{
        client_assertions::{self, Proven},
        clients, organisations,
        tokens::Holder,
    },
};
use axum::extract::{FromRequestParts, Query};
use countersign_core::{
    Call, Client, ClientId, Organisation, Permission, Rank, Scope, SessionId, Timestamp, User, UserId,
    event::Actor, user::Status,
};
use data_encoding::BASE64;
use http::{header, request::Parts};
use std::{collections::BTreeSet, marker::PhantomData, sync::Arc};
use uuid::Uuid;

/// A permission as a type.
pub trait Permit: Send + Sync + 'static {
    /// The permission.
    const PERMISSION: Permission;
}

/// The permissions as types.
pub mod permit {
    use super::{Permission, Permit};

    macro_rules! permits {
        ($($(#[$doc:meta])* $name:ident)+) => {$(
            $(#[$doc])*
            pub struct $name;
            impl Permit for $name {
                const PERMISSION: Permission = Permission::$name;
            }
        )+};
    }

    permits! {
        /// Check codes.
        Verify
        /// Read people.
        ReadUsers
        /// Change people.
        WriteUsers
        /// Change factors.
        WriteFactors
        /// Unlock.
        WriteLocks
        /// Read the audit trail.
        ReadAudit
        /// Administer the organisation.
        Administer
        /// Administer the installation.
        Own
    }
}

/// A caller who may do what `P` names, in the organisation they belong to or, as an owner, named.
pub struct May<P: Permit> {
    /// Who asks, and where.
    pub asker: Asker,
    permit: PhantomData<P>,
}

impl<P: Permit> FromRequestParts<Web> for May<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let info = RequestInfo::of(parts);
        let caller = Caller::authenticate(parts, web, &info).await?;
        caller.check_permission(P::PERMISSION)?;
        let organisation = caller.chosen_organisation(parts, web).await?;
        let call = info.call(caller.actor(), caller.rank());
        Ok(Self { asker: Asker { organisation, call }, permit: PhantomData })
    }
}

/// Anybody who proved who they are. What they may do is asked later, where a dialect's order of checks wants it so.
pub struct Known {
    caller: Caller,
    info: RequestInfo,
    home: Arc<Organisation>,
}

impl FromRequestParts<Web> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let info = RequestInfo::of(parts);
        let caller = Caller::authenticate(parts, web, &info).await?;
        let home = caller.chosen_organisation(parts, web).await?;
        Ok(Self { caller, info, home })
    }
}

impl Known {
    /// Makes somebody known of a client that signed its request, within what it may ask.
    pub async fn by_signature((organisation, id): Proven, parts: &Parts, web: &Web) -> Result<Self, Problem> {
        let client = organisation.client(id).ok_or_else(invalid_client)?;
        let (scopes, rank) = (client.scopes.clone(), client.rank());
        let caller = Caller::Client { organisation, id, scopes, rank };
        web.limits.check_client(caller.key()).map_err(|retry| Problem::too_many(&retry))?;
        let home = caller.chosen_organisation(parts, web).await?;
        Ok(Self { caller, info: RequestInfo::of(parts), home })
    }

    /// Returns the organisation the request is about: the one the dialect is bound to, else the caller's own.
    pub const fn organisation(&self) -> &Arc<Organisation> {
        &self.home
    }

    /// Returns the signed-in person and their session; `None` for a client.
    pub fn person(&self) -> Option<(&User, SessionId)> {
        match &self.caller {
            Caller::Person { user, session, .. } => Some((user, *session)),
            Caller::Client { .. } => None,
        }
    }

    /// Makes them somebody who acts by a permission in the organisation the request is about.
    pub fn asker(&self, permission: Permission) -> Result<Asker, Problem> {
        self.caller.check_permission(permission)?;
        Ok(self.asker_by(Arc::clone(&self.home), self.caller.rank()))
    }

    /// Makes them somebody who acts by a permission in an organisation of their own or, as an owner, in any.
    pub fn asker_in(
        &self,
        permission: Permission,
        organisation: &Arc<Organisation>,
    ) -> Result<Asker, Problem> {
        self.caller.check_permission(permission)?;
        if self.caller.organisation().id != organisation.id && !self.caller.is_owner() {
            return Err(other_organisation());
        }
        Ok(self.asker_by(Arc::clone(organisation), self.caller.rank()))
    }

    /// Makes them somebody who acts on a person: as themselves if that is who they are, else by a permission.
    pub fn towards(&self, permission: Permission, user: UserId) -> Result<Asker, Problem> {
        match self.themselves() {
            Ok(asker) if asker.call.actor == Actor::User(user) => Ok(asker),
            _ => self.asker(permission),
        }
    }

    /// Makes them a person who acts on themselves.
    pub fn themselves(&self) -> Result<Asker, Problem> {
        match &self.caller {
            Caller::Person { organisation, second_factor, .. } if organisation.id == self.home.id => {
                let rank = Rank::Themselves { second_factor: *second_factor };
                Ok(self.asker_by(Arc::clone(organisation), rank))
            }
            Caller::Person { .. } => Err(other_organisation()),
            Caller::Client { .. } => Err(people_only()),
        }
    }

    fn asker_by(&self, organisation: Arc<Organisation>, rank: Rank) -> Asker {
        Asker { organisation, call: self.info.call(self.caller.actor(), rank) }
    }
}

/// A signed-in person, about themselves.
pub struct Myself {
    /// Who asks, and where.
    pub asker: Asker,
    /// The person.
    pub id: UserId,
    /// Their session.
    pub session: SessionId,
}

impl FromRequestParts<Web> for Myself {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let info = RequestInfo::of(parts);
        match Caller::authenticate(parts, web, &info).await? {
            Caller::Person { organisation, user, session, second_factor } => {
                if bound_organisation(parts, web).await?.is_some_and(|bound| bound.id != organisation.id) {
                    return Err(other_organisation());
                }
                let call = info.call(Actor::User(user.id), Rank::Themselves { second_factor });
                Ok(Self { asker: Asker { organisation, call }, id: user.id, session })
            }
            Caller::Client { .. } => Err(people_only()),
        }
    }
}

impl Myself {
    /// Returns the person as a handle, for the use cases that take one.
    pub const fn handle(&self) -> countersign_core::Handle {
        countersign_core::Handle::Id(self.id)
    }
}

/// A client that proved itself by its secret or its signature, for the token endpoint's own routes.
pub struct AuthenticatedClient {
    /// The organisation it belongs to.
    pub organisation: Arc<Organisation>,
    /// The client's id.
    pub id: ClientId,
}

impl AuthenticatedClient {
    /// Returns the client.
    pub fn client(&self) -> Option<&Client> {
        self.organisation.client(self.id)
    }

    /// Checks an id and a secret. `None` if they are not a client's.
    pub async fn check(
        app: &SharedApp,
        id: &str,
        secret: &str,
        now: Timestamp,
    ) -> Result<Option<Self>, Error> {
        let Ok(id) = id.parse() else { return Ok(None) };
        let organisation = clients::authenticate(app, id, secret, now).await?;
        Ok(organisation.map(|organisation| Self { organisation, id }))
    }

    /// Checks what a client signed to get a token. `None` if it is not good.
    pub async fn by_assertion(
        app: &SharedApp,
        assertion: &str,
        is_for_us: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Result<Option<Self>, Error> {
        let proven = client_assertions::by_assertion(app, assertion, is_for_us, now).await?;
        Ok(proven.map(|(organisation, id)| Self { organisation, id }))
    }
}

/// A request to sign in, within what its address may try.
pub struct WithinSignInLimit;

impl FromRequestParts<Web> for WithinSignInLimit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let info = RequestInfo::of(parts);
        web.limits.check_sign_in(info.ip).map_err(|retry| Problem::too_many(&retry))?;
        Ok(Self)
    }
}

/// Anybody we know.
enum Caller {
    Client { organisation: Arc<Organisation>, id: ClientId, scopes: BTreeSet<Scope>, rank: Rank },
    Person { organisation: Arc<Organisation>, user: Box<User>, session: SessionId, second_factor: bool },
}

impl Caller {
    async fn authenticate(parts: &Parts, web: &Web, info: &RequestInfo) -> Result<Self, Problem> {
        let header = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            Problem::unauthorised("credentials_missing", "send Authorization: Bearer with an access token")
        })?;
        let text = header.to_str().map_err(|_| invalid_token())?;
        let caller = match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Self::by_token(&web.app, token.trim(), info.now).await?
            }
            Some((scheme, pair)) if scheme.eq_ignore_ascii_case("basic") => {
                Self::by_secret(web, pair.trim(), info).await?
            }
            _ => return Err(invalid_token()),
        };
        web.limits.check_client(caller.key()).map_err(|retry| Problem::too_many(&retry))?;
        Ok(caller)
    }

    async fn by_token(app: &SharedApp, token: &str, now: Timestamp) -> Result<Self, Problem> {
        let Some(bearer) = app.tokens.access(token, now) else {
            return Err(if app.tokens.second_step(token, now).is_some() {
                Problem::unauthorised(
                    "second_step_required",
                    "finish signing in with your second factor first",
                )
            } else {
                invalid_token()
            });
        };
        app.store.check_news()?;
        if app.store.is_revoked(bearer.id) {
            return Err(invalid_token());
        }
        let organisation = app.store.organisation(bearer.organisation).await?.ok_or_else(invalid_token)?;
        match &bearer.holder {
            Holder::Client(id, scopes) => {
                let client = organisation.client(*id).ok_or_else(invalid_token)?;
                if !client.honours_token_of(bearer.issued_at) {
                    return Err(invalid_token());
                }
                let (id, rank) = (*id, client.rank());
                let scopes = scopes.intersection(&client.scopes).copied().collect();
                Ok(Self::Client { organisation, id, scopes, rank })
            }
            Holder::Person(id, session) => {
                let user = app.store.user(organisation.id, *id).await?.ok_or_else(invalid_token)?;
                let open = user.session(*session, now).ok_or_else(invalid_token)?;
                if user.status == Status::Disabled {
                    return Err(invalid_token());
                }
                let second_factor = open.has_second_factor();
                Ok(Self::Person { organisation, session: *session, second_factor, user: Box::new(user) })
            }
        }
    }

    async fn by_secret(web: &Web, pair: &str, info: &RequestInfo) -> Result<Self, Problem> {
        let (id, secret) = basic(pair).ok_or_else(invalid_client)?;
        let Some(client) = AuthenticatedClient::check(&web.app, &id, &secret, info.now).await? else {
            // Guessing is slowed by address; a right secret never pays for it.
            web.limits.check_sign_in(info.ip).map_err(|retry| Problem::too_many(&retry))?;
            return Err(invalid_client());
        };
        let (scopes, rank) = match client.client() {
            Some(found) => (found.scopes.clone(), found.rank()),
            None => return Err(invalid_client()),
        };
        Ok(Self::Client { organisation: client.organisation, id: client.id, scopes, rank })
    }

    fn check_permission(&self, permission: Permission) -> Result<(), Problem> {
        match self {
            Self::Client { scopes, .. } => match permission.scope() {
                Some(scope) if scopes.contains(&scope) => Ok(()),
                Some(scope) => {
                    Err(Problem::forbidden("insufficient_scope", format!("this needs the scope {scope}")))
                }
                None => Err(people_only()),
            },
            Self::Person { user, .. } if user.roles.highest().allows(permission) => Ok(()),
            Self::Person { .. } => {
                let name = permission.name();
                Err(Problem::forbidden(
                    "role_too_low",
                    format!("your role does not have the permission {name}"),
                ))
            }
        }
    }

    /// An owner may name another organisation by `?organisation=`, or by calling a dialect that is bound to it; everybody
    /// else only their own.
    ///
    /// A name that cannot be read is refused: acting in one's own organisation instead would be a bad surprise.
    async fn chosen_organisation(&self, parts: &Parts, web: &Web) -> Result<Arc<Organisation>, Problem> {
        let own = self.organisation();
        if parts.extensions.get::<Mounted>().is_some() {
            return match bound_organisation(parts, web).await? {
                Some(bound) if bound.id != own.id && !self.is_owner() => Err(other_organisation()),
                Some(bound) => Ok(bound),
                None => Ok(Arc::clone(own)),
            };
        }
        let Some(named) = named_organisation(parts)? else { return Ok(Arc::clone(own)) };
        if self.is_owner() {
            return Ok(organisations::named(&web.app, &named).await?);
        }
        if named == own.id.to_string() || countersign_core::profile::matching_key(&named) == own.slug.key() {
            return Ok(Arc::clone(own));
        }
        Err(other_organisation())
    }

    fn is_owner(&self) -> bool {
        matches!(self, Self::Person { user, .. } if user.roles.highest().allows(Permission::Own))
    }

    const fn organisation(&self) -> &Arc<Organisation> {
        match self {
            Self::Client { organisation, .. } | Self::Person { organisation, .. } => organisation,
        }
    }

    fn actor(&self) -> Actor {
        match self {
            Self::Client { id, .. } => Actor::Client(*id),
            Self::Person { user, .. } => Actor::User(user.id),
        }
    }

    fn rank(&self) -> Rank {
        match self {
            Self::Client { rank, .. } => *rank,
            Self::Person { user, second_factor, .. } => {
                Rank::Person { role: user.roles.highest(), second_factor: *second_factor }
            }
        }
    }

    /// What the rate limit counts by.
    fn key(&self) -> [u8; 16] {
        let uuid: Uuid = match self {
            Self::Client { id, .. } => id.uuid(),
            Self::Person { user, .. } => user.id.uuid(),
        };
        *uuid.as_bytes()
    }
}

/// The call of somebody who is not signed in.
pub fn anonymous(info: &RequestInfo) -> Call {
    info.call(Actor::Anonymous, Rank::Nobody)
}

/// Reads the id and secret of HTTP Basic (RFC 7617); OAuth percent-encodes both (RFC 6749 §2.3.1), ours need none.
pub fn basic(pair: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64.decode(pair.as_bytes()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// Returns the organisation that the dialect of a request is bound to; `None` outside of dialects, and for one that is
/// bound to the whole installation.
pub async fn bound_organisation(parts: &Parts, web: &Web) -> Result<Option<Arc<Organisation>>, Problem> {
    match parts.extensions.get::<Mounted>() {
        Some(mounted) => Ok(web.mounts.organisation(&web.app, mounted.dialect).await?),
        None => Ok(None),
    }
}

fn named_organisation(parts: &Parts) -> Result<Option<String>, Problem> {
    #[derive(serde::Deserialize)]
    struct Named {
        organisation: Option<String>,
    }
    if parts.uri.query().is_none() {
        return Ok(None);
    }
    let Query(named) = Query::<Named>::try_from_uri(&parts.uri).map_err(|_| {
        Problem::invalid("invalid_parameter", Some("organisation".into()), "expected one id or slug")
    })?;
    Ok(named.organisation)
}

fn other_organisation() -> Problem {
    Problem::forbidden("other_organisation", "only an owner may act in another organisation")
}

fn people_only() -> Problem {
    Problem::forbidden("people_only", "this is for signed-in people, not for service clients")
}

fn invalid_token() -> Problem {
    Problem::unauthorised("invalid_token", "the access token is malformed, expired or revoked; get a new one")
}

fn invalid_client() -> Problem {
    Problem::unauthorised("invalid_client", "the client's id or secret is not right")
}
