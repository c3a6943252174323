//! The way into the server: one call for each command that works on an installation itself, not through the API.

use super::{
    audit::{Archive, Archived},
    demo::DemoServer,
    doctor::{self, Finding},
    failure::{Exit, Failure},
    init::FirstCredentials,
    installation::Installation,
    serve::{self, PrintFirst},
    store::{conformance, copy},
};
use crate::{
    app::App,
    clock::Clock,
    config::{
        self, Config,
        delivery::{Environment, Provider, development::File},
    },
    error::Error,
    http::openapi,
    running::{self, Running, StopSignals},
    service::{
        audit::{self, Report},
        retention, setup,
    },
    store::{
        self, Store,
        postgres::{self, Postgres},
    },
    telemetry,
};
use countersign_core::{Refusal, Secret};
use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Serves until told to stop. Makes the installation first if there is none, and then calls `print`.
pub(super) async fn serve(args: serve::Args, print: PrintFirst) -> Result<(), Failure> {
    let mut config = configuration(&args.installation)?;
    config.server.listen = args.listen.unwrap_or(config.server.listen);
    telemetry::start_logging(&config.log)?;
    let data = config.store.directory.clone();

    let signals = StopSignals::listen()?;
    let started = running::start(config, Clock::System).await;
    let (running, first) = started.map_err(|error| not_started(&args.installation, error))?;
    if let Some(first) = first {
        print(&credentials(first, &data))?;
    }
    let own = running.app.config.own_address();
    tracing::info!(address = %running.address, "listening on {}, described at {own}/docs", running.address);
    running.until(signals).await?;
    Ok(())
}

/// Makes an installation. Fails if there is one.
pub(super) async fn initialise(installation: &Installation) -> Result<FirstCredentials, Failure> {
    let config = configuration(installation)?;
    let (data, is_remote) = (config.store.directory.clone(), config.store.is_remote());
    let app = App::open(config, Clock::System).await?;
    let first = setup::initialise(&app).await;
    app.store.close().await;
    first?.map(|first| credentials(first, &data)).ok_or_else(|| {
        let place = if is_remote { "the database".to_owned() } else { data.display().to_string() };
        Failure::new(format!("{place} is initialised already; nothing was changed"))
            .hint("choose another --data, or sign in with the credentials that were printed then")
    })
}

/// Examines an installation without changing it.
pub(super) async fn examine(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    Ok(doctor::examine(configuration(installation)?).await)
}

/// Returns the OpenAPI document as JSON.
pub(super) async fn describe_api() -> Result<String, Failure> {
    Ok(format!("{:#}", openapi::description()))
}

/// Returns the annotated configuration file.
pub(super) async fn default_config() -> Result<String, Failure> {
    Ok(config::DEFAULT.to_owned())
}

/// Migrates the store; returns the names of the migrations that took.
pub(super) async fn migrate(installation: &Installation) -> Result<Vec<&'static str>, Failure> {
    let config = configuration(installation)?;
    // An empty database is somebody's who made it for us.
    if !config.store.is_remote() {
        existing(&config).await?;
    }
    Ok(Store::migrate(&config.store).await?)
}

/// Runs the checks that any database must pass, on one that is for them alone; tells of each when it ends.
pub(super) async fn prove(args: &conformance::Args, tell: conformance::Tell<'_>) -> Result<(), Failure> {
    let settings = configuration(&Installation { config: args.config.clone(), data: None })?.store;
    conformance::prove(settings, args, tell).await
}

/// The statements that spread the tables over the nodes of Citus.
pub(super) const CITUS: &str = postgres::CITUS;

/// Runs the statements that spread the tables over the nodes of Citus.
pub(super) async fn distribute(installation: &Installation) -> Result<(), Failure> {
    let config = configuration(installation)?;
    if !config.store.is_remote() {
        return Err(
            Failure::usage("no database is named").hint("set store.url to that of Citus' coordinator")
        );
    }
    existing(&config).await?;
    Ok(Postgres::distribute(&config.store).await?)
}

/// Copies an installation to another database; tells how far it is.
pub(super) async fn copy(args: &copy::Args, watch: copy::Watch<'_>) -> Result<store::copy::Report, Failure> {
    let settings = configuration(&Installation { config: args.config.clone(), data: None })?.store;
    let (from, to) = args.ends(&settings)?;
    if !Store::exists(&from).await? {
        return Err(Failure::new("there is no installation where --from says; nothing was changed")
            .hint("name its data directory, or the URL of its database")
            .exit(Exit::NotFound));
    }
    store::copy::copy(&from, &to, watch).await.map_err(|error| {
        Failure::new(error.to_string())
            .hint("the source is as it was; a copy that was begun goes on when the same command is run again")
    })
}

/// Follows every audit chain of an installation.
pub(super) async fn verify_audit(
    installation: &Installation,
    archives: &[PathBuf],
) -> Result<Report, Failure> {
    let config = configuration(installation)?;
    existing(&config).await?;
    let app = App::open(config, Clock::System).await?;
    let report = audit::verify(&app.store, &app.keys, archives).await;
    app.store.close().await;
    Ok(report?)
}

