//! What others are told: events, snapshots, the report.

use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::RunLoop;
use crate::event::{Event, EventKind, WorkerId};
use crate::model::Mode;
use crate::process::Holder;
use crate::report::{Outcome as RunOutcome, Report, Snapshot, StageReport, StageSnapshot};
use crate::runtime::supervisor::{Outcome, Phase, Worker};

impl RunLoop {
    pub(super) fn tell_start(&mut self) {
        let (pipeline, run_id) = (self.names.pipeline.clone(), self.names.run_id.clone());
        self.tell(EventKind::RunStarted { pipeline, run_id });
    }

    /// Nobody is waited for: an observer that is too slow learns how much it missed.
    pub(super) fn tell(&mut self, kind: EventKind) {
        self.tell_at(Instant::now(), kind);
    }

    /// Something that happened at this moment of the real clock.
    pub(super) fn tell_at(&mut self, real: Instant, kind: EventKind) {
        self.events.tell(real.saturating_duration_since(self.began_at), kind);
    }

    pub(super) fn worker_id(&self, worker: Worker) -> WorkerId {
        self.supervisor.stage(worker.stage).config.id(worker)
    }

    pub(super) fn tell_held(&mut self, worker: Worker, holder: Option<Holder>) {
        let (pid, command) = match holder {
            Some(Holder { pid, command }) => (Some(pid), Some(command)),
            None => (None, None),
        };
        let worker = self.worker_id(worker);
        self.tell(EventKind::OutputHeld { worker, holder: pid, command });
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let stages = (0..self.plan.stages.len()).map(|stage| {
            let state = self.supervisor.stage(stage);
            let counts = self.broker.counts(stage);
            StageSnapshot {
                stage: state.config.name.clone(),
                state: describe(state.phase).to_owned(),
                workers: state.live(),
                pool: state.config.pool.max,
                records_in: counts.records_in,
                records_out: counts.records_out,
                failed: counts.failed,
                restarts: state.restart_count,
            }
        });
        Snapshot { at: self.began_at.elapsed(), stages: stages.collect(), edges: self.broker.snapshot() }
    }

    pub(super) fn report(&mut self) -> Report {
        let edges = self.broker.close_books();
        let stages = (0..self.plan.stages.len()).map(|stage| self.stage_report(stage)).collect();
        let failures = self.supervisor.failures().to_vec();
        let outcome = match (failures.is_empty(), self.supervisor.level()) {
            (false, _) => RunOutcome::Failed { failures },
            (true, Some(level)) => RunOutcome::Stopped { level: level.as_str().to_owned() },
            (true, None) => RunOutcome::Succeeded,
        };
        Report {
            pipeline: self.names.pipeline.clone(),
            run_id: self.names.run_id.clone(),
            outcome,
            wall: self.began_at.elapsed(),
            stages,
            edges,
            shared: self.shared_report(),
        }
    }

    fn stage_report(&self, stage: usize) -> StageReport {
        let state = self.supervisor.stage(stage);
        let counts = self.broker.counts(stage);
        let mode = match state.config.mode {
            Mode::Stream => "stream",
            Mode::Map => "map",
            Mode::Each => "each",
        };
        let described = match state.phase {
            Phase::Over(_) if state.start_count == 0 && state.began_at.is_none() => "not_started",
            Phase::Over(Outcome::Finished) if state.was_made_to_end => "stopped",
            phase => describe(phase),
        };
        let wall = match (state.began_at, state.ended_at) {
            (Some(began), Some(ended)) => ended.saturating_duration_since(began),
            _ => std::time::Duration::ZERO,
        };
        StageReport {
            stage: state.config.name.clone(),
            mode: mode.to_owned(),
            state: described.to_owned(),
            daemon: state.config.is_daemon,
            workers: state.most_live,
            records_in: counts.records_in,
            records_out: counts.records_out,
            failed: counts.failed,
            retried: counts.retried,
            restarts: state.restart_count,
            started: state.start_count,
            wall,
            cpu: state.cpu,
            peak_memory_bytes: state.peak_memory_bytes,
            exits: state.exits.iter().map(|(&exit, &count)| (exit, count)).collect(),
        }
    }
}

fn describe(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Running => "running",
        Phase::Restarting => "restarting",
        Phase::Ending(Outcome::Failed) | Phase::Over(Outcome::Failed) => "failed",
        Phase::Ending(_) => "stopping",
        Phase::Over(Outcome::Finished) => "finished",
        Phase::Over(Outcome::Stopped) => "stopped",
    }
}

/// Events that wait for an observer at most; those that come when so many wait are counted.
const MOST_WAITING: usize = 1 << 14;

/// The same with those that do not come in floods, so that a worker that shouts hides no end of another.
const MOST_WAITING_IN_ALL: usize = 4 * MOST_WAITING;

/// Events follow each other no faster than this: each wakes its observers, and that of a process in every
/// millisecond would cost a part of what the process costs. One that comes after a silence goes at once.
const TOGETHER: Duration = Duration::from_millis(5);

/// So many go at once in any case.
const MOST_TOGETHER: usize = 256;

/// The way to the observers.
pub(super) struct Events {
    sender: Sender<Event>,
    /// Not sent yet.
    untold: Vec<Event>,
    told_at: Instant,
    missed: u64,
    /// When the last event happened: no later one is told with an earlier time.
    last_at: Duration,
}

impl Events {
    /// `sender`: of a channel without bound, which has no room of its own before it is needed; it is bounded here.
    pub(super) fn new(sender: Sender<Event>) -> Self {
        Self { sender, untold: Vec::new(), told_at: Instant::now(), missed: 0, last_at: Duration::ZERO }
    }

    fn tell(&mut self, at: Duration, kind: EventKind) {
        let at = at.max(self.last_at);
        self.last_at = at;
        let most = if kind.may_flood() { MOST_WAITING } else { MOST_WAITING_IN_ALL };
        if self.sender.len() + self.untold.len() >= most {
            self.missed += 1;
            return;
        }
        if self.missed > 0 {
            let kind = EventKind::Missed { count: std::mem::take(&mut self.missed) };
            self.untold.push(Event { at, kind });
        }
        self.untold.push(Event { at, kind });
    }

    /// In what time what waits here is to be sent at the latest.
    pub(super) fn due_in(&self) -> Option<Duration> {
        (!self.untold.is_empty()).then(|| TOGETHER.saturating_sub(self.told_at.elapsed()))
    }

    /// Sends what waits here, if it is time.
    pub(super) fn send_if_due(&mut self) {
        if self.untold.len() >= MOST_TOGETHER || self.due_in() == Some(Duration::ZERO) {
            self.send();
        }
    }

    fn send(&mut self) {
        self.told_at = Instant::now();
        for event in self.untold.drain(..) {
            // Nobody may want to know.
            let _ = self.sender.send(event);
        }
    }

    /// The last event: after it nothing of the run is left.
    pub(super) fn end(mut self, at: Duration, report: &Report) {
        if self.missed > 0 {
            self.untold.push(Event { at, kind: EventKind::Missed { count: self.missed } });
        }
        self.untold.push(Event { at, kind: EventKind::RunEnded { report: Box::new(report.clone()) } });
        self.send();
    }
}
