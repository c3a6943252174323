//! The command line: one file a command. The only place that prints for people.
//!
//! Commands that manage people, factors and clients go through the HTTP API, like every other client. Commands that work
//! on an installation itself reach the server through [`inside`] and nowhere else.

mod api;
mod audit;
mod challenge;
mod client;
mod client_key;
mod completions;
mod config;
mod credentials;
mod delivery;
mod demo;
mod doctor;
mod emergency;
mod factor;
mod failure;
mod init;
mod inside;
mod installation;
mod login;
mod openapi;
mod org;
mod problem;
mod prompt;
mod recovery;
mod reset;
mod screen;
mod serve;
mod store;
#[cfg(test)]
mod stub;
mod terminal_qr;
mod unlock;
mod user;
mod verify;

use clap::{Parser, Subcommand, builder::PossibleValuesParser};
use failure::Failure;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

const AFTER_LONG_HELP: &str = "\
Credentials for user, factor, client, org, verify, unlock, reset, delivery and audit list:
  COUNTERSIGN_TOKEN                            a token from `countersign login`, else
  COUNTERSIGN_CLIENT_ID + _CLIENT_SECRET       a service client, else
  COUNTERSIGN_USERNAME + _PASSWORD [+ _CODE]   a person, asked for the second factor
  COUNTERSIGN_USER_ORGANISATION                that person's, if it is not the first one
  Each secret can be in a file instead: COUNTERSIGN_CLIENT_SECRET_FILE, …_PASSWORD_FILE

Exit codes:
  0  done                          4  there is no such thing
  1  the operation failed          5  a code was not accepted
  2  the command was not usable    6  an integrity check failed
  3  the server refused";

/// A self-hosted second-factor server
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    arg_required_else_help = true,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Try it: countersign demo. Environment and exit codes: countersign --help",
    after_long_help = AFTER_LONG_HELP
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole story in a minute, on a throw-away server
    Demo(demo::Args),
    /// Run the server
    Serve(serve::Args),
    /// Make an installation and print its first credentials
    Init(init::Args),
    /// Look for what is wrong with an installation
    Doctor(doctor::Args),

    /// People: list, show, create, update, delete, invite, recovery and emergency codes
    User(Box<user::Args>),
    /// Factors: list, enrol, activate, import, rename, disable, enable, delete, resync
    Factor(Box<factor::Args>),
    /// Codes that are sent: send, resend, show
    Challenge(challenge::Args),
    /// Check a code
    Verify(verify::Args),
    /// Let somebody try again after too many wrong codes
    Unlock(unlock::Args),
    /// Remove all of a person's factors, so that they begin again
    Reset(reset::Args),
    /// Service clients: list, create, show, update, rotate-secret, delete
    Client(client::Args),
    /// Organisations: list, create, show, update, policy
    Org(org::Args),
    /// Sign in once for several commands
    Login(login::Args),

    /// Messages on their way: list, show, retry, test
    Delivery(delivery::Args),
    /// The audit trail: list, verify, archive
    Audit(audit::Args),
    /// The database: migrate, conformance, copy
    Store(store::Args),
    /// The configuration file: default
    Config(config::Args),
    /// Print the description of the HTTP API
    Openapi(openapi::Args),
    /// Print a script with which a shell finishes commands
    Completions(completions::Args),
}

/// Runs the command of the process's arguments. An error is printed with a hint on what to do next.
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match runtime_for(&command) {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(format!("start the runtime: {error}")).report(),
    };
    let outcome = runtime.block_on(dispatch(command));
    // A question that nobody will answer any more may still wait for a line.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Builds threads for what serves; a command that asks one thing needs none.
