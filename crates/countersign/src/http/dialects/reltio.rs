//! Reltio: the calls of its authorisation server that concern signing in and second factors.
//!
//! To follow a sign-in, read `token`, then `login`; what a signed-in person does for themselves is in `mfa`.

mod clients;
mod customers;
mod errors;
mod login;
mod members;
mod mfa;
mod multipart;
mod person;
mod qr;
mod roles;
mod token;
mod users;

use super::{Calls, Mounted, Needs};
use crate::http::problem::Problem;
use axum::response::Response;
use countersign_core::Permission::{Administer, ReadUsers, WriteFactors, WriteUsers};
use http::Method;

const ENROLLED: &str = "factor.enrolled";
const ACTIVATED: &str = "factor.activated factor.activation_rejected";
const PROVED: &str = "factor.activated factor.activation_rejected verify.rejected method.locked";
const SENT: &str = "factor.enrolled challenge.sent";
const RESET: &str = "factor.reset verify.accepted verify.rejected session.revoked";
const SIGN_IN: &str = "login.first_factor login.succeeded login.rejected challenge.sent verify.accepted \
                       verify.rejected factor.activated session.refreshed";

/// Returns every call and what it is natively.
pub fn calls() -> Calls {
    let calls = people(customers(Calls::default()));
    let (get, put, post) = (|| Method::GET, || Method::PUT, || Method::POST);
    calls
        .on(post(), "/oauth/token", Needs::Nothing, "`POST /oauth/token`", SIGN_IN, token::token)
        .on(put(), "/oauth/token", Needs::Nothing, "`POST /oauth/token`", SIGN_IN, token::token)
        .on(get(), "/oauth/users/mfaDetails", Needs::Myself, "`GET /v1/me/factors`", "", mfa::details)
        .on(
            put(),
            "/oauth/users/mfa/associateQRCode",
            Needs::Myself,
            "`POST /v1/me/factors`",
            ENROLLED,
            mfa::associate,
        )
        .on(
            put(),
            "/oauth/users/mfa/verifyQRCodeEnroll",
            Needs::Myself,
            "`POST /v1/me/factors/{factor}/activate`",
            ACTIVATED,
            mfa::verify,
        )
        .on(
            put(),
            "/oauth/users/mfa/enrollEmail",
            Needs::Myself,
            "`POST /v1/me/factors`",
            SENT,
            mfa::enrol_mail,
        )
        .on(
            put(),
            "/oauth/users/mfa/verifyEmail",
            Needs::Myself,
            "`POST /v1/me/factors/{factor}/activate`",
            ACTIVATED,
            mfa::verify_mail,
        )
        .on(
            post(),
            "/oauth/users/mfa/resetMyQRCodeEnroll",
            Needs::Nothing,
            "`POST /v1/me/reset`",
            RESET,
            login::reset,
        )
        .on(
            put(),
            "/oauth/users/mfa/resetMyQRCodeEnroll",
            Needs::Nothing,
            "`POST /v1/me/reset`",
            RESET,
            login::reset,
        )
        .on(
            put(),
            "/oauth/users/mfa/associateQRCodeStateToken",
            Needs::Nothing,
            "`POST /oauth/enrol`",
            ENROLLED,
            login::associate,
        )
        .on(
            put(),
            "/oauth/users/mfa/enrollEmailWithStateToken",
            Needs::Nothing,
            "`POST /oauth/enrol`",
            SENT,
            login::enrol_mail,
        )
        .on(
            put(),
            "/oauth/users/mfa/verifyEnrollWithStateToken",
            Needs::Nothing,
            "`POST /oauth/token`",
            PROVED,
            login::verify,
        )
        .on(
            put(),
            "/oauth/users/{username}/mfa/resetQRCodeEnroll",
            Needs::May(WriteFactors),
            "`POST /v1/users/{user}/reset`",
            "factor.reset session.revoked",
            users::reset,
        )
        .on(
            get(),
            "/oauth/users/{username}/mfaDetails",
            Needs::MyselfOr(ReadUsers),
            "`GET /v1/users/{user}/factors`",
            "",
            users::details,
        )
}

