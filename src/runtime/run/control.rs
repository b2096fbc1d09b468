//! What function workers say on their control connections, and what they are told.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use bytes::BytesMut;

use super::poller::Token;
use super::worker::Exchange;
use super::{LONGEST_LOG_LINE, RunLoop};
use crate::event::EventKind;
use crate::ipc::{Breach, Failed, Said, Say};
use crate::process::is_ending;
use crate::runtime::supervisor::{Input, LET_GO_AFTER, Worker};
use crate::sys::message;

/// Read from a control connection at once: thousands of small frames.
const CONTROL_READ_BYTES: usize = 16 << 10;

/// Frames that may wait for a worker to read them. One that never does would otherwise cost more and more.
const MOST_UNREAD: usize = 1 << 14;

/// Files of one stage that are told of at most.
const MOST_FILES: usize = 10_000;

/// The control connection of one function worker.
#[derive(Debug)]
pub(super) struct ControlLine {
    fd: OwnedFd,
    pub(super) token: Token,
    inbox: BytesMut,
    /// Came with what is in the inbox, in order.
    descriptors: VecDeque<OwnedFd>,
    outbox: VecDeque<(Vec<u8>, Option<Arc<OwnedFd>>)>,
    waits_for_room: bool,
    /// It has found its function.
    pub(super) is_ready: bool,
    /// It broke the protocol.
    is_deaf: bool,
    /// It is on the list of what may have something to read.
    pub(super) is_readable: bool,
}

impl ControlLine {
    pub(super) fn new(fd: OwnedFd, token: Token) -> Self {
        Self {
            fd,
            token,
            inbox: BytesMut::new(),
            descriptors: VecDeque::new(),
            outbox: VecDeque::new(),
            waits_for_room: false,
            is_ready: false,
            is_deaf: false,
            is_readable: false,
        }
    }

    /// Sends as much as there is room for.
    fn flush(&mut self) {
        while let Some((bytes, fd)) = self.outbox.front() {
            let raw: Vec<i32> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
            match message::send(self.fd.as_fd(), bytes, &raw, false) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The worker is gone; its end is heard of otherwise.
                Err(_) => return self.outbox.clear(),
            }
        }
    }
}

impl RunLoop {
    /// A control connection has something to read, or room.
    pub(super) fn control_is_ready(&mut self, stage: usize, rank: usize) {
        self.flush_control(stage, rank);
        let Some(control) = self.control_mut(stage, rank) else { return };
        if !std::mem::replace(&mut control.is_readable, true) {
            let token = control.token;
            self.readable.push_back(token);
        }
    }

    fn flush_control(&mut self, stage: usize, rank: usize) {
        let Some(control) = self.workers[stage][rank].as_mut().and_then(|io| io.control.as_mut()) else {
            return;
        };
        control.flush();
        let waits = !control.outbox.is_empty();
        if std::mem::replace(&mut control.waits_for_room, waits) != waits
            && let Err(error) = self.poller.watch_for_room(control.fd.as_fd(), control.token, waits)
        {
            tracing::error!(%error, "cannot watch a worker's control connection");
        }
    }

    /// Says something to a function worker, with a descriptor. Never waits.
    pub(super) fn say_with(&mut self, worker: Worker, say: &Say, fd: Option<Arc<OwnedFd>>) {
        let Some(control) = self.io(worker).and_then(|io| io.control.as_mut()) else { return };
        if control.is_deaf {
            return;
        }
        if control.outbox.len() >= MOST_UNREAD {
            control.outbox.clear();
            let what =
                format!("it does not read its control connection, where {MOST_UNREAD} frames wait for it");
            return self.breached(worker.stage, worker.rank, &Breach(what));
        }
        control.outbox.push_back((say.encode(), fd));
        self.flush_control(worker.stage, worker.rank);
    }

    fn control_mut(&mut self, stage: usize, rank: usize) -> Option<&mut ControlLine> {
        self.workers[stage][rank].as_mut()?.control.as_mut()
    }

