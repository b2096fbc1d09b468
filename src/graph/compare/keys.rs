//! The one table that says for every key of the language what a change of it comes to while the pipeline runs.
//!
//! `tests/plan_command.rs` changes each key in turn, and compares the table with the language's schema, so that a new key
//! cannot be forgotten here.

use super::values::{alike, alike_environment, alike_optional};
use crate::graph::{PipePlan, Plan, QueuePlan};
use crate::model::{Body, Command, PerWorker, Stage};

/// What a change of a key comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Of itself nothing: it counts by what the keys of stages and edges become through it.
    Resolved,
    /// It holds from now on. No worker and no record is touched.
    Adopt,
    /// Workers are added or retired, or a bound is moved. Of a pool whose workers are joined to others by pipes, or
    /// have records by their key, it is [`Effect::Replace`].
    Resize,
    /// New workers take over from the old ones; of an edge, both of its ends'. A queue begins anew.
    Replace,
    /// An edge keeps its records, and the workers that write to it are replaced, since they are told of it when they
    /// start.
    ReplaceProducer,
    /// A queue keeps its records, which are shared out by the new rule, and the workers that it leads to are replaced.
    ReplaceConsumer,
    /// A queue begins anew, and the workers that it leads to are replaced.
    BeginAnew,
    /// An edge is known by its ends: one that has others is another edge.
    Rewire,
    /// The pipeline has to be ended and run again.
    NewRun,
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// At the top of the document.
    Top,
    /// In a stage.
    Stage,
    /// In an edge that is a queue.
    Queue,
    /// In an edge that is a pipe.
    Pipe,
}

/// One key of the language.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Where it stands.
    pub level: Level,
    /// What it is called.
    pub name: &'static str,
    /// What a change of it comes to.
    pub effect: Effect,
    pub(super) same: Same,
}

/// How two values of a key are compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Same {
    /// By what others become through it, or by name.
    Elsewhere,
    Top(fn(&Plan, &Plan) -> bool),
    Stage(fn(&Stage, &Stage) -> bool),
    Queue(fn(&QueuePlan, &QueuePlan) -> bool),
    Pipe(fn(&PipePlan, &PipePlan) -> bool),
}

