//! `${{ EXPR }}`: found in a scalar, evaluated, put in its place.
//!
//! Scalars are expanded one by one after the document is parsed, so no value can change its structure, and the
//! shell's own `$X` and `${X}` are never touched.

mod evaluate;
mod find;
mod scope;

pub(super) use evaluate::{Evaluator, Failure};
pub(super) use find::{Segment, has_expression, locate, segments};
pub(super) use scope::Scope;
