//! What a centre's answers mean.

use crate::delivery::Failure;
use rusmpp::CommandStatus;

/// Returns why the centre did not take a message.
///
/// Only what is wrong with the number or the text itself is for good: another provider may take what this one does not
/// for the sake of our account, our sender or its own load.
pub(super) fn failure(status: CommandStatus) -> Failure {
    let reason = format!("the message centre answered {}", name(status));
    match status {
        CommandStatus::EsmeRinvdstadr
        | CommandStatus::EsmeRinvdstton
        | CommandStatus::EsmeRinvdstnpi
        | CommandStatus::EsmeRinvmsglen => Failure::Permanent(reason),
        _ => Failure::Temporary(reason),
    }
}

/// Tells whether the centre asks for fewer messages.
pub(super) fn is_overloaded(status: CommandStatus) -> bool {
    matches!(status, CommandStatus::EsmeRthrottled | CommandStatus::EsmeRmsgqful)
}

/// Returns a status as operators look it up: its name in the specification and its number. Without leading zeros, so that
/// it is not taken for a telephone's.
pub(super) fn name(status: CommandStatus) -> String {
    let number = u32::from(status);
    match format!("{status:?}").strip_prefix("Esme") {
        Some(name) => format!("ESME_{} (0x{number:02x})", name.to_uppercase()),
        None => format!("0x{number:04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wrong_number_or_text_is_for_good() {
        for status in [0x01, 0x0b, 0x50, 0x51] {
            assert!(matches!(failure(status.into()), Failure::Permanent(_)), "{status:02x}");
        }
        for status in [0x08, 0x0a, 0x14, 0x45, 0x58, 0x62, 0xff, 0x0400] {
            assert!(matches!(failure(status.into()), Failure::Temporary(_)), "{status:02x}");
        }
    }

    #[test]
    fn an_answer_is_named_as_in_the_specification() {
        assert_eq!(failure(0x58.into()).reason(), "the message centre answered ESME_RTHROTTLED (0x58)");
        assert_eq!(name(0x0401.into()), "0x0401");
    }
}
