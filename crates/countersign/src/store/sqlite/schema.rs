//! The migrations: forward only, numbered, checked against what was applied before.

use super::search;
use crate::{
    error::{Error, Result},
    store::migration::{self, Migration},
};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

/// Marks a file as ours (`CSGN`), in the place of SQLite's header that is meant for this.
const APPLICATION_ID: i64 = 0x4353_474e;

/// All migrations; a migration's number is its place from 1.
const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_documents", sql: include_str!("migrations/0001_documents.sql") },
    Migration { name: "0002_outbox", sql: include_str!("migrations/0002_outbox.sql") },
    Migration { name: "0003_people", sql: include_str!("migrations/0003_people.sql") },
    Migration { name: "0004_anchors", sql: include_str!("migrations/0004_anchors.sql") },
    Migration { name: "0005_lists", sql: include_str!("migrations/0005_lists.sql") },
];

/// Brings a database to the present schema; returns the names of the migrations that took.
///
/// The caller holds the lock on the data directory, so nobody else migrates. Each migration is one transaction: after
/// a crash the next start goes on where this one stopped.
pub(super) fn migrate(connection: &Connection) -> Result<Vec<&'static str>> {
    check_owner(connection)?;
    search::define(connection)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
             number     INTEGER PRIMARY KEY,
             name       TEXT    NOT NULL,
             checksum   BLOB    NOT NULL,
             applied_at INTEGER NOT NULL DEFAULT (unixepoch())
         ) STRICT",
    )?;
    let applied = check_applied(connection)?;

    let mut names = Vec::new();
    for (number, migration) in (1..).zip(MIGRATIONS).skip(applied) {
        apply(connection, number, migration)
            .map_err(|error| Error::Store(format!("apply migration {}: {error}", migration.name)))?;
        names.push(migration.name);
    }
    Ok(names)
}

/// Tells whether a database that is there has the present schema. Changes nothing.
pub(super) fn is_present(connection: &Connection) -> Result<bool> {
    check_owner(connection)?;
    Ok(check_applied(connection)? == MIGRATIONS.len())
}

/// Refuses a database some other program made: its tables are not ours to add to.
fn check_owner(connection: &Connection) -> Result<()> {
    let owner: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let is_empty = connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
    match (owner, is_empty) {
        (APPLICATION_ID, _) => Ok(()),
        (0, true) => Ok(connection.pragma_update(None, "application_id", APPLICATION_ID)?),
        _ => {
            Err(Error::Store("open database: another program made it; choose another data directory".into()))
        }
    }
}

/// Compares what was applied with what this binary knows; returns how many were.
fn check_applied(connection: &Connection) -> Result<usize> {
    let mut statement = connection.prepare("SELECT name, checksum FROM migrations ORDER BY number")?;
    let applied = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?;

    migration::check(MIGRATIONS, &applied)
}

fn apply(connection: &Connection, number: i64, migration: &Migration) -> Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(migration.sql)?;
    transaction.execute(
        "INSERT INTO migrations (number, name, checksum) VALUES (?1, ?2, ?3)",
        params![number, migration.name, migration.checksum()],
    )?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn the_people_of_an_older_installation_are_counted() {
        let connection = Connection::open_in_memory().unwrap();
        for migration in &MIGRATIONS[..2] {
            connection.execute_batch(migration.sql).unwrap();
        }
        connection
            .execute_batch(
                "INSERT INTO organisations (id, slug_key, version, body) VALUES (x'0a', 'a', 1, x''), (x'0b', 'b', 1, x'');
                 INSERT INTO users (id, organisation, number, username_key, role, is_active, mfa_enabled,
                     locked_methods, version, updated_at, body)
                 VALUES (x'01', x'0b', 1000, 'ada', 0, 1, 0, 0, 1, 0, x''), (x'02', x'0b', 1001, 'bob', 0, 1, 0, 0, 1, 0, x'')",
            )
            .unwrap();

        connection.execute_batch(MIGRATIONS[2].sql).unwrap();

        let mut statement = connection.prepare("SELECT people FROM organisations ORDER BY id").unwrap();
        let people = statement.query_map([], |row| row.get(0)).unwrap();
        assert_eq!(people.collect::<rusqlite::Result<Vec<i64>>>().unwrap(), [0, 2]);
    }

    #[test]
    fn the_people_of_an_older_installation_are_found_by_their_names() {
        let connection = Connection::open_in_memory().unwrap();
        search::define(&connection).unwrap();
        for migration in &MIGRATIONS[..3] {
            connection.execute_batch(migration.sql).unwrap();
        }
        connection
            .execute_batch(
                "INSERT INTO organisations (id, slug_key, version, body) VALUES (x'0a', 'a', 1, x''), (x'0b', 'b', 1, x'');
                 INSERT INTO users (id, organisation, number, username_key, email_key, family_key, role, is_active,
                     mfa_enabled, locked_methods, version, updated_at, body)
                 VALUES (x'01', x'0b', 1000, 'ada', 'ada@a.example', NULL, 0, 1, 0, 0, 1, 0, x''),
                     (x'02', x'0b', 20000, 'bob', NULL, 'adam', 0, 1, 0, 0, 1, 0, x'')",
            )
            .unwrap();

        let lists = MIGRATIONS.iter().find(|migration| migration.name == "0005_lists").unwrap();
        connection.execute_batch(lists.sql).unwrap();

        let numbers = |sql: &str| {
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.collect::<rusqlite::Result<Vec<i64>>>().unwrap()
        };
        // The letter of a name, and "ada" in hexadecimal digits.
        let found = |word| {
            numbers(&format!("SELECT rowid - (2 << 40) FROM name_grams WHERE name_grams MATCH '{word}'"))
        };
        assert_eq!(found("e616461"), [1000]);
        assert_eq!(found("f616461"), [20000]);
        assert_eq!(found("g616461"), [0; 0]);
        assert_eq!(numbers("SELECT block FROM people_blocks WHERE people = 1 ORDER BY block"), [0, 1]);
    }
}
