//! What a connection sends: request by request, with what has to come back.

use crate::{
    client::{Answer, Connection, request},
    estate::Code,
};
use anyhow::Result;
use std::pin::Pin;
use uuid::Uuid;

/// What somebody does while no clock runs.
pub(crate) type Preparing<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The operation is done, and as it had to be.
    Done,
    /// It was right, and the operation goes on with another request.
    More,
    /// It was not what it had to be.
    Wrong,
}

/// The work of one connection: operations of one kind, each of one or more requests, one after the other.
pub(crate) trait Work: Send {
    /// Takes over a token: access tokens end before long measurements do.
    fn authorise(&mut self, authorization: &str);

    /// Gets ready for so many operations, outside of what is timed.
    fn prepare<'a>(&'a mut self, connection: &'a mut Connection, count: usize) -> Preparing<'a> {
        let _ = (connection, count);
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns the next request; `None` if nothing is prepared any more, and so the slice ends.
    fn request(&mut self) -> Option<&[u8]>;

    /// Takes its answer.
    fn take(&mut self, answer: &Answer<'_>) -> Outcome;

    /// Learns that the server was too busy for the request: nothing came of it.
    fn refused(&mut self) {}

    /// Puts back in order what it changed, outside of what is timed.
    fn finish<'a>(&'a mut self, connection: &'a mut Connection) -> Preparing<'a> {
        let _ = connection;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns how much had to be prepared while the clock ran since it was asked last.
    fn prepared_late(&mut self) -> usize {
        0
    }
}

/// The work of one connection, of any kind.
pub(crate) type AnyWork = Box<dyn Work>;

/// A request in which only person and code change.
#[derive(Clone)]
pub(crate) struct Template {
    path: &'static str,
    bytes: Vec<u8>,
    user: usize,
    code: usize,
}

impl Template {
    /// Makes requests to a path that takes an attempt.
    pub(crate) fn new(path: &'static str) -> Self {
        let mut template = Self { path, bytes: Vec::new(), user: 0, code: 0 };
        template.authorise("");
        template
    }

    /// Replaces the token.
    pub(crate) fn authorise(&mut self, authorization: &str) {
        let (user, code) = (br#"{"user":""#.len(), br#"","code":""#.len());
        let body = format!(r#"{{"user":"{}","code":"000000"}}"#, Uuid::nil());
        let content = Some(("application/json", body.as_bytes()));
        self.bytes = request("POST", self.path, authorization, content);
        self.user = self.bytes.len() - body.len() + user;
        self.code = self.user + uuid::fmt::Hyphenated::LENGTH + code;
    }

    /// Writes the request of an attempt.
    pub(crate) fn fill(&mut self, user: &Uuid, code: &Code) -> &[u8] {
        user.hyphenated().encode_lower(&mut self.bytes[self.user..][..uuid::fmt::Hyphenated::LENGTH]);
        self.bytes[self.code..][..code.len()].copy_from_slice(code);
        &self.bytes
    }
}

/// The handler that reads the body of a verification and does nothing: what everything is compared with.
pub(crate) struct Baseline(Template);

impl Baseline {
    /// Returns the work of so many connections.
    pub(crate) fn works(connections: usize) -> Vec<AnyWork> {
        (0..connections).map(|_| Box::new(Self(Template::new("/baseline"))) as AnyWork).collect()
    }
}

impl Work for Baseline {
    fn authorise(&mut self, authorization: &str) {
        self.0.authorise(authorization);
    }

    fn request(&mut self) -> Option<&[u8]> {
        Some(&self.0.bytes)
    }

    fn take(&mut self, answer: &Answer<'_>) -> Outcome {
        if answer.status == 200 { Outcome::Done } else { Outcome::Wrong }
    }
}

/// Tells whether an answer of `/v1/verify` has a result.
///
/// A server that writes its members in the documented order is read fastest.
pub(crate) fn has_result(answer: &Answer<'_>, result: &str) -> bool {
    const START: &[u8] = br#"{"result":""#;
    let is_it = |rest: &[u8]| {
        rest.starts_with(result.as_bytes()) && rest.get(result.len()).is_some_and(|next| *next == b'"')
    };
    let rest = answer.body.strip_prefix(START);
    answer.status == 200
        && match rest {
            Some(rest) => is_it(rest),
            None => {
                let mark = &START[1..];
                let at = answer.body.windows(mark.len()).position(|part| part == mark);
                at.is_some_and(|at| is_it(&answer.body[at + mark.len()..]))
            }
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_person_and_code_in_their_places() {
        let mut template = Template::new("/v1/verify");
        template.authorise("Bearer x");

        let text = String::from_utf8(template.fill(&Uuid::from_u128(7), b"123456").to_vec()).expect("text");

        let body = r#"{"user":"00000000-0000-0000-0000-000000000007","code":"123456"}"#;
        assert!(text.starts_with("POST /v1/verify HTTP/1.1\r\n"));
        assert!(text.ends_with(body));
        assert!(text.contains(&format!("content-length: {}\r\n", body.len())));
        assert!(text.contains("authorization: Bearer x\r\n"));
    }

    #[test]
    fn only_the_expected_result_is_right() {
        let has = |status, body, result| has_result(&Answer { status, body }, result);

        assert!(has(200, br#"{"result":"accepted"}"#, "accepted"));
        assert!(has(200, br#"{"user":"x","result":"accepted"}"#, "accepted"));
        assert!(!has(200, br#"{"result":"rejected"}"#, "accepted"));
        assert!(!has(200, br#"{"result":"acceptedly"}"#, "accepted"));
        assert!(!has(500, br#"{"result":"accepted"}"#, "accepted"));
    }
}
