//! Searches by a part of a name: what is indexed of names, and how far a search goes.
//!
//! An index finds how a name begins, not what it contains. So there is one of the *grams* of names, their parts of one, two
//! and three characters: who has all grams of a longer part is looked at, and found if they have the part. The first
//! people of the rest of a list are looked at one by one beforehand. Of what many have this fills a page at once; of what
//! few have it tells which grams are rare, and only those are followed.

use crate::{
    error::{Error, Result},
    store::{IndexColumns, SortKey, Sorting, UserFilter},
};
use countersign_core::refusal::Invalid;
use std::collections::BTreeSet;

/// The most people a search finds in a counted or sorted list. Its total goes no further.
pub const FOUND_MOST: usize = 10_000;
/// The most people a sorted list passes over, from the end that is nearer.
pub const SORTED_DEPTH: u64 = 100_000;

/// How many people are looked at one by one before the grams are followed.
pub(super) const LOOK: usize = 512;
/// How many people one search looks at who have the grams; whoever pages goes on from there.
pub(super) const PATIENCE: usize = 20_000;
/// How many people are looked at in an order, for a search that finds too many to sort.
pub(super) const SORTED_PATIENCE: usize = 50_000;
/// How many grams of a part are followed. Each is another list to walk through, and three rare ones leave few people.
const FOLLOWED: usize = 3;
/// The most characters of a gram.
const LONGEST: usize = 3;
/// How many numbers a block has whose people are counted together. The schemas know it, too.
const BLOCK: i64 = 16_384;

/// Returns the block a number is in.
pub(super) const fn block(number: i64) -> i64 {
    number.div_euclid(BLOCK)
}

/// Returns the first number of a block.
pub(super) const fn first_of_block(block: i64) -> i64 {
    block * BLOCK
}

/// A name that is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Email,
    Given,
    Family,
}

impl Field {
    const ALL: [Self; 3] = [Self::Email, Self::Given, Self::Family];

    /// Returns the letter its grams begin with.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Email => 'e',
            Self::Given => 'g',
            Self::Family => 'f',
        }
    }

    /// Returns the column of the names.
    pub(super) const fn column(self) -> &'static str {
        match self {
            Self::Email => "email_key",
            Self::Given => "given_key",
            Self::Family => "family_key",
        }
    }
}

/// The names of a person that are searched, in the form they are matched by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Names {
    pub(super) email: Option<String>,
    pub(super) given: Option<String>,
    pub(super) family: Option<String>,
}

impl Names {
    /// Returns the names that a person's index columns hold.
    pub(super) fn of(columns: &IndexColumns) -> Self {
        let IndexColumns { email_key, given_key, family_key, .. } = columns.clone();
        Self { email: email_key, given: given_key, family: family_key }
    }

    pub(super) fn get(&self, field: Field) -> Option<&str> {
        match field {
            Field::Email => self.email.as_deref(),
            Field::Given => self.given.as_deref(),
            Field::Family => self.family.as_deref(),
        }
    }

    /// Returns what people are sorted by; who has no such name comes first.
    pub(super) fn sorted_by(&self, key: SortKey) -> Option<&str> {
        match key {
            SortKey::Number => None,
            SortKey::Email => self.get(Field::Email),
            SortKey::GivenName => self.get(Field::Given),
            SortKey::FamilyName => self.get(Field::Family),
        }
    }

    /// Returns the words that stand in the index for these names, with a space between two of them.
    pub(super) fn words(&self) -> String {
        let mut words = BTreeSet::new();
        for field in Field::ALL {
            for length in 1..=LONGEST {
                words.extend(grams(self.get(field).unwrap_or_default(), length).map(|it| word(field, it)));
            }
        }
        words.into_iter().collect::<Vec<_>>().join(" ")
    }
}

/// A part of a name that is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The part, in the form names are matched by.
    pub(super) text: String,
    /// The names it may stand in.
    pub(super) fields: &'static [Field],
}

impl Part {
    /// Returns what a filter searches for; `None` if it is no search.
    pub(super) fn of(filter: &UserFilter) -> Option<Self> {
        let (text, fields): (_, &[Field]) = match filter {
            UserFilter::EmailContains(text) => (text, &[Field::Email]),
            UserFilter::GivenNameContains(text) => (text, &[Field::Given]),
            UserFilter::FamilyNameContains(text) => (text, &[Field::Family]),
            UserFilter::NameContains(text) => (text, &Field::ALL),
            _ => return None,
        };
        Some(Self { text: text.clone(), fields })
    }

    /// Tells whether one of somebody's names has the part.
    pub(super) fn is_in(&self, names: &Names) -> bool {
        self.fields.iter().any(|field| names.get(*field).is_some_and(|name| name.contains(&self.text)))
    }

