//! What a pipeline promises and needs, as plain data: what [`Pipeline::explain`](crate::Pipeline::explain) finds out before anything runs.

use serde::Serialize;

/// What a pipeline promises and needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The pipeline's name.
    pub pipeline: String,
    /// From the sources to the sinks.
    pub paths: Paths,
    /// The stages, from sources to sinks.
    pub stages: Vec<StagePromise>,
    /// The edges, queues before pipes, each in the order of the document; implicit queues to `stdout` among them.
    pub edges: Vec<EdgePromise>,
    /// What the engine itself holds in memory at most.
    pub memory: Memory,
    /// What is needed of this machine, against what it gives.
    pub needs: Vec<Need>,
    /// What this machine gives.
    pub machine: Machine,
    /// Where a promise is weak.
    pub warnings: Vec<Warning>,
}

/// The ways of records from sources to sinks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paths {
    /// How many there are.
    pub count: u64,
    /// All of them, or none where there are too many to be read: then each stage and each edge says its own.
    pub listed: Vec<Path>,
}

/// One way from a source to a sink: the weakest of its stages and edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Path {
    /// The names along it: stages with their ports, `stdin`, `stdout`.
    pub through: Vec<String>,
    /// The order in which records come to its end, against the order in which its source made them. It is that of
    /// the engine: what a program does with its own input is its own.
    pub order: Order,
    /// The stage from which on the order is not kept.
    pub order_lost_at: Option<String>,
    /// Whether every record that the source made comes to the end exactly once in a run that succeeds, whichever
    /// workers die.
    pub exactly_once: bool,
    /// Stages on it of which the death of a worker fails the stage.
    pub fatal: Vec<String>,
    /// Where records can be lost, repeated or left out without that.
    pub weaknesses: Vec<Weakness>,
}

/// Where a path promises less than exactly once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Weakness {
    /// A full queue drops records.
    Drops {
        /// The queue.
        edge: String,
    },
    /// When a worker dies, it is not known what became of the records that it had read, and the stage goes on.
    Unconfirmed {
        /// The stage.
        stage: String,
    },
    /// A source whose worker dies begins again: what it had written comes twice.
    Repeats {
        /// The stage.
        stage: String,
    },
    /// Records whose attempts are used up are counted and left out.
    Skips {
        /// The stage.
        stage: String,
    },
    /// Records whose attempts are used up go another way.
    Diverts {
        /// The stage.
        stage: String,
    },
    /// Bytes in a kernel pipe.
    Pipe {
        /// The pipe.
        edge: String,
    },
    /// A daemon is ended when all others have finished; what it has not read in its grace period is discarded.
    Daemon {
        /// The stage.
        stage: String,
    },
}

/// How far the order of records is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// One order over all workers.
    Kept,
    /// Records of one key stay in order.
    PerKey,
    /// What one worker wrote stays in order; workers are mixed as they come.
    PerWorker,
    /// None: records come as they get done.
    NotKept,
}

/// What one stage promises.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StagePromise {
    /// Its name.
    pub stage: String,
    /// `stream`, `map` or `each`.
    pub mode: &'static str,
    /// How many workers at least, and at the start.
    pub workers_min: usize,
    /// How many workers at most.
    pub workers: usize,
    /// Whether it is a daemon.
    pub daemon: bool,
    /// Whether nothing feeds it.
    pub is_source: bool,
    /// Whether a worker's records stay with the engine until they are answered.
    pub leased: bool,
    /// How its results on `stdout` are ordered.
    pub order: Order,
    /// What keeps that order, where something does.
    pub order_by: Option<OrderBy>,
    /// What the death of a worker costs.
    pub death: Death,
    /// How its workers are started again, where they are.
    pub restarts: Option<Restarts>,
    /// Of a leased stage, what becomes of a record that fails.
    pub failing: Option<Failing>,
    /// Whether a failure of the stage ends the run.
    pub failure_ends_run: bool,
}

/// What keeps the order of a stage's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderBy {
    /// There is one worker.
    OneWorker,
    /// `ordered: true`.
    Ordered,
    /// `partition_by` on its input.
    PartitionBy,
}

/// What the death of a worker costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// The stage fails.
    StageFails,
    /// Its record is tried again; nothing is lost.
    Attempt,
    /// The records that it had read are unconfirmed; the stage goes on with the next.
    Unconfirmed,
    /// A source begins again: its output may come twice.
    Repeats,
}

/// How workers are started again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Restarts {
    /// `on-failure` or `always`.
    pub policy: &'static str,
    /// More than this within the window fail the stage.
    pub max: u32,
    /// The window.
    pub within_seconds: f64,
    /// `worker`, `stage`, `downstream` or `pipeline`.
    pub scope: &'static str,
}

/// What becomes of a leased record that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// Attempts where it fails by its own account.
    pub attempts: u32,
    /// Attempts where its worker dies.
    pub attempts_by_death: u32,
    /// And then.
    pub then: Then,
    /// Where it goes, for [`Then::Diverted`].
    pub to: Vec<String>,
}

/// What becomes of a record whose attempts are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The stage fails.
    StageFails,
    /// It is counted and left out.
    Skipped,
    /// It leaves by the port `failed`.
    Diverted,
}

/// What one edge promises.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgePromise {
    /// `crawl -> parse`.
    pub edge: String,
    /// What it is.
    pub kind: EdgeKind,
    /// How its records are framed; none for pipes.
    pub format: Option<&'static str>,
    /// Bytes that wait in it at most: in the engine for a queue, in the kernel for a pipe, where that is known.
    pub capacity_bytes: Option<u64>,
    /// Records that wait in it at most, where that is set.
    pub capacity: Option<u64>,
    /// The producing stage; none for `mpflow`'s standard input.
    pub from: Option<String>,
    /// The consuming stage; none for `mpflow`'s standard output.
    pub to: Option<String>,
    /// What is promised of its delivery.
    pub delivery: Delivery,
    /// The order in which records enter it.
    pub order: Order,
    /// How the consuming pool shares them.
    pub sharing: Sharing,
    /// Consuming workers at most.
    pub consumers: usize,
    /// What happens when it is full.
    pub when_full: Full,
    /// Other queues of the same output: a full one holds them all up.
    pub siblings: Vec<String>,
}

