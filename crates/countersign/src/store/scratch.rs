//! The scratch person of the start-up self-test: what is tried with them, and what must come of it. Each engine tries it on
//! its own commit path, and takes all of it back.

use crate::error::{Error, Result};
use countersign_core::{
    Attempt, Code, FactorId, Keyring, Organisation, OrganisationId, Policy, Refusal, Secret, Timestamp, User,
    UserId, Verdict,
    attempt::Target,
    enrolment::seal_secret,
    event::Call,
    factor::{
        Kind, Proof,
        otp::{Generator, OtpSecret, Totp},
    },
    keyring::{Binding, KeyError, KeyId, Sealed, TAG_BYTES, Tag},
    profile::{DisplayName, Label, Username},
    user::NewUser,
};
use std::time::Duration;
use uuid::Uuid;

/// How far the clock may be behind the newest record. More, and codes used before would be good again.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// The scratch organisation.
pub(super) const ORGANISATION: OrganisationId = OrganisationId::from_uuid(Uuid::from_u128(1));
/// The scratch person.
pub(super) const PERSON: UserId = UserId::from_uuid(Uuid::from_u128(2));
const FACTOR: FactorId = FactorId::from_uuid(Uuid::from_u128(3));
const SLUG: &str = "countersign self-test";

/// Refuses a clock that is behind the newest event.
pub(super) fn check_clock(newest: Option<Timestamp>, now: Timestamp) -> Result<()> {
    match newest {
        Some(newest) if newest > now.after(CLOCK_SLACK) => Err(Error::Store(format!(
            "self-test: the clock shows {now}, but the newest audit event is of {newest}; set the clock, then start again"
        ))),
        _ => Ok(()),
    }
}

/// Makes the scratch organisation.
pub(super) fn organisation(now: Timestamp) -> Result<Organisation> {
    let slug = Username::parse("slug", SLUG)?;
    let name = DisplayName::parse("name", "self-test")?;
    Ok(Organisation::new(ORGANISATION, slug, name, &Call::system(now)))
}

/// Admits the scratch person, with a TOTP factor.
pub(super) fn admit(organisation: &mut Organisation, now: Timestamp) -> Result<User, Refusal> {
    let (policy, call) = (Policy::default(), Call::system(now));
    let mut user = organisation.admit(PERSON, NewUser::named(Username::parse("username", SLUG)?), &call)?;
    let sealed = seal_secret(&Unsealed, ORGANISATION, PERSON, FACTOR, &secret())?;
    let proof = Proof::Totp(Totp::new(&policy.totp, sealed));
    user.import(FACTOR, Label::parse("label", "self-test")?, proof, &policy, &call)?;
    Ok(user)
}

fn secret() -> OtpSecret {
    OtpSecret::from_bytes(b"a secret of no use".to_vec())
}

/// Makes an attempt with the present code.
pub(super) fn attempt(now: Timestamp) -> Result<Attempt> {
    let rule = Policy::default().totp;
    let generator = Generator::new(rule.algorithm, rule.digits, &secret());
    let step = now.seconds().unsigned_abs() / u64::from(rule.period);
    let code = Code::parse("code", generator.code_at(step).expose())?;
    Ok(Attempt::new(code, Target::Kind(Kind::Totp)))
}

/// Checks the code.
pub(super) fn verify(user: &mut User, attempt: &Attempt, now: Timestamp) -> Result<Verdict, Refusal> {
    user.verify(attempt, &Policy::default(), &Unsealed, &Call::system(now))
}

/// Checks that a code worked once.
pub(super) fn check_replay(first: &Verdict, again: &Verdict) -> Result<()> {
    if first.is_accepted() && *again == Verdict::Replayed {
        return Ok(());
    }
    Err(failed(&format!(
        "a code was {} and then {}, not accepted and then replayed",
        first.name(),
        again.name()
    )))
}

/// Says what failed.
pub(super) fn failed(what: &str) -> Error {
    Error::Store(format!("self-test: {what}; do not serve from this database, report this"))
}

/// Seals nothing: the scratch secret protects nobody, and the store has no keys.
struct Unsealed;

impl Keyring for Unsealed {
    fn seal(&self, _: &Binding, plain: &[u8]) -> Result<Sealed, KeyError> {
        Ok(Sealed { key: KeyId(0), bytes: plain.to_vec() })
    }

    fn open(&self, _: &Binding, sealed: &Sealed) -> Result<Secret<Vec<u8>>, KeyError> {
        Ok(sealed.bytes.clone().into())
    }

    fn tag(&self, _: &Binding, _: Option<KeyId>, _: &[u8]) -> Result<Tag, KeyError> {
        Ok(Tag { key: KeyId(0), bytes: [0; TAG_BYTES] })
    }
}
