//! A running server: everything started in the right order, and stopped in the opposite one.

use crate::{
    app::App,
    clock::Clock,
    config::Config,
    delivery::{dispatch::Dispatch, worker::Worker},
    error::{Error, Result},
    http::{
        self, SharedApp, Web,
        server::{self, Drained, Limits},
        tls::Reloading,
    },
    service::{
        audit, deliveries, retention,
        setup::{self, FirstCredentials},
    },
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, interval_at},
};

/// How often certificate files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// How often idle token buckets are swept out.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How often a checkpoint of the audit trail is signed, if there is anything new.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(600);

/// How often what is too old in the audit trail is archived and pruned.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);
/// How long after the start for the first time.
const RETENTION_DELAY: Duration = Duration::from_secs(60);

/// A running server.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it serves.
    pub app: SharedApp,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<Drained>>,
    jobs: Vec<JoinHandle<()>>,
    worker: Worker,
}

/// Starts the server. In an empty data directory it makes the first accounts and returns their credentials.
pub async fn start(config: Config, clock: Clock) -> Result<(Running, Option<FirstCredentials>)> {
    // The port first: a second server must not touch the data of the first.
    let listener = listen(config.server.listen)?;
    let address = listener.local_addr().map_err(|error| Error::Store(format!("listen: {error}")))?;
    let tls = certificates(&config)?;
    let config = Config { server: crate::config::Server { listen: address, ..config.server }, ..config };

    let app = Arc::new(App::open(config, clock).await?);
    let web = Web::new(Arc::clone(&app))?;
    web.mounts.check(&app).await?;
    let dispatch = Dispatch::new(&app.config.delivery, &app.clock)?;
    let worker = Worker::start(&app, dispatch).await?;
    // Last of what can fail: the credentials it returns are shown once, or never.
    let first = setup::initialise(&app).await?;
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move {
        // A dropped handle stops the server as well.
        let _ = stopped.await;
    };
    let limits = limits(&web);
    let jobs = jobs(&web, tls.clone());
    let serving = tokio::spawn(server::serve(listener, tls, http::router(web), limits, shutdown));
    Ok((Running { address, app, stop, serving, jobs, worker }, first))
}

/// The signals by which a process is asked to stop, SIGTERM and SIGINT, and SIGHUP, by which it must not end.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl StopSignals {
    /// Begins to listen. To be called before the server starts: a signal that nobody listens for kills the process.
    pub fn listen() -> Result<Self> {
        let signals = || {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: signal(SignalKind::hangup())?,
            })
        };
        signals().map_err(|error: std::io::Error| Error::Internal(format!("listen for signals: {error}")))
    }
}

impl Running {
    /// Waits until the process is asked to stop, then stops.
    pub async fn until(self, mut signals: StopSignals) -> Result<Drained> {
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                // With TLS its job reads the files again. Without, "reload" has nothing to do, and is no reason to end.
                _ = signals.hangup.recv() => {}
            }
        }
        self.turn_away(&mut signals).await;
        tracing::info!("asked to stop; finishing open requests");
        self.stop().await
    }

    /// Goes on serving for a while with readiness saying no, so that balancers send nobody any more. Who asks twice is in a
    /// hurry.
    async fn turn_away(&self, signals: &mut StopSignals) {
        self.app.leave();
        let seconds = self.app.config.server.unready_seconds;
        if seconds == 0 {
            return;
        }
        tracing::info!("asked to stop; serving for {seconds} s more, not ready for anybody new");
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
    }

    /// Stops: no new requests, open ones finish, messages that are being sent go out, the audit trail is signed, the store is
    /// closed.
    pub async fn stop(self) -> Result<Drained> {
        let _ = self.stop.send(());
        let drained = self.serving.await.map_err(|error| Error::Internal(format!("serve: {error}")))?;
        self.worker.stop().await;
        for job in self.jobs {
            job.abort();
            // It ends where it waits; what it had committed stays.
            let _ = job.await;
        }
        if let Err(error) = audit::checkpoint(&self.app).await {
            tracing::error!("sign checkpoint: {error}");
        }
        self.app.store.close().await;
        drained.map_err(|error| Error::Store(format!("serve: {error}")))
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    server::listen(address).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; another program uses the port, choose another with --listen",
            std::io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need a privilege, choose another with --listen"
            }
            std::io::ErrorKind::AddrNotAvailable => "; the machine has no such address",
            _ => "",
        };
        Error::Store(format!("listen on {address}: {error}{hint}"))
    })
}

fn certificates(config: &Config) -> Result<Option<Reloading>> {
    let (Some(certificate), Some(key)) = (&config.server.certificate_file, &config.server.private_key_file)
    else {
        return Ok(None);
    };
    Reloading::load(certificate, key).map(Some).map_err(|error| Error::Store(error.to_string()))
}

fn limits(web: &Web) -> Limits {
    let (server, limits) = (&web.app.config.server, &web.app.config.limits);
    Limits {
        header_timeout: Duration::from_secs(server.header_seconds),
        idle_timeout: Duration::from_secs(server.idle_seconds),
        drain_timeout: Duration::from_secs(server.drain_seconds),
        max_connections: limits.connections,
        max_connections_per_address: limits.connections_per_address,
        proxies: web.proxies.clone(),
        ..Limits::default()
    }
}

fn jobs(web: &Web, tls: Option<Reloading>) -> Vec<JoinHandle<()>> {
    let site = web.clone();
    let (signing, pruning) = (Arc::clone(&web.app), Arc::clone(&web.app));
    let mut jobs = vec![
        tokio::spawn(async move { site.limits.sweep(SWEEP_INTERVAL).await }),
        tokio::spawn(async move { keep_house(&signing).await }),
        tokio::spawn(async move { keep_trail(&pruning).await }),
    ];
    jobs.extend(tls.map(|tls| tokio::spawn(tls.watch(CERTIFICATE_INTERVAL))));
    jobs
}

async fn keep_house(app: &App) {
    let mut ticks = interval_at(Instant::now() + CHECKPOINT_INTERVAL, CHECKPOINT_INTERVAL);
    loop {
        ticks.tick().await;
        match app.store.take_turn("housekeeping", CHECKPOINT_INTERVAL).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::error!("take a turn at housekeeping: {error}");
                continue;
            }
        }
        if let Err(error) = audit::checkpoint(app).await {
            tracing::error!("sign checkpoint: {error}");
        }
        if let Err(error) = app.store.forget_revocations(app.clock.now()).await {
            tracing::error!("forget revocations: {error}");
        }
        if let Err(error) = deliveries::forget_old(app).await {
            tracing::error!("forget old deliveries: {error}");
        }
    }
}

/// Archives and prunes what is too old in the audit trail, in turns with other nodes.
async fn keep_trail(app: &App) {
    if app.config.audit.keep_days == 0 {
        return;
    }
    let mut ticks = interval_at(Instant::now() + RETENTION_DELAY, RETENTION_INTERVAL);
    loop {
        ticks.tick().await;
        match app.store.take_turn("audit retention", RETENTION_INTERVAL).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::error!("take a turn at audit retention: {error}");
                continue;
            }
        }
        match retention::keep(app).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(audit.pruned = count, "{count} audit events archived and pruned"),
            Err(error) => tracing::error!("archive audit events: {error}; the next attempt is in an hour"),
        }
    }
}
