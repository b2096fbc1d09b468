//! The broker: queues, credits, leases and the order of results, as a pure state machine.
//!
//! # Theory of operation
//!
//! The run's loop tells it what was read ([`Broker::publish`]), who has room ([`Broker::take`],
//! [`Broker::lease`]), what was answered ([`Broker::answer`]) and who is gone; it tells the loop who may go on
//! ([`Broker::changes`]). It does no I/O and reads no clock, so that random sequences of events prove it
//! (`tests.rs`). Nothing is locked: one thread owns it.
//!
//! A *producer* is an output port of a stage, all its workers together, or `mpflow`'s standard input. What it
//! publishes goes to every queue that leads out of the port. What a full queue does not take stays *pending*
//! with the producer, and the loop does not read for it until that is gone: so each producer has at most
//! one read per worker outside of the queues.

mod books;
mod change;
mod exchange;
#[cfg(test)]
mod function_tests;
mod leases;
mod order;
mod queue;
mod sampler;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub(crate) use books::Reason;
pub(crate) use change::Takeover;
pub(crate) use exchange::ATTEMPTS_AFTER_DEATH;
use exchange::Exchange;
pub(crate) use exchange::{Failure, Guilt, Lease, MAX_DELAYED_BYTES, Verdict};
pub(crate) use order::{MAX_AHEAD, MAX_HELD_BACK_BYTES, Results};
pub(crate) use queue::BLOCK_COST_BYTES;
use queue::Queue;
use sampler::Sampler;
pub(crate) use sampler::{SampledRecord, Seen};

use crate::graph::{Plan, QueuePlan};
use crate::ipc::{Block, Framing};
use crate::report::{EdgeReport, EdgeSnapshot};

/// An output port of a stage, or `mpflow`'s standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProducerId(pub(crate) usize);

/// Whoever takes from queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Consumer {
    /// An input port of a stage, by its position.
    Port { stage: usize, port: usize },
    /// `mpflow`'s standard output.
    Stdout,
}

/// Who may go on since the loop last asked.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// There is something to take, or there will never be anything again.
    pub(crate) consumers: Vec<Consumer>,
    /// Nothing is pending any more: it may be read for again.
    pub(crate) producers: Vec<ProducerId>,
    /// Nobody wants what it produces any more.
    pub(crate) unwanted: Vec<ProducerId>,
}

struct Producer {
    /// Stages whose workers publish for it; none for standard input. Under a reload the old form of a stage and the new one.
    users: Vec<usize>,
    /// The stage that made what it publishes; none for documents about records that failed, which are counted as that.
    counts_for: Option<usize>,
    queues: Vec<usize>,
    /// By the position in `queues`: what did not fit, the oldest first.
    pending: Vec<VecDeque<Block>>,
    has_ended: bool,
    is_closed: bool,
    /// All who read it had had enough before it had ended.
    was_cut_off: bool,
}

impl Producer {
    fn is_blocked(&self) -> bool {
        self.pending.iter().any(|pending| !pending.is_empty())
    }
}

/// An input port: the queues that merge into it.
struct Input {
    queues: Vec<usize>,
    /// The one to be asked first, so that none starves.
    next: usize,
}

struct Stage {
    inputs: Vec<Input>,
    /// The producer of each output port.
    outputs: Vec<ProducerId>,
    /// Position in [`Broker::exchanges`]: where its records are leased. Under a reload the old form of a stage and the
    /// new one have the same, so that what one gives back the other gets, in order.
    exchange: Option<usize>,
    /// By rank: the worker's place in the exchange.
    seats: Vec<usize>,
    /// How the records of its first input end.
    framing: Framing,
    /// Another form of it has taken over.
    is_retired: bool,
    /// What its workers have and do not use comes back to the queues of this form of it, until it is gone.
    successor: Option<usize>,
    /// Nobody takes anything for it any more.
    is_gone: bool,
    /// Forms before it that are not gone.
    predecessors: usize,
    /// It is gone, and what is left in its exchange is another form's of it.
    has_left: bool,
    records_in: u64,
    records_out: u64,
    failed: u64,
    retried: u64,
}

/// What a stage's ports counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StageCounts {
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) failed: u64,
    pub(crate) retried: u64,
}

