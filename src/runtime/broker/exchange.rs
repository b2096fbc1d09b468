//! Leases: who holds which record of a `map` or `each` stage, and what becomes of it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::order::Order;
use super::queue::BLOCK_COST_BYTES;
use crate::ipc::{Block, Framing};
use crate::model::Retry;

/// Records that one worker was given and has not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The records. Of a `map` stage, those that were tried before come alone; a batch stays one.
    pub(crate) block: Block,
    /// The queue they came through, for the books.
    pub(crate) queue: usize,
    /// The lane they belong to. `None`: their queue has been given other lanes since they were taken from it.
    pub(crate) lane: Option<usize>,
    /// Of the first record not answered: its place in the order in which records came, from 0.
    pub(crate) sequence: u64,
    /// Failed attempts at these records.
    pub(crate) attempts: u32,
    /// Records of the block that are answered.
    pub(crate) answered: u64,
    /// Of a `map` stage: where they begin among the bytes that their worker was given.
    pub(crate) begins: u64,
    /// A worker died that held these among others: they are tried one by one, by workers that hold nothing else, so
    /// that exactly the guilty one is charged.
    pub(crate) alone: bool,
}

impl Lease {
    /// Records not answered yet.
    pub(crate) fn open(&self) -> u64 {
        self.block.records - self.answered
    }

    /// What it holds while it waits.
    fn cost(&self) -> u64 {
        self.block.cost() + BLOCK_COST_BYTES
    }

    /// Whether a worker that has read so many bytes of what it was given may have begun its first open record.
    fn may_be_begun(&self, framing: Framing, read: u64) -> bool {
        let mut answered = self.answered;
        let is_answered = |place: &&[u8]| {
            let records = framing.count_in(place);
            let is_answered = records <= answered;
            answered = answered.saturating_sub(records);
            is_answered
        };
        let before: usize = framing.records(&self.block.data).take_while(is_answered).map(<[u8]>::len).sum();
        read > self.begins + before as u64
    }

    /// What is not answered, as a lease of its own.
    fn rest(mut self, framing: Framing) -> Option<Self> {
        if self.answered > 0 {
            self.block.take_records(framing, self.answered);
            self.answered = 0;
        }
        (!self.block.is_empty()).then_some(self)
    }

    /// Its first record, and the others where there are any. None of them is answered.
    fn split_first(mut self, framing: Framing) -> (Self, Option<Self>) {
        let block = self.block.take_records(framing, 1);
        let first = Self { block, ..self.clone() };
        self.sequence += first.block.records;
        let rest = (!self.block.is_empty()).then_some(self);
        (first, rest)
    }
}

/// Which record the death of a `map` worker is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guilt {
    /// None: it had read nothing of any that it did not answer.
    None,
    /// The one that it worked on.
    Current,
    /// One of several that it was to answer together, and nobody knows which.
    OneOfSeveral,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// By its own account: an exit code, an exception.
    Error,
    /// The worker died, which may have had nothing to do with the record.
    Death,
}

/// A worker's death by itself always allows this many attempts (the language, section 5).
pub(crate) const ATTEMPTS_AFTER_DEATH: u32 = 3;

/// Records of one stage that wait for their next attempt at most, in bytes; then no new ones are taken until some
/// of these have had it.
pub(crate) const MAX_DELAYED_BYTES: u64 = 8 << 20;

/// What is to become of a record after a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is tried again, at once or later; it has been put back.
    Again { attempts: u32, delay: Duration },
    /// Its attempts are used up.
    UsedUp(Lease),
}

/// A lease that waits for its time; ordered by it, the earliest first out of the heap.
#[derive(Debug, PartialEq, Eq)]
struct Delayed {
    at: Reverse<Instant>,
    sequence: Reverse<u64>,
    lease: Box<Lease>,
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The leases of one stage.
#[derive(Debug)]
pub(crate) struct Exchange {
    retry: Retry,
    /// By rank: in the order in which they were given.
    held: Vec<VecDeque<Lease>>,
    /// By rank: for the processes that take the place of the one that is there, one after the other.
    reserved: Vec<VecDeque<Lease>>,
    /// To be given out before anything from the queues.
    returned: VecDeque<Lease>,
    delayed: BinaryHeap<Delayed>,
    /// What the delayed hold, the engine's own cost counted.
    delayed_bytes: u64,
    next_sequence: u64,
    pub(crate) order: Option<Order>,
    /// The order has kept a worker from being given a record.
    pub(crate) has_held_back: bool,
}

impl Exchange {
    pub(crate) fn new(width: usize, retry: Retry, ordered: bool) -> Self {
        Self {
            retry,
            held: vec![VecDeque::new(); width],
            reserved: vec![VecDeque::new(); width],
            returned: VecDeque::new(),
            delayed: BinaryHeap::new(),
            delayed_bytes: 0,
            next_sequence: 0,
            order: ordered.then(Order::default),
            has_held_back: false,
        }
    }

