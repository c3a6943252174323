//! What every command that starts a server of its own works with.

use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use tempfile::TempDir;

/// A server's binary, and a place for its files.
#[derive(Args)]
pub(crate) struct Ground {
    /// The server's binary.
    #[arg(long, default_value = "target/release/countersign")]
    pub(crate) server: PathBuf,
    /// Where temporary directories are made, those of data included: the disk that is measured.
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
}

impl Ground {
    /// Makes a directory that goes away with the value.
    pub(crate) fn room(&self) -> Result<TempDir> {
        let room = tempfile::Builder::new().prefix("countersign-bench-").tempdir_in(&self.dir);
        room.with_context(|| format!("make a directory below {}", self.dir.display()))
    }
}
