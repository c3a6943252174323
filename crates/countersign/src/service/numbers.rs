//! The numbers that codes are sent to, as an administrator says them.

use super::factors::default_label;
use crate::{
    app::{App, Asker},
    error::Result,
};
use countersign_core::{Destination, FactorId, Kind, User, UserId, profile::Phone};

/// What is said of a number: nothing, that there is none, or which.
pub type Said = Option<Option<Phone>>;

/// Sets the numbers for text messages and for calls, both or neither; returns the person as they are then.
pub async fn set(app: &App, asker: &Asker, id: UserId, sms: Said, voice: Said) -> Result<User> {
    let said = [
        (Kind::Sms, sms.map(|number| number.map(Destination::Sms))),
        (Kind::Voice, voice.map(|number| number.map(Destination::Voice))),
    ];
    let mut changes = Vec::new();
    for (kind, said) in said {
        let factor = FactorId::generate(asker.call.now, &mut rand::rng());
        let label = default_label(kind)?;
        changes.extend(said.map(|to| (kind, to, factor, label)));
    }
    app.change(asker, id, move |user, with| {
        for (kind, to, factor, label) in &changes {
            match to {
                Some(to) => {
                    user.assign_destination(to.clone(), *factor, label.clone(), with.policy, with.call)?
                }
                None => user.unassign_destination(*kind, with.policy, with.call)?,
            }
        }
        Ok(user.clone())
    })
    .await
}
