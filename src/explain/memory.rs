//! What the engine holds in memory at most, as a sum over its places.
//!
//! # Theory of operation
//!
//! A read buffer of 1 MiB is shared by the records that came in it, so whoever holds one of them may hold all of it.
//! Buffers with less than a quarter in them are never shared ([`WORTH_SHARING_BYTES`]); therefore what a queue
//! counts is at least a quarter of what it holds, but for the block at its front, of which any part may have left.
//! A record longer than 64 KiB grows where it is, by half of what is there already.
//!
//! Every place is counted as full at the same time. That takes consumers that stand still at the worst moment, so
//! that a run seldom comes near the sum; but it does not exceed it while two things are so: a `map` worker does not
//! take more into its own memory than the record that it works on, and its results are about as long as its records.

use crate::explanation::{Holds, Memory, MemoryPart};
use crate::graph::{Plan, PortPlan, QueuePlan, StagePlan};
use crate::ipc::{BUFFER_BYTES, KEPT_BUFFERS, SHORT_TAIL_BYTES, WORTH_SHARING_BYTES};
use crate::model::{Mode, STDIN, STDOUT, SharedKind};
use crate::runtime::broker::{BLOCK_COST_BYTES, MAX_AHEAD, MAX_DELAYED_BYTES, MAX_HELD_BACK_BYTES};
use crate::runtime::run::{
    IN_MEMORY_BYTES, LARGEST_PIPE, LEASE_BYTES, LINE_BYTES, LONGEST_LOG_LINE, READS_AHEAD, TAIL_BYTES,
};

use super::needs::{ENGINE, has_log};
use crate::shared::{LONGEST_LINE, Layout, MOST_DICT_BYTES};

/// Records up to this long are copied and never grow where they are.
const SHORT: u64 = SHORT_TAIL_BYTES as u64;

const BUFFER: u64 = BUFFER_BYTES as u64;

/// What is held for each byte that is counted, at most.
const PINNED: u64 = BUFFER / WORTH_SHARING_BYTES as u64;

/// An idle engine, measured: 16 MiB resident in a debug build, all but 1.3 MiB of which are pages of its own file; and
/// some room for the allocator.
const PROGRAM_BYTES: u64 = 20 << 20;

/// Environment, command line and books of one worker. An environment of a few kilobytes is common.
const WORKER_BYTES: u64 = 32 << 10;

/// A result that waits in the reorder buffer costs so much besides its bytes.
const WAITING_COST_BYTES: u64 = 256;

/// Buffers and books of a client of the shared objects whose requests are short.
const CLIENT_BYTES: u64 = 10 << 10;

/// Something of the record's length, for short records and for the longest.
#[derive(Debug, Clone, Copy)]
struct Both {
    short: u64,
    most: u64,
}

impl Both {
    /// `bytes` of the longest record that there can be.
    fn of(max_record: u64, bytes: impl Fn(u64) -> u64) -> Self {
        Self { short: bytes(max_record.min(SHORT)), most: bytes(max_record) }
    }

    fn fixed(bytes: u64) -> Self {
        Self { short: bytes, most: bytes }
    }
}

/// What an unfinished record takes whose length comes to `record`.
fn unfinished(record: u64) -> u64 {
    if record <= SHORT { record } else { record.saturating_add(BUFFER.max(record / 2)) }
}

/// What one block takes at most, however little is left of it.
fn block(record: u64) -> u64 {
    BUFFER.max(unfinished(record))
}

/// What blocks of so many bytes together take, and the one of which a part has left.
fn blocks(bytes: u64, record: u64) -> u64 {
    bytes.saturating_mul(PINNED).saturating_add(block(record))
}

