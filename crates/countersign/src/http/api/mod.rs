//! The native API: one file per resource.

pub mod audit;
pub mod challenges;
pub mod clients;
pub mod deliveries;
pub mod enrolment_links;
pub mod factors;
pub mod locks;
pub mod me;
pub mod oauth;
pub mod operations;
pub mod organisations;
pub mod passwords;
pub mod recovery;
pub mod users;
pub mod verify;

use super::{Web, openapi, problem::Problem};
use countersign_core::refusal::Invalid;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The items of a page when the caller does not say.
const PAGE: usize = 50;
/// The most items of a page.
const LONGEST_PAGE: usize = 200;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to give as `after` for the next page; null on the last one.
    pub next: Option<String>,
}

impl<T> List<T> {
    /// A list that always fits one page.
    pub const fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// Which page, and of which organisation.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// `next` of the page before.
    pub after: Option<String>,
    /// 1 to 200, default 50.
    pub limit: Option<usize>,
    /// For owners: the organisation's id or slug.
    pub organisation: Option<String>,
}

impl Paging {
    /// Checks the parameters for a list that always fits one page: it has no cursors.
    pub fn check_whole(&self) -> Result<(), Problem> {
        page_size(self.limit)?;
        match self.after {
            None => Ok(()),
            Some(_) => Err(Invalid::new("after", "not a cursor of this list").into()),
        }
    }
}

/// Reads how many items a page is to have.
pub fn page_size(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        None => Ok(PAGE),
        Some(limit) if (1..=LONGEST_PAGE).contains(&limit) => Ok(limit),
        Some(_) => Err(Invalid::new("limit", format!("expected 1 to {LONGEST_PAGE}")).into()),
    }
}

/// Tells a member that is `null` from one that is left out.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Returns all routes with their description.
pub fn router(baseline: bool) -> OpenApiRouter<Web> {
    let router = OpenApiRouter::with_openapi(openapi::Description::openapi())
        .routes(routes!(oauth::token))
        .routes(routes!(oauth::enrol))
        .routes(routes!(oauth::challenge))
        .routes(routes!(oauth::revoke))
        .routes(routes!(oauth::introspect))
        .routes(routes!(oauth::jwks))
        .routes(routes!(oauth::metadata))
        .routes(routes!(verify::verify))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::get, users::update, users::delete))
        .routes(routes!(users::reset))
        .routes(routes!(users::switch_off_mfa))
        .routes(routes!(users::sign_out))
        .routes(routes!(factors::list, factors::enrol))
        .routes(routes!(factors::get, factors::update, factors::delete))
        .routes(routes!(factors::activate))
        .routes(routes!(factors::resynchronise))
        .routes(routes!(factors::qr))
        .routes(routes!(challenges::send))
        .routes(routes!(challenges::get))
        .routes(routes!(challenges::resend))
        .routes(routes!(recovery::status, recovery::replace))
        .routes(routes!(recovery::emergency_status, recovery::issue_emergency, recovery::revoke_emergency))
        .routes(routes!(enrolment_links::send))
        .routes(routes!(enrolment_links::issue_code))
        .routes(routes!(locks::list))
        .routes(routes!(locks::unlock))
        .routes(routes!(passwords::invite))
        .routes(routes!(passwords::accept))
        .routes(routes!(me::get))
        .routes(routes!(me::factors, me::enrol))
        .routes(routes!(me::factor, me::update_factor, me::delete_factor))
        .routes(routes!(me::activate))
        .routes(routes!(me::resynchronise))
        .routes(routes!(me::qr))
        .routes(routes!(challenges::send_mine))
        .routes(routes!(challenges::get_mine))
        .routes(routes!(challenges::resend_mine))
        .routes(routes!(me::recovery_codes, me::replace_recovery_codes))
        .routes(routes!(me::locks))
        .routes(routes!(me::reset))
        .routes(routes!(me::switch_off_mfa))
        .routes(routes!(me::change_password))
        .routes(routes!(me::sign_out))
        .routes(routes!(organisations::list, organisations::create))
        .routes(routes!(organisations::get, organisations::update))
        .routes(routes!(organisations::policy, organisations::change_policy))
        .routes(routes!(organisations::enforce))
        .routes(routes!(clients::list, clients::create))
        .routes(routes!(clients::get, clients::update, clients::delete))
        .routes(routes!(clients::rotate_secret))
        .routes(routes!(clients::add_key))
        .routes(routes!(clients::delete_key))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::get))
        .routes(routes!(deliveries::retry))
        .routes(routes!(deliveries::test))
        .routes(routes!(audit::list))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics));
    if baseline { router.route("/baseline", axum::routing::post(operations::baseline)) } else { router }
}
