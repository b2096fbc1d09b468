//! One stage.

use std::cell::RefCell;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use minijinja::Value;
use serde_json::Value as Json;

use super::environment::put;
use super::fields::Fields;
use super::fit::{BodyKind, Circumstances, keep_fitting};
use super::per_worker::StageReader;
use super::reader::Reader;
use super::words::{MODES, ON_ERROR, ON_FAILURE, START_METHODS};
use super::{keys, placeholders};
use crate::language::diagnostic::{Finding, code};
use crate::language::places::Places;
use crate::language::tree::{Entry, Node, Origin};
use crate::model::{
    Body, Mode, OnError, OnFailure, PerWorker, Place, Pool, Redirect, Restart, RestartPolicy, Stage,
    StartMethod, StopPolicy,
};

/// What all stages have in common.
pub(super) struct Common<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) defaults: &'a [Entry],
    /// The keys of `defaults` that some stage has used.
    pub(super) used_defaults: RefCell<HashSet<String>>,
    /// The pipeline's `env_file`s and `env`.
    pub(super) env: &'a [(String, String)],
    pub(super) stop: StopPolicy,
    pub(super) cpus: usize,
    /// Widths from the command line.
    pub(super) pools: &'a [(String, usize)],
}

impl Common<'_> {
    /// Reads one stage. What is wrong with it is reported; the stage that is handed out is then only good for its
    /// name and edges to be checked.
    pub(super) fn read(&self, entry: &Entry, places: &mut Places) -> Stage {
        let name = entry.key.as_str();
        self.reader.stage_name(name, entry.key_span);
        places.put(Place::Stage(name.to_owned()), entry.key_span);
        let scope = self.reader.scope.in_stage(name);
        let reader = self.reader.with_scope(&scope);
        let what = format!("stage `{name}`");
        let declared = reader.fields(&what, &entry.value, keys::STAGE);
        let body = declared.as_ref().and_then(|fields| {
            let body = fields.one_of(reader, &what, entry.key_span, keys::BODIES, code::ONE_BODY)?;
            Some((body.clone(), body_kind(&body.key)))
        });
        let mut fields = declared.unwrap_or_default();
        self.add_defaults(&mut fields);
        let pool = self.pool(reader, name, &fields);
        let scope = scope.with("pool", [("width", Value::from(pool.max as u64))]);
        let at = StageReader { reader: reader.with_scope(&scope), name, pool };
        self.read_keys(at, fields, body, places)
    }

    fn read_keys(
        &self,
        at: StageReader<'_>,
        mut fields: Fields,
        body: Option<(Entry, BodyKind)>,
        places: &mut Places,
    ) -> Stage {
        let kind = body.as_ref().map(|(_, kind)| *kind);
        let mode = read_mode(at.reader, &fields, kind);
        let start_method = fields.get("start_method").map_or(Some(StartMethod::Spawn), |entry| {
            at.reader.word("`start_method`", &entry.value, &START_METHODS)
        });
        if let Some(body) = kind {
            keep_fitting(at.reader, &mut fields, Circumstances { body, mode, start_method });
        }
        self.note(&fields, at.name, places);
        let body = body.and_then(|(entry, kind)| read_body(at, &entry, kind, mode, &fields));
        let body = body.unwrap_or(Body::Function(String::new()));
        let (mode, start_method) = (mode.unwrap_or(Mode::Stream), start_method.unwrap_or(StartMethod::Spawn));
        self.rest(at, &fields, mode, start_method, body)
    }

    /// Adds what `defaults` says and the stage does not.
    fn add_defaults(&self, fields: &mut Fields) {
        for default in self.defaults {
            if default.key != keys::FORMAT && fields.get(&default.key).is_none() {
                fields.entries.push(Entry { origin: Origin::Defaults, ..default.clone() });
            }
        }
    }

    /// Remembers where everything stands, and which defaults were of use.
    fn note(&self, fields: &Fields, name: &str, places: &mut Places) {
        for key in keys::STAGE {
            let Some(entry) = fields.get(key) else { continue };
            places.put(Place::StageKey(name.to_owned(), key), entry.value.span);
            if entry.origin == Origin::Defaults {
                self.used_defaults.borrow_mut().insert((*key).to_owned());
            }
        }
    }

    fn pool(&self, reader: Reader<'_>, name: &str, fields: &Fields) -> Pool {
        let declared = fields.read("pool", |what, node| reader.pool(what, node, self.cpus));
        let given = self.pools.iter().rev().find(|(stage, _)| stage == name);
        match given {
            Some(&(_, width)) => Pool { min: width.max(1), max: width.max(1) },
            None => declared.unwrap_or(Pool { min: 1, max: 1 }),
        }
    }

    fn rest(
        &self,
        at: StageReader<'_>,
        fields: &Fields,
        mode: Mode,
        start_method: StartMethod,
        body: Body,
    ) -> Stage {
        let r = at.reader;
        let truth = |key, unset| fields.read(key, |what, node| r.truth(what, node)).unwrap_or(unset);
        let texts = |key| fields.read(key, |what, node| r.each(what, node, |node| r.full_text(what, node)));
        let batch = fields.read("batch", |what, node| r.batch(what, node));
        Stage {
            name: at.name.to_owned(),
            body,
            mode,
            pool: at.pool,
            ordered: truth("ordered", false),
            daemon: truth("daemon", false),
            start_method,
            preload: fields
                .read("preload", |what, node| r.each(what, node, |node| r.module(node)))
                .unwrap_or_default(),
            python_executable: fields.read("python_executable", |what, node| read_executable(r, what, node)),
            initializer: fields.read("initializer", |what, node| r.callable(what, node)),
            args: fields.read("args", |what, node| read_args(r, what, node)).unwrap_or_default(),
            kwargs: fields.read("kwargs", |what, node| read_kwargs(r, what, node)).unwrap_or_default(),
            unpack: truth("unpack", false),
            env: self.environment(at, fields),
            cwd: read_cwd(at, fields),
            inherit_env: truth("inherit_env", true),
            stdin: read_file(at, fields, "stdin"),
            stdout: read_file(at, fields, "stdout"),
            prefetch: fields
                .read("prefetch", |what, node| r.count(what, node).and_then(NonZeroUsize::new))
                .or_else(|| (mode == Mode::Each).then_some(NonZeroUsize::MIN)),
            batch,
            max_records_per_worker: fields.read("max_records_per_worker", |what, node| r.count(what, node)),
            record_timeout: fields.read("record_timeout", |what, node| r.positive_duration(what, node)),
            retry: fields.read("retry", |what, node| r.retry(what, node)).unwrap_or_default(),
            on_error: read_on_error(r, fields),
            restart: fields
                .read("restart", |what, node| r.restart(what, node))
                .unwrap_or_else(|| default_restart(mode)),
            on_failure: read_on_failure(r, fields),
            depends_on: fields.read("depends_on", |what, node| r.depends_on(what, node)).unwrap_or_default(),
            ready: fields.read("ready", |what, node| r.ready(what, node)),
            timeout: fields.read("timeout", |what, node| r.positive_duration(what, node)),
            line_buffered: truth("line_buffered", false),
            success_exit: fields
                .read("success_exit", |what, node| r.success_exit(what, node))
                .unwrap_or_else(|| vec![crate::model::Exit::SUCCESS]),
            exclusive: truth("exclusive", false),
            stop: fields.read("stop", |what, node| r.stop(what, node, self.stop)).unwrap_or(self.stop),
            limits: fields.read("limits", |what, node| r.limits(what, node)).unwrap_or_default(),
            stderr: read_stderr(at, fields),
            watch: texts("watch").unwrap_or_default(),
        }
    }

    /// The pipeline's environment with the stage's own on top.
    fn environment(&self, at: StageReader<'_>, fields: &Fields) -> Vec<(String, PerWorker<String>)> {
        let mut variables: Vec<_> =
            self.env.iter().map(|(name, value)| (name.clone(), PerWorker::Same(value.clone()))).collect();
        let Some(entry) = fields.get("env") else { return variables };
        let own = at.reader.environment(&entry.value, |what, node| {
            at.per_worker(node, |reader, node| reader.loose_text(what, node))
        });
        for (name, value) in own {
            put(&mut variables, name, value);
        }
        variables
    }
}

