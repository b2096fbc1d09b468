//! `command`, `python`, `function`, and other names of Python callables.

use super::names::is_identifier;
use super::reader::Reader;
use crate::language::diagnostic::code;
use crate::language::tree::{Kind, Node};
use crate::model::Command;

impl Reader<'_> {
    /// A list is a program and its arguments, a text goes to the shell.
    pub(super) fn command(self, what: &str, node: &Node) -> Option<Command> {
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::Text(_) | Kind::Evaluated(_) => self.full_text(what, &node).map(Command::Shell),
            Kind::List(_) => {
                let element = format!("an element of {what}");
                let argv = self.each(what, &node, |node| self.loose_text(&element, node))?;
                if argv.first().is_some_and(|program| !program.trim().is_empty()) {
                    return Some(Command::Argv(argv));
                }
                let help = "write `[PROGRAM, ARGUMENT, …]`";
                self.mistake(
                    code::INVALID_VALUE,
                    format!("{what} names no program"),
                    node.span,
                    "nothing to run",
                    help,
                )
            }
            _ => self.wrong_type(what, "text for the shell, or a list of a program and its arguments", &node),
        }
    }

    /// `module:callable` or `path/file.py:callable`; the path becomes absolute.
    pub(super) fn callable(self, what: &str, node: &Node) -> Option<String> {
        let text = self.full_text(what, node)?;
        let (place, name) = text.rsplit_once(':').unwrap_or((&text, ""));
        let is_dotted = |text: &str| text.split('.').all(is_python_identifier);
        if is_dotted(name) && place.ends_with(".py") {
            return Some(format!("{}:{name}", self.absolute(place).display()));
        }
        if is_dotted(name) && is_dotted(place) {
            return Some(text);
        }
        let label = match name {
            "" => "no callable is named after a `:`",
            _ if place.contains('/') => "a path must end with `.py`",
            _ => "not a module and a callable of it",
        };
        self.mistake(
            code::INVALID_VALUE,
            format!("{what} must be `module:callable` or `path/file.py:callable`"),
            node.span,
            label,
            "write for instance `tasks:square`",
        )
    }

    /// A Python module's name.
    pub(super) fn module(self, node: &Node) -> Option<String> {
        let text = self.full_text("an element of `preload`", node)?;
        if text.split('.').all(is_python_identifier) {
            return Some(text);
        }
        let help = "write a module's name as in `import`: `numpy` or `package.module`";
        self.mistake(
            code::INVALID_VALUE,
            "`preload` is a list of Python modules",
            node.span,
            "not a module's name",
            help,
        )
    }
}

/// Python allows letters of all alphabets.
fn is_python_identifier(text: &str) -> bool {
    is_identifier(text)
        || (text.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
            && text.chars().all(|c| c.is_alphanumeric() || c == '_'))
}
