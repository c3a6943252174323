//! Text messages by SMPP, taken by a message centre of somebody else's making.

mod secured;

use crate::peers::smpp::Peer;
use crate::test_app::START;
use countersign::{
    clock::Clock,
    config::delivery::smpp::SmppCentre,
    delivery::{
        Failure, Outgoing, Receipt, Written,
        smpp::{Fate, Report, Smpp},
    },
};
use countersign_core::{Channel, DeliveryId, Destination, Secret, Timestamp};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use uuid::Uuid;

const NUMBER: &str = "+4915112345678";

/// A session with a centre, and what it reports.
struct Session {
    smpp: Smpp,
    clock: Clock,
    reports: mpsc::Receiver<Report>,
}

fn centre(port: u16, more: &str) -> SmppCentre {
    let text = format!(
        "name = 'centre'\nhost = '127.0.0.1'\nport = {port}\nsystem_id = 'countersign'\n\
         sender = 'Example'\n{more}"
    );
    let mut centre: SmppCentre = toml::from_str(&text).expect("a configuration");
    centre.tls = centre.ca_file.is_some();
    centre
}

impl Session {
    fn with(peer: &Peer, more: &str) -> Self {
        Self::open(&centre(peer.port, &format!("password = 'secret'\n{more}")), 10)
    }

    fn open(centre: &SmppCentre, room: usize) -> Self {
        let (sender, reports) = mpsc::channel(room);
        let clock = Clock::standing_at(Timestamp::parse(START).expect("a time"));
        let smpp = Smpp::start(centre, clock.clone(), sender).expect("a session");
        Self { smpp, clock, reports }
    }

    async fn send(&self, text: &str) -> Result<Receipt, Failure> {
        self.smpp.send(&self.message(NUMBER, text)).await
    }

    fn message(&self, number: &str, text: &str) -> Outgoing {
        Outgoing {
            id: DeliveryId::from_uuid(Uuid::from_u128(0xab)),
            to: Destination::parse(Channel::Sms, "to", number).expect("a number"),
            expires_at: self.clock.now().after(Duration::from_secs(600)),
            written: Written::Sms { text: Secret::new(text.to_owned()) },
        }
    }
}

fn receipt(reference: &str) -> Result<Receipt, Failure> {
    Ok(Receipt { provider: "centre".into(), reference: Some(reference.into()) })
}

fn later(reason: &str) -> Result<Receipt, Failure> {
    Err(Failure::Temporary(reason.into()))
}

fn hex(octets: impl IntoIterator<Item = u8>) -> String {
    octets.into_iter().fold(String::from("x"), |text, octet| format!("{text}{octet:02x}"))
}

#[tokio::test]
async fn a_centre_takes_a_message_and_names_it() {
    let peer = Peer::start(&[]);
    let session = Session::with(&peer, "system_type = 'codes'");

    let taken = session.send("Your code is 123456 @€").await;

    assert_eq!(taken, receipt("m1"));
    let bind = peer.wait_for("bind", 1).await;
    assert_eq!((&bind["version"], &bind["system_type"]), (&34.into(), &"codes".into()));
    let message = peer.wait_for("submit_sm", 1).await;
    assert_eq!(message["text"], hex(*b"Your code is 123456 \x00\x1b\x65"));
    assert_eq!(message["to"], "n4915112345678");
    assert_eq!((&message["ton"], &message["npi"]), (&1.into(), &1.into()));
    assert_eq!(message["from"], "nExample");
    assert_eq!((&message["from_ton"], &message["from_npi"]), (&5.into(), &0.into()));
    assert_eq!((&message["esm_class"], &message["coding"]), (&0.into(), &0.into()));
    assert_eq!(message["registered"], 1);
    assert_eq!(message["validity"], "v000000001000000R", "a stale code is not to arrive");
}

