//! The store: the only code that commits, and the only place with SQL.
//!
//! One primitive changes the world: [`Store::change`] loads a person's document, runs a pure function on it, and commits
//! the new document with its audit events and messages in one atomic, durable commit, guarded by the document's version.
//! Nothing is answered before the commit. The function may run more than once, so it has no side effect.
//!
//! Each engine is a concrete type with these same operations; what they must do on any is in [`conformance`].

pub mod conformance;
pub mod copy;
mod cursor;
mod memory;
mod migration;
mod outbox;
pub mod postgres;
mod rows;
mod scratch;
pub mod search;
pub mod sqlite;

pub use outbox::{ChannelGauges, Claimed, Delivery, DeliveryFilter, DeliveryState, Settlement};

use crate::{
    config::Data,
    error::{Error, Result},
};
use countersign_core::{
    Action, ChallengeId, Channel, ClientId, DeliveryId, Handle, Organisation, OrganisationId, Refusal,
    Timestamp, User, UserId,
    event::{ChainHead, Event, Hash, Subject},
    keyring::Tag,
    lock::Method,
    profile::{DisplayName, Email},
    refusal::Invalid,
    role::Role,
    user::Status,
};
use postgres::Postgres;
use sqlite::Sqlite;
use std::{ops::Range, sync::Arc, time::Duration};
use uuid::Uuid;

/// How far a node's clock may be from its database's. More, and it serves nobody.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// The store. Cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// The embedded database.
    Sqlite(Arc<Sqlite>),
    /// PostgreSQL, for several nodes.
    Postgres(Arc<Postgres>),
}

/// Which people a list shows. Each filter is answered from an index, so there is one at a time, and a page costs what is on
/// it. Searches for a part of a name look at a limited number of people, and go on from there (see decision 0041).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UserFilter {
    /// Everybody, by number.
    #[default]
    All,
    /// Those whose username begins so (in the form names are matched by), by username.
    UsernamePrefix(String),
    /// Those with this status, by number.
    Status(Status),
    /// Those whose second step is on or off, by number.
    MfaEnabled(bool),
    /// Those whose highest role is this one, by number.
    Role(Role),
    /// Those with a lock on this method, by number.
    Locked(Method),
    /// The one with exactly this username (in the form names are matched by).
    Username(String),
    /// Those whose address contains this (in the form it is matched by), by number.
    EmailContains(String),
    /// Those whose given name contains this (in the form names are matched by), by number.
    GivenNameContains(String),
    /// Those whose family name contains this (in the form names are matched by), by number.
    FamilyNameContains(String),
    /// Those whose address, given name or family name contains this (in the form names are matched by), by number.
    NameContains(String),
    /// The one with this id.
    Id(UserId),
}

/// Another order of a counted list than its filter's own. People without what they are sorted by come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sorting {
    /// What people are sorted by, and then by number.
    pub by: SortKey,
    /// Whether the list is turned around.
    pub descending: bool,
}

impl Sorting {
    /// The order in which people were created.
    pub const BY_NUMBER: Self = Self { by: SortKey::Number, descending: false };
}

/// What a counted list of people can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// Their number, which is the order they were created in and so that of their ids.
    Number,
    /// Their address, in the form it is matched by.
    Email,
    /// Their given name, in the form names are matched by.
    GivenName,
    /// Their family name, in the form names are matched by.
    FamilyName,
}

/// Which audit events a list shows, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only the chain of this person (who may have been deleted).
    pub user: Option<UserId>,
    /// Only this action.
    pub action: Option<Action>,
    /// Only at or after this time.
    pub from: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
}

/// Which audit events are handed to another system, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditSpan {
    /// Only these actions.
    pub actions: Vec<Action>,
    /// Only later than this.
    pub after: Option<Timestamp>,
    /// Only until this, itself included.
    pub until: Option<Timestamp>,
}

/// The most events of a span that are counted and handed out. Who wants more asks for those after the last one's time.
pub const SPAN_MOST: u64 = 100_000;

