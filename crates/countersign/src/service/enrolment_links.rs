//! Setting up an authenticator app without being signed in: links that are mailed, codes that are told, and what their page
//! asks for.
//!
//! To whoever types a code for somebody, unknown people, people without a code and wrong codes look and take the same: a
//! read, a keyed hash, a durable commit, the same refusal.

use super::{
    factors::{self, Enrolment, NewFactor},
    organisations, sign_in,
    ticket::Ticket,
};
use crate::{
    app::{App, Asker},
    error::{Error, Result},
};
use countersign_core::{
    Call, Code, DeliveryId, Destination, FactorId, Handle, Kind, Locale, OrganisationId, Rank, Refusal,
    Secret, Timestamp, User, UserId,
    enrolment::Activation,
    enrolment_code::{self, CODE_LIFE, NewEnrolmentCode},
    enrolment_link::NewLink,
    event::Actor,
    factor::{ACTIVATION_TRIES, Held, Pending, Proof},
    keyring::Purpose,
    otpauth,
    profile::Label,
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// The path of the page that links lead to.
pub const PAGE: &str = "/enrol";

/// A link on its way.
#[derive(Debug, Clone)]
pub struct LinkSent {
    /// The factor it sets up.
    pub factor: FactorId,
    /// Where it goes.
    pub to: Destination,
    /// The message that carries it.
    pub delivery: DeliveryId,
    /// When it lapses.
    pub expires_at: Timestamp,
}

/// Mails a person the link by which they set up an authenticator app. With `replace` their keys and recovery codes are
/// gone at once.
pub async fn send(app: &App, asker: &Asker, handle: &Handle, replace: bool) -> Result<LinkSent> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    let new = draw(app, asker, id)?;
    app.change(asker, id, move |user, with| {
        user.send_enrolment_link(&new, replace, with.policy, with.call)?;
        LinkSent::of(user, new.factor, new.delivery)
    })
    .await
}

/// Switches a person's second step on, and mails them a link if they have no key to prove it with; tells whether.
pub async fn switch_on(app: &App, asker: &Asker, handle: &Handle) -> Result<bool> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    let new = draw(app, asker, id)?;
    app.change(asker, id, move |user, with| user.switch_on_mfa(&new, with.policy, with.call)).await
}

/// Mails a person whose second step is on a link by which they set up another key; the one before is gone at once.
pub async fn renew(app: &App, asker: &Asker, handle: &Handle) -> Result<()> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    let new = draw(app, asker, id)?;
    app.change(asker, id, move |user, with| user.renew_key(&new, with.policy, with.call)).await
}

/// Mails a person a link unless they have a key, or a way to set one up is open already; tells whether.
pub async fn send_first(app: &App, asker: &Asker, id: UserId) -> Result<bool> {
    let new = draw(app, asker, id)?;
    app.change(asker, id, move |user, with| user.send_first_link(&new, with.policy, with.call)).await
}

fn draw(app: &App, asker: &Asker, user: UserId) -> Result<NewLink> {
    let (factor, label, proof) = draw_factor(app, asker, user)?;
    let delivery = DeliveryId::generate(asker.call.now, &mut rand::rng());
    let token = ticket(asker.organisation.id, user, factor).write(app.keys.as_ref())?;
    let url = Secret::new(format!("{}{PAGE}?token={}", app.config.issuer(), token.expose()));
    Ok(NewLink { factor, label, proof, delivery, url })
}

impl LinkSent {
    fn of(user: &User, factor: FactorId, delivery: DeliveryId) -> Result<Self, Refusal> {
        let to = user.profile_destination(Kind::Email).ok_or(Refusal::NoSuchFactor)?;
        let expires_at = user.factor(factor)?.expires_at().ok_or(Refusal::NoSuchFactor)?;
        Ok(Self { factor, to, delivery, expires_at })
    }
}

