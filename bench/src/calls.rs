//! Everything but verifications: enrolling, sending codes, tokens, lists, and calls of the dialects.

use crate::{
    attempts,
    client::{Answer, Connection, json_request, request},
    dice::Dice,
    estate::{self, Code, Share},
    work::{AnyWork, Outcome, Preparing, Template, Work},
};
use anyhow::{Context, Result, ensure};
use countersign_core::factor::otp::OtpSecret;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use uuid::Uuid;

/// How many codes are sent to each destination: a policy may allow that many in an hour.
const CODES_EACH: usize = 10;
/// The first number that codes are sent to.
const FIRST_NUMBER: u64 = 4_915_110_000_000;

/// Numbers nobody had before, for names and destinations.
static FRESH: AtomicU64 = AtomicU64::new(0);

/// Makes the next request with a token.
type Make = Box<dyn FnMut(&str) -> Vec<u8> + Send>;

/// Calls of one request each that need no preparation.
pub(crate) struct Calls {
    /// The token they are made with, if it is not the client's.
    own: Option<String>,
    authorization: String,
    make: Make,
    is_right: fn(&Answer<'_>) -> bool,
    request: Vec<u8>,
}

impl Calls {
    fn work(
        own: Option<String>,
        make: impl FnMut(&str) -> Vec<u8> + Send + 'static,
        is_right: fn(&Answer<'_>) -> bool,
    ) -> AnyWork {
        let authorization = own.clone().unwrap_or_default();
        Box::new(Self { own, authorization, make: Box::new(make), is_right, request: Vec::new() })
    }

    /// Gets access tokens by the client's secret.
    pub(crate) fn token(basic: String) -> AnyWork {
        let form = ("application/x-www-form-urlencoded", &b"grant_type=client_credentials"[..]);
        let made = request("POST", "/oauth/token", &basic, Some(form));
        Self::work(Some(basic), move |_| made.clone(), |answer| is_200_with(answer, b"\"access_token\""))
    }

    /// Reads pages of 50 people, anywhere in the list.
    pub(crate) fn list(cursors: Arc<Vec<String>>, lane: u64) -> AnyWork {
        let mut dice = Dice::seeded(lane);
        let make = move |authorization: &str| {
            let path = match cursors.get(dice.below(cursors.len() + 1)) {
                Some(cursor) => format!("/v1/users?limit=50&after={cursor}"),
                None => "/v1/users?limit=50".to_owned(),
            };
            request("GET", &path, authorization, None)
        };
        Self::work(None, make, |answer| is_200_with(answer, b"\"username\""))
    }

    /// Looks people up by the beginning of their name, which ten have in common.
    pub(crate) fn search(share: &Share, lane: u64) -> AnyWork {
        let (mut dice, people) = (Dice::seeded(lane), share.estate.len());
        let make = move |authorization: &str| {
            let name = estate::username(dice.below(people) as u64);
            let path = format!("/v1/users?limit=50&username={}", &name[..name.len() - 1]);
            request("GET", &path, authorization, None)
        };
        Self::work(None, make, |answer| is_200_with(answer, b"\"username\""))
    }

    /// Reads the newest 50 events.
    pub(crate) fn audit() -> AnyWork {
        let make = |authorization: &str| request("GET", "/v1/audit?limit=50", authorization, None);
        Self::work(None, make, |answer| is_200_with(answer, b"\"action\""))
    }

    /// Asks for somebody's own second factors, as Reltio's clients do.
    pub(crate) fn reltio_details(session: String) -> AnyWork {
        let made = request("GET", "/reltio/oauth/users/mfaDetails", &session, None);
        Self::work(Some(session), move |_| made.clone(), |answer| is_200_with(answer, b"\"availables\""))
    }

    /// Hands out keys and recovery codes, as Veeam's clients have it done.
    pub(crate) fn veeam_enable(mut share: Share) -> AnyWork {
        let make = move |authorization: &str| {
            let person = share.anybody();
            let path = format!("/veeam/api/v8.1/users/{}/enableMfa", share.estate.id(person));
            json_request("POST", &path, authorization, &json!({ "recreate": true }))
        };
        Self::work(None, make, |answer| is_200_with(answer, b"\"secretKey\""))
    }
}

impl Work for Calls {
    fn authorise(&mut self, authorization: &str) {
        if self.own.is_none() {
            authorization.clone_into(&mut self.authorization);
        }
    }

    fn request(&mut self) -> Option<&[u8]> {
        self.request = (self.make)(&self.authorization);
        Some(&self.request)
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if (self.is_right)(answer) { Outcome::Done } else { Outcome::Wrong }
    }
}

fn is_200_with(answer: &Answer<'_>, part: &[u8]) -> bool {
    answer.status == 200 && answer.body.windows(part.len()).any(|found| found == part)
}

/// Enrols a counter-based factor and activates it by its first code: for somebody new each time, who is made before.
#[derive(Default)]
pub(crate) struct Enrolments {
    authorization: String,
    people: Vec<Uuid>,
    whose: Uuid,
    /// The factor that waits for its first code, with that code.
    waiting: Option<(String, Code)>,
    request: Vec<u8>,
}

impl Enrolments {
    /// Returns the work of a connection.
    pub(crate) fn work() -> AnyWork {
        Box::new(Self::default())
    }
}

impl Work for Enrolments {
    fn authorise(&mut self, authorization: &str) {
        authorization.clone_into(&mut self.authorization);
    }

    fn prepare<'a>(&'a mut self, connection: &'a mut Connection, count: usize) -> Preparing<'a> {
        Box::pin(async move {
            while self.people.len() < count.max(1) {
                let name = format!("newcomer-{:08}", FRESH.fetch_add(1, Relaxed));
                self.people.push(estate::create(connection, &self.authorization, &name).await?);
            }
            Ok(())
        })
    }

