//! The state of one stage.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::reload::{Begins, TRIAL};
use super::slot::{Process, Slot};
use super::{Restarts, Worker};
use crate::event::WorkerId;
use crate::graph::{Plan, StagePlan};
use crate::model::{
    Body, DependencyState, Exit, Mode, OnFailure, Pool, Restart, StopPolicy, TASK_PREFIX, Usage,
};
use crate::report::Failure;

/// What came of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Finished,
    Failed,
    Stopped,
    /// Another form of it has taken over, or it was removed or never in effect.
    Replaced,
}

/// Where a stage is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// For its dependencies.
    Waiting,
    Running,
    /// Its workers are ended, to be started again together with others.
    Restarting,
    /// Its workers come up; it is not in effect yet. See `reload`.
    Preparing,
    /// Its workers finish, so that those of another can come up.
    StandingBy,
    /// It is in effect no more; its workers finish what they hold.
    Leaving,
    /// It was in effect for a moment, and the one before it is to come back.
    Fallen,
    /// Nothing is started any more; its workers are waited for.
    Ending(Outcome),
    Over(Outcome),
}

/// What of a stage's declaration the supervisor needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) pool: Pool,
    pub(crate) is_daemon: bool,
    pub(crate) is_source: bool,
    pub(crate) stop: StopPolicy,
    pub(crate) restart: Restart,
    pub(crate) on_failure: OnFailure,
    pub(crate) success_exit: Vec<Exit>,
    /// Its workers call a function, which has to be found first.
    pub(crate) is_function: bool,
    /// It is a pool's, whose tasks nobody restarts by hand: a worker's death counts only while no task is done in
    /// between, whatever it was at.
    pub(crate) does_tasks: bool,
    /// Its workers are ready when a probe says so, not when they have started.
    pub(crate) has_probe: bool,
    pub(crate) timeout: Option<Duration>,
    /// Positions of stages.
    pub(crate) depends_on: Vec<(usize, DependencyState)>,
    /// Positions of this stage and of all that it feeds.
    pub(crate) downstream: Vec<usize>,
}

impl Config {
    pub(crate) fn new(planned: &StagePlan, plan: &Plan) -> Self {
        let stage = &planned.stage;
        let position = plan.stage_position(&stage.name);
        let reads_pipe = plan.pipes.iter().any(|pipe| !pipe.duplex && Some(pipe.to) == position);
        let depends_on = stage
            .depends_on
            .iter()
            .filter_map(|other| Some((plan.stage_position(&other.stage)?, other.state)))
            .collect();
        Self {
            name: stage.name.clone(),
            mode: stage.mode,
            pool: stage.pool,
            is_daemon: stage.daemon,
            is_source: planned.is_source() && !reads_pipe,
            stop: stage.stop,
            restart: stage.restart,
            on_failure: stage.on_failure,
            success_exit: stage.success_exit.clone(),
            is_function: !matches!(stage.body, Body::Command(_)),
            does_tasks: matches!(&stage.body, Body::Function(name) if name.starts_with(TASK_PREFIX)),
            has_probe: stage.ready.is_some(),
            timeout: stage.timeout,
            depends_on,
            downstream: position.map(|position| downstream(plan, position)).unwrap_or_default(),
        }
    }

    /// The same in a run that knows the stages of its plan by these positions.
    pub(crate) fn remapped(mut self, stages: &[usize]) -> Self {
        self.depends_on.iter_mut().for_each(|(stage, _)| *stage = stages[*stage]);
        self.downstream.iter_mut().for_each(|stage| *stage = stages[*stage]);
        self
    }

    /// Whether it begins before the stages that run commands, so that its functions are found before records flow.
    pub(crate) fn is_first(&self) -> bool {
        self.is_function && self.depends_on.is_empty()
    }

    pub(crate) fn worker_name(&self, rank: usize) -> String {
        if self.pool.max == 1 { self.name.clone() } else { format!("{}/{rank}", self.name) }
    }

    pub(crate) fn id(&self, worker: Worker) -> WorkerId {
        WorkerId {
            stage: self.name.clone(),
            worker: self.worker_name(worker.rank),
            rank: worker.rank,
            generation: worker.generation,
        }
    }
}