/// Issues an enrolment code, good for an hour if `life` is left out; returns its nine digits, shown once, and when it
/// lapses.
pub async fn issue_code(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    life: Option<Duration>,
) -> Result<(Secret<String>, Timestamp)> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    let (factor, label, proof) = draw_factor(app, asker, id)?;
    let code = enrolment_code::draw(&mut rand::rng());
    let new = NewEnrolmentCode { factor, label, proof, code: code.clone(), life: life.unwrap_or(CODE_LIFE) };

    let expires_at = app
        .change(asker, id, move |user, with| {
            user.issue_enrolment_code(&new, with.policy, with.keys, with.call)
        })
        .await?;
    Ok((code, expires_at))
}

/// Returns the address at which people of an organisation type their code.
pub async fn code_page(app: &App, asker: &Asker) -> Result<String> {
    let page = format!("{}{PAGE}", app.config.issuer());
    Ok(match organisations::first(app).await? {
        Some(first) if first.id == asker.organisation.id => page,
        _ => format!("{page}?organisation={}", asker.organisation.slug.as_str()),
    })
}

/// What somebody types who was told a code.
pub struct Told {
    /// The organisation's id or slug; the first organisation if left out.
    pub organisation: Option<String>,
    /// What was typed as username: also an e-mail address.
    pub username: String,
    /// The code.
    pub code: Code,
}

/// Takes a code; returns the token of the page that it opens, or `None` if it is not right.
pub async fn redeem(app: &Arc<App>, call: Call, told: Told) -> Result<Option<Secret<String>>> {
    let app = Arc::clone(app);
    sign_in::to_the_end(async move {
        let found = sign_in::find(&app, &told.organisation.into(), &told.username).await?;
        let opened = match found {
            Some((organisation, id)) => {
                let asker = Asker { organisation, call: call_of(id, call) };
                try_code(&app, &asker, id, told.code).await?
            }
            None => {
                app.store
                    .user(OrganisationId::from_uuid(Uuid::nil()), UserId::from_uuid(Uuid::nil()))
                    .await?;
                Tried::Nothing
            }
        };
        match opened {
            Tried::Opened(ticket) => Ok(Some(ticket.write(app.keys.as_ref())?)),
            Tried::Wrong => Ok(None),
            Tried::Nothing => {
                app.store.commit_decoy().await?;
                Ok(None)
            }
        }
    })
    .await
}

/// What trying a code came to.
enum Tried {
    Opened(Ticket),
    /// It was counted.
    Wrong,
    /// There was nothing to try it at, so nothing was committed.
    Nothing,
}

async fn try_code(app: &App, asker: &Asker, id: UserId, code: Code) -> Result<Tried> {
    let organisation = asker.organisation.id;
    // A change that finds nothing to try would cost less than a code that is wrong, and more than nobody's.
    let user = app.store.user(organisation, id).await?;
    if !user.is_some_and(|user| user.has_enrolment_code(&asker.organisation.policy, asker.call.now)) {
        return Ok(Tried::Nothing);
    }
    let outcome = app
        .change(asker, id, move |user, with| {
            let opened = user.redeem_enrolment_code(&code, with.policy, with.keys, with.call)?;
            Ok(match opened {
                Some(factor) => Tried::Opened(ticket(organisation, id, factor)),
                None if user.is_unchanged() => Tried::Nothing,
                None => Tried::Wrong,
            })
        })
        .await;
    match outcome {
        Err(Error::NotFound(_)) => Ok(Tried::Nothing),
        outcome => outcome,
    }
}

/// What the page of a link shows.
#[derive(Debug, Clone)]
pub struct Page {
    /// The name of the organisation, as the app will show it.
    pub product: String,
    /// The account's name, as the app will show it.
    pub account: String,
    /// The name the person is greeted by.
    pub name: String,
    /// The language they prefer, if they said so.
    pub locale: Option<Locale>,
    /// The language of the organisation.
    pub organisation_locale: Locale,
    /// The key in Base32.
    pub key: Secret<String>,
    /// The key URI for the QR code.
    pub uri: Secret<String>,
    /// Digits of a code.
    pub digits: u8,
    /// Wrong codes that are left.
    pub attempts_left: u8,
}

