//! What the outbox does, on any engine: messages go in with what caused them, out to one at a time, and none is lost.

#![expect(clippy::unwrap_used, reason = "a check that cannot go on fails")]

use super::{
    Engine,
    scene::{
        self, OpenKeyring, START, address, at, at_once, create, delivery_id, named, organisation, post,
        second, sender,
    },
};
use crate::{
    error::{Error, Result},
    store::{ChannelGauges, Claimed, Delivery, DeliveryFilter, DeliveryState, Settlement, Store},
};
use countersign_core::{
    ChallengeId, Channel, DeliveryId, Destination, FactorId, NewCode, OrganisationId, Policy, Recipient,
    Refusal, Timestamp, UserId, delivery::TEST_LIFE, event::Call, profile::Label, resend::ResendRule,
};
use std::{collections::BTreeSet, time::Duration};

const LEASE: Duration = Duration::from_secs(60);

/// A person with a number that codes go to.
struct Reached {
    store: Store,
    organisation: OrganisationId,
    id: UserId,
    factor: FactorId,
}

impl Reached {
    async fn create(store: &Store, organisation: OrganisationId, name: &str) -> Self {
        let id = create(store, organisation, named(name)).await.unwrap().id;
        Self { store: store.clone(), organisation, id, factor: FactorId::generate(START, &mut rand::rng()) }
    }

    /// Enrols a number, which sends the first code to it.
    async fn enrol(&self, number: &str, call: Call) -> Result<NewCode> {
        let (factor, new) = (self.factor, NewCode::draw(call.now, &mut rand::rng()));
        let to = Destination::parse(Channel::Sms, "to", number)?;
        let drawn = new.clone();
        self.store
            .change(self.organisation, self.id, move |user| {
                let label = Label::parse("label", "phone")?;
                user.enrol_sent(factor, label, to.clone(), &new, &Policy::default(), &OpenKeyring, &call)?;
                user.seal_messages(sender(), &OpenKeyring, |_| true)
            })
            .await
            .map(|()| drawn)
    }

    async fn resend(&self, challenge: ChallengeId, call: Call) -> NewCode {
        let new = NewCode::draw(call.now, &mut rand::rng());
        let drawn = new.clone();
        self.store
            .change(self.organisation, self.id, move |user| {
                let recipient = Recipient::Challenge(challenge);
                user.challenge(recipient, &new, &Policy::default(), &OpenKeyring, &call)?;
                user.seal_messages(sender(), &OpenKeyring, |_| true)
            })
            .await
            .unwrap();
        drawn
    }
}

async fn acme(engine: &impl Engine) -> (Store, OrganisationId) {
    let store = engine.store();
    let acme = organisation(&store, "acme").await;
    (store, acme)
}

/// An organisation with one message.
async fn posted(engine: &impl Engine) -> (Store, OrganisationId, DeliveryId) {
    let (store, acme) = acme(engine).await;
    let id = post(&store, acme, 1, at(0)).await.unwrap();
    (store, acme, id)
}

async fn claim_one(store: &Store, now: Timestamp) -> Option<Claimed> {
    let mut claimed = store.claim(Channel::Mail, now, LEASE, 1).await.unwrap();
    claimed.pop()
}

async fn look(store: &Store, organisation: OrganisationId, id: DeliveryId) -> Delivery {
    store.delivery(organisation, id).await.unwrap().unwrap()
}

fn sent() -> Settlement {
    Settlement::Sent { provider: "relay".into(), reference: Some("r-1".into()) }
}

fn failed() -> Settlement {
    Settlement::Failed { reason: "no such mailbox".into() }
}

async fn list(store: &Store, organisation: OrganisationId, filter: DeliveryFilter) -> Vec<DeliveryId> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.deliveries(organisation, &filter, after.as_deref(), 2).await.unwrap();
        assert!(page.items.len() <= 2);
        all.extend(page.items.into_iter().map(|delivery| delivery.id));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

fn gauges(store: &Store, channel: Channel) -> ChannelGauges {
    store.gauges().channels[channel as usize]
}

