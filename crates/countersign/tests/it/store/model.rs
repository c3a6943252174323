//! Random operations on the store and on a model of it: documents in a map, and a list of what was recorded.

use super::Start;
use countersign::{
    error::{Error, Result},
    store::{
        Store, UserFilter,
        conformance::scene::{
            OpenKeyring, attempt, new_organisation, now, secret, totp_code, username, with_email,
        },
    },
};
use countersign_core::{
    FactorId, Handle, Locale, Method, Organisation, Policy, Refusal, Timestamp, User, UserId, Verdict,
    attempt::Target,
    enrolment::seal_secret,
    event::{Call, Record},
    factor::{Proof, otp::Totp},
    message::Sender,
    profile::Label,
    user::{Status, UserPatch},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// One step of a run. People are named by when they were created, also those who are gone or never were.
#[derive(Debug, Clone)]
enum Step {
    Create { name: u8 },
    Rename { who: u8, name: u8 },
    SetStatus { who: u8, status: Status },
    Verify { who: u8, code: Typed },
    Unlock { who: u8 },
    Remove { who: u8 },
    Wait { seconds: u8 },
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum Typed {
    Right,
    Wrong,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..8_u8;
    let name = 0..6_u8;
    let status = prop_oneof![Just(Status::Active), Just(Status::Disabled)];
    prop_oneof![
        4 => name.clone().prop_map(|name| Step::Create { name }),
        2 => (who.clone(), name).prop_map(|(who, name)| Step::Rename { who, name }),
        2 => (who.clone(), status).prop_map(|(who, status)| Step::SetStatus { who, status }),
        6 => who.clone().prop_map(|who| Step::Verify { who, code: Typed::Right }),
        6 => who.clone().prop_map(|who| Step::Verify { who, code: Typed::Wrong }),
        1 => who.clone().prop_map(|who| Step::Unlock { who }),
        1 => who.prop_map(|who| Step::Remove { who }),
        3 => (0..40_u8).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Reopen),
    ]
}

pub(super) fn the_store_does_what_a_map_would_do<E: Start>() {
    on_random(step(), run::<E>);
}

/// Runs random steps, each list of them on a store of its own.
pub(super) fn on_random<S: std::fmt::Debug>(step: impl Strategy<Value = S>, run: impl AsyncFn(Vec<S>)) {
    let runtime = Runtime::new().unwrap();
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };

    TestRunner::new(config)
        .run(&vec(step, 1..60), |steps| {
            runtime.block_on(run(steps));
            Ok::<_, TestCaseError>(())
        })
        .unwrap();
}

async fn run<E: Start>(steps: Vec<Step>) {
    let mut engine = E::start().await;
    let mut model = Model::new(&engine.store()).await;
    for step in steps {
        if let Step::Reopen = step {
            engine = engine.reopen().await;
            model.compare(&engine.store()).await;
        } else {
            model.take(&step, &engine.store()).await;
        }
    }
    model.compare(&engine.store()).await;
}

/// What a step led to, in the store as in the model.
#[derive(Debug, PartialEq)]
enum Outcome {
    Done,
    Verdict(Verdict),
    Refused(Refusal),
    NotFound,
    Taken,
}

fn outcome(result: Result<Outcome>) -> Outcome {
    match result {
        Ok(outcome) => outcome,
        Err(Error::Refused(refusal)) => Outcome::Refused(refusal),
        Err(Error::NotFound(_)) => Outcome::NotFound,
        // Which of two names that are both taken is named is the engine's choice.
        Err(Error::Conflict(_)) => Outcome::Taken,
        Err(error) => panic!("{error}"),
    }
}

struct Model {
    organisation: Organisation,
    users: BTreeMap<UserId, User>,
    records: Vec<Record>,
    created: u8,
    now: Timestamp,
}

impl Model {
    async fn new(store: &Store) -> Self {
        let mut organisation = new_organisation("acme");
        store.create_organisation(organisation.clone()).await.unwrap();
        let records = organisation.take_records();
        Self { organisation, users: BTreeMap::new(), records, created: 0, now: now().now }
    }