/// Every key of the language.
pub const KEYS: &[Key] = &[
    top("version", Effect::Resolved, Same::Elsewhere),
    top("name", Effect::Adopt, Same::Top(|old, new| old.name == new.name)),
    top("description", Effect::Resolved, Same::Elsewhere),
    top("vars", Effect::Resolved, Same::Elsewhere),
    top("env", Effect::Resolved, Same::Elsewhere),
    top("env_file", Effect::Resolved, Same::Elsewhere),
    top("defaults", Effect::Resolved, Same::Elsewhere),
    top("stages", Effect::Resolved, Same::Elsewhere),
    top("edges", Effect::Resolved, Same::Elsewhere),
    top("shared", Effect::NewRun, Same::Top(|old, new| old.shared == new.shared)),
    top("stop", Effect::Adopt, Same::Top(|old, new| old.stop == new.stop)),
    stage("command", Effect::Replace, |old, new| match (command(old), command(new)) {
        (Some(old), Some(new)) => alike(old, new),
        (old, new) => old.is_none() == new.is_none(),
    }),
    stage("python", Effect::Replace, |old, new| python(old) == python(new)),
    stage("function", Effect::Replace, |old, new| function(old) == function(new)),
    stage("mode", Effect::Replace, |old, new| old.mode == new.mode),
    stage("pool", Effect::Resize, |old, new| old.pool == new.pool),
    stage("ordered", Effect::Replace, |old, new| old.ordered == new.ordered),
    stage("daemon", Effect::Replace, |old, new| old.daemon == new.daemon),
    stage("start_method", Effect::Replace, |old, new| old.start_method == new.start_method),
    stage("preload", Effect::Replace, |old, new| old.preload == new.preload),
    stage("python_executable", Effect::Replace, |old, new| old.python_executable == new.python_executable),
    stage("initializer", Effect::Replace, |old, new| old.initializer == new.initializer),
    stage("args", Effect::Replace, |old, new| old.args == new.args),
    stage("kwargs", Effect::Replace, |old, new| old.kwargs == new.kwargs),
    stage("unpack", Effect::Replace, |old, new| old.unpack == new.unpack),
    stage("env", Effect::Replace, |old, new| alike_environment(&old.env, &new.env)),
    stage("cwd", Effect::Replace, |old, new| alike(&old.cwd, &new.cwd)),
    stage("inherit_env", Effect::Replace, |old, new| old.inherit_env == new.inherit_env),
    stage("stdin", Effect::Replace, |old, new| alike_optional(old.stdin.as_ref(), new.stdin.as_ref())),
    stage("stdout", Effect::Replace, |old, new| alike_optional(old.stdout.as_ref(), new.stdout.as_ref())),
    stage("prefetch", Effect::Replace, |old, new| old.prefetch == new.prefetch),
    stage("batch", Effect::Replace, |old, new| old.batch == new.batch),
    stage("max_records_per_worker", Effect::Replace, |old, new| {
        old.max_records_per_worker == new.max_records_per_worker
    }),
    stage("record_timeout", Effect::Replace, |old, new| old.record_timeout == new.record_timeout),
    stage("retry", Effect::Replace, |old, new| old.retry == new.retry),
    stage("on_error", Effect::Replace, |old, new| old.on_error == new.on_error),
    stage("restart", Effect::Replace, |old, new| old.restart == new.restart),
    stage("on_failure", Effect::Replace, |old, new| old.on_failure == new.on_failure),
    stage("depends_on", Effect::Replace, |old, new| old.depends_on == new.depends_on),
    stage("ready", Effect::Replace, |old, new| old.ready == new.ready),
    stage("timeout", Effect::Replace, |old, new| old.timeout == new.timeout),
    stage("line_buffered", Effect::Replace, |old, new| old.line_buffered == new.line_buffered),
    stage("success_exit", Effect::Replace, |old, new| old.success_exit == new.success_exit),
    stage("exclusive", Effect::Adopt, |old, new| old.exclusive == new.exclusive),
    stage("stop", Effect::Replace, |old, new| old.stop == new.stop),
    stage("limits", Effect::Replace, |old, new| old.limits == new.limits),
    stage("stderr", Effect::Replace, |old, new| alike(&old.stderr, &new.stderr)),
    // For whoever watches the files; the workers know nothing of it.
    stage("watch", Effect::Adopt, |old, new| old.watch == new.watch),
    Key { level: Level::Queue, name: "queue", effect: Effect::Rewire, same: Same::Elsewhere },
    queue("format", Effect::Replace, |old, new| old.format == new.format),
    queue("capacity", Effect::Resize, |old, new| old.options.capacity == new.options.capacity),
    queue("capacity_bytes", Effect::Resize, |old, new| {
        old.options.capacity_bytes == new.options.capacity_bytes
    }),
    queue("max_record", Effect::ReplaceProducer, |old, new| old.options.max_record == new.options.max_record),
    queue("when_full", Effect::Resize, |old, new| old.options.when_full == new.options.when_full),
    queue("partition_by", Effect::ReplaceConsumer, |old, new| {
        old.options.partition_by == new.options.partition_by
    }),
    queue("to_each", Effect::BeginAnew, |old, new| old.options.to_each == new.options.to_each),
    Key { level: Level::Pipe, name: "pipe", effect: Effect::Rewire, same: Same::Elsewhere },
    // A one-way pipe and a duplex one have different names for their ends: they are different edges.
    pipe("duplex", Effect::Replace, |old, new| old.duplex == new.duplex),
    pipe("size", Effect::Replace, |old, new| old.size == new.size),
];

const fn top(name: &'static str, effect: Effect, same: Same) -> Key {
    Key { level: Level::Top, name, effect, same }
}

const fn stage(name: &'static str, effect: Effect, same: fn(&Stage, &Stage) -> bool) -> Key {
    Key { level: Level::Stage, name, effect, same: Same::Stage(same) }
}

const fn queue(name: &'static str, effect: Effect, same: fn(&QueuePlan, &QueuePlan) -> bool) -> Key {
    Key { level: Level::Queue, name, effect, same: Same::Queue(same) }
}

const fn pipe(name: &'static str, effect: Effect, same: fn(&PipePlan, &PipePlan) -> bool) -> Key {
    Key { level: Level::Pipe, name, effect, same: Same::Pipe(same) }
}

fn command(stage: &Stage) -> Option<&PerWorker<Command>> {
    match &stage.body {
        Body::Command(command) => Some(command),
        Body::Python(_) | Body::Function(_) => None,
    }
}

fn python(stage: &Stage) -> Option<&str> {
    match &stage.body {
        Body::Python(target) => Some(target),
        Body::Command(_) | Body::Function(_) => None,
    }
}

fn function(stage: &Stage) -> Option<&str> {
    match &stage.body {
        Body::Function(name) => Some(name),
        Body::Command(_) | Body::Python(_) => None,
    }
}
