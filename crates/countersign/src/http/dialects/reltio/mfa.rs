//! What a signed-in person does about their own enrolments.

use super::{
    errors::{EXPIRED_CODE, WRONG_CODE, invalid_grant},
    members::{Members, MfaType, QueryMembers},
    qr::Form,
};
use crate::{
    error::Error,
    http::{SharedApp, caller::Myself, extract::Json, problem::Problem},
    service::{sole, users},
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use countersign_core::{Policy, Refusal, User, enrolment::Activation, policy::Requirement, profile::Email};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;

/// Which types there are, and which of them somebody has enrolled.
#[derive(Serialize)]
pub(super) struct Details {
    availables: Vec<&'static str>,
    details: Types,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Types {
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticator: Option<Enrolment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<Enrolment>,
}

#[derive(Serialize)]
struct Enrolment {
    verified: bool,
}

impl Details {
    /// Shows a person's enrolments: of each type there is, and of one that there is no more but is enrolled.
    pub(super) fn of(user: &User, policy: &Policy) -> Self {
        let availables = availables(policy);
        let state = |one: MfaType| {
            let verified = user.active_factors().any(|held| held.proof.kind() == one.kind());
            (verified || availables.contains(&one)).then_some(Enrolment { verified })
        };
        Self {
            details: Types { authenticator: state(MfaType::Authenticator), email: state(MfaType::Email) },
            availables: availables.iter().map(|one| one.name()).collect(),
        }
    }
}

/// Returns the types an organisation has switched on; none where nothing is asked for.
pub(super) fn availables(policy: &Policy) -> Vec<MfaType> {
    let is_on = |one: &MfaType| policy.requirement != Requirement::Off && policy.allows(one.kind());
    MfaType::ALL.into_iter().filter(is_on).collect()
}

/// Returns what is enrolled.
pub(super) async fn details(me: Myself, State(app): State<SharedApp>) -> Result<Json<Details>, Problem> {
    let user = users::get(&app, &me.asker, &me.handle()).await?;
    Ok(Json::ok(Details::of(&user, &me.asker.organisation.policy)))
}

/// Enrols an app; the answer shows its key.
pub(super) async fn associate(
    me: Myself,
    State(app): State<SharedApp>,
    headers: HeaderMap,
    QueryMembers(members): QueryMembers,
) -> Result<Response, Problem> {
    members.expect_mfa_type(MfaType::Authenticator)?;
    let form = Form::preferred(&headers)?;
    check_available(&me.asker.organisation.policy, MfaType::Authenticator)?;
    let enrolled = sole::enrol(&app, &me.asker, me.id, None, MfaType::Authenticator.kind()).await;
    form.write(&enrolled.map_err(explain)?, me.asker.call.now)
}

/// Enrols the address of one's profile; a code is sent to it.
pub(super) async fn enrol_mail(
    me: Myself,
    State(app): State<SharedApp>,
    members: Members,
) -> Result<Response, Problem> {
    members.expect_mfa_type(MfaType::Email)?;
    check_available(&me.asker.organisation.policy, MfaType::Email)?;
    if let Some(address) = members.find(&["email"]) {
        let user = users::get(&app, &me.asker, &me.handle()).await?;
        check_own(address, &user)?;
    }
    sole::enrol(&app, &me.asker, me.id, None, MfaType::Email.kind()).await.map_err(explain)?;
    Ok(success())
}

/// Nobody has codes sent to somebody else.
fn check_own(address: &str, user: &User) -> Result<(), Problem> {
    let address = Email::parse("email", address)?;
    if user.email.as_ref().is_some_and(|own| own.key() == address.key()) {
        return Ok(());
    }
    let detail = "codes are sent to the address of the account only";
    Err(Problem::invalid("invalid_value", Some("email".into()), detail))
}

/// Confirms an enrolment of either type by its first code.
pub(super) async fn verify(
    me: Myself,
    State(app): State<SharedApp>,
    members: Members,
) -> Result<Response, Problem> {
    let kind = members.needed_mfa_type()?.kind();
    let activation = sole::activate(&app, &me.asker, me.id, None, kind, members.needed_code()?).await;
    activated(&activation.map_err(explain)?)
}

/// Confirms the enrolment of an address by its first code.
pub(super) async fn verify_mail(
    me: Myself,
    State(app): State<SharedApp>,
    members: Members,
) -> Result<Response, Problem> {
    if let Some(other) = members.mfa_type()?.filter(|one| *one != MfaType::Email) {
        return Err(Problem::invalid(
            "invalid_value",
            Some("mfatype".into()),
            format!("{} is verified by verifyQRCodeEnroll", other.name()),
        ));
    }
    let (code, kind) = (members.needed_code()?, MfaType::Email.kind());
    let activation = sole::activate(&app, &me.asker, me.id, None, kind, code).await;
    activated(&activation.map_err(explain)?)
}

/// Refuses a type that is not switched on.
pub(super) fn check_available(policy: &Policy, wanted: MfaType) -> Result<(), Problem> {
    if availables(policy).contains(&wanted) {
        return Ok(());
    }
    let detail = format!("{} is not available to the users of this customer", wanted.name());
    Err(Problem::invalid("invalid_value", Some("mfatype".into()), detail))
}

/// Answers what a first code led to.
pub(super) fn activated(activation: &Activation) -> Result<Response, Problem> {
    match activation {
        Activation::Activated => Ok(success()),
        Activation::Expired => Err(invalid_grant(EXPIRED_CODE)),
        Activation::Rejected { attempts_left: 0 } => {
            let detail = "Too many wrong MFA codes; enroll again";
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_codes", detail).retry_after(1))
        }
        Activation::Rejected { .. } => Err(invalid_grant(WRONG_CODE)),
    }
}

/// Says in the vendor's words what state an enrolment is not in.
pub(super) fn explain(error: Error) -> Problem {
    let detail = match error {
        Error::Refused(Refusal::WrongState(_)) => "already enrolled; reset the enrolment first",
        Error::Refused(Refusal::NoSuchFactor) => "no enrollment is waiting for its code",
        other => return other.into(),
    };
    Problem::new(StatusCode::BAD_REQUEST, "wrong_state", detail)
}

/// What the vendor answers where there is nothing to tell.
pub(super) fn success() -> Response {
    Json::ok(json!({ "status": "success" })).into_response()
}
