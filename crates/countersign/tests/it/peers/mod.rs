//! The other side: what stands in for the services that messages are delivered through.

pub(crate) mod http;
pub(crate) mod mail;
pub(crate) mod providers;
pub(crate) mod smpp;
