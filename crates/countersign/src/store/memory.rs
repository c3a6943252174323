//! What an engine keeps in memory: never ahead of what is durable.
//!
//! Where nobody else writes to the database, what is noted after each commit stays true. Where others do, organisations are
//! read again when what is known of them is too old, and revocations are heard of.

use crate::store::{ChannelGauges, DeliveryState};
use countersign_core::{Channel, ClientId, Organisation, OrganisationId, Timestamp};
use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use uuid::Uuid;

/// What a commit changes in memory.
pub(super) enum Effect {
    /// An organisation has this document, of this version.
    Organisation(Arc<Organisation>, i64),
    /// A token is revoked until it expires.
    Revoked(Uuid, Timestamp),
    /// Revocations of tokens that expired by then are forgotten.
    Forgotten(Timestamp),
    /// Something happened to a message of this channel.
    Outbox(Channel, Happened),
}

/// What happened to a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Happened {
    /// It waits to be sent.
    Posted,
    /// It came to an end.
    Settled(DeliveryState),
    /// An attempt failed; it waits for the next one.
    Retried,
    /// An attempt of which nobody knows the end was given up.
    Interrupted,
    /// A dead letter waits to be sent again.
    Requeued,
}

/// Organisations that were asked for, all revoked tokens, and what waits to be sent.
#[derive(Default)]
pub(super) struct Memory {
    organisations: RwLock<Organisations>,
    revoked: RwLock<HashMap<Uuid, Timestamp>>,
    outbox: [Outbox; Channel::ALL.len()],
    /// How long what was read of an organisation is good for; for ever if nobody else writes.
    lasts: Option<Duration>,
}

#[derive(Default)]
struct Organisations {
    documents: HashMap<OrganisationId, Kept>,
    by_slug: HashMap<String, OrganisationId>,
    by_client: HashMap<ClientId, OrganisationId>,
}

/// An organisation as it was at a time.
struct Kept {
    organisation: Arc<Organisation>,
    version: i64,
    read_at: Instant,
}

impl Memory {
    /// Begins with nothing, for a database that others write to, too.
    pub(super) fn shared(lasts: Duration) -> Self {
        Self { lasts: Some(lasts), ..Self::default() }
    }

    /// Sets how many messages wait on each channel.
    pub(super) fn set_queued(&self, queued: [u64; Channel::ALL.len()]) {
        for channel in Channel::ALL {
            self.outbox(channel).queued.store(queued[channel as usize], Relaxed);
        }
    }

    /// Begins with the revocations the database holds, and how many messages wait on each channel.
    pub(super) fn new(revoked: HashMap<Uuid, Timestamp>, queued: [u64; Channel::ALL.len()]) -> Self {
        Self { revoked: RwLock::new(revoked), outbox: queued.map(Outbox::new), ..Self::default() }
    }

    /// Notes what a commit changed.
    pub(super) fn apply(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Organisation(organisation, version) => self.keep(organisation, version),
                Effect::Revoked(token, expires_at) => {
                    write(&self.revoked).insert(token, expires_at);
                }
                Effect::Forgotten(now) => write(&self.revoked).retain(|_, expires_at| *expires_at > now),
                Effect::Outbox(channel, happened) => self.outbox(channel).note(happened),
            }
        }
    }

    /// Keeps an organisation's document, unless there is a newer one: a reading may end after a commit that it began
    /// before.
    pub(super) fn keep(&self, organisation: Arc<Organisation>, version: i64) {
        write(&self.organisations).keep(organisation, version);
    }

    /// Returns an organisation, if it is here.
    pub(super) fn organisation(&self, id: OrganisationId) -> Option<Arc<Organisation>> {
        read(&self.organisations).document(id, self.lasts)
    }

    /// Returns the organisation a slug names, if it is here.
    pub(super) fn organisation_by_slug(&self, slug: &str) -> Option<Arc<Organisation>> {
        let organisations = read(&self.organisations);
        organisations.by_slug.get(slug).and_then(|id| organisations.document(*id, self.lasts))
    }

    /// Returns the organisation a client belongs to, if it is here.
    pub(super) fn organisation_of_client(&self, client: ClientId) -> Option<Arc<Organisation>> {
        let organisations = read(&self.organisations);
        organisations.by_client.get(&client).and_then(|id| organisations.document(*id, self.lasts))
    }

    /// Tells whether a token is revoked.
    pub(super) fn is_revoked(&self, token: Uuid) -> bool {
        read(&self.revoked).contains_key(&token)
    }

    /// Returns what is known of a channel's messages.
    pub(super) fn outbox(&self, channel: Channel) -> &Outbox {
        &self.outbox[channel as usize]
    }
}