pub(super) async fn a_message_is_there_when_the_change_is(engine: impl Engine) {
    let (store, acme, id) = posted(&engine).await;

    let delivery = look(&store, acme, id).await;

    assert_eq!(delivery.state, DeliveryState::Queued);
    assert_eq!((delivery.channel, delivery.subject.as_str()), (Channel::Mail, "test"));
    assert_eq!(delivery.masked, "p•••@e•••.com");
    assert_eq!((delivery.attempts, delivery.interrupted), (0, 0));
    assert_eq!(delivery.due_at, Some(START));
    assert_eq!(delivery.expires_at, START.after(TEST_LIFE));

    let refused = store
        .change_organisation(acme, move |organisation| -> Result<(), Refusal> {
            organisation.test_delivery(delivery_id(&at(1)), address(2), None, &at(1));
            organisation.seal_messages(sender(), &OpenKeyring, |_| true)?;
            Err(Refusal::NotBySelf)
        })
        .await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::NotBySelf))));
    assert_eq!(list(&store, acme, DeliveryFilter::All).await, [id]);
}

pub(super) async fn a_message_that_was_not_sealed_is_an_error_and_nothing_is_committed(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let before = store.organisation(acme).await.unwrap();

    let refused = store
        .change_organisation(acme, move |organisation| {
            organisation.test_delivery(delivery_id(&at(1)), address(1), None, &at(1));
            Ok(())
        })
        .await;

    assert!(matches!(refused, Err(Error::Internal(_))), "{refused:?}");
    assert_eq!(store.organisation(acme).await.unwrap(), before);
}

pub(super) async fn a_claim_takes_what_is_due_and_nobody_else_gets_it(engine: impl Engine) {
    let (store, acme, id) = posted(&engine).await;
    assert_eq!(store.next_due(Channel::Mail).await.unwrap(), Some(START));

    let claimed = claim_one(&store, second(1)).await.unwrap();

    assert_eq!((claimed.id, claimed.organisation, claimed.attempts), (id, acme, 1));
    assert_eq!(claim_one(&store, second(2)).await, None);
    assert_eq!(store.claim(Channel::Sms, second(2), LEASE, 9).await.unwrap(), []);
    assert_eq!(look(&store, acme, id).await.due_at, Some(second(61)));
    assert_eq!(store.next_due(Channel::Mail).await.unwrap(), Some(second(61)));
}

pub(super) async fn a_settlement_ends_a_message_and_wipes_its_words(engine: impl Engine) {
    let (store, acme, id) = posted(&engine).await;
    let claimed = claim_one(&store, START).await.unwrap();

    assert!(store.settle(&claimed, sent(), second(2)).await.unwrap());

    let delivery = look(&store, acme, id).await;
    assert_eq!((delivery.state, delivery.settled_at), (DeliveryState::Sent, Some(second(2))));
    assert_eq!(delivery.provider.as_deref(), Some("relay"));
    assert_eq!(delivery.reference.as_deref(), Some("r-1"));
    assert_eq!(delivery.due_at, None);
    assert!(!engine.has_letter(id).await);
    assert!(!store.settle(&claimed, failed(), second(3)).await.unwrap(), "once");
    assert_eq!(store.next_due(Channel::Mail).await.unwrap(), None);
}

pub(super) async fn what_failed_for_now_is_due_again_later(engine: impl Engine) {
    let (store, acme, id) = posted(&engine).await;
    let claimed = claim_one(&store, START).await.unwrap();
    let retry = Settlement::Retry { at: second(5), reason: "busy".into() };

    assert!(store.settle(&claimed, retry, second(1)).await.unwrap());

    let delivery = look(&store, acme, id).await;
    assert_eq!((delivery.state, delivery.due_at), (DeliveryState::Queued, Some(second(5))));
    assert_eq!(delivery.reason.as_deref(), Some("busy"));
    assert_eq!(claim_one(&store, second(4)).await, None);
    let again = claim_one(&store, second(5)).await.unwrap();
    assert_eq!((again.attempts, again.body.clone()), (2, claimed.body));
    assert_eq!(look(&store, acme, id).await.interrupted, 0);
}

