//! Drives work over keep-alive connections, and times it.

use crate::{
    client::{Answer, Connection},
    sample::Latencies,
    work::{AnyWork, Outcome},
};
use anyhow::Result;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How late the runtime's timer may be: it counts milliseconds.
const TIMER_STEP: Duration = Duration::from_millis(2);
/// How long a connection that was closed on us stays away.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// When a connection begins its next operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the last one is done.
    Closed,
    /// At a fixed rate over all connections, done or not.
    PerSecond(f64),
}

/// Whether a server may refuse requests, and close connections, without that being an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// There is room for everything that is sent.
    Strict,
    /// More is sent than can be answered.
    Forgiving,
}

/// Answers that were not what they had to be.
#[derive(Debug, Default)]
pub(crate) struct Unexpected {
    pub(crate) count: usize,
    pub(crate) first: Option<String>,
}

impl Unexpected {
    fn note(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(what);
    }

    /// Takes those of another.
    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

/// What one stretch of load came to.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// Of operations that were done, and right.
    pub(crate) latencies: Latencies,
    /// Of requests that the server said it was too busy for, by status, from when they were sent: how quickly it says so.
    pub(crate) refused: BTreeMap<u16, Latencies>,
    /// Connections that were closed on us, or not taken.
    pub(crate) broken: usize,
    /// How long operations had waited that were due and could not be begun before the end.
    pub(crate) never_begun: Latencies,
    pub(crate) elapsed: Duration,
    pub(crate) unexpected: Unexpected,
    /// What had to be prepared while the clock ran.
    pub(crate) prepared_late: usize,
}

impl Slice {
    /// Returns the operations done each second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the latencies, with what was never begun: it took longer than until the end, by which it counts.
    pub(crate) fn latencies_of_all(self) -> Latencies {
        let Self { mut latencies, never_begun, .. } = self;
        latencies.append(never_begun);
        latencies
    }

    fn append(&mut self, other: Self) {
        self.latencies.append(other.latencies);
        for (status, latencies) in other.refused {
            self.refused.entry(status).or_default().append(latencies);
        }
        self.broken += other.broken;
        self.never_begun.append(other.never_begun);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.unexpected.append(other.unexpected);
        self.prepared_late += other.prepared_late;
    }
}

/// A connection with what it sends.
pub(crate) struct Lane {
    connection: Connection,
    work: AnyWork,
    /// Where the connection leads, and from where.
    to: SocketAddr,
    from: Option<IpAddr>,
}

impl Lane {
    /// Gives the work back.
    pub(crate) fn into_work(self) -> AnyWork {
        self.work
    }

    /// Replaces the token.
    pub(crate) fn authorise(&mut self, authorization: &str) {
        self.work.authorise(authorization);
    }
}

/// Opens a connection for each work, to the addresses in turn.
pub(crate) async fn connect(addresses: &[SocketAddr], works: Vec<AnyWork>) -> Result<Vec<Lane>> {
    connect_from(addresses, &[], works).await
}

/// Opens a connection for each work, to the addresses in turn and from others in turn: loopback has many.
pub(crate) async fn connect_from(
    addresses: &[SocketAddr],
    sources: &[IpAddr],
    works: Vec<AnyWork>,
) -> Result<Vec<Lane>> {
    let mut lanes = Vec::with_capacity(works.len());
    for (place, work) in works.into_iter().enumerate() {
        let to = addresses[place % addresses.len()];
        let from = (!sources.is_empty()).then(|| sources[place % sources.len()]);
        lanes.push(Lane { connection: Connection::open_from(from, to).await?, work, to, from });
    }
    Ok(lanes)
}

/// Prepares so many operations on each lane, all at the same time.
pub(crate) async fn prepare(lanes: Vec<Lane>, count: usize) -> Result<Vec<Lane>> {
    let prepared: Vec<_> = lanes
        .into_iter()
        .map(|mut lane| {
            tokio::spawn(async move {
                lane.work.prepare(&mut lane.connection, count).await?;
                anyhow::Ok(lane)
            })
        })
        .collect();
    gathered(prepared).await
}

/// Has everybody put back in order what they changed.
pub(crate) async fn finish(lanes: Vec<Lane>) -> Result<()> {
    let finished: Vec<_> = lanes
        .into_iter()
        .map(|mut lane| {
            tokio::spawn(async move {
                lane.work.finish(&mut lane.connection).await?;
                anyhow::Ok(lane)
            })
        })
        .collect();
    gathered(finished).await.map(drop)
}

async fn gathered(running: Vec<tokio::task::JoinHandle<Result<Lane>>>) -> Result<Vec<Lane>> {
    let mut lanes = Vec::with_capacity(running.len());
    for lane in running {
        lanes.push(lane.await??);
    }
    Ok(lanes)
}

/// Works over all lanes for a while.
pub(crate) async fn slice(
    lanes: Vec<Lane>,
    pace: Pace,
    mood: Mood,
    length: Duration,
) -> Result<(Slice, Vec<Lane>)> {
    let count = lanes.len();
    let is_over = AtomicBool::new(false);
    let stretch = Arc::new(Stretch { pace, mood, lanes: count, start: Instant::now(), length, is_over });
    let lanes: Vec<_> = lanes
        .into_iter()
        .enumerate()
        .map(|(place, lane)| tokio::spawn(drive(Arc::clone(&stretch), place, lane)))
        .collect();
    let mut sum = Slice::default();
    let mut back = Vec::with_capacity(count);
    for lane in lanes {
        let (slice, lane) = lane.await??;
        sum.append(slice);
        back.push(lane);
    }
    Ok((sum, back))
}

