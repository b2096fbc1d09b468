//! The broker beside a small model of what it owes: random events, and then the books.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::graph::testing::{Build, pool};
use crate::model::{Mode, Retry, WhenFull};

const LINES: Framing = Framing::EndedBy(b'\n');
const WIDTH: usize = 3;

/// The stages of the test's pipeline: `source -> work -> stdout`.
const SOURCE: usize = 0;
const WORK: usize = 1;

#[derive(Debug, Clone, Copy)]
struct Setting {
    mode: Mode,
    ordered: bool,
    capacity: Option<u64>,
    attempts: u32,
    delay: Duration,
}

#[derive(Debug, Clone)]
enum Op {
    /// The source makes so many records, if it may.
    Publish(u64),
    /// A worker is given at most so many.
    Lease(usize, u64),
    /// A worker answers at most so many of those it holds.
    Answer(usize, u64),
    /// A worker dies, at the record it works on.
    Die(usize),
    /// A worker reports an error for the record it works on (`each`).
    Fail(usize),
    /// A worker is asked to end: nobody is to blame.
    GiveBack(usize),
    /// A record is set aside for the next process (`each`).
    Reserve(usize),
    /// The next process is there.
    Succeed(usize),
    /// There will be no next process.
    Revoke(usize),
    /// Standard output takes so many.
    Take(u64),
    /// Time passes.
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let rank = 0..WIDTH;
    prop_oneof![
        4 => (1u64..20).prop_map(Op::Publish),
        6 => (rank.clone(), 1u64..10).prop_map(|(rank, records)| Op::Lease(rank, records)),
        6 => (rank.clone(), 1u64..10).prop_map(|(rank, records)| Op::Answer(rank, records)),
        1 => rank.clone().prop_map(Op::Die),
        1 => rank.clone().prop_map(Op::Fail),
        1 => rank.clone().prop_map(Op::GiveBack),
        4 => rank.clone().prop_map(Op::Reserve),
        3 => rank.clone().prop_map(Op::Succeed),
        1 => rank.prop_map(Op::Revoke),
        3 => (1u64..30).prop_map(Op::Take),
        1 => (1u64..2000).prop_map(Op::Pass),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    let mode = prop_oneof![Just(Mode::Map), Just(Mode::Each)];
    let capacity = prop_oneof![Just(None), (1u64..40).prop_map(Some)];
    let delay = prop_oneof![Just(Duration::ZERO), Just(Duration::from_millis(500))];
    (mode, any::<bool>(), capacity, 1u32..5, delay).prop_map(|(mode, ordered, capacity, attempts, delay)| {
        Setting { mode, ordered, capacity, attempts, delay }
    })
}

/// The broker, and what it was seen to do.
struct Trial {
    setting: Setting,
    broker: Broker,
    now: Instant,
    /// The next record that the source makes; records are their own numbers.
    next: u64,
    /// By rank: the records that the worker was handed and has not answered.
    given: Vec<VecDeque<u64>>,
    /// By rank: what is set aside for the worker's successor.
    reserved: Vec<Option<u64>>,
    /// How often each record was an attempt that failed.
    failures: Vec<u32>,
    used_up: Vec<u64>,
    out: Vec<u64>,
}

fn numbers(block: &Block) -> Vec<u64> {
    let text = std::str::from_utf8(&block.data).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn block(numbers: &[u64]) -> Block {
    let text: String = numbers.iter().map(|number| format!("{number}\n")).collect();
    Block { data: Bytes::from(text), records: numbers.len() as u64, is_open: false }
}

impl Trial {
    fn new(setting: Setting) -> Self {
        let plan = Build::new()
            .stage("source")
            .with("work", |stage| {
                stage.mode = setting.mode;
                stage.ordered = setting.ordered;
                stage.pool = pool(WIDTH);
                stage.retry = Retry { attempts: setting.attempts, delay: setting.delay, ..Retry::default() };
            })
            .queue_with("source -> work", |queue| queue.capacity = setting.capacity)
            .queue_with("work -> stdout", |queue| queue.capacity = setting.capacity)
            .accepted();
        Self {
            setting,
            broker: Broker::new(&plan),
            now: Instant::now(),
            next: 0,
            given: vec![VecDeque::new(); WIDTH],
            reserved: vec![None; WIDTH],
            failures: Vec::new(),
            used_up: Vec::new(),
            out: Vec::new(),
        }
    }

    fn does(&mut self, op: &Op) {
        match *op {
            Op::Publish(records) => {
                let source = self.broker.output(SOURCE, 0);
                if !self.broker.is_blocked(source) {
                    let made: Vec<u64> = (self.next..self.next + records).collect();
                    self.next += records;
                    self.failures.resize(usize::try_from(self.next).unwrap(), 0);
                    self.broker.publish(source, block(&made));
                }
            }
            Op::Lease(rank, records) => self.lease(rank, records),
            Op::Answer(rank, records) => self.answer(rank, records),
            Op::Die(rank) => self.ends_badly(rank, Failure::Death),
            Op::Fail(rank) => {
                if self.setting.mode == Mode::Each {
                    self.ends_badly(rank, Failure::Error);
                }
            }
            Op::GiveBack(rank) => {
                self.broker.give_back(WORK, rank);
                self.given[rank].clear();
            }
            Op::Reserve(rank) => {
                if self.setting.mode == Mode::Each && self.broker.reserve(WORK, rank) {
                    assert!(self.reserved[rank].is_none(), "one is set aside at most");
                    let reserved = self.broker.reserved(WORK, rank).map(|lease| numbers(&lease.block));
                    let [number] = reserved.unwrap()[..] else { panic!("one record is set aside") };
                    self.reserved[rank] = Some(number);
                }
                assert_eq!(self.broker.held(WORK, rank), self.given[rank].len() as u64);
            }
            Op::Succeed(rank) => {
                // Only when the process before it has ended.
                if self.given[rank].is_empty() {
                    self.broker.succeed(WORK, rank);
                    self.given[rank].extend(self.reserved[rank].take());
                    let holds = self.broker.leases(WORK, rank).flat_map(|lease| numbers(&lease.block));
                    assert!(holds.eq(self.given[rank].iter().copied()));
                }
            }
            Op::Revoke(rank) => {
                self.broker.give_back_reserved(WORK, rank);
                self.reserved[rank] = None;
            }
            Op::Take(records) => {
                if let Some((queue, block)) = self.broker.take(Consumer::Stdout, 0, usize::MAX, records) {
                    assert!(block.records <= records.max(1));
                    self.out.extend(numbers(&block));
                    self.broker.deliver(queue, block.records);
                }
            }
            Op::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                self.broker.wake_delayed(self.now);
            }
        }
        let _ = self.broker.changes();
        for edge in self.broker.snapshot() {
            assert!(
                edge.records <= self.setting.capacity.unwrap_or(u64::MAX),
                "{edge:?} is over its capacity"
            );
        }
    }

    fn lease(&mut self, rank: usize, records: u64) {
        // An `each` process has one record; while results wait for room, nothing is leased.
        if self.setting.mode == Mode::Each && !self.given[rank].is_empty() {
            return;
        }
        let records = if self.setting.mode == Mode::Each { 1 } else { records };
        if let Some(lease) = self.broker.lease(WORK, rank, usize::MAX, records) {
            let leased = numbers(&lease.block);
            assert!(lease.attempts == 0 || leased.len() == 1, "a record that failed comes alone");
            self.given[rank].extend(leased);
        }
        assert_eq!(self.broker.held(WORK, rank), self.given[rank].len() as u64);
    }

    fn answer(&mut self, rank: usize, records: u64) {
        let count = usize::try_from(records).unwrap().min(self.given[rank].len());
        if count == 0 {
            return;
        }
        let answered: Vec<u64> = self.given[rank].drain(..count).collect();
        match self.setting.mode {
            Mode::Map => self.broker.answer(WORK, rank, Some(0), LINES, block(&answered)).unwrap(),
            _ => self.broker.answer_all(WORK, rank, vec![(0, block(&answered))]),
        }
    }

    fn ends_badly(&mut self, rank: usize, failure: Failure) {
        let verdict = match self.setting.mode {
            Mode::Map => self.broker.fail_current(WORK, rank, failure, self.now),
            _ => self.broker.fail_held(WORK, rank, failure, self.now),
        };
        assert_eq!(verdict.is_some(), !self.given[rank].is_empty());
        if let Some(guilty) = self.given[rank].pop_front() {
            let failures = &mut self.failures[usize::try_from(guilty).unwrap()];
            *failures += 1;
            let allowed = match failure {
                Failure::Error => self.setting.attempts,
                Failure::Death => self.setting.attempts.max(3),
            };
            match verdict.unwrap() {
                Verdict::Again { attempts, .. } => {
                    assert_eq!(attempts, *failures);
                    assert!(*failures < allowed);
                }
                Verdict::UsedUp(lease) => {
                    assert_eq!(numbers(&lease.block), [guilty]);
                    assert!(*failures >= allowed, "it had {failures} of {allowed} attempts");
                    self.used_up.push(guilty);
                }
            }
        }
        self.broker.give_back(WORK, rank);
        self.given[rank].clear();
    }

    /// Works off everything: nothing may be stuck.
    fn finish(&mut self) {
        self.broker.end_producer(self.broker.output(SOURCE, 0));
        let mut turns = 0;
        while !self.broker.is_answered(WORK) {
            turns += 1;
            assert!(turns < 100_000, "the broker is stuck: {:?}", self.broker.snapshot());
            self.does(&Op::Pass(120_000));
            self.does(&Op::Take(100));
            for rank in 0..WIDTH {
                self.does(&Op::Succeed(rank));
                self.does(&Op::Lease(rank, 5));
                self.does(&Op::Answer(rank, 5));
            }
        }
        self.broker.end_producer(self.broker.output(WORK, 0));
        while !self.broker.is_ended(Consumer::Stdout, 0) {
            self.does(&Op::Take(100));
        }
    }

    fn check(mut self) {
        let mut came: Vec<u64> = self.out.clone();
        if self.setting.ordered {
            assert!(came.is_sorted(), "results are out of order");
        }
        came.extend(&self.used_up);
        came.sort_unstable();
        assert_eq!(came, (0..self.next).collect::<Vec<_>>(), "each record once, as a result or as failed");
        let counts = self.broker.counts(WORK);
        assert_eq!(counts.failed, self.used_up.len() as u64);
        for edge in self.broker.close_books() {
            assert!(edge.balances(), "{edge:?}");
            assert!(edge.discarded.is_empty(), "{edge:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn each_record_comes_out_once_or_fails_whatever_happens(
        setting in setting(),
        ops in proptest::collection::vec(op(), 0..300),
    ) {
        let mut trial = Trial::new(setting);
        for op in &ops {
            trial.does(op);
        }
        trial.finish();
        trial.check();
    }

    #[test]
    fn the_books_balance_wherever_a_run_is_cut_off(
        setting in setting(),
        ops in proptest::collection::vec(op(), 0..200),
    ) {
        let mut trial = Trial::new(setting);
        for op in &ops {
            trial.does(op);
        }
        for edge in trial.broker.close_books() {
            prop_assert!(edge.balances(), "{:?}", edge);
        }
    }

    #[test]
    fn a_full_queue_that_drops_counts_what_it_drops(
        oldest: bool,
        capacity in 1u64..10,
        ops in proptest::collection::vec(prop_oneof![(1u64..30).prop_map(Op::Publish), (1u64..9).prop_map(Op::Take)], 0..60),
    ) {
        let plan = Build::new()
            .stage("source")
            .queue_with("source -> stdout", |queue| {
                queue.capacity = Some(capacity);
                queue.when_full = if oldest { WhenFull::DropOldest } else { WhenFull::DropNewest };
            })
            .accepted();
        let mut broker = Broker::new(&plan);
        let (mut next, mut out, mut waiting) = (0u64, Vec::new(), VecDeque::new());
        for op in ops {
            match op {
                Op::Publish(records) => {
                    let made: Vec<u64> = (next..next + records).collect();
                    next += records;
                    broker.publish(broker.output(0, 0), block(&made));
                    prop_assert!(!broker.is_blocked(broker.output(0, 0)));
                    for number in made {
                        if (waiting.len() as u64) < capacity {
                            waiting.push_back(number);
                        } else if oldest {
                            waiting.pop_front();
                            waiting.push_back(number);
                        }
                    }
                }
                Op::Take(records) => {
                    if let Some((queue, block)) = broker.take(Consumer::Stdout, 0, usize::MAX, records) {
                        broker.deliver(queue, block.records);
                        let numbers = numbers(&block);
                        let expected: Vec<u64> = waiting.drain(..numbers.len()).collect();
                        prop_assert_eq!(&numbers, &expected);
                        out.extend(numbers);
                    }
                }
                _ => unreachable!("no other operation is made here"),
            }
        }
        let report = broker.close_books().remove(0);
        prop_assert!(report.balances());
        prop_assert_eq!(report.dropped, next - out.len() as u64 - waiting.len() as u64);
    }
}

#[test]
fn a_record_larger_than_the_queue_passes_alone() {
    let plan = Build::new()
        .stage("source")
        .queue_with("source -> stdout", |queue| queue.capacity_bytes = 200)
        .accepted();
    let mut broker = Broker::new(&plan);
    let source = broker.output(0, 0);
    let large = [vec![b'x'; 5000], vec![b'\n']].concat();
    broker.publish(source, Block { data: Bytes::from(large.clone()), records: 1, is_open: false });
    assert!(!broker.is_blocked(source));
    broker.publish(source, block(&[1]));
    assert!(broker.is_blocked(source), "nothing goes beside it");
    assert_eq!(broker.take(Consumer::Stdout, 0, 10, 10).unwrap().1.data, large);
    assert!(!broker.is_blocked(source));
    assert_eq!(broker.changes().producers, [source]);
}

#[test]
fn what_nobody_wants_is_told_up_the_graph() {
    let plan = Build::new().stage("source").stage("sink").queue("source -> sink").accepted();
    let mut broker = Broker::new(&plan);
    let source = broker.output(SOURCE, 0);
    broker.publish(source, block(&[1, 2, 3]));
    broker.close_consumer(Consumer::Port { stage: 1, port: 0 }, Reason::ConsumerEnded);
    assert!(broker.is_unwanted(source));
    assert_eq!(broker.changes().unwanted, [source]);
    broker.publish(source, block(&[4]));
    let report = broker.close_books().remove(0);
    assert_eq!((report.records_in, report.discarded[0].records), (4, 4));
}
