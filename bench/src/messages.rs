//! Messages under bad conditions: the server is killed while it sends, or its provider goes silent under load.

use crate::{
    attempts::Accepted,
    client::{Connection, json_request, request},
    dice::Dice,
    drive::{Mood, Pace, Slice, connect, slice},
    estate::{self, Share},
    ground::Ground,
    provider::Provider,
    server::{Installation, Server},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use uuid::Uuid;

/// How many connections ask for codes at the same time.
const ASKERS: usize = 32;
/// How long after the last kill every message must have found its end.
const PATIENCE: Duration = Duration::from_secs(150);
/// The first number that text messages go to.
const FIRST_NUMBER: u64 = 4_915_110_000_000;

/// What to kill, and how often.
#[derive(Args)]
pub(crate) struct KillOptions {
    #[command(flatten)]
    ground: Ground,
    /// People, each of whom is sent one code.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    challenges: u64,
    /// How often the server is killed meanwhile.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
}

/// How the provider fails, and for how long.
#[derive(Args)]
pub(crate) struct OutageOptions {
    #[command(flatten)]
    ground: Ground,
    /// Seconds the provider is silent.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(6..))]
    seconds: u64,
    /// Seconds for which a code is good: some lapse while the provider is silent.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(60..=600))]
    code_seconds: u64,
    /// People who verify, each with one counter-based factor.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(64..))]
    users: u64,
    /// Keep-alive connections that verify.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Codes asked for in a second, before and during the outage.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    codes: u64,
}

/// Kills the server while codes are asked for and sent; fails if an answered one neither arrived nor shows why.
pub(crate) async fn kill(options: &KillOptions) -> Result<()> {
    let room = options.ground.room()?;
    let provider = Provider::start().await?;
    let installation = Installation::init(&options.ground.server, room.path())
        .await?
        .with_environment(provider.environment());
    let outcome = killed(options, &installation, &provider).await;
    outcome.inspect_err(|_| eprintln!("{}", installation.log_tail()))
}

async fn killed(options: &KillOptions, installation: &Installation, provider: &Provider) -> Result<()> {
    let authorization: Arc<str> = installation.credentials.basic().into();
    provider.take_time(Duration::from_millis(5));
    let (mut server, _) = installation.start().await?;
    let policy = json!({ "resend": { "pauseSeconds": 0, "perHour": 20 } });
    server.change_policy(&authorization, &policy).await?;
    let people = people(server.address, &authorization, options.challenges).await?;
    let queue = Arc::new(Queue { waiting: Mutex::new(people), ..Queue::default() });
    let mut dice = Dice::by_the_clock();

    for kill in 1..=options.kills {
        let askers = askers(&queue, server.address, &authorization);
        let moment = Duration::from_millis(60 + dice.below(80) as u64);
        sleep(moment).await;
        server.kill().await?;
        // What an asker did not get answered, it gave back.
        for asker in askers {
            let _ = asker.await?;
        }
        let (answered, arrived) = (queue.answered().len(), provider.arrivals().len());
        println!("kill {kill}, after {moment:.0?}: {answered} codes answered, {arrived} messages arrived");
        server = installation.start().await?.0;
    }
    for asker in askers(&queue, server.address, &authorization) {
        asker.await??;
    }
    let answered = queue.answered();
    let ends = ends(&server, &authorization, &answered).await?;
    server.stop().await?;
    installation.audit_verify().await?;
    judge(&answered, &ends, provider)
}

/// Who waits for a code, and the messages of those who were told that one is on its way.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Vec<Uuid>>,
    answered: Mutex<BTreeSet<String>>,
}

impl Queue {
    fn next(&self) -> Option<Uuid> {
        self.waiting.lock().expect("nobody panics with it").pop()
    }

    fn give_back(&self, id: Uuid) {
        self.waiting.lock().expect("nobody panics with it").push(id);
    }

    fn answered(&self) -> BTreeSet<String> {
        self.answered.lock().expect("nobody panics with it").clone()
    }
}

/// Starts those who ask for codes until nobody waits or the server is gone.
fn askers(queue: &Arc<Queue>, address: SocketAddr, authorization: &Arc<str>) -> Vec<JoinHandle<Result<()>>> {
    let asker = |_| {
        let (queue, authorization) = (Arc::clone(queue), Arc::clone(authorization));
        tokio::spawn(async move { ask(&queue, address, &authorization).await })
    };
    (0..ASKERS).map(asker).collect()
}

