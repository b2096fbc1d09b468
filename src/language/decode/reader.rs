//! What every reader has at hand.

use std::cell::RefCell;
use std::path::Path;

use crate::language::Span;
use crate::language::diagnostic::{Finding, code};
use crate::language::expression::{Evaluator, Scope};
use crate::language::tree::{Kind, Node};

/// What is the same for the whole document.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) text: &'a str,
    /// The document's folder, absolute.
    pub(super) dir: &'a Path,
    pub(super) evaluator: Evaluator,
    pub(super) findings: RefCell<Vec<Finding>>,
}

/// The document, and the names that expressions know at one place of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) scope: &'a Scope,
}

impl<'a> Reader<'a> {
    /// The same document at a place with other names.
    pub(super) fn with_scope<'b>(self, scope: &'b Scope) -> Reader<'b>
    where
        'a: 'b,
    {
        Reader { shared: self.shared, scope }
    }

    pub(super) fn report(self, finding: Finding) {
        self.shared.findings.borrow_mut().push(finding);
    }

    /// Reports that a value is not what it should be, and answers `None` for the caller to pass on.
    ///
    /// `what` names the value (`` `pool` ``), `expected` its type with an article. The value itself is never
    /// shown: it may be a secret.
    pub(super) fn wrong_type<T>(self, what: &str, expected: &str, node: &Node) -> Option<T> {
        self.report(
            Finding::error(code::WRONG_TYPE, format!("{what} must be {expected}"))
                .at(node.span, format!("found {}", node.describe()))
                .maybe_help(type_help(expected, node)),
        );
        None
    }

    /// Reports a mistake whose label repeats nothing of the value, and answers `None`.
    pub(super) fn mistake<T>(
        self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.report(Finding::error(code, message).at(span, label).help(help));
        None
    }

    /// Where `part` stands inside of a value's source text; the whole value where it is not found literally.
    pub(super) fn span_of(self, part: &str, span: Span) -> Span {
        match span.of(self.shared.text).find(part) {
            Some(offset) => Span::new(span.start + offset, span.start + offset + part.len()),
            None => span,
        }
    }
}

/// What to do about the commonest slips.
fn type_help(expected: &str, node: &Node) -> Option<String> {
    let wants_number = expected.contains("integer") || expected.contains("number");
    let help = match &node.kind {
        Kind::Evaluated(_) if wants_number => "an expression's text becomes an integer by `| int`",
        Kind::Text(text) if wants_number && text.parse::<f64>().is_ok() => "remove the quotes",
        Kind::Text(text) if expected.contains("`true`") => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => "write `true`: only YAML 1.1 took other words for it",
            "no" | "off" | "n" => "write `false`: only YAML 1.1 took other words for it",
            "true" | "false" => "remove the quotes",
            _ => return None,
        },
        Kind::Integer(..) | Kind::Float(..) | Kind::Bool(_) if expected.starts_with("text") => {
            "put it into quotes"
        }
        Kind::Null(text) if expected.starts_with("text") && !text.is_empty() => "put it into quotes",
        Kind::Text(_) if expected.starts_with("a list") => "put it into brackets: `[…]`",
        _ => return None,
    };
    Some(help.to_owned())
}
