//! What is wrong with a pipeline, and where, before anyone knows how it was written down.

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; the pipeline runs.
    Warning,
    /// The pipeline is not started.
    Error,
}

/// A place in a pipeline. `language` knows the span of each in its document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A key of the document's top level.
    Top(&'static str),
    /// The name of a stage.
    Stage(String),
    /// The value of a key of a stage; the stage's name where it does not say the key itself.
    StageKey(String, &'static str),
    /// The arrow of an edge, by its number in the pipeline, from 0; a chain is as many edges.
    Edge(usize),
    /// The name at the edge's producing end.
    EdgeFrom(usize),
    /// The name at the edge's consuming end.
    EdgeTo(usize),
    /// The value of a key of an edge; its arrow where it does not say the key itself.
    EdgeKey(usize, &'static str),
}

/// A place, and what is to be said there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub place: Place,
    /// What, a short lower-case fragment.
    pub text: String,
}

/// One thing that is wrong, in words a user can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable and searchable: `mpflow::unknown_stage`.
    pub code: &'static str,
    /// A lower-case fragment with names in backticks.
    pub message: String,
    /// Where it is; the first is the primary one.
    pub labels: Vec<Label>,
    /// An edit or a command that mends it.
    pub help: Option<String>,
    /// Whether it stops the run.
    pub severity: Severity,
}

impl Problem {
    /// An error with no label yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), labels: Vec::new(), help: None, severity: Severity::Error }
    }

    /// A warning with no label yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// The same with one more label.
    #[must_use]
    pub fn at(mut self, place: Place, text: impl Into<String>) -> Self {
        self.labels.push(Label { place, text: text.into() });
        self
    }

    /// The same with a way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
