//! Diagnostics for editors and CI.

use serde_json::{Value, json};

use super::{Diagnostic, Diagnostics, Label};
use crate::model::Severity;

impl Diagnostics {
    /// A list with an object for each: `file`, `code`, `severity`, `message`, `help` and `labels`, the primary one
    /// first, each with `line`, `column`, `end_line`, `end_column` (from 1, in characters), `offset`, `length` (in
    /// bytes) and `text`.
    pub fn to_json(&self) -> Value {
        self.iter().map(Diagnostic::to_json).collect()
    }
}

impl Diagnostic {
    /// One object of [`Diagnostics::to_json`].
    pub fn to_json(&self) -> Value {
        let severity = match self.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        json!({
            "file": self.file(),
            "code": self.code(),
            "severity": severity,
            "message": self.message(),
            "help": self.help(),
            "labels": self.labels().iter().map(|label| self.label_json(label)).collect::<Vec<_>>(),
        })
    }

    fn label_json(&self, label: &Label) -> Value {
        let (line, column) = self.position(label);
        let (end_line, end_column) = match self.source().origin(label.span().start) {
            Some(_) => (line, column),
            None => self.source().position(label.span().end),
        };
        json!({
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "offset": label.span().start,
            "length": label.span().len(),
            "text": label.text(),
        })
    }
}
