//! Pipes: the two descriptors of a process at either end, so each end is used once, lives as long as its worker,
//! and has exactly one worker opposite.

use std::collections::{BTreeMap, BTreeSet};

use super::edges;
use crate::graph::ports::Direction;
use crate::graph::resolve::{End, Link, Net};
use crate::model::{Body, FAILED, Mode, Place, Problem, RestartPolicy, RestartScope, STDIN, STDOUT};

pub(super) fn check(net: &Net<'_>, problems: &mut Vec<Problem>) {
    for link in net.links.iter().filter(|link| link.pipe().is_some()) {
        check_ends(net, link, problems);
        check_widths(net, link, problems);
        check_restarts(net, link, problems);
    }
    check_sharing(net, problems);
    check_names(net, problems);
}

fn check_ends(net: &Net<'_>, link: &Link<'_>, problems: &mut Vec<Problem>) {
    for direction in [Direction::Out, Direction::In] {
        let wrong = match link.end(direction) {
            End::Engine => Some(engine_end(link, direction)),
            End::Port { stage, port } => wrong_port(net, link, direction, stage, port),
        };
        problems.extend(wrong);
    }
}

fn engine_end(link: &Link<'_>, direction: Direction) -> Problem {
    let name = if direction == Direction::Out { STDIN } else { STDOUT };
    Problem::error("mpflow::pipe_end", format!("pipe `{}` ends at mpflow's own `{name}`", link.edge))
        .at(link.end_place(direction), "not a process of the pipeline")
        .help(format!("use a queue: `queue: {}`", link.edge))
}

fn wrong_port(
    net: &Net<'_>,
    link: &Link<'_>,
    direction: Direction,
    position: usize,
    port: &str,
) -> Option<Problem> {
    let stage = net.stage(position);
    let name = &stage.name;
    let error = |what: String| Problem::error("mpflow::pipe_end", what);
    let (place, edge) = (link.end_place(direction), link.edge);
    let by_mode = Place::StageKey(name.clone(), "mode");
    if stage.mode == Mode::Each {
        return Some(
            error(format!("pipe `{edge}` is joined to `{name}`, which has a process for each record"))
                .at(place, "no worker lives as long as the pipe")
                .at(by_mode, "one process per record")
                .help(format!("use a queue: `queue: {edge}`")),
        );
    }
    if link.is_duplex() {
        let default_port = if direction == Direction::In { STDIN } else { STDOUT };
        return (port != default_port).then(|| {
            error(format!("duplex pipe `{edge}` names the port `{port}`, and such a pipe has no ports"))
                .at(place, "joined to the stage as a whole")
                .help(format!(
                    "write the stage alone: `{name}`; its workers find the pipe by the other's name"
                ))
        });
    }
    if port == FAILED {
        return Some(
            error(format!("pipe `{edge}` leaves `failed` of `{name}`, which no process writes"))
                .at(place, "the engine writes these records")
                .help(format!("use a queue: `queue: {edge}`")),
        );
    }
    (is_leased(net, position) && matches!(port, STDIN | STDOUT)).then(|| {
        error(format!("pipe `{edge}` is joined to `{port}` of `{name}`, where records are leased"))
            .at(place, "the engine has to see every record here")
            .at(by_mode, "this mode leases records")
            .help(format!("use a queue: `queue: {edge}`; or give `{name}` `mode: stream`"))
    })
}

/// Whether the workers are given records and answer them. A function that no queue feeds is called once: it leases
/// nothing, and its pipes are its own.
fn is_leased(net: &Net<'_>, position: usize) -> bool {
    let stage = net.stage(position);
    let is_fed = || net.links.iter().any(|link| link.queue().is_some() && link.to.is(position, STDIN));
    stage.is_leased() && (matches!(stage.body, Body::Command(_)) || is_fed())
}

/// A kernel pipe dies with either of its ends: whoever restarts one end must restart the other.
fn check_restarts(net: &Net<'_>, link: &Link<'_>, problems: &mut Vec<Problem>) {
    let Some((from, to)) = link.stages() else { return };
    for (position, other) in [(from, to), (to, from)] {
        let stage = net.stage(position);
        let restarts_both = match stage.restart.scope {
            RestartScope::Pipeline => true,
            RestartScope::Downstream => position == from,
            RestartScope::Worker | RestartScope::Stage => false,
        };
        if stage.restart.policy == RestartPolicy::Never || restarts_both {
            continue;
        }
        let other = &net.stage(other).name;
        let problem = Problem::error(
            "mpflow::pipe_restart",
            format!(
                "a worker of `{}` would restart with a pipe that `{other}` has the other end of",
                stage.name
            ),
        );
        problems.push(
            problem
                .at(Place::StageKey(stage.name.clone(), "restart"), format!("does not restart `{other}` with it"))
                .at(Place::Edge(link.number), "ends with the worker")
                .help(format!(
                    "write `restart: never` for `{}`, or `restart: {{policy: …, scope: pipeline}}`, or use a queue",
                    stage.name
                )),
        );
    }
}

