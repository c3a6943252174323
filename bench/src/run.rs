//! The measurement: one server, one run, everything side by side on the same cores.

use crate::{
    drive::Unexpected,
    estate::{self, Estate},
    figures::{self, Found},
    ground::Ground,
    inside,
    kept::{Kept, Making},
    lists::lists,
    machine::Machine,
    measured::{Bench, Target},
    operations::{self, Operation},
    pgbench::Pgbench,
    postgres::{self, Postgres},
    report::{Audit, Loading, Made, Memory, PostgresStore, Report, Settings, Starts, write_json},
    sample::{Spread, millis},
    server::{Installation, Server},
};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How often the server is started to see how long that takes.
const STARTS: usize = 5;
/// How long a server rests before its memory is looked at: the runtime ends threads that had nothing to do for ten seconds, and
/// what the start needed is given back with them.
const REST: Duration = Duration::from_secs(12);
/// How many connections load people: waiting changes share a commit, so many are faster.
const LOADERS: usize = 64;
/// How many people are made through the API, to see how fast that is. On the embedded store the rest is made without HTTP.
const THROUGH_API: u64 = 20_000;

/// What to measure, and how long.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    ground: Ground,
    /// Where the people are.
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    store: Store,
    /// Reaches PostgreSQL through a pool of transactions, pgbouncer.
    #[arg(long)]
    pooled: bool,
    /// What starts a PostgreSQL to throw away.
    #[arg(long, value_name = "SCRIPT", default_value = "scripts/throwaway-postgres")]
    postgres: PathBuf,
    /// Keeps the people in a folder, and takes those who are there instead of making them; on the embedded store only.
    #[arg(long, value_name = "FOLDER", conflicts_with = "dir")]
    keep: Option<PathBuf>,
    /// Writes everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    figures: figures::Into,
    /// People, each with one counter-based factor.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// Length of a slice in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
    /// Numbers of keep-alive connections.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clap::value_parser!(u16).range(1..))]
    connections: Vec<u16>,
    /// What else to measure beside the handler that does nothing; on the embedded store only.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "verify")]
    operations: Vec<Operation>,
    /// Rounds: in each, a slice of verifications and one of each thing they are compared with.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    runs: u64,
}

/// The store under the server, which decides what verifications are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    /// The embedded one; compared with a handler that does nothing.
    Sqlite,
    /// A PostgreSQL of our own; one node and two, compared with pgbench.
    Postgres,
}

impl Options {
    fn connections(&self) -> Vec<usize> {
        self.connections.iter().copied().map(usize::from).collect()
    }
}

/// Measures, prints, and fails if anything was not as it had to be.
pub(crate) async fn run(options: &Options, threads: usize) -> Result<()> {
    let most = options.connections.iter().copied().max().unwrap_or(1);
    ensure!(options.users >= most.into(), "at least as many users as connections are needed");
    let is_embedded = options.store == Store::Sqlite;
    ensure!(
        is_embedded || Operation::asked(&options.operations).is_empty(),
        "--operations is for --store sqlite"
    );
    ensure!(!options.pooled || options.store == Store::Postgres, "--pooled is for --store postgres");
    ensure!(options.keep.is_none() || is_embedded, "--keep is for --store sqlite");
    let temporary = options.ground.room()?;
    let kept = options.keep.as_deref().map(Kept::in_folder).transpose()?;
    let room = options.keep.as_deref().unwrap_or(temporary.path());
    let postgres = match options.store {
        Store::Sqlite => None,
        Store::Postgres => {
            Some(Postgres::start(&options.postgres, &options.ground.dir, options.pooled).await?)
        }
    };

    let measured = measure(options, threads, room, kept.as_ref(), postgres.as_ref()).await;
    if let Some(postgres) = postgres {
        postgres.stop().await?;
    }
    let (report, unexpected) = measured?;

    print!("{report}");
    if let Some(path) = &options.json {
        write_json(path, &report)?;
    }
    let mut found = Found::default();
    found.add(report);
    found.write(&options.figures)?;
    match unexpected.first {
        None => Ok(()),
        Some(first) => anyhow::bail!("{} answers were not as expected; the first: {first}", unexpected.count),
    }
}

