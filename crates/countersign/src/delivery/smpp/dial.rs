//! Connecting to a centre, in clear or with TLS.

use crate::{
    config::delivery::smpp::SmppCentre,
    error::{Error, Result},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{io, path::Path, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// A connection of either kind.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What is needed to connect.
pub(super) struct Dial {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dial {
    /// Reads what the configuration says about the connection.
    pub(super) fn to(centre: &SmppCentre) -> Result<Self> {
        let tls = if centre.tls { Some(secured(centre)?) } else { None };
        Ok(Self { host: centre.host.clone(), port: centre.port, tls })
    }

    /// Connects.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await?),
        })
    }
}

fn secured(centre: &SmppCentre) -> Result<(TlsConnector, ServerName<'static>)> {
    let name = ServerName::try_from(centre.host.clone())
        .map_err(|_| Error::Store("read host: expected a host name or an address".into()))?;
    let trusted = match &centre.ca_file {
        Some(path) => given(path)?,
        None => of_the_system()?,
    };
    // Given by hand: with a process-wide default, a second provider in the build would be a panic at run time.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for both versions")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn given(path: &Path) -> Result<RootCertStore> {
    let failed = |cause: String| Error::Store(format!("read ca_file {}: {cause}", path.display()));
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        trusted.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if trusted.is_empty() { Err(failed("no certificate in it".into())) } else { Ok(trusted) }
}

fn of_the_system() -> Result<RootCertStore> {
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted.is_empty() {
        return Err(Error::Store("find certificates the system trusts: there are none, set ca_file".into()));
    }
    Ok(trusted)
}
