//! What others are told: events, snapshots, the report.

use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::{RunLoop, look};
use crate::event::{Event, EventKind, WorkerId};
use crate::process::Holder;
use crate::report::{EdgeReport, Outcome as RunOutcome, Report, StageReport};
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

    pub(super) fn report(&mut self) -> Report {
        let books = self.broker.close_books();
        let in_effect = |queue: &usize| self.reloads.is_queue_live(*queue);
        let (now, before): (Vec<_>, Vec<_>) = (0..books.len()).partition(in_effect);
        let mut edges: Vec<EdgeReport> = Vec::new();
        for queue in now.into_iter().chain(before) {
            let books = books[queue].clone();
            match edges.iter_mut().find(|edge| edge.edge == books.edge) {
                Some(edge) => edge.join(books),
                None => edges.push(books),
            }
        }
        let stages = self.stage_reports();
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

    /// Those in effect first, each with what it was before reloads; then those that a reload has removed.
    fn stage_reports(&self) -> Vec<StageReport> {
        let in_effect = self.reloads.stages();
        let mut reports: Vec<StageReport> = in_effect.iter().map(|&stage| self.stage_report(stage)).collect();
        for stage in (0..self.plan.stages.len()).filter(|stage| !in_effect.contains(stage)) {
            let mut report = self.stage_report(stage);
            match reports.iter_mut().find(|other| other.stage == report.stage) {
                Some(other) => other.join(report),
                None => {
                    "removed".clone_into(&mut report.state);
                    reports.push(report);
                }
            }
        }
        reports
    }

    /// From the beginning of a stage's first form to the end of the last: they may have lived at one time.
    fn stage_wall(&self, name: &str) -> std::time::Duration {
        let forms = || {
            (0..self.plan.stages.len())
                .map(|stage| self.supervisor.stage(stage))
                .filter(|form| form.config.name == name)
        };
        let began = forms().filter_map(|form| form.began_at).min();
        let ended = forms().filter_map(|form| form.ended_at).max();
        match (began, ended) {
            (Some(began), Some(ended)) => ended.saturating_duration_since(began),
            _ => std::time::Duration::ZERO,
        }
    }

    fn stage_report(&self, stage: usize) -> StageReport {
        let state = self.supervisor.stage(stage);
        let counts = self.broker.counts(stage);
        let described = match state.phase {
            Phase::Over(_) if state.start_count == 0 && state.began_at.is_none() => "not_started",
            Phase::Over(Outcome::Finished) if state.was_made_to_end => "stopped",
            phase => look::describe(phase),
        };
        StageReport {
            stage: state.config.name.clone(),
            mode: look::mode(state.config.mode).to_owned(),
            state: described.to_owned(),
            daemon: state.config.is_daemon,
            workers: state.most_live,
            records_in: counts.records_in,
            records_out: counts.records_out,
            failed: counts.failed,
            retried: counts.retried,
            restarts: state.restart_count,
            started: state.start_count,
            wall: self.stage_wall(&state.config.name),
            cpu: state.cpu,
            peak_memory_bytes: state.peak_memory_bytes,
            exits: state.exits.iter().map(|(&exit, &count)| (exit, count)).collect(),
        }
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

/// One observer's way.
struct Way {
    sender: Sender<Event>,
    /// Those that it wants.
    wants: fn(&EventKind) -> bool,
    /// Not sent yet.
    untold: Vec<Event>,
    missed: u64,
}

impl Way {
    fn tell(&mut self, at: Duration, kind: EventKind) {
        let most = if kind.may_flood() { MOST_WAITING } else { MOST_WAITING_IN_ALL };
        if self.sender.len() + self.untold.len() >= most {
            self.missed += 1;
            return;
        }
        self.own_up(at);
        self.untold.push(Event { at, kind });
    }

    /// What it could not be told is told as a number.
    fn own_up(&mut self, at: Duration) {
        if self.missed > 0 {
            let kind = EventKind::Missed { count: std::mem::take(&mut self.missed) };
            self.untold.push(Event { at, kind });
        }
    }

    /// Whether somebody is at its other end.
    fn send(&mut self) -> bool {
        self.untold.drain(..).all(|event| self.sender.send(event).is_ok())
    }
}

/// The ways to the observers. None of them waits for another.
pub(super) struct Events {
    /// The first is that of the run's owner, who may not listen, and stays.
    ways: Vec<Way>,
    told_at: Instant,
    /// When the last event happened: no later one is told with an earlier time.
    last_at: Duration,
}

impl Events {
    /// `sender`: of a channel without bound, which has no room of its own before it is needed; it is bounded here.
    pub(super) fn new(sender: Sender<Event>) -> Self {
        let mut events = Self { ways: Vec::new(), told_at: Instant::now(), last_at: Duration::ZERO };
        events.add(sender, |_| true);
        events
    }

    /// From now on these events go to this one too.
    pub(super) fn add(&mut self, sender: Sender<Event>, wants: fn(&EventKind) -> bool) {
        self.ways.push(Way { sender, wants, untold: Vec::new(), missed: 0 });
    }

    fn tell(&mut self, at: Duration, kind: EventKind) {
        let at = at.max(self.last_at);
        self.last_at = at;
        let Some((owner, others)) = self.ways.split_first_mut() else { return };
        for way in others.iter_mut().filter(|way| (way.wants)(&kind)) {
            way.tell(at, kind.clone());
        }
        owner.tell(at, kind);
    }

    /// In what time what waits here is to be sent at the latest.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let waits = self.ways.iter().any(|way| !way.untold.is_empty());
        waits.then(|| TOGETHER.saturating_sub(self.told_at.elapsed()))
    }

    /// Sends what waits here, if it is time.
    pub(super) fn send_if_due(&mut self) {
        let are_many = self.ways.iter().any(|way| way.untold.len() >= MOST_TOGETHER);
        if are_many || self.due_in() == Some(Duration::ZERO) {
            self.send();
        }
    }

    fn send(&mut self) {
        self.told_at = Instant::now();
        let mut position = 0;
        self.ways.retain_mut(|way| {
            let is_owner = std::mem::replace(&mut position, 1) == 0;
            way.send() || is_owner
        });
    }

    /// The last event: after it nothing of the run is left.
    pub(super) fn end(mut self, at: Duration, report: &Report) {
        let last = EventKind::RunEnded { report: Box::new(report.clone()) };
        for way in self.ways.iter_mut().filter(|way| (way.wants)(&last)) {
            way.own_up(at);
            way.untold.push(Event { at, kind: last.clone() });
        }
        self.send();
    }
}
