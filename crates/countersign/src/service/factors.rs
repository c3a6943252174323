//! Factors: enrolling, activating, changing and deleting them.

use super::challenges::{self, Sent};
use crate::{
    app::{App, Asker, With},
    error::{Error, Result},
};
use countersign_core::{
    Code, Destination, Factor, FactorId, Handle, Kind, LoginId, Organisation, Refusal, Secret, User, UserId,
    enrolment::{Activation, Resync, seal_secret},
    factor::{
        Proof,
        otp::{Algorithm, Hotp, OtpSecret, Totp},
    },
    otpauth,
    policy::{HotpRule, TotpRule},
    profile::Label,
    refusal::Invalid,
};

/// What somebody asks to enrol.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The kind: of an OTP, or of codes that are sent.
    pub kind: Kind,
    /// Where codes are to be sent; the profile's address or number if left out.
    pub destination: Option<Destination>,
    /// What the person calls it; the kind's name if left out.
    pub label: Option<Label>,
}

/// A factor whose seed is known already.
#[derive(Debug, Clone)]
pub struct Import {
    /// The kind: an OTP kind.
    pub kind: Kind,
    /// What the person calls it; the kind's name if left out.
    pub label: Option<Label>,
    /// The seed.
    pub secret: OtpSecret,
    /// The hash, policy's for TOTP and SHA-1 for HOTP if left out.
    pub algorithm: Option<Algorithm>,
    /// The digits, policy's if left out.
    pub digits: Option<u8>,
    /// The time step of a TOTP factor, policy's if left out.
    pub period: Option<u8>,
    /// The next counter of a HOTP factor, 0 if left out.
    pub counter: Option<u64>,
}

/// A factor just enrolled, with what its person gets to see once.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// The factor.
    pub factor: Factor,
    /// What its first code comes from.
    pub shown: Shown,
}

/// What a factor's first code comes from.
#[derive(Debug, Clone)]
pub enum Shown {
    /// A key, for an app or a token.
    Key {
        /// The seed in Base32.
        secret: Secret<String>,
        /// The key URI for the QR code.
        uri: Secret<String>,
    },
    /// A message that is on its way.
    Challenge(Box<Sent>),
}

/// Why a first code did not activate a factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activated {
    /// It did.
    Factor(Box<Factor>),
    /// The code was wrong.
    Rejected {
        /// Tries that remain.
        attempts_left: u8,
    },
    /// The factor waited too long.
    Expired,
}

/// Enrols a factor that waits for its first code.
pub async fn enrol(app: &App, asker: &Asker, handle: &Handle, enrolment: Enrolment) -> Result<Enrolled> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    if enrolment.kind.channel().is_some() {
        return challenges::enrol(app, asker, id, None, enrolment).await;
    }
    let new = NewFactor::draw(app, asker, id, &enrolment)?;
    let (factor, label, proof) = new.parts();

    let user = app
        .change(asker, id, move |user, with| {
            user.enrol(factor, label.clone(), proof.clone(), with.policy, with.call)?;
            Ok(user.clone())
        })
        .await?;
    new.shown(&asker.organisation, &user)
}

/// Enrols the first factor of somebody in the middle of signing in.
pub async fn enrol_in_login(
    app: &App,
    asker: &Asker,
    id: UserId,
    login: LoginId,
    enrolment: Enrolment,
) -> Result<Enrolled> {
    if enrolment.kind.channel().is_some() {
        return challenges::enrol(app, asker, id, Some(login), enrolment).await;
    }
    let new = NewFactor::draw(app, asker, id, &enrolment)?;
    let (factor, label, proof) = new.parts();

    let user = app
        .change(asker, id, move |user, with| {
            user.enrol_in_login(login, (factor, label.clone(), proof.clone()), with.policy, with.call)?;
            Ok(user.clone())
        })
        .await?;
    new.shown(&asker.organisation, &user)
}

