//! Text messages through message centres that speak SMPP 3.4.
//!
//! A session is kept with each centre as a transceiver: messages go out on it, reports come in. To follow a message:
//! `text` (its alphabet and parts), `submission` (the PDU), `link` (the exchange), `answer` (what it means). To follow
//! a session: `session`, `dial`, `link`, `frames`.

mod alphabet;
mod answer;
mod dial;
mod frames;
mod link;
mod report;
mod session;
mod submission;
mod text;

use self::{
    link::{Link, NoAnswer},
    session::{Keeper, State},
    submission::{Envelope, Part},
};
use super::{Failure, Outgoing, Receipt, Written};
use crate::{clock::Clock, config::delivery::smpp::SmppCentre, error::Result};
use countersign_core::{DeliveryId, Destination};
use rusmpp::{Command, CommandStatus, Pdu};
use std::{sync::Mutex, time::Duration};
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

pub use self::report::{Fate, Report};

/// How long nothing is sent after the centre asked for less.
const BREATHER: Duration = Duration::from_secs(1);

/// A message centre, and our session with it.
#[derive(Debug)]
pub struct Smpp {
    name: String,
    envelope: Envelope,
    clock: Clock,
    patience: Duration,
    window: Semaphore,
    resume_at: Mutex<Instant>,
    state: watch::Sender<State>,
    keeper: JoinHandle<()>,
}

/// Leave to submit: a place in the window, and the link.
struct Turn<'a> {
    link: Link,
    _place: SemaphorePermit<'a>,
}

impl Smpp {
    /// Starts a session, which connects in the background; fails only where the configuration cannot work.
    ///
    /// What the centre reports of messages goes to `reports`. When that is full, the centre is asked to report again
    /// later; when nobody listens, reports are dropped.
    pub fn start(centre: &SmppCentre, clock: Clock, reports: mpsc::Sender<Report>) -> Result<Self> {
        let (state, _) = watch::channel(State::Connecting);
        let keeper = Keeper::of(centre, reports, state.clone())?;
        Ok(Self {
            name: centre.name.clone(),
            envelope: Envelope::of(centre)?,
            clock,
            patience: Duration::from_secs(centre.timeout_seconds),
            window: Semaphore::new(centre.window),
            resume_at: Mutex::new(Instant::now()),
            state,
            keeper: tokio::spawn(keeper.keep()),
        })
    }

    /// Returns the centre's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether the session is up.
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    /// Waits for the centre to let us bind, or for the reason why not.
    pub async fn probe(&self) -> Result<(), Failure> {
        // Connecting and binding may each take as long as an answer.
        let patience = self.patience * 2 + Duration::from_secs(1);
        let late = |_| Failure::Temporary("connect and bind: no answer in time".into());
        timeout(patience, self.link()).await.map_err(late)?.map(drop)
    }

    /// Hands a text message to the centre. The receipt names its last part, the one that is reported on.
    pub async fn send(&self, message: &Outgoing) -> Result<Receipt, Failure> {
        let (Destination::Sms(to), Written::Sms { text }) = (&message.to, &message.written) else {
            return Err(Failure::Permanent("a message centre takes text messages only".into()));
        };
        let encoded = text::encode(text.expose(), reference(message.id))
            .ok_or_else(|| Failure::Permanent("the text is too long for a text message".into()))?;
        let mut reference = None;
        for (index, octets) in encoded.parts.iter().enumerate() {
            let part = Part {
                to,
                coding: encoded.coding,
                octets,
                has_header: encoded.is_in_parts(),
                is_last: index + 1 == encoded.parts.len(),
            };
            reference = self.submit(&part, message).await?;
        }
        Ok(Receipt { provider: self.name.clone(), reference })
    }

    async fn submit(&self, part: &Part<'_>, message: &Outgoing) -> Result<Option<String>, Failure> {
        let turn = self.turn().await?;
        // Asked only now: waiting may have outlived the message.
        let validity = submission::validity(self.clock.now(), message.expires_at)
            .ok_or_else(|| Failure::Permanent("the message expired before it could be sent".into()))?;
        let answer = turn.link.ask(self.envelope.submission(part, validity)).await.map_err(unanswered)?;
        if answer::is_overloaded(answer.status()) {
            *self.resume_at.lock().expect("nothing panics while it is locked") = Instant::now() + BREATHER;
        }
        taken(&answer)
    }

    /// Waits until a message may be submitted.
    async fn turn(&self) -> Result<Turn<'_>, Failure> {
        let turn = async {
            let place = self.window.acquire().await.expect("the window is never closed");
            let resume_at = *self.resume_at.lock().expect("nothing panics while it is locked");
            sleep_until(resume_at).await;
            Ok(Turn { link: self.link().await?, _place: place })
        };
        let late = |_| Failure::Temporary("the message centre was not ready in time".into());
        timeout(self.patience, turn).await.map_err(late)?
    }

    /// Returns the link, waiting for an attempt to connect that is under way.
    async fn link(&self) -> Result<Link, Failure> {
        let mut state = self.state.subscribe();
        let decided = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match decided.as_deref() {
            Ok(State::Up(link)) => Ok(link.clone()),
            Ok(State::Down(reason)) => Err(Failure::Temporary(reason.clone())),
            _ => Err(Failure::Temporary("the session with the message centre was stopped".into())),
        }
    }

    /// Takes leave of the centre and ends the session.
    pub async fn stop(&self) {
        if let State::Up(link) = self.state.send_replace(State::Stopped) {
            // Said for politeness: whether it answers or not, we go.
            let _ = link.ask(Pdu::Unbind).await;
        }
        self.keeper.abort();
        self.state.send_replace(State::Stopped);
    }
}

impl Drop for Smpp {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Returns what joins a message's parts. It follows from the message, so that parts sent again join with those that
/// arrived at the first attempt.
fn reference(id: DeliveryId) -> u8 {
    let [.., last] = id.uuid().into_bytes();
    last
}

fn taken(answer: &Command) -> Result<Option<String>, Failure> {
    match (answer.status(), answer.pdu()) {
        (CommandStatus::EsmeRok, Some(Pdu::SubmitSmResp(taken))) => {
            let id = taken.message_id().as_str();
            Ok((!id.is_empty()).then(|| id.to_owned()))
        }
        (CommandStatus::EsmeRok, _) => {
            Err(Failure::Temporary("the message centre answered something else than was asked".into()))
        }
        (status, _) => Err(answer::failure(status)),
    }
}

fn unanswered(reason: NoAnswer) -> Failure {
    Failure::Temporary(match reason {
        NoAnswer::Silent => "the message centre did not answer in time".into(),
        NoAnswer::Lost => "the session with the message centre was lost before it answered".into(),
    })
}
