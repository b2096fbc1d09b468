//! Queues between any number of processes.
//!
//! # Theory of operation
//!
//! Values travel in packets ([`packet`](super::packet)), several in one where they are many: a put is some ten
//! nanoseconds then, and not a system call. What is put is kept back only while the kernel's queue has something else
//! for its readers; when a reader finds nothing it says so in shared memory, and what was kept back is sent by a thread that
//! waits for that. How much one packet has is measured by whoever reads: as many values as it is through with in
//! half a millisecond, so that slow readers get one by one and share evenly.
//!
//! The counters in shared memory steer; what was sent is in the kernel, and no death of a process loses or doubles it.

use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::connection::Came;
use super::error::Error;
use super::event::SharedWords;
use super::memory::{Until, wait_until};
use super::packet;
use crate::ipc::{Passed, decode, encode};
use crate::model::Format;
use crate::sys::futex;

/// Values that were put and not got.
const HELD: u64 = 0;
/// Packets sent, and received.
const SENT: u64 = 1;
const RECEIVED: u64 = 2;
/// Changes whenever a reader finds nothing.
const IDLE: u64 = 3;
/// Nanoseconds that a reader takes for a value.
const PACE: u64 = 4;
/// Values put that nobody has called done.
const UNDONE: u64 = 5;
/// How many it holds at most; 0: as many as the kernel's queue has room for.
const CAPACITY: u64 = 6;
const WORDS: u64 = 7;

/// One packet should keep a reader busy for so long, and has at most so many values.
const PACKET_NANOS: u64 = 500_000;
const MOST_VALUES: u64 = 4096;
/// A packet with so many bytes is sent; a longer value goes alone.
const PACKET_BYTES: usize = 32 << 10;
/// The pace of a reader that nobody has measured yet.
const UNKNOWN_PACE: u64 = PACKET_NANOS;

/// What was kept back is sent after so long at the latest, should a reader that was killed have upset the counters.
const LATEST: Duration = Duration::from_millis(1);
/// A queue that seems full though nothing is in it has lost a process that was about to count.
const STUCK: Duration = Duration::from_millis(100);

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

struct Inner {
    words: SharedWords,
    /// To put into.
    sender: OwnedFd,
    /// To get from.
    receiver: OwnedFd,
    outbox: Mutex<Outbox>,
    has_some: Condvar,
    inbox: Mutex<Inbox>,
    has_sender: AtomicBool,
}

/// A packet in the making.
#[derive(Default)]
struct Outbox {
    packet: Vec<u8>,
    values: u64,
    /// Counts packets.
    turn: u64,
}

