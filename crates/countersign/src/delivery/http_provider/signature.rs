//! Signature Version 4, by which AWS knows who asks.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html>

use aws_lc_rs::{digest, hmac};
use countersign_core::{Secret, Timestamp};
use data_encoding::HEXLOWER;
use http::Method;
use reqwest::Url;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The headers that are signed, in the order of their names.
const SIGNED: &str = "content-type;host;x-amz-date";

/// Who signs, and for what.
pub(super) struct Signer {
    /// The id of the access key.
    pub key: Secret<String>,
    /// The secret access key.
    pub secret: Secret<String>,
    /// The region.
    pub region: String,
    /// The service.
    pub service: String,
}

/// The headers a signed request has besides its own.
pub(super) struct Signature {
    /// `X-Amz-Date`.
    pub date: String,
    /// `Authorization`.
    pub authorization: String,
}

impl Signer {
    /// Signs a request.
    pub(super) fn sign(
        &self,
        method: &Method,
        url: &Url,
        content_type: &str,
        body: &[u8],
        at: Timestamp,
    ) -> Signature {
        let date = basic_format(at);
        let day = &date[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let canonical = canonical_request(method, url, content_type, &date, body);
        let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex_sha256(canonical.as_bytes()));
        let signature = HEXLOWER.encode(hmac_sha256(self.signing_key(day).as_ref(), &to_sign).as_ref());
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={SIGNED}, Signature={signature}",
            self.key.expose()
        );
        Signature { date, authorization }
    }

    fn signing_key(&self, day: &str) -> hmac::Tag {
        let secret = Secret::new(format!("AWS4{}", self.secret.expose()));
        let of_day = hmac_sha256(secret.expose().as_bytes(), day);
        let of_region = hmac_sha256(of_day.as_ref(), &self.region);
        let of_service = hmac_sha256(of_region.as_ref(), &self.service);
        hmac_sha256(of_service.as_ref(), "aws4_request")
    }
}

fn canonical_request(method: &Method, url: &Url, content_type: &str, date: &str, body: &[u8]) -> String {
    let mut query: Vec<&str> = url.query().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    format!(
        "{method}\n{}\n{}\ncontent-type:{content_type}\nhost:{}\nx-amz-date:{date}\n\n{SIGNED}\n{}",
        url.path(),
        query.join("&"),
        authority(url),
        hex_sha256(body)
    )
}

/// Returns what the `Host` header will say.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns the time in the basic format of ISO 8601.
fn basic_format(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default();
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn hmac_sha256(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex_sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://docs.aws.amazon.com/general/latest/gr/sigv4-signed-request-examples.html>
    #[test]
    fn the_published_example_comes_out() {
        let signer = Signer {
            key: Secret::new("AKIDEXAMPLE".into()),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            region: "us-east-1".into(),
            service: "iam".into(),
        };

        let signature = signer.sign(
            &Method::POST,
            &Url::parse("http://iam.amazonaws.com/").expect("a URL"),
            "application/x-www-form-urlencoded; charset=utf-8",
            b"Action=ListUsers&Version=2010-05-08",
            Timestamp::parse("2011-09-09T23:36:00Z").expect("a time"),
        );

        assert_eq!(signature.date, "20110909T233600Z");
        assert_eq!(
            signature.authorization,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20110909/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ced6826de92d2bdeed8f846f0bf508e8559e98e4b0199114b84c54174deb456c"
        );
    }
}
