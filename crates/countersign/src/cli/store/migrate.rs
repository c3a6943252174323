//! `countersign store migrate`: brings the database to this version's schema.

use crate::cli::{failure::Failure, installation::Installation, screen::Screen};
use serde_json::json;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: countersign store migrate --data /var/lib/countersign")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    installation: Installation,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Migrates with `migrate`, which names the migrations that took, and prints them.
pub(super) async fn run(
    args: Args,
    migrate: impl AsyncFnOnce(&Installation) -> Result<Vec<&'static str>, Failure>,
) -> Result<(), Failure> {
    let applied = migrate(&args.installation).await?;

    let screen = Screen::new();
    if args.json {
        return screen.json(&json!({"applied": applied}));
    }
    if applied.is_empty() {
        return screen.print(&screen.done("the schema is this version's already"));
    }
    applied.iter().try_for_each(|name| screen.print(&screen.done(name)))
}