    /// Takes a step in the model and in the store, and compares what it led to.
    async fn take(&mut self, step: &Step, store: &Store) {
        let call = Call::system(self.now);
        let organisation = self.organisation.id;
        let (expected, found) = match step.clone() {
            Step::Create { name } => {
                let id = id_of(self.created);
                self.created += 1;
                let admit = move |organisation: &mut Organisation| admit(organisation, id, name, &call);
                let found = store.create(organisation, admit.clone()).await.map(|_| Outcome::Done);
                (self.create(admit), found)
            }
            Step::Remove { who } => {
                let dismiss =
                    move |organisation: &mut Organisation, user: &User| organisation.dismiss(user, &call);
                let found =
                    store.remove(organisation, id_of(who), dismiss.clone()).await.map(|()| Outcome::Done);
                (self.remove(id_of(who), dismiss), found)
            }
            Step::Wait { seconds } => {
                self.now = self.now.after(Duration::from_secs(seconds.into()));
                return;
            }
            Step::Reopen => unreachable!("taken by the run"),
            Step::Rename { who, .. }
            | Step::SetStatus { who, .. }
            | Step::Verify { who, .. }
            | Step::Unlock { who } => {
                let step = step.clone();
                let decide = move |user: &mut User| {
                    let outcome = decide(user, &step, &call)?;
                    drop_messages(user)?;
                    Ok(outcome)
                };
                let found = store.change(organisation, id_of(who), decide.clone()).await;
                (self.change(id_of(who), decide), found)
            }
        };
        assert_eq!(outcome(found), expected, "{step:?}");
    }

    fn create(&mut self, mut admit: impl FnMut(&mut Organisation) -> Result<User, Refusal>) -> Outcome {
        let mut organisation = self.organisation.clone();
        let mut user = admit(&mut organisation).unwrap();
        if self.is_taken(&user) {
            return Outcome::Taken;
        }
        self.records.extend(user.take_records());
        self.users.insert(user.id, user);
        self.records.extend(organisation.take_records());
        self.organisation = organisation;
        Outcome::Done
    }

    fn remove(
        &mut self,
        id: UserId,
        mut dismiss: impl FnMut(&mut Organisation, &User) -> Result<(), Refusal>,
    ) -> Outcome {
        let Some(user) = self.users.remove(&id) else { return Outcome::NotFound };
        dismiss(&mut self.organisation, &user).unwrap();
        self.records.extend(self.organisation.take_records());
        Outcome::Done
    }

    fn change(
        &mut self,
        id: UserId,
        mut decide: impl FnMut(&mut User) -> Result<Outcome, Refusal>,
    ) -> Outcome {
        let Some(mut user) = self.users.get(&id).cloned() else { return Outcome::NotFound };
        match decide(&mut user) {
            Err(refusal) => Outcome::Refused(refusal),
            Ok(outcome) if user.is_unchanged() => outcome,
            Ok(_) if self.is_taken(&user) => Outcome::Taken,
            Ok(outcome) => {
                self.records.extend(user.take_records());
                self.users.insert(id, user);
                outcome
            }
        }
    }

    fn is_taken(&self, user: &User) -> bool {
        self.users.values().any(|other| {
            other.id != user.id
                && (other.username.key() == user.username.key()
                    || other.email.is_some() && other.email == user.email)
        })
    }

    /// Compares all the store holds with the model.
    async fn compare(&self, store: &Store) {
        let organisation = self.organisation.id;
        assert_eq!(store.organisation(organisation).await.unwrap().as_deref(), Some(&self.organisation));
        for id in (0..self.created).map(id_of) {
            assert_eq!(store.user(organisation, id).await.unwrap().as_ref(), self.users.get(&id));
        }
        for user in self.users.values() {
            let found = store.find(organisation, &Handle::Username(user.username.key())).await.unwrap();
            assert_eq!(found, Some(user.id));
        }
        self.compare_list(store, UserFilter::All, |_| true).await;
        for status in [Status::Active, Status::Disabled] {
            self.compare_list(store, UserFilter::Status(status), |user| user.status == status).await;
        }
        let is_locked = |user: &User| user.locks.of(Method::Token).locked_at.is_some();
        self.compare_list(store, UserFilter::Locked(Method::Token), is_locked).await;
        let is_found = |user: &User| user.email.as_ref().is_some_and(|email| email.as_str().contains("1@"));
        self.compare_list(store, UserFilter::NameContains("1@".into()), is_found).await;
        self.compare_records(store).await;
    }

