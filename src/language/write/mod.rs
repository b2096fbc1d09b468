//! From a pipeline to a document: what the reader reads, written.

mod pipeline;
mod scalar;
mod yaml;

pub(crate) use pipeline::{
    backoff, batch, command, duration, exit, limits, per_worker, probe, restart, retry, size, stop, write,
};
pub(crate) use scalar::literal;
pub(crate) use yaml::{Entry, Written, Yaml};
