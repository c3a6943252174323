//! The connections to a mail server, and what is said on them.
//!
//! A connection belongs to one message at a time. Whoever gives a message up in the middle closes its connection: what
//! came next on it would be taken for part of the message.

use super::{
    account::Account,
    answer::{Refused, Stage},
};
use crate::{
    config::{
        delivery::mail::{Security, SmtpServer},
        secret,
    },
    error::{Error, Result},
};
use countersign_core::refusal::Invalid;
use lettre::{
    Address,
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection as Connection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail, Rcpt, Rset},
        extension::{ClientId, Extension, MailParameter},
    },
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};

/// How long a connection may lie idle. Servers close theirs after a few minutes (RFC 5321 §4.5.3.2.7).
const IDLE: Duration = Duration::from_secs(60);
/// How long leaving politely may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A mail server and the connections to it.
pub(super) struct Relay {
    host: String,
    port: u16,
    security: Security,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    account: Account,
    timeout: Duration,
    hello: ClientId,
    slots: Semaphore,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Relay {
    /// Reads certificates and password.
    pub(super) fn new(server: &SmtpServer) -> Result<Self> {
        let password = secret::read("password", server.password.as_ref(), server.password_file.as_deref())?;
        let credentials = server.username.clone().zip(password);
        Ok(Self {
            host: server.host.clone(),
            port: server.port(),
            security: server.security,
            tls: tls(server)?,
            credentials: credentials
                .map(|(name, password)| Credentials::new(name, password.expose().clone())),
            account: Account::with(&server.name),
            timeout: Duration::from_secs(server.timeout_seconds),
            hello: ClientId::default(),
            slots: Semaphore::new(server.pool),
            idle: Mutex::default(),
        })
    }

    /// Hands over one mail and returns what the server said to it.
    pub(super) async fn deliver(&self, from: Address, to: Address, mail: &[u8]) -> Result<String, Refused> {
        let _slot = self.slots.acquire().await.expect("nobody closes the semaphore");
        let mut connection = self.connection().await?;
        let mut stage = Stage::Sender;
        let dialogue = hand_over(&mut connection, &mut stage, from, to, mail);
        match timeout(self.timeout, dialogue).await {
            Err(_) => Err(Refused::Timeout(stage)),
            Ok(Ok(answer)) => {
                self.lock().push((Instant::now(), connection));
                Ok(answer)
            }
            Ok(Err(refused)) => {
                leave(connection).await;
                Err(refused)
            }
        }
    }

    /// Connects, signs in, names the sender and leaves.
    pub(super) async fn greet(&self, from: Address) -> Result<(), Refused> {
        let _slot = self.slots.acquire().await.expect("nobody closes the semaphore");
        let mut connection = self.open().await?;
        let named = timeout(self.timeout, name_sender(&mut connection, from)).await;
        leave(connection).await;
        named.unwrap_or(Err(Refused::Timeout(Stage::Sender)))
    }

    /// Returns a connection that waits for a mail.
    async fn connection(&self) -> Result<Connection, Refused> {
        while let Some((since, mut connection)) = self.take_idle() {
            if since.elapsed() < IDLE && timeout(FAREWELL, connection.test_connected()).await == Ok(true) {
                return Ok(connection);
            }
        }
        self.open().await
    }

    async fn open(&self) -> Result<Connection, Refused> {
        self.account.may_be_used(Instant::now())?;
        timeout(self.timeout, self.connect()).await.unwrap_or(Err(Refused::Timeout(Stage::Connect)))
    }

    async fn connect(&self) -> Result<Connection, Refused> {
        let failed = |error| Refused::By(Stage::Connect, error);
        let at_once = self.tls.clone().filter(|_| self.security == Security::Tls);
        let server = (self.host.as_str(), self.port);
        let mut connection =
            Connection::connect_tokio1(server, Some(self.timeout), &self.hello, at_once, None)
                .await
                .map_err(failed)?;
        if let (Security::Starttls, Some(tls)) = (self.security, &self.tls) {
            if !connection.can_starttls() {
                return Err(Refused::Lacks(Stage::Connect, "the server offers no STARTTLS"));
            }
            connection.starttls(tls.clone(), &self.hello).await.map_err(failed)?;
        }
        if let Some(credentials) = &self.credentials {
            if !connection.is_encrypted() {
                return Err(Refused::Lacks(Stage::SignIn, "no password goes over a plain connection"));
            }
            let _turn = self.account.turn().await?;
            let refused = |error| self.account.failed(Refused::By(Stage::SignIn, error), Instant::now());
            connection.auth(DEFAULT_MECHANISMS, credentials).await.map_err(refused)?;
            self.account.worked();
        }
        Ok(connection)
    }

    fn take_idle(&self) -> Option<(Instant, Connection)> {
        self.lock().pop()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what makes up one mail; `stage` tells how far that got.
async fn hand_over(
    connection: &mut Connection,
    stage: &mut Stage,
    from: Address,
    to: Address,
    mail: &[u8],
) -> Result<String, Refused> {
    let parameters = parameters(connection, &from, &to)?;
    let at = |stage: Stage| move |error| Refused::By(stage, error);
    connection.command(Mail::new(Some(from), parameters)).await.map_err(at(*stage))?;
    *stage = Stage::Recipient;
    connection.command(Rcpt::new(to, Vec::new())).await.map_err(at(*stage))?;
    *stage = Stage::Content;
    connection.command(Data).await.map_err(at(*stage))?;
    let answer = connection.message(mail).await.map_err(at(*stage))?;
    Ok(answer.message().collect::<Vec<_>>().join(" "))
}

/// Says the beginning of a mail, and takes it back.
async fn name_sender(connection: &mut Connection, from: Address) -> Result<(), Refused> {
    let parameters = parameters(connection, &from, &from)?;
    let failed = |error| Refused::By(Stage::Sender, error);
    connection.command(Mail::new(Some(from), parameters)).await.map_err(failed)?;
    connection.command(Rset).await.map_err(failed)?;
    Ok(())
}

/// Asks for what addresses beyond ASCII need (RFC 6531 §3.1). Whoever cannot do that will never reach them.
fn parameters(connection: &Connection, from: &Address, to: &Address) -> Result<Vec<MailParameter>, Refused> {
    let is_plain = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    if is_plain(from) && is_plain(to) {
        return Ok(Vec::new());
    }
    if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
        return Err(Refused::Lacks(Stage::Sender, "the address needs SMTPUTF8, which the server lacks"));
    }
    Ok(vec![MailParameter::SmtpUtfEight])
}

/// Closes a connection as the standard asks for, without waiting long for it.
async fn leave(mut connection: Connection) {
    let _ = timeout(FAREWELL, connection.quit()).await;
}

fn tls(server: &SmtpServer) -> Result<Option<TlsParameters>> {
    if server.security == Security::None {
        return Ok(None);
    }
    let mut builder = TlsParameters::builder(server.host.clone());
    if let Some(path) = &server.ca_file {
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authority(path)?);
    }
    let failed = |error| Error::Store(format!("set up TLS to mail server {}: {error}", server.name));
    builder.build().map(Some).map_err(failed)
}

fn authority(path: &Path) -> Result<Certificate> {
    let text =
        fs::read(path).map_err(|error| Error::Store(format!("read ca_file {}: {error}", path.display())))?;
    let has_one = CertificateDer::pem_slice_iter(&text).next().is_some_and(|first| first.is_ok());
    let expected = || Invalid::new("ca_file", format!("expected certificates in PEM in {}", path.display()));
    if !has_one {
        return Err(expected().into());
    }
    Ok(Certificate::from_pem(&text).map_err(|_| expected())?)
}
