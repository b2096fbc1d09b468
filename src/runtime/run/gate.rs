//! When a stage that a reload has brought is given records, and what its workers write is passed on.

use super::RunLoop;
use crate::ipc::Block;
use crate::runtime::supervisor::Phase;

/// Bytes that workers which are not in effect may have written before they are not read any more.
const MOST_KEPT: usize = 64 << 10;

/// Whether a stage is given records, and what its workers write is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// It is not in effect yet.
    Closed,
    /// It is in effect, and opens as soon as whoever has to know does.
    Opening,
    /// The stage at this position, which it replaces, comes first: so that order is kept.
    Behind(usize),
}

impl RunLoop {
    /// Whether the new form of a stage has to wait for the end of the old one: where there is one worker, whose results
    /// come in the order of its records, or one for each key.
    pub(super) fn keeps_order(&self, old: usize, new: usize) -> bool {
        let (before, after) = (&self.plan.stages[old], &self.plan.stages[new]);
        let has_keys = |stage: &crate::graph::StagePlan| {
            let mut queues = stage.inputs.iter().flat_map(|port| &port.queues);
            queues.any(|&queue| self.plan.queues[queue].options.partition_by.is_some())
        };
        let are_alone = before.stage.pool.max == 1 && after.stage.pool.max == 1;
        let is_ordered_otherwise = before.stage.is_leased()
            && after.stage.is_leased()
            && before.stage.ordered != after.stage.ordered;
        let is_there = !matches!(self.supervisor.stage(old).phase, Phase::Over(_));
        is_there && (are_alone || is_ordered_otherwise || has_keys(before) || has_keys(after))
    }

    /// A stage is given records from now on, and what its workers have written flows, those that have ended included.
    pub(super) fn release(&mut self, stage: usize) {
        self.gates[stage] = Gate::Open;
        let ordered = self.plan.stages[stage].stage.ordered;
        self.broker.settle_order(stage, ordered);
        for (producer, block) in self.reloads.early.remove(&stage).unwrap_or_default() {
            self.broker.publish(producer, block);
        }
        if matches!(self.supervisor.stage(stage).phase, Phase::Over(_)) {
            self.end_outputs(stage);
        }
        for rank in 0..self.workers[stage].len() {
            let Some(io) = self.workers[stage][rank].as_mut() else { continue };
            let worker = io.worker;
            for (port, block) in std::mem::take(&mut io.kept) {
                self.pass_on(stage, rank, port, block);
            }
            let Some(io) = self.workers[stage][rank].as_ref() else { continue };
            let readable = io.taps.iter().flatten().filter(|tap| tap.is_readable).map(|tap| tap.token);
            self.readable.extend(readable);
            self.let_go_on(worker);
            self.worker_works(worker);
        }
        for port in 0..self.plan.stages[stage].outputs.len() {
            self.end_port_if_nobody_writes(stage, port);
        }
        if self.plan.stages[stage].stage.is_leased() {
            self.pump_leases(stage);
        }
    }

    /// Whether what a worker has written is kept back, and is enough.
    pub(super) fn has_kept_enough(&self, stage: usize, rank: usize) -> bool {
        self.gates[stage] != Gate::Open
            && self.workers[stage][rank]
                .as_ref()
                .is_some_and(|io| io.kept.iter().map(|(_, block)| block.len()).sum::<usize>() >= MOST_KEPT)
    }

    /// What a worker wrote that has ended before its stage was in effect.
    pub(super) fn keep_early(&mut self, stage: usize, blocks: Vec<(usize, Block)>) {
        for (port, block) in blocks {
            let producer = self.broker.output(stage, port);
            self.reloads.early.entry(stage).or_default().push((producer, block));
        }
    }

    /// A stage has ended that others may wait for.
    pub(super) fn release_behind(&mut self, old: usize) {
        let is_over = |stage: usize| matches!(self.supervisor.stage(stage).phase, Phase::Over(_));
        // One that was replaced before its own turn had come leaves its place in the row.
        let before = match self.gates[old] {
            Gate::Behind(before) if !is_over(before) => Some(before),
            _ => None,
        };
        for stage in 0..self.gates.len() {
            if self.gates[stage] == Gate::Behind(old) {
                match before {
                    Some(before) => self.gates[stage] = Gate::Behind(before),
                    None => self.release(stage),
                }
            }
        }
    }
}
