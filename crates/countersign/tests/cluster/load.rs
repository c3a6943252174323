//! People who use their codes, use them again, and guess, through all nodes at once, whatever happens meanwhile.

use crate::{
    caller::Caller,
    history::{Answer, Call, Purpose, Recorder, Shown, name_of_attempt, name_of_call},
    people::{Kind, Person, step},
};
use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::task::JoinSet;

/// Failures after which somebody stops guessing until a code of theirs was accepted again. Far from what locks, because
/// some of those that were not answered may have been counted.
const FAILURES: usize = 40;
/// How many of the codes accepted last are used again.
const REPLAYED: usize = 6;
/// How often a code is sent once everything is well again: an answer should come at once.
const LAST_TRIES: usize = 20;
/// How many people stay at each node.
const STAYING: usize = 2;
/// How many of everybody's codes are used again at the end, through each node.
const LAST_REPLAYED: usize = 10;

/// What all people share.
pub(crate) struct Desk {
    /// Calls the nodes.
    pub(crate) caller: Caller,
    /// Takes down what happens.
    pub(crate) recorder: Recorder,
    is_closing: AtomicBool,
}

/// People at work.
pub(crate) struct Load {
    desk: Arc<Desk>,
    people: JoinSet<Holder>,
}

/// Somebody at work.
struct Holder {
    desk: Arc<Desk>,
    person: Person,
    rng: StdRng,
    /// The counter or time step from which on codes were never shown, as far as it is known what became of them.
    next: u64,
    /// Places of codes that were answered as accepted, oldest first.
    accepted: Vec<u64>,
    /// The only node they use, if they stay at one: somebody gets answers while others wait for a node that gives none.
    home: Option<usize>,
    /// Attempts that may have been counted as failures since.
    failures: usize,
    /// How long they rest between two attempts.
    rest: Duration,
}

/// How a code is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Once. Without an answer, it is typed again.
    Plain,
    /// With a request id. Without an answer, the same attempt is sent again, perhaps through another node.
    Named,
    /// Through two nodes at the same time, as two attempts.
    Twice,
    /// Through two nodes at the same time, as one attempt with a request id.
    NamedTwice,
}

impl Way {
    const fn is_named(self) -> bool {
        matches!(self, Self::Named | Self::NamedTwice)
    }
}

/// A code on its way.
struct Sent {
    shown: Shown,
    code: String,
    purpose: Purpose,
}

impl Desk {
    /// Opens it.
    pub(crate) fn new(caller: Caller, people: &[Person]) -> Arc<Self> {
        let recorder = Recorder::new(people.iter().map(|person| person.name.clone()).collect());
        Arc::new(Self { caller, recorder, is_closing: AtomicBool::new(false) })
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(SeqCst)
    }

    /// Makes a call and takes it down.
    async fn call(
        &self,
        person: &Person,
        sent: &Sent,
        attempt: usize,
        is_named: bool,
        node: usize,
    ) -> Answer {
        let (number, begun) = (self.recorder.number(), self.recorder.now());
        let request = is_named.then(|| name_of_attempt(attempt));
        let answer = self
            .caller
            .verify(node, &name_of_call(number), &person.name, &sent.code, request.as_deref())
            .await;
        self.recorder.call(Call {
            number,
            person: person.number,
            shown: sent.shown,
            code: sent.code.to_owned(),
            purpose: sent.purpose,
            attempt,
            is_named,
            node,
            sent: begun,
            answered: self.recorder.now(),
            answer: answer.clone(),
        });
        answer
    }
}

impl Load {
    /// Puts people to work.
    pub(crate) fn start(desk: &Arc<Desk>, people: Vec<Person>, rest: Duration, seed: u64) -> Self {
        let mut working = JoinSet::new();
        for person in people {
            let rng = StdRng::seed_from_u64(seed.wrapping_add(person.number as u64));
            let (number, nodes) = (person.number, desk.caller.addresses());
            let holder = Holder {
                desk: Arc::clone(desk),
                person,
                rng,
                next: 0,
                accepted: Vec::new(),
                home: (number < STAYING * nodes).then_some(number % nodes),
                failures: 0,
                rest,
            };
            working.spawn(holder.work());
        }
        Self { desk: Arc::clone(desk), people: working }
    }

    /// Lets everybody finish what they began; then everybody uses codes again that were accepted at any time, through each
    /// node. The nodes must be well again.
    pub(crate) async fn end(self) {
        self.desk.is_closing.store(true, SeqCst);
        let mut replaying = JoinSet::new();
        for holder in self.people.join_all().await {
            replaying.spawn(holder.replay_to_the_end());
        }
        replaying.join_all().await;
    }
}

impl Holder {
    async fn work(mut self) -> Self {
        while !self.desk.is_closing() {
            match self.rng.random_range(0..10) {
                _ if self.failures > FAILURES => self.use_code().await,
                0..6 => self.use_code().await,
                6..8 => self.replay().await,
                _ => self.guess().await,
            }
            let rest = self.rest.mul_f64(self.rng.random_range(0.5..1.5));
            tokio::time::sleep(rest).await;
        }
        self
    }

