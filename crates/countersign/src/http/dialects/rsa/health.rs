//! The health check, which people open in a browser: no credentials, and nothing that is worth any.

use crate::http::SharedApp;
use axum::{Json, extract::State};
use http::Uri;
use serde_json::{Value, json};

/// Tells whether a durable commit goes through.
pub(super) async fn health(State(app): State<SharedApp>) -> Json<Value> {
    let status = if app.store.ping().await.is_ok() { "HEALTHY" } else { "DOWN" };
    let gauges = app.store.gauges();
    let issuer: Option<Uri> = app.tokens.issuer().parse().ok();
    Json(json!({
        "received": gauges.changes + gauges.waiting,
        "processed": gauges.changes,
        "hostname": issuer.as_ref().and_then(Uri::host),
        "connectivityStatus": status,
        "responseSuccessRateStatus": status,
        "roundtripStatus": status,
        "status": status,
        "adjustedStatus": status,
    }))
}
