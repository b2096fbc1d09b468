//! A pipeline, with what it does not say left out.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::scalar::literal;
use super::yaml::{Entry, Written, Yaml};
use crate::language::decode::words::{
    FORMATS, MODES, ON_ERROR, ON_FAILURE, POLICIES, SCOPES, START_METHODS, STATES, WHEN_FULL,
};
use crate::language::decode::{default_mode, unset_restart};
use crate::model::{
    Backoff, Batch, Body, Command, Dependency, DependencyState, Edge, EdgeKind, Exit, Limits, Mode, OnError,
    OnFailure, PartitionKey, PerWorker, Pipeline, Pool, Probe, ProbeKind, QueueOptions, Redirect, Restart,
    RestartPolicy, Retry, SharedKind, SharedObject, Signal, Stage, StartMethod, StopPolicy, WhenFull,
};

/// The document that says what this pipeline is: every default left out, every expression evaluated, every path
/// absolute.
pub(crate) fn write(pipeline: &Pipeline) -> String {
    let stages = pipeline.stages.iter().map(|stage| (stage.name.as_str(), Some(of_stage(stage, pipeline))));
    let shared = pipeline.shared.iter().map(|object| (object.name.as_str(), Some(of_shared(object))));
    let has = |is: bool, value: Yaml| is.then_some(value);
    let document = Yaml::map([
        ("name", Some(own(&pipeline.name))),
        ("description", has(!pipeline.description.is_empty(), own(&pipeline.description))),
        ("stages", Some(Yaml::map(stages))),
        ("edges", has(!pipeline.edges.is_empty(), Yaml::list(pipeline.edges.iter().map(of_edge)))),
        ("shared", has(!pipeline.shared.is_empty(), Yaml::map(shared))),
        ("stop", has(pipeline.stop != StopPolicy::default(), stop(pipeline.stop))),
    ]);
    let entries: Vec<Entry> = match document {
        Yaml::Map(entries) => entries,
        _ => Vec::new(),
    };
    Written::document(&entries).text
}

/// Text that stands for itself.
fn own(text: &str) -> Yaml {
    Yaml::Text(literal(text))
}