fn runtime_for(command: &Command) -> std::io::Result<Runtime> {
    match command {
        Command::Serve(_) | Command::Demo(_) => Builder::new_multi_thread().enable_all().build(),
        Command::Store(args) if args.command.is_concurrent() => {
            Builder::new_multi_thread().enable_all().build()
        }
        _ => Builder::new_current_thread().enable_all().build(),
    }
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => {
            demo::run(args, inside::start_demo, inside::verify_demo_audit, inside::stop_demo).await
        }
        Command::Serve(args) => serve::run(args, inside::serve).await,
        Command::Init(args) => init::run(args, inside::initialise).await,
        Command::Doctor(args) => doctor::run(args, inside::examine).await,
        Command::User(args) => user::run(*args).await,
        Command::Factor(args) => factor::run(*args).await,
        Command::Challenge(args) => challenge::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Unlock(args) => unlock::run(args).await,
        Command::Reset(args) => reset::run(args).await,
        Command::Client(args) => client::run(args).await,
        Command::Org(args) => org::run(args).await,
        Command::Login(args) => login::run(args).await,
        Command::Delivery(args) => delivery::run(args).await,
        Command::Audit(args) => audit::run(args, inside::verify_audit, inside::archive_audit).await,
        Command::Store(args) => {
            let distribute = (inside::CITUS, inside::distribute);
            store::run(args, inside::migrate, inside::prove, inside::copy, distribute).await
        }
        Command::Config(args) => config::run(args, inside::default_config).await,
        Command::Openapi(args) => openapi::run(args, inside::describe_api).await,
        Command::Completions(args) => completions::run(&args),
    }
}

/// Returns a parser of one of a rule's names.
fn names<const N: usize>(names: [&'static str; N]) -> PossibleValuesParser {
    PossibleValuesParser::new(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// All commands that do something, with their path.
    fn leaves(command: &clap::Command, path: &str, into: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        if command.get_subcommands().next().is_none() {
            into.push((path, command.clone()));
            return;
        }
        command.get_subcommands().for_each(|sub| leaves(sub, &path, into));
    }

    fn all() -> Vec<(String, clap::Command)> {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        found
    }

    #[test]
    fn the_tree_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        for (path, command) in all() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(command.get_about().is_some(), "{path}");
            assert!(after.contains(&path), "the example of {path}: {after}");
        }
    }

    #[test]
    fn every_example_parses() {
        for (path, command) in all() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for example in
                after.lines().filter_map(|line| line.split_once("countersign ")).map(|(_, rest)| rest)
            {
                let words = words(example);
                let parsed = Cli::try_parse_from(std::iter::once("countersign".to_owned()).chain(words));
                let error = parsed.err().map(|error| error.to_string());
                assert_eq!(error, None, "{path}: {example}");
            }
        }
    }

    /// Splits a line as a shell does: blanks, single quotes, and an end at `>` or `)`.
    fn words(line: &str) -> Vec<String> {
        let line = line.split([')', '>']).next().unwrap_or_default();
        line.split('\'')
            .enumerate()
            .flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            })
            .collect()
    }

    #[test]
    fn the_commands_of_the_contract_parse() {
        for line in [
            "serve --config c.toml --data d --listen 127.0.0.1:9000",
            "init --data d --json",
            "demo --auto",
            "doctor",
            "openapi",
            "completions zsh",
            "config default",
            "store migrate",
            "store conformance --url postgres://ada@db/trial --only race",
            "store copy --from /var/lib/countersign --to postgres://ada@db/mfa",
            "audit verify",
            "audit verify --archive /srv/audit --archive /srv/audit-2",
            "audit archive --before 2026-01-01 --to /srv/audit --json",
            "user list --json",
            "verify ada --type recovery --request-id r1 --json",
            "user --url https://mfa.example --organisation acme list",
        ] {
            let words = std::iter::once("countersign").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn no_argument_takes_a_password_or_a_secret() {
        for (path, command) in all() {
            let takes = |argument: &&clap::Arg| argument.get_action().takes_values();
            for argument in command.get_arguments().filter(takes).filter_map(clap::Arg::get_long) {
                let is_secret = ["password", "secret", "token", "seed"].contains(&argument);
                assert!(!is_secret, "{path} --{argument}");
            }
        }
    }
}
