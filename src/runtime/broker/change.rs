//! What of the broker can change while records flow: stages, queues and who is at their ends.
//!
//! A stage that is replaced has two positions, of its old form and of its new one. They share the producers of ports that
//! both have, and where both lease their records the exchange: what the old form's workers answer leaves in its place,
//! and what they give back the new form's workers get. Queues keep their records and are given another consumer.

use std::collections::VecDeque;

use super::exchange::Exchange;
use super::{Broker, Consumer, Input, Producer, ProducerId, Queue, QueuePlan, Stage, ends, note};
use crate::graph::Plan;
use crate::ipc::Framing;
use crate::model::FAILED;

impl Producer {
    /// What it publishes goes to these queues.
    pub(super) fn set_queues(&mut self, queues: &[usize]) {
        queues.clone_into(&mut self.queues);
        self.pending = queues.iter().map(|_| VecDeque::new()).collect();
    }
}

/// What a plan comes to once a reload has taken effect.
#[derive(Debug)]
pub(crate) struct Takeover<'a> {
    /// Positions of the stages that are in effect.
    pub(crate) stages: &'a [usize],
    /// Positions of the queues that are in effect.
    pub(crate) queues: &'a [usize],
    /// The old and the new form of stages that are replaced.
    pub(crate) replaced: &'a [(usize, usize)],
}

impl Broker {
    /// One more stage, at the end: nothing leads to its inputs yet, and what its workers publish goes where the same
    /// ports of `old` lead. With no `old`, nowhere.
    pub(crate) fn add_stage(&mut self, plan: &Plan, position: usize, old: Option<usize>) {
        debug_assert_eq!(position, self.stages.len(), "stages come one after the other");
        let planned = &plan.stages[position];
        let outputs = planned.outputs.iter().map(|port| {
            let shared = old.and_then(|old| {
                let at = plan.stages[old]
                    .outputs
                    .iter()
                    .position(|other| other.name == port.name && other.format == port.format)?;
                Some(self.stages[old].outputs[at])
            });
            let counts_for = (port.name != FAILED).then_some(position);
            match shared {
                Some(ProducerId(producer)) => {
                    self.producers[producer].users.push(position);
                    ProducerId(producer)
                }
                None => self.add_producer(counts_for, Some(position)),
            }
        });
        let outputs = outputs.collect();
        let stage = Stage {
            inputs: planned.inputs.iter().map(|_| Input { queues: Vec::new(), next: 0 }).collect(),
            outputs,
            exchange: None,
            seats: Vec::new(),
            framing: planned
                .inputs
                .first()
                .and_then(|port| port.queues.first())
                .map_or(Framing::EndedBy(b'\n'), |&queue| Framing::of(plan.queues[queue].format)),
            is_retired: false,
            successor: None,
            is_gone: false,
            predecessors: 0,
            has_left: false,
            records_in: 0,
            records_out: 0,
            failed: 0,
            retried: 0,
        };
        self.stages.push(stage);
        // Until it is in effect, and shares that of the one before, it is empty.
        self.stages[position].exchange = self.add_exchange(plan, position);
    }

    pub(super) fn add_producer(&mut self, counts_for: Option<usize>, user: Option<usize>) -> ProducerId {
        self.producers.push(Producer {
            users: user.into_iter().collect(),
            counts_for,
            queues: Vec::new(),
            pending: Vec::new(),
            has_ended: false,
            is_closed: false,
            was_cut_off: false,
        });
        ProducerId(self.producers.len() - 1)
    }

    /// An exchange of its own for a stage whose records are leased.
    fn add_exchange(&mut self, plan: &Plan, stage: usize) -> Option<usize> {
        let declared = &plan.stages[stage].stage;
        if !declared.is_leased() {
            return None;
        }
        let width = declared.pool.max;
        self.exchanges.push(Exchange::new(width, declared.retry, declared.ordered));
        self.stages[stage].seats = (0..width).collect();
        Some(self.exchanges.len() - 1)
    }

