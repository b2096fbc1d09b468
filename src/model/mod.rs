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

pub use edge::{Edge, EdgeKind, Endpoint, Format, PartitionKey, PipeOptions, QueueOptions, WhenFull};
pub use exit::{Exit, Signal, Usage};
pub use per_worker::PerWorker;
pub use pipeline::{Pipeline, SharedKind, SharedObject};
pub use placeholder::{Piece, Record, Template};
pub use policy::{
    Backoff, Dependency, DependencyState, Limits, OnError, OnFailure, Probe, ProbeKind, Restart,
    RestartPolicy, RestartScope, Retry, StopPolicy,
};
pub use problem::{Label, Place, Problem, Severity};
pub use stage::{Batch, Body, Command, Mode, Pool, Redirect, Stage, StartMethod};
pub use stop::Stop;
pub(crate) use suggest::nearest;

/// The name of a stage, a worker or an edge end that stands for `mpflow`'s own standard input.
pub const STDIN: &str = "stdin";
/// The name of an edge end that stands for `mpflow`'s own standard output.
pub const STDOUT: &str = "stdout";
