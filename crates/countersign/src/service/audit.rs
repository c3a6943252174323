//! The audit trail: reading it, proving it, and signing checkpoints of it.
//!
//! Each person's and each organisation's events form a hash chain that ends in their document. A checkpoint signs a digest
//! of all rows in the order of their commits, so that whoever rewrites chains and documents together, or removes whole
//! people, is found too.

use super::{
    archive::Reader,
    retention::{self, Edge, Ending, Roster},
};
use crate::{
    app::{App, Asker},
    error::{Error, Result},
    keys::{Keys, SigningKey},
    store::{AuditFilter, AuditRow, AuditSpan, Checkpoint, ClaimedHead, EDGE, Numbered, Page, Store},
};
use countersign_core::{
    Action, OrganisationId, Timestamp, UserId,
    event::{ChainHead, Event, Hash, Subject},
};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem::take,
    path::PathBuf,
    time::Duration,
};
use tokio::{task::spawn_blocking, time::sleep};
use uuid::Uuid;

/// How many rows are read at a time.
const ROWS: usize = 2_000;
/// After so many findings the rest is only counted: the trail is lost anyway.
const SHOWN_FINDINGS: usize = 100;
/// How often a verification begins again because the trail was pruned under its hands, and how long it waits before.
const ATTEMPTS: usize = 100;
const PAUSE: Duration = Duration::from_secs(3);
/// What a signed checkpoint is called.
const KIND: &str = "countersign-checkpoint+jws";

/// Returns a page of the organisation's events, newest first.
pub async fn list(
    app: &App,
    asker: &Asker,
    filter: &AuditFilter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Event>> {
    app.store.audit(asker.organisation.id, filter, after, limit).await
}

/// Returns a page of the organisation's events oldest first, for another system to keep; and how many there are.
pub async fn export(
    app: &App,
    asker: &Asker,
    span: &AuditSpan,
    offset: u64,
    limit: usize,
) -> Result<(Vec<Numbered>, u64)> {
    app.store.audit_span(asker.organisation.id, span, offset, limit).await
}

/// What a verification of the whole trail found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Audit rows read.
    pub rows: u64,
    /// Rows that were pruned. Together with those that are there they only ever grow.
    pub pruned: u64,
    /// How many of the pruned rows were read from the archive.
    pub archived: u64,
    /// Chains of people that were checked, also of deleted ones.
    pub people: u64,
    /// Chains of organisations that were checked.
    pub organisations: u64,
    /// Checkpoints whose signature and digest were checked.
    pub checkpoints: u64,
    /// What is wrong, in words; empty if the trail holds.
    pub findings: Vec<String>,
    /// How many findings there are, also beyond those shown.
    pub finding_count: u64,
}

impl Report {
    /// Tells whether the trail holds.
    pub const fn holds(&self) -> bool {
        self.finding_count == 0
    }

    fn found(&mut self, finding: String) {
        self.finding_count += 1;
        if self.findings.len() < SHOWN_FINDINGS {
            self.findings.push(finding);
        }
    }
}

/// Reads the whole trail and holds it against hashes, documents and checkpoints.
///
/// Others may go on writing meanwhile: what is in the order of rows for good is read first, then the documents, then as much of
/// the rest as those documents claim. Memory grows with the number of people (about 100 bytes each), not with the number of
/// events.
///
/// What was pruned is read from the archives, if there are any; else it is taken for what the signed edge says it was.
pub async fn verify(store: &Store, keys: &Keys, archives: &[PathBuf]) -> Result<Report> {
    for _ in 0..ATTEMPTS {
        if let Some(report) = attempt(store, keys, archives).await? {
            return Ok(report);
        }
        sleep(PAUSE).await;
    }
    Err(Error::Store("verify audit trail: it is being pruned all the time; try again later".into()))
}

/// Verifies the trail, unless it is pruned meanwhile.
async fn attempt(store: &Store, keys: &Keys, archives: &[PathBuf]) -> Result<Option<Report>> {
    let mut proof = Proof::default();
    let checkpoints = proof.read_checkpoints(store, keys.signing()).await?;
    let stored = store.meta(EDGE).await?;
    if let Some(stored) = &stored {
        proof.begin_at_edge(store, keys, stored).await?;
    }
    if store.meta(EDGE).await? != stored {
        return Ok(None);
    }
    if !archives.is_empty() {
        proof.read_archives(archives, &checkpoints).await?;
    }
    let horizon = store.audit_horizon().await?;
    let Some(settled) = proof.read_rows(store, keys, &checkpoints, horizon).await? else { return Ok(None) };
    proof.compare_documents(store).await?;
    proof.read_claimed(store, settled).await?;
    proof.compare_claims();
    proof.claim_departed();
    proof.read_claimed(store, settled).await?;
    proof.compare_roster();
    Ok(Some(proof.report))
}

