//! The difference of two plans, by name: what a running pipeline has to do to become another one.
//!
//! It is a value and no deed: [`compare`] starts nothing and asks nobody. What each key comes to stands in one
//! table, [`KEYS`].

mod keys;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, HashMap, HashSet};

use keys::Same;
pub use keys::{Effect, KEYS, Key, Level};

use super::{PipePlan, Plan, PortPlan, QueuePlan, StagePlan};
use crate::change::{Change, EdgeChange, StageChange, Step, Why};

/// What has to be done for `old` to become `new`. `touched`: stages to be replaced though their text is the same, and
/// why, as somebody has found that a file of theirs has changed. Names that are in neither plan are passed over.
pub(crate) fn compare(old: &Plan, new: &Plan, touched: &BTreeMap<String, String>) -> Change {
    let pair = Pair { old, new };
    let mut change = Change { edges: pair.edges(), ..Change::default() };
    for key in KEYS {
        let Same::Top(is_same) = key.same else { continue };
        match key.effect {
            _ if is_same(old, new) => {}
            Effect::NewRun => change.new_run.push(format!("`{}`", key.name)),
            _ => change.adopted.push(key.name),
        }
    }
    change.new_run.extend(pair.unchangeable_input());
    change.stages = pair.stages(&change.edges, touched);
    for (stage, planned) in new.stages.iter().filter_map(|stage| Some((stage, pair.old_stage(stage)?))) {
        for key in KEYS.iter().filter(|key| key.effect == Effect::Adopt) {
            if let Same::Stage(is_same) = key.same
                && !is_same(&planned.stage, &stage.stage)
                && !change.adopted.contains(&key.name)
            {
                change.adopted.push(key.name);
            }
        }
    }
    change
}

struct Pair<'a> {
    old: &'a Plan,
    new: &'a Plan,
}

