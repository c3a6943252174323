//! What is done to the cluster while people use it.

use crate::{
    history::{Disturbance, Recorder},
    network::Flow,
    site::Site,
};
use rand::{RngExt, rngs::StdRng, seq::SliceRandom};
use std::time::Duration;

/// How long a machine that leads may be silent before another one takes over: `ttl` of the configuration that ships.
const TTL: Duration = Duration::from_secs(20);
/// How long a fail-over may take once it is due, on a machine under load.
const TAKE_OVER: Duration = Duration::from_secs(60);
/// How long Patroni may take to notice that something happened: before, it says that all is well.
const NOTICE: Duration = Duration::from_secs(4);
/// How long the load runs undisturbed between two faults.
const CALM: Duration = Duration::from_secs(2);

/// A kind of fault. Whom it strikes is drawn when it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of a node.
    NodeKilled,
    /// `kill -9` of the primary's PostgreSQL.
    PrimaryKilled,
    /// `kill -9` of everything on the primary's machine, which comes back when another one leads.
    PrimaryLosesPower,
    /// SIGSTOP of everything on the primary's machine, for longer than its lead lasts; then SIGCONT.
    PrimaryFrozen,
    /// A node cannot reach any database; the network swallows what it sends, and delivers it late.
    NodeCut,
    /// A node cannot reach any database; the network says so.
    NodeRefused,
    /// The primary leads, but no replica can reach it.
    ReplicasCut,
    /// The primary is cut from its replicas and from etcd, while every node still reaches it.
    PrimaryIsolated,
    /// The primary is cut from etcd alone.
    PrimaryCutFromEtcd,
    /// `kill -9` of etcd, which comes back a moment later.
    EtcdRestarted,
    /// The wall clock of a node jumps by hours, and back.
    ClockJumps,
    /// Every node is stopped and started in turn.
    NodesRolled,
    /// `kill -9` of a node and of the primary's PostgreSQL at the same time.
    NodeAndPrimaryKilled,
    /// No replica can reach the primary for a while; then its machine loses power, and with it all that was on its way.
    PrimaryLosesPowerAhead,
}

/// What the long run does, each before any is done a second time.
pub(crate) const ALL: [Fault; 13] = [
    Fault::NodeKilled,
    Fault::PrimaryKilled,
    Fault::PrimaryLosesPower,
    Fault::PrimaryFrozen,
    Fault::NodeCut,
    Fault::NodeRefused,
    Fault::ReplicasCut,
    Fault::PrimaryIsolated,
    Fault::PrimaryCutFromEtcd,
    Fault::EtcdRestarted,
    Fault::ClockJumps,
    Fault::NodesRolled,
    Fault::NodeAndPrimaryKilled,
];
/// What the short run does.
pub(crate) const FEW: [Fault; 3] = [Fault::NodeKilled, Fault::PrimaryKilled, Fault::PrimaryFrozen];
/// What loses answers where replication is asynchronous.
pub(crate) const LOSSES: [Fault; 2] = [Fault::PrimaryLosesPowerAhead; 2];

/// Does everything in a deck once, in an order that is drawn, and then again as long as there is time.
pub(crate) async fn strike(
    deck: &[Fault],
    site: &mut Site,
    recorder: &Recorder,
    rng: &mut StdRng,
    time: Duration,
) {
    let end = recorder.now() + time.as_secs_f64();
    let mut left = deck.to_vec();
    left.shuffle(rng);
    while let Some(fault) = left.pop() {
        tokio::time::sleep(CALM).await;
        let begun = recorder.now();
        let what = fault.strike(site, rng).await;
        let ended = recorder.now();
        tokio::time::sleep(NOTICE).await;
        site.wait_until_whole().await;
        let whole = recorder.now();
        say(&format!(
            "{begun:7.1} s: {what}; over after {:.1} s, whole after {:.1} s",
            ended - begun,
            whole - begun
        ));
        recorder.disturbance(Disturbance { what, begun, ended, whole });
        if left.is_empty() && whole < end {
            left = deck.to_vec();
            left.shuffle(rng);
        }
    }
    tokio::time::sleep(CALM).await;
}

#[expect(clippy::print_stderr, reason = "whoever waits for a run of ten minutes wants to see it go on")]
fn say(what: &str) {
    eprintln!("{what}");
}

