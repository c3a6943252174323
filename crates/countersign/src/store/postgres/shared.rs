//! The two statements that changes share: one reads documents, one writes those that nobody else wrote meanwhile, with their
//! events and messages.

use super::{
    cluster::{NOW_MILLIS, TIMELINE},
    database::{Database, LOCK_MILLIS, Lent, Proof, seq_of},
    failure::Fault,
    outbox::Parcels,
    sql::args,
};
use crate::{
    error::{Error, Result},
    store::{
        IndexColumns,
        memory::{Effect, Happened},
    },
};
use countersign_core::{Handle, Parcel, User, UserId, event::Record, profile::Email, user::Unreadable};
use std::collections::HashMap;
use uuid::Uuid;

/// A document as its row holds it, with what guards the row.
pub(super) struct Loaded {
    pub(super) guard: Guard,
    pub(super) columns: IndexColumns,
    pub(super) user: Result<User, Unreadable>,
}

/// What a row must still hold when its document is replaced, and where its chain ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    pub(super) version: i64,
    /// The number of the newest of its audit rows.
    pub(super) audit_row: i64,
}

/// Reads documents. Notices when the database is on another timeline than we believe.
pub(super) async fn load(
    database: &Database,
    lent: &Lent,
    mut ids: Vec<Uuid>,
) -> Result<HashMap<UserId, Loaded>, Fault> {
    ids.sort_unstable();
    ids.dedup();
    let known = database.cluster.timeline();
    let mut loaded = HashMap::with_capacity(ids.len());
    for row in lent.hot_rows(&database.statements().load, args![ids]).await? {
        let timeline: &str = row.try_get(4)?;
        if timeline != known.name {
            database.enter_timeline(lent, timeline.to_owned()).await?;
            return Err(Fault::Overtaken);
        }
        let user = User::from_json(row.try_get(3)?);
        let guard = Guard { version: row.try_get(1)?, audit_row: row.try_get(2)? };
        let columns = user.as_ref().map(IndexColumns::of).unwrap_or_default();
        loaded.insert(UserId::from_uuid(row.try_get(0)?), Loaded { guard, columns, user });
    }
    Ok(loaded)
}

/// Tells whether a person is the one a handle names.
pub(super) fn answers_to(user: &User, handle: &Handle) -> bool {
    match handle {
        Handle::Id(id) => user.id == *id,
        Handle::Number(number) => user.number == *number,
        Handle::Username(key) => user.username.key() == *key,
        Handle::Email(key) => user.email.as_ref().map(Email::key).as_ref() == Some(key),
    }
}

/// Why a change cannot be written with others.
pub(super) enum NotShared {
    /// It touches more than its document, its events and messages nobody counts.
    Alone,
    /// It cannot be written at all.
    Failed(Error),
}

/// A document that was decided on, with all that is committed with it.
pub(super) struct Group {
    guard: Guard,
    columns: IndexColumns,
    user: Option<User>,
    pub(super) records: Vec<Record>,
    /// The numbers of the events' rows.
    pub(super) rows: Vec<i64>,
    parcels: Vec<Parcel>,
}

impl Group {
    /// Begins with a document as it was read.
    pub(super) fn new(guard: Guard, columns: IndexColumns) -> Self {
        Self { guard, columns, user: None, records: Vec::new(), rows: Vec::new(), parcels: Vec::new() }
    }

    /// Takes what a change recorded and posted; returns how many events it recorded.
    pub(super) fn take(&mut self, user: &mut User) -> Result<usize, NotShared> {
        let records = user.take_records();
        let parcels = user.take_parcels().map_err(|_| NotShared::Failed(Parcels::not_sealed()))?;
        let is_simple = user.take_withdrawals().is_empty()
            && parcels.iter().all(|parcel| parcel.limit.is_none())
            && IndexColumns::of(user) == self.columns;
        if !is_simple {
            return Err(NotShared::Alone);
        }
        let count = records.len();
        self.records.extend(records);
        self.parcels.extend(parcels);
        Ok(count)
    }

    /// Ends with the document as it became.
    pub(super) fn finish(&mut self, user: User) {
        self.user = Some(user);
    }

    /// Returns the number above which its rows' numbers have to be.
    pub(super) const fn after(&self) -> i64 {
        self.guard.audit_row
    }

    /// Returns whose document it is.
    pub(super) fn id(&self) -> UserId {
        self.user.as_ref().expect("it is finished before it is written").id
    }

