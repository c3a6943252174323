//! Cursors: where a page ends, as text the caller hands back without looking into it.

use crate::{
    error::{Error, Result},
    store::Page,
};
use countersign_core::Invalid;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The place of a list's last item in the order of its index. Each order is a variant, so that a cursor of one list is
/// not taken for a place in another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cursor {
    /// People by number.
    Number(i64),
    /// People by username.
    Username(String),
    /// Organisations by age.
    Organisation(i64),
    /// Events by time, newest first.
    Event { at: i64, row: i64 },
    /// Events of one chain: the row to go on with.
    Link(i64),
    /// Claimed heads: those of organisations.
    OrganisationHead(i64),
    /// Claimed heads: those of people.
    UserHead(i64),
    /// Deliveries, newest first.
    Delivery(Uuid),
}

impl Cursor {
    /// Reads what the caller gave as `after`.
    pub(super) fn parse(after: Option<&str>) -> Result<Option<Self>> {
        after.map(|text| Self::read(text).ok_or_else(Self::unknown)).transpose()
    }

    /// Says that a cursor is not one of this list's.
    pub(super) fn unknown() -> Error {
        Invalid::new("after", "not a cursor of this list").into()
    }

    fn read(text: &str) -> Option<Self> {
        serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()
    }

    fn write(&self) -> String {
        let json =
            serde_json::to_vec(self).expect("a cursor holds numbers and text only, so it is always JSON");
        BASE64URL_NOPAD.encode(&json)
    }
}

/// Returns how many rows to ask for: one beyond the page tells whether there is a next one.
pub(super) fn rows_for(limit: usize) -> i64 {
    i64::try_from(limit.max(1)).unwrap_or(i64::MAX).saturating_add(1)
}

/// Makes a page of what a query for [`rows_for`] rows returned.
pub(super) fn page<T>(mut rows: Vec<(Cursor, T)>, limit: usize) -> Page<T> {
    let limit = limit.max(1);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_more).map(|(place, _)| place.write());
    Page { items: rows.into_iter().map(|(_, item)| item).collect(), next }
}

/// Makes a page whose end is known.
pub(super) fn page_until<T>(items: Vec<T>, next: Option<Cursor>) -> Page<T> {
    Page { items, next: next.map(|place| place.write()) }
}
