//! Edges as such: each joins something to something else, once.

use std::collections::HashMap;

use crate::graph::resolve::{End, Link, Net};
use crate::model::{Place, Problem};

pub(super) fn check(net: &Net<'_>, problems: &mut Vec<Problem>) {
    let mut seen = HashMap::new();
    for link in &net.links {
        if (link.from, link.to) == (End::Engine, End::Engine) {
            problems.push(straight_through(link));
        }
        let first = *seen.entry(key(link)).or_insert(link.number);
        if first != link.number {
            problems.push(twice(link, first));
        }
    }
}

/// What makes two edges the same: their kind and their ends.
pub(super) fn key<'a>(link: &Link<'a>) -> (bool, bool, End<'a>, End<'a>) {
    (link.pipe().is_some(), link.is_duplex(), link.from, link.to)
}

fn straight_through(link: &Link<'_>) -> Problem {
    Problem::error(
        "mpflow::no_stage",
        format!("edge `{}` joins mpflow's own input to its own output", link.edge),
    )
    .at(Place::Edge(link.number), "no stage at either end")
    .help("put a stage between them: `stdin -> STAGE -> stdout`")
}

fn twice(link: &Link<'_>, first: usize) -> Problem {
    let help = if link.pipe().is_some() {
        "remove one of them: two stages need one pipe"
    } else {
        "remove one of them: two queues between the same ports would deliver every record twice"
    };
    Problem::error("mpflow::duplicate_edge", format!("edge `{}` is declared twice", link.edge))
        .at(Place::Edge(link.number), "the same edge again")
        .at(Place::Edge(first), "first declared here")
        .help(help)
}

#[cfg(test)]
mod tests {
    use crate::graph::testing::{Build, places, refused};
    use crate::model::Place;

    #[test]
    fn the_same_edge_twice_is_refused_with_both_places() {
        let build = Build::new().stage("a").stage("b").queue("a -> b").queue("a -> b");
        let problem = refused(build, "mpflow::duplicate_edge", "`a -> b` is declared twice");
        assert_eq!(places(&problem), [Place::Edge(1), Place::Edge(0)]);
        let build = Build::new().stage("a").stage("b").pipe("a -> b").pipe("a -> b");
        refused(build, "mpflow::duplicate_edge", "`a -> b` is declared twice");
    }

    #[test]
    fn two_ports_of_two_stages_may_be_joined_by_two_queues() {
        let build = Build::new().stage("a").stage("b").queue("a -> b").queue("a.links -> b");
        build.queue("a.stderr -> b.log").accepted();
    }

    #[test]
    fn an_edge_needs_a_stage() {
        refused(Build::new().stage("a").queue("stdin -> stdout"), "mpflow::no_stage", "`stdin -> stdout`");
    }
}
