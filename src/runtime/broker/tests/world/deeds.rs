//! What sources and workers do, and what may happen to them.

use super::super::documents::{NAMES, WAY_BITS};
use super::*;
use crate::model::{FAILED, Mode};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    /// A reload begins; one that is under way is withdrawn. By its seed.
    Reload(u64),
    /// It takes effect.
    Commit,
    /// It does not.
    Withdraw,
    /// Standard input brings so many.
    Read(u64),
    /// A source makes so many.
    Make(usize, u64),
    /// A source is at its end.
    EndSource(usize),
    /// A worker is given at most so many.
    Give(usize, usize, u64),
    /// A worker does at most so many of those it has.
    Work(usize, usize, u64),
    Die(usize, usize),
    Fail(usize, usize),
    GiveBack(usize, usize),
    Reserve(usize, usize),
    Succeed(usize, usize),
    Revoke(usize, usize, usize),
    /// A stage that leaves is gone, though it may not have been ready.
    Leave(usize),
    /// Standard output takes so many.
    Take(u64),
    Pass,
}

impl Op {
    pub(crate) fn random(random: &mut fastrand::Rng) -> Self {
        // Of all forms, most often one of the last.
        let (stage, rank) = (random.usize(..6), random.usize(..WIDEST));
        match random.u8(..44) {
            0..2 => Self::Reload(random.u64(..)),
            2..4 => Self::Commit,
            4 => match random.u8(..3) {
                0 => Self::Withdraw,
                1 => Self::EndSource(stage),
                _ => Self::Pass,
            },
            5..9 => Self::Read(random.u64(1..12)),
            9..12 => Self::Make(stage, random.u64(1..12)),
            12..21 => Self::Give(stage, rank, random.u64(1..8)),
            21..30 => Self::Work(stage, rank, random.u64(1..8)),
            30..32 => Self::Die(stage, rank),
            32 => Self::Fail(stage, rank),
            33 => Self::GiveBack(stage, rank),
            34 => Self::Reserve(stage, rank),
            35 => Self::Succeed(stage, rank),
            36 => Self::Revoke(stage, rank, random.usize(..4)),
            37..39 => Self::Leave(stage),
            _ => Self::Take(random.u64(1..20)),
        }
    }
}

impl World {
    /// Counted from the newest: whatever was there long ago has mostly gone.
    fn stage(&self, number: usize) -> Option<usize> {
        let stage = self.forms.len().checked_sub(1 + number)?;
        let form = &self.forms[stage];
        (form.gate == Gate::Open && !form.is_over).then_some(stage)
    }

    fn is_source(&self, stage: usize) -> bool {
        self.plan.stages[stage].stage.name == "two"
    }

    /// The port of its results: that of failures may come before it.
    fn stdout(&self, stage: usize) -> usize {
        let outputs = &self.plan.stages[stage].outputs;
        outputs.iter().position(|port| port.name != FAILED).expect("all of them lead somewhere")
    }

    pub(super) fn is_leased(&self, stage: usize) -> bool {
        self.plan.stages[stage].stage.is_leased()
    }

    fn is_blocked(&self, stage: usize) -> bool {
        (0..self.plan.stages[stage].outputs.len())
            .any(|port| self.broker.is_blocked(self.broker.output(stage, port)))
    }

    /// What is about to be published.
    fn made(&mut self, stage: usize, port: usize, records: &[u64]) {
        let writer = &mut self.writers[self.forms[stage].writers[port]];
        let since = writer.led.len().saturating_sub(1);
        writer.made.extend(records.iter().map(|&record| (record, since)));
        // The exchange of a form before it may have been in order.
        let exchange = self.broker.stages[stage].exchange;
        writer.may_wait |= exchange.is_some_and(|exchange| self.broker.exchanges[exchange].order.is_some());
    }

    fn new_records(&mut self, count: u64) -> Vec<u64> {
        self.next += count;
        (self.next - count..self.next).map(|number| number << WAY_BITS).collect()
    }

