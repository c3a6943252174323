//! `countersign config …`: the configuration file.

use super::{failure::Failure, screen::Screen};
use clap::Subcommand;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print a configuration file with every setting, its default and what it is for
    #[command(after_help = "Example: countersign config default > /etc/countersign.toml")]
    Default,
}

/// Prints the annotated file that `default` returns.
pub(super) async fn run(
    args: Args,
    default: impl AsyncFnOnce() -> Result<String, Failure>,
) -> Result<(), Failure> {
    match args.command {
        Command::Default => Screen::new().print(&default().await?),
    }
}
