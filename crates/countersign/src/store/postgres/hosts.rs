//! The hosts of a cluster: whichever of them is the primary is connected to.

use super::address::Address;
use deadpool_postgres::Connect;
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, poll_fn, select},
    stream::FuturesUnordered,
};
use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tokio::{task::JoinHandle, time::sleep};
use tokio_postgres::{AsyncMessage, Client, Config, Error, error::DbError};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{debug, warn};

/// How long it may take until somebody lets a connection in.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// How much earlier the host is asked that was the primary last. One that was stopped in its tracks accepts a connection
/// and says nothing, for as long as one waits.
const HEAD_START: Duration = Duration::from_millis(300);

/// The hosts, and which of them was the primary last.
pub(super) struct Hosts {
    hosts: Vec<Config>,
    tls: MakeRustlsConnect,
    best: AtomicUsize,
}

type Connected = (Client, JoinHandle<()>);

impl Hosts {
    /// Knows the hosts of an address.
    pub(super) fn new(address: Address) -> Self {
        Self { hosts: address.hosts, tls: address.tls, best: AtomicUsize::new(0) }
    }

    async fn knock(&self, place: usize) -> (usize, Result<Connected, Error>) {
        (place, self.enter(place).await)
    }

    async fn enter(&self, place: usize) -> Result<Connected, Error> {
        let (client, mut connection) = self.hosts[place].connect(self.tls.clone()).await?;
        let task = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notice(notice)) if gave_up_standby(&notice) => {
                        // What comes next would be the news of a success. Without the connection, nobody knows.
                        warn!("PostgreSQL gave up waiting for a standby: {}", notice.message());
                        return;
                    }
                    Ok(_) => {}
                    Err(error) => return debug!("a connection to the database ended: {error}"),
                }
            }
        });
        Ok((client, task))
    }
}

/// Tells whether a commit will be reported that no standby has: somebody cancelled it while it waited. The words depend on the
/// server's language, the name of its function does not.
fn gave_up_standby(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
}

impl Connect for Hosts {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<Connected, Error>> {
        async move {
            let best = self.best.load(Relaxed);
            let first = pin!(self.knock(best));
            let mut knocks: FuturesUnordered<BoxFuture<'_, _>> = FuturesUnordered::new();
            let mut failed = None;
            match select(first, pin!(sleep(HEAD_START))).await {
                Either::Left(((_, Ok(connected)), _)) => return Ok(connected),
                Either::Left(((_, Err(error)), _)) => failed = Some(error),
                Either::Right(((), still)) => knocks.push(Box::pin(still)),
            }
            for place in (0..self.hosts.len()).filter(|place| *place != best) {
                knocks.push(Box::pin(self.knock(place)));
            }
            while let Some((place, outcome)) = knocks.next().await {
                match outcome {
                    Ok(connected) => {
                        self.best.store(place, Relaxed);
                        return Ok(connected);
                    }
                    // That a host is a standby says less than why another one cannot be reached.
                    Err(error) if failed.as_ref().is_none_or(is_standby) => failed = Some(error),
                    Err(_) => {}
                }
            }
            Err(failed.expect("there is at least one host, and it did not let us in"))
        }
        .boxed()
    }
}

fn is_standby(error: &Error) -> bool {
    super::failure::text(error).contains("does not allow writes")
}
