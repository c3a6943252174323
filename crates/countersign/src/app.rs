//! What every use case works with: the store, the keys, the clock and the limits.

use crate::{
    clock::Clock,
    config::{Config, delivery::Reach},
    error::{Error, Result},
    keys::{Keys, MASTER_KEY_FILE, MasterKey},
    service::{passwords::Passwords, tokens::Tokens},
    store::{CLOCK_TOLERANCE, Store, conformance::TRIAL_MARK, sqlite::Sqlite},
    telemetry::Metrics,
};
use countersign_core::{
    Call, Handle, Organisation, OrganisationId, Policy, Refusal, Timestamp, User, UserId,
};
use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// The application. Shared by all requests; nothing in it belongs to one.
pub struct App {
    /// The store.
    pub store: Store,
    /// The opened keys.
    pub keys: Arc<Keys>,
    /// The clock.
    pub clock: Clock,
    /// The configuration.
    pub config: Config,
    /// The channels that messages can be sent by.
    pub reach: Reach,
    /// Issues and checks tokens.
    pub tokens: Tokens,
    /// The bounded pool of slow hashes.
    pub passwords: Passwords,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether the server was asked to stop, and balancers are to turn away.
    is_leaving: AtomicBool,
}

/// Who asks, and in which organisation.
#[derive(Clone)]
pub struct Asker {
    /// The organisation the request is about.
    pub organisation: Arc<Organisation>,
    /// The request.
    pub call: Call,
}

/// What a rule needs besides the document: lent to the function given to [`App::change`].
pub struct With<'a> {
    /// The organisation's policy.
    pub policy: &'a Policy,
    /// The keys.
    pub keys: &'a Keys,
    /// The request.
    pub call: &'a Call,
}

impl App {
    /// Opens the data directory: store, keys, self-test. Makes a new installation's keys, but no accounts.
    pub async fn open(config: Config, clock: Clock) -> Result<Self> {
        let data = config.store.directory.clone();
        refuse_lost_database(&config)?;
        let store = Store::open(&config.store).await?;
        refuse_trial(&store).await?;
        let now = clock.now();
        let keys = open_keys(&store, config.keys.master_key_file.as_deref(), &data, now).await?;
        store.self_test(now).await?;
        let keys = Arc::new(keys);
        Ok(Self {
            tokens: Tokens::new(&keys, config.issuer()),
            passwords: Passwords::new(),
            metrics: Metrics::new(),
            is_leaving: AtomicBool::new(false),
            reach: config.delivery.reach(),
            store,
            keys,
            clock,
            config,
        })
    }

    /// Tells whether the machine's clock is near enough to the store's: with another one, codes would be taken too early or
    /// too late. A clock that a test moves is its own affair.
    pub fn is_on_time(&self) -> bool {
        let skew = self.store.clock_skew_millis().unsigned_abs();
        !matches!(self.clock, Clock::System) || u128::from(skew) <= CLOCK_TOLERANCE.as_millis()
    }

    /// Has readiness say no from now on.
    pub fn leave(&self) {
        self.is_leaving.store(true, Relaxed);
    }

