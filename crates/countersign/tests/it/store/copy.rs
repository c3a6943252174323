//! Moving an installation to another database: what is there afterwards, what is refused, and what a cut does.

use crate::{
    postgres::Database,
    test_app::{Otp, PASSWORD, TestApp, config},
};
use countersign::{
    app::App,
    clock::Clock,
    config::{Config, Data, secret::Given},
    http::{Web, router},
    service::{audit, retention},
    store::{
        AuditFilter, AuditRow, Checkpoint, ClaimedHead, Delivery, DeliveryFilter, Numbered, Settlement,
        SortKey, Sorting, Store, UserFilter,
        conformance::scene::{self, Person, at, named, second},
        copy::{Phase, Report, copy},
    },
};
use countersign_core::{
    Action, Channel, Handle, Method, Organisation, OrganisationId, Role, Timestamp, User, UserId,
    event::Event, profile::Email, user::Status,
};
use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rusqlite::Connection;
use serde_json::json;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(60);
/// A token that was revoked.
const REVOKED: Uuid = Uuid::from_u128(0xdead);

/// Where an installation is, with the key and the accounts it began with.
struct Place {
    /// The data directory; where the database is elsewhere, the key alone is there.
    directory: TempDir,
    database: Option<Database>,
    /// Whether the database is reached through a pool of transactions.
    is_pooled: bool,
}

impl Place {
    fn directory() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    fn server() -> Self {
        Self { database: Some(Database::empty()), ..Self::directory() }
    }

    fn behind_pool() -> Self {
        Self { is_pooled: true, ..Self::server() }
    }

    fn of(directory: TempDir) -> Self {
        Self { directory, database: None, is_pooled: false }
    }

    /// As the command line has it.
    fn data(&self) -> Data {
        self.config().store
    }

    fn config(&self) -> Config {
        let mut config = config(self.directory.path());
        if let Some(database) = &self.database {
            let url = if self.is_pooled { database.pooled_url() } else { database.url() };
            config.store.url = Some(Given::new(&url));
            config.store.connections = 8;
        }
        config
    }

    /// Gives it the key of another place.
    fn with_key_of(self, other: &Self) -> Self {
        std::fs::copy(other.key(), self.key()).unwrap();
        self
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("master.key")
    }

    fn file(&self) -> Connection {
        Connection::open(self.directory.path().join("countersign.db")).unwrap()
    }

    async fn store(&self) -> Store {
        Store::open(&self.data()).await.unwrap()
    }

    async fn refusal(&self) -> String {
        Store::open(&self.data()).await.err().unwrap().to_string()
    }

    /// Serves from it.
    async fn open(&self, clock: &Clock, accounts: &Accounts) -> TestApp {
        let app = Arc::new(App::open(self.config(), clock.clone()).await.unwrap());
        let router = router(Web::new(Arc::clone(&app)).unwrap());
        let mut served = TestApp::around(app, router, clock.clone());
        served.organisation = accounts.organisation;
        served.client_id.clone_from(&accounts.client_id);
        served.client_secret.clone_from(&accounts.client_secret);
        served
    }
}

/// What an installation was given in the beginning.
#[derive(Clone)]
struct Accounts {
    organisation: OrganisationId,
    client_id: String,
    client_secret: String,
}

/// An installation with rows of every kind, whose servers are stopped.
struct Estate {
    place: Place,
    clock: Clock,
    accounts: Accounts,
    /// Somebody with an app, and the code of it that was used.
    alice: (String, String, Otp),
}

impl Estate {
    #[expect(clippy::print_stderr, reason = "who sees the test fail can have the same estate again")]
    async fn new() -> Self {
        let seed = rand::random();
        eprintln!("an estate of seed {seed}");
        Self::grown(&mut StdRng::seed_from_u64(seed)).await
    }

