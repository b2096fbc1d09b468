//! Pools of workers.
//!
//! A pool is a run of one stage, and its tasks are records: what is leased to a worker that dies goes to another, once
//! more and not twice. A task travels with a number, and its result or its error comes back with that; a task that has killed
//! every worker that was given it comes back by the stage's `failed`. One thread takes what comes back and gives it to
//! whoever waits for it.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::Error;
use super::pool_builder::PoolBuilder;
use crate::engine::{Input, Output, RecvError, Run, Stop};
use crate::event::{Event, EventKind};
use crate::report::{Outcome, Report};
use crate::worker::Failure;

/// Tasks that an iterator of results is ahead of whoever takes them.
const AHEAD: usize = 1 << 14;

/// Between two looks at what the run tells besides results.
const LOOK: Duration = Duration::from_millis(50);

/// A run that gives no more results ends soon: its workers have their grace period.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The function returned an error, or panicked.
    #[error("{error}")]
    Failed {
        /// What it says, with its causes, and where it panicked.
        error: String,
        /// The error's type; `panic`; empty for texts.
        kind: String,
    },
    /// Each worker that was given the task died of it.
    #[error("{0}")]
    Killed(String),
    /// The pool was terminated, or has failed, before the task was done.
    #[error("the pool has ended: {0}")]
    Ended(String),
    /// There was no result in time; it may still come. From [`Unfinished::get`].
    #[error("there is no result yet")]
    TimedOut,
    /// The argument cannot be sent. Nothing was done.
    #[error("{0}")]
    Argument(String),
}

/// What a worker gave for a task, or the engine in its place.
enum Reply<Out> {
    Result(u64, Result<Out, Failure>),
    /// The document about a failed record: the record as people see it, and the error.
    Failed(serde_json::Value, String),
}

impl<'de, Out: DeserializeOwned> Deserialize<'de> for Reply<Out> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReplyVisitor(PhantomData))
    }
}

struct ReplyVisitor<Out>(PhantomData<Out>);

impl<'de, Out: DeserializeOwned> Visitor<'de> for ReplyVisitor<Out> {
    type Value = Reply<Out>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the result of a task")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Reply<Out>, A::Error> {
        use serde::de::Error;
        let missing = || A::Error::custom("a result without its number");
        let number = seq.next_element()?.ok_or_else(missing)?;
        Ok(Reply::Result(number, seq.next_element()?.ok_or_else(missing)?))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reply<Out>, A::Error> {
        let (mut record, mut error) = (serde_json::Value::Null, String::new());
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "record" => record = map.next_value()?,
                "error" => error = map.next_value()?,
                _ => drop(map.next_value::<serde_json::Value>()?),
            }
        }
        Ok(Reply::Failed(record, error))
    }
}

/// Takes the results of the tasks that were given together, each by its place among them.
type Taker<Out> = Box<dyn FnMut(u32, Result<Out, TaskError>) + Send>;

/// Tasks that were given together.
struct Job<Out> {
    taker: Taker<Out>,
    /// Given and not answered.
    open: usize,
    /// No more will be given.
    is_whole: bool,
}

/// All that waits for results.
struct Waiting<Out> {
    jobs: HashMap<u32, Job<Out>>,
    next: u32,
    /// Why there will be no more results.
    ended: Option<String>,
}