async fn measure(
    options: &Options,
    threads: usize,
    room: &Path,
    kept: Option<&Kept>,
    postgres: Option<&Postgres>,
) -> Result<(Report, Unexpected)> {
    let machine = Machine::describe(room)?;
    let is_again = kept.is_some_and(|kept| !kept.is_new());
    let installation = match postgres {
        None => {
            let sends = Operation::asked(&options.operations).contains(&Operation::Challenge);
            let environment = if sends { operations::environment(&room.canonicalize()?) } else { Vec::new() };
            let installation = match is_again {
                true => Installation::made_in(&options.ground.server, room)?,
                false => Installation::init(&options.ground.server, room).await?,
            };
            installation.with_environment(environment)
        }
        Some(postgres) => {
            let (url, is_prepared) = (postgres.url(), postgres.is_prepared());
            Installation::init_on(&options.ground.server, room, url, is_prepared).await?
        }
    };
    let run = Run { options, threads, room, kept, is_again, machine, installation: &installation, postgres };
    run.all().await.with_context(|| installation.log_tail())
}

/// What a run works with.
struct Run<'a> {
    options: &'a Options,
    threads: usize,
    room: &'a Path,
    kept: Option<&'a Kept>,
    /// The people were made by a run before.
    is_again: bool,
    machine: Machine,
    installation: &'a Installation,
    postgres: Option<&'a Postgres>,
}

impl Run<'_> {
    async fn all(self) -> Result<(Report, Unexpected)> {
        let Self { options, installation, postgres, .. } = self;
        let Loaded { making, estate, server } = match self.kept {
            Some(kept) if self.is_again => {
                let (making, estate) = kept.take(options.users)?;
                Loaded { making, estate, server: None }
            }
            _ => self.make().await?,
        };
        let mut bench = Bench {
            installation,
            cores: self.machine.cores,
            threads: self.threads,
            length: Duration::from_secs(options.seconds),
            rounds: options.runs,
            estate: Arc::new(estate),
            unexpected: Unexpected::default(),
        };
        let mut beside = match (postgres, server) {
            (Some(postgres), Some(server)) => {
                // Documents and events then have the size they have from here on, which pgbench takes over.
                bench
                    .warm_up(Target { servers: std::slice::from_ref(&server), postgres: Some(postgres) })
                    .await?;
                server.stop().await?;
                eprintln!("copying the database for pgbench");
                let pgbench = Pgbench::prepare(postgres, self.room).await?;
                postgres.season().await?;
                Some((postgres, pgbench))
            }
            _ => None,
        };

        eprintln!("starting the server {STARTS} times, with the people in it");
        let start_cold = start_cold(installation).await?;
        if postgres.is_none() {
            eprintln!("reading everything once");
            installation.warm()?;
        }
        let (server, start_loaded) = start_often(installation).await?;
        let idle_loaded = at_rest(&server).await?;

        eprintln!("listing");
        let lists = lists(&server, installation, options.users).await?;

        let (server, verification) = match &mut beside {
            None => {
                let verification = bench.beside_baseline(&server, &options.connections()).await?;
                (server, verification)
            }
            Some((postgres, pgbench)) => {
                let (second, _) = installation.second_node().start().await?;
                let nodes = [server, second];
                let verification =
                    bench.beside_pgbench(&nodes, postgres, pgbench, &options.connections()).await?;
                pgbench.check().await?;
                let [server, second] = nodes;
                second.stop().await?;
                (server, verification)
            }
        };
        let others = Operation::asked(&options.operations);
        let operations = bench.operations(&server, &others, &options.connections()).await?;
        let after_load = server.memory()?.now;
        server.stop().await?;
        if let Some(kept) = self.kept {
            kept.put(&making, &bench.estate)?;
        }
        let audit = audit(installation).await?;

        let Making { users, start_empty, idle_empty, peak, through_api, inside, data_bytes } = making;
        let report = Report {
            settings: self.settings(),
            postgres: match &beside {
                None => None,
                Some((postgres, pgbench)) => Some(store(postgres, pgbench).await?),
            },
            machine: self.machine,
            start: Starts { empty_ms: start_empty, loaded_ms: start_loaded, cold_ms: start_cold },
            memory: Memory { idle_empty, idle_loaded, peak_loading: peak, after_load },
            loading: Loading {
                seconds: through_api.seconds,
                people_per_second: through_api.people_per_second,
                inside,
                bytes_per_person: data_bytes / users,
                data_bytes,
            },
            lists,
            verification,
            operations,
            audit,
            unexpected_answers: bench.unexpected.count,
        };
        Ok((report, bench.unexpected))
    }

    /// Makes the people: through the API, and where there are many and nobody else writes, the rest without HTTP.
    async fn make(&self) -> Result<Loaded> {
        let (users, credentials) = (self.options.users, &self.installation.credentials);
        eprintln!("starting the server {STARTS} times");
        let (server, start_empty) = start_often(self.installation).await?;
        let idle_empty = at_rest(&server).await?;

        let first = if self.postgres.is_some() { users } else { users.min(THROUGH_API) };
        eprintln!("loading {first} people");
        let (mut estate, took) = estate::load(server.address, credentials, 0..first, LOADERS).await?;
        let mut making = Making {
            users,
            start_empty,
            idle_empty,
            peak: server.memory()?.peak,
            through_api: Made::of(first, took),
            inside: None,
            data_bytes: 0,
        };
        if let Some(postgres) = self.postgres {
            making.data_bytes = postgres.data_bytes().await?;
            return Ok(Loaded { making, estate, server: Some(server) });
        }
        server.stop().await?;
        if users > first {
            eprintln!("loading {} people more, without HTTP", users - first);
            let data = self.installation.data();
            let (others, took) = inside::load(data, credentials, first..users).await?;
            estate.append(others)?;
            making.inside = Some(Made::of(users - first, took));
        }
        making.data_bytes = self.installation.data_bytes()?;
        Ok(Loaded { making, estate, server: None })
    }

    fn settings(&self) -> Settings {
        Settings {
            users: self.options.users,
            slice_seconds: self.options.seconds,
            rounds: self.options.runs,
            client_threads: self.threads,
            signing_micros: signing_time().as_secs_f64() * 1e6,
        }
    }
}

