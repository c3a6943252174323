//! Three PostgreSQL under Patroni: a primary and two replicas, each a machine of its own as far as a partition can tell.
//!
//! They run with `packaging/patroni/patroni.yml`, the file that operators start from.

use crate::{
    etcd::Etcd,
    network::{Flow, Wire},
    room::{Process, Room, as_nobody_special, processes_in, signal, unusable},
};
use reqwest::Client;
use rustix::process::Signal;
use serde::Deserialize;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// How many machines hold the data.
pub(crate) const MACHINES: usize = 3;

const CONFIGURATION: &str = include_str!("../../../../packaging/patroni/patroni.yml");
/// What the passwords here are. Nothing but loopback reaches these databases, and none outlives the test.
const PASSWORD: &str = "for-tests-only";

/// How long the first start may take: three databases are made.
const BOOTSTRAP: Duration = Duration::from_secs(120);

/// Whether an answered commit is on two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replication {
    /// As the configuration that ships says: synchronous and strict.
    Strict,
    /// What nobody should run: a primary answers before anybody else has the commit, and one who lacks it may take over.
    Asynchronous,
}

/// The three machines and the etcd in which they agree.
pub(crate) struct Database {
    /// Where they agree on who leads.
    pub(crate) etcd: Etcd,
    machines: Vec<Machine>,
    http: Client,
}

/// One PostgreSQL with its Patroni.
struct Machine {
    name: String,
    folder: PathBuf,
    configuration: PathBuf,
    /// Where Patroni says how it is, past every wire.
    api: SocketAddr,
    postgres: SocketAddr,
    /// The wires by which the other machines reach this one.
    from_peers: [Wire; 2],
    to_etcd: Wire,
    patroni: Option<Process>,
}

/// What Patroni says of the cluster.
#[derive(Debug, Deserialize)]
struct Cluster {
    members: Vec<Member>,
}

/// What Patroni says of a machine.
#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    role: String,
    state: String,
    #[serde(default)]
    timeline: u64,
}

impl Database {
    /// Makes a cluster and waits until it is whole.
    pub(crate) async fn start(room: &Room, replication: Replication) -> Self {
        let etcd = Etcd::start(room);
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().expect("a client");
        let mut machines = Vec::new();
        for number in 1..=MACHINES {
            machines.push(Machine::new(room, number, &etcd, replication).await);
        }
        let mut database = Self { etcd, machines, http };
        for machine in 0..MACHINES {
            database.start_machine(machine);
        }
        database.wait_until_whole(BOOTSTRAP, replication).await;
        database.make_countersign().await;
        database
    }

    /// Makes the role and the database that the configuration lets nodes use.
    async fn make_countersign(&self) {
        let primary = self.primary().await.expect("a primary");
        let mut config = tokio_postgres::Config::new();
        let address = self.machines[primary].postgres;
        config.host(address.ip().to_string()).port(address.port()).user("postgres").password(PASSWORD);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("connect");
        tokio::spawn(connection);
        for statement in [
            format!("CREATE ROLE countersign LOGIN PASSWORD '{PASSWORD}'"),
            "CREATE DATABASE countersign OWNER countersign".to_owned(),
        ] {
            client.batch_execute(&statement).await.expect("make the role and the database");
        }
    }

    /// Lays wires from somebody to each machine's PostgreSQL.
    pub(crate) async fn wires(&self) -> Vec<Wire> {
        let mut wires = Vec::new();
        for machine in &self.machines {
            wires.push(Wire::to(machine.postgres).await);
        }
        wires
    }

    /// Returns the machine that leads, as far as anybody who answers knows.
    pub(crate) async fn primary(&self) -> Option<usize> {
        let leader = self.cluster().await?.members.into_iter().find(|member| member.role == "leader")?;
        self.machines.iter().position(|machine| machine.name == leader.name)
    }

