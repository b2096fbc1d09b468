//! Function workers: their task, and whether their function can be called. See `schemas/worker-protocol.md`.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use serde_json::{Value, json};

use super::control::ControlLine;
use super::ends::{Ends, pipe_to_read};
use super::gate::Gate;
use super::servers::memory_file;
use super::start::Refusal;
use super::worker::{Tap, WorkerIo};
use super::{RunLoop, Target};
use crate::ipc::{ANSWER_OVERHEAD_BYTES, Breach, Broken, Cutter, Framing, PROTOCOL, Ready, Say};
use crate::model::{Body, FAILED, Format, Mode, Place, Problem, STDERR, STDIN};
use crate::runtime::supervisor::{Input, Worker};

/// Records that one chunk or answer should hold at most. Measured: more gains nothing, and delays others.
const BLOCK_RECORDS: u64 = 8192;

/// Bytes that one chunk or answer should hold at most: they stay in the second-level cache on their way.
const BLOCK_BYTES: u64 = 256 << 10;

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
            let (ours, theirs) = pipe_to_read()?;
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
        io.control = Some(ControlLine::new(ours, token));
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
        queues.map(|&queue| self.plan.queues[queue].options.max_record).max().unwrap_or(0)
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

    // ---- whether it can be called

    pub(super) fn function_found(&mut self, stage: usize, rank: usize, ready: &Ready) {
        if ready.protocol != PROTOCOL {
            let what = format!("it speaks version {} of it, and this is version {PROTOCOL}", ready.protocol);
            return self.breached(stage, rank, &Breach(what));
        }
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let worker = io.worker;
        let Some(control) = io.control.as_mut() else { return };
        if std::mem::replace(&mut control.is_ready, true) {
            return self.breached(stage, rank, &Breach("it said READY a second time".to_owned()));
        }
        io.maps_segments = ready.segments;
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
    pub(super) fn let_go_on(&mut self, worker: Worker) {
        let flows = self.flows && self.gates[worker.stage] == Gate::Open;
        let Some(io) = self.io(worker) else { return };
        let is_started = io.is_started;
        if io.went || !flows || !is_started || !io.control.as_ref().is_some_and(|control| control.is_ready) {
            return;
        }
        io.went = true;
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
}
