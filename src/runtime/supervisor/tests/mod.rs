//! The supervisor beside a world of pretended processes: random events, and what must always hold.

mod pairs;
mod reloads;
mod table;
mod world;

use std::time::Duration;

use super::steer::SETTLES;
use super::*;
use crate::graph::testing::{Build, pool, python};
use crate::model::{
    Dependency, DependencyState, Mode, OnFailure, Pool, Probe, ProbeKind, RestartPolicy, RestartScope,
};
use pairs::Seen;
use world::World;

/// Steps that are taken at random.
const STEPS: u64 = 1_000_000;

/// Steps of one run at most, before it is stopped.
const LONGEST_RUN: usize = 800;

/// A pipeline with a stage of every kind. What is not said is chosen by `random`.
fn any_plan(random: &mut fastrand::Rng) -> Plan {
    let has_functions = random.bool();
    let scopes =
        [RestartScope::Worker, RestartScope::Stage, RestartScope::Downstream, RestartScope::Pipeline];
    let policies = [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always];
    let scope = scopes[random.usize(..scopes.len())];
    let mut any = |stage: &mut crate::model::Stage| {
        stage.on_failure = if random.bool() { OnFailure::Continue } else { OnFailure::Stop };
        stage.restart.policy = policies[random.usize(..policies.len())];
        stage.restart.scope = if random.bool() { scope } else { RestartScope::Worker };
        // Wide enough that runs live long, and narrow enough that some stages use them up.
        stage.restart.max = 1 << random.u32(1..6);
        stage.restart.within = Duration::from_secs(random.u64(1..60));
        stage.stop.grace = Duration::from_millis(random.u64(0..6000));
        stage.exclusive = random.u8(..4) == 0;
        stage.timeout = random.bool().then(|| Duration::from_secs(random.u64(1..600)));
    };
    let probe = Probe {
        kind: ProbeKind::Log("up".to_owned()),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 3,
    };
    let depends = |stage: &str, state| vec![Dependency { stage: stage.to_owned(), state }];
    let build = Build::new()
        .with("source", |stage| {
            any(stage);
            stage.pool = pool(2);
        })
        .with("filter", |stage| {
            any(stage);
            stage.pool = Pool { min: 1, max: 3 };
        })
        .with("map", |stage| {
            any(stage);
            stage.mode = Mode::Map;
            stage.pool = Pool { min: 1, max: 2 };
            stage.ready = Some(probe.clone());
        })
        .with("each", |stage| {
            any(stage);
            stage.mode = Mode::Each;
            stage.pool = pool(3);
        })
        .with("ready", |stage| {
            any(stage);
            stage.depends_on = depends("map", DependencyState::Ready);
        })
        .with("side", |stage| {
            any(stage);
            stage.daemon = true;
            stage.depends_on = depends("source", DependencyState::Started);
        })
        .with("after", |stage| {
            any(stage);
            stage.depends_on = depends("source", DependencyState::Finished);
        })
        .queue("source -> filter")
        .queue("filter -> map")
        .queue("map -> each")
        .queue("each -> side");
    // Nothing begins before functions are found, so that many runs have none.
    let build = match has_functions {
        false => build,
        true => build
            .with("function", |stage| {
                any(stage);
                stage.body = python();
                stage.mode = Mode::Map;
                stage.pool = Pool { min: 2, max: 3 };
            })
            .with("later", |stage| {
                any(stage);
                stage.body = python();
                stage.depends_on = depends("function", DependencyState::Ready);
            })
            .queue("source -> function")
            .queue("function -> later"),
    };
    build.planned().unwrap_or_else(|problems| panic!("refused: {problems:#?}")).plan
}

