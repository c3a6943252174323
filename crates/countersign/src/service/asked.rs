//! A second step for callers who show one way to finish a sign-in instead of a choice.

use super::{
    factors, short_codes,
    sign_in::{Grant, asker_of, granted, to_the_end},
    tokens::SecondStepToken,
};
use crate::{
    app::App,
    error::{Error, Result},
};
use countersign_core::{
    Asked, Attempt, Call, ClientId, FactorId, Kind, NewCode, Refusal, SessionId, User, session::SecondStep,
};
use std::sync::Arc;

/// Asks for the second step of a sign-in: sends a code if it goes by mail. Says what is asked for, and of whom.
pub async fn ask(app: &App, call: Call, step: &SecondStepToken) -> Result<(Asked, User)> {
    let asker = asker_of(app, step, call).await?;
    let (login, user) = (step.login, step.user);
    let new = NewCode::draw(asker.call.now, &mut rand::rng());
    let factor = FactorId::generate(asker.call.now, &mut rand::rng());
    let label = factors::default_label(Kind::Email)?;
    let reach = app.reach.clone();
    app.change(&asker, user, move |user, with| {
        // Who cannot be written to may still enrol an app.
        let can_mail = user.profile_destination(Kind::Email).is_some_and(|address| reach.includes(&address));
        let new_address = can_mail.then(|| (factor, label.clone()));
        let asked = user.ask_second_step(login, new_address, &new, with.policy, with.keys, with.call)?;
        Ok((asked, user.clone()))
    })
    .await
}

/// Decides the second step of a sign-in by what it asked for.
pub async fn answer(app: &Arc<App>, call: Call, step: SecondStepToken, attempt: Attempt) -> Result<Grant> {
    let app = Arc::clone(app);
    to_the_end(async move {
        let asker = asker_of(&app, &step, call).await?;
        let session = SessionId::generate(asker.call.now, &mut rand::rng());
        let finish = |attempt: Attempt| {
            app.change(&asker, step.user, move |user, with| {
                let (policy, keys, call) = (with.policy, with.keys, with.call);
                let outcome = user.answer_second_step(step.login, &attempt, session, policy, keys, call)?;
                Ok((outcome, user.clone()))
            })
        };
        match short_codes::attempt(&app, &asker, &step.user.into(), attempt, finish).await? {
            (SecondStep::Session(session), user) => granted(&app, &asker, user, &session),
            (SecondStep::Refused(_), _) => Ok(Grant::Refused),
        }
    })
    .await
}

/// Finishes a sign-in that was proved by enrolling, without another code.
pub async fn finish_proved(app: &App, call: Call, step: SecondStepToken) -> Result<Grant> {
    let asker = asker_of(app, &step, call).await?;
    let session = SessionId::generate(asker.call.now, &mut rand::rng());
    let (session, user) = app
        .change(&asker, step.user, move |user, with| {
            let session = user.finish_proved_login(step.login, session, with.policy, with.call)?;
            Ok((session, user.clone()))
        })
        .await?;
    granted(app, &asker, user, &session)
}

/// Refuses an open sign-in that was begun through another client.
pub async fn check_client(app: &App, call: &Call, step: &SecondStepToken, client: ClientId) -> Result<()> {
    let user =
        app.store.user(step.organisation, step.user).await?.ok_or(Error::Refused(Refusal::TokenGone))?;
    // Which client a login belongs to never changes, so looking before the change is enough.
    match user.open_login(step.login, call)?.client {
        Some(owner) if owner == client => Ok(()),
        _ => Err(Refusal::TokenGone.into()),
    }
}
