//! One end of a copy: the database in a directory, read page by page and written a batch a commit.
//!
//! No server uses it: the directory is locked until this end is dropped.

use super::{
    Sqlite, anchors, checkpoints, connection,
    directory::Directory,
    organisations, schema,
    users::{self, Stored},
};
use crate::{
    error::{Error, Result},
    store::{
        Checkpoint,
        copy::{self, MARK, Tally},
        rows::{Departed, Destination, Document, Entry, Event, Message, Place, Revoked, Rows, Table},
    },
};
use rusqlite::{
    Connection, OptionalExtension, Params, Row, Transaction, TransactionBehavior, named_params, params,
};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

/// KiB of pages that are kept: the indexes of people are written to in the order of other keys than theirs.
const CACHE: i64 = 64 * 1024;
/// Pages the log may grow by before it is copied into the database. Nobody waits for a commit.
const CHECKPOINT_PAGES: i64 = 4000;

/// The database in a directory.
pub(in crate::store) struct End {
    locked: Arc<Mutex<Locked>>,
}

struct Locked {
    connection: Connection,
    /// Dropped after the connection: the lock outlives the last write.
    _directory: Directory,
}

impl End {
    /// Opens a database that is there.
    pub(in crate::store) fn source(directory: &Path) -> Result<Self> {
        if !Sqlite::exists(directory) {
            return Err(copy::nothing_there());
        }
        Self::open(directory, |_| Ok(()))
    }

    /// Opens a database; makes directory and tables where there is nothing.
    pub(in crate::store) fn target(directory: &Path) -> Result<Self> {
        Self::open(directory, |connection| match holds_anything(connection)? {
            true => Ok(()),
            false => schema::migrate(connection).map(drop),
        })
    }

    fn open(directory: &Path, prepare: impl FnOnce(&Connection) -> Result<()>) -> Result<Self> {
        let directory = Directory::open(directory)?;
        let connection = connection::writer(&directory.database())?;
        prepare(&connection)?;
        if !schema::is_present(&connection)? {
            return Err(copy::outdated());
        }
        connection.pragma_update(None, "cache_size", -CACHE)?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
        Ok(Self { locked: Arc::new(Mutex::new(Locked { connection, _directory: directory })) })
    }

    /// Runs work on the connection, on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let locked = Arc::clone(&self.locked);
        // Whoever panicked with the lock held had a transaction in their hands, which is rolled back.
        let task =
            spawn_blocking(move || work(&locked.lock().unwrap_or_else(PoisonError::into_inner).connection));
        task.await.unwrap_or_else(|error| Err(Error::Internal(format!("copy the store: {error}"))))
    }

    /// Commits work that begins by replacing the mark; nothing happens where there is another one.
    async fn commit(&self, work: impl FnOnce(&Connection) -> Result<bool> + Send + 'static) -> Result<bool> {
        self.run(move |connection| {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let is_done = work(&transaction)?;
            if is_done {
                transaction.commit()?;
            }
            Ok(is_done)
        })
        .await
    }

    /// See [`Tally`].
    pub(in crate::store) async fn tally(&self) -> Result<Tally> {
        self.run(tally).await
    }

    /// Returns the mark of an unfinished copy.
    pub(in crate::store) async fn mark(&self) -> Result<Option<Vec<u8>>> {
        self.run(mark).await
    }

    /// Sets the mark in a database that holds nothing; false if it holds anything.
    pub(in crate::store) async fn begin(&self, mark: Vec<u8>) -> Result<bool> {
        self.commit(move |connection| {
            if !is_empty(connection)? {
                return Ok(false);
            }
            connection.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", params![MARK, mark])?;
            Ok(true)
        })
        .await
    }

    /// Returns a page of a table after a place.
    pub(in crate::store) async fn read(
        &self,
        table: Table,
        after: Option<Place>,
        _is_linked: bool,
    ) -> Result<Rows> {
        self.run(move |connection| read(connection, table, after)).await
    }

    /// Adds rows in one commit that replaces the mark.
    pub(in crate::store) async fn write(
        &self,
        rows: Option<Rows>,
        mark: Vec<u8>,
        next: Vec<u8>,
    ) -> Result<()> {
        let work = move |connection: &Connection| {
            let moved = connection
                .prepare_cached("UPDATE meta SET value = ?3 WHERE name = ?1 AND value = ?2 RETURNING name")?
                .query_row(params![MARK, mark, next], |_| Ok(()))
                .optional()?;
            if moved.is_none() {
                return Ok(false);
            }
            rows.map_or(Ok(()), |rows| write(connection, &rows))?;
            Ok(true)
        };
        self.commit(work).await?.then_some(()).ok_or_else(copy::overtaken)
    }

    /// Takes the mark away.
    pub(in crate::store) async fn finish(&self, mark: Vec<u8>) -> Result<()> {
        let work = move |connection: &Connection| {
            let mut statement =
                connection.prepare("DELETE FROM meta WHERE name = ?1 AND value = ?2 RETURNING name")?;
            Ok(statement.query_row(params![MARK, mark], |_| Ok(())).optional()?.is_some())
        };
        self.commit(work).await?.then_some(()).ok_or_else(copy::overtaken)
    }
}

