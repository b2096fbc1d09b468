//! The broker beside a model of function workers: they answer slices of what they were leased, with any number of
//! results for each record, and die of poisonous records among several, so that nobody sees at which.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BufMut;
use proptest::prelude::*;

use super::*;
use crate::graph::testing::{Build, pool};
use crate::ipc::{CHUNK_HEADER_BYTES, ChunkHeader};
use crate::model::{Format, Mode};

const WIDTH: usize = 3;
const SOURCE: usize = 0;
const WORK: usize = 1;

/// Records in a chunk.
const CHUNK: usize = 5;

#[derive(Debug, Clone)]
enum Op {
    /// The source makes so many records, in chunks that are read together or as lines.
    Publish(u32),
    /// A worker is given at most so many.
    Lease(usize, u64),
    /// A worker works on so many of the oldest frame that it holds, and answers them together, or dies of one.
    Work(usize, u64),
    /// A worker reads so many bytes more of what it was handed.
    Read(usize, u64),
    /// A worker is killed from outside, unless it may have begun a record that is tried alone.
    Kill(usize),
    /// Standard output takes so many.
    Take(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let rank = 0..WIDTH;
    prop_oneof![
        3 => (1u32..30).prop_map(Op::Publish),
        6 => (rank.clone(), 1u64..12).prop_map(|(rank, records)| Op::Lease(rank, records)),
        6 => (rank.clone(), 1u64..12).prop_map(|(rank, records)| Op::Work(rank, records)),
        2 => (rank.clone(), 1u64..200).prop_map(|(rank, bytes)| Op::Read(rank, bytes)),
        2 => rank.prop_map(Op::Kill),
        3 => (1u64..30).prop_map(Op::Take),
    ]
}

/// What a worker was handed, in bytes from the first on.
#[derive(Debug, Default)]
struct Input {
    /// Where the frames lie of which it has not answered all.
    frames: VecDeque<std::ops::Range<u64>>,
    handed: u64,
    read: u64,
}

struct Trial {
    broker: Broker,
    inputs: [Input; WIDTH],
    format: Format,
    is_ordered: bool,
    next: u32,
    used_up: Vec<u32>,
    out: Vec<u32>,
}

fn is_poisonous(number: u32) -> bool {
    number % 13 == 5
}

/// How many results a record has.
fn results_of(number: u32) -> usize {
    number as usize % 3
}

impl Trial {
    fn new(format: Format, is_ordered: bool, capacity: Option<u64>) -> Self {
        let mut plan = Build::new()
            .stage("source")
            .with("work", |stage| {
                stage.mode = Mode::Map;
                stage.ordered = is_ordered;
                stage.pool = pool(WIDTH);
            })
            .queue_with("source -> work", |queue| queue.capacity = capacity)
            .queue_with("work -> stdout", |queue| queue.capacity = capacity)
            .accepted();
        for queue in plan.queues.iter_mut().filter(|queue| queue.to.is_some()) {
            queue.format = format;
            queue.options.format = Some(format);
        }
        Self {
            broker: Broker::new(&plan),
            inputs: Default::default(),
            format,
            is_ordered,
            next: 0,
            used_up: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Records that are their own numbers.
    fn block(&self, numbers: std::ops::Range<u32>) -> Block {
        let count = numbers.len();
        let mut data = Vec::new();
        match self.format {
            Format::Lines => numbers.for_each(|number| data.extend(format!("{number}\n").into_bytes())),
            _ => numbers.collect::<Vec<_>>().chunks(CHUNK).for_each(|chunk| {
                data.put_u32_le((CHUNK_HEADER_BYTES - 4 + 4 * chunk.len()) as u32);
                data.put_u32_le(0);
                data.put_u32_le(chunk.len() as u32);
                data.put_u32_le(0);
                chunk.iter().for_each(|&number| data.put_u32_le(number));
            }),
        }
        Block::new(data.into(), count as u64)
    }

    fn numbers(&self, block: &Block) -> Vec<u32> {
        if self.format == Format::Lines {
            return lines(block);
        }
        let own = |chunk: &[u8]| {
            let header = ChunkHeader::read(chunk).unwrap();
            let first = CHUNK_HEADER_BYTES + 4 * header.skip as usize;
            let body = chunk[first..first + 4 * header.records as usize].to_vec();
            body.chunks_exact(4)
                .map(|number| u32::from_le_bytes(number.try_into().unwrap()))
                .collect::<Vec<_>>()
        };
        Framing::Chunks.records(&block.data).flat_map(own).collect()
    }

    /// What a worker has not answered of the oldest frame that it holds.
    fn oldest(&self, rank: usize) -> Vec<u32> {
        let Some(lease) = self.broker.leases(WORK, rank).next() else { return Vec::new() };
        let all = self.numbers(&lease.block);
        assert_eq!(all.len() as u64, lease.block.records);
        all[usize::try_from(lease.answered).unwrap()..].to_vec()
    }

    fn does(&mut self, op: &Op) {
        match *op {
            Op::Publish(records) => {
                let source = self.broker.output(SOURCE, 0);
                if !self.broker.is_blocked(source) {
                    let block = self.block(self.next..self.next + records);
                    self.next += records;
                    self.broker.publish(source, block);
                }
            }
            Op::Lease(rank, records) => {
                let held = self.broker.held(WORK, rank);
                if let Some(lease) = self.broker.lease(WORK, rank, usize::MAX, records) {
                    let (alone, count) = (lease.alone, lease.block.records);
                    let length = 16 + lease.block.len() as u64;
                    assert!(
                        !alone || count == 1 && held == 0,
                        "a suspect comes alone, to whoever holds nothing"
                    );
                    let input = &mut self.inputs[rank];
                    let begins = input.handed;
                    input.handed += length;
                    input.frames.push_back(begins..input.handed);
                    self.broker.handed_over(WORK, rank, input.frames.len() - 1, begins);
                }
            }
            Op::Work(rank, records) => self.work(rank, records),
            Op::Read(rank, bytes) => {
                let input = &mut self.inputs[rank];
                input.read = input.handed.min(input.read + bytes);
            }
            Op::Kill(rank) => {
                if self.oldest(rank).len() != 1 || !self.may_have_begun(rank) {
                    self.dies(rank);
                }
            }
            Op::Take(records) => {
                if let Some((queue, block)) = self.broker.take(Consumer::Stdout, 0, usize::MAX, records) {
                    self.out.extend(lines(&block));
                    self.broker.deliver(None, queue, block.records);
                }
            }
        }
        let _ = self.broker.changes();
    }

    /// Whether a worker has read anything of the oldest frame that it holds.
    fn may_have_begun(&self, rank: usize) -> bool {
        let input = &self.inputs[rank];
        input.frames.front().is_some_and(|frame| input.read > frame.start)
    }

    fn work(&mut self, rank: usize, records: u64) {
        let oldest = self.oldest(rank);
        let input = &mut self.inputs[rank];
        input.read = input.read.max(input.frames.front().map_or(0, |frame| frame.end));
        let slice = &oldest[..oldest.len().min(usize::try_from(records).unwrap())];
        if slice.is_empty() {
            let too_many = self.broker.answer_with(WORK, rank, 1, Results::new());
            assert_eq!(too_many, Err(TooMany { held: 0, answered: 1 }));
        } else if slice.iter().any(|&number| is_poisonous(number)) {
            self.dies(rank);
        } else {
            let over = oldest.len() as u64 + 1;
            assert!(
                self.broker.answer_with(WORK, rank, over, Results::new()).is_err(),
                "more than the frame holds"
            );
            let results: String =
                slice.iter().flat_map(|&number| vec![format!("{number}\n"); results_of(number)]).collect();
            let block = Block::new(results.clone().into(), results.lines().count() as u64);
            let results = if block.is_empty() { Results::new() } else { vec![(0, block)] };
            self.broker.answer_with(WORK, rank, slice.len() as u64, results).unwrap();
            if slice.len() == oldest.len() {
                self.inputs[rank].frames.pop_front();
            }
        }
    }

    fn dies(&mut self, rank: usize) {
        let oldest = self.oldest(rank);
        let guilt = self.broker.guilt(WORK, rank, self.inputs[rank].read, true);
        let expected = match (self.may_have_begun(rank), oldest.len()) {
            (false, _) => Guilt::None,
            (true, 1) => Guilt::Current,
            (true, _) => Guilt::OneOfSeveral,
        };
        assert_eq!(guilt, expected, "{oldest:?} of {:?}", self.inputs[rank]);
        self.inputs[rank] = Input::default();
        match (guilt, &oldest[..]) {
            (Guilt::Current, &[guilty]) => {
                match self.broker.fail_current(WORK, rank, Failure::Death, Instant::now()).unwrap() {
                    Verdict::Again { .. } => {
                        assert!(is_poisonous(guilty), "{guilty} is charged and has done nothing")
                    }
                    Verdict::UsedUp(lease) => {
                        assert_eq!(self.numbers(&lease.block), [guilty]);
                        assert!(is_poisonous(guilty) && lease.attempts == ATTEMPTS_AFTER_DEATH);
                        self.used_up.push(guilty);
                    }
                }
            }
            (Guilt::OneOfSeveral, _) => self.broker.suspect(WORK, rank),
            _ => {}
        }
        self.broker.give_back(WORK, rank);
        assert_eq!(self.broker.held(WORK, rank), 0);
    }

    fn finish(mut self) {
        self.broker.end_producer(self.broker.output(SOURCE, 0));
        let mut turns = 0;
        while !self.broker.is_answered(WORK) {
            turns += 1;
            assert!(turns < 100_000, "the broker is stuck: {:?}", self.broker.snapshot());
            self.does(&Op::Take(100));
            for rank in 0..WIDTH {
                self.does(&Op::Lease(rank, 5));
                self.does(&Op::Work(rank, 5));
            }
        }
        self.broker.end_producer(self.broker.output(WORK, 0));
        while !self.broker.is_ended(Consumer::Stdout, 0) {
            self.does(&Op::Take(100));
        }
        if self.is_ordered {
            assert!(self.out.is_sorted(), "results are out of order");
        }
        let healthy = (0..self.next).filter(|&number| !is_poisonous(number));
        let expected: Vec<u32> = healthy.flat_map(|number| vec![number; results_of(number)]).collect();
        self.out.sort_unstable();
        assert_eq!(self.out, expected, "each record's results once");
        self.used_up.sort_unstable();
        let guilty: Vec<u32> = (0..self.next).filter(|&number| is_poisonous(number)).collect();
        assert_eq!(self.used_up, guilty, "exactly the guilty are charged");
        for edge in self.broker.close_books() {
            assert!(edge.balances() && edge.discarded.is_empty(), "{edge:?}");
        }
    }
}

fn lines(block: &Block) -> Vec<u32> {
    std::str::from_utf8(&block.data).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn exactly_the_records_that_workers_die_of_are_charged_and_all_others_are_answered_once(
        is_chunked: bool,
        is_ordered: bool,
        capacity in prop_oneof![Just(None), (1u64..40).prop_map(Some)],
        ops in proptest::collection::vec(op(), 0..250),
    ) {
        let format = if is_chunked { Format::Pickle } else { Format::Lines };
        let mut trial = Trial::new(format, is_ordered, capacity);
        for op in &ops {
            trial.does(op);
        }
        trial.finish();
    }
}