/// Archives old events of an installation, and prunes them.
pub(super) async fn archive_audit(args: &Archive) -> Result<Archived, Failure> {
    let (config, before) = (configuration(&args.installation)?, args.before()?);
    let directory = args.to.clone().or_else(|| config.audit.archive_directory.clone()).ok_or_else(|| {
        Failure::usage("no archive is named")
            .hint("name a directory with --to, or set audit.archive_directory")
    })?;
    existing(&config).await?;
    let app = App::open(config, Clock::System).await?;
    let pruned = retention::prune(&app.store, &app.keys, &app.clock, &directory, before, |_| {}).await;
    app.store.close().await;
    Ok(Archived { events: pruned?, directory })
}

/// What keeps the demo's server alive.
pub(super) struct DemoHandle {
    running: Running,
    directory: PathBuf,
}

/// Starts a throw-away server on a free port of 127.0.0.1, with a fresh installation in a temporary directory.
pub(super) async fn start_demo() -> Result<(DemoServer, DemoHandle), Failure> {
    let directory = std::env::temp_dir().join(format!("countersign-demo-{:016x}", rand::random::<u64>()));
    DirBuilder::new()
        .mode(0o700)
        .create(&directory)
        .map_err(|error| Failure::new(format!("create {}: {error}", directory.display())))?;
    let mut config = Config::default();
    config.server.listen.set_port(0);
    config.store.directory.clone_from(&directory);
    let messages = directory.join("messages.jsonl");
    config.server.environment = Environment::Development;
    config.delivery.mail =
        vec![Provider::File(File { name: "demo".into(), path: messages.clone(), countries: Vec::new() })];

    let started = running::start(config, Clock::System).await;
    let (running, first) = started.inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
    let first = first.ok_or_else(|| Failure::new("the throw-away directory was not empty"))?;
    let server = DemoServer {
        url: format!("http://{}", running.address),
        client_id: first.client.id.to_string(),
        client_secret: Secret::new(first.client_secret.expose().to_owned()),
        messages,
    };
    Ok((server, DemoHandle { running, directory }))
}

/// Follows every audit chain of the demo's server.
pub(super) async fn verify_demo_audit(handle: &DemoHandle) -> Result<Report, Failure> {
    let app = &handle.running.app;
    Ok(audit::verify(&app.store, &app.keys, &[]).await?)
}

/// Stops the demo's server and removes its directory.
pub(super) async fn stop_demo(handle: DemoHandle) {
    // Whatever goes wrong, the story is told; the system clears its temporary directory by itself.
    drop(handle.running.stop().await);
    drop(fs::remove_dir_all(handle.directory));
}

/// Reads the configuration; arguments go before the environment, and that before the file.
fn configuration(installation: &Installation) -> Result<Config, Failure> {
    let mut config =
        Config::load(installation.config.as_deref(), environment()).map_err(|error| misconfigured(&error))?;
    if let Some(data) = &installation.data {
        config.store.directory.clone_from(data);
    }
    Ok(config)
}

/// Returns the variables that are text; a setting is never anything else.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn misconfigured(error: &Error) -> Failure {
    Failure::usage(error.to_string()).hint("countersign config default prints every setting")
}

/// Says why the server does not start. What is invalid then is a setting that does not fit what is in the store.
fn not_started(installation: &Installation, error: Error) -> Failure {
    match error {
        Error::Refused(Refusal::Invalid(invalid)) => {
            misconfigured(&config::misfit(installation.config.as_deref(), environment(), &invalid))
        }
        other => other.into(),
    }
}

/// Refuses to go on where there is no installation.
async fn existing(config: &Config) -> Result<(), Failure> {
    if Store::exists(&config.store).await? {
        return Ok(());
    }
    let failure = match config.store.is_remote() {
        true => Failure::new("there is no installation in the database that store.url names")
            .hint("name another database, or make an installation with: countersign init"),
        false => Failure::new(format!("there is no installation in {}", config.store.directory.display()))
            .hint("name its directory with --data, or make one with: countersign init"),
    };
    Err(failure.exit(Exit::NotFound))
}

fn credentials(first: setup::FirstCredentials, data: &Path) -> FirstCredentials {
    FirstCredentials {
        organisation_id: first.organisation.id.to_string(),
        organisation_slug: first.organisation.slug.to_string(),
        organisation_name: first.organisation.name.to_string(),
        admin_username: first.admin.username.to_string(),
        admin_password: first.admin_password,
        client_id: first.client.id.to_string(),
        client_secret: Secret::new(first.client_secret.expose().to_owned()),
        client_scopes: first.client.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
        data: data.canonicalize().unwrap_or_else(|_| data.to_owned()).display().to_string(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.to_string()).hint("countersign doctor looks for what is wrong")
    }
}