pub(super) async fn a_claim_that_ran_out_is_counted_and_taken_over(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let person = Reached::create(&store, acme, "ada").await;
    let code = person.enrol("+4915112345678", at(0)).await.unwrap();
    let claim = async |now| store.claim(Channel::Sms, now, LEASE, 1).await.unwrap().pop();
    let first = claim(START).await.unwrap();
    assert_eq!(claim(second(59)).await, None);

    let second_claim = claim(second(60)).await.unwrap();

    assert_ne!(first.claim, second_claim.claim);
    let delivery = look(&store, acme, code.delivery).await;
    assert_eq!((delivery.attempts, delivery.interrupted), (2, 1));
    assert_eq!(gauges(&store, Channel::Sms).interrupted, 1);
}

pub(super) async fn who_was_overtaken_settles_nothing(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let person = Reached::create(&store, acme, "ada").await;
    let code = person.enrol("+4915112345678", at(0)).await.unwrap();
    let first = store.claim(Channel::Sms, START, LEASE, 1).await.unwrap().pop().unwrap();
    let other = store.claim(Channel::Sms, second(60), LEASE, 1).await.unwrap().pop().unwrap();

    assert!(!store.settle(&first, sent(), second(61)).await.unwrap());

    assert_eq!(look(&store, acme, code.delivery).await.state, DeliveryState::Queued);
    assert!(store.settle(&other, sent(), second(62)).await.unwrap());
}

pub(super) async fn what_must_not_be_sent_any_more_is_not_claimed(engine: impl Engine) {
    let (store, acme, id) = posted(&engine).await;
    let claimed = claim_one(&store, START).await.unwrap();
    let retry = Settlement::Retry { at: second(5), reason: "busy".into() };
    assert!(store.settle(&claimed, retry, second(1)).await.unwrap());

    assert_eq!(claim_one(&store, START.after(TEST_LIFE)).await, None);

    let delivery = look(&store, acme, id).await;
    assert_eq!(delivery.state, DeliveryState::Expired);
    assert_eq!(delivery.reason.as_deref(), Some("busy"), "the last reason stays");
    assert!(!engine.has_letter(id).await);
    assert_eq!(gauges(&store, Channel::Mail).expired, 1);
    assert_eq!(gauges(&store, Channel::Mail).queued, 0);
}

// Claiming failed as a whole, again and again: nothing was sent by the channel any more.
pub(super) async fn a_letter_that_cannot_be_read_holds_up_no_other(engine: impl Engine) {
    let (store, acme, damaged) = posted(&engine).await;
    let next = post(&store, acme, 2, at(1)).await.unwrap();
    engine.damage_letter(damaged).await;

    let claimed = store.claim(Channel::Mail, second(1), LEASE, 9).await.unwrap();

    assert_eq!(claimed.iter().map(|claimed| claimed.id).collect::<Vec<_>>(), [next]);
    let failed = look(&store, acme, damaged).await;
    assert_eq!(failed.reason.as_deref(), Some("open letter: it is not as expected"));
    assert_eq!((failed.state, gauges(&store, Channel::Mail).queued), (DeliveryState::Failed, 1));
}

pub(super) async fn claims_of_a_process_that_is_gone_are_freed_and_counted(engine: impl Engine) {
    let (store, acme, id) = posted(&engine).await;
    post(&store, acme, 2, at(0)).await.unwrap();
    let first = claim_one(&store, second(1)).await.unwrap();

    let engine = engine.reopen().await;
    let store = engine.store();
    assert_eq!(store.release_claims().await.unwrap(), 1);

    assert_eq!(store.release_claims().await.unwrap(), 0);
    assert!(!store.settle(&first, sent(), second(2)).await.unwrap());
    let claimed = store.claim(Channel::Mail, second(2), LEASE, 9).await.unwrap();
    assert_eq!(claimed.len(), 2);
    let interrupted = look(&store, acme, first.id).await;
    assert_eq!((interrupted.attempts, interrupted.interrupted), (2, 1));
    let other = if first.id == id { claimed.iter().find(|claimed| claimed.id != id).unwrap().id } else { id };
    assert_eq!(look(&store, acme, other).await.interrupted, 0);
}

