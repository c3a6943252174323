//! One connection to a centre: who asks what, who answers, and whether the other side is still there.

use super::{
    frames::{self, Arrival, Frames},
    report::{self, Report},
};
use rusmpp::{
    Command, CommandId, CommandStatus, Pdu,
    pdus::{DeliverSm, DeliverSmResp},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::{Instant, sleep_until, timeout},
};

/// The highest number of a PDU (SMPP 3.4, 5.1.4).
const LAST_SEQUENCE: u32 = 0x7fff_ffff;

/// How long we wait, and for how long nobody says anything before we ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    /// For an answer.
    pub(super) answer: Duration,
    /// Until we ask whether the centre is there.
    pub(super) silence: Duration,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// None came in time.
    Silent,
    /// The connection is gone.
    Lost,
}

/// A handle on a connection. What it asks goes out in turn; answers come in any order.
#[derive(Debug, Clone)]
pub(super) struct Link {
    questions: mpsc::Sender<Question>,
    doubt: Arc<Notify>,
    patience: Duration,
}

/// What is asked, and where the answer goes.
struct Question {
    pdu: Pdu,
    answer: oneshot::Sender<Command>,
}

impl Link {
    /// Asks the centre and waits for its answer.
    pub(super) async fn ask(&self, pdu: impl Into<Pdu>) -> Result<Command, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            self.questions.send(Question { pdu: pdu.into(), answer }).await.map_err(|_| NoAnswer::Lost)?;
            answered.await.map_err(|_| NoAnswer::Lost)
        };
        timeout(self.patience, exchange).await.unwrap_or_else(|_| {
            self.doubt.notify_one();
            Err(NoAnswer::Silent)
        })
    }
}

/// The one who holds the connection.
pub(super) struct Holder<S> {
    arrivals: Frames<ReadHalf<S>>,
    writer: WriteHalf<S>,
    questions: mpsc::Receiver<Question>,
    waiting: HashMap<u32, oneshot::Sender<Command>>,
    last_sequence: u32,
    doubt: Arc<Notify>,
    rhythm: Rhythm,
    /// When we ask whether the centre is there, or, if we have asked, when we give it up.
    due: Instant,
    has_enquired: bool,
    provider: String,
    reports: mpsc::Sender<Report>,
}

/// Makes the two sides of a connection: the handle, and the one whose [`Holder::hold`] keeps it going.
pub(super) fn pair<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    rhythm: Rhythm,
    provider: &str,
    reports: mpsc::Sender<Report>,
) -> (Link, Holder<S>) {
    let (reader, writer) = tokio::io::split(stream);
    let (ask, questions) = mpsc::channel(1);
    let doubt = Arc::new(Notify::new());
    let link = Link { questions: ask, doubt: Arc::clone(&doubt), patience: rhythm.answer };
    let holder = Holder {
        arrivals: Frames::from(reader),
        writer,
        questions,
        waiting: HashMap::new(),
        last_sequence: 0,
        doubt,
        rhythm,
        due: Instant::now() + rhythm.silence,
        has_enquired: false,
        provider: provider.to_owned(),
        reports,
    };
    (link, holder)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Holder<S> {
    /// Keeps the connection going until it ends; returns why it did.
    pub(super) async fn hold(mut self) -> String {
        loop {
            let step = tokio::select! {
                arrival = self.arrivals.next() => match arrival {
                    Ok(arrival) => self.take(arrival).await,
                    Err(reason) => Err(reason),
                },
                Some(question) = self.questions.recv() => self.put(question).await,
                () = self.doubt.notified() => self.enquire().await,
                () = sleep_until(self.due) => self.overdue().await,
            };
            if let Err(reason) = step {
                return reason;
            }
        }
    }

    async fn put(&mut self, question: Question) -> Result<(), String> {
        // Those who have given up are nobody to keep a place for.
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        let sequence = self.next_sequence();
        self.waiting.insert(sequence, question.answer);
        self.write(CommandStatus::EsmeRok, sequence, question.pdu).await
    }

    async fn take(&mut self, arrival: Arrival) -> Result<(), String> {
        // Whatever comes shows that the centre is there.
        self.due = Instant::now() + self.rhythm.silence;
        self.has_enquired = false;
        match arrival {
            Arrival::Command(command) if command.id().is_response() => {
                self.answered(*command);
                Ok(())
            }
            Arrival::Command(command) => self.reply(&command).await,
            Arrival::Unreadable { id, sequence } if id.is_response() => {
                self.waiting.remove(&sequence);
                Ok(())
            }
            Arrival::Unreadable { sequence, .. } => {
                self.write(CommandStatus::EsmeRsyserr, sequence, Pdu::GenericNack).await
            }
        }
    }

    fn answered(&mut self, command: Command) {
        if let Some(waiting) = self.waiting.remove(&command.sequence_number()) {
            // Whoever asked may have given up.
            let _ = waiting.send(command);
        }
    }

    async fn reply(&mut self, command: &Command) -> Result<(), String> {
        let sequence = command.sequence_number();
        match (command.id(), command.pdu()) {
            (CommandId::EnquireLink, _) => {
                self.write(CommandStatus::EsmeRok, sequence, Pdu::EnquireLinkResp).await
            }
            (_, Some(Pdu::DeliverSm(message))) => {
                let status = self.pass_on(message);
                self.write(status, sequence, DeliverSmResp::default().into()).await
            }
            (CommandId::Unbind, _) => {
                self.write(CommandStatus::EsmeRok, sequence, Pdu::UnbindResp).await?;
                Err("the message centre ended the session".into())
            }
            // Has no answer.
            (CommandId::AlertNotification, _) => Ok(()),
            _ => self.write(CommandStatus::EsmeRinvcmdid, sequence, Pdu::GenericNack).await,
        }
    }

    /// Passes a report on; a centre whose reports nobody can take right now is asked to come again with it.
    fn pass_on(&self, message: &DeliverSm) -> CommandStatus {
        let Some(report) = report::read(&self.provider, message) else { return CommandStatus::EsmeRok };
        match self.reports.try_send(report) {
            Err(TrySendError::Full(_)) => CommandStatus::EsmeRmsgqful,
            Ok(()) | Err(TrySendError::Closed(_)) => CommandStatus::EsmeRok,
        }
    }

    async fn overdue(&mut self) -> Result<(), String> {
        if self.has_enquired {
            return Err("the message centre does not answer".into());
        }
        self.enquire().await
    }

    async fn enquire(&mut self) -> Result<(), String> {
        if self.has_enquired {
            return Ok(());
        }
        self.has_enquired = true;
        self.due = Instant::now() + self.rhythm.answer;
        let sequence = self.next_sequence();
        self.write(CommandStatus::EsmeRok, sequence, Pdu::EnquireLink).await
    }

    fn next_sequence(&mut self) -> u32 {
        self.last_sequence = self.last_sequence % LAST_SEQUENCE + 1;
        self.last_sequence
    }

    async fn write(&mut self, status: CommandStatus, sequence: u32, pdu: Pdu) -> Result<(), String> {
        let command = Command::new(status, sequence, pdu);
        match timeout(self.rhythm.answer, frames::write(&mut self.writer, &command)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("write to the message centre: {}", error.kind())),
            Err(_) => Err("the message centre does not read".into()),
        }
    }
}
