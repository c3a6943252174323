//! A small HTTP/1.1 server that keeps what it was asked, and answers well or badly.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs},
};

/// A running server; it stops when dropped.
pub(crate) struct HttpPeer {
    /// Where it listens, such as `http://127.0.0.1:40000`.
    pub(crate) url: String,
    /// The authority to trust, in PEM, if it speaks TLS.
    pub(crate) authority: Option<String>,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

/// What it was asked.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// What it answers.
pub(crate) enum Answer {
    /// A whole answer.
    Whole(u16, Vec<(&'static str, String)>, String),
    /// Nothing, on a connection that stays open.
    Silence,
    /// Less than it announces, and then the end.
    CutShort,
    /// A byte now and then.
    Drip,
    /// Something that is no HTTP.
    Noise,
}

impl Answer {
    /// Returns an answer in JSON.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Whole(status, vec![("content-type", "application/json".into())], body.to_string())
    }

    /// Returns an answer with a status and nothing more to say.
    pub(crate) fn status(status: u16) -> Self {
        Self::Whole(status, Vec::new(), String::new())
    }
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Returns the fields of a form; asserts that none comes twice.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        for (name, value) in self.body.split('&').filter_map(|field| field.split_once('=')) {
            assert!(fields.insert(decoded(name), decoded(value)).is_none(), "{name} comes twice");
        }
        fields
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                u8::from_str_radix(std::str::from_utf8(&hex).expect("ASCII"), 16).expect("hex")
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}

impl HttpPeer {
    /// Starts a server that answers each request as `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(answer)).await
    }

    /// Starts a server that speaks TLS, with a certificate for `localhost` from an authority of its own.
    pub(crate) async fn start_tls(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a pair");
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![pair.cert.der().clone()],
                pair.signing_key.serialize_der().try_into().expect("a key"),
            )
            .expect("a certificate");
        let tls = (TlsAcceptor::from(Arc::new(config)), pair.cert.pem());
        Self::listen(Some(tls), Arc::new(answer)).await
    }

    async fn listen(
        tls: Option<(TlsAcceptor, String)>,
        answer: Arc<dyn Fn(&Asked) -> Answer + Send + Sync>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let url = match &tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let (acceptor, authority) = tls.unzip();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer, acceptor) = (Arc::clone(&kept), Arc::clone(&answer), acceptor.clone());
                tokio::spawn(async move {
                    // A client that hangs up is no failure of the server's.
                    drop(match acceptor {
                        None => converse(stream, &kept, &*answer).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => converse(stream, &kept, &*answer).await,
                            Err(error) => Err(error),
                        },
                    });
                });
            }
        });
        Self { url, authority, asked, task }
    }

    /// Returns what it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    /// Returns the one thing it was asked.
    pub(crate) fn only(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "one request");
        asked[0].clone()
    }
}

impl Drop for HttpPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request and answers it.
async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    kept: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked) -> Answer + Send + Sync),
) -> io::Result<()> {
    let asked = read_request(&mut stream).await?;
    kept.lock().expect("no panic").push(asked.clone());
    match answer(&asked) {
        Answer::Whole(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await?;
        }
        Answer::Silence => tokio::time::sleep(Duration::from_secs(60)).await,
        Answer::CutShort => {
            stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{\"sid\": ").await?
        }
        Answer::Drip => {
            stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n").await?;
            for _ in 0..1000 {
                stream.write_all(b" ").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Answer::Noise => stream.write_all(b"220 mail.example.com ESMTP\r\n").await?,
    }
    stream.shutdown().await
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let body = String::from_utf8_lossy(&bytes[end..end + length]).into_owned();
    Ok(Asked {
        method: first.next().unwrap_or_default(),
        target: first.next().unwrap_or_default(),
        headers,
        body,
    })
}
