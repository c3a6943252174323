//! Mail through SMTP servers.
