//! People: one row a document, guarded by its version.

use super::{
    Postgres, audit,
    database::{Database, Done, Lent, Proof},
    failure::Fault,
    lanes::{Reply, panicked},
    organisations, outbox, search,
    shared::{self, Guard, Loaded},
    sql::{self, Argument, args, argument},
};
use crate::{
    error::{Error, Result},
    store::{
        IndexColumns, Page, UserFilter,
        cursor::{Cursor, page, page_until, rows_for},
        search::{Names, Part},
    },
};
use countersign_core::{Handle, Organisation, OrganisationId, Refusal, User, UserId, user::Status};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};
use tokio_postgres::Row;
use uuid::Uuid;

/// What in `names` must be had by one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub(super) enum NameKind {
    Username = 1,
    Email = 2,
    Number = 3,
    Slug = 4,
}

impl Postgres {
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
        decide: impl FnMut(&mut User) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        let (database, lanes, handles) =
            (Arc::clone(&self.database), self.lanes.clone(), Arc::clone(&self.handles));
        self.database
            .to_its_end(async move {
                let user = handles.resolve(&database, organisation, &handle).await?;
                let user = user.ok_or(Error::NotFound("user"))?;
                let decide = match &lanes {
                    None => decide,
                    Some(lanes) => match lanes.change(organisation, user, handle.clone(), decide).await {
                        Reply::Decided(outcome) => return outcome,
                        Reply::Alone(decide) => decide,
                    },
                };
                // Whoever had the name may have given it away, or just does.
                handles.forget(organisation, &handle);
                let decide = Arc::new(Mutex::new(decide));
                let lending = Arc::clone(&database);
                database
                    .commit_now(move |lent| {
                        let (database, handle, decide) =
                            (Arc::clone(&lending), handle.clone(), Arc::clone(&decide));
                        async move { change(&database, &lent, organisation, &handle, &decide).await }
                    })
                    .await
            })
            .await
    }

    /// See [`crate::store::Store::create`].
    pub async fn create(
        &self,
        organisation: OrganisationId,
        admit: impl FnMut(&mut Organisation) -> Result<User, Refusal> + Send + 'static,
    ) -> Result<User> {
        let (database, admit) = (Arc::clone(&self.database), Arc::new(Mutex::new(admit)));
        self.database
            .commit(move |lent| {
                let (database, admit) = (Arc::clone(&database), Arc::clone(&admit));
                async move { create(&database, &lent, organisation, &admit).await }
            })
            .await
    }

    /// See [`crate::store::Store::remove`].
    pub async fn remove(
        &self,
        organisation: OrganisationId,
        user: UserId,
        dismiss: impl FnMut(&mut Organisation, &User) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<()> {
        let (database, dismiss) = (Arc::clone(&self.database), Arc::new(Mutex::new(dismiss)));
        self.database
            .commit(move |lent| {
                let (database, dismiss) = (Arc::clone(&database), Arc::clone(&dismiss));
                async move { remove(&database, &lent, organisation, user, &dismiss).await }
            })
            .await
    }

    /// See [`crate::store::Store::user`].
    pub async fn user(&self, organisation: OrganisationId, user: UserId) -> Result<Option<User>> {
        self.database
            .read(move |lent| async move {
                let row = lent.row(READ, args![user.uuid(), organisation.uuid()]).await?;
                row.map(|row| read(&row, 0)).transpose()
            })
            .await
    }

    /// See [`crate::store::Store::find`].
    pub async fn find(&self, organisation: OrganisationId, handle: &Handle) -> Result<Option<UserId>> {
        let handle = handle.clone();
        self.database
            .read(move |lent| {
                let handle = handle.clone();
                async move { find(&lent, organisation, &handle).await }
            })
            .await
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
        self.database
            .read(move |lent| {
                let (filter, after) = (filter.clone(), after.clone());
                async move {
                    match part_of(&filter) {
                        Some(part) => list_found(&lent, organisation, &part, after, limit).await,
                        None => list(&lent, organisation, &filter, after, limit).await,
                    }
                }
            })
            .await
    }
}

/// Runs a rule that several attempts share.
pub(super) fn run<F, T>(rule: &Mutex<F>, run: impl FnOnce(&mut F) -> Result<T, Refusal>) -> Result<T, Fault> {
    // A rule that panicked leaves nothing behind that is looked at: it runs again or not.
    let mut rule = rule.lock().unwrap_or_else(PoisonError::into_inner);
    match catch_unwind(AssertUnwindSafe(|| run(&mut rule))) {
        Ok(outcome) => Ok(outcome?),
        Err(panic) => Err(panicked(panic.as_ref()).into()),
    }
}

