//! How messages are delivered: the providers of each channel, in the order they are asked.

pub mod development;
pub mod http;
pub mod mail;
pub mod smpp;

use super::invalid;
use crate::error::Result;
use countersign_core::{Channel, Destination};
use development::{File, Log};
use http::HttpProvider;
use mail::SmtpServer;
use serde::{Deserialize, Deserializer, de};
use smpp::SmppCentre;
use std::{collections::BTreeSet, path::PathBuf, sync::Arc};
use toml::{Table, Value};

/// How messages are delivered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// A folder with templates that replace built-in ones.
    pub templates: Option<PathBuf>,
    /// The domain that text messages bind their code to, in their last line.
    pub sms_origin: Option<String>,
    /// Hosts that may have private addresses, by name.
    pub allow_private: Vec<String>,
    /// A file in PEM with authorities that HTTP providers may have their certificates from, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A proxy that HTTP providers are asked through.
    pub proxy: Option<String>,
    /// Days for which deliveries can be looked at.
    pub keep_days: u32,
    /// Messages of one channel that are sent at the same time.
    pub concurrency: usize,
    /// Mail servers.
    pub mail: Vec<Provider>,
    /// Providers of text messages.
    pub sms: Vec<Provider>,
    /// Providers of calls.
    pub voice: Vec<Provider>,
}

/// One that takes messages and sends them on.
#[derive(Debug, Clone, PartialEq)]
pub enum Provider {
    /// A mail server.
    Smtp(SmtpServer),
    /// A provider of text messages or calls that is asked by HTTP.
    Http(Box<HttpProvider>),
    /// A message centre that speaks SMPP.
    Smpp(SmppCentre),
    /// A file, for development.
    File(File),
    /// The log, for development.
    Log(Log),
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            templates: None,
            sms_origin: None,
            allow_private: Vec::new(),
            ca_file: None,
            proxy: None,
            keep_days: 30,
            concurrency: 8,
            mail: Vec::new(),
            sms: Vec::new(),
            voice: Vec::new(),
        }
    }
}

impl Delivery {
    /// Returns the providers of a channel, in the order they are asked.
    pub fn providers(&self, channel: Channel) -> &[Provider] {
        match channel {
            Channel::Mail => &self.mail,
            Channel::Sms => &self.sms,
            Channel::Voice => &self.voice,
        }
    }

    /// Returns where messages can be sent to.
    pub fn reach(&self) -> Reach {
        let countries =
            |channel| self.providers(channel).iter().map(|provider| provider.countries().to_vec());
        Reach(Channel::ALL.map(|channel| countries(channel).collect()).into())
    }

    /// Checks what the types do not.
    pub(super) fn validate(&self, environment: Environment) -> Result<()> {
        if !(1..=64).contains(&self.concurrency) {
            return Err(invalid("delivery.concurrency", "expected 1 to 64"));
        }
        if !(1..=3650).contains(&self.keep_days) {
            return Err(invalid("delivery.keep_days", "expected 1 to 3650"));
        }
        Channel::ALL.into_iter().try_for_each(|channel| self.validate_channel(channel, environment))
    }

    fn validate_channel(&self, channel: Channel, environment: Environment) -> Result<()> {
        let mut names = BTreeSet::new();
        for (place, provider) in self.providers(channel).iter().enumerate() {
            let (key, name) = (format!("delivery.{channel}[{place}]"), provider.name());
            if name.trim().is_empty() {
                return Err(invalid(&format!("{key}.name"), "cannot be empty"));
            }
            if !names.insert(name) {
                return Err(invalid(&format!("{key}.name"), &format!("{name} names two providers")));
            }
            provider.validate(channel, environment).map_err(|(member, why)| {
                invalid(&format!("{key}.{member}"), &format!("provider {name}: {why}"))
            })?;
        }
        Ok(())
    }
}

impl Provider {
    /// Returns what operators call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Smtp(server) => &server.name,
            Self::Http(provider) => &provider.name,
            Self::Smpp(centre) => &centre.name,
            Self::File(file) => &file.name,
            Self::Log(log) => &log.name,
        }
    }

    /// Returns the countries whose numbers it takes; all if empty.
    pub fn countries(&self) -> &[String] {
        match self {
            Self::Smtp(_) => &[],
            Self::Http(provider) => &provider.countries,
            Self::Smpp(centre) => &centre.countries,
            Self::File(file) => &file.countries,
            Self::Log(log) => &log.countries,
        }
    }

    /// Returns the member that is wrong, and why.
    fn validate(
        &self,
        channel: Channel,
        environment: Environment,
    ) -> Result<(), (&'static str, &'static str)> {
        let is_country =
            |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        match self {
            Self::Smtp(_) if channel != Channel::Mail => Err(("type", "smtp is for mail")),
            Self::Smpp(_) if channel != Channel::Sms => Err(("type", "smpp is for text messages")),
            Self::Http(_) if channel == Channel::Mail => Err(("type", "http is for sms and voice")),
            _ if channel == Channel::Mail && !self.countries().is_empty() => {
                Err(("countries", "is for numbers, mail has none"))
            }
            _ if !self.countries().iter().all(is_country) => {
                Err(("countries", "expected ISO 3166 codes such as \"DE\""))
            }
            Self::File(_) | Self::Log(_) if environment == Environment::Production => Err((
                "type",
                "file and log show codes to whoever reads them; set server.environment = \"development\" to use them",
            )),
            Self::Smtp(server) => server.validate(),
            Self::Smpp(centre) => centre.validate(),
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Provider {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut table = Table::deserialize(from)?;
        let kind = table.remove("type").ok_or_else(|| de::Error::missing_field("type"))?;
        match kind.as_str().unwrap_or_default() {
            "smtp" => read(table).map(Self::Smtp),
            "http" => read(table).map(Box::new).map(Self::Http),
            "smpp" => read(table).map(Self::Smpp),
            "file" => read(table).map(Self::File),
            "log" => read(table).map(Self::Log),
            _ => Err(de::Error::custom("type: expected smtp, http, smpp, file or log")),
        }
    }
}

/// Reads what belongs to one type of provider. An error names the key in the table.
fn read<T: de::DeserializeOwned, E: de::Error>(table: Table) -> Result<T, E> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let shown = error.into_inner();
        match path.as_str() {
            "." => E::custom(shown.message()),
            path => E::custom(format_args!("{path}: {}", shown.message())),
        }
    })
}

/// Where messages can be sent to: the countries each provider of a channel takes, all if it lists none.
#[derive(Debug, Clone)]
pub struct Reach(Arc<[Vec<Vec<String>>; Channel::ALL.len()]>);

impl Reach {
    /// Tells whether a provider takes a destination.
    pub fn includes(&self, destination: &Destination) -> bool {
        let country = || match destination {
            Destination::Email(_) => None,
            Destination::Sms(phone) | Destination::Voice(phone) => phone.country(),
        };
        let takes = |countries: &Vec<String>| {
            countries.is_empty() || country().is_some_and(|country| countries.contains(&country))
        };
        self.0[destination.channel() as usize].iter().any(takes)
    }
}

/// What an installation is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// It protects something.
    #[default]
    Production,
    /// It is tried out: channels that show codes may be used.
    Development,
}
