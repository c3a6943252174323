//! The suites on the embedded engine, and what is its own: one writer, batches, a file and a lock.

use super::{Start, suites, tests};
use countersign::{
    error::{Error, Result},
    store::{
        Store,
        conformance::{
            Engine,
            scene::{Person, at_once, attempt, create, hotp_code, named, new_user_id, now, organisation},
            sqlite::OnSqlite,
        },
        sqlite::Sqlite,
    },
};
use countersign_core::{
    ClientId, DeliveryId, Kind, Organisation, OrganisationId, Refusal, User, UserId,
    attempt::Target,
    client::{NewClient, StoredSecret},
    keyring::{KeyId, TAG_BYTES, Tag},
    profile::DisplayName,
};
use rusqlite::{Connection, OptionalExtension};
use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};
use uuid::Uuid;

suites!(Embedded);

/// The embedded engine in a directory that goes with it.
struct Embedded {
    directory: TempDir,
    engine: OnSqlite,
}

impl Embedded {
    async fn with_person() -> (Self, Person) {
        let engine = Self::start().await;
        let acme = organisation(&engine.store(), "acme").await;
        let person = Person::create(&engine.store(), acme, "ada").await;
        (engine, person)
    }

    fn database(&self) -> PathBuf {
        self.engine.database()
    }
}

impl Start for Embedded {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = OnSqlite::open(directory.path()).unwrap();
        Self { directory, engine }
    }
}

impl Engine for Embedded {
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

fn is_in(connection: &Connection, user: UserId) -> bool {
    let id = user.uuid().into_bytes();
    connection.query_row("SELECT 1 FROM users WHERE id = ?1", [id], |_| Ok(())).optional().unwrap().is_some()
}

/// A change that holds the writer until it is let go, so that others gather behind it.
struct Hold {
    release: mpsc::Sender<()>,
    change: JoinHandle<Result<()>>,
}

impl Hold {
    async fn begin(person: &Person) -> Self {
        let (release, gate) = mpsc::channel::<()>();
        let (entered, inside) = oneshot::channel();
        let mut entered = Some(entered);
        let person = person.clone();
        let change = tokio::spawn(async move {
            person
                .store
                .change(person.organisation, person.id, move |_| {
                    if let Some(entered) = entered.take() {
                        entered.send(()).unwrap();
                    }
                    // Also ends when the other side is gone.
                    let _ = gate.recv();
                    Ok(())
                })
                .await
        });
        inside.await.unwrap();
        Self { release, change }
    }

    async fn end(self) {
        self.release.send(()).unwrap();
        self.change.await.unwrap().unwrap();
    }
}

/// Has calls wait for the writer, in this order.
async fn queue<T: Send + 'static>(
    store: &Store,
    call: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let before = store.gauges().waiting;
    let call = tokio::spawn(call);
    while store.gauges().waiting == before {
        sleep(Duration::from_millis(1)).await;
    }
    call
}

