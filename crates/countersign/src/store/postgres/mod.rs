//! PostgreSQL: for several nodes, each of which may write to any document at any time.
//!
//! Nodes keep nothing that others need. A change is decided on a document that was read for it, and written where the document
//! still has the version that was read; who was overtaken decides again. `lanes` has changes that wait share a commit;
//! whatever touches more than a document, its events and messages is a transaction of its own.
//!
//! Everything goes through `database`, which tries again while there is hope and knows what to do when nobody knows whether a
//! commit went through; `cluster` is what a node knows of the others and of the database itself.

mod address;
mod anchors;
mod audit;
mod checkpoints;
mod cluster;
pub(super) mod copy;
mod database;
mod deliveries;
mod destinations;
mod examine;
mod failure;
mod handles;
mod hosts;
mod lanes;
mod meta;
mod order;
mod organisations;
mod outbox;
mod people;
mod revocations;
mod schema;
mod search;
mod self_test;
mod shared;
mod sql;
mod users;

pub use anchors::PRUNE as PRUNE_AUDIT;
pub(super) use failure::explain;

use crate::{
    config::Data,
    error::{Error, Result},
    store::{self, Gauges, memory::Memory},
};
use address::Address;
use countersign_core::Channel;
use database::Database;
use deadpool_postgres::Connect;
use handles::Handles;
use hosts::Hosts;
use lanes::Lanes;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// How old what is known of an organisation may be: after so long its policy and its clients are read again.
const ORGANISATIONS_LAST: Duration = Duration::from_secs(1);

/// The store on PostgreSQL. Its operations are described at [`crate::store::Store`].
pub struct Postgres {
    database: Arc<Database>,
    /// None where people are spread over several machines, and no two changes can share a commit.
    lanes: Option<Arc<Lanes>>,
    handles: Arc<Handles>,
    fsync: Duration,
    beating: JoinHandle<()>,
}

impl Postgres {
    /// Connects to the primary, checks what it promises, brings the database to the present schema, and joins the nodes.
    ///
    /// Tries for some seconds. The error says what to do.
    pub async fn open(settings: &Data) -> Result<Arc<Self>> {
        let database = Self::prepare(settings)?;
        examine::examine(&database).await.map_err(opening)?;
        schema::migrate(&database).await.map_err(opening)?;
        if database.read(|lent| async move { copy::mark(&lent).await }).await.map_err(opening)?.is_some() {
            return Err(store::copy::unfinished());
        }
        let joining = Arc::clone(&database);
        database
            .read(move |lent| {
                let database = Arc::clone(&joining);
                async move {
                    database.join(&lent).await?;
                    database.hear_of_revocations(&lent, true).await?;
                    database.memory.set_queued(outbox::count_queued(&lent).await?);
                    database.cluster.hear();
                    Ok(())
                }
            })
            .await
            .map_err(opening)?;
        let lanes = (!settings.sharded).then(|| Arc::new(Lanes::open(&database)));
        let beating = tokio::spawn(Arc::clone(&database).beat());
        let mut store =
            Self { database, lanes, handles: Arc::new(Handles::new()), fsync: Duration::ZERO, beating };
        let begun = Instant::now();
        store.commit_decoy().await?;
        store.fsync = begun.elapsed();
        Ok(Arc::new(store))
    }

    /// Brings a database to the present schema without serving from it; returns the names of the migrations that took.
    pub async fn migrate_only(settings: &Data) -> Result<Vec<&'static str>> {
        let database = Self::prepare(settings)?;
        examine::examine(&database).await.map_err(opening)?;
        schema::migrate(&database).await.map_err(opening)
    }

    /// Spreads the tables over the nodes of Citus.
    pub async fn distribute(settings: &Data) -> Result<()> {
        let database = Self::prepare(settings)?;
        let distributed = database.commit(|lent| async move {
            lent.batch_execute(CITUS).await?;
            Ok(database::Done::of(()))
        });
        distributed.await.map_err(|error| match error {
            Error::Store(cause) if cause.contains("create_distributed_table") => {
                Error::Store(format!("{cause}; make Citus known there first: CREATE EXTENSION citus"))
            }
            other => opening(other),
        })
    }

    /// Tells whether a database has a store. Opening would make one.
    pub async fn exists(settings: &Data) -> Result<bool> {
        schema::is_present(&Self::prepare(settings)?).await.map_err(opening)
    }

    fn prepare(settings: &Data) -> Result<Arc<Database>> {
        Ok(Arc::new(Database::new(settings, Memory::shared(ORGANISATIONS_LAST))?))
    }

    /// See [`crate::store::Store::clock_skew_millis`].
    pub fn clock_skew_millis(&self) -> i64 {
        self.database.cluster.skew_millis()
    }

    /// See [`crate::store::Store::is_full`]. Each lane of people has a queue of its own.
    pub const fn is_full(&self) -> bool {
        false
    }

    /// See [`crate::store::Store::gauges`].
    pub fn gauges(&self) -> Gauges {
        let counters = &self.database.counters;
        Gauges {
            commits: counters.commits.load(Relaxed),
            changes: counters.changes.load(Relaxed),
            waiting: self.lanes.as_ref().map_or(0, |lanes| lanes.waiting()),
            last_commit_seconds: Duration::from_nanos(counters.last_commit_nanos.load(Relaxed)).as_secs_f64(),
            fsync_seconds: self.fsync.as_secs_f64(),
            wal_bytes: 0,
            channels: Channel::ALL.map(|channel| self.database.memory.outbox(channel).gauges()),
        }
    }

    /// See [`crate::store::Store::close`].
    pub async fn close(&self) {
        if self.database.is_closed() {
            return;
        }
        self.database.finish().await;
        if let Some(lanes) = &self.lanes {
            lanes.close().await;
        }
        self.database.leave().await;
        self.beating.abort();
        self.database.close();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

/// Connects to the primary past any store, for who looks at what one left, or spoils it.
pub(super) async fn connect(settings: &Data) -> Result<Client> {
    let hosts = Hosts::new(Address::of(settings)?);
    let connected = hosts.connect(&tokio_postgres::Config::new()).await;
    connected.map(|(client, _)| client).map_err(|error| explain("open database", &error))
}

/// Says that what went wrong went wrong at the start.
fn opening(error: Error) -> Error {
    match error {
        Error::Unreachable(cause) => Error::Store(format!("open database: {cause}")),
        Error::Store(cause) => Error::Store(cause.replace("use database: ", "open database: ")),
        other => other,
    }
}

/// The statements that spread the tables over the nodes of Citus: each by the key that its primary key begins with.
pub const CITUS: &str = include_str!("citus.sql");
