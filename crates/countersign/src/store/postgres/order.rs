//! The numbers of audit rows: the order of commits as far as a cluster has one, without anything all nodes have to ask for.
//!
//! A number holds the database's time in milliseconds, the node's own number, and a count. It fits into 53 bits, so that
//! programs that know only floating-point numbers can read it, and no two events ever have the same one.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering::Relaxed};

/// The beginning of 2026, from which the time is counted.
const EPOCH_MILLIS: i64 = 1_767_225_600_000;
/// Bits for the node: as many nodes can be at work at a time.
const NODE_BITS: u32 = 6;
/// Bits for the count within a millisecond. Who needs more takes from the next one.
const COUNT_BITS: u32 = 7;

/// The nodes that can be at work at a time.
pub(super) const NODES: i16 = 1 << NODE_BITS;

/// Gives numbers to this node's rows.
#[derive(Default)]
pub(super) struct Order {
    node: AtomicU8,
    /// The last time and count given.
    tick: AtomicI64,
}

impl Order {
    /// Sets the number of this node.
    pub(super) fn set_node(&self, number: i16) {
        self.node.store(u8::try_from(number).unwrap_or_default(), Relaxed);
    }

    /// Returns numbers for `count` rows of one change, in ascending order, none of them given before.
    pub(super) fn next(&self, count: usize, now_millis: i64) -> Vec<i64> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let now = (now_millis - EPOCH_MILLIS).max(1) << COUNT_BITS;
        let node = i64::from(self.node.load(Relaxed));
        let advance = |last: i64| (last + 1).max(now) + count - 1;
        let last =
            self.tick.fetch_update(Relaxed, Relaxed, |last| Some(advance(last))).unwrap_or_else(|last| last);
        let end = advance(last);
        (end + 1 - count..=end).map(|tick| number(tick, node)).collect()
    }
}

fn number(tick: i64, node: i64) -> i64 {
    let (time, count) = (tick >> COUNT_BITS, tick & ((1 << COUNT_BITS) - 1));
    (((time << NODE_BITS) | node) << COUNT_BITS) | count
}

/// Returns a time in which all numbers are above this one.
pub(super) fn time_after(number: i64) -> i64 {
    (number >> (NODE_BITS + COUNT_BITS)) + EPOCH_MILLIS + 1
}

/// Returns the first number of a time.
pub(super) fn first_of(millis: i64) -> i64 {
    (millis - EPOCH_MILLIS).max(0) << (NODE_BITS + COUNT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_000_000;

    #[test]
    fn numbers_rise_and_never_come_twice() {
        let order = Order::default();
        order.set_node(NODES - 1);

        let numbers: Vec<i64> = [(3, NOW), (200, NOW), (1, NOW - 5000), (2, NOW + 1), (1, NOW + 60_000)]
            .into_iter()
            .flat_map(|(count, now)| order.next(count, now))
            .collect();

        assert_eq!(numbers.len(), 207);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert!(numbers.iter().all(|number| (first_of(NOW)..first_of(NOW + 60_001)).contains(number)));
    }

    #[test]
    fn nodes_share_no_number() {
        let (one, other) = (Order::default(), Order::default());
        other.set_node(1);

        let (ours, theirs) = (one.next(300, NOW), other.next(300, NOW));

        assert!(ours.iter().all(|number| !theirs.contains(number)));
    }

    #[test]
    fn what_comes_after_a_number_of_another_node_is_above_it() {
        let (behind, ahead) = (Order::default(), Order::default());
        ahead.set_node(NODES - 1);
        let theirs = ahead.next(200, NOW + 30).pop().expect("a number");

        let ours = behind.next(1, NOW.max(time_after(theirs)));

        assert!(ours[0] > theirs, "{ours:?} {theirs}");
        assert!(time_after(0) < NOW);
    }

    #[test]
    fn a_number_fits_into_a_floating_point_one() {
        let in_2060 = 2_840_000_000_000;

        assert!(Order::default().next(1, in_2060)[0] < 1 << 53);
    }
}
