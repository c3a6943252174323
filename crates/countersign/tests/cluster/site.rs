//! Everything that a run works with: the databases, and the nodes on them.

use crate::{
    caller::Caller,
    database::{self, Database, Replication},
    node::{Credentials, NODES, Node, Upstream},
    room::Room,
};
use std::time::Duration;

/// How long everything may take to be well again after the worst that is done to it.
const RECOVERY: Duration = Duration::from_secs(180);

/// Three databases and three nodes.
pub(crate) struct Site {
    /// The databases.
    pub(crate) database: Database,
    /// The nodes.
    pub(crate) nodes: Vec<Node>,
    /// How the databases keep up with each other.
    pub(crate) replication: Replication,
    credentials: Credentials,
}

impl Site {
    /// Starts everything.
    pub(crate) async fn start(room: &Room, replication: Replication) -> Self {
        let database = Database::start(room, replication).await;
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let wires = database.wires().await;
            let is_synchronous = replication == Replication::Strict;
            let upstream = Upstream { url: database::url(&wires), is_synchronous, wires };
            nodes.push(Node::new(room, number, upstream));
        }
        let credentials = nodes[0].init();
        nodes.iter_mut().for_each(Node::start);
        for node in &mut nodes {
            node.wait_until_ready().await;
        }
        Self { database, nodes, replication, credentials }
    }

    /// Makes a client of all nodes.
    pub(crate) fn caller(&self) -> Caller {
        Caller::new(&self.credentials, self.nodes.iter().map(|node| node.address).collect())
    }

    /// Waits until there is a primary with all its replicas, and every node is ready.
    pub(crate) async fn wait_until_whole(&mut self) {
        self.database.wait_until_whole(RECOVERY, self.replication).await;
        for node in &mut self.nodes {
            node.wait_until_ready().await;
        }
        self.database.check_programs();
    }
}
