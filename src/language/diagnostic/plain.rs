//! Diagnostics as plain text, for logs and for programs that embed the crate.

use std::fmt;

use super::{Diagnostic, Diagnostics};
use crate::model::Severity;

impl Diagnostics {
    /// Every diagnostic as a compiler prints it: `FILE:LINE:COLUMN: error: MESSAGE [CODE]`, the line, the labels.
    pub fn plain(&self) -> impl fmt::Display + '_ {
        Plain(self)
    }
}

struct Plain<'a>(&'a Diagnostics);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write_one(f, diagnostic)?;
        }
        match self.0.omitted() {
            0 => Ok(()),
            omitted => write!(f, "\n… and {omitted} more"),
        }
    }
}

fn write_one(f: &mut fmt::Formatter<'_>, diagnostic: &Diagnostic) -> fmt::Result {
    f.write_str(diagnostic.file())?;
    if let Some(label) = diagnostic.labels().first() {
        let (line, column) = diagnostic.position(label);
        write!(f, ":{line}:{column}")?;
    }
    let severity = match diagnostic.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    write!(f, ": {severity}: {} [{}]", diagnostic.message(), diagnostic.code())?;
    for (index, label) in diagnostic.labels().iter().enumerate() {
        let source = diagnostic.source();
        let start = label.span().start;
        if let Some(origin) = source.origin(start).filter(|_| index > 0) {
            write!(f, "\n  at {origin}:")?;
        }
        let (line, column) = source.position_in_text(start);
        let width = label.span().of(&diagnostic.source().text).chars().count().max(1);
        let gap = " ".repeat(column - 1);
        // A tab would put the marks under the wrong column.
        // The line of a document that code has written is nowhere else to be found.
        let number = if source.origin(start).is_some() { String::new() } else { line.to_string() };
        write!(f, "\n  {number:>4} | {}", source.line(line).replace('\t', " "))?;
        write!(f, "\n       | {gap}{} {}", "^".repeat(width), label.text())?;
    }
    match diagnostic.help() {
        Some(help) => write!(f, "\n  help: {help}"),
        None => Ok(()),
    }
}
