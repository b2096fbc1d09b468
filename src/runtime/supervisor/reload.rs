//! Stages that others take the place of.
//!
//! | phase | what it is |
//! |---|---|
//! | preparing | its workers come up beside those of the stage that it is to replace; nothing flows |
//! | standing by | of an `exclusive` stage: its workers have finished, so that those of its successor can come up |
//! | leaving | its successor is in effect; its workers finish what they hold |
//! | fallen | it failed on trial: whoever was before it comes back, or it rests until another takes its place |

use std::time::{Duration, Instant};

use super::scope::Group;
use super::stage::{Config, Stage};
use super::{Action, Asked, Outcome, Phase, Slot, Supervisor, Worker};
use crate::model::{Mode, StopPolicy};
use crate::report::Failure;

/// A stage that fails so soon after a reload gives its place back to the one before it (the language, section 8). Each
/// worker that is started again meanwhile has as much time.
pub(crate) const TRIAL: Duration = Duration::from_secs(1);

/// When the workers of a new stage are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    /// At once.
    Now,
    /// When those before it have finished: see [`super::Input::BeginPrepared`].
    WhenToldTo,
    /// When it is in effect and what it depends on is there.
    InEffect,
}

/// A reload that takes effect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Commit {
    /// What the stages are from now on, by their positions.
    pub(crate) configs: Vec<(usize, Config)>,
    /// Those that are new among them.
    pub(crate) added: Vec<usize>,
    /// Those that are in effect no more.
    pub(crate) leaving: Vec<usize>,
    pub(crate) stop: StopPolicy,
}

impl Supervisor {
    /// New stages, at the end of all. None is in effect.
    pub(super) fn prepare(&mut self, stages: Vec<(Config, bool)>) {
        let first = self.stages.len();
        for (config, is_exclusive) in stages {
            let is_met = |&(other, state): &(usize, crate::model::DependencyState)| {
                other < first && self.is_met(other, state)
            };
            let begins = match config.depends_on.iter().all(is_met) {
                false => Begins::InEffect,
                true if is_exclusive => Begins::WhenToldTo,
                true => Begins::Now,
            };
            let mut stage = Stage::new(config);
            stage.phase = Phase::Preparing;
            stage.begins = begins;
            self.stages.push(stage);
            if begins == Begins::Now {
                self.start_pool(self.stages.len() - 1);
            }
        }
    }

    fn is_met(&self, other: usize, state: crate::model::DependencyState) -> bool {
        use crate::model::DependencyState::{Finished, Ready, Started};
        let other = &self.stages[other];
        match state {
            _ if other.phase == Phase::Over(Outcome::Finished) => true,
            Started => other.is_started,
            Ready => other.is_ready,
            Finished => false,
        }
    }

    fn start_pool(&mut self, stage: usize) {
        if self.stages[stage].config.mode != Mode::Each {
            for rank in 0..self.stages[stage].config.pool.min {
                self.start(stage, rank);
            }
        }
    }

    /// Whether all that can come up of this new stage before it is in effect has.
    pub(crate) fn is_prepared(&self, stage: usize) -> bool {
        let stage = &self.stages[stage];
        match stage.begins {
            Begins::Now => stage.has_become_ready(),
            Begins::WhenToldTo | Begins::InEffect => true,
        }
    }

    /// The workers of these stages finish, so that others can have what only one may have.
    pub(super) fn stand_by(&mut self, stages: &[usize], now: Instant) {
        for &stage in stages {
            if matches!(self.stages[stage].phase, Phase::Waiting | Phase::Running | Phase::Restarting) {
                self.stages[stage].phase = Phase::StandingBy;
                self.dismiss(stage, now);
            }
        }
    }

