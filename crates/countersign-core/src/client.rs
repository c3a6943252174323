//! Service clients: programs that act for an organisation, within scopes.

use crate::{
    id::ClientId,
    id::OrganisationId,
    keyring::{Binding, KeyError, Keyring, Purpose, Tag},
    profile::DisplayName,
    public_key::{KEY_LIMIT, PublicKey, StoredKey},
    refusal::Refusal,
    role::{Rank, Scope},
    secret::Secret,
    time::Timestamp,
    user::Status,
};
use data_encoding::BASE64URL_NOPAD;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};

/// The most secrets a client may have at once: the old one and its successor.
pub const SECRET_LIMIT: usize = 2;

/// A service client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The client's id.
    pub id: ClientId,
    /// The name people read.
    pub name: DisplayName,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// Whether it may do anything at all.
    pub status: Status,
    /// Its secrets, oldest first.
    pub secrets: Vec<StoredSecret>,
    /// Its public keys, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<StoredKey>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last disabled or lost a scope: its tokens of that second and before are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_cut_at: Option<Timestamp>,
}

/// What describes a new client.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// The name people read.
    pub name: DisplayName,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// Its first secret; a client that signs for itself needs none.
    pub secret: Option<StoredSecret>,
    /// Its public keys.
    pub keys: Vec<PublicKey>,
}

/// A client's secret as it is stored: 256 random bits need no slow hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// The keyed hash.
    pub tag: Tag,
    /// When it was drawn.
    pub created_at: Timestamp,
    /// When it stops being good; set once it has a successor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A freshly drawn client secret, shown once.
#[derive(Debug, Clone)]
pub struct ClientSecret(Secret<String>);

impl ClientSecret {
    /// Draws 256 bits.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        // The prefix lets secret scanners recognise what leaked into a repository.
        Self(format!("cs_{}", BASE64URL_NOPAD.encode(&bytes)).into())
    }

    /// Shows the secret.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Hashes the secret for storage.
    pub fn store(
        &self,
        organisation: OrganisationId,
        client: ClientId,
        keys: &impl Keyring,
        now: Timestamp,
    ) -> Result<StoredSecret, KeyError> {
        let tag = keys.tag(&binding(organisation, client), None, self.expose().as_bytes())?;
        Ok(StoredSecret { tag, created_at: now, expires_at: None })
    }
}

impl Client {
    /// Makes a client.
    pub(crate) fn new(id: ClientId, new: NewClient, now: Timestamp) -> Result<Self, Refusal> {
        let mut client = Self {
            id,
            name: new.name,
            scopes: new.scopes,
            status: Status::Active,
            secrets: new.secret.into_iter().collect(),
            keys: Vec::new(),
            created_at: now,
            tokens_cut_at: None,
        };
        for key in new.keys {
            client.add_key(key, None, now)?;
        }
        Ok(client)
    }

    /// Tells whether `secret` is one of the client's, and good at `now`. Compares all, so the time tells nothing.
    pub fn knows(
        &self,
        secret: &str,
        organisation: OrganisationId,
        keys: &impl Keyring,
        now: Timestamp,
    ) -> Result<bool, KeyError> {
        let binding = binding(organisation, self.id);
        let mut known = false;
        for stored in &self.secrets {
            let matches = keys.matches(&binding, &stored.tag, secret.as_bytes())?;
            known |= matches && stored.expires_at.is_none_or(|expires_at| now < expires_at);
        }
        Ok(known && self.status == Status::Active)
    }

    /// Adds a secret; the one before stays good for `overlap`, older ones go.
    pub(crate) fn rotate_secret(&mut self, secret: StoredSecret, overlap: Duration) {
        let ends = secret.created_at.after(overlap);
        self.secrets
            .retain(|stored| stored.expires_at.is_none_or(|expires_at| expires_at > secret.created_at));
        for stored in &mut self.secrets {
            stored.expires_at = Some(stored.expires_at.map_or(ends, |earlier| earlier.min(ends)));
        }
        while self.secrets.len() >= SECRET_LIMIT {
            self.secrets.remove(0);
        }
        self.secrets.push(secret);
    }

