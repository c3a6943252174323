//! What the doctor looks at. It changes nothing, and makes no installation where there is none.

use super::{Finding, Health};
use crate::{
    app::App,
    clock::Clock,
    config::{Config, delivery::Delivery},
    delivery::{
        dispatch::Dispatch,
        provider::Provider,
        smpp::{Fate, Report},
    },
    keys::MASTER_KEY_FILE,
    service::audit,
    store::Store,
};
use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};
use tokio::sync::mpsc;

/// Commits wait for the disk; above this it shows in every answer.
const SLOW_FSYNC: Duration = Duration::from_millis(20);

/// Examines an installation. What depends on something broken is left out.
pub(crate) async fn examine(config: Config) -> Vec<Finding> {
    let data = config.store.directory.clone();
    let (place, shown) = match config.store.is_remote() {
        true => ("database", "the database that store.url names".to_owned()),
        false => ("data directory", data.display().to_string()),
    };
    match Store::exists(&config.store).await {
        Ok(true) => {}
        Ok(false) => {
            let detail = format!("{shown} has no installation; make one with: countersign init");
            return vec![finding(place, Health::Bad, detail)];
        }
        Err(error) => return vec![finding(place, Health::Bad, error.to_string())],
    }
    let mut findings = vec![transport(&config)];
    if data.exists() {
        findings.insert(0, privacy("data directory", &data));
    }
    if data.join(MASTER_KEY_FILE).exists() {
        findings.push(privacy("key file", &data.join(MASTER_KEY_FILE)));
    }
    findings.extend(delivery(&config.delivery).await);
    findings.extend(config.audit.archive_directory.as_deref().map(archive));
    match App::open(config, Clock::System).await {
        Err(error) => findings.push(finding("store and keys", Health::Bad, error.to_string())),
        Ok(app) => {
            let detail = "opened; a replayed code is refused, the key canary opens, the clock is right";
            findings.push(finding("store and keys", Health::Good, detail.into()));
            findings.push(speed(Duration::from_secs_f64(app.store.gauges().fsync_seconds)));
            findings.push(accounts(&app).await);
            findings.push(trail(&app).await);
            app.store.close().await;
        }
    }
    findings
}

fn finding(check: &str, health: Health, detail: String) -> Finding {
    Finding { check: check.to_owned(), health, detail }
}

/// Checks that nobody but the owner can read what is there.
fn privacy(check: &str, path: &Path) -> Finding {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.mode() & 0o077 == 0 => finding(check, Health::Good, format!("{shown} is private")),
        Ok(found) => {
            let mode = found.mode() & 0o777;
            finding(check, Health::Bad, format!("{shown} has mode {mode:o}; run: chmod go= {shown}"))
        }
        Err(error) => finding(check, Health::Bad, format!("read {shown}: {error}")),
    }
}

/// Checks that secrets do not cross a network in clear.
fn transport(config: &Config) -> Finding {
    let listen = config.server.listen;
    if config.server.certificate_file.is_some() {
        return finding("transport", Health::Good, format!("TLS on {listen}"));
    }
    if listen.ip().is_loopback() {
        return finding(
            "transport",
            Health::Good,
            format!("HTTP on {listen}, reached from this machine only"),
        );
    }
    let advice = "HTTP without TLS; set server.certificate_file, or let only a TLS proxy reach it";
    finding("transport", Health::Warning, format!("{listen}: {advice}"))
}

/// Checks words and providers, and knocks at those that answer without being sent anything.
async fn delivery(config: &Delivery) -> Vec<Finding> {
    const CHECK: &str = "delivery";
    let (reports, _full) = no_room();
    match Dispatch::reporting_to(reports, config, &Clock::System) {
        Err(error) => vec![finding(CHECK, Health::Bad, error.to_string())],
        Ok(dispatch) => {
            let mut findings = Vec::new();
            for provider in dispatch.providers() {
                findings.push(reachability(CHECK, provider).await);
            }
            dispatch.stop().await;
            if findings.is_empty() {
                let detail = "no provider is configured, so no codes are sent";
                findings.push(finding(CHECK, Health::Good, detail.into()));
            }
            findings
        }
    }
}

/// Returns a place for reports that is full, so that centres keep theirs for the server.
fn no_room() -> (mpsc::Sender<Report>, mpsc::Receiver<Report>) {
    let (reports, full) = mpsc::channel(1);
    let (provider, reference) = (String::new(), String::new());
    let filler = Report { provider, reference, fate: Fate::Unknown, error: None };
    reports.try_send(filler).expect("there is room for one");
    (reports, full)
}