/// Decides on a document in a transaction of its own.
pub(super) async fn change<T>(
    database: &Database,
    lent: &Lent,
    organisation: OrganisationId,
    handle: &Handle,
    decide: &Mutex<impl FnMut(&mut User) -> Result<T, Refusal>>,
) -> Result<Done<T>, Fault> {
    let id = find(lent, organisation, handle).await?.ok_or(Error::NotFound("user"))?;
    let Loaded { guard, columns, user } = lock(database, lent, id).await?.ok_or(Error::NotFound("user"))?;
    let mut user = user?;
    if user.organisation != organisation || !shared::answers_to(&user, handle) {
        return Err(Fault::Overtaken);
    }
    database.burn(&mut user);
    let outcome = run(decide, |decide| decide(&mut user))?;
    if user.is_unchanged() {
        return Ok(Done::of(outcome));
    }
    let written = replace(database, lent, guard, &columns, user).await?;
    Ok(written.with(outcome))
}

/// Reads a document that nobody else writes until the transaction ends.
async fn lock(database: &Database, lent: &Lent, id: UserId) -> Result<Option<Loaded>, Fault> {
    let Some(row) = lent.row(LOCK, args![id.uuid()]).await? else { return Ok(None) };
    database.check_timeline(lent).await?;
    let columns = IndexColumns {
        username_key: row.try_get(2)?,
        email_key: row.try_get(3)?,
        given_key: row.try_get(4)?,
        family_key: row.try_get(5)?,
        role: small(row.try_get(6)?),
        is_active: row.try_get(7)?,
        mfa_enabled: row.try_get(8)?,
        locked_methods: small(row.try_get(9)?),
    };
    let guard = Guard { version: row.try_get(0)?, audit_row: row.try_get(10)? };
    Ok(Some(Loaded { guard, columns, user: User::from_json(row.try_get(1)?) }))
}

fn small(value: i16) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

const LOCK: &str =
    "SELECT version, body, username_key, email_key, given_key, family_key, role, is_active, mfa_enabled,
        locked_methods, audit_row
    FROM users WHERE id = $1 FOR UPDATE";

/// Commits a changed document with its events and messages.
async fn replace(
    database: &Database,
    lent: &Lent,
    guard: Guard,
    before: &IndexColumns,
    mut user: User,
) -> Result<Done<()>, Fault> {
    let records = user.take_records();
    let messages = outbox::check(lent, user.take_parcels(), user.take_withdrawals()).await?;
    let numbers = database.numbers(records.len(), guard.audit_row)?;
    let newest = numbers.rows.last().copied().unwrap_or(guard.audit_row);
    let columns = IndexColumns::of(&user);

    let replaced =
        rewrite(database, lent, Guard { audit_row: newest, ..guard }, &columns, &user, numbers.until_millis)
            .await?;
    if !replaced {
        return Err(Fault::Overtaken);
    }
    if columns != *before {
        rename(lent, &user, before, &columns).await?;
    }
    audit::append(lent, &records, &numbers.rows).await?;
    let effects = messages.post(lent).await?;
    let proof = numbers.rows.first().and_then(|row| Proof::of(&records, *row));
    Ok(Done { outcome: (), proof, effects })
}

/// Replaces the document if nobody did so since `version`; false when somebody did.
async fn rewrite(
    database: &Database,
    lent: &Lent,
    guard: Guard,
    columns: &IndexColumns,
    user: &User,
    until_millis: i64,
) -> Result<bool, Fault> {
    Ok(lent
        .row(
            &database.statements().rewrite,
            args![
                user.id.uuid(),
                guard.version,
                until_millis,
                user.updated_at.millis(),
                user.to_json(),
                columns.username_key,
                columns.email_key,
                columns.given_key,
                columns.family_key,
                i16::from(columns.role),
                columns.is_active,
                columns.mfa_enabled,
                i16::from(columns.locked_methods),
                guard.audit_row,
            ],
        )
        .await?
        .is_some())
}

/// Does what somebody would who decided on the version before; true if that went through. For the self-test.
pub(super) async fn rewrite_stale(database: &Database, lent: &Lent, id: UserId) -> Result<bool, Fault> {
    let Loaded { guard, columns, user } = lock(database, lent, id).await?.ok_or(Error::NotFound("user"))?;
    rewrite(database, lent, Guard { version: guard.version - 1, ..guard }, &columns, &user?, i64::MAX).await
}

