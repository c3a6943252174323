//! Keys: a master key wraps data keys, data keys seal and hash, a signing key signs tokens and checkpoints.
//!
//! The master key comes from a file made by `init` (mode 0600), a file named in the configuration, an environment
//! variable or a systemd credential; it never enters the database. Everything else is in the database, sealed.

use crate::{
    error::{Error, Result},
    store::Store,
};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf, hmac,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use countersign_core::{
    Keyring, Secret, Timestamp,
    keyring::{Binding, KeyError, KeyId, Purpose, Sealed, TAG_BYTES, Tag},
};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// The name of the master key's file in the data directory.
pub const MASTER_KEY_FILE: &str = "master.key";
/// The environment variable that may hold the master key.
pub const MASTER_KEY_VARIABLE: &str = "COUNTERSIGN_MASTER_KEY";
/// The systemd credential that may hold the master key.
pub const MASTER_KEY_CREDENTIAL: &str = "countersign-master-key";

/// The store's entry for the wrapped keys.
const KEYS_ENTRY: &str = "keys";
const KEY_BYTES: usize = 32;
/// Stands before the key in its file, so that a wrong file is told from a wrong key.
const MASTER_KEY_PREFIX: &str = "countersign-master-key-1:";
const CANARY: &[u8] = b"countersign canary";

/// The key that wraps all others.
pub struct MasterKey(Secret<[u8; KEY_BYTES]>);

impl MasterKey {
    /// Draws a new key.
    pub fn generate() -> Self {
        let mut bytes = [0; KEY_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes.into())
    }

    /// Finds the key: in the configured file, the environment, a systemd credential, else the data directory.
    ///
    /// `None` if none of these is there; an unreadable or malformed key is an error, never a reason to look further.
    pub fn find(configured: Option<&Path>, data: &Path) -> Result<Option<Self>> {
        if let Some(path) = configured {
            return Self::read(path).map(Some);
        }
        if let Ok(text) = std::env::var(MASTER_KEY_VARIABLE) {
            return Self::parse(&text, MASTER_KEY_VARIABLE).map(Some);
        }
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|directory| PathBuf::from(directory).join(MASTER_KEY_CREDENTIAL))
            .filter(|path| path.exists());
        if let Some(path) = credential {
            // systemd keeps credentials from other users by the directory, and may grant ours by a group or an ACL.
            return Self::read_text(&path).map(Some);
        }
        let path = data.join(MASTER_KEY_FILE);
        if path.exists() { Self::read(&path).map(Some) } else { Ok(None) }
    }

    /// Reads a key file that others must not be able to read.
    fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mode =
            fs::metadata(path).map_err(|error| key_error(format!("read key file {shown}: {error}")))?;
        if mode.permissions().mode() & 0o077 != 0 {
            return Err(key_error(format!(
                "read key file {shown}: others may read it; set its mode to 0600 (chmod 600 {shown})"
            )));
        }
        Self::read_text(path)
    }

    fn read_text(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text =
            fs::read_to_string(path).map_err(|error| key_error(format!("read key file {shown}: {error}")))?;
        Self::parse(&text, &shown.to_string())
    }

    fn parse(text: &str, origin: &str) -> Result<Self> {
        let malformed = || {
            key_error(format!(
                "read master key from {origin}: not a Countersign master key; restore it from your backup"
            ))
        };
        let text = text.trim().strip_prefix(MASTER_KEY_PREFIX).ok_or_else(malformed)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| malformed())?;
        Ok(Self(Secret::new(bytes.try_into().map_err(|_| malformed())?)))
    }

    /// Writes the key to a new file that only its owner may read.
    ///
    /// The file has its name only when all of it is on the disk: half a key would look like a damaged one.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |error| key_error(format!("write key file {}: {error}", path.display()));
        let draft = path.with_extension("key.new");
        // Left by a start that was cut short.
        let _ = fs::remove_file(&draft);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
        writeln!(file, "{MASTER_KEY_PREFIX}{}", BASE64.encode(self.0.expose())).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        // Unlike a rename, a link never replaces a key that is there.
        fs::hard_link(&draft, path).and_then(|()| fs::remove_file(&draft)).map_err(failed)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(directory.unwrap_or(Path::new("."))).and_then(|it| it.sync_all()).map_err(failed)
    }

    fn key(&self) -> RandomizedNonceKey {
        seal_key(&derive(self.0.expose(), b"countersign wrap"))
    }
}

