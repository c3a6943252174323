//! Load generator and measurements of Countersign.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's results and its signs of life")]

mod attempts;
mod baseline;
mod calls;
mod check;
mod client;
mod cpu;
mod crash;
mod dice;
mod drive;
mod estate;
mod figures;
mod ground;
mod inside;
mod kept;
mod lists;
mod machine;
mod measured;
mod messages;
mod nodes;
mod operations;
mod overload;
mod pgbench;
mod plot;
mod postgres;
mod provider;
mod pruning;
mod report;
mod run;
mod sample;
mod server;
mod work;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

/// As in the server, whose use cases load people here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a Countersign server, loads it, or kills it.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Threads of the client, which shares the cores with the server.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
}

#[derive(Subcommand)]
#[command(args_override_self = true)]
enum Command {
    /// Starts a server of its own and measures it.
    Run(run::Options),
    /// Counts the instructions of a verification, and compares them with those on record.
    Check(check::Options),
    /// Sends a server of its own more than it can carry, and floods it beside the traffic of others.
    Overload(overload::Options),
    /// Prunes the audit trail while people verify.
    Pruning(pruning::Options),
    /// Makes tables and plots of what runs found.
    Figures(figures::Options),
    /// Loads people into a server that runs.
    Load(LoadOptions),
    /// Kills a server of its own under load, again and again, and checks what is left.
    Crash(crash::Options),
    /// Kills a server of its own while it sends codes, and checks that each arrives or shows why not.
    Messages(messages::KillOptions),
    /// Verifies while the provider of text messages works, is silent, and works again.
    Outage(messages::OutageOptions),
}

/// Whom to load, and where.
#[derive(clap::Args)]
struct LoadOptions {
    /// The server, such as http://127.0.0.1:8080.
    #[arg(long)]
    url: String,
    /// A file with the output of `countersign init --json`.
    #[arg(long, value_name = "FILE")]
    credentials: PathBuf,
    /// People, each with one counter-based factor.
    #[arg(long, default_value_t = 2_000)]
    users: u64,
    /// The number of the first: people that are there already are not loaded twice.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
}

fn main() -> ExitCode {
    match measure(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(cli: &Cli) -> Result<()> {
    let threads = cli.threads as usize;
    runtime(threads)?.block_on(async {
        // A future dropped in the middle takes the server it started with it.
        tokio::select! {
            result = perform(&cli.command, threads) => result,
            name = interrupted() => bail!("stopped by {}", name?),
        }
    })
}

fn runtime(threads: usize) -> Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    // A runtime of one thread takes no number of workers.
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().context("start the runtime")
}

async fn perform(command: &Command, threads: usize) -> Result<()> {
    match command {
        Command::Run(options) => run::run(options, threads).await,
        Command::Check(options) => check::run(options).await,
        Command::Overload(options) => overload::run(options, threads).await,
        Command::Pruning(options) => pruning::run(options, threads).await,
        Command::Figures(options) => figures::run(options),
        Command::Load(options) => load(options).await,
        Command::Crash(options) => crash::run(options).await,
        Command::Messages(options) => messages::kill(options).await,
        Command::Outage(options) => messages::outage(options).await,
    }
}

async fn load(options: &LoadOptions) -> Result<()> {
    let credentials = client::Credentials::from_file(&options.credentials)?;
    let address = address_of(&options.url).await?;
    let numbers = options.first..options.first + options.users;
    let (people, elapsed) = estate::load(address, &credentials, numbers, options.connections.into()).await?;
    let seconds = elapsed.as_secs_f64();
    println!("{} people in {seconds:.1} s, {:.0} a second", people.len(), people.len() as f64 / seconds);
    Ok(())
}

/// Returns the address a URL leads to.
async fn address_of(url: &str) -> Result<SocketAddr> {
    let host = url.strip_prefix("http://").context("expected a URL such as http://127.0.0.1:8080")?;
    let host = host.trim_end_matches('/');
    let found = tokio::net::lookup_host(host).await.with_context(|| format!("look up {host}"))?.next();
    found.with_context(|| format!("look up {host}: no address"))
}

/// Waits until somebody wants us to stop.
async fn interrupted() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
