//! Pruning the audit trail: what goes, what stays, and that it happens once.

#![expect(clippy::unwrap_used, reason = "a check that cannot go on fails")]

use super::{
    Engine,
    scene::{Person, at_once, create, named, organisation},
};
use crate::store::{Anchor, AuditFilter, AuditSpan, EDGE, Pruning, Store};
use countersign_core::{Action, OrganisationId, event::Event};
use uuid::Uuid;

/// The first step of pruning, up to a row.
fn first(until: i64) -> Pruning {
    Pruning {
        before: None,
        edge: b"one".to_vec(),
        after: 0,
        until,
        anchors: Vec::new(),
        finished: Vec::new(),
    }
}

fn anchor(subject: Uuid, seq: u64) -> Anchor {
    Anchor { subject, seq, body: format!("up to {seq}").into_bytes() }
}

async fn rows(store: &Store) -> Vec<i64> {
    store.audit_rows(0, 1000).await.unwrap().iter().map(|row| row.row).collect()
}

/// A person with a handful of events, and somebody after them.
async fn two(engine: &impl Engine) -> (Store, OrganisationId, Person) {
    let store = engine.store();
    let acme = organisation(&store, "acme").await;
    let ada = Person::create(&store, acme, "ada").await;
    create(&store, acme, named("grace")).await.unwrap();
    (store, acme, ada)
}

pub(super) async fn pruned_events_are_gone_and_later_ones_stay(engine: impl Engine) {
    let (store, acme, _) = two(&engine).await;
    let before = store.audit_rows(0, 1000).await.unwrap();
    let heads = store.claimed_heads(None, 10).await.unwrap();

    assert!(store.prune_audit(first(before[2].row)).await.unwrap());

    assert_eq!(store.audit_rows(0, 1000).await.unwrap(), before[3..]);
    assert_eq!(store.claimed_heads(None, 10).await.unwrap(), heads);
    assert_eq!(store.meta(EDGE).await.unwrap().unwrap(), b"one");
    let listed = store.audit(acme, &AuditFilter::default(), None, 1000).await.unwrap();
    let mut left: Vec<Event> =
        before[3..].iter().map(|row| serde_json::from_slice(&row.body).unwrap()).collect();
    left.reverse();
    assert_eq!(listed.items, left);
    let span = AuditSpan { actions: vec![Action::FactorImported], ..AuditSpan::default() };
    let imported = left.iter().filter(|event| event.action == Action::FactorImported).count();
    assert_eq!(store.audit_span(acme, &span, 0, 10).await.unwrap().1, imported as u64);
}

pub(super) async fn who_was_overtaken_prunes_nothing(engine: impl Engine) {
    let (store, ..) = two(&engine).await;
    let numbers = rows(&store).await;
    assert!(store.prune_audit(first(numbers[1])).await.unwrap());
    let subject = Uuid::from_u128(7);
    let late = Pruning {
        edge: b"two".to_vec(),
        until: numbers[3],
        anchors: vec![anchor(subject, 3)],
        ..first(numbers[3])
    };

    assert!(!store.prune_audit(late.clone()).await.unwrap(), "as if nothing had been pruned before");
    let other = Pruning { before: Some(b"another".to_vec()), ..late.clone() };
    assert!(!store.prune_audit(other).await.unwrap());

    assert_eq!(rows(&store).await, numbers[2..]);
    assert_eq!(store.anchors_of(vec![subject]).await.unwrap(), []);
    assert_eq!(store.meta(EDGE).await.unwrap().unwrap(), b"one");
    let next = Pruning { before: Some(b"one".to_vec()), after: numbers[1], ..late };
    assert!(store.prune_audit(next).await.unwrap());
    assert_eq!(rows(&store).await, numbers[4..]);
}

pub(super) async fn one_of_many_who_prune_at_once_does(engine: impl Engine) {
    let (store, ..) = two(&engine).await;
    let numbers = rows(&store).await;

    let outcomes = at_once(16, |number| {
        let store = store.clone();
        let pruning = Pruning { edge: format!("by {number}").into_bytes(), ..first(numbers[number % 5]) };
        async move { store.prune_audit(pruning).await.unwrap().then_some(number) }
    })
    .await;

    let winners: Vec<usize> = outcomes.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(rows(&store).await, numbers[winners[0] % 5 + 1..]);
    assert_eq!(store.meta(EDGE).await.unwrap().unwrap(), format!("by {}", winners[0]).into_bytes());
}

