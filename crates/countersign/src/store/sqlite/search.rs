//! Where people stand in lists: who has a part of a name, how many are in which block of numbers, and who comes where in
//! an order. All of it is written with the row of a person, and only when they come, go, or get another name.

use crate::{
    error::Result,
    store::{
        SortKey, Sorting,
        search::{
            Field, Found, Further, LOOK, Names, PATIENCE, Part, SORTED_PATIENCE, Window, block,
            first_of_block, too_wide, word,
        },
    },
};
use countersign_core::OrganisationId;
use rusqlite::{Connection, Row, functions::FunctionFlags, params};

/// Teaches a connection the words of names, for the migration that fills the index.
pub(super) fn define(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("name_words", 3, flags, |context| {
        let names = Names { email: context.get(0)?, given: context.get(1)?, family: context.get(2)? };
        Ok(names.words())
    })?;
    Ok(())
}

/// Counts a person who comes, and makes them found by their names.
pub(super) fn add(
    connection: &Connection,
    organisation: OrganisationId,
    number: i64,
    names: &Names,
) -> Result<()> {
    count(connection, organisation, number, 1)?;
    index(connection, organisation, number, names)
}

/// Makes a person found by other names.
pub(super) fn rename(
    connection: &Connection,
    organisation: OrganisationId,
    number: i64,
    names: &Names,
) -> Result<()> {
    forget(connection, organisation, number)?;
    index(connection, organisation, number, names)
}

/// Takes a person out who goes.
pub(super) fn remove(connection: &Connection, organisation: OrganisationId, number: i64) -> Result<()> {
    count(connection, organisation, number, -1)?;
    forget(connection, organisation, number)
}

fn count(connection: &Connection, organisation: OrganisationId, number: i64, change: i64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO people_blocks (organisation, block, people) VALUES (?1, ?2, ?3)
             ON CONFLICT (organisation, block) DO UPDATE SET people = people + excluded.people",
        )?
        .execute(params![organisation.uuid().into_bytes(), block(number), change])?;
    Ok(())
}

fn index(connection: &Connection, organisation: OrganisationId, number: i64, names: &Names) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO name_grams (rowid, words) SELECT pk << 40 | ?2, ?3 FROM organisations WHERE id = ?1",
        )?
        .execute(params![organisation.uuid().into_bytes(), number, names.words()])?;
    Ok(())
}

fn forget(connection: &Connection, organisation: OrganisationId, number: i64) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM name_grams WHERE rowid = (SELECT pk << 40 | ?2 FROM organisations WHERE id = ?1)",
        )?
        .execute(params![organisation.uuid().into_bytes(), number])?;
    Ok(())
}

/// Returns the first `most` people after a number who have a part in their names.
///
/// May end before, with where to go on, after as many as one call looks at.
pub(super) fn search(
    connection: &Connection,
    organisation: OrganisationId,
    part: &Part,
    after: i64,
    most: usize,
) -> Result<Found> {
    let seen = look(connection, organisation, after)?;
    let (mut found, further) = part.look(&seen, most);
    if let Some(Further { after, grams }) = further {
        follow(connection, organisation, part, &expression(&grams), after, most, &mut found)?;
    }
    Ok(found)
}

fn look(connection: &Connection, organisation: OrganisationId, after: i64) -> Result<Vec<(i64, Names)>> {
    let mut statement = connection.prepare_cached(LOOKED_AT)?;
    let key = params![organisation.uuid().into_bytes(), after, i64::try_from(LOOK).unwrap_or(i64::MAX)];
    Ok(statement.query_map(key, person)?.collect::<rusqlite::Result<_>>()?)
}

fn person(row: &Row<'_>) -> rusqlite::Result<(i64, Names)> {
    Ok((row.get(0)?, Names { email: row.get(1)?, given: row.get(2)?, family: row.get(3)? }))
}

/// Asks for those who have all grams of one field or of another.
fn expression(fields: &[(Field, Vec<&str>)]) -> String {
    let all = |(field, grams): &(Field, Vec<&str>)| {
        let words: Vec<_> = grams.iter().map(|gram| word(*field, gram)).collect();
        format!("({})", words.join(" AND "))
    };
    fields.iter().map(all).collect::<Vec<_>>().join(" OR ")
}

/// Looks at the people after a number who have the words.
fn follow(
    connection: &Connection,
    organisation: OrganisationId,
    part: &Part,
    words: &str,
    after: i64,
    most: usize,
    found: &mut Found,
) -> Result<()> {
    let mut statement = connection.prepare_cached(FOLLOWED)?;
    let mut rows = statement.query(params![organisation.uuid().into_bytes(), words, after])?;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let (number, names) = person(row)?;
        looked_at += 1;
        if part.is_in(&names) && !found.add(number, names, most) {
            break;
        }
        if looked_at == PATIENCE {
            found.next = Some(number);
            break;
        }
    }
    Ok(())
}