/// A worker answered more records than it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) held: u64,
    pub(crate) answered: u64,
}

/// See the module's description.
pub(crate) struct Broker {
    queues: Vec<Queue>,
    names: Vec<String>,
    /// Who takes from each queue.
    consumers: Vec<Consumer>,
    /// Who puts into each queue.
    sources: Vec<ProducerId>,
    producers: Vec<Producer>,
    stages: Vec<Stage>,
    exchanges: Vec<Exchange>,
    stdin: Option<ProducerId>,
    stdout: Input,
    changes: Changes,
}

impl Broker {
    pub(crate) fn new(plan: &Plan) -> Self {
        let from_stdin: Vec<usize> = ends(plan, |queue| queue.from.is_none());
        let mut broker = Self {
            queues: Vec::new(),
            names: Vec::new(),
            consumers: Vec::new(),
            sources: Vec::new(),
            producers: Vec::new(),
            stages: Vec::new(),
            exchanges: Vec::new(),
            stdin: None,
            stdout: Input { queues: ends(plan, |queue| queue.to.is_none()), next: 0 },
            changes: Changes::default(),
        };
        for stage in 0..plan.stages.len() {
            broker.add_stage(plan, stage, None);
            for (port, planned) in plan.stages[stage].inputs.iter().enumerate() {
                broker.stages[stage].inputs[port].queues.clone_from(&planned.queues);
            }
            for (port, planned) in plan.stages[stage].outputs.iter().enumerate() {
                let ProducerId(producer) = broker.stages[stage].outputs[port];
                broker.producers[producer].set_queues(&planned.queues);
            }
        }
        if !from_stdin.is_empty() {
            let ProducerId(stdin) = broker.add_producer(None, None);
            broker.producers[stdin].set_queues(&from_stdin);
            broker.stdin = Some(ProducerId(stdin));
        }
        for queue in 0..plan.queues.len() {
            broker.add_queue(plan, queue);
        }
        broker
    }

    /// The producer of an output port.
    pub(crate) fn output(&self, stage: usize, port: usize) -> ProducerId {
        self.stages[stage].outputs[port]
    }

    /// `mpflow`'s standard input, where a queue comes from it.
    pub(crate) fn stdin(&self) -> Option<ProducerId> {
        self.stdin
    }

    /// Whether anything can come to `mpflow`'s standard output.
    pub(crate) fn has_stdout(&self) -> bool {
        !self.stdout.queues.is_empty()
    }

    /// Who may go on since the last call.
    pub(crate) fn changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// How the records of a queue end.
    pub(crate) fn framing(&self, queue: usize) -> Framing {
        self.queues[queue].framing()
    }

    // ---- producers

    /// Puts what a producer made into every queue that leads out of it.
    pub(crate) fn publish(&mut self, id: ProducerId, block: Block) {
        if block.is_empty() {
            return;
        }
        if let Some(stage) = self.producers[id.0].counts_for {
            self.stages[stage].records_out += block.records;
        }
        for position in 0..self.producers[id.0].queues.len() {
            self.offer(id, position, block.clone());
        }
    }

    /// One queue's share of what was published, after what is pending for it.
    fn offer(&mut self, id: ProducerId, position: usize, block: Block) {
        let producer = &mut self.producers[id.0];
        let queue = producer.queues[position];
        self.queues[queue].look_at(&block);
        let left = match producer.pending[position].is_empty() {
            true => self.queues[queue].put(block),
            false => Some(block),
        };
        producer.pending[position].extend(left);
        note(&mut self.changes.consumers, self.consumers[queue]);
    }

    /// Whether something that it published waits for room. It must not be read for then.
    pub(crate) fn is_blocked(&self, id: ProducerId) -> bool {
        self.producers[id.0].is_blocked()
    }

    /// Nobody publishes for it any more. Its queues close when what is pending has gone.
    pub(crate) fn end_producer(&mut self, id: ProducerId) {
        self.producers[id.0].has_ended = true;
        self.close_if_done(id);
    }

    fn close_if_done(&mut self, id: ProducerId) {
        let producer = &mut self.producers[id.0];
        if !producer.has_ended || producer.is_closed || producer.is_blocked() {
            return;
        }
        producer.is_closed = true;
        for &queue in &producer.queues {
            self.queues[queue].close();
            note(&mut self.changes.consumers, self.consumers[queue]);
        }
    }

