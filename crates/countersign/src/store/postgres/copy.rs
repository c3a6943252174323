//! One end of a copy: a database in PostgreSQL, read page by page and written a batch a commit.
//!
//! This end is no node, and no node uses the database. So it has more patience than those whose callers wait, and whatever it
//! does again after a lost connection is guarded by the mark that the first attempt would have replaced.

use super::{
    Postgres, anchors, checkpoints,
    cluster::NOW_MILLIS,
    database::{Database, Lent},
    examine,
    failure::{self, Fault},
    opening, order, outbox, schema, search,
    sql::{Argument, args},
    users::NameKind,
};
use crate::{
    config::Data,
    error::{Error, Result},
    store::{
        IndexColumns,
        copy::{self, MARK, Tally},
        rows::{Departed, Destination, Document, Entry, Event, Message, Place, Revoked, Rows, Table},
        search::block,
    },
};
use countersign_core::{OrganisationId, Timestamp, UserId};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Row;
use uuid::Uuid;

/// How long one step may take. Counting reads whole tables.
const STEP: Duration = Duration::from_secs(3600);
/// How long the database may be away.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Tables that say again what stands in documents.
const DERIVED: [&str; 4] = ["names", "clients", "people_names", "people_blocks"];
/// Whoever was seen since is at work, in SQL's words. Several times as long as a node takes between two signs of life.
const AT_WORK: &str = "now() - interval '1 minute'";

/// A database in PostgreSQL.
pub(in crate::store) struct End {
    database: Arc<Database>,
}

/// Returns a time in which all numbers are above this one.
pub(in crate::store) fn time_after(number: i64) -> Timestamp {
    Timestamp::from_millis(order::time_after(number))
}

impl End {
    /// Opens a database that is there.
    pub(in crate::store) async fn source(settings: &Data) -> Result<Self> {
        let end = Self::connect(settings).await?;
        if !schema::is_present(&end.database).await.map_err(opening)? {
            return Err(copy::nothing_there());
        }
        end.check_schema().await
    }

    /// Opens a database, and makes the tables where there is nothing.
    pub(in crate::store) async fn target(settings: &Data) -> Result<Self> {
        let end = Self::connect(settings).await?;
        if !end.holds_anything().await? {
            schema::migrate(&end.database).await.map_err(opening)?;
        }
        end.check_schema().await
    }

    async fn connect(settings: &Data) -> Result<Self> {
        let database = Postgres::prepare(settings)?;
        examine::examine(&database).await.map_err(opening)?;
        Ok(Self { database })
    }

    async fn check_schema(self) -> Result<Self> {
        match self.step(async |lent| schema::is_current(lent).await).await? {
            true => Ok(self),
            false => Err(copy::outdated()),
        }
    }

