//! A declarative multi-process pipeline engine.

pub mod event;
pub mod graph;
pub mod language;
pub mod model;
pub mod report;

mod engine;

pub use engine::{Run, StartError, Stop};