/// One thing happens that could: chosen with a weight for each kind, so that processes mostly live and die as they do.
fn happens(world: &mut World, random: &mut fastrand::Rng) {
    let which = random.usize(..64);
    let stage = random.usize(..world.slots.len());
    let rank = random.usize(..world.slots[stage].len());
    let mode = world.supervisor.stage(stage).config.mode;
    // What is asked for from outside is asked of what is in effect.
    let in_effect = world.reloads.live[random.usize(..world.reloads.live.len())];
    match random.u32(..790) {
        0..110 => world.started(which),
        110..125 => world.start_failed(which, random.u8(..8) > 0),
        125..190 => world.exited(which, [0, 0, 0, 0, 1, -9, -13, -15][random.usize(..8)]),
        190..260 => world.group_ended(which),
        260..330 => world.outputs_ended(which),
        330..345 => late(world, random),
        345..400 => {
            if mode == Mode::Each {
                world.step(Input::Demand { stage, rank });
            }
        }
        400..425 => world.step(Input::Grow { stage }),
        425..428 => {
            if mode != Mode::Stream || world.supervisor.stage(stage).phase == Phase::Leaving {
                world.step(Input::WorkDone { stage });
            }
        }
        428..430 => world.step(Input::Unwanted { stage }),
        430..450 => {
            if let Some(worker) = world.pick(which, |process| process.runs) {
                let asked = if random.bool() { Asked::Replace } else { Asked::Retire };
                world.step(Input::Retire { worker, asked });
            }
        }
        450..460 => {
            if let Some(worker) = world.pick(which, |process| process.runs) {
                world.fault(worker);
            }
        }
        460..462 => {
            let reason = "pretended".to_owned();
            world.step(Input::Fail { stage, rank: None, exit: None, reason, stderr: Vec::new() });
        }
        462..466 => {
            let max = random.usize(1..5);
            world.resize(in_effect, Pool { min: random.usize(1..=max), max });
        }
        466..470 => world.restart(in_effect),
        470..490 => {
            if let Some(worker) = world.pick(which, |process| process.runs) {
                world.step(Input::Ready { worker, is_ready: random.u8(..4) > 0 });
            }
        }
        490..500 => world.records.answered += 1,
        500..510 => world.records.holds = random.u8(..4) == 0,
        510..515 => world.records.has_closed_output = random.u8(..4) == 0,
        515..520 => world.records.has_had_all = random.u8(..4) == 0,
        520..590 => world.pass(Duration::from_millis(random.u64(1..2500))),
        // To the very moment that something is due at.
        590..598 => {
            if let Some(at) = world.supervisor.deadline() {
                world.pass(at.saturating_duration_since(world.now));
            }
        }
        598..635 => world.successor_asked(which),
        635..645 => world.successor_revoked(which),
        645..698 => world.successor_runs(which),
        698..700 => {
            let level = [Level::Drain, Level::Drain, Level::Terminate, Level::Kill][random.usize(..4)];
            world.step(Input::Stop(level));
        }
        700..738 => world.loaded(which),
        738 => world.broken(which),
        739..743 => {
            // No run is reloaded for ever: each form has a place of its own.
            if world.slots.len() < MOST_STAGES {
                let wanted = random.u32(..);
                world.reload(|of| wanted >> (of % 32) & 3 == 0);
            }
        }
        743..786 => world.advance_reload(),
        786 => world.give_up(),
        787 => world.step(Input::GiveUpFallen),
        _ => {
            if random.u8(..8) == 0 {
                world.lose_launcher();
            }
        }
    }
}

/// News of a process that is gone.
fn late(world: &mut World, random: &mut fastrand::Rng) {
    if world.gone.is_empty() {
        return;
    }
    let worker = world.gone[random.usize(..world.gone.len())];
    let before = world.supervisor.stages[worker.stage].slots.clone();
    let phase = world.supervisor.stages[worker.stage].phase;
    world.step(match random.u8(..6) {
        0 => Input::Started { worker, pid: 1 },
        1 => Input::StartFailed { worker, error: "late".to_owned(), is_passing: random.bool() },
        2 => Input::Exited { worker, exit: Exit::SUCCESS, usage: Usage::default() },
        3 => Input::GroupEnded { worker },
        4 => Input::Loaded { worker },
        _ => Input::OutputsEnded { worker },
    });
    let state = &world.supervisor.stages[worker.stage];
    assert_eq!((&state.slots, state.phase), (&before, phase), "late news of {worker:?} changed something");
}

/// Stages and former ones of one run.
const MOST_STAGES: usize = 60;

/// One run from this seed, to its end. What was seen, what became of reloads, and steps taken.
fn random_run(seed: u64, plans: &[Plan]) -> (Seen, [u64; 3], u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let plan = &plans[random.usize(..plans.len())];
    let mut world = World::with_seed(plan, seed);
    for _ in 0..random.usize(1..LONGEST_RUN) {
        happens(&mut world, &mut random);
        world.settle();
        if world.has_ended {
            break;
        }
    }
    world.finish();
    (world.seen, world.reloads.counts, world.steps)
}

