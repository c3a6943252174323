//! The people changed last, as their rows hold them.
//!
//! One thread writes, so what it wrote last is what it would read and decode again. Whoever signs in is changed several times
//! within a minute: by the password, by the code that is sent, by the second step, by the session. Somebody who comes for the
//! first time in a while is read from their row.

use countersign_core::UserId;
use std::collections::HashMap;

/// How many people a generation has. There are two, so at most twice as many are kept: some 20 MiB.
const GENERATION: usize = 4096;

/// What is kept of people, by id, in two generations: when the young one is full, the old one is forgotten and the young one
/// is old.
pub(super) struct Recent<T> {
    young: HashMap<UserId, T>,
    old: HashMap<UserId, T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<T> Recent<T> {
    /// Takes somebody out. Whoever changes them puts them back once that is durable; whoever fails does not, and their row is
    /// read next time.
    pub(super) fn take(&mut self, id: UserId) -> Option<T> {
        self.young.remove(&id).or_else(|| self.old.remove(&id))
    }

    /// Keeps somebody as they were committed.
    pub(super) fn keep(&mut self, id: UserId, held: T) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn person(number: usize) -> UserId {
        UserId::from_uuid(Uuid::from_u128(number as u128))
    }

    #[test]
    fn whoever_was_taken_out_is_no_longer_there() {
        let mut recent = Recent::default();
        recent.keep(person(1), "as committed");

        assert_eq!(recent.take(person(1)), Some("as committed"));
        assert_eq!(recent.take(person(1)), None);
    }

    #[test]
    fn those_who_come_again_stay_and_the_others_are_forgotten() {
        let mut recent = Recent::default();
        for number in 0..4 * GENERATION {
            recent.keep(person(number), ());
            // Comes with each change of somebody else.
            recent.keep(person(0), ());
            assert!(recent.young.len() + recent.old.len() <= 2 * GENERATION);
        }

        assert!(recent.take(person(0)).is_some());
        assert!(recent.take(person(1)).is_none());
        assert!(recent.take(person(4 * GENERATION - 1)).is_some());
    }
}
