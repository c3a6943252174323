//! Loads people without HTTP: the same use cases on the same data directory, in this process, with many at work at once.
//!
//! What comes of it is what comes of the API: a test loads people both ways and compares. The server must not run meanwhile,
//! which the lock on its directory sees to.

use crate::{
    client::Credentials,
    estate::{Estate, Making, secret, username},
};
use anyhow::{Context, Result};
use countersign::{
    app::{App, Asker},
    clock::Clock,
    config::Config,
    service::{
        audit, clients,
        factors::{self, Import},
        users,
    },
};
use countersign_core::{
    Call, Client, Handle, Kind, Organisation, event::Actor, profile::Username, user::NewUser,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    ops::Range,
    path::Path,
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// How many people are made at the same time: as many changes as the server puts into one commit at most.
const MAKERS: usize = 512;

/// Loads people into the data directory of a server that does not run; returns them with the time it took.
pub(crate) async fn load(
    data: &Path,
    credentials: &Credentials,
    numbers: Range<u64>,
) -> Result<(Estate, Duration)> {
    load_by(data, credentials, numbers, MAKERS).await
}

async fn load_by(
    data: &Path,
    credentials: &Credentials,
    numbers: Range<u64>,
    makers: usize,
) -> Result<(Estate, Duration)> {
    let mut config = Config::default();
    config.store.directory = data.to_owned();
    let app = Arc::new(App::open(config, Clock::System).await.context("open the data directory")?);
    let maker = Arc::new(Maker::known_by(app, credentials).await?);

    let making = Making::of(numbers);
    let lanes: Vec<_> =
        (0..makers).map(|_| tokio::spawn(make(Arc::clone(&maker), Arc::clone(&making)))).collect();
    let mut made = Vec::new();
    for lane in lanes {
        made.push(lane.await??);
    }
    let estate = making.estate(made)?;

    // As a server does that stops.
    audit::checkpoint(&maker.app).await?;
    maker.app.store.close().await;
    Ok(estate)
}

/// Who makes people: the client whose credentials the API is called with.
struct Maker {
    app: Arc<App>,
    organisation: Arc<Organisation>,
    client: Client,
}

impl Maker {
    async fn known_by(app: Arc<App>, credentials: &Credentials) -> Result<Self> {
        let id = credentials.id.parse().context("read the client's id")?;
        let organisation = clients::authenticate(&app, id, &credentials.secret, app.clock.now()).await?;
        let organisation = organisation.context("the client is not known in the data directory")?;
        let client = organisation.client(id).context("the client is not known to its organisation")?.clone();
        Ok(Self { app, organisation, client })
    }

    /// Returns what a request over a loopback address would ask with.
    fn asker(&self) -> Asker {
        let call = Call {
            now: self.app.clock.now(),
            actor: Actor::Client(self.client.id),
            rank: self.client.rank(),
            ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            request_id: uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple().to_string(),
        };
        Asker { organisation: Arc::clone(&self.organisation), call }
    }

    async fn make(&self, number: u64) -> Result<Uuid> {
        let new = NewUser::named(Username::parse("username", &username(number))?);
        let id = users::create(&self.app, &self.asker(), new).await?.id;
        let token = Import {
            kind: Kind::Hotp,
            label: None,
            secret: secret(number),
            algorithm: None,
            digits: None,
            period: None,
            counter: Some(0),
        };
        factors::import(&self.app, &self.asker(), &Handle::Id(id), token).await?;
        Ok(id.uuid())
    }
}

async fn make(maker: Arc<Maker>, making: Arc<Making>) -> Result<Vec<(u64, Uuid)>> {
    let mut made = Vec::new();
    while let Some(number) = making.next() {
        made.push((number, maker.make(number).await.with_context(|| format!("make {}", username(number)))?));
        making.made_one();
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estate;
    use countersign::{
        running,
        store::{AuditFilter, UserFilter},
    };
    use countersign_core::{Timestamp, UserId};
    use rusqlite::{Connection, OpenFlags, types::ValueRef};
    use serde_json::Value;

    const PEOPLE: Range<u64> = 5..17;

    fn config(data: &Path) -> Config {
        let mut config = Config::default();
        config.store.directory = data.to_owned();
        config.server.listen = ([127, 0, 0, 1], 0).into();
        (config.limits.per_address, config.limits.per_client, config.limits.sign_ins) = (0, 0, 0);
        config
    }

    /// Makes an installation and has people loaded: through the API, or else without HTTP.
    async fn loaded(data: &Path, through_api: bool) -> Credentials {
        let (server, first) = running::start(config(data), Clock::System).await.expect("a server");
        let first = first.expect("an empty directory");
        let (id, secret) = (first.client.id.to_string(), first.client_secret.expose().to_owned());
        let credentials = Credentials { id, secret, admin: None };
        if through_api {
            // Over one connection: people then have the same numbers, and events the same rows.
            estate::load(server.address, &credentials, PEOPLE, 1).await.expect("load");
            server.stop().await.expect("stop");
        } else {
            server.stop().await.expect("stop");
            load_by(data, &credentials, PEOPLE, 1).await.expect("load");
        }
        credentials
    }

    /// Reads every table that tells of people: names and numbers as they are, and of what is sealed, drawn or timed the length alone.
    fn rows(data: &Path) -> Vec<String> {
        let file = data.join("countersign.db");
        let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("open");
        let mut tables = database
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
            .expect("tables");
        let tables: Vec<String> = tables
            .query_map([], |row| row.get(0))
            .expect("tables")
            .collect::<Result<_, _>>()
            .expect("tables");
        let mut rows = Vec::new();
        // Those that say when the installation was made, or whose rows come by themselves.
        let other = ["checkpoints", "decoy", "meta", "migrations"];
        for table in tables.iter().filter(|table| !other.contains(&table.as_str())) {
            let mut all = database.prepare(&format!("SELECT * FROM {table}")).expect(table);
            let columns: Vec<String> = all.column_names().map(str::to_owned).collect();
            let mut found = all.query([]).expect(table);
            while let Some(row) = found.next().expect(table) {
                let shown = columns.iter().enumerate().map(|(place, column)| {
                    let shown = match row.get_ref(place).expect(column) {
                        ValueRef::Integer(time) if time > 1_000_000_000_000 => "a time".to_owned(),
                        ValueRef::Integer(number) => number.to_string(),
                        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
                        other => format!("{other:?}"),
                    };
                    format!("{column}={shown}")
                });
                rows.push(format!("{table}: {}", shown.collect::<Vec<_>>().join(", ")));
            }
        }
        rows
    }

    /// Puts what differs from one installation to the next out of sight: ids, times, and what is sealed or drawn.
    fn faded(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(faded),
            Value::Object(members) => members.values_mut().for_each(faded),
            Value::Number(number) if number.as_i64().is_some_and(|time| time > 1_000_000_000_000) => {
                *value = "a time".into();
            }
            Value::String(text) => {
                let is_time = Timestamp::parse(text).is_some();
                let is_id = text.parse::<Uuid>().is_ok();
                let is_drawn = text.len() > 20 && !text.contains(' ');
                let what = if is_time {
                    "a time"
                } else if is_id {
                    "an id"
                } else {
                    "drawn"
                };
                if is_time || is_id || is_drawn {
                    *text = format!("{what} of {}", text.len());
                }
            }
            _ => {}
        }
    }

    /// Reads everybody and all events as the server reads them.
    async fn documents(data: &Path, credentials: &Credentials) -> Vec<Value> {
        let app = Arc::new(App::open(config(data), Clock::System).await.expect("open"));
        let maker = Maker::known_by(Arc::clone(&app), credentials).await.expect("the client");
        let organisation = maker.organisation.id;
        let users = app.store.users(organisation, &UserFilter::All, None, 200).await.expect("people").items;
        let ids: Vec<UserId> = users.iter().map(|user| user.id).collect();
        let mut documents: Vec<Value> =
            users.iter().map(|user| serde_json::to_value(user).expect("a document")).collect();
        for user in ids.into_iter().map(Some).chain([None]) {
            let filter = AuditFilter { user, ..AuditFilter::default() };
            let events = app.store.audit(organisation, &filter, None, 200).await.expect("events").items;
            documents.extend(events.iter().map(|event| serde_json::to_value(event).expect("an event")));
        }
        assert!(audit::verify(&app.store, &app.keys, &[]).await.expect("verify").holds());
        app.store.close().await;
        documents.iter_mut().for_each(faded);
        documents
    }

    #[tokio::test]
    async fn who_is_loaded_without_http_is_who_the_api_makes() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let through_api = loaded(one.path(), true).await;
        let without_http = loaded(other.path(), false).await;

        let (expected, found) = (rows(one.path()), rows(other.path()));
        assert!(expected.len() > 2 * (PEOPLE.end - PEOPLE.start) as usize, "{expected:#?}");
        assert_eq!(expected, found);
        let expected = documents(one.path(), &through_api).await;
        let found = documents(other.path(), &without_http).await;
        assert_eq!(expected, found);
    }
}
