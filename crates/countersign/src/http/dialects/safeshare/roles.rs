//! What SafeShare's roles are here. What each may do is the table in the core: a call asks for the permission of its
//! native operation.
//!
//! | SafeShare | here |
//! |---|---|
//! | SafeShare administrator, `ROLE_SYSTEM_ADMIN` | `owner`, who is an administrator of their own organisation, too |
//! | Organisation administrator, `ROLE_USER_ADMIN` | `admin` |
//! | Originator, `ROLE_ORIGINATOR`; Collaborator, `ROLE_COLLABORATOR` | `member`; SafeShare has no name for help desk and auditors |
//! | Ad hoc, `ROLE_ADHOC_COLLABORATOR` | made by sharing, which is not ours |

use crate::app::Asker;
use countersign_core::{
    Rank, User,
    refusal::Invalid,
    role::{Role, Roles},
};

/// Tells whether a person is a SafeShare administrator.
pub(super) fn is_safeshare_administrator(user: &User) -> bool {
    user.roles.highest() == Role::Owner
}

/// Tells whether the caller is a SafeShare administrator.
pub(super) fn is_by_safeshare_administrator(asker: &Asker) -> bool {
    matches!(asker.call.rank, Rank::Person { role: Role::Owner, .. })
}

/// Tells whether a person administers their organisation.
pub(super) fn is_organisation_administrator(user: &User) -> bool {
    user.roles.highest() >= Role::Admin
}

/// Returns the names of a person's roles.
pub(super) fn names(user: &User) -> Vec<&'static str> {
    let mut names = vec!["ROLE_COLLABORATOR"];
    if is_organisation_administrator(user) {
        names.insert(0, "ROLE_USER_ADMIN");
    }
    if is_safeshare_administrator(user) {
        names.insert(0, "ROLE_SYSTEM_ADMIN");
    }
    names
}

/// Reads the name of a role in an organisation.
pub(super) fn parse(field: &str, name: &str) -> Result<Role, Invalid> {
    match name {
        "ROLE_USER_ADMIN" => Ok(Role::Admin),
        "ROLE_ORIGINATOR" | "ROLE_COLLABORATOR" => Ok(Role::Member),
        _ => Err(Invalid::new(field, "expected ROLE_USER_ADMIN, ROLE_ORIGINATOR or ROLE_COLLABORATOR")),
    }
}

/// Returns a person's roles with or without one.
pub(super) fn changed(user: &User, role: Role, has_it: bool) -> Roles {
    Roles::new(user.roles.iter().filter(|held| *held != role).chain(has_it.then_some(role)))
}
