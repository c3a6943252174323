//! Mail, through a real server on this machine.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::peers::mail::MailServer;
use countersign::delivery::{Failure, Outgoing, Receipt, Written, mail::Mailer, words::Templates};
use countersign_core::{
    Channel, DeliveryId, Destination, Letter, Locale, Secret, Timestamp,
    message::{CodePurpose, Words},
};
use std::{collections::BTreeSet, time::Duration};

const ID: &str = "019a9f2c-5c00-7000-8000-00000000cafe";

fn mailer(server: &MailServer) -> Mailer {
    Mailer::new(&server.configuration("timeout_seconds = 2")).expect("a mailer")
}

/// Returns a code's mail in a language, ready to be sent.
fn outgoing(to: &str, locale: &str) -> Outgoing {
    let at = Timestamp::from_seconds(1_795_341_600);
    let letter = Letter {
        to: Destination::parse(Channel::Mail, "to", to).expect("an address"),
        locale: Locale::parse("locale", locale).expect("a locale"),
        product: "Example Corp".into(),
        name: "Ada Lovelace".into(),
        at,
        expires_at: at.after(Duration::from_secs(600)),
        words: Words::Code { code: Secret::new("123456".into()), purpose: CodePurpose::SignIn },
    };
    let written = Templates::load(None, None)
        .and_then(|templates| templates.write(&letter, letter.at))
        .expect("written");
    let id: DeliveryId = ID.parse().expect("an id");
    Outgoing { id, to: letter.to, expires_at: letter.expires_at, written }
}

fn written(outgoing: &Outgoing) -> (&str, &str, &str) {
    let Written::Mail { subject, text, html, .. } = &outgoing.written else { panic!("not a mail") };
    (subject.expose(), text.expose(), html.expose())
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    for locale in ["en", "de", "ja", "ar"] {
        let server = MailServer::start("tls", &[]);
        let outgoing = outgoing("ada@example.com", locale);

        let receipt = mailer(&server).send(&outgoing).await.expect("taken");

        let mail = server.mail();
        let (subject, text, html) = written(&outgoing);
        assert_eq!(mail["headers"]["Subject"], subject, "{locale}");
        assert_eq!(mail["type"], "multipart/alternative");
        let parts = mail["parts"].as_array().unwrap();
        let types: Vec<_> =
            parts.iter().map(|part| (part["type"].as_str(), part["charset"].as_str())).collect();
        assert_eq!(types, [(Some("text/plain"), Some("utf-8")), (Some("text/html"), Some("utf-8"))]);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(parts[0]["content"].as_str().unwrap()), lines(text), "{locale}");
        assert_eq!(lines(parts[1]["content"].as_str().unwrap()), lines(html), "{locale}");
        assert_eq!(mail["defects"], serde_json::json!([]));
        assert_eq!(mail["tls"], true);
        let source = mail["source"].as_str().unwrap();
        assert!(source.is_ascii() && source.lines().all(|line| line.len() <= 998), "{source}");
        let expected = Receipt { provider: "relay".into(), reference: Some("2.0.0 OK: queued as N1".into()) };
        assert_eq!(receipt, expected);
    }
}

