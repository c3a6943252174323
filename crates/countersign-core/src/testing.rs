//! What the tests of the rules share: a keyring without secrets, entropy from a seed, people ready to be tried.

use crate::{
    attempt::{Attempt, Code, RequestId, Target},
    challenge::{Challenge, NewCode, Recipient},
    destination::{Channel, Destination},
    enrolment::{Activation, seal_secret},
    event::{Actor, Call, Event, Record},
    factor::{
        Proof,
        emergency::EmergencyCode,
        otp::{Generator, Hotp, OtpSecret, Totp},
        recovery::RecoveryCodes,
        scratch::{SHORT_DIGITS, ScratchCode, Stretched},
    },
    id::{ClientId, FactorId, LoginId, OrganisationId, SessionId, UserId},
    keyring::{Binding, KeyError, KeyId, Keyring, Sealed, TAG_BYTES, Tag},
    locale::Locale,
    message::{Letter, Parcel, Sender},
    organisation::Organisation,
    password::PasswordCheck,
    policy::Policy,
    profile::{DisplayName, Label, Username},
    refusal::Refusal,
    role::{Rank, Role, Roles},
    secret::Secret,
    session::{NewSession, Session, SignIn},
    time::Timestamp,
    user::{NewUser, User},
    verify::Verdict,
};
use rand::{SeedableRng, rngs::StdRng};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use std::{sync::LazyLock, time::Duration};
use uuid::Uuid;

/// When the tests begin.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_795_000_000);

/// Entropy that is the same in each run.
pub(crate) fn rng(seed: u64) -> impl CryptoRng {
    StdRng::seed_from_u64(seed)
}

/// A keyring that hides nothing but checks bindings as the real one does.
pub(crate) struct OpenKeyring;

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
        let key = key.unwrap_or(KeyId(1));
        if key != KeyId(1) {
            return Err(KeyError::UnknownKey(key));
        }
        let mut hasher = Sha256::new();
        hasher.update(binding.to_bytes());
        hasher.update(message);
        let mut bytes = [0; TAG_BYTES];
        bytes.copy_from_slice(&hasher.finalize()[..TAG_BYTES]);
        Ok(Tag { key, bytes })
    }
}

/// A person with a TOTP and a HOTP factor, recovery codes and an emergency code, and all their secrets.
pub(crate) struct Person {
    pub(crate) user: User,
    pub(crate) policy: Policy,
    pub(crate) now: Timestamp,
    pub(crate) secret: OtpSecret,
    pub(crate) totp: FactorId,
    pub(crate) hotp: FactorId,
    pub(crate) recovery: Vec<ScratchCode>,
    pub(crate) emergency: ScratchCode,
}

impl Person {
    pub(crate) fn new() -> Self {
        let mut rng = rng(1);
        let now = START;
        let policy = Policy::default();
        let mut user = bare_user();
        let secret = OtpSecret::generate(&mut rng);
        let totp = FactorId::generate(now, &mut rng);
        let hotp = FactorId::generate(now, &mut rng);
        let call = Call::system(now);
        let seal =
            |factor| seal_secret(&OpenKeyring, user.organisation, user.id, factor, &secret).expect("seal");
        let proofs = [
            (totp, Proof::Totp(Totp::new(&policy.totp, seal(totp)))),
            (hotp, Proof::Hotp(Hotp::new(&policy.hotp, 0, seal(hotp)))),
        ];
        for (id, proof) in proofs {
            user.import(id, label("app"), proof, &policy, &call).expect("import");
        }
        let recovery: Vec<_> = (0..policy.recovery_codes).map(|_| ScratchCode::generate(&mut rng)).collect();
        let salt = Uuid::from_u128(1);
        let set =
            RecoveryCodes::new(&recovery, salt, user.organisation, user.id, &OpenKeyring, now).expect("hash");
        user.replace_recovery_codes(set, &policy, &call).expect("recovery codes");
        let emergency = ScratchCode::generate(&mut rng);
        let issued = EmergencyCode::new(
            &emergency,
            salt,
            None,
            user.organisation,
            user.id,
            &policy,
            &OpenKeyring,
            now,
        );
        user.issue_emergency_code(issued.expect("emergency code"), &policy, &call).expect("emergency code");
        user.take_records();
        Self { user, policy, now, secret, totp, hotp, recovery, emergency }
    }

    pub(crate) fn client(&self) -> Call {
        Call {
            actor: Actor::Client(ClientId::from_uuid(Uuid::from_u128(7))),
            rank: Rank::Client { admin: false },
            ..Call::system(self.now)
        }
    }

    /// Somebody of the staff, who is not this person.
    pub(crate) fn staff(&self, role: Role) -> Call {
        Call {
            actor: Actor::User(UserId::from_uuid(Uuid::from_u128(8))),
            rank: Rank::Person { role, second_factor: true },
            ..Call::system(self.now)
        }
    }

