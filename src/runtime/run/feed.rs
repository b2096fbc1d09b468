//! A writing end: a worker's input, or `mpflow`'s standard output.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::poller::Token;
use crate::ipc::{Block, Framing};
use crate::sys::descriptor;

/// Blocks written by one call at most; more than the kernel's fast path for `writev` gains nothing.
const MOST_SLICES: usize = 8;

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Everything.
    All,
    /// Some or nothing; there will be an event when there is room.
    Part,
    /// Nobody reads any more.
    Closed,
}

/// A block on its way.
#[derive(Debug)]
struct Outgoing {
    queue: usize,
    block: Block,
    /// Written of it, its missing end before it not counted.
    written: usize,
}

/// A writing end and what is on its way to it.
#[derive(Debug)]
pub(super) struct Feed {
    fd: OwnedFd,
    pub(super) token: Token,
    is_socket: bool,
    /// A write to it may wait, so that it is looked at before each.
    may_wait: bool,
    outgoing: VecDeque<Outgoing>,
    /// The last block written lacked its end: it comes before anything else.
    owed_end: Option<u8>,
    /// There may be room.
    pub(super) is_writable: bool,
    /// No event will tell of room: it always has some, or waits by itself.
    pub(super) is_always_ready: bool,
    /// Records delivered so far, by queue, in order, the latest last: enough to tell what an ended worker did not
    /// read. Only as much as its pipe can hold is kept.
    delivered: VecDeque<(usize, Block)>,
    delivered_bytes: usize,
    /// Bytes that may lie unread; 0 where nothing is kept.
    keep_bytes: usize,
    /// Bytes written in all.
    written: u64,
}

impl Feed {
    pub(super) fn new(fd: OwnedFd, token: Token) -> Self {
        Self {
            fd,
            token,
            is_socket: false,
            may_wait: false,
            outgoing: VecDeque::new(),
            owed_end: None,
            is_writable: true,
            is_always_ready: false,
            delivered: VecDeque::new(),
            delivered_bytes: 0,
            keep_bytes: 0,
            written: 0,
        }
    }

    /// A socket, whose description others share: each call says by itself that it does not wait.
    pub(super) fn of_socket(mut self) -> Self {
        self.is_socket = true;
        self
    }

    /// A description that others share and that waits when it is full.
    pub(super) fn that_may_wait(mut self) -> Self {
        self.may_wait = true;
        self
    }

