//! Starting one worker: its descriptors, its environment, the request to the launcher.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::ends::Ends;
use super::held::Held;
use super::recipe::Recipe;
use super::window::{MapWindow, StreamWindow};
use super::worker::{Exchange, Idleness, WorkerIo};
use super::{Owner, RunLoop};
use crate::model::{FAILED, Mode, Record, STDERR};
use crate::runtime::supervisor::{Input, Phase, Worker};

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
            closed_leases: None,
            taps: self.plan.stages[stage].outputs.iter().map(|_| None).collect(),
            log: None,
            is_unwatched: self.ahead[stage] > 0,
            ran: None,
            is_function: self.is_function(stage),
            maps_segments: false,
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
            Some(_) => self.broker.last_reserved(stage, rank),
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

    /// A worker that was not started. `is_passing`: it will be asked for again, and then needs its ends of pipe edges,
    /// since the workers at the other ends have theirs already.
    pub(super) fn drop_unstarted(&mut self, mut io: WorkerIo, is_passing: bool) {
        for (position, is_from, end) in io.pipe_ends.drain(..).filter(|_| is_passing) {
            let ends = self.pipes.entry((position, io.worker.rank)).or_default();
            *if is_from { &mut ends.from } else { &mut ends.to } = Some(end);
        }
        self.drop_io(io);
    }
}

/// Why a worker was not started.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) error: String,
    /// The machine was short of something.
    pub(super) is_passing: bool,
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
