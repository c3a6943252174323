//! Mail servers.
