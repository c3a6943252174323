//! Random operations on the outbox and on a model of it: a list of messages, walked through for each claim.

use super::{Start, model::on_random};
use countersign::store::{
    Claimed, DeliveryFilter, DeliveryState, Settlement, Store,
    conformance::scene::{self, at, post, second},
};
use countersign_core::{Channel, DeliveryId, OrganisationId, Timestamp, delivery::TEST_LIFE};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

/// Shorter than a message's life, so that claims run out before messages do.
const LEASE: Duration = Duration::from_secs(6);

#[derive(Debug, Clone)]
enum Step {
    Post,
    Claim { limit: usize },
    Settle { which: usize, how: How },
    Wait { seconds: u64 },
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Sent,
    Failed,
    Retry,
    Interrupted,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![Just(How::Sent), Just(How::Failed), Just(How::Retry), Just(How::Interrupted)];
    prop_oneof![
        4 => Just(Step::Post),
        4 => (1..4_usize).prop_map(|limit| Step::Claim { limit }),
        4 => (0..8_usize, how).prop_map(|(which, how)| Step::Settle { which, how }),
        3 => (1..9_u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Reopen),
    ]
}

pub(super) fn the_outbox_does_what_a_list_would_do<E: Start>() {
    on_random(step(), run::<E>);
}

async fn run<E: Start>(steps: Vec<Step>) {
    let mut engine = E::start().await;
    let organisation = scene::organisation(&engine.store(), "acme").await;
    let mut model = Model { organisation, seconds: 0, messages: BTreeMap::new(), claims: Vec::new() };
    for step in steps {
        if let Step::Reopen = step {
            engine = engine.reopen().await;
            let freed = engine.store().release_claims().await.unwrap();
            assert_eq!(freed, model.release());
        } else {
            model.take(&step, &engine.store()).await;
        }
        model.compare(&engine.store()).await;
    }
}

/// A message as the model knows it.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    state: DeliveryState,
    due_at: Timestamp,
    expires_at: Timestamp,
    attempts: u32,
    interrupted: u32,
    /// Which of the claims is good.
    claim: Option<usize>,
}

struct Model {
    organisation: OrganisationId,
    seconds: u64,
    messages: BTreeMap<DeliveryId, Known>,
    /// All claims that were ever made, also those that are not good any more.
    claims: Vec<Claimed>,
}

impl Model {
    fn now(&self) -> Timestamp {
        second(self.seconds)
    }

    async fn take(&mut self, step: &Step, store: &Store) {
        match step {
            Step::Post => self.post(store).await,
            Step::Claim { limit } => self.claim(store, *limit).await,
            Step::Settle { which, how } => self.settle(store, *which, *how).await,
            Step::Wait { seconds } => self.seconds += seconds,
            Step::Reopen => unreachable!("taken by the run"),
        }
    }

    async fn post(&mut self, store: &Store) {
        let now = self.now();
        let id = post(store, self.organisation, self.messages.len(), at(self.seconds)).await.unwrap();
        let known = Known {
            state: DeliveryState::Queued,
            due_at: now,
            expires_at: now.after(TEST_LIFE),
            attempts: 0,
            interrupted: 0,
            claim: None,
        };
        self.messages.insert(id, known);
    }

    /// Which of those that are due at the same time come first is the engine's choice; that none comes too early, that
    /// none is missed while there is room, and what becomes of each, is not.
    async fn claim(&mut self, store: &Store, limit: usize) {
        let now = self.now();
        let due = self.messages.values().filter(|known| known.is_due(now)).count();
        let claimed = store.claim(Channel::Mail, now, LEASE, limit).await.unwrap();
        let mut looked_at = 0;
        for found in claimed {
            let known = self.messages.get_mut(&found.id).unwrap();
            assert!(known.is_due(now) && known.expires_at > now, "{known:?}");
            known.give_up_claim();
            known.attempts += 1;
            known.due_at = now.after(LEASE);
            known.claim = Some(self.claims.len());
            self.claims.push(found);
            looked_at += 1;
        }
        for (id, known) in &mut self.messages {
            let is_gone = known.is_due(now)
                && known.expires_at <= now
                && store.delivery(self.organisation, *id).await.unwrap().unwrap().state
                    == DeliveryState::Expired;
            if is_gone {
                known.give_up_claim();
                known.state = DeliveryState::Expired;
                looked_at += 1;
            }
        }
        assert_eq!(looked_at, due.min(limit));
    }

    async fn settle(&mut self, store: &Store, which: usize, how: How) {
        // The newest ones first: they are the ones that may still be good.
        let Some(place) = self.claims.len().checked_sub(1 + which) else { return };
        let (claimed, now) = (self.claims[place].clone(), self.now());
        let known = self.messages.get_mut(&claimed.id).unwrap();
        let is_good = known.claim == Some(place) && known.state == DeliveryState::Queued;
        let settlement = match how {
            How::Sent => Settlement::Sent { provider: "relay".into(), reference: None },
            How::Failed => Settlement::Failed { reason: "no".into() },
            How::Retry => Settlement::Retry { at: now.after(Duration::from_secs(2)), reason: "busy".into() },
            How::Interrupted => Settlement::Interrupted,
        };

        assert_eq!(store.settle(&claimed, settlement, now).await.unwrap(), is_good);

        if is_good {
            known.claim = None;
            match how {
                How::Sent => known.state = DeliveryState::Sent,
                How::Failed => known.state = DeliveryState::Failed,
                How::Retry => known.due_at = now.after(Duration::from_secs(2)),
                How::Interrupted => {
                    known.due_at = now;
                    known.interrupted += 1;
                }
            }
        }
    }

    fn release(&mut self) -> usize {
        let claimed = self.messages.values_mut().filter(|known| known.claim.is_some());
        let mut freed = 0;
        for known in claimed.filter(|known| known.state == DeliveryState::Queued) {
            known.give_up_claim();
            known.due_at = Timestamp::from_millis(known.expires_at.millis() - TEST_LIFE.as_millis() as i64);
            freed += 1;
        }
        freed
    }

    async fn compare(&self, store: &Store) {
        let page = store.deliveries(self.organisation, &DeliveryFilter::All, None, 1000).await.unwrap();
        assert_eq!(page.items.len(), self.messages.len());
        for delivery in page.items {
            let known = &self.messages[&delivery.id];
            assert_eq!(delivery.state, known.state);
            assert_eq!((delivery.attempts, delivery.interrupted), (known.attempts, known.interrupted));
            let due_at = (known.state == DeliveryState::Queued).then_some(known.due_at);
            assert_eq!(delivery.due_at, due_at);
        }
        let queued = self.messages.values().filter(|known| known.state == DeliveryState::Queued).count();
        assert_eq!(store.gauges().channels[Channel::Mail as usize].queued, queued as u64);
    }
}

impl Known {
    fn is_due(&self, now: Timestamp) -> bool {
        self.state == DeliveryState::Queued && self.due_at <= now
    }

    /// Nobody knows what became of the attempt.
    fn give_up_claim(&mut self) {
        if self.claim.take().is_some() {
            self.interrupted += 1;
        }
    }
}
