//! The audit trail: rows that are added in the commit of what they tell of, and stay until they are pruned.
//!
//! A person's chain is read by its key, which begins with the person.

use super::{
    Postgres,
    cluster::SETTLED,
    database::Lent,
    failure::Fault,
    order, organisations,
    shared::Events,
    sql::{args, argument},
    users,
};
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
use std::ops::Range;

/// The most links of a chain one page looks at. What a filter leaves out counts, so a page may be short or empty and
/// still have a next one.
const WALK: usize = 1000;

impl Postgres {
    /// See [`crate::store::Store::audit`].
    pub async fn audit(
        &self,
        organisation: OrganisationId,
        filter: &AuditFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Event>> {
        let (filter, after) = (filter.clone(), Cursor::parse(after)?);
        self.database
            .read(move |lent| {
                let (filter, after) = (filter.clone(), after.clone());
                async move {
                    match filter.user {
                        Some(user) => walk(&lent, organisation, user, &filter, after, limit).await,
                        None => list(&lent, organisation, &filter, after, limit).await,
                    }
                }
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
        self.database
            .read(move |lent| {
                let span = span.clone();
                async move { span_of(&lent, organisation, &span, offset, limit).await }
            })
            .await
    }

    /// See [`crate::store::Store::audit_rows`].
    pub async fn audit_rows(&self, after: i64, limit: usize) -> Result<Vec<AuditRow>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database
            .read(move |lent| async move {
                let found = lent.rows(ROWS, args![after, limit]).await?;
                found
                    .iter()
                    .map(|row| {
                        Ok(AuditRow {
                            row: row.try_get(0)?,
                            subject: row.try_get(1)?,
                            organisation: OrganisationId::from_uuid(row.try_get(2)?),
                            seq: row.try_get::<_, i64>(3)?.unsigned_abs(),
                            hash: hash(row.try_get(4)?)?,
                            body: row.try_get(5)?,
                        })
                    })
                    .collect()
            })
            .await
    }

    /// See [`crate::store::Store::audit_horizon`].
    ///
    /// Rows are numbered before they are committed, and nodes commit at the same time. What was numbered more than a minute
    /// ago is committed or never will be, unless a transaction from then is still under way.
    pub async fn audit_horizon(&self) -> Result<i64> {
        let settled = i64::try_from(SETTLED.as_millis()).unwrap_or(i64::MAX);
        self.database
            .read(move |lent| async move {
                let row = lent.row(OLDEST_WORK, args![]).await?.ok_or(Fault::Overtaken)?;
                Ok(order::first_of(row.try_get::<_, i64>(0)?.saturating_sub(settled)) - 1)
            })
            .await
    }

    /// See [`crate::store::Store::claimed_heads`].
    pub async fn claimed_heads(&self, after: Option<&str>, limit: usize) -> Result<Page<ClaimedHead>> {
        let after = Cursor::parse(after)?;
        self.database
            .read(move |lent| {
                let after = after.clone();
                async move { claimed_heads(&lent, after, limit).await }
            })
            .await
    }
}

/// Appends the events of one change to their subject's chain, with these numbers.
pub(super) async fn append(lent: &Lent, records: &[Record], rows: &[i64]) -> Result<(), Fault> {
    if records.is_empty() {
        return Ok(());
    }
    let events = Events::of(records.iter().zip(rows));
    lent.run(
        APPEND,
        args![
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
    .await?;
    Ok(())
}

const APPEND: &str = "INSERT INTO audit (subject, seq, \"row\", organisation, at, action, hash, body)
    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::uuid[], $5::int8[], $6::text[], $7::bytea[], $8::bytea[])";

/// Returns when the newest event happened.
pub(super) async fn newest_time(lent: &Lent) -> Result<Option<Timestamp>, Fault> {
    let row = lent.row("SELECT at FROM audit ORDER BY \"row\" DESC LIMIT 1", args![]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.map(Timestamp::from_millis))
}

async fn list(
    lent: &Lent,
    organisation: OrganisationId,
    filter: &AuditFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<Event>, Fault> {
    let Range { start, end } = time_span(filter);
    // Newest first: the page begins below this time and row.
    let below = match after {
        None => (end, i64::MIN),
        Some(Cursor::Event { at, row }) => (at, row).min((end, i64::MIN)),
        Some(_) => return Err(Cursor::unknown().into()),
    };
    let (organisation, rows) = (organisation.uuid(), rows_for(limit));
    let action = filter.action.map(Action::name);
    let mut arguments = args![organisation, start, below.0, below.1, rows].to_vec();
    arguments.extend(action.as_ref().map(argument));
    let found = lent.rows(if action.is_some() { LIST_BY_ACTION } else { LIST }, &arguments).await?;
    let events: Result<Vec<_>, Fault> = found
        .iter()
        .map(|row| Ok((Cursor::Event { at: row.try_get(1)?, row: row.try_get(0)? }, read(row.try_get(2)?)?)))
        .collect();
    Ok(page(events?, limit))
}

const LIST: &str = "SELECT \"row\", at, body FROM audit
    WHERE organisation = $1 AND at >= $2 AND (at, \"row\") < ($3, $4)
    ORDER BY at DESC, \"row\" DESC LIMIT $5";
const LIST_BY_ACTION: &str = "SELECT \"row\", at, body FROM audit
    WHERE organisation = $1 AND action = $6 AND at >= $2 AND (at, \"row\") < ($3, $4)
    ORDER BY at DESC, \"row\" DESC LIMIT $5";

async fn span_of(
    lent: &Lent,
    organisation: OrganisationId,
    span: &AuditSpan,
    offset: u64,
    limit: usize,
) -> Result<(Vec<Numbered>, u64), Fault> {
    if span.actions.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let organisation = organisation.uuid();
    let after = span.after.map_or(i64::MIN, Timestamp::millis);
    let until = span.until.map_or(i64::MAX, Timestamp::millis);
    // One more, so that whoever reads on is told that there is more.
    let most = i64::try_from(SPAN_MOST).unwrap_or(i64::MAX).saturating_add(1);
    let total: i64 = lent
        .row(&span_count(&span.actions), args![organisation, after, until, most])
        .await?
        .ok_or(Fault::Overtaken)?
        .try_get(0)?;
    if total == most && offset >= SPAN_MOST {
        return Err(too_long().into());
    }
    let (offset, limit) =
        (i64::try_from(offset).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    let found =
        lent.rows(&span_page(&span.actions), args![organisation, after, until, limit, offset]).await?;
    let events: Result<Vec<_>, Fault> = found
        .iter()
        .map(|row| Ok(Numbered { row: row.try_get(0)?, event: read(row.try_get(1)?)? }))
        .collect();
    Ok((events?, total.unsigned_abs()))
}

// By the index of times, whose order is the one asked for. What stands in a person's chain and in the organisation's is left
// out of the organisation's, so that nothing comes twice.
/// Selects the events of each action in a span of time, each from the index of actions.
fn of_span(actions: &[Action], end: &str) -> String {
    let of_action = |action: &Action| {
        // What stands in a person's chain and in the organisation's is left out of the organisation's, so that nothing
        // comes twice.
        let once = if *action == Action::UserCreated { " AND subject <> organisation" } else { "" };
        format!(
            "(SELECT at, \"row\" FROM audit
              WHERE organisation = $1 AND action = '{action}' AND at > $2 AND at <= $3{once}{end})"
        )
    };
    actions.iter().map(of_action).collect::<Vec<_>>().join(" UNION ALL ")
}

fn span_page(actions: &[Action]) -> String {
    format!(
        "SELECT page.\"row\", body FROM (
             SELECT at, \"row\" FROM ({}) AS events ORDER BY at, \"row\" LIMIT $4 OFFSET $5
         ) AS page JOIN audit ON audit.\"row\" = page.\"row\" ORDER BY page.at, page.\"row\"",
        of_span(actions, " ORDER BY at, \"row\"")
    )
}

fn span_count(actions: &[Action]) -> String {
    format!("SELECT count(*) FROM (SELECT FROM ({}) AS events LIMIT $4) AS first", of_span(actions, ""))
}

/// Walks a person's chain back, from its end or from where the page before ended.
async fn walk(
    lent: &Lent,
    organisation: OrganisationId,
    user: UserId,
    filter: &AuditFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<Event>, Fault> {
    let mut from = match after {
        None => i64::MAX,
        Some(Cursor::Link(seq)) => seq,
        Some(_) => return Err(Cursor::unknown().into()),
    };
    let (times, limit) = (time_span(filter), limit.max(1));
    let is_filtered = filter.action.is_some() || times != (i64::MIN..i64::MAX);
    let most = i64::try_from(if is_filtered { WALK } else { limit }).unwrap_or(i64::MAX);
    let links = lent.rows(WALK_BACK, args![user.uuid(), organisation.uuid(), from, most]).await?;
    let mut events = Vec::new();
    for link in &links {
        if events.len() == limit {
            break;
        }
        from = link.try_get::<_, i64>(0)? - 1;
        let event = read(link.try_get(1)?)?;
        if filter.action.is_none_or(|action| event.action == action) && times.contains(&event.at.millis()) {
            events.push(event);
        }
    }
    // A chain begins with 1, or with what was not pruned of it.
    let is_read_to_its_end = i64::try_from(links.len()).unwrap_or(i64::MAX) < most && events.len() < limit;
    let is_more = from >= 1 && !links.is_empty() && !is_read_to_its_end;
    Ok(page_until(events, is_more.then_some(Cursor::Link(from))))
}

const WALK_BACK: &str = "SELECT seq, body FROM audit
    WHERE subject = $1 AND organisation = $2 AND seq <= $3 ORDER BY seq DESC LIMIT $4";

fn read(body: &[u8]) -> Result<Event, Fault> {
    let event = serde_json::from_slice(body).map_err(|error| {
        Error::Store(format!(
            "read audit event: not as expected at line {} column {}",
            error.line(),
            error.column()
        ))
    });
    Ok(event?)
}

fn hash(bytes: &[u8]) -> Result<Hash, Fault> {
    let bytes = bytes.try_into().map_err(|_| Error::Store("read audit event: a hash has 32 bytes".into()));
    Ok(Hash(bytes?))
}

const ROWS: &str = "SELECT \"row\", subject, organisation, seq, hash, body FROM audit
    WHERE \"row\" > $1 ORDER BY \"row\" LIMIT $2";
const OLDEST_WORK: &str = "SELECT (extract(epoch FROM least(clock_timestamp(),
        (SELECT min(xact_start) FROM pg_stat_activity WHERE datname = current_database()))) * 1000)::bigint";

async fn claimed_heads(lent: &Lent, after: Option<Cursor>, limit: usize) -> Result<Page<ClaimedHead>, Fault> {
    let mut heads = Vec::new();
    let mut wanted = rows_for(limit);
    let user = match after {
        Some(Cursor::UserHead(place)) => place,
        None | Some(Cursor::OrganisationHead(_)) => {
            let place = if let Some(Cursor::OrganisationHead(place)) = after { place } else { 0 };
            for (place, organisation) in organisations::after_place(lent, place, wanted).await? {
                let subject = Subject::Organisation(organisation.id);
                let head = ClaimedHead { subject, head: organisation.audit_head };
                heads.push((Cursor::OrganisationHead(place), head));
                wanted -= 1;
            }
            0
        }
        Some(_) => return Err(Cursor::unknown().into()),
    };
    for (place, user) in users::after_place(lent, user, wanted).await? {
        let subject = Subject::User(user.id);
        heads.push((Cursor::UserHead(place), ClaimedHead { subject, head: user.audit_head }));
    }
    Ok(page(heads, limit))
}