fn word<T: PartialEq, const N: usize>(words: &[(&'static str, T); N], value: &T) -> Yaml {
    let word = words.iter().find(|(_, meaning)| meaning == value).map(|(word, _)| *word);
    Yaml::text(word.expect("every value has its word"))
}

fn unless_default<T: PartialEq, const N: usize>(
    words: &[(&'static str, T); N],
    value: &T,
    default: &T,
) -> Option<Yaml> {
    (value != default).then(|| word(words, value))
}

fn number(number: impl Into<Json>) -> Yaml {
    Yaml::from(number.into())
}

fn texts<'t>(texts: impl IntoIterator<Item = &'t String>) -> Yaml {
    Yaml::list(texts.into_iter().map(|text| own(text)))
}

fn truth(is: bool) -> Option<Yaml> {
    is.then_some(Yaml::Bool(true))
}

fn of_stage(stage: &Stage, pipeline: &Pipeline) -> Yaml {
    let (body, value) = match &stage.body {
        Body::Command(commands) => ("command", per_worker(commands, command)),
        Body::Python(target) => ("python", own(target)),
        Body::Function(name) => ("function", own(name)),
    };
    let prefetch = match stage.mode {
        Mode::Each => stage.prefetch.filter(|&prefetch| prefetch != NonZeroUsize::MIN),
        _ => stage.prefetch,
    };
    let env =
        stage.env.iter().map(|(name, value)| (name.as_str(), Some(per_worker(value, |text| json!(text)))));
    let list = |texts_: &Vec<String>| (!texts_.is_empty()).then(|| texts(texts_));
    Yaml::map([
        (body, Some(value)),
        ("mode", unless_default(&MODES, &stage.mode, &default_mode(&stage.body))),
        ("pool", pool(stage.pool)),
        ("ordered", truth(stage.ordered)),
        ("daemon", truth(stage.daemon)),
        ("start_method", unless_default(&START_METHODS, &stage.start_method, &StartMethod::Spawn)),
        ("preload", list(&stage.preload)),
        ("python_executable", stage.python_executable.as_deref().map(own)),
        ("initializer", stage.initializer.as_deref().map(own)),
        ("args", (!stage.args.is_empty()).then(|| owned(&Json::Array(stage.args.clone())))),
        ("kwargs", (!stage.kwargs.is_empty()).then(|| owned(&Json::Object(stage.kwargs.clone())))),
        ("unpack", truth(stage.unpack)),
        ("env", (!stage.env.is_empty()).then(|| Yaml::map(env))),
        ("cwd", cwd(stage, pipeline)),
        ("inherit_env", (!stage.inherit_env).then_some(Yaml::Bool(false))),
        ("stdin", stage.stdin.as_ref().map(|file| per_worker(file, redirect))),
        ("stdout", stage.stdout.as_ref().map(|file| per_worker(file, redirect))),
        ("prefetch", prefetch.map(|prefetch| number(prefetch.get()))),
        ("batch", stage.batch.map(batch)),
        ("max_records_per_worker", stage.max_records_per_worker.map(number)),
        ("record_timeout", stage.record_timeout.map(duration)),
        ("retry", (stage.retry != Retry::default()).then(|| retry(stage.retry))),
        ("on_error", unless_default(&ON_ERROR, &stage.on_error, &OnError::Fail)),
        ("restart", (stage.restart != unset_restart(stage, &pipeline.edges)).then(|| restart(stage.restart))),
        ("on_failure", unless_default(&ON_FAILURE, &stage.on_failure, &OnFailure::Stop)),
        ("depends_on", (!stage.depends_on.is_empty()).then(|| depends_on(&stage.depends_on))),
        ("ready", stage.ready.as_ref().map(probe)),
        ("timeout", stage.timeout.map(duration)),
        ("line_buffered", truth(stage.line_buffered)),
        (
            "success_exit",
            (stage.success_exit != [Exit::SUCCESS])
                .then(|| Yaml::list(stage.success_exit.iter().copied().map(exit))),
        ),
        ("exclusive", truth(stage.exclusive)),
        ("stop", (stage.stop != pipeline.stop).then(|| stop(stage.stop))),
        ("limits", (stage.limits != Limits::default()).then(|| limits(&stage.limits))),
        (
            "stderr",
            (stage.stderr != PerWorker::Same(Redirect::Inherit)).then(|| per_worker(&stage.stderr, redirect)),
        ),
        ("watch", list(&stage.watch)),
    ])
}

/// JSON whose texts stand for themselves.
fn owned(value: &Json) -> Yaml {
    match value {
        Json::String(text) => own(text),
        Json::Array(values) => Yaml::list(values.iter().map(owned)),
        Json::Object(entries) => {
            Yaml::map(entries.iter().map(|(key, value)| (key.as_str(), Some(owned(value)))))
        }
        other => other.clone().into(),
    }
}

/// A value that differs from worker to worker is a list of all, of which an expression takes the worker's.
fn per_worker<T>(value: &PerWorker<T>, write: impl Fn(&T) -> Json) -> Yaml {
    match value {
        PerWorker::Same(value) => owned(&write(value)),
        PerWorker::ByRank(values) => {
            let values = Json::Array(values.iter().map(write).collect());
            Yaml::Text(format!("${{{{ {values}[worker.rank] }}}}"))
        }
    }
}

fn command(command: &Command) -> Json {
    match command {
        Command::Shell(script) => json!(script),
        Command::Argv(argv) => json!(argv),
    }
}

fn redirect(redirect: &Redirect) -> Json {
    match redirect {
        Redirect::Inherit => json!("inherit"),
        Redirect::Null => json!("null"),
        Redirect::File(path) => json!(path.to_string_lossy()),
    }
}

fn cwd(stage: &Stage, pipeline: &Pipeline) -> Option<Yaml> {
    let is_default = stage.cwd == PerWorker::Same(pipeline.dir.clone());
    (!is_default).then(|| per_worker(&stage.cwd, |path| json!(path.to_string_lossy())))
}

fn pool(pool: Pool) -> Option<Yaml> {
    match (pool.min, pool.max) {
        (1, 1) => None,
        (min, max) if min == max => Some(number(max)),
        (min, max) => Some(Yaml::map([("min", Some(number(min))), ("max", Some(number(max)))])),
    }
}

/// In the largest unit that says it exactly.
pub(crate) fn duration(duration: Duration) -> Yaml {
    const UNITS: [(u128, &str); 6] = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1000, "us"),
        (1, "ns"),
    ];
    let nanos = duration.as_nanos();
    let unit = UNITS.iter().find(|(unit, _)| nanos > 0 && nanos.is_multiple_of(*unit));
    Yaml::Text(unit.map_or_else(|| "0s".to_owned(), |(unit, name)| format!("{}{name}", nanos / unit)))
}

/// Likewise.
pub(crate) fn size(bytes: u64) -> Yaml {
    const UNITS: [(u64, &str); 4] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
    let unit = UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    Yaml::Text(unit.map_or_else(|| "0B".to_owned(), |(unit, name)| format!("{}{name}", bytes / unit)))
}

pub(crate) fn batch(batch: Batch) -> Yaml {
    if batch.bytes.is_none() && batch.wait.is_none() {
        return number(batch.size.get());
    }
    // A batch that names only its bytes has as many records as fit.
    let most = (batch.size != NonZeroUsize::MAX).then(|| number(batch.size.get()));
    Yaml::map([("size", most), ("bytes", batch.bytes.map(size)), ("wait", batch.wait.map(duration))])
}

pub(crate) fn retry(retry: Retry) -> Yaml {
    let unset = Retry { attempts: retry.attempts, ..Retry::default() };
    if retry == unset {
        return number(retry.attempts);
    }
    Yaml::map([
        ("attempts", Some(number(retry.attempts))),
        ("delay", (retry.delay != unset.delay).then(|| duration(retry.delay))),
        ("factor", (retry.factor != unset.factor).then(|| number(retry.factor))),
        ("max_delay", (retry.max_delay != unset.max_delay).then(|| duration(retry.max_delay))),
    ])
}

pub(crate) fn restart(restart: Restart) -> Yaml {
    let unset = Restart { policy: restart.policy, ..Restart::default() };
    if restart == unset || restart.policy == RestartPolicy::Never {
        return word(&POLICIES, &restart.policy);
    }
    Yaml::map([
        ("policy", Some(word(&POLICIES, &restart.policy))),
        ("max", (restart.max != unset.max).then(|| number(restart.max))),
        ("within", (restart.within != unset.within).then(|| duration(restart.within))),
        ("backoff", (restart.backoff != unset.backoff).then(|| backoff(restart.backoff))),
        ("scope", unless_default(&SCOPES, &restart.scope, &unset.scope)),
    ])
}

fn backoff(backoff: Backoff) -> Yaml {
    Yaml::map([
        ("initial", Some(duration(backoff.initial))),
        ("factor", Some(number(backoff.factor))),
        ("max", Some(duration(backoff.max))),
        ("jitter", Some(number(backoff.jitter))),
    ])
}

fn depends_on(dependencies: &[Dependency]) -> Yaml {
    if dependencies.iter().all(|dependency| dependency.state == DependencyState::Started) {
        return texts(dependencies.iter().map(|dependency| &dependency.stage));
    }
    Yaml::map(dependencies.iter().map(|of| (of.stage.as_str(), Some(word(&STATES, &of.state)))))
}

pub(crate) fn probe(probe: &Probe) -> Yaml {
    let (key, value) = match &probe.kind {
        ProbeKind::Tcp(address) => ("tcp", own(address)),
        ProbeKind::Http(url) => ("http", own(url)),
        ProbeKind::Command(of) => ("command", owned(&command(of))),
        ProbeKind::Log(pattern) => ("log", own(pattern)),
        ProbeKind::Notify => ("notify", Yaml::Bool(true)),
    };
    let second = Duration::from_secs(1);
    Yaml::map([
        (key, Some(value)),
        ("interval", (probe.interval != second).then(|| duration(probe.interval))),
        ("timeout", (probe.timeout != second).then(|| duration(probe.timeout))),
        ("failures", (probe.failures != 3).then(|| number(probe.failures))),
    ])
}

fn signal(signal: Signal) -> Yaml {
    Yaml::Text(signal.to_string())
}

pub(crate) fn exit(exit: Exit) -> Yaml {
    number(exit.code())
}

pub(crate) fn mode(mode: Mode) -> Yaml {
    word(&MODES, &mode)
}

pub(crate) fn start_method(method: StartMethod) -> Yaml {
    word(&START_METHODS, &method)
}

pub(crate) fn on_error(on_error: OnError) -> Yaml {
    word(&ON_ERROR, &on_error)
}

pub(crate) fn on_failure(on_failure: OnFailure) -> Yaml {
    word(&ON_FAILURE, &on_failure)
}

pub(crate) fn when_full(when_full: WhenFull) -> Yaml {
    word(&WHEN_FULL, &when_full)
}

pub(crate) fn state(state: DependencyState) -> Yaml {
    word(&STATES, &state)
}

pub(crate) fn stop(stop: StopPolicy) -> Yaml {
    Yaml::map([("signal", Some(signal(stop.signal))), ("grace", Some(duration(stop.grace)))])
}

pub(crate) fn limits(limits: &Limits) -> Yaml {
    Yaml::map([
        ("memory", limits.memory.map(size)),
        ("open_files", limits.open_files.map(number)),
        ("cpu_time", limits.cpu_time.map(duration)),
        ("nice", limits.nice.map(number)),
        ("cpus", limits.cpus.as_ref().map(|cpus| number(cpus.clone()))),
    ])
}

fn of_edge(edge: &Edge) -> Yaml {
    let link = Yaml::Text(edge.to_string());
    match &edge.kind {
        EdgeKind::Pipe(options) => Yaml::map([
            ("pipe", Some(link)),
            ("duplex", truth(options.duplex)),
            ("size", options.size.map(size)),
        ]),
        EdgeKind::Queue(options) => {
            let unset = QueueOptions::default();
            let key = options.partition_by.as_ref().map(|key| match key {
                PartitionKey::Pointer(pointer) => own(pointer),
                PartitionKey::Field(field) => number(*field),
            });
            Yaml::map([
                ("queue", Some(link)),
                ("format", options.format.as_ref().map(|format| word(&FORMATS, format))),
                ("capacity", options.capacity.map(number)),
                (
                    "capacity_bytes",
                    (options.capacity_bytes != unset.capacity_bytes).then(|| size(options.capacity_bytes)),
                ),
                ("max_record", (options.max_record != unset.max_record).then(|| size(options.max_record))),
                ("when_full", unless_default(&WHEN_FULL, &options.when_full, &WhenFull::Block)),
                ("partition_by", key),
                ("to_each", truth(options.to_each)),
            ])
        }
    }
}

fn of_shared(object: &SharedObject) -> Yaml {
    match &object.kind {
        SharedKind::Value { element, initial } => {
            Yaml::map([("value", Some(own(element))), ("initial", Some(initial.clone().into()))])
        }
        SharedKind::Array { element, length } => {
            Yaml::map([("array", Some(own(element))), ("length", Some(number(*length)))])
        }
        SharedKind::Lock => Yaml::map([("lock", truth(true))]),
        SharedKind::Semaphore(permits) => Yaml::map([("semaphore", Some(number(*permits)))]),
        SharedKind::Event(is_set) => Yaml::map([("event", Some(Yaml::Bool(*is_set)))]),
        SharedKind::Barrier(parties) => Yaml::map([("barrier", Some(number(*parties)))]),
        SharedKind::Dict(entries) => Yaml::map([("dict", Some(owned(&Json::Object(entries.clone()))))]),
    }
}