    async fn grown(dice: &mut StdRng) -> Self {
        let app = TestApp::start().await;
        app.policy(json!({ "resend": { "pauseSeconds": 0, "perHour": 20 } })).await;
        let alice = app.user("alice").with_totp().with_password().await;
        alice.sign_in(PASSWORD).await.expect(400);
        let code = alice.code();
        assert!(alice.verify(&code).await.accepted());
        let bob = app.user("bob").with_totp().await;
        bob.lock().await;
        send(&app, &bob.path("")).await;
        assert!(audit::checkpoint(&app.app).await.unwrap());

        let acme = scene::organisation(&app.app.store, "acme").await;
        app.client(&["verify"]).await;
        for organisation in [app.organisation, acme] {
            populate(&app.app.store, organisation, dice).await;
        }
        deliver(&app.app.store, acme).await;
        app.app.store.revoke_token(REVOKED, Timestamp::from_seconds(4_000_000_000)).await.unwrap();
        assert!(audit::checkpoint(&app.app).await.unwrap());
        app.post(&bob.path("/unlock"))
            .by(&app.root())
            .json(json!({ "methods": ["TOKEN"] }))
            .await
            .expect_ok();

        let accounts = Accounts {
            organisation: app.organisation,
            client_id: app.client_id.clone(),
            client_secret: app.client_secret.clone(),
        };
        let alice = (alice.id.clone(), code, Otp::from_base32(alice.seed()));
        let clock = app.clock.clone();
        let place = Place::of(app.close().await);
        Self { place, clock, accounts, alice }
    }

    /// Has Alice's code checked.
    async fn verify(&self, app: &TestApp, code: &str) -> String {
        let body = json!({ "user": self.alice.0, "code": code });
        app.post("/v1/verify").by(&app.root()).json(body).await.expect_ok().text("result")
    }

    async fn open(&self, place: &Place) -> TestApp {
        place.open(&self.clock, &self.accounts).await
    }
}

/// Sends somebody codes, the second in place of the first.
async fn send(app: &TestApp, person: &str) {
    let factor = json!({ "type": "sms", "destination": app.fresh_number(), "confirmed": true });
    app.post(&format!("{person}/factors")).by(&app.root()).json(factor).await.expect_created();
    let ask = app.post(&format!("{person}/challenges")).by(&app.root()).json(json!({ "type": "sms" }));
    let challenge = ask.await.expect_created().text("id");
    app.post(&format!("{person}/challenges/{challenge}/resend")).by(&app.root()).await.expect_ok();
}

/// Fills an organisation with people: with every factor, with an address, switched off, removed.
async fn populate(store: &Store, organisation: OrganisationId, dice: &mut StdRng) {
    for number in 0..dice.random_range(5..20) {
        let name = format!("person-{number}");
        let id = if dice.random() {
            let person = Person::create(store, organisation, &name).await;
            for _ in 0..dice.random_range(0..4) {
                let code = if dice.random() { scene::totp_code(&at(0)) } else { "000000".into() };
                let target = countersign_core::Target::Kind(countersign_core::Kind::Totp);
                person.verify(scene::attempt(&code, target)).await;
            }
            person.id
        } else {
            let new = scene::with_email(&name, &format!("{name}@Example.com"));
            scene::create(store, organisation, new).await.unwrap().id
        };
        if dice.random_range(0..4) == 0 {
            let dismiss = |organisation: &mut Organisation, user: &User| organisation.dismiss(user, &at(9));
            store.remove(organisation, id, dismiss).await.unwrap();
        }
    }
    // The newest one is somebody who was never anything but created and removed.
    let gone = scene::create(store, organisation, named("gone")).await.unwrap();
    store.remove(organisation, gone.id, |from, user| from.dismiss(user, &at(9))).await.unwrap();
}

