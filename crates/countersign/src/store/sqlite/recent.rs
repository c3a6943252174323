//! The people changed last, as their rows hold them.
//!
//! One thread writes, so what it wrote last is what it would read and decode again. Whoever signs in is changed several times
//! within a minute: by the password, by the code that is sent, by the second step, by the session. Somebody who comes for the
//! first time in a while is read from their row.

use super::users::Held;
use countersign_core::UserId;
use std::collections::HashMap;

/// How many people a generation has. There are two, so at most twice as many are kept: some 20 MiB.
const GENERATION: usize = 4096;

/// People by id, in two generations: when the young one is full, the old one is forgotten and the young one is old.
#[derive(Default)]
pub(super) struct Recent {
    young: HashMap<UserId, Held>,
    old: HashMap<UserId, Held>,
}

impl Recent {
    /// Takes somebody out. Whoever changes them puts them back once that is durable; whoever fails does not, and their row is
    /// read next time.
    pub(super) fn take(&mut self, id: UserId) -> Option<Held> {
        self.young.remove(&id).or_else(|| self.old.remove(&id))
    }

    /// Keeps somebody as they were committed.
    pub(super) fn keep(&mut self, held: Held) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(held.id(), held);
    }
}
