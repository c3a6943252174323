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

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Migration {
    /// The engine: `sqlite` or `postgres`.
    pub engine: String,
    /// The schema's number before.
    pub from: u64,
    /// The schema's number now.
    pub to: u64,
}

/// Migrates with `migrate`, and prints what was done.
pub(super) async fn run(
    args: Args,
    migrate: impl AsyncFnOnce(&Installation) -> Result<Migration, Failure>,
) -> Result<(), Failure> {
    let Command::Migrate { installation, json } = args.command;
    let Migration { engine, from, to } = migrate(&installation).await?;

    let screen = Screen::new();
    if json {
        return screen.json(&json!({"engine": engine, "from": from, "to": to}));
    }
    let what = if from == to {
        format!("{engine}: schema {to}, nothing to do")
    } else {
        format!("{engine}: schema {from} → {to}")
    };
    screen.print(&screen.done(&what))
}
