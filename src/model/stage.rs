//! One declared piece of work.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::{Dependency, Exit, Limits, OnError, OnFailure, PerWorker, Probe, Restart, Retry, StopPolicy};

/// One declared piece of work, run by a pool of identical workers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stage {
    /// Unique in the pipeline.
    pub name: String,
    /// What its workers run.
    pub body: Body,
    /// How a worker takes records.
    pub mode: Mode,
    /// How many workers.
    pub pool: Pool,
    /// Results leave in the order in which records came.
    pub ordered: bool,
    /// The run does not wait for it, and ends it last.
    pub daemon: bool,
    /// How its workers come to be.
    pub start_method: StartMethod,
    /// Python modules that the fork server imports once.
    pub preload: Vec<String>,
    /// The Python interpreter, where the document names one.
    pub python_executable: Option<String>,
    /// Python: `module:callable`, called once in each worker before its first record.
    pub initializer: Option<String>,
    /// Functions: fixed positional arguments. Python's get them after the record; Rust's ask their worker for them.
    pub args: Vec<serde_json::Value>,
    /// Functions: fixed keyword arguments.
    pub kwargs: serde_json::Map<String, serde_json::Value>,
    /// Python: a list record becomes positional arguments, a map record keyword arguments.
    pub unpack: bool,
    /// The declared environment: the pipeline's `env_file`s, its `env`, then the stage's own, later ones winning.
    /// Values may be secrets: never show them.
    pub env: Vec<(String, PerWorker<String>)>,
    /// The working directory, absolute.
    pub cwd: PerWorker<PathBuf>,
    /// Whether workers see the engine's own environment as well.
    pub inherit_env: bool,
    /// A file in the place of an input edge.
    pub stdin: Option<PerWorker<Redirect>>,
    /// A file in the place of an output edge.
    pub stdout: Option<PerWorker<Redirect>>,
    /// Records leased to one worker at once; `None` lets the engine choose.
    pub prefetch: Option<NonZeroUsize>,
    /// Records handed over together.
    pub batch: Option<Batch>,
    /// A worker is replaced after that many records.
    pub max_records_per_worker: Option<u64>,
    /// A worker that holds one record longer is killed.
    pub record_timeout: Option<Duration>,
    /// How often one record is tried.
    pub retry: Retry,
    /// What becomes of a record whose attempts are used up.
    pub on_error: OnError,
    /// What happens when a worker dies.
    pub restart: Restart,
    /// What happens when the stage has failed.
    pub on_failure: OnFailure,
    /// What must have happened before its workers start.
    pub depends_on: Vec<Dependency>,
    /// How a worker is known to be ready; `None`: as soon as it has started.
    pub ready: Option<Probe>,
    /// For the stage as a whole.
    pub timeout: Option<Duration>,
    /// The command's standard output is flushed at each line.
    pub line_buffered: bool,
    /// Exits that count as success.
    pub success_exit: Vec<Exit>,
    /// Under reload, old workers end before new ones start.
    pub exclusive: bool,
    /// How its workers are ended.
    pub stop: StopPolicy,
    /// Resource limits of each worker.
    pub limits: Limits,
    /// Where standard error goes.
    pub stderr: PerWorker<Redirect>,
    /// More files whose change restarts this stage.
    pub watch: Vec<String>,
}

impl Stage {
    /// The name of the worker with this rank: the stage's own where the pool can only be one wide.
    pub(crate) fn worker_name(&self, rank: usize) -> String {
        if self.pool.max == 1 { self.name.clone() } else { format!("{}/{rank}", self.name) }
    }

    /// Whether its records are leased, so that they survive the death of the worker that held them.
    pub(crate) fn is_leased(&self) -> bool {
        matches!(self.mode, Mode::Map | Mode::Each)
    }
}

/// What stands before the name of a function that is called by tasks: a pool's.
pub(crate) const TASK_PREFIX: &str = "task:";

/// What the workers of a stage run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// A program.
    Command(PerWorker<Command>),
    /// A Python callable, `module:callable` or `path/file.py:callable`.
    Python(String),
    /// A Rust function that the embedding program registered.
    Function(String),
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `/bin/sh -c STRING`.
    Shell(String),
    /// The program and its arguments, no shell; never empty.
    Argv(Vec<String>),
}

/// How a worker takes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A long-lived filter.
    Stream,
    /// One record in, its results out, over a leased exchange.
    Map,
    /// One process per record.
    Each,
}

/// More workers than a machine has process ids for are a slip.
pub(crate) const MOST_WORKERS: usize = 32_768;

/// How many workers a stage has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    /// At the start, and when idle; at least 1.
    pub min: usize,
    /// At most; equal to `min` where the pool does not grow.
    pub max: usize,
}

impl Pool {
    /// Whether it grows and shrinks.
    pub(crate) fn is_elastic(self) -> bool {
        self.min != self.max
    }
}

/// How a worker comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMethod {
    /// A new process with only its own descriptors.
    Spawn,
    /// A copy of a process that has done the set-up.
    Fork,
    /// A copy made by a single-threaded server.
    Forkserver,
}

/// Where a standard stream goes that has no edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// The engine's own (standard error only): each line after the worker's name.
    Inherit,
    /// Nowhere.
    Null,
    /// This file, absolute.
    File(PathBuf),
}

/// Records handed over together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// At most this many.
    pub size: NonZeroUsize,
    /// At most this many bytes, one record at least.
    pub bytes: Option<u64>,
    /// Gathered for at most this long; `None`: what has come is handed over at once, but never fewer than
    /// `size` while the input goes on.
    pub wait: Option<Duration>,
}
