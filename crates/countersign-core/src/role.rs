//! Who may do what, and to whom: roles, scopes, permissions and the ladder.

use crate::refusal::{Invalid, Refusal};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// What a person is in the organisation; each role may do all that the ones below it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Has second factors and manages their own.
    Member,
    /// Reads people and the audit trail.
    Auditor,
    /// Helps members: enrols, unlocks, resets.
    Helpdesk,
    /// Administers the organisation.
    Admin,
    /// Administers the installation and all its organisations.
    Owner,
}

impl Role {
    /// All roles, lowest first.
    pub const ALL: [Self; 5] = [Self::Member, Self::Auditor, Self::Helpdesk, Self::Admin, Self::Owner];

    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Auditor => "auditor",
            Self::Helpdesk => "helpdesk",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Reads a role's name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| Invalid::new(field, "expected owner, admin, helpdesk, auditor or member"))
    }

    /// Tells whether somebody with this role may do what `permission` names.
    pub fn allows(self, permission: Permission) -> bool {
        permission.rule().1.is_some_and(|lowest| self >= lowest)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A person's roles. Never empty: who has no other role is a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Makes a set of roles; an empty one becomes `member`.
    pub fn new(roles: impl IntoIterator<Item = Role>) -> Self {
        let mut roles: BTreeSet<Role> = roles.into_iter().collect();
        if roles.is_empty() {
            roles.insert(Role::Member);
        }
        Self(roles)
    }

    /// Returns the highest role, which decides what the person may do and who may act on them.
    pub fn highest(&self) -> Role {
        self.0.last().copied().unwrap_or(Role::Member)
    }

    /// Returns the roles, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Role> + '_ {
        self.0.iter().copied()
    }
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Check codes.
    Verify,
    /// Read people, their factors and locks.
    ReadUsers,
    /// Create, change and delete people.
    WriteUsers,
    /// Enrol, change, disable, delete and reset factors; issue recovery and emergency codes.
    WriteFactors,
    /// Unlock methods.
    WriteLocks,
    /// Read the audit trail.
    ReadAudit,
    /// Read and change the organisation's policy and clients.
    Administer,
    /// Create, list and delete organisations.
    Own,
    /// Manage one's own factors as a signed-in person.
    Myself,
}

impl Permission {
    /// All permissions.
    pub const ALL: [Self; 9] = [
        Self::Verify,
        Self::ReadUsers,
        Self::WriteUsers,
        Self::WriteFactors,
        Self::WriteLocks,
        Self::ReadAudit,
        Self::Administer,
        Self::Own,
        Self::Myself,
    ];

    /// **The table**: the name of each permission, the lowest role that has it, the scope a client needs for it.
    const fn rule(self) -> (&'static str, Option<Role>, Option<Scope>) {
        match self {
            Self::Verify => ("verify", Some(Role::Helpdesk), Some(Scope::Verify)),
            Self::ReadUsers => ("users:read", Some(Role::Auditor), Some(Scope::ReadUsers)),
            Self::WriteUsers => ("users:write", Some(Role::Admin), Some(Scope::WriteUsers)),
            Self::WriteFactors => ("factors:write", Some(Role::Helpdesk), Some(Scope::WriteFactors)),
            Self::WriteLocks => ("locks:write", Some(Role::Helpdesk), Some(Scope::WriteLocks)),
            Self::ReadAudit => ("audit:read", Some(Role::Auditor), Some(Scope::ReadAudit)),
            Self::Administer => ("admin", Some(Role::Admin), Some(Scope::Admin)),
            Self::Own => ("owner", Some(Role::Owner), None),
            Self::Myself => ("self", Some(Role::Member), None),
        }
    }

    /// Returns the name used in the API description.
    pub const fn name(self) -> &'static str {
        self.rule().0
    }

    /// Returns the scope a service client needs, `None` if no client may.
    pub const fn scope(self) -> Option<Scope> {
        self.rule().2
    }
}

/// What a service client may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Check codes.
    #[serde(rename = "verify")]
    Verify,
    /// Read people, their factors and locks.
    #[serde(rename = "users:read")]
    ReadUsers,
    /// Create, change and delete people.
    #[serde(rename = "users:write")]
    WriteUsers,
    /// Enrol, change and reset factors.
    #[serde(rename = "factors:write")]
    WriteFactors,
    /// Unlock methods.
    #[serde(rename = "locks:write")]
    WriteLocks,
    /// Read the audit trail.
    #[serde(rename = "audit:read")]
    ReadAudit,
    /// Administer the organisation; also lets the client act on administrators.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// All scopes, in the order they are listed to people.
    pub const ALL: [Self; 7] = [
        Self::Verify,
        Self::ReadUsers,
        Self::WriteUsers,
        Self::WriteFactors,
        Self::WriteLocks,
        Self::ReadAudit,
        Self::Admin,
    ];

    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::ReadUsers => "users:read",
            Self::WriteUsers => "users:write",
            Self::WriteFactors => "factors:write",
            Self::WriteLocks => "locks:write",
            Self::ReadAudit => "audit:read",
            Self::Admin => "admin",
        }
    }

    /// Reads one scope's name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Invalid::new(field, format!("unknown scope; expected {names}"))
        })
    }

    /// Reads a list separated by blanks, as OAuth writes it (RFC 6749 §3.3).
    pub fn parse_list(field: &str, text: &str) -> Result<BTreeSet<Self>, Invalid> {
        text.split_ascii_whitespace().map(|name| Self::parse(field, name)).collect()
    }

    /// Writes a list as OAuth does.
    pub fn list(scopes: &BTreeSet<Self>) -> String {
        scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far up somebody's hand reaches: the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// A person acts with their highest role.
    Person {
        /// The role.
        role: Role,
        /// Whether their session was opened with a second factor.
        second_factor: bool,
    },
    /// A service client acts as an administrator with the scope `admin`, else as the help desk.
    Client {
        /// Whether it has the scope `admin`.
        admin: bool,
    },
    /// A person acts on their own document.
    Themselves {
        /// Whether the session was opened with a second factor.
        second_factor: bool,
    },
    /// The server itself: set-up and command line on the machine.
    System,
    /// Nobody signed in.
    Nobody,
}

