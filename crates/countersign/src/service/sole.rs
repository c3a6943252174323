//! One factor of a kind, for callers who name the kind and know of no second one: enrolling, activating, resetting it.

use super::{challenges, factors, factors::Enrolled, factors::Enrolment, short_codes};
use crate::{
    app::{App, Asker},
    error::Result,
};
use countersign_core::{
    Attempt, Code, FactorId, Kind, LoginId, NewCode, UserId, enrolment::Activation, reset::OwnReset,
};

/// Enrols the only factor of its kind; with a login, in the middle of signing in.
pub async fn enrol(
    app: &App,
    asker: &Asker,
    id: UserId,
    login: Option<LoginId>,
    kind: Kind,
) -> Result<Enrolled> {
    let enrolment = Enrolment { kind, destination: None, label: None };
    if kind.channel().is_some() {
        return enrol_sent(app, asker, id, login, enrolment).await;
    }
    let new = factors::NewFactor::draw(app, asker, id, &enrolment)?;
    let sole = new.parts();
    let user = app
        .change(asker, id, move |user, with| {
            user.enrol_sole(login, sole.clone(), with.policy, with.call)?;
            Ok(user.clone())
        })
        .await?;
    new.shown(&asker.organisation, &user)
}

async fn enrol_sent(
    app: &App,
    asker: &Asker,
    id: UserId,
    login: Option<LoginId>,
    enrolment: Enrolment,
) -> Result<Enrolled> {
    let new = NewCode::draw(asker.call.now, &mut rand::rng());
    let factor = FactorId::generate(asker.call.now, &mut rand::rng());
    let label = factors::default_label(enrolment.kind)?;
    app.change(asker, id, move |user, with| {
        let to = challenges::destination(user, &enrolment)?;
        let sole = (factor, label.clone(), to);
        let challenge = user.enrol_sole_sent(login, sole, &new, with.policy, with.keys, with.call)?;
        challenges::enrolled(user, challenge)
    })
    .await
}

/// Activates the factor of a kind that waits for its first code; with a login, which is proved by it.
pub async fn activate(
    app: &App,
    asker: &Asker,
    id: UserId,
    login: Option<LoginId>,
    kind: Kind,
    code: Code,
) -> Result<Activation> {
    app.change(asker, id, move |user, with| {
        let factor = user.waiting(kind)?;
        match login {
            None => user.activate(factor, &code, with.policy, with.keys, with.call),
            Some(login) => {
                user.activate_keeping_login(login, factor, &code, with.policy, with.keys, with.call)
            }
        }
    })
    .await
}

/// Deletes the factors of a kind for their own person, who proves it by a code unless policy asks for none.
pub async fn reset_own(
    app: &App,
    asker: &Asker,
    id: UserId,
    login: Option<LoginId>,
    kind: Kind,
    attempt: Option<Attempt>,
) -> Result<OwnReset> {
    let reset = |attempt: Option<Attempt>| {
        app.change(asker, id, move |user, with| {
            user.reset_own_kind(login, kind, attempt.as_ref(), with.policy, with.keys, with.call)
        })
    };
    match attempt {
        None => reset(None).await,
        Some(attempt) => {
            short_codes::attempt(app, asker, &id.into(), attempt, |attempt| reset(Some(attempt))).await
        }
    }
}
