//! The exchange of a leased stage beside a small model of what it owes: workers that are given records, answer, fail,
//! die and are given back in any order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::model::{Mode, PartitionKey, Retry};

const WIDTH: usize = 3;

/// The stages of the pipeline: `one` and `two` feed `work`, and that standard output and, where it has such an edge,
/// `lost`.
const SOURCES: [usize; 2] = [0, 1];
const WORK: usize = 2;
const LOSER: usize = 3;
const LOST: Consumer = Consumer::Port { stage: LOSER, port: 0 };

/// What becomes of a record whose attempts are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UsedUp {
    Port,
    Skip,
    FailTheStage,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    mode: Mode,
    /// Records of a batch at most (`each`).
    batch: Option<u64>,
    ordered: bool,
    capacity: Option<u64>,
    /// Each record belongs to one worker.
    by_key: bool,
    attempts: u32,
    delay: Duration,
    used_up: UsedUp,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    /// A source makes so many records, if it may.
    Publish(usize, u64),
    /// A worker is given at most so many.
    Lease(usize, u64),
    /// A worker answers at most so many of those it holds; an `each` process, all.
    Answer(usize, u64),
    /// A worker dies, at the record it works on, of which and of what follows it has read so many bytes.
    Die(usize, u64),
    /// A worker reports an error for the record it works on.
    Fail(usize),
    /// A worker is asked to end: nobody is to blame.
    GiveBack(usize),
    /// A record is set aside for the process after this one (`each`).
    Reserve(usize),
    /// That one takes its place.
    Succeed(usize),
    /// There will be none.
    Revoke(usize, usize),
    /// Standard output takes so many.
    Take(u64),
    /// The other stage takes so many documents about failures.
    TakeLost(u64),
    /// Time passes.
    Pass(u64),
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    any::<u64>().prop_map(|seed| Op::random(&mut fastrand::Rng::with_seed(seed)))
}

pub(super) fn setting() -> impl Strategy<Value = Setting> {
    any::<u64>().prop_map(|seed| Setting::random(&mut fastrand::Rng::with_seed(seed)))
}

impl Op {
    fn random(random: &mut fastrand::Rng) -> Self {
        let rank = random.usize(..WIDTH);
        match random.u8(..34) {
            0..4 => Self::Publish(random.usize(..2), random.u64(1..20)),
            4..10 => Self::Lease(rank, random.u64(1..10)),
            10..16 => Self::Answer(rank, random.u64(1..10)),
            16..18 => Self::Die(rank, random.u64(..4)),
            18..20 => Self::Fail(rank),
            20 => Self::GiveBack(rank),
            21..25 => Self::Take(random.u64(1..30)),
            25 => Self::TakeLost(random.u64(1..9)),
            26..29 => Self::Reserve(rank),
            29..31 => Self::Succeed(rank),
            31 => Self::Revoke(rank, random.usize(..4)),
            _ => Self::Pass(random.u64(1..2000)),
        }
    }
}

impl Setting {
    fn random(random: &mut fastrand::Rng) -> Self {
        let mode = if random.bool() { Mode::Map } else { Mode::Each };
        Self {
            mode,
            batch: (mode == Mode::Each && random.bool()).then(|| random.u64(2..8)),
            ordered: random.bool(),
            capacity: random.bool().then(|| random.u64(1..40)),
            by_key: random.u8(..4) == 0,
            attempts: random.u32(1..5),
            delay: Duration::from_millis(if random.bool() { 500 } else { 0 }),
            used_up: [UsedUp::Port, UsedUp::Port, UsedUp::Skip, UsedUp::FailTheStage][random.usize(..4)],
        }
    }
}

/// The broker, and what it was seen to do.
pub(super) struct Trial {
    setting: Setting,
    broker: Broker,
    now: Instant,
    /// The next record that a source makes; records are their own numbers.
    next: u64,
    /// By rank: the records that the worker was handed and has not answered.
    given: Vec<VecDeque<u64>>,
    /// By rank: bytes that the worker was handed in all.
    handed: Vec<u64>,
    /// By rank: the records that are set aside for the worker's successors.
    reserved: Vec<VecDeque<u64>>,
    /// How often each record was an attempt that failed.
    failures: Vec<u32>,
    /// Who had it first, where that is to stay so.
    owners: BTreeMap<u64, usize>,
    /// In the order in which they were given out first.
    begun: Vec<u64>,
    used_up: Vec<u64>,
    out: Vec<u64>,
    lost: Vec<u64>,
    has_failed: bool,
}