    /// A queue has room again: the producer that waits for it goes on.
    fn resume(&mut self, queue: usize) {
        if !self.queues[queue].has_room() {
            return;
        }
        let id = self.sources[queue];
        let producer = &mut self.producers[id.0];
        let Some(position) = producer.queues.iter().position(|&other| other == queue) else { return };
        if producer.pending[position].is_empty() {
            return;
        }
        while let Some(block) = producer.pending[position].pop_front() {
            if let Some(left) = self.queues[queue].put(block) {
                producer.pending[position].push_front(left);
                break;
            }
        }
        note(&mut self.changes.consumers, self.consumers[queue]);
        if !self.producers[id.0].is_blocked() {
            note(&mut self.changes.producers, id);
            self.close_if_done(id);
        }
    }

    // ---- consumers

    fn input(&mut self, consumer: Consumer) -> &mut Input {
        match consumer {
            Consumer::Port { stage, port } => &mut self.stages[stage].inputs[port],
            Consumer::Stdout => &mut self.stdout,
        }
    }

    fn input_queues(&self, consumer: Consumer) -> &[usize] {
        match consumer {
            Consumer::Port { stage, port } => &self.stages[stage].inputs[port].queues,
            Consumer::Stdout => &self.stdout.queues,
        }
    }

    /// Takes records for a worker (rank 0 for standard output): at most so much, but one if there is one. The
    /// queues of a port take turns. They are neither delivered nor waiting until [`Broker::deliver`] or
    /// [`Broker::put_back`].
    pub(crate) fn take(
        &mut self,
        consumer: Consumer,
        rank: usize,
        max_bytes: usize,
        max_records: u64,
    ) -> Option<(usize, Block)> {
        let input = self.input(consumer);
        let (count, first) = (input.queues.len(), input.next);
        for step in 0..count {
            let position = (first + step) % count;
            let queue = self.input(consumer).queues[position];
            let lane = self.queues[queue].lane(rank);
            if let Some(block) = self.queues[queue].take(lane, max_bytes, max_records) {
                self.input(consumer).next = (position + 1) % count;
                self.resume(queue);
                return Some((queue, block));
            }
        }
        None
    }

    /// Whether some of what comes to this port is for one worker alone.
    pub(crate) fn has_lanes(&self, consumer: Consumer) -> bool {
        self.input_queues(consumer).iter().any(|&queue| !self.queues[queue].is_shared())
    }

    /// Records that wait for the worker of this rank, shared ones counted.
    pub(crate) fn waiting(&self, consumer: Consumer, rank: usize) -> u64 {
        let waiting = |&queue: &usize| self.queues[queue].lane_records(self.queues[queue].lane(rank));
        self.input_queues(consumer).iter().map(waiting).sum()
    }

    /// Bytes of the records that wait for the worker of this rank, shared ones counted.
    pub(crate) fn waiting_bytes(&self, consumer: Consumer, rank: usize) -> u64 {
        let waiting = |&queue: &usize| self.queues[queue].lane_bytes(self.queues[queue].lane(rank));
        self.input_queues(consumer).iter().map(waiting).sum()
    }

    /// One worker's part of what waits, when so many share it: of what waits for it alone, all.
    pub(crate) fn share(&self, consumer: Consumer, rank: usize, sharers: u64) -> u64 {
        let share = |&queue: &usize| {
            let queue = &self.queues[queue];
            let waiting = queue.lane_records(queue.lane(rank));
            if queue.lanes() == 1 { waiting.div_ceil(sharers.max(1)) } else { waiting }
        };
        self.input_queues(consumer).iter().map(share).sum()
    }

    /// Records that were taken have reached workers of this stage, or standard output. It is not asked whom the queue
    /// leads to: under a reload that may be the next form of the stage.
    pub(crate) fn deliver(&mut self, stage: Option<usize>, queue: usize, records: u64) {
        self.queues[queue].books.delivered += records;
        if let Some(stage) = stage {
            self.stages[stage].records_in += records;
        }
    }

    /// Records that were counted as delivered lie where their worker did not read them.
    pub(crate) fn undeliver(&mut self, stage: Option<usize>, queue: usize, records: u64) {
        self.queues[queue].books.delivered -= records;
        if let Some(stage) = stage {
            self.stages[stage].records_in -= records;
        }
    }