/// All summands.
pub(super) fn memory(plan: &Plan) -> Memory {
    let mut parts = vec![part(ENGINE, Holds::Engine, 1, Both::fixed(engine()), &[])];
    for queue in &plan.queues {
        parts.push(part(
            &queue.name,
            Holds::Queue,
            1,
            of_queue(plan, queue),
            &["capacity_bytes", "max_record"],
        ));
    }
    for stage in &plan.stages {
        of_stage(plan, stage, &mut parts);
    }
    of_standard_streams(plan, &mut parts);
    of_shared_objects(plan, &mut parts);
    parts.retain(|part| part.most_bytes > 0);
    parts.sort_by_key(|part| std::cmp::Reverse(part.short_bytes));
    let sum = |of: fn(&MemoryPart) -> u64| parts.iter().map(of).fold(0, u64::saturating_add);
    Memory {
        short_record_bytes: SHORT,
        short_bytes: sum(|part| part.short_bytes),
        most_bytes: sum(|part| part.most_bytes),
        parts,
    }
}

fn part(of: &str, holds: Holds, times: u64, each: Both, lowered_by: &'static [&'static str]) -> MemoryPart {
    MemoryPart {
        of: of.to_owned(),
        holds,
        times,
        short_bytes: each.short.saturating_mul(times),
        most_bytes: each.most.saturating_mul(times),
        lowered_by,
    }
}

/// The kept read buffers, and the one that is being read into.
fn engine() -> u64 {
    PROGRAM_BYTES + (KEPT_BUFFERS as u64 + 1) * BUFFER
}

fn of_queue(plan: &Plan, queue: &QueuePlan) -> Both {
    let options = &queue.options;
    Both::of(options.max_record, |record| {
        let by_count = options
            .capacity
            .map_or(u64::MAX, |records| records.saturating_mul(record.saturating_add(BLOCK_COST_BYTES)));
        let counted = options.capacity_bytes.min(by_count);
        // The lanes of a queue to each share the bytes, and each has books of its own.
        let lanes =
            queue.to.filter(|_| options.to_each).map_or(1, |to| plan.stages[to.stage].stage.pool.max as u64);
        let books = counted.saturating_mul(lanes - 1);
        // One record larger than the queue passes alone.
        blocks(counted, record).saturating_add(books).max(unfinished(record))
    })
}

/// The longest record that may come in by this port.
fn max_record_in(plan: &Plan, port: &PortPlan) -> u64 {
    port.queues.iter().map(|&queue| plan.queues[queue].options.max_record).max().unwrap_or(0)
}

/// The longest record that may leave by this port: each of its queues refuses what is too long for it.
fn max_record_out(plan: &Plan, port: &PortPlan) -> u64 {
    port.queues.iter().map(|&queue| plan.queues[queue].options.max_record).min().unwrap_or(0)
}

fn of_stage(plan: &Plan, stage: &StagePlan, parts: &mut Vec<MemoryPart>) {
    let declared = &stage.stage;
    let (name, workers) = (declared.name.as_str(), declared.pool.max as u64);
    let log = if has_log(stage) { 2 * LONGEST_LOG_LINE as u64 + TAIL_BYTES as u64 } else { 0 };
    parts.push(part(name, Holds::Workers, workers, Both::fixed(WORKER_BYTES + log), &["pool", "stderr"]));
    for (number, port) in stage.inputs.iter().enumerate() {
        let record = max_record_in(plan, port);
        let held = match declared.mode {
            Mode::Map if number == 0 => (Holds::Leases, Both::of(record, leased_by_map)),
            Mode::Each if number == 0 => {
                (Holds::Leases, Both::of(record, |record| leased_by_each(plan, stage, record)))
            }
            // What is on its way, and what may lie unread in the pipe, to be taken back of a worker that ends.
            Mode::Stream => (Holds::Given, Both::of(record, |record| given(record).saturating_mul(2))),
            Mode::Map | Mode::Each => (Holds::Given, Both::of(record, given)),
        };
        if number == 0 && declared.is_leased() && super::delays(declared) {
            let delayed = Both::of(record, |record| blocks(MAX_DELAYED_BYTES, record));
            parts.push(part(name, Holds::Delayed, 1, delayed, &["retry"]));
        }
        parts.push(part(
            name,
            held.0,
            workers,
            held.1,
            if declared.batch.is_some() { &["pool", "batch"] } else { &["pool", "max_record"] },
        ));
    }
    for port in &stage.outputs {
        of_output(plan, stage, port, parts);
    }
}

