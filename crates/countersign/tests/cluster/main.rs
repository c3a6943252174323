//! The proof that a cluster never accepts a code twice, with the real programs: three nodes on three PostgreSQL under
//! Patroni with etcd.
//!
//! People use their codes, use them again and guess, through all nodes at once, while nodes and databases are killed, frozen
//! and cut from each other. Every answer is taken down. When all is well again, a checker compares what was answered with
//! what the audit trail says.
//!
//! The environment says what kind of run it is: `COUNTERSIGN_CLUSTER_SECONDS` makes it a long one with all faults,
//! `COUNTERSIGN_CLUSTER_SEED` repeats one's decisions, `COUNTERSIGN_CLUSTER_FAULT` names the only fault, as [`Fault`] does.
//! `scripts/cluster-test` is the way to run it. History, trail and report are left below `target/tmp/cluster`.

mod balancer;
mod caller;
mod checker;
mod database;
mod etcd;
mod faults;
mod history;
mod load;
mod network;
mod node;
mod people;
mod report;
mod rolling;
mod room;
mod site;
mod trail;

use crate::{
    checker::{Rule, Violation, check},
    database::Replication,
    faults::Fault,
    history::Shown,
    load::{Desk, Load},
    people::{Kind, Person},
    report::Report,
    room::{Place, Room},
    site::Site,
    trail::Trail,
};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How many people there are: with a token, and with an app.
const PEOPLE: (usize, usize) = (24, 6);
/// How long each rests between two attempts, on average.
const REST: Duration = Duration::from_millis(80);
/// How long people work before the first fault.
const WARM_UP: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_code_is_accepted_twice_whatever_fails() {
    let plan = match number_of("COUNTERSIGN_CLUSTER_SECONDS") {
        None => Plan::new("short", Replication::Strict, &faults::FEW, 0),
        Some(seconds) => Plan::new("long", Replication::Strict, &only_or(faults::ALL), seconds),
    };

    let (violations, audit) = plan.run().await;

    assert!(violations.is_empty(), "{} promises were broken", violations.len());
    assert!(audit.is_ok(), "{audit:?}");
}

/// A checker that finds nothing proves something only if it finds what is there. Without synchronous replication a
/// fail-over forgets answers, and codes of tokens are good again; those of apps are not, because their steps are burnt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "loses data on purpose: scripts/cluster-test --weakened"]
async fn the_checker_finds_what_asynchronous_replication_forgets() {
    let plan = Plan::new("weakened", Replication::Asynchronous, &faults::LOSSES, 0);

    let (violations, _) = plan.run().await;

    let breaks = |rule: Rule| violations.iter().filter(move |violation| violation.rule == rule);
    assert!(breaks(Rule::AnswerLost).count() > 0, "no answer was forgotten");
    assert!(breaks(Rule::AcceptedTwice).count() > 0, "no code was accepted twice");
    let is_of_app = |violation: &&Violation| matches!(violation.shown, Shown::Step(_));
    assert_eq!(breaks(Rule::AcceptedTwice).filter(is_of_app).count(), 0, "a burnt step was accepted");
}

/// What a run does.
struct Plan {
    name: &'static str,
    replication: Replication,
    deck: Vec<Fault>,
    seconds: u64,
    seed: u64,
}

impl Plan {
    fn new(name: &'static str, replication: Replication, deck: &[Fault], seconds: u64) -> Self {
        let by_the_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
        let seed = number_of("COUNTERSIGN_CLUSTER_SEED").unwrap_or_else(by_the_clock);
        Self { name, replication, deck: deck.to_vec(), seconds, seed }
    }

    /// Runs it; returns what the checker found and what `audit verify` said.
    async fn run(&self) -> (Vec<Violation>, Result<String, String>) {
        let keep = keep(self.name);
        let place = if self.seconds > 0 { Place::Disk } else { Place::Memory };
        let room = Room::new(place, &keep);
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut site = Site::start(&room, self.replication).await;
        let people = self.people(&site, &mut rng).await;
        let desk = Desk::new(site.caller(), &people);

        let load = Load::start(&desk, people, REST, self.seed);
        tokio::time::sleep(WARM_UP).await;
        let time = Duration::from_secs(self.seconds);
        faults::strike(&self.deck, &mut site, &desk.recorder, &mut rng, time).await;
        load.end().await;

        let trail = Trail::read(&desk.caller, &keep.join("trail.ndjson")).await;
        let audit = site.nodes[0].verify_audit();
        let desk = Arc::into_inner(desk).expect("nobody works any more");
        let history = desk.recorder.end();
        history.write(&keep.join("history.ndjson")).expect("keep the history");
        let violations = check(&history, &trail);
        let title = format!("{} run, {:?} replication, seed {}", self.name, self.replication, self.seed);
        let report =
            Report { title, history: &history, events: trail.len(), audit: &audit, violations: &violations };
        print(&report, &keep);
        (violations, audit)
    }

    async fn people(&self, site: &Site, rng: &mut StdRng) -> Vec<Person> {
        let caller = site.caller();
        people::set_policy(&caller).await;
        let (tokens, apps) = PEOPLE;
        // More codes than anybody gets to use, also if a run takes far longer than it was given.
        let codes = 20 * usize::try_from(self.seconds).unwrap_or(0) + 2500;
        let mut people = Vec::new();
        for number in 0..tokens + apps {
            let kind = if number < tokens { Kind::Token } else { Kind::App };
            people.push(Person::create(&caller, number, kind, codes, rng).await);
        }
        people
    }
}

/// Returns the only fault that is wanted, if one is, else all of them.
fn only_or(all: [Fault; 13]) -> Vec<Fault> {
    let Ok(name) = std::env::var("COUNTERSIGN_CLUSTER_FAULT") else { return all.to_vec() };
    let wanted = all.into_iter().find(|fault| format!("{fault:?}") == name);
    vec![wanted.unwrap_or_else(|| panic!("COUNTERSIGN_CLUSTER_FAULT is none of {all:?}: {name}"))]
}

fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}")))
}

/// Makes an empty folder for what is left of a run.
fn keep(name: &str) -> PathBuf {
    let keep = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster").join(name);
    let _ = fs::remove_dir_all(&keep);
    fs::create_dir_all(&keep).expect("make a folder for what is left");
    keep
}

#[expect(clippy::print_stdout, reason = "the report is what a run is for")]
fn print(report: &Report<'_>, keep: &Path) {
    println!("{report}\nhistory, trail and logs: {}", keep.display());
    fs::write(keep.join("report.md"), report.to_string()).expect("keep the report");
}
