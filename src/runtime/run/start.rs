//! Starting one worker: its descriptors, its environment, the request to the launcher.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::feed::Feed;
use super::held::Held;
use super::ready::Probing;
use super::recipe::Recipe;
use super::window::{MapWindow, ONE_PAGE, StreamWindow};
use super::worker::{Exchange, Idleness, Log, Tap, WorkerIo};
use super::{Owner, RunLoop, Target};
use crate::ipc::{Cutter, Framing};
use crate::model::{Mode, ProbeKind, Record, Redirect, STDIN, STDOUT};
use crate::runtime::supervisor::{Input, Phase, Worker};
use crate::sys::descriptor;

/// Where standard error has its number.
pub(super) const STDERR: &str = "stderr";
/// The port that no process writes to.
pub(super) const FAILED: &str = "failed";

/// A worker's descriptors and what its environment says of them, in the making.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) descriptors: Vec<(OwnedFd, i32)>,
    variables: Vec<(String, String)>,
    next: i32,
    /// Of a function: the numbers of its input and output ports, by their positions, and of pipes by the other stage.
    pub(super) inputs: Vec<Option<i32>>,
    pub(super) outputs: Vec<Option<i32>>,
    pub(super) connections: BTreeMap<String, i32>,
}

impl Ends {
    /// The number of a port: the standard one, or the next free, told by a variable.
    fn number(&mut self, port: &str, variable: &str) -> i32 {
        match port {
            STDIN => 0,
            STDOUT => 1,
            STDERR => 2,
            name => self.further(name, variable),
        }
    }

    /// A number of its own, told by a variable: `MPFLOW_OUT_links`.
    fn further(&mut self, name: &str, variable: &str) -> i32 {
        let number = self.free();
        self.variables.push((format!("{variable}_{}", name.replace('-', "_")), number.to_string()));
        number
    }

    /// A descriptor of its own, whose number a variable tells.
    pub(super) fn pass(&mut self, fd: OwnedFd, variable: &str) {
        let number = self.free();
        self.variables.push((variable.to_owned(), number.to_string()));
        self.descriptors.push((fd, number));
    }

    pub(super) fn free(&mut self) -> i32 {
        self.next = self.next.max(3) + 1;
        self.next - 1
    }

    fn has(&self, number: i32) -> bool {
        self.descriptors.iter().any(|&(_, there)| there == number)
    }
}

impl Exchange {
    /// What stands in the place of one that was taken.
    pub(super) fn none() -> Self {
        Self::Stream { window: StreamWindow::new(true), fed: Vec::new(), last: Vec::new() }
    }
}

impl RunLoop {
    /// Starts the workers that are due, as long as the launcher takes their requests: so a wide pool holds no more
    /// descriptors at once than the socket does.
    pub(super) fn start_some(&mut self) {
        for _ in 0..self.to_start.len() {
            // Nobody would stop one that is started while the run is.
            if self.launcher.is_busy() || self.clock.is_suspended() {
                return;
            }
            let Some(worker) = self.to_start.pop_front() else { return };
            match self.waits_for_room(worker) {
                true => self.to_start.push_back(worker),
                false => self.start(worker),
            }
        }
    }

    /// One that is started again waits until what its predecessors made has found room: what they leave behind in their
    /// pipes is taken over at their end, room or not, and must not add up.
    fn waits_for_room(&self, worker: Worker) -> bool {
        worker.generation > 1
            && self.mode(worker.stage) != Mode::Each
            && self.supervisor.stage(worker.stage).phase == Phase::Running
            && self.has_blocked_output(worker.stage)
    }

    /// Asks the launcher for a worker, or tells the supervisor why not.
    fn start(&mut self, worker: Worker) {
        if let Err(refusal) = self.try_start(worker) {
            self.start_refused(worker, refusal);
        }
    }

    fn start_refused(&mut self, worker: Worker, refusal: Refusal) {
        let Refusal { error, is_passing } = refusal;
        self.each_not_started(worker, &error, is_passing);
        self.inputs.push_back(Input::StartFailed { worker, error, is_passing });
    }

    fn try_start(&mut self, worker: Worker) -> Result<(), Refusal> {
        if self.take_in_successor(worker) {
            return Ok(());
        }
        let io = self.open_worker(worker, None)?;
        self.ids.insert(io.id, Owner::Worker(worker));
        self.installed(worker, io);
        self.ask_for_successors(worker.stage);
        Ok(())
    }

