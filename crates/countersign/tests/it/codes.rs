//! Codes that are sent, all the way: the server on a socket, its worker, and on the other side a real mail server, a
//! real message centre, and providers asked by HTTP that look at each request as their documentation has it.

use crate::{
    peers::{
        http::HttpPeer,
        mail::MailServer,
        providers::{self, TOKEN, TWILIO_ACCOUNT},
        smpp::Peer,
    },
    test_app::{Answer, Credentials, TestApp, config},
};
use countersign::{
    clock::Clock,
    config::{Config, delivery::Provider},
    http::{Web, router},
    running::{self, Running},
};
use countersign_core::{Channel, Letter, message::Words};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The most time a message may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where codes go in these tests; the whole of neither may show anywhere but at its provider.
const ADDRESS: &str = "ada.lovelace@mail.example.com";
const NUMBER: &str = "+4915112345678";
const OTHER_NUMBER: &str = "+12025550143";

/// A server with everything around it.
struct World {
    app: TestApp,
    running: Running,
    mail: MailServer,
    centre: Peer,
    twilio: HttpPeer,
    _directory: TempDir,
}

fn provider(text: &str) -> Provider {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn twilio(peer: &HttpPeer, more: &str) -> Provider {
    let url = &peer.url;
    provider(&format!(
        "type = \"http\"\nname = \"twilio\"\npreset = \"twilio\"\nurl = \"{url}\"\naccount = \"{TWILIO_ACCOUNT}\"\n\
         token = \"{TOKEN}\"\nfrom = \"+12025550100\"\n{more}"
    ))
}

fn centre(peer: &Peer, more: &str) -> Provider {
    let port = peer.port;
    provider(&format!(
        "type = \"smpp\"\nname = \"centre\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = false\n\
         system_id = \"countersign\"\npassword = \"secret\"\nsender = \"Acme\"\n{more}"
    ))
}

impl World {
    async fn begin() -> Self {
        Self::begin_with(|_| {}).await
    }

    async fn begin_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let (mail, centre_peer) = (MailServer::start("tls", &[]), Peer::start(&["receipts=1"]));
        let twilio_peer = HttpPeer::start(providers::twilio).await;
        let directory = tempfile::tempdir().expect("directory");
        let mut config = config(directory.path());
        config.delivery.allow_private = vec!["127.0.0.1".into()];
        config.delivery.sms_origin = Some("login.example.com".into());
        config.delivery.mail = vec![Provider::Smtp(mail.configuration(""))];
        config.delivery.sms =
            vec![centre(&centre_peer, "receipts = true\ncountries = [\"DE\"]\n"), twilio(&twilio_peer, "")];
        config.delivery.voice = vec![twilio(&twilio_peer, "")];
        adjust(&mut config);
        let (running, first) = running::start(config, Clock::System).await.expect("start");
        let first = first.expect("an empty directory");
        let router = router(Web::new(Arc::clone(&running.app)).expect("the layer"));
        let mut app = TestApp::around(Arc::clone(&running.app), router, Clock::System);
        app.organisation = first.organisation.id;
        app.client_id = first.client.id.to_string();
        first.client_secret.expose().clone_into(&mut app.client_secret);
        app.policy(json!({ "resend": { "pauseSeconds": 0, "perHour": 20 } })).await;
        Self { app, running, mail, centre: centre_peer, twilio: twilio_peer, _directory: directory }
    }

    fn root(&self) -> Credentials {
        self.app.root()
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.app.post(path).by(&self.root()).json(body).await
    }

    async fn deliveries(&self) -> Vec<Value> {
        let list = self.app.get("/v1/deliveries?limit=200").by(&self.root()).await.expect_ok();
        list["items"].as_array().expect("items").clone()
    }

    /// Waits until a message was taken by its provider; returns its delivery.
    async fn sent(&self, id: &str) -> Answer {
        let end = Instant::now() + PATIENCE;
        loop {
            let delivery = self.app.get(&format!("/v1/deliveries/{id}")).by(&self.root()).await.expect_ok();
            if delivery["state"] == "sent" {
                return delivery;
            }
            assert!(Instant::now() < end && delivery["state"] == "queued", "{}", delivery.shown());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the other side got as the text of the newest message by a kind.
    fn text(&self, kind: &str, to: &str) -> String {
        match kind {
            "email" => {
                // Notices go to the address of the profile, also meanwhile.
                let is_here =
                    |mail: &Value| mail["headers"]["To"].as_str().is_some_and(|to| to.contains(ADDRESS));
                let mail = self.mail.mails().into_iter().rfind(is_here).expect("a mail");
                mail["parts"][0]["content"].as_str().expect("text").to_owned()
            }
            "sms" if to == NUMBER => centre_text(&self.centre),
            "sms" => self.twilio.asked().last().expect("a request").form()["Body"].clone(),
            _ => self.twilio.asked().last().expect("a request").form()["Twiml"].clone(),
        }
    }
}

/// The text of the last message the centre took, which fits its default alphabet.
fn centre_text(centre: &Peer) -> String {
    let message = centre.events("submit_sm").pop().expect("a message");
    let hex = message["text"].as_str().and_then(|text| text.strip_prefix('x')).expect("hex");
    let octets = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex");
    // GSM 7-bit and ASCII agree on digits, letters and what else our texts use, but for `@`.
    octets.into_iter().map(|octet| if octet == 0 { '@' } else { char::from(octet) }).collect()
}

/// The code in a text: its first run of six digits, spoken or not.
fn code_in(text: &str) -> String {
    let runs: Vec<String> = text
        .replace(", ", "")
        .split(|c: char| !c.is_ascii_digit())
        .filter(|run| run.len() == 6)
        .map(str::to_owned)
        .collect();
    runs.first().unwrap_or_else(|| panic!("no code in {text}")).clone()
}

fn challenge_of(answer: &Answer) -> (String, String) {
    let challenge = if answer["challenge"].is_object() { &answer["challenge"] } else { &answer.json };
    let text = |name: &str| challenge[name].as_str().expect(name).to_owned();
    (text("id"), text("delivery"))
}

/// Every kind, from enrolment to a code that is good once, through the real servers.
#[tokio::test]
async fn each_kind_enrols_and_verifies_through_its_real_provider() {
    let world = World::begin().await;
    let ada = world.app.user("ada").await;
    let ways = [("email", ADDRESS), ("sms", NUMBER), ("sms", OTHER_NUMBER), ("voice", OTHER_NUMBER)];
    for (kind, to) in ways {
        let enrolled = world.post(&ada.path("/factors"), json!({ "type": kind, "destination": to })).await;
        let enrolled = enrolled.expect_created();
        assert_eq!(enrolled["state"], "pending");
        world.sent(&challenge_of(&enrolled).1).await;
        let code = code_in(&world.text(kind, to));
        let factor = enrolled.text("id");
        let path = ada.path(&format!("/factors/{factor}/activate"));
        let active = world.post(&path, json!({ "code": code })).await.expect_ok();
        assert_eq!((active["state"].as_str(), active["type"].as_str()), (Some("active"), Some(kind)));

        let asked = world.post(&ada.path("/challenges"), json!({ "factor": factor })).await.expect_created();
        let (challenge, delivery) = challenge_of(&asked);
        let sent = world.sent(&delivery).await;
        assert_eq!(sent["destination"], asked["destination"]);
        assert_eq!(asked["deliveryState"], "queued");
        let path = ada.path(&format!("/challenges/{challenge}"));
        let shown = world.app.get(&path).by(&world.root()).await.expect_ok();
        assert_eq!((shown["deliveryState"].as_str(), shown["state"].as_str()), (Some("sent"), Some("open")));
        let code = code_in(&world.text(kind, to));
        let body = json!({ "code": code, "challenge": challenge });
        let verdict = ada.verify_with(body.clone()).await;
        assert!(verdict.accepted(), "{kind}: {}", verdict.shown());
        assert_eq!(verdict["type"], kind);
        assert_eq!(ada.verify_with(body).await.refusal(), Some("replayed"), "{kind}");
    }
    let reported = |delivery: &Value| delivery["provider"] == "centre" && delivery["report"] == "delivered";
    let end = Instant::now() + PATIENCE;
    // The centre says so at once, perhaps before we have noted that it took the message.
    while world.deliveries().await.iter().filter(|delivery| reported(delivery)).count() < 2 {
        assert!(Instant::now() < end, "{:?}", world.deliveries().await);
        sleep(Duration::from_millis(20)).await;
    }
    let last_line = centre_text(&world.centre).lines().last().expect("a line").to_owned();
    assert!(last_line.starts_with("@login.example.com #"), "{last_line}");
    world.running.stop().await.expect("stop");
}

/// Five wrong codes by text message lock that, and nothing else.
#[tokio::test]
async fn five_wrong_codes_lock_sms_only() {
    let world = World::begin().await;
    let ada = world.app.user("ada").with_totp().await;
    let body = json!({ "type": "sms", "destination": OTHER_NUMBER, "confirmed": true });
    world.post(&ada.path("/factors"), body).await.expect_created();
    let asked = world.post(&ada.path("/challenges"), json!({ "type": "sms" })).await.expect_created();
    world.sent(&challenge_of(&asked).1).await;
    let code = code_in(&world.text("sms", OTHER_NUMBER));
    let wrong = if code == "000000" { "000001" } else { "000000" };

    for left in (1..5).rev() {
        let verdict = ada.verify_with(json!({ "code": wrong, "type": "sms" })).await;
        assert_eq!((verdict.refusal(), &verdict["attemptsLeft"]), (Some("rejected"), &json!(left)));
    }
    let fifth = ada.verify_with(json!({ "code": wrong, "type": "sms" })).await;
    assert_eq!((fifth.refusal(), &fifth["method"]), (Some("locked"), &json!("SMS")));
    assert_eq!(ada.verify_with(json!({ "code": code, "type": "sms" })).await.refusal(), Some("locked"));
    world.post(&ada.path("/challenges"), json!({ "type": "sms" })).await.expect_problem(409, "method_locked");

    assert!(ada.verify(ada.code()).await.accepted(), "the app still verifies");
    world.post(&ada.path("/unlock"), json!({ "methods": ["SMS"] })).await.expect_ok();
    // The five wrong ones have used the challenge up, so another code is sent.
    let asked = world.post(&ada.path("/challenges"), json!({ "type": "sms" })).await.expect_created();
    world.sent(&challenge_of(&asked).1).await;
    let code = code_in(&world.text("sms", OTHER_NUMBER));
    assert!(ada.verify_with(json!({ "code": code, "type": "sms" })).await.accepted());
    world.running.stop().await.expect("stop");
}

/// Whoever signs in chooses where the code goes, and finishes with it.
#[tokio::test]
async fn a_sign_in_is_finished_by_a_code_that_was_sent() {
    let world = World::begin().await;
    let ada = world.app.user("ada").with_password().await;
    let body = json!({ "type": "email", "destination": ADDRESS, "confirmed": true });
    let factor = world.post(&ada.path("/factors"), body).await.expect_created().text("id");

    let first = ada.sign_in(crate::test_app::PASSWORD).await;
    assert_eq!(first.error(), "mfa_required");
    assert_eq!(first["factors"][0]["destination"], "a•••@m•••.com");
    let token = first.text("mfa_token");
    let body = json!({ "mfaToken": token, "factor": factor });
    let asked = world.app.post("/oauth/challenge").json(body).await.expect_created();
    assert_eq!(asked["purpose"], "sign_in");
    let (challenge, delivery) = challenge_of(&asked);
    world.sent(&delivery).await;
    let code = code_in(&world.text("email", ADDRESS));

    // It is no code for anything else.
    let elsewhere = ada.verify_with(json!({ "code": code, "challenge": challenge })).await;
    assert_eq!(elsewhere.refusal(), Some("rejected"));
    let grant = crate::test_app::MFA_GRANT;
    let form = [("grant_type", grant), ("mfa_token", &*token), ("code", &*code), ("challenge", &*challenge)];
    let tokens = world.app.token(&form).await.expect_ok();
    assert!(!tokens.text("access_token").is_empty());
    assert_eq!(world.app.token(&form).await.error(), "invalid_grant", "code and sign-in are used up");
    world.running.stop().await.expect("stop");
}

/// What a run leaves behind in places where operators look.
#[tokio::test]
async fn neither_code_nor_destination_shows_where_operators_look() {
    let world = World::begin().await;
    let ada = world.app.user("ada").await;
    let mut codes = Vec::new();
    for (kind, to) in [("email", ADDRESS), ("sms", NUMBER), ("voice", OTHER_NUMBER)] {
        let body = json!({ "type": kind, "destination": to });
        let enrolled = world.post(&ada.path("/factors"), body).await.expect_created();
        world.sent(&challenge_of(&enrolled).1).await;
        codes.push(code_in(&world.text(kind, to)));
        let path = ada.path(&format!("/factors/{}/activate", enrolled.text("id")));
        world.post(&path, json!({ "code": codes.last() })).await.expect_ok();
    }
    // A number the provider refuses, and says so with the number in its answer.
    let refused = json!({ "type": "sms", "destination": "+12025550000" });
    let refused = world.app.post(&ada.path("/factors")).by(&world.root()).json(refused).await;
    let (_, delivery) = challenge_of(&refused.expect_created());
    let end = Instant::now() + PATIENCE;
    while world.app.get(&format!("/v1/deliveries/{delivery}")).by(&world.root()).await["state"] != "failed" {
        assert!(Instant::now() < end, "a number that does not exist is a dead letter");
        sleep(Duration::from_millis(20)).await;
    }

    let places = ["/v1/deliveries?limit=200", "/v1/audit?limit=200", "/metrics", &ada.path("/factors")];
    for place in places {
        let answer = world.app.get(place).by(&world.root()).await.expect_ok();
        let shown = String::from_utf8_lossy(&answer.body).into_owned();
        for secret in codes.iter().map(String::as_str).chain([
            ADDRESS,
            "ada.lovelace",
            &NUMBER[1..],
            &OTHER_NUMBER[1..],
            "12025550000",
        ]) {
            assert!(!shown.contains(secret), "{place} shows {secret}: {shown}");
        }
    }
    world.running.stop().await.expect("stop");
}

/// The budgets of a person and of a destination, whoever asks, at the same moment.
#[tokio::test]
async fn of_sixty_four_callers_one_has_a_code_sent() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let number = app.fresh_number();
    let body = json!({ "type": "sms", "destination": number, "confirmed": true });
    app.post(&ada.path("/factors")).by(&app.root()).json(body.clone()).await.expect_created();

    let ask = |path: String| app.post(&path).by(&app.root()).json(json!({ "type": "sms" }));
    let path = ada.path("/challenges");
    let answers = futures_util::future::join_all((0..64).map(|_| ask(path.clone()).into_future())).await;
    let sent = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(sent, 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((answer.status.as_u16(), answer.code()), (429, "sent_too_often"));
        assert_eq!(answer.header("retry-after"), Some("30"));
    }

    // Four more in the hour, each after its pause, and then none.
    for _ in 0..4 {
        app.advance(30);
        ask(path.clone()).await.expect_created();
    }
    app.advance(30);
    let refused = ask(path.clone()).await.expect_problem(429, "sent_too_often");
    assert_eq!(refused["retryAfter"], 3600 - 150);

    // Other people with the same number meet the destination's budget.
    let mut paths = Vec::new();
    for number in 0..64 {
        let person = app.user(&format!("other-{number}")).await;
        app.post(&person.path("/factors")).by(&app.root()).json(body.clone()).await.expect_created();
        paths.push(person.path("/challenges"));
    }
    let answers =
        futures_util::future::join_all(paths.iter().map(|path| ask(path.clone()).into_future())).await;
    assert!(answers.iter().all(|answer| answer.status == 429), "five went there in this hour");
    app.advance(3600);
    let answers =
        futures_util::future::join_all(paths.iter().map(|path| ask(path.clone()).into_future())).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(app.count("ada", "challenge.sent").await, 5, "what was refused is nowhere");
}

/// Reads the newest code out of the outbox, as the worker would.
async fn code_from_outbox(app: &TestApp) -> String {
    let (store, keys) = (&app.app.store, app.app.keys.as_ref());
    let claimed = store.claim(Channel::Sms, app.now(), Duration::from_secs(60), 1).await.expect("a claim");
    let message = &claimed[0];
    let letter = Letter::open(message.organisation, message.user, message.id, &message.body, keys);
    match letter.expect("a letter").words {
        Words::Code { code, .. } => code.expose().clone(),
        other => panic!("no code: {other:?}"),
    }
}

/// Promises 1 and 3, for codes that are sent.
#[tokio::test]
async fn of_sixty_four_callers_with_one_code_one_is_let_in_and_every_wrong_code_counts() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let body = json!({ "type": "sms", "destination": app.fresh_number(), "confirmed": true });
    app.post(&ada.path("/factors")).by(&app.root()).json(body).await.expect_created();
    let asked = app.post(&ada.path("/challenges")).by(&app.root()).json(json!({ "type": "sms" })).await;
    let challenge = challenge_of(&asked.expect_created()).0;
    let code = code_from_outbox(&app).await;
    let all = async |code: &str| {
        let ask = |_| ada.verify_with(json!({ "code": code, "challenge": challenge })).into_future();
        futures_util::future::join_all((0..64).map(ask)).await
    };
    let count = |answers: &[Answer], result: &str| {
        answers.iter().filter(|answer| answer.json["result"] == result).count()
    };

    let answers = all(&code).await;
    assert_eq!((count(&answers, "accepted"), count(&answers, "replayed")), (1, 63));

    let wrong = if code == "000000" { "000001" } else { "000000" };
    let answers = all(wrong).await;
    assert_eq!((count(&answers, "rejected"), count(&answers, "locked")), (4, 60));
    assert_eq!(ada.failures().await, 5);
}
