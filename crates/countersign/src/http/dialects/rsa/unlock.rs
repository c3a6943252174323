//! Unlock User Tokencodes. Every answer of it shows the state of all methods, the one of a failure too.

use super::{body, caller::Admin};
use crate::{
    http::{
        SharedApp,
        caller::permit,
        extract::{Json, Raw, Segments},
        problem::Problem,
        request::RequestInfo,
    },
    service::locks,
};
use axum::extract::State;
use countersign_core::{Method, Timestamp, User, UserId, refusal::Invalid};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UnlockBody {
    unlock_methods: BTreeSet<Lockable>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Lockable {
    Token,
    Sms,
    Voice,
}

impl From<Lockable> for Method {
    fn from(lockable: Lockable) -> Self {
        match lockable {
            Lockable::Token => Self::Token,
            Lockable::Sms => Self::Sms,
            Lockable::Voice => Self::Voice,
        }
    }
}

/// What is locked: exactly these members.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LockStates {
    user_id: UserId,
    is_token_locked: bool,
    is_sms_locked: bool,
    is_voice_locked: bool,
}

impl LockStates {
    fn of(user: &User, now: Timestamp) -> Self {
        let is_locked = |method| user.locks.is_locked(method, now).is_some();
        Self {
            user_id: user.id,
            is_token_locked: is_locked(Method::Token),
            is_sms_locked: is_locked(Method::Sms),
            is_voice_locked: is_locked(Method::Voice),
        }
    }
}

pub(super) async fn unlock(
    who: Admin<permit::WriteLocks>,
    State(app): State<SharedApp>,
    info: RequestInfo,
    Segments(user): Segments<String>,
    raw: Raw,
) -> Result<Json<LockStates>, Problem> {
    let id = body::user_id(&user)?;
    let body: UnlockBody = body::read(&raw)?;
    if body.unlock_methods.is_empty() {
        return Err(Invalid::new("unlockMethods", "expected at least one of TOKEN, SMS and VOICE").into());
    }
    let methods = body.unlock_methods.into_iter().map(Method::from).collect();

    let (user, failure) = locks::unlock_what_can_be(&app, &who.asker, id, methods).await?;
    let states = LockStates::of(&user, info.now);
    Ok(match failure {
        None => Json::ok(states),
        Some(failure) => {
            Problem::from(failure).log(&info.id);
            Json(StatusCode::INTERNAL_SERVER_ERROR, states)
        }
    })
}