/// The people.
struct Loaded {
    making: Making,
    estate: Estate,
    /// Where the people are elsewhere, it runs still.
    server: Option<Server>,
}

async fn store(postgres: &Postgres, pgbench: &Pgbench<'_>) -> Result<PostgresStore> {
    let (document_bytes, event_bytes) = pgbench.sizes();
    Ok(PostgresStore {
        version: postgres.version().await?,
        settings: postgres::SETTINGS.map(str::to_owned).into(),
        is_pooled: postgres.is_pooled(),
        is_prepared: postgres.is_prepared(),
        document_bytes,
        event_bytes,
    })
}

async fn audit(installation: &Installation) -> Result<Audit> {
    eprintln!("checking the audit trail");
    let start = Instant::now();
    let said = installation.audit_verify().await?;
    Ok(Audit { seconds: start.elapsed().as_secs_f64(), said })
}

/// Returns the resident memory of a server that has nothing to do, in MiB.
async fn at_rest(server: &Server) -> Result<f64> {
    server.settle().await?;
    sleep(REST).await;
    Ok(server.memory()?.now)
}

/// Starts the server several times and leaves the last one running.
async fn start_often(installation: &Installation) -> Result<(Server, Spread)> {
    let mut times = Vec::new();
    loop {
        let (server, time) = installation.start().await?;
        times.push(millis(time));
        if times.len() == STARTS {
            return Ok((server, Spread::of(times)));
        }
        server.stop().await?;
    }
}

/// Starts the server several times with nothing of the disk in memory; `None` where we may not have that dropped.
async fn start_cold(installation: &Installation) -> Result<Option<Spread>> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        if !drop_caches() {
            eprintln!("not starting it cold: only root may have caches dropped");
            return Ok(None);
        }
        let (server, time) = installation.start().await?;
        times.push(millis(time));
        server.stop().await?;
    }
    Ok(Some(Spread::of(times)))
}

/// Has the kernel forget what it read (proc(5)); false where it does not let us. The server has stopped, and left nothing
/// that is not written.
fn drop_caches() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Measures what signing one code costs us.
fn signing_time() -> Duration {
    const CODES: u32 = 10_000;
    let start = Instant::now();
    for counter in 0..CODES {
        std::hint::black_box(estate::code(0, counter.into()));
    }
    start.elapsed() / CODES
}
