//! How long a client keeps us waiting: noted at each request and byte, judged by the connection's own task.
//!
//! A request pays for it with two clock readings and a few atomic stores; no lock is taken. We do without hyper's
//! header timer because it starts when a connection falls idle: it would have to choose between closing kept
//! connections after seconds and letting a head trickle in for minutes.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Request, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use super::server::{Limits, Peer};

/// The client did not send its request body in time.
///
/// Comes out of the request's body, so it is somewhere in the source chain of an extractor's rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read request body: it did not arrive in time")]
pub(super) struct SlowBody;

impl SlowBody {
    /// Returns whether `error` goes back to a slow body: a 408 rather than a 400.
    pub(super) fn is_behind(error: &(dyn Error + 'static)) -> bool {
        error.is::<Self>() || error.source().is_some_and(Self::is_behind)
    }
}

/// What the watch over a connection needs to know.
///
/// Stores are relaxed where one task writes and reads. Only the end of an HTTP/2 request comes from another task,
/// and it publishes the time before it lowers the count.
pub(super) struct Pulse {
    /// When the connection was opened.
    pub(super) opened: Instant,
    /// Requests and responses that wait for us, not for the client.
    working: AtomicU32,
    /// What we wait for while nothing waits for us.
    phase: AtomicU8,
    /// Since when, in microseconds after `opened`.
    since: AtomicU64,
    /// HTTP/2: bytes that arrive need not be a request head.
    is_multiplexed: AtomicBool,
}

/// The first request.
const OPENING: u8 = 0;
/// The next request.
const IDLE: u8 = 1;
/// The rest of a request head.
const HEAD: u8 = 2;

/// What the watch is to do.
pub(super) enum Judgement {
    /// Nothing yet; look again then.
    LookAgain(Instant),
    /// Nothing is under way: say goodbye.
    Dismiss,
    /// Somebody wastes our time.
    Cut,
}

impl Pulse {
    /// Begins with the opening of a connection.
    pub(super) fn start() -> Self {
        Self {
            opened: Instant::now(),
            working: AtomicU32::new(0),
            phase: AtomicU8::new(OPENING),
            since: AtomicU64::new(0),
            is_multiplexed: AtomicBool::new(false),
        }
    }

    /// Decides whether the client has kept us waiting too long.
    pub(super) fn judge(&self, limits: &Limits) -> Judgement {
        let now = Instant::now();
        if self.working.load(Ordering::Acquire) > 0 {
            return Judgement::LookAgain(now + limits.nap());
        }
        let is_idle = self.phase.load(Ordering::Relaxed) == IDLE;
        let patience = if is_idle { limits.idle_timeout } else { limits.header_timeout };
        let since = self.opened + Duration::from_micros(self.since.load(Ordering::Relaxed));
        match since + patience {
            deadline if now < deadline => Judgement::LookAgain(deadline.min(now + limits.nap())),
            _ if is_idle => Judgement::Dismiss,
            _ => Judgement::Cut,
        }
    }

    fn enter(&self, phase: u8) {
        let since = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.since.store(since, Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// Notes that bytes arrived.
    fn hear(&self) {
        let is_head = self.phase.load(Ordering::Relaxed) == IDLE
            && self.working.load(Ordering::Relaxed) == 0
            && !self.is_multiplexed.load(Ordering::Relaxed);
        if is_head {
            self.enter(HEAD);
        }
    }
}

/// Something waits for us; dropped when it does not any more.
struct Work(Arc<Pulse>);

impl Work {
    fn begin(pulse: &Arc<Pulse>) -> Self {
        pulse.working.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pulse))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.enter(IDLE);
        self.0.working.fetch_sub(1, Ordering::Release);
    }
}

/// What all requests of a connection share.
pub(super) struct Exchange {
    /// Its pulse.
    pub(super) pulse: Arc<Pulse>,
    /// The other end.
    pub(super) peer: Peer,
    /// How long a request's body may take.
    pub(super) within: Duration,
}

impl Exchange {
    /// Hands one request to the router.
    pub(super) fn run(
        &self,
        mut router: Router,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Outgoing>, std::convert::Infallible>> + Send + use<> {
        if request.version() == Version::HTTP_2 {
            self.pulse.is_multiplexed.store(true, Ordering::Relaxed);
        }
        request.extensions_mut().insert(self.peer);
        let work = Work::begin(&self.pulse);
        let reply = router.call(request.map(|body| timed(body, self.within)));
        async move {
            let response = reply.await?;
            // Until the client has taken the response, it is we who wait.
            let pulse = Arc::clone(&work.0);
            drop(work);
            Ok(response.map(|body| Outgoing { body, pulse, work: None }))
        }
    }
}

/// Puts a time limit on a request's body.
fn timed(body: Incoming, within: Duration) -> Body {
    if http_body::Body::is_end_stream(&body) {
        return Body::empty();
    }
    Body::new(Timed { body, deadline: Instant::now() + within, timer: None })
}

/// A request body that must be complete at `deadline`.
struct Timed {
    body: Incoming,
    deadline: Instant,
    /// Made only when we really have to wait: most bodies come with their head.
    timer: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            // A client that always has one more byte ready is late as well.
            let is_late = this.timer.is_some() && frame.is_some() && Instant::now() >= this.deadline;
            return Poll::Ready(if is_late {
                Some(Err(SlowBody.into()))
            } else {
                frame.map(|frame| frame.map_err(Into::into))
            });
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(this.deadline)));
        timer.as_mut().poll(cx).map(|()| Some(Err(SlowBody.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body that tells whether the client waits for us or we for the client.
pub(super) struct Outgoing {
    body: Body,
    pulse: Arc<Pulse>,
    work: Option<Work>,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if frame.is_pending() {
            this.work.get_or_insert_with(|| Work::begin(&this.pulse));
        } else if this.work.take().is_none() && !this.body.is_end_stream() {
            // Asked for more: the client has taken what it got so far.
            this.pulse.enter(IDLE);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notes when bytes arrive.
pub(super) struct Heard<S> {
    /// The stream.
    pub(super) stream: TokioIo<S>,
    /// Its pulse.
    pub(super) pulse: Arc<Pulse>,
}

impl<S: AsyncRead + Unpin> Read for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if outcome.is_ready() {
            self.pulse.hear();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> Write for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