    /// Makes all that a worker needs and asks the launcher for it. One that comes `after` another is not watched yet.
    pub(super) fn open_worker(&mut self, worker: Worker, after: Option<u64>) -> Result<WorkerIo, Refusal> {
        let Worker { stage, rank, .. } = worker;
        let recipe = self.recipe(stage, rank)?;
        let probe =
            self.probe_of_the_first_line(stage).map_err(|error| Refusal { error, is_passing: false })?;
        let id = self.next_id;
        self.next_id += 1;
        let next = recipe.first_free_number(&self.inheritable);
        let mut ends = Ends { next, ..Ends::default() };
        let mut io = WorkerIo {
            worker,
            id,
            feeds: self.plan.stages[stage].inputs.iter().map(|_| None).collect(),
            closed_feeds: Vec::new(),
            taps: self.plan.stages[stage].outputs.iter().map(|_| None).collect(),
            log: None,
            is_unwatched: self.is_brief[stage],
            is_function: self.is_function(stage),
            went: false,
            has_breached: false,
            control: None,
            answers: None,
            pipe_ends: Vec::new(),
            exchange: self.exchange(stage),
            told_outputs_ended: false,
            input_closed: false,
            has_had_all: false,
            is_started: false,
            idleness: Idleness::Busy,
            probe,
            given: 0,
            kept: Vec::new(),
        };
        let opened = self
            .open_inputs(worker, &recipe, &mut io, &mut ends)
            .and_then(|()| self.open_outputs(worker, &mut io, &mut ends))
            .and_then(|()| self.open_notify(worker, &mut io, &mut ends))
            .and_then(|()| self.open_pipes(worker, &mut io, &mut ends))
            .and_then(|()| self.open_files(worker, &mut ends))
            .and_then(|()| self.open_function(worker, &mut io, &mut ends))
            .and_then(|()| if after.is_none() { self.watch_inputs(&io) } else { Ok(()) })
            .and_then(|()| if io.is_unwatched { Ok(()) } else { self.watch_outputs_of(&io) });
        if let Err(refusal) = opened {
            self.drop_unstarted(io, refusal.is_passing);
            return Err(refusal);
        }
        let request = self.request(worker, &recipe, id, &ends.variables, after);
        let mut request = match request {
            Ok(request) => request,
            Err(error) => {
                self.drop_io(io);
                return Err(Refusal { error, is_passing: false });
            }
        };
        request.descriptors = ends.descriptors;
        let asked = match self.is_forked(stage) {
            true => self.fork_worker(worker, &recipe, request),
            false => self
                .launcher
                .request_start(request)
                .map_err(|error| Refusal::from(("cannot ask the launcher", error))),
        };
        match asked {
            Ok(()) => Ok(io),
            Err(refusal) => {
                self.drop_unstarted(io, refusal.is_passing);
                Err(refusal)
            }
        }
    }

    /// Waits for room in what a worker reads.
    pub(super) fn watch_inputs(&self, io: &WorkerIo) -> Result<(), Refusal> {
        for feed in io.feeds.iter().flatten() {
            self.poller.watch(feed.fd().as_fd(), feed.token, true).map_err(Refusal::of_pipe)?;
        }
        Ok(())
    }

    /// Waits for what a worker writes.
    fn watch_outputs_of(&self, io: &WorkerIo) -> Result<(), Refusal> {
        let taps = io.taps.iter().flatten().map(|tap| (&tap.fd, tap.token));
        for (fd, token) in taps.chain(io.log.iter().map(|log| (&log.fd, log.token))) {
            self.poller.watch(fd.as_fd(), token, false).map_err(Refusal::of_pipe)?;
        }
        Ok(())
    }

    /// Waits for what a process writes that was taken for a brief one.
    pub(super) fn watch_outputs(&mut self, worker: Worker) {
        let Some(io) = self.io(worker).filter(|io| io.is_unwatched) else { return };
        io.is_unwatched = false;
        let io = self.workers[worker.stage][worker.rank].as_ref();
        if let Some(Err(refusal)) = io.map(|io| self.watch_outputs_of(io)) {
            self.inputs.push_back(Input::Fault { worker, reason: refusal.error });
        }
    }

    /// The launcher knows of this worker, and so do we.
    pub(super) fn installed(&mut self, worker: Worker, io: WorkerIo) {
        let Worker { stage, rank, .. } = worker;
        self.tails[stage][rank].clear();
        self.workers[stage][rank] = Some(io);
        if self.mode(stage) == Mode::Each {
            let is_argument =
                self.recipes[stage][rank].as_ref().is_some_and(|recipe| recipe.takes_record_as_argument());
            self.give_each(worker, is_argument);
        }
    }