    async fn compare_list(&self, store: &Store, filter: UserFilter, is_meant: impl Fn(&User) -> bool) {
        let listed = store.users(self.organisation.id, &filter, None, 1000).await.unwrap();
        let mut expected: Vec<User> = self.users.values().filter(|user| is_meant(user)).cloned().collect();
        expected.sort_by_key(|user| user.number);

        assert_eq!(listed.items, expected, "{filter:?}");
        if matches!(filter, UserFilter::All | UserFilter::NameContains(_)) {
            let counted = store.people(self.organisation.id, &filter, 0, 1000).await.unwrap();
            let total = expected.len() as u64;
            assert_eq!(counted, (expected, total), "{filter:?}");
        }
    }

    /// Within a chain the order is fixed; which of two chains of one commit comes first is the engine's choice.
    async fn compare_records(&self, store: &Store) {
        let mut expected: BTreeMap<Uuid, Vec<&[u8]>> = BTreeMap::new();
        for record in &self.records {
            expected.entry(record.subject.uuid()).or_default().push(&record.body);
        }
        let rows = store.audit_rows(0, 10_000).await.unwrap();
        let mut found: BTreeMap<Uuid, Vec<&[u8]>> = BTreeMap::new();
        for row in &rows {
            found.entry(row.subject).or_default().push(&row.body);
        }

        assert_eq!(found, expected);
    }
}

fn id_of(who: u8) -> UserId {
    UserId::from_uuid(Uuid::from_u128(100 + u128::from(who)))
}

fn factor_of(user: UserId) -> FactorId {
    FactorId::from_uuid(user.uuid())
}

fn admit(organisation: &mut Organisation, id: UserId, name: u8, call: &Call) -> Result<User, Refusal> {
    // Two names share an address, so that either can be what is taken.
    let new = with_email(&format!("user-{name}"), &format!("{}@example.com", name / 2));
    let mut user = organisation.admit(id, new, call)?;
    let (policy, factor) = (Policy::default(), factor_of(id));
    let sealed = seal_secret(&OpenKeyring, user.organisation, id, factor, &secret())?;
    let proof = Proof::Totp(Totp::new(&policy.totp, sealed));
    user.import(factor, Label::parse("label", "app")?, proof, &policy, call)?;
    drop_messages(&mut user)?;
    Ok(user)
}

fn decide(user: &mut User, step: &Step, call: &Call) -> Result<Outcome, Refusal> {
    match step {
        Step::Rename { name, .. } => {
            let username = Some(username(&format!("user-{name}")));
            user.update(UserPatch { username, ..UserPatch::default() }, call)?;
        }
        Step::SetStatus { status, .. } => {
            user.update(UserPatch { status: Some(*status), ..UserPatch::default() }, call)?;
        }
        Step::Unlock { .. } => drop(user.unlock(&Method::ALL, call)?),
        Step::Verify { code, .. } => {
            let code = match code {
                Typed::Right => totp_code(call),
                Typed::Wrong => "000000".into(),
            };
            let attempt = attempt(&code, Target::Factor(factor_of(user.id)));
            return user.verify(&attempt, &Policy::default(), &OpenKeyring, call).map(Outcome::Verdict);
        }
        Step::Create { .. } | Step::Remove { .. } | Step::Wait { .. } | Step::Reopen => {
            unreachable!("not a change of a person")
        }
    }
    Ok(Outcome::Done)
}

/// Drops the messages of a change, as an installation does that can send none.
fn drop_messages(user: &mut User) -> Result<(), Refusal> {
    let locale = Locale::default();
    let sender = Sender { product: "Acme", locale: &locale, sends_notices: true };
    user.seal_messages(sender, &OpenKeyring, |_| false)
}
