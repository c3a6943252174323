//! Health, readiness and metrics, for those who operate the server.

use super::verify::VerifyBody;
use crate::http::{
    SharedApp,
    extract::{Body, Json},
    problem::Problem,
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use countersign_core::Channel;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// How the server is.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    status: &'static str,
    /// The version that runs.
    version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Tells that the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "operations", security(()), responses((status = 200, body = Health)),
)]
pub async fn healthz() -> Json<Health> {
    Json::ok(OK)
}

/// Tells whether requests can be served: a durable commit goes through.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", security(()), responses((status = 200, body = Health)),
)]
pub async fn readyz(State(app): State<SharedApp>) -> Result<Json<Health>, Problem> {
    if app.is_leaving() {
        let detail = "this server was asked to stop; go to another one";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "leaving", detail).retry_after(5));
    }
    app.store.ping().await?;
    Ok(Json::ok(OK))
}

/// Shows what is counted, in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", security(()), responses((status = 200, body = String, content_type = "application/openmetrics-text")),
)]
pub async fn metrics(State(app): State<SharedApp>) -> Result<Response, Problem> {
    let mut oldest = [None; Channel::ALL.len()];
    for channel in Channel::ALL {
        oldest[channel as usize] = app.store.oldest_queued(channel).await?;
    }
    let text = app.metrics.render(&app.store.gauges(), oldest, app.clock.now())?;
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Parses what `/v1/verify` parses and answers a constant: what measurements compare with. Off by default.
pub async fn baseline(Body(_): Body<VerifyBody>) -> impl IntoResponse {
    let kind = HeaderValue::from_static("application/json");
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], r#"{"result":"accepted"}"#)
}
