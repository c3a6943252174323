//! Kills the server at random moments under load and checks that nothing it answered was lost.

use crate::{
    client::{Connection, json_request, request},
    dice::Dice,
    estate,
    ground::Ground,
    server::Installation,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Verifications for each person. Their replays are wrong codes but for the last, and so must stay below the number of
/// failures that locks: a lock would hide what we look for.
const VERIFICATIONS: u64 = 4;
/// How far ahead the server looks for a code, and one for the verification it may not have answered. A replayed code
/// that by chance is one of these is no replay.
const LOOK_AHEAD: u64 = 10 + 1;
/// How many connections check what is left.
const CHECKERS: usize = 16;

/// How often to kill.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    ground: Ground,
    /// How often the server is killed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
}

/// Somebody, as far as answers told us.
struct Trace {
    id: Uuid,
    number: u64,
    /// The import of the token was answered.
    imported: bool,
    /// Verifications answered as accepted, of the counters from 0 on.
    accepted: u64,
    /// A verification was sent and not answered: it may have happened or not.
    in_flight: bool,
}

/// What was found.
#[derive(Default)]
struct Tally {
    acceptances: u64,
    enrolments: u64,
    accepted_again: u64,
    missing: u64,
    /// Answers that are wrong in another way, with the first of them.
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.acceptances += other.acceptances;
        self.enrolments += other.enrolments;
        self.accepted_again += other.accepted_again;
        self.missing += other.missing;
        self.wrong.extend(other.wrong);
    }
}

/// Kills and checks; fails if anything answered was lost.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let room = options.ground.room()?;
    let installation = Installation::init(&options.ground.server, room.path()).await?;
    let tally = rounds(options.rounds, &installation).await;
    let tally = tally.inspect_err(|_| eprintln!("{}", installation.log_tail()))?;

    println!(
        "{} rounds, {} acceptances, {} accepted again, {} enrolments, {} missing",
        options.rounds, tally.acceptances, tally.accepted_again, tally.enrolments, tally.missing
    );
    if let Some(first) = tally.wrong.first() {
        bail!("{} other answers were wrong; the first: {first}", tally.wrong.len());
    }
    ensure!(tally.accepted_again == 0 && tally.missing == 0, "the server forgot what it had answered");
    Ok(())
}

async fn rounds(count: u64, installation: &Installation) -> Result<Tally> {
    let authorization: Arc<str> = installation.credentials.basic().into();
    let numbers = Arc::new(AtomicU64::new(0));
    let mut dice = Dice::by_the_clock();
    let mut everybody = Vec::new();
    let mut tally = Tally::default();

    for round in 1..=count {
        let lanes = 16 + dice.below(49);
        let moment = Duration::from_millis(200 + dice.below(1801) as u64);
        let traces = until_killed(installation, &authorization, &numbers, lanes, moment).await?;

        let (server, back) = installation.start().await?;
        let checked = in_parallel(traces, |traces| {
            tokio::spawn(check(server.address, Arc::clone(&authorization), traces))
        });
        let (found, traces) = checked.await?;
        server.stop().await?;
        installation.audit_verify().await.with_context(|| format!("round {round}"))?;

        println!(
            "round {round}: killed after {moment:.1?} under {lanes} connections, {} acceptances, {} enrolments, back in {back:.1?}",
            found.acceptances, found.enrolments
        );
        tally.add(found);
        everybody.extend(traces);
    }
    let (server, _) = installation.start().await?;
    let checked = in_parallel(everybody, |traces| {
        tokio::spawn(check_again(server.address, Arc::clone(&authorization), traces))
    });
    tally.add(checked.await?.0);
    server.stop().await?;
    Ok(tally)
}

/// Enrols and verifies over many connections until the server is killed; returns what was answered until then.
async fn until_killed(
    installation: &Installation,
    authorization: &Arc<str>,
    numbers: &Arc<AtomicU64>,
    lanes: usize,
    moment: Duration,
) -> Result<Vec<Trace>> {
    let (server, _) = installation.start().await?;
    let killed = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let lanes: Vec<JoinHandle<Result<Vec<Trace>>>> = (0..lanes)
        .map(|_| {
            let (authorization, numbers, killed) =
                (Arc::clone(authorization), Arc::clone(numbers), Arc::clone(&killed));
            let address = server.address;
            tokio::spawn(async move {
                let mut traces = Vec::new();
                match enrol_and_verify(address, &authorization, &numbers, &mut traces).await {
                    // How a lane ends is of no interest once the server is dead.
                    Err(_) if killed.load(Ordering::SeqCst) => Ok(traces),
                    Err(error) => Err(error.context("before the server was killed")),
                }
            })
        })
        .collect();
    tokio::time::sleep(moment.saturating_sub(start.elapsed())).await;
    killed.store(true, Ordering::SeqCst);
    server.kill().await?;

    let mut traces = Vec::new();
    for lane in lanes {
        traces.append(&mut lane.await??);
    }
    Ok(traces)
}

