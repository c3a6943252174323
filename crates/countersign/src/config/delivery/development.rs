//! Channels for development: messages are written down in clear, and reach nobody.

use serde::Deserialize;
use std::path::PathBuf;

/// Appends one JSON line a message to a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What operators call it.
    pub name: String,
    /// The file, which is made with mode 0600.
    pub path: PathBuf,
    /// The countries whose numbers it takes; all if empty.
    #[serde(default)]
    pub countries: Vec<String>,
}

/// Writes messages into the log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// What operators call it.
    pub name: String,
    /// The countries whose numbers it takes; all if empty.
    #[serde(default)]
    pub countries: Vec<String>,
}
