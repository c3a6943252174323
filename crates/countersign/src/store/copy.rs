//! Moving an installation from one database to another, whichever engines they have.
//!
//! Rows go over page by page, in the order of a key, and each page is committed together with a mark that says how far the
//! copy has come: killed at any moment and begun again it goes on from there. While the mark is there no server starts on
//! the copy. It goes when everything was read back from both sides and compared. The source stays as it is.

use super::{
    postgres,
    rows::{Place, Rows, Table},
    sqlite,
};
use crate::{
    config::Data,
    error::{Error, Result},
};
use countersign_core::Timestamp;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio::try_join;
use uuid::Uuid;

/// What `meta` holds while a database is an unfinished copy. No server starts on it.
pub(super) const MARK: &str = "copy";

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is done with the rows.
    pub phase: Phase,
    /// What the rows are.
    pub table: &'static str,
    /// Rows of all tables with which this is done.
    pub done: u64,
    /// Rows of all tables.
    pub total: u64,
}

/// What a copy does, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows are written.
    Copying,
    /// Rows are read from both sides.
    Comparing,
}

/// What became of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows by what they are.
    pub rows: Vec<(&'static str, u64)>,
    /// How many of them this run wrote.
    pub written: u64,
    /// Whether an earlier run had begun.
    pub is_resumed: bool,
    /// Documents whose claimed heads are the same on both sides.
    pub heads: u64,
    /// The number of the newest event.
    pub newest_event: Option<i64>,
    /// The place of the last checkpoint.
    pub last_checkpoint: Option<i64>,
    /// Messages that were being sent when the source was stopped. They are sent again.
    pub interrupted: u64,
    /// What is not the same on both sides, in words; `None` if everything is. Then the copy is not finished.
    pub finding: Option<String>,
}

/// Copies an installation into an empty database, or goes on with a copy that was not finished; tells how far it is.
///
/// Memory does not grow with the installation. The error says what to do; whatever it is, the source is as it was.
pub async fn copy(from: &Data, to: &Data, tell: impl FnMut(Progress)) -> Result<Report> {
    if is_same(from, to)? {
        return Err(refused("both ends are the same database"));
    }
    let from = End::source(from).await?;
    let (source, highest) = examine(&from).await?;
    let to = End::target(to).await?;
    let mut copy = Copy { from, to, source, highest, tell, report: Report::default() };
    copy.run().await?;
    Ok(copy.report)
}

fn is_same(from: &Data, to: &Data) -> Result<bool> {
    let place = |data: &Data| data.directory.canonicalize().unwrap_or_else(|_| data.directory.clone());
    Ok(match (from.url()?, to.url()?) {
        (Some(from), Some(to)) => from.expose() == to.expose(),
        (None, None) => place(from) == place(to),
        _ => false,
    })
}

/// Refuses a source that is no installation, or is used at the moment; returns how it stands, and its largest number.
async fn examine(from: &End) -> Result<(Standing, i64)> {
    if from.mark().await?.is_some() {
        return Err(refused("the source is an unfinished copy itself; finish that one first"));
    }
    check_idle(from, "source").await?;
    let (standing, highest) = Standing::of(from).await?;
    if standing.count(Table::Organisations) == 0 {
        return Err(nothing_there());
    }
    Ok((standing, highest))
}

/// Refuses a database that servers use.
async fn check_idle(end: &End, which: &str) -> Result<()> {
    match end.servers().await? {
        0 => Ok(()),
        servers => Err(refused(&format!(
            "{servers} of its servers were seen on the {which} within the last minute; stop them, and if one was killed \
             wait a minute"
        ))),
    }
}

fn refused(why: &str) -> Error {
    Error::Store(format!("copy the store: {why}"))
}

/// Says why no server starts on an unfinished copy.
pub(super) fn unfinished() -> Error {
    Error::Store(
        "open database: it is a copy that is not finished; run the same countersign store copy again to finish it, or \
         empty the database to begin anew"
            .into(),
    )
}

/// What an engine says of its database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Rows of each table, the mark not counted.
    pub(super) counts: BTreeMap<Table, u64>,
    /// Number and hash of the newest event.
    pub(super) newest: Option<(i64, Vec<u8>)>,
    /// The place of the last checkpoint.
    pub(super) checkpoint: Option<i64>,
    /// Of messages: attempts, attempts nobody knows the end of, those that are settled; of destinations: the last use.
    pub(super) messages: [i64; 4],
    /// The largest number that was given to a row.
    pub(super) highest: i64,
}

