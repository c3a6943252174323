//! `users/export`: people as CSV or XML.

use super::{
    Mounted,
    accounts::{Account, LONGEST_PAGE},
    person, typed,
    version::Version,
};
use crate::{
    http::{
        SharedApp,
        caller::Known,
        extract::{Raw, Segments},
        problem::Problem,
    },
    service::users,
    store::UserFilter,
};
use axum::{extract::State, response::Response};
use countersign_core::{Permission, User, profile::matching_key};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use std::fmt::Write;

/// The columns, and the elements.
const COLUMNS: [&str; 6] = ["Id", "Name", "Description", "Role", "Type", "MfaEnabled"];

/// Which people; all of them if nothing is said.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExportBody {
    name_filter: Option<String>,
    user_ids: Option<Vec<String>>,
}

/// Exports people: as XML if that is what the caller accepts, else as CSV.
pub(super) async fn export(
    known: Known,
    State(app): State<SharedApp>,
    mounted: Mounted,
    Segments(version): Segments<String>,
    headers: HeaderMap,
    raw: Raw,
) -> Result<Response, Problem> {
    let version = Version::parse(&version)?;
    known.asker(Permission::ReadUsers)?;
    let asked = if raw.bytes.trim_ascii().is_empty() { ExportBody::default() } else { super::body(&raw)? };
    let people = people(&app, &known, asked).await?;
    let rows: Vec<[String; 6]> =
        people.iter().map(|user| row(&Account::new(user, version, &mounted))).collect();
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (kind, name, text) = if accepts.to_ascii_lowercase().contains("xml") {
        ("application/xml; charset=utf-8", "attachment; filename=\"users.xml\"", xml(&rows))
    } else {
        ("text/csv; charset=utf-8", "attachment; filename=\"users.csv\"", csv(&rows))
    };
    let mut answer = typed(StatusCode::OK, kind, text.into_bytes());
    answer.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(answer)
}

async fn people(app: &SharedApp, known: &Known, asked: ExportBody) -> Result<Vec<User>, Problem> {
    let asker = known.asker(Permission::ReadUsers)?;
    if let Some(ids) = asked.user_ids {
        let mut people = Vec::new();
        for id in ids.iter().take(LONGEST_PAGE) {
            people.extend(person(app, asker.organisation.id, id).await?);
        }
        return Ok(people);
    }
    let filter = asked.name_filter.map_or(UserFilter::All, |name| UserFilter::Username(matching_key(&name)));
    Ok(users::people(app, &asker, &filter, None, 0, LONGEST_PAGE).await?.0)
}

fn row(account: &Account) -> [String; 6] {
    [
        account.id.clone(),
        account.name.clone(),
        account.description.clone(),
        account.role.to_owned(),
        account.kind.to_owned(),
        account.mfa_enabled.to_string(),
    ]
}

fn csv(rows: &[[String; 6]]) -> String {
    let line = |cells: Vec<String>| format!("{}\r\n", cells.join(","));
    let head = line(COLUMNS.map(str::to_owned).to_vec());
    rows.iter().fold(head, |text, row| text + &line(row.iter().map(|cell| quoted(cell)).collect()))
}

/// Quotes a cell (RFC 4180), and keeps spreadsheets from taking it for a formula.
fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

fn xml(rows: &[[String; 6]]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Users>\n");
    for row in rows {
        text.push_str("  <User>");
        for (name, cell) in COLUMNS.iter().zip(row) {
            write!(text, "<{name}>{}</{name}>", escaped(cell)).expect("writing to a string does not fail");
        }
        text.push_str("</User>\n");
    }
    text + "</Users>\n"
}

fn escaped(cell: &str) -> String {
    cell.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
