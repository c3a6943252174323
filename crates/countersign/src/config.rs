//! The configuration: one TOML file, overridden by `COUNTERSIGN__SECTION__KEY`, overridden by the command line.
//!
//! Unknown keys are refused: a misspelt limit must not silently be no limit. The annotated default file is
//! `default.toml` beside this module, and a test holds it against the defaults in code.

pub mod delivery;
pub mod dialects;
pub mod secret;

use crate::error::{Error, Result};
use countersign_core::{Refusal, Secret, refusal::Invalid};
use delivery::{Delivery, Environment};
use dialects::Dialects;
use secret::Given;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

/// The annotated default configuration, as `countersign config default` prints it.
pub const DEFAULT: &str = include_str!("default.toml");

/// What stands before the name of every overriding environment variable.
const PREFIX: &str = "COUNTERSIGN__";

/// The server's configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the server listens and how.
    pub server: Server,
    /// Where the data is.
    pub store: Data,
    /// Where the master key is.
    pub keys: KeySource,
    /// How many requests are taken.
    pub limits: Limits,
    /// What tokens say.
    pub tokens: Tokens,
    /// What is logged and how.
    pub log: Log,
    /// How long the audit trail is kept.
    pub audit: Audit,
    /// How messages are delivered.
    pub delivery: Delivery,
    /// Whose clients are served where.
    pub dialects: Dialects,
}