impl Rank {
    /// **The ladder**: nobody acts on somebody above them; the help desk acts on members only.
    ///
    /// What people may do to themselves is the organisation's policy, not the ladder.
    pub fn check_act_on(self, target: Role) -> Result<(), Refusal> {
        if matches!(self, Self::Themselves { .. }) {
            return Ok(());
        }
        let reaches = match self.role() {
            Some(Role::Owner) => true,
            Some(Role::Admin) => target <= Role::Admin,
            Some(Role::Helpdesk) => target == Role::Member,
            Some(Role::Auditor | Role::Member) | None => false,
        };
        if reaches { Ok(()) } else { Err(Refusal::AboveYourRank(target)) }
    }

    /// Tells whether the caller's session was opened with a second factor; who has no session needs none.
    pub const fn has_second_factor(self) -> bool {
        match self {
            Self::Person { second_factor, .. } | Self::Themselves { second_factor } => second_factor,
            Self::Client { .. } | Self::System => true,
            Self::Nobody => false,
        }
    }

    /// Refuses to give or take a role above one's own. A client without the scope `admin` makes members only.
    pub fn check_grant(self, role: Role) -> Result<(), Refusal> {
        let highest = match self {
            Self::Client { admin: false } => Some(Role::Member),
            _ => self.role(),
        };
        match highest {
            Some(own) if own >= role => Ok(()),
            _ => Err(Refusal::RoleAboveYours(role)),
        }
    }

    const fn role(self) -> Option<Role> {
        match self {
            Self::Person { role, .. } => Some(role),
            Self::Client { admin: true } => Some(Role::Admin),
            Self::Client { admin: false } => Some(Role::Helpdesk),
            Self::System => Some(Role::Owner),
            Self::Themselves { .. } | Self::Nobody => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(role: Role) -> Rank {
        Rank::Person { role, second_factor: true }
    }

    #[test]
    fn nobody_acts_on_somebody_above_them() {
        for (index, own) in Role::ALL.into_iter().enumerate() {
            for target in &Role::ALL[index + 1..] {
                assert!(person(own).check_act_on(*target).is_err(), "{own} on {target}");
            }
        }
    }

    #[test]
    fn the_help_desk_acts_on_members_only_and_an_owner_on_all() {
        assert!(person(Role::Helpdesk).check_act_on(Role::Member).is_ok());
        assert!(person(Role::Helpdesk).check_act_on(Role::Helpdesk).is_err());
        assert!(person(Role::Helpdesk).check_act_on(Role::Auditor).is_err());
        assert!(person(Role::Auditor).check_act_on(Role::Member).is_err());
        assert!(Role::ALL.into_iter().all(|target| person(Role::Owner).check_act_on(target).is_ok()));
        assert!(Rank::Nobody.check_act_on(Role::Member).is_err());
    }

    #[test]
    fn a_client_without_the_admin_scope_reaches_members_only() {
        assert!(Rank::Client { admin: false }.check_act_on(Role::Member).is_ok());
        assert!(Rank::Client { admin: false }.check_act_on(Role::Admin).is_err());
        assert!(Rank::Client { admin: true }.check_act_on(Role::Admin).is_ok());
        assert!(Rank::Client { admin: true }.check_act_on(Role::Owner).is_err());
    }

    #[test]
    fn nobody_grants_a_role_above_their_own() {
        assert!(person(Role::Admin).check_grant(Role::Admin).is_ok());
        assert!(person(Role::Admin).check_grant(Role::Owner).is_err());
        assert!(Rank::Client { admin: true }.check_grant(Role::Admin).is_ok());
        assert!(Rank::Client { admin: false }.check_grant(Role::Helpdesk).is_err());
    }

    #[test]
    fn higher_roles_may_do_all_that_lower_ones_may() {
        for permission in Permission::ALL {
            let allowed: Vec<bool> = Role::ALL.into_iter().map(|role| role.allows(permission)).collect();
            assert!(allowed.is_sorted(), "{permission:?}");
        }
    }
}
