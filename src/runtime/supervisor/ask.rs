//! Processes that are asked to end, or made to.

use std::time::Instant;

use super::{Action, Asked, Level, Outcome, Phase, Slot, Supervisor, Worker};
use crate::event::EventKind;
use crate::model::Signal;
use crate::report::Failure;

impl Supervisor {
    /// Asks the process in a slot to end by its stop signal, with the kill to follow; nothing is started there any
    /// more.
    pub(super) fn ask(&mut self, stage: usize, rank: usize, asked: Asked, now: Instant) {
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

    pub(super) fn kill(&mut self, worker: Worker, reason: &str) {
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

    pub(super) fn retire(&mut self, worker: Worker, asked: Asked, now: Instant) {
        let grace = self.stages[worker.stage].config.stop.grace;
        let Some(slot) = self.slot(worker) else { return };
        let Slot::Running { process } = *slot else { return };
        // One that is not needed seems idle; if it is at a long record in truth, it may take its time, as at the end of
        // any input. One that is to be replaced holds nothing.
        let stop_at = (asked == Asked::Replace).then(|| now + grace);
        *slot = Slot::Finishing { process, asked, stop_at };
        self.actions.push(Action::CloseInput(worker));
    }

    pub(super) fn work_done(&mut self, stage: usize, now: Instant) {
        self.stages[stage].work_done = true;
        if self.stages[stage].phase == Phase::Leaving {
            return self.dismiss(stage, now);
        }
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
    pub(super) fn unwanted(&mut self, stage: usize, now: Instant) {
        match self.stages[stage].phase {
            Phase::Waiting => {
                self.stages[stage].phase = Phase::Ending(Outcome::Finished);
                self.actions.push(Action::AbandonInput { stage, has_failed: false });
                return;
            }
            Phase::Running | Phase::Restarting | Phase::StandingBy => {
                self.stages[stage].phase = Phase::Ending(Outcome::Finished);
            }
            Phase::Preparing | Phase::Leaving | Phase::Fallen | Phase::Ending(_) | Phase::Over(_) => return,
        }
        self.actions.push(Action::AbandonInput { stage, has_failed: false });
        for rank in 0..self.stages[stage].slots.len() {
            match self.stages[stage].slots[rank] {
                Slot::Running { process } => {
                    let worker = Worker { stage, rank, generation: process.generation };
                    self.finish_slot(worker, Asked::Unwanted, now);
                }
                Slot::Starting { .. } | Slot::BackingOff { .. } => {
                    self.ask(stage, rank, Asked::Unwanted, now)
                }
                _ => {}
            }
        }
    }

    /// Lets a worker end by itself, by the end of its input or of its readers; it is asked after the grace period.
    pub(super) fn finish_slot(&mut self, worker: Worker, asked: Asked, now: Instant) {
        let grace = self.stages[worker.stage].config.stop.grace;
        let Some(slot) = self.slot(worker) else { return };
        let Slot::Running { process } = *slot else { return };
        *slot = Slot::Finishing { process, asked, stop_at: Some(now + grace) };
        self.actions.push(Action::CloseInput(worker));
    }

    pub(super) fn fault(&mut self, worker: Worker, reason: String) {
        let Some(slot) = self.slot(worker) else { return };
        let (Slot::Running { process } | Slot::Finishing { process, .. }) = *slot else { return };
        *slot = Slot::Killed { process, asked: Asked::Fault };
        self.actions.push(Action::Signal { worker, signal: Signal::KILL });
        let id = self.stages[worker.stage].config.id(worker);
        self.emit(EventKind::WorkerKilled { worker: id, reason });
    }

    pub(super) fn launcher_lost(&mut self) {
        let reason = "the launcher process was killed, and all workers with it".to_owned();
        self.emit(EventKind::LauncherLost { reason: reason.clone() });
        self.failures.push(Failure::of_run(reason));
        for stage in &mut self.stages {
            stage.slots.fill(Slot::Done);
            stage.successors.fill(false);
            if !matches!(stage.phase, Phase::Over(_)) {
                stage.phase = Phase::Over(Outcome::Stopped);
            }
        }
        self.end_run();
    }
}
