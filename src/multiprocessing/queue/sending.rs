//! Coded values into packets, and packets into the kernel.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::poll::PollFlags;

use super::shared::{CAPACITY, HELD, IDLE, Inner, PACE, PACKET_NANOS, RECEIVED, SENT, UNDONE, lock};
use crate::multiprocessing::error::Error;
use crate::multiprocessing::memory::{Until, wait_until};
use crate::multiprocessing::packet;
use crate::sys::futex;

/// A packet has at most so many values.
const MOST_VALUES: u64 = 4096;
/// A packet with so many bytes is sent; a longer value goes alone.
const PACKET_BYTES: usize = 32 << 10;

/// What was kept back is sent after so long at the latest, should a reader that was killed have upset the counters.
const LATEST: Duration = Duration::from_millis(1);
/// A queue that seems full though nothing is in it has lost a process that was about to count.
const STUCK: Duration = Duration::from_millis(100);

/// So late the thread that sends late learns that no handle is left.
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// What is kept back, for as long as nobody has to wait.
pub(super) type Kept<'a> = MutexGuard<'a, Outbox>;

/// A packet in the making.
#[derive(Default)]
pub(super) struct Outbox {
    packet: Vec<u8>,
    pub(super) values: u64,
    /// Counts packets.
    turn: u64,
}

impl Inner {
    /// Puts a value by its coded body.
    pub(super) fn put(self: &Arc<Self>, body: &[u8], until: Until) -> Result<(), Error> {
        let length =
            u32::try_from(body.len()).map_err(|_| std::io::Error::other("a value of 4 GiB or more"))?;
        self.reserve(until)?;
        let mut outbox = lock(&self.outbox);
        // Room first: a value is put or it is not.
        while outbox.values > 0 && (self.is_full(&outbox) || outbox.packet.len() + body.len() > PACKET_BYTES)
        {
            outbox = self.send(outbox, until).inspect_err(|_| self.unreserve(1))?;
        }
        if outbox.values == 0 {
            outbox.packet.clear();
            outbox.packet.extend_from_slice(&packet::begin());
        }
        outbox.packet.extend_from_slice(&length.to_le_bytes());
        outbox.packet.extend_from_slice(body);
        outbox.values += 1;
        self.word(UNDONE).fetch_add(1, Ordering::SeqCst);
        if self.is_full(&outbox) || self.is_drained() {
            return match self.send(outbox, until) {
                // It is put, and is sent when there is room.
                Err(Error::Full) => {
                    self.send_later();
                    Ok(())
                }
                other => other.map(drop),
            };
        }
        if outbox.values == 1 {
            self.send_later();
        }
        Ok(())
    }

    /// Whether a packet keeps a reader busy for long enough.
    fn is_full(&self, outbox: &Outbox) -> bool {
        let pace = self.word(PACE).load(Ordering::Relaxed).max(1);
        outbox.values >= (PACKET_NANOS / pace).clamp(1, MOST_VALUES) || outbox.packet.len() >= PACKET_BYTES
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
            let own = self.send(lock(&self.outbox), until)?.values;
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
        let Some(receiver) = self.receiver() else { return };
        let at_once = Until::after(Some(Duration::ZERO));
        let has_packets = packet::wait(receiver.as_fd(), PollFlags::POLLIN, at_once);
        if matches!(has_packets, Ok(false)) && self.word(RECEIVED).load(Ordering::SeqCst) == received {
            self.word(HELD).store(own, Ordering::SeqCst);
            futex::wake(self.word(HELD));
        }
    }

    /// Sends what is kept back at this moment, waiting for room. It stands in a packet that is sent whole, by whoever comes
    /// first: there may be new values afterwards.
    pub(super) fn send<'a>(&'a self, mut outbox: Kept<'a>, until: Until) -> Result<Kept<'a>, Error> {
        let turn = outbox.turn;
        loop {
            match self.try_send(&mut outbox) {
                Err(Error::Full) => drop(outbox),
                other => return other.map(|()| outbox),
            }
            let has_room = packet::wait(self.sender.as_fd(), PollFlags::POLLOUT, until)?;
            outbox = lock(&self.outbox);
            if outbox.turn != turn {
                return Ok(outbox);
            }
            if !has_room {
                return Err(Error::Full);
            }
        }
    }

    /// The same if there is room now.
    pub(super) fn try_send(&self, outbox: &mut Outbox) -> Result<(), Error> {
        if outbox.values == 0 {
            return Ok(());
        }
        packet::send(self.sender.as_fd(), &outbox.packet, Until::after(Some(Duration::ZERO)))?;
        self.word(SENT).fetch_add(1, Ordering::SeqCst);
        outbox.values = 0;
        outbox.turn += 1;
        outbox.packet.clear();
        Ok(())
    }

    /// A handle of this process is gone. With the last one what it has put is sent, and that waits for room as long as
    /// anybody else has the queue.
    pub(super) fn leave(&self) {
        if self.handles.fetch_sub(1, Ordering::SeqCst) > 1 {
            let _ = self.try_send(&mut lock(&self.outbox));
            return;
        }
        // Where this was the only one to get from it, the kernel now says so.
        lock(&self.inbox).receiver = None;
        drop(self.send(lock(&self.outbox), Until::FOREVER));
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
}

/// The life of the thread that sends what is kept back.
fn send_late(inner: &Weak<Inner>) {
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let seen = inner.word(IDLE).load(Ordering::SeqCst);
        let turn = {
            let mut outbox = lock(&inner.outbox);
            if outbox.values == 0 {
                let waited = inner.has_some.wait_timeout(outbox, LONGEST_LOOK);
                outbox = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if outbox.values > 0 && inner.is_drained() {
                let _ = inner.try_send(&mut outbox);
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
            let sent = inner.try_send(&mut outbox);
            drop(outbox);
            if matches!(sent, Err(Error::Full)) {
                let soon = Until::after(Some(LONGEST_LOOK));
                let _ = packet::wait(inner.sender.as_fd(), PollFlags::POLLOUT, soon);
            }
        }
    }
}
