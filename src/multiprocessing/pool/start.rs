//! How a pool is started.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::workers::Pool;
use crate::engine::{Engine, Run, StartError, Stdio};
use crate::model::{Backoff, Format, Restart, RestartPolicy, TASK_PREFIX};
use crate::multiprocessing::{Context, Error};
use crate::pipeline::{Edge, Pipeline, Stage};
use crate::worker::{self, Kind};

/// A worker that has died is started again so soon, and ever later where it dies at once.
const FIRST_RESTART: Duration = Duration::from_millis(1);

/// Nobody waits much longer for a worker, since tasks wait for it.
const LAST_RESTART: Duration = Duration::from_millis(200);

/// So many deaths for each worker, none of their tasks done in between, are the pool's end: some ten seconds.
const DEATHS: u32 = 50;

/// What a [`Pool`] is to be. See [`Pool::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing is started before `start`"]
pub struct PoolBuilder<In, Out> {
    function: String,
    width: Option<usize>,
    context: Context,
    prefetch: Option<usize>,
    max_tasks_per_child: Option<u64>,
    pool: PhantomData<fn(In) -> Out>,
}

impl<In, Out> PoolBuilder<In, Out> {
    pub(super) fn new(function: &str) -> Self {
        Self {
            function: function.to_owned(),
            width: None,
            context: Context::default(),
            prefetch: None,
            max_tasks_per_child: None,
            pool: PhantomData,
        }
    }

    /// So many workers. The default is the number of processors that this process may use.
    pub fn width(mut self, width: usize) -> Self {
        self.width = Some(width.max(1));
        self
    }

    /// How its workers come to be.
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// One worker is given at most so many tasks at once, at least one. The default is chosen while they are done: few
    /// where they take long, blocks of many where they are small. Python's `chunksize` is the nearest to it, and 1 is for
    /// tasks that take very different times.
    pub fn prefetch(mut self, tasks: usize) -> Self {
        self.prefetch = Some(tasks.max(1));
        self
    }

    /// A worker is replaced after so many tasks, at least one.
    pub fn max_tasks_per_child(mut self, tasks: u64) -> Self {
        self.max_tasks_per_child = Some(tasks.max(1));
        self
    }

    /// Starts it. Its workers are on their way when this returns; tasks wait for them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFunction`], [`Error::NotInitialised`], [`Error::Start`]: nothing runs.
    pub fn start(self) -> Result<Pool<In, Out>, Error>
    where
        In: Serialize,
        Out: DeserializeOwned + Send + 'static,
    {
        self.check()?;
        Pool::over(self.run()?)
    }

    fn check(&self) -> Result<(), Error> {
        let functions = worker::registered();
        if functions.kind(&self.function) == Some(Kind::Map) && !self.function.starts_with(TASK_PREFIX) {
            return Ok(());
        }
        let named = functions.names().filter(|name| functions.kind(name) == Some(Kind::Map));
        Err(Error::unknown("function of one record", "map", &self.function, named))
    }

    /// A run of one stage: its leases, redelivery and replacement are the engine's.
    fn run(self) -> Result<Run, Error> {
        let width =
            self.width.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get));
        let backoff = Backoff { initial: FIRST_RESTART, max: LAST_RESTART, ..Backoff::default() };
        let mut stage = Stage::function(format!("{TASK_PREFIX}{}", self.function))
            .pool(width)
            .start_method(self.context.start_method())
            .restart_with(Restart {
                policy: RestartPolicy::OnFailure,
                max: DEATHS,
                backoff,
                ..Restart::default()
            });
        if let Some(tasks) = self.prefetch {
            stage = stage.prefetch(tasks);
        }
        if let Some(tasks) = self.max_tasks_per_child {
            stage = stage.max_records_per_worker(tasks);
        }
        let pipeline = Pipeline::builder("pool")
            .stage("worker", stage)
            .edge(Edge::queue("stdin -> worker -> stdout").format(Format::Msgpack))
            // What has killed each worker that was given it.
            .edge(Edge::queue("worker.failed -> stdout").format(Format::Json))
            .build()
            .map_err(|problems| Error::Start(problems.to_string()))?;
        Engine::new().stdin(Stdio::Values).stdout(Stdio::Values).start(&pipeline).map_err(|error| match error
        {
            StartError::NotInitialised => Error::NotInitialised,
            other => Error::Start(other.to_string()),
        })
    }
}
