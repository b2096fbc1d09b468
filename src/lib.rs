//! A declarative multi-process pipeline engine.
//!
//! A pipeline is one YAML document: *stages*, each run by a pool of worker processes, joined by *edges*, which carry
//! records (`queue`) or bytes (`pipe`) from one to the next. The engine starts the workers, moves records through
//! bounded queues, gives what a dead worker held to another, and ends with a report in which every record is
//! accounted for. Nothing that it has started outlives the run. The `mpflow` command is a thin skin over this crate; its
//! README has a tour of the language.
//!
//! # From a document to a report
//!
//! [`Pipeline::from_path`] reads and checks a document, [`Pipeline::builder`] says the same in code;
//! [`Engine::start`] runs it on a thread of its own; [`Run::events`] tells what happens, and [`Run::wait`] what
//! came of it.
//!
//! ```no_run
//! use mpflow::report::Outcome;
//! use mpflow::{Engine, Functions, Pipeline, Stdio};
//!
//! const PIPELINE: &str = "
//! stages:
//!   numbers: {command: seq 1 1000000}
//!   factors: {command: factor, pool: auto}
//! edges:
//!   - queue: numbers -> factors -> stdout
//! ";
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // First thing: this program is started once more, as the process that starts all workers.
//!     mpflow::init(&Functions::new());
//!
//!     let pipeline = Pipeline::from_yaml(PIPELINE)?;
//!     let report = Engine::new().stdout(Stdio::Inherit).start(&pipeline)?.wait();
//!     match report.outcome {
//!         Outcome::Succeeded => Ok(()),
//!         outcome => Err(format!("{outcome:?}").into()),
//!     }
//! }
//! ```
//!
//! A program that forgets [`init`] gets [`StartError::NotInitialised`]. Dropping a [`Run`] kills it.
//!
//! # Features
//!
//! `cli`, on by default, is what the `mpflow` command needs. A program that embeds the engine does without:
//! `default-features = false`.
//!
//! # Platforms
//!
//! Linux.

pub mod change;
pub mod conformance;
pub mod control;
pub mod event;
pub mod explanation;
pub mod language;
pub mod multiprocessing;
pub mod observe;
pub mod pipeline;
pub mod report;
pub mod shared;

mod engine;
mod explain;
mod graph;
mod ipc;
mod model;
mod process;
mod runtime;
mod sdk;
mod sys;
mod worker;

pub use engine::{
    EndError, Engine, Input, Output, RecvError, Run, SendError, StartError, Stdio, Stop, adopt_orphans, init,
};
pub use ipc::CodeError;
pub use pipeline::Pipeline;
pub use worker::{Functions, PortError, Records, Worker, worker};
