//! Deadlines that have come.

use std::time::Instant;

use super::{Action, Asked, Outcome, Slot, Supervisor, View, Worker};
use crate::model::Mode;
use crate::report::Failure;

impl Supervisor {
    pub(super) fn tick(&mut self, now: Instant, view: &dyn View) {
        for stage in 0..self.stages.len() {
            for rank in 0..self.stages[stage].slots.len() {
                self.tick_slot(stage, rank, now, view);
            }
            if self.stages[stage].finish_by.is_some_and(|at| at <= now) {
                self.stages[stage].finish_by = None;
                self.end_stage(stage, Outcome::Finished, now);
            }
            if self.stages[stage].leaves_by().is_some_and(|at| at <= now) {
                self.end_stage(stage, Outcome::Replaced, now);
            }
            if self.stages[stage].timeout_at().is_some_and(|at| at <= now) {
                let config = &self.stages[stage].config;
                let timeout = humantime::format_duration(config.timeout.unwrap_or_default());
                let reason = format!("it did not finish within its timeout of {timeout}");
                let name = config.name.clone();
                let failure = Failure::of_stage(name, reason);
                self.fail(stage, failure, now);
            }
        }
        // Last, so that nothing is started in a stage that has just been ended.
        for stage in 0..self.stages.len() {
            self.wake(stage, now);
        }
    }

    pub(super) fn tick_slot(&mut self, stage: usize, rank: usize, now: Instant, view: &dyn View) {
        let slot = self.stages[stage].slots[rank];
        let Some(generation) = slot.generation() else { return };
        let worker = Worker { stage, rank, generation };
        match slot {
            Slot::Finishing { asked, stop_at: Some(at), .. } if at <= now => {
                self.stages[stage].was_made_to_end |= asked == Asked::Unwanted;
                self.ask(stage, rank, asked, now);
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
    pub(super) fn wake(&mut self, stage: usize, now: Instant) {
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
}
