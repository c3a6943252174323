//! Keys as clients hold them, and tokens as they sign them.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// Something that signs tokens.
pub(crate) trait Signer {
    /// The algorithm it signs with.
    const ALGORITHM: &'static str;

    fn signature(&self, message: &[u8]) -> Vec<u8>;

    fn public_jwk(&self) -> Value;

    /// Signs claims.
    fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({ "typ": "JWT", "alg": Self::ALGORITHM }), claims)
    }

    /// Signs claims under a header, whatever that says.
    fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

/// What a signature covers.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", encode(header), encode(claims))
}

/// An RSA key of 2048 bits.
pub(crate) struct RsaKey(RsaKeyPair);

impl RsaKey {
    pub(crate) fn generate() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    /// A key that all tests of a process share: making one takes long.
    pub(crate) fn shared() -> &'static Self {
        static KEY: OnceLock<RsaKey> = OnceLock::new();
        KEY.get_or_init(Self::generate)
    }
}

impl Signer for RsaKey {
    const ALGORITHM: &'static str = "RS256";

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("sign");
        signature
    }

    fn public_jwk(&self) -> Value {
        // The modulus stands in the key's X.509 form right before the exponent, which is the end.
        let der = AsDer::<PublicKeyX509Der<'_>>::as_der(self.0.public_key()).expect("DER");
        let der = der.as_ref();
        let modulus = &der[der.len() - 5 - 256..der.len() - 5];
        json!({ "kty": "RSA", "n": BASE64URL_NOPAD.encode(modulus), "e": "AQAB" })
    }
}

/// A key on P-256.
pub(crate) struct EcKey(EcdsaKeyPair);

impl EcKey {
    pub(crate) fn generate() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    /// The public half.
    pub(crate) fn public_jwk(&self) -> Value {
        Signer::public_jwk(self)
    }
}

impl Signer for EcKey {
    const ALGORITHM: &'static str = "ES256";

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).expect("sign").as_ref().to_vec()
    }

    fn public_jwk(&self) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let encode = |bytes| BASE64URL_NOPAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
    }
}
