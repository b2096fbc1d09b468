//! Blocks for `stream` workers: by demand, of adaptive size.

use std::os::fd::AsFd;

use super::RunLoop;
use super::feed::Wrote;
use super::worker::{Exchange, Idleness};
use crate::model::{Mode, RestartPolicy};
use crate::runtime::broker::{Consumer, Reason};
use crate::runtime::supervisor::{Input, LET_GO_AFTER, Phase, Worker};
use crate::sys::descriptor;

impl RunLoop {
    /// Gives what waits for this port to the workers that have room, in turn.
    pub(super) fn pump_stream(&mut self, stage: usize, port: usize) {
        let width = self.workers[stage].len();
        loop {
            // Each gets its part of what those before it have left, so that one round gives out all that they may
            // have: parts of the whole would halve what is left, and halve it again, down to single records.
            let mut hungry = (0..width).filter(|&rank| self.is_hungry(stage, rank, port)).count() as u64;
            let first = self.turns[stage];
            let mut gave = false;
            for step in 0..width {
                let rank = (first + step) % width;
                if !self.is_hungry(stage, rank, port) {
                    continue;
                }
                if self.give_stream(stage, rank, port, hungry) {
                    gave = true;
                    self.turns[stage] = (rank + 1) % width;
                }
                hungry = hungry.saturating_sub(1);
            }
            if !gave {
                break;
            }
        }
        self.grow_if_backlogged(stage);
    }

    fn is_hungry(&self, stage: usize, rank: usize, port: usize) -> bool {
        let Some(io) = &self.workers[stage][rank] else { return false };
        io.takes_records() && io.feeds[port].as_ref().is_some_and(|feed| feed.is_writable && feed.is_idle())
    }

    /// Gives one worker its share; `false` where there is nothing for it.
    fn give_stream(&mut self, stage: usize, rank: usize, port: usize, sharers: u64) -> bool {
        let consumer = Consumer::Port { stage, port };
        let mut records = self.broker.share(consumer, rank, sharers);
        if records == 0 {
            if self.broker.is_ended(consumer, rank) {
                self.close_feed(stage, rank, port);
            }
            return false;
        }
        let Some(io) = self.workers[stage][rank].as_mut() else { return false };
        let mut bytes = match &io.exchange {
            Exchange::Stream { window, .. } => {
                if window.takes_whole_blocks() {
                    // To halve what it is done with in a moment would cost more, since the records of a part are
                    // counted again, than it could even out.
                    records = u64::MAX;
                }
                window.bytes()
            }
            // A further port of a leased stage: a stream beside its records.
            Exchange::Map { .. } | Exchange::Each { .. } => super::window::LARGEST_PIPE,
        };
        io.idleness = Idleness::Busy;
        let worker = io.worker;
        let mut gave = false;
        while bytes > 0 && records > 0 {
            let Some((queue, block)) = self.broker.take(consumer, rank, bytes, records) else { break };
            bytes = bytes.saturating_sub(usize::try_from(block.cost()).unwrap_or(usize::MAX));
            records = records.saturating_sub(block.records);
            let given = block.records;
            let block = self.with_segments(worker, block);
            let Some(io) = self.workers[stage][rank].as_mut() else { return false };
            io.given += given;
            let Some(block) = block else { return false };
            if let Some(feed) = io.feeds[port].as_mut() {
                if let Exchange::Stream { window, .. } = &mut io.exchange
                    && let Some(size) = window.given(!block.pins.is_empty())
                    && let Some(size) = descriptor::set_pipe_size(feed.fd().as_fd(), size)
                {
                    window.resized(size);
                }
                feed.push(queue, block);
                gave = true;
            }
        }
        self.flush_feed(stage, rank, port);
        gave
    }

    /// Writes what a worker was given, as far as its pipe has room.
    pub(super) fn flush_feed(&mut self, stage: usize, rank: usize, port: usize) {
        let is_leased = self.is_leased_port(Consumer::Port { stage, port });
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(feed) = io.feeds[port].as_mut() else { return };
        self.has_moved = true;
        let mut wrote = Vec::new();
        let broker = &self.broker;
        let result = feed.write(|queue| broker.framing(queue), |queue, records| wrote.push((queue, records)));
        if !is_leased {
            for (queue, records) in wrote {
                self.broker.deliver(Some(stage), queue, records);
                if let Exchange::Stream { fed, .. } = &mut io.exchange {
                    match fed.iter_mut().find(|(of, _)| *of == queue) {
                        Some(entry) => entry.1 += records,
                        None => fed.push((queue, records)),
                    }
                }
            }
        }
        match result {
            Ok(Wrote::All) => {
                if let Exchange::Stream { window, .. } = &mut io.exchange
                    && window.is_one_at_a_time()
                {
                    // The pipe holds one page: there is an event when the worker has taken all of it.
                    feed.is_writable = false;
                    window.full(self.clock.now());
                }
                if io.input_closed || (io.has_had_all && port == 0) {
                    self.close_feed(stage, rank, port);
                }
            }
            Ok(Wrote::Part) => {
                if let Exchange::Stream { window, .. } = &mut io.exchange {
                    window.full(self.clock.now());
                }
            }
            Ok(Wrote::Closed) => self.feed_closed(stage, rank, port),
            Err(error) => {
                tracing::debug!(%error, "cannot write to a worker");
                self.feed_closed(stage, rank, port);
            }
        }
    }