/// Returns the mark of an unfinished copy.
pub(super) fn mark(connection: &Connection) -> Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare("SELECT value FROM meta WHERE name = ?1")?;
    Ok(statement.query_row([MARK], |row| row.get(0)).optional()?)
}

/// Tells whether there is anything of an installation, of whichever version.
fn holds_anything(connection: &Connection) -> Result<bool> {
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_schema WHERE name IN ('organisations', 'meta')")?;
    let tables: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for table in tables {
        if connection.query_row(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), [], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_empty(connection: &Connection) -> Result<bool> {
    for table in Table::ALL.map(Table::sql).into_iter().chain(["clients"]) {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        if connection.query_row(&sql, [], |row| row.get(0))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn tally(connection: &Connection) -> Result<Tally> {
    let mut tally = Tally::default();
    for table in Table::ALL.into_iter().filter(|table| !table.is_derived()) {
        let marks = if table == Table::Meta { format!(" WHERE name <> '{MARK}'") } else { String::new() };
        let sql = format!("SELECT count(*) FROM {}{marks}", table.sql());
        let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        tally.counts.insert(table, count.unsigned_abs());
    }
    let newest = "SELECT row, hash FROM audit ORDER BY row DESC LIMIT 1";
    tally.newest = connection.query_row(newest, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    tally.checkpoint = connection.query_row("SELECT max(seq) FROM checkpoints", [], |row| row.get(0))?;
    tally.messages = connection.query_row(
        "SELECT coalesce(sum(attempts), 0),
             coalesce(sum(interrupted + (claim IS NOT NULL AND state = 'queued')), 0), count(settled_at),
             (SELECT coalesce(max(last_at), 0) FROM destinations)
         FROM deliveries",
        [],
        |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]),
    )?;
    tally.highest = connection.query_row(
        "SELECT max(coalesce((SELECT max(row) FROM audit), 0), coalesce((SELECT max(pk) FROM users), 0),
             coalesce((SELECT max(pk) FROM organisations), 0))",
        [],
        |row| row.get(0),
    )?;
    Ok(tally)
}

/// Reads a page. Each follows the index of its order.
fn read(connection: &Connection, table: Table, after: Option<Place>) -> Result<Rows> {
    let page = table.page();
    // Before the first row of any table.
    let number = match after {
        Some(Place::Number(number)) => number,
        _ => i64::MIN,
    };
    let text = match &after {
        Some(Place::Text(text)) => text.as_str(),
        _ => "",
    };
    let bytes = |id: Uuid| id.into_bytes().to_vec();
    let (outer, id) = match after {
        Some(Place::Id(id)) => (Vec::new(), bytes(id)),
        Some(Place::Of(organisation, id)) => (bytes(organisation), bytes(id)),
        _ => (Vec::new(), Vec::new()),
    };
    Ok(match table {
        Table::Meta => Rows::Meta(rows(connection, META, params![text, page, MARK], |row| {
            Ok(Entry { name: row.get(0)?, value: row.get(1)? })
        })?),
        Table::Organisations => {
            Rows::Organisations(rows(connection, ORGANISATIONS, params![number, page], document)?)
        }
        Table::People => Rows::People(rows(connection, PEOPLE, params![number, page], document)?),
        Table::Events => Rows::Events(rows(connection, EVENTS, params![number, page], event)?),
        Table::Anchors => Rows::Anchors(rows(connection, anchors::LIST, params![id, page], anchors::read)?),
        Table::Departed => Rows::Departed(rows(connection, DEPARTED, params![id, page], |row| {
            Ok(Departed { id: uuid(row, 0)?, organisation: uuid(row, 1)?, audit_row: row.get(2)? })
        })?),
        Table::Checkpoints => {
            Rows::Checkpoints(rows(connection, checkpoints::LIST, params![number, page], checkpoints::read)?)
        }
        Table::Revoked => Rows::Revoked(rows(connection, REVOKED, params![id, page], |row| {
            Ok(Revoked { token: uuid(row, 0)?, expires_at: row.get(1)? })
        })?),
        Table::Destinations => {
            Rows::Destinations(rows(connection, DESTINATIONS, params![text, page], |row| {
                Ok(Destination { key: row.get(0)?, last_at: row.get(1)?, sent: row.get(2)? })
            })?)
        }
        Table::Deliveries => {
            Rows::Deliveries(rows(connection, DELIVERIES, params![outer, id, page], message)?)
        }
    })
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map(parameters, read)?.collect::<rusqlite::Result<_>>()?)
}

const META: &str = "SELECT name, value FROM meta WHERE name > ?1 AND name <> ?3 ORDER BY name LIMIT ?2";
const ORGANISATIONS: &str = "SELECT pk, id, version, people, audit_row, body FROM organisations
    WHERE pk > ?1 ORDER BY pk LIMIT ?2";
const PEOPLE: &str = "SELECT pk, id, version, updated_at, audit_row, body FROM users
    WHERE pk > ?1 ORDER BY pk LIMIT ?2";
const EVENTS: &str = "SELECT row, previous, organisation, subject, seq, at, action, hash, body FROM audit
    WHERE row > ?1 ORDER BY row LIMIT ?2";
const DEPARTED: &str = "SELECT id, organisation, audit_row FROM departed WHERE id > ?1 ORDER BY id LIMIT ?2";
const REVOKED: &str = "SELECT token, expires_at FROM revoked WHERE token > ?1 ORDER BY token LIMIT ?2";
const DESTINATIONS: &str = "SELECT key, last_at, sent FROM destinations WHERE key > ?1 ORDER BY key LIMIT ?2";

macro_rules! messages {
    () => {
        "organisation, id, user, challenge, channel, subject, masked, state, created_at, expires_at, due_at, attempts,
         interrupted, claim IS NOT NULL AND state = 'queued', settled_at, provider, reference, report, reason, body"
    };
}

// What is left of the organisation, then those after it. As one comparison of both SQLite would search by the organisation
// alone, and look at all its messages with each page.
const DELIVERIES: &str = concat!(
    "SELECT ",
    messages!(),
    " FROM deliveries WHERE organisation = ?1 AND id > ?2 UNION ALL SELECT ",
    messages!(),
    " FROM deliveries WHERE organisation > ?1 ORDER BY organisation, id LIMIT ?3"
);

fn document(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        place: row.get(0)?,
        id: uuid(row, 1)?,
        version: row.get(2)?,
        beside: row.get(3)?,
        audit_row: row.get(4)?,
        body: row.get(5)?,
    })
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        row: row.get(0)?,
        previous: row.get(1)?,
        organisation: uuid(row, 2)?,
        subject: uuid(row, 3)?,
        seq: row.get(4)?,
        at: row.get(5)?,
        action: row.get(6)?,
        hash: row.get(7)?,
        body: row.get(8)?,
    })
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        organisation: uuid(row, 0)?,
        id: uuid(row, 1)?,
        user: row.get::<_, Option<_>>(2)?.map(Uuid::from_bytes),
        challenge: row.get::<_, Option<_>>(3)?.map(Uuid::from_bytes),
        channel: row.get(4)?,
        subject: row.get(5)?,
        masked: row.get(6)?,
        state: row.get(7)?,
        created_at: row.get(8)?,
        expires_at: row.get(9)?,
        due_at: row.get(10)?,
        attempts: row.get(11)?,
        interrupted: row.get(12)?,
        is_claimed: row.get(13)?,
        settled_at: row.get(14)?,
        provider: row.get(15)?,
        reference: row.get(16)?,
        report: row.get(17)?,
        reason: row.get(18)?,
        body: row.get(19)?,
    })
}

fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

fn write(connection: &Connection, rows: &Rows) -> Result<()> {
    match rows {
        Rows::Meta(entries) => entries.iter().try_for_each(|entry| add_entry(connection, entry)),
        Rows::Organisations(documents) => {
            documents.iter().try_for_each(|it| add_organisation(connection, it))
        }
        Rows::Events(events) => events.iter().try_for_each(|event| add_event(connection, event)),
        Rows::Anchors(rows) => rows.iter().try_for_each(|anchor| anchors::add(connection, anchor)),
        Rows::People(documents) => documents.iter().try_for_each(|it| add_person(connection, it)),
        Rows::Departed(people) => people.iter().try_for_each(|person| add_departed(connection, person)),
        Rows::Checkpoints(rows) => rows.iter().try_for_each(|row| add_checkpoint(connection, row)),
        Rows::Revoked(tokens) => tokens.iter().try_for_each(|token| add_revoked(connection, token)),
        Rows::Destinations(rows) => rows.iter().try_for_each(|row| add_destination(connection, row)),
        Rows::Deliveries(messages) => messages.iter().try_for_each(|it| add_message(connection, it)),
    }
}

fn add_entry(connection: &Connection, entry: &Entry) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO meta (name, value) VALUES (?1, ?2)")?
        .execute(params![entry.name, entry.value])?;
    Ok(())
}