    /// Returns what is there if it was committed: the event in this place among its events.
    pub(super) fn proof(&self, place: usize) -> Option<Proof> {
        Proof::of(self.records.get(place..)?, *self.rows.get(place)?)
    }

    /// Returns what its messages change in memory.
    pub(super) fn posted(&self) -> impl Iterator<Item = Effect> {
        self.parcels.iter().map(|parcel| Effect::Outbox(parcel.channel, Happened::Posted))
    }
}

/// Writes documents with their events and messages; returns whose. What somebody else wrote meanwhile is left alone.
pub(super) async fn write(
    database: &Database,
    lent: &Lent,
    groups: &[&Group],
    until_millis: i64,
) -> Result<Vec<UserId>, Fault> {
    // In the order of their keys, as every node does, so that two never wait for each other.
    let mut groups = groups.to_vec();
    groups.sort_unstable_by_key(|group| group.id());
    let (mut ids, mut versions, mut newest) = (Vec::new(), Vec::new(), Vec::new());
    let (mut times, mut bodies) = (Vec::new(), Vec::new());
    for group in &groups {
        let user = group.user.as_ref().expect("it is finished before it is written");
        ids.push(user.id.uuid());
        versions.push(group.guard.version);
        newest.push(group.rows.last().copied().unwrap_or(group.guard.audit_row));
        times.push(user.updated_at.millis());
        bodies.push(user.to_json());
    }
    let events = Events::of(groups.iter().flat_map(|group| group.records.iter().zip(&group.rows)));
    let parcels = Parcels::of(groups.iter().flat_map(|group| &group.parcels));
    let timeline = database.cluster.timeline();

    let statements = database.statements();
    let changed = match (events.rows.as_slice(), parcels.is_empty()) {
        // What comes alone needs no lists, which cost more than it does.
        ([row], true) => {
            lent.hot_rows(
                &statements.write_one,
                args![
                    ids[0],
                    versions[0],
                    times[0],
                    bodies[0],
                    until_millis,
                    timeline.name,
                    newest[0],
                    events.seqs[0],
                    *row,
                    events.organisations[0],
                    events.times[0],
                    events.actions[0],
                    events.hashes[0],
                    events.bodies[0],
                ],
            )
            .await?
        }
        (_, true) => {
            lent.hot_rows(
                &statements.write,
                args![
                    ids,
                    versions,
                    times,
                    bodies,
                    until_millis,
                    timeline.name,
                    newest,
                    events.subjects,
                    events.seqs,
                    events.rows,
                    events.organisations,
                    events.times,
                    events.actions,
                    events.hashes,
                    events.bodies,
                ],
            )
            .await?
        }
        (_, false) => {
            lent.hot_rows(
                &statements.write_and_post,
                args![
                    ids,
                    versions,
                    times,
                    bodies,
                    until_millis,
                    timeline.name,
                    newest,
                    events.subjects,
                    events.seqs,
                    events.rows,
                    events.organisations,
                    events.times,
                    events.actions,
                    events.hashes,
                    events.bodies,
                    parcels.owners,
                    parcels.ids,
                    parcels.organisations,
                    parcels.users,
                    parcels.challenges,
                    parcels.channels,
                    parcels.subjects,
                    parcels.masked,
                    parcels.created,
                    parcels.expire,
                    parcels.bodies,
                ],
            )
            .await?
        }
    };
    changed.iter().map(|row| Ok(UserId::from_uuid(row.try_get(0)?))).collect()
}

/// Events, a list for each column.
#[derive(Default)]
pub(super) struct Events<'a> {
    pub(super) subjects: Vec<Uuid>,
    pub(super) seqs: Vec<i64>,
    pub(super) rows: Vec<i64>,
    pub(super) organisations: Vec<Uuid>,
    pub(super) times: Vec<i64>,
    pub(super) actions: Vec<&'static str>,
    pub(super) hashes: Vec<&'a [u8]>,
    pub(super) bodies: Vec<&'a [u8]>,
}

impl<'a> Events<'a> {
    /// Lists events with the numbers of their rows.
    pub(super) fn of(records: impl Iterator<Item = (&'a Record, &'a i64)>) -> Self {
        let mut events = Self::default();
        for (record, row) in records {
            events.subjects.push(record.subject.uuid());
            events.seqs.push(seq_of(record));
            events.rows.push(*row);
            events.organisations.push(record.organisation.uuid());
            events.times.push(record.at.millis());
            events.actions.push(record.action.name());
            events.hashes.push(&record.head.hash.0);
            events.bodies.push(&record.body);
        }
        events
    }
}

