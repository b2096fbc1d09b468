//! A stage, and `defaults`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::policy::{Batch, Command, Limits, Pool, Ready, Restart, Retry, Stop};
use super::scalar::{
    Anything, Callable, Count, Duration, Either, Environment, Exit, File, Format, FullText, Mode, Module,
    Object, OnError, OnFailure, RestartPolicy, Some1, StartMethod, State, Text, Truth, Whole, Width,
};
use crate::language::decode::keys;

/// One declared piece of work, run by a pool of identical workers.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields, extend("oneOf" = [
    {"required": ["command"]}, {"required": ["python"]}, {"required": ["function"]}
]))]
pub(super) struct Stage {
    /// A program and its arguments as a list, without a shell; or a text for `/bin/sh -c`.
    command: Command,
    /// A Python callable: `module:callable` or `path/file.py:callable`.
    python: Callable,
    /// A Rust function that the embedding program registered under this name.
    function: FullText,
    /// How a worker takes records: `stream` (a long-lived filter, the default for commands), `map` (a record in,
    /// its results out; the default for functions) or `each` (one process per record).
    mode: Mode,
    /// How many workers; `auto`: as many as there are processors.
    #[schemars(extend("default" = 1))]
    pool: Either<Width, Pool>,
    /// Results leave in the order in which records came (`map`, `each`).
    #[schemars(extend("default" = false))]
    ordered: Truth,
    /// The run does not wait for it, and ends it last.
    #[schemars(extend("default" = false))]
    daemon: Truth,
    /// How its workers come to be.
    #[schemars(extend("default" = "spawn"))]
    start_method: StartMethod,
    /// Python modules that the fork server imports once (`forkserver`, `fork`).
    preload: Whole<Vec<Module>>,
    /// The Python interpreter; otherwise an active virtual environment's, or `python3`.
    python_executable: FullText,
    /// A Python callable, called once in each worker before its first record.
    initializer: Callable,
    /// Functions: fixed positional arguments. Python's get them after the record; Rust's ask their worker for them.
    args: Whole<Vec<Anything>>,
    /// Functions: fixed keyword arguments. Python's are called with them; Rust's ask their worker for them.
    kwargs: Whole<std::collections::BTreeMap<String, Anything>>,
    /// Python: a list record becomes positional arguments, a map record keyword arguments.
    #[schemars(extend("default" = false))]
    unpack: Truth,
    /// Environment variables, added to those of the pipeline.
    env: Environment,
    /// The working directory; otherwise the document's folder.
    cwd: FullText,
    /// Whether workers see the engine's own environment; if not, only PATH, HOME, LANG and TMPDIR of it.
    #[schemars(extend("default" = true))]
    inherit_env: Truth,
    /// A file in the place of an input edge, or `null`.
    stdin: File,
    /// A file in the place of an output edge, or `null`.
    stdout: File,
    /// Records leased to one worker at once (`map`, `each`); 1 for `each`, otherwise chosen by the engine.
    prefetch: Count,
    /// Records handed over together: a function gets a list of them, an `each` process all on its standard input.
    batch: Either<Count, Batch>,
    /// A worker is replaced after that many records (`map`).
    max_records_per_worker: Count,
    /// A worker that holds one record longer is killed, and the record counts as failed once (`map`, `each`).
    record_timeout: Duration,
    /// How often one record is tried in all (`map`, `each`).
    #[schemars(extend("default" = 1))]
    retry: Either<Count, Retry>,
    /// What becomes of a record whose attempts are used up, where no edge leaves `stage.failed`: fail the stage, or
    /// count it and go on.
    #[schemars(extend("default" = "fail"))]
    on_error: OnError,
    /// What happens when a worker dies; `on-failure` for `map` and `each`, `never` for `stream`.
    restart: Either<RestartPolicy, Restart>,
    /// When the stage has failed: stop the pipeline, or let the rest finish.
    #[schemars(extend("default" = "stop"))]
    on_failure: OnFailure,
    /// Stages that must have started, be ready or have finished before this one starts.
    depends_on: Either<Vec<FullText>, std::collections::BTreeMap<String, State>>,
    /// How a worker is known to be ready; otherwise it is as soon as it has started.
    ready: Object<Ready>,
    /// For the stage as a whole.
    timeout: Duration,
    /// The command's standard output is flushed at each line.
    #[schemars(extend("default" = false))]
    line_buffered: Truth,
    /// Exits that count as success: codes and signals.
    #[schemars(extend("default" = [0]))]
    success_exit: Some1<Exit>,
    /// Under reload, old workers end before new ones start.
    #[schemars(extend("default" = false))]
    exclusive: Truth,
    /// How its workers are ended.
    stop: Object<Stop>,
    /// Resource limits of each worker.
    limits: Object<Limits>,
    /// Where standard error goes: `inherit` (each line after the worker's name), `null` or a file.
    #[schemars(extend("default" = "inherit"))]
    stderr: File,
    /// Globs of more files whose change restarts this stage under `--watch`.
    watch: Whole<Vec<Text>>,
}

/// The keys of stages but their bodies, and `format`.
#[derive(Default)]
pub(super) struct Defaults;

impl JsonSchema for Defaults {
    fn schema_name() -> Cow<'static, str> {
        "Defaults".into()
    }

    /// The schema of a stage with other keys, so that the two cannot drift apart.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Stage::json_schema(generator);
        let format = generator.subschema_for::<Format>().to_value();
        schema.remove("oneOf");
        schema.insert("description".to_owned(), "Used where a stage or edge does not say.".into());
        if let Some(properties) = schema.get_mut("properties").and_then(|value| value.as_object_mut()) {
            properties.retain(|key, _| !keys::BODIES.contains(&key.as_str()));
            let mut format = format;
            if let Some(format) = format.as_object_mut() {
                format.insert("description".to_owned(), "The format of queues.".into());
            }
            properties.insert(keys::FORMAT.to_owned(), format);
        }
        schema
    }
}