/// Brings in a factor whose seed is known already, ready for use.
pub async fn import(app: &App, asker: &Asker, handle: &Handle, import: Import) -> Result<Factor> {
    let id = app.resolve(asker.organisation.id, handle).await?;
    let policy = &asker.organisation.policy;
    let factor = FactorId::generate(asker.call.now, &mut rand::rng());
    let sealed = seal_secret(app.keys.as_ref(), asker.organisation.id, id, factor, &import.secret)?;
    let label = import.label.clone().map_or_else(|| default_label(import.kind), Ok)?;
    let proof = match import.kind {
        Kind::Totp => {
            refuse("counter", import.counter.is_some(), "a TOTP factor has none")?;
            let rule = TotpRule {
                algorithm: import.algorithm.unwrap_or(policy.totp.algorithm),
                digits: within("digits", import.digits, 6, 8)?.unwrap_or(policy.totp.digits),
                period: within("period", import.period, 15, 60)?.unwrap_or(policy.totp.period),
                window: 0,
            };
            Proof::Totp(Totp::new(&rule, sealed))
        }
        Kind::Hotp => {
            refuse("period", import.period.is_some(), "a HOTP factor has none")?;
            let digits = within("digits", import.digits, 6, 8)?.unwrap_or(policy.hotp.digits);
            let rule = HotpRule { digits, ..policy.hotp };
            let hotp = Hotp::new(&rule, import.counter.unwrap_or(0), sealed);
            Proof::Hotp(Hotp { algorithm: import.algorithm.unwrap_or_default(), ..hotp })
        }
        other => return Err(not_enrolled(other)),
    };

    app.change(asker, id, move |user, with| {
        user.import(factor, label.clone(), proof.clone(), with.policy, with.call)?;
        user.factor(factor).cloned()
    })
    .await
}

/// Brings in a factor whose destination is known to be the person's, ready for use.
pub async fn import_sent(app: &App, asker: &Asker, handle: &Handle, enrolment: Enrolment) -> Result<Factor> {
    let factor = FactorId::generate(asker.call.now, &mut rand::rng());
    let label = enrolment.label.clone().map_or_else(|| default_label(enrolment.kind), Ok)?;
    app.change(asker, handle, move |user, with| {
        let proof = Proof::Sent(challenges::destination(user, &enrolment)?);
        user.import(factor, label.clone(), proof, with.policy, with.call)?;
        user.factor(factor).cloned()
    })
    .await
}

/// Activates a waiting factor by its first code.
pub async fn activate(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    factor: FactorId,
    code: Code,
) -> Result<Activated> {
    app.change(asker, handle, move |user, with| {
        Ok(match user.activate(factor, &code, with.policy, with.keys, with.call)? {
            Activation::Activated => Activated::Factor(Box::new(user.factor(factor)?.clone())),
            Activation::Rejected { attempts_left } => Activated::Rejected { attempts_left },
            Activation::Expired => Activated::Expired,
        })
    })
    .await
}

/// Finds a HOTP factor's counter again from two consecutive codes.
pub async fn resynchronise(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    factor: FactorId,
    codes: [Code; 2],
) -> Result<(Resync, Factor)> {
    app.change(asker, handle, move |user, with| {
        let pair = [&codes[0], &codes[1]];
        let found = user.resynchronise(factor, pair, with.policy, with.keys, with.call)?;
        Ok((found, user.factor(factor)?.clone()))
    })
    .await
}

/// Renames, disables or enables a factor.
pub async fn update(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    factor: FactorId,
    label: Option<Label>,
    enabled: Option<bool>,
) -> Result<Factor> {
    app.change(asker, handle, move |user, with| {
        if let Some(label) = &label {
            user.rename_factor(factor, label.clone(), with.call)?;
        }
        match enabled {
            Some(true) => user.enable_factor(factor, with.policy, with.call)?,
            Some(false) => user.disable_factor(factor, with.policy, with.call)?,
            None => {}
        }
        user.factor(factor).cloned()
    })
    .await
}

