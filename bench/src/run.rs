//! The measurement: one server, one run, everything side by side on the same cores.

use crate::{
    client::{Connection, request},
    drive::{Lane, Load, Pace, Slice, Unexpected, connect, slice},
    estate::{self, Person},
    machine::{self, Machine},
    report::{
        AtConnections, AtHalfLoad, Audit, Lists, Loading, Memory, Report, Settings, Starts, Verification,
    },
    sample::{Latencies, Percentiles, Spread, millis},
    server::{Installation, Server},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often the server is started to see how long that takes.
const STARTS: usize = 5;
/// How many connections load people: waiting changes share a commit, so many are faster.
const LOADERS: usize = 64;
/// How often each list page is fetched.
const PAGES: usize = 300;
/// How far we walk through the list for a page that is deep in it.
const DEEP: u64 = 200_000;
/// Codes signed ahead for the first slice, for each second and all connections together.
const FIRST_GUESS: f64 = 20_000.0;

/// What to measure, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// The server's binary.
    #[arg(long, default_value = "target/release/countersign")]
    server: PathBuf,
    /// Where the temporary data directory is made; the disk that is measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Writes everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// People, each with one counter-based factor.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// Length of a slice in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
    /// Numbers of keep-alive connections.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clap::value_parser!(u16).range(1..))]
    connections: Vec<u16>,
    /// Rounds: in each, a slice of the baseline and one of verifications.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    runs: u64,
}

impl Options {
    fn most_connections(&self) -> usize {
        self.connections.iter().copied().max().unwrap_or(1).into()
    }
}

/// Measures, prints, and fails if anything was not as it had to be.
pub(crate) async fn run(options: &Options, threads: usize) -> Result<()> {
    ensure!(
        options.users >= options.most_connections() as u64,
        "at least as many users as connections are needed"
    );
    let room = tempfile::Builder::new().prefix("countersign-bench-").tempdir_in(&options.dir)?;
    let machine = Machine::describe(room.path())?;
    let installation = Installation::init(&options.server, room.path()).await?;

    let (report, unexpected) =
        measure(options, threads, machine, &installation).await.with_context(|| installation.log_tail())?;

    print!("{report}");
    if let Some(path) = &options.json {
        write_json(path, &report)?;
    }
    match unexpected.first {
        None => Ok(()),
        Some(first) => anyhow::bail!("{} answers were not as expected; the first: {first}", unexpected.count),
    }
}

fn write_json(path: &Path, report: &Report) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    fs::write(path, json).with_context(|| format!("write {}", path.display()))
}

