//! What PostgreSQL's errors mean: to a change that may be tried again, and to whoever runs the server.

use crate::error::Error;
use countersign_core::{Refusal, refusal::Invalid, user::Unreadable};
use tokio_postgres::error::SqlState;

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// Trying again would not help.
    Final(Error),
    /// Somebody else was first: again, with what there is now.
    Overtaken,
    /// The database cannot be used at the moment. What was sent may have been committed or not.
    Passing(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Final(refusal.into())
    }
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        Self::Final(invalid.into())
    }
}

impl From<Unreadable> for Fault {
    fn from(unreadable: Unreadable) -> Self {
        Self::Final(unreadable.into())
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            // Not the database's words: the connection.
            return Self::Passing(text(&error));
        };
        match *state {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Self::Overtaken,
            _ if is_passing(state) => Self::Passing(text(&error)),
            _ => Self::Final(explain("use database", &error)),
        }
    }
}

/// States that end by themselves: a server that starts, stops or was demoted, a lock or a statement that took too long, a
/// connection that broke.
fn is_passing(state: &SqlState) -> bool {
    const CONNECTION: &str = "08";
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ]
    .contains(state)
        || state.code().starts_with(CONNECTION)
}

/// Says what failed while doing something, and what to do about it.
pub(in crate::store) fn explain(doing: &str, error: &tokio_postgres::Error) -> Error {
    let found = text(error);
    let advice = error.code().and_then(advise).or_else(|| advise_connection(&found));
    Error::Store(match advice {
        Some(advice) => format!("{doing}: {found}; {advice}"),
        None => format!("{doing}: {found}"),
    })
}

fn advise(state: &SqlState) -> Option<&'static str> {
    Some(match *state {
        SqlState::INVALID_PASSWORD => "set the right password in store.url_file or store.password_file",
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "let this user in from this machine (pg_hba.conf, CREATE ROLE … LOGIN), over TLS if the server asks for it"
        }
        SqlState::INVALID_CATALOG_NAME => "create the database first: createdb -E UTF8 -T template0 NAME",
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "let the user create and use tables there: make it the owner of the database, or GRANT CREATE, USAGE ON SCHEMA public"
        }
        SqlState::DUPLICATE_TABLE | SqlState::DUPLICATE_OBJECT => {
            "another program keeps tables there; give Countersign a database of its own"
        }
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN => {
            "the schema is not this version's; run countersign store migrate"
        }
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => {
            "behind a pooler in transaction mode, set store.prepared_statements to false"
        }
        SqlState::DISK_FULL => "free space where PostgreSQL keeps its data",
        _ => return None,
    })
}

/// Adds what to do to what the libraries said.
pub(super) fn with_advice(found: String) -> String {
    match advise_connection(&found) {
        Some(advice) => format!("{found}; {advice}"),
        None => found,
    }
}

/// Recognises what the database did not say itself, by the words of the libraries.
fn advise_connection(found: &str) -> Option<&'static str> {
    let says = |words: &str| found.contains(words);
    if says("NotValidForName") || says("not valid for name") {
        return Some("connect by a name that stands in the server's certificate");
    }
    if says("UnknownIssuer") || says("invalid peer certificate") {
        return Some(
            "name the authority that signed the server's certificate: sslrootcert=FILE in store.url",
        );
    }
    if says("server does not support TLS") {
        return Some(
            "switch TLS on there, or say sslmode=disable in store.url if nobody can listen in between",
        );
    }
    if ["too many clients", "remaining connection slots", "no more connections", "too many connections"]
        .into_iter()
        .any(says)
    {
        return Some("raise max_connections there, lower store.connections here, or put pgbouncer between");
    }
    if says("does not allow writes") {
        return Some("it is a standby; name the primary in store.url, or all hosts of the cluster");
    }
    if says("Connection refused") || says("timed out") {
        return Some("check host and port in store.url, and that PostgreSQL runs");
    }
    None
}

/// Returns all an error has to say: the libraries say the cause behind it.
pub(super) fn text(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return said.message().to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
