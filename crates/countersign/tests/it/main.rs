//! What the server does, in process, through the real router on a real database file.

mod architecture;
mod audit;
mod bad_input;
mod client_keys;
mod clients;
mod codes;
mod delivery;
mod description;
mod dialects;
mod disconnect;
mod enrolment_page;
mod errors_deny;
mod http_providers;
mod ladder;
mod limits;
mod mail;
mod organisations;
mod outbound;
mod peers;
mod permissions;
#[path = "../support/postgres.rs"]
mod postgres;
mod retention;
mod secrets;
mod setup;
mod sign_in;
mod signing;
mod smpp;
mod store;
mod test_app;
mod verification;
mod words;
