//! From a pipeline to its plan.

use super::check::{self, formats};
use super::dag::Dag;
use super::plan::{PipePlan, Plan, PortPlan, PortRef, QueuePlan, StagePlan};
use super::ports::Direction;
use super::resolve::{End, Ends, Link, Net};
use crate::model::{Body, Format, Mode, Pipeline, Problem, QueueOptions, STDIN, STDOUT, Severity};

/// A plan, and what is worth knowing about it before it runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    /// What is to be run.
    pub plan: Plan,
    /// Not wrong, but perhaps not meant.
    pub warnings: Vec<Problem>,
}

/// Checks a pipeline and resolves it into a plan, for a run whose standard streams carry bytes.
///
/// # Errors
///
/// Everything that is wrong with the graph, in a fixed order, warnings among it.
pub(crate) fn plan(pipeline: &Pipeline) -> Result<Planned, Vec<Problem>> {
    plan_for(pipeline, Ends::Bytes)
}

/// Checks a pipeline and resolves it into a plan.
///
/// # Errors
///
/// As [`plan`].
pub(crate) fn plan_for(pipeline: &Pipeline, ends: Ends) -> Result<Planned, Vec<Problem>> {
    let mut problems = Vec::new();
    let net = Net::new(pipeline, ends, &mut problems);
    check::check(&net, &mut problems);
    let formats = formats::choose(&net, &mut problems);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(problems);
    }
    Ok(Planned { plan: build(&net, &formats), warnings: problems })
}

