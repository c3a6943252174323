//! Veeam Backup for Microsoft Azure: the clients of its REST API, versions 1 to 8.1, with their people and second step.
//!
//! The paths are the same in all versions; [`version::Version`] tells where their answers differ.

mod accounts;
mod export;
mod login;
mod mfa;
mod passwords;
mod problems;
mod roles;
mod version;

use super::{Calls, Mounted, Needs};
use crate::{
    app::Asker,
    error::Error,
    http::{SharedApp, caller::Known, extract::Raw, problem::Problem},
};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use countersign_core::{Handle, OrganisationId, Permission, User};
use http::{HeaderValue, Method, StatusCode, header};
pub use problems::render;
use serde::{Serialize, de::DeserializeOwned};

/// Returns every call and what it is natively.
pub fn calls() -> Calls {
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let own_or = Needs::MyselfOr(Permission::WriteFactors);
    let (read, write) = (Needs::May(Permission::ReadUsers), Needs::May(Permission::WriteUsers));
    let own_or_read = Needs::MyselfOr(Permission::ReadUsers);
    let user = "/api/{version}/users/{id}";
    Calls::default()
        .on(
            post.clone(),
            "/api/{version}/users/{id}/enableMfa",
            own_or,
            "enrol a factor by ticket, with recovery codes",
            "factor.enrolled factor.deleted",
            mfa::enable,
        )
        .on(
            post.clone(),
            "/api/{version}/users/{id}/acceptMfa",
            own_or,
            "activate the factor of a ticket",
            "factor.activated factor.activation_rejected factor.deleted recovery_codes.replaced",
            mfa::accept,
        )
        .on(
            post.clone(),
            "/api/{version}/users/{id}/disableMfa",
            own_or,
            "switch the second factor off",
            "mfa.switched_off",
            mfa::disable,
        )
        .on(get.clone(), "/api/{version}/users", read, "list people", "", accounts::list)
        .on(get.clone(), user, own_or_read, "get a person", "", accounts::get)
        .on(
            post.clone(),
            "/api/{version}/users",
            write,
            "create a person with a password",
            "user.created password.set",
            accounts::create,
        )
        .on(put, user, write, "change a person", "user.updated password.set", accounts::update)
        .on(delete.clone(), user, write, "delete a person", "user.deleted", accounts::delete)
        .on(
            post.clone(),
            "/api/{version}/users/changePassword",
            Needs::Myself,
            "change one's own password",
            "password.set login.rejected password.locked session.revoked",
            passwords::change_own,
        )
        .on(
            post.clone(),
            "/api/{version}/users/{id}/changePassword",
            write,
            "set another person's password",
            "password.set login.rejected password.locked session.revoked",
            passwords::change,
        )
        .on(post.clone(), "/api/{version}/users/export", read, "list people", "", export::export)
        .on(
            get,
            "/api/{version}/userProfile/currentUser",
            Needs::Myself,
            "get oneself",
            "",
            accounts::current,
        )
        .on(
            post,
            "/api/oauth2/token",
            Needs::Nothing,
            "sign in, second step, refresh",
            "login.first_factor login.succeeded login.rejected verify.accepted verify.rejected method.locked \
             password.locked session.refreshed session.refresh_reused",
            login::token,
        )
        .on(delete, "/api/oauth2/token", Needs::Myself, "sign out", "session.revoked", login::sign_out)
}

/// Returns the person a path names, and the caller as somebody who may act on them.
///
/// Whoever may not is told so whether there is such a person or not.
async fn about(
    app: &SharedApp,
    known: &Known,
    permission: Permission,
    segment: &str,
) -> Result<(Asker, User), Problem> {
    match person(app, known.organisation().id, segment).await? {
        Some(user) => Ok((known.towards(permission, user.id)?, user)),
        None => {
            known.asker(permission)?;
            Err(Error::NotFound("user").into())
        }
    }
}

/// Finds a person by number or id; a username is no id here.
async fn person(
    app: &SharedApp,
    organisation: OrganisationId,
    segment: &str,
) -> Result<Option<User>, Problem> {
    let handle = match Handle::parse("id", segment) {
        Ok(handle @ (Handle::Id(_) | Handle::Number(_))) => handle,
        _ => return Ok(None),
    };
    match app.user(organisation, &handle).await {
        Ok(user) => Ok(Some(user)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads a body that must be there.
fn body<T: DeserializeOwned>(raw: &Raw) -> Result<T, Problem> {
    raw.expect_json()?;
    raw.json()
}

/// An answer in JSON, with the header as the vendor writes it.
fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(body).expect("an answer has string keys only, so it is always JSON");
    typed(status, "application/json; charset=utf-8", bytes)
}

fn typed(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Response {
    let mut answer = (status, Body::from(bytes)).into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A member that breaks a rule of the vendor's.
fn refused(field: &str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::invalid("invalid_value", Some(field.to_owned()), detail)
}
