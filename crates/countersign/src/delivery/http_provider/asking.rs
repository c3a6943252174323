//! How a provider is asked: the templates of a request, filled with a message.

use super::{
    proof::{Parameters, Proof, header_value, parameters},
    signature::Signer,
    template::{Escape, Templates, Values},
};
use crate::{
    config::delivery::http::HttpProvider,
    delivery::{
        Outgoing, Written,
        outbound::{Outbound, Request},
    },
};
use countersign_core::{Channel, DeliveryId, Destination, Secret, Timestamp, refusal::Invalid};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use minijinja::Value;
use reqwest::Url;
use serde::de::IgnoredAny;
use std::time::Duration;
use uuid::Uuid;

/// How long a request may take if the configuration does not say.
const TIMEOUT_SECONDS: u64 = 10;
/// What every provider we know takes as the seconds until a message is no use any more.
const TTL_SECONDS: (u64, u64) = (60, 14_400);
/// The characters of GSM 03.38 and its extension table. A text with any other is sent as UCS-2.
const GSM: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ\
                   ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà\u{c}^{}\\[~]|€";

/// Numbers that templates are tried out with.
const SAMPLES: [&str; 2] = ["+4930123456", "+12025550143"];
/// What is recognised of the text that templates are tried out with.
const SAMPLE_CODE: &str = "907384";

/// How a provider is asked.
pub(super) struct Asking {
    channel: Channel,
    method: Method,
    templates: Templates,
    parameters: Parameters,
    query: Vec<String>,
    headers: Vec<HeaderName>,
    body: Option<Body>,
    proof: Proof,
    timeout: Duration,
}

struct Body {
    content_type: HeaderValue,
    escape: Escape,
}

impl Asking {
    /// Prepares the templates, and tries them out on messages that go nowhere.
    pub(super) fn new(channel: Channel, given: &HttpProvider, outbound: &Outbound) -> Result<Self, Invalid> {
        let parameters = parameters(given)?;
        let asking = Self {
            channel,
            method: parse_method(given.method.as_deref())?,
            templates: templates(given)?,
            query: given.query.keys().cloned().collect(),
            headers: given.headers.keys().map(|name| parse_header_name(name)).collect::<Result<_, _>>()?,
            body: given.body.as_ref().map(|_| parse_body(given)).transpose()?,
            proof: Proof::new(given, &parameters)?,
            timeout: parse_timeout(given.timeout_seconds)?,
            parameters,
        };
        asking.try_out(outbound)?;
        Ok(asking)
    }

    /// Writes the request that asks for a message to be sent.
    pub(super) fn request(&self, outgoing: &Outgoing, now: Timestamp) -> Result<Request, Invalid> {
        let values = self.values(outgoing, now)?;
        let url = self.url(&values)?;
        let body = match &self.body {
            Some(body) => self.templates.render("body", body.escape, &values)?,
            None => Secret::new(String::new()),
        };
        let headers = self.headers(outgoing.id, &url, body.expose().as_bytes(), now)?;
        let body = Secret::new(body.expose().clone().into_bytes());
        Ok(Request { method: self.method.clone(), url, headers, body, timeout: self.timeout })
    }

    fn url(&self, values: &Values) -> Result<Url, Invalid> {
        let text = self.templates.render("url", Escape::Form, values)?;
        let mut url = Url::parse(text.expose())
            .ok()
            .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
            .ok_or_else(|| Invalid::new("url", "expected a URL such as https://sms.example.com/send"))?;
        for name in &self.query {
            let value = self.templates.render(&query_key(name), Escape::Nothing, values)?;
            url.query_pairs_mut().append_pair(name, value.expose());
        }
        Ok(url)
    }

    fn headers(&self, id: DeliveryId, url: &Url, body: &[u8], now: Timestamp) -> Result<HeaderMap, Invalid> {
        // A message's text and destination stay out of headers, which end up in the logs of proxies.
        let mut values = self.parameter_values();
        values.insert("id", Value::from(id.to_string()));
        let mut headers = HeaderMap::new();
        for name in &self.headers {
            let key = header_key(name.as_str());
            let value = self.templates.render(&key, Escape::Nothing, &values)?;
            headers.insert(name.clone(), header_value(&key, value.expose())?);
        }
        if let Some(body) = &self.body {
            headers.insert(CONTENT_TYPE, body.content_type.clone());
        }
        match &self.proof {
            Proof::Nothing => {}
            Proof::Header(value) => drop(headers.insert(AUTHORIZATION, value.clone())),
            Proof::Signature(signer) => self.sign(signer, &mut headers, url, body, now)?,
        }
        Ok(headers)
    }