/// Worker *i* is joined to worker *i*, so both pools have one fixed width.
fn check_widths(net: &Net<'_>, link: &Link<'_>, problems: &mut Vec<Problem>) {
    let Some((from, to)) = link.stages() else { return };
    let (a, b) = (net.stage(from), net.stage(to));
    let pool_key = |name: &str| Place::StageKey(name.to_owned(), "pool");
    let elastic: Vec<_> = [a, b].into_iter().filter(|stage| stage.pool.is_elastic()).collect();
    for stage in &elastic {
        let problem = Problem::error(
            "mpflow::elastic_pool",
            format!("pipe `{}` is joined to `{}`, whose pool grows and shrinks", link.edge, stage.name),
        );
        problems.push(
            problem
                .at(pool_key(&stage.name), "not always as wide")
                .at(Place::Edge(link.number), "joins worker to worker")
                .help(format!("give `{}` a fixed `pool: {}`, or use a queue", stage.name, stage.pool.max)),
        );
    }
    if elastic.is_empty() && a.pool != b.pool {
        let problem = Problem::error(
            "mpflow::pipe_width",
            format!("pipe `{}` joins a pool of {} to a pool of {}", link.edge, a.pool.max, b.pool.max),
        );
        problems.push(
            problem
                .at(Place::Edge(link.number), "joins worker to worker, one to one")
                .at(pool_key(&a.name), format!("{} of `{}`", workers(a.pool.max), a.name))
                .at(pool_key(&b.name), format!("{} of `{}`", workers(b.pool.max), b.name))
                .help(format!("give both the same `pool`, or use a queue: `queue: {}`", link.edge)),
        );
    }
}

fn workers(count: usize) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}

