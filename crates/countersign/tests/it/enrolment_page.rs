//! Links and codes to set up an app by, and their page, through the router.

use crate::test_app::{Answer, Credentials, Otp, PASSWORD, Person, TestApp, at_once};
use countersign_core::{Channel, Letter, message::Words};
use data_encoding::BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// What is on a page, as a browser would show it.
struct Shown<'a>(&'a TestApp, Answer);

impl Shown<'_> {
    fn text(&self) -> String {
        self.1.shown()
    }

    /// The key that stands there to be typed.
    fn key(&self) -> String {
        let page = self.text();
        let (_, rest) = page.split_once("<code dir=\"ltr\">").expect("a key");
        rest.split('<').next().expect("its end").replace(' ', "")
    }

    /// What an app shows that took the key.
    fn code(&self) -> String {
        Otp::from_base32(&self.key()).code(self.0.now())
    }

    fn wrong_code(&self) -> String {
        Otp::from_base32(&self.key()).wrong_code(self.0.now())
    }

    #[track_caller]
    fn expect(self, status: u16, heading: &str) -> Self {
        assert_eq!(self.1.status.as_u16(), status, "{}", self.text());
        assert!(self.text().contains(&format!("<h1>{heading}</h1>")), "{}", self.text());
        self
    }
}

const SET_UP: &str = "Set up your authenticator app";
const DONE: &str = "Your app is set up";
const GONE: &str = "This link does not work";
const SPENT: &str = "Too many wrong codes";

async fn open<'a>(app: &'a TestApp, page: &str) -> Shown<'a> {
    Shown(app, app.get(page).await)
}

async fn type_in<'a>(app: &'a TestApp, page: &str, code: &str) -> Shown<'a> {
    Shown(app, app.post(page).form(&[("code", code)]).await)
}

async fn send(app: &TestApp, person: &Person<'_>, body: Value) -> Answer {
    app.advance(31);
    app.post(&person.path("/enrolment-links")).by(&app.root()).json(body).await
}

/// Has a link mailed; returns its path and query.
async fn linked(app: &TestApp, person: &Person<'_>) -> String {
    send(app, person, json!({})).await.expect_created();
    newest_link(app).await
}

/// Reads the newest link out of the outbox, as the worker would.
pub(crate) async fn newest_link(app: &TestApp) -> String {
    let (store, keys) = (&app.app.store, app.app.keys.as_ref());
    let claimed = store.claim(Channel::Mail, app.now(), Duration::from_secs(1), 100).await.expect("a claim");
    let link = claimed.iter().rev().find_map(|message| {
        let letter = Letter::open(message.organisation, message.user, message.id, &message.body, keys);
        match letter.expect("a letter").words {
            Words::EnrolmentLink { url } => Some(url.expose().clone()),
            _ => None,
        }
    });
    let link = link.expect("a link");
    link.strip_prefix("https://countersign.test").expect("ours").to_owned()
}

/// Signs in as far as the second step, and tries a code there.
async fn second_step(app: &TestApp, person: &Person<'_>, code: &str) -> Answer {
    let first = person.sign_in(PASSWORD).await.expect(400);
    assert_eq!(first.error(), "mfa_required");
    let token = first.text("mfa_token");
    app.token(&[("grant_type", crate::test_app::MFA_GRANT), ("mfa_token", &token), ("code", code)]).await
}

#[tokio::test]
async fn a_link_sets_up_the_app_once() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let page = linked(&app, &ada).await;

    let shown = open(&app, &page).await.expect(200, SET_UP);
    let again = open(&app, &page).await.expect(200, SET_UP);
    assert_eq!(shown.text(), again.text(), "opening changes nothing");
    type_in(&app, &page, &shown.code()).await.expect(200, DONE);

    open(&app, &page).await.expect(410, GONE);
    type_in(&app, &page, &shown.code()).await.expect(410, GONE);
    app.advance(30);
    assert!(ada.verify(shown.code()).await.accepted());
    let trail = app.audit_trail(&ada.id).await;
    insta::assert_snapshot!(trail, @"
    user.created by client
    factor.enrolled totp by client
    enrolment.link_sent EMAIL by client
    factor.activated totp by user
    verify.accepted totp by client
    ");
}

