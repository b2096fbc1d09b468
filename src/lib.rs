//! A declarative multi-process pipeline engine.

pub mod event;
pub mod graph;
pub mod model;
pub mod report;

mod engine;
mod ipc;
mod process;
mod runtime;
mod sys;

pub use engine::{Run, StartError, Stop, init, preflight};
