//! What is wrong with a document, and how one is read and checked: [`Pipeline::from_path`](crate::Pipeline::from_path)
//! goes through here, and so does what is built in code.
//!
//! ```text
//! text ── tree ──► nodes with spans ── decode ──► Pipeline, and the places of its parts
//!          │                            │ expression: ${{ … }}
//!          └───────── findings ─────────┴──► Diagnostics
//! ```
//!
//! The YAML parser is known only to `tree`, the expressions' language only to `expression`. Mistakes are collected,
//! never thrown: a document is refused with all of them. What later layers find wrong with the pipeline comes back
//! as [`Problem`](crate::pipeline::Problem)s and is shown at its place by
//! [`Pipeline::diagnose`](crate::Pipeline::diagnose).

mod decode;
mod diagnostic;
mod document;
mod expression;
mod options;
mod places;
mod schema;
mod span;
#[cfg(test)]
mod tests;
mod tree;
pub(crate) mod write;

#[cfg(test)]
pub(crate) use decode::keys;
pub use diagnostic::{Diagnostic, Diagnostics, Label};
pub(crate) use document::Document;
pub use options::ParseOptions;
pub use schema::schema;
pub use span::Span;
