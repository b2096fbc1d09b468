//! One mistake as it is found, before it is joined with the text.

use crate::language::Span;
use crate::model::Severity;

/// One mistake: what, where by offsets, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::language) struct Finding {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    pub(super) message: String,
    /// The first is the primary one.
    pub(super) labels: Vec<(Span, String)>,
    pub(super) help: Option<String>,
}

impl Finding {
    /// An error with no label yet.
    pub(in crate::language) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), labels: Vec::new(), help: None }
    }

    /// A warning with no label yet.
    pub(in crate::language) fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// The same with another severity.
    #[must_use]
    pub(in crate::language) fn with_severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same with one more label.
    #[must_use]
    pub(in crate::language) fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push((span, text.into()));
        self
    }

    /// The same with a way out.
    #[must_use]
    pub(in crate::language) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with a way out, if there is one.
    #[must_use]
    pub(in crate::language) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Whether it stops the run.
    pub(in crate::language) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
