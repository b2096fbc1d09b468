//! Rust functions as workers: what a program registers by name, and the life of a process that calls one.
//!
//! # Theory of operation
//!
//! A program registers its functions ([`Functions`]) and hands them to `mpflow::init`. A worker of a stage with
//! `function: name` is this same program, started again or forked, that finds a task in its environment: `init` does
//! not return in it. It speaks the worker protocol (`schemas/worker-protocol.md`) as any function worker does.
//!
//! | file | part |
//! |---|---|
//! | `functions` | the registry, and how a typed function becomes one that takes coded records |
//! | `life` | from the task to the exit |
//! | `map`, `stream` | the two ways to work |
//! | `outbox` | results on their way out, and the thread that sends those of a slow function |
//! | `call` | a process that makes one call, without a stage |
//! | `context` | what a function may ask its worker for |
//! | `input`, `cursor` | records on their way in |
//! | `failure` | errors and panics as failed records |

mod call;
mod context;
mod cursor;
mod failure;
mod functions;
mod input;
mod life;
mod map;
mod outbox;
mod stream;

pub(crate) use call::{CALL, Call, write_call};
pub use context::{PortError, Worker, worker};
pub(crate) use failure::Failure;
pub use functions::Functions;
pub(crate) use functions::Kind;
pub use input::Records;
pub(crate) use life::{become_worker_if_asked, live, register, registered};
