//! A queue as a program has it, by the type of its values.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shared::{CAPACITY, HELD, Inner, UNDONE, WORDS, lock};
use crate::ipc::{Passed, encode};
use crate::model::Format;
use crate::multiprocessing::connection::Came;
use crate::multiprocessing::error::Error;
use crate::multiprocessing::event::SharedWords;
use crate::multiprocessing::memory::{Until, wait_until};
use crate::multiprocessing::packet;
use crate::sys::futex;

/// A queue of values that any number of processes put into and get from; each value goes to one of them. Python's
/// `multiprocessing.Queue` and `JoinableQueue` in one.
///
/// Clones are the same queue. Values of one thread are got in the order in which it put them. Where Python's `put` hands over
/// to a thread with room for everything, this one waits: for `capacity` values, where the queue has a capacity, and for
/// the kernel's queue, some hundred KiB, in any case.
///
/// When a process is killed, a reader takes along what it has received and not got, which is half a millisecond's work at most,
/// and a writer what it has put in the last millisecond. One that is killed in the very moment in which it counts what it
/// has received leaves the queue with so many places less, until somebody who waits for room finds it empty for 100 ms.
pub struct Queue<T> {
    inner: Arc<Inner>,
    values: PhantomData<fn(T) -> T>,
}

thread_local! {
    static BODY: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

impl<T> Queue<T> {
    /// One that holds as much as the kernel's queue has room for.
    ///
    /// # Errors
    ///
    /// This process may have no more descriptors, or there is no memory.
    pub fn new() -> Result<Self, Error> {
        Self::with(0)
    }

    /// One that holds at most so many values, at least one.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn with_capacity(capacity: usize) -> Result<Self, Error> {
        Self::with(capacity.max(1) as u64)
    }

    fn with(capacity: u64) -> Result<Self, Error> {
        Ok(Self::of(Inner::new(capacity)?))
    }

    fn of(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), values: PhantomData }
    }

    /// How many values it holds at most; `None`: as many as the kernel's queue has room for.
    pub fn capacity(&self) -> Option<usize> {
        let capacity = self.inner.word(CAPACITY).load(Ordering::SeqCst);
        (capacity > 0).then(|| usize::try_from(capacity).unwrap_or(usize::MAX))
    }

    /// How many values were put and not got, at this moment: Python's `qsize`.
    pub fn len(&self) -> usize {
        let held = self.inner.word(HELD).load(Ordering::SeqCst).cast_signed();
        usize::try_from(held).unwrap_or(0)
    }

    /// Whether none was, at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends what this process has put and is kept back. That happens by itself within a millisecond; a process that is
    /// about to end without dropping the queue calls it.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub fn flush(&self) -> Result<(), Error> {
        self.inner.send(lock(&self.inner.outbox), Until::FOREVER).map(drop)
    }

    /// Whether somebody of this process waits for a value.
    #[cfg(test)]
    pub(crate) fn is_awaited(&self) -> bool {
        lock(&self.inner.inbox).is_watched
    }

    /// One of the values that were got is done: see [`Self::join`]. Python's `JoinableQueue.task_done`.
    pub fn task_done(&self) {
        let undone = self.inner.word(UNDONE);
        let less = |undone: u64| undone.checked_sub(1);
        if undone.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) == Ok(1) {
            futex::wake(undone);
        }
    }

    /// Waits until each value that was put has been called done, at most so long; `None` for ever. Whether it has. A reader
    /// that is killed calls nothing done: give a time where that may happen.
    pub fn join(&self, timeout: Option<Duration>) -> bool {
        let until = Until::after(timeout);
        drop(self.inner.send(lock(&self.inner.outbox), until));
        wait_until(self.inner.word(UNDONE), until, |undone| undone == 0)
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts a value in; waits for room.
    ///
    /// # Errors
    ///
    /// [`Error::Code`]: nothing was put.
    pub fn put(&self, value: &T) -> Result<(), Error> {
        self.put_until(value, Until::FOREVER)
    }

    /// Puts a value in if there is room within this time.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Code`]: nothing was put.
    pub fn put_timeout(&self, value: &T, timeout: Duration) -> Result<(), Error> {
        self.put_until(value, Until::after(Some(timeout)))
    }

    /// Puts a value in if there is room now: Python's `put_nowait`.
    ///
    /// # Errors
    ///
    /// As [`Self::put_timeout`].
    pub fn try_put(&self, value: &T) -> Result<(), Error> {
        self.put_timeout(value, Duration::ZERO)
    }

    fn put_until(&self, value: &T, until: Until) -> Result<(), Error> {
        let mut body = BODY.take();
        body.clear();
        let coded = encode(Format::Msgpack, value, &mut body).map_err(Error::from);
        let result = coded.and_then(|()| self.inner.put(&body, until));
        BODY.set(body);
        result
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets the next value, and waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Code`], [`Error::Garbled`]: what came is no `T`, and is gone.
    pub fn get(&self) -> Result<T, Error> {
        self.inner.get(Until::FOREVER)
    }

    /// Gets the next value if one comes within this time.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`]; those of [`Self::get`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, Error> {
        self.inner.get(Until::after(Some(timeout)))
    }

    /// Gets the next value if one is there: Python's `get_nowait`.
    ///
    /// # Errors
    ///
    /// As [`Self::get_timeout`].
    pub fn try_get(&self) -> Result<T, Error> {
        self.get_timeout(Duration::ZERO)
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        self.inner.leave();
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        self.inner.handles.fetch_add(1, Ordering::SeqCst);
        Self { inner: Arc::clone(&self.inner), values: PhantomData }
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // What is here must not come after what the other process puts.
        let _ = self.inner.try_send(&mut lock(&self.inner.outbox));
        let receiver = self.inner.receiver().expect("it is there as long as there is a handle");
        (&self.inner.words, Passed(&self.inner.sender), Passed(&receiver)).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (words, Came(sender), Came(receiver)): (SharedWords, Came, Came) =
            Deserialize::deserialize(deserializer)?;
        if words.words().len() < WORDS || !packet::is_one(&sender) || !packet::is_one(&receiver) {
            return Err(D::Error::custom("the descriptors of a queue are no queue's"));
        }
        Ok(Self::of(Inner::of(words, sender, receiver)))
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}