#[tokio::test]
async fn what_the_operator_sees_of_a_link_is_where_it_went() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;

    let sent = send(&app, &ada, json!({ "replace": false })).await.expect_created();

    assert_eq!(sent.text("destination"), "a•••@e•••.com");
    let listed = app.get("/v1/deliveries").by(&app.root()).await.expect_ok();
    assert_eq!(listed["items"][0]["subject"], "enrolment_link");
    assert_eq!(listed["items"][0]["id"], sent["delivery"]);
    let audited = app.get(&format!("/v1/audit?user={}", ada.id)).by(&app.root()).await.expect_ok();
    for answer in [&sent, &listed, &audited] {
        assert!(!answer.shown().contains("csl_") && !answer.shown().contains("ada@"), "{}", answer.shown());
    }
}

#[tokio::test]
async fn the_page_brings_all_it_needs_and_nothing_may_be_added() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let page = linked(&app, &ada).await;

    for shown in [open(&app, &page).await, open(&app, "/enrol").await, open(&app, "/enrol?token=x").await] {
        let text = shown.text();
        let style = text.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>"));
        let hash = BASE64.encode(&Sha256::digest(style.expect("a style sheet").0));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'"
        );
        assert_eq!(shown.1.header("content-security-policy"), Some(policy.as_str()));
        assert_eq!(shown.1.header("cache-control"), Some("no-store"));
        assert_eq!(shown.1.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(shown.1.header("x-frame-options"), Some("DENY"));
        assert_eq!(shown.1.header("content-type"), Some("text/html; charset=utf-8"));
        for sign in ["<script", " style=", "src=", "http://", "javascript:", " on"] {
            let found = text
                .replace("http://www.w3.org/2000/svg", "")
                .contains(&format!("{sign}{}", if sign == " on" { "click" } else { "" }));
            assert!(!found, "{sign} in {text}");
        }
    }
}

#[tokio::test]
async fn a_wrong_code_shows_the_same_key_and_the_tries_left_and_five_are_too_many() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let page = linked(&app, &ada).await;
    let shown = open(&app, &page).await;
    let wrong = shown.wrong_code();

    for left in ["4 tries are left", "3 tries are left", "2 tries are left", "One try is left"] {
        let refused = type_in(&app, &page, &wrong).await.expect(400, SET_UP);
        assert_eq!(refused.key(), shown.key());
        let text = refused.text();
        assert!(text.contains(left) && text.contains("<title>Error: "), "{text}");
        assert!(
            text.contains("aria-describedby=\"error\" autofocus") && text.contains("id=\"error\""),
            "{text}"
        );
    }
    type_in(&app, &page, &wrong).await.expect(410, SPENT);
    type_in(&app, &page, &shown.code()).await.expect(410, GONE);
}

#[tokio::test]
async fn what_cannot_be_a_code_costs_no_try() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let page = linked(&app, &ada).await;
    let shown = open(&app, &page).await;

    for typed in ["", "12345", "1234567", "abcdef", "<script>"] {
        let refused = type_in(&app, &page, typed).await.expect(400, SET_UP);
        assert!(refused.text().contains("Type the 6 digits"), "{}", refused.text());
    }
    let code = shown.code();
    type_in(&app, &page, &format!("{} {}", &code[..3], &code[3..])).await.expect(200, DONE);
}

#[tokio::test]
async fn a_link_is_dead_after_a_day_a_newer_one_a_reset_and_when_its_person_is_gone() {
    let app = TestApp::start().await;
    let root = app.root();
    let person = async |name: &str| app.user(name).await;

    let late = person("late").await;
    let page = linked(&app, &late).await;
    app.advance(24 * 3600 - 60);
    open(&app, &page).await.expect(200, SET_UP);
    app.advance(60);
    open(&app, &page).await.expect(410, GONE);

    let twice = person("twice").await;
    let page = linked(&app, &twice).await;
    let newer = linked(&app, &twice).await;
    open(&app, &page).await.expect(410, GONE);
    open(&app, &newer).await.expect(200, SET_UP);

    let reset = person("reset").await;
    let page = linked(&app, &reset).await;
    app.post(&reset.path("/reset")).by(&root).await.expect_ok();
    open(&app, &page).await.expect(410, GONE);

    let disabled = person("disabled").await;
    let page = linked(&app, &disabled).await;
    let shown = open(&app, &page).await;
    app.patch(&disabled.path("")).by(&root).json(json!({ "status": "disabled" })).await.expect_ok();
    type_in(&app, &page, &shown.code()).await.expect(410, GONE);

    let deleted = person("deleted").await;
    let page = linked(&app, &deleted).await;
    app.delete(&deleted.path("")).by(&root).await.expect(204);
    open(&app, &page).await.expect(410, GONE);
}

