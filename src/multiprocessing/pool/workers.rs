//! The pool itself: tasks on their way to the workers.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{bounded, unbounded};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dispatcher::Dispatcher;
use super::reply::TaskError;
use super::start::PoolBuilder;
use super::tasks::Tasks;
use super::unfinished::Unfinished;
use super::waiting::{Taker, Waiting, number};
use crate::engine::{Input, Run, SendError, Stop};
use crate::multiprocessing::Error;
use crate::report::{Outcome, Report};

/// Worker processes that call one function for each task. Python's `multiprocessing.Pool`.
///
/// The function is one that was registered by [`Functions::map`](crate::Functions::map), `try_map`, `map_with` or
/// `try_map_with`, by its name; the state of the latter two is what Python's `initializer` makes. Several arguments are a
/// tuple, as with `starmap`. No chunk size has to be chosen: tasks travel in blocks that grow with the speed of the
/// workers, unless [`PoolBuilder::prefetch`] bounds them.
///
/// A task whose worker is killed is done again by another, three times in all, those times not counted in which the worker
/// had not begun it; a task that panics fails, and its worker is replaced. Nothing hangs: what cannot come is a
/// [`TaskError`], and a pool all of whose workers die, again and again and before they have done any task, ends.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = mpflow::multiprocessing::Pool::<u64, u64>::new("square")?;
/// assert_eq!(pool.map(1..4)?, [1, 4, 9]);
/// assert_eq!(pool.apply(5)?, 25);
/// # Ok(())
/// # }
/// ```
///
/// What its workers print goes to this program's standard error. Dropping it terminates it.
pub struct Pool<In, Out> {
    run: Option<Run>,
    input: Option<Input<(u64, In)>>,
    pub(super) waiting: Arc<Waiting<Out>>,
    thread: Option<JoinHandle<()>>,
}