    /// What a stage makes of records: all that ever come to a stage have numbers of their own, since the last digits say
    /// by which way each came.
    fn results(&self, stage: usize, has_failed: bool, records: &[u64]) -> Vec<u64> {
        let name = &self.plan.stages[stage].stage.name;
        let at = NAMES.iter().position(|of| of == name).expect("a stage that takes records");
        let digit = 1 + 2 * at as u64 + u64::from(has_failed);
        let way = |record: u64| record & ((1 << WAY_BITS) - 1);
        records.iter().map(|&record| record - way(record) + way(record) * 8 + digit).collect()
    }

    fn ends_at(&mut self, stage: usize, queue: usize, record: u64, end: End) {
        self.forms[stage].taken += 1;
        self.ends(queue, record, end);
    }

    fn ends(&mut self, queue: usize, record: u64, end: End) {
        let before = self.ends.insert((queue, record), end);
        assert_eq!(before, None, "record {record} of `{}` has ended twice", self.plan.queues[queue].name);
    }

    pub(crate) fn does(&mut self, op: Op) {
        match op {
            Op::Reload(seed) => self.reload(seed),
            Op::Commit => self.commit(),
            Op::Withdraw => self.withdraw(),
            Op::Read(count) => self.read(count),
            Op::Make(number, count) => {
                let source = self.stage(number).filter(|&stage| self.is_source(stage));
                if let Some(stage) = source.filter(|&stage| !self.is_blocked(stage)) {
                    let records = self.new_records(count);
                    self.made(stage, 0, &records);
                    self.broker.publish(self.broker.output(stage, 0), block(&records));
                }
            }
            Op::EndSource(number) => {
                let source = self.stage(number).filter(|&stage| self.is_source(stage));
                // A reload that is under way would begin again.
                if let Some(stage) = source.filter(|_| self.under_way.is_none()) {
                    self.is_over(stage);
                    if !self.forms[stage].is_leaving {
                        self.ended.insert(stage);
                    }
                }
            }
            Op::Give(number, rank, count) => {
                self.with(number, rank, |world, stage| world.give(stage, rank, count))
            }
            Op::Work(number, rank, count) => {
                self.with(number, rank, |world, stage| world.work(stage, rank, count))
            }
            Op::Die(number, rank) => {
                self.with(number, rank, |world, stage| world.ends_badly(stage, rank, Failure::Death));
            }
            Op::Fail(number, rank) => {
                self.with(number, rank, |world, stage| world.ends_badly(stage, rank, Failure::Error));
            }
            Op::GiveBack(number, rank) => {
                self.with(number, rank, |world, stage| world.give_back(stage, rank))
            }
            Op::Reserve(number, rank) => self.with(number, rank, |world, stage| world.reserve(stage, rank)),
            Op::Succeed(number, rank) => self.with(number, rank, |world, stage| world.succeed(stage, rank)),
            Op::Revoke(number, rank, place) => {
                self.with(number, rank, |world, stage| world.revoke(stage, rank, place));
            }
            Op::Leave(number) => {
                if let Some(stage) = self.stage(number).filter(|&stage| self.forms[stage].is_leaving) {
                    self.leave(stage);
                }
            }
            Op::Take(count) => {
                if let Some((queue, block)) = self.broker.take(Consumer::Stdout, 0, usize::MAX, count) {
                    self.broker.deliver(None, queue, block.records);
                    assert_eq!(self.plan.queues[queue].to, None);
                    numbers(&block).into_iter().for_each(|record| self.ends(queue, record, End::Delivered));
                }
            }
            Op::Pass => {
                self.now += Duration::from_secs(120);
                self.broker.wake_delayed(self.now);
            }
        }
        let _ = self.broker.changes();
    }

