//! Codes we send: enrolling where they go, asking for one, asking once more.

use super::factors::{Enrolled, Enrolment, Shown, default_label};
use crate::{
    app::{App, Asker},
    error::Result,
    store::DeliveryState,
};
use countersign_core::{
    Challenge, ChallengeId, Destination, FactorId, Handle, LoginId, NewCode, Recipient, Refusal, User,
    UserId, factor::Proof, refusal::Invalid,
};

/// A challenge, and where its code went.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The challenge.
    pub challenge: Challenge,
    /// The destination.
    pub to: Destination,
    /// How far its message got; `None` once that is forgotten.
    pub delivery: Option<DeliveryState>,
}

impl Sent {
    fn of(user: &User, challenge: Challenge) -> Result<Self, Refusal> {
        match user.factor(challenge.factor)?.proof() {
            Proof::Sent(to) => Ok(Self { to: to.clone(), challenge, delivery: Some(DeliveryState::Queued) }),
            other => Err(Refusal::NothingIsSent(other.kind())),
        }
    }
}

/// Sends a code to one of a person's factors.
pub async fn send(app: &App, asker: &Asker, handle: &Handle, recipient: Recipient) -> Result<Sent> {
    let new = NewCode::draw(asker.call.now, &mut rand::rng());
    app.change(asker, handle, move |user, with| {
        let challenge = user.challenge(recipient, &new, with.policy, with.keys, with.call)?;
        Sent::of(user, challenge)
    })
    .await
}

/// Sends a code to somebody in the middle of signing in.
pub async fn send_in_login(
    app: &App,
    asker: &Asker,
    id: UserId,
    login: LoginId,
    recipient: Recipient,
) -> Result<Sent> {
    let new = NewCode::draw(asker.call.now, &mut rand::rng());
    app.change(asker, id, move |user, with| {
        let challenge = user.challenge_in_login(login, recipient, &new, with.policy, with.keys, with.call)?;
        Sent::of(user, challenge)
    })
    .await
}

/// Returns a person's challenge, with how far its message got.
pub async fn get(app: &App, asker: &Asker, handle: &Handle, id: ChallengeId) -> Result<Sent> {
    let user = app.user(asker.organisation.id, handle).await?;
    let challenge = user.find_challenge(id)?.clone();
    let delivery = app.store.delivery(asker.organisation.id, challenge.delivery).await?;
    Ok(Sent { delivery: delivery.map(|delivery| delivery.state), ..Sent::of(&user, challenge)? })
}

/// Enrols a factor whose codes are sent, and sends the first one; with a login, in the middle of signing in.
pub(super) async fn enrol(
    app: &App,
    asker: &Asker,
    id: UserId,
    login: Option<LoginId>,
    enrolment: Enrolment,
) -> Result<Enrolled> {
    let new = NewCode::draw(asker.call.now, &mut rand::rng());
    let factor = FactorId::generate(asker.call.now, &mut rand::rng());
    let label = enrolment.label.clone().map_or_else(|| default_label(enrolment.kind), Ok)?;
    app.change(asker, id, move |user, with| {
        let to = destination(user, &enrolment)?;
        let (label, policy, keys, call) = (label.clone(), with.policy, with.keys, with.call);
        let challenge = match login {
            None => user.enrol_sent(factor, label, to, &new, policy, keys, call)?,
            Some(login) => user.enrol_sent_in_login(login, (factor, label, to), &new, policy, keys, call)?,
        };
        enrolled(user, challenge)
    })
    .await
}

/// Returns the factor that a challenge is to activate.
pub(super) fn enrolled(user: &User, challenge: Challenge) -> Result<Enrolled, Refusal> {
    let factor = user.factor(challenge.factor)?.clone();
    Ok(Enrolled { factor, shown: Shown::Challenge(Box::new(Sent::of(user, challenge)?)) })
}

/// Returns where a factor's codes are to go: the address or number of the profile if none is named.
pub(super) fn destination(user: &User, enrolment: &Enrolment) -> Result<Destination, Refusal> {
    match &enrolment.destination {
        Some(destination) => Ok(destination.clone()),
        None => user.profile_destination(enrolment.kind).ok_or_else(|| {
            let missing = "the profile has none of this type, so say where codes are to go";
            Invalid::new("destination", missing).into()
        }),
    }
}
