//! `countersign openapi`: the description of the HTTP API.

use super::{failure::Failure, screen::Screen};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: countersign openapi > openapi.json")]
pub(super) struct Args {}

/// Prints the OpenAPI document that `describe` returns as JSON.
pub(super) async fn run(
    _args: Args,
    describe: impl AsyncFnOnce() -> Result<String, Failure>,
) -> Result<(), Failure> {
    Screen::new().print(&describe().await?)
}
