//! A flag that processes wait for.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Error;
use super::memory::{Until, wait_until};
use crate::ipc::{Passed, take_passed};
use crate::sys::futex;
use crate::sys::words::{self, Words};

/// Words in shared memory, as part of what a process is started with.
#[derive(Clone)]
pub(super) struct SharedWords(Arc<Words>);

impl SharedWords {
    pub(super) fn new(count: u64) -> Result<Self, Error> {
        Ok(Self(Arc::new(Words::map(words::create(count.max(1) * 8)?.into())?)))
    }

    pub(super) fn words(&self) -> &Words {
        &self.0
    }

    pub(super) fn copy_of_descriptor(&self) -> std::io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    pub(super) fn at(&self, position: u64) -> &std::sync::atomic::AtomicU64 {
        self.0.atomic(position).expect("whoever made or mapped it looked how many words there are")
    }

    /// Those that came, if they are as many as this at least.
    pub(super) fn mapped(fd: OwnedFd, least: u64) -> Result<Self, String> {
        let words = Words::map(fd).map_err(|error| error.to_string())?;
        if words.len() < least {
            return Err(format!("{} words of shared memory came where {least} are needed", words.len()));
        }
        Ok(Self(Arc::new(words)))
    }
}

impl Serialize for SharedWords {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let copy = self.copy_of_descriptor().map_err(serde::ser::Error::custom)?;
        Passed(&copy).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::mapped(take_passed(deserializer)?, 1).map_err(serde::de::Error::custom)
    }
}

/// A flag that is set or not, and that processes wait for. Python's `multiprocessing.Event`.
///
/// Clones are the same flag. Nobody holds it, so that nobody's death changes it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Event(SharedWords);

impl Event {
    /// One that is not set.
    ///
    /// # Errors
    ///
    /// There is no shared memory to be had.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(SharedWords::new(1)?))
    }

    /// Sets it: whoever waits goes on, and so does whoever will.
    pub fn set(&self) {
        self.0.at(0).store(1, Ordering::SeqCst);
        futex::wake(self.0.at(0));
    }

    /// Clears it.
    pub fn clear(&self) {
        self.0.at(0).store(0, Ordering::SeqCst);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.0.at(0).load(Ordering::SeqCst) != 0
    }

    /// Waits until it is set, at most so long; `None` for ever. Whether it is.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        wait_until(self.0.at(0), Until::after(timeout), |word| word != 0)
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish()
    }
}
