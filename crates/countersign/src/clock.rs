//! The clock, read once a request. Tests bring one they move.

use countersign_core::Timestamp;
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the time comes from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that stands still until it is moved.
    Moved(Arc<AtomicI64>),
}

impl Clock {
    /// Makes a clock that stands at `at`.
    pub fn standing_at(at: Timestamp) -> Self {
        Self::Moved(Arc::new(AtomicI64::new(at.millis())))
    }

    /// Reads the clock.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Moved(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// Moves a standing clock forward; the machine's clock is not ours to move.
    pub fn advance(&self, span: Duration) {
        if let Self::Moved(millis) = self {
            millis.fetch_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}