    /// Adds a public key. With an `overlap` those before stay good for so long; without one, until they are removed.
    pub(crate) fn add_key(
        &mut self,
        key: PublicKey,
        overlap: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.keys.retain(|stored| stored.is_good(now));
        let thumbprint = key.thumbprint();
        if self.keys.iter().any(|stored| stored.key.thumbprint() == thumbprint) {
            return Err(Refusal::Taken("key"));
        }
        if self.keys.len() >= KEY_LIMIT {
            return Err(Refusal::TooMany("keys", KEY_LIMIT));
        }
        if let Some(ends) = overlap.map(|overlap| now.after(overlap)) {
            for stored in &mut self.keys {
                stored.expires_at = Some(stored.expires_at.map_or(ends, |earlier| earlier.min(ends)));
            }
        }
        self.keys.push(StoredKey { key, created_at: now, expires_at: None });
        Ok(())
    }

    /// Removes a public key, named by its thumbprint.
    pub(crate) fn remove_key(&mut self, thumbprint: &str) -> Result<(), Refusal> {
        let place = self.keys.iter().position(|stored| stored.key.thumbprint() == thumbprint);
        self.keys.remove(place.ok_or(Refusal::NoSuchKey)?);
        Ok(())
    }

    /// Returns the public keys that may have made a signature whose header names `kid`.
    pub fn keys_for(&self, kid: Option<&str>, now: Timestamp) -> impl Iterator<Item = &PublicKey> {
        let may_have = move |key: &&PublicKey| key.answers_to(kid);
        self.keys.iter().filter(move |stored| stored.is_good(now)).map(|stored| &stored.key).filter(may_have)
    }

    /// Tells whether a token issued to it at a time is still good. Tokens carry whole seconds, so the cut does too.
    pub fn honours_token_of(&self, issued_at: Timestamp) -> bool {
        let was_cut = self.tokens_cut_at.is_some_and(|cut| issued_at.seconds() <= cut.seconds());
        self.status == Status::Active && !was_cut
    }

    /// Returns how far up the ladder it reaches.
    pub fn rank(&self) -> Rank {
        Rank::Client { admin: self.scopes.contains(&Scope::Admin) }
    }
}