/// Enrols one person after the other and verifies some codes of each; ends with an error only.
async fn enrol_and_verify(
    address: SocketAddr,
    authorization: &str,
    numbers: &AtomicU64,
    traces: &mut Vec<Trace>,
) -> Result<std::convert::Infallible> {
    let mut connection = Connection::open(address).await?;
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let id = estate::create(&mut connection, authorization, &format!("person-{number:08}")).await?;
        traces.push(Trace { id, number, imported: false, accepted: 0, in_flight: false });
        let trace = traces.last_mut().expect("the trace just pushed");
        estate::import(&mut connection, authorization, &id, number).await?;
        trace.imported = true;
        for counter in 0..VERIFICATIONS {
            trace.in_flight = true;
            let verdict = verify(&mut connection, authorization, trace, counter).await?;
            ensure!(verdict == "accepted", "a new code was {verdict}");
            trace.in_flight = false;
            trace.accepted += 1;
        }
    }
}

/// Sends one of somebody's codes; returns the result.
async fn verify(
    connection: &mut Connection,
    authorization: &str,
    trace: &Trace,
    counter: u64,
) -> Result<String> {
    let code = estate::code(trace.number, counter);
    let body = json!({ "user": trace.id, "code": String::from_utf8_lossy(&code) });
    let verdict = connection.json(&json_request("POST", "/v1/verify", authorization, &body), 200).await?;
    Ok(verdict["result"].as_str().context("a verdict without a result")?.to_owned())
}

/// Shares people out over some connections, each served by a task.
async fn in_parallel(
    mut traces: Vec<Trace>,
    task: impl Fn(Vec<Trace>) -> JoinHandle<Result<(Tally, Vec<Trace>)>>,
) -> Result<(Tally, Vec<Trace>)> {
    let share = traces.len().div_ceil(CHECKERS).max(1);
    let mut tasks = Vec::new();
    while !traces.is_empty() {
        tasks.push(task(traces.split_off(traces.len().saturating_sub(share))));
    }
    let mut tally = Tally::default();
    for task in tasks {
        let (found, mut back) = task.await??;
        tally.add(found);
        traces.append(&mut back);
    }
    Ok((tally, traces))
}

/// Checks people after the crash: all that was answered is there, nothing accepted is accepted again, and the next code
/// still works.
async fn check(
    address: SocketAddr,
    authorization: Arc<str>,
    traces: Vec<Trace>,
) -> Result<(Tally, Vec<Trace>)> {
    let mut connection = Connection::open(address).await?;
    let mut tally = Tally::default();
    let mut present = Vec::with_capacity(traces.len());
    for mut trace in traces {
        tally.acceptances += trace.accepted;
        tally.enrolments += u64::from(trace.imported);
        if !is_there(&mut connection, &authorization, &trace, &mut tally).await? {
            tally.missing += 1;
            continue;
        }
        if trace.imported {
            for counter in (0..trace.accepted).rev() {
                replay(&mut connection, &authorization, &trace, counter, &mut tally).await?;
            }
            let next = trace.accepted + u64::from(trace.in_flight);
            let verdict = verify(&mut connection, &authorization, &trace, next).await?;
            if verdict != "accepted" {
                tally.wrong.push(format!("the next code of {} was {verdict}", trace.id));
            }
            (trace.accepted, trace.in_flight) = (next + 1, false);
        }
        present.push(trace);
    }
    Ok((tally, present))
}

/// Checks people of all rounds once more at the end: they are there, and the last code of each stays used.
async fn check_again(
    address: SocketAddr,
    authorization: Arc<str>,
    traces: Vec<Trace>,
) -> Result<(Tally, Vec<Trace>)> {
    let mut connection = Connection::open(address).await?;
    let mut tally = Tally::default();
    for trace in &traces {
        if !is_there(&mut connection, &authorization, trace, &mut tally).await? {
            tally.missing += 1;
        } else if let Some(last) = trace.accepted.checked_sub(1) {
            replay(&mut connection, &authorization, trace, last, &mut tally).await?;
        }
    }
    Ok((tally, traces))
}

/// Tells whether a person is there, with the token and its counter as far as both were answered.
async fn is_there(
    connection: &mut Connection,
    authorization: &str,
    trace: &Trace,
    tally: &mut Tally,
) -> Result<bool> {
    let path = format!("/v1/users/{}/factors", trace.id);
    let answer = connection.exchange(&request("GET", &path, authorization, None)).await?;
    if answer.status == 404 {
        return Ok(false);
    }
    ensure!(answer.status == 200, "list factors: {answer}");
    let factors: Value = serde_json::from_slice(answer.body)?;
    let factor = &factors["items"][0];
    if !trace.imported {
        return Ok(true);
    }
    let possible = trace.accepted..=trace.accepted + u64::from(trace.in_flight);
    if let Some(counter) = factor["counter"].as_u64()
        && !possible.contains(&counter)
    {
        tally.wrong.push(format!("the counter of {} is {counter}, not {possible:?}", trace.id));
    }
    Ok(factor["state"] == "active")
}

/// Sends a code again that was accepted.
async fn replay(
    connection: &mut Connection,
    authorization: &str,
    trace: &Trace,
    counter: u64,
    tally: &mut Tally,
) -> Result<()> {
    let code = estate::code(trace.number, counter);
    let ahead = trace.accepted..=trace.accepted + LOOK_AHEAD;
    if ahead.into_iter().any(|ahead| estate::code(trace.number, ahead) == code) {
        return Ok(());
    }
    let verdict = verify(connection, authorization, trace, counter).await?;
    let is_last = counter + 1 == trace.accepted && !trace.in_flight;
    if verdict == "accepted" {
        tally.accepted_again += 1;
    } else if is_last && verdict != "replayed" {
        tally.wrong.push(format!("the last code of {} again was {verdict}", trace.id));
    }
    Ok(())
}
