//! A declarative multi-process pipeline engine.

pub mod event;
pub mod graph;
pub mod language;
pub mod model;
pub mod observe;
pub mod report;

mod engine;
mod unsupported;

pub use engine::{Run, StartError, Stop};
pub use unsupported::not_yet;
