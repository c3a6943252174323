//! Migrations: steps from one schema to the next, which never change once they are released.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};

/// A step from one schema to the next. Once released it never changes.
pub(super) struct Migration {
    /// Its name, which begins with its number.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) sql: &'static str,
}

impl Migration {
    /// Returns what tells it from another one of the same name.
    pub(super) fn checksum(&self) -> [u8; 32] {
        Sha256::digest(self.sql).into()
    }
}

/// Compares what was applied, by name and checksum, with what this binary knows; returns how many were.
pub(super) fn check<C: AsRef<[u8]>>(known: &[Migration], applied: &[(String, C)]) -> Result<usize> {
    for (place, (name, checksum)) in applied.iter().enumerate() {
        let Some(known) = known.get(place) else {
            return Err(Error::Store(format!(
                "open database: its migration {name} is newer than this version of countersign; start a newer one"
            )));
        };
        if *checksum.as_ref() != known.checksum() {
            return Err(Error::Store(format!(
                "open database: its migration {name} differs from this version's; start the version that made it"
            )));
        }
    }
    Ok(applied.len())
}
