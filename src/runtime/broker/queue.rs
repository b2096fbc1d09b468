//! The bounded store of records on one edge.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::books::{Books, Reason};
use super::sampler::Sampler;
use crate::graph::QueuePlan;
use crate::ipc::{Block, Framing, key_of};
use crate::model::{PartitionKey, WhenFull};

/// What a block costs the engine besides its bytes; counted against `capacity_bytes`, so that a queue of a
/// million empty lines is bounded too.
pub(crate) const BLOCK_COST_BYTES: u64 = 96;

/// How the workers of the consuming pool share the records.
#[derive(Debug, Clone, PartialEq)]
enum Sharing {
    /// By demand: one lane for all.
    Demand,
    /// By key: a lane for each worker.
    Key(PartitionKey),
    /// Each gets all: a lane for each worker.
    All,
}

impl Sharing {
    fn of(plan: &QueuePlan) -> Self {
        match &plan.options.partition_by {
            Some(key) => Self::Key(key.clone()),
            None if plan.options.to_each => Self::All,
            None => Self::Demand,
        }
    }

    /// `width`: the workers of the consuming pool.
    fn lanes(&self, width: usize) -> Vec<Lane> {
        let lanes = if *self == Self::Demand { 1 } else { width };
        (0..lanes).map(|_| Lane::default()).collect()
    }
}

/// Records that wait for one worker, or for whoever comes first.
#[derive(Debug, Default)]
struct Lane {
    blocks: VecDeque<Block>,
    records: u64,
    bytes: u64,
    /// Nobody takes from it any more.
    closed: Option<Reason>,
}

impl Lane {
    fn push_back(&mut self, block: Block) {
        self.records += block.records;
        self.bytes += block.cost() + BLOCK_COST_BYTES;
        self.blocks.push_back(block);
    }

    fn push_front(&mut self, block: Block) {
        self.records += block.records;
        self.bytes += block.cost() + BLOCK_COST_BYTES;
        self.blocks.push_front(block);
    }

    fn take(&mut self, framing: Framing, max_bytes: usize, max_records: u64) -> Option<Block> {
        let front = self.blocks.front_mut()?;
        let before = front.cost();
        let block = front.take_front(framing, max_bytes, max_records);
        self.records -= block.records;
        // Both parts of a chunk that was split have all its bytes.
        self.bytes = self.bytes - before + front.cost();
        if front.is_empty() {
            self.blocks.pop_front();
            self.bytes -= BLOCK_COST_BYTES;
        }
        Some(block)
    }

    fn clear(&mut self) -> u64 {
        self.blocks.clear();
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }

    fn take_all(&mut self) -> VecDeque<Block> {
        let all = std::mem::take(&mut self.blocks);
        self.clear();
        all
    }
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    framing: Framing,
    capacity: u64,
    capacity_bytes: u64,
    when_full: WhenFull,
    sharing: Sharing,
    lanes: Vec<Lane>,
    /// All producers have ended: nothing comes any more.
    is_closed: bool,
    /// Bytes of the record that last found no room. A queue whose last bytes nothing fits into is full.
    refused: usize,
    pub(crate) books: Books,
    /// Where somebody looks on.
    pub(super) sampler: Option<Sampler>,
}

impl Queue {
    /// `width`: the workers of the consuming pool.
    pub(crate) fn new(plan: &QueuePlan, width: usize) -> Self {
        let sharing = Sharing::of(plan);
        Self {
            framing: Framing::of(plan.format),
            capacity: plan.options.capacity.unwrap_or(u64::MAX),
            capacity_bytes: plan.options.capacity_bytes,
            when_full: plan.options.when_full,
            lanes: sharing.lanes(width),
            sharing,
            is_closed: false,
            refused: 0,
            books: Books::default(),
            sampler: None,
        }
    }

    /// These records are put into it, now or when there is room.
    pub(super) fn look_at(&mut self, block: &Block) {
        if let Some(sampler) = &mut self.sampler {
            sampler.see(block, self.framing);
        }
    }

    /// It has these bounds from now on. What waits in it beyond them stays.
    pub(crate) fn set_bounds(&mut self, plan: &QueuePlan) {
        self.capacity = plan.options.capacity.unwrap_or(u64::MAX);
        self.capacity_bytes = plan.options.capacity_bytes;
        self.when_full = plan.options.when_full;
        self.refused = 0;
    }