    pub(super) fn add_queue(&mut self, plan: &Plan, position: usize) {
        debug_assert_eq!(position, self.queues.len(), "queues come one after the other");
        let queue = &plan.queues[position];
        let width = queue.to.map_or(1, |port| plan.stages[port.stage].stage.pool.max);
        self.queues.push(Queue::new(queue, width));
        self.names.push(queue.name.clone());
        self.consumers.push(consumer(queue));
        let source = match queue.from {
            Some(port) => self.stages[port.stage].outputs[port.port],
            None => self.stdin.expect("a queue without a producing stage comes from standard input"),
        };
        self.sources.push(source);
    }

    /// A stage has a pool of this width. Places of a pool that was wider stay, for what their workers hold; what waits by
    /// its key, left over from an edge that is gone, is for the others.
    pub(crate) fn resize(&mut self, stage: usize, width: usize) {
        for port in 0..self.stages[stage].inputs.len() {
            for queue in self.stages[stage].inputs[port].queues.clone() {
                if self.queues[queue].share_among(width) {
                    self.lanes_changed(queue);
                }
            }
        }
        let more = width.saturating_sub(self.stages[stage].seats.len());
        if let Some(exchange) = self.stages[stage].exchange {
            let seats = self.exchanges[exchange].add_seats(more);
            self.stages[stage].seats.extend(seats);
        }
    }

    /// A reload takes effect: from now on records flow as this plan says. Those that wait stay where they are, but in
    /// queues that it leaves out they go to whom they were for.
    pub(crate) fn take_over(&mut self, plan: &Plan, takeover: &Takeover<'_>) {
        for queue in self.queues.len()..plan.queues.len() {
            self.add_queue(plan, queue);
        }
        for &queue in takeover.queues {
            self.queues[queue].set_bounds(&plan.queues[queue]);
            self.consumers[queue] = consumer(&plan.queues[queue]);
            self.share_anew(plan, queue);
        }
        let retired =
            |stage: usize| takeover.replaced.iter().find(|&&(_, new)| new == stage).map(|&(old, _)| old);
        for &stage in takeover.stages {
            for (port, planned) in plan.stages[stage].outputs.iter().enumerate() {
                let producer = self.stages[stage].outputs[port];
                self.lead(producer, &planned.queues);
                self.producers[producer.0].counts_for = (planned.name != FAILED).then_some(stage);
            }
            for (port, planned) in plan.stages[stage].inputs.iter().enumerate() {
                let mut queues = planned.queues.clone();
                queues
                    .extend(retired(stage).into_iter().flat_map(|old| self.left_to(plan, old, stage, port)));
                self.join(Consumer::Port { stage, port }, &queues);
            }
            if let Some(old) = retired(stage) {
                self.share_exchange(plan, old, stage);
                self.follow(old, stage);
            }
        }
        // Whoever else took from a queue that is in effect does so no more.
        for stage in (0..self.stages.len()).filter(|stage| !takeover.stages.contains(stage)) {
            self.stages[stage].is_retired = true;
            for port in 0..self.stages[stage].inputs.len() {
                let own = Consumer::Port { stage, port };
                let consumers = &self.consumers;
                self.stages[stage].inputs[port].queues.retain(|&queue| consumers[queue] == own);
                note(&mut self.changes.consumers, own);
            }
            self.return_to_queues(stage);
        }
        self.join(Consumer::Stdout, &of(plan, takeover, |queue| queue.to.is_none()));
        if let Some(stdin) = self.stdin {
            self.lead(stdin, &of(plan, takeover, |queue| queue.from.is_none()));
        }
        for consumer in self.consumers.clone() {
            note(&mut self.changes.consumers, consumer);
        }
    }

    /// What a producer publishes goes to these queues from now on. Queues that it led to have had all.
    fn lead(&mut self, id: ProducerId, queues: &[usize]) {
        let producer = &mut self.producers[id.0];
        let was_blocked = producer.is_blocked();
        let old = std::mem::take(&mut producer.queues);
        let mut pending: Vec<_> = old.into_iter().zip(std::mem::take(&mut producer.pending)).collect();
        for &queue in queues {
            let at = pending.iter().position(|(of, _)| *of == queue);
            producer.pending.push(at.map(|at| pending.swap_remove(at).1).unwrap_or_default());
            producer.queues.push(queue);
            if producer.is_closed {
                self.queues[queue].close();
            }
            self.sources[queue] = id;
        }
        for (queue, blocks) in pending {
            blocks.into_iter().for_each(|block| self.queues[queue].force(block));
            self.queues[queue].close();
            note(&mut self.changes.consumers, self.consumers[queue]);
        }
        for &queue in queues {
            // Its bounds may be wider now.
            self.resume(queue);
        }
        if was_blocked && !self.producers[id.0].is_blocked() {
            note(&mut self.changes.producers, id);
        }
        self.close_if_done(id);
    }