    /// Waits until there is a primary, and returns it.
    pub(crate) async fn wait_for_primary(&self, patience: Duration) -> usize {
        let begun = Instant::now();
        loop {
            if let Some(primary) = self.primary().await {
                return primary;
            }
            assert!(begun.elapsed() < patience, "no primary within {patience:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until one leads and all others follow, one of them synchronously where that is asked for.
    pub(crate) async fn wait_until_whole(&self, patience: Duration, replication: Replication) {
        let begun = Instant::now();
        let mut last = None;
        loop {
            let cluster = self.cluster().await;
            if cluster.as_ref().is_some_and(|cluster| cluster.is_whole(replication)) {
                return;
            }
            last = cluster.or(last);
            let logs = || self.machines.iter().map(Machine::log_tail).collect::<Vec<_>>().join("\n");
            assert!(begun.elapsed() < patience, "not whole within {patience:?}: {last:?}\n{}", logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks every machine, and believes the first that answers with a leader.
    async fn cluster(&self) -> Option<Cluster> {
        for machine in &self.machines {
            let asked = self.http.get(format!("http://{}/cluster", machine.api)).send().await;
            let Ok(answer) = asked else { continue };
            let Ok(cluster) = answer.json::<Cluster>().await else { continue };
            if cluster.members.iter().any(|member| member.role == "leader") {
                return Some(cluster);
            }
        }
        None
    }

    /// Returns a machine's name.
    pub(crate) fn name(&self, machine: usize) -> &str {
        &self.machines[machine].name
    }

    /// Kills a PostgreSQL with `kill -9`, and leaves what happens then to its Patroni.
    pub(crate) fn kill_postgres(&self, machine: usize) {
        let postmaster = fs::read_to_string(self.machines[machine].folder.join("data/postmaster.pid"));
        let postmaster = postmaster.expect("read postmaster.pid");
        let process = postmaster.lines().next().and_then(|line| line.parse().ok()).expect("a process id");
        signal(process, Signal::KILL);
    }

    /// Kills everything on a machine, as when its power goes.
    pub(crate) fn kill_machine(&mut self, machine: usize) {
        let machine = &mut self.machines[machine];
        if let Some(patroni) = machine.patroni.take() {
            patroni.kill();
        }
        machine.signal_all(Signal::KILL);
    }

    /// Starts a machine's Patroni, which starts its PostgreSQL.
    pub(crate) fn start_machine(&mut self, machine: usize) {
        self.machines[machine].start();
    }

    /// Stops everything on a machine, as when a hypervisor takes its processors away.
    pub(crate) fn freeze(&self, machine: usize) {
        self.machines[machine].signal_all(Signal::STOP);
    }

    /// Lets a machine go on as if nothing had been.
    pub(crate) fn thaw(&self, machine: usize) {
        self.machines[machine].signal_all(Signal::CONT);
    }

    /// Sets what becomes of bytes between a machine and its peers.
    pub(crate) fn set_peers(&self, machine: usize, flow: Flow) {
        self.machines[machine].from_peers.iter().for_each(|wire| wire.set(flow));
    }

    /// Sets what becomes of bytes between a machine and etcd.
    pub(crate) fn set_etcd(&self, machine: usize, flow: Flow) {
        self.machines[machine].to_etcd.set(flow);
    }

    /// Fails if a Patroni ended that nobody killed.
    pub(crate) fn check_programs(&mut self) {
        for machine in &mut self.machines {
            let end = machine.patroni.as_mut().and_then(Process::end);
            assert!(end.is_none(), "the Patroni of {} ended: {end:?}; {}", machine.name, machine.log_tail());
        }
    }
}

/// Returns how a node writes where its database is.
pub(crate) fn url(wires: &[Wire]) -> String {
    let hosts: Vec<String> = wires.iter().map(|wire| wire.address.to_string()).collect();
    format!("postgres://countersign:{PASSWORD}@{}/countersign", hosts.join(","))
}

impl Cluster {
    fn is_whole(&self, replication: Replication) -> bool {
        let Some(leader) = self.members.iter().find(|member| member.role == "leader") else { return false };
        let is_well = |member: &Member| {
            matches!(member.state.as_str(), "running" | "streaming") && member.timeline == leader.timeline
        };
        let is_synchronous = self.members.iter().any(|member| member.role == "sync_standby");
        self.members.len() == MACHINES
            && self.members.iter().all(is_well)
            && (is_synchronous || replication == Replication::Asynchronous)
    }
}

impl Machine {
    async fn new(room: &Room, number: usize, etcd: &Etcd, replication: Replication) -> Self {
        let name = format!("db{number}");
        let folder = room.folder(&name);
        let (api, postgres) = (room.address(), room.address());
        let from_peers = [Wire::to(api).await, Wire::to(postgres).await];
        let to_etcd = Wire::to(etcd.address).await;
        let configuration = filled(&[
            ("NAME", name.clone()),
            ("ADDRESS", postgres.ip().to_string()),
            ("PORT", postgres.port().to_string()),
            ("AT", from_peers[1].address.to_string()),
            ("API_PORT", api.port().to_string()),
            ("API_AT", from_peers[0].address.to_string()),
            ("ETCD_API", etcd_api().into()),
            ("ETCD_AT", to_etcd.address.to_string()),
            ("HOME_DIRECTORY", folder.display().to_string()),
            ("DATA", folder.join("data").display().to_string()),
            ("PROGRAMS", programs().display().to_string()),
            ("SUPERUSER_PASSWORD", PASSWORD.into()),
            ("REPLICATION_PASSWORD", PASSWORD.into()),
            ("REWIND_PASSWORD", PASSWORD.into()),
            ("CLUSTER_NETWORK", "127.0.0.1/32".into()),
            ("NODES_NETWORK", "127.0.0.1/32".into()),
        ]);
        let configuration = match replication {
            Replication::Strict => configuration,
            Replication::Asynchronous => weakened(&configuration),
        };
        let path = folder.join("patroni.yml");
        fs::write(&path, configuration).expect("write the configuration of Patroni");
        Self { name, folder, configuration: path, api, postgres, from_peers, to_etcd, patroni: None }
    }

    fn start(&mut self) {
        let mut command = as_nobody_special("patroni");
        command.arg(&self.configuration);
        // Each machine has its own wire to etcd. Asked for its address, etcd would name the one without a wire.
        command.env(format!("PATRONI_{}_USE_PROXIES", etcd_api().to_uppercase()), "on");
        self.patroni = Some(Process::start(command, &self.folder));
    }

    /// Sends a signal to everything that runs on the machine, twice: the first may miss what is being forked.
    fn signal_all(&self, which: Signal) {
        for _ in 0..2 {
            processes_in(&self.folder).into_iter().for_each(|process| signal(process, which));
        }
    }

    fn log_tail(&self) -> String {
        self.patroni.as_ref().map_or_else(|| format!("{} does not run", self.name), Process::log_tail)
    }
}

/// Fills in the configuration; what it asks for and what it is given must be the same.
fn filled(values: &[(&str, String)]) -> String {
    let filled = values.iter().fold(CONFIGURATION.to_owned(), |text, (name, value)| {
        let place = format!("${{{name}}}");
        assert!(text.contains(&place), "packaging/patroni/patroni.yml has no {place}");
        text.replace(&place, value)
    });
    assert!(!filled.contains("${"), "packaging/patroni/patroni.yml asks for more than we know: {filled}");
    filled
}

/// Takes the promise out of the configuration: nobody waits for a replica, and one that lacks much may take over.
fn weakened(configuration: &str) -> String {
    [
        ("synchronous_mode: true", "synchronous_mode: false"),
        ("synchronous_mode_strict: true", "synchronous_mode_strict: false"),
        ("maximum_lag_on_failover: 1048576", "maximum_lag_on_failover: 1073741824"),
    ]
    .iter()
    .fold(configuration.to_owned(), |text, (strong, weak)| {
        assert!(text.contains(strong), "packaging/patroni/patroni.yml has no {strong}");
        text.replace(strong, weak)
    })
}

/// Returns the section of the configuration that says where etcd is, as the configuration asks: before 3.0.3, a Patroni that
/// uses the newer API takes back a lead that it lost while it was stopped, and one of the faults is to stop it.
fn etcd_api() -> &'static str {
    let asked = Command::new("patroni").arg("--version").output();
    let output = asked.unwrap_or_else(|error| unusable("patroni", &error));
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let numbers =
        said.strip_prefix("patroni ").unwrap_or_else(|| panic!("patroni --version: {output:?}")).split('.');
    let version: Vec<u32> = numbers.map_while(|number| number.parse().ok()).collect();
    if version >= vec![3, 0, 3] { "etcd3" } else { "etcd" }
}

/// Returns where the newest PostgreSQL's programs are; Debian keeps them out of the path.
fn programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|programs: &PathBuf| has_server(programs))
        .collect();
    versions.sort_by_key(|programs| version(programs));
    versions.pop().expect("PostgreSQL's server is missing: run scripts/test, or apt-get install postgresql")
}

fn has_server(programs: &Path) -> bool {
    programs.join("initdb").exists()
}

fn version(programs: &Path) -> u32 {
    let version = programs.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}