    /// Tells whether the server is about to stop.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Relaxed)
    }

    /// Changes the person a handle names in the asker's organisation by a rule.
    pub async fn change<T: Send + 'static>(
        &self,
        asker: &Asker,
        whom: impl Into<Handle>,
        mut decide: impl FnMut(&mut User, With<'_>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        let (organisation, call) = (Arc::clone(&asker.organisation), asker.call.clone());
        let (keys, reach) = (Arc::clone(&self.keys), self.reach.clone());
        self.store
            .change_by(organisation.id, whom.into(), move |user| {
                let outcome = decide(user, With { policy: &organisation.policy, keys: &keys, call: &call })?;
                user.seal_messages(organisation.sender(), &*keys, |place| reach.includes(place))?;
                Ok(outcome)
            })
            .await
    }

    /// Creates a person in the asker's organisation by a rule.
    pub async fn create(
        &self,
        asker: &Asker,
        mut admit: impl FnMut(&mut Organisation, &Call) -> Result<User, Refusal> + Send + 'static,
    ) -> Result<User> {
        let (asked, call) = (Arc::clone(&asker.organisation), asker.call.clone());
        let (keys, reach) = (Arc::clone(&self.keys), self.reach.clone());
        self.store
            .create(asked.id, move |organisation| {
                let mut user = admit(organisation, &call)?;
                user.seal_messages(asked.sender(), &*keys, |place| reach.includes(place))?;
                organisation.seal_messages(asked.sender(), &*keys, |place| reach.includes(place))?;
                Ok(user)
            })
            .await
    }

    /// Removes a person of the asker's organisation by a rule.
    pub async fn remove(
        &self,
        asker: &Asker,
        whom: UserId,
        mut dismiss: impl FnMut(&mut Organisation, &User, &Call) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<()> {
        let (asked, call) = (Arc::clone(&asker.organisation), asker.call.clone());
        let (keys, reach) = (Arc::clone(&self.keys), self.reach.clone());
        self.store
            .remove(asked.id, whom, move |organisation, user| {
                dismiss(organisation, user, &call)?;
                organisation.seal_messages(asked.sender(), &*keys, |place| reach.includes(place))
            })
            .await
    }

    /// Changes the asker's organisation by a rule.
    pub async fn change_organisation<T: Send + 'static>(
        &self,
        asker: &Asker,
        mut decide: impl FnMut(&mut Organisation, &Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        let (asked, call) = (Arc::clone(&asker.organisation), asker.call.clone());
        let (keys, reach) = (Arc::clone(&self.keys), self.reach.clone());
        self.store
            .change_organisation(asked.id, move |organisation| {
                let outcome = decide(organisation, &call)?;
                organisation.seal_messages(asked.sender(), &*keys, |place| reach.includes(place))?;
                Ok(outcome)
            })
            .await
    }

    /// Returns the id of the person a handle names in the asker's organisation. An id needs no look-up: the change or
    /// read that follows finds out.
    pub async fn resolve(&self, organisation: OrganisationId, handle: &Handle) -> Result<UserId> {
        match handle {
            Handle::Id(id) => Ok(*id),
            _ => self.store.find(organisation, handle).await?.ok_or(Error::NotFound("user")),
        }
    }

    /// Returns the person a handle names in the asker's organisation.
    pub async fn user(&self, organisation: OrganisationId, handle: &Handle) -> Result<User> {
        let id = self.resolve(organisation, handle).await?;
        self.store.user(organisation, id).await?.ok_or(Error::NotFound("user"))
    }
}

/// Refuses a data directory in which only the key is left: what was in the database would be missed much later.
///
/// A first start that was cut short leaves no such directory, because the database is made before the key. Where the database
/// is elsewhere, the key is all a directory has.
fn refuse_lost_database(config: &Config) -> Result<()> {
    let data = &config.store.directory;
    if config.store.is_remote() || Sqlite::exists(data) || !data.join(MASTER_KEY_FILE).exists() {
        return Ok(());
    }
    Err(Error::Store(format!(
        "open data directory {}: it has a master key but no database; restore the database from your backup, or move \
         {MASTER_KEY_FILE} away to begin anew",
        data.display()
    )))
}

/// Refuses a database in which checks were cut short: the next run would clear it, whatever had come into it by then.
async fn refuse_trial(store: &Store) -> Result<()> {
    if store.meta(TRIAL_MARK).await?.is_none() {
        return Ok(());
    }
    Err(Error::Store(
        "open database: store conformance runs on it, or was cut short; run it to its end there, or take another database"
            .into(),
    ))
}

/// Opens the keys, or makes them where there is nothing yet. A database without its key, or a key without its
/// database, is never papered over by new keys.
async fn open_keys(store: &Store, configured: Option<&Path>, data: &Path, now: Timestamp) -> Result<Keys> {
    let master = MasterKey::find(configured, data)?;
    match (Keys::exist(store).await?, master) {
        (true, Some(master)) => Keys::open(store, &master).await,
        (true, None) => Err(Error::Store(format!(
            "find master key: {} is missing and neither configuration nor environment brings one; restore it from your \
             backup, without it the secrets in the database cannot be opened",
            data.join(MASTER_KEY_FILE).display()
        ))),
        (false, Some(master)) => Keys::create(store, &master, now).await,
        (false, None) => {
            let master = MasterKey::generate();
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(data)
                .map_err(|error| Error::Store(format!("create {}: {error}", data.display())))?;
            let file = data.join(MASTER_KEY_FILE);
            master.write(&file)?;
            let made = Keys::create(store, &master, now).await;
            if made.is_err() && Keys::exist(store).await? {
                // Of nodes that start on an empty database at the same time one makes the keys, and ours opens nothing.
                fs::remove_file(&file)
                    .map_err(|error| Error::Store(format!("remove {}: {error}", file.display())))?;
                return Err(Error::Store(
                    "make keys: another node has just made them; give this one its master key (keys.master_key_file)"
                        .into(),
                ));
            }
            made
        }
    }
}