/// What all lanes of a slice have in common.
struct Stretch {
    pace: Pace,
    mood: Mood,
    lanes: usize,
    start: Instant,
    length: Duration,
    /// Somebody has nothing prepared any more: the slice ends for all, or the others would have the server to themselves.
    is_over: AtomicBool,
}

async fn drive(stretch: Arc<Stretch>, place: usize, mut lane: Lane) -> Result<(Slice, Lane)> {
    let mut slice = Slice::default();
    let mut timetable = Timetable::new(&stretch, place);
    let end = stretch.start + stretch.length;
    let mut last = Instant::now();
    while last < end && !stretch.is_over.load(Relaxed) {
        let begin = timetable.next(last).await;
        if begin >= end {
            break;
        }
        match operation(&stretch, &mut lane, &mut slice, begin).await {
            Ok(true) => {}
            Ok(false) => {
                stretch.is_over.store(true, Relaxed);
                break;
            }
            Err(error) if stretch.mood == Mood::Strict => return Err(error),
            Err(_) => {
                slice.broken += 1;
                lane.work.refused();
                reconnect(&mut lane, end).await;
            }
        }
        last = Instant::now();
    }
    slice.elapsed = last - stretch.start;
    for due in timetable.left_before(end) {
        slice.never_begun.push(end - due);
    }
    slice.prepared_late = lane.work.prepared_late();
    Ok((slice, lane))
}

/// Does one operation; false if nothing was prepared for it.
async fn operation(stretch: &Stretch, lane: &mut Lane, slice: &mut Slice, begin: Instant) -> Result<bool> {
    loop {
        let Some(request) = lane.work.request() else { return Ok(false) };
        let sent = Instant::now();
        let answer = lane.connection.exchange(request).await?;
        if stretch.mood == Mood::Forgiving && is_refusal(&answer) {
            slice.refused.entry(answer.status).or_default().push(sent.elapsed());
            lane.work.refused();
            return Ok(true);
        }
        match lane.work.take(&answer) {
            Outcome::More => {}
            Outcome::Done => {
                slice.latencies.push(begin.elapsed());
                return Ok(true);
            }
            Outcome::Wrong => {
                slice.unexpected.note(|| answer.to_string());
                return Ok(true);
            }
        }
    }
}

/// Tells whether the server says that it has too much to do.
const fn is_refusal(answer: &Answer<'_>) -> bool {
    matches!(answer.status, 429 | 503)
}

/// Connects again until it works, or the time is over.
async fn reconnect(lane: &mut Lane, end: Instant) {
    while Instant::now() < end {
        if let Ok(connection) = Connection::open_from(lane.from, lane.to).await {
            lane.connection = connection;
            return;
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Says when a connection's next operation is due.
enum Timetable {
    Closed,
    Fixed { due: Instant, interval: Duration },
}

impl Timetable {
    fn new(stretch: &Stretch, place: usize) -> Self {
        match stretch.pace {
            Pace::Closed => Self::Closed,
            Pace::PerSecond(rate) => {
                let interval = Duration::from_secs_f64(stretch.lanes as f64 / rate);
                let offset = interval.mul_f64(place as f64 / stretch.lanes as f64);
                Self::Fixed { due: stretch.start + offset, interval }
            }
        }
    }

    /// Waits for the next operation's time; returns the moment its latency counts from.
    ///
    /// That is when it was due, not when it is sent: somebody would have waited. Only what a timer of whole milliseconds
    /// adds is not the server's.
    async fn next(&mut self, now: Instant) -> Instant {
        let Self::Fixed { due, interval } = self else { return now };
        let at = *due;
        *due += *interval;
        if at <= now {
            return at;
        }
        tokio::time::sleep_until(at.into()).await;
        let woken = Instant::now();
        if woken - at <= TIMER_STEP { woken } else { at }
    }

    /// Returns when operations were due that were not begun.
    fn left_before(self, end: Instant) -> impl Iterator<Item = Instant> {
        let next = match self {
            Self::Closed => None,
            Self::Fixed { due, interval } => Some((due, interval)),
        };
        let dues = next
            .into_iter()
            .flat_map(|(due, interval)| std::iter::successors(Some(due), move |due| Some(*due + interval)));
        dues.take_while(move |due| *due < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_late_counts_from_when_it_was_due() {
        let start = Instant::now();
        let mut timetable = Timetable::Fixed { due: start, interval: Duration::from_millis(10) };

        // The operation before took a second.
        let late = start + Duration::from_secs(1);
        let begins = [timetable.next(late).await, timetable.next(late).await];

        assert_eq!(begins, [start, start + Duration::from_millis(10)]);
    }

    #[test]
    fn what_was_due_and_never_begun_is_not_left_out() {
        let start = Instant::now();
        let timetable = Timetable::Fixed { due: start, interval: Duration::from_millis(10) };

        let left: Vec<_> = timetable.left_before(start + Duration::from_millis(35)).collect();

        assert_eq!(left.len(), 4);
        assert_eq!(left[3], start + Duration::from_millis(30));
    }
}
