//! Mutexes in memory that processes share, which the kernel gives back when their holder dies:
//! pthread_mutexattr_setrobust(3).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;

use super::words::Words;

/// Words that one mutex takes: a cache line, and room for the mutex of every platform.
const STRIDE: u64 = 8;

/// A row of mutexes, and some plain words before them, in one memory file.
pub(crate) struct Mutexes {
    words: Words,
    first: u64,
    count: u64,
}

/// What an attempt to lock gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locked {
    /// It is this thread's.
    Taken,
    /// It is this thread's, and its last holder has died with it.
    Inherited,
    /// Another has it.
    Busy,
    /// This thread has it already.
    Own,
}

impl Mutexes {
    /// A new file with so many plain words and so many mutexes.
    pub(crate) fn create(plain: u64, count: u64, is_recursive: bool) -> io::Result<Self> {
        let first = plain.next_multiple_of(STRIDE);
        let words = Words::map(super::words::create((first + count * STRIDE) * 8)?.into())?;
        let mutexes = Self { words, first, count };
        for index in 0..count {
            mutexes.initialise(index, is_recursive)?;
        }
        Ok(mutexes)
    }

    /// Maps such a file that another process made.
    pub(crate) fn map(file: OwnedFd, plain: u64) -> io::Result<Self> {
        let words = Words::map(file)?;
        let first = plain.next_multiple_of(STRIDE);
        let count = words.len().checked_sub(first).map(|words| words / STRIDE).filter(|&count| count > 0);
        let count = count.ok_or_else(|| io::Error::other("the memory is too short to hold a lock"))?;
        Ok(Self { words, first, count })
    }

    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    fn at(&self, index: u64) -> io::Result<*mut libc::pthread_mutex_t> {
        const { assert!(size_of::<libc::pthread_mutex_t>() <= STRIDE as usize * 8) };
        if index >= self.count {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.words.address(self.first + index * STRIDE)?.cast())
    }

    fn initialise(&self, index: u64, is_recursive: bool) -> io::Result<()> {
        let mutex = self.at(index)?;
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let kind = if is_recursive { libc::PTHREAD_MUTEX_RECURSIVE } else { libc::PTHREAD_MUTEX_ERRORCHECK };
        // SAFETY: the attributes are initialised by the first call and destroyed by the last; the mutex lies within
        // the mapping, is aligned to 64 bytes, and nobody else knows it yet.
        unsafe {
            check(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            check(libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED))?;
            check(libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST))?;
            check(libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind))?;
            check(libc::pthread_mutex_init(mutex, attributes.as_ptr()))?;
            check(libc::pthread_mutexattr_destroy(attributes.as_mut_ptr()))
        }
    }

    /// Locks one. `waits`: until it is to be had, else not at all.
    pub(crate) fn lock(&self, index: u64, waits: bool) -> io::Result<Locked> {
        let mutex = self.at(index)?;
        // SAFETY: the mutex was initialised by whoever made the file, and lives as long as the mapping.
        let result = unsafe {
            match waits {
                true => libc::pthread_mutex_lock(mutex),
                false => libc::pthread_mutex_trylock(mutex),
            }
        };
        match result {
            0 => Ok(Locked::Taken),
            libc::EOWNERDEAD => {
                // SAFETY: as above; this thread has the mutex now.
                check(unsafe { libc::pthread_mutex_consistent(mutex) })?;
                Ok(Locked::Inherited)
            }
            libc::EBUSY => Ok(Locked::Busy),
            libc::EDEADLK => Ok(Locked::Own),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Unlocks one that this thread has.
    pub(crate) fn unlock(&self, index: u64) -> io::Result<()> {
        let mutex = self.at(index)?;
        // SAFETY: as above; a mutex of these kinds that this thread does not have makes the call fail.
        check(unsafe { libc::pthread_mutex_unlock(mutex) })
    }
}

impl AsFd for Mutexes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}
