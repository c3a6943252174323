//! Where people stand in lists: who has a part of a name, how many are in which block of numbers, and who comes where in
//! an order. All of it is written in the transaction of a person's row, and only when they come, go, or get another name.

use super::{
    database::Lent,
    failure::Fault,
    sql::{args, argument},
};
use crate::store::{
    SortKey, Sorting,
    search::{
        Field, Found, Further, LOOK, Names, PATIENCE, Part, SORTED_PATIENCE, Window, block, first_of_block,
        too_wide,
    },
};
use countersign_core::{OrganisationId, User};
use tokio_postgres::Row;

/// By how much more blocks the next step asks for than the one before, at most.
const STRIDE: usize = 8;

/// Counts a person who comes, and makes them found by their names.
pub(super) async fn add(lent: &Lent, user: &User, names: &Names) -> Result<(), Fault> {
    lent.run(
        "INSERT INTO people_names (organisation, number, id, email_key, given_key, family_key)
         VALUES ($1, $2, $3, $4, $5, $6)",
        args![user.organisation.uuid(), number(user), user.id.uuid(), names.email, names.given, names.family],
    )
    .await?;
    count(lent, user, 1).await
}

/// Makes a person found by other names.
pub(super) async fn rename(lent: &Lent, user: &User, names: &Names) -> Result<(), Fault> {
    lent.run(
        "UPDATE people_names SET email_key = $4, given_key = $5, family_key = $6
         WHERE organisation = $1 AND number = $2 AND id = $3",
        args![user.organisation.uuid(), number(user), user.id.uuid(), names.email, names.given, names.family],
    )
    .await?;
    Ok(())
}

/// Takes a person out who goes.
pub(super) async fn remove(lent: &Lent, user: &User) -> Result<(), Fault> {
    lent.run(
        "DELETE FROM people_names WHERE organisation = $1 AND number = $2 AND id = $3",
        args![user.organisation.uuid(), number(user), user.id.uuid()],
    )
    .await?;
    count(lent, user, -1).await
}

async fn count(lent: &Lent, user: &User, change: i64) -> Result<(), Fault> {
    lent.run(
        "INSERT INTO people_blocks AS it (organisation, block, people) VALUES ($1, $2, $3)
         ON CONFLICT (organisation, block) DO UPDATE SET people = it.people + excluded.people",
        args![user.organisation.uuid(), block(number(user)), change],
    )
    .await?;
    Ok(())
}

/// Returns a person's number as the columns hold it.
pub(super) fn number(user: &User) -> i64 {
    i64::try_from(user.number).unwrap_or(i64::MAX)
}

/// Returns the first `most` people after a number who have a part in their names.
///
/// May end before, with where to go on, after as many as one call looks at. It is for a view, whose settings it changes.
pub(super) async fn search(
    lent: &Lent,
    organisation: OrganisationId,
    part: &Part,
    after: i64,
    most: usize,
) -> Result<Found, Fault> {
    let look = i64::try_from(LOOK).unwrap_or(i64::MAX);
    let seen = people(&lent.rows(LOOKED_AT, args![organisation.uuid(), after, look]).await?)?;
    let (mut found, further) = part.look(&seen, most);
    if let Some(Further { after, grams }) = further {
        follow(lent, organisation, part, &grams, after, most, &mut found).await?;
    }
    Ok(found)
}

fn people(rows: &[Row]) -> Result<Vec<(i64, Names)>, Fault> {
    rows.iter().map(|row| person(row, 0)).collect()
}

fn person(row: &Row, from: usize) -> Result<(i64, Names), Fault> {
    let names = Names {
        email: row.try_get(from + 1)?,
        given: row.try_get(from + 2)?,
        family: row.try_get(from + 3)?,
    };
    Ok((row.try_get(from)?, names))
}

/// Looks at the people after a number who have the grams, some blocks at a time.
async fn follow(
    lent: &Lent,
    organisation: OrganisationId,
    part: &Part,
    grams: &[(Field, Vec<&str>)],
    after: i64,
    most: usize,
    found: &mut Found,
) -> Result<(), Fault> {
    // The plan looks dear, and compiling it would take longer than running it.
    lent.batch_execute("SET LOCAL jit = off").await?;
    let (mut at, mut stride, mut passed, mut looked_at) = (block(after), 1, 0, 0);
    let words: Vec<Vec<String>> = grams.iter().map(|(field, grams)| words(*field, grams)).collect();
    let sql = followed(words.len());
    loop {
        let blocks: Vec<i64> = lent
            .rows(BLOCKS_FROM, args![organisation.uuid(), at, i64::try_from(stride).unwrap_or(i64::MAX)])
            .await?
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        let Some(last) = blocks.last() else { return Ok(()) };
        at = last + 1;
        let organisation = organisation.uuid();
        let mut arguments = vec![argument(&organisation), argument(&blocks), argument(&after)];
        arguments.extend(words.iter().map(argument));
        let mut candidates = people(&lent.rows(&sql, &arguments).await?)?;
        candidates.sort_unstable_by_key(|(number, _)| *number);
        passed += blocks.len();
        for (number, names) in candidates {
            looked_at += 1;
            if part.is_in(&names) && !found.add(number, names, most) {
                return Ok(());
            }
            if looked_at == PATIENCE {
                found.next = Some(number);
                return Ok(());
            }
        }
        // No more of them than will hold what is wanted, if people are spread evenly.
        stride = (stride * STRIDE).min((most + 1 - found.people.len()) * passed / looked_at.max(1) + 1);
    }
}

