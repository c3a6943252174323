//! The alphabets of text messages: that of GSM, and UCS-2 for everything else.

/// The default alphabet (3GPP TS 23.038, 6.2.1), in the order of its codes.
const DEFAULT: &str = concat!(
    "@£$¥èéùìòÇ\nØø\rÅå",
    "Δ_ΦΓΛΩΠΨΣΘΞ\u{1b}ÆæßÉ",
    " !\"#¤%&'()*+,-./",
    "0123456789:;<=>?",
    "¡ABCDEFGHIJKLMNO",
    "PQRSTUVWXYZÄÖÑÜ§",
    "¿abcdefghijklmno",
    "pqrstuvwxyzäöñüà",
);

/// The code that says that the next one is of the extension table.
const ESCAPE: u8 = 0x1b;

/// The extension table (3GPP TS 23.038, 6.2.1.1).
const EXTENSION: [(char, u8); 10] = [
    ('\u{c}', 0x0a),
    ('^', 0x14),
    ('{', 0x28),
    ('}', 0x29),
    ('\\', 0x2f),
    ('[', 0x3c),
    ('~', 0x3d),
    (']', 0x3e),
    ('|', 0x40),
    ('€', 0x65),
];

/// One character as a message centre takes it: up to four octets that stay together.
#[derive(Clone, Copy)]
pub(super) struct Octets {
    octets: [u8; 4],
    length: usize,
}

impl Octets {
    fn new(found: &[u8]) -> Self {
        let mut octets = [0; 4];
        octets[..found.len()].copy_from_slice(found);
        Self { octets, length: found.len() }
    }

    /// Returns the octets.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

/// Returns a character in GSM's alphabet, one septet to an octet; `None` if it has no place there.
pub(super) fn gsm(character: char) -> Option<Octets> {
    let extended = EXTENSION.iter().find(|(found, _)| *found == character);
    if let Some((_, code)) = extended {
        return Some(Octets::new(&[ESCAPE, *code]));
    }
    let code = DEFAULT.chars().position(|found| found == character)?;
    let code = u8::try_from(code).expect("the alphabet has 128 places");
    (code != ESCAPE).then(|| Octets::new(&[code]))
}

/// Returns a character in UTF-16, high octets first: one unit, or a pair of surrogates.
pub(super) fn ucs2(character: char) -> Octets {
    let mut units = [0; 2];
    let units = character.encode_utf16(&mut units);
    Octets::new(units.iter().flat_map(|unit| unit.to_be_bytes()).collect::<Vec<_>>().as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default alphabet of 3GPP TS 23.038 as Unicode publishes it (ETSI/GSM0338.TXT), without the escape.
    const PUBLISHED: [u32; 128] = [
        0x0040, 0x00a3, 0x0024, 0x00a5, 0x00e8, 0x00e9, 0x00f9, 0x00ec, 0x00f2, 0x00c7, 0x000a, 0x00d8,
        0x00f8, 0x000d, 0x00c5, 0x00e5, 0x0394, 0x005f, 0x03a6, 0x0393, 0x039b, 0x03a9, 0x03a0, 0x03a8,
        0x03a3, 0x0398, 0x039e, 0x0000, 0x00c6, 0x00e6, 0x00df, 0x00c9, 0x0020, 0x0021, 0x0022, 0x0023,
        0x00a4, 0x0025, 0x0026, 0x0027, 0x0028, 0x0029, 0x002a, 0x002b, 0x002c, 0x002d, 0x002e, 0x002f,
        0x0030, 0x0031, 0x0032, 0x0033, 0x0034, 0x0035, 0x0036, 0x0037, 0x0038, 0x0039, 0x003a, 0x003b,
        0x003c, 0x003d, 0x003e, 0x003f, 0x00a1, 0x0041, 0x0042, 0x0043, 0x0044, 0x0045, 0x0046, 0x0047,
        0x0048, 0x0049, 0x004a, 0x004b, 0x004c, 0x004d, 0x004e, 0x004f, 0x0050, 0x0051, 0x0052, 0x0053,
        0x0054, 0x0055, 0x0056, 0x0057, 0x0058, 0x0059, 0x005a, 0x00c4, 0x00d6, 0x00d1, 0x00dc, 0x00a7,
        0x00bf, 0x0061, 0x0062, 0x0063, 0x0064, 0x0065, 0x0066, 0x0067, 0x0068, 0x0069, 0x006a, 0x006b,
        0x006c, 0x006d, 0x006e, 0x006f, 0x0070, 0x0071, 0x0072, 0x0073, 0x0074, 0x0075, 0x0076, 0x0077,
        0x0078, 0x0079, 0x007a, 0x00e4, 0x00f6, 0x00f1, 0x00fc, 0x00e0,
    ];

    /// Its extension table, from the same source.
    const PUBLISHED_EXTENSION: [(u32, u8); 10] = [
        (0x000c, 0x0a),
        (0x005e, 0x14),
        (0x007b, 0x28),
        (0x007d, 0x29),
        (0x005c, 0x2f),
        (0x005b, 0x3c),
        (0x007e, 0x3d),
        (0x005d, 0x3e),
        (0x007c, 0x40),
        (0x20ac, 0x65),
    ];

    fn in_gsm(character: u32) -> Option<Vec<u8>> {
        gsm(char::from_u32(character).expect("a character")).map(|octets| octets.as_slice().to_vec())
    }

    #[test]
    fn every_character_has_its_published_code() {
        for (code, character) in (0..).zip(PUBLISHED) {
            if code != ESCAPE {
                assert_eq!(in_gsm(character), Some(vec![code]), "{character:04x}");
            }
        }
        for (character, code) in PUBLISHED_EXTENSION {
            assert_eq!(in_gsm(character), Some(vec![ESCAPE, code]), "{character:04x}");
        }
    }

    #[test]
    fn no_other_character_has_a_code() {
        let published = |character: &u32| {
            PUBLISHED.contains(character) || PUBLISHED_EXTENSION.iter().any(|(found, _)| found == character)
        };

        let others = (1..0x3000).filter(|character| !published(character));

        for character in others {
            assert_eq!(in_gsm(character), None, "{character:04x}");
        }
    }

    #[test]
    fn everything_else_is_utf_16_with_the_high_octet_first() {
        assert_eq!(ucs2('A').as_slice(), [0x00, 0x41]);
        assert_eq!(ucs2('ع').as_slice(), [0x06, 0x39]);
        assert_eq!(ucs2('コ').as_slice(), [0x30, 0xb3]);
        assert_eq!(ucs2('🔑').as_slice(), [0xd8, 0x3d, 0xdd, 0x11]);
    }
}
