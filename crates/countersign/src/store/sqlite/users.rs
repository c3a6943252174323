//! People: one row a document, guarded by its version.

use super::{Sqlite, audit, organisations, outbox, search, writer::Batch};
use crate::{
    error::{Error, Result},
    store::{
        IndexColumns, Page, UserFilter,
        cursor::{Cursor, page, page_until, rows_for},
        search::{Names, Part},
    },
};
use countersign_core::{Handle, Organisation, OrganisationId, Refusal, User, UserId, user::Status};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params, types::Value};
use std::borrow::Cow;
use uuid::Uuid;

impl Sqlite {
    /// See [`crate::store::Store::change`].
    pub async fn change<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        user: UserId,
        decide: impl FnMut(&mut User) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        self.change_by(organisation, Handle::Id(user), decide).await
    }

    /// See [`crate::store::Store::change_by`].
    pub async fn change_by<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        handle: Handle,
        mut decide: impl FnMut(&mut User) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        self.writer.commit(move |batch| change(batch, organisation, &handle, &mut decide)).await
    }

    /// See [`crate::store::Store::create`].
    pub async fn create(
        &self,
        organisation: OrganisationId,
        mut admit: impl FnMut(&mut Organisation) -> Result<User, Refusal> + Send + 'static,
    ) -> Result<User> {
        self.writer.commit(move |batch| create(batch, organisation, &mut admit)).await
    }

    /// See [`crate::store::Store::remove`].
    pub async fn remove(
        &self,
        organisation: OrganisationId,
        user: UserId,
        mut dismiss: impl FnMut(&mut Organisation, &User) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<()> {
        self.writer.commit(move |batch| remove(batch, organisation, user, &mut dismiss)).await
    }

    /// See [`crate::store::Store::user`].
    pub async fn user(&self, organisation: OrganisationId, user: UserId) -> Result<Option<User>> {
        self.readers
            .read(move |reader| Ok(load(reader, organisation, &Handle::Id(user))?.map(|held| *held.user)))
            .await
    }

    /// See [`crate::store::Store::find`].
    pub async fn find(&self, organisation: OrganisationId, handle: &Handle) -> Result<Option<UserId>> {
        let handle = handle.clone();
        self.readers.read(move |reader| find(reader, organisation, &handle)).await
    }

    /// See [`crate::store::Store::users`].
    pub async fn users(
        &self,
        organisation: OrganisationId,
        filter: &UserFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<User>> {
        let (filter, after) = (filter.clone(), Cursor::parse(after)?);
        self.readers.read(move |reader| list(reader, organisation, &filter, after, limit)).await
    }
}

/// A person as the row holds them, with what guards the row.
#[derive(Debug, PartialEq)]
pub(super) struct Held {
    pk: i64,
    version: i64,
    audit_row: Option<i64>,
    columns: IndexColumns,
    user: Box<User>,
}

impl Held {
    /// Returns whose row it is.
    pub(super) const fn id(&self) -> UserId {
        self.user.id
    }
}

/// Decides on the document and commits what it became.
pub(super) fn change<T>(
    batch: &Batch<'_>,
    organisation: OrganisationId,
    handle: &Handle,
    decide: &mut impl FnMut(&mut User) -> Result<T, Refusal>,
) -> Result<T> {
    let mut held = take(batch, organisation, handle)?.ok_or(Error::NotFound("user"))?;
    let outcome = decide(&mut held.user)?;
    if !held.user.is_unchanged() {
        batch.keep(replace(batch, held)?);
    }
    Ok(outcome)
}

/// Returns somebody for a change: as this batch or an earlier one left them, else from their row. They are kept nowhere until
/// the change is made, so one that fails leaves nothing of what it decided.
fn take(batch: &Batch<'_>, organisation: OrganisationId, handle: &Handle) -> Result<Option<Held>> {
    if let Handle::Id(id) = handle
        && let Some(held) = batch.take(*id)
    {
        debug_assert_eq!(load(batch, held.user.organisation, handle)?.as_ref(), Some(&held));
        return Ok(Some(held).filter(|held| held.user.organisation == organisation));
    }
    let held = load(batch, organisation, handle)?;
    // By another name they may be among those all the same.
    held.as_ref().map(|held| batch.take(held.id()));
    Ok(held)
}

/// Admits a person to an organisation.
pub(super) fn create(
    batch: &Batch<'_>,
    organisation: OrganisationId,
    admit: &mut impl FnMut(&mut Organisation) -> Result<User, Refusal>,
) -> Result<User> {
    let mut held = organisations::load(batch, organisation)?.ok_or(Error::NotFound("organisation"))?;
    let mut user = admit(&mut held.organisation)?;
    if user.organisation != organisation {
        return Err(Error::Internal(format!("create user: {} belongs to another organisation", user.id)));
    }
    let records = user.take_records();
    let messages = outbox::check(batch, user.take_parcels(), user.take_withdrawals())?;

    // First, because it may find a name taken and then nothing else may have been written.
    insert(batch, &user, audit::newest_after(batch, &records, None))?;
    organisations::count(batch, organisation, 1)?;
    audit::append(batch, &records, None)?;
    messages.post(batch)?;
    organisations::replace(batch, held)?;
    Ok(user)
}

fn remove(
    batch: &Batch<'_>,
    organisation: OrganisationId,
    id: UserId,
    dismiss: &mut impl FnMut(&mut Organisation, &User) -> Result<(), Refusal>,
) -> Result<()> {
    let held = take(batch, organisation, &Handle::Id(id))?.ok_or(Error::NotFound("user"))?;
    let mut from = organisations::load(batch, organisation)?.ok_or(Error::NotFound("organisation"))?;
    dismiss(&mut from.organisation, &held.user)?;

    delete(batch, held.pk, held.version)?;
    search::remove(batch, organisation, number(&held.user))?;
    organisations::count(batch, organisation, -1)?;
    audit::keep_departed(batch, organisation, id, held.audit_row)?;
    organisations::replace(batch, from)
}

/// Selects columns of the person whose `$key` is `?2`, which is unique in the organisation `?1`.
macro_rules! select {
    ($columns:expr, $key:literal) => {
        concat!("SELECT ", $columns, " FROM users WHERE organisation = ?1 AND ", $key, " = ?2")
    };
}

macro_rules! held {
    () => {
        "pk, version, audit_row, username_key, email_key, given_key, family_key, role, is_active, mfa_enabled,
         locked_methods, body"
    };
}

const LOAD: ByHandle = ByHandle {
    id: select!(held!(), "id"),
    number: select!(held!(), "number"),
    username: select!(held!(), "username_key"),
    email: select!(held!(), "email_key"),
};
const FIND: ByHandle = ByHandle {
    id: select!("id", "id"),
    number: select!("id", "number"),
    username: select!("id", "username_key"),
    email: select!("id", "email_key"),
};

/// One selection for each kind of handle.
struct ByHandle {
    id: &'static str,
    number: &'static str,
    username: &'static str,
    email: &'static str,
}

impl ByHandle {
    /// Reads the row of the person a handle names.
    fn row<T>(
        &self,
        connection: &Connection,
        organisation: OrganisationId,
        handle: &Handle,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let (sql, name): (_, &dyn ToSql) = match handle {
            Handle::Id(id) => (self.id, &id.uuid().into_bytes()),
            // A number that does not fit is nobody's, and nothing equals NULL.
            Handle::Number(number) => (self.number, &i64::try_from(*number).ok()),
            Handle::Username(key) => (self.username, key),
            Handle::Email(key) => (self.email, key),
        };
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![organisation.uuid().into_bytes(), name])?;
        rows.next()?.map(read).transpose()
    }
}

