//! What became of a message, as the centre reports it later.

use rusmpp::{
    pdus::DeliverSm,
    tlvs::TlvValue,
    values::{MessageState, MessageType},
};

/// The most characters of anything we keep from a report: those of a `receipted_message_id`.
const LONGEST: usize = 64;

/// A centre's report on a message it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The centre's name in the configuration.
    pub provider: String,
    /// The centre's name for the message, as in the receipt for it.
    pub reference: String,
    /// What became of it.
    pub fate: Fate,
    /// The network's error code, where there is one.
    pub error: Option<String>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Still on its way.
    Underway,
    /// It reached the telephone.
    Delivered,
    /// It could not be delivered in time.
    Expired,
    /// The centre was told to forget it.
    Deleted,
    /// It cannot be delivered.
    Undeliverable,
    /// The centre or the network does not want it.
    Rejected,
    /// The centre does not know.
    Unknown,
}

impl Fate {
    /// Tells whether this is the last we hear of the message.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Underway)
    }

    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Underway => "underway",
            Self::Delivered => "delivered",
            Self::Expired => "expired",
            Self::Deleted => "deleted",
            Self::Undeliverable => "undeliverable",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }

    /// Reads a state as texts abbreviate it (SMPP 3.4, Appendix B).
    fn of_text(text: &str) -> Self {
        match text.to_ascii_uppercase().as_str() {
            "ENROUTE" => Self::Underway,
            // Read by the centre's staff on the subscriber's behalf.
            "DELIVRD" | "ACCEPTD" => Self::Delivered,
            "EXPIRED" => Self::Expired,
            "DELETED" => Self::Deleted,
            "UNDELIV" => Self::Undeliverable,
            "REJECTD" => Self::Rejected,
            _ => Self::Unknown,
        }
    }

    /// Reads a state as a parameter of its own says it (SMPP 3.4, 5.2.28).
    const fn of_state(state: MessageState) -> Self {
        match state {
            MessageState::Scheduled | MessageState::Enroute => Self::Underway,
            MessageState::Delivered | MessageState::Accepted => Self::Delivered,
            MessageState::Expired => Self::Expired,
            MessageState::Deleted => Self::Deleted,
            MessageState::Undeliverable => Self::Undeliverable,
            MessageState::Rejected => Self::Rejected,
            _ => Self::Unknown,
        }
    }
}

/// Reads a report; `None` if the message is something else, such as an answer somebody typed, or names no message.
///
/// What has a parameter of its own is believed before the text, whose form each centre chooses.
pub(super) fn read(provider: &str, message: &DeliverSm) -> Option<Report> {
    let is_report = matches!(
        message.esm_class.message_type,
        MessageType::ShortMessageContainsMCDeliveryReceipt
            | MessageType::ShortMessageContainsIntermediateDeliveryNotification
    );
    let mut found = Found::default();
    found.read_text(&String::from_utf8_lossy(message.short_message()));
    for parameter in message.tlvs().iter().filter_map(|tlv| tlv.value()) {
        found.read_parameter(parameter);
    }
    is_report.then_some(())?;
    Some(Report {
        provider: provider.to_owned(),
        reference: found.reference?,
        fate: found.fate.unwrap_or(Fate::Unknown),
        error: found.error,
    })
}

/// What was found so far; later finds replace earlier ones.
#[derive(Default)]
struct Found {
    reference: Option<String>,
    fate: Option<Fate>,
    error: Option<String>,
}

impl Found {
    /// Reads `id:… sub:… dlvrd:… submit date:… done date:… stat:… err:… text:…` (SMPP 3.4, Appendix B).
    ///
    /// Stops before the text: that is the beginning of our message, code and all.
    fn read_text(&mut self, text: &str) {
        for word in text.split_whitespace() {
            let Some((key, value)) = word.split_once(':') else { continue };
            match key.to_ascii_lowercase().as_str() {
                "id" => self.reference = shortened(value),
                "stat" => self.fate = Some(Fate::of_text(value)),
                "err" if value.bytes().any(|byte| byte != b'0') => self.error = shortened(value),
                "text" => return,
                _ => {}
            }
        }
    }