pub(super) async fn an_interrupted_attempt_is_due_at_once_and_counted(engine: impl Engine) {
    let (store, acme, id) = posted(&engine).await;
    let claimed = claim_one(&store, START).await.unwrap();

    assert!(store.settle(&claimed, Settlement::Interrupted, second(3)).await.unwrap());

    let delivery = look(&store, acme, id).await;
    assert_eq!((delivery.state, delivery.interrupted), (DeliveryState::Queued, 1));
    assert_eq!(delivery.due_at, Some(second(3)));
    assert!(claim_one(&store, second(3)).await.is_some());
    assert_eq!(look(&store, acme, id).await.interrupted, 1, "counted once");
}

pub(super) async fn a_later_code_takes_the_place_of_one_that_waits(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let person = Reached::create(&store, acme, "ada").await;
    let first = person.enrol("+4915112345678", at(0)).await.unwrap();

    let later = person.resend(first.challenge, at(30)).await;

    let replaced = look(&store, acme, first.delivery).await;
    assert_eq!((replaced.state, replaced.settled_at), (DeliveryState::Superseded, Some(second(30))));
    assert!(!engine.has_letter(first.delivery).await);
    let claimed = store.claim(Channel::Sms, second(30), LEASE, 9).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.id).collect::<Vec<_>>(), [later.delivery]);
    assert_eq!(gauges(&store, Channel::Sms).superseded, 1);
    assert_eq!(gauges(&store, Channel::Sms).queued, 1);
}

pub(super) async fn a_later_code_leaves_one_alone_that_is_being_sent(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let person = Reached::create(&store, acme, "ada").await;
    let first = person.enrol("+4915112345678", at(0)).await.unwrap();
    let claimed = store.claim(Channel::Sms, second(1), LEASE, 9).await.unwrap().pop().unwrap();

    person.resend(first.challenge, at(30)).await;

    assert_eq!(look(&store, acme, first.delivery).await.state, DeliveryState::Queued);
    assert!(store.settle(&claimed, sent(), second(31)).await.unwrap());
}

// With a provider down, codes that were worth nothing any more were sent after the newest one, once it was back.
pub(super) async fn a_code_that_was_replaced_while_it_was_being_sent_has_no_further_attempt(
    engine: impl Engine,
) {
    let (store, acme) = acme(&engine).await;
    let person = Reached::create(&store, acme, "ada").await;
    let first = person.enrol("+4915112345678", at(0)).await.unwrap();
    let claimed = store.claim(Channel::Sms, second(1), LEASE, 9).await.unwrap().pop().unwrap();
    let later = person.resend(first.challenge, at(30)).await;

    let busy = Settlement::Retry { at: second(32), reason: "busy".into() };
    assert!(store.settle(&claimed, busy, second(31)).await.unwrap());

    let claimed = store.claim(Channel::Sms, second(32), LEASE, 9).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.id).collect::<Vec<_>>(), [later.delivery]);
    let replaced = look(&store, acme, first.delivery).await;
    assert_eq!((replaced.state, replaced.attempts), (DeliveryState::Expired, 1));
}

// An operator could have the code of a challenge sent that had a newer one.
pub(super) async fn a_dead_letter_that_was_replaced_is_not_sent_again(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let person = Reached::create(&store, acme, "ada").await;
    let first = person.enrol("+4915112345678", at(0)).await.unwrap();
    let claimed = store.claim(Channel::Sms, second(1), LEASE, 9).await.unwrap().pop().unwrap();
    assert!(store.settle(&claimed, failed(), second(1)).await.unwrap());
    person.resend(first.challenge, at(30)).await;

    let retried = store.requeue(acme, person.id, first.delivery, second(31), |_| panic!("recorded")).await;

    assert!(matches!(retried, Err(Error::Refused(Refusal::NotRetriable("expired")))), "{retried:?}");
}

