//! The server's certificate, renewed without a restart.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use zeroize::Zeroizing;

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {file}: {}", reason(.cause))]
    Read {
        /// The file.
        file: PemFile,
        /// What the operating system says.
        cause: io::Error,
    },
    /// A file is not PEM.
    #[error("read {file}: {cause}")]
    Malformed {
        /// The file.
        file: PemFile,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The certificate file holds no certificate.
    #[error("read {0}: no certificate in it")]
    NoCertificate(PemFile),
    /// The key file holds no private key.
    #[error("read {0}: no private key in it")]
    NoKey(PemFile),
    /// The private key is protected by a passphrase.
    #[error("read {0}: the private key is encrypted, write it without a passphrase")]
    EncryptedKey(PemFile),
    /// Certificate and key belong to different pairs.
    #[error("use {certificate} with {key}: the private key does not match the certificate")]
    Mismatch {
        /// The certificate file.
        certificate: PemFile,
        /// The key file.
        key: PemFile,
    },
    /// Certificate or key are of a kind we cannot use.
    #[error("use {certificate} with {key}: {cause}")]
    Unusable {
        /// The certificate file.
        certificate: PemFile,
        /// The key file.
        key: PemFile,
        /// What the TLS library says.
        cause: Box<rustls::Error>,
    },
}

/// A file named by an error, with its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemFile {
    /// The certificate chain.
    Certificate(PathBuf),
    /// The private key.
    Key(PathBuf),
}

impl PemFile {
    fn path(&self) -> &Path {
        match self {
            Self::Certificate(path) | Self::Key(path) => path,
        }
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, TlsError> {
        let bytes = fs::read(self.path()).map_err(|cause| TlsError::Read { file: self.clone(), cause })?;
        Ok(Zeroizing::new(bytes))
    }
}

impl fmt::Display for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(path) => write!(f, "certificate file {}", path.display()),
            Self::Key(path) => write!(f, "private key file {}", path.display()),
        }
    }
}

/// A TLS configuration that follows its two files.
///
/// A connection keeps the configuration it started with; the next one gets the newest.
#[derive(Clone, Debug)]
pub struct Reloading {
    certificate: PemFile,
    key: PemFile,
    loaded: Stamps,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Reloading {
    /// Loads a certificate chain and its private key from PEM files.
    pub fn load(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let certificate = PemFile::Certificate(certificate.into());
        let key = PemFile::Key(key.into());
        let loaded = stamps(&certificate, &key);
        let current = Arc::new(ArcSwap::from_pointee(configuration(&certificate, &key)?));
        Ok(Self { certificate, key, loaded, current })
    }

    /// Returns the configuration for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads both files again; keeps what it has, and says so in the log, when they cannot be used.
    pub fn reload(&self) -> Result<(), TlsError> {
        match configuration(&self.certificate, &self.key) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                info!("TLS certificate loaded from {}", self.certificate.path().display());
                Ok(())
            }
            Err(error) => {
                warn!("keep the TLS certificate in use: {error}");
                Err(error)
            }
        }
    }

    /// Reloads on SIGHUP and when a file changes, looking every `interval`; never returns.
    pub async fn watch(self, interval: Duration) {
        let mut hangups = hangups();
        let mut seen = self.loaded;
        loop {
            let asked = tokio::select! {
                () = next(&mut hangups) => true,
                () = tokio::time::sleep(interval) => false,
            };
            let this = self.clone();
            let look = tokio::task::spawn_blocking(move || this.follow(seen, asked));
            seen = look.await.unwrap_or(seen);
        }
    }

    /// Reloads when asked to or when the files are not those `seen`; returns what it saw.
    fn follow(&self, seen: Stamps, asked: bool) -> Stamps {
        // Taken before reading: a write in between is one more change at the next look.
        let found = stamps(&self.certificate, &self.key);
        if asked || found != seen {
            // The outcome is in the log; tried again when a file changes once more.
            let _ = self.reload();
        }
        found
    }
}

type Stamps = [Option<Stamp>; 2];

fn stamps(certificate: &PemFile, key: &PemFile) -> Stamps {
    [certificate, key].map(|file| Stamp::of(file.path()))
}

/// What changes when a file is written or replaced: modification time, size and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    size: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self { modified, size: metadata.len(), inode: metadata.ino() })
    }
}

fn hangups() -> Option<Signal> {
    signal(SignalKind::hangup())
        .inspect_err(|error| warn!("listen for SIGHUP: {error}; TLS files are still watched"))
        .ok()
}

async fn next(hangups: &mut Option<Signal>) {
    let Some(signal) = hangups else { return std::future::pending().await };
    if signal.recv().await.is_none() {
        std::future::pending().await
    }
}

fn configuration(certificate: &PemFile, key: &PemFile) -> Result<ServerConfig, TlsError> {
    let chain = read_chain(certificate)?;
    let private_key = read_key(key)?;
    // Given by hand: with a process-wide default, a second provider in the build would be a panic at run time.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has cipher suites for both versions")
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(|cause| unusable(certificate, key, cause))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn unusable(certificate: &PemFile, key: &PemFile, cause: rustls::Error) -> TlsError {
    let (certificate, key) = (certificate.clone(), key.clone());
    match cause {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { certificate, key },
        cause => TlsError::Unusable { certificate, key, cause: Box::new(cause) },
    }
}

fn read_chain(file: &PemFile) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = file.read()?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|cause| TlsError::Malformed { file: file.clone(), cause: fault(&cause) })?;
    if chain.is_empty() { Err(TlsError::NoCertificate(file.clone())) } else { Ok(chain) }
}