/// Takes the names a person has now, and gives back those they had.
async fn rename(lent: &Lent, user: &User, before: &IndexColumns, now: &IndexColumns) -> Result<(), Fault> {
    let pairs = [
        (NameKind::Username, Some(&before.username_key), Some(&now.username_key)),
        (NameKind::Email, before.email_key.as_ref(), now.email_key.as_ref()),
    ];
    for (kind, old, new) in pairs {
        if old == new {
            continue;
        }
        if let Some(old) = old {
            give_name(lent, user.organisation, kind, old).await?;
        }
        if let Some(new) = new {
            take_name(lent, user.organisation.uuid(), kind, new, user.id.uuid()).await?;
        }
    }
    let names = Names::of(now);
    if Names::of(before) != names {
        search::rename(lent, user, &names).await?;
    }
    Ok(())
}

/// Takes a name, or says that it is taken.
pub(super) async fn take_name(
    lent: &Lent,
    organisation: Uuid,
    kind: NameKind,
    key: &str,
    holder: Uuid,
) -> Result<(), Fault> {
    let taken = lent.row(TAKE_NAME, args![organisation, kind as i16, key, holder]).await?;
    let member = match kind {
        NameKind::Username => "username",
        NameKind::Email => "email",
        NameKind::Number => "number",
        NameKind::Slug => "slug",
    };
    taken.map(drop).ok_or(Fault::Final(Error::Conflict(member)))
}

async fn give_name(
    lent: &Lent,
    organisation: OrganisationId,
    kind: NameKind,
    key: &str,
) -> Result<(), Fault> {
    lent.run(GIVE_NAME, args![organisation.uuid(), kind as i16, key]).await?;
    Ok(())
}

// Waits for whoever is about to take it.
const TAKE_NAME: &str = "INSERT INTO names (organisation, kind, key, holder) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING RETURNING kind";
const GIVE_NAME: &str = "DELETE FROM names WHERE organisation = $1 AND kind = $2 AND key = $3";

/// Admits a person to an organisation.
pub(super) async fn create(
    database: &Database,
    lent: &Lent,
    organisation: OrganisationId,
    admit: &Mutex<impl FnMut(&mut Organisation) -> Result<User, Refusal>>,
) -> Result<Done<User>, Fault> {
    let mut held = organisations::lock(lent, organisation).await?.ok_or(Error::NotFound("organisation"))?;
    let mut user = run(admit, |admit| admit(&mut held.organisation))?;
    if user.organisation != organisation {
        let id = user.id;
        return Err(Error::Internal(format!("create user: {id} belongs to another organisation")).into());
    }
    let records = user.take_records();
    let messages = outbox::check(lent, user.take_parcels(), user.take_withdrawals()).await?;
    let numbers = database.numbers(records.len() + 1, 0)?;
    let (place, rows) = numbers.rows.split_first().ok_or(Fault::Overtaken)?;

    insert(lent, &user, *place, rows.last().copied().unwrap_or(*place)).await?;
    audit::append(lent, &records, rows).await?;
    let mut effects = messages.post(lent).await?;
    organisations::count(lent, organisation, 1).await?;
    let written = organisations::replace(database, lent, held).await?;
    effects.extend(written.effects);
    let proof = rows.first().and_then(|row| Proof::of(&records, *row));
    Ok(Done { outcome: user, proof, effects })
}

async fn insert(lent: &Lent, user: &User, place: i64, audit_row: i64) -> Result<(), Fault> {
    let columns = IndexColumns::of(user);
    let (organisation, id) = (user.organisation.uuid(), user.id.uuid());
    let number = search::number(user);
    take_name(lent, organisation, NameKind::Username, &columns.username_key, id).await?;
    if let Some(email) = &columns.email_key {
        take_name(lent, organisation, NameKind::Email, email, id).await?;
    }
    take_name(lent, organisation, NameKind::Number, &user.number.to_string(), id).await?;
    let inserted = lent
        .row(
            INSERT,
            args![
                id,
                organisation,
                number,
                columns.username_key,
                columns.email_key,
                columns.given_key,
                columns.family_key,
                i16::from(columns.role),
                columns.is_active,
                columns.mfa_enabled,
                i16::from(columns.locked_methods),
                place,
                user.updated_at.millis(),
                user.to_json(),
                audit_row,
            ],
        )
        .await?;
    inserted.ok_or(Fault::Final(Error::Conflict("id")))?;
    search::add(lent, user, &Names::of(&columns)).await
}

