//! What workers write: read, cut, and passed on.

use std::os::fd::AsFd;

use super::poller::Token;
use super::ready::Probing;
use super::worker::{Exchange, WorkerIo};
use super::{RunLoop, Target};
use crate::event::EventKind;
use crate::ipc::{Block, Cut, Framing, Oversize};
use crate::model::{Mode, RestartPolicy};
use crate::runtime::supervisor::{Input, Phase, Worker};
use crate::sys::descriptor;

use super::window::LARGEST_PIPE;

/// A read of this much means that the pipe was full, or nearly: its writer is faster than its size allows.
const NEARLY_FULL_BYTES: usize = 48 << 10;

/// A line of standard error is cut at this length, so that one without an end does not grow.
pub(crate) const LONGEST_LOG_LINE: usize = 64 << 10;

/// The beginning of a record in a message.
const SHOWN_OF_A_RECORD: usize = 120;

impl RunLoop {
    /// Reads once from an end that is on the list of the readable.
    pub(super) fn read(&mut self, token: Token) {
        match self.tokens.get(token) {
            Some(Target::Tap { stage, rank, port }) => self.read_tap(stage, rank, port),
            Some(Target::Stdin) => self.read_stdin(),
            _ => {}
        }
    }

    fn read_tap(&mut self, stage: usize, rank: usize, port: usize) {
        let holds_back = self.mode(stage) == Mode::Each;
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(tap) = io.taps[port].as_mut() else { return };
        if !holds_back && tap.producer.is_some_and(|producer| self.broker.is_blocked(producer)) {
            // It stays readable, and comes back on the list when there is room.
            return;
        }
        self.has_moved = true;
        let cut = match tap.cutter.read(tap.fd.as_fd(), &self.buffers) {
            Ok(Ok(cut)) => cut,
            Ok(Err(oversize)) => return self.too_long(stage, rank, port, &oversize),
            Err(error) => {
                return self.fail_stage(stage, Some(rank), format!("cannot read its output: {error}"));
            }
        };
        match cut {
            Cut::Nothing => tap.is_readable = false,
            Cut::Read { block, bytes } => {
                if bytes >= NEARLY_FULL_BYTES && !tap.is_large {
                    tap.is_large = true;
                    descriptor::set_pipe_size(tap.fd.as_fd(), LARGEST_PIPE);
                }
                // A short read has emptied the pipe, and what comes next is a new event; the end of one that was
                // hung up before is none.
                tap.is_readable = bytes >= NEARLY_FULL_BYTES || tap.has_hung_up;
                if tap.is_readable {
                    self.readable.push_back(tap.token);
                }
                self.came(stage, rank, port, block);
            }
            Cut::End { block } => {
                let framing = tap.cutter.framing();
                if !block.is_empty() && !framing.may_end_in(&block.data) {
                    let reason = format!(
                        "its output ended in the middle of a frame, after {} of its bytes",
                        block.len()
                    );
                    self.torn(stage, rank, reason);
                } else {
                    self.came(stage, rank, port, block);
                }
                self.close_tap(stage, rank, port);
            }
        }
    }

    /// A torn last frame is an error of a worker that ends well; of one that dies it is only its unfinished work.
    fn torn(&mut self, stage: usize, rank: usize, reason: String) {
        if self.mode(stage) == Mode::Stream {
            self.fail_stage(stage, Some(rank), reason);
        }
    }

    /// Records have come from a worker's port.
    fn came(&mut self, stage: usize, rank: usize, port: usize, block: Block) {
        if block.is_empty() || self.abandoned[stage] && self.mode(stage) != Mode::Stream {
            return;
        }
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(tap) = io.taps[port].as_ref() else { return };
        let framing = tap.cutter.framing();
        if tap.is_json
            && let Some(reason) = first_invalid(framing, &block)
        {
            return self.fail_stage(stage, Some(rank), reason);
        }
        if matches!(io.probe, Some(Probing::Log { .. })) {
            let data = block.data.clone();
            self.look_at_line(stage, rank, &data);
        }
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(tap) = io.taps[port].as_ref() else { return };
        let producer = tap.producer;
        let is_stdout = self.plan.stages[stage].outputs[port].name == crate::model::STDOUT;
        match &mut io.exchange {
            Exchange::Stream { last, .. } if block.is_open => last.push((port, block)),
            Exchange::Map { .. } if is_stdout => self.answered(stage, rank, port, framing, block),
            Exchange::Each { results, .. } if results.iter().any(|(of, _)| *of == port) => {
                let held = results.iter_mut().find(|(of, _)| *of == port);
                if let Some(Err(error)) = held.map(|(_, held)| held.push(block)) {
                    self.fail_stage(stage, Some(rank), format!("cannot hold its output back: {error}"));
                }
            }
            _ => {
                if let Some(producer) = producer {
                    self.broker.publish(producer, block);
                }
            }
        }
    }

    fn too_long(&mut self, stage: usize, rank: usize, port: usize, oversize: &Oversize) {
        let limits = self.plan.stages[stage].outputs[port].queues.iter();
        let limit = limits.map(|&queue| self.plan.queues[queue].options.max_record).min().unwrap_or(0);
        let reason = format!(
            "it wrote a record of at least {} bytes, more than the {limit} of `max_record`: {}",
            oversize.bytes,
            shown(&oversize.head)
        );
        self.fail_stage(stage, Some(rank), reason);
        self.close_tap(stage, rank, port);
    }

    /// A stage cannot go on because of what one of its workers did.
    pub(super) fn fail_stage(&mut self, stage: usize, rank: Option<usize>, reason: String) {
        let stderr = rank.map(|rank| self.tails[stage][rank].lines()).unwrap_or_default();
        self.inputs.push_back(Input::Fail { stage, rank, exit: None, reason, stderr });
    }

