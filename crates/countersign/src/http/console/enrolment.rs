//! `/enrol`: the page of an enrolment link, and without a link the form for an enrolment code.

use super::{language::Language, page::Page};
use crate::{
    http::{
        SharedApp,
        caller::{WithinSignInLimit, anonymous},
        extract::Form,
        problem::Problem,
        request::RequestInfo,
    },
    qr::QrCode,
    service::enrolment_links::{self, Confirmed, Told},
};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use countersign_core::{Code, enrolment_code};
use http::{HeaderMap, StatusCode, header};
use minijinja::Value;
use serde::Deserialize;

/// What the address says.
#[derive(Default, Deserialize)]
pub(super) struct Asked {
    token: Option<String>,
    organisation: Option<String>,
}

/// What was typed.
#[derive(Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    code: String,
    #[serde(default)]
    username: String,
}

/// What the address says; one that cannot be read says nothing.
type AskedFor = Result<Query<Asked>, QueryRejection>;
/// Within the limit, or the page that says so.
type Limit = Result<WithinSignInLimit, Problem>;

/// Shows the page. Changes nothing: whoever looks for harm in mail opens links, too.
pub(super) async fn show(
    limit: Limit,
    info: RequestInfo,
    headers: HeaderMap,
    State(app): State<SharedApp>,
    asked: AskedFor,
) -> Result<Page, Problem> {
    let asked_for = Language::asked_for(&headers);
    let reader = asked_for.unwrap_or_else(Language::fallback);
    if limit.is_err() {
        return Ok(busy(reader));
    }
    let Some(token) = asked.unwrap_or_default().0.token else { return Ok(told(reader, "")) };
    match enrolment_links::open(&app, &token, info.now).await? {
        Some(shown) => set_up(&shown, asked_for),
        None => Ok(gone(reader)),
    }
}

/// Takes what was typed: with a link the first code of the app, without one an enrolment code.
pub(super) async fn submit(
    limit: Limit,
    info: RequestInfo,
    headers: HeaderMap,
    State(app): State<SharedApp>,
    asked: AskedFor,
    Form(typed): Form<Typed>,
) -> Result<Response, Problem> {
    let asked_for = Language::asked_for(&headers);
    let reader = asked_for.unwrap_or_else(Language::fallback);
    if limit.is_err() {
        return Ok(busy(reader).into_response());
    }
    let asked = asked.unwrap_or_default().0;
    match asked.token {
        Some(token) => Ok(confirm(&app, &info, asked_for, token, &typed.code).await?.into_response()),
        None => redeem(&app, &info, reader, asked.organisation, typed).await,
    }
}

async fn confirm(
    app: &SharedApp,
    info: &RequestInfo,
    asked_for: Option<&'static Language>,
    token: String,
    typed: &str,
) -> Result<Page, Problem> {
    let Some(shown) = enrolment_links::open(app, &token, info.now).await? else {
        return Ok(gone(asked_for.unwrap_or_else(Language::fallback)));
    };
    let Some(code) = digits(typed, shown.digits.into()) else {
        return Ok(set_up(&shown, asked_for)?.with("error", "malformed").status(StatusCode::BAD_REQUEST));
    };
    let language = language_of(&shown, asked_for);
    Ok(match enrolment_links::confirm(app, anonymous(info), token, code).await? {
        Confirmed::Done => Page::new(language, "done").with("product", isolated(&shown.product)),
        Confirmed::Wrong { attempts_left: 0 } => Page::new(language, "spent").status(StatusCode::GONE),
        Confirmed::Wrong { attempts_left } => set_up(&shown, asked_for)?
            .with("error", "wrong")
            .with("left", attempts_left)
            .status(StatusCode::BAD_REQUEST),
        Confirmed::Gone => gone(language),
    })
}

async fn redeem(
    app: &SharedApp,
    info: &RequestInfo,
    reader: &'static Language,
    organisation: Option<String>,
    typed: Typed,
) -> Result<Response, Problem> {
    let refused = || {
        let page = told(reader, &typed.username).with("error", "refused");
        Ok(page.status(StatusCode::BAD_REQUEST).into_response())
    };
    let Some(code) = digits(&typed.code, enrolment_code::CODE_DIGITS) else { return refused() };
    let told = Told { organisation, username: typed.username.clone(), code };
    match enrolment_links::redeem(app, anonymous(info), told).await? {
        // Relative, so that it holds wherever a proxy put this path.
        Some(token) => {
            let page = format!("?token={}", token.expose());
            Ok((StatusCode::SEE_OTHER, [(header::LOCATION, page)]).into_response())
        }
        None => refused(),
    }
}

/// Reads a code of so many digits; what cannot be one costs no try.
fn digits(typed: &str, count: usize) -> Option<Code> {
    let code = Code::parse("code", typed).ok()?;
    let is_code = code.as_str().len() == count && code.as_str().bytes().all(|byte| byte.is_ascii_digit());
    is_code.then_some(code)
}

/// Returns the language of a person's page: what they said, else what their browser says, else the organisation's.
fn language_of(shown: &enrolment_links::Page, asked_for: Option<&'static Language>) -> &'static Language {
    match (&shown.locale, asked_for) {
        (Some(locale), _) => Language::of(locale),
        (None, Some(language)) => language,
        (None, None) => Language::of(&shown.organisation_locale),
    }
}

/// The page on which an app is set up.
fn set_up(shown: &enrolment_links::Page, asked_for: Option<&'static Language>) -> Result<Page, Problem> {
    let qr = QrCode::new(shown.uri.expose())?.svg();
    Ok(Page::new(language_of(shown, asked_for), "app")
        .with("product", isolated(&shown.product))
        .with("account", isolated(&shown.account))
        .with("key", groups(shown.key.expose()))
        .with("uri", shown.uri.expose().as_str())
        .with("qr", Value::from_safe_string(qr))
        .with("digits", shown.digits)
        .with("left", shown.attempts_left)
        .with("error", ""))
}

/// The form for an enrolment code.
fn told(reader: &'static Language, username: &str) -> Page {
    Page::new(reader, "told")
        .with("username", username)
        .with("digits", enrolment_code::CODE_DIGITS)
        .with("error", "")
}

fn gone(reader: &'static Language) -> Page {
    Page::new(reader, "gone").status(StatusCode::GONE)
}

fn busy(reader: &'static Language) -> Page {
    Page::new(reader, "busy").status(StatusCode::TOO_MANY_REQUESTS)
}

/// Keeps a name in its own direction within a sentence that may run the other way (Unicode Standard Annex 9, §2.4).
fn isolated(name: &str) -> String {
    format!("\u{2068}{name}\u{2069}")
}

/// Returns a key in groups of four, as it is read and typed.
fn groups(key: &str) -> String {
    let characters: Vec<char> = key.chars().collect();
    characters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}
