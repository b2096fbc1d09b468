//! Where a thread of the program and the run's thread meet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Patience;

/// A state that both sides change. The program waits on a condition, the run on a descriptor.
#[derive(Debug)]
pub(super) struct Meeting<S> {
    state: Mutex<S>,
    has_changed: Condvar,
    news: EventFd,
}

impl<S> Meeting<S> {
    pub(super) fn new(state: S) -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(state),
            has_changed: Condvar::new(),
            news: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, S> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the program's side

    /// Waits for the run to change something. `false`: there is no more time.
    pub(super) fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, S>,
        patience: Patience,
    ) -> (MutexGuard<'a, S>, bool) {
        match patience.wait(&self.has_changed, state) {
            Some(state) => (state, true),
            None => (self.lock(), false),
        }
    }

    /// Tells the run, outside of the lock that it needs next.
    pub(super) fn tell(&self) {
        // It can only fail when the number of tellings since the start reaches 2^64.
        let _ = self.news.write(1);
    }

    // ---- the run's side

    /// To wait on, by edges: the program has told something.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Wakes the program where it waits.
    pub(super) fn wake_one(&self) {
        self.has_changed.notify_one();
    }

    pub(super) fn wake_all(&self) {
        self.has_changed.notify_all();
    }

    /// How often the run was told since the last look, for tests.
    #[cfg(test)]
    pub(super) fn tellings(&self) -> u64 {
        self.news.read().unwrap_or(0)
    }
}