impl<In, Out> Pool<In, Out>
where
    In: Serialize,
    Out: DeserializeOwned + Send + 'static,
{
    /// A pool with as many workers as this process may use processors.
    ///
    /// # Errors
    ///
    /// See [`PoolBuilder::start`].
    pub fn new(function: &str) -> Result<Self, Error> {
        Self::builder(function).start()
    }

    /// A pool that is told more about.
    pub fn builder(function: &str) -> PoolBuilder<In, Out> {
        PoolBuilder::new(function)
    }

    pub(super) fn over(run: Run) -> Result<Self, Error> {
        let cannot = |error: &dyn fmt::Display| Error::Start(error.to_string());
        let input = run.input().map_err(|error| cannot(&error))?;
        let output = run.output().map_err(|error| cannot(&error))?;
        let waiting = Arc::new(Waiting::new());
        let dispatcher = Dispatcher::new(output, run.events(), Arc::clone(&waiting));
        let thread = std::thread::Builder::new().name("mpflow-pool".to_owned());
        let thread = thread.spawn(move || dispatcher.run())?;
        Ok(Self { run: Some(run), input: Some(input), waiting, thread: Some(thread) })
    }

    /// `is_whole`: of one task, which is given next.
    pub(super) fn begin(&self, taker: Taker<Out>, is_whole: bool) -> Result<u32, TaskError> {
        self.open_input()?;
        self.waiting.begin(taker, is_whole)
    }

    fn open_input(&self) -> Result<&Input<(u64, In)>, TaskError> {
        self.input.as_ref().ok_or_else(|| TaskError::Ended("it was closed".to_owned()))
    }

    /// Gives one task of a job to the workers.
    pub(super) fn give(&self, job: u32, place: u32, argument: In) -> Result<(), TaskError> {
        let input = self.open_input()?;
        self.waiting.count(job)?;
        input.send(&(number(job, place), argument)).map_err(|error| {
            self.waiting.take_back(job);
            match error {
                SendError::Ended => TaskError::Ended(
                    self.waiting.ended().unwrap_or_else(|| "it takes no more tasks".to_owned()),
                ),
                other => TaskError::Argument(other.to_string()),
            }
        })
    }

    /// Has one task done, and waits for its result.
    ///
    /// # Errors
    ///
    /// See [`TaskError`].
    pub fn apply(&self, argument: In) -> Result<Out, TaskError> {
        self.apply_async(argument).get(None)
    }

    /// Has one task done, and waits for nothing but room.
    pub fn apply_async(&self, argument: In) -> Unfinished<Out> {
        let (sender, receiver) = bounded(1);
        let failed = sender.clone();
        let taker: Taker<Out> = Box::new(move |_, result| drop(sender.send(result)));
        if let Err(error) = self.one(argument, taker) {
            let _ = failed.try_send(Err(error));
        }
        Unfinished { receiver }
    }

    /// Has one task done, and the callback called with what becomes of it, by the thread that takes all results: what
    /// takes long in it holds the others up.
    ///
    /// # Errors
    ///
    /// [`TaskError::Ended`], [`TaskError::Argument`]: the task was not given, and the callback is not called.
    pub fn apply_with(
        &self,
        argument: In,
        callback: impl FnOnce(Result<Out, TaskError>) + Send + 'static,
    ) -> Result<(), TaskError> {
        let mut callback = Some(callback);
        self.one(
            argument,
            Box::new(move |_, result| {
                if let Some(callback) = callback.take() {
                    callback(result);
                }
            }),
        )
    }

    fn one(&self, argument: In, taker: Taker<Out>) -> Result<(), TaskError> {
        let job = self.begin(taker, true)?;
        self.give(job, 0, argument)
    }

    /// Has all tasks done, and gives their results in order.
    ///
    /// # Errors
    ///
    /// That of the first task that failed; the others are done all the same.
    pub fn map(&self, tasks: impl IntoIterator<Item = In>) -> Result<Vec<Out>, TaskError> {
        self.imap(tasks).collect()
    }

    /// Gives all tasks to the workers, and waits for nothing but room.
    pub fn map_async(&self, tasks: impl IntoIterator<Item = In>) -> Unfinished<Vec<Out>> {
        let (sender, receiver) = bounded(1);
        let (results, came) = unbounded();
        let given = self
            .begin(Box::new(move |place, result| drop(results.send((place, result)))), false)
            .and_then(|job| {
                let mut count = 0_u32;
                let given = tasks.into_iter().try_for_each(|task| {
                    self.give(job, count, task)?;
                    count += 1;
                    Ok(())
                });
                self.waiting.whole(job);
                given.map(|()| count)
            });
        // The last result finds the channel closed, and not before.
        std::thread::spawn(move || {
            let gathered = given.and_then(|_| {
                let mut all: Vec<(u32, Result<Out, TaskError>)> = came.iter().collect();
                all.sort_unstable_by_key(|(place, _)| *place);
                all.into_iter().map(|(_, result)| result).collect()
            });
            let _ = sender.send(gathered);
        });
        Unfinished { receiver }
    }

    /// The results of all tasks, in order, as they come. Tasks are given while results are taken, some thousands ahead.
    pub fn imap<'p, I: IntoIterator<Item = In>>(&'p self, tasks: I) -> Tasks<'p, I::IntoIter, In, Out> {
        Tasks::new(self, tasks.into_iter(), true)
    }

    /// As [`Self::imap`], each result when it comes.
    pub fn imap_unordered<'p, I: IntoIterator<Item = In>>(
        &'p self,
        tasks: I,
    ) -> Tasks<'p, I::IntoIter, In, Out> {
        Tasks::new(self, tasks.into_iter(), false)
    }
}

impl<In, Out> Pool<In, Out> {
    /// Takes no more tasks. Those that were given are done.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// Ends it at once: tasks that are not done fail.
    pub fn terminate(&mut self) {
        if let Some(run) = &self.run {
            run.stop(Stop::Kill);
        }
        self.close();
    }

    /// Waits until its workers have ended, after [`Self::close`] or [`Self::terminate`]; closes it first.
    ///
    /// # Errors
    ///
    /// Why it has failed, where it has.
    pub fn join(mut self) -> Result<(), Error> {
        self.close();
        let report = self.run.take().map(Run::wait);
        self.end();
        match report.map(|report| why(&report)) {
            None | Some(None) => Ok(()),
            Some(Some(reason)) => Err(Error::Start(reason)),
        }
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<In, Out> Drop for Pool<In, Out> {
    fn drop(&mut self) {
        self.terminate();
        drop(self.run.take());
        self.end();
    }
}

impl<In, Out> fmt::Debug for Pool<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

/// Why a run has failed; `None`: it has not.
fn why(report: &Report) -> Option<String> {
    match &report.outcome {
        Outcome::Failed { failures } => {
            Some(failures.first().map_or_else(|| "it failed".to_owned(), |failure| failure.reason.clone()))
        }
        _ => None,
    }
}
