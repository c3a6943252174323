//! What a mail looks like on its way: headers and parts.

use crate::{
    config::delivery::mail::SmtpServer,
    delivery::{Failure, Outgoing, Written},
    error::Result,
};
use countersign_core::{Secret, Timestamp, profile::Email, refusal::Invalid};
use lettre::{
    Address,
    message::{
        Mailbox, Message, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};

/// What all mails of a server have in common.
#[derive(Debug)]
pub(super) struct Letterhead {
    from: Mailbox,
    reply_to: Option<Mailbox>,
}

impl Letterhead {
    /// Reads the addresses out of the configuration.
    pub(super) fn new(server: &SmtpServer) -> Result<Self> {
        let mailbox = |key: &str, text: &str| {
            let expected = "expected an address such as Example <no-reply@example.com>";
            let mailbox: Mailbox = text.parse().map_err(|_| Invalid::new(key, expected))?;
            let email = ascii_domain(mailbox.email.as_ref()).ok_or_else(|| Invalid::new(key, expected))?;
            Ok::<_, Invalid>(Mailbox { email, ..mailbox })
        };
        Ok(Self {
            from: mailbox("from", &server.from)?,
            reply_to: server.reply_to.as_deref().map(|text| mailbox("reply_to", text)).transpose()?,
        })
    }

    /// Returns the address that hears of mails that cannot be delivered.
    pub(super) fn sender(&self) -> Address {
        self.from.email.clone()
    }

    /// Writes a mail as it goes over the wire.
    pub(super) fn write(&self, outgoing: &Outgoing, to: Address) -> Result<Secret<Vec<u8>>, Failure> {
        let Written::Mail { subject, text, html, language } = &outgoing.written else {
            return Err(Failure::Permanent("write mail: the message is for another channel".into()));
        };
        let id = outgoing.id;
        let mut mail = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            // The same for every attempt, so that whoever gets it twice can tell.
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .subject(subject.expose());
        if let Some(reply_to) = &self.reply_to {
            mail = mail.reply_to(reply_to.clone());
        }
        for (name, value) in [
            // RFC 3834 §5, and what Exchange asks for: no out-of-office replies, please.
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("X-Auto-Response-Suppress", "All".to_owned()),
            // Keeps mail programs from gathering codes into one conversation, the newest out of sight.
            ("X-Entity-Ref-ID", id.to_string()),
            ("Content-Language", language.clone()),
            // RFC 4021 §2.1.50: from when on it is of no use.
            ("Expires", date(outgoing.expires_at)),
        ] {
            mail = mail.raw_header(HeaderValue::new(HeaderName::new_from_ascii_str(name), value));
        }
        let parts = MultiPart::alternative_plain_html(text.expose().clone(), html.expose().clone());
        let mail = mail
            .multipart(parts)
            .map_err(|_| Failure::Permanent("write mail: the addresses cannot be used".into()))?;
        Ok(Secret::new(mail.formatted()))
    }
}

/// Returns the address to deliver to.
pub(super) fn recipient(to: &Email) -> Result<Address, Failure> {
    ascii_domain(to.as_str())
        .ok_or_else(|| Failure::Permanent("read address: mail servers do not take such addresses".into()))
}

/// Reads an address, with its domain as every server takes it (RFC 5891 §4.4); only the local part may need SMTPUTF8.
fn ascii_domain(text: &str) -> Option<Address> {
    let (local, domain) = text.rsplit_once('@')?;
    Address::new(local, idna::domain_to_ascii(domain).ok()?).ok()
}

/// Returns a date as mails have it (RFC 5322 §3.3).
fn date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default();
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_string(&at).unwrap_or_default()
}
