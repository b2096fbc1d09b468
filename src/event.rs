//! What happens in a run, as plain data for whoever watches it.
//!
//! Nothing waits for an observer: events travel over a bounded channel, and those that find it full are counted
//! and the count is sent as [`EventKind::Missed`] as soon as there is room again.

use std::time::Duration;

use serde::Serialize;

use crate::change::Change;
use crate::report::{ExitReport, Failure, Report};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Since the start of the run, in seconds, on the monotonic clock.
    #[serde(rename = "t", serialize_with = "crate::report::seconds")]
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The worker that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct WorkerId {
    /// Its stage.
    pub stage: String,
    /// `square/2`, or the stage's name where the pool is 1.
    pub worker: String,
    /// From 0.
    pub rank: usize,
    /// Counts the processes that have been this worker, from 1.
    pub generation: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run has begun; no worker has started yet.
    RunStarted {
        /// The pipeline's name.
        pipeline: String,
        /// The run's id, a UUID of version 7.
        run_id: String,
    },
    /// A worker's process runs.
    WorkerStarted {
        /// Which.
        #[serde(flatten)]
        worker: WorkerId,
        /// Its process, and its process group.
        pid: i32,
    },
    /// A worker's process could not be started.
    WorkerStartFailed {
        /// Which.
        #[serde(flatten)]
        worker: WorkerId,
        /// Why: the step and the system's error.
        error: String,
    },
    /// A worker is asked to end.
    WorkerStopping {
        /// Which.
        #[serde(flatten)]
        worker: WorkerId,
        /// The signal's name.
        signal: String,
    },
    /// A worker has been killed since it had not ended in its grace period.
    WorkerKilled {
        /// Which.
        #[serde(flatten)]
        worker: WorkerId,
        /// Why.
        reason: String,
    },
    /// A worker's process has ended.
    WorkerEnded {
        /// Which.
        #[serde(flatten)]
        worker: WorkerId,
        /// How.
        #[serde(flatten)]
        exit: ExitReport,
        /// Whether that counts as success.
        success: bool,
        /// Its process.
        pid: i32,
    },
    /// A worker will be started again.
    WorkerRestarting {
        /// Which; the generation is that of the one that ended.
        #[serde(flatten)]
        worker: WorkerId,
        /// How long is waited first.
        #[serde(serialize_with = "crate::report::seconds")]
        backoff: Duration,
        /// Why.
        reason: String,
    },
    /// A process still holds a worker's output after the worker has ended; its output is no longer waited for.
    OutputHeld {
        /// Which.
        #[serde(flatten)]
        worker: WorkerId,
        /// The process that holds it, where it could be found.
        holder: Option<i32>,
        /// That process's command line.
        command: Option<String>,
    },
    /// An attempt at a record has failed.
    RecordFailed {
        /// Which worker held it.
        #[serde(flatten)]
        worker: WorkerId,
        /// The record, cut.
        record: String,
        /// Why.
        error: String,
        /// Attempts that it has used.
        attempts: u32,
        /// Whether it is tried again.
        retried: bool,
    },
    /// The run is to become another pipeline: what is new comes up.
    Reloading {
        /// What differs.
        change: Change,
    },
    /// The run has become another pipeline.
    Reloaded {
        /// What has changed.
        change: Change,
        /// From when it was asked for.
        #[serde(serialize_with = "crate::report::seconds")]
        took: Duration,
    },
    /// A reload was given up, or is taken back, since a stage that it had brought has failed.
    ReloadFailed {
        /// Which, and why.
        failure: Failure,
        /// Whether it had been in effect, and what was before is started again.
        was_in_effect: bool,
    },
    /// A stage that a reload had brought has failed in its first moment, and what was there before it cannot come back,
    /// since it is the same but for its files: until the next reload it has no workers, and what comes for it waits.
    StageFell {
        /// Which, and why.
        failure: Failure,
    },
    /// A stage has a pool of another width from now on.
    StageResized {
        /// Which.
        stage: String,
        /// Its greatest width before.
        from: usize,
        /// And now.
        to: usize,
    },
    /// All workers of a stage have started, and are ready.
    StageReady {
        /// Which.
        stage: String,
    },
    /// A stage has done all its work.
    StageFinished {
        /// Which.
        stage: String,
    },
    /// A stage has failed.
    StageFailed {
        /// Which.
        stage: String,
        /// Why, in words.
        reason: String,
        /// The worker whose end was the cause, where one was.
        worker: Option<String>,
        /// How that worker ended.
        exit: Option<i32>,
        /// The last lines of that worker's standard error.
        stderr: Vec<String>,
    },
    /// The launcher, the process that starts the workers, is gone, and they with it; the run ends.
    LauncherLost {
        /// In words.
        reason: String,
    },
    /// Workers of a stage were found to run these files of the pipeline's folder, for the first time: modules that they
    /// have imported.
    StageFiles {
        /// Which.
        stage: String,
        /// By their absolute paths.
        files: Vec<String>,
    },
    /// A line of a worker's standard error, without its end.
    Log {
        /// The worker's name.
        worker: String,
        /// The line; bytes that are no UTF-8 are replaced.
        line: String,
    },
    /// Something the user should know: what a stop does and waits for, what stands still and why.
    Notice {
        /// In words.
        message: String,
    },
    /// The run is being stopped.
    Stopping {
        /// `drain`, `terminate` or `kill`.
        level: String,
    },
    /// The observer was too slow for this many events.
    Missed {
        /// How many.
        count: u64,
    },
    /// The run has ended; nothing follows.
    RunEnded {
        /// What came of it.
        report: Box<Report>,
    },
}

impl EventKind {
    /// Whether so many of these may come that the others are to be protected from them: whatever keeps events for a
    /// slow observer keeps room for those that tell of starts, ends and failures.
    pub fn may_flood(&self) -> bool {
        matches!(self, Self::Log { .. } | Self::RecordFailed { .. })
    }

    /// How many events are missing where this one is.
    pub fn count(&self) -> u64 {
        match self {
            Self::Missed { count } => *count,
            _ => 1,
        }
    }
}
