//! Whatever may happen once happens once, however many try at the same time.

#![expect(clippy::unwrap_used, reason = "a check that cannot go on fails")]

use super::{
    Engine,
    scene::{
        OpenKeyring, Person, START, at_once, attempt, attempt_named, create, hotp_code, named, now,
        organisation, totp_code,
    },
};
use crate::error::Error;
use countersign_core::{
    Attempt, Channel, Destination, FactorId, Kind, Locale, Method, NewCode, Policy, Recipient, Verdict,
    attempt::Target, factor::Proof, message::Sender, profile::Label,
};
use std::sync::Arc;

const CALLERS: usize = 64;

async fn person(engine: &impl Engine) -> Person {
    let store = engine.store();
    let organisation = organisation(&store, "acme").await;
    Person::create(&store, organisation, "ada").await
}

async fn try_at_once(person: &Person, attempt: Attempt) -> Vec<Verdict> {
    let person = Arc::new(person.clone());
    at_once(CALLERS, |_| {
        let (person, attempt) = (Arc::clone(&person), attempt.clone());
        async move { person.verify(attempt).await }
    })
    .await
}

async fn one_success(person: Person, attempt: Attempt) {
    let verdicts = try_at_once(&person, attempt).await;

    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_accepted()).count(), 1, "{verdicts:?}");
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Replayed).count(), CALLERS - 1);
}

pub(super) async fn one_totp_code_gets_one_success(engine: impl Engine) {
    let person = person(&engine).await;
    let target = Target::Factor(person.totp);

    one_success(person, attempt(&totp_code(&now()), target)).await;
}

pub(super) async fn one_hotp_code_gets_one_success(engine: impl Engine) {
    let person = person(&engine).await;
    let target = Target::Factor(person.hotp);

    one_success(person, attempt(&hotp_code(3), target)).await;
}

pub(super) async fn one_recovery_code_gets_one_success(engine: impl Engine) {
    let person = person(&engine).await;
    let code = person.recovery[4].shown().expose().clone();

    one_success(person, attempt(&code, Target::Kind(Kind::Recovery))).await;
}

pub(super) async fn one_emergency_code_gets_one_success(engine: impl Engine) {
    let person = person(&engine).await;
    let code = person.emergency.shown().expose().clone();

    one_success(person, attempt(&code, Target::Kind(Kind::Emergency))).await;
}

pub(super) async fn one_sent_code_gets_one_success(engine: impl Engine) {
    let person = person(&engine).await;
    let (factor, new) = (FactorId::generate(START, &mut rand::rng()), NewCode::draw(START, &mut rand::rng()));
    let code = new.digits().expose().clone();
    let to = Destination::parse(Channel::Sms, "to", "+4915112345678").unwrap();
    let store = engine.store();
    let challenge = store
        .change(person.organisation, person.id, move |user| {
            let (policy, label) = (Policy::default(), Label::parse("label", "phone").unwrap());
            user.import(factor, label, Proof::Sent(to.clone()), &policy, &now())?;
            let recipient = Recipient::Factor(factor);
            let challenge = user.challenge(recipient, &new, &policy, &OpenKeyring, &now())?;
            let locale = Locale::default();
            let sender = Sender { product: "Acme", locale: &locale, sends_notices: false };
            user.seal_messages(sender, &OpenKeyring, |_| true)?;
            Ok(challenge)
        })
        .await
        .unwrap();

    one_success(person, attempt(&code, Target::Challenge(challenge.id))).await;
}

pub(super) async fn every_wrong_code_counts_until_the_method_locks(engine: impl Engine) {
    let person = person(&engine).await;

    let verdicts = try_at_once(&person, attempt("000000", Target::Factor(person.totp))).await;

    let rejected = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Rejected { .. })).count();
    let locked = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Locked { .. })).count();
    // Five failures lock: four are told what is left, the fifth and all after it that the method is locked.
    assert_eq!((rejected, locked), (4, CALLERS - 4));
    assert_eq!(person.document().await.locks.of(Method::Token).failures, 5);
}

pub(super) async fn a_request_sent_many_times_is_used_once_and_answered_alike(engine: impl Engine) {
    let person = person(&engine).await;
    let before = person.document().await.audit_head.seq;

    let verdicts =
        try_at_once(&person, attempt_named("retry-1", &totp_code(&now()), Target::Factor(person.totp))).await;

    assert!(verdicts.iter().all(|verdict| verdict.is_accepted() && *verdict == verdicts[0]), "{verdicts:?}");
    assert_eq!(person.document().await.audit_head.seq, before + 1);
}

pub(super) async fn one_of_many_who_take_a_name_gets_it(engine: impl Engine) {
    let store = engine.store();
    let acme = organisation(&store, "acme").await;

    let outcomes = at_once(16, |_| {
        let store = store.clone();
        async move { create(&store, acme, named("ada")).await }
    })
    .await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let taken = |outcome: &&Result<_, Error>| matches!(outcome, Err(Error::Conflict("username")));
    assert_eq!(outcomes.iter().filter(taken).count(), 15);
}

pub(super) async fn all_who_set_a_value_once_see_the_same_one(engine: impl Engine) {
    let store = engine.store();

    let values = at_once(16, |caller| {
        let store = store.clone();
        async move { store.meta_once("canary", vec![u8::try_from(caller).unwrap()]).await.unwrap() }
    })
    .await;

    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    assert_eq!(store.meta("canary").await.unwrap().as_ref(), Some(&values[0]));
}

pub(super) async fn changes_of_many_people_all_happen(engine: impl Engine) {
    let store = engine.store();
    let acme = organisation(&store, "acme").await;

    let verdicts = at_once(CALLERS, |number| {
        let store = store.clone();
        async move {
            let person = Person::create(&store, acme, &format!("person {number}")).await;
            person.verify(attempt(&totp_code(&now()), Target::AnyOtp)).await
        }
    })
    .await;

    assert!(verdicts.iter().all(Verdict::is_accepted));
    assert_eq!(store.organisation(acme).await.unwrap().unwrap().next_number, 1000 + CALLERS as u64);
}
