//! Keeping the audit trail for so long and no longer: what is older is archived, then pruned, a little at a time.
//!
//! Rows go in the order of their commits, never out of the middle, and only those a checkpoint covers that still holds. What
//! stays to be known of them is an anchor for each chain, where its pruned part ends, and the edge: up to where the whole
//! trail is gone. The edge is signed and sums up the anchors, so that whoever can write to the database can move neither.

use super::{
    archive::Archive,
    audit::{self, Statement},
};
use crate::{
    app::App,
    clock::Clock,
    error::{Error, Result},
    keys::Keys,
    store::{Anchor, AuditRow, EDGE, Pruning, Store},
};
use countersign_core::{
    Keyring, Timestamp,
    event::{ChainHead, Event, Hash},
    keyring::{Binding, KeyId, Purpose},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use uuid::Uuid;

/// How many rows go in one commit, so that no verification waits for long.
const STEP: usize = 500;
/// How many rows or anchors are read at a time where nobody waits for them.
const PAGE: usize = 2_000;
/// The shortest rest between two steps.
const REST: Duration = Duration::from_millis(5);
/// How many times as long as a step takes the rest after it lasts: most of the time belongs to others.
const RESTS: u32 = 4;
/// A day.
const DAY: Duration = Duration::from_secs(86_400);
/// What a signed edge is called.
const KIND: &str = "countersign-audit-edge+jws";

/// Up to where the trail was pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Edge {
    /// The newest row that is gone; all before it are, too.
    pub(super) row: i64,
    /// How many are.
    pub(super) rows: u64,
    /// The digest of their hashes, as checkpoints have it.
    pub(super) digest: Hash,
    /// The newest checkpoint of which no row is left.
    checkpoint: u64,
    /// The sum of all anchors' keyed hashes, and the key they were made with.
    anchors: String,
    key: KeyId,
    at: Timestamp,
}

impl Edge {
    /// Reads the edge; the message says why it cannot be believed.
    pub(super) fn open(stored: &[u8], keys: &Keys) -> Result<Self, String> {
        let jws = std::str::from_utf8(stored).map_err(|_| "it is malformed".to_owned())?;
        audit::open_signed(KIND, jws, keys.signing())
    }

    /// The one of a trail that was never pruned.
    fn first(keys: &Keys, now: Timestamp) -> Result<Self> {
        let key = keys.tag(&binding(Uuid::nil()), None, &[])?.key;
        Ok(Self {
            row: 0,
            rows: 0,
            digest: Hash::default(),
            checkpoint: 0,
            anchors: Sum::default().text(),
            key,
            at: now,
        })
    }
}

/// Where the pruned part of a chain ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ending {
    pub(super) head: ChainHead,
    pub(super) roster: Roster,
}

/// What an organisation's chain says of a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Roster {
    /// Nothing, or nothing yet.
    #[default]
    Nothing,
    /// That they were created.
    Created,
    /// That they were deleted, and where their chain ended then.
    Deleted(ChainHead),
}

impl Roster {
    /// Returns of whom an event says so.
    pub(super) fn told_by(event: &Event) -> Option<(Uuid, Self)> {
        use countersign_core::{Action, event::Subject};
        let Subject::Organisation(_) = event.subject else { return None };
        let detail = |name: &str| event.details.get(name).and_then(serde_json::Value::as_str);
        let user = Uuid::try_parse(detail("user")?).ok()?;
        match event.action {
            Action::UserCreated => Some((user, Self::Created)),
            Action::UserDeleted => {
                let hash = serde_json::from_value(event.details.get("hash").cloned().unwrap_or_default());
                let seq = event.details.get("seq").and_then(serde_json::Value::as_u64).unwrap_or(0);
                Some((user, Self::Deleted(ChainHead { seq, hash: hash.unwrap_or_default() })))
            }
            _ => None,
        }
    }
}

impl Ending {
    fn read(anchor: &Anchor) -> Option<Self> {
        let ending: Self = serde_json::from_slice(&anchor.body).ok()?;
        (ending.head.seq == anchor.seq).then_some(ending)
    }

    fn anchor(&self, subject: Uuid) -> Anchor {
        let body = serde_json::to_vec(self).expect("an ending has string keys only, so it is always JSON");
        Anchor { subject, seq: self.head.seq, body }
    }

    /// Tells whether nothing of the chain is left, and nobody whose it is.
    fn is_finished(&self) -> bool {
        matches!(self.roster, Roster::Deleted(head) if head == self.head)
    }
}

/// The sum of anchors' keyed hashes: it changes with each of them and does not depend on their order. Whoever has no key can
/// neither compute a hash nor know what another one would have to be for the sum to stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum(u128);

impl Sum {
    fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }

    fn text(self) -> String {
        format!("{:032x}", self.0)
    }

    fn add(&mut self, keys: &Keys, key: KeyId, anchor: &Anchor) -> Result<()> {
        self.0 = self.0.wrapping_add(weight(keys, key, anchor)?);
        Ok(())
    }

    fn remove(&mut self, keys: &Keys, key: KeyId, anchor: &Anchor) -> Result<()> {
        self.0 = self.0.wrapping_sub(weight(keys, key, anchor)?);
        Ok(())
    }
}

