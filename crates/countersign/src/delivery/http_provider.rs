//! Text messages and calls through providers that are asked by HTTP.
//!
//! A provider is described in the configuration: how to ask it ([`asking`]), and what its answers mean ([`answer`]). The
//! presets are such descriptions too.

mod answer;
mod asking;
mod presets;
mod proof;
mod signature;
mod template;

use super::{Failure, Outgoing, Receipt, outbound::Outbound};
use crate::{
    clock::Clock,
    config::delivery::{http as config, unknown_country},
    error::Result,
};
use answer::Answers;
use asking::Asking;
use countersign_core::{Channel, refusal::Invalid};
use std::{fmt, sync::Arc};

/// A provider that is asked by HTTP.
pub struct HttpProvider {
    name: String,
    countries: Vec<String>,
    asking: Asking,
    answers: Answers,
    outbound: Arc<Outbound>,
}

impl HttpProvider {
    /// Prepares a provider of a channel. Fails on whatever would fail with the first message: a template that does not
    /// render, a secret that is not there, a URL that may not be asked.
    pub fn new(channel: Channel, given: &config::HttpProvider, outbound: Arc<Outbound>) -> Result<Self> {
        let section = format!("delivery.{channel}");
        check_name(&given.name).map_err(|invalid| within(&section, invalid))?;
        let section = format!("{section}.{}", given.name);
        let prepared = Self::prepare(channel, given, outbound);
        prepared.map_err(|invalid| within(&section, invalid).into())
    }

    fn prepare(
        channel: Channel,
        given: &config::HttpProvider,
        outbound: Arc<Outbound>,
    ) -> Result<Self, Invalid> {
        check_countries(&given.countries)?;
        let Some(filled) = presets::filled(given, channel) else {
            let message = format!("{} has no {channel} messages that we know of", given.preset.name());
            return Err(Invalid::new("preset", message));
        };
        Ok(Self {
            name: filled.name.clone(),
            countries: filled.countries.clone(),
            answers: Answers::new(&filled)?,
            asking: Asking::new(channel, &filled, &outbound)?,
            outbound,
        })
    }

    /// Returns the name it has in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the countries it serves; empty for all.
    pub fn countries(&self) -> &[String] {
        &self.countries
    }

    /// Connects to the provider without asking anything; returns what was connected to.
    pub async fn probe(&self) -> Result<String, Failure> {
        let failed = |problem: String| Failure::Temporary(problem);
        let url = self.asking.address().map_err(|invalid| failed(invalid.to_string()))?;
        self.outbound.reach(&url).await.map_err(|error| failed(error.to_string()))
    }

    /// Asks the provider to send a message.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Receipt, Failure> {
        let request = self
            .asking
            .request(outgoing, Clock::System.now())
            .map_err(|invalid| Failure::Temporary(format!("write the request: {invalid}")))?;
        match self.outbound.send(request).await {
            Ok(reply) => self.answers.judge(&self.name, outgoing, &reply),
            Err(error) => Err(Failure::Temporary(error.to_string())),
        }
    }
}

impl fmt::Debug for HttpProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProvider").field("name", &self.name).finish_non_exhaustive()
    }
}

fn within(section: &str, invalid: Invalid) -> Invalid {
    Invalid::new(format!("{section}.{}", invalid.field), invalid.message)
}

fn check_name(name: &str) -> Result<(), Invalid> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_plain && (1..=64).contains(&name.len()) {
        return Ok(());
    }
    Err(Invalid::new("name", "expected 1 to 64 letters, digits, dots, dashes or underscores"))
}

fn check_countries(countries: &[String]) -> Result<(), Invalid> {
    unknown_country(countries).map_or(Ok(()), |why| Err(Invalid::new("countries", why)))
}