#[test]
fn in_a_million_random_steps_every_event_meets_every_state_and_a_slot_has_one_process() {
    // Deterministic: a failure names its seed, and `random_run` of that seed is the failure again.
    let mut random = fastrand::Rng::with_seed(4711);
    let plans: Vec<Plan> = (0..64).map(|_| any_plan(&mut random)).collect();
    let (mut seen, mut reloads, mut steps) = (Seen::default(), [0; 3], 0);
    for seed in 0.. {
        let run = std::panic::catch_unwind(|| random_run(seed, &plans));
        let Ok((pairs, counts, taken)) = run else {
            panic!("the run of seed {seed} broke a rule, see above")
        };
        seen.pairs.extend(pairs.pairs);
        (0..3).for_each(|of| reloads[of] += counts[of]);
        steps += taken;
        if steps >= STEPS {
            break;
        }
    }
    assert!(reloads.iter().all(|&count| count >= 10), "in effect, given up, fallen: {reloads:?}");
    let possible = pairs::possible();
    let missing: Vec<_> = possible.difference(&seen.pairs).collect();
    let impossible: Vec<_> = seen.pairs.difference(&possible).collect();
    assert!(missing.is_empty(), "events that never met a worker in this state: {missing:?}");
    assert!(impossible.is_empty(), "pairs that cannot be, or the table lacks them: {impossible:?}");
}

fn plan_of(policy: RestartPolicy, scope: RestartScope) -> Plan {
    Build::new()
        .with("source", |stage| {
            stage.restart.policy = policy;
            stage.restart.scope = scope;
            stage.on_failure = OnFailure::Continue;
        })
        .with("after", |stage| {
            stage.depends_on =
                vec![Dependency { stage: "source".to_owned(), state: DependencyState::Finished }];
        })
        .accepted()
}

#[test]
fn a_stage_that_depends_on_one_that_failed_fails_and_names_it() {
    let mut world = World::new(&plan_of(RestartPolicy::Never, RestartScope::Worker));
    world.start_all();
    world.end_one(0, 3);
    let reasons: Vec<&str> =
        world.supervisor.failures().iter().map(|failure| failure.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["worker `source` exited with 3", "the stage `source` that it depends on has failed"]
    );
}

#[test]
fn a_process_that_is_stopped_while_it_starts_is_asked_as_soon_as_it_runs() {
    let mut world = World::new(&plan_of(RestartPolicy::Never, RestartScope::Worker));
    world.step(Input::Stop(Level::Terminate));
    assert!(world.pick(0, |process| process.runs).is_none(), "none had started");
    world.start_all();
    assert!(world.supervisor.deadline().is_some(), "the kill is due");
    world.finish();
}

/// A `map` worker ends so, holding nothing, when all that its stage ever got is answered, or given to others.
fn map_worker_ends(code: i32, policy: RestartPolicy, work_done: bool) -> World {
    let plan = Build::new().stage("source").with("map", |stage| {
        stage.mode = Mode::Map;
        stage.pool = pool(2);
        stage.restart.policy = policy;
    });
    let mut world = World::new(&plan.queue("source -> map").accepted());
    world.start_all();
    world.records.has_had_all = true;
    if work_done {
        world.step(Input::WorkDone { stage: 1 });
    }
    world.end_one(1, code);
    world
}

#[test]
fn a_map_worker_that_is_killed_after_its_work_was_done_fails_nothing_and_is_not_started_again() {
    for (policy, work_done) in
        [(RestartPolicy::OnFailure, true), (RestartPolicy::OnFailure, false), (RestartPolicy::Always, true)]
    {
        let world = map_worker_ends(-9, policy, work_done);
        assert_eq!(world.supervisor.failures(), [], "{policy:?} {work_done}");
        assert_eq!(world.supervisor.stage(1).slots[0], Slot::Done);
        assert_eq!(world.supervisor.stage(1).restart_count, 0);
    }
}

#[test]
fn a_map_worker_that_ends_badly_by_itself_after_its_work_was_done_fails_its_stage() {
    let world = map_worker_ends(3, RestartPolicy::OnFailure, true);
    assert_eq!(world.supervisor.failures()[0].reason, "worker `map/0` exited with 3");
}

#[test]
fn a_map_worker_that_must_never_be_restarted_fails_its_stage_whenever_it_is_killed() {
    let world = map_worker_ends(-9, RestartPolicy::Never, true);
    assert_eq!(world.supervisor.failures()[0].reason, "worker `map/0` was killed by SIGKILL (-9)");
}

#[test]
fn a_producer_that_nobody_wants_before_it_runs_may_meet_that_by_itself() {
    let mut world = World::new(&Build::new().stage("producer").stage("other").accepted());
    world.step(Input::Unwanted { stage: 0 });
    world.start_all();
    let slot = world.supervisor.stages[0].slots[0];
    assert!(matches!(slot, Slot::Finishing { asked: Asked::Unwanted, .. }), "{slot:?}");
    world.finish();
}

