//! What the store keeps in memory: never ahead of what is durable.
//!
//! Nobody else writes to the database, so what is noted after each commit stays true.

use countersign_core::{ClientId, Organisation, OrganisationId, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use uuid::Uuid;

/// What a commit changes in memory.
pub(super) enum Effect {
    /// An organisation has this document, of this version.
    Organisation(Arc<Organisation>, i64),
    /// A token is revoked until it expires.
    Revoked(Uuid, Timestamp),
    /// Revocations of tokens that expired by then are forgotten.
    Forgotten(Timestamp),
}

/// Organisations that were asked for, and all revoked tokens.
#[derive(Default)]
pub(super) struct Memory {
    organisations: RwLock<Organisations>,
    revoked: RwLock<HashMap<Uuid, Timestamp>>,
}

#[derive(Default)]
struct Organisations {
    documents: HashMap<OrganisationId, (Arc<Organisation>, i64)>,
    by_slug: HashMap<String, OrganisationId>,
    by_client: HashMap<ClientId, OrganisationId>,
}

impl Memory {
    /// Begins with the revocations the database holds.
    pub(super) fn new(revoked: HashMap<Uuid, Timestamp>) -> Self {
        Self { revoked: RwLock::new(revoked), ..Self::default() }
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
        read(&self.organisations).document(id)
    }

    /// Returns the organisation a slug names, if it is here.
    pub(super) fn organisation_by_slug(&self, slug: &str) -> Option<Arc<Organisation>> {
        let organisations = read(&self.organisations);
        organisations.by_slug.get(slug).and_then(|id| organisations.document(*id))
    }

    /// Returns the organisation a client belongs to, if it is here.
    pub(super) fn organisation_of_client(&self, client: ClientId) -> Option<Arc<Organisation>> {
        let organisations = read(&self.organisations);
        organisations.by_client.get(&client).and_then(|id| organisations.document(*id))
    }

    /// Tells whether a token is revoked.
    pub(super) fn is_revoked(&self, token: Uuid) -> bool {
        read(&self.revoked).contains_key(&token)
    }
}

impl Organisations {
    fn document(&self, id: OrganisationId) -> Option<Arc<Organisation>> {
        self.documents.get(&id).map(|(organisation, _)| Arc::clone(organisation))
    }

    fn keep(&mut self, organisation: Arc<Organisation>, version: i64) {
        let id = organisation.id;
        if let Some((before, kept)) = self.documents.get(&id) {
            if *kept >= version {
                return;
            }
            self.by_slug.remove(&before.slug.key());
            for client in &before.clients {
                self.by_client.remove(&client.id);
            }
        }
        self.by_slug.insert(organisation.slug.key(), id);
        self.by_client.extend(organisation.clients.iter().map(|client| (client.id, id)));
        self.documents.insert(id, (organisation, version));
    }
}

// A thread that panicked with the lock held had only maps in its hands, which are sound after each call.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
