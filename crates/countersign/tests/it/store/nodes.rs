//! Several nodes on one database: what each of them relies on, and what happens when one is cut off in the middle.

use crate::postgres::Database;
use countersign::{
    config::{Data, secret::Given},
    error::Error,
    keys::{Keys, MasterKey},
    service::audit,
    store::{
        AuditFilter, Store,
        conformance::scene::{
            OpenKeyring, Person, at_once, attempt, create, hotp_code, named, new_organisation, now,
            organisation, totp_code, username,
        },
        postgres::Postgres,
    },
};
use countersign_core::{
    Action, Handle, Kind, Organisation, OrganisationId, Policy, User, Verdict, attempt::Target,
    profile::DisplayName, user::UserPatch,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

fn settings(database: &Database) -> Data {
    Data { url: Some(Given::new(&database.url())), connections: 8, ..Data::default() }
}

async fn node(database: &Database) -> Store {
    Store::Postgres(Postgres::open(&settings(database)).await.unwrap())
}

/// A person as another node sees them.
fn on(store: &Store, person: &Person) -> Person {
    Person { store: store.clone(), ..person.clone() }
}

async fn two_nodes_with_ada(database: &Database) -> (Person, Person) {
    let (one, other) = (node(database).await, node(database).await);
    let acme = organisation(&one, "acme").await;
    let ada = Person::create(&one, acme, "ada").await;
    let elsewhere = on(&other, &ada);
    (ada, elsewhere)
}

/// Waits until something holds, for some seconds.
async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(8), "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_code_gets_one_success_on_two_nodes() {
    let database = Database::new();
    let (here, there) = two_nodes_with_ada(&database).await;
    let nodes = Arc::new([here, there]);
    for code in 0..10 {
        let code = attempt(&hotp_code(code), Target::Factor(nodes[0].hotp));

        let verdicts = at_once(64, |caller| {
            let (nodes, code) = (Arc::clone(&nodes), code.clone());
            async move { nodes[caller % 2].verify(code).await }
        })
        .await;

        assert_eq!(verdicts.iter().filter(|verdict| verdict.is_accepted()).count(), 1, "{verdicts:?}");
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Replayed).count(), 63);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_start_at_once_migrate_once() {
    let database = Arc::new(Database::empty());

    let opened = at_once(4, |_| {
        let database = Arc::clone(&database);
        async move { Postgres::migrate_only(&settings(&database)).await.unwrap().len() }
    })
    .await;

    assert_eq!(opened.iter().sum::<usize>(), *opened.iter().max().unwrap(), "{opened:?}");
    node(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_that_another_node_revoked_is_heard_of() {
    let database = Database::new();
    let (here, there) = (node(&database).await, node(&database).await);
    let token = Uuid::from_u128(7);
    there.check_news().unwrap();

    here.revoke_token(token, now().now.after(Duration::from_secs(600))).await.unwrap();

    assert!(here.is_revoked(token));
    wait_until("the other node hears of it", async || there.is_revoked(token)).await;
}

// A node that hears nothing went on to say that tokens are good.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_hears_nothing_does_not_say_that_a_token_is_good() {
    let database = Database::new();
    let node = node(&database).await;

    database.execute("ALTER TABLE revoked RENAME TO elsewhere");

    wait_until("it refuses", async || matches!(node.check_news(), Err(Error::Unreachable(_)))).await;
    database.execute("ALTER TABLE elsewhere RENAME TO revoked");
    wait_until("it is well again", async || node.check_news().is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_another_node_changes_of_an_organisation_is_seen_soon() {
    let database = Database::new();
    let (here, there) = (node(&database).await, node(&database).await);
    let acme = here.create_organisation(new_organisation("acme")).await.unwrap().id;
    let name_there = async || there.organisation(acme).await.unwrap().unwrap().name.to_string();
    assert_eq!(name_there().await, "acme");

    here.change_organisation(acme, |acme| {
        acme.update(Some(DisplayName::parse("name", "Acme Ltd")?), None, &now());
        Ok(())
    })
    .await
    .unwrap();

    let changed = Instant::now();
    wait_until("the other node sees it", async || name_there().await == "Acme Ltd").await;
    assert!(changed.elapsed() < Duration::from_secs(3), "{:?}", changed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_that_went_to_somebody_else_finds_them_on_every_node() {
    let database = Database::new();
    let (here, there) = (node(&database).await, node(&database).await);
    let acme = organisation(&here, "acme").await;
    let first = create(&here, acme, named("ada")).await.unwrap().id;
    let ada = || Handle::Username("ada".into());
    assert_eq!(there.change_by(acme, ada(), |user| Ok(user.id)).await.unwrap(), first);

    let patch = UserPatch { username: Some(username("ada lovelace")), ..UserPatch::default() };
    here.change(acme, first, move |user| user.update(patch.clone(), &now())).await.unwrap();
    let nobody = there.change_by(acme, ada(), |user| Ok(user.id)).await;
    let second = create(&here, acme, named("ada")).await.unwrap().id;

    assert!(matches!(nobody, Err(Error::NotFound("user"))), "{nobody:?}");
    assert_eq!(there.change_by(acme, ada(), |user| Ok(user.id)).await.unwrap(), second);
}

/// Cuts all connections to a database, again and again, until it is dropped.
struct Scissors {
    cutting: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u32>>,
}

impl Scissors {
    fn take(database: &Arc<Database>) -> Self {
        let (cutting, database) = (Arc::new(AtomicBool::new(true)), Arc::clone(database));
        let still = Arc::clone(&cutting);
        let thread = std::thread::spawn(move || {
            let mut cuts = 0;
            while still.load(Relaxed) {
                database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                );
                cuts += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            cuts
        });
        Self { cutting, thread: Some(thread) }
    }

    fn put_down(mut self) -> u32 {
        self.cutting.store(false, Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Scissors {
    fn drop(&mut self) {
        self.cutting.store(false, Relaxed);
    }
}

/// Nobody knows whether a commit went through whose connection was cut. Each code must be accepted once, and who is told so
/// must find it in the trail, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_was_cut_off_is_neither_lost_nor_done_twice() {
    let database = Arc::new(Database::new());
    let (ada, _) = two_nodes_with_ada(&database).await;
    let scissors = Scissors::take(&database);

    let mut accepted = 0;
    let begun = Instant::now();
    for counter in 0..400 {
        let code = attempt(&hotp_code(counter), Target::Factor(ada.hotp));
        let verdict = ada
            .store
            .change(ada.organisation, ada.id, move |user| {
                user.verify(&code, &Policy::default(), &OpenKeyring, &now())
            })
            .await;
        match verdict {
            Ok(verdict) => {
                assert!(verdict.is_accepted(), "code {counter}: {verdict:?}");
                accepted += 1;
            }
            Err(Error::Unreachable(_) | Error::Busy) => break,
            Err(error) => panic!("{error}"),
        }
        if begun.elapsed() > Duration::from_secs(10) {
            break;
        }
    }
    let cuts = scissors.put_down();

    assert!(cuts > 10 && accepted > 10, "{cuts} cuts, {accepted} accepted");
    let filter =
        AuditFilter { user: Some(ada.id), action: Some(Action::VerifyAccepted), ..AuditFilter::default() };
    let events = ada.store.audit(ada.organisation, &filter, None, 1000).await.unwrap().items;
    // The last one may have been committed without anybody hearing of it.
    assert!(
        (accepted..=accepted + 1).contains(&events.len()),
        "{accepted} accepted, {} events",
        events.len()
    );
}

/// The database is on another timeline than it was, since now: what was accepted before may be lost.
fn fail_over(database: &Database) {
    database.execute("UPDATE timelines SET name = 'before'");
}

async fn verify_after_a_fail_over(
    settings: impl FnOnce(Data) -> Data,
    seen_ago: Option<u64>,
) -> (Verdict, Verdict) {
    let database = Database::new();
    let store = node(&database).await;
    let acme = organisation(&store, "acme").await;
    let ada = Person::create(&store, acme, "ada").await;
    store.close().await;
    fail_over(&database);
    let open = |data: Data| async move { Store::Postgres(Postgres::open(&data).await.unwrap()) };
    if let Some(seconds) = seen_ago {
        open(self::settings(&database)).await.close().await;
        database.execute(&format!(
            "UPDATE timelines SET seen_at = seen_at - {seconds} * 1000 WHERE name <> 'before'"
        ));
    }

    let store = open(settings(self::settings(&database))).await;
    let ada = on(&store, &ada);

    let by_time = ada.verify(attempt(&totp_code(&now()), Target::Kind(Kind::Totp))).await;
    let by_count = ada.verify(attempt(&hotp_code(0), Target::Factor(ada.hotp))).await;
    (by_time, by_count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn codes_from_before_a_fail_over_are_refused() {
    let (by_time, by_count) = verify_after_a_fail_over(|data| data, None).await;

    assert_eq!(by_time, Verdict::Replayed);
    assert!(by_count.is_accepted(), "{by_count:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fail_over_of_long_ago_refuses_nothing() {
    let (by_time, _) = verify_after_a_fail_over(|data| data, Some(3600)).await;

    assert!(by_time.is_accepted(), "{by_time:?}");
}

// What is said of replication is not taken on trust: this server has no standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fail_over_loses_nothing_only_if_commits_wait_for_a_standby() {
    let (by_time, _) = verify_after_a_fail_over(|data| Data { synchronous: true, ..data }, None).await;

    assert_eq!(by_time, Verdict::Replayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fail_over_is_noticed_in_the_middle_of_the_work() {
    let database = Database::new();
    let (ada, _) = two_nodes_with_ada(&database).await;
    let code = |counter| attempt(&hotp_code(counter), Target::Factor(ada.hotp));
    assert!(ada.verify(code(0)).await.is_accepted());

    // As if this node had seen another one: the next statement finds a timeline it does not know.
    fail_over(&database);
    let other = node(&database).await;
    let elsewhere = on(&other, &ada);

    assert_eq!(
        elsewhere.verify(attempt(&totp_code(&now()), Target::Kind(Kind::Totp))).await,
        Verdict::Replayed
    );
    assert!(elsewhere.verify(code(1)).await.is_accepted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_checkpoint_covers_only_what_nobody_can_add_to() {
    let database = Database::new();
    let store = node(&database).await;
    organisation(&store, "acme").await;
    let newest = store.audit_rows(0, 10).await.unwrap().pop().unwrap().row;

    let horizon = store.audit_horizon().await.unwrap();

    assert!(horizon < newest, "{horizon} {newest}");
    let minutes = |count: i64| (60_000 * count) << 13;
    assert!((newest - minutes(2)..newest).contains(&horizon), "{horizon} {newest}");
}

// A trail that others go on writing to was said to be broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_trail_holds_also_while_nodes_go_on() {
    let database = Database::new();
    let (here, there) = (node(&database).await, node(&database).await);
    let keys = Keys::create(&here, &MasterKey::generate(), now().now).await.unwrap();
    let acme = organisation(&here, "acme").await;
    let mut lanes = JoinSet::new();
    for (place, store) in [&here, &there].into_iter().enumerate() {
        lanes.spawn(come_and_go(store.clone(), acme, place));
    }

    let mut proofs = 0;
    while !lanes.is_empty() {
        let report = audit::verify(&there, &keys, &[]).await.unwrap();
        assert!(report.holds(), "{:?}", report.findings);
        proofs += 1;
        while lanes.try_join_next().is_some() {}
    }

    assert!(proofs > 2, "{proofs}");
}

/// Has people join, prove themselves and leave again.
async fn come_and_go(store: Store, acme: OrganisationId, place: usize) {
    for number in 0..40 {
        let person = Person::create(&store, acme, &format!("person {place} {number}")).await;
        person.verify(attempt(&hotp_code(0), Target::Factor(person.hotp))).await;
        if number % 3 == 0 {
            let dismiss = |organisation: &mut Organisation, user: &User| organisation.dismiss(user, &now());
            store.remove(acme, person.id, dismiss).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_is_one_nodes_at_a_time() {
    let database = Database::new();
    let (here, there) = (node(&database).await, node(&database).await);
    let minute = Duration::from_secs(60);

    assert!(here.take_turn("housekeeping", minute).await.unwrap());
    assert!(!there.take_turn("housekeeping", minute).await.unwrap());
    assert!(there.take_turn("something else", minute).await.unwrap());
    database.execute("UPDATE turns SET until = 0");
    assert!(there.take_turn("housekeeping", minute).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_numbers_of_nodes_are_given_back_and_not_shared() {
    let database = Database::new();
    let (one, two) = (node(&database).await, node(&database).await);
    let acme = organisation(&one, "acme").await;

    one.close().await;
    let three = node(&database).await;

    // Both of them write now; no two rows have one number.
    at_once(16, |caller| {
        let store = if caller % 2 == 0 { two.clone() } else { three.clone() };
        async move { create(&store, acme, named(&format!("person {caller}"))).await.unwrap() }
    })
    .await;
    let rows = two.audit_rows(0, 100).await.unwrap();
    assert!(rows.is_sorted_by(|a, b| a.row < b.row));
    assert_eq!(rows.len(), 33);
}

mod a_database_that_will_not_do {
    use super::*;

    async fn refusal(settings: Data) -> String {
        Postgres::open(&settings).await.err().expect("it is refused").to_string()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_listens() {
        let url = "postgres://countersign@127.0.0.1:1/countersign";

        let refusal = refusal(Data { url: Some(Given::new(url)), ..Data::default() }).await;

        assert!(refusal.contains("check host and port in store.url"), "{refusal}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_is_not_there() {
        let database = Database::empty();
        let url = format!("{}_and_more", database.url());

        let refusal = refusal(Data { url: Some(Given::new(&url)), ..Data::default() }).await;

        assert!(refusal.contains("create the database first"), "{refusal}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_knows_no_tls() {
        let database = Database::empty();
        let url = format!("{}?sslmode=verify-full", database.url());

        let refusal = refusal(Data { url: Some(Given::new(&url)), ..Data::default() }).await;

        assert!(refusal.contains("sslmode=disable"), "{refusal}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_takes_no_writes() {
        let database = Database::empty();
        database.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$");

        let refusal = refusal(settings(&database)).await;

        assert!(refusal.contains("it is a standby; name the primary"), "{refusal}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn its_commits_are_not_durable() {
        let database = Database::empty();
        database.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$");

        let refusal = refusal(settings(&database)).await;

        assert!(refusal.contains("set synchronous_commit to on there"), "{refusal}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn its_schema_is_newer() {
        let database = Database::new();
        database.execute("INSERT INTO migrations (number, name, checksum) VALUES (999, '0999_later', '')");

        let refusal = refusal(settings(&database)).await;

        assert!(
            refusal.contains("0999_later is newer than this version of countersign; start a newer one"),
            "{refusal}"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn its_schema_is_another_one() {
        let database = Database::new();
        database.execute("UPDATE migrations SET checksum = 'other' WHERE number = 1");

        let refusal = refusal(settings(&database)).await;

        assert!(refusal.contains("differs from this version's"), "{refusal}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn another_program_keeps_tables_there() {
        let database = Database::empty();
        database.execute("CREATE TABLE users (id bigint)");

        let refusal = refusal(settings(&database)).await;

        assert!(refusal.contains("give Countersign a database of its own"), "{refusal}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn its_user_may_not_make_tables() {
        let database = Database::empty();
        let role = format!("guest_{:08x}", rand::random::<u32>());
        database.execute(&format!("CREATE ROLE {role} LOGIN"));
        let url = database.url().replace("countersign@", &format!("{role}@"));

        let refusal = refusal(Data { url: Some(Given::new(&url)), ..Data::default() }).await;

        database.execute(&format!("DROP ROLE {role}"));
        assert!(refusal.contains("make it the owner of the database"), "{refusal}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_goes_away_and_comes_back() {
        let database = Database::new();
        let store = node(&database).await;
        let acme = organisation(&store, "acme").await;
        let ada = Person::create(&store, acme, "ada").await;
        let lock = |how: &str| {
            database.execute(&format!(
                "SET TRANSACTION READ WRITE;
                 DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {how}', current_database()); END $$;
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ));
        };
        lock("on");

        let begun = Instant::now();
        let refused = store.change(acme, ada.id, |user| Ok(user.id)).await;
        let took = begun.elapsed();

        assert!(matches!(refused, Err(Error::Unreachable(_))), "{refused:?}");
        assert!(took < Duration::from_secs(7), "{took:?}");
        lock("off");
        wait_until("it works again", async || store.change(acme, ada.id, |user| Ok(user.id)).await.is_ok())
            .await;
    }
}
