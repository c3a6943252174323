//! More load than the server can carry, and floods beside the traffic of others.

use crate::{
    attempts::Accepted,
    client::{Answer, Connection, Credentials, json_request},
    drive::{self, Lane, Mood, Pace, Slice, Unexpected, connect, connect_from, slice},
    estate::{self, Estate, Share},
    ground::Ground,
    machine::Machine,
    measured::{FIRST_GUESS, Target},
    report::{Beyond, Flood, OverloadReport, Peak, Refusal, Side, write_json},
    sample::{Latencies, Spread},
    server::{Installation, Server},
    work::{AnyWork, Outcome, Template, Work},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// How many connections load people.
const LOADERS: usize = 64;
/// People that are flooded, beside those the others are.
const FLOODED: u64 = 256;
/// The connections, addresses and clients that the others come by.
const OTHERS: (usize, u8, usize) = (64, 16, 8);
/// The connections, addresses and clients that a flood of many comes by.
const MANY: (usize, u8, usize) = (256, 64, 64);
/// The part of the peak that the others send while somebody floods.
const OTHERS_SHARE: f64 = 0.25;

/// How to overload it, and how long.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    ground: Ground,
    /// Writes everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// People, each with one counter-based factor.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(256..))]
    users: u64,
    /// Length of a slice in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
    /// Connections that find the peak, each sending as soon as it has its answer.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Connections over which more is sent than can be answered: more than there is room for in the server.
    #[arg(long, default_value_t = 6_144, value_parser = clap::value_parser!(u16).range(64..=9000))]
    open: u16,
    /// How many times the peak is sent.
    #[arg(long, default_value_t = 2.0)]
    times: f64,
    /// Rounds: in each, a slice at the peak and one beyond it; then one of the others alone and one beside each flood.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    runs: u64,
}

/// Overloads, prints, and fails if an answer was neither right nor a refusal.
pub(crate) async fn run(options: &Options, threads: usize) -> Result<()> {
    open_many_files()?;
    let room = options.ground.room()?;
    let machine = Machine::describe(room.path())?;
    let installation = Installation::init(&options.ground.server, room.path()).await?;
    let (report, unexpected) =
        measure(options, threads, &installation, machine).await.with_context(|| installation.log_tail())?;
    print!("{report}");
    if let Some(path) = &options.json {
        write_json(path, &report)?;
    }
    match unexpected.first {
        None => Ok(()),
        Some(first) => anyhow::bail!("{} answers were not as expected; the first: {first}", unexpected.count),
    }
}

/// Lets us, and the servers we start, have as many connections as an administrator allows.
fn open_many_files() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("open many files")
}

async fn measure(
    options: &Options,
    threads: usize,
    installation: &Installation,
    machine: Machine,
) -> Result<(OverloadReport, Unexpected)> {
    let (server, _) = installation.start().await?;
    eprintln!("loading {} people", options.users + FLOODED);
    let credentials = &installation.credentials;
    let (estate, _) = estate::load(server.address, credentials, 0..options.users, LOADERS).await?;
    let numbers = options.users..options.users + FLOODED;
    let (flooded, _) = estate::load(server.address, credentials, numbers, LOADERS).await?;
    let mut overload = Overload {
        options,
        installation,
        length: Duration::from_secs(options.seconds),
        estate: Arc::new(estate),
        flooded: Arc::new(flooded),
        unexpected: Unexpected::default(),
    };
    let (peak, beyond) = overload.beyond_peak(&server).await?;
    server.stop().await?;

    // Floods meet the limits that a server has unless told otherwise.
    let (server, _) = installation.with_usual_limits().start().await?;
    let floods = overload.floods(&server, peak.per_second.median * OTHERS_SHARE).await?;
    server.stop().await?;
    let audit = installation.audit_verify().await?;
    let report = OverloadReport {
        machine,
        users: options.users,
        slice_seconds: options.seconds,
        rounds: options.runs,
        client_threads: threads,
        peak,
        beyond,
        floods,
        audit,
        unexpected_answers: overload.unexpected.count,
    };
    Ok((report, overload.unexpected))
}

/// The load, and those it is sent in the name of.
struct Overload<'a> {
    options: &'a Options,
    installation: &'a Installation,
    length: Duration,
    estate: Arc<Estate>,
    flooded: Arc<Estate>,
    unexpected: Unexpected,
}