    fn request(&mut self) -> Option<&[u8]> {
        self.request = match &self.waiting {
            None => {
                self.whose = self.people.pop()?;
                let path = format!("/v1/users/{}/factors", self.whose);
                json_request("POST", &path, &self.authorization, &json!({ "type": "hotp" }))
            }
            Some((factor, code)) => {
                let path = format!("/v1/users/{}/factors/{factor}/activate", self.whose);
                let code = String::from_utf8_lossy(code);
                json_request("POST", &path, &self.authorization, &json!({ "code": code }))
            }
        };
        Some(&self.request)
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if self.waiting.take().is_some() {
            let is_active = is_200_with(answer, br#""state":"active""#);
            return if is_active { Outcome::Done } else { Outcome::Wrong };
        }
        self.waiting = enrolled(answer).ok();
        if self.waiting.is_some() { Outcome::More } else { Outcome::Wrong }
    }

    fn refused(&mut self) {
        self.waiting = None;
    }
}

/// Reads what was enrolled; computes the first code as a token would.
fn enrolled(answer: &Answer<'_>) -> Result<(String, Code)> {
    ensure!(answer.status == 201, "enrol: {answer}");
    let factor: Value = serde_json::from_slice(answer.body)?;
    let text = |name: &str| factor[name].as_str().with_context(|| format!("a factor without {name}"));
    let secret = OtpSecret::from_base32("secret", text("secret")?)?;
    let counter = factor["counter"].as_u64().unwrap_or(0);
    Ok((text("id")?.to_owned(), estate::code_of(&secret, counter)))
}

/// Has codes sent by text message, to people who are made before and get a few each.
#[derive(Default)]
pub(crate) struct Challenges {
    authorization: String,
    /// Each as often as they may get one.
    receivers: Vec<Uuid>,
    request: Vec<u8>,
}

impl Challenges {
    /// Returns the work of a connection.
    pub(crate) fn work() -> AnyWork {
        Box::new(Self::default())
    }
}

impl Work for Challenges {
    fn authorise(&mut self, authorization: &str) {
        authorization.clone_into(&mut self.authorization);
    }

    fn prepare<'a>(&'a mut self, connection: &'a mut Connection, count: usize) -> Preparing<'a> {
        Box::pin(async move {
            let mut fresh = Vec::new();
            while self.receivers.len() + fresh.len() * CODES_EACH < count.max(1) {
                let number = FRESH.fetch_add(1, Relaxed);
                let name = format!("receiver-{number:08}");
                let id = estate::create(connection, &self.authorization, &name).await?;
                let destination = format!("+{}", FIRST_NUMBER + number);
                let body = json!({ "type": "sms", "destination": destination, "confirmed": true });
                let path = format!("/v1/users/{id}/factors");
                connection.json(&json_request("POST", &path, &self.authorization, &body), 201).await?;
                fresh.push(id);
            }
            for _ in 0..CODES_EACH {
                self.receivers.extend(&fresh);
            }
            Ok(())
        })
    }

    fn request(&mut self) -> Option<&[u8]> {
        let path = format!("/v1/users/{}/challenges", self.receivers.pop()?);
        self.request = json_request("POST", &path, &self.authorization, &json!({ "type": "sms" }));
        Some(&self.request)
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if answer.status == 201 { Outcome::Done } else { Outcome::Wrong }
    }
}

/// Unlocks people as RSA's clients do. They are locked before, by wrong codes, and each is unlocked once.
pub(crate) struct RsaUnlocks {
    share: Share,
    template: Template,
    authorization: String,
    locked: VecDeque<u32>,
    request: Vec<u8>,
}

impl RsaUnlocks {
    /// Returns the work of a connection.
    pub(crate) fn work(share: Share) -> AnyWork {
        Box::new(Self {
            share,
            template: Template::new("/v1/verify"),
            authorization: String::new(),
            locked: VecDeque::new(),
            request: Vec::new(),
        })
    }
}

impl Work for RsaUnlocks {
    fn authorise(&mut self, authorization: &str) {
        authorization.clone_into(&mut self.authorization);
        self.template.authorise(authorization);
    }

    fn prepare<'a>(&'a mut self, connection: &'a mut Connection, count: usize) -> Preparing<'a> {
        Box::pin(async move {
            let count = count.clamp(1, self.share.len() as usize);
            // Who was not reached in the last slice is locked still. They come one after the other, so the next is none of them.
            while self.locked.len() < count {
                let person = self.share.next();
                attempts::lock(connection, &mut self.template, (&self.share, person)).await?;
                self.locked.push_back(person);
            }
            Ok(())
        })
    }

    fn request(&mut self) -> Option<&[u8]> {
        let person = self.locked.pop_front()?;
        self.share.estate.forgive(person);
        let id = self.share.estate.id(person);
        let path = format!("/rsa/AdminInterface/restapi/v1/users/{id}/methods");
        self.request =
            json_request("PATCH", &path, &self.authorization, &json!({ "unlockMethods": ["TOKEN"] }));
        Some(&self.request)
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if is_200_with(answer, br#""isTokenLocked":false"#) { Outcome::Done } else { Outcome::Wrong }
    }

    fn finish<'a>(&'a mut self, connection: &'a mut Connection) -> Preparing<'a> {
        Box::pin(async move {
            for person in self.locked.drain(..) {
                attempts::unlock(connection, &self.authorization, (&self.share, person)).await?;
            }
            Ok(())
        })
    }
}
