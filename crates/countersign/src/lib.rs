//! Countersign: everything that touches the world. The rules are in `countersign-core`.
//!
//! Calls go one way: `cli, http → service → store → core`. A test reads the `use` lines and fails on an arrow that points
//! back.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod error;
pub mod http;
pub mod keys;
pub mod qr;
pub mod running;
pub mod service;
pub mod store;
pub mod telemetry;