/// Leaves messages in each state, some of them being sent.
async fn deliver(store: &Store, organisation: OrganisationId) {
    let settlements = [
        Settlement::Sent { provider: "relay".into(), reference: Some("r-1".into()) },
        Settlement::Failed { reason: "no such mailbox".into() },
        Settlement::Retry { at: second(90), reason: "greylisted".into() },
        Settlement::Interrupted,
    ];
    for (number, settlement) in settlements.into_iter().enumerate() {
        scene::post(store, organisation, number, at(0)).await.unwrap();
        let claimed = store.claim(Channel::Mail, second(1), LEASE, 1).await.unwrap();
        assert!(store.settle(&claimed[0], settlement, second(100)).await.unwrap());
    }
    assert!(store.report("relay".into(), "r-1".into(), "delivered".into()).await.unwrap());
    for number in 4..8 {
        scene::post(store, organisation, number, at(50)).await.unwrap();
    }
    assert_eq!(store.claim(Channel::Mail, second(60), LEASE, 2).await.unwrap().len(), 2);
}

/// All that can be asked of a store.
#[derive(Debug, PartialEq)]
struct Portrait {
    organisations: Vec<Organisation>,
    people: Vec<(UserFilter, Vec<User>)>,
    sorted: Vec<(Vec<User>, u64)>,
    found: Vec<Option<UserId>>,
    rows: Vec<AuditRow>,
    heads: Vec<ClaimedHead>,
    trails: Vec<Vec<Event>>,
    spans: Vec<(Vec<Numbered>, u64)>,
    checkpoints: Vec<Checkpoint>,
    messages: Vec<Vec<Delivery>>,
    keys: Option<Vec<u8>>,
    is_revoked: bool,
}

/// Walks through a list to its end.
macro_rules! walk {
    ($after:ident => $page:expr) => {{
        let (mut items, mut next) = (Vec::new(), None::<String>);
        loop {
            let $after = next.as_deref();
            let page = $page.await.unwrap();
            items.extend(page.items);
            next = page.next;
            if next.is_none() {
                break items;
            }
        }
    }};
}

impl Portrait {
    async fn of(place: &Place) -> Self {
        let store = place.store().await;
        // As the next start of a server does.
        store.release_claims().await.unwrap();
        let portrait = Self::drawn(&store).await;
        store.close().await;
        portrait
    }

    async fn drawn(store: &Store) -> Self {
        let organisations: Vec<_> = walk!(after => store.organisations(after, 1));
        let ids: Vec<_> = organisations.iter().map(|organisation| organisation.id).collect();
        let rows = store.audit_rows(0, 100_000).await.unwrap();
        let (mut people, mut found, mut trails, mut messages) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut sorted, mut spans) = (Vec::new(), Vec::new());
        for id in &ids {
            for filter in filters() {
                let listed: Vec<User> = walk!(after => store.users(*id, &filter, after, 3));
                for user in &listed {
                    for handle in handles(user) {
                        found.push(store.find(*id, &handle).await.unwrap());
                    }
                }
                people.push((filter, listed));
            }
            for by in [SortKey::Number, SortKey::Email] {
                let sorting = Sorting { by, descending: true };
                sorted.push(store.people_sorted(*id, &UserFilter::All, sorting, 1, 50).await.unwrap());
            }
            let span = Default::default();
            spans.push(store.audit_span(*id, &span, 0, 1000).await.unwrap());
            for filter in trail_filters(&rows, &ids) {
                trails.push(walk!(after => store.audit(*id, &filter, after, 7)));
            }
            for filter in [DeliveryFilter::All, DeliveryFilter::Channel(Channel::Sms)] {
                messages.push(walk!(after => store.deliveries(*id, &filter, after, 2)));
            }
        }
        sorted.push(store.owners(&UserFilter::All, None, 0, 10).await.unwrap());
        Self {
            organisations: organisations.iter().map(|organisation| (**organisation).clone()).collect(),
            people,
            sorted,
            found,
            rows,
            heads: walk!(after => store.claimed_heads(after, 5)),
            trails,
            spans,
            checkpoints: store.checkpoints(0, 100).await.unwrap(),
            messages,
            keys: store.meta("keys").await.unwrap(),
            is_revoked: store.is_revoked(REVOKED),
        }
    }

    /// Fails with the first thing that is not the same. All of it at once nobody reads.
    #[track_caller]
    fn expect(&self, other: &Self) {
        let (ours, theirs) = (format!("{self:#?}"), format!("{other:#?}"));
        let pairs = ours.lines().zip(theirs.lines()).enumerate();
        let different = pairs.into_iter().find(|(_, (ours, theirs))| ours != theirs);
        if let Some((line, (ours_line, theirs_line))) = different {
            let before: Vec<_> = ours.lines().take(line).collect();
            let before = before[before.len().saturating_sub(30)..].join("\n");
            panic!("after\n{before}\nthere is\n{ours_line}\nand not\n{theirs_line}");
        }
        assert!(self == other);
    }

    fn newest_row(&self) -> i64 {
        self.rows.last().unwrap().row
    }
}

