//! Stages that begin and end, and with them the run.

use std::time::Instant;

use super::{Action, Asked, Outcome, Phase, Slot, Stage, Supervisor, Worker};
use crate::event::EventKind;
use crate::model::{DependencyState, Mode};
use crate::report::Failure;

impl Supervisor {
    /// Moves stages on whose conditions are met, until none moves any more.
    pub(super) fn advance(&mut self, now: Instant) {
        self.restart_groups(now);
        loop {
            let moved = (0..self.stages.len()).filter(|&stage| self.advance_stage(stage, now)).count();
            if moved == 0 && !self.let_flow() {
                break;
            }
        }
        self.advance_steering(now);
        self.advance_run(now);
    }

    pub(super) fn advance_stage(&mut self, stage: usize, now: Instant) -> bool {
        match self.stages[stage].phase {
            Phase::Waiting => self.begin_stage(stage, now),
            Phase::Running => {
                if self.stages[stage].is_finished() {
                    self.over(stage, Outcome::Finished);
                    return true;
                }
                self.announce_ready(stage)
            }
            // With its group.
            Phase::Restarting => false,
            // By whoever reloads.
            Phase::Preparing | Phase::StandingBy | Phase::Fallen => false,
            Phase::Leaving => {
                let has_left = self.stages[stage].is_at_rest() && self.stages[stage].work_done;
                if has_left {
                    self.over(stage, Outcome::Replaced);
                }
                has_left
            }
            Phase::Ending(outcome) => {
                let is_done = self.stages[stage].is_at_rest();
                if is_done {
                    self.over(stage, outcome);
                }
                is_done
            }
            Phase::Over(_) => false,
        }
    }

    pub(super) fn announce_ready(&mut self, stage: usize) -> bool {
        let state = &mut self.stages[stage];
        let before = (state.is_started, state.is_ready);
        state.is_started |= state.has_started();
        // Once ready, only a probe takes it back: a worker that is restarted without one is not waited for again.
        let is_ready = state.has_become_ready() || (state.is_ready && !state.config.has_probe);
        let became_ready = is_ready && !state.is_ready;
        state.is_ready = is_ready;
        let moved = before != (state.is_started, state.is_ready);
        if became_ready {
            let name = state.config.name.clone();
            self.emit(EventKind::StageReady { stage: name });
        }
        moved
    }

    /// Functions are found before anything else begins: a pipeline that calls what is not there moves no record.
    /// Returns whether that is so since now.
    fn let_flow(&mut self) -> bool {
        let is_found = |stage: &Stage| {
            !stage.config.is_first()
                || stage.has_loaded()
                || !matches!(stage.phase, Phase::Waiting | Phase::Running)
        };
        let flows = !self.flows && self.stages.iter().all(is_found);
        if flows {
            self.flows = true;
            self.actions.push(Action::LetFlow);
        }
        flows
    }

    pub(super) fn loaded(&mut self, worker: Worker) {
        if self.process(worker).is_none() {
            return;
        }
        let stage = &mut self.stages[worker.stage];
        stage.loaded[worker.rank] = true;
        if !stage.config.has_probe {
            stage.ready[worker.rank] = true;
        }
    }

    pub(super) fn begin_stage(&mut self, stage: usize, now: Instant) -> bool {
        let mut all_met = self.flows || self.stages[stage].config.is_first();
        for &(other, state) in &self.stages[stage].config.depends_on.clone() {
            let dependency = &self.stages[other];
            match (dependency.phase, state) {
                // One that was removed leaves nobody waiting for it.
                (Phase::Over(Outcome::Finished | Outcome::Replaced), _) => {}
                (Phase::Over(Outcome::Failed) | Phase::Ending(Outcome::Failed), _) => {
                    let name = dependency.config.name.clone();
                    let reason = format!("the stage `{name}` that it depends on has failed");
                    let failed = self.stages[stage].config.name.clone();
                    let failure = Failure::of_stage(failed, reason);
                    self.fail(stage, failure, now);
                    return true;
                }
                (Phase::Over(Outcome::Stopped) | Phase::Ending(Outcome::Stopped), _) => {
                    self.end_stage(stage, Outcome::Stopped, now);
                    return true;
                }
                (_, DependencyState::Started) => all_met &= dependency.is_started,
                (_, DependencyState::Ready) => all_met &= dependency.is_ready,
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
        } else {
            // Records may have come while it waited, and none may come after.
            self.actions.push(Action::Wake { stage });
        }
        true
    }

    pub(super) fn over(&mut self, stage: usize, outcome: Outcome) {
        let state = &mut self.stages[stage];
        state.phase = Phase::Over(outcome);
        let name = state.config.name.clone();
        if outcome == Outcome::Finished {
            self.emit(EventKind::StageFinished { stage: name });
        }
        self.actions.push(Action::StageEnded { stage });
    }

    pub(super) fn advance_run(&mut self, now: Instant) {
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
    pub(super) fn end_daemon(&mut self, stage: usize, now: Instant) {
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

    pub(super) fn end_run(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.actions.push(Action::RunEnded);
        }
    }
}
