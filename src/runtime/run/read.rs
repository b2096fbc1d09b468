//! What workers write: read, cut, and passed on.

use std::os::fd::{AsFd, OwnedFd};

use super::gate::Gate;
use super::poller::Token;
use super::ready::Probing;
use super::worker::{Exchange, Log, Tap};
use super::{RunLoop, Target};
use crate::event::EventKind;
use crate::ipc::{Block, Breach, Cut, Framing, Oversize, check_chunks};
use crate::model::{FAILED, Format, Mode, RestartPolicy, STDERR};
use crate::runtime::supervisor::{Input, Phase, Worker};

use super::window::LARGEST_PIPE;

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
            Some(Target::Log { stage, rank }) => self.read_log(stage, rank),
            Some(Target::Answers { stage, rank }) => self.read_answers(stage, rank),
            Some(Target::SharedListener) => self.accept_shared(),
            Some(Target::SharedClient(client)) => self.hear_shared(client),
            Some(Target::Control { stage, rank }) => self.read_control(stage, rank),
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
        if self.has_kept_enough(stage, rank) {
            return;
        }
        self.has_moved = true;
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(tap) = io.taps[port].as_mut() else { return };
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
                if tap.read_so_much(bytes) {
                    self.readable.push_back(tap.token);
                }
                self.came(stage, rank, port, block);
            }
            Cut::End { block } => {
                self.ended_in(stage, rank, port, block);
                self.close_tap(stage, rank, port);
            }
        }
    }

    /// An output has ended, in this block: a last line without its end, or a torn frame. The frame is an error of a worker
    /// that ends well, and of one that dies only its unfinished work: it waits for that.
    fn ended_in(&mut self, stage: usize, rank: usize, port: usize, block: Block) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(tap) = io.taps[port].as_ref() else { return };
        match &mut io.exchange {
            Exchange::Stream { last, .. } if block.is_open => last.push((port, block)),
            _ if tap.cutter.framing().may_end_in(&block.data) => self.came(stage, rank, port, block),
            _ => {}
        }
    }

    /// Records have come from a worker's port.
    pub(super) fn came(&mut self, stage: usize, rank: usize, port: usize, block: Block) {
        if block.data.is_empty() || self.abandoned[stage] && self.mode(stage) != Mode::Stream {
            return;
        }
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        // What follows a breach on its way is nobody's record.
        let Some(tap) = io.taps[port].as_ref().filter(|_| !io.has_breached) else { return };
        let (framing, is_json) = (tap.cutter.framing(), tap.is_json);
        let is_log = self.plan.stages[stage].outputs[port].name == STDERR;
        if !io.may_work() && !is_log {
            return self.breached(stage, rank, &Breach("it wrote before it was told to go".to_owned()));
        }
        let worker = io.worker;
        let block = match framing {
            Framing::Chunks => {
                let pinned = check_chunks(&block.data).and_then(|()| self.pin_segments(worker, block));
                match pinned {
                    Ok(block) => block,
                    Err(breach) => return self.breached(stage, rank, &breach),
                }
            }
            Framing::EndedBy(_) | Framing::Length => block,
        };
        // What an `each` process wrote, and what ends without an end, counts only if its worker ends well; it is looked
        // at then.
        let is_final = !block.is_open && self.plan.stages[stage].stage.mode != Mode::Each;
        if is_json
            && is_final
            && let Some(reason) = first_invalid(framing, &block)
        {
            return self.fail_stage(stage, Some(rank), reason);
        }
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        if matches!(io.probe, Some(Probing::Log { .. })) {
            let data = block.data.clone();
            self.look_at_line(stage, rank, &data);
        }
        if self.gates[stage] == Gate::Open {
            self.pass_on(stage, rank, port, block);
        } else if let Some(io) = self.workers[stage][rank].as_mut() {
            io.kept.push((port, block));
        }
    }

    /// Hands on what a worker of a stage in effect has written, though it may have closed that output since.
    pub(super) fn pass_on(&mut self, stage: usize, rank: usize, port: usize, block: Block) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let plan = &self.plan.stages[stage].outputs[port];
        let (is_stdout, framing) = (plan.name == crate::model::STDOUT, Framing::of(plan.format));
        match &mut io.exchange {
            Exchange::Map { .. } if is_stdout => self.answered(stage, rank, port, framing, block),
            Exchange::Each { results, .. } if results.iter().any(|(of, _)| *of == port) => {
                let held = results.iter_mut().find(|(of, _)| *of == port);
                if let Some(Err(error)) = held.map(|(_, held)| held.push(block)) {
                    self.fail_stage(stage, Some(rank), format!("cannot hold its output back: {error}"));
                }
            }
            _ => self.broker.publish(self.broker.output(stage, port), block),
        }
    }

    /// Whether records that count now, since their worker has ended well, are what the port's format says; fails the
    /// stage where they are not.
    pub(super) fn is_valid(&mut self, stage: usize, rank: usize, port: usize, block: &Block) -> bool {
        let format = self.plan.stages[stage].outputs[port].format;
        let wrong = (format == Format::Json).then(|| first_invalid(Framing::of(format), block)).flatten();
        let is_valid = wrong.is_none();
        if let Some(reason) = wrong {
            self.fail_stage(stage, Some(rank), reason);
        }
        is_valid
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
    pub(super) fn close_tap(&mut self, stage: usize, rank: usize, port: usize) -> Option<Tap> {
        let io = self.workers[stage][rank].as_mut()?;
        let tap = io.taps[port].take()?;
        self.tokens.remove(tap.token);
        let worker = io.worker;
        self.tell_if_outputs_ended(worker);
        self.end_port_if_nobody_writes(stage, port);
        Some(tap)
    }

    /// When all workers of a stage have closed this output and live on, what it feeds is told at once, as the end of
    /// file tells in a shell.
    pub(super) fn end_port_if_nobody_writes(&mut self, stage: usize, port: usize) {
        let declared = &self.plan.stages[stage].stage;
        let state = self.supervisor.stage(stage);
        let is_final = declared.mode == Mode::Stream
            && declared.restart.policy == RestartPolicy::Never
            && !declared.pool.is_elastic()
            && state.phase == Phase::Running
            && self.gates[stage] == Gate::Open
            && self.plan.stages[stage].outputs[port].name != FAILED;
        let has_closed = |rank: usize| match &self.workers[stage][rank] {
            // A last record without its end is judged by how its worker ends.
            Some(io) => io.is_started && io.taps[port].is_none() && !io.exchange.has_last_of(port),
            None => state.is_slot_done(rank),
        };
        if !is_final || !(0..self.workers[stage].len()).all(has_closed) {
            return;
        }
        match state.trial_until.filter(|&until| self.clock.now() < until) {
            // It may be about to fall, and its output be another form's of it.
            Some(until) => self.closed_on_trial.push((until, stage, port)),
            None => self.broker.end_output(stage, port),
        }
    }

    pub(super) fn tell_if_outputs_ended(&mut self, worker: Worker) {
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

    /// Takes what lies in the outputs of a worker whose group has ended, and does not wait for more. Returns those that
    /// were not at their end: somebody else holds them.
    pub(super) fn drain_outputs(&mut self, worker: Worker) -> Vec<OwnedFd> {
        let Worker { stage, rank, .. } = worker;
        let mut held = Vec::new();
        for port in 0..self.plan.stages[stage].outputs.len() {
            let is_at_end = self.drain_tap(stage, rank, port);
            held.extend(self.close_tap(stage, rank, port).filter(|_| !is_at_end).map(|tap| tap.fd));
        }
        held.extend(self.drain_answers(stage, rank));
        self.read_all_control(stage, rank);
        self.close_control(stage, rank);
        self.read_log(stage, rank);
        held.extend(self.close_log(stage, rank).map(|log| log.fd));
        held
    }

    /// Takes what a brief process has left in its outputs, which nobody has watched. Where they are not at their end,
    /// somebody else holds them.
    pub(super) fn read_unwatched(&mut self, worker: Worker) {
        if !self.io(worker).is_some_and(|io| io.is_unwatched) {
            return;
        }
        let Worker { stage, rank, .. } = worker;
        for port in 0..self.plan.stages[stage].outputs.len() {
            if self.drain_tap(stage, rank, port) {
                self.close_tap(stage, rank, port);
            }
        }
        self.read_log(stage, rank);
        self.watch_outputs(worker);
    }

    /// Reads what a pipe holds, whether there is room for it or not; not more, since whoever holds the other end may
    /// write for ever. Whether that was the end.
    fn drain_tap(&mut self, stage: usize, rank: usize, port: usize) -> bool {
        let buffers = self.buffers.clone();
        let mut budget = 2 * LARGEST_PIPE;
        while let Some(tap) = self.tap_mut(stage, rank, port).filter(|_| budget > 0) {
            match tap.cutter.read(tap.fd.as_fd(), &buffers) {
                Ok(Ok(Cut::Read { block, bytes })) => {
                    budget = budget.saturating_sub(bytes);
                    self.came(stage, rank, port, block);
                }
                Ok(Ok(Cut::End { block })) => {
                    self.ended_in(stage, rank, port, block);
                    return true;
                }
                _ => return false,
            }
        }
        false
    }

    // ---- standard error

    /// Reads what has come, within bounds: a worker that writes without end must not hold up the others.
    pub(super) fn read_log(&mut self, stage: usize, rank: usize) {
        /// Reads of one turn at most.
        const READS: usize = 16;
        let mut buffer = [0; 16 << 10];
        for _ in 0..READS {
            let Some(log) = self.workers[stage][rank].as_mut().and_then(|io| io.log.as_mut()) else { return };
            match nix::unistd::read(&log.fd, &mut buffer) {
                Ok(0) => return drop(self.close_log(stage, rank)),
                Ok(count) => self.log_bytes(stage, rank, &buffer[..count]),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(_) => return drop(self.close_log(stage, rank)),
            }
        }
        if let Some(log) = self.workers[stage][rank].as_ref().and_then(|io| io.log.as_ref()) {
            self.readable.push_back(log.token);
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
        self.tell_line(stage, rank, line);
    }

    /// One line for the log.
    pub(super) fn tell_line(&mut self, stage: usize, rank: usize, line: String) {
        self.tails[stage][rank].push(&line);
        self.look_at_line(stage, rank, line.as_bytes());
        let worker = self.plan.stages[stage].stage.worker_name(rank);
        self.tell(EventKind::Log { worker, line });
    }

    fn close_log(&mut self, stage: usize, rank: usize) -> Option<Log> {
        let io = self.workers[stage][rank].as_mut()?;
        let worker = io.worker;
        if io.log.as_ref().is_some_and(|log| !log.line.is_empty()) {
            self.log_line(stage, rank, b"");
        }
        let log = self.workers[stage][rank].as_mut()?.log.take()?;
        self.tokens.remove(log.token);
        self.tell_if_outputs_ended(worker);
        Some(log)
    }
}

/// Why a last record without an end of its own is none, now that its worker has ended well.
pub(super) fn bad_end(format: Format, block: &Block) -> Option<String> {
    let framing = Framing::of(format);
    if !framing.may_end_in(&block.data) {
        let bytes = block.len();
        return Some(format!("its output ended in the middle of a frame, after {bytes} of its bytes"));
    }
    (format == Format::Json).then(|| first_invalid(framing, block)).flatten()
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