    fn recipe(&mut self, stage: usize, rank: usize) -> Result<Arc<Recipe>, Refusal> {
        if let Some(recipe) = &self.recipes[stage][rank] {
            return Ok(Arc::clone(recipe));
        }
        let recipe = Recipe::new(&self.plan.stages[stage], rank, &self.names)
            .map_err(|error| Refusal { error, is_passing: false })?;
        let recipe = Arc::new(recipe);
        self.recipes[stage][rank] = Some(Arc::clone(&recipe));
        Ok(recipe)
    }

    fn exchange(&self, stage: usize) -> Exchange {
        let declared = &self.plan.stages[stage].stage;
        let now = self.clock.now();
        match declared.mode {
            Mode::Stream => Exchange::Stream {
                window: StreamWindow::new(declared.pool.max == 1),
                fed: Vec::new(),
                last: Vec::new(),
            },
            Mode::Map => Exchange::Map {
                window: MapWindow::new(declared.prefetch.map(Into::into), now),
                answered: 0,
                first_lease: None,
                said_stuck: self.is_function(stage),
                last: None,
                parts: Vec::new(),
                about: None,
            },
            Mode::Each => {
                let ports = self.plan.stages[stage].outputs.iter().enumerate();
                let held = ports.filter(|(_, port)| port.name != FAILED && port.name != STDERR);
                Exchange::Each {
                    results: held.map(|(port, _)| (port, Held::default())).collect(),
                    since: now,
                }
            }
        }
    }

    fn request(
        &self,
        worker: Worker,
        recipe: &Recipe,
        id: u64,
        variables: &[(String, String)],
        after: Option<u64>,
    ) -> Result<crate::process::StartRequest, String> {
        let Worker { stage, rank, .. } = worker;
        if self.mode(stage) != Mode::Each {
            return recipe.request(id, None, variables);
        }
        let lease = match after {
            Some(_) => self.broker.reserved(stage, rank),
            None => self.broker.leases(stage, rank).next(),
        };
        let lease = lease.ok_or("no record waits for it")?;
        let framing = self.broker.input_framing(stage);
        let first = framing.records(&lease.block.data).next().unwrap_or_default();
        let sequence = lease.sequence + 1;
        let mut variables = variables.to_vec();
        variables.push(("MPFLOW_SEQ".to_owned(), sequence.to_string()));
        variables.push(("MPFLOW_ATTEMPT".to_owned(), (lease.attempts + 1).to_string()));
        let record = Record { bytes: framing.body(first), sequence, slot: rank + 1 };
        let request = recipe.request(id, Some(record), &variables)?;
        Ok(crate::process::StartRequest { after, ..request })
    }

    // ---- descriptors

    fn open_inputs(
        &mut self,
        worker: Worker,
        recipe: &Recipe,
        io: &mut WorkerIo,
        ends: &mut Ends,
    ) -> Result<(), Refusal> {
        let Worker { stage, rank, .. } = worker;
        for port in 0..io.feeds.len() {
            if port == 0 && self.mode(stage) == Mode::Each && recipe.takes_record_as_argument() {
                continue;
            }
            let name = self.plan.stages[stage].inputs[port].name.clone();
            let number = match self.is_function(stage) {
                true => ends.further(&name, "MPFLOW_IN"),
                false => ends.number(&name, "MPFLOW_IN"),
            };
            ends.inputs.push(Some(number));
            let (theirs, ours) = descriptor::pipe().map_err(Refusal::of_pipe)?;
            descriptor::set_nonblocking(ours.as_fd()).map_err(Refusal::of_pipe)?;
            let shares =
                matches!(io.exchange, Exchange::Stream { .. }) && self.plan.stages[stage].stage.pool.max > 1;
            let size = if shares { descriptor::set_pipe_size(ours.as_fd(), ONE_PAGE) } else { None };
            let token = self.tokens.add(Target::Feed { stage, rank, port });
            let mut feed = Feed::new(ours, token);
            if matches!(io.exchange, Exchange::Stream { .. }) {
                feed.remember(size.unwrap_or(16 * ONE_PAGE));
            }
            io.feeds[port] = Some(feed);
            ends.descriptors.push((theirs, number));
        }
        Ok(())
    }

