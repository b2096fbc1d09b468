//! A pipeline: read from a document, or built in code, and checked in both cases by the same rules.
//!
//! ```
//! use mpflow::pipeline::{Edge, Format, Pipeline, Stage};
//!
//! # fn main() -> Result<(), mpflow::language::Diagnostics> {
//! let read = Pipeline::from_yaml("
//! name: squares
//! stages:
//!   numbers: {command: seq 1 10}
//!   square: {python: 'tasks:square', pool: 4}
//! edges:
//!   - {queue: numbers -> square -> stdout, format: json}
//! ")?;
//!
//! let built = Pipeline::builder("squares")
//!     .stage("numbers", Stage::shell("seq 1 10"))
//!     .stage("square", Stage::python("tasks:square").pool(4))
//!     .edge(Edge::queue("numbers -> square -> stdout").format(Format::Json))
//!     .build()?;
//!
//! assert_eq!(built, read);
//! # Ok(())
//! # }
//! ```

mod builder;
mod edge;
mod loaded;
mod part;
mod shared;
mod stage;
#[cfg(test)]
mod tests;

pub use builder::PipelineBuilder;
pub use edge::Edge;
pub use loaded::{Drawing, Pipeline};
pub use shared::Shared;
pub use stage::Stage;

pub use crate::graph::draw::Charset;
pub use crate::graph::{Effect, Ends, KEYS, Key, Level};
pub use crate::language::write::literal;
pub use crate::model::{
    Backoff, Batch, DependencyState, Exit, Format, Limits, Mode, OnError, OnFailure, Place, Probe, ProbeKind,
    Problem, Redirect, Restart, RestartPolicy, RestartScope, Retry, Signal, StartMethod, StopPolicy,
    WhenFull,
};
pub use crate::model::{Label as ProblemLabel, Severity, Usage};