#[tokio::test]
async fn a_token_is_good_for_its_own_person_and_purpose_only() {
    let app = TestApp::start().await;
    let (ada, bob) = (app.user("ada").await, app.user("bob").await);
    let page = linked(&app, &ada).await;
    linked(&app, &bob).await;
    let (_, token) = page.split_once("csl_").expect("a token");
    let invitation = app.post(&ada.path("/invitation")).by(&app.root()).await.expect_created().text("token");

    let mut other = token.to_owned();
    other.replace_range(30..31, if &token[30..31] == "A" { "B" } else { "A" });
    for forged in [
        format!("csl_{other}"),
        format!("csi_{token}"),
        invitation.replace("csi_", "csl_"),
        invitation,
        "csl_".to_owned(),
        "%00".to_owned(),
    ] {
        open(&app, &format!("/enrol?token={forged}")).await.expect(410, GONE);
    }
    let accept = json!({ "token": format!("csi_{token}"), "password": PASSWORD });
    app.post("/v1/invitations/accept").json(accept).await.expect_problem(410, "token_gone");
    open(&app, &page).await.expect(200, SET_UP);
}

#[tokio::test]
async fn a_link_that_was_replaced_is_not_sent_any_more() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let first = send(&app, &ada, json!({})).await.expect_created().text("delivery");
    let second = send(&app, &ada, json!({})).await.expect_created().text("delivery");
    let state = async |id: &str| {
        app.get(&format!("/v1/deliveries/{id}")).by(&app.root()).await.expect_ok().text("state")
    };

    assert_eq!((state(&first).await.as_str(), state(&second).await.as_str()), ("superseded", "queued"));

    app.post(&ada.path("/enrolment-code")).by(&app.root()).await.expect_created();
    assert_eq!(state(&second).await, "superseded");
}

#[tokio::test]
async fn of_sixteen_who_finish_at_once_one_does() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let page = linked(&app, &ada).await;
    let code = open(&app, &page).await.code();

    let answers = at_once((0..16).map(|_| app.post(&page).form(&[("code", &code)]))).await;

    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 410));
    assert_eq!(app.count(&ada.id, "factor.activated").await, 1);
}

#[tokio::test]
async fn the_page_speaks_the_persons_language_or_else_the_browsers() {
    let app = TestApp::start().await;
    let (ada, bob) = (app.user("ada").await, app.user("bob").await);
    let locale = |locale: &str| json!({ "locale": locale });
    app.patch(&ada.path("")).by(&app.root()).json(locale("ar")).await.expect_ok();
    app.patch("/v1/organisations/main").by(&app.root()).json(locale("de-AT")).await.expect_ok();
    let (adas, bobs) = (linked(&app, &ada).await, linked(&app, &bob).await);
    let ask = async |page: &str, wanted: &str| app.get(page).header("accept-language", wanted).await.shown();

    let page = ask(&adas, "fr").await;
    assert!(page.contains("<html lang=\"ar\" dir=\"rtl\">"), "{page}");
    // Who said nothing reads what their browser says, else what the organisation's people do.
    assert!(ask(&bobs, "fr").await.contains("<html lang=\"fr\" dir=\"ltr\">"));
    assert!(ask(&bobs, "tlh").await.contains("<html lang=\"de\" dir=\"ltr\">"));
    for (wanted, tag) in [("fr-CA,en;q=0.5", "fr"), ("tlh,ja;q=0.1", "ja"), ("tlh", "en")] {
        assert!(ask("/enrol?token=x", wanted).await.contains(&format!("<html lang=\"{tag}\"")), "{wanted}");
        assert!(ask("/enrol", wanted).await.contains(&format!("<html lang=\"{tag}\"")), "{wanted}");
    }
}

#[tokio::test]
async fn every_page_is_said_in_every_language() {
    let app = TestApp::start().await;
    for tag in ["en", "de", "fr", "es", "pt", "ja", "ar"] {
        let ada = app.user(&format!("ada-{tag}")).await;
        app.patch(&ada.path("")).by(&app.root()).json(json!({ "locale": tag })).await.expect_ok();
        let page = linked(&app, &ada).await;
        let ask = async |page: &str| app.get(page).header("accept-language", tag).await;
        let shown = Shown(&app, ask(&page).await);
        let (code, wrong) = (shown.code(), shown.wrong_code());
        let form = |code: &str| [("code", code.to_owned()), ("username", "nobody".to_owned())];
        let answer = async |page: &str, code: &str| {
            let form = form(code);
            let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
            app.post(page).header("accept-language", tag).form(&form).await
        };

        let mut pages =
            vec![(shown.1, 200), (answer(&page, "1").await, 400), (answer(&page, &wrong).await, 400)];
        pages.push((answer(&page, &code).await, 200));
        pages.push((ask(&page).await, 410));
        pages.push((ask("/enrol").await, 200));
        pages.push((answer("/enrol", "000000000").await, 400));
        let page = linked(&app, &app.user(&format!("bob-{tag}")).await).await;
        for _ in 0..4 {
            answer(&page, "000000").await;
        }

        for (page, status) in pages {
            assert_eq!(page.status.as_u16(), status, "{tag}: {}", page.shown());
            assert!(page.shown().contains(&format!("<html lang=\"{tag}\"")), "{}", page.shown());
        }
    }
}

