//! What each end of a worker means under each policy: the table that `docs/restarts.md` publishes, cell by cell.

use std::time::Duration;

use super::super::*;
use super::world::World;
use crate::graph::testing::Build;
use crate::model::{Mode, RestartPolicy, RestartScope};

const PUBLISHED: &str = include_str!("../../../../docs/restarts.md");

/// The rows between the heading of the table and the end of it: cells, without the ticks.
fn published() -> Vec<Vec<String>> {
    let (_, after) = PUBLISHED.split_once("### Which end means what").expect("the page has this part");
    let rows =
        after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

/// What a worker of this mode does, and what becomes of its slot.
fn judge(mode: Mode, end: &str, policy: RestartPolicy) -> &'static str {
    let plan = Build::new().stage("feeds").with("work", |stage| {
        stage.mode = mode;
        stage.restart.policy = policy;
        stage.restart.scope = RestartScope::Worker;
        stage.restart.backoff.initial = Duration::from_secs(1);
        stage.success_exit = vec![Exit::SUCCESS, Exit::Code(3)];
    });
    let plan = plan.queue("feeds -> work").accepted();
    let mut world = World::new(&plan);
    if end.starts_with("its start is refused") {
        world.started(0);
        world.start_failed(0, end.contains("for now"));
        return verdict(&world, 1);
    }
    world.start_all();
    let worker = world.pick(0, |process| process.worker.stage == 1).expect("it was just started");
    let code = match end {
        "it exits with 0" => 0,
        "it exits with another code of success_exit" => 3,
        "it exits with any other code" => 1,
        "a signal kills it" => -9,
        "nobody wants its output any more, and SIGPIPE kills it" => {
            world.records.has_closed_output = true;
            -13
        }
        "it was asked to end: the pool shrinks" => {
            world.step(Input::Retire { worker, asked: Asked::Retire });
            1
        }
        "it was asked to end: it has had max_records_per_worker" => {
            world.step(Input::Retire { worker, asked: Asked::Replace });
            1
        }
        "it was killed for its record (record_timeout)" => {
            world.fault(worker);
            -9
        }
        "it exits with 0, and records are left" => 0,
        "it exits with 0, and answered too few of those it took" => {
            world.records.holds = true;
            0
        }
        "it exits with 0 at the end of its input" => {
            world.records.has_had_all = true;
            0
        }
        "it exits with any other code when all records are answered" => {
            world.step(Input::WorkDone { stage: 1 });
            1
        }
        "a signal kills it when all records are answered" => {
            world.step(Input::WorkDone { stage: 1 });
            -9
        }
        "the stage or the run is stopped" => {
            world.step(Input::Stop(Level::Terminate));
            -15
        }
        other => panic!("the table has an end that no test makes: {other}"),
    };
    world.end_one(1, code);
    verdict(&world, 1)
}

fn verdict(world: &World, stage: usize) -> &'static str {
    let state = &world.supervisor.stages[stage];
    match (&state.slots[0], state.phase) {
        (_, Phase::Ending(Outcome::Failed) | Phase::Over(Outcome::Failed)) => "fails the stage",
        (Slot::BackingOff { .. }, _) => "restarted",
        (Slot::Starting { .. }, _) => "replaced at once",
        (Slot::Vacant | Slot::Done, _) => "ended",
        (slot, phase) => panic!("neither ended nor to come again: {slot:?} in {phase:?}"),
    }
}

#[test]
fn every_end_under_every_policy_is_as_the_published_table_says() {
    let rows = published();
    assert_eq!(rows[0], ["mode", "the end of a worker", "never", "on-failure", "always"]);
    let policies = [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always];
    let mut wrong = Vec::new();
    for row in &rows[2..] {
        let modes: &[Mode] = match row[0].as_str() {
            "stream" => &[Mode::Stream],
            "map" => &[Mode::Map],
            "stream, map" => &[Mode::Stream, Mode::Map],
            other => panic!("no such mode in the table: {other}"),
        };
        for &mode in modes {
            for (policy, cell) in policies.into_iter().zip(&row[2..]) {
                let found = judge(mode, &row[1], policy);
                if found != cell {
                    wrong.push(format!("{mode:?}, {}, {policy:?}: {found}, not {cell}", row[1]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows.len() > 12, "the table is there as a whole");
}
