//! PostgreSQL as the checks see it, and a database for them alone.

#![expect(clippy::unwrap_used, reason = "a check that cannot go on fails")]

use super::{Engine, TRIAL_MARK};
use crate::{
    config::Data,
    error::{Error, Result},
    store::{
        Store,
        postgres::{self, Postgres},
    },
};
use countersign_core::{DeliveryId, UserId};
use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

/// PostgreSQL, in a database of its own.
pub struct OnPostgres {
    settings: Data,
    store: Store,
    opened: Opened,
}

/// All stores that were opened on a database.
type Opened = Arc<Mutex<Vec<Store>>>;

impl OnPostgres {
    /// Opens a store.
    pub async fn open(settings: Data) -> Result<Self> {
        Self::noted(settings, Opened::default()).await
    }

    async fn noted(settings: Data, opened: Opened) -> Result<Self> {
        let store = Store::Postgres(Postgres::open(&settings).await?);
        opened.lock().unwrap_or_else(PoisonError::into_inner).push(store.clone());
        Ok(Self { settings, store, opened })
    }

    async fn run(&self, sql: &str, id: Uuid) -> Vec<Row> {
        let client = postgres::connect(&self.settings).await.unwrap();
        client.query_typed(sql, &[(&id, Type::UUID)]).await.unwrap()
    }
}

impl Engine for OnPostgres {
    fn store(&self) -> Store {
        self.store.clone()
    }

    async fn reopen(self) -> Self {
        self.store.close().await;
        Self::noted(self.settings, self.opened).await.unwrap()
    }

    async fn damage(&self, user: UserId) {
        self.run("UPDATE users SET body = substr(body, 2) WHERE id = $1", user.uuid()).await;
    }

    async fn has_letter(&self, id: DeliveryId) -> bool {
        self.run("SELECT 1 FROM deliveries WHERE id = $1 AND body IS NOT NULL", id.uuid()).await.len() == 1
    }

    async fn damage_letter(&self, id: DeliveryId) {
        self.run("UPDATE deliveries SET body = substr(body, 3) WHERE id = $1", id.uuid()).await;
    }
}

/// The tables that checks fill.
const FILLED: [&str; 12] = [
    "anchors",
    "audit",
    "checkpoints",
    "clients",
    "deliveries",
    "destinations",
    "names",
    "organisations",
    "people_blocks",
    "people_names",
    "revoked",
    "users",
];
/// The tables in which the store notes what it saw. After a fail-over it would refuse codes that checks expect it to accept.
const NOTED: [&str; 2] = ["timelines", "turns"];
/// Our other tables. What is in them stays, but for what checks put into the first.
const KEPT: [&str; 4] = ["meta", "decoy", "migrations", "nodes"];

/// A database for checks alone.
pub struct Trial {
    settings: Data,
    opened: Opened,
}

impl Trial {
    /// Takes a database that is empty or was marked by an earlier run, and marks it.
    pub(super) async fn take(settings: &Data) -> Result<Self> {
        check(&postgres::connect(settings).await?).await?;
        Postgres::migrate_only(settings).await?;
        let client = postgres::connect(settings).await?;
        let mark = "INSERT INTO meta (name, value) VALUES ($1, '') ON CONFLICT DO NOTHING";
        rows(&client, mark, &[(&TRIAL_MARK, Type::TEXT)]).await?;
        Ok(Self { settings: settings.clone(), opened: Opened::default() })
    }

    /// Opens the engine on the empty database.
    pub(super) async fn engine(&self) -> Result<OnPostgres> {
        self.clear().await?;
        OnPostgres::noted(self.settings.clone(), Arc::clone(&self.opened)).await
    }

    /// Takes the mark from the empty database.
    pub(super) async fn leave(self) -> Result<()> {
        let client = self.clear().await?;
        rows(&client, "DELETE FROM meta WHERE name = $1", &[(&TRIAL_MARK, Type::TEXT)]).await.map(drop)
    }

    /// Closes what checks opened, and removes what they wrote.
    async fn clear(&self) -> Result<Client> {
        let opened = mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        for store in opened {
            store.close().await;
        }
        let client = postgres::connect(&self.settings).await?;
        // Who else uses the database may have taken the mark away.
        if !check(&client).await? {
            return Err(unfit("somebody else uses it"));
        }
        // In one message, which is one transaction.
        let mut sql = format!("DELETE FROM meta WHERE name <> '{TRIAL_MARK}';");
        sql.extend(FILLED.iter().chain(&NOTED).map(|table| format!("DELETE FROM {table};")));
        client.batch_execute(&sql).await.map_err(|error| postgres::explain("clear database", &error))?;
        Ok(client)
    }
}

/// Refuses a database that holds anything which is not of checks; tells whether it is marked as theirs.
async fn check(client: &Client) -> Result<bool> {
    let tables = names(client, TABLES).await?;
    let is_ours = |table: &str| [&FILLED[..], &NOTED, &KEPT].concat().contains(&table);
    if let Some(other) = tables.iter().find(|table| !is_ours(table)) {
        return Err(unfit(&format!("it has a table {other}")));
    }
    if !tables.iter().any(|table| table == "meta") {
        return Ok(false);
    }
    let values = names(client, "SELECT name FROM meta").await?;
    if values.iter().any(|name| name == TRIAL_MARK) {
        return Ok(true);
    }
    if let Some(value) = values.first() {
        return Err(unfit(&format!("it is an installation's, and has its {value}")));
    }
    for table in tables.iter().filter(|table| FILLED.contains(&table.as_str())) {
        if !rows(client, &format!("SELECT 1 FROM {table} LIMIT 1"), &[]).await?.is_empty() {
            return Err(unfit(&format!("its table {table} is not empty")));
        }
    }
    Ok(false)
}

/// The tables that are there, but for those of extensions.
const TABLES: &str = "SELECT relname::text FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = to_regnamespace(current_schema()::text)
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
            AND deptype = 'e')";

fn unfit(why: &str) -> Error {
    Error::Store(format!("use database for checks: {why}"))
}

async fn names(client: &Client, sql: &str) -> Result<Vec<String>> {
    rows(client, sql, &[]).await.map(|rows| rows.iter().map(|row| row.get(0)).collect())
}

async fn rows(client: &Client, sql: &str, arguments: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
    let found = client.query_typed(sql, arguments).await;
    found.map_err(|error| postgres::explain("use database for checks", &error))
}
