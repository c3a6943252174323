//! Staying bound to a centre: connecting, binding, and doing so again when that ends.

use super::{
    answer,
    dial::{Dial, Wire},
    link::{self, Link, NoAnswer, Rhythm},
    report::Report,
    submission,
};
use crate::{
    config::{delivery::smpp::SmppCentre, secret},
    error::Result,
};
use countersign_core::Secret;
use rusmpp::{CommandStatus, pdus::BindTransceiver};
use std::time::Duration;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

/// A session that lasted as long was a good one: the next attempt to connect need not wait long.
const STEADY: Duration = Duration::from_secs(10);

/// Where the session stands.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// About to be bound, for the first time or after a loss.
    Connecting,
    /// Bound.
    Up(Link),
    /// The last attempt failed, with the reason; there will be another.
    Down(String),
    /// Over.
    Stopped,
}

/// One that keeps a session.
pub(super) struct Keeper {
    name: String,
    dial: Dial,
    bind: BindTransceiver,
    rhythm: Rhythm,
    pauses: Pauses,
    reports: mpsc::Sender<Report>,
    state: watch::Sender<State>,
}

/// Why there is no session.
enum Fault {
    /// We cannot reach the centre.
    Unreachable(String),
    /// It does not want us.
    Refused(String),
    /// There was one, and it ended.
    Lost(String),
}

impl Fault {
    fn reason(&self) -> &str {
        match self {
            Self::Unreachable(reason) | Self::Refused(reason) | Self::Lost(reason) => reason,
        }
    }
}

impl Keeper {
    /// Reads what the configuration says about the session.
    pub(super) fn of(
        centre: &SmppCentre,
        reports: mpsc::Sender<Report>,
        state: watch::Sender<State>,
    ) -> Result<Self> {
        // Some accounts have no password, and say so.
        let given = centre.password.as_ref().filter(|given| !given.is_empty());
        let password = secret::read("password", given, centre.password_file.as_deref())?;
        let password = password.unwrap_or_else(|| Secret::new(String::new()));
        Ok(Self {
            name: centre.name.clone(),
            dial: Dial::to(centre)?,
            bind: submission::bind(centre, &password)?,
            rhythm: Rhythm {
                answer: Duration::from_secs(centre.timeout_seconds),
                silence: Duration::from_secs(centre.enquire_link_seconds),
            },
            pauses: Pauses::new(
                Duration::from_secs(centre.reconnect_seconds),
                Duration::from_secs(centre.reconnect_max_seconds),
            ),
            reports,
            state,
        })
    }

    /// Keeps the session, for as long as this is polled.
    pub(super) async fn keep(mut self) {
        loop {
            let fault = self.session().await;
            let (reason, pause) = (fault.reason(), self.pauses.after(&fault));
            self.state.send_replace(match fault {
                // Those who want to send wait for an attempt that follows soon. Else they are turned away at once.
                Fault::Lost(_) if pause < self.rhythm.answer => State::Connecting,
                _ => State::Down(reason.to_owned()),
            });
            warn!("SMPP session with {} is down: {reason}; next attempt in {pause:.1?}", self.name);
            sleep(pause).await;
        }
    }

    /// Runs one session; returns why it ended or did not begin.
    async fn session(&mut self) -> Fault {
        let (link, holding) = match self.open().await {
            Ok(opened) => opened,
            Err(fault) => return fault,
        };
        info!("SMPP session with {} is up", self.name);
        self.state.send_replace(State::Up(link));
        let since = Instant::now();
        let reason = holding.await;
        if since.elapsed() >= STEADY {
            self.pauses.restart();
        }
        Fault::Lost(reason)
    }

    /// Connects and binds; returns the link, and what keeps it going.
    async fn open(&self) -> Result<(Link, impl Future<Output = String> + use<>), Fault> {
        let stream = self.connect().await?;
        let (link, holder) = link::pair(stream, self.rhythm, &self.name, self.reports.clone());
        let mut holding = Box::pin(holder.hold());
        let bound = tokio::select! {
            bound = self.bind(&link) => bound,
            reason = &mut holding => Err(Fault::Unreachable(format!("bind: {reason}"))),
        };
        bound.map(|()| (link, holding))
    }

    async fn connect(&self) -> Result<Box<dyn Wire>, Fault> {
        match timeout(self.rhythm.answer, self.dial.connect()).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Fault::Unreachable(format!("connect to the message centre: {error}"))),
            Err(_) => Err(Fault::Unreachable("connect to the message centre: no answer in time".into())),
        }
    }

    async fn bind(&self, link: &Link) -> Result<(), Fault> {
        match link.ask(self.bind.clone()).await {
            Ok(answer) if answer.status() == CommandStatus::EsmeRok => Ok(()),
            Ok(answer) => {
                let status = answer::name(answer.status());
                Err(Fault::Refused(format!("the message centre refused to bind: {status}")))
            }
            Err(NoAnswer::Silent) => Err(Fault::Unreachable("bind: no answer in time".into())),
            Err(NoAnswer::Lost) => Err(Fault::Unreachable("bind: the connection was lost".into())),
        }
    }
}

/// Growing pauses, with jitter so that many servers do not come back at once.
struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pauses {
    /// Makes pauses from `first` to `longest`.
    fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Returns how long to wait after a fault.
    fn after(&mut self, fault: &Fault) -> Duration {
        match fault {
            // Asking often with a wrong password gets accounts locked.
            Fault::Refused(_) => self.longest(),
            Fault::Unreachable(_) | Fault::Lost(_) => self.next(),
        }
    }

    /// Returns the next pause, and doubles the one after it.
    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        jittered(pause)
    }

    /// Returns the longest pause.
    fn longest(&mut self) -> Duration {
        self.next = self.longest;
        jittered(self.longest)
    }

    fn restart(&mut self) {
        self.next = self.first;
    }
}

/// Returns between half of a pause and all of it.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_again() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(5));
        let mut within = |longest: u64| {
            let pause = pauses.next();
            let longest = Duration::from_secs(longest);
            assert!((longest / 2..=longest).contains(&pause), "{pause:?} of {longest:?}");
        };

        [1, 2, 4, 5, 5].into_iter().for_each(&mut within);
        pauses.restart();

        assert!(pauses.next() <= Duration::from_secs(1));
        assert!(pauses.longest() >= Duration::from_millis(2500));
        assert!(pauses.next() >= Duration::from_millis(2500), "a refusal does not begin with short pauses");
    }
}
