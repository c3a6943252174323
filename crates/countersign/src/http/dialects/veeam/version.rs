//! The versions of the API, and where their answers differ.

use crate::http::problem::Problem;
use countersign_core::{Role, User};
use http::StatusCode;
use serde_json::{Value, json};

/// The versions a path may name. Appliances serve their newest and a few older ones; we serve them all.
const VERSIONS: [(&str, u8); 9] =
    [("v1", 1), ("v2", 2), ("v3", 3), ("v4", 4), ("v5", 5), ("v6", 6), ("v7", 7), ("v8", 8), ("v8.1", 8)];

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    segment: &'static str,
    number: u8,
}

impl Version {
    /// Reads the segment of a path.
    pub(super) fn parse(segment: &str) -> Result<Self, Problem> {
        let known = VERSIONS.into_iter().find(|(name, _)| *name == segment);
        let (segment, number) = known.ok_or_else(|| {
            Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such version: v1 to v8 and v8.1")
        })?;
        Ok(Self { segment, number })
    }

    /// Returns the segment of its paths.
    pub(super) const fn segment(self) -> &'static str {
        self.segment
    }

    /// Returns how it names a person: by number at first, by id later, because its clients read a UUID.
    pub(super) fn id(self, user: &User) -> String {
        if self.number == 1 { user.number.to_string() } else { user.id.to_string() }
    }

    /// Returns the same as `enableMfa` answers it: a number in the first version.
    pub(super) fn user_id(self, user: &User) -> Value {
        if self.number == 1 { json!(user.number) } else { json!(user.id) }
    }

    /// Returns the status of what was done and has nothing to say.
    pub(super) const fn done(self) -> StatusCode {
        if self.number == 1 { StatusCode::OK } else { StatusCode::NO_CONTENT }
    }

    /// Returns the status of something created.
    pub(super) const fn created(self) -> StatusCode {
        if self.number < 3 { StatusCode::OK } else { StatusCode::CREATED }
    }

    /// Returns what somebody becomes of whom it is not said. Before roles, everybody was an administrator.
    pub(super) const fn default_role(self) -> Role {
        if self.number < 3 { Role::Admin } else { Role::Auditor }
    }
}
