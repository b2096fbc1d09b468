//! The public face of a run: start it, watch it, stop it, wait for it.

mod preflight;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

pub use preflight::preflight;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::event::Event;
use crate::graph::Plan;
use crate::model::Body;
use crate::process::Launcher;
use crate::report::{Report, Snapshot};
use crate::runtime::run::{Control, RunLoop};
use crate::runtime::supervisor::Level;
use crate::sdk;

/// Whether [`init`] has run in this process.
static IS_INITIALISED: AtomicBool = AtomicBool::new(false);

/// Makes this program able to run pipelines. Call it first thing in `main`, before any thread starts and before
/// the arguments are looked at.
///
/// The engine starts this program again, under another name, as the small process that starts all workers. In
/// that process `init` does not return; in every other it returns at once and has done nothing yet. It is what
/// `if __name__ == "__main__"` is to Python's `multiprocessing`.
pub fn init() {
    crate::process::become_launcher_if_asked();
    IS_INITIALISED.store(true, Ordering::Release);
}

/// Makes this process the parent of what a run leaves behind when both its launcher and the launcher's guardian are
/// killed, so that it finds all of that and ends it; without this it finds what has the run's id in its
/// environment. For programs that start no processes of their own, as `mpflow` itself is: in others it would
/// end theirs too.
///
/// # Errors
///
/// The kernel's, which must be one older than Linux 3.4.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(crate::process::adopt_orphans()?)
}

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
    /// [`init`] was not called at the start of `main`.
    #[error("the engine was not initialised: call `mpflow::init()` first thing in `main`")]
    NotInitialised,
    /// The Python package that workers of Python stages run could not be written to any folder of the user's.
    #[error(
        "cannot write the Python package of the workers: neither to the user's cache nor among the temporary files"
    )]
    Sdk(#[source] io::Error),
    /// The launcher process, or what the run's thread waits on, could not be made.
    #[error("cannot start the run")]
    System(#[from] io::Error),
}

/// A run in progress. Dropping it kills it, and waits until nothing of it is left.
pub struct Run {
    id: String,
    control: Sender<Control>,
    wake: Arc<EventFd>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<Report>>,
}

impl Run {
    /// Starts a checked pipeline, on a thread of its own.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(plan: Plan) -> Result<Self, StartError> {
        if !IS_INITIALISED.load(Ordering::Acquire) {
            return Err(StartError::NotInitialised);
        }
        if plan.stages.iter().any(|stage| matches!(stage.stage.body, Body::Python(_))) {
            sdk::install().map_err(StartError::Sdk)?;
        }
        let id = uuid::Uuid::now_v7().to_string();
        let wake = Arc::new(
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(io::Error::from)?,
        );
        let (control, requests) = unbounded();
        let (sender, events) = unbounded();
        let launcher = Launcher::start()?;
        // After the launcher, whose limits are those of the workers.
        preflight::raise_descriptor_limit();
        let run =
            RunLoop::new(plan, id.clone(), launcher, (control.clone(), requests), Arc::clone(&wake), sender)?;
        let thread = std::thread::Builder::new().name("mpflow-run".to_owned()).spawn(move || run.run())?;
        Ok(Self { id, control, wake, events, thread: Some(thread) })
    }

    /// The run's id, a UUID of version 7: what its workers find in `MPFLOW_RUN_ID`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What happens in the run, from its first event on. One channel: clones of the receiver share the events. It
    /// ends with [`crate::event::EventKind::RunEnded`].
    pub fn events(&self) -> Receiver<Event> {
        self.events.clone()
    }

    /// A look at the run, or `None` when it has ended. Waits for the run's own thread, some microseconds.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let (answer, snapshot) = bounded(1);
        self.ask(Control::Snapshot(answer)).then(|| snapshot.recv().ok()).flatten()
    }

    /// Asks the run to end. Returns at once.
    pub fn stop(&self, stop: Stop) {
        let level = match stop {
            Stop::Drain => Level::Drain,
            Stop::Terminate => Level::Terminate,
            Stop::Kill => Level::Kill,
        };
        self.ask(Control::Stop(level));
    }

    /// Stops (`true`) or continues (`false`) all workers, as SIGTSTP and SIGCONT do. Returns when they were sent. All
    /// deadlines of the run stand still meanwhile, and nothing is started. [`Run::stop`] continues them too.
    pub fn pause(&self, paused: bool) {
        let (done, is_done) = bounded(1);
        if self.ask(Control::Pause(paused, done)) {
            let _ = is_done.recv();
        }
    }

    /// Has the run tell its observers, by a [`crate::event::EventKind::Notice`], who waits for what: stages for their
    /// dependencies, workers for their records, full edges for their readers. Returns at once.
    pub fn explain(&self) {
        self.ask(Control::Explain);
    }

    /// Waits for the end of the run. Nothing that it started is left when this returns.
    pub fn wait(mut self) -> Report {
        let thread =
            self.thread.take().expect("only `wait` and `drop` take the thread, and both consume the run");
        match thread.join() {
            Ok(report) => report,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// `false`: the run has ended.
    fn ask(&self, control: Control) -> bool {
        self.control.send(control).is_ok() && self.wake.write(1).is_ok()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop(Stop::Kill);
            let _ = thread.join();
        }
    }
}
