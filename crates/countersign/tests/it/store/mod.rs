//! The store's suites. All but `sqlite` say what any engine does, and run on each.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conformance;
mod model;
mod outbox;
mod outbox_model;
mod race;
mod sqlite;

use countersign::store::Store;
use countersign_core::{
    Attempt, Code, DeliveryId, FactorId, Keyring, Locale, Organisation, OrganisationId, Policy, Refusal,
    Secret, Timestamp, User, UserId, Verdict,
    attempt::{RequestId, Target},
    enrolment::seal_secret,
    event::Call,
    factor::{
        Proof,
        emergency::EmergencyCode,
        otp::{Algorithm, Generator, Hotp, OtpSecret, Totp},
        recovery::RecoveryCodes,
        scratch::ScratchCode,
    },
    keyring::{Binding, KeyError, KeyId, Sealed, TAG_BYTES, Tag},
    message::Sender,
    profile::{DisplayName, Email, Label, Username},
    user::NewUser,
};
use sha2::{Digest, Sha256};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

/// An engine on a database of its own, which goes with this value.
trait Engine: Sized {
    /// Makes an empty database and opens a store on it.
    async fn start() -> Self;

    /// Returns the store.
    fn store(&self) -> Store;

    /// Closes the store and opens it again on the same database.
    async fn reopen(self) -> Self;

    /// Makes a person's document unreadable, behind the store's back.
    async fn damage(&self, user: UserId);

    /// Tells whether the words of a message are still kept.
    async fn has_letter(&self, id: DeliveryId) -> bool;

    /// Makes the words of a message unreadable.
    async fn damage_letter(&self, id: DeliveryId);
}

/// Runs functions of a suite as tests of their own on one engine.
macro_rules! run_on {
    ($engine:ty, $suite:ident: $($test:ident,)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $test() {
            crate::store::$suite::$test(<$engine as crate::store::Engine>::start().await).await;
        }
    )+};
}
use run_on;

/// When the tests begin.
const START: Timestamp = Timestamp::from_seconds(1_795_000_000);
/// The secret everybody's factors share.
const SECRET: &[u8] = b"12345678901234567890";

fn at(seconds: u64) -> Call {
    Call::system(START.after(Duration::from_secs(seconds)))
}

fn now() -> Call {
    at(0)
}

fn username(text: &str) -> Username {
    Username::parse("username", text).unwrap()
}

fn named(name: &str) -> NewUser {
    NewUser::named(username(name))
}

fn with_email(name: &str, email: &str) -> NewUser {
    NewUser { email: Some(Email::parse("email", email).unwrap()), ..named(name) }
}

fn new_user_id() -> UserId {
    UserId::generate(START, &mut rand::rng())
}

fn new_organisation(slug: &str) -> Organisation {
    let id = OrganisationId::generate(START, &mut rand::rng());
    Organisation::new(id, username(slug), DisplayName::parse("name", slug).unwrap(), &now())
}

async fn organisation(store: &Store, slug: &str) -> OrganisationId {
    store.create_organisation(new_organisation(slug)).await.unwrap().id
}

async fn create(
    store: &Store,
    organisation: OrganisationId,
    new: NewUser,
) -> countersign::error::Result<User> {
    let id = new_user_id();
    store.create(organisation, move |organisation| organisation.admit(id, new.clone(), &now())).await
}

/// A person with every kind of factor, and what they need to use them.
#[derive(Clone)]
struct Person {
    store: Store,
    organisation: OrganisationId,
    id: UserId,
    totp: FactorId,
    hotp: FactorId,
    recovery: Vec<ScratchCode>,
    emergency: ScratchCode,
}

impl Person {
    async fn create(store: &Store, organisation: OrganisationId, name: &str) -> Self {
        let person = Self::draw(store, organisation);
        let (made, new) = (person.clone(), named(name));
        store
            .create(organisation, move |organisation| {
                let mut user = organisation.admit(made.id, new.clone(), &now())?;
                made.equip(&mut user);
                Ok(user)
            })
            .await
            .unwrap();
        person
    }

    fn draw(store: &Store, organisation: OrganisationId) -> Self {
        let mut rng = rand::rng();
        Self {
            store: store.clone(),
            organisation,
            id: new_user_id(),
            totp: FactorId::generate(START, &mut rng),
            hotp: FactorId::generate(START, &mut rng),
            recovery: (0..10).map(|_| ScratchCode::generate(&mut rng)).collect(),
            emergency: ScratchCode::generate(&mut rng),
        }
    }

