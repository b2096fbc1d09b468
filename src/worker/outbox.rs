//! Results on their way out.
//!
//! Results are coded as they come and leave together: when a block is full, when there is nothing else to do, and at
//! the latest some milliseconds after a slow function has given them, by a thread of its own. Results of a record that
//! is not done yet are kept apart from those before it, so that they can be dropped when it fails.

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::failure::Failure;
use crate::ipc::{AnswerKind, Packer, answer_frame, answer_output, encode};
use crate::model::Format;

/// What is done waits for more at most about so long.
const LATEST: Duration = Duration::from_millis(2);

/// Bytes that one port gathers at most, where the task allows as many.
const MOST_BYTES: usize = 256 << 10;

/// Bytes that all ports gather at most: an answer has room for 8 MiB of small results.
const MOST_BYTES_OF_ALL: usize = 4 << 20;

thread_local! {
    /// Taken and given back, so that a value is coded without making a new one.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An output port.
pub(crate) struct Outlet {
    name: String,
    format: Format,
    /// Where its records go, but in a stage whose results travel in answers.
    file: Option<File>,
    is_wanted: bool,
    /// Of records that are done.
    done: Packer,
    /// Of the record that is being worked on: bodies, one after the other, and where each ends.
    unfinished: Vec<u8>,
    ends: Vec<usize>,
}

impl Outlet {
    /// `block_records`: that one chunk may hold; `max_record`: the longest record that it takes.
    pub(crate) fn new(
        name: String,
        format: Format,
        file: Option<File>,
        block_records: u64,
        max_record: u64,
    ) -> Self {
        let done = Packer::new(format, block_records).with_max_record(max_record);
        Self { name, format, file, is_wanted: true, done, unfinished: Vec::new(), ends: Vec::new() }
    }

    /// Nobody reads it: what would go there is not kept.
    pub(crate) fn unwanted(mut self) -> Self {
        self.is_wanted = false;
        self
    }

    fn len(&self) -> usize {
        self.done.len() + self.unfinished.len()
    }

    fn finish(&mut self) {
        let mut start = 0;
        for end in self.ends.drain(..) {
            self.done.push(&self.unfinished[start..end]);
            start = end;
        }
        self.unfinished.clear();
    }
}

/// What has been made and is not sent.
pub(crate) struct Outbox {
    ports: Vec<Outlet>,
    answers: Option<File>,
    /// Records that are done and not answered.
    done: u32,
    /// Sent so far, in turns: whether anything has changed since a look.
    turns: u64,
    most_bytes: usize,
}

/// What a write has failed by: the engine is gone, or nobody reads this port any more.
fn gone() -> ! {
    std::process::exit(1)
}

impl Outbox {
    pub(crate) fn new(ports: Vec<Outlet>, answers: Option<File>, block_bytes: usize) -> Self {
        let most_bytes = MOST_BYTES.min(block_bytes).min(MOST_BYTES_OF_ALL / ports.len().max(1)).max(1);
        Self { ports, answers, done: 0, turns: 0, most_bytes }
    }

    fn push(&mut self, port: usize, record: &[u8]) {
        if self.ports[port].len() > 0 && self.ports[port].len() + record.len() > self.most_bytes {
            self.send_some();
        }
        let outlet = &mut self.ports[port];
        outlet.unfinished.extend_from_slice(record);
        outlet.ends.push(outlet.unfinished.len());
    }

    /// Makes room: what is done, and where that is little, what the record that is being worked on has given so far.
    fn send_some(&mut self) {
        if self.answers.is_none() {
            self.commit(0);
        }
        self.send_done();
        if self.ports.iter().any(|port| port.len() > self.most_bytes / 2) {
            self.ports.iter_mut().for_each(Outlet::finish);
            self.send_frame(AnswerKind::Part);
        }
    }

    /// So many records more are done.
    fn commit(&mut self, records: u32) {
        self.done += records;
        self.ports.iter_mut().for_each(Outlet::finish);
    }

    fn drop_unfinished(&mut self) {
        for port in &mut self.ports {
            port.unfinished.clear();
            port.ends.clear();
        }
    }

    fn is_empty(&self) -> bool {
        self.done == 0 && self.ports.iter().all(|port| port.done.records() == 0)
    }

    fn send_done(&mut self) {
        if self.is_empty() {
            return;
        }
        self.turns += 1;
        if self.answers.is_some() {
            let kind = AnswerKind::Done(std::mem::take(&mut self.done));
            return self.send_frame(kind);
        }
        for port in &mut self.ports {
            let block = port.done.take();
            let Some(file) = port.file.as_mut().filter(|_| port.is_wanted && !block.is_empty()) else {
                continue;
            };
            // Nobody reads it any more, as a command meets SIGPIPE.
            port.is_wanted = file.write_all(&block.data).is_ok();
        }
    }

    fn send_frame(&mut self, kind: AnswerKind) {
        let mut outputs = Vec::new();
        for (position, port) in self.ports.iter_mut().enumerate() {
            let block = port.done.take();
            if !block.is_empty() {
                answer_output(&mut outputs, position, &block);
            }
        }
        self.send_raw(&answer_frame(kind, &outputs));
    }

    fn send_raw(&mut self, frame: &[u8]) {
        let Some(answers) = &mut self.answers else { return };
        if answers.write_all(frame).is_err() {
            gone();
        }
    }
}

/// The outbox, as the thread of the function and the one that sends late share it.
pub(crate) struct Post {
    /// Name and format of each port, and whether anybody reads it.
    ports: Vec<(String, Format, AtomicBool)>,
    outbox: Mutex<Outbox>,
    /// There is something to send late.
    has_some: Condvar,
}

impl Post {
    pub(crate) fn new(outbox: Outbox) -> Self {
        let ports = outbox.ports.iter();
        let ports =
            ports.map(|port| (port.name.clone(), port.format, AtomicBool::new(port.is_wanted))).collect();
        Self { ports, outbox: Mutex::new(outbox), has_some: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        // Nothing of a function's runs while it is held.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of all ports, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.ports.iter().map(|(name, ..)| name.as_str())
    }

    /// Codes one result and keeps it until it is sent. It belongs to the record that is being worked on.
    pub(crate) fn push<T: Serialize + ?Sized>(&self, port: usize, value: &T) -> Result<(), Failure> {
        let (_, format, is_wanted) = &self.ports[port];
        if !is_wanted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut body = SCRATCH.take();
        body.clear();
        // Not under the lock: a value codes itself by code of the function's.
        let result = encode(*format, value, &mut body);
        if result.is_ok() {
            self.lock().push(port, &body);
        }
        SCRATCH.set(body);
        result.map_err(|error| Failure::uncodable(error.to_string()))
    }

    /// The record that was being worked on is done. `more`: another follows at once, so that this may wait for it.
    pub(crate) fn record_done(&self, more: bool) {
        let mut outbox = self.lock();
        let was_empty = outbox.is_empty();
        outbox.commit(1);
        match more {
            true if was_empty => self.has_some.notify_one(),
            true => {}
            false => outbox.send_done(),
        }
    }

    /// Records of a batch are done.
    pub(crate) fn batch_done(&self, records: u32) {
        let mut outbox = self.lock();
        outbox.commit(records);
        outbox.send_done();
    }

    /// One more value of a stream is there. Whether anybody reads it.
    pub(crate) fn value_done(&self, port: usize) -> bool {
        let mut outbox = self.lock();
        let was_empty = outbox.is_empty();
        outbox.commit(0);
        if was_empty && !outbox.is_empty() {
            self.has_some.notify_one();
        }
        let is_wanted = outbox.ports[port].is_wanted;
        if !is_wanted {
            self.ports[port].2.store(false, Ordering::Relaxed);
        }
        is_wanted
    }

    /// The oldest record has failed, after all that is done.
    pub(crate) fn record_failed(&self, failure: &Failure) {
        let mut outbox = self.lock();
        outbox.drop_unfinished();
        outbox.send_done();
        let payload = serde_json::to_vec(failure).unwrap_or_else(|_| b"{}".to_vec());
        outbox.send_raw(&answer_frame(AnswerKind::Failed, &payload));
    }

    /// What the oldest record looks like.
    pub(crate) fn about(&self, record: &serde_json::Value) {
        let mut outbox = self.lock();
        outbox.send_done();
        outbox.send_raw(&answer_frame(AnswerKind::About, record.to_string().as_bytes()));
    }

    /// This worker will answer nothing more, and ends when its input does.
    pub(crate) fn leaving(&self) {
        self.lock().send_raw(&answer_frame(AnswerKind::Leaving, &[]));
    }

    /// Sends all that is done.
    pub(crate) fn flush(&self) {
        self.lock().send_done();
    }

    /// Closes the ports: whoever is at their other ends sees the end of this work.
    pub(crate) fn close(&self) {
        let mut outbox = self.lock();
        outbox.answers = None;
        outbox.ports.iter_mut().for_each(|port| port.file = None);
    }

    /// Sends what a slow function leaves waiting. Does not return.
    pub(crate) fn send_late(&self) -> ! {
        let mut outbox = self.lock();
        loop {
            while outbox.is_empty() {
                outbox = self.has_some.wait(outbox).unwrap_or_else(PoisonError::into_inner);
            }
            let seen = outbox.turns;
            drop(outbox);
            std::thread::sleep(LATEST);
            outbox = self.lock();
            if outbox.turns == seen {
                outbox.send_done();
            }
        }
    }
}
