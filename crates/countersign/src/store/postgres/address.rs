//! Where the database is: the URL, and how far a connection there can be trusted.

use super::{failure::text, hosts::CONNECT};
use crate::{
    config::Data,
    error::{Error, Result},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{net::IpAddr, path::Path, str::FromStr, time::Duration};
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long the network may keep what was sent to itself.
const UNACKNOWLEDGED: Duration = Duration::from_secs(4);

/// Where the database is, a configuration for each host.
pub(super) struct Address {
    pub(super) hosts: Vec<Config>,
    pub(super) tls: MakeRustlsConnect,
}

impl Address {
    /// Reads the settings. Errors name the key, and never quote what may be a password.
    pub(super) fn of(settings: &Data) -> Result<Self> {
        let url = settings.url()?.ok_or_else(|| mistake("it is not set"))?;
        let (plain, ours) = split(url.expose())?;
        let mut config = Config::from_str(&plain).map_err(|error| mistake(&text(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(mistake("name a host: postgres://USER@HOST/DATABASE"));
        }
        if let Some(password) = settings.password()? {
            config.password(password.expose());
        }
        config
            .application_name("countersign")
            .connect_timeout(CONNECT)
            .tcp_user_timeout(UNACKNOWLEDGED)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3);
        let is_verified = match ours.mode.as_deref() {
            Some("verify-full") => true,
            Some("disable") => false,
            None => !config.get_hosts().iter().all(is_here),
            Some(_) => {
                return Err(mistake(
                    "sslmode is verify-full or disable: whoever sits between can read what is not verified",
                ));
            }
        };
        config.ssl_mode(if is_verified { SslMode::Require } else { SslMode::Disable });
        Ok(Self { hosts: each_host(&config), tls: MakeRustlsConnect::new(ours.client_config(is_verified)?) })
    }
}

fn mistake(what: &str) -> Error {
    Error::Store(format!("read store.url: {what}"))
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// Makes a configuration for each host, so that one that does not answer keeps nobody from the next.
fn each_host(config: &Config) -> Vec<Config> {
    let (hosts, ports) = (config.get_hosts(), config.get_ports());
    let port_of = |place: usize| ports.get(place).or(ports.first()).copied().unwrap_or(5432);
    (0..hosts.len())
        .map(|place| {
            let mut one = Config::new();
            match &hosts[place] {
                Host::Tcp(name) => one.host(name),
                Host::Unix(path) => one.host_path(path),
            };
            if let Some(address) = config.get_hostaddrs().get(place) {
                one.hostaddr(*address);
            }
            one.port(port_of(place)).ssl_mode(config.get_ssl_mode()).connect_timeout(CONNECT);
            one.target_session_attrs(TargetSessionAttrs::ReadWrite).application_name("countersign");
            one.tcp_user_timeout(UNACKNOWLEDGED)
                .keepalives_idle(config.get_keepalives_idle())
                .channel_binding(config.get_channel_binding());
            if let Some(user) = config.get_user() {
                one.user(user);
            }
            if let Some(password) = config.get_password() {
                one.password(password);
            }
            if let Some(name) = config.get_dbname() {
                one.dbname(name);
            }
            if let Some(options) = config.get_options() {
                one.options(options);
            }
            one
        })
        .collect()
}

/// The parameters of a URL that the library does not know.
#[derive(Default)]
struct Ours {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

/// Takes the parameters that are ours out of a URL.
fn split(url: &str) -> Result<(String, Ours)> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(mistake("expected postgres://USER@HOST:PORT/DATABASE"));
    }
    let mut ours = Ours::default();
    let Some((before, query)) = url.split_once('?') else { return Ok((url.to_owned(), ours)) };
    let mut rest = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let place = match name {
            "sslmode" => &mut ours.mode,
            "sslrootcert" => &mut ours.root,
            "sslcert" => &mut ours.certificate,
            "sslkey" => &mut ours.key,
            // We only ever work on the primary.
            "target_session_attrs" => continue,
            _ => {
                rest.push(parameter);
                continue;
            }
        };
        *place = Some(value.to_owned());
    }
    let plain = if rest.is_empty() { before.to_owned() } else { format!("{before}?{}", rest.join("&")) };
    Ok((plain, ours))
}

impl Ours {
    /// Prepares TLS: the certificate authorities of the URL, else of the system.
    fn client_config(&self, is_verified: bool) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        match &self.root {
            Some(path) => {
                for certificate in certificates("sslrootcert", path)? {
                    roots
                        .add(certificate)
                        .map_err(|error| mistake(&format!("sslrootcert {path}: {error}")))?;
                }
            }
            None if is_verified => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err(mistake(
                        "the system trusts no certificate authority; name one with sslrootcert=FILE",
                    ));
                }
            }
            None => {}
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(builder.with_no_client_auth());
        };
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| mistake(&format!("sslkey {key}: {error}")))?;
        builder
            .with_client_auth_cert(certificates("sslcert", certificate)?, private)
            .map_err(|error| mistake(&format!("sslcert {certificate}: {error}")))
    }
}