fn binding(organisation: OrganisationId, client: ClientId) -> Binding {
    Binding::of_organisation(Purpose::ClientSecret, organisation, client.uuid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        public_key::{Numbers, Octets},
        testing::{OpenKeyring, START, rng},
    };
    use uuid::Uuid;

    const ORGANISATION: OrganisationId = OrganisationId::from_uuid(Uuid::from_u128(1));

    fn secret(seed: u64) -> ClientSecret {
        ClientSecret::generate(&mut rng(seed))
    }

    fn stored(seed: u64, client: ClientId, now: Timestamp) -> StoredSecret {
        secret(seed).store(ORGANISATION, client, &OpenKeyring, now).expect("store")
    }

    fn client() -> Client {
        let id = ClientId::from_uuid(Uuid::from_u128(2));
        Client {
            id,
            name: DisplayName::parse("name", "gateway").expect("name"),
            scopes: [Scope::Verify].into(),
            status: Status::Active,
            secrets: vec![stored(1, id, START)],
            keys: Vec::new(),
            created_at: START,
            tokens_cut_at: None,
        }
    }

    fn knows(client: &Client, seed: u64, now: Timestamp) -> bool {
        client.knows(secret(seed).expose(), ORGANISATION, &OpenKeyring, now).expect("keys")
    }

    fn later(seconds: u64) -> Timestamp {
        START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_client_knows_its_secret_and_no_other() {
        let client = client();
        let elsewhere = OrganisationId::from_uuid(Uuid::from_u128(9));

        assert!(knows(&client, 1, START));
        assert!(!knows(&client, 2, START));
        assert_eq!(client.knows(secret(1).expose(), elsewhere, &OpenKeyring, START), Ok(false));
    }

    #[test]
    fn a_rotated_secret_stays_good_for_the_overlap() {
        let mut client = client();
        let next = stored(2, client.id, START);

        client.rotate_secret(next, Duration::from_secs(60));

        assert!(knows(&client, 1, later(59)) && knows(&client, 2, later(59)));
        assert!(!knows(&client, 1, later(60)) && knows(&client, 2, later(60)));
    }

    #[test]
    fn a_secret_rotated_without_overlap_is_gone_at_once() {
        let mut client = client();
        let next = stored(2, client.id, START);

        client.rotate_secret(next, Duration::ZERO);

        assert!(!knows(&client, 1, START) && knows(&client, 2, START));
    }

    #[test]
    fn a_second_rotation_neither_keeps_three_secrets_nor_prolongs_the_first() {
        let mut client = client();
        for (seed, at) in [(2, START), (3, later(10))] {
            let next = stored(seed, client.id, at);
            client.rotate_secret(next, Duration::from_secs(60));
        }

        assert_eq!(client.secrets.len(), SECRET_LIMIT);
        assert!(!knows(&client, 1, later(10)));
        assert!(knows(&client, 2, later(69)) && !knows(&client, 2, later(70)));
        assert!(knows(&client, 3, later(70)));
    }

    fn key(number: u8) -> PublicKey {
        let octets = |byte: u8| Octets::new([byte; 32]);
        PublicKey { kid: None, numbers: Numbers::P256 { x: octets(number), y: octets(0) } }
    }

    fn good_keys(client: &Client, now: Timestamp) -> Vec<PublicKey> {
        client.keys_for(None, now).cloned().collect()
    }

    #[test]
    fn keys_stand_side_by_side_until_they_are_removed() {
        let mut client = client();
        client.add_key(key(1), None, START).expect("first");
        client.add_key(key(2), None, START).expect("second");
        assert_eq!(good_keys(&client, later(86_400)), [key(1), key(2)]);

        client.remove_key(&key(1).thumbprint()).expect("remove");

        assert_eq!(good_keys(&client, START), [key(2)]);
        assert_eq!(client.remove_key(&key(1).thumbprint()), Err(Refusal::NoSuchKey));
    }

    #[test]
    fn a_key_added_with_an_overlap_ends_those_before() {
        let mut client = client();
        client.add_key(key(1), None, START).expect("first");
        client.add_key(key(2), Some(Duration::from_secs(60)), START).expect("second");

        assert_eq!(good_keys(&client, later(59)), [key(1), key(2)]);
        assert_eq!(good_keys(&client, later(60)), [key(2)]);
    }

    #[test]
    fn a_client_has_a_few_keys_and_each_once() {
        let mut client = client();
        for number in 1..=4 {
            client.add_key(key(number), None, START).expect("key");
        }

        assert_eq!(client.add_key(key(4), None, START), Err(Refusal::Taken("key")));
        assert_eq!(client.add_key(key(5), None, START), Err(Refusal::TooMany("keys", KEY_LIMIT)));
    }

    #[test]
    fn a_disabled_client_knows_nothing() {
        let client = Client { status: Status::Disabled, ..client() };

        assert!(!knows(&client, 1, START));
    }

    #[test]
    fn a_client_reaches_administrators_only_with_the_admin_scope() {
        let admin = Client { scopes: [Scope::Admin].into(), ..client() };

        assert_eq!(client().rank(), Rank::Client { admin: false });
        assert_eq!(admin.rank(), Rank::Client { admin: true });
    }

    #[test]
    fn a_secret_does_not_print_and_can_be_recognised() {
        let secret = secret(1);

        assert!(secret.expose().starts_with("cs_") && secret.expose().len() == 46);
        assert!(!format!("{secret:?}").contains(secret.expose()));
    }
}
