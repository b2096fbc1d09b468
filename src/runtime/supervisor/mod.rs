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

mod restarts;
mod slot;
mod stage;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use restarts::Restarts;
pub(crate) use slot::Asked;
use slot::{Process, Slot};
use stage::{Config, Stage};
pub(crate) use stage::{Outcome, Phase};

use crate::event::EventKind;
use crate::graph::Plan;
use crate::model::{DependencyState, Exit, Mode, OnFailure, RestartPolicy, Signal, StopPolicy, Usage};
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
    /// A record waits for a process in this slot of an `each` stage.
    Demand {
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
    /// A slot of this `each` stage is free again.
    Wake {
        stage: usize,
    },
    /// `mpflow`'s standard input is at its end.
    CloseSources,
    /// No process of this stage is there, and none will come.
    StageEnded {
        stage: usize,
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
    failures: Vec<Failure>,
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
            failures: Vec::new(),
            actions: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// What went wrong so far.
    pub(crate) fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// How strongly it was asked to end.
    pub(crate) fn level(&self) -> Option<Level> {
        self.level
    }

    pub(crate) fn stage(&self, stage: usize) -> &Stage {
        &self.stages[stage]
    }

    /// The next time at which [`Input::Tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let slots = self.stages.iter().flat_map(|stage| stage.slots.iter().filter_map(Slot::deadline));
        let stages = self.stages.iter().flat_map(|stage| [stage.timeout_at(), stage.finish_by]);
        slots.chain(stages.flatten()).min()
    }

    /// One thing happened.
    #[must_use = "the actions have not happened yet"]
    pub(crate) fn step(&mut self, input: Input, now: Instant, view: &dyn View) -> Vec<Action> {
        if !self.has_ended {
            self.take(input, now, view);
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
            Input::Demand { stage, rank } => {
                if self.stages[stage].phase == Phase::Running
                    && self.stages[stage].slots[rank] == Slot::Vacant
                {
                    self.start(stage, rank);
                }
            }
            Input::Grow { stage } => self.grow(stage),
            Input::Retire { worker, asked } => self.retire(worker, asked, now),
            Input::WorkDone { stage } => self.work_done(stage),
            Input::Unwanted { stage } => self.unwanted(stage, now),
            Input::Fault { worker, reason } => self.fault(worker, reason),
            Input::Fail { stage, rank, exit, reason, stderr } => {
                let worker = rank.map(|rank| self.stages[stage].config.worker_name(rank));
                let exit = exit.map(Exit::code);
                let name = self.stages[stage].config.name.clone();
                self.fail(stage, Failure { stage: name, worker, exit, reason, stderr }, now);
            }
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

    // ---- starting

    fn start(&mut self, stage: usize, rank: usize) {
        let state = &mut self.stages[stage];
        state.generations[rank] += 1;
        let generation = state.generations[rank];
        state.slots[rank] = Slot::Starting { generation, asked: None };
        self.actions.push(Action::Start(Worker { stage, rank, generation }));
    }

    fn started(&mut self, worker: Worker, pid: i32, now: Instant) {
        let Some(slot) = self.slot(worker) else { return };
        let Slot::Starting { asked, .. } = *slot else { return };
        let process = Process { generation: worker.generation, pid, exit: None, outputs_ended: false };
        *slot = Slot::Running { process };
        let stage = &mut self.stages[worker.stage];
        stage.count_start(worker.rank, now);
        let id = stage.config.id(worker);
        self.emit(EventKind::WorkerStarted { worker: id, pid });
        if let Some(asked) = asked {
            self.ask(worker.stage, worker.rank, asked, now);
        }
    }

    fn start_failed(
        &mut self,
        worker: Worker,
        error: String,
        is_passing: bool,
        now: Instant,
        view: &dyn View,
    ) {
        let Some(slot) = self.slot(worker) else { return };
        let asked = slot.asked();
        *slot = Slot::Done;
        let config = &self.stages[worker.stage].config;
        let (id, name) = (config.id(worker), config.worker_name(worker.rank));
        self.emit(EventKind::WorkerStartFailed { worker: id, error: error.clone() });
        if asked.is_some() || self.stages[worker.stage].phase != Phase::Running {
            return;
        }
        let reason = format!("cannot start worker `{name}`: {error}");
        if self.stages[worker.stage].config.mode == Mode::Each {
            // Its record is judged, or given back, by the loop.
            let at = now + self.stages[worker.stage].config.restart.backoff.initial;
            self.stages[worker.stage].slots[worker.rank] =
                if is_passing { Slot::BackingOff { at } } else { Slot::Vacant };
            return;
        }
        if is_passing {
            self.restart(worker, reason, None, now, view);
        } else {
            self.fail_by_worker(worker, None, reason, now, view);
        }
    }

    fn grow(&mut self, stage: usize) {
        let state = &self.stages[stage];
        if state.phase != Phase::Running || state.config.pool.max <= state.live() {
            return;
        }
        if let Some(rank) = state.slots.iter().position(|slot| *slot == Slot::Vacant) {
            self.start(stage, rank);
        }
    }

    // ---- ending

    fn group_ended(&mut self, worker: Worker, now: Instant, view: &dyn View) {
        let Some(slot) = self.slot(worker) else { return };
        let asked = slot.asked();
        let Some(process) = slot.process().copied() else { return };
        *slot = Slot::Draining { process, asked, let_go_at: now + LET_GO_AFTER };
        self.end_if_drained(worker, now, view);
    }

    fn end_if_drained(&mut self, worker: Worker, now: Instant, view: &dyn View) {
        let Some(slot) = self.slot(worker) else { return };
        let Slot::Draining { process, asked, .. } = *slot else { return };
        if process.outputs_ended {
            self.worker_ended(worker, process, asked, now, view);
        }
    }

    /// The process, its group and its outputs are all at their end.
    fn worker_ended(
        &mut self,
        worker: Worker,
        process: Process,
        asked: Option<Asked>,
        now: Instant,
        view: &dyn View,
    ) {
        let (exit, usage) = process.exit.unwrap_or((Exit::Signal(Signal::KILL), Usage::default()));
        let config = &self.stages[worker.stage].config;
        let was_asked = asked.is_some_and(|asked| asked != Asked::Fault);
        let by_closed_pipe = is_broken_pipe(exit) && view.has_closed_output(worker.stage);
        let is_success = asked != Some(Asked::Fault)
            && (was_asked || by_closed_pipe || config.success_exit.contains(&exit));
        let exit_report = crate::report::ExitReport::new(exit, usage);
        let id = config.id(worker);
        let (mode, policy) = (config.mode, config.restart.policy);
        self.emit(EventKind::WorkerEnded {
            worker: id,
            exit: exit_report,
            success: is_success,
            pid: process.pid,
        });
        let charged = (!was_asked && view.holds_records(worker.stage, worker.rank))
            .then(|| view.answered(worker.stage));
        self.actions.push(Action::Ended { worker, exit, is_success, asked });
        let stage = &mut self.stages[worker.stage];
        stage.ended_at = Some(now);
        if mode == Mode::Each || asked == Some(Asked::Retire) {
            // An `each` process has attempts, not restarts: the loop judges its record.
            stage.slots[worker.rank] = Slot::Vacant;
            return;
        }
        stage.slots[worker.rank] = Slot::Done;
        if stage.phase != Phase::Running {
            return;
        }
        if asked == Some(Asked::Replace) {
            return self.start(worker.stage, worker.rank);
        }
        if is_success && (was_asked || by_closed_pipe) {
            return;
        }
        let name = self.stages[worker.stage].config.worker_name(worker.rank);
        let mut reason = describe_end(&name, exit);
        let work_done = self.stages[worker.stage].work_done;
        if mode == Mode::Map && is_success && charged.is_some() {
            let (answered, held) = view.lease_counts(worker.stage, worker.rank);
            reason = format!(
                "worker `{name}` took {} records, answered {answered} and ended: a `map` command answers each \
                 record with exactly one; use `mode: stream` for one that does not",
                answered + held
            );
            return self.fail_by_worker(worker, Some(exit), reason, now, view);
        }
        // A `map` worker that ends before its work is done is missed, whatever its exit says; one that ends after
        // it has nothing to come back for.
        let is_missed = mode == Mode::Map && !work_done;
        let again = match policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => !work_done && (!is_success || is_missed),
            RestartPolicy::Always => !work_done,
        };
        match (again, is_success && !is_missed) {
            (true, _) => self.restart(worker, reason, charged, now, view),
            (false, true) => {}
            (false, false) => self.fail_by_worker(worker, Some(exit), reason, now, view),
        }
    }

    fn restart(
        &mut self,
        worker: Worker,
        reason: String,
        charged: Option<u64>,
        now: Instant,
        view: &dyn View,
    ) {
        let random = self.random.f64();
        let answered = view.answered(worker.stage);
        let stage = &mut self.stages[worker.stage];
        let policy = stage.config.restart;
        match stage.restarts.allow(&policy, now, charged, answered, random) {
            Ok(backoff) => {
                stage.restart_count += 1;
                stage.slots[worker.rank] = Slot::BackingOff { at: now + backoff };
                let id = stage.config.id(worker);
                self.emit(EventKind::WorkerRestarting { worker: id, backoff, reason });
                self.wake(worker.stage, now);
            }
            Err(restarts::UsedUp) => {
                let within = humantime::format_duration(policy.within);
                let reason = format!("{reason}, after {} restarts within {within}", policy.max);
                self.fail_by_worker(worker, None, reason, now, view);
            }
        }
    }

    fn fail_by_worker(
        &mut self,
        worker: Worker,
        exit: Option<Exit>,
        reason: String,
        now: Instant,
        view: &dyn View,
    ) {
        let config = &self.stages[worker.stage].config;
        let failure = Failure {
            stage: config.name.clone(),
            worker: Some(config.worker_name(worker.rank)),
            exit: exit.map(Exit::code),
            reason,
            stderr: view.stderr_tail(worker.stage, worker.rank),
        };
        self.fail(worker.stage, failure, now);
    }

    fn fail(&mut self, stage: usize, failure: Failure, now: Instant) {
        if matches!(self.stages[stage].phase, Phase::Ending(_) | Phase::Over(_)) {
            return;
        }
        let Failure { stage: name, worker, exit, reason, stderr } = failure.clone();
        self.emit(EventKind::StageFailed { stage: name, reason, worker, exit, stderr });
        self.failures.push(failure);
        self.actions.push(Action::AbandonInput { stage, has_failed: true });
        self.end_stage(stage, Outcome::Failed, now);
        if self.stages[stage].config.on_failure == OnFailure::Stop && !self.is_failing {
            self.is_failing = true;
            self.end_all(now);
        }
    }

    /// Ends a stage: its workers are asked to, and none is started any more.
    fn end_stage(&mut self, stage: usize, outcome: Outcome, now: Instant) {
        match self.stages[stage].phase {
            Phase::Over(_) => return,
            Phase::Ending(_) => {}
            Phase::Waiting | Phase::Running => self.stages[stage].phase = Phase::Ending(outcome),
        }
        for rank in 0..self.stages[stage].slots.len() {
            self.ask(stage, rank, Asked::Stop, now);
        }
    }

    fn end_all(&mut self, now: Instant) {
        for stage in 0..self.stages.len() {
            self.end_stage(stage, Outcome::Stopped, now);
        }
    }

    /// Asks the process in a slot to end by its stop signal, with the kill to follow; nothing is started there any
    /// more.
    fn ask(&mut self, stage: usize, rank: usize, asked: Asked, now: Instant) {
        let policy = self.stages[stage].config.stop;
        let kill = self.level == Some(Level::Kill);
        let slot = &mut self.stages[stage].slots[rank];
        let process = match *slot {
            Slot::Vacant | Slot::Done | Slot::Stopping { .. } | Slot::Killed { .. } => return,
            Slot::Draining { process, let_go_at, .. } => {
                *slot = Slot::Draining { process, asked: Some(asked), let_go_at };
                return;
            }
            Slot::BackingOff { .. } => {
                *slot = Slot::Done;
                return;
            }
            Slot::Starting { generation, .. } => {
                *slot = Slot::Starting { generation, asked: Some(asked) };
                return;
            }
            Slot::Running { process } | Slot::Finishing { process, .. } => process,
        };
        let worker = Worker { stage, rank, generation: process.generation };
        *slot = Slot::Stopping { process, asked, kill_at: now + policy.grace };
        let id = self.stages[stage].config.id(worker);
        if kill {
            return self.kill(worker, "the run is killed");
        }
        self.actions.push(Action::Signal { worker, signal: policy.signal });
        // A stopped process gets no other signal until it continues, and this order lets it meet the signal first.
        self.actions.push(Action::Signal { worker, signal: Signal::CONT });
        self.emit(EventKind::WorkerStopping { worker: id, signal: policy.signal.to_string() });
    }

    fn kill(&mut self, worker: Worker, reason: &str) {
        let Some(slot) = self.slot(worker) else { return };
        let Some(process) = slot.process().copied() else { return };
        let asked = slot.asked().unwrap_or(Asked::Stop);
        if matches!(slot, Slot::Draining { .. } | Slot::Killed { .. }) {
            return;
        }
        *slot = Slot::Killed { process, asked };
        self.actions.push(Action::Signal { worker, signal: Signal::KILL });
        let id = self.stages[worker.stage].config.id(worker);
        self.emit(EventKind::WorkerKilled { worker: id, reason: reason.to_owned() });
    }

    fn retire(&mut self, worker: Worker, asked: Asked, now: Instant) {
        let grace = self.stages[worker.stage].config.stop.grace;
        let Some(slot) = self.slot(worker) else { return };
        let Slot::Running { process } = *slot else { return };
        *slot = Slot::Finishing { process, asked, stop_at: Some(now + grace) };
        self.actions.push(Action::CloseInput(worker));
    }

    fn work_done(&mut self, stage: usize) {
        self.stages[stage].work_done = true;
        for rank in 0..self.stages[stage].slots.len() {
            match self.stages[stage].slots[rank] {
                Slot::Running { process } => {
                    let worker = Worker { stage, rank, generation: process.generation };
                    self.actions.push(Action::CloseInput(worker));
                }
                // Nothing is left for it to do.
                Slot::BackingOff { .. } => self.stages[stage].slots[rank] = Slot::Done,
                _ => {}
            }
        }
    }

    /// Its workers' readers are gone: those that write meet SIGPIPE, those that read meet the end; whoever does
    /// neither is asked after the grace period.
    fn unwanted(&mut self, stage: usize, now: Instant) {
        let grace = self.stages[stage].config.stop.grace;
        match self.stages[stage].phase {
            Phase::Waiting => {
                self.stages[stage].phase = Phase::Ending(Outcome::Finished);
                self.actions.push(Action::AbandonInput { stage, has_failed: false });
                return;
            }
            Phase::Running => self.stages[stage].phase = Phase::Ending(Outcome::Finished),
            Phase::Ending(_) | Phase::Over(_) => return,
        }
        self.actions.push(Action::AbandonInput { stage, has_failed: false });
        for rank in 0..self.stages[stage].slots.len() {
            let slot = &mut self.stages[stage].slots[rank];
            match *slot {
                Slot::Running { process } => {
                    *slot = Slot::Finishing { process, asked: Asked::Unwanted, stop_at: Some(now + grace) };
                    let worker = Worker { stage, rank, generation: process.generation };
                    self.actions.push(Action::CloseInput(worker));
                }
                Slot::Starting { .. } | Slot::BackingOff { .. } => {
                    self.ask(stage, rank, Asked::Unwanted, now)
                }
                _ => {}
            }
        }
    }

    fn fault(&mut self, worker: Worker, reason: String) {
        let Some(slot) = self.slot(worker) else { return };
        let (Slot::Running { process } | Slot::Finishing { process, .. }) = *slot else { return };
        *slot = Slot::Killed { process, asked: Asked::Fault };
        self.actions.push(Action::Signal { worker, signal: Signal::KILL });
        let id = self.stages[worker.stage].config.id(worker);
        self.emit(EventKind::WorkerKilled { worker: id, reason });
    }

    fn launcher_lost(&mut self) {
        let reason = "the launcher process was killed, and all workers with it".to_owned();
        let name = "mpflow".to_owned();
        self.failures.push(Failure { stage: name, worker: None, exit: None, reason, stderr: Vec::new() });
        for stage in &mut self.stages {
            stage.slots.fill(Slot::Done);
            if !matches!(stage.phase, Phase::Over(_)) {
                stage.phase = Phase::Over(Outcome::Stopped);
            }
        }
        self.end_run();
    }

    // ---- stopping the run

    fn stop(&mut self, level: Level, now: Instant) {
        if self.level.is_some_and(|current| current >= level) {
            return;
        }
        self.level = Some(level);
        self.emit(EventKind::Stopping { level: level.as_str().to_owned() });
        match level {
            Level::Drain => {
                self.actions.push(Action::CloseSources);
                for stage in 0..self.stages.len() {
                    if self.stages[stage].config.is_source && !self.stages[stage].config.is_daemon {
                        self.end_stage(stage, Outcome::Stopped, now);
                    }
                }
            }
            Level::Terminate => {
                self.actions.push(Action::CloseSources);
                self.end_all(now);
            }
            Level::Kill => {
                self.actions.push(Action::CloseSources);
                self.end_all(now);
                for worker in self.live_workers() {
                    self.kill(worker, "the run is killed");
                }
            }
        }
        self.say_who_is_waited_for();
    }

    fn live_workers(&self) -> Vec<Worker> {
        let workers = self.stages.iter().enumerate().flat_map(|(stage, state)| {
            state.slots.iter().enumerate().filter_map(move |(rank, slot)| {
                slot.process().map(|process| Worker { stage, rank, generation: process.generation })
            })
        });
        workers.collect()
    }

    fn say_who_is_waited_for(&mut self) {
        /// Names shown at most.
        const SHOWN: usize = 5;
        let waited: Vec<String> = self
            .live_workers()
            .into_iter()
            .filter(|worker| !self.stages[worker.stage].config.is_daemon)
            .filter_map(|worker| {
                let stage = &self.stages[worker.stage];
                let pid = stage.slots[worker.rank].process()?.pid;
                Some(format!("`{}` (pid {pid})", stage.config.worker_name(worker.rank)))
            })
            .collect();
        if waited.is_empty() {
            return;
        }
        let more = waited.len().saturating_sub(SHOWN);
        let mut message = format!("waiting for {}", waited[..waited.len().min(SHOWN)].join(", "));
        if more > 0 {
            message.push_str(&format!(" and {more} more"));
        }
        self.emit(EventKind::Notice { message });
    }

    // ---- time

    fn tick(&mut self, now: Instant, view: &dyn View) {
        for stage in 0..self.stages.len() {
            self.wake(stage, now);
            for rank in 0..self.stages[stage].slots.len() {
                self.tick_slot(stage, rank, now, view);
            }
            if self.stages[stage].finish_by.is_some_and(|at| at <= now) {
                self.stages[stage].finish_by = None;
                self.end_stage(stage, Outcome::Finished, now);
            }
            if self.stages[stage].timeout_at().is_some_and(|at| at <= now) {
                let config = &self.stages[stage].config;
                let timeout = humantime::format_duration(config.timeout.unwrap_or_default());
                let reason = format!("it did not finish within its timeout of {timeout}");
                let name = config.name.clone();
                let failure = Failure { stage: name, worker: None, exit: None, reason, stderr: Vec::new() };
                self.fail(stage, failure, now);
            }
        }
    }

    fn tick_slot(&mut self, stage: usize, rank: usize, now: Instant, view: &dyn View) {
        let slot = self.stages[stage].slots[rank];
        let Some(generation) = slot.generation() else { return };
        let worker = Worker { stage, rank, generation };
        match slot {
            Slot::Finishing { asked, stop_at: Some(at), .. } if at <= now => {
                self.ask(stage, rank, asked, now)
            }
            Slot::Stopping { kill_at, .. } if kill_at <= now => {
                let grace = humantime::format_duration(self.stages[stage].config.stop.grace);
                self.kill(worker, &format!("it did not end within its grace period of {grace}"));
            }
            Slot::Draining { process, asked, let_go_at } if let_go_at <= now => {
                self.actions.push(Action::LetGo(worker));
                self.worker_ended(worker, process, asked, now, view);
            }
            _ => {}
        }
    }

    /// Starts again what has waited long enough.
    fn wake(&mut self, stage: usize, now: Instant) {
        for rank in 0..self.stages[stage].slots.len() {
            if matches!(self.stages[stage].slots[rank], Slot::BackingOff { at } if at <= now) {
                if self.stages[stage].config.mode == Mode::Each {
                    self.stages[stage].slots[rank] = Slot::Vacant;
                    self.actions.push(Action::Wake { stage });
                } else {
                    self.start(stage, rank);
                }
            }
        }
    }

    // ---- stages and the run

    /// Moves stages on whose conditions are met, until none moves any more.
    fn advance(&mut self, now: Instant) {
        loop {
            let moved = (0..self.stages.len()).filter(|&stage| self.advance_stage(stage, now)).count();
            if moved == 0 {
                break;
            }
        }
        self.advance_run(now);
    }

    fn advance_stage(&mut self, stage: usize, now: Instant) -> bool {
        match self.stages[stage].phase {
            Phase::Waiting => self.begin_stage(stage, now),
            Phase::Running => {
                if self.stages[stage].is_finished() {
                    self.over(stage, Outcome::Finished);
                    return true;
                }
                self.announce_ready(stage)
            }
            Phase::Ending(outcome) => {
                let is_done = self.stages[stage].slots.iter().all(Slot::is_at_rest);
                if is_done {
                    self.over(stage, outcome);
                }
                is_done
            }
            Phase::Over(_) => false,
        }
    }

    fn announce_ready(&mut self, stage: usize) -> bool {
        let state = &mut self.stages[stage];
        if state.is_ready || !state.has_started() {
            return false;
        }
        state.is_ready = true;
        let name = state.config.name.clone();
        self.emit(EventKind::StageReady { stage: name });
        true
    }

    fn begin_stage(&mut self, stage: usize, now: Instant) -> bool {
        let mut all_met = true;
        for &(other, state) in &self.stages[stage].config.depends_on.clone() {
            let dependency = &self.stages[other];
            match (dependency.phase, state) {
                (Phase::Over(Outcome::Finished), _) => {}
                (Phase::Over(Outcome::Failed) | Phase::Ending(Outcome::Failed), _) => {
                    let name = dependency.config.name.clone();
                    let reason = format!("the stage `{name}` that it depends on has failed");
                    let failed = self.stages[stage].config.name.clone();
                    let failure =
                        Failure { stage: failed, worker: None, exit: None, reason, stderr: Vec::new() };
                    self.fail(stage, failure, now);
                    return true;
                }
                (Phase::Over(Outcome::Stopped) | Phase::Ending(Outcome::Stopped), _) => {
                    self.end_stage(stage, Outcome::Stopped, now);
                    return true;
                }
                (_, DependencyState::Started | DependencyState::Ready) => all_met &= dependency.is_ready,
                (_, DependencyState::Finished) => all_met = false,
            }
        }
        if !all_met {
            return false;
        }
        self.stages[stage].phase = Phase::Running;
        self.stages[stage].began_at = Some(now);
        if self.stages[stage].config.mode != Mode::Each {
            for rank in 0..self.stages[stage].config.pool.min {
                self.start(stage, rank);
            }
        }
        true
    }

    fn over(&mut self, stage: usize, outcome: Outcome) {
        let state = &mut self.stages[stage];
        state.phase = Phase::Over(outcome);
        let name = state.config.name.clone();
        if outcome == Outcome::Finished {
            self.emit(EventKind::StageFinished { stage: name });
        }
        self.actions.push(Action::StageEnded { stage });
    }

    fn advance_run(&mut self, now: Instant) {
        let is_over = |stage: &Stage| matches!(stage.phase, Phase::Over(_));
        if self.stages.iter().all(is_over) {
            return self.end_run();
        }
        let others_are_over = self.stages.iter().all(|stage| stage.config.is_daemon || is_over(stage));
        if others_are_over && !self.daemons_told {
            self.daemons_told = true;
            for stage in 0..self.stages.len() {
                self.end_daemon(stage, now);
            }
            self.advance(now);
        }
    }

    /// One that has inputs may work off what it was given and end by itself; the others have nothing to wait for.
    fn end_daemon(&mut self, stage: usize, now: Instant) {
        if self.stages[stage].phase != Phase::Running || self.stages[stage].config.is_source {
            return self.end_stage(stage, Outcome::Finished, now);
        }
        let grace = self.stages[stage].config.stop.grace.min(self.stop.grace);
        for slot in &mut self.stages[stage].slots {
            if let Slot::Running { process } = *slot {
                *slot = Slot::Finishing { process, asked: Asked::Retire, stop_at: Some(now + grace) };
            }
        }
        self.stages[stage].finish_by = Some(now + grace);
    }

    fn end_run(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.actions.push(Action::RunEnded);
        }
    }
}

/// Killed by SIGPIPE, or a shell whose command was.
fn is_broken_pipe(exit: Exit) -> bool {
    exit == Exit::Signal(Signal::PIPE) || exit == Exit::Code(128 + Signal::PIPE.0)
}

/// What a worker's end looks like in words.
pub(crate) fn describe_end(worker: &str, exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("worker `{worker}` exited with {code}"),
        Exit::Signal(signal) => format!("worker `{worker}` was killed by {signal} ({})", -signal.0),
    }
}
