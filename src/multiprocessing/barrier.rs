//! Processes that wait for one another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Error;
use super::event::SharedWords;
use super::memory::{Until, wait_until};
use crate::sys::futex;

/// The parties; the state, of which the low half counts rounds and the high half who has come in this one; whether it is
/// broken; the last round that ended so.
const PARTIES: u64 = 0;
const STATE: u64 = 1;
const BROKEN: u64 = 2;
const LOST: u64 = 3;

/// Set in the word of the last broken round: there was one.
const SOME: u64 = 1 << 32;

/// As many parties have come as are waited for, again and again. Python's `multiprocessing.Barrier`.
///
/// A party that gives up breaks the barrier for all; so does [`Barrier::abort`]. A party that is killed before it has come
/// is waited for: give [`Barrier::wait`] a time.
#[derive(Clone)]
pub struct Barrier(SharedWords);

/// The barrier is broken: a party gave up, or somebody called [`Barrier::abort`] or [`Barrier::reset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken")]
pub struct BarrierError;

impl Barrier {
    /// For so many parties, at least one.
    ///
    /// # Errors
    ///
    /// There is no shared memory to be had.
    pub fn new(parties: u32) -> Result<Self, Error> {
        let words = SharedWords::new(4)?;
        words.at(PARTIES).store(parties.max(1).into(), Ordering::SeqCst);
        Ok(Self(words))
    }

    /// How many are waited for.
    pub fn parties(&self) -> u32 {
        u32::try_from(self.0.at(PARTIES).load(Ordering::SeqCst)).unwrap_or(u32::MAX)
    }

    /// How many wait now.
    pub fn waiting(&self) -> u32 {
        (self.0.at(STATE).load(Ordering::SeqCst) >> 32) as u32
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.0.at(BROKEN).load(Ordering::SeqCst) != 0
    }

    /// Waits for all others, at most so long; `None` for ever. Returns as which of them this one came, from 0.
    ///
    /// # Errors
    ///
    /// [`BarrierError`]: it is broken, or this party was the one to give up and has broken it.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<u32, BarrierError> {
        let state = self.0.at(STATE);
        if self.is_broken() {
            return Err(BarrierError);
        }
        let before = state.fetch_add(1 << 32, Ordering::SeqCst);
        let (round, index) = (before as u32, (before >> 32) as u32);
        if index + 1 >= self.parties() {
            // The last: the next round begins with nobody in it.
            state.store(round.wrapping_add(1).into(), Ordering::SeqCst);
            futex::wake(state);
            return Ok(index);
        }
        let is_over = wait_until(state, Until::after(timeout), |now| now as u32 != round);
        if !is_over {
            self.abort();
        }
        match is_over && self.0.at(LOST).load(Ordering::SeqCst) != SOME | u64::from(round) {
            true => Ok(index),
            false => Err(BarrierError),
        }
    }

    /// Breaks it: whoever waits gets an error, and so does whoever comes.
    pub fn abort(&self) {
        self.0.at(BROKEN).store(1, Ordering::SeqCst);
        let state = self.0.at(STATE);
        let round = state.load(Ordering::SeqCst) as u32;
        self.0.at(LOST).store(SOME | u64::from(round), Ordering::SeqCst);
        let next = |state: u64| (state as u32 == round).then(|| u64::from(round.wrapping_add(1)));
        let _ = state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        futex::wake(state);
    }

    /// Makes it whole again. Whoever waits gets an error.
    pub fn reset(&self) {
        self.abort();
        self.0.at(BROKEN).store(0, Ordering::SeqCst);
    }
}

impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = SharedWords::deserialize(deserializer)?;
        match words.words().len() >= 4 {
            true => Ok(Self(words)),
            false => Err(serde::de::Error::custom("shared memory that is no barrier's")),
        }
    }
}

impl std::fmt::Debug for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("is_broken", &self.is_broken())
            .finish()
    }
}
