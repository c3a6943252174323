//! What the same two writes cost by themselves: `pgbench` on a copy of the database, one transaction each.
//!
//! The copy has the server's own tables with everybody in them, so rows and indexes are the same by construction. What is
//! written has the size of what the server writes.

use crate::{cpu, postgres::Postgres, sample::Spread};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::process::Command;

/// The copy it works on.
const DATABASE: &str = "pgbench";
/// Ids that `pgbench`, which knows numbers only, can name.
const ID: &str = "('00000000-0000-7000-8000-' || lpad(:person::text, 12, '0'))::uuid";

/// How large a document and an event of a verification are, and how many events there are.
const SIZES: &str = "WITH accepted AS (SELECT subject, body FROM audit WHERE action = 'verify.accepted')
    SELECT (SELECT round(avg(octet_length(body))) FROM users WHERE id IN (SELECT subject FROM accepted)),
        (SELECT round(avg(octet_length(body))) FROM accepted), (SELECT count(*) FROM audit)";
/// Which numbers people have.
const PEOPLE: &str = "SELECT min(number), max(number), count(*), count(DISTINCT organisation) FROM users";

/// How the two writes are sent.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// In a transaction of two statements: four round trips.
    Transaction,
    /// In one statement: one round trip.
    Statement,
}

impl Form {
    const fn file(self) -> &'static str {
        match self {
            Self::Transaction => "transaction.sql",
            Self::Statement => "statement.sql",
        }
    }

    /// Returns the script. Each client has people of its own, as our lanes have, so nobody waits for a row. The version is
    /// compared, which costs what it costs us, with what holds for each: knowing it would take a read more.
    fn script(self) -> String {
        let update = format!(
            "UPDATE users SET version = version + 1, updated_at = :row, body = :document WHERE id = {ID} AND version > 0"
        );
        let columns = r#"audit (subject, seq, "row", organisation, at, action, hash, body)"#;
        let rest = "(:row)::bigint, (:row)::bigint, (:organisation)::uuid, (:row)::bigint, 'verify.accepted', :hash, :event";
        let choose =
            "\\set person :first + :client_id + :clients * random(0, :each - 1)\n\\set row :row + 1\n";
        match self {
            Self::Transaction => {
                format!("{choose}BEGIN;\n{update};\nINSERT INTO {columns} VALUES ({ID}, {rest});\nCOMMIT;\n")
            }
            Self::Statement => format!(
                "{choose}WITH changed AS ({update} RETURNING id)\n  INSERT INTO {columns} SELECT id, {rest} FROM changed;\n"
            ),
        }
    }
}

/// The copy, and what is written to it.
pub(crate) struct Pgbench<'a> {
    postgres: &'a Postgres,
    /// Where the scripts are.
    scripts: PathBuf,
    organisation: String,
    document: String,
    event: String,
    /// The number of the first person, and how many there are.
    first: u64,
    people: u64,
    /// Events there were before us, and transactions since.
    events: u64,
    transactions: u64,
}

impl<'a> Pgbench<'a> {
    /// Copies the database of a server that has verified and was stopped; scripts go below `room`.
    pub(crate) async fn prepare(postgres: &'a Postgres, room: &Path) -> Result<Self> {
        postgres.copy_to(DATABASE).await?;
        let [document, event, events] = numbers(postgres, SIZES).await?;
        let renamed = format!("UPDATE users SET id = {}", ID.replace(":person", "number"));
        // In the end, rows are as dense as they were, and nothing is left to clean up.
        for statement in [renamed.as_str(), "VACUUM FULL users", "ANALYZE", "CHECKPOINT"] {
            postgres.sql(DATABASE, statement).await?;
        }
        let [first, last, people, organisations] = numbers(postgres, PEOPLE).await?;
        ensure!(last + 1 - first == people && organisations == 1, "people are not numbered without gaps");

        for form in [Form::Transaction, Form::Statement] {
            fs::write(room.join(form.file()), form.script())?;
        }
        Ok(Self {
            postgres,
            scripts: room.to_owned(),
            organisation: postgres.sql(DATABASE, "SELECT organisation FROM users LIMIT 1").await?,
            document: text_of(document),
            event: text_of(event),
            first,
            people,
            events,
            transactions: 0,
        })
    }

    /// Returns the bytes of a document and of an event.
    pub(crate) const fn sizes(&self) -> (usize, usize) {
        (self.document.len(), self.event.len())
    }

    /// Writes for a while over a number of connections.
    pub(crate) async fn slice(
        &mut self,
        form: Form,
        clients: usize,
        threads: usize,
        length: Duration,
    ) -> Result<Transactions> {
        cpu::settled(|| self.postgres.cpu()).await?;
        let (postgres_before, client_before) = (self.postgres.cpu()?, cpu::of_ended_children()?);
        let said = self.run(form, clients, threads, length).await?;
        cpu::settled(|| self.postgres.cpu()).await?;

        let count = said.count.max(1) as f64;
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / count;
        self.transactions += said.count;
        Ok(Transactions {
            per_second: said.per_second,
            mean_ms: said.mean_ms,
            postgres_micros: micros(self.postgres.cpu()?.saturating_sub(postgres_before)),
            client_micros: micros(cpu::of_ended_children()?.saturating_sub(client_before)),
        })
    }

