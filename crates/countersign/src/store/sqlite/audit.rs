//! The audit trail: rows that are added in the commit of what they tell of, and stay until they are pruned.
//!
//! A person's chain is read by walking back from the row their document's row names. So the trail needs no index by
//! subject, whose leaves would be all over the file, one written anew for each verification.

use super::{Sqlite, organisations, users, writer::Batch};
use crate::{
    error::{Error, Result},
    store::{
        AuditFilter, AuditRow, AuditSpan, ClaimedHead, Numbered, Page, SPAN_MOST,
        cursor::{Cursor, page, page_until, rows_for},
        time_span, too_long,
    },
};
use countersign_core::{
    Action, OrganisationId, Timestamp, UserId,
    event::{Event, Hash, Record, Subject},
};
use rusqlite::{Connection, OptionalExtension, params};
use std::ops::Range;
use uuid::Uuid;

/// The most links of a chain one page looks at. What a filter leaves out counts, so a page may be short or empty and
/// still have a next one.
const WALK: usize = 1000;

impl Sqlite {
    /// See [`crate::store::Store::audit`].
    pub async fn audit(
        &self,
        organisation: OrganisationId,
        filter: &AuditFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Event>> {
        let (filter, after) = (filter.clone(), Cursor::parse(after)?);
        self.readers
            .read(move |reader| match filter.user {
                Some(user) => walk(reader, organisation, user, &filter, after, limit),
                None => list(reader, organisation, &filter, after, limit),
            })
            .await
    }

    /// See [`crate::store::Store::audit_span`].
    pub async fn audit_span(
        &self,
        organisation: OrganisationId,
        span: &AuditSpan,
        offset: u64,
        limit: usize,
    ) -> Result<(Vec<Numbered>, u64)> {
        let span = span.clone();
        self.readers.read(move |reader| span_of(reader, organisation, &span, offset, limit)).await
    }

    /// See [`crate::store::Store::audit_rows`].
    pub async fn audit_rows(&self, after: i64, limit: usize) -> Result<Vec<AuditRow>> {
        self.readers.read(move |reader| rows(reader, after, limit)).await
    }

    /// See [`crate::store::Store::audit_horizon`]. One thread writes, so what comes has a higher number than what is there.
    pub async fn audit_horizon(&self) -> Result<i64> {
        Ok(i64::MAX)
    }

    /// See [`crate::store::Store::claimed_heads`].
    pub async fn claimed_heads(&self, after: Option<&str>, limit: usize) -> Result<Page<ClaimedHead>> {
        let after = Cursor::parse(after)?;
        self.readers.read(move |reader| claimed_heads(reader, after, limit)).await
    }
}

/// Returns the number of the last of `records` once they are appended; `previous` if there are none.
pub(super) fn newest_after(batch: &Batch<'_>, records: &[Record], previous: Option<i64>) -> Option<i64> {
    let count = i64::try_from(records.len()).expect("one change records a handful of events");
    if count == 0 { previous } else { Some(batch.newest_row() + count) }
}

/// Appends the events of one change to their subject's chain, whose newest row so far is `previous`.
pub(super) fn append(batch: &Batch<'_>, records: &[Record], mut previous: Option<i64>) -> Result<()> {
    let mut statement = batch.prepare_cached(
        "INSERT INTO audit (row, previous, organisation, subject, seq, at, action, hash, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for record in records {
        let row = batch.newest_row() + 1;
        statement.execute(params![
            row,
            previous,
            record.organisation.uuid().into_bytes(),
            record.subject.uuid().into_bytes(),
            i64::try_from(record.head.seq).ok(),
            record.at.millis(),
            record.action.name(),
            record.head.hash.0,
            record.body,
        ])?;
        batch.set_newest_row(row);
        previous = Some(row);
    }
    Ok(())
}

/// Remembers where the chain of a removed person ends.
pub(super) fn keep_departed(
    batch: &Batch<'_>,
    organisation: OrganisationId,
    user: UserId,
    audit_row: Option<i64>,
) -> Result<()> {
    batch
        .prepare_cached(
            "INSERT INTO departed (id, organisation, audit_row) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET organisation = excluded.organisation, audit_row = excluded.audit_row",
        )?
        .execute(params![user.uuid().into_bytes(), organisation.uuid().into_bytes(), audit_row])?;
    Ok(())
}

/// Returns when the newest event happened.
pub(super) fn newest_time(connection: &Connection) -> Result<Option<Timestamp>> {
    let mut statement = connection.prepare_cached(NEWEST_TIME)?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?.map(Timestamp::from_millis))
}

