//! A lean HTTP/1.1 client: one keep-alive connection, requests built ahead, the least parsing that is still correct.
//!
//! It shares the cores with the server it measures, so what it costs is taken from the result.

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// The bytes an answer may take before we doubt it.
const ANSWER_LIMIT: usize = 16 << 20;

/// A service client's name and secret, as `countersign init --json` prints them.
#[derive(Clone, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) secret: String,
    /// The first administrator; no member of the client's in what is printed.
    #[serde(skip)]
    pub(crate) admin: Option<Admin>,
}

/// The first administrator's name and password.
#[derive(Clone, Deserialize)]
pub(crate) struct Admin {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Credentials {
    /// Reads the output of `countersign init --json`.
    pub(crate) fn from_init(output: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Init {
            client: Credentials,
            admin: Option<Admin>,
        }
        let init: Init = serde_json::from_slice(output).context("read the output of init --json")?;
        Ok(Self { admin: init.admin, ..init.client })
    }

    /// Reads a file that holds the output of `countersign init --json`.
    pub(crate) fn from_file(path: &Path) -> Result<Self> {
        Self::from_init(&std::fs::read(path).with_context(|| format!("read {}", path.display()))?)
    }

    /// Returns the value of an `Authorization` header that does not expire.
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", BASE64.encode(format!("{}:{}", self.id, self.secret).as_bytes()))
    }

    /// Signs in and returns the value of an `Authorization` header with a bearer token.
    pub(crate) async fn bearer(&self, address: SocketAddr) -> Result<String> {
        #[derive(Deserialize)]
        struct Token {
            access_token: String,
        }
        let form = b"grant_type=client_credentials";
        let request =
            request("POST", "/oauth/token", &self.basic(), Some(("application/x-www-form-urlencoded", form)));
        let mut connection = Connection::open(address).await?;
        let answer = connection.exchange(&request).await?;
        ensure!(answer.status == 200, "get a token: {answer}");
        let token: Token = serde_json::from_slice(answer.body).context("get a token")?;
        Ok(format!("Bearer {}", token.access_token))
    }
}

/// Builds a request.
pub(crate) fn request(method: &str, path: &str, authorization: &str, body: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: bench\r\n");
    if !authorization.is_empty() {
        head += &format!("authorization: {authorization}\r\n");
    }
    if let Some((kind, body)) = body {
        head += &format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len());
    }
    head += "\r\n";
    let mut request = head.into_bytes();
    request.extend_from_slice(body.map_or(&[], |(_, body)| body));
    request
}

/// Builds a request with a JSON body.
pub(crate) fn json_request(method: &str, path: &str, authorization: &str, body: &Value) -> Vec<u8> {
    request(method, path, authorization, Some(("application/json", body.to_string().as_bytes())))
}

/// One keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl std::fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(self.body).trim_end())
    }
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        Self::open_from(None, address).await
    }

    /// Connects from an address of ours.
    pub(crate) async fn open_from(from: Option<IpAddr>, address: SocketAddr) -> Result<Self> {
        let connected = match from {
            None => TcpStream::connect(address).await,
            Some(from) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind((from, 0).into()).with_context(|| format!("send from {from}"))?;
                socket.connect(address).await
            }
        };
        let stream = connected.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 4096] })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await.context("send a request")?;
        let mut filled = 0;
        let head = loop {
            if filled == self.buffer.len() {
                ensure!(filled < ANSWER_LIMIT, "answer of more than {ANSWER_LIMIT} bytes");
                self.buffer.resize(2 * filled, 0);
            }
            match self.stream.read(&mut self.buffer[filled..]).await.context("read an answer")? {
                0 => bail!("the server closed the connection"),
                count => filled += count,
            }
            if let Some(head) = Head::parse(&self.buffer[..filled])?
                && filled >= head.length + head.body
            {
                break head;
            }
        };
        ensure!(filled == head.length + head.body, "more bytes than the answer has");
        Ok(Answer { status: head.status, body: &self.buffer[head.length..filled] })
    }

    /// Sends a request and reads the JSON of an answer with the expected status.
    pub(crate) async fn json(&mut self, request: &[u8], expected: u16) -> Result<Value> {
        let answer = self.exchange(request).await?;
        ensure!(answer.status == expected, "expected status {expected}, got {answer}");
        serde_json::from_slice(answer.body).context("read an answer")
    }
}

/// What the start of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes before the body.
    length: usize,
    /// Bytes of the body.
    body: usize,
}

impl Head {
    /// Reads status and lengths, once the head is complete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&bytes[..end]).context("read the head of an answer")?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
            .with_context(|| format!("not an answer of HTTP/1.1: {head}"))?;
        let body = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map(|(_, value)| value.trim().parse().context("read the content length"))
            .transpose()?;
        match (status, body) {
            (204 | 304, None) => Ok(Some(Self { status, length: end + 4, body: 0 })),
            (_, Some(body)) => Ok(Some(Self { status, length: end + 4, body })),
            (_, None) => bail!("an answer without a length: {head}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::TcpListener;

    #[test]
    fn a_head_gives_status_and_lengths() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let expected = Head { status: 200, length: 38, body: 2 };

        assert_eq!(Head::parse(answer).expect("head"), Some(expected));
        assert_eq!(Head::parse(&answer[..37]).expect("part"), None);
    }

    #[test]
    fn only_an_answer_that_cannot_have_a_body_may_lack_a_length() {
        assert!(Head::parse(b"HTTP/1.1 204 No Content\r\n\r\n").expect("head").is_some());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Head::parse(b"SSH-2.0-server\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn an_answer_may_come_in_pieces_and_be_longer_than_the_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let body = vec![b'x'; 10_000];
        let served = body.clone();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            for _ in 0..2 {
                let mut request = [0; 256];
                let _ = stream.read(&mut request).await.expect("read");
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.expect("write");
                tokio::time::sleep(Duration::from_millis(5)).await;
                stream.write_all(b"ngth: 10000\r\n\r\n").await.expect("write");
                stream.write_all(&served).await.expect("write");
            }
        });

        let mut connection = Connection::open(address).await.expect("open");
        for _ in 0..2 {
            let answer = connection.exchange(&request("GET", "/", "", None)).await.expect("answer");
            assert_eq!((answer.status, answer.body), (200, &body[..]));
        }
    }

    #[test]
    fn the_credentials_come_from_the_output_of_init() {
        let credentials =
            Credentials::from_init(br#"{"client":{"id":"a","secret":"b","scopes":[]}}"#).expect("read");

        assert_eq!(credentials.basic(), "Basic YTpi");
    }
}