fn filters() -> Vec<UserFilter> {
    vec![
        UserFilter::All,
        UserFilter::UsernamePrefix("person-1".into()),
        UserFilter::Status(Status::Active),
        UserFilter::MfaEnabled(true),
        UserFilter::MfaEnabled(false),
        UserFilter::Role(Role::Owner),
        UserFilter::Locked(Method::Token),
        UserFilter::EmailContains("3@example".into()),
    ]
}

fn handles(user: &User) -> Vec<Handle> {
    let mut handles =
        vec![Handle::Id(user.id), Handle::Number(user.number), Handle::Username(user.username.key())];
    handles.extend(user.email.as_ref().map(Email::key).map(Handle::Email));
    handles
}

/// Everything, by action, and each person's chain, also of those who are gone.
fn trail_filters(rows: &[AuditRow], organisations: &[OrganisationId]) -> Vec<AuditFilter> {
    let is_person =
        |subject: &Uuid| !organisations.iter().any(|organisation| organisation.uuid() == *subject);
    let people: BTreeSet<_> = rows.iter().map(|row| row.subject).filter(is_person).collect();
    let chains = people
        .into_iter()
        .map(|id| AuditFilter { user: Some(UserId::from_uuid(id)), ..AuditFilter::default() });
    let by_action = AuditFilter { action: Some(Action::UserCreated), ..AuditFilter::default() };
    chains.chain([AuditFilter::default(), by_action]).collect()
}

async fn copied(from: &Place, to: &Place) -> Report {
    let report = copy(&from.data(), &to.data(), |_| {}).await.unwrap();
    assert_eq!(report.finding, None);
    report
}

async fn refused(from: &Place, to: &Place) -> String {
    copy(&from.data(), &to.data(), |_| {}).await.unwrap_err().to_string()
}

/// Copies until it has told of so many steps, and drops everything in the middle of the next.
async fn cut(from: &Place, to: &Place, steps: usize) {
    let enough = Notify::new();
    let mut told = 0;
    let copying = async {
        let (from, to) = (from.data(), to.data());
        copy(&from, &to, |_| {
            told += 1;
            if told == steps {
                enough.notify_one();
            }
        })
        .await
    };
    tokio::select! {
        biased;
        () = enough.notified() => {}
        outcome = copying => panic!("it ended before it was cut: {outcome:?}"),
    }
    until_free(from).await;
    until_free(to).await;
}

