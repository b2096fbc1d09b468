//! What all drawings show of a plan, before it has a shape.

use crate::graph::check::formats;
use crate::graph::{Plan, PortPlan, PortRef, QueuePlan, StagePlan};
use crate::model::{Body, DependencyState, Mode, PartitionKey, Pool, STDIN, STDOUT, StartMethod, WhenFull};

/// Nodes joined by arcs.
pub(super) struct Picture<'a> {
    pub(super) plan: &'a Plan,
    /// `stdin` if it is read, the stages in the order of the document, `stdout` if an edge leads there, then one
    /// more `stdout` for each stage whose output goes there only because nothing else takes it.
    pub(super) nodes: Vec<Node>,
    /// Queues, then pipes.
    pub(super) arcs: Vec<Arc>,
}

/// What stands in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// `mpflow`'s own standard input.
    Stdin,
    /// The stage at this position.
    Stage(usize),
    /// `mpflow`'s own standard output, where the document leads an edge to it.
    Stdout,
    /// The same for one stage whose output has no edge.
    ImplicitStdout,
}

/// A connection of two nodes, named by their positions.
#[derive(Debug, Clone)]
pub(super) struct Arc {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: Kind,
    /// Ports that are not the standard ones, the format where it is not the one by default, options.
    pub(super) notes: Vec<String>,
}

/// How an arc is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Queue,
    /// A queue of records that failed.
    Failed,
    Pipe,
    Duplex,
    /// A queue to `stdout` that no one declared.
    Implicit,
}

impl<'a> Picture<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let mut nodes = Vec::new();
        if plan.queues.iter().any(|queue| queue.from.is_none()) {
            nodes.push(Node::Stdin);
        }
        let first_stage = nodes.len();
        nodes.extend((0..plan.stages.len()).map(Node::Stage));
        let stdout = nodes.len();
        if plan.queues.iter().any(|queue| queue.is_declared && queue.to.is_none()) {
            nodes.push(Node::Stdout);
        }
        let mut picture = Self { plan, nodes, arcs: Vec::new() };
        for queue in &plan.queues {
            let from = queue.from.map_or(0, |end| first_stage + end.stage);
            let to = match queue.to {
                Some(end) => first_stage + end.stage,
                None if queue.is_declared => stdout,
                None => {
                    picture.nodes.push(Node::ImplicitStdout);
                    picture.nodes.len() - 1
                }
            };
            picture.arcs.push(queue_arc(plan, queue, from, to));
        }
        for pipe in &plan.pipes {
            let (kind, mut notes) = if pipe.duplex {
                (Kind::Duplex, Vec::new())
            } else {
                (Kind::Pipe, ports(&pipe.from_port, &pipe.to_port).into_iter().collect())
            };
            notes.extend(pipe.size.map(size));
            let (from, to) = (first_stage + pipe.from, first_stage + pipe.to);
            picture.arcs.push(Arc { from, to, kind, notes });
        }
        picture
    }

    /// The kinds of arcs that occur, each once.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.arcs.iter().map(|arc| arc.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// What stands on a node.
    pub(super) fn name(&self, node: Node) -> &'a str {
        match node {
            Node::Stdin => STDIN,
            Node::Stage(stage) => &self.plan.stages[stage].stage.name,
            Node::Stdout | Node::ImplicitStdout => STDOUT,
        }
    }
}

fn queue_arc(plan: &Plan, queue: &QueuePlan, from: usize, to: usize) -> Arc {
    let out = queue.from.map(|end| (end, port(plan, end, |stage| &stage.outputs)));
    let into = queue.to.map(|end| (end, port(plan, end, |stage| &stage.inputs)));
    let name = |end: Option<(PortRef, &'_ PortPlan)>| end.map(|(_, port)| port.name.clone());
    let (out_name, in_name) = (name(out), name(into));
    let kind = match out_name.as_deref() {
        _ if !queue.is_declared => Kind::Implicit,
        Some("failed") => Kind::Failed,
        _ => Kind::Queue,
    };
    let out_name = out_name.unwrap_or_else(|| STDOUT.to_owned());
    let in_name = in_name.unwrap_or_else(|| STDIN.to_owned());
    let mut notes: Vec<String> = ports(&out_name, &in_name).into_iter().collect();
    let body = |end: PortRef| &plan.stages[end.stage].stage.body;
    let default = formats::default(
        queue.from.map(|end| (body(end), out_name.as_str())),
        queue.to.map(|end| (body(end), in_name.as_str())),
    );
    if queue.format != default {
        notes.push(queue.format.to_string());
    }
    notes.extend(options(queue));
    Arc { from, to, kind, notes }
}

fn port<'a>(plan: &'a Plan, end: PortRef, ports: impl Fn(&'a StagePlan) -> &'a [PortPlan]) -> &'a PortPlan {
    &ports(&plan.stages[end.stage])[end.port]
}