fn people(calls: Calls) -> Calls {
    const ONE: &str = "/oauth/users/{username}";
    let (read, write) = (Needs::May(ReadUsers), Needs::May(WriteUsers));
    let changed = "user.updated method.unlocked password.unlocked session.revoked";
    calls
        .on(Method::GET, "/oauth/users", read, "`GET /v1/users`", "", users::list)
        .on(
            Method::POST,
            "/oauth/users",
            write,
            "`POST /v1/users`",
            "user.created password.set",
            users::create,
        )
        .on(Method::GET, ONE, Needs::MyselfOr(ReadUsers), "`GET /v1/users/{user}`", "", users::get)
        .on(Method::PUT, ONE, write, "`PATCH /v1/users/{user}`", changed, users::overwrite)
        .on(Method::DELETE, ONE, write, "`DELETE /v1/users/{user}`", "user.deleted", users::delete)
        .on(Method::GET, "/oauth/users/{username}/groups", read, "`GET /v1/users/{user}`", "", users::groups)
        .on(
            Method::PUT,
            "/oauth/users/{username}/groups",
            write,
            "`PATCH /v1/users/{user}`",
            "user.updated",
            users::set_groups,
        )
        .on(Method::GET, "/oauth/users/groups/{group}", read, "`GET /v1/users`", "", users::of_group)
        .on(Method::GET, "/oauth/users/tenants/{tenant}", read, "`GET /v1/users`", "", users::of_tenant)
        .on(
            Method::PUT,
            "/oauth/users/{username}/revoketokens",
            Needs::May(WriteFactors),
            "`DELETE /v1/users/{user}/sessions`",
            "session.revoked",
            users::sign_out,
        )
}

fn customers(calls: Calls) -> Calls {
    let native = "`GET`, `PATCH /v1/organisations/{organisation}/policy`";
    let admin = Needs::May(Administer);
    calls
        .on(
            Method::GET,
            "/oauth/customers/{customer}",
            admin,
            "`GET /v1/organisations/{organisation}`",
            "",
            customers::get,
        )
        .on(
            Method::GET,
            "/oauth/customers/{customer}/clients",
            admin,
            "`GET /v1/clients`",
            "",
            customers::clients,
        )
        .on(
            Method::GET,
            "/oauth/customers/{customer}/clients/{client}",
            admin,
            "`GET /v1/clients/{client}`",
            "",
            customers::client,
        )
        .on(Method::GET, "/oauth/customers/{customer}/mfa", admin, native, "", customers::mfa)
        .on(
            Method::PUT,
            "/oauth/customers/{customer}/mfa",
            admin,
            native,
            "policy.changed",
            customers::set_mfa,
        )
        .on(
            Method::GET,
            "/oauth/customers/{customer}/passwordPolicy",
            admin,
            native,
            "",
            customers::password_policy,
        )
        .on(
            Method::PUT,
            "/oauth/customers/{customer}/passwordPolicy",
            admin,
            native,
            "policy.changed",
            customers::set_password_policy,
        )
}

/// Writes a problem as the vendor does.
pub fn render(problem: &Problem, _: &Mounted) -> Response {
    errors::render(problem)
}

/// Returns the path that is routed by: clients put `/services`, `/oauth`, both or neither before what they mean.
pub fn canonical(path: &str) -> Option<String> {
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.first() == Some(&"services") {
        segments.remove(0);
    }
    for _ in 0..2 {
        if segments.first() == Some(&"oauth") {
            segments.remove(0);
        }
    }
    Some(format!("/oauth/{}", segments.join("/")))
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn every_way_to_write_a_path_is_one() {
        for prefix in ["", "/oauth", "/oauth/oauth", "/services", "/services/oauth", "/services/oauth/oauth"]
        {
            for end in ["", "/"] {
                let path = format!("{prefix}/users/jo@acme.test{end}");
                assert_eq!(canonical(&path).as_deref(), Some("/oauth/users/jo@acme.test"), "{path}");
            }
        }
        assert_eq!(canonical("/oauth/oauth/oauth/token").as_deref(), Some("/oauth/oauth/token"));
        assert_eq!(canonical("/users/services").as_deref(), Some("/oauth/users/services"));
    }
}