fn body_kind(key: &str) -> BodyKind {
    match key {
        "command" => BodyKind::Command,
        "python" => BodyKind::Python,
        _ => BodyKind::Function,
    }
}

fn unset_mode(is_command: bool) -> Mode {
    if is_command { Mode::Stream } else { Mode::Map }
}

/// The mode of a stage that does not say.
pub(in crate::language) fn default_mode(body: &Body) -> Mode {
    unset_mode(matches!(body, Body::Command(_)))
}

/// The mode, which for functions cannot be `each`: a default that is goes unused.
fn read_mode(reader: Reader<'_>, fields: &Fields, kind: Option<BodyKind>) -> Option<Mode> {
    let is_command = kind == Some(BodyKind::Command);
    let unset = unset_mode(is_command);
    let Some(entry) = fields.get("mode") else { return kind.map(|_| unset) };
    let mode = reader.word("`mode`", &entry.value, &MODES)?;
    if mode != Mode::Each || is_command || kind.is_none() {
        return Some(mode);
    }
    if entry.origin == Origin::Own {
        reader.report(
            Finding::error(code::INVALID_VALUE, "`mode: each` is for commands")
                .at(entry.value.span, "this stage runs a function")
                .help("use `mode: map`; with `max_records_per_worker: 1` every record gets a new process"),
        );
    }
    Some(unset)
}

