//! One look at the run, for whoever watches it.

use std::time::Instant;

use super::RunLoop;
use super::gate::Gate;
use super::worker::WorkerIo;
use crate::model::Mode;
use crate::report::{EdgeSnapshot, SlotSnapshot, Snapshot, StageSnapshot};
use crate::runtime::broker::StageCounts;
use crate::runtime::supervisor::{Outcome, Phase};

impl RunLoop {
    pub(super) fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        Snapshot {
            at: self.began_at.elapsed(),
            pipeline: self.names.pipeline.clone(),
            state: self.state().to_owned(),
            stages: self.shown_stages().map(|stage| self.stage_snapshot(stage, now)).collect(),
            edges: self.edge_snapshots(),
        }
    }

    /// The stages in effect, and what else has workers: forms of them that come up, or that finish what they hold.
    fn shown_stages(&self) -> impl Iterator<Item = usize> {
        let in_effect = self.reloads.stages();
        let others = (0..self.plan.stages.len()).filter(|stage| !in_effect.contains(stage));
        let has_workers = |&stage: &usize| {
            let state = self.supervisor.stage(stage);
            state.live() > 0 || state.may_start_more() || state.phase == Phase::Leaving
        };
        in_effect.iter().copied().chain(others.filter(has_workers))
    }

    /// The queues in effect, and those that a reload has removed as long as something waits in them.
    fn edge_snapshots(&self) -> Vec<EdgeSnapshot> {
        let edges = self.broker.snapshot().into_iter().enumerate();
        let shown = edges.filter(|(queue, edge)| self.reloads.is_queue_live(*queue) || edge.records > 0);
        shown.map(|(_, edge)| edge).collect()
    }

    /// What a stage has counted, before reloads too.
    fn counts_with_before(&self, stage: usize) -> StageCounts {
        let name = &self.plan.stages[stage].stage.name;
        let forms = (0..self.plan.stages.len()).filter(|&of| self.plan.stages[of].stage.name == *name);
        let mut all = StageCounts::default();
        for counts in forms.map(|of| self.broker.counts(of)) {
            all.records_in += counts.records_in;
            all.records_out += counts.records_out;
            all.failed += counts.failed;
            all.retried += counts.retried;
        }
        all
    }

    fn state(&self) -> &'static str {
        match self.supervisor.level() {
            _ if self.clock.is_suspended() => "suspended",
            Some(level) => level.as_str(),
            None if self.supervisor.is_failing() => "failing",
            None => "running",
        }
    }

    fn stage_snapshot(&self, stage: usize, now: Instant) -> StageSnapshot {
        let state = self.supervisor.stage(stage);
        let is_in_effect = self.reloads.stages().contains(&stage);
        let counts = if is_in_effect { self.counts_with_before(stage) } else { self.broker.counts(stage) };
        let failures = self.supervisor.failures();
        let failure = failures.iter().find(|failure| failure.stage.as_ref() == Some(&state.config.name));
        let reason = match state.phase {
            Phase::Waiting => Some(self.explain_wait(stage)),
            Phase::Ending(Outcome::Finished) => Some("nobody wants what it makes".to_owned()),
            Phase::Ending(Outcome::Failed) | Phase::Over(Outcome::Failed) => {
                failure.map(|failure| failure.reason.clone())
            }
            Phase::Preparing => {
                Some(format!("its workers come up, and it is not in effect yet{}", self.last_look(stage)))
            }
            Phase::Fallen => Some(state.why_fallen()),
            Phase::StandingBy => {
                Some("its workers finish what they hold; another form of it comes".to_owned())
            }
            Phase::Leaving => {
                Some("its workers finish what they hold; it is not in effect any more".to_owned())
            }
            Phase::Running if matches!(self.gates[stage], Gate::Behind(_)) => {
                Some("it is given records when the workers of its form before have finished".to_owned())
            }
            Phase::Running
            | Phase::Restarting
            | Phase::Ending(Outcome::Stopped)
            | Phase::Over(Outcome::Finished | Outcome::Stopped | Outcome::Replaced)
            | Phase::Ending(Outcome::Replaced) => None,
        };
        StageSnapshot {
            stage: state.config.name.clone(),
            mode: mode(state.config.mode).to_owned(),
            state: describe(state.phase).to_owned(),
            in_effect: is_in_effect,
            reason,
            is_source: state.config.is_source && !self.plan.stages[stage].outputs.is_empty(),
            workers: state.live(),
            pool: state.config.pool.max,
            records_in: counts.records_in,
            records_out: counts.records_out,
            failed: counts.failed,
            restarts: state.restart_count,
            slots: (0..state.slots.len()).map(|rank| self.slot_snapshot(stage, rank, now)).collect(),
        }
    }

    fn slot_snapshot(&self, stage: usize, rank: usize, now: Instant) -> SlotSnapshot {
        let state = self.supervisor.stage(stage);
        let io = self.workers[stage].get(rank).and_then(Option::as_ref);
        let (word, why) = state.slot_state(rank, now);
        let is_leased = self.plan.stages[stage].stage.is_leased();
        SlotSnapshot {
            worker: state.config.worker_name(rank),
            state: word.to_owned(),
            reason: why.or_else(|| self.doing(stage, rank)),
            pid: state.process(rank).map(|process| process.pid),
            generation: state.generations[rank],
            given: io.map_or(0, WorkerIo::given_in_all),
            held: if is_leased && io.is_some() { self.broker.held(stage, rank) } else { 0 },
            usage: None,
        }
    }
}

/// How a stage takes records, as the language writes it.
pub(super) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Stream => "stream",
        Mode::Map => "map",
        Mode::Each => "each",
    }
}

/// Where a stage is in its life, in a word.
pub(super) fn describe(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Running => "running",
        Phase::Restarting => "restarting",
        Phase::Preparing => "preparing",
        Phase::StandingBy | Phase::Leaving => "leaving",
        Phase::Fallen => "fallen",
        Phase::Ending(Outcome::Failed) | Phase::Over(Outcome::Failed) => "failed",
        Phase::Over(Outcome::Replaced) => "replaced",
        Phase::Ending(_) => "stopping",
        Phase::Over(Outcome::Finished) => "finished",
        Phase::Over(Outcome::Stopped) => "stopped",
    }
}