#[tokio::test]
async fn other_alphabets_go_as_ucs_2() {
    let peer = Peer::start(&[]);
    let session = Session::with(&peer, "");

    for (number, text) in (1..).zip(["رمزك هو 123456", "コードは123456です", "🔑 123456"]) {
        assert_eq!(session.send(text).await, receipt(&format!("m{number}")));

        let message = peer.wait_for("submit_sm", number).await;
        assert_eq!(message["coding"], 8);
        assert_eq!(message["text"], hex(text.encode_utf16().flat_map(u16::to_be_bytes)));
    }
}

#[tokio::test]
async fn a_long_text_goes_in_parts_and_only_the_last_is_reported_on() {
    let peer = Peer::start(&[]);
    let session = Session::with(&peer, "");

    let taken = session.send(&"a".repeat(200)).await;

    assert_eq!(taken, receipt("m2"));
    peer.wait_for("submit_sm", 2).await;
    let parts = peer.events("submit_sm");
    let said: Vec<_> =
        parts.iter().map(|part| (part["esm_class"].clone(), part["registered"].clone())).collect();
    assert_eq!(said, [(64.into(), 0.into()), (64.into(), 1.into())]);
    assert_eq!(parts[0]["text"], hex([5, 0, 3, 0xab, 2, 1].into_iter().chain([b'a'; 153])));
    assert_eq!(parts[1]["text"], hex([5, 0, 3, 0xab, 2, 2].into_iter().chain([b'a'; 47])));
}

#[tokio::test]
async fn a_centre_that_asks_for_less_gets_a_breather() {
    let peer = Peer::start(&["throttle=1"]);
    let session = Session::with(&peer, "");

    let throttled = session.send("123456").await;
    let since = Instant::now();
    let again = session.send("123456").await;

    assert_eq!(throttled, later("the message centre answered ESME_RTHROTTLED (0x58)"));
    assert_eq!(again, receipt("m2"));
    assert!(since.elapsed() > Duration::from_millis(800), "nothing is sent for a moment");
}

#[tokio::test]
async fn a_number_the_centre_does_not_know_is_a_failure_for_good() {
    let peer = Peer::start(&["refuse=4915112345678"]);
    let session = Session::with(&peer, "");

    let refused = session.send("123456").await;

    let reason = "the message centre answered ESME_RINVDSTADR (0x0b)";
    assert_eq!(refused, Err(Failure::Permanent(reason.into())));
    assert_eq!(session.smpp.send(&session.message("+4915112345679", "123456")).await, receipt("m2"));
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_tried_again_soon() {
    let peer = Peer::start(&["password=other"]);
    let session = Session::with(&peer, "");

    let refused = session.send("123456").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let again = session.send("123456").await;

    let reason = "the message centre refused to bind: ESME_RINVPASWD (0x0e)";
    assert_eq!((refused, again), (later(reason), later(reason)));
    assert!(!session.smpp.is_up());
    assert_eq!(peer.events("bind").len(), 1);
}

#[tokio::test]
async fn a_probe_waits_for_the_centre_to_let_us_in() {
    let (peer, other) = (Peer::start(&[]), Peer::start(&["password=other"]));
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");

    let well = Session::with(&peer, "").smpp.probe().await;
    let refused = Session::with(&other, "").smpp.probe().await;
    let gone = Session::open(&centre(free.port(), ""), 1).smpp.probe().await;

    assert_eq!(well, Ok(()));
    let reason = "the message centre refused to bind: ESME_RINVPASWD (0x0e)";
    assert_eq!(refused, Err(Failure::Temporary(reason.into())));
    assert!(gone.is_err_and(|failure| failure.reason().starts_with("connect to the message centre: ")));
}

#[tokio::test]
async fn a_lost_session_is_taken_up_again() {
    let peer = Peer::start(&["drop=1"]);
    let session = Session::with(&peer, "");

    let lost = session.send("123456").await;
    let again = session.send("123456").await;

    assert_eq!(lost, later("the session with the message centre was lost before it answered"));
    assert_eq!(again, receipt("m2"));
    peer.wait_for("bind", 2).await;
}

#[tokio::test]
async fn a_centre_that_is_not_there_fails_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let session = Session::open(&centre(free.port(), ""), 1);

    let Err(Failure::Temporary(reason)) = session.send("123456").await else { panic!("nobody took it") };

    assert!(reason.starts_with("connect to the message centre: "), "{reason}");
    assert!(!session.smpp.is_up());
}