/// Says that a span of events goes on behind what is handed out of it.
fn too_long() -> Error {
    let message = format!("a span is read to its first {SPAN_MOST} events; ask for those after the last one");
    Invalid::new("offset", message).into()
}

/// An event with the number of its row: the order of commits, and a name that no other event has.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// The row's number.
    pub row: i64,
    /// The event.
    pub event: Event,
}

/// A page of a list, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor to give for the next page; `None` on the last one. Opaque to callers.
    pub next: Option<String>,
}

/// An audit row as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The row's number: the order of commits.
    pub row: i64,
    /// Whose chain it stands in, as the index columns say.
    pub subject: Uuid,
    /// The organisation, as the index columns say.
    pub organisation: OrganisationId,
    /// The place in the chain, as the index columns say.
    pub seq: u64,
    /// The stored hash.
    pub hash: Hash,
    /// The exact bytes the hash covers.
    pub body: Vec<u8>,
}

/// The last link a document claims, to hold against the audit rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedHead {
    /// Whose document it is.
    pub subject: Subject,
    /// The head in the document.
    pub head: ChainHead,
}

/// Where the pruned part of a chain ends, in words of whoever prunes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Whose chain it is.
    pub subject: Uuid,
    /// The place of the newest event that was pruned; 0 if none was.
    pub seq: u64,
    /// What is to be known of the pruned part.
    pub body: Vec<u8>,
}

/// One step of pruning: the rows that go, and what stays to be known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruning {
    /// What `meta` holds under [`EDGE`] before the step. If it holds something else, nothing happens.
    pub before: Option<Vec<u8>>,
    /// What it holds afterwards.
    pub edge: Vec<u8>,
    /// The row after which rows go.
    pub after: i64,
    /// The last row that goes.
    pub until: i64,
    /// Where chains end now that lose rows.
    pub anchors: Vec<Anchor>,
    /// Chains of which nothing needs to be known any more: their people are gone, and all of their rows.
    pub finished: Vec<Uuid>,
}

/// Under what `meta` holds how far the audit trail was pruned.
pub const EDGE: &str = "audit-edge";

/// A signed statement about all chains at one time, kept in a chain of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The place in order, from 1.
    pub seq: u64,
    /// When it was made.
    pub at: Timestamp,
    /// The signed statement: a compact JWS.
    pub jws: String,
}

/// What decides on a document, boxed: an engine's part of a change is in the program once for each kind of answer, and not
/// once for each rule.
type Rule<D, T> = Box<dyn FnMut(&mut D) -> Result<T, Refusal> + Send>;

/// Waits for an operation of whichever engine this is.
///
/// PostgreSQL's is boxed: its many states would stand, moved along, in each request's future with the embedded store, too.
macro_rules! awaited {
    ($store:expr, $engine:ident => $operation:expr) => {
        match $store {
            Store::Sqlite($engine) => $operation.await,
            Store::Postgres($engine) => Box::pin($operation).await,
        }
    };
}

/// Runs an operation on whichever engine this is.
macro_rules! engine {
    ($store:expr, $engine:ident => $operation:expr) => {
        match $store {
            Store::Sqlite($engine) => $operation,
            Store::Postgres($engine) => $operation,
        }
    };
}

impl Store {
    /// Opens the store that the settings name, and brings it to the present schema. The error says what to do.
    pub async fn open(settings: &Data) -> Result<Self> {
        match settings.is_remote() {
            true => Ok(Self::Postgres(Postgres::open(settings).await?)),
            false => Ok(Self::Sqlite(Sqlite::open(&settings.directory)?)),
        }
    }

    /// Tells whether there is a store. Opening would make one.
    pub async fn exists(settings: &Data) -> Result<bool> {
        match settings.is_remote() {
            true => Postgres::exists(settings).await,
            false => Ok(Sqlite::exists(&settings.directory)),
        }
    }

