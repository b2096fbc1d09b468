//! What `map` functions answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde_json::Value;

use super::RunLoop;
use super::held::{self, Held};
use super::lease::Blame;
use super::read::shown;
use super::window::LARGEST_PIPE;
use super::worker::{Exchange, Tap};
use crate::ipc::{Answer, Block, Breach, Cut, Failed, Framing};
use crate::runtime::broker::{Failure, Lease, Results};
use crate::runtime::supervisor::{Asked, Input, Worker};

impl RunLoop {
    pub(super) fn read_answers(&mut self, stage: usize, rank: usize) {
        if self.has_blocked_output(stage) {
            // They stay readable, and come back on the list when there is room.
            return;
        }
        self.has_moved = true;
        if self.take_answers(stage, rank) == Some(0) {
            self.left_early(stage, rank, "pipe for answers");
            self.close_answers(stage, rank);
        }
    }

    /// Reads once, so many bytes. 0: that was the end; `None`: nothing was there.
    fn take_answers(&mut self, stage: usize, rank: usize) -> Option<usize> {
        let buffers = self.buffers.clone();
        let tap = self.workers[stage][rank].as_mut()?.answers.as_mut()?;
        match tap.cutter.read(tap.fd.as_fd(), &buffers) {
            Ok(Ok(Cut::Nothing)) => {
                tap.is_readable = false;
                None
            }
            Ok(Ok(Cut::Read { block, bytes })) => {
                if tap.read_so_much(bytes) {
                    let token = tap.token;
                    self.readable.push_back(token);
                }
                self.answers_came(stage, rank, &block);
                Some(bytes)
            }
            // A torn last answer of a worker that died is its unfinished work.
            Ok(Ok(Cut::End { .. })) => Some(0),
            Ok(Err(oversize)) => {
                let what =
                    format!("an answer of {} bytes, which is more than any record may have", oversize.bytes);
                self.breached(stage, rank, &Breach(what));
                Some(0)
            }
            Err(error) => {
                self.fail_stage(stage, Some(rank), format!("cannot read its answers: {error}"));
                Some(0)
            }
        }
    }

    /// What lies in the pipe of a worker that has ended. Whether that was all.
    pub(super) fn drain_answers(&mut self, stage: usize, rank: usize) -> Option<OwnedFd> {
        // Whoever holds the other end may write for ever.
        let mut budget = 2 * LARGEST_PIPE;
        loop {
            match self.take_answers(stage, rank) {
                Some(0) => {
                    self.close_answers(stage, rank);
                    return None;
                }
                Some(bytes) if bytes < budget => budget -= bytes,
                Some(_) | None => return self.close_answers(stage, rank).map(|tap| tap.fd),
            }
        }
    }

    fn close_answers(&mut self, stage: usize, rank: usize) -> Option<Tap> {
        let io = self.workers[stage][rank].as_mut()?;
        let tap = io.answers.take()?;
        self.tokens.remove(tap.token);
        let worker = io.worker;
        self.tell_if_outputs_ended(worker);
        Some(tap)
    }

    fn answers_came(&mut self, stage: usize, rank: usize, block: &Block) {
        let outputs = self.function_outputs(stage);
        let framings: Vec<Framing> =
            outputs.iter().map(|&port| Framing::of(self.plan.stages[stage].outputs[port].format)).collect();
        for frame in Framing::Length.records(&block.data) {
            let has_breached = self.workers[stage][rank].as_ref().is_none_or(|io| io.has_breached);
            if self.abandoned[stage] || has_breached {
                return;
            }
            match Answer::read(&block.data.slice_ref(frame), &framings) {
                Ok(answer) => {
                    let answer = match self.pin_answer(stage, rank, answer) {
                        Ok(answer) => answer,
                        Err(breach) => return self.breached(stage, rank, &breach),
                    };
                    if let Err(breach) = self.function_answered(stage, rank, answer, &outputs) {
                        return self.breached(stage, rank, &breach);
                    }
                }
                Err(breach) => return self.breached(stage, rank, &breach),
            }
        }
        self.pump_map_worker(stage, rank);
    }

    /// An answer whose results hold the segments that they lie in.
    fn pin_answer(&mut self, stage: usize, rank: usize, mut answer: Answer) -> Result<Answer, Breach> {
        let Some(worker) = self.workers[stage][rank].as_ref().map(|io| io.worker) else { return Ok(answer) };
        if let Answer::Done { outputs, .. } = &mut answer {
            for output in outputs {
                let port = self.function_outputs(stage).get(output.port).copied();
                if port.is_some_and(|port| {
                    Framing::of(self.plan.stages[stage].outputs[port].format) == Framing::Chunks
                }) {
                    output.block = self.pin_segments(worker, std::mem::take(&mut output.block))?;
                }
            }
        }
        Ok(answer)
    }

