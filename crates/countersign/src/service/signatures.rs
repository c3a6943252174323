//! Tokens that clients sign for themselves (JWS, RFC 7515): read first, then checked with the keys of whoever they name.
//!
//! The algorithm follows from the key, never from the token (RFC 8725 §3.1). Times are left to those who know what the
//! token is for.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use countersign_core::{PublicKey, Timestamp, public_key::Numbers, refusal::Invalid};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// The longest token that is looked at.
const LONGEST: usize = 4096;

/// A token taken apart. Nothing in it is proven until [`Signed::is_signed_by`] says so.
#[derive(Debug, Clone)]
pub struct Signed<'a> {
    /// Its header.
    pub header: Header,
    /// What it claims.
    pub claims: Claims,
    /// What the signature covers.
    message: &'a str,
    signature: Vec<u8>,
}

/// The header of a token.
#[derive(Debug, Clone, Deserialize)]
pub struct Header {
    /// The algorithm it names.
    pub alg: String,
    /// The type it names.
    pub typ: Option<String>,
    /// The key it names.
    pub kid: Option<String>,
    /// Extensions that must be understood; there are none that are.
    crit: Option<Value>,
}

/// What a token claims, as far as anybody asks (RFC 7519 §4.1).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: Option<String>,
    /// Who it is about.
    pub sub: Option<String>,
    /// Who it is for.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// When it was issued.
    #[serde(default, deserialize_with = "numeric_date")]
    pub iat: Option<Timestamp>,
    /// When it expires.
    #[serde(default, deserialize_with = "numeric_date")]
    pub exp: Option<Timestamp>,
}

/// Takes a token apart; `None` if it is none.
pub fn read(token: &str) -> Option<Signed<'_>> {
    if token.len() > LONGEST {
        return None;
    }
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
    let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
    let claims = serde_json::from_slice(&decode(claims)?).ok()?;
    header.crit.is_none().then_some(())?;
    Some(Signed { header, claims, message, signature: decode(signature)? })
}

impl Signed<'_> {
    /// Tells whether a key made the signature. A token that names another algorithm than the key's is not looked at.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        if self.header.alg != key.numbers.algorithm() {
            return false;
        }
        let message = self.message.as_bytes();
        match &key.numbers {
            Numbers::Rsa { n, e } => RsaPublicKeyComponents { n: n.as_bytes(), e: e.as_bytes() }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, &self.signature)
                .is_ok(),
            Numbers::P256 { x, y } => {
                let parsed =
                    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(x.as_bytes(), y.as_bytes()));
                parsed.is_ok_and(|key| key.verify_sig(message, &self.signature).is_ok())
            }
        }
    }
}

/// Refuses numbers that are no key: a point that is not on its curve would only show with the first token.
pub fn check_key(field: &str, key: &PublicKey) -> Result<(), Invalid> {
    let usable = match &key.numbers {
        Numbers::Rsa { n, .. } => n.as_bytes().last().is_some_and(|last| last % 2 == 1),
        Numbers::P256 { x, y } => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(x.as_bytes(), y.as_bytes())).is_ok()
        }
    };
    if usable { Ok(()) } else { Err(Invalid::new(field, "these numbers are not a public key")) }
}

/// Returns a point in the uncompressed form (SEC 1 §2.3.3).
fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

/// Reads a time: a number, also with a fraction, or the same in quotes, as some documentation shows it.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let seconds = match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    // Within these bounds milliseconds are exact, and no sum of times overflows.
    match seconds.filter(|seconds| (0.0..1e11).contains(seconds)) {
        #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
        Some(seconds) => Ok(Some(Timestamp::from_millis((seconds * 1000.0) as i64))),
        None => Err(de::Error::custom("not a time")),
    }
}

/// Reads one string or a list of them (RFC 7519 §4.1.3).
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}