const NEWEST_TIME: &str = "SELECT at FROM audit WHERE row = (SELECT max(row) FROM audit)";

fn list(
    connection: &Connection,
    organisation: OrganisationId,
    filter: &AuditFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<Event>> {
    let Range { start, end } = time_span(filter);
    // Newest first: the page begins below this time and row.
    let below = match after {
        None => (end, i64::MIN),
        Some(Cursor::Event { at, row }) => (at, row).min((end, i64::MIN)),
        Some(_) => return Err(Cursor::unknown()),
    };
    let mut statement =
        connection.prepare_cached(if filter.action.is_some() { LIST_BY_ACTION } else { LIST })?;
    let mut rows = statement.query(params![
        organisation.uuid().into_bytes(),
        filter.action.map(Action::name),
        start,
        below.0,
        below.1,
        rows_for(limit),
    ])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events
            .push((Cursor::Event { at: row.get(1)?, row: row.get(0)? }, read(row.get_ref(2)?.as_bytes()?)?));
    }
    Ok(page(events, limit))
}

// What is left of the cursor's millisecond, then what was before it. As one comparison of (at, row) SQLite would search by
// `at` alone, and look at all events of that millisecond with each page; an import makes many.
const LIST: &str = "SELECT row, at, body FROM audit
        WHERE organisation = ?1 AND at = ?4 AND at >= ?3 AND row < ?5
    UNION ALL SELECT row, at, body FROM audit
        WHERE organisation = ?1 AND at >= ?3 AND at < ?4
    ORDER BY at DESC, row DESC LIMIT ?6";
const LIST_BY_ACTION: &str = "SELECT row, at, body FROM audit
        WHERE organisation = ?1 AND action = ?2 AND at = ?4 AND at >= ?3 AND row < ?5
    UNION ALL SELECT row, at, body FROM audit
        WHERE organisation = ?1 AND action = ?2 AND at >= ?3 AND at < ?4
    ORDER BY at DESC, row DESC LIMIT ?6";

fn span_of(
    connection: &Connection,
    organisation: OrganisationId,
    span: &AuditSpan,
    offset: u64,
    limit: usize,
) -> Result<(Vec<Numbered>, u64)> {
    if span.actions.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let organisation = organisation.uuid().into_bytes();
    let after = span.after.map_or(i64::MIN, Timestamp::millis);
    let until = span.until.map_or(i64::MAX, Timestamp::millis);
    // One more, so that whoever reads on is told that there is more.
    let most = i64::try_from(SPAN_MOST).unwrap_or(i64::MAX).saturating_add(1);
    let total: i64 = connection
        .prepare_cached(&span_count(&span.actions))?
        .query_row(params![organisation, after, until, most], |row| row.get(0))?;
    if total == most && offset >= SPAN_MOST {
        return Err(too_long());
    }
    let (offset, limit) =
        (i64::try_from(offset).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    let mut places = connection.prepare_cached(&span_page(&span.actions))?;
    let mut rows = places.query(params![organisation, after, until, limit, offset])?;
    let mut body = connection.prepare_cached(BODY)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let row = row.get(0)?;
        let event = body.query_row([row], |row| Ok(read(row.get_ref(0)?.as_bytes()?)))??;
        events.push(Numbered { row, event });
    }
    Ok((events, total.unsigned_abs()))
}

const BODY: &str = "SELECT body FROM audit WHERE row = ?1";

/// Selects the events of each action in a span of time, from the index of actions alone.
fn of_span(actions: &[Action]) -> String {
    let of_action = |action: &Action| {
        // What stands in a person's chain and in the organisation's is left out of the organisation's, so that nothing
        // comes twice.
        let once = if *action == Action::UserCreated { " AND subject <> organisation" } else { "" };
        format!(
            "SELECT at, row FROM audit INDEXED BY audit_action
             WHERE organisation = ?1 AND action = '{action}' AND at > ?2 AND at <= ?3{once}"
        )
    };
    actions.iter().map(of_action).collect::<Vec<_>>().join(" UNION ALL ")
}