fn of_output(plan: &Plan, stage: &StagePlan, port: &PortPlan, parts: &mut Vec<MemoryPart>) {
    let declared = &stage.stage;
    let (name, workers) = (declared.name.as_str(), declared.pool.max as u64);
    if port.name == "failed" {
        let record = stage.inputs.first().map_or(0, |port| max_record_in(plan, port));
        // Text in JSON may be six times as long as its bytes: `\u0001`.
        let documents = Both::of(record, |record| record.saturating_add(TAIL_BYTES as u64).saturating_mul(6));
        parts.push(part(name, Holds::Failed, workers, documents, &["pool", "max_record"]));
        return;
    }
    let record = max_record_out(plan, port);
    parts.push(part(name, Holds::Unfinished, workers, Both::of(record, unfinished), &["pool", "max_record"]));
    let is_held = declared.mode == Mode::Each && port.name != "stderr";
    let (holds, read) = match is_held {
        // Several blocks are joined to one before they leave.
        true => {
            let held = IN_MEMORY_BYTES as u64;
            (Holds::Results, Both::of(record, |record| blocks(held, record).saturating_add(held)))
        }
        false => (Holds::Read, Both::of(record, block)),
    };
    parts.push(part(name, holds, workers, read, &["pool", "max_record"]));
    if declared.ordered && (is_held || port.name == STDOUT) {
        let books = MAX_AHEAD * WAITING_COST_BYTES;
        let reorder = Both::of(record, |record| blocks(MAX_HELD_BACK_BYTES, record).saturating_add(books));
        parts.push(part(name, Holds::Reorder, 1, reorder, &["ordered"]));
    }
}

/// On its way to one worker: a share, or one record that is longer.
fn given(record: u64) -> u64 {
    blocks(LARGEST_PIPE as u64, record)
}

/// What lies in the pipe and what comes after it, and the record that is worked on.
fn leased_by_map(record: u64) -> u64 {
    (2 * LEASE_BYTES as u64).saturating_add(block(record).saturating_mul(2))
}

fn leased_by_each(plan: &Plan, stage: &StagePlan, record: u64) -> u64 {
    // A process is started for one, and its successors have been given the next: small ones, and one that may be large.
    let Some(batch) = &stage.stage.batch else {
        return block(record).saturating_mul(2).saturating_add(LINE_BYTES);
    };
    let waiting =
        stage.inputs[0].queues.iter().map(|&queue| plan.queues[queue].options.capacity_bytes).sum::<u64>();
    let most = batch.bytes.unwrap_or(u64::MAX).min(waiting).max(record);
    let gathered = (batch.size.get() as u64).saturating_mul(record).min(most);
    // A batch is a copy, which grows by doubling.
    gathered.saturating_mul(2).saturating_add(block(record))
}

/// `mpflow`'s own streams are one reader and one writer more.
fn of_standard_streams(plan: &Plan, parts: &mut Vec<MemoryPart>) {
    let from_stdin = plan.queues.iter().filter(|queue| queue.from.is_none());
    if let Some(record) = from_stdin.map(|queue| queue.options.max_record).min() {
        parts.push(part(STDIN, Holds::Unfinished, 1, Both::of(record, unfinished), &["max_record"]));
        // One waits for room, others to be taken of a thread that reads a file, and one is in the making there.
        let reads = READS_AHEAD as u64 + 2;
        parts.push(part(STDIN, Holds::Read, reads, Both::of(record, block), &["max_record"]));
    }
    let to_stdout = plan.queues.iter().filter(|queue| queue.to.is_none());
    if let Some(record) = to_stdout.map(|queue| queue.options.max_record).max() {
        parts.push(part(STDOUT, Holds::Given, 1, Both::of(record, given), &["max_record"]));
    }
}