/// What a checkpoint signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statement {
    pub(super) seq: u64,
    at: Timestamp,
    /// The newest row it covers.
    pub(super) row: i64,
    /// The digest of the hashes of all rows up to it.
    pub(super) digest: Hash,
}

/// Signs a checkpoint of what was committed since the last one; tells whether there was anything.
pub async fn checkpoint(app: &App) -> Result<bool> {
    let signing = app.keys.signing();
    let last = app.store.last_checkpoint().await?;
    let last = last.map(|checkpoint| open(&checkpoint, signing)).transpose().map_err(Error::Internal)?;
    let before = last.as_ref().map_or(0, |statement| statement.row);
    let mut digest = last.as_ref().map_or(Hash::default(), |statement| statement.digest);
    let mut row = before;
    // Beyond it other nodes may still add events between those that are there.
    let horizon = app.store.audit_horizon().await?;
    loop {
        let mut rows = app.store.audit_rows(row, ROWS).await?;
        rows.retain(|row| row.row <= horizon);
        let Some(newest) = rows.last() else { break };
        row = newest.row;
        digest = rows.iter().fold(digest, |digest, row| extend(digest, row.hash));
    }
    if row == before {
        return Ok(false);
    }
    let seq = last.map_or(1, |statement| statement.seq + 1);
    let statement = Statement { seq, at: app.clock.now(), row, digest };
    let signed = Checkpoint { seq, at: statement.at, jws: sign(KIND, &statement, signing) };
    match app.store.append_checkpoint(signed).await {
        // Somebody else signed one in this moment; theirs serves as well.
        Err(Error::Conflict(_)) => Ok(false),
        appended => appended.map(|()| true),
    }
}

/// Returns the digest of all rows up to one, from that of those before it.
pub(super) fn extend(digest: Hash, row: Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(digest.0);
    hasher.update(row.0);
    Hash(hasher.finalize().into())
}

/// Writes a statement of some kind as a compact JWS (RFC 7515 §3.1) with EdDSA.
pub(super) fn sign(kind: &str, statement: &impl Serialize, key: &SigningKey) -> String {
    let header = serde_json::json!({ "alg": "EdDSA", "kid": key.id, "typ": kind });
    let payload = serde_json::to_vec(statement).expect("a statement is always JSON");
    let signed = format!(
        "{}.{}",
        BASE64URL_NOPAD.encode(header.to_string().as_bytes()),
        BASE64URL_NOPAD.encode(&payload)
    );
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&key.sign(signed.as_bytes())))
}

/// Reads a checkpoint; the message says why it cannot be believed.
pub(super) fn open(checkpoint: &Checkpoint, key: &SigningKey) -> Result<Statement, String> {
    open_signed(KIND, &checkpoint.jws, key).map_err(|why| format!("checkpoint {}: {why}", checkpoint.seq))
}

/// Reads a signed statement of some kind; the message says why it cannot be believed.
pub(super) fn open_signed<T: DeserializeOwned>(kind: &str, jws: &str, key: &SigningKey) -> Result<T, String> {
    let malformed = || "it is malformed".to_owned();
    let (signed, signature) = jws.rsplit_once('.').ok_or_else(malformed)?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| malformed());
    if !key.verify(signed.as_bytes(), &decode(signature)?) {
        return Err("its signature does not hold".into());
    }
    let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
    let header: serde_json::Value = serde_json::from_slice(&decode(header)?).map_err(|_| malformed())?;
    if header["typ"] != kind {
        return Err("something else was signed".into());
    }
    serde_json::from_slice(&decode(payload)?).map_err(|_| malformed())
}

/// The state of a verification.
#[derive(Default)]
struct Proof {
    report: Report,
    /// Up to where rows were pruned.
    edge: Option<Edge>,
    /// The head of each chain as far as it was read.
    chains: HashMap<Uuid, ChainHead>,
    /// Who was created and deleted, according to the organisations' chains.
    roster: HashMap<Uuid, Enrolled>,
    /// What documents claim beyond what was read of their chains by then.
    claims: HashMap<Uuid, ClaimedHead>,
    /// People whose creation was not read by then.
    newcomers: Vec<UserId>,
    /// People who were created and deleted after their organisation's document was read.
    joiners: HashSet<Uuid>,
    leavers: HashSet<Uuid>,
}

