//! How messages are delivered: the providers of each channel, in the order they are asked.

pub mod http;
pub mod mail;
pub mod smpp;