    /// The other forms that this stage has had, or may have.
    fn other_forms(&self, stage: usize) -> impl Iterator<Item = usize> + '_ {
        let name = &self.stages[stage].config.name;
        (0..self.stages.len()).filter(move |&of| of != stage && self.stages[of].config.name == *name)
    }

    /// Whether no other form of this stage has a worker, or will have one by itself: neither the one that it replaces nor
    /// one that was to replace that before.
    pub(crate) fn is_alone(&self, stage: usize) -> bool {
        self.other_forms(stage).all(|other| self.stages[other].is_at_rest())
    }

    /// New stages that were to wait for others come up.
    pub(super) fn begin_prepared(&mut self, stages: &[usize]) {
        for &stage in stages {
            if self.stages[stage].begins == Begins::WhenToldTo {
                self.stages[stage].begins = Begins::Now;
                self.start_pool(stage);
            }
        }
    }

    /// The new stages are not to be: whoever stood by for them comes back.
    pub(super) fn withdraw(&mut self, stages: &[usize], now: Instant) {
        for &stage in stages {
            if self.stages[stage].phase == Phase::Preparing {
                self.end_stage(stage, Outcome::Replaced, now);
            }
        }
        for stage in 0..self.stages.len() {
            if self.stages[stage].phase == Phase::StandingBy {
                self.stages[stage].phase = Phase::Restarting;
                // It stood by since only one of them may be there, and what came up in its place may be there still.
                let first = self.other_forms(stage).collect();
                self.groups.push(Group::of(stage, first, now));
            }
        }
    }

    /// Nobody takes the place of stages that have fallen: they have failed.
    pub(super) fn give_up_fallen(&mut self, now: Instant) {
        for stage in 0..self.stages.len() {
            if let Some(failure) = self.stages[stage].fallen.take() {
                self.stages[stage].trial_until = None;
                self.stages[stage].phase = Phase::Running;
                self.fail(stage, *failure, now);
            }
        }
    }

    pub(super) fn commit(&mut self, commit: Commit, now: Instant) {
        self.stop = commit.stop;
        for (stage, config) in commit.configs {
            // A pool that is resized is told so by itself.
            let pool = self.stages[stage].config.pool;
            self.stages[stage].config = Config { pool, ..config };
        }
        for stage in commit.added {
            self.in_effect(stage, now);
        }
        for stage in commit.leaving {
            self.leave(stage, now);
        }
    }

    fn in_effect(&mut self, stage: usize, now: Instant) {
        let state = &mut self.stages[stage];
        if state.phase != Phase::Preparing {
            return;
        }
        state.trial_until = Some(now + TRIAL);
        if state.begins == Begins::InEffect {
            state.phase = Phase::Waiting;
            return;
        }
        state.phase = Phase::Running;
        state.began_at = Some(now);
        if state.config.mode == Mode::Each {
            self.actions.push(Action::Wake { stage });
        }
    }

    fn leave(&mut self, stage: usize, now: Instant) {
        let state = &mut self.stages[stage];
        match state.phase {
            Phase::Waiting => return self.over(stage, Outcome::Replaced),
            // Its workers have gone for the sake of the new ones, and none comes beside those.
            Phase::StandingBy => state.slots.fill(Slot::Done),
            Phase::Running | Phase::Restarting | Phase::Fallen => {}
            Phase::Preparing | Phase::Leaving | Phase::Ending(_) | Phase::Over(_) => return,
        }
        state.phase = Phase::Leaving;
        state.fallen = None;
        state.leave_by = Some(now + state.config.stop.grace);
        // Others are told when what is left for them alone has been taken.
        if state.config.is_source {
            self.dismiss(stage, now);
        }
    }

    /// Has the workers of a stage finish what they hold: nothing more comes for them.
    pub(super) fn dismiss(&mut self, stage: usize, now: Instant) {
        let is_source = self.stages[stage].config.is_source;
        let grace = self.stages[stage].config.stop.grace;
        let stop_at = Some(self.stages[stage].leaves_by().unwrap_or(now + grace));
        for rank in 0..self.stages[stage].slots.len() {
            match self.stages[stage].slots[rank] {
                Slot::Running { process } if !is_source => {
                    self.stages[stage].slots[rank] =
                        Slot::Finishing { process, asked: Asked::Leave, stop_at };
                    let generation = process.generation;
                    self.actions.push(Action::CloseInput(Worker { stage, rank, generation }));
                }
                // Nothing else tells a source that it is to end.
                Slot::Running { .. } | Slot::Starting { .. } | Slot::BackingOff { .. } => {
                    self.ask(stage, rank, Asked::Leave, now);
                }
                Slot::Finishing { process, asked, stop_at: None } => {
                    self.stages[stage].slots[rank] = Slot::Finishing { process, asked, stop_at };
                }
                Slot::Vacant
                | Slot::Finishing { .. }
                | Slot::Stopping { .. }
                | Slot::Killed { .. }
                | Slot::Draining { .. }
                | Slot::Done => {}
            }
        }
    }

    /// A stage fails. Whether that is no failure of the run: it is not in effect, or was not for long.
    pub(super) fn falls(&mut self, stage: usize, failure: &Failure, now: Instant) -> bool {
        let state = &mut self.stages[stage];
        let is_on_trial = matches!(state.phase, Phase::Waiting | Phase::Running)
            && state.is_on_trial(now)
            && self.level.is_none()
            && !self.is_failing;
        match state.phase {
            Phase::Preparing => self.end_stage(stage, Outcome::Replaced, now),
            // It is not the pipeline's any more.
            Phase::Leaving => {
                self.end_stage(stage, Outcome::Replaced, now);
                return true;
            }
            Phase::Waiting | Phase::Running if is_on_trial => {
                state.phase = Phase::Fallen;
                state.fallen = Some(Box::new(failure.clone()));
                for rank in 0..self.stages[stage].slots.len() {
                    self.ask(stage, rank, Asked::Stop, now);
                }
            }
            _ => return false,
        }
        self.actions.push(Action::NotUp { stage, failure: Box::new(failure.clone()) });
        true
    }

    /// The stages that fell so soon after a reload that they have not failed yet.
    pub(crate) fn fallen(&self) -> impl Iterator<Item = usize> {
        (0..self.stages.len()).filter(|&stage| self.stages[stage].phase == Phase::Fallen)
    }
}