    fn function_answered(
        &mut self,
        stage: usize,
        rank: usize,
        answer: Answer,
        ports: &[usize],
    ) -> Result<(), Breach> {
        let now = self.clock.now();
        let is_batch = self.plan.stages[stage].stage.batch.is_some();
        let held = self.broker.leases(stage, rank).next().map_or(0, Lease::open);
        let breach = |what: String| Err(Breach(what));
        let Some(io) = self.workers[stage][rank].as_mut() else { return Ok(()) };
        let worker = io.worker;
        let Exchange::Map { window, answered, parts, about, .. } = &mut io.exchange else { return Ok(()) };
        match answer {
            Answer::Done { records, .. } if records > held => {
                breach(format!("it answered {records} records at once of a frame that has {held} left"))
            }
            Answer::Done { records, .. } if is_batch && records != 0 && records != held => {
                breach(format!("it answered {records} records of a batch of {held}"))
            }
            Answer::Done { records: 0, .. } | Answer::About(_) | Answer::Failed(_) if held == 0 => {
                breach("it said something of a record, and holds none".to_owned())
            }
            Answer::Done { records, outputs } => {
                let outputs: Results =
                    outputs.into_iter().map(|output| (ports[output.port], output.block)).collect();
                if records > 0 {
                    window.answered(records, now);
                    *answered += records;
                    *about = None;
                }
                if !outputs.iter().all(|(port, block)| {
                    self.is_small(stage, rank, *port, block) && self.is_valid(stage, rank, *port, block)
                }) {
                    return Ok(());
                }
                match records {
                    0 => self.hold_part(stage, rank, outputs),
                    _ => self.answer_records((stage, rank), records, outputs),
                }
                Ok(())
            }
            Answer::Failed(failed) => {
                window.answered(1, now);
                parts.clear();
                let about = about.take();
                self.record_failed(worker, failed, about);
                Ok(())
            }
            Answer::About(value) => {
                *about = Some(value);
                Ok(())
            }
            Answer::Leaving => {
                // What it holds it does not work on: it goes to others uncharged, when the worker has ended.
                io.input_closed = true;
                self.inputs.push_back(Input::Retire { worker, asked: Asked::Replace });
                Ok(())
            }
        }
    }

    /// Records are answered, by these results and by the parts that came before.
    fn answer_records(&mut self, (stage, rank): (usize, usize), records: u64, outputs: Results) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Exchange::Map { parts, .. } = &mut io.exchange else { return };
        let parts = std::mem::take(parts);
        match self.join_parts(stage, parts) {
            Ok(mut results) => {
                results.extend(outputs);
                if self.broker.answer_with(stage, rank, records, results).is_err() {
                    tracing::error!("more was answered than was held, which was looked at before");
                }
            }
            Err(error) => {
                let reason = format!("cannot read back its held results: {error}");
                self.fail_stage(stage, Some(rank), reason);
            }
        }
    }

    /// Whether no record is larger than the queues that lead out of its port take; fails the stage where one is.
    fn is_small(&mut self, stage: usize, rank: usize, port: usize, block: &Block) -> bool {
        let plan = &self.plan.stages[stage].outputs[port];
        let limits = plan.queues.iter().map(|&queue| self.plan.queues[queue].options.max_record);
        let Some(limit) = limits.min().filter(|&limit| block.len() as u64 > limit) else { return true };
        let framing = Framing::of(plan.format);
        let large = framing
            .records(&block.data)
            .map(|record| framing.body(record))
            .find(|body| body.len() as u64 > limit);
        let Some(body) = large else { return true };
        let reason = format!(
            "it made a record of {} bytes, more than the {limit} of `max_record`: {}",
            body.len(),
            shown(body)
        );
        self.fail_stage(stage, Some(rank), reason);
        false
    }

    fn hold_part(&mut self, stage: usize, rank: usize, outputs: Results) {
        for (port, block) in outputs {
            let Some(io) = self.workers[stage][rank].as_mut() else { return };
            let Exchange::Map { parts, .. } = &mut io.exchange else { return };
            let position = parts.iter().position(|(of, _)| *of == port).unwrap_or_else(|| {
                parts.push((port, Held::default()));
                parts.len() - 1
            });
            if let Err(error) = parts[position].1.push(block) {
                return self.fail_stage(stage, Some(rank), format!("cannot hold its results back: {error}"));
            }
        }
    }

    fn join_parts(&self, stage: usize, parts: Vec<(usize, Held)>) -> io::Result<Results> {
        let mut joined = Results::new();
        for (port, part) in parts {
            let framing = Framing::of(self.plan.stages[stage].outputs[port].format);
            joined.extend(held::join(part.take(framing)?).map(|block| (port, block)));
        }
        Ok(joined)
    }

    /// The function has raised an exception for the record that it was called with.
    fn record_failed(&mut self, worker: Worker, failed: Failed, about: Option<Value>) {
        let Worker { stage, rank, .. } = worker;
        let error = failed.reason();
        let record = failed.record.or(about);
        let shown = record.as_ref().map(shown_value).unwrap_or_default();
        let traceback = failed.traceback.filter(|text| !text.is_empty());
        let blame = Blame { shown, record, error, exit: None, traceback };
        let verdict = self.fail_current(stage, rank, Failure::Error);
        self.judged(worker, verdict, blame);
    }
}

/// A record as one line of text: a text as it is, anything else as JSON.
pub(super) fn shown_value(value: &Value) -> String {
    match value {
        Value::String(text) => super::read::cut(text.as_bytes()),
        other => super::read::cut(other.to_string().as_bytes()),
    }
}
