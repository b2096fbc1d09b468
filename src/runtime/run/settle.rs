//! What the two cores say is done, until neither has anything more to say.

use super::RunLoop;
use std::time::Instant;

use super::feed::TakenBack;
use super::gate::Gate;
use super::lease::WorkerEnd;
use super::read::bad_end;
use super::worker::{Exchange, WorkerIo};
use crate::event::EventKind;
use crate::graph::Plan;
use crate::ipc::Block;
use crate::model::{Exit, Mode, Signal};
use crate::runtime::broker::{Broker, Consumer, Failure, ProducerId, Reason, StageCounts};
use crate::runtime::supervisor::{Action, Asked, Input, Outcome, Phase, View, Worker};

/// What the supervisor may ask about records.
struct Records<'a> {
    broker: &'a Broker,
    workers: &'a [Vec<Option<WorkerIo>>],
    tails: &'a [Vec<super::worker::StderrTail>],
    plan: &'a Plan,
}

impl View for Records<'_> {
    fn answered(&self, stage: usize) -> u64 {
        let StageCounts { records_in, .. } = self.broker.counts(stage);
        records_in
    }

    fn holds_records(&self, stage: usize, rank: usize) -> bool {
        let unended = match self.workers[stage][rank].as_ref().map(|io| &io.exchange) {
            // It counts as an answer if its worker ends well, which is when this is asked.
            Some(Exchange::Map { last: Some(_), .. }) => 1,
            _ => 0,
        };
        self.plan.stages[stage].stage.is_leased() && self.broker.held(stage, rank) > unended
    }

    fn lease_counts(&self, stage: usize, rank: usize) -> (u64, u64) {
        let answered = match self.workers[stage][rank].as_ref().map(|io| &io.exchange) {
            Some(Exchange::Map { answered, .. }) => *answered,
            _ => 0,
        };
        (answered, self.broker.held(stage, rank))
    }

    fn has_had_all(&self, stage: usize, rank: usize) -> bool {
        self.workers[stage][rank].as_ref().is_some_and(|io| io.has_had_all)
    }

    fn has_closed_output(&self, stage: usize) -> bool {
        // Who reads a pipe is not the engine's to see: as in a shell, SIGPIPE itself tells that it has gone.
        self.plan.pipes.iter().any(|pipe| pipe.from == stage && !pipe.duplex)
            || (0..self.plan.stages[stage].outputs.len())
                .any(|port| self.broker.is_cut_off(self.broker.output(stage, port)))
    }

    fn bad_end(&self, stage: usize, rank: usize) -> Option<String> {
        let Exchange::Stream { last, .. } = &self.workers[stage][rank].as_ref()?.exchange else {
            return None;
        };
        let formats = |port: usize| self.plan.stages[stage].outputs[port].format;
        last.iter().find_map(|(port, block)| bad_end(formats(*port), block))
    }

    fn stderr_tail(&self, stage: usize, rank: usize) -> Vec<String> {
        self.tails[stage][rank].lines()
    }
}

impl RunLoop {
    /// Lets both cores have their say until they are silent.
    pub(super) fn settle(&mut self) {
        loop {
            if let Some(input) = self.inputs.pop_front() {
                self.step(input);
                continue;
            }
            if let Some(notification) = self.overheard.pop_front() {
                self.hear(notification);
                continue;
            }
            let changes = self.broker.changes();
            if changes.consumers.is_empty() && changes.producers.is_empty() && changes.unwanted.is_empty() {
                self.watch_started();
                self.look_at_successors();
                if !self.advance_reload() && self.inputs.is_empty() {
                    return;
                }
            }
            for producer in changes.unwanted {
                self.close_unwanted(producer);
            }
            for consumer in changes.consumers {
                self.pump(consumer);
            }
            for producer in changes.producers {
                self.resume(producer);
            }
        }
    }

    pub(super) fn step(&mut self, input: Input) {
        let demand = match input {
            Input::Demand { stage, rank } => Some((stage, rank)),
            _ => None,
        };
        let view =
            Records { broker: &self.broker, workers: &self.workers, tails: &self.tails, plan: &self.plan };
        let started = match input {
            Input::Started { worker, .. } => Some(worker),
            _ => None,
        };
        let (real, now) = self.clock.both();
        let now = if input == Input::Tick { self.heard_at } else { now };
        for action in self.supervisor.step(input, now, &view) {
            self.act(action, real);
        }
        // Its pool may have become narrower meanwhile, or another takes over.
        if let Some((stage, rank)) = demand
            && self.supervisor.stage(stage).slots[rank].generation().is_none()
        {
            self.broker.give_back(stage, rank);
        }
        if let Some(worker) = started {
            self.worker_runs(worker);
        }
    }

