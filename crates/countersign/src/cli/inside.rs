//! The way into the server: one call for each command that works on an installation itself, not through the API.

use super::{
    audit::{AuditFault, AuditSummary},
    demo::DemoServer,
    doctor::{Finding, Health},
    failure::Failure,
    init::FirstCredentials,
    installation::Installation,
    serve::{self, PrintFirst},
    store::Migration,
};
use crate::{
    app::App,
    clock::Clock,
    config::{self, Config},
    error::Error,
    http::openapi,
    keys::{Keys, MasterKey},
    running::{self, Running},
    service::{
        audit::{self, Report},
        setup,
    },
    store::{Store, sqlite::Sqlite},
    telemetry,
};
use countersign_core::Secret;
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A durable write slower than this makes every answer slow.
const SLOW_FSYNC_SECONDS: f64 = 0.02;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Serves until told to stop. Makes the installation first if there is none, and then calls `print`.
pub(super) async fn serve(args: serve::Args, print: PrintFirst) -> Result<(), Failure> {
    let mut config = load(&args.installation)?;
    if let Some(listen) = args.listen {
        config.server.listen = listen;
    }
    telemetry::start_logging(&config.log)?;
    let data = config.store.directory.clone();
    let is_tls = config.server.certificate_file.is_some();
    let (running, first) = running::start(config, Clock::System).await?;
    if let Some(first) = first {
        print(&credentials(&first, &data))?;
    }
    let scheme = if is_tls { "https" } else { "http" };
    let address = running.address;
    tracing::info!("serving on {scheme}://{address}, reference at {scheme}://{address}/docs");
    let drained = running.until_signalled().await?;
    tracing::info!("stopped; {} connections ended in time, {} were cut", drained.finished, drained.cut);
    Ok(())
}

/// Makes an installation. Fails if there is one.
pub(super) async fn initialise(installation: &Installation) -> Result<FirstCredentials, Failure> {
    let config = load(installation)?;
    let data = config.store.directory.clone();
    let app = App::open(config, Clock::System).await?;
    let first = setup::initialise(&app).await;
    app.store.close().await;
    first?.map(|first| credentials(&first, &data)).ok_or_else(|| {
        Failure::new(format!("{} has an installation already", data.display()))
            .hint("start it with `countersign serve`, or choose another --data")
    })
}

/// Examines an installation without changing it.
pub(super) async fn examine(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    let config = load(installation)?;
    let data = config.store.directory.clone();
    if let Err(failure) = existing(&data) {
        return Ok(vec![bad("data directory", failure.message)]);
    }
    let mut findings = vec![private(&data)];
    let key = MasterKey::find(config.keys.master_key_file.as_deref(), &data);
    findings.push(match &key {
        Ok(Some(_)) => good("master key", "found, readable by its owner only"),
        Ok(None) => bad("master key", "missing; restore it from your backup".into()),
        Err(error) => bad("master key", error.to_string()),
    });
    let store = match Sqlite::open(&data) {
        Ok(engine) => Store::Sqlite(engine),
        Err(error) => {
            findings.push(bad("database", error.to_string()));
            return Ok(findings);
        }
    };
    findings.push(good("database", "opens, and no other server uses it"));
    findings.push(match store.self_test(Clock::System.now()).await {
        Ok(()) => good("self-test", "a replay is refused, versions are guarded, the clock is right"),
        Err(error) => bad("self-test", error.to_string()),
    });
    findings.push(durable_write(store.gauges().fsync_seconds));
    if let Ok(Some(key)) = key {
        findings.push(match Keys::open(&store, &key).await {
            Ok(_) => good("key canary", "opens"),
            Err(error) => bad("key canary", error.to_string()),
        });
    }
    store.close().await;
    Ok(findings)
}

/// Returns the OpenAPI document as JSON.
pub(super) async fn describe_api() -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(&openapi::description());
    text.map(|text| text + "\n").map_err(|error| Failure::new(format!("write description: {error}")))
}

/// Returns the annotated configuration file.
pub(super) async fn default_config() -> Result<String, Failure> {
    Ok(config::DEFAULT.to_owned())
}

/// Migrates the store.
pub(super) async fn migrate(installation: &Installation) -> Result<Migration, Failure> {
    let config = load(installation)?;
    let applied = Sqlite::migrate_only(&config.store.directory)?;
    let to = applied.len() as u64;
    Ok(Migration { engine: "sqlite".into(), from: 0, to })
}

