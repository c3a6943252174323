//! What any engine does: the checks that tell whether a database can be trusted with second factors.
//!
//! A check is given an engine on an empty database and panics where a promise of [`Store`] is not kept. The tests run
//! all of them on each engine of ours; `countersign store conformance` runs them on a database of its user's.

mod ground;
#[macro_use]
mod list;
mod operations;
mod outbox;
pub mod postgres;
mod race;
mod retention;
pub mod scene;
pub mod sqlite;

pub use ground::{Ground, OnGround};

use super::Store;
use countersign_core::{DeliveryId, UserId};
use std::{future::Future, pin::Pin};

/// What `meta` holds while a database is for checks alone. No server starts on it.
pub const TRIAL_MARK: &str = "conformance";

/// An engine on a database that holds what a check put there, and nothing else.
pub trait Engine: Sized {
    /// Returns the store.
    fn store(&self) -> Store;

    /// Closes the store and opens it again on the same database.
    fn reopen(self) -> impl Future<Output = Self>;

    /// Makes a person's document unreadable, behind the store's back.
    fn damage(&self, user: UserId) -> impl Future<Output = ()>;

    /// Tells whether the words of a message are still kept.
    fn has_letter(&self, id: DeliveryId) -> impl Future<Output = bool>;

    /// Makes the words of a message unreadable.
    fn damage_letter(&self, id: DeliveryId) -> impl Future<Output = ()>;
}

/// A check, for one kind of engine.
pub struct Check<E> {
    /// The suite it belongs to.
    pub suite: &'static str,
    /// What it says of the engine.
    pub name: &'static str,
    body: fn(E) -> Pin<Box<dyn Future<Output = ()>>>,
}

impl<E: Engine> Check<E> {
    /// Runs the check, which panics if the engine does not do what it should.
    pub async fn run(&self, engine: E) {
        (self.body)(engine).await;
    }
}

/// Returns all checks.
pub fn checks<E: Engine + 'static>() -> Vec<Check<E>> {
    macro_rules! list {
        (() $($suite:ident { $($name:ident,)+ })+) => {
            vec![$($(Check {
                suite: stringify!($suite),
                name: stringify!($name),
                body: |engine| Box::pin($suite::$name(engine)),
            },)+)+]
        };
    }
    each_check!(list)
}

/// Returns the check with a name.
pub fn check<E: Engine + 'static>(name: &str) -> Option<Check<E>> {
    checks().into_iter().find(|check| check.name == name)
}
