//! The supervisor beside a world of pretended processes: random events, and what must always hold.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::graph::testing::{Build, pool};
use crate::model::{Dependency, DependencyState, Mode, OnFailure, Pool, RestartPolicy, RestartScope};

/// A process of the pretended world.
#[derive(Debug, Clone, Copy, Default)]
struct Pretended {
    runs: bool,
    exited: bool,
    group_ended: bool,
    outputs_ended: bool,
    killed: bool,
}

/// What the broker would say.
#[derive(Default)]
struct Records {
    answered: u64,
    holds: bool,
}

impl View for Records {
    fn answered(&self, _: usize) -> u64 {
        self.answered
    }
    fn holds_records(&self, _: usize, _: usize) -> bool {
        self.holds
    }
    fn lease_counts(&self, _: usize, _: usize) -> (u64, u64) {
        (self.answered, u64::from(self.holds))
    }
    fn has_closed_output(&self, _: usize) -> bool {
        false
    }
    fn stderr_tail(&self, _: usize, _: usize) -> Vec<String> {
        Vec::new()
    }
}

/// What the launcher makes of the request to start a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Successor {
    Waits,
    Runs,
}

struct World {
    supervisor: Supervisor,
    processes: HashMap<Worker, Pretended>,
    /// By stage and rank.
    successors: HashMap<(usize, usize), Successor>,
    records: Records,
    now: Instant,
    stages: usize,
    widths: Vec<usize>,
    /// Events that late ones of earlier generations are made of.
    gone: Vec<Worker>,
    has_ended: bool,
    is_stopped: bool,
    next_pid: i32,
}

#[derive(Debug, Clone)]
enum Op {
    Started(usize),
    StartFailed(usize, bool),
    Exited(usize, i32),
    GroupEnded(usize),
    OutputsEnded(usize),
    Late(usize),
    Demand(usize, usize),
    SuccessorAsked(usize),
    SuccessorRevoked(usize),
    SuccessorRuns(usize),
    Grow(usize),
    WorkDone(usize),
    Unwanted(usize),
    Retire(usize, bool),
    Fault(usize),
    Fail(usize),
    Answered,
    Hold(bool),
    Pass(u64),
    Stop(Level),
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0usize..64;
    let exit = prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(-9), 1 => Just(-15), 1 => Just(-13)];
    prop_oneof![
        12 => which.clone().prop_map(Op::Started),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, passing)| Op::StartFailed(which, passing)),
        8 => (which.clone(), exit).prop_map(|(which, exit)| Op::Exited(which, exit)),
        8 => which.clone().prop_map(Op::GroupEnded),
        8 => which.clone().prop_map(Op::OutputsEnded),
        2 => which.clone().prop_map(Op::Late),
        4 => (which.clone(), which.clone()).prop_map(|(stage, rank)| Op::Demand(stage, rank)),
        4 => which.clone().prop_map(Op::SuccessorAsked),
        1 => which.clone().prop_map(Op::SuccessorRevoked),
        4 => which.clone().prop_map(Op::SuccessorRuns),
        2 => which.clone().prop_map(Op::Grow),
        1 => which.clone().prop_map(Op::WorkDone),
        1 => which.clone().prop_map(Op::Unwanted),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, replace)| Op::Retire(which, replace)),
        1 => which.clone().prop_map(Op::Fault),
        1 => which.clone().prop_map(Op::Fail),
        1 => Just(Op::Answered),
        1 => any::<bool>().prop_map(Op::Hold),
        4 => (1u64..4000).prop_map(Op::Pass),
        1 => prop_oneof![Just(Level::Drain), Just(Level::Terminate), Just(Level::Kill)].prop_map(Op::Stop),
    ]
}

fn scope() -> impl Strategy<Value = RestartScope> {
    prop_oneof![
        Just(RestartScope::Worker),
        Just(RestartScope::Stage),
        Just(RestartScope::Downstream),
        Just(RestartScope::Pipeline),
    ]
}

