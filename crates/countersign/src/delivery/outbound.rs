//! Requests to the outside: bounded in time, never redirected, never into private networks unless allowed by name.
//!
//! Who can choose an address we ask must not reach through us what only we can reach. So names are resolved here, what
//! they resolve to is looked at, and exactly that is connected to: a name that changes its address in between gains
//! nothing.

mod address;

use crate::error::{Error, Result};
use address::is_public;
use countersign_core::Secret;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::USER_AGENT};
use reqwest::{
    Certificate, Client, Proxy, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use std::{
    collections::BTreeSet,
    error::Error as _,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The most bytes of an answer that are read.
pub const ANSWER_LIMIT: usize = 64 * 1024;
/// Who we say we are.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("countersign/", env!("CARGO_PKG_VERSION")));

/// What may be reached, and how.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Hosts that may have private addresses and be asked without TLS, as they stand in the URL.
    pub allow_private: Vec<String>,
    /// A file in PEM with authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A proxy for everything. It then resolves names, so keeping to public addresses is its part.
    pub proxy: Option<String>,
}

/// The one way out.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: Client,
    allowed: Allowed,
    proxy: Option<Url>,
}

/// A request. Does not print: URL, headers and body may hold secrets, numbers and codes.
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Secret<Vec<u8>>,
    /// How long all of it may take, the answer's body included.
    pub timeout: Duration,
}

/// An answer. Does not print, for it may repeat what was sent.
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Secret<Vec<u8>>,
}

/// Why there is no answer. The texts name hosts at most, never what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The address may not be asked.
    #[error("{0} is a private address and not in delivery.allow_private")]
    Private(String),
    /// The address is not asked without TLS.
    #[error("{0} is asked over https only")]
    Plain(String),
    /// No connection came about.
    #[error("connect: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// The connection ended before the answer did, or what came was no HTTP.
    #[error("connection cut: {0}")]
    Cut(String),
    /// The answer is longer than any sensible one.
    #[error("answer longer than {ANSWER_LIMIT} bytes")]
    TooLong,
}

/// The hosts that may have private addresses.
#[derive(Debug, Clone)]
struct Allowed(Arc<BTreeSet<String>>);

/// What a resolver says of a name that only has addresses we do not connect to.
#[derive(Debug, thiserror::Error)]
#[error("only private addresses")]
struct OnlyPrivate;

impl Outbound {
    /// Prepares the way out, with the system's authorities and without a proxy.
    pub fn new(allow_private: &[String]) -> Result<Self> {
        Self::reaching(&Reach { allow_private: allow_private.to_vec(), ..Reach::default() })
    }

    /// Prepares the way out.
    pub fn reaching(reach: &Reach) -> Result<Self> {
        let proxy = reach.proxy.as_deref().map(parse_proxy).transpose()?;
        let named = reach.allow_private.iter().map(String::as_str);
        let allowed = Allowed::new(named.chain(proxy.as_ref().and_then(Url::host_str)));
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .redirect(redirect::Policy::none())
            .referer(false)
            // What is asked again, and when, is not for a client to decide.
            .retry(reqwest::retry::never())
            .no_proxy()
            .dns_resolver(allowed.clone());
        if let Some(proxy) = &proxy {
            builder = builder.proxy(Proxy::all(proxy.clone()).map_err(|error| unprepared(&error))?);
        }
        if let Some(file) = &reach.ca_file {
            let shown = file.display();
            let pem = fs::read(file)
                .map_err(|error| Error::Store(format!("read delivery.ca_file {shown}: {error}")))?;
            let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if found.is_empty() {
                return Err(Error::Store(format!("read delivery.ca_file {shown}: no certificate in PEM")));
            }
            builder = builder.tls_certs_merge(found);
        }
        let client = builder.build().map_err(|error| unprepared(&error))?;
        Ok(Self { client, allowed, proxy })
    }

    /// Checks what is known of a URL before its name is resolved.
    pub fn check(&self, url: &Url) -> Result<(), OutboundError> {
        self.allowed.check(url)
    }

    /// Connects to where a URL leads, or to the proxy on the way there, says nothing and returns what was connected to.
    pub async fn reach(&self, url: &Url) -> Result<String, OutboundError> {
        self.check(url)?;
        let first = self.proxy.as_ref().unwrap_or(url);
        let host = bare(first.host_str().unwrap_or_default());
        let port = first.port_or_known_default().unwrap_or_default();
        let failed =
            |attempt: &str, error: io::Error| OutboundError::Unreachable(format!("{attempt}: {error}"));
        let connect = async {
            let found = self.allowed.addresses(&host, port).await;
            let found = found.map_err(|error| failed(&format!("resolve {host}"), error))?;
            if found.is_empty() {
                return Err(OutboundError::Private(host.clone()));
            }
            let shown = format!("{host}:{port}");
            TcpStream::connect(&found[..]).await.map_err(|error| failed(&shown, error))?;
            Ok(shown)
        };
        timeout(CONNECT, connect)
            .await
            .map_err(|_| OutboundError::Unreachable(format!("{host}: no answer in time")))?
    }