const INSERT: &str = "INSERT INTO users (id, organisation, number, username_key, email_key, given_key, family_key, role,
        is_active, mfa_enabled, locked_methods, place, version, audit_row, updated_at, body)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, $15, $13, $14) ON CONFLICT DO NOTHING RETURNING id";

async fn remove(
    database: &Database,
    lent: &Lent,
    organisation: OrganisationId,
    id: UserId,
    dismiss: &Mutex<impl FnMut(&mut Organisation, &User) -> Result<(), Refusal>>,
) -> Result<Done<()>, Fault> {
    // The organisation first, as whoever creates somebody does.
    let from = organisations::lock(lent, organisation).await?;
    let loaded = lock(database, lent, id).await?.ok_or(Error::NotFound("user"))?;
    let user = loaded.user?;
    let mut from = from.filter(|_| user.organisation == organisation).ok_or(Error::NotFound("user"))?;
    run(dismiss, |dismiss| dismiss(&mut from.organisation, &user))?;

    let deleted = lent.row(DELETE, args![id.uuid(), loaded.guard.version]).await?;
    deleted.ok_or(Fault::Overtaken)?;
    search::remove(lent, &user).await?;
    lent.run(
        "DELETE FROM names WHERE organisation = $1 AND holder = $2 AND kind <> 4",
        args![organisation.uuid(), id.uuid()],
    )
    .await?;
    organisations::count(lent, organisation, -1).await?;
    organisations::replace(database, lent, from).await
}

const DELETE: &str = "DELETE FROM users WHERE id = $1 AND version = $2 RETURNING version";

/// Finds the person a handle names.
pub(super) async fn find(
    lent: &Lent,
    organisation: OrganisationId,
    handle: &Handle,
) -> Result<Option<UserId>, Fault> {
    let (kind, key) = match handle {
        Handle::Id(id) => {
            let row = lent.row(FIND_ID, args![id.uuid(), organisation.uuid()]).await?;
            return Ok(row.map(|_| *id));
        }
        Handle::Number(number) => (NameKind::Number, number.to_string()),
        Handle::Username(key) => (NameKind::Username, key.clone()),
        Handle::Email(key) => (NameKind::Email, key.clone()),
    };
    if !sql::can_be_text(&key) {
        return Ok(None);
    }
    let row = lent.row(FIND, args![organisation.uuid(), kind as i16, key]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.map(UserId::from_uuid))
}

const FIND_ID: &str = "SELECT id FROM users WHERE id = $1 AND organisation = $2";
const FIND: &str = "SELECT holder FROM names WHERE organisation = $1 AND kind = $2 AND key = $3";
const READ: &str = "SELECT body FROM users WHERE id = $1 AND organisation = $2";

/// Reads the document of a row. One that cannot be read is an error, never somebody who is not there.
pub(super) fn read(row: &Row, column: usize) -> Result<User, Fault> {
    Ok(User::from_json(row.try_get(column)?)?)
}

/// What a filter compares with.
pub(super) enum Wanted {
    Nothing,
    Flag(bool),
    Small(i16),
    Text(String),
    Id(Uuid),
}

impl Wanted {
    /// Returns what a filter compares with.
    pub(super) fn of(filter: &UserFilter) -> Self {
        match filter {
            UserFilter::All | UserFilter::Locked(_) => Self::Nothing,
            UserFilter::Status(status) => Self::Flag(*status == Status::Active),
            UserFilter::MfaEnabled(is_on) => Self::Flag(*is_on),
            UserFilter::Role(role) => Self::Small(*role as i16),
            UserFilter::UsernamePrefix(text)
            | UserFilter::Username(text)
            | UserFilter::EmailContains(text)
            | UserFilter::GivenNameContains(text)
            | UserFilter::FamilyNameContains(text)
            | UserFilter::NameContains(text) => Self::Text(sql::text_of_nobody_else(text)),
            UserFilter::Id(id) => Self::Id(id.uuid()),
        }
    }

    /// Returns it as an argument.
    pub(super) fn argument(&self) -> Option<Argument<'_>> {
        match self {
            Self::Nothing => None,
            Self::Flag(flag) => Some(argument(flag)),
            Self::Small(number) => Some(argument(number)),
            Self::Text(text) => Some(argument(text)),
            Self::Id(id) => Some(argument(id)),
        }
    }
}

/// Returns what a filter searches for; `None` if it is no search.
pub(super) fn part_of(filter: &UserFilter) -> Option<Part> {
    let part = Part::of(filter)?;
    Some(Part { text: sql::text_of_nobody_else(&part.text), ..part })
}