fn key_error(message: String) -> Error {
    Error::Store(message)
}

/// The keys as they are stored: everything in it is sealed.
#[derive(Serialize, Deserialize)]
struct StoredKeys {
    /// Recognises the master key without telling anything about it.
    master: String,
    data: Vec<WrappedKey>,
    signing: StoredSigningKey,
    canary: Sealed,
}

#[derive(Serialize, Deserialize)]
struct WrappedKey {
    id: KeyId,
    wrapped: String,
    created_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct StoredSigningKey {
    id: String,
    sealed: Sealed,
    created_at: Timestamp,
}

/// A data key in use: one key to seal, one to hash, both derived from it.
struct DataKey {
    seal: RandomizedNonceKey,
    tag: hmac::Key,
}

impl DataKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let tag = derive(bytes, b"countersign tag");
        Self {
            seal: seal_key(&derive(bytes, b"countersign seal")),
            tag: hmac::Key::new(hmac::HMAC_SHA256, tag.expose()),
        }
    }
}

/// The opened keys.
pub struct Keys {
    data: HashMap<KeyId, DataKey>,
    current: KeyId,
    signing: SigningKey,
}

/// The key that signs tokens and checkpoints.
pub struct SigningKey {
    /// Its id, as tokens name it.
    pub id: String,
    pair: Ed25519KeyPair,
    pkcs8: Secret<Vec<u8>>,
}

impl SigningKey {
    fn from_pkcs8(id: String, pkcs8: Secret<Vec<u8>>) -> Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.expose())
            .map_err(|_| key_error("open signing key: it is malformed".into()))?;
        Ok(Self { id, pair, pkcs8 })
    }

    /// Returns the private key in PKCS#8, for the token library.
    pub fn pkcs8(&self) -> &[u8] {
        self.pkcs8.expose()
    }

    /// Returns the public key's 32 bytes.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// Tells whether `signature` over `message` is ours.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public()).verify(message, signature).is_ok()
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl Keys {
    /// Tells whether the store has keys already.
    pub async fn exist(store: &Store) -> Result<bool> {
        Ok(store.meta(KEYS_ENTRY).await?.is_some())
    }

    /// Makes the first data key, the signing key and the canary, and stores them sealed.
    pub async fn create(store: &Store, master: &MasterKey, now: Timestamp) -> Result<Self> {
        let mut data = [0; KEY_BYTES];
        rand::rng().fill_bytes(&mut data);
        let data = Secret::new(data);
        let id = KeyId(1);
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
            .map_err(|_| key_error("make signing key: the cryptographic library refused".into()))?;
        let pkcs8 = Secret::new(pkcs8.as_ref().to_vec());

        let signing_id = thumbprint(&pkcs8)?;
        let keys = Self {
            data: HashMap::from([(id, DataKey::new(data.expose()))]),
            current: id,
            signing: SigningKey::from_pkcs8(signing_id.clone(), pkcs8.clone())?,
        };
        let stored = StoredKeys {
            master: master_check(master),
            data: vec![WrappedKey { id, wrapped: wrap(master, id, data.expose())?, created_at: now }],
            signing: StoredSigningKey {
                sealed: keys.seal(&signing_binding(), pkcs8.expose())?,
                id: signing_id,
                created_at: now,
            },
            canary: keys.seal(&canary_binding(), CANARY)?,
        };
        let body = serde_json::to_vec(&stored).map_err(|error| Error::Internal(error.to_string()))?;
        // Should two have started at once, the keys that were stored first are the keys.
        let standing = store.meta_once(KEYS_ENTRY, body).await?;
        Self::unwrap(&standing, master)
    }

    /// Opens the stored keys; refuses a wrong master key before anything is decided with it.
    pub async fn open(store: &Store, master: &MasterKey) -> Result<Self> {
        let body = store.meta(KEYS_ENTRY).await?.ok_or_else(|| {
            key_error(
                "open keys: the database has none; run `countersign init` on an empty data directory".into(),
            )
        })?;
        Self::unwrap(&body, master)
    }

    fn unwrap(body: &[u8], master: &MasterKey) -> Result<Self> {
        let stored: StoredKeys = serde_json::from_slice(body).map_err(|error| {
            key_error(format!("read stored keys: not as expected at column {}", error.column()))
        })?;
        if stored.master != master_check(master) {
            return Err(key_error(
                "open keys: this is not the master key the database was made with; restore the right one"
                    .into(),
            ));
        }
        let mut data = HashMap::new();
        for key in &stored.data {
            data.insert(key.id, DataKey::new(unwrap_key(master, key)?.expose()));
        }
        let current =
            stored.data.iter().map(|key| key.id).max().ok_or_else(|| key_error("open keys: none".into()))?;
        let ring = Ring { data: &data, current };
        let canary = ring.open(&canary_binding(), &stored.canary)?;
        if canary.expose() != CANARY {
            return Err(key_error("open keys: the canary is not what was sealed".into()));
        }
        let pkcs8 = ring.open(&signing_binding(), &stored.signing.sealed)?;
        let signing = SigningKey::from_pkcs8(stored.signing.id, pkcs8)?;
        Ok(Self { data, current, signing })
    }

    /// Returns the key that signs tokens and checkpoints.
    pub const fn signing(&self) -> &SigningKey {
        &self.signing
    }

    fn ring(&self) -> Ring<'_> {
        Ring { data: &self.data, current: self.current }
    }
}

