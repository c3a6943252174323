//! What the tests of the rules share: a keyring without secrets, entropy from a seed, people ready to be tried.

use crate::{
    attempt::{Attempt, Code, Target},
    enrolment::{Activation, seal_secret},
    event::{Actor, Call},
    factor::{
        Proof,
        emergency::EmergencyCode,
        otp::{Generator, Hotp, OtpSecret, Totp},
        recovery::RecoveryCodes,
        scratch::ScratchCode,
    },
    id::{ClientId, FactorId, OrganisationId, UserId},
    keyring::{Binding, KeyError, KeyId, Keyring, Sealed, TAG_BYTES, Tag},
    organisation::Organisation,
    policy::Policy,
    profile::{DisplayName, Label, Username},
    role::{Rank, Role, Roles},
    secret::Secret,
    time::Timestamp,
    user::{NewUser, User},
};
use rand::{SeedableRng, rngs::StdRng};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
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

    pub(crate) fn verify(&mut self, code: &str, target: Target) -> crate::Verdict {
        let call = self.client();
        self.user.verify(&attempt(code, target), &self.policy, &OpenKeyring, &call).expect("verify")
    }

    pub(crate) fn activate(&mut self, id: FactorId, code: &str) -> Activation {
        let call = Call::system(self.now);
        self.user.activate(id, &typed(code), &self.policy, &OpenKeyring, &call).expect("activate")
    }
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
    let new = NewUser {
        username: Username::parse("username", "ada").expect("username"),
        display_name: None,
        email: None,
        phone: None,
        roles: Roles::new([role]),
    };
    organisation.admit(UserId::generate(START, &mut rng), new, &call).expect("admit")
}

pub(crate) fn attempt(code: &str, target: Target) -> Attempt {
    Attempt { code: typed(code), target, request: None }
}

pub(crate) fn typed(code: &str) -> Code {
    Code::parse("code", code).expect("code")
}

pub(crate) fn label(text: &str) -> Label {
    Label::parse("label", text).expect("label")
}
