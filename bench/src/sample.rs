//! Medians, percentiles and spread, exact: from all samples, sorted.

use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

/// How long things took.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Takes one more.
    pub(crate) fn push(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// Takes those of another.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sums them up in milliseconds.
    pub(crate) fn percentiles(mut self) -> Percentiles {
        self.0.sort_unstable();
        let at =
            |share: f64| self.0.get(rank(share, self.0.len())).map_or(f64::NAN, |latency| millis(*latency));
        Percentiles {
            samples: self.0.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.last().map_or(f64::NAN, |latency| millis(*latency)),
        }
    }
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Percentiles {
    pub(crate) samples: usize,
    #[serde(deserialize_with = "number")]
    pub(crate) p50: f64,
    #[serde(deserialize_with = "number")]
    pub(crate) p99: f64,
    #[serde(deserialize_with = "number")]
    pub(crate) p999: f64,
    #[serde(deserialize_with = "number")]
    pub(crate) max: f64,
}

/// One figure, measured several times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spread {
    #[serde(deserialize_with = "number")]
    pub(crate) median: f64,
    #[serde(deserialize_with = "number")]
    pub(crate) min: f64,
    #[serde(deserialize_with = "number")]
    pub(crate) max: f64,
}

impl Spread {
    /// Sums up the rounds.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        let edge = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        Self { median, min: edge(values.first()), max: edge(values.last()) }
    }
}

/// Reads a number, and what JSON has instead of one that there is none of.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Returns a duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Returns the place of a percentile by nearest rank.
fn rank(share: f64, count: usize) -> usize {
    ((share * count as f64).ceil() as usize).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut latencies = Latencies::default();
        for ms in (1..=100).rev() {
            latencies.push(Duration::from_millis(ms));
        }

        let percentiles = latencies.percentiles();

        assert_eq!(percentiles.samples, 100);
        assert_eq!((percentiles.p50, percentiles.p99), (50.0, 99.0));
        assert_eq!((percentiles.p999, percentiles.max), (100.0, 100.0));
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        let odd = Spread::of([3.0, 1.0, 2.0]);
        let even = Spread::of([4.0, 1.0, 2.0, 3.0]);

        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(even.median, 2.5);
    }
}