/// Deletes a factor.
pub async fn delete(app: &App, asker: &Asker, handle: &Handle, factor: FactorId) -> Result<()> {
    app.change(asker, handle, move |user, With { policy, call, .. }| user.delete_factor(factor, policy, call))
        .await
}

/// Returns the key URI of a factor that waits for its first code: shown until then, never after.
pub async fn pending_uri(
    app: &App,
    asker: &Asker,
    handle: &Handle,
    factor: FactorId,
) -> Result<Secret<String>> {
    let user = app.user(asker.organisation.id, handle).await?;
    user.check_managed_by(&asker.call)?;
    match user.factor(factor)? {
        waiting @ Factor::Pending(held) if !waiting.is_expired(asker.call.now) => {
            let sealed = held.proof.secret().ok_or(Refusal::NoQrCode)?;
            let secret = user.open_secret(factor, sealed, app.keys.as_ref())?;
            let uri = otpauth::key_uri(issuer(&asker.organisation), account(&user), &held.proof, &secret);
            Ok(uri.ok_or(Refusal::NoQrCode)?)
        }
        other => Err(other.wrong_state().into()),
    }
}

/// A factor drawn for a person, before it is enrolled.
pub(super) struct NewFactor {
    id: FactorId,
    label: Label,
    proof: Proof,
    secret: OtpSecret,
}

impl NewFactor {
    pub(super) fn draw(app: &App, asker: &Asker, user: UserId, enrolment: &Enrolment) -> Result<Self> {
        let mut rng = rand::rng();
        let id = FactorId::generate(asker.call.now, &mut rng);
        let secret = OtpSecret::generate(&mut rng);
        let sealed = seal_secret(app.keys.as_ref(), asker.organisation.id, user, id, &secret)?;
        let policy = &asker.organisation.policy;
        let proof = match enrolment.kind {
            Kind::Totp => Proof::Totp(Totp::new(&policy.totp, sealed)),
            Kind::Hotp => Proof::Hotp(Hotp::new(&policy.hotp, 0, sealed)),
            other => return Err(not_enrolled(other)),
        };
        let label = enrolment.label.clone().map_or_else(|| default_label(enrolment.kind), Ok)?;
        Ok(Self { id, label, proof, secret })
    }

    pub(super) fn parts(&self) -> (FactorId, Label, Proof) {
        (self.id, self.label.clone(), self.proof.clone())
    }

    pub(super) fn shown(&self, organisation: &Organisation, user: &User) -> Result<Enrolled> {
        let uri = otpauth::key_uri(issuer(organisation), account(user), &self.proof, &self.secret);
        let shown = Shown::Key { secret: self.secret.to_base32(), uri: uri.ok_or(Refusal::NoQrCode)? };
        Ok(Enrolled { factor: user.factor(self.id)?.clone(), shown })
    }
}

pub(super) fn issuer(organisation: &Organisation) -> &str {
    organisation.name.as_str()
}

pub(super) fn account(user: &User) -> &str {
    user.username.as_str()
}

pub(super) fn default_label(kind: Kind) -> Result<Label> {
    let name = match kind {
        Kind::Totp => "Authenticator app",
        Kind::Email => "E-mail",
        Kind::Sms => "Text message",
        Kind::Voice => "Telephone",
        Kind::Hotp | Kind::Recovery | Kind::Emergency => "Token",
    };
    Ok(Label::parse("label", name)?)
}

/// Recovery and emergency codes are drawn by calls of their own.
fn not_enrolled(kind: Kind) -> Error {
    Invalid::new("type", format!("{kind} codes are not enrolled; expected totp, hotp, email, sms or voice"))
        .into()
}

fn refuse(field: &str, present: bool, message: &str) -> Result<(), Refusal> {
    if present { Err(Invalid::new(field, message).into()) } else { Ok(()) }
}

fn within(field: &str, value: Option<u8>, least: u8, most: u8) -> Result<Option<u8>, Invalid> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(Invalid::new(field, format!("expected {least} to {most}")))
        }
        value => Ok(value),
    }
}
