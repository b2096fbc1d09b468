//! The directed acyclic graph of stages: built from names, checked, planned, drawn.
//!
//! It knows no YAML and no clock, so that a pipeline can be built in code without a file.

mod plan;

pub use plan::{PipePlan, Plan, PortPlan, PortRef, QueuePlan, StagePlan};