    /// `real`: when it was decided.
    fn act(&mut self, action: Action, real: Instant) {
        match action {
            Action::Start(worker) => {
                self.to_start.push_back(worker);
                self.start_some();
            }
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::CloseInput(worker) => self.close_worker_input(worker),
            Action::AbandonInput { stage, has_failed } => {
                self.abandoned[stage] = true;
                let reason = if has_failed { Reason::ConsumerFailed } else { Reason::ConsumerEnded };
                self.broker.close_input(stage, reason);
            }
            Action::Ended { worker, exit, is_success, asked } => {
                self.ended(worker, exit, is_success, asked);
                self.shared_worker_ended(worker, is_success);
            }
            Action::LetGo(worker) => self.let_go(worker),
            Action::Wake { stage } => self.pump_leases(stage),
            Action::CloseSources => self.close_stdin(),
            Action::StageEnded { stage } => {
                self.stage_ended(stage);
                self.shared_stage_ended();
            }
            Action::LetFlow => self.let_flow(),
            Action::NotUp { stage, failure } => self.not_up(stage, *failure),
            Action::Steered { ticket, missing, given_up } => self.steered(ticket, &missing, given_up),
            // Told with the time that deadlines were reckoned from, however long this thread was kept from it.
            Action::Emit(kind) => self.tell_at(real, kind),
            Action::RunEnded => self.has_ended = true,
        }
    }

    fn signal(&mut self, worker: Worker, signal: Signal) {
        let Some(io) = self.io(worker) else { return };
        let id = io.id;
        if let Err(error) = self.launcher.request_signal(id, signal) {
            tracing::error!(%error, "cannot ask the launcher for a signal");
        }
    }

    /// The worker's side of the loop, where it is of this very generation.
    pub(super) fn io(&mut self, worker: Worker) -> Option<&mut WorkerIo> {
        self.workers[worker.stage][worker.rank].as_mut().filter(|io| io.worker == worker)
    }

    pub(super) fn worker_runs(&mut self, worker: Worker) {
        let Some(io) = self.io(worker) else { return };
        io.is_started = true;
        io.pipe_ends.clear();
        self.check_outputs(worker);
        for port in 0..self.plan.stages[worker.stage].outputs.len() {
            self.end_port_if_nobody_writes(worker.stage, port);
        }
        self.begin_probe(worker);
        self.function_started(worker);
        self.worker_works(worker);
    }

    /// A worker may be given records, if it may.
    pub(super) fn worker_works(&mut self, worker: Worker) {
        if !self.io(worker).is_some_and(|io| io.takes_records()) {
            return;
        }
        let ports = self.plan.stages[worker.stage].inputs.len();
        for port in 0..ports {
            self.pump(Consumer::Port { stage: worker.stage, port });
        }
        // One that comes when all the work is done has nothing to wait for.
        if self.work_done[worker.stage] {
            self.close_worker_input(worker);
        }
    }

    pub(super) fn start_failed(&mut self, worker: Worker, error: &str, is_passing: bool) {
        let Some(io) = self.take_io(worker) else { return };
        self.each_not_started(worker, error, is_passing);
        self.drop_unstarted(io, is_passing);
    }

    /// The record that an `each` process could not be started for: a machine that was short of something is not
    /// its fault.
    pub(super) fn each_not_started(&mut self, worker: Worker, error: &str, is_passing: bool) {
        if self.mode(worker.stage) != Mode::Each {
            return;
        }
        if is_passing {
            self.broker.give_back(worker.stage, worker.rank);
        } else {
            let error = format!("its process cannot be started: {error}");
            self.judge_each(worker, Failure::Error, None, &error);
        }
    }

    fn take_io(&mut self, worker: Worker) -> Option<WorkerIo> {
        self.io(worker)?;
        let io = self.workers[worker.stage][worker.rank].take()?;
        self.ids.remove(&io.id);
        Some(io)
    }

    /// Closes all ends of a worker that has ended.
    pub(super) fn drop_io(&mut self, io: WorkerIo) {
        let feeds = io.feeds.iter().flatten().map(|feed| feed.token);
        let taps = io.taps.iter().flatten().map(|tap| tap.token);
        let control = io.control.iter().map(|control| control.token);
        let answers = io.answers.iter().map(|tap| tap.token);
        for token in feeds.chain(taps).chain(io.log.iter().map(|log| log.token)).chain(control).chain(answers)
        {
            self.tokens.remove(token);
        }
        self.end_probe(io.probe);
    }

    // ---- the end of a worker

