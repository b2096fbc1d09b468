//! Paths, and files in the place of edges.

use std::path::{Component, Path, PathBuf};

use super::reader::Reader;
use crate::language::diagnostic::code;
use crate::language::tree::{Kind, Node};
use crate::model::Redirect;

impl Reader<'_> {
    /// A path, relative to the document's folder.
    pub(super) fn path(self, what: &str, node: &Node) -> Option<PathBuf> {
        let text = self.full_text(what, node)?;
        if text == "~" || text.starts_with("~/") {
            return self.mistake(
                code::INVALID_VALUE,
                format!("{what} begins with `~`"),
                node.span,
                "only a shell replaces this by the home folder",
                "write `${{ env.HOME }}` instead of `~`",
            );
        }
        Some(self.absolute(&text))
    }

    /// The path from the document's folder, without `.` in it. `..` stays: it may follow a symbolic link.
    pub(super) fn absolute(self, path: impl AsRef<Path>) -> PathBuf {
        let joined = self.shared.dir.join(path);
        joined.components().filter(|part| *part != Component::CurDir).collect()
    }

    /// `null` or a path.
    pub(super) fn file(self, what: &str, node: &Node) -> Option<Redirect> {
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::Null(_) => Some(Redirect::Null),
            Kind::Text(text) | Kind::Evaluated(text) if text == "null" => Some(Redirect::Null),
            Kind::Text(text) | Kind::Evaluated(text) if text == "inherit" => self.mistake(
                code::INVALID_VALUE,
                format!("{what} cannot be `inherit`"),
                node.span,
                "expected `null` or a path",
                "remove the key, or join `mpflow`'s own stream by an edge: `queue: stdin -> …`, `queue: … -> stdout`",
            ),
            _ => self.path(what, &node).map(Redirect::File),
        }
    }

    /// `inherit`, `null` or a path.
    pub(super) fn file_or_inherit(self, what: &str, node: &Node) -> Option<Redirect> {
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::Text(text) | Kind::Evaluated(text) if text == "inherit" => Some(Redirect::Inherit),
            _ => self.file(what, &node),
        }
    }
}
