//! What all processes of a queue share, and what each has of its own.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::receiving::Inbox;
use super::sending::Outbox;
use crate::multiprocessing::error::Error;
use crate::multiprocessing::event::SharedWords;
use crate::multiprocessing::packet;
use crate::sys::futex;

/// Values that were put and not got.
pub(super) const HELD: u64 = 0;
/// Packets sent, and received.
pub(super) const SENT: u64 = 1;
pub(super) const RECEIVED: u64 = 2;
/// Changes whenever a reader finds nothing.
pub(super) const IDLE: u64 = 3;
/// Nanoseconds that a reader takes for a value.
pub(super) const PACE: u64 = 4;
/// Values put that nobody has called done.
pub(super) const UNDONE: u64 = 5;
/// How many it holds at most; 0: as many as the kernel's queue has room for.
pub(super) const CAPACITY: u64 = 6;
pub(super) const WORDS: u64 = 7;

/// One packet should keep a reader busy for so long.
pub(super) const PACKET_NANOS: u64 = 500_000;
/// The pace of a reader that nobody has measured yet.
const UNKNOWN_PACE: u64 = PACKET_NANOS;

/// One queue, as this process has it.
pub(super) struct Inner {
    pub(super) words: SharedWords,
    /// To put into.
    pub(super) sender: OwnedFd,
    pub(super) outbox: Mutex<Outbox>,
    /// There is something in the outbox.
    pub(super) has_some: Condvar,
    pub(super) inbox: Mutex<Inbox>,
    /// There is something in the inbox, or nobody waits at the kernel's queue.
    pub(super) has_turn: Condvar,
    pub(super) has_sender: AtomicBool,
    /// [`Queue`](super::Queue)s of this process: the thread that sends late is none.
    pub(super) handles: AtomicUsize,
}

/// Whoever waits for the kernel lets go of it: others have less patience, or find what they want without.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A user's code runs under these locks only where all is done that must be done together.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// A new queue, of which nobody knows, with one handle.
    pub(super) fn new(capacity: u64) -> Result<Self, Error> {
        let words = SharedWords::new(WORDS)?;
        words.at(CAPACITY).store(capacity, Ordering::SeqCst);
        words.at(PACE).store(UNKNOWN_PACE, Ordering::SeqCst);
        let (receiver, sender) = packet::pair()?;
        Ok(Self::of(words, sender, receiver))
    }

    /// One that may have been there before, with one handle.
    pub(super) fn of(words: SharedWords, sender: OwnedFd, receiver: OwnedFd) -> Self {
        Self {
            words,
            sender,
            outbox: Mutex::default(),
            has_some: Condvar::new(),
            inbox: Mutex::new(Inbox::new(receiver)),
            has_turn: Condvar::new(),
            has_sender: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
        }
    }

    pub(super) fn word(&self, position: u64) -> &AtomicU64 {
        self.words.at(position)
    }

    /// Whether its readers have nothing to do.
    pub(super) fn is_drained(&self) -> bool {
        self.word(SENT).load(Ordering::SeqCst) == self.word(RECEIVED).load(Ordering::SeqCst)
    }

    /// So many places are free again.
    pub(super) fn unreserve(&self, values: u64) {
        let less = |held: u64| Some(held.saturating_sub(values));
        let _ = self.word(HELD).fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if self.word(CAPACITY).load(Ordering::Relaxed) > 0 {
            futex::wake(self.word(HELD));
        }
    }

    /// The end to get from; `None` once no handle is left.
    pub(super) fn receiver(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.inbox).receiver.clone()
    }
}
