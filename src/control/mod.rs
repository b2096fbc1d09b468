//! The control socket: how a run is looked at and steered from another process.
//!
//! # Theory of operation
//!
//! A run that is opened ([`crate::Run::open_control`]; `mpflow run` always does) listens on the socket `control` in its
//! folder, which nobody but its user can enter. What is spoken there, newline-delimited JSON-RPC 2.0, is described in
//! `schemas/control.md`.
//!
//! None of it touches the run's own loop but through the same short requests that [`crate::Run`] sends: an *acceptor*
//! thread takes connections in, each connection has a thread of its own, and a *keeper* thread keeps the last lines
//! of the log. Connections are few, requests short, and every wait of a connection's thread ends: at the latest when the
//! client has been silent, or has not read, for so long. When more clients come than there is room for, the one that
//! has been idle longest has to go. So a client that is slow, hostile or broken costs the run nothing but
//! one small thread, and keeps nobody else out.
//!
//! [`Client`] is the other side; [`runs`] and [`find`] look for the runs of this user.

mod client;
mod connection;
mod keeper;
mod left;
mod methods;
mod protocol;
mod sampled;
mod server;
mod usage;

pub use client::{Client, ClientError, FindError, Followed, Reload, Runs, Stopped, find, runs};
use left::LeftAbout;
pub use protocol::{LONGEST_REQUEST_BYTES, METHODS, Refusal, RefusalData};
pub use server::ReloadRequest;
pub(crate) use server::{About, Server};

/// The socket in the run's folder.
const SOCKET: &str = "control";