    /// Brings a store to the present schema without serving from it; returns the names of the migrations that took.
    pub async fn migrate(settings: &Data) -> Result<Vec<&'static str>> {
        match settings.is_remote() {
            true => Postgres::migrate_only(settings).await,
            false => Sqlite::migrate_only(&settings.directory),
        }
    }

    /// Changes a person of an organisation; `Error::NotFound("user")` if there is none there.
    ///
    /// An `Err` of `decide` commits nothing. If `decide` recorded no event, nothing is written, but the answer still waits
    /// for everything decided before it to be durable. Messages that `decide` posted go into the outbox with the document;
    /// `Refusal::TooSoon` if a destination gets too many of them. Those it left unsealed are an `Error::Internal`.
    pub async fn change<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        user: UserId,
        decide: impl FnMut(&mut User) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        let decide: Rule<User, T> = Box::new(decide);
        awaited!(self, engine => engine.change(organisation, user, decide))
    }

    /// Changes the person a handle names: [`Store::find`] and [`Store::change`] in one step, which saves the way to the
    /// database and back where every microsecond counts.
    pub async fn change_by<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        handle: Handle,
        decide: impl FnMut(&mut User) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        let decide: Rule<User, T> = Box::new(decide);
        awaited!(self, engine => engine.change_by(organisation, handle, decide))
    }

    /// Creates a person: `admit` changes the organisation and returns the person; both are committed with their events.
    ///
    /// `Error::Conflict("username" | "email" | "id")` names what is taken.
    pub async fn create(
        &self,
        organisation: OrganisationId,
        admit: impl FnMut(&mut Organisation) -> Result<User, Refusal> + Send + 'static,
    ) -> Result<User> {
        let admit: Rule<Organisation, User> = Box::new(admit);
        awaited!(self, engine => engine.create(organisation, admit))
    }

    /// Removes a person; `dismiss` records it in the organisation's chain. The person's audit rows stay.
    pub async fn remove(
        &self,
        organisation: OrganisationId,
        user: UserId,
        dismiss: impl FnMut(&mut Organisation, &User) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<()> {
        awaited!(self, engine => engine.remove(organisation, user, dismiss))
    }

    /// Returns a person of an organisation.
    pub async fn user(&self, organisation: OrganisationId, user: UserId) -> Result<Option<User>> {
        awaited!(self, engine => engine.user(organisation, user))
    }

    /// Returns the id of the person a handle names in an organisation.
    pub async fn find(&self, organisation: OrganisationId, handle: &Handle) -> Result<Option<UserId>> {
        awaited!(self, engine => engine.find(organisation, handle))
    }

    /// Returns a page of people; `after` is the cursor of the page before. `Error::Refused(Invalid{field: "after"})` if it
    /// is not one of ours. A page of a search may be short, and still have a next one.
    pub async fn users(
        &self,
        organisation: OrganisationId,
        filter: &UserFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<User>> {
        awaited!(self, engine => engine.users(organisation, filter, after, limit))
    }

    /// Returns up to `limit` people after the first `offset` of a list, by number, and how many the whole list has.
    ///
    /// This is for everybody, one person, or a search, which finds no more than [`search::FOUND_MOST`].
    /// `Error::Refused(Invalid{field: "offset"})` if a search finds that many and the page stands behind them,
    /// `Invalid{field: "filter"}` for the other filters, whose lists nobody counts.
    pub async fn people(
        &self,
        organisation: OrganisationId,
        filter: &UserFilter,
        offset: u64,
        limit: usize,
    ) -> Result<(Vec<User>, u64)> {
        awaited!(self, engine => engine.people(organisation, filter, None, offset, limit))
    }

    /// Like [`Store::people`], in another order: everybody, or those a search finds.
    ///
    /// `Error::Refused(Invalid)` names what stands in the way: `offset`, if the page is further than
    /// [`search::SORTED_DEPTH`] from either end of the list; `search`, if more people are found than can be sorted and the
    /// page is not soon met in the order; `sort`, if it is neither everybody nor a search.
    pub async fn people_sorted(
        &self,
        organisation: OrganisationId,
        filter: &UserFilter,
        sorting: Sorting,
        offset: u64,
        limit: usize,
    ) -> Result<(Vec<User>, u64)> {
        awaited!(self, engine => engine.people(organisation, filter, Some(sorting), offset, limit))
    }

    /// Like [`Store::people_sorted`] with any filter, among the owners of the installation, in whichever organisation they
    /// are; oldest first if no sorting is given. They are few.
    pub async fn owners(
        &self,
        filter: &UserFilter,
        sorting: Option<Sorting>,
        offset: u64,
        limit: usize,
    ) -> Result<(Vec<User>, u64)> {
        awaited!(self, engine => engine.owners(filter, sorting, offset, limit))
    }

    /// Returns the organisation a person belongs to.
    pub async fn organisation_of_user(&self, user: UserId) -> Result<Option<OrganisationId>> {
        awaited!(self, engine => engine.organisation_of_user(user))
    }

    /// Returns who has an address (in the form it is matched by): at most one person an organisation.
    pub async fn find_anywhere(&self, email: &str) -> Result<Vec<(OrganisationId, UserId)>> {
        awaited!(self, engine => engine.find_anywhere(email))
    }

    /// Returns an organisation. Answered from memory.
    pub async fn organisation(&self, id: OrganisationId) -> Result<Option<Arc<Organisation>>> {
        awaited!(self, engine => engine.organisation(id))
    }

    /// Returns the organisation a slug names (in the form names are matched by).
    pub async fn organisation_by_slug(&self, slug: &str) -> Result<Option<Arc<Organisation>>> {
        awaited!(self, engine => engine.organisation_by_slug(slug))
    }

    /// Returns the organisation a client belongs to. Answered from memory.
    pub async fn organisation_of_client(&self, client: ClientId) -> Result<Option<Arc<Organisation>>> {
        awaited!(self, engine => engine.organisation_of_client(client))
    }

    /// Returns a page of organisations, oldest first.
    pub async fn organisations(&self, after: Option<&str>, limit: usize) -> Result<Page<Arc<Organisation>>> {
        awaited!(self, engine => engine.organisations(after, limit))
    }

    /// Creates an organisation with its first event; `Error::Conflict("slug" | "id")` names what is taken.
    pub async fn create_organisation(&self, organisation: Organisation) -> Result<Arc<Organisation>> {
        awaited!(self, engine => engine.create_organisation(organisation))
    }

    /// Changes an organisation, as [`Store::change`] does a person.
    pub async fn change_organisation<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        decide: impl FnMut(&mut Organisation) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        let decide: Rule<Organisation, T> = Box::new(decide);
        awaited!(self, engine => engine.change_organisation(organisation, decide))
    }

    /// Returns a page of an organisation's audit events, newest first.
    pub async fn audit(
        &self,
        organisation: OrganisationId,
        filter: &AuditFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Event>> {
        awaited!(self, engine => engine.audit(organisation, filter, after, limit))
    }

    /// Returns some of an organisation's events, oldest first, after passing over `offset` of them; and how many there are.
    ///
    /// Other systems count pages. Of a span with more than [`SPAN_MOST`] events one more than those is counted, and
    /// `Error::Refused(Invalid{field: "offset"})` says that there is more where they end.
    pub async fn audit_span(
        &self,
        organisation: OrganisationId,
        span: &AuditSpan,
        offset: u64,
        limit: usize,
    ) -> Result<(Vec<Numbered>, u64)> {
        awaited!(self, engine => engine.audit_span(organisation, span, offset, limit))
    }

    /// Returns up to `limit` audit rows of all organisations in the order of their commits, after row number `after`.
    pub async fn audit_rows(&self, after: i64, limit: usize) -> Result<Vec<AuditRow>> {
        awaited!(self, engine => engine.audit_rows(after, limit))
    }

    /// Returns a row number up to which no event can be added any more.
    pub async fn audit_horizon(&self) -> Result<i64> {
        awaited!(self, engine => engine.audit_horizon())
    }

    /// Returns the heads all documents claim, organisations first, in keyset pages.
    pub async fn claimed_heads(&self, after: Option<&str>, limit: usize) -> Result<Page<ClaimedHead>> {
        awaited!(self, engine => engine.claimed_heads(after, limit))
    }

    /// Removes the oldest audit rows, in one commit with what stays to be known of them; false, and nothing changed, if
    /// somebody else has pruned meanwhile.
    ///
    /// Whoever asks sees to it that the rows are kept elsewhere, that there are few of them, and that one newer row stays: the
    /// numbers of rows go on from it.
    pub async fn prune_audit(&self, pruning: Pruning) -> Result<bool> {
        engine!(self, engine => engine.prune_audit(pruning).await)
    }

    /// Returns where the pruned parts of these chains end; of those that lost nothing, nothing.
    pub async fn anchors_of(&self, subjects: Vec<Uuid>) -> Result<Vec<Anchor>> {
        engine!(self, engine => engine.anchors_of(subjects).await)
    }

    /// Returns where the pruned parts of all chains end, by subject, after one of them, at most `limit`.
    pub async fn anchors(&self, after: Uuid, limit: usize) -> Result<Vec<Anchor>> {
        engine!(self, engine => engine.anchors(after, limit).await)
    }

    /// Appends a checkpoint; `Error::Conflict("checkpoint")` if its place is taken.
    pub async fn append_checkpoint(&self, checkpoint: Checkpoint) -> Result<()> {
        awaited!(self, engine => engine.append_checkpoint(checkpoint))
    }

    /// Returns all checkpoints after a place, oldest first, at most `limit`.
    pub async fn checkpoints(&self, after: u64, limit: usize) -> Result<Vec<Checkpoint>> {
        awaited!(self, engine => engine.checkpoints(after, limit))
    }

    /// Returns the newest checkpoint.
    pub async fn last_checkpoint(&self) -> Result<Option<Checkpoint>> {
        awaited!(self, engine => engine.last_checkpoint())
    }

    /// Notes that a token is revoked until it would have expired anyway. Doing so twice does no harm.
    pub async fn revoke_token(&self, token: Uuid, expires_at: Timestamp) -> Result<()> {
        awaited!(self, engine => engine.revoke_token(token, expires_at))
    }

    /// Tells whether a token is revoked. Answered from memory.
    pub fn is_revoked(&self, token: Uuid) -> bool {
        engine!(self, engine => engine.is_revoked(token))
    }

    /// Refuses with `Error::Unreachable` if tokens may have been revoked that nobody here has heard of.
    pub fn check_news(&self) -> Result<()> {
        engine!(self, engine => engine.check_news())
    }

    /// Forgets revocations of tokens that have expired.
    pub async fn forget_revocations(&self, now: Timestamp) -> Result<()> {
        awaited!(self, engine => engine.forget_revocations(now))
    }

    /// Claims up to `limit` messages of a channel that are due, for as long as the lease: nobody else gets them until then.
    /// Those that must not be sent any more are settled as expired instead.
    ///
    /// Whose claim ran out before they were settled may be sent twice; they are counted as interrupted.
    pub async fn claim(
        &self,
        channel: Channel,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Claimed>> {
        awaited!(self, engine => engine.claim(channel, now, lease, limit))
    }

    /// Says what an attempt led to; false, and nothing changed, if the claim had run out and somebody else took it.
    pub async fn settle(&self, claimed: &Claimed, settlement: Settlement, now: Timestamp) -> Result<bool> {
        awaited!(self, engine => engine.settle(claimed, settlement, now))
    }

    /// Frees the claims of processes that are known to be gone, and counts them as interrupted; returns how many.
    pub async fn release_claims(&self) -> Result<usize> {
        awaited!(self, engine => engine.release_claims())
    }

    /// Returns when the next message of a channel is due; `None` if none waits.
    pub async fn next_due(&self, channel: Channel) -> Result<Option<Timestamp>> {
        awaited!(self, engine => engine.next_due(channel))
    }

    /// Returns when the oldest message that waits on a channel was posted.
    pub async fn oldest_queued(&self, channel: Channel) -> Result<Option<Timestamp>> {
        awaited!(self, engine => engine.oldest_queued(channel))
    }

    /// Waits until a message of a channel was posted here. May return without one.
    pub async fn posted(&self, channel: Channel) {
        awaited!(self, engine => engine.posted(channel));
    }

    /// Returns a page of an organisation's deliveries, newest first.
    pub async fn deliveries(
        &self,
        organisation: OrganisationId,
        filter: &DeliveryFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Delivery>> {
        awaited!(self, engine => engine.deliveries(organisation, filter, after, limit))
    }

    /// Returns a delivery of an organisation.
    pub async fn delivery(&self, organisation: OrganisationId, id: DeliveryId) -> Result<Option<Delivery>> {
        awaited!(self, engine => engine.delivery(organisation, id))
    }

    /// Returns the newest delivery with the code of a person's challenge.
    pub async fn delivery_of_challenge(
        &self,
        organisation: OrganisationId,
        user: UserId,
        challenge: ChallengeId,
    ) -> Result<Option<Delivery>> {
        awaited!(self, engine => engine.delivery_of_challenge(organisation, user, challenge))
    }

    /// Has a dead letter to a person sent again, in one commit with what `record` notes in their document.
    ///
    /// `Error::NotFound("delivery")` if the person has no such delivery, `Refusal::NotRetriable` if it is not a dead letter
    /// or its time has run out.
    pub async fn requeue(
        &self,
        organisation: OrganisationId,
        user: UserId,
        id: DeliveryId,
        now: Timestamp,
        record: impl FnMut(&mut User) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Delivery> {
        let record: Rule<User, ()> = Box::new(record);
        awaited!(self, engine => engine.requeue(organisation, user, id, now, record))
    }

    /// Like [`Store::requeue`], for a delivery that is nobody's, or somebody's who is no longer there.
    pub async fn requeue_of_organisation(
        &self,
        organisation: OrganisationId,
        id: DeliveryId,
        now: Timestamp,
        record: impl FnMut(&mut Organisation) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Delivery> {
        let record: Rule<Organisation, ()> = Box::new(record);
        awaited!(self, engine => engine.requeue_of_organisation(organisation, id, now, record))
    }

    /// Notes what a provider said later of a message it took; false if no message went by that name (yet).
    pub async fn report(&self, provider: String, reference: String, report: String) -> Result<bool> {
        awaited!(self, engine => engine.report(provider, reference, report))
    }

    /// Forgets up to `limit` deliveries that were settled before a time; returns how many.
    pub async fn prune_deliveries(&self, before: Timestamp, limit: usize) -> Result<usize> {
        awaited!(self, engine => engine.prune_deliveries(before, limit))
    }

    /// Forgets up to `limit` destinations that nothing was sent to for so long that it does not matter any more; returns
    /// how many.
    pub async fn forget_destinations(&self, now: Timestamp, limit: usize) -> Result<usize> {
        awaited!(self, engine => engine.forget_destinations(now, limit))
    }

    /// Returns a value of the installation (keys, canary), `None` if it was never set.
    pub async fn meta(&self, name: &'static str) -> Result<Option<Vec<u8>>> {
        awaited!(self, engine => engine.meta(name))
    }

    /// Takes a turn at a job that one node is to do at a time; false if another node has had it within `period`.
    pub async fn take_turn(&self, job: &'static str, period: Duration) -> Result<bool> {
        awaited!(self, engine => engine.take_turn(job, period))
    }

    /// Sets a value of the installation if there is none; returns the one that stands.
    pub async fn meta_once(&self, name: &'static str, value: Vec<u8>) -> Result<Vec<u8>> {
        awaited!(self, engine => engine.meta_once(name, value))
    }

    /// Makes a durable commit that changes nothing of meaning: what an unknown user costs, so that time tells nothing.
    pub async fn commit_decoy(&self) -> Result<()> {
        awaited!(self, engine => engine.commit_decoy())
    }

    /// Proves before serving that the engine keeps its promises: replay refused in a scratch record, versions guarded,
    /// the clock not behind the newest record. The error says what failed.
    pub async fn self_test(&self, now: Timestamp) -> Result<()> {
        awaited!(self, engine => engine.self_test(now))
    }

    /// Tells whether a durable commit goes through; readiness asks this.
    pub async fn ping(&self) -> Result<()> {
        awaited!(self, engine => engine.ping())
    }

    /// Returns by how many milliseconds this machine's clock is ahead of the store's (behind, if negative).
    pub fn clock_skew_millis(&self) -> i64 {
        engine!(self, engine => engine.clock_skew_millis())
    }

    /// Tells whether a change would be refused now with [`Error::Busy`], because as many wait as may. Where that is known only
    /// person by person, it is not known here.
    pub fn is_full(&self) -> bool {
        engine!(self, engine => engine.is_full())
    }

    /// Returns what the metrics show of the store.
    pub fn gauges(&self) -> Gauges {
        engine!(self, engine => engine.gauges())
    }

    /// Lets the writer finish what waits, checkpoints the log, and closes. Later operations fail with `Error::Busy`.
    pub async fn close(&self) {
        awaited!(self, engine => engine.close());
    }
}

/// Numbers about the store, since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gauges {
    /// Durable commits.
    pub commits: u64,
    /// Changes in those commits.
    pub changes: u64,
    /// Changes that wait for the writer now.
    pub waiting: u64,
    /// Seconds the last commit took.
    pub last_commit_seconds: f64,
    /// Seconds one write to durable storage took when the store was opened.
    pub fsync_seconds: f64,
    /// Bytes in the write-ahead log.
    pub wal_bytes: u64,
    /// Messages, by channel in the order of [`Channel::ALL`].
    pub channels: [ChannelGauges; Channel::ALL.len()],
}

/// What a document's index columns hold: derived here and nowhere else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexColumns {
    /// The username in the form it is matched by.
    pub username_key: String,
    /// The address in the form it is matched by.
    pub email_key: Option<String>,
    /// The given name in the form it is matched by.
    pub given_key: Option<String>,
    /// The family name in the form it is matched by.
    pub family_key: Option<String>,
    /// The rank of the highest role, 0 for a member.
    pub role: u8,
    /// Whether the person is active.
    pub is_active: bool,
    /// Whether their second step is on.
    pub mfa_enabled: bool,
    /// The methods that carry a lock, one bit each.
    pub locked_methods: u8,
}

impl IndexColumns {
    /// Derives the columns from a document.
    pub fn of(user: &User) -> Self {
        Self {
            username_key: user.username.key(),
            email_key: user.email.as_ref().map(Email::key),
            given_key: user.given_name.as_ref().map(DisplayName::key),
            family_key: user.family_name.as_ref().map(DisplayName::key),
            role: user.roles.highest() as u8,
            is_active: user.status == Status::Active,
            mfa_enabled: user.mfa_enabled,
            locked_methods: user.locks.locked_bits(),
        }
    }
}

/// A span of time, half open, in milliseconds.
pub(crate) fn time_span(filter: &AuditFilter) -> Range<i64> {
    filter.from.map_or(i64::MIN, Timestamp::millis)..filter.until.map_or(i64::MAX, Timestamp::millis)
}

/// Returns by what a destination's row is found.
fn destination_key(tag: &Tag) -> String {
    match serde_json::to_value(tag) {
        Ok(serde_json::Value::String(text)) => text,
        _ => unreachable!("a keyed hash is written as text"),
    }
}
