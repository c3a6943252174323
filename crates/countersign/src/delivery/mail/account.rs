//! Our account with a mail server. Once the server refused it, it is left alone for a while: asking with every message
//! gets accounts locked and addresses banned.

use super::answer::Refused;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::error;

/// How long a server is left alone that refused our account.
const PAUSE: Duration = Duration::from_secs(30);

/// What a server last said of our account.
pub(super) struct Account {
    server: String,
    turn: Semaphore,
    refusal: Mutex<Option<(Instant, String)>>,
}

impl Account {
    pub(super) fn with(server: &str) -> Self {
        Self { server: server.to_owned(), turn: Semaphore::new(1), refusal: Mutex::default() }
    }

    /// Waits until nobody else signs in: of several that would be refused, one is enough.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, Refused> {
        let turn = self.turn.acquire().await.expect("nobody closes the semaphore");
        self.may_be_used(Instant::now())?;
        Ok(turn)
    }

    /// Refuses to ask again so soon after a refusal, for the same reason.
    pub(super) fn may_be_used(&self, now: Instant) -> Result<(), Refused> {
        match &*self.lock() {
            Some((since, reason)) if now.duration_since(*since) < PAUSE => {
                Err(Refused::Account(reason.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Notes why signing in failed, if that is for the account's sake; says so in the log once until it works again.
    pub(super) fn failed(&self, refused: Refused, now: Instant) -> Refused {
        if !refused.is_about_the_account() {
            return refused;
        }
        let reason = refused.before_any_mail().reason().to_owned();
        if self.lock().replace((now, reason.clone())).is_none() {
            error!("mail server {} refused our account: {reason}; check username and password", self.server);
        }
        Refused::Account(reason)
    }

    /// Notes that the server took it.
    pub(super) fn worked(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_account_is_left_alone_for_a_while() {
        let (account, now) = (Account::with("relay"), Instant::now());
        assert!(account.may_be_used(now).is_ok());

        *account.lock() = Some((now, "sign in: 535 no".into()));

        let soon = account.may_be_used(now + PAUSE - Duration::from_millis(1));
        assert!(matches!(soon, Err(Refused::Account(reason)) if reason == "sign in: 535 no"));
        assert!(account.may_be_used(now + PAUSE).is_ok());
        account.worked();
        assert!(account.may_be_used(now).is_ok());
    }
}