type Shared<Out> = Arc<Mutex<Waiting<Out>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Worker processes that call one function for each task. Python's `multiprocessing.Pool`.
///
/// The function is one that was registered by [`Functions::map`](crate::Functions::map), `try_map`, `map_with` or
/// `try_map_with`, by its name; the state of the latter two is what Python's `initializer` makes. Several arguments are a
/// tuple, as with `starmap`. There is no chunk size to choose: tasks travel in blocks that grow with the speed of the
/// workers.
///
/// A task whose worker is killed is done again by another, three times in all; a task that panics fails, and its worker is
/// replaced. Nothing hangs: what cannot come is a [`TaskError`].
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
    waiting: Shared<Out>,
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
    pub fn builder(function: &str) -> PoolBuilder {
        PoolBuilder {
            function: function.to_owned(),
            width: None,
            context: super::Context::default(),
            max_tasks_per_child: None,
        }
    }

    pub(super) fn over(run: Run) -> Result<Self, Error> {
        let cannot = |error: &dyn fmt::Display| Error::Start(error.to_string());
        let input = run.input().map_err(|error| cannot(&error))?;
        let output = run.output().map_err(|error| cannot(&error))?;
        let waiting: Shared<Out> =
            Arc::new(Mutex::new(Waiting { jobs: HashMap::new(), next: 0, ended: None }));
        let dispatcher =
            Dispatcher { output, events: run.events(), waiting: Arc::clone(&waiting), why: None };
        let thread = std::thread::Builder::new().name("mpflow-pool".to_owned());
        let thread = thread.spawn(move || dispatcher.run())?;
        Ok(Self { run: Some(run), input: Some(input), waiting, thread: Some(thread) })
    }

    /// `is_whole`: of one task, which is given next.
    fn begin(&self, taker: Taker<Out>, is_whole: bool) -> Result<u32, TaskError> {
        let mut waiting = lock(&self.waiting);
        if let Some(why) = &waiting.ended {
            return Err(TaskError::Ended(why.clone()));
        }
        while waiting.jobs.contains_key(&waiting.next) {
            waiting.next = waiting.next.wrapping_add(1);
        }
        let job = waiting.next;
        waiting.next = waiting.next.wrapping_add(1);
        waiting.jobs.insert(job, Job { taker, open: 0, is_whole });
        Ok(job)
    }

    /// Gives one task of a job to the workers.
    fn give(&self, job: u32, place: u32, argument: In) -> Result<(), TaskError> {
        let closed = || TaskError::Ended("it was closed".to_owned());
        let input = self.input.as_ref().ok_or_else(closed)?;
        {
            let mut waiting = lock(&self.waiting);
            let ended = waiting.ended.clone().unwrap_or_default();
            let job = waiting.jobs.get_mut(&job).ok_or(TaskError::Ended(ended))?;
            job.open += 1;
        }
        let sent = input.send(&(u64::from(job) << 32 | u64::from(place), argument));
        sent.map_err(|error| {
            let mut waiting = lock(&self.waiting);
            if let Some(given) = waiting.jobs.get_mut(&job) {
                given.open = given.open.saturating_sub(1);
                if given.is_whole && given.open == 0 {
                    waiting.jobs.remove(&job);
                }
            }
            match error {
                crate::engine::SendError::Ended => TaskError::Ended(
                    waiting.ended.clone().unwrap_or_else(|| "it takes no more tasks".to_owned()),
                ),
                other => TaskError::Argument(other.to_string()),
            }
        })
    }

    /// No more tasks will be given for this job.
    fn whole(&self, job: u32) {
        let mut waiting = lock(&self.waiting);
        if let Some(whole) = waiting.jobs.get_mut(&job) {
            whole.is_whole = true;
            if whole.open == 0 {
                waiting.jobs.remove(&job);
            }
        }
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
                self.whole(job);
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
        f.debug_struct("Pool").field("waiting", &lock(&self.waiting).jobs.len()).finish_non_exhaustive()
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

/// The result of a task, or of several, that may still be on its way. Python's `AsyncResult`.
#[derive(Debug)]
pub struct Unfinished<T> {
    receiver: Receiver<Result<T, TaskError>>,
}

impl<T> Unfinished<T> {
    /// Whether [`Self::get`] would not wait.
    pub fn is_ready(&self) -> bool {
        !self.receiver.is_empty()
    }

    /// Waits for it, at most so long; `None` for ever. It is given once.
    ///
    /// # Errors
    ///
    /// [`TaskError::TimedOut`]: asking again is fine. Else what became of the task.
    pub fn get(&self, timeout: Option<Duration>) -> Result<T, TaskError> {
        let gone = || Err(TaskError::Ended("its result was taken, or it was terminated".to_owned()));
        match timeout {
            None => self.receiver.recv().unwrap_or_else(|_| gone()),
            Some(timeout) => match self.receiver.recv_timeout(timeout) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) => Err(TaskError::TimedOut),
                Err(RecvTimeoutError::Disconnected) => gone(),
            },
        }
    }
}

/// The results of many tasks: see [`Pool::imap`]. Dropped, it takes no more of them; those that were given are done all the
/// same.
pub struct Tasks<'p, I, In, Out> {
    pool: &'p Pool<In, Out>,
    tasks: Option<I>,
    job: Result<u32, TaskError>,
    came: Receiver<(u32, Result<Out, TaskError>)>,
    given: u32,
    taken: u32,
    /// Results that came before their turn; `None` where each is taken when it comes.
    early: Option<HashMap<u32, Result<Out, TaskError>>>,
}

impl<'p, I, In, Out> Tasks<'p, I, In, Out>
where
    I: Iterator<Item = In>,
    In: Serialize,
    Out: DeserializeOwned + Send + 'static,
{
    fn new(pool: &'p Pool<In, Out>, tasks: I, is_ordered: bool) -> Self {
        let (sender, came): (Sender<_>, _) = unbounded();
        let job = pool.begin(Box::new(move |place, result| drop(sender.send((place, result)))), false);
        let early = is_ordered.then(HashMap::new);
        Self { pool, tasks: Some(tasks), job, came, given: 0, taken: 0, early }
    }

    /// Gives tasks ahead. An error stands for the task that could not be given, which is the last.
    fn feed(&mut self, job: u32) -> Result<(), TaskError> {
        let ahead = (self.given - self.taken) as usize;
        if ahead > AHEAD / 2 {
            return Ok(());
        }
        for _ in ahead..AHEAD {
            let Some(tasks) = &mut self.tasks else { return Ok(()) };
            let Some(task) = tasks.next() else {
                self.end(job);
                return Ok(());
            };
            if let Err(error) = self.pool.give(job, self.given, task) {
                self.end(job);
                return Err(error);
            }
            self.given += 1;
        }
        Ok(())
    }

    fn end(&mut self, job: u32) {
        self.tasks = None;
        self.pool.whole(job);
    }
}