/// One stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) config: Config,
    pub(crate) phase: Phase,
    pub(crate) slots: Vec<Slot>,
    /// By rank: the launcher may start a process that takes the place of the one that is there, or has.
    pub(crate) successors: Vec<bool>,
    /// By rank: the processes that there have been.
    pub(crate) generations: Vec<u64>,
    pub(crate) restarts: Restarts,
    /// The machine was short of something for a start: until when it is waited for.
    pub(crate) shortage_until: Option<Instant>,
    /// The machine was short of something for one worker more: until when the pool stays as it is.
    pub(crate) grows_from: Option<Instant>,
    /// All that ever came to it is answered (leased stages).
    pub(crate) work_done: bool,
    /// All its workers have started.
    pub(crate) is_started: bool,
    /// All its workers are ready. A probe can take that back.
    pub(crate) is_ready: bool,
    /// By rank: whether the worker is ready.
    pub(crate) ready: Vec<bool>,
    /// By rank: whether a worker has found its function.
    pub(crate) loaded: Vec<bool>,
    /// A daemon: when it must have worked off what it was given.
    pub(crate) finish_by: Option<Instant>,
    /// When its workers are started, of a stage that is being prepared.
    pub(crate) begins: Begins,
    /// A failure before this takes it back.
    pub(crate) trial_until: Option<Instant>,
    /// Why it has fallen.
    pub(crate) fallen: Option<Box<Failure>>,
    /// Of one that leaves: when its workers are asked by a signal.
    pub(crate) leave_by: Option<Instant>,
    pub(crate) began_at: Option<Instant>,
    pub(crate) ended_at: Option<Instant>,
    /// Nobody wanted what it made, and its workers did not end by that: they were sent their stop signal. Those who
    /// depend on it need not care.
    pub(crate) was_made_to_end: bool,
    started: Vec<bool>,
    pub(crate) start_count: u64,
    pub(crate) restart_count: u64,
    pub(crate) most_live: usize,
    pub(crate) cpu: Duration,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) exits: BTreeMap<i32, u64>,
}

impl Stage {
    pub(crate) fn new(config: Config) -> Self {
        let width = config.pool.max;
        Self {
            config,
            phase: Phase::Waiting,
            slots: vec![Slot::Vacant; width],
            successors: vec![false; width],
            generations: vec![0; width],
            restarts: Restarts::default(),
            shortage_until: None,
            grows_from: None,
            work_done: false,
            is_started: false,
            is_ready: false,
            ready: vec![false; width],
            loaded: vec![false; width],
            finish_by: None,
            begins: Begins::Now,
            trial_until: None,
            fallen: None,
            leave_by: None,
            began_at: None,
            ended_at: None,
            was_made_to_end: false,
            started: vec![false; width],
            start_count: 0,
            restart_count: 0,
            most_live: 0,
            cpu: Duration::ZERO,
            peak_memory_bytes: 0,
            exits: BTreeMap::new(),
        }
    }

    /// Gives it another pool. Places of a pool that was wider stay, for the processes that are in them.
    pub(super) fn resize(&mut self, pool: Pool) {
        self.config.pool = pool;
        let width = self.slots.len().max(pool.max);
        self.slots.resize(width, Slot::Vacant);
        self.generations.resize(width, 0);
        for by_rank in [&mut self.ready, &mut self.loaded, &mut self.started, &mut self.successors] {
            by_rank.resize(width, false);
        }
    }