impl Fault {
    /// Does it, and undoes it where that is ours to do; returns it in words.
    async fn strike(self, site: &mut Site, rng: &mut StdRng) -> String {
        let node = rng.random_range(0..site.nodes.len());
        let primary = site.database.wait_for_primary(TAKE_OVER).await;
        let name = site.database.name(primary).to_owned();
        match self {
            Self::NodeKilled => {
                site.nodes[node].kill();
                rest(rng.random_range(1..3)).await;
                site.nodes[node].start();
                format!("kill -9 of node {node}")
            }
            Self::PrimaryKilled => {
                site.database.kill_postgres(primary);
                format!("kill -9 of the primary {name}")
            }
            Self::NodeAndPrimaryKilled => {
                site.database.kill_postgres(primary);
                site.nodes[node].kill();
                rest(rng.random_range(1..3)).await;
                site.nodes[node].start();
                format!("kill -9 of the primary {name} and of node {node}")
            }
            Self::PrimaryLosesPower => {
                site.database.kill_machine(primary);
                site.wait_for_another_primary(primary).await;
                site.database.start_machine(primary);
                format!("power loss of the primary {name}")
            }
            Self::PrimaryLosesPowerAhead => {
                site.database.set_peers(primary, Flow::Held);
                rest(5).await;
                site.database.kill_machine(primary);
                site.database.set_peers(primary, Flow::Refused);
                site.wait_for_another_primary(primary).await;
                site.database.set_peers(primary, Flow::Open);
                site.database.start_machine(primary);
                format!("power loss of the primary {name}, 5 s ahead of its replicas")
            }
            Self::PrimaryFrozen => {
                site.database.freeze(primary);
                tokio::time::sleep(TTL + Duration::from_secs(rng.random_range(2..6))).await;
                site.database.thaw(primary);
                format!("SIGSTOP of the primary {name}, then SIGCONT")
            }
            Self::NodeCut => {
                site.nodes[node].set_wires(Flow::Held);
                rest(rng.random_range(6..12)).await;
                site.nodes[node].set_wires(Flow::Open);
                format!("node {node} cut from the databases, swallowing")
            }
            Self::NodeRefused => {
                site.nodes[node].set_wires(Flow::Refused);
                rest(rng.random_range(3..6)).await;
                site.nodes[node].set_wires(Flow::Open);
                format!("node {node} cut from the databases, refusing")
            }
            Self::ReplicasCut => {
                site.database.set_peers(primary, Flow::Held);
                rest(rng.random_range(8..14)).await;
                site.database.set_peers(primary, Flow::Open);
                format!("the primary {name} cut from its replicas")
            }
            Self::PrimaryIsolated => {
                site.database.set_peers(primary, Flow::Held);
                site.database.set_etcd(primary, Flow::Held);
                tokio::time::sleep(TTL + Duration::from_secs(rng.random_range(5..10))).await;
                site.database.set_peers(primary, Flow::Open);
                site.database.set_etcd(primary, Flow::Open);
                format!("the primary {name} cut from its replicas and from etcd")
            }
            Self::PrimaryCutFromEtcd => {
                site.database.set_etcd(primary, Flow::Held);
                rest(rng.random_range(8..25)).await;
                site.database.set_etcd(primary, Flow::Open);
                format!("the primary {name} cut from etcd")
            }
            Self::EtcdRestarted => {
                site.database.etcd.kill();
                rest(rng.random_range(1..5)).await;
                site.database.etcd.start_again();
                "kill -9 of etcd".into()
            }
            Self::ClockJumps => {
                let hours = rng.random_range(1..12) * if rng.random_bool(0.5) { 1 } else { -1 };
                site.nodes[node].set_clock(hours);
                rest(rng.random_range(6..10)).await;
                site.nodes[node].set_clock(0);
                format!("the clock of node {node} jumped by {hours:+} h, and back")
            }
            Self::NodesRolled => {
                for node in &mut site.nodes {
                    let status = node.terminate().await;
                    assert!(status.success(), "node {} stopped with {status}", node.number);
                    node.start();
                    node.wait_until_ready().await;
                }
                "every node stopped and started in turn".into()
            }
        }
    }
}

impl Site {
    async fn wait_for_another_primary(&self, former: usize) {
        let takes_over = async {
            while self.database.primary().await.is_none_or(|primary| primary == former) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(TTL + TAKE_OVER, takes_over).await.expect("another primary");
    }
}

async fn rest(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
