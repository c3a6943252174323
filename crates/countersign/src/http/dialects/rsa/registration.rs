//! Device Registration Code: what somebody types to set up their app.

use super::{authenticators::is_device, body, caller::Admin, lookup::Named};
use crate::{
    error::Error,
    http::{
        SharedApp,
        caller::permit,
        extract::{Json, Raw},
        problem::Problem,
    },
    service::enrolment_links,
};
use axum::extract::State;
use countersign_core::refusal::Invalid;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegistrationCode {
    /// The documentation's spelling.
    #[serde(rename = "companyID")]
    company: String,
    /// The vendor's own client's.
    #[serde(rename = "companyId")]
    company_again: String,
    device_registration_code: String,
    email: Option<String>,
    expiration_date: String,
}

/// Issues a code to somebody who has no device yet.
pub(super) async fn issue(
    who: Admin<permit::WriteFactors>,
    State(app): State<SharedApp>,
    raw: Raw,
) -> Result<Json<RegistrationCode>, Problem> {
    let named: Named = body::read(&raw)?;
    // This call knows of no 404.
    let user = named.find(&app, &who.asker).await.map_err(|error| match error {
        Error::NotFound(_) => Invalid::new("email", "no such user").into(),
        other => Problem::from(other),
    })?;
    if user.factors.iter().any(is_device) {
        return Err(Problem::forbidden("device_registered", "the user has a registered device"));
    }
    let (code, expires_at) = enrolment_links::issue_code(&app, &who.asker, &user.id.into(), None)
        .await
        .map_err(body::within_policy)?;
    let company = who.asker.organisation.slug.to_string();
    Ok(Json::ok(RegistrationCode {
        company_again: company.clone(),
        company,
        device_registration_code: code.expose().clone(),
        email: user.email.map(|email| email.to_string()),
        expiration_date: expires_at.to_string(),
    }))
}