/// A port that a pipe is joined to has no other edge; duplex pipes have descriptors of their own.
fn check_sharing(net: &Net<'_>, problems: &mut Vec<Problem>) {
    let mut ports: BTreeMap<(Direction, End<'_>), Vec<&Link<'_>>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for link in net.links.iter().filter(|link| !link.is_duplex()) {
        // An edge declared twice has its own problem.
        if seen.insert(edges::key(link)) {
            ports.entry((Direction::Out, link.from)).or_default().push(link);
            ports.entry((Direction::In, link.to)).or_default().push(link);
        }
    }
    let mut found: Vec<_> = ports
        .into_iter()
        .filter(|((_, end), links)| {
            *end != End::Engine && links.len() > 1 && links.iter().any(|link| link.pipe().is_some())
        })
        .collect();
    found.sort_by_key(|((direction, _), links)| (links[1].number, *direction));
    problems
        .extend(found.into_iter().map(|((direction, end), links)| shared_port(net, direction, end, &links)));
}

fn shared_port(net: &Net<'_>, direction: Direction, end: End<'_>, links: &[&Link<'_>]) -> Problem {
    let (act, way) = match direction {
        Direction::In => ("enters", "records of several producers"),
        Direction::Out => ("leaves", "records to several consumers"),
    };
    let mut problem = Problem::error(
        "mpflow::pipe_shared",
        format!("a pipe {act} {}, and so does another edge", net.end_name(end, direction)),
    );
    for link in links {
        let text = if link.pipe().is_some() { "a pipe has its port for itself" } else { "the same port" };
        problem = problem.at(link.end_place(direction), text);
    }
    problem.help(format!("make all of them queues: queues carry {way}; or use a port of its own for one"))
}

/// A worker finds a duplex pipe, and a function any pipe, by the name of the stage at its other end.
fn check_names(net: &Net<'_>, problems: &mut Vec<Problem>) {
    let mut found: BTreeMap<(usize, usize), Vec<&Link<'_>>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for link in net.links.iter().filter(|link| link.pipe().is_some() && seen.insert(edges::key(link))) {
        let Some((from, to)) = link.stages() else { continue };
        for (stage, other) in [(from, to), (to, from)] {
            if link.is_duplex() || !matches!(net.stage(stage).body, Body::Command(_)) {
                found.entry((stage, other)).or_default().push(link);
            }
        }
    }
    let mut told = BTreeSet::new();
    for ((stage, other), links) in found.into_iter().filter(|(_, links)| links.len() > 1) {
        // Once for the pair, though each of its stages may be at a loss.
        if !told.insert((stage.min(other), stage.max(other))) {
            continue;
        }
        let (name, other) = (&net.stage(stage).name, &net.stage(other).name);
        let problem = Problem::error(
            "mpflow::pipe_name",
            format!("`{name}` would find {} pipes by the one name `{other}`", links.len()),
        );
        let problem = links.iter().fold(problem, |problem, link| {
            problem.at(Place::Edge(link.number), format!("found by the name `{other}`"))
        });
        problems.push(problem.help(format!(
            "one duplex pipe carries both ways; or use a queue for one of them: `queue: {}`",
            links[1].edge
        )));
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::testing::{Build, places, pool, refused};
    use crate::model::{Body, Mode, Place, Pool};
    use crate::model::{RestartPolicy, RestartScope};

    fn three() -> Build {
        Build::new().stage("a").stage("b").stage("c")
    }

    #[test]
    fn a_pipe_end_is_used_once() {
        let problem =
            refused(three().pipe("a -> b").pipe("a -> c"), "mpflow::pipe_shared", "`stdout` of `a`");
        assert_eq!(places(&problem), [Place::EdgeFrom(0), Place::EdgeFrom(1)]);
        refused(three().pipe("a -> c").queue("b -> c"), "mpflow::pipe_shared", "`stdin` of `c`");
        three().pipe("a -> b").queue("a.stderr -> c").accepted();
        three().pipe("a -> b").pipe("a.side -> c").accepted();
        three().pipe("a -> b").pipe("b -> c").accepted();
    }

    #[test]
    fn a_duplex_pipe_takes_no_port() {
        three().duplex("a -> b").queue("a -> b").queue("a -> c").accepted();
        three().duplex("a -> b").duplex("a -> c").accepted();
        refused(three().duplex("a.side -> b"), "mpflow::pipe_end", "has no ports");
        refused(three().duplex("a -> b").duplex("a -> b"), "mpflow::duplicate_edge", "twice");
    }

    #[test]
    fn what_finds_a_pipe_by_the_name_of_the_other_stage_has_one_to_it() {
        let function = |stage: &mut crate::model::Stage| stage.body = Body::Function("work".to_owned());
        let two = || Build::new().with("f", function).with("g", function).stage("a");
        let problem = refused(two().pipe("f -> g").pipe("f.side -> g.more"), "mpflow::pipe_name", "2 pipes");
        assert_eq!(places(&problem), [Place::Edge(0), Place::Edge(1)]);
        refused(two().pipe("f -> a").pipe("f.side -> a.more"), "mpflow::pipe_name", "`f` would find");
        three().pipe("a -> b").pipe("a.side -> b.more").duplex("a -> b").accepted();
        two().pipe("f -> g").pipe("f.side -> a").accepted();
    }

    #[test]
    fn a_pipe_ends_at_processes() {
        refused(three().pipe("stdin -> a"), "mpflow::pipe_end", "mpflow's own `stdin`");
        let problem = refused(three().pipe("a -> stdout"), "mpflow::pipe_end", "mpflow's own `stdout`");
        assert_eq!(problem.help.unwrap(), "use a queue: `queue: a -> stdout`");
    }

    #[test]
    fn leases_need_a_queue() {
        let map = || three().with("m", |m| m.mode = Mode::Map);
        refused(map().pipe("a -> m"), "mpflow::pipe_end", "`stdin` of `m`");
        refused(map().queue("a -> m").pipe("m -> b"), "mpflow::pipe_end", "`stdout` of `m`");
        refused(map().queue("a -> m").pipe("m.failed -> b"), "mpflow::pipe_end", "which no process writes");
        map().queue("a -> m").pipe("m.side -> b").duplex("m -> c").accepted();
        let each = three().with("e", |e| e.mode = Mode::Each).queue("a -> e");
        refused(each.clone().pipe("e.side -> b"), "mpflow::pipe_end", "a process for each record");
        refused(each.duplex("e -> b"), "mpflow::pipe_end", "a process for each record");
    }

    #[test]
    fn a_function_that_no_queue_feeds_leases_nothing() {
        let function = |stage: &mut crate::model::Stage| {
            stage.mode = Mode::Map;
            stage.body = Body::Function("work".to_owned());
        };
        let two = || Build::new().with("f", function).with("g", function).stage("a");
        two().pipe("f -> g").accepted();
        two().pipe("f -> g").queue("g -> a").accepted();
        refused(two().pipe("f -> g").queue("a -> f"), "mpflow::pipe_end", "`stdout` of `f`");
    }

    #[test]
    fn the_ends_of_a_pipe_are_equally_wide() {
        let wide = |a: Pool, b: Pool| {
            Build::new().with("a", move |s| s.pool = a).with("b", move |s| s.pool = b).pipe("a -> b")
        };
        wide(pool(4), pool(4)).accepted();
        let problem = refused(wide(pool(4), pool(2)), "mpflow::pipe_width", "a pool of 4 to a pool of 2");
        assert_eq!(problem.labels.len(), 3);
        refused(wide(Pool { min: 1, max: 4 }, pool(4)), "mpflow::elastic_pool", "`a`");
    }

    #[test]
    fn whoever_restarts_one_end_of_a_pipe_restarts_the_other() {
        let with = |name: &'static str, scope| {
            let restarts = move |stage: &mut crate::model::Stage| {
                stage.restart.policy = RestartPolicy::OnFailure;
                stage.restart.scope = scope;
            };
            let plain = |_: &mut crate::model::Stage| {};
            match name {
                "a" => Build::new().with("a", restarts).with("b", plain),
                _ => Build::new().with("a", plain).with("b", restarts),
            }
            .pipe("a -> b")
        };
        refused(with("a", RestartScope::Worker), "mpflow::pipe_restart", "`a`");
        refused(with("b", RestartScope::Downstream), "mpflow::pipe_restart", "`b`");
        with("a", RestartScope::Downstream).accepted();
        with("b", RestartScope::Pipeline).accepted();
    }
}
