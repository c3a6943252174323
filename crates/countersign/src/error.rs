//! What can go wrong in a use case or the store. Knows nothing of HTTP or the command line.

use countersign_core::{Refusal, keyring::KeyError, refusal::Invalid, user::Unreadable};

/// The result of a use case or a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a use case or a store operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such thing, or it is not the caller's to see.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// A value that must be unique is taken; names the member.
    #[error("{0} is taken")]
    Conflict(&'static str),
    /// More work waits than the server takes on; try again.
    #[error("the server is busy")]
    Busy,
    /// The database cannot be reached, or does not answer in time. What was asked may have been done or not; asking again with
    /// the same request id tells. The text is for the log.
    #[error("{0}")]
    Unreachable(String),
    /// The store failed: disk full, file corrupt, database gone. The text is for the log.
    #[error("{0}")]
    Store(String),
    /// Something that should be impossible: a rule that panicked, a key that is gone. The text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(Refusal::Invalid(invalid))
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Self::Refused(Refusal::Key(error))
    }
}

impl From<Unreadable> for Error {
    fn from(error: Unreadable) -> Self {
        Self::Store(error.to_string())
    }
}
