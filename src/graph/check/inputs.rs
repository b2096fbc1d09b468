//! Stages that take records have some to take.

use crate::graph::resolve::Net;
use crate::model::{Body, Endpoint, Mode, Place, Problem, STDIN, Stage};

pub(super) fn check(net: &Net<'_>, problems: &mut Vec<Problem>) {
    for stage in &net.pipeline.stages {
        if needs_records(stage) && !is_fed(net, stage) {
            problems.push(no_input(stage));
        }
    }
}

/// `map` is what a function has by default, and a function that nothing feeds is a source: it is called once,
/// with no record. For commands both leased modes are asked for, and nothing can be leased without an edge.
fn needs_records(stage: &Stage) -> bool {
    match stage.mode {
        Mode::Stream => false,
        Mode::Map => matches!(stage.body, Body::Command(_)),
        Mode::Each => true,
    }
}

/// Whether any edge means to feed it, also one whose other end does not exist.
fn is_fed(net: &Net<'_>, stage: &Stage) -> bool {
    let is_input = |end: &Endpoint| matches!(end, Endpoint::Stage { stage: s, port } if *s == stage.name && port == STDIN);
    net.pipeline.edges.iter().any(|edge| is_input(&edge.to))
}

fn no_input(stage: &Stage) -> Problem {
    let name = &stage.name;
    let mode = if stage.mode == Mode::Map { "map" } else { "each" };
    let problem = Problem::error(
        "mpflow::no_input",
        format!("`{name}` takes record by record, and no edge leads to it"),
    )
    .at(Place::Stage(name.clone()), "nothing feeds this stage")
    .at(Place::StageKey(name.clone(), "mode"), format!("`{mode}` leases the records of a queue"));
    if stage.stdin.is_some() {
        return problem
            .at(Place::StageKey(name.clone(), STDIN), "read by the process itself, not as records")
            .help(format!(
                "remove `stdin:` and run `mpflow` with the file as its input: `queue: stdin -> {name}`"
            ));
    }
    problem.help(format!("add an edge, `queue: stdin -> {name}`; or make it a source by `mode: stream`"))
}

#[cfg(test)]
mod tests {
    use crate::graph::testing::{Build, python, refused};
    use crate::model::{Mode, Redirect};

    #[test]
    fn leased_modes_need_an_edge() {
        for mode in [Mode::Map, Mode::Each] {
            let build = Build::new().with("a", |a| a.mode = mode);
            refused(build.clone(), "mpflow::no_input", "`a`");
            build.queue("stdin -> a").accepted();
        }
        Build::new().stage("a").accepted();
    }

    #[test]
    fn a_function_that_nothing_feeds_is_a_source() {
        let function = |mode| {
            Build::new().with("a", move |a| {
                a.body = python();
                a.mode = mode;
            })
        };
        function(Mode::Map).accepted();
        refused(function(Mode::Each), "mpflow::no_input", "`a`");
    }

    #[test]
    fn a_file_holds_no_leased_records() {
        let build = Build::new().with("a", |a| {
            a.mode = Mode::Each;
            a.stdin = Some(Redirect::Null.into());
        });
        let problem = refused(build, "mpflow::no_input", "`a`");
        assert_eq!(problem.labels.len(), 3);
    }

    #[test]
    fn an_edge_with_a_misspelt_producer_makes_one_problem() {
        let build = Build::new().stage("seq").with("a", |a| a.mode = Mode::Map).queue("sqe -> a");
        refused(build, "mpflow::unknown_stage", "`sqe`");
    }
}