    // ---- ends

    /// Closes a reading end, and tells when it was the worker's last.
    pub(super) fn close_tap(&mut self, stage: usize, rank: usize, port: usize) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(tap) = io.taps[port].take() else { return };
        self.tokens.remove(tap.token);
        let worker = io.worker;
        self.tell_if_outputs_ended(worker);
        self.end_port_if_nobody_writes(stage, port);
    }

    /// When all workers of a stage have closed this output and live on, what it feeds is told at once, as the end of
    /// file tells in a shell.
    fn end_port_if_nobody_writes(&mut self, stage: usize, port: usize) {
        let declared = &self.plan.stages[stage].stage;
        let state = self.supervisor.stage(stage);
        let is_final = declared.mode == Mode::Stream
            && declared.restart.policy == RestartPolicy::Never
            && !declared.pool.is_elastic()
            && state.phase == Phase::Running;
        let has_closed = |rank: usize| match &self.workers[stage][rank] {
            Some(io) => io.is_started && io.taps[port].is_none(),
            None => state.is_slot_done(rank),
        };
        if is_final && (0..self.workers[stage].len()).all(has_closed) {
            self.broker.end_producer(self.broker.output(stage, port));
        }
    }

    fn tell_if_outputs_ended(&mut self, worker: Worker) {
        let Some(io) = self.io(worker) else { return };
        // Before it is known to have started, the supervisor knows of no process that could be at its end.
        if io.is_started && !io.has_open_outputs() && !std::mem::replace(&mut io.told_outputs_ended, true) {
            self.inputs.push_back(Input::OutputsEnded { worker });
        }
    }

    /// A worker without any output is at its outputs' end from the start.
    pub(super) fn check_outputs(&mut self, worker: Worker) {
        self.tell_if_outputs_ended(worker);
    }

    /// Takes what lies in the outputs of a worker whose group has ended, and does not wait for more.
    pub(super) fn drain_outputs(&mut self, worker: Worker) {
        let Worker { stage, rank, .. } = worker;
        for port in 0..self.plan.stages[stage].outputs.len() {
            // What a full queue does not take now is taken when it has room, and the end is not waited for then.
            let buffers = self.buffers.clone();
            while let Some(tap) = self.tap_mut(stage, rank, port) {
                match tap.cutter.read(tap.fd.as_fd(), &buffers) {
                    Ok(Ok(Cut::Read { block, .. })) => self.came(stage, rank, port, block),
                    _ => break,
                }
            }
            self.close_tap(stage, rank, port);
        }
        self.close_log(stage, rank);
    }

    // ---- standard error

    pub(super) fn read_log(&mut self, stage: usize, rank: usize) {
        let mut buffer = [0; 16 << 10];
        loop {
            let Some(log) = self.workers[stage][rank].as_mut().and_then(|io| io.log.as_mut()) else { return };
            match nix::unistd::read(&log.fd, &mut buffer) {
                Ok(0) => return self.close_log(stage, rank),
                Ok(count) => self.log_bytes(stage, rank, &buffer[..count]),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(_) => return self.close_log(stage, rank),
            }
        }
    }

    fn log_bytes(&mut self, stage: usize, rank: usize, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            self.log_line(stage, rank, line);
            bytes = &rest[1..];
        }
        let Some(log) = self.workers[stage][rank].as_mut().and_then(|io| io.log.as_mut()) else { return };
        log.line.extend_from_slice(bytes);
        if log.line.len() >= LONGEST_LOG_LINE {
            self.log_line(stage, rank, b"");
        }
    }

    /// A line is whole: what was kept of it, and this.
    fn log_line(&mut self, stage: usize, rank: usize, last: &[u8]) {
        let Some(log) = self.workers[stage][rank].as_mut().and_then(|io| io.log.as_mut()) else { return };
        let mut line = std::mem::take(&mut log.line);
        line.extend_from_slice(last);
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
        self.tails[stage][rank].push(&line);
        self.look_at_line(stage, rank, line.as_bytes());
        let worker = self.plan.stages[stage].stage.worker_name(rank);
        self.tell(EventKind::Log { worker, line });
    }

    fn close_log(&mut self, stage: usize, rank: usize) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let worker = io.worker;
        if io.log.as_ref().is_some_and(|log| !log.line.is_empty()) {
            self.log_line(stage, rank, b"");
        }
        let Some(log) = self.workers[stage][rank].as_mut().and_then(|io: &mut WorkerIo| io.log.take()) else {
            return;
        };
        self.tokens.remove(log.token);
        self.tell_if_outputs_ended(worker);
    }
}

/// Why the first record that is no JSON document is none.
pub(super) fn first_invalid(framing: Framing, block: &Block) -> Option<String> {
    framing.records(&block.data).find_map(|record| {
        let body = framing.body(record);
        let error = serde_json::from_slice::<serde::de::IgnoredAny>(body).err()?;
        Some(format!("it wrote a record that is not one JSON document ({error}): {}", shown(body)))
    })
}

/// The beginning of a record, for people, in backticks.
pub(super) fn shown(record: &[u8]) -> String {
    format!("`{}`", cut(record))
}

/// The beginning of a record as one line of text.
pub(super) fn cut(record: &[u8]) -> String {
    let text = String::from_utf8_lossy(&record[..record.len().min(SHOWN_OF_A_RECORD)]);
    let more = if record.len() > SHOWN_OF_A_RECORD { "…" } else { "" };
    // Quotes and backslashes stay as they are: a JSON record is to be found again by what is shown of it.
    let escape = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        other => other.escape_debug().to_string(),
    };
    format!("{}{more}", text.trim_end_matches('\n').chars().map(escape).collect::<String>())
}