enum Enrolled {
    Present { has_document: bool },
    Deleted { head: ChainHead },
}

impl Enrolled {
    const fn roster(&self) -> Roster {
        match self {
            Self::Present { .. } => Roster::Created,
            Self::Deleted { head } => Roster::Deleted(*head),
        }
    }
}

/// Tells whether rows after a number were pruned. What cannot be believed was said before.
async fn is_pruned_beyond(store: &Store, keys: &Keys, row: i64) -> Result<bool> {
    let edge = store.meta(EDGE).await?.and_then(|stored| Edge::open(&stored, keys).ok());
    Ok(edge.is_some_and(|edge| edge.row > row))
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Internal(format!("read archive: {error}"))))
}

impl Proof {
    async fn read_checkpoints(
        &mut self,
        store: &Store,
        key: &SigningKey,
    ) -> Result<BTreeMap<i64, Statement>> {
        let mut statements = BTreeMap::new();
        let mut last = 0;
        loop {
            let page = store.checkpoints(last, ROWS).await?;
            if page.is_empty() {
                return Ok(statements);
            }
            for checkpoint in page {
                match open(&checkpoint, key) {
                    Ok(statement) if statement.seq != last + 1 || statement.seq != checkpoint.seq => {
                        self.report
                            .found(format!("checkpoint {}: those before it are missing", checkpoint.seq));
                    }
                    Ok(statement) => {
                        self.report.checkpoints += 1;
                        statements.insert(statement.row, statement);
                    }
                    Err(finding) => self.report.found(finding),
                }
                last = checkpoint.seq;
            }
        }
    }

    /// Begins where the trail was pruned up to.
    async fn begin_at_edge(&mut self, store: &Store, keys: &Keys, stored: &[u8]) -> Result<()> {
        let edge = match Edge::open(stored, keys) {
            Ok(edge) => edge,
            Err(why) => {
                self.report.found(format!("how far the trail was pruned cannot be believed: {why}"));
                return Ok(());
            }
        };
        let each = |subject, ending: Ending| {
            self.chains.insert(subject, ending.head);
            self.note_roster(subject, ending.roster);
        };
        if !retention::read_endings(store, keys, &edge, each).await? {
            self.report.found("pruned chains: where some of them end was changed or removed".into());
        }
        self.report.pruned = edge.rows;
        self.edge = Some(edge);
        Ok(())
    }

    /// Reads from archives what was pruned: it has to lead up to what the database says of its edge.
    async fn read_archives(
        &mut self,
        archives: &[PathBuf],
        checkpoints: &BTreeMap<i64, Statement>,
    ) -> Result<()> {
        let edge = self.edge.clone();
        let until = edge.as_ref().map_or(0, |edge| edge.row);
        let (chains, roster) = (take(&mut self.chains), take(&mut self.roster));
        let directories = archives.to_owned();
        let mut reader = on_disk(move || Reader::open(&directories)).await?;
        let (mut digest, mut checked) = (Hash::default(), 0);
        loop {
            let page;
            (page, reader) = on_disk(move || Ok((reader.page(ROWS), reader))).await?;
            // What is wrong with a line is said of the line; whatever comes after it is of no more use.
            let rows = page.unwrap_or_else(|error| {
                self.report.found(error.to_string());
                Vec::new()
            });
            let is_last = rows.last().is_none_or(|row| row.row > until);
            // Beyond the edge are rows that are still in the database: their pruning was cut short.
            for row in rows.iter().filter(|row| row.row <= until) {
                self.report.archived += 1;
                checked += usize::from(self.fold(row, &mut digest, checkpoints));
            }
            if is_last {
                break;
            }
        }
        if let Some(edge) = edge {
            if self.report.archived != edge.rows || digest != edge.digest {
                let (has, rows) = (self.report.archived, edge.rows);
                self.report.found(format!(
                    "archive: its {has} events are not the {rows} that were pruned from the database"
                ));
            }
            let expected = checkpoints.range(..=until).count();
            if checked < expected {
                self.report.found(format!(
                    "{} checkpoints name rows that the archive does not have",
                    expected - checked
                ));
            }
        }
        self.compare_endings(&chains, &roster);
        Ok(())
    }