    fn read(&mut self, count: u64) {
        let Some(stdin) = self.broker.stdin() else { return };
        if self.has_stdin_ended || self.broker.is_blocked(stdin) || self.broker.leads_nowhere(stdin) {
            return;
        }
        let records = self.new_records(count);
        let writer = &mut self.writers[self.stdin];
        let since = writer.led.len() - 1;
        writer.made.extend(records.iter().map(|&record| (record, since)));
        self.broker.publish(stdin, block(&records));
    }

    /// A worker of a stage that takes records, if there is one.
    fn with(&mut self, number: usize, rank: usize, act: impl FnOnce(&mut Self, usize)) {
        let stage = self.stage(number).filter(|&stage| !self.is_source(stage));
        if let Some(stage) = stage.filter(|&stage| rank < self.forms[stage].workers.len()) {
            act(self, stage);
        }
    }

    fn give(&mut self, stage: usize, rank: usize, count: u64) {
        // Those that are too many in their pool, and processes that have their one record, get nothing.
        let is_each = self.plan.stages[stage].stage.mode == Mode::Each;
        let has_one = is_each && !self.forms[stage].workers[rank].given.is_empty();
        if rank >= self.plan.stages[stage].stage.pool.max || has_one || self.is_blocked(stage) {
            return;
        }
        if !self.is_leased(stage) {
            let port = Consumer::Port { stage, port: 0 };
            if let Some((queue, block)) = self.broker.take(port, rank, usize::MAX, count) {
                self.is_for(stage, queue);
                self.broker.deliver(Some(stage), queue, block.records);
                self.forms[stage].workers[rank].fed.push_back((queue, block));
            }
            return;
        }
        let count = if is_each { 1 } else { count };
        let Some(lease) = self.broker.lease(stage, rank, usize::MAX, count).cloned() else { return };
        self.is_for(stage, lease.queue);
        self.holds(stage, &lease);
        self.forms[stage].workers[rank].given.extend(numbers(&lease.block));
    }

    fn is_for(&self, stage: usize, queue: usize) {
        let name = &self.plan.queues[queue].name;
        let to = name.rsplit(" -> ").next();
        assert_eq!(to, Some(self.plan.stages[stage].stage.name.as_str()), "`{name}` leads elsewhere");
    }

    /// Nobody else has these.
    fn holds(&self, stage: usize, lease: &Lease) {
        for record in numbers(&lease.block) {
            assert_eq!(self.ends.get(&(lease.queue, record)), None, "{record} has ended already");
            let has = |worker: &Worker| worker.given.contains(&record) || worker.reserved.contains(&record);
            // By another subscription another stage may well have it.
            let name = |stage: usize| &self.plan.stages[stage].stage.name;
            let forms = (0..self.forms.len()).filter(|&other| name(other) == name(stage));
            let workers = forms.flat_map(|stage| &self.forms[stage].workers);
            assert!(!workers.into_iter().any(has), "{record} is held twice");
        }
    }

    fn work(&mut self, stage: usize, rank: usize, count: u64) {
        if !self.is_leased(stage) {
            if self.is_blocked(stage) {
                return;
            }
            if let Some((queue, block)) = self.forms[stage].workers[rank].fed.pop_front() {
                let records = numbers(&block);
                records.iter().for_each(|&record| self.ends_at(stage, queue, record, End::Delivered));
                let results = self.results(stage, false, &records);
                let port = self.stdout(stage);
                self.made(stage, port, &results);
                self.broker.publish(self.broker.output(stage, port), self::block(&results));
            }
            return;
        }
        let is_each = self.plan.stages[stage].stage.mode == Mode::Each;
        let held: Vec<(usize, u64)> = self.held(stage, rank);
        assert_eq!(
            held.iter().map(|(_, record)| *record).collect::<VecDeque<_>>(),
            self.forms[stage].workers[rank].given,
            "what the worker holds"
        );
        let count = if is_each { held.len() } else { held.len().min(usize::try_from(count).unwrap()) };
        if count == 0 {
            return;
        }
        let done: Vec<u64> = self.forms[stage].workers[rank].given.drain(..count).collect();
        held[..count].iter().for_each(|&(queue, record)| self.ends_at(stage, queue, record, End::Delivered));
        let results = self.results(stage, false, &done);
        let port = self.stdout(stage);
        self.made(stage, port, &results);
        match is_each {
            true => self.broker.answer_all(stage, rank, vec![(port, block(&results))]),
            false => self.broker.answer(stage, rank, Some(port), LINES, block(&results)).unwrap(),
        }
    }

