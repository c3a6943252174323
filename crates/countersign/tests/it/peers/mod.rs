//! The other side: what stands in for the services that messages are delivered through.

pub(crate) mod http;
pub(crate) mod providers;
