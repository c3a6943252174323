//! The vendor's roles and ours: one table.
//!
//! What the vendor's roles allow beyond people is no matter of ours: whoever neither administers nor reads people is a
//! member here, and shown as an operator.

use countersign_core::{Role, refusal::Invalid};

const ADMINISTRATOR: &str = "PortalAdmin";
const OPERATOR: &str = "PortalOperator";
const READER: &str = "ReadOnlyUser";

/// **The table**: each role of the vendor's and what it is here.
const ROLES: [(&str, Role); 6] = [
    (ADMINISTRATOR, Role::Admin),
    (OPERATOR, Role::Member),
    ("RestoreOperator", Role::Member),
    ("VeeamUpdater", Role::Member),
    ("IntegrationOperator", Role::Member),
    (READER, Role::Auditor),
];

/// Returns what a role is called.
pub(super) const fn name(role: Role) -> &'static str {
    match role {
        Role::Owner | Role::Admin => ADMINISTRATOR,
        Role::Helpdesk | Role::Member => OPERATOR,
        Role::Auditor => READER,
    }
}

/// Reads a role's name.
pub(super) fn parse(field: &str, text: &str) -> Result<Role, Invalid> {
    let known = ROLES.into_iter().find(|(name, _)| *name == text);
    known.map(|(_, role)| role).ok_or_else(|| {
        let names = ROLES.map(|(name, _)| name).join(", ");
        Invalid::new(field, format!("unknown role; expected {names}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back_as_no_more_than_it_is() {
        for role in Role::ALL {
            let read = parse("role", name(role)).expect("known");
            assert!(read <= role, "{role} would become {read}");
        }
        for text in ["Unknown", "portaladmin", ""] {
            assert!(parse("role", text).is_err(), "{text}");
        }
    }
}