    fn ended(&mut self, worker: Worker, exit: Exit, is_success: bool, asked: Option<Asked>) {
        let Some(mut io) = self.take_io(worker) else { return };
        let read = io.read_of_leases();
        let feeds: Vec<_> = io.feeds.iter_mut().map(Option::take).collect();
        let mut unread = std::mem::take(&mut io.closed_feeds);
        for (port, feed) in feeds.into_iter().enumerate() {
            let Some(feed) = feed else { continue };
            self.tokens.remove(feed.token);
            if !self.is_leased_port(Consumer::Port { stage: worker.stage, port }) {
                unread.push(feed);
            }
        }
        for feed in unread {
            let broker = &self.broker;
            let back = feed.take_back(|queue| broker.framing(queue));
            self.take_back(worker, back, &mut io.exchange);
        }
        let mut kept = std::mem::take(&mut io.kept);
        // What would be answers is none: nobody has asked it anything.
        let plan = &self.plan.stages[worker.stage];
        kept.retain(|&(port, _)| !plan.stage.is_leased() || plan.outputs[port].name != crate::model::STDOUT);
        if self.gates[worker.stage] != Gate::Open {
            self.keep_early(worker.stage, kept);
        }
        match std::mem::replace(&mut io.exchange, Exchange::none()) {
            Exchange::Stream { fed, last, .. } => {
                let ended_well = self.plan.stages[worker.stage].stage.success_exit.contains(&exit);
                // What a worker had not finished when it was cut off is no record.
                // One that is none though its worker ended well has failed the stage: see `View::bad_end`.
                for (port, block) in last.into_iter().filter(|_| ended_well) {
                    if bad_end(self.plan.stages[worker.stage].outputs[port].format, &block).is_none() {
                        self.publish_or_keep(worker.stage, port, block);
                    }
                }
                let was_cut_off = asked.is_some_and(|asked| asked != Asked::Unwanted);
                if !ended_well && (was_cut_off || !is_success) {
                    fed.iter().for_each(|&(queue, records)| self.broker.unconfirm(queue, records));
                }
            }
            Exchange::Map { last, about, .. } => {
                self.map_ended(worker, WorkerEnd { exit, is_success, asked, read }, last, about);
            }
            Exchange::Each { results, .. } => {
                self.ran(worker.stage, io.ran, &results);
                self.each_ended(worker, exit, is_success, asked, results);
            }
        }
        self.drop_io(io);
        self.segments_left(worker);
        self.inputs_after_end(worker);
    }

    fn publish_or_keep(&mut self, stage: usize, port: usize, block: Block) {
        match self.gates[stage] {
            Gate::Open => self.broker.publish(self.broker.output(stage, port), block),
            Gate::Closed | Gate::Opening | Gate::Behind(_) => self.keep_early(stage, vec![(port, block)]),
        }
    }

    /// Records that an ended `stream` worker did not read are anybody's again.
    pub(super) fn take_back(&mut self, worker: Worker, back: TakenBack, exchange: &mut Exchange) {
        let mut undo = |queue: usize, records: u64| {
            if let Exchange::Stream { fed, .. } = exchange
                && let Some(entry) = fed.iter_mut().find(|(of, _)| *of == queue)
            {
                entry.1 = entry.1.saturating_sub(records);
            }
        };
        for &(queue, ref block) in &back.unread {
            undo(queue, block.records);
            self.broker.undeliver(Some(worker.stage), queue, block.records);
        }
        for (queue, records) in back.read {
            self.broker.deliver(Some(worker.stage), queue, records);
        }
        let back: Vec<(usize, Block)> = back.unread.into_iter().chain(back.unwritten).collect();
        for (queue, block) in back.into_iter().rev() {
            self.broker.put_back(queue, worker.rank, block);
        }
    }

    /// When no worker is left to take from a port, and none will come, what feeds it is told.
    fn inputs_after_end(&mut self, worker: Worker) {
        let stage = worker.stage;
        let state = self.supervisor.stage(stage);
        if matches!(state.phase, Phase::Running) && state.is_slot_done(worker.rank) {
            for port in 0..self.plan.stages[stage].inputs.len() {
                self.broker.close_lane(Consumer::Port { stage, port }, worker.rank, Reason::ConsumerEnded);
            }
        }
    }

    /// The outputs of a worker whose group has ended are at their end, or somebody else holds them.
    fn let_go(&mut self, worker: Worker) {
        let held = self.drain_outputs(worker);
        if !held.is_empty() {
            use std::os::fd::AsRawFd;
            let fds: Vec<i32> = held.iter().map(|fd| fd.as_raw_fd()).collect();
            self.tell_held(worker, crate::process::find_holder(&fds));
        }
    }

