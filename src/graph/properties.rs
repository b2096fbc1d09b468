//! What holds for every graph, tried on random ones.

use proptest::prelude::*;

use super::testing::Build;
use super::{Plan, PortRef, draw};
use crate::model::{Dependency, DependencyState, Mode, Pool, Problem, Redirect, Severity};

/// The most stages of a random pipeline.
const STAGES: usize = 7;

/// Every output and input that an edge is tried with; some are always wrong.
const OUTPUTS: [&str; 9] =
    ["stdout", "stdout", "stdout", "stdout", "stderr", "links", "failed", "stdin", "stdot"];
const INPUTS: [&str; 7] = ["stdin", "stdin", "stdin", "stdin", "side", "stdout", "9"];

#[derive(Debug, Clone)]
enum Random {
    Queue(usize, usize, usize, usize),
    Pipe(usize, usize, bool),
    Depends(usize, usize, u8),
    Daemon(usize),
    Mode(usize, u8),
    Pool(usize, usize, usize),
    Stdout(usize),
}

fn random() -> impl Strategy<Value = Random> {
    let stage = || 0..STAGES + 1;
    prop_oneof![
        8 => (stage(), 0..OUTPUTS.len(), stage(), 0..INPUTS.len())
            .prop_map(|(a, out, b, to)| Random::Queue(a, out, b, to)),
        2 => (stage(), stage(), any::<bool>()).prop_map(|(a, b, duplex)| Random::Pipe(a, b, duplex)),
        1 => (stage(), stage(), 0..3u8).prop_map(|(a, b, state)| Random::Depends(a, b, state)),
        1 => stage().prop_map(Random::Daemon),
        1 => (stage(), 0..3u8).prop_map(|(stage, mode)| Random::Mode(stage, mode)),
        1 => (stage(), 1..3usize, 0..2usize).prop_map(|(stage, min, more)| Random::Pool(stage, min, more)),
        1 => stage().prop_map(Random::Stdout),
    ]
}

fn name(stage: usize) -> String {
    format!("s{stage}")
}

/// One stage more than there are may be named, which must be found out.
fn build(parts: &[Random]) -> Build {
    let mut build = Build::new();
    for stage in 0..STAGES {
        build = build.stage(&name(stage));
    }
    for part in parts {
        build = apply(build, part);
    }
    build
}

fn apply(mut build: Build, part: &Random) -> Build {
    match *part {
        Random::Queue(a, out, b, to) if a != STAGES || b != STAGES => {
            return build.queue(&format!("{}.{} -> {}.{}", name(a), OUTPUTS[out], name(b), INPUTS[to]));
        }
        Random::Queue(..) => return build.queue("stdin -> s0"),
        Random::Pipe(a, b, true) => return build.duplex(&format!("{} -> {}", name(a), name(b))),
        Random::Pipe(a, b, false) => return build.pipe(&format!("{} -> {}", name(a), name(b))),
        _ => {}
    }
    let stages = &mut build.0.stages;
    match *part {
        Random::Depends(a, b, state) if a < STAGES => {
            use DependencyState::{Finished, Ready, Started};
            let state = [Started, Ready, Finished][usize::from(state)];
            stages[a].depends_on.push(Dependency { stage: name(b), state });
        }
        Random::Daemon(stage) if stage < STAGES => stages[stage].daemon = true,
        Random::Mode(stage, mode) if stage < STAGES => {
            stages[stage].mode = [Mode::Stream, Mode::Map, Mode::Each][usize::from(mode)];
        }
        Random::Pool(stage, min, more) if stage < STAGES => {
            stages[stage].pool = Pool { min, max: min + more };
        }
        Random::Stdout(stage) if stage < STAGES => stages[stage].stdout = Some(Redirect::Null.into()),
        _ => {}
    }
    build
}

