//! The real program from outside: its process, its files, its signals, and the tools people use with it.
//!
//! Each test makes an installation of its own in a temporary directory and serves it on a port the system chooses.

mod api;
mod browser;
mod cli;
mod conformance;
mod copy;
mod crash;
mod demo;
mod enrolment_page;
mod installation;
mod keys;
mod messages;
mod namespace;
mod phone;
#[path = "../support/postgres.rs"]
mod postgres;
mod start;
mod story;
mod tls;
mod tools;

/// The mail server of the tests in process.
#[path = "../it/peers/mail.rs"]
#[expect(dead_code, reason = "they ask it for more")]
mod mail_server;
