//! Drives verifications, or the handler they are compared with, over keep-alive connections.

use crate::{
    client::{Answer, Connection, request},
    estate::{Code, Id, Person},
    sample::Latencies,
};
use anyhow::Result;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// What an accepted verification starts with, from a server that writes its members in the documented order.
const ACCEPTED_START: &[u8] = br#"{"result":"accepted""#;
/// What an accepted verification has somewhere.
const ACCEPTED: &[u8] = br#""result":"accepted""#;

/// Where requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// The handler that reads the same body and does nothing.
    Baseline,
    /// A verification, each with a code that was never used.
    Verify,
}

/// When a connection sends its next request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the last one is answered.
    Closed,
    /// At a fixed rate over all connections, answered or not.
    PerSecond(f64),
}

/// The people one connection works with; nobody is on two lanes, so nobody's codes cross.
pub(crate) struct Lane {
    people: Vec<Person>,
    /// Whose code is signed next.
    turn: usize,
    /// Codes signed ahead and whose they are, oldest first.
    signed: VecDeque<(usize, Code)>,
    /// How far the baseline went through them.
    shown: usize,
}

impl Lane {
    /// Deals people out; needs at least one for each lane.
    pub(crate) fn deal(mut people: Vec<Person>, lanes: usize) -> Vec<Self> {
        (1..=lanes)
            .rev()
            .map(|left| {
                let rest = people.len() - people.len() / left;
                Self { people: people.split_off(rest), turn: 0, signed: VecDeque::new(), shown: 0 }
            })
            .collect()
    }

    /// Brings people back together. A code signed but never sent is given back, so that counters do not run ahead.
    pub(crate) fn gather(lanes: Vec<Self>) -> Vec<Person> {
        let mut people = Vec::new();
        for mut lane in lanes {
            for (person, _) in lane.signed.drain(..) {
                lane.people[person].counter -= 1;
            }
            people.append(&mut lane.people);
        }
        people
    }

    /// Signs until `count` codes wait.
    pub(crate) fn sign_ahead(&mut self, count: usize) {
        while self.signed.len() < count {
            let person = &mut self.people[self.turn];
            self.signed.push_back((self.turn, person.code(person.counter)));
            person.counter += 1;
            self.turn = (self.turn + 1) % self.people.len();
        }
    }

    /// Writes the next request; tells whether its code had to be signed just now.
    fn fill(&mut self, template: &mut Template, load: Load) -> bool {
        let late = self.signed.is_empty();
        if late {
            self.sign_ahead(1);
        }
        let place = match load {
            Load::Verify => 0,
            // The same bytes as a verification, and the codes stay unused and in order.
            Load::Baseline => self.shown % self.signed.len(),
        };
        let (person, code) = self.signed[place];
        template.fill(&self.people[person].id, &code);
        match load {
            Load::Verify => drop(self.signed.pop_front()),
            Load::Baseline => self.shown = place + 1,
        }
        late
    }
}

/// A request in which only person and code change.
#[derive(Clone)]
struct Template {
    bytes: Vec<u8>,
    user: usize,
    code: usize,
}

