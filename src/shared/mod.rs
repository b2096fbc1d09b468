//! Objects that all workers of a run share: locks, semaphores, events, barriers, dictionaries, and numbers in memory.
//!
//! # Theory of operation
//!
//! The engine arbitrates. Every client (a thread of a Python worker, a `mpflow shared` command, a [`Client`]) has a
//! connection of its own to a Unix socket whose path is in `MPFLOW_SHARED`, and **what a connection holds is
//! released when it closes**. The kernel closes the sockets of a process that dies, however it dies; so nothing stays
//! locked, and nobody has to find out who is dead.
//!
//! | file | part |
//! |---|---|
//! | `arbiter` | who holds what and who waits for it: a pure state machine that knows no sockets, no clock and no stages |
//! | `protocol` | requests and replies as lines of JSON (`schemas/shared-objects.md`) |
//! | `memory` | where values and arrays lie in the memory that all clients map |
//! | `client` | the side of a Rust program |
//!
//! Values and arrays do not pass through the engine: each client maps one sealed memory file. A read-modify-write is
//! made atomic by a record lock on the element's bytes, which the kernel releases when its holder dies.

mod arbiter;
mod client;
mod memory;
mod protocol;

pub(crate) use arbiter::{Arbiter, ClientId, MOST_DICT_BYTES, Reply};
pub use client::{Client, Error};
pub(crate) use memory::{Layout, Words as ReadWords};
pub use protocol::VARIABLE;
pub(crate) use protocol::{Answer, LONGEST_LINE, Request};
pub use protocol::{ObjectInfo, Refusal};
