//! Leased records for `map` and `each` workers, and what they answer.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

use super::RunLoop;
use super::answers::shown_value;
use super::feed::Feed;
use super::gate::Gate;
use super::held::{self, Held};
use super::read::cut;
use super::worker::{Exchange, Idleness};
use crate::event::EventKind;
use crate::ipc::{Block, Framing, bodies, decode, records_header};
use crate::model::{Exit, FAILED, Format, Mode, OnError};
use crate::runtime::broker::{Consumer, Failure, Guilt, Lease, Results, Verdict};
use crate::runtime::supervisor::{Asked, Input, Worker, describe_end};

/// Bytes leased to one `map` worker by one write: what the kernel's default pipe holds.
pub(crate) const LEASE_BYTES: usize = 64 << 10;

/// Batches that one `map` worker is given at most: the one that it works on, and the next.
const BATCHES_AHEAD: usize = 2;

/// Why an attempt at a record failed, as people are told.
pub(super) struct Blame {
    /// The record as one line of text.
    pub(super) shown: String,
    /// The record as a worker describes it, where it is coded so that only a worker can read it.
    pub(super) record: Option<Value>,
    pub(super) error: String,
    pub(super) exit: Option<Exit>,
    pub(super) traceback: Option<String>,
}

/// How a `map` worker has ended.
pub(super) struct WorkerEnd {
    pub(super) exit: Exit,
    pub(super) is_success: bool,
    pub(super) asked: Option<Asked>,
    /// Bytes that it had read of what its leases were handed over in.
    pub(super) read: u64,
}

impl RunLoop {
    /// Gives this stage's workers what they may have.
    pub(super) fn pump_leases(&mut self, stage: usize) {
        if self.abandoned[stage] || self.gates[stage] != Gate::Open {
            return;
        }
        match self.mode(stage) {
            Mode::Map => self.pump_map(stage),
            Mode::Each => self.pump_each(stage),
            Mode::Stream => {}
        }
        self.look_for_end_of_leases(stage);
    }

    /// Gives one `map` worker what it may have, when it is the only one for whom something has changed: to ask all of a wide
    /// pool each time would cost more than the records. Where another has waited for this one, the broker tells.
    pub(super) fn pump_map_worker(&mut self, stage: usize, rank: usize) {
        if self.abandoned[stage] || self.gates[stage] != Gate::Open {
            return;
        }
        if !self.has_blocked_output(stage) {
            self.give_map(stage, rank);
            self.grow_if_backlogged(stage);
        }
        self.look_for_end_of_leases(stage);
    }

    fn look_for_end_of_leases(&mut self, stage: usize) {
        if self.mode(stage) == Mode::Map && self.broker.has_given_all(stage) {
            self.end_map_inputs(stage);
        }
        if !self.work_done[stage] && self.broker.is_answered(stage) {
            self.work_done[stage] = true;
            self.inputs.push_back(Input::WorkDone { stage });
        }
    }

    // ---- map

    /// Whether results, or records that failed, wait for room: nothing more is given out then.
    pub(super) fn has_blocked_output(&self, stage: usize) -> bool {
        (0..self.plan.stages[stage].outputs.len())
            .any(|port| self.broker.is_blocked(self.broker.output(stage, port)))
    }

    fn pump_map(&mut self, stage: usize) {
        if self.has_blocked_output(stage) {
            return;
        }
        let width = self.workers[stage].len();
        let first = self.turns[stage];
        self.turns[stage] = (first + 1) % width;
        for step in 0..width {
            self.give_map(stage, (first + step) % width);
        }
        self.grow_if_backlogged(stage);
    }

    fn give_map(&mut self, stage: usize, rank: usize) {
        let most = self.plan.stages[stage].stage.max_records_per_worker.unwrap_or(u64::MAX);
        let (held, ahead) = (self.broker.held(stage, rank), self.rounds.ahead());
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let takes_records = io.takes_records();
        let Exchange::Map { window, .. } = &io.exchange else { return };
        let has_room = io.feeds[0].as_ref().is_some_and(|feed| feed.is_writable && feed.is_idle());
        if !takes_records || io.input_closed || !has_room || !window.wants_more(held, ahead) {
            return;
        }
        if io.given >= most {
            if held == 0 {
                let worker = io.worker;
                io.input_closed = true;
                self.inputs.push_back(Input::Retire { worker, asked: Asked::Replace });
            }
            return;
        }
        let worker = io.worker;
        let leased = match self.plan.stages[stage].stage.batch {
            None => self.lease_records(stage, rank, held),
            Some(_) => u64::from(
                self.broker.leases(stage, rank).count() < BATCHES_AHEAD && self.lease_batch(stage, rank),
            ),
        };
        if leased == 0 {
            return;
        }
        self.hand_over(worker, leased);
        let now = self.clock.now();
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Exchange::Map { window, first_lease, .. } = &mut io.exchange else { return };
        if held == 0 {
            window.begins(now);
            first_lease.get_or_insert(now);
        }
        io.idleness = Idleness::Busy;
        self.flush_feed(stage, rank, 0);
    }

