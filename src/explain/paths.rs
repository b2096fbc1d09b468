//! The paths from sources to sinks, each with the weakest of its promises.
//!
//! A graph of a few diamonds has more paths than anybody reads, so that they are listed only where they are few; the
//! promises of each stage and each edge, which are there in any case, say the same piece by piece.

use super::promise::{edges, of_stage};
use crate::explanation::{
    Death, Delivery, EdgePromise, Full, Order, OrderBy, Path, Paths, Sharing, StagePromise, Then, Weakness,
};
use crate::graph::Plan;
use crate::model::{STDIN, STDOUT};

/// More paths than this are not listed.
const MOST_LISTED: u64 = 8;

/// One edge, by its ends: `None` is `mpflow` itself.
struct Hop {
    edge: usize,
    from: Option<usize>,
    to: Option<usize>,
    /// The port that it leaves by, where that is not the standard one.
    port: Option<String>,
    is_failed: bool,
}

struct Graph<'a> {
    plan: &'a Plan,
    hops: Vec<Hop>,
    edges: Vec<EdgePromise>,
    stages: Vec<StagePromise>,
}

/// How many paths there are, and which, if they are few.
pub(super) fn paths(plan: &Plan) -> Paths {
    let graph = Graph::new(plan);
    let count = graph.count();
    let mut listed = Vec::new();
    if count <= MOST_LISTED {
        for start in graph.starts() {
            graph.walk(start, &mut Vec::new(), &mut listed);
        }
    }
    Paths { count, listed }
}

impl<'a> Graph<'a> {
    fn new(plan: &'a Plan) -> Self {
        let queues = plan.queues.iter().map(|queue| {
            let name = queue.from.map(|from| plan.stages[from.stage].outputs[from.port].name.clone());
            Hop {
                edge: 0,
                from: queue.from.map(|from| from.stage),
                to: queue.to.map(|to| to.stage),
                is_failed: name.as_deref() == Some("failed"),
                port: name.filter(|name| name != STDOUT),
            }
        });
        let pipes = plan.pipes.iter().map(|pipe| Hop {
            edge: 0,
            from: Some(pipe.from),
            to: Some(pipe.to),
            is_failed: false,
            port: (!pipe.duplex && pipe.from_port != STDOUT).then(|| pipe.from_port.clone()),
        });
        let hops = queues.chain(pipes).enumerate().map(|(edge, hop)| Hop { edge, ..hop }).collect();
        let stages = (0..plan.stages.len()).map(|stage| of_stage(plan, stage)).collect();
        Self { plan, hops, edges: edges(plan), stages }
    }

    /// `None` is standard input.
    fn starts(&self) -> Vec<Option<usize>> {
        let is_fed = |stage: usize| self.hops.iter().any(|hop| hop.to == Some(stage));
        let from_stdin = self.hops.iter().any(|hop| hop.from.is_none());
        let sources = self.plan.order.iter().copied().filter(|&stage| !is_fed(stage)).map(Some);
        from_stdin.then_some(None).into_iter().chain(sources).collect()
    }

    fn leaving(&self, stage: Option<usize>) -> impl Iterator<Item = &Hop> {
        self.hops.iter().filter(move |hop| hop.from == stage)
    }

    /// By the number of ways on from each stage, the last stages first.
    fn count(&self) -> u64 {
        let mut ways = vec![1_u64; self.plan.stages.len()];
        let on = |ways: &[u64], stage: Option<usize>| {
            let hops = self.leaving(stage).map(|hop| hop.to.map_or(1, |to| ways[to]));
            hops.fold(0, u64::saturating_add)
        };
        for &stage in self.plan.order.iter().rev() {
            ways[stage] = on(&ways, Some(stage)).max(1);
        }
        let start = |start: Option<usize>| start.map_or_else(|| on(&ways, None), |stage| ways[stage]);
        self.starts().into_iter().map(start).fold(0, u64::saturating_add)
    }