#[test]
fn a_run_ends_when_all_but_its_daemons_have() {
    let plan = Build::new().stage("job").with("side", |stage| stage.daemon = true).accepted();
    let mut world = World::new(&plan);
    world.start_all();
    world.end_one(0, 0);
    assert!(!world.has_ended, "the daemon is there");
    assert!(world.supervisor.stages[1].slots[0].asked().is_some(), "it was asked to end");
    world.end_one(1, -15);
    assert!(world.has_ended);
    assert!(world.supervisor.failures().is_empty(), "an end that was asked for is no failure");
}

#[test]
fn the_timeout_of_a_stage_goes_on_while_it_waits_to_be_restarted_with_others() {
    let plan = Build::new().with("slow", |stage| {
        stage.timeout = Some(Duration::from_secs(5));
        stage.restart.policy = RestartPolicy::OnFailure;
        stage.restart.scope = RestartScope::Stage;
        stage.restart.backoff.initial = Duration::from_secs(3600);
        stage.restart.backoff.max = Duration::from_secs(3600);
    });
    let mut world = World::new(&plan.accepted());
    world.start_all();
    world.end_one(0, 1);
    world.pass(Duration::from_secs(5));
    assert!(world.has_ended);
    assert!(world.supervisor.failures()[0].reason.contains("timeout of 5s"));
}

// ---- a machine that is short of something

/// A stage of this pool whose workers all want to start.
fn starting(pool: Pool, scope: RestartScope) -> World {
    let plan = Build::new().stage("other").with("pool", |stage| {
        stage.pool = pool;
        stage.restart.scope = scope;
        stage.restart.backoff.jitter = 0.0;
    });
    World::new(&plan.accepted())
}

#[test]
fn a_pool_that_is_refused_as_a_whole_is_refused_once() {
    let mut world = starting(pool(20), RestartScope::Worker);
    world.started(0);
    for _ in 0..20 {
        world.start_failed(0, true);
    }
    assert!(world.supervisor.failures().is_empty(), "{:?}", world.supervisor.failures());
    assert_eq!(world.supervisor.deadline(), Some(world.now + Duration::from_millis(100)));
    world.pass(Duration::from_millis(100));
    world.start_all();
    assert_eq!(world.supervisor.stages[1].live(), 20);
}

#[test]
fn a_machine_that_stays_short_fails_the_stage_after_as_many_waits_as_it_has_restarts() {
    let mut world = starting(pool(20), RestartScope::Worker);
    world.started(0);
    let mut waits = Vec::new();
    while let Some(at) = world.supervisor.deadline().or(Some(world.now)) {
        waits.push(at.saturating_duration_since(world.now).as_millis());
        world.pass(at.saturating_duration_since(world.now));
        while world.pick(0, |process| !process.runs).is_some() {
            world.start_failed(0, true);
        }
        if !world.supervisor.failures().is_empty() {
            break;
        }
    }
    assert_eq!(waits, [0, 100, 200, 400, 800, 1600]);
    let reason = &world.supervisor.failures()[0].reason;
    assert!(reason.contains("cannot start worker `pool/0`: pretended, after 5 restarts within"), "{reason}");
    world.finish();
}

#[test]
fn a_worker_that_finds_the_machine_short_ends_no_other() {
    let mut world = starting(pool(3), RestartScope::Pipeline);
    world.started(0);
    world.started(0);
    world.start_failed(0, true);
    assert!(world.pick(0, |process| process.asked_at.is_some()).is_none(), "somebody was asked to end");
    world.finish();
}

#[test]
fn a_pool_that_cannot_grow_goes_on_as_it_is() {
    let mut world = starting(Pool { min: 1, max: 9 }, RestartScope::Worker);
    world.start_all();
    for turn in 0..20 {
        world.step(Input::Grow { stage: 1 });
        world.start_failed(0, true);
        assert!(world.supervisor.failures().is_empty());
        let before = world.supervisor.stages[1].generations.clone();
        world.step(Input::Grow { stage: 1 });
        assert_eq!(world.supervisor.stages[1].generations, before, "asked again at once, in turn {turn}");
        world.pass(Duration::from_secs(11));
    }
    assert_eq!(world.supervisor.stages[1].live(), 1);
}

