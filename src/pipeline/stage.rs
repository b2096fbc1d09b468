//! A stage said in code.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::builder::json;
use super::part::{Part, number, texts};
use super::{
    Batch, DependencyState, Exit, Limits, Mode, OnError, OnFailure, Probe, Redirect, Restart, RestartPolicy,
    Retry, StartMethod, StopPolicy,
};
use crate::language::write::{self, Entry, Yaml};

/// One declared piece of work: what its workers run, and how. Each method says one key of the language, where it is
/// described; the last to say it counts.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a stage is added by `PipelineBuilder::stage`"]
pub struct Stage(Part);

impl Stage {
    #[track_caller]
    fn body(key: &str, value: Yaml) -> Self {
        Self(Part::default()).set(key, value)
    }

    #[track_caller]
    fn set(mut self, key: &str, value: Yaml) -> Self {
        self.0.set(key, value);
        self
    }

    pub(super) fn into_yaml(self) -> Yaml {
        self.0.into_yaml()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        self.0.entries()
    }

    /// A program and its arguments, without a shell.
    #[track_caller]
    pub fn command<T: Into<String>>(argv: impl IntoIterator<Item = T>) -> Self {
        Self::body("command", texts(argv))
    }

    /// A script for `/bin/sh -c`.
    #[track_caller]
    pub fn shell(script: impl Into<String>) -> Self {
        Self::body("command", Yaml::text(script))
    }

    /// A Python callable: `module:callable` or `path/file.py:callable`.
    #[track_caller]
    pub fn python(target: impl Into<String>) -> Self {
        Self::body("python", Yaml::text(target))
    }

    /// A Rust function, by the name that this program has registered it under.
    #[track_caller]
    pub fn function(name: impl Into<String>) -> Self {
        Self::body("function", Yaml::text(name))
    }

    /// Nothing to run: what is said of it are defaults, for [`PipelineBuilder::defaults`](super::PipelineBuilder::defaults).
    pub fn defaults() -> Self {
        Self(Part::default())
    }

    /// How a worker takes records. Without it, commands are streams and functions maps.
    #[track_caller]
    pub fn mode(self, mode: Mode) -> Self {
        self.set("mode", write::mode(mode))
    }

    /// So many workers; 1 without it.
    #[track_caller]
    pub fn pool(self, width: usize) -> Self {
        self.set("pool", number(width))
    }

    /// As many workers as this process may use processors.
    #[track_caller]
    pub fn pool_auto(self) -> Self {
        self.set("pool", Yaml::text("auto"))
    }

    /// At least and at most so many workers: it grows with a full input queue and shrinks after idling.
    #[track_caller]
    pub fn pool_between(self, min: usize, max: usize) -> Self {
        self.set("pool", Yaml::map([("min", Some(number(min))), ("max", Some(number(max)))]))
    }

    /// Results leave in the order in which records came.
    #[track_caller]
    pub fn ordered(self) -> Self {
        self.set("ordered", Yaml::Bool(true))
    }

    /// The run does not wait for it, and ends it last.
    #[track_caller]
    pub fn daemon(self) -> Self {
        self.set("daemon", Yaml::Bool(true))
    }

    /// How its workers come to be; `spawn` without it.
    #[track_caller]
    pub fn start_method(self, start_method: StartMethod) -> Self {
        self.set("start_method", write::start_method(start_method))
    }

    /// Python modules that the fork server imports once.
    #[track_caller]
    pub fn preload<T: Into<String>>(self, modules: impl IntoIterator<Item = T>) -> Self {
        self.set("preload", texts(modules))
    }

    /// The Python interpreter.
    #[track_caller]
    pub fn python_executable(self, path: impl Into<String>) -> Self {
        self.set("python_executable", Yaml::text(path))
    }

    /// Python: `module:callable`, called once in each worker before its first record.
    #[track_caller]
    pub fn initializer(self, target: impl Into<String>) -> Self {
        self.set("initializer", Yaml::text(target))
    }

    /// Fixed arguments: a list, tuple or array. A Python callable gets them after the record; a Rust function asks for
    /// them by [`Worker::arg`](crate::Worker::arg).
    ///
    /// # Panics
    ///
    /// If they are no value of JSON.
    #[track_caller]
    pub fn args(self, args: impl Serialize) -> Self {
        self.set("args", json(args).into())
    }

    /// Fixed keyword arguments: a map or struct. A Python callable is called with them; a Rust function asks for them by
    /// [`Worker::kwarg`](crate::Worker::kwarg).
    ///
    /// # Panics
    ///
    /// If they are no value of JSON.
    #[track_caller]
    pub fn kwargs(self, kwargs: impl Serialize) -> Self {
        self.set("kwargs", json(kwargs).into())
    }

    /// Python: a list record becomes positional arguments, a map record keyword arguments.
    #[track_caller]
    pub fn unpack(self) -> Self {
        self.set("unpack", Yaml::Bool(true))
    }

    /// A variable of its workers' environment.
    #[track_caller]
    pub fn env(mut self, name: &str, value: impl Display) -> Self {
        self.0.add("env", name, Yaml::Text(value.to_string()));
        self
    }

