//! The accept loop: sockets in, requests to the router, and no way to hold a connection for nothing.
//!
//! Each connection is one task. It serves HTTP/1.1 or HTTP/2 and, in the same task, watches by its `Pulse` how long
//! the client keeps us waiting.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, warn};

use super::forwarded::TrustedProxies;
use super::limit::Network;
use super::pulse::{Exchange, Heard, Judgement, Pulse};
use super::tls;

/// Connections that may wait to be accepted; the system allows as many or fewer (`net.core.somaxconn`). A connection that finds
/// no place is told nothing, and tries again after a second.
const BACKLOG: u32 = 4096;
/// How long to leave the listener alone when the system has no file descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an idle connection has to say goodbye before it is dropped.
const FAREWELL: Duration = Duration::from_secs(1);
/// The smallest buffer hyper accepts.
const SMALLEST_BUFFER: usize = 8192;

/// What a connection may cost us.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest time for the first request of a connection to arrive, and for each HTTP/1.1 request head from its
    /// first byte on.
    pub header_timeout: Duration,
    /// Longest time for a request's body, counted from its head.
    pub request_timeout: Duration,
    /// Longest time without a request; also what a client has to take a piece of a response off our hands.
    pub idle_timeout: Duration,
    /// Longest wait for requests in flight at shutdown.
    pub drain_timeout: Duration,
    /// Most connections at once.
    pub max_connections: usize,
    /// Most connections at once from one IPv4 address or IPv6 /64.
    pub max_connections_per_address: usize,
    /// Peers that speak for many callers, and so are held to `max_connections` only.
    pub proxies: TrustedProxies,
    /// Largest request head, in bytes; HTTP/1.1 uses at least 8192.
    pub max_head_bytes: u32,
    /// Most requests in flight on one HTTP/2 connection.
    pub h2_max_streams: u32,
    /// Most streams an HTTP/2 client may have reset before we have looked at them (rapid reset).
    pub h2_max_pending_resets: usize,
    /// Time between two HTTP/2 pings.
    pub h2_ping_interval: Duration,
    /// Longest wait for the answer to a ping.
    pub h2_ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            // Longer than the 90 s for which common clients keep a connection, so that it is they who close it
            // and no request is sent into a closing connection.
            idle_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(25),
            max_connections: 10_000,
            max_connections_per_address: 512,
            proxies: TrustedProxies::default(),
            max_head_bytes: 32 * 1024,
            h2_max_streams: 128,
            h2_max_pending_resets: 20,
            h2_ping_interval: Duration::from_secs(30),
            h2_ping_timeout: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// Returns how long the watch over a connection may look away.
    ///
    /// A wait may begin while it does, and the shortest one must not be slept through.
    pub(super) fn nap(&self) -> Duration {
        self.idle_timeout.min(self.header_timeout)
    }
}

/// The address at the other end of the connection, in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that ended by themselves in time.
    pub finished: usize,
    /// Connections that had not ended by then, and were cut.
    pub cut: usize,
}