impl Keyring for Keys {
    fn seal(&self, binding: &Binding, plain: &[u8]) -> Result<Sealed, KeyError> {
        self.ring().seal(binding, plain)
    }

    fn open(&self, binding: &Binding, sealed: &Sealed) -> Result<Secret<Vec<u8>>, KeyError> {
        self.ring().open(binding, sealed)
    }

    fn tag(&self, binding: &Binding, key: Option<KeyId>, message: &[u8]) -> Result<Tag, KeyError> {
        self.ring().tag(binding, key, message)
    }
}

/// The data keys alone: what seals and hashes while the rest is still being opened.
struct Ring<'a> {
    data: &'a HashMap<KeyId, DataKey>,
    current: KeyId,
}

impl Ring<'_> {
    fn key(&self, id: KeyId) -> Result<&DataKey, KeyError> {
        self.data.get(&id).ok_or(KeyError::UnknownKey(id))
    }
}

impl Keyring for Ring<'_> {
    fn seal(&self, binding: &Binding, plain: &[u8]) -> Result<Sealed, KeyError> {
        let bytes = seal_with(&self.key(self.current)?.seal, &binding.to_bytes(), plain)?;
        Ok(Sealed { key: self.current, bytes })
    }

    fn open(&self, binding: &Binding, sealed: &Sealed) -> Result<Secret<Vec<u8>>, KeyError> {
        open_with(&self.key(sealed.key)?.seal, &binding.to_bytes(), &sealed.bytes)
    }

    fn tag(&self, binding: &Binding, key: Option<KeyId>, message: &[u8]) -> Result<Tag, KeyError> {
        let id = key.unwrap_or(self.current);
        let bound = binding.to_bytes();
        let mut context = hmac::Context::with_key(&self.key(id)?.tag);
        // The length keeps binding and message apart.
        context.update(&u64::try_from(bound.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(&bound);
        context.update(message);
        let mut bytes = [0; TAG_BYTES];
        bytes.copy_from_slice(&context.sign().as_ref()[..TAG_BYTES]);
        Ok(Tag { key: id, bytes })
    }
}

/// Lays a sealed value out as nonce, cipher text, tag.
fn seal_with(key: &RandomizedNonceKey, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut text = plain.to_vec();
    let nonce =
        key.seal_in_place_append_tag(Aad::from(bound), &mut text).map_err(|_| KeyError::CannotSeal)?;
    Ok([nonce.as_ref(), &text[..]].concat())
}

fn open_with(key: &RandomizedNonceKey, bound: &[u8], bytes: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
    let (nonce, text) = bytes.split_at_checked(NONCE_LEN).ok_or(KeyError::DoesNotOpen)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeyError::DoesNotOpen)?;
    let mut text = zeroize::Zeroizing::new(text.to_vec());
    let plain = key.open_in_place(nonce, Aad::from(bound), &mut text).map_err(|_| KeyError::DoesNotOpen)?;
    Ok(Secret::new(plain.to_vec()))
}

fn seal_key(bytes: &Secret<[u8; KEY_BYTES]>) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, bytes.expose()).expect("AES-256 takes a key of 32 bytes")
}

