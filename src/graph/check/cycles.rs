//! Cycles: of edges, and of stages that wait for one another.

use std::collections::VecDeque;

use crate::graph::dag::Dag;
use crate::graph::resolve::{Link, Net};
use crate::model::{DependencyState, Place, Problem, WhenFull};

pub(super) fn check(net: &Net<'_>, problems: &mut Vec<Problem>) {
    let before = problems.len();
    let links: Vec<&Link<'_>> = net.links.iter().filter(|link| link.stages().is_some()).collect();
    let edges = Dag::new(net.pipeline.stages.len(), &arcs(&links));
    for cycle in edges.cycles() {
        let cycle: Vec<&Link<'_>> = cycle.into_iter().map(|arc| links[arc]).collect();
        problems.push(edge_cycle(net, &cycle));
    }
    // What lies on a cycle of edges alone has been said; the rest may still wait in a circle.
    let groups = edges.groups();
    let is_acyclic = |link: &&Link<'_>| link.stages().is_some_and(|(a, b)| groups[a] != groups[b]);
    let waits = Waits::new(net, links.iter().copied().filter(is_acyclic));
    problems.extend(waits.cycles(net));
    if problems.len() == before {
        problems.extend(waits.blocked(net));
    }
}

fn arcs(links: &[&Link<'_>]) -> Vec<(usize, usize)> {
    links.iter().filter_map(|link| link.stages()).collect()
}

fn edge_cycle(net: &Net<'_>, cycle: &[&Link<'_>]) -> Problem {
    let mut stages: Vec<usize> = cycle.iter().filter_map(|link| link.from.stage()).collect();
    stages.extend(stages.first().copied());
    let path = path(net, &stages);
    let mut problem = Problem::error("mpflow::cycle", format!("the edges make a cycle: `{path}`"));
    for link in cycle {
        problem = problem.at(Place::Edge(link.number), format!("`{}`", link.edge));
    }
    let help = if cycle.iter().any(|link| link.is_duplex()) {
        "turn the duplex pipe round, or remove one of the others: a duplex pipe goes both ways already"
    } else if cycle.len() == 2 {
        "remove one of the two; two stages that talk to each other are joined by one `pipe` with `duplex: true`"
    } else {
        "remove one of these edges: records flow one way"
    };
    problem.help(help)
}

fn path(net: &Net<'_>, stages: &[usize]) -> String {
    stages.iter().map(|&stage| net.name(stage)).collect::<Vec<_>>().join(" -> ")
}

/// Who waits for what. Every stage is two nodes, its start and its end; an arc leads from what waits to what it
/// waits for.
struct Waits<'n, 'a> {
    dag: Dag,
    reasons: Vec<Reason>,
    arcs: Vec<(usize, usize)>,
    /// For each stage the edges on which it may make its producers wait.
    blocking: Vec<Vec<&'n Link<'a>>>,
}

/// Why something waits.
#[derive(Clone, Copy)]
enum Reason {
    /// A stage cannot end before it has started.
    Life,
    /// `depends_on` of this stage.
    Dependency(usize, DependencyState),
    /// A consumer ends after its producer: the number of their edge.
    Edge(usize),
}

fn start(stage: usize) -> usize {
    2 * stage
}

fn end(stage: usize) -> usize {
    2 * stage + 1
}

fn stage_of(node: usize) -> usize {
    node / 2
}

impl<'n, 'a> Waits<'n, 'a> {
    fn new(net: &Net<'a>, links: impl Iterator<Item = &'n Link<'a>>) -> Self {
        let mut arcs = Vec::new();
        let mut blocking = vec![Vec::new(); net.pipeline.stages.len()];
        let mut reasons = Vec::new();
        for (position, stage) in net.pipeline.stages.iter().enumerate() {
            for dependency in &stage.depends_on {
                let Some(other) = net.position(&dependency.stage) else { continue };
                let awaited = match dependency.state {
                    DependencyState::Started | DependencyState::Ready => start(other),
                    DependencyState::Finished => end(other),
                };
                arcs.push((start(position), awaited));
                reasons.push(Reason::Dependency(position, dependency.state));
            }
            arcs.push((end(position), start(position)));
            reasons.push(Reason::Life);
        }
        for link in links.filter(|link| !link.is_duplex()) {
            let Some((from, to)) = link.stages() else { continue };
            if can_block(link) {
                blocking[to].push(link);
            }
            arcs.push((end(to), end(from)));
            reasons.push(Reason::Edge(link.number));
        }
        Self { dag: Dag::new(2 * net.pipeline.stages.len(), &arcs), reasons, arcs, blocking }
    }