fn load(connection: &Connection, organisation: OrganisationId, handle: &Handle) -> Result<Option<Held>> {
    LOAD.row(connection, organisation, handle, |row| {
        let columns = IndexColumns {
            username_key: row.get(3)?,
            email_key: row.get(4)?,
            given_key: row.get(5)?,
            family_key: row.get(6)?,
            role: row.get(7)?,
            is_active: row.get(8)?,
            mfa_enabled: row.get(9)?,
            locked_methods: row.get(10)?,
        };
        let user = Box::new(read(row, 11)?);
        Ok(Held { pk: row.get(0)?, version: row.get(1)?, audit_row: row.get(2)?, columns, user })
    })
}

/// Reads the document of a row. One that cannot be read is an error, never somebody who is not there.
pub(super) fn read(row: &Row<'_>, column: usize) -> Result<User> {
    Ok(User::from_json(row.get_ref(column)?.as_bytes()?)?)
}

/// Commits a changed document with its events; returns how its row is then.
fn replace(batch: &Batch<'_>, mut held: Held) -> Result<Held> {
    let previous = held.audit_row;
    let records = held.user.take_records();
    let messages = outbox::check(batch, held.user.take_parcels(), held.user.take_withdrawals())?;
    let columns = IndexColumns::of(&held.user);
    held.audit_row = audit::newest_after(batch, &records, previous);

    let is_unmoved = columns == held.columns;
    let before = std::mem::replace(&mut held.columns, columns);
    let replaced = if is_unmoved {
        rewrite(batch, held.pk, held.version, held.audit_row, &held.user)?
    } else {
        rewrite_with_columns(batch, &held)?
    };
    // One thread writes, and it read this version, or wrote it.
    if !replaced {
        return Err(overtaken("change user"));
    }
    held.version += 1;
    if !is_unmoved {
        rename(batch, &held.user, &Names::of(&before), &Names::of(&held.columns))?;
    }
    audit::append(batch, &records, previous)?;
    messages.post(batch)?;
    Ok(held)
}