/// Where the server listens and how.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// What the installation is for.
    pub environment: Environment,
    /// The address and port.
    pub listen: SocketAddr,
    /// The host names that are this API's own, whatever else is bound to `/`.
    pub hosts: Vec<String>,
    /// The certificate chain in PEM, for TLS.
    pub certificate_file: Option<PathBuf>,
    /// The certificate's private key in PEM.
    pub private_key_file: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` is believed, as addresses or networks.
    pub trusted_proxies: Vec<String>,
    /// The most bytes of a request's body.
    pub body_bytes: usize,
    /// The most seconds a request may take to arrive.
    pub header_seconds: u64,
    /// The most seconds a connection may be idle.
    pub idle_seconds: u64,
    /// The seconds the server goes on serving when it is asked to stop, while `/readyz` says no: as long as a balancer needs
    /// to notice.
    pub unready_seconds: u64,
    /// The most seconds that open requests get when the server stops.
    pub drain_seconds: u64,
    /// Also answers `POST /baseline` without doing anything: what measurements compare with.
    pub baseline: bool,
}

/// Where the data is: in a directory, or in PostgreSQL if a URL is set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The data directory. With a URL only the master key is there, if nothing else says where it is.
    pub directory: PathBuf,
    /// Where PostgreSQL is.
    pub url: Option<Given>,
    /// A file with the URL, because it may hold a password.
    pub url_file: Option<PathBuf>,
    /// The password, if the URL has none.
    pub password: Option<Given>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// The most connections to PostgreSQL.
    pub connections: usize,
    /// Whether every commit there waits for a standby (synchronous and strict), so that a fail-over loses none.
    pub synchronous: bool,
    /// Whether people are spread over several machines there (Citus, YugabyteDB), so that their changes share no commit.
    pub sharded: bool,
    /// Whether statements are prepared once a connection. Not behind a pooler in transaction mode.
    pub prepared_statements: bool,
}

impl Data {
    /// Returns where PostgreSQL is; `None` if the data is in the directory.
    pub fn url(&self) -> Result<Option<Secret<String>>> {
        secret::read("store.url", self.url.as_ref(), self.url_file.as_deref())
    }

    /// Returns the password that the URL leaves out.
    pub fn password(&self) -> Result<Option<Secret<String>>> {
        secret::read("store.password", self.password.as_ref(), self.password_file.as_deref())
    }

    /// Tells whether the data is in PostgreSQL.
    pub const fn is_remote(&self) -> bool {
        self.url.is_some() || self.url_file.is_some()
    }
}

/// Where the master key is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySource {
    /// A file with the master key, instead of the one in the data directory.
    pub master_key_file: Option<PathBuf>,
}

/// How many requests are taken. Zero switches a limit off.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests a second from one address.
    pub per_address: u32,
    /// Requests a second of one client or person.
    pub per_client: u32,
    /// Sign-ins and token requests a second from one address.
    pub sign_ins: u32,
    /// Open connections.
    pub connections: usize,
    /// Open connections from one address.
    pub connections_per_address: usize,
}

/// What tokens say.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// The issuer (`iss`), which is also the base of the metadata's addresses. Derived from `listen` when empty.
    pub issuer: String,
}

/// How long the audit trail is kept.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Days after which events are archived and leave the database. 0: they stay.
    pub keep_days: u32,
    /// Where the archive is.
    pub archive_directory: Option<PathBuf>,
}

impl Audit {
    fn validate(&self) -> Result<()> {
        if self.keep_days > 36_500 {
            return Err(invalid("audit.keep_days", "expected 0 to 36500"));
        }
        if self.keep_days > 0 && self.archive_directory.is_none() {
            let message =
                "has to be set with audit.keep_days: events are archived before they leave the database";
            return Err(invalid("audit.archive_directory", message));
        }
        Ok(())
    }
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `pretty`, `json` or `auto`: pretty on a terminal, else JSON.
    pub format: LogFormat,
    /// A filter such as `info` or `countersign=debug,warn`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

#[expect(clippy::derivable_impls, reason = "each section says its own defaults; this lists the sections")]
impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            store: Data::default(),
            keys: KeySource::default(),
            limits: Limits::default(),
            tokens: Tokens::default(),
            log: Log::default(),
            audit: Audit::default(),
            delivery: Delivery::default(),
            dialects: Dialects::default(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            environment: Environment::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            hosts: Vec::new(),
            certificate_file: None,
            private_key_file: None,
            trusted_proxies: Vec::new(),
            body_bytes: 64 * 1024,
            header_seconds: 10,
            idle_seconds: 75,
            unready_seconds: 0,
            drain_seconds: 20,
            baseline: false,
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("countersign-data"),
            url: None,
            url_file: None,
            password: None,
            password_file: None,
            connections: 16,
            synchronous: false,
            sharded: false,
            prepared_statements: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_address: 2_000,
            per_client: 5_000,
            sign_ins: 20,
            connections: 10_000,
            connections_per_address: 1_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".into() }
    }
}

/// Says what is wrong with a key that was read well and does not fit the installation, and who set it.
pub fn misfit(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    invalid: &Invalid,
) -> Error {
    let key_of =
        |name: String| Some((name.strip_prefix(PREFIX)?.to_ascii_lowercase().replace("__", "."), name));
    let variables = environment.filter_map(|(name, _)| key_of(name)).collect();
    Origin { file, variables }.mistake(&invalid.field, &invalid.message)
}

impl Config {
    /// Reads the file, if one is named, and the environment.
    pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let mut origin = Origin { file, variables: BTreeMap::new() };
        let mut table = origin.table()?;
        for (name, value) in environment {
            if let Some(path) = name.strip_prefix(PREFIX) {
                let key = override_key(&mut table, &name, path, &value)?;
                origin.variables.insert(key, name);
            }
        }
        let config: Self = serde_path_to_error::deserialize(Value::Table(table))
            .map_err(|error| origin.mistake(&error.path().to_string(), error.inner().message()))?;
        config.validate().map_err(|error| match error {
            Error::Refused(Refusal::Invalid(invalid)) => origin.mistake(&invalid.field, &invalid.message),
            other => other,
        })?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        if self.server.certificate_file.is_some() != self.server.private_key_file.is_some() {
            return Err(invalid("server.certificate_file", "goes with server.private_key_file"));
        }
        if !(1024..=16 * 1024 * 1024).contains(&self.server.body_bytes) {
            return Err(invalid("server.body_bytes", "expected 1024 to 16777216"));
        }
        if !(4..=1000).contains(&self.store.connections) {
            return Err(invalid("store.connections", "expected 4 to 1000"));
        }
        self.audit.validate()?;
        self.dialects.validate(&self.server)?;
        self.delivery.validate(self.server.environment)
    }

    /// Returns the issuer of tokens.
    pub fn issuer(&self) -> String {
        if !self.tokens.issuer.is_empty() {
            return self.tokens.issuer.trim_end_matches('/').to_owned();
        }
        let scheme = if self.server.certificate_file.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.server.listen)
    }
}

impl Config {
    /// Returns where the native API is reached: with a dialect at `/`, at the first of its own names.
    pub fn own_address(&self) -> String {
        let issuer = self.issuer();
        match (self.dialects.root, self.server.hosts.first()) {
            (Some(_), Some(host)) => {
                let scheme = issuer.split("://").next().unwrap_or("https");
                format!("{scheme}://{host}:{}", self.server.listen.port())
            }
            _ => issuer,
        }
    }
}

/// Where settings come from: what is named when one of them is wrong.
struct Origin<'a> {
    file: Option<&'a Path>,
    /// The environment variables that were read, by the key they set.
    variables: BTreeMap<String, String>,
}

impl Origin<'_> {
    fn table(&self) -> Result<Table> {
        let Some(path) = self.file else { return Ok(Table::new()) };
        let failed = |why: String| Error::Store(format!("{}: {why}", self.place()));
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        text.parse().map_err(|error| failed(syntax_error(&text, &error)))
    }

    fn place(&self) -> String {
        match self.file {
            Some(path) => format!("read configuration {}", path.display()),
            None => "read configuration".into(),
        }
    }

    /// Says what is wrong with a key, and who set it.
    fn mistake(&self, key: &str, message: &str) -> Error {
        Error::Store(match self.variable(key) {
            Some((set, name)) if set == key && !message.starts_with(UNKNOWN) => {
                format!("read environment variable {name}: {message}")
            }
            Some((_, name)) => format!("read environment variable {name}: {}", told(key, message)),
            None => format!("{}: {}", self.place(), told(key, message)),
        })
    }

    /// Returns the variable that set a key, or something around or below it.
    fn variable(&self, key: &str) -> Option<(&String, &String)> {
        let is_within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.variables.iter().find(|(set, _)| is_within(key, set) || is_within(set, key))
    }
}

/// How serde begins to complain of a key it does not know.
const UNKNOWN: &str = "unknown field `";

