//! What can go wrong between processes.

use std::io;

use crate::ipc::CodeError;
use crate::model::nearest;

/// Why something was not done. What is not said to have changed has not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing came in time: Python's `queue.Empty`.
    #[error("nothing has come in time")]
    Empty,
    /// There was no room in time: Python's `queue.Full`.
    #[error("there was no room in time")]
    Full,
    /// Nobody is at the other end any more: Python's `EOFError` and `BrokenPipeError`.
    #[error("nobody is at the other end any more")]
    Closed,
    /// This end is for the other direction only.
    #[error("this end of the pipe is only for {0}")]
    Direction(&'static str),
    /// A value that serde cannot code, or that is not the type that was asked for. A value that came is gone.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// What came is nothing that this version of mpflow sends. It is gone.
    #[error("what came is no message of this kind of handle")]
    Garbled,
    /// [`init`](crate::init) was not called, so that this program cannot be started again.
    #[error("the program was not initialised: call `mpflow::init(&functions)` first thing in `main`")]
    NotInitialised,
    /// This program has no such function for a process, or for a pool.
    #[error("this program has registered no {kind} `{name}`: {advice}")]
    UnknownFunction {
        /// What it would have to be registered as.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// What to do.
        advice: String,
    },
    /// A process could not be started. Nothing of it is left.
    #[error("cannot start the process: {0}")]
    Start(String),
    /// A process is started once: make another.
    #[error("the process was started before")]
    StartedBefore,
    /// What the thread has already it cannot wait for.
    #[error("this thread holds the lock already")]
    HeldByThisThread,
    /// A system call failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl Error {
    /// For a function that is not there, where these are; `by` is what registers one. A program that was not initialised
    /// has registered none, whatever it meant to.
    pub(super) fn unknown<'a>(
        kind: &'static str,
        by: &str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Self {
        if !crate::process::is_initialised() {
            return Self::NotInitialised;
        }
        let advice = match nearest(name, known) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("register it by `Functions::{by}` before `mpflow::init`"),
        };
        Self::UnknownFunction { kind, name: name.to_owned(), advice }
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::System(errno.into())
    }
}