    /// Places for so many more workers that may hold records.
    pub(crate) fn add_seats(&mut self, count: usize) -> Vec<usize> {
        let seats = self.held.len()..self.held.len() + count;
        self.held.resize_with(seats.end, VecDeque::new);
        self.reserved.resize_with(seats.end, VecDeque::new);
        seats.collect()
    }

    /// From now on records are tried so often.
    pub(crate) fn set_retry(&mut self, retry: Retry) {
        self.retry = retry;
    }

    /// What waits for another attempt, now or later, in order.
    pub(crate) fn take_waiting(&mut self) -> Vec<Lease> {
        self.delayed_bytes = 0;
        for delayed in std::mem::take(&mut self.delayed) {
            self.put_back(*delayed.lease);
        }
        std::mem::take(&mut self.returned).into()
    }

    /// Nobody holds anything: what waits is numbered anew, and results leave in order from now on, or as they come.
    pub(crate) fn set_ordered(&mut self, ordered: bool) {
        let waiting = self.take_waiting();
        self.next_sequence = 0;
        for mut lease in waiting {
            lease.sequence = self.next_sequence;
            self.next_sequence += lease.open();
            self.put_back(lease);
        }
        self.order = ordered.then(Order::default);
    }

    /// Records that a worker holds.
    pub(crate) fn held(&self, rank: usize) -> u64 {
        self.held[rank].iter().map(Lease::open).sum()
    }

    /// The records that a worker holds, the one it works on first.
    pub(crate) fn leases(&self, rank: usize) -> &VecDeque<Lease> {
        &self.held[rank]
    }

    /// Whether nothing is held, returned or delayed.
    pub(crate) fn is_idle(&self) -> bool {
        self.returned.is_empty()
            && self.delayed.is_empty()
            && self.held.iter().all(VecDeque::is_empty)
            && self.reserved.iter().all(VecDeque::is_empty)
    }

    /// Whether records wait for another attempt, now or later.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.returned.is_empty() || !self.delayed.is_empty()
    }

    /// Whether records that come for the first time may be given out: not while too much waits for another attempt,
    /// which nothing else would bound.
    pub(crate) fn may_take_new(&self) -> bool {
        self.delayed_bytes < MAX_DELAYED_BYTES
    }

