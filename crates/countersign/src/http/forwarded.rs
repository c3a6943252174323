//! Whose address a request comes from, when reverse proxies stand in between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::HeaderMap;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Says which peers may speak for somebody else.
///
/// Anybody can send `X-Forwarded-For`. Limits and audit hang on the address, so the header counts only as far as
/// it was written by a proxy from this list.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    blocks: Vec<Block>,
}

/// A text that is not a block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// Neither an address nor an address with a prefix length.
    #[error("read address block `{0}`: write an address, or a prefix such as 10.0.0.0/8 or 2001:db8::/32")]
    Malformed(String),
    /// The prefix is longer than an address of this family.
    #[error("read address block `{text}`: the prefix length is at most {longest}")]
    PrefixTooLong {
        /// What was given.
        text: String,
        /// The longest prefix the family allows.
        longest: u8,
    },
    /// The address says more than the prefix keeps, so one of the two is a slip.
    #[error("read address block `{text}`: the address has bits beyond the prefix; did you mean {meant}?")]
    HostBits {
        /// What was given.
        text: String,
        /// The block that contains it.
        meant: String,
    },
}

impl TrustedProxies {
    /// Reads a list of blocks such as `10.0.0.0/8`, `2001:db8::/32` or a single address.
    pub fn parse<T: AsRef<str>>(blocks: impl IntoIterator<Item = T>) -> Result<Self, InvalidBlock> {
        let blocks = blocks.into_iter().map(|text| Block::parse(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { blocks })
    }

    /// Returns whether `address` is in one of the blocks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.blocks.iter().any(|block| block.contains(address))
    }

    /// Returns the address of the caller behind `peer`.
    ///
    /// Each proxy appends the address it was called from, so the header is read from right to left, and only as
    /// long as the hop that wrote an entry is trusted. Everything further left may be made up by the caller.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut caller = peer.to_canonical();
        if !self.contains(caller) {
            return caller;
        }
        for hop in hops_from_the_right(headers) {
            let Some(hop) = hop else { break };
            caller = hop;
            if !self.contains(caller) {
                break;
            }
        }
        caller
    }
}

/// Walks all `X-Forwarded-For` entries, last one first; `None` stands for an entry that is no address.
fn hops_from_the_right(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let values = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
    values.flat_map(|value| value.to_str().unwrap_or("not text").rsplit(',').map(parse_hop))
}

/// Reads one entry; some proxies add a port or brackets.
fn parse_hop(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// A range of addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    V4 { network: u32, mask: u32 },
    V6 { network: u128, mask: u128 },
}

impl Block {
    fn parse(text: &str) -> Result<Self, InvalidBlock> {
        let text = text.trim();
        let malformed = || InvalidBlock::Malformed(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(parse_length(length).ok_or_else(malformed)?)),
            None => (text, None),
        };
        match address.parse().map_err(|_| malformed())? {
            IpAddr::V4(address) => Self::v4(text, address, length.unwrap_or(32)),
            IpAddr::V6(address) => Self::v6(text, address, length.unwrap_or(128)),
        }
    }

    fn v4(text: &str, address: Ipv4Addr, length: u8) -> Result<Self, InvalidBlock> {
        if length > 32 {
            return Err(InvalidBlock::PrefixTooLong { text: text.to_owned(), longest: 32 });
        }
        // A shift by the full width overflows, and an empty prefix keeps no bit at all.
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let network = address.to_bits() & mask;
        if network != address.to_bits() {
            let meant = format!("{}/{length}", Ipv4Addr::from_bits(network));
            return Err(InvalidBlock::HostBits { text: text.to_owned(), meant });
        }
        Ok(Self::V4 { network, mask })
    }

    fn v6(text: &str, address: Ipv6Addr, length: u8) -> Result<Self, InvalidBlock> {
        if length > 128 {
            return Err(InvalidBlock::PrefixTooLong { text: text.to_owned(), longest: 128 });
        }
        // `::ffff:10.0.0.0/104` means the IPv4 block: addresses are compared in their IPv4 form.
        if let (Some(mapped), Some(length)) = (address.to_ipv4_mapped(), length.checked_sub(96)) {
            return Self::v4(text, mapped, length);
        }
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        let network = address.to_bits() & mask;
        if network != address.to_bits() {
            let meant = format!("{}/{length}", Ipv6Addr::from_bits(network));
            return Err(InvalidBlock::HostBits { text: text.to_owned(), meant });
        }
        Ok(Self::V6 { network, mask })
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4 { network, mask }, IpAddr::V4(address)) => address.to_bits() & mask == network,
            (Self::V6 { network, mask }, IpAddr::V6(address)) => address.to_bits() & mask == network,
            _ => false,
        }
    }
}