    /// An event says that there is room, or that nobody reads any more.
    pub(super) fn feed_has_room(&mut self, stage: usize, rank: usize, port: usize, hung_up: bool) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(feed) = io.feeds[port].as_mut() else { return };
        if hung_up && descriptor::has_no_reader(feed.fd()) && io.is_started {
            return self.feed_closed(stage, rank, port);
        }
        feed.is_writable = true;
        if matches!(&io.exchange, Exchange::Stream { window, .. } if window.is_large()) {
            feed.forget_what_is_read();
        }
        if let Exchange::Stream { window, .. } = &mut io.exchange
            && let Some(size) = window.room(self.clock.now())
            && let Some(size) = descriptor::set_pipe_size(feed.fd().as_fd(), size)
        {
            window.resized(size);
            feed.remember(size);
        }
        let (is_idle, is_map) = (feed.is_idle(), matches!(io.exchange, Exchange::Map { .. }));
        if !is_idle {
            self.flush_feed(stage, rank, port);
        }
        match is_map && port == 0 {
            true => self.pump_map_worker(stage, rank),
            false => self.pump(Consumer::Port { stage, port }),
        }
    }

    /// The worker does not read this port any more, and lives on, or is about to be seen to end.
    fn feed_closed(&mut self, stage: usize, rank: usize, port: usize) {
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let worker = io.worker;
        // An `each` process is judged by how it ends, not by whether it read its record. A `map` worker that has ended is
        // seen to, and its leases are judged then: `fault` passes one that has.
        let holds_leases = port == 0 && matches!(io.exchange, Exchange::Map { .. });
        self.close_feed(stage, rank, port);
        if holds_leases {
            self.closed_early.push((worker, self.clock.now() + LET_GO_AFTER, None));
        }
        self.close_consumer_if_nobody_reads(stage, port);
    }

    /// Closes a writing end: the worker meets the end of its input. What it was not given is anybody's again.
    pub(super) fn close_feed(&mut self, stage: usize, rank: usize, port: usize) {
        let is_leased = self.is_leased_port(Consumer::Port { stage, port });
        let holds_leases = is_leased && self.broker.held(stage, rank) > 0;
        let Some(io) = self.workers[stage][rank].as_mut() else { return };
        let Some(feed) = io.feeds[port].take() else { return };
        self.tokens.remove(feed.token);
        if is_leased {
            if holds_leases && matches!(io.exchange, Exchange::Map { .. }) {
                io.closed_leases = feed.closed();
            }
            return;
        }
        if feed.is_idle() && !descriptor::has_no_reader(feed.fd()) {
            if feed.remembers() {
                io.closed_feeds.extend(feed.closed());
            }
            return;
        }
        let worker = io.worker;
        let mut exchange = std::mem::replace(&mut io.exchange, Exchange::none());
        let broker = &self.broker;
        let back = feed.take_back(|queue| broker.framing(queue));
        self.take_back(worker, back, &mut exchange);
        if let Some(io) = self.workers[stage][rank].as_mut() {
            io.exchange = exchange;
        }
    }

    /// When all workers of a stage have closed this input, what feeds it is told at once, as SIGPIPE tells in a shell.
    fn close_consumer_if_nobody_reads(&mut self, stage: usize, port: usize) {
        // A worker that does not read any more may be about to die, and its successor would read.
        let is_final = self.plan.stages[stage].stage.restart.policy == RestartPolicy::Never
            && self.supervisor.stage(stage).phase == Phase::Running
            // Nor is one of a stage that a reload has just brought: should it fall, the one before it reads again.
            && !self.supervisor.stage(stage).is_on_trial(self.clock.now());
        if self.mode(stage) != Mode::Stream || !is_final {
            return;
        }
        let workers: Vec<_> = self.workers[stage].iter().flatten().collect();
        let all_closed = workers.iter().all(|io| io.feeds[port].is_none() && io.is_started);
        let may_come = self.supervisor.stage(stage).may_start_more();
        if all_closed && !workers.is_empty() && !may_come {
            self.broker.close_consumer(Consumer::Port { stage, port }, Reason::ConsumerEnded);
        }
    }

    /// Brings a worker's inputs to their end, once what it was given is written.
    pub(super) fn close_worker_input(&mut self, worker: Worker) {
        let Some(io) = self.io(worker) else { return };
        io.input_closed = true;
        for port in 0..io.feeds.len() {
            if self.feed_mut(worker.stage, worker.rank, port).is_some_and(|feed| feed.is_idle()) {
                self.close_feed(worker.stage, worker.rank, port);
            }
        }
    }

    /// One more worker, where the pool can grow and its queue is full.
    pub(super) fn grow_if_backlogged(&mut self, stage: usize) {
        if self.plan.stages[stage].stage.pool.is_elastic() && self.broker.is_backlogged(stage) {
            let all_started = self.workers[stage].iter().flatten().all(|io| io.is_started);
            if all_started {
                self.inputs.push_back(Input::Grow { stage });
            }
        }
    }
}
