//! Pruning the audit trail, a step at a time, while people verify.
//!
//! Nothing that was just made is old enough to be pruned. So the server runs in this process, where pruning can be told that
//! all is: by the function that the server calls every hour, in a thread of its own, so that it can be halted for a slice.

use crate::{
    attempts::Accepted,
    client::Credentials,
    drive::{self, Lane, Mood, Pace, Slice, Unexpected, connect},
    estate::{Estate, Share},
    figures::{self, Found},
    ground::Ground,
    inside,
    kept::{Kept, Making},
    machine::Machine,
    measured::{FIRST_GUESS, Rounds},
    report::{AtLoad, PruningReport, write_json},
    sample::Latencies,
    server::Installation,
    work::AnyWork,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use countersign::{
    app::App,
    clock::Clock,
    config::Config,
    running::{self, Running},
    service::retention::{self, Step},
};
use countersign_core::Timestamp;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    time::sleep,
};

/// What part of the capacity is sent.
const HALF: f64 = 0.5;
/// How often a halted thread looks whether it may go on.
const LOOK: Duration = Duration::from_millis(1);
/// How often we look whether the first step was made: before it the rows of a whole checkpoint are read.
const POLL: Duration = Duration::from_millis(20);

/// What to prune, and who verifies beside it.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    ground: Ground,
    /// Takes the people that `scripts/bench --keep` left in a folder, instead of making them.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Writes everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    figures: figures::Into,
    /// People, each with three events to begin with.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// Length of a slice in seconds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Rounds: in each, a slice without pruning and one with it.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    runs: u64,
}

/// Measures, prints, and fails if anything was not as it had to be.
pub(crate) async fn run(options: &Options, threads: usize) -> Result<()> {
    ensure!(options.users >= options.connections.into(), "at least as many users as connections are needed");
    let temporary = options.ground.room()?;
    let room = options.keep.as_deref().unwrap_or(temporary.path());
    let machine = Machine::describe(room)?;
    let people = People::take(options, room).await?;
    let installation = &people.installation;
    eprintln!("reading everything once");
    installation.warm()?;
    let events = installation.trail_length()?;

    let server = Inside::start(installation.data()).await?;
    let measured = measure(options, server, &people, temporary.path()).await?;
    people.put()?;
    eprintln!("checking the audit trail");
    let audit = installation.audit_verify().await?;

    let Measured { steps, check, pruning, alone, beside, unexpected } = measured;
    let report = PruningReport {
        machine,
        users: options.users,
        events,
        slice_seconds: options.seconds,
        rounds: options.runs,
        client_threads: threads,
        step_events: steps.largest,
        check_seconds: check.as_secs_f64(),
        pruned_per_second: steps.pruned as f64 / pruning.as_secs_f64(),
        step_ms: steps.took.percentiles(),
        alone,
        beside,
        audit,
        unexpected_answers: unexpected.count,
    };
    print!("{report}");
    if let Some(path) = &options.json {
        write_json(path, &report)?;
    }
    let mut found = Found::default();
    found.add_pruning(report);
    found.write(&options.figures)?;
    match unexpected.first {
        None => Ok(()),
        Some(first) => bail!("{} answers were not as expected; the first: {first}", unexpected.count),
    }
}

/// Who verifies, and where they are.
struct People {
    installation: Installation,
    estate: Arc<Estate>,
    /// Where they were before, and stay.
    kept: Option<(Kept, Making)>,
}

impl People {
    async fn take(options: &Options, room: &Path) -> Result<Self> {
        let binary = &options.ground.server;
        if let Some(folder) = &options.keep {
            let kept = Kept::in_folder(folder)?;
            ensure!(
                !kept.is_new(),
                "nobody is kept in {}: scripts/bench --keep makes them",
                folder.display()
            );
            let installation = Installation::made_in(binary, room)?;
            let (making, estate) = kept.take(options.users)?;
            return Ok(Self { installation, estate: Arc::new(estate), kept: Some((kept, making)) });
        }
        let installation = Installation::init(binary, room).await?;
        eprintln!("loading {} people, without HTTP", options.users);
        let (estate, _) =
            inside::load(installation.data(), &installation.credentials, 0..options.users).await?;
        Ok(Self { installation, estate: Arc::new(estate), kept: None })
    }

    fn put(&self) -> Result<()> {
        self.kept.as_ref().map_or(Ok(()), |(kept, making)| kept.put(making, &self.estate))
    }
}

/// What a run came to.
struct Measured {
    steps: Steps,
    /// From the beginning to the first step.
    check: Duration,
    /// How long it was not halted after that.
    pruning: Duration,
    alone: AtLoad,
    beside: AtLoad,
    unexpected: Unexpected,
}

async fn measure(options: &Options, server: Inside, people: &People, room: &Path) -> Result<Measured> {
    let mut load = Load::of(options, &server, people);
    let reached = load.slice(Pace::Closed, FIRST_GUESS).await?.rate();
    let rate = reached * HALF;
    eprintln!("verifying {rate:.0} times a second over {} connections, pruning or not", options.connections);

    let begun = Instant::now();
    let pruner = Pruner::start(&server.running.app, &room.join("archive"))?;
    while pruner.progress.steps.lock().expect("steps").pruned == 0 {
        pruner.check()?;
        sleep(POLL).await;
    }
    let check = begun.elapsed();
    pruner.progress.is_halted.store(true, Relaxed);
    // The step that is being made ends meanwhile.
    load.slice(Pace::PerSecond(rate), rate).await?;
    *pruner.progress.steps.lock().expect("steps") = Steps::default();

    let (mut alone, mut beside, mut pruning) = (Rounds::default(), Rounds::default(), Duration::ZERO);
    for _ in 0..options.runs {
        alone.add(load.slice(Pace::PerSecond(rate), rate).await?);
        let begun = Instant::now();
        pruner.progress.is_halted.store(false, Relaxed);
        beside.add(load.slice(Pace::PerSecond(rate), rate).await?);
        pruner.check()?;
        pruner.progress.is_halted.store(true, Relaxed);
        pruning += begun.elapsed();
    }
    let steps = pruner.stop()?;
    let unexpected = load.end();
    server.stop().await?;
    let at = |rounds: Rounds| rounds.at_load(HALF, options.connections.into(), rate);
    Ok(Measured { steps, check, pruning, alone: at(alone), beside: at(beside), unexpected })
}

