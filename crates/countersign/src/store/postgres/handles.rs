//! Who has which name: kept for a while, because people are named by the same name each time.
//!
//! What is kept may be wrong; a document says itself whether it still has the name it was found by, and no two have one.

use super::{database::Database, users};
use crate::error::Result;
use countersign_core::{Handle, OrganisationId, UserId};
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Names that are kept.
const KEPT: usize = 100_000;

/// Names that were looked up lately.
pub(super) struct Handles {
    holders: Cache<(OrganisationId, u8, String), UserId>,
}

impl Handles {
    /// Knows nobody yet.
    pub(super) fn new() -> Self {
        Self { holders: Cache::new(KEPT) }
    }

    /// Returns who has, or lately had, a name.
    pub(super) async fn resolve(
        &self,
        database: &Arc<Database>,
        organisation: OrganisationId,
        handle: &Handle,
    ) -> Result<Option<UserId>> {
        let Some(key) = key(organisation, handle) else {
            return Ok(if let Handle::Id(id) = handle { Some(*id) } else { None });
        };
        if let Some(id) = self.holders.get(&key) {
            return Ok(Some(id));
        }
        let handle = handle.clone();
        let found = database
            .read(move |lent| {
                let handle = handle.clone();
                async move { users::find(&lent, organisation, &handle).await }
            })
            .await?;
        if let Some(id) = found {
            self.holders.insert(key, id);
        }
        Ok(found)
    }

    /// Forgets a name; tells whether it was kept.
    pub(super) fn forget(&self, organisation: OrganisationId, handle: &Handle) -> bool {
        key(organisation, handle).is_some_and(|key| self.holders.remove(&key).is_some())
    }
}

fn key(organisation: OrganisationId, handle: &Handle) -> Option<(OrganisationId, u8, String)> {
    match handle {
        Handle::Id(_) => None,
        Handle::Number(number) => Some((organisation, 3, number.to_string())),
        Handle::Username(key) => Some((organisation, 1, key.clone())),
        Handle::Email(key) => Some((organisation, 2, key.clone())),
    }
}