    fn stage_ended(&mut self, stage: usize) {
        let reason = match self.supervisor.stage(stage).phase {
            Phase::Over(Outcome::Failed) => Reason::ConsumerFailed,
            Phase::Over(Outcome::Stopped) => Reason::Stopped,
            Phase::Over(Outcome::Replaced) => Reason::EdgeRemoved,
            _ => Reason::ConsumerEnded,
        };
        self.abandoned[stage] = true;
        let before = self.broker.discarded(reason);
        self.broker.close_input(stage, reason);
        if reason == Reason::EdgeRemoved {
            self.tell_discarded(&before);
        }
        // What it wrote before its turn came is still to be passed on.
        if !matches!(self.gates[stage], Gate::Opening | Gate::Behind(_)) {
            self.end_outputs(stage);
        }
        self.release_behind(stage);
        let plan = &self.plan;
        self.pipes.retain(|&(pipe, _), ends| {
            let pipe = &plan.pipes[pipe];
            if pipe.from == stage {
                ends.from = None;
            }
            if pipe.to == stage {
                ends.to = None;
            }
            ends.from.is_some() || ends.to.is_some()
        });
    }

    /// What waited in edges that a reload has removed was not taken in time: nobody else says so before the report.
    fn tell_discarded(&mut self, before: &[u64]) {
        let now = self.broker.discarded(Reason::EdgeRemoved);
        for (queue, records) in now.iter().zip(before).map(|(now, before)| now - before).enumerate() {
            let records = match records {
                0 => continue,
                1 => "1 record".to_owned(),
                records => format!("{records} records"),
            };
            let edge = &self.plan.queues[queue].name;
            self.notice(format!(
                "{records} of `{edge}` discarded: the edge was removed, and whoever took from it did not within its grace \
                 period"
            ));
        }
    }

    /// Nobody of this stage publishes any more.
    pub(super) fn end_outputs(&mut self, stage: usize) {
        for port in 0..self.plan.stages[stage].outputs.len() {
            self.broker.end_output(stage, port);
        }
    }

    // ---- who may go on

    pub(super) fn pump(&mut self, consumer: Consumer) {
        match consumer {
            Consumer::Port { stage, .. } if self.gates[stage] != Gate::Open => {}
            Consumer::Stdout => self.pump_stdout(),
            Consumer::Port { stage, .. } if self.is_leased_port(consumer) => self.pump_leases(stage),
            Consumer::Port { stage, port } => self.pump_stream(stage, port),
        }
    }

    /// Nothing that this producer published waits any more.
    fn resume(&mut self, producer: ProducerId) {
        if Some(producer) == self.broker.stdin() {
            return self.resume_stdin();
        }
        for (stage, port) in self.ports_of(producer) {
            self.resume_port(stage, port);
        }
        self.start_some();
    }

    fn resume_port(&mut self, stage: usize, port: usize) {
        for worker in self.workers[stage].iter().flatten() {
            if let Some(tap) = worker.taps.get(port).and_then(Option::as_ref)
                && tap.is_readable
            {
                self.readable.push_back(tap.token);
            }
            if let Some(answers) = &worker.answers
                && answers.is_readable
            {
                self.readable.push_back(answers.token);
            }
        }
        if self.plan.stages[stage].stage.is_leased() {
            self.pump_leases(stage);
        }
    }

    /// The ports that a producer is: those of the old form of a stage and of the new one, under a reload.
    pub(super) fn ports_of(&self, producer: ProducerId) -> Vec<(usize, usize)> {
        let stages = self.plan.stages.iter().enumerate();
        let ports = stages.flat_map(|(stage, plan)| (0..plan.outputs.len()).map(move |port| (stage, port)));
        ports.filter(|&(stage, port)| self.broker.output(stage, port) == producer).collect()
    }

    /// Closes what nobody wants, so that whoever writes it meets SIGPIPE, as in a shell pipe.
    fn close_unwanted(&mut self, producer: ProducerId) {
        if Some(producer) == self.broker.stdin() {
            return self.close_stdin();
        }
        for (stage, port) in self.ports_of(producer) {
            self.close_unwanted_port(stage, port);
        }
    }

    fn close_unwanted_port(&mut self, stage: usize, port: usize) {
        for rank in 0..self.workers[stage].len() {
            self.close_tap(stage, rank, port);
        }
        let outputs = self.plan.stages[stage].outputs.len();
        let has_pipe =
            self.plan.pipes.iter().any(|pipe| pipe.from == stage || (pipe.duplex && pipe.to == stage));
        let producers = || (0..outputs).map(|port| self.broker.output(stage, port));
        let is_cut_off = producers().any(|producer| self.broker.is_cut_off(producer));
        let is_unwanted = producers().all(|producer| self.broker.is_unwanted(producer));
        if is_cut_off && is_unwanted && !has_pipe {
            self.inputs.push_back(Input::Unwanted { stage });
        }
    }

    /// Something that the user should know.
    pub(super) fn notice(&mut self, message: String) {
        self.tell(EventKind::Notice { message });
    }
}
