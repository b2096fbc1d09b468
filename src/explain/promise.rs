//! What each stage and each edge promises by itself.

use super::{delays, restarts};
use crate::explanation::{
    Death, Delivery, EdgeKind, EdgePromise, Failing, Full, Order, OrderBy, Restarts, Sharing, StagePromise,
    Then,
};
use crate::graph::{PipePlan, Plan, PortRef, QueuePlan};
use crate::model::{Mode, OnError, OnFailure, RestartPolicy, RestartScope, STDIN, STDOUT, Stage, WhenFull};
use crate::runtime::broker::ATTEMPTS_AFTER_DEATH;

/// What one stage promises.
pub(super) fn of_stage(plan: &Plan, position: usize) -> StagePromise {
    let stage = &plan.stages[position].stage;
    let order_by = order_by(plan, position);
    StagePromise {
        stage: stage.name.clone(),
        mode: match stage.mode {
            Mode::Stream => "stream",
            Mode::Map => "map",
            Mode::Each => "each",
        },
        workers_min: stage.pool.min,
        workers: stage.pool.max,
        daemon: stage.daemon,
        is_source: is_source(plan, position),
        leased: stage.is_leased(),
        order: order_of_results(plan, position),
        order_by,
        death: death(plan, position),
        restarts: (restarts(stage) && stage.mode != Mode::Each).then(|| how_restarted(stage)),
        failing: stage.is_leased().then(|| failing(plan, position)),
        failure_ends_run: stage.on_failure == OnFailure::Stop,
    }
}

/// Neither queue nor pipe leads into it.
pub(super) fn is_source(plan: &Plan, position: usize) -> bool {
    plan.stages[position].is_source()
        && !plan.pipes.iter().any(|pipe| pipe.to == position || (pipe.duplex && pipe.from == position))
}

fn order_by(plan: &Plan, position: usize) -> Option<OrderBy> {
    let stage = &plan.stages[position].stage;
    if stage.is_leased() && stage.ordered {
        return Some(OrderBy::Ordered);
    }
    // A record that waits for its next attempt is overtaken, even where there is one worker.
    let is_overtaken = stage.is_leased() && delays(stage);
    match (stage.pool.max, is_overtaken) {
        (_, true) => None,
        (1, false) => Some(OrderBy::OneWorker),
        (_, false) => is_partitioned(plan, position).then_some(OrderBy::PartitionBy),
    }
}

/// Whether its standard input is shared by key.
fn is_partitioned(plan: &Plan, position: usize) -> bool {
    let Some(port) = plan.stages[position].inputs.iter().find(|port| port.name == STDIN) else {
        return false;
    };
    let mut queues =
        port.queues.iter().map(|&queue| &plan.queues[queue].options).filter(|options| !options.to_each);
    queues
        .next()
        .is_some_and(|first| first.partition_by.is_some() && queues.all(|other| other.partition_by.is_some()))
}

fn order_of_results(plan: &Plan, position: usize) -> Order {
    match order_by(plan, position) {
        Some(OrderBy::OneWorker | OrderBy::Ordered) => Order::Kept,
        Some(OrderBy::PartitionBy) => Order::PerKey,
        None if plan.stages[position].stage.is_leased() => Order::NotKept,
        None => Order::PerWorker,
    }
}

/// The order in which records leave by a port.
fn order_at(plan: &Plan, from: PortRef) -> Order {
    let stage = &plan.stages[from.stage];
    match stage.outputs[from.port].name.as_str() {
        STDOUT => order_of_results(plan, from.stage),
        // Records that failed.
        "failed" => Order::NotKept,
        // The results of an `each` process leave together, by all its ports.
        other if stage.stage.mode == Mode::Each && other != "stderr" => order_of_results(plan, from.stage),
        _ if stage.stage.pool.max == 1 => Order::Kept,
        _ => Order::PerWorker,
    }
}

fn death(plan: &Plan, position: usize) -> Death {
    let stage = &plan.stages[position].stage;
    match (stage.is_leased(), restarts(stage)) {
        (true, true) => Death::Attempt,
        // An `each` process has attempts, not restarts.
        (true, false) if stage.mode == Mode::Each => Death::Attempt,
        (_, false) => Death::StageFails,
        (false, true) if is_source(plan, position) => Death::Repeats,
        (false, true) => Death::Unconfirmed,
    }
}

