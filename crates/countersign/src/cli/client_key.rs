//! Keys of clients that sign for themselves. They are made here, so the private half never reaches the server.

use super::failure::Failure;
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{self, KeySize},
};
use countersign_core::{
    PublicKey, Secret,
    public_key::{Numbers, Octets},
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Characters on a line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// A file for a private key: readable by its owner only, and never one that was there before.
///
/// Until it is filled it goes again with this value.
pub(super) struct KeyFile {
    path: PathBuf,
    file: Option<File>,
}

impl KeyFile {
    /// Makes the file before the key is registered: a key that nobody has would be of no use to anybody.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
                Failure::new(format!("create key file {}: {error}", path.display()))
                    .hint("an existing file is never overwritten; name another one")
            })?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// Writes what the file is for.
    pub(super) fn fill(mut self, content: &Value) -> Result<(), Failure> {
        let failed = |error| Failure::new(format!("write key file {}: {error}", self.path.display()));
        let file = self.file.as_mut().expect("only this function takes it, and it ends the value");
        let text = Secret::new(format!("{content:#}\n"));
        file.write_all(text.expose().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        self.file = None;
        Ok(())
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // It is empty or cut short; if it stays, nothing but its name is lost.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// An RSA key of 2048 bits.
pub(super) struct RsaKey {
    /// The public half.
    pub(super) public: PublicKey,
    /// The key as PKCS#1 has it.
    pkcs1: Secret<Vec<u8>>,
}

impl RsaKey {
    /// Makes a key, with a name of its own if it is to have one.
    pub(super) fn generate(kid: Option<String>) -> Result<Self, Failure> {
        let pair = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|_| cannot_make())?;
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| cannot_make())?;
        let pkcs1 = Secret::new(pkcs1(pkcs8.as_ref()).ok_or_else(cannot_make)?.to_vec());
        let [n, e, ..] = numbers(pkcs1.expose()).ok_or_else(cannot_make)?;
        let numbers = Numbers::Rsa { n: Octets::new(n), e: Octets::new(e) };
        Ok(Self { public: PublicKey { kid, numbers }, pkcs1 })
    }

    /// Returns the private half in PEM, in the form of PKCS#1: programs that read key files know no other.
    pub(super) fn pem(&self) -> Secret<String> {
        pem("RSA PRIVATE KEY", self.pkcs1.expose())
    }

    /// Returns the private half as a JWK (RFC 7518 §6.3.2).
    pub(super) fn jwk(&self) -> Result<Value, Failure> {
        let [_, _, private @ ..] = numbers(self.pkcs1.expose()).ok_or_else(cannot_make)?;
        let mut jwk = self.public.to_jwk();
        for (name, number) in ["d", "p", "q", "dp", "dq", "qi"].into_iter().zip(private) {
            jwk[name] = json!(BASE64URL_NOPAD.encode(number));
        }
        Ok(jwk)
    }
}

fn cannot_make() -> Failure {
    Failure::new("make a key: the cryptographic library refused")
}

/// Returns the PKCS#1 key within a PKCS#8 one (RFC 5208 §5).
fn pkcs1(pkcs8: &[u8]) -> Option<&[u8]> {
    let mut rest = element(&mut &*pkcs8)?;
    let (_version, _algorithm) = (element(&mut rest)?, element(&mut rest)?);
    element(&mut rest)
}

/// Returns the numbers of a PKCS#1 key after its version (RFC 8017 §A.1.2): modulus, both exponents, primes, and what
/// follows from them; without the zero that keeps them positive.
fn numbers(pkcs1: &[u8]) -> Option<[&[u8]; 8]> {
    let mut rest = element(&mut &*pkcs1)?;
    let _version = element(&mut rest)?;
    let mut numbers = [&[][..]; 8];
    for number in &mut numbers {
        let digits = element(&mut rest)?;
        *number = &digits[digits.iter().position(|byte| *byte != 0)?..];
    }
    Some(numbers)
}

/// Takes the next element of DER off `input` and returns its content.
fn element<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (header, rest) = input.split_at_checked(2)?;
    let (length, rest) = match header[1] {
        short @ 0..=0x7F => (usize::from(short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7F))?;
            (digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some(content)
}

fn pem(label: &str, der: &[u8]) -> Secret<String> {
    let encoded = Secret::new(BASE64.encode(der));
    let mut text = format!("-----BEGIN {label}-----\n");
    for start in (0..encoded.expose().len()).step_by(PEM_LINE) {
        let end = (start + PEM_LINE).min(encoded.expose().len());
        text.push_str(&encoded.expose()[start..end]);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents},
    };
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_halves_of_an_rsa_key_belong_together() {
        let key = RsaKey::generate(None).expect("key");

        let der: String = key.pem().expose().lines().filter(|line| !line.starts_with('-')).collect();
        let pair = RsaKeyPair::from_der(&BASE64.decode(der.as_bytes()).expect("base64")).expect("PKCS#1");
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"message", &mut signature).expect("sign");
        let Numbers::Rsa { n, e } = &key.public.numbers else { panic!("{:?}", key.public) };
        let public = RsaPublicKeyComponents { n: n.as_bytes(), e: e.as_bytes() };
        public.verify(&RSA_PKCS1_2048_8192_SHA256, b"message", &signature).expect("verify");
        assert!(key.pem().expose().starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        assert!(key.pem().expose().lines().all(|line| line.len() <= PEM_LINE));
    }

    #[test]
    fn the_server_takes_the_public_half_of_a_jwk_and_refuses_the_private_one() {
        let key = RsaKey::generate(Some("one".into())).expect("key");
        let (public, private) = (key.public.clone(), key.jwk().expect("jwk"));
        let read = |jwk: &Value| PublicKey::from_jwk("publicKey", jwk.as_object().expect("object"));

        assert_eq!(read(&public.to_jwk()), Ok(public));
        assert_eq!(read(&private).expect_err("private").field, "publicKey.d");
    }

    #[test]
    fn a_key_file_is_its_owners_and_never_replaces_another() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("acme.key");

        KeyFile::create(&path).expect("create").fill(&json!({ "a": 1 })).expect("fill");

        assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
        assert!(KeyFile::create(&path).is_err());
        assert_eq!(fs::read_to_string(&path).expect("read"), "{\n  \"a\": 1\n}\n");
    }

    #[test]
    fn a_key_file_that_was_not_filled_goes_again() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("acme.key");

        drop(KeyFile::create(&path).expect("create"));

        assert!(!path.exists());
    }
}