    fn cycles(&self, net: &Net<'_>) -> Vec<Problem> {
        self.dag.cycles().iter().map(|cycle| self.deadlock(net, cycle)).collect()
    }

    fn deadlock(&self, net: &Net<'_>, cycle: &[usize]) -> Problem {
        let mut stages: Vec<usize> = cycle.iter().map(|&arc| stage_of(self.arcs[arc].0)).collect();
        stages.push(stage_of(self.arcs[cycle[0]].0));
        stages.dedup();
        if stages.len() == 1 {
            stages.push(stages[0]);
        }
        let message = match stages[..] {
            [one, _] => format!("`{}` waits for itself: `{}`", net.name(one), path(net, &stages)),
            _ => format!("stages wait for one another and none can start: `{}`", path(net, &stages)),
        };
        let mut problem = Problem::error("mpflow::cycle", message);
        for &arc in cycle {
            let (waiting, awaited) = self.arcs[arc];
            let (waiting, awaited) = (net.name(stage_of(waiting)), net.name(stage_of(awaited)));
            match self.reasons[arc] {
                Reason::Life => {}
                Reason::Dependency(stage, state) => {
                    let key = Place::StageKey(net.name(stage).to_owned(), "depends_on");
                    problem =
                        problem.at(key, format!("`{waiting}` starts when `{awaited}` {}", words(state)));
                }
                Reason::Edge(number) => {
                    let text = format!("`{waiting}` ends when `{awaited}` has ended");
                    problem = problem.at(Place::Edge(number), text);
                }
            }
        }
        problem.help("remove one of these dependencies, or wait for `started` where it says `finished`")
    }

    /// A stage that starts late is not there to make room: whoever feeds it may have to wait, and must not be
    /// what it waits for. It works as long as the records fit, so it is only a warning.
    fn blocked(&self, net: &Net<'_>) -> Vec<Problem> {
        let late = net.pipeline.stages.iter().enumerate().filter(|(_, stage)| !stage.depends_on.is_empty());
        late.filter_map(|(stage, _)| self.blocked_feeder(net, stage)).collect()
    }

    fn blocked_feeder(&self, net: &Net<'_>, late: usize) -> Option<Problem> {
        let awaited = self.dag.reachable(start(late));
        // Breadth first against the edges, each stage with the edge by which `late` is fed from there.
        let mut is_seen = vec![false; net.pipeline.stages.len()];
        let mut queue: VecDeque<(usize, Option<&Link<'_>>)> = VecDeque::from([(late, None)]);
        while let Some((stage, by)) = queue.pop_front() {
            for &link in &self.blocking[stage] {
                let Some(feeder) = link.from.stage() else { continue };
                let by = by.unwrap_or(link);
                if awaited[end(feeder)] {
                    return Some(may_block(net, late, feeder, by));
                }
                if !std::mem::replace(&mut is_seen[feeder], true) {
                    queue.push_back((feeder, Some(by)));
                }
            }
        }
        None
    }
}

fn words(state: DependencyState) -> &'static str {
    match state {
        DependencyState::Started => "has started",
        DependencyState::Ready => "is ready",
        DependencyState::Finished => "has finished",
    }
}

fn can_block(link: &Link<'_>) -> bool {
    link.queue().is_none_or(|options| options.when_full == WhenFull::Block)
}