/// Says which people a filter means, comparing with the parameter of this number.
pub(super) fn condition(filter: &UserFilter, parameter: usize) -> String {
    let wanted = format!("${parameter}");
    if let Some(part) = Part::of(filter) {
        let contains = part.fields.iter().map(|field| format!("strpos({}, {wanted}) > 0", field.column()));
        return format!("({})", contains.collect::<Vec<_>>().join(" OR "));
    }
    match filter {
        UserFilter::Username(_) => format!("username_key = {wanted}"),
        // No name goes on with the last code point, which is no character.
        UserFilter::UsernamePrefix(_) => {
            format!("username_key >= {wanted} AND username_key <= {wanted} || chr(1114111)")
        }
        UserFilter::Status(_) => format!("is_active = {wanted}"),
        UserFilter::MfaEnabled(_) => format!("mfa_enabled = {wanted}"),
        UserFilter::Role(_) => format!("role = {wanted}"),
        // The bit is spelled out, because an index on a part of the rows is only used for a constant.
        UserFilter::Locked(method) => format!("locked_methods & {} <> 0", method.bit()),
        UserFilter::Id(_) => format!("id = {wanted}"),
        _ => "true".into(),
    }
}

async fn list(
    lent: &Lent,
    organisation: OrganisationId,
    filter: &UserFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<User>, Fault> {
    let (organisation, rows, wanted) = (organisation.uuid(), rows_for(limit), Wanted::of(filter));
    let is_by_name = matches!(filter, UserFilter::UsernamePrefix(_));
    let (name, number) = match (after, is_by_name) {
        (None, _) => (String::new(), -1),
        (Some(Cursor::Username(name)), true) => (name, -1),
        (Some(Cursor::Number(number)), false) => (String::new(), number),
        (Some(_), _) => return Err(Cursor::unknown().into()),
    };
    let (column, place) =
        if is_by_name { ("username_key", argument(&name)) } else { ("number", argument(&number)) };
    let sql = format!(
        "SELECT {column}, body FROM users WHERE organisation = $1 AND {column} > $2 AND {}
         ORDER BY {column} LIMIT $3",
        condition(filter, 4)
    );
    let mut arguments = vec![argument(&organisation), place, argument(&rows)];
    arguments.extend(wanted.argument());
    let found = lent.rows(&sql, &arguments).await?;
    let users: Result<Vec<_>, Fault> = found
        .iter()
        .map(|row| {
            let place =
                if is_by_name { Cursor::Username(row.try_get(0)?) } else { Cursor::Number(row.try_get(0)?) };
            Ok((place, read(row, 1)?))
        })
        .collect();
    Ok(page(users?, limit))
}

/// Lists those who have a part in their names. What one call looks at is limited, so a page may be short or empty and still
/// have a next one.
async fn list_found(
    lent: &Lent,
    organisation: OrganisationId,
    part: &Part,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<User>, Fault> {
    let after = match after {
        None => -1,
        Some(Cursor::Number(number)) => number,
        Some(_) => return Err(Cursor::unknown().into()),
    };
    lent.begin_view().await?;
    let found = search::search(lent, organisation, part, after, limit.max(1)).await?;
    let numbers: Vec<_> = found.people.iter().map(|(number, _)| *number).collect();
    let people = by_number(lent, organisation, &numbers).await?;
    lent.end("COMMIT").await?;
    Ok(page_until(people, found.next.map(Cursor::Number)))
}

/// Reads the documents of people in the order of the numbers given.
pub(super) async fn by_number(
    lent: &Lent,
    organisation: OrganisationId,
    numbers: &[i64],
) -> Result<Vec<User>, Fault> {
    let found = lent.rows(BY_NUMBER, args![organisation.uuid(), numbers.to_vec()]).await?;
    found.iter().map(|row| read(row, 0)).collect()
}

const BY_NUMBER: &str = "SELECT body FROM unnest($2) WITH ORDINALITY AS page (number, place)
    JOIN users ON users.organisation = $1 AND users.number = page.number ORDER BY page.place";

/// Returns people after a place in the order they were created in, with that place.
pub(super) async fn after_place(lent: &Lent, place: i64, rows: i64) -> Result<Vec<(i64, User)>, Fault> {
    let found = lent.rows(LIST_BY_PLACE, args![place, rows]).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, read(row, 1)?))).collect()
}

const LIST_BY_PLACE: &str = "SELECT place, body FROM users WHERE place > $1 ORDER BY place LIMIT $2";
