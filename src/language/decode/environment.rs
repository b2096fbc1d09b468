//! `env` and `env_file`.

use std::path::{Path, PathBuf};

use super::reader::Reader;
use crate::language::Span;
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::{Kind, Node};

/// A file of variables may be this large, in bytes: it is read whole.
const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

/// Puts a variable in, in the place of an earlier one of its name.
pub(super) fn put<T>(variables: &mut Vec<(String, T)>, name: String, value: T) {
    match variables.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => variables.push((name, value)),
    }
}

impl Reader<'_> {
    /// A map of environment variables, each value read by `read`.
    pub(super) fn environment<T>(
        self,
        node: &Node,
        read: impl Fn(&str, &Node) -> Option<T>,
    ) -> Vec<(String, T)> {
        let mut variables = Vec::new();
        for entry in self.entries("`env`", node).unwrap_or_default() {
            let name = self.variable_name(&entry.key, entry.key_span);
            let value = match &entry.value.kind {
                Kind::Null(_) => self.mistake(
                    code::WRONG_TYPE,
                    format!("variable `{}` has no value", entry.key),
                    entry.value.span,
                    "found nothing",
                    "write `\"\"` for an empty value, or remove the variable to inherit it",
                ),
                _ => read(&format!("variable `{}`", entry.key), &entry.value),
            };
            if let (Some(()), Some(value)) = (name, value) {
                put(&mut variables, entry.key, value);
            }
        }
        variables
    }

    /// One or more files of variables, in order, and the files themselves.
    pub(super) fn env_files(self, node: &Node) -> (Vec<(String, String)>, Vec<PathBuf>) {
        let what = "`env_file`";
        let Some(resolved) = self.resolve(node) else { return (Vec::new(), Vec::new()) };
        let nodes = match &resolved.kind {
            Kind::List(items) => items.clone(),
            _ => vec![resolved.into_owned()],
        };
        let (mut variables, mut files) = (Vec::new(), Vec::new());
        for node in &nodes {
            let Some(path) = self.path(what, node) else { continue };
            for (name, value) in self.env_file(&path, node.span) {
                put(&mut variables, name, value);
            }
            files.push(path);
        }
        (variables, files)
    }

    fn env_file(self, path: &Path, span: Span) -> Vec<(String, String)> {
        let text = match read_text(path) {
            Ok(text) => text,
            Err(reason) => {
                let message = format!("cannot read the file of variables `{}`", path.display());
                self.report(Finding::error(code::ENV_FILE, message).at(span, reason));
                return Vec::new();
            }
        };
        let mut variables = Vec::new();
        for item in dotenvy::from_read_iter(text.as_bytes()) {
            match item {
                Ok((name, value)) if !name.starts_with("MPFLOW_") => variables.push((name, value)),
                Ok((name, _)) => {
                    let message = format!("`{}` sets `{name}`", path.display());
                    let label = "this file sets a variable that `mpflow` sets itself";
                    self.report(Finding::error(code::RESERVED_NAME, message).at(span, label));
                }
                Err(error) => {
                    self.report(bad_line(&error, path, &text, span));
                    break;
                }
            }
        }
        variables
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_ENV_FILE_BYTES {
        return Err("it is larger than 1 MiB".to_owned());
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The library's own message holds the line, which may be a secret: only its number is shown.
fn bad_line(error: &dotenvy::Error, path: &Path, text: &str, span: Span) -> Finding {
    let number = match error {
        dotenvy::Error::LineParse(bad, _) => {
            let first = bad.lines().next().unwrap_or_default().trim();
            text.lines().position(|line| line.trim() == first).map(|index| index + 1)
        }
        _ => None,
    };
    let place = number.map_or_else(String::new, |number| format!(", line {number},"));
    Finding::error(code::ENV_FILE, format!("`{}`{place} cannot be read", path.display()))
        .at(span, "every line of this file must be `NAME=value` or a comment")
        .help("put a value with blanks, quotes or `#` into quotes: `NAME=\"a b\"`")
}