    /// When the next delayed record may be tried again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.delayed.peek().map(|delayed| delayed.at.0)
    }

    /// Puts the delayed whose time has come with the returned.
    pub(crate) fn wake_delayed(&mut self, now: Instant) {
        while self.delayed.peek().is_some_and(|delayed| delayed.at.0 <= now) {
            if let Some(delayed) = self.delayed.pop() {
                self.delayed_bytes -= delayed.lease.cost();
                self.put_back(*delayed.lease);
            }
        }
    }

    /// What is to be given out before anything from the queues, in order.
    pub(crate) fn returned(&self) -> impl Iterator<Item = &Lease> {
        self.returned.iter()
    }

    /// Takes returned records, at most so many: one where they are tried one by one.
    pub(crate) fn take_returned(&mut self, position: usize, max_records: u64, framing: Framing) -> Lease {
        let lease = &mut self.returned[position];
        let max_records = if lease.alone { 1 } else { max_records };
        if lease.block.records <= max_records {
            return self.returned.remove(position).expect("it was just looked at");
        }
        // What one worker held may be more than another is to have.
        let block = lease.block.take_records(framing, max_records);
        let first = Lease { block, ..lease.clone() };
        lease.sequence += first.block.records;
        first
    }

    /// Of what was returned, in order: which is parted into leases of one record each.
    pub(crate) fn part_returned(&mut self, which: &[bool], framing: Framing) {
        for (lease, &is_parted) in std::mem::take(&mut self.returned).into_iter().zip(which) {
            let mut rest = Some(lease);
            while let Some(lease) = rest.take_if(|_| is_parted) {
                let (first, others) = lease.split_first(framing);
                self.returned.push_back(first);
                rest = others;
            }
            self.returned.extend(rest);
        }
    }

    /// Whether a worker holds records that are tried one by one: it is given nothing else.
    pub(crate) fn holds_alone(&self, rank: usize) -> bool {
        self.held[rank].iter().any(|lease| lease.alone)
    }

    /// A worker has died in the middle of several records that it was to answer, and nobody knows at which: what it was
    /// given first goes back to be tried one by one.
    pub(crate) fn suspect(&mut self, rank: usize, framing: Framing) {
        if let Some(mut lease) = self.held[rank].pop_front().and_then(|lease| lease.rest(framing)) {
            lease.alone = true;
            self.put_back(lease);
        }
    }

    /// A lease of records that come from a queue for the first time.
    pub(crate) fn number(&mut self, block: Block, queue: usize, lane: usize) -> Lease {
        let sequence = self.next_sequence;
        self.next_sequence += block.records;
        let lane = Some(lane);
        Lease { block, queue, lane, sequence, attempts: 0, answered: 0, begins: 0, alone: false }
    }

    /// This queue has been given other lanes.
    pub(crate) fn lanes_changed(&mut self, queue: usize) {
        let mut delayed = std::mem::take(&mut self.delayed).into_vec();
        let leases = self.held.iter_mut().flatten().chain(self.reserved.iter_mut().flatten());
        let waiting = self.returned.iter_mut().chain(delayed.iter_mut().map(|delayed| &mut *delayed.lease));
        leases.chain(waiting).filter(|lease| lease.queue == queue).for_each(|lease| lease.lane = None);
        self.delayed = delayed.into();
    }

    /// The place in order of the next record that comes for the first time.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// A worker gets it.
    pub(crate) fn hold(&mut self, rank: usize, lease: Lease) {
        self.held[rank].push_back(lease);
    }

    /// What a worker holds at this position was handed over to it, from this byte on of all that it is given.
    pub(crate) fn handed_over(&mut self, rank: usize, position: usize, begins: u64) {
        if let Some(lease) = self.held[rank].get_mut(position) {
            lease.begins = begins;
        }
    }

    /// Which record is charged with the death of a worker that has read so many bytes of what it was given.
    /// `together`: records of one lease are answered together, as far as the worker pleases.
    pub(crate) fn guilt(&self, rank: usize, framing: Framing, read: u64, together: bool) -> Guilt {
        match self.held[rank].front() {
            Some(lease) if !lease.may_be_begun(framing, read) => Guilt::None,
            Some(lease) if together && lease.open() > 1 => Guilt::OneOfSeveral,
            Some(_) => Guilt::Current,
            None => Guilt::None,
        }
    }

    /// What a worker was given last is for the last of its successors.
    pub(crate) fn reserve_last(&mut self, rank: usize) {
        let last = self.held[rank].pop_back();
        self.reserved[rank].extend(last);
    }

    /// What is reserved for the last of a worker's successors.
    pub(crate) fn last_reserved(&self, rank: usize) -> Option<&Lease> {
        self.reserved[rank].back()
    }

    /// The first successor is there: it holds what was reserved for it.
    pub(crate) fn succeed(&mut self, rank: usize) {
        let first = self.reserved[rank].pop_front();
        self.held[rank].extend(first);
    }

    /// There will be no successor at this place of the line: what was reserved for it goes back to the front, uncounted.
    pub(crate) fn give_back_reserved(&mut self, rank: usize, place: usize) {
        if let Some(lease) = self.reserved[rank].remove(place) {
            self.put_back(lease);
        }
    }

    /// There will be no successors.
    pub(crate) fn give_back_all_reserved(&mut self, rank: usize) {
        for lease in std::mem::take(&mut self.reserved[rank]) {
            self.put_back(lease);
        }
    }

    /// What a worker was given last is longer by these blocks: a batch.
    pub(crate) fn extend_last(&mut self, rank: usize, blocks: Vec<Block>, framing: Framing) {
        let Some(lease) = self.held[rank].back_mut() else { return };
        let mut bytes = BytesMut::from(&lease.block.data[..]);
        let mut is_open = lease.block.is_open;
        for block in blocks {
            if is_open {
                bytes.extend(framing.end());
            }
            bytes.extend_from_slice(&block.data);
            lease.block.records += block.records;
            lease.block.pins.join(&block.pins);
            self.next_sequence += block.records;
            is_open = block.is_open;
        }
        lease.block.data = bytes.freeze();
        lease.block.is_open = is_open;
    }

    /// A worker has answered its first `records` records: for each lease they are of, its queue, the place of
    /// the first, and how many. `None` when it holds fewer; nothing has changed then.
    pub(crate) fn answer(&mut self, rank: usize, mut records: u64) -> Option<Vec<Answered>> {
        if self.held(rank) < records {
            return None;
        }
        let mut answered = Vec::new();
        while records > 0 {
            let lease = self.held[rank].front_mut()?;
            let part = lease.open().min(records);
            answered.push(Answered { queue: lease.queue, sequence: lease.sequence, records: part });
            lease.answered += part;
            lease.sequence += part;
            records -= part;
            if lease.open() == 0 {
                self.held[rank].pop_front();
            }
        }
        Some(answered)
    }

    /// Takes all that a worker holds from it, uncounted, back to the front, in order.
    pub(crate) fn give_back(&mut self, rank: usize, framing: Framing) {
        for lease in std::mem::take(&mut self.held[rank]).into_iter().rev() {
            if let Some(rest) = lease.rest(framing) {
                self.put_back(rest);
            }
        }
    }

    /// The record that a worker is working on, alone, taken from it.
    pub(crate) fn take_current(&mut self, rank: usize, framing: Framing) -> Option<Lease> {
        let (first, rest) = self.held[rank].pop_front()?.rest(framing)?.split_first(framing);
        if let Some(rest) = rest {
            self.held[rank].push_front(rest);
        }
        Some(first)
    }

    /// All that a worker holds as one lease: what an `each` process was started for.
    pub(crate) fn take_held(&mut self, rank: usize) -> Option<Lease> {
        self.held[rank].pop_front()
    }

    /// An attempt has failed: the records are tried again or their attempts are used up.
    pub(crate) fn judge(&mut self, mut lease: Lease, failure: Failure, now: Instant) -> Verdict {
        lease.attempts += 1;
        let allowed = match failure {
            Failure::Error => self.retry.attempts,
            Failure::Death => self.retry.attempts.max(ATTEMPTS_AFTER_DEATH),
        };
        if lease.attempts >= allowed {
            return Verdict::UsedUp(lease);
        }
        let attempts = lease.attempts;
        let delay = self.delay(attempts);
        if delay.is_zero() {
            self.put_back(lease);
        } else {
            let sequence = Reverse(lease.sequence);
            self.delayed_bytes += lease.cost();
            self.delayed.push(Delayed { at: Reverse(now + delay), sequence, lease: Box::new(lease) });
        }
        Verdict::Again { attempts, delay }
    }

    fn delay(&self, attempts: u32) -> Duration {
        let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.retry.delay.as_secs_f64() * self.retry.factor.powi(exponent);
        let most = self.retry.max_delay.max(self.retry.delay);
        Duration::try_from_secs_f64(seconds).unwrap_or(most).min(most)
    }

    /// Back to the front, by the order in which records came.
    pub(crate) fn put_back(&mut self, lease: Lease) {
        let position = self.returned.partition_point(|other| other.sequence < lease.sequence);
        self.returned.insert(position, lease);
    }

    /// Everything that is not answered, for the books.
    pub(crate) fn clear(&mut self) -> Vec<Lease> {
        let held = self.held.iter_mut().chain(&mut self.reserved).flat_map(std::mem::take);
        self.delayed_bytes = 0;
        let delayed = std::mem::take(&mut self.delayed).into_iter().map(|delayed| *delayed.lease);
        held.chain(std::mem::take(&mut self.returned)).chain(delayed).collect()
    }
}

/// Records of one lease that were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) queue: usize,
    pub(crate) sequence: u64,
    pub(crate) records: u64,
}
