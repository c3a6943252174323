//! `countersign completions`: what lets a shell finish commands.

use super::{Cli, failure::Failure, screen::Screen};
use clap::CommandFactory;
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: countersign completions bash > /etc/bash_completion.d/countersign")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "countersign", &mut script);
    Screen::new().print(&String::from_utf8_lossy(&script))
}