    /// What a worker holds, and by which queues it came.
    fn held(&self, stage: usize, rank: usize) -> Vec<(usize, u64)> {
        let leases = self.broker.leases(stage, rank);
        let open = leases.flat_map(|lease| {
            let answered = usize::try_from(lease.answered).unwrap();
            numbers(&lease.block).into_iter().skip(answered).map(|record| (lease.queue, record))
        });
        open.collect()
    }

    fn ends_badly(&mut self, stage: usize, rank: usize, failure: Failure) {
        if !self.is_leased(stage) {
            return self.give_back(stage, rank);
        }
        let is_each = self.plan.stages[stage].stage.mode == Mode::Each;
        let verdict = match is_each {
            false => self.broker.fail_current(stage, rank, failure, self.now),
            true => self.broker.fail_held(stage, rank, failure, self.now),
        };
        if let Some(Verdict::UsedUp(lease)) = verdict {
            let records = numbers(&lease.block);
            records.iter().for_each(|&record| self.ends_at(stage, lease.queue, record, End::Failed));
            let failed = self.plan.stages[stage].outputs.iter().position(|port| port.name == FAILED);
            if let Some(port) = failed {
                let documents = self.results(stage, true, &records);
                self.made(stage, port, &documents);
                self.broker.publish(self.broker.output(stage, port), block(&documents));
            }
        }
        self.give_back(stage, rank);
    }

    fn give_back(&mut self, stage: usize, rank: usize) {
        if self.is_leased(stage) {
            self.broker.give_back(stage, rank);
            return self.forms[stage].workers[rank].given.clear();
        }
        // What it was written and has not read.
        let unread = std::mem::take(&mut self.forms[stage].workers[rank].fed);
        for (queue, block) in unread.into_iter().rev() {
            self.broker.undeliver(Some(stage), queue, block.records);
            self.broker.put_back(queue, rank, block);
        }
    }

    fn reserve(&mut self, stage: usize, rank: usize) {
        let is_each = self.plan.stages[stage].stage.mode == Mode::Each;
        let is_wanted = is_each && !self.forms[stage].is_leaving && !self.is_blocked(stage);
        if is_wanted && rank < self.plan.stages[stage].stage.pool.max && self.broker.reserve(stage, rank) {
            let lease = self.broker.last_reserved(stage, rank).expect("it was just set aside").clone();
            self.holds(stage, &lease);
            self.forms[stage].workers[rank].reserved.push_back(numbers(&lease.block)[0]);
        }
    }

    fn succeed(&mut self, stage: usize, rank: usize) {
        if self.is_leased(stage) && self.forms[stage].workers[rank].given.is_empty() {
            self.broker.succeed(stage, rank);
            let worker = &mut self.forms[stage].workers[rank];
            worker.given.extend(worker.reserved.pop_front());
        }
    }

    fn revoke(&mut self, stage: usize, rank: usize, place: usize) {
        if self.is_leased(stage) {
            self.broker.give_back_reserved(stage, rank, place);
            self.forms[stage].workers[rank].reserved.remove(place);
        }
    }

    /// A stage's workers are gone, whatever they hold.
    fn leave(&mut self, stage: usize) {
        for rank in 0..self.forms[stage].workers.len() {
            self.give_back(stage, rank);
            for _ in 0..self.forms[stage].workers[rank].reserved.len() {
                self.revoke(stage, rank, 0);
            }
        }
        self.is_over(stage);
    }
}
