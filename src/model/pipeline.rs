//! The whole declared graph.

use std::path::PathBuf;

use super::{Edge, Stage, StopPolicy};

/// One pipeline: stages joined by edges.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pipeline {
    /// Shown in logs and reports; the file's stem where the document does not say.
    pub name: String,
    /// Free text, empty where the document has none.
    pub description: String,
    /// The folder that relative paths started from; the workers' default working directory. Absolute.
    pub dir: PathBuf,
    /// The stages, in the order of the document. Names are unique.
    pub stages: Vec<Stage>,
    /// The edges, in the order of the document; a chain is as many edges.
    pub edges: Vec<Edge>,
    /// The shared objects, in the order of the document.
    pub shared: Vec<SharedObject>,
    /// How the run as a whole is ended.
    pub stop: StopPolicy,
}

#[cfg(test)]
impl Pipeline {
    /// The stage of this name.
    pub(crate) fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// One named object that all workers share.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SharedObject {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// What it is.
    pub kind: SharedKind,
}

/// The kinds of shared objects.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SharedKind {
    /// One number or truth value: `i64`, `u64`, `f64` or `bool`, and its first value.
    Value {
        /// `i64`, `u64`, `f64` or `bool`.
        element: String,
        /// The first value; of the kind that `element` says.
        initial: serde_json::Value,
    },
    /// A fixed number of numbers.
    Array {
        /// `i64`, `u64`, `f64` or `bool`.
        element: String,
        /// How many.
        length: u64,
    },
    /// A mutual exclusion lock.
    Lock,
    /// A counting semaphore with this many permits.
    Semaphore(u64),
    /// An event, set or not at the start.
    Event(bool),
    /// A barrier of this many parties.
    Barrier(u64),
    /// A dictionary with its first entries.
    Dict(serde_json::Map<String, serde_json::Value>),
}
