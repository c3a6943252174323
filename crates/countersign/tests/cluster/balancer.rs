//! haproxy in front of the nodes, with `packaging/haproxy/haproxy.cfg`, the file that operators start from.

use crate::{
    node::Node,
    room::{Process, Room, as_nobody_special},
};
use std::{net::SocketAddr, path::Path};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/haproxy/haproxy.cfg");
/// Debian keeps it where only root's path leads.
const PROGRAM: &str = "/usr/sbin/haproxy";

/// A balancer.
pub(crate) struct Balancer {
    /// Where clients reach it.
    pub(crate) address: SocketAddr,
    process: Process,
}

impl Balancer {
    /// Starts one in front of some nodes.
    pub(crate) fn start(room: &Room, nodes: &[Node]) -> Self {
        let address = room.address();
        let program = if Path::new(PROGRAM).exists() { PROGRAM } else { "haproxy" };
        let mut command = as_nobody_special(program);
        command.args(["-db", "-f", CONFIGURATION]).env("LISTEN", address.to_string());
        for node in nodes {
            command.env(format!("NODE{}", node.number + 1), node.address.to_string());
        }
        Self { address, process: Process::start(command, &room.folder("balancer")) }
    }

    /// Returns how often a request came to a node that did not let it in any more, and had to go elsewhere.
    ///
    /// A line of the log has five times, and then five counts, of which the last is that of retries.
    pub(crate) fn retries(&self) -> usize {
        let is_retried = |line: &str| {
            let mut fives = line.split_whitespace().filter(|word| word.split('/').count() == 5);
            fives.nth(1).is_some_and(|counts| !counts.ends_with("/0"))
        };
        self.process.log().lines().filter(|line| is_retried(line)).count()
    }

    /// Fails if it ended.
    pub(crate) fn check(&mut self) {
        let end = self.process.end();
        assert!(end.is_none(), "haproxy ended: {end:?}; {}", self.process.log_tail());
    }
}
