//! The pipeline as plain data: what `language` builds, `graph` checks and `runtime` runs.
//!
//! Nothing here reads a file, knows a clock or starts a process. All values are resolved: expressions are
//! evaluated, defaults filled in, relative paths made absolute. What may differ from worker to worker is a
//! [`PerWorker`].

mod edge;
mod exit;
mod per_worker;
mod pipeline;
mod placeholder;
mod policy;
mod problem;
mod stage;
mod stop;
mod suggest;

pub(crate) use edge::{Edge, EdgeKind, Endpoint, PartitionKey, PipeOptions, QueueOptions};
pub use edge::{Format, WhenFull};
pub use exit::{Exit, Signal, Usage};
pub(crate) use per_worker::PerWorker;
pub(crate) use pipeline::{Pipeline, SharedKind, SharedObject};
pub(crate) use placeholder::{Piece, Record, Template};
pub(crate) use policy::Dependency;
pub use policy::{
    Backoff, DependencyState, Limits, OnError, OnFailure, Probe, ProbeKind, Restart, RestartPolicy,
    RestartScope, Retry, StopPolicy,
};
pub use problem::{Label, Place, Problem, Severity};
pub use stage::{Batch, Mode, Redirect, StartMethod};
pub(crate) use stage::{Body, Command, MOST_WORKERS, Pool, Stage, TASK_PREFIX};
pub use stop::Stop;
pub(crate) use suggest::nearest;

/// The name of a stage, a worker or an edge end that stands for `mpflow`'s own standard input.
pub(crate) const STDIN: &str = "stdin";
/// The name of an edge end that stands for `mpflow`'s own standard output.
pub(crate) const STDOUT: &str = "stdout";
/// The port that carries standard error.
pub(crate) const STDERR: &str = "stderr";
/// The port that carries records whose attempts are used up.
pub(crate) const FAILED: &str = "failed";