/// Makes searches follow a person who got another name.
fn rename(batch: &Batch<'_>, user: &User, before: &Names, now: &Names) -> Result<()> {
    match before == now {
        true => Ok(()),
        false => search::rename(batch, user.organisation, number(user), now),
    }
}

/// Returns a person's number as the column holds it.
fn number(user: &User) -> i64 {
    i64::try_from(user.number).unwrap_or(i64::MAX)
}

/// Replaces the document if nobody did so since `version`; false when somebody did. Touches no index.
fn rewrite(batch: &Batch<'_>, pk: i64, version: i64, audit_row: Option<i64>, user: &User) -> Result<bool> {
    let mut statement = batch.prepare_cached(
        "UPDATE users SET version = version + 1, audit_row = ?3, updated_at = ?4, body = ?5
         WHERE pk = ?1 AND version = ?2",
    )?;
    // The count of rows says what RETURNING would, which costs a table of its own for the answer.
    Ok(statement.execute(params![pk, version, audit_row, user.updated_at.millis(), user.to_json()])? == 1)
}

/// Does what somebody would who decided on the version before; true if that went through. For the self-test.
pub(super) fn rewrite_stale(batch: &Batch<'_>, organisation: OrganisationId, id: UserId) -> Result<bool> {
    let held = load(batch, organisation, &Handle::Id(id))?.ok_or(Error::NotFound("user"))?;
    rewrite(batch, held.pk, held.version - 1, held.audit_row, &held.user)
}

/// Like [`rewrite`], for the rarer change that lists and look-ups must follow.
fn rewrite_with_columns(batch: &Batch<'_>, held: &Held) -> Result<bool> {
    let Held { pk, version, audit_row, columns, user } = held;
    let mut statement = batch.prepare_cached(
        "UPDATE users SET version = version + 1, audit_row = :audit_row, updated_at = :updated_at, body = :body,
             username_key = :username_key, email_key = :email_key, given_key = :given_key,
             family_key = :family_key, role = :role, is_active = :is_active, mfa_enabled = :mfa_enabled,
             locked_methods = :locked_methods
         WHERE pk = :pk AND version = :version",
    )?;
    let parameters = named_params! {
        ":pk": pk,
        ":version": version,
        ":audit_row": audit_row,
        ":updated_at": user.updated_at.millis(),
        ":body": user.to_json(),
        ":username_key": columns.username_key,
        ":email_key": columns.email_key,
        ":given_key": columns.given_key,
        ":family_key": columns.family_key,
        ":role": columns.role,
        ":is_active": columns.is_active,
        ":mfa_enabled": columns.mfa_enabled,
        ":locked_methods": columns.locked_methods,
    };
    Ok(statement.execute(parameters)? == 1)
}

fn insert(batch: &Batch<'_>, user: &User, audit_row: Option<i64>) -> Result<()> {
    let (updated_at, body) = (user.updated_at.millis(), user.to_json());
    add(batch, user, &Stored { version: 1, audit_row, updated_at, body: &body })
}

/// What a row holds of a person that does not stand in an index.
pub(super) struct Stored<'a> {
    /// How often the document was written.
    pub(super) version: i64,
    /// The newest of the person's audit rows.
    pub(super) audit_row: Option<i64>,
    /// When the person was changed.
    pub(super) updated_at: i64,
    /// The document.
    pub(super) body: &'a [u8],
}

