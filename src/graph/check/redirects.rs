//! Files in the place of edges: a port has one or the other.

use crate::graph::ports::Direction;
use crate::graph::resolve::Net;
use crate::model::{Body, Mode, PerWorker, Place, Problem, Redirect, STDERR, STDIN, STDOUT, Stage};

pub(super) fn check(net: &Net<'_>, problems: &mut Vec<Problem>) {
    for (position, stage) in net.pipeline.stages.iter().enumerate() {
        for (key, direction, is_redirected) in [
            (STDIN, Direction::In, stage.stdin.is_some()),
            (STDOUT, Direction::Out, stage.stdout.is_some()),
            (STDERR, Direction::Out, is_redirected(&stage.stderr)),
        ] {
            if is_redirected {
                problems.extend(conflict(net, position, key, direction));
            }
        }
        match stage.body {
            Body::Command(_) => problems.extend(leased_output(stage)),
            Body::Python(_) | Body::Function(_) => problems.extend(functions_file(stage)),
        }
    }
}

/// A function takes and gives values, which a file of bytes has none of.
fn functions_file(stage: &Stage) -> Option<Problem> {
    let redirects = [(STDIN, &stage.stdin), (STDOUT, &stage.stdout)];
    let is_file = |redirect: &Redirect| matches!(redirect, Redirect::File(_));
    let (key, _) = redirects
        .into_iter()
        .find(|(_, redirect)| redirect.as_ref().is_some_and(|redirect| redirect.all().iter().any(is_file)))?;
    let name = &stage.name;
    let help = match key {
        STDIN => format!(
            "remove `stdin:` and add a stage that reads the file, `read: {{command: cat FILE}}`, with `queue: read -> \
             {name}`; or open it in the function"
        ),
        _ => format!(
            "remove `stdout:` and add a stage that writes the file, `save: {{command: \"cat > FILE\"}}`, with `queue: \
             {name} -> save`"
        ),
    };
    Some(
        Problem::error(
            "mpflow::redirect_function",
            format!("`{key}` of `{name}`, a function, is given a file"),
        )
        .at(Place::StageKey(name.clone(), key), "bytes, where a function has values")
        .help(help),
    )
}

/// Whether a standard error goes anywhere but to the engine's own, which is where it goes by default.
fn is_redirected(stderr: &PerWorker<Redirect>) -> bool {
    stderr.all().iter().any(|redirect| *redirect != Redirect::Inherit)
}

fn conflict(net: &Net<'_>, position: usize, key: &'static str, direction: Direction) -> Option<Problem> {
    let name = net.name(position);
    let edges: Vec<_> =
        net.links.iter().filter(|link| !link.is_duplex() && link.end(direction).is(position, key)).collect();
    let first = edges.first()?;
    let mut problem = Problem::error(
        "mpflow::redirect_conflict",
        format!("`{key}` of `{name}` is given a file, and an edge as well"),
    )
    .at(Place::StageKey(name.to_owned(), key), "goes to a file here");
    for edge in &edges {
        problem = problem.at(edge.end_place(direction), "and along an edge here");
    }
    Some(problem.help(format!("remove `{key}:` from `{name}`, or the edge `{}`", first.edge)))
}

/// The engine has to see what a leased stage answers: a file would take the answers from it. Without answers to
/// see, `null` is harmless where the process's exit is the answer.
fn leased_output(stage: &Stage) -> Option<Problem> {
    let redirects = stage.stdout.as_ref()?;
    let to_file = redirects.all().iter().any(|redirect| matches!(redirect, Redirect::File(_)));
    let answers_on_stdout = stage.mode == Mode::Map;
    if !stage.is_leased() || !(to_file || answers_on_stdout) {
        return None;
    }
    let name = &stage.name;
    Some(
        Problem::error(
            "mpflow::redirect_leased",
            format!("the results of `{name}` are leased and cannot go straight to a file"),
        )
        .at(Place::StageKey(name.clone(), STDOUT), "the engine has to see every result")
        .at(Place::StageKey(name.clone(), "mode"), "this mode leases records")
        .help(format!(
            "remove `stdout:` and add a stage that writes the file, `save: {{command: \"cat > FILE\"}}`, with \
             `queue: {name} -> save`"
        )),
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::graph::testing::{Build, places, python, refused};
    use crate::model::{Mode, PerWorker, Place, Redirect};

    fn file() -> Redirect {
        Redirect::File(PathBuf::from("/tmp/x"))
    }

    #[test]
    fn a_port_has_a_file_or_an_edge() {
        let build = Build::new().stage("a").with("b", |b| b.stdin = Some(file().into())).queue("a -> b");
        let problem = refused(build, "mpflow::redirect_conflict", "`stdin` of `b`");
        assert_eq!(places(&problem), [Place::StageKey("b".into(), "stdin"), Place::EdgeTo(0)]);
        let build = Build::new().with("a", |a| a.stdout = Some(file().into())).stage("b").pipe("a -> b");
        refused(build, "mpflow::redirect_conflict", "`stdout` of `a`");
        let build =
            Build::new().with("a", |a| a.stderr = Redirect::Null.into()).stage("b").queue("a.stderr -> b");
        refused(build, "mpflow::redirect_conflict", "`stderr` of `a`");
    }

    #[test]
    fn a_file_beside_edges_of_other_ports_is_fine() {
        Build::new()
            .with("a", |a| {
                a.stdout = Some(PerWorker::ByRank(vec![file()]));
                a.stdin = Some(Redirect::Null.into());
            })
            .stage("b")
            .queue("a.stderr -> b")
            .duplex("a -> b")
            .accepted();
    }

    #[test]
    fn a_function_has_no_file() {
        let function = |stage: &mut crate::model::Stage| stage.body = python();
        let reads = Build::new().with("a", |a| {
            function(a);
            a.stdin = Some(file().into());
        });
        refused(reads, "mpflow::redirect_function", "`stdin` of `a`");
        let writes = Build::new().with("a", |a| {
            function(a);
            a.stdout = Some(PerWorker::ByRank(vec![Redirect::Null, file()]));
        });
        refused(writes, "mpflow::redirect_function", "`stdout` of `a`");
        let silent = Build::new().with("a", |a| {
            function(a);
            a.stdin = Some(Redirect::Null.into());
            a.stdout = Some(Redirect::Null.into());
        });
        silent.accepted();
    }

    #[test]
    fn leased_results_pass_through_the_engine() {
        let to = |mode, redirect: Redirect| {
            let keys = move |a: &mut crate::model::Stage| {
                a.mode = mode;
                a.stdout = Some(redirect.into());
            };
            Build::new().with("a", keys).queue("stdin -> a")
        };
        refused(to(Mode::Map, file()), "mpflow::redirect_leased", "`a`");
        refused(to(Mode::Map, Redirect::Null), "mpflow::redirect_leased", "`a`");
        refused(to(Mode::Each, file()), "mpflow::redirect_leased", "`a`");
        to(Mode::Each, Redirect::Null).accepted();
    }
}