/// Binds `address`, with room for a crowd that connects at once.
///
/// Fails when the address is taken, not this machine's, or not for us.
pub fn listen(address: SocketAddr) -> Result<TcpListener, io::Error> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Or a restart would have to wait for the connections of the server before it to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `router` on `listener` until `shutdown` resolves, then lets the requests in flight finish.
///
/// Fails only when the listener itself is broken.
pub async fn serve(
    listener: TcpListener,
    tls: Option<tls::Reloading>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<Drained, io::Error> {
    let drain_timeout = limits.drain_timeout;
    let site = Arc::new(Site::new(tls, router, limits));
    let mut connections = Connections::new(site);
    let mut door = Door::new(listener);
    let mut shutdown = pin!(shutdown);

    loop {
        tokio::select! {
            // Ended connections make room before the next one asks for it.
            biased;
            () = &mut shutdown => break,
            () = connections.ended() => (),
            arrival = door.next() => {
                let (stream, peer) = arrival?;
                connections.admit(stream, peer);
            }
        }
    }

    // A closed port tells clients and load balancers to go elsewhere while we drain.
    drop(door);
    Ok(connections.drain(drain_timeout).await)
}

/// The listener, with patience.
struct Door {
    listener: TcpListener,
    is_stuck: bool,
}

impl Door {
    fn new(listener: TcpListener) -> Self {
        Self { listener, is_stuck: false }
    }

    /// Waits for the next connection and survives what is not the listener's fault.
    async fn next(&mut self) -> Result<(TcpStream, SocketAddr), io::Error> {
        loop {
            match self.listener.accept().await {
                Ok(arrival) => {
                    self.is_stuck = false;
                    return Ok(arrival);
                }
                Err(cause) if is_fatal(&cause) => return Err(cause),
                Err(cause) if is_about_one_connection(&cause) => (),
                Err(cause) => self.pause(&cause).await,
            }
        }
    }

    async fn pause(&mut self, cause: &io::Error) {
        // Once per bad spell: the same line ten times a second would bury the log.
        if !self.is_stuck {
            error!("accept a connection: {cause}; trying again");
        }
        self.is_stuck = true;
        sleep(ACCEPT_PAUSE).await;
    }
}

/// The socket does not listen (any more), and waiting will not change that.
fn is_fatal(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::InvalidInput
}

fn is_about_one_connection(cause: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(cause.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// All open connections.
///
/// Only the accept loop counts them, so no lock is needed.
struct Connections {
    site: Arc<Site>,
    tasks: JoinSet<()>,
    open: HashMap<tokio::task::Id, Open>,
    per_network: HashMap<Network, usize>,
    is_full: bool,
}

/// What the accept loop keeps of a connection.
struct Open {
    network: Network,
    /// Asks the connection to finish. A channel per connection, because polling a shared one takes a lock.
    drain: oneshot::Sender<()>,
}

impl Connections {
    fn new(site: Arc<Site>) -> Self {
        let (open, per_network) = (HashMap::new(), HashMap::new());
        Self { site, tasks: JoinSet::new(), open, per_network, is_full: false }
    }

    /// Starts to serve a connection, or closes it when there are too many.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let network = Network::from(peer.ip());
        if !self.has_room() || !self.has_room_for(network, peer) {
            return;
        }
        let (drain, asked) = oneshot::channel();
        let task = self.tasks.spawn(Arc::clone(&self.site).serve_socket(stream, peer, asked));
        self.open.insert(task.id(), Open { network, drain });
        *self.per_network.entry(network).or_default() += 1;
    }

    fn has_room(&mut self) -> bool {
        let is_full = self.open.len() >= self.site.limits.max_connections;
        if is_full && !self.is_full {
            warn!("connection limit reached: closing new connections until others end");
        }
        self.is_full = is_full;
        !is_full
    }

    fn has_room_for(&self, network: Network, peer: SocketAddr) -> bool {
        let count = self.per_network.get(&network).copied().unwrap_or(0);
        let limits = &self.site.limits;
        let has_room = count < limits.max_connections_per_address || limits.proxies.contains(peer.ip());
        if !has_room {
            debug!("connection limit of one address reached: closing a new connection");
        }
        has_room
    }

    /// Waits for a connection to end and forgets it; never returns while there is none.
    async fn ended(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(failure)) => {
                error!("serve a connection: {failure}");
                failure.id()
            }
            None => return std::future::pending().await,
        };
        self.forget(id);
    }

    fn forget(&mut self, id: tokio::task::Id) {
        let Some(Open { network, .. }) = self.open.remove(&id) else { return };
        if let Some(count) = self.per_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.per_network.remove(&network);
            }
        }
    }

    /// Asks all connections to finish, waits, and cuts those that did not.
    async fn drain(mut self, patience: Duration) -> Drained {
        let total = self.tasks.len();
        for (_, connection) in self.open.drain() {
            // Fails only for a connection that has just ended.
            let _ = connection.drain.send(());
        }
        let _ = timeout(patience, async {
            while !self.tasks.is_empty() {
                self.ended().await
            }
        })
        .await;
        let cut = self.tasks.len();
        self.tasks.shutdown().await;
        Drained { finished: total - cut, cut }
    }
}

/// What all connections share.
struct Site {
    tls: Option<tls::Reloading>,
    router: Router,
    limits: Limits,
    builder: Builder<TokioExecutor>,
}

impl Site {
    fn new(tls: Option<tls::Reloading>, router: Router, limits: Limits) -> Self {
        let builder = protocol(&limits);
        // Builds the handlers once, not once per request.
        Self { tls, router: router.with_state(()), limits, builder }
    }