fn verify_hotp(person: &Person, counter: u64) -> impl Future<Output = bool> + Send + 'static {
    let (person, attempt) = (person.clone(), attempt(&hotp_code(counter), Target::Factor(person.hotp)));
    async move { person.verify(attempt).await.is_accepted() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_change_harms_no_other_in_its_batch() {
    let (engine, person) = Embedded::with_person().await;
    let hold = Hold::begin(&person).await;

    let before = queue(&engine.store(), verify_hotp(&person, 0)).await;
    let panics = queue(&engine.store(), panic_in_a_change(person.clone())).await;
    let after = queue(&engine.store(), verify_hotp(&person, 1)).await;
    let commits = engine.store().gauges().commits;
    hold.end().await;

    assert!(before.await.unwrap() && after.await.unwrap());
    let panicked = panics.await.unwrap();
    assert!(
        matches!(&panicked, Err(Error::Internal(text)) if text.contains("a rule that fails")),
        "{panicked:?}"
    );
    assert_eq!(engine.store().gauges().commits, commits + 2);
    assert!(verify_hotp(&person, 2).await);
}

async fn panic_in_a_change(person: Person) -> Result<()> {
    let rule = |_: &mut User| -> Result<(), Refusal> { panic!("a rule that fails") };
    person.store.change(person.organisation, person.id, rule).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_fails_midway_harms_no_other_in_its_batch() {
    let (engine, person) = Embedded::with_person().await;
    let other = organisation(&engine.store(), "other").await;
    let client = ClientId::from_uuid(Uuid::from_u128(7));
    add_client(engine.store(), person.organisation, client).await.unwrap();
    let hold = Hold::begin(&person).await;

    let before = queue(&engine.store(), verify_hotp(&person, 0)).await;
    // The document is replaced, then the index of clients refuses.
    let fails = queue(&engine.store(), add_client(engine.store(), other, client)).await;
    let after = queue(&engine.store(), verify_hotp(&person, 1)).await;
    hold.end().await;

    assert!(before.await.unwrap() && after.await.unwrap());
    let failed = fails.await.unwrap();
    assert!(matches!(failed, Err(Error::Conflict("client"))), "{failed:?}");
    let engine = engine.reopen().await;
    let other = engine.store().organisation(other).await.unwrap().unwrap();
    assert!(other.clients.is_empty());
    assert_eq!(other.audit_head.seq, 1);
}

async fn add_client(store: Store, organisation: OrganisationId, client: ClientId) -> Result<()> {
    let tag = Tag { key: KeyId(1), bytes: [0; TAG_BYTES] };
    store
        .change_organisation(organisation, move |organisation| {
            let secret = StoredSecret { tag, created_at: now().now, expires_at: None };
            let name = DisplayName::parse("name", "vpn")?;
            let new = NewClient { name, scopes: Default::default(), secret: Some(secret), keys: Vec::new() };
            organisation.add_client(client, new, &now())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_counts_also_when_its_caller_hangs_up() {
    let (engine, person) = Embedded::with_person().await;
    let hold = Hold::begin(&person).await;

    let wrong = attempt("000000", Target::Factor(person.totp));
    let caller = person.clone();
    let call = queue(&engine.store(), async move { caller.verify(wrong).await }).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    hold.end().await;
    engine.store().ping().await.unwrap();

    assert_eq!(person.document().await.locks.of(Kind::Totp.method()).failures, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_before_it_is_committed() {
    let (engine, person) = Embedded::with_person().await;
    let first = Hold::begin(&person).await;
    let (store, acme, id) = (engine.store(), person.organisation, new_user_id());

    // Both wait, so both run in the next batch, which the second one keeps from its commit.
    let admit = move |acme: &mut Organisation| acme.admit(id, named("grace"), &now());
    let created = queue(&engine.store(), async move { store.create(acme, admit).await }).await;
    let holder = person.clone();
    let second = queue(&engine.store(), async move { Hold::begin(&holder).await }).await;
    first.end().await;
    let second = second.await.unwrap();

    let other_program = engine.engine.look();
    assert!(!created.is_finished() && !is_in(&other_program, id));
    assert_eq!(engine.store().user(acme, id).await.unwrap(), None);
    second.end().await;
    created.await.unwrap().unwrap();
    assert!(is_in(&other_program, id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_can_wait_is_told_so() {
    let (engine, person) = Embedded::with_person().await;
    let hold = Hold::begin(&person).await;

    let calls: Vec<_> = (0..4100)
        .map(|_| {
            let store = engine.store();
            tokio::spawn(async move { store.commit_decoy().await })
        })
        .collect();
    while calls.iter().filter(|call| call.is_finished()).count() < 4 {
        sleep(Duration::from_millis(20)).await;
    }
    hold.end().await;

    let mut busy = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(()) => {}
            Err(Error::Busy) => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(busy, 4);
}

#[tokio::test]
async fn a_directory_has_one_server_at_a_time() {
    let engine = Embedded::start().await;

    let second = refused(engine.directory.path());
    engine.store().close().await;
    let after = Sqlite::open(engine.directory.path());

    assert!(
        second.contains("another countersign server is using it; stop it or choose another --data"),
        "{second}"
    );
    assert!(second.contains(engine.directory.path().to_str().unwrap()), "{second}");
    assert!(after.is_ok());
}

fn refused(directory: &Path) -> String {
    Sqlite::open(directory).map(drop).unwrap_err().to_string()
}

#[tokio::test]
async fn only_the_servers_user_can_read_what_it_stores() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("made/by/open");

    let store = Sqlite::open(&directory).unwrap();
    store.commit_decoy().await.unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in fs::read_dir(&directory).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

/// Closes an engine and edits its database as only another program could.
async fn edited(engine: Embedded, sql: &str) -> TempDir {
    engine.store().close().await;
    Connection::open(engine.database()).unwrap().execute_batch(sql).unwrap();
    engine.directory
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let engine = Embedded::start().await;
    let newer = "INSERT INTO migrations (number, name, checksum) VALUES (9999, '9999_later', zeroblob(32))";

    let error = refused(edited(engine, newer).await.path());

    assert!(error.contains("9999_later is newer than this version"), "{error}");
}

#[tokio::test]
async fn a_migration_that_was_changed_afterwards_is_refused() {
    let engine = Embedded::start().await;

    let error = refused(
        edited(engine, "UPDATE migrations SET checksum = zeroblob(32) WHERE number = 1").await.path(),
    );

    assert!(error.contains("differs from this version's"), "{error}");
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let other = Connection::open(directory.path().join("countersign.db")).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();

    let error = refused(directory.path());

    assert!(error.contains("another program made it"), "{error}");
}

#[tokio::test]
async fn migrating_names_what_it_applied_and_does_so_once() {
    let directory = tempfile::tempdir().unwrap();

    let first = Sqlite::migrate_only(directory.path()).unwrap();
    let again = Sqlite::migrate_only(directory.path()).unwrap();

    assert_eq!(first.first(), Some(&"0001_documents"));
    assert!(again.is_empty());
    assert!(Sqlite::open(directory.path()).is_ok());
}

#[tokio::test]
async fn a_damaged_header_is_found_when_the_store_is_opened() {
    let engine = Embedded::start().await;
    engine.store().close().await;
    overwrite(&engine.database(), 0, 100);

    let error = refused(engine.directory.path());

    assert!(
        error.contains("open database: the file is damaged; stop the server and restore a backup"),
        "{error}"
    );
}

#[tokio::test]
async fn a_damaged_page_is_an_error_and_never_somebody_who_is_not_there() {
    let (engine, person) = Embedded::with_person().await;
    engine.store().close().await;
    let pages = fs::metadata(engine.database()).unwrap().len() / 4096;
    overwrite(&engine.database(), 4096, (pages - 1) * 4096);

    let outcome = match Sqlite::open(engine.directory.path()) {
        Ok(store) => store.user(person.organisation, person.id).await.map(drop),
        Err(error) => Err(error),
    };

    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

fn overwrite(path: &Path, from: u64, bytes: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xa5; usize::try_from(bytes).unwrap()], from).unwrap();
}

#[tokio::test]
async fn a_place_that_cannot_hold_a_database_is_named_with_the_reason() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("a file");
    fs::write(&file, "").unwrap();

    let error = refused(&file);

    assert!(error.starts_with(&format!("open data directory {}: ", file.display())), "{error}");
    // No permission reaches here, not even the superuser's.
    let error = refused(Path::new("/proc"));
    assert!(error.starts_with("open data directory /proc: "), "{error}");
}

#[test]
fn a_file_that_cannot_grow_fails_what_needs_room_and_loses_nothing() {
    // The limit holds for a whole process, so the test runs in one of its own.
    let directory = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let limited = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" --exact \"$1\" --ignored --nocapture";

    let outcome = Command::new("sh")
        .args(["-c", limited, this.to_str().unwrap(), "store::sqlite::fills_its_files"])
        .env("COUNTERSIGN_TEST_DIRECTORY", directory.path())
        .output()
        .unwrap();

    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("1 passed"));
}

#[tokio::test]
#[ignore = "runs where files cannot grow"]
async fn fills_its_files() {
    let directory = PathBuf::from(std::env::var_os("COUNTERSIGN_TEST_DIRECTORY").unwrap());
    let store = Store::Sqlite(Sqlite::open(&directory).unwrap());
    let acme = organisation(&store, "acme").await;
    let mut answered = Vec::new();

    let failed = loop {
        match create(&store, acme, named(&format!("user {}", answered.len()))).await {
            Ok(user) => answered.push(user),
            Err(error) => break error.to_string(),
        }
    };

    assert!(failed.starts_with("commit: the disk reported an error; check it, its quota"), "{failed}");
    // What the log held is in the database now, so there is room again.
    answered.push(create(&store, acme, named("one more")).await.unwrap());
    store.close().await;
    let store = Store::Sqlite(Sqlite::open(&directory).unwrap());
    for user in answered {
        assert_eq!(store.user(acme, user.id).await.unwrap(), Some(user));
    }
}

#[tokio::test]
async fn the_log_does_not_grow_without_end() {
    let (engine, person) = Embedded::with_person().await;
    let acme = person.organisation;
    let log = engine.directory.path().join("countersign.db-wal");

    for round in 0..160 {
        at_once(100, |number| {
            let store = engine.store();
            async move { create(&store, acme, named(&format!("user {round} {number}"))).await.map(drop).unwrap() }
        })
        .await;
    }

    // It is begun anew beyond 16,000 pages of 4 KiB. If it never were, it would hold each page each time it was written: some
    // hundred and twenty megabytes.
    assert!(fs::metadata(&log).unwrap().len() < 72 << 20, "{}", fs::metadata(&log).unwrap().len());
    let gauges = engine.store().gauges();
    assert!(gauges.wal_bytes > 0 && gauges.wal_bytes <= fs::metadata(&log).unwrap().len());
    engine.store().close().await;
    assert!(!log.exists());
}
