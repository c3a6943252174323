//! Texts as message centres take them: in an alphabet, and in parts where they are long.

use super::alphabet::{self, Octets};
use rusmpp::values::DataCoding;

/// The octets of a text message.
const MESSAGE: usize = 140;

/// The octets of the header that joins parts (3GPP TS 23.040, 9.2.3.24.1).
const HEADER: usize = 6;

/// The most parts of a message: what the header has room for.
const MOST_PARTS: usize = 255;

/// How much an alphabet fits in a message.
struct Room {
    /// In a message that is whole, in octets as the centre takes them.
    whole: usize,
    /// In one part of a message, beside the header.
    part: usize,
}

/// 160 septets; beside the header and the bits that fill up its last septet, 153. The centre packs them.
const GSM: Room = Room { whole: MESSAGE * 8 / 7, part: (MESSAGE - HEADER) * 8 / 7 };
/// 70 units of two octets; beside the header, 67.
const UCS2: Room = Room { whole: MESSAGE, part: MESSAGE - HEADER };

/// A text as a message centre takes it.
pub(super) struct Encoded {
    /// Its alphabet.
    pub(super) coding: DataCoding,
    /// Its parts. Where there are several, each begins with the header that joins them.
    pub(super) parts: Vec<Vec<u8>>,
}

/// Encodes a text; `None` if it is too long for any message.
///
/// A text whose characters are all in GSM's alphabet goes in that, for it fits more than twice as many. Parts with the
/// same `reference` belong together.
pub(super) fn encode(text: &str, reference: u8) -> Option<Encoded> {
    let in_gsm: Option<Vec<Octets>> = text.chars().map(alphabet::gsm).collect();
    match in_gsm {
        Some(characters) => Encoded::new(DataCoding::McSpecific, &characters, &GSM, reference),
        None => {
            let characters: Vec<Octets> = text.chars().map(alphabet::ucs2).collect();
            Encoded::new(DataCoding::Ucs2, &characters, &UCS2, reference)
        }
    }
}

impl Encoded {
    fn new(coding: DataCoding, characters: &[Octets], room: &Room, reference: u8) -> Option<Self> {
        let mut parts = cut(characters, room.whole);
        if parts.len() > 1 {
            parts = joined(cut(characters, room.part), reference)?;
        }
        Some(Self { coding, parts })
    }

    /// Tells whether the text is in several parts.
    pub(super) fn is_in_parts(&self) -> bool {
        self.parts.len() > 1
    }
}

/// Cuts a text into pieces of at most `room` octets; no character is cut.
fn cut(characters: &[Octets], room: usize) -> Vec<Vec<u8>> {
    let mut pieces = vec![Vec::with_capacity(room)];
    for character in characters.iter().map(Octets::as_slice) {
        match pieces.last_mut() {
            Some(piece) if piece.len() + character.len() <= room => piece.extend_from_slice(character),
            _ => pieces.push(character.to_vec()),
        }
    }
    pieces
}

