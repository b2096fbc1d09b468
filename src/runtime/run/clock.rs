//! Deadlines that are not the supervisor's: delayed records, slow records, batches, idle workers.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::RunLoop;
use super::feed::Feed;
use super::worker::{Exchange, Idleness, WorkerIo};
use crate::model::Mode;
use crate::runtime::supervisor::{Asked, Input, Worker};
use crate::sys::descriptor;

/// A worker of an elastic pool that has had nothing to do for so long is not needed.
const IDLE: Duration = Duration::from_secs(5);

/// Whether such a worker has read what lies in its pipe is looked at so often, while the pool could do without it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A `map` worker that has not answered its first record for so long is reported (the language, section 3).
const STUCK: Duration = Duration::from_secs(5);

/// A request to the launcher that the kernel was too short of something to pass on is tried again so soon.
const ASK_AGAIN: Duration = Duration::from_millis(10);

impl RunLoop {
    /// When, by the run's clock, the loop has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.clock.is_suspended() {
            return None;
        }
        let own = (0..self.workers.len()).filter_map(|stage| self.stage_deadline(stage)).min();
        let closed_early = self.closed_early.iter().map(|&(_, at, _)| at).min();
        let closed_on_trial = self.closed_on_trial.iter().map(|&(until, ..)| until).min();
        let others = [
            self.broker.next_due(),
            own,
            closed_early,
            closed_on_trial,
            self.probe_deadline(),
            self.still_deadline(),
            self.shared_deadline(),
            self.taps_deadline(),
        ];
        // Only for standard output that nobody reads, when all else has ended.
        let give_up = self.asked_to_end.filter(|_| self.has_ended).map(|(_, at)| at + self.plan.stop.grace);
        let launcher = self.launcher.is_refused().then(|| self.heard_at + ASK_AGAIN);
        others.into_iter().chain([self.supervisor.deadline(), give_up, launcher]).flatten().min()
    }

    fn stage_deadline(&self, stage: usize) -> Option<Instant> {
        let declared = &self.plan.stages[stage].stage;
        if declared.mode == Mode::Stream && !declared.pool.is_elastic() {
            return None;
        }
        let gathering = || self.batch_since.range((stage, 0)..(stage + 1, 0)).map(|(_, since)| *since);
        let batch = declared.batch.and_then(|batch| Some(gathering().min()? + batch.wait?));
        let has_spare = self.spare(stage) > 0;
        let workers = self.workers[stage].iter().flatten().flat_map(|io| {
            let rank = io.worker.rank;
            let idle = match io.idleness {
                _ if !has_spare || !self.supervisor.stage(stage).stays(rank) => None,
                Idleness::Busy => None,
                Idleness::Reads { looked_at } => Some(looked_at + LOOK_AGAIN),
                Idleness::Since(since) => Some(since + IDLE),
            };
            let slow = declared.record_timeout.and_then(|limit| Some(self.works_since(stage, rank)? + limit));
            [idle, slow, self.stuck_at(stage, rank)]
        });
        workers.flatten().chain(batch).min()
    }

    /// Since when a worker has been at the record it works on.
    fn works_since(&self, stage: usize, rank: usize) -> Option<Instant> {
        let io = self.workers[stage][rank].as_ref().filter(|io| io.is_started)?;
        match &io.exchange {
            Exchange::Map { window, .. } => (self.broker.held(stage, rank) > 0).then(|| window.since()),
            Exchange::Each { since, .. } => Some(*since),
            Exchange::Stream { .. } => None,
        }
    }

    fn stuck_at(&self, stage: usize, rank: usize) -> Option<Instant> {
        match &self.workers[stage][rank].as_ref()?.exchange {
            Exchange::Map { answered: 0, first_lease: Some(first), said_stuck: false, .. } => {
                Some(*first + STUCK)
            }
            _ => None,
        }
    }

    /// Does what is due.
    pub(super) fn keep_time(&mut self) {
        if self.clock.is_suspended() {
            return;
        }
        let now = self.heard_at;
        self.watch_movement(now);
        if self.launcher.is_refused() {
            self.ask_launcher();
        }
        self.keep_shared_time(now);
        for (worker, _, end) in
            self.closed_early.extract_if(.., |&mut (_, at, _)| at <= now).collect::<Vec<_>>()
        {
            match end {
                None => self.reads_no_more(worker),
                Some(end) => self.lives_without(worker, end),
            }
        }
        for (_, stage, port) in
            self.closed_on_trial.extract_if(.., |&mut (until, ..)| until <= now).collect::<Vec<_>>()
        {
            self.end_port_if_nobody_writes(stage, port);
        }
        if self.supervisor.deadline().is_some_and(|at| at <= now) {
            self.inputs.push_back(Input::Tick);
        }
        if self.probe_deadline().is_some_and(|at| at <= now) {
            self.probes_due(now);
        }
        if self.broker.next_due().is_some_and(|at| at <= now) {
            self.broker.wake_delayed(now);
        }
        for stage in 0..self.workers.len() {
            self.note_idle(stage, now);
            if self.stage_deadline(stage).is_some_and(|at| at <= now) {
                self.stage_is_due(stage, now);
            }
        }
    }

    fn stage_is_due(&mut self, stage: usize, now: Instant) {
        let plan = std::sync::Arc::clone(&self.plan);
        let declared = &plan.stages[stage].stage;
        for rank in 0..self.workers[stage].len() {
            if let Some(limit) = declared.record_timeout
                && self.works_since(stage, rank).is_some_and(|since| since + limit <= now)
                && let Some(worker) = self.workers[stage][rank].as_ref().map(|io| io.worker)
                && !self.faults.contains_key(&worker)
            {
                let limit = humantime::format_duration(limit);
                let reason = format!("the record took longer than the `record_timeout` of {limit}");
                self.faults.insert(worker, reason.clone());
                self.inputs.push_back(Input::Fault { worker, reason });
            }
            if self.stuck_at(stage, rank).is_some_and(|at| at <= now) {
                self.say_stuck(stage, rank);
            }
        }
        self.shrink(stage, now);
        if declared.batch.is_some() {
            self.pump_leases(stage);
        }
    }

    /// Workers of an elastic pool that are not needed, should they have nothing to do.
    fn spare(&self, stage: usize) -> usize {
        let declared = &self.plan.stages[stage].stage;
        if !declared.pool.is_elastic() || declared.mode == Mode::Each {
            return 0;
        }
        let state = self.supervisor.stage(stage);
        let staying = (0..self.workers[stage].len()).filter(|&rank| state.stays(rank)).count();
        staying.saturating_sub(declared.pool.min)
    }

    /// Lets workers go that have had nothing to do for long, down to the least width and not below, however many are
    /// idle at one time.
    fn shrink(&mut self, stage: usize, now: Instant) {
        let state = self.supervisor.stage(stage);
        let is_idle = |io: &&WorkerIo| match io.idleness {
            Idleness::Since(since) => since + IDLE <= now && state.stays(io.worker.rank),
            Idleness::Busy | Idleness::Reads { .. } => false,
        };
        let idle = self.workers[stage].iter().flatten().filter(is_idle).map(|io| io.worker);
        let spare: Vec<Worker> = idle.take(self.spare(stage)).collect();
        for worker in spare {
            self.inputs.push_back(Input::Retire { worker, asked: Asked::Retire });
        }
    }

    /// Notes which workers of an elastic pool have nothing to do.
    fn note_idle(&mut self, stage: usize, now: Instant) {
        if !self.plan.stages[stage].stage.pool.is_elastic() || self.mode(stage) == Mode::Each {
            return;
        }
        let is_leased = self.plan.stages[stage].stage.is_leased();
        for rank in 0..self.workers[stage].len() {
            let holds = is_leased && self.broker.held(stage, rank) > 0;
            let Some(io) = self.workers[stage][rank].as_mut() else { continue };
            let has_all = io.is_started && !holds && io.feeds.iter().flatten().all(Feed::is_idle);
            let has_read =
                |feed: &Feed| descriptor::unread_bytes(feed.fd().as_fd()).is_ok_and(|bytes| bytes == 0);
            io.idleness = match io.idleness {
                _ if !has_all => Idleness::Busy,
                Idleness::Since(since) => Idleness::Since(since),
                // The kernel tells of a read only where the pipe was full before it: so this is asked now and then.
                Idleness::Reads { looked_at } if now < looked_at + LOOK_AGAIN => {
                    Idleness::Reads { looked_at }
                }
                _ if io.feeds.iter().flatten().all(has_read) => Idleness::Since(now),
                _ => Idleness::Reads { looked_at: now },
            };
        }
    }

    /// A `map` worker has closed its standard input. It is about to end, and its leases with it, or it lives on and
    /// will not be given anything again: then they cannot wait for it.
    fn reads_no_more(&mut self, worker: Worker) {
        if self.io(worker).is_some() && self.broker.held(worker.stage, worker.rank) > 0 {
            let reason = "it closed its standard input while it held records".to_owned();
            self.inputs.push_back(Input::Fault { worker, reason });
        }
    }

    fn say_stuck(&mut self, stage: usize, rank: usize) {
        let name = self.plan.stages[stage].stage.worker_name(rank);
        let held = self.broker.held(stage, rank);
        if let Some(Exchange::Map { said_stuck, .. }) =
            self.workers[stage][rank].as_mut().map(|io| &mut io.exchange)
        {
            *said_stuck = true;
        }
        self.notice(format!(
            "worker `{name}` has taken {held} records and answered none for {}s. A `map` command answers each record \
             at once with one: its output may be buffered (`line_buffered: true`, or the program's own option, such \
             as `sed -u`, `grep --line-buffered`, `jq --unbuffered`); it may wait for more input than one record (an \
             `awk` that is mawk, without `-W interactive`); or it may be no such command (`mode: stream` for a \
             filter, `mode: each` for a process per record)",
            STUCK.as_secs()
        ));
    }
}
