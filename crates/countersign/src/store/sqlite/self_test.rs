//! The proof, before serving, that this engine on this disk keeps its promises.
//!
//! A scratch organisation with a scratch person goes through the functions every change goes through, inside a
//! savepoint that is always taken back: nothing of it is ever committed or visible, and no cleaning up can fail.

use super::{Sqlite, audit, organisations, users, writer::Batch};
use crate::error::{Error, Result};
use countersign_core::{
    Attempt, Code, FactorId, Handle, Keyring, Organisation, OrganisationId, Policy, Secret, Timestamp, User,
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

const ORGANISATION: OrganisationId = OrganisationId::from_uuid(Uuid::from_u128(1));
const PERSON: UserId = UserId::from_uuid(Uuid::from_u128(2));
const FACTOR: FactorId = FactorId::from_uuid(Uuid::from_u128(3));

impl Sqlite {
    /// See [`crate::store::Store::self_test`].
    pub async fn self_test(&self, now: Timestamp) -> Result<()> {
        self.writer
            .commit(move |batch| {
                check_clock(batch, now)?;
                batch.rehearse(|| {
                    let code = enrol(batch, now)?;
                    check_replay(batch, &code, now)?;
                    check_guard(batch)
                })
            })
            .await
    }
}

fn check_clock(batch: &Batch<'_>, now: Timestamp) -> Result<()> {
    match audit::newest_time(batch)? {
        Some(newest) if newest > now.after(CLOCK_SLACK) => Err(Error::Store(format!(
            "self-test: the clock shows {now}, but the newest audit event is of {newest}; set the clock, then start again"
        ))),
        _ => Ok(()),
    }
}

/// Makes the scratch person with a TOTP factor; returns its present code.
fn enrol(batch: &Batch<'_>, now: Timestamp) -> Result<Code> {
    let call = Call::system(now);
    let slug = Username::parse("slug", "countersign self-test")?;
    let name = DisplayName::parse("name", "self-test")?;
    organisations::insert(batch, Organisation::new(ORGANISATION, slug.clone(), name, &call))?;

    let policy = Policy::default();
    let secret = OtpSecret::from_bytes(b"a secret of no use".to_vec());
    users::create(batch, ORGANISATION, &mut |organisation| {
        let mut user = organisation.admit(PERSON, NewUser::named(slug.clone()), &call)?;
        let proof = Proof::Totp(Totp::new(
            &policy.totp,
            seal_secret(&Unsealed, ORGANISATION, PERSON, FACTOR, &secret)?,
        ));
        user.import(FACTOR, Label::parse("label", "self-test")?, proof, &policy, &call)?;
        Ok(user)
    })?;
    let generator = Generator::new(policy.totp.algorithm, policy.totp.digits, &secret);
    let step = now.seconds().unsigned_abs() / u64::from(policy.totp.period);
    Ok(Code::parse("code", generator.code_at(step).expose())?)
}

fn check_replay(batch: &Batch<'_>, code: &Code, now: Timestamp) -> Result<()> {
    let attempt = Attempt::new(code.clone(), Target::Kind(Kind::Totp));
    let mut verify =
        |user: &mut User| user.verify(&attempt, &Policy::default(), &Unsealed, &Call::system(now));

    let first = users::change(batch, ORGANISATION, &Handle::Id(PERSON), &mut verify)?;
    let again = users::change(batch, ORGANISATION, &Handle::Id(PERSON), &mut verify)?;
    if first.is_accepted() && again == Verdict::Replayed {
        return Ok(());
    }
    Err(failed(&format!(
        "a code was {} and then {}, not accepted and then replayed",
        first.name(),
        again.name()
    )))
}

/// A row that moved on must refuse whoever decided on the version before.
fn check_guard(batch: &Batch<'_>) -> Result<()> {
    match users::rewrite_stale(batch, ORGANISATION, PERSON)? {
        false => Ok(()),
        true => Err(failed("a document was replaced by one decided on an older version")),
    }
}

fn failed(what: &str) -> Error {
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