    fn sign(
        &self,
        signer: &Signer,
        headers: &mut HeaderMap,
        url: &Url,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Invalid> {
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let signature = signer.sign(&self.method, url, content_type, body, now);
        headers.insert("x-amz-date", header_value("auth", &signature.date)?);
        headers.insert(AUTHORIZATION, header_value("auth", &signature.authorization)?);
        Ok(())
    }

    /// Returns what the templates of URL, query and body may name.
    fn values(&self, outgoing: &Outgoing, now: Timestamp) -> Result<Values, Invalid> {
        let mut values = self.parameter_values();
        let text = match (&outgoing.written, self.channel) {
            (Written::Sms { text }, Channel::Sms) => text,
            (Written::Voice { text, language }, Channel::Voice) => {
                values.insert("language", Value::from(language.as_str()));
                text
            }
            _ => return Err(Invalid::new("channel", format!("expected a message for {}", self.channel))),
        };
        let ttl = now.until(outgoing.expires_at).as_secs().clamp(TTL_SECONDS.0, TTL_SECONDS.1);
        values.insert("id", Value::from(outgoing.id.to_string()));
        values.insert("to", Value::from(outgoing.to.full()));
        values.insert("text", Value::from(text.expose().as_str()));
        values.insert("unicode", Value::from(!text.expose().chars().all(|c| GSM.contains(c))));
        values.insert("ttl", Value::from(ttl));
        Ok(values)
    }

    fn parameter_values(&self) -> Values {
        self.parameters.iter().map(|(name, value)| (*name, Value::from(value.expose().as_str()))).collect()
    }

    /// Returns an address as it is asked with a message, with values that are nobody's.
    pub(super) fn address(&self) -> Result<Url, Invalid> {
        Ok(self.request(&sample(self.channel, SAMPLES[0])?, Timestamp::from_seconds(0))?.url)
    }

    /// Fails now on what would fail with the first message.
    fn try_out(&self, outbound: &Outbound) -> Result<(), Invalid> {
        let tried = SAMPLES.map(|number| {
            let request = self.request(&sample(self.channel, number)?, Timestamp::from_seconds(0))?;
            if self.body.as_ref().is_some_and(|body| body.escape == Escape::Json) {
                serde_json::from_slice::<IgnoredAny>(request.body.expose()).map_err(|_| {
                    Invalid::new("body", "is no JSON once filled in; values bring their quotes")
                })?;
            }
            Ok(request)
        });
        let [one, other] = tried;
        let (one, other): (Request, Request) = (one?, other?);
        if one.url.origin() != other.url.origin() {
            return Err(Invalid::new("url", "the host cannot depend on the message"));
        }
        outbound.check(&one.url).map_err(|error| Invalid::new("url", error.to_string()))?;
        self.carries_all(SAMPLES[0], &one)?;
        self.carries_all(SAMPLES[1], &other)
    }

    /// Checks that a request says what is to be sent, and to whom. Digits are the same however they are escaped; of the
    /// number, a provider of one country may want all but the country's code.
    fn carries_all(&self, number: &str, request: &Request) -> Result<(), Invalid> {
        let body = String::from_utf8_lossy(request.body.expose());
        let carries = |digits: &str| request.url.as_str().contains(digits) || body.contains(digits);
        let key = if self.body.is_some() {
            "body"
        } else if self.query.is_empty() {
            "url"
        } else {
            "query"
        };
        for (digits, value) in [(&number[number.len() - 7..], "to"), (SAMPLE_CODE, "text")] {
            if !carries(digits) {
                let why = format!("the provider is not told {{{{ {value} }}}}; say it in url, query or body");
                return Err(Invalid::new(key, why));
            }
        }
        Ok(())
    }
}

fn templates(given: &HttpProvider) -> Result<Templates, Invalid> {
    let mut templates = Templates::new();
    let Some(url) = &given.url else {
        return Err(Invalid::new("url", "is missing"));
    };
    let path = given.path.as_deref().unwrap_or_default();
    let base = if path.is_empty() { url } else { url.trim_end_matches('/') };
    templates.add("url", Escape::Form, &format!("{base}{path}"))?;
    for (name, source) in &given.query {
        templates.add(&query_key(name), Escape::Nothing, source)?;
    }
    for (name, source) in &given.headers {
        templates.add(&header_key(name), Escape::Nothing, source)?;
    }
    if let Some(source) = &given.body {
        templates.add("body", escape_of_body(given), source)?;
    }
    Ok(templates)
}

fn query_key(name: &str) -> String {
    format!("query.{name}")
}

fn header_key(name: &str) -> String {
    format!("headers.{}", name.to_ascii_lowercase())
}

fn escape_of_body(given: &HttpProvider) -> Escape {
    given.content_type.as_deref().map_or(Escape::Nothing, Escape::of_media_type)
}

fn parse_body(given: &HttpProvider) -> Result<Body, Invalid> {
    let Some(content_type) = &given.content_type else {
        return Err(Invalid::new("content_type", "goes with body"));
    };
    let content_type = HeaderValue::from_str(content_type)
        .map_err(|_| Invalid::new("content_type", "expected a media type such as application/json"))?;
    Ok(Body { content_type, escape: escape_of_body(given) })
}

fn parse_method(given: Option<&str>) -> Result<Method, Invalid> {
    match given {
        None | Some("POST") => Ok(Method::POST),
        Some("GET") => Ok(Method::GET),
        Some("PUT") => Ok(Method::PUT),
        Some(_) => Err(Invalid::new("method", "expected GET, POST or PUT")),
    }
}

fn parse_timeout(seconds: Option<u64>) -> Result<Duration, Invalid> {
    let seconds = seconds.unwrap_or(TIMEOUT_SECONDS);
    if (1..=60).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(Invalid::new("timeout_seconds", "expected 1 to 60"))
}

fn parse_header_name(name: &str) -> Result<HeaderName, Invalid> {
    name.parse().map_err(|_| Invalid::new(header_key(name), "is no header's name"))
}

/// Returns a message for trying templates out, with whatever breaks out of a place that is not escaped.
fn sample(channel: Channel, number: &str) -> Result<Outgoing, Invalid> {
    let text = Secret::new(format!("\"'<&>\\\n{{}}%+ {SAMPLE_CODE}"));
    Ok(Outgoing {
        id: DeliveryId::from_uuid(Uuid::nil()),
        to: Destination::parse(channel, "to", number)?,
        expires_at: Timestamp::from_seconds(600),
        written: match channel {
            Channel::Voice => Written::Voice { text, language: "en-US".into() },
            _ => Written::Sms { text },
        },
    })
}
