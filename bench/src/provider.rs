//! A provider of text messages that takes note of what it gets, and goes silent when told to.

use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

/// A message that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The server's name for it.
    pub(crate) id: String,
    /// When it was here in full.
    pub(crate) at: Instant,
}

/// What the provider knows.
#[derive(Default)]
struct Desk {
    arrivals: Mutex<Vec<Arrival>>,
    is_silent: AtomicBool,
    /// How long an answer takes, in milliseconds.
    pause: AtomicU64,
}

/// The provider, on a port of its own.
pub(crate) struct Provider {
    address: SocketAddr,
    desk: Arc<Desk>,
    serving: JoinHandle<()>,
}

impl Provider {
    /// Begins to listen.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen as a provider")?;
        let (address, desk) = (listener.local_addr()?, Arc::new(Desk::default()));
        let serving = tokio::spawn(serve(listener, Arc::clone(&desk)));
        Ok(Self { address, desk, serving })
    }

    /// Returns what tells a server to send its text messages here.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let provider = format!(
            r#"[{{ type = "http", name = "bench", preset = "generic", url = "http://{}", path = "/messages",
                 content_type = "application/json", body = '{{"id": {{{{ id }}}}, "to": {{{{ to }}}}, "text": {{{{ text }}}}}}', timeout_seconds = 2 }}]"#,
            self.address
        );
        vec![
            ("COUNTERSIGN__DELIVERY__ALLOW_PRIVATE".into(), format!(r#"["{}"]"#, self.address.ip())),
            ("COUNTERSIGN__DELIVERY__SMS".into(), provider.replace('\n', " ")),
        ]
    }

    /// Takes its time for each answer.
    pub(crate) fn take_time(&self, pause: Duration) {
        self.desk.pause.store(pause.as_millis() as u64, SeqCst);
    }

    /// Takes requests without answering them, or answers again.
    pub(crate) fn be_silent(&self, is_silent: bool) {
        self.desk.is_silent.store(is_silent, SeqCst);
    }

    /// Returns what arrived so far.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.desk.arrivals.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    while let Ok((stream, _)) = listener.accept().await {
        let desk = Arc::clone(&desk);
        // How a connection ends is the server's business: it may be killed at any time.
        tokio::spawn(async move { drop(answer(stream, &desk).await) });
    }
}

/// Answers the requests of one connection.
async fn answer(mut stream: TcpStream, desk: &Desk) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        let length = loop {
            if let Some(length) = complete(&bytes)? {
                break length;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let request: Vec<u8> = bytes.drain(..length).collect();
        if desk.is_silent.load(SeqCst) {
            // Until the other side has had enough.
            while stream.read_buf(&mut bytes).await? > 0 {}
            return Ok(());
        }
        let body = request
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .map_or(&[][..], |end| &request[end + 4..]);
        let message: Value = serde_json::from_slice(body).context("a message that is no JSON")?;
        let id = message["id"].as_str().context("a message without an id")?.to_owned();
        desk.arrivals.lock().expect("nobody panics with it").push(Arrival { id, at: Instant::now() });
        sleep(Duration::from_millis(desk.pause.load(SeqCst))).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await?;
    }
}

/// Returns the length of the first request once it is there as a whole.
fn complete(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("read the head of a request")?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(Ok(0), |length| length.trim().parse()).context("a length")?;
    let whole = end + 4 + length;
    Ok((bytes.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_complete_with_its_body() {
        let request = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";

        assert_eq!(complete(&request[..request.len() - 1]).expect("a request"), None);
        assert_eq!(complete(request).expect("a request"), Some(request.len()));
    }
}
