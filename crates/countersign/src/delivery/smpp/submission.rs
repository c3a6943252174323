//! What the centre is sent: who we are, and messages.

use crate::config::delivery::smpp::SmppCentre;
use countersign_core::{Secret, Timestamp, profile::Phone, refusal::Invalid};
use rusmpp::{
    pdus::{BindTransceiver, SubmitSm},
    types::{COctetString, COctetStringError, EmptyOrFullCOctetString, OctetString},
    values::{DataCoding, EsmClass, InterfaceVersion, Npi, RegisteredDelivery, ServiceType, Ton},
};
use std::time::Duration;

/// The longest a centre is asked to try, and the longest that fits the format.
const LONGEST_VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Bit of `esm_class`: the text begins with a header (SMPP 3.4, 5.2.12).
const WITH_HEADER: u8 = 0x40;

/// What is the same in every message to a centre.
#[derive(Debug)]
pub(super) struct Envelope {
    source: Address,
    service_type: COctetString<1, 6>,
    wants_receipts: bool,
}

/// A sender with its type.
#[derive(Debug)]
struct Address {
    ton: Ton,
    npi: Npi,
    address: COctetString<1, 21>,
}

/// One part of a message.
pub(super) struct Part<'a> {
    /// The number it goes to.
    pub(super) to: &'a Phone,
    /// Its alphabet.
    pub(super) coding: DataCoding,
    /// Its text, after the header if it has one.
    pub(super) octets: &'a [u8],
    /// Whether it begins with a header.
    pub(super) has_header: bool,
    /// Whether it is the message's last. One receipt for each message is enough.
    pub(super) is_last: bool,
}

impl Envelope {
    /// Reads what the configuration says about messages.
    pub(super) fn of(centre: &SmppCentre) -> Result<Self, Invalid> {
        Ok(Self {
            source: Address::of(centre)?,
            service_type: octets("service_type", &centre.service_type)?,
            wants_receipts: centre.receipts,
        })
    }

    /// Writes the message; the centre gives it up after `validity`, so that no code arrives when it is stale.
    pub(super) fn submission(&self, part: &Part<'_>, validity: Duration) -> SubmitSm {
        SubmitSm::builder()
            .service_type(ServiceType::new(self.service_type.clone()))
            .source_addr_ton(self.source.ton)
            .source_addr_npi(self.source.npi)
            .source_addr(self.source.address.clone())
            .dest_addr_ton(Ton::International)
            .dest_addr_npi(Npi::Isdn)
            .destination_addr(destination(part.to))
            // Written out: the library's default has a bit set that says something else.
            .esm_class(EsmClass::from(if part.has_header { WITH_HEADER } else { 0 }))
            .validity_period(relative(validity))
            .registered_delivery(RegisteredDelivery::from(u8::from(self.wants_receipts && part.is_last)))
            .data_coding(part.coding)
            .short_message(OctetString::from_slice(part.octets).expect("a part has at most 160 octets"))
            .build()
    }
}

impl Address {
    fn of(centre: &SmppCentre) -> Result<Self, Invalid> {
        let sender = centre.sender.as_str();
        let (ton, npi) = kind_of(sender);
        Ok(Self {
            ton: centre.sender_ton.map_or(ton, Ton::from),
            npi: centre.sender_npi.map_or(npi, Npi::from),
            address: octets("sender", sender.strip_prefix('+').unwrap_or(sender))?,
        })
    }
}

/// Returns type and numbering plan of a sender, as centres commonly want them.
fn kind_of(sender: &str) -> (Ton, Npi) {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match sender.strip_prefix('+') {
        Some(number) if is_number(number) => (Ton::International, Npi::Isdn),
        _ if is_number(sender) => (Ton::NetworkSpecific, Npi::Unknown),
        _ if sender.is_empty() => (Ton::Unknown, Npi::Unknown),
        _ => (Ton::Alphanumeric, Npi::Unknown),
    }
}

fn destination(phone: &Phone) -> COctetString<1, 21> {
    phone.as_str().trim_start_matches('+').parse().expect("an E.164 number has at most 15 digits")
}

/// Writes who we are. Copies of the password in the session's buffers are not wiped.
pub(super) fn bind(centre: &SmppCentre, password: &Secret<String>) -> Result<BindTransceiver, Invalid> {
    Ok(BindTransceiver::builder()
        .system_id(octets("system_id", &centre.system_id)?)
        .password(octets("password", password.expose())?)
        .system_type(octets("system_type", &centre.system_type)?)
        .interface_version(InterfaceVersion::Smpp3_4)
        .build())
}

/// Reads a text of the configuration; names what is wrong with it, never the text, which may be a password.
fn octets<const MOST: usize>(member: &str, text: &str) -> Result<COctetString<1, MOST>, Invalid> {
    let expected = || format!("expected at most {} ASCII characters", MOST - 1);
    text.parse().map_err(|_: COctetStringError| Invalid::new(member, expected()))
}

/// Returns how long the centre may try; `None` if the message has expired.
pub(super) fn validity(now: Timestamp, expires_at: Timestamp) -> Option<Duration> {
    let left = now.until(expires_at);
    (left >= Duration::from_secs(1)).then_some(left.min(LONGEST_VALIDITY))
}

/// Writes a period in the relative format of SMPP 3.4, 7.1.1.2: our clock and the centre's need not agree.
fn relative(period: Duration) -> EmptyOrFullCOctetString<17> {
    let seconds = period.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let text = format!("0000{days:02}{hours:02}{:02}{:02}000R", seconds / 60 % 60, seconds % 60);
    EmptyOrFullCOctetString::from_string(text).expect("16 characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_sender_follows_from_it() {
        assert_eq!(kind_of("+4915112345678"), (Ton::International, Npi::Isdn));
        assert_eq!(kind_of("70123"), (Ton::NetworkSpecific, Npi::Unknown));
        assert_eq!(kind_of("Example"), (Ton::Alphanumeric, Npi::Unknown));
        assert_eq!(kind_of("+Example"), (Ton::Alphanumeric, Npi::Unknown));
        assert_eq!(kind_of(""), (Ton::Unknown, Npi::Unknown));
    }

    #[test]
    fn a_period_is_written_in_the_relative_format() {
        let written = |seconds| relative(Duration::from_secs(seconds)).as_str().to_owned();

        assert_eq!(written(600), "000000001000000R");
        assert_eq!(written(2 * 86_400 + 3 * 3_600 + 4 * 60 + 5), "000002030405000R");
        assert_eq!(written(LONGEST_VALIDITY.as_secs()), "000030000000000R");
    }

    #[test]
    fn what_has_expired_has_no_validity() {
        let now = Timestamp::from_seconds(1_000);
        let at = |millis| validity(now, now.after(Duration::from_millis(millis)));

        assert_eq!(at(600_000), Some(Duration::from_secs(600)));
        assert_eq!(at(999), None);
        assert_eq!(validity(now, Timestamp::from_seconds(900)), None);
        assert_eq!(at(90 * 86_400_000), Some(LONGEST_VALIDITY));
    }

    #[test]
    fn what_the_protocol_has_no_room_for_is_refused_without_being_quoted() {
        let centre =
            SmppCentre { name: "centre".into(), system_id: "countersign".into(), ..SmppCentre::default() };
        let refusal = bind(&centre, &Secret::new("correct horse".into())).expect_err("too long").to_string();

        assert_eq!(refusal, "password: expected at most 8 ASCII characters");
    }
}