/// The plan of a pipeline in which nothing is wrong.
fn build(net: &Net<'_>, formats: &[Format]) -> Plan {
    let stage = |stage: &_| StagePlan {
        stage: Clone::clone(stage),
        is_called_once: false,
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    let mut plan = Plan {
        name: net.pipeline.name.clone(),
        dir: net.pipeline.dir.clone(),
        stop: net.pipeline.stop,
        stages: net.pipeline.stages.iter().map(stage).collect(),
        queues: Vec::new(),
        pipes: Vec::new(),
        shared: net.pipeline.shared.clone(),
        order: order(net),
    };
    // `stdin` comes first among the inputs, wherever its first edge stands.
    for link in net.links.iter().filter(|link| link.queue().is_some()) {
        if let End::Port { stage, port: STDIN } = link.to {
            join(&mut plan.stages[stage].inputs, STDIN);
        }
    }
    for (link, &format) in net.links.iter().zip(formats) {
        match (link.queue(), link.pipe()) {
            (Some(options), _) => add_queue(&mut plan, link, options, format),
            (None, Some(_)) => plan.pipes.push(pipe(net, link)),
            (None, None) => unreachable!("an edge is a queue or a pipe"),
        }
    }
    add_implicit_outputs(net, &mut plan);
    settle_formats(&mut plan);
    plan.stages.iter_mut().for_each(settle_mode);
    plan
}

/// A function that nothing feeds has no records to be leased: it is called once, and makes a stream.
fn settle_mode(plan: &mut StagePlan) {
    let is_fed = plan.inputs.iter().any(|port| port.name == STDIN);
    if !is_fed && !matches!(plan.stage.body, Body::Command(_)) {
        plan.is_called_once = plan.stage.mode == Mode::Map;
        plan.stage.mode = Mode::Stream;
    }
}

fn order(net: &Net<'_>) -> Vec<usize> {
    let arcs: Vec<_> = net.links.iter().filter_map(Link::stages).collect();
    let order = Dag::new(net.pipeline.stages.len(), &arcs).order();
    debug_assert_eq!(order.len(), net.pipeline.stages.len(), "cycles have been refused");
    order
}

/// The position of a port, which is made if it is new.
fn join(ports: &mut Vec<PortPlan>, name: &str) -> usize {
    ports.iter().position(|port| port.name == name).unwrap_or_else(|| {
        ports.push(PortPlan { name: name.to_owned(), format: Format::Lines, queues: Vec::new() });
        ports.len() - 1
    })
}

fn join_end(plan: &mut Plan, end: End<'_>, direction: Direction, queue: usize) -> Option<PortRef> {
    let End::Port { stage, port: name } = end else { return None };
    let ports = match direction {
        Direction::In => &mut plan.stages[stage].inputs,
        Direction::Out => &mut plan.stages[stage].outputs,
    };
    let port = join(ports, name);
    ports[port].queues.push(queue);
    Some(PortRef { stage, port })
}

fn add_queue(plan: &mut Plan, link: &Link<'_>, options: &QueueOptions, format: Format) {
    let number = plan.queues.len();
    let from = join_end(plan, link.from, Direction::Out, number);
    let to = join_end(plan, link.to, Direction::In, number);
    plan.queues.push(QueuePlan {
        name: link.edge.to_string(),
        is_declared: true,
        from,
        to,
        format,
        options: QueueOptions { format: Some(format), ..options.clone() },
    });
}

fn pipe(net: &Net<'_>, link: &Link<'_>) -> PipePlan {
    let options = link.pipe().expect("the caller has seen that it is a pipe");
    let (End::Port { stage: from, port: from_port }, End::Port { stage: to, port: to_port }) =
        (link.from, link.to)
    else {
        unreachable!("a pipe that ends at mpflow's own streams has been refused")
    };
    let (from_port, to_port) =
        if options.duplex { (net.name(to), net.name(from)) } else { (from_port, to_port) };
    PipePlan {
        name: link.edge.to_string(),
        from,
        from_port: from_port.to_owned(),
        to,
        to_port: to_port.to_owned(),
        duplex: options.duplex,
        size: options.size,
    }
}

/// A standard output with neither edge nor file goes to `mpflow`'s own.
fn add_implicit_outputs(net: &Net<'_>, plan: &mut Plan) {
    for (position, stage) in net.pipeline.stages.iter().enumerate() {
        let has_edge = net.links.iter().any(|link| !link.is_duplex() && link.from.is(position, STDOUT));
        if has_edge || stage.stdout.is_some() {
            continue;
        }
        let end = End::Port { stage: position, port: STDOUT };
        let from = join_end(plan, end, Direction::Out, plan.queues.len());
        plan.queues.push(QueuePlan {
            name: format!("{} -> {STDOUT}", stage.name),
            is_declared: false,
            from,
            to: None,
            format: Format::Lines,
            options: QueueOptions { format: Some(Format::Lines), ..QueueOptions::default() },
        });
    }
}

/// Gives each port the format of its queues. Where `lines` and `json` meet it is `lines`: both are cut at
/// newlines, and not all of it need be JSON.
fn settle_formats(plan: &mut Plan) {
    let queues = &plan.queues;
    for stage in &mut plan.stages {
        for port in stage.inputs.iter_mut().chain(&mut stage.outputs) {
            let mut formats = port.queues.iter().map(|&queue| queues[queue].format);
            let first = formats.next().expect("a port is made for a queue");
            port.format = if formats.all(|format| format == first) { first } else { Format::Lines };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::PortRef;
    use crate::graph::testing::Build;
    use crate::model::{Format, Mode, Redirect, STDOUT};

    #[test]
    fn a_chain_is_planned_from_end_to_end() {
        let plan = Build::new()
            .stage("upper")
            .stage("numbers")
            .queue("numbers -> upper")
            .queue_with("upper -> stdout", |queue| queue.format = Some(Format::Json))
            .accepted();
        assert_eq!(plan.order, [1, 0]);
        assert_eq!(plan.queues.len(), 2, "no output is left for mpflow to carry");
        assert_eq!(plan.queues[0].from, Some(PortRef { stage: 1, port: 0 }));
        assert_eq!(plan.queues[0].to, Some(PortRef { stage: 0, port: 0 }));
        assert_eq!(plan.queues[1].to, None);
        assert_eq!(plan.stages[0].outputs[0].format, Format::Json);
        assert_eq!(plan.stages[0].inputs[0].queues, [0]);
        assert!(plan.stages[1].is_source());
    }

    #[test]
    fn an_output_with_neither_edge_nor_file_goes_to_standard_output() {
        let plan = Build::new()
            .stage("a")
            .with("b", |b| b.stdout = Some(Redirect::Null.into()))
            .stage("c")
            .stage("d")
            .pipe("c -> d")
            .queue("a.links -> d.links")
            .duplex("b -> d")
            .accepted();
        let implicit: Vec<_> = plan.queues.iter().filter(|queue| !queue.is_declared).collect();
        let names: Vec<_> = implicit.iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(names, ["a -> stdout", "d -> stdout"]);
        assert!(implicit.iter().all(|queue| queue.to.is_none() && queue.format == Format::Lines));
        let outputs: Vec<_> = plan.stages[0].outputs.iter().map(|port| port.name.as_str()).collect();
        assert_eq!(outputs, ["links", STDOUT]);
    }

    #[test]
    fn standard_input_comes_first_and_queues_of_one_port_share_it() {
        let plan = Build::new()
            .stage("a")
            .stage("b")
            .with("m", |m| m.mode = Mode::Map)
            .queue("a.side -> m.side")
            .queue("a -> m")
            .queue("b -> m")
            .queue("b -> stdout")
            .queue("m.failed -> stdout")
            .accepted();
        let inputs: Vec<_> =
            plan.stages[2].inputs.iter().map(|port| (port.name.as_str(), &port.queues[..])).collect();
        assert_eq!(inputs, [("stdin", &[1, 2][..]), ("side", &[0][..])]);
        assert_eq!(plan.stages[1].outputs[0].queues, [2, 3]);
        assert_eq!(plan.stages[2].outputs[0].name, "failed");
        assert_eq!(plan.queues[0].to, Some(PortRef { stage: 2, port: 1 }));
    }

    #[test]
    fn a_duplex_pipe_is_known_by_the_others_name() {
        let plan = Build::new().stage("client").stage("server").duplex("client -> server").accepted();
        let pipe = &plan.pipes[0];
        assert_eq!((pipe.from, pipe.from_port.as_str()), (0, "server"));
        assert_eq!((pipe.to, pipe.to_port.as_str()), (1, "client"));
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let build = Build::new()
            .stage("a")
            .with("b", |b| b.mode = Mode::Map)
            .queue("x -> a")
            .queue("a -> a")
            .pipe("stdin -> a");
        let problems = build.planned().unwrap_err();
        let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
        assert_eq!(
            codes,
            [
                "mpflow::unknown_stage",
                "mpflow::pipe_end",
                "mpflow::pipe_shared",
                "mpflow::no_input",
                "mpflow::cycle"
            ]
        );
        assert_eq!(build.planned().unwrap_err(), problems);
    }
}