    /// Records that were delivered to a worker that died: whether it did its work with them is not known.
    pub(crate) fn unconfirm(&mut self, queue: usize, records: u64) {
        self.queues[queue].books.unconfirmed += records;
    }

    /// Records that were taken and not used go back to the front.
    pub(crate) fn put_back(&mut self, queue: usize, rank: usize, block: Block) {
        let lane = self.queues[queue].lane(rank);
        self.queues[queue].put_back(lane, block);
        note(&mut self.changes.consumers, self.consumers[queue]);
    }

    /// Records that were taken, and that nobody will have.
    pub(crate) fn discard(&mut self, queue: usize, records: u64, reason: Reason) {
        self.queues[queue].books.discard(reason, records);
    }

    /// Whether a worker has had all that will ever come to this port.
    pub(crate) fn is_ended(&self, consumer: Consumer, rank: usize) -> bool {
        !self.may_get_back(consumer)
            && self
                .input_queues(consumer)
                .iter()
                .all(|&queue| self.queues[queue].is_ended(self.queues[queue].lane(rank)))
    }

    /// Whether what a form of a stage before this one was given may yet come back.
    fn may_get_back(&self, consumer: Consumer) -> bool {
        matches!(consumer, Consumer::Port { stage, .. } if self.stages[stage].predecessors > 0)
    }

    /// Whether everything that will ever come to this stage has been taken, by whichever worker.
    pub(crate) fn is_input_ended(&self, stage: usize) -> bool {
        let is_done = |&queue: &usize| {
            let queue = &self.queues[queue];
            queue.has_no_consumer() || queue.is_over()
        };
        self.stages[stage].predecessors == 0
            && self.stages[stage].inputs.iter().flat_map(|input| &input.queues).all(is_done)
    }

    /// Whether a queue into this stage is full, or its producer waits until there is room again.
    pub(crate) fn is_backlogged(&self, stage: usize) -> bool {
        self.stages[stage]
            .inputs
            .iter()
            .flat_map(|input| &input.queues)
            .any(|&queue| self.queues[queue].is_full() || self.is_waited_for(queue))
    }

    /// Whether the producer of a queue waits for room in it.
    fn is_waited_for(&self, queue: usize) -> bool {
        let producer = &self.producers[self.sources[queue].0];
        let pending = producer.queues.iter().zip(&producer.pending);
        pending.into_iter().any(|(&of, pending)| of == queue && !pending.is_empty())
    }

    /// One worker takes nothing from this port any more. What was for it alone is discarded.
    pub(crate) fn close_lane(&mut self, consumer: Consumer, rank: usize, reason: Reason) {
        for queue in self.input_queues(consumer).to_vec() {
            if self.queues[queue].lane(rank) == rank && rank < self.lanes(queue) && self.lanes(queue) > 1 {
                self.queues[queue].close_lane(rank, reason);
                self.after_close(queue);
            }
        }
    }

    fn lanes(&self, queue: usize) -> usize {
        self.queues[queue].lanes()
    }

    /// Nobody takes anything from this port any more: what waits and what comes is discarded.
    pub(crate) fn close_consumer(&mut self, consumer: Consumer, reason: Reason) {
        for queue in self.input_queues(consumer).to_vec() {
            self.queues[queue].close_lanes(reason);
            self.after_close(queue);
        }
        note(&mut self.changes.consumers, consumer);
    }

    /// Nobody takes anything for this stage any more; its leases are discarded too.
    pub(crate) fn close_input(&mut self, stage: usize, reason: Reason) {
        if !self.leaves_exchange(stage)
            && let Some(exchange) = self.stages[stage].exchange
        {
            for lease in self.exchanges[exchange].clear() {
                self.queues[lease.queue].books.discard(reason, lease.open());
            }
            if reason == Reason::EdgeRemoved {
                // Results that had to wait for those of records that are gone. Of a stage that fails or is stopped only
                // what comes before the gap has left.
                self.let_go(exchange);
            }
        }
        for port in 0..self.stages[stage].inputs.len() {
            self.close_consumer(Consumer::Port { stage, port }, reason);
        }
        self.goes(stage);
    }

