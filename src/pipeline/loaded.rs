//! A pipeline that is right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::PipelineBuilder;
use crate::change::Change;
use crate::explanation::{Explanation, Machine};
use crate::graph::draw::{self, Charset};
use crate::graph::{self, Plan, plan_for};
use crate::language::{Diagnostics, Document, ParseOptions, write};
use crate::model::Problem;

/// A pipeline in which nothing is wrong: stages joined by edges, ready to be run by any number of
/// [engines](crate::Engine).
///
/// Two pipelines are equal when the same would be run.
#[derive(Debug, Clone)]
pub struct Pipeline {
    document: Document,
    plan: Plan,
    warnings: Diagnostics,
}

/// How a pipeline is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// For a terminal.
    Text(Charset),
    /// For Graphviz.
    Dot,
    /// For Markdown pages.
    Mermaid,
    /// A picture.
    Svg,
}

impl PartialEq for Pipeline {
    fn eq(&self, other: &Self) -> bool {
        self.document.pipeline() == other.document.pipeline()
    }
}

impl Pipeline {
    /// Reads a file. Relative paths in it start from its folder; expressions know the environment of this process.
    ///
    /// # Errors
    ///
    /// All mistakes in the file, with the warnings among them; or the one reason why it cannot be read.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, Diagnostics> {
        Self::from_path_with(path, &ParseOptions::of_this_process())
    }

    /// Reads a file, with other values for its `vars`, another environment or other widths of its pools.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::from_path`].
    pub fn from_path_with(path: impl AsRef<Path>, options: &ParseOptions) -> Result<Self, Diagnostics> {
        Document::load(path.as_ref(), options).and_then(|document| Self::checked(document, options))
    }

    /// Reads a text as if it were the file `pipeline.yaml` in the current folder.
    ///
    /// # Errors
    ///
    /// All mistakes in the text, with the warnings among them.
    pub fn from_yaml(text: &str) -> Result<Self, Diagnostics> {
        Self::from_yaml_with(text, "pipeline.yaml", &ParseOptions::of_this_process())
    }

    /// Reads a text as if it were this file, of which nothing is read.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::from_yaml`].
    pub fn from_yaml_with(
        text: &str,
        path: impl AsRef<Path>,
        options: &ParseOptions,
    ) -> Result<Self, Diagnostics> {
        Document::parse(text, path.as_ref(), options).and_then(|document| Self::checked(document, options))
    }

    /// Begins a pipeline in code.
    #[track_caller]
    pub fn builder(name: impl Into<String>) -> PipelineBuilder {
        PipelineBuilder::new(name.into())
    }

    pub(super) fn checked(document: Document, options: &ParseOptions) -> Result<Self, Diagnostics> {
        let mut diagnostics = document.warnings().clone();
        match plan_for(document.pipeline(), options.ends) {
            Ok(planned) => {
                diagnostics.extend(document.diagnose(planned.warnings));
                Ok(Self { document, plan: planned.plan, warnings: diagnostics })
            }
            Err(problems) => {
                diagnostics.extend(document.diagnose(problems));
                Err(diagnostics)
            }
        }
    }

    /// Its name: that of its file where the document does not say.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// What it says of itself; empty where it says nothing.
    pub fn description(&self) -> &str {
        &self.document.pipeline().description
    }

    /// The folder that relative paths started from, absolute.
    pub fn dir(&self) -> &Path {
        &self.plan.dir
    }

    /// The names of its stages, in the order in which they are declared.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        self.plan.stages.iter().map(|stage| stage.stage.name.as_str())
    }

    /// The files that it was read from, absolute: its own, unless it was read from a text or built, and the `env_file`s.
    pub fn files(&self) -> Vec<PathBuf> {
        let own = Some(self.document.path().to_owned()).filter(|path| path.is_file());
        own.into_iter().chain(self.document.env_files().iter().cloned()).collect()
    }

    /// The files that its runs depend on as far as that is known before one is started: see [`crate::watch`].
    #[cfg(feature = "watch")]
    pub fn watch_set(&self) -> crate::watch::WatchSet {
        crate::watch::WatchSet::of(self.document.pipeline(), &self.files())
    }

    /// The document as it was read, or as the builder has written it.
    pub fn text(&self) -> &str {
        self.document.text()
    }

    /// Whether anything can come to the `stdout` of its runs.
    pub fn writes_stdout(&self) -> bool {
        self.plan.queues.iter().any(|queue| queue.to.is_none())
    }

    /// What is worth knowing of it though it can be run.
    pub fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }

    /// It as a document: every expression evaluated, every path absolute, every default left out. Read again from the
    /// same folder it is the same pipeline.
    ///
    /// The values of `env` and of `env_file`s stand in it, secrets too.
    pub fn to_yaml(&self) -> String {
        write::write(self.document.pipeline())
    }

    /// A drawing of its stages and edges. Secrets are not in it.
    pub fn draw(&self, drawing: Drawing) -> String {
        match drawing {
            Drawing::Text(charset) => draw::text(&self.plan, charset),
            Drawing::Dot => draw::dot(&self.plan),
            Drawing::Mermaid => draw::mermaid(&self.plan),
            Drawing::Svg => draw::svg(&self.plan),
        }
    }

    /// What each of its paths promises, and what it needs of this machine.
    ///
    /// The memory is that of the engine where the standard streams are descriptors, which is at least what it has where a
    /// program sends values ([`Stdio::Values`](crate::Stdio::Values)). An [`Output`](crate::Output) holds the block of
    /// records besides that the program takes values from: 1 MiB, or one and a half of the longest record.
    pub fn explain(&self, machine: &Machine) -> Explanation {
        crate::explain::explain(&self.plan, machine)
    }

    /// What has to be done for a run of this pipeline to become one of another. `touched`: stages that are to have new
    /// workers though nothing that is said of them has changed, and why.
    pub fn compare(&self, new: &Self, touched: &BTreeMap<String, String>) -> Change {
        graph::compare(&self.plan, &new.plan, touched)
    }

    #[cfg(test)]
    pub(super) fn declared(&self) -> &crate::model::Pipeline {
        self.document.pipeline()
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Shows what was found wrong with it later at its places: in the document, or in the code.
    pub fn diagnose(&self, problems: Vec<Problem>) -> Diagnostics {
        self.document.diagnose(problems)
    }
}