    /// Uses the next code, until it is known what became of it.
    async fn use_code(&mut self) {
        let place = match self.person.kind {
            Kind::Token => self.person.next(self.next),
            // What the app shows now, unless that was used already.
            Kind::App => Some(step()).filter(|&place| place >= self.next),
        };
        let Some((place, sent)) = place.and_then(|place| Some((place, self.sent(place, Purpose::Use)?)))
        else {
            return;
        };
        let (kind, desk) = (self.person.kind, Arc::clone(&self.desk));
        let is_worth_it = |tries| match kind {
            Kind::Token => !desk.is_closing() || tries < LAST_TRIES,
            Kind::App => step() <= place + 1,
        };
        let way = self.way();
        if self.insist(&sent, way, is_worth_it).await {
            self.accepted.push(place);
            self.failures = 0;
        }
        // What was judged and not accepted was used by an attempt whose answer was lost. The checker will know.
        self.next = place + 1;
    }

    /// Uses a code again that was accepted a while ago.
    async fn replay(&mut self) {
        let recent = self.accepted.len().saturating_sub(REPLAYED)..self.accepted.len();
        if recent.is_empty() {
            return;
        }
        let place = self.accepted[self.rng.random_range(recent)];
        let Some(sent) = self.sent(place, Purpose::Replay) else { return };
        self.fail(&sent).await;
    }

    /// Tries a code that is none of theirs.
    async fn guess(&mut self) {
        let code = self.person.wrong_code(&mut self.rng);
        self.fail(&Sent { shown: Shown::Wrong, code, purpose: Purpose::Guess }).await;
    }

    /// Sends what has to be refused. Only with a request id is it sent again until it is judged: else each of the attempts
    /// might be counted, and enough of them lock.
    async fn fail(&mut self, sent: &Sent) {
        let way = self.way();
        self.failures += if way == Way::Twice { 2 } else { 1 };
        let desk = Arc::clone(&self.desk);
        self.insist(sent, way, |_| way.is_named() && !desk.is_closing()).await;
    }

    /// Sends a code until it is judged or no longer worth it; tells whether an answer says that it was accepted.
    async fn insist(&mut self, sent: &Sent, way: Way, is_worth_it: impl Fn(usize) -> bool) -> bool {
        let (mut attempt, mut tries) = (self.desk.recorder.number(), 0);
        loop {
            tries += 1;
            let answers = self.send(sent, way, attempt).await;
            let is_judged = answers.iter().any(|answer| answer.result().is_some());
            if is_judged || !is_worth_it(tries) {
                return answers.iter().any(Answer::is_accepted);
            }
            let rest = Duration::from_millis(self.rng.random_range(100..500));
            tokio::time::sleep(rest).await;
            if !way.is_named() {
                attempt = self.desk.recorder.number();
            }
        }
    }

    /// Sends a code through one node, or through two at the same time.
    async fn send(&mut self, sent: &Sent, way: Way, attempt: usize) -> Vec<Answer> {
        let nodes = self.desk.caller.addresses();
        let first = self.home.unwrap_or_else(|| self.rng.random_range(0..nodes));
        let other = (first + self.rng.random_range(1..nodes)) % nodes;
        let calls = match way {
            Way::Plain | Way::Named => vec![(attempt, first)],
            Way::Twice => vec![(attempt, first), (self.desk.recorder.number(), other)],
            Way::NamedTwice => vec![(attempt, first), (attempt, other)],
        };
        let call = |(attempt, node)| self.desk.call(&self.person, sent, attempt, way.is_named(), node);
        join_all(calls.into_iter().map(call)).await
    }

    fn way(&mut self) -> Way {
        match self.rng.random_range(0..10) {
            0..4 => Way::Named,
            4..7 => Way::Plain,
            _ if self.home.is_some() => Way::Plain,
            7..9 => Way::Twice,
            _ => Way::NamedTwice,
        }
    }

    fn sent(&self, place: u64, purpose: Purpose) -> Option<Sent> {
        let code = self.person.code(place)?.to_owned();
        Some(Sent { shown: self.person.shown(place), code, purpose })
    }

    /// Uses codes again that were accepted, the newest first, through every node.
    async fn replay_to_the_end(self) {
        // What is locked is refused without being looked at, which would prove nothing.
        let unlock = format!("/v1/users/{}/unlock", self.person.id);
        self.desk.caller.post(&unlock, &json!({})).await;
        for &place in self.accepted.iter().rev().take(LAST_REPLAYED) {
            let Some(sent) = self.sent(place, Purpose::LastReplay) else { continue };
            for node in 0..self.desk.caller.addresses() {
                self.desk.call(&self.person, &sent, self.desk.recorder.number(), false, node).await;
            }
        }
    }
}
