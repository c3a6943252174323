//! `countersign store …`: the database.

pub(super) mod citus;
pub(super) mod conformance;
pub(super) mod copy;
mod migrate;
mod place;

use super::{failure::Failure, installation::Installation};
use crate::store::copy::Report;
use clap::Subcommand;
use conformance::Tell;
use copy::Watch;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Bring the database to this version's schema; `serve` does so too
    Migrate(migrate::Args),
    /// Find out whether a database of yours keeps what the store promises
    Conformance(conformance::Args),
    /// Move everything to another database: to PostgreSQL, or back
    Copy(copy::Args),
    /// Spread the tables over the nodes of a Citus cluster
    Citus(citus::Args),
}

impl Command {
    /// Tells whether the command does many things at the same time.
    pub(super) const fn is_concurrent(&self) -> bool {
        matches!(self, Self::Conformance(_) | Self::Copy(_))
    }
}

/// Runs the command with what it needs of the server: `migrate`, `prove`, `copy`, or `distribute` with its statements.
pub(super) async fn run(
    args: Args,
    migrate: impl AsyncFnOnce(&Installation) -> Result<Vec<&'static str>, Failure>,
    prove: impl AsyncFnOnce(&conformance::Args, Tell<'_>) -> Result<(), Failure>,
    copy: impl AsyncFnOnce(&copy::Args, Watch<'_>) -> Result<Report, Failure>,
    (statements, distribute): (&str, impl AsyncFnOnce(&Installation) -> Result<(), Failure>),
) -> Result<(), Failure> {
    match args.command {
        Command::Migrate(args) => migrate::run(args, migrate).await,
        Command::Conformance(args) => conformance::run(args, prove).await,
        Command::Copy(args) => copy::run(args, copy).await,
        Command::Citus(args) => citus::run(args, statements, distribute).await,
    }
}