/// Values and arrays count whole: their pages are taken when they are first touched. Every worker may have sent a
/// request as long as one can be and not have read a reply that is.
fn of_shared_objects(plan: &Plan, parts: &mut Vec<MemoryPart>) {
    if plan.shared.is_empty() {
        return;
    }
    let bytes = Layout::new(&plan.shared).bytes();
    parts.push(part(ENGINE, Holds::Shared, 1, Both::fixed(bytes), &["length"]));
    for object in plan.shared.iter().filter(|object| matches!(object.kind, SharedKind::Dict(_))) {
        parts.push(part(&object.name, Holds::Shared, 1, Both::fixed(MOST_DICT_BYTES), &[]));
    }
    let workers = plan.stages.iter().map(|stage| stage.stage.pool.max as u64).sum();
    let line = Both { short: CLIENT_BYTES, most: 2 * LONGEST_LINE as u64 };
    parts.push(part(ENGINE, Holds::Clients, workers, line, &["pool"]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{Build, pool};

    fn part_of<'a>(memory: &'a Memory, of: &str, holds: Holds) -> &'a MemoryPart {
        memory.parts.iter().find(|part| part.of == of && part.holds == holds).unwrap()
    }

    #[test]
    fn a_full_queue_holds_up_to_four_times_what_it_counts_and_one_buffer() {
        let plan = Build::new().stage("a").stage("b").queue("a -> b").queue("b -> stdout").accepted();
        let queue = part_of(&memory(&plan), "a -> b", Holds::Queue).clone();
        assert_eq!(queue.short_bytes, 4 * (8 << 20) + (1 << 20));
        assert_eq!(queue.most_bytes, 4 * (8 << 20) + (96 << 20));
    }

    #[test]
    fn the_sum_is_that_of_its_parts_and_keys_lower_it() {
        let build = |capacity_bytes, max_record, width| {
            let plan = Build::new()
                .with("a", |a| a.pool = pool(width))
                .stage("b")
                .queue_with("a -> b", |queue| {
                    queue.capacity_bytes = capacity_bytes;
                    queue.max_record = max_record;
                })
                .accepted();
            memory(&plan)
        };
        let usual = build(8 << 20, 64 << 20, 4);
        assert_eq!(usual.short_bytes, usual.parts.iter().map(|part| part.short_bytes).sum::<u64>());
        assert_eq!(usual.most_bytes, usual.parts.iter().map(|part| part.most_bytes).sum::<u64>());
        assert!(build(1 << 20, 64 << 20, 4).short_bytes < usual.short_bytes);
        assert!(build(8 << 20, 1 << 20, 4).most_bytes < usual.most_bytes);
        assert!(build(8 << 20, 64 << 20, 2).most_bytes < usual.most_bytes);
        assert_eq!(part_of(&usual, "a", Holds::Unfinished).times, 4);
        assert_eq!(part_of(&usual, "a", Holds::Unfinished).most_bytes, 4 * (96 << 20));
    }

    #[test]
    fn a_queue_of_few_short_records_is_counted_by_them() {
        let plan = Build::new()
            .stage("a")
            .stage("b")
            .queue_with("a -> b", |queue| (queue.capacity, queue.max_record) = (Some(10), 1000))
            .accepted();
        assert_eq!(part_of(&memory(&plan), "a -> b", Holds::Queue).most_bytes, 4 * 10 * 1096 + (1 << 20));
    }

    #[test]
    fn sizes_without_end_do_not_overflow() {
        let plan = Build::new()
            .with("a", |a| a.pool = pool(1000))
            .stage("b")
            .queue_with("a -> b", |queue| (queue.capacity_bytes, queue.max_record) = (u64::MAX, u64::MAX))
            .accepted();
        assert_eq!(memory(&plan).most_bytes, u64::MAX);
    }
}