fn may_block(net: &Net<'_>, late: usize, feeder: usize, by: &Link<'_>) -> Problem {
    let (late, feeder) = (net.name(late), net.name(feeder));
    let room = match by.queue() {
        Some(_) => "raise `capacity_bytes` of that edge",
        None => "make that edge a queue with a `capacity_bytes` that is large enough",
    };
    Problem::warning(
        "mpflow::may_block",
        format!(
            "`{late}` starts only when `{feeder}` has finished, and `{feeder}` may have to wait for `{late}`"
        ),
    )
    .at(Place::StageKey(late.to_owned(), "depends_on"), format!("waits for the end of `{feeder}`"))
    .at(Place::Edge(by.number), format!("until `{late}` starts, records can only wait here"))
    .help(format!("if they may not all fit, {room}, or wait for `ready` in the place of `finished`"))
}

#[cfg(test)]
mod tests {
    use crate::graph::testing::{Build, places, refused};
    use crate::model::{Dependency, DependencyState, Place, Stage, WhenFull};

    fn three() -> Build {
        Build::new().stage("a").stage("b").stage("c")
    }

    fn after(stage: &str, state: DependencyState) -> impl FnOnce(&mut Stage) {
        let dependency = Dependency { stage: stage.to_owned(), state };
        move |s| s.depends_on.push(dependency)
    }

    #[test]
    fn a_cycle_is_shown_as_a_path_with_a_label_on_each_edge() {
        let build = three().queue("a -> b").queue("b -> c").queue("c -> a");
        let problem = refused(build, "mpflow::cycle", "`a -> b -> c -> a`");
        assert_eq!(places(&problem), [Place::Edge(0), Place::Edge(1), Place::Edge(2)]);
        refused(three().queue("a -> a"), "mpflow::cycle", "`a -> a`");
        refused(three().queue("b -> a").pipe("a -> b"), "mpflow::cycle", "`a -> b -> a`");
    }

    #[test]
    fn a_duplex_pipe_is_one_edge() {
        three().duplex("a -> b").accepted();
        let problem = refused(three().duplex("a -> b").queue("b -> a"), "mpflow::cycle", "`a -> b -> a`");
        assert!(problem.help.unwrap().contains("duplex"));
        three().duplex("a -> b").queue("a -> b").accepted();
    }

    #[test]
    fn stages_that_wait_for_one_another_are_a_cycle() {
        let build = Build::new()
            .with("a", after("b", DependencyState::Ready))
            .with("b", after("a", DependencyState::Started));
        let problem = refused(build, "mpflow::cycle", "`a -> b -> a`");
        assert_eq!(
            places(&problem),
            [Place::StageKey("a".into(), "depends_on"), Place::StageKey("b".into(), "depends_on")]
        );
        let itself = Build::new().with("a", after("a", DependencyState::Started));
        refused(itself, "mpflow::cycle", "`a` waits for itself");
        let itself = Build::new().with("a", after("a", DependencyState::Finished));
        refused(itself, "mpflow::cycle", "`a` waits for itself");
    }

    #[test]
    fn who_feeds_a_stage_cannot_wait_for_its_end() {
        let build = |state| Build::new().with("a", after("b", state)).stage("b").queue("a -> b");
        let problem = refused(build(DependencyState::Finished), "mpflow::cycle", "`a -> b -> a`");
        assert_eq!(places(&problem), [Place::StageKey("a".into(), "depends_on"), Place::Edge(0)]);
        build(DependencyState::Ready).accepted();
        build(DependencyState::Started).accepted();
        // A duplex pipe has no end that its second stage would wait for.
        let duplex =
            Build::new().with("a", after("b", DependencyState::Finished)).stage("b").duplex("a -> b");
        duplex.accepted();
    }

    #[test]
    fn a_consumer_that_starts_after_its_producer_is_warned_of() {
        let build = Build::new().stage("a").stage("m").with("b", after("a", DependencyState::Finished));
        let planned = build.clone().queue("a -> m").queue("m -> b").planned().unwrap();
        let [warning] = &planned.warnings[..] else { panic!("{:?}", planned.warnings) };
        assert_eq!(warning.code, "mpflow::may_block");
        assert_eq!(places(warning), [Place::StageKey("b".into(), "depends_on"), Place::Edge(1)]);
        build.queue_with("a -> b", |queue| queue.when_full = WhenFull::DropOldest).accepted();
    }
}