fn certificates(parameter: &str, path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |error| mistake(&format!("{parameter} {path}: {error}"));
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(Path::new(path)).map_err(failed)?.collect();
    match found.map_err(failed)? {
        none if none.is_empty() => Err(mistake(&format!("{parameter} {path}: no certificate in PEM"))),
        some => Ok(some),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::config::secret::Given;

    fn address(url: &str) -> Result<Address> {
        Address::of(&Data { url: Some(Given::new(url)), ..Data::default() })
    }

    fn refusal(url: &str) -> String {
        address(url).err().unwrap().to_string()
    }

    #[test]
    fn each_host_is_tried_for_itself() {
        let address = address("postgres://ada:secret@10.0.0.1:5433,db2,db3:5435/mfa").unwrap();

        let hosts: Vec<_> =
            address.hosts.iter().map(|host| (host.get_hosts().to_vec(), host.get_ports().to_vec())).collect();
        let tcp = |name: &str, port| (vec![Host::Tcp(name.into())], vec![port]);
        assert_eq!(hosts, [tcp("10.0.0.1", 5433), tcp("db2", 5432), tcp("db3", 5435)]);
        assert!(address.hosts.iter().all(|host| host.get_password() == Some(b"secret")));
    }

    #[test]
    fn only_what_stays_on_this_machine_may_go_unencrypted_by_itself() {
        let mode = |url: &str| address(url).unwrap().hosts[0].get_ssl_mode();

        assert_eq!(mode("postgres://localhost/mfa"), SslMode::Disable);
        assert_eq!(mode("postgres://127.0.0.1,[::1]/mfa"), SslMode::Disable);
        assert_eq!(mode("postgres://db.example/mfa"), SslMode::Require);
        assert_eq!(mode("postgres://localhost,db.example/mfa"), SslMode::Require);
        assert_eq!(mode("postgres://localhost/mfa?sslmode=verify-full"), SslMode::Require);
        assert_eq!(mode("postgres://db.example/mfa?connect_timeout=3&sslmode=disable"), SslMode::Disable);
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for (url, said) in [
            ("mysql://ada:hunter2@db/mfa", "expected postgres://"),
            ("postgres:///mfa", "name a host"),
            ("postgres://ada:hunter2@db:port/mfa", "port"),
            ("postgres://ada:hunter2@db/mfa?sslmode=prefer", "verify-full or disable"),
            ("postgres://ada:hunter2@db/mfa?sslrootcert=/nowhere.pem", "sslrootcert /nowhere.pem"),
            ("postgres://ada:hunter2@db/mfa?colour=red", "colour"),
        ] {
            let refusal = refusal(url);
            assert!(refusal.starts_with("read store.url: ") && refusal.contains(said), "{url}: {refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}