impl Trial {
    pub(super) fn new(setting: Setting) -> Self {
        let mut build = Build::new()
            .stage("one")
            .stage("two")
            .with("work", |stage| {
                stage.mode = setting.mode;
                stage.ordered = setting.ordered;
                stage.pool = pool(WIDTH);
                stage.retry = Retry { attempts: setting.attempts, delay: setting.delay, ..Retry::default() };
            })
            .stage("lost");
        for edge in ["one -> work", "two -> work"] {
            build = build.queue_with(edge, |queue| {
                queue.capacity = setting.capacity;
                queue.partition_by = setting.by_key.then_some(PartitionKey::Field(1));
            });
        }
        build = build.queue_with("work -> stdout", |queue| queue.capacity = setting.capacity);
        if setting.used_up == UsedUp::Port {
            build = build.queue_with("work.failed -> lost", |queue| queue.capacity = setting.capacity);
        }
        Self {
            setting,
            broker: Broker::new(&build.accepted()),
            now: Instant::now(),
            next: 0,
            given: vec![VecDeque::new(); WIDTH],
            handed: vec![0; WIDTH],
            reserved: vec![VecDeque::new(); WIDTH],
            failures: Vec::new(),
            owners: BTreeMap::new(),
            begun: Vec::new(),
            used_up: Vec::new(),
            out: Vec::new(),
            lost: Vec::new(),
            has_failed: false,
        }
    }

