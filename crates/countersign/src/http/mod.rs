//! HTTP: parses requests, calls use cases, renders answers. Decides nothing.

pub mod api;
pub mod caller;
mod console;
pub mod dialects;
pub mod extract;
pub mod forwarded;
pub mod limit;
pub mod openapi;
pub mod problem;
mod pulse;
pub mod request;
pub mod server;
pub mod tls;

use crate::{
    app::App,
    config,
    error::{Error, Result},
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef, Request},
};
use dialects::mounting::Mounts;
use forwarded::TrustedProxies;
use futures_util::FutureExt;
use limit::{Rate, RateLimits, Rates};
use std::{ops::Deref, sync::Arc};
use tower::service_fn;

/// The application as handlers share it.
pub type SharedApp = Arc<App>;

/// What the HTTP layer has besides the application. Every layer of the router clones it for every request, so it is one
/// pointer: cores that count its users take the count from each other.
#[derive(Clone)]
pub struct Web(Arc<Site>);

/// What a [`Web`] points to.
pub struct Site {
    /// The application.
    pub app: SharedApp,
    /// How many requests are taken.
    pub limits: RateLimits,
    /// Proxies that are believed when they say who calls.
    pub proxies: TrustedProxies,
    /// Whose requests are whose.
    pub mounts: Mounts,
}

impl Deref for Web {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.0
    }
}

impl Web {
    /// Makes the layer from the application's configuration.
    pub fn new(app: SharedApp) -> Result<Self> {
        let proxies = TrustedProxies::parse(&app.config.server.trusted_proxies)
            .map_err(|error| Error::Store(format!("read server.trusted_proxies: {error}")))?;
        let limits = RateLimits::new(&rates(&app.config.limits));
        let mounts = Mounts::new(&app.config)?;
        Ok(Self(Arc::new(Site { app, limits, proxies, mounts })))
    }
}

impl FromRef<Web> for SharedApp {
    fn from_ref(web: &Web) -> Self {
        Self::clone(&web.app)
    }
}

/// A burst of twice the rate lets a page of requests through at once.
fn rates(limits: &config::Limits) -> Rates {
    let rate = |count: u32| match count {
        0 => Rate::UNLIMITED,
        count => Rate::per_second(count, count.saturating_mul(2)),
    };
    Rates {
        per_address: rate(limits.per_address),
        per_client: rate(limits.per_client),
        sign_in: rate(limits.sign_ins),
    }
}

/// Returns the router with everything mounted, behind what sorts requests by whose they are and what looks at each of them.
pub fn router(web: Web) -> Router {
    let routes = routes(web.clone());
    let answering = service_fn(move |request: Request| {
        let request = web.mounts.sort(request);
        request::answer(web.clone(), routes.clone(), request).map(Ok)
    });
    Router::new().fallback_service(answering)
}

/// Returns everything that is mounted.
pub fn routes(web: Web) -> Router {
    let (api, description) = api::router(web.app.config.server.baseline).split_for_parts();
    let body_limit = DefaultBodyLimit::max(web.app.config.server.body_bytes);
    api.merge(openapi::router(openapi::complete(description)))
        .merge(console::router())
        .merge(dialects::router(&web))
        .fallback(request::not_found)
        .method_not_allowed_fallback(request::method_not_allowed)
        .layer(body_limit)
        .with_state(web)
}
