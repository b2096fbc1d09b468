//! What function workers say on their control connections, and what they are told.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use bytes::BytesMut;

use super::RunLoop;
use super::poller::Token;
use crate::ipc::{Breach, Failed, Said, Say};
use crate::runtime::supervisor::{Input, Worker};
use crate::sys::message;

/// Read from a control connection at once.
const CONTROL_READ_BYTES: usize = 16 << 10;

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
    /// It was told that records may flow.
    pub(super) went: bool,
    /// It ended what it said, or broke the protocol.
    is_deaf: bool,
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
            went: false,
            is_deaf: false,
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
        self.read_control(stage, rank);
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
        control.outbox.push_back((say.encode(), fd));
        self.flush_control(worker.stage, worker.rank);
    }

    fn control_mut(&mut self, stage: usize, rank: usize) -> Option<&mut ControlLine> {
        self.workers[stage][rank].as_mut()?.control.as_mut()
    }

    /// Takes what a worker has said so far.
    pub(super) fn read_control(&mut self, stage: usize, rank: usize) {
        let mut buffer = [0; CONTROL_READ_BYTES];
        while let Some(control) = self.control_mut(stage, rank).filter(|control| !control.is_deaf) {
            match message::receive(control.fd.as_fd(), &mut buffer) {
                Ok((0, _)) => return self.close_control(stage, rank),
                Ok((length, descriptors)) => {
                    control.descriptors.extend(descriptors);
                    control.inbox.extend_from_slice(&buffer[..length]);
                    self.hear_worker(stage, rank);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close_control(stage, rank),
            }
        }
    }

    fn hear_worker(&mut self, stage: usize, rank: usize) {
        self.moved();
        while let Some(control) = self.control_mut(stage, rank) {
            match Said::take(&mut control.inbox) {
                Ok(Some(said)) => self.heard(stage, rank, said),
                Ok(None) => return,
                Err(breach) => return self.breached(stage, rank, &breach),
            }
        }
    }

    fn heard(&mut self, stage: usize, rank: usize, said: Said) {
        match said {
            Said::Ready(ready) => self.function_found(stage, rank, &ready),
            Said::Broken(broken) => self.function_broken(stage, rank, broken, None),
            Said::Log(line) => self.worker_said(stage, rank, &line),
            Said::Error(failed) => {
                for line in explanation(&failed) {
                    self.worker_said(stage, rank, &line);
                }
            }
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
                    Said::Ready(_) | Said::Broken(_) | Said::Log(_) | Said::Error(_) => Ok(()),
                };
                if let Err(breach) = result {
                    self.breached(stage, rank, &breach);
                }
            }
        }
    }

    /// One line of a worker's own, as if it had written it to its standard error.
    fn worker_said(&mut self, stage: usize, rank: usize, line: &str) {
        for line in line.lines() {
            self.tell_line(stage, rank, line.to_owned());
        }
    }

    /// A worker has not kept to the protocol: it is ended, and its stage fails.
    pub(super) fn breached(&mut self, stage: usize, rank: usize, breach: &Breach) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let worker = io.worker;
        if let Some(control) = io.control.as_mut() {
            control.is_deaf = true;
        }
        let name = self.plan.stages[stage].stage.worker_name(rank);
        let reason = format!("worker `{name}` broke the worker protocol: {breach}");
        self.fail_stage(stage, Some(rank), reason.clone());
        self.inputs.push_back(Input::Fault { worker, reason });
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
