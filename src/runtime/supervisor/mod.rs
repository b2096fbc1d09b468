//! The supervisor: the state of every stage and worker, as a pure state machine.
//!
//! # Theory of operation
//!
//! [`Supervisor::step`] is told one thing that happened, the time, and through a [`View`] what the broker knows;
//! it changes its state and gives the [`Action`]s that the run's loop does next. It does no I/O. Each process has a
//! *generation*; what comes late of an earlier one in the same slot is recognised by it and changes nothing.
//!
//! A worker has ended when its process has exited, its whole process group has, and all its outputs are at their
//! end; outputs that are held open by somebody else are waited for [`LET_GO_AFTER`] longer.

mod ask;
mod clock;
mod end;
mod reload;
mod restarts;
mod scope;
mod slot;
mod stage;
mod stages;
mod start;
mod steer;
mod stop;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub(crate) use end::describe_end;
pub(crate) use reload::Commit;
use restarts::Restarts;
pub(crate) use slot::Asked;
use slot::{Process, Slot};
pub(crate) use stage::Config;
use stage::Stage;
pub(crate) use stage::{Outcome, Phase};
pub(crate) use steer::GivenUp;

use crate::event::EventKind;
use crate::graph::Plan;
use crate::model::{Exit, Pool, Problem, Signal, StopPolicy, Usage};
use crate::report::Failure;

/// How long outputs that outlive their worker's group are waited for (the language, section 5).
pub(crate) const LET_GO_AFTER: Duration = Duration::from_millis(500);

/// One process of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) stage: usize,
    pub(crate) rank: usize,
    pub(crate) generation: u64,
}

/// How strongly the run is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Drain,
    Terminate,
    Kill,
}

impl Level {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Terminate => "terminate",
            Self::Kill => "kill",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// The run begins.
    Begin,
    Started {
        worker: Worker,
        pid: i32,
    },
    /// `is_passing`: the machine was short of something, and trying again later may help.
    StartFailed {
        worker: Worker,
        error: String,
        is_passing: bool,
    },
    Exited {
        worker: Worker,
        exit: Exit,
        usage: Usage,
    },
    GroupEnded {
        worker: Worker,
    },
    OutputsEnded {
        worker: Worker,
    },
    /// A function worker has found what it is to call.
    Loaded {
        worker: Worker,
    },
    /// A function worker of this stage cannot call what it is to call, nor can any other.
    Broken {
        stage: usize,
        worker: String,
        problem: Box<Problem>,
        stderr: Vec<String>,
    },
    /// A probe says whether this worker is ready.
    Ready {
        worker: Worker,
        is_ready: bool,
    },
    /// A record waits for a process in this slot of an `each` stage.
    Demand {
        stage: usize,
        rank: usize,
    },
    /// The launcher was asked to start the next process of this slot of an `each` stage as soon as the one that is
    /// there has ended.
    SuccessorAsked {
        stage: usize,
        rank: usize,
    },
    /// It will not start it.
    SuccessorRevoked {
        stage: usize,
        rank: usize,
    },
    /// It has, and nothing else is in the slot.
    SuccessorRuns {
        stage: usize,
        rank: usize,
    },
    /// The pool could use one more worker.
    Grow {
        stage: usize,
    },
    /// This worker has been idle, or has had as many records as it should; its input is at its end.
    Retire {
        worker: Worker,
        asked: Asked,
    },
    /// All that ever came to this leased stage is answered.
    WorkDone {
        stage: usize,
    },
    /// Nobody wants what this stage makes any more.
    Unwanted {
        stage: usize,
    },
    /// This worker held a record too long, or broke the exchange.
    Fault {
        worker: Worker,
        reason: String,
    },
    /// The stage cannot go on, and it is not a worker's exit that says so.
    Fail {
        stage: usize,
        rank: Option<usize>,
        exit: Option<Exit>,
        reason: String,
        stderr: Vec<String>,
    },
    /// This stage is to have another pool. Answered by [`Action::Steered`].
    Resize {
        ticket: u64,
        stage: usize,
        pool: Pool,
    },
    /// These workers, by stage and rank, are to be replaced one after the other. Answered likewise.
    Restart {
        ticket: u64,
        workers: Vec<(usize, usize)>,
    },
    /// New stages, at the end of all, are to come up: what they are, and whether only one of them and the one before may
    /// be there at a time.
    Prepare(Vec<(Config, bool)>),
    /// These finish and wait.
    StandBy(Vec<usize>),
    /// New stages that waited for that come up.
    BeginPrepared(Vec<usize>),
    /// New stages are not to be.
    Withdraw(Vec<usize>),
    /// Stages that have fallen have nobody who takes their place.
    GiveUpFallen,
    /// What was prepared takes effect.
    Commit(Box<Commit>),
    /// The run is to be ended.
    Stop(Level),
    /// The launcher is gone, and the kernel has killed all workers.
    LauncherLost,
    /// A deadline may have come.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Start(Worker),
    Signal {
        worker: Worker,
        signal: Signal,
    },
    /// The worker's inputs are to be brought to their end.
    CloseInput(Worker),
    /// What this stage was to get is thrown away from now on.
    AbandonInput {
        stage: usize,
        has_failed: bool,
    },
    /// The worker has ended: its leases are to be settled. `is_success`: by its exit, or since it was asked to.
    Ended {
        worker: Worker,
        exit: Exit,
        is_success: bool,
        asked: Option<Asked>,
    },
    /// The worker's outputs are held open by somebody else and no longer waited for.
    LetGo(Worker),
    /// A slot of this `each` stage is free: it has begun, or a process of it has ended.
    Wake {
        stage: usize,
    },
    /// All functions were found: they may be called.
    LetFlow,
    /// `mpflow`'s standard input is at its end.
    CloseSources,
    /// No process of this stage is there, and none will come.
    StageEnded {
        stage: usize,
    },
    /// A stage that a reload has brought has failed, before it was in effect or soon after.
    NotUp {
        stage: usize,
        failure: Box<Failure>,
    },
    /// What was asked for has come about, but for these workers, by stage and rank, which have ended instead.
    Steered {
        ticket: u64,
        missing: Vec<(usize, usize)>,
        /// It was given up in the middle.
        given_up: Option<GivenUp>,
    },
    Emit(EventKind),
    RunEnded,
}