fn words(field: Field, grams: &[&str]) -> Vec<String> {
    grams.iter().map(|gram| format!("{}{gram}", field.letter())).collect()
}

/// Returns the numbers of a page of everybody.
pub(super) async fn everybody(
    lent: &Lent,
    organisation: OrganisationId,
    sorting: Sorting,
    total: u64,
    offset: u64,
    limit: usize,
) -> Result<Vec<i64>, Fault> {
    let organisation = organisation.uuid();
    if sorting.by == SortKey::Number {
        let window = Window::upwards(total, sorting.descending, offset, limit);
        let Some(row) = lent.row(BLOCK_OF, args![organisation, window.offset]).await? else {
            return Ok(Vec::new());
        };
        let (block, before): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (first, offset) = (first_of_block(block), window.offset - before);
        let rows = lent.rows(FROM_NUMBER, args![organisation, first, window.limit, offset]).await?;
        return Ok(window.turn(numbers(&rows)?));
    }
    let window = Window::nearer(total, offset, limit)?;
    let sql = ordered(sorting.by, sorting.descending != window.is_turned);
    let rows = lent.rows(&sql, args![organisation, window.limit, window.offset]).await?;
    Ok(window.turn(numbers(&rows)?))
}

fn numbers(rows: &[Row]) -> Result<Vec<i64>, Fault> {
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Returns the numbers of a page of a search that finds too many to sort them: they are met soon in the order itself.
pub(super) async fn wide(
    lent: &Lent,
    organisation: OrganisationId,
    part: &Part,
    sorting: Sorting,
    offset: u64,
    limit: usize,
) -> Result<Vec<i64>, Fault> {
    let enough = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(limit);
    let sql = ordered_with(part, sorting);
    let patience = i64::try_from(SORTED_PATIENCE).unwrap_or(i64::MAX);
    let (limit, offset) =
        (i64::try_from(limit).unwrap_or(i64::MAX), i64::try_from(offset).unwrap_or(i64::MAX));
    let rows = lent.rows(&sql, args![organisation.uuid(), patience, part.text, limit, offset]).await?;
    // A short page is one that was not found in time: there are more people than these.
    match offset.saturating_add(i64::try_from(rows.len()).unwrap_or(i64::MAX)) {
        reached if reached.unsigned_abs() >= enough as u64 => numbers(&rows),
        _ => Err(too_wide().into()),
    }
}

const LOOKED_AT: &str = "SELECT number, email_key, given_key, family_key FROM people_names
    WHERE organisation = $1 AND number > $2 ORDER BY number LIMIT $3";
const BLOCKS_FROM: &str = "SELECT block FROM people_blocks
    WHERE organisation = $1 AND block >= $2 AND people > 0 ORDER BY block LIMIT $3";
const BLOCK_OF: &str = "SELECT block, before FROM (
        SELECT block, people, (sum(people) OVER (ORDER BY block) - people)::bigint AS before
        FROM people_blocks WHERE organisation = $1
    ) AS blocks
    WHERE before <= $2 AND $2 < before + people";
const FROM_NUMBER: &str = "SELECT number FROM people_names
    WHERE organisation = $1 AND number >= $2 ORDER BY number LIMIT $3 OFFSET $4";

/// Selects those who have all words of one list or of another, in some blocks. The lists are the parameters from `$4` on.
fn followed(lists: usize) -> String {
    // Each stands for itself, and not as an `OR` of several, so that each is looked up in the index.
    let list = |place: usize| {
        format!(
            "SELECT number, email_key, given_key, family_key FROM unnest($2) AS block
             CROSS JOIN LATERAL (
                 SELECT ARRAY(SELECT name_word($1, block, word) FROM unnest(${}) AS word) AS words OFFSET 0
             ) AS wanted
             JOIN people_names ON name_words(organisation, number, email_key, given_key, family_key) @> wanted.words
             WHERE organisation = $1 AND number > $3",
            place + 4
        )
    };
    (0..lists).map(list).collect::<Vec<_>>().join(" UNION ")
}

fn ordered(key: SortKey, is_descending: bool) -> String {
    let order = order(key, is_descending);
    format!("SELECT number FROM people_names WHERE organisation = $1 ORDER BY {order} LIMIT $2 OFFSET $3")
}

/// Selects those of the first people of an order who have a part in their names.
fn ordered_with(part: &Part, sorting: Sorting) -> String {
    let order = order(sorting.by, sorting.descending);
    let contains = |field: &Field| format!("strpos({}, $3) > 0", field.column());
    let condition = part.fields.iter().map(contains).collect::<Vec<_>>().join(" OR ");
    format!(
        "SELECT number FROM (
             SELECT number, email_key, given_key, family_key FROM people_names WHERE organisation = $1
             ORDER BY {order} LIMIT $2
         ) AS first WHERE {condition} ORDER BY {order} LIMIT $4 OFFSET $5"
    )
}

/// Returns an order. Who has no name comes first, or last the other way around.
fn order(key: SortKey, is_descending: bool) -> String {
    let (direction, nulls) = if is_descending { ("DESC", "LAST") } else { ("ASC", "FIRST") };
    let column = match key {
        SortKey::Number => None,
        SortKey::Email => Some(Field::Email),
        SortKey::GivenName => Some(Field::Given),
        SortKey::FamilyName => Some(Field::Family),
    };
    let column = column.map(|field| format!("{} {direction} NULLS {nulls}, ", field.column()));
    format!("{}number {direction}", column.unwrap_or_default())
}
