//! Providers: whoever takes our messages and sends them on.

use super::{
    Failure, Outgoing, Receipt,
    development::{File, Log},
    http_provider::HttpProvider,
    mail::Mailer,
    outbound::{Outbound, Reach},
    smpp::{Report, Smpp},
};
use crate::{
    clock::Clock,
    config::delivery::{self as config, Delivery},
    error::{Error, Result},
};
use countersign_core::Channel;
use std::sync::Arc;
use tokio::sync::mpsc;

/// One that takes messages and sends them on.
#[derive(Debug)]
pub struct Provider {
    name: String,
    countries: Vec<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Mail(Box<Mailer>),
    Http(Box<HttpProvider>),
    Smpp(Smpp),
    File(File),
    Log(Log),
    #[cfg(test)]
    Scripted(fn(&Outgoing) -> Result<Receipt, Failure>),
}

/// What providers are made with.
#[derive(Debug)]
pub struct Tools {
    clock: Clock,
    reach: Reach,
    outbound: Option<Arc<Outbound>>,
    reports: mpsc::Sender<Report>,
}

impl Tools {
    /// Takes what providers share. What message centres say later goes to `reports`.
    pub fn new(config: &Delivery, clock: &Clock, reports: mpsc::Sender<Report>) -> Self {
        let reach = Reach {
            allow_private: config.allow_private.clone(),
            ca_file: config.ca_file.clone(),
            proxy: config.proxy.clone(),
        };
        Self { clock: clock.clone(), reach, outbound: None, reports }
    }

    /// Returns the way out, which is made when somebody first needs it.
    fn outbound(&mut self) -> Result<Arc<Outbound>> {
        if let Some(outbound) = &self.outbound {
            return Ok(Arc::clone(outbound));
        }
        let outbound = Arc::new(Outbound::reaching(&self.reach)?);
        Ok(Arc::clone(self.outbound.insert(outbound)))
    }
}

impl Provider {
    /// Makes a provider of a channel ready to send. Fails on what can be known before the first message.
    pub fn new(channel: Channel, given: &config::Provider, tools: &mut Tools) -> Result<Self> {
        let name = given.name().to_owned();
        let kind = Kind::new(channel, given, tools).map_err(|problem| {
            Error::Store(match given {
                // It says by itself where the mistake is.
                config::Provider::Http(_) => problem.to_string(),
                _ => format!("delivery.{channel}.{name}: {problem}"),
            })
        })?;
        Ok(Self { name, countries: given.countries().to_vec(), kind })
    }

    /// Makes one for a test.
    #[cfg(test)]
    pub(super) fn scripted(name: &str, send: fn(&Outgoing) -> Result<Receipt, Failure>) -> Self {
        Self { name: name.to_owned(), countries: Vec::new(), kind: Kind::Scripted(send) }
    }

    /// Returns its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the countries whose numbers it takes; all if empty.
    pub fn countries(&self) -> &[String] {
        &self.countries
    }

    /// Hands it a message.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Receipt, Failure> {
        match &self.kind {
            Kind::Mail(mailer) => mailer.send(outgoing).await,
            Kind::Http(provider) => provider.send(outgoing).await,
            Kind::Smpp(centre) => centre.send(outgoing).await,
            Kind::File(file) => file.send(outgoing).await,
            Kind::Log(log) => Ok(log.send(outgoing)),
            #[cfg(test)]
            Kind::Scripted(send) => send(outgoing),
        }
    }

    /// Asks it whether it would take a message, as far as that can be known without giving it one, and says what is known;
    /// `None` where only a message would tell.
    pub async fn probe(&self) -> Option<Result<String, Failure>> {
        Some(match &self.kind {
            Kind::Mail(mailer) => {
                mailer.probe().await.map(|sender| format!("answers and would take mail from {sender}"))
            }
            Kind::Smpp(centre) => centre.probe().await.map(|()| "answers and let us bind".into()),
            Kind::Http(provider) => provider.probe().await.map(|place| {
                format!("is reached at {place}; whether it takes messages, countersign delivery test tells")
            }),
            _ => return None,
        })
    }

    /// Takes leave of whoever it is connected to.
    pub async fn stop(&self) {
        if let Kind::Smpp(centre) = &self.kind {
            centre.stop().await;
        }
    }
}

impl Kind {
    fn new(channel: Channel, given: &config::Provider, tools: &mut Tools) -> Result<Self> {
        Ok(match given {
            config::Provider::Smtp(server) => Self::Mail(Box::new(Mailer::new(server)?)),
            config::Provider::Http(http) => {
                Self::Http(Box::new(HttpProvider::new(channel, http, tools.outbound()?)?))
            }
            config::Provider::Smpp(centre) => {
                Self::Smpp(Smpp::start(centre, tools.clock.clone(), tools.reports.clone())?)
            }
            config::Provider::File(file) => Self::File(File::new(file, tools.clock.clone())),
            config::Provider::Log(log) => Self::Log(Log::new(log)),
        })
    }
}
