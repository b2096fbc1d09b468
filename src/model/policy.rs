//! What is to be done when something ends, fails or has to be waited for.

use std::time::Duration;

use super::{Command, Signal};

/// How often one record is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Attempts in all, at least 1. A worker's death by itself always allows 3.
    pub attempts: u32,
    /// The wait before the second attempt.
    pub delay: Duration,
    /// Every further wait is this many times the one before.
    pub factor: f64,
    /// No wait is longer.
    pub max_delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1, delay: Duration::ZERO, factor: 2.0, max_delay: Duration::from_secs(60) }
    }
}

/// What becomes of a record whose attempts are used up and that no edge takes from `failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The stage fails.
    Fail,
    /// It is counted and the stage goes on.
    Skip,
}

/// What becomes of the pipeline when a stage has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The whole pipeline is stopped.
    Stop,
    /// The rest may finish; the run still ends as failed.
    Continue,
}

/// What happens when a worker dies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restart {
    /// When a worker is started again.
    pub policy: RestartPolicy,
    /// More restarts than this within the window fail the stage.
    pub max: u32,
    /// The window.
    pub within: Duration,
    /// The wait before each restart.
    pub backoff: Backoff,
    /// What restarts together.
    pub scope: RestartScope,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Never,
            max: 5,
            within: Duration::from_secs(60),
            backoff: Backoff::default(),
            scope: RestartScope::Worker,
        }
    }
}

/// When a worker is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    Never,
    /// When it ended by anything but success.
    OnFailure,
    /// Whenever it ended before it was asked to.
    Always,
}

/// What restarts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartScope {
    /// The worker alone.
    Worker,
    /// The whole pool.
    Stage,
    /// The stage and all that it feeds.
    Downstream,
    /// Everything.
    Pipeline,
}

/// The waits before restarts: `initial`, `initial × factor`, … up to `max`, each changed by up to
/// `± jitter` of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Before the first restart.
    pub initial: Duration,
    /// From one to the next; at least 1.
    pub factor: f64,
    /// At most.
    pub max: Duration,
    /// Part of the wait, 0 to 1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), factor: 2.0, max: Duration::from_secs(10), jitter: 0.1 }
    }
}

/// What must have happened to another stage first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// The other stage.
    pub stage: String,
    /// What must be so.
    pub state: DependencyState,
}

/// A state of a stage that others can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyState {
    /// All its workers have started.
    Started,
    /// All its workers are ready.
    Ready,
    /// It has succeeded.
    Finished,
}

/// How a worker is known to be ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// What is looked at.
    pub kind: ProbeKind,
    /// Between two looks.
    pub interval: Duration,
    /// For one look.
    pub timeout: Duration,
    /// So many failed looks in a row count as not ready any more.
    pub failures: u32,
}

/// With a second between two looks and for each, and three that fail.
impl From<ProbeKind> for Probe {
    fn from(kind: ProbeKind) -> Self {
        let second = Duration::from_secs(1);
        Self { kind, interval: second, timeout: second, failures: 3 }
    }
}

/// What a probe looks at.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeKind {
    /// A connection to `HOST:PORT` succeeds.
    Tcp(String),
    /// A GET of this URL is answered by a status below 400.
    Http(String),
    /// This command exits with 0.
    Command(Command),
    /// A line of its output or standard error matches.
    Log(String),
    /// The worker says so itself.
    Notify,
}

/// How workers are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPolicy {
    /// The polite signal.
    pub signal: Signal,
    /// Between the polite signal and the kill.
    pub grace: Duration,
}

impl Default for StopPolicy {
    fn default() -> Self {
        Self { signal: Signal::TERM, grace: Duration::from_secs(10) }
    }
}

/// Resource limits of each worker; `None` leaves the engine's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Address space, in bytes (`RLIMIT_AS`).
    pub memory: Option<u64>,
    /// Open descriptors (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
    /// Processor time, in whole seconds (`RLIMIT_CPU`).
    pub cpu_time: Option<Duration>,
    /// Scheduling priority, −20 to 19.
    pub nice: Option<i32>,
    /// The processors it may use.
    pub cpus: Option<Vec<usize>>,
}
