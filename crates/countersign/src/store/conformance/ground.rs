//! Where checks run for somebody who has a database and wants to know: made sure of first, cleared before each check.

use super::{
    Engine,
    postgres::{OnPostgres, Trial},
    sqlite::{Folder, OnSqlite},
};
use crate::{config::Data, error::Result, store::Store};
use countersign_core::{DeliveryId, UserId};

/// A database that is for checks alone.
pub enum Ground {
    /// A folder for the embedded engine.
    Sqlite(Folder),
    /// A database in PostgreSQL, or in what speaks like it.
    Postgres(Trial),
}

impl Ground {
    /// Takes a database that holds nothing, or what checks left in it. Any other is refused, and nothing in it changed.
    pub async fn take(settings: &Data) -> Result<Self> {
        if settings.is_remote() {
            return Trial::take(settings).await.map(Self::Postgres);
        }
        Folder::take(&settings.directory).map(Self::Sqlite)
    }

    /// Clears the database and opens an engine on it.
    pub async fn engine(&self) -> Result<OnGround> {
        match self {
            Self::Sqlite(folder) => {
                folder.clear()?;
                folder.engine().map(OnGround::Sqlite)
            }
            Self::Postgres(trial) => trial.engine().await.map(OnGround::Postgres),
        }
    }

    /// Leaves the database as empty as it was taken.
    pub async fn leave(self) -> Result<()> {
        match self {
            Self::Sqlite(folder) => folder.clear(),
            Self::Postgres(trial) => trial.leave().await,
        }
    }
}

/// An engine on such a database. One type for all engines: checks are in the program once.
pub enum OnGround {
    /// The embedded engine.
    Sqlite(OnSqlite),
    /// PostgreSQL.
    Postgres(OnPostgres),
}

/// Does something with whichever engine this is.
macro_rules! engine {
    ($on:expr, $engine:ident => $operation:expr) => {
        match $on {
            Self::Sqlite($engine) => $operation,
            Self::Postgres($engine) => $operation,
        }
    };
}

impl Engine for OnGround {
    fn store(&self) -> Store {
        engine!(self, engine => engine.store())
    }

    async fn reopen(self) -> Self {
        match self {
            Self::Sqlite(engine) => Self::Sqlite(engine.reopen().await),
            Self::Postgres(engine) => Self::Postgres(engine.reopen().await),
        }
    }

    async fn damage(&self, user: UserId) {
        engine!(self, engine => engine.damage(user).await);
    }

    async fn has_letter(&self, id: DeliveryId) -> bool {
        engine!(self, engine => engine.has_letter(id).await)
    }

    async fn damage_letter(&self, id: DeliveryId) {
        engine!(self, engine => engine.damage_letter(id).await);
    }
}
