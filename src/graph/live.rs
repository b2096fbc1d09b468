//! A plan that becomes another one while it runs.
//!
//! Whoever runs a plan knows its stages, queues and pipes by their positions. So a position stays what it is for as long as
//! the run lasts: what a reload brings is added at the end, and what it takes away stays where it was and is not in
//! effect any more.

use std::collections::BTreeSet;

use super::{PipePlan, Plan, PortPlan, PortRef, QueuePlan, StagePlan};
use crate::change::{Change, Step};

/// What of a plan that has been added to is in effect.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// The plan in effect, as it was given.
    pub(crate) plan: Plan,
    /// By the position there: the position in the plan that is run.
    pub(crate) stages: Vec<usize>,
    pub(crate) queues: Vec<usize>,
    pub(crate) pipes: Vec<usize>,
}

/// What is to be run for a new plan to take effect.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The plan that is run, with all that is new at the end. What was there is untouched.
    pub(crate) prepared: Plan,
    /// The same once the new plan is in effect: ports lead elsewhere, pools have other widths.
    pub(crate) committed: Plan,
    /// What is in effect then.
    pub(crate) live: Live,
    /// The old and the new positions of stages that are replaced.
    pub(crate) replaced: Vec<(usize, usize)>,
    /// Stages that are new, those that replace others among them.
    pub(crate) added: Vec<usize>,
    /// Stages that are gone then and have no successor.
    pub(crate) removed: Vec<usize>,
    /// Stages that keep their workers and have another pool.
    pub(crate) resized: Vec<usize>,
}

impl Live {
    /// All of a plan that is about to be run.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            stages: (0..plan.stages.len()).collect(),
            queues: (0..plan.queues.len()).collect(),
            pipes: (0..plan.pipes.len()).collect(),
            plan: plan.clone(),
        }
    }

    /// The position of the stage of this name that is in effect.
    pub(crate) fn stage(&self, name: &str) -> Option<usize> {
        self.plan.stage_position(name).map(|at| self.stages[at])
    }

    /// The position of the queue of this name that is in effect.
    pub(crate) fn queue(&self, name: &str) -> Option<usize> {
        let at = self.plan.queues.iter().position(|queue| queue.name == name)?;
        Some(self.queues[at])
    }

    fn pipe(&self, pipe: &PipePlan) -> Option<usize> {
        let is_same = |other: &PipePlan| (&other.name, other.duplex) == (&pipe.name, pipe.duplex);
        self.plan.pipes.iter().position(is_same).map(|at| self.pipes[at])
    }

    /// What is to be run for `new` to take effect after `run`, which this is in effect of. `ended`: stages that have
    /// come to their end, and are not replaced, whatever `change` says.
    pub(crate) fn merge(&self, run: &Plan, new: &Plan, change: &Change, ended: &BTreeSet<usize>) -> Merged {
        let step = |name: &str| change.stage(name).map_or(Step::Same, |change| change.step);
        let kept = |name: &str| {
            let position = self.stage(name)?;
            let stays = !matches!(step(name), Step::Replace | Step::Add);
            (stays || ended.contains(&position)).then_some(position)
        };
        // Stages first, since all else names their positions.
        let mut prepared = run.clone();
        let (mut stages, mut replaced, mut added, mut resized) = (vec![], vec![], vec![], vec![]);
        for planned in &new.stages {
            let name = &planned.stage.name;
            let position = kept(name).unwrap_or_else(|| {
                let position = prepared.stages.len();
                prepared.stages.push(planned.clone());
                added.push(position);
                replaced.extend(self.stage(name).map(|old| (old, position)));
                position
            });
            if step(name) == Step::Resize && !ended.contains(&position) {
                resized.push(position);
            }
            stages.push(position);
        }
        let removed = self
            .stages
            .iter()
            .copied()
            .filter(|old| !stages.contains(old) && !replaced.iter().any(|(replaced, _)| replaced == old));
        let removed = removed.collect();
        let mut live = Self { plan: new.clone(), stages, queues: Vec::new(), pipes: Vec::new() };
        let mut committed_queues = prepared.queues.clone();
        for queue in &new.queues {
            let moved = QueuePlan {
                from: queue
                    .from
                    .map(|port| moved(new, &prepared, &live.stages, port, |stage| &stage.outputs)),
                to: queue.to.map(|port| moved(new, &prepared, &live.stages, port, |stage| &stage.inputs)),
                ..queue.clone()
            };
            let begins_anew = change
                .edges
                .iter()
                .any(|edge| !edge.is_pipe && edge.edge == queue.name && edge.step == Step::Replace);
            match self.queue(&queue.name).filter(|_| !begins_anew) {
                Some(position) => {
                    committed_queues[position] = moved;
                    live.queues.push(position);
                }
                None => {
                    live.queues.push(committed_queues.len());
                    prepared.queues.push(moved.clone());
                    committed_queues.push(moved);
                }
            }
        }
        for pipe in &new.pipes {
            let ends = (live.stages[pipe.from], live.stages[pipe.to]);
            let same = self.pipe(pipe).filter(|&at| (run.pipes[at].from, run.pipes[at].to) == ends);
            live.pipes.push(same.unwrap_or_else(|| {
                prepared.pipes.push(PipePlan { from: ends.0, to: ends.1, ..pipe.clone() });
                prepared.pipes.len() - 1
            }));
        }
        // The new stages' ports name queues of the new plan so far.
        for &position in &added {
            let stage = &mut prepared.stages[position];
            for port in stage.inputs.iter_mut().chain(&mut stage.outputs) {
                port.queues.iter_mut().for_each(|queue| *queue = live.queues[*queue]);
            }
        }
        let mut committed =
            Plan { name: new.name.clone(), stop: new.stop, queues: committed_queues, ..prepared.clone() };
        for (planned, &position) in new.stages.iter().zip(&live.stages) {
            if !added.contains(&position) {
                let stage = &mut committed.stages[position];
                if !ended.contains(&position) {
                    stage.stage = crate::model::Stage { mode: stage.stage.mode, ..planned.stage.clone() };
                }
                lead(&mut stage.inputs, &planned.inputs, &live.queues);
                lead(&mut stage.outputs, &planned.outputs, &live.queues);
            }
        }
        Merged { prepared, committed, live, replaced, added, removed, resized }
    }
}

/// The ports of a stage that keeps its workers lead where those of the same names do.
fn lead(ports: &mut [PortPlan], new: &[PortPlan], queues: &[usize]) {
    for port in ports {
        let led = new.iter().find(|other| other.name == port.name);
        port.queues =
            led.map(|led| led.queues.iter().map(|&queue| queues[queue]).collect()).unwrap_or_default();
    }
}

/// A port of the new plan where it is run. A stage that keeps its workers has its ports in the order in which they were
/// opened; one that has ended and lacks the port has it taken for its first, which nobody serves.
fn moved(
    new: &Plan,
    run: &Plan,
    stages: &[usize],
    port: PortRef,
    side: fn(&StagePlan) -> &Vec<PortPlan>,
) -> PortRef {
    let name = &side(&new.stages[port.stage])[port.port].name;
    let stage = stages[port.stage];
    let at = side(&run.stages[stage]).iter().position(|other| other.name == *name);
    PortRef { stage, port: at.unwrap_or(0) }
}
