//! Messages on their way: through the real worker into a file, with a clock the test moves.

use crate::test_app::{Answer, Credentials, TestApp};
use countersign::{
    config::{
        Config,
        delivery::{Delivery, Provider, development::File},
    },
    delivery::{dispatch::Dispatch, worker::Worker},
};
use countersign_core::{Channel, Timestamp};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long a test waits for the worker.
const PATIENCE: Duration = Duration::from_secs(10);

/// An application with a worker whose providers write into a folder.
struct Office {
    app: TestApp,
    worker: Option<Worker>,
    folder: tempfile::TempDir,
}

fn file(name: &str, path: &Path, countries: &[&str]) -> Provider {
    let countries = countries.iter().map(ToString::to_string).collect();
    Provider::File(File { name: name.into(), path: path.to_owned(), countries })
}

impl Office {
    /// Starts with one file for all channels, which takes all numbers.
    async fn open() -> Self {
        Self::open_with(|delivery, folder| {
            let all = || vec![file("file", &folder.join("messages.jsonl"), &[])];
            (delivery.mail, delivery.sms, delivery.voice) = (all(), all(), all());
        })
        .await
    }

    /// Starts with a file in a folder that is not there: a provider that cannot be reached.
    async fn unreachable() -> Self {
        Self::open_with(|delivery, folder| {
            let all = || vec![file("far", &folder.join("later/messages.jsonl"), &[])];
            (delivery.mail, delivery.sms, delivery.voice) = (all(), all(), all());
        })
        .await
    }

    async fn open_with(providers: impl FnOnce(&mut Delivery, &Path)) -> Self {
        let mut office = Self::closed_with(providers).await;
        office.begin().await;
        office
    }