fn plan(daemon: bool, always: bool, continues: bool, scope: RestartScope) -> Plan {
    let failure = if continues { OnFailure::Continue } else { OnFailure::Stop };
    Build::new()
        .with("source", |stage| {
            stage.pool = pool(2);
            stage.on_failure = failure;
        })
        .with("filter", |stage| {
            stage.pool = Pool { min: 1, max: 3 };
            stage.on_failure = failure;
            if always {
                stage.restart.policy = RestartPolicy::Always;
            }
            stage.restart.scope = scope;
        })
        .with("map", |stage| {
            stage.mode = Mode::Map;
            stage.pool = pool(2);
            stage.restart.policy = RestartPolicy::OnFailure;
            stage.restart.scope = scope;
        })
        .with("each", |stage| {
            stage.mode = Mode::Each;
            stage.pool = pool(3);
        })
        .with("after", |stage| {
            stage.depends_on =
                vec![Dependency { stage: "source".to_owned(), state: DependencyState::Finished }];
            stage.daemon = daemon;
        })
        .queue("source -> filter")
        .queue("filter -> map")
        .queue("map -> each")
        .accepted()
}

impl World {
    fn new(plan: &Plan) -> Self {
        let mut world = Self {
            supervisor: Supervisor::new(plan, 7),
            processes: HashMap::new(),
            successors: HashMap::new(),
            records: Records::default(),
            now: Instant::now(),
            stages: plan.stages.len(),
            widths: plan.stages.iter().map(|stage| stage.stage.pool.max).collect(),
            gone: Vec::new(),
            has_ended: false,
            is_stopped: false,
            next_pid: 100,
        };
        world.step(Input::Begin);
        world
    }