/// Whether removing stages that nothing leads to, again and again, leaves some.
fn has_cycle(edges: &[(usize, usize)]) -> bool {
    let mut left: Vec<usize> = (0..STAGES).collect();
    loop {
        let before = left.len();
        let fed = |stage: usize, left: &[usize]| {
            edges.iter().any(|&(from, to)| to == stage && left.contains(&from))
        };
        left = left.iter().copied().filter(|&stage| fed(stage, &left)).collect();
        if left.len() == before {
            return !left.is_empty();
        }
    }
}

fn cycles(result: &Result<super::build::Planned, Vec<Problem>>) -> Vec<&Problem> {
    let problems = match result {
        Ok(_) => &[][..],
        Err(problems) => problems,
    };
    problems.iter().filter(|problem| problem.code == "mpflow::cycle").collect()
}

/// Every port knows its queues and every queue its ports.
fn assert_consistent(plan: &Plan) {
    for (number, queue) in plan.queues.iter().enumerate() {
        if let Some(PortRef { stage, port }) = queue.from {
            assert!(plan.stages[stage].outputs[port].queues.contains(&number), "{plan:#?}");
        }
        if let Some(PortRef { stage, port }) = queue.to {
            assert!(plan.stages[stage].inputs[port].queues.contains(&number), "{plan:#?}");
        }
        assert_eq!(queue.options.format, Some(queue.format));
    }
    for (stage, planned) in plan.stages.iter().enumerate() {
        for (ports, is_output) in [(&planned.inputs, false), (&planned.outputs, true)] {
            for (port, planned) in ports.iter().enumerate() {
                assert!(!planned.queues.is_empty());
                for &queue in &planned.queues {
                    let queue = &plan.queues[queue];
                    let end = if is_output { queue.from } else { queue.to };
                    assert_eq!(end, Some(PortRef { stage, port }));
                }
            }
        }
    }
}

fn assert_ordered(plan: &Plan) {
    let mut place = vec![usize::MAX; plan.stages.len()];
    for (position, &stage) in plan.order.iter().enumerate() {
        place[stage] = position;
    }
    assert!(!place.contains(&usize::MAX), "every stage has its place: {:?}", plan.order);
    let queues = plan.queues.iter().filter_map(|queue| Some((queue.from?.stage, queue.to?.stage)));
    for (from, to) in queues.chain(plan.pipes.iter().map(|pipe| (pipe.from, pipe.to))) {
        assert!(place[from] < place[to], "{:?}", plan.order);
    }
}

/// Drawing never panics, and is the same each time.
fn draw_all(plan: &Plan) {
    for draw in [draw::dot, draw::mermaid, draw::svg, |plan: &Plan| draw::text(plan, draw::Charset::Ascii)] {
        assert_eq!(draw(plan), draw(plan));
    }
}

proptest! {
    #[test]
    fn a_plan_is_consistent_and_its_order_topological(parts in prop::collection::vec(random(), 0..14)) {
        match build(&parts).planned() {
            Ok(planned) => {
                assert_consistent(&planned.plan);
                assert_ordered(&planned.plan);
                draw_all(&planned.plan);
                prop_assert!(planned.warnings.iter().all(|problem| problem.severity == Severity::Warning));
            }
            Err(problems) => {
                prop_assert!(problems.iter().any(|problem| problem.severity == Severity::Error));
                for problem in problems {
                    prop_assert!(!problem.labels.is_empty() && problem.help.is_some(), "{problem:?}");
                }
            }
        }
    }

    #[test]
    fn a_cycle_is_reported_if_and_only_if_there_is_one(
        edges in prop::collection::btree_set((0..STAGES, 0..STAGES), 0..12)
    ) {
        let mut build = build(&[]);
        for (from, to) in &edges {
            build = build.queue(&format!("{} -> {}", name(*from), name(*to)));
        }
        let result = build.planned();
        if let Ok(planned) = &result {
            assert_consistent(&planned.plan);
            assert_ordered(&planned.plan);
            draw_all(&planned.plan);
        }
        let edges: Vec<_> = edges.into_iter().collect();
        let cycles = cycles(&result);
        prop_assert_eq!(has_cycle(&edges), !cycles.is_empty());
        prop_assert_eq!(result.is_err(), !cycles.is_empty());
    }
}