// Keys are given out in ascending order, so organisations and people come in the order they were created in.
fn add_organisation(connection: &Connection, document: &Document) -> Result<()> {
    let organisation = document.organisation()?;
    connection
        .prepare_cached(
            "INSERT INTO organisations (id, slug_key, version, people, audit_row, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            document.id.into_bytes(),
            organisation.slug.key(),
            document.version,
            document.beside,
            document.audit_row,
            document.body,
        ])?;
    organisations::add_clients(connection, &organisation)
}

fn add_person(connection: &Connection, document: &Document) -> Result<()> {
    let Document { version, audit_row, beside: updated_at, ref body, .. } = *document;
    users::add(connection, &document.person()?, &Stored { version, audit_row, updated_at, body })
}

fn add_event(connection: &Connection, event: &Event) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO audit (row, previous, organisation, subject, seq, at, action, hash, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            event.row,
            event.previous,
            event.organisation.into_bytes(),
            event.subject.into_bytes(),
            event.seq,
            event.at,
            event.action,
            event.hash,
            event.body,
        ])?;
    Ok(())
}

fn add_departed(connection: &Connection, person: &Departed) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO departed (id, organisation, audit_row) VALUES (?1, ?2, ?3)")?
        .execute(params![person.id.into_bytes(), person.organisation.into_bytes(), person.audit_row])?;
    Ok(())
}

fn add_checkpoint(connection: &Connection, checkpoint: &Checkpoint) -> Result<()> {
    checkpoints::append(connection, checkpoint)
}

fn add_revoked(connection: &Connection, revoked: &Revoked) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO revoked (token, expires_at) VALUES (?1, ?2)")?
        .execute(params![revoked.token.into_bytes(), revoked.expires_at])?;
    Ok(())
}

