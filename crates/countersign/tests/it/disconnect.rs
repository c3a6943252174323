//! Hanging up saves nobody from being counted (promise 3).

use crate::test_app::{PASSWORD, clock, config};
use countersign::running::{self, Running};
use countersign_core::{
    Handle, User, UserId,
    event::Action,
    factor::otp::{Algorithm, Generator, OtpSecret},
};
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const WRONG: &str = "000000";

/// A server on a socket, with somebody to guess at.
struct Server {
    running: Running,
    address: SocketAddr,
    authorization: String,
    user: UserId,
    seed: OtpSecret,
    _directory: TempDir,
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let (running, first) = running::start(config(directory.path()), clock()).await.expect("start");
        let first = first.expect("an empty directory");
        let pair = format!("{}:{}", first.client.id, first.client_secret.expose());
        let mut server = Self {
            address: running.address,
            running,
            authorization: format!("Basic {}", BASE64.encode(pair.as_bytes())),
            user: first.admin.id,
            // 000000 is none of its codes around the test's time, as checked below.
            seed: OtpSecret::from_bytes(b"12345678901234567890".to_vec()),
            _directory: directory,
        };
        let policy = json!({ "locks": { "threshold": 100 }, "passwordLocks": { "threshold": 100 } });
        server.ask("PATCH", "/v1/organisations/main/policy", &policy).await;
        let created = server.ask("POST", "/v1/users", &json!({ "username": "alice" })).await;
        server.user = created["id"].as_str().expect("an id").parse().expect("an id");
        let invited = server.ask("POST", "/v1/users/alice/invitation", &json!({})).await;
        let body = json!({ "token": invited["token"], "password": PASSWORD });
        server.ask("POST", "/v1/invitations/accept", &body).await;
        let body = json!({ "type": "totp", "secret": server.seed.to_base32().expose() });
        server.ask("POST", "/v1/users/alice/factors", &body).await;
        assert_ne!(server.code(), WRONG);
        server
    }

    /// What the app shows, whose clock stands still like the server's.
    fn code(&self) -> String {
        let step = self.running.app.clock.now().seconds().unsigned_abs() / 30;
        Generator::new(Algorithm::Sha1, 6, &self.seed).code_at(step).expose().clone()
    }

    fn request(&self, method: &str, path: &str, content_type: &str, body: &str) -> Vec<u8> {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: countersign.test\r\nAuthorization: {}\r\n\
             Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        )
        .into_bytes()
    }

    fn verify(&self, code: &str) -> Vec<u8> {
        let body = json!({ "user": "alice", "code": code }).to_string();
        self.request("POST", "/v1/verify", "application/json", &body)
    }

    fn sign_in(&self, password: &str) -> Vec<u8> {
        let body = format!("grant_type=password&username=alice&password={password}");
        self.request("POST", "/oauth/token", "application/x-www-form-urlencoded", &body)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connect")
    }

    /// Sends a request and waits for the whole answer.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = self.connect().await;
        let request = self.request(method, path, "application/json", &body.to_string());
        let request =
            String::from_utf8(request).expect("text").replacen("Host:", "Connection: close\r\nHost:", 1);
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.starts_with("HTTP/1.1 2"), "{method} {path}: {text}");
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    async fn user(&self) -> User {
        let store = &self.running.app.store;
        let organisation = store.organisation_by_slug("main").await.expect("read").expect("main").id;
        store.user(organisation, self.user).await.expect("read").expect("alice")
    }

    /// How often something happened.
    async fn count(&self, action: Action) -> usize {
        let store = &self.running.app.store;
        let organisation = store.organisation_by_slug("main").await.expect("read").expect("main").id;
        let user = store.find(organisation, &Handle::Id(self.user)).await.expect("read");
        let filter = countersign::store::AuditFilter { user, action: Some(action), ..Default::default() };
        let mut count = 0;
        let mut after = None;
        loop {
            let page = store.audit(organisation, &filter, after.as_deref(), 200).await.expect("read");
            count += page.items.len();
            after = page.next;
            if after.is_none() {
                return count;
            }
        }
    }

    /// Waits until what is under way has ended, then stops.
    async fn settle(&self) {
        let mut before = self.user().await;
        loop {
            // On a busy machine a connection may lie about for some time before anybody looks at it.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let now = self.user().await;
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// How somebody hangs up.
#[derive(Clone, Copy)]
enum Cut {
    /// Goodbye (FIN).
    Close,
    /// The line is dead (RST).
    Reset,
}

async fn hang_up(stream: TcpStream, cut: Cut) {
    if matches!(cut, Cut::Reset) {
        stream.set_zero_linger().expect("linger");
    }
    drop(stream);
}

/// Waits to the microsecond; the runtime's timers know milliseconds only.
fn wait(moment: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < moment {
        std::hint::spin_loop();
    }
}

/// The waits between the last byte and hanging up: from before the server looks until after it has answered.
fn moments(count: u64) -> impl Iterator<Item = Duration> {
    (0..count).map(|number| Duration::from_micros(number * 37 % 1200))
}

/// Guesses and hangs up; returns how many guesses were answered by then.
async fn guess_and_hang_up(server: &Server, times: u64, cut: Cut) -> usize {
    let mut answered = 0;
    for moment in moments(times) {
        let mut stream = server.connect().await;
        stream.write_all(&server.verify(WRONG)).await.expect("send");
        wait(moment);
        let is_answered = tokio::time::timeout(Duration::ZERO, stream.peek(&mut [0; 1])).await.is_ok();
        answered += usize::from(is_answered);
        hang_up(stream, cut).await;
    }
    server.settle().await;
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_code_is_counted_whenever_its_sender_hangs_up() {
    let server = Server::start().await;

    guess_and_hang_up(&server, 60, Cut::Close).await;

    assert_eq!(server.user().await.locks.failures(), 60);
    assert_eq!(server.count(Action::VerifyRejected).await, 60);
    server.running.stop().await.expect("stop");
}

/// Of a line that dies the system may throw away what the server has not read; whatever it has read counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_code_is_counted_whenever_its_line_dies() {
    let server = Server::start().await;

    let answered = guess_and_hang_up(&server, 60, Cut::Reset).await;

    let failures = server.user().await.locks.failures() as usize;
    assert!((answered..=60).contains(&failures), "{answered} were answered, {failures} counted");
    assert_eq!(failures, server.count(Action::VerifyRejected).await);
    server.running.stop().await.expect("stop");
}

/// The server has the whole request once it has begun to answer anything: then the guess has been judged or will be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_a_single_byte_of_the_answer_was_counted() {
    let server = Server::start().await;

    for number in 1..=20 {
        let mut stream = server.connect().await;
        stream.write_all(&server.verify(WRONG)).await.expect("send");
        let mut some = [0; 1];
        stream.read_exact(&mut some).await.expect("the first byte");
        hang_up(stream, Cut::Reset).await;
        assert_eq!(server.user().await.locks.failures(), number);
    }
    server.running.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_cut_in_the_middle_is_no_attempt() {
    let server = Server::start().await;
    let whole = server.verify(&server.code());

    for length in (0..whole.len()).step_by(7) {
        let mut stream = server.connect().await;
        stream.write_all(&whole[..length]).await.expect("send");
        hang_up(stream, if length % 2 == 0 { Cut::Close } else { Cut::Reset }).await;
    }
    server.settle().await;

    let verdicts = [Action::VerifyAccepted, Action::VerifyRejected];
    for action in verdicts {
        assert_eq!(server.count(action).await, 0, "{action}");
    }
    let accepted = server.ask("POST", "/v1/verify", &json!({ "user": "alice", "code": server.code() })).await;
    assert_eq!(accepted["result"], "accepted");
    server.running.stop().await.expect("stop");
}

/// The right code, cut at all moments: it is used up at most once, and the trail knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_code_is_used_up_once_however_often_its_sender_hangs_up() {
    let server = Server::start().await;

    for (number, moment) in moments(40).enumerate() {
        let mut stream = server.connect().await;
        stream.write_all(&server.verify(&server.code())).await.expect("send");
        wait(moment);
        hang_up(stream, if number % 2 == 0 { Cut::Reset } else { Cut::Close }).await;
    }
    server.settle().await;
    let last = server.ask("POST", "/v1/verify", &json!({ "user": "alice", "code": server.code() })).await;

    assert_eq!(server.count(Action::VerifyAccepted).await, 1);
    assert_eq!(last["result"], "replayed");
    server.running.stop().await.expect("stop");
}

/// Many guesses on one connection, and nobody there to hear the answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_guesses_are_counted_one_by_one() {
    let server = Server::start().await;

    let mut stream = server.connect().await;
    let guesses = server.verify(WRONG).repeat(30);
    stream.write_all(&guesses).await.expect("send");
    let mut answers = Vec::new();
    while String::from_utf8_lossy(&answers).matches("\"result\":\"rejected\"").count() < 30 {
        let read = stream.read_buf(&mut answers).await.expect("answers");
        assert!(read > 0, "the connection ended early");
    }
    assert_eq!(server.user().await.locks.failures(), 30);

    let mut stream = server.connect().await;
    stream.write_all(&guesses).await.expect("send");
    let mut some = [0; 1];
    stream.read_exact(&mut some).await.expect("the first byte");
    hang_up(stream, Cut::Reset).await;
    server.settle().await;

    let failures = server.user().await.locks.failures() as usize;
    assert!((31..=60).contains(&failures), "{failures}");
    assert_eq!(failures, server.count(Action::VerifyRejected).await);
    server.running.stop().await.expect("stop");
}

/// Sign-in hashes for a while before it counts: a long time to hang up in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_counted_whenever_its_sender_hangs_up() {
    let server = Server::start().await;

    for number in 0..12_u64 {
        let mut stream = server.connect().await;
        stream.write_all(&server.sign_in("not-the-right-one-77")).await.expect("send");
        // Late enough for the server to have read it, early enough for the hash to be under way.
        tokio::time::sleep(Duration::from_millis(8 + number)).await;
        hang_up(stream, if number % 2 == 0 { Cut::Close } else { Cut::Reset }).await;
    }
    let mut last = 0;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        last = server.count(Action::LoginRejected).await;
        if last == 12 {
            break;
        }
    }

    assert_eq!(last, 12);
    let lock = server.user().await.password.expect("a password").lock;
    assert_eq!(lock.failures, 12);
    server.running.stop().await.expect("stop");
}
