//! When to try again.

use countersign_core::{Letter, message::Words};
use rand::RngExt;
use std::time::Duration;

/// The pause after the first attempt; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause for what somebody waits for.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause for what can wait.
const LONGEST_OF_NOTICES: Duration = Duration::from_secs(15 * 60);

/// Returns how long to wait after as many attempts: a quarter more or less, so that what failed together does not come
/// back together.
pub fn pause(attempts: u32, letter: &Letter) -> Duration {
    let longest = match letter.words {
        Words::Notice { .. } => LONGEST_OF_NOTICES,
        Words::Code { .. } | Words::EnrolmentLink { .. } | Words::Test => LONGEST,
    };
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    doubled.min(longest).mul_f64(rand::rng().random_range(0.75..1.25))
}