// A code went to somebody who was removed before it was sent.
pub(super) async fn a_person_who_is_removed_takes_their_codes_along(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let person = Reached::create(&store, acme, "ada").await;
    let code = person.enrol("+4915112345678", at(0)).await.unwrap();

    store.remove(acme, person.id, |organisation, user| organisation.dismiss(user, &at(1))).await.unwrap();

    assert_eq!(look(&store, acme, code.delivery).await.state, DeliveryState::Superseded);
    assert!(!engine.has_letter(code.delivery).await);
    assert!(store.claim(Channel::Sms, second(1), LEASE, 9).await.unwrap().is_empty());
}

pub(super) async fn a_dead_letter_is_sent_again_with_a_word_in_the_trail(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let person = Reached::create(&store, acme, "ada").await;
    let code = person.enrol("+4915112345678", at(0)).await.unwrap();
    let claimed = store.claim(Channel::Sms, START, LEASE, 1).await.unwrap().pop().unwrap();
    assert!(store.settle(&claimed, failed(), second(1)).await.unwrap());
    assert!(engine.has_letter(code.delivery).await, "a dead letter keeps its words");
    let before = store.user(acme, person.id).await.unwrap().unwrap().audit_head.seq;

    let id = code.delivery;
    let record = move |user: &mut countersign_core::User| user.retry_delivery(id, &at(2));
    let retried = store.requeue(acme, person.id, id, second(2), record).await.unwrap();

    assert_eq!((retried.state, retried.due_at), (DeliveryState::Queued, Some(second(2))));
    assert_eq!(retried.reason.as_deref(), Some("no such mailbox"));
    assert_eq!(store.user(acme, person.id).await.unwrap().unwrap().audit_head.seq, before + 1);
    let again = store.claim(Channel::Sms, second(2), LEASE, 1).await.unwrap().pop().unwrap();
    assert_eq!((again.id, again.body), (id, claimed.body));
}

pub(super) async fn only_a_dead_letter_is_sent_again(engine: impl Engine) {
    let (store, acme, id) = posted(&engine).await;
    let other = organisation(&store, "other").await;
    let retry = async |organisation, now| {
        store.requeue_of_organisation(organisation, id, now, |_| panic!("nothing to record")).await
    };

    let queued = retry(acme, second(1)).await;
    assert!(matches!(queued, Err(Error::Refused(Refusal::NotRetriable("queued")))), "{queued:?}");
    let claimed = claim_one(&store, second(1)).await.unwrap();
    assert!(store.settle(&claimed, failed(), second(1)).await.unwrap());
    let late = retry(acme, START.after(TEST_LIFE)).await;
    assert!(matches!(late, Err(Error::Refused(Refusal::NotRetriable("expired")))), "{late:?}");
    let foreign = retry(other, second(2)).await;
    assert!(matches!(foreign, Err(Error::NotFound("delivery"))), "{foreign:?}");
}

pub(super) async fn deliveries_are_listed_newest_first_by_one_filter(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let other = organisation(&store, "other").await;
    post(&store, other, 9, at(20)).await.unwrap();
    let mut mails = Vec::new();
    for number in 0..5 {
        mails.push(post(&store, acme, number, at(number as u64)).await.unwrap());
    }
    let ada = Reached::create(&store, acme, "ada").await;
    let code = ada.enrol("+4915112345678", at(10)).await.unwrap();
    let claimed = claim_one(&store, second(5)).await.unwrap();
    assert!(store.settle(&claimed, sent(), second(5)).await.unwrap());
    mails.reverse();

    let all: Vec<_> = std::iter::once(code.delivery).chain(mails.clone()).collect();
    assert_eq!(list(&store, acme, DeliveryFilter::All).await, all);
    assert_eq!(list(&store, acme, DeliveryFilter::Channel(Channel::Mail)).await, mails);
    assert_eq!(list(&store, acme, DeliveryFilter::User(ada.id)).await, [code.delivery]);
    assert_eq!(list(&store, acme, DeliveryFilter::Challenge(code.challenge)).await, [code.delivery]);
    assert_eq!(list(&store, acme, DeliveryFilter::State(DeliveryState::Sent)).await, [claimed.id]);
    assert_eq!(list(&store, acme, DeliveryFilter::State(DeliveryState::Queued)).await.len(), 5);
    let foreign = store.deliveries(acme, &DeliveryFilter::All, Some("x"), 2).await;
    assert!(matches!(foreign, Err(Error::Refused(Refusal::Invalid(invalid))) if invalid.field == "after"));
    assert_eq!(store.delivery(other, code.delivery).await.unwrap(), None);
}

