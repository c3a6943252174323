//! The suites on PostgreSQL: reached directly, behind a pool of transactions, and as if people were spread over machines.

use super::{Start, suites, tests};
use crate::postgres::Database;
use countersign::{
    config::{Data, secret::Given},
    store::{
        Store,
        conformance::{Engine, postgres::OnPostgres},
        postgres::PRUNE_AUDIT,
    },
};
use countersign_core::{DeliveryId, UserId};
use std::marker::PhantomData;

/// How a store gets to its database and uses it.
trait Way: 'static {
    fn settings(database: &Database) -> Data;
}

/// An engine on a database that goes with it.
struct On<W> {
    engine: OnPostgres,
    // Dropped, and dropped there, when the engine is gone.
    _database: Database,
    way: PhantomData<W>,
}

impl<W: Way> Start for On<W> {
    async fn start() -> Self {
        let database = Database::new();
        let engine = OnPostgres::open(W::settings(&database)).await.unwrap();
        Self { engine, _database: database, way: PhantomData }
    }
}

impl<W: Way> Engine for On<W> {
    fn store(&self) -> Store {
        self.engine.store()
    }

    async fn reopen(self) -> Self {
        Self { engine: self.engine.reopen().await, ..self }
    }

    async fn damage(&self, user: UserId) {
        self.engine.damage(user).await;
    }

    async fn has_letter(&self, id: DeliveryId) -> bool {
        self.engine.has_letter(id).await
    }

    async fn damage_letter(&self, id: DeliveryId) {
        self.engine.damage_letter(id).await;
    }
}

fn settings(url: &str) -> Data {
    // Several tests run at the same time.
    Data { url: Some(Given::new(url)), connections: 8, ..Data::default() }
}

mod direct {
    use super::*;

    /// Connections are ours alone, so statements are prepared on them.
    struct Prepared;
    type Direct = On<Prepared>;

    impl Way for Prepared {
        fn settings(database: &Database) -> Data {
            Data { prepared_statements: true, ..settings(&database.url()) }
        }
    }

    suites!(Direct);
}

mod pooled {
    use super::*;

    /// Each transaction may go over another connection.
    struct InTransactions;
    type Pooled = On<InTransactions>;

    impl Way for InTransactions {
        fn settings(database: &Database) -> Data {
            settings(&database.pooled_url())
        }
    }

    suites!(Pooled);
}

mod sharded {
    use super::*;

    /// Changes of different people share no statement.
    struct OneByOne;
    type Sharded = On<OneByOne>;

    impl Way for OneByOne {
        fn settings(database: &Database) -> Data {
            Data { sharded: true, ..settings(&database.url()) }
        }
    }

    suites!(Sharded);
}

/// However large the table is, and without looking at what was pruned before.
#[test]
fn a_step_of_pruning_reads_a_range_of_one_index() {
    let database = Database::new();
    let prune = PRUNE_AUDIT.replace("$1", "70000").replace("$2", "70500");

    database.execute(&format!(
        "INSERT INTO audit (subject, seq, \"row\", organisation, at, action, hash, body)
             SELECT gen_random_uuid(), 1, n, gen_random_uuid(), n, 'user.created', '', repeat('x', 300)::bytea
             FROM generate_series(1, 100000) AS n;
         DELETE FROM audit WHERE \"row\" <= 70000;
         ANALYZE audit;
         DO $$
         DECLARE line text; plan text := '';
         BEGIN
             FOR line IN EXECUTE 'EXPLAIN {prune}' LOOP plan := plan || line || chr(10); END LOOP;
             ASSERT plan LIKE '%Index Scan using audit_row on audit%', plan;
             ASSERT plan NOT LIKE '%Seq Scan%' AND plan NOT LIKE '%Sort%', plan;
         END $$"
    ));
}