/// Follows every audit chain of an installation.
pub(super) async fn verify_audit(installation: &Installation) -> Result<AuditSummary, Failure> {
    let config = load(installation)?;
    existing(&config.store.directory)?;
    let app = App::open(config, Clock::System).await?;
    let report = audit::verify(&app.store, &app.keys).await;
    app.store.close().await;
    Ok(summary(report?))
}

/// What keeps the demo's server alive.
pub(super) struct DemoHandle {
    running: Running,
    directory: PathBuf,
}

/// Starts a throw-away server on a free port of 127.0.0.1, with a fresh installation in a temporary directory.
pub(super) async fn start_demo() -> Result<(DemoServer, DemoHandle), Failure> {
    let directory = std::env::temp_dir().join(format!("countersign-demo-{:016x}", rand::random::<u64>()));
    let made = fs::DirBuilder::new().mode(0o700).create(&directory);
    made.map_err(|error| Failure::new(format!("create {}: {error}", directory.display())))?;
    let mut config = Config::default();
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.store.directory.clone_from(&directory);

    let (running, first) = running::start(config, Clock::System).await?;
    let first = first.ok_or_else(|| Failure::new("the temporary directory was not empty"))?;
    let server = DemoServer {
        url: format!("http://{}", running.address),
        client_id: first.client.id.to_string(),
        client_secret: Secret::new(first.client_secret.expose().to_owned()),
    };
    Ok((server, DemoHandle { running, directory }))
}

/// Follows every audit chain of the demo's server.
pub(super) async fn verify_demo_audit(handle: &DemoHandle) -> Result<AuditSummary, Failure> {
    let app = &handle.running.app;
    audit::checkpoint(app).await?;
    Ok(summary(audit::verify(&app.store, &app.keys).await?))
}

/// Stops the demo's server and removes its directory.
pub(super) async fn stop_demo(handle: DemoHandle) {
    // The story is told; what goes wrong now has no bearing on it.
    let _ = handle.running.stop().await;
    let _ = fs::remove_dir_all(handle.directory);
}

fn load(installation: &Installation) -> Result<Config, Failure> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        // A variable that is not text is none of ours.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    });
    let mut config = Config::load(installation.config.as_deref(), environment).map_err(|error| {
        Failure::from(error).hint("`countersign config default` prints every setting with its default")
    })?;
    if let Some(data) = &installation.data {
        config.store.directory.clone_from(data);
    }
    Ok(config)
}

/// Refuses to examine what is not there: opening would make a new installation.
fn existing(data: &Path) -> Result<(), Failure> {
    let database = data.join("countersign.db");
    match fs::metadata(&database) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::new(format!("{} has no installation", data.display()))
                .hint("name the right directory with --data, or make one with `countersign init`"))
        }
        Err(error) => Err(Failure::new(format!("read {}: {error}", database.display()))),
    }
}

fn private(data: &Path) -> Finding {
    match fs::metadata(data) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 == 0 => {
            good("data directory", "private to its owner")
        }
        Ok(_) => Finding {
            check: "data directory".into(),
            health: Health::Warning,
            detail: format!("others may look into it; run chmod 700 {}", data.display()),
        },
        Err(error) => bad("data directory", error.to_string()),
    }
}

fn durable_write(seconds: f64) -> Finding {
    let detail = format!("takes {:.1} ms", seconds * 1000.0);
    if seconds <= SLOW_FSYNC_SECONDS {
        return good("durable write", &detail);
    }
    let detail = format!("{detail}; answers wait for it, so choose a faster disk");
    Finding { check: "durable write".into(), health: Health::Warning, detail }
}

fn good(check: &str, detail: &str) -> Finding {
    Finding { check: check.into(), health: Health::Good, detail: detail.into() }
}

fn bad(check: &str, detail: String) -> Finding {
    Finding { check: check.into(), health: Health::Bad, detail }
}

fn credentials(first: &setup::FirstCredentials, data: &Path) -> FirstCredentials {
    FirstCredentials {
        organisation_id: first.organisation.id.to_string(),
        organisation_slug: first.organisation.slug.to_string(),
        organisation_name: first.organisation.name.to_string(),
        admin_username: first.admin.username.to_string(),
        admin_password: first.admin_password.clone(),
        client_id: first.client.id.to_string(),
        client_secret: Secret::new(first.client_secret.expose().to_owned()),
        client_scopes: first.client.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
        data: data.display().to_string(),
    }
}

fn summary(report: Report) -> AuditSummary {
    let fault = |what: String| AuditFault { subject: String::new(), seq: 0, what };
    AuditSummary {
        chains: report.people + report.organisations,
        events: report.rows,
        faults: report.findings.into_iter().map(fault).collect(),
    }
}
