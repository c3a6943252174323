//! `kill -9` at random moments under load.
//!
//! What was answered before must hold after: no accepted code is acceptable again, no enrolment is missing, a retry gets
//! the first answer. This kills the process, not the machine; that a commit is on the disk is the store's own test.

use crate::{api::Api, installation::Installation, phone::hotp_codes};
use rand::{Rng, RngExt};
use rusqlite::Connection;
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use uuid::Uuid;

const ROUNDS: usize = 20;
/// How many people use their codes at the same time, each on a connection of their own.
const HOLDERS: usize = 6;
/// More codes than anybody gets to use.
const CODES: usize = 8_000;
/// How many of a round's last accepted codes are tried again after it.
const TRIED_AGAIN: usize = 8;
/// Failures before somebody is locked, less one.
const TRIES: usize = 4;
/// How long a start may take until the first request is served.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_holds_after_any_crash() {
    let installation = Installation::new();
    let api = |url: &str| Arc::new(Api::new(&installation, url));
    let server = installation.serve();
    let mut holders = Vec::new();
    for number in 0..HOLDERS {
        holders.push(Holder::new(&api(&server.url), number).await);
    }
    let mut newcomers = Newcomers::default();
    server.kill();

    for round in 0..ROUNDS {
        let start = Instant::now();
        let server = installation.serve();
        let api = api(&server.url);
        api.is_ready().await;
        assert!(start.elapsed() < AT_ONCE, "round {round}: ready after {:?}", start.elapsed());

        let mut load = JoinSet::new();
        for holder in holders.drain(..) {
            load.spawn(holder.go_on(Arc::clone(&api)));
        }
        let enrolling = tokio::spawn(newcomers.go_on(Arc::clone(&api)));
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(150..600))).await;
        server.kill();
        holders = load.join_all().await;
        newcomers = enrolling.await.expect("a round of enrolments");
    }

    assert!(holders.iter().all(|holder| holder.accepted.len() > ROUNDS), "there was no load");
    assert!(newcomers.answered.len() > ROUNDS, "there was no load");
    holds_to_the_end(&installation, holders, newcomers).await;
}

/// Tries everything once more on a server that nobody kills, then reads the trail.
async fn holds_to_the_end(installation: &Installation, holders: Vec<Holder>, newcomers: Newcomers) {
    let server = installation.serve();
    let api = Arc::new(Api::new(installation, &server.url));
    let mut trials = JoinSet::new();
    for mut holder in holders {
        let api = Arc::clone(&api);
        trials.spawn(async move {
            holder.retry(&api).await;
            holder.try_again(&api, holder.accepted.len()).await;
            holder
        });
    }
    let holders = trials.join_all().await;
    assert!(newcomers.are_there(&api, newcomers.answered.len()).await);
    server.kill();

    let verdict = installation.verify_audit();
    assert_eq!(verdict.status.code(), Some(0), "{verdict:?}");
    let database = Connection::open(installation.database()).expect("open");
    for holder in holders {
        let events: isize = database
            .query_row(
                "SELECT count(*) FROM audit WHERE action = 'verify.accepted' AND subject = ?1",
                [holder.id.as_bytes()],
                |row| row.get(0),
            )
            .expect("count");
        assert_eq!(
            events.unsigned_abs(),
            holder.accepted.len(),
            "one success, one event: {}",
            holder.username
        );
    }
}

/// Somebody with a counter-based token, who uses one code after the other.
struct Holder {
    id: Uuid,
    username: String,
    codes: Vec<String>,
    next: usize,
    /// The codes that were answered with "accepted".
    accepted: Vec<usize>,
    /// The code whose answer never came.
    unanswered: Option<usize>,
}

impl Holder {
    async fn new(api: &Api, number: usize) -> Self {
        let username = format!("holder-{number}");
        let mut seed = [0; 20];
        rand::rng().fill_bytes(&mut seed);
        let secret = data_encoding::BASE32.encode(&seed);
        let user = api.must_post("/v1/users", &json!({"username": username})).await;
        let token = json!({"type": "hotp", "secret": secret, "digits": 8});
        api.must_post(&format!("/v1/users/{username}/factors"), &token).await;
        let codes = tokio::task::spawn_blocking(move || hotp_codes(&secret, CODES)).await.expect("codes");
        let id = user["id"].as_str().and_then(|id| Uuid::try_parse(id).ok()).expect("an id");
        Self { id, username, codes, next: 0, accepted: Vec::new(), unanswered: None }
    }

