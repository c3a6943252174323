//! The people the measurements are made with: each has one counter-based factor with a seed we know.

use crate::{
    client::{Connection, Credentials, json_request},
    dice::Dice,
};
use anyhow::{Context, Result, ensure};
use countersign_core::factor::otp::{Algorithm, Generator, OtpSecret};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use uuid::Uuid;

/// A code as the wire has it.
pub(crate) type Code = [u8; 6];

/// How many people pass between two signs of life.
const PROGRESS: u64 = 100_000;
/// A prime above the number of people anybody loads: its multiples go through all of them, each in another part of the files
/// than the one before.
const STRIDE: u64 = 2_654_435_761;

/// Everybody, in 21 bytes each: ten million fit beside the server.
pub(crate) struct Estate {
    /// The number of the first; it says which seed a token has.
    first: u64,
    ids: Vec<Uuid>,
    /// The counter of the next code nobody saw yet.
    counters: Vec<AtomicU32>,
    /// Wrong codes since the last right one.
    failures: Vec<AtomicU8>,
}

impl Estate {
    /// Makes an estate of people none of whose codes was used.
    pub(crate) fn new(first: u64, ids: Vec<Uuid>) -> Self {
        Self {
            first,
            counters: ids.iter().map(|_| AtomicU32::new(0)).collect(),
            failures: ids.iter().map(|_| AtomicU8::new(0)).collect(),
            ids,
        }
    }

    /// Puts people behind those who are here.
    pub(crate) fn append(&mut self, other: Self) -> Result<()> {
        ensure!(other.first == self.first + self.len() as u64, "people are not numbered without gaps");
        self.ids.extend(other.ids);
        self.counters.extend(other.counters);
        self.failures.extend(other.failures);
        Ok(())
    }

    /// Writes everybody, each as the id, the counter and the failures.
    pub(crate) fn write(&self, to: &mut impl Write) -> Result<()> {
        for ((id, counter), failures) in self.ids.iter().zip(&self.counters).zip(&self.failures) {
            to.write_all(id.as_bytes())?;
            to.write_all(&counter.load(Relaxed).to_le_bytes())?;
            to.write_all(&[failures.load(Relaxed)])?;
        }
        Ok(())
    }

    /// Reads as many people as were written, the first of whom has the number 0.
    pub(crate) fn read(from: &mut impl Read, count: u64) -> Result<Self> {
        let mut estate = Self::new(0, Vec::new());
        for _ in 0..count {
            let (mut id, mut counter, mut failures) = ([0; 16], [0; 4], [0; 1]);
            from.read_exact(&mut id)?;
            from.read_exact(&mut counter)?;
            from.read_exact(&mut failures)?;
            estate.ids.push(Uuid::from_bytes(id));
            estate.counters.push(AtomicU32::new(u32::from_le_bytes(counter)));
            estate.failures.push(AtomicU8::new(failures[0]));
        }
        Ok(estate)
    }

    /// Returns how many there are.
    pub(crate) const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns somebody's id.
    pub(crate) fn id(&self, place: u32) -> &Uuid {
        &self.ids[place as usize]
    }

    /// Returns the counter of somebody's next code.
    pub(crate) fn counter(&self, place: u32) -> u32 {
        self.counters[place as usize].load(Relaxed)
    }

    /// Returns one of somebody's codes.
    pub(crate) fn code(&self, place: u32, counter: u32) -> Code {
        code(self.first + u64::from(place), counter.into())
    }

    /// Returns somebody's next code, which counts as used.
    pub(crate) fn next_code(&self, place: u32) -> Code {
        self.code(place, self.counters[place as usize].fetch_add(1, Relaxed))
    }

    /// Takes back the newest of somebody's codes, which was not sent: counters must not run ahead of the server's.
    pub(crate) fn give_back(&self, place: u32) {
        self.counters[place as usize].fetch_sub(1, Relaxed);
    }

    /// Returns a code that is none of somebody's: neither one that is still good nor one that was.
    pub(crate) fn wrong_code(&self, place: u32) -> Code {
        let next = self.counter(place);
        let near: Vec<Code> =
            (next.saturating_sub(2)..next + 52).map(|counter| self.code(place, counter)).collect();
        let mut guess = 0;
        loop {
            let code: Code = format!("{guess:06}").into_bytes().try_into().expect("six digits");
            if !near.contains(&code) {
                return code;
            }
            guess += 1;
        }
    }