    /// Depth first; the graph has no cycles, and only few paths when this is called.
    fn walk(&self, at: Option<usize>, hops: &mut Vec<usize>, found: &mut Vec<Path>) {
        let mut is_end = true;
        for hop in self.leaving(at) {
            is_end = false;
            hops.push(hop.edge);
            match hop.to {
                Some(to) => self.walk(Some(to), hops, found),
                None => found.push(self.path(None, hops)),
            }
            hops.pop();
        }
        if is_end {
            found.push(self.path(at, hops));
        }
    }

    /// What is promised along these edges, which end at this stage or at standard output.
    fn path(&self, end: Option<usize>, hops: &[usize]) -> Path {
        let hops: Vec<&Hop> = hops.iter().map(|&hop| &self.hops[hop]).collect();
        let start = hops.first().map_or(end, |first| first.from);
        let mut path = Path {
            through: Vec::new(),
            order: Order::Kept,
            order_lost_at: None,
            exactly_once: true,
            fatal: Vec::new(),
            weaknesses: Vec::new(),
        };
        match start {
            Some(source) => self.start_at(source, &mut path),
            None => path.through.push(STDIN.to_owned()),
        }
        for (number, hop) in hops.iter().enumerate() {
            if let (Some(port), Some(last)) = (&hop.port, path.through.last_mut()) {
                *last = format!("{last}.{port}");
            }
            self.over_edge(hop, &mut path);
            match hop.to {
                Some(to) => self.through_stage(hop, to, hops.get(number + 1).copied(), &mut path),
                None => path.through.push(STDOUT.to_owned()),
            }
        }
        path.weaknesses.dedup();
        path.exactly_once = path.weaknesses.is_empty();
        path
    }

    fn start_at(&self, source: usize, path: &mut Path) {
        let stage = &self.stages[source];
        path.through.push(stage.stage.clone());
        path.order = if stage.workers == 1 { Order::Kept } else { Order::PerWorker };
        match stage.death {
            Death::Repeats => path.weaknesses.push(Weakness::Repeats { stage: stage.stage.clone() }),
            Death::StageFails => path.fatal.push(stage.stage.clone()),
            Death::Attempt | Death::Unconfirmed => {}
        }
    }

    fn over_edge(&self, hop: &Hop, path: &mut Path) {
        let edge = &self.edges[hop.edge];
        if edge.when_full != Full::ProducerWaits {
            path.weaknesses.push(Weakness::Drops { edge: edge.edge.clone() });
        }
        if edge.delivery == Delivery::Nothing {
            path.weaknesses.push(Weakness::Pipe { edge: edge.edge.clone() });
        }
    }

    /// What a stage does to the promise, between the edge that the path comes by and the one that it leaves by.
    fn through_stage(&self, hop: &Hop, to: usize, next: Option<&Hop>, path: &mut Path) {
        let stage = &self.stages[to];
        let name = || stage.stage.clone();
        path.through.push(name());
        match self.edges[hop.edge].delivery {
            Delivery::Unconfirmed => path.weaknesses.push(Weakness::Unconfirmed { stage: name() }),
            _ if stage.death == Death::StageFails => path.fatal.push(name()),
            Delivery::Leased | Delivery::Written | Delivery::OnceOrFails | Delivery::Nothing => {}
        }
        if stage.daemon {
            path.weaknesses.push(Weakness::Daemon { stage: name() });
        }
        let takes_failed = next.is_some_and(|next| next.is_failed);
        match stage.failing.as_ref().map(|failing| failing.then) {
            // Those that fail are what this path is for.
            Some(Then::Skipped) => path.weaknesses.push(Weakness::Skips { stage: name() }),
            Some(Then::Diverted) if !takes_failed => {
                path.weaknesses.push(Weakness::Diverts { stage: name() })
            }
            _ => {}
        }
        if next.is_some() {
            self.reorder(hop, stage, takes_failed, path);
        }
    }