    pub(super) fn does(&mut self, op: Op) {
        match op {
            Op::Publish(source, records) => {
                let source = self.broker.output(SOURCES[source], 0);
                if !self.broker.is_blocked(source) {
                    let made: Vec<u64> = (self.next..self.next + records).collect();
                    self.next += records;
                    self.failures.resize(usize::try_from(self.next).unwrap(), 0);
                    self.broker.publish(source, block(&made));
                }
            }
            Op::Lease(rank, records) => self.lease(rank, records),
            Op::Answer(rank, records) => self.answer(rank, records),
            Op::Die(rank, read) => self.dies(rank, read),
            Op::Fail(rank) => self.ends_badly(rank, Failure::Error),
            Op::GiveBack(rank) => self.gives_back(rank),
            Op::Reserve(rank) => self.reserve(rank),
            Op::Succeed(rank) => {
                // Only when the process before it has ended.
                if self.given[rank].is_empty() {
                    self.broker.succeed(WORK, rank);
                    self.given[rank].extend(self.reserved[rank].pop_front());
                    let holds = self.broker.leases(WORK, rank).flat_map(|lease| numbers(&lease.block));
                    assert!(holds.eq(self.given[rank].iter().copied()));
                }
            }
            Op::Revoke(rank, place) => {
                self.broker.give_back_reserved(WORK, rank, place);
                self.reserved[rank].remove(place);
            }
            Op::Take(records) => {
                let taken = self.take(Consumer::Stdout, records);
                self.out.extend(taken);
            }
            Op::TakeLost(records) => {
                let taken = self.take(LOST, records);
                self.lost.extend(taken);
            }
            Op::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                self.broker.wake_delayed(self.now);
            }
        }
        let _ = self.broker.changes();
        let most = self.setting.capacity.unwrap_or(u64::MAX);
        let is_over = |edge: &EdgeSnapshot| edge.records > most;
        // What is given back or tried again has had its place before, but not in a queue.
        assert!(
            !self.broker.snapshot().iter().any(is_over),
            "over the capacity: {:?}",
            self.broker.snapshot()
        );
    }

    fn take(&mut self, consumer: Consumer, records: u64) -> Vec<u64> {
        if consumer == LOST && self.setting.used_up != UsedUp::Port {
            return Vec::new();
        }
        let Some((queue, block)) = self.broker.take(consumer, 0, usize::MAX, records) else {
            return Vec::new();
        };
        assert!(block.records <= records.max(1));
        self.broker.deliver((consumer == LOST).then_some(LOSER), queue, block.records);
        numbers(&block)
    }

    fn lease(&mut self, rank: usize, records: u64) {
        // An `each` process has one record or batch; while results wait for room, nothing is leased.
        let has_one = self.setting.mode == Mode::Each && !self.given[rank].is_empty();
        let is_blocked = [0, 1].into_iter().take(self.outputs()).any(|port| {
            let output = self.broker.output(WORK, port);
            self.broker.is_blocked(output)
        });
        if has_one || is_blocked || self.has_failed {
            return;
        }
        let lease = match (self.setting.mode, self.setting.batch) {
            (Mode::Each, Some(size)) => {
                self.broker.lease_gathered(WORK, rank, usize::MAX, size);
                self.broker.leases(WORK, rank).last().cloned()
            }
            (Mode::Each, None) => self.broker.lease(WORK, rank, usize::MAX, 1).cloned(),
            _ => self.broker.lease(WORK, rank, usize::MAX, records).cloned(),
        };
        if let Some(lease) = lease {
            let leased = numbers(&lease.block);
            let most =
                self.setting.batch.unwrap_or(if self.setting.mode == Mode::Each { 1 } else { records });
            assert!(leased.len() as u64 <= most, "{leased:?} at once, of {most}");
            assert!(lease.attempts == 0 || leased.len() == 1 || self.setting.batch.is_some());
            for &record in &leased {
                assert_eq!(lease.attempts, self.failures[usize::try_from(record).unwrap()]);
                assert!(!self.is_given(record), "{record} is held twice");
                let owner = *self.owners.entry(record).or_insert_with(|| {
                    self.begun.push(record);
                    rank
                });
                assert!(!self.setting.by_key || owner == rank, "{record} went to another worker");
            }
            self.given[rank].extend(leased);
            let position = self.broker.leases(WORK, rank).count() - 1;
            self.broker.handed_over(WORK, rank, position, self.handed[rank]);
            self.handed[rank] += lease.block.len() as u64;
        }
        assert_eq!(self.broker.held(WORK, rank), self.given[rank].len() as u64);
    }

    /// Sets a record aside for one more process after the one that is there.
    fn reserve(&mut self, rank: usize) {
        let is_single = self.setting.mode == Mode::Each && self.setting.batch.is_none();
        if !is_single || self.has_failed || !self.broker.reserve(WORK, rank) {
            return;
        }
        let lease = self.broker.last_reserved(WORK, rank).expect("it was just set aside");
        let [record] = numbers(&lease.block)[..] else { panic!("one record is set aside") };
        assert_eq!(lease.attempts, self.failures[usize::try_from(record).unwrap()]);
        assert!(!self.is_given(record), "{record} is held twice");
        let owner = *self.owners.entry(record).or_insert_with(|| {
            self.begun.push(record);
            rank
        });
        assert!(!self.setting.by_key || owner == rank, "{record} went to another worker");
        self.reserved[rank].push_back(record);
        assert_eq!(self.broker.held(WORK, rank), self.given[rank].len() as u64);
    }

    fn is_given(&self, record: u64) -> bool {
        self.given.iter().chain(&self.reserved).any(|given| given.contains(&record))
    }

    fn outputs(&self) -> usize {
        if self.setting.used_up == UsedUp::Port { 2 } else { 1 }
    }

    fn answer(&mut self, rank: usize, records: u64) {
        let most =
            if self.setting.mode == Mode::Each { usize::MAX } else { usize::try_from(records).unwrap() };
        let count = most.min(self.given[rank].len());
        if count == 0 {
            return;
        }
        let answered: Vec<u64> = self.given[rank].drain(..count).collect();
        match self.setting.mode {
            Mode::Map => self.broker.answer(WORK, rank, Some(0), LINES, block(&answered)).unwrap(),
            _ => self.broker.answer_all(WORK, rank, vec![(0, block(&answered))]),
        }
    }

    /// Nobody is to blame.
    fn gives_back(&mut self, rank: usize) {
        self.broker.give_back(WORK, rank);
        self.given[rank].clear();
        self.handed[rank] = 0;
    }

    /// A worker that has read nothing of any record that it did not answer is charged with none.
    fn dies(&mut self, rank: usize, read: u64) {
        let has_some = !self.given[rank].is_empty();
        if self.setting.mode == Mode::Map && has_some && !self.has_failed {
            let open: usize = self.given[rank].iter().map(|&record| block(&[record]).len()).sum();
            let before = self.handed[rank] - open as u64;
            let guilt = self.broker.guilt(WORK, rank, before + read, false);
            assert_eq!(guilt, if read == 0 { Guilt::None } else { Guilt::Current });
            if guilt == Guilt::None {
                return self.gives_back(rank);
            }
        }
        self.ends_badly(rank, Failure::Death);
    }

    fn ends_badly(&mut self, rank: usize, failure: Failure) {
        let verdict = match self.setting.mode {
            Mode::Map => self.broker.fail_current(WORK, rank, failure, self.now),
            _ => self.broker.fail_held(WORK, rank, failure, self.now),
        };
        assert_eq!(verdict.is_some(), !self.given[rank].is_empty());
        let held = self.given[rank].len();
        let count = if self.setting.mode == Mode::Map { held.min(1) } else { held };
        let guilty: Vec<u64> = self.given[rank].drain(..count).collect();
        if let Some(verdict) = verdict {
            self.judged(&guilty, failure, verdict);
        }
        if !self.has_failed {
            self.broker.give_back(WORK, rank);
        }
        self.given[rank].clear();
        self.handed[rank] = 0;
    }

    fn judged(&mut self, guilty: &[u64], failure: Failure, verdict: Verdict) {
        guilty.iter().for_each(|&record| self.failures[usize::try_from(record).unwrap()] += 1);
        let failures = self.failures[usize::try_from(guilty[0]).unwrap()];
        let allowed = match failure {
            Failure::Error => self.setting.attempts,
            Failure::Death => self.setting.attempts.max(3),
        };
        match verdict {
            Verdict::Again { attempts, .. } => {
                assert_eq!(attempts, failures);
                assert!(failures < allowed);
            }
            Verdict::UsedUp(lease) => {
                assert_eq!(numbers(&lease.block), guilty);
                assert!(failures >= allowed, "it had {failures} of {allowed} attempts");
                self.used_up.extend(guilty);
                match self.setting.used_up {
                    UsedUp::Port => {
                        let failed = self.broker.output(WORK, 1);
                        self.broker.publish(failed, block(guilty));
                    }
                    UsedUp::Skip => {}
                    UsedUp::FailTheStage => {
                        self.has_failed = true;
                        self.broker.close_input(WORK, Reason::ConsumerFailed);
                        self.given.iter_mut().for_each(VecDeque::clear);
                        self.reserved.iter_mut().for_each(VecDeque::clear);
                    }
                }
            }
        }
    }

    /// Works off everything: nothing may be stuck.
    pub(super) fn finish(&mut self) {
        for source in SOURCES {
            self.broker.end_producer(self.broker.output(source, 0));
        }
        let mut turns = 0;
        while !self.broker.is_answered(WORK) {
            turns += 1;
            assert!(turns < 20_000, "the broker is stuck: {:?}", self.broker.snapshot());
            self.does(Op::Pass(120_000));
            self.does(Op::Take(100));
            self.does(Op::TakeLost(100));
            for rank in 0..WIDTH {
                self.does(Op::Succeed(rank));
                self.does(Op::Lease(rank, 5));
                self.does(Op::Answer(rank, 5));
            }
        }
        for port in 0..self.outputs() {
            self.broker.end_producer(self.broker.output(WORK, port));
        }
        self.broker.end_producer(self.broker.output(LOSER, 0));
        let has_lost = self.setting.used_up == UsedUp::Port;
        while !self.broker.is_ended(Consumer::Stdout, 0) || (has_lost && !self.broker.is_ended(LOST, 0)) {
            turns += 1;
            assert!(turns < 20_000, "the broker does not end: {:?}", self.broker.snapshot());
            self.does(Op::Take(100));
            self.does(Op::TakeLost(100));
        }
    }

    /// What must hold when all has been worked off.
    pub(super) fn check(mut self) {
        if self.setting.ordered {
            let is_out: std::collections::BTreeSet<u64> = self.out.iter().copied().collect();
            self.begun.retain(|record| is_out.contains(record));
            assert_eq!(self.out, self.begun, "results leave in the order in which their records came");
        }
        let mut came = [&self.out[..], &self.used_up].concat();
        came.sort_unstable();
        if self.has_failed {
            assert!(came.windows(2).all(|pair| pair[0] < pair[1]), "a record came twice");
        } else {
            assert_eq!(
                came,
                (0..self.next).collect::<Vec<_>>(),
                "each record once, as a result or as failed"
            );
        }
        if self.setting.used_up == UsedUp::Port {
            assert_eq!(self.lost, self.used_up, "each failure is told once");
        }
        let counts = self.broker.counts(WORK);
        assert_eq!((counts.failed, counts.records_out), (self.used_up.len() as u64, self.out.len() as u64));
        let (has_failed, mut discarded) = (self.has_failed, 0);
        for edge in self.broker.close_books() {
            assert!(edge.balances(), "{edge:?}");
            assert!(has_failed || edge.discarded.is_empty(), "{edge:?}");
            discarded += edge.discarded.iter().map(|part| part.records).sum::<u64>();
        }
        // In order, a stage that fails takes the results with it that wait for those before them.
        let known = came.len() as u64 + discarded;
        assert!(if has_failed && self.setting.ordered { known <= self.next } else { known == self.next });
    }

    /// The run is cut off here.
    pub(super) fn cut_off(mut self) {
        for edge in self.broker.close_books() {
            assert!(edge.balances(), "{edge:?}");
        }
    }
}

/// The seed of a trial, told when it fails.
pub(super) struct Told(pub(super) u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was the trial of the seed {:#x}", self.0);
        }
    }
}

/// Random trials of some hundred steps each, until there were so many in all.
pub(super) fn steps(count: usize) {
    let mut done = 0;
    while done < count {
        let told = Told(fastrand::u64(..));
        let mut random = fastrand::Rng::with_seed(told.0);
        let mut trial = Trial::new(Setting::random(&mut random));
        let steps = random.usize(1..600);
        for _ in 0..steps {
            trial.does(Op::random(&mut random));
        }
        done += steps;
        match random.u8(..4) {
            0 => trial.cut_off(),
            _ => {
                trial.finish();
                trial.check();
            }
        }
    }
}