    /// Holds what the archive says of chains against where the database goes on with them, and goes on from there.
    fn compare_endings(&mut self, chains: &HashMap<Uuid, ChainHead>, roster: &HashMap<Uuid, Enrolled>) {
        for (subject, head) in chains {
            let read = self.chains.insert(*subject, *head).unwrap_or_default();
            let said = |roster: &HashMap<_, Enrolled>| roster.get(subject).map(Enrolled::roster);
            if read != *head || said(&self.roster) != said(roster) {
                let (has, says) = (read.seq, head.seq);
                self.report.found(format!(
                    "{subject}: the archive ends at event {has}, the database goes on after event {says}"
                ));
            }
        }
        // Of people who are gone with all of their events the database needs to know nothing.
        let is_known = |subject: &Uuid| {
            chains.contains_key(subject) || matches!(self.roster.get(subject), Some(Enrolled::Deleted { .. }))
        };
        let lost: Vec<Uuid> = self.chains.keys().filter(|subject| !is_known(subject)).copied().collect();
        for subject in lost {
            self.report
                .found(format!("{subject}: the archive has events that the database does not know of"));
        }
    }

    /// Reads the rows up to a number; returns that of the last one, `None` if rows were pruned meanwhile.
    async fn read_rows(
        &mut self,
        store: &Store,
        keys: &Keys,
        checkpoints: &BTreeMap<i64, Statement>,
        horizon: i64,
    ) -> Result<Option<i64>> {
        let edge = self.edge.as_ref().map(|edge| (edge.row, edge.digest));
        let (mut after, mut digest) = edge.unwrap_or_default();
        if checkpoints.get(&after).is_some_and(|statement| statement.digest != digest) {
            self.report.found(format!("rows up to {after} were changed or removed before they were pruned"));
        }
        let expected = checkpoints.range(after + 1..).count();
        let mut checked = 0;
        loop {
            let mut rows = store.audit_rows(after, ROWS).await?;
            rows.retain(|row| row.row <= horizon);
            if is_pruned_beyond(store, keys, after).await? {
                return Ok(None);
            }
            let Some(newest) = rows.last() else { break };
            after = newest.row;
            for row in &rows {
                self.report.rows += 1;
                checked += usize::from(self.fold(row, &mut digest, checkpoints));
            }
        }
        if checked < expected {
            self.report.found(format!("{} checkpoints name rows that are gone", expected - checked));
        }
        Ok(Some(after))
    }

    /// Checks a row and adds it to the digest; tells whether a checkpoint covers it as the last one.
    fn fold(&mut self, row: &AuditRow, digest: &mut Hash, checkpoints: &BTreeMap<i64, Statement>) -> bool {
        self.check_row(row);
        *digest = extend(*digest, row.hash);
        let Some(statement) = checkpoints.get(&row.row) else { return false };
        if statement.digest != *digest {
            let seq = statement.seq;
            self.report.found(format!("checkpoint {seq}: rows up to {} were changed or removed", row.row));
        }
        true
    }

    /// Reads the rows after a number as far as documents claim them: these are all there, those after them need not be.
    async fn read_claimed(&mut self, store: &Store, mut after: i64) -> Result<()> {
        loop {
            let rows = store.audit_rows(after, ROWS).await?;
            let Some(newest) = rows.last() else { return Ok(()) };
            after = newest.row;
            for row in &rows {
                let read = self.chains.get(&row.subject).map_or(0, |head| head.seq);
                let claimed = self.claims.get(&row.subject).map_or(0, |claimed| claimed.head.seq);
                if (read + 1..=claimed).contains(&row.seq) {
                    self.report.rows += 1;
                    self.check_row(row);
                } else {
                    self.note_unclaimed(row);
                }
            }
        }
    }

    /// Notes who joined and left after the documents were read.
    fn note_unclaimed(&mut self, row: &AuditRow) {
        let Ok(event) = serde_json::from_slice::<Event>(&row.body) else { return };
        let user = event.details.get("user").and_then(serde_json::Value::as_str);
        let Some(user) = user.and_then(|id| Uuid::try_parse(id).ok()) else { return };
        match event.action {
            Action::UserCreated => drop(self.joiners.insert(user)),
            Action::UserDeleted => drop(self.leavers.insert(user)),
            _ => {}
        }
    }