#[tokio::test]
async fn names_are_shown_as_they_are_and_run_nothing() {
    let app = TestApp::start().await;
    let name = json!({ "name": "<script>alert(1)</script> & \"Sons\"" });
    app.patch("/v1/organisations/main").by(&app.root()).json(name).await.expect_ok();
    let ada = app.user("ada").await;
    app.patch(&ada.path("")).by(&app.root()).json(json!({ "displayName": "<img src=x>" })).await.expect_ok();
    let page = linked(&app, &ada).await;

    let shown = open(&app, &page).await.expect(200, SET_UP).text();

    assert!(shown.contains("&lt;script&gt;alert(1)") && !shown.contains("<script"), "{shown}");
    let typed = [("username", "\"><script>"), ("code", "x")];
    let refused = app.post("/enrol").form(&typed).await.expect(400).shown();
    assert!(
        refused.contains("value=\"&quot;&gt;&lt;script&gt;\"") && !refused.contains("<script"),
        "{refused}"
    );
}

#[tokio::test]
async fn without_an_address_or_a_provider_no_link_is_promised() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    app.patch(&ada.path("")).by(&app.root()).json(json!({ "email": null })).await.expect_ok();
    let refused = send(&app, &ada, json!({})).await.expect_problem(400, "invalid_value");
    assert_eq!(refused["field"], "email");

    let app = TestApp::start_with(|config| config.delivery.mail = Vec::new()).await;
    let ada = app.user("ada").await;
    send(&app, &ada, json!({ "replace": true })).await.expect_problem(409, "channel_not_configured");
    assert_eq!(app.count(&ada.id, "enrolment.link_sent").await, 0);
}

#[tokio::test]
async fn links_to_one_address_are_counted_whoever_asks() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    for _ in 0..5 {
        send(&app, &ada, json!({})).await.expect_created();
    }
    let refused = send(&app, &ada, json!({})).await.expect_problem(429, "sent_too_often");
    assert!(refused["retryAfter"].as_u64().is_some_and(|wait| wait > 0));

    let bob = app.user("bob").await;
    let same = json!({ "email": "ada@example.com" });
    let taken = app.patch(&bob.path("")).by(&app.root()).json(same).await;
    if taken.status == 200 {
        send(&app, &bob, json!({})).await.expect_problem(429, "sent_too_often");
    }
}

#[tokio::test]
async fn re_keying_ends_what_was_and_the_mailed_key_finishes_the_next_sign_in() {
    let app = TestApp::start().await;
    let ada = app.user("ada").with_totp().with_password().await;
    let signed_in = second_step(&app, &ada, &ada.code()).await.expect_ok();
    let session = Credentials::bearer(&signed_in.text("access_token"));

    send(&app, &ada, json!({ "replace": true })).await.expect_created();
    let page = newest_link(&app).await;

    app.get("/v1/me").by(&session).await.expect_problem(401, "invalid_token");
    app.advance(30);
    assert_eq!(second_step(&app, &ada, &ada.code()).await.expect(400).error(), "invalid_grant");
    let key = open(&app, &page).await;
    second_step(&app, &ada, &key.code()).await.expect_ok();
    open(&app, &page).await.expect(410, GONE);
    assert_eq!(app.count(&ada.id, "factor.activated").await, 1);
}

// A stolen password must not come before the one who reads the mail.
#[tokio::test]
async fn a_password_alone_enrols_nothing_while_a_link_is_open() {
    let app = TestApp::start().await;
    let ada = app.user("ada").with_password().await;
    app.patch(&ada.path("")).by(&app.root()).json(json!({ "mfaEnabled": true })).await.expect_ok();
    let page = linked(&app, &ada).await;

    let first = ada.sign_in(PASSWORD).await.expect(400);
    assert_eq!(first["enrolment_required"], false, "{}", first.shown());
    let body = json!({ "mfa_token": first.text("mfa_token") });
    let refused = app.post("/oauth/enrol").json(json!({ "mfaToken": first.text("mfa_token") })).await;
    assert!(!refused.status.is_success(), "{} {body}", refused.shown());

    let key = open(&app, &page).await.expect(200, SET_UP);
    second_step(&app, &ada, &key.code()).await.expect_ok();
}