    /// Checks what was answered before, then uses codes until there is no answer any more.
    async fn go_on(mut self, api: Arc<Api>) -> Self {
        if self.retry(&api).await && self.try_again(&api, TRIED_AGAIN).await {
            while self.use_code(&api).await {}
        }
        self
    }

    /// Sends the attempt without an answer again, under the same request id. Whether it was committed or not, it has to
    /// be accepted now. False if there was no answer.
    async fn retry(&mut self, api: &Api) -> bool {
        let Some(number) = self.unanswered else { return true };
        let Some(result) = self.verify(api, number, true).await else { return false };
        assert_eq!(result, "accepted", "{}: the retry of code {number}", self.username);
        self.accepted.push(number);
        self.unanswered = None;
        true
    }

    /// Tries the newest `count` accepted codes again. False if there was no answer.
    async fn try_again(&self, api: &Api, count: usize) -> bool {
        let oldest = self.accepted.len().saturating_sub(count);
        for numbers in self.accepted[oldest..].chunks(TRIES) {
            // First, because a crash may have come between earlier tries and their unlock.
            let unlock = format!("/v1/users/{}/unlock", self.username);
            if api.post(&unlock, &json!({})).await.is_none() {
                return false;
            }
            for &number in numbers {
                // By chance a later code may have the same digits, and that one would be good.
                if self.codes.iter().filter(|code| **code == self.codes[number]).count() > 1 {
                    continue;
                }
                let Some(result) = self.verify(api, number, false).await else { return false };
                assert!(
                    ["replayed", "rejected"].contains(&result.as_str()),
                    "{}: code {number} of {} is {result} after it was accepted",
                    self.username,
                    self.accepted.len(),
                );
            }
        }
        true
    }

    /// Uses the next code. False if there was no answer, or no code is left.
    async fn use_code(&mut self, api: &Api) -> bool {
        let number = self.next;
        if number == self.codes.len() {
            return false;
        }
        self.next += 1;
        self.unanswered = Some(number);
        let Some(result) = self.verify(api, number, true).await else { return false };
        assert_eq!(result, "accepted", "{}: code {number}", self.username);
        self.accepted.push(number);
        self.unanswered = None;
        true
    }

    async fn verify(&self, api: &Api, number: usize, is_named: bool) -> Option<String> {
        let mut body = json!({"user": self.username, "code": self.codes[number]});
        if is_named {
            body["requestId"] = format!("code-{number}").into();
        }
        let (status, answer) = api.post("/v1/verify", &body).await?;
        assert_eq!(status, 200, "{answer}");
        Some(answer["result"].as_str().expect("a result").to_owned())
    }
}

/// People who are created and enrolled while the server dies.
#[derive(Default)]
struct Newcomers {
    asked: usize,
    /// The paths of factors whose enrolment was answered.
    answered: Vec<String>,
}

impl Newcomers {
    async fn go_on(mut self, api: Arc<Api>) -> Self {
        if self.are_there(&api, 20).await {
            while self.enrol(&api).await.is_some() {}
        }
        self
    }

    /// Makes sure that the newest `count` enrolments are still there. False if there was no answer.
    async fn are_there(&self, api: &Api, count: usize) -> bool {
        for path in self.answered.iter().rev().take(count) {
            let Some(status) = api.status(path).await else { return false };
            assert_eq!(status, 200, "{path} was answered and is missing");
        }
        true
    }

    async fn enrol(&mut self, api: &Api) -> Option<()> {
        let username = format!("newcomer-{}", self.asked);
        self.asked += 1;
        let (status, user) = api.post("/v1/users", &json!({"username": username})).await?;
        assert_eq!(status, 201, "{user}");
        let factors = format!("/v1/users/{username}/factors");
        let (status, factor) = api.post(&factors, &json!({"type": "totp"})).await?;
        assert_eq!(status, 201, "{factor}");
        self.answered.push(format!("{factors}/{}", factor["id"].as_str().expect("an id")));
        Some(())
    }
}