    fn check_row(&mut self, row: &AuditRow) {
        let head = self.chains.entry(row.subject).or_default();
        let expected = head.next(&row.body);
        let event: Option<Event> = serde_json::from_slice(&row.body).ok();
        let fault = match &event {
            None => Some("it is not readable"),
            Some(_) if expected.hash != row.hash => {
                Some("its content or an event before it was changed or removed")
            }
            Some(event)
                if event.subject.uuid() != row.subject
                    || event.organisation != row.organisation
                    || event.seq != row.seq
                    || event.seq != expected.seq =>
            {
                Some("it was moved")
            }
            Some(_) => None,
        };
        // Going on from the stored hash, one edit is one finding.
        *head = ChainHead { seq: row.seq, hash: row.hash };
        if let Some(fault) = fault {
            let (number, subject, seq) = (row.row, row.subject, row.seq);
            self.report.found(format!("audit row {number} (event {seq} of {subject}): {fault}"));
        }
        if let Some((user, roster)) = event.as_ref().and_then(Roster::told_by) {
            self.note_roster(user, roster);
        }
    }

    fn note_roster(&mut self, user: Uuid, roster: Roster) {
        let enrolled = match roster {
            Roster::Nothing => return,
            Roster::Created => Enrolled::Present { has_document: false },
            Roster::Deleted(head) => Enrolled::Deleted { head },
        };
        self.roster.insert(user, enrolled);
    }

    async fn compare_documents(&mut self, store: &Store) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = store.claimed_heads(after.as_deref(), ROWS).await?;
            for claimed in page.items {
                self.compare_document(claimed.subject, claimed.head);
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn compare_document(&mut self, subject: Subject, claimed: ChainHead) {
        if self.read(subject) != claimed {
            self.claims.insert(subject.uuid(), ClaimedHead { subject, head: claimed });
        }
        match (subject, self.roster.get_mut(&subject.uuid())) {
            (Subject::Organisation(_), _) => self.report.organisations += 1,
            (Subject::User(_), Some(Enrolled::Present { has_document })) => {
                self.report.people += 1;
                *has_document = true;
            }
            (Subject::User(id), _) => self.newcomers.push(id),
        }
    }

    /// Returns the head of a chain as far as it was read.
    fn read(&self, subject: Subject) -> ChainHead {
        self.chains.get(&subject.uuid()).copied().unwrap_or_default()
    }

    /// Holds what was read meanwhile against what documents claimed.
    fn compare_claims(&mut self) {
        for ClaimedHead { subject, head } in take(&mut self.claims).into_values() {
            let read = self.read(subject);
            if read != head {
                let (has, says) = (read.seq, head.seq);
                let name = named(subject);
                self.report
                    .found(format!("{name}: the trail ends at event {has}, the document at event {says}"));
            }
        }
        for id in take(&mut self.newcomers) {
            if let Some(Enrolled::Present { has_document }) = self.roster.get_mut(&id.uuid()) {
                self.report.people += 1;
                *has_document = true;
            } else if self.joiners.contains(&id.uuid()) {
                self.report.people += 1;
            } else {
                let name = named(Subject::User(id));
                self.report.found(format!("{name}: the trail does not know of its creation"));
            }
        }
    }

    /// Claims what was said of chains when their people were deleted, of those who were while all this was read.
    fn claim_departed(&mut self) {
        for (user, enrolled) in &self.roster {
            if let Enrolled::Deleted { head } = enrolled
                && self.chains.get(user) != Some(head)
            {
                let subject = Subject::User(UserId::from_uuid(*user));
                self.claims.insert(*user, ClaimedHead { subject, head: *head });
            }
        }
    }

    fn compare_roster(&mut self) {
        for (user, enrolled) in take(&mut self.roster) {
            match enrolled {
                Enrolled::Present { has_document: true } => {}
                Enrolled::Present { has_document: false } if self.leavers.contains(&user) => {}
                Enrolled::Present { has_document: false } => {
                    self.report.found(format!(
                        "user {user}: the document is gone, but no event says it was deleted"
                    ));
                }
                Enrolled::Deleted { head } => {
                    self.report.people += 1;
                    if self.chains.get(&user) != Some(&head) {
                        self.report
                            .found(format!("user {user} (deleted): the trail does not end where it did"));
                    }
                }
            }
        }
    }
}

fn named(subject: Subject) -> String {
    match subject {
        Subject::User(id) => format!("user {id}"),
        Subject::Organisation(id) => format!("organisation {id}"),
    }
}

/// Reads the organisation's whole selection page by page, for an export.
pub async fn export_page(
    app: &App,
    organisation: OrganisationId,
    filter: &AuditFilter,
    after: Option<&str>,
) -> Result<Page<Event>> {
    app.store.audit(organisation, filter, after, 200).await
}