/// How an installation stands: as long as nobody serves from it, it does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    /// Tells the installation from others: a digest of its keys.
    installation: String,
    counts: BTreeMap<Table, u64>,
    newest: Option<(i64, String)>,
    checkpoint: Option<i64>,
    messages: [i64; 4],
}

impl Standing {
    /// Looks how a database stands; returns the largest number in it as well.
    async fn of(end: &End) -> Result<(Self, i64)> {
        let tally = end.tally().await?;
        let standing = Self {
            installation: installation(end).await?,
            counts: tally.counts,
            newest: tally.newest.map(|(row, hash)| (row, HEXLOWER.encode(&hash))),
            checkpoint: tally.checkpoint,
            messages: tally.messages,
        };
        Ok((standing, tally.highest))
    }

    fn count(&self, table: Table) -> u64 {
        self.counts.get(&table).copied().unwrap_or_default()
    }

    fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

async fn installation(end: &End) -> Result<String> {
    let mut digest = Sha256::new();
    let mut after = None;
    loop {
        let rows = end.read(Table::Meta, after, false).await?;
        let Rows::Meta(entries) = &rows else { unreachable!("the table that was asked for") };
        for entry in entries {
            for part in [entry.name.as_bytes(), &entry.value] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
        after = rows.end();
        if after.is_none() {
            return Ok(HEXLOWER.encode(&digest.finalize()));
        }
    }
}

/// What an unfinished copy remembers of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mark {
    /// Tells this copy from others.
    id: Uuid,
    /// How the source stood when it was begun.
    source: Standing,
    stage: Stage,
    /// Rows that were written.
    written: u64,
    /// Messages that were freed.
    interrupted: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// This table is there up to a place, and all before it.
    Copying { table: Table, after: Option<Place> },
    /// All tables are there.
    Comparing,
}

impl Mark {
    fn read(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|_| refused("the target is an unfinished copy of another version of countersign"))
    }

    fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a mark holds texts and numbers only, so it is always JSON")
    }
}

/// A copy at work.
struct Copy<T> {
    from: End,
    to: End,
    source: Standing,
    /// The largest number in the source.
    highest: i64,
    tell: T,
    report: Report,
}

impl<T: FnMut(Progress)> Copy<T> {
    async fn run(&mut self) -> Result<()> {
        check_idle(&self.to, "target").await?;
        self.report_source();
        let Some(mut mark) = self.begin().await? else {
            // It was finished before; whoever asks again may be in doubt.
            self.report.is_resumed = true;
            self.compare().await?;
            return self.report.finding.is_none().then_some(()).ok_or_else(not_empty);
        };
        while let Stage::Copying { table, after } = mark.stage.clone() {
            mark = self.copy_table(mark, table, after).await?;
        }
        self.report.interrupted = mark.interrupted;
        self.compare().await?;
        if self.report.finding.is_none() {
            self.finish(&mark).await?;
        }
        Ok(())
    }

    fn report_source(&mut self) {
        let counted = Table::ALL.into_iter().filter(|table| !table.is_derived());
        self.report.rows = counted.map(|table| (table.name(), self.source.count(table))).collect();
        self.report.newest_event = self.source.newest.as_ref().map(|(row, _)| *row);
        self.report.last_checkpoint = self.source.checkpoint;
    }

    /// Begins in an empty database, or goes on in an unfinished copy; `None` if the copy was finished and not used since.
    async fn begin(&mut self) -> Result<Option<Mark>> {
        self.check_numbers().await?;
        if let Some(mark) = self.resume().await? {
            return Ok(Some(mark));
        }
        let mark = Mark {
            id: Uuid::from_bytes(rand::random()),
            source: self.source.clone(),
            stage: Stage::Copying { table: Table::ALL[0], after: None },
            written: 0,
            interrupted: 0,
        };
        if self.to.begin(mark.write()).await? {
            return Ok(Some(mark));
        }
        // Somebody else may have begun a moment ago.
        if let Some(mark) = self.resume().await? {
            return Ok(Some(mark));
        }
        match Standing::of(&self.to).await?.0 == self.source {
            true => Ok(None),
            false => Err(not_empty()),
        }
    }

