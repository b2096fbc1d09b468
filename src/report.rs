//! What came of a run, and how it is while it goes on, as plain data.

mod snapshot;
mod status;

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serialize, Serializer};

pub use snapshot::{EdgeSnapshot, SlotSnapshot, Snapshot, StageSnapshot, WorkerUsage};
pub use status::{LogLine, Logs, RunInfo, SilentRun, Status};

use crate::model::{Exit, Problem, Usage};

/// Writes a duration as seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1e6).round() / 1e6)
}

/// Reads what [`seconds`] writes.
pub(crate) fn from_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run's id.
    pub run_id: String,
    /// What came of the whole.
    pub outcome: Outcome,
    /// From the start to the end of the run, in seconds.
    #[serde(rename = "wall_seconds", serialize_with = "seconds")]
    pub wall: Duration,
    /// In the order of the document.
    pub stages: Vec<StageReport>,
    /// The queues, in the order of the document; then the implicit ones to `stdout`.
    pub edges: Vec<EdgeReport>,
    /// The shared objects as they were at the end, in the order of the document.
    pub shared: Vec<SharedReport>,
}

/// What came of the whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
#[non_exhaustive]
pub enum Outcome {
    /// Every stage did its work.
    Succeeded,
    /// At least one stage failed.
    Failed {
        /// The failures, in the order in which they happened.
        failures: Vec<Failure>,
    },
    /// It was stopped from outside before its work was done.
    Stopped {
        /// `drain`, `terminate` or `kill`: the strongest request that came.
        level: String,
    },
}

impl Outcome {
    /// What is wrong in the pipeline itself, where that is why the run failed, as only its start could show.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let failures = match self {
            Self::Failed { failures } => failures.as_slice(),
            Self::Succeeded | Self::Stopped { .. } => &[],
        };
        failures.iter().filter_map(|failure| failure.problem.as_deref())
    }
}

/// Why a stage failed, or the run as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Which stage. `None` where it was none: the process that starts all workers was killed.
    pub stage: Option<String>,
    /// The worker whose end was the cause, where one was.
    pub worker: Option<String>,
    /// How that worker ended, as Python writes it.
    pub exit: Option<i32>,
    /// Why, in words.
    pub reason: String,
    /// The last lines of that worker's standard error.
    pub stderr: Vec<String>,
    /// What is wrong in the pipeline itself, and where, if that is why: a function that cannot be called.
    #[serde(skip)]
    pub problem: Option<Box<Problem>>,
}

impl Failure {
    /// A failure of this stage, no worker's end being the cause.
    pub(crate) fn of_stage(stage: String, reason: String) -> Self {
        Self { stage: Some(stage), ..Self::of_run(reason) }
    }

    /// A failure of the run as a whole.
    pub(crate) fn of_run(reason: String) -> Self {
        Self { stage: None, worker: None, exit: None, reason, stderr: Vec::new(), problem: None }
    }
}

/// What became of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// Its name.
    pub stage: String,
    /// `stream`, `map` or `each`.
    pub mode: String,
    /// `finished`, `failed`, `stopped` or `not_started`; `removed` if a reload took it away.
    pub state: String,
    /// Whether it is a daemon.
    pub daemon: bool,
    /// The most workers it had at one time.
    pub workers: usize,
    /// Records that its input ports took.
    pub records_in: u64,
    /// Records that left its output ports, each counted once.
    pub records_out: u64,
    /// Records whose attempts were used up.
    pub failed: u64,
    /// Attempts at records that failed and were followed by another.
    pub retried: u64,
    /// Processes started in the place of one that had ended.
    pub restarts: u64,
    /// Processes started in all.
    pub started: u64,
    /// From the start of its first worker to the end of its last, in seconds, without the time in which the run was
    /// suspended.
    #[serde(rename = "wall_seconds", serialize_with = "seconds")]
    pub wall: Duration,
    /// Processor time of all its workers, in seconds.
    #[serde(rename = "cpu_seconds", serialize_with = "seconds")]
    pub cpu: Duration,
    /// The largest peak of resident memory among its workers, in bytes.
    pub peak_memory_bytes: u64,
    /// How its processes ended: Python's number, and how many ended so. Sorted by the number.
    pub exits: Vec<(i32, u64)>,
}

