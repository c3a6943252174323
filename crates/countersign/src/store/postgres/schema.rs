//! The migrations: forward only, numbered, checked against what was applied before, and applied by one node at a time.

use super::{
    database::{Database, Done, Lent},
    failure::Fault,
    sql::args,
};
use crate::{
    error::{Error, Result},
    store::migration::{self, Migration},
};
use std::sync::Arc;
use tokio_postgres::error::SqlState;

/// All migrations; a migration's number is its place from 1.
const MIGRATIONS: &[Migration] =
    &[Migration { name: "0001_everything", sql: include_str!("migrations/0001_everything.sql") }];

/// Brings a database to the present schema; returns the names of the migrations that took.
///
/// Nodes that start at the same time wait for each other: whoever has the first row of `migrations` migrates, all in one
/// transaction.
pub(super) async fn migrate(database: &Arc<Database>) -> Result<Vec<&'static str>> {
    database
        .commit(|lent| async move {
            make_table(&lent).await?;
            lent.rows("SELECT 1 FROM migrations WHERE number = 0 FOR UPDATE", args![]).await?;
            let applied = check_applied(&lent).await?;
            let mut names = Vec::new();
            for (number, migration) in (1_i64..).zip(MIGRATIONS).skip(applied) {
                apply(&lent, number, migration).await?;
                names.push(migration.name);
            }
            Ok(Done::of(names))
        })
        .await
}

/// Tells whether somebody made an installation in a database; tables alone are none.
pub(super) async fn is_present(database: &Arc<Database>) -> Result<bool> {
    database
        .read(|lent| async move {
            let table = lent.row("SELECT to_regclass('meta') IS NOT NULL", args![]).await?;
            let has_table: bool = table.ok_or(Fault::Overtaken)?.try_get(0)?;
            Ok(has_table && lent.row("SELECT 1 FROM meta WHERE name = 'keys'", args![]).await?.is_some())
        })
        .await
}

/// Tells whether a database that has our tables has the present schema.
pub(super) async fn is_current(lent: &Lent) -> Result<bool, Fault> {
    Ok(check_applied(lent).await? == MIGRATIONS.len())
}

/// What is said to whoever makes a table that somebody else is making, `IF NOT EXISTS` or not.
const MET: [SqlState; 3] =
    [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT];

async fn make_table(lent: &Lent) -> Result<(), Fault> {
    let made = lent
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS migrations (
                 number     bigint      NOT NULL PRIMARY KEY,
                 name       text        NOT NULL,
                 checksum   bytea       NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now()
             );
             INSERT INTO migrations (number, name, checksum) VALUES (0, 'lock', '') ON CONFLICT DO NOTHING",
        )
        .await;
    match made {
        // Two who make it at the same time meet in the catalogue: before it looks for the name, or after.
        Err(error) if error.code().is_some_and(|code| MET.contains(code)) => Err(Fault::Overtaken),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

async fn check_applied(lent: &Lent) -> Result<usize, Fault> {
    let rows =
        lent.rows("SELECT name, checksum FROM migrations WHERE number > 0 ORDER BY number", args![]).await?;
    let applied: Result<Vec<(String, Vec<u8>)>, Fault> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    Ok(migration::check(MIGRATIONS, &applied?)?)
}

async fn apply(lent: &Lent, number: i64, migration: &Migration) -> Result<(), Fault> {
    let failed = |error: tokio_postgres::Error| match Fault::from(error) {
        Fault::Final(error) => {
            Fault::Final(Error::Store(format!("apply migration {}: {error}", migration.name)))
        }
        passing => passing,
    };
    lent.batch_execute(migration.sql).await.map_err(failed)?;
    lent.run(
        "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, $3)",
        args![number, migration.name, migration.checksum().to_vec()],
    )
    .await?;
    Ok(())
}
