//! HTTP: parses requests, calls use cases, renders answers. Decides nothing.

pub mod api;
pub mod caller;
pub mod extract;
pub mod forwarded;
pub mod limit;
pub mod openapi;
pub mod problem;
pub mod request;
pub mod server;
pub mod tls;

use crate::app::App;
use axum::{Router, extract::DefaultBodyLimit, middleware};
use std::sync::Arc;

/// The application as handlers share it.
pub type SharedApp = Arc<App>;

/// Returns the router with everything mounted.
pub fn router(app: SharedApp) -> Router {
    let (api, description) = api::router(app.config.server.baseline).split_for_parts();
    let body_limit = DefaultBodyLimit::max(app.config.server.body_bytes);
    api.merge(openapi::router(openapi::complete(description)))
        .fallback(request::not_found)
        .method_not_allowed_fallback(request::method_not_allowed)
        .layer(body_limit)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), request::layer))
        .with_state(app)
}