    async fn run(&self, form: Form, clients: usize, threads: usize, length: Duration) -> Result<Said> {
        let variables = [
            ("first", self.first.to_string()),
            ("clients", clients.to_string()),
            ("each", (self.people / clients as u64).max(1).to_string()),
            // Higher than any before, whoever's turn it is.
            ("row", SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros().to_string()),
            ("organisation", self.organisation.clone()),
            ("document", self.document.clone()),
            ("event", self.event.clone()),
            ("hash", text_of(32)),
        ];
        let mut command = Command::new("pgbench");
        command.args(["--no-vacuum", "--protocol=prepared", "--file"]).arg(self.scripts.join(form.file()));
        command.arg(format!("--client={clients}")).arg(format!("--jobs={}", threads.min(clients)));
        command.arg(format!("--time={}", length.as_secs()));
        command.args(variables.iter().map(|(name, value)| format!("--define={name}={value}")));
        command.arg(self.postgres.url_of(DATABASE)).stdin(Stdio::null()).kill_on_drop(true);
        let output =
            command.output().await.context("run pgbench; on Debian: sudo apt-get install postgresql")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "pgbench: {} {}",
            said.trim_end(),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Said::read(&said).with_context(|| format!("read what pgbench said: {said}"))
    }

    /// Fails unless each transaction left its event: one that wrote nothing would be a fast one.
    pub(crate) async fn check(&self) -> Result<()> {
        let events = self.postgres.sql(DATABASE, "SELECT count(*) FROM audit").await?;
        let expected = (self.events + self.transactions).to_string();
        ensure!(events == expected, "pgbench left {events} events where {expected} were expected");
        Ok(())
    }
}

/// Returns the one row of numbers that a query gives.
async fn numbers<const WIDTH: usize>(postgres: &Postgres, query: &str) -> Result<[u64; WIDTH]> {
    let row = postgres.sql(DATABASE, query).await?;
    let numbers = row.split('|').map(str::parse).collect::<Result<Vec<u64>, _>>();
    let numbers = numbers.ok().and_then(|numbers| numbers.try_into().ok());
    numbers.with_context(|| format!("{query}: expected {WIDTH} numbers, got {row}"))
}

/// A slice of transactions.
pub(crate) struct Transactions {
    pub(crate) per_second: f64,
    mean_ms: f64,
    postgres_micros: f64,
    client_micros: f64,
}

impl Transactions {
    /// Returns everybody's processor time for each transaction, in microseconds.
    pub(crate) fn micros(&self) -> f64 {
        self.postgres_micros + self.client_micros
    }
}

/// What slices of transactions came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peer {
    pub(crate) per_second: Spread,
    pub(crate) mean_ms: Spread,
    pub(crate) postgres_cpu_micros: Spread,
    pub(crate) client_cpu_micros: Spread,
}

impl Peer {
    /// Sums slices up.
    pub(crate) fn of(slices: &[Transactions]) -> Self {
        let spread = |figure: fn(&Transactions) -> f64| Spread::of(slices.iter().map(figure));
        Self {
            per_second: spread(|slice| slice.per_second),
            mean_ms: spread(|slice| slice.mean_ms),
            postgres_cpu_micros: spread(|slice| slice.postgres_micros),
            client_cpu_micros: spread(|slice| slice.client_micros),
        }
    }
}

/// What `pgbench` prints at its end.
#[derive(Debug, PartialEq)]
struct Said {
    count: u64,
    mean_ms: f64,
    per_second: f64,
}

impl Said {
    fn read(said: &str) -> Option<Self> {
        let after = |start: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(start))?;
            line.split([' ', '/']).next()
        };
        // A transaction that failed is not counted among the others; none may.
        if after("number of failed transactions: ")? != "0" {
            return None;
        }
        Some(Self {
            count: after("number of transactions actually processed: ")?.parse().ok()?,
            mean_ms: after("latency average = ")?.parse().ok()?,
            per_second: after("tps = ")?.parse().ok()?,
        })
    }
}

/// Returns text of a length that no index holds and nobody can compress much.
fn text_of(length: u64) -> String {
    let mut dice = crate::dice::Dice::seeded(length);
    (0..length).map(|_| char::from(b"0123456789abcdef"[dice.below(16)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_pgbench_says() {
        let said = "number of transactions actually processed: 9811\nnumber of failed transactions: 0 (0.000%)\n\
            latency average = 13.031 ms\ninitial connection time = 60.0 ms\ntps = 4911.276 (without initial connection time)\n";

        assert_eq!(Said::read(said), Some(Said { count: 9811, mean_ms: 13.031, per_second: 4911.276 }));
        assert_eq!(Said::read(&said.replace("transactions: 0", "transactions: 2")), None);
    }
}
