//! Enrolments in the middle of a sign-in: a client brings the person's state token. And the self-reset, which a
//! signed-in person may ask for as well.

use super::{
    clients::{self, OwnReset},
    errors::{EXPIRED_CODE, LOCKED, REPLAYED_CODE, WRONG_CODE, invalid_grant},
    members::{Members, MfaType},
    mfa::{activated, check_available, explain, success},
    qr::Form,
    token::state_token,
};
use crate::{
    app::Asker,
    error::Error,
    http::{
        Web,
        caller::{WithinSignInLimit, anonymous},
        problem::Problem,
        request::RequestInfo,
    },
    service::{sign_in, sole},
};
use axum::{extract::State, response::Response};
use countersign_core::{Attempt, Kind, LoginId, Refusal, Target, UserId, Verdict, reset};
use http::HeaderMap;

/// A person in the middle of signing in.
struct Login {
    asker: Asker,
    id: UserId,
    login: LoginId,
}

impl Login {
    async fn find(
        web: &Web,
        info: &RequestInfo,
        headers: &HeaderMap,
        members: &Members,
    ) -> Result<Self, Problem> {
        let client = clients::authenticate(web, info, headers, members).await?;
        let step = state_token(web, info, &client, members).await?;
        let asker = sign_in::asker_of(&web.app, &step, anonymous(info)).await?;
        Ok(Self { asker, id: step.user, login: step.login })
    }
}

/// Enrols an app; the answer shows its key.
pub(super) async fn associate(
    _: WithinSignInLimit,
    State(web): State<Web>,
    info: RequestInfo,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    let Login { asker, id, login } = Login::find(&web, &info, &headers, &members).await?;
    let form = Form::preferred(&headers)?;
    if members.mfa_type()?.is_some() {
        members.expect_mfa_type(MfaType::Authenticator)?;
    }
    check_available(&asker.organisation.policy, MfaType::Authenticator)?;
    let enrolled = sole::enrol(&web.app, &asker, id, Some(login), Kind::Totp).await.map_err(explain)?;
    form.write(&enrolled, info.now)
}

/// Enrols the address of the person's profile; a code is sent to it.
pub(super) async fn enrol_mail(
    _: WithinSignInLimit,
    State(web): State<Web>,
    info: RequestInfo,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    let Login { asker, id, login } = Login::find(&web, &info, &headers, &members).await?;
    if members.mfa_type()?.is_some() {
        members.expect_mfa_type(MfaType::Email)?;
    }
    check_available(&asker.organisation.policy, MfaType::Email)?;
    sole::enrol(&web.app, &asker, id, Some(login), Kind::Email).await.map_err(explain)?;
    Ok(success())
}

/// Confirms an enrolment by its first code; the state token is then good without another.
pub(super) async fn verify(
    _: WithinSignInLimit,
    State(web): State<Web>,
    info: RequestInfo,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    let Login { asker, id, login } = Login::find(&web, &info, &headers, &members).await?;
    let kind = members.needed_mfa_type()?.kind();
    let code = members.needed_code()?;
    let activation = sole::activate(&web.app, &asker, id, Some(login), kind, code).await;
    activated(&activation.map_err(explain)?)
}

/// Resets one's own enrolment.
pub(super) async fn reset(
    _: WithinSignInLimit,
    who: OwnReset,
    State(web): State<Web>,
    info: RequestInfo,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    let (asker, id, login) = match who {
        OwnReset::Person(me) => (me.asker, me.id, None),
        OwnReset::Client => {
            let found = Login::find(&web, &info, &headers, &members).await?;
            (found.asker, found.id, Some(found.login))
        }
    };
    let kind = members.mfa_type()?.unwrap_or(MfaType::Authenticator).kind();
    let attempt = members.code()?.map(|code| Attempt::new(code, Target::Any));
    match sole::reset_own(&web.app, &asker, id, login, kind, attempt).await {
        Ok(reset::OwnReset::Done) => Ok(success()),
        Ok(reset::OwnReset::Refused(verdict)) => Err(refused(&verdict)),
        Err(Error::Refused(Refusal::SecondFactorNeeded)) => {
            let detail = "totp is required: a code of this enrollment or of another one";
            Err(Problem::invalid("missing_member", Some("totp".into()), detail))
        }
        Err(error) => Err(error.into()),
    }
}

fn refused(verdict: &Verdict) -> Problem {
    invalid_grant(match verdict {
        Verdict::Replayed => REPLAYED_CODE,
        Verdict::Expired => EXPIRED_CODE,
        Verdict::Locked { .. } => LOCKED,
        Verdict::Accepted { .. } | Verdict::Rejected { .. } | Verdict::NoFactor => WRONG_CODE,
    })
}