    fn after_close(&mut self, queue: usize) {
        self.resume(queue);
        let id = self.sources[queue];
        let producer = &self.producers[id.0];
        if producer.queues.iter().all(|&queue| self.queues[queue].has_no_consumer()) {
            note(&mut self.changes.unwanted, id);
            let producer = &mut self.producers[id.0];
            producer.was_cut_off |= !producer.has_ended;
        }
    }

    /// Whether nobody wants what it produces any more, and that was so before it had ended by itself: one whose readers
    /// have read to its end was not cut off by them.
    pub(crate) fn is_cut_off(&self, id: ProducerId) -> bool {
        self.producers[id.0].was_cut_off && self.is_unwanted(id)
    }

    /// Whether nobody wants what it produces any more. A port that leads nowhere is wanted: its worker does not
    /// know.
    pub(crate) fn is_unwanted(&self, id: ProducerId) -> bool {
        let queues = &self.producers[id.0].queues;
        !queues.is_empty() && queues.iter().all(|&queue| self.queues[queue].has_no_consumer())
    }

    // ---- the books

    /// What a stage's ports counted.
    pub(crate) fn counts(&self, stage: usize) -> StageCounts {
        let stage = &self.stages[stage];
        StageCounts {
            records_in: stage.records_in,
            records_out: stage.records_out,
            failed: stage.failed,
            retried: stage.retried,
        }
    }

    /// By queue: records that were discarded for this reason.
    pub(crate) fn discarded(&self, reason: Reason) -> Vec<u64> {
        self.queues.iter().map(|queue| queue.books.discarded(reason)).collect()
    }

    /// The run is over: whatever nobody took is discarded, and the books are closed.
    pub(crate) fn close_books(&mut self) -> Vec<EdgeReport> {
        for stage in 0..self.stages.len() {
            self.close_input(stage, Reason::Stopped);
        }
        self.close_consumer(Consumer::Stdout, Reason::Stopped);
        for queue in &mut self.queues {
            let open = queue.books.open();
            queue.books.discard(Reason::Stopped, open);
        }
        self.names.iter().zip(&self.queues).map(|(name, queue)| queue.books.report(name)).collect()
    }

    /// From now on a sample of what goes into this queue is kept.
    pub(crate) fn watch_queue(&mut self, queue: usize) {
        self.queues[queue].sampler.get_or_insert_with(Sampler::default);
    }

    /// Nobody wants to know what goes into this queue.
    pub(crate) fn forget_queue(&mut self, queue: usize) {
        self.queues[queue].sampler = None;
    }

    /// Whether anything has passed through a queue that is watched, and was not taken.
    pub(crate) fn has_samples(&self) -> bool {
        self.queues.iter().filter_map(|queue| queue.sampler.as_ref()).any(Sampler::has_seen_any)
    }

    /// What has passed through the queues that are watched, since the last call.
    pub(crate) fn take_samples(&mut self) -> Vec<(usize, Seen)> {
        let watched = self.queues.iter_mut().enumerate();
        let taken = watched.filter_map(|(position, queue)| Some((position, queue.sampler.as_mut()?.take())));
        taken.filter(|(_, seen)| !seen.records.is_empty()).collect()
    }

    /// The queues at this moment.
    pub(crate) fn snapshot(&self) -> Vec<EdgeSnapshot> {
        let look = |(position, queue): (usize, &Queue)| {
            let (capacity, capacity_bytes) = queue.bounds();
            EdgeSnapshot {
                edge: self.names[position].clone(),
                records: queue.records(),
                capacity,
                bytes: queue.bytes(),
                capacity_bytes,
                is_full: queue.is_full() || self.is_waited_for(position),
                records_in: queue.books.records_in,
                dropped: queue.books.dropped,
            }
        };
        self.queues.iter().enumerate().map(look).collect()
    }
}

/// Positions of the queues with this kind of end.
fn ends(plan: &Plan, is_end: fn(&QueuePlan) -> bool) -> Vec<usize> {
    (0..plan.queues.len()).filter(|&queue| is_end(&plan.queues[queue])).collect()
}

/// Adds to a short work list what is not on it yet.
fn note<T: PartialEq>(list: &mut Vec<T>, entry: T) {
    if !list.contains(&entry) {
        list.push(entry);
    }
}
