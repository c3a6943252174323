//! Providers of text messages and calls that are asked by HTTP.

use super::super::secret::Given;
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// A provider: where and how it is asked, and what its answers mean.
///
/// Every member but the name has a value from the preset or a default; one that is given replaces it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpProvider {
    /// The name it goes by in logs and lists.
    pub name: String,
    /// The countries it serves, as ISO 3166 codes such as `DE`; empty for all that no other provider lists.
    pub countries: Vec<String>,
    /// The published interface it speaks.
    pub preset: Preset,
    /// The most seconds a request may take, 10 if not given.
    pub timeout_seconds: Option<u64>,

    /// The account, in the provider's spelling.
    pub account: Option<String>,
    /// The sender people see: a number or a name.
    pub from: Option<String>,
    /// The voice that speaks, in the provider's spelling.
    pub voice: Option<String>,
    /// The region of the provider's service.
    pub region: Option<String>,
    /// The account's token.
    pub token: Option<Given>,
    /// A file with the token.
    pub token_file: Option<PathBuf>,
    /// The public part of an API key.
    pub key: Option<Given>,
    /// A file with the public part of an API key.
    pub key_file: Option<PathBuf>,
    /// The secret part of an API key.
    pub secret: Option<Given>,
    /// A file with the secret part of an API key.
    pub secret_file: Option<PathBuf>,

    /// Where requests go; with a preset, another server that speaks the same.
    pub url: Option<String>,
    /// What follows `url`.
    pub path: Option<String>,
    /// The method, `POST` if not given.
    pub method: Option<String>,
    /// What follows the path's question mark, as templates.
    pub query: BTreeMap<String, String>,
    /// Further headers, as templates that know no message.
    pub headers: BTreeMap<String, String>,
    /// The body, as a template.
    pub body: Option<String>,
    /// The body's media type, which decides how values are escaped in it.
    pub content_type: Option<String>,
    /// How the provider knows who asks.
    pub auth: Option<Auth>,
    /// The name of the service that AWS signatures are for.
    pub service: Option<String>,

    /// Which answers mean that the message was taken; any 2xx if not given.
    pub success: Option<Meaning>,
    /// Which answers mean that it never will be; none if not given.
    pub permanent: Option<Meaning>,
    /// Where an answer has the provider's own name for the message.
    pub reference: Option<String>,
    /// Where an answer has the provider's code for what went wrong.
    pub error: Option<String>,
}

/// The published interfaces we know by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Twilio: text messages and calls.
    Twilio,
    /// Vonage, once Nexmo: text messages.
    Vonage,
    /// MessageBird: text messages.
    Messagebird,
    /// Amazon SNS: text messages.
    Aws,
    /// None of them: all is said in the configuration.
    #[default]
    Generic,
}

impl Preset {
    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Vonage => "vonage",
            Self::Messagebird => "messagebird",
            Self::Aws => "aws",
            Self::Generic => "generic",
        }
    }
}

/// How a provider knows who asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// By something in the headers, the query or the body, or not at all.
    #[default]
    None,
    /// HTTP Basic: `key` and `secret`, else `account` and `token`.
    Basic,
    /// A bearer `token`.
    Bearer,
    /// Signature Version 4 of AWS, by `key`, `secret`, `region` and `service`.
    Aws,
}

/// Which answers mean something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Meaning {
    /// HTTP statuses, such as `200` or `"200-299"`.
    pub status: Vec<Status>,
    /// A place in the answer: a JSON pointer such as `/messages/0/status`, or an XML element such as `<Code>`.
    pub field: Option<String>,
    /// The values at that place.
    pub values: Vec<String>,
}

/// One HTTP status or a range of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Status {
    /// One, such as `200`.
    One(u16),
    /// From one to another, such as `"200-299"`.
    Range(String),
}