    /// The workers that a queue leads to share its records as the plan says. Those that have been given out go where they
    /// belong by then, should they come back.
    fn share_anew(&mut self, plan: &Plan, queue: usize) {
        let width = match self.consumers[queue] {
            Consumer::Port { stage, .. } => plan.stages[stage].stage.pool.max,
            Consumer::Stdout => 1,
        };
        if self.queues[queue].share_anew(&plan.queues[queue], width) {
            self.lanes_changed(queue);
        }
    }

    fn lanes_changed(&mut self, queue: usize) {
        self.exchanges.iter_mut().for_each(|exchange| exchange.lanes_changed(queue));
    }

    /// Queues that lead nowhere in the new plan, and whose last records the new form of a stage takes as well as the old
    /// one would: those of the same port, in the same format, of which each record is for one worker.
    fn left_to(&mut self, plan: &Plan, old: usize, new: usize, port: usize) -> Vec<usize> {
        let planned = &plan.stages[new].inputs[port];
        let same = plan.stages[old]
            .inputs
            .iter()
            .position(|other| other.name == planned.name && other.format == planned.format);
        let Some(same) = same else { return Vec::new() };
        let own = Consumer::Port { stage: old, port: same };
        let left: Vec<usize> = self.stages[old].inputs[same]
            .queues
            .iter()
            .copied()
            .filter(|&queue| self.consumers[queue] == own && !self.queues[queue].is_to_each())
            .collect();
        for &queue in &left {
            self.consumers[queue] = Consumer::Port { stage: new, port };
            self.share_anew(plan, queue);
        }
        left
    }

    /// A consumer takes from these queues, and from those that it took from before as long as something waits there.
    fn join(&mut self, consumer: Consumer, queues: &[usize]) {
        let before = std::mem::take(&mut self.input(consumer).queues);
        let mut joined = queues.to_vec();
        let is_left = |queue: &usize| {
            !queues.contains(queue) && self.consumers[*queue] == consumer && !self.queues[*queue].is_over()
        };
        joined.extend(before.into_iter().filter(is_left));
        let input = self.input(consumer);
        input.queues = joined;
        input.next = 0;
    }

    /// What workers of the old form give back is for the new one, which does not end before them.
    fn follow(&mut self, old: usize, new: usize) {
        for before in (0..new).filter(|&before| before != old) {
            if self.stages[before].successor == Some(old) {
                self.stages[before].successor = Some(new);
            }
        }
        self.stages[new].predecessors = std::mem::take(&mut self.stages[old].predecessors);
        if !self.stages[old].is_gone {
            self.stages[old].successor = Some(new);
            self.stages[new].predecessors += 1;
        }
    }

    /// Nobody of this form of a stage gives anything back any more.
    pub(super) fn goes(&mut self, stage: usize) {
        self.stages[stage].is_gone = true;
        let Some(next) = self.stages[stage].successor.take() else { return };
        self.stages[next].predecessors -= 1;
        for port in 0..self.stages[next].inputs.len() {
            note(&mut self.changes.consumers, Consumer::Port { stage: next, port });
        }
    }

    // ---- exchanges

    /// The new form of a stage gets its records where the old one does.
    fn share_exchange(&mut self, plan: &Plan, old: usize, new: usize) {
        let declared = &plan.stages[new].stage;
        let shared = self.stages[old]
            .exchange
            .filter(|_| declared.is_leased() && self.stages[old].framing == self.stages[new].framing);
        let Some(exchange) = shared else { return };
        self.stages[new].seats = self.exchanges[exchange].add_seats(declared.pool.max);
        self.exchanges[exchange].set_retry(declared.retry);
        self.stages[new].exchange = Some(exchange);
    }

    /// Whether another form of this stage has its exchange too.
    pub(super) fn shares_exchange(&self, stage: usize) -> bool {
        let exchange = self.stages[stage].exchange;
        exchange.is_some()
            && self
                .stages
                .iter()
                .enumerate()
                .any(|(of, other)| of != stage && other.exchange == exchange && !other.has_left)
    }