/// Ports, where they are not the ones that are meant when none is named.
fn ports(from: &str, to: &str) -> Option<String> {
    match (from, to) {
        (STDOUT, STDIN) => None,
        (from, STDIN) => Some(from.to_owned()),
        (STDOUT, to) => Some(format!("→ {to}")),
        (from, to) => Some(format!("{from} → {to}")),
    }
}

fn options(queue: &QueuePlan) -> Vec<String> {
    let options = &queue.options;
    let mut notes = Vec::new();
    match &options.partition_by {
        Some(PartitionKey::Pointer(pointer)) => notes.push(format!("by {pointer}")),
        Some(PartitionKey::Field(field)) => notes.push(format!("by field {field}")),
        None => {}
    }
    if options.to_each {
        notes.push("to each".to_owned());
    }
    notes.extend(options.capacity.map(|records| format!("≤ {records}")));
    match options.when_full {
        WhenFull::Block => {}
        WhenFull::DropNewest => notes.push("drops newest".to_owned()),
        WhenFull::DropOldest => notes.push("drops oldest".to_owned()),
    }
    notes
}

fn size(bytes: u64) -> String {
    match bytes {
        mebi if mebi > 0 && mebi % (1 << 20) == 0 => format!("{} MiB", mebi >> 20),
        kibi if kibi > 0 && kibi % (1 << 10) == 0 => format!("{} KiB", kibi >> 10),
        bytes => format!("{bytes} B"),
    }
}

/// How wide a pool is, where it is not one worker: `×4`, `×1–8`.
pub(super) fn width(pool: Pool) -> Option<String> {
    match pool {
        Pool { min: 1, max: 1 } => None,
        Pool { min, max } if min == max => Some(format!("×{max}")),
        Pool { min, max } => Some(format!("×{min}–{max}")),
    }
}

/// What is to be said of a stage beside its name and width.
pub(super) fn traits(plan: &StagePlan) -> Vec<&'static str> {
    let stage = &plan.stage;
    let mut words = vec![match stage.mode {
        Mode::Stream => "stream",
        Mode::Map => "map",
        Mode::Each => "each",
    }];
    match stage.body {
        Body::Command(_) => {}
        Body::Python(_) => words.push("python"),
        Body::Function(_) => words.push("rust"),
    }
    if stage.ordered {
        words.push("ordered");
    }
    match stage.start_method {
        StartMethod::Spawn => {}
        StartMethod::Fork => words.push("fork"),
        StartMethod::Forkserver => words.push("forkserver"),
    }
    if stage.daemon {
        words.push("daemon");
    }
    words
}

/// The same as one text, with the width: `map ×4 · ordered`.
pub(super) fn summary(plan: &StagePlan) -> String {
    let mut text = traits(plan).join(" · ");
    if let Some(width) = width(plan.stage.pool) {
        // After the mode, which is always there and comes first.
        let mode = text.find(' ').unwrap_or(text.len());
        text.insert_str(mode, &format!(" {width}"));
    }
    text
}

/// What a stage waits for before it starts.
pub(super) fn dependencies(plan: &StagePlan) -> Option<String> {
    let dependency = |dependency: &crate::model::Dependency| match dependency.state {
        DependencyState::Started => dependency.stage.clone(),
        DependencyState::Ready => format!("{} is ready", dependency.stage),
        DependencyState::Finished => format!("{} has finished", dependency.stage),
    };
    let all: Vec<String> = plan.stage.depends_on.iter().map(dependency).collect();
    (!all.is_empty()).then(|| format!("after {}", all.join(", ")))
}