/// Waits until what was dropped has let go of a directory.
async fn until_free(place: &Place) {
    if place.database.is_some() {
        return;
    }
    let lock = std::fs::File::open(place.directory.path().join("countersign.lock"));
    while lock.as_ref().is_ok_and(|lock| lock.try_lock().is_err()) {
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_moves_to_postgresql_and_back() {
    let estate = Estate::new().await;
    let server = Place::server().with_key_of(&estate.place);

    let report = copied(&estate.place, &server).await;

    let before = Portrait::of(&estate.place).await;
    Portrait::of(&server).await.expect(&before);
    assert_eq!(report.heads, before.heads.len() as u64);
    assert_eq!(report.newest_event, Some(before.newest_row()));
    assert_eq!((report.last_checkpoint, report.interrupted), (Some(2), 2));

    let app = estate.open(&server).await;
    assert_eq!(estate.verify(&app, &estate.alice.1).await, "replayed");
    app.advance(60);
    let newer = estate.alice.2.code(app.now());
    assert_eq!(estate.verify(&app, &newer).await, "accepted");
    let bob = app.user("bob-the-second").with_totp().await;
    assert!(bob.verify(bob.code()).await.accepted());
    assert!(audit::checkpoint(&app.app).await.unwrap());
    holds(&app, 3).await;
    drop(bob);
    app.app.store.close().await;
    let meanwhile = Portrait::of(&server).await;
    assert!(meanwhile.rows.starts_with(&before.rows), "what is new comes after all that was copied");

    let back = Place::directory().with_key_of(&estate.place);
    copied(&server, &back).await;

    Portrait::of(&back).await.expect(&meanwhile);
    let app = estate.open(&back).await;
    assert_eq!(estate.verify(&app, &newer).await, "replayed");
    app.advance(60);
    assert_eq!(estate.verify(&app, &estate.alice.2.code(app.now())).await, "accepted");
    holds(&app, 3).await;
    app.app.store.close().await;
    let after = Portrait::of(&back).await;
    assert!(after.rows.starts_with(&meanwhile.rows) && after.newest_row() > meanwhile.newest_row());
}

async fn holds(app: &TestApp, checkpoints: u64) {
    let report = audit::verify(&app.app.store, &app.app.keys, &[]).await.unwrap();
    assert!(report.holds() && report.checkpoints == checkpoints, "{report:?}");
}

/// Archives and prunes all it can; the proof holds then, with the archive and without.
async fn prune(app: &TestApp, archive: &Path) -> u64 {
    let (app, before) = (&app.app, Timestamp::from_seconds(4_000_000_000));
    let pruned = retention::prune(&app.store, &app.keys, &app.clock, archive, before, |_| {}).await.unwrap();
    prove(app, archive).await;
    pruned
}

async fn prove(app: &App, archive: &Path) {
    for archives in [&[][..], &[archive.to_owned()]] {
        let report = audit::verify(&app.store, &app.keys, archives).await.unwrap();
        assert!(report.holds() && report.pruned > 0, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruned_trail_goes_along_and_is_pruned_on() {
    let estate = Estate::new().await;
    let (archive, server) = (tempfile::tempdir().unwrap(), Place::server().with_key_of(&estate.place));
    // Up to the first checkpoint only, so that chains are cut in their middle.
    estate.place.file().execute("DELETE FROM checkpoints WHERE seq > 1", []).unwrap();
    let app = estate.open(&estate.place).await;
    assert!(prune(&app, archive.path()).await > 0);
    app.app.store.close().await;
    let before = Portrait::of(&estate.place).await;

    copied(&estate.place, &server).await;

    Portrait::of(&server).await.expect(&before);
    let directory = Place::directory().with_key_of(&estate.place);
    copied(&server, &directory).await;
    Portrait::of(&directory).await.expect(&before);
    for place in [&server, &directory] {
        let app = estate.open(place).await;
        prove(&app.app, archive.path()).await;
        app.app.store.close().await;
    }

    let app = estate.open(&server).await;
    assert!(audit::checkpoint(&app.app).await.unwrap());
    assert!(prune(&app, archive.path()).await > 0);
    assert_eq!(app.app.store.audit_rows(0, 10).await.unwrap().len(), 1, "the newest");
    let carol = app.user("carol").with_totp().await;
    assert!(carol.verify(carol.code()).await.accepted());
    prove(&app.app, archive.path()).await;
    drop(carol);
    app.app.store.close().await;

    let back = Place::directory().with_key_of(&estate.place);
    copied(&server, &back).await;
    let app = estate.open(&back).await;
    prove(&app.app, archive.path()).await;
    assert!(audit::checkpoint(&app.app).await.unwrap());
    assert!(prune(&app, archive.path()).await > 0);
    app.app.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_between_two_of_a_kind_is_a_copy_too() {
    let estate = Estate::new().await;
    let (directory, server, other) = (Place::directory(), Place::server(), Place::behind_pool());

    copied(&estate.place, &directory).await;
    copied(&directory, &server).await;
    copied(&server, &other).await;

    let before = Portrait::of(&estate.place).await;
    for place in [directory, server, other] {
        Portrait::of(&place).await.expect(&before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_cut_short_goes_on_where_it_stopped() {
    let estate = Estate::new().await;
    let server = Place::server();
    copied(&estate.place, &server).await;
    let targets = [(&estate.place, Place::server()), (&server, Place::directory())];

    for (from, to) in &targets {
        let mut written = 0;
        for steps in [1, 2, 3, 1, 12, 3] {
            cut(from, to, steps).await;
            assert!(to.refusal().await.contains("it is a copy that is not finished"));
        }

        let report = copy(&from.data(), &to.data(), |progress| {
            if progress.phase == Phase::Copying {
                written = progress.done;
            }
        })
        .await
        .unwrap();

        assert!(report.is_resumed && report.finding.is_none(), "{report:?}");
        assert_eq!((report.written, written), (0, 0), "all rows were there when it was cut the last time");
        assert_eq!(report.interrupted, if from.database.is_none() { 2 } else { 0 });
    }

    let before = Portrait::of(&estate.place).await;
    for (_, to) in &targets {
        Portrait::of(to).await.expect(&before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_may_be_killed_at_any_moment() {
    let estate = Estate::new().await;
    let server = Place::server();
    copied(&estate.place, &server).await;
    let before = Portrait::of(&estate.place).await;

    for (from, to) in [(&estate.place, Place::server()), (&server, Place::directory())] {
        let mut patience = 2;
        let report = loop {
            let limit = Duration::from_millis(rand::rng().random_range(0..patience));
            if let Ok(outcome) = timeout(limit, copy(&from.data(), &to.data(), |_| {})).await {
                break outcome.unwrap();
            }
            patience += 4;
            until_free(from).await;
            until_free(&to).await;
        };

        assert_eq!(report.finding, None);
        Portrait::of(&to).await.expect(&before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_not_the_end() {
    const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let estate = Estate::new().await;
    let (server, other) = (Place::server(), Place::server());

    for (from, to) in [(&estate.place, &server), (&server, &other)] {
        let ends = [from, to].into_iter().filter_map(|place| place.database.as_ref());
        let cut = |_| ends.clone().for_each(|database| database.execute(CUT));
        let report = copy(&from.data(), &to.data(), cut).await.unwrap();
        assert_eq!((report.finding, report.is_resumed), (None, false));
    }

    Portrait::of(&other).await.expect(&Portrait::of(&estate.place).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn copies_at_the_same_time_make_one_copy() {
    let estate = Estate::new().await;
    let (server, target) = (Place::server(), Place::server());
    copied(&estate.place, &server).await;
    let (from, to) = (server.data(), target.data());

    let outcomes = join_all((0..4).map(|_| copy(&from, &to, |_| {}))).await;

    let is_well = |outcome: &countersign::error::Result<Report>| {
        outcome.as_ref().is_ok_and(|report| report.finding.is_none())
    };
    assert!(outcomes.iter().any(is_well), "{outcomes:?}");
    for outcome in outcomes.iter().filter(|outcome| !is_well(outcome)) {
        let refusal = outcome.as_ref().map(|_| ()).unwrap_err().to_string();
        assert!(refusal.contains("another countersign store copy is at work"), "{refusal}");
    }
    Portrait::of(&target).await.expect(&Portrait::of(&estate.place).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_again_proves_the_copy_again() {
    let estate = Estate::new().await;
    let server = Place::server();
    let first = copied(&estate.place, &server).await;

    let again = copied(&estate.place, &server).await;

    assert_eq!((again.written, again.is_resumed), (0, true));
    assert_eq!((again.heads, again.rows), (first.heads, first.rows));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_holds_anything_else_is_refused_and_left_alone() {
    let (estate, other) = (Estate::new().await, Estate::new().await);
    let taken = [Place::server(), Place::directory()];
    for target in &taken {
        copied(&other.place, target).await;
        let before = Portrait::of(target).await;

        assert!(refused(&estate.place, target).await.contains("the target is not empty"));

        Portrait::of(target).await.expect(&before);
    }

    let unfinished = Place::server();
    cut(&other.place, &unfinished, 2).await;
    assert!(refused(&estate.place, &unfinished).await.contains("unfinished copy of another installation"));
    assert!(
        refused(&unfinished, &Place::directory()).await.contains("the source is an unfinished copy itself")
    );
    copied(&other.place, &unfinished).await;

    let same = refused(&estate.place, &estate.place).await;
    assert!(same.contains("both ends are the same"), "{same}");
    // One value is enough: it may be the keys of a server that has just started there.
    let begun = Place::server();
    begun.store().await.close().await;
    begun.database.as_ref().unwrap().execute("INSERT INTO meta (name, value) VALUES ('keys', '')");
    assert!(refused(&estate.place, &begun).await.contains("the target is not empty"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_was_used_since_is_noticed() {
    let estate = Estate::new().await;
    let (server, target) = (Place::server().with_key_of(&estate.place), Place::server());
    copied(&estate.place, &server).await;
    cut(&server, &target, 3).await;

    let app = estate.open(&server).await;
    app.advance(60);
    assert_eq!(estate.verify(&app, "000000").await, "rejected");
    app.app.store.close().await;

    assert!(refused(&server, &target).await.contains("the source was used since this copy was begun"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_end_may_be_served_meanwhile() {
    let estate = Estate::new().await;
    let (server, other) = (Place::server(), Place::server());

    let store = estate.place.store().await;
    assert!(refused(&estate.place, &server).await.contains("another countersign server is using it"));
    store.close().await;
    let store = server.store().await;
    let used = refused(&estate.place, &server).await;
    assert!(used.contains("1 of its servers were seen on the target"), "{used}");
    store.close().await;

    copied(&estate.place, &server).await;
    let store = server.store().await;
    assert!(refused(&server, &other).await.contains("seen on the source within the last minute"));
    store.close().await;
    copied(&server, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_not_the_same_is_found_and_nobody_serves_it() {
    let estate = Estate::new().await;
    let target = Place::server();
    cut(&estate.place, &target, 15).await;
    target.database.as_ref().unwrap().execute("UPDATE users SET version = version + 1 WHERE number = 1001");

    let report = copy(&estate.place.data(), &target.data(), |_| {}).await.unwrap();

    let finding = report.finding.unwrap_or_default();
    assert!(finding.starts_with("people: rows 1 to "), "{finding}");
    assert!(target.refusal().await.contains("not finished"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_would_put_new_events_before_old_ones_is_refused() {
    let estate = Estate::new().await;
    let tomorrow = rand::rng().random_range(1_i64 << 51..1 << 52);
    estate
        .place
        .file()
        .execute("UPDATE audit SET row = ?1 WHERE row = (SELECT max(row) FROM audit)", [tomorrow])
        .unwrap();

    let refusal = refused(&estate.place, &Place::server()).await;

    assert!(
        refusal.contains("the target's clock shows 20") && refusal.contains("set the clock"),
        "{refusal}"
    );
}

#[tokio::test]
async fn where_nothing_is_nothing_is_copied() {
    let (nothing, target) = (Place::directory(), Place::directory());

    let refusal = refused(&nothing, &target).await;

    assert!(refusal.contains("there is no installation in the source"), "{refusal}");
    assert!(!target.directory.path().join("countersign.db").exists());
}