    /// Takes up an unfinished copy, if the target is one.
    async fn resume(&mut self) -> Result<Option<Mark>> {
        let Some(bytes) = self.to.mark().await? else { return Ok(None) };
        let mark = Mark::read(&bytes)?;
        self.check_source(&mark)?;
        self.report.is_resumed = true;
        Ok(Some(mark))
    }

    /// Refuses to go on with a copy of something else.
    fn check_source(&self, mark: &Mark) -> Result<()> {
        const ANEW: &str = "empty the target and begin anew";
        if mark.source.installation != self.source.installation {
            return Err(refused(&format!(
                "the target is an unfinished copy of another installation; finish that one, or {ANEW}"
            )));
        }
        if mark.source != self.source {
            return Err(refused(&format!("the source was used since this copy was begun; {ANEW}")));
        }
        Ok(())
    }

    /// Refuses a target that would give new events smaller numbers than old ones have.
    async fn check_numbers(&self) -> Result<()> {
        let Some((next, now)) = self.to.next_number().await? else { return Ok(()) };
        if next > self.highest {
            return Ok(());
        }
        let after = postgres::copy::time_after(self.highest);
        Err(refused(&format!(
            "the target's clock shows {now}, but the source has numbers up to {after}, and new events need larger ones; set the \
             clock of the target's server right, or wait until then"
        )))
    }

    /// Copies what is left of a table; returns the mark of what comes next.
    async fn copy_table(&mut self, mut mark: Mark, table: Table, after: Option<Place>) -> Result<Mark> {
        let is_linked = self.to.links_events();
        let mut rows = self.from.read(table, after, is_linked).await?;
        while let Some(end) = rows.end() {
            let mut next = mark.clone();
            next.stage = Stage::Copying { table, after: Some(end.clone()) };
            next.interrupted += rows.release();
            let count = rows.len() as u64;
            if !table.is_derived() {
                next.written += count;
                self.report.written += count;
            }
            let read = self.from.read(table, Some(end), is_linked);
            let written = self.to.write(rows, mark.write(), next.write());
            (rows, ()) = try_join!(read, written)?;
            mark = next;
            self.tell(Phase::Copying, table, mark.written);
        }
        let mut next = mark.clone();
        let place = Table::ALL.iter().position(|other| *other == table).unwrap_or_default();
        next.stage = match Table::ALL.get(place + 1) {
            Some(table) => Stage::Copying { table: *table, after: None },
            None => Stage::Comparing,
        };
        self.to.pass(mark.write(), next.write()).await?;
        Ok(next)
    }