fn weight(keys: &Keys, key: KeyId, anchor: &Anchor) -> Result<u128> {
    Ok(u128::from_be_bytes(keys.tag(&binding(anchor.subject), Some(key), &anchor.body)?.bytes))
}

fn binding(subject: Uuid) -> Binding {
    Binding::of_installation(Purpose::AuditAnchor, subject)
}

/// Reads where the pruned parts of chains end; tells whether it is all that an edge sums up. What is not readable is left out.
pub(super) async fn read_endings(
    store: &Store,
    keys: &Keys,
    edge: &Edge,
    mut each: impl FnMut(Uuid, Ending),
) -> Result<bool> {
    let mut sum = Sum::default();
    let mut after = Uuid::nil();
    loop {
        let anchors = store.anchors(after, PAGE).await?;
        let Some(last) = anchors.last() else { break };
        after = last.subject;
        for anchor in &anchors {
            sum.add(keys, edge.key, anchor)?;
            if let Some(ending) = Ending::read(anchor) {
                each(anchor.subject, ending);
            }
        }
    }
    Ok(Sum::parse(&edge.anchors) == Some(sum))
}

/// Prunes what is older than the configuration says, if it says so; returns how many events that were.
pub async fn keep(app: &App) -> Result<u64> {
    let kept = &app.config.audit;
    let Some(directory) = kept.archive_directory.as_deref().filter(|_| kept.keep_days > 0) else {
        return Ok(0);
    };
    let millis = i64::try_from(DAY.saturating_mul(kept.keep_days).as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp::from_millis(app.clock.now().millis().saturating_sub(millis));
    let tell = |step: Step| app.metrics.pruned(step.events);
    let pruned = prune(&app.store, &app.keys, &app.clock, directory, before, tell).await?;
    app.metrics.pruning_ended(app.clock.now());
    Ok(pruned)
}

/// Events that went together.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// How many.
    pub events: u64,
    /// How long it took to archive and to prune them.
    pub took: Duration,
}

/// Archives events from before a time in a directory and prunes them; returns how many that were.
///
/// `tell` is told of each step, before the rest after it. It ends early, and nothing is lost, at the first event that is not old
/// enough, and where somebody else is pruning.
pub async fn prune(
    store: &Store,
    keys: &Keys,
    clock: &Clock,
    directory: &Path,
    before: Timestamp,
    mut tell: impl FnMut(Step),
) -> Result<u64> {
    let stored = store.meta(EDGE).await?;
    let edge = match &stored {
        None => Edge::first(keys, clock.now())?,
        Some(stored) => Edge::open(stored, keys)
            .map_err(|why| broken(&format!("how far it was pruned cannot be believed: {why}")))?,
    };
    let directory = directory.to_owned();
    let archive = on_disk(move || Archive::open(&directory)).await?;
    let mut run = Run { store, keys, clock, before, archive: Some(archive), stored, edge };
    let mut pruned = 0;
    while let Some(span) = run.next_span().await? {
        loop {
            let begun = Instant::now();
            let events = run.step(&span).await?;
            if events == 0 {
                break;
            }
            let took = begun.elapsed();
            pruned += events;
            tell(Step { events, took });
            sleep((took * RESTS).max(REST)).await;
        }
    }
    Ok(pruned)
}

fn broken(what: &str) -> Error {
    Error::Store(format!(
        "prune audit trail: {what}; nothing more was pruned, countersign audit verify says more"
    ))
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Internal(format!("archive events: {error}"))))
}

/// Rows that one checkpoint covers and that hold.
struct Span {
    /// The last of them that may go.
    until: i64,
    checkpoint: Statement,
}

struct Run<'a> {
    store: &'a Store,
    keys: &'a Keys,
    clock: &'a Clock,
    before: Timestamp,
    /// Away while it is written to.
    archive: Option<Archive>,
    /// The edge as it is stored.
    stored: Option<Vec<u8>>,
    edge: Edge,
}

