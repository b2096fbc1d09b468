//! Drawings of a plan: for the terminal, for Graphviz, for Mermaid, and as a picture that stands by itself.
//!
//! They show how stages are joined and how wide they are. What a stage runs and what is in its environment is
//! never shown: both may hold secrets.

mod dot;
#[cfg(test)]
mod gallery;
mod layout;
mod mermaid;
mod picture;
mod svg;
mod text;

pub(crate) use dot::dot;
pub(crate) use mermaid::mermaid;
pub(crate) use svg::svg;
pub use text::Charset;
pub(crate) use text::text;