    fn open_outputs(&mut self, worker: Worker, io: &mut WorkerIo, ends: &mut Ends) -> Result<(), Refusal> {
        let Worker { stage, rank, .. } = worker;
        ends.outputs = vec![None; io.taps.len()];
        for port in 0..io.taps.len() {
            let plan = &self.plan.stages[stage].outputs[port];
            let is_functions = self.is_function(stage) && plan.name != STDERR;
            // A function's results of leased records are in its answers.
            if plan.name == FAILED || (is_functions && self.mode(stage) == Mode::Map) {
                continue;
            }
            let (format, name) = (plan.format, plan.name.clone());
            let limits = plan.queues.iter().map(|&queue| self.plan.queues[queue].options.max_record);
            let max_record = limits.min().unwrap_or(u64::MAX);
            let producer = self.broker.output(stage, port);
            let number = match is_functions {
                true => ends.further(&name, "MPFLOW_OUT"),
                false => ends.number(&name, "MPFLOW_OUT"),
            };
            ends.outputs[port] = Some(number);
            let (ours, theirs) = descriptor::pipe().map_err(Refusal::of_pipe)?;
            ends.descriptors.push((theirs, number));
            if self.broker.is_unwanted(producer) {
                // Dropped here: whoever writes to it meets SIGPIPE.
                continue;
            }
            descriptor::set_nonblocking(ours.as_fd()).map_err(Refusal::of_pipe)?;
            let token = self.tokens.add(Target::Tap { stage, rank, port });
            let cutter = Cutter::new(Framing::of(format), max_record);
            io.taps[port] = Some(Tap::new(ours, token, cutter, Some(producer), format));
        }
        if !ends.has(2) && *self.plan.stages[stage].stage.stderr.get(rank) == Redirect::Inherit {
            let (ours, theirs) = descriptor::pipe().map_err(Refusal::of_pipe)?;
            descriptor::set_nonblocking(ours.as_fd()).map_err(Refusal::of_pipe)?;
            let token = self.tokens.add(Target::Log { stage, rank });
            io.log = Some(Log { fd: ours, token, line: Vec::new() });
            if self.is_function(stage) {
                // What it prints is no data.
                let printed = theirs.try_clone().map_err(Refusal::of_pipe)?;
                ends.descriptors.push((printed, 1));
            }
            ends.descriptors.push((theirs, 2));
        }
        Ok(())
    }

    /// The descriptor that a worker says by that it is ready, where it is asked to.
    fn open_notify(&mut self, worker: Worker, io: &mut WorkerIo, ends: &mut Ends) -> Result<(), Refusal> {
        let Worker { stage, rank, .. } = worker;
        if self.plan.stages[stage].stage.ready.as_ref().is_none_or(|probe| probe.kind != ProbeKind::Notify) {
            return Ok(());
        }
        let (ours, theirs) = descriptor::pipe().map_err(Refusal::of_pipe)?;
        descriptor::set_nonblocking(ours.as_fd()).map_err(Refusal::of_pipe)?;
        let token = self.tokens.add(Target::Notify { stage, rank });
        self.poller.watch(ours.as_fd(), token, false).map_err(Refusal::of_pipe)?;
        let number = ends.free();
        ends.variables.push(("MPFLOW_NOTIFY".to_owned(), number.to_string()));
        ends.descriptors.push((theirs, number));
        io.probe = Some(Probing::Notify { fd: ours, token });
        Ok(())
    }

    /// The ends of pipe edges: made when the first of the two workers is asked for, gone from the engine when the
    /// second is known to run.
    fn open_pipes(&mut self, worker: Worker, io: &mut WorkerIo, ends: &mut Ends) -> Result<(), Refusal> {
        let plan = Arc::clone(&self.plan);
        for (position, pipe) in plan.pipes.iter().enumerate() {
            for is_from in [true, false] {
                if worker.stage != if is_from { pipe.from } else { pipe.to } {
                    continue;
                }
                let made = match self.pipes.remove(&(position, worker.rank)) {
                    Some(made) => made,
                    None => super::PipeEnds::make(pipe.duplex, pipe.size).map_err(Refusal::of_pipe)?,
                };
                let super::PipeEnds { from, to } = made;
                let (ours, rest) = if is_from {
                    (from, super::PipeEnds { from: None, to })
                } else {
                    (to, super::PipeEnds { from, to: None })
                };
                let is_function = self.is_function(worker.stage);
                let other = if is_from { pipe.to } else { pipe.from };
                let number = match (pipe.duplex, is_from) {
                    _ if is_function => {
                        let name = self.plan.stages[other].stage.name.clone();
                        let number = ends.further(&name, "MPFLOW_PIPE");
                        ends.connections.insert(name, number);
                        number
                    }
                    (true, true) => ends.further(&pipe.from_port, "MPFLOW_PIPE"),
                    (true, false) => ends.further(&pipe.to_port, "MPFLOW_PIPE"),
                    (false, true) => ends.number(&pipe.from_port, "MPFLOW_OUT"),
                    (false, false) => ends.number(&pipe.to_port, "MPFLOW_IN"),
                };
                let ours = ours.ok_or_else(|| Refusal {
                    error: format!("its pipe `{}` went with the worker that had it before", pipe.name),
                    is_passing: false,
                })?;
                let theirs = ours.try_clone();
                io.pipe_ends.push((position, is_from, ours));
                // An end that nobody will come for is closed at once, so that the worker sees that.
                let is_awaited = !matches!(self.supervisor.stage(other).phase, Phase::Over(_));
                if is_awaited && (rest.from.is_some() || rest.to.is_some()) {
                    self.pipes.insert((position, worker.rank), rest);
                }
                ends.descriptors.push((theirs.map_err(Refusal::of_pipe)?, number));
            }
        }
        Ok(())
    }

