//! Having everybody in an organisation set up a second factor.

use super::{enrolment_links, organisations, sign_in};
use crate::{
    app::{App, Asker},
    error::{Error, Result},
    store::UserFilter,
};
use countersign_core::{Refusal, User, policy::Requirement, refusal::Invalid};
use futures_util::future::join_all;
use std::sync::Arc;

/// People who are looked at together: their changes share commits.
const TOGETHER: usize = 32;

/// What an enforcement found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enforcement {
    /// People who were mailed a link.
    pub invited: u64,
    /// People who have a key, or for whom a link or code is open already.
    pub ready: u64,
    /// People who cannot be mailed: they have no address, or none that policy or the server reaches.
    pub unreachable: u64,
    /// People whom the caller may not act on, or who are switched off.
    pub left_out: u64,
    /// People who were mailed too often of late; they are invited by asking again later.
    pub postponed: u64,
}

/// Has everybody in the asker's organisation use a second factor, or leaves that to them again.
///
/// Whoever has no key is mailed a link. This runs to its end even if the caller goes away; where it was cut short, asking
/// again takes it up, because who was mailed is not mailed again while the link is good. When it is switched off, people
/// keep the factors they have.
pub async fn enforce(app: &Arc<App>, asker: &Asker, on: bool) -> Result<Enforcement> {
    let (app, asker) = (Arc::clone(app), asker.clone());
    sign_in::to_the_end(async move {
        let asker = require(&app, asker, on).await?;
        if on { invite_all(&app, &asker).await } else { Ok(Enforcement::default()) }
    })
    .await
}

/// Changes the policy; returns the asker with the organisation as it is then.
async fn require(app: &App, asker: Asker, on: bool) -> Result<Asker> {
    organisations::change_policy(app, &asker, move |policy| {
        let requirement = match (on, policy.requirement) {
            (true, _) => Requirement::Enforced,
            (false, Requirement::Enforced) => Requirement::Optional,
            (false, other) => other,
        };
        Ok(countersign_core::Policy { requirement, ..policy.clone() })
    })
    .await?;
    let organisation = app.store.organisation(asker.organisation.id).await?;
    Ok(Asker { organisation: organisation.ok_or(Error::NotFound("organisation"))?, ..asker })
}

async fn invite_all(app: &App, asker: &Asker) -> Result<Enforcement> {
    let mut done = Enforcement::default();
    let mut after = None;
    loop {
        let people = app.store.users(asker.organisation.id, &UserFilter::All, after.as_deref(), TOGETHER);
        let page = people.await?;
        for outcome in join_all(page.items.iter().map(|user| invite(app, asker, user))).await {
            done.count(outcome?);
        }
        after = page.next;
        if after.is_none() {
            return Ok(done);
        }
    }
}

/// What became of one person.
enum Invited {
    Sent,
    Ready,
    Unreachable,
    LeftOut,
    Postponed,
}

impl Enforcement {
    const fn count(&mut self, invited: Invited) {
        let count = match invited {
            Invited::Sent => &mut self.invited,
            Invited::Ready => &mut self.ready,
            Invited::Unreachable => &mut self.unreachable,
            Invited::LeftOut => &mut self.left_out,
            Invited::Postponed => &mut self.postponed,
        };
        *count += 1;
    }
}

async fn invite(app: &App, asker: &Asker, user: &User) -> Result<Invited> {
    match enrolment_links::send_first(app, asker, user.id).await {
        Ok(true) => Ok(Invited::Sent),
        Ok(false) => Ok(Invited::Ready),
        Err(Error::Refused(Refusal::Invalid(Invalid { field, .. }))) if field == "email" => {
            Ok(Invited::Unreachable)
        }
        Err(Error::Refused(Refusal::DestinationForbidden(_) | Refusal::NoProvider(_))) => {
            Ok(Invited::Unreachable)
        }
        Err(Error::Refused(
            Refusal::AboveYourRank(_) | Refusal::UserDisabled | Refusal::SecondFactorNeeded,
        )) => Ok(Invited::LeftOut),
        Err(Error::Refused(Refusal::TooSoon(_))) => Ok(Invited::Postponed),
        // Deleted since the page was read.
        Err(Error::NotFound("user")) => Ok(Invited::LeftOut),
        Err(error) => Err(error),
    }
}
