//! Slow hashes, on a bounded pool of their own: they never run in the store's writer or hold up other requests.

use crate::error::{Error, Result};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier},
};
use countersign_core::{Secret, factor::scratch::Stretched, password::PasswordCheck};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// How many may wait for a place before the answer is that the server is busy.
const WAITING_LIMIT: usize = 256;

/// The bytes of a stretched code: argon2's own default.
const STRETCHED_BYTES: usize = 32;

/// A hash of a password nobody has, with the same parameters: what an unknown user is compared with.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$Y291bnRlcnNpZ24tZGVjb3k$tAq5CHb1DMjZ1bqYqVAJnN8OEC5vwGUoTSlrWBMSuPM";

/// The bounded pool. Each place takes 19 MiB while it works (argon2id with m=19456, t=2, p=1: OWASP's first choice).
pub struct Passwords {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl Passwords {
    /// Makes a pool with a place for each second core, so that hashing never takes the machine from verifying.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { places: Arc::new(Semaphore::new((cores / 2).max(1))), waiting: Arc::default() }
    }

    /// Hashes a password with a fresh salt.
    pub async fn hash(&self, password: Secret<String>) -> Result<String> {
        self.run(move || {
            Argon2::default()
                .hash_password(password.expose().as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|error| Error::Internal(format!("hash password: {error}")))
        })
        .await?
    }

    /// Compares a password with a stored hash; without one, takes as long with a decoy.
    pub async fn check(&self, password: Secret<String>, stored: Option<String>) -> Result<PasswordCheck> {
        self.run(move || {
            let hash = stored.as_deref().unwrap_or(DECOY);
            let matches = Argon2::default().verify_password(password.expose().as_bytes(), hash).is_ok();
            PasswordCheck { matched: matches && stored.is_some(), against: stored }
        })
        .await
    }

    /// Stretches short codes with one salt: the same slow hash as for passwords, its outcome to be hashed with a key.
    pub async fn stretch(&self, codes: Vec<Secret<String>>, salt: Uuid) -> Result<Vec<Stretched>> {
        self.run(move || {
            let stretch = |code: &Secret<String>| {
                let mut value = vec![0; STRETCHED_BYTES];
                Argon2::default()
                    .hash_password_into(code.expose().as_bytes(), salt.as_bytes(), &mut value)
                    .map_err(|error| Error::Internal(format!("stretch code: {error}")))?;
                Ok(Stretched { salt, value: value.into() })
            };
            codes.iter().map(stretch).collect()
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _waiting = Waiting::join(&self.waiting).ok_or(Error::Busy)?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Error::Busy)?;
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        })
        .await
        .map_err(|error| Error::Internal(format!("hash password: {error}")))
    }
}

/// A place in the queue, given back also when the caller goes away.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn join(count: &Arc<AtomicUsize>) -> Option<Self> {
        let waiting = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < WAITING_LIMIT).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_matches_its_hash_and_no_other() {
        let pool = Passwords::new();
        let hash = pool.hash(password("quill-marten-42")).await.expect("hash");

        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(pool.check(password("quill-marten-42"), Some(hash.clone())).await.expect("check").matched);
        assert!(!pool.check(password("quill-marten-43"), Some(hash)).await.expect("check").matched);
    }

    #[tokio::test]
    async fn a_code_stretches_the_same_with_its_salt_and_otherwise_with_another() {
        let pool = Passwords::new();
        let stretch = async |code, salt| {
            let stretched = pool.stretch(vec![password(code)], Uuid::from_u128(salt)).await.expect("stretch");
            stretched[0].value.expose().clone()
        };
        let value = stretch("08829146", 1).await;

        assert_eq!(value.len(), STRETCHED_BYTES);
        assert_eq!(stretch("08829146", 1).await, value);
        assert_ne!(stretch("08829146", 2).await, value);
        assert_ne!(stretch("08829147", 1).await, value);
    }

    #[tokio::test]
    async fn the_decoy_is_a_real_hash_that_nothing_matches() {
        assert!(argon2::password_hash::phc::PasswordHash::new(DECOY).is_ok());
        assert!(!Passwords::new().check(password("anything"), None).await.expect("check").matched);
    }
}