/// What the supervisor has to know of the records.
pub(crate) trait View {
    /// Records that the stage has answered so far.
    fn answered(&self, stage: usize) -> u64;
    /// Whether a worker holds leased records.
    fn holds_records(&self, stage: usize, rank: usize) -> bool;
    /// Of a worker of a `map` stage: records that it has answered, and that it holds.
    fn lease_counts(&self, stage: usize, rank: usize) -> (u64, u64);
    /// Whether a port that its workers write to was closed since nobody wants it.
    fn has_closed_output(&self, stage: usize) -> bool;
    /// Whether a worker of a `map` stage was told that nothing comes any more, since all that came had been given
    /// out.
    fn has_had_all(&self, _stage: usize, _rank: usize) -> bool {
        false
    }
    /// Why what a worker of a `stream` stage wrote last is no record, should it end well.
    fn bad_end(&self, _stage: usize, _rank: usize) -> Option<String> {
        None
    }
    /// The last lines of a worker's standard error.
    fn stderr_tail(&self, stage: usize, rank: usize) -> Vec<String>;
}

/// See the module's description.
pub(crate) struct Supervisor {
    stages: Vec<Stage>,
    stop: StopPolicy,
    level: Option<Level>,
    /// A stage failed that stops the others.
    is_failing: bool,
    daemons_told: bool,
    has_ended: bool,
    /// All functions were found, so that records may flow.
    flows: bool,
    failures: Vec<Failure>,
    /// Stages that restart together.
    groups: Vec<scope::Group>,
    /// What was asked for and has not come about yet.
    steering: Vec<steer::Steering>,
    actions: Vec<Action>,
    random: fastrand::Rng,
}

impl Supervisor {
    /// `seed`: of the jitter.
    pub(crate) fn new(plan: &Plan, seed: u64) -> Self {
        Self {
            stages: plan.stages.iter().map(|stage| Stage::new(Config::new(stage, plan))).collect(),
            stop: plan.stop,
            level: None,
            is_failing: false,
            daemons_told: false,
            has_ended: false,
            flows: false,
            failures: Vec::new(),
            groups: Vec::new(),
            steering: Vec::new(),
            actions: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// What went wrong so far.
    pub(crate) fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Whether the run comes to its end: it was asked to, or a stage has failed that stops the others.
    pub(crate) fn is_ending(&self) -> bool {
        self.level.is_some() || self.is_failing || self.daemons_told || self.has_ended
    }

    /// How strongly it was asked to end.
    pub(crate) fn level(&self) -> Option<Level> {
        self.level
    }

    /// Whether a stage has failed that stops the others.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing
    }

    pub(crate) fn stages_len(&self) -> usize {
        self.stages.len()
    }

    pub(crate) fn stage(&self, stage: usize) -> &Stage {
        &self.stages[stage]
    }

    /// The next time at which [`Input::Tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let slots = self.stages.iter().flat_map(|stage| stage.slots.iter().filter_map(Slot::deadline));
        let stages =
            self.stages.iter().flat_map(|stage| [stage.timeout_at(), stage.finish_by, stage.leaves_by()]);
        slots.chain(stages.flatten()).chain(self.groups_due()).chain(self.settles_at()).min()
    }

