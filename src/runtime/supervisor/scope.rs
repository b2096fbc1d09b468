//! Stages whose workers restart together (`scope: stage`, `downstream`, `pipeline`).

use std::time::Instant;

use super::{Action, Asked, Phase, Slot, Supervisor};
use crate::model::Mode;

/// Stages that are ended, and started again when all of them have come to rest and it is time.
#[derive(Debug)]
pub(super) struct Group {
    stages: Vec<usize>,
    /// Others that have come to rest before.
    first: Vec<usize>,
    at: Instant,
}

impl Group {
    /// One stage, which starts again as soon as it and these others have come to rest.
    pub(super) fn of(stage: usize, first: Vec<usize>, at: Instant) -> Self {
        Self { stages: vec![stage], first, at }
    }
}

impl Supervisor {
    /// Ends the workers of these stages, as a restart and no failure, to start them together. A stage that has
    /// ended, or has not begun, is left as it is; stages that are restarting already make one group with these.
    pub(super) fn restart_together(&mut self, stages: Vec<usize>, at: Instant, now: Instant) {
        let mut group = Group { stages: Vec::new(), first: Vec::new(), at };
        for stage in stages {
            if matches!(self.stages[stage].phase, Phase::Running | Phase::Restarting) {
                group.stages.push(stage);
            }
        }
        let (joined, others): (Vec<Group>, Vec<Group>) = std::mem::take(&mut self.groups)
            .into_iter()
            .partition(|other| other.stages.iter().any(|stage| group.stages.contains(stage)));
        self.groups = others;
        for other in joined {
            group.at = group.at.max(other.at);
            group.stages.extend(other.stages);
            group.first.extend(other.first);
        }
        group.stages.sort_unstable();
        group.stages.dedup();
        for &stage in &group.stages {
            self.stages[stage].phase = Phase::Restarting;
            self.stages[stage].is_ready = false;
            for rank in 0..self.stages[stage].slots.len() {
                self.ask(stage, rank, Asked::Restart, now);
            }
        }
        self.groups.push(group);
    }

    /// Starts the groups again that have come to rest and whose time has come.
    pub(super) fn restart_groups(&mut self, now: Instant) {
        for mut group in std::mem::take(&mut self.groups) {
            // A stage that was ended meanwhile is no longer part of it.
            let stages: Vec<usize> = group
                .stages
                .drain(..)
                .filter(|&stage| self.stages[stage].phase == Phase::Restarting)
                .collect();
            let is_at_rest = stages.iter().chain(&group.first).all(|&stage| self.stages[stage].is_at_rest());
            if is_at_rest && group.at <= now {
                stages.into_iter().for_each(|stage| self.begin_again(stage));
            } else if !stages.is_empty() {
                self.groups.push(Group { stages, ..group });
            }
        }
    }

    fn begin_again(&mut self, stage: usize) {
        let state = &mut self.stages[stage];
        if state.began_at.is_none() {
            // It stood by before it had begun.
            state.phase = Phase::Waiting;
            return;
        }
        state.phase = Phase::Running;
        state.forget_starts();
        state.slots.fill(Slot::Vacant);
        if state.config.mode == Mode::Each {
            self.actions.push(Action::Wake { stage });
            return;
        }
        for rank in 0..self.stages[stage].config.pool.min {
            self.start(stage, rank);
        }
    }

    /// When a group is due that waits for nothing but its time.
    pub(super) fn groups_due(&self) -> impl Iterator<Item = Instant> + '_ {
        let is_at_rest = |group: &&Group| {
            group.stages.iter().chain(&group.first).all(|&stage| self.stages[stage].is_at_rest())
        };
        self.groups.iter().filter(is_at_rest).map(|group| group.at)
    }
}
