//! The people: who they are, and the codes their tokens and apps show.

use crate::{caller::Caller, history::Shown, room::unusable};
use rand::{Rng, RngExt};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

/// Failures in a row that lock somebody: as many as a policy may allow, because everybody here guesses all the time.
pub(crate) const THRESHOLD: u32 = 100;
/// How far ahead of the counter a code of a token may be: as far as a policy may allow. If a fail-over set a counter back, the
/// codes between are good again, and somebody here will find out.
const LOOK_AHEAD: u8 = 50;
/// The time step of apps: the shortest there is, so that a code is good often.
const STEP_SECONDS: u64 = 15;
/// Eight digits, so that two codes of one secret are hardly ever the same.
const DIGITS: usize = 8;

/// What proves somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A token that counts: each code is good once, whenever.
    Token,
    /// An app that goes by the clock.
    App,
}

/// Somebody with one factor.
pub(crate) struct Person {
    /// The place in the list of people.
    pub(crate) number: usize,
    /// Their username.
    pub(crate) name: String,
    /// Their id.
    pub(crate) id: String,
    /// What proves them.
    pub(crate) kind: Kind,
    codes: Codes,
}

/// The codes of one secret, by counter or time step. Codes that two of them share are left out: which of the two was
/// meant could not be told.
struct Codes {
    by_place: BTreeMap<u64, String>,
    all: BTreeSet<String>,
}

/// Sets the rules that a load like ours needs.
pub(crate) async fn set_policy(caller: &Caller) {
    let policy = json!({ "locks": { "threshold": THRESHOLD }, "hotp": { "lookAhead": LOOK_AHEAD } });
    caller.patch("/v1/organisations/self/policy", &policy).await;
}

impl Person {
    /// Creates somebody with a factor whose secret is known to us, and the codes of the next `seconds`; at least as many
    /// codes of a token.
    pub(crate) async fn create(
        caller: &Caller,
        number: usize,
        kind: Kind,
        codes: usize,
        rng: &mut impl Rng,
    ) -> Self {
        let name = format!("{}-{number:02}", if kind == Kind::Token { "token" } else { "app" });
        let mut seed = [0; 20];
        rng.fill_bytes(&mut seed);
        let secret = data_encoding::BASE32.encode(&seed);
        let user = caller.post("/v1/users", &json!({ "username": name })).await;
        let factor = match kind {
            Kind::Token => json!({ "type": "hotp", "secret": secret, "digits": DIGITS, "counter": 0 }),
            Kind::App => {
                json!({ "type": "totp", "secret": secret, "digits": DIGITS, "period": STEP_SECONDS })
            }
        };
        caller.post(&format!("/v1/users/{name}/factors"), &factor).await;
        let codes = match kind {
            Kind::Token => Codes::of_token(&secret, codes),
            Kind::App => Codes::of_app(&secret, codes),
        };
        let id = user["id"].as_str().expect("an id").to_owned();
        Self { number, name, id, kind, codes }
    }

    /// Returns the code the factor shows at a counter or in a time step, unless it is left out.
    pub(crate) fn code(&self, place: u64) -> Option<&str> {
        self.codes.by_place.get(&place).map(String::as_str)
    }

    /// Returns the first counter from `place` on that has a code.
    pub(crate) fn next(&self, place: u64) -> Option<u64> {
        self.codes.by_place.range(place..).next().map(|(&place, _)| place)
    }

    /// Returns a code that is none of theirs.
    pub(crate) fn wrong_code(&self, rng: &mut impl Rng) -> String {
        loop {
            let code = format!("{:0DIGITS$}", rng.random_range(0..10_u32.pow(DIGITS as u32)));
            if !self.codes.all.contains(&code) {
                return code;
            }
        }
    }

    /// Returns what a place is called in the history.
    pub(crate) const fn shown(&self, place: u64) -> Shown {
        match self.kind {
            Kind::Token => Shown::Counter(place),
            Kind::App => Shown::Step(place),
        }
    }
}

/// Returns the time step of this moment.
pub(crate) fn step() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs() / STEP_SECONDS
}

impl Codes {
    fn of_token(secret: &str, count: usize) -> Self {
        Self::printed(&["--hotp", "--counter=0"], secret, 0, count)
    }

    fn of_app(secret: &str, count: usize) -> Self {
        // A few steps back, for a clock that moves while we look at it.
        let first = step() - 4;
        let now = format!("--now=@{}", first * STEP_SECONDS);
        let size = format!("--time-step-size={STEP_SECONDS}s");
        Self::printed(&["--totp", &now, &size], secret, first, count)
    }

    /// Has somebody else's program compute the codes, so that ours is not asked to check itself.
    fn printed(arguments: &[&str], secret: &str, first: u64, count: usize) -> Self {
        let output = Command::new("oathtool")
            .args(arguments)
            .args(["--base32", &format!("--digits={DIGITS}"), &format!("--window={}", count - 1), secret])
            .output()
            .unwrap_or_else(|error| unusable("oathtool", &error));
        assert!(output.status.success(), "oathtool: {}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).expect("digits");
        let mut places: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (place, code) in (first..).zip(printed.lines()) {
            places.entry(code).or_default().push(place);
        }
        let is_clear =
            |(code, places): (&&str, &Vec<u64>)| (places.len() == 1).then(|| (places[0], (*code).to_owned()));
        Self {
            by_place: places.iter().filter_map(is_clear).collect(),
            all: places.keys().map(|code| (*code).to_owned()).collect(),
        }
    }
}
