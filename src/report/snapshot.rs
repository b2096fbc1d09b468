//! One look at a run while it goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{from_seconds, seconds};

/// One look at a run while it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Since the start of the run, in seconds.
    #[serde(rename = "t", serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub at: Duration,
    /// The pipeline's name, which a reload may change. Who asks over the control socket is told it as `run.pipeline`.
    #[serde(skip)]
    pub pipeline: String,
    /// `running`, `suspended`, `failing` (a stage has failed, and the others are being stopped), or how strongly it is
    /// being ended: `drain`, `terminate`, `kill`.
    pub state: String,
    /// In the order of the document.
    pub stages: Vec<StageSnapshot>,
    /// The queues, as in [`super::Report::edges`].
    pub edges: Vec<EdgeSnapshot>,
}

/// One stage at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSnapshot {
    /// Its name.
    pub stage: String,
    /// `stream`, `map` or `each`.
    pub mode: String,
    /// `waiting`, `running`, `restarting`, `stopping`, `finished`, `stopped` or `failed`. Around a reload also `preparing`
    /// (it is not in effect yet), `leaving` (its workers finish what they hold; another form of it comes), `replaced` or
    /// `fallen` (it failed right after a reload and waits for the next).
    pub state: String,
    /// Whether it is the form of its stage that the pipeline has now. What others have counted is in this one's counts
    /// as well.
    pub in_effect: bool,
    /// Why it is in that state, or what it waits for, where that is worth a word.
    pub reason: Option<String>,
    /// Whether records begin in it: nothing feeds it, so that a process that is started in it begins from the beginning.
    pub is_source: bool,
    /// Living workers.
    pub workers: usize,
    /// As wide as its pool may be.
    pub pool: usize,
    /// Records that its input ports took so far.
    pub records_in: u64,
    /// Records that left its output ports so far.
    pub records_out: u64,
    /// Records whose attempts were used up.
    pub failed: u64,
    /// Processes started in the place of one that had ended, by the restart policy.
    pub restarts: u64,
    /// The places of its pool, by rank.
    pub slots: Vec<SlotSnapshot>,
}

/// One place in a pool at one moment, and the worker in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotSnapshot {
    /// The worker's name: `square/2`, or the stage's name where the pool is 1.
    pub worker: String,
    /// `vacant` (nobody is needed here now), `starting`, `running`, `finishing` (it was told by the end of its input),
    /// `stopping` (it was sent its stop signal), `killed`, `draining` (it has ended, somebody holds its output still),
    /// `backing_off` or `done`.
    pub state: String,
    /// What a living worker does, or why the place is as it is.
    pub reason: Option<String>,
    /// Its process, and its process group.
    pub pid: Option<i32>,
    /// How many processes have been this worker.
    pub generation: u64,
    /// Records that this process was given so far.
    pub given: u64,
    /// Records that it holds and has not answered, where they are leased.
    pub held: u64,
    /// What it uses of the machine. `None` where that was not looked at, as in [`crate::Run::snapshot`], or where it is
    /// gone.
    pub usage: Option<WorkerUsage>,
}

/// What a worker and the processes that it has started use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerUsage {
    /// Processes.
    pub processes: usize,
    /// Their resident memory, in bytes. What they share is counted for each of them.
    pub memory_bytes: u64,
    /// Processor time that they have used, and those of their children whose end they have seen, in seconds.
    #[serde(rename = "cpu_seconds", serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub cpu: Duration,
}

/// One queue at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeSnapshot {
    /// `crawl -> parse`.
    pub edge: String,
    /// Records that wait.
    pub records: u64,
    /// At most so many wait; `None`: as many as there is room for by their bytes.
    pub capacity: Option<u64>,
    /// Bytes that wait.
    pub bytes: u64,
    /// At most so many wait.
    pub capacity_bytes: u64,
    /// Whether its producers wait for room.
    pub is_full: bool,
    /// Records that its producers have put in so far.
    #[serde(rename = "in")]
    pub records_in: u64,
    /// Records dropped so far since the queue was full.
    pub dropped: u64,
}
