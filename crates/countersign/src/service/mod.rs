//! The use cases: one function each, a screen at most, one change each.

pub mod archive;
pub mod asked;
pub mod audit;
pub mod challenges;
pub mod client_assertions;
pub mod clients;
pub mod deliveries;
pub mod enforcement;
pub mod enrolment_links;
pub mod enrolment_tickets;
pub mod factors;
pub mod locks;
pub mod login_ticket;
pub mod numbers;
pub mod organisations;
pub mod passwords;
pub mod recovery;
pub mod retention;
pub mod setup;
mod short_codes;
pub mod sign_in;
pub mod signatures;
pub mod sole;
pub mod ticket;
pub mod tokens;
pub mod users;
pub mod verification;