    /// Does something until it goes through, however often the connection is lost on the way.
    async fn step<T>(&self, mut work: impl AsyncFnMut(&Lent) -> Result<T, Fault>) -> Result<T> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let attempt = async {
                let lent = self.database.lend(Instant::now() + STEP).await?;
                work(&lent).await
            };
            let overdue = || Err(Fault::Passing("the database did not answer in time".into()));
            match timeout(STEP, attempt).await.unwrap_or_else(|_| overdue()) {
                Ok(outcome) => return Ok(outcome),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Passing(cause)) if Instant::now() > give_up => {
                    return Err(Error::Unreachable(failure::with_advice(cause)));
                }
                Err(Fault::Overtaken | Fault::Passing(_)) => sleep(PAUSE).await,
            }
        }
    }

    /// Does something in a transaction; takes it back if it says false.
    async fn commit(&self, mut work: impl AsyncFnMut(&Lent) -> Result<bool, Fault>) -> Result<bool> {
        self.step(async |lent| {
            lent.begin().await?;
            let outcome = work(lent).await;
            match outcome {
                Ok(true) => lent.end("COMMIT").await?,
                Ok(false) | Err(_) => lent.roll_back().await,
            }
            outcome
        })
        .await
    }

    /// Returns how many nodes were seen lately.
    pub(in crate::store) async fn servers(&self) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM nodes WHERE seen_at > {AT_WORK}");
        self.step(async |lent| Ok(one::<i64>(lent, &sql).await?.unsigned_abs())).await
    }

    /// Returns the smallest number that a node would give now, and the time there.
    pub(in crate::store) async fn next_number(&self) -> Result<(i64, Timestamp)> {
        let now = self.step(async |lent| one(lent, &format!("SELECT {NOW_MILLIS}")).await).await?;
        Ok((order::first_of(now), Timestamp::from_millis(now)))
    }

    /// See [`Tally`].
    pub(in crate::store) async fn tally(&self) -> Result<Tally> {
        self.step(tally).await
    }

    /// Returns the mark of an unfinished copy.
    pub(in crate::store) async fn mark(&self) -> Result<Option<Vec<u8>>> {
        self.step(mark).await
    }

    /// Tells whether there is anything of an installation, of whichever version.
    async fn holds_anything(&self) -> Result<bool> {
        self.step(async |lent| {
            for table in ["organisations", "meta"] {
                let is_there = format!("SELECT to_regclass('{table}') IS NOT NULL");
                let has_rows = format!("SELECT EXISTS (SELECT FROM {table})");
                if one(lent, &is_there).await? && one(lent, &has_rows).await? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    /// Sets the mark in a database that holds nothing; false if it holds anything.
    pub(in crate::store) async fn begin(&self, mark: Vec<u8>) -> Result<bool> {
        const SET: &str =
            "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING name";
        self.commit(async |lent| {
            if self::mark(lent).await?.as_ref() == Some(&mark) {
                // The attempt before went through.
                return Ok(true);
            }
            Ok(is_empty(lent).await? && lent.row(SET, args![MARK, mark]).await?.is_some())
        })
        .await
    }

    /// Returns a page of a table after a place, audit rows with the ones before them if they are to be linked.
    pub(in crate::store) async fn read(
        &self,
        table: Table,
        after: Option<Place>,
        is_linked: bool,
    ) -> Result<Rows> {
        self.step(async |lent| read(lent, table, after.clone(), is_linked).await).await
    }

    /// Adds rows in one commit that replaces the mark.
    pub(in crate::store) async fn write(
        &self,
        rows: Option<Rows>,
        mark: Vec<u8>,
        next: Vec<u8>,
    ) -> Result<()> {
        const MOVE: &str = "UPDATE meta SET value = $3 WHERE name = $1 AND value = $2 RETURNING name";
        let is_moved = self
            .commit(async |lent| {
                if lent.row(MOVE, args![MARK, mark, next]).await?.is_none() {
                    // Perhaps by the attempt before.
                    return Ok(self::mark(lent).await?.as_ref() == Some(&next));
                }
                if let Some(rows) = &rows {
                    write(lent, rows).await?;
                }
                Ok(true)
            })
            .await?;
        is_moved.then_some(()).ok_or_else(copy::overtaken)
    }

    /// Takes the mark away.
    pub(in crate::store) async fn finish(&self, mark: Vec<u8>) -> Result<()> {
        const REMOVE: &str = "DELETE FROM meta WHERE name = $1 AND value = $2 RETURNING name";
        self.analyze().await?;
        let is_finished = self
            .commit(async |lent| {
                let removed = lent.row(REMOVE, args![MARK, mark]).await?;
                // Perhaps by the attempt before.
                Ok(removed.is_some() || self::mark(lent).await?.is_none())
            })
            .await?;
        is_finished.then_some(()).ok_or_else(copy::overtaken)
    }

    /// Lets the planner know what has come, before anybody waits for an answer.
    async fn analyze(&self) -> Result<()> {
        let copied = Table::ALL.into_iter().filter(|table| !table.is_derived()).map(Table::sql);
        let tables: Vec<_> = copied.chain(DERIVED).collect();
        let sql = format!("ANALYZE {}", tables.join(", "));
        self.step(async |lent| Ok(lent.batch_execute(&sql).await?)).await
    }
}

/// Returns the mark of an unfinished copy.
pub(super) async fn mark(lent: &Lent) -> Result<Option<Vec<u8>>, Fault> {
    let row = lent.row("SELECT value FROM meta WHERE name = $1", args![MARK]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Reads one value.
async fn one<T>(lent: &Lent, sql: &str) -> Result<T, Fault>
where
    T: for<'r> tokio_postgres::types::FromSql<'r>,
{
    Ok(lent.row(sql, args![]).await?.ok_or(Fault::Overtaken)?.try_get(0)?)
}

async fn is_empty(lent: &Lent) -> Result<bool, Fault> {
    let tables = Table::ALL.into_iter().filter(|table| !table.is_derived()).map(Table::sql);
    for table in tables.chain(DERIVED) {
        if one(lent, &format!("SELECT EXISTS (SELECT FROM {table})")).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn tally(lent: &Lent) -> Result<Tally, Fault> {
    let mut tally = Tally::default();
    for table in Table::ALL.into_iter().filter(|table| !table.is_derived()) {
        let marks = if table == Table::Meta { format!(" WHERE name <> '{MARK}'") } else { String::new() };
        let count: i64 = one(lent, &format!("SELECT count(*) FROM {}{marks}", table.sql())).await?;
        tally.counts.insert(table, count.unsigned_abs());
    }
    let newest = lent.row("SELECT \"row\", hash FROM audit ORDER BY \"row\" DESC LIMIT 1", args![]).await?;
    tally.newest = newest.map(|row| Ok::<_, Fault>((row.try_get(0)?, row.try_get(1)?))).transpose()?;
    tally.checkpoint = one(lent, "SELECT max(seq) FROM checkpoints").await?;
    let messages = lent.row(MESSAGES, args![]).await?.ok_or(Fault::Overtaken)?;
    tally.messages = [messages.try_get(0)?, messages.try_get(1)?, messages.try_get(2)?, messages.try_get(3)?];
    tally.highest = one(lent, HIGHEST).await?;
    Ok(tally)
}

const MESSAGES: &str = "SELECT coalesce(sum(attempts), 0)::bigint,
        coalesce(sum(interrupted + (claim IS NOT NULL AND state = 'queued')::int), 0)::bigint, count(settled_at),
        (SELECT coalesce(max(last_at), 0) FROM destinations)
    FROM deliveries";
const HIGHEST: &str = "SELECT greatest((SELECT max(\"row\") FROM audit), (SELECT max(place) FROM users),
    (SELECT max(place) FROM organisations), 0)";

/// Reads a page. Each follows the index of its order.
async fn read(lent: &Lent, table: Table, after: Option<Place>, is_linked: bool) -> Result<Rows, Fault> {
    let page = table.page();
    // Before the first row of any table; a parameter that is null is left out of the comparison.
    let number = match after {
        Some(Place::Number(number)) => number,
        _ => i64::MIN,
    };
    let text = match &after {
        Some(Place::Text(text)) => text.as_str(),
        _ => "",
    };
    let (outer, id) = match after {
        Some(Place::Id(id)) => (None, Some(id)),
        Some(Place::Of(organisation, id)) => (Some(organisation), Some(id)),
        _ => (None, None),
    };
    Ok(match table {
        Table::Meta => {
            let found = lent.rows(META, args![text, page, MARK]).await?;
            Rows::Meta(each(&found, |row| Ok(Entry { name: row.try_get(0)?, value: row.try_get(1)? }))?)
        }
        Table::Organisations => {
            Rows::Organisations(each(&lent.rows(ORGANISATIONS, args![number, page]).await?, document)?)
        }
        Table::People => Rows::People(each(&lent.rows(PEOPLE, args![number, page]).await?, document)?),
        Table::Events => {
            Rows::Events(each(&lent.rows(&events(is_linked), args![number, page]).await?, event)?)
        }
        Table::Anchors => {
            let after = id.unwrap_or(Uuid::nil());
            Rows::Anchors(each(&lent.rows(anchors::LIST, args![after, page]).await?, anchors::read)?)
        }
        Table::Departed if !is_linked => Rows::Departed(Vec::new()),
        Table::Departed => Rows::Departed(each(&lent.rows(DEPARTED, args![id, page]).await?, |row| {
            Ok(Departed { id: row.try_get(0)?, organisation: row.try_get(1)?, audit_row: row.try_get(2)? })
        })?),
        Table::Checkpoints => {
            let found = lent.rows(checkpoints::LIST, args![number, page]).await?;
            Rows::Checkpoints(each(&found, checkpoints::read)?)
        }
        Table::Revoked => Rows::Revoked(each(&lent.rows(REVOKED, args![id, page]).await?, |row| {
            Ok(Revoked { token: row.try_get(0)?, expires_at: row.try_get(1)? })
        })?),
        Table::Destinations => {
            Rows::Destinations(each(&lent.rows(DESTINATIONS, args![text, page]).await?, |row| {
                Ok(Destination { key: row.try_get(0)?, last_at: row.try_get(1)?, sent: row.try_get(2)? })
            })?)
        }
        Table::Deliveries => {
            Rows::Deliveries(each(&lent.rows(DELIVERIES, args![outer, id, page]).await?, message)?)
        }
    })
}

fn each<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    rows.iter().map(read).collect()
}

const META: &str = "SELECT name, value FROM meta WHERE name > $1 AND name <> $3 ORDER BY name LIMIT $2";
// No row has the number 0.
const ORGANISATIONS: &str = "SELECT place, id, version, people, nullif(audit_row, 0), body FROM organisations
    WHERE place > $1 ORDER BY place LIMIT $2";
const PEOPLE: &str = "SELECT place, id, version, updated_at, nullif(audit_row, 0), body FROM users
    WHERE place > $1 ORDER BY place LIMIT $2";
// Whoever has a chain and no document was removed. What is left of a chain begins with its first event, or after those that
// were pruned.
const DEPARTED: &str = "SELECT subject, organisation,
        (SELECT newest.\"row\" FROM audit AS newest WHERE newest.subject = oldest.subject ORDER BY newest.seq DESC LIMIT 1)
    FROM (SELECT subject, organisation FROM audit WHERE seq = 1 AND ($1::uuid IS NULL OR subject > $1)
        UNION ALL SELECT audit.subject, audit.organisation
            FROM anchors JOIN audit ON audit.subject = anchors.subject AND audit.seq = anchors.seq + 1
            WHERE anchors.seq > 0 AND ($1::uuid IS NULL OR anchors.subject > $1)) AS oldest
    WHERE NOT EXISTS (SELECT FROM users WHERE users.id = subject)
        AND NOT EXISTS (SELECT FROM organisations WHERE organisations.id = subject)
    ORDER BY subject LIMIT $2";
const REVOKED: &str = "SELECT token, expires_at FROM revoked
    WHERE $1::uuid IS NULL OR token > $1 ORDER BY token LIMIT $2";
const DESTINATIONS: &str = "SELECT key, last_at, sent FROM destinations WHERE key > $1 ORDER BY key LIMIT $2";
const DELIVERIES: &str =
    "SELECT organisation, id, \"user\", challenge, channel, subject, masked, state, created_at, expires_at,
        due_at, attempts, interrupted, claim IS NOT NULL AND state = 'queued', settled_at, provider, reference, report, reason,
        body
    FROM deliveries WHERE $1::uuid IS NULL OR (organisation, id) > ($1, $2::uuid) ORDER BY organisation, id LIMIT $3";

/// Selects a page of audit rows, with the ones before them if these are to be linked.
fn events(is_linked: bool) -> String {
    let previous = match is_linked {
        true => {
            "(SELECT before.\"row\" FROM audit AS before
              WHERE before.subject = audit.subject AND before.seq = audit.seq - 1)"
        }
        false => "NULL::bigint",
    };
    format!(
        "SELECT \"row\", {previous}, organisation, subject, seq, at, action, hash, body FROM audit
         WHERE \"row\" > $1 ORDER BY audit.\"row\" LIMIT $2"
    )
}

fn document(row: &Row) -> Result<Document, Fault> {
    Ok(Document {
        place: row.try_get(0)?,
        id: row.try_get(1)?,
        version: row.try_get(2)?,
        beside: row.try_get(3)?,
        audit_row: row.try_get(4)?,
        body: row.try_get(5)?,
    })
}

fn event(row: &Row) -> Result<Event, Fault> {
    Ok(Event {
        row: row.try_get(0)?,
        previous: row.try_get(1)?,
        organisation: row.try_get(2)?,
        subject: row.try_get(3)?,
        seq: row.try_get(4)?,
        at: row.try_get(5)?,
        action: row.try_get(6)?,
        hash: row.try_get(7)?,
        body: row.try_get(8)?,
    })
}

fn message(row: &Row) -> Result<Message, Fault> {
    Ok(Message {
        organisation: row.try_get(0)?,
        id: row.try_get(1)?,
        user: row.try_get(2)?,
        challenge: row.try_get(3)?,
        channel: row.try_get(4)?,
        subject: row.try_get(5)?,
        masked: row.try_get(6)?,
        state: row.try_get(7)?,
        created_at: row.try_get(8)?,
        expires_at: row.try_get(9)?,
        due_at: row.try_get(10)?,
        attempts: row.try_get(11)?,
        interrupted: row.try_get(12)?,
        is_claimed: row.try_get(13)?,
        settled_at: row.try_get(14)?,
        provider: row.try_get(15)?,
        reference: row.try_get(16)?,
        report: row.try_get(17)?,
        reason: row.try_get(18)?,
        body: row.try_get(19)?,
    })
}

/// Adds rows to a table, in one statement that takes a list for each column.
macro_rules! add {
    ($lent:expr, $table:literal, $rows:expr, { $($column:ident: $value:expr),+ $(,)? }) => {
        insert($lent, $table, &[$(stringify!($column)),+], args![$(column($rows, $value)),+]).await
    };
}

async fn write(lent: &Lent, rows: &Rows) -> Result<(), Fault> {
    match rows {
        Rows::Meta(entries) => {
            add!(lent, "meta", entries, { name: |it| it.name.as_str(), value: |it| it.value.as_slice() })
        }
        Rows::Organisations(documents) => add_organisations(lent, documents).await,
        Rows::Events(events) => add_events(lent, events).await,
        Rows::Anchors(rows) => add!(lent, "anchors", rows, {
            subject: |it| it.subject,
            seq: anchors::seq,
            body: |it| it.body.as_slice(),
        }),
        Rows::People(documents) => add_people(lent, documents).await,
        // Their chains are found by their key.
        Rows::Departed(_) => Ok(()),
        Rows::Checkpoints(checkpoints) => add!(lent, "checkpoints", checkpoints, {
            seq: |it| checkpoints::place(it.seq),
            at: |it| it.at.millis(),
            jws: |it| it.jws.as_str(),
        }),
        // Whoever joins the nodes later hears of all.
        Rows::Revoked(tokens) => add!(lent, "revoked", tokens, {
            token: |it| it.token,
            expires_at: |it| it.expires_at,
            revoked_at: |_| 0_i64,
        }),
        Rows::Destinations(rows) => add!(lent, "destinations", rows, {
            key: |it| it.key.as_str(),
            last_at: |it| it.last_at,
            sent: |it| it.sent.as_str(),
        }),
        Rows::Deliveries(messages) => add_messages(lent, messages).await,
    }
}

async fn insert(lent: &Lent, table: &str, columns: &[&str], lists: &[Argument<'_>]) -> Result<(), Fault> {
    let parameters: Vec<_> = (1..=columns.len()).map(|number| format!("${number}")).collect();
    // Some are words of SQL's own.
    let sql = format!(
        "INSERT INTO {table} (\"{}\") SELECT * FROM unnest({})",
        columns.join("\", \""),
        parameters.join(", ")
    );
    lent.run(&sql, lists).await.map(drop)
}

fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

async fn add_organisations(lent: &Lent, documents: &[Document]) -> Result<(), Fault> {
    add!(lent, "organisations", documents, {
        id: |it| it.id,
        place: |it| it.place,
        version: |it| it.version,
        audit_row: |it| it.audit_row.unwrap_or_default(),
        people: |it| it.beside,
        body: |it| it.body.as_slice(),
    })?;
    let (mut names, mut clients) = (Vec::new(), Vec::new());
    for document in documents {
        let organisation = document.organisation()?;
        names.push((Uuid::nil(), NameKind::Slug, organisation.slug.key(), document.id));
        clients.extend(organisation.clients.iter().map(|client| (client.id.uuid(), document.id)));
    }
    add_names(lent, &names).await?;
    add!(lent, "clients", &clients, { id: |it| it.0, organisation: |it| it.1 })
}

async fn add_events(lent: &Lent, events: &[Event]) -> Result<(), Fault> {
    add!(lent, "audit", events, {
        row: |it| it.row,
        organisation: |it| it.organisation,
        subject: |it| it.subject,
        seq: |it| it.seq,
        at: |it| it.at,
        action: |it| it.action.as_str(),
        hash: |it| it.hash.as_slice(),
        body: |it| it.body.as_slice(),
    })
}

async fn add_people(lent: &Lent, documents: &[Document]) -> Result<(), Fault> {
    let mut people = Vec::with_capacity(documents.len());
    let mut names = Vec::new();
    for document in documents {
        let user = document.person()?;
        let (columns, organisation) = (IndexColumns::of(&user), user.organisation.uuid());
        names.push((organisation, NameKind::Username, columns.username_key.clone(), document.id));
        names.push((organisation, NameKind::Number, user.number.to_string(), document.id));
        if let Some(email) = &columns.email_key {
            names.push((organisation, NameKind::Email, email.clone(), document.id));
        }
        people.push((document, user, columns));
    }
    add!(lent, "users", &people, {
        id: |it| it.0.id,
        place: |it| it.0.place,
        version: |it| it.0.version,
        audit_row: |it| it.0.audit_row.unwrap_or_default(),
        updated_at: |it| it.0.beside,
        body: |it| it.0.body.as_slice(),
        organisation: |it| it.1.organisation.uuid(),
        number: |it| search::number(&it.1),
        username_key: |it| it.2.username_key.as_str(),
        email_key: |it| it.2.email_key.as_deref(),
        given_key: |it| it.2.given_key.as_deref(),
        family_key: |it| it.2.family_key.as_deref(),
        role: |it| i16::from(it.2.role),
        is_active: |it| it.2.is_active,
        mfa_enabled: |it| it.2.mfa_enabled,
        locked_methods: |it| i16::from(it.2.locked_methods),
    })?;
    add_names(lent, &names).await?;
    add!(lent, "people_names", &people, {
        organisation: |it| it.1.organisation.uuid(),
        number: |it| search::number(&it.1),
        id: |it| it.0.id,
        email_key: |it| it.2.email_key.as_deref(),
        given_key: |it| it.2.given_key.as_deref(),
        family_key: |it| it.2.family_key.as_deref(),
    })?;
    let organisations = column(&people, |it| it.1.organisation.uuid());
    let blocks = column(&people, |it| block(search::number(&it.1)));
    lent.run(COUNT, args![organisations, blocks]).await.map(drop)
}

const COUNT: &str = "INSERT INTO people_blocks AS it (organisation, block, people)
    SELECT organisation, block, count(*) FROM unnest($1, $2) AS come (organisation, block) GROUP BY organisation, block
    ON CONFLICT (organisation, block) DO UPDATE SET people = it.people + excluded.people";

/// A name: the organisation it stands in, what it is, how it is matched, and who has it.
type Name = (Uuid, NameKind, String, Uuid);

async fn add_names(lent: &Lent, names: &[Name]) -> Result<(), Fault> {
    add!(lent, "names", names, {
        organisation: |it| it.0,
        kind: |it| it.1 as i16,
        key: |it| it.2.as_str(),
        holder: |it| it.3,
    })
}

async fn add_messages(lent: &Lent, messages: &[Message]) -> Result<(), Fault> {
    let owner = |it: &Message| {
        outbox::owner(OrganisationId::from_uuid(it.organisation), it.user.map(UserId::from_uuid))
    };
    add!(lent, "deliveries", messages, {
        owner: owner,
        id: |it| it.id,
        organisation: |it| it.organisation,
        user: |it| it.user,
        challenge: |it| it.challenge,
        channel: |it| it.channel.as_str(),
        subject: |it| it.subject.as_str(),
        masked: |it| it.masked.as_str(),
        state: |it| it.state.as_str(),
        created_at: |it| it.created_at,
        expires_at: |it| it.expires_at,
        due_at: |it| it.due_at,
        attempts: |it| it.attempts,
        interrupted: |it| it.interrupted,
        settled_at: |it| it.settled_at,
        provider: |it| it.provider.as_deref(),
        reference: |it| it.reference.as_deref(),
        report: |it| it.report.as_deref(),
        reason: |it| it.reason.as_deref(),
        body: |it| it.body.as_deref(),
    })
}
