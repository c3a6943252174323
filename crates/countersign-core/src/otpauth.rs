//! The key URI that authenticator apps read from a QR code (de-facto format of the Google Authenticator wiki).

use crate::factor::{Proof, otp::OtpSecret};
use crate::secret::Secret;
use std::fmt::Write;

/// Writes the key URI of an OTP factor: `otpauth://totp/Issuer:account?secret=…&issuer=Issuer&…`.
///
/// `None` for a factor whose codes are sent: there is no key.
///
/// All parameters are written even where they are defaults: some apps have other defaults.
pub fn key_uri(issuer: &str, account: &str, proof: &Proof, secret: &OtpSecret) -> Option<Secret<String>> {
    // A colon parts issuer from account, so neither may bring one of its own.
    let issuer = percent_encode(&issuer.replace(':', " "));
    let account = percent_encode(&account.replace(':', " "));
    let kind = proof.kind();
    let secret = secret.to_base32();
    let mut uri = format!("otpauth://{kind}/{issuer}:{account}?secret={}&issuer={issuer}", secret.expose());
    let written = match proof {
        Proof::Totp(totp) => {
            write!(uri, "&algorithm={}&digits={}&period={}", totp.algorithm.name(), totp.digits, totp.period)
        }
        Proof::Hotp(hotp) => write!(
            uri,
            "&algorithm={}&digits={}&counter={}",
            hotp.algorithm.name(),
            hotp.digits,
            hotp.counter
        ),
        Proof::Sent(_) => return None,
    };
    written.expect("writing to a string does not fail");
    Some(uri.into())
}

/// Percent-encodes everything but RFC 3986's unreserved characters. A blank is `%20`: apps show `+` as it is.
pub fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string does not fail");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        factor::otp::{Hotp, Totp},
        keyring::{KeyId, Sealed},
        policy::{HotpRule, TotpRule},
    };

    fn sealed() -> Sealed {
        Sealed { key: KeyId(0), bytes: Vec::new() }
    }

    fn uri(issuer: &str, account: &str, proof: &Proof, secret: &OtpSecret) -> String {
        key_uri(issuer, account, proof, secret).expect("a key").expose().clone()
    }

    #[test]
    fn a_totp_uri_names_every_parameter() {
        let secret = OtpSecret::from_base32("secret", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP").expect("secret");
        let proof = Proof::Totp(Totp::new(&TotpRule::default(), sealed()));

        let uri = uri("Acme & Söhne", "ada@example.com", &proof, &secret);

        assert_eq!(
            uri,
            "otpauth://totp/Acme%20%26%20S%C3%B6hne:ada%40example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP\
             &issuer=Acme%20%26%20S%C3%B6hne&algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn a_hotp_uri_carries_the_counter() {
        let secret = OtpSecret::from_bytes(vec![0; 20]);
        let proof = Proof::Hotp(Hotp::new(&HotpRule::default(), 42, sealed()));

        assert!(uri("a:b", "c", &proof, &secret).ends_with("&digits=6&counter=42"));
        assert!(uri("a:b", "c", &proof, &secret).starts_with("otpauth://hotp/a%20b:c?"));
    }
}