/// An edge of either kind.
#[derive(Clone, Copy)]
enum Edge<'a> {
    Queue(&'a QueuePlan),
    Pipe(&'a PipePlan),
}

impl<'a> Edge<'a> {
    fn all(plan: &'a Plan) -> impl Iterator<Item = Self> {
        plan.queues.iter().map(Self::Queue).chain(plan.pipes.iter().map(Self::Pipe))
    }

    /// What makes two edges of two plans the same one.
    fn identity(self) -> (bool, bool, &'a str) {
        match self {
            Self::Queue(queue) => (false, false, &queue.name),
            Self::Pipe(pipe) => (true, pipe.duplex, &pipe.name),
        }
    }

    fn change(self, step: Step, why: Vec<Why>) -> EdgeChange {
        let (is_pipe, _, name) = self.identity();
        EdgeChange { edge: name.to_owned(), is_pipe, step, why }
    }
}

impl<'a> Pair<'a> {
    fn old_stage(&self, stage: &StagePlan) -> Option<&'a StagePlan> {
        self.old.stages.iter().find(|old| old.stage.name == stage.stage.name)
    }

    // ---- edges

    fn edges(&self) -> Vec<EdgeChange> {
        let old: HashMap<_, _> = Edge::all(self.old).map(|edge| (edge.identity(), edge)).collect();
        let new: HashSet<_> = Edge::all(self.new).map(Edge::identity).collect();
        let mut changes: Vec<EdgeChange> = Edge::all(self.new)
            .map(|edge| match old.get(&edge.identity()) {
                Some(before) => self.edge(*before, edge),
                None => edge.change(Step::Add, Vec::new()),
            })
            .collect();
        let gone = Edge::all(self.old).filter(|edge| !new.contains(&edge.identity()));
        changes.extend(gone.map(|edge| edge.change(Step::Remove, Vec::new())));
        changes
    }

    fn edge(&self, old: Edge<'_>, new: Edge<'_>) -> EdgeChange {
        let mut why = Vec::new();
        let mut step = Step::Same;
        for key in KEYS {
            let is_same = match (key.same, old, new) {
                (Same::Queue(is_same), Edge::Queue(old), Edge::Queue(new)) => is_same(old, new),
                (Same::Pipe(is_same), Edge::Pipe(old), Edge::Pipe(new)) => is_same(old, new),
                _ => true,
            };
            if is_same {
                continue;
            }
            step = step.max(match key.effect {
                Effect::Replace | Effect::BeginAnew => Step::Replace,
                Effect::ReplaceConsumer => Step::Rewire,
                _ => Step::Resize,
            });
            let values = match (key.name, old, new) {
                ("capacity", Edge::Queue(old), Edge::Queue(new)) => {
                    let word = |capacity: Option<u64>| capacity.map_or("none".to_owned(), |n| n.to_string());
                    Some(format!("{} -> {}", word(old.options.capacity), word(new.options.capacity)))
                }
                ("capacity_bytes", Edge::Queue(old), Edge::Queue(new)) => {
                    Some(format!("{} -> {}", old.options.capacity_bytes, new.options.capacity_bytes))
                }
                _ => None,
            };
            why.push(Why::Key { key: key.name, values });
        }
        // A lane for each worker: a pool of another width has other lanes.
        if let (Edge::Queue(old), Edge::Queue(new)) = (old, new)
            && step != Step::Replace
            && new.has_lanes()
            && self.consumer_width(self.old, old) != self.consumer_width(self.new, new)
        {
            // What each is to get, some have had more of than others.
            step = if new.options.to_each { Step::Replace } else { Step::Rewire };
            why.push(Why::Key { key: "pool", values: None });
        }
        new.change(step, why)
    }

    fn consumer_width(&self, plan: &Plan, queue: &QueuePlan) -> Option<usize> {
        Some(plan.stages[queue.to?.stage].stage.pool.max)
    }

    /// What `mpflow`'s own standard input was opened with.
    fn unchangeable_input(&self) -> Option<String> {
        let opened = |plan: &'a Plan| {
            let queues = plan.queues.iter().filter(|queue| queue.from.is_none());
            let of = |queue: &QueuePlan| (queue.format, queue.options.max_record);
            let first = queues.clone().next().map(of)?;
            Some((first.0, queues.map(|queue| queue.options.max_record).min()))
        };
        let (old, new) = (opened(self.old)?, opened(self.new)?);
        (old != new).then(|| "`format` or `max_record` of what comes from standard input".to_owned())
    }

    // ---- stages

    fn stages(&self, edges: &[EdgeChange], touched: &BTreeMap<String, String>) -> Vec<StageChange> {
        let mut changes: Vec<StageChange> = self
            .new
            .stages
            .iter()
            .map(|stage| match self.old_stage(stage) {
                Some(old) => self.stage(old, stage, edges, touched),
                None => StageChange { stage: stage.stage.name.clone(), step: Step::Add, why: Vec::new() },
            })
            .collect();
        self.replace_peers(&mut changes);
        let is_gone =
            |old: &&StagePlan| !self.new.stages.iter().any(|stage| stage.stage.name == old.stage.name);
        changes.extend(self.old.stages.iter().filter(is_gone).map(|stage| StageChange {
            stage: stage.stage.name.clone(),
            step: Step::Remove,
            why: Vec::new(),
        }));
        changes
    }

    fn stage(
        &self,
        old: &StagePlan,
        new: &StagePlan,
        edges: &[EdgeChange],
        touched: &BTreeMap<String, String>,
    ) -> StageChange {
        let name = new.stage.name.clone();
        let mut why = Vec::new();
        for key in KEYS.iter().filter(|key| key.effect == Effect::Replace) {
            let Same::Stage(is_same) = key.same else { continue };
            let was_called_otherwise = key.name == "mode" && old.is_called_once != new.is_called_once;
            if !is_same(&old.stage, &new.stage) || was_called_otherwise {
                why.push(Why::Key { key: key.name, values: None });
            }
        }
        if self.old.dir != self.new.dir && why.is_empty() {
            why.push(Why::Folder);
        }
        if let Some(reason) = touched.get(&name) {
            why.push(Why::Touched { reason: reason.clone() });
        }
        let mut others = self.ends_of(old, new, edges);
        let is_wider = old.stage.pool != new.stage.pool;
        let position = self.new.stage_position(&name);
        if is_wider && position.is_some_and(|stage| self.new.is_bound_to_width(stage)) {
            others.push(pool(old, new));
        }
        if !why.is_empty() || !others.is_empty() {
            why.extend(others);
            if is_wider && !why.contains(&pool(old, new)) {
                why.push(pool(old, new));
            }
            return StageChange { stage: name, step: Step::Replace, why };
        }
        if is_wider {
            return StageChange { stage: name, step: Step::Resize, why: vec![pool(old, new)] };
        }
        let why = self.rewired(old, new, edges);
        let step = if why.is_empty() { Step::Same } else { Step::Rewire };
        StageChange { stage: name, step, why }
    }

    /// Edges for which its workers have to be new ones.
    fn ends_of(&self, old: &StagePlan, new: &StagePlan, edges: &[EdgeChange]) -> Vec<Why> {
        let mut why = Vec::new();
        let because = |edge: &str, why: &mut Vec<Why>| {
            let reason = Why::Edge { edge: edge.to_owned() };
            if !why.contains(&reason) {
                why.push(reason);
            }
        };
        let position = self.new.stage_position(&new.stage.name);
        for queue in &self.new.queues {
            let Some(change) = edges.iter().find(|edge| !edge.is_pipe && edge.edge == queue.name) else {
                continue;
            };
            let is_consumer = queue.to.map(|port| port.stage) == position && queue.to.is_some();
            let is_producer = queue.from.map(|port| port.stage) == position && queue.from.is_some();
            let keys = change.why.iter().filter_map(|why| match why {
                Why::Key { key, .. } => Some(*key),
                _ => None,
            });
            for effect in keys.filter_map(effect_in_queue) {
                let is_meant = match effect {
                    Effect::Replace => is_consumer || is_producer,
                    Effect::ReplaceConsumer | Effect::BeginAnew => is_consumer,
                    Effect::ReplaceProducer => is_producer,
                    _ => false,
                };
                if is_meant {
                    because(&queue.name, &mut why);
                }
            }
        }
        for edge in self.ports_that_differ(old, new).into_iter().chain(self.lanes_that_go(old, edges)) {
            because(edge, &mut why);
        }
        let pipes = |plan: &'a Plan| plan.pipes.iter().map(move |pipe| (plan, pipe));
        for (plan, pipe) in pipes(self.old).chain(pipes(self.new)) {
            let is_end = |stage: usize| plan.stages[stage].stage.name == new.stage.name;
            if (is_end(pipe.from) || is_end(pipe.to))
                && edges.iter().any(|edge| edge.is_pipe && edge.edge == pipe.name && edge.step != Step::Same)
            {
                because(&pipe.name, &mut why);
            }
        }
        why
    }

    /// Edges at ports that only one of the two has, or that has another format.
    fn ports_that_differ(&self, old: &StagePlan, new: &StagePlan) -> Vec<&'a str> {
        let mut found = Vec::new();
        let sides = [(&old.inputs, &new.inputs), (&old.outputs, &new.outputs)];
        for (old, new) in sides {
            let has = |ports: &[PortPlan], port: &PortPlan| {
                ports.iter().any(|other| other.name == port.name && other.format == port.format)
            };
            for port in old.iter().filter(|port| !has(new, port)) {
                found.extend(port.queues.iter().map(|&at| self.old.queues[at].name.as_str()));
            }
            for port in new.iter().filter(|port| !has(old, port)) {
                found.extend(port.queues.iter().map(|&at| self.new.queues[at].name.as_str()));
            }
        }
        found
    }

    /// Queues that have gone and had a lane for each worker. What waits there is those workers', in a pool of their width.
    fn lanes_that_go(&self, old: &StagePlan, edges: &[EdgeChange]) -> Vec<&'a str> {
        let has_gone = |name: &str| {
            edges.iter().any(|edge| !edge.is_pipe && edge.edge == name && edge.step == Step::Remove)
        };
        let queues = old.inputs.iter().flat_map(|port| &port.queues).map(|&at| &self.old.queues[at]);
        queues.filter(|queue| queue.has_lanes() && has_gone(&queue.name)).map(|queue| &*queue.name).collect()
    }

    /// Queues that have come to its ports, or have gone.
    fn rewired(&self, old: &StagePlan, new: &StagePlan, edges: &[EdgeChange]) -> Vec<Why> {
        let names = |plan: &'a Plan, stage: &StagePlan| -> Vec<&'a str> {
            let ports = stage.inputs.iter().chain(&stage.outputs);
            ports.flat_map(|port| &port.queues).map(|&at| plan.queues[at].name.as_str()).collect()
        };
        let (old, new) = (names(self.old, old), names(self.new, new));
        let gone = old.iter().filter(|name| !new.contains(name));
        // A queue that begins anew is another one to whoever writes to it.
        let is_other = |name: &&&str| {
            !old.contains(name)
                || edges
                    .iter()
                    .any(|edge| !edge.is_pipe && edge.edge == ***name && edge.step == Step::Replace)
        };
        let come = new.iter().filter(is_other);
        gone.chain(come).map(|name| Why::Edge { edge: (*name).to_owned() }).collect()
    }

    /// The two ends of a pipe are held by two processes for as long as they live: where one is replaced, so is the
    /// other.
    fn replace_peers(&self, changes: &mut [StageChange]) {
        loop {
            let mut moved = false;
            for pipe in &self.new.pipes {
                for (one, other) in [(pipe.from, pipe.to), (pipe.to, pipe.from)] {
                    let has_new_workers = matches!(changes[one].step, Step::Replace | Step::Add);
                    let stays = !matches!(changes[other].step, Step::Replace | Step::Add);
                    if has_new_workers && stays {
                        let stage = changes[one].stage.clone();
                        changes[other].step = Step::Replace;
                        changes[other].why.push(Why::Peer { stage });
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }
}

fn pool(old: &StagePlan, new: &StagePlan) -> Why {
    let word = |stage: &StagePlan| match stage.stage.pool {
        pool if pool.is_elastic() => format!("{}..{}", pool.min, pool.max),
        pool => pool.max.to_string(),
    };
    Why::Key { key: "pool", values: Some(format!("{} -> {}", word(old), word(new))) }
}

/// What a reason of a queue's change comes to for the stages at its ends.
fn effect_in_queue(name: &'static str) -> Option<Effect> {
    if name == "pool" {
        // It has lanes for the workers of a pool that has another width.
        return Some(Effect::ReplaceConsumer);
    }
    KEYS.iter().find(|key| key.level == Level::Queue && key.name == name).map(|key| key.effect)
}
