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
//! A program that forgets [`init`] gets [`StartError::NotInitialised`].
//!
//! # A guide
//!
//! | to | see |
//! |---|---|
//! | read a pipeline, with other values for its `vars` | [`Pipeline::from_path_with`], [`language::ParseOptions`] |
//! | say one in code, and write it as YAML | [`Pipeline::builder`], [`Pipeline::to_yaml`], [`pipeline`] |
//! | see all that is wrong with one | [`language::Diagnostics`]; as an error of `main` it prints each mistake with its place |
//! | call functions of this program | [`Functions`], [`worker()`] |
//! | start processes, and queues, pipes and locks between them, without a pipeline | [`multiprocessing`] |
//! | send values into a run and receive them | [`Stdio::Values`], [`Run::input`], [`Run::output`] |
//! | join a run to files and processes by bytes | [`Stdio::Bytes`], [`Stdio::Inherit`] |
//! | watch a run | [`Run::events`], [`Run::snapshot`], [`event::EventKind`] |
//! | stop it | [`Run::stop`]: [`Stop::Drain`], [`Stop::Terminate`], [`Stop::Kill`] |
//! | change it while it runs | [`Run::scale`], [`Run::restart`], [`Run::reload`] |
//! | know what came of it | [`report::Report`] |
//! | let `mpflow ps`, `status` and the like find it | [`Run::open_control`], [`control`] |
//! | know beforehand what it promises and needs | [`Pipeline::explain`], [`Engine::check`] |
//! | show any of this to people, as the command does | [`observe`] |
//!
//! `examples/` has programs to start from: `squares` (values in and out), `functions` (functions of the program),
//! `primitives` (processes, a queue and a pool without a pipeline), `build` (a pipeline in code), `watch` (events, statistics, steering), `filter` (pipes to other processes) and `reload`.
//!
//! # Values
//!
//! What a program sends is coded by the format of the edge that it goes to, and what it receives is decoded by the
//! format of the edge that it came by:
//!
//! ```
//! use mpflow::pipeline::{Edge, Format, Stage};
//! use mpflow::{Engine, Pipeline, Stdio};
//!
//! # fn start() -> Result<(), Box<dyn std::error::Error>> {
//! let pipeline = Pipeline::builder("upper")
//!     .stage("upper", Stage::shell("tr a-z A-Z").pool(4))
//!     .edge(Edge::queue("stdin -> upper -> stdout").format(Format::Lines))
//!     .build()?;
//! let run = Engine::new().stdin(Stdio::Values).stdout(Stdio::Values).start(&pipeline)?;
//!
//! let input = run.input::<str>()?;
//! input.send("one line")?;
//! drop(input); // the end of the input
//! for line in run.output::<String>()? {
//!     println!("{}", line?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | format | values |
//! |---|---|
//! | `lines`, `nul`, `frames` | text, `Vec<u8>`, numbers, truth values, names of variants |
//! | `json`, `msgpack` | whatever serde knows; a struct is a map, as Python and JSON have it |
//!
//! [`Input::send`] waits while the run has no room, so what waits is bounded from end to end; whoever sends and
//! receives on one thread has to use [`Input::try_send`] or few enough records. Many small records travel together, and
//! none waits for another: a single one is on its way at once.
//!
//! # What a run does to its program
//!
//! Nothing that was not asked for. No signal handler is installed, nothing is printed, no child of the program's own is
//! waited for, and the standard streams are left alone until an [`Engine`] is told what they are: a pipeline with an
//! edge from `stdin` or to `stdout` is not started before. Any number of runs go on side by side. Dropping a [`Run`] kills
//! it, and when that returns, no process that it started is left, nor any that those started; not even if this program is
//! killed.
//!
//! A run has one thread, and a small process that starts its workers. What it raises for this process is the soft limit
//! of open descriptors.
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
#[cfg(feature = "watch")]
pub mod watch;

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