pub(super) async fn a_challenge_finds_its_newest_delivery(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let ada = Reached::create(&store, acme, "ada").await;
    let first = ada.enrol("+4915112345678", at(0)).await.unwrap();
    let later = ada.resend(first.challenge, at(30)).await;
    let find = async |user| {
        let found = store.delivery_of_challenge(acme, user, first.challenge).await.unwrap();
        found.map(|delivery| delivery.id)
    };

    assert_eq!(find(ada.id).await, Some(later.delivery));
    assert_eq!(find(scene::new_user_id()).await, None);
}

pub(super) async fn a_later_report_is_kept(engine: impl Engine) {
    let (store, acme, id) = posted(&engine).await;
    let claimed = claim_one(&store, START).await.unwrap();
    assert!(store.settle(&claimed, sent(), second(1)).await.unwrap());

    assert!(!store.report("another".into(), "r-1".into(), "rejected".into()).await.unwrap());
    assert_eq!(look(&store, acme, id).await.report, None);
    assert!(store.report("relay".into(), "r-1".into(), "delivered".into()).await.unwrap());

    let delivery = look(&store, acme, id).await;
    assert_eq!((delivery.state, delivery.report.as_deref()), (DeliveryState::Sent, Some("delivered")));
}

pub(super) async fn old_deliveries_are_forgotten_in_steps_and_those_that_wait_are_not(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    for number in 0..5 {
        post(&store, acme, number, at(0)).await.unwrap();
    }
    let waits = post(&store, acme, 9, at(10)).await.unwrap();
    for claimed in store.claim(Channel::Mail, second(1), LEASE, 5).await.unwrap() {
        assert!(store.settle(&claimed, sent(), second(1)).await.unwrap());
    }

    assert_eq!(store.prune_deliveries(second(1), 3).await.unwrap(), 0);
    assert_eq!(store.prune_deliveries(second(9), 3).await.unwrap(), 3);
    assert_eq!(store.prune_deliveries(second(9), 3).await.unwrap(), 2);

    assert_eq!(store.prune_deliveries(second(1_000_000), 3).await.unwrap(), 0);
    assert_eq!(list(&store, acme, DeliveryFilter::All).await, [waits]);
}

pub(super) async fn a_destination_is_counted_whoever_asks(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let ada = Reached::create(&store, acme, "ada").await;
    let bob = Reached::create(&store, acme, "bob").await;
    ada.enrol("+4915112345678", at(0)).await.unwrap();
    let before = store.user(acme, bob.id).await.unwrap();

    let refused = bob.enrol("+49 151 12345678", at(10)).await;

    let Err(Error::Refused(Refusal::TooSoon(wait))) = refused else { panic!("{refused:?}") };
    assert_eq!(wait, Duration::from_secs(20));
    assert_eq!(store.user(acme, bob.id).await.unwrap(), before, "nothing of a refused change is there");
    assert_eq!(list(&store, acme, DeliveryFilter::User(bob.id)).await, []);
    bob.enrol("+4915112345679", at(10)).await.unwrap();
    let carol = Reached::create(&store, acme, "carol").await;
    carol.enrol("+4915112345678", at(30)).await.unwrap();
}

