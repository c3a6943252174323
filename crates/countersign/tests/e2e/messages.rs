//! `kill -9` while messages are being sent.
//!
//! A code that was answered is on its way: it arrives, or its delivery says why not. It arrives twice only where a kill
//! fell between handing it over and noting that, and the delivery counts those.

use crate::{
    api::Api,
    installation::{Installation, Running},
};
use rand::RngExt;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const ROUNDS: usize = 6;
/// How many people ask at the same time.
const ASKERS: usize = 8;
/// How long after the last kill every message must have found its end.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_was_answered_arrives_or_says_why_not() {
    let installation = Installation::new();
    let mailbox = installation.beside("messages.jsonl");
    let mut answered = BTreeSet::new();
    for round in 0..ROUNDS {
        let server = serve(&installation, &mailbox);
        let api = Arc::new(Api::new(&installation, &server.url));
        let policy = json!({ "resend": { "pauseSeconds": 0, "perHour": 20 } });
        api.must_patch("/v1/organisations/self/policy", &policy).await;
        let (mut askers, count) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for asker in 0..ASKERS {
            askers.spawn(ask(Arc::clone(&api), format!("asker-{round}-{asker}"), Arc::clone(&count)));
        }
        let begun = Instant::now();
        while count.load(SeqCst) < 2 * ASKERS {
            assert!(begun.elapsed() < PATIENCE, "there is no load");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..50))).await;
        server.kill();
        answered.extend(askers.join_all().await.into_iter().flatten());
    }

    let server = serve(&installation, &mailbox);
    let api = Api::new(&installation, &server.url);
    let mut arrived: BTreeMap<String, u64> = BTreeMap::new();
    let begun = Instant::now();
    for id in &answered {
        let delivery = loop {
            let delivery = api.must_get(&format!("/v1/deliveries/{id}")).await;
            if delivery["state"] != "queued" {
                break delivery;
            }
            assert!(begun.elapsed() < PATIENCE, "{delivery}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        arrived = arrivals(&mailbox);
        let times = arrived.get(id).copied().unwrap_or(0);
        let interrupted = delivery["interrupted"].as_u64().unwrap_or(0);
        assert!(delivery["state"] != "sent" || times > 0, "said to be sent, and nowhere: {delivery}");
        assert!(times <= 1 + interrupted, "{times} arrivals: {delivery}");
    }
    let sent = answered.iter().filter(|id| arrived.contains_key(*id)).count();
    assert_eq!(sent, answered.len(), "nobody refused anything here");
    server.kill();
    assert_eq!(installation.verify_audit().status.code(), Some(0));
}

/// Serves with a file as the provider of text messages.
fn serve(installation: &Installation, mailbox: &Path) -> Running {
    let provider = format!("[{{ type = 'file', name = 'mailbox', path = '{}' }}]", mailbox.display());
    let mut command = installation.command(["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("COUNTERSIGN__SERVER__ENVIRONMENT", "development")
        .env("COUNTERSIGN__DELIVERY__SMS", provider);
    Running::start(command)
}

/// Has one person after the other enrol a number until the server is gone; returns the messages that were answered.
async fn ask(api: Arc<Api>, name: String, count: Arc<AtomicUsize>) -> Vec<String> {
    let mut answered = Vec::new();
    for number in 0.. {
        let user = format!("{name}-{number}");
        let phone = format!("+49151{:08}", rand::rng().random_range(10_000_000..99_999_999));
        let Some((201, _)) = api.post("/v1/users", &json!({ "username": user })).await else { break };
        let body = json!({ "type": "sms", "destination": phone });
        let enrolled = api.post(&format!("/v1/users/{user}/factors"), &body).await;
        let Some((201, enrolled)) = enrolled else { break };
        answered.push(enrolled["challenge"]["delivery"].as_str().expect("a delivery").to_owned());
        count.fetch_add(1, SeqCst);
    }
    answered
}

/// Returns how often each message arrived. A line that a kill cut short is no message.
fn arrivals(mailbox: &Path) -> BTreeMap<String, u64> {
    let mut arrivals = BTreeMap::new();
    for line in fs::read_to_string(mailbox).unwrap_or_default().lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        *arrivals.entry(message["id"].as_str().expect("an id").to_owned()).or_default() += 1;
    }
    arrivals
}