/// What an edge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// Records in the engine.
    Queue,
    /// Bytes in the kernel.
    Pipe,
    /// A connected pair of sockets.
    DuplexPipe,
}

/// What is promised of the delivery over an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// A record stays with the engine until it is answered; its results appear downstream exactly once.
    Leased,
    /// Written to `mpflow`'s standard output, once.
    Written,
    /// Each record is read once; should its reader die, the stage fails.
    OnceOrFails,
    /// What a worker had read when it died is unconfirmed.
    Unconfirmed,
    /// Nothing: bytes in the kernel.
    Nothing,
}

/// How the consuming pool shares records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// There is one consumer.
    One,
    /// Whoever has room gets the next.
    Demand,
    /// Records of one key go to one worker.
    Key,
    /// Every worker gets every record.
    All,
    /// Worker *i* is joined to worker *i*.
    Pairs,
}

/// What happens when an edge is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Full {
    /// The producer waits.
    ProducerWaits,
    /// The record that does not fit is dropped and counted.
    DropsNewest,
    /// The record that has waited longest is dropped and counted.
    DropsOldest,
}

/// What the engine holds in memory at most: a sum, for two sizes of records. Workers have memory of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Records this long at most are what [`Memory::short_bytes`] counts with.
    pub short_record_bytes: u64,
    /// The sum while no record is longer than that.
    pub short_bytes: u64,
    /// The sum should every place be taken by records as long as `max_record` allows.
    pub most_bytes: u64,
    /// The summands, the greatest of the first sum first.
    pub parts: Vec<MemoryPart>,
}

/// One summand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPart {
    /// The stage or edge; `mpflow` for the engine itself.
    pub of: String,
    /// What it holds.
    pub holds: Holds,
    /// How many times: the workers, where each has its own.
    pub times: u64,
    /// `times` × what one holds of short records.
    pub short_bytes: u64,
    /// `times` × what one holds of the longest records.
    pub most_bytes: u64,
    /// Keys of the stage or edge that lower it.
    pub lowered_by: &'static [&'static str],
}

/// What is held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// The program, its threads and the read buffers that it keeps for the next read.
    Engine,
    /// Environment, command line, books and the last of standard error of each worker.
    Workers,
    /// Records that wait in a full queue, in the read buffers that they came in.
    Queue,
    /// One read of each worker that waits for room in a queue.
    Read,
    /// The beginning of a record that is not whole yet.
    Unfinished,
    /// Records on their way into the pipe of a worker, and those that may lie unread in it.
    Given,
    /// Records leased to workers.
    Leases,
    /// Results of a process that has not ended; more than 1 MiB goes to an unlinked file.
    Results,
    /// Records that wait for their next attempt.
    Delayed,
    /// Results that wait for those before them.
    Reorder,
    /// Records that failed, as documents on their way to the port `failed`.
    Failed,
    /// Shared values, arrays and dictionaries.
    Shared,
    /// Requests and replies of the clients of shared objects.
    Clients,
}

/// Something that is needed of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// What.
    pub what: Resource,
    /// How much at most.
    pub needed: u64,
    /// What this machine gives; none where it sets no limit.
    pub limit: Option<u64>,
    /// Of the limit, what others use already, where that is known.
    pub in_use: u64,
    /// Whether it fits.
    pub fits: bool,
    /// The summands.
    pub parts: Vec<NeedPart>,
}

/// What a pipeline needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Open descriptors of the engine, against the hard limit `RLIMIT_NOFILE`, to which it raises its own.
    Descriptors,
    /// Processes, against `RLIMIT_NPROC`.
    Processes,
    /// Bytes of memory of the engine, for short records, against what the machine has.
    Memory,
    /// Pages of pipe buffers before any pipe is made larger, against `pipe-user-pages-soft`.
    PipePages,
    /// Pages of pipe buffers when all are as large as the engine makes them, against the same.
    LargePipePages,
    /// Bytes of the largest pipe, against `pipe-max-size`.
    PipeSize,
}

/// One summand of a need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NeedPart {
    /// The stage or pipe; `mpflow` for the engine itself.
    pub of: String,
    /// How many times: its workers.
    pub times: u64,
    /// So much each.
    pub each: u64,
}

/// What this machine gives. Limits that do not hold for this process are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// `RLIMIT_NOFILE`, soft: what workers get.
    pub open_files_soft: Option<u64>,
    /// `RLIMIT_NOFILE`, hard: what the engine raises its own to.
    pub open_files_hard: Option<u64>,
    /// `RLIMIT_NPROC`, soft; the kernel does not hold root to it.
    pub processes: Option<u64>,
    /// Processes and threads that this user has already, where there is a limit.
    pub processes_in_use: u64,
    /// `/proc/sys/fs/pipe-max-size`, in bytes; root may have larger ones.
    pub pipe_max_bytes: Option<u64>,
    /// `/proc/sys/fs/pipe-user-pages-soft`; not for root.
    pub pipe_user_pages: Option<u64>,
    /// The machine's memory.
    pub memory_bytes: Option<u64>,
}

/// A promise that is weaker than it may seem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Stable and searchable: `restart_unconfirmed`.
    pub code: &'static str,
    /// What is so, a sentence.
    pub message: String,
    /// What can be done.
    pub help: String,
}