/// Adds a person's row.
pub(super) fn add(connection: &Connection, user: &User, stored: &Stored<'_>) -> Result<()> {
    let columns = IndexColumns::of(user);
    let mut statement = connection.prepare_cached(
        "INSERT INTO users (id, organisation, number, username_key, email_key, given_key, family_key, role,
             is_active, mfa_enabled, locked_methods, version, audit_row, updated_at, body)
         VALUES (:id, :organisation, :number, :username_key, :email_key, :given_key, :family_key, :role,
             :is_active, :mfa_enabled, :locked_methods, :version, :audit_row, :updated_at, :body)",
    )?;
    statement.execute(named_params! {
        ":id": user.id.uuid().into_bytes(),
        ":organisation": user.organisation.uuid().into_bytes(),
        ":number": number(user),
        ":username_key": columns.username_key,
        ":email_key": columns.email_key,
        ":given_key": columns.given_key,
        ":family_key": columns.family_key,
        ":role": columns.role,
        ":is_active": columns.is_active,
        ":mfa_enabled": columns.mfa_enabled,
        ":locked_methods": columns.locked_methods,
        ":version": stored.version,
        ":audit_row": stored.audit_row,
        ":updated_at": stored.updated_at,
        ":body": stored.body,
    })?;
    search::add(connection, user.organisation, number(user), &Names::of(&columns))
}

fn delete(batch: &Batch<'_>, pk: i64, version: i64) -> Result<()> {
    let mut statement = batch.prepare_cached("DELETE FROM users WHERE pk = ?1 AND version = ?2")?;
    if statement.execute([pk, version])? == 1 { Ok(()) } else { Err(overtaken("remove user")) }
}

/// Says that a row changed under the only writer's hands: some other program is at work on the file.
pub(super) fn overtaken(doing: &str) -> Error {
    Error::Store(format!("{doing}: another program changed the database; stop that program"))
}

fn find(connection: &Connection, organisation: OrganisationId, handle: &Handle) -> Result<Option<UserId>> {
    FIND.row(connection, organisation, handle, |row| Ok(UserId::from_uuid(Uuid::from_bytes(row.get(0)?))))
}

fn list(
    connection: &Connection,
    organisation: OrganisationId,
    filter: &UserFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<User>> {
    if let UserFilter::UsernamePrefix(prefix) = filter {
        return list_by_username(connection, organisation, prefix, after, limit);
    }
    let after = match after {
        None => -1,
        Some(Cursor::Number(number)) => number,
        Some(_) => return Err(Cursor::unknown()),
    };
    if let Some(part) = Part::of(filter) {
        return list_found(connection, organisation, &part, after, limit);
    }
    let mut statement = connection.prepare_cached(&listed(filter))?;
    let mut rows =
        statement.query(params![organisation.uuid().into_bytes(), wanted(filter), after, rows_for(limit)])?;
    let mut users = Vec::new();
    while let Some(row) = rows.next()? {
        users.push((Cursor::Number(row.get(0)?), read(row, 1)?));
    }
    Ok(page(users, limit))
}

/// Returns what a filter compares with.
pub(super) fn wanted(filter: &UserFilter) -> Value {
    match filter {
        UserFilter::All => Value::Null,
        UserFilter::Status(status) => i64::from(*status == Status::Active).into(),
        UserFilter::MfaEnabled(is_on) => i64::from(*is_on).into(),
        UserFilter::Role(role) => (*role as i64).into(),
        UserFilter::Locked(method) => i64::from(method.bit()).into(),
        UserFilter::UsernamePrefix(text)
        | UserFilter::Username(text)
        | UserFilter::EmailContains(text)
        | UserFilter::GivenNameContains(text)
        | UserFilter::FamilyNameContains(text)
        | UserFilter::NameContains(text) => text.clone().into(),
        UserFilter::Id(id) => id.uuid().into_bytes().to_vec().into(),
    }
}

/// Selects those whom a filter means, by number.
fn listed(filter: &UserFilter) -> String {
    let condition = condition(filter);
    format!(
        "SELECT number, body FROM users
         WHERE organisation = ?1 AND {condition} AND number > ?3 ORDER BY number LIMIT ?4"
    )
}

/// Says whom a filter means, by `?2`. A search is another matter.
pub(super) fn condition(filter: &UserFilter) -> Cow<'static, str> {
    match filter {
        UserFilter::Username(_) => "username_key = ?2".into(),
        // No name goes on with the last code point, which is no character.
        UserFilter::UsernamePrefix(_) => "username_key BETWEEN ?2 AND ?2 || char(1114111)".into(),
        UserFilter::Status(_) => "is_active = ?2".into(),
        UserFilter::MfaEnabled(_) => "mfa_enabled = ?2".into(),
        UserFilter::Role(_) => "role = ?2".into(),
        // The bit is spelled out, because an index on a part of the rows is only used for a constant.
        UserFilter::Locked(method) => {
            format!("?2 IS NOT NULL AND locked_methods & {} <> 0", method.bit()).into()
        }
        UserFilter::Id(_) => "id = ?2".into(),
        _ => "?2 IS NULL".into(),
    }
}