    fn step(&mut self, input: Input) {
        let actions = self.supervisor.step(input, self.now, &self.records);
        for action in actions {
            assert!(!self.has_ended, "after the end of the run: {action:?}");
            self.act(action);
        }
        assert!(self.supervisor.deadline().is_none_or(|at| at > self.now - Duration::from_secs(3600)));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(worker) => {
                let succeeds = self.successors.remove(&(worker.stage, worker.rank));
                assert_ne!(succeeds, Some(Successor::Waits), "two would be in one slot: {worker:?}");
                assert!(
                    !self.is_stopped || succeeds == Some(Successor::Runs),
                    "nothing is started once the run is ended: {worker:?}"
                );
                let others = self
                    .processes
                    .keys()
                    .filter(|other| (other.stage, other.rank) == (worker.stage, worker.rank));
                assert_eq!(others.count(), 0, "one living generation for each slot");
                self.processes.insert(worker, Pretended::default());
            }
            Action::Signal { worker, signal } => {
                let process =
                    self.processes.get_mut(&worker).expect("a signal goes to a process that is there");
                assert!(process.runs, "a signal goes to one that has started");
                process.killed |= signal == Signal::KILL;
            }
            Action::Ended { worker, .. } => {
                let process = self.processes.remove(&worker).expect("only what has started ends");
                assert!(process.exited && process.group_ended, "it ends when its whole group has");
                self.gone.push(worker);
            }
            Action::LetGo(worker) => {
                let process = self.processes[&worker];
                assert!(process.group_ended && !process.outputs_ended);
            }
            Action::RunEnded => {
                assert!(
                    self.processes.is_empty() && self.successors.is_empty(),
                    "the run ends when no process is left: {:?}",
                    self.processes
                );
                self.has_ended = true;
            }
            Action::CloseInput(_)
            | Action::AbandonInput { .. }
            | Action::CloseSources
            | Action::StageEnded { .. }
            | Action::Wake { .. }
            | Action::Emit(_) => {}
        }
    }

    /// Some process of which `wanted` holds, in a fixed order.
    fn pick(&self, which: usize, wanted: impl Fn(&Pretended) -> bool) -> Option<Worker> {
        let mut workers: Vec<Worker> =
            self.processes.iter().filter(|(_, process)| wanted(process)).map(|(&worker, _)| worker).collect();
        workers.sort_by_key(|worker| (worker.stage, worker.rank, worker.generation));
        (!workers.is_empty()).then(|| workers[which % workers.len()])
    }

    /// Some slot whose successor is in this state, in a fixed order.
    fn successor(&self, which: usize, state: Successor) -> Option<(usize, usize)> {
        let mut slots: Vec<_> =
            self.successors.iter().filter(|&(_, &now)| now == state).map(|(&slot, _)| slot).collect();
        slots.sort_unstable();
        (!slots.is_empty()).then(|| slots[which % slots.len()])
    }

    fn set(&mut self, worker: Worker, change: impl FnOnce(&mut Pretended)) {
        change(self.processes.get_mut(&worker).expect("it was just picked"));
    }

    fn does(&mut self, op: Op) {
        match op {
            Op::Started(which) => {
                if let Some(worker) = self.pick(which, |process| !process.runs) {
                    self.set(worker, |process| process.runs = true);
                    self.next_pid += 1;
                    self.step(Input::Started { worker, pid: self.next_pid });
                }
            }
            Op::StartFailed(which, is_passing) => {
                if let Some(worker) = self.pick(which, |process| !process.runs) {
                    self.processes.remove(&worker);
                    self.step(Input::StartFailed { worker, error: "pretended".to_owned(), is_passing });
                }
            }
            Op::Exited(which, code) => {
                if let Some(worker) = self.pick(which, |process| process.runs && !process.exited) {
                    let code = if self.processes[&worker].killed { -9 } else { code };
                    self.set(worker, |process| process.exited = true);
                    self.step(Input::Exited { worker, exit: Exit::from_code(code), usage: Usage::default() });
                }
            }
            Op::GroupEnded(which) => {
                if let Some(worker) = self.pick(which, |process| process.exited && !process.group_ended) {
                    self.set(worker, |process| process.group_ended = true);
                    self.step(Input::GroupEnded { worker });
                }
            }
            Op::OutputsEnded(which) => {
                if let Some(worker) = self.pick(which, |process| process.runs && !process.outputs_ended) {
                    self.set(worker, |process| process.outputs_ended = true);
                    self.step(Input::OutputsEnded { worker });
                }
            }
            Op::Late(which) => {
                if !self.gone.is_empty() {
                    let worker = self.gone[which % self.gone.len()];
                    self.step(Input::GroupEnded { worker });
                    self.step(Input::OutputsEnded { worker });
                    self.step(Input::Started { worker, pid: 1 });
                }
            }
            Op::Demand(stage, rank) => {
                let stage = stage % self.stages;
                if self.supervisor.stage(stage).config.mode == Mode::Each {
                    self.step(Input::Demand { stage, rank: rank % self.widths[stage] });
                }
            }
            Op::SuccessorAsked(which) => {
                if let Some(worker) = self.pick(which, |process| process.runs && !process.exited)
                    && self.supervisor.stage(worker.stage).config.mode == Mode::Each
                    && !self.successors.contains_key(&(worker.stage, worker.rank))
                {
                    let (stage, rank) = (worker.stage, worker.rank);
                    self.successors.insert((stage, rank), Successor::Waits);
                    self.step(Input::SuccessorAsked { stage, rank });
                }
            }
            Op::SuccessorRevoked(which) => {
                if let Some((stage, rank)) = self.successor(which, Successor::Waits) {
                    self.successors.remove(&(stage, rank));
                    self.step(Input::SuccessorRevoked { stage, rank });
                }
            }
            Op::SuccessorRuns(which) => {
                // The launcher starts it when the group of the one before has ended; the loop tells when its outputs
                // have, too.
                if let Some((stage, rank)) = self.successor(which, Successor::Waits)
                    && self.processes.keys().all(|other| (other.stage, other.rank) != (stage, rank))
                {
                    self.successors.insert((stage, rank), Successor::Runs);
                    self.step(Input::SuccessorRuns { stage, rank });
                    assert!(!self.successors.contains_key(&(stage, rank)), "one that runs is taken in");
                }
            }
            Op::Grow(stage) => self.step(Input::Grow { stage: stage % self.stages }),
            Op::WorkDone(stage) => {
                let stage = stage % self.stages;
                if self.supervisor.stage(stage).config.mode != Mode::Stream {
                    self.step(Input::WorkDone { stage });
                }
            }
            Op::Unwanted(stage) => self.step(Input::Unwanted { stage: stage % self.stages }),
            Op::Retire(which, replace) => {
                if let Some(worker) = self.pick(which, |process| process.runs) {
                    let asked = if replace { Asked::Replace } else { Asked::Retire };
                    self.step(Input::Retire { worker, asked });
                }
            }
            Op::Fault(which) => {
                if let Some(worker) = self.pick(which, |process| process.runs) {
                    self.step(Input::Fault { worker, reason: "pretended".to_owned() });
                }
            }
            Op::Fail(stage) => {
                let stage = stage % self.stages;
                let reason = "pretended".to_owned();
                self.step(Input::Fail { stage, rank: None, exit: None, reason, stderr: Vec::new() });
            }
            Op::Answered => self.records.answered += 1,
            Op::Hold(holds) => self.records.holds = holds,
            Op::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                self.step(Input::Tick);
            }
            Op::Stop(level) => {
                self.is_stopped |= level >= Level::Terminate;
                self.step(Input::Stop(level));
            }
        }
    }

    /// Stops the run: whatever its state was, it ends, by events and deadlines alone.
    fn finish(mut self) {
        self.does(Op::Stop(Level::Terminate));
        for turn in 0..10_000 {
            if self.has_ended {
                return;
            }
            self.does(Op::Started(0));
            // Some successors are revoked in time, others have been started.
            self.does(if turn % 3 == 0 { Op::SuccessorRevoked(0) } else { Op::SuccessorRuns(0) });
            // Nobody ends by the polite signal: all must be killed.
            if let Some(worker) = self.pick(0, |process| process.killed && !process.exited) {
                self.set(worker, |process| process.exited = true);
                self.step(Input::Exited { worker, exit: Exit::from_code(-9), usage: Usage::default() });
            }
            self.does(Op::GroupEnded(0));
            // Half of the outputs are held by somebody else and must be let go.
            if turn % 2 == 0 {
                self.does(Op::OutputsEnded(0));
            }
            if self.supervisor.deadline().is_some() {
                self.does(Op::Pass(400));
            }
        }
        panic!("the run does not end: {:?}", self.processes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn whatever_happens_one_process_has_a_slot_and_a_stopped_run_ends(
        daemon: bool,
        always: bool,
        continues: bool,
        scope in scope(),
        ops in proptest::collection::vec(op(), 0..400),
    ) {
        let mut world = World::new(&plan(daemon, always, continues, scope));
        for op in ops {
            world.does(op);
        }
        world.finish();
    }
}

/// Starts everything that was asked for.
fn start_all(world: &mut World) {
    while world.pick(0, |process| !process.runs).is_some() {
        world.does(Op::Started(0));
    }
}

fn end(world: &mut World, stage: usize, code: i32) {
    let is_of = |process: &&Worker| process.stage == stage;
    while let Some(worker) = world
        .processes
        .iter()
        .filter(|(_, process)| process.runs)
        .map(|(worker, _)| worker)
        .filter(is_of)
        .min_by_key(|worker| worker.rank)
        .copied()
    {
        world.set(worker, |process| {
            *process = Pretended { runs: true, exited: true, group_ended: true, ..*process }
        });
        world.step(Input::Exited { worker, exit: Exit::from_code(code), usage: Usage::default() });
        world.step(Input::GroupEnded { worker });
        if let Some(process) = world.processes.get_mut(&worker) {
            process.outputs_ended = true;
        }
        world.step(Input::OutputsEnded { worker });
        if code != 0 {
            return;
        }
    }
}

#[test]
fn a_stage_that_depends_on_one_that_failed_fails_and_names_it() {
    let mut world = World::new(&plan(false, false, true, RestartScope::Worker));
    start_all(&mut world);
    end(&mut world, 0, 3);
    let reasons: Vec<&str> =
        world.supervisor.failures().iter().map(|failure| failure.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["worker `source/0` exited with 3", "the stage `source` that it depends on has failed"]
    );
}

#[test]
fn a_process_that_is_stopped_while_it_starts_is_asked_as_soon_as_it_runs() {
    let mut world = World::new(&plan(false, false, false, RestartScope::Worker));
    world.does(Op::Stop(Level::Terminate));
    assert!(world.processes.values().all(|process| !process.runs), "none had started");
    start_all(&mut world);
    assert!(world.supervisor.deadline().is_some(), "the kill is due");
    world.finish();
}

#[test]
fn a_run_ends_when_all_but_its_daemons_have() {
    let plan = Build::new().stage("job").with("side", |stage| stage.daemon = true).accepted();
    let mut world = World::new(&plan);
    start_all(&mut world);
    end(&mut world, 0, 0);
    assert!(!world.has_ended, "the daemon is there");
    assert!(world.supervisor.stages[1].slots[0].asked().is_some(), "it was asked to end");
    end(&mut world, 1, -15);
    assert!(world.has_ended);
    assert!(world.supervisor.failures().is_empty(), "an end that was asked for is no failure");
}
