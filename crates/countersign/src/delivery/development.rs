//! Channels for development: messages are written down in clear, and reach nobody.

use super::{Failure, Outgoing, Receipt, Written};
use crate::{clock::Clock, config::delivery::development as config};
use serde::Serialize;
use tokio::{fs::OpenOptions, io::AsyncWriteExt};
use tracing::info;

/// Appends one JSON line a message to a file.
#[derive(Debug)]
pub struct File {
    given: config::File,
    clock: Clock,
}

/// Writes messages into the log.
#[derive(Debug)]
pub struct Log {
    given: config::Log,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    id: String,
    channel: &'static str,
    to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    text: &'a str,
}

impl File {
    /// Takes the configuration.
    pub fn new(given: &config::File, clock: Clock) -> Self {
        Self { given: given.clone(), clock }
    }

    /// Appends a message.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Receipt, Failure> {
        let mut line = serde_json::to_vec(&self.line(outgoing)).expect("text is always JSON");
        line.push(b'\n');
        let write = async {
            let mut file =
                OpenOptions::new().append(true).create(true).mode(0o600).open(&self.given.path).await?;
            file.write_all(&line).await?;
            file.flush().await
        };
        match write.await {
            Ok(()) => Ok(Receipt { provider: self.given.name.clone(), reference: None }),
            Err(error) => Err(Failure::Temporary(format!("append to the file: {error}"))),
        }
    }

    fn line<'a>(&self, outgoing: &'a Outgoing) -> Line<'a> {
        let (subject, text) = shown(&outgoing.written);
        Line {
            at: self.clock.now().to_string(),
            id: outgoing.id.to_string(),
            channel: outgoing.to.channel().name(),
            to: outgoing.to.full(),
            subject,
            text,
        }
    }
}

impl Log {
    /// Takes the configuration.
    pub fn new(given: &config::Log) -> Self {
        Self { given: given.clone() }
    }

    /// Logs a message. The one place where a code reaches the log: that is what this channel is for.
    pub fn send(&self, outgoing: &Outgoing) -> Receipt {
        let (channel, (subject, text)) = (outgoing.to.channel(), shown(&outgoing.written));
        info!(%channel, to = outgoing.to.full(), subject, "{text}");
        Receipt { provider: self.given.name.clone(), reference: None }
    }
}

fn shown(written: &Written) -> (Option<&str>, &str) {
    match written {
        Written::Mail { subject, text, .. } => (Some(subject.expose()), text.expose()),
        Written::Sms { text } | Written::Voice { text, .. } => (None, text.expose()),
    }
}
