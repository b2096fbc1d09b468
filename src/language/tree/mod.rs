//! The document as a tree in which every key and value knows its place.
//!
//! Only this module knows the YAML parser. It hands out [`Node`]s with aliases expanded and merge keys merged, and
//! a [`Finding`] for whatever is wrong with the text as YAML.
//!
//! [`Finding`]: super::diagnostic::Finding

mod build;
mod merge;
mod node;
mod scalar;
#[cfg(test)]
mod tests;

pub(super) use build::parse;
pub(super) use node::{Entry, Kind, Node, Origin};
pub(super) use scalar::from_command_line;

/// A document may be this large, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Lists and maps may be nested this deeply, aliases expanded.
const MAX_DEPTH: usize = 64;
/// Aliases may add this many nodes to a document.
const MAX_ALIAS_NODES: usize = 100_000;
