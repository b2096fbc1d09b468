//! The public face of a run: start it, watch it, stop it, wait for it.

mod input;
mod output;
mod preflight;
mod start;
mod stdio;
mod steer;

use std::io::{self, PipeReader, PipeWriter};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use input::{Input, SendError};
pub use output::{Output, RecvError};
pub use start::{Engine, StartError};
pub use stdio::Stdio;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use stdio::ProgramEnds;

use crate::control::{About, ReloadRequest, Server};
use crate::event::Event;
use crate::model::STDIN;
pub use crate::model::Stop;
use crate::report::{Report, Snapshot};
use crate::runtime::run::Handle;
use crate::runtime::supervisor::Level;
use crate::sys::run_folder::FolderOf;
use crate::worker::{self, Functions};

/// Makes this program able to run pipelines, and its functions known to them. Call it first thing in `main`, before any
/// thread starts and before the arguments are looked at; a program without functions of its own hands over
/// [`Functions::new`].
///
/// The engine starts this program again, as the small process that starts all workers, and as the workers of `function`
/// stages. In those processes `init` does not return; in every other it returns at once. It is what
/// `if __name__ == "__main__"` is to Python's `multiprocessing`.
///
/// Where there are functions, a copy of this process is made, which waits without doing anything as long as this one
/// lives: workers with `start_method: fork` are copies of it, and so have what the program had in memory before `init`.
pub fn init(functions: &Functions) {
    let functions = worker::register(functions.clone());
    crate::process::become_launcher_if_asked(worker::live);
    worker::become_worker_if_asked();
    crate::process::initialise((!functions.is_empty()).then_some(worker::live));
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

/// A run in progress. Dropping it kills it, and waits until nothing of it is left.
pub struct Run {
    id: String,
    pipeline: String,
    began_at: Instant,
    folder: Arc<FolderOf>,
    handle: Handle,
    events: Receiver<Event>,
    thread: Option<JoinHandle<Report>>,
    /// Disconnected as soon as the thread has done its work.
    ended: Receiver<()>,
    report: Option<Report>,
    ends: Mutex<ProgramEnds>,
    control: Option<Server>,
}

/// Why a run has no end for values here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// No edge of the pipeline begins at its `stdin`, or ends at its `stdout`.
    #[error("no edge of the pipeline uses `{0}`: add `{edge}` to it", edge = example(.0))]
    Unused(&'static str),
    /// The engine was not told that it takes values.
    #[error("`{0}` was not given to this program: start the run by `Engine::new().{0}(Stdio::Values)`")]
    NotValues(&'static str),
    /// It was taken before.
    #[error("`{0}` was taken already: clone an input where it was taken")]
    Taken(&'static str),
}

fn example(stream: &str) -> &'static str {
    if stream == STDIN { "queue: stdin -> STAGE" } else { "queue: STAGE -> stdout" }
}

impl Run {
    /// The run's id, a UUID of version 7: what its workers find in `MPFLOW_RUN_ID`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes the run's `stdin`, where the engine was started with [`Stdio::Values`]: values of this type are sent by it.
    ///
    /// # Errors
    ///
    /// There is none, or it was taken already: see [`EndError`].
    pub fn input<T: ?Sized>(&self) -> Result<Input<T>, EndError> {
        let mut ends = self.ends();
        let missing = ends.no_input;
        ends.input.take().map(Input::new).ok_or(missing)
    }

    /// Takes the run's `stdout`, where the engine was started with [`Stdio::Values`]: its records are received by it, as
    /// values of this type.
    ///
    /// An end that is never taken is dropped by [`Run::wait`]: what feeds `stdout` learns that nobody reads.
    ///
    /// # Errors
    ///
    /// There is none, or it was taken already: see [`EndError`].
    pub fn output<T>(&self) -> Result<Output<T>, EndError> {
        let mut ends = self.ends();
        let missing = ends.no_output;
        ends.output.take().map(Output::new).ok_or(missing)
    }

    /// Takes the writing end of the run's `stdin`, where the engine was started with [`Stdio::Bytes`]. Dropping it ends
    /// the input. It is an ordinary pipe: other processes may be given it.
    pub fn take_stdin(&self) -> Option<PipeWriter> {
        self.ends().stdin.take()
    }

    /// Takes the reading end of the run's `stdout`, where the engine was started with [`Stdio::Bytes`].
    pub fn take_stdout(&self) -> Option<PipeReader> {
        self.ends().stdout.take()
    }

    fn ends(&self) -> MutexGuard<'_, ProgramEnds> {
        // Nothing panics while it is locked.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens in the run, from its first event on. One channel: clones of the receiver share the events. It
    /// ends with [`crate::event::EventKind::RunEnded`].
    pub fn events(&self) -> Receiver<Event> {
        self.events.clone()
    }

    /// A look at the run, or `None` when it has ended. Waits for the run's own thread, some microseconds.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.handle.snapshot().ok()
    }

    /// Asks the run to end. Returns at once.
    pub fn stop(&self, stop: Stop) {
        let level = match stop {
            Stop::Drain => Level::Drain,
            Stop::Terminate => Level::Terminate,
            Stop::Kill => Level::Kill,
        };
        // One that has ended needs no stop.
        let _ = self.handle.stop(level);
    }

    /// Stops (`true`) or continues (`false`) all workers, as SIGTSTP and SIGCONT do. Returns when they were sent. All
    /// deadlines of the run stand still meanwhile, and nothing is started. [`Run::stop`] continues them too.
    pub fn pause(&self, paused: bool) {
        let _ = self.handle.pause(paused);
    }

    /// Has the run tell its observers, by a [`crate::event::EventKind::Notice`], who waits for what: stages for their
    /// dependencies, workers for their records, full edges for their readers. Returns at once.
    pub fn explain(&self) {
        let _ = self.handle.explain();
    }

    /// Lets other processes of this user look at the run and steer it, over a socket in a folder that nobody else can
    /// enter: `mpflow ps`, `mpflow status`, [`crate::control::Client`]. It is closed when this value is dropped or
    /// waited for and the run has ended; those who wait for the end are told by then.
    ///
    /// `file`: the document that the pipeline comes from, if there is one, for people. `reloads`: whoever reads it again
    /// when that is asked for, calls [`Run::reload`] and answers.
    ///
    /// # Errors
    ///
    /// The system's: there is no folder that could hold the socket, no descriptor or thread. The run goes on without
    /// one. One that has its socket already keeps it.
    pub fn open_control(
        &mut self,
        file: Option<PathBuf>,
        reloads: Option<Sender<ReloadRequest>>,
    ) -> io::Result<()> {
        if self.control.is_none() {
            let about = About {
                run_id: self.id.clone(),
                pipeline: self.pipeline.clone(),
                file,
                began_at: self.began_at,
                reloads,
            };
            self.control = Some(Server::open(self.folder.open()?, about, self.handle.clone())?);
        }
        Ok(())
    }

    /// Waits for the end of the run. Nothing that it started is left when this returns.
    ///
    /// Ends of its standard streams that were not taken are dropped first. One that was taken, and that this thread was to
    /// feed or read, makes this wait for ever: drop an [`Input`], and read an [`Output`] to its end, before.
    pub fn wait(mut self) -> Report {
        *self.ends() = ProgramEnds::none();
        self.join()
    }

    /// Waits for the end of the run, at most so long; `None`: it goes on. When there is a report, nothing that the run
    /// has started is left, and [`Run::wait`] gives the same one.
    ///
    /// Ends of its standard streams that were not taken are left as they are.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Report> {
        match self.ended.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => None,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Some(self.join()),
        }
    }

    /// Whether the run has ended, and nothing that it has started is left.
    pub fn is_finished(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }

    fn join(&mut self) -> Report {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(report)) => self.report.insert(report).clone(),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => self.report.clone().expect("whoever took the thread has left its report"),
        }
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