async fn ask(queue: &Queue, address: SocketAddr, authorization: &str) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    while let Some(id) = queue.next() {
        match challenge(&mut connection, authorization, &id).await {
            Ok(answer) => {
                let delivery = delivery_of(&answer)?;
                queue.answered.lock().expect("nobody panics with it").insert(delivery);
            }
            Err(error) => {
                queue.give_back(id);
                return Err(error);
            }
        }
        // Else all would be asked before the first kill.
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Asks for a code for somebody.
async fn challenge(connection: &mut Connection, authorization: &str, id: &Uuid) -> Result<Value> {
    let path = format!("/v1/users/{}/challenges", id);
    connection.json(&json_request("POST", &path, authorization, &json!({ "type": "sms" })), 201).await
}

fn delivery_of(challenge: &Value) -> Result<String> {
    Ok(challenge["delivery"].as_str().context("a challenge without a delivery")?.to_owned())
}

/// How a message ended.
struct End {
    state: String,
    interrupted: u64,
}

/// Waits until every message has ended; returns how.
async fn ends(server: &Server, authorization: &str, ids: &BTreeSet<String>) -> Result<BTreeMap<String, End>> {
    let begun = Instant::now();
    let mut ends = BTreeMap::new();
    let mut connection = Connection::open(server.address).await?;
    while ends.len() < ids.len() {
        for id in ids {
            if ends.contains_key(id) {
                continue;
            }
            let path = format!("/v1/deliveries/{id}");
            let delivery = connection.json(&request("GET", &path, authorization, None), 200).await?;
            let state = delivery["state"].as_str().context("a delivery without a state")?;
            if !["queued", "sending"].contains(&state) {
                let interrupted = delivery["interrupted"].as_u64().unwrap_or(0);
                ends.insert(id.clone(), End { state: state.to_owned(), interrupted });
            }
        }
        ensure!(begun.elapsed() < PATIENCE, "{} messages have not ended", ids.len() - ends.len());
        sleep(Duration::from_millis(200)).await;
    }
    Ok(ends)
}

fn judge(answered: &BTreeSet<String>, ends: &BTreeMap<String, End>, provider: &Provider) -> Result<()> {
    let mut arrived: BTreeMap<String, u64> = BTreeMap::new();
    for arrival in provider.arrivals() {
        *arrived.entry(arrival.id).or_default() += 1;
    }
    let times = |id: &String| arrived.get(id).copied().unwrap_or(0);
    let lost: Vec<_> = ends.iter().filter(|(id, end)| end.state == "sent" && times(id) == 0).collect();
    let twice: Vec<_> = answered.iter().filter(|id| times(id) > 1).collect();
    let unexplained = twice.iter().filter(|id| ends[**id].interrupted + 1 < times(id)).count();
    let interrupted: u64 = ends.values().map(|end| end.interrupted).sum();
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    ends.values().for_each(|end| *states.entry(&end.state).or_default() += 1);

    println!(
        "{} codes answered: {states:?}, {} said to be sent and not arrived, {} arrived twice, {unexplained} of them \
         unexplained, {interrupted} attempts interrupted",
        answered.len(),
        lost.len(),
        twice.len(),
    );
    ensure!(lost.is_empty(), "a message was said to be sent that never arrived");
    ensure!(unexplained == 0, "a message arrived twice without an interrupted attempt");
    Ok(())
}

/// Makes people with a number each, which codes can be sent to at once.
async fn people(address: SocketAddr, authorization: &str, count: u64) -> Result<Vec<Uuid>> {
    let mut lanes = Vec::new();
    for lane in 0..ASKERS as u64 {
        let authorization = authorization.to_owned();
        lanes.push(tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut made = Vec::new();
            for number in (lane..count).step_by(ASKERS) {
                let id =
                    estate::create(&mut connection, &authorization, &format!("receiver-{number:08}")).await?;
                let path = format!("/v1/users/{}/factors", id);
                let destination = format!("+{}", FIRST_NUMBER + number);
                let body = json!({ "type": "sms", "destination": destination, "confirmed": true });
                connection.json(&json_request("POST", &path, &authorization, &body), 201).await?;
                made.push(id);
            }
            anyhow::Ok(made)
        }));
    }
    let mut people = Vec::new();
    for lane in lanes {
        people.extend(lane.await??);
    }
    Ok(people)
}

/// Verifies while the provider works, while it is silent and when it is back; prints the three side by side.
pub(crate) async fn outage(options: &OutageOptions) -> Result<()> {
    let room = options.ground.room()?;
    let provider = Provider::start().await?;
    let installation = Installation::init(&options.ground.server, room.path())
        .await?
        .with_environment(provider.environment());
    let outcome = silenced(options, &installation, &provider).await;
    outcome.inspect_err(|_| eprintln!("{}", installation.log_tail()))
}

