//! What SQLite's errors mean to whoever runs the server.

use crate::error::Error;
use rusqlite::{ErrorCode, ffi, types::FromSqlError};

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match taken(&error) {
            Some(member) => Self::Conflict(member),
            None => explain("use database", &error),
        }
    }
}

impl From<FromSqlError> for Error {
    fn from(error: FromSqlError) -> Self {
        rusqlite::Error::from(error).into()
    }
}

/// Says what failed while doing something, and what to do about it.
pub(super) fn explain(doing: &str, error: &rusqlite::Error) -> Error {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full; free space where the data directory is",
        Some(ErrorCode::SystemIoFailure) => {
            "the disk reported an error; check it, its quota and its file system"
        }
        Some(ErrorCode::ReadOnly) => {
            "the file is read-only; let the server's user write to the data directory"
        }
        Some(ErrorCode::CannotOpen) => {
            "a file cannot be opened; let the server's user into the data directory"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged; stop the server and restore a backup"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program has locked the file; stop that program"
        }
        _ => return Error::Store(format!("{doing}: {error}")),
    };
    Error::Store(format!("{doing}: {advice} ({error})"))
}

/// Returns the member whose uniqueness a statement would have broken.
///
/// SQLite names the columns of the constraint in the message, and nowhere else.
fn taken(error: &rusqlite::Error) -> Option<&'static str> {
    const MEMBERS: [(&str, &str); 7] = [
        ("users.username_key", "username"),
        ("users.email_key, users.organisation", "email"),
        ("users.id", "id"),
        ("organisations.slug_key", "slug"),
        ("organisations.id", "id"),
        ("clients.id", "client"),
        ("checkpoints.seq", "checkpoint"),
    ];
    let rusqlite::Error::SqliteFailure(failure, Some(message)) = error else { return None };
    if !matches!(failure.extended_code, ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY) {
        return None;
    }
    MEMBERS.into_iter().find_map(|(column, member)| message.ends_with(column).then_some(member))
}
