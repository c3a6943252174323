//! What was asked and what was answered, call by call, with times: all that the checker knows about the nodes.

use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

/// The code somebody showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shown {
    /// Their own, of this counter.
    Counter(u64),
    /// Their own, of this time step.
    Step(u64),
    /// One that is not theirs.
    Wrong,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter(counter) => write!(f, "the code of counter {counter}"),
            Self::Step(step) => write!(f, "the code of time step {step}"),
            Self::Wrong => f.write_str("a wrong code"),
        }
    }
}

/// Why a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// To use a code that was never accepted as far as its owner knows.
    Use,
    /// To use a code a second time: it was accepted before.
    Replay,
    /// To guess.
    Guess,
    /// To use, after everything, a code a second time that was accepted at any time.
    LastReplay,
}

/// What the caller got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Status 200: the code was judged.
    Verdict {
        /// `accepted`, `rejected`, `replayed`, `locked` …
        result: String,
        /// How many failures are left, where the verdict says so.
        attempts_left: Option<u32>,
    },
    /// Status 503: nothing is known, try again.
    Unavailable {
        /// Whether it was said when.
        retry_after: bool,
    },
    /// What nobody should ever get.
    Odd {
        /// The status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// No answer: refused, cut off, or given up.
    Nothing {
        /// What the client said.
        error: &'static str,
    },
}

impl Answer {
    /// Returns the result of a verdict.
    pub(crate) fn result(&self) -> Option<&str> {
        match self {
            Self::Verdict { result, .. } => Some(result),
            _ => None,
        }
    }

    /// Tells whether it says that the code proved somebody.
    pub(crate) fn is_accepted(&self) -> bool {
        self.result() == Some("accepted")
    }

    /// Returns one word for it, to count by.
    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Verdict { result, .. } => result,
            Self::Unavailable { .. } => "unavailable",
            Self::Odd { .. } => "odd",
            Self::Nothing { error } => error,
        }
    }
}

/// One request and what came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Call {
    /// Its number, from 0; the request's `X-Request-Id`, and so the event's `requestId`, is made of it.
    pub(crate) number: usize,
    /// Who, as a place in the list of people.
    pub(crate) person: usize,
    /// What code.
    pub(crate) shown: Shown,
    /// As it was sent.
    pub(crate) code: String,
    /// What for.
    pub(crate) purpose: Purpose,
    /// The attempt it belongs to, which is the `requestId` if it has one. Calls of one attempt are one attempt.
    pub(crate) attempt: usize,
    /// Whether the attempt's number was sent as `requestId`.
    pub(crate) is_named: bool,
    /// Through which node.
    pub(crate) node: usize,
    /// When it was sent, in seconds since the beginning.
    pub(crate) sent: f64,
    /// When it was answered or given up.
    pub(crate) answered: f64,
    /// What came back.
    pub(crate) answer: Answer,
}

/// Returns the name under which a call is found in the trail and in the nodes' logs.
pub(crate) fn name_of_call(number: usize) -> String {
    format!("call-{number}")
}

/// Returns the `requestId` of an attempt.
pub(crate) fn name_of_attempt(number: usize) -> String {
    format!("attempt-{number}")
}

/// Something that was done to the cluster.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Disturbance {
    /// What, in words.
    pub(crate) what: String,
    /// When it began, in seconds since the beginning.
    pub(crate) begun: f64,
    /// When it was over, as far as it was ours to end.
    pub(crate) ended: f64,
    /// When everything was as before: a primary, all replicas, all nodes ready.
    pub(crate) whole: f64,
}

/// Everything, in the order in which it ended.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The names of the people.
    pub(crate) people: Vec<String>,
    /// What was asked and answered.
    pub(crate) calls: Vec<Call>,
    /// What was done to the cluster meanwhile.
    pub(crate) disturbances: Vec<Disturbance>,
}

impl History {
    /// Returns the calls of each attempt.
    pub(crate) fn attempts(&self) -> BTreeMap<usize, Vec<&Call>> {
        let mut attempts: BTreeMap<usize, Vec<&Call>> = BTreeMap::new();
        for call in &self.calls {
            attempts.entry(call.attempt).or_default().push(call);
        }
        attempts
    }

    /// Writes one line for each call and each disturbance.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for disturbance in &self.disturbances {
            serde_json::to_writer(&mut file, disturbance)?;
            file.write_all(b"\n")?;
        }
        for call in &self.calls {
            serde_json::to_writer(&mut file, call)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }
}

/// Takes down the history while it happens.
pub(crate) struct Recorder {
    begun: Instant,
    history: Mutex<History>,
    numbers: AtomicUsize,
}

impl Recorder {
    /// Begins a history of some people.
    pub(crate) fn new(people: Vec<String>) -> Self {
        let history = History { people, ..History::default() };
        Self { begun: Instant::now(), history: Mutex::new(history), numbers: AtomicUsize::new(0) }
    }

    /// Returns the seconds since the beginning.
    pub(crate) fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Returns a number nobody has, for a call or an attempt.
    pub(crate) fn number(&self) -> usize {
        self.numbers.fetch_add(1, Relaxed)
    }

    /// Takes down a call.
    pub(crate) fn call(&self, call: Call) {
        self.history.lock().expect("nobody panics with the history").calls.push(call);
    }

    /// Takes down a disturbance.
    pub(crate) fn disturbance(&self, disturbance: Disturbance) {
        self.history.lock().expect("nobody panics with the history").disturbances.push(disturbance);
    }

    /// Ends the history.
    pub(crate) fn end(self) -> History {
        self.history.into_inner().expect("nobody panics with the history")
    }
}
