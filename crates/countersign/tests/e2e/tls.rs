//! HTTPS with certificate files, as curl sees it.

use crate::{
    installation::{Installation, Running, refuses},
    tools::{curl, run_curl, signal},
};
use serde_json::json;
use std::{fs, path::PathBuf, process::Command};

/// A certificate, its key, and a copy that clients trust.
struct Certificate {
    trusted: PathBuf,
}

/// Writes a new pair to the files the server reads, and its certificate to a file for clients.
fn certify(installation: &Installation, name: &str) -> Certificate {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let pair = rcgen::generate_simple_self_signed(names).expect("a pair");
    let trusted = installation.beside(&format!("{name}.pem"));
    fs::write(&trusted, pair.cert.pem()).expect("write");
    fs::write(installation.beside("tls.key"), pair.signing_key.serialize_pem()).expect("write");
    fs::write(installation.beside("tls.crt"), pair.cert.pem()).expect("write");
    Certificate { trusted }
}

fn command(installation: &Installation) -> Command {
    let mut command = installation.command(["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("COUNTERSIGN__SERVER__CERTIFICATE_FILE", installation.beside("tls.crt"))
        .env("COUNTERSIGN__SERVER__PRIVATE_KEY_FILE", installation.beside("tls.key"));
    command
}

fn serve(installation: &Installation) -> Running {
    let mut server = Running::start(command(installation));
    server.url = server.url.replace("http:", "https:");
    server
}

impl Certificate {
    fn is_served(&self, server: &Running) -> bool {
        let output = run_curl(["--cacert".as_ref(), self.trusted.as_os_str(), server.at("/readyz").as_ref()]);
        // 60: the peer's certificate cannot be verified.
        assert!(matches!(output.status.code(), Some(0 | 60)), "{output:?}");
        output.status.success()
    }
}

#[test]
fn curl_speaks_http_2_and_http_1_1_over_tls() {
    let installation = Installation::new();
    let certificate = certify(&installation, "first");
    let server = serve(&installation);
    let trusted = certificate.trusted.to_str().expect("a path");
    let client = installation.client();
    let body = json!({"username": "ada"}).to_string();

    let created = curl(["--cacert", trusted, "--user", &client, "--json", &body, &server.at("/v1/users")]);
    let read = curl(["--cacert", trusted, "--http1.1", "--user", &client, &server.at("/v1/users/ada")]);

    assert_eq!((created.status, created.protocol.as_str()), (201, "2"));
    assert_eq!((read.status, read.protocol.as_str()), (200, "1.1"));
    let untrusting = run_curl([server.at("/readyz")]);
    assert_eq!(untrusting.status.code(), Some(60), "a self-signed certificate is not trusted by itself");
    let plain = run_curl([server.url.replace("https", "http")]);
    assert!(!plain.status.success(), "no plain HTTP on this port");
}

#[test]
fn a_hangup_brings_the_new_certificate_without_a_restart() {
    let installation = Installation::new();
    let old = certify(&installation, "old");
    let server = serve(&installation);
    assert!(old.is_served(&server));

    let new = certify(&installation, "new");
    signal(server.process(), "HUP");
    server.wait_for_log("TLS certificate loaded");

    assert!(new.is_served(&server));
    assert!(!old.is_served(&server));
}

#[test]
fn a_bad_certificate_keeps_the_one_in_use() {
    let installation = Installation::new();
    let good = certify(&installation, "good");
    let server = serve(&installation);

    fs::write(installation.beside("tls.crt"), "half a certifi").expect("write");
    signal(server.process(), "HUP");
    server.wait_for_log("keep the TLS certificate in use");

    assert!(good.is_served(&server));
}

#[test]
fn a_hangup_without_tls_does_not_end_the_server() {
    let installation = Installation::new();
    let server = installation.serve();

    signal(server.process(), "HUP");

    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(curl([server.at("/healthz")]).status, 200);
}

#[test]
fn tls_files_that_cannot_be_used_are_named() {
    let installation = Installation::new();
    certify(&installation, "first");
    let (certificate, key) = (installation.beside("tls.crt"), installation.beside("tls.key"));
    let (shown_certificate, shown_key) = (certificate.display().to_string(), key.display().to_string());
    let first_key = fs::read(&key).expect("read");

    certify(&installation, "second");
    fs::write(&key, &first_key).expect("write");
    refuses(command(&installation), &[&shown_certificate, &shown_key, "does not match"]);

    fs::write(&key, "no key").expect("write");
    refuses(command(&installation), &[&shown_key, "no private key in it"]);

    fs::remove_file(&certificate).expect("remove");
    refuses(command(&installation), &[&shown_certificate, "no such file"]);
}

#[test]
fn a_certificate_that_cannot_be_trusted_is_told_with_what_to_do() {
    for (is_ca, trusts, expected) in
        [(true, true, "basicConstraints=critical,CA:FALSE"), (false, false, "--ca-file")]
    {
        let installation = Installation::new();
        let certificate = certify(&installation, "first");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut parameters = rcgen::CertificateParams::new(names).expect("parameters");
        if is_ca {
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        let own = parameters.self_signed(&key).expect("a certificate").pem();
        fs::write(installation.beside("tls.key"), key.serialize_pem()).expect("write");
        fs::write(installation.beside("tls.crt"), &own).expect("write");
        if trusts {
            fs::write(&certificate.trusted, &own).expect("write");
        }
        let server = serve(&installation);

        let mut command = installation.command(["client", "list", "--url", &server.url, "--ca-file"]);
        command.arg(&certificate.trusted).env("COUNTERSIGN_TOKEN", "x");

        refuses(command, &["invalid peer certificate", expected]);
    }
}