impl Overload<'_> {
    /// Finds the peak and sends more, in turn.
    async fn beyond_peak(&mut self, server: &Server) -> Result<(Peak, Beyond)> {
        let (closed, open) = (self.options.connections.into(), usize::from(self.options.open));
        let open = open.min(self.estate.len());
        let mut rounds = Vec::new();
        let (mut peak_memory, mut beyond_memory) = (0.0_f64, 0.0_f64);
        let (mut at_peak, mut beyond) = (Latencies::default(), Sum::default());
        // Caches fill, and the log of the database finds its size.
        let mut guess = self.over(server, closed, Pace::Closed, Mood::Strict, FIRST_GUESS).await?.rate();
        for round in 1..=self.options.runs {
            eprintln!("round {round}: the peak over {closed} connections, then more over {open}");
            server.reset_peak()?;
            let peak = self.over(server, closed, Pace::Closed, Mood::Strict, guess).await?;
            peak_memory = peak_memory.max(server.memory()?.peak);
            let reached = peak.rate();
            guess = guess.max(reached);
            at_peak.append(peak.latencies);
            let due = reached * self.options.times;
            server.reset_peak()?;
            let more = self.over(server, open, Pace::PerSecond(due), Mood::Forgiving, guess).await?;
            beyond_memory = beyond_memory.max(server.memory()?.peak);
            rounds.push((reached, due, more.rate()));
            beyond.add(more);
        }
        let of = |figure: fn(&(f64, f64, f64)) -> f64| Spread::of(rounds.iter().map(figure));
        let peak = Peak {
            connections: closed,
            per_second: of(|round| round.0),
            latency_ms: at_peak.percentiles(),
            peak_memory,
        };
        let beyond = Beyond {
            times: self.options.times,
            connections: open,
            due_per_second: of(|round| round.1),
            goodput: of(|round| round.2),
            ratio: of(|round| round.2 / round.0),
            side: beyond.answered(),
            peak_memory: beyond_memory,
        };
        Ok((peak, beyond))
    }

    /// Verifies over a number of connections.
    async fn over(
        &mut self,
        server: &Server,
        connections: usize,
        pace: Pace,
        mood: Mood,
        guess: f64,
    ) -> Result<Slice> {
        // Before connecting: a server does not wait long for the first request of a connection.
        Target::embedded(server).settle().await?;
        let authorization = self.installation.credentials.bearer(server.address).await?;
        let shares = Share::deal(&self.estate, self.estate.len(), connections);
        let mut works: Vec<AnyWork> = shares.into_iter().map(Accepted::work).collect();
        works.iter_mut().for_each(|work| work.authorise(&authorization));
        let lanes = connect(&[server.address], works).await?;
        let count = (guess * 1.5 * self.length.as_secs_f64() / connections as f64) as usize;
        let lanes = drive::prepare(lanes, count).await?;
        let (mut slice, _) = slice(lanes, pace, mood, self.length).await?;
        self.unexpected.append(std::mem::take(&mut slice.unexpected));
        Ok(slice)
    }

    /// Has each flood beside the others, and the others alone before.
    async fn floods(&mut self, server: &Server, rate: f64) -> Result<Vec<Flood>> {
        let root = self.installation.credentials.bearer(server.address).await?;
        let others = clients(server, &root, "others", OTHERS.2).await?;
        let many = clients(server, &root, "many", MANY.2).await?;
        let mut floods = Vec::new();
        for kind in Kind::ALL {
            eprintln!("a flood {} beside {rate:.0} verifications a second", kind.what());
            let (mut alone, mut beside, mut flood) = (Sum::default(), Sum::default(), Sum::default());
            for _ in 0..self.options.runs {
                let lanes = self.others(server, &others).await?;
                Target::embedded(server).settle().await?;
                let (quiet, _) = slice(lanes, Pace::PerSecond(rate), Mood::Forgiving, self.length).await?;
                alone.add(quiet);

                let lanes = self.others(server, &others).await?;
                let flooding = self.flooding(server, kind, &many).await?;
                Target::embedded(server).settle().await?;
                let (disturbed, flooded) = tokio::try_join!(
                    slice(lanes, Pace::PerSecond(rate), Mood::Forgiving, self.length),
                    slice(flooding, Pace::Closed, Mood::Forgiving, self.length)
                )?;
                beside.add(disturbed.0);
                flood.add(flooded.0);
            }
            for sum in [&mut alone, &mut beside] {
                self.unexpected.append(std::mem::take(&mut sum.unexpected));
            }
            floods.push(Flood {
                what: kind.what().to_owned(),
                due_per_second: rate,
                ratio: Spread::of(
                    alone.rates.iter().zip(&beside.rates).map(|(alone, beside)| beside / alone),
                ),
                alone: alone.due(),
                beside: beside.due(),
                flood: flood.answered(),
            });
        }
        Ok(floods)
    }

    /// Connects those whom a flood is not about: from addresses and by clients of their own.
    async fn others(&self, server: &Server, clients: &[Credentials]) -> Result<Vec<Lane>> {
        let tokens = tokens(server, clients).await?;
        let (connections, addresses, _) = OTHERS;
        let shares = Share::deal(&self.estate, self.estate.len(), connections);
        let mut works: Vec<AnyWork> = shares.into_iter().map(Accepted::work).collect();
        for (work, token) in works.iter_mut().zip(tokens.iter().cycle()) {
            work.authorise(token);
        }
        let lanes = connect_from(&[server.address], &sources(1, addresses), works).await?;
        drive::prepare(lanes, (FIRST_GUESS * self.length.as_secs_f64()) as usize / connections).await
    }

    /// Connects those who flood.
    async fn flooding(&self, server: &Server, kind: Kind, many: &[Credentials]) -> Result<Vec<Lane>> {
        let (connections, addresses, _) = MANY;
        let (tokens, sources) = match kind {
            Kind::Person => (tokens(server, many).await?, sources(2, addresses)),
            Kind::Client => (tokens(server, &many[..1]).await?, sources(2, addresses)),
            Kind::Address => (vec!["Bearer of-nobody".to_owned()], sources(3, 1)),
        };
        let mut works: Vec<AnyWork> = Vec::new();
        for lane in 0..connections {
            let person = if kind == Kind::Person { 0 } else { lane as u32 % FLOODED as u32 };
            works.push(Box::new(Guesses {
                whose: *self.flooded.id(person),
                template: Template::new("/v1/verify"),
                guess: lane as u32,
            }));
        }
        for (work, token) in works.iter_mut().zip(tokens.iter().cycle()) {
            work.authorise(token);
        }
        connect_from(&[server.address], &sources, works).await
    }
}