    /// Reads once of what a worker has said; the rest in its next turn, so that one that talks without end holds up
    /// nobody.
    pub(super) fn read_control(&mut self, stage: usize, rank: usize) {
        if self.read_control_once(stage, rank)
            && let Some(control) = self.control_mut(stage, rank)
        {
            control.is_readable = true;
            let token = control.token;
            self.readable.push_back(token);
        }
    }

    /// Takes all that a worker has said so far. What it says meanwhile may come with it, up to as much as lies in a
    /// socket.
    pub(super) fn read_all_control(&mut self, stage: usize, rank: usize) {
        /// More than the kernel keeps in a socket, in reads.
        const ALL: usize = (4 << 20) / CONTROL_READ_BYTES;
        for _ in 0..ALL {
            if !self.read_control_once(stage, rank) {
                return;
            }
        }
    }

    /// Whether there may be more to read.
    fn read_control_once(&mut self, stage: usize, rank: usize) -> bool {
        let mut buffer = [0; CONTROL_READ_BYTES];
        let Some(control) = self.control_mut(stage, rank).filter(|control| !control.is_deaf) else {
            return false;
        };
        match message::receive(control.fd.as_fd(), &mut buffer) {
            Ok(message::Received { length: 0, .. }) => {
                self.control_ended(stage, rank);
                false
            }
            Ok(message::Received { length, descriptors, .. }) => {
                control.descriptors.extend(descriptors);
                control.inbox.extend_from_slice(&buffer[..length]);
                self.hear_worker(stage, rank);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                control.is_readable = false;
                false
            }
            Err(_) => {
                self.control_ended(stage, rank);
                false
            }
        }
    }

    fn hear_worker(&mut self, stage: usize, rank: usize) {
        self.moved();
        while let Some(control) = self.control_mut(stage, rank).filter(|control| !control.is_deaf) {
            match Said::take(&mut control.inbox) {
                Ok(Some(said)) => self.heard(stage, rank, said),
                Ok(None) => break,
                Err(breach) => return self.breached(stage, rank, &breach),
            }
        }
        // A descriptor comes with its frame, so what is left belongs to one that is not whole yet.
        let Some(control) = self.control_mut(stage, rank) else { return };
        let (count, is_between) = (control.descriptors.len(), control.inbox.is_empty());
        if count > message::MAX_DESCRIPTORS || count > 0 && is_between {
            control.descriptors.clear();
            let what = "descriptors that belong to no segment".to_owned();
            self.breached(stage, rank, &Breach(what));
        }
    }

    fn heard(&mut self, stage: usize, rank: usize, said: Said) {
        match said {
            Said::Ready(ready) => self.function_found(stage, rank, &ready),
            Said::Broken(_) if self.control_mut(stage, rank).is_some_and(|control| control.is_ready) => {
                self.breached(stage, rank, &Breach("it said BROKEN after READY".to_owned()));
            }
            Said::Broken(broken) => self.function_broken(stage, rank, broken, None),
            Said::Log(line) => self.worker_said(stage, rank, &line),
            Said::Error(failed) => {
                for line in explanation(&failed) {
                    self.worker_said(stage, rank, &line);
                }
            }
            Said::Files(files) => self.runs_files(stage, files),
            Said::Segment { .. } | Said::Free(_) | Said::Drop(_) => {
                let Some(io) = self.workers[stage][rank].as_mut() else { return };
                let worker = io.worker;
                let result = match said {
                    Said::Segment { id, bytes } => {
                        let fd = io.control.as_mut().and_then(|control| control.descriptors.pop_front());
                        self.segment_came(worker, id, bytes, fd)
                    }
                    Said::Free(ids) => self.segments_freed(worker, &ids),
                    Said::Drop(names) => self.segments_dropped(worker, &names),
                    Said::Ready(_) | Said::Broken(_) | Said::Log(_) | Said::Error(_) | Said::Files(_) => {
                        Ok(())
                    }
                };
                if let Err(breach) = result {
                    self.breached(stage, rank, &breach);
                }
            }
        }
    }