    /// Remembers what lies in the pipe, of this size at most, so that it can be taken back.
    pub(super) fn remember(&mut self, pipe_bytes: usize) {
        self.keep_bytes = self.keep_bytes.max(pipe_bytes);
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Whether everything that it was given is written.
    pub(super) fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Gives it a block to write.
    pub(super) fn push(&mut self, queue: usize, block: Block) {
        self.outgoing.push_back(Outgoing { queue, block, written: 0 });
    }

    /// Writes what it can without waiting. `wrote` is told of each whole block.
    pub(super) fn write(
        &mut self,
        framing: impl Fn(usize) -> Framing,
        mut wrote: impl FnMut(usize, u64),
    ) -> io::Result<Wrote> {
        while !self.outgoing.is_empty() {
            let count = match self.write_once() {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => {
                    self.is_writable = false;
                    return Ok(Wrote::Part);
                }
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(Wrote::Closed),
                Err(error) => return Err(error.into()),
            };
            self.written += count as u64;
            self.settle(count, &framing, &mut wrote);
        }
        Ok(Wrote::All)
    }

    fn write_once(&self) -> Result<usize, Errno> {
        let end = self.owed_end;
        let end = end.as_slice();
        if self.is_socket {
            let next =
                if end.is_empty() { self.outgoing.front().map_or(&[][..], Outgoing::rest) } else { end };
            return send(self.fd.as_raw_fd(), next, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        }
        if self.may_wait {
            if !descriptor::is_ready(self.fd.as_fd(), true) {
                return Err(Errno::EAGAIN);
            }
            let next =
                if end.is_empty() { self.outgoing.front().map_or(&[][..], Outgoing::rest) } else { end };
            // A pipe that is ready takes so much without waiting, pipe(7).
            return nix::unistd::write(&self.fd, &next[..next.len().min(nix::libc::PIPE_BUF)]);
        }
        if end.is_empty() && self.outgoing.len() == 1 {
            return nix::unistd::write(&self.fd, self.outgoing[0].rest());
        }
        // Nothing follows a record without its end in the same call: the end is to come between them.
        let whole =
            self.outgoing.iter().position(|next| next.block.is_open).map_or(MOST_SLICES, |open| open + 1);
        let blocks = self.outgoing.iter().take(whole.min(MOST_SLICES)).map(Outgoing::rest);
        let slices: Vec<IoSlice<'_>> = [end].into_iter().chain(blocks).map(IoSlice::new).collect();
        nix::sys::uio::writev(&self.fd, &slices)
    }

    fn settle(
        &mut self,
        mut count: usize,
        framing: &impl Fn(usize) -> Framing,
        wrote: &mut impl FnMut(usize, u64),
    ) {
        if let Some(end) = self.owed_end.filter(|_| count > 0) {
            self.owed_end = None;
            count -= 1;
            // It lies in the pipe like any other byte, and belongs to no record of its own.
            self.keep(0, Block::new(Bytes::copy_from_slice(&[end]), 0));
        }
        while let Some(next) = self.outgoing.front_mut() {
            let rest = next.block.len() - next.written;
            if count < rest {
                next.written += count;
                return;
            }
            count -= rest;
            let Outgoing { queue, block, .. } = self.outgoing.pop_front().expect("it was at the front");
            if block.is_open {
                self.owed_end = framing(queue).end();
            }
            wrote(queue, block.records);
            self.keep(queue, block);
        }
    }

    fn keep(&mut self, queue: usize, block: Block) {
        if self.keep_bytes == 0 {
            return;
        }
        if block.records == 1 && block.len() > self.keep_bytes {
            // It has been begun, since the pipe cannot hold all of it, and what came before it has been read.
            self.delivered.clear();
            self.delivered_bytes = 0;
            return;
        }
        // A little of each of many reads must not hold all their buffers, for as long as a slow worker takes.
        let block = block.kept();
        self.delivered_bytes += block.len();
        self.delivered.push_back((queue, block));
        self.keep_the_last(self.keep_bytes);
    }

    fn keep_the_last(&mut self, bytes: usize) {
        while let Some((_, first)) = self.delivered.front() {
            if self.delivered_bytes - first.len() < bytes {
                break;
            }
            self.delivered_bytes -= first.len();
            self.delivered.pop_front();
        }
    }

    /// Lets go of what has been read: a few bytes that name shared memory keep all of that.
    pub(super) fn forget_what_is_read(&mut self) {
        if let Ok(unread) = descriptor::unread_bytes(self.fd.as_fd()) {
            self.keep_the_last(unread);
        }
    }

    /// Where that begins which is pushed next, in bytes from the beginning of all that it was given.
    pub(super) fn end(&self) -> u64 {
        let unwritten: usize = self.outgoing.iter().map(|next| next.rest().len()).sum();
        self.written + (unwritten + self.owed_end.as_slice().len()) as u64
    }

    /// How many bytes were read of what it was given; where nobody can say, all that were written.
    pub(super) fn read(&self) -> u64 {
        let unread = descriptor::unread_bytes(self.fd.as_fd()).unwrap_or(0);
        self.written.saturating_sub(unread as u64)
    }

    /// Whether it remembers anything that might be taken back.
    pub(super) fn remembers(&self) -> bool {
        self.keep_bytes > 0 && !self.delivered.is_empty()
    }

    /// Closes the writing end and keeps a reading one, with what lies between, to be looked at when its worker has
    /// ended. `None` where it cannot be kept.
    pub(super) fn closed(mut self) -> Option<Self> {
        self.fd = descriptor::reading_end_of(self.fd.as_fd()).ok()?.into();
        Some(self)
    }

    /// What is not written whole: records, by queue.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = (usize, u64)> {
        self.outgoing.iter().map(|next| (next.queue, next.block.records))
    }

    /// The worker has ended: takes back what it did not get. `unread` are records that were written, counted as
    /// delivered, and that it had not begun to read; `unwritten` are those that were not written whole.
    pub(super) fn take_back(mut self, framing: impl Fn(usize) -> Framing) -> TakenBack {
        let mut in_pipe = unread_in_pipe(&self.fd);
        let mut back = TakenBack::default();
        if let Some(next) = self.outgoing.front_mut() {
            // Part of it was written: if all of that lies unread, the block is as if it had not been.
            if next.written > 0 {
                if in_pipe >= next.written {
                    in_pipe -= next.written;
                } else {
                    let framing = framing(next.queue);
                    let read = next.written - in_pipe;
                    in_pipe = 0;
                    let (whole, records) = framing.front(&next.block.data, read, u64::MAX);
                    // The record in the middle of which it ended was begun.
                    let (whole, records) = match whole < read && whole < next.block.len() {
                        true => {
                            let more = framing.first(&next.block.data[whole..]);
                            (whole + more, records + framing.count_in(&next.block.data[whole..]))
                        }
                        false => (whole, records),
                    };
                    back.read.push((next.queue, records));
                    next.block.data = next.block.data.slice(whole..);
                    next.block.records -= records;
                }
            }
        }
        for next in std::mem::take(&mut self.outgoing) {
            if !next.block.is_empty() {
                back.unwritten.push((next.queue, next.block));
            }
        }
        // From the latest on: whole blocks that lie in the pipe, and the records of the one that it had begun.
        while in_pipe > 0 {
            let Some((queue, mut block)) = self.delivered.pop_back() else { break };
            if block.len() <= in_pipe {
                in_pipe -= block.len();
            } else {
                let read = block.len() - in_pipe;
                let framing = framing(queue);
                let begun = framing.begun_before(&block.data, read);
                block.take_records(framing, begun);
                in_pipe = 0;
            }
            if !block.is_empty() {
                back.unread.push((queue, block));
            }
        }
        back.unread.reverse();
        back
    }
}

impl Outgoing {
    fn rest(&self) -> &[u8] {
        &self.block.data[self.written..]
    }
}

/// What an ended worker did not get, oldest first.
#[derive(Debug, Default)]
pub(super) struct TakenBack {
    /// Counted as delivered before.
    pub(super) unread: Vec<(usize, Block)>,
    /// Not counted as delivered.
    pub(super) unwritten: Vec<(usize, Block)>,
    /// Of a block that was written in part: records that it had begun to read, by queue. Not counted yet.
    pub(super) read: Vec<(usize, u64)>,
}

/// Bytes that lie in a pipe whose reader has gone. They are read away, so that a process that still holds the
/// reading end cannot have them too.
fn unread_in_pipe(fd: &OwnedFd) -> usize {
    // Without a descriptor to read by they can still be counted.
    let Ok(mut reading) = descriptor::reading_end_of(fd.as_fd()) else {
        return descriptor::unread_bytes(fd.as_fd()).unwrap_or(0);
    };
    let mut bytes = 0;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = reading.read(&mut buffer) {
        if count == 0 {
            break;
        }
        bytes += count;
        // The writing end is our own, so that the pipe is never at its end: stop when it is empty.
        if descriptor::unread_bytes(fd.as_fd()).unwrap_or(0) == 0 {
            break;
        }
    }
    bytes
}