    async fn serve_socket(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        mut asked: oneshot::Receiver<()>,
    ) {
        // Small replies must not wait for an acknowledgement. It only fails on a dead socket.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.serve_stream(stream, peer, asked).await };

        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        let handshake = timeout(self.limits.handshake_timeout, handshake);
        let outcome = tokio::select! {
            outcome = handshake => outcome,
            _ = &mut asked => return,
        };
        match outcome {
            Ok(Ok(stream)) => self.serve_stream(stream, peer, asked).await,
            Ok(Err(cause)) => debug!("TLS handshake: {cause}"),
            Err(_) => debug!("TLS handshake: it took too long"),
        }
    }

    async fn serve_stream<S>(&self, stream: S, peer: SocketAddr, mut asked: oneshot::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pulse = Arc::new(Pulse::start());
        let exchange =
            Exchange { pulse: Arc::clone(&pulse), peer: Peer(peer), within: self.limits.request_timeout };
        let router = self.router.clone();
        let service = service_fn(move |request| exchange.run(router.clone(), request));
        let heard = Heard { stream: TokioIo::new(stream), pulse: Arc::clone(&pulse) };
        let mut connection = pin!(self.builder.serve_connection(heard, service));
        let mut watch = pin!(sleep_until(pulse.opened + self.limits.nap()));
        let mut is_draining = false;

        loop {
            tokio::select! {
                biased;
                outcome = connection.as_mut() => return ended(outcome),
                () = watch.as_mut() => match pulse.judge(&self.limits) {
                    Judgement::LookAgain(at) => watch.as_mut().reset(at),
                    Judgement::Dismiss => break,
                    Judgement::Cut => return debug!("connection cut: the request head took too long"),
                },
                _ = &mut asked, if !is_draining => {
                    is_draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(FAREWELL, connection).await;
    }
}

/// A connection that breaks is the client's affair, and everyday.
fn ended(outcome: Result<(), Box<dyn Error + Send + Sync>>) {
    if let Err(cause) = outcome {
        debug!("connection ended: {cause}");
    }
}

fn protocol(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let largest_head = usize::try_from(limits.max_head_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .keep_alive(true)
        .header_read_timeout(None) // `Pulse` does this, see there
        .max_buf_size(largest_head.max(SMALLEST_BUFFER));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_max_streams)
        .max_pending_accept_reset_streams(limits.h2_max_pending_resets)
        .max_header_list_size(limits.max_head_bytes)
        .keep_alive_interval(limits.h2_ping_interval)
        .keep_alive_timeout(limits.h2_ping_timeout);
    builder
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::convert::Infallible;
    use std::fs;

    use axum::Extension;
    use axum::body::Body;
    use axum::routing::{get, post};
    use bytes::Bytes;
    use futures_util::{future, stream};
    use http::{StatusCode, Version};
    use rustls::ClientConfig;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;
    use tokio_rustls::TlsConnector;

    use super::super::pulse::SlowBody;
    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";
    const NEVER: Duration = Duration::from_secs(3600);

    /// Waits long enough for whatever a test says must end.
    const SOON: Duration = Duration::from_secs(3);

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Limits that do not interfere; a test lowers the one it is about.
    fn limits() -> Limits {
        Limits {
            handshake_timeout: NEVER,
            header_timeout: NEVER,
            request_timeout: NEVER,
            idle_timeout: NEVER,
            drain_timeout: millis(200),
            ..Limits::default()
        }
    }

    fn router() -> Router {
        Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/peer", get(|Extension(Peer(peer)): Extension<Peer>| async move { peer.to_string() }))
            .route("/echo", post(|body: Bytes| async { body }))
            .route("/slow", get(|| async { sleep(millis(200)).await }))
            .route("/hang", get(future::pending::<()>))
    }

    struct Server {
        address: SocketAddr,
        stop: Arc<Notify>,
        task: JoinHandle<Result<Drained, io::Error>>,
    }

    impl Server {
        async fn start(limits: Limits) -> Self {
            Self::start_with(router(), None, limits).await
        }

        async fn start_with(router: Router, tls: Option<tls::Reloading>, limits: Limits) -> Self {
            let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            let stop = Arc::new(Notify::new());
            let asked = Arc::clone(&stop);
            let shutdown = async move { asked.notified().await };
            let task = tokio::spawn(serve(listener, tls, router, limits, shutdown));
            Self { address, stop, task }
        }

        async fn connect(&self) -> Client {
            Client(TcpStream::connect(self.address).await.unwrap())
        }

        async fn stop(self) -> Drained {
            self.stop.notify_one();
            timeout(SOON, self.task).await.unwrap().unwrap().unwrap()
        }
    }

    /// A client that sends exactly what it is told to.
    struct Client(TcpStream);

    impl Client {
        async fn send(&mut self, bytes: &[u8]) -> bool {
            self.0.write_all(bytes).await.is_ok()
        }

        /// Sends a byte every 20 ms for as long as the server listens, and returns how long that was.
        async fn trickle(mut self) -> Duration {
            let start = Instant::now();
            let (mut reader, mut writer) = self.0.split();
            let mut sink = Vec::new();
            let heard = reader.read_to_end(&mut sink);
            let say = async {
                while writer.write_all(b"x").await.is_ok() {
                    sleep(millis(20)).await
                }
            };
            let _ = timeout(SOON, future::select(pin!(heard), pin!(say))).await;
            start.elapsed()
        }

        /// Reads one reply and returns its body; `None` when the server closed instead.
        async fn reply(&mut self) -> Option<String> {
            let mut text = String::new();
            loop {
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?;
                    if body.len() >= length.parse().unwrap() {
                        return Some(body.to_owned());
                    }
                }
                let mut piece = [0; 4096];
                let length = timeout(SOON, self.0.read(&mut piece)).await.unwrap().ok()?;
                if length == 0 {
                    return None;
                }
                text += str::from_utf8(&piece[..length]).unwrap();
            }
        }

        async fn get(&mut self, path: &str) -> Option<String> {
            self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).await;
            self.reply().await
        }

        /// Waits for the server to close; returns what came before, and how long it took.
        async fn end(&mut self) -> (Vec<u8>, Duration) {
            let start = Instant::now();
            let mut rest = Vec::new();
            // A reset is an end as well.
            let _ = timeout(SOON, self.0.read_to_end(&mut rest)).await.expect("the server closes");
            (rest, start.elapsed())
        }
    }

    fn assert_about(waited: Duration, expected: Duration) {
        let range = expected.saturating_sub(millis(30))..expected + millis(500);
        assert!(range.contains(&waited), "waited {waited:?} instead of {expected:?}");
    }

    #[tokio::test]
    async fn a_connection_serves_several_requests() {
        let server = Server::start(limits()).await;
        let mut client = server.connect().await;

        for _ in 0..3 {
            assert_eq!(client.get("/").await.as_deref(), Some("hello"));
        }
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order() {
        let server = Server::start(limits()).await;
        let mut client = server.connect().await;

        client.send(b"GET /peer HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let (replies, _) = client.end().await;

        let replies = String::from_utf8(replies).unwrap();
        assert!(replies.contains("127.0.0.1:") && replies.ends_with("hello"), "{replies}");
    }

    #[tokio::test]
    async fn a_request_carries_the_address_of_its_peer() {
        let server = Server::start(limits()).await;
        let mut client = server.connect().await;

        let expected = client.0.local_addr().unwrap().to_string();

        assert_eq!(client.get("/peer").await, Some(expected));
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_cut() {
        let server = Server::start(Limits { header_timeout: millis(150), ..limits() }).await;

        let (_, waited) = server.connect().await.end().await;

        assert_about(waited, millis(150));
    }

    #[tokio::test]
    async fn a_client_that_trickles_its_first_head_is_cut() {
        let server = Server::start(Limits { header_timeout: millis(150), ..limits() }).await;
        let mut client = server.connect().await;
        client.send(b"GET / HTTP/1.1\r\nx-slow: ").await;

        assert_about(client.trickle().await, millis(150));
    }

    #[tokio::test]
    async fn a_client_that_trickles_a_later_head_is_cut() {
        let server = Server::start(Limits { header_timeout: millis(150), ..limits() }).await;
        let mut client = server.connect().await;
        client.get("/").await.unwrap();
        client.send(b"GET / HTTP/1.1\r\nx-slow: ").await;

        assert_about(client.trickle().await, millis(150));
    }

    #[tokio::test]
    async fn a_client_that_trickles_its_body_is_cut() {
        let server = Server::start(Limits { request_timeout: millis(150), ..limits() }).await;
        let mut client = server.connect().await;
        client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 5000\r\n\r\n").await;

        assert_about(client.trickle().await, millis(150));
    }

    #[tokio::test]
    async fn a_late_body_can_be_told_from_a_bad_one() {
        let says = |body: Body| async {
            let cause = axum::body::to_bytes(body, usize::MAX).await.unwrap_err();
            (StatusCode::REQUEST_TIMEOUT, format!("slow: {}", SlowBody::is_behind(&cause)))
        };
        let router = Router::new().route("/", post(says));
        let server =
            Server::start_with(router, None, Limits { request_timeout: millis(100), ..limits() }).await;
        let mut client = server.connect().await;
        client.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\n1").await;

        let (reply, _) = client.end().await;

        let reply = String::from_utf8(reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 408") && reply.ends_with("slow: true"), "{reply}");
    }

    #[tokio::test]
    async fn a_body_in_two_pieces_arrives_whole() {
        let server = Server::start(limits()).await;
        let mut client = server.connect().await;

        client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 6\r\n\r\nabc").await;
        sleep(millis(30)).await;
        client.send(b"def").await;

        assert_eq!(client.reply().await.as_deref(), Some("abcdef"));
    }

    #[tokio::test]
    async fn an_idle_connection_outlives_the_header_timeout_but_not_the_idle_timeout() {
        let limits = Limits { header_timeout: millis(60), idle_timeout: millis(250), ..limits() };
        let server = Server::start(limits).await;
        let mut client = server.connect().await;

        client.get("/").await.unwrap();
        sleep(millis(150)).await;
        assert_eq!(client.get("/").await.as_deref(), Some("hello"));

        let (_, waited) = client.end().await;
        assert_about(waited, millis(250));
    }

    #[tokio::test]
    async fn a_slow_handler_is_not_an_idle_client() {
        let limits = Limits { header_timeout: millis(50), idle_timeout: millis(50), ..limits() };
        let server = Server::start(limits).await;

        assert!(server.connect().await.get("/slow").await.is_some());
    }

    #[tokio::test]
    async fn a_response_that_takes_time_to_produce_is_sent_whole() {
        let produce = || async {
            let pieces = stream::unfold(0, |count| async move {
                sleep(millis(80)).await;
                (count < 4).then(|| (Ok::<_, Infallible>("piece "), count + 1))
            });
            Body::from_stream(pieces)
        };
        let router = Router::new().route("/", get(produce));
        let limits = Limits { header_timeout: millis(50), idle_timeout: millis(50), ..limits() };
        let server = Server::start_with(router, None, limits).await;
        let mut client = server.connect().await;
        client.send(GET).await;

        let (reply, _) = client.end().await;

        assert_eq!(String::from_utf8(reply).unwrap().matches("piece ").count(), 4);
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_its_response_is_cut() {
        struct Told(Arc<Notify>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let dropped = Arc::new(Notify::new());
        let told = Arc::clone(&dropped);
        let endless = move || {
            let told = Told(Arc::clone(&told));
            async move {
                let piece = Bytes::from(vec![b'x'; 64 * 1024]);
                Body::from_stream(stream::unfold(told, move |told| {
                    let piece = Ok::<_, Infallible>(piece.clone());
                    async move { Some((piece, told)) }
                }))
            }
        };
        let router = Router::new().route("/", get(endless));
        let limits = Limits { idle_timeout: millis(150), ..limits() };
        let server = Server::start_with(router, None, limits).await;
        let mut client = server.connect().await;
        client.send(GET).await;

        timeout(SOON, dropped.notified()).await.expect("the response is given up");
    }

    #[tokio::test]
    async fn a_silent_tls_handshake_is_cut() {
        let pair = Pair::new();
        let limits = Limits { handshake_timeout: millis(150), ..limits() };
        let server = Server::start_with(router(), Some(pair.load()), limits).await;

        let (_, waited) = server.connect().await.end().await;

        assert_about(waited, millis(150));
    }

    #[tokio::test]
    async fn a_crowd_that_connects_at_once_waits_for_nobody_to_accept_it() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();

        let crowd = future::join_all((0..500).map(|_| TcpStream::connect(address)));
        // Whoever finds no place tries again after a second.
        let crowd = timeout(millis(900), crowd).await.expect("everybody is let in");

        assert!(crowd.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn an_address_has_so_many_connections_and_no_more() {
        let server = Server::start(Limits { max_connections_per_address: 2, ..limits() }).await;
        let (mut first, mut second) = (server.connect().await, server.connect().await);
        first.get("/").await.unwrap();
        second.get("/").await.unwrap();

        assert_eq!(server.connect().await.get("/").await, None);

        drop(first);
        sleep(millis(50)).await;
        assert!(server.connect().await.get("/").await.is_some());
        assert!(second.get("/").await.is_some());
    }

    #[tokio::test]
    async fn a_trusted_proxy_is_not_one_caller() {
        let proxies = TrustedProxies::parse(["127.0.0.1"]).unwrap();
        let server = Server::start(Limits { max_connections_per_address: 1, proxies, ..limits() }).await;
        let (mut first, mut second) = (server.connect().await, server.connect().await);

        assert!(first.get("/").await.is_some());
        assert!(second.get("/").await.is_some());
    }

    #[tokio::test]
    async fn the_server_has_so_many_connections_and_no_more() {
        let proxies = TrustedProxies::parse(["127.0.0.1"]).unwrap();
        let server = Server::start(Limits { max_connections: 1, proxies, ..limits() }).await;
        let mut first = server.connect().await;
        first.get("/").await.unwrap();

        assert_eq!(server.connect().await.get("/").await, None);

        drop(first);
        sleep(millis(50)).await;
        assert!(server.connect().await.get("/").await.is_some());
    }

    #[tokio::test]
    async fn a_handler_that_panics_gives_its_place_back() {
        async fn panics() {
            panic!("part of the test");
        }
        let router = router().route("/panic", get(panics));
        let limits = Limits { max_connections_per_address: 1, ..limits() };
        let server = Server::start_with(router, None, limits).await;

        assert_eq!(server.connect().await.get("/panic").await, None);
        sleep(millis(50)).await;

        assert!(server.connect().await.get("/").await.is_some());
    }

    #[tokio::test]
    async fn a_drain_finishes_the_request_in_flight_and_then_closes() {
        let server = Server::start(Limits { drain_timeout: NEVER, ..limits() }).await;
        let address = server.address;
        let mut idle = server.connect().await;
        idle.get("/").await.unwrap();
        let silent = server.connect().await;
        let mut busy = server.connect().await;
        busy.send(b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n").await;
        sleep(millis(50)).await;

        let drained = tokio::spawn(server.stop());
        sleep(millis(50)).await;
        let refused = TcpStream::connect(address).await.is_err();
        let (reply, _) = busy.end().await;

        assert!(refused);
        let reply = String::from_utf8(reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("connection: close"), "{reply}");
        assert_eq!(drained.await.unwrap(), Drained { finished: 3, cut: 0 });
        drop((idle, silent));
    }

    #[tokio::test]
    async fn a_drain_cuts_what_does_not_finish() {
        let server = Server::start(limits()).await;
        let mut client = server.connect().await;
        client.send(b"GET /hang HTTP/1.1\r\nhost: test\r\n\r\n").await;
        sleep(millis(30)).await;

        let start = Instant::now();
        let drained = server.stop().await;

        assert_about(start.elapsed(), millis(200));
        assert_eq!(drained, Drained { finished: 0, cut: 1 });
        client.end().await;
    }

    #[tokio::test]
    async fn a_drain_does_not_wait_for_a_handshake() {
        let pair = Pair::new();
        let limits = Limits { drain_timeout: NEVER, ..limits() };
        let server = Server::start_with(router(), Some(pair.load()), limits).await;
        let _silent = server.connect().await;
        sleep(millis(30)).await;

        assert_eq!(server.stop().await, Drained { finished: 1, cut: 0 });
    }

    const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    /// `GET http://test/` on stream 1.
    const H2_GET: &[u8] = b"\0\0\x09\x01\x05\0\0\0\x01\x82\x86\x84\x41\x04test";
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";
    const GO_AWAY: u8 = 7;

    /// Returns the types of the frames in `bytes`.
    fn frames(mut bytes: &[u8]) -> Vec<u8> {
        let mut types = Vec::new();
        while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            types.push(*kind);
            bytes = &rest[length..];
        }
        types
    }

    #[tokio::test]
    async fn an_http2_client_without_a_request_is_cut() {
        let server = Server::start(Limits { header_timeout: millis(150), ..limits() }).await;
        let mut client = server.connect().await;
        client.send(PREFACE_AND_SETTINGS).await;

        let (_, waited) = client.end().await;

        assert_about(waited, millis(150));
    }

    #[tokio::test]
    async fn an_idle_http2_connection_is_told_to_go_away_whatever_it_pings() {
        let limits = Limits { header_timeout: millis(60), idle_timeout: millis(200), ..limits() };
        let server = Server::start(limits).await;
        let mut client = server.connect().await;
        client.send(&[PREFACE_AND_SETTINGS, H2_GET].concat()).await;
        sleep(millis(100)).await;
        client.send(PING).await;

        let (reply, waited) = client.end().await;

        assert!(frames(&reply).contains(&GO_AWAY), "{:?}", frames(&reply));
        assert!(waited >= millis(70), "{waited:?}");
    }

    #[tokio::test]
    async fn http2_without_tls_serves_many_requests_at_once() {
        let server = Server::start(limits()).await;
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();

        let url = format!("http://{}/slow", server.address);
        let replies = future::join_all((0..64).map(|_| client.get(&url).send())).await;

        assert!(replies.into_iter().all(|reply| reply.unwrap().status().is_success()));
    }

    #[tokio::test]
    async fn an_http2_drain_finishes_the_request_in_flight() {
        let server = Server::start(Limits { drain_timeout: SOON, ..limits() }).await;
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let request = tokio::spawn(client.get(format!("http://{}/slow", server.address)).send());
        sleep(millis(50)).await;

        let drained = server.stop().await;

        assert!(request.await.unwrap().unwrap().status().is_success());
        assert_eq!(drained, Drained { finished: 1, cut: 0 });
    }

    /// A certificate for `localhost` and its key, on disk.
    struct Pair(TempDir);

    impl Pair {
        fn new() -> Self {
            let pair = Self(TempDir::new().unwrap());
            pair.renew();
            pair
        }

        fn renew(&self) {
            let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(self.0.path().join("cert.pem"), pair.cert.pem()).unwrap();
            fs::write(self.0.path().join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
        }

        fn load(&self) -> tls::Reloading {
            tls::Reloading::load(self.0.path().join("cert.pem"), self.0.path().join("key.pem")).unwrap()
        }

        fn certificate(&self) -> CertificateDer<'static> {
            CertificateDer::from_pem_file(self.0.path().join("cert.pem")).unwrap()
        }

        /// Connects as a client that accepts this certificate and no other.
        async fn reaches(&self, server: &Server) -> bool {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.certificate()).unwrap();
            let config =
                ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_root_certificates(roots)
                    .with_no_client_auth();
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::new(config)).connect(name, server.connect().await.0).await.is_ok()
        }
    }

    #[tokio::test]
    async fn http2_is_served_over_tls() {
        let pair = Pair::new();
        let server = Server::start_with(router(), Some(pair.load()), limits()).await;
        let root = reqwest::Certificate::from_der(&pair.certificate()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([root])
            .resolve("localhost", server.address)
            .build()
            .unwrap();

        let url = format!("https://localhost:{}/", server.address.port());
        let reply = client.get(url).send().await.unwrap();

        assert_eq!(reply.version(), Version::HTTP_2);
        assert_eq!(reply.text().await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_new_connection_gets_the_new_certificate_and_a_bad_file_changes_nothing() {
        let pair = Pair::new();
        let tls = pair.load();
        let server = Server::start_with(router(), Some(tls.clone()), limits()).await;
        assert!(pair.reaches(&server).await);

        pair.renew();
        assert!(!pair.reaches(&server).await);
        tls.reload().unwrap();
        assert!(pair.reaches(&server).await);

        let key = pair.0.path().join("key.pem");
        fs::write(key, "damaged").unwrap();
        tls.reload().unwrap_err();
        assert!(pair.reaches(&server).await);
    }
}
