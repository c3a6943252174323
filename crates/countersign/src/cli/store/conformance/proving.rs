//! The checks, run one after the other on a database that is for them alone.

use super::{Args, Outcome, Tell};
use crate::{
    cli::failure::Failure,
    config::{Data, secret::Given},
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
    let mut settings = named(settings, args.url.as_deref())?;
    if let Some(password) = std::env::var("PGPASSWORD").ok().filter(|_| args.url.is_some()) {
        settings.password = Some(Given::new(&password));
        settings.password_file = None;
    }
    let ground = Ground::take(&settings).await.map_err(not_ours)?;
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
    const FORMS: &str = "postgres://USER@HOST/DATABASE or sqlite:DIRECTORY";
    let Some(url) = url else {
        // The data directory is nobody's trial.
        return if settings.is_remote() {
            Ok(settings)
        } else {
            Err(Failure::usage(format!("no database is named: give --url {FORMS}")))
        };
    };
    if has_password(url) {
        return Err(Failure::usage("everybody on this machine can read a password on the command line").hint(
            "leave it out of --url and set PGPASSWORD, or name the database in store.url_file or COUNTERSIGN__STORE__URL",
        ));
    }
    match url.split_once(':') {
        Some(("sqlite", directory)) if !directory.is_empty() => {
            Ok(Data { directory: directory.into(), url: None, url_file: None, ..settings })
        }
        Some(("postgres" | "postgresql", _)) => {
            Ok(Data { url: Some(Given::new(url)), url_file: None, ..settings })
        }
        _ => Err(Failure::usage(format!("--url: expected {FORMS}"))),
    }
}

/// Tells whether a URL names a password, before the host or among the parameters.
fn has_password(url: &str) -> bool {
    let (before, parameters) = url.split_once('?').unwrap_or((url, ""));
    let authority = before.split_once("://").map_or("", |(_, rest)| rest);
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
        || parameters.split('&').any(|parameter| parameter.starts_with("password="))
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
    fn a_password_on_the_command_line_is_refused_and_not_repeated() {
        for url in [
            "postgres://ada:hunter2@db/mfa",
            "postgres://ada:hunter2@db1,db2:5433/mfa?sslmode=disable",
            "postgresql://ada:@db/mfa",
            "postgres://db/mfa?user=ada&password=hunter2",
        ] {
            let failure = named(Data::default(), Some(url)).expect_err(url);

            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains("PGPASSWORD")), "{failure:?}");
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
        assert!(!has_password("postgres://ada@db:5432/mfa?options=-c%20x=y"));
        assert!(!has_password("sqlite:/var/lib/a:b@c"));
    }

    #[test]
    fn a_database_is_named() {
        let ours = Data { url_file: Some("url".into()), sharded: true, ..Data::default() };
        let folder = named(ours.clone(), Some("sqlite:/tmp/trial")).expect("a folder");
        let server = named(ours.clone(), Some("postgres://ada@db/trial")).expect("a server");

        assert!(!folder.is_remote() && folder.directory == std::path::Path::new("/tmp/trial"));
        assert_eq!(server.url, Some(Given::new("postgres://ada@db/trial")));
        assert!(server.url_file.is_none() && server.sharded, "how it is used is as configured");
        assert_eq!(named(ours.clone(), None), Ok(ours));
        for wrong in [None, Some("sqlite:"), Some("mysql://db/mfa"), Some("trial")] {
            assert_eq!(named(Data::default(), wrong).map_err(|failure| failure.exit), Err(Exit::Usage));
        }
    }
}