    /// Sends a request and returns the whole answer, whatever its status.
    pub async fn send(&self, request: Request) -> Result<Reply, OutboundError> {
        self.check(&request.url)?;
        let Request { method, url, mut headers, body, timeout } = request;
        headers.entry(USER_AGENT).or_insert(AGENT);
        let host = url.host_str().unwrap_or_default().to_owned();
        let asked = self.client.request(method, url).headers(headers).timeout(timeout);
        let mut answer =
            asked.body(body.expose().clone()).send().await.map_err(|error| failure(&error, &host))?;

        let mut read = Secret::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|error| failure(&error, &host))? {
            if read.expose().len() + chunk.len() > ANSWER_LIMIT {
                return Err(OutboundError::TooLong);
            }
            read = Secret::new([read.expose(), chunk.as_ref()].concat());
        }
        Ok(Reply { status: answer.status(), headers: answer.headers().clone(), body: read })
    }
}

impl Allowed {
    fn new<'a>(hosts: impl Iterator<Item = &'a str>) -> Self {
        Self(Arc::new(hosts.map(bare).collect()))
    }

    fn has(&self, host: &str) -> bool {
        self.0.contains(&bare(host))
    }

    /// Resolves a name, and leaves out addresses it may not have.
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let is_allowed = self.has(host);
        let found = tokio::net::lookup_host((host, port)).await?;
        Ok(found.filter(|found| is_allowed || is_public(found.ip())).collect())
    }

    /// Checks what can be checked before a name is resolved: the scheme, and an address written out.
    fn check(&self, url: &Url) -> Result<(), OutboundError> {
        let host = url.host_str().unwrap_or_default();
        if self.has(host) {
            return Ok(());
        }
        if url.scheme() != "https" {
            return Err(OutboundError::Plain(bare(host)));
        }
        match bare(host).parse::<IpAddr>() {
            Ok(address) if !is_public(address) => Err(OutboundError::Private(bare(host))),
            _ => Ok(()),
        }
    }
}

impl Resolve for Allowed {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.clone();
        Box::pin(async move {
            let usable = allowed.addresses(name.as_str(), 0).await?;
            if usable.is_empty() {
                return Err(OnlyPrivate.into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// Returns a host as it is compared: in lower case, without the brackets of an IPv6 address or a closing dot.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

fn parse_proxy(text: &str) -> Result<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| Error::Store("read delivery.proxy: expected http://HOST:PORT".into()))
}

fn unprepared(error: &reqwest::Error) -> Error {
    Error::Store(format!("prepare outgoing requests: {}", root_cause(error)))
}

/// Says why there is no answer, without the URL that the client's own words would have.
fn failure(error: &reqwest::Error, host: &str) -> OutboundError {
    if causes(error).any(|cause| cause.is::<OnlyPrivate>()) {
        OutboundError::Private(bare(host))
    } else if error.is_timeout() {
        OutboundError::TimedOut
    } else if error.is_connect() {
        OutboundError::Unreachable(root_cause(error))
    } else {
        OutboundError::Cut(root_cause(error))
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow: &[&str], url: &str) -> Result<(), OutboundError> {
        Allowed::new(allow.iter().copied()).check(&Url::parse(url).expect(url))
    }

    #[test]
    fn an_address_written_out_is_looked_at_whatever_its_spelling() {
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://10.1.2.3/",
        ] {
            assert!(matches!(check(&[], url), Err(OutboundError::Private(_))), "{url}");
        }
        assert_eq!(check(&[], "https://1.1.1.1/"), Ok(()));
        assert_eq!(check(&["127.0.0.1", "::1"], "https://127.0.0.1/"), Ok(()));
        assert_eq!(check(&["127.0.0.1", "::1"], "http://[::1]/"), Ok(()));
    }

    #[test]
    fn only_a_host_allowed_by_name_is_asked_without_tls() {
        assert_eq!(
            check(&[], "http://sms.example.com/"),
            Err(OutboundError::Plain("sms.example.com".into()))
        );
        assert_eq!(check(&["SMS.example.com."], "http://sms.example.com/"), Ok(()));
        assert!(check(&["example.com"], "http://sms.example.com/").is_err());
    }
}
