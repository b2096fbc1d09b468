//! Leased records for `map` and `each` workers, and what they answer.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;

use super::RunLoop;
use super::feed::Feed;
use super::held::{self, Held};
use super::read::cut;
use super::worker::Exchange;
use crate::event::EventKind;
use crate::ipc::{Block, Framing};
use crate::model::{Exit, Mode, OnError};
use crate::runtime::broker::{Consumer, Failure, Lease, Results, Verdict};
use crate::runtime::supervisor::{Asked, Input, Worker, describe_end};

/// Bytes leased to one `map` worker by one write: what the kernel's default pipe holds.
pub(crate) const LEASE_BYTES: usize = 64 << 10;

/// The failed record in a `failed` document.
const FAILED: &str = "failed";

impl RunLoop {
    /// Gives this stage's workers what they may have.
    pub(super) fn pump_leases(&mut self, stage: usize) {
        if self.abandoned[stage] {
            return;
        }
        match self.mode(stage) {
            Mode::Map => self.pump_map(stage),
            Mode::Each => self.pump_each(stage),
            Mode::Stream => {}
        }
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
    fn has_blocked_output(&self, stage: usize) -> bool {
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
        let sharers = self.workers[stage].iter().flatten().filter(|io| io.is_started).count() as u64;
        for step in 0..width {
            self.give_map((stage, (first + step) % width), sharers);
        }
        self.grow_if_backlogged(stage);
    }

    fn give_map(&mut self, (stage, rank): (usize, usize), sharers: u64) {
        let most = self.plan.stages[stage].stage.max_records_per_worker.unwrap_or(u64::MAX);
        let held = self.broker.held(stage, rank);
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Exchange::Map { window, first_lease, .. } = &mut io.exchange else { return };
        let has_room = io.feeds[0].as_ref().is_some_and(|feed| feed.is_writable && feed.is_idle());
        if !io.is_started || io.input_closed || !has_room || !window.wants_more(held) {
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
        let waiting = self.broker.waiting(Consumer::Port { stage, port: 0 }, rank);
        let share = waiting.div_ceil(sharers.max(1)).max(1);
        let mut records = (window.records() - held).min(most - io.given).min(share);
        let mut bytes = LEASE_BYTES;
        let framing = self.broker.input_framing(stage);
        let mut gave = false;
        while records > 0 && bytes > 0 {
            let Some(lease) = self.broker.lease(stage, rank, bytes, records) else { break };
            records = records.saturating_sub(lease.block.records);
            bytes = bytes.saturating_sub(lease.block.len());
            io.given += lease.block.records;
            let (queue, block) = (lease.queue, ended(&lease.block, framing));
            if let Some(feed) = io.feeds[0].as_mut() {
                feed.push(queue, block);
            }
            gave = true;
        }
        if !gave {
            return;
        }
        let now = Instant::now();
        if held == 0 {
            window.begins(now);
            first_lease.get_or_insert(now);
        }
        io.idle_since = None;
        self.flush_feed(stage, rank, 0);
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
        window.answered(records, Instant::now());
        *answered += records;
        let total = *answered;
        match self.broker.answer(stage, rank, Some(port), framing, block) {
            Ok(()) => self.pump_leases(stage),
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
        exit: Exit,
        is_success: bool,
        asked: Option<Asked>,
        last: Option<Block>,
    ) {
        let Worker { stage, rank, .. } = worker;
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
        let is_blamed = asked.is_none_or(|asked| asked == Asked::Fault);
        if is_blamed && self.broker.held(stage, rank) > 0 {
            let name = self.plan.stages[stage].stage.worker_name(rank);
            let fault = self.faults.remove(&worker);
            let failure = if fault.is_some() { Failure::Error } else { Failure::Death };
            let error = fault.unwrap_or_else(|| describe_end(&name, exit));
            let record = self.current_record(stage, rank);
            let verdict = self.broker.fail_current(stage, rank, failure, Instant::now());
            self.judged(worker, record, verdict, Some(exit), &error);
        }
        self.broker.give_back(stage, rank);
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
            if !is_leased {
                break;
            }
            self.inputs.push_back(Input::Demand { stage, rank });
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
        if waiting == 0 && !has_returned {
            self.batch_since[stage] = None;
            return false;
        }
        let since = *self.batch_since[stage].get_or_insert_with(Instant::now);
        let waited = batch.wait.is_some_and(|wait| since.elapsed() >= wait);
        let is_due = waiting >= size
            || has_returned
            || waited
            || self.broker.is_backlogged(stage)
            || self.broker.no_more_comes(consumer);
        if !is_due {
            return false;
        }
        let bytes = batch.bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
        self.batch_since[stage] = None;
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
            let error = self.faults.remove(&worker).unwrap_or_else(|| describe_end(&name, exit));
            self.judge_each(worker, Some(exit), error);
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
    pub(super) fn judge_each(&mut self, worker: Worker, exit: Option<Exit>, error: String) {
        let failure = match exit {
            Some(Exit::Signal(_)) if !self.faults.contains_key(&worker) => Failure::Death,
            _ => Failure::Error,
        };
        let record = self.current_record(worker.stage, worker.rank);
        let verdict = self.broker.fail_held(worker.stage, worker.rank, failure, Instant::now());
        self.judged(worker, record, verdict, exit, &error);
        self.pump_leases(worker.stage);
    }

    // ---- verdicts

    /// The beginning of the record that a worker is working on.
    fn current_record(&self, stage: usize, rank: usize) -> String {
        let Some(lease) = self.broker.leases(stage, rank).next() else { return String::new() };
        let framing = self.broker.input_framing(stage);
        let answered = usize::try_from(lease.answered).unwrap_or(usize::MAX);
        let record = framing.records(&lease.block.data).nth(answered).unwrap_or_default();
        cut(framing.body(record))
    }

    fn judged(
        &mut self,
        worker: Worker,
        record: String,
        verdict: Option<Verdict>,
        exit: Option<Exit>,
        error: &str,
    ) {
        let Worker { stage, rank, .. } = worker;
        let Some(verdict) = verdict else { return };
        let (attempts, retried) = match &verdict {
            Verdict::Again { attempts, .. } => (*attempts, true),
            Verdict::UsedUp(lease) => (lease.attempts, false),
        };
        self.tell(EventKind::RecordFailed {
            worker: self.worker_id(worker),
            record: record.clone(),
            error: error.to_owned(),
            attempts,
            retried,
        });
        match verdict {
            Verdict::Again { .. } => {}
            Verdict::UsedUp(lease) => {
                let outputs = &self.plan.stages[stage].outputs;
                if let Some(port) = outputs.iter().position(|port| port.name == FAILED) {
                    let documents = self.failed_documents(worker, &lease, exit, error);
                    self.broker.publish(self.broker.output(stage, port), documents);
                } else if self.plan.stages[stage].stage.on_error == OnError::Fail {
                    let times = if attempts == 1 { String::new() } else { format!(", {attempts} times") };
                    let reason = format!("{error}{times}, for the record `{record}`");
                    let stderr = self.tails[stage][rank].lines();
                    self.inputs.push_back(Input::Fail { stage, rank: Some(rank), exit, reason, stderr });
                }
            }
        }
    }

    /// One JSON document for each record of a lease whose attempts are used up.
    fn failed_documents(&self, worker: Worker, lease: &Lease, exit: Option<Exit>, error: &str) -> Block {
        let Worker { stage, rank, .. } = worker;
        let declared = &self.plan.stages[stage].stage;
        let is_json = self.plan.stages[stage].inputs[0].format == crate::model::Format::Json;
        let framing = self.broker.input_framing(stage);
        let mut bytes = BytesMut::new();
        for record in framing.records(&lease.block.data) {
            let body = framing.body(record);
            let parsed = is_json.then(|| serde_json::from_slice::<serde_json::Value>(body).ok()).flatten();
            let mut document = json!({
                "record": parsed.unwrap_or_else(|| String::from_utf8_lossy(body).into()),
                "error": error,
                "attempts": lease.attempts,
                "stage": declared.name,
                "worker": declared.worker_name(rank),
                "exit": exit.map(Exit::code),
                "stderr": self.tails[stage][rank].lines().join("\n"),
            });
            if std::str::from_utf8(body).is_err() {
                // Nothing is lost of a record that no JSON text can hold.
                document["record_bytes"] = body.into();
            }
            bytes.extend_from_slice(document.to_string().as_bytes());
            bytes.put_u8(b'\n');
        }
        Block { data: bytes.freeze(), records: lease.block.records, is_open: false }
    }
}

/// A block whose last record has its end: a filter answers only what is ended.
fn ended(block: &Block, framing: Framing) -> Block {
    let Some(end) = framing.end().filter(|_| block.is_open) else { return block.clone() };
    let mut bytes = BytesMut::with_capacity(block.len() + 1);
    bytes.extend_from_slice(&block.data);
    bytes.put_u8(end);
    Block { data: Bytes::from(bytes), records: block.records, is_open: false }
}