/// Puts the header that joins them before the parts; `None` if there are more than it can count.
fn joined(pieces: Vec<Vec<u8>>, reference: u8) -> Option<Vec<Vec<u8>>> {
    if pieces.len() > MOST_PARTS {
        return None;
    }
    let total = u8::try_from(pieces.len()).expect("255 fits");
    let with_header = |(number, piece): (u8, Vec<u8>)| {
        let mut part = vec![5, 0, 3, reference, total, number];
        part.extend_from_slice(&piece);
        part
    };
    Some((1..=total).zip(pieces).map(with_header).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, test_runner::TestCaseResult};

    fn encoded(text: &str) -> Encoded {
        encode(text, 7).expect("short enough")
    }

    /// Returns how many octets each part has, beside the header.
    fn lengths(text: &str) -> Vec<usize> {
        let encoded = encoded(text);
        let header = if encoded.is_in_parts() { HEADER } else { 0 };
        encoded.parts.iter().map(|part| part.len() - header).collect()
    }

    #[test]
    fn a_text_goes_in_gsms_alphabet_if_it_can() {
        for text in ["Your code is 123456", "Grüße für £5 {€}", "@example.com #123456"] {
            assert_eq!(encoded(text).coding, DataCoding::McSpecific, "{text}");
        }
        for text in ["código 123456", "コードは123456です", "رمزك هو 123456", "🔑 123456", "“123456”"]
        {
            assert_eq!(encoded(text).coding, DataCoding::Ucs2, "{text}");
        }

        assert_eq!(encoded("@1€").parts, [vec![0x00, 0x31, 0x1b, 0x65]]);
        assert_eq!(encoded("1ع").parts, [vec![0x00, 0x31, 0x06, 0x39]]);
    }

    #[test]
    fn a_message_holds_160_septets_and_a_part_153() {
        assert_eq!(lengths(&"a".repeat(160)), [160]);
        assert_eq!(lengths(&"a".repeat(161)), [153, 8]);
        assert_eq!(lengths(&"a".repeat(306)), [153, 153]);
        assert_eq!(lengths(&"a".repeat(307)), [153, 153, 1]);
    }

    #[test]
    fn a_message_holds_70_units_and_a_part_67() {
        assert_eq!(lengths(&"م".repeat(70)), [140]);
        assert_eq!(lengths(&"م".repeat(71)), [134, 8]);
        assert_eq!(lengths(&"コ".repeat(134)), [134, 134]);
        assert_eq!(lengths(&"コ".repeat(135)), [134, 134, 2]);
    }

    #[test]
    fn what_takes_two_places_is_not_cut() {
        assert_eq!(lengths(&"€".repeat(80)), [160]);
        assert_eq!(lengths(&format!("{}€", "a".repeat(159))), [153, 8]);
        assert_eq!(lengths(&format!("{}€{}", "a".repeat(152), "b".repeat(10))), [152, 12]);

        assert_eq!(lengths(&"🔑".repeat(35)), [140]);
        assert_eq!(lengths(&"🔑".repeat(36)), [132, 12]);
    }

    #[test]
    fn parts_say_what_they_belong_to() {
        let parts = encode(&"a".repeat(400), 0xab).expect("short enough").parts;

        let headers: Vec<&[u8]> = parts.iter().map(|part| &part[..HEADER]).collect();

        assert_eq!(headers, [[5, 0, 3, 0xab, 3, 1], [5, 0, 3, 0xab, 3, 2], [5, 0, 3, 0xab, 3, 3]]);
    }

    #[test]
    fn a_text_that_fits_no_message_is_refused() {
        assert_eq!(lengths(&"a".repeat(255 * 153)).len(), 255);
        assert!(encode(&"a".repeat(255 * 153 + 1), 7).is_none());
        assert_eq!(lengths(""), [0]);
    }

    proptest! {
        #[test]
        fn joined_parts_say_the_text(text in "[a-z€{}é🔑م]{0,500}") {
            says(&text)?;
        }
    }

    fn says(text: &str) -> TestCaseResult {
        let encoded = encoded(text);
        let header = if encoded.is_in_parts() { HEADER } else { 0 };

        let octets = |part: &Vec<u8>| part[header..].to_vec();
        let joined: Vec<u8> = encoded.parts.iter().flat_map(octets).collect();

        if encoded.coding == DataCoding::Ucs2 {
            for part in &encoded.parts {
                prop_assert!(String::from_utf16(&units(&part[header..])).is_ok(), "a pair was cut");
            }
            prop_assert_eq!(String::from_utf16(&units(&joined)).expect("UTF-16"), text);
        } else {
            let whole: Vec<u8> = text
                .chars()
                .filter_map(alphabet::gsm)
                .flat_map(|octets| octets.as_slice().to_vec())
                .collect();
            prop_assert!(
                encoded.parts.iter().all(|part| part.last() != Some(&0x1b)),
                "an escape was cut off"
            );
            prop_assert_eq!(joined, whole);
        }
        Ok(())
    }

    fn units(octets: &[u8]) -> Vec<u16> {
        octets.chunks(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]])).collect()
    }
}