fn read_key(file: &PemFile) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = file.read()?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|cause| match cause {
        pem::Error::NoItemsFound if is_encrypted(&text) => TlsError::EncryptedKey(file.clone()),
        pem::Error::NoItemsFound => TlsError::NoKey(file.clone()),
        cause => TlsError::Malformed { file: file.clone(), cause: fault(&cause) },
    })
}

/// Names a fault without quoting the file, which may hold a key.
fn fault(cause: &pem::Error) -> &'static str {
    match cause {
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no end line",
        pem::Error::IllegalSectionStart { .. } => "the start line of a PEM section is malformed",
        pem::Error::Base64Decode(_) => "a PEM section is not base64",
        _ => "not a PEM file",
    }
}

fn is_encrypted(text: &[u8]) -> bool {
    const LABEL: &[u8] = b"BEGIN ENCRYPTED PRIVATE KEY";
    text.windows(LABEL.len()).any(|window| window == LABEL)
}

/// Puts the operating system's words into ours: lower case, without the number.
fn reason(cause: &io::Error) -> String {
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A directory with `cert.pem` and `key.pem`.
    struct Files(TempDir);

    impl Files {
        fn new() -> Self {
            let files = Self(TempDir::new().unwrap());
            files.renew();
            files
        }

        fn certificate(&self) -> PathBuf {
            self.0.path().join("cert.pem")
        }

        fn key(&self) -> PathBuf {
            self.0.path().join("key.pem")
        }

        /// Writes a new pair.
        fn renew(&self) {
            let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(self.certificate(), pair.cert.pem()).unwrap();
            fs::write(self.key(), pair.signing_key.serialize_pem()).unwrap();
        }

        fn load(&self) -> Result<Reloading, TlsError> {
            Reloading::load(self.certificate(), self.key())
        }

        /// Returns why loading fails, with the directory left out.
        fn refusal(&self) -> String {
            let directory = format!("{}/", self.0.path().display());
            self.load().unwrap_err().to_string().replace(&directory, "")
        }
    }

    async fn changes(tls: &Reloading, from: &Arc<ServerConfig>) -> bool {
        for _ in 0..100 {
            if !Arc::ptr_eq(&tls.config(), from) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[test]
    fn a_pair_is_served_with_both_protocols() {
        let tls = Files::new().load().unwrap();

        assert_eq!(tls.config().alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = Files::new();
        fs::remove_file(files.key()).unwrap();
        assert_eq!(files.refusal(), "read private key file key.pem: no such file or directory");

        fs::remove_file(files.certificate()).unwrap();
        assert_eq!(files.refusal(), "read certificate file cert.pem: no such file or directory");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let files = Files::new();
        let certificate = fs::read(files.certificate()).unwrap();
        files.renew();
        fs::write(files.certificate(), certificate).unwrap();

        assert_eq!(
            files.refusal(),
            "use certificate file cert.pem with private key file key.pem: \
             the private key does not match the certificate"
        );
    }

    #[test]
    fn a_file_without_its_part_is_refused() {
        let files = Files::new();
        let (certificate, key) = (fs::read(files.certificate()).unwrap(), fs::read(files.key()).unwrap());

        fs::write(files.certificate(), &key).unwrap();
        assert_eq!(files.refusal(), "read certificate file cert.pem: no certificate in it");

        fs::write(files.certificate(), &certificate).unwrap();
        fs::write(files.key(), &certificate).unwrap();
        assert_eq!(files.refusal(), "read private key file key.pem: no private key in it");
    }

    #[test]
    fn a_key_with_a_passphrase_is_refused_with_what_to_do() {
        let files = Files::new();
        let label = "ENCRYPTED PRIVATE KEY";
        fs::write(files.key(), format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n")).unwrap();

        assert!(files.refusal().ends_with("the private key is encrypted, write it without a passphrase"));
    }

    #[test]
    fn a_damaged_key_is_refused_without_quoting_it() {
        let files = Files::new();
        fs::write(files.key(), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").unwrap();
        assert_eq!(files.refusal(), "read private key file key.pem: a PEM section has no end line");

        fs::write(files.key(), "-----BEGIN PRIVATE KEY-----\n$$$$\n-----END PRIVATE KEY-----\n").unwrap();
        assert_eq!(files.refusal(), "read private key file key.pem: a PEM section is not base64");
    }

    #[test]
    fn a_bad_file_keeps_the_configuration_in_use() {
        let files = Files::new();
        let tls = files.load().unwrap();
        let before = tls.config();
        fs::write(files.certificate(), "nothing").unwrap();

        tls.reload().unwrap_err();

        assert!(Arc::ptr_eq(&tls.config(), &before));
    }

    #[tokio::test]
    async fn a_changed_file_is_picked_up() {
        let files = Files::new();
        let tls = files.load().unwrap();
        let before = tls.config();
        let watch = tokio::spawn(tls.clone().watch(Duration::from_millis(20)));

        files.renew();

        assert!(changes(&tls, &before).await);
        watch.abort();
    }

    #[tokio::test]
    async fn a_hangup_reloads_at_once() {
        let files = Files::new();
        let tls = files.load().unwrap();
        let before = tls.config();
        let watch = tokio::spawn(tls.clone().watch(Duration::from_secs(3600)));
        // The signal would end this process if the watch were not listening yet.
        let _listening = signal(SignalKind::hangup()).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;

        let pid = std::process::id().to_string();
        std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap();

        assert!(changes(&tls, &before).await);
        watch.abort();
    }
}