async fn measure(
    options: &Options,
    threads: usize,
    machine: Machine,
    installation: &Installation,
) -> Result<(Report, Unexpected)> {
    eprintln!("starting the server {STARTS} times");
    let (server, start_empty) = start_often(installation).await?;
    server.settle().await?;
    let idle_empty = server.memory()?.now;

    eprintln!("loading {} people", options.users);
    let (people, loading) =
        estate::load(server.address, &installation.credentials, 0..options.users, LOADERS).await?;
    let peak_loading = server.memory()?.peak;
    server.stop().await?;
    let data_bytes = installation.data_bytes()?;

    eprintln!("starting the server {STARTS} times, with the people in it");
    let (server, start_loaded) = start_often(installation).await?;
    server.settle().await?;
    let idle_loaded = server.memory()?.now;

    eprintln!("listing");
    let lists = lists(&server, installation, options.users).await?;

    let cores = machine.cores;
    let mut bench = Bench { options, installation, cores, server, people, unexpected: Unexpected::default() };
    let mut at_connections = Vec::new();
    for &connections in &options.connections {
        eprintln!("verifying over {connections} connections");
        at_connections.push(bench.at_connections(connections.into()).await?);
    }
    let at_half_load = bench.at_half_load(&at_connections).await?;
    let Bench { server, unexpected, .. } = bench;
    let serving = server.memory()?;
    server.stop().await?;

    eprintln!("checking the audit trail");
    let start = Instant::now();
    let said = installation.audit_verify().await?;
    let audit = Audit { seconds: start.elapsed().as_secs_f64(), said };

    let report = Report {
        machine,
        settings: Settings {
            users: options.users,
            slice_seconds: options.seconds,
            rounds: options.runs,
            client_threads: threads,
            signing_micros: signing_time().as_secs_f64() * 1e6,
        },
        start: Starts { empty_ms: start_empty, loaded_ms: start_loaded },
        memory: Memory { idle_empty, idle_loaded, peak_loading, after_load: serving.now },
        loading: Loading {
            seconds: loading.as_secs_f64(),
            people_per_second: options.users as f64 / loading.as_secs_f64(),
            bytes_per_person: data_bytes / options.users,
            data_bytes,
        },
        lists,
        verification: Verification { at_connections, at_half_load },
        audit,
        unexpected_answers: unexpected.count,
    };
    Ok((report, unexpected))
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

/// Measures pages of 50 people: the first, and one deep in the list.
async fn lists(server: &Server, installation: &Installation, users: u64) -> Result<Lists> {
    let authorization = installation.credentials.bearer(server.address).await?;
    let mut connection = Connection::open(server.address).await?;
    let page = |query: &str| request("GET", &format!("/v1/users?{query}"), &authorization, None);

    let first = pages(&mut connection, &page("limit=50")).await?;
    let mut deep_after = 0;
    let mut cursor = None;
    let mut query = "limit=200".to_owned();
    // Stops short of the end, so that the page is a full one.
    while deep_after < DEEP.min(users.saturating_sub(400)) {
        let answer = connection.json(&page(&query), 200).await?;
        let Some(next) = answer["next"].as_str() else { break };
        deep_after += 200;
        query = format!("limit=200&after={next}");
        cursor = Some(next.to_owned());
    }
    let deep = match cursor {
        Some(cursor) => Some(pages(&mut connection, &page(&format!("limit=50&after={cursor}"))).await?),
        None => None,
    };
    Ok(Lists { first, deep, deep_after })
}

async fn pages(connection: &mut Connection, request: &[u8]) -> Result<Percentiles> {
    let mut latencies = Latencies::default();
    for _ in 0..PAGES {
        let start = Instant::now();
        let answer = connection.exchange(request).await?;
        ensure!(answer.status == 200, "list users: {answer}");
        latencies.push(start.elapsed());
    }
    Ok(latencies.percentiles())
}

/// A server with people in it, and the load on it.
struct Bench<'a> {
    options: &'a Options,
    installation: &'a Installation,
    cores: usize,
    server: Server,
    people: Vec<Person>,
    unexpected: Unexpected,
}

/// A slice, and what it cost the server and us.
struct Measured {
    slice: Slice,
    server_cpu: Duration,
    client_cpu: Duration,
    /// The share of all cores that went to neither of us: what disturbed the measurement.
    disturbance: f64,
}

impl Measured {
    /// Returns the server's processor time for each answer, in microseconds.
    fn server_micros(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / self.slice.latencies.len() as f64
    }

    /// Returns everybody's processor time for each answer, in microseconds.
    fn micros(&self) -> f64 {
        self.server_micros() + self.client_micros()
    }

    /// Returns our processor time for each answer, in microseconds.
    fn client_micros(&self) -> f64 {
        self.client_cpu.as_secs_f64() * 1e6 / self.slice.latencies.len() as f64
    }
}

