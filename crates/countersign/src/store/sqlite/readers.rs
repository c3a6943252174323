//! The connections that read: a few, lent out one reading at a time.

use super::connection;
use crate::error::{Error, Result};
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// Readings that go on at once.
const CONNECTIONS: usize = 4;
/// Readings that may wait for one of those. Beyond that the server is overloaded, and saying so at once helps more.
const QUEUE: usize = 512;
/// How long a reading waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pool of reading connections.
pub(super) struct Readers {
    places: Semaphore,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// Opens the connections.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let idle = (0..CONNECTIONS).map(|_| connection::reader(path)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            places: Semaphore::new(CONNECTIONS + QUEUE),
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Arc::new(Mutex::new(idle)),
        })
    }

    /// Runs a reading on a connection, on a thread that may block. It sees all that was answered before. `Error::Busy` where
    /// too many wait, or one waits too long.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        reading: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _place = self.places.try_acquire().map_err(|_| Error::Busy)?;
        let turn = match timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => return Err(Error::Busy),
        };
        let idle = Arc::clone(&self.idle);
        let task = spawn_blocking(move || {
            let lent = Lent::from(idle);
            let outcome = reading(lent.connection());
            // The connection is back before anybody else's turn comes.
            drop(lent);
            drop(turn);
            outcome
        });
        task.await.unwrap_or_else(|error| Err(Error::Internal(format!("read from the store: {error}"))))
    }

    /// Waits for the readings that go on, refuses further ones, and closes the connections.
    pub(super) async fn close(&self) {
        let all = self.turns.acquire_many(u32::try_from(CONNECTIONS).unwrap_or(u32::MAX)).await;
        self.turns.close();
        drop(all);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection on loan; goes back when dropped, also by a panic.
struct Lent {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Lent {
    fn from(idle: Arc<Mutex<Vec<Connection>>>) -> Self {
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { connection, idle }
    }

    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("there are as many connections as turns")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}