/// A server in this process, with a runtime of its own.
struct Inside {
    running: Running,
    runtime: Background,
}

/// A runtime that nobody waits for where it ends: within another one that is not allowed.
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inside {
    async fn start(data: &Path) -> Result<Self> {
        let mut config = Config::default();
        config.store.directory = data.to_owned();
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.limits.connections_per_address = 100_000;
        (config.limits.per_address, config.limits.per_client, config.limits.sign_ins) = (0, 0, 0);
        let runtime =
            Builder::new_multi_thread().enable_all().build().context("start the server's runtime")?;
        let started = runtime.spawn(running::start(config, Clock::System));
        let runtime = Background(Some(runtime));
        let (running, _) = started.await?.context("start the server")?;
        Ok(Self { running, runtime })
    }

    async fn stop(self) -> Result<()> {
        let Self { running, runtime } = self;
        let stopped = running.stop().await;
        drop(runtime);
        stopped.context("stop the server").map(drop)
    }
}

/// Verifications by the same people over as many connections for all slices.
struct Load<'a> {
    credentials: &'a Credentials,
    address: SocketAddr,
    length: Duration,
    works: Vec<AnyWork>,
    unexpected: Unexpected,
}

impl<'a> Load<'a> {
    fn of(options: &Options, server: &Inside, people: &'a People) -> Self {
        let shares = Share::deal(&people.estate, people.estate.len(), options.connections.into());
        Self {
            credentials: &people.installation.credentials,
            address: server.running.address,
            length: Duration::from_secs(options.seconds),
            works: shares.into_iter().map(Accepted::work).collect(),
            unexpected: Unexpected::default(),
        }
    }

    /// Sends for a slice, on new connections and with a new token; codes are signed ahead for so many operations a second.
    async fn slice(&mut self, pace: Pace, rate_guess: f64) -> Result<Slice> {
        let count = rate_guess * 1.5 * self.length.as_secs_f64() / self.works.len() as f64;
        let authorization = self.credentials.bearer(self.address).await?;
        self.works.iter_mut().for_each(|work| work.authorise(&authorization));
        let lanes = connect(&[self.address], std::mem::take(&mut self.works)).await?;
        let lanes = drive::prepare(lanes, count as usize).await?;
        let (mut slice, lanes) = drive::slice(lanes, pace, Mood::Strict, self.length).await?;
        self.works = lanes.into_iter().map(Lane::into_work).collect();
        self.unexpected.append(std::mem::take(&mut slice.unexpected));
        Ok(slice)
    }

    /// Gives codes back that were signed and not sent.
    fn end(self) -> Unexpected {
        self.unexpected
    }
}

/// Steps that were made.
#[derive(Default)]
struct Steps {
    took: Latencies,
    pruned: u64,
    /// The most events of one.
    largest: u64,
}

/// What a pruner and its owner tell each other.
#[derive(Default)]
struct Progress {
    steps: Mutex<Steps>,
    /// It rests after the step it makes, until it may go on.
    is_halted: AtomicBool,
}

impl Progress {
    fn note(&self, step: Step) {
        let mut steps = self.steps.lock().expect("steps");
        steps.took.push(step.took);
        steps.pruned += step.events;
        steps.largest = steps.largest.max(step.events);
        drop(steps);
        while self.is_halted.load(Relaxed) {
            thread::sleep(LOOK);
        }
    }
}

/// The thread that prunes.
struct Pruner {
    progress: Arc<Progress>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Pruner {
    /// Begins to prune all there is.
    fn start(app: &Arc<App>, archive: &Path) -> Result<Self> {
        let (progress, (stop, stopped)) = (Arc::<Progress>::default(), oneshot::channel());
        let (app, archive, noted) = (Arc::clone(app), archive.to_owned(), Arc::clone(&progress));
        std::fs::create_dir_all(&archive).with_context(|| format!("make {}", archive.display()))?;
        let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        let thread = thread::spawn(move || {
            let everything = Timestamp::from_millis(i64::MAX);
            let tell = |step| noted.note(step);
            runtime.block_on(async {
                tokio::select! {
                    pruned = retention::prune(&app.store, &app.keys, &app.clock, &archive, everything, tell) => {
                        pruned.map(drop).context("prune").inspect_err(|error| eprintln!("{error:#}"))
                    }
                    // As when a server stops.
                    _ = stopped => Ok(()),
                }
            })
        });
        Ok(Self { progress, stop, thread })
    }

    /// Fails if it has ended.
    fn check(&self) -> Result<()> {
        ensure!(
            !self.thread.is_finished(),
            "everything that may be pruned was, or that failed: take more people"
        );
        Ok(())
    }

    /// Ends it; returns the steps it made.
    fn stop(self) -> Result<Steps> {
        // An error says that it has ended.
        let _ = self.stop.send(());
        self.progress.is_halted.store(false, Relaxed);
        match self.thread.join() {
            Ok(ended) => ended?,
            Err(_) => bail!("the thread that prunes panicked"),
        }
        Ok(std::mem::take(&mut *self.progress.steps.lock().expect("steps")))
    }
}
