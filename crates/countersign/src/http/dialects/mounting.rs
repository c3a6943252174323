//! Which requests are a dialect's: those below its prefix, on any host, and all others on a host where it owns `/`.
//!
//! The prefixes, `/enrol` and the operations' paths mean the same on every host, so that links and probes work on each.

use super::{Dialect, canonical};
use crate::{
    app::App,
    config::{Config, dialects::host_name},
    error::{Error, Result},
    service::{organisations, setup},
};
use axum::extract::Request;
use countersign_core::{Organisation, OrganisationId, refusal::Invalid};
use http::{Uri, header, uri::PathAndQuery};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

/// Paths that are the server's own on every host.
const COMMON: [&str; 4] = ["/enrol", "/healthz", "/readyz", "/metrics"];

/// A request of a dialect.
#[derive(Debug, Clone)]
pub struct Mounted {
    /// The dialect.
    pub dialect: Dialect,
    /// What the client's paths begin with: scheme, host and, where the dialect does not own `/`, its prefix.
    pub base: String,
    /// The path as the client wrote it, from the host on.
    pub path: String,
    /// The id of the request, once it has one.
    pub request: String,
}

/// Who owns what.
#[derive(Debug)]
pub struct Mounts {
    owners: BTreeMap<String, Option<Dialect>>,
    root: Option<Dialect>,
    enabled: Vec<Dialect>,
    /// What is the base of addresses where the client did not say which host it means.
    issuer: String,
    /// The organisation that dialects are bound to which name none.
    first: OnceLock<OrganisationId>,
}

impl Mounts {
    /// Reads the configuration.
    pub fn new(config: &Config) -> Result<Self> {
        let dialects = &config.dialects;
        Ok(Self {
            owners: dialects.owners(&config.server)?,
            root: dialects.root,
            enabled: Dialect::ALL.into_iter().filter(|dialect| dialects.is_enabled(*dialect)).collect(),
            issuer: config.issuer(),
            first: OnceLock::new(),
        })
    }

    /// Returns whose request it is; `None` if it is of the native API.
    fn place(&self, request: &Request) -> Option<Placed> {
        let path = request.uri().path();
        let below = |dialect: &Dialect| is_below(path, dialect.prefix());
        if let Some(dialect) = self.enabled.iter().copied().find(below) {
            return Some(Placed { dialect, has_prefix: true });
        }
        if COMMON.iter().any(|common| is_below(path, common)) {
            return None;
        }
        let dialect = match host(request).and_then(|host| self.owners.get(&host_name(host)?)) {
            Some(owner) => *owner,
            None => self.root,
        };
        dialect.map(|dialect| Placed { dialect, has_prefix: false })
    }

    /// Notes whose request it is, and makes its path the one that is routed by.
    pub fn sort(&self, mut request: Request) -> Request {
        let Some(placed) = self.place(&request) else { return request };
        let path = request.uri().path().to_owned();
        let prefix = placed.dialect.prefix();
        let below = if placed.has_prefix { &path[prefix.len()..] } else { path.as_str() };
        let routed = canonical(placed.dialect, below);
        if routed.is_some() || !placed.has_prefix {
            let routed = format!("{prefix}{}", routed.as_deref().unwrap_or(below));
            *request.uri_mut() = with_path(request.uri(), &routed);
        }
        let base = self.base(&request, if placed.has_prefix { prefix } else { "" });
        request.extensions_mut().insert(Mounted {
            dialect: placed.dialect,
            base,
            path,
            request: String::new(),
        });
        request
    }

    fn base(&self, request: &Request, prefix: &str) -> String {
        let scheme = self.issuer.split("://").next().unwrap_or("https");
        match host(request).filter(|host| host_name(host).is_some()) {
            Some(host) => format!("{scheme}://{host}{prefix}"),
            None => format!("{}{prefix}", self.issuer),
        }
    }

    /// Returns the organisation a dialect is bound to; `None` if it is the whole installation.
    pub async fn organisation(&self, app: &App, dialect: Dialect) -> Result<Option<Arc<Organisation>>> {
        if dialect == Dialect::SafeShare {
            return Ok(None);
        }
        if let Some(name) = app.config.dialects.organisation(dialect) {
            return organisations::named(app, name).await.map(Some);
        }
        let id = match self.first.get() {
            Some(id) => *id,
            None => {
                let first = organisations::first(app).await?.ok_or(Error::NotFound("organisation"))?;
                *self.first.get_or_init(|| first.id)
            }
        };
        app.store.organisation(id).await?.ok_or(Error::NotFound("organisation")).map(Some)
    }

    /// Refuses to start with a dialect that is bound to an organisation there is not.
    pub async fn check(&self, app: &App) -> Result<()> {
        let is_new = organisations::first(app).await?.is_none();
        for dialect in &self.enabled {
            let Some(name) = app.config.dialects.organisation(*dialect) else { continue };
            if organisations::find(app, name).await?.is_none() && !(is_new && name == setup::FIRST_SLUG) {
                let advice = "create it (countersign org create) before you bind a dialect to it";
                let message = format!("there is no organisation {name}; {advice}");
                return Err(Invalid::new(format!("dialects.{dialect}.organisation"), message).into());
            }
        }
        Ok(())
    }
}

struct Placed {
    dialect: Dialect,
    has_prefix: bool,
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the host a client means, with its port.
fn host(request: &Request) -> Option<&str> {
    let of_header = || request.headers().get(header::HOST)?.to_str().ok();
    // HTTP/2 has it in the address (RFC 9113 §8.3.1).
    request.uri().authority().map(http::uri::Authority::as_str).or_else(of_header)
}

/// Replaces the path and keeps the query.
fn with_path(uri: &Uri, path: &str) -> Uri {
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    // What was part of an address is part of one behind a prefix, too; what is not, nothing is mounted at.
    parts.path_and_query = PathAndQuery::try_from(text).ok();
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("/"))
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Mounted {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().cloned().expect("every request of a dialect is marked before it is routed"))
    }
}