    /// A worker says which files it runs; those that its stage was not known to run are told.
    fn runs_files(&mut self, stage: usize, mut files: Vec<String>) {
        let stage = self.plan.stages[stage].stage.name.clone();
        let known = self.files.entry(stage.clone()).or_default();
        files.retain(|file| known.len() < MOST_FILES && known.insert(file.clone()));
        if !files.is_empty() {
            self.tell(EventKind::StageFiles { stage, files });
        }
    }

    /// One line of a worker's own, as if it had written it to its standard error.
    fn worker_said(&mut self, stage: usize, rank: usize, line: &str) {
        for line in line.lines() {
            let line: Vec<u8> = line.bytes().take(LONGEST_LOG_LINE).collect();
            self.tell_line(stage, rank, String::from_utf8_lossy(&line).into_owned());
        }
    }

    /// A worker has not kept to the protocol: it is ended, and its stage fails.
    pub(super) fn breached(&mut self, stage: usize, rank: usize, breach: &Breach) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let worker = io.worker;
        if std::mem::replace(&mut io.has_breached, true) {
            return;
        }
        if let Some(control) = io.control.as_mut() {
            control.is_deaf = true;
        }
        let name = self.plan.stages[stage].stage.worker_name(rank);
        let reason = format!("worker `{name}` broke the worker protocol: {breach}");
        self.fail_stage(stage, Some(rank), reason.clone());
        self.inputs.push_back(Input::Fault { worker, reason });
    }

    /// A worker has closed its control connection: it is about to end, or it lives on and hears nothing any more.
    fn control_ended(&mut self, stage: usize, rank: usize) {
        self.left_early(stage, rank, "control connection");
        self.close_control(stage, rank);
    }

    /// A worker has closed what it must keep until it has done its work. When it does not end soon, that is a breach.
    pub(super) fn left_early(&mut self, stage: usize, rank: usize, what: &'static str) {
        if self.has_work_left(stage, rank)
            && let Some(io) = &self.workers[stage][rank]
        {
            self.closed_early.push((io.worker, self.clock.now() + LET_GO_AFTER, Some(what)));
        }
    }

    fn has_work_left(&self, stage: usize, rank: usize) -> bool {
        let Some(io) = &self.workers[stage][rank] else { return false };
        match &io.exchange {
            Exchange::Map { .. } => io.feeds.iter().any(Option::is_some) || self.broker.held(stage, rank) > 0,
            Exchange::Stream { .. } => {
                io.taps.iter().any(Option::is_some) || io.feeds.iter().any(Option::is_some)
            }
            Exchange::Each { .. } => false,
        }
    }

    /// A function worker has closed this some time ago.
    pub(super) fn lives_without(&mut self, worker: Worker, what: &'static str) {
        let Worker { stage, rank, .. } = worker;
        if self.io(worker).is_none() || !self.has_work_left(stage, rank) {
            return;
        }
        let process = self.supervisor.stage(stage).process(rank);
        let lives = process.is_some_and(|process| process.exit.is_none() && !is_ending(process.pid));
        if lives {
            self.breached(stage, rank, &Breach(format!("it closed its {what} and lives on")));
        }
    }

    pub(super) fn close_control(&mut self, stage: usize, rank: usize) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(control) = io.control.take() else { return };
        self.tokens.remove(control.token);
        let worker = io.worker;
        self.tell_if_outputs_ended(worker);
    }
}

/// What a function's failure looks like in the log.
fn explanation(failed: &Failed) -> Vec<String> {
    match failed.traceback.as_deref().filter(|text| !text.is_empty()) {
        Some(traceback) => traceback.lines().map(str::to_owned).collect(),
        None => vec![failed.reason()],
    }
}