    /// The workers of a stage are gone, and another form of it has its exchange: what is left there is that one's.
    pub(super) fn leaves_exchange(&mut self, stage: usize) -> bool {
        if !self.shares_exchange(stage) {
            return false;
        }
        let framing = self.stages[stage].framing;
        for seat in self.stages[stage].seats.clone() {
            self.exchange_mut(stage).give_back(seat, framing);
            self.exchange_mut(stage).give_back_all_reserved(seat);
        }
        self.stages[stage].has_left = true;
        self.note_exchange(stage);
        true
    }

    /// Tells whoever may lease from the exchange of this stage.
    pub(super) fn note_exchange(&mut self, stage: usize) {
        let exchange = self.stages[stage].exchange;
        for stage in 0..self.stages.len() {
            if self.stages[stage].exchange == exchange {
                note(&mut self.changes.consumers, Consumer::Port { stage, port: 0 });
            }
        }
    }

    /// What the last workers of a stage give back whose successor leases nothing, or otherwise, is anybody's again.
    pub(super) fn return_to_queues(&mut self, stage: usize) {
        if !self.stages[stage].is_retired || self.shares_exchange(stage) {
            return;
        }
        let Some(exchange) = self.stages[stage].exchange else { return };
        let own = Consumer::Port { stage, port: 0 };
        let (keep, back): (Vec<_>, Vec<_>) = self.exchanges[exchange]
            .take_waiting()
            .into_iter()
            .partition(|lease| self.consumers[lease.queue] == own);
        keep.into_iter().for_each(|lease| self.exchanges[exchange].put_back(lease));
        for lease in back.into_iter().rev() {
            self.queues[lease.queue].put_back(lease.lane.unwrap_or(0), lease.block);
            note(&mut self.changes.consumers, self.consumers[lease.queue]);
        }
    }

    /// The old form of a stage is gone: the results of the new one leave in order from now on, or as they come.
    pub(crate) fn settle_order(&mut self, stage: usize, ordered: bool) {
        let Some(exchange) = self.stages[stage].exchange else { return };
        if self.exchanges[exchange].order.is_some() == ordered || self.shares_exchange(stage) {
            return;
        }
        self.let_go(exchange);
        self.exchanges[exchange].set_ordered(ordered);
        self.note_exchange(stage);
    }

    /// Results leave that wait for others before them.
    pub(super) fn let_go(&mut self, exchange: usize) {
        let held_back = self.exchanges[exchange].order.as_mut().map(super::order::Order::clear);
        for (producer, block) in held_back.into_iter().flatten().flatten() {
            self.publish(producer, block);
        }
    }

    /// Whether nothing more will be taken for a stage that another form has taken over from.
    pub(crate) fn takes_no_more(&self, stage: usize) -> bool {
        let is_idle =
            || self.stages[stage].exchange.is_none_or(|exchange| self.exchanges[exchange].is_idle());
        self.is_input_ended(stage) && (self.shares_exchange(stage) || is_idle())
    }

    // ---- ends

    /// Nobody of this stage publishes by this port any more. Its queues close when nobody else does either.
    pub(crate) fn end_output(&mut self, stage: usize, port: usize) {
        let id = self.output(stage, port);
        let producer = &mut self.producers[id.0];
        producer.users.retain(|&user| user != stage);
        if producer.users.is_empty() {
            self.end_producer(id);
        }
    }

    /// Whether no queue leads out of it: a reload may have removed the last.
    pub(crate) fn leads_nowhere(&self, id: ProducerId) -> bool {
        self.producers[id.0].queues.is_empty()
    }
}

fn consumer(queue: &QueuePlan) -> Consumer {
    match queue.to {
        Some(port) => Consumer::Port { stage: port.stage, port: port.port },
        None => Consumer::Stdout,
    }
}

/// Positions of the queues in effect with this kind of end.
fn of(plan: &Plan, takeover: &Takeover<'_>, is_end: fn(&QueuePlan) -> bool) -> Vec<usize> {
    ends(plan, is_end).into_iter().filter(|queue| takeover.queues.contains(queue)).collect()
}