    pub(crate) fn themselves(&self, second_factor: bool) -> Call {
        Call {
            actor: Actor::User(self.user.id),
            rank: Rank::Themselves { second_factor },
            ..Call::system(self.now)
        }
    }

    /// The TOTP code some steps from now.
    pub(crate) fn totp_code(&self, steps: i64) -> String {
        let step = (self.now.seconds() / 30 + steps).unsigned_abs();
        Generator::new(self.policy.totp.algorithm, 6, &self.secret).code_at(step).expose().clone()
    }

    pub(crate) fn hotp_code(&self, counter: u64) -> String {
        Generator::new(Default::default(), 6, &self.secret).code_at(counter).expose().clone()
    }

    pub(crate) fn verify(&mut self, code: &str, target: Target) -> Verdict {
        let call = self.client();
        self.user.verify(&attempt(code, target), &self.policy, &OpenKeyring, &call).expect("verify")
    }

    /// Types a code that is no code of theirs.
    pub(crate) fn fail(&mut self, target: Target) -> Verdict {
        self.verify(WRONG, target)
    }

    /// Fails until the method behind the target is locked.
    pub(crate) fn lock(&mut self, target: Target) {
        let locked =
            (0..=self.policy.locks.threshold).any(|_| matches!(self.fail(target), Verdict::Locked { .. }));
        assert!(locked, "{target:?}");
    }

    /// Seals the person's secret for a new TOTP factor.
    pub(crate) fn new_totp(&self, number: u128) -> (FactorId, Label, Proof) {
        let id = FactorId::from_uuid(Uuid::from_u128(number));
        let sealed = seal_secret(&OpenKeyring, self.user.organisation, self.user.id, id, &self.secret);
        (id, label("new"), Proof::Totp(Totp::new(&self.policy.totp, sealed.expect("seal"))))
    }

    /// Enrols a TOTP factor that waits for its first code.
    pub(crate) fn enrol(&mut self, number: u128) -> FactorId {
        let (id, label, proof) = self.new_totp(number);
        self.user.enrol(id, label, proof, &self.policy, &Call::system(self.now)).expect("enrol");
        id
    }

    /// Draws an emergency code and stores its hash.
    pub(crate) fn issue_emergency_code(&mut self, seed: u64, life: Option<Duration>) -> ScratchCode {
        let code = ScratchCode::generate(&mut rng(seed));
        let call = Call::system(self.now);
        let issued = self.hash_emergency_code(&code, life).expect("hash");
        self.user.issue_emergency_code(issued, &self.policy, &call).expect("issue");
        code
    }

    pub(crate) fn hash_emergency_code(
        &self,
        code: &ScratchCode,
        life: Option<Duration>,
    ) -> Result<EmergencyCode, Refusal> {
        let (organisation, user) = (self.user.organisation, self.user.id);
        let salt = Uuid::from_u128(2);
        EmergencyCode::new(code, salt, life, organisation, user, &self.policy, &OpenKeyring, self.now)
    }

    /// Gives the person a password, as if they had accepted an invitation.
    pub(crate) fn set_password(&mut self) {
        self.user.set_initial_password(HASH.into(), &Call::system(self.now)).expect("password");
    }

    /// Signs in with a password that was found right or wrong.
    pub(crate) fn sign_in(&mut self, number: u128, matched: bool) -> SignIn {
        let call = self.nobody();
        self.user.sign_in(&checked(matched), new_session(number), &self.policy, &call).expect("sign in")
    }

    /// Signs in as far as the second step.
    pub(crate) fn open_login(&mut self, number: u128) -> LoginId {
        match self.sign_in(number, true) {
            SignIn::SecondStep { login, .. } => login.id,
            other => panic!("{other:?}"),
        }
    }

    /// Signs in without a second step.
    pub(crate) fn open_session(&mut self, number: u128) -> Session {
        self.user.mfa_enabled = false;
        match self.sign_in(number, true) {
            SignIn::Session(session) => session,
            other => panic!("{other:?}"),
        }
    }

    /// Somebody not signed in.
    pub(crate) fn nobody(&self) -> Call {
        Call { actor: Actor::Anonymous, rank: Rank::Nobody, ..Call::system(self.now) }
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// Names what happened since the last look, with its reason.
    pub(crate) fn happened(&mut self) -> Vec<String> {
        let shown = |record: Record| {
            let event: Event = serde_json::from_slice(&record.body).expect("event");
            event.reason.map_or(event.action.to_string(), |reason| format!("{}: {reason}", event.action))
        };
        self.user.take_records().into_iter().map(shown).collect()
    }

    pub(crate) fn activate(&mut self, id: FactorId, code: &str) -> Activation {
        let call = Call::system(self.now);
        self.user.activate(id, &typed(code), &self.policy, &OpenKeyring, &call).expect("activate")
    }
}

impl Person {
    /// Gives the person a factor whose codes are sent, ready for use.
    pub(crate) fn sent_factor(&mut self, number: u128, channel: Channel, to: &str) -> FactorId {
        let id = FactorId::from_uuid(Uuid::from_u128(number));
        let to = Destination::parse(channel, "destination", to).expect("destination");
        let call = Call::system(self.now);
        self.user.import(id, label("new"), Proof::Sent(to), &self.policy, &call).expect("import");
        id
    }