/// A stage of four workers that run.
fn pool_of_four() -> World {
    let plan =
        Build::new().stage("source").with("work", |stage| stage.pool = pool(4)).queue("source -> work");
    let mut world = World::new(&plan.accepted());
    world.start_all();
    world
}

/// Workers of a stage that nobody has asked to end.
fn staying(world: &World, stage: usize) -> usize {
    let state = world.supervisor.stage(stage);
    (0..state.slots.len()).filter(|&rank| state.stays(rank)).count()
}

/// Whoever was told to finish does.
fn all_finish(world: &mut World, stage: usize) {
    let is_told = |world: &World, rank: usize| {
        let slot = &world.supervisor.stages[stage].slots[rank];
        matches!(slot, Slot::Finishing { .. } | Slot::Stopping { .. })
    };
    while let Some(rank) = (0..world.slots[stage].len()).find(|&rank| is_told(world, rank)) {
        let worker = world.slots[stage][rank].unwrap().worker;
        world.set(worker, |process| process.outputs_ended = true);
        world.step(Input::OutputsEnded { worker });
        world.ends(worker, 0);
        world.set(worker, |process| process.group_ended = true);
        world.step(Input::GroupEnded { worker });
    }
}

#[test]
fn a_pool_that_grows_is_answered_for_when_its_new_workers_are_ready() {
    let mut world = pool_of_four();
    world.resize(1, pool(6));
    assert!(world.is_steering(), "two are on their way");
    world.start_all();
    assert!(!world.is_steering());
    assert_eq!(staying(&world, 1), 6);
}

#[test]
fn a_pool_that_shrinks_lets_its_last_workers_finish_and_can_grow_again() {
    let mut world = pool_of_four();
    world.resize(1, pool(1));
    assert!(!world.is_steering());
    assert_eq!((staying(&world, 1), world.supervisor.stage(1).live()), (1, 4));
    all_finish(&mut world, 1);
    assert_eq!(world.supervisor.stage(1).live(), 1);
    assert_eq!(world.supervisor.stage(1).phase, Phase::Running, "that was no end of its work");
    world.resize(1, pool(3));
    world.start_all();
    assert_eq!(staying(&world, 1), 3);
}

#[test]
fn a_rolling_restart_touches_a_worker_when_the_one_before_has_a_successor_that_is_ready() {
    let mut world = pool_of_four();
    world.restart(1);
    for restarted in 1..=4 {
        assert!(world.is_steering());
        assert_eq!(staying(&world, 1), 3, "one finishes");
        all_finish(&mut world, 1);
        assert_eq!(staying(&world, 1), 4, "its successor is on its way");
        let running = world.slots[1].iter().flatten().filter(|process| process.runs).count();
        assert_eq!(running, 3, "and until it runs nobody else is touched");
        world.start_all();
        world.pass(SETTLES);
        let replaced =
            world.slots[1].iter().flatten().filter(|process| process.worker.generation == 2).count();
        assert_eq!(replaced, restarted);
    }
    assert!(!world.is_steering());
    assert_eq!(world.supervisor.stage(1).restart_count, 0, "a worker that is replaced is no failure");
}

#[test]
fn a_rolling_restart_whose_successor_ends_at_once_leaves_the_others() {
    let plan = Build::new().stage("source").with("work", |stage| {
        (stage.pool, stage.restart.policy) = (pool(4), RestartPolicy::OnFailure);
    });
    let mut world = World::new(&plan.queue("source -> work").accepted());
    world.start_all();
    world.restart(1);
    all_finish(&mut world, 1);
    world.start_all();
    assert!(world.is_steering(), "it has not run for long enough");
    let successor = world.pick(0, |process| process.worker.generation == 2).unwrap();
    world.ends(successor, 6);
    world.set(successor, |process| process.outputs_ended = true);
    world.step(Input::OutputsEnded { worker: successor });
    world.set(successor, |process| process.group_ended = true);
    world.step(Input::GroupEnded { worker: successor });
    assert!(!world.is_steering(), "it is given up");
    world.pass(Duration::from_secs(10));
    world.start_all();
    let untouched = world.slots[1].iter().flatten().filter(|process| process.worker.generation == 1).count();
    assert_eq!((untouched, staying(&world, 1)), (3, 4), "and its policy starts another");
}

#[test]
fn a_rolling_restart_is_answered_for_when_its_stage_fails_in_the_middle() {
    let mut world = pool_of_four();
    world.restart(1);
    all_finish(&mut world, 1);
    world.start_failed(0, false);
    assert!(!world.is_steering());
    assert_eq!(world.supervisor.failures().len(), 1);
}