    fn read_parameter(&mut self, parameter: &TlvValue) {
        match parameter {
            TlvValue::ReceiptedMessageId(id) => self.reference = shortened(id.as_str()),
            TlvValue::MessageState(state) => self.fate = Some(Fate::of_state(*state)),
            TlvValue::NetworkErrorCode(code) => self.error = Some(code.error_code.to_string()),
            TlvValue::MessagePayload(payload) => self.read_text(&String::from_utf8_lossy(&payload.value)),
            _ => {}
        }
    }
}

fn shortened(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusmpp::{
        tlvs::MessageDeliveryRequestTlvValue,
        types::OctetString,
        values::{ErrorCodeNetworkType, EsmClass, NetworkErrorCode},
    };

    const TEXT: &str = "id:7f3a sub:001 dlvrd:000 submit date:2611221000 done date:2611221001 stat:UNDELIV err:011 \
                        text:id:99 stat:DELIVRD 123456";

    fn message(class: u8, text: &str, parameters: Vec<MessageDeliveryRequestTlvValue>) -> DeliverSm {
        DeliverSm::builder()
            .esm_class(EsmClass::from(class))
            .short_message(OctetString::from_slice(text.as_bytes()).expect("short"))
            .tlvs(parameters)
            .build()
    }

    fn report(class: u8, text: &str, parameters: Vec<MessageDeliveryRequestTlvValue>) -> Option<Report> {
        read("centre", &message(class, text, parameters))
    }

    #[test]
    fn a_text_says_what_became_of_the_message() {
        let found = report(0x04, TEXT, vec![]).expect("a report");

        assert_eq!(found.reference, "7f3a");
        assert_eq!(found.fate, Fate::Undeliverable);
        assert_eq!(found.error.as_deref(), Some("011"));
        assert!(!format!("{found:?}").contains("123456"), "the message's own text is not kept");
    }

    #[test]
    fn every_state_of_a_text_is_known() {
        for (text, fate) in [
            ("ENROUTE", Fate::Underway),
            ("DELIVRD", Fate::Delivered),
            ("EXPIRED", Fate::Expired),
            ("DELETED", Fate::Deleted),
            ("UNDELIV", Fate::Undeliverable),
            ("ACCEPTD", Fate::Delivered),
            ("UNKNOWN", Fate::Unknown),
            ("REJECTD", Fate::Rejected),
            ("delivrd", Fate::Delivered),
            ("gone", Fate::Unknown),
        ] {
            let found = report(0x04, &format!("ID:1 Stat:{text} Err:000 Text:"), vec![]).expect("a report");

            assert_eq!((found.fate, found.error), (fate, None), "{text}");
        }
    }

    #[test]
    fn parameters_are_believed_before_the_text() {
        let parameters = vec![
            MessageDeliveryRequestTlvValue::ReceiptedMessageId("2136917".parse().expect("short")),
            MessageDeliveryRequestTlvValue::MessageState(MessageState::Delivered),
            MessageDeliveryRequestTlvValue::NetworkErrorCode(NetworkErrorCode::new(
                ErrorCodeNetworkType::Gsm,
                27,
            )),
        ];

        let found = report(0x04, TEXT, parameters.clone()).expect("a report");

        assert_eq!(found.reference, "2136917");
        assert_eq!(found.fate, Fate::Delivered);
        assert_eq!(found.error.as_deref(), Some("27"));
        assert_eq!(report(0x04, "", parameters), Some(found));
    }

    #[test]
    fn an_answer_somebody_typed_is_no_report() {
        assert_eq!(report(0x00, TEXT, vec![]), None);
        assert_eq!(report(0x04, "hello", vec![]), None);
        assert!(report(0x20, "id:1 stat:ENROUTE", vec![]).is_some_and(|found| !found.fate.is_final()));
    }
}