impl Bench<'_> {
    /// Interleaves slices of both loads, so that what disturbs one disturbs the other.
    async fn at_connections(&mut self, connections: usize) -> Result<AtConnections> {
        self.server.reset_peak()?;
        let mut rounds = Vec::new();
        let mut guess = FIRST_GUESS;
        let mut lanes = Lane::deal(std::mem::take(&mut self.people), connections);
        for _ in 0..self.options.runs {
            let (baseline, back) = self.slice(lanes, Load::Baseline, Pace::Closed, guess).await?;
            let (verify, back) = self.slice(back, Load::Verify, Pace::Closed, guess).await?;
            guess = guess.max(verify.slice.rate());
            lanes = back;
            rounds.push((baseline, verify));
        }
        self.people = Lane::gather(lanes);
        Ok(summary(connections, rounds, self.server.memory()?.peak))
    }

    /// Sends verifications at half the rate the server can do, and looks at how long each one takes.
    async fn at_half_load(&mut self, measured: &[AtConnections]) -> Result<AtHalfLoad> {
        let most = measured.iter().max_by_key(|at| at.connections).context("no load was measured")?;
        let rate = most.per_second.median / 2.0;
        eprintln!("verifying {rate:.0} times a second over {} connections", most.connections);

        let mut lanes = Lane::deal(std::mem::take(&mut self.people), most.connections);
        let (mut latencies, mut rates) = (Latencies::default(), Vec::new());
        for _ in 0..self.options.runs {
            let (verify, back) = self.slice(lanes, Load::Verify, Pace::PerSecond(rate), rate).await?;
            rates.push(verify.slice.rate());
            latencies.append(verify.slice.latencies);
            lanes = back;
        }
        self.people = Lane::gather(lanes);
        Ok(AtHalfLoad {
            connections: most.connections,
            per_second: Spread::of(rates),
            latency_ms: latencies.percentiles(),
        })
    }

    /// Measures one slice, on new connections and with a new token.
    async fn slice(
        &mut self,
        mut lanes: Vec<Lane>,
        load: Load,
        pace: Pace,
        rate_guess: f64,
    ) -> Result<(Measured, Vec<Lane>)> {
        let length = Duration::from_secs(self.options.seconds);
        let codes = rate_guess * 1.5 * length.as_secs_f64() / lanes.len() as f64;
        for lane in &mut lanes {
            lane.sign_ahead(codes as usize);
        }
        let authorization = self.installation.credentials.bearer(self.server.address).await?;
        let connected = connect(self.server.address, lanes).await?;
        self.server.settle().await?;

        let (server_before, client_before, busy_before) = (self.server.cpu()?, own_cpu()?, machine::busy()?);
        let (mut slice, connected) = slice(connected, &authorization, load, pace, length).await?;
        let client_cpu = own_cpu()? - client_before;
        let others = (machine::busy()? - busy_before)
            .saturating_sub(client_cpu)
            .saturating_sub(self.server.cpu()? - server_before);
        // What the server put off belongs to this slice.
        self.server.settle().await?;
        let server_cpu = self.server.cpu()? - server_before;

        self.unexpected.append(std::mem::take(&mut slice.unexpected));
        let lanes = connected.into_iter().map(|(_, lane)| lane).collect();
        let disturbance = others.as_secs_f64() / slice.elapsed.as_secs_f64() / self.cores as f64;
        Ok((Measured { slice, server_cpu, client_cpu, disturbance }, lanes))
    }
}

fn summary(connections: usize, rounds: Vec<(Measured, Measured)>, peak_memory: f64) -> AtConnections {
    let ratio = |(baseline, verify): &(Measured, Measured)| verify.slice.rate() / baseline.slice.rate();
    let ratio = Spread::of(rounds.iter().map(ratio));
    let cpu_ratio = |(baseline, verify): &(Measured, Measured)| baseline.micros() / verify.micros();
    let cpu_ratio = Spread::of(rounds.iter().map(cpu_ratio));
    let (baseline, verify): (Vec<Measured>, Vec<Measured>) = rounds.into_iter().unzip();
    let spread = |of: &[Measured], figure: fn(&Measured) -> f64| Spread::of(of.iter().map(figure));
    let latencies = |of: Vec<Measured>| {
        of.into_iter().fold(Latencies::default(), |mut all, measured| {
            all.append(measured.slice.latencies);
            all
        })
    };
    AtConnections {
        connections,
        per_second: spread(&verify, |measured| measured.slice.rate()),
        baseline_per_second: spread(&baseline, |measured| measured.slice.rate()),
        ratio,
        cpu_ratio,
        server_cpu_micros: spread(&verify, Measured::server_micros),
        baseline_server_cpu_micros: spread(&baseline, Measured::server_micros),
        client_cpu_micros: spread(&verify, Measured::client_micros),
        baseline_client_cpu_micros: spread(&baseline, Measured::client_micros),
        disturbance: Spread::of(baseline.iter().chain(&verify).map(|measured| measured.disturbance)),
        peak_memory,
        signed_late: verify.iter().map(|measured| measured.slice.signed_late).sum(),
        latency_ms: latencies(verify).percentiles(),
        baseline_latency_ms: latencies(baseline).percentiles(),
    }
}

/// Returns the processor time we used so far.
fn own_cpu() -> Result<Duration> {
    crate::server::cpu_of_process("self")
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
