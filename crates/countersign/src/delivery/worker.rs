//! The worker: takes messages out of the outbox and has them sent, each channel on its own, so that a slow or dead one
//! holds up no other, and none of them a verification.

use super::{dispatch::Dispatch, smpp::Report};
use crate::{
    app::App,
    error::Result,
    store::{Claimed, Settlement},
};
use countersign_core::Channel;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

/// How often to look for what is due again; what is new rings.
const POLL: Duration = Duration::from_millis(250);
/// How much longer a claim lasts than an attempt may take: for the database, and for a machine out of breath.
const SLACK: Duration = Duration::from_secs(30);
/// How long messages that are being sent may take when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Pauses between attempts to note what became of a message. Not noting it would have it sent again.
const PERSISTENCE: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// Reports that may wait for what they report on.
const NOTES: usize = 256;

/// The running worker.
pub struct Worker {
    phase: watch::Sender<Phase>,
    rounds: Vec<JoinHandle<()>>,
    dispatch: Arc<Dispatch>,
    reports: JoinHandle<()>,
}

/// How far the worker is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It claims and sends.
    Running,
    /// It claims no more, and finishes what it began.
    Finishing,
    /// It gives up what it has not finished.
    Over,
}

impl Worker {
    /// Starts to send. Claims that an earlier process left behind are freed.
    pub async fn start(
        app: &Arc<App>,
        (dispatch, reports): (Dispatch, mpsc::Receiver<Report>),
    ) -> Result<Self> {
        let left = app.store.release_claims().await?;
        if left > 0 {
            warn!("{left} messages were being sent when the server last ended; some may be sent twice");
        }
        let (phase, _) = watch::channel(Phase::Running);
        let dispatch = Arc::new(dispatch);
        let rounds = Channel::ALL
            .into_iter()
            .map(|channel| {
                let round = Round {
                    lease: dispatch.patience(channel) + SLACK,
                    app: Arc::clone(app),
                    dispatch: Arc::clone(&dispatch),
                    channel,
                    phase: phase.subscribe(),
                };
                tokio::spawn(round.run())
            })
            .collect();
        let reports = tokio::spawn(note_reports(Arc::clone(app), reports));
        Ok(Self { phase, rounds, dispatch, reports })
    }

    /// Stops: nothing more is claimed, what is being sent gets a while, and what then is left goes back.
    pub async fn stop(self) {
        self.phase.send_replace(Phase::Finishing);
        let mut rounds = futures_util::future::join_all(self.rounds);
        if timeout(DRAIN, &mut rounds).await.is_err() {
            self.phase.send_replace(Phase::Over);
            rounds.await;
        }
        self.dispatch.stop().await;
        self.reports.abort();
    }
}

/// Notes what providers say later of messages they took.
async fn note_reports(app: Arc<App>, mut reports: mpsc::Receiver<Report>) {
    let mut notes = JoinSet::new();
    while let Some(report) = reports.recv().await {
        while notes.try_join_next().is_some() {}
        if notes.len() >= NOTES {
            notes.join_next().await;
        }
        notes.spawn(note_report(Arc::clone(&app), report));
    }
}

/// Notes one report. It may be here before what it reports on is noted as sent, so it is tried for a while.
async fn note_report(app: Arc<App>, Report { provider, reference, fate, error }: Report) {
    let report = match error {
        Some(error) => format!("{} ({error})", fate.name()),
        None => fate.name().to_owned(),
    };
    for pause in PERSISTENCE {
        match app.store.report(provider.clone(), reference.clone(), report.clone()).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(problem) => error!("note a provider's report: {problem}"),
        }
        sleep(pause).await;
    }
    info!("{provider} reports on a message nobody knows");
}

/// The worker's round on one channel.
#[derive(Clone)]
struct Round {
    app: Arc<App>,
    dispatch: Arc<Dispatch>,
    channel: Channel,
    lease: Duration,
    phase: watch::Receiver<Phase>,
}

impl Round {
    async fn run(self) {
        let most = self.app.config.delivery.concurrency;
        let mut phase = self.phase.clone();
        let mut sends = JoinSet::new();
        while *phase.borrow() == Phase::Running {
            for message in self.claim(most - sends.len()).await {
                sends.spawn(self.clone().carry(message));
            }
            let is_full = sends.len() >= most;
            tokio::select! {
                // A dropped handle stops the worker as well.
                told = phase.changed() => if told.is_err() { break },
                Some(_) = sends.join_next() => {}
                () = self.app.store.posted(self.channel), if !is_full => {}
                () = sleep(POLL), if !is_full => {}
            }
        }
        while sends.join_next().await.is_some() {}
    }

    /// Claims what is due, as much as can be sent now.
    async fn claim(&self, room: usize) -> Vec<Claimed> {
        let (store, now) = (&self.app.store, self.app.clock.now());
        let claim = async {
            // Looking first: a claim is a commit, also one of nothing.
            match store.next_due(self.channel).await? {
                Some(due) if due <= now && room > 0 => store.claim(self.channel, now, self.lease, room).await,
                _ => Ok(Vec::new()),
            }
        };
        claim.await.unwrap_or_else(|problem| {
            error!(channel = %self.channel, "claim messages: {problem}");
            Vec::new()
        })
    }

    /// Sends a message and notes what became of it.
    async fn carry(mut self, message: Claimed) {
        let settlement = tokio::select! {
            settlement = self.dispatch.send(&message, &self.app.keys) => settlement,
            _ = self.phase.wait_for(|phase| *phase == Phase::Over) => Settlement::Interrupted,
        };
        log(&message, &settlement);
        self.settle(&message, settlement).await;
    }

    async fn settle(&self, message: &Claimed, settlement: Settlement) {
        let id = message.id;
        let mut pauses = PERSISTENCE.into_iter();
        loop {
            let now = self.app.clock.now();
            match (self.app.store.settle(message, settlement.clone(), now).await, pauses.next()) {
                (Ok(true), _) => return,
                (Ok(false), _) => {
                    return warn!("the claim on delivery {id} had run out; it may be sent twice");
                }
                (Err(_), Some(pause)) => sleep(pause).await,
                (Err(problem), None) => return error!("note what became of delivery {id}: {problem}"),
            }
        }
    }
}

/// Says what became of a message: never its words or its destination.
fn log(message: &Claimed, settlement: &Settlement) {
    let (id, channel, attempts) = (message.id, message.channel, message.attempts);
    match settlement {
        Settlement::Sent { provider, .. } => {
            info!(delivery.id = %id, %channel, attempts, "delivery {id} was taken by {provider}");
        }
        Settlement::Retry { reason, .. } => {
            info!(delivery.id = %id, %channel, attempts, "delivery {id} is tried again later: {reason}");
        }
        Settlement::Failed { reason } => {
            warn!(delivery.id = %id, %channel, attempts, "delivery {id} failed: {reason}");
        }
        Settlement::Expired { reason } => {
            let reason = reason.as_deref().unwrap_or("there was no time left");
            warn!(delivery.id = %id, %channel, attempts, "delivery {id} expired: {reason}");
        }
        Settlement::Interrupted => {
            warn!(delivery.id = %id, %channel, attempts, "delivery {id} was interrupted; it may be sent twice");
        }
    }
}