impl<I, In, Out> Iterator for Tasks<'_, I, In, Out>
where
    I: Iterator<Item = In>,
    In: Serialize,
    Out: DeserializeOwned + Send + 'static,
{
    type Item = Result<Out, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let job = match &self.job {
            Ok(job) => *job,
            Err(error) => {
                let error = error.clone();
                return self.tasks.take().map(|_| Err(error));
            }
        };
        if let Err(error) = self.feed(job) {
            return Some(Err(error));
        }
        if self.taken == self.given {
            return None;
        }
        let next = self.taken;
        self.taken += 1;
        loop {
            if let Some(early) = &mut self.early
                && let Some(result) = early.remove(&next)
            {
                return Some(result);
            }
            match (self.came.recv(), &mut self.early) {
                (Err(_), _) => {
                    let why = lock(&self.pool.waiting).ended.clone();
                    return Some(Err(TaskError::Ended(why.unwrap_or_default())));
                }
                (Ok((place, result)), Some(early)) if place != next => drop(early.insert(place, result)),
                (Ok((_, result)), _) => return Some(result),
            }
        }
    }
}

impl<I, In, Out> Drop for Tasks<'_, I, In, Out> {
    fn drop(&mut self) {
        if let (Ok(job), Some(_)) = (&self.job, &self.tasks) {
            lock(&self.pool.waiting).jobs.remove(job);
        }
    }
}

impl<I, In, Out> fmt::Debug for Tasks<'_, I, In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("given", &self.given)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

/// The thread that takes results.
struct Dispatcher<Out> {
    output: Output<Reply<Out>>,
    events: Receiver<Event>,
    waiting: Shared<Out>,
    why: Option<String>,
}

impl<Out: DeserializeOwned> Dispatcher<Out> {
    fn run(mut self) {
        loop {
            match self.output.recv_timeout(LOOK) {
                Ok(Reply::Result(number, Ok(value))) => self.hand_over(number, Ok(value)),
                Ok(Reply::Result(number, Err(failure))) => {
                    let Failure { error, r#type: kind, .. } = failure;
                    self.hand_over(number, Err(TaskError::Failed { error, kind }));
                }
                Ok(Reply::Failed(record, error)) => {
                    let Some(number) = number_of(&record) else {
                        // Whose it is cannot be known, and nobody may wait for it for ever.
                        self.why = Some(error);
                        break;
                    };
                    self.hand_over(number, Err(TaskError::Killed(error)));
                }
                Err(RecvError::Timeout | RecvError::Empty) => self.look_at_events(),
                // A result that is not of this type: whose it is cannot be known.
                Err(RecvError::Code(error)) => {
                    self.why = Some(format!("a result is of another type than the pool's: {error}"));
                    break;
                }
                Err(_) => break,
            }
        }
        // Why it has ended is told by the end of the run, which follows.
        while self.why.is_none()
            && let Ok(event) = self.events.recv_timeout(LAST_WORDS)
            && self.heard(event)
        {}
        let why = self.why.take().unwrap_or_else(|| "it was closed or terminated".to_owned());
        let mut waiting = lock(&self.waiting);
        waiting.ended = Some(why.clone());
        let jobs: Vec<Job<Out>> = waiting.jobs.drain().map(|(_, job)| job).collect();
        drop(waiting);
        for mut job in jobs {
            for _ in 0..job.open {
                (job.taker)(u32::MAX, Err(TaskError::Ended(why.clone())));
            }
        }
    }

    fn hand_over(&self, number: u64, result: Result<Out, TaskError>) {
        let mut waiting = lock(&self.waiting);
        let key = (number >> 32) as u32;
        // Nobody takes it any more.
        let Some(job) = waiting.jobs.get_mut(&key) else { return };
        job.open = job.open.saturating_sub(1);
        if !job.is_whole || job.open > 0 {
            return (job.taker)(number as u32, result);
        }
        let last = waiting.jobs.remove(&key);
        // A callback may give the pool another task.
        drop(waiting);
        if let Some(mut job) = last {
            (job.taker)(number as u32, result);
        }
    }

    fn look_at_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.heard(event);
        }
    }

    /// `false`: the run has ended.
    fn heard(&mut self, event: Event) -> bool {
        match event.kind {
            EventKind::Log { line, .. } => eprintln!("{line}"),
            EventKind::StageFailed { reason, .. } => {
                self.why.get_or_insert(reason);
            }
            EventKind::RunEnded { .. } => return false,
            _ => {}
        }
        true
    }
}

/// The number of a task whose record is shown as `[number, argument]`, cut where it is long.
fn number_of(record: &serde_json::Value) -> Option<u64> {
    match record {
        serde_json::Value::Array(parts) => parts.first()?.as_u64(),
        serde_json::Value::String(text) => {
            text.strip_prefix('[')?.split([',', ']']).next()?.trim().parse().ok()
        }
        _ => None,
    }
}
