//! Processes that come.

use std::time::Instant;

use super::restarts;
use super::{Action, Asked, Phase, Process, Slot, Supervisor, View, Worker};
use crate::event::EventKind;
use crate::model::{Mode, RestartScope};

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
        let id = stage.config.id(worker);
        self.emit(EventKind::WorkerStarted { worker: id, pid });
        if let Some(asked) = asked {
            self.ask(worker.stage, worker.rank, asked, now);
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

    pub(super) fn grow(&mut self, stage: usize) {
        let state = &self.stages[stage];
        if state.phase != Phase::Running || state.config.pool.max <= state.live() {
            return;
        }
        let is_free = |&rank: &usize| state.slots[rank] == Slot::Vacant && !state.successors[rank];
        if let Some(rank) = (0..state.slots.len()).find(is_free) {
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
        match stage.restarts.allow(&policy, now, charged, answered, random) {
            Ok(backoff) => {
                stage.restart_count += 1;
                let id = stage.config.id(worker);
                let group = match policy.scope {
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
            Err(restarts::UsedUp) => {
                let within = humantime::format_duration(policy.within);
                let reason = format!("{reason}, after {} restarts within {within}", policy.max);
                self.fail_by_worker(worker, None, reason, now, view);
            }
        }
    }
}