    /// Leases a worker as many records as it should have ahead of it, or its share of what waits. Returns how many
    /// leases these are.
    fn lease_records(&mut self, stage: usize, rank: usize, held: u64) -> u64 {
        let most = self.plan.stages[stage].stage.max_records_per_worker.unwrap_or(u64::MAX);
        let Some(io) = self.workers[stage][rank].as_ref() else { return 0 };
        let Exchange::Map { window, .. } = &io.exchange else { return 0 };
        let wanted = window.records(self.rounds.ahead()).saturating_sub(held).min(most - io.given);
        let waiting = self.broker.waiting(Consumer::Port { stage, port: 0 }, rank);
        // Whom it is shared with matters only where it is little.
        let is_plenty = waiting / (self.workers[stage].len() as u64).max(1) >= wanted;
        let mut records = if is_plenty { wanted } else { wanted.min(self.share(stage, waiting)) };
        let (mut bytes, mut leases) = (LEASE_BYTES, 0);
        while records > 0 && bytes > 0 {
            let Some(lease) = self.broker.lease(stage, rank, bytes, records) else { break };
            records = records.saturating_sub(lease.block.records);
            bytes = bytes.saturating_sub(usize::try_from(lease.block.cost()).unwrap_or(usize::MAX));
            leases += 1;
        }
        leases
    }

    /// What each of those has of so many records who could work on them.
    fn share(&self, stage: usize, records: u64) -> u64 {
        let sharers = self.workers[stage].iter().flatten().filter(|io| io.takes_records()).count() as u64;
        records.div_ceil(sharers.max(1)).max(1)
    }

    /// Puts what a `map` worker was leased last on its way to it.
    fn hand_over(&mut self, worker: Worker, leases: u64) {
        let Worker { stage, rank, .. } = worker;
        let framing = self.broker.input_framing(stage);
        let all = self.broker.leases(stage, rank).count();
        let new = usize::try_from(leases).map_or(0, |new| all.saturating_sub(new));
        let given: Vec<_> = self
            .broker
            .leases(stage, rank)
            .enumerate()
            .skip(new)
            .map(|(position, lease)| {
                (position, lease.queue, ended(&lease.block, framing), lease.attempts + 1, lease.alone)
            })
            .collect();
        for (position, queue, block, attempt, alone) in given {
            let Some(block) = self.with_segments(worker, block) else { return };
            let Some(io) = self.workers[stage][rank].as_mut() else { return };
            io.given += block.records;
            let header = io.is_function.then(|| records_header(&block, attempt, alone));
            let Some(feed) = io.feeds[0].as_mut() else { return };
            self.broker.handed_over(stage, rank, position, feed.end());
            if let Some(data) = header {
                feed.push(queue, Block::new(data, 0));
            }
            feed.push(queue, block);
        }
    }

    /// Nothing comes any more: a command may wait for that to give its last answers. Should one die that holds
    /// records, the process that comes after it gets them.
    fn end_map_inputs(&mut self, stage: usize) {
        for rank in 0..self.workers[stage].len() {
            let Some(io) = self.workers[stage][rank].as_mut().filter(|io| io.is_started) else { continue };
            if !std::mem::replace(&mut io.has_had_all, true)
                && io.feeds[0].as_ref().is_some_and(Feed::is_idle)
            {
                self.close_feed(stage, rank, 0);
            }
        }
    }