    /// A pool of this width shares its records as the plan says from now on: what waits is shared out anew. Whether it was
    /// shared otherwise before.
    pub(crate) fn share_anew(&mut self, plan: &QueuePlan, width: usize) -> bool {
        self.share_by(Sharing::of(plan), width)
    }

    /// The same for a pool of another width.
    pub(crate) fn share_among(&mut self, width: usize) -> bool {
        self.share_by(self.sharing.clone(), width)
    }

    fn share_by(&mut self, sharing: Sharing, width: usize) -> bool {
        let lanes = sharing.lanes(width);
        let is_to_each = self.sharing == Sharing::All || sharing == Sharing::All;
        // Of what each is to get some have had more than others: such a queue begins anew.
        if is_to_each || (sharing == self.sharing && lanes.len() == self.lanes.len()) {
            return false;
        }
        self.sharing = sharing;
        let waiting = std::mem::replace(&mut self.lanes, lanes);
        for block in waiting.into_iter().flat_map(|mut lane| lane.take_all()) {
            self.store(block);
        }
        true
    }

    /// How many records it holds at most, where that is bounded, and how many bytes.
    pub(super) fn bounds(&self) -> (Option<u64>, u64) {
        ((self.capacity < u64::MAX).then_some(self.capacity), self.capacity_bytes)
    }

