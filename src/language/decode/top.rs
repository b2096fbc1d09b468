//! The top level.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use minijinja::Value;

use super::environment::put;
use super::fields::Fields;
use super::reader::{Reader, Shared};
use super::stage::{Common, default_restart};
use super::vars::Vars;
use super::{edge, keys, shared};
use crate::language::diagnostic::{Finding, code};
use crate::language::expression::{Evaluator, Scope};
use crate::language::places::Places;
use crate::language::tree::{Entry, Node};
use crate::language::{ParseOptions, Span};
use crate::model::{
    Body, Edge, EdgeKind, Endpoint, Mode, Pipeline, Place, Restart, STDIN, Stage, StopPolicy, nearest,
};

/// What a document says.
pub(in crate::language) struct Decoded {
    /// The pipeline, if the document has stages at all. Where there are findings, it is not to be run, but its names
    /// and edges are those of the document.
    pub(in crate::language) pipeline: Option<Pipeline>,
    pub(in crate::language) places: Places,
    pub(in crate::language) env_files: Vec<PathBuf>,
    pub(in crate::language) findings: Vec<Finding>,
}

/// Reads the whole document. `path` is absolute.
pub(in crate::language) fn decode(root: &Node, text: &str, path: &Path, options: &ParseOptions) -> Decoded {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let shared = Shared { text, dir, evaluator: Evaluator::new(), findings: RefCell::default() };
    let scope =
        Scope::new(&options.env).with("pipeline", [("dir", Value::from(dir.to_string_lossy().into_owned()))]);
    let mut places = Places::default();
    let (pipeline, env_files) =
        match (Reader { shared: &shared, scope: &scope }).fields("the document", root, keys::TOP) {
            Some(fields) => {
                note_places(&fields, &mut places);
                let top = Top { reader: Reader { shared: &shared, scope: &scope }, fields: &fields, options };
                top.read(path, &mut places)
            }
            None => (None, Vec::new()),
        };
    Decoded { pipeline, places, env_files, findings: shared.findings.into_inner() }
}

fn note_places(fields: &Fields, places: &mut Places) {
    for key in keys::TOP {
        if let Some(entry) = fields.get(key) {
            places.put(Place::Top(key), entry.key_span);
        }
    }
}

struct Top<'a> {
    /// Knows `env` and `pipeline.dir`.
    reader: Reader<'a>,
    fields: &'a Fields,
    options: &'a ParseOptions,
}

