//! The parameters that SafeShare's lists share, and the envelope of what they return.

use crate::store::{SortKey, Sorting, UserFilter};
use countersign_core::{UserId, profile::matching_key, refusal::Invalid};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The most items of a list that asks for no limit; the envelope counts them all.
pub(super) const LONGEST: usize = 10_000;

/// A page, and how many items the whole list has.
#[derive(Serialize)]
pub(super) struct Envelope<T> {
    pub(super) items: Vec<T>,
    pub(super) count: u64,
    pub(super) offset: u64,
}

/// The parameters as they are sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listing {
    limit: Option<String>,
    offset: Option<String>,
    search_text: Option<String>,
    search_column: Option<String>,
    sort_by: Option<String>,
    order_by: Option<String>,
}

impl Listing {
    /// Returns how many items are asked for: 0, as none given, is no limit.
    pub(super) fn limit(&self) -> Result<usize, Invalid> {
        match number("limit", self.limit.as_deref())? {
            0 => Ok(LONGEST),
            limit @ 1..=100 => Ok(usize::try_from(limit).unwrap_or(LONGEST)),
            _ => Err(Invalid::new("limit", "expected 0 to 100; 0 is no limit")),
        }
    }

    /// Returns how many items are left out.
    pub(super) fn offset(&self) -> Result<u64, Invalid> {
        number("offset", self.offset.as_deref())
    }

    /// Returns what is searched for, in the form names are matched by.
    pub(super) fn searched(&self) -> Option<String> {
        self.search_text.as_deref().map(matching_key).filter(|text| !text.is_empty())
    }

    /// Returns who is searched for; by `usual` where no column is named.
    pub(super) fn filter(&self, usual: fn(String) -> UserFilter) -> Result<UserFilter, Invalid> {
        let by = match self.search_column.as_deref() {
            None => usual,
            Some("email") => UserFilter::EmailContains,
            Some("firstName") => UserFilter::GivenNameContains,
            Some("lastName") => UserFilter::FamilyNameContains,
            Some("id") => by_id,
            Some(_) => return Err(expected_column("searchColumn")),
        };
        Ok(self.searched().map_or(UserFilter::All, by))
    }

    /// Returns what the list is sorted by.
    pub(super) fn sorting(&self) -> Result<Option<Sorting>, Invalid> {
        let by = match self.sort_by.as_deref() {
            None => None,
            Some("email") => Some(SortKey::Email),
            Some("firstName") => Some(SortKey::GivenName),
            Some("lastName") => Some(SortKey::FamilyName),
            Some("id") => Some(SortKey::Number),
            Some(_) => return Err(expected_column("sortBy")),
        };
        let descending = match self.order_by.as_deref() {
            None => None,
            Some("asc") => Some(false),
            Some("desc") => Some(true),
            Some(_) => return Err(Invalid::new("orderBy", "expected asc or desc")),
        };
        let is_sorted = by.is_some() || descending.is_some();
        let by = by.unwrap_or(SortKey::Number);
        Ok(is_sorted.then_some(Sorting { by, descending: descending.unwrap_or(false) }))
    }
}

/// A part of an id is nobody's.
fn by_id(text: String) -> UserFilter {
    UserFilter::Id(text.parse().unwrap_or(UserId::from_uuid(Uuid::nil())))
}

fn expected_column(field: &str) -> Invalid {
    Invalid::new(field, "expected email, firstName, lastName or id")
}

fn number(field: &str, text: Option<&str>) -> Result<u64, Invalid> {
    text.map_or(Ok(0), |text| text.parse().map_err(|_| Invalid::new(field, "expected a whole number from 0")))
}