#[tokio::test]
async fn the_head_says_what_machines_should_know() {
    let server = MailServer::start("tls", &[]);
    let server_keys = server.configuration("reply_to = \"help@example.com\"");

    Mailer::new(&server_keys)
        .expect("a mailer")
        .send(&outgoing("ada@example.com", "pt-BR"))
        .await
        .expect("taken");

    let mail = server.mail();
    let headers = mail["headers"].as_object().unwrap();
    for (name, value) in [
        ("From", "Beispiel & Söhne <no-reply@example.com>"),
        ("To", "ada@example.com"),
        ("Reply-To", "help@example.com"),
        ("Message-ID", &format!("<{ID}@example.com>")),
        ("X-Entity-Ref-ID", ID),
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "All"),
        ("Content-Language", "pt"),
        ("Expires", "Sun, 22 Nov 2026 10:10:00 -0000"),
        ("MIME-Version", "1.0"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(headers.contains_key("Date"));
    for absent in ["In-Reply-To", "References", "Precedence", "List-Unsubscribe"] {
        assert!(!headers.contains_key(absent), "{absent}");
    }
    let head = mail["source"].as_str().unwrap().split("\r\n\r\n").next().unwrap();
    assert!(!head.contains("123456"), "{head}");
    assert_eq!(mail["from"], "no-reply@example.com");
}

#[tokio::test]
async fn a_password_goes_over_tls_only() {
    for security in ["tls", "starttls"] {
        let server = MailServer::start(security, &["--account", "relay:correct horse"]);
        let with = |password: &str| {
            let keys = format!("username = \"relay\"\npassword = \"{password}\"\ntimeout_seconds = 5");
            Mailer::new(&server.configuration(&keys)).expect("a mailer")
        };

        with("correct horse").send(&outgoing("ada@example.com", "en")).await.expect("taken");
        let wrong = with("wrong").send(&outgoing("ada@example.com", "en")).await.expect_err("refused");

        let mail = server.mail();
        assert_eq!((&mail["authenticated"], &mail["tls"]), (&true.into(), &true.into()), "{security}");
        let Failure::Temporary(reason) = wrong else { panic!("another provider may take it: {wrong:?}") };
        assert!(reason.starts_with("sign in: 535 5.7.8"), "{reason}");
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_nothing() {
    let server = MailServer::start("none", &[]);
    let mut configuration = server.configuration("");
    configuration.security = countersign::config::delivery::mail::Security::Starttls;

    let refused =
        Mailer::new(&configuration).expect("a mailer").send(&outgoing("ada@example.com", "en")).await;

    assert_eq!(refused, Err(Failure::Temporary("connect: the server offers no STARTTLS".into())));
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn a_server_with_a_foreign_certificate_gets_nothing() {
    for security in ["tls", "starttls"] {
        let (server, other) = (MailServer::start(security, &[]), MailServer::start(security, &[]));
        let mut configuration = server.configuration("");
        configuration.ca_file = other.configuration("").ca_file;
        let by_address = {
            let mut configuration = server.configuration("");
            configuration.host = "127.0.0.1".into();
            configuration
        };

        for configuration in [configuration, by_address] {
            let refused = Mailer::new(&configuration).expect("a mailer").probe().await.expect_err("refused");

            assert!(matches!(refused, Failure::Temporary(_)), "{refused:?}");
            assert!(refused.reason().contains("certificate"), "{refused:?}");
        }
        assert!(server.mails().is_empty());
    }
}

#[tokio::test]
async fn plain_is_for_this_machine() {
    let server = MailServer::start("none", &[]);

    mailer(&server).send(&outgoing("ada@example.com", "en")).await.expect("taken");

    let mut elsewhere = server.configuration("");
    elsewhere.host = "mail.example.com".into();
    let refused = Mailer::new(&elsewhere).expect_err("refused").to_string();
    assert!(refused.contains("none is for 127.0.0.1"), "{refused}");
    assert_eq!(server.mail()["tls"], false);
}

#[tokio::test]
async fn what_a_server_answers_decides_whether_to_ask_again() {
    let server = MailServer::start("tls", &[]);
    let mailer = mailer(&server);
    for (to, is_final, reason) in [
        ("nobody@example.com", true, "name the recipient: 550 5.1.1 … user … unknown"),
        ("busy@example.com", false, "name the recipient: 450 4.2.1 mailbox is …"),
        ("relay@example.com", false, "name the recipient: 530 5.7.0 authenticate first"),
        ("hang@example.com", false, "name the recipient: no answer in time"),
        ("cut@example.com", false, "name the recipient: "),
        ("spam@example.com", true, "hand over the mail: 554 5.7.1 mail to … with … looks like …"),
        ("full@example.com", false, "hand over the mail: 452 4.3.1 no space left"),
        ("late@example.com", false, "hand over the mail: no answer in time"),
    ] {
        let failure = mailer.send(&outgoing(to, "en")).await.expect_err(to);

        assert_eq!(matches!(failure, Failure::Permanent(_)), is_final, "{to}: {failure:?}");
        assert!(failure.reason().starts_with(reason), "{to}: {failure:?}");
        assert!(!failure.reason().contains('@') && !failure.reason().contains("123456"), "{failure:?}");
        // Whatever happened before, the next one arrives.
        mailer.send(&outgoing("ada@example.com", "en")).await.expect("taken");
    }
    assert_eq!(server.mails().len(), 8);
}

#[tokio::test]
async fn a_sender_that_is_refused_is_no_reason_to_give_up_the_recipient() {
    let server = MailServer::start("tls", &[]);
    let mut configuration = server.configuration("");
    configuration.from = "stranger@example.com".into();

    let refused =
        Mailer::new(&configuration).expect("a mailer").send(&outgoing("ada@example.com", "en")).await;

    let reason = "name the sender: 550 5.7.1 not your address";
    assert_eq!(refused, Err(Failure::Temporary(reason.into())));
}

#[tokio::test]
async fn a_server_that_is_gone_may_come_back() {
    let mut server = MailServer::start("tls", &[]);
    let mailer = mailer(&server);
    mailer.send(&outgoing("ada@example.com", "en")).await.expect("taken");

    server.stop();
    let failure = mailer.send(&outgoing("ada@example.com", "en")).await.expect_err("nobody is there");

    assert!(matches!(failure, Failure::Temporary(_)), "{failure:?}");
    assert!(failure.reason().starts_with("connect: "), "{failure:?}");
}

#[tokio::test]
async fn connections_are_few_and_used_again() {
    let server = MailServer::start("tls", &[]);
    let mailer = Mailer::new(&server.configuration("pool = 2")).expect("a mailer");
    let mail = outgoing("ada@example.com", "en");

    let sent = futures_util::future::join_all((0..20).map(|_| mailer.send(&mail))).await;

    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    let mails = server.mails();
    let ports: BTreeSet<_> = mails.iter().map(|mail| mail["port"].as_u64()).collect();
    assert_eq!((mails.len(), ports.len()), (20, 2));
}

#[tokio::test]
async fn a_mail_given_up_in_the_middle_spoils_no_other() {
    let server = MailServer::start("tls", &[]);
    let mailer = Mailer::new(&server.configuration("pool = 1")).expect("a mailer");
    let late = outgoing("late@example.com", "en");

    let given_up = tokio::time::timeout(Duration::from_millis(500), mailer.send(&late)).await;
    mailer.send(&outgoing("ada@example.com", "en")).await.expect("taken");

    assert!(given_up.is_err());
    assert_eq!(server.mail()["to"], serde_json::json!(["ada@example.com"]));
}

#[tokio::test]
async fn addresses_beyond_ascii_arrive_or_fail_for_good() {
    let server = MailServer::start("tls", &[]);
    mailer(&server).send(&outgoing("günther@exämple.de", "en")).await.expect("taken");
    let limited = MailServer::start("tls", &["--ascii-only"]);
    // A domain alone needs no extension: it has a spelling in ASCII.
    mailer(&limited).send(&outgoing("guenther@exämple.de", "en")).await.expect("taken");
    let refused = mailer(&limited).send(&outgoing("günther@exämple.de", "en")).await;

    let mail = server.mail();
    assert_eq!(mail["to"], serde_json::json!(["günther@xn--exmple-cua.de"]));
    assert_eq!(mail["headers"]["To"], "günther@xn--exmple-cua.de");
    assert!(mail["options"].as_array().unwrap().contains(&"SMTPUTF8".into()), "{mail}");
    assert_eq!(limited.mail()["to"], serde_json::json!(["guenther@xn--exmple-cua.de"]));
    let expected = "name the sender: the address needs SMTPUTF8, which the server lacks";
    assert_eq!(refused, Err(Failure::Permanent(expected.into())));
}

#[tokio::test]
async fn a_probe_signs_in_and_sends_nothing() {
    let server = MailServer::start("starttls", &["--account", "relay:correct horse"]);
    let keys = |password: &str| format!("username = \"relay\"\npassword = \"{password}\"");

    Mailer::new(&server.configuration(&keys("correct horse")))
        .expect("a mailer")
        .probe()
        .await
        .expect("well");
    let wrong = Mailer::new(&server.configuration(&keys("wrong"))).expect("a mailer").probe().await;

    assert!(wrong.is_err_and(|failure| failure.reason().starts_with("sign in: 535")));
    assert!(server.mails().is_empty());
}

// The doctor praised relays that then took no mail.
#[tokio::test]
async fn a_probe_names_the_sender_because_some_servers_object_only_then() {
    let wants_account = MailServer::start("tls", &["--account", "relay:correct horse"]);
    let without = Mailer::new(&wants_account.configuration("")).expect("a mailer").probe().await;
    let server = MailServer::start("tls", &[]);
    let well = Mailer::new(&server.configuration("")).expect("a mailer").probe().await;
    let mut configuration = server.configuration("");
    configuration.from = "stranger@example.com".into();
    let stranger = Mailer::new(&configuration).expect("a mailer").probe().await;

    assert!(without.is_err_and(|failure| failure.reason().starts_with("name the sender: 530 5.7.0")));
    assert_eq!(well, Ok("no-reply@example.com".into()));
    assert!(stranger.is_err_and(|failure| failure.reason().starts_with("name the sender: 550 5.7.1")));
    assert!(server.mails().is_empty());
}

// A wrong password was tried with every message, until the server locked the account.
#[tokio::test]
async fn a_refused_account_is_not_tried_again_with_the_next_message() {
    let server = MailServer::start("tls", &["--account", "relay:correct horse"]);
    let keys = "username = \"relay\"\npassword = \"wrong\"\ntimeout_seconds = 5";
    let mailer = Mailer::new(&server.configuration(keys)).expect("a mailer");

    let first = mailer.send(&outgoing("ada@example.com", "en")).await.expect_err("refused");
    let second = mailer.send(&outgoing("bob@example.com", "en")).await.expect_err("refused");

    assert!(matches!(first, Failure::Temporary(_)), "another provider may take it: {first:?}");
    assert_eq!(first, second);
    assert_eq!(server.sign_ins(), 1);

    let mailer = Mailer::new(&server.configuration(keys)).expect("a mailer");
    let mail = outgoing("ada@example.com", "en");
    let at_once = futures_util::future::join_all((0..8).map(|_| mailer.send(&mail))).await;
    assert!(at_once.iter().all(|sent| sent.as_ref() == Err(&first)), "{at_once:?}");
    assert_eq!(server.sign_ins(), 2);
}

#[test]
fn what_is_wrong_in_the_configuration_is_named() {
    let server = MailServer::start("none", &[]);
    let refused = |change: fn(&mut countersign::config::delivery::mail::SmtpServer)| {
        let mut configuration = server.configuration("");
        change(&mut configuration);
        Mailer::new(&configuration).expect_err("refused").to_string()
    };

    assert!(refused(|server| server.from = "nobody".into()).starts_with("from: expected an address"));
    assert!(
        refused(|server| server.reply_to = Some("@".into())).starts_with("reply_to: expected an address")
    );
    let missing = refused(|server| {
        server.security = countersign::config::delivery::mail::Security::Tls;
        server.ca_file = Some("/nowhere.pem".into());
    });
    assert!(missing.starts_with("read ca_file /nowhere.pem: "), "{missing}");
    let empty = refused(|server| {
        server.security = countersign::config::delivery::mail::Security::Tls;
        server.ca_file = Some("/dev/null".into());
    });
    assert!(empty.starts_with("ca_file: expected certificates in PEM"), "{empty}");
}

#[test]
fn nothing_of_a_mail_shows_in_its_debug_output() {
    let shown = format!("{:?}", outgoing("ada@example.com", "en").written);

    assert!(!shown.contains("123456") && !shown.contains("Ada"), "{shown}");
}

/// With its feature `tracing` the library would log every line it says to a server: passwords, addresses, codes.
#[test]
fn the_library_that_speaks_smtp_has_nothing_to_log_with() {
    let lock: toml::Table = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"))
        .unwrap()
        .parse()
        .unwrap();
    let packages = lock["package"].as_array().unwrap();
    let lettre = packages.iter().find(|package| package["name"].as_str() == Some("lettre")).expect("lettre");
    let needs: Vec<_> =
        lettre["dependencies"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();

    assert!(needs.iter().any(|name| name.starts_with("rustls")), "the lock file is read: {needs:?}");
    assert!(!needs.iter().any(|name| ["tracing", "log"].contains(name)), "{needs:?}");
}
