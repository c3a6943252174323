//! Mail through SMTP servers.

mod account;
mod answer;
mod relay;
mod source;

use super::{Failure, Outgoing, Receipt, Written};
use crate::{config::delivery::mail::SmtpServer, error::Result};
use answer::scrubbed;
use countersign_core::{Destination, refusal::Invalid};
use relay::Relay;
use source::Letterhead;

/// Sends mail through one server.
#[derive(Debug)]
pub struct Mailer {
    name: String,
    letterhead: Letterhead,
    relay: Relay,
}

impl Mailer {
    /// Reads what is needed to send through a server. Does not connect.
    pub fn new(server: &SmtpServer) -> Result<Self> {
        server.validate().map_err(|(member, why)| Invalid::new(member, why))?;
        Ok(Self {
            name: server.name.clone(),
            letterhead: Letterhead::new(server)?,
            relay: Relay::new(server)?,
        })
    }

    /// Hands a message over. A mail that was handed over twice is known by its `Message-ID`.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Receipt, Failure> {
        let (Destination::Email(to), Written::Mail { .. }) = (&outgoing.to, &outgoing.written) else {
            return Err(Failure::Permanent("send mail: the message is for another channel".into()));
        };
        let recipient = source::recipient(to)?;
        let mail = self.letterhead.write(outgoing, recipient.clone())?;
        let answer = self
            .relay
            .deliver(self.letterhead.sender(), recipient, mail.expose())
            .await
            .map_err(|refused| refused.failure(to))?;
        Ok(Receipt { provider: self.name.clone(), reference: Some(scrubbed(&answer, to)) })
    }

    /// Connects, signs in and names the sender, as when sending, and leaves; returns the sender.
    pub async fn probe(&self) -> Result<String, Failure> {
        let sender = self.letterhead.sender();
        self.relay.greet(sender.clone()).await.map_err(|refused| refused.before_any_mail())?;
        Ok(sender.to_string())
    }
}