/// Returns the numbers of a page of everybody.
pub(super) fn everybody(
    connection: &Connection,
    organisation: OrganisationId,
    sorting: Sorting,
    total: u64,
    offset: u64,
    limit: usize,
) -> Result<Vec<i64>> {
    let organisation = organisation.uuid().into_bytes();
    if sorting.by == SortKey::Number {
        let window = Window::upwards(total, sorting.descending, offset, limit);
        let (block, offset) = block_of(connection, organisation, window.offset)?;
        let mut statement = connection.prepare_cached(FROM_NUMBER)?;
        let key = params![organisation, first_of_block(block), window.limit, offset];
        let numbers = statement.query_map(key, |row| row.get(0))?;
        return Ok(window.turn(numbers.collect::<rusqlite::Result<_>>()?));
    }
    let window = Window::nearer(total, offset, limit)?;
    let mut statement =
        connection.prepare_cached(&ordered(sorting.by, sorting.descending != window.is_turned))?;
    let numbers =
        statement.query_map(params![organisation, window.limit, window.offset], |row| row.get(0))?;
    Ok(window.turn(numbers.collect::<rusqlite::Result<_>>()?))
}

/// Returns the block in which whoever comes after `offset` people has their number, and how many of that block come before.
fn block_of(connection: &Connection, organisation: [u8; 16], mut offset: i64) -> Result<(i64, i64)> {
    let mut statement = connection.prepare_cached(BLOCKS)?;
    let mut rows = statement.query([organisation])?;
    while let Some(row) = rows.next()? {
        let people: i64 = row.get(1)?;
        if offset < people {
            return Ok((row.get(0)?, offset));
        }
        offset -= people;
    }
    // Behind everybody.
    Ok((i64::from(i32::MAX), 0))
}

/// Returns the numbers of a page of a search that finds too many to sort them: they are met soon in the order itself.
pub(super) fn wide(
    connection: &Connection,
    organisation: OrganisationId,
    part: &Part,
    sorting: Sorting,
    offset: u64,
    limit: usize,
) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(&ordered_names(sorting.by, sorting.descending))?;
    let patience = i64::try_from(SORTED_PATIENCE).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![organisation.uuid().into_bytes(), patience])?;
    let mut found = Found::default();
    let enough = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(limit);
    while let Some(row) = rows.next()? {
        let (number, names) = person(row)?;
        if part.is_in(&names) {
            found.people.push((number, names));
        }
        if found.people.len() >= enough {
            return Ok(found.page(offset, limit));
        }
    }
    Err(too_wide())
}

const LOOKED_AT: &str = "SELECT number, email_key, given_key, family_key FROM users INDEXED BY users_names
    WHERE organisation = ?1 AND number > ?2 ORDER BY number LIMIT ?3";
// The names stand in an index: no document is read.
const FOLLOWED: &str = "SELECT names.number, names.email_key, names.given_key, names.family_key
    FROM organisations CROSS JOIN name_grams CROSS JOIN users AS names INDEXED BY users_names
        ON names.organisation = ?1 AND names.number = name_grams.rowid & 1099511627775
    WHERE organisations.id = ?1 AND name_grams MATCH ?2
        AND name_grams.rowid > organisations.pk << 40 | ?3 AND name_grams.rowid < organisations.pk + 1 << 40
    ORDER BY name_grams.rowid";
const BLOCKS: &str = "SELECT block, people FROM people_blocks WHERE organisation = ?1 ORDER BY block";
const FROM_NUMBER: &str = "SELECT number FROM users INDEXED BY users_number
    WHERE organisation = ?1 AND number >= ?2 ORDER BY number LIMIT ?3 OFFSET ?4";

/// Returns an order's index, what it sorts by, and which way.
fn order(key: SortKey, is_descending: bool) -> (&'static str, String) {
    let (index, column) = match key {
        SortKey::Number => ("users_number", None),
        SortKey::Email => ("users_by_email", Some(Field::Email.column())),
        SortKey::GivenName => ("users_by_given", Some(Field::Given.column())),
        SortKey::FamilyName => ("users_by_family", Some(Field::Family.column())),
    };
    let direction = if is_descending { "DESC" } else { "ASC" };
    let column = column.map(|column| format!("people.{column} {direction}, ")).unwrap_or_default();
    (index, format!("{column}people.number {direction}"))
}

fn ordered(key: SortKey, is_descending: bool) -> String {
    let (index, order) = order(key, is_descending);
    format!(
        "SELECT number FROM users AS people INDEXED BY {index} WHERE organisation = ?1 ORDER BY {order} LIMIT ?2 OFFSET ?3"
    )
}

fn ordered_names(key: SortKey, is_descending: bool) -> String {
    let (index, order) = order(key, is_descending);
    format!(
        "SELECT names.number, names.email_key, names.given_key, names.family_key
         FROM users AS people INDEXED BY {index} CROSS JOIN users AS names INDEXED BY users_names
             ON names.organisation = ?1 AND names.number = people.number
         WHERE people.organisation = ?1 ORDER BY {order} LIMIT ?2"
    )
}

#[cfg(test)]
pub(super) use readings::readings;

#[cfg(test)]
mod readings {
    use super::*;

    /// The statements that find a place in a list, for the test of their plans.
    pub(in super::super) fn readings() -> Vec<String> {
        let keys = [SortKey::Number, SortKey::Email, SortKey::GivenName, SortKey::FamilyName];
        let orders = keys.into_iter().flat_map(|key| {
            [true, false].into_iter().flat_map(move |down| [ordered(key, down), ordered_names(key, down)])
        });
        [LOOKED_AT, FOLLOWED, BLOCKS, FROM_NUMBER].map(str::to_owned).into_iter().chain(orders).collect()
    }
}