    fn equip(&self, user: &mut User) {
        let (policy, call, salt) = (Policy::default(), now(), Uuid::from_u128(1));
        let seal = |factor| seal_secret(&OpenKeyring, user.organisation, user.id, factor, &secret()).unwrap();
        let proofs = [
            (self.totp, Proof::Totp(Totp::new(&policy.totp, seal(self.totp)))),
            (self.hotp, Proof::Hotp(Hotp::new(&policy.hotp, 0, seal(self.hotp)))),
        ];
        for (id, proof) in proofs {
            user.import(id, Label::parse("label", "app").unwrap(), proof, &policy, &call).unwrap();
        }
        let codes =
            RecoveryCodes::new(&self.recovery, salt, user.organisation, user.id, &OpenKeyring, call.now)
                .unwrap();
        user.replace_recovery_codes(codes, &policy, &call).unwrap();
        let (organisation, id) = (user.organisation, user.id);
        let code = EmergencyCode::new(
            &self.emergency,
            salt,
            None,
            organisation,
            id,
            &policy,
            &OpenKeyring,
            call.now,
        );
        user.issue_emergency_code(code.unwrap(), &policy, &call).unwrap();
    }

    async fn verify(&self, attempt: Attempt) -> Verdict {
        self.store
            .change(self.organisation, self.id, move |user| {
                user.verify(&attempt, &Policy::default(), &OpenKeyring, &now())
            })
            .await
            .unwrap()
    }

    async fn document(&self) -> User {
        self.store.user(self.organisation, self.id).await.unwrap().unwrap()
    }
}

/// Drops the messages of a change, as an installation does that can send none.
fn drop_messages(user: &mut User) -> Result<(), Refusal> {
    let locale = Locale::default();
    let sender = Sender { product: "Acme", locale: &locale, sends_notices: true };
    user.seal_messages(sender, &OpenKeyring, |_| false)
}

fn attempt(code: &str, target: Target) -> Attempt {
    Attempt::new(Code::parse("code", code).unwrap(), target)
}

fn attempt_named(request: &str, code: &str, target: Target) -> Attempt {
    Attempt { request: Some(RequestId::parse("requestId", request).unwrap()), ..attempt(code, target) }
}

fn secret() -> OtpSecret {
    OtpSecret::from_bytes(SECRET.to_vec())
}

fn hotp_code(counter: u64) -> String {
    Generator::new(Algorithm::Sha1, 6, &secret()).code_at(counter).expose().clone()
}

fn totp_code(call: &Call) -> String {
    hotp_code(call.now.seconds().unsigned_abs() / 30)
}

/// Runs `count` calls that begin at the same time; returns what each gave.
async fn at_once<T, F>(count: usize, call: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(count));
    let mut calls = JoinSet::new();
    for number in 0..count {
        let (start, call) = (Arc::clone(&start), call(number));
        calls.spawn(async move {
            start.wait().await;
            call.await
        });
    }
    calls.join_all().await
}

/// A keyring that hides nothing but checks bindings as the real one does.
struct OpenKeyring;

impl Keyring for OpenKeyring {
    fn seal(&self, binding: &Binding, plain: &[u8]) -> Result<Sealed, KeyError> {
        let tag = self.tag(binding, None, plain)?;
        Ok(Sealed { key: tag.key, bytes: [&tag.bytes[..], plain].concat() })
    }

    fn open(&self, binding: &Binding, sealed: &Sealed) -> Result<Secret<Vec<u8>>, KeyError> {
        let (tag, plain) = sealed.bytes.split_at_checked(TAG_BYTES).ok_or(KeyError::DoesNotOpen)?;
        if self.tag(binding, Some(sealed.key), plain)?.bytes == tag {
            Ok(plain.to_vec().into())
        } else {
            Err(KeyError::DoesNotOpen)
        }
    }

    fn tag(&self, binding: &Binding, key: Option<KeyId>, message: &[u8]) -> Result<Tag, KeyError> {
        let mut hasher = Sha256::new();
        hasher.update(binding.to_bytes());
        hasher.update(message);
        let mut bytes = [0; TAG_BYTES];
        bytes.copy_from_slice(&hasher.finalize()[..TAG_BYTES]);
        Ok(Tag { key: key.unwrap_or(KeyId(1)), bytes })
    }
}
