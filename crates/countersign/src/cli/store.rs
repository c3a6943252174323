//! `countersign store …`: the database.

use super::{failure::Failure, installation::Installation, screen::Screen};
use clap::Subcommand;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Bring the database to this version's schema; `serve` does so too
    #[command(after_help = "Example: countersign store migrate --data /var/lib/countersign")]
    Migrate {
        #[command(flatten)]
        installation: Installation,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Migrates with `migrate`, which names the migrations that took, and prints them.
pub(super) async fn run(
    args: Args,
    migrate: impl AsyncFnOnce(&Installation) -> Result<Vec<&'static str>, Failure>,
) -> Result<(), Failure> {
    let Command::Migrate { installation, json } = args.command;
    let applied = migrate(&installation).await?;

    let screen = Screen::new();
    if json {
        return screen.json(&json!({"applied": applied}));
    }
    if applied.is_empty() {
        return screen.print(&screen.done("the schema is this version's already"));
    }
    applied.iter().try_for_each(|name| screen.print(&screen.done(name)))
}
