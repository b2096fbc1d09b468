//! The ends of a run that lie in the program that started it: records in, records out.
//!
//! Neither has a thread of its own. Whoever sends adds to what has not been taken yet, and the run's thread is told
//! only when it was empty; the run takes all of it as one block. So a slow sender's record goes at once, and a fast
//! sender's many go together, with no system call for each. The way out is the same the other way round.

mod inlet;
mod meeting;
mod outlet;

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) use inlet::{Inlet, Refused, Taken};
pub(crate) use outlet::{Next, Outlet};

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until then.
    Until(Instant),
    /// As long as it takes.
    Endless,
}

impl Patience {
    /// Waits for the condition to be told of, or for the deadline: `None` when there is no more time.
    fn wait<'a, T>(self, told: &Condvar, guard: MutexGuard<'a, T>) -> Option<MutexGuard<'a, T>> {
        match self {
            Self::None => None,
            Self::Endless => Some(told.wait(guard).unwrap_or_else(PoisonError::into_inner)),
            Self::Until(at) => {
                let left = at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
                Some(told.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0)
            }
        }
    }
}
