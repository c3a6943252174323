//! Enrolment by ticket: an app's key, recovery codes and a ticket are handed out, and come into use together.

use super::{factors, recovery, short_codes};
use crate::{
    app::{App, Asker},
    error::{Error, Result},
};
use countersign_core::{
    Code, FactorId, Handle, Kind, Refusal, Secret, User, UserId,
    enrolment::seal_secret,
    enrolment_ticket::{EnrolmentTicket, Redemption, StoredTicket},
    factor::{
        Proof,
        otp::{OtpSecret, Totp},
        recovery::RecoveryCodes,
        scratch::{SHORT_DIGITS, ScratchCode},
    },
    policy::TotpRule,
};

/// The short recovery codes of a set.
const CODES: usize = 5;
/// How often a slow hash is computed anew when what it is for changes under it.
const STALE_TRIES: usize = 3;

/// What is handed out, once.
pub struct HandedOut {
    /// Whose it is.
    pub user: Box<User>,
    /// The app's key.
    pub secret: OtpSecret,
    /// The recovery codes, which come into use with the factor; none where policy forbids them.
    pub codes: Vec<Secret<String>>,
    /// What has to come back with the first code.
    pub ticket: EnrolmentTicket,
}

/// Enrols an app and short recovery codes by ticket, in the place of what there is once the ticket comes back; only with
/// `replace` in the place of a second factor that is on.
///
/// The app has SHA-1, six digits and thirty seconds whatever policy says of new factors: a key URI that names no
/// parameters means these.
pub async fn enrol(app: &App, asker: &Asker, handle: &Handle, replace: bool) -> Result<HandedOut> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    let factor = FactorId::generate(asker.call.now, &mut rand::rng());
    let secret = OtpSecret::generate(&mut rand::rng());
    let sealed = seal_secret(app.keys.as_ref(), asker.organisation.id, id, factor, &secret)?;
    let proof = Proof::Totp(Totp::new(&TotpRule::default(), sealed));
    let label = factors::default_label(Kind::Totp)?;
    let (codes, set) = draw_codes(app, asker, id).await?.unzip();
    let ticket = EnrolmentTicket::generate(&mut rand::rng());
    let whose = (asker.organisation.id, id);
    let stored = StoredTicket::new(&ticket, set, factor, whose, app.keys.as_ref())?;

    let user = app
        .change(asker, id, move |user, with| {
            let new = (factor, label.clone(), proof.clone());
            user.enrol_by_ticket(new, stored.clone(), replace, with.policy, with.call)?;
            Ok(Box::new(user.clone()))
        })
        .await?;
    Ok(HandedOut { user, secret, codes: codes.unwrap_or_default(), ticket })
}

async fn draw_codes(
    app: &App,
    asker: &Asker,
    id: UserId,
) -> Result<Option<(Vec<Secret<String>>, RecoveryCodes)>> {
    if !asker.organisation.policy.allows(Kind::Recovery) {
        return Ok(None);
    }
    let drawn = (0..CODES).map(|_| ScratchCode::digits(SHORT_DIGITS, &mut rand::rng()).shown());
    let drawn: Vec<Secret<String>> = drawn.collect();
    let salt = recovery::draw_salt();
    let stretched = app.passwords.stretch(drawn.clone(), salt).await?;
    let (organisation, now) = (asker.organisation.id, asker.call.now);
    let set = RecoveryCodes::of_short(&stretched, salt, organisation, id, app.keys.as_ref(), now)?;
    Ok(Some((drawn, set)))
}

/// Takes a ticket and a first code, or one of the recovery codes handed out with it.
pub async fn activate(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    ticket: EnrolmentTicket,
    code: Code,
) -> Result<Redemption> {
    for _ in 0..STALE_TRIES {
        let user = app.user(asker.organisation.id, handle).await?;
        let stretched = short_codes::stretch(app, &code, user.salt_for_ticket(&code)).await?;
        let (ticket, code) = (ticket.clone(), code.clone());
        let outcome = app
            .change(asker, user.id, move |user, with| {
                let stretched = stretched.as_ref();
                user.activate_by_ticket(&ticket, &code, stretched, with.policy, with.keys, with.call)
            })
            .await;
        match outcome {
            Err(Error::Refused(Refusal::Stale)) => {}
            outcome => return outcome,
        }
    }
    Err(Error::Busy)
}
