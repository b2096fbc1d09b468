//! From a pipeline to a document: what the reader reads, written.

mod pipeline;
mod scalar;
mod yaml;

pub(crate) use pipeline::{
    batch, duration, exit, limits, mode, on_error, on_failure, probe, restart, retry, size, start_method,
    state, stop, when_full, write,
};
pub use scalar::literal;
pub(crate) use yaml::{Entry, Item, Written, Yaml};
