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
mod order;
mod queue;
mod sampler;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

pub(crate) use books::Reason;
pub(crate) use change::Takeover;
pub(crate) use exchange::ATTEMPTS_AFTER_DEATH;
use exchange::Exchange;
pub(crate) use exchange::{Failure, Lease, MAX_DELAYED_BYTES, Verdict};
pub(crate) use order::{MAX_AHEAD, MAX_HELD_BACK_BYTES, Results};
pub(crate) use queue::BLOCK_COST_BYTES;
use queue::Queue;
use sampler::Sampler;
pub(crate) use sampler::{SampledRecord, Seen};

use crate::graph::{Plan, QueuePlan};
use crate::ipc::{Block, Framing};
use crate::report::{EdgeReport, EdgeSnapshot};

/// The port of records whose attempts are used up.
const FAILED: &str = "failed";

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

    /// Records that were taken have reached their consumer.
    pub(crate) fn deliver(&mut self, queue: usize, records: u64) {
        self.queues[queue].books.delivered += records;
        if let Consumer::Port { stage, .. } = self.consumers[queue] {
            self.stages[stage].records_in += records;
        }
    }

    /// Records that were counted as delivered lie where their worker did not read them.
    pub(crate) fn undeliver(&mut self, queue: usize, records: u64) {
        self.queues[queue].books.delivered -= records;
        if let Consumer::Port { stage, .. } = self.consumers[queue] {
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
        self.input_queues(consumer)
            .iter()
            .all(|&queue| self.queues[queue].is_ended(self.queues[queue].lane(rank)))
    }

    /// Whether everything that will ever come to this stage has been taken, by whichever worker.
    pub(crate) fn is_input_ended(&self, stage: usize) -> bool {
        let is_done = |&queue: &usize| {
            let queue = &self.queues[queue];
            queue.has_no_consumer() || queue.is_over()
        };
        self.stages[stage].inputs.iter().flat_map(|input| &input.queues).all(is_done)
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
        }
        for port in 0..self.stages[stage].inputs.len() {
            self.close_consumer(Consumer::Port { stage, port }, reason);
        }
    }

    fn after_close(&mut self, queue: usize) {
        self.resume(queue);
        let id = self.sources[queue];
        let producer = &self.producers[id.0];
        if producer.queues.iter().all(|&queue| self.queues[queue].has_no_consumer()) {
            note(&mut self.changes.unwanted, id);
        }
    }

    /// Whether nobody wants what it produces any more. A port that leads nowhere is wanted: its worker does not
    /// know.
    pub(crate) fn is_unwanted(&self, id: ProducerId) -> bool {
        let queues = &self.producers[id.0].queues;
        !queues.is_empty() && queues.iter().all(|&queue| self.queues[queue].has_no_consumer())
    }

    // ---- leases

    /// Leases records of the stage's first input port to a worker: what was returned first, else at most so much
    /// from the queues, but one record if there is one. Returns what to hand over.
    pub(crate) fn lease(
        &mut self,
        stage: usize,
        rank: usize,
        max_bytes: usize,
        max_records: u64,
    ) -> Option<&Lease> {
        let framing = self.input_framing(stage);
        let seat = self.seat(stage, rank);
        let is_left = self.stages[stage].is_retired && self.shares_exchange(stage);
        let queues = &self.queues;
        let id = self.stages[stage].exchange?;
        let exchange = &mut self.exchanges[id];
        if exchange.holds_alone(seat) {
            return None;
        }
        // What was given back is the new form's of a stage that another has taken over from.
        let is_free = exchange.leases(seat).is_empty();
        let order = exchange.order.take();
        let may = |sequence| order.as_ref().is_none_or(|order| order.may_lease(sequence));
        let returned = exchange.take_returned(max_records, framing, |lease| {
            !is_left
                && queues[lease.queue].lane(rank) == lease.lane
                && may(lease.sequence)
                && (is_free || !lease.alone)
        });
        let may_take = exchange.may_take_new() && may(exchange.next_sequence());
        exchange.order = order;
        let lease = match returned {
            Some(lease) => lease,
            None if may_take => {
                let (queue, block) =
                    self.take(Consumer::Port { stage, port: 0 }, rank, max_bytes, max_records)?;
                let lane = self.queues[queue].lane(rank);
                // It may be held, or wait for its next attempt, when all else of its read has gone.
                self.exchanges[id].number(block.kept(), queue, lane)
            }
            None => return None,
        };
        let exchange = &mut self.exchanges[id];
        exchange.hold(seat, lease);
        exchange.leases(seat).back()
    }

    /// Leases a batch: like [`Broker::lease`], but of several blocks where one is not enough. `false` where there
    /// is nothing.
    pub(crate) fn lease_gathered(
        &mut self,
        stage: usize,
        rank: usize,
        max_bytes: usize,
        max_records: u64,
    ) -> bool {
        let seat = self.seat(stage, rank);
        let Some(first) = self.lease(stage, rank, max_bytes, max_records) else { return false };
        let (queue, attempts, after) = (first.queue, first.attempts, first.sequence + first.block.records);
        let (mut bytes, mut records) = (first.block.len(), first.block.records);
        // What is added has the next places in the order of records. Those of a batch that was given back may long be
        // followed by others'.
        let is_new = attempts == 0 && after == self.exchange(stage).next_sequence();
        let mut more = Vec::new();
        let lane = self.queues[queue].lane(rank);
        while is_new && records < max_records && bytes < max_bytes {
            // The next record might be too large for what is left; a batch takes one too many only at its start.
            let next = self.queues[queue].front_len(lane);
            if next.is_none_or(|next| bytes + next > max_bytes) {
                break;
            }
            let Some(block) = self.queues[queue].take(lane, max_bytes - bytes, max_records - records) else {
                break;
            };
            bytes += block.len();
            records += block.records;
            more.push(block);
        }
        if !more.is_empty() {
            let framing = self.queues[queue].framing();
            self.exchange_mut(stage).extend_last(seat, more, framing);
            self.resume(queue);
        }
        true
    }

    /// Leases one record for the process that takes the place of this worker's. `false` where there is none.
    pub(crate) fn reserve(&mut self, stage: usize, rank: usize) -> bool {
        let seat = self.seat(stage, rank);
        let is_leased =
            self.reserved(stage, rank).is_none() && self.lease(stage, rank, usize::MAX, 1).is_some();
        if is_leased {
            self.exchange_mut(stage).reserve_last(seat);
        }
        is_leased
    }

    /// What is reserved for the successor of a worker.
    pub(crate) fn reserved(&self, stage: usize, rank: usize) -> Option<&Lease> {
        self.exchange(stage).reserved(self.seat(stage, rank))
    }

    /// The successor is there, and holds what was reserved for it.
    pub(crate) fn succeed(&mut self, stage: usize, rank: usize) {
        let seat = self.seat(stage, rank);
        self.exchange_mut(stage).succeed(seat);
    }

    /// There will be no successor: what was reserved for it is anybody's again, uncounted.
    pub(crate) fn give_back_reserved(&mut self, stage: usize, rank: usize) {
        let seat = self.seat(stage, rank);
        self.exchange_mut(stage).give_back_reserved(seat);
        note(&mut self.changes.consumers, Consumer::Port { stage, port: 0 });
    }

    /// Whether records wait for another attempt that this worker may have.
    pub(crate) fn has_returned(&self, stage: usize, rank: usize) -> bool {
        self.exchange(stage).has_returned(|lease| self.queues[lease.queue].lane(rank) == lease.lane)
    }

    /// Whether nothing more comes to this port than what waits.
    pub(crate) fn no_more_comes(&self, consumer: Consumer) -> bool {
        self.input_queues(consumer).iter().all(|&queue| self.queues[queue].is_closed())
    }

    /// Records that a worker holds.
    pub(crate) fn held(&self, stage: usize, rank: usize) -> u64 {
        self.exchange(stage).held(self.seat(stage, rank))
    }

    /// What a worker holds, the record it works on first.
    pub(crate) fn leases(&self, stage: usize, rank: usize) -> impl Iterator<Item = &Lease> {
        self.exchange(stage).leases(self.seat(stage, rank)).iter()
    }

    /// A worker's place in the exchange of its stage.
    fn seat(&self, stage: usize, rank: usize) -> usize {
        self.stages[stage].seats[rank]
    }

    fn exchange(&self, stage: usize) -> &Exchange {
        let exchange = self.stages[stage].exchange.expect("only leased stages are asked for their leases");
        &self.exchanges[exchange]
    }

    fn exchange_mut(&mut self, stage: usize) -> &mut Exchange {
        let exchange = self.stages[stage].exchange.expect("only leased stages are asked for their leases");
        &mut self.exchanges[exchange]
    }

    /// Whether all that ever came to this leased stage is given out or answered, and none will come.
    pub(crate) fn has_given_all(&self, stage: usize) -> bool {
        self.is_input_ended(stage) && !self.exchange(stage).has_waiting()
    }

    /// Whether every record that came to this leased stage is answered, and none will come.
    pub(crate) fn is_answered(&self, stage: usize) -> bool {
        self.is_input_ended(stage) && self.exchange(stage).is_idle()
    }

    /// A `map` worker has answered its first records, one result each, which leave by the output port `port`.
    pub(crate) fn answer(
        &mut self,
        stage: usize,
        rank: usize,
        port: Option<usize>,
        framing: Framing,
        mut results: Block,
    ) -> Result<(), TooMany> {
        let seat = self.seat(stage, rank);
        let answered = results.records;
        let held = self.held(stage, rank);
        let Some(parts) = self.exchange_mut(stage).answer(seat, answered) else {
            return Err(TooMany { held, answered });
        };
        for part in &parts {
            self.deliver(part.queue, part.records);
        }
        if self.exchange(stage).order.is_none() {
            if let Some(port) = port {
                self.publish(self.output(stage, port), results);
            }
            return Ok(());
        }
        for part in parts {
            let block = results.take_records(framing, part.records);
            let results = port.map(|port| (port, block)).into_iter().collect();
            self.leave(stage, part.sequence, part.records, results);
        }
        Ok(())
    }

    /// A function worker has answered its first `records` records, which are of one lease, all together by these
    /// results.
    pub(crate) fn answer_with(
        &mut self,
        stage: usize,
        rank: usize,
        records: u64,
        results: Results,
    ) -> Result<(), TooMany> {
        let seat = self.seat(stage, rank);
        let held = self.leases(stage, rank).next().map_or(0, Lease::open);
        if records > held {
            return Err(TooMany { held, answered: records });
        }
        let parts = self.exchange_mut(stage).answer(seat, records).unwrap_or_default();
        if let Some(part) = parts.first() {
            self.deliver(part.queue, part.records);
            self.leave(stage, part.sequence, part.records, results);
        }
        Ok(())
    }

    /// A worker is gone that was to answer several records together: see [`Lease::alone`].
    pub(crate) fn suspect(&mut self, stage: usize, rank: usize) {
        let seat = self.seat(stage, rank);
        let framing = self.input_framing(stage);
        self.exchange_mut(stage).suspect(seat, framing);
        self.give_back(stage, rank);
    }

    /// An `each` process has done all that it was started for; its results leave whole.
    pub(crate) fn answer_all(&mut self, stage: usize, rank: usize, results: Results) {
        let seat = self.seat(stage, rank);
        let Some(lease) = self.exchange_mut(stage).take_held(seat) else { return };
        self.deliver(lease.queue, lease.block.records);
        self.leave(stage, lease.sequence, lease.block.records, results);
    }

    /// Lets results go, in order where the stage is ordered.
    fn leave(&mut self, stage: usize, sequence: u64, records: u64, results: Results) {
        let results = results.into_iter().map(|(port, block)| (self.output(stage, port), block)).collect();
        let leaving = match &mut self.exchange_mut(stage).order {
            Some(order) => order.put(sequence, records, results),
            None => vec![results],
        };
        // Others may have waited for this place.
        self.note_exchange(stage);
        for (producer, block) in leaving.into_iter().flatten() {
            self.publish(producer, block);
        }
    }

    /// A worker is gone, and no record is to blame: all that it holds goes back to the front, uncounted.
    pub(crate) fn give_back(&mut self, stage: usize, rank: usize) {
        let seat = self.seat(stage, rank);
        let framing = self.input_framing(stage);
        self.exchange_mut(stage).give_back(seat, framing);
        self.return_to_queues(stage);
        self.note_exchange(stage);
    }

    /// The record that a `map` worker was working on has failed; the others it holds stay with it.
    pub(crate) fn fail_current(
        &mut self,
        stage: usize,
        rank: usize,
        failure: Failure,
        now: Instant,
    ) -> Option<Verdict> {
        let seat = self.seat(stage, rank);
        let framing = self.input_framing(stage);
        let lease = self.exchange_mut(stage).take_current(seat, framing)?;
        Some(self.judge(stage, lease, failure, now))
    }

    /// All that an `each` process was started for has failed.
    pub(crate) fn fail_held(
        &mut self,
        stage: usize,
        rank: usize,
        failure: Failure,
        now: Instant,
    ) -> Option<Verdict> {
        let seat = self.seat(stage, rank);
        let lease = self.exchange_mut(stage).take_held(seat)?;
        Some(self.judge(stage, lease, failure, now))
    }

    fn judge(&mut self, stage: usize, lease: Lease, failure: Failure, now: Instant) -> Verdict {
        let verdict = self.exchange_mut(stage).judge(lease, failure, now);
        match &verdict {
            Verdict::Again { .. } => self.stages[stage].retried += 1,
            Verdict::UsedUp(lease) => {
                self.queues[lease.queue].books.failed += lease.block.records;
                let counts = &mut self.stages[stage];
                counts.failed += lease.block.records;
                counts.records_in += lease.block.records;
                self.leave(stage, lease.sequence, lease.block.records, Results::new());
            }
        }
        self.return_to_queues(stage);
        self.note_exchange(stage);
        verdict
    }

    /// How the records of a leased stage's input end.
    pub(crate) fn input_framing(&self, stage: usize) -> Framing {
        self.stages[stage].framing
    }

    /// When a record that waits for its next attempt may have it.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.exchanges.iter().filter_map(Exchange::next_due).min()
    }

    /// Lets the records go on whose time has come.
    pub(crate) fn wake_delayed(&mut self, now: Instant) {
        for stage in 0..self.stages.len() {
            let Some(exchange) = self.stages[stage].exchange else { continue };
            let exchange = &mut self.exchanges[exchange];
            if exchange.next_due().is_some_and(|due| due <= now) {
                exchange.wake_delayed(now);
                note(&mut self.changes.consumers, Consumer::Port { stage, port: 0 });
            }
        }
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
        let look = |(position, queue): (usize, &Queue)| EdgeSnapshot {
            edge: self.names[position].clone(),
            records: queue.records(),
            bytes: queue.bytes(),
            is_full: queue.is_full() || self.is_waited_for(position),
            records_in: queue.books.records_in,
            dropped: queue.books.dropped,
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
