//! The store's suites: what any engine does, on each of ours; what only tests can find out of any; what is one's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod copy;
mod ground;
mod model;
mod nodes;
mod outbox_model;
mod postgres;
mod sqlite;

use countersign::store::conformance::{self, Engine};

/// An engine that tests start for themselves.
trait Start: Engine + 'static {
    /// Makes an empty database, which goes with this value, and opens a store on it.
    async fn start() -> Self;
}

/// Runs a check on an engine of its own.
async fn check<E: Start>(name: &str) {
    conformance::check(name).expect("it is listed").run(E::start().await).await;
}

/// Runs the suites on an engine: every check and model as a test of its own.
macro_rules! suites {
    ($engine:ident) => {
        countersign::each_check!(tests, $engine);

        #[test]
        fn the_store_does_what_a_map_would_do() {
            crate::store::model::the_store_does_what_a_map_would_do::<$engine>();
        }

        #[test]
        fn the_outbox_does_what_a_list_would_do() {
            crate::store::outbox_model::the_outbox_does_what_a_list_would_do::<$engine>();
        }
    };
}
use suites;

macro_rules! tests {
    (($engine:ident) $($suite:ident { $($check:ident,)+ })+) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $check() {
            crate::store::check::<$engine>(stringify!($check)).await;
        }
    )+)+};
}
use tests;