/// Whom a flood is on, or whom it comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Person,
    Client,
    Address,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Person, Self::Client, Self::Address];

    const fn what(self) -> &'static str {
        match self {
            Self::Person => "on one person, by 64 clients from 64 addresses",
            Self::Client => "by one client, from 64 addresses",
            Self::Address => "from one address, without a token",
        }
    }
}

/// Codes that somebody makes up. Whatever is answered is an answer.
struct Guesses {
    whose: Uuid,
    template: Template,
    guess: u32,
}

impl Work for Guesses {
    fn authorise(&mut self, authorization: &str) {
        self.template.authorise(authorization);
    }

    fn request(&mut self) -> Option<&[u8]> {
        self.guess = (self.guess + 256) % 1_000_000;
        let code = format!("{:06}", self.guess).into_bytes().try_into().ok()?;
        Some(self.template.fill(&self.whose, &code))
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if answer.status < 500 { Outcome::Done } else { Outcome::Wrong }
    }
}

/// What slices came to together.
#[derive(Default)]
struct Sum {
    rates: Vec<f64>,
    latencies: Latencies,
    refused: BTreeMap<u16, Latencies>,
    broken: usize,
    never_begun: Latencies,
    seconds: f64,
    unexpected: Unexpected,
}

impl Sum {
    fn add(&mut self, slice: Slice) {
        self.rates.push(slice.rate());
        self.latencies.append(slice.latencies);
        for (status, latencies) in slice.refused {
            self.refused.entry(status).or_default().append(latencies);
        }
        self.broken += slice.broken;
        self.never_begun.append(slice.never_begun);
        self.seconds += slice.elapsed.as_secs_f64();
        self.unexpected.append(slice.unexpected);
    }

    /// Sums up what was due: what was never begun took longer than until the end, by which it counts.
    fn due(mut self) -> Side {
        let waited = std::mem::take(&mut self.never_begun);
        let never_begun = waited.len();
        self.latencies.append(waited);
        Side { never_begun, ..self.answered() }
    }

    /// Sums up what was answered, and nothing else.
    fn answered(self) -> Side {
        let seconds = self.seconds;
        let refusal = |(status, latencies): (u16, Latencies)| Refusal {
            status,
            per_second: latencies.len() as f64 / seconds,
            latency_ms: latencies.percentiles(),
        };
        Side {
            per_second: Spread::of(self.rates),
            latency_ms: self.latencies.percentiles(),
            refused: self.refused.into_iter().map(refusal).collect(),
            broken: self.broken,
            never_begun: self.never_begun.len(),
        }
    }
}

/// Returns addresses of loopback, which has a great many.
fn sources(network: u8, count: u8) -> Vec<IpAddr> {
    (1..=count).map(|host| Ipv4Addr::new(127, 0, network, host).into()).collect()
}

/// Makes clients that may verify.
async fn clients(server: &Server, root: &str, name: &str, count: usize) -> Result<Vec<Credentials>> {
    let mut connection = Connection::open(server.address).await?;
    let mut clients = Vec::new();
    for place in 0..count {
        let body = json!({ "name": format!("{name} {place}"), "scopes": ["verify"] });
        let made = connection.json(&json_request("POST", "/v1/clients", root, &body), 201).await?;
        let text = |name: &str| made[name].as_str().map(str::to_owned);
        let id = text("id").context("a client without an id")?;
        let secret = text("secret").context("a client without a secret")?;
        clients.push(Credentials { id, secret, admin: None });
    }
    ensure!(!clients.is_empty(), "somebody has to call");
    Ok(clients)
}

async fn tokens(server: &Server, clients: &[Credentials]) -> Result<Vec<String>> {
    let mut tokens = Vec::new();
    for client in clients {
        tokens.push(client.bearer(server.address).await?);
    }
    Ok(tokens)
}