fn span_page(actions: &[Action]) -> String {
    format!("SELECT row, at FROM ({}) ORDER BY at, row LIMIT ?4 OFFSET ?5", of_span(actions))
}

fn span_count(actions: &[Action]) -> String {
    format!("SELECT count(*) FROM (SELECT 1 FROM ({}) LIMIT ?4)", of_span(actions))
}

/// Walks a person's chain back, from its newest row or from where the page before ended.
fn walk(
    connection: &Connection,
    organisation: OrganisationId,
    user: UserId,
    filter: &AuditFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<Event>> {
    let mut next = match after {
        None => users::newest_audit_row(connection, organisation, user)?,
        Some(Cursor::Link(row)) => Some(row),
        Some(_) => return Err(Cursor::unknown()),
    };
    let times = time_span(filter);
    let mut statement = connection.prepare_cached(LINK)?;
    let mut events = Vec::new();
    for _ in 0..WALK {
        let Some(row) = next.filter(|_| events.len() < limit.max(1)) else { break };
        let key = params![row, organisation.uuid().into_bytes(), user.uuid().into_bytes()];
        // Nothing there: what came before was pruned; or a cursor that was made up, or a row that was cut out, which the
        // audit of the chain finds.
        let Some((previous, body)) = statement
            .query_row(key, |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .optional()?
        else {
            next = None;
            break;
        };
        next = previous;
        let event = read(&body)?;
        if times.contains(&event.at.millis()) && filter.action.is_none_or(|action| action == event.action) {
            events.push(event);
        }
    }
    Ok(page_until(events, next.map(Cursor::Link)))
}

const LINK: &str = "SELECT previous, body FROM audit WHERE row = ?1 AND organisation = ?2 AND subject = ?3";

fn read(body: &[u8]) -> Result<Event> {
    // Only the place: the message may quote the event.
    serde_json::from_slice(body).map_err(|error| {
        Error::Store(format!(
            "read event: not as expected at line {} column {}",
            error.line(),
            error.column()
        ))
    })
}

fn rows(connection: &Connection, after: i64, limit: usize) -> Result<Vec<AuditRow>> {
    let mut statement = connection.prepare_cached(ROWS)?;
    let rows = statement.query_map(params![after, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(AuditRow {
            row: row.get(0)?,
            subject: Uuid::from_bytes(row.get(1)?),
            organisation: OrganisationId::from_uuid(Uuid::from_bytes(row.get(2)?)),
            seq: row.get::<_, i64>(3)?.unsigned_abs(),
            hash: Hash(row.get(4)?),
            body: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

const ROWS: &str = "SELECT row, subject, organisation, seq, hash, body FROM audit
    WHERE row > ?1 ORDER BY row LIMIT ?2";

fn claimed_heads(connection: &Connection, after: Option<Cursor>, limit: usize) -> Result<Page<ClaimedHead>> {
    let mut heads = Vec::new();
    let mut wanted = rows_for(limit);
    let user = match after {
        Some(Cursor::UserHead(pk)) => pk,
        None | Some(Cursor::OrganisationHead(_)) => {
            let pk = if let Some(Cursor::OrganisationHead(pk)) = after { pk } else { 0 };
            for (pk, organisation) in organisations::after_pk(connection, pk, wanted)? {
                let subject = Subject::Organisation(organisation.id);
                heads.push((
                    Cursor::OrganisationHead(pk),
                    ClaimedHead { subject, head: organisation.audit_head },
                ));
                wanted -= 1;
            }
            0
        }
        Some(_) => return Err(Cursor::unknown()),
    };
    for (pk, user) in users::after_pk(connection, user, wanted)? {
        let subject = Subject::User(user.id);
        heads.push((Cursor::UserHead(pk), ClaimedHead { subject, head: user.audit_head }));
    }
    Ok(page(heads, limit))
}

/// The statements that list events, for the test of their plans.
#[cfg(test)]
pub(super) const READINGS: [&str; 6] = [NEWEST_TIME, LIST, LIST_BY_ACTION, LINK, ROWS, BODY];

/// The statements that hand events out, for the test of their plans.
#[cfg(test)]
pub(super) fn spans() -> [String; 4] {
    let few = [Action::UserCreated];
    [span_page(Action::ALL), span_page(&few), span_count(Action::ALL), span_count(&few)]
}