    /// Looks one by one at those a list begins with, as many as [`LOOK`] if there are so many. Returns what was found, and after
    /// whom and by which grams the search goes on, if it does.
    pub(super) fn look(&self, seen: &[(i64, Names)], most: usize) -> (Found, Option<Further<'_>>) {
        let mut found = Found::default();
        for (number, names) in seen {
            if self.is_in(names) && !found.add(*number, names.clone(), most) {
                return (found, None);
            }
        }
        let Some((last, _)) = seen.last().filter(|_| seen.len() == LOOK) else { return (found, None) };
        let grams = self.rarest(seen);
        if grams.is_empty() {
            found.next = Some(*last);
            return (found, None);
        }
        (found, Some(Further { after: *last, grams }))
    }

    /// Returns the grams that everybody with the part in a field has, for each field: those that the fewest of `seen` have.
    ///
    /// None for an empty part, which has no grams.
    fn rarest(&self, seen: &[(i64, Names)]) -> Vec<(Field, Vec<&str>)> {
        let length = self.text.chars().count().min(LONGEST);
        let of_field = |field: Field| {
            let grams: BTreeSet<_> = grams(&self.text, length).collect();
            let mut counted: Vec<_> =
                grams.into_iter().map(|gram| (holders(seen, field, gram), gram)).collect();
            counted.sort_unstable();
            (field, counted.into_iter().take(FOLLOWED).map(|(_, gram)| gram).collect())
        };
        if length == 0 { Vec::new() } else { self.fields.iter().copied().map(of_field).collect() }
    }
}

/// How a search goes on whose first look was not enough.
pub(super) struct Further<'p> {
    /// The number of whoever was looked at last.
    pub(super) after: i64,
    /// What everybody has who is still to be found, in one field or another.
    pub(super) grams: Vec<(Field, Vec<&'p str>)>,
}

fn holders(seen: &[(i64, Names)], field: Field, gram: &str) -> usize {
    seen.iter().filter(|(_, names)| names.get(field).is_some_and(|name| name.contains(gram))).count()
}

/// Returns the parts of a text of so many characters.
fn grams(text: &str, length: usize) -> impl Iterator<Item = &str> {
    let ends = text.char_indices().map(|(place, _)| place).chain([text.len()]).skip(length);
    text.char_indices().zip(ends).map(|((start, _), end)| &text[start..end])
}

/// Returns a gram as a word of letters and digits, whatever characters it has.
pub(super) fn word(field: Field, gram: &str) -> String {
    let mut word = String::from(field.letter());
    data_encoding::HEXLOWER.encode_append(gram.as_bytes(), &mut word);
    word
}

/// What a search found, by number.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Numbers and names.
    pub(super) people: Vec<(i64, Names)>,
    /// Where a search goes on that did not come to its end.
    pub(super) next: Option<i64>,
}

impl Found {
    /// Adds somebody with the part; false if that is one more than wanted, with whom the next page begins.
    pub(super) fn add(&mut self, number: i64, names: Names, most: usize) -> bool {
        let has_room = self.people.len() < most;
        match has_room {
            true => self.people.push((number, names)),
            false => self.next = self.people.last().map(|(number, _)| *number),
        }
        has_room
    }

    /// Returns the numbers of a page of all that was found, in an order; `None` if that was not all, so that others may
    /// come before these.
    pub(super) fn sorted(mut self, sorting: Sorting, offset: u64, limit: usize) -> Option<Vec<i64>> {
        if sorting == Sorting::BY_NUMBER {
            return Some(self.page(offset, limit));
        }
        if self.next.is_some() {
            return None;
        }
        self.people.sort_by(|(number, names), (other, others)| {
            let order = names.sorted_by(sorting.by).cmp(&others.sorted_by(sorting.by));
            let order = order.then(number.cmp(other));
            if sorting.descending { order.reverse() } else { order }
        });
        Some(self.page(offset, limit))
    }

    /// Returns the numbers of a page in the order of the numbers.
    pub(super) fn page(&self, offset: u64, limit: usize) -> Vec<i64> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.people.iter().skip(offset).take(limit).map(|(number, _)| *number).collect()
    }
}

/// Where a page is read that stands somewhere in a list of known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// How many rows to pass over.
    pub(super) offset: i64,
    /// How many rows to read.
    pub(super) limit: i64,
    /// Whether it is read the other way around, from the list's other end.
    pub(super) is_turned: bool,
}

