//! The etcd in which the databases agree on who leads.

use crate::room::{Process, Room, as_nobody_special};
use std::{net::SocketAddr, path::PathBuf, process::Command};

/// A single etcd. Production has three; what a database sees when it cannot reach any is the same.
pub(crate) struct Etcd {
    /// Where clients reach it.
    pub(crate) address: SocketAddr,
    peers: SocketAddr,
    folder: PathBuf,
    process: Option<Process>,
}

impl Etcd {
    /// Starts one.
    pub(crate) fn start(room: &Room) -> Self {
        let (address, peers) = (room.address(), room.address());
        let mut etcd = Self { address, peers, folder: room.folder("etcd"), process: None };
        etcd.start_again();
        etcd
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("an etcd that runs").kill();
    }

    /// Starts it with the data it has.
    pub(crate) fn start_again(&mut self) {
        self.process = Some(Process::start(self.command(), &self.folder));
    }

    fn command(&self) -> Command {
        let clients = format!("http://{}", self.address);
        let peers = format!("http://{}", self.peers);
        let mut command = as_nobody_special("etcd");
        command
            // The older API too, which an older Patroni needs.
            .args(["--name", "etcd", "--log-level", "warn", "--data-dir", "data", "--enable-v2"])
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .arg(format!("--initial-cluster=etcd={peers}"));
        command
    }
}