/// Lists those who have a part in their names. What one call looks at is limited, so a page may be short or empty and still
/// have a next one.
fn list_found(
    connection: &Connection,
    organisation: OrganisationId,
    part: &Part,
    after: i64,
    limit: usize,
) -> Result<Page<User>> {
    let found = search::search(connection, organisation, part, after, limit.max(1))?;
    let numbers = found.people.iter().map(|(number, _)| *number);
    Ok(page_until(by_number(connection, organisation, numbers)?, found.next.map(Cursor::Number)))
}

/// Reads the documents of people in the order of the numbers given.
pub(super) fn by_number(
    connection: &Connection,
    organisation: OrganisationId,
    numbers: impl IntoIterator<Item = i64>,
) -> Result<Vec<User>> {
    let organisation = organisation.uuid().into_bytes();
    let mut statement = connection.prepare_cached(BODY)?;
    let read = |number| statement.query_row(params![organisation, number], |row| Ok(read(row, 0)))?;
    numbers.into_iter().map(read).collect()
}

const BODY: &str = "SELECT body FROM users WHERE organisation = ?1 AND number = ?2";

fn list_by_username(
    connection: &Connection,
    organisation: OrganisationId,
    prefix: &str,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<User>> {
    let after = match after {
        None => None,
        Some(Cursor::Username(name)) => Some(name),
        Some(_) => return Err(Cursor::unknown()),
    };
    // Names that begin alike stand together, so the first one that does not ends the list.
    let (sql, from) = match &after {
        Some(name) if name.as_str() >= prefix => (LIST_AFTER_USERNAME, name.as_str()),
        _ => (LIST_FROM_USERNAME, prefix),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![organisation.uuid().into_bytes(), from, rows_for(limit)])?;
    let mut users = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if !name.starts_with(prefix) {
            break;
        }
        users.push((Cursor::Username(name), read(row, 1)?));
    }
    Ok(page(users, limit))
}

const LIST_FROM_USERNAME: &str = "SELECT username_key, body FROM users
    WHERE organisation = ?1 AND username_key >= ?2 ORDER BY username_key LIMIT ?3";
const LIST_AFTER_USERNAME: &str = "SELECT username_key, body FROM users
    WHERE organisation = ?1 AND username_key > ?2 ORDER BY username_key LIMIT ?3";

/// Returns a person's newest audit row, also of somebody who was removed; `None` if nobody like that was ever here.
pub(super) fn newest_audit_row(
    connection: &Connection,
    organisation: OrganisationId,
    id: UserId,
) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached(NEWEST_AUDIT_ROW)?;
    let key = [organisation.uuid().into_bytes(), id.uuid().into_bytes()];
    Ok(statement.query_row(key, |row| row.get(0)).optional()?.flatten())
}

const NEWEST_AUDIT_ROW: &str = "SELECT audit_row FROM users WHERE organisation = ?1 AND id = ?2
    UNION ALL SELECT audit_row FROM departed WHERE organisation = ?1 AND id = ?2 LIMIT 1";

/// Returns people after a place in the order they were created in, with that place.
pub(super) fn after_pk(connection: &Connection, pk: i64, rows: i64) -> Result<Vec<(i64, User)>> {
    let mut statement = connection.prepare_cached(LIST_BY_PK)?;
    let mut rows = statement.query([pk, rows])?;
    let mut users = Vec::new();
    while let Some(row) = rows.next()? {
        users.push((row.get(0)?, read(row, 1)?));
    }
    Ok(users)
}

const LIST_BY_PK: &str = "SELECT pk, body FROM users WHERE pk > ?1 ORDER BY pk LIMIT ?2";

/// The statements that find and list people, for the test of their plans.
#[cfg(test)]
pub(super) fn readings() -> Vec<String> {
    use countersign_core::{lock::Method, role::Role};

    let filters = [
        UserFilter::All,
        UserFilter::Id(UserId::from_uuid(Uuid::nil())),
        UserFilter::Username(String::new()),
        UserFilter::Status(Status::Active),
        UserFilter::MfaEnabled(true),
        UserFilter::Role(Role::Member),
    ];
    let locked = Method::ALL.into_iter().map(UserFilter::Locked);
    let fixed = [BODY, LIST_FROM_USERNAME, LIST_AFTER_USERNAME, NEWEST_AUDIT_ROW, LIST_BY_PK];
    let handles = [&LOAD, &FIND].into_iter().flat_map(|by| [by.id, by.number, by.username, by.email]);
    filters
        .into_iter()
        .chain(locked)
        .map(|filter| listed(&filter))
        .chain(fixed.into_iter().chain(handles).map(str::to_owned))
        .collect()
}
