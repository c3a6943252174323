//! User Details and what answers like it: how clients find the id that all other calls take.

use super::{body, caller::Admin, view::UserView};
use crate::{
    app::{App, Asker},
    error::Result,
    http::{
        SharedApp,
        caller::permit,
        extract::{Json, Raw, Segments},
        problem::Problem,
    },
    service::users,
};
use axum::extract::State;
use countersign_core::{Handle, User, profile::matching_key, refusal::Invalid};
use serde::Deserialize;

/// A user, named by address or by name.
#[derive(Deserialize)]
pub(super) struct Named {
    email: Option<String>,
    username: Option<String>,
}

#[derive(Deserialize)]
struct LookupBody {
    #[serde(flatten)]
    named: Named,
    /// There is no directory to synchronise with first.
    #[serde(default, rename = "searchUnsynched", deserialize_with = "body::truth")]
    _search_unsynched: Option<bool>,
}

pub(super) async fn lookup(
    who: Admin<permit::ReadUsers>,
    State(app): State<SharedApp>,
    raw: Raw,
) -> Result<Json<UserView>, Problem> {
    raw.expect_json()?;
    let body: LookupBody = body::read(&raw)?;
    Ok(shown(&body.named.find(&app, &who.asker).await?, &who.asker))
}

impl Named {
    /// Finds the user. Who is named twice must be the same both times.
    pub(super) async fn find(self, app: &App, asker: &Asker) -> Result<User> {
        let said = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        match (said(self.email), said(self.username)) {
            (None, None) => Err(Invalid::new("email", "expected email or username").into()),
            (Some(email), None) => by_email(app, asker, &email).await,
            (None, Some(username)) => by_username(app, asker, &username).await,
            (Some(email), Some(username)) => {
                let user = by_email(app, asker, &email).await?;
                if user.username.key() == matching_key(&username) {
                    return Ok(user);
                }
                Err(Invalid::new("username", "email and username name different users").into())
            }
        }
    }
}

async fn by_email(app: &App, asker: &Asker, email: &str) -> Result<User> {
    users::get(app, asker, &Handle::email(email)).await
}

/// By name only: what looks like an id or a number is a name here, and nobody's.
async fn by_username(app: &App, asker: &Asker, username: &str) -> Result<User> {
    users::get(app, asker, &Handle::Username(matching_key(username))).await
}

/// Says that a user is as fresh as can be.
pub(super) async fn synchronise(
    who: Admin<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<Json<UserView>, Problem> {
    let user = users::get(&app, &who.asker, &body::user_id(&user)?.into()).await?;
    Ok(shown(&user, &who.asker))
}

fn shown(user: &User, asker: &Asker) -> Json<UserView> {
    Json::ok(UserView::of(user, &asker.organisation, asker.call.now))
}