    /// Counts a wrong code of somebody's; returns how many there were since the last right one.
    pub(crate) fn fail(&self, place: u32) -> u8 {
        self.failures[place as usize].fetch_add(1, Relaxed) + 1
    }

    /// Returns how many wrong codes there were since the last right one.
    pub(crate) fn failures(&self, place: u32) -> u8 {
        self.failures[place as usize].load(Relaxed)
    }

    /// Notes that somebody's wrong codes no longer count.
    pub(crate) fn forgive(&self, place: u32) {
        self.failures[place as usize].store(0, Relaxed);
    }
}

/// The people one connection works with: nobody is in two shares, so nobody's codes cross.
pub(crate) struct Share {
    pub(crate) estate: Arc<Estate>,
    lane: u64,
    lanes: u64,
    /// How many people there are in this share.
    count: u64,
    /// How far [`Share::next`] went.
    turn: u64,
    dice: Dice,
}

impl Share {
    /// Deals the first `reach` people out, in an order that has nothing to do with the one in which they were made; needs at
    /// least one for each lane.
    pub(crate) fn deal(estate: &Arc<Estate>, reach: usize, lanes: usize) -> Vec<Self> {
        let (reach, lanes) = (reach as u64, lanes as u64);
        (0..lanes)
            .map(|lane| Self {
                estate: Arc::clone(estate),
                lane,
                lanes,
                count: (reach - lane).div_ceil(lanes),
                turn: 0,
                dice: Dice::seeded(1 + lane),
            })
            .collect()
    }

    /// Returns how many people there are in the share.
    pub(crate) const fn len(&self) -> u64 {
        self.count
    }

    /// Returns how many people of the share are worked with if all shares together may take so many, one at least.
    pub(crate) fn few(&self, of_all: u64) -> usize {
        (of_all / self.lanes).clamp(1, self.count) as usize
    }

    /// Returns anybody, everybody as likely as the others.
    pub(crate) fn anybody(&mut self) -> u32 {
        let turn = self.dice.below(self.count as usize) as u64;
        self.place(turn)
    }

    /// Returns one after the other, and begins anew after the last.
    pub(crate) fn next(&mut self) -> u32 {
        let turn = self.turn;
        self.turn = (turn + 1) % self.count;
        self.place(turn)
    }

    fn place(&self, turn: u64) -> u32 {
        let place = (self.lane + turn * self.lanes) * STRIDE % self.estate.len() as u64;
        u32::try_from(place).expect("people are counted in 32 bits")
    }
}

/// Returns a code of the token with a number.
pub(crate) fn code(number: u64, counter: u64) -> Code {
    code_of(&secret(number), counter)
}

/// Returns a code of a secret.
pub(crate) fn code_of(secret: &OtpSecret, counter: u64) -> Code {
    let code = Generator::new(Algorithm::Sha1, 6, secret).code_at(counter);
    code.expose().as_bytes().try_into().expect("a code of six digits")
}

/// Returns the secret of the token with a number: always the same, so that an estate can be used again.
pub(crate) fn secret(number: u64) -> OtpSecret {
    let mut bytes = b"load test...".to_vec();
    bytes.extend(number.to_be_bytes());
    OtpSecret::from_bytes(bytes)
}

/// Returns the name of the person with a number.
pub(crate) fn username(number: u64) -> String {
    format!("person-{number:08}")
}

/// Creates somebody and returns the new id.
pub(crate) async fn create(connection: &mut Connection, authorization: &str, username: &str) -> Result<Uuid> {
    let body = json!({ "username": username });
    let user = connection.json(&json_request("POST", "/v1/users", authorization, &body), 201).await;
    id_of(&user.with_context(|| format!("create {username}"))?)
}

/// Imports the token with a number for somebody.
pub(crate) async fn import(
    connection: &mut Connection,
    authorization: &str,
    user: &Uuid,
    number: u64,
) -> Result<()> {
    let body = json!({ "type": "hotp", "secret": secret(number).to_base32().expose(), "counter": 0 });
    let path = format!("/v1/users/{user}/factors");
    let factor = connection.json(&json_request("POST", &path, authorization, &body), 201).await;
    factor.map(drop).with_context(|| format!("import a token for {user}"))
}

/// Reads the id of something the server made.
pub(crate) fn id_of(made: &Value) -> Result<Uuid> {
    let id = made["id"].as_str().context("an answer without an id")?;
    id.parse().with_context(|| format!("read the id {id}"))
}