    /// Reads everything from both sides; notes the first difference.
    async fn compare(&mut self) -> Result<()> {
        let mut compared = 0;
        for table in Table::ALL.into_iter().filter(|table| !table.is_derived()) {
            match self.compare_table(table, compared).await? {
                Ok(count) => compared += count,
                Err(difference) => {
                    self.report.finding = Some(format!("{}: {difference}", table.name()));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads a table from both sides; returns how many rows it has on both, or says where they differ.
    async fn compare_table(&mut self, table: Table, before: u64) -> Result<Result<u64, String>> {
        let (mut here, mut there) = (None, None);
        let mut count = 0;
        loop {
            let (mut ours, theirs) =
                try_join!(self.from.read(table, here, false), self.to.read(table, there, false))?;
            (here, there) = (ours.end(), theirs.end());
            // It was done to the copy, too.
            ours.release();
            let rows = ours.len() as u64;
            if ours.without_own_numbers() != theirs.without_own_numbers() {
                let (first, last) = (count + 1, count + rows.max(1));
                return Ok(Err(format!("rows {first} to {last} are not the same on both sides")));
            }
            count += rows;
            self.tell(Phase::Comparing, table, before + count);
            if rows == 0 {
                break;
            }
        }
        if count != self.source.count(table) {
            return Ok(Err(format!(
                "there were {} when the copy was begun, now {count}",
                self.source.count(table)
            )));
        }
        if matches!(table, Table::Organisations | Table::People) {
            // A document that is the same claims the same head.
            self.report.heads += count;
        }
        Ok(Ok(count))
    }

    /// Takes the mark away, if nobody used either side meanwhile.
    async fn finish(&mut self, mark: &Mark) -> Result<()> {
        check_idle(&self.from, "source").await?;
        check_idle(&self.to, "target").await?;
        self.check_numbers().await?;
        if Standing::of(&self.from).await?.0 != mark.source {
            return Err(refused("the source was used while it was copied; empty the target and begin anew"));
        }
        self.to.finish(mark.write()).await
    }

    fn tell(&mut self, phase: Phase, table: Table, done: u64) {
        (self.tell)(Progress { phase, table: table.name(), done, total: self.source.total() });
    }
}

/// One end of a copy.
enum End {
    Sqlite(sqlite::copy::End),
    Postgres(postgres::copy::End),
}

/// Runs an operation on whichever engine this is.
macro_rules! engine {
    ($end:expr, $engine:ident => $operation:expr) => {
        match $end {
            End::Sqlite($engine) => $operation,
            End::Postgres($engine) => $operation,
        }
    };
}

impl End {
    /// Opens a database that is there.
    async fn source(settings: &Data) -> Result<Self> {
        match settings.is_remote() {
            true => Ok(Self::Postgres(postgres::copy::End::source(settings).await?)),
            false => Ok(Self::Sqlite(sqlite::copy::End::source(&settings.directory)?)),
        }
    }

    /// Opens a database, and makes the tables where there is nothing.
    async fn target(settings: &Data) -> Result<Self> {
        match settings.is_remote() {
            true => Ok(Self::Postgres(postgres::copy::End::target(settings).await?)),
            false => Ok(Self::Sqlite(sqlite::copy::End::target(&settings.directory)?)),
        }
    }

    /// Returns how many servers were seen on it within the last minute. An embedded database that was opened has none.
    async fn servers(&self) -> Result<u64> {
        match self {
            Self::Sqlite(_) => Ok(0),
            Self::Postgres(engine) => engine.servers().await,
        }
    }

    /// Tells whether its audit rows name the ones before them.
    const fn links_events(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// Returns the smallest number it would give to a row now, and the time there, if numbers are made of the time.
    async fn next_number(&self) -> Result<Option<(i64, Timestamp)>> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(engine) => engine.next_number().await.map(Some),
        }
    }

    async fn tally(&self) -> Result<Tally> {
        engine!(self, engine => engine.tally().await)
    }

    /// Returns the mark of an unfinished copy.
    async fn mark(&self) -> Result<Option<Vec<u8>>> {
        engine!(self, engine => engine.mark().await)
    }

    /// Sets the mark in a database that holds nothing; false, and nothing changed, if it holds anything.
    async fn begin(&self, mark: Vec<u8>) -> Result<bool> {
        engine!(self, engine => engine.begin(mark).await)
    }

    /// Returns a page of a table after a place, audit rows with the ones before them if they are to be linked.
    async fn read(&self, table: Table, after: Option<Place>, is_linked: bool) -> Result<Rows> {
        engine!(self, engine => engine.read(table, after, is_linked).await)
    }

    /// Adds rows in one commit that replaces the mark; where the mark is another one, nothing.
    async fn write(&self, rows: Rows, mark: Vec<u8>, next: Vec<u8>) -> Result<()> {
        engine!(self, engine => engine.write(Some(rows), mark, next).await)
    }

    /// Replaces the mark.
    async fn pass(&self, mark: Vec<u8>, next: Vec<u8>) -> Result<()> {
        engine!(self, engine => engine.write(None, mark, next).await)
    }

    /// Takes the mark away.
    async fn finish(&self, mark: Vec<u8>) -> Result<()> {
        engine!(self, engine => engine.finish(mark).await)
    }
}

fn not_empty() -> Error {
    refused(
        "the target is not empty; choose an empty one (an empty directory, or a database fresh from createdb)",
    )
}

/// Says that there is nothing to copy.
pub(super) fn nothing_there() -> Error {
    refused("there is no installation in the source")
}

/// Says that a database is of an earlier version.
pub(super) fn outdated() -> Error {
    refused("a database has the schema of an earlier version; run countersign store migrate on it first")
}

/// Says that somebody else moved the mark.
pub(super) fn overtaken() -> Error {
    refused("another countersign store copy is at work on the target; let it end")
}
