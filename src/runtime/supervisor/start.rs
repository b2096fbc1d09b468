//! Processes that come.

use std::time::{Duration, Instant};

use super::restarts;
use super::{Action, Asked, Phase, Process, Slot, Supervisor, View, Worker};
use crate::event::EventKind;
use crate::model::{Mode, RestartScope};

/// A machine that is short of something is not asked again sooner, however short the backoff is.
const LEAST_SHORTAGE: Duration = Duration::from_millis(50);

impl Supervisor {
    pub(super) fn start(&mut self, stage: usize, rank: usize) {
        let state = &mut self.stages[stage];
        state.generations[rank] += 1;
        let generation = state.generations[rank];
        state.slots[rank] = Slot::Starting { generation, asked: None };
        state.ready[rank] = false;
        self.actions.push(Action::Start(Worker { stage, rank, generation }));
    }

    /// The launcher has started the next process of a slot by itself. If meanwhile none is wanted there any more, it
    /// is asked to end as one that was on its way.
    pub(super) fn succeed(&mut self, stage: usize, rank: usize) {
        if !self.stages[stage].slots[rank].is_at_rest() || !self.stages[stage].successors[rank] {
            return;
        }
        self.stages[stage].successors[rank] = false;
        self.start(stage, rank);
        if self.stages[stage].phase != Phase::Running {
            let generation = self.stages[stage].generations[rank];
            self.stages[stage].slots[rank] = Slot::Starting { generation, asked: Some(Asked::Stop) };
        }
    }

    pub(super) fn started(&mut self, worker: Worker, pid: i32, now: Instant) {
        let Some(slot) = self.slot(worker) else { return };
        let Slot::Starting { asked, .. } = *slot else { return };
        let process = Process { generation: worker.generation, pid, exit: None, outputs_ended: false };
        *slot = Slot::Running { process };
        let stage = &mut self.stages[worker.stage];
        stage.count_start(worker.rank, now);
        let (id, is_source) = (stage.config.id(worker), stage.config.is_source);
        self.emit(EventKind::WorkerStarted { worker: id, pid });
        match asked {
            // As one that ran already: it learns it when it writes, and that is no failure and no stop.
            Some(asked @ Asked::Unwanted) => self.finish_slot(worker, asked, now),
            // It may be given records before a signal meets it, and is to finish them.
            Some(asked @ (Asked::Retire | Asked::Replace | Asked::Leave)) if !is_source => {
                self.finish_slot(worker, asked, now);
            }
            Some(asked) => self.ask(worker.stage, worker.rank, asked, now),
            None => {}
        }
    }

    pub(super) fn start_failed(
        &mut self,
        worker: Worker,
        error: String,
        is_passing: bool,
        now: Instant,
        view: &dyn View,
    ) {
        let Some(slot) = self.slot(worker) else { return };
        let asked = slot.asked();
        // A pool that shrank may grow again.
        *slot = if asked == Some(Asked::Retire) { Slot::Vacant } else { Slot::Done };
        let config = &self.stages[worker.stage].config;
        let (id, name) = (config.id(worker), config.worker_name(worker.rank));
        self.emit(EventKind::WorkerStartFailed { worker: id, error: error.clone() });
        if asked.is_some() || !self.stages[worker.stage].is_active() {
            return;
        }
        let reason = format!("cannot start worker `{name}`: {error}");
        if self.stages[worker.stage].config.mode == Mode::Each {
            // Its record is judged, or given back, by the loop.
            let wait = self.stages[worker.stage].config.restart.backoff.initial.max(LEAST_SHORTAGE);
            self.stages[worker.stage].slots[worker.rank] =
                if is_passing { Slot::BackingOff { at: now + wait } } else { Slot::Vacant };
            return;
        }
        if is_passing {
            self.wait_for_machine(worker, reason, now, view);
        } else {
            self.fail_by_worker(worker, None, reason, now, view);
        }
    }

    /// The machine is short of something that a worker needs. That is the machine's affair: no other worker is touched,
    /// whatever the scope of restarts, and all that are refused in one such time count as one restart.
    fn wait_for_machine(&mut self, worker: Worker, reason: String, now: Instant, view: &dyn View) {
        let stage = &mut self.stages[worker.stage];
        let policy = stage.config.restart;
        if stage.config.pool.is_elastic() && stage.live() >= stage.config.pool.min {
            // The pool only wanted to grow, and goes on as it is.
            stage.slots[worker.rank] = Slot::Vacant;
            stage.grows_from = Some(now + policy.backoff.max.max(LEAST_SHORTAGE));
            return;
        }
        let at = match stage.shortage_until.filter(|&until| until > now) {
            Some(until) => until,
            None => {
                let (random, answered) = (self.random.f64(), view.answered(worker.stage));
                let charged = stage.config.does_tasks.then_some(answered);
                let Ok(wait) = stage.restarts.allow(&policy, 1, now, charged, answered, random) else {
                    return self.fail_used_up(worker, reason, now, view);
                };
                now + wait.max(LEAST_SHORTAGE)
            }
        };
        stage.shortage_until = Some(at);
        stage.is_tried_again(now, at);
        stage.restart_count += 1;
        let id = stage.config.id(worker);
        stage.slots[worker.rank] = Slot::BackingOff { at };
        self.emit(EventKind::WorkerRestarting { worker: id, backoff: at - now, reason });
    }

    pub(super) fn grow(&mut self, stage: usize, now: Instant) {
        let state = &self.stages[stage];
        let may_grow = state.grows_from.is_none_or(|from| from <= now);
        if state.phase != Phase::Running || !may_grow || state.config.pool.max <= state.live() {
            return;
        }
        let is_free = |&rank: &usize| state.slots[rank] == Slot::Vacant && !state.successors[rank];
        if let Some(rank) = (0..state.config.pool.max).find(is_free) {
            self.start(stage, rank);
        }
    }

    pub(super) fn restart(
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
        let width = stage.config.pool.max;
        match stage.restarts.allow(&policy, width, now, charged, answered, random) {
            Ok(backoff) => {
                stage.restart_count += 1;
                stage.is_tried_again(now, now + backoff);
                let id = stage.config.id(worker);
                let is_alone = stage.phase != Phase::Running;
                let group = match policy.scope {
                    _ if is_alone => Vec::new(),
                    RestartScope::Worker => Vec::new(),
                    RestartScope::Stage => vec![worker.stage],
                    RestartScope::Downstream => stage.config.downstream.clone(),
                    RestartScope::Pipeline => (0..self.stages.len()).collect(),
                };
                self.emit(EventKind::WorkerRestarting { worker: id, backoff, reason });
                if group.is_empty() {
                    self.stages[worker.stage].slots[worker.rank] = Slot::BackingOff { at: now + backoff };
                    self.wake(worker.stage, now);
                } else {
                    self.restart_together(group, now + backoff, now);
                }
            }
            Err(restarts::UsedUp) => self.fail_used_up(worker, reason, now, view),
        }
    }

    fn fail_used_up(&mut self, worker: Worker, reason: String, now: Instant, view: &dyn View) {
        let policy = &self.stages[worker.stage].config.restart;
        let within = humantime::format_duration(policy.within);
        let reason = format!("{reason}, after {} restarts within {within}", policy.max);
        self.fail_by_worker(worker, None, reason, now, view);
    }
}
