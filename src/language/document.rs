//! A document: its text, what it says, and where it says it.

use std::fs::File;
use std::io::Read;
use std::panic::Location;
use std::path::{Path, PathBuf};

use super::ParseOptions;
use super::decode::decode;
use super::diagnostic::{Diagnostics, Finding, Source, code};
use super::places::Places;
use super::tree::{self, MAX_BYTES};
use super::write::Written;
use crate::graph;
use crate::model::{Pipeline, Problem};

/// A document without mistakes.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pipeline: Pipeline,
    source: Source,
    places: Places,
    path: PathBuf,
    env_files: Vec<PathBuf>,
    warnings: Diagnostics,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// All mistakes in the file, with the warnings among them; or the one reason why it cannot be read.
    pub(crate) fn load(path: &Path, options: &ParseOptions) -> Result<Self, Diagnostics> {
        Self::parse(&read_file(path)?, path, options)
    }

    /// Reads a text. `path` is where relative paths start from and what diagnostics call the text; nothing is read
    /// from it, but `env_file`s are read.
    ///
    /// # Errors
    ///
    /// All mistakes in the text, with the warnings among them.
    pub(crate) fn parse(text: &str, path: &Path, options: &ParseOptions) -> Result<Self, Diagnostics> {
        Self::read(Source::new(path.display().to_string(), text), path, options)
    }

    /// Reads what code has written.
    pub(crate) fn built(
        written: Written,
        built_at: &'static Location<'static>,
        path: &Path,
        options: &ParseOptions,
    ) -> Result<Self, Diagnostics> {
        Self::read(Source::built(&written.text, built_at, written.origins), path, options)
    }

    fn read(source: Source, path: &Path, options: &ParseOptions) -> Result<Self, Diagnostics> {
        let text = &source.text;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if text.len() > MAX_BYTES {
            return Err(Diagnostics::new([too_large()], &Source::new(source.file, "")));
        }
        let mut findings = Vec::new();
        let Some(root) = tree::parse(text, &mut findings) else {
            return Err(Diagnostics::new(findings, &source));
        };
        let decoded = decode(&root, text, &absolute, options);
        findings.extend(decoded.findings);
        let has_errors = findings.iter().any(Finding::is_error);
        let Some(pipeline) = decoded.pipeline else { return Err(Diagnostics::new(findings, &source)) };
        if has_errors {
            findings.extend(graph_findings(&pipeline, &decoded.places));
            return Err(Diagnostics::new(findings, &source));
        }
        Ok(Self {
            pipeline,
            warnings: Diagnostics::new(findings, &source),
            source,
            places: decoded.places,
            path: absolute,
            env_files: decoded.env_files,
        })
    }

    /// What the document says.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The same, without the document.
    #[cfg(test)]
    pub(crate) fn into_pipeline(self) -> Pipeline {
        self.pipeline
    }

    /// The file, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The `env_file`s that were read, absolute.
    pub(crate) fn env_files(&self) -> &[PathBuf] {
        &self.env_files
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.source.text
    }

    /// What is worth knowing of a document that can be run.
    pub(crate) fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }

    /// Shows what other layers have found at its places in the text.
    pub(crate) fn diagnose(&self, problems: Vec<Problem>) -> Diagnostics {
        let findings = problems.into_iter().map(|problem| finding(problem, &self.places));
        Diagnostics::new(findings, &self.source)
    }
}

/// What can be said of the graph of a document that has mistakes already, so that a user sees all of them at once:
/// only what follows from names and edges, for anything else may be a consequence.
fn graph_findings(pipeline: &Pipeline, places: &Places) -> Vec<Finding> {
    const MANY: usize = 10_000;
    const CERTAIN: [&str; 4] =
        ["mpflow::unknown_stage", "mpflow::unknown_port", "mpflow::duplicate_edge", "mpflow::cycle"];
    // More would not be shown, and the graph of a document that is nothing but mistakes takes long to check.
    if pipeline.stages.len() + pipeline.edges.len() > MANY {
        return Vec::new();
    }
    let problems = graph::plan(pipeline).err().unwrap_or_default();
    let certain = problems.into_iter().filter(|problem| CERTAIN.contains(&problem.code));
    certain.map(|problem| finding(problem, places)).collect()
}

fn finding(problem: Problem, places: &Places) -> Finding {
    let mut finding = Finding::error(problem.code, problem.message)
        .with_severity(problem.severity)
        .maybe_help(problem.help);
    for label in problem.labels {
        // A place that the document does not have is still worth its words.
        let span = places.find(&label.place).unwrap_or_default();
        finding = finding.at(span, label.text);
    }
    finding
}

fn too_large() -> Finding {
    Finding::error(code::DOCUMENT_TOO_LARGE, "the document is larger than 1 MiB")
        .help("split the pipeline, or move data out of it into files of its own")
}

fn read_file(path: &Path) -> Result<String, Diagnostics> {
    let name = path.display().to_string();
    let refuse = |finding| Err(Diagnostics::new([finding], &Source::new(name.clone(), "")));
    let mut bytes = Vec::new();
    // One byte more than allowed tells a document that is too large without reading all of it: it may be a pipe.
    let limit = MAX_BYTES as u64 + 1;
    if let Err(error) = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        let finding = Finding::error(code::UNREADABLE_FILE, format!("cannot read `{name}`: {error}"));
        let help = "`mpflow init` writes a first pipeline".to_owned();
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        return refuse(finding.maybe_help(is_missing.then_some(help)));
    }
    if bytes.len() > MAX_BYTES {
        return refuse(too_large());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let line =
                error.as_bytes()[..error.utf8_error().valid_up_to()].split(|&byte| byte == b'\n').count();
            let message = format!("`{name}` is not UTF-8: line {line} has other bytes");
            refuse(Finding::error(code::NOT_UTF8, message).help("save the file as UTF-8"))
        }
    }
}
