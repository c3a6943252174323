//! The part of a report that only a run on PostgreSQL has.

use super::{fmt_table, grouped, range, with_range};
use crate::{
    pgbench::Peer,
    sample::{Percentiles, Spread},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The PostgreSQL everything ran on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PostgresStore {
    pub(crate) version: String,
    /// What it was told beyond its defaults.
    pub(crate) settings: Vec<String>,
    /// The servers under test reached it through a pool of transactions.
    pub(crate) is_pooled: bool,
    /// The servers under test prepared their statements, once a connection.
    pub(crate) is_prepared: bool,
    /// The bytes of a document and of an event, as `pgbench` wrote them.
    pub(crate) document_bytes: usize,
    pub(crate) event_bytes: usize,
}

impl PostgresStore {
    pub(super) fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, settings, is_pooled, is_prepared, document_bytes, event_bytes } = self;
        let reached = if *is_pooled { "through pgbouncer, by transactions" } else { "directly" };
        let statements = if *is_prepared { "prepared" } else { "not prepared" };
        writeln!(
            f,
            "store     PostgreSQL {version}, on the same cores, reached {reached}, statements {statements}"
        )?;
        writeln!(f, "          {}", settings.join(" "))?;
        writeln!(
            f,
            "pgbench   the same two writes on a copy: a document of {document_bytes} bytes where the version holds, an event of {event_bytes};"
        )?;
        writeln!(
            f,
            "          beginning, two statements and commit, or both writes in one statement; prepared"
        )
    }
}

/// Verifications by one node and by two, and what they are compared with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodesAtConnections {
    pub(crate) connections: usize,
    pub(crate) one_node: ByNodes,
    pub(crate) two_nodes: ByNodes,
    /// The two writes in a transaction of two statements.
    pub(crate) transactions: Peer,
    /// The two writes in one statement.
    pub(crate) statements: Peer,
    /// The share of all cores that others took while nodes verified.
    pub(crate) disturbance: Spread,
}

/// What a number of nodes did.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ByNodes {
    pub(crate) per_second: Spread,
    /// Verifications for each transaction of two statements.
    pub(crate) ratio: Spread,
    /// Verifications for each transaction that is one statement.
    pub(crate) statement_ratio: Spread,
    /// As `ratio`, by the processor time of PostgreSQL, servers and client: what disturbs us hardly changes it.
    pub(crate) cpu_ratio: Spread,
    pub(crate) latency_ms: Percentiles,
    pub(crate) server_cpu_micros: Spread,
    pub(crate) postgres_cpu_micros: Spread,
    pub(crate) client_cpu_micros: Spread,
    /// How many verifications shared a commit.
    pub(crate) changes_per_commit: Spread,
    /// Resident memory in MiB, of all nodes together.
    pub(crate) peak_memory: f64,
    /// Codes, and other things, that had to be prepared inside a timed slice.
    pub(crate) prepared_late: usize,
}

/// The table's columns, each with the two lines above it.
const COLUMNS: [[&str; 2]; 15] = [
    ["connec-", "tions"],
    ["", "nodes"],
    ["verifications", "/s"],
    ["", "spread"],
    ["ratio to", "pgbench"],
    ["ratio to", "one statement"],
    ["ratio", "by CPU"],
    ["p50", "ms"],
    ["p99", "ms"],
    ["to a", "commit"],
    ["servers", "µs each"],
    ["PostgreSQL", "µs each"],
    ["client", "µs each"],
    ["peak", "MiB"],
    ["CPU of", "others"],
];

/// The columns of what they are compared with.
const PEER_COLUMNS: [[&str; 2]; 8] = [
    ["", "clients"],
    ["pgbench", "/s"],
    ["", "spread"],
    ["PostgreSQL", "µs each"],
    ["one statement", "/s"],
    ["", "spread"],
    ["PostgreSQL", "µs each"],
    ["pgbench", "µs each"],
];

/// Writes both tables.
pub(super) fn fmt_nodes(f: &mut fmt::Formatter<'_>, measured: &[NodesAtConnections]) -> fmt::Result {
    fmt_table(f, COLUMNS, measured.iter().flat_map(NodesAtConnections::rows))?;
    writeln!(f)?;
    fmt_table(f, PEER_COLUMNS, measured.iter().map(NodesAtConnections::peer_row))
}

impl NodesAtConnections {
    fn rows(&self) -> [[String; COLUMNS.len()]; 2] {
        [("one", &self.one_node), ("two", &self.two_nodes)].map(|(nodes, by)| {
            [
                self.connections.to_string(),
                nodes.to_owned(),
                grouped(by.per_second.median),
                range(&by.per_second, 0),
                with_range(&by.ratio, 2),
                with_range(&by.statement_ratio, 2),
                format!("{:.2}", by.cpu_ratio.median),
                format!("{:.2}", by.latency_ms.p50),
                format!("{:.2}", by.latency_ms.p99),
                format!("{:.1}", by.changes_per_commit.median),
                format!("{:.1}", by.server_cpu_micros.median),
                format!("{:.1}", by.postgres_cpu_micros.median),
                format!("{:.1}", by.client_cpu_micros.median),
                format!("{:.1}", by.peak_memory),
                format!("{:.0} %", 100.0 * self.disturbance.median),
            ]
        })
    }

    fn peer_row(&self) -> [String; PEER_COLUMNS.len()] {
        let Self { transactions, statements, .. } = self;
        [
            self.connections.to_string(),
            grouped(transactions.per_second.median),
            range(&transactions.per_second, 0),
            format!("{:.1}", transactions.postgres_cpu_micros.median),
            grouped(statements.per_second.median),
            range(&statements.per_second, 0),
            format!("{:.1}", statements.postgres_cpu_micros.median),
            format!("{:.1}", statements.client_cpu_micros.median),
        ]
    }
}
