//! Verifications: with codes that are accepted, rejected, replayed, or meet a lock.

use crate::{
    client::{Answer, Connection},
    estate::{Code, Share},
    work::{AnyWork, Outcome, Preparing, Template, Work, has_result},
};
use anyhow::{Result, ensure};
use std::collections::VecDeque;

/// Where attempts go.
const PATH: &str = "/v1/verify";
/// After how many wrong codes of a person a right one clears the count; below the highest threshold a policy may have.
const WRONG_CODES: u8 = 90;
/// How many people have wrong codes, or have one replayed, or are locked: each has to be brought there first.
const PREPARED: u64 = 8_192;

/// Codes that were never used.
pub(crate) struct Accepted {
    share: Share,
    template: Template,
    /// Codes signed ahead and whose they are, oldest first.
    signed: VecDeque<(u32, Code)>,
    /// What was sent last.
    sent: Option<(u32, Code)>,
    signed_late: usize,
}

impl Accepted {
    /// Returns the work of a connection.
    pub(crate) fn work(share: Share) -> AnyWork {
        let (template, signed) = (Template::new(PATH), VecDeque::new());
        Box::new(Self { share, template, signed, sent: None, signed_late: 0 })
    }

    fn sign(&mut self) -> (u32, Code) {
        let person = self.share.anybody();
        (person, self.share.estate.next_code(person))
    }
}

impl Work for Accepted {
    fn authorise(&mut self, authorization: &str) {
        self.template.authorise(authorization);
    }

