//! The graph itself: petgraph stays in this file.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use petgraph::Direction::Incoming;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

/// Nodes numbered from 0 and the arcs between them, numbered in the order in which they were given.
pub(super) struct Dag {
    graph: DiGraph<(), usize, usize>,
}

impl Dag {
    /// The graph of these arcs, some of which may make cycles.
    pub(super) fn new(nodes: usize, arcs: &[(usize, usize)]) -> Self {
        let mut graph = DiGraph::with_capacity(nodes, arcs.len());
        for _ in 0..nodes {
            graph.add_node(());
        }
        for (number, &(from, to)) in arcs.iter().enumerate() {
            graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), number);
        }
        Self { graph }
    }

    /// All nodes, each after those that lead to it; among those that are free, the smallest first. Nodes of a
    /// cycle, and what lies behind one, are missing.
    pub(super) fn order(&self) -> Vec<usize> {
        let graph = &self.graph;
        let mut waiting: Vec<usize> =
            graph.node_indices().map(|node| graph.edges_directed(node, Incoming).count()).collect();
        let mut free: BinaryHeap<Reverse<usize>> =
            (0..waiting.len()).filter(|&node| waiting[node] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(waiting.len());
        while let Some(Reverse(node)) = free.pop() {
            order.push(node);
            for next in graph.neighbors(NodeIndex::new(node)) {
                waiting[next.index()] -= 1;
                if waiting[next.index()] == 0 {
                    free.push(Reverse(next.index()));
                }
            }
        }
        order
    }

    /// One shortest cycle of each group of nodes that reach one another, as the numbers of its arcs. It starts
    /// at its smallest node; groups are in the order of these.
    pub(super) fn cycles(&self) -> Vec<Vec<usize>> {
        let groups = self.groups();
        let mut members = vec![Vec::new(); groups.len()];
        for (node, &group) in groups.iter().enumerate() {
            members[group].push(node);
        }
        let mut cycles: Vec<Vec<usize>> =
            members.iter().filter_map(|nodes| self.shortest_cycle(nodes, &groups)).collect();
        cycles.sort_by_key(|cycle| self.ends(cycle[0]).0);
        cycles
    }

    /// For each node the number of its group: two nodes have the same one if each can be reached from the other.
    pub(super) fn groups(&self) -> Vec<usize> {
        let mut groups = vec![0; self.graph.node_count()];
        for (number, component) in tarjan_scc(&self.graph).into_iter().enumerate() {
            for node in component {
                groups[node.index()] = number;
            }
        }
        groups
    }

    /// Every node that can be reached from this one, which is itself among them only if it lies on a cycle.
    pub(super) fn reachable(&self, start: usize) -> Vec<bool> {
        let mut is_reached = vec![false; self.graph.node_count()];
        let mut stack = vec![NodeIndex::new(start)];
        while let Some(node) = stack.pop() {
            for next in self.graph.neighbors(node) {
                if !std::mem::replace(&mut is_reached[next.index()], true) {
                    stack.push(next);
                }
            }
        }
        is_reached
    }

    fn ends(&self, arc: usize) -> (usize, usize) {
        let (from, to) = self
            .graph
            .edge_endpoints(petgraph::graph::EdgeIndex::new(arc))
            .expect("arcs are never removed, so their numbers are their positions");
        (from.index(), to.index())
    }

    /// Breadth first from each node in turn; a later one wins only by being shorter, so that the cycle found is
    /// the one that starts at the smallest node.
    fn shortest_cycle(&self, nodes: &[usize], groups: &[usize]) -> Option<Vec<usize>> {
        let mut best: Option<Vec<usize>> = None;
        for &start in nodes {
            if let Some(cycle) = self.cycle_through(start, groups)
                && best.as_ref().is_none_or(|best| cycle.len() < best.len())
            {
                best = Some(cycle);
            }
        }
        best
    }

    fn cycle_through(&self, start: usize, groups: &[usize]) -> Option<Vec<usize>> {
        let mut reached_by = vec![None; groups.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            // petgraph yields the youngest arc first; the oldest is the one to report.
            let mut arcs: Vec<_> = self
                .graph
                .edges(NodeIndex::new(node))
                .map(|arc| (*arc.weight(), arc.target().index()))
                .filter(|&(_, target)| groups[target] == groups[start])
                .collect();
            arcs.sort_unstable();
            for (arc, target) in arcs {
                if target == start {
                    return Some(self.walk_back(arc, start, &reached_by));
                }
                if reached_by[target].is_none() {
                    reached_by[target] = Some(arc);
                    queue.push_back(target);
                }
            }
        }
        None
    }

    fn walk_back(&self, last: usize, start: usize, reached_by: &[Option<usize>]) -> Vec<usize> {
        let mut cycle = vec![last];
        let mut node = self.ends(last).0;
        while node != start {
            let arc = reached_by[node].expect("the search came to every node but the start by an arc");
            cycle.push(arc);
            node = self.ends(arc).0;
        }
        cycle.reverse();
        cycle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_follows_arcs_and_otherwise_the_numbers() {
        assert_eq!(Dag::new(4, &[(3, 1), (1, 0)]).order(), [2, 3, 1, 0]);
        assert_eq!(Dag::new(3, &[]).order(), [0, 1, 2]);
        assert_eq!(Dag::new(3, &[(0, 1), (0, 1), (1, 2)]).order(), [0, 1, 2]);
        assert!(Dag::new(0, &[]).order().is_empty());
    }

    #[test]
    fn each_group_shows_one_shortest_cycle() {
        assert_eq!(Dag::new(3, &[(0, 1), (1, 2), (0, 2)]).cycles(), Vec::<Vec<usize>>::new());
        assert_eq!(Dag::new(1, &[(0, 0)]).cycles(), [[0]]);
        // 0 -> 1 -> 2 -> 0 with the shortcut 2 -> 1; and apart from it 3 <-> 4.
        let arcs = [(0, 1), (1, 2), (2, 0), (2, 1), (4, 3), (3, 4), (3, 4)];
        assert_eq!(Dag::new(5, &arcs).cycles(), [[1, 3], [5, 4]]);
    }

    #[test]
    fn nodes_behind_a_cycle_are_not_ordered() {
        assert_eq!(Dag::new(4, &[(0, 1), (1, 0), (1, 2)]).order(), [3]);
    }
}
