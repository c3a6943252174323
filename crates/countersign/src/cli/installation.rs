//! Which installation on this machine a command works on.

use std::path::PathBuf;

/// Where the configuration and the data are.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct Installation {
    /// Configuration file (TOML)
    #[arg(long, env = "COUNTERSIGN_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory; ./countersign-data unless the configuration says otherwise
    #[arg(long, env = "COUNTERSIGN_DATA", hide_env_values = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
}
