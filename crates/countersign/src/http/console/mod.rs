//! Pages for people: what a browser shows. No script, nothing from elsewhere, nothing a cache or a frame may keep.
//!
//! A page is a template in the one layout ([`page`]) with the strings of its section in a reader's language
//! ([`language`]).

mod enrolment;
mod language;
mod page;

use super::Web;
use crate::service::enrolment_links;
use axum::{Router, routing::get};

/// Returns the routes of all pages.
pub(super) fn router() -> Router<Web> {
    Router::new().route(enrolment_links::PAGE, get(enrolment::show).post(enrolment::submit))
}