    /// A `map` worker has answered.
    pub(super) fn answered(
        &mut self,
        stage: usize,
        rank: usize,
        port: usize,
        framing: Framing,
        block: Block,
    ) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let worker = io.worker;
        let Exchange::Map { window, answered, last, .. } = &mut io.exchange else { return };
        if block.is_open {
            // Whole only if its worker ends well.
            *last = Some(block);
            return;
        }
        let records = block.records;
        window.answered(records, self.clock.now());
        *answered += records;
        let total = *answered;
        match self.broker.answer(stage, rank, Some(port), framing, block) {
            Ok(()) => self.pump_map_worker(stage, rank),
            Err(too_many) => {
                let name = self.plan.stages[stage].stage.worker_name(rank);
                let taken = total - too_many.answered + too_many.held;
                let reason = format!(
                    "worker `{name}` answered {total} records where it had taken {taken}: a `map` command answers \
                     each record with exactly one; use `mode: stream` for one that does not"
                );
                self.fail_stage(stage, Some(rank), reason.clone());
                self.inputs.push_back(Input::Fault { worker, reason });
            }
        }
    }

    pub(super) fn map_ended(
        &mut self,
        worker: Worker,
        end: WorkerEnd,
        last: Option<Block>,
        about: Option<Value>,
    ) {
        let Worker { stage, rank, .. } = worker;
        let WorkerEnd { exit, is_success, asked, read } = end;
        if self.abandoned[stage] {
            return;
        }
        let outputs = &self.plan.stages[stage].outputs;
        if let Some(last) = last.filter(|_| is_success)
            && let Some(port) = outputs.iter().position(|port| port.name == crate::model::STDOUT)
        {
            let framing = Framing::of(outputs[port].format);
            if self.is_valid(stage, rank, port, &last) {
                let _ = self.broker.answer(stage, rank, Some(port), framing, last);
            }
        }
        if asked.is_none_or(|asked| asked == Asked::Fault) {
            let fault = self.faults.remove(&worker);
            // One that was killed for its record had that in hand, whatever it has read.
            let read = if fault.is_some() { u64::MAX } else { read };
            let together = self.is_function(stage) && self.plan.stages[stage].stage.batch.is_none();
            match self.broker.guilt(stage, rank, read, together) {
                Guilt::None => {}
                Guilt::OneOfSeveral => return self.broker.suspect(stage, rank),
                Guilt::Current => self.charge(worker, exit, fault, about),
            }
        }
        self.broker.give_back(stage, rank);
    }

    /// The record that a `map` worker worked on when it died is charged with that.
    fn charge(&mut self, worker: Worker, exit: Exit, fault: Option<String>, about: Option<Value>) {
        let Worker { stage, rank, .. } = worker;
        let name = self.plan.stages[stage].stage.worker_name(rank);
        let failure = if fault.is_some() { Failure::Error } else { Failure::Death };
        let error = fault.unwrap_or_else(|| describe_end(&name, exit));
        let shown = about.as_ref().map_or_else(|| self.current_record(stage, rank), shown_value);
        let blame = Blame { shown, record: about, error, exit: Some(exit), traceback: None };
        let verdict = self.fail_current(stage, rank, failure);
        self.judged(worker, verdict, blame);
    }

    // ---- each

    fn pump_each(&mut self, stage: usize) {
        if self.has_blocked_output(stage) {
            return;
        }
        for rank in 0..self.workers[stage].len() {
            if !self.supervisor.stage(stage).is_free(rank)
                || self.is_demanded(stage, rank)
                || self.has_successor(stage, rank)
            {
                continue;
            }
            let is_leased = match self.plan.stages[stage].stage.batch {
                None => self.broker.lease(stage, rank, usize::MAX, 1).is_some(),
                Some(_) => self.lease_batch(stage, rank),
            };
            match is_leased {
                true => self.inputs.push_back(Input::Demand { stage, rank }),
                // The others have records of their own.
                false if self.broker.has_lanes(Consumer::Port { stage, port: 0 }) => {}
                false => break,
            }
        }
        self.ask_for_successors(stage);
    }

    /// Whether a process for this slot was asked for and the supervisor has not heard yet.
    fn is_demanded(&self, stage: usize, rank: usize) -> bool {
        self.broker.held(stage, rank) > 0
    }

    /// Leases a whole batch, or what there is of one when no more comes, the queue is full or the wait is over.
    fn lease_batch(&mut self, stage: usize, rank: usize) -> bool {
        let Some(batch) = self.plan.stages[stage].stage.batch else { return false };
        let consumer = Consumer::Port { stage, port: 0 };
        let size = batch.size.get() as u64;
        let waiting = self.broker.waiting(consumer, rank);
        let has_returned = self.broker.has_returned(stage, rank);
        let gathered_for = (stage, if self.broker.has_lanes(consumer) { rank } else { 0 });
        if waiting == 0 && !has_returned {
            self.batch_since.remove(&gathered_for);
            return false;
        }
        let now = self.clock.now();
        let since = *self.batch_since.entry(gathered_for).or_insert(now);
        let waited = batch.wait.is_some_and(|wait| now.saturating_duration_since(since) >= wait);
        let is_due = waiting >= size
            || batch.bytes.is_some_and(|bytes| self.broker.waiting_bytes(consumer, rank) >= bytes)
            || has_returned
            || waited
            || self.broker.is_backlogged(stage)
            || self.broker.no_more_comes(consumer);
        if !is_due {
            return false;
        }
        let bytes = batch.bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
        self.batch_since.remove(&gathered_for);
        self.broker.lease_gathered(stage, rank, bytes, size)
    }

    /// Gives an `each` process what it was started for on its standard input, unless it has it as an argument.
    pub(super) fn give_each(&mut self, worker: Worker, is_argument: bool) {
        let Worker { stage, rank, .. } = worker;
        let Some(lease) = self.broker.leases(stage, rank).next() else { return };
        let (queue, block) = (lease.queue, lease.block.clone());
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        io.given = block.records;
        if is_argument {
            return;
        }
        if let Some(feed) = io.feeds.first_mut().and_then(Option::as_mut) {
            feed.push(queue, block);
        }
        io.input_closed = true;
        self.flush_feed(stage, rank, 0);
    }

    pub(super) fn each_ended(
        &mut self,
        worker: Worker,
        exit: Exit,
        is_success: bool,
        asked: Option<Asked>,
        results: Vec<(usize, Held)>,
    ) {
        let Worker { stage, rank, .. } = worker;
        if self.abandoned[stage] {
            return;
        }
        if asked.is_some_and(|asked| asked != Asked::Fault) {
            self.broker.give_back(stage, rank);
        } else if is_success {
            match self.collect(stage, results) {
                Ok(results) => {
                    if results.iter().all(|(port, block)| self.is_valid(stage, rank, *port, block)) {
                        self.broker.answer_all(stage, rank, results);
                    }
                }
                Err(error) => {
                    self.fail_stage(stage, Some(rank), format!("cannot read back its held output: {error}"));
                }
            }
        } else {
            let name = self.plan.stages[stage].stage.worker_name(rank);
            // One that was killed for its record has not died by itself.
            let (failure, error) = match (self.faults.remove(&worker), exit) {
                (Some(fault), _) => (Failure::Error, fault),
                (None, Exit::Signal(_)) => (Failure::Death, describe_end(&name, exit)),
                (None, Exit::Code(_)) => (Failure::Error, describe_end(&name, exit)),
            };
            self.judge_each(worker, failure, Some(exit), &error);
        }
        self.pump_leases(stage);
    }

    fn collect(&self, stage: usize, results: Vec<(usize, Held)>) -> std::io::Result<Results> {
        let mut collected = Results::new();
        for (port, held) in results {
            let framing = Framing::of(self.plan.stages[stage].outputs[port].format);
            if let Some(block) = held::join(held.take(framing)?) {
                collected.push((port, block));
            }
        }
        Ok(collected)
    }

    /// The attempt at what an `each` process was started for has failed.
    pub(super) fn judge_each(&mut self, worker: Worker, failure: Failure, exit: Option<Exit>, error: &str) {
        let shown = self.current_record(worker.stage, worker.rank);
        let verdict = self.broker.fail_held(worker.stage, worker.rank, failure, self.clock.now());
        let error = error.to_owned();
        self.judged(worker, verdict, Blame { shown, record: None, error, exit, traceback: None });
        self.pump_leases(worker.stage);
    }

    // ---- verdicts

    /// The beginning of the record that a worker is working on.
    fn current_record(&self, stage: usize, rank: usize) -> String {
        let Some(lease) = self.broker.leases(stage, rank).next() else { return String::new() };
        let framing = self.broker.input_framing(stage);
        if framing == Framing::Chunks {
            // Only a worker can read it, and none has.
            return format!("number {}", lease.sequence + 1);
        }
        let answered = usize::try_from(lease.answered).unwrap_or(usize::MAX);
        let record = framing.records(&lease.block.data).nth(answered).unwrap_or_default();
        cut(framing.body(record))
    }

    /// The record that a `map` worker works on has failed, or the whole batch that its function was called with.
    pub(super) fn fail_current(&mut self, stage: usize, rank: usize, failure: Failure) -> Option<Verdict> {
        match self.plan.stages[stage].stage.batch {
            Some(_) => self.broker.fail_held(stage, rank, failure, self.clock.now()),
            None => self.broker.fail_current(stage, rank, failure, self.clock.now()),
        }
    }

    pub(super) fn judged(&mut self, worker: Worker, verdict: Option<Verdict>, blame: Blame) {
        let Worker { stage, rank, .. } = worker;
        let Some(verdict) = verdict else { return };
        let (attempts, retried) = match &verdict {
            Verdict::Again { attempts, .. } => (*attempts, true),
            Verdict::UsedUp(lease) => (lease.attempts, false),
        };
        self.tell(EventKind::RecordFailed {
            worker: self.worker_id(worker),
            record: blame.shown.clone(),
            error: blame.error.clone(),
            attempts,
            retried,
        });
        match verdict {
            Verdict::Again { .. } => {}
            Verdict::UsedUp(lease) => {
                let outputs = &self.plan.stages[stage].outputs;
                if let Some(port) = outputs.iter().position(|port| port.name == FAILED) {
                    let documents = self.failed_documents(worker, &lease, &blame);
                    self.broker.publish(self.broker.output(stage, port), documents);
                } else if self.plan.stages[stage].stage.on_error == OnError::Fail {
                    let times = if attempts == 1 { String::new() } else { format!(", {attempts} times") };
                    let Blame { shown, error, exit, traceback, .. } = blame;
                    let reason = format!("{error}{times}, for the record `{shown}`");
                    let stderr = match traceback {
                        Some(traceback) => traceback.lines().map(str::to_owned).collect(),
                        None => self.tails[stage][rank].lines(),
                    };
                    self.inputs.push_back(Input::Fail { stage, rank: Some(rank), exit, reason, stderr });
                }
            }
        }
    }

    /// The only record of a lease, where no worker lived to say what it is, and it is not for Python alone to read.
    fn decoded(&self, stage: usize, lease: &Lease) -> Option<Value> {
        if lease.block.records != 1 || self.plan.stages[stage].inputs[0].format != Format::Msgpack {
            return None;
        }
        let block = self.without_segments(lease.block.clone()).ok()?;
        decode(Format::Msgpack, bodies(Format::Msgpack, &block.data).next()?).ok()
    }

    /// One JSON document for each record of a lease whose attempts are used up.
    fn failed_documents(&self, worker: Worker, lease: &Lease, blame: &Blame) -> Block {
        let Worker { stage, rank, .. } = worker;
        let declared = &self.plan.stages[stage].stage;
        let is_json = self.plan.stages[stage].inputs[0].format == crate::model::Format::Json;
        let framing = self.broker.input_framing(stage);
        let mut bytes = BytesMut::new();
        // A function is told which record it failed; those of a batch have failed together.
        let described = blame.record.as_ref().filter(|_| lease.block.records == 1);
        for record in framing.records(&lease.block.data) {
            let body = framing.body(record);
            let read = |body| serde_json::from_slice::<Value>(body).ok().filter(|_| is_json);
            let value = match (described, framing) {
                (Some(value), _) => value.clone(),
                (None, Framing::Chunks) => {
                    blame.record.clone().or_else(|| self.decoded(stage, lease)).unwrap_or_default()
                }
                (None, _) => read(body).unwrap_or_else(|| String::from_utf8_lossy(body).into()),
            };
            let mut document = json!({
                "record": value,
                "error": blame.error,
                "attempts": lease.attempts,
                "stage": declared.name,
                "worker": declared.worker_name(rank),
                "exit": blame.exit.map(Exit::code),
                "stderr": self.tails[stage][rank].lines().join("\n"),
            });
            if let Some(traceback) = &blame.traceback {
                document["traceback"] = traceback.as_str().into();
            }
            if framing != Framing::Chunks && std::str::from_utf8(body).is_err() {
                // Nothing is lost of a record that no JSON text can hold.
                document["record_bytes"] = body.into();
            }
            bytes.extend_from_slice(document.to_string().as_bytes());
            bytes.put_u8(b'\n');
        }
        // One document for each record, but for a chunk: nobody can tell its records apart.
        let records = framing.records(&lease.block.data).count() as u64;
        Block::new(bytes.freeze(), records)
    }
}

/// A block whose last record has its end: a filter answers only what is ended.
fn ended(block: &Block, framing: Framing) -> Block {
    let Some(end) = framing.end().filter(|_| block.is_open) else { return block.clone() };
    let mut bytes = BytesMut::with_capacity(block.len() + 1);
    bytes.extend_from_slice(&block.data);
    bytes.put_u8(end);
    Block::new(Bytes::from(bytes), block.records)
}
