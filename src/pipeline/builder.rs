//! A pipeline said in code.

use std::fmt::Display;
use std::panic::Location;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::part::Part;
use super::{Edge, Format, Pipeline, Shared, Stage, StopPolicy};
use crate::language::write::{self, Entry, Item, Written, Yaml};
use crate::language::{Diagnostics, Document, ParseOptions};

/// A pipeline that is being said in code: all that a document can say. See [`Pipeline::builder`].
///
/// Each method says one key, and the last to say it counts. What is wrong is found by [`PipelineBuilder::build`], all of
/// it, by the same checks as in a document; a [diagnostic](crate::language::Diagnostic) names the call that said it.
///
/// Texts may hold expressions, as in a document: `"${{ worker.rank }}"`. [`literal`](super::literal) makes one that stands
/// for itself.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing before `build`"]
pub struct PipelineBuilder {
    top: Part,
    stages: Vec<Entry>,
    edges: Vec<Item>,
    dir: Option<PathBuf>,
    built_at: &'static Location<'static>,
}

impl PipelineBuilder {
    #[track_caller]
    pub(super) fn new(name: String) -> Self {
        let mut top = Part::default();
        top.set("name", Yaml::Text(name));
        Self { top, stages: Vec::new(), edges: Vec::new(), dir: None, built_at: Location::caller() }
    }

    /// Free text.
    #[track_caller]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.top.set("description", Yaml::text(text));
        self
    }

    /// The folder that relative paths start from, and the workers' working directory. Without it, the current folder.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// A value for expressions: `${{ vars.NAME }}`.
    ///
    /// # Panics
    ///
    /// If it is no value of JSON: a map whose keys are not text, or a number that is not finite.
    #[track_caller]
    pub fn var(mut self, name: &str, value: impl Serialize) -> Self {
        self.top.add("vars", name, json(value).into());
        self
    }

    /// A variable of the environment of every worker.
    #[track_caller]
    pub fn env(mut self, name: &str, value: impl Display) -> Self {
        self.top.add("env", name, Yaml::Text(value.to_string()));
        self
    }

    /// Files with variables of the environment of every worker, which [`PipelineBuilder::env`] is put on top of. They are
    /// read by [`PipelineBuilder::build`].
    #[track_caller]
    pub fn env_files<P: AsRef<Path>>(mut self, files: impl IntoIterator<Item = P>) -> Self {
        let files = files.into_iter().map(|file| Yaml::text(file.as_ref().to_string_lossy()));
        self.top.set("env_file", Yaml::list(files));
        self
    }

    /// What every stage says that does not say it itself, where it fits: made by [`Stage::defaults`].
    #[track_caller]
    pub fn defaults(mut self, defaults: Stage) -> Self {
        for Entry { key, value, .. } in defaults.entries() {
            self.top.add("defaults", key, value.clone());
        }
        self
    }

    /// The format of every queue that does not say one.
    #[track_caller]
    pub fn default_format(mut self, format: Format) -> Self {
        self.top.add("defaults", "format", Yaml::text(format.as_str()));
        self
    }

    /// One more stage. Its name is `[A-Za-z_][A-Za-z0-9_-]*`.
    #[track_caller]
    pub fn stage(mut self, name: impl Into<String>, stage: Stage) -> Self {
        let origin = Some(Location::caller());
        self.stages.push(Entry { key: name.into(), value: stage.into_yaml(), origin });
        self
    }

    /// One more edge, or a chain of them.
    #[track_caller]
    pub fn edge(mut self, edge: Edge) -> Self {
        self.edges.push(Item { value: edge.into_yaml(), origin: Some(Location::caller()) });
        self
    }

    /// One more object that all workers share.
    #[track_caller]
    pub fn shared(mut self, name: &str, object: Shared) -> Self {
        self.top.add("shared", name, object.0);
        self
    }

    /// How the run as a whole is ended; each stage that says nothing else, too.
    #[track_caller]
    pub fn stop(mut self, stop: StopPolicy) -> Self {
        self.top.set("stop", write::stop(stop));
        self
    }

    /// What was said so far, as a document: expressions as they were written, relative paths as they are.
    pub fn to_yaml(&self) -> String {
        self.written().text
    }

    fn written(&self) -> Written {
        let mut entries = self.top.entries().to_vec();
        // After what says what the pipeline is, and before what few pipelines have.
        let rest = entries.iter().position(|entry| matches!(entry.key.as_str(), "shared" | "stop"));
        let rest = entries.split_off(rest.unwrap_or(entries.len()));
        let entry = |key: &str, value| Entry { key: key.to_owned(), value, origin: None };
        entries.push(entry("stages", Yaml::Map(self.stages.clone())));
        if !self.edges.is_empty() {
            entries.push(entry("edges", Yaml::List(self.edges.clone())));
        }
        entries.extend(rest);
        Written::document(&entries)
    }

    /// Checks it, with the environment of this process.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, with the warnings among it.
    pub fn build(self) -> Result<Pipeline, Diagnostics> {
        self.build_with(&ParseOptions::of_this_process())
    }

    /// Checks it.
    ///
    /// # Errors
    ///
    /// As [`PipelineBuilder::build`].
    pub fn build_with(self, options: &ParseOptions) -> Result<Pipeline, Diagnostics> {
        // Only the folder of this name means anything.
        let path = self.dir.clone().unwrap_or_default().join("pipeline.yaml");
        let document = Document::built(self.written(), self.built_at, &path, options)?;
        Pipeline::checked(document, options)
    }
}

#[track_caller]
pub(super) fn json(value: impl Serialize) -> serde_json::Value {
    match serde_json::to_value(value) {
        Ok(value) => value,
        Err(error) => panic!("it is no value of JSON: {error}"),
    }
}
