//! `[dialects]`: whose clients are served where, and in which organisation.

use super::{Server, invalid};
use crate::error::Result;
use serde::Deserialize;
use std::{collections::BTreeMap, fmt};

/// A vendor whose clients are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Cocoon Data SafeShare, formerly Covata.
    SafeShare,
    /// Veeam Backup for Microsoft Azure.
    Veeam,
    /// RSA Cloud Administration.
    Rsa,
    /// Reltio.
    Reltio,
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Self; 4] = [Self::SafeShare, Self::Veeam, Self::Rsa, Self::Reltio];

    /// Returns the name used in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SafeShare => "safeshare",
            Self::Veeam => "veeam",
            Self::Rsa => "rsa",
            Self::Reltio => "reltio",
        }
    }

    /// Returns the path below which the dialect is always served.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::SafeShare => "/safeshare",
            Self::Veeam => "/veeam",
            Self::Rsa => "/rsa",
            Self::Reltio => "/reltio",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The dialects.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dialects {
    /// The dialect that owns `/` on every host that nobody else owns.
    pub root: Option<Dialect>,
    /// SafeShare, which is bound to the whole installation.
    pub safeshare: SafeShare,
    /// Veeam.
    pub veeam: Veeam,
    /// RSA.
    pub rsa: Rsa,
    /// Reltio.
    pub reltio: Reltio,
}

/// SafeShare: an administrator there is an owner here, so it has no organisation of its own.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SafeShare {
    /// Whether it is served at all.
    pub enabled: bool,
    /// The host names on which it owns `/`.
    pub hosts: Vec<String>,
}

/// Veeam.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Veeam {
    /// Whether it is served at all.
    pub enabled: bool,
    /// The host names on which it owns `/`.
    pub hosts: Vec<String>,
    /// The id or slug of the organisation it serves; the first one if empty.
    pub organisation: String,
    /// Writes `&40` for the `@` in key URIs, as the vendor's samples do.
    pub literal_at: bool,
}

/// RSA.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rsa {
    /// Whether it is served at all.
    pub enabled: bool,
    /// The host names on which it owns `/`.
    pub hosts: Vec<String>,
    /// The id or slug of the organisation it serves; the first one if empty.
    pub organisation: String,
    /// Takes tokens whose audience is scheme and host alone.
    pub origin_audience: bool,
}

/// Reltio.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reltio {
    /// Whether it is served at all.
    pub enabled: bool,
    /// The host names on which it owns `/`.
    pub hosts: Vec<String>,
    /// The id or slug of the organisation it serves; the first one if empty.
    pub organisation: String,
}

impl Default for SafeShare {
    fn default() -> Self {
        Self { enabled: true, hosts: Vec::new() }
    }
}

impl Default for Veeam {
    fn default() -> Self {
        Self { enabled: true, hosts: Vec::new(), organisation: String::new(), literal_at: false }
    }
}

impl Default for Rsa {
    fn default() -> Self {
        Self { enabled: true, hosts: Vec::new(), organisation: String::new(), origin_audience: false }
    }
}

impl Default for Reltio {
    fn default() -> Self {
        Self { enabled: true, hosts: Vec::new(), organisation: String::new() }
    }
}

impl Dialects {
    /// Tells whether a dialect is served.
    pub const fn is_enabled(&self, dialect: Dialect) -> bool {
        match dialect {
            Dialect::SafeShare => self.safeshare.enabled,
            Dialect::Veeam => self.veeam.enabled,
            Dialect::Rsa => self.rsa.enabled,
            Dialect::Reltio => self.reltio.enabled,
        }
    }

    /// Returns the host names on which a dialect owns `/`.
    pub fn hosts(&self, dialect: Dialect) -> &[String] {
        match dialect {
            Dialect::SafeShare => &self.safeshare.hosts,
            Dialect::Veeam => &self.veeam.hosts,
            Dialect::Rsa => &self.rsa.hosts,
            Dialect::Reltio => &self.reltio.hosts,
        }
    }

    /// Returns the organisation a dialect is bound to, by id or slug; `None` for the first one.
    pub fn organisation(&self, dialect: Dialect) -> Option<&str> {
        let named = match dialect {
            Dialect::SafeShare => "",
            Dialect::Veeam => &self.veeam.organisation,
            Dialect::Rsa => &self.rsa.organisation,
            Dialect::Reltio => &self.reltio.organisation,
        };
        (!named.is_empty()).then_some(named)
    }

    /// Refuses what would leave open whose a path is.
    pub(super) fn validate(&self, server: &Server) -> Result<()> {
        self.owners(server)?;
        let Some(root) = self.root else { return Ok(()) };
        if !self.is_enabled(root) {
            return Err(invalid(
                "dialects.root",
                &format!("{root} is switched off by dialects.{root}.enabled"),
            ));
        }
        if server.hosts.is_empty() {
            let advice =
                "needs server.hosts, the names on which the API of Countersign itself stays reachable";
            return Err(invalid("dialects.root", advice));
        }
        Ok(())
    }

    /// Returns who owns `/` on which host: a dialect, or (`None`) the native API.
    pub fn owners(&self, server: &Server) -> Result<BTreeMap<String, Option<Dialect>>> {
        let native = server.hosts.iter().map(|host| ("server.hosts".to_owned(), host, None));
        let bound = Dialect::ALL.into_iter().flat_map(|dialect| {
            let key = format!("dialects.{dialect}.hosts");
            self.hosts(dialect).iter().map(move |host| (key.clone(), host, Some(dialect)))
        });
        let mut owners = BTreeMap::new();
        for (key, host, owner) in native.chain(bound) {
            let name = bound_name(host).ok_or_else(|| {
                let expected =
                    "expected host names such as mfa.example.com, without scheme, port or wildcard";
                invalid(&key, &format!("{expected}, not {host:?}"))
            })?;
            if owner.is_some_and(|dialect| !self.is_enabled(dialect)) {
                return Err(invalid(&key, "goes with a dialect that is switched on"));
            }
            if let Some(other) = owners.insert(name, owner) {
                let other = other.map_or("the native API".to_owned(), |dialect| dialect.to_string());
                return Err(invalid(&key, &format!("{host} is bound to {other} already")));
            }
        }
        Ok(owners)
    }
}

/// Returns the name of a host that somebody is bound to. A port or a pattern would bind nobody: hosts are compared whole,
/// and without their ports.
fn bound_name(text: &str) -> Option<String> {
    let is_all = |name: &String| name.eq_ignore_ascii_case(text.trim_end_matches('.'));
    host_name(text).filter(is_all).filter(|name| !name.contains('*'))
}

/// Returns a host's name as it is compared: lower case, without port and final dot. `None` if it is none.
pub fn host_name(text: &str) -> Option<String> {
    let authority: http::uri::Authority = text.parse().ok()?;
    let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
    (!name.is_empty() && !text.contains(['@', '/'])).then_some(name)
}