impl Window {
    /// Returns how a page is read from the beginning.
    fn of(total: u64, offset: u64, limit: usize) -> Self {
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        let offset = i64::try_from(offset).unwrap_or(i64::MAX).min(total);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).min(total - offset);
        Self { offset, limit, is_turned: false }
    }

    /// Returns how a page is read by number, upwards.
    pub(super) fn upwards(total: u64, descending: bool, offset: u64, limit: usize) -> Self {
        let window = Self::of(total, offset, limit);
        if descending { window.turned(total) } else { window }
    }

    /// Returns how a page is read from the end of the list that is nearer to it, unless both are too far away.
    pub(super) fn nearer(total: u64, offset: u64, limit: usize) -> Result<Self> {
        let window = Self::of(total, offset, limit);
        let turned = window.turned(total);
        let nearer = if turned.offset < window.offset { turned } else { window };
        match nearer.offset.unsigned_abs() > SORTED_DEPTH {
            true => Err(too_deep(SORTED_DEPTH)),
            false => Ok(nearer),
        }
    }

    fn turned(self, total: u64) -> Self {
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        Self { offset: total - self.offset - self.limit, limit: self.limit, is_turned: true }
    }

    /// Returns what was read in the order that was asked for.
    pub(super) fn turn<T>(self, mut rows: Vec<T>) -> Vec<T> {
        if self.is_turned {
            rows.reverse();
        }
        rows
    }
}

/// Says that a page stands too deep in a list that is sorted or searched.
pub(super) fn too_deep(most: u64) -> Error {
    Invalid::new("offset", format!("no list is read beyond its first {most} people in this order")).into()
}

/// Says that a search finds more people than can be sorted.
pub(super) fn too_wide() -> Error {
    let message = format!("more than {FOUND_MOST} people have this; look for a longer part, or do not sort");
    Invalid::new("search", message).into()
}

/// Says that a list cannot be sorted otherwise: its index has one order.
pub(super) fn has_own_order() -> Error {
    Invalid::new("sort", "only everybody, or what a search finds, can be sorted").into()
}

/// Says that a list has no pages by number: nobody counts whom it has.
pub(super) fn is_not_counted() -> Error {
    Invalid::new("filter", "only everybody, one person or a search is listed in numbered pages").into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(email: &str) -> Names {
        Names { email: Some(email.into()), ..Names::default() }
    }

    #[test]
    fn the_parts_of_a_text_are_of_characters() {
        assert_eq!(grams("añ字o", 2).collect::<Vec<_>>(), ["añ", "ñ字", "字o"]);
        assert_eq!(grams("ab", 3).count(), 0);
        assert_eq!(grams("abc", 3).collect::<Vec<_>>(), ["abc"]);
    }

    #[test]
    fn the_words_of_a_name_tell_which_name_it_is() {
        let person = Names { given: Some("ö".into()), family: Some("ö".into()), email: None };

        assert_eq!(person.words(), "fc3b6 gc3b6");
    }

    #[test]
    fn those_parts_are_followed_that_few_have() {
        let part = Part { text: "zoe@ex".into(), fields: &[Field::Email] };
        let seen = [(1000, names("ann@example.com")), (1001, names("zozoe@example.com"))];

        assert_eq!(part.rarest(&seen), [(Field::Email, vec!["e@e", "oe@", "zoe"])]);
        assert!(Part { text: String::new(), fields: &Field::ALL }.rarest(&seen).is_empty());
    }

    proptest! {
        #[test]
        fn whoever_has_a_part_has_its_words(
            before in "[a-cé字 @]{0,8}", text in "[a-cé字 @]{1,6}", after in "[a-cé字 @]{0,8}",
        ) {
            let all = names(&format!("{before}{text}{after}")).words();
            let part = Part { text, fields: &[Field::Email] };

            for gram in part.rarest(&[]).into_iter().flat_map(|(_, grams)| grams) {
                prop_assert!(all.split(' ').any(|it| it == word(Field::Email, gram)), "{gram} is missing in {all}");
            }
        }

        #[test]
        fn a_page_is_the_same_from_either_end(total in 0..50_u64, offset in 0..60_u64, limit in 0..60_usize) {
            let list: Vec<u64> = (0..total).collect();
            let read = |window: Window| {
                let way: Vec<_> = if window.is_turned { list.iter().rev().collect() } else { list.iter().collect() };
                let (offset, limit) = (usize::try_from(window.offset).unwrap(), usize::try_from(window.limit).unwrap());
                window.turn(way[offset..offset + limit].to_vec())
            };
            let expected: Vec<_> = list.iter().skip(usize::try_from(offset).unwrap()).take(limit).collect();

            prop_assert_eq!(read(Window::nearer(total, offset, limit).unwrap()), expected.clone());
            prop_assert_eq!(read(Window::upwards(total, false, offset, limit)), expected);
        }
    }

    #[test]
    fn a_page_in_the_middle_of_a_long_sorted_list_is_too_deep() {
        let total = 2 * SORTED_DEPTH + 100;

        assert!(Window::nearer(total, SORTED_DEPTH, 50).is_ok());
        assert!(Window::nearer(total, SORTED_DEPTH + 25, 50).is_err());
        assert!(Window::nearer(total, SORTED_DEPTH + 50, 50).is_ok());
        assert!(Window::nearer(total, u64::MAX, 50).is_ok());
    }
}
