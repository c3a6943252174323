//! User Search, by a part of the address.

use super::{body, caller::Admin, view::UserView};
use crate::{
    app::{App, Asker},
    http::{
        SharedApp,
        caller::permit,
        dialects::renamed,
        extract::{Json, Raw},
        problem::Problem,
    },
    service::users,
    store::{SortKey, Sorting, UserFilter},
};
use axum::extract::State;
use countersign_core::{profile::matching_key, refusal::Invalid};
use http::Uri;
use serde::{Deserialize, Serialize};

/// The most users of a page, and how many there are if nothing is said.
const PAGE: u64 = 25;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SearchBody {
    email_like: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SearchQuery {
    page_size: Option<u64>,
    page_number: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    total_pages: u64,
    total_elements: u64,
    elements: Vec<UserView>,
}

/// Returns the first page alone.
pub(super) async fn search_v1(
    who: Admin<permit::ReadUsers>,
    State(app): State<SharedApp>,
    uri: Uri,
    raw: Raw,
) -> Result<Json<Vec<UserView>>, Problem> {
    let query = SearchQuery { page_number: None, ..body::query(&uri)? };
    Ok(Json::ok(search(&app, &who.asker, &query, &raw).await?.elements))
}

pub(super) async fn search_v2(
    who: Admin<permit::ReadUsers>,
    State(app): State<SharedApp>,
    uri: Uri,
    raw: Raw,
) -> Result<Json<Found>, Problem> {
    Ok(Json::ok(search(&app, &who.asker, &body::query(&uri)?, &raw).await?))
}

async fn search(app: &App, asker: &Asker, query: &SearchQuery, raw: &Raw) -> Result<Found, Problem> {
    let size = query.page_size.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&size) {
        return Err(Invalid::new("pageSize", format!("expected 1 to {PAGE}")).into());
    }
    let body: SearchBody = body::read(raw)?;
    let part = matching_key(&body.email_like);
    if part.is_empty() {
        return Err(Invalid::new("emailLike", "expected a part of an address").into());
    }
    let (filter, sorting) =
        (UserFilter::EmailContains(part), Sorting { by: SortKey::Email, descending: false });
    let offset = query.page_number.unwrap_or(0).saturating_mul(size);
    let limit = usize::try_from(size).expect("twenty-five at most");
    let found = users::people(app, asker, &filter, Some(sorting), offset, limit).await;
    let theirs = [("offset", "pageNumber"), ("search", "emailLike")];
    let (users, total) = found.map_err(|error| renamed(error, &theirs))?;
    let shown = users.iter().map(|user| UserView::of(user, &asker.organisation, asker.call.now));
    Ok(Found { total_pages: total.div_ceil(size), total_elements: total, elements: shown.collect() })
}
