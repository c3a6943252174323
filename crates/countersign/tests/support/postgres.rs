//! A PostgreSQL for the tests, with a pool of transactions in front of it, and databases in it.
//!
//! `scripts/test` starts one server for the whole run and names it in the environment. Without it, each test process
//! starts one, which goes away with the process, however that ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use countersign::{
    config::{Data, secret::Given},
    store::postgres::Postgres,
};
use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
};
use tokio_postgres::{Client, NoTls};

/// Names the server that is there already: the lines `direct=…` and `pooled=…` of `scripts/throwaway-postgres`.
const VARIABLE: &str = "COUNTERSIGN_TEST_POSTGRES";

/// The database that others are copies of.
const TEMPLATE: &str = "countersign_template";
/// What those who make the template hold meanwhile.
const TEMPLATE_LOCK: i64 = 0x4353_474e;

/// Where the server is.
struct Server {
    /// Its own address, up to the name of a database.
    direct: String,
    /// The address of the pool.
    pooled: String,
    /// Ends when nobody holds its standard input any more.
    _process: Option<Child>,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(lines) => Server::named(&lines, None),
        Err(_) => Server::start(),
    })
}

impl Server {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/throwaway-postgres");
        let mut process = Command::new(&script)
            .args(["--in-memory", "--pgbouncer"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Whoever kills a test with all its processes leaves this one to clear away the server.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", script.display()));
        let mut lines = Vec::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            match line.unwrap() {
                line if line == "ready" => return Self::named(&lines.join("\n"), Some(process)),
                line => lines.push(line),
            }
        }
        let mut said = String::new();
        process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        panic!("{said}");
    }

    fn named(lines: &str, process: Option<Child>) -> Self {
        let address = |name: &str| {
            let value = lines.split_whitespace().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let url = value.unwrap_or_else(|| panic!("no PostgreSQL: {name}= is not in {lines:?}"));
            url.rsplit_once('/').unwrap().0.to_owned()
        };
        Self { direct: address("direct"), pooled: address("pooled"), _process: process }
    }
}

/// A database of this version's schema, which is dropped with this value.
pub(crate) struct Database {
    name: String,
}

impl Database {
    /// Makes one with all tables, and nothing in them.
    pub(crate) fn new() -> Self {
        let database = Self::reserve();
        on_a_thread(async || {
            let client = connect("countersign").await;
            make_template(&client).await;
            database.create(&client, &format!("TEMPLATE {TEMPLATE}")).await;
        });
        database
    }

    /// Makes one without any table.
    pub(crate) fn empty() -> Self {
        let database = Self::reserve();
        on_a_thread(async || database.create(&connect("countersign").await, "").await);
        database
    }

    fn reserve() -> Self {
        Self { name: format!("test_{:016x}", rand::random::<u64>()) }
    }

    async fn create(&self, client: &Client, how: &str) {
        client.batch_execute(&format!("CREATE DATABASE {} {how}", self.name)).await.unwrap();
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        format!("{}/{}", server().direct, self.name)
    }

    /// Returns its URL behind the pool, where a connection is ours for one transaction at a time.
    pub(crate) fn pooled_url(&self) -> String {
        format!("{}/{}", server().pooled, self.name)
    }

    /// Runs SQL in it, behind the store's back.
    pub(crate) fn execute(&self, sql: &str) {
        on_a_thread(async || connect(&self.name).await.batch_execute(sql).await.unwrap());
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Also connections that were not closed: a test that failed leaves some.
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        on_a_thread(async || connect("countersign").await.batch_execute(&sql).await.unwrap());
    }
}

/// Makes the database that others are copies of, unless it is there.
async fn make_template(client: &Client) {
    // For as long as this connection; other processes make databases too.
    client.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
    let found = client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&TEMPLATE]).await.unwrap();
    if found.is_none() {
        let draft = Database { name: format!("{TEMPLATE}_draft") };
        let drop_draft = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", draft.name);
        client.batch_execute(&drop_draft).await.unwrap();
        draft.create(client, "").await;
        let settings = Data { url: Some(Given::new(&draft.url())), ..Data::default() };
        Postgres::migrate_only(&settings).await.unwrap();
        let rename = format!("ALTER DATABASE {} RENAME TO {TEMPLATE}", draft.name);
        client.batch_execute(&rename).await.unwrap();
        std::mem::forget(draft);
    }
    client.execute("SELECT pg_advisory_unlock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
}

async fn connect(database: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&format!("{}/{database}", server().direct), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs something to its end on a thread of its own, from tests that are asynchronous and from those that are not.
fn on_a_thread(work: impl AsyncFnOnce() + Send) {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work());
    };
    thread::scope(|scope| scope.spawn(run).join().unwrap());
}