    /// A worker that was not started. `is_passing`: it will be asked for again, and then needs its ends of pipe edges,
    /// since the workers at the other ends have theirs already.
    pub(super) fn drop_unstarted(&mut self, mut io: WorkerIo, is_passing: bool) {
        for (position, is_from, end) in io.pipe_ends.drain(..).filter(|_| is_passing) {
            let ends = self.pipes.entry((position, io.worker.rank)).or_default();
            *if is_from { &mut ends.from } else { &mut ends.to } = Some(end);
        }
        self.drop_io(io);
    }

    fn open_files(&mut self, worker: Worker, ends: &mut Ends) -> Result<(), Refusal> {
        let plan = Arc::clone(&self.plan);
        let stage = &plan.stages[worker.stage].stage;
        let streams = [(0, stage.stdin.as_ref()), (1, stage.stdout.as_ref()), (2, Some(&stage.stderr))];
        for (number, redirect) in streams {
            let Some(Redirect::File(path)) = redirect.map(|redirect| redirect.get(worker.rank)) else {
                continue;
            };
            if ends.has(number) {
                continue;
            }
            let file = if number == 0 { open_to_read(path) } else { self.open_to_append(path) };
            let what = format!("cannot open `{}`", path.display());
            let file = file.map_err(|error| Refusal::from((what.as_str(), error)))?;
            ends.descriptors.push((file.into(), number));
        }
        Ok(())
    }

    /// Emptied when the run opens it first; appended to, so that the workers of a pool do not overwrite each other.
    fn open_to_append(&mut self, path: &Path) -> io::Result<File> {
        let is_first = self.opened.insert(path.to_owned());
        let mut options = File::options();
        options.create(true).append(true);
        open_without_waiting(&mut options, path).inspect(|file| {
            if is_first && file.metadata().is_ok_and(|file| file.is_file()) {
                let _ = file.set_len(0);
            }
        })
    }
}

impl super::PipeEnds {
    fn make(duplex: bool, size: Option<u64>) -> io::Result<Self> {
        if duplex {
            use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
            let (from, to) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
            return Ok(Self { from: Some(from), to: Some(to) });
        }
        let (to, from) = descriptor::pipe()?;
        if let Some(size) = size {
            descriptor::set_pipe_size(from.as_fd(), usize::try_from(size).unwrap_or(usize::MAX));
        }
        Ok(Self { from: Some(from), to: Some(to) })
    }
}

fn open_to_read(path: &Path) -> io::Result<File> {
    open_without_waiting(File::options().read(true), path)
}

/// Opening a named pipe waits for its other side, which the loop must not: open it without, and let the worker wait
/// in its reads and writes.
fn open_without_waiting(options: &mut std::fs::OpenOptions, path: &Path) -> io::Result<File> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::os::unix::fs::OpenOptionsExt;
    let file = options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
    Ok(file)
}

/// Why a worker was not started.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) error: String,
    /// The machine was short of something.
    is_passing: bool,
}

impl Refusal {
    pub(super) fn of_pipe(error: io::Error) -> Self {
        // ENOSPC: this user may not watch more descriptors, epoll(7).
        let is_passing = error.raw_os_error() == Some(nix::libc::ENOSPC);
        let refusal = Self::from(("cannot make a pipe", error));
        Self { is_passing: refusal.is_passing || is_passing, ..refusal }
    }
}

impl From<(&str, io::Error)> for Refusal {
    fn from((what, error): (&str, io::Error)) -> Self {
        use nix::libc::{EMFILE, ENFILE, ENOMEM};
        let is_passing = matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM));
        Self { error: format!("{what}: {error}"), is_passing }
    }
}