pub(super) async fn where_pruned_chains_end_is_found_and_listed(engine: impl Engine) {
    let (store, ..) = two(&engine).await;
    let numbers = rows(&store).await;
    let of = |number: u128| Uuid::from_u128(number << 64);
    let anchors: Vec<Anchor> = [3, 1, 9, 0x80 << 56].map(|number| anchor(of(number), 5)).into();
    assert!(store.prune_audit(Pruning { anchors, ..first(numbers[0]) }).await.unwrap());
    let moved = Pruning {
        before: Some(b"one".to_vec()),
        edge: b"two".to_vec(),
        after: numbers[0],
        anchors: vec![anchor(of(9), 6), anchor(of(2), 1)],
        ..first(numbers[1])
    };

    assert!(store.prune_audit(moved).await.unwrap());

    let expected =
        [(1, 5), (2, 1), (3, 5), (9, 6), (0x80 << 56, 5)].map(|(number, seq)| anchor(of(number), seq));
    assert_eq!(store.anchors(Uuid::nil(), 10).await.unwrap(), expected);
    assert_eq!(store.anchors(of(2), 2).await.unwrap(), expected[2..4]);
    assert_eq!(store.anchors(of(0x80 << 56), 2).await.unwrap(), []);
    let mut found = store.anchors_of(vec![of(9), of(4), of(1)]).await.unwrap();
    found.sort_by_key(|anchor| anchor.subject);
    assert_eq!(found, [expected[0].clone(), expected[3].clone()]);
    assert_eq!(store.anchors_of(Vec::new()).await.unwrap(), []);
}

pub(super) async fn a_chain_that_is_finished_is_forgotten(engine: impl Engine) {
    let (store, acme, ada) = two(&engine).await;
    let numbers = rows(&store).await;
    let call = super::scene::at(9);
    store.remove(acme, ada.id, move |organisation, user| organisation.dismiss(user, &call)).await.unwrap();
    let subject = ada.id.uuid();
    let begun = Pruning { anchors: vec![anchor(subject, 1)], ..first(numbers[2]) };
    assert!(store.prune_audit(begun).await.unwrap());
    let until = *numbers.last().unwrap();
    let rest = Pruning {
        before: Some(b"one".to_vec()),
        edge: b"two".to_vec(),
        after: numbers[2],
        finished: vec![subject],
        ..first(until)
    };

    assert!(store.prune_audit(rest).await.unwrap());

    assert_eq!(store.anchors(Uuid::nil(), 10).await.unwrap(), []);
    let theirs = AuditFilter { user: Some(ada.id), ..AuditFilter::default() };
    assert_eq!(store.audit(acme, &theirs, None, 10).await.unwrap().items, []);
}

pub(super) async fn a_partly_pruned_chain_is_walked_to_where_it_begins(engine: impl Engine) {
    let (store, acme, ada) = two(&engine).await;
    let theirs = AuditFilter { user: Some(ada.id), ..AuditFilter::default() };
    let all = store.audit(acme, &theirs, None, 100).await.unwrap().items;
    let chain: Vec<i64> = store
        .audit_rows(0, 1000)
        .await
        .unwrap()
        .iter()
        .filter(|row| row.subject == ada.id.uuid())
        .map(|row| row.row)
        .collect();

    assert!(store.prune_audit(first(chain[1])).await.unwrap());

    for filter in [theirs.clone(), AuditFilter { from: Some(super::scene::START), ..theirs }] {
        let (mut walked, mut after) = (Vec::new(), None);
        loop {
            let page = store.audit(acme, &filter, after.as_deref(), 2).await.unwrap();
            walked.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(walked, all[..all.len() - 2]);
    }
    let page =
        store.audit(acme, &AuditFilter { user: Some(ada.id), ..AuditFilter::default() }, None, 100).await;
    assert_eq!(page.unwrap().next, None, "or a cursor to where the next page is empty");
}

pub(super) async fn numbers_go_on_rising_after_everything_else_was_pruned(engine: impl Engine) {
    let (store, acme, _) = two(&engine).await;
    let numbers = rows(&store).await;
    assert!(store.prune_audit(first(numbers[numbers.len() - 2])).await.unwrap());
    let engine = engine.reopen().await;
    let store_again = engine.store();

    create(&store_again, acme, named("joan")).await.unwrap();

    let left = rows(&store_again).await;
    assert_eq!(left[0], *numbers.last().unwrap());
    assert!(left.is_sorted_by(|a, b| a < b) && left.len() == 3, "{left:?}");
}
