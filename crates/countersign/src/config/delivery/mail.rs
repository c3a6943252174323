//! Mail servers.

use crate::config::secret::Given;
use serde::Deserialize;
use std::{net::IpAddr, path::PathBuf};

/// A mail server that takes messages and sends them on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpServer {
    /// What operators call it.
    pub name: String,
    /// Its name or address; its certificate must be for this.
    pub host: String,
    /// Its port: 465 with `tls`, 587 with `starttls`, 25 with `none`, if not said.
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub security: Security,
    /// The account to sign in with.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Given>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// The sender, such as `Example <no-reply@example.com>`.
    pub from: String,
    /// Where replies go.
    pub reply_to: Option<String>,
    /// The certificates in PEM that the server's must lead to, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The most seconds connecting may take, and handing over a message.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// The most connections at the same time.
    #[serde(default = "default_pool")]
    pub pool: usize,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// TLS from the first byte (RFC 8314 §3.3).
    #[default]
    Tls,
    /// TLS after `STARTTLS`; a server without it gets nothing.
    Starttls,
    /// None; only for a server on this machine.
    None,
}

const fn default_timeout() -> u64 {
    10
}

const fn default_pool() -> usize {
    4
}

impl SmtpServer {
    /// Returns the member that is wrong, and why.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if self.host.trim().is_empty() {
            return Err(("host", "cannot be empty"));
        }
        if self.security == Security::None && !self.is_on_this_machine() {
            return Err(("security", "none is for 127.0.0.1, ::1 and localhost only; use tls or starttls"));
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        if self.username.is_some() != has_password {
            return Err(("username", "goes with password or password_file"));
        }
        if self.security == Security::None && self.username.is_some() {
            return Err(("username", "is sent with tls or starttls only"));
        }
        if self.password.is_some() && self.password_file.is_some() {
            return Err(("password", "goes without password_file"));
        }
        if !(1..=120).contains(&self.timeout_seconds) {
            return Err(("timeout_seconds", "expected 1 to 120"));
        }
        if !(1..=64).contains(&self.pool) {
            return Err(("pool", "expected 1 to 64"));
        }
        Ok(())
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            Security::Tls => 465,
            Security::Starttls => 587,
            Security::None => 25,
        })
    }

    fn is_on_this_machine(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(keys: &str) -> SmtpServer {
        let text = format!("name = \"relay\"\nfrom = \"a@example.com\"\n{keys}");
        toml::from_str(&text).expect("a server")
    }

    fn wrong(keys: &str) -> &'static str {
        server(keys).validate().expect_err(keys).0
    }

    #[test]
    fn a_server_needs_little_and_is_protected_unless_told_otherwise() {
        let relay = server("host = \"mail.example.com\"");

        assert_eq!(relay.validate(), Ok(()));
        assert_eq!((relay.security, relay.port()), (Security::Tls, 465));
        assert_eq!(server("host = \"mail.example.com\"\nsecurity = \"starttls\"").port(), 587);
        assert!(toml::from_str::<SmtpServer>("name = \"x\"\nhost = \"y\"\nfrom = \"z\"\nprot = 1").is_err());
    }

    #[test]
    fn nothing_goes_unprotected_to_another_machine() {
        for host in ["mail.example.com", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com"] {
            assert_eq!(wrong(&format!("host = \"{host}\"\nsecurity = \"none\"")), "security");
        }
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(server(&format!("host = \"{host}\"\nsecurity = \"none\"")).validate(), Ok(()));
        }
        let with_password = "host = \"localhost\"\nsecurity = \"none\"\nusername = \"u\"\npassword = \"p\"";
        assert_eq!(wrong(with_password), "username");
    }

    #[test]
    fn members_that_do_not_fit_are_named() {
        assert_eq!(wrong("host = \"\""), "host");
        assert_eq!(wrong("host = \"h\"\nusername = \"u\""), "username");
        assert_eq!(wrong("host = \"h\"\npassword = \"p\""), "username");
        assert_eq!(
            wrong("host = \"h\"\nusername = \"u\"\npassword = \"p\"\npassword_file = \"f\""),
            "password"
        );
        assert_eq!(wrong("host = \"h\"\ntimeout_seconds = 0"), "timeout_seconds");
        assert_eq!(wrong("host = \"h\"\npool = 65"), "pool");
    }
}