#[tokio::test]
async fn each_side_is_asked_whether_it_is_there() {
    let peer = Peer::start(&["enquire=0.2"]);
    let session = Session::with(&peer, "enquire_link_seconds = 1");
    peer.wait_for("enquire_link_resp", 2).await;

    let quiet = Peer::start(&[]);
    let ours = Session::with(&quiet, "enquire_link_seconds = 1");
    quiet.wait_for("enquire_link", 2).await;

    assert!(session.smpp.is_up() && ours.smpp.is_up());
    assert_eq!(session.send("123456").await, receipt("m1"));
    assert_eq!(ours.send("123456").await, receipt("m1"));
}

#[tokio::test]
async fn the_centre_reports_what_became_of_a_message() {
    let peer = Peer::start(&["receipts=1"]);
    let mut session = Session::with(&peer, "");

    let taken = session.send("123456").await;
    let report = session.reports.recv().await.expect("a report");

    assert_eq!(taken, receipt("m1"));
    let expected =
        Report { provider: "centre".into(), reference: "m1".into(), fate: Fate::Delivered, error: None };
    assert_eq!(report, expected);
    assert_eq!(peer.wait_for("deliver_sm_resp", 1).await["status"], 0);
}

#[tokio::test]
async fn a_report_nobody_has_time_for_is_to_come_again() {
    let peer = Peer::start(&["receipts=1"]);
    let centre = centre(peer.port, "password = 'secret'");
    let session = Session::open(&centre, 1);

    session.send("123456").await.expect("taken");
    session.send("123456").await.expect("taken");

    assert_eq!(peer.wait_for("deliver_sm_resp", 1).await["status"], 0);
    assert_eq!(peer.wait_for("deliver_sm_resp", 2).await["status"], 0x14, "ESME_RMSGQFUL");
}