/// Says what is wrong with a key, and its name once. What begins with a provider's name in brackets follows its place.
fn told(key: &str, message: &str) -> String {
    let unknown = message.strip_prefix(UNKNOWN).and_then(|rest| rest.split_once('`'));
    let (key, message) = match unknown {
        Some((name, rest)) => {
            let section = key.strip_suffix(name).unwrap_or(key).trim_end_matches('.');
            (section, format!("unknown key {name}{rest}"))
        }
        None => (key.trim_end_matches('.'), message.to_owned()),
    };
    match message.as_str() {
        message if key.is_empty() => message.to_owned(),
        message if message.starts_with('(') => format!("{key} {message}"),
        message => format!("{key}: {message}"),
    }
}

/// Says where a file is no TOML, without quoting the line: it may hold a secret.
fn syntax_error(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
    format!("line {line}: {}", error.message())
}

fn invalid(field: &str, message: &str) -> Error {
    Invalid::new(field, message).into()
}

/// Sets `section.key` from `SECTION__KEY` and returns it; what reads as a number, a truth value or a list is one.
fn override_key(table: &mut Table, name: &str, path: &str, value: &str) -> Result<String> {
    let lower = path.to_ascii_lowercase();
    let Some((sections, key)) = lower.rsplit_once("__") else {
        return Err(Error::Store(format!("read environment variable {name}: expected {PREFIX}SECTION__KEY")));
    };
    let value = match value.trim() {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        list if list.starts_with('[') => format!("x = {list}")
            .parse::<Table>()
            .ok()
            .and_then(|mut parsed| parsed.remove("x"))
            .ok_or_else(|| Error::Store(format!("read environment variable {name}: not a list")))?,
        text => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer),
    };
    let mut there = table;
    for section in sections.split("__") {
        let Value::Table(inner) = there.entry(section).or_insert_with(|| Value::Table(Table::new())) else {
            return Err(Error::Store(format!("read environment variable {name}: not a section")));
        };
        there = inner;
    }
    there.insert(key.to_owned(), value);
    Ok(lower.replace("__", "."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::{Channel, Destination};

    fn with(variables: &[(&str, &str)]) -> Result<Config> {
        Config::load(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_annotated_file_says_the_defaults_that_are_in_the_code() {
        let uncommented: String = DEFAULT
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("countersign.toml");
        std::fs::write(&path, DEFAULT).expect("write");

        assert_eq!(Config::load(Some(&path), std::iter::empty()).expect("load"), Config::default());
        std::fs::write(&path, uncommented).expect("write");
        let examples = Config::load(Some(&path), std::iter::empty()).expect("what is commented out is right");
        assert_eq!(examples.delivery.voice.len(), 1);
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = with(&[
            ("COUNTERSIGN__SERVER__LISTEN", "0.0.0.0:9000"),
            ("COUNTERSIGN__LIMITS__PER_CLIENT", "0"),
            ("COUNTERSIGN__SERVER__BASELINE", "true"),
            ("COUNTERSIGN__SERVER__TRUSTED_PROXIES", r#"["10.0.0.0/8"]"#),
            ("PATH", "/bin"),
        ])
        .expect("load");

        assert_eq!(config.server.listen.port(), 9000);
        assert_eq!(config.limits.per_client, 0);
        assert!(config.server.baseline);
        assert_eq!(config.server.trusted_proxies, ["10.0.0.0/8"]);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = with(&[("COUNTERSIGN__LIMITS__PER_CLEINT", "1")]).expect_err("unknown").to_string();

        assert!(error.contains("per_cleint"), "{error}");
    }

    // It used to blame the file that stood beside the variable.
    #[test]
    fn a_mistake_in_the_environment_names_the_variable() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("countersign.toml");
        std::fs::write(&path, "[delivery]\nconcurrency = 4\n").expect("write");
        for (name, value, said) in [
            ("DELIVERY__KEEP_DAYS", "abc", "invalid type: string \"abc\", expected u32"),
            ("DELIVERY__KEEP_DAYS", "0", "expected 1 to 3650"),
            ("DELIVERY__KEPE_DAYS", "1", "delivery: unknown key kepe_days, expected one of"),
            ("DELIVREY__KEEP_DAYS", "1", "unknown key delivrey, expected one of"),
            (
                "DELIVERY__SMS",
                "[{ name = 'a', type = 'log', colour = 1 }]",
                "delivery.sms[0] (a): unknown key colour, expected `name` or",
            ),
            (
                "DELIVERY__SMS",
                "[{ name = 'a', type = 'log' }]",
                "delivery.sms[0].type: provider a: file and log",
            ),
        ] {
            let variable = (format!("{PREFIX}{name}"), value.to_owned());
            let error = Config::load(Some(&path), [variable].into_iter()).expect_err(name).to_string();

            assert!(
                error.starts_with(&format!("read environment variable {PREFIX}{name}: {said}")),
                "{error}"
            );
        }
        let right = ("COUNTERSIGN__DELIVERY__KEEP_DAYS".to_owned(), "7".to_owned());
        std::fs::write(&path, "[delivery]\nconcurrency = 0\n").expect("write");
        let error = Config::load(Some(&path), [right].into_iter()).expect_err("the file").to_string();
        assert!(
            error.starts_with(&format!("read configuration {}: delivery.conc", path.display())),
            "{error}"
        );
    }

    fn from_file(text: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("countersign.toml");
        std::fs::write(&path, text).expect("write");
        Config::load(Some(&path), std::iter::empty())
            .map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn an_error_names_the_file_and_the_key() {
        let provider = |rest: &str| {
            format!("server.environment = 'development'\n[[delivery.sms]]\nname = 'a'\ntype = 'log'\n{rest}")
        };
        for (text, said) in [
            ("[server]\nlisten = 5\n", "server.listen: invalid type"),
            ("[server]\nbody_bytes = 'much'\n", "server.body_bytes: invalid type"),
            ("[server]\nport = 80\n", "server: unknown key port, expected one of"),
            ("[serber]\n", "unknown key serber, expected one of"),
            ("[server]\nbody_bytes = 1\n", "server.body_bytes: expected 1024"),
            ("[server]\n\nsecret stuff\n", "line 3: "),
            ("[audit]\nkeep_days = 90\n", "audit.archive_directory: has to be set with audit.keep_days"),
            ("[audit]\nkeep_days = -1\n", "audit.keep_days: invalid value"),
            ("[audit]\nkeep_days = 40000\n", "audit.keep_days: expected 0 to 36500"),
            ("[audit]\nkeep = 1\n", "audit: unknown key keep, expected"),
            ("[[delivery.sms]]\nname = 'a'\n", "delivery.sms[0] (a): missing field `type`"),
            ("[[delivery.sms]]\nname = 'a'\ntype = 'pigeon'\n", "delivery.sms[0] (a): type: expected"),
            ("[[delivery.sms]]\ntype = 'log'\n", "delivery.sms[0]: missing field `name`"),
            (&provider("countries = 7\n"), "delivery.sms[0] (a): countries: invalid type"),
            (&provider("colour = 'red'\n"), "delivery.sms[0] (a): unknown key colour, expected `name` or"),
            (
                &provider("countries = ['DE', 'XX']\n"),
                "delivery.sms[0].countries: provider a: XX is no country",
            ),
            (&provider("countries = ['de']\n"), "delivery.sms[0].countries: provider a: de is no country"),
            (
                "[[delivery.sms]]\nname = 'c'\ntype = 'smpp'\nhost = 'localhost'\nsystem_id = 'a'",
                "delivery.sms[0].password: provider c: expected password or password_file",
            ),
            (
                &provider("[[delivery.sms]]\nname = 'a'\ntype = 'log'"),
                "delivery.sms[1].name: a names two providers",
            ),
            (
                "[[delivery.voice]]\nname = 'dev'\ntype = 'log'",
                "delivery.voice[0].type: provider dev: file and log show codes",
            ),
            (
                "[[delivery.voice]]\nname = 'centre'\ntype = 'smpp'\nhost = 'localhost'\nsystem_id = 'a'",
                "delivery.voice[0].type: provider centre: smpp is for text messages",
            ),
            (
                "[[delivery.sms]]\nname = 'centre'\ntype = 'smpp'\nhost = '192.0.2.1'\nsystem_id = 'a'\npassword = 'b'\ntls = false",
                "delivery.sms[0].tls: provider centre: without it the password",
            ),
            (
                "[[delivery.mail]]\nname = 'dev'\ntype = 'log'\ncountries = ['DE']",
                "delivery.mail[0].countries: provider dev: is for numbers",
            ),
        ] {
            let error = from_file(text).expect_err(text);

            assert!(error.starts_with(&format!("read configuration FILE: {said}")), "{error}");
            assert!(!error.contains("stuff"), "{error}");
        }
    }

    #[test]
    fn a_destination_is_within_reach_when_a_provider_takes_it() {
        let config = from_file(
            "server.environment = 'development'\n[[delivery.mail]]\nname = 'a'\ntype = 'log'\n\
             [[delivery.sms]]\nname = 'b'\ntype = 'log'\ncountries = ['DE', 'FR']",
        )
        .expect("load");
        let reach = config.delivery.reach();
        let is_reached =
            |channel, text| reach.includes(&Destination::parse(channel, "to", text).expect(text));

        assert!(is_reached(Channel::Mail, "ada@example.com"));
        assert!(is_reached(Channel::Sms, "+4915112345678") && is_reached(Channel::Sms, "+33612345678"));
        assert!(!is_reached(Channel::Sms, "+12025550143"), "no provider takes this country");
        assert!(!is_reached(Channel::Voice, "+4915112345678"), "no provider at all");
    }
}
