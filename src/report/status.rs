//! What a run says of itself to other processes.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Snapshot, from_seconds, seconds};

/// What a run says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The version of the protocol that it speaks.
    pub protocol: u32,
    /// The version of mpflow that it runs under.
    pub version: String,
    /// Its id.
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The document, where there is one.
    pub file: Option<PathBuf>,
    /// The engine's process.
    pub pid: i32,
    /// By the wall clock, in seconds since 1970 (UTC).
    pub started_at: u64,
    /// How long it has been going on, in seconds.
    #[serde(rename = "up_seconds", serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub up: Duration,
    /// As in [`Snapshot::state`].
    pub state: String,
    /// Stages of the pipeline.
    pub stage_count: usize,
    /// Living workers.
    pub worker_count: usize,
}

/// A run that goes on and does not answer: it may be suspended. What is known of it without its help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilentRun {
    /// Its id.
    pub id: String,
    /// The engine's process.
    pub pid: Option<i32>,
    /// The pipeline's name.
    pub pipeline: Option<String>,
    /// The document, where there is one.
    pub file: Option<PathBuf>,
}

/// `` `squares` (01980000-0000-7000-8000-000000000001, pid 4711) ``.
impl fmt::Display for SilentRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pipeline {
            Some(pipeline) => write!(f, "`{pipeline}` ({}", self.id)?,
            None => write!(f, "({}", self.id)?,
        }
        match self.pid {
            Some(pid) => write!(f, ", pid {pid})"),
            None => f.write_str(")"),
        }
    }
}

/// All that can be seen of a run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What it says of itself.
    pub run: RunInfo,
    /// Its stages, workers and queues.
    #[serde(flatten)]
    pub snapshot: Snapshot,
}

/// A line of a worker's standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Since the start of the run, in seconds.
    #[serde(rename = "t", serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub at: Duration,
    /// The worker's name.
    pub worker: String,
    /// The line without its end.
    pub line: String,
}

/// Lines of the log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Logs {
    /// The oldest first.
    pub lines: Vec<LogLine>,
    /// Lines before these that are not kept any more.
    pub missed: u64,
}
