//! Packets from the kernel, and the values in them.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use serde::de::DeserializeOwned;

use super::shared::{IDLE, Inner, PACE, RECEIVED, lock};
use crate::ipc::decode;
use crate::model::Format;
use crate::multiprocessing::error::Error;
use crate::multiprocessing::memory::Until;
use crate::multiprocessing::packet;
use crate::sys::futex;

/// What was received and not got, for as long as nobody has to wait.
type Received<'a> = MutexGuard<'a, Inbox>;

/// What was received and not got.
pub(super) struct Inbox {
    /// `None` once no handle is left.
    pub(super) receiver: Option<Arc<OwnedFd>>,
    packet: Vec<u8>,
    at: usize,
    /// Of the packet, how many values it had, and when the first was got.
    values: u64,
    since: Option<Instant>,
    /// Somebody waits for the kernel's queue: all others for what that one brings.
    pub(super) is_watched: bool,
    /// So many others.
    waiting: usize,
}

impl Inbox {
    pub(super) fn new(receiver: OwnedFd) -> Self {
        Self {
            receiver: Some(Arc::new(receiver)),
            packet: Vec::new(),
            at: 0,
            values: 0,
            since: None,
            is_watched: false,
            waiting: 0,
        }
    }

    fn has_some(&self) -> bool {
        self.at < self.packet.len()
    }

    /// The place of the next value, which is gone from here.
    fn take(&mut self) -> Result<Range<usize>, Error> {
        let begin = self.at + 4;
        let length = self.packet[self.at..].first_chunk().map(|length| u32::from_le_bytes(*length) as usize);
        let end = length.map(|length| begin + length).filter(|&end| end <= self.packet.len());
        self.at = end.unwrap_or(self.packet.len());
        end.map(|end| begin..end).ok_or(Error::Garbled)
    }
}

impl Inner {
    /// The next value.
    pub(super) fn get<T: DeserializeOwned>(&self, until: Until) -> Result<T, Error> {
        let mut inbox = self.filled(lock(&self.inbox), until)?;
        let body = inbox.take();
        // Whoever waits finds another value here, or looks for one.
        self.pass_on(&inbox);
        Ok(decode(Format::Msgpack, &inbox.packet[body?])?)
    }

    /// Waits until there is a value.
    fn filled<'a>(&'a self, mut inbox: Received<'a>, until: Until) -> Result<Received<'a>, Error> {
        while !inbox.has_some() {
            if inbox.is_watched {
                inbox = self.wait_for_turn(inbox, until)?;
                continue;
            }
            let receiver = inbox.receiver.clone().ok_or(Error::Closed)?;
            match self.receive(&mut inbox, &receiver) {
                Err(Error::Empty) => {}
                other => {
                    other?;
                    continue;
                }
            }
            inbox.is_watched = true;
            drop(inbox);
            let came = packet::wait(receiver.as_fd(), PollFlags::POLLIN, until);
            inbox = lock(&self.inbox);
            inbox.is_watched = false;
            if !matches!(came, Ok(true)) {
                self.pass_on(&inbox);
                return came.and(Err(Error::Empty));
            }
        }
        Ok(inbox)
    }

    fn wait_for_turn<'a>(&'a self, mut inbox: Received<'a>, until: Until) -> Result<Received<'a>, Error> {
        if until.is_over() {
            self.pass_on(&inbox);
            return Err(Error::Empty);
        }
        inbox.waiting += 1;
        let mut inbox = match until.left() {
            None => self.has_turn.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.has_turn.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0,
        };
        inbox.waiting -= 1;
        Ok(inbox)
    }

    /// Another may have a look.
    fn pass_on(&self, inbox: &Inbox) {
        if inbox.waiting > 0 {
            self.has_turn.notify_one();
        }
    }

    /// Takes the next packet, if one is there.
    fn receive(&self, inbox: &mut Inbox, receiver: &OwnedFd) -> Result<(), Error> {
        // What was got before is done by now: that is the reader's pace.
        if let Some(since) = inbox.since.take() {
            let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX) / inbox.values.max(1);
            let before = self.word(PACE).load(Ordering::Relaxed);
            // Slower counts at once, faster by and by.
            self.word(PACE).store(nanos.max(before / 2 + nanos / 2).max(1), Ordering::Relaxed);
        }
        let packet = packet::receive(receiver.as_fd(), Until::after(Some(Duration::ZERO)), || {
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