    /// Puts a block in whatever its bounds say: the last that comes.
    pub(crate) fn force(&mut self, block: Block) {
        self.count_in(&block);
        self.store(block);
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// The lane that the worker of this rank takes from.
    pub(crate) fn lane(&self, rank: usize) -> usize {
        if self.sharing == Sharing::Demand { 0 } else { rank }
    }

    /// Records that wait. Of a queue to each worker, those that the slowest has before it.
    pub(crate) fn records(&self) -> u64 {
        self.over_lanes(|lane| lane.records)
    }

    /// Bytes that wait, counted likewise.
    pub(crate) fn bytes(&self) -> u64 {
        self.over_lanes(|lane| lane.bytes)
    }

    fn over_lanes(&self, count: impl Fn(&Lane) -> u64) -> u64 {
        match self.sharing {
            Sharing::All => self.lanes.iter().map(count).max().unwrap_or(0),
            Sharing::Demand | Sharing::Key(_) => self.lanes.iter().map(count).sum(),
        }
    }

    /// Whether its records are for whoever takes them.
    pub(crate) fn is_shared(&self) -> bool {
        self.sharing == Sharing::Demand
    }

    /// Whether each worker gets all of its records.
    pub(crate) fn is_to_each(&self) -> bool {
        self.sharing == Sharing::All
    }

    /// The lane of a record by its key, where keys choose.
    pub(crate) fn lane_of(&self, body: &[u8]) -> Option<usize> {
        match &self.sharing {
            Sharing::Key(key) => Some(lane_of(body, key, self.lanes.len())),
            Sharing::Demand | Sharing::All => None,
        }
    }

    /// How many lanes there are: 1, or one for each worker.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Records that wait in one lane.
    pub(crate) fn lane_records(&self, lane: usize) -> u64 {
        self.lanes[lane].records
    }

    /// Bytes of the records that wait in one lane, without the engine's own cost.
    pub(crate) fn lane_bytes(&self, lane: usize) -> u64 {
        self.lanes[lane].bytes - BLOCK_COST_BYTES * self.lanes[lane].blocks.len() as u64
    }

    /// No producer puts anything in any more.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether nothing waits in it and nothing will come.
    pub(crate) fn is_over(&self) -> bool {
        self.is_closed && self.records() == 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether a worker that takes from this lane has had all that there will ever be.
    pub(crate) fn is_ended(&self, lane: usize) -> bool {
        self.lanes[lane].closed.is_some() || (self.is_closed && self.lanes[lane].blocks.is_empty())
    }

    /// Whether a producer that waits may go on: it is not full, and so far below it that a block fits again.
    pub(crate) fn has_room(&self) -> bool {
        self.has_no_consumer()
            || (self.records() <= self.capacity / 2 && self.bytes() <= self.capacity_bytes / 2)
    }

    pub(crate) fn is_full(&self) -> bool {
        let bytes = self.bytes() + if self.refused > 0 { self.refused as u64 + BLOCK_COST_BYTES } else { 0 };
        self.records() > 0 && (self.records() >= self.capacity || bytes >= self.capacity_bytes)
    }

    /// Whether everything that is put in is thrown away.
    pub(crate) fn has_no_consumer(&self) -> bool {
        self.lanes.iter().all(|lane| lane.closed.is_some())
    }

    /// Puts a block in. Gives back what did not fit, which only `when_full: block` does.
    pub(crate) fn put(&mut self, mut block: Block) -> Option<Block> {
        while !block.is_empty() {
            let (bytes, mut records) = self.room();
            // A record that is larger than the whole queue passes alone, never beside others.
            if self.records() > 0 && !self.has_no_consumer() && self.framing.first(&block.data) > bytes {
                records = 0;
            }
            if records == 0 {
                self.refused = self.framing.first(&block.data);
                match self.when_full {
                    WhenFull::Block => return Some(block),
                    WhenFull::DropNewest => {
                        self.drop_new(block);
                        return None;
                    }
                    WhenFull::DropOldest => {
                        self.make_room(&mut block);
                        continue;
                    }
                }
            }
            let mut part = block.take_front(self.framing, bytes, records);
            if self.when_full == WhenFull::DropNewest && !block.is_empty() {
                // The rest is dropped. A little of each of many reads must not hold all their buffers.
                part.data = Bytes::copy_from_slice(&part.data);
            }
            self.count_in(&part);
            self.store(part);
        }
        None
    }

    /// Room for so many bytes and records; one record larger than the queue still passes alone.
    fn room(&self) -> (usize, u64) {
        if self.has_no_consumer() {
            return (usize::MAX, u64::MAX);
        }
        let (waiting, bytes) = (self.records(), self.bytes());
        if waiting == 0 {
            let room = self.capacity_bytes.saturating_sub(BLOCK_COST_BYTES);
            return (usize::try_from(room).unwrap_or(usize::MAX), self.capacity);
        }
        let room = self.capacity_bytes.saturating_sub(bytes + BLOCK_COST_BYTES);
        match (room, self.capacity.saturating_sub(waiting)) {
            (0, _) => (0, 0),
            (room, records) => (usize::try_from(room).unwrap_or(usize::MAX), records),
        }
    }

    /// How often each record is in the books.
    fn copies(&self) -> u64 {
        if self.sharing == Sharing::All { self.lanes.len() as u64 } else { 1 }
    }

    fn count_in(&mut self, block: &Block) {
        self.books.records_in += block.records * self.copies();
        self.books.bytes_in += block.cost();
    }

    fn store(&mut self, block: Block) {
        match &self.sharing {
            Sharing::Demand => self.store_in(0, block),
            Sharing::All => {
                for lane in 0..self.lanes.len() {
                    self.store_in(lane, block.clone());
                }
            }
            Sharing::Key(key) => {
                let parts = partition(&block, self.framing, key, self.lanes.len());
                for (lane, part) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
                    self.store_in(lane, part);
                }
            }
        }
        self.books.peak_records = self.books.peak_records.max(self.records());
    }

    fn store_in(&mut self, lane: usize, block: Block) {
        match self.lanes[lane].closed {
            Some(reason) => self.books.discard(reason, block.records),
            None => self.lanes[lane].push_back(block),
        }
    }

    /// Makes room for all of a block by what has waited longest; of a block larger than the whole queue, only the
    /// end stays. At once, since record by record the block would be read again for each.
    fn make_room(&mut self, block: &mut Block) {
        let framing = self.framing;
        let surplus = block.records.saturating_sub(self.capacity).min(block.records - 1);
        if surplus > 0 {
            self.drop_new(block.take_records(framing, surplus));
        }
        let room = self.capacity_bytes.saturating_sub(BLOCK_COST_BYTES);
        while block.records > 1 && block.len() as u64 > room {
            self.drop_new(block.take_records(framing, 1));
        }
        let fits = |queue: &Self| {
            queue.records() + block.records <= queue.capacity && queue.bytes() + block.len() as u64 <= room
        };
        while self.records() > 0 && !fits(self) {
            let fullest = self.lanes.iter_mut().max_by_key(|lane| (lane.records, lane.bytes));
            let Some(dropped) = fullest.and_then(|lane| lane.take(framing, 0, 1)) else { break };
            self.books.dropped += dropped.records;
        }
    }

    /// Records that were dropped before they were stored.
    fn drop_new(&mut self, block: Block) {
        self.count_in(&block);
        self.books.dropped += block.records * self.copies();
    }

    /// Takes records from the front of a lane: at most so much, but one record if there is one.
    pub(crate) fn take(&mut self, lane: usize, max_bytes: usize, max_records: u64) -> Option<Block> {
        self.lanes[lane].take(self.framing, max_bytes, max_records)
    }

    /// Bytes of the record at the front of a lane.
    pub(crate) fn front_len(&self, lane: usize) -> Option<usize> {
        Some(self.framing.first(&self.lanes[lane].blocks.front()?.data))
    }

    /// Puts records that were taken, and not used, back where they were, or where their keys lead by now. They are counted
    /// in already, and the bounds do not hold them up.
    pub(crate) fn put_back(&mut self, lane: usize, block: Block) {
        let Sharing::Key(key) = &self.sharing else { return self.put_in_front(lane, block) };
        let parts = partition(&block, self.framing, key, self.lanes.len());
        parts.into_iter().enumerate().for_each(|(lane, part)| self.put_in_front(lane, part));
    }

    fn put_in_front(&mut self, lane: usize, block: Block) {
        match self.lanes[lane].closed {
            Some(reason) => self.books.discard(reason, block.records),
            None if block.is_empty() => {}
            None => self.lanes[lane].push_front(block),
        }
    }

    /// Nobody takes from this lane any more: what waits in it, and what comes, is discarded.
    pub(crate) fn close_lane(&mut self, lane: usize, reason: Reason) {
        let lane = &mut self.lanes[lane];
        if lane.closed.is_none() {
            lane.closed = Some(reason);
            let records = lane.clear();
            self.books.discard(reason, records);
        }
    }

    /// Nobody takes from this queue any more.
    pub(crate) fn close_lanes(&mut self, reason: Reason) {
        for lane in 0..self.lanes.len() {
            self.close_lane(lane, reason);
        }
    }
}

/// The lane that the key of a record chooses.
fn lane_of(body: &[u8], key: &PartitionKey, lanes: usize) -> usize {
    // A record without a readable key goes where all such records go.
    let number = key_of(body, key).unwrap_or(0);
    usize::try_from(number % lanes as u64).expect("a remainder below the number of lanes")
}

/// The records of a block by the lane that their key chooses, each lane's in their order.
fn partition(block: &Block, framing: Framing, key: &PartitionKey, lanes: usize) -> Vec<Block> {
    let mut parts: Vec<(BytesMut, u64)> = vec![(BytesMut::new(), 0); lanes];
    for record in framing.records(&block.data) {
        let lane = lane_of(framing.body(record), key, lanes);
        let (bytes, records) = &mut parts[lane];
        bytes.extend_from_slice(record);
        // The open record is the last of this block, and need not be the last of its lane's next block.
        if let Some(end) =
            framing.end().filter(|_| block.is_open && !record.ends_with(&[framing.end().unwrap_or(0)]))
        {
            bytes.extend_from_slice(&[end]);
        }
        *records += 1;
    }
    parts
        .into_iter()
        .map(|(bytes, records)| Block { pins: block.pins.clone(), ..Block::new(Bytes::from(bytes), records) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::Build;

    #[test]
    fn a_part_of_a_read_whose_rest_is_dropped_does_not_hold_the_whole_read() {
        let plan = Build::new()
            .stage("a")
            .stage("b")
            .queue_with("a -> b", |queue| (queue.capacity, queue.when_full) = (Some(2), WhenFull::DropNewest))
            .accepted();
        let mut queue = Queue::new(&plan.queues[0], 1);
        let read = Bytes::from(vec![b'\n'; 1000]);
        queue.put(Block::whole(read.clone(), queue.framing()));
        assert_eq!((queue.records(), queue.books.dropped), (2, 998));
        assert!(read.is_unique(), "the queue has a copy of the two");
    }
}
