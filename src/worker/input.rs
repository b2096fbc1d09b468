//! Records that come in.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;

use super::context::Worker;
use super::cursor::Cursor;
use super::failure::{Failure, leave_with};
use crate::ipc::Framing;
use crate::model::Format;

/// Read at once, where there is so much.
const READ_BYTES: usize = 256 << 10;

/// The reading end of a port, and what was read of it and not looked at.
pub(crate) struct Inlet {
    pub(crate) name: String,
    pub(crate) format: Format,
    file: File,
    buffer: Vec<u8>,
    start: usize,
    has_ended: bool,
}

impl Inlet {
    pub(crate) fn new(name: String, format: Format, file: File) -> Self {
        Self { name, format, file, buffer: Vec::new(), start: 0, has_ended: false }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    pub(crate) fn pass(&mut self, bytes: usize) {
        self.start += bytes;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Reads once, where at least `need` unread bytes are to be had in the end. `false`: there is no more.
    pub(crate) fn read(&mut self, need: usize) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        let room = need.saturating_sub(held).max(READ_BYTES);
        // Never more at once than has come, whatever a length says.
        self.buffer.resize(held + room.min(16 << 20), 0);
        let read = loop {
            match self.file.read(&mut self.buffer[held..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = read.as_ref().copied().unwrap_or(0);
        self.buffer.truncate(held + count);
        self.has_ended = count == 0;
        read.map(|count| count > 0)
    }

    /// Whether a read would not wait.
    pub(crate) fn is_ready(&self) -> bool {
        crate::sys::descriptor::is_ready(self.file.as_fd(), false)
    }

    /// Waits until something, or the end, can be read. Ends this process when the engine is gone.
    pub(crate) fn wait(&self, control: BorrowedFd<'_>) {
        loop {
            let mut polled =
                [PollFd::new(self.file.as_fd(), PollFlags::POLLIN), PollFd::new(control, PollFlags::POLLIN)];
            if poll(&mut polled, PollTimeout::NONE).is_err() {
                continue;
            }
            if polled[0].any().unwrap_or(true) {
                return;
            }
            discard(control);
        }
    }

    /// Takes in and forgets all that still comes, until the end.
    pub(crate) fn exhaust(&mut self, control: BorrowedFd<'_>) {
        loop {
            self.start = self.buffer.len();
            self.wait(control);
            if !self.read(0).unwrap_or(false) {
                return;
            }
        }
    }
}

/// What the engine says after GO is of segments, of which a worker of this kind has none.
fn discard(control: BorrowedFd<'_>) {
    let mut bytes = [0; 4096];
    match nix::unistd::read(control, &mut bytes) {
        Ok(0) => std::process::exit(1),
        Ok(_) | Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
        Err(_) => std::process::exit(1),
    }
}

/// The records of a port, as they come: the input of a `stream` function, and what [`Worker::input`] gives.
///
/// `next` waits for the next record; what the function has given before is sent first. A record that is not a `T` ends
/// the function, and its worker fails with the reason.
///
/// [`Worker::input`]: super::Worker::input
pub struct Records<T> {
    worker: &'static Worker,
    inlet: Inlet,
    /// Decoded, of one block.
    ahead: VecDeque<Result<T, Failure>>,
    record: PhantomData<fn() -> T>,
}

impl<T> Records<T> {
    pub(crate) fn new(worker: &'static Worker, inlet: Inlet) -> Self {
        Self { worker, inlet, ahead: VecDeque::new(), record: PhantomData }
    }
}

impl<T> std::fmt::Debug for Records<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("port", &self.inlet.name).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Records<T> {
    /// Decodes all records that are there whole. `false`: there is none.
    fn decode(&mut self) -> bool {
        let framing = Framing::of(self.inlet.format);
        let unread = self.inlet.unread();
        let length = match framing {
            // A last one without its end counts.
            Framing::EndedBy(_) if self.inlet.has_ended() => unread.len(),
            _ => framing.whole(unread).0,
        };
        let mut cursor = Cursor::new(self.inlet.format, &unread[..length]);
        while !cursor.is_at_end() {
            self.ahead.push_back(cursor.next());
        }
        self.inlet.pass(length);
        length > 0
    }

    fn read(&mut self) -> Result<bool, Failure> {
        while !self.decode() {
            if self.inlet.has_ended() {
                return match self.inlet.unread().is_empty() {
                    true => Ok(false),
                    false => Err(Failure::undecodable(format!(
                        "the input port `{}` ended within a record",
                        self.inlet.name
                    ))),
                };
            }
            if !self.inlet.is_ready() {
                self.worker.post().flush();
                self.inlet.wait(self.worker.control());
            }
            let need = needed(&self.inlet);
            self.inlet.read(need).map_err(|error| {
                Failure::undecodable(format!("cannot read the input port `{}`: {error}", self.inlet.name))
            })?;
        }
        Ok(true)
    }
}

/// How many bytes the record has that is not whole yet, as far as that is known.
fn needed(inlet: &Inlet) -> usize {
    match (Framing::of(inlet.format), inlet.unread().first_chunk()) {
        (Framing::Length | Framing::Chunks, Some(length)) => 4 + u32::from_le_bytes(*length) as usize,
        _ => 0,
    }
}

impl<T: DeserializeOwned> Iterator for Records<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.ahead.is_empty() {
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(failure) => leave_with(failure),
            }
        }
        self.ahead.pop_front().map(|record| record.unwrap_or_else(|failure| leave_with(failure)))
    }
}