    /// Processes that are here or on their way.
    pub(crate) fn live(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_live()).count()
    }

    /// The process in a slot.
    pub(crate) fn process(&self, rank: usize) -> Option<&Process> {
        self.slots[rank].process()
    }

    /// What is going on in a slot, and why, where that is worth a word.
    pub(crate) fn slot_state(&self, rank: usize, now: Instant) -> (&'static str, Option<String>) {
        let slot = &self.slots[rank];
        let reason = match slot {
            Slot::BackingOff { at } => {
                let left = at.saturating_duration_since(now).as_millis();
                Some(format!("it is started again in {left} ms"))
            }
            Slot::Vacant
            | Slot::Starting { .. }
            | Slot::Running { .. }
            | Slot::Finishing { .. }
            | Slot::Stopping { .. }
            | Slot::Killed { .. }
            | Slot::Draining { .. }
            | Slot::Done => slot.asked().map(|asked| asked.why().to_owned()),
        };
        (slot.state(), reason)
    }

    /// Whether a process is in this slot, or on its way, and nobody has asked it to end.
    pub(crate) fn stays(&self, rank: usize) -> bool {
        self.slots[rank].is_live() && self.slots[rank].asked().is_none()
    }

    /// Whether a process may be started in this slot for a record: not while the launcher may start one by itself.
    pub(crate) fn is_free(&self, rank: usize) -> bool {
        matches!(self.phase, Phase::Running | Phase::Leaving)
            && self.slots[rank] == Slot::Vacant
            && !self.successors[rank]
            && rank < self.config.pool.max
    }

    /// Whether a process is at work in this slot that was not asked to end.
    pub(crate) fn is_at_work(&self, rank: usize) -> bool {
        self.phase == Phase::Running
            && rank < self.config.pool.max
            && match self.slots[rank] {
                Slot::Starting { asked, .. } => asked.is_none(),
                Slot::Running { process } => process.exit.is_none(),
                _ => false,
            }
    }

    /// Whether nothing is in this slot and nothing is to be started there.
    pub(crate) fn is_slot_at_rest(&self, rank: usize) -> bool {
        self.slots[rank].is_at_rest()
    }

    /// Whether a process is on its way, or waits to be started again.
    pub(crate) fn may_start_more(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Starting { .. } | Slot::BackingOff { .. }))
    }

    /// Whether no process will be in this slot any more.
    pub(crate) fn is_slot_done(&self, rank: usize) -> bool {
        self.slots[rank] == Slot::Done || rank >= self.config.pool.max
    }

    pub(crate) fn count_start(&mut self, rank: usize, now: Instant) {
        self.started[rank] = true;
        self.ready[rank] = !self.config.has_probe && !self.config.is_function;
        self.start_count += 1;
        self.most_live = self.most_live.max(self.live());
        self.began_at.get_or_insert(now);
    }

    pub(crate) fn count_exit(&mut self, exit: Exit, usage: Usage) {
        self.cpu += usage.cpu;
        self.peak_memory_bytes = self.peak_memory_bytes.max(usage.peak_memory_bytes);
        *self.exits.entry(exit.code()).or_default() += 1;
    }

    /// Its workers are all started anew: none has started yet.
    pub(crate) fn forget_starts(&mut self) {
        self.started.fill(false);
    }

    /// Whether each worker of the pool, at its least width, has started once.
    pub(crate) fn has_started(&self) -> bool {
        self.config.mode == Mode::Each
            || self.started.iter().filter(|&&started| started).count() >= self.config.pool.min
    }

    /// Whether each worker of the pool, at its least width, has found its function.
    pub(crate) fn has_loaded(&self) -> bool {
        self.loaded.iter().filter(|&&loaded| loaded).count() >= self.config.pool.min
    }

    /// Whether the pool, at its least width, is ready.
    pub(crate) fn has_become_ready(&self) -> bool {
        let ready = self.ready.iter().filter(|&&ready| ready).count();
        self.has_started() && (self.config.mode == Mode::Each || ready >= self.config.pool.min)
    }

    /// Whether a running stage has done its work.
    pub(crate) fn is_finished(&self) -> bool {
        match self.config.mode {
            Mode::Stream => self.is_at_rest(),
            Mode::Map | Mode::Each => self.is_at_rest() && self.work_done,
        }
    }

    /// When it has taken too long.
    pub(crate) fn timeout_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running | Phase::Restarting => Some(self.began_at? + self.config.timeout?),
            Phase::Waiting
            | Phase::Preparing
            | Phase::StandingBy
            | Phase::Leaving
            | Phase::Fallen
            | Phase::Ending(_)
            | Phase::Over(_) => None,
        }
    }

    /// Whether a failure takes back the reload that has brought it.
    pub(crate) fn is_on_trial(&self, now: Instant) -> bool {
        self.trial_until.is_some_and(|until| now < until)
    }

    /// Why it has fallen, and what it waits for.
    pub(crate) fn why_fallen(&self) -> String {
        let reason = self.fallen.as_ref().map_or("it failed", |failure| &failure.reason);
        format!("{reason}; its records wait for the next reload")
    }

    /// A worker is started again at this time. One of a stage on trial has its first moment before it once more: the
    /// trial lasts as long as its workers fall over in theirs.
    pub(super) fn is_tried_again(&mut self, now: Instant, at: Instant) {
        if self.is_on_trial(now) {
            self.trial_until = Some(at + TRIAL);
        }
    }

    /// When those of its workers that have not finished what they hold are asked to end.
    pub(crate) fn leaves_by(&self) -> Option<Instant> {
        self.leave_by.filter(|_| self.phase == Phase::Leaving)
    }

    /// Whether workers are started in it, and started again.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Preparing | Phase::Leaving)
    }

    /// Whether no process is here and none will come by itself.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.slots.iter().all(Slot::is_at_rest) && !self.successors.contains(&true)
    }
}

/// A stage and all that it feeds, by queues and pipes.
fn downstream(plan: &Plan, stage: usize) -> Vec<usize> {
    let mut reached = vec![stage];
    let mut next = 0;
    while let Some(&from) = reached.get(next) {
        next += 1;
        let by_queue = plan.queues.iter().filter(|queue| queue.from.is_some_and(|port| port.stage == from));
        let by_pipe = plan.pipes.iter().filter(|pipe| pipe.from == from).map(|pipe| pipe.to);
        for to in by_queue.filter_map(|queue| Some(queue.to?.stage)).chain(by_pipe) {
            if !reached.contains(&to) {
                reached.push(to);
            }
        }
    }
    reached
}
