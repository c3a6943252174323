//! The people the measurements are made with: each has one counter-based factor with a seed we know.

use crate::client::{Connection, Credentials, json_request};
use crate::dice::Dice;
use anyhow::{Context, Result};
use countersign_core::factor::otp::{Algorithm, Generator, OtpSecret};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// An id as the wire has it.
pub(crate) type Id = [u8; 36];
/// A code as the wire has it.
pub(crate) type Code = [u8; 6];

/// How many people pass between two signs of life.
const PROGRESS: u64 = 100_000;

/// Somebody with a token.
pub(crate) struct Person {
    pub(crate) id: Id,
    /// Says which seed the token has.
    pub(crate) number: u64,
    /// The counter of the next code nobody saw yet.
    pub(crate) counter: u64,
}

impl Person {
    /// Returns one of the person's codes.
    pub(crate) fn code(&self, counter: u64) -> Code {
        code(self.number, counter)
    }
}

/// Returns a code of the token with a number.
pub(crate) fn code(number: u64, counter: u64) -> Code {
    let code = Generator::new(Algorithm::Sha1, 6, &secret(number)).code_at(counter);
    code.expose().as_bytes().try_into().expect("a code of six digits")
}

/// Returns the secret of the token with a number: always the same, so that an estate can be used again.
fn secret(number: u64) -> OtpSecret {
    let mut bytes = b"load test...".to_vec();
    bytes.extend(number.to_be_bytes());
    OtpSecret::from_bytes(bytes)
}

/// Creates somebody and returns the new id.
pub(crate) async fn create(connection: &mut Connection, authorization: &str, username: &str) -> Result<Id> {
    let body = json!({ "username": username });
    let user = connection.json(&json_request("POST", "/v1/users", authorization, &body), 201).await;
    id_of(&user.with_context(|| format!("create {username}"))?)
}

/// Imports the token with a number for somebody.
pub(crate) async fn import(
    connection: &mut Connection,
    authorization: &str,
    user: &Id,
    number: u64,
) -> Result<()> {
    let user = text(user);
    let body = json!({ "type": "hotp", "secret": secret(number).to_base32().expose(), "counter": 0 });
    let path = format!("/v1/users/{user}/factors");
    let factor = connection.json(&json_request("POST", &path, authorization, &body), 201).await;
    factor.map(drop).with_context(|| format!("import a token for {user}"))
}

/// Reads the id of something the server made.
fn id_of(made: &Value) -> Result<Id> {
    let id = made["id"].as_str().context("an answer without an id")?;
    id.as_bytes().try_into().with_context(|| format!("an id of another length: {id}"))
}

/// Returns an id as text.
pub(crate) fn text(id: &Id) -> &str {
    std::str::from_utf8(id).expect("an id that came as text")
}

/// Loads people through the API over many connections; returns them in an order that has nothing to do with the order
/// in which they were made, with the time it took.
pub(crate) async fn load(
    address: SocketAddr,
    credentials: &Credentials,
    numbers: Range<u64>,
    connections: usize,
) -> Result<(Vec<Person>, Duration)> {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let authorization: Arc<str> = credentials.basic().into();
    let start = Instant::now();

    let lanes: Vec<_> = (0..connections)
        .map(|_| {
            tokio::spawn(load_lane(address, Arc::clone(&authorization), Arc::clone(&next), numbers.clone()))
        })
        .collect();
    let mut people = Vec::new();
    for lane in lanes {
        people.append(&mut lane.await??);
    }

    let elapsed = start.elapsed();
    people.sort_unstable_by_key(|person| person.number);
    Dice::seeded(1).shuffle(&mut people);
    Ok((people, elapsed))
}

async fn load_lane(
    address: SocketAddr,
    authorization: Arc<str>,
    next: Arc<AtomicU64>,
    numbers: Range<u64>,
) -> Result<Vec<Person>> {
    let mut connection = Connection::open(address).await?;
    let mut people = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= numbers.end {
            return Ok(people);
        }
        let id = create(&mut connection, &authorization, &format!("person-{number:08}")).await?;
        import(&mut connection, &authorization, &id, number).await?;
        people.push(Person { id, number, counter: 0 });
        let done = number + 1 - numbers.start;
        if done.is_multiple_of(PROGRESS) {
            eprintln!("… {done} people");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_token_of_their_own_with_a_new_code_each_time() {
        assert_ne!(code(1, 0), code(2, 0));
        assert_ne!(code(1, 0), code(1, 1));
        assert_eq!(code(1, 0), code(1, 0));
    }
}