/// What was received and not got.
struct Inbox {
    packet: Vec<u8>,
    at: usize,
    /// Of the packet, how many values it had, and when the first was got.
    values: u64,
    since: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing of a user's runs under these locks that could panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let words = SharedWords::new(WORDS)?;
        words.at(CAPACITY).store(capacity, Ordering::SeqCst);
        words.at(PACE).store(UNKNOWN_PACE, Ordering::SeqCst);
        let (receiver, sender) = packet::pair()?;
        Ok(Self::of(words, sender, receiver))
    }

    fn of(words: SharedWords, sender: OwnedFd, receiver: OwnedFd) -> Self {
        let inner = Inner {
            words,
            sender,
            receiver,
            outbox: Mutex::default(),
            has_some: Condvar::new(),
            inbox: Mutex::new(Inbox { packet: Vec::new(), at: 0, values: 0, since: None }),
            has_sender: AtomicBool::new(false),
        };
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
        self.inner.flush(&mut lock(&self.inner.outbox), Until::FOREVER)
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
        let _ = self.flush();
        wait_until(self.inner.word(UNDONE), Until::after(timeout), |undone| undone == 0)
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts a value in; waits for room.
    ///
    /// # Errors
    ///
    /// [`Error::Code`]: nothing was put.
    pub fn put(&self, value: &T) -> Result<(), Error> {
        self.inner.put(value, Until::FOREVER)
    }

    /// Puts a value in if there is room within this time.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Code`]: nothing was put.
    pub fn put_timeout(&self, value: &T, timeout: Duration) -> Result<(), Error> {
        self.inner.put(value, Until::after(Some(timeout)))
    }

    /// Puts a value in if there is room now: Python's `put_nowait`.
    ///
    /// # Errors
    ///
    /// As [`Self::put_timeout`].
    pub fn try_put(&self, value: &T) -> Result<(), Error> {
        self.put_timeout(value, Duration::ZERO)
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

thread_local! {
    static BODY: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

impl Inner {
    fn word(&self, position: u64) -> &AtomicU64 {
        self.words.at(position)
    }

    fn put<T: Serialize>(self: &Arc<Self>, value: &T, until: Until) -> Result<(), Error> {
        let mut body = BODY.take();
        body.clear();
        let coded = encode(Format::Msgpack, value, &mut body).map_err(Error::from);
        let result = coded.and_then(|()| self.put_body(&body, until));
        BODY.set(body);
        result
    }

    fn put_body(self: &Arc<Self>, body: &[u8], until: Until) -> Result<(), Error> {
        let length =
            u32::try_from(body.len()).map_err(|_| std::io::Error::other("a value of 4 GiB or more"))?;
        self.reserve(until)?;
        let mut outbox = lock(&self.outbox);
        // Room first: a value is put or it is not.
        if outbox.values > 0 && outbox.packet.len() + body.len() > PACKET_BYTES {
            self.flush(&mut outbox, until).inspect_err(|_| self.unreserve(1))?;
        }
        if outbox.values == 0 {
            outbox.packet.clear();
            outbox.packet.extend_from_slice(&packet::begin());
        }
        outbox.packet.extend_from_slice(&length.to_le_bytes());
        outbox.packet.extend_from_slice(body);
        outbox.values += 1;
        self.word(UNDONE).fetch_add(1, Ordering::SeqCst);
        let pace = self.word(PACE).load(Ordering::Relaxed).max(1);
        let is_full = outbox.values >= (PACKET_NANOS / pace).clamp(1, MOST_VALUES)
            || outbox.packet.len() >= PACKET_BYTES;
        if is_full || self.is_drained() {
            return match self.flush(&mut outbox, until) {
                // It is put, and is sent when there is room.
                Err(Error::Full) => {
                    self.send_later();
                    Ok(())
                }
                other => other,
            };
        }
        if outbox.values == 1 {
            self.send_later();
        }
        Ok(())
    }

    /// Whether its readers have nothing to do.
    fn is_drained(&self) -> bool {
        self.word(SENT).load(Ordering::SeqCst) == self.word(RECEIVED).load(Ordering::SeqCst)
    }

    /// Takes a place, where there are only so many.
    fn reserve(&self, until: Until) -> Result<(), Error> {
        let (held, capacity) = (self.word(HELD), self.word(CAPACITY).load(Ordering::Relaxed));
        if capacity == 0 {
            held.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        loop {
            let more = |held: u64| (held < capacity).then_some(held + 1);
            if held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok() {
                return Ok(());
            }
            // What waits here is what readers wait for.
            let own = {
                let mut outbox = lock(&self.outbox);
                self.flush(&mut outbox, until)?;
                outbox.values
            };
            let seen = self.word(RECEIVED).load(Ordering::SeqCst);
            if !wait_until(held, Until::after(Some(until.slice(STUCK))), |held| held < capacity) {
                if until.is_over() {
                    return Err(Error::Full);
                }
                self.recount(seen, own);
            }
        }
    }

    /// Nothing has moved for a while. If nothing is in the queue either, whoever was to count it is dead.
    fn recount(&self, received: u64, own: u64) {
        let has_packets =
            packet::wait(self.receiver.as_fd(), PollFlags::POLLIN, Until::after(Some(Duration::ZERO)));
        if matches!(has_packets, Ok(false)) && self.word(RECEIVED).load(Ordering::SeqCst) == received {
            self.word(HELD).store(own, Ordering::SeqCst);
            futex::wake(self.word(HELD));
        }
    }

    fn unreserve(&self, values: u64) {
        let less = |held: u64| Some(held.saturating_sub(values));
        let _ = self.word(HELD).fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if self.word(CAPACITY).load(Ordering::Relaxed) > 0 {
            futex::wake(self.word(HELD));
        }
    }

    fn flush(&self, outbox: &mut Outbox, until: Until) -> Result<(), Error> {
        if outbox.values == 0 {
            return Ok(());
        }
        packet::send(self.sender.as_fd(), &outbox.packet, until)?;
        self.word(SENT).fetch_add(1, Ordering::SeqCst);
        outbox.values = 0;
        outbox.turn += 1;
        outbox.packet.clear();
        Ok(())
    }

    /// Something is kept back: it is sent when a reader has nothing else.
    fn send_later(self: &Arc<Self>) {
        if !self.has_sender.swap(true, Ordering::SeqCst) {
            let inner = Arc::downgrade(self);
            let thread = std::thread::Builder::new().name("mpflow-queue".to_owned());
            // Where there is no thread to be had, it waits for the next put, or the end.
            let _ = thread.spawn(move || send_late(&inner));
        }
        self.has_some.notify_one();
    }

    fn get<T: DeserializeOwned>(&self, until: Until) -> Result<T, Error> {
        let mut inbox = lock(&self.inbox);
        while inbox.at >= inbox.packet.len() {
            self.receive(&mut inbox, until)?;
        }
        let at = inbox.at;
        let length = inbox.packet[at..].first_chunk().map(|length| u32::from_le_bytes(*length) as usize);
        let end = length.map(|length| at + 4 + length).filter(|&end| end <= inbox.packet.len());
        let Some(end) = end else {
            inbox.at = inbox.packet.len();
            return Err(Error::Garbled);
        };
        inbox.at = end;
        Ok(decode(Format::Msgpack, &inbox.packet[at + 4..end])?)
    }

    fn receive(&self, inbox: &mut Inbox, until: Until) -> Result<(), Error> {
        // What was got before is done by now: that is the reader's pace.
        if let Some(since) = inbox.since.take() {
            let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX) / inbox.values.max(1);
            let before = self.word(PACE).load(Ordering::Relaxed);
            // Slower counts at once, faster by and by.
            self.word(PACE).store(nanos.max(before / 2 + nanos / 2).max(1), Ordering::Relaxed);
        }
        let packet = packet::receive(self.receiver.as_fd(), until, || {
            // Who keeps something back is to send it.
            self.word(IDLE).fetch_add(1, Ordering::SeqCst);
            futex::wake(self.word(IDLE));
        })?;
        self.word(RECEIVED).fetch_add(1, Ordering::SeqCst);
        inbox.values = count(&packet);
        self.unreserve(inbox.values);
        inbox.packet = packet;
        inbox.at = packet::begin().len();
        inbox.since = Some(Instant::now());
        Ok(())
    }
}

/// How many values a packet has.
fn count(packet: &[u8]) -> u64 {
    let (mut at, mut values) = (packet::begin().len(), 0);
    while let Some(length) = packet.get(at..).and_then(<[u8]>::first_chunk) {
        at += 4 + u32::from_le_bytes(*length) as usize;
        values += 1;
    }
    values
}

/// The life of the thread that sends what is kept back.
fn send_late(inner: &Weak<Inner>) {
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let seen = inner.word(IDLE).load(Ordering::SeqCst);
        let turn = {
            let mut outbox = lock(&inner.outbox);
            if outbox.values == 0 {
                let waited = inner.has_some.wait_timeout(outbox, Duration::from_millis(100));
                outbox = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if outbox.values > 0 && inner.is_drained() {
                let _ = inner.flush(&mut outbox, Until::FOREVER);
            }
            match outbox.values {
                0 => None,
                _ => Some(outbox.turn),
            }
        };
        let Some(turn) = turn else { continue };
        futex::wait(inner.word(IDLE), seen, Some(LATEST));
        let mut outbox = lock(&inner.outbox);
        if outbox.turn == turn && (inner.is_drained() || inner.word(IDLE).load(Ordering::SeqCst) == seen) {
            let _ = inner.flush(&mut outbox, Until::FOREVER);
        }
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        // The thread that sends late may have the last share in it, and ends with the process.
        let _ = self.flush();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut outbox = std::mem::take(self.outbox.get_mut().unwrap_or_else(PoisonError::into_inner));
        let _ = self.flush(&mut outbox, Until::FOREVER);
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), values: PhantomData }
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // What is here must not come after what the other process puts.
        let _ = self.flush();
        (&self.inner.words, Passed(&self.inner.sender), Passed(&self.inner.receiver)).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (words, Came(sender), Came(receiver)): (SharedWords, Came, Came) =
            Deserialize::deserialize(deserializer)?;
        if words.words().len() < WORDS || !packet::is_one(&sender) || !packet::is_one(&receiver) {
            return Err(D::Error::custom("the descriptors of a queue are no queue's"));
        }
        Ok(Self::of(words, sender, receiver))
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}