    fn prepare<'a>(&'a mut self, _: &'a mut Connection, count: usize) -> Preparing<'a> {
        while self.signed.len() < count {
            let code = self.sign();
            self.signed.push_back(code);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(&mut self) -> Option<&[u8]> {
        let (person, code) = match self.signed.pop_front() {
            Some(signed) => signed,
            None => {
                self.signed_late += 1;
                self.sign()
            }
        };
        self.sent = Some((person, code));
        Some(self.template.fill(self.share.estate.id(person), &code))
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if has_result(answer, "accepted") { Outcome::Done } else { Outcome::Wrong }
    }

    /// The code was not looked at, and is sent again before any other of that person's.
    fn refused(&mut self) {
        self.signed.extend(self.sent.take());
        self.signed.rotate_right(1);
    }

    fn prepared_late(&mut self) -> usize {
        std::mem::take(&mut self.signed_late)
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        for (person, _) in &self.signed {
            self.share.estate.give_back(*person);
        }
    }
}

/// Wrong codes. Each counts, so after some of a person's a right one is sent, which clears the count.
pub(crate) struct Rejected {
    share: Share,
    template: Template,
    /// A wrong code for each of those it goes through.
    wrong: Vec<(u32, Code)>,
    turn: usize,
    expected: &'static str,
}

impl Rejected {
    /// Returns the work of a connection.
    pub(crate) fn work(share: Share) -> AnyWork {
        Box::new(Self::new(share))
    }

    fn new(share: Share) -> Self {
        Self { share, template: Template::new(PATH), wrong: Vec::new(), turn: 0, expected: "rejected" }
    }

    fn draw(&mut self) {
        while self.wrong.len() < self.share.few(PREPARED) {
            let person = self.share.next();
            self.wrong.push((person, self.share.estate.wrong_code(person)));
        }
    }
}

impl Work for Rejected {
    fn authorise(&mut self, authorization: &str) {
        self.template.authorise(authorization);
    }

    fn prepare<'a>(&'a mut self, _: &'a mut Connection, _: usize) -> Preparing<'a> {
        self.draw();
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(&mut self) -> Option<&[u8]> {
        let turn = self.turn;
        self.turn = (turn + 1) % self.wrong.len();
        let (estate, (person, wrong)) = (&self.share.estate, self.wrong[turn]);
        let code = if estate.failures(person) < WRONG_CODES {
            self.expected = "rejected";
            estate.fail(person);
            wrong
        } else {
            self.expected = "accepted";
            estate.forgive(person);
            let right = estate.next_code(person);
            self.wrong[turn].1 = estate.wrong_code(person);
            right
        };
        Some(self.template.fill(estate.id(person), &code))
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if has_result(answer, self.expected) { Outcome::Done } else { Outcome::Wrong }
    }
}

/// Sends somebody a code outside of what is timed.
async fn attempt(
    connection: &mut Connection,
    template: &mut Template,
    (share, person): (&Share, u32),
    code: &Code,
    expected: &[&str],
) -> Result<()> {
    let answer = connection.exchange(template.fill(share.estate.id(person), code)).await?;
    ensure!(
        expected.iter().any(|expected| has_result(&answer, expected)),
        "expected one of {expected:?}, got {answer}"
    );
    Ok(())
}

/// Codes that were accepted before. They do not count as failures.
pub(crate) struct Replayed {
    share: Share,
    template: Template,
    used: Vec<(u32, Code)>,
    turn: usize,
}

impl Replayed {
    /// Returns the work of a connection.
    pub(crate) fn work(share: Share) -> AnyWork {
        Box::new(Self { share, template: Template::new(PATH), used: Vec::new(), turn: 0 })
    }
}

impl Work for Replayed {
    fn authorise(&mut self, authorization: &str) {
        self.template.authorise(authorization);
    }

    fn prepare<'a>(&'a mut self, connection: &'a mut Connection, _: usize) -> Preparing<'a> {
        Box::pin(async move {
            while self.used.len() < self.share.few(PREPARED) {
                let person = self.share.next();
                let code = self.share.estate.next_code(person);
                let whose = (&self.share, person);
                attempt(connection, &mut self.template, whose, &code, &["accepted"]).await?;
                self.share.estate.forgive(person);
                self.used.push((person, code));
            }
            Ok(())
        })
    }

    fn request(&mut self) -> Option<&[u8]> {
        let (person, code) = self.used[self.turn];
        self.turn = (self.turn + 1) % self.used.len();
        Some(self.template.fill(self.share.estate.id(person), &code))
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if has_result(answer, "replayed") { Outcome::Done } else { Outcome::Wrong }
    }
}

/// Right codes of people who are locked, until somebody unlocks them: that is done in the end.
pub(crate) struct Locked {
    share: Share,
    template: Template,
    authorization: String,
    locked: Vec<(u32, Code)>,
    turn: usize,
}

impl Locked {
    /// Returns the work of a connection.
    pub(crate) fn work(share: Share) -> AnyWork {
        let (template, authorization) = (Template::new(PATH), String::new());
        Box::new(Self { share, template, authorization, locked: Vec::new(), turn: 0 })
    }
}

impl Work for Locked {
    fn authorise(&mut self, authorization: &str) {
        authorization.clone_into(&mut self.authorization);
        self.template.authorise(authorization);
    }

    fn prepare<'a>(&'a mut self, connection: &'a mut Connection, _: usize) -> Preparing<'a> {
        Box::pin(async move {
            while self.locked.len() < self.share.few(PREPARED) {
                let person = self.share.next();
                lock(connection, &mut self.template, (&self.share, person)).await?;
                let code = self.share.estate.code(person, self.share.estate.counter(person));
                self.locked.push((person, code));
            }
            Ok(())
        })
    }

    fn request(&mut self) -> Option<&[u8]> {
        let (person, code) = self.locked[self.turn];
        self.turn = (self.turn + 1) % self.locked.len();
        Some(self.template.fill(self.share.estate.id(person), &code))
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if has_result(answer, "locked") { Outcome::Done } else { Outcome::Wrong }
    }

    fn finish<'a>(&'a mut self, connection: &'a mut Connection) -> Preparing<'a> {
        Box::pin(async move {
            for (person, _) in self.locked.drain(..) {
                unlock(connection, &self.authorization, (&self.share, person)).await?;
            }
            Ok(())
        })
    }
}

/// Has somebody locked by wrong codes, under a policy by which three suffice.
pub(crate) async fn lock(
    connection: &mut Connection,
    template: &mut Template,
    whose: (&Share, u32),
) -> Result<()> {
    let code = whose.0.estate.wrong_code(whose.1);
    for expected in [&["rejected", "locked"][..], &["rejected", "locked"], &["locked"]] {
        attempt(connection, template, whose, &code, expected).await?;
    }
    Ok(())
}

/// Unlocks somebody.
pub(crate) async fn unlock(
    connection: &mut Connection,
    authorization: &str,
    (share, person): (&Share, u32),
) -> Result<()> {
    let path = format!("/v1/users/{}/unlock", share.estate.id(person));
    let body = serde_json::json!({ "methods": ["TOKEN"] });
    let request = crate::client::json_request("POST", &path, authorization, &body);
    let answer = connection.exchange(&request).await?;
    ensure!(matches!(answer.status, 200 | 204), "unlock: {answer}");
    share.estate.forgive(person);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estate::Estate;
    use std::sync::Arc;
    use uuid::Uuid;

    fn shares(people: u128) -> (Arc<Estate>, Share) {
        let estate = Arc::new(Estate::new(0, (0..people).map(Uuid::from_u128).collect()));
        let share = Share::deal(&estate, estate.len(), 1).remove(0);
        (estate, share)
    }

    fn code_of(request: &[u8]) -> Vec<u8> {
        request[request.len() - 8..request.len() - 2].to_vec()
    }

    #[test]
    fn a_code_is_sent_once_and_one_not_sent_is_given_back() {
        let (estate, share) = shares(2);
        let mut work = Accepted {
            share,
            template: Template::new(PATH),
            signed: VecDeque::new(),
            sent: None,
            signed_late: 0,
        };
        work.signed = (0..5).map(|_| work.sign()).collect();

        let mut codes: Vec<_> = (0..3).map(|_| code_of(work.request().expect("a request"))).collect();
        drop(work);

        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 3);
        assert_eq!(estate.counter(0) + estate.counter(1), 3);
    }

    #[test]
    fn a_code_the_server_was_too_busy_for_is_sent_again_first() {
        let (_, share) = shares(1);
        let mut work = Accepted::work(share);

        let first = code_of(work.request().expect("a request"));
        work.refused();
        let again = code_of(work.request().expect("a request"));
        let next = code_of(work.request().expect("a request"));

        assert_eq!(first, again);
        assert_ne!(again, next);
    }

    #[test]
    fn wrong_codes_are_cleared_by_a_right_one_before_they_lock() {
        let (estate, share) = shares(1);
        let mut work = Rejected::new(share);
        work.draw();
        let right = estate.code(0, 0);

        let codes: Vec<_> = (0..=WRONG_CODES).map(|_| code_of(work.request().expect("a request"))).collect();

        assert_eq!(codes.iter().position(|code| *code == right), Some(WRONG_CODES.into()));
        assert_eq!(estate.failures(0), 0);
    }
}
