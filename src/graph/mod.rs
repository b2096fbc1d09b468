//! The directed acyclic graph of stages: built from names, checked, planned, drawn.
//!
//! It knows no YAML and no clock, so that a pipeline can be built in code without a file. [`plan()`] resolves the
//! names of a [`crate::model::Pipeline`], runs every check, and makes the [`Plan`] that the runtime follows. What
//! is wrong comes back as [`crate::model::Problem`]s, all of them together.

mod build;
mod check;
mod compare;
mod dag;
pub(crate) mod draw;
mod live;
mod plan;
mod ports;
#[cfg(test)]
mod properties;
mod resolve;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use build::{plan, plan_for};
pub(crate) use compare::compare;
pub use compare::{Effect, KEYS, Key, Level};
pub(crate) use live::{Live, Merged};
pub(crate) use plan::{PipePlan, Plan, PortPlan, PortRef, QueuePlan, StagePlan};
pub use resolve::Ends;