/// What is known of a channel's messages without looking at them.
#[derive(Default)]
pub(super) struct Outbox {
    bell: Notify,
    queued: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    expired: AtomicU64,
    superseded: AtomicU64,
    retried: AtomicU64,
    interrupted: AtomicU64,
}

impl Outbox {
    fn new(queued: u64) -> Self {
        Self { queued: AtomicU64::new(queued), ..Self::default() }
    }

    /// Counts, and rings if there is something to send.
    fn note(&self, happened: Happened) {
        match happened {
            Happened::Posted | Happened::Requeued => {
                self.queued.fetch_add(1, Relaxed);
                self.bell.notify_one();
            }
            Happened::Retried => drop(self.retried.fetch_add(1, Relaxed)),
            Happened::Interrupted => {
                self.interrupted.fetch_add(1, Relaxed);
                self.bell.notify_one();
            }
            Happened::Settled(state) => {
                // Another node may have posted it.
                let _ = self.queued.fetch_update(Relaxed, Relaxed, |queued| queued.checked_sub(1));
                self.settled(state).fetch_add(1, Relaxed);
            }
        }
    }

    fn settled(&self, state: DeliveryState) -> &AtomicU64 {
        match state {
            DeliveryState::Queued => &self.retried,
            DeliveryState::Sent => &self.sent,
            DeliveryState::Failed => &self.failed,
            DeliveryState::Expired => &self.expired,
            DeliveryState::Superseded => &self.superseded,
        }
    }

    /// Returns what rings when there is something to send.
    pub(super) fn bell(&self) -> &Notify {
        &self.bell
    }

    /// Returns how many messages wait or are being sent.
    pub(super) fn queued(&self) -> u64 {
        self.queued.load(Relaxed)
    }

    /// Returns what the metrics show.
    pub(super) fn gauges(&self) -> ChannelGauges {
        ChannelGauges {
            queued: self.queued(),
            sent: self.sent.load(Relaxed),
            failed: self.failed.load(Relaxed),
            expired: self.expired.load(Relaxed),
            superseded: self.superseded.load(Relaxed),
            retried: self.retried.load(Relaxed),
            interrupted: self.interrupted.load(Relaxed),
        }
    }
}

impl Organisations {
    fn document(&self, id: OrganisationId, lasts: Option<Duration>) -> Option<Arc<Organisation>> {
        let kept = self.documents.get(&id)?;
        lasts.is_none_or(|lasts| kept.read_at.elapsed() < lasts).then(|| Arc::clone(&kept.organisation))
    }

    fn keep(&mut self, organisation: Arc<Organisation>, version: i64) {
        let id = organisation.id;
        if let Some(kept) = self.documents.get_mut(&id) {
            if kept.version >= version {
                // What is the same is good for longer; what is older says nothing.
                if kept.version == version {
                    kept.read_at = Instant::now();
                }
                return;
            }
            self.by_slug.remove(&kept.organisation.slug.key());
            for client in &kept.organisation.clients {
                self.by_client.remove(&client.id);
            }
        }
        self.by_slug.insert(organisation.slug.key(), id);
        self.by_client.extend(organisation.clients.iter().map(|client| (client.id, id)));
        self.documents.insert(id, Kept { organisation, version, read_at: Instant::now() });
    }
}

// A thread that panicked with the lock held had only maps in its hands, which are sound after each call.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