impl Database {
    /// Returns the statements for this database.
    pub(super) fn statements(&self) -> &Statements {
        self.statements.get_or_init(|| Statements::of(TIMELINE, false))
    }
}

/// The statements, for a database that has timelines or has none.
pub(super) struct Statements {
    /// What names the timeline.
    pub(super) timeline: &'static str,
    load: String,
    write_one: String,
    write: String,
    write_and_post: String,
    /// Writes a document with its index columns.
    pub(super) rewrite: String,
    /// Writes an organisation's document.
    pub(super) replace_organisation: String,
}

impl Statements {
    /// Writes the statements.
    pub(super) fn of(timeline: &'static str, is_sharded: bool) -> Self {
        // Where rows are spread over machines, what writes them may not ask for the time.
        let in_time = |limit: usize| match is_sharded {
            true => format!("${limit}::bigint IS NOT NULL"),
            false => format!("{NOW_MILLIS} < ${limit}"),
        };
        // The guard is asked once for the statement, before it takes its first lock, and limits the time to wait for one.
        let changed = format!(
            "WITH guard AS MATERIALIZED (
                 SELECT set_config('lock_timeout', '{LOCK_MILLIS}', true) <> '' AND {NOW_MILLIS} < $5
                     AND {timeline} = $6 AS holds
             ), changed AS (
                 UPDATE users SET version = users.version + 1, audit_row = incoming.audit_row,
                     updated_at = incoming.updated_at, body = incoming.body
                 FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::bytea[], $7::int8[])
                     AS incoming (id, version, updated_at, body, audit_row)
                 WHERE users.id = incoming.id AND users.version = incoming.version AND (SELECT holds FROM guard)
                 RETURNING users.id
             ), recorded AS (
                 INSERT INTO audit (subject, seq, \"row\", organisation, at, action, hash, body)
                 SELECT events.* FROM unnest($8::uuid[], $9::int8[], $10::int8[], $11::uuid[], $12::int8[], $13::text[],
                     $14::bytea[], $15::bytea[]) AS events (subject, seq, \"row\", organisation, at, action, hash, body)
                 JOIN changed ON changed.id = events.subject
             )"
        );
        let posted = format!(
            ", posted AS (
                 INSERT INTO deliveries (owner, id, organisation, \"user\", challenge, channel, subject, masked, state,
                     created_at, expires_at, due_at, body)
                 SELECT parcels.owner, parcels.id, organisation, parcels.\"user\", challenge, channel, subject, masked, 'queued',
                     created_at, expires_at, created_at, body
                 FROM {} JOIN changed ON changed.id = parcels.owner
             )",
            Parcels::unnested(16)
        );
        Self {
            timeline,
            // Asked once, not for each row.
            load: format!(
                "SELECT id, version, audit_row, body, (SELECT {timeline}) FROM users WHERE id = ANY($1)"
            ),
            write_one: format!(
                "WITH changed AS (
                     UPDATE users SET version = version + 1, audit_row = $7, updated_at = $3, body = $4
                     WHERE id = $1 AND version = $2 AND set_config('lock_timeout', '{LOCK_MILLIS}', true) <> ''
                         AND {NOW_MILLIS} < $5 AND {timeline} = $6
                     RETURNING id
                 ), recorded AS (
                     INSERT INTO audit (subject, seq, \"row\", organisation, at, action, hash, body)
                     SELECT id, $8, $9, $10, $11, $12, $13, $14 FROM changed
                 )
                 SELECT id FROM changed"
            ),
            write: format!("{changed} SELECT id FROM changed"),
            write_and_post: format!("{changed}{posted} SELECT id FROM changed"),
            rewrite: format!(
                "UPDATE users SET version = version + 1, audit_row = $14, updated_at = $4, body = $5, username_key = $6, email_key = $7,
                     given_key = $8, family_key = $9, role = $10, is_active = $11, mfa_enabled = $12, locked_methods = $13
                 WHERE id = $1 AND version = $2 AND {} RETURNING version",
                in_time(3)
            ),
            replace_organisation: format!(
                "UPDATE organisations SET version = version + 1, audit_row = $5, body = $3 WHERE id = $1 AND version = $2 AND {}
                 RETURNING version",
                in_time(4)
            ),
        }
    }
}
