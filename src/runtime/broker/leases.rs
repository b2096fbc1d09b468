//! Records in hand: given to a worker, answered, given back.

use std::cell::Cell;
use std::time::Instant;

use super::{Broker, Consumer, Exchange, Failure, Guilt, Lease, Results, TooMany, Verdict, note};
use crate::ipc::{Block, Framing};

impl Broker {
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
        let id = self.stages[stage].exchange?;
        self.part_strays(stage, id);
        let exchange = &self.exchanges[id];
        if exchange.holds_alone(seat) {
            return None;
        }
        // What was given back is the new form's of a stage that another has taken over from.
        let is_left = self.stages[stage].is_retired && self.shares_exchange(stage);
        let is_free = exchange.leases(seat).is_empty();
        let is_held_back = Cell::new(false);
        let may = |sequence| {
            let may = exchange.order.as_ref().is_none_or(|order| order.may_lease(sequence));
            is_held_back.set(is_held_back.get() || !may);
            may
        };
        let returned = exchange.returned().position(|lease| {
            !is_left && may(lease.sequence) && (is_free || !lease.alone) && self.is_for(stage, rank, lease)
        });
        let may_take = exchange.may_take_new() && may(exchange.next_sequence());
        let is_held_back = is_held_back.get();
        self.exchanges[id].has_held_back |= is_held_back;
        let lease = match returned {
            Some(position) => self.exchanges[id].take_returned(position, max_records, framing),
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

    /// Whether this worker may have what was given back.
    fn is_for(&self, stage: usize, rank: usize, lease: &Lease) -> bool {
        let queue = &self.queues[lease.queue];
        let is_own = self.consumers[lease.queue] == (Consumer::Port { stage, port: 0 });
        if queue.is_shared() {
            return true;
        }
        if is_own && let Some(lane) = lease.lane {
            return lane == rank;
        }
        // The pool of the form before may have been of another width. Records of one key still go to one worker, and where
        // there are no keys any more, to anybody.
        let framing = self.input_framing(stage);
        let first = framing.body(&lease.block.data[..framing.first(&lease.block.data)]);
        let lane = if is_own { queue.lane_of(first) } else { self.lane_of(stage, first) };
        lane.is_none_or(|lane| lane == rank)
    }

    /// The worker that a record belongs to by its key.
    fn lane_of(&self, stage: usize, body: &[u8]) -> Option<usize> {
        let own = Consumer::Port { stage, port: 0 };
        let mut queues = self.stages[stage].inputs[0].queues.iter().filter(|&&of| self.consumers[of] == own);
        queues.find_map(|&of| self.queues[of].lane_of(body))
    }

    /// What was given back by the form before, of which each worker had others of all keys, is parted.
    fn part_strays(&mut self, stage: usize, exchange: usize) {
        let own = Consumer::Port { stage, port: 0 };
        let is_stray = |lease: &Lease| {
            let has_keys = !self.queues[lease.queue].is_shared() && self.lane_of(stage, &[]).is_some();
            let is_for_other_lanes = self.consumers[lease.queue] != own || lease.lane.is_none();
            lease.block.records > 1 && has_keys && is_for_other_lanes
        };
        if self.exchanges[exchange].returned().any(is_stray) {
            let strays: Vec<bool> = self.exchanges[exchange].returned().map(is_stray).collect();
            let framing = self.input_framing(stage);
            self.exchanges[exchange].part_returned(&strays, framing);
        }
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

    /// Leases one record for one more process that takes this worker's place when those before it have ended. `false`
    /// where there is none.
    pub(crate) fn reserve(&mut self, stage: usize, rank: usize) -> bool {
        let seat = self.seat(stage, rank);
        let is_leased = self.lease(stage, rank, usize::MAX, 1).is_some();
        if is_leased {
            self.exchange_mut(stage).reserve_last(seat);
        }
        is_leased
    }

    /// What is reserved for the last of a worker's successors.
    pub(crate) fn last_reserved(&self, stage: usize, rank: usize) -> Option<&Lease> {
        self.exchange(stage).last_reserved(self.seat(stage, rank))
    }

    /// The first successor is there, and holds what was reserved for it.
    pub(crate) fn succeed(&mut self, stage: usize, rank: usize) {
        let seat = self.seat(stage, rank);
        self.exchange_mut(stage).succeed(seat);
    }

    /// There will be no successor at this place of the line: what was reserved for it is anybody's again, uncounted.
    pub(crate) fn give_back_reserved(&mut self, stage: usize, rank: usize, place: usize) {
        let seat = self.seat(stage, rank);
        self.exchange_mut(stage).give_back_reserved(seat, place);
        self.return_to_queues(stage);
        self.note_exchange(stage);
    }

    /// Whether records wait for another attempt that this worker may have.
    pub(crate) fn has_returned(&self, stage: usize, rank: usize) -> bool {
        self.exchange(stage).returned().any(|lease| self.is_for(stage, rank, lease))
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

    pub(super) fn exchange_mut(&mut self, stage: usize) -> &mut Exchange {
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
            self.deliver(Some(stage), part.queue, part.records);
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
            self.deliver(Some(stage), part.queue, part.records);
            self.leave(stage, part.sequence, part.records, results);
        }
        Ok(())
    }

    /// What a `map` worker holds at this position was handed over to it, from this byte on of all that it is given.
    pub(crate) fn handed_over(&mut self, stage: usize, rank: usize, position: usize, begins: u64) {
        let seat = self.seat(stage, rank);
        self.exchange_mut(stage).handed_over(seat, position, begins);
    }

    /// Which record is charged with the death of a `map` worker that has read so many bytes of what it was given: see
    /// [`Exchange::guilt`].
    pub(crate) fn guilt(&self, stage: usize, rank: usize, read: u64, together: bool) -> Guilt {
        self.exchange(stage).guilt(self.seat(stage, rank), self.input_framing(stage), read, together)
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
        self.deliver(Some(stage), lease.queue, lease.block.records);
        self.leave(stage, lease.sequence, lease.block.records, results);
    }

    /// Lets results go, in order where the stage is ordered.
    fn leave(&mut self, stage: usize, sequence: u64, records: u64, results: Results) {
        let results = results.into_iter().map(|(port, block)| (self.output(stage, port), block)).collect();
        let leaving = match &mut self.exchange_mut(stage).order {
            Some(order) => order.put(sequence, records, results),
            None => vec![results],
        };
        // Others may have waited for this place; and the last answer to one form of a stage is news for the other.
        let have_waited = std::mem::take(&mut self.exchange_mut(stage).has_held_back);
        if have_waited || self.shares_exchange(stage) {
            self.note_exchange(stage);
        }
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
}