impl Top<'_> {
    fn read(&self, path: &Path, places: &mut Places) -> (Option<Pipeline>, Vec<PathBuf>) {
        self.version();
        let vars = Vars::read(self.reader, self.value("vars"), &self.options.set);
        let name = self.name(self.reader.with_scope(&vars.scope), path);
        let dir = self.reader.shared.dir.to_string_lossy().into_owned();
        let scope =
            vars.scope.with("pipeline", [("dir", Value::from(dir)), ("name", Value::from(name.as_str()))]);
        let reader = self.reader.with_scope(&scope);

        let description = self.fields.read("description", |what, node| reader.text(what, node));
        let (env, env_files) = self.environment(reader);
        let stop = self
            .fields
            .read("stop", |what, node| reader.stop(what, node, StopPolicy::default()))
            .unwrap_or_default();
        let defaults = self.defaults(reader);
        let mut stages = self.stages(reader, &defaults, &env, stop, places);
        let edges = self.edges(reader, &defaults, places);
        for stage in stages.iter_mut().flatten() {
            settle_restart(stage, &edges, places);
        }
        let objects = self.value("shared").map(|node| shared::read_all(reader, node)).unwrap_or_default();
        vars.report_unused(reader, &self.options.set);
        let pipeline = stages.map(|stages| Pipeline {
            name,
            description: description.unwrap_or_default(),
            dir: self.reader.shared.dir.to_owned(),
            stages,
            edges,
            shared: objects,
            stop,
        });
        (pipeline, env_files)
    }

    fn value(&self, key: &str) -> Option<&Node> {
        self.fields.get(key).map(|entry| &entry.value)
    }

    fn version(&self) {
        let Some(node) = self.value("version") else { return };
        let version = self.reader.integer("`version`", node, 0..=i128::MAX);
        if let Some(version) = version.filter(|version| *version != 1) {
            let message = format!("language version {version} is not known");
            let help = "write `version: 1`, or update `mpflow`";
            let label = "this `mpflow` reads version 1";
            self.reader
                .report(Finding::error(code::UNSUPPORTED_VERSION, message).at(node.span, label).help(help));
        }
    }

    fn name(&self, reader: Reader<'_>, path: &Path) -> String {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = self.fields.read("name", |what, node| reader.full_text(what, node));
        name.or(stem).unwrap_or_else(|| "pipeline".to_owned())
    }

    /// The files' variables with those of `env` on top.
    fn environment(&self, reader: Reader<'_>) -> (Vec<(String, String)>, Vec<PathBuf>) {
        let (mut variables, files) =
            self.value("env_file").map(|node| reader.env_files(node)).unwrap_or_default();
        if let Some(node) = self.value("env") {
            for (name, value) in reader.environment(node, |what, node| reader.loose_text(what, node)) {
                put(&mut variables, name, value);
            }
        }
        (variables, files)
    }

    /// The entries of `defaults`. Their values are read where they are used.
    fn defaults(&self, reader: Reader<'_>) -> Vec<Entry> {
        let Some(node) = self.value("defaults") else { return Vec::new() };
        let Some(mut entries) = reader.entries("`defaults`", node) else { return Vec::new() };
        entries.retain(|entry| {
            let body = keys::BODIES.contains(&entry.key.as_str());
            if body {
                let message = format!("`defaults` cannot have a `{}`", entry.key);
                let help = "say in each stage what it runs";
                let label = "every stage has a body of its own";
                reader
                    .report(Finding::error(code::UNKNOWN_KEY, message).at(entry.key_span, label).help(help));
            }
            !body
        });
        Fields::new(reader, "`defaults`", entries, node.span, &keys::defaults()).entries
    }

    fn stages(
        &self,
        reader: Reader<'_>,
        defaults: &[Entry],
        env: &[(String, String)],
        stop: StopPolicy,
        places: &mut Places,
    ) -> Option<Vec<Stage>> {
        let Some(entry) = self.fields.get("stages") else {
            if self.fields.misspelt.contains(&"stages") {
                return None;
            }
            return missing_stages(reader, "the document has no `stages`", self.fields.span);
        };
        let entries = reader.entries("`stages`", &entry.value)?;
        if entries.is_empty() {
            return missing_stages(reader, "`stages` is empty", entry.key_span);
        }
        self.check_pools(reader, &entries);
        let common = Common {
            reader,
            defaults,
            used_defaults: RefCell::new(HashSet::new()),
            env,
            stop,
            cpus: self.options.cpus,
            pools: &self.options.pool,
        };
        let stages: Vec<_> = entries.iter().map(|entry| common.read(entry, places)).collect();
        let used = common.used_defaults.into_inner();
        warn_unused_defaults(reader, defaults, &used);
        Some(stages)
    }

    /// Checks `--pool STAGE=N`.
    fn check_pools(&self, reader: Reader<'_>, stages: &[Entry]) {
        for (name, width) in &self.options.pool {
            let finding = if !stages.iter().any(|stage| stage.key == *name) {
                let near = nearest(name, stages.iter().map(|stage| stage.key.as_str()));
                Finding::error(
                    code::UNKNOWN_STAGE,
                    format!("`--pool {name}={width}` names no stage of this pipeline"),
                )
                .maybe_help(near.map(|near| format!("did you mean `--pool {near}={width}`?")))
            } else if !super::pool::is_width(*width) {
                Finding::error(code::OUT_OF_RANGE, format!("`--pool {name}={width}` is not a width"))
                    .help("write a number of at least 1")
            } else {
                continue;
            };
            reader.report(finding);
        }
    }

    fn edges(&self, reader: Reader<'_>, defaults: &[Entry], places: &mut Places) -> Vec<Edge> {
        let format = defaults.iter().find(|entry| entry.key == keys::FORMAT);
        let Some(node) = self.value("edges") else { return Vec::new() };
        edge::read_all(reader, node, format, places)
    }
}

/// The restart policy of a stage that does not say. A function that no queue feeds has no leased records, which its
/// workers could be restarted for: it is not, as any stage whose records are not leased.
pub(in crate::language) fn unset_restart(stage: &Stage, edges: &[Edge]) -> Restart {
    let is_input = |end: &Endpoint| matches!(end, Endpoint::Stage { stage: of, port } if *of == stage.name && port == STDIN);
    let is_fed = edges.iter().any(|edge| matches!(edge.kind, EdgeKind::Queue(_)) && is_input(&edge.to));
    match &stage.body {
        Body::Python(_) | Body::Function(_) if !is_fed => default_restart(Mode::Stream),
        _ => default_restart(stage.mode),
    }
}

fn settle_restart(stage: &mut Stage, edges: &[Edge], places: &Places) {
    if !places.has(&Place::StageKey(stage.name.clone(), "restart")) {
        stage.restart = unset_restart(stage, edges);
    }
}

fn missing_stages<T>(reader: Reader<'_>, message: &str, span: Span) -> Option<T> {
    let help = "write `stages: {hello: {command: echo hello}}`";
    reader.mistake(code::MISSING_KEY, message, span, "a pipeline needs at least one stage", help)
}

/// A default that fits no stage is never read, so nobody would learn of a mistake in it.
fn warn_unused_defaults(reader: Reader<'_>, defaults: &[Entry], used: &HashSet<String>) {
    for entry in defaults.iter().filter(|entry| entry.key != keys::FORMAT && !used.contains(&entry.key)) {
        let message = format!("default `{}` is used by no stage", entry.key);
        let label = "every stage says it itself, or it fits none";
        reader.report(Finding::warning(code::KEY_WITHOUT_EFFECT, message).at(entry.key_span, label));
    }
}
