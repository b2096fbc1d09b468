//! Waiting on words that processes share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sys::futex;

/// A moment to wait until; `None`: for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until(Option<Instant>);

impl Until {
    pub(super) fn after(patience: Option<Duration>) -> Self {
        // A time that no clock reaches is for ever.
        Self(patience.and_then(|patience| Instant::now().checked_add(patience)))
    }

    pub(super) const FOREVER: Self = Self(None);

    /// What is left; `None` for ever.
    pub(super) fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(super) fn is_over(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// What is left, but at most this.
    pub(super) fn slice(self, most: Duration) -> Duration {
        self.left().map_or(most, |left| left.min(most))
    }
}

/// Waits until this holds of the word, which whoever changes it wakes. `false`: not in time.
pub(super) fn wait_until(word: &AtomicU64, until: Until, holds: impl Fn(u64) -> bool) -> bool {
    loop {
        let seen = word.load(Ordering::SeqCst);
        if holds(seen) {
            return true;
        }
        if until.is_over() {
            return false;
        }
        futex::wait(word, seen, until.left());
    }
}