/// HKDF-SHA-256 (RFC 5869) without salt: the input is uniformly random already.
fn derive(key: &[u8; KEY_BYTES], info: &[u8]) -> Secret<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(key)
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|expanded| expanded.fill(&mut bytes))
        .expect("HKDF-SHA-256 gives 32 bytes");
    bytes.into()
}

fn wrap(master: &MasterKey, id: KeyId, key: &[u8; KEY_BYTES]) -> Result<String> {
    Ok(BASE64.encode(&seal_with(&master.key(), &wrap_binding(id), key)?))
}

fn unwrap_key(master: &MasterKey, key: &WrappedKey) -> Result<Secret<[u8; KEY_BYTES]>> {
    let broken = || key_error(format!("open data key {}: it was altered", key.id));
    let bytes = BASE64.decode(key.wrapped.as_bytes()).map_err(|_| broken())?;
    let plain = open_with(&master.key(), &wrap_binding(key.id), &bytes).map_err(|_| broken())?;
    Ok(Secret::new(plain.expose().as_slice().try_into().map_err(|_| broken())?))
}

fn wrap_binding(id: KeyId) -> Vec<u8> {
    format!("countersign data key {id}").into_bytes()
}

/// A short value derived from the master key that is useless for anything but telling whether it is the same.
fn master_check(master: &MasterKey) -> String {
    HEXLOWER.encode(&derive(master.0.expose(), b"countersign master check").expose()[..8])
}

/// The JWK thumbprint of the public key (RFC 7638, RFC 8037 §2) serves as the key's id.
fn thumbprint(pkcs8: &Secret<Vec<u8>>) -> Result<String> {
    let key = SigningKey::from_pkcs8(String::new(), pkcs8.clone())?;
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, BASE64URL_NOPAD.encode(key.public()));
    Ok(BASE64URL_NOPAD.encode(&Sha256::digest(jwk)))
}

fn signing_binding() -> Binding {
    Binding::of_installation(Purpose::SigningKey, Uuid::nil())
}

fn canary_binding() -> Binding {
    Binding::of_installation(Purpose::Canary, Uuid::nil())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> HashMap<KeyId, DataKey> {
        HashMap::from([(KeyId(1), DataKey::new(&[7; KEY_BYTES]))])
    }

    #[test]
    fn a_sealed_value_opens_only_in_its_place() {
        let data = ring();
        let ring = Ring { data: &data, current: KeyId(1) };
        let sealed = ring.seal(&canary_binding(), b"text").expect("seal");

        assert_eq!(ring.open(&canary_binding(), &sealed).expect("open").expose(), b"text");
        assert_eq!(ring.open(&signing_binding(), &sealed).err(), Some(KeyError::DoesNotOpen));
        let mut altered = sealed.clone();
        altered.bytes[20] ^= 1;
        assert_eq!(ring.open(&canary_binding(), &altered).err(), Some(KeyError::DoesNotOpen));
        assert_eq!(
            ring.open(&canary_binding(), &Sealed { key: KeyId(2), ..sealed }).err(),
            Some(KeyError::UnknownKey(KeyId(2)))
        );
    }

    #[test]
    fn a_tag_depends_on_key_place_and_message() {
        let data = ring();
        let ring = Ring { data: &data, current: KeyId(1) };
        let tag = ring.tag(&canary_binding(), None, b"code").expect("tag");

        assert!(ring.matches(&canary_binding(), &tag, b"code").expect("matches"));
        assert!(!ring.matches(&canary_binding(), &tag, b"c0de").expect("matches"));
        assert!(!ring.matches(&signing_binding(), &tag, b"code").expect("matches"));
    }

    #[test]
    fn a_master_key_file_is_private_and_reads_back() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join(MASTER_KEY_FILE);
        let key = MasterKey::generate();
        key.write(&path).expect("write");

        let read = MasterKey::find(None, directory.path()).expect("find").expect("a key");
        assert_eq!(read.0.expose(), key.0.expose());
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        assert!(key.write(&path).is_err(), "an existing key is never overwritten");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        let error = MasterKey::find(None, directory.path()).err().expect("refused").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_with_a_reason() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join(MASTER_KEY_FILE);
        MasterKey::generate().write(&path).expect("write");
        fs::write(&path, "hello").expect("overwrite");

        let error = MasterKey::find(None, directory.path()).err().expect("refused").to_string();
        assert!(error.contains("not a Countersign master key"), "{error}");
    }
}
