//! Locks and semaphores whose holders may die.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Error;
use super::memory::Until;
use crate::ipc::{Passed, take_passed};
use crate::sys::futex;
use crate::sys::robust::{Locked, Mutexes};

/// Counts releases, for whoever waits for one; and how many wait.
const RELEASES: u64 = 0;
const WAITING: u64 = 1;
const PLAIN: u64 = 2;

/// A release wakes whoever waits for a permit at once; nobody tells of a death, so that it is looked for so often.
const LOOK: Duration = Duration::from_millis(20);

/// Permits, each a mutex that the kernel gives back when its holder dies.
struct Permits {
    mutexes: Mutexes,
}

impl Permits {
    fn new(count: u64, is_recursive: bool) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { mutexes: Mutexes::create(PLAIN, count, is_recursive)? }))
    }

    /// Takes one of them, and says which. `None`: none was to be had in time.
    fn acquire(&self, until: Until) -> Result<Option<(u64, bool)>, Error> {
        if self.mutexes.len() == 1 && until.left().is_none() {
            return self.taken(0, self.mutexes.lock(0, true)?);
        }
        let words = self.mutexes.words();
        loop {
            let seen = words.atomic(RELEASES)?.load(Ordering::SeqCst);
            if let Some(taken) = self.try_all()? {
                return Ok(Some(taken));
            }
            if until.is_over() {
                return Ok(None);
            }
            words.atomic(WAITING)?.fetch_add(1, Ordering::SeqCst);
            futex::wait(words.atomic(RELEASES)?, seen, Some(until.slice(LOOK)));
            words.atomic(WAITING)?.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn try_all(&self) -> Result<Option<(u64, bool)>, Error> {
        let count = self.mutexes.len();
        // Not all at the first: they would meet there.
        let start = if count > 1 { fastrand::u64(..count) } else { 0 };
        for step in 0..count {
            let index = (start + step) % count;
            match self.mutexes.lock(index, false)? {
                // A thread may have several permits of a semaphore.
                Locked::Own if count > 1 => {}
                locked => {
                    if let Some(taken) = self.taken(index, locked)? {
                        return Ok(Some(taken));
                    }
                }
            }
        }
        Ok(None)
    }

    fn taken(&self, index: u64, locked: Locked) -> Result<Option<(u64, bool)>, Error> {
        match locked {
            Locked::Taken => Ok(Some((index, false))),
            Locked::Inherited => Ok(Some((index, true))),
            Locked::Busy => Ok(None),
            Locked::Own => Err(Error::HeldByThisThread),
        }
    }

    fn release(&self, index: u64) {
        let words = self.mutexes.words();
        let _ = self.mutexes.unlock(index);
        if let (Ok(releases), Ok(waiting)) = (words.atomic(RELEASES), words.atomic(WAITING)) {
            releases.fetch_add(1, Ordering::SeqCst);
            // One that was killed while it waited is counted for ever: that costs a call, and no more.
            if waiting.load(Ordering::SeqCst) > 0 {
                futex::wake(releases);
            }
        }
    }
}

/// A lock or a permit that this thread has. Dropping it gives it back; so does the thread's death, and the process's.
#[must_use = "it is given back when this is dropped"]
pub struct Guard<'a> {
    permits: &'a Permits,
    index: u64,
    is_inherited: bool,
    /// The kernel knows the thread that has it, which must be the one to give it back.
    thread: PhantomData<*const ()>,
}

impl Guard<'_> {
    /// Whether its last holder died with it: what it protects may be half done.
    pub fn is_inherited(&self) -> bool {
        self.is_inherited
    }
}

impl std::fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("is_inherited", &self.is_inherited).finish_non_exhaustive()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.permits.release(self.index);
    }
}

fn guard(permits: &Permits, until: Until) -> Result<Option<Guard<'_>>, Error> {
    let taken = permits.acquire(until)?;
    Ok(taken.map(|(index, is_inherited)| Guard { permits, index, is_inherited, thread: PhantomData }))
}

macro_rules! lock {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Arc<Permits>);

        impl $name {
            /// Takes it, and waits for it as long as need be.
            ///
            /// # Errors
            ///
            /// [`Error::HeldByThisThread`], which would wait for itself; those of the system.
            pub fn acquire(&self) -> Result<Guard<'_>, Error> {
                loop {
                    if let Some(guard) = guard(&self.0, Until::FOREVER)? {
                        return Ok(guard);
                    }
                }
            }

            /// Takes it if it is to be had within this time; zero: now.
            ///
            /// # Errors
            ///
            /// As [`Self::acquire`].
            pub fn try_acquire(&self, timeout: Duration) -> Result<Option<Guard<'_>>, Error> {
                guard(&self.0, Until::after(Some(timeout)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let copy = self.0.mutexes.as_fd().try_clone_to_owned().map_err(serde::ser::Error::custom)?;
                Passed(&copy).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let file = take_passed(deserializer)?;
                let mutexes = Mutexes::map(file, PLAIN).map_err(serde::de::Error::custom)?;
                Ok(Self(Arc::new(Permits { mutexes })))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

lock! {
    /// One at a time, of all threads of all processes that have it. Python's `multiprocessing.Lock`, but that a dead holder's
    /// is free again at once.
    ///
    /// Clones are the same lock.
    Lock
}

lock! {
    /// A [`Lock`] that its holder may take again, and has until it has given back as often. Python's
    /// `multiprocessing.RLock`.
    RLock
}

lock! {
    /// So many at a time. Python's `multiprocessing.BoundedSemaphore`, but that whoever has taken a permit gives it back, and
    /// a dead holder's is free again: within 20 ms, where all others are taken too.
    ///
    /// Clones are the same semaphore.
    Semaphore
}

impl Lock {
    /// A free one.
    ///
    /// # Errors
    ///
    /// There is no shared memory to be had.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(Permits::new(1, false)?))
    }
}

impl RLock {
    /// A free one.
    ///
    /// # Errors
    ///
    /// There is no shared memory to be had.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(Permits::new(1, true)?))
    }
}

impl Semaphore {
    /// One with so many permits, at least one.
    ///
    /// # Errors
    ///
    /// There is not so much shared memory to be had: 64 bytes for each permit.
    pub fn new(permits: usize) -> Result<Self, Error> {
        Ok(Self(Permits::new(permits.max(1) as u64, false)?))
    }
}