    /// Starts without a worker.
    async fn closed_with(providers: impl FnOnce(&mut Delivery, &Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let app = TestApp::start_with(|config: &mut Config| {
            config.delivery.concurrency = 2;
            providers(&mut config.delivery, folder.path());
        })
        .await;
        app.policy(json!({ "resend": { "pauseSeconds": 0, "perHour": 20 } })).await;
        Self { app, worker: None, folder }
    }

    /// Begins to send.
    async fn begin(&mut self) {
        let delivery = self.app.app.config.delivery.clone();
        self.begin_with(&delivery).await;
    }

    async fn begin_with(&mut self, delivery: &Delivery) {
        let dispatch = Dispatch::new(delivery, &self.app.clock).expect("providers");
        self.worker = Some(Worker::start(&self.app.app, dispatch).await.expect("a worker"));
    }

    async fn stop(&mut self) {
        self.worker.take().expect("a running worker").stop().await;
    }

    /// Makes the provider of [`Office::unreachable`] reachable.
    fn repair(&self) {
        fs::create_dir(self.folder.path().join("later")).expect("a folder");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What arrived in a file.
    fn arrived(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
    }

    /// Has codes sent to a number, which posts the first one; returns the delivery and the challenge.
    async fn enrol(&self, name: &str, kind: &str, to: &str) -> (String, String) {
        let person = self.app.user(name).await;
        let body = json!({ "type": kind, "destination": to });
        let path = person.path("/factors");
        let answer = self.app.post(&path).by(&self.app.root()).json(body).await.expect_created();
        let challenge = &answer["challenge"];
        let text = |name: &str| challenge[name].as_str().expect(name).to_owned();
        (text("delivery"), text("id"))
    }

    async fn delivery(&self, id: &str) -> Answer {
        self.app.get(&format!("/v1/deliveries/{id}")).by(&self.app.root()).await.expect_ok()
    }

    /// Waits until something is true of a delivery.
    async fn until(&self, id: &str, what: impl Fn(&Answer) -> bool) -> Answer {
        let end = Instant::now() + PATIENCE;
        loop {
            let delivery = self.delivery(id).await;
            if what(&delivery) {
                return delivery;
            }
            assert!(Instant::now() < end, "{}", delivery.shown());
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn settled(&self, id: &str) -> Answer {
        self.until(id, |delivery| delivery["state"] != "queued").await
    }

    /// Waits until so many attempts have failed; returns how long it is until the next one.
    async fn pause_after(&self, id: &str, attempts: u64) -> f64 {
        let now = self.app.now();
        let failed = |delivery: &Answer| {
            delivery["attempts"] == attempts && due(delivery).is_some_and(|due| due < now.after(LEASE))
        };
        let delivery = self.until(id, failed).await;
        now.until(due(&delivery).expect("due")).as_secs_f64()
    }

    async fn metric(&self, line: &str) -> bool {
        let answer = self.app.get("/metrics").await.expect_ok();
        String::from_utf8_lossy(&answer.body).lines().any(|found| found == line)
    }
}

/// The lease of a worker with one provider: an attempt that is going on is due no sooner.
const LEASE: Duration = Duration::from_secs(55);

fn due(delivery: &Answer) -> Option<Timestamp> {
    delivery["dueAt"].as_str().and_then(Timestamp::parse)
}

#[tokio::test]
async fn a_code_arrives_and_the_help_desk_sees_that_it_did() {
    let office = Office::open().await;
    let help_desk = office.app.user("desk").with_role("helpdesk").with_password().await.session().await;

    let (id, challenge) = office.enrol("ada", "sms", "+4915112345678").await;
    let sent = office.settled(&id).await;

    assert_eq!(sent["state"], "sent");
    assert_eq!((&sent["provider"], &sent["attempts"]), (&json!("file"), &json!(1)));
    let arrived = office.arrived("messages.jsonl");
    assert_eq!((arrived.len(), arrived[0]["to"].as_str()), (1, Some("+4915112345678")));
    let text = arrived[0]["text"].as_str().expect("text");
    let code: String = text.chars().filter(char::is_ascii_digit).take(6).collect();
    assert_eq!(code.len(), 6, "{text}");
    let mode = fs::metadata(office.path("messages.jsonl")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for query in ["", "?user=ada", "?state=sent", "?channel=sms", &format!("?challenge={challenge}")] {
        let listed = office.app.get(&format!("/v1/deliveries{query}")).by(&help_desk).await.expect_ok();
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{query}");
        let shown = String::from_utf8_lossy(&listed.body).into_owned();
        assert!(!shown.contains(&code) && !shown.contains("4915112345678"), "{shown}");
    }
    assert!(office.metric(r#"countersign_deliveries_total{channel="sms",outcome="sent"} 1"#).await);
    assert!(office.metric(r#"countersign_deliveries_queued{channel="sms"} 0"#).await);
}

#[tokio::test]
async fn what_failed_is_tried_again_after_growing_pauses_and_arrives_in_the_end() {
    let office = Office::unreachable().await;
    let (id, _) = office.enrol("ada", "sms", "+4915112345678").await;

    for (attempts, longest) in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0)] {
        let pause = office.pause_after(&id, attempts).await;
        assert!((0.74 * longest..=1.26 * longest).contains(&pause), "{pause} after {attempts} attempts");
        office.app.clock.advance(Duration::from_millis((pause * 1000.0) as u64 + 1));
    }
    office.pause_after(&id, 5).await;
    let reason = office.delivery(&id).await.text("reason");
    assert!(reason.starts_with("far: append to the file: "), "{reason}");
    assert!(office.metric(r#"countersign_deliveries_queued{channel="sms"} 1"#).await);
    office.repair();
    office.app.advance(25);

    let sent = office.settled(&id).await;

    assert_eq!(
        (&sent["state"], &sent["attempts"], &sent["interrupted"]),
        (&json!("sent"), &json!(6), &json!(0))
    );
    assert_eq!(office.arrived("later/messages.jsonl").len(), 1);
}

#[tokio::test]
async fn a_code_that_expired_is_not_sent() {
    let office = Office::unreachable().await;
    let (id, _) = office.enrol("ada", "sms", "+4915112345678").await;
    office.pause_after(&id, 1).await;

    office.app.advance(3600);
    office.repair();
    let expired = office.settled(&id).await;

    assert_eq!((&expired["state"], &expired["attempts"]), (&json!("expired"), &json!(1)));
    assert!(expired.text("reason").starts_with("far: "), "the last reason stays visible");
    assert_eq!(office.arrived("later/messages.jsonl"), Vec::<Value>::new());
    assert!(office.metric(r#"countersign_deliveries_total{channel="sms",outcome="expired"} 1"#).await);
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_by_an_operator_and_the_trail_says_so() {
    let mut office = Office::closed_with(|delivery, folder| {
        delivery.sms = vec![file("all", &folder.join("messages.jsonl"), &[])];
    })
    .await;
    let (id, _) = office.enrol("ada", "sms", "+447911123456").await;
    // The server is started anew, with providers for other countries.
    let mut fewer = office.app.app.config.delivery.clone();
    fewer.sms = vec![file("german", &office.path("messages.jsonl"), &["DE"])];
    office.begin_with(&fewer).await;
    let dead = office.settled(&id).await;
    assert_eq!(dead["state"], "failed");
    assert_eq!(dead["reason"], "no provider takes numbers of this country");

    let help_desk = office.app.user("desk").with_role("helpdesk").with_password().await.session().await;
    let retry = format!("/v1/deliveries/{id}/retry");
    let retried = office.app.post(&retry).by(&help_desk).await.expect_ok();
    assert_eq!(retried["state"], "queued");
    let again = office.settled(&id).await;

    assert_eq!((&again["state"], &again["attempts"]), (&json!("failed"), &json!(2)));
    assert_eq!(office.app.count("ada", "delivery.retried").await, 1);
    office.app.advance(3600);
    let late = office.app.post(&retry).by(&office.app.root()).await;
    late.expect_problem(409, "wrong_state");
    assert_eq!(
        office.app.count("ada", "delivery.retried").await,
        1,
        "nothing was retried, nothing is recorded"
    );
}

#[tokio::test]
async fn a_code_is_not_promised_where_no_provider_reaches() {
    let office = Office::closed_with(|delivery, folder| {
        delivery.sms = vec![file("german", &folder.join("messages.jsonl"), &["DE"])];
    })
    .await;
    let ada = office.app.user("ada").await;

    let body = json!({ "type": "sms", "destination": "+447911123456" });
    let refused = office.app.post(&ada.path("/factors")).by(&office.app.root()).json(body).await;

    refused.expect_problem(409, "channel_not_configured");
    let factors = office.app.get(&ada.path("/factors")).by(&office.app.root()).await.expect_ok();
    assert_eq!(factors["items"], json!([]));
}

#[tokio::test]
async fn a_newer_code_takes_the_place_of_one_that_waits() {
    let office = Office::unreachable().await;
    let (first, challenge) = office.enrol("ada", "sms", "+4915112345678").await;
    office.pause_after(&first, 1).await;

    let resend = format!("/v1/users/ada/challenges/{challenge}/resend");
    let newer = office.app.post(&resend).by(&office.app.root()).await.expect_ok().text("delivery");

    assert_eq!(office.delivery(&first).await["state"], "superseded");
    office.repair();
    office.app.advance(2);
    assert_eq!(office.settled(&newer).await["state"], "sent");
    assert_eq!(office.arrived("later/messages.jsonl").len(), 1);
}

#[tokio::test]
async fn what_a_process_left_behind_is_sent_and_counted_as_interrupted() {
    let mut office = Office::closed_with(|delivery, folder| {
        delivery.sms = vec![file("file", &folder.join("messages.jsonl"), &[])];
    })
    .await;
    let (id, _) = office.enrol("ada", "sms", "+4915112345678").await;
    let store = &office.app.app.store;
    let claimed =
        store.claim(Channel::Sms, office.app.now(), Duration::from_secs(900), 1).await.expect("claim");
    assert_eq!(claimed.len(), 1);

    office.begin().await;
    let sent = office.settled(&id).await;

    assert_eq!(
        (&sent["state"], &sent["attempts"], &sent["interrupted"]),
        (&json!("sent"), &json!(2), &json!(1))
    );
    assert!(office.metric(r#"countersign_deliveries_total{channel="sms",outcome="interrupted"} 1"#).await);
}

#[tokio::test]
async fn a_provider_that_hangs_holds_up_neither_other_channels_nor_verifications() {
    let office = Office::open_with(|delivery, folder| {
        // Nobody reads from this pipe, so opening it for writing waits.
        let pipe = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        delivery.sms = vec![file("hanging", &pipe, &[])];
        delivery.mail = vec![file("file", &folder.join("messages.jsonl"), &[])];
    })
    .await;
    let (hanging, _) = office.enrol("ada", "sms", "+4915112345678").await;
    office.until(&hanging, |delivery| delivery["attempts"] == 1).await;

    let (mail, _) = office.enrol("bob", "email", "bob@example.com").await;
    assert_eq!(office.settled(&mail).await["state"], "sent");
    let carol = office.app.user("carol").with_totp().await;
    assert!(carol.verify(carol.code()).await.accepted());

    assert_eq!(office.delivery(&hanging).await["state"], "queued");
    // Somebody reads: the writer goes on, and the test can end.
    let _reader = fs::OpenOptions::new().read(true).write(true).open(office.path("pipe")).expect("the pipe");
    assert_eq!(office.settled(&hanging).await["state"], "sent");
}

#[tokio::test]
async fn a_test_message_tells_whether_a_channel_works() {
    let office = Office::open().await;
    let owner = office.app.owner().await;
    let body = json!({ "channel": "mail", "to": "ops@example.com", "locale": "de" });

    let sent = office.app.post("/v1/deliveries/test").by(&owner).json(body.clone()).await.expect_ok();

    assert_eq!((&sent["state"], &sent["subject"]), (&json!("sent"), &json!("test")));
    assert_eq!(sent["destination"], "o•••@e•••.com");
    assert_eq!(office.arrived("messages.jsonl").len(), 1);
    let events = office.app.get("/v1/audit?action=delivery.tested").by(&owner).await.expect_ok();
    assert_eq!(events["items"].as_array().map(Vec::len), Some(1));
    assert!(!String::from_utf8_lossy(&events.body).contains("ops@example.com"));
    let soon = office.app.post("/v1/deliveries/test").by(&owner).json(body).await;
    assert_eq!(soon.header("retry-after"), Some("5"));
    soon.expect_problem(429, "sent_too_often");
}

#[tokio::test]
async fn a_test_message_tells_why_a_channel_does_not_work() {
    let office = Office::unreachable().await;
    let owner = office.app.owner().await;
    let body = json!({ "channel": "mail", "to": "ops@example.com" });

    let clock = office.app.clock.clone();
    let passing = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(20)).await;
            clock.advance(Duration::from_millis(500));
        }
    });
    let expired = office.app.post("/v1/deliveries/test").by(&owner).json(body).await.expect_ok();
    passing.abort();

    assert_eq!(expired["state"], "expired");
    assert!(expired.text("reason").starts_with("far: append to the file: "));
    assert!(expired["attempts"].as_u64() > Some(1));
}

#[tokio::test]
async fn without_a_provider_notices_are_dropped_and_codes_and_tests_are_refused() {
    let office = Office::open_with(|delivery, _| {
        (delivery.mail, delivery.sms, delivery.voice) = (Vec::new(), Vec::new(), Vec::new());
    })
    .await;
    let root = office.app.root();
    let body = json!({ "username": "ada", "email": "ada@example.com" });
    office.app.post("/v1/users").by(&root).json(body).await.expect_created();

    let body = json!({ "type": "hotp", "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" });
    office.app.post("/v1/users/ada/factors").by(&root).json(body).await.expect_created();
    let body = json!({ "type": "sms", "destination": "+4915112345678" });
    let code = office.app.post("/v1/users/ada/factors").by(&root).json(body).await;
    let body = json!({ "channel": "sms", "to": "+4915112345678" });
    let test = office.app.post("/v1/deliveries/test").by(&root).json(body).await;

    assert_eq!((code.status.as_u16(), code.code()), (409, "channel_not_configured"));
    assert_eq!((test.status.as_u16(), test.code()), (409, "channel_not_configured"));
    let listed = office.app.get("/v1/deliveries").by(&root).await.expect_ok();
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn a_destination_gets_as_many_codes_as_policy_says_whoever_asks() {
    let office = Office::open().await;
    office.app.policy(json!({ "resend": { "pauseSeconds": 30, "perHour": 5 } })).await;
    office.enrol("ada", "sms", "+4915112345678").await;
    let bob = office.app.user("bob").await;

    let body = json!({ "type": "sms", "destination": "+49 151 12345678" });
    let refused = office.app.post(&bob.path("/factors")).by(&office.app.root()).json(body).await;

    assert_eq!(refused.header("retry-after"), Some("30"));
    refused.expect_problem(429, "sent_too_often");
    assert_eq!(office.app.count("bob", "factor.enrolled").await, 0);
}

#[tokio::test]
async fn stopping_lets_what_is_being_sent_go_out() {
    let mut office = Office::open().await;
    let mut sent = Vec::new();
    for number in 0..12 {
        let to = format!("person{number}@example.com");
        sent.push(office.enrol(&format!("person-{number}"), "email", &to).await.0);
    }

    office.stop().await;

    let arrived = office.arrived("messages.jsonl").len();
    let mut taken = 0;
    for id in &sent {
        let delivery = office.delivery(id).await;
        assert_eq!(delivery["interrupted"], 0);
        taken += usize::from(delivery["state"] == "sent");
    }
    assert_eq!(arrived, taken, "what arrived is noted, and nothing else");
    office.begin().await;
    for id in &sent {
        assert_eq!(office.settled(id).await["state"], "sent");
    }
    assert_eq!(office.arrived("messages.jsonl").len(), 12);
}

#[tokio::test]
async fn nobody_else_sees_an_organisations_deliveries() {
    let office = Office::open().await;
    let (id, _) = office.enrol("ada", "sms", "+4915112345678").await;
    office.settled(&id).await;
    office.app.another_organisation("other").await;
    let owner: Credentials = office.app.owner().await;

    let path = format!("/v1/deliveries/{id}?organisation=other");
    office.app.get(&path).by(&owner).await.expect_problem(404, "delivery_not_found");
    let listed = office.app.get("/v1/deliveries?organisation=other").by(&owner).await.expect_ok();
    assert_eq!(listed["items"], json!([]));
}