#[tokio::test]
async fn no_report_is_asked_for_when_none_is_wanted() {
    let peer = Peer::start(&["receipts=1"]);
    let session = Session::with(&peer, "receipts = false");

    session.send("123456").await.expect("taken");

    assert_eq!(peer.wait_for("submit_sm", 1).await["registered"], 0);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_only_so_long() {
    let peer = Peer::start(&["silent=1"]);
    let session = Session::with(&peer, "timeout_seconds = 1");

    let unanswered = session.send("123456").await;
    let again = session.send("123456").await;

    assert_eq!(unanswered, later("the message centre did not answer in time"));
    assert_eq!(again, receipt("m2"));
    peer.wait_for("enquire_link", 1).await;
    assert_eq!(peer.events("bind").len(), 1, "a centre that is there keeps its session");
}

#[tokio::test]
async fn a_dead_connection_is_found_out_and_replaced() {
    let peer = Peer::start(&["dead=1"]);
    let session = Session::with(&peer, "timeout_seconds = 1");

    let unanswered = session.send("123456").await;

    assert_eq!(unanswered, later("the message centre did not answer in time"));
    peer.wait_for("bind", 2).await;
}

#[tokio::test]
async fn no_more_messages_wait_for_an_answer_than_the_window_holds() {
    let peer = Peer::start(&["silent=2"]);
    let session = Session::with(&peer, "timeout_seconds = 2\nwindow = 2");
    let sends = futures_util::future::join_all((0..4).map(|_| session.send("123456")));
    let watch = async {
        peer.wait_for("submit_sm", 2).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        peer.events("submit_sm").len()
    };

    let (_, outstanding) = tokio::join!(sends, watch);

    assert_eq!(outstanding, 2);
}

#[tokio::test]
async fn answers_find_those_who_asked() {
    let peer = Peer::start(&[]);
    let session = Session::with(&peer, "window = 8");

    let texts: Vec<String> = (0..64).map(|number| format!("Message {number}")).collect();

    let outcomes = futures_util::future::join_all(texts.iter().map(|text| session.send(text))).await;

    for (text, outcome) in texts.iter().zip(outcomes) {
        let reference = outcome.expect("taken").reference.expect("named");
        let number: usize = reference.trim_start_matches('m').parse().expect("a number");
        assert_eq!(peer.wait_for("submit_sm", number).await["text"], hex(text.bytes()));
    }
}

#[tokio::test]
async fn an_expired_message_is_not_sent() {
    let peer = Peer::start(&[]);
    let session = Session::with(&peer, "");
    let message = session.message(NUMBER, "123456");
    session.clock.advance(Duration::from_secs(600));

    let late = session.smpp.send(&message).await;

    assert_eq!(late, Err(Failure::Permanent("the message expired before it could be sent".into())));
    assert!(peer.events("submit_sm").is_empty());
}

#[tokio::test]
async fn stopping_takes_leave() {
    let peer = Peer::start(&[]);
    let session = Session::with(&peer, "");
    session.send("123456").await.expect("taken");

    session.smpp.stop().await;

    peer.wait_for("unbind", 1).await;
    peer.wait_for("closed", 1).await;
    assert_eq!(session.send("123456").await, later("the session with the message centre was stopped"));
    assert!(!session.smpp.is_up());
}

#[tokio::test]
async fn what_the_protocol_has_no_room_for_fails_the_start() {
    let (reports, _) = mpsc::channel(1);
    let refusal = |more: &str| {
        let started = Smpp::start(&centre(2775, more), Clock::System, reports.clone());
        started.expect_err(more).to_string()
    };

    assert_eq!(refusal("password = 'correct horse'"), "password: expected at most 8 ASCII characters");
    assert_eq!(refusal("service_type = 'codes!'"), "service_type: expected at most 5 ASCII characters");
    assert_eq!(refusal("password_file = '/dev/null'"), "read password_file /dev/null: it is empty");
    assert!(refusal("password_file = '/nowhere'").starts_with("read password_file /nowhere: "));
    assert!(refusal("ca_file = '/nowhere'").starts_with("read ca_file /nowhere: "));
}

#[tokio::test]
async fn only_text_messages_are_taken() {
    let peer = Peer::start(&[]);
    let session = Session::with(&peer, "");
    let mut message = session.message(NUMBER, "123456");
    message.to = Destination::parse(Channel::Voice, "to", NUMBER).expect("a number");

    let refused = session.smpp.send(&message).await;

    assert_eq!(refused, Err(Failure::Permanent("a message centre takes text messages only".into())));
}

#[tokio::test]
async fn neither_logs_nor_errors_show_password_code_or_number() {
    let peer = Peer::start(&["password=hunter42", "refuse=4915112345678", "receipts=1"]);
    let logs = Logs::default();
    let _guard = tracing::subscriber::set_default(logs.subscriber());
    let centre = centre(peer.port, "password = 'hunter42'");
    let session = Session::open(&centre, 1);

    let refused = session.send("Your code is 864209").await;
    let taken = session.smpp.send(&session.message("+4915112345679", "Your code is 864209")).await;
    peer.wait_for("deliver_sm_resp", 1).await;
    session.smpp.stop().await;
    let refusing = Session::open(&self::centre(peer.port, "password = 'hunter43'"), 1).send("864209").await;

    assert!(logs.text().contains("SMPP session with centre is up"), "{}", logs.text());
    assert!(refusing.as_ref().is_err_and(|failure| failure.reason().contains("refused to bind")));
    for shown in [logs.text(), format!("{centre:?} {:?} {refused:?} {taken:?} {refusing:?}", session.smpp)] {
        for secret in ["hunter4", "864209", "491511234567"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

/// Everything that is logged, however unimportant.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    fn subscriber(&self) -> impl tracing::Subscriber + use<> {
        let logs = self.clone();
        let most = tracing::Level::TRACE;
        tracing_subscriber::fmt()
            .with_max_level(most)
            .with_writer(move || logs.clone())
            .with_ansi(false)
            .finish()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no test panics while it is locked")).into_owned()
    }
}

impl std::io::Write for Logs {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics while it is locked").write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