impl Template {
    fn new(load: Load, authorization: &str) -> Self {
        let path = match load {
            Load::Baseline => "/baseline",
            Load::Verify => "/v1/verify",
        };
        let (user, code) = (br#"{"user":""#.len(), br#"","code":""#.len());
        let body = format!(r#"{{"user":"{:36}","code":"{:6}"}}"#, "", "");
        let bytes = request("POST", path, authorization, Some(("application/json", body.as_bytes())));
        let user = bytes.len() - body.len() + user;
        Self { bytes, user, code: user + size_of::<Id>() + code }
    }

    fn fill(&mut self, user: &Id, code: &Code) {
        self.bytes[self.user..][..user.len()].copy_from_slice(user);
        self.bytes[self.code..][..code.len()].copy_from_slice(code);
    }
}

/// Answers that were not what they had to be.
#[derive(Debug, Default)]
pub(crate) struct Unexpected {
    pub(crate) count: usize,
    pub(crate) first: Option<String>,
}

impl Unexpected {
    fn check(&mut self, load: Load, answer: &Answer<'_>) {
        let right = answer.status == 200
            && (load == Load::Baseline
                || answer.body.starts_with(ACCEPTED_START)
                || answer.body.windows(ACCEPTED.len()).any(|part| part == ACCEPTED));
        if !right {
            self.count += 1;
            self.first.get_or_insert_with(|| answer.to_string());
        }
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
    pub(crate) latencies: Latencies,
    pub(crate) elapsed: Duration,
    pub(crate) unexpected: Unexpected,
    /// Codes that had to be signed while the clock ran.
    pub(crate) signed_late: usize,
}

impl Slice {
    /// Returns the answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Opens a connection for each lane, to the addresses in turn.
pub(crate) async fn connect(addresses: &[SocketAddr], lanes: Vec<Lane>) -> Result<Vec<(Connection, Lane)>> {
    let mut connected = Vec::with_capacity(lanes.len());
    for (lane, address) in lanes.into_iter().zip(addresses.iter().cycle()) {
        connected.push((Connection::open(*address).await?, lane));
    }
    Ok(connected)
}

/// Sends one kind of request over all connections for a while.
pub(crate) async fn slice(
    connected: Vec<(Connection, Lane)>,
    authorization: &str,
    load: Load,
    pace: Pace,
    length: Duration,
) -> Result<(Slice, Vec<(Connection, Lane)>)> {
    let template = Template::new(load, authorization);
    let count = connected.len();
    let start = Instant::now();
    let stretch = Arc::new(Stretch { load, pace, lanes: count, start, length });

    let lanes: Vec<_> = connected
        .into_iter()
        .enumerate()
        .map(|(place, (connection, lane))| {
            tokio::spawn(drive(Arc::clone(&stretch), place, connection, lane, template.clone()))
        })
        .collect();
    let mut sum = Slice::default();
    let mut back = Vec::with_capacity(count);
    for lane in lanes {
        let (slice, connection, lane) = lane.await??;
        sum.latencies.append(slice.latencies);
        sum.unexpected.append(slice.unexpected);
        sum.signed_late += slice.signed_late;
        sum.elapsed = sum.elapsed.max(slice.elapsed);
        back.push((connection, lane));
    }
    Ok((sum, back))
}

/// What all lanes of a slice have in common.
struct Stretch {
    load: Load,
    pace: Pace,
    lanes: usize,
    start: Instant,
    length: Duration,
}

async fn drive(
    stretch: Arc<Stretch>,
    place: usize,
    mut connection: Connection,
    mut lane: Lane,
    mut template: Template,
) -> Result<(Slice, Connection, Lane)> {
    let mut slice = Slice::default();
    let mut timetable = Timetable::new(&stretch, place);
    let end = stretch.start + stretch.length;
    let mut last = Instant::now();
    while last < end {
        let begin = timetable.next(last).await;
        if begin >= end {
            break;
        }
        slice.signed_late += usize::from(lane.fill(&mut template, stretch.load));
        let answer = connection.exchange(&template.bytes).await?;
        last = Instant::now();
        slice.unexpected.check(stretch.load, &answer);
        slice.latencies.push(last - begin);
    }
    slice.elapsed = last - stretch.start;
    Ok((slice, connection, lane))
}

/// Says when a connection's next request is due.
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

    /// Waits for the next request's time; returns the moment its latency counts from.
    ///
    /// A request that is late because the one before it was answered late counts from when it was due: somebody would
    /// have waited. One that is late because our timer is coarse counts from when it is sent.
    async fn next(&mut self, now: Instant) -> Instant {
        let Self::Fixed { due, interval } = self else { return now };
        let begin = if *due > now {
            tokio::time::sleep_until((*due).into()).await;
            Instant::now()
        } else {
            *due
        };
        *due += *interval;
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(count: u64) -> Vec<Person> {
        (0..count).map(|number| Person { id: [b'x'; 36], number, counter: 0 }).collect()
    }

    #[test]
    fn everybody_is_dealt_to_one_lane() {
        let lanes = Lane::deal(people(10), 4);

        let sizes: Vec<usize> = lanes.iter().map(|lane| lane.people.len()).collect();
        assert_eq!(sizes, [2, 2, 3, 3]);
        let mut numbers: Vec<u64> = Lane::gather(lanes).iter().map(|person| person.number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..10));
    }

    #[test]
    fn a_code_is_sent_once_and_one_not_sent_is_given_back() {
        let mut lanes = Lane::deal(people(2), 1);
        let lane = &mut lanes[0];
        let mut template = Template::new(Load::Verify, "Bearer x");
        lane.sign_ahead(5);

        let mut bodies = Vec::new();
        for load in [Load::Baseline, Load::Verify, Load::Verify, Load::Verify] {
            lane.fill(&mut template, load);
            bodies.push(template.bytes[template.code..][..6].to_vec());
        }

        bodies.remove(0);
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), 3);
        let counters: u64 = Lane::gather(lanes).iter().map(|person| person.counter).sum();
        assert_eq!(counters, 3);
    }

    #[test]
    fn a_template_has_person_and_code_in_their_places() {
        let mut template = Template::new(Load::Verify, "Bearer x");

        template.fill(&[b'u'; 36], b"123456");

        let text = String::from_utf8(template.bytes).expect("text");
        let body = r#"{"user":"uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu","code":"123456"}"#;
        assert!(text.starts_with("POST /v1/verify HTTP/1.1\r\n"));
        assert!(text.ends_with(body));
        assert!(text.contains(&format!("content-length: {}\r\n", body.len())));
    }

    #[test]
    fn only_an_accepted_code_is_expected() {
        let mut unexpected = Unexpected::default();
        let answer = |status, body| Answer { status, body };

        unexpected.check(Load::Verify, &answer(200, br#"{"result":"accepted"}"#));
        unexpected.check(Load::Verify, &answer(200, br#"{"user":"x","result":"accepted"}"#));
        assert_eq!(unexpected.count, 0);
        unexpected.check(Load::Verify, &answer(200, br#"{"result":"rejected"}"#));
        unexpected.check(Load::Verify, &answer(500, br#"{"result":"accepted"}"#));
        assert_eq!(unexpected.count, 2);
        assert_eq!(unexpected.first.as_deref(), Some(r#"200 {"result":"rejected"}"#));
    }
}
