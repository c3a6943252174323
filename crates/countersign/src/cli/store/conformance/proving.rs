//! The checks, run one after the other on a database that is for them alone.

use super::{Args, Outcome, Tell};
use crate::{
    cli::{failure::Failure, store::place},
    config::Data,
    error::Error,
    store::conformance::{Check, Ground, OnGround, checks},
};
use futures_util::FutureExt;
use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// How long a check may take. Far more than it needs on a database that is far away.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the checks that are asked for on the database of `--url`, else of the settings, and tells of each when it ends.
pub(in crate::cli) async fn prove(settings: Data, args: &Args, tell: Tell<'_>) -> Result<(), Failure> {
    let checks = chosen(&args.only)?;
    let ground = Ground::take(&named(settings, args.url.as_deref())?).await.map_err(not_ours)?;
    let panics = Panics::keep();
    for check in checks {
        let begun = Instant::now();
        let engine = ground.engine().await.map_err(unusable)?;
        let failure = panics.failure_of(check.run(engine)).await;
        tell(Outcome { suite: check.suite, check: check.name, took: begun.elapsed(), failure })?;
    }
    ground.leave().await.map_err(unusable)
}

/// Returns the checks with these names or in these suites; all if there are no names.
fn chosen(names: &[String]) -> Result<Vec<Check<OnGround>>, Failure> {
    let mut checks = checks();
    let is_meant = |check: &Check<_>, name: &str| name == check.name || name == check.suite;
    if let Some(unknown) = names.iter().find(|name| !checks.iter().any(|check| is_meant(check, name))) {
        return Err(Failure::usage(format!("there is no check or suite {unknown}"))
            .hint("a run without --only names them all, the suite in front"));
    }
    checks.retain(|check| names.is_empty() || names.iter().any(|name| is_meant(check, name)));
    Ok(checks)
}

/// Returns the settings of the database that is meant: those there are, with another place if a URL names one.
fn named(settings: Data, url: Option<&str>) -> Result<Data, Failure> {
    let named = match url {
        Some(url) => place::named(settings, "--url", url)?,
        // The data directory is nobody's trial.
        None => Some(settings).filter(Data::is_remote),
    };
    named.ok_or_else(|| match url {
        Some(_) => Failure::usage(format!("--url: expected {}", place::FORMS)),
        None => Failure::usage(format!("no database is named: give --url {}", place::FORMS)),
    })
}

fn not_ours(error: Error) -> Failure {
    Failure::new(error.to_string())
        .hint("checks fill the database and clear it, so they take none that holds anything: make one for them alone")
}

fn unusable(error: Error) -> Failure {
    Failure::new(error.to_string()).hint("nothing is proved while the database cannot be used")
}

/// Keeps what panics say from standard error, for whoever asks why a check failed.
struct Panics(Arc<Mutex<Option<String>>>);

impl Panics {
    fn keep() -> Self {
        let kept = Self(Arc::default());
        let said = Arc::clone(&kept.0);
        panic::set_hook(Box::new(move |panic| {
            *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_string());
        }));
        kept
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Runs a check to its end; returns why it failed.
    async fn failure_of(&self, check: impl Future<Output = ()>) -> Option<String> {
        // What an earlier one left behind it may have panicked since.
        self.take();
        match timeout(LIMIT, AssertUnwindSafe(check).catch_unwind()).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(self.take().unwrap_or_else(|| "panicked".into())),
            Err(_) => Some(format!("it has not ended after {} s", LIMIT.as_secs())),
        }
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            drop(panic::take_hook());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;

    fn count(names: &[&str]) -> Result<usize, Failure> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        chosen(&names).map(|checks| checks.len())
    }

    #[test]
    fn checks_are_chosen_by_name_and_by_suite() {
        let (all, race) = (count(&[]).expect("all"), count(&["race"]).expect("a suite"));

        assert!(all > 80 && race > 5 && race < all);
        assert_eq!(count(&["a_value_is_set_once", "a_value_is_set_once"]), Ok(1));
        assert_eq!(count(&["race", "one_totp_code_gets_one_success"]), Ok(race));
        assert_eq!(count(&["race", "nonsense"]).map_err(|failure| failure.exit), Err(Exit::Usage));
    }

    #[test]
    fn a_database_is_named() {
        let ours = Data { url_file: Some("url".into()), ..Data::default() };

        assert_eq!(named(ours.clone(), None), Ok(ours));
        for wrong in [None, Some("sqlite:"), Some("mysql://db/mfa"), Some("trial")] {
            assert_eq!(named(Data::default(), wrong).map_err(|failure| failure.exit), Err(Exit::Usage));
        }
    }
}