/// Reads a prefix length; unlike `u8::from_str` it refuses a sign.
fn parse_length(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (X_FORWARDED_FOR.parse().unwrap(), HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn the_caller_is_the_first_hop_from_the_right_that_is_not_a_trusted_proxy() {
        let proxies = TrustedProxies::parse(["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"]).unwrap();
        #[rustfmt::skip]
        let cases: &[(&str, &[&'static str], &str)] = &[
            // (peer, header lines, caller)
            ("203.0.113.5", &[],                                       "203.0.113.5"),
            ("203.0.113.5", &["198.51.100.1"],                         "203.0.113.5"), // peer is nobody we trust
            ("10.0.0.1",    &[],                                       "10.0.0.1"),
            ("10.0.0.1",    &["198.51.100.1"],                         "198.51.100.1"),
            ("10.0.0.1",    &["1.1.1.1, 198.51.100.1"],                "198.51.100.1"), // left part is made up
            ("10.0.0.1",    &["198.51.100.1, 10.9.9.9, 192.0.2.7"],    "198.51.100.1"),
            ("10.0.0.1",    &["1.1.1.1", "198.51.100.1", "10.2.2.2"],  "198.51.100.1"), // lines join in order
            ("10.0.0.1",    &["10.3.3.3,10.2.2.2"],                    "10.3.3.3"),     // nobody but proxies
            ("10.0.0.1",    &["198.51.100.1, unknown, 10.2.2.2"],      "10.2.2.2"),     // malformed stops the walk
            ("10.0.0.1",    &["198.51.100.1, "],                       "10.0.0.1"),
            ("10.0.0.1",    &["198.51.100.1, 10.2.2.2, 300.1.1.1"],    "10.0.0.1"),
            ("10.0.0.1",    &["198.51.100.1:4711"],                    "198.51.100.1"),
            ("10.0.0.1",    &["[2001:db8:9::1]:4711"],                 "2001:db8:9::1"),
            ("10.0.0.1",    &["[2001:db8:9::1]"],                      "2001:db8:9::1"),
            ("2001:db8:1::5", &["2001:db8:9::1, 2001:db8:1:2::3"],     "2001:db8:9::1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"],              "198.51.100.1"), // dual-stack listener
        ];

        for (peer, lines, caller) in cases {
            let found = proxies.client_address(address(peer), &headers(lines));

            assert_eq!(found, address(caller), "peer {peer}, header {lines:?}");
        }
    }

    #[test]
    fn a_header_that_is_not_text_is_ignored() {
        let proxies = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
        let mut headers = headers(&["198.51.100.1"]);
        headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(b"\xff").unwrap());

        assert_eq!(proxies.client_address(address("10.0.0.1"), &headers), address("10.0.0.1"));
    }

    #[test]
    fn without_a_list_nobody_is_trusted() {
        let proxies = TrustedProxies::default();

        assert_eq!(
            proxies.client_address(address("127.0.0.1"), &headers(&["1.1.1.1"])),
            address("127.0.0.1")
        );
    }

    #[test]
    fn a_block_contains_the_addresses_that_share_its_prefix() {
        #[rustfmt::skip]
        let cases = [
            ("10.0.0.0/8",              "10.255.255.255", true),
            ("10.0.0.0/8",              "11.0.0.0",       false),
            ("192.0.2.128/25",          "192.0.2.127",    false),
            ("192.0.2.128/25",          "192.0.2.128",    true),
            ("192.0.2.7",               "192.0.2.7",      true),
            ("192.0.2.7",               "192.0.2.8",      false),
            ("0.0.0.0/0",               "203.0.113.1",    true),
            ("0.0.0.0/0",               "2001:db8::1",    false),
            ("::/0",                    "2001:db8::1",    true),
            ("::/0",                    "10.0.0.1",       false),
            ("2001:db8::/33",           "2001:db8:7fff::", true),
            ("2001:db8::/33",           "2001:db8:8000::", false),
            ("::1",                     "::1",            true),
            ("10.0.0.0/8",              "::ffff:10.1.1.1", true),
            ("::ffff:10.0.0.0/104",     "10.1.1.1",       true),
            (" 10.0.0.0/8 ",            "10.1.1.1",       true),
        ];

        for (block, candidate, expected) in cases {
            let proxies = TrustedProxies::parse([block]).unwrap();

            assert_eq!(proxies.contains(address(candidate)), expected, "{candidate} in {block}");
        }
    }

    #[test]
    fn a_bad_block_is_refused_with_what_to_write_instead() {
        let reason = |text: &str| TrustedProxies::parse([text]).unwrap_err().to_string();

        for text in ["", "proxy", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0/8", "10.0.0.0/8/8", "/8"]
        {
            assert!(reason(text).contains("write an address"), "{text}");
        }
        assert_eq!(
            reason("10.0.0.0/33"),
            "read address block `10.0.0.0/33`: the prefix length is at most 32"
        );
        assert!(reason("2001:db8::/129").ends_with("at most 128"));
        assert!(reason("10.1.2.3/8").ends_with("did you mean 10.0.0.0/8?"));
        assert!(reason("2001:db8::1/32").ends_with("did you mean 2001:db8::/32?"));
    }
}
