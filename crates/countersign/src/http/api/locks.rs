//! Locks: what is locked, and unlocking it.

use crate::{
    http::{
        SharedApp,
        caller::{May, permit},
        extract::{Json, OptionalBody, Segments, handle},
        problem::Problem,
    },
    service::locks,
};
use axum::extract::State;
use countersign_core::{Method, Timestamp, User, lock::Until};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A person's locks.
#[derive(Serialize, ToSchema)]
pub struct LocksView {
    /// Each method's state.
    items: Vec<LockView>,
    /// Consecutive failures over all methods; at 100 everything is locked until unlocked.
    failures: u32,
    /// Whether the password is locked now.
    #[serde(rename = "passwordLocked")]
    password_locked: bool,
}

/// One method's state.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockView {
    /// `TOKEN`, `SMS`, `VOICE`, `EMAIL`, `WEBAUTHN` or `RECOVERY`.
    method: &'static str,
    /// Whether it is locked now.
    locked: bool,
    /// Consecutive failures.
    failures: u32,
    /// When it was locked last.
    locked_at: Option<String>,
    /// Until when it is locked; null with `locked`: until somebody unlocks it.
    locked_until: Option<String>,
}

impl LocksView {
    /// Shows a person's locks at a point in time.
    pub fn new(user: &User, now: Timestamp) -> Self {
        let view = |method: Method| {
            let (lock, until) = (user.locks.of(method), user.locks.is_locked(method, now));
            LockView {
                method: method.name(),
                locked: until.is_some(),
                failures: lock.failures,
                locked_at: lock.locked_at.map(|at| at.to_string()),
                locked_until: match until {
                    Some(Until::Time(at)) => Some(at.to_string()),
                    Some(Until::Unlocked) | None => None,
                },
            }
        };
        Self {
            items: Method::ALL.into_iter().map(view).collect(),
            failures: user.locks.failures(),
            password_locked: user.is_password_locked(now),
        }
    }
}

/// What to unlock.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnlockBody {
    /// The methods; all if left out.
    methods: Option<Vec<String>>,
    /// Whether to unlock the password, too.
    password: Option<bool>,
}

/// Shows what is locked.
#[utoipa::path(
    get, path = "/v1/users/{user}/locks", tag = "locks", security(("token" = ["users:read"])),
    params(("user" = String, Path, description = "id, number or username")),
    responses((status = 200, body = LocksView)),
)]
pub async fn list(
    who: May<permit::ReadUsers>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
) -> Result<Json<LocksView>, Problem> {
    let user = app.user(who.asker.organisation.id, &handle(&user)?).await?;
    Ok(Json::ok(LocksView::new(&user, who.asker.call.now)))
}

/// Unlocks methods: clears the lock and the count.
#[utoipa::path(
    post, path = "/v1/users/{user}/unlock", tag = "locks", security(("token" = ["locks:write"])),
    params(("user" = String, Path, description = "id, number or username")),
    request_body = Option<UnlockBody>, responses((status = 200, body = LocksView)),
)]
pub async fn unlock(
    who: May<permit::WriteLocks>,
    State(app): State<SharedApp>,
    Segments(user): Segments<String>,
    OptionalBody(body): OptionalBody<UnlockBody>,
) -> Result<Json<LocksView>, Problem> {
    let parse = |(place, name): (usize, &String)| Method::parse(&format!("methods[{place}]"), name);
    let methods = match &body.methods {
        None => Method::ALL.to_vec(),
        Some(names) => names.iter().enumerate().map(parse).collect::<Result<_, _>>()?,
    };
    let password = body.password.unwrap_or_default();
    let user = locks::unlock(&app, &who.asker, &handle(&user)?, methods, password).await?;
    Ok(Json::ok(LocksView::new(&user, who.asker.call.now)))
}