fn add_destination(connection: &Connection, destination: &Destination) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO destinations (key, last_at, sent) VALUES (?1, ?2, ?3)")?
        .execute(params![destination.key, destination.last_at, destination.sent])?;
    Ok(())
}

fn add_message(connection: &Connection, message: &Message) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO deliveries (organisation, id, user, challenge, channel, subject, masked, state, created_at,
                 expires_at, due_at, attempts, interrupted, settled_at, provider, reference, report, reason, body)
             VALUES (:organisation, :id, :user, :challenge, :channel, :subject, :masked, :state, :created_at,
                 :expires_at, :due_at, :attempts, :interrupted, :settled_at, :provider, :reference, :report, :reason,
                 :body)",
        )?
        .execute(named_params! {
            ":organisation": message.organisation.into_bytes(),
            ":id": message.id.into_bytes(),
            ":user": message.user.map(Uuid::into_bytes),
            ":challenge": message.challenge.map(Uuid::into_bytes),
            ":channel": message.channel,
            ":subject": message.subject,
            ":masked": message.masked,
            ":state": message.state,
            ":created_at": message.created_at,
            ":expires_at": message.expires_at,
            ":due_at": message.due_at,
            ":attempts": message.attempts,
            ":interrupted": message.interrupted,
            ":settled_at": message.settled_at,
            ":provider": message.provider,
            ":reference": message.reference,
            ":report": message.report,
            ":reason": message.reason,
            ":body": message.body,
        })?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    /// Every column, by what becomes of it. Who adds one decides here, and in the other engine.
    const COPIED: [(&str, &str); 10] = [
        ("meta", "name value"),
        ("organisations", "pk id slug_key version audit_row body people"),
        ("audit", "row previous organisation subject seq at action hash body"),
        ("anchors", "subject seq body"),
        (
            "users",
            "pk id organisation number username_key email_key role is_active mfa_enabled locked_methods version audit_row \
             updated_at body given_key family_key",
        ),
        ("departed", "id organisation audit_row"),
        ("checkpoints", "seq at jws"),
        ("revoked", "token expires_at"),
        ("destinations", "key last_at sent"),
        (
            "deliveries",
            "pk organisation id user challenge channel subject masked state created_at expires_at due_at attempts \
             interrupted claim settled_at provider reference report reason body",
        ),
    ];
    /// Derived from documents, or of no meaning elsewhere.
    const NOT_COPIED: [&str; 5] = ["clients", "decoy", "migrations", "name_grams", "people_blocks"];

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        schema::migrate(&connection).unwrap();
        connection
    }

    fn names(connection: &Connection, sql: &str) -> Vec<String> {
        rows(connection, sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn nothing_is_left_behind_unknowingly() {
        let connection = database();

        // The index of parts of names keeps itself in tables of its own.
        let tables = names(
            &connection,
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')
                 AND name <> 'sqlite_schema' ORDER BY name",
        );

        let mut known: Vec<&str> = COPIED.iter().map(|(table, _)| *table).chain(NOT_COPIED).collect();
        known.sort_unstable();
        assert_eq!(tables, known);
        assert_eq!(Table::ALL.map(Table::sql), COPIED.map(|(table, _)| table));
        for (table, columns) in COPIED {
            let there = names(&connection, &format!("SELECT name FROM pragma_table_info('{table}')"));
            assert_eq!(there.join(" "), columns, "{table}");
        }
    }

    #[test]
    fn every_page_follows_an_index() {
        let connection = database();

        for sql in [META, ORGANISATIONS, PEOPLE, EVENTS, DEPARTED, REVOKED, DESTINATIONS, DELIVERIES] {
            let steps = {
                let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
                let steps = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get(3)).unwrap();
                steps.collect::<rusqlite::Result<Vec<String>>>().unwrap()
            };
            assert!(steps.iter().any(|step| step.starts_with("SEARCH")), "{sql}: {steps:?}");
            let is_costly = |step: &String| step.contains("SCAN") || step.contains("TEMP B-TREE");
            assert!(!steps.iter().any(is_costly), "{sql}: {steps:?}");
        }
    }
}