fn how_restarted(stage: &Stage) -> Restarts {
    Restarts {
        policy: match stage.restart.policy {
            RestartPolicy::Never => "never",
            RestartPolicy::OnFailure => "on-failure",
            RestartPolicy::Always => "always",
        },
        max: stage.restart.max,
        within_seconds: stage.restart.within.as_secs_f64(),
        scope: match stage.restart.scope {
            RestartScope::Worker => "worker",
            RestartScope::Stage => "stage",
            RestartScope::Downstream => "downstream",
            RestartScope::Pipeline => "pipeline",
        },
    }
}

fn failing(plan: &Plan, position: usize) -> Failing {
    let stage = &plan.stages[position];
    let failed = stage.outputs.iter().find(|port| port.name == "failed");
    let then = match (failed, stage.stage.on_error) {
        (Some(_), _) => Then::Diverted,
        (None, OnError::Skip) => Then::Skipped,
        (None, OnError::Fail) => Then::StageFails,
    };
    let attempts = stage.stage.retry.attempts;
    Failing {
        attempts,
        attempts_by_death: attempts.max(ATTEMPTS_AFTER_DEATH),
        then,
        to: failed.map_or_else(Vec::new, |port| {
            port.queues.iter().map(|&queue| plan.queues[queue].name.clone()).collect()
        }),
    }
}

/// What the edges promise, queues first.
pub(super) fn edges(plan: &Plan) -> Vec<EdgePromise> {
    let queues = plan.queues.iter().enumerate().map(|(number, queue)| of_queue(plan, number, queue));
    queues.chain(plan.pipes.iter().map(|pipe| of_pipe(plan, pipe))).collect()
}

fn of_queue(plan: &Plan, number: usize, queue: &QueuePlan) -> EdgePromise {
    let name = |port: PortRef| plan.stages[port.stage].stage.name.clone();
    let consumers = queue.to.map_or(1, |to| plan.stages[to.stage].stage.pool.max);
    let sharing = match (&queue.options.partition_by, queue.options.to_each) {
        _ if consumers == 1 => Sharing::One,
        (Some(_), _) => Sharing::Key,
        (None, true) => Sharing::All,
        (None, false) => Sharing::Demand,
    };
    let siblings = match queue.from {
        Some(from) => plan.stages[from.stage].outputs[from.port].queues.clone(),
        None => (0..plan.queues.len()).filter(|&other| plan.queues[other].from.is_none()).collect(),
    };
    EdgePromise {
        edge: queue.name.clone(),
        kind: EdgeKind::Queue,
        format: Some(queue.format.as_str()),
        capacity_bytes: Some(queue.options.capacity_bytes),
        capacity: queue.options.capacity,
        from: queue.from.map(name),
        to: queue.to.map(name),
        delivery: delivery(plan, queue),
        order: queue.from.map_or(Order::Kept, |from| order_at(plan, from)),
        sharing,
        consumers,
        when_full: match queue.options.when_full {
            WhenFull::Block => Full::ProducerWaits,
            WhenFull::DropNewest => Full::DropsNewest,
            WhenFull::DropOldest => Full::DropsOldest,
        },
        siblings: siblings
            .into_iter()
            .filter(|&other| other != number)
            .map(|other| plan.queues[other].name.clone())
            .collect(),
    }
}

/// What its consumer makes of it.
fn delivery(plan: &Plan, queue: &QueuePlan) -> Delivery {
    let Some(to) = queue.to else { return Delivery::Written };
    let stage = &plan.stages[to.stage].stage;
    match (stage.is_leased(), to.port, death(plan, to.stage)) {
        (true, 0, _) => Delivery::Leased,
        (_, _, Death::StageFails) => Delivery::OnceOrFails,
        // Further ports of a leased stage are streams too.
        (_, _, Death::Attempt | Death::Unconfirmed | Death::Repeats) => Delivery::Unconfirmed,
    }
}

fn of_pipe(plan: &Plan, pipe: &PipePlan) -> EdgePromise {
    let (from, to) = (&plan.stages[pipe.from].stage, &plan.stages[pipe.to].stage);
    EdgePromise {
        edge: pipe.name.clone(),
        kind: if pipe.duplex { EdgeKind::DuplexPipe } else { EdgeKind::Pipe },
        format: None,
        capacity_bytes: pipe.size,
        capacity: None,
        from: Some(from.name.clone()),
        to: Some(to.name.clone()),
        delivery: Delivery::Nothing,
        order: if from.pool.max == 1 { Order::Kept } else { Order::PerWorker },
        sharing: if to.pool.max == 1 { Sharing::One } else { Sharing::Pairs },
        consumers: to.pool.max,
        when_full: Full::ProducerWaits,
        siblings: Vec::new(),
    }
}
