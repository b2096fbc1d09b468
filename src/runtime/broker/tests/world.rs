//! The broker in the middle of reloads, beside a model that knows of every record where it was put and what became of it.
//!
//! The world does what the run's loop does around the broker: it prepares stages, has a reload take effect or withdraws
//! it, lets old forms of stages leave, and has the new form wait for the old one where order is to be kept.

mod deeds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) use deeds::Op;

use super::documents::{Document, WIDEST};
use super::*;
use crate::graph::{Live, Merged, compare};

/// Whether a stage is given records: as the run's loop has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Closed,
    Open,
    Behind(usize),
}

#[derive(Debug, Default, Clone)]
struct Worker {
    /// Of a leased stage: what it was handed and has not answered.
    given: VecDeque<u64>,
    /// Of a stream: what was written to it, and it has perhaps not read.
    fed: VecDeque<(usize, Block)>,
    /// What is set aside for the process after it.
    reserved: VecDeque<u64>,
}

/// A stage at its position.
#[derive(Debug)]
struct Form {
    gate: Gate,
    /// It is in effect no more.
    is_leaving: bool,
    is_over: bool,
    workers: Vec<Worker>,
    /// By its output ports: which of the model's writers it is.
    writers: Vec<usize>,
    /// Records that have ended here.
    taken: u64,
}

/// Whoever publishes: the same for a port of a stage whatever form the stage has, and for standard input.
#[derive(Debug, Default)]
struct Writer {
    /// The queues that it has led to, one list after the other.
    led: Vec<Vec<usize>>,
    /// What it has published, and where its queues were in `led` then. A result that has to wait for others before it
    /// may leave later.
    made: Vec<(u64, usize)>,
    may_wait: bool,
}

/// What became of a record in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Delivered,
    Failed,
}

