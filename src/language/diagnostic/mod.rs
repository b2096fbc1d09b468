//! What is wrong with a document, where, and what to do about it.
//!
//! A [`Finding`] is collected while the document is read; it knows only offsets. [`Diagnostics`] joins findings
//! with the text they speak of, in one constructor that keeps every label inside that text.

pub(super) mod code;
mod finding;
mod json;
mod list;
mod plain;
mod source;

pub(super) use finding::Finding;
pub use list::{Diagnostic, Diagnostics, Label};
pub(super) use source::Source;