    /// The working directory.
    #[track_caller]
    pub fn cwd(self, path: impl AsRef<Path>) -> Self {
        self.set("cwd", path_text(path.as_ref()))
    }

    /// Workers get only what is declared, with `PATH`, `HOME`, `LANG` and `TMPDIR`.
    #[track_caller]
    pub fn without_inherited_env(self) -> Self {
        self.set("inherit_env", Yaml::Bool(false))
    }

    /// A file, or nothing, in the place of an input edge.
    #[track_caller]
    pub fn stdin(self, from: Redirect) -> Self {
        self.set("stdin", redirect(&from))
    }

    /// A file, or nothing, in the place of an output edge.
    #[track_caller]
    pub fn stdout(self, to: Redirect) -> Self {
        self.set("stdout", redirect(&to))
    }

    /// Where standard error goes. Without it, its lines are events ([`Log`](crate::event::EventKind::Log)).
    #[track_caller]
    pub fn stderr(self, to: Redirect) -> Self {
        self.set("stderr", redirect(&to))
    }

    /// Records leased to one worker at once.
    #[track_caller]
    pub fn prefetch(self, records: usize) -> Self {
        self.set("prefetch", number(records))
    }

    /// At most so many records are handed over together.
    #[track_caller]
    pub fn batch(self, records: usize) -> Self {
        self.set("batch", number(records))
    }

    /// Records are handed over together.
    #[track_caller]
    pub fn batch_with(self, batch: Batch) -> Self {
        self.set("batch", write::batch(batch))
    }

    /// A worker is replaced after so many records.
    #[track_caller]
    pub fn max_records_per_worker(self, records: u64) -> Self {
        self.set("max_records_per_worker", number(records))
    }

    /// A worker that holds one record longer is killed.
    #[track_caller]
    pub fn record_timeout(self, timeout: Duration) -> Self {
        self.set("record_timeout", write::duration(timeout))
    }

    /// So many attempts at each record in all, one right after the other.
    #[track_caller]
    pub fn retry(self, attempts: u32) -> Self {
        self.set("retry", number(attempts))
    }

    /// How often each record is tried, with what waits.
    #[track_caller]
    pub fn retry_with(self, retry: Retry) -> Self {
        self.set("retry", write::retry(retry))
    }

    /// What becomes of a record whose attempts are used up.
    #[track_caller]
    pub fn on_error(self, on_error: OnError) -> Self {
        self.set("on_error", write::on_error(on_error))
    }

    /// When a worker that died is started again.
    #[track_caller]
    pub fn restart(self, policy: RestartPolicy) -> Self {
        self.restart_with(Restart { policy, ..Restart::default() })
    }

    /// When, how often and with whom a worker that died is started again.
    #[track_caller]
    pub fn restart_with(self, restart: Restart) -> Self {
        self.set("restart", write::restart(restart))
    }

    /// What becomes of the run when the stage has failed.
    #[track_caller]
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        self.set("on_failure", write::on_failure(on_failure))
    }

    /// Its workers start after another stage's have.
    #[track_caller]
    pub fn depends_on(self, stage: &str) -> Self {
        self.depends_on_state(stage, DependencyState::Started)
    }

    /// Its workers start when this is so of another stage.
    #[track_caller]
    pub fn depends_on_state(mut self, stage: &str, state: DependencyState) -> Self {
        self.0.add("depends_on", stage, write::state(state));
        self
    }

    /// How a worker is known to be ready. A [`ProbeKind`](super::ProbeKind) alone has the language's waits.
    #[track_caller]
    pub fn ready(self, probe: impl Into<Probe>) -> Self {
        self.set("ready", write::probe(&probe.into()))
    }

    /// For the stage as a whole.
    #[track_caller]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.set("timeout", write::duration(timeout))
    }

    /// The command's standard output is flushed at each line.
    #[track_caller]
    pub fn line_buffered(self) -> Self {
        self.set("line_buffered", Yaml::Bool(true))
    }

    /// Exits that count as success; 0 alone without it.
    #[track_caller]
    pub fn success_exit(self, exits: impl IntoIterator<Item = Exit>) -> Self {
        self.set("success_exit", Yaml::list(exits.into_iter().map(write::exit)))
    }

    /// Under reload, old workers end before new ones start.
    #[track_caller]
    pub fn exclusive(self) -> Self {
        self.set("exclusive", Yaml::Bool(true))
    }

    /// How its workers are ended.
    #[track_caller]
    pub fn stop(self, stop: StopPolicy) -> Self {
        self.set("stop", write::stop(stop))
    }

    /// Resource limits of each worker.
    #[track_caller]
    pub fn limits(self, limits: Limits) -> Self {
        self.set("limits", write::limits(&limits))
    }

    /// More files whose change restarts this stage, as globs.
    #[track_caller]
    pub fn watch<T: Into<String>>(self, globs: impl IntoIterator<Item = T>) -> Self {
        self.set("watch", texts(globs))
    }
}

fn path_text(path: &Path) -> Yaml {
    Yaml::text(path.to_string_lossy())
}

fn redirect(redirect: &Redirect) -> Yaml {
    match redirect {
        Redirect::Inherit => Yaml::text("inherit"),
        Redirect::Null => Yaml::text("null"),
        Redirect::File(path) => path_text(path),
    }
}