async fn reachability(check: &str, provider: &Provider) -> Finding {
    let name = provider.name();
    match provider.probe().await {
        Some(Ok(known)) => finding(check, Health::Good, format!("{name} {known}")),
        Some(Err(failure)) => finding(check, Health::Warning, format!("{name}: {}", failure.reason())),
        None => {
            let advice = "try it on the running server with: countersign delivery test";
            finding(check, Health::Good, format!("{name} is configured; {advice}"))
        }
    }
}

/// Only looks: opening an archive would cut off what a crash left there.
fn archive(directory: &Path) -> Finding {
    const CHECK: &str = "audit archive";
    let shown = directory.display();
    match fs::metadata(directory) {
        Ok(there) if there.is_dir() => finding(CHECK, Health::Good, format!("{shown} is there")),
        Ok(_) => finding(CHECK, Health::Bad, format!("{shown} is no directory")),
        Err(error) => finding(CHECK, Health::Bad, format!("{shown}: {error}; no event is pruned without it")),
    }
}

fn speed(fsync: Duration) -> Finding {
    let detail = format!("a small write is durable after {:.1} ms", fsync.as_secs_f64() * 1000.0);
    finding("disk", if fsync < SLOW_FSYNC { Health::Good } else { Health::Warning }, detail)
}

async fn accounts(app: &App) -> Finding {
    const CHECK: &str = "accounts";
    match app.store.organisations(None, 1).await {
        Ok(page) if page.items.is_empty() => {
            finding(CHECK, Health::Warning, "none yet; make the first with: countersign init".into())
        }
        Ok(_) => finding(CHECK, Health::Good, "there is an organisation".into()),
        Err(error) => finding(CHECK, Health::Bad, error.to_string()),
    }
}

async fn trail(app: &App) -> Finding {
    const CHECK: &str = "audit trail";
    match audit::verify(&app.store, &app.keys, &[]).await {
        Ok(report) => match crate::cli::audit::proof(&report) {
            Ok(detail) => finding(CHECK, Health::Good, detail),
            Err(failure) => finding(CHECK, Health::Bad, failure.message),
        },
        Err(error) => finding(CHECK, Health::Bad, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_takes_no_reports_that_are_the_servers() {
        let (reports, _full) = no_room();
        let report =
            Report { provider: "centre".into(), reference: "1".into(), fate: Fate::Delivered, error: None };

        // What a session answers to this is tested there: the centre is to report again.
        assert!(matches!(reports.try_send(report), Err(mpsc::error::TrySendError::Full(_))));
    }

    #[test]
    fn an_archive_that_is_not_there_is_said() {
        let directory = tempfile::tempdir().expect("a directory");

        assert_eq!(archive(directory.path()).health, Health::Good);
        assert_eq!(archive(&directory.path().join("missing")).health, Health::Bad);
    }

    // A provider that nobody had reached was shown with the mark of those that work.
    #[tokio::test]
    async fn a_provider_is_well_only_if_it_was_reached() {
        let free =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let there = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let (free, there) = (free.port(), there.local_addr().expect("an address").port());
        let http = |name: &str, port: u16| {
            format!(
                "[[sms]]\ntype = 'http'\nname = '{name}'\nurl = 'http://127.0.0.1:{port}'\n\
                 query = {{ to = '{{{{ to }}}}', text = '{{{{ text }}}}' }}\n"
            )
        };
        let config: Delivery = toml::from_str(&format!(
            "allow_private = ['127.0.0.1']\n{}{}[[sms]]\ntype = 'smpp'\nname = 'centre'\nhost = '127.0.0.1'\n\
             port = {free}\ntls = false\nsystem_id = 'a'\npassword = 'b'\n[[mail]]\ntype = 'smtp'\nname = 'relay'\n\
             host = 'localhost'\nport = {free}\nsecurity = 'none'\nfrom = 'a@example.com'\n",
            http("here", there),
            http("gone", free),
        ))
        .expect("a configuration");

        let found = delivery(&config).await;

        let expected = [
            (Health::Warning, "relay: connect: ".to_owned()),
            (Health::Good, format!("here is reached at 127.0.0.1:{there}; whether it takes messages")),
            (Health::Warning, format!("gone: connect: 127.0.0.1:{free}: ")),
            (Health::Warning, "centre: connect to the message centre: ".to_owned()),
        ];
        assert_eq!(found.len(), expected.len());
        for (found, (health, beginning)) in found.iter().zip(expected) {
            assert!(found.health == health && found.detail.starts_with(&beginning), "{found:?}");
        }
    }
}