impl Run<'_> {
    /// Returns the rows up to the next checkpoint, if the first of them is to go. What somebody tampered with is left as it
    /// is, for whoever looks into it.
    async fn next_span(&self) -> Result<Option<Span>> {
        let next = self.store.checkpoints(self.edge.checkpoint, 2).await?;
        let Some(checkpoint) = next.first() else { return Ok(None) };
        let checkpoint = audit::open(checkpoint, self.keys.signing()).map_err(|why| broken(&why))?;
        // The newest row of all stays: the numbers of rows go on from it.
        let until = if next.len() > 1 { checkpoint.row } else { checkpoint.row - 1 };
        let span = Span { until, checkpoint };
        if self.rows_to_go(&span, 1).await?.is_empty() {
            return Ok(None);
        }
        self.check(&span.checkpoint).await?;
        Ok(Some(span))
    }

    /// Checks that rows are what a checkpoint says they were.
    async fn check(&self, checkpoint: &Statement) -> Result<()> {
        let (mut digest, mut after) = (self.edge.digest, self.edge.row);
        while after < checkpoint.row {
            let mut rows = self.store.audit_rows(after, PAGE).await?;
            rows.retain(|row| row.row <= checkpoint.row);
            let Some(last) = rows.last() else { break };
            after = last.row;
            digest = rows.iter().fold(digest, |digest, row| audit::extend(digest, row.hash));
        }
        match digest == checkpoint.digest {
            true => Ok(()),
            false => Err(broken(&format!(
                "rows up to {}, which checkpoint {} covers, were changed or removed",
                checkpoint.row, checkpoint.seq
            ))),
        }
    }

    /// Returns the oldest rows, as far as they are old enough.
    async fn rows_to_go(&self, span: &Span, limit: usize) -> Result<Vec<(AuditRow, Event)>> {
        let mut old = Vec::new();
        for row in self.store.audit_rows(self.edge.row, limit).await? {
            let event: Event = serde_json::from_slice(&row.body)
                .map_err(|_| broken(&format!("audit row {} is not readable", row.row)))?;
            if row.row > span.until || event.at >= self.before {
                break;
            }
            old.push((row, event));
        }
        Ok(old)
    }

    /// Archives and prunes a few rows; returns how many.
    async fn step(&mut self, span: &Span) -> Result<u64> {
        let rows = self.rows_to_go(span, STEP).await?;
        let Some(until) = rows.last().map(|(row, _)| row.row) else { return Ok(0) };
        let count = rows.len() as u64;
        let mut edge = Edge {
            row: until,
            rows: self.edge.rows + count,
            digest: rows.iter().fold(self.edge.digest, |digest, (row, _)| audit::extend(digest, row.hash)),
            at: self.clock.now(),
            ..self.edge.clone()
        };
        if until == span.checkpoint.row {
            edge.checkpoint = span.checkpoint.seq;
        }
        let (anchors, finished) = self.move_anchors(&rows, &mut edge).await?;
        self.archive(rows.into_iter().map(|(row, _)| row).collect()).await?;

        let signed = audit::sign(KIND, &edge, self.keys.signing()).into_bytes();
        let pruning = Pruning {
            before: self.stored.clone(),
            edge: signed.clone(),
            after: self.edge.row,
            until,
            anchors,
            finished,
        };
        if !self.store.prune_audit(pruning).await? {
            return Err(Error::Store("prune audit trail: somebody else is pruning it".into()));
        }
        (self.stored, self.edge) = (Some(signed), edge);
        Ok(count)
    }

    /// Follows the chains of rows that go; returns where they end then, and which are of no more interest.
    async fn move_anchors(
        &self,
        rows: &[(AuditRow, Event)],
        edge: &mut Edge,
    ) -> Result<(Vec<Anchor>, Vec<Uuid>)> {
        let told = rows.iter().filter_map(|(_, event)| Roster::told_by(event)).map(|(user, _)| user);
        let touched: BTreeSet<Uuid> = rows.iter().map(|(row, _)| row.subject).chain(told).collect();
        let known = self.store.anchors_of(touched.iter().copied().collect()).await?;
        let mut sum = Sum::parse(&edge.anchors).ok_or_else(|| broken("its edge is malformed"))?;
        let mut endings: BTreeMap<Uuid, Ending> =
            touched.into_iter().map(|it| (it, Ending::default())).collect();
        for anchor in &known {
            sum.remove(self.keys, edge.key, anchor)?;
            let ending = Ending::read(anchor);
            let ending = ending.ok_or_else(|| broken("where a pruned chain ends is not readable"))?;
            endings.insert(anchor.subject, ending);
        }
        for (row, event) in rows {
            follow(&mut endings, row, event)?;
        }
        let (mut anchors, mut finished) = (Vec::new(), Vec::new());
        for (subject, ending) in endings {
            if ending.is_finished() {
                finished.push(subject);
                continue;
            }
            let anchor = ending.anchor(subject);
            sum.add(self.keys, edge.key, &anchor)?;
            anchors.push(anchor);
        }
        edge.anchors = sum.text();
        Ok((anchors, finished))
    }

    async fn archive(&mut self, rows: Vec<AuditRow>) -> Result<()> {
        let mut archive = self.archive.take().expect("it is away only while it is written to");
        self.archive = Some(
            on_disk(move || {
                archive.append(&rows)?;
                Ok(archive)
            })
            .await?,
        );
        Ok(())
    }
}

/// Follows a chain by one event, which has to be the one that comes next.
fn follow(endings: &mut BTreeMap<Uuid, Ending>, row: &AuditRow, event: &Event) -> Result<()> {
    let ending = endings.entry(row.subject).or_default();
    let head = ending.head.next(&row.body);
    let stands = (event.subject.uuid(), event.organisation, event.seq);
    if (head.seq, head.hash) != (row.seq, row.hash) || stands != (row.subject, row.organisation, row.seq) {
        return Err(broken(&format!(
            "audit row {} (event {} of {}) does not follow the one before it",
            row.row, row.seq, row.subject
        )));
    }
    ending.head = head;
    if let Some((user, roster)) = Roster::told_by(event) {
        endings.entry(user).or_default().roster = roster;
    }
    Ok(())
}
