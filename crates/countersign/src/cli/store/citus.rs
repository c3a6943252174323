//! `countersign store citus`: spreads the tables over the nodes of a Citus cluster.

use crate::cli::{failure::Failure, installation::Installation, screen::Screen};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  countersign store citus\n  countersign store citus --apply --config /etc/countersign.toml\n\n\
                        Applied to an empty database or to one in use; Citus moves what is there.\n\
                        Set store.sharded = true afterwards, and try the conformance checks on a database like it first."
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub installation: Installation,
    /// Run the statements on the database that store.url names, instead of printing them
    #[arg(long)]
    pub apply: bool,
}

/// Prints the statements, or has `apply` run them.
pub(super) async fn run(
    args: Args,
    statements: &str,
    apply: impl AsyncFnOnce(&Installation) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let screen = Screen::new();
    if !args.apply {
        return screen.print(statements.trim_end());
    }
    apply(&args.installation).await?;
    screen.print(&screen.done("the tables are spread over the cluster's nodes; set store.sharded = true"))
}