    /// The order in which a stage passes on what comes to it in the path's order.
    fn reorder(&self, hop: &Hop, stage: &StagePromise, takes_failed: bool, path: &mut Path) {
        let after = match (stage.order_by, self.edges[hop.edge].sharing) {
            _ if takes_failed => Order::NotKept,
            // A record that waits for its next attempt is overtaken, also by others of its key.
            (None, _) if stage.leased => Order::NotKept,
            (Some(OrderBy::OneWorker | OrderBy::Ordered), _) => path.order,
            (_, Sharing::Key) if path.order == Order::Kept => Order::PerKey,
            (_, Sharing::Key) => path.order,
            (_, Sharing::All | Sharing::Pairs) if !stage.leased && path.order == Order::Kept => {
                Order::PerWorker
            }
            (_, Sharing::All | Sharing::Pairs) if !stage.leased => path.order,
            (_, Sharing::All | Sharing::Pairs | Sharing::Demand | Sharing::One) => Order::NotKept,
        };
        if after == Order::NotKept && path.order != Order::NotKept {
            path.order_lost_at = Some(stage.stage.clone());
        }
        path.order = after;
    }
}

/// Stages that put records in order which another stage before them has mixed: the later one, and the earlier.
pub(super) fn ordered_too_late(plan: &Plan) -> Vec<(String, String)> {
    let graph = Graph::new(plan);
    let mut mixed_by: Vec<Option<String>> = vec![None; plan.stages.len()];
    let mut found = Vec::new();
    for &position in &plan.order {
        let stage = &graph.stages[position];
        let is_mixing = |hop: &Hop| {
            matches!(graph.edges[hop.edge].sharing, Sharing::Demand | Sharing::All)
                && stage.order_by.is_none()
        };
        let into: Vec<&Hop> = graph.hops.iter().filter(|hop| hop.to == Some(position)).collect();
        let before = into.iter().find_map(|hop| mixed_by[hop.from?].clone());
        if stage.order_by == Some(OrderBy::Ordered)
            && let Some(before) = &before
        {
            found.push((stage.stage.clone(), before.clone()));
        }
        let is_source_pool = into.is_empty() && stage.workers > 1;
        let mixes = is_source_pool || into.iter().any(|hop| is_mixing(hop));
        mixed_by[position] = before.or_else(|| mixes.then(|| stage.stage.clone()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{Build, pool};
    use crate::model::{Mode, OnError, PartitionKey, QueueOptions, RestartPolicy, Stage, WhenFull};

    fn only(build: &Build) -> Path {
        let paths = paths(&build.accepted());
        assert_eq!((paths.count, paths.listed.len()), (1, 1));
        paths.listed[0].clone()
    }

    fn chain(keys: impl FnOnce(&mut Stage), queue: impl FnOnce(&mut QueueOptions)) -> Build {
        Build::new().stage("a").with("b", keys).queue_with("a -> b", queue).queue("b -> stdout")
    }

    fn wide_map(stage: &mut Stage) {
        (stage.mode, stage.pool, stage.restart.policy) = (Mode::Map, pool(4), RestartPolicy::OnFailure);
    }

    #[test]
    fn leases_make_every_record_come_exactly_once_whoever_dies_behind_the_source() {
        let path = only(&chain(wide_map, |_| {}));
        assert_eq!(path.through, ["a", "b", "stdout"]);
        assert!(path.exactly_once);
        assert_eq!(path.fatal, ["a"]);
        assert_eq!((path.order, path.order_lost_at.as_deref()), (Order::NotKept, Some("b")));
    }

    #[test]
    fn order_is_kept_by_one_worker_by_ordered_and_by_key() {
        let order = |build: Build| only(&build).order;
        assert_eq!(order(chain(|_| {}, |_| {})), Order::Kept);
        let ordered = |stage: &mut Stage| {
            wide_map(stage);
            stage.ordered = true;
        };
        assert_eq!(order(chain(ordered, |_| {})), Order::Kept);
        let by_key = |queue: &mut QueueOptions| queue.partition_by = Some(PartitionKey::Field(1));
        assert_eq!(order(chain(wide_map, by_key)), Order::PerKey);
        assert_eq!(order(chain(|b| b.pool = pool(3), |_| {})), Order::NotKept);
        assert_eq!(order(chain(|b| b.pool = pool(3), |queue| queue.to_each = true)), Order::PerWorker);
    }

    #[test]
    fn a_delayed_attempt_is_overtaken_even_by_a_pool_of_one() {
        let delayed = |stage: &mut Stage| {
            (stage.mode, stage.retry.delay) = (Mode::Map, std::time::Duration::from_secs(1));
        };
        assert_eq!(only(&chain(delayed, |_| {})).order, Order::NotKept);
        let ordered = |stage: &mut Stage| {
            delayed(stage);
            stage.ordered = true;
        };
        assert_eq!(only(&chain(ordered, |_| {})).order, Order::Kept);
    }

    #[test]
    fn every_weakness_is_named_with_its_place() {
        let weak = |build: Build| only(&build).weaknesses;
        let restarting = |b: &mut Stage| b.restart.policy = RestartPolicy::OnFailure;
        assert_eq!(weak(chain(restarting, |_| {})), [Weakness::Unconfirmed { stage: "b".into() }]);
        let dropping = |queue: &mut QueueOptions| queue.when_full = WhenFull::DropOldest;
        assert_eq!(weak(chain(|_| {}, dropping)), [Weakness::Drops { edge: "a -> b".into() }]);
        let skipping = |b: &mut Stage| {
            wide_map(b);
            b.on_error = OnError::Skip;
        };
        assert_eq!(weak(chain(skipping, |_| {})), [Weakness::Skips { stage: "b".into() }]);
        let source = Build::new().with("a", restarting).stage("b").queue("a -> b").queue("b -> stdout");
        assert_eq!(weak(source), [Weakness::Repeats { stage: "a".into() }]);
        let piped = Build::new().stage("a").stage("b").pipe("a -> b").queue("b -> stdout");
        assert_eq!(weak(piped), [Weakness::Pipe { edge: "a -> b".into() }]);
    }

    #[test]
    fn the_failed_are_a_path_of_their_own() {
        let build = Build::new()
            .stage("a")
            .with("b", wide_map)
            .stage("c")
            .queue("a -> b")
            .queue("b -> stdout")
            .queue("b.failed -> c")
            .queue("c -> stdout");
        let paths = paths(&build.accepted());
        let through: Vec<String> = paths.listed.iter().map(|path| path.through.join(" -> ")).collect();
        assert_eq!(through, ["a -> b -> stdout", "a -> b.failed -> c -> stdout"]);
        assert_eq!(paths.listed[0].weaknesses, [Weakness::Diverts { stage: "b".into() }]);
        assert_eq!(paths.listed[1].weaknesses, []);
    }

    #[test]
    fn many_paths_are_counted_and_not_listed() {
        let mut build = Build::new().stage("s0");
        for level in 0..70 {
            let (from, to) = (format!("s{level}"), format!("s{}", level + 1));
            build = build.stage(&to).stage(&format!("x{level}")).stage(&format!("y{level}"));
            for middle in [format!("x{level}"), format!("y{level}")] {
                build = build.queue(&format!("{from} -> {middle}")).queue(&format!("{middle} -> {to}"));
            }
        }
        let paths = paths(&build.accepted());
        assert_eq!((paths.count, paths.listed.len()), (u64::MAX, 0));
    }

    #[test]
    fn order_that_is_lost_before_is_not_brought_back() {
        let ordered = |stage: &mut Stage| {
            wide_map(stage);
            stage.ordered = true;
        };
        let build = Build::new()
            .stage("a")
            .with("mix", wide_map)
            .stage("one")
            .with("sort", ordered)
            .queue("a -> mix")
            .queue("mix -> one")
            .queue("one -> sort");
        assert_eq!(ordered_too_late(&build.accepted()), [("sort".to_owned(), "mix".to_owned())]);
        assert_eq!(ordered_too_late(&chain(ordered, |_| {}).accepted()), []);
    }
}