pub(super) async fn a_destination_is_forgotten_when_it_does_not_matter_any_more(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    for number in 0..3 {
        post(&store, acme, number, at(0)).await.unwrap();
    }

    assert_eq!(store.forget_destinations(second(3599), 2).await.unwrap(), 0);
    assert_eq!(store.forget_destinations(second(3600), 2).await.unwrap(), 2);
    assert_eq!(store.forget_destinations(second(3600), 2).await.unwrap(), 1);
}

pub(super) async fn who_waits_is_rung(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.posted(Channel::Mail).await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());

    post(&store, acme, 1, at(0)).await.unwrap();

    tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
}

pub(super) async fn the_gauges_tell_what_waits_also_after_a_restart(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    for number in 0..4 {
        post(&store, acme, number, at(number as u64)).await.unwrap();
    }
    let mut claimed = store.claim(Channel::Mail, second(4), LEASE, 3).await.unwrap().into_iter();
    let mut settle = async |settlement| {
        assert!(store.settle(&claimed.next().unwrap(), settlement, second(5)).await.unwrap());
    };
    settle(sent()).await;
    settle(failed()).await;
    settle(Settlement::Retry { at: second(9), reason: "busy".into() }).await;

    let expected = ChannelGauges { queued: 2, sent: 1, failed: 1, retried: 1, ..ChannelGauges::default() };
    assert_eq!(gauges(&store, Channel::Mail), expected);
    assert_eq!(gauges(&store, Channel::Voice), ChannelGauges::default());
    let engine = engine.reopen().await;
    let store = engine.store();
    assert_eq!(gauges(&store, Channel::Mail), ChannelGauges { queued: 2, ..ChannelGauges::default() });
    assert_eq!(store.oldest_queued(Channel::Mail).await.unwrap(), Some(second(2)));
    assert_eq!(store.oldest_queued(Channel::Sms).await.unwrap(), None);
}

pub(super) async fn one_of_many_gets_each_message(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    for number in 0..40 {
        post(&store, acme, number, at(0)).await.unwrap();
    }

    let claims = at_once(16, |_| {
        let store = store.clone();
        async move { store.claim(Channel::Mail, second(1), LEASE, 5).await.unwrap() }
    })
    .await;

    let ids: Vec<_> = claims.iter().flatten().map(|claimed| claimed.id).collect();
    assert_eq!(ids.len(), 40);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 40);
    let first = claims.iter().flatten().next().unwrap();
    let outcomes = at_once(16, |_| {
        let (store, claimed) = (store.clone(), first.clone());
        async move { store.settle(&claimed, sent(), second(2)).await.unwrap() }
    })
    .await;
    assert_eq!(outcomes.iter().filter(|settled| **settled).count(), 1);
}

pub(super) async fn a_destination_takes_as_many_as_the_rule_says_however_many_ask(engine: impl Engine) {
    let (store, acme) = acme(&engine).await;
    let mut people = Vec::new();
    for number in 0..64 {
        people.push(std::sync::Arc::new(Reached::create(&store, acme, &format!("person {number}")).await));
    }
    let ask = async |seconds: u64| {
        at_once(people.len(), |number| {
            let person = std::sync::Arc::clone(&people[number]);
            async move { person.enrol("+4915112345678", at(seconds)).await }
        })
        .await
    };

    let mut sent = 0;
    for round in 0..u64::from(ResendRule::default().per_hour) + 3 {
        let outcomes = ask(round * 30).await;
        let refused = |outcome: &&Result<NewCode>| matches!(outcome, Err(Error::Refused(_)));
        sent += outcomes.len() - outcomes.iter().filter(refused).count();
    }

    assert_eq!(sent, usize::from(ResendRule::default().per_hour));
    // Who got through once may do so again, which takes their earlier message back.
    let counted = gauges(&store, Channel::Sms);
    assert_eq!(counted.queued + counted.superseded, sent as u64);
    assert_eq!(list(&store, acme, DeliveryFilter::All).await.len(), sent);
}