fn read_body(
    at: StageReader<'_>,
    entry: &Entry,
    kind: BodyKind,
    mode: Option<Mode>,
    fields: &Fields,
) -> Option<Body> {
    let what = format!("`{}`", entry.key);
    match kind {
        BodyKind::Command => {
            let command = at.per_worker(&entry.value, |reader, node| reader.command(&what, node))?;
            if let Some(mode) = mode {
                let has_batch = fields.get("batch").is_some();
                placeholders::check(at.reader, &command, &entry.value, mode, has_batch);
            }
            Some(Body::Command(command))
        }
        BodyKind::Python => at.reader.callable(&what, &entry.value).map(Body::Python),
        BodyKind::Function => at.reader.full_text(&what, &entry.value).map(Body::Function),
    }
}

/// What becomes of dead workers where a stage does not say, and queues feed it.
pub(super) fn default_restart(mode: Mode) -> Restart {
    let policy = match mode {
        // Nothing can be lost by it where records are leased.
        Mode::Map | Mode::Each => RestartPolicy::OnFailure,
        Mode::Stream => RestartPolicy::Never,
    };
    Restart { policy, ..Restart::default() }
}

fn read_on_error(reader: Reader<'_>, fields: &Fields) -> OnError {
    fields.read("on_error", |what, node| reader.word(what, node, &ON_ERROR)).unwrap_or(OnError::Fail)
}

fn read_on_failure(reader: Reader<'_>, fields: &Fields) -> OnFailure {
    fields.read("on_failure", |what, node| reader.word(what, node, &ON_FAILURE)).unwrap_or(OnFailure::Stop)
}

fn read_cwd(at: StageReader<'_>, fields: &Fields) -> PerWorker<PathBuf> {
    let own = fields.read("cwd", |what, node| at.per_worker(node, |reader, node| reader.path(what, node)));
    own.unwrap_or_else(|| PerWorker::Same(at.reader.shared.dir.to_owned()))
}

fn read_file(at: StageReader<'_>, fields: &Fields, key: &str) -> Option<PerWorker<Redirect>> {
    fields.read(key, |what, node| at.per_worker(node, |reader, node| reader.file(what, node)))
}

fn read_stderr(at: StageReader<'_>, fields: &Fields) -> PerWorker<Redirect> {
    fields
        .read("stderr", |what, node| at.per_worker(node, |reader, node| reader.file_or_inherit(what, node)))
        .unwrap_or(PerWorker::Same(Redirect::Inherit))
}

fn read_executable(reader: Reader<'_>, what: &str, node: &Node) -> Option<String> {
    let text = reader.full_text(what, node)?;
    if text.contains('/') {
        return reader.path(what, node).map(|path| path.display().to_string());
    }
    // A bare name is looked up in the PATH.
    Some(text)
}

fn read_args(reader: Reader<'_>, what: &str, node: &Node) -> Option<Vec<Json>> {
    let node = reader.resolve(node)?;
    match reader.json(what, &node)? {
        Json::Array(values) => Some(values),
        Json::Null => Some(Vec::new()),
        _ => reader.wrong_type(what, "a list", &node),
    }
}

fn read_kwargs(reader: Reader<'_>, what: &str, node: &Node) -> Option<serde_json::Map<String, Json>> {
    let node = reader.resolve(node)?;
    match reader.json(what, &node)? {
        Json::Object(values) => Some(values),
        Json::Null => Some(serde_json::Map::new()),
        _ => reader.wrong_type(what, "a map", &node),
    }
}
