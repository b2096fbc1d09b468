//! Function workers: their task, their control connection, and what they answer. See `schemas/worker-protocol.md`.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use bytes::BytesMut;
use serde_json::{Value, json};

use super::held::Held;
use super::lease::Blame;
use super::poller::Token;
use super::servers::memory_file;
use super::start::{Ends, FAILED, Refusal, STDERR};
use super::worker::{Exchange, Tap, WorkerIo};
use super::{RunLoop, Target, held};
use crate::ipc::{
    ANSWER_OVERHEAD_BYTES, Answer, Block, Breach, Broken, Cut, Cutter, Failed, Framing, PROTOCOL, Ready,
    Said, Say,
};
use crate::model::{Body, Format, Mode, Place, Problem, STDIN};
use crate::runtime::broker::{Failure, Results};
use crate::runtime::supervisor::{Input, Worker};
use crate::sys::message::Received;
use crate::sys::{descriptor, message};

/// Records that one chunk or answer should hold at most. Measured: more gains nothing, and delays others.
const BLOCK_RECORDS: u64 = 8192;

/// Bytes that one chunk or answer should hold at most: they stay in the second-level cache on their way.
const BLOCK_BYTES: u64 = 256 << 10;

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
    pub(super) fn is_function(&self, stage: usize) -> bool {
        !matches!(self.plan.stages[stage].stage.body, Body::Command(_))
    }

    /// The output ports that a function worker of this stage knows, in its order: positions in the plan.
    pub(super) fn function_outputs(&self, stage: usize) -> Vec<usize> {
        let outputs = self.plan.stages[stage].outputs.iter().enumerate();
        outputs.filter(|(_, port)| port.name != FAILED && port.name != STDERR).map(|(port, _)| port).collect()
    }

    // ---- the start

    /// The task and the control connection, and where its records are leased, the pipe for its answers.
    pub(super) fn open_function(
        &mut self,
        worker: Worker,
        io: &mut WorkerIo,
        ends: &mut Ends,
    ) -> Result<(), Refusal> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        let Worker { stage, rank, .. } = worker;
        if !self.is_function(stage) {
            return Ok(());
        }
        let mut answers = None;
        if self.mode(stage) == Mode::Map {
            let (ours, theirs) = descriptor::pipe().map_err(Refusal::of_pipe)?;
            descriptor::set_nonblocking(ours.as_fd()).map_err(Refusal::of_pipe)?;
            let token = self.tokens.add(Target::Answers { stage, rank });
            self.poller.watch(ours.as_fd(), token, false).map_err(Refusal::of_pipe)?;
            let most = self.max_record_out(stage).saturating_add(ANSWER_OVERHEAD_BYTES);
            io.answers =
                Some(Tap::new(ours, token, Cutter::new(Framing::Length, most), None, Format::Frames));
            let number = ends.free();
            ends.descriptors.push((theirs, number));
            answers = Some(number);
        }
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)
            .map_err(|error| Refusal::of_pipe(error.into()))?;
        let token = self.tokens.add(Target::Control { stage, rank });
        self.poller.watch(ours.as_fd(), token, false).map_err(Refusal::of_pipe)?;
        io.control = Some(ControlLine {
            fd: ours,
            token,
            inbox: BytesMut::new(),
            descriptors: VecDeque::new(),
            outbox: VecDeque::new(),
            waits_for_room: false,
            is_ready: false,
            went: false,
            is_deaf: false,
        });
        ends.pass(theirs, "MPFLOW_CONTROL");
        let task = self.task(stage, ends, answers).to_string();
        let task =
            memory_file(task.as_bytes()).map_err(|error| Refusal::from(("cannot pass its task", error)))?;
        ends.pass(task, "MPFLOW_TASK");
        Ok(())
    }

    /// The largest record that any of the stage's outputs takes.
    fn max_record_out(&self, stage: usize) -> u64 {
        let queues = self.plan.stages[stage].outputs.iter().flat_map(|port| &port.queues);
        queues.map(|&queue| self.plan.queues[queue].options.max_record).max().unwrap_or(u64::MAX)
    }

    fn task(&self, stage: usize, ends: &Ends, answers: Option<i32>) -> Value {
        let plan = &self.plan.stages[stage];
        let declared = &plan.stage;
        let target = match &declared.body {
            Body::Python(target) | Body::Function(target) => target.as_str(),
            Body::Command(_) => "",
        };
        let is_map = declared.mode == Mode::Map;
        let inputs = plan.inputs.iter().enumerate().map(|(position, port)| {
            json!({
                "name": port.name,
                "format": port.format.as_str(),
                "fd": ends.inputs.get(position).copied().flatten(),
                "leased": is_map && position == 0,
            })
        });
        let outputs = self.function_outputs(stage).into_iter().map(|position| {
            let port = &plan.outputs[position];
            let options = || port.queues.iter().map(|&queue| &self.plan.queues[queue].options);
            let max_record = options().map(|options| options.max_record).min();
            let capacity = options().filter_map(|options| options.capacity).min().unwrap_or(u64::MAX);
            json!({
                "name": port.name,
                "format": port.format.as_str(),
                "fd": ends.outputs.get(position).copied().flatten(),
                "max_record": max_record,
                // A chunk that is larger than its queue would stop everything until the queue is empty.
                "block_records": (capacity / 4).clamp(1, BLOCK_RECORDS),
                "wanted": !self.broker.is_unwanted(self.broker.output(stage, position)),
            })
        });
        json!({
            "protocol": PROTOCOL,
            "pipeline": self.names.pipeline,
            "run_id": self.names.run_id,
            "stage": declared.name,
            // What a source returns is one value where any function's is.
            "mode": if is_map || plan.is_called_once { "map" } else { "stream" },
            "source": plan.inputs.iter().all(|port| port.name != STDIN),
            "daemon": declared.daemon,
            "folder": self.plan.dir.to_string_lossy(),
            "path": self.target_folders(),
            "target": target,
            "initializer": declared.initializer,
            "args": declared.args,
            "kwargs": declared.kwargs,
            "unpack": declared.unpack,
            "batch": declared.batch.map(|batch| json!({"size": batch.size})),
            "preload": declared.preload,
            "block": {"records": BLOCK_RECORDS, "bytes": BLOCK_BYTES},
            "inputs": inputs.collect::<Vec<_>>(),
            "outputs": outputs.collect::<Vec<_>>(),
            "answers": answers,
            "connections": ends.connections,
        })
    }

    /// Folders outside of the pipeline's that targets lie in: what one stage's file defines, another unpickles.
    pub(super) fn target_folders(&self) -> BTreeSet<String> {
        let targets = self.plan.stages.iter().filter_map(|stage| match &stage.stage.body {
            Body::Python(target) => {
                target.rsplit_once(':').map(|(file, _)| file).filter(|file| file.ends_with(".py"))
            }
            Body::Command(_) | Body::Function(_) => None,
        });
        let folders =
            targets.filter_map(|file| self.plan.dir.join(file).parent().map(std::path::Path::to_owned));
        folders
            .filter(|folder| *folder != self.plan.dir)
            .map(|folder| folder.to_string_lossy().into_owned())
            .collect()
    }

    // ---- the control connection

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
                Ok(Received { length: 0, .. }) => return self.close_control(stage, rank),
                Ok(Received { length, descriptors, .. }) => {
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

    fn function_found(&mut self, stage: usize, rank: usize, ready: &Ready) {
        if ready.protocol != PROTOCOL {
            let what = format!("it speaks version {} of it, and this is version {PROTOCOL}", ready.protocol);
            return self.breached(stage, rank, &Breach(what));
        }
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let worker = io.worker;
        let Some(control) = io.control.as_mut().filter(|control| !control.is_ready) else { return };
        control.is_ready = true;
        if io.is_started {
            self.inputs.push_back(Input::Loaded { worker });
        }
        self.let_go_on(worker);
    }

    /// Records flow from now on: all functions were found, or there are none.
    pub(super) fn let_flow(&mut self) {
        self.flows = true;
        let workers: Vec<Worker> = self.workers.iter().flatten().flatten().map(|io| io.worker).collect();
        for worker in workers {
            self.let_go_on(worker);
        }
    }

    /// Tells a worker that may work that it may.
    fn let_go_on(&mut self, worker: Worker) {
        let flows = self.flows;
        let Some(io) = self.io(worker) else { return };
        let is_started = io.is_started;
        let Some(control) = io.control.as_mut().filter(|control| control.is_ready && !control.went) else {
            return;
        };
        if !flows || !is_started {
            return;
        }
        control.went = true;
        self.say_with(worker, &Say::Go, None);
        self.worker_works(worker);
    }

    /// A worker of a function is known to have been started: what it has said before counts now.
    pub(super) fn function_started(&mut self, worker: Worker) {
        let is_ready =
            self.io(worker).and_then(|io| io.control.as_ref()).is_some_and(|control| control.is_ready);
        if is_ready {
            self.inputs.push_back(Input::Loaded { worker });
            self.let_go_on(worker);
        }
    }

    /// A function cannot be called. `blamed`: the key of its stage that is to blame, where it is not the function.
    pub(super) fn function_broken(
        &mut self,
        stage: usize,
        rank: usize,
        broken: Broken,
        blamed: Option<&'static str>,
    ) {
        let declared = &self.plan.stages[stage].stage;
        let (key, target) = match &declared.body {
            Body::Function(name) => ("function", name.clone()),
            Body::Python(target) => ("python", target.clone()),
            Body::Command(_) => return,
        };
        let Broken { error, traceback, nearest } = broken;
        let mut problem = Problem::error(
            "mpflow::broken_function",
            format!("stage `{}` cannot call `{target}`: {error}", declared.name),
        )
        .at(Place::StageKey(declared.name.clone(), blamed.unwrap_or(key)), "cannot be called");
        let advice = nearest.map(|nearest| format!("did you mean `{nearest}`?"));
        let told = traceback.as_deref().map(|text| text.trim_end().to_owned());
        let help: Vec<String> = advice.into_iter().chain(told).collect();
        if !help.is_empty() {
            problem = problem.help(help.join("\n"));
        }
        let stderr = traceback.iter().flat_map(|text| text.lines().map(str::to_owned)).collect();
        let name = declared.worker_name(rank);
        self.inputs.push_back(Input::Broken { stage, worker: name, problem: Box::new(problem), stderr });
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

    // ---- answers

    pub(super) fn read_answers(&mut self, stage: usize, rank: usize) {
        if self.has_blocked_output(stage) {
            // They stay readable, and come back on the list when there is room.
            return;
        }
        self.has_moved = true;
        if self.take_answers(stage, rank) == Some(true) {
            self.close_answers(stage, rank);
        }
    }

    /// Reads once. `Some(true)`: that was the end; `None`: nothing was there.
    fn take_answers(&mut self, stage: usize, rank: usize) -> Option<bool> {
        let buffers = self.buffers.clone();
        let tap = self.workers[stage][rank].as_mut()?.answers.as_mut()?;
        match tap.cutter.read(tap.fd.as_fd(), &buffers) {
            Ok(Ok(Cut::Nothing)) => {
                tap.is_readable = false;
                None
            }
            Ok(Ok(Cut::Read { block, bytes })) => {
                if tap.read_so_much(bytes) {
                    let token = tap.token;
                    self.readable.push_back(token);
                }
                self.answers_came(stage, rank, &block);
                Some(false)
            }
            // A torn last answer of a worker that died is its unfinished work.
            Ok(Ok(Cut::End { .. })) => Some(true),
            Ok(Err(oversize)) => {
                let what =
                    format!("an answer of {} bytes, which is more than any record may have", oversize.bytes);
                self.breached(stage, rank, &Breach(what));
                Some(true)
            }
            Err(error) => {
                self.fail_stage(stage, Some(rank), format!("cannot read its answers: {error}"));
                Some(true)
            }
        }
    }

    /// What lies in the pipe of a worker that has ended. Whether that was all.
    pub(super) fn drain_answers(&mut self, stage: usize, rank: usize) -> Option<OwnedFd> {
        loop {
            match self.take_answers(stage, rank) {
                Some(false) => {}
                Some(true) => {
                    self.close_answers(stage, rank);
                    return None;
                }
                None => return self.close_answers(stage, rank).map(|tap| tap.fd),
            }
        }
    }

    fn close_answers(&mut self, stage: usize, rank: usize) -> Option<Tap> {
        let io = self.workers[stage][rank].as_mut()?;
        let tap = io.answers.take()?;
        self.tokens.remove(tap.token);
        let worker = io.worker;
        self.tell_if_outputs_ended(worker);
        Some(tap)
    }

    fn answers_came(&mut self, stage: usize, rank: usize, block: &Block) {
        let outputs = self.function_outputs(stage);
        let framings: Vec<Framing> =
            outputs.iter().map(|&port| Framing::of(self.plan.stages[stage].outputs[port].format)).collect();
        for frame in Framing::Length.records(&block.data) {
            if self.abandoned[stage] {
                return;
            }
            match Answer::read(&block.data.slice_ref(frame), &framings) {
                Ok(answer) => {
                    let answer = match self.pin_answer(stage, rank, answer) {
                        Ok(answer) => answer,
                        Err(breach) => return self.breached(stage, rank, &breach),
                    };
                    if let Err(breach) = self.function_answered(stage, rank, answer, &outputs) {
                        return self.breached(stage, rank, &breach);
                    }
                }
                Err(breach) => return self.breached(stage, rank, &breach),
            }
        }
        self.pump_leases(stage);
    }

    /// An answer whose results hold the segments that they lie in.
    fn pin_answer(&mut self, stage: usize, rank: usize, mut answer: Answer) -> Result<Answer, Breach> {
        let Some(worker) = self.workers[stage][rank].as_ref().map(|io| io.worker) else { return Ok(answer) };
        if let Answer::Done { outputs, .. } = &mut answer {
            for output in outputs {
                let port = self.function_outputs(stage).get(output.port).copied();
                if port.is_some_and(|port| {
                    Framing::of(self.plan.stages[stage].outputs[port].format) == Framing::Chunks
                }) {
                    output.block = self.pin_segments(worker, std::mem::take(&mut output.block))?;
                }
            }
        }
        Ok(answer)
    }

    fn function_answered(
        &mut self,
        stage: usize,
        rank: usize,
        answer: Answer,
        ports: &[usize],
    ) -> Result<(), Breach> {
        let now = self.clock.now();
        let Some(io) = self.workers[stage][rank].as_mut() else { return Ok(()) };
        let worker = io.worker;
        let Exchange::Map { window, answered, parts, about, .. } = &mut io.exchange else { return Ok(()) };
        match answer {
            Answer::Done { records, outputs } => {
                let outputs: Results = outputs
                    .into_iter()
                    .filter(|output| !output.block.is_empty())
                    .map(|output| (ports[output.port], output.block))
                    .collect();
                if records == 0 {
                    return self.hold_part(stage, rank, outputs);
                }
                window.answered(records, now);
                *answered += records;
                *about = None;
                let parts = std::mem::take(parts);
                if !outputs.iter().all(|(port, block)| self.is_valid(stage, rank, *port, block)) {
                    return Ok(());
                }
                let mut results = match self.join_parts(stage, parts) {
                    Ok(results) => results,
                    Err(error) => {
                        let reason = format!("cannot read back its held results: {error}");
                        self.fail_stage(stage, Some(rank), reason);
                        return Ok(());
                    }
                };
                results.extend(outputs);
                self.broker.answer_with(stage, rank, records, results).map_err(|too_many| {
                    Breach(format!(
                        "it answered {} records at once of a frame that has {} left",
                        too_many.answered, too_many.held
                    ))
                })
            }
            Answer::Failed(failed) => {
                window.answered(1, now);
                parts.clear();
                let about = about.take();
                if self.broker.held(stage, rank) == 0 {
                    return Err(Breach("it failed a record, and holds none".to_owned()));
                }
                self.record_failed(worker, failed, about);
                Ok(())
            }
            Answer::About(value) => {
                *about = Some(value);
                Ok(())
            }
        }
    }

    fn hold_part(&mut self, stage: usize, rank: usize, outputs: Results) -> Result<(), Breach> {
        for (port, block) in outputs {
            let Some(io) = self.workers[stage][rank].as_mut() else { return Ok(()) };
            let Exchange::Map { parts, .. } = &mut io.exchange else { return Ok(()) };
            let position = parts.iter().position(|(of, _)| *of == port).unwrap_or_else(|| {
                parts.push((port, Held::default()));
                parts.len() - 1
            });
            if let Err(error) = parts[position].1.push(block) {
                self.fail_stage(stage, Some(rank), format!("cannot hold its results back: {error}"));
                return Ok(());
            }
        }
        Ok(())
    }

    fn join_parts(&self, stage: usize, parts: Vec<(usize, Held)>) -> io::Result<Results> {
        let mut joined = Results::new();
        for (port, part) in parts {
            let framing = Framing::of(self.plan.stages[stage].outputs[port].format);
            joined.extend(held::join(part.take(framing)?).map(|block| (port, block)));
        }
        Ok(joined)
    }

    /// The function has raised an exception for the record that it was called with.
    fn record_failed(&mut self, worker: Worker, failed: Failed, about: Option<Value>) {
        let Worker { stage, rank, .. } = worker;
        let error = failed.reason();
        let record = failed.record.or(about);
        let shown = record.as_ref().map(shown_value).unwrap_or_default();
        let traceback = failed.traceback.filter(|text| !text.is_empty());
        let blame = Blame { shown, record, error, exit: None, traceback };
        let verdict = self.fail_current(stage, rank, Failure::Error);
        self.judged(worker, verdict, blame);
    }

    /// Whether a `map` worker that has died was to answer several records together, so that nobody knows at which it
    /// died.
    pub(super) fn is_guilt_unknown(&self, stage: usize, rank: usize) -> bool {
        self.is_function(stage)
            && self.plan.stages[stage].stage.batch.is_none()
            && self.broker.leases(stage, rank).next().is_some_and(|lease| lease.open() > 1)
    }
}

/// A record as one line of text: a text as it is, anything else as JSON.
pub(super) fn shown_value(value: &Value) -> String {
    match value {
        Value::String(text) => super::read::cut(text.as_bytes()),
        other => super::read::cut(other.to_string().as_bytes()),
    }
}

/// What a function's failure looks like in the log.
fn explanation(failed: &Failed) -> Vec<String> {
    match failed.traceback.as_deref().filter(|text| !text.is_empty()) {
        Some(traceback) => traceback.lines().map(str::to_owned).collect(),
        None => vec![failed.reason()],
    }
}
