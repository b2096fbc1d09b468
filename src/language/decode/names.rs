//! Names that the user gives.

use super::reader::Reader;
use crate::language::Span;
use crate::language::diagnostic::{Finding, code};
use crate::model::{STDIN, STDOUT};

/// The name of a stage or port: `[A-Za-z_][A-Za-z0-9_-]*`.
pub(super) fn is_name(text: &str) -> bool {
    is_identifier_start(text) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// A name that is one in Python, Rust and expressions too: `[A-Za-z_][A-Za-z0-9_]*`.
pub(super) fn is_identifier(text: &str) -> bool {
    is_identifier_start(text) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_identifier_start(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// What a bad name may have been meant to be.
fn repaired(text: &str, allows_dash: bool) -> Option<String> {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '_' || (allows_dash && c == '-');
    let name: String = text.chars().map(|c| if kept(c) { c } else { '_' }).collect();
    let name = if is_identifier_start(&name) { name } else { format!("_{name}") };
    name.contains(|c: char| c.is_ascii_alphanumeric()).then_some(name)
}

impl Reader<'_> {
    /// Checks the name of a stage.
    pub(super) fn stage_name(self, name: &str, span: Span) -> Option<()> {
        if name == STDIN || name == STDOUT {
            let stream = if name == STDIN { "input" } else { "output" };
            return self.mistake(
                code::RESERVED_NAME,
                format!("`{name}` cannot be the name of a stage"),
                span,
                format!("in an edge it stands for `mpflow`'s own standard {stream}"),
                "give the stage another name",
            );
        }
        if is_name(name) {
            return Some(());
        }
        let rule = "a name begins with a letter or `_` and goes on with letters, digits, `_` and `-`";
        self.bad_name("a stage", name, span, rule, true)
    }

    /// Checks a name that has to be an identifier.
    pub(super) fn identifier(self, what: &str, name: &str, span: Span) -> Option<()> {
        if is_identifier(name) {
            return Some(());
        }
        let rule = "this name begins with a letter or `_` and goes on with letters, digits and `_`";
        self.bad_name(what, name, span, rule, false)
    }

    fn bad_name(self, what: &str, name: &str, span: Span, rule: &str, allows_dash: bool) -> Option<()> {
        let help = repaired(name, allows_dash).map(|name| format!("write `{name}`"));
        self.report(
            Finding::error(code::INVALID_NAME, format!("`{name}` cannot be the name of {what}"))
                .at(span, rule)
                .maybe_help(help),
        );
        None
    }

    /// Checks the name of an environment variable.
    pub(super) fn variable_name(self, name: &str, span: Span) -> Option<()> {
        let (code, label, help) = if name.is_empty() {
            (code::INVALID_NAME, "this is empty", "give the variable a name")
        } else if name.contains(['=', '\0']) {
            (code::INVALID_NAME, "no name has a `=` or a NUL byte in it", "write `NAME: value`")
        } else if name.starts_with("MPFLOW_") {
            (
                code::RESERVED_NAME,
                "`mpflow` sets the variables that begin with `MPFLOW_` itself",
                "give the variable another name",
            )
        } else {
            return Some(());
        };
        let message = format!("`{}` cannot be the name of an environment variable", name.escape_debug());
        self.mistake(code, message, span, label, help)
    }
}
