//! A link to set up an app, all the way: mailed by a real mail server, opened in a real browser, scanned off its screen.

use crate::{
    browser::{Browser, ENTER, TAB},
    installation::{Installation, Running},
    mail_server::MailServer,
    phone::Phone,
    tools::printed,
};
use serde_json::json;
use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

/// How long a mail may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How wide a page is that must not scroll sideways (WCAG 2.2, 1.4.10).
const NARROW: u32 = 320;

const SET_UP: &str = "Set up your authenticator app";
const DONE: &str = "Your app is set up";
const GONE: &str = "This link does not work";

/// Serves with a mail server beside it, at an address known beforehand, because links begin with it.
fn serve(installation: &Installation, mail: &MailServer) -> Running {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let provider = format!(
        "[{{ type = 'smtp', name = 'relay', host = 'localhost', port = {}, security = 'none', from = 'no-reply@example.com' }}]",
        mail.port
    );
    let mut command = installation.command(["serve", "--listen", &address]);
    command
        .env("COUNTERSIGN__TOKENS__ISSUER", format!("http://{address}"))
        .env("COUNTERSIGN__DELIVERY__MAIL", provider);
    Running::start(command)
}

/// Waits for the newest of so many mails; returns the only link in its text.
fn link_in_mail(mail: &MailServer, count: usize) -> String {
    let begun = Instant::now();
    let newest = loop {
        let mails = mail.mails();
        if mails.len() >= count {
            break mails.into_iter().nth(count - 1).expect("counted");
        }
        assert!(begun.elapsed() < PATIENCE, "{} mails", mails.len());
        thread::sleep(Duration::from_millis(50));
    };
    let text = newest["parts"][0]["content"].as_str().expect("a text").to_owned();
    let links: Vec<&str> = text.split_whitespace().filter(|word| word.contains("://")).collect();
    assert_eq!(links.len(), 1, "{text}");
    links[0].to_owned()
}

#[test]
fn a_mailed_link_is_opened_scanned_and_finished_with_the_keyboard_alone() {
    let installation = Installation::new();
    let mail = MailServer::start("none", &[]);
    let server = serve(&installation, &mail);
    let client = installation.client();
    server.post(&client, "/v1/users", &json!({"username": "ada", "email": "ada@example.com"})).json(201);
    server.post(&client, "/v1/users/ada/enrolment-links", &json!({})).json(201);
    let link = link_in_mail(&mail, 1);

    let browser = Browser::open(800);
    browser.visit(&link);
    assert_eq!(browser.heading(), SET_UP);
    let picture = installation.beside("page.png");
    browser.take_picture(&picture);
    let uri = printed("zbarimg", ["--quiet".as_ref(), "--raw".as_ref(), picture.as_os_str()]);
    assert!(uri.starts_with("otpauth://totp/"), "{uri}");
    let mut phone = Phone::scan(&uri);
    let typed_by_hand = browser.ask("document.querySelector('dd code').textContent.replaceAll(' ', '')");
    assert!(uri.contains(typed_by_hand.as_str().expect("a key")), "the picture and the text are one key");

    browser.tab_to("code");
    browser.press(&format!("{}{ENTER}", phone.wrong_codes()[0]));
    assert!(browser.text_of(".error").contains("4 tries are left"), "{}", browser.text_of(".error"));
    assert_eq!(browser.ask("document.activeElement.id"), "code", "the focus is where the mistake was");
    assert_eq!(browser.ask("document.activeElement.getAttribute('aria-describedby')"), "error");
    // The button, not the Enter key, this time.
    browser.press(&format!("{}{TAB}", phone.fresh_code()));
    assert_eq!(browser.ask("getComputedStyle(document.activeElement).outlineStyle"), "solid");
    browser.press(&ENTER.to_string());
    assert_eq!(browser.heading(), DONE);

    let verified = server.post(&client, "/v1/verify", &json!({"user": "ada", "code": phone.fresh_code()}));
    assert_eq!(verified.result(), "accepted");
    assert_eq!(server.get(&client, "/v1/users/ada").json(200)["mfaEnabled"], true);
    browser.visit(&link);
    assert_eq!(browser.heading(), GONE);
    let (_, log) = server.terminate();
    assert!(!log.contains("csl_"), "the token is in the log");
}

#[test]
fn pages_fit_a_narrow_screen_and_load_nothing() {
    let installation = Installation::new();
    let mail = MailServer::start("none", &[]);
    let server = serve(&installation, &mail);
    let client = installation.client();
    let browser = Browser::open(NARROW);
    for (place, language) in ["en", "de", "fr", "es", "pt", "ja", "ar"].into_iter().enumerate() {
        let name = format!("ada-with-a-name-that-is-as-long-as-it-may-be-without-a-gap-{language}");
        let email = format!("ada-{language}@example.com");
        let body = json!({"username": name, "email": email, "locale": language});
        let user = server.post(&client, "/v1/users", &body).json(201);
        let path = format!("/v1/users/{}/enrolment-links", user["id"].as_str().expect("an id"));
        server.post(&client, &path, &json!({})).json(201);

        let link = link_in_mail(&mail, place + 1);
        for address in [link.as_str(), &server.at("/enrol"), &server.at("/enrol?token=x")] {
            browser.visit(address);
            browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)");
            let width = browser.ask("document.documentElement.scrollWidth");
            assert!(width.as_u64().is_some_and(|width| width <= NARROW.into()), "{address}: {width}");
            let loaded = browser.ask("performance.getEntriesByType('resource').map(one => one.name)");
            assert_eq!(loaded, json!([]), "{address}");
        }
    }
}
