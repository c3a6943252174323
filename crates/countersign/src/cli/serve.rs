//! `countersign serve`: runs the server.

use super::{
    failure::Failure,
    init::{self, FirstCredentials},
    installation::Installation,
};
use std::net::SocketAddr;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  countersign serve\n  countersign serve --config /etc/countersign.toml\n\n\
                        A new data directory is initialised, and the first credentials are printed once."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub installation: Installation,
    /// Address to listen on; 127.0.0.1:8080 unless the configuration says otherwise
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

/// What `serve` calls when it has made the installation first.
pub(super) type PrintFirst = fn(&FirstCredentials) -> Result<(), Failure>;

/// Runs the server with `serve` until it is told to stop.
pub(super) async fn run(
    args: Args,
    serve: impl AsyncFnOnce(Args, PrintFirst) -> Result<(), Failure>,
) -> Result<(), Failure> {
    serve(args, init::print).await
}
