//! Why a command did not do what it was asked: a message, what to do next, and the exit code.

use owo_colors::OwoColorize;
use std::{fmt, io, process::ExitCode};

/// The documented exit codes. They are part of the command line's contract and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// It was done.
    Done = 0,
    /// The operation failed.
    Failed = 1,
    /// The command was not understood, or something it needs was not given.
    Usage = 2,
    /// The server refused: not signed in, or not allowed.
    Refused = 3,
    /// There is no such thing.
    NotFound = 4,
    /// A code was not accepted.
    NotAccepted = 5,
    /// An integrity check failed.
    Integrity = 6,
}

/// What went wrong, for the person at the keyboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened; empty when all has been said on standard output.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// Says that the operation failed.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), hint: None }
    }

    /// Says that something needed was not given.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).exit(Exit::Usage)
    }

    /// Ends with an exit code and without a word, because all has been said on standard output.
    pub(super) fn silent(exit: Exit) -> Self {
        Self::new("").exit(exit)
    }

    /// Sets the exit code.
    pub(super) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Says what to do next.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it on standard error and returns the exit code.
    pub(super) fn report(&self) -> ExitCode {
        let colours = super::screen::has_colours(&io::stderr());
        let painted = |label: &str| if colours { label.bold().red().to_string() } else { label.to_owned() };
        let mut text = String::new();
        if !self.message.is_empty() {
            text = format!("{} {}\n", painted("error:"), self.message);
        }
        if let Some(hint) = &self.hint {
            let label = if colours { "hint:".bold().to_string() } else { "hint:".to_owned() };
            text.push_str(&format!("{label} {hint}\n"));
        }
        // Nobody is left to tell when standard error is closed; the exit code still says it.
        drop(io::Write::write_all(&mut io::stderr(), text.as_bytes()));
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A failed write to standard output. A reader that has seen enough (`… | head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Done),
            _ => Self::new(format!("write to standard output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));

        assert_eq!(failure, Failure::silent(Exit::Done));
    }

    #[test]
    fn the_exit_codes_are_the_documented_ones() {
        let codes = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Refused,
            Exit::NotFound,
            Exit::NotAccepted,
            Exit::Integrity,
        ];

        assert!(codes.iter().enumerate().all(|(code, exit)| *exit as usize == code));
    }
}