/// The books of one queue. `in = delivered + failed + dropped + discarded`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EdgeReport {
    /// `crawl -> parse`.
    pub edge: String,
    /// Records that its producers put in. An edge with `to_each` counts each worker's copy.
    #[serde(rename = "in")]
    pub records_in: u64,
    /// Records that a consumer took, and answered where they are leased.
    pub delivered: u64,
    /// Records whose attempts were used up.
    pub failed: u64,
    /// Records dropped since the queue was full.
    pub dropped: u64,
    /// Records that nobody took, by reason.
    pub discarded: Vec<Discarded>,
    /// Of those delivered, records that a worker had read which then died: whether it did its work with them is not known.
    pub unconfirmed: u64,
    /// Bytes that its producers put in.
    pub bytes: u64,
    /// The most records that waited at one time.
    pub peak_records: u64,
}

/// Records that nobody took, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Discarded {
    /// `consumer ended`, `consumer failed`, `edge removed`, `stopped`.
    pub reason: String,
    /// How many.
    pub records: u64,
}

impl StageReport {
    /// Another form of the same stage, before or after a reload: their counts are one stage's. What is no count stays, the
    /// wall time of all forms among it.
    pub(crate) fn join(&mut self, other: Self) {
        self.workers = self.workers.max(other.workers);
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.failed += other.failed;
        self.retried += other.retried;
        self.restarts += other.restarts;
        self.started += other.started;
        self.cpu += other.cpu;
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
        for (exit, count) in other.exits {
            match self.exits.binary_search_by_key(&exit, |&(exit, _)| exit) {
                Ok(at) => self.exits[at].1 += count,
                Err(at) => self.exits.insert(at, (exit, count)),
            }
        }
    }
}

impl EdgeReport {
    /// Another queue of the same edge, before or after a reload.
    pub(crate) fn join(&mut self, other: Self) {
        self.records_in += other.records_in;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.unconfirmed += other.unconfirmed;
        self.bytes += other.bytes;
        self.peak_records = self.peak_records.max(other.peak_records);
        for part in other.discarded {
            match self.discarded.iter_mut().find(|own| own.reason == part.reason) {
                Some(own) => own.records += part.records,
                None => self.discarded.push(part),
            }
        }
    }
    /// Whether every record that went in is accounted for.
    pub fn balances(&self) -> bool {
        let discarded: u64 = self.discarded.iter().map(|part| part.records).sum();
        self.records_in == self.delivered + self.failed + self.dropped + discarded
    }
}

/// How a shared object was at the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SharedReport {
    /// Its name.
    pub name: String,
    /// What it is, and its last state.
    #[serde(flatten)]
    pub state: SharedState,
}

/// The last state of a shared object. A number that JSON has no word for is a text: `"NaN"`, `"inf"`, `"-inf"`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum SharedState {
    /// One number or truth value.
    Value {
        /// `i64`, `u64`, `f64` or `bool`.
        element: String,
        /// The last value.
        value: serde_json::Value,
    },
    /// Several.
    Array {
        /// `i64`, `u64`, `f64` or `bool`.
        element: String,
        /// How many it has.
        length: u64,
        /// The last values, the first 65,536 of them at most.
        values: Vec<serde_json::Value>,
    },
    /// A lock.
    Lock {
        /// The worker that ended while it held it, unless somebody took it after that.
        held_by: Option<String>,
        /// How often it was acquired.
        acquired: u64,
        /// How often its holder ended without releasing it.
        abandoned: u64,
    },
    /// A semaphore.
    Semaphore {
        /// Its permits.
        permits: u64,
        /// The workers that ended while they held a permit that nobody took after that.
        held_by: Vec<String>,
        /// How often one was acquired.
        acquired: u64,
        /// How many were held by somebody who ended without releasing them.
        abandoned: u64,
    },
    /// An event.
    Event {
        /// Whether it was set.
        is_set: bool,
    },
    /// A barrier.
    Barrier {
        /// How many wait for each other.
        parties: u64,
        /// How often all of them came.
        rounds: u64,
        /// Why it was broken, if it was.
        broken: Option<String>,
    },
    /// A dictionary.
    Dict {
        /// Its entries; of a Python object that is no JSON only its size, as `{"pickle_bytes": 120}`.
        entries: serde_json::Map<String, serde_json::Value>,
    },
}

/// How a process ended and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ExitReport {
    /// As Python writes it.
    pub exit: i32,
    /// Processor time, in seconds.
    #[serde(rename = "cpu_seconds", serialize_with = "seconds")]
    pub cpu: Duration,
    /// Peak resident memory in bytes.
    pub peak_memory_bytes: u64,
    /// The signal that killed it had the kernel write a core dump. Left out where it did not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub core_dumped: bool,
}

impl ExitReport {
    pub(crate) fn new(exit: Exit, usage: Usage) -> Self {
        Self {
            exit: exit.code(),
            cpu: usage.cpu,
            peak_memory_bytes: usage.peak_memory_bytes,
            core_dumped: usage.core_dumped,
        }
    }
}
