//! Text messages and calls through providers that are asked by HTTP.

use crate::peers::{
    http::{Answer, Asked, HttpPeer},
    providers::{self, KEY, SECRET, TOKEN, TWILIO_ACCOUNT},
};
use countersign::{
    config::delivery::http::HttpProvider as Config,
    delivery::{Failure, Outgoing, Receipt, Written, http_provider::HttpProvider, outbound::Outbound},
};
use countersign_core::{Channel, DeliveryId, Destination, Timestamp};
use serde_json::json;
use std::{
    fs, io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use uuid::Uuid;

const NUMBER: &str = "+4915112345678";
const UNKNOWN_NUMBER: &str = "+4915112340000";
const CODE: &str = "402917";
const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// How a peer answers.
type Answering = fn(&Asked) -> Answer;

fn id() -> DeliveryId {
    DeliveryId::from_uuid(Uuid::parse_str(ID).expect("an id"))
}

fn expires_at() -> Timestamp {
    Timestamp::from_seconds(i64::from(u32::MAX))
}

fn sms_saying(number: &str, text: &str) -> Outgoing {
    let to = Destination::parse(Channel::Sms, "to", number).expect(number);
    Outgoing {
        id: id(),
        to,
        expires_at: expires_at(),
        written: Written::Sms { text: text.to_owned().into() },
    }
}

fn sms(number: &str) -> Outgoing {
    sms_saying(number, &format!("{CODE} is your code & \"key\" for Example"))
}

fn call(number: &str) -> Outgoing {
    let to = Destination::parse(Channel::Voice, "to", number).expect(number);
    let text = format!("Ihr Code für Müller & Söhne: {CODE}").into();
    Outgoing {
        id: id(),
        to,
        expires_at: expires_at(),
        written: Written::Voice { text, language: "de-DE".into() },
    }
}

fn outbound() -> Arc<Outbound> {
    Arc::new(Outbound::new(&["127.0.0.1".into()]).expect("prepared"))
}

fn prepared(channel: Channel, url: &str, toml: &str) -> countersign::error::Result<HttpProvider> {
    let text = format!("name = \"main\"\nurl = \"{url}\"\n{toml}");
    let config: Config = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    HttpProvider::new(channel, &config, outbound())
}

/// A provider of text messages as one preset has it, asked at the peer.
fn provider(peer: &HttpPeer, toml: &str) -> HttpProvider {
    prepared(Channel::Sms, &peer.url, toml).expect("prepared")
}

fn twilio() -> String {
    format!(
        "preset = \"twilio\"\naccount = \"{TWILIO_ACCOUNT}\"\ntoken = \"{TOKEN}\"\nfrom = \"+15005550006\""
    )
}

fn vonage() -> String {
    format!("preset = \"vonage\"\nkey = \"{KEY}\"\nsecret = \"{SECRET}\"\nfrom = \"Example\"")
}

fn messagebird() -> String {
    format!("preset = \"messagebird\"\ntoken = \"{TOKEN}\"\nfrom = \"Example\"")
}

fn aws() -> String {
    format!(
        "preset = \"aws\"\nregion = \"eu-central-1\"\nkey = \"{KEY}\"\nsecret = \"{SECRET}\"\nfrom = \"Example\""
    )
}

const GENERIC: &str = r#"
token = "tokenforexamples"
path = "/send/{{ to | digits }}"
auth = "bearer"
query = { ref = "{{ id }}" }
headers = { Idempotency-Key = "{{ id }}" }
content_type = "application/json; charset=utf-8"
body = '{"number": {{ to }}, "message": {{ text }}}'
success = { status = [202], field = "/result", values = ["queued"] }
reference = "/ticket"
error = "/error/id"
permanent = { status = [404, 422] }
"#;

fn receipt(reference: &str) -> Result<Receipt, Failure> {
    Ok(Receipt { provider: "main".into(), reference: Some(reference.into()) })
}

#[tokio::test]
async fn twilio_is_asked_as_it_publishes() {
    let peer = HttpPeer::start(providers::twilio).await;

    let sent = provider(&peer, &twilio()).send(&sms(NUMBER)).await;

    assert_eq!(sent, receipt("SM00112233445566778899aabbccddeeff"));
    let form = peer.only().form();
    assert_eq!((form["To"].as_str(), form["From"].as_str()), (NUMBER, "+15005550006"));
    assert_eq!(form["Body"], format!("{CODE} is your code & \"key\" for Example"));
    assert_eq!(form["ValidityPeriod"], "14400");
}

#[tokio::test]
async fn twilio_picks_the_sender_where_a_messaging_service_is_named() {
    let peer = HttpPeer::start(providers::twilio).await;
    let service = "MG00112233445566778899aabbccddeeff";
    let toml = twilio().replace("+15005550006", service);

    let sent = provider(&peer, &toml).send(&sms(NUMBER)).await;

    assert!(sent.is_ok(), "{sent:?}");
    assert_eq!(peer.only().form()["MessagingServiceSid"], service);
}

#[tokio::test]
async fn a_call_says_the_words_in_the_persons_language() {
    let peer = HttpPeer::start(providers::twilio).await;
    let calling = |toml: &str| prepared(Channel::Voice, &peer.url, toml).expect("prepared");

    let sent = calling(&twilio()).send(&call(NUMBER)).await;
    let with_voice = calling(&format!("{}\nvoice = \"Polly.Vicki\"", twilio())).send(&call(NUMBER)).await;

    assert_eq!(sent, receipt("CA00112233445566778899aabbccddeeff"));
    assert!(with_voice.is_ok(), "{with_voice:?}");
    let asked = peer.asked();
    assert_eq!(
        asked[0].form()["Twiml"],
        format!("<Response><Say language=\"de-DE\">Ihr Code für Müller &amp; Söhne: {CODE}</Say></Response>")
    );
    assert!(asked[1].form()["Twiml"].contains("<Say language=\"de-DE\" voice=\"Polly.Vicki\">"));
}

#[tokio::test]
async fn vonage_is_asked_as_it_publishes() {
    let peer = HttpPeer::start(providers::vonage).await;
    let provider = provider(&peer, &vonage());

    let plain = provider.send(&sms(NUMBER)).await;
    let other_letters = provider.send(&sms_saying(NUMBER, &format!("Ваш код {CODE}"))).await;

    assert_eq!(plain, receipt("0C000000217B7F02"));
    assert!(other_letters.is_ok(), "{other_letters:?}");
    let form = peer.asked()[0].form();
    assert_eq!((form["to"].as_str(), form["client-ref"].as_str()), (&NUMBER[1..], ID));
}

#[tokio::test]
async fn messagebird_is_asked_as_it_publishes() {
    let peer = HttpPeer::start(providers::messagebird).await;

    let sent = provider(&peer, &messagebird()).send(&sms(NUMBER)).await;

    assert_eq!(sent, receipt("e8077d803532c0b5937c639b60216938"));
    assert_eq!(
        peer.only().json(),
        json!({"originator": "Example", "recipients": [NUMBER[1..]], "datacoding": "auto", "validity": 14400,
            "body": format!("{CODE} is your code & \"key\" for Example"), "reference": ID})
    );
}

#[tokio::test]
async fn sns_is_asked_as_it_publishes_and_the_signature_is_right() {
    let peer = HttpPeer::start(providers::sns).await;

    let named = provider(&peer, &aws()).send(&sms(NUMBER)).await;
    let numbered = provider(&peer, &aws().replace("Example", "+15005550006")).send(&sms(NUMBER)).await;
    let without = provider(&peer, &aws().replace("from = \"Example\"", "")).send(&sms(NUMBER)).await;

    assert_eq!(named, receipt("567910cd-659e-55d4-8ccb-5aaf14679dc0"));
    assert!(numbered.is_ok() && without.is_ok(), "{numbered:?} {without:?}");
    let sender = |asked: &Asked| {
        let mut attributes = providers::attributes(&asked.form());
        attributes.remove("AWS.SNS.SMS.SMSType");
        attributes.into_iter().next()
    };
    let senders: Vec<_> = peer.asked().iter().map(sender).collect();
    assert_eq!(
        senders,
        [
            Some(("AWS.SNS.SMS.SenderID".into(), "Example".into())),
            Some(("AWS.MM.SMS.OriginationNumber".into(), "+15005550006".into())),
            None
        ]
    );
}

#[tokio::test]
async fn a_provider_of_ones_own_is_described_in_the_configuration() {
    let answer = json!({"result": "queued", "ticket": 4711});
    let peer = HttpPeer::start(move |_| Answer::json(202, &answer)).await;

    let sent = provider(&peer, GENERIC).send(&sms(NUMBER)).await;

    assert_eq!(sent, receipt("4711"));
    let asked = peer.only();
    assert_eq!(format!("{} {}", asked.method, asked.target), format!("POST /send/{}?ref={ID}", &NUMBER[1..]));
    assert_eq!(asked.header("authorization"), "Bearer tokenforexamples");
    assert_eq!(asked.header("idempotency-key"), ID);
    assert_eq!(asked.header("content-type"), "application/json; charset=utf-8");
    assert!(asked.header("user-agent").starts_with("countersign/"));
    assert_eq!(asked.json()["message"], format!("{CODE} is your code & \"key\" for Example"));
}

#[tokio::test]
async fn a_number_the_provider_will_never_reach_is_a_permanent_failure() {
    let cases: [(Answering, String, &str); 4] = [
        (providers::twilio, twilio(), "status 400, code 21211"),
        (providers::vonage, vonage(), "status 200, code 6"),
        (providers::messagebird, messagebird(), "status 422, code 9"),
        (providers::sns, aws(), "status 400, code InvalidParameter"),
    ];
    for (answer, toml, reason) in cases {
        let peer = HttpPeer::start(answer).await;

        let sent = provider(&peer, &toml).send(&sms(UNKNOWN_NUMBER)).await;

        assert_eq!(sent, Err(Failure::Permanent(reason.into())), "{toml}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_ours_to_mend_whatever_else_the_answer_says() {
    let cases: [(Answering, String, &str); 4] = [
        (providers::twilio, twilio(), "status 401, code 20003"),
        (providers::vonage, vonage(), "status 200, code 4"),
        (providers::messagebird, messagebird(), "status 401, code 2"),
        (providers::sns, aws(), "status 403, code SignatureDoesNotMatch"),
    ];
    for (answer, toml, reason) in cases {
        let peer = HttpPeer::start(answer).await;
        let toml = toml.replace(TOKEN, "old").replace(SECRET, "old");

        let sent = provider(&peer, &toml).send(&sms(UNKNOWN_NUMBER)).await;

        assert_eq!(sent, Err(Failure::Temporary(reason.into())), "{toml}");
    }
    let denied = HttpPeer::start(|_| Answer::json(403, &json!({"code": 21211}))).await;
    let sent = provider(&denied, &twilio()).send(&sms(NUMBER)).await;
    assert_eq!(sent, Err(Failure::Temporary("status 403, code 21211".into())));
}

/// What a provider in trouble does, and what we then say.
fn troubles() -> Vec<(&'static str, Answering)> {
    vec![
        ("status 429, asks for a pause of 30 s", |asked| {
            Answer::Whole(429, vec![("retry-after", "30".into())], asked.body.clone())
        }),
        ("status 500", |asked| Answer::Whole(500, Vec::new(), asked.body.clone())),
        ("status 503", |_| Answer::status(503)),
        ("status 408", |_| Answer::status(408)),
        ("status 400", |asked| {
            Answer::json(400, &json!({"code": asked.form()["Body"], "message": asked.body}))
        }),
        ("status 400", |asked| Answer::json(400, &json!({"code": &asked.form()["To"][1..]}))),
        ("status 400", |asked| Answer::json(400, &json!({"code": &asked.form()["Body"][..6]}))),
        ("status 200, but not the answer of success", |asked| {
            Answer::Whole(200, Vec::new(), format!("<html>{}", asked.body))
        }),
        ("status 201, but not the answer of success", |_| Answer::json(201, &json!({"sid": null}))),
        ("answer longer than 65536 bytes", |asked| Answer::Whole(201, Vec::new(), asked.body.repeat(2_000))),
        ("no answer in time", |_| Answer::Silence),
        ("no answer in time", |_| Answer::Drip),
        ("connection cut: ", |_| Answer::CutShort),
        ("connection cut: ", |_| Answer::Noise),
    ]
}

#[tokio::test]
async fn a_provider_in_trouble_is_a_temporary_failure_that_shows_nothing() {
    for (expected, answer) in troubles() {
        let peer = HttpPeer::start(answer).await;
        let provider = provider(&peer, &format!("{}\ntimeout_seconds = 1", twilio()));

        let begun = Instant::now();
        let failure = provider.send(&sms(NUMBER)).await.expect_err(expected);

        assert!(begun.elapsed() < Duration::from_secs(5), "{expected}");
        assert!(
            matches!(&failure, Failure::Temporary(reason) if reason.starts_with(expected)),
            "{failure:?}"
        );
        assert!(expected.ends_with(": ") || failure.reason() == expected, "{failure:?}");
        assert_shows_nothing(&format!("{failure:?} {provider:?}"));
        assert_eq!(peer.asked().len(), 1, "nothing is asked twice: {expected}");
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_a_temporary_failure_that_shows_nothing() {
    let peer = HttpPeer::start(providers::twilio).await;
    let url = peer.url.clone();
    drop(peer);
    tokio::task::yield_now().await;
    let generic = "method = \"GET\"\nquery = { to = \"{{ to }}\", text = \"{{ text }}\" }";

    let failure =
        prepared(Channel::Sms, &url, generic).expect("prepared").send(&sms(NUMBER)).await.expect_err("gone");

    assert!(matches!(&failure, Failure::Temporary(reason) if reason.starts_with("connect: ")), "{failure:?}");
    assert_shows_nothing(&format!("{failure:?}"));
}

/// Neither the code, nor the number or most of it, nor a secret.
fn assert_shows_nothing(text: &str) {
    for secret in [CODE, &NUMBER[1..], &NUMBER[5..], "Example", TOKEN, SECRET, KEY] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_request_shows_nothing_in_the_log_even_at_its_most_talkative() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer({
            let log = Arc::clone(&log);
            move || Shared(Arc::clone(&log))
        })
        .finish();
    let peer = HttpPeer::start(providers::twilio).await;
    let in_url = "method = \"GET\"\nquery = { to = \"{{ to }}\", text = \"{{ text }}\" }";

    {
        let _guard = tracing::subscriber::set_default(subscriber);
        drop(provider(&peer, &twilio()).send(&sms(NUMBER)).await);
        drop(provider(&peer, in_url).send(&sms(NUMBER)).await);
    }

    assert_eq!(peer.asked().len(), 2);
    let log = log.lock().expect("no panic").clone();
    assert!(!log.is_empty(), "something is logged");
    assert_shows_nothing(&String::from_utf8_lossy(&log));
}

/// A log in memory.
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reference_that_is_a_piece_of_the_message_is_not_kept() {
    let peer = HttpPeer::start(providers::twilio).await;

    for place in ["/to", "/body"] {
        let toml = format!("{}\nreference = \"{place}\"", twilio());
        let sent = provider(&peer, &toml).send(&sms_saying(NUMBER, CODE)).await;

        assert_eq!(sent, Ok(Receipt { provider: "main".into(), reference: None }), "{place}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = HttpPeer::start(providers::twilio).await;
    for status in [301, 302, 303, 307, 308] {
        let to = format!("{}/2010-04-01/Accounts/{TWILIO_ACCOUNT}/Messages.json", elsewhere.url);
        let peer =
            HttpPeer::start(move |_| Answer::Whole(status, vec![("location", to.clone())], String::new()))
                .await;

        let sent = provider(&peer, &twilio()).send(&sms(NUMBER)).await;

        let reason = format!("status {status}, redirects are not followed");
        assert_eq!(sent, Err(Failure::Temporary(reason)));
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn no_text_of_a_message_changes_the_request_around_it() {
    let text = "x\", \"number\": \"+491\"}&To=+492</Say>\r\n{{ token }}";
    let peer = HttpPeer::start(|_| Answer::status(500)).await;

    drop(provider(&peer, GENERIC).send(&sms_saying(NUMBER, text)).await);
    drop(provider(&peer, &twilio()).send(&sms_saying(NUMBER, text)).await);

    let asked = peer.asked();
    assert_eq!(asked[0].json(), json!({"number": NUMBER, "message": text}));
    assert_eq!((asked[1].form()["To"].as_str(), asked[1].form()["Body"].as_str()), (NUMBER, text));
}

#[tokio::test]
async fn secrets_come_from_files() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("token");
    fs::write(&path, format!("{TOKEN}\n")).expect("write");
    let peer = HttpPeer::start(providers::messagebird).await;
    let toml = format!("preset = \"messagebird\"\nfrom = \"Example\"\ntoken_file = {path:?}");

    let sent = provider(&peer, &toml).send(&sms(NUMBER)).await;

    assert!(sent.is_ok(), "{sent:?}");
}

#[test]
fn what_would_fail_with_the_first_message_stops_the_start_and_names_provider_and_key() {
    let json = "content_type = \"application/json\"\n";
    let cases: &[(&str, &str, &str)] = &[
        ("https://a.example", "preset = \"twilio\"\nfrom = \"x\"", "delivery.sms.main.account: "),
        ("https://a.example", &twilio().replace("from", "voice"), "delivery.sms.main.body: names a value"),
        (
            "https://a.example",
            "body = \"{{ txt }}\"\ncontent_type = \"text/plain\"",
            "delivery.sms.main.body: ",
        ),
        (
            "https://a.example",
            "body = \"{{ text \"\ncontent_type = \"text/plain\"",
            "delivery.sms.main.body: ",
        ),
        ("https://a.example", "body = \"{{ text }}\"", "delivery.sms.main.content_type: "),
        (
            "https://a.example",
            &format!("{json}body = '{{\"a\": \"{{{{ text }}}}\"}}'"),
            "delivery.sms.main.body: ",
        ),
        ("https://a.example", "headers = { X-To = \"{{ to }}\" }", "delivery.sms.main.headers.x-to: "),
        ("https://a.example", "headers = { \"X To\" = \"1\" }", "delivery.sms.main.headers.x to: "),
        (
            "https://a.example",
            "token_file = \"/nowhere/token\"",
            "delivery.sms.main.token: read token_file /nowhere",
        ),
        ("https://a.example", "auth = \"bearer\"", "delivery.sms.main.token: "),
        ("https://a.example", "reference = \"sid\"", "delivery.sms.main.reference: "),
        ("https://a.example", "success = { status = [\"2xx\"] }", "delivery.sms.main.success.status: "),
        ("https://a.example", "permanent = { values = [\"1\"] }", "delivery.sms.main.permanent.values: "),
        ("https://a.example", "countries = [\"Germany\"]", "delivery.sms.main.countries: "),
        ("https://a.example", "timeout_seconds = 0", "delivery.sms.main.timeout_seconds: "),
        ("https://a.example", "method = \"DELETE\"", "delivery.sms.main.method: "),
        ("https://{{ to | digits }}.example", "", "delivery.sms.main.url: the host cannot depend"),
        ("http://a.example", "", "delivery.sms.main.url: a.example is asked over https only"),
        ("https://10.0.0.1", "", "delivery.sms.main.url: 10.0.0.1 is a private address"),
        ("ftp://a.example", "", "delivery.sms.main.url: "),
        // All of these started, and what they sent told nobody anything.
        ("https://a.example", "", "delivery.sms.main.url: the provider is not told {{ to }}"),
        (
            "https://a.example",
            "query = { to = \"{{ to }}\" }",
            "delivery.sms.main.query: the provider is not told {{ text }}",
        ),
        (
            "https://a.example",
            &format!("{json}body = '{{\"to\": {{{{ to }}}}}}'"),
            "delivery.sms.main.body: the provider is not told {{ text }}",
        ),
        (
            "https://a.example",
            &format!("{json}body = '{{\"text\": {{{{ text }}}}}}'"),
            "delivery.sms.main.body: the provider is not told {{ to }}",
        ),
        (
            "https://a.example",
            &format!(
                "{json}body = '{{% if to is startingwith(\"+49\") %}}[{{{{ to }}}}, {{{{ text }}}}]{{% else %}}1{{% endif %}}'"
            ),
            "delivery.sms.main.body: the provider is not told {{ to }}",
        ),
        ("https://a.example", "token = \"\"", "delivery.sms.main.token: cannot be empty"),
        (
            "https://a.example",
            "token_file = \"/dev/null\"",
            "delivery.sms.main.token: read token_file /dev/null: it is empty",
        ),
        (
            "https://a.example",
            "countries = [\"DE\", \"XX\"]",
            "delivery.sms.main.countries: XX is no country",
        ),
    ];
    for (url, toml, expected) in cases {
        let error = prepared(Channel::Sms, url, toml).expect_err(expected).to_string();

        assert!(error.starts_with(expected), "{toml}\n{error}");
    }
    let error = prepared(Channel::Voice, "https://a.example", &vonage()).expect_err("no calls").to_string();
    assert!(error.starts_with("delivery.voice.main.preset: vonage"), "{error}");
}

#[test]
fn a_provider_may_be_told_to_and_text_anywhere_and_in_parts() {
    for toml in [
        "path = \"/{{ to | digits }}\"\nquery = { t = \"{{ text }}\" }",
        "method = \"GET\"\nquery = { to = \"{{ to }}\", text = \"{{ text }}\" }",
        "content_type = \"text/xml\"\nbody = \"<to>{{ to | replace('+49', '0') }}</to>{{ text }}\"",
    ] {
        let prepared = prepared(Channel::Sms, "https://a.example", toml);
        assert!(prepared.is_ok(), "{toml}: {prepared:?}");
    }
}

/// Returns the TOML of the manual's examples, with secrets written out instead of in files.
fn examples() -> impl Iterator<Item = toml::Table> {
    let manual = include_str!("../../../../docs/manual/sms-and-voice.md");
    let written_out = |line: &str| match line.split_once("_file = ") {
        Some((key, _)) => format!("{key} = \"example\"\n"),
        None => format!("{line}\n"),
    };
    let parse = move |block: &str| {
        let block: String = block.lines().map(written_out).collect();
        block.parse().unwrap_or_else(|error| panic!("{block}: {error}"))
    };
    manual.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).map(parse)
}

#[test]
fn every_example_of_the_manual_starts() {
    let mut started = Vec::new();
    for example in examples() {
        for channel in [Channel::Sms, Channel::Voice] {
            let listed = example["delivery"].get(channel.name()).and_then(|list| list.as_array());
            for provider in listed.into_iter().flatten() {
                let mut table = provider.as_table().expect("a section").clone();
                if table.remove("type") != Some("http".into()) {
                    continue;
                }
                let config: Config = table.try_into().expect("known keys");
                let provider = HttpProvider::new(channel, &config, outbound()).expect("started");
                started.push(provider.name().to_owned());
            }
        }
    }

    assert_eq!(started, ["main", "calls", "vonage", "bird", "sns", "gateway", "dach", "world"]);
}