    /// Sends a code; returns its challenge and its digits.
    pub(crate) fn challenge(&mut self, recipient: Recipient) -> Result<(Challenge, String), Refusal> {
        let new = NewCode::draw(self.now, &mut rng(self.user.audit_head.seq));
        let call = self.client();
        let challenge = self.user.challenge(recipient, &new, &self.policy, &OpenKeyring, &call)?;
        Ok((challenge, new.digits().expose().clone()))
    }

    /// Hands over the letters written since the last look; every channel has a provider.
    pub(crate) fn letters(&mut self) -> Vec<Letter> {
        self.user.seal_messages(sender(), &OpenKeyring, |_| true).expect("seal");
        let parcels = self.user.take_parcels().expect("sealed");
        let open = |parcel: &Parcel| {
            Letter::open(parcel.organisation, parcel.user, parcel.id, &parcel.body, &OpenKeyring)
        };
        parcels.iter().map(|parcel| open(parcel).expect("letter")).collect()
    }
}

/// The language of the tests.
static LOCALE: LazyLock<Locale> = LazyLock::new(Locale::default);

/// For whom the tests' messages are written.
pub(crate) fn sender() -> Sender<'static> {
    Sender { product: "Acme", locale: &LOCALE, sends_notices: true }
}

/// What stands for the slow hash of a short code.
pub(crate) fn stretch(code: &str, salt: Uuid) -> Stretched {
    Stretched { salt, value: [salt.as_bytes(), code.as_bytes()].concat().into() }
}

/// An attempt with a code stretched for a set.
pub(crate) fn stretched(code: &str, target: Target, salt: Uuid) -> Attempt {
    Attempt { stretched: Some(stretch(code, salt)), ..attempt(code, target) }
}

/// Draws five short recovery codes for a person.
pub(crate) fn short_codes(user: &User, salt: Uuid, now: Timestamp) -> (Vec<ScratchCode>, RecoveryCodes) {
    let drawn: Vec<_> = (0..5)
        .map(|seed| ScratchCode::digits(SHORT_DIGITS, &mut rng(seed + salt.as_u128() as u64)))
        .collect();
    let hashed: Vec<_> = drawn.iter().map(|code| stretch(code.canonical(), salt)).collect();
    let set = RecoveryCodes::of_short(&hashed, salt, user.organisation, user.id, &OpenKeyring, now);
    (drawn, set.expect("hash"))
}

/// A code that is none of the fixed people's.
pub(crate) const WRONG: &str = "000001";
/// What stands for the hash of a password.
pub(crate) const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$Y29tcHV0ZWQgZWxzZXdoZXJlIGJ5IHRoZSBzZXJ2ZXI";

/// A person without factors and codes; `secret` and the factor ids are there to enrol with.
pub(crate) fn newcomer() -> Person {
    Person { user: bare_user(), ..Person::new() }
}

/// A person with all kinds of factors and this role.
pub(crate) fn person_with_role(role: Role) -> Person {
    let mut person = Person::new();
    person.user.roles = Roles::new([role]);
    person
}

/// The outcome of a check against [`HASH`].
pub(crate) fn checked(matched: bool) -> PasswordCheck {
    PasswordCheck { against: Some(HASH.into()), matched }
}

pub(crate) fn new_session(number: u128) -> NewSession {
    let uuid = Uuid::from_u128(number);
    NewSession {
        session: SessionId::from_uuid(uuid),
        login: LoginId::from_uuid(uuid),
        client: None,
        life: None,
    }
}

pub(crate) fn with_request(mut attempt: Attempt, id: &str) -> Attempt {
    attempt.request = Some(RequestId::parse("requestId", id).expect("request id"));
    attempt
}

/// A member without factors.
pub(crate) fn bare_user() -> User {
    user_with_role(Role::Member)
}

/// A person with one role and no factors.
pub(crate) fn user_with_role(role: Role) -> User {
    let mut rng = rng(2);
    let call = Call::system(START);
    let id = OrganisationId::generate(START, &mut rng);
    let slug = Username::parse("slug", "acme").expect("slug");
    let mut organisation =
        Organisation::new(id, slug, DisplayName::parse("name", "Acme").expect("name"), &call);
    let username = Username::parse("username", "ada").expect("username");
    let new = NewUser { roles: Roles::new([role]), ..NewUser::named(username) };
    organisation.admit(UserId::generate(START, &mut rng), new, &call).expect("admit")
}

pub(crate) fn attempt(code: &str, target: Target) -> Attempt {
    Attempt::new(typed(code), target)
}

pub(crate) fn typed(code: &str) -> Code {
    Code::parse("code", code).expect("code")
}

pub(crate) fn label(text: &str) -> Label {
    Label::parse("label", text).expect("label")
}