/// People who are being made, and signs of life about them.
pub(crate) struct Making {
    next: AtomicU64,
    numbers: Range<u64>,
    made: AtomicU64,
    start: Instant,
}

impl Making {
    /// Begins with the first number.
    pub(crate) fn of(numbers: Range<u64>) -> Arc<Self> {
        let next = AtomicU64::new(numbers.start);
        Arc::new(Self { next, numbers, made: AtomicU64::new(0), start: Instant::now() })
    }

    /// Returns the number of the next one to make; `None` once there is none left.
    pub(crate) fn next(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Relaxed);
        (number < self.numbers.end).then_some(number)
    }

    /// Notes that one more was made.
    pub(crate) fn made_one(&self) {
        let made = self.made.fetch_add(1, Relaxed) + 1;
        if made.is_multiple_of(PROGRESS) {
            let rate = made as f64 / self.start.elapsed().as_secs_f64();
            eprintln!("… {made} of {} people, {rate:.0} a second", self.numbers.end - self.numbers.start);
        }
    }

    /// Makes an estate of those that all lanes made; returns it with the time it took.
    pub(crate) fn estate(&self, made: Vec<Vec<(u64, Uuid)>>) -> Result<(Estate, Duration)> {
        let elapsed = self.start.elapsed();
        let mut ids = vec![Uuid::nil(); (self.numbers.end - self.numbers.start) as usize];
        for (number, id) in made.into_iter().flatten() {
            ids[(number - self.numbers.start) as usize] = id;
        }
        ensure!(!ids.contains(&Uuid::nil()), "somebody was not made");
        Ok((Estate::new(self.numbers.start, ids), elapsed))
    }
}

/// Loads people through the API over many connections; returns them with the time it took.
pub(crate) async fn load(
    address: SocketAddr,
    credentials: &Credentials,
    numbers: Range<u64>,
    connections: usize,
) -> Result<(Estate, Duration)> {
    let authorization: Arc<str> = credentials.basic().into();
    let making = Making::of(numbers);
    let lanes: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(load_lane(address, Arc::clone(&authorization), Arc::clone(&making))))
        .collect();
    let mut made = Vec::new();
    for lane in lanes {
        made.push(lane.await??);
    }
    making.estate(made)
}

async fn load_lane(
    address: SocketAddr,
    authorization: Arc<str>,
    making: Arc<Making>,
) -> Result<Vec<(u64, Uuid)>> {
    let mut connection = Connection::open(address).await?;
    let mut made = Vec::new();
    while let Some(number) = making.next() {
        let id = create(&mut connection, &authorization, &username(number)).await?;
        import(&mut connection, &authorization, &id, number).await?;
        made.push((number, id));
        making.made_one();
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estate(count: u64) -> Arc<Estate> {
        Arc::new(Estate::new(0, (0..count).map(|number| Uuid::from_u128(number.into())).collect()))
    }

    #[test]
    fn everybody_has_a_token_of_their_own_with_a_new_code_each_time() {
        assert_ne!(code(1, 0), code(2, 0));
        assert_ne!(code(1, 0), code(1, 1));
        assert_eq!(code(1, 0), code(1, 0));
    }

    #[test]
    fn everybody_is_dealt_to_one_share() {
        for (count, reach, lanes) in [(10, 10, 4), (1000, 1000, 64), (1000, 100, 7), (64, 64, 64)] {
            let mut seen = Vec::new();
            for mut share in Share::deal(&estate(count), reach, lanes) {
                seen.extend((0..share.len()).map(|_| share.next()));
            }

            assert_eq!(seen.len(), reach);
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), reach, "nobody twice");
        }
    }

    #[test]
    fn anybody_is_somebody_of_the_share() {
        let estate = estate(100);
        let mut shares = Share::deal(&estate, 100, 3);
        let all: Vec<u32> = (0..shares[1].len()).map(|_| shares[1].next()).collect();

        let picked: std::collections::BTreeSet<u32> = (0..1000).map(|_| shares[1].anybody()).collect();

        assert!(picked.iter().all(|place| all.contains(place)));
        assert_eq!(picked.len(), all.len(), "everybody, sooner or later");
    }

    #[test]
    fn a_wrong_code_is_neither_the_last_one_nor_one_to_come() {
        let estate = estate(1);
        let used = estate.next_code(0);

        let wrong = estate.wrong_code(0);

        assert_ne!(wrong, used);
        assert!((0..50).all(|counter| estate.code(0, counter) != wrong));
    }
}
