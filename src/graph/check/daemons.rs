//! Daemons end after all others, so nobody else may wait for their end.

use crate::graph::resolve::{Link, Net};
use crate::model::{DependencyState, Place, Problem, Stage};

pub(super) fn check(net: &Net<'_>, problems: &mut Vec<Problem>) {
    for link in net.links.iter().filter(|link| !link.is_duplex()) {
        let Some((from, to)) = link.stages() else { continue };
        let (producer, consumer) = (net.stage(from), net.stage(to));
        if producer.daemon && !consumer.daemon {
            problems.push(feeds(link, producer, consumer));
        }
    }
    for stage in &net.pipeline.stages {
        for dependency in &stage.depends_on {
            let daemon = net.position(&dependency.stage).map(|other| net.stage(other));
            if let (Some(daemon), DependencyState::Finished) = (daemon.filter(|d| d.daemon), dependency.state)
            {
                problems.push(never_finishes(stage, daemon));
            }
        }
    }
}

fn daemon_key(stage: &Stage) -> Place {
    Place::StageKey(stage.name.clone(), "daemon")
}

fn feeds(link: &Link<'_>, producer: &Stage, consumer: &Stage) -> Problem {
    let (from, to) = (&producer.name, &consumer.name);
    Problem::error("mpflow::daemon_feeds", format!("the daemon `{from}` feeds `{to}`, which would never end"))
        .at(
            Place::Edge(link.number),
            format!("`{to}` waits for the end of this edge, and `{from}` for that of `{to}`"),
        )
        .at(daemon_key(producer), "ended only when every other stage has finished")
        .help(format!(
            "give `{to}` `daemon: true` as well, or take it from `{from}`: a producer whose consumers have had \
             enough is ended anyway"
        ))
}

fn never_finishes(stage: &Stage, daemon: &Stage) -> Problem {
    let (name, other) = (&stage.name, &daemon.name);
    Problem::error(
        "mpflow::daemon_never_finishes",
        format!("`{name}` starts when the daemon `{other}` has finished, which it never does during the run"),
    )
    .at(Place::StageKey(name.clone(), "depends_on"), format!("waits for the end of `{other}`"))
    .at(daemon_key(daemon), "ended only when every other stage has finished")
    .help(format!("depend on `{other}: ready` or `{other}: started`"))
}

#[cfg(test)]
mod tests {
    use crate::graph::testing::{Build, refused};
    use crate::model::{Dependency, DependencyState, Stage};

    fn daemon(stage: &mut Stage) {
        stage.daemon = true;
    }

    #[test]
    fn a_daemon_feeds_only_daemons() {
        let build = Build::new().with("d", daemon).stage("a");
        refused(build.clone().queue("d -> a"), "mpflow::daemon_feeds", "the daemon `d` feeds `a`");
        refused(build.clone().queue("d.stderr -> a"), "mpflow::daemon_feeds", "`a`");
        build.clone().queue("a -> d").accepted();
        build.clone().queue("d -> stdout").accepted();
        build.clone().duplex("d -> a").accepted();
        Build::new().with("d", daemon).with("e", daemon).pipe("d -> e").accepted();
    }

    #[test]
    fn nobody_waits_for_the_end_of_a_daemon() {
        let waiting = |state| {
            let dependency = Dependency { stage: "d".into(), state };
            Build::new().with("d", daemon).with("a", |a| a.depends_on.push(dependency))
        };
        refused(waiting(DependencyState::Finished), "mpflow::daemon_never_finishes", "`a`");
        waiting(DependencyState::Ready).accepted();
        waiting(DependencyState::Started).accepted();
    }
}