async fn silenced(options: &OutageOptions, installation: &Installation, provider: &Provider) -> Result<()> {
    let authorization = installation.credentials.basic();
    let (server, _) = installation.start().await?;
    server.change_policy(&authorization, &json!({ "codeSeconds": options.code_seconds })).await?;
    let length = Duration::from_secs(options.seconds);
    let receivers = people(server.address, &authorization, options.codes * options.seconds * 3).await?;
    let (estate, _) =
        estate::load(server.address, &installation.credentials, 0..options.users, ASKERS).await?;
    let bearer = installation.credentials.bearer(server.address).await?;
    let (estate, everybody) = (Arc::new(estate), options.users as usize);
    let shares = Share::deal(&estate, everybody, options.connections.into());
    let mut works: Vec<_> = shares.into_iter().map(Accepted::work).collect();
    works.iter_mut().for_each(|work| work.authorise(&bearer));
    let lanes = connect(&[server.address], works).await?;
    // A first stretch that counts for nothing: caches fill, the log of the database finds its size.
    let (_, mut lanes) = slice(lanes, Pace::Closed, Mood::Strict, length / 6).await?;

    let mut receivers = receivers.into_iter();
    let mut asked = Vec::new();
    let mut first = None;
    for phase in ["provider answers", "provider is silent", "provider answers again"] {
        provider.be_silent(phase == "provider is silent");
        let receivers: Vec<Uuid> =
            receivers.by_ref().take((options.codes * options.seconds) as usize).collect();
        let sending =
            tokio::spawn(ask_steadily(server.address, authorization.clone(), receivers, options.codes));
        // Access tokens may end before we do.
        let bearer = installation.credentials.bearer(server.address).await?;
        lanes.iter_mut().for_each(|lane| lane.authorise(&bearer));
        let (stretch, back) = slice(lanes, Pace::Closed, Mood::Strict, length).await?;
        lanes = back;
        asked.push(sending.await??);
        let figures = Figures::of(stretch)?;
        figures.print(phase, *first.get_or_insert(figures));
    }
    report(&server, &authorization, &asked, provider).await?;
    server.stop().await
}

/// A code that was asked for.
struct Asked {
    delivery: String,
    expires_in: Duration,
    at: Instant,
}

/// Asks for codes, so many a second.
async fn ask_steadily(
    address: SocketAddr,
    authorization: String,
    receivers: Vec<Uuid>,
    per_second: u64,
) -> Result<Vec<Asked>> {
    let mut connection = Connection::open(address).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second as f64));
    let mut asked = Vec::new();
    for id in &receivers {
        ticks.tick().await;
        let answer = challenge(&mut connection, &authorization, id).await?;
        let time = |name: &str| -> Result<i64> {
            let text = answer[name].as_str().with_context(|| format!("a challenge without {name}"))?;
            Ok(countersign_core::Timestamp::parse(text).context("a time")?.millis())
        };
        let expires_in = Duration::from_millis(u64::try_from(time("expiresAt")? - time("sentAt")?)?);
        asked.push(Asked { delivery: delivery_of(&answer)?, expires_in, at: Instant::now() });
    }
    Ok(asked)
}

/// What a stretch of verifications came to.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    p99: f64,
}

impl Figures {
    fn of(stretch: Slice) -> Result<Self> {
        ensure!(stretch.unexpected.count == 0, "unexpected answers: {:?}", stretch.unexpected.first);
        Ok(Self { rate: stretch.rate(), p99: stretch.latencies.percentiles().p99 })
    }

    fn print(self, phase: &str, first: Self) {
        let Self { rate, p99 } = self;
        let (rate_ratio, p99_ratio) = (rate / first.rate, p99 / first.p99);
        println!(
            "{phase}: {rate:.0} verifications/s ({rate_ratio:.2} × the first), p99 {p99:.1} ms ({p99_ratio:.2} ×)"
        );
    }
}

/// Says what became of the codes of each stretch; fails if one arrived late, or was lost.
async fn report(
    server: &Server,
    authorization: &str,
    asked: &[Vec<Asked>],
    provider: &Provider,
) -> Result<()> {
    let ids: BTreeSet<String> = asked.iter().flatten().map(|asked| asked.delivery.clone()).collect();
    let ends =
        timeout(PATIENCE, ends(server, authorization, &ids)).await.context("messages have not ended")??;
    let arrivals: BTreeMap<String, Instant> =
        provider.arrivals().into_iter().map(|arrival| (arrival.id, arrival.at)).collect();
    let mut late = 0;
    for (phase, asked) in ["before", "during", "after"].iter().zip(asked) {
        let arrived = asked.iter().filter(|asked| arrivals.contains_key(&asked.delivery)).count();
        let expired = asked.iter().filter(|asked| ends[&asked.delivery].state == "expired").count();
        late += asked
            .iter()
            .filter_map(|asked| Some((arrivals.get(&asked.delivery)?, asked.at + asked.expires_in)))
            .filter(|(arrived, expires)| arrived > &expires)
            .count();
        println!(
            "asked for {phase} the outage: {} codes, {arrived} arrived, {expired} expired unsent",
            asked.len()
        );
        ensure!(arrived + expired == asked.len(), "a message neither arrived nor expired");
    }
    println!("{late} arrived after they had expired");
    ensure!(late == 0, "a code was sent that had expired");
    Ok(())
}
