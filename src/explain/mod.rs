//! What a pipeline promises and needs, from its plan alone: `mpflow explain`.
//!
//! Nothing is started and no file of the pipeline is read. The promises follow from what stages and edges declare,
//! the sums from the plan and the engine's own sizes; so this module stands above the runtime and imports these
//! sizes from where they are used.

mod machine;
mod memory;
mod needs;
mod paths;
mod promise;
mod warnings;

pub(crate) use needs::{descriptors, processes};

use crate::explanation::{Explanation, Machine};
use crate::graph::Plan;
use crate::model::{RestartPolicy, Stage};

/// What this pipeline promises and needs, on this machine.
pub(crate) fn explain(plan: &Plan, machine: &Machine) -> Explanation {
    let memory = memory::memory(plan);
    Explanation {
        pipeline: plan.name.clone(),
        paths: paths::paths(plan),
        stages: plan.order.iter().map(|&stage| promise::of_stage(plan, stage)).collect(),
        edges: promise::edges(plan),
        needs: needs::needs(plan, &memory, machine),
        machine: machine.clone(),
        warnings: warnings::warnings(plan, &memory),
        memory,
    }
}

/// Whether a record that failed waits, so that others overtake it.
fn delays(stage: &Stage) -> bool {
    !stage.retry.delay.is_zero()
}

/// Whether a worker that dies is started again.
fn restarts(stage: &Stage) -> bool {
    stage.restart.policy != RestartPolicy::Never
}