pub(super) struct World {
    broker: Broker,
    now: Instant,
    document: Document,
    plan: Plan,
    live: Live,
    forms: Vec<Form>,
    /// Sources that have come to their end, and are in effect.
    ended: BTreeSet<usize>,
    writers: Vec<Writer>,
    stdin: usize,
    has_stdin_ended: bool,
    under_way: Option<Merged>,
    next: u64,
    ends: BTreeMap<(usize, u64), End>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut document = Document::random(&mut fastrand::Rng::with_seed(seed));
        if !document.edges.iter().any(|(from, to)| *from == "stdin" && document.has(to)) {
            document.edges.push(("stdin", "work"));
        }
        let plan = document.plan();
        let mut world = Self {
            broker: Broker::new(&plan),
            now: Instant::now(),
            document,
            live: Live::new(&plan),
            forms: Vec::new(),
            ended: BTreeSet::new(),
            writers: vec![Writer::default()],
            stdin: 0,
            has_stdin_ended: false,
            under_way: None,
            next: 1,
            ends: BTreeMap::new(),
            plan,
        };
        for stage in 0..world.plan.stages.len() {
            world.add_form(stage, None, Gate::Open);
        }
        world.leads();
        world
    }

    // ---- reloads

    fn add_form(&mut self, stage: usize, old: Option<usize>, gate: Gate) {
        let mut writers = Vec::new();
        for port in &self.plan.stages[stage].outputs {
            let is_same =
                |other: &crate::graph::PortPlan| (&other.name, other.format) == (&port.name, port.format);
            let shared = old.and_then(|old| {
                let at = self.plan.stages[old].outputs.iter().position(is_same)?;
                Some(self.forms[old].writers[at])
            });
            writers.push(shared.unwrap_or_else(|| {
                self.writers.push(Writer::default());
                self.writers.len() - 1
            }));
        }
        let workers = vec![Worker::default(); self.plan.stages[stage].stage.pool.max];
        self.forms.push(Form { gate, is_leaving: false, is_over: false, workers, writers, taken: 0 });
    }

    /// Writers in effect lead to the queues of the plan in effect.
    fn leads(&mut self) {
        for &stage in &self.live.stages {
            for (port, planned) in self.plan.stages[stage].outputs.iter().enumerate() {
                let writer = &mut self.writers[self.forms[stage].writers[port]];
                writer.led.push(planned.queues.clone());
                writer.may_wait |= self.plan.stages[stage].stage.ordered;
            }
        }
        let from_stdin = |&queue: &usize| self.plan.queues[queue].from.is_none();
        let queues = self.live.queues.iter().copied().filter(from_stdin).collect();
        self.writers[self.stdin].led.push(queues);
    }

    fn reload(&mut self, seed: u64) {
        self.withdraw();
        let document = self.document.edited(&mut fastrand::Rng::with_seed(seed));
        let plan = document.plan();
        let change = compare(&self.live.plan, &plan, &BTreeMap::new());
        let reads = |plan: &Plan| plan.queues.iter().any(|queue| queue.from.is_none());
        let is_refused = !change.new_run.is_empty() || (reads(&plan) && !reads(&self.live.plan));
        let lacks_ports = |&stage: &usize| {
            let old = &self.plan.stages[stage];
            let new = plan.stages.iter().find(|new| new.stage.name == old.stage.name);
            let has = |port: &crate::graph::PortPlan| old.outputs.iter().any(|of| of.name == port.name);
            new.is_some_and(|new| !new.outputs.iter().all(has))
        };
        if is_refused || self.ended.iter().any(lacks_ports) {
            return;
        }
        self.document = document;
        let merged = self.live.merge(&self.plan, &plan, &change, &self.ended);
        if change.is_nothing() {
            self.live = merged.live;
            return;
        }
        self.plan = merged.prepared.clone();
        for &new in &merged.added {
            let old = merged.replaced.iter().find(|(_, of)| *of == new).map(|(old, _)| *old);
            self.add_form(new, old, Gate::Closed);
            self.broker.add_stage(&self.plan, new, old);
        }
        self.under_way = Some(merged);
    }

    fn withdraw(&mut self) {
        for stage in self.under_way.take().map(|merged| merged.added).unwrap_or_default() {
            self.is_over(stage);
        }
    }

    fn commit(&mut self) {
        let Some(Merged { mut committed, live, replaced, added, removed, resized, .. }) =
            self.under_way.take()
        else {
            return;
        };
        for &stage in &resized {
            std::mem::swap(&mut committed.stages[stage].stage.pool, &mut self.plan.stages[stage].stage.pool);
        }
        let before = std::mem::replace(&mut self.plan, committed);
        self.broker.take_over(
            &self.plan,
            &Takeover { stages: &live.stages, queues: &live.queues, replaced: &replaced },
        );
        for &stage in &added {
            let old = replaced.iter().find(|(_, new)| *new == stage).map(|&(old, _)| old);
            if let Some(old) = old.filter(|&old| self.keeps_order(old, stage)) {
                self.forms[stage].gate = Gate::Behind(old);
            }
        }
        for stage in replaced.iter().map(|&(old, _)| old).chain(removed) {
            self.forms[stage].is_leaving = true;
            self.ended.remove(&stage);
        }
        self.live = live;
        for stage in resized {
            let pool = before.stages[stage].stage.pool;
            self.plan.stages[stage].stage.pool = pool;
            let width = self.forms[stage].workers.len().max(pool.max);
            self.forms[stage].workers.resize_with(width, Worker::default);
            self.broker.resize(stage, pool.max);
        }
        self.leads();
        for stage in added {
            if self.forms[stage].gate == Gate::Closed {
                self.release(stage);
            }
        }
        for &stage in &self.ended {
            self.broker.close_input(stage, Reason::ConsumerEnded);
        }
    }

    fn keeps_order(&self, old: usize, new: usize) -> bool {
        let (before, after) = (&self.plan.stages[old], &self.plan.stages[new]);
        let has_keys = |stage: &crate::graph::StagePlan| {
            let mut queues = stage.inputs.iter().flat_map(|port| &port.queues);
            queues.any(|&queue| self.plan.queues[queue].options.partition_by.is_some())
        };
        let are_alone = before.stage.pool.max == 1 && after.stage.pool.max == 1;
        let is_ordered_otherwise = before.stage.is_leased()
            && after.stage.is_leased()
            && before.stage.ordered != after.stage.ordered;
        !self.forms[old].is_over && (are_alone || is_ordered_otherwise || has_keys(before) || has_keys(after))
    }

    fn release(&mut self, stage: usize) {
        self.forms[stage].gate = Gate::Open;
        self.broker.settle_order(stage, self.plan.stages[stage].stage.ordered);
        if self.forms[stage].is_over {
            self.end_outputs(stage);
        }
    }

    /// A stage has come to its end.
    fn is_over(&mut self, stage: usize) {
        let reason = if self.forms[stage].is_leaving { Reason::EdgeRemoved } else { Reason::ConsumerEnded };
        self.forms[stage].is_over = true;
        self.broker.close_input(stage, reason);
        if !matches!(self.forms[stage].gate, Gate::Behind(_)) {
            self.end_outputs(stage);
        }
        let before = match self.forms[stage].gate {
            Gate::Behind(before) if !self.forms[before].is_over => Some(before),
            _ => None,
        };
        for after in 0..self.forms.len() {
            if self.forms[after].gate == Gate::Behind(stage) {
                match before {
                    Some(before) => self.forms[after].gate = Gate::Behind(before),
                    None => self.release(after),
                }
            }
        }
    }

    fn end_outputs(&mut self, stage: usize) {
        for port in 0..self.plan.stages[stage].outputs.len() {
            self.broker.end_output(stage, port);
        }
    }

    // ---- the end

    /// Everything is worked off: nothing may be stuck.
    pub(super) fn finish(&mut self) {
        self.commit();
        if let Some(stdin) = self.broker.stdin() {
            self.has_stdin_ended = true;
            self.broker.end_producer(stdin);
        }
        let mut turns = 0;
        while self.forms.iter().any(|form| !form.is_over) || !self.broker.is_ended(Consumer::Stdout, 0) {
            turns += 1;
            assert!(turns < 5_000, "the broker is stuck: {:?} {:?}", self.broker.snapshot(), self.forms);
            self.does(Op::Pass);
            self.does(Op::Take(100));
            // Stages that leave may wait for each other, one for the room in a queue whose next taker waits for its turn
            // behind another that waits for the end of the first: their grace period ends it.
            for number in (0..self.forms.len()).filter(|_| turns % 500 == 0) {
                self.does(Op::Leave(number));
            }
            for number in 0..self.forms.len() {
                for rank in 0..WIDEST {
                    self.does(Op::Revoke(number, rank, 0));
                    self.does(Op::Give(number, rank, 5));
                    self.does(Op::Work(number, rank, 5));
                }
                self.end_if_done(number);
            }
        }
    }

    fn end_if_done(&mut self, number: usize) {
        let stage = self.forms.len() - 1 - number;
        let form = &self.forms[stage];
        let has_none =
            |worker: &Worker| worker.given.is_empty() && worker.fed.is_empty() && worker.reserved.is_empty();
        let is_idle = form.workers.iter().all(has_none);
        let has_done_all = match form.is_leaving {
            // It leaves when there is nothing for it, also before its turn.
            true => self.broker.takes_no_more(stage),
            false if self.is_leased(stage) => self.broker.is_answered(stage),
            false => self.broker.is_input_ended(stage),
        };
        let has_turn = form.gate == Gate::Open || form.is_leaving;
        if !form.is_over && has_turn && is_idle && has_done_all {
            self.is_over(stage);
        }
    }

    /// What must hold when all has been worked off.
    pub(super) fn check(mut self) {
        for (stage, form) in self.forms.iter().enumerate() {
            assert_eq!(
                self.broker.counts(stage).records_in,
                form.taken,
                "what came to this form of the stage"
            );
        }
        let edges = self.broker.close_books();
        for (queue, edge) in edges.iter().enumerate() {
            assert!(edge.balances(), "{edge:?}");
            let count = |end: End| {
                self.ends.range((queue, 0)..(queue + 1, 0)).filter(|(_, of)| **of == end).count() as u64
            };
            assert_eq!(
                (edge.delivered, edge.failed),
                (count(End::Delivered), count(End::Failed)),
                "{edge:?}"
            );
            let discarded: u64 = edge.discarded.iter().map(|part| part.records).sum();
            let is_live = self.live.queues.contains(&queue);
            assert!(discarded == 0 || !is_live, "an edge that is there loses nothing: {edge:?}");
        }
        let discarded: Vec<u64> =
            edges.iter().map(|edge| edge.discarded.iter().map(|part| part.records).sum()).collect();
        for writer in &self.writers {
            let all: BTreeSet<usize> = writer.led.iter().flatten().copied().collect();
            let mut missing: BTreeMap<usize, u64> = BTreeMap::new();
            for &(record, since) in &writer.made {
                let came: Vec<usize> =
                    all.iter().copied().filter(|&queue| self.ends.contains_key(&(queue, record))).collect();
                let last = if writer.may_wait { writer.led.len() } else { since + 1 };
                let fits = |led: &&Vec<usize>| {
                    came.iter().all(|queue| led.contains(queue))
                        && led.iter().all(|queue| came.contains(queue) || discarded[*queue] > 0)
                };
                let led = writer.led[since..last].iter().find(fits).unwrap_or_else(|| {
                    panic!("record {record} came by {came:?}, and not by {:?}", &writer.led[since..last])
                });
                for queue in led.iter().filter(|queue| !came.contains(queue)) {
                    *missing.entry(*queue).or_default() += 1;
                }
            }
            if !writer.may_wait {
                for queue in all {
                    assert_eq!(
                        missing.get(&queue).copied().unwrap_or(0),
                        discarded[queue],
                        "{}",
                        edges[queue].edge
                    );
                }
            }
        }
    }

    /// The run is cut off here.
    pub(super) fn cut_off(mut self) {
        for edge in self.broker.close_books() {
            assert!(edge.balances(), "{edge:?}");
        }
    }
}