async fn told(app: &TestApp, username: &str, code: &str) -> Answer {
    app.post("/enrol").form(&[("username", username), ("code", code)]).await
}

#[tokio::test]
async fn a_code_opens_the_page_once() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let issued = app.post(&ada.path("/enrolment-code")).by(&app.root()).await.expect_created();
    assert_eq!(issued.text("page"), "https://countersign.test/enrol");
    assert_eq!(issued.text("code").len(), 9);

    let code = issued.text("code");
    let opened =
        told(&app, " ADA@example.com", &format!("{}-{} {}", &code[..3], &code[3..6], &code[6..])).await;

    let opened = opened.expect(303);
    let page = format!("/enrol{}", opened.header("location").expect("a place"));
    let shown = open(&app, &page).await.expect(200, SET_UP);
    told(&app, "ada", &code).await.expect(400);
    type_in(&app, &page, &shown.code()).await.expect(200, DONE);
    let again = app.post(&ada.path("/enrolment-code")).by(&app.root()).await;
    again.expect_problem(409, "already_enrolled");
    insta::assert_snapshot!(app.audit_trail(&ada.id).await, @"
    user.created by client
    factor.enrolled totp by client
    enrolment.code_issued by client
    enrolment.code_accepted by user
    factor.activated totp by user
    ");
}

#[tokio::test]
async fn unknown_people_and_wrong_codes_look_the_same_and_each_takes_a_commit() {
    let app = TestApp::start().await;
    let (ada, bob) = (app.user("ada").await, app.user("bob").await);
    app.post(&ada.path("/enrolment-code")).by(&app.root()).await.expect_created();
    let _ = bob;

    let mut pages = Vec::new();
    for name in ["ada", "bob", "nobody", "nobody@example.com"] {
        let before = app.commits();
        let refused = told(&app, name, "000000000").await.expect(400);
        assert_eq!(app.commits() - before, 1, "{name}");
        pages.push(refused.shown().replace(&format!("value=\"{name}\""), ""));
    }

    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:?}");
    assert_eq!(app.count(&ada.id, "enrolment.code_rejected").await, 1);
}

#[tokio::test]
async fn five_wrong_codes_and_the_right_one_opens_nothing() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let code = app.post(&ada.path("/enrolment-code")).by(&app.root()).await.expect_created().text("code");
    let wrong = if code == "000000000" { "000000001" } else { "000000000" };

    for _ in 0..5 {
        told(&app, "ada", wrong).await.expect(400);
    }

    told(&app, "ada", &code).await.expect(400);
    assert_eq!(app.count(&ada.id, "enrolment.code_rejected").await, 5);
}

#[tokio::test]
async fn a_code_is_good_in_its_own_organisation_and_for_its_time() {
    let app = TestApp::start().await;
    app.another_organisation("branch").await;
    let owner = app.owner().await;
    let eve = app.user("eve").in_organisation("branch", &owner).await;
    let body = json!({ "expiresInSeconds": 600 });
    let issued = app.post(&eve.path("/enrolment-code")).by(&owner).json(body).await.expect_created();
    assert_eq!(issued.text("page"), "https://countersign.test/enrol?organisation=branch");
    let form = [("username", "eve"), ("code", &issued.text("code"))];

    app.post("/enrol").form(&form).await.expect(400);
    app.post("/enrol?organisation=nowhere").form(&form).await.expect(400);
    app.advance(599);
    app.post("/enrol?organisation=branch").form(&form).await.expect(303);

    for seconds in [59, 86_401] {
        let body = json!({ "expiresInSeconds": seconds });
        let refused = app.post(&eve.path("/enrolment-code")).by(&owner).json(body).await;
        assert_eq!(refused.expect_problem(400, "invalid_value")["field"], "expiresInSeconds");
    }
}

#[tokio::test]
async fn an_address_tries_as_often_as_it_may_sign_in() {
    let app = TestApp::start_with(|config| config.limits.sign_ins = 1).await;

    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(told(&app, "nobody", "000000000").await);
    }

    let busy = answers.iter().find(|answer| answer.status == 429).expect("too many");
    assert!(busy.shown().contains("<h1>One moment, please</h1>"), "{}", busy.shown());
}
