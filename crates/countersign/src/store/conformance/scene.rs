//! What the checks are played with: a beginning, an organisation, people with every factor, and a keyring that hides
//! nothing.

#![expect(clippy::unwrap_used, reason = "a check that cannot go on fails")]

use crate::{error::Result, store::Store};
use countersign_core::{
    Attempt, Channel, Code, DeliveryId, Destination, FactorId, Keyring, Locale, Organisation, OrganisationId,
    Policy, Secret, Timestamp, User, UserId, Verdict,
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

/// When the checks begin.
pub(super) const START: Timestamp = Timestamp::from_seconds(1_795_000_000);
/// The secret everybody's factors share.
const SECRET: &[u8] = b"12345678901234567890";

/// Returns the system's own call so many seconds after the beginning.
pub fn at(seconds: u64) -> Call {
    Call::system(START.after(Duration::from_secs(seconds)))
}

/// Returns the system's own call at the beginning.
pub fn now() -> Call {
    at(0)
}

/// Parses a username.
pub fn username(text: &str) -> Username {
    Username::parse("username", text).unwrap()
}

/// Describes a person of whom nothing is known but the name.
pub fn named(name: &str) -> NewUser {
    NewUser::named(username(name))
}

/// Describes a person with a name and an address.
pub fn with_email(name: &str, email: &str) -> NewUser {
    NewUser { email: Some(Email::parse("email", email).unwrap()), ..named(name) }
}

/// Draws an id for a person.
pub fn new_user_id() -> UserId {
    UserId::generate(START, &mut rand::rng())
}

/// Makes an organisation that is in no store yet.
pub fn new_organisation(slug: &str) -> Organisation {
    let id = OrganisationId::generate(START, &mut rand::rng());
    Organisation::new(id, username(slug), DisplayName::parse("name", slug).unwrap(), &now())
}

/// Creates an organisation in a store.
pub async fn organisation(store: &Store, slug: &str) -> OrganisationId {
    store.create_organisation(new_organisation(slug)).await.unwrap().id
}

/// Creates a person in a store.
pub async fn create(store: &Store, organisation: OrganisationId, new: NewUser) -> Result<User> {
    let id = new_user_id();
    store.create(organisation, move |organisation| organisation.admit(id, new.clone(), &now())).await
}

/// A person with every kind of factor, and what they need to use them.
#[derive(Clone)]
pub struct Person {
    /// The store they are in.
    pub store: Store,
    /// The organisation they are in.
    pub organisation: OrganisationId,
    /// Their id.
    pub id: UserId,
    /// Their app with codes of the time.
    pub totp: FactorId,
    /// Their token with codes of a counter.
    pub hotp: FactorId,
    /// Their recovery codes.
    pub recovery: Vec<ScratchCode>,
    /// Their emergency code.
    pub emergency: ScratchCode,
}

impl Person {
    /// Creates them in an organisation.
    pub async fn create(store: &Store, organisation: OrganisationId, name: &str) -> Self {
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

    /// Has an attempt of theirs verified.
    pub async fn verify(&self, attempt: Attempt) -> Verdict {
        self.store
            .change(self.organisation, self.id, move |user| {
                user.verify(&attempt, &Policy::default(), &OpenKeyring, &now())
            })
            .await
            .unwrap()
    }

    /// Returns their document.
    pub async fn document(&self) -> User {
        self.store.user(self.organisation, self.id).await.unwrap().unwrap()
    }
}

/// Returns an attempt with a code.
pub fn attempt(code: &str, target: Target) -> Attempt {
    Attempt::new(Code::parse("code", code).unwrap(), target)
}

/// Returns an attempt that its caller can recognise.
pub(super) fn attempt_named(request: &str, code: &str, target: Target) -> Attempt {
    Attempt { request: Some(RequestId::parse("requestId", request).unwrap()), ..attempt(code, target) }
}

/// Returns the secret everybody's factors share.
pub fn secret() -> OtpSecret {
    OtpSecret::from_bytes(SECRET.to_vec())
}

/// Returns the code of a counter.
pub fn hotp_code(counter: u64) -> String {
    Generator::new(Algorithm::Sha1, 6, &secret()).code_at(counter).expose().clone()
}

/// Returns the code of a time.
pub fn totp_code(call: &Call) -> String {
    hotp_code(call.now.seconds().unsigned_abs() / 30)
}

fn locale() -> &'static Locale {
    static ENGLISH: std::sync::OnceLock<Locale> = std::sync::OnceLock::new();
    ENGLISH.get_or_init(Locale::default)
}

/// Returns how messages are signed.
pub(super) fn sender() -> Sender<'static> {
    Sender { product: "Acme", locale: locale(), sends_notices: true }
}

/// Returns the address of one of many people.
pub(super) fn address(number: usize) -> Destination {
    Destination::parse(Channel::Mail, "to", &format!("person{number}@example.com")).unwrap()
}

/// Returns the time so many seconds after the beginning.
pub fn second(seconds: u64) -> Timestamp {
    at(seconds).now
}

/// Draws an id for a message.
pub(super) fn delivery_id(call: &Call) -> DeliveryId {
    DeliveryId::generate(call.now, &mut rand::rng())
}

/// Posts a message to somebody, once.
pub async fn post(
    store: &Store,
    organisation: OrganisationId,
    number: usize,
    call: Call,
) -> Result<DeliveryId> {
    let id = delivery_id(&call);
    store
        .change_organisation(organisation, move |organisation| {
            organisation.test_delivery(id, address(number), None, &call);
            organisation.seal_messages(sender(), &OpenKeyring, |_| true)?;
            Ok(id)
        })
        .await
}

/// Runs `count` calls that begin at the same time; returns what each gave.
pub async fn at_once<T, F>(count: usize, call: impl Fn(usize) -> F) -> Vec<T>
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
pub struct OpenKeyring;

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