    /// One thing happened.
    #[must_use = "the actions have not happened yet"]
    pub(crate) fn step(&mut self, input: Input, now: Instant, view: &dyn View) -> Vec<Action> {
        if !self.has_ended {
            self.take(input, now, view);
        }
        // Without its launcher a run is at its end at once.
        if !self.has_ended {
            self.advance(now);
        }
        std::mem::take(&mut self.actions)
    }

    fn take(&mut self, input: Input, now: Instant, view: &dyn View) {
        match input {
            Input::Begin => {}
            Input::Started { worker, pid } => self.started(worker, pid, now),
            Input::StartFailed { worker, error, is_passing } => {
                self.start_failed(worker, error, is_passing, now, view);
            }
            Input::Exited { worker, exit, usage } => {
                if let Some(process) = self.process(worker) {
                    process.exit = Some((exit, usage));
                    self.stages[worker.stage].count_exit(exit, usage);
                }
            }
            Input::GroupEnded { worker } => self.group_ended(worker, now, view),
            Input::OutputsEnded { worker } => {
                if let Some(process) = self.process(worker) {
                    process.outputs_ended = true;
                    self.end_if_drained(worker, now, view);
                }
            }
            Input::Loaded { worker } => self.loaded(worker),
            Input::Broken { stage, worker, problem, stderr } => {
                let name = self.stages[stage].config.name.clone();
                let reason = problem.message.clone();
                let problem = Some(problem);
                let worker = Some(worker);
                let failure = Failure { worker, stderr, problem, ..Failure::of_stage(name, reason) };
                self.fail(stage, failure, now);
            }
            Input::Ready { worker, is_ready } => {
                if self.process(worker).is_some() {
                    self.stages[worker.stage].ready[worker.rank] = is_ready;
                }
            }
            Input::Demand { stage, rank } => {
                if self.stages[stage].is_free(rank) {
                    self.start(stage, rank);
                }
            }
            Input::SuccessorAsked { stage, rank } => self.stages[stage].successors[rank] = true,
            Input::SuccessorRevoked { stage, rank } => self.stages[stage].successors[rank] = false,
            Input::SuccessorRuns { stage, rank } => self.succeed(stage, rank),
            Input::Grow { stage } => self.grow(stage, now),
            Input::Retire { worker, asked } => self.retire(worker, asked, now),
            Input::WorkDone { stage } => self.work_done(stage, now),
            Input::Unwanted { stage } => self.unwanted(stage, now),
            Input::Fault { worker, reason } => self.fault(worker, reason),
            Input::Fail { stage, rank, exit, reason, stderr } => {
                let worker = rank.map(|rank| self.stages[stage].config.worker_name(rank));
                let exit = exit.map(Exit::code);
                let name = self.stages[stage].config.name.clone();
                let failure = Failure { worker, exit, stderr, ..Failure::of_stage(name, reason) };
                self.fail(stage, failure, now);
            }
            Input::Resize { ticket, stage, pool } => self.resize(ticket, stage, pool, now),
            Input::Restart { ticket, workers } => self.restart_rolling(ticket, workers),
            Input::Prepare(stages) => self.prepare(stages),
            Input::StandBy(stages) => self.stand_by(&stages, now),
            Input::BeginPrepared(stages) => self.begin_prepared(&stages),
            Input::Withdraw(stages) => self.withdraw(&stages, now),
            Input::GiveUpFallen => self.give_up_fallen(now),
            Input::Commit(commit) => self.commit(*commit, now),
            Input::Stop(level) => self.stop(level, now),
            Input::LauncherLost => self.launcher_lost(),
            Input::Tick => self.tick(now, view),
        }
    }

    /// The process of this very generation, where it still is one.
    fn process(&mut self, worker: Worker) -> Option<&mut Process> {
        let process = self.stages.get_mut(worker.stage)?.slots.get_mut(worker.rank)?.process_mut()?;
        (process.generation == worker.generation).then_some(process)
    }

    fn slot(&mut self, worker: Worker) -> Option<&mut Slot> {
        let slot = self.stages.get_mut(worker.stage)?.slots.get_mut(worker.rank)?;
        (slot.generation() == Some(worker.generation)).then_some(slot)
    }

    fn emit(&mut self, kind: EventKind) {
        self.actions.push(Action::Emit(kind));
    }
}
