//! The same with TLS, which the peer does not speak: something between it and us does.

use super::{Session, centre, receipt};
use crate::peers::smpp::Peer;
use countersign::delivery::Failure;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{path::PathBuf, sync::Arc};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Speaks TLS before a peer, as the holder of a new certificate.
struct Front {
    port: u16,
    directory: TempDir,
}

impl Front {
    async fn before(peer: &Peer) -> Self {
        let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), pair.cert.pem()).expect("written");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(forward(listener, TlsAcceptor::from(Arc::new(config)), peer.port));
        Self { port, directory }
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }
}

async fn forward(listener: TcpListener, acceptor: TlsAcceptor, to: u16) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut ours) = acceptor.accept(stream).await else { continue };
        let mut theirs = TcpStream::connect(("127.0.0.1", to)).await.expect("the peer");
        let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
    }
}

#[tokio::test]
async fn a_centre_we_trust_is_spoken_to_with_tls() {
    let peer = Peer::start(&[]);
    let front = Front::before(&peer).await;
    let trusted = format!("password = 'secret'\nca_file = '{}'", front.certificate().display());
    let session = Session::open(&centre(front.port, &trusted), 1);

    assert_eq!(session.send("123456").await, receipt("m1"));
}

#[tokio::test]
async fn a_centre_nobody_vouches_for_gets_no_password() {
    let peer = Peer::start(&[]);
    let (front, other) = (Front::before(&peer).await, Front::before(&peer).await);
    let trusted = format!("password = 'secret'\nca_file = '{}'", other.certificate().display());
    let session = Session::open(&centre(front.port, &trusted), 1);

    let Err(Failure::Temporary(reason)) = session.send("123456").await else { panic!("it was trusted") };

    assert!(reason.contains("certificate"), "{reason}");
    assert!(peer.events("connected").is_empty());
}
