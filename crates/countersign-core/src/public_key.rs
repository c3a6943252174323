//! Clients' public keys: read from a JWK (RFC 7517), with nothing private in it.
//!
//! A client that signs for itself keeps its private key; what it shows us can be looked at by anybody. The kind of key
//! fixes the algorithm, so no token chooses how it is checked (RFC 8725 §3.1).

use crate::{refusal::Invalid, time::Timestamp};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The most public keys a client may have at once.
pub const KEY_LIMIT: usize = 4;

/// The members of a JWK that only its owner may know (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// RFC 7518 §3.3 asks for 2048 bits or more; beyond 4096 a check costs more than it gives.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// Bytes of a coordinate on P-256.
const COORDINATE: usize = 32;
/// The longest `kid`.
const KEY_ID_LIMIT: usize = 128;

/// A client's public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// What the client calls it in the header of its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The numbers.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// The numbers of a public key, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
pub enum Numbers {
    /// An RSA key, for RS256.
    #[serde(rename = "RSA")]
    Rsa {
        /// The modulus, big-endian.
        n: Octets,
        /// The exponent, big-endian.
        e: Octets,
    },
    /// A point on P-256, for ES256.
    #[serde(rename = "EC")]
    P256 {
        /// Its x coordinate.
        x: Octets,
        /// Its y coordinate.
        y: Octets,
    },
}

/// Bytes that a JWK writes in base64url.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Octets(Vec<u8>);

impl Octets {
    /// Takes bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Octets> for String {
    fn from(octets: Octets) -> Self {
        BASE64URL_NOPAD.encode(&octets.0)
    }
}

impl TryFrom<String> for Octets {
    type Error = data_encoding::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        BASE64URL_NOPAD.decode(text.as_bytes()).map(Self)
    }
}

/// A public key as a client holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKey {
    /// The key.
    #[serde(flatten)]
    pub key: PublicKey,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it stops being good, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl StoredKey {
    /// Tells whether it is good at `now`.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

impl PublicKey {
    /// Reads a JWK. Members it does not know are passed over, as RFC 7517 §4 says; private ones are refused by name.
    pub fn from_jwk(field: &str, jwk: &Map<String, Value>) -> Result<Self, Invalid> {
        if let Some(name) = PRIVATE.iter().find(|name| jwk.contains_key(**name)) {
            let message = "this member is private; keep it, and send the public key only";
            return Err(Invalid::new(format!("{field}.{name}"), message));
        }
        let jwk = Members { field, jwk };
        let kid = jwk.optional_text("kid")?.map(str::to_owned);
        if kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > KEY_ID_LIMIT) {
            return Err(jwk.wrong("kid", &format!("expected 1 to {KEY_ID_LIMIT} bytes")));
        }
        let numbers = jwk.numbers()?;
        jwk.expect_if_there("use", "sig")?;
        jwk.expect_if_there("alg", numbers.algorithm())?;
        Ok(Self { kid, numbers })
    }

    /// Returns the key as a JWK.
    pub fn to_jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(self).expect("a key has string keys only, so it is always JSON");
        if matches!(self.numbers, Numbers::P256 { .. }) {
            jwk["crv"] = "P-256".into();
        }
        jwk["use"] = "sig".into();
        jwk["alg"] = self.numbers.algorithm().into();
        jwk
    }

    /// Returns the key's fingerprint (RFC 7638 §3): the same for the same numbers, whatever they are called.
    pub fn thumbprint(&self) -> String {
        let text = |octets: &Octets| String::from(octets.clone());
        let canonical = match &self.numbers {
            Numbers::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(e), text(n)),
            Numbers::P256 { x, y } => {
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y))
            }
        };
        BASE64URL_NOPAD.encode(&Sha256::digest(canonical))
    }

    /// Tells whether a token whose header names this key, or none, can be its. Who gave no name answers to all.
    pub fn answers_to(&self, kid: Option<&str>) -> bool {
        match (&self.kid, kid) {
            (Some(own), Some(named)) => own == named,
            _ => true,
        }
    }
}

impl Numbers {
    /// Returns the only algorithm the key is used with.
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "RS256",
            Self::P256 { .. } => "ES256",
        }
    }
}

/// A JWK in the member `field` of a request.
struct Members<'a> {
    field: &'a str,
    jwk: &'a Map<String, Value>,
}

impl<'a> Members<'a> {
    fn numbers(&self) -> Result<Numbers, Invalid> {
        match self.text("kty")? {
            "RSA" => self.rsa(),
            "EC" if self.text("crv")? == "P-256" => {
                Ok(Numbers::P256 { x: self.coordinate("x")?, y: self.coordinate("y")? })
            }
            "EC" => Err(self.wrong("crv", "expected P-256")),
            _ => Err(self.wrong("kty", "expected RSA, or EC with the curve P-256")),
        }
    }

