//! The embedded engine as the checks see it, and a folder for them alone.

#![expect(clippy::unwrap_used, reason = "a check that cannot go on fails")]

use super::Engine;
use crate::{
    error::{Error, Result},
    store::{Store, sqlite::Sqlite},
};
use countersign_core::{DeliveryId, UserId};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The embedded engine in a directory.
pub struct OnSqlite {
    directory: PathBuf,
    store: Store,
}

impl OnSqlite {
    /// Opens it, in a directory that is made if it is missing.
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self { directory: directory.to_owned(), store: Store::Sqlite(Sqlite::open(directory)?) })
    }

    /// Returns where the database is.
    pub fn database(&self) -> PathBuf {
        self.directory.join("countersign.db")
    }

    /// Opens the database as another program would, to read in it.
    pub fn look(&self) -> Connection {
        Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
    }

    fn edit(&self, sql: &str, id: [u8; 16]) {
        Connection::open(self.database()).unwrap().execute(sql, [id]).unwrap();
    }
}

impl Engine for OnSqlite {
    fn store(&self) -> Store {
        self.store.clone()
    }

    async fn reopen(self) -> Self {
        self.store.close().await;
        Self::open(&self.directory).unwrap()
    }

    async fn damage(&self, user: UserId) {
        self.edit("UPDATE users SET body = substr(body, 2) WHERE id = ?1", user.uuid().into_bytes());
    }

    async fn has_letter(&self, id: DeliveryId) -> bool {
        let sql = "SELECT body IS NOT NULL FROM deliveries WHERE id = ?1";
        self.look().query_row(sql, [id.uuid().into_bytes()], |row| row.get(0)).unwrap()
    }

    async fn damage_letter(&self, id: DeliveryId) {
        self.edit("UPDATE deliveries SET body = substr(body, 3) WHERE id = ?1", id.uuid().into_bytes());
    }
}

/// How the directories of checks are called, in front of a number.
const PREFIX: &str = "conformance-";

/// A folder in which each check has a directory.
pub struct Folder(PathBuf);

impl Folder {
    /// Takes a folder that is empty, is made now, or has nothing in it but what checks left.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| Error::Store(format!("use folder {}: {error}", path.display()));
        fs::create_dir_all(path).map_err(failed)?;
        match entries(path).map_err(failed)?.into_iter().find(|entry| !is_of_a_check(entry)) {
            None => Ok(Self(path.to_owned())),
            Some(other) => {
                let other = other.display();
                Err(Error::Store(format!("use folder {}: it is not empty, {other} is there", path.display())))
            }
        }
    }

    /// Removes what checks left.
    pub(super) fn clear(&self) -> Result<()> {
        let failed = |error: io::Error| Error::Store(format!("clear folder {}: {error}", self.0.display()));
        let left = entries(&self.0).map_err(failed)?;
        left.iter().filter(|entry| is_of_a_check(entry)).try_for_each(fs::remove_dir_all).map_err(failed)
    }

    /// Opens the engine in a directory of its own.
    pub(super) fn engine(&self) -> Result<OnSqlite> {
        OnSqlite::open(&self.0.join(format!("{PREFIX}{:016x}", rand::random::<u64>())))
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

fn is_of_a_check(entry: &Path) -> bool {
    entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
}
