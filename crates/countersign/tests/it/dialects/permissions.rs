//! Who may do what through a dialect: every call of every dialect against every kind of caller.
//!
//! What a call asks for stands beside its route; what a caller may do stands in the table of `role.rs`.

use crate::{
    permissions::{Caller, Is, callers, strangers},
    test_app::{Answer, Credentials, TestApp},
};
use countersign::http::dialects::{Dialect, Needs, Row, rows};

/// An id nothing has.
const NOBODYS: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// A call about somebody.
struct About<'a> {
    app: &'a TestApp,
    dialect: Dialect,
    user: String,
    username: String,
}

impl<'a> About<'a> {
    async fn somebody(app: &'a TestApp, dialect: Dialect) -> Self {
        let person = app.user(&app.fresh_name()).with_totp().await;
        Self { app, dialect, user: person.id.clone(), username: person.username.clone() }
    }

    async fn ask(&self, row: &Row, by: &Credentials) -> Answer {
        let path = format!("{}{}", self.dialect.prefix(), self.filled(row));
        let call = self.app.call(row.method.clone(), &path).by(by);
        match row.method.as_str() {
            "GET" | "DELETE" => call.await,
            _ => call.body("application/json", b"{}".to_vec()).await,
        }
    }

    fn filled(&self, row: &Row) -> String {
        row.path.split('/').map(|segment| self.fill(segment)).collect::<Vec<_>>().join("/")
    }

    fn fill(&self, segment: &str) -> String {
        let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            return segment.to_owned();
        };
        match name.to_ascii_lowercase().as_str() {
            "username" => self.username.clone(),
            "user" | "id" | "userid" => self.user.clone(),
            "version" => "v8".to_owned(),
            "organisation" | "orggroupid" | "orgid" | "customerid" | "customer" => {
                self.app.organisation.to_string()
            }
            _ => NOBODYS.to_owned(),
        }
    }
}

/// Tells whether a caller lacks what a call asks for, when it is about somebody else.
fn lacks(dialect: Dialect, caller: &Caller, needs: Needs) -> bool {
    // RSA's clients sign, or bring a token; the vendor takes no passwords.
    if dialect == Dialect::Rsa && needs != Needs::Nothing && caller.name.ends_with("by secret") {
        return true;
    }
    match needs {
        Needs::Nothing => false,
        Needs::May(permission) | Needs::MyselfOr(permission) => caller.refusal(permission).is_some(),
        Needs::Myself => !matches!(caller.is, Is::Person(_)),
    }
}

/// Promise 4.
#[tokio::test]
async fn whoever_lacks_the_permission_is_refused_in_every_dialect_and_changes_nothing() {
    let app = TestApp::start().await;
    let callers = callers(&app).await;
    for dialect in Dialect::ALL {
        let about = About::somebody(&app, dialect).await;
        let before = app.heads().await;
        for row in rows(dialect) {
            for caller in callers.iter().filter(|caller| lacks(dialect, caller, row.needs)) {
                let answer = about.ask(&row, &caller.credentials).await;
                let context =
                    format!("{dialect} {} {} by {}: {}", row.method, row.path, caller.name, answer.shown());
                assert!([401, 403].contains(&answer.status.as_u16()), "{} {context}", answer.status);
            }
        }
        assert_eq!(app.heads().await, before, "{dialect}");
    }
}

#[tokio::test]
async fn whoever_has_the_permission_gets_through_in_every_dialect() {
    let app = TestApp::start().await;
    let callers = callers(&app).await;
    for dialect in Dialect::ALL {
        for row in rows(dialect).into_iter().filter(|row| row.needs != Needs::Nothing) {
            let may =
                |caller: &&Caller| !lacks(dialect, caller, row.needs) && !matches!(caller.is, Is::Unknown(_));
            for caller in callers.iter().filter(may).filter(|_| row.needs != Needs::Myself) {
                let about = About::somebody(&app, dialect).await;
                let answer = about.ask(&row, &caller.credentials).await;
                let context =
                    format!("{dialect} {} {} by {}: {}", row.method, row.path, caller.name, answer.shown());
                assert!(![401, 403].contains(&answer.status.as_u16()), "{} {context}", answer.status);
                assert!(answer.status.as_u16() < 500, "{} {context}", answer.status);
            }
        }
    }
}

/// Promise 4: no call crosses organisations.
#[tokio::test]
async fn another_organisations_administrator_reaches_nobody_by_a_dialect() {
    let app = TestApp::start().await;
    let strangers = strangers(&app).await;
    for dialect in Dialect::ALL {
        let about = About::somebody(&app, dialect).await;
        let before = app.heads().await;
        for row in rows(dialect).into_iter().filter(|row| row.needs != Needs::Nothing) {
            // SafeShare serves the whole installation: without naming anybody, strangers see their own.
            if dialect == Dialect::SafeShare && !row.path.contains('{') {
                continue;
            }
            for (name, stranger) in &strangers {
                let answer = about.ask(&row, stranger).await;
                let context = format!("{dialect} {} {} by {name}: {}", row.method, row.path, answer.shown());
                assert!([401, 403, 404].contains(&answer.status.as_u16()), "{} {context}", answer.status);
            }
        }
        assert_eq!(app.heads().await, before, "{dialect}");
    }
}

/// An unauthenticated caller learns nothing else, not even whether their request is well-formed.
#[tokio::test]
async fn every_call_that_asks_for_something_refuses_nobody_first() {
    let app = TestApp::start().await;
    for dialect in Dialect::ALL {
        let about = About::somebody(&app, dialect).await;
        for row in rows(dialect).into_iter().filter(|row| row.needs != Needs::Nothing) {
            let answer = about.ask(&row, &Credentials::NONE).await;

            let refused = if dialect == Dialect::Rsa { 403 } else { 401 };
            assert_eq!(answer.status, refused, "{dialect} {} {}: {}", row.method, row.path, answer.shown());
            assert_ne!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{}", row.path);
        }
    }
}

#[tokio::test]
async fn people_of_another_organisation_are_not_found_in_any_dialect() {
    let app = TestApp::start().await;
    app.another_organisation("acme").await;
    let owner = app.owner().await;
    let admin = app.user("the-admin").with_role("admin").with_password().await.session().await;
    for dialect in Dialect::ALL {
        let stranger = app.user(&app.fresh_name()).in_organisation("acme", &owner).await;
        let (user, username) = (stranger.id.clone(), stranger.username.clone());
        let about = About { app: &app, dialect, user, username };
        let before = app.heads().await;
        for row in rows(dialect).into_iter().filter(|row| row.needs != Needs::Nothing) {
            let path = about.filled(&row);
            if !path.contains(&about.user) && !path.contains(&about.username) {
                continue;
            }
            let answer = about.ask(&row, &admin).await;
            // RSA looks at the body before it looks for the person.
            let expected: &[u16] = if dialect == Dialect::Rsa { &[400, 404] } else { &[404] };
            let context = format!("{dialect} {} {}: {}", row.method, row.path, answer.shown());
            assert!(expected.contains(&answer.status.as_u16()), "{} {context}", answer.status);
        }
        assert_eq!(app.heads().await, before, "{dialect}");
    }
}
