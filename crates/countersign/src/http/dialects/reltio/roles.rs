//! **The table** of the vendor's roles and ours.
//!
//! Only the customer's administrator has power over second factors in the vendor's system, and only they have in ours:
//! every other name (`ROLE_ADMIN_USER`, `ROLE_ADMIN_TENANT`, `ROLE_API`, …) is kept as it was given and allows nothing
//! here. What the vendor has no name for (help desk, auditor, owner) stays whatever a client of the vendor's writes.

use countersign_core::{Role, role::Roles};

/// The vendor's name, and the role of ours it stands for.
const TABLE: [(&str, Role); 1] = [("ROLE_ADMIN_CUSTOMER", Role::Admin)];

/// Returns the names of what a person is in the vendor's words.
pub(super) fn names(roles: &Roles) -> impl Iterator<Item = &'static str> {
    let highest = roles.highest();
    TABLE.iter().filter(move |(_, role)| highest >= *role).map(|(name, _)| *name)
}

/// Tells whether a name stands for a role of ours.
pub(super) fn is_ours(name: &str) -> bool {
    TABLE.iter().any(|(known, _)| *known == name)
}

/// Returns the roles of a person who is given these names.
pub(super) fn given(current: &Roles, names: &[String]) -> Roles {
    let is_named =
        |role: Role| TABLE.iter().any(|(name, ours)| *ours == role && names.iter().any(|n| n == name));
    let has_name = |role: Role| TABLE.iter().any(|(_, ours)| *ours == role);
    let kept = current.iter().filter(|role| !has_name(*role));
    // An owner shows as an administrator, and does not become a second thing by being written back.
    let is_owner = current.highest() == Role::Owner;
    let added = TABLE.iter().map(|(_, role)| *role).filter(|role| is_named(*role) && !is_owner);
    let held = current.iter().filter(|role| has_name(*role) && is_owner);
    Roles::new(kept.chain(added).chain(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_to(current: &[Role], names: &[&str]) -> Vec<Role> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        given(&Roles::new(current.iter().copied()), &names).iter().collect()
    }

    #[test]
    fn one_name_gives_power_and_the_others_none() {
        let powerless = ["ROLE_ADMIN_USER", "ROLE_ADMIN_TENANT", "ROLE_API", "ROLE_ADMIN_CUSTOMER_Other"];

        assert_eq!(given_to(&[Role::Member], &["ROLE_ADMIN_CUSTOMER"]), [Role::Member, Role::Admin]);
        assert_eq!(given_to(&[Role::Member], &powerless), [Role::Member]);
        assert_eq!(given_to(&[Role::Admin], &powerless), [Role::Member]);
    }

    #[test]
    fn what_the_vendor_has_no_name_for_stays() {
        assert_eq!(given_to(&[Role::Helpdesk], &[]), [Role::Helpdesk]);
        assert_eq!(given_to(&[Role::Helpdesk, Role::Admin], &[]), [Role::Helpdesk]);
        assert_eq!(given_to(&[Role::Owner], &["ROLE_ADMIN_CUSTOMER"]), [Role::Owner]);
        assert_eq!(given_to(&[Role::Owner], &[]), [Role::Owner]);
    }

    #[test]
    fn administrators_and_those_above_show_as_the_customers_administrator() {
        for (role, shown) in [(Role::Member, 0), (Role::Helpdesk, 0), (Role::Admin, 1), (Role::Owner, 1)] {
            assert_eq!(names(&Roles::new([role])).count(), shown, "{role}");
        }
    }
}
