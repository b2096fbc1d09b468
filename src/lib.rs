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
//! [`language::Document`] reads a document and knows where everything in it stands; [`graph::plan`] checks it as a
//! graph and settles what it leaves open; [`preflight`] says what this machine lacks for it;
//! [`Engine::start`] runs it on a thread of its own; [`Run::events`] tells what happens, and [`Run::wait`] what
//! came of it.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use mpflow::language::{Document, ParseOptions};
//! use mpflow::report::Outcome;
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
//!     mpflow::init(&mpflow::Functions::new());
//!
//!     let options = ParseOptions::of_this_process();
//!     let document = Document::parse(PIPELINE, Path::new("factors.yaml"), &options)?;
//!     let plan = mpflow::graph::plan(document.pipeline()).map_err(|problems| document.diagnose(problems))?.plan;
//!
//!     let report = mpflow::Engine::new().stdout(mpflow::Stdio::Inherit).start(plan)?.wait();
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
pub mod graph;
pub mod language;
pub mod model;
pub mod observe;
pub mod report;
pub mod shared;

mod engine;
mod explain;
mod ipc;
mod process;
mod runtime;
mod sdk;
mod sys;
mod worker;

pub use engine::{
    EndError, Engine, Input, Output, RecvError, Run, SendError, StartError, Stdio, Stop, adopt_orphans, init,
    preflight,
};
pub use explain::explain;
pub use ipc::CodeError;
pub use worker::{Functions, PortError, Records, Worker, worker};