/// Opens the page of a link; `None` if the link opens nothing. Changes nothing: mail servers follow links, too.
pub async fn open(app: &App, token: &str, now: Timestamp) -> Result<Option<Page>> {
    let Some((asker, ticket)) = read(app, token, now).await? else { return Ok(None) };
    let Some(user) = app.store.user(ticket.organisation, ticket.user).await? else { return Ok(None) };
    let factor = FactorId::from_uuid(ticket.item);
    match user.factor_behind_link(factor, &asker.organisation.policy, now) {
        Some(held) => Page::of(app, &asker, &user, held).map(Some),
        None => Ok(None),
    }
}

impl Page {
    fn of(app: &App, asker: &Asker, user: &User, held: &Held<Pending>) -> Result<Self> {
        let organisation = &asker.organisation;
        let sealed = held.proof.secret().ok_or(Refusal::NoQrCode)?;
        let secret = user.open_secret(held.id, sealed, app.keys.as_ref())?;
        let (product, account) = (factors::issuer(organisation), factors::account(user));
        let uri = otpauth::key_uri(product, account, &held.proof, &secret).ok_or(Refusal::NoQrCode)?;
        Ok(Self {
            product: product.to_owned(),
            account: account.to_owned(),
            name: user.greeting().to_owned(),
            locale: user.locale.clone(),
            organisation_locale: organisation.locale.clone(),
            key: secret.to_base32(),
            uri,
            digits: held.proof.digits().ok_or(Refusal::NoQrCode)?,
            attempts_left: ACTIVATION_TRIES.saturating_sub(held.state.failures),
        })
    }
}

/// What the first code typed into the page led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmed {
    /// The app is set up.
    Done,
    /// The code was wrong; after as many more the link is dead.
    Wrong {
        /// Tries that remain.
        attempts_left: u8,
    },
    /// The link opens nothing (any more).
    Gone,
}

/// Activates the factor behind a link by its first code.
pub async fn confirm(app: &Arc<App>, call: Call, token: String, code: Code) -> Result<Confirmed> {
    let app = Arc::clone(app);
    sign_in::to_the_end(async move {
        let Some((mut asker, ticket)) = read(&app, &token, call.now).await? else {
            return Ok(Confirmed::Gone);
        };
        asker.call = call_of(ticket.user, call);
        let factor = FactorId::from_uuid(ticket.item);
        let outcome = app
            .change(&asker, ticket.user, move |user, with| {
                user.activate_by_link(factor, &code, with.policy, with.keys, with.call)
            })
            .await;
        match outcome {
            Ok(Activation::Activated) => Ok(Confirmed::Done),
            Ok(Activation::Rejected { attempts_left }) => Ok(Confirmed::Wrong { attempts_left }),
            Ok(Activation::Expired) | Err(Error::Refused(Refusal::TokenGone) | Error::NotFound(_)) => {
                Ok(Confirmed::Gone)
            }
            Err(error) => Err(error),
        }
    })
    .await
}

/// Reads a link's token; returns what it names, in the organisation it names.
async fn read(app: &App, token: &str, now: Timestamp) -> Result<Option<(Asker, Ticket)>> {
    let Some(ticket) = Ticket::read(token, Purpose::EnrolmentLink, app.keys.as_ref()) else {
        return Ok(None);
    };
    let organisation = app.store.organisation(ticket.organisation).await?;
    Ok(organisation.map(|organisation| (Asker { organisation, call: Call::system(now) }, ticket)))
}

fn ticket(organisation: OrganisationId, user: UserId, factor: FactorId) -> Ticket {
    Ticket { purpose: Purpose::EnrolmentLink, organisation, user, item: factor.uuid(), generation: 0 }
}

/// The call of whoever has the link: the person, who has proved no more than that.
fn call_of(user: UserId, call: Call) -> Call {
    Call { actor: Actor::User(user), rank: Rank::Nobody, ..call }
}

fn draw_factor(app: &App, asker: &Asker, user: UserId) -> Result<(FactorId, Label, Proof)> {
    let enrolment = Enrolment { kind: Kind::Totp, destination: None, label: None };
    Ok(NewFactor::draw(app, asker, user, &enrolment)?.parts())
}
