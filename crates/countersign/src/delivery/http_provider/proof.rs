//! Who asks: the account's parameters and secrets, and how a provider is shown them.

use super::signature::Signer;
use crate::{
    config::{
        delivery::http::{Auth, HttpProvider},
        secret::{self, Given},
    },
    error::Error,
};
use countersign_core::{Refusal, Secret, refusal::Invalid};
use data_encoding::BASE64;
use http::HeaderValue;
use std::{collections::BTreeMap, path::Path};

/// The values that say who we are to the provider.
pub(super) type Parameters = BTreeMap<&'static str, Secret<String>>;

/// How we show who asks.
pub(super) enum Proof {
    /// Not by a header.
    Nothing,
    /// By the same header each time.
    Header(HeaderValue),
    /// By signing each request.
    Signature(Signer),
}

impl Proof {
    /// Prepares it from the parameters there are.
    pub(super) fn new(given: &HttpProvider, parameters: &Parameters) -> Result<Self, Invalid> {
        let get = |key: &'static str| {
            let missing = || Invalid::new(key, "is missing, and who asks is shown by it");
            parameters.get(key).map(|value| value.expose().as_str()).ok_or_else(missing)
        };
        Ok(match given.auth.unwrap_or_default() {
            Auth::None => Self::Nothing,
            Auth::Bearer => Self::Header(header_value("token", &format!("Bearer {}", get("token")?))?),
            Auth::Basic => {
                let (user, password) = match (get("key"), get("secret")) {
                    (Ok(key), Ok(secret)) => (key, secret),
                    _ => (get("account")?, get("token")?),
                };
                let pair = BASE64.encode(format!("{user}:{password}").as_bytes());
                Self::Header(header_value("auth", &format!("Basic {pair}"))?)
            }
            Auth::Aws => Self::Signature(Signer {
                key: Secret::new(get("key")?.to_owned()),
                secret: Secret::new(get("secret")?.to_owned()),
                region: get("region")?.to_owned(),
                service: given.service.clone().ok_or_else(|| Invalid::new("service", "goes with auth"))?,
            }),
        })
    }
}

/// Collects the parameters that are there; a template that names one that is not fails when it is tried out.
pub(super) fn parameters(given: &HttpProvider) -> Result<Parameters, Invalid> {
    let plain = [
        ("account", &given.account),
        ("from", &given.from),
        ("voice", &given.voice),
        ("region", &given.region),
    ];
    let mut parameters: Parameters =
        plain.into_iter().filter_map(|(key, value)| Some((key, Secret::new(value.clone()?)))).collect();
    for (key, value, file) in [
        ("token", &given.token, &given.token_file),
        ("key", &given.key, &given.key_file),
        ("secret", &given.secret, &given.secret_file),
    ] {
        if let Some(secret) = read_secret(key, value.as_ref(), file.as_deref())? {
            parameters.insert(key, secret);
        }
    }
    Ok(parameters)
}

fn read_secret(
    key: &str,
    given: Option<&Given>,
    file: Option<&Path>,
) -> Result<Option<Secret<String>>, Invalid> {
    secret::read(key, given, file).map_err(|error| match error {
        Error::Refused(Refusal::Invalid(invalid)) => invalid,
        other => Invalid::new(key, other.to_string()),
    })
}

/// Takes a header's value, marked so that it is neither printed nor kept in a compression table.
pub(super) fn header_value(key: &str, text: &str) -> Result<HeaderValue, Invalid> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Invalid::new(key, "cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
