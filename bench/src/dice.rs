//! Numbers that look random: good enough to pick people and moments.

use std::time::{SystemTime, UNIX_EPOCH};

/// A SplitMix64 generator.
pub(crate) struct Dice(u64);

impl Dice {
    /// Always gives the same numbers for a seed.
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Gives other numbers every time.
    pub(crate) fn by_the_clock() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since_epoch.as_nanos() as u64)
    }

    /// Returns a number from 0 up to, not including, `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed % limit.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_below_the_limit_comes_about_as_often() {
        let mut dice = Dice::seeded(1);
        let mut times = [0_u32; 10];

        (0..10_000).for_each(|_| times[dice.below(10)] += 1);

        assert!(times.iter().all(|times| (800..1200).contains(times)), "{times:?}");
    }
}
