//! A declarative multi-process pipeline engine.

pub mod event;
pub mod graph;
pub mod language;
pub mod model;
pub mod observe;
pub mod report;

mod engine;
mod unsupported;

pub use engine::{Run, StartError, Stop, preflight};
pub use unsupported::not_yet;

/// Prepares this process for runs: call it first thing in `main`, before any thread starts.
pub fn init() {}
