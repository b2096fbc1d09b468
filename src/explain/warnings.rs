//! Where a promise is weaker than it may seem.

use super::paths::ordered_too_late;
use super::promise::is_source;
use super::restarts;
use crate::explanation::{Holds, Memory, Warning};
use crate::graph::{Plan, StagePlan};
use crate::model::RestartPolicy;

/// Unfinished records of one stage that may take more than this are worth a word.
const MUCH_BYTES: u64 = 1 << 30;

/// All warnings, in the order of the stages and then by kind.
pub(super) fn warnings(plan: &Plan, memory: &Memory) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (position, stage) in plan.stages.iter().enumerate() {
        warnings.extend(restarted_stream(plan, position, stage));
        warnings.extend(alone(plan, position, stage));
    }
    warnings.extend(ordered_too_late(plan).into_iter().map(|(stage, before)| Warning {
        code: "order_lost_before",
        message: format!(
            "`{stage}` keeps the order in which records come to it, but the pool of `{before}` has mixed them before."
        ),
        help: format!("Give `{before}` `ordered: true` (mode `map` or `each`) or `pool: 1`."),
    }));
    warnings.extend(memory.parts.iter().filter(|part| part.holds == Holds::Unfinished).filter_map(|part| {
        let is_much = part.times > 1 && part.most_bytes > MUCH_BYTES;
        is_much.then(|| Warning {
            code: "long_records",
            message: format!(
                "Each of the {} workers of `{}` may have a record of up to `max_record` on its way to the engine; \
                 together these can take {}.",
                part.times,
                part.of,
                size(part.most_bytes)
            ),
            help: "Set `max_record` on the edges that leave it to what its records really need.".to_owned(),
        })
    }));
    warnings
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        mib if mib < 10 << 10 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib >> 10),
    }
}

fn restarted_stream(plan: &Plan, position: usize, stage: &StagePlan) -> Option<Warning> {
    let declared = &stage.stage;
    if declared.is_leased() || !restarts(declared) {
        return None;
    }
    let name = &declared.name;
    if is_source(plan, position) {
        // It writes the same again only where it comes to an end; `always` is meant for one that does not.
        return (declared.restart.policy == RestartPolicy::OnFailure && !stage.outputs.is_empty()).then(
            || Warning {
                code: "restart_repeats",
                message: format!(
                    "`{name}` is a source: started again, it begins anew, and its records may come twice."
                ),
                help: format!("Write `restart: never` for `{name}`, or let it go on where it was."),
            },
        );
    }
    Some(Warning {
        code: "restart_unconfirmed",
        message: format!(
            "`{name}` goes on when a worker dies, but its records are not leased: those that the worker had read and \
             not finished are lost. The report counts all that it had read as unconfirmed."
        ),
        help: format!("Write `mode: map` or `each` for `{name}`, which lease records, or `restart: never`."),
    })
}

/// A daemon that neither gives nor takes, and that nobody waits for.
fn alone(plan: &Plan, position: usize, stage: &StagePlan) -> Option<Warning> {
    let name = &stage.stage.name;
    let is_joined = plan.pipes.iter().any(|pipe| pipe.from == position || pipe.to == position)
        || !stage.inputs.is_empty()
        || stage.outputs.iter().flat_map(|port| &port.queues).any(|&queue| plan.queues[queue].is_declared);
    let is_awaited = plan
        .stages
        .iter()
        .any(|other| other.stage.depends_on.iter().any(|dependency| dependency.stage == *name));
    (stage.stage.daemon && !is_joined && !is_awaited).then(|| Warning {
        code: "daemon_alone",
        message: format!(
            "The daemon `{name}` is joined to no other stage and none depends on it: others may start before it is \
             ready, and it is ended when they have finished."
        ),
        help: format!("Name `{name}` in `depends_on` of the stages that use it."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::memory::memory;
    use crate::graph::testing::{Build, pool};
    use crate::model::{Mode, Stage};

    fn codes(build: &Build) -> Vec<&'static str> {
        let plan = build.accepted();
        warnings(&plan, &memory(&plan)).iter().map(|warning| warning.code).collect()
    }

    fn chain(keys: impl FnOnce(&mut Stage)) -> Build {
        Build::new().stage("a").with("b", keys).queue("a -> b")
    }

    #[test]
    fn a_plain_pipeline_has_none() {
        assert_eq!(codes(&chain(|_| {})), [""; 0]);
        assert_eq!(
            codes(&chain(|b| (b.mode, b.restart.policy) = (Mode::Map, RestartPolicy::OnFailure))),
            [""; 0]
        );
    }

    #[test]
    fn a_stream_that_restarts_is_told() {
        assert_eq!(codes(&chain(|b| b.restart.policy = RestartPolicy::Always)), ["restart_unconfirmed"]);
        let source = Build::new().with("a", |a| a.restart.policy = RestartPolicy::OnFailure).stage("b");
        assert_eq!(codes(&source.queue("a -> b")), ["restart_repeats"]);
    }

    #[test]
    fn a_daemon_that_nobody_knows_is_told() {
        let lonely = || chain(|_| {}).with("d", |d| d.daemon = true);
        assert_eq!(codes(&lonely()), ["daemon_alone"]);
        assert_eq!(codes(&lonely().queue("a -> d")), [""; 0]);
    }

    #[test]
    fn long_records_of_a_wide_pool_are_told() {
        assert_eq!(codes(&chain(|b| b.pool = pool(40))), ["long_records"]);
    }
}