    fn rsa(&self) -> Result<Numbers, Invalid> {
        let (n, e) = (self.octets("n")?, self.octets("e")?);
        let bits = n.0.len() * 8 - n.0.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            let message =
                format!("expected {} to {} bits without leading zeros", RSA_BITS.start(), RSA_BITS.end());
            return Err(self.wrong("n", &message));
        }
        // A small exponent is legal and has been the beginning of many attacks; nobody's tool makes one unasked.
        if e.0 != [1, 0, 1] {
            return Err(self.wrong("e", "expected AQAB"));
        }
        Ok(Numbers::Rsa { n, e })
    }

    fn coordinate(&self, name: &str) -> Result<Octets, Invalid> {
        let octets = self.octets(name)?;
        if octets.0.len() == COORDINATE {
            Ok(octets)
        } else {
            Err(self.wrong(name, &format!("expected {COORDINATE} bytes")))
        }
    }

    fn octets(&self, name: &str) -> Result<Octets, Invalid> {
        let text = self.text(name)?.to_owned();
        let octets = Octets::try_from(text).ok().filter(|octets| !octets.0.is_empty());
        octets.ok_or_else(|| self.wrong(name, "expected base64url without padding"))
    }

    fn expect_if_there(&self, name: &str, expected: &str) -> Result<(), Invalid> {
        match self.optional_text(name)? {
            Some(text) if text != expected => Err(self.wrong(name, &format!("expected {expected}"))),
            _ => Ok(()),
        }
    }

    fn text(&self, name: &str) -> Result<&'a str, Invalid> {
        self.optional_text(name)?.ok_or_else(|| self.wrong(name, "this member is required"))
    }

    fn optional_text(&self, name: &str) -> Result<Option<&'a str>, Invalid> {
        match self.jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "expected a string")),
        }
    }

    fn wrong(&self, name: &str, message: &str) -> Invalid {
        Invalid::new(format!("{}.{name}", self.field), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The key of RFC 7638 §3.1.
    const MODULUS: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
         tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbIS\
         D08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn rsa() -> Value {
        json!({ "kty": "RSA", "n": MODULUS, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" })
    }

    /// The key of RFC 7515, appendix A.3.
    fn ec() -> Value {
        json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        })
    }

    fn read(jwk: &Value) -> Result<PublicKey, Invalid> {
        PublicKey::from_jwk("publicKeys[0]", jwk.as_object().expect("object"))
    }

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_7638() {
        let key = read(&rsa()).expect("key");

        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!((key.kid.as_deref(), key.numbers.algorithm()), (Some("2011-04-29"), "RS256"));
    }

    #[test]
    fn a_key_is_written_as_it_was_read() {
        for jwk in [rsa(), ec()] {
            let key = read(&jwk).expect("key");

            assert_eq!(read(&key.to_jwk()), Ok(key.clone()));
            let stored = StoredKey { key, created_at: Timestamp::from_seconds(1), expires_at: None };
            let text = serde_json::to_string(&stored).expect("json");
            assert_eq!(serde_json::from_str::<StoredKey>(&text).expect(&text), stored);
        }
    }

    #[test]
    fn a_key_with_a_private_member_is_refused_by_its_name() {
        for name in PRIVATE {
            let mut jwk = rsa();
            jwk[name] = "AQAB".into();

            assert_eq!(read(&jwk).expect_err(name).field, format!("publicKeys[0].{name}"));
        }
    }

    #[test]
    fn what_is_no_key_for_us_is_refused_by_its_member() {
        let with = |mut jwk: Value, name: &str, value: Value| {
            jwk[name] = value;
            jwk
        };
        let short = BASE64URL_NOPAD.encode(&[0xFF; 255]);
        let padded = BASE64URL_NOPAD.encode(&[&[0][..], &[0xFF; 255]].concat());
        for (name, jwk) in [
            ("kty", json!({})),
            ("kty", json!({ "kty": "OKP" })),
            ("kty", json!({ "kty": 1 })),
            ("n", json!({ "kty": "RSA", "e": "AQAB" })),
            ("n", with(rsa(), "n", short.into())),
            ("n", with(rsa(), "n", padded.into())),
            ("n", with(rsa(), "n", "".into())),
            ("n", with(rsa(), "n", "+/".into())),
            ("e", with(rsa(), "e", "Aw".into())),
            ("alg", with(rsa(), "alg", "ES256".into())),
            ("use", with(rsa(), "use", "enc".into())),
            ("kid", with(rsa(), "kid", "".into())),
            ("crv", with(ec(), "crv", "P-384".into())),
            ("x", with(ec(), "x", "AQAB".into())),
            ("y", with(ec(), "y", Value::Null)),
        ] {
            assert_eq!(read(&jwk).expect_err(name).field, format!("publicKeys[0].{name}"));
        }
    }

    #[test]
    fn a_key_answers_to_its_name_and_to_none() {
        let (named, nameless) = (read(&rsa()).expect("key"), read(&ec()).expect("key"));

        assert!(named.answers_to(Some("2011-04-29")) && named.answers_to(None));
        assert!(!named.answers_to(Some("2012")));
        assert!(nameless.answers_to(Some("2012")) && nameless.answers_to(None));
    }
}
