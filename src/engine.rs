//! The public face of a run: start it, watch it, stop it, wait for it.

use std::io;

use crossbeam_channel::Receiver;

use crate::event::Event;
use crate::graph::Plan;
use crate::model::Problem;
use crate::report::{Report, Snapshot};

/// How strongly a run is to be ended. A stronger request replaces a weaker one; a weaker one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Sources are stopped, everything in flight drains.
    Drain,
    /// All workers get their stop signal, then SIGKILL after the grace period.
    Terminate,
    /// SIGKILL at once.
    Kill,
}

/// Why a run did not start. No worker was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// [`crate::init`] was not called at the start of `main`.
    #[error(
        "the engine was not initialised: call `mpflow::init()` first thing in `main`, before any thread starts"
    )]
    NotInitialised,
    /// The launcher process could not be started.
    #[error("cannot start the launcher process")]
    Launcher(#[source] io::Error),
}

/// A run in progress. Dropping it kills it.
pub struct Run {
    _private: (),
}

impl Run {
    /// Starts a checked pipeline.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(_plan: Plan) -> Result<Self, StartError> {
        Err(StartError::NotInitialised)
    }

    /// What happens in the run, from its first event on. One receiver: clones share the events.
    pub fn events(&self) -> Receiver<Event> {
        crossbeam_channel::never()
    }

    /// A look at the run, or `None` when it has ended. Waits for the run's own thread, some microseconds.
    pub fn snapshot(&self) -> Option<Snapshot> {
        None
    }

    /// Asks the run to end. Returns at once.
    pub fn stop(&self, _stop: Stop) {}

    /// Stops (`true`) or continues (`false`) all workers, as SIGTSTP and SIGCONT do. Returns when it is done.
    pub fn pause(&self, _paused: bool) {}

    /// Waits for the end of the run. Nothing that it started is left when this returns.
    pub fn wait(self) -> Report {
        unreachable!()
    }
}

/// What of this machine speaks against a run of this plan: a program that is not found, a folder that cannot be
/// entered.
pub fn preflight(_plan: &Plan) -> Vec<Problem> {
    Vec::new()
}
