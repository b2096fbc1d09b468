//! A declarative multi-process pipeline engine.

pub mod event;
pub mod explanation;
pub mod graph;
pub mod language;
pub mod model;
pub mod observe;
pub mod report;

mod engine;
mod explain;
mod ipc;
mod process;
mod runtime;
mod sys;
mod unsupported;

pub use engine::{Run, StartError, Stop, adopt_orphans, init, preflight};
pub use explain::explain;
pub use unsupported::not_yet;
