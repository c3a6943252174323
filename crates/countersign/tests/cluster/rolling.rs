//! An upgrade without downtime: behind a balancer, every node is stopped and started in turn, and nobody notices.

use crate::{
    balancer::Balancer,
    caller::Caller,
    history::Answer,
    keep,
    node::{NODES, Node, Upstream},
    people::{Kind, Person, set_policy},
    room::{Place, Room},
};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const PEOPLE: usize = 12;
/// More than anybody uses while three nodes are restarted.
const CODES: usize = 8_000;
/// How long a node goes on serving after SIGTERM while it says that it is not ready. The balancer needs two checks at most,
/// half a second apart.
const UNREADY: Duration = Duration::from_secs(2);
/// How long the balancer may take to notice that a node is back.
const NOTICE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_a_balancer_fails_no_request() {
    let room = Room::new(Place::Memory, &keep("rolling"));
    let postgres = Postgres::start();
    let mut nodes: Vec<Node> = (0..NODES).map(|number| node(&room, number, &postgres.url)).collect();
    let credentials = nodes[0].init();
    for node in &mut nodes {
        node.start();
        node.wait_until_ready().await;
    }
    let mut balancer = Balancer::start(&room, &nodes);
    tokio::time::sleep(NOTICE).await;
    let caller = Arc::new(Caller::new(&credentials, vec![balancer.address]));
    set_policy(&caller).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    let mut rng = StdRng::seed_from_u64(1);
    for number in 0..PEOPLE {
        let person = Person::create(&caller, number, Kind::Token, CODES, &mut rng).await;
        load.spawn(use_codes(person, Arc::clone(&caller), Arc::clone(&is_over)));
    }

    let begun = Instant::now();
    for node in &mut nodes {
        tokio::time::sleep(NOTICE).await;
        let status = node.terminate().await;
        assert!(status.success(), "node {} stopped with {status}", node.number);
        node.start();
        node.wait_until_ready().await;
    }
    tokio::time::sleep(NOTICE).await;
    is_over.store(true, SeqCst);
    let answers: Vec<Answer> = load.join_all().await.into_iter().flatten().collect();

    balancer.check();
    assert_eq!(balancer.retries(), 0, "nodes closed their doors before the balancer had turned away");
    print(answers.len(), begun.elapsed());
    assert!(answers.len() > 50 * PEOPLE, "there was no load: {} answers", answers.len());
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers.iter().filter(|answer| !answer.is_accepted()) {
        *failed.entry(format!("{answer:?}")).or_default() += 1;
    }
    assert!(failed.is_empty(), "of {} requests failed: {failed:?}", answers.len());
}

/// Uses one code after the other; returns all answers.
async fn use_codes(person: Person, caller: Arc<Caller>, is_over: Arc<AtomicBool>) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut place = 0;
    while let Some(counter) = person.next(place)
        && !is_over.load(SeqCst)
    {
        let code = person.code(counter).expect("the code of a place that has one");
        answers.push(caller.verify(0, &format!("{}-{counter}", person.name), &person.name, code, None).await);
        place = counter + 1;
    }
    answers
}

fn node(room: &Room, number: usize, url: &str) -> Node {
    let upstream = Upstream { url: url.to_owned(), is_synchronous: false, wires: Vec::new() };
    let mut node = Node::new(room, number, upstream);
    node.set("COUNTERSIGN__SERVER__UNREADY_SECONDS", &UNREADY.as_secs().to_string());
    node
}

#[expect(clippy::print_stdout, reason = "figures of a run")]
fn print(requests: usize, time: Duration) {
    println!("{requests} requests through the balancer in {time:.1?}, while every node was restarted");
}

/// A PostgreSQL of its own, which goes away with us: one is enough where nothing happens to it.
struct Postgres {
    url: String,
    script: Child,
}

impl Postgres {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/throwaway-postgres");
        let mut script = Command::new(script)
            .arg("--in-memory")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start scripts/throwaway-postgres");
        // To the last line it prints: nobody else reads them, and it must not be cut off.
        let lines = BufReader::new(script.stdout.take().expect("its output")).lines().map_while(Result::ok);
        let lines: Vec<String> = lines.take_while(|line| line != "ready").collect();
        let url = lines.iter().find_map(|line| line.strip_prefix("direct=")).map(str::to_owned);
        Self { url: url.expect("the address of a PostgreSQL"), script }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
